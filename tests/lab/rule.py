"""The words for what a router holds, one spelling for all routers, so that a test compares text.

Numbers:  `=53 =123` is 53 or 123, `>=1024&<=65535` is both.
Bits:     `syn&!ack`, `any(is-fragment+first-fragment)`, `all(syn+ack)`; of one bit only the name is written.
Prefixes: `192.0.2.0/24`, `::1200:0/104 offset 64`.
Actions:  `discard`, `rate-bytes N`, `rate-packets N`, `redirect A:B`, `redirect-to-ip X`, `copy-to-ip X`, `redirect-to-nexthop`,
          `copy-to-nexthop`, `mark N`, `action sample+terminal`, `blackhole` (the community 65535:666), `unknown 0xTTSS`.

An operator is the octet of RFC 8955 section 4.2.1, of which the length and the end bit are ignored.
"""
import ipaddress
import re
import struct

COMPONENTS = {1: "destination", 2: "source", 3: "protocol", 4: "port", 5: "destination-port", 6: "source-port", 7: "icmp-type",
              8: "icmp-code", 9: "tcp-flags", 10: "packet-length", 11: "dscp", 12: "fragment", 13: "flow-label"}
NUMBERS = {name: number for number, name in COMPONENTS.items()}
TCP_FLAGS = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"]
FRAGMENT = ["dont-fragment", "is-fragment", "first-fragment", "last-fragment"]
BITS = {"tcp-flags": TCP_FLAGS, "fragment": FRAGMENT}
# Position is the three low bits of a numeric operator: less, greater, equal.
COMPARISONS = ["false", "=", ">", ">=", "<", "<=", "!=", "true"]
AND, NOT, MATCH = 64, 2, 1
BLACKHOLE = "65535:666"
COMMUNITIES = {"blackhole": BLACKHOLE, "noexport": "65535:65281", "noadvertise": "65535:65282", "localas": "65535:65283",
               "noexportsubconfed": "65535:65283", "nopeer": "65535:65284", "gracefulshutdown": "65535:0"}
FAMILIES = ["ipv4-flowspec", "ipv6-flowspec", "ipv4", "ipv6"]


def joined(parts):
    """[(operator, text)]: AND is `&`, OR a space; the first has neither."""
    return "".join(text if not at else ("&" if operator & AND else " ") + text for at, (operator, text) in enumerate(parts))


def numbers(pairs):
    """[(operator, value)] of a numeric component."""
    def one(operator, value):
        comparison = COMPARISONS[operator & 7]
        return comparison if operator & 7 in (0, 7) else f"{comparison}{value}"
    return joined([(operator, one(operator, value)) for operator, value in pairs])


def bits(names, pairs):
    """[(operator, mask)] of a bitmask component."""
    def one(operator, mask):
        held = [names[bit] if bit < len(names) else hex(1 << bit) for bit in range(16) if mask >> bit & 1]
        text = held[0] if len(held) == 1 else ("all" if operator & MATCH else "any") + f"({'+'.join(held) or '0'})"
        return ("!" if operator & NOT else "") + text
    return joined([(operator, one(operator, mask)) for operator, mask in pairs])


def read_numbers(text):
    """The inverse of `numbers`."""
    terms = re.findall(r"([ &]?)(true|false|!=|>=|<=|>|<|=)(\d*)", text)
    return [((AND if join == "&" else 0) | COMPARISONS.index(word), int(value or 0)) for join, word, value in terms]


def read_bits(names, text):
    """The inverse of `bits`; `all(syn)` is a single bit with the match bit set."""
    pairs = []
    for join, no, how, many, one in re.findall(r"([ &]?)(!?)(?:(any|all)\(([^)]*)\)|([a-z][a-z-]*))", text):
        mask = sum(1 << names.index(name) for name in (many or one).split("+"))
        pairs.append(((AND if join == "&" else 0) | (NOT if no else 0) | (MATCH if how == "all" else 0), mask))
    return pairs


def prefix(address, length=None, offset=0):
    """A prefix without bits behind its length; `address` may carry the length."""
    if length is None:
        address, length = address.split("/")
    try:
        address = ipaddress.ip_network(f"{address}/{length}", strict=False).network_address
    except ValueError:
        pass  # a router may hold what is no prefix: it is shown as it stands
    return f"{address}/{length}" + (f" offset {int(offset)}" if int(offset) else "")


