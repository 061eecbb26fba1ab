#!/usr/bin/env python3
"""Messages that tests compare with, in messages/.

    golden.py write       golden.json and malformed.json, from the tables here and in malformed.py
    golden.py record      peers.json: what real routers send, and what they hold of golden.json (root; runs the lab in its own namespace)

Every announcement is one that the product makes as well, octet for octet, in a session of AS 65001 with another AS (and with its own,
with LOCAL_PREF 100) in which AS numbers have four octets.
"""
import ipaddress
import json
import os
import struct
import sys

import malformed
import rule
import wire

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "messages")
ASN = 65001


def ports(first, last):
    return " ".join(f"={port}" for port in range(first, last + 1))


def to(host, **more):
    return {"destination": f"192.0.2.{host}/32", "protocol": "=17"} | {name.replace("_", "-"): text for name, text in more.items()}


# Number, name, what the rule tests, extended communities, and what else is special. `all(syn)` has the match bit, `syn` has not.
RULES = [
    ("01", "udp-from-one-source", to(1, source="198.51.100.7/32", destination_port=">=1024&<=65535", source_port="=53 =123",
                                     packet_length=">=1200&<=1500", fragment="!is-fragment"), [wire.DISCARD], {}),
    ("02", "tcp-syn-without-ack", to(2, source="198.51.100.0/24", protocol="=6", port="=80 =443", tcp_flags="all(syn)&!all(ack)"),
     [wire.rate(125000, ASN)], {}),
    ("03", "packet-rate", to(3), [wire.packet_rate(1000, ASN)], {}),
    ("04", "redirect-as-of-two-octets", to(4), [struct.pack(">BBHI", 0x80, 8, ASN, 100)], {}),
    ("05", "mark", {"destination": "192.0.2.5/32", "dscp": "=0"}, [bytes([0x80, 9, 0, 0, 0, 0, 0, 46])], {}),
    ("06", "icmp-rate-and-action", to(6, protocol="=1", icmp_type="=8", icmp_code="=0"),
     [wire.rate(1000), bytes([0x80, 7, 0, 0, 0, 0, 0, 3])], {"rate_asn": 0}),
    ("07", "redirect-to-ip", to(7), [bytes([1, 12]) + ipaddress.ip_address("203.0.113.9").packed + bytes(2)], {}),
    ("08", "redirect-to-nexthop", to(8), [bytes([8, 0]) + bytes(6)], {"next_hop": "203.0.113.8"}),
    ("09", "redirect-address", to(9), [bytes([0x81, 8]) + ipaddress.ip_address("203.0.113.1").packed + struct.pack(">H", 100)], {}),
    ("10", "redirect-as-of-four-octets", to(10), [struct.pack(">BBIH", 0x82, 8, 4200000001, 100)], {}),
    ("11", "fragments", {"destination": "192.0.2.11/32", "fragment": "any(is-fragment+first-fragment+last-fragment)"}, [wire.DISCARD], {}),
    ("12", "communities", to(12, source_port="=11211"), [wire.DISCARD], {"communities": ["65535:65281"], "large": ["65001:1:2"]}),
    ("13", "longer-than-239-octets", to(13, source_port=ports(1000, 1089)), [wire.DISCARD], {}),
    ("20", "ipv6-fragment-and-label", {"destination": "2001:db8::1/128", "source": "2001:db8:1::/48", "protocol": "=17", "destination-port": "=53",
                                       "fragment": "all(is-fragment)", "flow-label": "=74565"}, [wire.DISCARD], {}),
    ("21", "ipv6-offset", {"destination": "2001:db8::2/128", "source": "::1234:5678:9a00:0/104 offset 64", "protocol": "=6"}, [wire.DISCARD], {}),
    ("22", "ipv6-redirect-to-ip", {"destination": "2001:db8::3/128", "protocol": "=17"}, [],
     {"ipv6": [bytes([0, 12]) + ipaddress.ip_address("2001:db8:ffff::1").packed + bytes(2)]}),
]
BLACKHOLES = [("30", "blackhole-ipv4", "192.0.2.66/32", "192.0.2.254"), ("31", "blackhole-ipv6", "2001:db8::66/128", "2001:db8::fe")]
BLACKHOLE = {"communities": ["65535:666", "65535:65281"], "large": ["65001:666:0"]}
# RFC 8955 section 4.3 and RFC 8956 section 3.8 print these octets.
EXAMPLES = [
    ("RFC 8955 4.3.1", 1, "0b0118c00002038106048119", {"destination": "192.0.2.0/24", "protocol": "=6", "port": "=25"}),
    ("RFC 8955 4.3.2", 1, "120118c000020218cb0071040389458b911f90",
     {"destination": "192.0.2.0/24", "source": "203.0.113.0/24", "port": ">=137&<=139 =8080"}),
    ("RFC 8955 4.3.3", 1, "090120c00002010c8005", {"destination": "192.0.2.1/32", "fragment": "any(dont-fragment+first-fragment)"}),
    ("RFC 8956 3.8.1", 2, "1201200020010db8026840123456789a038106",
     {"destination": "2001:db8::/32", "source": "::1234:5678:9a00:0/104 offset 64", "protocol": "=6"}),
    ("RFC 8956 3.8.2", 2, "0f01200020010db80268412468acf134", {"destination": "2001:db8::/32", "source": "::1234:5678:9a00:0/104 offset 65"}),
]


