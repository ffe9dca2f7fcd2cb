//! The ledger: who holds which port. A count is the size of a set, so it cannot be negative and each count expands to
//! its legs.

use slab::Slab;

use crate::base::LegId;

/// All grants, by account; an account is a resource.
#[derive(Debug, Default)]
pub struct Ledger {
    grants: Slab<Held>,
    accounts: Vec<Account>,
}

/// How many grants an account has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The size of the set.
    pub all: u32,
    /// How many of them are of calls that this node owns.
    pub own: u32,
}

#[derive(Debug, Default)]
struct Account {
    /// The slots of its grants.
    set: Vec<u32>,
    own: u32,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    leg: LegId,
    account: u32,
    /// Whether the call is this node's own; if not, its peer said so.
    own: bool,
    /// Position in the account's set.
    position: u32,
}

impl Ledger {
    /// Makes `account` known, with room for `ports` grants. An account that is known stays as it is.
    pub fn open(&mut self, account: u32, ports: usize) {
        let needed = account as usize + 1;
        if self.accounts.len() < needed {
            self.accounts.resize_with(needed, Account::default);
        }
        let set = &mut self.accounts[account as usize].set;
        set.reserve(ports.saturating_sub(set.len()));
    }

    /// Grants of one account.
    pub fn count(&self, account: u32) -> Count {
        let Account { set, own } = &self.accounts[account as usize];
        Count { all: set.len() as u32, own: *own }
    }

    /// Adds a grant and returns its slot.
    pub fn take(&mut self, account: u32, leg: LegId, own: bool) -> u32 {
        let Account { set, own: owned } = &mut self.accounts[account as usize];
        let slot = self.grants.insert(Held { leg, account, own, position: set.len() as u32 }) as u32;
        set.push(slot);
        *owned += u32::from(own);
        slot
    }

    /// Removes a grant and returns its account, and whether it was this node's own.
    ///
    /// # Panics
    /// If there is no such grant: a port would have been given back twice.
    pub fn give_back(&mut self, slot: u32) -> (u32, bool) {
        let held = self.grants.remove(slot as usize);
        let Account { set, own } = &mut self.accounts[held.account as usize];
        *own -= u32::from(held.own);
        set.swap_remove(held.position as usize);
        if let Some(moved) = set.get(held.position as usize) {
            self.grants[*moved as usize].position = held.position;
        }
        (held.account, held.own)
    }

    /// Says whose call a grant is from now on.
    ///
    /// # Panics
    /// If there is no such grant.
    pub fn set_own(&mut self, slot: u32, own: bool) {
        let held = &mut self.grants[slot as usize];
        let account = &mut self.accounts[held.account as usize];
        account.own = account.own - u32::from(held.own) + u32::from(own);
        held.own = own;
    }

    /// All grants.
    pub fn len(&self) -> usize {
        self.grants.len()
    }

    /// The legs behind an account's count.
    pub fn legs(&self, account: u32) -> impl Iterator<Item = LegId> {
        self.accounts[account as usize].set.iter().map(|slot| self.grants[*slot as usize].leg)
    }

    /// Whether sets and grants say the same.
    pub fn check(&self) -> Result<(), String> {
        for (slot, held) in &self.grants {
            let set = self.accounts.get(held.account as usize);
            if set.and_then(|s| s.set.get(held.position as usize)) != Some(&(slot as u32)) {
                return Err(format!("grant {slot} of {:?} is not in the set of its account", held.leg));
            }
        }
        let counted: usize = self.accounts.iter().map(|a| a.set.len()).sum();
        if counted != self.grants.len() {
            return Err(format!("accounts count {counted} grants, there are {}", self.grants.len()));
        }
        for (number, Account { set, own }) in self.accounts.iter().enumerate() {
            let owned = set.iter().filter(|slot| self.grants[**slot as usize].own).count();
            if owned != *own as usize {
                return Err(format!("account {number} counts {own} grants of its own, there are {owned}"));
            }
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
        let slots: Vec<u32> = (0..5).map(|n| ledger.take(u32::from(n == 3), LegId(n), n != 1)).collect();
        let count = |ledger: &Ledger, account| (ledger.count(account).all, ledger.count(account).own);
        assert_eq!((count(&ledger, 0), count(&ledger, 1), ledger.len()), ((4, 3), (1, 1), 5));
        assert_eq!(ledger.give_back(slots[0]), (0, true));
        assert_eq!(ledger.give_back(slots[3]), (1, true));
        assert_eq!((count(&ledger, 0), count(&ledger, 1)), ((3, 2), (0, 0)));
        let mut legs: Vec<LegId> = ledger.legs(0).collect();
        legs.sort();
        assert_eq!(legs, [LegId(1), LegId(2), LegId(4)]);
        assert_eq!(ledger.legs(1).count(), 0);
        ledger.check().unwrap();
    }

    #[test]
    fn a_grant_changes_hands_and_is_counted_once() {
        let mut ledger = Ledger::default();
        ledger.open(0, 0);
        let slots: Vec<u32> = (0..3).map(|n| ledger.take(0, LegId(n), n == 0)).collect();
        for own in [true, true, false, false, true] {
            ledger.set_own(slots[1], own);
            assert_eq!(ledger.count(0), Count { all: 3, own: 1 + u32::from(own) });
            ledger.check().unwrap();
        }
        assert_eq!(ledger.give_back(slots[2]), (0, false));
        assert_eq!(ledger.give_back(slots[1]), (0, true));
        assert_eq!(ledger.count(0), Count { all: 1, own: 1 });
        ledger.check().unwrap();
    }

    #[test]
    #[should_panic(expected = "invalid key")]
    fn a_port_cannot_be_given_back_twice() {
        let mut ledger = Ledger::default();
        ledger.open(0, 0);
        let slot = ledger.take(0, LegId(1), true);
        ledger.give_back(slot);
        ledger.give_back(slot);
    }
}
