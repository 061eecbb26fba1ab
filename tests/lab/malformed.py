"""Messages that are wrong, or odd, and what the RFCs want done with them. The sender is AS 65001, the receiver another AS; all four
families are agreed on, AS numbers have four octets.

A case: name, phase (`open`: sent in place of the OPEN; `established`: after the first KEEPALIVE), octets, what is wanted, the RFC.
`also` is what conforms as well; `rules` is how many rules of the message are held afterwards; `before` is a well-formed message with
the same route that comes first, so that one sees it withdrawn.

What may be wanted: reset (with the NOTIFICATION), treat-as-withdraw (RFC 7606), drop-rule (this NLRI alone; the next begins where its
length says), ignore, accept; and by name what accept means: accept-masked (bits behind the prefix length cleared), accept-first (of two
attributes), accept-unless-own-as.
"""
import struct

import wire

HOST = "192.0.2.1/32"
RULE = wire.flowspec({"destination": HOST, "protocol": "=17"})
PATH = (wire.origin(), wire.as_path(65001))
REACH, DISCARD = wire.reach("ipv4-flowspec", RULE), wire.extended(wire.DISCARD)
GOOD = wire.update(*PATH, REACH, DISCARD)
DESTINATION = bytes.fromhex("0120c0000201")
UDP = bytes.fromhex("038111")
HOLE = wire.unicast("192.0.2.66/32")
AGE, HOLE_COMMUNITY = wire.next_hop("192.0.2.254"), wire.communities("65535:666")


def case(name, octets, handling, reference, phase="established", notification=None, also=(), rules=None, before=None):
    found = {"id": name, "name": name, "phase": phase, "hex": octets.hex(), "reference": reference,
             "expected": {"handling": handling, "also_acceptable": list(also), "notification": notification, "rules_installed": rules}}
    return found | ({"precede_hex": before.hex()} if before else {})


def rules(*octets, family="ipv4-flowspec", actions=DISCARD):
    """An UPDATE with these rules, each with its length."""
    return wire.update(*PATH, wire.reach(family, b"".join(map(wire.with_length, octets))), actions)


def headers():
    marker = b"\xff" * 15 + b"\0"
    return [
        case("marker that is not all ones", marker + wire.message(4)[16:], "session-reset", "RFC 4271 6.1", notification=[1, 1]),
        case("length 18", wire.message(4, length=18), "session-reset", "RFC 4271 6.1", notification=[1, 2]),
        case("length 4097", wire.message(2, length=4097), "session-reset", "RFC 4271 6.1", notification=[1, 2]),
        case("type 9", wire.message(9), "session-reset", "RFC 4271 6.1", notification=[1, 3]),
        case("keepalive with an octet", wire.message(4, b"\0"), "session-reset", "RFC 4271 6.1", notification=[1, 2]),
        case("update in place of an open", GOOD, "session-reset", "RFC 6608", phase="open", notification=[5, 1], also=["close without NOTIFICATION"]),
        case("refresh of an unknown family", wire.message(5, bytes([0, 25, 0, 65])), "ignore", "RFC 2918 4"),
        case("refresh of three octets", wire.message(5, bytes([0, 1, 0])), "session-reset", "RFC 7313 5", notification=[1, 2],
             also=["NOTIFICATION 7/1", "ignore"]),
    ]


def opens():
    wrong = [("version 3", {"version": 3}, [2, 1], "RFC 4271 6.2"), ("another AS", {"asn": 64999}, [2, 2], "RFC 4271 6.2"),
             ("hold time 1", {"hold": 1}, [2, 6], "RFC 4271 6.2"), ("identifier 0", {"identifier": "0.0.0.0"}, [2, 3], "RFC 6286 2.2"),
             ("AS 0", {"asn": 0}, [2, 2], "RFC 7607 2")]
    found = [case(f"open with {name}", wire.open_message(**how), "session-reset", reference, phase="open", notification=code)
             for name, how, code, reference in wrong]
    too_long = wire.open_message(parameters_length=39)
    return found + [case("open with parameters behind its end", too_long, "session-reset", "RFC 4271 6.2", phase="open", notification=[2, 0],
                         also=["NOTIFICATION 1/2"])]