def announcement(family, nlri, special, own=False, actions=()):
    """Attributes stand in the order of their types."""
    hop = special.get("next_hop")
    packed = ipaddress.ip_address(hop).packed if hop else b""
    plain = family == "ipv4"
    parts = [wire.origin(), wire.as_path() if own else wire.as_path(ASN), wire.next_hop(hop) if plain else b"", wire.local_pref(100) if own else b""]
    for kind, name in ((wire.communities, "communities"), (lambda: b"" if plain else wire.reach(family, nlri, packed), None),
                       (lambda: wire.extended(*actions) if actions else b"", None), (wire.extended_ipv6, "ipv6"), (wire.large_communities, "large")):
        parts.append(kind() if name is None else kind(*special[name]) if special.get(name) else b"")
    return wire.update(*parts, nlri=nlri if plain else b"").hex()


def vector(number, name, family, nlri, shown, special, actions=()):
    withdrawal = wire.update(withdrawn=nlri) if family == "ipv4" else wire.update(wire.unreach(family, nlri))
    return {"id": number, "name": name, "family": family, "rate_asn": special.get("rate_asn", ASN),
            "announce_hex": announcement(family, nlri, special, actions=actions),
            "announce_ibgp_hex": announcement(family, nlri, special, own=True, actions=actions),
            "withdraw_hex": withdrawal.hex(), "routes": [shown]}


def vectors():
    found = []
    for number, name, described, actions, special in RULES:
        version = 6 if ":" in described["destination"] else 4
        family = f"ipv{version}-flowspec"
        canonical = {part: text if part in ("destination", "source") else rule.component(part, read(part, text)) for part, text in described.items()}
        held = rule.Held(extended=actions, extended_ipv6=special.get("ipv6", []), communities=special.get("communities", []),
                         large=special.get("large", []), next_hop=special.get("next_hop"))
        found.append(vector(number, name, family, wire.flowspec(described, version), held.route(family, canonical), special, actions))
    for number, name, prefix, hop in BLACKHOLES:
        family = "ipv6" if ":" in prefix else "ipv4"
        held = rule.Held(communities=BLACKHOLE["communities"], large=BLACKHOLE["large"], next_hop=hop)
        found.append(vector(number, name, family, wire.unicast(prefix), held.route(family, prefix), BLACKHOLE | {"next_hop": hop}))
    return found


def read(part, text):
    return rule.read_bits(rule.BITS[part], text) if part in rule.BITS else rule.read_numbers(text)


def messages():
    """Messages of all other kinds, to start mutations from."""
    families = list(wire.FAMILIES.items())
    more = wire.capability(6) + wire.capability(70) + wire.capability(64, bytes.fromhex("40780001010000018500"))
    refresh = lambda family, subtype=0: wire.message(wire.REFRESH, struct.pack(">HBB", family[0], subtype, family[1]))
    found = {"open": wire.open_message(), "open with more capabilities": wire.open_message(more=more), "keepalive": wire.message(wire.KEEPALIVE)}
    found |= {f"end of {name}": wire.update() if name == "ipv4" else wire.update(wire.unreach(name, b"")) for name, _ in families}
    found |= {f"refresh of {name}": refresh(family) for name, family in families}
    found |= {"begin of a refresh": refresh((1, 133), 1), "end of a refresh": refresh((1, 133), 2)}
    found |= {"hold timer": wire.notification(4, 0), "shutdown": wire.notification(6, 2, b"\x0bmaintenance"), "shutdown without a word": wire.notification(6, 2),
              "reset": wire.notification(6, 4, b"\x07bis sp\xc3\xa4ter"[:8]), "wrong AS": wire.notification(2, 2), "collision": wire.notification(6, 7),
              "capability": wire.notification(2, 7, wire.capability(1, bytes([0, 1, 0, 133]))), "cease, too many prefixes": wire.notification(6, 1, bytes([0, 1, 133, 0, 0, 3, 232]))}
    return [{"name": name, "hex": octets.hex()} for name, octets in found.items()]


def write(name, held):
    with open(os.path.join(FOLDER, name), "w") as file:
        json.dump(held, file, indent=1)
        file.write("\n")


def main():
    if sys.argv[1:] == ["write"]:
        examples = [{"reference": reference, "afi": afi, "nlri_hex": octets, "components": described} for reference, afi, octets, described in EXAMPLES]
        write("golden.json", {"vectors": vectors(), "messages": messages(), "rfc_examples": examples})
        write("malformed.json", {"messages": malformed.cases()})
    elif sys.argv[1:] == ["record"]:
        import record
        record.main()
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
