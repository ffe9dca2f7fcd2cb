//! Nodes that lend, crash and come back, over links that lose, delay, double and reorder: every state of two small ones,
//! and random histories of two and three.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::escrow::Shares;
use super::tokens::{Entry, Tokens, Want, cover, gift, is_low};
use crate::base::{NodeId, ResourceId, Time};

const R: ResourceId = ResourceId(1);
const MOST: usize = 3;

/// What keeps the limit. Each is left out once to see that it is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Rules {
    /// A lender raises its row before it tells.
    debit_first: bool,
    /// A started node waits until everybody who may live has answered this start of it.
    wait: bool,
    /// Nothing is taken from a process whose death was told or answered.
    fence: bool,
    /// A returning node lends what the survivor has in use beyond its allowance.
    cover: bool,
    /// Ports left alone for a dead node's calls are spent out of the survivor's allowance.
    charge: bool,
    /// What is known of a peer's calls lasts while the peer may live.
    shadows_last: bool,
    /// A survivor keeps to its floor from the moment it answers a returning node.
    yields: bool,
    /// No loan is forgotten while somebody may live who was told of it.
    remembers: bool,
}

const ALL: Rules = Rules {
    debit_first: true,
    wait: true,
    fence: true,
    cover: true,
    charge: true,
    shadows_last: false,
    yields: true,
    remembers: true,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Sight {
    #[default]
    Unheard,
    /// It answered, and remembers as little.
    Blank,
    Heard,
    Dead,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    sight: Sight,
    /// The last start of it that was seen.
    inc: u8,
    /// Ports in use, as it said last, with those left alone.
    used: u32,
    /// Its calls, as it said last.
    calls: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    up: bool,
    inc: u8,
    tokens: Tokens,
    limit: u32,
    /// Calls that exist.
    own: u32,
    withheld: u32,
    /// Calls that exist and that it has never heard of, below `withheld`.
    ghosts: u32,
    peers: [Peer; MOST],
    /// Told, and not yet taken off: only where `debit_first` is left out.
    owed: Option<(usize, u32)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Message {
    from: usize,
    to: usize,
    from_inc: u8,
    to_inc: u8,
    rows: Vec<Entry>,
    used: u32,
    calls: u32,
    settled: bool,
    /// A later one has arrived: its count of calls is no news.
    stale: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    rules: Rules,
    nodes: Vec<Node>,
    flying: Vec<Message>,
    /// Calls of a dead process that nobody has taken over yet.
    orphans: [u32; MOST],
    lends: u8,
    crashes: u8,
    /// Calls beyond a node's allowance that were there when a limit was lowered.
    pardon: [u32; MOST],
    /// The same of orphans.
    orphans_pardon: [u32; MOST],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Admit(usize),
    End(usize),
    EndOrphan(usize),
    EndGhost(usize),
    Lend(usize, usize, u32),
    Raise(usize),
    Tell(usize, usize),
    Deliver(usize, bool),
    Lose(usize),
    Crash(usize),
    Start(usize),
    Prove(usize, usize),
    Lease(usize),
    Forget(usize, usize),
    Reload(usize, u32),
    Retain(usize),
}

fn id(n: usize) -> NodeId {
    NodeId(n as u16 + 1)
}

fn node(n: usize, count: usize, inc: u8, limit: u32) -> Node {
    let tokens = Tokens::new(id(n), (0..count).map(id).collect(), 1);
    Node { up: true, inc, tokens, limit, own: 0, withheld: 0, ghosts: 0, peers: Default::default(), owed: None }
}

impl Node {
    fn settled(&self, me: usize, count: usize, rules: Rules) -> bool {
        let mut others = (0..count).filter(|p| *p != me).map(|p| self.peers[p].sight);
        let heard = others.clone().any(|s| s == Sight::Heard) || count == 2;
        let alone = others.clone().all(|s| s == Sight::Dead);
        self.up && (!rules.wait || alone || others.all(|s| s != Sight::Unheard) && heard)
    }

    fn spends(&self, rules: Rules) -> u32 {
        self.own + if rules.charge { self.withheld } else { 0 }
    }
}

impl World {
    fn new(rules: Rules, count: usize, limit: u32, lends: u8, crashes: u8) -> Self {
        let mut nodes: Vec<Node> = (0..count).map(|n| node(n, count, 1, limit)).collect();
        for node in &mut nodes {
            node.peers[..count].fill(Peer { sight: Sight::Heard, inc: 1, used: 0, calls: 0 });
        }
        let none = [0; MOST];
        let flying = Vec::new();
        World { rules, nodes, flying, orphans: none, lends, crashes, pardon: none, orphans_pardon: none }
    }

    fn others(&self, n: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.nodes.len()).filter(move |p| *p != n)
    }

    fn settled(&self, n: usize) -> bool {
        self.nodes[n].settled(n, self.nodes.len(), self.rules)
    }

    fn whole(&self, n: usize) -> bool {
        self.settled(n) && self.others(n).all(|p| self.nodes[n].peers[p].sight == Sight::Dead)
    }

    /// What `n` believes that `of` may spend.
    fn view(&self, n: usize, of: usize, shares: &Shares) -> u32 {
        self.nodes[n].tokens.allowance(shares, R, id(of), self.nodes[n].limit)
    }

    fn allowance(&self, n: usize, shares: &Shares) -> u32 {
        if !self.settled(n) {
            0
        } else if self.whole(n) {
            self.nodes[n].limit
        } else {
            self.view(n, n, shares)
        }
    }

    fn admits(&self, n: usize, shares: &Shares) -> bool {
        let node = &self.nodes[n];
        let known: u32 = self.others(n).map(|p| node.peers[p].used).sum();
        node.spends(self.rules) < self.allowance(n, shares) && node.own + node.withheld + known < node.limit
    }

    fn free(&self, n: usize, shares: &Shares) -> u32 {
        self.allowance(n, shares).saturating_sub(self.nodes[n].spends(self.rules))
    }

    fn may_lend(&self, n: usize, to: usize) -> bool {
        self.settled(n) && n != to && self.nodes[n].peers[to].sight == Sight::Heard && self.nodes[n].owed.is_none()
    }

    fn message(&self, from: usize, to: usize) -> Message {
        let node = &self.nodes[from];
        let rows = node.tokens.of(R).collect();
        let (settled, used, calls) = (self.settled(from), node.own + node.withheld, node.own);
        Message { from, to, from_inc: node.inc, to_inc: node.peers[to].inc, rows, used, calls, settled, stale: false }
    }

    fn step(&mut self, event: Event, shares: &Shares) {
        match event {
            Event::Admit(n) => self.nodes[n].own += 1,
            Event::End(n) => self.nodes[n].own -= 1,
            Event::EndOrphan(n) => self.orphans[n] -= 1,
            Event::EndGhost(n) => self.nodes[n].ghosts -= 1,
            Event::Lend(n, to, count) => self.lend(n, to, count),
            Event::Raise(n) => {
                if let Some((to, count)) = self.nodes[n].owed.take() {
                    assert!(self.nodes[n].tokens.lend(R, id(to), count));
                }
            }
            Event::Tell(n, to) => self.flying.push(self.message(n, to)),
            Event::Deliver(at, keep) => {
                let message = if keep { self.flying[at].clone() } else { self.flying.remove(at) };
                let earlier = |m: &Message| (m.from, m.to) == (message.from, message.to);
                self.flying.iter_mut().take(at).filter(|m| earlier(m)).for_each(|m| m.stale = true);
                self.hear(message, shares);
            }
            Event::Lose(at) => drop(self.flying.remove(at)),
            Event::Crash(n) => self.crash(n),
            Event::Start(n) => {
                self.nodes[n] = node(n, self.nodes.len(), self.nodes[n].inc + 1, self.nodes[n].limit);
            }
            Event::Prove(n, of) => {
                if self.settled(n) {
                    self.bereave(n, of, shares);
                }
                self.nodes[n].peers[of] = Peer { sight: Sight::Dead, inc: self.nodes[of].inc, used: 0, calls: 0 };
            }
            Event::Lease(n) => (self.nodes[n].withheld, self.nodes[n].ghosts) = (0, 0),
            Event::Forget(n, of) => (self.nodes[n].peers[of].used, self.nodes[n].peers[of].calls) = (0, 0),
            Event::Reload(n, limit) => self.reload(n, limit, shares),
            Event::Retain(n) => self.nodes[n].tokens.retain(|_| false),
        }
        for n in 0..self.nodes.len() {
            self.pardon[n] = self.pardon[n].min(self.excess(n, shares));
        }
    }

    fn lend(&mut self, n: usize, to: usize, count: u32) {
        self.lends = self.lends.saturating_sub(1);
        if self.rules.debit_first {
            assert!(self.nodes[n].tokens.lend(R, id(to), count));
            return;
        }
        let mut told = self.nodes[n].tokens.clone();
        assert!(told.lend(R, id(to), count));
        let message = Message { rows: told.of(R).collect(), ..self.message(n, to) };
        self.flying.push(message);
        self.nodes[n].owed = Some((to, count));
    }

    fn hear(&mut self, m: Message, shares: &Shares) {
        let (r, s) = (m.to, m.from);
        let peer = self.nodes[r].peers[s];
        let outdated = m.from_inc < peer.inc || peer.sight == Sight::Dead && m.from_inc == peer.inc;
        if !self.nodes[r].up || self.rules.fence && outdated {
            return;
        }
        if m.from_inc > peer.inc {
            let settled = self.settled(r);
            if settled && peer.sight != Sight::Dead && peer.inc > 0 {
                self.bereave(r, s, shares);
            }
            let keeps = !self.rules.yields && peer.sight == Sight::Dead;
            let sight = if keeps {
                Sight::Dead
            } else if settled {
                Sight::Heard
            } else {
                Sight::Unheard
            };
            self.nodes[r].peers[s] = Peer { sight, inc: m.from_inc, used: 0, calls: 0 };
        }
        if m.to_inc == self.nodes[r].inc {
            self.take_in(r, s, &m, shares);
        }
    }

    fn take_in(&mut self, r: usize, s: usize, m: &Message, shares: &Shares) {
        for row in &m.rows {
            self.nodes[r].tokens.merge(*row);
        }
        let peer = &mut self.nodes[r].peers[s];
        if !m.stale {
            (peer.used, peer.calls) = (m.used, m.calls);
        }
        let waited = matches!(peer.sight, Sight::Unheard | Sight::Blank);
        if waited {
            peer.sight = if m.settled { Sight::Heard } else { Sight::Blank };
        }
        if waited && self.rules.cover && self.settled(r) {
            self.others(r).for_each(|p| self.cover(r, p, shares));
        }
    }

    fn cover(&mut self, n: usize, of: usize, shares: &Shares) {
        let used = self.nodes[n].peers[of].used;
        let count = cover(self.free(n, shares), self.view(n, of, shares), used);
        if count > 0 && self.nodes[n].peers[of].sight == Sight::Heard {
            assert!(self.nodes[n].tokens.lend(R, id(of), count));
        }
    }

    /// Takes over what a dead process left, and leaves alone what more it may have spent.
    fn bereave(&mut self, n: usize, of: usize, shares: &Shares) {
        let theirs = self.view(n, of, shares);
        let left = std::mem::take(&mut self.orphans[of]);
        self.pardon[n] += std::mem::take(&mut self.orphans_pardon[of]);
        let survivor = &mut self.nodes[n];
        let known = left.min(survivor.peers[of].calls);
        survivor.own += known;
        survivor.ghosts += left - known;
        survivor.withheld += theirs.saturating_sub(known);
        (survivor.peers[of].used, survivor.peers[of].calls) = (0, 0);
    }

    fn crash(&mut self, n: usize) {
        self.crashes = self.crashes.saturating_sub(1);
        self.orphans[n] += self.nodes[n].own + self.nodes[n].ghosts;
        self.orphans_pardon[n] += std::mem::take(&mut self.pardon[n]);
        let dead = Node { up: false, ..node(n, self.nodes.len(), self.nodes[n].inc, self.nodes[n].limit) };
        self.nodes[n] = dead;
        if !(0..self.nodes.len()).any(|n| self.settled(n)) {
            // Nobody remembers anything: what keeps the limit then is the cold reserve, not tokens.
            (self.orphans, self.orphans_pardon) = Default::default();
        }
    }

    fn reload(&mut self, n: usize, limit: u32, shares: &Shares) {
        let lowered = limit < self.nodes[n].limit;
        self.nodes[n].limit = limit;
        if lowered {
            for m in 0..self.nodes.len() {
                self.pardon[m] = self.excess(m, shares);
            }
        }
    }

    fn excess(&self, n: usize, shares: &Shares) -> u32 {
        let node = &self.nodes[n];
        // A lowered limit leaves too little alone for those.
        let unseen = node.ghosts.saturating_sub(node.withheld);
        unseen + (node.own + node.ghosts - unseen).saturating_sub(self.allowance(n, shares))
    }

    fn brief(&self) -> String {
        let totals = |n: &Node| n.tokens.of(R).map(|e| (e.from.0, e.to.0, e.total)).collect::<Vec<_>>();
        let peers = |n: &Node| n.peers.map(|p| (p.sight, p.inc, p.used));
        let line = |n: &Node| {
            let Node { up, inc, limit, own, withheld, ghosts, .. } = n;
            let (totals, peers) = (totals(n), peers(n));
            format!("up {up}, start {inc}, limit {limit}, {own}+{withheld}({ghosts}) in use, {totals:?} {peers:?}\n")
        };
        let nodes: String = self.nodes.iter().map(line).collect();
        format!("{nodes}orphans {:?}, pardon {:?} {:?}", self.orphans, self.pardon, self.orphans_pardon)
    }

    fn in_use(&self) -> u32 {
        self.nodes.iter().map(|n| n.own + n.ghosts).sum::<u32>() + self.orphans.iter().sum::<u32>()
    }

    fn check(&self, shares: &Shares) -> Result<(), String> {
        let limit = self.nodes.iter().map(|n| n.limit).max().unwrap_or(0);
        let pardon: u32 = self.pardon.iter().chain(&self.orphans_pardon).sum();
        if self.in_use() > limit + pardon {
            return Err(format!("{} in use of {limit} and {pardon}", self.in_use()));
        }
        let living = || (0..self.nodes.len()).filter(|n| self.settled(*n));
        let sum: u32 = living().map(|n| self.allowance(n, shares)).sum();
        if sum > limit && !living().any(|n| self.whole(n)) {
            return Err(format!("{sum} may be spent of {limit}"));
        }
        Ok(())
    }

    /// What can happen, in a world of few messages.
    fn events(&self, shares: &Shares, room: usize) -> Vec<Event> {
        let mut events = Vec::new();
        for n in 0..self.nodes.len() {
            self.events_of(n, shares, room, &mut events);
        }
        for at in 0..self.flying.len() {
            events.extend([Event::Deliver(at, false), Event::Deliver(at, true), Event::Lose(at)]);
        }
        events
    }

    fn events_of(&self, n: usize, shares: &Shares, room: usize, events: &mut Vec<Event>) {
        let node = &self.nodes[n];
        let mut push = |can: bool, event| {
            if can {
                events.push(event)
            }
        };
        push(self.orphans[n] > 0, Event::EndOrphan(n));
        push(node.ghosts > 0, Event::EndGhost(n));
        if !node.up {
            return push(true, Event::Start(n));
        }
        push(self.admits(n, shares), Event::Admit(n));
        push(node.own > 0, Event::End(n));
        push(node.withheld > 0, Event::Lease(n));
        push(node.owed.is_some(), Event::Raise(n));
        push(!self.rules.remembers, Event::Retain(n));
        for p in self.others(n) {
            push(self.flying.len() < room, Event::Tell(n, p));
            push(!self.nodes[p].up && node.peers[p].sight != Sight::Dead, Event::Prove(n, p));
            push(node.peers[p].used > 0 && !self.rules.shadows_last, Event::Forget(n, p));
            push(self.crashes > 0 && self.settled(p), Event::Crash(n));
            let can = self.lends > 0 && self.may_lend(n, p) && (self.rules.debit_first || self.flying.len() < room);
            let most = if can { self.free(n, shares) } else { 0 };
            (1..=most).for_each(|count| push(true, Event::Lend(n, p, count)));
        }
    }

    /// The link lives, and leases pass: all that is under way arrives, and everybody hears everybody.
    fn sync(&mut self, shares: &Shares) {
        while !self.flying.is_empty() {
            self.step(Event::Deliver(0, false), shares);
        }
        for _ in 0..4 {
            for n in 0..self.nodes.len() {
                self.others(n).for_each(|p| self.pass(n, p, shares));
                self.step(Event::Lease(n), shares);
            }
        }
    }

    fn pass(&mut self, n: usize, to: usize, shares: &Shares) {
        let last = self.flying.len();
        self.step(Event::Tell(n, to), shares);
        self.step(Event::Deliver(last, false), shares);
    }

    /// Fills node `n` with calls, which borrows from all others. How often it asked each.
    fn fill(&mut self, n: usize, shares: &Shares) -> Result<u32, String> {
        let limit = self.nodes[n].limit;
        let most = u32::BITS - limit.leading_zeros() + 1;
        for trips in 0..=most {
            while self.admits(n, shares) {
                self.step(Event::Admit(n), shares);
                self.check(shares)?;
            }
            if self.nodes[n].own >= limit {
                return Ok(trips);
            }
            if !is_low(limit, self.allowance(n, shares), self.nodes[n].spends(self.rules)) {
                return Err("full, and does not ask".to_owned());
            }
            self.others(n).for_each(|p| self.borrow(n, p, shares));
            self.check(shares)?;
        }
        Err(format!("{} of {limit} after asking {most} times", self.nodes[n].own))
    }

    fn borrow(&mut self, n: usize, from: usize, shares: &Shares) {
        self.pass(n, from, shares);
        let seen = self.nodes[n].tokens.total(R, id(from), id(n));
        let want = Want { resource: R, node: id(n), free: self.free(n, shares), seen, asked_at: Time::ZERO };
        let lender = &self.nodes[from];
        let count = gift(lender.limit, self.free(from, shares), lender.tokens.free_of(&want));
        let hole = lender.tokens.owes(shares, R, id(n), lender.limit);
        if count > 0 && self.may_lend(from, n) {
            self.step(Event::Lend(from, n, count + hole), shares);
        }
        self.pass(from, n, shares);
    }
}

fn fingerprint(world: &World) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, world).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