def withdrawn_attributes():
    """RFC 7606: the routes of the message go, the session stays."""
    origin, path = PATH
    short = wire.attribute(0xC0, 16, wire.DISCARD[:7])
    wrong = [
        ("origin 5", (wire.origin(b"\5"), path, REACH, DISCARD), "7.1"),
        ("origin of two octets", (wire.origin(b"\0\0"), path, REACH, DISCARD), "7.1"),
        ("no origin", (path, REACH, DISCARD), "3 (d)"),
        ("no AS path", (origin, REACH, DISCARD), "3 (d)"),
        ("AS path of a segment 9", (origin, wire.as_path(65001, segment=9), REACH, DISCARD), "7.2"),
        ("AS path that counts more than it has", (origin, wire.as_path(65001, count=5), REACH, DISCARD), "7.2"),
        ("origin that is optional", (wire.origin(flags=0xC0), path, REACH, DISCARD), "3 (c)"),
        ("extended communities of seven octets", (origin, path, REACH, short), "7.14"),
        ("communities of three octets", (origin, path, wire.attribute(0xC0, 8, b"\xff" * 3), REACH, DISCARD), "7.8"),
        ("large communities of eleven octets", (origin, path, REACH, DISCARD, wire.attribute(0xC0, 32, bytes(11))), "RFC 8092 6"),
    ]
    found = [case(name, wire.update(*attributes), "treat-as-withdraw", reference if "RFC" in reference else f"RFC 7606 {reference}", before=GOOD)
             for name, attributes, reference in wrong]
    # The last attribute says 20 octets where 8 are left.
    beyond = wire.update(REACH, origin, path, bytes([0xC0, 16, 20]) + wire.DISCARD)
    bad_hop = wire.update(*PATH, wire.next_hop(bytes([192, 0, 2])), HOLE_COMMUNITY, nlri=HOLE)
    hole = wire.update(*PATH, AGE, HOLE_COMMUNITY, nlri=HOLE)
    foreign = wire.update(origin, wire.as_path(64999), REACH, DISCARD)
    return found + [
        case("last attribute behind the end", beyond, "treat-as-withdraw", "RFC 7606 4", also=["session-reset"], before=GOOD),
        case("next hop of three octets", bad_hop, "treat-as-withdraw", "RFC 7606 7.3", before=hole),
        case("first AS that is not the sender's", foreign, "treat-as-withdraw", "RFC 7606 7.2, RFC 9117", also=["accept"], before=GOOD),
    ]


def other_attributes():
    origin, path = PATH
    again = wire.reach("ipv4-flowspec", wire.flowspec({"destination": "192.0.2.2/32", "protocol": "=17"}))
    strange = lambda flags: wire.attribute(flags, 99, b"\1\2")
    too_long = wire.update(*PATH, AGE, HOLE_COMMUNITY, nlri=bytes([33, 192, 0, 2, 66, 0]))
    hop = wire.reach("ipv6", wire.unicast("2001:db8::66/128"), bytes(5))
    unknown_family = wire.attribute(0x80, 14, struct.pack(">HB", 25, 65) + bytes(3))
    looped = wire.update(origin, wire.as_path(65001, 65001), REACH, DISCARD)
    return [
        case("origin twice", wire.update(origin, wire.origin(b"\1"), path, REACH, DISCARD), "accept-first", "RFC 7606 3 (g)", rules=1),
        case("MP_REACH twice", wire.update(*PATH, REACH, again, DISCARD), "session-reset", "RFC 7606 3 (g)", notification=[3, 1]),
        case("attributes behind the message", wire.update(*PATH, REACH, DISCARD, attributes_length=51), "session-reset", "RFC 7606 4", notification=[3, 1]),
        case("prefix of 33 bits", too_long, "session-reset", "RFC 7606 5.3", notification=[3, 10]),
        case("well-known attribute 99", wire.update(*PATH, strange(0x40), REACH, DISCARD), "session-reset", "RFC 4271 6.3", notification=[3, 2],
             also=["treat-as-withdraw"]),
        case("transitive attribute 99", wire.update(*PATH, REACH, DISCARD, strange(0xC0)), "accept", "RFC 4271 5", rules=1),
        case("optional attribute 99", wire.update(*PATH, REACH, DISCARD, strange(0x80)), "accept", "RFC 4271 5", rules=1),
        case("IPv6 next hop of five octets", wire.update(*PATH, hop), "session-reset", "RFC 7606 7.11", notification=[3, 9],
             also=["disable the family", "treat-as-withdraw"]),
        case("FlowSpec with a next hop", wire.update(*PATH, wire.reach("ipv4-flowspec", RULE, bytes([192, 0, 2, 1])), DISCARD), "accept", "RFC 8955 4", rules=1),
        case("family that was not agreed on", wire.update(*PATH, unknown_family), "ignore", "RFC 4760 8", also=["session-reset"]),
        case("AS path with an AS twice", looped, "accept-unless-own-as", "RFC 4271 9.1.2"),
        case("withdrawal of an unknown rule", wire.update(wire.unreach("ipv4-flowspec", wire.flowspec({"destination": "192.0.2.77/32", "protocol": "=17"}))),
             "ignore", "RFC 4271 4.3"),
    ]


