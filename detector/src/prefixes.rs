//! `Prefixes`: everything above a host: prefixes of the configured lengths (carpet bombing), own networks, sums of groups.
//!
//! The same test as for hosts, on sums of cells. Where a host or a prefix is alarmed already, its traffic is taken out of what
//! is above it, so that an alarm stands for what is not explained below. When a prefix and wider ones pass at once, the alarm
//! goes to the widest of them that is not mostly one narrower one: a /24 that is bombed alone is alarmed, and not its /22; of
//! a /22 that is bombed evenly, not its four /24s.

use std::collections::BTreeMap;
use std::time::Duration;

use traffic::{Direction, IpVersion, Prefix, Target, Time};

use crate::checks::{Check, Checks, Levels, Passed};
use crate::config::{Config, Unit};
use crate::counters::{Counts, Layout, Shard};
use crate::hosts::{CellId, Hosts};

/// Prefixes that are watched at once, at most; hosts beyond are counted in their networks only.
const MAX_NODES: usize = 1 << 17;
/// A wider prefix is alarmed in place of a narrower one unless that has this share of its traffic.
const MOSTLY: f64 = 0.75;

/// What an alarm is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// A host.
    Host,
    /// A prefix of a configured length.
    Prefix,
    /// A network of `networks_list`.
    Network,
    /// The sum of a host group (`calculation_method = "total"`).
    Group,
}

/// Something that is a sum of cells.
#[derive(Debug)]
struct Node {
    scope: Scope,
    prefix: Prefix,
    /// Index of the host group whose thresholds these are.
    group: usize,
    /// Position in `checks` of the scope.
    checks: usize,
    delta: Counts,
    is_touched: bool,
    levels: Levels,
    /// Thresholds raised to what is usual.
    raised: Option<Checks>,
    /// Packets and bytes by direction since the last second's end.
    second: [[u64; 2]; 2],
    /// Of a group with several networks: packets of each in this tick.
    networks: Vec<(Prefix, u64)>,
}

#[derive(Debug)]
struct CellState {
    prefix: Prefix,
    reading: Counts,
    nodes: Vec<u32>,
}

/// An alarm, or a further crossing of a prefix that is alarmed.
#[derive(Debug, Clone)]
pub(crate) struct Crossed {
    pub(crate) target: Target,
    pub(crate) scope: Scope,
    pub(crate) group: usize,
    pub(crate) passed: Passed,
}

/// Sums of prefixes, networks and groups, and which of them are over their thresholds.
#[derive(Debug)]
pub(crate) struct Prefixes {
    layout: Layout,
    /// Per scope and group.
    checks: Vec<Checks>,
    nodes: Vec<Node>,
    by_key: BTreeMap<(Scope, usize, Prefix), u32>,
    cells: Vec<CellState>,
    scratch: Counts,
    tolerance: Duration,
}

/// What hosts that are alarmed, or about to be, had in this tick, by cell.
pub(crate) type Explained = BTreeMap<CellId, Vec<(Direction, Counts)>>;

impl Prefixes {
    pub(crate) fn new(config: &Config, layout: Layout) -> Self {
        let of_scope = |of: fn(&crate::HostGroup) -> &crate::Thresholds| {
            config.groups.iter().map(move |g| Checks::new(of(g))).collect::<Vec<_>>()
        };
        let mut checks = of_scope(|g| &g.prefix_thresholds);
        checks.extend(of_scope(|g| &g.network_thresholds));
        checks.extend(of_scope(|g| &g.thresholds));
        Self {
            layout,
            checks,
            nodes: Vec::new(),
            by_key: BTreeMap::new(),
            cells: Vec::new(),
            scratch: Counts::zero(layout),
            tolerance: config.burst_tolerance,
        }
    }

    fn checks_at(groups: usize, scope: Scope, group: usize) -> usize {
        match scope {
            Scope::Host | Scope::Prefix => group,
            Scope::Network => groups + group,
            Scope::Group => 2 * groups + group,
        }
    }

