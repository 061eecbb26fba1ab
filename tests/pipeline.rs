//! The pipeline without files, sockets or a clock.

use std::time::Duration;

use collectors::{Fields, Origin, Sample, Time};
use detector::{Class, Direction, HostGroup, Measure, Prefix, Unit};
use floodwall::pipeline::Pipeline;
use mitigation::{GroupPolicy, Mitigation, Route};

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

#[test]
fn while_no_router_holds_a_rule_ordinary_traffic_is_not_mined_in_its_place() {
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
    let mitigation = mitigation::Config { networks, enable_ban: true, groups, ..mitigation::Config::default() };
    let (mut pipeline, mut meters) = Pipeline::new(detector, mitigation, 1, 1);
    let mut now = Time::from_seconds(1_000_000, 0);
    pipeline.step(now);
    let mut random = 1u32;
    // 20,000 packets/s of DNS answers beside 3,000 packets/s of HTTPS, for ten seconds, and no session is up.
    for _ in 0..200 {
        for i in 0..1_150u32 {
            // Sources all over the address space, clients' ports and lengths of all kinds.
            random = random.wrapping_mul(0x9e37_79b1).wrapping_add(i);
            let [a, b, c, _] = random.to_be_bytes();
            let port = 1024 + u16::from_be_bytes([a, b]) / 2;
            let sample = if i % 23 < 3 {
                let mut sample = packet(now, random, 6, (port, 443), 52 + u16::from(c) * 5);
                sample.tcp_flags = 0x10;
                sample
            } else {
                packet(now, random, 17, (53, port), 500 + u16::from(c) * 3)
            };
            meters[0].count(&[sample]);
        }
        meters[0].serve(now);
        now = now.after(TICK);
        pipeline.step(now);
        meters[0].serve(now);
        pipeline.collect(now);
    }
    let routes: Vec<String> = pipeline.policy().all().map(|m: &Mitigation| m.route.to_string()).collect();
    assert_eq!(routes, ["flow destination 203.0.113.9/32 protocol udp source-port 53"]);
    assert!(pipeline.policy().all().all(|m| matches!(m.route, Route::FlowSpec(_))));
}