/// Goes through every state that can be reached, nearest first. How many there are, and the most trips to fill a node; or
/// the shortest way to where something is wrong.
fn explore(first: World, shares: &Shares, room: usize) -> Result<(usize, u32), String> {
    let mut known: HashMap<u128, (u128, Option<Event>)> = HashMap::from([(fingerprint(&first), (0, None))]);
    let mut open = VecDeque::from([first]);
    let mut trips = 0;
    while let Some(world) = open.pop_front() {
        let here = fingerprint(&world);
        let judged = world.check(shares).and_then(|()| fills(&world, shares));
        trips = trips.max(judged.map_err(|what| format!("{what}: {:?}\n{}", way(&known, here), world.brief()))?);
        for event in world.events(shares, room) {
            let mut next = world.clone();
            next.step(event, shares);
            known.entry(fingerprint(&next)).or_insert_with(|| {
                open.push_back(next);
                (here, Some(event))
            });
        }
    }
    Ok((known.len(), trips))
}

fn way(known: &HashMap<u128, (u128, Option<Event>)>, mut at: u128) -> Vec<Event> {
    let mut way = Vec::new();
    while let Some((before, Some(event))) = known.get(&at) {
        way.push(*event);
        at = *before;
    }
    way.reverse();
    way
}

/// Where the link lives and a node is idle, the other one gets every port.
fn fills(world: &World, shares: &Shares) -> Result<u32, String> {
    let Rules { debit_first, yields, remembers, .. } = world.rules;
    let whole = debit_first && yields && remembers;
    if !whole || world.nodes.iter().any(|n| !n.up) {
        return Ok(0);
    }
    let mut world = world.clone();
    world.sync(shares);
    let mut trips = 0;
    for (busy, idle) in [(0, 1), (1, 0)] {
        if world.nodes[idle].own == 0 {
            trips = trips.max(world.clone().fill(busy, shares)?);
        }
    }
    Ok(trips)
}

