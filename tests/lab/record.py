"""What real routers send and hold, kept as messages/peers.json. Runs itself again in a network namespace of its own."""
import json
import os
import subprocess
import sys
import tempfile
import time

import golden
import wire
from peer import PEERS, Failed, ask
from speaker import Speaker

INSIDE = "FLOODWALL_RECORD_INSIDE"
HERE = os.path.dirname(os.path.abspath(__file__))
DEFAULT = ["gobgp", "bird", "exabgp", "frr", "openbgpd"]
ANNOUNCERS = ["gobgp-announcer", "bird-announcer", "exabgp-announcer"]
# ExaBGP has no table to ask: destinations of routers/exabgp.py and how many components each rule has.
EXABGP = [["198.18.0.1/32", 5], ["198.18.0.2/32", 4], ["198.18.0.3/32", 2], ["2001:db8:18::1/128", 2]]
# What GoBGP announces is told to it at run time.
GOBGP = [
    ("ipv4-flowspec", "match destination 198.18.0.1/32 protocol ==udp source-port ==53 packet-length >=1200&<=1500 fragment is-fragment then discard"),
    ("ipv4-flowspec", "match destination 198.18.0.2/32 protocol ==tcp destination-port ==80 ==443 tcp-flags =S&!=A then rate-limit 125000 as 65024"),
    ("ipv4-flowspec", "match destination 198.18.0.3/32 source 203.0.113.0/24 port >1023&<2000 dscp ==46 then redirect 65024:100"),
    ("ipv4-flowspec", "match destination 198.18.0.4/32 protocol ==icmp icmp-type ==8 icmp-code ==0 then mark 10"),
    ("ipv6-flowspec", "match destination 2001:db8:18::1/128 source 2001:db8:19::/48 protocol ==udp destination-port ==53 label ==5 then discard"),
    ("ipv4", "198.18.0.66/32 nexthop 192.0.2.254 community 65535:666"),
    ("ipv6", "2001:db8:18::66/128 nexthop 2001:db8::fe community 65535:666"),
]


def lab(folder, *words):
    done = subprocess.run([os.path.join(HERE, "lab.py"), "-d", folder, *words], capture_output=True, text=True)
    if done.returncode:
        raise Failed(done.stderr.strip())
    return done.stdout


def announcements(folder):
    """For each announcer: the UPDATEs it sends, and of the rules in its own table the destination and the number of components."""
    found = {}
    lab(folder, "up", *ANNOUNCERS)
    for family, words in GOBGP:
        ask("gobgp", "-u", "127.0.0.1", "-p", str(PEERS["gobgp-announcer"].api), "global", "rib", "-a", family, "add", *words.split())
    for name in ANNOUNCERS:
        speaker = Speaker(PEERS[name])
        speaker.receive(6)
        own = [route["components"] for route in json.loads(lab(folder, "show", name, "--local", "--json"))]
        rules = sorted([components["destination"], len(components)] for components in own if "destination" in components)
        found[name] = {"updates": [message.hex() for message in speaker.of(wire.UPDATE)], "rules": rules or EXABGP}
        speaker.close()
    lab(folder, "down", *ANNOUNCERS)
    return found


def taken(folder, name, vectors):
    """For each golden announcement, sent in a session of its own: whether the peer holds it, and what it shows otherwise than sent."""
    found, opened = {}, None
    for vector in vectors:
        # A peer starts anew: some wait for half a minute after a message that they refuse.
        lab(folder, "up", name)
        speaker = Speaker(PEERS[name])
        opened = speaker.of(wire.OPEN)[0]
        speaker.send(bytes.fromhex(vector["announce_hex"]))
        held = wait(folder, name, speaker)
        speaker.close()
        lab(folder, "down", name)
        wanted = vector["routes"][0]
        same = [route for route in held if route["components"] == wanted["components"] or route.get("truncated")]
        record = {"accepted": bool(same)}
        differs = {field: route[field] for route in same[:1] for field in ("actions", "communities", "large_communities", "next_hop") if route[field] != wanted[field]}
        found[vector["id"]] = record | ({"shown_differently": differs} if differs else {})
    return found, opened


def wait(folder, name, speaker):
    """What the peer holds as soon as it holds something, nothing after two seconds."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        speaker.receive(0.2)
        try:
            if held := json.loads(lab(folder, "show", name, "--json")):
                return held
        except Failed:
            return []  # it holds what its own command cannot print
    return []


def version(name):
    package = {"gobgp": "gobgpd", "bird": "bird2"}.get(name, name)
    return subprocess.run(["dpkg-query", "-W", "-f=${Version}", package], capture_output=True, text=True).stdout


def record():
    with open(os.path.join(golden.FOLDER, "golden.json")) as file:
        vectors = json.load(file)["vectors"]
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        try:
            holds, opens = {}, {}
            for name in DEFAULT:
                fit = [v for v in vectors if name != "openbgpd" or not v["family"].endswith("flowspec")]
                holds[name], opened = taken(folder, name, fit)
                opens[name] = opened.hex()
                print(name, holds[name])
            golden.write("peers.json", {"versions": {name: version(name) for name in DEFAULT}, "opens": opens, "announcers": announcements(folder),
                                        "holds": holds})
        finally:
            lab(folder, "down")


def main():
    if os.environ.get(INSIDE):
        return record()
    namespace = f"fwrecord{os.getpid()}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], check=True)
        words = ["ip", "netns", "exec", namespace, sys.executable, os.path.join(HERE, "golden.py"), "record"]
        subprocess.run(words, check=True, env=os.environ | {INSIDE: "1"})
    finally:
        subprocess.run(["ip", "netns", "del", namespace])
