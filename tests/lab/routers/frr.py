"""FRR's bgpd without zebra. It shows rules as text and leaves some of it out: the AND of number lists (only `>=a , <=b` is read as a
range), communities of rules, the end of long route targets (shown with `*`), the bits of the traffic action (`action ?`)."""
import json
import os
import re

import rule
from peer import OUR_ADDRESS, OUR_AS, ask

BGPD = "/usr/lib/frr/bgpd"
PROGRAMS = {BGPD: "frr", "vtysh": "frr"}
WORDS = {"Destination Address": "destination", "Source Address": "source", "IP Protocol": "protocol", "Next Header": "protocol",
         "Port": "port", "Destination Port": "destination-port", "Source Port": "source-port", "ICMP Type": "icmp-type",
         "ICMP Code": "icmp-code", "TCP Flags": "tcp-flags", "Packet Length": "packet-length", "DSCP field": "dscp",
         "Packet Fragment": "fragment", "Packet Flow Label": "flow-label", "Flow Label": "flow-label"}
SHOWN_OF_TARGET = 12  # characters


def files(peer):
    families = "".join(f" address-family {name}\n  neighbor {OUR_ADDRESS} activate\n exit-address-family\n"
                       for name in ("ipv4 unicast", "ipv6 unicast", "ipv4 flowspec", "ipv6 flowspec"))
    return {"vty/.keep": "", "frr.conf": f"""frr defaults traditional
hostname lab
log file {peer.file('bgpd.log')}
router bgp {peer.asn}
 bgp router-id {peer.identifier}
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor {OUR_ADDRESS} remote-as {OUR_AS}
 neighbor {OUR_ADDRESS} passive
 neighbor {OUR_ADDRESS} ebgp-multihop 5
 neighbor {OUR_ADDRESS} disable-connected-check
{families}"""}


def command(peer):
    return [BGPD, "-f", peer.file("frr.conf"), "-p", str(peer.port), "-l", peer.address, "-Z", "-P", "0", "--vty_socket", peer.file("vty"),
            "-i", peer.file("frr.pid"), "-S"]


def vtysh(peer, words):
    return ask("vtysh", "--vty_socket", peer.file("vty"), "-c", words)


def is_ready(peer):
    return os.path.exists(peer.file("vty/bgpd.vty")) and bool(vtysh(peer, "show bgp summary"))


def session(peer):
    neighbours = json.loads(vtysh(peer, "show bgp neighbors json") or "{}").values()
    return next((n["bgpState"].lower() for n in neighbours if isinstance(n, dict) and "bgpState" in n), "idle")


def routes(peer, family):
    if family.endswith("flowspec"):
        said = vtysh(peer, f"show bgp {family.split('-')[0]} flowspec detail")
        return [entry(family, block.splitlines()[1:]) for block in said.split("BGP flowspec entry:")[1:]]
    found = []
    table = json.loads(vtysh(peer, f"show bgp {family} unicast json") or "{}")
    for prefix in table.get("routes", {}):
        shown = json.loads(vtysh(peer, f"show bgp {family} unicast {prefix} json"))
        for path in shown.get("paths", []):
            held = rule.Held(communities=path.get("community", {}).get("list", []), large=path.get("largeCommunity", {}).get("list", []),
                             next_hop=next((hop["ip"] for hop in path.get("nexthops", [])), None), actions=[],
                             local=path.get("peer", {}).get("peerId") in (None, "(unspec)"))
            found.append(held.route(family, rule.prefix(prefix)))
    return found


def entry(family, lines):
    components, asked, next_hop = {}, [], None
    for line in map(str.strip, lines):
        words = max((words for words in WORDS if line.startswith(words + " ")), key=len, default=None)
        if words:
            name, value = WORDS[words], line[len(words):].strip()
            if name in ("destination", "source"):
                address, _, offset = value.partition("/off ")
                components[name] = rule.prefix(address, offset=offset or 0)
            else:
                components[name] = rule.component(name, masks(value) if name in rule.BITS else terms(value))
        elif line.startswith("NLRI NH "):
            next_hop = line.split()[2]
        else:
            asked += actions(line)
    return rule.Held(communities=None, large=None, next_hop=next_hop, actions=asked).route(family, components)


def terms(value):
    pairs, floor = [], False
    for word, number in re.findall(r"([<>=!]+)\s*(\d+)", value):
        comparison = ("<" in word) * 4 + (">" in word) * 2 + ("=" in word)
        is_ceiling = comparison in (4, 5)
        pairs.append(((rule.AND if floor and is_ceiling else 0) | comparison, int(number)))
        floor = comparison in (2, 3)
    return pairs


def masks(value):
    pairs = []
    for join, match, no, mask in re.findall(r"(,[&|]?)?\s*([=∋])?\s*(!)?\s*(\d+)", value):
        pairs.append(((rule.AND if "&" in join else 0) | (rule.NOT if no else 0) | (rule.MATCH if match == "=" else 0), int(mask)))
    return pairs


def actions(line):
    found = []
    for kind, rest in re.findall(r"(FS:rate|FS:redirect VRF RT:|FS:redirect IP|FS:marking|FS:action|NH:|UNK:)\s*(\d+, \d+|\S*)", line):
        if kind == "FS:rate":
            found.append("discard" if float(rest) == 0 else f"rate-bytes {rule.amount(float(rest))}")
        elif kind == "FS:redirect VRF RT:":
            found.append(f"redirect {rest}" + ("*" if len(rest) >= SHOWN_OF_TARGET else ""))
        elif kind == "FS:redirect IP":
            found.append("copy-to-nexthop" if rest == "0x1" else "redirect-to-nexthop")
        elif kind == "FS:marking":
            found.append(f"mark {rest}")
        elif kind == "FS:action":
            found.append("action ?")
        elif kind == "UNK:":
            found.append("unknown 0x{:02x}{:02x}".format(*map(int, rest.split(","))))
        else:
            address, flag = rest.rsplit(":", 1)
            found.append(f"{'copy' if flag == '1' else 'redirect'}-to-ip {address}")
    return found