    /// Takes in cells that have appeared; returns them.
    pub(crate) fn register(&mut self, config: &Config, hosts: &Hosts, now: Time) -> Vec<(CellId, Prefix)> {
        let mut new = Vec::new();
        while self.cells.len() < hosts.cell_count() {
            let id = CellId(u32::try_from(self.cells.len()).unwrap_or(u32::MAX));
            let Some(cell) = hosts.cell(id) else { break };
            let mut nodes = Vec::new();
            let lengths = match cell.prefix.version() {
                IpVersion::V4 => &config.prefix_lengths.0,
                IpVersion::V6 => &config.prefix_lengths.1,
            };
            let network = hosts.networks().find(cell.prefix.version(), cell.prefix.bits()).copied();
            let kind = hosts.membership().kinds()[cell.kind as usize];
            for length in lengths.iter().filter(|l| **l <= cell.prefix.length()) {
                let prefix = cell.prefix.widened(*length);
                if network.is_some_and(|n| n.contains(&prefix)) {
                    let group = hosts.membership().group_of_prefix(&prefix);
                    nodes.extend(self.node(config, Scope::Prefix, group, prefix, now));
                }
            }
            if let Some(network) = network {
                let group = hosts.membership().group_of_prefix(&network);
                nodes.extend(self.node(config, Scope::Network, group, network, now));
            }
            let totals = hosts.membership().totals();
            for group in totals.iter().enumerate().filter(|(i, _)| kind.totals & 1 << i != 0).map(|(_, g)| *g) {
                if let Some(first) = config.groups[group].networks.first() {
                    nodes.extend(self.node(config, Scope::Group, group, *first, now));
                }
            }
            self.cells.push(CellState { prefix: cell.prefix, reading: Counts::zero(self.layout), nodes });
            new.push((id, cell.prefix));
        }
        new
    }

    #[allow(clippy::cast_possible_truncation, reason = "at most MAX_NODES")]
    fn node(&mut self, config: &Config, scope: Scope, group: usize, prefix: Prefix, now: Time) -> Option<u32> {
        let checks = Self::checks_at(config.groups.len(), scope, group);
        if self.checks[checks].is_empty() {
            return None;
        }
        if let Some(node) = self.by_key.get(&(scope, group, prefix)) {
            return Some(*node);
        }
        if self.nodes.len() >= MAX_NODES {
            return None;
        }
        let networks = match scope {
            Scope::Group => config.groups[group].networks.iter().map(|p| (*p, 0)).collect(),
            Scope::Host | Scope::Prefix | Scope::Network => Vec::new(),
        };
        self.nodes.push(Node {
            scope,
            prefix,
            group,
            checks,
            delta: Counts::zero(self.layout),
            is_touched: false,
            levels: Levels::new(&self.checks[checks], now),
            raised: None,
            second: [[0; 2]; 2],
            networks,
        });
        let node = self.nodes.len() as u32 - 1;
        self.by_key.insert((scope, group, prefix), node);
        Some(node)
    }

