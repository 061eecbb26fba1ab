"""Real BGP speakers announce random rules: packets are dropped exactly as they say."""
import json
import os
import random
import struct
import subprocess

import flowspec as fs
from world import counted_by, wait


def announcers(lab, args):
    """The same rules from GoBGP, BIRD, ExaBGP over BGP, and ExaBGP's JSON on standard input: packets are dropped exactly as they say."""
    rng = random.Random(args.seed)
    total = mismatches = 0
    for name in ("gobgp", "bird", "exabgp", "exabgp-json"):
        rules = [fs.random_rule(rng, v, offsets=False) for v in (4, 6) for _ in range(args.rules)]
        rules = [r for r in rules if sayable(r)]
        unique = {}
        for rule in rules:
            rule["action"] = "discard"
            unique.setdefault((rule["version"], normal(rule)), rule)
        rules = list(unique.values())
        children = SPEAKERS[name](lab, rules)
        status = lab.wait_rules(len(rules), seconds=40)
        refused = [(r["rule"], r["reason"]) for r in status["rules"] if r["state"] != "installed" and "exclude each other" not in r["reason"]]
        assert not refused, refused
        out, into = lab.packet_socket("att", "a0", False), lab.packet_socket("vic", "v0", True)
        packets, expected = [], set()
        order = fs.ordered([r for r in rules if r["version"] == 4]) + fs.ordered([r for r in rules if r["version"] == 6])
        while len(packets) < args.packets:
            rule = rng.choice(rules)
            mark = b"FW" + struct.pack("!HI", rng.randrange(65536), len(packets))
            packet = fs.random_packet(rng, rule, mark)
            hits = [r for r in order if r["version"] == rule["version"] and fs.matches(r, fs.parse(packet))]
            # Speakers choose their own octets, so the order of rules with another action is theirs too.
            if len({r["action"] for r in hits}) > 1:
                continue
            packets.append((mark, packet, hits))
            if not hits or hits[0]["action"] == "accept":
                expected.add(mark)
        arrived = lab.send([p for _, p, _ in packets], out, into)
        wrong = [(p, h) for m, p, h in packets if (m in arrived) != (m in expected)]
        for packet, hits in wrong[:3]:
            print(f"MISMATCH {name}: {fs.parse(packet)} {hits[:1]} {counted_by(lab, packet, out, into)}")
        mismatches += len(wrong)
        total += len(packets)
        print(f"{name}: {len(rules)} rules, {len(packets)} packets, {len(packets) - len(expected)} to be dropped, {len(wrong)} mismatches")
        for child in children:
            child.terminate()
            child.wait(10)
        os.remove(lab.path("enforcer.log"))
    return mismatches == 0


def sayable(rule):
    """What the three programs' languages can say: no empty masks, no constants, no reserved bits."""
    for kind, ops in rule["components"].items():
        if kind <= 2:
            if ops[1] == 0:
                return False
        elif kind in (9, 12):
            if any(mask == 0 or mask > 0xff or (kind == 12 and rule["version"] == 6 and mask & 1) for _, _, _, mask in ops):
                return False
        elif any((lt, gt, eq) in ((0, 0, 0), (1, 1, 1)) for _, lt, gt, eq, _ in ops):
            return False
        elif len(ops) > 4:
            return False
    return 1 in rule["components"]


def normal(rule):
    return json.dumps(sorted(rule["components"].items()))


def comparison(op):
    _, lt, gt, eq, v = op
    return {(0, 0, 1): "=", (1, 0, 0): "<", (0, 1, 0): ">", (1, 0, 1): "<=", (0, 1, 1): ">=", (1, 1, 0): "!="}[lt, gt, eq] + str(v)


def joined(ops, text, either, both):
    out = ""
    for i, op in enumerate(ops):
        out += (both if op[0] and i else either if i else "") + text(op)
    return out


def enforce_peer(lab, name, asn, address, connect=True):
    port = {"gobgp": 1790, "bird": 1791, "exabgp": 1792}[name]
    more = f"connect = true\nremote_port = {port}\nlocal_address = \"127.0.0.1\"" if connect else ""
    return lab.enforce(lab.config([(name, asn, address, more)]))


