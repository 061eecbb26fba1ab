//! [`RowSet`]: some of the rows that a search looks at, one bit each.

use super::{MAX_OPENINGS, MAX_SIDE};

/// Words that the rows of the largest search take: ordinary rows, openings and attack rows, each from a word of their own on.
const WORDS: usize = (2 * MAX_SIDE + MAX_OPENINGS) / 64;

/// A set of rows. Sets that meet are of the same search, and so have equally many words.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowSet {
    words: [u64; WORDS],
    used: u8,
}

impl RowSet {
    /// No row of those that take so many words.
    #[allow(clippy::cast_possible_truncation, reason = "at most WORDS")]
    pub(super) const fn none(used: usize) -> Self {
        debug_assert!(used <= WORDS, "a search has no more rows than this");
        Self { words: [0; WORDS], used: used as u8 }
    }

    pub(super) const fn insert(&mut self, row: usize) {
        self.words[row / 64] |= 1 << (row % 64);
    }

    pub(super) const fn contains(&self, row: usize) -> bool {
        self.words[row / 64] >> (row % 64) & 1 == 1
    }

    /// The words in use.
    pub(super) fn words(&self) -> &[u64] {
        &self.words[..usize::from(self.used)]
    }

    /// Inserts the first `count` rows of those that begin with a word.
    pub(super) fn fill(&mut self, word: usize, count: usize) {
        for row in 0..count {
            self.insert(64 * word + row);
        }
    }

    fn combined(&self, other: &Self, of: impl Fn(u64, u64) -> u64) -> Self {
        debug_assert_eq!(self.used, other.used, "sets of the same search");
        let mut all = Self::none(self.used.into());
        let used = usize::from(self.used);
        for ((into, a), b) in all.words[..used].iter_mut().zip(&self.words).zip(&other.words) {
            *into = of(*a, *b);
        }
        all
    }

    pub(super) fn and(&self, other: &Self) -> Self {
        self.combined(other, |a, b| a & b)
    }

    pub(super) fn and_not(&self, other: &Self) -> Self {
        self.combined(other, |a, b| a & !b)
    }

    pub(super) fn or(&self, other: &Self) -> Self {
        self.combined(other, |a, b| a | b)
    }

    pub(super) fn count(&self) -> u32 {
        count(self.words())
    }

    /// A number that equal sets share and others hardly ever do.
    pub(super) fn digest(&self) -> u64 {
        let mix = |digest: u64, word: &u64| (digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        self.words().iter().fold(0, mix)
    }
}

impl PartialEq for RowSet {
    fn eq(&self, other: &Self) -> bool {
        self.words() == other.words()
    }
}

/// Bits that are set.
pub(super) fn count(words: &[u64]) -> u32 {
    words.iter().map(|w| w.count_ones()).sum()
}

/// Calls for every bit that is set, with its place after the first word's first.
pub(super) fn for_each(words: &[u64], mut of: impl FnMut(usize)) {
    for (word, bits) in words.iter().enumerate() {
        let mut bits = *bits;
        while bits != 0 {
            of(word * 64 + bits.trailing_zeros() as usize);
            bits &= bits - 1;
        }
    }
}
