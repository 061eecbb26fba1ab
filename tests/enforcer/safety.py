"""Checks of what keeps an announcing daemon safe: the ladder, the mass-alarm breaker, a lying exporter, two daemons on one router."""
import ipaddress
import json
import random
import re
import signal
import socket
import struct
import time

import flowspec as fs
from daemon import ATTACK, ORDINARY, VICTIM, Traffic, established, ntp, peer, run_config, start_daemon
from world import V4, udp, wait

FLOOD = b"flood!!!"
# Hosts alone are looked at (the default): many of them in one prefix would be one attack on the prefix.
HOSTS_ALONE = "ban_for_prefix_pps = false\nban_for_prefix_bandwidth = false"


def inseparable(rng, victim, count=3000):
    """Any protocol, any ports, any length, from anywhere: no rule covers it."""
    packets = []
    for _ in range(count):
        protocol = rng.choice([p for p in range(2, 250) if p not in (41, 43, 44, 50, 51, 58, 60)])
        body = bytes(rng.randrange(256) for _ in range(20)) + bytes(rng.randrange(1200)) + FLOOD
        head = struct.pack("!BBHHHBBH", 0x45, rng.choice([0, 0, 32, 72]), 20 + len(body), 7, 0, rng.randrange(40, 250), protocol, 0)
        head += (rng.randrange(11, 100) << 24 | rng.randrange(1 << 24)).to_bytes(4, "big") + victim.to_bytes(4, "big")
        packets.append(head[:10] + struct.pack("!H", fs.checksum(head)) + head[12:] + body)
    return packets


def rtbh_router(lab):
    """BIRD makes kernel routes of what is announced with BLACKHOLE (RFC 7999)."""
    lab.exec("ip", "addr", "add", "10.9.1.3/24", "dev", "r1")
    config = lab.path("rtbh.conf", f'''
log "{lab.dir}/birdlog.log" all;
router id 10.255.0.11;
protocol device {{ }}
protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}
protocol bgp lab {{
  local 10.9.1.3 port 1791 as 65011;
  neighbor 10.9.1.2 as 65001;
  multihop 2;
  passive on;
  strict bind on;
  error wait time 1, 1; error forget time 1;
  ipv4 {{ import filter {{ if (65535, 666) ~ bgp_community then {{ dest = RTD_BLACKHOLE; accept; }} reject; }}; export none; }};
}}
''')
    lab.start("bird", "bird", "-f", "-c", config, "-s", lab.path("bird.ctl"))


def ladder(lab, args):
    """Discard does not help against the whole attack: it escalates to a blackhole, which hides the attack's end, so it is probed for; in the end all goes.

    The daemon stands behind the router and sees what the router lets through.
    """
    own = args.rtbh == "enforcer"
    config = lab.config([("detector", 65001, "10.9.1.2", "blackholes = true" if own else "")])
    lab.enforce(lab.path("enforcer.toml", open(config).read().replace("127.0.0.1:1179", "10.9.1.1:1179")))
    peers = peer("filter", 65100, "10.9.1.2", "10.9.1.1", 1179, "" if own else "ipv4_unicast = false\nipv6_unicast = false")
    if not own:
        rtbh_router(lab)
        peers += peer("rtbh", 65011, "10.9.1.2", "10.9.1.3", 1791, "ipv4_flowspec = false\nipv6_flowspec = false\nipv6_unicast = false")
    main = "ban_time = 8\nattack_end_delay = 2\nblackhole_after = 3\nprobe_time = 5"
    # Twice the threshold arrives: this group wants a blackhole already there (decision 33).
    _, words = start_daemon(lab, run_config(lab, "tap", peers, main, group="blackhole_pps = 1500"), ns="vic")
    wait("the sessions", lambda: words("show", "bgp").lower().count("established") >= (1 if own else 2), 30, lambda: words("show", "bgp") + lab.log("run"))
    installed = lambda: [r["rule"] for r in lab.status()["rules"] if r["state"] == "installed"]
    everything = "flow destination 203.0.113.9/32"
    blackholed = lambda: everything in installed() if own else "203.0.113.9" in lab.exec("ip", "route", "show", "type", "blackhole")
    rules = lambda: [rule for rule in installed() if rule != everything]
    events = lambda: [line["event"] for line in json.loads(words("show", "flowspec", "history", "--json") or "[]")]
    said = lambda: f"{words('show', 'flowspec', 'history')}\n{words('show', 'attacks')}\n{rules()}\n{lab.log('run')[-4000:]}"

    traffic = Traffic(lab)
    traffic.add(FLOOD, inseparable(random.Random(args.seed), VICTIM))
    other = VICTIM + 11
    traffic.add(b"neighbor", [udp(fs.SOURCES[4] + i % 40, other, 20000 + i, 443, b"neighbor" + bytes(300 + i % 500)) for i in range(200)])
    traffic.start(b"neighbor", 200, 90)
    traffic.watch(2)
    begin = time.monotonic()
    at = lambda: time.monotonic() - begin
    vectors = [traffic.start(kind, 3000, 60) for kind in (ATTACK, FLOOD)]

    traffic.watch_until("a rule that discards", lambda: any("source-port 123" in r or "192.0.2.0" in r for r in rules()), 10, said)
    print(f"{at():4.1f} s: discards {rules()}; the flood goes on")
    first = rules()
    traffic.watch_until("the blackhole", blackholed, 15, said)
    escalated = at()
    print(f"{escalated:4.1f} s: blackholed; events {events()}")
    assert "escalate" in events() and len(first) >= 1 and escalated > 3, said()
    traffic.watch(1)
    quiet = time.monotonic()
    traffic.watch(2)
    leak = traffic.arrived(ATTACK, quiet) + traffic.arrived(FLOOD, quiet)
    assert not leak, f"{len(leak)} attack packets in spite of the blackhole"

    # The attack cannot be seen any more: after ban_time it is looked for, found, and the blackhole is back.
    probed = time.monotonic()
    traffic.watch_until("the probe", lambda: "is still there: its routes are back" in lab.log("run"), 25, said)
    traffic.watch_until("the blackhole after the probe", blackholed, 5, said)
    traffic.watch(1)
    passed = traffic.arrived(FLOOD, probed)
    print(f"{at():4.1f} s: probed, found, and blackholed again; {len(passed)} flood packets passed within {max(passed, default=0) - min(passed, default=0):.2f} s; "
          f"events {events()}")
    assert passed and max(passed) - min(passed) < 1, said()

    for vector in vectors:
        vector.terminate()
    ended = at()
    print(f"{ended:4.1f} s: the attack ends")
    traffic.watch_until("the end of everything", lambda: not blackholed() and not rules() and not json.loads(words("show", "blackhole", "--json") or "[0]"), 40, said)
    print(f"{at():4.1f} s: nothing is left")
    traffic.watch(6)
    assert not blackholed() and not rules(), said()
    calm = traffic.arrived(b"neighbor", begin, begin + ended)
    assert len(calm) / ended > 0.95 * 200, f"neighbour: {len(calm) / ended:.0f} packets/s of 200"
    print(f"the neighbour's traffic: {len(calm) / ended:.0f} of 200 packets/s; events {events()}")
    return True


