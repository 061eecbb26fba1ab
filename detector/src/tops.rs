//! `Tops`: who and what most of an attack is: sources, ports, protocols, lengths, exporters, interfaces.

use std::collections::BTreeMap;

use traffic::sample::address_of;
use traffic::{Direction, IpVersion, Sample};

/// Values counted per field at most; when more come, the least is given up and its count inherited, so that large ones are
/// never lost (the space-saving method of Metwally, Agrawal and El Abbadi).
const COUNTED: usize = 64;

/// Counts of the most frequent values.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Top<K>(BTreeMap<K, u64>);

impl<K> Default for Top<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Copy> Top<K> {
    fn add(&mut self, key: K, packets: u64) {
        if let Some(count) = self.0.get_mut(&key) {
            *count = count.saturating_add(packets);
            return;
        }
        let inherited = if self.0.len() < COUNTED {
            0
        } else {
            let least = self.0.iter().min_by_key(|(_, n)| **n).map(|(k, n)| (*k, *n));
            least.map_or(0, |(key, count)| {
                self.0.remove(&key);
                count
            })
        };
        self.0.insert(key, inherited.saturating_add(packets));
    }

    fn first(&self, count: usize) -> Vec<(K, u64)> {
        let mut all: Vec<(K, u64)> = self.0.iter().map(|(k, n)| (*k, *n)).collect();
        all.sort_by_key(|(key, n)| (std::cmp::Reverse(*n), *key));
        all.truncate(count);
        all
    }
}

/// A value and its share of the packets that were looked at.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Share {
    /// The value in words.
    pub value: String,
    /// Its share, 0 to 1.
    pub share: f64,
}

/// What an attack is made of, most first.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct Composition {
    /// Samples looked at.
    pub samples: u64,
    /// Addresses at the other end.
    pub remote: Vec<Share>,
    /// Source ports.
    pub source_ports: Vec<Share>,
    /// Destination ports.
    pub destination_ports: Vec<Share>,
    /// Protocol numbers.
    pub protocols: Vec<Share>,
    /// Packet lengths; means where records hold several packets.
    pub lengths: Vec<Share>,
    /// Exporters by number in the order of their appearance per worker; 0 is a mirror port.
    pub exporters: Vec<Share>,
    /// Input interfaces: exporter and SNMP index.
    pub interfaces: Vec<Share>,
}

/// Counts of an attack's fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tops {
    samples: u64,
    packets: u64,
    remote: Top<(IpVersion, u128)>,
    source_ports: Top<u16>,
    destination_ports: Top<u16>,
    protocols: Top<u8>,
    lengths: Top<u16>,
    exporters: Top<u32>,
    /// By number in samples, whoever counted it, and sampling rate.
    rates: Top<(u16, u32)>,
    interfaces: Top<(u32, u16)>,
}

impl Tops {
    /// Adds a sample of the attacked direction; `exporter` tells workers' exporters apart.
    pub(crate) fn add(&mut self, sample: &Sample, direction: Direction, exporter: u32) {
        let packets = sample.packets;
        let remote = match direction {
            Direction::Incoming => sample.source,
            Direction::Outgoing => sample.destination,
        };
        self.samples += 1;
        self.packets = self.packets.saturating_add(packets);
        self.remote.add((sample.version, remote), packets);
        self.source_ports.add(sample.source_port, packets);
        self.destination_ports.add(sample.destination_port, packets);
        self.protocols.add(sample.protocol, packets);
        self.lengths.add(sample.length, packets);
        self.exporters.add(exporter, packets);
        self.rates.add((sample.exporter, sample.sampling_rate.max(1)), packets);
        if sample.input_interface != 0 {
            self.interfaces.add((exporter, sample.input_interface), packets);
        }
    }

    /// Packets by exporter (its number in samples) and sampling rate, the most frequent ones.
    pub(crate) fn rates(&self) -> impl Iterator<Item = ((u16, u32), u64)> + '_ {
        self.rates.0.iter().map(|(rate, packets)| (*rate, *packets))
    }

    /// The exporters that tell of most of it.
    pub(crate) fn main_exporters(&self) -> impl Iterator<Item = u32> + '_ {
        let half = self.packets / 10;
        self.exporters.0.iter().filter(move |(_, n)| **n > half).map(|(e, _)| *e)
    }

    /// The most frequent values of every field.
    #[must_use]
    pub fn composition(&self, count: usize) -> Composition {
        let port = |exporter: u32| exporter & 0xffff;
        Composition {
            samples: self.samples,
            remote: self.shares(&self.remote, count, |(version, bits)| address_of(version, bits).to_string()),
            source_ports: self.shares(&self.source_ports, count, |p| p.to_string()),
            destination_ports: self.shares(&self.destination_ports, count, |p| p.to_string()),
            protocols: self.shares(&self.protocols, count, |p| p.to_string()),
            lengths: self.shares(&self.lengths, count, |l| l.to_string()),
            exporters: self.shares(&self.exporters, count, |e| port(e).to_string()),
            interfaces: self.shares(&self.interfaces, count, |(e, i)| format!("{} of exporter {}", i, port(e))),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a share")]
    fn shares<K: Ord + Copy>(&self, top: &Top<K>, count: usize, text: impl Fn(K) -> String) -> Vec<Share> {
        let share = |n: u64| n as f64 / self.packets.max(1) as f64;
        top.first(count).into_iter().map(|(key, n)| Share { value: text(key), share: share(n) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frequent_value_survives_any_number_of_rare_ones() {
        let mut top = Top::default();
        for i in 0..100_000u32 {
            top.add(if i % 10 == 0 { 7 } else { 1_000 + i }, 1);
        }
        assert_eq!(top.first(1)[0].0, 7);
        assert!(top.0.len() <= COUNTED);
    }
}