def component(name, pairs):
    """The text of a component that is no prefix."""
    return bits(BITS[name], pairs) if name in BITS else numbers(pairs)


def text(components):
    """All components in the order of their types."""
    order = sorted(components, key=lambda name: NUMBERS.get(name, 99))
    return "; ".join(f"{name} {components[name]}" for name in order)


def amount(number):
    """A rate: whole where it is whole."""
    finite = number == number and abs(number) != float("inf")
    return str(int(number)) if finite and number == int(number) else f"{number:.9g}"


def action(octets):
    """What an extended community (8 octets) asks for, `None` if it is no traffic filtering action."""
    kind, value = tuple(octets[:2]), octets[2:]
    if kind == (0x80, 0x06):
        rate = struct.unpack(">f", value[2:])[0]
        return "discard" if rate == 0 else f"rate-bytes {amount(rate)}"
    if kind == (0x80, 0x0C):
        return f"rate-packets {amount(struct.unpack('>f', value[2:])[0])}"
    if kind == (0x80, 0x07):
        flags = [name for name, bit in (("sample", 2), ("terminal", 1)) if value[5] & bit]
        return f"action {'+'.join(flags) or 'none'}"
    if kind == (0x80, 0x09):
        return f"mark {value[5] & 63}"
    if kind == (0x80, 0x08):
        return "redirect {}:{}".format(*struct.unpack(">HI", value))
    if kind == (0x81, 0x08):
        return f"redirect {ipaddress.ip_address(value[:4])}:{struct.unpack('>H', value[4:])[0]}"
    if kind == (0x82, 0x08):
        return "redirect {}:{}".format(*struct.unpack(">IH", value))
    if kind == (0x01, 0x0C):
        return f"{verb(value)}-to-ip {ipaddress.ip_address(value[:4])}"
    if kind == (0x08, 0x00):
        return f"{verb(value)}-to-nexthop"
    return f"unknown 0x{kind[0]:02x}{kind[1]:02x}" if kind[0] in (0x80, 0x81, 0x82) else None


def action_ipv6(octets):
    """The same of an IPv6 address specific extended community (20 octets, attribute 25)."""
    if octets[1] == 0x0C:
        return f"{verb(octets)}-to-ip {ipaddress.ip_address(octets[2:18])}"
    return f"unknown 0x{octets[0]:02x}{octets[1]:02x}"


def verb(octets):
    return "copy" if octets[-1] & 1 else "redirect"


def community(word):
    """A community as two numbers, from whatever a router calls it."""
    return COMMUNITIES.get(re.sub(r"[^a-z]", "", word.lower()), word) if not word[:1].isdigit() else word


class Held:
    """The attributes of a route; `None` is what the router does not show."""

    def __init__(self, extended=(), extended_ipv6=(), communities=(), large=(), next_hop=None, local=False, actions=None):
        self.extended, self.extended_ipv6, self.actions = list(extended), list(extended_ipv6), actions
        self.communities = None if communities is None else sorted(map(community, communities))
        self.large = None if large is None else sorted(large)
        self.next_hop = None if next_hop in (None, "", "0.0.0.0", "::", "no-nexthop") else next_hop
        self.local = local

    def route(self, family, components, truncated=False):
        """One route as JSON; `components` is a dictionary, or the text of a prefix."""
        if self.actions is None:
            actions = [a for a in map(action, self.extended) if a] + list(map(action_ipv6, self.extended_ipv6))
        else:
            actions = list(self.actions)
        if BLACKHOLE in (self.communities or []):
            actions.append("blackhole")
        is_rule = isinstance(components, dict)
        held = {"family": family, "text": text(components) if is_rule else components,
                "components": components if is_rule else {"prefix": components}, "actions": sorted(actions),
                "communities": self.communities, "large_communities": self.large,
                "ext_communities": None if self.actions is not None else [octets.hex() for octets in self.extended],
                "next_hop": self.next_hop, "local": self.local}
        return held | ({"truncated": True} if truncated else {})
