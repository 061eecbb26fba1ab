"""Three network namespaces (attacker, router, victim), a BGP speaker of plain octets, and packets: what the checks share."""
import contextlib
import ctypes
import http.client
import ipaddress
import json
import os
import select
import shutil
import socket
import struct
import subprocess
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
        with self.inside(ns):
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3) if receive else 0)
            s.setsockopt(socket.SOL_SOCKET, 33 if receive else 32, 256 << 20)     # SO_RCVBUFFORCE, SO_SNDBUFFORCE
            s.bind((dev, 3 if receive else 0))
        return s

    @contextlib.contextmanager
    def inside(self, ns):
        """Sockets made here belong to a namespace."""
        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.ns[ns]}", os.O_RDONLY)
        try:
            if LIBC.setns(there, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            yield
        finally:
            LIBC.setns(here, CLONE_NEWNET)
            os.close(here)
            os.close(there)

    def http(self, port, path, ns="rtr"):
        """The body of a page at 127.0.0.1."""
        with self.inside(ns):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.connect()
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        assert answer.status == 200, (answer.status, text)
        return text

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
        with lab.inside("rtr"):
            self.s = socket.socket()
            self.s.bind((address, 0))
            self.s.connect(("127.0.0.1", port))
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


# --- rules and packets of the checks --------------------------------------------------------------------------------------
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


def counted_by(lab, packet, out, into):
    """Which rule takes a packet."""
    def counters():
        time.sleep(0.6)
        return {r["id"]: r for r in lab.status()["rules"]}
    before = counters()
    lab.send([packet], out, into)
    return [r["rule"] + " -> " + r["carried_out"] for i, r in counters().items() if r["packets"] > before[i]["packets"]]
