//! A small seeded generator: the same seed gives the same run.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// Splitmix64. Not for secrets.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
    given: VecDeque<u8>,
}

impl Chance {
    /// A generator; different seeds give unrelated sequences.
    pub fn new(seed: u64) -> Self {
        Self { state: seed, given: VecDeque::new() }
    }

    /// A generator whose first numbers somebody else chooses, two octets for each: a fuzzer that turns one octet turns
    /// one decision.
    pub fn given(octets: &[u8], seed: u64) -> Self {
        Self { state: seed, given: octets.iter().copied().collect() }
    }

    /// A generator of its own for one part of a whole, so that the parts do not disturb each other's sequence.
    pub fn fork(&mut self) -> Self {
        Self::new(self.bits())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        if let Some(low) = self.given.pop_front() {
            return u64::from(u16::from_le_bytes([low, self.given.pop_front().unwrap_or(0)]));
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `range`, which must not be empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.bits() % (range.end - range.start)
    }

    /// True in `share` of 1,000 cases.
    pub fn per_mille(&mut self, share: u64) -> bool {
        self.within(0..1000) < share
    }

    /// A duration of so many milliseconds.
    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.within(0..choices.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let run = |seed| {
            let mut chance = Chance::new(seed);
            (0..8).map(|_| chance.bits()).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let mut chance = Chance::given(&[1, 2, 3], 7);
        assert_eq!([chance.bits(), chance.bits()], [0x201, 3]);
        assert_eq!((0..8).map(|_| chance.bits()).collect::<Vec<_>>(), run(7));
    }
}