fn pair() -> Shares {
    Shares::new(vec![(id(0), 500), (id(1), 500)]).unwrap()
}

#[test]
fn no_state_of_two_nodes_spends_a_port_twice_and_each_can_fill_up() {
    for (limit, room, lends) in [(1, 2, 2), (2, 2, 1), (3, 1, 2)] {
        let (states, trips) = explore(World::new(ALL, 2, limit, lends, 1), &pair(), room).unwrap();
        println!("limit {limit}, {room} messages, {lends} loans, 1 crash: {states} states, {trips} trips at most");
        assert!(states > 1_000);
    }
}

/// `TANDEM_TOKENS_FULL=1` takes minutes.
#[test]
fn no_state_of_two_nodes_with_more_ports_and_crashes_spends_a_port_twice() {
    if std::env::var_os("TANDEM_TOKENS_FULL").is_none() {
        return;
    }
    for (limit, room, lends, crashes) in [(2, 2, 2, 1), (1, 2, 2, 2), (3, 2, 1, 1)] {
        let (states, trips) = explore(World::new(ALL, 2, limit, lends, crashes), &pair(), room).unwrap();
        println!(
            "limit {limit}, {room} messages, {lends} loans, {crashes} crashes: {states} states, {trips} trips at most"
        );
    }
}

