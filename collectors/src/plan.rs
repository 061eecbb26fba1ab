//! [`Template`]: a template compiled to the plan by which its records are read.
//!
//! Where every field has a fixed length (nearly all templates of routers) a plan is a list of loads: eight octets that end with the
//! field, and a mask. There is always that much before a record: its message has a header. So a field costs one load and one
//! store, whatever its length, and which fields are present is known before the first record.

use crate::elements::{Field, Values, field};

/// Fields per template at most.
pub(crate) const MAX_FIELDS: usize = 512;
/// Declared length of a variable-length field (RFC 7011 section 7).
const VARIABLE: u16 = 0xffff;
/// Octets before a record that a load may reach into.
pub(crate) const REACH: usize = 8;

/// A field as a template declares it: enterprise (0: IANA), element, length.
pub(crate) type Declared = (u32, u16, u16);

/// A number of a fixed record: the last octets before `end` that `mask` leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Load {
    mask: u64,
    /// From the start of the record.
    end: u16,
    place: u8,
}

/// A field of known or unknown meaning, read one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    length: u16,
    /// Offset in the record where all fields before have a fixed length.
    offset: u16,
    field: Option<Field>,
}

/// A template as a plan to read its records.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) is_options: bool,
    /// Shortest record; the only length if `fixed`.
    record_length: usize,
    fixed: bool,
    /// Fixed records: the fields that `loads` fill.
    present: u64,
    loads: Box<[Load]>,
    /// Fixed records: what is not a number. Others: every field.
    steps: Box<[Step]>,
    /// As declared, for the state on disk.
    declared: Box<[Declared]>,
}

impl Template {
    /// From (enterprise, element, declared length) in order; `None` if a record would have no length or too much.
    pub(crate) fn compile(fields: &[Declared], is_options: bool) -> Option<Self> {
        let fixed = fields.iter().all(|f| f.2 != VARIABLE);
        let (mut loads, mut steps, mut present) = (Vec::new(), Vec::new(), 0);
        let mut offset = 0usize;
        for &(enterprise, id, length) in fields {
            let field = field(enterprise, id);
            if length == VARIABLE {
                steps.push(Step { length, offset: 0, field });
                offset += 1;
                continue;
            }
            let start = offset;
            offset += usize::from(length);
            let end = u16::try_from(offset).ok()?;
            match field {
                // Zero-length fields say nothing and cost nothing.
                _ if length == 0 => {}
                Some(number) if fixed && number.is_number() => {
                    // A vendor declares an address of two octets: it is none.
                    let is_address = matches!(number, Field::SourceV4 | Field::DestinationV4);
                    // A template may name an element twice (both directions' interfaces): the first counts.
                    if present & number.bit() == 0 && (!is_address || length == 4) {
                        present |= number.bit();
                        let mask = u64::MAX >> (64 - 8 * u32::from(length.min(8)));
                        loads.push(Load { mask, end, place: number as u8 });
                    }
                }
                _ if field.is_some() || !fixed => {
                    steps.push(Step { length, offset: u16::try_from(start).ok()?, field });
                }
                _ => {}
            }
        }
        if offset == 0 || offset > usize::from(u16::MAX) {
            return None;
        }
        Some(Self {
            is_options,
            record_length: offset,
            fixed,
            present,
            loads: loads.into(),
            steps: steps.into(),
            declared: fields.into(),
        })
    }

    /// Shortest possible record in bytes, at least 1.
    pub(crate) const fn record_length(&self) -> usize {
        self.record_length
    }

    /// Fields as declared.
    pub(crate) const fn declared(&self) -> &[Declared] {
        &self.declared
    }

    /// Reads the record at `at` of a message; returns its length, or `None` if `message` ends before it does.
    #[inline]
    pub(crate) fn read<'a>(&self, message: &'a [u8], at: usize, values: &mut Values<'a>) -> Option<usize> {
        values.begin(self.present);
        if !self.fixed {
            return self.read_variable(message.get(at..)?, values);
        }
        let record = message.get(at..at + self.record_length)?;
        let near = message.get(at.checked_sub(REACH)?..at + self.record_length)?;
        for load in &self.loads {
            // `end` is at least 1 and at most the record's length.
            let end = usize::from(load.end);
            let octets = near.get(end..end + REACH)?.first_chunk()?;
            values.store(load.place, u64::from_be_bytes(*octets) & load.mask);
        }
        for step in &self.steps {
            let start = usize::from(step.offset);
            if let Some(field) = step.field {
                values.set(field, &record[start..start + usize::from(step.length)]);
            }
        }
        Some(self.record_length)
    }

    fn read_variable<'a>(&self, data: &'a [u8], values: &mut Values<'a>) -> Option<usize> {
        let mut at = 0;
        for step in &self.steps {
            let length = if step.length == VARIABLE {
                // RFC 7011 section 7: one byte, or 255 and two bytes. Empty values are legal.
                match *data.get(at)? {
                    255 => {
                        at += 3;
                        usize::from(u16::from_be_bytes([*data.get(at - 2)?, *data.get(at - 1)?]))
                    }
                    short => {
                        at += 1;
                        usize::from(short)
                    }
                }
            } else {
                usize::from(step.length)
            };
            let value = data.get(at..at + length)?;
            if let Some(field) = step.field {
                values.set(field, value);
            }
            at += length;
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What precedes a record in a message.
    fn message(record: &[u8]) -> Vec<u8> {
        [&[0xee; 20][..], record].concat()
    }

    #[test]
    fn a_plan_reads_fixed_and_variable_records_and_skips_what_it_does_not_know() {
        let fixed = Template::compile(&[(0, 7, 2), (9, 1, 4), (0, 1, 3), (0, 2, 0)], false).expect("valid");
        let mut values = Values::new();
        let data = message(&[0, 53, 1, 2, 3, 4, 1, 0, 0, 99]);
        assert_eq!(fixed.read(&data, 20, &mut values), Some(9));
        assert_eq!((values.get(Field::SourcePort), values.get(Field::Bytes)), (Some(53), Some(65_536)));
        assert_eq!(values.get(Field::Packets), None);
        assert_eq!(fixed.read(&data, 22, &mut values), None, "cut");
        let variable = Template::compile(&[(0, 82, VARIABLE), (0, 11, 2), (0, 83, VARIABLE)], false).expect("valid");
        let data = message(&[0, 0, 80, 255, 0, 1, 7]);
        assert_eq!(variable.read(&data, 20, &mut values), Some(7));
        assert_eq!((values.get(Field::DestinationPort), values.get(Field::Bytes)), (Some(80), None));
        assert_eq!(variable.read(&message(&[5, 0, 80]), 20, &mut values), None, "cut");
    }

    #[test]
    fn numbers_of_every_length_are_read_alike_and_the_first_of_two_counts() {
        for length in 1..=12u16 {
            let template = Template::compile(&[(0, 1, length), (0, 1, length)], false).expect("valid");
            let record: Vec<u8> = (1..=2 * length).map(|n| u8::try_from(n).expect("small")).collect();
            let want = record[..usize::from(length)].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
            let data = message(&record);
            let mut values = Values::new();
            assert_eq!(template.read(&data, 20, &mut values), Some(usize::from(2 * length)));
            assert_eq!(values.get(Field::Bytes), Some(want), "{length} octets");
        }
    }

    #[test]
    fn templates_without_length_are_refused() {
        assert_eq!(Template::compile(&[(0, 1, 0); 60], false), None);
        assert_eq!(Template::compile(&[], false), None);
        assert_eq!(Template::compile(&[(0, 1, 65_000), (0, 2, 65_000)], false), None);
    }
}
