//! The lease of `tandem witness`: for each pair at most one node has it at a time. Knows no sockets.
//!
//! Everything is in memory. A keeper that has just started does not know what its predecessor gave: it gives nothing before
//! that has ended.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{NodeId, Time};

use super::lease::{Ask, Lease, Note, Word};

/// How long a lease lasts from when it was given.
pub const LEASE: Duration = Duration::from_secs(3);
/// By so much less its holder believes in it: clocks may run apart by that, one part in twenty.
const DRIFT: u32 = 20;
/// Pairs that one keeper serves.
const PAIRS: usize = 1_024;
/// Nodes of one pair, with those that it had before.
const NODES: usize = 8;
/// A pair that was not heard for so long is forgotten if its place is needed.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3_600);

/// What a keeper answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Who asked has the lease from now on.
    pub held: bool,
    /// It is noted that who asked goes on alone.
    pub alone: bool,
    /// Another node went on alone.
    pub other_alone: bool,
    /// Who has the lease.
    pub holder: Option<NodeId>,
}

/// Why a keeper does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Not newer than the last one of its node: repeated or overtaken.
    Old,
    /// It serves as many pairs, or nodes of this pair, as it can.
    Full,
}

/// Gives leases.
#[derive(Debug)]
pub struct Keeper {
    /// Before it gives none.
    gives_from: Time,
    pairs: BTreeMap<Box<str>, Pair>,
}

#[derive(Debug, Default)]
struct Pair {
    holder: Option<(NodeId, Time)>,
    nodes: Vec<Node>,
    heard_at: Time,
}

#[derive(Debug)]
struct Node {
    id: NodeId,
    serial: u64,
    alone: bool,
}

impl Reply {
    /// What the node that asked at `sent` may believe.
    pub fn word(&self, sent: Time, lease: Duration) -> Word {
        let until = sent + (lease - lease / DRIFT);
        let lease = self.held.then_some(Lease { until, alone: self.alone });
        Word { lease, holder: self.holder, other_alone: self.other_alone }
    }
}

impl Keeper {
    /// A keeper that starts at `now`.
    pub fn new(now: Time) -> Self {
        Self { gives_from: now + LEASE, pairs: BTreeMap::new() }
    }

    /// A node of the cluster of this name asks. `serial` grows with everything that a node asks, also across its restarts.
    pub fn ask(&mut self, now: Time, cluster: &str, node: NodeId, serial: u64, ask: Ask) -> Result<Reply, Unanswered> {
        let gives = now >= self.gives_from;
        let pair = self.pair(now, cluster)?;
        pair.heard_at = now;
        let n = pair.node(node, serial)?;
        pair.holder = pair.holder.filter(|(_, until)| now < *until);
        if pair.holder.is_none_or(|(id, _)| id == node) {
            pair.holder = (ask.hold && gives).then_some((node, now + LEASE));
        }
        let holder = pair.holder.map(|(id, _)| id);
        let held = holder == Some(node);
        let me = &mut pair.nodes[n];
        match ask.note {
            Note::Keep => {}
            Note::Shared => me.alone = false,
            // Who does not hold the lease spends nothing alone.
            Note::Alone => me.alone |= held,
        }
        let alone = me.alone;
        let other_alone = pair.nodes.iter().any(|other| other.id != node && other.alone);
        Ok(Reply { held, alone, other_alone, holder })
    }

    /// How many pairs it serves.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    fn pair(&mut self, now: Time, cluster: &str) -> Result<&mut Pair, Unanswered> {
        if !self.pairs.contains_key(cluster) {
            if self.pairs.len() >= PAIRS {
                self.pairs.retain(|_, pair| now.since(pair.heard_at) < FORGOTTEN);
            }
            if self.pairs.len() >= PAIRS {
                return Err(Unanswered::Full);
            }
            self.pairs.insert(cluster.into(), Pair::default());
        }
        self.pairs.get_mut(cluster).ok_or(Unanswered::Full)
    }
}