    /// Reads the cells written in `tick` into what is above them. `alarmed` are prefixes under attack: their traffic counts for
    /// themselves and nothing wider. Returns whether any own address had traffic.
    pub(crate) fn read<'a>(
        &mut self,
        shards: impl Iterator<Item = &'a Shard> + Clone,
        tick: u32,
        explained: &Explained,
        alarmed: &[Target],
    ) -> bool {
        let mut any = false;
        // Without thresholds above hosts there is nothing to sum, and workers do not count cells.
        let cells = if self.nodes.is_empty() { 0 } else { self.cells.len() };
        for index in 0..cells {
            let id = CellId(u32::try_from(index).unwrap_or(u32::MAX));
            if !shards.clone().any(|s| s.cell_touched_since(id, tick)) {
                continue;
            }
            any = true;
            self.scratch.clear();
            shards.clone().for_each(|s| s.read_cell(id, &mut self.scratch));
            let cell = &mut self.cells[index];
            // The cell's counters from before it was first read are what was counted in its first tick.
            let mut delta = self.scratch.clone();
            delta.since(&cell.reading);
            cell.reading.copy_from(&self.scratch);
            for (direction, of_host) in explained.get(&id).into_iter().flatten() {
                delta.subtract(of_host, *direction);
            }
            let prefix = cell.prefix;
            for node in &cell.nodes {
                let node = &mut self.nodes[*node as usize];
                let mut own = None;
                for target in alarmed.iter().filter(|t| t.prefix.contains(&prefix) && t.prefix != node.prefix) {
                    if node.prefix.contains(&target.prefix) || node.scope == Scope::Group {
                        own.get_or_insert_with(|| delta.clone()).erase(target.direction);
                    }
                }
                let counted = own.as_ref().unwrap_or(&delta);
                node.delta.add(counted);
                node.is_touched = true;
                if let Some((_, packets)) = node.networks.iter_mut().find(|(p, _)| p.overlaps(&prefix)) {
                    for direction in Direction::ALL {
                        *packets = packets.saturating_add(counted.packets(direction));
                    }
                }
            }
        }
        any
    }

    /// Takes what withheld filters match of their targets out of what was read.
    pub(crate) fn leave_aside(&mut self, aside: impl Iterator<Item = (Target, Counts)>) {
        for (target, counts) in aside {
            let is_of = |node: &&mut Node| {
                node.prefix == target.prefix || node.networks.iter().any(|(network, _)| *network == target.prefix)
            };
            self.nodes.iter_mut().filter(is_of).for_each(|node| node.delta.subtract(&counts, target.direction));
        }
    }

    /// Evaluates what was read. `alarmed` as before: prefixes inside one are left alone. `is_whitelisted` silences.
    pub(crate) fn evaluate(
        &mut self,
        start: Time,
        now: Time,
        alarmed: &[Target],
        is_whitelisted: impl Fn(Target) -> bool,
    ) -> Vec<Crossed> {
        let mut passed: Vec<(u32, Crossed)> = Vec::new();
        for (index, node) in (0u32..).zip(&mut self.nodes) {
            if !node.is_touched && node.levels.is_empty() {
                continue;
            }
            for direction in Direction::ALL {
                let sums = &mut node.second[direction as usize];
                sums[0] = sums[0].saturating_add(node.delta.packets(direction));
                sums[1] = sums[1].saturating_add(node.delta.bytes(direction));
            }
            let checks = node.raised.as_ref().unwrap_or(&self.checks[node.checks]);
            node.levels.add(checks, start, now, node.is_touched.then_some(&node.delta));
            for direction in Direction::ALL {
                let Some(over) = node.levels.passed(checks, direction, self.tolerance) else { continue };
                let main = node.networks.iter().max_by_key(|(p, n)| (*n, std::cmp::Reverse(*p)));
                let target = Target { prefix: main.map_or(node.prefix, |(p, _)| *p), direction };
                let inside = alarmed
                    .iter()
                    .any(|t| t.direction == direction && *t != target && t.prefix.contains(&target.prefix));
                if inside || is_whitelisted(target) {
                    node.levels.restart(checks, direction, now);
                    continue;
                }
                let crossed = Crossed { target, scope: node.scope, group: node.group, passed: over };
                passed.push((index, crossed));
            }
            node.delta.clear();
            node.is_touched = false;
            node.networks.iter_mut().for_each(|(_, packets)| *packets = 0);
        }
        let chosen = highest(&passed);
        // Those that were passed over begin anew: the alarm stands for their traffic too.
        for (index, crossed) in &passed {
            let node = &mut self.nodes[*index as usize];
            node.levels.restart(&self.checks[node.checks], crossed.target.direction, now);
        }
        chosen
    }

    /// Takes what the cells have counted so far for known.
    pub(crate) fn prime<'a>(&mut self, shards: impl Iterator<Item = &'a Shard> + Clone) {
        for (index, cell) in (0u32..).zip(&mut self.cells) {
            cell.reading.clear();
            shards.clone().for_each(|s| s.read_cell(CellId(index), &mut cell.reading));
        }
    }

    /// Cells that may hold traffic of a prefix.
    pub(crate) fn cells_of(&self, prefix: Prefix) -> impl Iterator<Item = CellId> {
        let of = (0u32..).zip(&self.cells).filter(move |(_, c)| c.prefix.overlaps(&prefix));
        of.map(|(i, _)| CellId(i))
    }

    /// What the cells have counted for a prefix since they were first read.
    pub(crate) fn reading(&self, prefix: Prefix) -> Counts {
        let mut sum = Counts::zero(self.layout);
        let inside = self.cells.iter().filter(|c| prefix.contains(&c.prefix));
        inside.for_each(|c| sum.add(&c.reading));
        sum
    }

    /// Raises the thresholds of sums to what is usual for each, inside the operator's bounds.
    pub(crate) fn adapt(&mut self, config: &Config, baselines: &crate::Baselines) {
        let learning = config.learning;
        for node in &mut self.nodes {
            let raise = |check: &Check| {
                let is_total = check.measure.class == crate::Class::Total;
                let usual = baselines.usual_sum(node.scope, node.prefix, check.direction, check.measure.unit);
                let wanted =
                    usual.filter(|_| is_total).map_or(0, |u| u.saturating_mul(learning.adaptive_percent) / 100);
                let most = check.threshold.saturating_mul(learning.adaptive_limit);
                Check { threshold: wanted.clamp(check.threshold, most.max(check.threshold)), ..*check }
            };
            node.raised = Some(Checks(self.checks[node.checks].0.iter().map(raise).collect()));
        }
    }

    /// Learns a second's rates of everything that is not under attack.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates")]
    pub(crate) fn learn(&mut self, now: Time, seconds: f64, attacked: &[Prefix], baselines: &mut crate::Baselines) {
        for node in &mut self.nodes {
            let sums = std::mem::take(&mut node.second);
            if sums == [[0; 2]; 2] || attacked.iter().any(|p| p.overlaps(&node.prefix)) || !node.levels.is_empty() {
                continue;
            }
            for direction in Direction::ALL {
                for (unit, sum) in [Unit::Packets, Unit::Bytes].into_iter().zip(sums[direction as usize]) {
                    let rate = (sum as f64 / seconds) as u64;
                    baselines.sum_rate(now, (node.scope, node.prefix), direction, unit, rate);
                }
            }
        }
    }

    /// Begins anew for a target, whose filters have changed.
    pub(crate) fn restart(&mut self, target: Target, now: Time) {
        for node in self.nodes.iter_mut().filter(|n| n.prefix == target.prefix) {
            node.levels.restart(&self.checks[node.checks], target.direction, now);
        }
    }
}

