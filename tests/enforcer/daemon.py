"""Checks of `floodwall run` and packet filters together: telemetry in, an attack stopped at the router."""
import ipaddress
import json
import os
import re
import select
import subprocess
import time

import flowspec as fs
from world import V4, V6, capture, udp, wait

VICTIM = (203 << 24) + (113 << 8) + 9
ATTACK, ORDINARY = b"attack!!", b"ordinary"


class Traffic:
    """Ordinary traffic and an NTP reflection to one host, of known numbers; what arrives at the victim, and when."""

    def __init__(self, lab):
        self.lab, self.seen, self.running = lab, [], []
        self.into = lab.packet_socket("vic", "v0", True)
        self.files, self.sent = {}, {}
        self.add(ORDINARY, [udp(fs.SOURCES[4] + i % 40, VICTIM, 20000 + i, 443, ORDINARY + bytes(300 + i % 500)) for i in range(200)])
        self.add(ATTACK, ntp(VICTIM))

    def add(self, kind, packets):
        """Packets whose first eight octets behind a UDP header, or last eight, are `kind`."""
        self.files[kind] = (capture(self.lab, kind.decode().strip("!") + ".pcap", packets), len(packets))
        self.sent[kind] = 0

    def start(self, kind, per_second, seconds):
        file, packets = self.files[kind]
        loops = max(1, round(per_second * seconds / packets))
        self.sent[kind] += loops * packets
        flow = self.lab.start(kind.decode().strip("!"), "tcpreplay", "-q", "-K", "-p", str(per_second), "-i", "a0", "--loop", str(loops), file, ns="att")
        self.running.append(flow)
        return flow

    def watch(self, seconds):
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0:
            if select.select([self.into], [], [], rest)[0]:
                data = self.into.recv(65535)
                kind = data[42:50] if data[42:50] in self.files else data[-8:]
                if kind in self.files:
                    self.seen.append((time.monotonic(), kind))

    def watch_until(self, what, look, seconds, more=None):
        """Goes on watching until something is there."""
        end = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > end:
                raise SystemExit(f"{what}: not within {seconds} s\n{more() if more else ''}")
            self.watch(0.2)
        return found

    def finish(self):
        """Until all was sent."""
        while any(flow.poll() is None for flow in self.running):
            self.watch(0.1)
        self.watch(0.5)

    def arrived(self, kind, begin=0.0, end=float("inf")):
        return [t for t, k in self.seen if k == kind and begin <= t < end]

    def dropped(self):
        return sum(self.sent.values()) - len(self.seen)


def ntp(victim, count=400):
    """An NTP reflection to one host."""
    return [udp(int(ipaddress.ip_address("192.0.2.0")) + i % 200, victim, 123, 30000 + i % 999, ATTACK + bytes(440)) for i in range(count)]


def run_config(lab, telemetry, more, main="", name="run", networks=f'"{V4}", "{V6}"', threshold=1500, group=""):
    sources = {"mirror": 'mirror = true\ninterfaces = ["r0"]', "tap": 'mirror = true\ninterfaces = ["v0"]', "sflow": 'sflow = true\nsflow_host = "127.0.0.1"'}
    return lab.path(f"{name}.toml", f'''
[main]
networks_list = [{networks}]
enable_ban = true
{sources[telemetry]}
{main}
[hostgroup.global]
threshold_pps = {threshold}
{group}
[api]
listen = "127.0.0.1:{10107 + len(lab.children)}"
[state]
directory = "{lab.dir}/state-{name}"
{more}
''')


def peer(name="router", asn=65100, local="127.0.0.1", remote="127.0.0.1", port=1179, more=""):
    return f'''
[bgp.{name}]
local_asn = 65001
local_address = "{local}"
router_id = "192.0.2.254"
remote_asn = {asn}
remote_address = "{remote}"
remote_port = {port}
{more}
'''


def start_daemon(lab, config, ns="rtr", name="run"):
    """The daemon, and a function for its words."""
    control = lab.path(f"{name}.sock")
    env = {**os.environ, "FLOODWALL_ENFORCER_SOCKET": lab.path("enforcer.sock"), "FLOODWALL_SOCKET": control}
    daemon = lab.start(name, lab.floodwall, "run", "--config", config, ns=ns, env=env)

    def words(*words):
        done = subprocess.run([lab.floodwall, *words], capture_output=True, text=True, env=env)
        return done.stdout if done.returncode == 0 else ""
    wait("the daemon", lambda: "started" in lab.log(name) or daemon.poll() is not None, 30, lambda: lab.log(name)[-3000:])
    return daemon, words


def established(lab, seconds=30):
    """Until every peer of the enforcer is there."""
    all_up = lambda s: s and all(p["state"] == "established" for p in s["peers"])
    wait("the sessions", lambda: all_up(lab.status()), seconds, lambda: lab.log("run")[-2000:] + lab.log("enforcer")[-2000:])


