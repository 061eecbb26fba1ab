//! [`Test`]: one condition of a rule under construction, small enough to copy; and [`Tests`], a conjunction of them.

use flowspec::capabilities::range_entries;
use flowspec::{BitTest, Bits, Condition, Pattern, PatternError, Ranges};
use traffic::sample::protocol;
use traffic::{Direction, IpVersion, Prefix, Target};

/// A field that the search can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Field {
    Protocol,
    DestinationPort,
    SourcePort,
    IcmpType,
    IcmpCode,
    Length,
    Dscp,
    FlowLabel,
    Source,
    Destination,
    TcpFlags,
    Fragment,
}

/// Fields with an order, which ranges make sense of; [`Field::column`] counts them.
pub(super) const NUMERIC: [Field; 8] = [
    Field::Protocol,
    Field::DestinationPort,
    Field::SourcePort,
    Field::IcmpType,
    Field::IcmpCode,
    Field::Length,
    Field::Dscp,
    Field::FlowLabel,
];

impl Field {
    /// Place of a numeric field in [`NUMERIC`].
    pub(super) const fn column(self) -> usize {
        self as usize
    }

    /// Smallest value that a packet can have.
    pub(super) const fn least(self, version: IpVersion) -> u32 {
        match (self, version) {
            (Self::Length, IpVersion::V4) => 20,
            (Self::Length, IpVersion::V6) => 40,
            _ => 0,
        }
    }

    /// Largest value of the field (RFC 8955 section 4.2.2, RFC 8956 section 3.7).
    pub(super) const fn most(self) -> u32 {
        match self {
            Self::Protocol | Self::IcmpType | Self::IcmpCode => 0xff,
            Self::Dscp => 0x3f,
            Self::FlowLabel => 0xf_ffff,
            Self::DestinationPort
            | Self::SourcePort
            | Self::Length
            | Self::Source
            | Self::Destination
            | Self::TcpFlags
            | Self::Fragment => 0xffff,
        }
    }

    /// Bits of the field, which is how wide its ternary entries are.
    pub(super) const fn bits(self) -> u32 {
        32 - self.most().leading_zeros()
    }

    /// Routers want the protocol beside these.
    pub(super) const fn needs_protocol(self) -> bool {
        matches!(self, Self::DestinationPort | Self::SourcePort | Self::IcmpType | Self::IcmpCode | Self::TcpFlags)
    }

    /// Whether neighbouring values mean nearly the same: then a range may grow into free space. The others are names.
    pub(super) const fn is_scale(self) -> bool {
        matches!(self, Self::DestinationPort | Self::SourcePort | Self::Length | Self::FlowLabel)
    }
}

/// Most ranges in one numeric condition.
pub(super) const MAX_SPANS: usize = 5;

/// One to [`MAX_SPANS`] disjoint ascending ranges, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Spans {
    count: u8,
    spans: [(u32, u32); MAX_SPANS],
}

impl Spans {
    pub(super) const fn one(low: u32, high: u32) -> Self {
        let mut spans = [(0, 0); MAX_SPANS];
        spans[0] = (low, high);
        Self { count: 1, spans }
    }

    /// From ascending ranges; those that touch become one. `None` when there are none or too many.
    pub(super) fn new(ranges: impl IntoIterator<Item = (u32, u32)>) -> Option<Self> {
        let mut all = Self { count: 0, spans: [(0, 0); MAX_SPANS] };
        for (low, high) in ranges {
            let count = usize::from(all.count);
            if count > 0 && low <= all.spans[count - 1].1.saturating_add(1) {
                all.spans[count - 1].1 = all.spans[count - 1].1.max(high);
                continue;
            }
            *all.spans.get_mut(count)? = (low, high);
            all.count += 1;
        }
        (all.count > 0).then_some(all)
    }

    pub(super) fn as_slice(&self) -> &[(u32, u32)] {
        &self.spans[..usize::from(self.count)]
    }

    /// How many times what lies beyond an outermost sample is expected to be lost: half at each open end, since widening wins back
    /// the other half, and more in each hole, since the widest gaps are chosen; a narrow one costs no more than its width.
    pub(super) fn unseen(&self, field: Field, version: IpVersion, rows: f64) -> f64 {
        let (Some(first), Some(last)) = (self.as_slice().first(), self.as_slice().last()) else { return 0.0 };
        if !field.is_scale() || self.single().is_some() {
            return 0.0;
        }
        let ends = u8::from(first.0 > field.least(version)) + u8::from(last.1 < field.most());
        let gap = f64::from(last.1 - first.0) / rows.max(1.0);
        0.5 * f64::from(ends) + self.holes(gap.max(0.5))
    }

