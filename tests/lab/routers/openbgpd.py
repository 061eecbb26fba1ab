"""OpenBGPD: unicast alone (it has no FlowSpec in the version that Debian has), so it holds blackholes. Needs root."""
import json
import os

import rule
from peer import OUR_ADDRESS, OUR_AS, ask

# FRR's daemon has the same name; Debian puts this one here.
BGPD = "/usr/sbin/bgpd"
PROGRAMS = {BGPD: "openbgpd", "bgpctl": "openbgpd"}


def files(peer):
    return {"bgpd.conf": f"""AS {peer.asn}
router-id {peer.identifier}
listen on {peer.address} port {peer.port}
socket "{peer.file('bgpd.sock')}"
fib-update no
neighbor {OUR_ADDRESS} {{
  remote-as {OUR_AS}
  descr "lab"
  multihop 2
  passive
  announce IPv4 unicast
  announce IPv6 unicast
  enforce neighbor-as yes
}}
allow from any
allow to any
"""}


def command(peer):
    # It shuts itself into the home of its user, which only its service makes.
    os.makedirs("/run/openbgpd", exist_ok=True)
    os.chmod(peer.file("bgpd.conf"), 0o600)
    return [BGPD, "-d", "-v", "-f", peer.file("bgpd.conf")]


def bgpctl(peer, *words):
    return json.loads(ask("bgpctl", "-j", "-s", peer.file("bgpd.sock"), "show", *words) or "{}")


def is_ready(peer):
    return os.path.exists(peer.file("bgpd.sock")) and bool(session(peer))


def session(peer):
    return next((neighbour["state"].lower() for neighbour in bgpctl(peer, "neighbor").get("neighbors", [])), "idle")


def routes(peer, family):
    found = []
    for entry in bgpctl(peer, "rib", "detail").get("rib", []) if family in ("ipv4", "ipv6") else []:
        held = rule.Held(communities=entry.get("communities", []), large=entry.get("large_communities", []),
                         next_hop=entry.get("exit_nexthop"), actions=[], local=not entry.get("neighbor", {}).get("remote_addr"))
        if (":" in entry["prefix"]) == (family == "ipv6"):
            found.append(held.route(family, rule.prefix(entry["prefix"])))
    return found
