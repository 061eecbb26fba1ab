"""BIRD 2: a configuration of its own language, asked by birdc as text."""
import ipaddress
import re
import struct

import rule
from peer import OUR_ADDRESS, OUR_AS, OUR_LISTEN, PASSWORD, ask

PROGRAMS = {"bird": "bird2", "birdc": "bird2"}
TABLES = {"ipv4-flowspec": "f4", "ipv6-flowspec": "f6", "ipv4": "master4", "ipv6": "master6"}
WORDS = {"dst": "destination", "src": "source", "proto": "protocol", "next header": "protocol", "port": "port",
         "dport": "destination-port", "sport": "source-port", "icmp type": "icmp-type", "icmp code": "icmp-code",
         "tcp flags": "tcp-flags", "length": "packet-length", "dscp": "dscp", "fragment": "fragment", "label": "flow-label"}
# Announced by bird-announcer.
RULES_4 = [
    ("dst 198.18.0.1/32; proto = 17; sport = 53; dport 1000..2000; length 1200..1500; fragment is_fragment;", 0x80060000, 0),
    ("dst 198.18.0.2/32; proto = 6; dport = 80 || = 443; tcp flags 0x02/0x12;", 0x80060000, 0x47F42400),
    ("dst 198.18.0.3/32; src 203.0.113.0/24; port > 1023 && < 2000; dscp 46;", 0x8008FDE9, 100),
    ("dst 198.18.0.4/32; proto = 1; icmp type 8; icmp code 0;", 0x80090000, 10),
]
RULES_6 = [
    ("dst 2001:db8:18::1/128; src 2001:db8:19::/48; next header = 17; dport = 53; label 5;", 0x80060000, 0),
    ("dst 2001:db8:18::2/128; src ::1234:5678:9800:0/101 offset 64; next header = 6;", 0x80060000, 0),
]


def files(peer):
    neighbour = f"{OUR_LISTEN[0]} port {OUR_LISTEN[1]}" if peer.active else OUR_ADDRESS
    options = ["connect delay time 1; connect retry time 2;" if peer.active else "passive on;",
               f'password "{PASSWORD}";' if peer.md5 else "", "multihop 1; ttl security on;" if peer.ttl else "multihop 2;"]
    export = {channel: f'export where proto = "{channel}own";' if peer.announces else "export none;" for channel in ("4", "6", "f4", "f6")}
    return {"bird.conf": f"""
log "{peer.file('bird.log')}" all;
router id {peer.identifier};
flow4 table f4;
flow6 table f6;
protocol device {{ }}
{announcements() if peer.announces else ""}
protocol bgp lab {{
  local {peer.address} port {peer.port} as {peer.asn};
  neighbor {neighbour} as {OUR_AS};
  strict bind on;
  {' '.join(options)}
  hold time 90; error wait time 1, 1; error forget time 1;
  ipv4 {{ import all; next hop self; {export["4"].replace("4own", "u4own")} }};
  ipv6 {{ import all; next hop address 2001:db8::1:1; {export["6"].replace("6own", "u6own")} }};
  flow4 {{ table f4; import all; {export["f4"]} }};
  flow6 {{ table f6; import all; {export["f6"]} }};
}}
"""}


def announcements():
    text = ""
    for version, host in (("4", "198.18.0.66/32"), ("6", "2001:db8:18::66/128")):
        text += f"protocol static u{version}own {{ ipv{version}; route {host} blackhole {{ bgp_community.add((65535, 666)); }}; }}\n"
    for version, rules in (("4", RULES_4), ("6", RULES_6)):
        lines = [f"  route flow{version} {{ {words} }} {{ bgp_ext_community.add((generic, {high:#x}, {low:#x})); }};" for words, high, low in rules]
        text += f"protocol static f{version}own {{ flow{version} {{ table f{version}; }};\n" + "\n".join(lines) + "\n}\n"
    return text


def command(peer):
    return ["bird", "-f", "-c", peer.file("bird.conf"), "-s", peer.file("bird.ctl"), "-P", peer.file("bird.pid")]


def birdc(peer, *words):
    return ask("birdc", "-s", peer.file("bird.ctl"), *words)


def is_ready(peer):
    return "up and running" in birdc(peer, "show", "status")


def session(peer):
    state = re.search(r"BGP state:\s+(\w+)", birdc(peer, "show", "protocols", "all", "lab"))
    return state[1].lower() if state else "idle"


