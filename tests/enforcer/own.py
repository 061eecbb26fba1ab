"""Our own speaker: `floodwall run` announces random manual rules (`set flowspec '{...}'`) to `floodwall enforce`.

What a rule means is said here once more, from its JSON to operators of RFC 8955, so that the way from JSON to octets is judged too.
"""
import json
import os
import random
import struct
import subprocess

import flowspec as fs
from world import V4, V6, counted_by, wait

FIELDS = {3: "protocols", 4: "ports", 5: "destination_ports", 6: "source_ports", 7: "icmp_types", 8: "icmp_codes", 10: "packet_lengths", 11: "dscps",
          13: "flow_labels"}
TOP = {3: 0xff, 4: 0xffff, 5: 0xffff, 6: 0xffff, 7: 0xff, 8: 0xff, 10: 0xffff, 11: 0x3f, 13: 0xfffff}
FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128}
FRAGMENTS = {"dont-fragment": 1, "is-fragment": 2, "first-fragment": 4, "last-fragment": 8}


def numbers(rng, kind):
    """A list of the JSON form, and its operators: items are joined by OR."""
    items, ops = [], []
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 6])):
        a, b = sorted((fs.value_of(rng, kind), fs.value_of(rng, kind)))
        form = rng.choice(["=", "=", "=", "range", ">=", "<=", "!", "!range"])
        if form == "!range" and (a == 0 or b == TOP[kind]):
            form = "range"
        items.append({"=": a, "range": f"{a}-{b}", ">=": f">={a}", "<=": f"<={b}", "!": f"!{a}", "!range": f"!{a}-{b}"}[form])
        ops += {"=": [(False, 0, 0, 1, a)], "range": [(False, 0, 1, 1, a), (True, 1, 0, 1, b)], ">=": [(False, 0, 1, 1, a)], "<=": [(False, 1, 0, 1, b)],
                "!": [(False, 1, 1, 0, a)], "!range": [(False, 1, 0, 0, a), (False, 0, 1, 0, b)]}[form]
    return items, ops


def bits(rng, names):
    """Items joined by OR; `|` joins by AND, `!` negates, any() and all() test several at once."""
    items, ops = [], []
    for _ in range(rng.choice([1, 1, 2])):
        words = []
        for i in range(rng.choice([1, 1, 2, 3])):
            chosen = rng.sample(sorted(names), rng.choice([1, 1, 1, 2, 3]))
            kind, negate = rng.choice(["any", "all"]), rng.random() < 0.4
            words.append("!" * negate + (chosen[0] if len(chosen) == 1 else f"{kind}({'+'.join(chosen)})"))
            ops.append((i > 0, negate, len(chosen) == 1 or kind == "all", sum(names[n] for n in chosen)))
        items.append("|".join(words))
    return items, ops


def random_rule(rng, version):
    lengths = [24, 28, 31, 32, 32, 32] if version == 4 else [48, 64, 120, 127, 128, 128]
    c = {1: fs.random_prefix(rng, version, fs.DESTINATIONS[version], lengths)}
    said = {"destination_prefix": fs.prefix_text(version, c[1])}
    if rng.random() < 0.3:
        c[2] = fs.random_prefix(rng, version, fs.SOURCES[version], lengths)
        said["source_prefix"] = fs.prefix_text(version, c[2])
    kinds = [3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] + [13] * (version == 6)
    for kind in set(rng.sample(kinds, rng.choice([1, 1, 2, 2, 3]))):
        if kind in FIELDS:
            said[FIELDS[kind]], c[kind] = numbers(rng, kind)
        elif kind == 9:
            said["tcp_flags"], c[9] = bits(rng, FLAGS)
        else:
            said["fragmentation_flags"], c[12] = bits(rng, FRAGMENTS)
    said["action_type"] = "discard" if rng.random() < 0.75 else "accept"
    return {"version": version, "components": c, "action": said["action_type"], "said": said}


def by_bgp(lab, profile):
    """Our own session with the enforcer."""
    return f'''
[bgp.router]
local_asn = 65001
local_address = "127.0.0.1"
router_id = "192.0.2.254"
remote_asn = 65100
remote_address = "127.0.0.1"
remote_port = 1179
profile = "{profile}"
flowspec_max_rules = 5000
''', ""


def by_exabgp(lab, _):
    """ExaBGP's text on a pipe, into a real ExaBGP."""
    pipe = lab.path("exabgp.cmd")
    os.mkfifo(pipe)
    feed = lab.path("feed", f"#!/bin/sh\nwhile true; do cat {pipe}; done\n")
    os.chmod(feed, 0o755)
    text = lab.path("exabgp.conf", f'''
process feed {{ run {feed}; encoder text; }}
neighbor 127.0.0.1 {{
    router-id 10.255.0.12;
    local-address 127.0.0.12;
    local-as 65012;
    peer-as 65100;
    connect 1179;
    family {{ ipv4 flow; ipv6 flow; }}
    api {{ processes [ feed ]; }}
}}
''')
    lab.start("exabgp", "exabgp", text, env={**os.environ, "exabgp.daemon.user": "root", "exabgp.daemon.drop": "false", "exabgp.tcp.bind": "",
                                             "exabgp.log.destination": "stdout", "exabgp.api.cli": "false", "exabgp.api.ack": "false"})
    return "", f'exabgp = true\nexabgp_command_pipe = "{pipe}"'


