"""GoBGP: configured by TOML, asked by its command line as JSON."""
import base64
import ipaddress
import json
import struct

import rule
from peer import OUR_ADDRESS, OUR_AS, PASSWORD, Failed, ask

PROGRAMS = {"gobgpd": "gobgpd", "gobgp": "gobgpd"}
STATES = ["unknown", "idle", "connect", "active", "opensent", "openconfirm", "established"]


def files(peer):
    password = f'auth-password = "{PASSWORD}"' if peer.md5 else ""
    families = "".join(f'[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = "{name}"\n'
                       for name in ("ipv4-unicast", "ipv6-unicast", "ipv4-flowspec", "ipv6-flowspec"))
    return {"gobgpd.toml": f"""
[global.config]
as = {peer.asn}
router-id = "{peer.identifier}"
port = {peer.port}
local-address-list = ["{peer.address}"]

[[neighbors]]
[neighbors.config]
neighbor-address = "{OUR_ADDRESS}"
peer-as = {OUR_AS}
{password}
[neighbors.transport.config]
passive-mode = true
local-address = "{peer.address}"
[neighbors.timers.config]
idle-hold-time-after-reset = 1
[neighbors.ebgp-multihop.config]
enabled = true
multihop-ttl = 10
{families}"""}


def command(peer):
    return ["gobgpd", "-f", peer.file("gobgpd.toml"), "--api-hosts", f"127.0.0.1:{peer.api}", "--log-level", "info", "--pprof-disable"]


def gobgp(peer, *words):
    return ask("gobgp", "-u", "127.0.0.1", "-p", str(peer.api), *words)


def is_ready(peer):
    # Idle right after its start, it closes what connects.
    return STATES.index(session(peer)) >= STATES.index("active")


def session(peer):
    neighbours = json.loads(gobgp(peer, "-j", "neighbor"))
    state = neighbours[0].get("state", {}).get("session_state", 0) if neighbours else 1
    return STATES[state]


def routes(peer, family):
    said = gobgp(peer, "-j", "global", "rib", "-a", family)
    try:
        table = json.loads(said or "{}") or {}
    except ValueError:
        raise Failed(f"gobgp shows {family} without JSON: {said[:200]}") from None
    return [route(family, key, path) for key, paths in table.items() for path in paths]


def route(family, key, path):
    held = attributes(path)
    if not path.get("nlri"):
        return held.route(family, {"unparsed": key})
    if not family.endswith("flowspec"):
        return held.route(family, rule.prefix(path["nlri"]["prefix"]))
    components = {}
    for part in path["nlri"].get("value") or []:
        name, value = rule.COMPONENTS.get(part["type"], f"type-{part['type']}"), part["value"]
        if part["type"] <= 2:
            components[name] = rule.prefix(value["prefix"], offset=part.get("offset", 0))
        else:
            components[name] = rule.component(name, [(item.get("op", 0), item.get("value", 0)) for item in value])
    return held.route(family, components)


def attributes(path):
    held = {"local": path.get("neighbor-ip") in (None, "", "<nil>", "invalid IP")}
    for attribute in path.get("attrs") or []:
        kind, value = attribute["type"], attribute.get("value")
        if kind in (3, 14):
            held["next_hop"] = attribute.get("nexthop")
        elif kind == 8:
            held["communities"] = [f"{c >> 16}:{c & 0xFFFF}" for c in attribute["communities"]]
        elif kind == 16:
            held["extended"] = [extended(community) for community in value]
        elif kind == 25:
            held["extended_ipv6"] = [extended_ipv6(community) for community in value]
        elif kind == 32:
            held["large"] = [f"{c['ASN']}:{c['LocalData1']}:{c['LocalData2']}" for c in value]
    return rule.Held(**held)


def extended(community):
    """The eight octets of a community that GoBGP prints in a form of its own for each type."""
    kind = (community.get("type", 0), community.get("subtype", 0))
    head, value = bytes(kind), community.get("value")
    if kind == (0x80, 6):
        return head + struct.pack(">Hf", community.get("as", 0), community.get("rate", 0))
    if kind == (0x80, 7):
        return head + bytes(5) + bytes([2 * bool(community.get("sample")) + bool(community.get("terminal"))])
    if isinstance(value, int) or value is None:
        return head + int(value or 0).to_bytes(6, "big")
    if ":" not in value:  # everything behind the type, in base64
        return (bytes([kind[0]]) + base64.b64decode(value)).ljust(8, b"\0")[:8]
    administrator, number = value.rsplit(":", 1)
    if kind[0] & 63 == 1:
        return head + ipaddress.ip_address(administrator).packed + struct.pack(">H", int(number))
    if kind[0] & 63 == 2:  # an AS number of four octets, written with a dot
        high, low = administrator.split(".") if "." in administrator else divmod(int(administrator), 65536)
        return head + struct.pack(">HHH", int(high), int(low), int(number))
    return head + struct.pack(">HI", int(administrator), int(number))


def extended_ipv6(community):
    address, number = str(community["value"]).rsplit(":", 1)
    head = bytes([community.get("type", 0), community.get("subtype", 0)])
    return head + ipaddress.ip_address(address).packed + struct.pack(">H", int(number))
