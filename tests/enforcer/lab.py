#!/usr/bin/env python3
"""Attacker, router, victim: three network namespaces, `floodwall enforce` on the router, and checks from outside.

    lab.py CHECK --floodwall BINARY [--seed N] [...]

Exit code 0: as it should be; 1: not, and what was seen; 3: a program is missing. Needs root. Only namespaces made here see packets.
"""
import argparse
import ctypes
import ipaddress
import json
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

import flowspec as fs

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
V4, V6 = "203.0.113.0/24", "2001:db8::/32"


def sh(*words, check=True, **options):
    done = subprocess.run(words, capture_output=True, text=True, **options)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class Lab:
    """att a0 -- r0 rtr r1 -- v0 vic"""

    def __init__(self, floodwall, name="fwenf"):
        self.floodwall = os.path.abspath(floodwall)
        self.dir = tempfile.mkdtemp(prefix="floodwall-enforcer-")
        self.ns = {k: f"{name}-{os.getpid()}-{k}" for k in ("att", "rtr", "vic")}
        self.children = []
        self.made = []

    def __enter__(self):
        for ns in self.ns.values():
            sh("ip", "netns", "add", ns)
            self.made.append(ns)
            sh("ip", "-n", ns, "link", "set", "lo", "up")
        for left, right, a, b in (("att", "rtr", "a0", "r0"), ("rtr", "vic", "r1", "v0")):
            sh("ip", "-n", self.ns[left], "link", "add", a, "mtu", "9000", "type", "veth", "peer", "name", b, "mtu", "9000",
               "netns", self.ns[right])
        for ns, dev, v4, v6 in (("att", "a0", "10.9.0.2/24", "fd00:9:0::2/64"), ("rtr", "r0", "10.9.0.1/24", "fd00:9:0::1/64"),
                                ("rtr", "r1", "10.9.1.1/24", "fd00:9:1::1/64"), ("vic", "v0", "10.9.1.2/24", "fd00:9:1::2/64")):
            n = self.ns[ns]
            self.exec("sysctl", "-qw", f"net.ipv6.conf.{dev}.accept_dad=0", f"net.ipv4.conf.{dev}.rp_filter=0", ns=ns)
            sh("ip", "-n", n, "addr", "add", v4, "dev", dev)
            sh("ip", "-n", n, "addr", "add", v6, "dev", dev, "nodad")
            sh("ip", "-n", n, "link", "set", dev, "up")
        self.exec("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0",
                  "net.ipv4.icmp_ratelimit=0", ns="rtr")
        self.mac = {dev: self.link(ns, dev) for ns, dev in (("att", "a0"), ("rtr", "r0"), ("rtr", "r1"), ("vic", "v0"))}
        for address in ("10.9.1.2", "fd00:9:1::2"):
            sh("ip", "-n", self.ns["rtr"], "neigh", "replace", address, "lladdr", self.mac["v0"], "dev", "r1", "nud", "permanent")
        sh("ip", "-n", self.ns["rtr"], "route", "add", V4, "via", "10.9.1.2")
        sh("ip", "-n", self.ns["rtr"], "-6", "route", "add", V6, "via", "fd00:9:1::2")
        # Answers of the router to what it cannot deliver go nowhere.
        sh("ip", "-n", self.ns["rtr"], "route", "add", "blackhole", "198.51.100.0/22")
        return self

    def __exit__(self, *_):
        for child in self.children:
            if child.poll() is None:
                child.terminate()
        for child in self.children:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for ns in self.made:
            sh("ip", "netns", "del", ns, check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    def link(self, ns, dev):
        return json.loads(sh("ip", "-n", self.ns[ns], "-j", "link", "show", dev))[0]["address"]

    def exec(self, *words, ns="rtr", **options):
        return sh("ip", "netns", "exec", self.ns[ns], *words, **options)

    def start(self, name, *words, ns="rtr", **options):
        log = open(os.path.join(self.dir, name + ".log"), "ab")
        options.setdefault("stdin", subprocess.DEVNULL)
        child = subprocess.Popen(["ip", "netns", "exec", self.ns[ns], *words], stdout=options.pop("stdout", log), stderr=log, **options)
        self.children.append(child)
        return child

    def log(self, name):
        with open(os.path.join(self.dir, name + ".log"), errors="replace") as f:
            return f.read()

    def path(self, name, text=None):
        path = os.path.join(self.dir, name)
        if text is not None:
            with open(path, "w") as f:
                f.write(text)
        return path

    def packet_socket(self, ns, dev, receive):
        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.ns[ns]}", os.O_RDONLY)
        try:
            if LIBC.setns(there, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3) if receive else 0)
            s.setsockopt(socket.SOL_SOCKET, 33 if receive else 32, 256 << 20)     # SO_RCVBUFFORCE, SO_SNDBUFFORCE
            s.bind((dev, 3 if receive else 0))
        finally:
            LIBC.setns(here, CLONE_NEWNET)
            os.close(here)
            os.close(there)
        return s

    # --- the product ----------------------------------------------------------------------------------------------------
    def config(self, peers, extra=""):
        text = f'[enforcer]\nlocal_asn = 65100\nrouter_id = "192.0.2.100"\nlisten = "127.0.0.1:1179"\n{extra}\n'
        for name, asn, address, more in peers:
            text += (f'[enforcer_peer.{name}]\nremote_asn = {asn}\nremote_address = "{address}"\n'
                     f'allow = ["{V4} 24", "{V6} 32"]\nallow_sources = ["198.51.100.0/22 22", "2001:db8:ffff::/48 0"]\n{more}\n')
        return self.path("enforcer.toml", text.replace('"2001:db8:ffff::/48 0"', '"2001:db8::/32 32"'))

    def enforce(self, config, name="enforcer", **options):
        child = self.start(name, self.floodwall, "enforce", "--config", config, "--socket", self.path("enforcer.sock"), **options)
        wait("the enforcer", lambda: "enforcing" in self.log(name) or child.poll() is not None)
        return child

    def status(self):
        done = subprocess.run([self.floodwall, "show", "enforcer", "--json", "--socket", self.path("enforcer.sock")],
                              capture_output=True, text=True)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait_rules(self, count, text="", seconds=30):
        """Waits until so many rules are there, one with this text among them, and all were decided about."""
        def look():
            status = self.status()
            done = status and len(status["rules"]) == count and all(r["state"] != "pending" for r in status["rules"])
            done = done and (not count or any(text in r["rule"] for r in status["rules"]))
            return status if done else None
        def more():
            status = self.status() or {"rules": [], "peers": []}
            return "\n".join([f"{len(status['rules'])} rules", str(status["peers"])] + [r["rule"] for r in status["rules"]][:200])
        return wait(f"{count} rules", look, seconds, more)

    # --- packets --------------------------------------------------------------------------------------------------------
    def frame(self, packet):
        mac = lambda text: bytes.fromhex(text.replace(":", ""))
        kind = 0x0800 if packet[0] >> 4 == 4 else 0x86dd
        return mac(self.mac["r0"]) + mac(self.mac["a0"]) + struct.pack("!H", kind) + packet

    def send(self, packets, out, into):
        """Sends packets; returns the marks (last 8 octets) of those that arrive at the victim."""
        arrived = set()

        def drain(seconds):
            while select.select([into], [], [], seconds)[0]:
                data = into.recv(65535)
                arrived.add(data[-8:])
        for i, packet in enumerate(packets):
            out.send(self.frame(packet))
            if i % 64 == 63:
                drain(0)
        drain(0.25)
        return arrived


