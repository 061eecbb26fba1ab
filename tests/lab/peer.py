"""The routers of the lab: their names, addresses, AS numbers and what is special about each."""
import os
import subprocess
import sys
from dataclasses import dataclass

# Who asks for a session: the speaker under test.
OUR_ADDRESS, OUR_AS, OUR_LISTEN = "127.0.0.1", 65001, ("127.0.0.2", 1799)
PASSWORD = "s3cret"


class Failed(Exception):
    """A router cannot be started or asked; the text says why."""


@dataclass(frozen=True)
class Peer:
    """One router: 127.0.0.`host`, AS 65000 + `host`."""
    name: str
    kind: str
    host: int
    port: int
    api: int = 0             # GoBGP's command port
    md5: bool = False        # with PASSWORD
    ttl: bool = False        # takes packets with TTL 255 alone (RFC 5082)
    active: bool = False     # connects to OUR_LISTEN; all others wait for us
    announces: bool = False  # announces rules of its own
    folder: str = ""

    @property
    def address(self):
        return f"127.0.0.{self.host}"

    @property
    def asn(self):
        return 65000 + self.host

    @property
    def identifier(self):
        return f"10.255.0.{self.host}"

    def file(self, name):
        return os.path.join(self.folder, name)


PEERS = {peer.name: peer for peer in [
    Peer("gobgp", "gobgp", 10, 1790, api=50151),
    Peer("bird", "bird", 11, 1791),
    Peer("exabgp", "exabgp", 12, 1792),
    Peer("frr", "frr", 13, 1793),
    Peer("openbgpd", "openbgpd", 14, 1794),
    Peer("gobgp-md5", "gobgp", 20, 1790, api=50152, md5=True),
    Peer("bird-md5", "bird", 21, 1791, md5=True),
    Peer("bird-ttl", "bird", 22, 1791, ttl=True),
    Peer("bird-active", "bird", 23, 1791, active=True),
    Peer("gobgp-announcer", "gobgp", 24, 1790, api=50153, announces=True),
    Peer("bird-announcer", "bird", 25, 1791, announces=True),
    Peer("exabgp-announcer", "exabgp", 26, 1792, announces=True),
]}


def ask(*words):
    """What a router's own command says."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except FileNotFoundError:
        raise Failed(f"{words[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{words[0]} did not answer within 20 s") from None
    if done.returncode:
        raise Failed(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()[:300]}")
    return done.stdout


def complain(message):
    print(f"lab: {message}", file=sys.stderr)