/// Of those that passed, the highest whose traffic is not mostly that of one below it.
fn highest(passed: &[(u32, Crossed)]) -> Vec<Crossed> {
    let mut order: Vec<&Crossed> = passed.iter().map(|(_, c)| c).collect();
    // Longest prefix first; of one prefix the narrower scope.
    order.sort_by_key(|c| (std::cmp::Reverse(c.target.prefix.length()), c.scope, c.target.prefix, c.target.direction));
    let mut chosen: Vec<&Crossed> = Vec::new();
    for crossed in order {
        let below = |c: &&Crossed| {
            c.target.direction == crossed.target.direction && crossed.target.prefix.contains(&c.target.prefix)
        };
        #[allow(clippy::cast_precision_loss, reason = "a share")]
        let share = |c: &&Crossed| {
            let same = c.passed.check.measure == crossed.passed.check.measure;
            if same { c.passed.evidence.rate as f64 / crossed.passed.evidence.rate.max(1) as f64 } else { 0.0 }
        };
        if chosen.iter().any(|c| below(c) && (c.target.prefix == crossed.target.prefix || share(c) >= MOSTLY)) {
            continue;
        }
        chosen.retain(|c| !below(c));
        chosen.push(crossed);
    }
    chosen.into_iter().cloned().collect()
}