def wait(what, look, seconds=20, more=None):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit(f"{what}: not within {seconds} s\n{more() if more else ''}")


class Speaker:
    """A BGP speaker that says what it is told: octets of RFC 4271, nothing of the product."""

    def __init__(self, lab, asn=65001, address="127.0.0.5", restart=None, port=1179):
        self.asn, self.held = asn, b""
        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{lab.ns['rtr']}", os.O_RDONLY)
        LIBC.setns(there, CLONE_NEWNET)
        try:
            self.s = socket.socket()
            self.s.bind((address, 0))
            self.s.connect(("127.0.0.1", port))
        finally:
            LIBC.setns(here, CLONE_NEWNET)
            os.close(here)
            os.close(there)
        self.s.settimeout(10)
        caps = b"".join(bytes([1, 4, 0, afi, 0, 133]) for afi in (1, 2)) + bytes([2, 0, 65, 4]) + struct.pack("!I", asn)
        if restart is not None:
            caps += bytes([64, 2 + 8]) + struct.pack("!H", restart) + bytes([0, 1, 133, 0x80, 0, 2, 133, 0x80])
        body = bytes([4]) + struct.pack("!HHI", asn, 90, 0xc0000205) + bytes([len(caps) + 2, 2, len(caps)]) + caps
        self.message(1, body)
        kinds = [self.receive()[0], None]
        self.message(4, b"")
        kinds[1] = self.receive()[0]
        assert kinds == [1, 4], kinds

    def message(self, kind, body):
        self.s.sendall(b"\xff" * 16 + struct.pack("!HB", 19 + len(body), kind) + body)

    def receive(self):
        def exactly(n):
            while len(self.held) < n:
                data = self.s.recv(65536)
                if not data:
                    raise EOFError
                self.held += data
            out, self.held = self.held[:n], self.held[n:]
            return out
        head = exactly(19)
        return head[18], exactly(struct.unpack("!H", head[16:18])[0] - 19)

    def attributes(self, extended):
        path = bytes([2, 1]) + struct.pack("!I", self.asn)
        out = bytes([0x40, 1, 1, 0, 0x40, 2, len(path)]) + path
        if extended:
            out += bytes([0xc0, 16, len(extended)]) + extended
        return out

    def announce(self, version, nlri, action="discard"):
        """nlri: a list of octet strings with their lengths."""
        extended = action if isinstance(action, bytes) else {"discard": bytes([0x80, 6, 0, 0, 0, 0, 0, 0]), "accept": b""}[action]
        for chunk in chunks(nlri, 3000):
            reach = bytes([0, 1 if version == 4 else 2, 133, 0, 0]) + chunk
            attributes = self.attributes(extended) + bytes([0x90, 14]) + struct.pack("!H", len(reach)) + reach
            self.message(2, b"\0\0" + struct.pack("!H", len(attributes)) + attributes)

    def withdraw(self, version, nlri):
        for chunk in chunks(nlri, 3000):
            unreach = bytes([0, 1 if version == 4 else 2, 133]) + chunk
            attributes = bytes([0x90, 15]) + struct.pack("!H", len(unreach)) + unreach
            self.message(2, b"\0\0" + struct.pack("!H", len(attributes)) + attributes)

    def end_of_rib(self, version):
        self.withdraw_raw(bytes([0, 1 if version == 4 else 2, 133]))

    def withdraw_raw(self, unreach):
        attributes = bytes([0x80, 15, len(unreach)]) + unreach
        self.message(2, b"\0\0" + struct.pack("!H", len(attributes)) + attributes)


def chunks(items, size):
    out = b""
    for item in items:
        if len(out) + len(item) > size:
            yield out
            out = b""
        out += item
    if out:
        yield out


