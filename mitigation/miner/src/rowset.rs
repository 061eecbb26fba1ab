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

    /// 1 if a row is in the set, else 0.
    #[allow(clippy::cast_possible_truncation, reason = "one bit")]
    pub(super) const fn bit(&self, row: u16) -> u32 {
        (self.words[row as usize / 64] >> (row % 64)) as u32 & 1
    }

    /// The same rows among those that take more words.
    #[allow(clippy::cast_possible_truncation, reason = "at most WORDS")]
    pub(super) const fn among(self, used: usize) -> Self {
        debug_assert!(used <= WORDS && self.used as usize <= used, "rows are only added");
        Self { used: used as u8, ..self }
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

/// Bits that are set. In parallel within words, since not every processor that the program is built for counts bits itself.
pub(super) fn count(words: &[u64]) -> u32 {
    const PAIRS: u64 = 0x5555_5555_5555_5555;
    const FOURS: u64 = 0x3333_3333_3333_3333;
    const BYTES: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    const LANES: u64 = 0x00ff_00ff_00ff_00ff;
    let fours = |word: &u64| {
        let pairs = word.wrapping_sub(word >> 1 & PAIRS);
        (pairs & FOURS).wrapping_add(pairs >> 2 & FOURS)
    };
    let mut all = 0;
    // Three times 4 fit four bits, ten times 24 a byte, and 8 times 240 sixteen bits.
    for part in words.chunks(30) {
        let mut bytes = 0u64;
        for three in part.chunks(3) {
            let sum = three.iter().map(fours).fold(0, u64::wrapping_add);
            bytes = bytes.wrapping_add((sum & BYTES).wrapping_add(sum >> 4 & BYTES));
        }
        let lanes = (bytes & LANES).wrapping_add(bytes >> 8 & LANES);
        all += lanes.wrapping_mul(0x0001_0001_0001_0001) >> 48;
    }
    u32::try_from(all).unwrap_or(u32::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_whatever_the_words() {
        for words in [&[u64::MAX; 40][..], &[0; 3], &[0x8000_0000_0000_0001; 31], &[0x0123_4567_89ab_cdef; 7], &[]] {
            assert_eq!(count(words), words.iter().map(|w| w.count_ones()).sum::<u32>());
        }
    }
}