def exporter(lab, telemetry):
    """A real sFlow exporter on the router's outer interface."""
    if telemetry != "sflow":
        return
    config = lab.path("sfprobe.conf", f'''
daemonize: false
pcap_interface: r0
plugins: sfprobe[x]
sfprobe_receiver[x]: 127.0.0.1:6343
sfprobe_agentip[x]: 127.0.0.1
sampling_rate: 10
''')
    lab.start("pmacctd", "pmacctd", "-f", config)
    wait("the exporter", lambda: "r0" in lab.exec("ss", "-0", "-a", check=False), 20, lambda: lab.log("pmacctd")[-2000:])


def end_to_end(lab, args):
    """Telemetry of the router feeds `floodwall run`, which tells `floodwall enforce` by BGP: the attack stops at the router."""
    lab.enforce(lab.config([("detector", 65001, "127.0.0.1", "")], 'api_listen = "127.0.0.1:10109"'))
    _, words = start_daemon(lab, run_config(lab, args.telemetry, peer()))
    established(lab)
    exporter(lab, args.telemetry)
    traffic = Traffic(lab)
    traffic.start(ORDINARY, 300, 10)
    traffic.watch(3)
    start = time.monotonic()
    traffic.start(ATTACK, 4000, 5)
    traffic.finish()
    passed = traffic.arrived(ATTACK)
    stopped = max(passed, default=start) - start
    before, during = (len(traffic.arrived(ORDINARY, a, b)) / (b - a) for a, b in ((start - 2, start), (start + 2, start + 5)))
    rules = lab.status()["rules"]
    print(f"{args.telemetry}: the last attack packet passed {stopped * 1000:.0f} ms after the attack's start ({len(passed)} of {traffic.sent[ATTACK]} passed); ordinary "
          f"traffic {before:.0f} packets/s before, {during:.0f} during; rules: {[r['rule'] for r in rules]}")
    return hits_agree(lab, words, traffic) and stopped < 1 and during > 0.95 * before and len(rules) >= 1


def hits_agree(lab, words, traffic):
    """Counters of the enforcer, its metrics and what the detecting side shows are the packets that did not arrive."""
    dropped = traffic.dropped()
    taken = sum(r["packets"] for r in lab.status()["rules"])
    lines = lambda: re.findall(r'floodwall_enforcer_packets_total\{[^}]*\} (\d+)', lab.http(10109, "/metrics"))
    # Metrics are read every five seconds, the detecting side asks every two.
    metrics = lambda: sum(map(int, lines()))
    shown = lambda: sum(r["enforced"]["packets"] for r in json.loads(words("show", "flowspec", "--json")) if r.get("enforced"))
    more = lambda: f"{taken} counted, {metrics()} in metrics, {shown()} shown, {dropped} dropped"
    wait("the same number everywhere", lambda: metrics() == shown() == dropped, 20, more)
    print(f"{dropped} packets dropped; counted by the enforcer {taken}, in its metrics {metrics()}, shown by show flowspec {shown()}")
    return dropped > 0 and taken == dropped


def single_box(lab, args):
    """`floodwall run` with enforce_here: telemetry and packet filter on one host, no router."""
    exporter(lab, args.telemetry)
    daemon, words = start_daemon(lab, run_config(lab, args.telemetry, "[enforcer]\nenforce_here = true\n"))
    table = lambda: lab.exec("nft", "list", "table", "inet", "floodwall", check=False)
    traffic = Traffic(lab)
    traffic.start(ORDINARY, 300, 8)
    traffic.watch(2)
    start = time.monotonic()
    traffic.start(ATTACK, 4000, 5)
    traffic.finish()
    assert "drop" in table(), table()
    passed = traffic.arrived(ATTACK)
    stopped = max(passed, default=start) - start
    dropped = traffic.dropped()
    rules = lambda: json.loads(words("show", "enforcer", "--json"))["rules"]
    # The daemon reads the counters every five seconds.
    taken = lambda: sum(r["packets"] for r in rules())
    wait("the hits", lambda: taken() == dropped, 15, lambda: f"{taken()} counted, {dropped} dropped")
    shown = sum(r["enforced"]["packets"] for r in json.loads(words("show", "flowspec", "--json")) if r.get("enforced"))
    print(f"{args.telemetry}: the last attack packet passed {stopped * 1000:.0f} ms after the attack's start; {dropped} packets dropped, {taken()} counted, "
          f"{shown} in show flowspec; {len(traffic.arrived(ORDINARY))} of {traffic.sent[ORDINARY]} ordinary packets arrived; {[r['rule'] for r in rules()]}")
    daemon.terminate()
    assert daemon.wait(15) == 0 and table() == "", table()
    return stopped < 1 and shown == dropped > 0 and len(traffic.arrived(ORDINARY)) == traffic.sent[ORDINARY]