def rate(kind, value, asn=0):
    """traffic-rate-bytes (6) or traffic-rate-packets (12)."""
    return bytes([0x80, kind]) + struct.pack("!Hf", asn, value)


# --- checks ---------------------------------------------------------------------------------------------------------------
def exactness(lab, args):
    """Random rules, packets for and beside them: what arrives is what the independent matcher lets pass."""
    rng = random.Random(args.seed)
    config = lab.config([("speaker", 65001, "127.0.0.5", "")], f'hook = "{args.hook}"' + ('\ninterfaces = ["r0"]' if args.hook == "ingress" else ""))
    lab.enforce(config)
    speaker = Speaker(lab)
    out, into = lab.packet_socket("att", "a0", False), lab.packet_socket("vic", "v0", True)
    held, turn, pairs, dropped, mismatches, notes = {4: [], 6: []}, 0, 0, 0, 0, {}
    while pairs < args.pairs:
        rules = {}
        for version in (4, 6):
            # Now and then many rules of one shape, so that maps are used.
            made = [fs.random_rule(rng, version) for _ in range(args.rules)]
            if rng.random() < 0.7:
                made += same_shape(rng, version, rng.choice([20, 60]))
            for rule in made:
                rules[version, fs.nlri(rule)] = rule
        # The last rule announced is a mark of this round: when it stands, all do.
        turn += 1
        mark = {"version": 6, "components": {1: (fs.DESTINATIONS[6] | 0xff00, 128, 0), 5: [(False, 0, 0, 1, turn)]}, "action": "accept"}
        rules[6, fs.nlri(mark)] = mark
        for version in (4, 6):
            speaker.withdraw(version, held[version])
            held[version] = [n for v, n in rules if v == version]
            for action in ("discard", "accept"):
                speaker.announce(version, [n for (v, n), r in rules.items() if v == version and r["action"] == action], action)
        status = lab.wait_rules(len(rules), f"2001:db8::ff08/128 destination-port {turn}")
        refused = [r for r in status["rules"] if r["state"] != "installed"]
        for r in refused:
            reason = (r["reason"] or "").split(":")[0]
            notes[reason] = notes.get(reason, 0) + 1
        never = [r["rule"] for r in refused if not r["reason"].startswith("no packet can match")]
        assert not never, never[:3]
        order = fs.ordered([r for (v, _), r in rules.items() if v == 4]) + fs.ordered([r for (v, _), r in rules.items() if v == 6])
        packets, expected = [], set()
        for _ in range(args.packets):
            rule = rng.choice(list(rules.values()))
            mark = b"FW" + struct.pack("!HI", rng.randrange(65536), len(packets))
            packet = fs.random_packet(rng, rule, mark)
            hit = fs.first_match([r for r in order if r["version"] == rule["version"]], packet)
            packets.append((mark, packet, hit))
            if hit is None or hit["action"] == "accept":
                expected.add(mark)
        arrived = lab.send([p for _, p, _ in packets], out, into)
        for mark, packet, hit in packets:
            if (mark in arrived) != (mark in expected):
                mismatches += 1
                if mismatches <= 5:
                    print("counted by:", counted_by(lab, packet, out, into))
                    print(f"MISMATCH: {'passed' if mark in arrived else 'dropped'}; packet {packet[:80].hex()} {fs.parse(packet)}; rule {hit}; "
                          f"nlri {hit and fs.nlri(hit).hex()}")
        pairs += len(packets)
        dropped += len(packets) - len(expected)
    print(f"{pairs} rule/packet pairs, {dropped} to be dropped, {mismatches} mismatches; not installed: {notes or 'none'}")
    return mismatches == 0


def counted_by(lab, packet, out, into):
    """Which rule takes a packet."""
    def counters():
        time.sleep(0.6)
        return {r["id"]: r for r in lab.status()["rules"]}
    before = counters()
    lab.send([packet], out, into)
    return [r["rule"] + " -> " + r["carried_out"] for i, r in counters().items() if r["packets"] > before[i]["packets"]]


def same_shape(rng, version, count):
    shape = rng.choice(["dst", "src", "ports", "ranges"])
    rules = []
    for i in range(count):
        c = {1: (fs.DESTINATIONS[version] ^ (i % 200 if shape == "dst" else 0), 32 if version == 4 else 128, 0), 3: [(False, 0, 0, 1, 17)]}
        if shape == "src":
            c[2] = (fs.SOURCES[version] ^ i, 32 if version == 4 else 128, 0)
        elif shape == "ports":
            c[5] = [(False, 0, 0, 1, 50 + i)]
        elif shape == "ranges":
            c[6] = [(False, 0, 1, 1, i * 20), (True, 1, 0, 1, i * 20 + 15)]
        if shape in ("dst", "src"):
            c[6] = [(False, 0, 0, 1, 53)]
        rules.append({"version": version, "components": c, "action": "discard" if i % 3 else "accept"})
    return rules


def wide(lab, extra="", hook="forward"):
    """A configuration that takes rules for 100.64.0.0/10, which the router forwards to the victim."""
    sh("ip", "-n", lab.ns["rtr"], "route", "add", "100.64.0.0/10", "via", "10.9.1.2")
    path = lab.config([("speaker", 65001, "127.0.0.5", "max_rules = 20000")], f'hook = "{hook}"\n{extra}')
    text = open(path).read().replace(f'"{V4} 24"', f'"{V4} 24", "100.64.0.0/10 24"')
    return lab.path("enforcer.toml", text)


SHARED = int(ipaddress.ip_address("100.64.0.0"))


