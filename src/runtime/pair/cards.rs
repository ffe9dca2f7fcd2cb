//! The hardware addresses of the members' hosts: an answer for a virtual address that bears none of them is a stranger's.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use crate::runtime::sys;
use crate::runtime::vip::Mac;

/// Hardware addresses of one host. A host with more tells of none, and a peer that has told of more is not known.
const CARDS: usize = 256;

/// What the peer has told of its host, and what the last question brought.
#[derive(Debug, Default)]
pub(super) struct Cards {
    /// Once a member's, always a member's: nothing is forgotten while this process lives.
    known: BTreeSet<Mac>,
    /// A stranger answered the question that is open.
    stranger: bool,
    /// Who was last named.
    named: Option<Mac>,
}

impl Cards {
    /// Those of this host; none if they are too many or cannot be had.
    pub fn own(&self) -> Vec<Mac> {
        let all: Vec<Mac> = sys::link_addresses().unwrap_or_default().into_iter().map(Mac).collect();
        if all.len() > CARDS { Vec::new() } else { all }
    }

    /// The peer's host has this one.
    pub fn learn(&mut self, mac: Mac) {
        if self.known.len() <= CARDS {
            self.known.insert(mac);
        }
    }

    /// Whether an answer with this address surely is none of a member. Without knowledge of the peer nobody is a stranger.
    pub fn is_strange(&self, mac: Mac) -> bool {
        (1..=CARDS).contains(&self.known.len()) && !self.known.contains(&mac)
    }

    /// Somebody answered: whether it may be a member. `Err`: a stranger; whether it was not named yet.
    pub fn answered(&mut self, mac: Mac) -> Result<(), bool> {
        if !self.is_strange(mac) {
            return Ok(());
        }
        self.stranger = true;
        Err(self.named.replace(mac) != Some(mac))
    }

    /// Nobody answers that question any more: whether a stranger did.
    pub fn strange(&mut self) -> bool {
        std::mem::take(&mut self.stranger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u16) -> Mac {
        let [a, b] = n.to_be_bytes();
        Mac([2, 0, 0, 0, a, b])
    }

    #[test]
    fn nobody_is_a_stranger_to_who_knows_no_member_or_not_all() {
        let mut cards = Cards::default();
        assert_eq!(cards.answered(mac(9)), Ok(()));
        assert!(!cards.strange());
        (0..=300).for_each(|n| cards.learn(mac(n)));
        assert_eq!(cards.answered(mac(299)), Ok(()));
        assert!(!cards.strange());
    }

    #[test]
    fn a_stranger_is_named_once_and_counts_for_one_question() {
        let mut cards = Cards::default();
        cards.learn(mac(1));
        cards.learn(mac(2));
        assert_eq!((cards.answered(mac(1)), cards.answered(mac(2))), (Ok(()), Ok(())));
        assert!(!cards.strange());
        assert_eq!((cards.answered(mac(9)), cards.answered(mac(9))), (Err(true), Err(false)));
        assert!(cards.strange() && !cards.strange());
        assert_eq!(cards.answered(mac(8)), Err(true));
    }
}
