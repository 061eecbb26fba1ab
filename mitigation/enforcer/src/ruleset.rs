//! Rules in RFC 8955 order to a [`Model`] of nftables chains and maps that finds the first match fast.
//!
//! # How order is kept without a list of 10,000 rules
//! RFC 8955 section 5.1 sorts by destination first: of nested prefixes the longer one comes first, disjoint ones never meet. So
//! the first matching rule is found by looking the destination up once per prefix length in use, longest first: a hash lookup
//! each. What is found is a chain with the rules of exactly this destination, in which sources are looked up the same way.
//! When it returns, the next shorter length is looked up. Rules without destination follow, by source.
//!
//! Destinations whose rules differ from those of others only in addresses, protocol and ports share one map with these as
//! key and the verdict as value, without chains of their own. The same is done with runs of neighbouring rules that differ only
//! in ports; two rules of a run never match the same packet, so their order does not matter.
//!
//! Counters, limits and chains carry the rule's number: `r17` counts, `a17` acts, `l17...` limits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use flowspec::{Condition, Pattern, Ranges};
use traffic::{IpVersion, Prefix};

use super::expression::{self, network};
use super::model::{Chain, Map, Model};
use super::plan::{Limit, Plan, Verdict};

/// Fewer rules than this are written one after the other.
const DISPATCH: usize = 8;
/// Least rules of one shape that get a map of their own; every map is one more lookup per packet.
const SHARED_MAP: usize = 16;
/// Such maps per prefix length at most.
const MAX_SHARED_MAPS: usize = 8;
/// Rules of a destination that may go to a shared map at most.
const MAX_OF_ONE: usize = 16;
/// Map elements of one rule at most.
const MAX_KEYS: usize = 16;
/// Rules of a run that are compared with each other at most.
const MAX_RUN: usize = 1024;

/// A rule to install.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its number, unique as long as it lives.
    pub id: u32,
    /// Address family.
    pub version: IpVersion,
    /// Which packets.
    pub pattern: Pattern,
    /// What happens to them.
    pub plan: Plan,
}

/// Where packets are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// Packets that this machine forwards.
    Forward,
    /// Packets to this machine.
    Input,
    /// All packets that arrive, before routing and before reassembly of fragments.
    Prerouting,
    /// All packets that arrive on these interfaces, at the earliest point.
    Ingress(Vec<String>),
}

/// What surrounds the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Where packets are looked at.
    pub hook: Hook,
    /// Priority in the hook: lower is earlier.
    pub priority: i32,
    /// BGP peers, TCP ports of the sessions with them, which are never cut off, and our end of them where it is known.
    pub sessions: BTreeSet<(IpAddr, u16, Option<IpAddr>)>,
    /// Traffic from and to these is never filtered.
    pub management: Vec<Prefix>,
}

/// Compiles rules, which are in RFC 8955 section 5.1's order. Returns as well the rules that no packet can match.
#[must_use]
pub fn compile(rules: &[Rule], frame: &Frame) -> (Model, BTreeSet<u32>) {
    let mut model = Model::default();
    let mut never = BTreeSet::new();
    let mut base = guards(frame);
    for (version, chain, protocol) in [(IpVersion::V4, "v4", "ip"), (IpVersion::V6, "v6", "ip6")] {
        let mut compiler = Compiler { model, never, version };
        let of: Vec<&Rule> = rules.iter().filter(|r| r.version == version).collect();
        compiler.block(chain, &of, Stage::Destination, Seen::default());
        (model, never) = (compiler.model, compiler.never);
        if model.chains.contains_key(chain) {
            base.push(format!("meta protocol {protocol} jump {chain}"));
        }
    }
    let hook = match &frame.hook {
        Hook::Forward => "type filter hook forward".to_owned(),
        Hook::Input => "type filter hook input".to_owned(),
        Hook::Prerouting => "type filter hook prerouting".to_owned(),
        Hook::Ingress(devices) => {
            let names: Vec<String> = devices.iter().map(|d| format!("\"{d}\"")).collect();
            format!("type filter hook ingress devices = {{ {} }}", names.join(", "))
        }
    };
    let hook = Some(format!("{hook} priority {}; policy accept;", frame.priority));
    model.chains.insert("enforce".to_owned(), Chain { hook, rules: base });
    (model, never)
}