def many(count, shape):
    """Rules that differ in addresses and ports alone."""
    rules = []
    for i in range(count):
        c = {1: (SHARED + (i if shape == "destination" else 0), 32, 0), 3: [(False, 0, 0, 1, 17)], 6: [(False, 0, 0, 1, 123)]}
        if shape == "source":
            c[2] = (fs.SOURCES[4] + i, 32, 0)
        elif shape == "port":
            c[6] = [(False, 0, 0, 1, i)]
        elif shape == "both":
            c[1], c[6] = (SHARED + i // 2, 32, 0), [(False, 0, 0, 1, 123 + i % 2)]
        rules.append(fs.nlri({"version": 4, "components": c}))
    return rules


def udp(src, dst, sport, dport, payload):
    body = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, 0, 64, 17, 0) + src.to_bytes(4, "big") + dst.to_bytes(4, "big")
    return head[:10] + struct.pack("!H", fs.checksum(head)) + head[12:] + body


def capture(lab, name, packets):
    with open(lab.path(name), "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for packet in packets:
            frame = lab.frame(packet)
            f.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)
    return lab.path(name)


def install(lab, args):
    """10,000 rules: how long from the first octet sent until the kernel holds them all."""
    lab.enforce(wide(lab))
    speaker = Speaker(lab)
    ok = True
    for shape in ("destination", "source", "port", "both"):
        rules = many(10000, shape)
        start = time.monotonic()
        speaker.announce(4, rules)
        # The kernel is asked, not the product.
        count = lambda: lab.exec("nft", "list", "table", "inet", "floodwall").count("counter packets")
        wait(f"10,000 rules by {shape}", lambda: count() >= 10000, 30)
        took = time.monotonic() - start
        status = lab.wait_rules(10000)
        print(f"{shape}: 10,000 rules in the kernel {took:.2f} s after the first octet; last change {status['last_change_ms']:.0f} ms")
        ok = ok and took < args.seconds and status["installed"] == 10000
        speaker.withdraw(4, rules)
        lab.wait_rules(0)
    return ok


def cost(lab, args):
    """CPU time per forwarded packet with 10 rules and with 10,000 that differ only in addresses and ports."""
    lab.enforce(wide(lab))
    speaker = Speaker(lab)
    ratios = {}
    for shape in ("destination", "source", "port"):
        packets = [udp(fs.SOURCES[4] + i % 250, SHARED + (i * 7) % 10000 if shape == "destination" else SHARED, 40000 + i % 1000, 5, b"x" * 64)
                   for i in range(10000)]
        file = capture(lab, shape + ".pcap", packets)
        times = {}
        for turn in range(3):
            for count in (10, 10000):
                rules = many(count, shape)
                speaker.announce(4, rules)
                lab.wait_rules(count)
                before = os.times()
                lab.exec("tcpreplay", "-q", "-K", "-t", "-i", "a0", "--loop", str(args.loops), file, ns="att")
                after = os.times()
                used = after.children_user + after.children_system - before.children_user - before.children_system
                times.setdefault(count, []).append(used / (args.loops * len(packets)) * 1e9)
                speaker.withdraw(4, rules)
                lab.wait_rules(0)
        low, high = (sorted(times[n])[1] for n in (10, 10000))
        ratios[shape] = high / low
        print(f"{shape}: {low:.0f} ns a packet with 10 rules, {high:.0f} ns with 10,000: ratio {high / low:.2f} (sending included)")
    return all(r <= 2 for r in ratios.values())


def atomic(lab, args):
    """A flow that is blocked throughout stays blocked while 1,000 updates are carried out."""
    lab.enforce(wide(lab))
    speaker = Speaker(lab)
    blocked = fs.nlri({"version": 4, "components": {1: (SHARED, 32, 0), 3: [(False, 0, 0, 1, 17)], 5: [(False, 0, 0, 1, 666)]}})
    speaker.announce(4, [blocked] + many(10000, "destination")[:args.base])
    lab.wait_rules(args.base + 1)
    packets = [udp(fs.SOURCES[4], SHARED, 1000, 666, b"blocked!"), udp(fs.SOURCES[4], SHARED, 1000, 667, b"ordinary")]
    file = capture(lab, "blocked.pcap", packets)
    into = lab.packet_socket("vic", "v0", True)
    flood = lab.start("tcpreplay", "tcpreplay", "-q", "-K", "-p", "4000", "-i", "a0", "--loop", "0", file, ns="att")
    leaked = ordinary = 0

    def drain(seconds):
        nonlocal leaked, ordinary
        end = time.monotonic() + seconds
        while True:
            rest = end - time.monotonic()
            if rest <= 0 or not select.select([into], [], [], rest)[0]:
                return
            data = into.recv(65535)
            leaked += data.endswith(b"blocked!")
            ordinary += data.endswith(b"ordinary")
    drain(0.5)
    changes = lab.status()["changes"]
    start = time.monotonic()
    for i in range(1000):
        # A rule beside the blocked one comes and goes, and whole shapes change.
        rule = fs.nlri({"version": 4, "components": {1: (SHARED + i % 3, 32, 0), 6: [(False, 0, 0, 1, i % 500)], 10: [(False, 0, 1, 0, i % 90)]}})
        (speaker.announce if i % 2 == 0 else speaker.withdraw)(4, [rule] if i % 2 == 0 else [last])
        last = rule
        drain(0.01)
    took = time.monotonic() - start
    drain(1)
    flood.terminate()
    drain(0.5)
    changes = lab.status()["changes"] - changes
    print(f"1,000 updates in {took:.1f} s, carried out in {changes} changes: {ordinary} ordinary packets arrived, {leaked} of the blocked flow")
    return leaked == 0 and ordinary > 1000 and changes > 20


