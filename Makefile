# make demo    see it work: a recorded attack, a daemon, a router on loopback (ONCE=1: exit 0 only if the rule arrived)
# make test    everything: unit, property, replay, daemon, and end-to-end tests with real exporters and routers
# make bench   benches of the hot crates; beside FastNetMon and others where ../shared/bench is present
# make lint    formatting, clippy, documentation
# make pcaps   remake the recorded exports in pcaps/
# Every target installs what it needs and is not there (Debian packages; Rust must be there).
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test bench lint pcaps deps-build deps-test build

BUILD_PACKAGES := libpcap-dev gcc libc6-dev
TEST_PACKAGES := $(BUILD_PACKAGES) tshark iproute2 tcpreplay softflowd pmacct gobgpd bird2 frr exabgp openbgpd python3 procps nftables iptables tmux fastnetmon curl openssl python3-aiosmtpd fail2ban chromium python3-venv
PCAP_PACKAGES := $(BUILD_PACKAGES) iproute2 tcpreplay softflowd pmacct wireshark-common
BENCH_PACKAGES := $(TEST_PACKAGES) nfdump nfdump-sflow fastnetmon

help:
	@sed -n 's/^# make/make/p' Makefile

deps-build:
	@tools/install $(BUILD_PACKAGES)

deps-test:
	@tools/install $(TEST_PACKAGES)
	@tools/install-tools

build: deps-build
	cargo build --release --locked

# Built as the tests are: less than half the work of the packages' profile, and 'make test' goes on from there.
demo: deps-build
	cargo build --locked
	target/debug/floodwall demo $(if $(ONCE),--once)

test: deps-test
	cargo build --locked --tests --bins
	@# Whoever may make namespaces must run the tests with routers. What was skipped all the same is said at the end, pass or fail.
	@if [ "$$(id -u)" = 0 ] && ip netns add fwprobe 2>/dev/null; then \
	  ip netns del fwprobe; export FLOODWALL_REQUIRE_LAB=1; \
	fi; \
	export FLOODWALL_SIMULATION_SECONDS=$${FLOODWALL_SIMULATION_SECONDS:-600} FLOODWALL_SKIPPED="$(CURDIR)/target/skipped.txt"; \
	rm -f "$$FLOODWALL_SKIPPED"; \
	cargo test --locked; result=$$?; \
	tools/skipped "$$FLOODWALL_SKIPPED"; exit $$result

lint: deps-build
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check; else echo "cargo-deny is not installed: licences not checked"; fi

bench: deps-build
	cargo bench --locked -p collectors -p detector -p miner
	@if [ -x ../shared/bench/bench.py ]; then tools/install $(BENCH_PACKAGES) && $(MAKE) build && \
	  ../shared/bench/bench.py flow --peers fastnetmon,nfcapd,sink,floodwall --protocols v5,v9,ipfix,sflow --hosts 65536 \
	    --floodwall $(CURDIR)/target/release/floodwall --floodwall-template $(CURDIR)/tests/bench.toml.in; \
	else echo "../shared/bench is absent: compared with nobody"; fi

pcaps:
	@tools/install $(PCAP_PACKAGES)
	cargo build --release --locked --example traffic
	pcaps/make.sh
