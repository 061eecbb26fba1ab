//! What an operator settles about collectors. Values are right by construction: `config::check` makes them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use traffic::IpVersion;
use traffic::sample::address_bits;

use crate::tunnel::Encapsulation;

/// Sampling rates that the operator sets, by exporter; they win over what the exporter announces.
pub type RateOverrides = BTreeMap<IpAddr, u32>;

/// A UDP socket for flow exports of any protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// Worker threads that share the port (`SO_REUSEPORT`), at least 1.
    pub workers: usize,
}

/// A mirror port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// 1 when the switch mirrors every packet; N when it mirrors one of N.
    pub sampling_rate: u32,
    /// A BPF filter, such as `not port 22`.
    pub filter: Option<String>,
    /// Worker threads that share its frames, by flow; at least 1.
    pub workers: usize,
    /// 1 to look at every frame; N to look at one of N, by chance, where the host cannot keep up.
    pub software_sampling: u32,
    /// The envelope that the mirror puts around every frame.
    pub encapsulation: Encapsulation,
}

impl Interface {
    /// An interface whose every frame is looked at, by one worker.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            sampling_rate: 1,
            filter: None,
            workers: 1,
            software_sampling: 1,
            encapsulation: Encapsulation::None,
        }
    }
}

/// Where an exporter's telemetry stands in relation to the filters that rules make (decision 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Vantage {
    /// What the exporter says it dropped (forwardingStatus, sFlow discards) counts as dropped.
    #[default]
    Auto,
    /// Telemetry shows traffic before it is filtered: nothing counts as dropped.
    BeforeFilter,
    /// Telemetry shows what the filter lets pass.
    AfterFilter,
}

impl Vantage {
    /// Name in the configuration file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::BeforeFilter => "before_filter",
            Self::AfterFilter => "after_filter",
        }
    }
}

/// What is settled about one exporter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExporterSettings {
    /// Sampling rate that wins over what it announces.
    pub rate: Option<u32>,
    /// Its place.
    pub vantage: Vantage,
    /// Number of the router whose traffic it tells of, from 1 (`exporters` of a BGP peer); 0: of no router in particular.
    pub router: u8,
    /// It stands inside the network (`exporter_roles`): what crosses the border is told of by another exporter as well.
    pub is_inside: bool,
    /// SNMP indices of the interfaces to other networks: only traffic that crosses one is counted, once. Empty: everything is.
    pub external_interfaces: BTreeSet<u32>,
}

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    version: IpVersion,
    bits: u128,
    mask: u128,
}

impl Block {
    /// The addresses that share the first `length` bits of `address` (bits beyond its version's count as all).
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Self {
        let (version, bits) = address_bits(address);
        let mask = match length.min(version.bits()) {
            0 => 0,
            length => u128::MAX << (128 - length),
        };
        Self { version, bits: bits & mask, mask }
    }

    /// Whether an address is inside.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (version, bits) = address_bits(address);
        version == self.version && bits & self.mask == self.bits
    }
}

/// What is settled about exporters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exporters {
    /// Who may send; empty: everybody. Looked at before a datagram is.
    pub allowed: Vec<Block>,
    /// By address.
    pub settings: BTreeMap<IpAddr, ExporterSettings>,
}

impl Exporters {
    /// Whether datagrams of this address are looked at.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        self.allowed.is_empty() || self.allowed.iter().any(|block| block.contains(address))
    }

    pub(crate) fn of(&self, address: IpAddr) -> ExporterSettings {
        self.settings.get(&address).cloned().unwrap_or_default()
    }
}

impl From<RateOverrides> for Exporters {
    fn from(rates: RateOverrides) -> Self {
        let set = |rate| ExporterSettings { rate: Some(rate), ..ExporterSettings::default() };
        Self { allowed: Vec::new(), settings: rates.into_iter().map(|(address, rate)| (address, set(rate))).collect() }
    }
}

/// Configuration of the collectors. The default listens to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// UDP sockets.
    pub listeners: Vec<Listener>,
    /// Mirror ports.
    pub interfaces: Vec<Interface>,
    /// Receive buffer asked for per socket, in bytes; 0 leaves the system's.
    pub receive_buffer_bytes: usize,
    /// What is settled about exporters.
    pub exporters: Exporters,
    /// Where templates and sampling rates are kept over a restart.
    pub templates_file: Option<PathBuf>,
}

impl Config {
    /// Worker threads these collectors need; each has a shard of counters.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.listeners.iter().map(|l| l.workers.max(1)).sum::<usize>()
            + self.interfaces.iter().map(|i| i.workers.max(1)).sum::<usize>()
    }
}
