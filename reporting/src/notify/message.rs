//! [`Message`]: what somebody is told, in FastNetMon's field names.

use std::collections::BTreeMap;

use bgp::Route;
use config::notify::{Event, Template};
use operator::identity::uuid;
use operator::report::{Entry, Report};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use traffic::{Prefix, Sample, Target};

use super::Facts;
use super::dump::{self, Shares};

/// What one channel is told of one event, in every form that channels send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// A UUID of its own; the same when it is sent again.
    pub id: String,
    /// Seconds since the Unix epoch.
    pub time: f64,
    /// [`Event::name`].
    pub action: String,
    /// Own address; a network with its length; empty for a warning.
    pub ip: String,
    /// `incoming` or `outgoing`.
    pub direction: String,
    /// Packets per second.
    pub power: u64,
    /// The attack is one on the sum of a host group.
    pub of_group: bool,
    /// Values of templates, but for `details`.
    pub variables: BTreeMap<String, String>,
    /// The text report without its dump.
    pub report: String,
    /// Lines of the sample.
    pub dump: Vec<String>,
    /// FastNetMon's object.
    pub json: Value,
}

/// Which event a report is to those who are told.
#[must_use]
#[allow(clippy::wildcard_enum_match_arm, reason = "nobody is told of others")]
pub fn event(report: &Report) -> Option<Event> {
    Some(match report {
        Report::Announce { route, dry_run: None, .. } if is_rule(route) => Event::PartialBlock,
        Report::Announce { dry_run: None, .. } => Event::Ban,
        Report::Withdraw { route, dry_run: None, .. } | Report::HeldBack { route, .. } if is_rule(route) => {
            Event::PartialUnblock
        }
        Report::Withdraw { dry_run: None, .. } | Report::HeldBack { .. } => Event::Unban,
        Report::Alarm { .. } => Event::AttackDetected,
        Report::Over { .. } => Event::AttackFinished,
        Report::BreakerOpened { .. }
        | Report::WithdrawnAll { .. }
        | Report::NotDurable { .. }
        | Report::SuspectExporter { .. }
        | Report::Silence
        | Report::SuspectRate { measured: Some(_), .. } => Event::Warning,
        _ => return None,
    })
}

/// Whether anybody is told of it.
#[must_use]
pub fn is_told(report: &Report) -> bool {
    event(report).is_some()
}

const fn is_rule(route: &Route) -> bool {
    matches!(route, Route::FlowSpec(_))
}

/// Target and route.
#[must_use]
#[allow(clippy::wildcard_enum_match_arm, reason = "others have no route")]
pub fn subject(report: &Report) -> (Option<Target>, Option<&Route>) {
    match report {
        Report::Announce { target, route, .. }
        | Report::Withdraw { target, route, .. }
        | Report::HeldBack { target, route, .. } => (Some(*target), Some(route)),
        Report::Alarm { target, .. } | Report::Over { target, .. } => (Some(*target), None),
        _ => (None, None),
    }
}

/// What a ban and its unban have in common.
#[must_use]
pub fn key(target: &Target, route: &str) -> String {
    format!("{} {} {route}", target.prefix, target.direction.name())
}

/// An address as FastNetMon writes it: a host without its length.
fn ip(prefix: &Prefix) -> String {
    if prefix.is_host() { prefix.address().to_string() } else { prefix.to_string() }
}

