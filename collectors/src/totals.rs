//! [`Totals`]: running totals of flows, of which only the growth is new.
//!
//! Elements 85 and 86 count since a flow began (IANA), where 1 and 2 count since it was reported before. An exporter that has
//! nothing else and reports a flow every minute tells of each packet as often as the flow is reported after it.

use crate::span::Span;

/// Flows that are remembered at most, of all exporters (2.5 MiB); taken with the first one. Of a flow that had to make room the
/// next report counts whole.
const FLOWS: usize = 1 << 16;
const FLOW_BITS: u32 = FLOWS.trailing_zeros();

/// What was reported of a flow so far.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    key: u64,
    first_ms: u32,
    last_ms: u32,
    packets: u64,
    bytes: u64,
}

/// What is new in a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Growth {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// The time since the last packet of the report before in milliseconds; none if there was none.
    pub(crate) since_ms: Option<u32>,
}

/// The totals of flows that were reported.
#[derive(Debug, Default)]
pub(crate) struct Totals(Vec<Flow>);

impl Totals {
    /// Takes note of a report of the flow `key`; returns what of its totals is new. Another start, or a total that has shrunk, is
    /// another flow.
    pub(crate) fn growth(&mut self, key: u64, span: Span, packets: u64, bytes: u64) -> Growth {
        if self.0.is_empty() {
            self.0.resize(FLOWS, Flow::default());
        }
        let place = usize::try_from(key >> (u64::BITS - FLOW_BITS)).unwrap_or(0);
        let whole = Growth { packets, bytes, since_ms: None };
        let Some(flow) = self.0.get_mut(place) else { return whole };
        let Span { first_ms, last_ms, .. } = span;
        let is_known = flow.key == key
            && crate::reports::is_near(first_ms, flow.first_ms)
            && packets >= flow.packets
            && bytes >= flow.bytes;
        let growth = if is_known {
            let since_ms = Some(last_ms.wrapping_sub(flow.last_ms));
            Growth { packets: packets - flow.packets, bytes: bytes - flow.bytes, since_ms }
        } else {
            whole
        };
        *flow = Flow { key, first_ms, last_ms, packets, bytes };
        growth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_growth_is_new_and_another_start_is_another_flow() {
        let mut totals = Totals::default();
        let mut report = |first_ms: u32, last_ms: u32, packets: u64| {
            let span = Span { first_ms, last_ms, ..Span::default() };
            let growth = totals.growth(u64::MAX, span, packets, packets * 100);
            assert_eq!(growth.bytes, growth.packets * 100);
            (growth.packets, growth.since_ms)
        };
        assert_eq!(report(1_000, 60_000, 1_000), (1_000, None));
        assert_eq!(report(1_000, 120_000, 2_500), (1_500, Some(60_000)));
        assert_eq!(report(1_000, 120_000, 2_500), (0, Some(0)), "told twice");
        assert_eq!(report(130_000, 180_000, 3_000), (3_000, None), "another flow of the same ports");
        assert_eq!(report(130_000, 240_000, 10), (10, None), "begun anew");
        assert_eq!(totals.0.len(), FLOWS);
    }
}