    /// The same for the holes alone, when neighbouring samples are a gap apart.
    fn holes(&self, gap: f64) -> f64 {
        let widths = self.as_slice().windows(2).map(|pair| f64::from(pair[1].0 - pair[0].1 - 1));
        widths.map(|width| 1.5 * (1.0 - (-width / gap).exp())).sum()
    }

    /// How many times what lies beyond an outermost sample is expected to be lost, when `rows` samples lie in the ranges, the
    /// outermost at `low` and `high`.
    pub(super) fn cut_off(&self, field: Field, version: IpVersion, (low, high): (u32, u32), rows: f64) -> f64 {
        let slice = self.as_slice();
        let (Some(first), Some(last)) = (slice.first(), slice.last()) else { return 0.0 };
        if high < low {
            return 0.0;
        }
        let gap = (f64::from(high - low) / (rows - 1.0).max(1.0)).max(0.5);
        let beyond = |slack: u32| (-f64::from(slack) / gap).exp();
        let mut lost = 0.0;
        if first.0 > field.least(version) {
            lost += beyond(low.saturating_sub(first.0));
        }
        if last.1 < field.most() {
            lost += beyond(last.1.saturating_sub(high));
        }
        lost + self.holes(gap)
    }

    /// Without the numbers from `low` to `high`; `None` when nothing or too much is left.
    pub(super) fn without(&self, low: u32, high: u32) -> Option<Self> {
        let parts = self.as_slice().iter().flat_map(|&(from, to)| {
            let left = (from < low).then(|| (from, to.min(low.saturating_sub(1))));
            let right = (to > high).then(|| (from.max(high + 1), to));
            left.into_iter().chain(right)
        });
        Self::new(parts)
    }

    /// The same with one end moved to the next number with one more trailing zero bit, out or in; or with a hole closed.
    pub(super) fn rounder(&self, field: Field) -> Vec<Self> {
        let mut found = Vec::new();
        let slice = self.as_slice();
        for (at, &(low, high)) in slice.iter().enumerate() {
            let mut change = |low: u32, high: u32| {
                if low <= high && high <= field.most() {
                    let ranges = slice.iter().enumerate().map(|(i, old)| if i == at { (low, high) } else { *old });
                    found.extend(Self::new(ranges));
                }
            };
            if low != high {
                let (unit, after) = (1 << low.trailing_zeros().min(19), high + 1);
                change(low & !unit, high);
                change(low.saturating_add(unit), high);
                let unit = 1 << after.trailing_zeros().min(19);
                change(low, after.saturating_add(unit) - 1);
                if after > unit {
                    change(low, (after & !unit) - 1);
                }
            }
            if let Some(&(_, next)) = slice.get(at + 1) {
                change(low, next);
            }
        }
        found
    }

    /// A single number, if it is one.
    pub(super) fn single(&self) -> Option<u32> {
        match *self.as_slice() {
            [(low, high)] if low == high => Some(low),
            _ => None,
        }
    }
}

/// Bits that must all be set, bits that must be clear, and bits of which one must be set; zero asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Mask {
    pub(super) set: u16,
    pub(super) clear: u16,
    pub(super) any: u16,
}

impl Mask {
    pub(super) const fn exactly(set: u16, of: u16) -> Self {
        Self { set: set & of, clear: !set & of, any: 0 }
    }

    pub(super) const fn any(any: u16) -> Self {
        Self { set: 0, clear: 0, any }
    }

    /// Every bit that is looked at.
    pub(super) const fn looks_at(self) -> u16 {
        self.set | self.clear | self.any
    }

    pub(super) const fn matches(self, value: u16) -> bool {
        value & self.set == self.set && value & self.clear == 0 && (self.any == 0 || value & self.any != 0)
    }

    fn bits(self) -> Bits {
        if self.any == 0 {
            return Bits::set_and_clear(self.set, self.clear);
        }
        let any = BitTest { and: false, negate: false, all: false, mask: self.any };
        let rest = Bits::set_and_clear(self.set, self.clear);
        let rest = rest.as_slice().iter().filter(|t| t.mask != 0).map(|t| BitTest { and: true, ..*t });
        Bits::new(std::iter::once(any).chain(rest).collect()).unwrap_or_else(|| Bits::any(self.any))
    }
}