def own_speaker(lab, args):
    """`floodwall run` announces random manual rules under several router profiles, and through ExaBGP: packets are dropped exactly as they say."""
    lab.enforce(lab.config([("detector", 65001, "127.0.0.1", ""), ("exabgp", 65012, "127.0.0.12", "")]))

    def config(profile):
        peers, main = (by_exabgp if profile == "exabgp-text" else by_bgp)(lab, profile)
        return lab.path("run.toml", f'''
[main]
networks_list = ["{V4}", "{V6}"]
flow_spec_execute_validation = false
max_rules = 1000
{main}
{peers}
[api]
listen = "127.0.0.1:10107"
''')
    control = lab.path("control.sock")

    def words(*words):
        return subprocess.run([lab.floodwall, words[0], "--json", *words[1:]], capture_output=True, text=True, env={**os.environ, "FLOODWALL_SOCKET": control})
    rng = random.Random(args.seed)
    out, into = lab.packet_socket("att", "a0", False), lab.packet_socket("vic", "v0", True)
    total = mismatches = 0
    for turn, profile in enumerate(args.profiles.split(",")):
        daemon = lab.start(f"run-{profile}", lab.floodwall, "run", "--config", config(profile), "--socket", control, "--state-dir", lab.path(f"state-{turn}"))
        name = "exabgp" if profile == "exabgp-text" else "detector"
        wait("the session", lambda: any(p["name"] == name and p["state"] == "established" for p in (lab.status() or {"peers": []})["peers"]), 40,
             lambda: lab.log(f"run-{profile}")[-2000:] + lab.log("enforcer")[-2000:])
        sent = 0
        while sent < args.packets:
            rules, refused = [], {}
            for rule in [random_rule(rng, rng.choice([4, 6])) for _ in range(args.rules * 2)]:
                done = words("set", "flowspec", json.dumps(rule["said"]))
                if done.returncode == 0:
                    rules.append({**rule, "id": json.loads(done.stdout)["id"]})
                else:
                    reason = done.stderr.strip().split("\n")[0]
                    refused[reason] = refused.get(reason, 0) + 1
            # The rule of this turn, announced last: when it stands, all do.
            mark = {"destination_prefix": "2001:db8::ff08/128", "destination_ports": [sent + 1], "protocols": ["udp"], "action_type": "accept"}
            done = words("set", "flowspec", json.dumps(mark))
            assert done.returncode == 0, (done.stderr, refused)
            held = settled(lab, f"2001:db8::ff08/128 protocol udp destination-port {sent + 1}")
            # What a profile cannot say is not announced, and that is shown.
            unsaid = {m["id"]: m["not_sent"]["router"] for m in json.loads(words("show", "flowspec").stdout) if m["not_sent"]}
            kept = list({r["id"]: r for r in rules if r["id"] not in unsaid}.values())
            never = [r["rule"] for r in held["rules"] if r["state"] != "installed" and "exclude each other" not in (r["reason"] or "")]
            assert not never, never
            assert len(kept) >= args.rules / 2, (len(kept), refused, unsaid)
            packets, expected = [], set()
            for _ in range(min(args.packets, 400)):
                rule = rng.choice(kept)
                tag = b"FW" + struct.pack("!HI", rng.randrange(65536), len(packets))
                packet = fs.random_packet(rng, rule, tag)
                hits = [r for r in kept if fs.matches(r, fs.parse(packet))]
                packets.append((tag, packet, hits))
                # An accept behind a rule that drops is refused when it is ordered (RFC 8955 section 5.1): so an accept wins.
                if not hits or any(r["action"] == "accept" for r in hits):
                    expected.add(tag)
            arrived = lab.send([p for _, p, _ in packets], out, into)
            wrong = [(p, h) for t, p, h in packets if (t in arrived) != (t in expected)]
            for packet, hits in wrong[:3]:
                print(f"MISMATCH {profile}: {fs.parse(packet)} {[h['said'] for h in hits]} {counted_by(lab, packet, out, into)}")
            print(f"own speaker, profile {profile}: {len(kept)} rules as {len(held['rules']) - 1} routes, {sum(refused.values())} refused by rails, {len(unsaid)} by the "
                  f"profile; {len(packets)} packets, {len(packets) - len(expected)} to be dropped, {len(wrong)} mismatches")
            mismatches += len(wrong)
            sent += len(packets)
            assert words("delete", "flowspec", "all").returncode == 0
            lab.wait_rules(0)
        total += sent
        daemon.terminate()
        daemon.wait(15)
    print(f"own speaker: {total} pairs, {mismatches} mismatches")
    return mismatches == 0


def settled(lab, mark):
    """The status once the mark stands and nothing changes any more."""
    before = [None]

    def look():
        status = lab.status()
        now = [(r["id"], r["state"]) for r in status["rules"]] if status else None
        stands = now and any(r["rule"].endswith(mark) for r in status["rules"]) and all(s != "pending" for _, s in now)
        same = stands and now == before[0]
        before[0] = now
        return status if same else None
    return wait(f"the rule {mark}", look, 30, lambda: "\n".join(r["rule"] for r in (lab.status() or {"rules": []})["rules"]))