def limit(lab, args):
    """Rate limits in bytes and packets, measured at the victim after the first two seconds (the kernel's bucket of one second)."""
    lab.enforce(wide(lab))
    speaker = Speaker(lab)
    ok = True
    packets = [udp(fs.SOURCES[4], SHARED + 1, 1000 + i, 53, bytes(972)) for i in range(100)]
    file = capture(lab, "flood.pcap", packets)
    into = lab.packet_socket("vic", "v0", True)
    for name, community, asked in (("1,000,000 bytes/s", rate(6, 1e6), 1e6), ("200,000 bytes/s", rate(6, 2e5), 2e5),
                                   ("500 packets/s", rate(12, 500.0), 500), ("2.5 packets/s", rate(12, 2.5), 2.5)):
        rule = fs.nlri({"version": 4, "components": {1: (SHARED + 1, 32, 0), 3: [(False, 0, 0, 1, 17)]}})
        speaker.announce(4, [rule], community)
        status = lab.wait_rules(1)
        flood = lab.start("flood", "tcpreplay", "-q", "-K", "-p", "5000", "-i", "a0", "--loop", "0", file, ns="att")
        begin = time.monotonic()
        seen = []
        span = 2 + (16 if asked < 10 else 4)
        while time.monotonic() - begin < span:
            if select.select([into], [], [], 0.1)[0]:
                data = into.recv(65535)
                if len(data) > 1000:
                    seen.append((time.monotonic() - begin, len(data) - 14))
        flood.terminate()
        flood.wait()
        of = [(t, n) for t, n in seen if t >= 2]
        measured = (sum(n for _, n in of) if "bytes" in name else len(of)) / (span - 2)
        whole = (sum(n for _, n in seen) if "bytes" in name else len(seen)) / span
        print(f"{name}: {measured:.1f} measured ({measured / asked * 100 - 100:+.1f} %), with the first two seconds {whole:.1f}; {status['rules'][0]['carried_out']}")
        ok = ok and abs(measured / asked - 1) <= 0.1
        speaker.withdraw(4, [rule])
        lab.wait_rules(0)
    return ok


def actions(lab, args):
    """Mark, sample, continue, redirect, protected prefixes, and what cannot be done."""
    sh("ip", "-n", lab.ns["rtr"], "route", "add", "blackhole", "default", "table", "77")
    config = wide(lab, 'management_networks = ["203.0.113.250/32"]\nredirect = ["65001:100 119 77"]', hook="prerouting")
    enforcer = lab.enforce(config)
    speaker = Speaker(lab)
    out, into = lab.packet_socket("att", "a0", False), lab.packet_socket("vic", "v0", True)
    rule = lambda last, more=None: fs.nlri({"version": 4, "components": {1: ((203 << 24) + (113 << 8) + last, 32, 0), **(more or {})}})
    port = lambda p: {5: [(False, 0, 0, 1, p)]}
    speaker.announce(4, [rule(1)], bytes([0x80, 9, 0, 0, 0, 0, 0, 46]))                              # mark 46
    speaker.announce(4, [rule(2)], bytes([0x80, 7, 0, 0, 0, 0, 0, 2]) + rate(6, 0.0))                # sample and discard
    speaker.announce(4, [rule(3, port(53))], bytes([0x80, 7, 0, 0, 0, 0, 0, 1]))                     # continue
    speaker.announce(4, [rule(3)], "discard")
    speaker.announce(4, [rule(4)], bytes([0x80, 8]) + struct.pack("!HI", 65001, 100))                # redirect, configured
    speaker.announce(4, [rule(5)], bytes([0x80, 8]) + struct.pack("!HI", 65001, 101))                # redirect, not configured
    speaker.announce(4, [rule(6)], bytes([0x80, 0x42, 0, 0, 0, 0, 0, 0]))                            # unknown action
    speaker.announce(4, [rule(250)], "discard")                                                      # protected
    speaker.announce(4, [fs.nlri({"version": 4, "components": {1: (203 << 24, 16, 0)}})], "discard")  # too wide
    speaker.announce(4, [fs.nlri({"version": 4, "components": {1: (8 << 24, 32, 0)}})], "discard")   # not allowed
    speaker.announce(4, [fs.nlri({"version": 4, "components": {3: [(False, 0, 0, 1, 17)]}})], "discard")  # everyone
    status = lab.wait_rules(11)
    by = {r["rule"]: r for r in status["rules"]}
    for r in status["rules"]:
        print(f"{r['rule']} {r['actions']}: {r['reason'] or r['carried_out']}")
    send = lambda last, p=9: b"12345678" in lab.send([udp(fs.SOURCES[4], (203 << 24) + (113 << 8) + last, 1000, p, b"12345678")], out, into)
    into.setblocking(False)
    got = {n: send(n, p) for n, p in ((2, 9), (3, 53), (4, 9), (5, 9), (6, 9), (250, 9))}
    print("passed:", got)
    out.send(lab.frame(udp(fs.SOURCES[4], (203 << 24) + (113 << 8) + 1, 1000, 9, b"marked!!")))
    time.sleep(0.3)
    tos = None
    while select.select([into], [], [], 0)[0]:
        data = into.recv(65535)
        tos = data[15] if data.endswith(b"marked!!") else tos
    reasons = " ".join(r["reason"] or "" for r in status["rules"])
    expected = ["not configured", "not known here", "protected", "wider", "outside", "everyone"]
    rules = lab.exec("ip", "rule", "show")
    enforcer.terminate()
    enforcer.wait(10)
    after = lab.exec("ip", "rule", "show") + lab.exec("nft", "list", "tables")
    checks = {
        "mark": tos == 46 << 2, "sample and discard": not got[2], "continue to the next rule": not got[3],
        "redirected to the table": not got[4] and "fwmark 0x77" in rules, "refused rules change nothing": got[5] and got[6],
        "management passes": got[250], "reasons": all(e in reasons for e in expected), "installed": status["installed"] == 5,
        "nothing is left": "0x77" not in after and "floodwall" not in after,
    }
    print({k: v for k, v in checks.items() if not v} or "all as expected")
    return all(checks.values())


