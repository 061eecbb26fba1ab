//! Why input was not understood, and the counters of what was.
//!
//! Malformed input is never fatal and never logged per packet: it is counted by [`Reason`], and everything in the datagram
//! that could be read is kept.

use std::collections::BTreeMap;

use crate::counters::Counters;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// Why a datagram, set, record or frame was not, or not wholly, understood.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All reasons, in the order of their counters.
            pub const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];

            /// Name in metrics and JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// The payload is no protocol that is known.
    UnknownVersion => "unknown_version",
    /// The datagram ends inside a header.
    TruncatedHeader => "truncated_header",
    /// A set, sample or record claims more than the datagram holds, or less than its own header.
    BadLength => "bad_length",
    /// A template that contradicts itself or passes the limits.
    BadTemplate => "bad_template",
    /// A data set whose template is not known (yet).
    NoTemplate => "no_template",
    /// A record that ends inside a field.
    TruncatedRecord => "truncated_record",
    /// Too many exporters or templates; see the limits in `template.rs`.
    Limit => "limit",
    /// A sender that is not on the allow-list of exporters.
    NotAllowed => "not_allowed",
    /// A packet header sample without a readable IP header.
    NotIp => "not_ip",
    /// A frame that is not a packet (capture files).
    BadFrame => "bad_frame",
    /// A frame of a link type that is not known (capture files).
    UnknownLinkType => "unknown_link_type",
}

/// Why a record that was read, and is in the totals, is no traffic of anybody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aside {
    /// A log of a firewall or NAT (elements 233 and 230) without counters of the time since its last report: it has none, or
    /// sums of a connection (231, 232, 85), which later events of the same connection repeat.
    SecurityEvent,
    /// A record without a source or destination address.
    NoAddresses,
    /// What running totals of a flow (85, 86) repeat of its reports before.
    ToldBefore,
}

impl Aside {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 3] = [Self::SecurityEvent, Self::NoAddresses, Self::ToldBefore];

    /// Name in metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SecurityEvent => "security_event",
            Self::NoAddresses => "no_addresses",
            Self::ToldBefore => "told_before",
        }
    }
}

/// Records with their traffic, scaled by sampling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Volume {
    /// Records.
    pub records: u64,
    /// Packets.
    pub packets: u64,
    /// IP bytes.
    pub bytes: u64,
}

impl Volume {
    const fn add(&mut self, other: Self) {
        self.records += other.records;
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

macro_rules! statistics {
    (decoded { $($name:ident: $help:tt,)* } own { $($own:tt)* }) => {
        /// What a decoder has seen. One writer; copied out for readers.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Statistics {
            $(#[doc = $help] pub $name: u64,)*
            /// Packets as exported, before scaling.
            pub raw_packets: u64,
            /// Bytes as exported, before scaling.
            pub raw_bytes: u64,
            rates: BTreeMap<u32, u64>,
            /// The newest rate, and how many records in a row had it: not yet in `rates`.
            recent_rate: (u32, u64),
            errors: [u64; Reason::ALL.len()],
            /// What of the totals is not counted for anybody.
            aside: [Volume; Aside::ALL.len()],
        }

        impl Statistics {
            /// What is told of each exporter as well.
            #[inline]
            pub(crate) fn counters(&self) -> Counters {
                Counters { $($name: self.$name,)* ..Counters::default() }
            }

            fn add_counters(&mut self, other: &Self) {
                $(self.$name = self.$name.saturating_add(other.$name);)*
            }
        }
    };
}

crate::exporter_counters!(statistics);

/// Distinct sampling rates that are told apart in statistics.
pub const MAX_RATES: usize = 64;

impl Statistics {
    pub(crate) fn error(&mut self, reason: Reason) {
        self.errors[reason as usize] += 1;
    }

    #[inline]
    pub(crate) fn record(&mut self, raw_packets: u64, raw_bytes: u64, rate: u32) {
        self.records(1, raw_packets, raw_bytes, rate);
    }

    /// Counts records of the same rate, with their sums.
    #[inline]
    pub(crate) fn records(&mut self, count: u64, raw_packets: u64, raw_bytes: u64, rate: u32) {
        if count == 0 {
            return;
        }
        self.records += count;
        self.raw_packets = self.raw_packets.saturating_add(raw_packets);
        self.raw_bytes = self.raw_bytes.saturating_add(raw_bytes);
        self.packets = self.packets.saturating_add(raw_packets.saturating_mul(rate.into()));
        self.bytes = self.bytes.saturating_add(raw_bytes.saturating_mul(rate.into()));
        if rate == self.recent_rate.0 {
            self.recent_rate.1 += count;
        } else {
            let (before, earlier) = std::mem::replace(&mut self.recent_rate, (rate, count));
            add_rate(&mut self.rates, before, earlier);
        }
    }

    /// Sets a record aside that is in the totals with these counters, before scaling.
    pub(crate) fn set_aside(&mut self, why: Aside, raw_packets: u64, raw_bytes: u64, rate: u32) {
        let scaled = |units: u64| units.saturating_mul(rate.into());
        self.aside[why as usize].add(Volume { records: 1, packets: scaled(raw_packets), bytes: scaled(raw_bytes) });
    }

    /// Records that were set aside by reason, those that occurred. The totals hold them.
    #[must_use]
    pub fn not_counted(&self) -> BTreeMap<&'static str, Volume> {
        Aside::ALL.iter().map(|a| (a.name(), self.aside[*a as usize])).filter(|(_, v)| v.records > 0).collect()
    }

    /// Records that were set aside, in the order of [`Aside::ALL`].
    pub(crate) fn aside_counts(&self) -> [u64; Aside::ALL.len()] {
        self.aside.map(|volume| volume.records)
    }

    /// Sampling rates that were applied to records, and to how many; the first [`MAX_RATES`].
    #[must_use]
    pub fn rates(&self) -> BTreeMap<u32, u64> {
        let mut rates = self.rates.clone();
        add_rate(&mut rates, self.recent_rate.0, self.recent_rate.1);
        rates
    }

    pub(crate) fn error_count(&self) -> u64 {
        self.errors.iter().sum()
    }

    pub(crate) const fn error_counts(&self) -> &[u64; Reason::ALL.len()] {
        &self.errors
    }

    /// Errors by reason, those that occurred.
    #[must_use]
    pub fn errors(&self) -> BTreeMap<&'static str, u64> {
        Reason::ALL.iter().map(|r| (r.name(), self.errors[*r as usize])).filter(|(_, n)| *n > 0).collect()
    }

    /// Adds another decoder's counts.
    pub fn add(&mut self, other: &Self) {
        self.add_counters(other);
        self.raw_packets = self.raw_packets.saturating_add(other.raw_packets);
        self.raw_bytes = self.raw_bytes.saturating_add(other.raw_bytes);
        for (rate, count) in other.rates() {
            add_rate(&mut self.rates, rate, count);
        }
        self.errors.iter_mut().zip(other.errors).for_each(|(a, b)| *a += b);
        self.aside.iter_mut().zip(other.aside).for_each(|(a, b)| a.add(b));
    }
}

fn add_rate(rates: &mut BTreeMap<u32, u64>, rate: u32, count: u64) {
    if count > 0 && (rates.len() < MAX_RATES || rates.contains_key(&rate)) {
        *rates.entry(rate).or_default() += count;
    }
}
