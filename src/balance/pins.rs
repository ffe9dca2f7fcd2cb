//! The pins of a node: which keys bind calls to which members, for as long as calls with them live. What a fresh key is
//! pinned to is a function of the key and the members, which every node computes alike; the table holds what was decided,
//! here or elsewhere.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashTable;

use crate::base::{NodeId, Pin, PinKey, ResourceId, Time, limits, table_hash};

/// `pin-by`: what calls show that must be on one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinBy {
    /// The value of the first header field of this name.
    Header(Box<str>),
    /// The value of this parameter of the Request-URI.
    UriParameter(Box<str>),
}

/// Counters of pins since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PinStats {
    /// INVITEs with a key that were refused: the member of that key takes no call, or it is not this node's to say which.
    pub refused: u64,
    /// Keys that moved to another member because theirs was down, as this node placed a call with them.
    pub moved: u64,
}

/// All pins that calls hold, and those whose last call ended a short while ago.
#[derive(Debug)]
pub(super) struct Pins {
    /// By key, which is a hash already.
    table: HashTable<Entry>,
    /// When entries may be forgotten; each stands here once at most.
    forget: VecDeque<(Time, PinKey)>,
    /// Entries that a call holds.
    live: usize,
    /// Ports that calls with a key hold.
    holders: usize,
    /// How long a key is remembered after its last call.
    pub linger: Duration,
    limit: usize,
    pub stats: PinStats,
}

/// What is decided of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub resource: ResourceId,
    pub generation: u32,
    /// Whether a call with it lives.
    pub live: bool,
}

/// What the other node has said that decisions depend on.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Whether it was said over the link that stands.
    pub linked: bool,
    /// It places calls itself.
    pub places: bool,
    /// What is down for it, sorted; `None`: it has never said.
    pub down: Option<Vec<ResourceId>>,
}

#[derive(Debug)]
struct Entry {
    key: PinKey,
    resource: ResourceId,
    generation: u32,
    /// Ports that calls with this key hold, wherever.
    holders: u32,
    /// Without holders: until when it is remembered.
    until: Time,
    /// Whether it stands in the queue of what is to be forgotten.
    queued: bool,
}

impl Default for Pins {
    fn default() -> Self {
        Self::with_limit(limits::PINS)
    }
}

impl Pins {
    /// Room for `limit` keys.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            table: HashTable::new(),
            forget: VecDeque::new(),
            live: 0,
            holders: 0,
            linger: Duration::ZERO,
            limit,
            stats: PinStats::default(),
        }
    }

    /// What is decided of a key at `now`.
    pub fn find(&self, now: Time, key: PinKey) -> Option<Place> {
        let entry = self.table.find(key.0, |e| e.key == key).filter(|e| e.holders > 0 || now < e.until)?;
        Some(Place { resource: entry.resource, generation: entry.generation, live: entry.holders > 0 })
    }

    /// A call on `resource` holds a port under `pin`, whoever decided that. Of two decisions the later one stands; of two
    /// that bear one number, made of different members by different configurations, the one that the key prefers. What
    /// nobody holds any more binds nobody. `false`: there is no room, and the call is bound by nothing.
    pub fn join(&mut self, now: Time, pin: Pin, resource: ResourceId) -> bool {
        self.sweep(now);
        if let Some(entry) = self.table.find_mut(pin.key.0, |e| e.key == pin.key) {
            let (old, new) =
                ((entry.generation, rank(pin.key, entry.resource)), (pin.generation, rank(pin.key, resource)));
            if entry.holders == 0 || new > old {
                (entry.resource, entry.generation) = (resource, pin.generation);
            }
            self.live += usize::from(entry.holders == 0);
            entry.holders += 1;
            self.holders += 1;
            return true;
        }
        if !self.make_room() {
            return false;
        }
        let Pin { key, generation } = pin;
        let entry = Entry { key, resource, generation, holders: 1, until: Time::ZERO, queued: false };
        self.table.insert_unique(key.0, entry, |e| e.key.0);
        self.live += 1;
        self.holders += 1;
        true
    }

    /// A port under `key` was given back.
    ///
    /// # Panics
    /// If no call holds it: a port would have been given back twice.
    pub fn leave(&mut self, now: Time, key: PinKey) {
        let entry = self.table.find_mut(key.0, |e| e.key == key).expect("who leaves has joined");
        entry.holders -= 1;
        self.holders -= 1;
        if entry.holders == 0 {
            entry.until = now + self.linger;
            self.live -= 1;
            if !std::mem::replace(&mut entry.queued, true) {
                self.forget.push_back((entry.until, key));
            }
        }
        self.sweep(now);
    }

    /// Keys that calls hold.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Whether the table agrees with itself, and with the ports under a key that somebody else has counted.
    pub fn check(&self) -> Result<(), String> {
        let holders: usize = self.table.iter().map(|e| e.holders as usize).sum();
        let live = self.table.iter().filter(|e| e.holders > 0).count();
        if (holders, live) != (self.holders, self.live) {
            return Err(format!("{live} keys of {holders} ports, {} of {} are counted", self.live, self.holders));
        }
        match self.table.iter().filter(|e| e.queued || e.holders > 0).count() {
            kept if kept == self.table.len() => Ok(()),
            kept => Err(format!("{} keys are known, {kept} will be forgotten", self.table.len())),
        }
    }

    /// Ports that calls with a key hold.
    pub fn holders(&self) -> usize {
        self.holders
    }

    fn sweep(&mut self, now: Time) {
        while let Some((_, key)) = self.forget.pop_front_if(|(due, _)| *due <= now) {
            self.look_again(now, key);
        }
    }

    /// Forgets a key, unless a call holds it or it is to be remembered for longer.
    fn look_again(&mut self, now: Time, key: PinKey) {
        let Ok(mut found) = self.table.find_entry(key.0, |e| e.key == key) else { return };
        let entry = found.get_mut();
        entry.queued = false;
        if entry.holders > 0 {
            return;
        }
        if now < entry.until {
            entry.queued = true;
            self.forget.push_back((entry.until, key));
            return;
        }
        found.remove();
    }

    /// Whether another key fits; the one that nobody has held for longest makes room.
    fn make_room(&mut self) -> bool {
        while self.table.len() >= self.limit {
            let Some((_, key)) = self.forget.pop_front() else { return false };
            self.look_again(Time::NEVER, key);
        }
        true
    }
}