def faults(lab, args):
    """Session loss, kill -9 and restart, nft missing or refusing, the table flushed by somebody, a clean stop."""
    fake = lab.path("nft", "#!/bin/sh\n# refuses port 4242\n"
                    "if [ \"$1\" = -f ] || [ \"$2\" = -f ]; then t=$(mktemp); cat > $t; n=$(grep -n 'dport 4242' $t | head -1 | cut -d: -f1)\n"
                    "if [ -n \"$n\" ]; then echo \"/dev/stdin:$n:1-9: Error: Could not process rule: No such device\" >&2; rm $t; exit 1; fi\n"
                    "nft \"$@\" < $t; e=$?; rm $t; exit $e; fi\nexec nft \"$@\"\n")
    os.chmod(fake, 0o755)
    config = wide(lab, f'nft = "{fake}"')
    tables = lambda: lab.exec("nft", "list", "tables")
    rule = lambda i, p=53: fs.nlri({"version": 4, "components": {1: (SHARED + i, 32, 0), 5: [(False, 0, 0, 1, p)]}})
    done = []

    enforcer = lab.enforce(config)
    speaker = Speaker(lab)
    speaker.announce(4, [rule(1), rule(2), rule(3, 4242), rule(4)])
    status = lab.wait_rules(4)
    refused = [r for r in status["rules"] if r["state"] != "installed"]
    assert len(refused) == 1 and "4242" in refused[0]["rule"] and "No such device" in refused[0]["reason"], refused
    done.append(f"nft refuses one rule of four: {refused[0]['reason'][:60]}")

    lab.exec("nft", "delete", "table", "inet", "floodwall")
    wait("the table to come back", lambda: "was removed by somebody else" in lab.log("enforcer") and "floodwall" in tables(), 15)
    done.append("table flushed by somebody: made again")

    speaker.s.close()
    lab.wait_rules(0)
    assert "rules removed" in lab.log("enforcer")
    done.append("session lost without graceful restart: rules removed")

    speaker = Speaker(lab, restart=8)
    speaker.announce(4, [rule(1), rule(2)])
    speaker.end_of_rib(4)
    lab.wait_rules(2)
    # An abortive close, as of a process that was killed.
    speaker.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    speaker.s.close()
    kept = wait("stale rules", lambda: (lambda s: s and s["peers"][0]["state"] != "established" and s)(lab.status()))
    if args.graceful:
        assert len(kept["rules"]) == 2 and all(r["stale"] for r in kept["rules"]), kept
        speaker = Speaker(lab, restart=8)
        speaker.announce(4, [rule(2)])
        speaker.end_of_rib(4)
        lab.wait_rules(1)
        done.append("graceful restart: kept, and what was not sent again went with End-of-RIB")
        speaker.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        speaker.s.close()
        assert len(lab.wait_rules(1)["rules"]) == 1
        lab.wait_rules(0, seconds=15)
        assert "restart time is over" in lab.log("enforcer")
        done.append("graceful restart: removed after the restart time of 8 s")
    lab.wait_rules(0, seconds=15)

    speaker = Speaker(lab)
    speaker.announce(4, [rule(1)])
    lab.wait_rules(1)
    # "ip netns exec" became the enforcer itself.
    enforcer.kill()
    enforcer.wait()
    assert "floodwall" in tables()
    enforcer = lab.enforce(config, "again")
    assert "did not end cleanly: replaced" in lab.log("again"), lab.log("again")
    assert "jump" not in lab.exec("nft", "list", "table", "inet", "floodwall")
    done.append("kill -9: leftovers found and replaced at the next start")

    enforcer.terminate()
    assert enforcer.wait(10) == 0
    assert "floodwall" not in tables()
    done.append("clean stop: nothing left")

    missing = lab.path("missing.toml", open(config).read().replace(fake, "/no/such/nft"))
    child = lab.start("missing", lab.floodwall, "enforce", "--config", missing, "--socket", lab.path("m.sock"))
    assert child.wait(20) == 1 and "install the nftables package" in lab.log("missing"), lab.log("missing")
    done.append("nft missing: " + lab.log("missing").strip())
    print("\n".join(done))
    return True