def mass_alarm(lab, args):
    """Sixty hosts are over their thresholds at once: one clear alarm; each gets the rule that separates its attack, blackholes wait; operators' orders go on."""
    lab.enforce(lab.config([("detector", 65001, "127.0.0.1", "")]))
    _, words = start_daemon(lab, run_config(lab, "mirror", peer(), networks=f'"{V4}"', threshold=100, group=HOSTS_ALONE + "\nblackhole_pps = 100"))
    established(lab)
    traffic = Traffic(lab)
    # One more, whom no rule helps: to be blackholed, but for the mass alarm (decision 31).
    traffic.add(FLOOD, inseparable(random.Random(args.seed), VICTIM + 100))
    many = [packets for group in zip(*(ntp(VICTIM + i, 200) for i in range(60))) for packets in group]
    traffic.add(ATTACK, many)
    traffic.start(ATTACK, 18000, 20)
    traffic.watch_until("the alarm", lambda: "MASS ALARM" in lab.log("run"), 10, lambda: lab.log("run")[-3000:])
    traffic.start(FLOOD, 2000, 16)
    rules = lambda: [r for r in lab.status()["rules"] if "203.0.113" in r["rule"]]
    traffic.watch_until("the rules", lambda: len(rules()) >= 60, 12, lambda: f"{len(rules())} rules\n{lab.log('run')[-3000:]}")
    waits = lambda: [m for m in json.loads(words("show", "blackhole", "--json")) if m["dry_run"] == "breaker"]
    traffic.watch_until("the blackhole that waits", lambda: waits(), 14, lambda: lab.log("run")[-3000:])
    attacks = json.loads(words("show", "attacks", "--json"))
    alarms = lab.log("run").count("MASS ALARM")
    print(f"{len(attacks)} targets, {len(rules())} rules at the router, {len(waits())} blackhole held back by the breaker, {alarms} alarm")
    assert alarms == 1 and len(attacks) > 50 and [m["prefix"] for m in waits()] == [f"203.0.113.{(VICTIM + 100) % 256}/32"], lab.log("run")[-3000:]
    assert words("set", "flowspec", '{"destination_prefix": "203.0.113.200/32", "protocols": ["udp"], "action_type": "discard"}')
    wait("the operator's rule", lambda: any("203.0.113.200" in r["rule"] for r in lab.status()["rules"]), 10)
    print("an operator's rule is announced all the same")
    return True


def sflow_datagram(number, samples, first, pool, announced):
    """sFlow version 5 with flow samples of raw headers, and the pool as it really grew."""
    out = struct.pack("!II4sIIII", 5, 1, bytes([127, 0, 0, 1]), 0, number, number * 10, len(samples))
    for i, packet in enumerate(samples):
        frame = bytes(12) + b"\x08\x00" + packet
        header = frame[:128] + bytes(-len(frame[:128]) % 4)
        record = struct.pack("!IIIIII", 1, 16 + len(header), 1, len(frame), 4, len(frame[:128])) + header
        body = struct.pack("!IIIIIIII", first + i, 1, announced, pool(first + i), 0, 1, 2, 1) + record
        out += struct.pack("!II", 1, len(body)) + body
    return out