/// Where a member stands in the order of a key (rendezvous): the highest one comes first.
pub(super) fn rank(key: PinKey, resource: ResourceId) -> (u64, ResourceId) {
    (table_hash(key.0, &resource.0.to_le_bytes()), resource)
}

/// Which of two nodes decides of a key.
pub(super) fn home(key: PinKey, one: NodeId, other: NodeId) -> NodeId {
    let rank = |node: NodeId| (table_hash(!key.0, &node.0.to_le_bytes()), node);
    if rank(one) > rank(other) { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Time = Time::from_micros(1_000_000);
    const K: PinKey = PinKey(7);

    fn pin(generation: u32) -> Pin {
        Pin { key: K, generation }
    }

    fn pins() -> Pins {
        Pins { linger: Duration::from_secs(32), ..Pins::with_limit(4) }
    }

    fn at(pins: &Pins, now: Time) -> Option<(u64, u32)> {
        pins.find(now, K).map(|place| (place.resource.0, place.generation))
    }

    #[test]
    fn a_key_stands_while_a_call_holds_it_and_a_while_longer() {
        let mut pins = pins();
        assert!(pins.join(T0, pin(1), ResourceId(3)) && pins.join(T0, pin(1), ResourceId(3)));
        let later = T0 + Duration::from_secs(100);
        pins.leave(later, K);
        assert_eq!((at(&pins, later), pins.live()), (Some((3, 1)), 1), "one call lives");
        pins.leave(later, K);
        let last = later + Duration::from_micros(31_999_999);
        assert_eq!((at(&pins, last), pins.live()), (Some((3, 1)), 0));
        assert_eq!(at(&pins, later + Duration::from_secs(32)), None);
        pins.sweep(later + Duration::from_secs(32));
        assert_eq!((pins.table.len(), pins.forget.len()), (0, 0));
        pins.check().unwrap();
    }

    #[test]
    fn a_key_that_is_held_again_is_not_forgotten_when_its_first_time_is_up() {
        let mut pins = pins();
        let after = |seconds| T0 + Duration::from_secs(seconds);
        pins.join(T0, pin(2), ResourceId(3));
        pins.leave(T0, K);
        pins.join(after(10), pin(2), ResourceId(3));
        pins.sweep(after(40));
        assert_eq!(at(&pins, after(40)), Some((3, 2)));
        pins.leave(after(50), K);
        pins.sweep(after(81));
        assert_eq!((at(&pins, after(81)), pins.forget.len()), (Some((3, 2)), 1));
        pins.sweep(after(82));
        assert_eq!(pins.table.len(), 0);
    }

    #[test]
    fn the_later_decision_stands_whichever_comes_first_and_what_nobody_holds_binds_nobody() {
        let mut pins = pins();
        pins.join(T0, pin(2), ResourceId(4));
        pins.join(T0, pin(1), ResourceId(3));
        assert_eq!(at(&pins, T0), Some((4, 2)), "an older word comes late");
        pins.join(T0, pin(3), ResourceId(5));
        assert_eq!(at(&pins, T0), Some((5, 3)));
        (0..3).for_each(|_| pins.leave(T0, K));
        pins.join(T0, pin(1), ResourceId(3));
        assert_eq!(at(&pins, T0), Some((3, 1)));
    }

    #[test]
    fn decisions_of_one_number_end_alike_in_both_orders() {
        let in_order = |first, second| {
            let mut pins = pins();
            pins.join(T0, pin(1), ResourceId(first));
            pins.join(T0, pin(1), ResourceId(second));
            at(&pins, T0)
        };
        assert_eq!(in_order(3, 4), in_order(4, 3));
    }

    #[test]
    fn where_there_is_no_room_the_key_that_nobody_holds_makes_some() {
        let mut pins = pins();
        let of = |key| Pin { key: PinKey(key), generation: 1 };
        assert!((0..4).all(|key| pins.join(T0, of(key), ResourceId(3))));
        assert!(!pins.join(T0, of(9), ResourceId(3)), "each is held");
        pins.leave(T0, PinKey(2));
        pins.leave(T0, PinKey(1));
        assert!(pins.join(T0, of(9), ResourceId(3)));
        let known = |key| pins.find(T0, PinKey(key)).is_some();
        assert_eq!([1, 2, 9].map(known), [true, false, true], "the one that was left first is gone");
        pins.check().unwrap();
    }
}
