"""ExaBGP: has no table. What it receives goes as JSON into a log (exabgp_log.py), which is replayed here."""
import ipaddress
import json
import os
import re
import socket
import stat
import sys

import rule
from peer import OUR_ADDRESS, OUR_AS, Failed

PROGRAMS = {"exabgp": "exabgp", "python3": "python3"}
FAMILIES = {"ipv4 flow": "ipv4-flowspec", "ipv6 flow": "ipv6-flowspec", "ipv4 unicast": "ipv4", "ipv6 unicast": "ipv6"}
WORDS = {"destination-ipv4": "destination", "destination-ipv6": "destination", "source-ipv4": "source", "source-ipv6": "source",
         "next-header": "protocol", "traffic-class": "dscp"}
ICMP = {"echo-reply": 0, "unreachable": 3, "redirect": 5, "echo-request": 8, "time-exceeded": 11, "parameter-problem": 12}
FLAGS = {"push": "psh", "urgent": "urg"}
# Announced by exabgp-announcer.
RULES = """
flow {
  route r1 { match { destination 198.18.0.1/32; protocol udp; source-port =53; packet-length >1200&<1500; fragment [ is-fragment ]; } then { discard; } }
  route r2 { match { destination 198.18.0.2/32; protocol tcp; destination-port [ =80 =443 ]; tcp-flags [ syn ]; } then { rate-limit 12500; } }
  route r3 { match { destination 198.18.0.3/32; protocol udp; } then { redirect 203.0.113.9; } }
  route r4 { match { destination 2001:db8:18::1/128/0; next-header udp; } then { discard; } }
}
"""


def files(peer):
    script = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "exabgp_log.py")
    return {"exabgp.conf": f"""
process log {{
  run {sys.executable} {script} {peer.folder};
  encoder json;
}}
neighbor {OUR_ADDRESS} {{
  router-id {peer.identifier};
  local-address {peer.address};
  local-as {peer.asn};
  peer-as {OUR_AS};
  hold-time 90;
  passive true;
  listen {peer.port};
  family {{ ipv4 unicast; ipv6 unicast; ipv4 flow; ipv6 flow; }}
  api {{ processes [ log ]; neighbor-changes; receive {{ parsed; update; notification; open; }} }}
  {RULES if peer.announces else ""}
}}
"""}


def command(peer):
    import getpass
    settings = {"daemon.user": getpass.getuser(), "daemon.drop": "false", "tcp.bind": peer.address, "tcp.port": peer.port,
                "log.all": "true", "log.level": "INFO", "log.destination": "stdout", "api.cli": "false"}
    return ["env", *(f"exabgp.{name}={value}" for name, value in settings.items()), "exabgp", peer.file("exabgp.conf")]


def is_ready(peer):
    """Its helper runs: it made the pipe through which commands go."""
    return stat.S_ISFIFO(os.stat(peer.file("cmd")).st_mode)


def events(peer):
    try:
        with open(peer.file("rx.json"), errors="replace") as log:
            lines = log.readlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue  # the last line may be half written


def session(peer):
    states = [event["neighbor"].get("state") for event in events(peer) if event.get("type") == "state"]
    return {"up": "established", "connected": "connect"}.get(states[-1] if states else None, "idle")


def routes(peer, family):
    held = {}
    for event in events(peer):
        neighbour = event.get("neighbor", {})
        if event.get("type") == "state" and neighbour.get("state") in ("down", "connected"):
            held.clear()
        update = neighbour.get("message", {}).get("update", {}) if event.get("type") == "update" else {}
        for name, items in update.get("withdraw", {}).items():
            for item in items:
                held.pop(key(name, item), None)
        for name, hops in update.get("announce", {}).items():
            for hop, items in hops.items():
                attributes = of(update.get("attribute", {}), hop)
                for item in items:
                    held[key(name, item)] = attributes.route(FAMILIES[name], described(name, item))
    return [route for route in held.values() if route["family"] == family]


def key(name, item):
    components = described(name, item)
    return name, rule.text(components) if isinstance(components, dict) else components


def of(attribute, hop):
    ipv6 = []
    for name, value in attribute.items():
        # ExaBGP names attribute 25 by its number.
        if name.startswith("attribute-0x19") and (words := re.match(r"(redirect|copy)-to-nexthop-ietf (\S+)", str(value))):
            ipv6.append(bytes([0, 12]) + ipaddress.ip_address(words[2]).packed + bytes([0, words[1] == "copy"]))
    return rule.Held(extended=[item["value"].to_bytes(8, "big") for item in attribute.get("extended-community", [])], extended_ipv6=ipv6,
                     communities=[f"{high}:{low}" for high, low in attribute.get("community", [])],
                     large=[":".join(map(str, three)) for three in attribute.get("large-community", [])], next_hop=hop)


def described(name, item):
    if "flow" not in name:
        return rule.prefix(item["nlri"])
    # The line of text has the operators in full, the lists beside it do not.
    line = re.sub(r"unknown (?:protocol|icmp type|icmp code) type (\d+)", r"\1", item["string"].removeprefix("flow "))
    components = {}
    for word, value in re.findall(r"(\S+) (\[ .*? \]|\S+)", line):
        value, component = value.strip("[] "), WORDS.get(word, word)
        if component in ("destination", "source"):
            address, length, *offset = value.split("/")
            components[component] = rule.prefix(address, length, offset[0] if offset else 0)
        elif component in rule.BITS:
            components[component] = rule.bits(rule.BITS[component], masks(rule.BITS[component], value))
        elif component in rule.NUMBERS:
            components[component] = terms(component, value)
        elif word != "next-hop":
            components["unparsed"] = f"{word} {value}"
    return components


def terms(component, value):
    if re.search(r"(?:^|[ &])[0-9A-F]{2}", value):
        return f"unparsed {value}"  # an operator that ExaBGP has no word for
    pairs = []
    for join, word, number in re.findall(r"([& ])?(true|false|!=|>=|<=|>|<|=)([\w-]*)", value):
        if number and not number.isdigit():
            number = socket.getprotobyname(number) if component == "protocol" else ICMP.get(number)
            if number is None:
                raise Failed(f"ExaBGP's word in {component} {value} is not known here")
        pairs.append(((rule.AND if join == "&" else 0) | rule.COMPARISONS.index(word), int(number or 0)))
    return rule.numbers(pairs)


def masks(names, value):
    pairs = []
    for join, no, match, words in re.findall(r"([& ])?(!)?(=)?([a-z0-9][\w+-]*)", value):
        held = [int(word, 0) if word[0].isdigit() else 1 << names.index(FLAGS.get(word, word)) for word in words.split("+")]
        pairs.append(((rule.AND if join == "&" else 0) | (rule.NOT if no else 0) | (rule.MATCH if match else 0), sum(held)))
    return pairs
