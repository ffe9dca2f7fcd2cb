//! What is known of transactions of another node that no record tells of.

use std::collections::{HashSet, VecDeque};

use crate::base::Time;

/// Marks of one shard; beyond that the oldest is forgotten.
const MARKS: usize = 4_096;

/// Transactions of re-INVITEs, and of INVITEs that were refused, at the node beside this one, remembered for 64·T1.
#[derive(Debug, Default)]
pub(super) struct Marks {
    set: HashSet<u64>,
    queue: VecDeque<(Time, u64)>,
}

impl Marks {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Whether this one is among them.
    pub(super) fn has(&self, mark: u64) -> bool {
        self.set.contains(&mark)
    }

    /// Remembers one until then.
    pub(super) fn add(&mut self, until: Time, mark: u64) {
        if self.queue.len() >= MARKS {
            self.pop();
        }
        self.set.insert(mark);
        self.queue.push_back((until, mark));
    }

    fn pop(&mut self) {
        if let Some((_, mark)) = self.queue.pop_front()
            && !self.queue.iter().any(|(_, other)| *other == mark)
        {
            self.set.remove(&mark);
        }
    }

    /// Forgets those whose time has come.
    pub(super) fn forget(&mut self, now: Time) {
        while self.queue.front().is_some_and(|(until, _)| *until <= now) {
            self.pop();
        }
    }
}
