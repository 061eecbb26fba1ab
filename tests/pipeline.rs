//! The pipeline without files, sockets or a clock.

use std::time::Duration;

use bgp::Route;
use detector::{Class, HostGroup, Measure, Meter, Routers, Unit};
use floodwall::pipeline::{Pipeline, Request};
use policy::{GroupPolicy, Mitigation};
use traffic::{Direction, Fields, Origin, Prefix, Sample, Time};

const TICK: Duration = Duration::from_millis(50);

fn prefix(text: &str) -> Prefix {
    text.parse().expect("literal prefix")
}

fn packet(time: Time, source: u32, protocol: u8, ports: (u16, u16), length: u16) -> Sample {
    let destination = prefix("203.0.113.9");
    let mut sample = Sample::empty(time, destination.version(), Origin::Packet);
    (sample.source, sample.destination) = (u128::from(source) << 96, destination.bits());
    (sample.source_port, sample.destination_port) = ports;
    (sample.protocol, sample.length, sample.packets, sample.bytes) = (protocol, length, 1, length.into());
    sample.known = Fields::ALL;
    sample
}

/// One own network, 5,000 packets/s per host, automatic bans.
struct World {
    pipeline: Pipeline,
    meter: Meter,
    now: Time,
    random: u32,
}

impl World {
    fn new() -> Self {
        Self::with(|_| ())
    }

    /// As [`World::new`], with another mitigation.
    fn with(change: impl Fn(&mut policy::Config)) -> Self {
        let measure = Measure { class: Class::Total, unit: Unit::Packets };
        let networks = vec![prefix("203.0.113.0/24")];
        let thresholds = [((Direction::Incoming, measure), 5_000)].into_iter().collect();
        let detector = detector::Config {
            networks: networks.clone(),
            groups: vec![HostGroup { name: "global".to_owned(), thresholds, ..HostGroup::default() }],
            ..detector::Config::default()
        };
        let group = GroupPolicy { enable_ban: true, ..GroupPolicy::default() };
        let groups = [("global".to_owned(), group)].into_iter().collect();
        let mut mitigation = policy::Config { networks, enable_ban: true, groups, ..policy::Config::default() };
        change(&mut mitigation);
        let (mut pipeline, mut meters) = Pipeline::new(detector, mitigation, 1, 1);
        let now = Time::from_seconds(1_000_000, 0);
        pipeline.step(now);
        Self { pipeline, meter: meters.remove(0), now, random: 1 }
    }

    /// 20,000 packets/s of DNS answers beside 3,000 packets/s of HTTPS for ten seconds; `change` says what else is true of a
    /// packet, by its number.
    fn ten_seconds(&mut self, change: impl Fn(u32, &mut Sample)) {
        for _ in 0..200 {
            for i in 0..1_150u32 {
                // Sources all over the address space, clients' ports and lengths of all kinds.
                self.random = self.random.wrapping_mul(0x9e37_79b1).wrapping_add(i);
                let [a, b, c, _] = self.random.to_be_bytes();
                let port = 1024 + u16::from_be_bytes([a, b]) / 2;
                let mut sample = if i % 23 < 3 {
                    let mut sample = packet(self.now, self.random, 6, (port, 443), 52 + u16::from(c) * 5);
                    sample.tcp_flags = 0x10;
                    sample
                } else {
                    packet(self.now, self.random, 17, (53, port), 500 + u16::from(c) * 3)
                };
                change(i, &mut sample);
                self.meter.count(&[sample]);
            }
            self.meter.serve(self.now);
            self.now = self.now.after(TICK);
            self.pipeline.step(self.now);
            self.meter.serve(self.now);
            self.pipeline.collect(self.now);
        }
    }

    fn routes(&self) -> Vec<String> {
        self.pipeline.policy().all().map(|m: &Mitigation| m.route.to_string()).collect()
    }

    /// From now on these routers hold all that is wanted.
    fn held_by(&mut self, routers: Routers) {
        let held = self.pipeline.wanted().keys().map(|route| (route.clone(), routers)).collect();
        self.pipeline.request(self.now, Request::Held(held)).expect("always taken");
    }

    /// Packets that rules took so far.
    fn hits(&self) -> u64 {
        let all = self.pipeline.policy().all();
        all.filter_map(|m| self.pipeline.hits(m.target, &m.route)).map(|(packets, _)| packets).sum()
    }
}

const RULE: &str = "flow destination 203.0.113.9/32 protocol udp source-port 53";

