//! [`Reports`]: how often an exporter reports a flow that goes on, learned from its records.
//!
//! Many exporters keep the start of a flow for as long as it lives, and report every so often what it carried since the report
//! before. Such a record of a flow that began an hour ago covers a minute, not an hour: spread over the hour, a flood inside it
//! would pass for a sixtieth of itself. Where options do not announce the interval (elements 36 and 37) it shows: two records of
//! one flow have one start, and end an interval apart. Exporters that begin a flow anew with every report have another start each
//! time, and nothing is learned of them.
//!
//! Learned is with caution, for an interval that is too short makes false alarms: three reports of a flow must have been seen, of
//! its last two gaps the longer counts, and of all flows followed, the one below which nine tenths lie. A flow that is followed
//! itself and is reported less often has its own gap. What was learned holds for an hour without a further sign.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use traffic::{Sample, Time};

use crate::span::Span;

/// Flows followed per domain at most (4 KiB); taken when the first one is to be followed.
const FLOWS: usize = 128;
/// A flow is followed from this duration on, in milliseconds.
pub(crate) const SHORTEST_MS: u32 = 2_000;
/// A record of fewer packets is small against thresholds: it counts at once whatever it covers (decision 28).
const LARGE_PACKETS: u64 = 512;
/// Packets seen (before scaling) in a record that is learned from, at least: with fewer, there may have been none in the interval
/// before.
const SEEN_PACKETS: u64 = 4;
/// Starts of one flow differ by this at most, in milliseconds: some are computed from an export time in whole seconds.
const SAME_START_MS: u32 = 1_500;
/// Reports closer to each other than this are one report told twice.
const SHORTEST_GAP_MS: u32 = 500;
/// A longer gap is no gap: a record came late, or was told by another clock.
const LONGEST_GAP_MS: u32 = 86_400_000;
/// A flow is followed for twice its age more, in seconds at most. By then one that goes on has been reported again: it has lasted
/// an interval at least.
const PATIENCE_S: u64 = 7_200;
/// For how long an interval holds without a further sign, in seconds.
const HOLDS_S: u64 = 3_600;

/// A flow that is followed.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    key: u64,
    first_ms: u32,
    last_ms: u32,
    /// When it was reported, by the same clock.
    reported_ms: u32,
    /// The last two gaps between reports, 0 unknown.
    gaps_ms: [u32; 2],
    /// When its place is free, in seconds since the epoch; 0: it is.
    until_s: u64,
}

impl Flow {
    /// The longer of two gaps, once there were two.
    fn gap_ms(&self) -> Option<u32> {
        let [newer, older] = self.gaps_ms;
        (newer > 0 && older > 0).then_some(newer.max(older))
    }
}

/// The reports of one domain of an exporter.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    /// The interval in milliseconds in the lower half, and in the upper one when it was last seen, in seconds since the epoch.
    interval: AtomicU64,
    flows: Mutex<Option<Box<[Flow; FLOWS]>>>,
}

impl Reports {
    /// The interval at which flows that go on are reported, in milliseconds, if it is known.
    #[inline]
    pub(crate) fn interval_ms(&self, now: Time) -> Option<u32> {
        let interval = self.interval.load(Ordering::Relaxed);
        if interval == 0 || seconds(now) > (interval >> 32) + HOLDS_S {
            return None;
        }
        u32::try_from(interval & 0xffff_ffff).ok()
    }

    /// Sets the duration of a record's sample to the span that its counters cover; `span` is that of its flow. Learns from it.
    pub(crate) fn settle(&self, now: Time, sample: &mut Sample, span: Span) {
        if sample.packets >= LARGE_PACKETS && sample.observed_packets() >= SEEN_PACKETS {
            sample.duration_ms = self.span_ms(now, sample, span);
        }
    }