/// One condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Test {
    /// A numeric field in some ranges.
    Numbers(Field, Spans),
    /// The source prefix.
    Source(Prefix),
    /// A part of the target's prefix.
    Destination(Prefix),
    /// TCP flags.
    TcpFlags(Mask),
    /// Fragment bits.
    Fragment(Mask),
}

impl Test {
    pub(super) const fn value(field: Field, value: u32) -> Self {
        Self::Numbers(field, Spans::one(value, value))
    }

    pub(super) const fn field(&self) -> Field {
        match self {
            Self::Numbers(field, _) => *field,
            Self::Source(_) => Field::Source,
            Self::Destination(_) => Field::Destination,
            Self::TcpFlags(_) => Field::TcpFlags,
            Self::Fragment(_) => Field::Fragment,
        }
    }

    fn is_protocol(&self, numbers: &[u8]) -> bool {
        let Self::Numbers(Field::Protocol, spans) = self else { return false };
        spans.single().is_some_and(|p| numbers.iter().any(|n| u32::from(*n) == p))
    }

    /// A protocol whose ports routers match: TCP or UDP (RFC 8955 sections 4.2.2.4 to 4.2.2.6).
    pub(super) fn has_ports(&self) -> bool {
        self.is_protocol(&protocol::ROUTERS_MATCH_PORTS)
    }

    pub(super) fn is_tcp(&self) -> bool {
        self.is_protocol(&[protocol::TCP])
    }

    pub(super) fn is_icmp(&self) -> bool {
        self.is_protocol(&[protocol::ICMP, protocol::ICMPV6])
    }

    /// How much it adds to the length of a rule: what it says, weighed by how much routers dislike it.
    pub(super) fn length(&self) -> f64 {
        match self {
            Self::Numbers(Field::Protocol, _) => 1.0,
            Self::Numbers(Field::IcmpType | Field::IcmpCode, _) => 1.5,
            Self::Numbers(_, spans) if spans.single().is_some() => 2.0,
            Self::Numbers(Field::Length, _) => 3.5,
            Self::Numbers(Field::FlowLabel, _) => 8.0,
            Self::Numbers(..) => 5.0,
            Self::TcpFlags(_) => 2.0,
            Self::Fragment(_) => 1.0,
            Self::Source(prefix) | Self::Destination(prefix) => 2.0 + f64::from(prefix.length().min(64)) / 16.0,
        }
    }

    /// Bits that it takes to say which of the possible tests this is, when a value is one of 2^`among` seen.
    pub(super) fn bits(&self, among: f64) -> f64 {
        match self {
            Self::Numbers(Field::Protocol, _) if self.has_ports() || self.is_icmp() => 2.0,
            Self::Numbers(Field::Protocol | Field::IcmpType | Field::IcmpCode | Field::Dscp, _) => 3.0,
            Self::Numbers(_, spans) => {
                let ends = |(low, high): &(u32, u32)| if low == high { 1.0 } else { 2.0 };
                among * spans.as_slice().iter().map(ends).sum::<f64>()
            }
            Self::Source(_) | Self::Destination(_) => among + 3.0,
            Self::TcpFlags(_) => 4.0,
            Self::Fragment(_) => 3.0,
        }
    }

    /// Ternary entries that it takes: a range is split into the aligned blocks that make it up.
    pub(super) fn entries(&self) -> u32 {
        match self {
            Self::Numbers(field, spans) => {
                spans.as_slice().iter().map(|&(low, high)| range_entries(low, high, field.bits())).sum()
            }
            Self::Source(_) | Self::Destination(_) => 1,
            Self::TcpFlags(mask) | Self::Fragment(mask) => mask.any.count_ones().max(1),
        }
    }

    pub(super) fn condition(&self) -> Condition {
        match self {
            Self::Numbers(field, spans) => {
                let set = Ranges::union(spans.as_slice().iter().copied());
                match field {
                    Field::Protocol => Condition::Protocol(set),
                    Field::DestinationPort => Condition::DestinationPort(set),
                    Field::SourcePort => Condition::SourcePort(set),
                    Field::IcmpType => Condition::IcmpType(set),
                    Field::IcmpCode => Condition::IcmpCode(set),
                    Field::Dscp => Condition::Dscp(set),
                    Field::FlowLabel => Condition::FlowLabel(set),
                    Field::Length | Field::Source | Field::Destination | Field::TcpFlags | Field::Fragment => {
                        Condition::Length(set)
                    }
                }
            }
            Self::Source(prefix) => Condition::Source(*prefix, 0),
            Self::Destination(prefix) => Condition::Destination(*prefix, 0),
            Self::TcpFlags(mask) => Condition::TcpFlags(mask.bits()),
            Self::Fragment(mask) => Condition::Fragment(mask.bits()),
        }
    }
}

