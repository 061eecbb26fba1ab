//! The flash-crowd gate: is this only more of what the target gets anyway?
//!
//! Both samples are counted in coarse cells of header fields, without sources. The share by which the captured sample exceeds the
//! ordinary one, summed over cells, is compared with what draws of the same size from the ordinary traffic itself show.

use std::collections::BTreeMap;

use collectors::Sample;
use collectors::sample::protocol;

/// Draws that show what chance does.
const DRAWS: usize = 24;
/// Services that are told apart.
const PORTS: [u16; 12] = [22, 25, 53, 80, 123, 389, 443, 1900, 3389, 5060, 8080, 11211];

type Cell = (u8, u8, u16, u16, u8, u8);

fn cell(sample: &Sample, coarse: bool) -> Cell {
    let flags = match sample.tcp_flags & 0x3f {
        _ if sample.protocol != protocol::TCP => 0,
        0x02 => 1,
        0x12 => 2,
        0x10 => 3,
        flags if flags & 0x04 != 0 => 4,
        flags if flags & 0x10 != 0 => 5,
        _ => 6,
    };
    let service = |port: u16| if PORTS.contains(&port) { port } else { 0 };
    let bin = match (coarse, sample.length) {
        (true, 0..200) => 0,
        (true, _) => 1,
        (false, 0..50) => 0,
        (false, 50..64) => 1,
        (false, 64..128) => 2,
        (false, 128..320) => 3,
        (false, 320..640) => 4,
        (false, 640..1100) => 5,
        (false, 1100..1400) => 6,
        (false, _) => 7,
    };
    let (source, destination) =
        if coarse { (0, 0) } else { (service(sample.source_port), service(sample.destination_port)) };
    (sample.protocol, flags, source, destination, bin, u8::from(sample.is_fragment()))
}

#[allow(clippy::cast_precision_loss, reason = "shares of some hundred samples")]
fn shares(cells: impl Iterator<Item = (Cell, u64)>) -> BTreeMap<Cell, f64> {
    let mut counts: BTreeMap<Cell, u64> = BTreeMap::new();
    let mut total = 0u64;
    for (cell, weight) in cells {
        *counts.entry(cell).or_default() += weight;
        total += weight;
    }
    counts.into_iter().map(|(cell, n)| (cell, n as f64 / total.max(1) as f64)).collect()
}

/// How much of `a` lies beyond `b`.
fn excess(a: &BTreeMap<Cell, f64>, b: &BTreeMap<Cell, f64>) -> f64 {
    a.iter().map(|(cell, share)| (share - b.get(cell).copied().unwrap_or(0.0)).max(0.0)).sum()
}

/// Whether the sample differs from ordinary traffic no more than chance and a margin explain.
#[allow(clippy::cast_precision_loss, reason = "statistics of some hundred samples")]
pub(super) fn looks_ordinary(sample: &[&Sample], ordinary: &[&Sample]) -> bool {
    let coarse = sample.len() < 100;
    let base = shares(ordinary.iter().map(|s| (cell(s, coarse), 1)));
    let seen = excess(&shares(sample.iter().map(|s| (cell(s, coarse), s.packets))), &base);
    // A fixed seed: the same sample always gets the same answer.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let index = usize::try_from(state >> 33).unwrap_or(0) % ordinary.len();
        (cell(ordinary[index], coarse), 1)
    };
    let by_chance: Vec<f64> = (0..DRAWS).map(|_| excess(&shares((0..sample.len()).map(|_| draw())), &base)).collect();
    let mean = by_chance.iter().sum::<f64>() / DRAWS as f64;
    let variance = by_chance.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (DRAWS - 1) as f64;
    let margin = if coarse { 3.0 * variance.sqrt() + 0.05 } else { 4.0 * variance.sqrt() + 0.10 };
    seen <= mean + margin
}
