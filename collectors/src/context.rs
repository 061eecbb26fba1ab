//! [`Context`]: what a record is read with, and what both ways of reading it ([`crate::record`], [`crate::plain`]) agree on.

use std::sync::Mutex;

use traffic::sample::MOST_UNITS;
use traffic::{IpVersion, Sample, Time};

use crate::config::Vantage;
use crate::elements::{Field, Set};
use crate::exporter::{Exporter, RateSource};
use crate::reports::{self, Reports};
use crate::sampling::{Named, Sampling};
use crate::span::{Exported, Span};
use crate::totals::Totals;

/// What a record is read with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) now: Time,
    pub(crate) exporter: &'a Exporter,
    pub(crate) sampling: &'a Sampling,
    /// Where `sampling` came from.
    pub(crate) source: RateSource,
    /// When the message was exported.
    pub(crate) exported: Exported,
    /// The sampling rate, where it is the same for every record.
    pub(crate) settled: Option<(u32, RateSource)>,
    /// The longest time that counters of a record can cover, in milliseconds: the active timeout where the exporter announces
    /// it, else the interval that its reports show.
    pub(crate) longest_ms: u32,
    /// Where that is learned, unless it is announced, and of flows from which duration on.
    pub(crate) reports: Option<&'a Reports>,
    pub(crate) followed_ms: u32,
    /// What was told before of flows whose records carry running totals.
    pub(crate) totals: Option<&'a Mutex<Totals>>,
}

impl<'a> Context<'a> {
    /// For records that can have `fields` (bits of [`Field::bit`]); `reports` are those of their domain, where that is known.
    pub(crate) fn new(
        now: Time,
        exporter: &'a Exporter,
        (sampling, source): (&'a Sampling, RateSource),
        exported: Exported,
        reports: Option<&'a Reports>,
        fields: Set,
    ) -> Self {
        let reports = reports.filter(|_| sampling.active_timeout == 0);
        let longest_ms = match sampling.active_timeout {
            0 => reports.and_then(|r| r.interval_ms(now)).unwrap_or(u32::MAX),
            announced => announced.saturating_mul(1000),
        };
        let followed_ms = if reports.is_some() { reports::SHORTEST_MS } else { u32::MAX };
        let settled = if let Some(rate) = exporter.settings.rate {
            Some((rate.max(1), RateSource::Override))
        } else if fields & SAMPLING == 0 && sampling.is_uniform() {
            let rate = sampling.rate(Named::default());
            Some(rate.map_or((1, RateSource::None), |rate| (rate.max(1), source)))
        } else {
            None
        };
        Self { now, exporter, sampling, source, exported, settled, longest_ms, reports, followed_ms, totals: None }
    }

    /// How long the counters of a record cover, in milliseconds: the duration of its flow, at most the time since the flow was
    /// reported before, as far as that is known of the exporter.
    #[inline]
    pub(crate) fn duration_ms(&self, span: Span) -> u32 {
        span.duration_ms.min(self.longest_ms)
    }

    /// Whether a flow is worth following ([`Self::settle`]).
    #[inline]
    pub(crate) const fn follows(&self, span: Span) -> bool {
        span.duration_ms >= self.followed_ms
    }

    /// Corrects the duration of a record's sample by what is known of its flow, and learns from it.
    pub(crate) fn settle(&self, sample: &mut Sample, span: Span) {
        if let Some(reports) = self.reports {
            reports.settle(self.now, sample, span);
        }
    }
}

/// Counters of one direction: the first that a record carries counts. Where it is 0, the outgoing one (23, 24) does: records of
/// egress have nothing but that, by templates that hold both.
pub(crate) const PACKETS: [Field; 4] =
    [Field::Packets, Field::TotalPackets, Field::InitiatorPackets, Field::PostPackets];
pub(crate) const BYTES: [Field; 5] =
    [Field::Bytes, Field::TotalBytes, Field::InitiatorBytes, Field::PostBytes, Field::Layer2Bytes];
/// Fields by which a record says how it was sampled.
pub(crate) const SAMPLING: Set = Field::SamplingInterval.bit()
    | Field::RandomInterval.bit()
    | Field::PacketInterval.bit()
    | Field::SamplerId.bit()
    | Field::SelectorId.bit()
    | Field::SelectionSequence.bit();
/// Counters of the time since the last report of a flow (IANA: 1, 2, 23, 24, 352).
pub(crate) const FORWARD_SINCE_LAST: Set = Field::Packets.bit()
    | Field::Bytes.bit()
    | Field::PostPackets.bit()
    | Field::PostBytes.bit()
    | Field::Layer2Bytes.bit();

/// Records that are not in the statistics yet.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) records: u64,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Tally {
    #[inline]
    pub(crate) fn add(&mut self, packets: u64, bytes: u64) {
        self.records += 1;
        self.packets = self.packets.saturating_add(packets);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Whether the counters of records with these fields are running totals of their flows.
#[inline]
pub(crate) const fn are_totals(fields: Set) -> bool {
    fields & (Field::TotalPackets.bit() | Field::TotalBytes.bit()) != 0 && fields & FORWARD_SINCE_LAST == 0
}

/// forwardingStatus (IANA IE 89): the two upper bits are 10 for dropped. Where telemetry stands before the filter, or behind it,
/// the exporter's word on dropping does not matter (decision 8).
#[inline]
pub(crate) fn is_dropped_status(status: u64, exporter: &Exporter) -> bool {
    status & 0xc0 == 0x80 && exporter.settings.vantage == Vantage::Auto
}

/// Where type and code of ICMP stand in one number: elements of their own, that of the version first, or, as routers have always
/// done it, the destination port.
pub(crate) const fn icmp_type_code(version: IpVersion) -> [Field; 3] {
    match version {
        IpVersion::V4 => [Field::IcmpTypeCodeV4, Field::IcmpTypeCodeV6, Field::DestinationPort],
        IpVersion::V6 => [Field::IcmpTypeCodeV6, Field::IcmpTypeCodeV4, Field::DestinationPort],
    }
}

/// Packets or bytes as they are counted.
#[inline]
pub(crate) fn scaled(units: u64, rate: u32) -> u64 {
    units.saturating_mul(rate.into()).min(MOST_UNITS)
}