def routes(peer, family):
    """A route begins at the margin (or with spaces, where it shares its prefix with the one above); its attributes are indented by a tab."""
    found, network = [], ""
    for line in birdc(peer, "show", "route", "all", "table", TABLES[family]).splitlines():
        head = None if line.startswith("\t") else re.match(r"(\S.*?)?\s+(?:(?:unicast|unreachable|blackhole|prohibit)\s+)?\[(\S+) [^\]]*\]", line)
        if head:
            network = head[1] or network
            found.append((network, head[2], {}))
        elif found and (attribute := re.match(r"\t(BGP\.\w+)(?: \[\w+\])?: (.*)", line)):
            found[-1][2][attribute[1]] = attribute[2]
    return [route(family, *each) for each in found]


def route(family, network, protocol, attributes):
    large = attributes.get("BGP.large_community", "")
    octets = bytes.fromhex(attributes.get("BGP.19", ""))  # attribute 25, in hexadecimal
    held = rule.Held(extended=extended(attributes.get("BGP.ext_community", "")),
                     extended_ipv6=[octets[at:at + 20] for at in range(0, len(octets) - 19, 20)],
                     communities=[":".join(pair) for pair in re.findall(r"\((\d+),(\d+)\)", attributes.get("BGP.community", ""))],
                     large=[":".join(three) for three in re.findall(r"\((\d+), (\d+), (\d+)\)", large)],
                     next_hop=attributes.get("BGP.next_hop", "").split(" ")[0], local=protocol != "lab")
    if not family.endswith("flowspec"):
        return held.route(family, rule.prefix(network))
    body = re.sub(r"^flow[46] \{|\}$", "", network).strip()
    # BIRD cuts what is longer than its line.
    return held.route(family, components(body.removesuffix("...")), truncated=body.endswith("..."))


def components(body):
    found = {}
    for part in filter(None, map(str.strip, body.split(";"))):
        words = max((words for words in WORDS if part.startswith(words + " ")), key=len, default=None)
        if words is None:
            found["unparsed"] = part
            continue
        name, value = WORDS[words], part[len(words):].strip()
        if name in ("destination", "source"):
            address, _, offset = value.partition(" offset ")
            found[name] = rule.prefix(address, offset=offset or 0)
        else:
            found[name] = rule.component(name, masks(value) if name in rule.BITS else terms(value))
    return found


def terms(value):
    """`1024..65535`, `53,123`, `> 1023 && < 2000`"""
    pairs = []
    for join, word, number, end in re.findall(r"(&&|\|\||,)?\s*(true|false|!=|>=|<=|>|<|=)?\s*(\d+)(?:\.\.(\d+))?", value):
        both = rule.AND if join == "&&" else 0
        if end:
            pairs += [(both | rule.COMPARISONS.index(">="), int(number)), (rule.AND | rule.COMPARISONS.index("<="), int(end))]
        else:
            pairs.append((both | rule.COMPARISONS.index(word or "="), int(number)))
    return pairs


def masks(value):
    """`0x2/0x12`: of the bits 0x12, 0x2 alone is set; `!0x0/0xe`: not none of them, which is any."""
    pairs = []
    for join, no, values, mask, name in re.findall(r"(&&|\|\||,)?\s*(!)?\s*(?:0x([0-9a-f]+)/0x([0-9a-f]+)|([a-z]+_fragment))", value):
        both = rule.AND if join == "&&" else 0
        if name:
            pairs.append((both | (rule.NOT if no else 0) | rule.MATCH, 1 << rule.FRAGMENT.index(name.replace("_", "-"))))
        elif int(values, 16) == 0:
            pairs.append((both | (0 if no else rule.NOT), int(mask, 16)))
        else:
            pairs.append((both | (rule.NOT if no else 0) | rule.MATCH, int(mask, 16)))
    return pairs


def extended(value):
    """`(generic, 0x80060000, 0x0)` has all octets; others name the type and split the rest as it demands."""
    found = []
    for kind, first, second in re.findall(r"\(([a-z]+(?: 0x[0-9a-f]+)?), ([^,]+), ([^)]+)\)", value):
        if kind == "generic":
            found.append(struct.pack(">II", int(first, 16), int(second, 16)))
            continue
        named = {"rt": 2, "ro": 3}.get(kind)
        number = int(kind.split()[1], 16) if named is None else named
        if "." in first:
            number |= 0 if named is None else 0x100
            found.append(struct.pack(">H", number) + ipaddress.ip_address(first).packed + struct.pack(">H", int(second)))
        elif number >> 8 & 63 == 2 or int(first) > 65535:
            number |= 0 if named is None else 0x200
            found.append(struct.pack(">HIH", number, int(first), int(second)))
        else:
            found.append(struct.pack(">HHI", number, int(first), int(second)))
    return found