def dropped_rules():
    """RFC 8955 sections 4.2 and 10: a rule that cannot be read is none; a strict receiver ends the session."""
    v6 = bytes.fromhex("01800020010db8000000000000000000000001")
    wrong = [
        ("components in the wrong order", UDP + DESTINATION, 4), ("component twice", DESTINATION + UDP + bytes.fromhex("038106"), 4),
        ("component 14", DESTINATION + bytes.fromhex("0e8101"), 4), ("no component", b"", 4),
        ("no end bit", DESTINATION + bytes.fromhex("030111"), 4), ("operator cut off", DESTINATION + bytes.fromhex("06911f"), 4),
        ("prefix of 33 bits in a rule", bytes.fromhex("0121c000020180") + UDP, 4), ("flow label in IPv4", DESTINATION + bytes.fromhex("0d8105"), 4),
        ("octet behind the last component", DESTINATION + UDP + b"\0", 4),
        ("offset behind the length", bytes.fromhex("01404120010db800000000") + UDP, 6),
        ("offset, and the whole prefix", v6 + bytes.fromhex("0268400000000000000000123456789a") + bytes.fromhex("038106"), 6),
    ]
    found = [case(name, rules(octets, family=f"ipv{version}-flowspec"), "drop-rule", "RFC 8955 4.2, 10", also=["session-reset"], rules=0)
             for name, octets, version in wrong]
    second = DESTINATION[:-1] + b"\2"
    third = DESTINATION[:-1] + b"\3"
    return found + [
        case("second rule of three is wrong", rules(DESTINATION + UDP, UDP + second, third + UDP), "drop-rule", "RFC 8955 4.2, 10", also=["session-reset"], rules=2),
        case("port 70000", rules(DESTINATION + bytes.fromhex("05a100011170")), "drop-rule", "no packet has it; not to be cut to 16 bits", also=["accept"]),
        case("protocol 300", rules(DESTINATION + bytes.fromhex("0391012c")), "drop-rule", "RFC 8955 4.2.2.3; not to be cut to 8 bits", also=["accept"]),
        case("TCP flags of four octets", rules(DESTINATION + bytes.fromhex("03810609a100000002")), "drop-rule", "RFC 8955 4.2.2.9",
             also=["session-reset", "accept"], rules=0),
        case("withdrawal that cannot be read", wire.update(wire.unreach("ipv4-flowspec", wire.with_length(UDP + DESTINATION))), "ignore-rule",
             "RFC 8955 4.2, 10", also=["session-reset"]),
    ]