/// What is accepted before any rule: our BGP sessions where they pass this hook, and management.
fn guards(frame: &Frame) -> Vec<String> {
    let mut rules = Vec::new();
    // A forwarded packet is not of our sessions. Elsewhere only packets to this machine are: the peer's address may be forged.
    let local = match frame.hook {
        Hook::Forward => None,
        Hook::Input => Some(""),
        Hook::Prerouting => Some("fib daddr type local "),
        // The kernel does not look routes up there.
        Hook::Ingress(_) => Some(""),
    };
    for (peer, port, ours) in &frame.sessions {
        let Some(local) = local else { break };
        let network = if peer.is_ipv4() { "ip" } else { "ip6" };
        let ours = ours.map_or_else(String::new, |a| format!("{network} daddr {a} "));
        for side in ["sport", "dport"] {
            rules.push(format!("{network} saddr {peer} {ours}meta l4proto 6 th {side} {port} {local}accept"));
        }
    }
    for version in [IpVersion::V4, IpVersion::V6] {
        let list: Vec<Prefix> = frame.management.iter().filter(|p| p.version() == version).copied().collect();
        // Intervals of a set must not overlap.
        let wide = |p: &&Prefix| !list.iter().any(|o| o != *p && o.contains(p));
        let list: BTreeSet<String> = list.iter().filter(wide).map(ToString::to_string).collect();
        if !list.is_empty() {
            let set = list.into_iter().collect::<Vec<_>>().join(", ");
            for side in ["saddr", "daddr"] {
                rules.push(format!("{} {side} {{ {set} }} accept", network(version)));
            }
        }
    }
    rules
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Destination,
    Source,
    Rest,
}

/// Which addresses the way to a chain has matched already.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    destination: bool,
    source: bool,
}

impl Seen {
    fn has(self, condition: &Condition) -> bool {
        (self.destination && matches!(condition, Condition::Destination(_, 0)))
            || (self.source && matches!(condition, Condition::Source(_, 0)))
    }
}

/// The prefix that a stage looks up.
fn prefix_of(rule: &Rule, stage: Stage) -> Option<Prefix> {
    rule.pattern.conditions().iter().find_map(|c| match (stage, c) {
        (Stage::Destination, Condition::Destination(prefix, 0)) | (Stage::Source, Condition::Source(prefix, 0)) => {
            Some(*prefix)
        }
        _ => None,
    })
}

/// Whether a rule belongs to a stage all the same, without a prefix that can be looked up.
fn has_offset(rule: &Rule, stage: Stage) -> bool {
    rule.pattern.conditions().iter().any(|c| match stage {
        Stage::Destination => matches!(c, Condition::Destination(_, 1..)),
        Stage::Source => matches!(c, Condition::Source(_, 1..)),
        Stage::Rest => false,
    })
}

struct Compiler {
    model: Model,
    never: BTreeSet<u32>,
    version: IpVersion,
}

impl Compiler {
    /// Puts rules into a chain.
    fn block(&mut self, chain: &str, rules: &[&Rule], stage: Stage, seen: Seen) {
        if rules.is_empty() {
            return;
        }
        self.model.chains.entry(chain.to_owned()).or_default();
        if stage == Stage::Rest {
            return self.runs(chain, rules, seen);
        }
        // In RFC order those with the stage's prefix come first, then those with an offset, then those without.
        let head = rules.iter().take_while(|r| prefix_of(r, stage).is_some()).count();
        let offset = rules[head..].iter().take_while(|r| has_offset(r, stage)).count();
        if head >= DISPATCH {
            self.dispatch(chain, &rules[..head], stage, seen);
        } else {
            rules[..head].iter().for_each(|rule| self.linear(chain, rule, seen));
        }
        rules[head..head + offset].iter().for_each(|rule| self.linear(chain, rule, seen));
        let next = if stage == Stage::Destination { Stage::Source } else { Stage::Rest };
        self.block(chain, &rules[head + offset..], next, seen);
    }