#[test]
fn while_calls_of_a_living_peer_are_remembered_nothing_needs_to_be_covered() {
    let rules = Rules { cover: false, shadows_last: true, ..ALL };
    explore(World::new(rules, 2, 2, 1, 1), &pair(), 2).unwrap();
}

#[test]
fn every_rule_is_missed_where_it_is_left_out() {
    let without = [
        ("debit first", Rules { debit_first: false, ..ALL }),
        ("wait", Rules { wait: false, ..ALL }),
        ("fence", Rules { fence: false, ..ALL }),
        ("cover", Rules { cover: false, ..ALL }),
        ("charge", Rules { charge: false, ..ALL }),
        ("charge and cover", Rules { charge: false, cover: false, shadows_last: true, ..ALL }),
        ("yields", Rules { yields: false, ..ALL }),
        ("remembers", Rules { remembers: false, ..ALL }),
    ];
    for (name, rules) in without {
        let crashes = u8::from(name != "remembers");
        let wrong = explore(World::new(rules, 2, 2, 2, crashes), &pair(), 2).expect_err(name);
        println!("without {name}: {}", wrong.lines().next().unwrap_or_default());
        assert!(wrong.contains("in use of 2") || wrong.contains("may be spent"), "{name}: {wrong}");
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }
}

const FLYING: usize = 8;
const SEEDS: u64 = 10_000;