def acl(lab, args):
    """ACL files: the article's NTP rule, order, one reload per batch, rollback when it fails, nothing left."""
    folder = lab.path("policy.d")
    os.mkdir(folder)
    with open(os.path.join(folder, "60flowspec1.rules"), "w") as f:
        f.write("[iptables]\n-A FORWARD -s 9.9.9.9 -j DROP\n")
    foreign = os.path.join(folder, "99control.rules")
    with open(foreign, "w") as f:
        f.write("[iptables]\n")
    # The reload command: loads what is there into iptables for real, and fails where the folder holds "--sport 666".
    reload = lab.path("reload", f"#!/bin/sh\necho reload >> {lab.dir}/reloads\nif grep -q -- '--sport 666' {folder}/*.rules; then echo no room in the hardware table; exit 1; fi\n"
                      "iptables -F FORWARD\nip6tables -F FORWARD\n"
                      f"for f in $(ls {folder}/*.rules | sort); do t=iptables; while read -r line; do case $line in '[iptables]') t=iptables;; '[ip6tables]') t=ip6tables;; "
                      "-A*) $t $line || exit 1;; esac; done < $f; done\n")
    os.chmod(reload, 0o755)
    config = lab.config([("speaker", 65001, "127.0.0.5", "")], f'backend = "acl"\nacl_directory = "{folder}"\nacl_reload = "{reload}"\nacl_interface = "r+"')
    text = open(config).read().replace(f'"{V4} 24"', f'"{V4} 24", "192.168.0.0/16"')
    enforcer = lab.enforce(lab.path("enforcer.toml", text))
    assert "1 ACL files of a run that did not end cleanly" in lab.log("enforcer"), lab.log("enforcer")
    files = lambda: {n: open(os.path.join(folder, n)).read() for n in sorted(os.listdir(folder))}
    assert files() == {"99control.rules": "[iptables]\n"}, files()
    speaker = Speaker(lab)
    ntp = fs.nlri({"version": 4, "components": {1: (int(ipaddress.ip_address("192.168.0.1")), 32, 0), 3: [(False, 0, 0, 1, 17)], 6: [(False, 0, 0, 1, 123)]}})
    speaker.announce(4, [ntp])
    lab.wait_rules(1)
    expected = "[iptables]\n-A FORWARD --in-interface r+ -p udp -d 192.168.0.1/32 --sport 123 -j DROP\n"
    assert files() == {"60flowspec00001.rules": expected, "99control.rules": "[iptables]\n"}, files()
    print(f"60flowspec00001.rules: {expected.splitlines()[1]}")
    base = (203 << 24) + (113 << 8)
    rules = [fs.nlri({"version": 4, "components": {1: (base + i, 32, 0), 5: [(False, 0, 0, 1, 53)]}}) for i in range(1, 9)]
    six = fs.nlri({"version": 6, "components": {1: (fs.DESTINATIONS[6], 128, 0), 3: [(False, 0, 0, 1, 6)]}})
    label = fs.nlri({"version": 6, "components": {1: (fs.DESTINATIONS[6], 128, 0), 13: [(False, 0, 0, 1, 5)]}})
    before = open(lab.path("reloads")).read().count("reload")
    speaker.announce(4, rules)
    speaker.announce(6, [six, label])
    status = lab.wait_rules(11)
    reloads = open(lab.path("reloads")).read().count("reload") - before
    reasons = [r["reason"] for r in status["rules"] if r["state"] != "installed"]
    assert reasons == ["the ACL back end cannot express it: flow labels cannot be matched"], reasons
    assert len(files()) == 11 and reloads <= 3, (files(), reloads)
    out, into = lab.packet_socket("att", "a0", False), lab.packet_socket("vic", "v0", True)
    passes = lambda port: b"12345678" in lab.send([udp(fs.SOURCES[4], base + 1, 9, port, b"12345678")], out, into)
    assert not passes(53) and passes(54)
    good = files()
    speaker.announce(4, [fs.nlri({"version": 4, "components": {1: (base + 99, 32, 0), 3: [(False, 0, 0, 1, 17)], 6: [(False, 0, 0, 1, 666)]}})])
    status = wait("the failed reload", lambda: (lambda s: s and s["error"] and s)(lab.status()))
    assert "no room in the hardware table" in status["error"] and "in force again" in status["error"], status["error"]
    assert files() == good, "rolled back"
    assert not passes(53) and passes(54), "the rules before are in force"
    print("a reload that fails: " + status["error"])
    enforcer.terminate()
    assert enforcer.wait(10) == 0 and files() == {"99control.rules": "[iptables]\n"}, files()
    return True


def announcers(lab, args):
    """The same rules from GoBGP, BIRD, ExaBGP over BGP, and ExaBGP's JSON on standard input: packets are dropped exactly as they say."""
    peers = os.path.join(args.peers, "")
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


def prefix(version, value):
    address, length, _ = value
    return f"{ipaddress.ip_address(address) if version == 4 else ipaddress.IPv6Address(address)}/{length}"


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
                words += [("destination", "source")[kind - 1], prefix(rule["version"], ops)]
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
                parts.append(f"{('dst', 'src')[kind - 1]} {prefix(rule['version'], ops)};")
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
            parts.append(f"{('destination', 'source')[kind - 1]} {prefix(rule['version'], ops)}{'/0' if v6 else ''};")
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