/// Most conditions of a mined rule, beside its target.
pub(super) const MAX_TESTS: usize = 6;

/// A conjunction: at most one test per field, sorted by field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Tests {
    count: u8,
    tests: [Option<Test>; MAX_TESTS],
}

impl Tests {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Test> {
        self.tests.iter().flatten()
    }

    pub(super) const fn len(&self) -> usize {
        self.count as usize
    }

    pub(super) fn get(&self, field: Field) -> Option<&Test> {
        self.iter().find(|t| t.field() == field)
    }

    /// With one more test, or with another for the same field; unchanged if there is no room.
    #[must_use]
    pub(super) fn with(mut self, test: Test) -> Self {
        if let Some(old) = self.tests.iter_mut().flatten().find(|t| t.field() == test.field()) {
            *old = test;
            return self;
        }
        let count = usize::from(self.count);
        if count < MAX_TESTS {
            let at = self.iter().take_while(|t| t.field() < test.field()).count();
            self.tests.copy_within(at..count, at + 1);
            self.tests[at] = Some(test);
            self.count += 1;
        }
        self
    }

    #[must_use]
    pub(super) fn without(mut self, field: Field) -> Self {
        let count = usize::from(self.count);
        let at = self.iter().position(|t| t.field() == field);
        if let Some(at) = at {
            self.tests.copy_within(at + 1..count, at);
            self.tests[count - 1] = None;
            self.count -= 1;
        }
        self
    }

    /// Whether these tests name nothing but a destination: that is a blackhole, which the ladder decides about, and no rule.
    pub(super) fn is_bare(&self) -> bool {
        self.without(Field::Destination).len() == 0
    }

    /// Length in units that make shorter rules win ties; two ranges multiply in the router.
    pub(super) fn length(&self) -> f64 {
        let is_range = |t: &&Test| matches!(t, Test::Numbers(_, spans) if spans.single().is_none());
        let ranges = self.iter().filter(is_range).count();
        self.iter().map(Test::length).sum::<f64>() + if ranges >= 2 { 4.0 } else { 0.0 }
    }

    /// The same with a test of another field, when it is `length` without.
    pub(super) fn length_with(&self, length: f64, test: &Test) -> f64 {
        let is_range = |t: &&Test| matches!(t, Test::Numbers(_, spans) if spans.single().is_none());
        let second = is_range(&test) && self.iter().filter(is_range).count() == 1;
        length + test.length() + if second { 4.0 } else { 0.0 }
    }

    /// Ternary entries of the rule.
    pub(super) fn entries(&self) -> u32 {
        self.iter().map(Test::entries).fold(1u32, u32::saturating_mul)
    }

    /// The rule for a target.
    pub(super) fn pattern(&self, target: Target) -> Result<Pattern, PatternError> {
        let mut conditions: Vec<Condition> = self.iter().map(Test::condition).collect();
        let narrowed = self.get(Field::Destination).is_some() && target.direction == Direction::Incoming;
        if !narrowed {
            conditions.push(super::own_end(target));
        }
        Pattern::new(conditions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_touch_become_one() {
        let spans = Spans::new([(1, 5), (6, 9), (11, 11)]).expect("two");
        assert_eq!(spans.as_slice(), [(1, 9), (11, 11)]);
        assert!(Spans::new([]).is_none());
        assert!(Spans::new((0..20).map(|i| (i * 2, i * 2))).is_none(), "too many");
    }

    #[test]
    fn a_mask_matches_as_its_condition_does() {
        let masks =
            [Mask::exactly(2, 0x3f), Mask::any(6), Mask { set: 0x10, clear: 0x0f, any: 0xc0 }, Mask::exactly(0, 6)];
        for mask in masks {
            let bits = mask.bits();
            for value in 0..=0xff {
                assert_eq!(bits.matches(value), mask.matches(value), "{mask:?} {value:#x}");
            }
        }
    }
}