    /// Looks a prefix up, once per length, the longest first.
    fn dispatch(&mut self, chain: &str, rules: &[&Rule], stage: Stage, seen: Seen) {
        let mut by_length: BTreeMap<Reverse<u8>, BTreeMap<Prefix, Vec<&Rule>>> = BTreeMap::new();
        for rule in rules {
            if let Some(prefix) = prefix_of(rule, stage) {
                by_length.entry(Reverse(prefix.length())).or_default().entry(prefix).or_default().push(rule);
            }
        }
        let (side, next, seen_next) = match stage {
            Stage::Destination => ("daddr", Stage::Source, Seen { destination: true, ..seen }),
            Stage::Source | Stage::Rest => ("saddr", Stage::Rest, Seen { source: true, ..seen }),
        };
        let letter = &side[..1];
        for (Reverse(length), mut groups) in by_length {
            self.shared_maps(&format!("{chain}_{letter}{length}"), chain, &mut groups, seen);
            let mut elements = BTreeMap::new();
            for (prefix, rules) in &groups {
                let inner =
                    format!("{chain}_{letter}{length}_{:x}", prefix.bits() >> (128 - u32::from(self.version.bits())));
                self.block(&inner, rules, next, seen_next);
                if length == 0 {
                    self.push(chain, format!("jump {inner}"));
                } else {
                    elements.insert(prefix.address().to_string(), (None, format!("jump {inner}")));
                }
            }
            if elements.is_empty() {
                continue;
            }
            let field = format!("{} {side}", network(self.version));
            let name = format!("{chain}_{letter}{length}");
            let masked = if length == self.version.bits() {
                field.clone()
            } else {
                format!("{field} & {}", expression::mask(self.version, length))
            };
            self.push(chain, format!("{masked} vmap @{name}"));
            self.model.maps.insert(name, Map { declaration: format!("typeof {field} : verdict;"), elements });
        }
    }

    /// Moves the destinations (or sources) whose rules fit a shared map there.
    fn shared_maps(&mut self, name: &str, chain: &str, groups: &mut BTreeMap<Prefix, Vec<&Rule>>, seen: Seen) {
        let mut shapes: BTreeMap<Shape, (usize, Vec<Prefix>)> = BTreeMap::new();
        for (prefix, rules) in groups.iter().filter(|(_, rules)| rules.len() <= MAX_OF_ONE) {
            let Some(first) = self.flat(rules[0], seen) else { continue };
            let mut taken = first.boxes.clone();
            let fits = rules[1..].iter().all(|rule| {
                let Some(flat) = self.flat(rule, seen).filter(|f| f.shape == first.shape) else { return false };
                let disjoint = !taken.iter().any(|t| flat.boxes.iter().any(|b| t.meets(b)));
                taken.extend(flat.boxes);
                disjoint
            });
            if fits {
                let (count, prefixes) = shapes.entry(first.shape).or_default();
                *count += rules.len();
                prefixes.push(*prefix);
            }
        }
        let mut shapes: Vec<(Shape, usize, Vec<Prefix>)> =
            shapes.into_iter().filter(|(_, (n, _))| *n >= SHARED_MAP).map(|(s, (n, p))| (s, n, p)).collect();
        shapes.sort_by_key(|(_, count, _)| Reverse(*count));
        for (shape, _, prefixes) in shapes.into_iter().take(MAX_SHARED_MAPS) {
            let rules: Vec<&Rule> = prefixes.iter().filter_map(|p| groups.remove(p)).flatten().collect();
            self.map(name, chain, &shape, &rules, seen);
        }
    }

    /// One map for rules of one shape, and the rule that asks it.
    fn map(&mut self, prefix: &str, chain: &str, shape: &Shape, rules: &[&Rule], seen: Seen) {
        let mut elements = BTreeMap::new();
        for rule in rules {
            let verdict = if rule.plan.is_verdict_only() {
                match rule.plan.verdict {
                    Verdict::Drop => "drop".to_owned(),
                    Verdict::Accept => "accept".to_owned(),
                    Verdict::GoOn => "continue".to_owned(),
                }
            } else {
                self.act(rule);
                format!("jump a{}", rule.id)
            };
            for key in self.flat(rule, seen).into_iter().flat_map(|f| f.boxes) {
                elements.insert(key.text(), (Some(rule.id), verdict.clone()));
            }
        }
        let fields = shape.fields.join(" . ");
        let flags = if shape.interval { "flags interval; " } else { "" };
        let declaration = format!("typeof {fields} : verdict; {flags}counter;");
        // Runs of a chain may share a shape; the name tells them apart.
        let number = (0..).find(|n| !self.model.maps.contains_key(&shape.name(prefix, *n))).unwrap_or(0);
        let name = shape.name(prefix, number);
        let guard = if shape.guard.is_empty() { String::new() } else { format!("{} ", shape.guard) };
        self.push(chain, format!("{guard}{fields} vmap @{name}"));
        self.model.maps.insert(name, Map { declaration, elements });
    }

