//! [`Profiles`]: what sets of rows hold of each field, counted once. Exchange rates differ in what ordinary traffic weighs, not in where
//! it is, and their searches meet the same sets again and again.

use super::columns::{Columns, Kinds, Mass};
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

impl Group {
    pub(super) const fn add(&mut self, weight: f64) {
        self.plus += weight.max(0.0);
        self.sum += weight;
    }
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
    pub(super) const fn add(&mut self, is_attack: bool, weight: f64) {
        if is_attack {
            self.attack += weight;
            self.attack_rows += 1;
        } else {
            self.ordinary += weight;
            self.ordinary_rows += 1;
        }
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
    sums: Vec<Mass>,
}

impl Profiles {
    /// The bins of a numeric field that rows of the set are in, ascending, and what they hold in all.
    pub(super) fn bins(&mut self, columns: &Columns<'_>, rows: &RowSet, field: Field) -> (&[Bin], Totals) {
        let at = self.find(rows);
        let column = field.column();
        let counted = match self.profiles[at].fields[column] {
            Some(counted) => counted,
            None => self.count_bins(columns, rows, column),
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
        }
        self.digests.push(digest);
        self.profiles.push(Profile { rows: *rows, fields: [None; FIELDS] });
        self.digests.len() - 1
    }

    fn count_bins(&mut self, columns: &Columns<'_>, rows: &RowSet, column: usize) -> Counted {
        let (from, bins) = (self.bins.len(), &columns.bins[column]);
        self.sums.clear();
        self.sums.resize(bins.len(), Mass::default());
        columns.add_by(rows, &columns.bin[column], &mut self.sums);
        let mut totals = Totals::default();
        // The first is that of rows without a value.
        for (&(low, high), mass) in bins.iter().zip(&self.sums).skip(1) {
            if mass.attack == 0.0 && mass.ordinary == 0.0 {
                continue;
            }
            totals.attack += mass.attack;
            totals.ordinary += mass.ordinary;
            // No range begins, ends or is cut where there is no attack: such bins may as well be one, and outermost none.
            match self.bins[from..].last_mut() {
                Some(last) if mass.attack == 0.0 && last.mass.attack == 0.0 => {
                    last.high = high;
                    last.mass.ordinary += mass.ordinary;
                }
                None if mass.attack == 0.0 => {}
                _ => self.bins.push(Bin { low, high, mass: *mass }),
            }
        }
        (totals.attack_rows, totals.ordinary_rows) = columns.having(rows, column);
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
