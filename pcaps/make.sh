#!/bin/bash
# Remakes the captures of this folder: generated traffic, replayed on a veth pair in a namespace of its own, exported by real
# exporters, recorded on that namespace's loopback. Needs root, softflowd, pmacct, tcpreplay, dumpcap (wireshark-common).
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
ns=fwpcaps-$$
traffic=${TRAFFIC:-target/release/examples/traffic}
[ -x "$traffic" ] || cargo build --release --example traffic
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  ip netns del "$ns" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
"$traffic" dns "$work/dns.pcap"
ip netns add "$ns"
ip -n "$ns" link set lo up
ip -n "$ns" link add vx0 type veth peer name vx1
ip -n "$ns" link set vx0 up
ip -n "$ns" link set vx1 up

record() { # port file exporter...
  local port=$1 file=$2
  shift 2
  ip netns exec "$ns" dumpcap -q -P -i lo -f "udp port $port" -w "$work/out.pcap" >/dev/null 2>&1 &
  local dump=$!
  ip netns exec "$ns" "$@" >"$work/exporter.log" 2>&1 &
  local exporter=$!
  pids+=("$dump" "$exporter")
  sleep 2
  ip netns exec "$ns" tcpreplay -q -K -i vx1 "$work/dns.pcap" >/dev/null 2>&1
  sleep 2
  kill "$exporter" "$dump" 2>/dev/null || true
  wait "$exporter" "$dump" 2>/dev/null || true
  cp "$work/out.pcap" "$file"
  ls -l "$file"
}

record 2055 pcaps/dns-netflow9.pcap softflowd -d -i vx0 -n 127.0.0.1:2055 -v 9 -m 200000 -B 8388608 \
  -t general=1 -t tcp=1 -t udp=1 -t icmp=1 -t maxlife=1 -t expint=1 -p "$work/softflowd.pid" -c "$work/softflowd.ctl"
cat >"$work/sfprobe.conf" <<CONF
daemonize: false
pcap_interface: vx0
plugins: sfprobe[x]
sfprobe_receiver[x]: 127.0.0.1:6343
sfprobe_agentip[x]: 127.0.0.1
sampling_rate: 50
CONF
record 6343 pcaps/dns-sflow.pcap pmacctd -f "$work/sfprobe.conf"