impl World {
    fn any(&self, dice: &mut Dice, shares: &Shares, cut: bool) -> Option<Event> {
        let count = self.nodes.len();
        let (n, p) = (dice.below(count), (dice.below(count)));
        let (up, other) = (self.nodes[n].up, n != p);
        let at = dice.below(self.flying.len().max(1));
        let flies = !self.flying.is_empty();
        let free = self.free(n, shares) as usize;
        match dice.below(40) {
            0..10 => self.admits(n, shares).then_some(Event::Admit(n)),
            10..15 => (self.nodes[n].own > 0).then_some(Event::End(n)),
            15 if self.nodes[n].ghosts > 0 => Some(Event::EndGhost(n)),
            15 => (self.orphans[n] > 0).then_some(Event::EndOrphan(n)),
            16..20 => (self.may_lend(n, p) && free > 0).then(|| Event::Lend(n, p, 1 + dice.below(free) as u32)),
            20..26 => (up && other && self.flying.len() < FLYING).then_some(Event::Tell(n, p)),
            26..33 => (flies && !cut).then(|| Event::Deliver(at, dice.below(4) == 0)),
            33 => flies.then_some(Event::Lose(at)),
            34 => (up && self.may_crash(n)).then_some(Event::Crash(n)),
            35 => (!up).then_some(Event::Start(n)),
            36 => {
                (up && !self.nodes[p].up && self.nodes[n].peers[p].sight != Sight::Dead).then_some(Event::Prove(n, p))
            }
            37 => up.then_some(Event::Lease(n)),
            38 => (up && other).then_some(Event::Forget(n, p)),
            _ => (up && self.may_reload()).then(|| Event::Reload(n, dice.below(13) as u32)),
        }
    }