def lengths():
    broken = {"notification": [3, 10], "also": ["NOTIFICATION 3/1", "NOTIFICATION 3/9", "disable the family"]}
    raw = lambda octets: wire.update(*PATH, wire.reach("ipv4-flowspec", octets), DISCARD)
    flood = DESTINATION + b"\6" + bytes.fromhex("0135") * 1955 + bytes.fromhex("8135")
    return [
        case("rule behind its attribute", raw(b"\x20" + RULE[1:]), "session-reset", "RFC 7606 5.3", **broken),
        case("rule of 4095 octets behind its attribute", raw(b"\xff\xff" + RULE[1:]), "session-reset", "RFC 7606 5.3", **broken),
        case("length of two octets where one is enough", raw(b"\xf0" + RULE), "accept", "RFC 8955 4.1", also=["drop-rule"], rules=1),
        case("two thousand operators", wire.update(*PATH, wire.reach("ipv4-flowspec", wire.with_length(flood)), DISCARD), "drop-rule",
             "a receiver has a limit", also=["accept", "session-reset"]),
    ]


def odd_rules():
    """What may be read."""
    v6 = bytes.fromhex("01800020010db8000000000000000000000001")
    offset = rules(v6 + bytes.fromhex("026840123456789a038106"), family="ipv6-flowspec")
    bits = bytes.fromhex("0119c00002ff") + UDP
    clean = rules(bytes.fromhex("0119c0000280") + UDP)
    return [
        case("rule as it should be", GOOD, "accept", "RFC 8955", rules=1),
        case("offset as in RFC 8956", offset, "accept", "RFC 8956 3.1", rules=1),
        case("bits behind the prefix", rules(bits), "accept-masked", "RFC 8955 4.2.2.1", rules=1),
        case("withdrawal with bits behind the prefix", wire.update(wire.unreach("ipv4-flowspec", wire.with_length(bits))), "accept-masked", "RFC 8955 4.2.2.1",
             rules=0, before=clean),
        case("port in eight octets", rules(DESTINATION + bytes.fromhex("05b10000000000000035")), "accept", "RFC 8955 4.2.1.1", also=["drop-rule"], rules=1),
        case("AND in the first operator", rules(DESTINATION + bytes.fromhex("03c111")), "accept", "RFC 8955 4.2.1.1", rules=1),
        case("reserved bit of an operator", rules(DESTINATION + bytes.fromhex("038911")), "accept", "RFC 8955 4.2.1.1", rules=1),
        case("reserved bits of a fragment", rules(DESTINATION + bytes.fromhex("0c80f2")), "accept", "RFC 8955 4.2.2.12", also=["drop-rule"], rules=1),
        case("no destination", rules(UDP), "accept", "RFC 8955 4.2; section 6 may refuse it", also=["refuse by policy"], rules=1),
        case("DSCP 200", rules(DESTINATION + bytes.fromhex("0b81c8")), "accept", "RFC 8955 4.2.2.11", also=["drop-rule"]),
    ]


def actions():
    """Rates and actions at the edge."""
    rate = lambda octets: wire.extended(bytes.fromhex("80060000" + octets))
    good = DESTINATION + UDP
    with_action = lambda attribute: rules(good, actions=attribute)
    return [
        case("negative rate", with_action(rate("bf800000")), "accept", "RFC 8955 7.1", rules=1),
        case("rate that is no number", with_action(rate("7fc00000")), "drop-rule", "undefined; never no limit", also=["accept with discard"]),
        case("infinite rate", with_action(rate("7f800000")), "drop-rule", "undefined", also=["accept without a limit"]),
        case("no action", with_action(b""), "accept", "RFC 8955 7: accepts the traffic", rules=1),
        case("unknown action", with_action(wire.extended(bytes.fromhex("80fe000000000001"))), "accept", "RFC 8955 7: is ignored", rules=1),
        case("two rates", with_action(wire.extended(wire.rate(125000), wire.DISCARD)), "accept", "RFC 8955 7.7", also=["drop-rule"], rules=1),
        case("rate next to nothing", with_action(rate("00000001")), "accept", "RFC 8955 7.1", rules=1),
    ]


def cases():
    return [each for group in (headers, opens, withdrawn_attributes, other_attributes, dropped_rules, lengths, odd_rules, actions) for each in group()]
