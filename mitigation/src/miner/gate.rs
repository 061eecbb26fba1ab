//! The flash-crowd gate: is this only more of what the target gets anyway?
//!
//! Both samples are counted in coarse cells of header fields, without sources. The share by which the captured sample exceeds the
//! ordinary one, summed over cells, is compared with what draws of the same size from the ordinary traffic itself show.

use collectors::Sample;
use collectors::sample::protocol;

/// Draws that show what chance does.
const DRAWS: usize = 24;
/// Services that are told apart.
const PORTS: [u16; 12] = [22, 25, 53, 80, 123, 389, 443, 1900, 3389, 5060, 8080, 11211];

/// Protocol, flags, services, length and fragmentation, side by side.
type Cell = u64;

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
    u64::from(sample.protocol) << 48
        | flags << 45
        | u64::from(source) << 29
        | u64::from(destination) << 13
        | bin << 1
        | u64::from(sample.is_fragment())
}

/// The cells of ordinary traffic, each with a number.
struct Cells(Vec<Cell>);

impl Cells {
    fn new(mut cells: Vec<Cell>) -> Self {
        cells.sort_unstable();
        cells.dedup();
        Self(cells)
    }

    /// The number of a cell; one beyond the last for those that ordinary traffic does not have.
    fn number(&self, cell: &Cell) -> usize {
        self.0.binary_search(cell).unwrap_or(self.0.len())
    }

    fn none(&self) -> Vec<f64> {
        vec![0.0; self.0.len() + 1]
    }
}

/// How much of `a`, which sums up to `of_a`, lies beyond `b`.
fn excess(a: &[f64], of_a: f64, b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a / of_a - b).max(0.0)).sum()
}

/// Whether the sample differs from ordinary traffic no more than chance and a margin explain.
#[allow(clippy::cast_precision_loss, reason = "statistics of some hundred samples")]
pub(super) fn looks_ordinary(sample: &[&Sample], ordinary: &[&Sample]) -> bool {
    let coarse = sample.len() < 100;
    let of_ordinary: Vec<Cell> = ordinary.iter().map(|s| cell(s, coarse)).collect();
    let cells = Cells::new(of_ordinary.clone());
    let numbers: Vec<usize> = of_ordinary.iter().map(|c| cells.number(c)).collect();
    let mut base = cells.none();
    numbers.iter().for_each(|n| base[*n] += 1.0 / ordinary.len() as f64);
    let mut seen = cells.none();
    let mut packets = 0.0;
    for s in sample {
        seen[cells.number(&cell(s, coarse))] += s.packets.max(1) as f64;
        packets += s.packets.max(1) as f64;
    }
    let seen = excess(&seen, packets, &base);
    // A fixed seed: the same sample always gets the same answer.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let draws = sample.len().min(super::columns::MAX_SIDE);
    let mut by_chance = || {
        let mut drawn = cells.none();
        for _ in 0..draws {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            drawn[numbers[usize::try_from(state >> 33).unwrap_or(0) % numbers.len()]] += 1.0;
        }
        excess(&drawn, draws as f64, &base)
    };
    let by_chance: Vec<f64> = (0..DRAWS).map(|_| by_chance()).collect();
    let mean = by_chance.iter().sum::<f64>() / DRAWS as f64;
    let variance = by_chance.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (DRAWS - 1) as f64;
    let margin = if coarse { 3.0 * variance.sqrt() + 0.05 } else { 4.0 * variance.sqrt() + 0.10 };
    seen <= mean + margin
}
