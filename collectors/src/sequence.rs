//! [`Sequence`]: sequence numbers of exports, and what they say was lost on the way.
//!
//! | protocol | counts | source |
//! |---|---|---|
//! | `NetFlow` v5, v7 | records before this datagram | per engine |
//! | `NetFlow` v9 | messages | RFC 3954 section 5.1, per source id |
//! | IPFIX | data records before this message | RFC 7011 section 3.1, per observation domain |
//! | sFlow v5 | datagrams | per agent and sub agent |
//!
//! Some v9 exporters count records although they should count messages: that is noticed.

/// A gap larger than this is a restart of the exporter, not a loss.
const LARGEST_GAP: u32 = 100_000;
/// Messages in a row that must count records before a v9 exporter is taken to do so.
const CERTAIN: u8 = 3;

/// What a sequence number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Datagrams or messages.
    Messages,
    /// Records.
    Records,
}

/// What a message says about those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nothing is missing.
    Next,
    /// So many records are missing (v9 and sFlow: as many as the missing messages held on average).
    Lost(u64),
    /// Counted as lost before, arrived late: so many records.
    Late(u64),
    /// The exporter began anew.
    Restart,
}

/// The state of one stream of exports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sequence {
    /// The number that the next message should carry.
    expected: Option<u32>,
    previous: u32,
    previous_records: u32,
    /// Messages in a row whose numbers counted records.
    counts_records: u8,
    /// Mean records per message, in 1/16.
    mean: u32,
}

impl Sequence {
    /// Takes a message's number and how many records it held; `None`: not known, because a template was missing.
    pub(crate) fn next(&mut self, unit: Unit, number: u32, records: Option<u32>) -> Order {
        let held = records.unwrap_or(self.mean / 16);
        let unit = self.unit(unit, number);
        let order = self.expected.map_or(Order::Next, |expected| {
            let gap = number.wrapping_sub(expected);
            let records_of = |gap: u32| match unit {
                Unit::Records => u64::from(gap),
                Unit::Messages => (u64::from(gap) * u64::from(self.mean)).div_ceil(16),
            };
            match (gap, expected.wrapping_sub(number)) {
                (0, _) => Order::Next,
                (gap, _) if gap <= LARGEST_GAP => Order::Lost(records_of(gap)),
                (_, back) if back <= LARGEST_GAP / 10 && number != 0 => Order::Late(u64::from(held)),
                _ => Order::Restart,
            }
        });
        self.mean = if self.mean == 0 { held * 16 } else { (self.mean * 15).div_ceil(16).saturating_add(held) };
        if !matches!(order, Order::Late(_)) {
            let step = match (unit, records) {
                (Unit::Messages, _) => Some(1),
                // Without its template nobody knows how many records a set held: begin anew.
                (Unit::Records, records) => records,
            };
            self.expected = step.map(|step| number.wrapping_add(step));
            (self.previous, self.previous_records) = (number, held);
        }
        order
    }

    /// What the numbers of this stream count; learned for those that should count messages.
    fn unit(&mut self, unit: Unit, number: u32) -> Unit {
        if unit == Unit::Records {
            return unit;
        }
        let step = number.wrapping_sub(self.previous);
        if self.expected.is_some() && self.previous_records > 1 {
            if step == self.previous_records {
                self.counts_records = (self.counts_records + 1).min(CERTAIN);
            } else if step == 1 {
                self.counts_records = 0;
            }
        }
        if self.counts_records == CERTAIN {
            self.expected = Some(self.previous.wrapping_add(self.previous_records));
            Unit::Records
        } else if self.counts_records > 0 {
            // Not certain yet: say nothing of gaps.
            self.expected = Some(number);
            Unit::Messages
        } else {
            unit
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_losses_late_messages_are_given_back_and_restarts_are_neither() {
        let mut v5 = Sequence::default();
        assert_eq!(v5.next(Unit::Records, 1000, Some(30)), Order::Next);
        assert_eq!(v5.next(Unit::Records, 1030, Some(30)), Order::Next);
        assert_eq!(v5.next(Unit::Records, 1120, Some(30)), Order::Lost(60));
        assert_eq!(v5.next(Unit::Records, 1060, Some(30)), Order::Late(30));
        assert_eq!(v5.next(Unit::Records, 1150, Some(10)), Order::Next);
        assert_eq!(v5.next(Unit::Records, 0, Some(10)), Order::Restart);
        assert_eq!(v5.next(Unit::Records, 10, Some(10)), Order::Next);
    }

    #[test]
    fn numbers_wrap() {
        let mut v5 = Sequence::default();
        v5.next(Unit::Records, u32::MAX - 9, Some(10));
        assert_eq!(v5.next(Unit::Records, 0, Some(10)), Order::Next);
        assert_eq!(v5.next(Unit::Records, 12, Some(10)), Order::Lost(2));
    }

    #[test]
    fn lost_messages_are_told_in_records() {
        let mut v9 = Sequence::default();
        (0..10).for_each(|n| assert_eq!(v9.next(Unit::Messages, n, Some(24)), Order::Next));
        assert_eq!(v9.next(Unit::Messages, 12, Some(24)), Order::Lost(48));
    }

    #[test]
    fn a_v9_exporter_that_counts_records_is_found_out() {
        let mut v9 = Sequence::default();
        let orders: Vec<Order> = (0..20).map(|n| v9.next(Unit::Messages, n * 24, Some(24))).collect();
        let lost = orders.iter().filter(|o| matches!(o, Order::Lost(_))).count();
        assert_eq!(lost, 0, "{orders:?}");
        assert_eq!(v9.next(Unit::Messages, 21 * 24, Some(24)), Order::Lost(24));
    }

    #[test]
    fn a_message_whose_template_is_missing_is_no_loss() {
        let mut ipfix = Sequence::default();
        ipfix.next(Unit::Records, 100, None);
        assert_eq!(ipfix.next(Unit::Records, 150, Some(10)), Order::Next);
        assert_eq!(ipfix.next(Unit::Records, 160, Some(10)), Order::Next);
    }
}
