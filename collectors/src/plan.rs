//! [`Template`]: a template compiled to the plan by which its records are read.
//!
//! Where every field has a fixed length (nearly all templates of routers) the plan is where each field lies, and reading a record
//! is to check its length once. Records with fields of variable length are walked, which gives the same: where each field lies.

use crate::elements::{Field, Places, REACH, Record, Set, field};
use crate::plain::Plain;

/// Fields per template at most.
pub(crate) const MAX_FIELDS: usize = 512;
/// Declared length of a variable-length field (RFC 7011 section 7).
const VARIABLE: u16 = 0xffff;

/// A field as a template declares it: enterprise (0: IANA), element, length.
pub(crate) type Declared = (u32, u16, u16);

/// A template as a plan to read its records.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) is_options: bool,
    /// Shortest record; the only length if `steps` is empty.
    record_length: usize,
    /// Where the fields of every record lie.
    places: Places,
    plain: Option<Plain>,
    /// Records with fields of variable length: every field, to be read one after the other.
    steps: Box<[(Option<Field>, u16)]>,
    /// As declared, for the state on disk.
    declared: Box<[Declared]>,
}

impl Template {
    /// From (enterprise, element, declared length) in order; `None` if a record would have no length or too much.
    pub(crate) fn compile(fields: &[Declared], is_options: bool) -> Option<Self> {
        let is_fixed = fields.iter().all(|f| f.2 != VARIABLE);
        let (mut places, mut steps) = (Places::NONE, Vec::new());
        let mut offset = 0usize;
        for &(enterprise, id, length) in fields {
            let field = field(enterprise, id);
            // The length of a variable-length value takes an octet at least.
            offset += if length == VARIABLE { 1 } else { usize::from(length) };
            let end = u16::try_from(offset).ok()?;
            if !is_fixed {
                steps.push((field, length));
            } else if let Some(field) = field
                && length > 0
            {
                places.add(field, end, length);
            }
        }
        if offset == 0 {
            return None;
        }
        Some(Self {
            is_options,
            record_length: offset,
            plain: Plain::of(&places),
            places,
            steps: steps.into(),
            declared: fields.into(),
        })
    }

    /// Shortest possible record in bytes, at least 1.
    pub(crate) const fn record_length(&self) -> usize {
        self.record_length
    }

    /// The quick way to read its records, if they are plain.
    pub(crate) const fn plain(&self) -> Option<&Plain> {
        self.plain.as_ref()
    }

    /// Fields as declared.
    pub(crate) const fn declared(&self) -> &[Declared] {
        &self.declared
    }

    /// What it costs to keep, in fields.
    pub(crate) const fn weight(&self) -> usize {
        size_of::<Self>() / 32 + self.declared.len()
    }

    /// The fields that its records can have, as a set of [`Field::bit`].
    pub(crate) fn fields(&self) -> Set {
        self.steps.iter().filter_map(|(field, _)| *field).fold(self.places.present(), |all, field| all | field.bit())
    }

    /// Reads the record at `at` of a message, which begins [`REACH`] octets before its first record at least; returns its length,
    /// or `None` if `message` ends before it does. `walked` is room for where its fields lie.
    #[inline]
    pub(crate) fn read<'a>(
        &'a self,
        message: &'a [u8],
        at: usize,
        walked: &'a mut Places,
    ) -> Option<(usize, Record<'a>)> {
        let (places, length) = if self.steps.is_empty() {
            (&self.places, self.record_length)
        } else {
            let length = self.walk(message.get(at..)?, walked)?;
            (&*walked, length)
        };
        let octets = message.get(at.checked_sub(REACH)?..at + length)?;
        Some((length, Record::new(places, octets)))
    }

    /// Finds the fields of a record at the beginning of `data`; returns its length.
    fn walk(&self, data: &[u8], places: &mut Places) -> Option<usize> {
        places.clear();
        let mut at = 0;
        for (field, declared) in &self.steps {
            let mut length = *declared;
            if length == VARIABLE {
                // RFC 7011 section 7: one byte, or 255 and two bytes. Empty values are legal.
                length = u16::from(*data.get(at)?);
                at += 1;
                if length == 255 {
                    length = u16::from_be_bytes(*data.get(at..)?.first_chunk()?);
                    at += 2;
                }
            }
            at += usize::from(length);
            if let Some(field) = field {
                places.add(*field, u16::try_from(at).ok()?, length);
            }
        }
        (at <= data.len()).then_some(at)
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
        let mut walked = Places::NONE;
        let data = message(&[0, 53, 1, 2, 3, 4, 1, 0, 0, 99]);
        let (length, record) = fixed.read(&data, 20, &mut walked).expect("whole");
        assert_eq!((length, record.get(Field::SourcePort), record.get(Field::Bytes)), (9, Some(53), Some(65_536)));
        assert_eq!(record.get(Field::Packets), None);
        assert!(fixed.read(&data, 22, &mut walked).is_none(), "cut");
        let variable = Template::compile(&[(0, 82, VARIABLE), (0, 11, 2), (0, 83, VARIABLE)], false).expect("valid");
        let data = message(&[0, 0, 80, 255, 0, 1, 7]);
        let (length, record) = variable.read(&data, 20, &mut walked).expect("whole");
        assert_eq!((length, record.get(Field::DestinationPort), record.get(Field::Bytes)), (7, Some(80), None));
        assert!(variable.read(&message(&[5, 0, 80]), 20, &mut walked).is_none(), "cut");
    }

    #[test]
    fn numbers_of_every_length_are_read_alike_and_the_first_of_two_counts() {
        for length in 1..=12u16 {
            let template = Template::compile(&[(0, 1, length), (0, 1, length)], false).expect("valid");
            let record: Vec<u8> = (1..=2 * length).map(|n| u8::try_from(n).expect("small")).collect();
            let want = record[..usize::from(length)].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
            let data = message(&record);
            let mut walked = Places::NONE;
            let (used, record) = template.read(&data, 20, &mut walked).expect("whole");
            assert_eq!((used, record.get(Field::Bytes)), (usize::from(2 * length), Some(want)), "{length} octets");
        }
    }

    #[test]
    fn templates_without_length_are_refused() {
        assert_eq!(Template::compile(&[(0, 1, 0); 60], false), None);
        assert_eq!(Template::compile(&[], false), None);
        assert_eq!(Template::compile(&[(0, 1, 65_000), (0, 2, 65_000)], false), None);
    }
}