def gobgp(lab, rules):
    """gobgpd and its command line."""
    config = lab.path("gobgpd.toml", '''
[global.config]
  as = 65010
  router-id = "10.255.0.10"
  port = 1790
  local-address-list = ["127.0.0.10"]
[[neighbors]]
  [neighbors.config]
    neighbor-address = "127.0.0.1"
    peer-as = 65100
  [neighbors.transport.config]
    passive-mode = true
    local-address = "127.0.0.10"
  [neighbors.ebgp-multihop.config]
    enabled = true
    multihop-ttl = 5
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "ipv4-flowspec"
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "ipv6-flowspec"
''')
    daemon = lab.start("gobgpd", "gobgpd", "-f", config, "--api-hosts", "127.0.0.1:50151", "--log-level", "info", "--pprof-disable")
    cli = ["gobgp", "-u", "127.0.0.1", "-p", "50151"]
    wait("gobgpd", lambda: subprocess.run(["ip", "netns", "exec", lab.ns["rtr"], *cli, "global"], capture_output=True).returncode == 0)
    kept = []
    flags = {1: "F", 2: "S", 4: "R", 8: "P", 16: "A", 32: "U", 64: "E", 128: "C"}
    frags = {1: "dont-fragment", 2: "is-fragment", 4: "first-fragment", 8: "last-fragment"}
    for rule in rules:
        words = ["match"]
        for kind, ops in sorted(rule["components"].items()):
            if kind <= 2:
                words += [("destination", "source")[kind - 1], fs.prefix_text(rule["version"], ops)]
            elif kind == 9:
                words += ["tcp-flags", joined(ops, lambda o: "!" * o[1] + "=" * o[2] + "".join(n for b, n in flags.items() if o[3] & b), " ", "&")]
            elif kind == 12:
                words += ["fragment", joined(ops, lambda o: "!" * o[1] + "=" * o[2] + "+".join(n for b, n in frags.items() if o[3] & b), " ", "&")]
            else:
                name = {3: "protocol", 4: "port", 5: "destination-port", 6: "source-port", 7: "icmp-type", 8: "icmp-code", 10: "packet-length",
                        11: "dscp", 13: "label"}[kind]
                words += [name, joined(ops, lambda o: comparison(o).replace("=", "==", 1) if comparison(o)[0] == "=" else comparison(o), " ", "&")]
        done = subprocess.run(["ip", "netns", "exec", lab.ns["rtr"], *cli, "global", "rib", "add", "-a", f"ipv{rule['version']}-flowspec", *words, "then", "discard"],
                              capture_output=True, text=True)
        if done.returncode == 0 and not done.stdout.strip():
            kept.append(rule)
    print(f"gobgp takes {len(kept)} of {len(rules)} rules")
    # What its command line does not take is not announced.
    rules[:] = kept
    return [daemon, enforce_peer(lab, "gobgp", 65010, "127.0.0.10")]


def bird(lab, rules):
    """BIRD with a static table; it names fragment bits one by one."""
    rules[:] = [r for r in rules if all(o[3] in (1, 2, 4, 8) for o in r["components"].get(12, []))]
    names = {1: "dont_fragment", 2: "is_fragment", 4: "first_fragment", 8: "last_fragment"}
    text = {4: "", 6: ""}
    for rule in rules:
        parts = []
        for kind, ops in sorted(rule["components"].items()):
            v6 = rule["version"] == 6
            if kind <= 2:
                parts.append(f"{('dst', 'src')[kind - 1]} {fs.prefix_text(rule['version'], ops)};")
            elif kind == 12:
                parts.append("fragment " + joined(ops, lambda o: "!" * o[1] + names[o[3]], " || ", " && ") + ";")
            elif kind == 9:
                parts.append("tcp flags " + joined(ops, bird_bits, " || ", " && ") + ";")
            else:
                name = {3: "next header" if v6 else "proto", 4: "port", 5: "dport", 6: "sport", 7: "icmp type", 8: "icmp code", 10: "length", 11: "dscp",
                        13: "label"}[kind]
                parts.append(f"{name} " + joined(ops, comparison, " || ", " && ") + ";")
        text[rule["version"]] += f"route flow{rule['version']} {{ {' '.join(parts)} }} {{ bgp_ext_community.add((generic, 0x80060000, 0x0)); }};\n"
    config = lab.path("bird.conf", f'''
log "{lab.dir}/birdlog.log" all;
router id 10.255.0.11;
flow4 table f4;
flow6 table f6;
protocol device {{ }}
protocol static sf4 {{ flow4 {{ table f4; }};
{text[4]}}}
protocol static sf6 {{ flow6 {{ table f6; }};
{text[6]}}}
protocol bgp lab {{
  local 127.0.0.11 port 1791 as 65011;
  neighbor 127.0.0.1 as 65100;
  multihop 2;
  passive on;
  strict bind on;
  error wait time 1, 1; error forget time 1;
  flow4 {{ table f4; import none; export all; }};
  flow6 {{ table f6; import none; export all; }};
}}
''')
    daemon = lab.start("bird", "bird", "-f", "-c", config, "-s", lab.path("bird.ctl"))
    return [daemon, enforce_peer(lab, "bird", 65011, "127.0.0.11")]


def bird_bits(op):
    _, negate, all_bits, mask = op
    return f"{'!' if negate else ''}{mask:#x}/{mask:#x}" if all_bits else f"{'' if negate else '!'}0x0/{mask:#x}"