    /// The span that the counters of a record cover, in milliseconds.
    fn span_ms(&self, now: Time, sample: &Sample, span: Span) -> u32 {
        // While another worker is at it, a record teaches nothing.
        let own = self.flows.try_lock().ok().and_then(|mut flows| {
            self.follow(flows.get_or_insert_with(|| Box::new([Flow::default(); FLOWS])), now, sample, span)
        });
        let lasted = span.duration_ms;
        self.interval_ms(now).map_or(lasted, |interval| lasted.min(interval.max(own.unwrap_or(0))))
    }

    /// Takes note of a report; returns the longer of its flow's last two gaps, if one is known.
    fn follow(&self, flows: &mut [Flow; FLOWS], now: Time, sample: &Sample, span: Span) -> Option<u32> {
        let Span { duration_ms, age_ms, first_ms, last_ms } = span;
        let (key, now_s, reported_ms) = (flow_key(sample), seconds(now), last_ms.wrapping_add(age_ms));
        let until_s = now_s + (u64::from(duration_ms) / 500).min(PATIENCE_S) + 1;
        let flow = flows.get_mut(usize::try_from(key >> 57).unwrap_or(0))?;
        if flow.key == key && flow.until_s > 0 && is_near(first_ms, flow.first_ms) {
            // Between last packets, or between reports: a flow may have paused before one, and the export may be told in seconds.
            let gap = last_ms.wrapping_sub(flow.last_ms).min(reported_ms.wrapping_sub(flow.reported_ms));
            if (SHORTEST_GAP_MS..=LONGEST_GAP_MS).contains(&gap) {
                *flow = Flow { last_ms, reported_ms, gaps_ms: [gap, flow.gaps_ms[0]], until_s, ..*flow };
            }
            let (own, is_certain) = (flow.gaps_ms.into_iter().max(), flow.gap_ms().is_some());
            if is_certain {
                self.learn(flows, now_s);
            }
            return own;
        }
        if flow.key == key || flow.until_s < now_s {
            *flow = Flow { key, first_ms, last_ms, reported_ms, gaps_ms: [0; 2], until_s };
        }
        None
    }

    fn learn(&self, flows: &[Flow; FLOWS], now_s: u64) {
        let mut gaps: Vec<u32> = flows.iter().filter(|f| f.until_s >= now_s).filter_map(Flow::gap_ms).collect();
        gaps.sort_unstable();
        if let Some(interval) = gaps.get((gaps.len() * 9).div_ceil(10).saturating_sub(1)) {
            self.interval.store(now_s << 32 | u64::from(*interval), Ordering::Relaxed);
        }
    }
}

/// Whether two times modulo 2^32 may be the start of one flow.
pub(crate) const fn is_near(one_ms: u32, other_ms: u32) -> bool {
    one_ms.wrapping_sub(other_ms).wrapping_add(SAME_START_MS) <= 2 * SAME_START_MS
}

const fn seconds(now: Time) -> u64 {
    now.0 / 1_000_000_000
}