    /// Rules one after the other; neighbours that differ only in protocol and ports share a map.
    fn runs(&mut self, chain: &str, rules: &[&Rule], seen: Seen) {
        let mut at = 0;
        while at < rules.len() {
            let mut run = 0;
            if let Some(first) = self.flat(rules[at], seen) {
                let mut points = BTreeSet::new();
                let mut boxes: Vec<Box> = Vec::new();
                for rule in &rules[at..] {
                    let Some(flat) = self.flat(rule, seen).filter(|f| f.shape == first.shape) else { break };
                    let is_new = if flat.shape.interval {
                        boxes.len() < MAX_RUN && !boxes.iter().any(|b| flat.boxes.iter().any(|f| f.meets(b)))
                    } else {
                        flat.boxes.iter().all(|b| !points.contains(b))
                    };
                    if !is_new {
                        break;
                    }
                    points.extend(flat.boxes.iter().cloned());
                    boxes.extend(flat.boxes);
                    run += 1;
                }
                if run >= DISPATCH {
                    self.map(&format!("{chain}_p"), chain, &first.shape, &rules[at..at + run], seen);
                    at += run;
                    continue;
                }
            }
            let end = at + run.max(1);
            rules[at..end].iter().for_each(|rule| self.linear(chain, rule, seen));
            at = end;
        }
    }

    /// One nftables rule per alternative.
    fn linear(&mut self, chain: &str, rule: &Rule, seen: Seen) {
        let alternatives = expression::alternatives(&rule.pattern, self.version, |c| seen.has(c));
        if alternatives.is_empty() {
            self.never.insert(rule.id);
            return;
        }
        let counter = format!("counter name r{}", rule.id);
        self.model.counters.insert(format!("r{}", rule.id));
        let verdict = match (rule.plan.is_verdict_only(), rule.plan.verdict) {
            (false, _) => {
                self.act(rule);
                format!(" jump a{}", rule.id)
            }
            (true, Verdict::Drop) => " drop".to_owned(),
            (true, Verdict::Accept) => " accept".to_owned(),
            (true, Verdict::GoOn) => String::new(),
        };
        for mut expressions in alternatives {
            expressions.push(format!("{counter}{verdict}"));
            self.push(chain, expressions.join(" "));
        }
    }

    /// The chain that carries out a rule's actions.
    fn act(&mut self, rule: &Rule) {
        let mut rules = Vec::new();
        let (id, plan) = (rule.id, &rule.plan);
        if plan.sample {
            rules.push(format!("limit rate 10/second log prefix \"floodwall r{id}: \""));
        }
        for (limit, is_bytes) in [(plan.bytes, true), (plan.packets, false)] {
            let Some(Limit { amount, period }) = limit else { continue };
            // The rate is part of the name: an object cannot be changed while rules use it.
            let name = format!("l{id}{}{amount}{period}", if is_bytes { "b" } else { "p" });
            let body = if is_bytes {
                format!("rate over {amount} bytes/{period};")
            } else {
                let burst = if period == "second" { (amount / 10).clamp(1, 100_000) } else { 1 };
                format!("rate over {amount}/{period} burst {burst} packets;")
            };
            rules.push(format!("limit name \"{name}\" drop"));
            self.model.limits.insert(name, body);
        }
        rules.extend(plan.dscp.map(|dscp| format!("{} dscp set {dscp}", network(self.version))));
        rules.extend(plan.mark.map(|mark| format!("meta mark set {mark}")));
        match plan.verdict {
            Verdict::Drop => rules.push("drop".to_owned()),
            Verdict::Accept => rules.push("accept".to_owned()),
            Verdict::GoOn => {}
        }
        self.model.chains.insert(format!("a{id}"), Chain { hook: None, rules });
    }

    fn push(&mut self, chain: &str, rule: String) {
        self.model.chains.entry(chain.to_owned()).or_default().rules.push(rule);
    }