#[test]
fn while_no_router_holds_a_rule_ordinary_traffic_is_not_mined_in_its_place() {
    let mut world = World::new();
    world.ten_seconds(|_, _| ());
    assert_eq!(world.routes(), [RULE]);
    assert!(world.pipeline.policy().all().all(|m| matches!(m.route, Route::FlowSpec(_))));
}

#[test]
fn a_rule_takes_its_traffic_out_of_the_counts_of_routers_that_hold_it_alone() {
    let mut world = World::new();
    // Packets of the attack come in at two routers alike.
    let at_two = |i: u32, sample: &mut Sample| sample.router = u8::try_from(1 + i % 2).expect("one or two");
    world.ten_seconds(at_two);
    world.held_by(Routers::one(1));
    world.ten_seconds(at_two);
    let attack = world.pipeline.detector().attacks().values().next().expect("it goes on").clone();
    assert!(attack.over_since.is_some() && attack.waits_for_routers());
    let at_one = world.hits();
    assert!((90_000..110_000).contains(&at_one), "half of 200,000 packets: {at_one}");
    assert_eq!(world.routes(), [RULE], "no blackhole for traffic that a rule would take where it comes in");
    world.held_by(Routers::one(1).and(Routers::one(2)));
    world.ten_seconds(at_two);
    let attack = world.pipeline.detector().attacks().values().next().expect("hits keep it alive").clone();
    assert!(attack.over_since.is_none() && !attack.waits_for_routers());
    assert!((280_000..310_000).contains(&world.hits()), "all of it now: {}", world.hits());
    assert_eq!(world.routes(), [RULE]);
}

#[test]
fn telemetry_of_no_router_in_particular_is_filtered_once_any_router_holds_the_rule() {
    let mut world = World::new();
    world.ten_seconds(|_, _| ());
    world.held_by(Routers::one(7));
    world.ten_seconds(|_, _| ());
    assert!((190_000..210_000).contains(&world.hits()), "{}", world.hits());
    assert_eq!(world.routes(), [RULE], "a rule that a router took late has not failed");
}

#[test]
fn what_is_held_back_changes_no_count_and_is_neither_mined_again_nor_escalated() {
    type Change = fn(&mut policy::Config);
    let dry: [(&str, Change); 3] = [
        ("dry run", |config| config.enable_ban = false),
        ("approval", |config| config.groups.values_mut().for_each(|g| g.mode = policy::Mode::Approve)),
        ("no FlowSpec", |config| config.flow_spec_announces = false),
    ];
    for (name, change) in dry {
        let mut world = World::with(change);
        world.ten_seconds(|_, _| ());
        let packets = |world: &World| world.pipeline.detector().host(prefix("203.0.113.9")).expect("known").packets[0];
        let before = packets(&world);
        world.ten_seconds(|_, _| ());
        assert_eq!(packets(&world) - before, 230_000, "{name}: everything arrives, and is counted");
        assert!(world.pipeline.wanted().is_empty(), "{name}");
        assert_eq!(world.routes(), [RULE], "{name}: no blackhole in place of a rule that nobody carries out");
        assert_eq!(world.hits(), 0, "{name}");
        let mined = world.pipeline.take_cases().len();
        world.ten_seconds(|_, _| ());
        assert_eq!(world.pipeline.take_cases().len(), 0, "{name}: {mined} mined first, then no more");
        let all: Vec<Mitigation> = world.pipeline.policy().all().cloned().collect();
        let would = world.pipeline.would_have_hit(all[0].target, &all[0].route).expect("watched").0;
        assert!((390_000..600_000).contains(&would), "{name}: {would}");
        // A second vector gets its own rule, though nothing of the first is gone.
        world.ten_seconds(|i, sample| {
            if i % 2 == 0 && sample.protocol == 17 {
                (sample.source_port, sample.length, sample.bytes) = (123, 468, 468);
            }
        });
        assert!(world.routes().iter().any(|r| r.contains("source-port 123")), "{name}: {:?}", world.routes());
        assert!(world.pipeline.policy().all().all(|m| matches!(m.route, Route::FlowSpec(_))), "{name}");
    }
}

#[test]
fn what_a_router_says_it_dropped_is_no_attack() {
    let mut world = World::new();
    world.ten_seconds(|_, sample| sample.dropped = sample.protocol == 17);
    assert!(world.pipeline.detector().attacks().is_empty() && world.routes().is_empty());
    // What a rule of ours dropped keeps it alive.
    world.ten_seconds(|_, _| ());
    world.held_by(Routers::ALL);
    world.ten_seconds(|_, sample| sample.dropped = sample.protocol == 17);
    assert!((190_000..210_000).contains(&world.hits()), "{}", world.hits());
}