    /// Among three one fault at a time: all have got over the last one.
    fn may_crash(&self, n: usize) -> bool {
        let knows = |n: usize| self.others(n).all(|p| self.nodes[n].peers[p].inc == self.nodes[p].inc);
        let well = |n: usize| self.settled(n) && knows(n) && self.nodes[n].withheld == 0;
        self.nodes.len() == 2 && self.nodes[n].up || (0..self.nodes.len()).all(well)
    }

    /// What is left alone is worked out of the limit at a death: under a lowered one it may be too little for a raised one.
    fn may_reload(&self) -> bool {
        self.orphans == [0; MOST] && self.nodes.iter().all(|n| n.ghosts <= n.withheld)
    }

    fn heal(&mut self, shares: &Shares) {
        for n in 0..self.nodes.len() {
            if !self.nodes[n].up {
                self.step(Event::Start(n), shares);
            }
        }
        self.sync(shares);
    }
}

fn history(seed: u64, count: usize, most: u32) -> Result<(), String> {
    let mut dice = Dice(seed);
    let shares = any_shares(&mut dice, count);
    let mut world = World::new(ALL, count, 1 + dice.below(most as usize) as u32, u8::MAX, u8::MAX);
    let (mut cut, mut told) = (false, Vec::new());
    for _ in 0..120 {
        cut ^= dice.below(15) == 0;
        let Some(event) = world.any(&mut dice, &shares, cut) else { continue };
        world.step(event, &shares);
        told.push(event);
        world.check(&shares).map_err(|what| format!("{what}: {shares:?} {told:?}\n{}", world.brief()))?;
    }
    rest(world, &shares, &mut dice).map_err(|what| format!("{what}: {shares:?} {told:?}"))
}