/// What tells flows apart, as a number. Where two flows share one they cost each other a place, no more: their starts differ.
#[allow(clippy::cast_possible_truncation, reason = "halves")]
pub(crate) fn flow_key(sample: &Sample) -> u64 {
    let Sample { source, destination, source_port, destination_port, protocol, input_interface, exporter, .. } =
        *sample;
    let ports = u64::from(source_port) << 48 | u64::from(destination_port) << 32;
    let others = u64::from(exporter) << 40 | u64::from(input_interface) << 8 | u64::from(protocol);
    let halves = |bits: u128| [(bits >> 64) as u64, bits as u64];
    [halves(source), halves(destination), [ports, others]]
        .into_iter()
        .flatten()
        .fold(0, |key: u64, part| (key.rotate_left(23) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use traffic::{IpVersion, Origin};

    use super::*;

    /// A flow by its destination.
    fn flow(number: u32) -> Sample {
        let empty = Sample::empty(Time(0), IpVersion::V4, Origin::FlowRecord);
        Sample { destination: u128::from(number) << 96, packets: 100_000, ..empty }
    }

    /// The span told for a flow that began at `start_s` and is reported at `at_s`.
    fn reported(reports: &Reports, number: u32, start_s: u32, at_s: u32) -> u32 {
        let (first_ms, last_ms) = (start_s * 1000, at_s * 1000);
        let span = Span { duration_ms: last_ms - first_ms, age_ms: 0, first_ms, last_ms };
        reports.span_ms(Time::from_seconds(at_s.into(), 0), &flow(number), span) / 1000
    }

    #[test]
    fn three_reports_of_a_flow_show_the_interval_and_two_do_not() {
        let reports = Reports::default();
        let spans: Vec<u32> = (0..4).map(|i| reported(&reports, 1, 100, 5_000 + 60 * i)).collect();
        assert_eq!(spans, [4_900, 4_960, 60, 60]);
        assert_eq!(reported(&reports, 2, 4_000, 5_200), 60, "another flow of the exporter");
        assert_eq!(reported(&reports, 3, 5_190, 5_200), 10, "what is shorter stays as it is");
    }

    #[test]
    fn a_report_told_twice_or_late_or_ahead_of_time_makes_no_shorter_interval() {
        let reports = Reports::default();
        for i in 0..20 {
            let at = 5_000 + 60 * i;
            reported(&reports, 1, 100, at);
            // A second monitor tells of the same flow, and the cache is short of room now and then.
            reported(&reports, 1, 100, at);
            if i % 5 == 4 {
                reported(&reports, 1, 100, at + 3);
            }
            reported(&reports, 1, 100, at - 60);
            if i > 2 {
                let interval = reports.interval_ms(Time::from_seconds(at.into(), 0)).expect("known");
                assert!((57_000..=60_000).contains(&interval), "{interval} at {at}");
            }
        }
    }

    #[test]
    fn reports_that_were_lost_do_not_lengthen_the_interval_where_many_flows_show_it() {
        let reports = Reports::default();
        let (mut lost, mut spans) = (0u32, Vec::new());
        for report in 0..30 {
            for number in 0..400 {
                // Two in a hundred are lost.
                lost = lost.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if lost >> 16 < 65_536 / 50 {
                    continue;
                }
                let span = reported(&reports, number, 100 + number, 5_000 + 60 * report);
                if report > 2 {
                    spans.push(span);
                }
            }
            let known = reports.interval_ms(Time::from_seconds(u64::from(5_000 + 60 * report), 0));
            assert!(report < 3 || known == Some(60_000), "{known:?} in report {report}");
        }
        // A flow that is followed has its own gap after a loss, which is too long by that.
        let exact = spans.iter().filter(|span| **span == 60).count();
        assert!(exact * 100 > spans.len() * 97 && spans.iter().all(|span| *span >= 60), "{exact} of {}", spans.len());
    }

    #[test]
    fn a_flow_that_is_reported_less_often_than_others_has_its_own_gap() {
        let reports = Reports::default();
        for i in 0..180 {
            (1..100).for_each(|number| _ = reported(&reports, number, 100, 5_000 + 10 * i));
        }
        let spans: Vec<u32> = (0..4).map(|i| reported(&reports, 100_000, 100, 7_000 + 600 * i)).collect();
        // Which flow has a place of its own is by chance of the key; this one has.
        assert_eq!(spans, [10, 600, 600, 600]);
    }

    #[test]
    fn an_interval_holds_for_an_hour_without_a_sign_and_places_become_free() {
        let reports = Reports::default();
        (0..4).for_each(|i| _ = reported(&reports, 1, 4_990, 5_000 + 10 * i));
        let known = |s: u64| reports.interval_ms(Time::from_seconds(s, 0));
        assert_eq!((known(5_030), known(8_600), known(8_700)), (Some(10_000), Some(10_000), None));
        // Flows in plenty, each reported once: followed for twice their age, no longer.
        (0..100_000).for_each(|number| _ = reported(&reports, 1_000 + number, 8_990, 9_000));
        (0..3).for_each(|i| _ = reported(&reports, 2, 100, 9_100 + 30 * i));
        assert_eq!(known(9_200), Some(30_000));
    }
}
