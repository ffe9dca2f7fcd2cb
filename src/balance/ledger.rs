//! The ledger: who holds which port. A count is the size of a set, so it cannot be negative and each count expands to
//! its legs.

use slab::Slab;

use crate::base::LegId;

/// All grants, by account; an account is a resource.
#[derive(Debug, Default)]
pub struct Ledger {
    grants: Slab<Held>,
    /// The slots of each account's grants.
    accounts: Vec<Vec<u32>>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    leg: LegId,
    account: u32,
    /// Position in the account's set.
    position: u32,
}

impl Ledger {
    /// Makes `account` known, with room for `ports` grants. An account that is known stays as it is.
    pub fn open(&mut self, account: u32, ports: usize) {
        let needed = account as usize + 1;
        if self.accounts.len() < needed {
            self.accounts.resize_with(needed, Vec::new);
        }
        let set = &mut self.accounts[account as usize];
        set.reserve(ports.saturating_sub(set.len()));
    }

    /// Grants of one account.
    pub fn count(&self, account: u32) -> u32 {
        self.accounts[account as usize].len() as u32
    }

    /// Adds a grant and returns its slot.
    pub fn take(&mut self, account: u32, leg: LegId) -> u32 {
        let set = &mut self.accounts[account as usize];
        let slot = self.grants.insert(Held { leg, account, position: set.len() as u32 }) as u32;
        set.push(slot);
        slot
    }

    /// Removes a grant and returns its account.
    ///
    /// # Panics
    /// If there is no such grant: a port would have been given back twice.
    pub fn give_back(&mut self, slot: u32) -> u32 {
        let held = self.grants.remove(slot as usize);
        let set = &mut self.accounts[held.account as usize];
        set.swap_remove(held.position as usize);
        if let Some(moved) = set.get(held.position as usize) {
            self.grants[*moved as usize].position = held.position;
        }
        held.account
    }

    /// All grants.
    pub fn len(&self) -> usize {
        self.grants.len()
    }

    /// The legs behind an account's count.
    pub fn legs(&self, account: u32) -> impl Iterator<Item = LegId> {
        self.accounts[account as usize].iter().map(|slot| self.grants[*slot as usize].leg)
    }

    /// Whether sets and grants say the same.
    pub fn check(&self) -> Result<(), String> {
        for (slot, held) in &self.grants {
            let set = self.accounts.get(held.account as usize);
            if set.and_then(|s| s.get(held.position as usize)) != Some(&(slot as u32)) {
                return Err(format!("grant {slot} of {:?} is not in the set of its account", held.leg));
            }
        }
        let counted: usize = self.accounts.iter().map(Vec::len).sum();
        if counted != self.grants.len() {
            return Err(format!("accounts count {counted} grants, there are {}", self.grants.len()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_the_size_of_its_set_of_legs() {
        let mut ledger = Ledger::default();
        ledger.open(0, 4);
        ledger.open(1, 0);
        let slots: Vec<u32> = (0..5).map(|n| ledger.take(u32::from(n == 3), LegId(n))).collect();
        assert_eq!((ledger.count(0), ledger.count(1), ledger.len()), (4, 1, 5));
        assert_eq!(ledger.give_back(slots[0]), 0);
        assert_eq!(ledger.give_back(slots[3]), 1);
        let mut legs: Vec<LegId> = ledger.legs(0).collect();
        legs.sort();
        assert_eq!(legs, [LegId(1), LegId(2), LegId(4)]);
        assert_eq!(ledger.legs(1).count(), 0);
        ledger.check().unwrap();
    }

    #[test]
    #[should_panic(expected = "invalid key")]
    fn a_port_cannot_be_given_back_twice() {
        let mut ledger = Ledger::default();
        ledger.open(0, 0);
        let slot = ledger.take(0, LegId(1));
        ledger.give_back(slot);
        ledger.give_back(slot);
    }
}