def lying_exporter(lab, args):
    """An exporter announces 1:5000 and samples 1:50: ordinary traffic looks like attacks. What rests on the announced rate waits for approval,
    with one clear alarm; an attack that another exporter tells of is answered meanwhile (decision 29)."""
    lab.enforce(lab.config([("detector", 65001, "127.0.0.1", "")]))
    _, words = start_daemon(lab, run_config(lab, "sflow", peer(), networks=f'"{V4}"', group=HOSTS_ALONE))
    established(lab)
    with lab.inside("rtr"):
        liar, honest = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    honest.bind(("127.0.0.2", 0))
    # Fewer targets than make a mass alarm; at 1:50 each gets 1000 packets/s, at 1:5000 it would be 100000.
    packets = [udp(fs.SOURCES[4] + i % 40, VICTIM + i % 20, 123, 30000 + i, bytes(400)) for i in range(400)]
    flood = [udp(fs.SOURCES[4] + i % 40, VICTIM + 30, 19, 30000 + i, bytes(900)) for i in range(400)]
    sent = number = 0
    begin = time.monotonic()
    while time.monotonic() - begin < 12:
        number += 1
        five = lambda of: [of[(sent + i) % 400] for i in range(5)]
        liar.sendto(sflow_datagram(number, five(packets), sent, lambda n: n * 50, 5000), ("127.0.0.1", 6343))
        if time.monotonic() - begin > 4:
            honest.sendto(sflow_datagram(number, five(flood), sent, lambda n: n * 50, 50), ("127.0.0.1", 6343))
        sent += 5
        time.sleep(max(0, begin + sent / 400 - time.monotonic()))
    alarms = lab.log("run").count("SUSPECT EXPORTER")
    attacks = json.loads(words("show", "attacks", "--json"))
    waiting = [m for m in json.loads(words("show", "flowspec", "--json")) if m["dry_run"] == "doubted"]
    rules = [r["rule"] for r in lab.status()["rules"]]
    exporters = words("show", "exporters")
    print(f"{sent} samples; {len(attacks)} targets look attacked, {len(waiting)} rules wait for approval, at the router {rules}; {alarms} alarm")
    victim = str(ipaddress.ip_address(VICTIM + 30))
    assert alarms == 1 and len(attacks) > 10 and waiting and "50" in exporters, lab.log("run")[-3000:] + exporters
    assert rules and all(victim in rule for rule in rules), rules
    return True


def twins(lab, args):
    """Two daemons with the same configuration announce to one router; one is killed in the middle of an attack: no gap, no conflict."""
    more = [("one", 65001, "127.0.0.1", ""), ("two", 65001, "127.0.0.2", "")]
    lab.enforce(lab.config(more))
    daemons = []
    for name, address in (("one", "127.0.0.1"), ("two", "127.0.0.2")):
        # Without graceful restart the router drops the dead daemon's rules at once: the other's have to hold.
        config = run_config(lab, "mirror", peer(local=address, more="graceful_restart_time = 0"), name=name)
        daemons.append(start_daemon(lab, config, name=name)[0])
    wait("both sessions", lambda: (lambda s: s and all(p["state"] == "established" for p in s["peers"]))(lab.status()), 30, lambda: lab.log("enforcer"))
    traffic = Traffic(lab)
    traffic.start(ORDINARY, 300, 14)
    traffic.watch(2)
    traffic.start(ATTACK, 4000, 10)
    rule = lambda: [r for r in lab.status()["rules"] if r["state"] == "installed"]
    traffic.watch_until("a rule of both", lambda: any(r["also"] for r in rule()), 8, lambda: str(lab.status()))
    traffic.watch(1)
    before = rule()
    killed = time.monotonic()
    daemons[0].send_signal(signal.SIGKILL)
    daemons[0].wait()
    traffic.watch_until("the end of its session", lambda: any(p["state"] != "established" for p in lab.status()["peers"]), 10)
    traffic.watch(4)
    gap = traffic.arrived(ATTACK, killed - 0.5)
    after = rule()
    malformed = sum(p["malformed"] for p in lab.status()["peers"])
    refused = [r for r in lab.status()["rules"] if r["state"] != "installed"]
    print(f"rules before {[(r['rule'], r['peer'], r['also']) for r in before]}, after {[(r['rule'], r['peer'], r['also']) for r in after]}; "
          f"{len(gap)} attack packets passed from 0.5 s before the kill on; {malformed} malformed, {len(refused)} refused")
    traffic.finish()
    assert not gap and after and not malformed and not refused
    assert all(re.match("two", r["peer"]) and not r["also"] for r in after), after
    ordinary = len(traffic.arrived(ORDINARY)) / traffic.sent[ORDINARY]
    assert ordinary == 1, ordinary
    return True