def end_to_end(lab, args):
    """Packets at the router are mirrored to `floodwall run`, which tells `floodwall enforce` by BGP: the attack stops at the router."""
    lab.enforce(lab.config([("detector", 65001, "127.0.0.1", "")]))
    ports = {"api": 10107, "bgp": 1179}
    config = lab.path("run.toml", f'''
[main]
networks_list = ["{V4}", "{V6}"]
enable_ban = true
mirror = true
interfaces = ["r0"]
[hostgroup.global]
threshold_pps = 1500
[bgp.router]
local_asn = 65001
local_address = "127.0.0.1"
router_id = "192.0.2.254"
remote_asn = 65100
remote_address = "127.0.0.1"
remote_port = {ports['bgp']}
[api]
listen = "127.0.0.1:{ports['api']}"
[state]
directory = "{lab.dir}/state"
''')
    env = {**os.environ, "FLOODWALL_ENFORCER_SOCKET": lab.path("enforcer.sock")}
    control = lab.path("control.sock")
    lab.start("run", lab.floodwall, "run", "--config", config, "--socket", control, env=env)
    wait("the session", lambda: (lambda s: s and s["peers"][0]["state"] == "established")(lab.status()), 30, lambda: lab.log("run")[-2000:] + lab.log("enforcer")[-2000:])
    victim = (203 << 24) + (113 << 8) + 9
    ordinary = [udp(fs.SOURCES[4] + i % 40, victim, 20000 + i, 443, b"ordinary" + bytes(300 + i % 500)) for i in range(200)]
    attack = [udp(int(ipaddress.ip_address("192.0.2.0")) + i % 200, victim, 123, 30000 + i % 999, b"attack!!" + bytes(440)) for i in range(400)]
    files = capture(lab, "ordinary.pcap", ordinary), capture(lab, "attack.pcap", attack)
    into = lab.packet_socket("vic", "v0", True)
    seen = []

    def watch(seconds):
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0:
            if select.select([into], [], [], rest)[0]:
                data = into.recv(65535)
                if len(data) > 50 and data[12:14] == b"\x08\x00":
                    seen.append((time.monotonic(), data[42:50]))
    lab.start("ordinary", "tcpreplay", "-q", "-K", "-p", "300", "-i", "a0", "--loop", "0", files[0], ns="att")
    watch(3)
    start = time.monotonic()
    lab.start("attack", "tcpreplay", "-q", "-K", "-p", "4000", "-i", "a0", "--loop", "0", files[1], ns="att")
    watch(5)
    hits = [t for t, kind in seen if kind == b"attack!!"]
    calm = [t for t, kind in seen if kind == b"ordinary"]
    stopped = (max(hits) - start) if hits else 0
    before, after = (sum(a <= t < b for t in calm) / (b - a) for a, b in ((start - 2, start), (start + 2, start + 5)))
    status = lab.status()
    print(f"the last attack packet passed {stopped * 1000:.0f} ms after the attack's start ({len(hits)} passed); ordinary traffic {before:.0f} packets/s before, "
          f"{after:.0f} during; rules: {[r['rule'] for r in status['rules']]}")

    def reported():
        done = subprocess.run([lab.floodwall, "show", "flowspec", "--json", "--socket", control], capture_output=True, text=True, env=env)
        rules = json.loads(done.stdout) if done.returncode == 0 else []
        return next((r["enforced"]["packets"] for r in rules if r.get("enforced") and r["enforced"]["packets"] > 1000), None)
    time.sleep(5)
    print(f"show flowspec says that the enforcer took {reported()} packets")
    return stopped < 1 and after > 0.95 * before and len(status["rules"]) >= 1


def single_box(lab, args):
    """`floodwall run` with enforce_here: mirror and packet filter on one host, no router."""
    config = lab.path("run.toml", f'''
[main]
networks_list = ["{V4}"]
enable_ban = true
mirror = true
interfaces = ["r0"]
[hostgroup.global]
threshold_pps = 1500
[enforcer]
enforce_here = true
[api]
listen = "127.0.0.1:10107"
[state]
directory = "{lab.dir}/state"
''')
    control = lab.path("control.sock")
    daemon = lab.start("run", lab.floodwall, "run", "--config", config, "--socket", control)
    wait("the daemon", lambda: "started" in lab.log("run") or daemon.poll() is not None, 20)
    victim = (203 << 24) + (113 << 8) + 9
    attack = [udp(int(ipaddress.ip_address("192.0.2.0")) + i % 200, victim, 123, 30000 + i % 999, b"attack!!" + bytes(440)) for i in range(400)]
    flood = lab.start("attack", "tcpreplay", "-q", "-K", "-p", "4000", "-i", "a0", "--loop", "0", capture(lab, "attack.pcap", attack), ns="att")
    table = lambda: subprocess.run(["ip", "netns", "exec", lab.ns["rtr"], "nft", "list", "table", "inet", "floodwall"], capture_output=True, text=True).stdout
    wait("the rule in nftables", lambda: "drop" in table(), 20, lambda: lab.log("run")[-3000:])
    shown = wait("hits", lambda: (lambda t: t if "203.0.113.9/32" in t and "-> " not in t else None)(
        subprocess.run([lab.floodwall, "show", "enforcer", "--socket", control], capture_output=True, text=True).stdout), 20)
    print(shown.strip().splitlines()[-1])
    flood.terminate()
    daemon.terminate()
    daemon.wait(15)
    return table() == ""


SPEAKERS = {"gobgp": gobgp, "bird": bird, "exabgp": exabgp, "exabgp-json": exabgp_json}
CHECKS = {"exactness": exactness, "install": install, "cost": cost, "atomic": atomic, "limit": limit, "actions": actions, "faults": faults, "acl": acl,
          "announcers": announcers, "end-to-end": end_to_end, "single-box": single_box}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", choices=sorted(CHECKS))
    parser.add_argument("--floodwall", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--rules", type=int, default=25)
    parser.add_argument("--packets", type=int, default=400)
    parser.add_argument("--hook", default="forward")
    parser.add_argument("--seconds", type=float, default=2, help="install: at most")
    parser.add_argument("--loops", type=int, default=20, help="cost: of 10,000 packets")
    parser.add_argument("--base", type=int, default=2000, help="atomic: rules that stand throughout")
    parser.add_argument("--graceful", action="store_true", help="faults: graceful restart is spoken")
    parser.add_argument("--peers", default="")
    args = parser.parse_args()
    for program in ("ip", "nft"):
        if not shutil.which(program):
            print(f"{program} is missing")
            return 3
    with Lab(args.floodwall) as lab:
        try:
            ok = CHECKS[args.check](lab, args)
        except BaseException:
            for name in sorted(os.listdir(lab.dir)):
                if name.endswith(".log"):
                    print(f"--- {name}\n{lab.log(name[:-4])[-3000:]}")
            raise
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
