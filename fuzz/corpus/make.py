#!/usr/bin/env python3
"""Makes the seeds of the fuzzers: one input per feature of each decoder, written by hand from the standards."""
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))


def b(fmt, *values):
    return struct.pack('>' + fmt, *values)


def write(target, name, data):
    os.makedirs(f'{HERE}/{target}', exist_ok=True)
    open(f'{HERE}/{target}/{name}', 'wb').write(data)


# ---- NetFlow and IPFIX: datagrams behind two octets of length -------------------------------------------------------
def session(*datagrams, sender=1):
    return b''.join(b('H', sender << 12 | len(d)) + d for d in datagrams)


def v5(count, sampling=0, version=5):
    record = bytes([198, 51, 100, 7, 203, 0, 113, 9]) + bytes(4) + b('HHIIIIHH', 1, 2, 10, 5000, 1000, 2000, 53, 4242)
    record += bytes([0, 0x12, 17, 0]) + bytes(8) + (bytes(4) if version == 7 else b'')
    return b('HHIIIIBBH', version, count, 5000, 1700000000, 0, 77, 0, 0, sampling) + record * count


def set_(number, body):
    body += bytes(-len(body) % 4)
    return b('HH', number, 4 + len(body)) + body


def v9(*sets, domain=1):
    return b('HHIIII', 9, len(sets), 5000, 1700000000, 7, domain) + b''.join(sets)


def ipfix(*sets, domain=1):
    body = b''.join(sets)
    return b('HHIII', 10, 16 + len(body), 1700000000, 7, domain) + body


def template(number, *fields):
    out = b('HH', number, len(fields))
    for element, length, *enterprise in fields:
        out += b('HH', element | (0x8000 if enterprise else 0), length) + (b('I', *enterprise) if enterprise else b'')
    return out