impl Message {
    /// Of an entry, what was known at that moment, and the sample that was mined.
    #[must_use]
    pub fn of(entry: &Entry, event: Event, facts: &Facts, sample: &[Sample]) -> Self {
        let (target, route) = subject(&entry.report);
        let route = route.map(ToString::to_string).unwrap_or_default();
        let route = route.as_str();
        let place = Place {
            ip: target.map(|t| ip(&t.prefix)).unwrap_or_default(),
            version: if target.is_some_and(|t| t.prefix.address().is_ipv6()) { "IPv6" } else { "IPv4" },
            direction: target.map_or("other", |t| t.direction.name()),
            is_manual: entry.by.is_some(),
        };
        let text = entry.report.to_string();
        let rates = Rates::of(facts, place.direction, dump::shares(sample));
        let summary = summary(event, &place.ip, &text, &rates, facts);
        let variables = variables(event, &place, route, &rates, facts, summary);
        let details = details(&place, &rates, facts);
        let dump: Vec<String> = sample.iter().take(dump::MAX_SAMPLES).map(dump::line).collect();
        let rules: Vec<&Value> = facts.mitigation.iter().filter_map(|m| m.rule.as_ref()).collect();
        let of_group = facts.attack.as_ref().is_some_and(|a| matches!(a.scope, detector::Scope::Group));
        let mut json = json!({
            "ip": place.ip,
            "action": event.name(),
            "alert_scope": if of_group { "hostgroup" } else { "host" },
            "attack_details": details,
            "packet_dump": dump,
            "packet_dump_detailed": sample.iter().take(dump::MAX_SAMPLES).map(dump::detailed).collect::<Vec<_>>(),
            "flow_spec_rules": rules,
        });
        if of_group {
            json["hostgroup_name"] = details["host_group"].clone();
            json["parent_hostgroup_name"] = json!("");
            json["hostgroup_networks"] = json!([facts.network]);
        }
        if event == Event::Warning {
            json["message"] = json!(text);
        }
        Self {
            id: uuid(&format!("{} {} {text} {route}", entry.time, event.name())),
            time: entry.time,
            action: event.name().to_owned(),
            report: report(&place, &rates, route, event),
            ip: place.ip,
            direction: place.direction.to_owned(),
            power: rates.packets,
            of_group,
            variables,
            dump,
            json,
        }
    }

    /// The end of what `self` told of: with its attack and its rule.
    #[must_use]
    pub fn ended(&self, time: f64, event: Event, text: &str) -> Self {
        let mut message = self.clone();
        message.id = uuid(&format!("{time} {} {text} {}", event.name(), self.id));
        message.time = time;
        event.name().clone_into(&mut message.action);
        message.json["action"] = json!(event.name());
        message.variables.insert("action".to_owned(), event.name().to_owned());
        let route = self.variables.get("route").cloned().unwrap_or_default();
        let summary = if event == Event::Unban {
            format!("{} is no longer blackholed", self.ip)
        } else {
            format!("no rule for {} any more: {route}", self.ip)
        };
        message.variables.insert("summary".to_owned(), summary);
        message
    }

    /// The same without its sample, which is most of it.
    #[must_use]
    pub fn without_sample(&self) -> Self {
        let mut message = self.clone();
        message.dump.clear();
        message.json["packet_dump"] = json!([]);
        message.json["packet_dump_detailed"] = json!([]);
        message
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        Event::ALL.into_iter().find(|e| e.name() == self.action)
    }

    /// Whether it tells of a beginning: FastNetMon's scripts get details then.
    #[must_use]
    pub fn is_beginning(&self) -> bool {
        matches!(self.event(), Some(Event::Ban | Event::PartialBlock))
    }

    /// The report of FastNetMon's text form.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.report.clone();
        if !self.dump.is_empty() {
            text.push_str("\nAttack traffic dump\n\n");
            self.dump.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        }
        text
    }

    /// A template with this message's values.
    #[must_use]
    pub fn fill(&self, template: &Template) -> String {
        template.fill(|name| match name {
            "details" => self.report.trim_end().to_owned(),
            name => self.variables.get(name).cloned().unwrap_or_default(),
        })
    }
}

struct Place {
    ip: String,
    version: &'static str,
    direction: &'static str,
    is_manual: bool,
}

/// What the attack's target gets in the attacked direction; classes by the sample's shares.
struct Rates {
    direction: &'static str,
    packets: u64,
    bytes: u64,
    peak: u64,
    shares: Shares,
}

