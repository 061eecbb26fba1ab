//! [`Span`]: which span of time the counters of a record cover; one answer for every way in which exporters tell it.
//!
//! Exporters write the times of a flow in a dozen elements, alone or in pairs, by clocks that wrap. Whatever can be read comes to
//! two numbers, how long and how long ago. And because the counters of a record are of the time since the last report of its flow
//! (IANA: 1 and 2 are delta counters) while its start is that of the flow, a flow that lasts longer than its exporter's interval
//! of reports is cut to that interval: see [`crate::reports`].

use crate::elements::{Field, Record};

/// When a message was exported, by the exporter's clocks as its header tells them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Exported {
    /// Milliseconds since the exporter started, modulo 2^32 (`NetFlow`).
    pub(crate) uptime_ms: Option<u32>,
    /// Seconds since the Unix epoch.
    pub(crate) unix_seconds: Option<u32>,
}

impl Exported {
    #[inline]
    fn unix_ms(self) -> Option<u64> {
        self.unix_seconds.map(|seconds| u64::from(seconds) * 1000)
    }
}

/// A record that is said to have waited longer than this says nothing of use: clocks differ.
const LONGEST_AGE_MS: u64 = 3_600_000;
/// A flow that is said to have lasted longer than a year has no start: it is 0, or of another clock.
const LONGEST_MS: u64 = 365 * 86_400_000;
/// A last packet that comes before the first by no more than this is no flow of 49.7 days: the exporter's clocks are not one.
const BACKWARDS_MS: u32 = 3_600_000;

/// When the packets of a record passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    /// From the first to the last packet of the flow in milliseconds, at most 49.7 days; 0 unknown.
    pub(crate) duration_ms: u32,
    /// From the last packet to the export of the record in milliseconds, at most an hour; 0 unknown.
    pub(crate) age_ms: u32,
    /// The time of the first packet in milliseconds modulo 2^32, by whatever clock the record uses: only differences between
    /// records of one template say anything.
    pub(crate) first_ms: u32,
    /// The time of the last packet in milliseconds modulo 2^32, by the same clock.
    pub(crate) last_ms: u32,
}

/// The lower 32 bits.
#[allow(clippy::cast_possible_truncation, reason = "modulo 2^32 is what is wanted")]
#[inline]
const fn low(ms: u64) -> u32 {
    ms as u32
}

/// An age that is believed, else 0.
#[inline]
fn believed_age(ms: u64) -> u32 {
    if ms > LONGEST_AGE_MS { 0 } else { low(ms) }
}

/// A duration that is believed, else 0.
#[inline]
fn believed(ms: u64) -> u32 {
    if ms > LONGEST_MS { 0 } else { low(ms.min(u32::MAX.into())) }
}

impl Span {
    /// Of a first and last packet by the exporter's uptime (RFC 3954 section 8: 32 bits of milliseconds, which wrap every 49.7
    /// days). A last packet before the first is no duration.
    #[inline]
    pub(crate) fn of_uptime(first: u64, last: u64, exported: Exported) -> Self {
        let (first, last) = (low(first), low(last));
        let lasted = last.wrapping_sub(first);
        Self {
            duration_ms: if lasted > u32::MAX - BACKWARDS_MS { 0 } else { lasted },
            age_ms: exported.uptime_ms.map_or(0, |now| believed_age(now.wrapping_sub(last).into())),
            first_ms: first,
            last_ms: last,
        }
    }

    /// Of a first and last packet in milliseconds since the Unix epoch. A last one of 0 is unknown: it was no later than the
    /// export (RFC 7011 section 3.1).
    #[inline]
    pub(crate) fn of_unix(first: u64, last: u64, exported: Exported) -> Self {
        let now = exported.unix_ms();
        let end = if last == 0 { now.unwrap_or(0) } else { last };
        Self {
            duration_ms: believed(end.saturating_sub(first)),
            age_ms: believed_age(now.map_or(0, |now| now.saturating_sub(end))),
            first_ms: low(first),
            last_ms: low(end),
        }
    }

    /// Of a record, whichever elements it uses.
    pub(crate) fn of(record: Record<'_>, exported: Exported) -> Self {
        let get = |field: Field| record.get(field);
        if let (Some(first), Some(last)) = (get(Field::FirstUptime), get(Field::LastUptime)) {
            return Self::of_uptime(first, last, exported);
        }
        if let (Some(first), Some(last)) = (get(Field::StartMillis), get(Field::EndMillis)) {
            return Self::of_unix(first, last, exported);
        }
        let now = exported.unix_ms();
        let seconds = |field: Field| get(field).map(|s| s.saturating_mul(1000));
        let fine = |field: Field| get(field).map(|value| fine_ms(value, now));
        let offset = |field: Field| Some(now?.saturating_sub(get(field)? / 1000));
        let uptime = |field: Field| Some(uptime_to_unix(low(get(field)?), exported.uptime_ms?, now?));
        let is_told = |ms: &u64| *ms > 0;
        let first = get(Field::StartMillis)
            .or_else(|| fine(Field::StartFine))
            .or_else(|| seconds(Field::StartSeconds))
            .or_else(|| offset(Field::StartOffset))
            .or_else(|| uptime(Field::FirstUptime))
            .filter(is_told);
        let last = get(Field::EndMillis)
            .or_else(|| fine(Field::EndFine))
            .or_else(|| seconds(Field::EndSeconds))
            .or_else(|| offset(Field::EndOffset))
            .or_else(|| uptime(Field::LastUptime))
            .filter(is_told);
        let told = get(Field::DurationMillis).or_else(|| get(Field::DurationMicros).map(|us| us / 1000));
        // Without a first packet there is no duration.
        let span = Self::of_unix(first.or(last).or(now).unwrap_or(0), last.unwrap_or(0), exported);
        told.map_or(span, |told| {
            let duration_ms = believed(told);
            Self { duration_ms, first_ms: span.last_ms.wrapping_sub(duration_ms), ..span }
        })
    }
}

/// A time of an exporter's uptime in milliseconds since the Unix epoch, by a header that tells both.
fn uptime_to_unix(ms: u32, uptime: u32, unix: u64) -> u64 {
    let before = uptime.wrapping_sub(ms);
    if before > u32::MAX - BACKWARDS_MS {
        unix.saturating_add(ms.wrapping_sub(uptime).into())
    } else {
        unix.saturating_sub(before.into())
    }
}

/// Seconds from 1900, where NTP's time begins, to 1970.
const NTP_TO_UNIX: u32 = 2_208_988_800;

/// A time of the elements 154 to 157 in milliseconds since the Unix epoch. RFC 7011 sections 6.1.9 and 6.1.10 want the NTP form,
/// seconds since 1900 in the upper 32 bits; several exporters write microseconds or nanoseconds since 1970, or seconds since 1970
/// in the upper half. Only one of the readings lies near the export of the message.
fn fine_ms(value: u64, exported: Option<u64>) -> u64 {
    let seconds = |seconds: u32| u64::from(seconds) * 1000 + (((value & 0xffff_ffff) * 1000) >> 32);
    let upper = low(value >> 32);
    let readings = [seconds(upper.wrapping_sub(NTP_TO_UNIX)), value / 1000, value / 1_000_000, seconds(upper)];
    match exported {
        Some(exported) if value > 0 => readings.into_iter().min_by_key(|ms| ms.abs_diff(exported)).unwrap_or(0),
        Some(_) => 0,
        None => readings[0],
    }
}