PLAIN = [(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (6, 1), (1, 4), (2, 4), (10, 2)]
RECORD = bytes([198, 51, 100, 7, 203, 0, 113, 9]) + b('HHBBIIH', 53, 4242, 17, 0, 1400, 1, 3)
SIX = [(27, 16), (28, 16), (4, 1), (1, 8), (2, 8), (31, 4), (152, 8), (153, 8), (89, 1)]
RECORD6 = bytes(range(32)) + b('BQQIQQB', 58, 900, 9, 0x12345, 1700000000000, 1700000009000, 0x80)
write('netflow', 'v5', session(v5(3, 0x4000 | 100)))
write('netflow', 'v5-mode-0', session(v5(1, 1000), v5(30)))
write('netflow', 'v5-cut', session(v5(3)[:100]))
write('netflow', 'v7', session(v5(2, version=7)))
write('netflow', 'v9', session(v9(set_(0, template(256, *PLAIN)), set_(256, RECORD * 3))))
write('netflow', 'v9-data-first', session(v9(set_(256, RECORD * 2)), v9(set_(0, template(256, *PLAIN)))))
write('netflow', 'v9-sampler', session(v9(set_(1, b('HHHHHHHHHH', 300, 4, 8, 1, 4, 48, 1, 50, 4, 0)[:18]), set_(300, bytes(4) + b('BI', 1, 2000)),
                                          set_(0, template(256, *PLAIN, (48, 1))), set_(256, RECORD + b'\1'))))
write('netflow', 'v9-interface-scope', session(v9(set_(1, b('HHHHHHH', 301, 4, 4, 2, 4, 34, 4)), set_(301, b('II', 3, 500)),
                                                  set_(0, template(256, *PLAIN)), set_(256, RECORD))))
write('netflow', 'v9-two-messages', session(v9(set_(0, template(256, *PLAIN))) + v9(set_(256, RECORD))))
write('netflow', 'ipfix', session(ipfix(set_(2, template(256, *PLAIN) + template(257, *SIX)), set_(256, RECORD), set_(257, RECORD6 * 2))))
write('netflow', 'ipfix-variable', session(ipfix(set_(2, template(256, (82, 65535), *PLAIN, (83, 65535))),
                                                 set_(256, b'\0' + RECORD + b'\xff\0\3abc' + b'\4eth0' + RECORD + b'\0'))))
write('netflow', 'ipfix-reverse', session(ipfix(set_(2, template(256, *PLAIN, (1, 4, 29305), (2, 4, 29305))), set_(256, RECORD + b('II', 600, 2)))))
write('netflow', 'ipfix-withdrawal', session(ipfix(set_(2, template(256, *PLAIN)), set_(2, b('HH', 256, 0)), set_(3, b('HH', 3, 0)), set_(256, RECORD))))
write('netflow', 'ipfix-selectors', session(ipfix(set_(3, b('HHHHHHHHHHH', 300, 4, 1, 302, 8, 304, 2, 305, 4, 306, 4)), set_(300, b('QHII', 5, 1, 1, 999)),
                                                  set_(2, template(256, *PLAIN, (302, 8))), set_(256, RECORD + b('Q', 5)))))
write('netflow', 'ipfix-population', session(ipfix(set_(3, b('HHHHHHHHHHHHH', 300, 5, 1, 302, 4, 304, 2, 309, 4, 310, 4, 305, 4)),
                                                   set_(300, b('IHIII', 5, 3, 1, 256, 1)), set_(2, template(256, *PLAIN)), set_(256, RECORD))))
write('netflow', 'ipfix-probability', session(ipfix(set_(3, b('HHHHHHH', 300, 2, 1, 149, 4, 311, 8)), set_(300, b('Id', 1, 0.001)))))
write('netflow', 'ipfix-zero-length', session(ipfix(set_(2, template(256, (1, 1), *[(500, 0)] * 60)), set_(256, bytes(200)))))
write('netflow', 'ipfix-events', session(ipfix(set_(2, template(256, *PLAIN, (233, 1))), set_(256, RECORD + b'\1'))))


# ---- packets ------------------------------------------------------------------------------------------------------
def ip4(protocol, payload, fragment=0x4000):
    return b('BBHHHBBH', 0x45, 0xb8, 20 + len(payload), 1, fragment, 64, protocol, 0) + bytes([198, 51, 100, 7, 203, 0, 113, 9]) + payload


def ip6(next_header, payload):
    return b('IHBB', 0x6b812345, len(payload), next_header, 64) + bytes(range(32)) + payload


UDP, TCP = b('HHHH', 53, 4242, 12, 0) + b'data', b('HHIIBBHHH', 443, 5555, 1, 2, 0x50, 0x12, 512, 0, 0)
MACS = bytes(range(12))
ETHER = MACS + b('H', 0x0800) + ip4(17, UDP)
LINKS = {'null': 0, 'ethernet': 1, 'ppp': 2, 'raw': 3, 'hdlc': 5, 'sll': 6, 'mpls': 7, 'sll2': 9}


def packet(name, link, frame, encapsulation=0, more=0):
    write('packet', name, bytes([LINKS[link], encapsulation, more]) + frame)


for name, tags in {'plain': '', 'q': '81000005', 'ad': '88a8000581000006', '9100': '91000005', '9200': '92000005', 'deep': '81000001' * 11,
                   'pbb': '88e70000' + '00' * 14}.items():
    packet('tags-' + name, 'ethernet', MACS + bytes.fromhex(tags) + ETHER[12:])
packet('mpls-2', 'ethernet', MACS + b('HII', 0x8847, 0x00010040, 0x00011140) + ip4(6, TCP))
packet('mpls-pseudowire', 'ethernet', MACS + b('HI', 0x8847, 0x00011140) + ETHER)
packet('mpls-control-word', 'ethernet', MACS + b('HII', 0x8847, 0x00011140, 0) + ETHER)
packet('mpls-bare', 'mpls', b('I', 0x00011140) + ip4(17, UDP))
packet('pppoe', 'ethernet', MACS + b('HBBHHH', 0x8864, 0x11, 0, 1, 34, 0x21) + ip4(17, UDP))
packet('null', 'null', bytes([2, 0, 0, 0]) + ip4(17, UDP))
packet('ppp', 'ppp', b'\xff\3\0\x21' + ip4(17, UDP))
packet('ppp-short', 'ppp', b'\x57' + ip6(17, UDP))
packet('raw-4', 'raw', ip4(17, UDP))
packet('hdlc', 'hdlc', bytes([15, 0, 8, 0]) + ip4(17, UDP))
packet('sll', 'sll', bytes(14) + b('H', 0x0800) + ip4(6, TCP))
packet('sll2', 'sll2', b('H', 0x86dd) + bytes(18) + ip6(6, TCP))
packet('fragment-first', 'raw', ip4(17, UDP, 0x2000))
packet('fragment-later', 'raw', ip4(17, UDP, 0x2005))
packet('fragment-last', 'raw', ip4(17, UDP, 0x0005))
packet('six-hop-ah-fragment', 'raw', ip6(0, bytes([51]) + bytes(7) + bytes([44, 4]) + bytes(22) + bytes([58, 0, 0, 1, 0, 0, 0, 9, 128, 0, 0, 0])))
packet('six-routing-destination', 'raw', ip6(43, bytes([60, 0]) + bytes(6) + bytes([17, 1]) + bytes(14) + UDP))
packet('six-later-fragment', 'raw', ip6(44, bytes([17, 0, 0, 0x29, 0, 0, 0, 9]) + UDP))
packet('six-no-next', 'raw', ip6(59, b''))
packet('big-tcp', 'raw', b('BBH', 0x45, 0, 0) + ip4(6, TCP)[4:], more=255)
packet('icmp', 'raw', ip4(1, bytes([8, 0, 0, 0])))
packet('options', 'raw', b('BBH', 0x4f, 0, 60 + 12) + ip4(17, UDP)[4:20] + bytes(40) + UDP)
packet('llc-snap', 'ethernet', MACS + b('H', 40) + bytes.fromhex('aaaa030000000800') + ip4(17, UDP))
packet('erspan-1', 'raw', ip4(47, b('HH', 0, 0x88be) + ETHER), 1)
packet('erspan-2', 'raw', ip4(47, b('HHI', 0x1000, 0x88be, 7) + bytes(8) + ETHER), 1)
packet('erspan-3', 'raw', ip4(47, b('HHI', 0x1000, 0x22eb, 7) + bytes(11) + b'\1' + bytes(8) + ETHER), 1)
packet('vxlan', 'raw', ip4(17, b('HHHH', 1, 4789, 0, 0) + bytes([8, 0, 0, 0, 0, 0, 7, 0]) + ETHER), 2)
packet('geneve', 'raw', ip4(17, b('HHHH', 1, 6081, 0, 0) + bytes([1, 0, 0x65, 0x58, 0, 0, 7, 0]) + bytes(4) + ETHER), 3)
packet('gre-key', 'raw', ip4(47, b('HHI', 0x2000, 0x6558, 7) + ETHER), 4)
packet('6in4', 'raw', ip4(41, ip6(17, UDP)), 4)


# ---- sFlow ----------------------------------------------------------------------------------------------------------
def opaque(data):
    return b('I', len(data)) + data + bytes(-len(data) % 4)


def record(number, body):
    return b('I', number) + opaque(body)


def header(protocol, frame, length=None):
    return record(1, b('III', protocol, length or len(frame) + 4, 4) + opaque(frame))


def flow(*records, output=2, rate=1000):
    return b('I', 1) + opaque(b('IIIIIIII', 9, 3, rate, 9000, 0, 1, output, len(records)) + b''.join(records))


def expanded(*records):
    return b('I', 3) + opaque(b('IIIIIIIIIII', 9, 0, 3, 1000, 9000, 0, 0, 1, 1, 7, len(records)) + b''.join(records))


def sflow(*samples, agent=b('II', 1, 0xc0000201)):
    return b('I', 5) + agent + b('IIII', 0, 7, 1000, len(samples)) + b''.join(samples)


FOUR = record(3, b('II', 60, 17) + bytes([198, 51, 100, 7, 203, 0, 113, 9]) + b('IIII', 53, 4242, 0, 0))
SIXTH = record(4, b('II', 80, 6) + bytes(range(32)) + b('IIII', 443, 4242, 2, 0))
COUNTERS = b('I', 2) + opaque(b('III', 1, 3, 1) + record(1, b('IIQII', 1, 6, 10 ** 9, 1, 3) + bytes(64)))
write('sflow', 'ethernet', sflow(flow(header(1, ETHER))))
write('sflow', 'bare', sflow(flow(header(11, ip4(17, UDP))), flow(header(12, ip6(17, UDP))), flow(header(13, b('I', 0x11140) + ip4(17, UDP)))))
write('sflow', 'ppp', sflow(flow(header(7, b'\xff\3\0\x21' + ip4(17, UDP)))))
write('sflow', 'sampled', sflow(flow(FOUR), flow(SIXTH), flow(header(1, ETHER), FOUR)))
write('sflow', 'expanded-discard', sflow(expanded(header(1, ETHER)), agent=b('I', 2) + bytes(range(16))))
write('sflow', 'discard', sflow(flow(header(1, ETHER), output=1 << 30 | 258)))
write('sflow', 'counters', sflow(COUNTERS, COUNTERS))
write('sflow', 'drop-monitor', sflow(b('I', 5) + opaque(b('IIIIIIII', 1, 0, 3, 0, 1, 0, 280, 1) + header(1, ETHER))))
write('sflow', 'bad-last', sflow(flow(header(1, ETHER)), flow(record(1, b'\0\0\0\1'))))
write('sflow', 'length-bomb', b('IIIIIIIII', 5, 1, 0x7f000001, 0, 1, 1, 1, 1, 100 << 20))

# ---- capture files --------------------------------------------------------------------------------------------------
OUTER = MACS + b('H', 0x0800) + ip4(17, b('HHHH', 9, 2055, 8 + len(v5(1)), 0) + v5(1))


def pcap(magic, order, frames, link=1):
    out = struct.pack(order + 'IHHIIII', magic, 2, 4, 0, 0, 65535, link)
    return out + b''.join(struct.pack(order + 'IIII', 1700000000, 5, len(f), len(f)) + f for f in frames)


def block(kind, body):
    body += bytes(-len(body) % 4)
    return struct.pack('<II', kind, 12 + len(body)) + body + struct.pack('<I', 12 + len(body))


write('capture', 'little', pcap(0xa1b2c3d4, '<', [ETHER, OUTER]))
write('capture', 'big-nano', pcap(0xa1b23c4d, '>', [OUTER]))
write('capture', 'raw', pcap(0xa1b2c3d4, '<', [OUTER[14:]], 101))
SECTION = block(0x0a0d0d0a, struct.pack('<IHHq', 0x1a2b3c4d, 1, 0, -1))
write('capture', 'ng', SECTION + block(1, struct.pack('<HHI', 1, 0, 0)) + block(1, struct.pack('<HHIHHB', 101, 0, 0, 9, 1, 9)) +
      block(6, struct.pack('<IIIII', 0, 1, 2, len(OUTER), len(OUTER)) + OUTER) + block(3, struct.pack('<I', len(OUTER)) + OUTER))
write('capture', 'cut', pcap(0xa1b2c3d4, '<', [ETHER, OUTER])[:-9])
