"""FlowSpec from the text of RFC 8955 and RFC 8956: rules, their order, their octets, and which packets they match.

Written without a look at the product: it is what the product is compared with.
A rule is {"version": 4 | 6, "components": {type: value}, "action": ...}. Prefix components are (address int, length, offset);
numeric ones are lists of (and, lt, gt, eq, value); bitmask ones lists of (and, not, match, mask).
"""
import functools
import ipaddress
import struct

NUMERIC = {3: 8, 4: 16, 5: 16, 6: 16, 7: 8, 8: 8, 10: 16, 11: 6, 13: 20}
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58


# --- octets -----------------------------------------------------------------------------------------------------------
def op_octets(flags, value, last):
    size = 0 if value < 256 else 1 if value < 65536 else 2
    return bytes([flags | size << 4 | (0x80 if last else 0)]) + value.to_bytes(1 << size, "big")


def component_octets(version, kind, value):
    if kind <= 2:
        address, length, offset = value
        bits = 32 if version == 4 else 128
        shifted = (address << offset) & ((1 << bits) - 1)
        count = (length - offset + 7) // 8
        octets = shifted.to_bytes(bits // 8, "big")[:count]
        spare = count * 8 - (length - offset)
        if spare:
            octets = octets[:-1] + bytes([octets[-1] & 0xff << spare & 0xff])
        return bytes([length] + ([offset] if version == 6 else [])) + octets
    out = b""
    for i, op in enumerate(value):
        last = i == len(value) - 1
        if kind in NUMERIC:
            a, lt, gt, eq, v = op
            out += op_octets((0x40 if a else 0) | lt << 2 | gt << 1 | eq, v, last)
        else:
            a, n, m, mask = op
            out += op_octets((0x40 if a else 0) | n << 1 | m, mask, last)
    return out


def nlri(rule):
    out = b"".join(bytes([k]) + component_octets(rule["version"], k, v) for k, v in sorted(rule["components"].items()))
    return bytes([len(out)]) + out if len(out) < 240 else struct.pack("!H", 0xf000 | len(out)) + out


def prefix_text(version, value):
    address, length, _ = value
    return f"{ipaddress.ip_address(address) if version == 4 else ipaddress.IPv6Address(address)}/{length}"


# --- order: the algorithm of RFC 8955 section 5.1 and RFC 8956 section 4 ------------------------------------------------
def compare(a, b):
    bits = 32 if a["version"] == 4 else 128
    ca, cb = sorted(a["components"].items()), sorted(b["components"].items())
    for i in range(max(len(ca), len(cb))):
        if i >= len(ca):
            return 1
        if i >= len(cb):
            return -1
        (ta, va), (tb, vb) = ca[i], cb[i]
        if ta != tb:
            return -1 if ta < tb else 1
        if ta <= 2:
            (pa, la, oa), (pb, lb, ob) = va, vb
            if oa != ob:
                return -1 if oa < ob else 1
            common = min(la, lb)
            low = lambda p: [(p >> (bits - 1 - n)) & 1 for n in range(oa, common)]
            if low(pa) != low(pb):
                return -1 if low(pa) < low(pb) else 1
            if la != lb:
                return -1 if la > lb else 1
        else:
            xa, xb = component_octets(a["version"], ta, va), component_octets(b["version"], tb, vb)
            common = min(len(xa), len(xb))
            if xa[:common] != xb[:common]:
                return -1 if xa[:common] < xb[:common] else 1
            if len(xa) != len(xb):
                return -1 if len(xa) > len(xb) else 1
    return 0


def ordered(rules):
    return sorted(rules, key=functools.cmp_to_key(compare))


# --- matching ---------------------------------------------------------------------------------------------------------
def numeric(ops, value):
    total, group = False, None
    for a, lt, gt, eq, v in ops:
        hit = bool(lt and value < v or gt and value > v or eq and value == v)
        if a and group is not None:
            group = group and hit
        else:
            total = total or bool(group)
            group = hit
    return total or bool(group)


def bitmask(ops, value):
    total, group = False, None
    for a, n, m, mask in ops:
        hit = (value & mask) == mask if m else (value & mask) != 0
        hit = hit != bool(n)
        if a and group is not None:
            group = group and hit
        else:
            total = total or bool(group)
            group = hit
    return total or bool(group)


def matches(rule, p):
    """p: what parse() found in the packet."""
    if rule["version"] != p["version"]:
        return False
    bits = 32 if p["version"] == 4 else 128
    for kind, value in rule["components"].items():
        if kind <= 2:
            address, length, offset = value
            mask = ((1 << bits) - 1) ^ ((1 << (bits - length)) - 1)
            mask &= (1 << (bits - offset)) - 1
            field = p["dst"] if kind == 1 else p["src"]
            if (field ^ address) & mask:
                return False
            continue
        if kind == 3:
            if p["protocol"] is None or not numeric(value, p["protocol"]):
                return False
        elif kind in (4, 5, 6):
            if p["protocol"] not in (TCP, UDP) or p["sport"] is None:
                return False
            hit = {4: numeric(value, p["sport"]) or numeric(value, p["dport"]),
                   5: numeric(value, p["dport"]), 6: numeric(value, p["sport"])}[kind]
            if not hit:
                return False
        elif kind in (7, 8):
            field = p["icmp_type"] if kind == 7 else p["icmp_code"]
            if field is None or not numeric(value, field):
                return False
        elif kind == 9:
            if p["flags"] is None or not bitmask(value, p["flags"]):
                return False
        elif kind == 12:
            if not bitmask(value, p["fragment"]):
                return False
        else:
            field = {10: p["length"], 11: p["dscp"], 13: p.get("label")}[kind]
            if field is None or not numeric(value, field):
                return False
    return True


def parse(packet):
    """Fields of an IP packet, from its octets."""
    version = packet[0] >> 4
    none = {"sport": None, "dport": None, "flags": None, "icmp_type": None, "icmp_code": None}
    if version == 4:
        header = (packet[0] & 15) * 4
        length, frag = struct.unpack("!H", packet[2:4])[0], struct.unpack("!H", packet[6:8])[0]
        offset, more = frag & 0x1fff, bool(frag & 0x2000)
        fields = {"version": 4, "dst": int.from_bytes(packet[16:20], "big"), "src": int.from_bytes(packet[12:16], "big"),
                  "protocol": packet[9], "length": length, "dscp": packet[1] >> 2, "icmp": ICMP}
        dont = bool(frag & 0x4000)
        rest = packet[header:length]
    else:
        word = struct.unpack("!I", packet[:4])[0]
        length = struct.unpack("!H", packet[4:6])[0] + 40
        fields = {"version": 6, "dst": int.from_bytes(packet[24:40], "big"), "src": int.from_bytes(packet[8:24], "big"),
                  "length": length, "dscp": word >> 22 & 63, "label": word & 0xfffff, "icmp": ICMP6}
        offset, more, dont, at, kind = 0, False, False, 40, packet[6]
        while kind in (0, 43, 44, 51, 60):
            following = packet[at]
            if kind == 44:
                word = struct.unpack("!H", packet[at + 2:at + 4])[0]
                offset, more, size = word >> 3, bool(word & 1), 8
            elif kind == 51:
                size = (packet[at + 1] + 2) * 4
            else:
                size = (packet[at + 1] + 1) * 8
            at, kind = at + size, following
            if offset:
                break
        fields["protocol"] = None if offset and kind in (0, 43, 44, 51, 60) else kind
        rest = packet[at:length]
    first = offset == 0 and more
    fields["fragment"] = (dont | (2 if offset else 0) | (4 if first else 0) | (8 if offset and not more else 0))
    fields.update(none)
    if offset:
        return fields
    if fields["protocol"] in (TCP, UDP) and len(rest) >= 4:
        fields["sport"], fields["dport"] = struct.unpack("!HH", rest[:4])
    if fields["protocol"] == TCP and len(rest) >= 14:
        fields["flags"] = struct.unpack("!H", rest[12:14])[0] & 0x0fff
    if fields["protocol"] == fields["icmp"] and len(rest) >= 2:
        fields["icmp_type"], fields["icmp_code"] = rest[0], rest[1]
    return fields


def first_match(rules, packet):
    """rules in order."""
    fields = parse(packet)
    return next((r for r in rules if matches(r, fields)), None)


# --- chance -----------------------------------------------------------------------------------------------------------
INTERESTING = {
    3: [0, 1, 2, 6, 17, 47, 50, 58, 132, 255], 4: [0, 1, 53, 80, 123, 255, 256, 1023, 1024, 65534, 65535],
    7: [0, 3, 8, 11, 128, 129, 135, 255], 8: [0, 1, 3, 255], 10: [0, 19, 20, 28, 40, 48, 60, 100, 255, 256, 576, 1400, 1500, 65535],
    11: [0, 1, 10, 46, 62, 63], 13: [0, 1, 255, 256, 65535, 65536, 0xffffe, 0xfffff],
}
INTERESTING[5] = INTERESTING[6] = INTERESTING[4]


def value_of(rng, kind):
    if rng.random() < 0.7:
        return rng.choice(INTERESTING[kind])
    return rng.randrange(1 << NUMERIC[kind])


def random_numeric(rng, kind):
    """Operators that some value of the field satisfies: what nothing satisfies is no rule, and is reported as malformed."""
    top = (1 << NUMERIC[kind]) - 1
    while True:
        ops = numeric_operators(rng, kind)
        if any(numeric(ops, v) for op in ops for v in (0, top, op[4], max(op[4] - 1, 0), min(op[4] + 1, top))):
            return ops


def numeric_operators(rng, kind):
    ops = []
    for i in range(rng.choice([1, 1, 1, 2, 2, 3, 5])):
        form = rng.choice(["=", "=", "=", "<", ">", "<=", ">=", "!=", "range", "true"])
        a = i > 0 and rng.random() < 0.4
        v = value_of(rng, kind)
        if form == "range":
            w = value_of(rng, kind)
            ops += [(a, 0, 1, 1, min(v, w)), (True, 1, 0, 1, max(v, w))]
        else:
            lt, gt, eq = {"=": (0, 0, 1), "<": (1, 0, 0), ">": (0, 1, 0), "<=": (1, 0, 1), ">=": (0, 1, 1),
                          "!=": (1, 1, 0), "true": (1, 1, 1)}[form]
            ops.append((a, lt, gt, eq, v))
    return ops


def random_bits(rng, kind):
    def mask():
        if kind == 9:
            return rng.choice([1, 2, 4, 8, 16, 32, 64, 128, 0x12, 0x03, 0x29, 0x100, 0xfff, 0x3f, 0, 0x1000])
        return rng.choice([1, 2, 4, 8, 2, 4, 6, 12, 3, 15, 0])
    return [(i > 0 and rng.random() < 0.5, rng.random() < 0.4, rng.random() < 0.5, mask())
            for i in range(rng.choice([1, 1, 1, 2, 2, 3]))]


def random_prefix(rng, version, base, lengths):
    bits = 32 if version == 4 else 128
    length = rng.choice(lengths)
    address = base ^ (rng.choice([0, 1, 2, 3, 1 << rng.randrange(8)]) if rng.random() < 0.8 else 0)
    return (address >> (bits - length) << (bits - length) if length else 0, length, 0)


DESTINATIONS = {4: int(ipaddress.ip_address("203.0.113.8")), 6: int(ipaddress.ip_address("2001:db8::8"))}
SOURCES = {4: int(ipaddress.ip_address("198.51.100.8")), 6: int(ipaddress.ip_address("2001:db8:ffff::8"))}


def random_rule(rng, version, kinds=None, offsets=True):
    kinds = kinds or [3, 4, 5, 6, 7, 8, 9, 10, 11, 12] + ([13] if version == 6 else [])
    lengths = [24, 28, 31, 32, 32, 32, 32] if version == 4 else [48, 64, 120, 127, 128, 128, 128]
    components = {}
    if rng.random() < 0.92:
        components[1] = random_prefix(rng, version, DESTINATIONS[version], lengths)
    if rng.random() < 0.35 or 1 not in components:
        components[2] = random_prefix(rng, version, SOURCES[version], lengths + [24 if version == 4 else 32])
        if version == 6 and offsets and 1 in components and rng.random() < 0.5:
            offset = rng.choice([1, 7, 32, 64, 100])
            address, length, _ = components[2]
            if offset < length:
                keep = (1 << (128 - offset)) - 1
                components[2] = (address & keep, length, offset)
    for kind in rng.sample(kinds, rng.choice([0, 1, 1, 2, 2, 3])):
        components[kind] = random_numeric(rng, kind) if kind in NUMERIC else random_bits(rng, kind)
    return {"version": version, "components": components, "action": "discard" if rng.random() < 0.75 else "accept"}


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def near(rng, ops, kind):
    """A value on or beside a boundary of the operators."""
    v = rng.choice(ops)[4] + rng.choice([-1, 0, 0, 0, 1])
    return max(0, min(v, (1 << NUMERIC[kind]) - 1))


def random_packet(rng, rule, mark):
    """A packet for a rule: most fields as it asks, some beside it. mark: 8 octets at the end, to know it by."""
    version, c = rule["version"], rule["components"]

    def number(kind, choices):
        if kind in c and rng.random() < 0.85:
            return near(rng, c[kind], kind)
        return rng.choice(choices)
    protocol = number(3, [TCP, UDP, ICMP if version == 4 else ICMP6, TCP, UDP, 47, 132])
    if rng.random() < 0.8:
        if 9 in c:
            protocol = TCP
        elif 7 in c or 8 in c:
            protocol = ICMP if version == 4 else ICMP6
        elif (4 in c or 5 in c or 6 in c) and protocol not in (TCP, UDP):
            protocol = rng.choice([TCP, UDP])
    if version == 6 and protocol in (0, 43, 44, 51, 60):
        protocol = 59
    either = number(4, INTERESTING[4])
    sport = either if 4 in c and rng.random() < 0.5 else number(6, INTERESTING[4])
    dport = either if 4 in c and rng.random() < 0.5 else number(5, INTERESTING[4])
    flags = rng.choice([0, 1, 2, 4, 0x10, 0x12, 0x18, 0x29, 0x3f, 0xff, 0x102, 0xfff, rng.randrange(4096)])
    if 9 in c and rng.random() < 0.5:
        flags = rng.choice(c[9])[3] & 0xfff
    icmp_type, icmp_code = number(7, [0, 3, 8, 128, 129]), number(8, [0, 1, 3])
    if protocol == ICMP6 and version == 6 and 133 <= icmp_type <= 137:
        icmp_type = 128     # neighbour discovery is not forwarded
    if protocol == TCP:
        transport = struct.pack("!HHIIHHHH", sport, dport, 1, 0, 0x5000 | flags, 1000, 0, 0)
    elif protocol == UDP:
        transport = struct.pack("!HHHH", sport, dport, 16, 0)
    else:
        transport = bytes([icmp_type, icmp_code, 0, 0, 0, 0, 0, 1])
    # Fragments: whole mostly, each class and a cut transport header now and then.
    cls = rng.choice(["whole", "whole", "whole", "first", "middle", "last"]) if 12 in c or rng.random() < 0.2 else "whole"
    offset = 0 if cls in ("whole", "first") else rng.choice([1, 3, 185, 8000])
    more = cls in ("first", "middle")
    body = transport if offset == 0 else bytes(rng.randrange(256) for _ in range(8))
    if offset == 0 and rng.random() < 0.03:
        body = body[:rng.choice([0, 2, 4, 8, 12])]
    src, dst = SOURCES[version] ^ rng.choice([0, 1, 2, 8, 256]), DESTINATIONS[version] ^ rng.choice([0, 1, 2, 4, 8, 16])
    if 1 in c and rng.random() < 0.85:
        address, length, _ = c[1]
        bits = 32 if version == 4 else 128
        dst = address | (DESTINATIONS[version] & ((1 << (bits - length)) - 1) if length < bits else 0)
    if 2 in c and rng.random() < 0.8:
        address, length, off = c[2]
        bits = 32 if version == 4 else 128
        mask = ((1 << bits) - 1) ^ ((1 << (bits - length)) - 1)
        mask &= (1 << (bits - off)) - 1
        src = (SOURCES[version] & ~mask) | (address & mask)
    dscp = number(11, [0, 10, 46, 63])
    extra = b""
    next_header = protocol
    if version == 6:
        chain = []
        if cls != "whole" or rng.random() < 0.04:
            chain.append(44)
        if rng.random() < 0.2:
            chain.insert(0, rng.choice([0, 60]))
        if rng.random() < 0.1 and offset == 0:
            chain.append(60)
        for i in range(len(chain) - 1, -1, -1):
            if chain[i] == 44:
                extra = struct.pack("!BBHI", next_header, 0, offset << 3 | more, 7) + extra
            else:
                extra = bytes([next_header, 0, 1, 4, 0, 0, 0, 0]) + extra
            next_header = chain[i]
    header = 20 if version == 4 else 40
    smallest = header + len(extra) + len(body) + 8
    wanted = number(10, [smallest, smallest, 100, 576, 1400])
    length = max(smallest, min(wanted, 8900))
    if more:    # the payload of a fragment that others follow is a multiple of 8 octets
        length += -(length - header - (len(extra) if version == 6 else 0)) % 8
    payload = body + bytes(length - smallest) + mark
    if version == 4:
        frag = offset | (0x2000 if more else 0) | (0x4000 if rng.random() < 0.3 else 0)
        head = struct.pack("!BBHHHBBH", 0x45, dscp << 2 | rng.choice([0, 1]), length, 7, frag, 64, protocol, 0)
        head += src.to_bytes(4, "big") + dst.to_bytes(4, "big")
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        return head + payload
    label = number(13, [0, 1, 0xfffff])
    head = struct.pack("!IHBB", 6 << 28 | dscp << 22 | label, length - 40, next_header, 64)
    return head + src.to_bytes(16, "big") + dst.to_bytes(16, "big") + extra + payload
