"""BGP messages from words, written from the RFCs (4271, 4760, 8955, 8956, 8092, 5701). It shares no code with the product."""
import ipaddress
import struct

import rule

OPEN, UPDATE, NOTIFICATION, KEEPALIVE, REFRESH = range(1, 6)
HEADER = 19
FAMILIES = {"ipv4": (1, 1), "ipv6": (2, 1), "ipv4-flowspec": (1, 133), "ipv6-flowspec": (2, 133)}
OPTIONAL, TRANSITIVE, EXTENDED_LENGTH = 0x80, 0x40, 0x10


def message(kind, body=b"", length=None):
    return b"\xff" * 16 + struct.pack(">HB", HEADER + len(body) if length is None else length, kind) + body


def capability(code, value=b""):
    return bytes([code, len(value)]) + value


def open_message(asn=65001, hold=90, identifier="10.255.0.1", version=4, more=b"", parameters_length=None, families=FAMILIES.values()):
    capabilities = b"".join(capability(1, struct.pack(">HBB", afi, 0, safi)) for afi, safi in families)
    capabilities += capability(2) + capability(65, struct.pack(">I", asn)) + more
    parameters = bytes([2, len(capabilities)]) + capabilities
    length = len(parameters) if parameters_length is None else parameters_length
    return message(OPEN, struct.pack(">BHH", version, asn, hold) + ipaddress.ip_address(identifier).packed + bytes([length]) + parameters)


def attribute(flags, code, value):
    if len(value) > 255:
        return struct.pack(">BBH", flags | EXTENDED_LENGTH, code, len(value)) + value
    return bytes([flags, code, len(value)]) + value


def origin(value=b"\0", flags=TRANSITIVE):
    return attribute(flags, 1, value)


def as_path(*asns, segment=2, count=None):
    octets = b"".join(struct.pack(">I", asn) for asn in asns)
    return attribute(TRANSITIVE, 2, bytes([segment, len(asns) if count is None else count]) + octets if asns else b"")


def next_hop(address):
    return attribute(TRANSITIVE, 3, ipaddress.ip_address(address).packed if isinstance(address, str) else address)


def local_pref(value):
    return attribute(TRANSITIVE, 5, struct.pack(">I", value))


def communities(*values):
    return attribute(OPTIONAL | TRANSITIVE, 8, b"".join(struct.pack(">HH", *map(int, value.split(":"))) for value in values))


def large_communities(*values):
    return attribute(OPTIONAL | TRANSITIVE, 32, b"".join(struct.pack(">III", *map(int, value.split(":"))) for value in values))


def extended(*values):
    return attribute(OPTIONAL | TRANSITIVE, 16, b"".join(values))


def extended_ipv6(*values):
    return attribute(OPTIONAL | TRANSITIVE, 25, b"".join(values))


def reach(family, nlri, hop=b""):
    return attribute(OPTIONAL, 14, struct.pack(">HB", *FAMILIES[family]) + bytes([len(hop)]) + hop + b"\0" + nlri)


def unreach(family, nlri):
    return attribute(OPTIONAL, 15, struct.pack(">HB", *FAMILIES[family]) + nlri)


def update(*attributes, withdrawn=b"", nlri=b"", attributes_length=None):
    octets = b"".join(attributes)
    length = len(octets) if attributes_length is None else attributes_length
    return message(UPDATE, struct.pack(">H", len(withdrawn)) + withdrawn + struct.pack(">H", length) + octets + nlri)


def notification(code, subcode, data=b""):
    return message(NOTIFICATION, bytes([code, subcode]) + data)


def unicast(prefix):
    network = ipaddress.ip_network(prefix)
    return bytes([network.prefixlen]) + network.network_address.packed[:(network.prefixlen + 7) // 8]


# ---- FlowSpec ------------------------------------------------------------------------------------------------------------------
def prefix_component(text, version):
    """RFC 8955 section 4.2.2.1; with IPv6 the offset is written, and the pattern is what lies behind it (RFC 8956 section 3.1)."""
    prefix, _, offset = text.partition(" offset ")
    network, offset = ipaddress.ip_network(prefix, strict=False), int(offset or 0)
    length = network.prefixlen
    if version == 4:
        return bytes([length]) + network.network_address.packed[:(length + 7) // 8]
    bits = int(network.network_address) << offset & (1 << 128) - 1
    return bytes([length, offset]) + bits.to_bytes(16, "big")[:(length - offset + 7) // 8]


def operators(pairs, shortest=0):
    """Each operator says how long its value is; the last has the end bit."""
    octets = b""
    for at, (operator, value) in enumerate(pairs):
        width = next(width for width in range(shortest, 4) if value < 1 << (8 << width))
        end = 0x80 if at == len(pairs) - 1 else 0
        octets += bytes([end | operator | width << 4]) + value.to_bytes(1 << width, "big")
    return octets


def components(described, version):
    octets = b""
    for name in sorted(described, key=rule.NUMBERS.get):
        text = described[name]
        octets += bytes([rule.NUMBERS[name]])
        if name in ("destination", "source"):
            octets += prefix_component(text, version)
        elif name in rule.BITS:
            octets += operators(rule.read_bits(rule.BITS[name], text))
        else:
            octets += operators(rule.read_numbers(text))
    return octets


def with_length(octets):
    """RFC 8955 section 4.1: one octet below 240, else two that begin with 0xf."""
    return bytes([len(octets)]) + octets if len(octets) < 240 else struct.pack(">H", 0xF000 | len(octets)) + octets


def flowspec(described, version=4):
    return with_length(components(described, version))


def rate(octets_per_second, asn=0):
    return struct.pack(">BBHf", 0x80, 6, asn, octets_per_second)


DISCARD = rate(0)


def packet_rate(packets_per_second, asn=0):
    return struct.pack(">BBHf", 0x80, 12, asn, packets_per_second)