    /// A rule as keys of a map, if it is one: addresses, protocol and ports are the key, everything else is the same in all rules
    /// of the shape.
    fn flat(&self, rule: &Rule, seen: Seen) -> Option<Flat> {
        let mut fields = Vec::new();
        let mut columns: Vec<Vec<Key>> = Vec::new();
        let network = network(self.version);
        for condition in rule.pattern.conditions().iter().filter(|c| !seen.has(c)) {
            let (Condition::Destination(prefix, 0) | Condition::Source(prefix, 0)) = condition else { continue };
            let side = if matches!(condition, Condition::Destination(..)) { "daddr" } else { "saddr" };
            fields.push(format!("{network} {side}"));
            columns.push(vec![Key::prefix(prefix)]);
        }
        if let Some(protocols) = expression::protocols(&rule.pattern, self.version) {
            fields.push("meta l4proto".to_owned());
            columns.push(points(&protocols)?);
        }
        for condition in rule.pattern.conditions() {
            let (name, set) = if let Condition::SourcePort(set) = condition {
                ("th sport", set)
            } else if let Condition::DestinationPort(set) = condition {
                ("th dport", set)
            } else if matches!(condition, Condition::Port(_)) {
                return None;
            } else {
                continue;
            };
            fields.push(name.to_owned());
            columns.push(set.as_slice().iter().map(|&(low, high)| Key::range(low, high)).collect());
        }
        let in_key = |c: &Condition| {
            use Condition::{Destination, DestinationPort, Protocol, Source, SourcePort};
            matches!(c, Destination(_, 0) | Source(_, 0) | Protocol(_) | SourcePort(_) | DestinationPort(_))
        };
        let mut others = expression::conditions(&rule.pattern, self.version, in_key);
        let keys: usize = columns.iter().map(Vec::len).product();
        if others.len() != 1 || fields.is_empty() || !(1..=MAX_KEYS).contains(&keys) {
            return None;
        }
        let mut boxes = vec![Box(Vec::new())];
        for column in columns {
            boxes = boxes.iter().flat_map(|b| column.iter().map(|k| b.and(k))).collect();
        }
        let interval = boxes.iter().any(|b| b.0.iter().any(|k| k.low != k.high));
        let guard = others.pop().unwrap_or_default().join(" ");
        Some(Flat { shape: Shape { fields, guard, interval }, boxes })
    }
}

/// Single values, few of them.
fn points(set: &Ranges) -> Option<Vec<Key>> {
    let count: u32 = set.as_slice().iter().map(|&(low, high)| high - low + 1).sum();
    (1..=4)
        .contains(&count)
        .then(|| set.as_slice().iter().flat_map(|&(low, high)| (low..=high).map(|v| Key::range(v, v))).collect())
}

/// What rules of one map have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    fields: Vec<String>,
    /// Conditions besides the key.
    guard: String,
    /// Keys are ranges.
    interval: bool,
}

impl Shape {
    /// A map name that is never used for another declaration.
    fn name(&self, prefix: &str, number: usize) -> String {
        let letter = |f: &String| match f.as_str() {
            "th sport" => 's',
            "th dport" => 'd',
            "meta l4proto" => 'p',
            address if address.ends_with("daddr") => 'D',
            _ => 'S',
        };
        let fields: String = self.fields.iter().map(letter).collect();
        let interval = if self.interval { "i" } else { "e" };
        format!("{prefix}_{fields}{interval}{number}")
    }
}

/// A rule as map keys.
#[derive(Debug, Clone)]
struct Flat {
    shape: Shape,
    boxes: Vec<Box>,
}

/// A range of one field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    low: u128,
    high: u128,
    text: String,
}

impl Key {
    fn prefix(prefix: &Prefix) -> Self {
        let rest = if prefix.length() == 0 { u128::MAX } else { (1u128 << (128 - u32::from(prefix.length()))) - 1 };
        // Bits behind an IPv4 address are not part of it.
        let (high, text) = if prefix.is_host() {
            (prefix.bits(), prefix.address().to_string())
        } else {
            (prefix.bits() | rest, prefix.to_string())
        };
        Self { low: prefix.bits(), high, text }
    }

    fn range(low: u32, high: u32) -> Self {
        let text = if low == high { low.to_string() } else { format!("{low}-{high}") };
        Self { low: low.into(), high: high.into(), text }
    }
}

/// A range in every field of the key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Box(Vec<Key>);

impl Box {
    fn and(&self, key: &Key) -> Self {
        let mut keys = self.0.clone();
        keys.push(key.clone());
        Self(keys)
    }

    fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a.low <= b.high && b.low <= a.high)
    }

    fn text(&self) -> String {
        self.0.iter().map(|k| k.text.as_str()).collect::<Vec<_>>().join(" . ")
    }
}