/// All have heard each other: no token is lost, and who needs them gets them.
fn rest(mut world: World, shares: &Shares, dice: &mut Dice) -> Result<(), String> {
    let limit = 1 + dice.below(12) as u32;
    world.heal(shares);
    world.check(shares)?;
    for n in 0..world.nodes.len() {
        world.step(Event::Reload(n, limit), shares);
    }
    let held = |n: usize| world.view(n, n, shares);
    let owes = |n: usize| world.nodes[0].tokens.owes(shares, R, id(n), limit);
    let count = world.nodes.len();
    let (sum, owed): (u32, u32) = ((0..count).map(held).sum(), (0..count).map(owes).sum());
    if sum != limit && (owed == 0 || count == 2 || sum > limit) {
        return Err(format!("{sum} of {limit}, {owed} owed"));
    }
    let busy = dice.below(count);
    for idle in world.others(busy) {
        world.nodes[idle].own = 0;
    }
    world.nodes[busy].own = world.nodes[busy].own.min(limit);
    world.sync(shares);
    if count == 2 { world.fill(busy, shares).map(|_| ()) } else { Ok(()) }
}

fn any_shares(dice: &mut Dice, count: usize) -> Shares {
    let first = [334, 900, 500, 0, 1_000, dice.below(1_001)][dice.below(6)] as u16;
    let second = if count == 2 { 1_000 - first } else { dice.below(1_001 - first as usize) as u16 };
    let all = [(id(0), first), (id(1), second), (id(2), 1_000 - first - second)];
    Shares::new(all[..count].to_vec()).unwrap()
}

#[test]
fn ten_thousand_histories_of_two_nodes_spend_no_port_twice() {
    for seed in 0..SEEDS {
        history(seed, 2, 12).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}

#[test]
fn ten_thousand_histories_of_three_nodes_spend_no_port_twice() {
    for seed in 0..SEEDS {
        history(seed, 3, 12).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}
