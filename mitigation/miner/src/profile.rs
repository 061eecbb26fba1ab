//! [`Profiles`]: what sets of rows hold of each field, counted once. Exchange rates differ in what ordinary traffic weighs, not in where
//! it is, and their searches meet the same sets again and again.

use super::columns::{Columns, Held, Kinds, Marks, Mass};
use super::rowset::RowSet;
use super::test::{Field, NUMERIC};

/// Sets that are kept at most; beyond that all are forgotten.
const MOST: usize = 128;
/// Fields: the numeric ones, TCP flags and fragment bits.
const FIELDS: usize = NUMERIC.len() + 2;

/// Rows with neighbouring values of a field.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Group {
    pub(super) low: u32,
    pub(super) high: u32,
    /// Sum of the weights above zero, and of all.
    pub(super) plus: f64,
    pub(super) sum: f64,
}

/// Weights and rows of both sides that have a field.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) attack: f64,
    pub(super) attack_rows: u32,
    pub(super) ordinary: f64,
    pub(super) ordinary_rows: u32,
}

impl Totals {
    const fn add(&mut self, held: &Held) {
        self.attack += held.mass.attack;
        self.attack_rows += held.attack_rows;
        self.ordinary += held.mass.ordinary;
        self.ordinary_rows += held.ordinary_rows;
    }
}

/// A bin that holds rows, and what they weigh.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bin {
    pub(super) low: u32,
    pub(super) high: u32,
    pub(super) mass: Mass,
}

/// Where the bins or kinds of a field lie among all that are kept.
#[derive(Debug, Clone, Copy)]
struct Counted {
    from: usize,
    to: usize,
    totals: Totals,
}

#[derive(Debug)]
struct Profile {
    rows: RowSet,
    fields: [Option<Counted>; FIELDS],
}

/// Sets of rows with what has been counted of them.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    digests: Vec<u64>,
    profiles: Vec<Profile>,
    bins: Vec<Bin>,
    kinds: Vec<(u16, Mass)>,
    marks: Marks,
    /// The set that is marked.
    marked: Option<usize>,
}

impl Profiles {
    /// The bins of a numeric field that rows of the set are in, ascending, and what they hold in all.
    pub(super) fn bins(&mut self, columns: &Columns<'_>, rows: &RowSet, field: Field) -> (&[Bin], Totals) {
        let at = self.find(rows);
        let column = field.column();
        let counted = match self.profiles[at].fields[column] {
            Some(counted) => counted,
            None => self.count_bins(columns, at, column),
        };
        self.profiles[at].fields[column] = Some(counted);
        (&self.bins[counted.from..counted.to], counted.totals)
    }

    /// The values of a field of bits that rows of the set have, and what they weigh.
    pub(super) fn kinds(&mut self, columns: &Columns<'_>, rows: &RowSet, field: Field) -> &[(u16, Mass)] {
        let (place, kinds) = if field == Field::TcpFlags {
            (NUMERIC.len(), &columns.flags)
        } else {
            (NUMERIC.len() + 1, &columns.fragments)
        };
        let at = self.find(rows);
        let counted = match self.profiles[at].fields[place] {
            Some(counted) => counted,
            None => self.count_kinds(columns, rows, kinds),
        };
        self.profiles[at].fields[place] = Some(counted);
        &self.kinds[counted.from..counted.to]
    }

    /// The place of a set.
    fn find(&mut self, rows: &RowSet) -> usize {
        let digest = rows.digest();
        let found = self.digests.iter().rposition(|d| *d == digest).filter(|at| self.profiles[*at].rows == *rows);
        if let Some(at) = found {
            return at;
        }
        if self.digests.len() >= MOST {
            self.digests.clear();
            self.profiles.clear();
            self.bins.clear();
            self.kinds.clear();
            self.marked = None;
        }
        self.digests.push(digest);
        self.profiles.push(Profile { rows: *rows, fields: [None; FIELDS] });
        self.digests.len() - 1
    }

    /// The values of a numeric field that attack rows of the set have and, as one group each, what is between; and what all hold.
    pub(super) fn each_value(
        &mut self,
        columns: &Columns<'_>,
        rows: &RowSet,
        field: Field,
        mut of: impl FnMut(&Held),
    ) -> Totals {
        self.marked = None;
        columns.mark(rows, &mut self.marks);
        let mut totals = Totals::default();
        columns.each_value_of(rows, &self.marks, field.column(), |held| {
            totals.add(&held);
            // Outermost there is no range.
            if totals.attack_rows > 0 && held.attack_rows + held.ordinary_rows > 0 {
                of(&held);
            }
        });
        totals
    }

    fn count_bins(&mut self, columns: &Columns<'_>, at: usize, column: usize) -> Counted {
        let from = self.bins.len();
        let rows = &self.profiles[at].rows;
        if self.marked != Some(at) {
            columns.mark(rows, &mut self.marks);
            self.marked = Some(at);
        }
        let mut totals = Totals::default();
        columns.each_bin(rows, &self.marks, column, |held| {
            let Held { low, high, mass, attack_rows, ordinary_rows } = held;
            if attack_rows + ordinary_rows == 0 {
                return;
            }
            totals.add(&held);
            // No range begins, ends or is cut where there is no attack: such bins may as well be one, and outermost none.
            match self.bins[from..].last_mut() {
                Some(last) if attack_rows == 0 && last.mass.attack == 0.0 => {
                    last.high = high;
                    last.mass.ordinary += mass.ordinary;
                }
                None if attack_rows == 0 => {}
                _ => self.bins.push(Bin { low, high, mass }),
            }
        });
        Counted { from, to: self.bins.len(), totals }
    }

    fn count_kinds(&mut self, columns: &Columns<'_>, rows: &RowSet, kinds: &Kinds) -> Counted {
        let from = self.kinds.len();
        for (value, of_kind) in &kinds.0 {
            let mass = columns.mass(&rows.and(of_kind));
            if mass.attack != 0.0 || mass.ordinary != 0.0 {
                self.kinds.push((*value, mass));
            }
        }
        Counted { from, to: self.kinds.len(), totals: Totals::default() }
    }
}