def exabgp_flow(rule):
    names = {3: "protocol", 4: "port", 5: "destination-port", 6: "source-port", 7: "icmp-type", 8: "icmp-code", 9: "tcp-flags", 10: "packet-length",
             11: "dscp", 12: "fragment", 13: "flow-label"}
    flags = {1: "fin", 2: "syn", 4: "rst", 8: "push", 16: "ack", 32: "urg", 64: "ece", 128: "cwr"}
    frags = {1: "dont-fragment", 2: "is-fragment", 4: "first-fragment", 8: "last-fragment"}
    parts = []
    for kind, ops in sorted(rule["components"].items()):
        v6 = rule["version"] == 6
        if kind <= 2:
            parts.append(f"{('destination', 'source')[kind - 1]} {fs.prefix_text(rule['version'], ops)}{'/0' if v6 else ''};")
            continue
        name = {3: "next-header", 11: "traffic-class"}.get(kind, names[kind]) if v6 else names[kind]
        if kind in (9, 12):
            bits = flags if kind == 9 else frags
            said = joined(ops, lambda o: "!" * o[1] + "=" * o[2] + "+".join(n for b, n in bits.items() if o[3] & b), " ", "&")
        else:
            said = joined(ops, comparison, " ", "&")
        parts.append(f"{name} [ {said} ];")
    return f"match {{ {' '.join(parts)} }} then {{ {rule['action']}; }}"


def one_bit(rules):
    """ExaBGP names one bit per test."""
    rules[:] = [r for r in rules if all(bin(o[3]).count("1") == 1 for k in (9, 12) for o in r["components"].get(k, []))
                and not (r["version"] == 6 and 12 in r["components"])]


def exabgp_config(lab, rules, name, local, port, own, peer, run=""):
    flow = "".join(f"route r{i} {{ {exabgp_flow(rule)} }}\n" for i, rule in enumerate(rules))
    return lab.path(name, f'''
{run}
neighbor {peer} {{
    router-id 10.255.0.12;
    local-address {local};
    local-as {own};
    peer-as {65100 if own == 65012 else 65012};
    hold-time 90;
    passive true;
    listen {port};
    family {{ ipv4 flow; ipv6 flow; }}
    {"api { processes [ enforce ]; neighbor-changes; receive { parsed; update; } }" if run else ""}
    flow {{
{flow}    }}
}}
''')


def exabgp(lab, rules):
    """ExaBGP over BGP."""
    one_bit(rules)
    config = exabgp_config(lab, rules, "exabgp.conf", "127.0.0.12", 1792, 65012, "127.0.0.1")
    return [start_exabgp(lab, "exabgp", config, "127.0.0.12", 1792), enforce_peer(lab, "exabgp", 65012, "127.0.0.12")]


def start_exabgp(lab, name, config, address, port):
    env = {**os.environ, "exabgp.daemon.user": "root", "exabgp.daemon.drop": "false", "exabgp.tcp.bind": address, "exabgp.tcp.port": str(port),
           "exabgp.log.destination": "stdout", "exabgp.api.cli": "false"}
    return lab.start(name, "exabgp", config, env=env)


def exabgp_json(lab, rules):
    """ExaBGP runs the enforcer and hands it what a second ExaBGP announces."""
    one_bit(rules)
    # The JSON does not say an IPv6 prefix length as the wire does, nor reserved names; what it says is enough here.
    first = exabgp_config(lab, rules, "exabgp1.conf", "127.0.0.12", 1792, 65012, "127.0.0.1").strip()
    text = open(first).read().replace("passive true", "passive false").replace("listen 1792", "connect 1793").replace("neighbor 127.0.0.1", "neighbor 127.0.0.13")
    first = lab.path("exabgp1.conf", text)
    config = lab.config([("exabgp", 65012, "127.0.0.12", "")], 'feed = "exabgp"')
    wrapper = lab.path("run-enforcer", f"#!/bin/sh\nexec {lab.floodwall} enforce --config {config} --socket {lab.path('enforcer.sock')} 2>> {lab.path('enforcer.log')}\n")
    os.chmod(wrapper, 0o755)
    run = f"process enforce {{ run {wrapper}; encoder json; }}"
    second = exabgp_config(lab, [], "exabgp2.conf", "127.0.0.13", 1793, 65100, "127.0.0.12", run)
    children = [start_exabgp(lab, "exabgp2", second, "127.0.0.13", 1793)]
    wait("the enforcer", lambda: os.path.exists(lab.path("enforcer.log")) and "enforcing" in lab.log("enforcer"), 20)
    children.append(start_exabgp(lab, "exabgp1", first, "127.0.0.12", 1792))
    return children


SPEAKERS = {"gobgp": gobgp, "bird": bird, "exabgp": exabgp, "exabgp-json": exabgp_json}
