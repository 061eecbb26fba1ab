//! The flash-crowd gate: is this only more of what the target gets anyway?
//!
//! Both samples are counted in coarse cells of header fields, without sources. The share by which the captured sample exceeds the
//! ordinary one, summed over cells, is compared with what draws of the same size from the ordinary traffic itself show.

use traffic::Sample;
use traffic::sample::protocol;

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

/// Ordinary traffic by cells, fine and coarse.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    fine: Cells,
    coarse: Cells,
}

/// The cells of ordinary traffic, each with a number.
#[derive(Debug, Clone)]
struct Cells {
    cells: Vec<Cell>,
    /// The number of each sample's cell.
    numbers: Vec<u16>,
    /// Share of each cell, and none of the one beyond the last.
    shares: Vec<f64>,
}

impl Cells {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "some hundred samples")]
    fn new(ordinary: &[&Sample], coarse: bool) -> Self {
        let of_ordinary: Vec<Cell> = ordinary.iter().map(|s| cell(s, coarse)).collect();
        let mut cells = of_ordinary.clone();
        cells.sort_unstable();
        cells.dedup();
        // Beyond what a number can hold all is one cell.
        cells.truncate(usize::from(u16::MAX) - 1);
        let mut all = Self { shares: vec![0.0; cells.len() + 1], cells, numbers: Vec::new() };
        all.numbers = of_ordinary.iter().map(|c| all.number(*c) as u16).collect();
        all.numbers.iter().for_each(|n| all.shares[usize::from(*n)] += 1.0 / ordinary.len() as f64);
        all
    }

    /// The number of a cell; one beyond the last for those that ordinary traffic does not have.
    fn number(&self, cell: Cell) -> usize {
        self.cells.binary_search(&cell).unwrap_or(self.cells.len())
    }

    /// How much of what was counted by cell, `of` in all, lies beyond ordinary shares.
    fn excess(&self, counted: &[f64], of: f64) -> f64 {
        counted.iter().zip(&self.shares).map(|(a, b)| (a / of - b).max(0.0)).sum()
    }

    /// More than the excess that chance gives `draws` samples, and the margin beside it, can be expected to be: half the sum of the
    /// standard deviations of the cells, and eight of the whole.
    fn bound(&self, draws: f64) -> f64 {
        let deviations: f64 = self.shares.iter().map(|p| (p * (1.0 - p)).max(0.0).sqrt()).sum();
        (0.5 * deviations + 4.0) / draws.sqrt()
    }
}

impl Gate {
    pub(super) fn new(ordinary: &[&Sample]) -> Self {
        Self { fine: Cells::new(ordinary, false), coarse: Cells::new(ordinary, true) }
    }

    /// Whether the sample differs from ordinary traffic no more than chance and a margin explain.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "statistics of some hundred samples"
    )]
    pub(super) fn looks_ordinary(&self, sample: &[&Sample]) -> bool {
        let coarse = sample.len() < 100;
        let cells = if coarse { &self.coarse } else { &self.fine };
        let mut counted = vec![0.0; cells.shares.len()];
        let mut packets = 0.0;
        for s in sample {
            counted[cells.number(cell(s, coarse))] += s.packets.max(1) as f64;
            packets += s.packets.max(1) as f64;
        }
        let seen = cells.excess(&counted, packets);
        let (deviations, more) = if coarse { (3.0, 0.05) } else { (4.0, 0.10) };
        let draws = sample.len().min(super::MAX_SIDE);
        if seen > cells.bound(draws as f64) + more {
            return false;
        }
        if seen <= more {
            return true;
        }
        // A fixed seed: the same sample always gets the same answer.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut by_chance = || {
            counted.fill(0.0);
            for _ in 0..draws {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = ((state >> 32) * cells.numbers.len() as u64) >> 32;
                counted[usize::from(cells.numbers[at as usize])] += 1.0;
            }
            cells.excess(&counted, draws as f64)
        };
        let by_chance: Vec<f64> = (0..DRAWS).map(|_| by_chance()).collect();
        let mean = by_chance.iter().sum::<f64>() / DRAWS as f64;
        let variance = by_chance.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (DRAWS - 1) as f64;
        seen <= mean + deviations * variance.sqrt() + more
    }
}