impl Pair {
    fn node(&mut self, id: NodeId, serial: u64) -> Result<usize, Unanswered> {
        let known = self.nodes.iter().position(|node| node.id == id);
        let n = match known {
            Some(n) if serial <= self.nodes[n].serial => return Err(Unanswered::Old),
            Some(n) => n,
            None if self.nodes.len() >= NODES => return Err(Unanswered::Full),
            None => {
                self.nodes.push(Node { id, serial, alone: false });
                self.nodes.len() - 1
            }
        };
        self.nodes[n].serial = serial;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const HOLD: Ask = Ask { hold: true, note: Note::Keep };
    const WATCH: Ask = Ask { hold: false, note: Note::Keep };

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    /// A keeper whose hold after the start is over.
    fn keeper() -> Keeper {
        Keeper::new(Time::ZERO)
    }

    #[test]
    fn one_holds_until_it_gives_back_or_its_lease_ends() {
        let mut keeper = keeper();
        let holder = |reply: Result<Reply, Unanswered>| reply.map(|r| (r.held, r.holder.map(|id| id.0)));
        assert_eq!(holder(keeper.ask(at(2_999), "c", A, 1, HOLD)), Ok((false, None)), "it has just started");
        assert_eq!(holder(keeper.ask(at(3_000), "c", A, 2, HOLD)), Ok((true, Some(1))));
        assert_eq!(holder(keeper.ask(at(5_999), "c", B, 1, HOLD)), Ok((false, Some(1))));
        assert_eq!(holder(keeper.ask(at(5_999), "other", B, 2, HOLD)), Ok((true, Some(2))), "another pair");
        assert_eq!(holder(keeper.ask(at(6_000), "c", B, 3, HOLD)), Ok((true, Some(2))));
        assert_eq!(holder(keeper.ask(at(6_001), "c", A, 3, WATCH)), Ok((false, Some(2))), "not its own to give back");
        assert_eq!(holder(keeper.ask(at(6_002), "c", B, 3, WATCH)), Err(Unanswered::Old));
        assert_eq!(holder(keeper.ask(at(6_002), "c", B, 4, WATCH)), Ok((false, None)));
        assert_eq!(holder(keeper.ask(at(6_002), "c", A, 4, HOLD)), Ok((true, Some(1))));
        let word = keeper.ask(at(7_000), "c", A, 5, HOLD).unwrap().word(at(6_900), LEASE);
        assert_eq!(
            word.lease.unwrap().until,
            at(6_900 + 2_850),
            "from when it was asked for, less what clocks may drift"
        );
    }

    #[test]
    fn who_goes_on_alone_is_told_to_the_next_until_it_is_alone_no_more() {
        let mut keeper = keeper();
        let mut other = |serial, hold, note| {
            keeper.ask(at(9_000 + serial), "c", A, serial, Ask { hold, note }).unwrap();
            keeper.ask(at(9_000 + serial), "c", B, serial, WATCH).unwrap().other_alone
        };
        assert!(!other(1, false, Note::Alone), "it does not hold the lease");
        assert!(!other(2, true, Note::Keep) && other(3, true, Note::Alone));
        assert!(other(4, false, Note::Keep) && !other(5, false, Note::Shared));
    }

    #[test]
    fn it_serves_so_many_pairs_and_no_more() {
        let mut keeper = keeper();
        for n in 0..PAIRS {
            keeper.ask(at(1), &n.to_string(), A, 1, WATCH).unwrap();
        }
        assert_eq!(keeper.ask(at(2), "one more", A, 1, WATCH), Err(Unanswered::Full));
        for n in 0..NODES as u16 - 1 {
            keeper.ask(at(2), "0", NodeId(10 + n), 1, WATCH).unwrap();
        }
        assert_eq!(keeper.ask(at(2), "0", NodeId(99), 1, WATCH), Err(Unanswered::Full));
        let later = at(2) + FORGOTTEN;
        keeper.ask(later, "0", A, 2, WATCH).unwrap();
        keeper.ask(later, "one more", A, 1, WATCH).unwrap();
        assert_eq!(keeper.pairs(), 2);
    }

    /// A node that asks over a network that loses, repeats, delays and overtakes, by a clock of its own.
    struct Client {
        id: NodeId,
        /// Millionths by which its clock is fast.
        fast: i64,
        serial: u64,
        wants: bool,
        /// Serial and own time of what waits for an answer.
        asked: (u64, Time),
        until: Time,
    }

    impl Client {
        fn clock(&self, now: u64) -> Time {
            Time::from_micros((now as i64 + now as i64 / 1_000 * self.fast / 1_000) as u64)
        }

        fn holds(&self, now: u64) -> bool {
            self.clock(now) < self.until
        }
    }

    enum Datagram {
        Ask(usize, u64, Ask),
        Reply(usize, u64, Reply),
    }

    /// One history; how often a lease changed hands.
    fn history(seed: u64) -> u32 {
        let mut chance = crate::cluster::tests::Chance::new(seed);
        let mut draw = |below: u64| chance.between(0, below - 1);
        let drift = 1_000_000 / i64::from(DRIFT) / 2 - 1_000;
        let client = |id, fast| Client { id, fast, serial: 0, wants: true, asked: (0, Time::ZERO), until: Time::ZERO };
        let fast = draw(2) as i64 * 2 - 1;
        let mut clients = [client(A, drift * fast), client(B, -drift * fast)];
        let (mut keeper, mut wire) = (Keeper::new(Time::ZERO), Vec::<(u64, Datagram)>::new());
        let (loss, delay) = ([0, 100, 400][draw(3) as usize], [1_000, 200_000, 5_000_000][draw(3) as usize]);
        let (mut last, mut changes, mut cut) = (None, 0, [false; 2]);
        for now in (0..60_000_000).step_by(10_000) {
            if draw(2_000) == 0 {
                keeper = Keeper::new(Time::from_micros(now));
            }
            for n in 0..2 {
                if draw(400) == 0 {
                    cut[n] = !cut[n];
                }
                if draw(500) == 0 {
                    clients[n].wants = !clients[n].wants;
                    clients[n].until = if clients[n].wants { clients[n].until } else { Time::ZERO };
                }
                if draw(30) == 0 {
                    let client = &mut clients[n];
                    client.serial += 1;
                    client.asked = (client.serial, client.clock(now));
                    let ask = Ask { hold: client.wants, note: Note::Keep };
                    for _ in 0..1 + draw(2) {
                        wire.push((now + draw(delay), Datagram::Ask(n, client.serial, ask)));
                    }
                }
            }
            let (due, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut wire).into_iter().partition(|(at, _)| *at <= now);
            wire = rest;
            for (_, datagram) in due {
                let (Datagram::Ask(n, ..) | Datagram::Reply(n, ..)) = datagram;
                if cut[n] || draw(1_000) < loss {
                    continue;
                }
                match datagram {
                    Datagram::Ask(n, serial, ask) => {
                        let reply = keeper.ask(Time::from_micros(now), "c", clients[n].id, serial, ask);
                        let Ok(reply) = reply else { continue };
                        for _ in 0..1 + draw(2) {
                            wire.push((now + draw(delay), Datagram::Reply(n, serial, reply)));
                        }
                    }
                    Datagram::Reply(n, serial, reply) => {
                        let client = &mut clients[n];
                        if client.asked.0 == serial && client.wants {
                            client.until = reply.word(client.asked.1, LEASE).lease.map_or(Time::ZERO, |l| l.until);
                        }
                    }
                }
            }
            let holders = [0, 1].map(|n| clients[n].holds(now));
            assert!(holders != [true; 2], "seed {seed} at {now} us");
            let holder = holders.iter().position(|holds| *holds);
            if holder.is_some() && holder != last {
                (last, changes) = (holder, changes + 1);
            }
        }
        changes
    }

    #[test]
    fn two_never_hold_it_at_once_whatever_the_network_does() {
        let changes: u32 = (0..2_000).map(history).sum();
        assert!(changes > 3_000, "{changes}");
    }
}