impl Rates {
    fn of(facts: &Facts, direction: &'static str, shares: Shares) -> Self {
        let attack = facts.attack.as_ref();
        let (packets, bytes) = attack.map_or((0, 0), |a| (a.packets_per_second, a.bytes_per_second));
        let peak = attack.map_or(0, |a| a.peak_packets_per_second).max(packets);
        Self { direction, packets, bytes, peak, shares }
    }

    /// `(name, share of packets, share of bytes)`, in FastNetMon's order.
    const fn classes(&self) -> [(&'static str, (f64, f64)); 6] {
        let s = &self.shares;
        [
            ("ip_fragmented", s.ip_fragmented),
            ("dropped", (0.0, 0.0)),
            ("tcp", s.tcp),
            ("syn_tcp", s.syn_tcp),
            ("udp", s.udp),
            ("icmp", s.icmp),
        ]
    }

    fn mbps(&self) -> f64 {
        mbps(self.bytes)
    }

    /// FastNetMon's name for what most of the sample is.
    fn kind(&self) -> (&'static str, &'static str) {
        let s = &self.shares;
        let most = |share: (f64, f64)| share.0 > 0.5;
        if most(s.syn_tcp) {
            ("syn_flood", "tcp")
        } else if most(s.ip_fragmented) {
            ("ip_fragmentation_flood", if most(s.udp) { "udp" } else { "all" })
        } else if most(s.udp) {
            ("udp_flood", "udp")
        } else if most(s.icmp) {
            ("icmp_flood", "icmp")
        } else {
            ("unknown", if most(s.tcp) { "tcp" } else { "all" })
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn mbps(bytes: u64) -> f64 {
    bytes as f64 * 8.0 / 1e6
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share between 0 and 1 of a rate"
)]
fn part(rate: u64, share: f64) -> u64 {
    (rate as f64 * share).round() as u64
}

fn summary(event: Event, ip: &str, text: &str, rates: &Rates, facts: &Facts) -> String {
    let attack = facts.attack.as_ref().map_or_else(String::new, |a| {
        format!(
            ": {} attack of {} packets/s, {:.0} Mbit/s, over {} (host group {})",
            rates.direction,
            rates.packets,
            rates.mbps(),
            a.threshold,
            a.group
        )
    });
    match event {
        Event::Ban => format!("{ip} is blackholed{attack}"),
        Event::PartialBlock => {
            let (rule, action) =
                facts.mitigation.as_ref().map_or((text.to_owned(), ""), |m| (m.route.to_string(), m.action.as_str()));
            format!("{action} for {ip} by {rule}{attack}").trim_start().to_owned()
        }
        Event::Unban => format!("{ip} is no longer blackholed"),
        Event::PartialUnblock | Event::AttackDetected | Event::AttackFinished | Event::Warning => text.to_owned(),
    }
}

fn variables(
    event: Event,
    place: &Place,
    route: &str,
    rates: &Rates,
    facts: &Facts,
    summary: String,
) -> BTreeMap<String, String> {
    let attack = facts.attack.as_ref();
    let of = |f: fn(&operator::status::AttackStatus) -> String| attack.map(f).unwrap_or_default();
    let rule = facts.mitigation.as_ref().and_then(|m| m.rule.as_ref()).map(Value::to_string);
    [
        ("summary", summary),
        ("action", event.name().to_owned()),
        ("ip", place.ip.clone()),
        ("direction", place.direction.to_owned()),
        ("power", rates.packets.to_string()),
        ("peak", rates.peak.to_string()),
        ("mbps", format!("{:.1}", rates.mbps())),
        ("threshold", of(|a| a.threshold.clone())),
        ("group", of(|a| a.group.clone())),
        ("severity", severity(facts).to_owned()),
        ("rule", rule.unwrap_or_default()),
        ("route", route.to_owned()),
        ("attack_uuid", of(|a| uuid(&a.id))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// FastNetMon's three words for how far above its threshold an attack is.
fn severity(facts: &Facts) -> &'static str {
    match facts.attack.as_ref().map_or(1.0, |a| a.severity) {
        s if s < 2.0 => "low",
        s if s < 5.0 => "middle",
        _ => "high",
    }
}

fn details(place: &Place, rates: &Rates, facts: &Facts) -> Value {
    let attack = facts.attack.as_ref();
    let (kind, protocol) = rates.kind();
    let mut all = Map::new();
    let mut put = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    put("attack_uuid", json!(attack.map_or_else(|| uuid(&place.ip), |a| uuid(&a.id))));
    put("attack_severity", json!(severity(facts)));
    put("attack_type", json!(kind));
    put("initial_attack_power", json!(rates.packets));
    put("peak_attack_power", json!(rates.peak));
    put("attack_direction", json!(place.direction));
    put("attack_protocol", json!(protocol));
    put("attack_detection_source", json!(if place.is_manual { "manual" } else { "automatic" }));
    put("attack_detection_threshold", json!(attack.map_or("", |a| a.threshold.as_str())));
    put("attack_detection_threshold_direction", json!(place.direction));
    put("host_group", json!(attack.map_or("", |a| a.group.as_str())));
    put("parent_host_group", json!(""));
    put("host_network", json!(facts.network));
    put("protocol_version", json!(place.version));
    for direction in ["incoming", "outgoing"] {
        let here = |rate: u64| if direction == rates.direction { rate } else { 0 };
        put(&format!("total_{direction}_traffic"), json!(here(rates.bytes)));
        put(&format!("total_{direction}_traffic_bits"), json!(here(rates.bytes) * 8));
        put(&format!("total_{direction}_pps"), json!(here(rates.packets)));
        put(&format!("total_{direction}_flows"), json!(0));
        for (class, (packets, bytes)) in rates.classes() {
            let bytes = here(part(rates.bytes, bytes));
            put(&format!("{direction}_{class}_traffic"), json!(bytes));
            put(&format!("{direction}_{class}_traffic_bits"), json!(bytes * 8));
            put(&format!("{direction}_{class}_pps"), json!(here(part(rates.packets, packets))));
        }
    }
    Value::Object(all)
}

/// FastNetMon's lines: key, value, unit.
fn report(place: &Place, rates: &Rates, route: &str, event: Event) -> String {
    let (kind, protocol) = rates.kind();
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name}: {value}\n"));
    line("IP", &place.ip);
    line("Attack type", kind);
    line("Initial attack power", &format!("{} packets per second", rates.packets));
    line("Peak attack power", &format!("{} packets per second", rates.peak));
    line("Attack direction", place.direction);
    line("Attack protocol", protocol);
    let both = ["incoming", "outgoing"].map(|d| (d, if d == rates.direction { 1 } else { 0 }));
    let rate = |bytes: u64| format!("{:.0} mbps", mbps(bytes));
    both.iter().for_each(|(d, one)| line(&format!("Total {d} traffic"), &rate(rates.bytes * one)));
    both.iter()
        .for_each(|(d, one)| line(&format!("Total {d} pps"), &format!("{} packets per second", rates.packets * one)));
    both.iter().for_each(|(d, _)| line(&format!("Total {d} flows"), "0 flows per second"));
    let spoken = ["ip fragmented", "dropped", "tcp", "syn tcp", "udp", "icmp"];
    for (direction, one) in both {
        let name = if direction == "incoming" { "Incoming" } else { "Outgoing" };
        for (words, (_, (packets, bytes))) in spoken.iter().zip(rates.classes()) {
            line(&format!("{name} {words} traffic"), &rate(part(rates.bytes, bytes) * one));
            line(&format!("{name} {words} pps"), &format!("{} packets per second", part(rates.packets, packets) * one));
        }
    }
    if event == Event::PartialBlock {
        line("FlowSpec rule", route);
    }
    text
}
