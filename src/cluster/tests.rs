//! Two nodes in one small deterministic world: paths with loss, delay and cuts, a stream link, a guard that takes the
//! address from a hung or dead process, crash, restart, hang. One seed is one run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::base::{Epoch, NodeId, PathId, Time};

use super::*;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// xorshift64*: small, seeded, good enough to choose faults.
#[derive(Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

#[derive(Clone, Debug)]
enum Event {
    /// A beat arrives.
    Beat { to: usize, path: u8, octets: Vec<u8> },
    /// The timer of a node, if it is still that one.
    Timer { node: usize, version: u64 },
    /// An input for a node in this life.
    Input { node: usize, life: u64, input: Input },
    /// The answer to a probe is due.
    Probe { node: usize, life: u64 },
    /// The guard acts on a process that ended or hangs.
    Guard { node: usize, life: u64, stall: u64 },
    /// The link is lost, if it is still that one.
    Down { node: usize, life: u64, links: u64, loss: Loss },
    /// Look after the stream link.
    Link,
    /// Carry what waits on the stream.
    Pump,
    /// The replica has caught up.
    Synced { link: u64 },
    /// What a node has yielded is given away.
    Settle { node: usize, life: u64 },
    /// A hung process goes on.
    Resume { node: usize, stall: u64 },
    /// A process starts.
    Start { node: usize },
    /// A node asks the witness, if that is still what it wants.
    Ask { node: usize, asks: u64 },
}

struct Machine {
    id: NodeId,
    cluster: Option<Cluster>,
    /// Counts process starts; also the incarnation.
    life: u64,
    durable: u32,
    power: bool,
    /// Counts stalls; odd while it hangs.
    stall: u64,
    /// What came while it hung.
    backlog: VecDeque<Input>,
    version: u64,
    wish: Wish,
    present: bool,
    /// What it does with the addresses of the other one.
    guest: Wish,
    /// Claims up to this one have lost the address, which only a later one can put back.
    lost: Epoch,
    relay: Option<NodeId>,
    /// What it last said that it is.
    role: Role,
    /// The claim that came with that.
    epoch: Epoch,
    claims: Vec<(Time, Epoch)>,
    done: bool,
    lead: Wish,
    /// What of modes is durable.
    mode: Option<Mode>,
    lanes: bool,
    priority: u8,
    preempt: bool,
    usable: bool,
    reach: Option<bool>,
    answers: Vec<Result<(), Refusal>>,
    adopted: Vec<(NodeId, Epoch)>,
    /// Whether the last one that was adopted had told all.
    whole: Option<bool>,
    yielded: Vec<Epoch>,
    /// It has not given away yet what it has yielded.
    owes: bool,
    beside: Option<NodeId>,
    notices: Vec<Notice>,
    budget: Option<Budget>,
    share: Option<NodeId>,
    unheard: Vec<(NodeId, Budget)>,
    announced: u32,
    /// What it wants of the witness, and how often that changed.
    ask: Option<Ask>,
    asks: u64,
    /// How often it has asked.
    serial: u64,
}

struct World {
    now: Time,
    chance: Chance,
    queue: BTreeMap<(Time, u64), Event>,
    events: u64,
    machines: [Machine; 2],
    paths: u8,
    /// `[from][path]`.
    cut: [[bool; 2]; 2],
    /// Beats lost in a thousand.
    loss: u64,
    /// `[from]`: the LAN that carries ARP.
    lan_cut: [bool; 2],
    stream_cut: bool,
    keeper: Keeper,
    /// By node: the way to the witness.
    witness_cut: [bool; 2],
    /// Number of the present link, 0 for none.
    link: u64,
    links: u64,
    /// The link over which nodes did not tell each other of calls when they could.
    unsynced: u64,
    link_idle: Time,
    waiting: [VecDeque<Message>; 2],
    epochs: BTreeSet<Epoch>,
    /// It became active or standby, and nothing has told why.
    untold: [bool; 2],
    config: [u64; 2],
    mode: HaMode,
    /// Each node has addresses of its own.
    crossed: bool,
    policy: Partition,
    /// Somebody has called a living node dead.
    defamed: bool,
    log: Vec<String>,
    /// A stranger answers every probe.
    stranger: bool,
    probes: u32,
    /// Nobody carries the question to the link, and no answer comes.
    unasked: bool,
    /// Two must never answer for the address.
    strict: bool,
    /// How long two answered for the address although the LAN was whole.
    overlap: Duration,
    overlap_since: Option<Time>,
    seed: u64,
}

impl World {
    fn new(seed: u64, paths: u8) -> Self {
        let machine = |id: u16| Machine {
            id: NodeId(id),
            cluster: None,
            life: 0,
            durable: 0,
            power: true,
            stall: 0,
            backlog: VecDeque::new(),
            version: 0,
            wish: Wish::Drop,
            present: false,
            guest: Wish::Drop,
            lost: Epoch::default(),
            relay: None,
            role: Role::Starting,
            epoch: Epoch::default(),
            claims: Vec::new(),
            done: false,
            lead: Wish::Drop,
            mode: None,
            lanes: false,
            priority: 100,
            preempt: false,
            usable: true,
            reach: None,
            answers: Vec::new(),
            adopted: Vec::new(),
            whole: None,
            yielded: Vec::new(),
            owes: false,
            beside: None,
            notices: Vec::new(),
            budget: None,
            share: None,
            unheard: Vec::new(),
            announced: 0,
            ask: None,
            asks: 0,
            serial: 0,
        };
        let mut world = World {
            now: Time::from_micros(1_000_000),
            chance: Chance::new(seed + 1),
            queue: BTreeMap::new(),
            events: 0,
            machines: [machine(1), machine(2)],
            paths,
            cut: [[false; 2]; 2],
            loss: 0,
            lan_cut: [false; 2],
            stream_cut: false,
            keeper: Keeper::new(Time::ZERO),
            witness_cut: [false; 2],
            link: 0,
            links: 0,
            unsynced: 0,
            link_idle: Time::ZERO,
            waiting: [VecDeque::new(), VecDeque::new()],
            epochs: BTreeSet::new(),
            untold: [false; 2],
            config: [9, 9],
            mode: HaMode::ActiveStandby,
            crossed: false,
            policy: Partition::Available,
            defamed: false,
            log: Vec::new(),
            stranger: false,
            probes: 0,
            unasked: false,
            strict: false,
            overlap: Duration::ZERO,
            overlap_since: None,
            seed,
        };
        world.later(ms(1), Event::Link);
        world
    }

    /// A pair that is up and armed; the first node is active.
    fn armed(seed: u64, paths: u8) -> Self {
        let mut world = World::new(seed, paths);
        world.start(0);
        world.run(ms(4_000));
        world.start(1);
        world.run(ms(1_000));
        world.expect_pair();
        assert_eq!(world.active(), [0]);
        world
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.events += 1;
        self.queue.insert((self.now + after, self.events), event);
    }

    fn note(&mut self, line: String) {
        self.log.push(format!("{:>9.3} {line}", self.now.as_micros() as f64 / 1e3));
    }

    fn fail(&self, why: &str) -> ! {
        let tail = &self.log[self.log.len().saturating_sub(60)..];
        panic!("seed {}: {why}\n{}", self.seed, tail.join("\n"));
    }

    fn start(&mut self, node: usize) {
        let (now, paths, policy, config) = (self.now, self.paths, self.policy, self.config[node]);
        let peer = PeerConfig { id: self.machines[1 - node].id, paths };
        let m = &mut self.machines[node];
        m.life += 1;
        m.durable += 1;
        m.power = true;
        let config = Config {
            me: m.id,
            incarnation: (m.life << 8) + u64::from(m.id.0),
            counter: m.durable,
            cluster: 77,
            mode: m.mode.unwrap_or(Mode { mode: self.mode, word: Epoch { counter: 0, node: NodeId(1) } }),
            modes: vec![HaMode::None, HaMode::ActiveStandby, HaMode::ActiveActive],
            shared: self.mode == HaMode::ActiveActive || self.crossed,
            leads: self.crossed,
            peers: vec![peer],
            timing: Timing::default(),
            probes: self.mode == HaMode::ActiveStandby || self.crossed,
            crossed: self.crossed.then(|| ms(2_000)),
            partition: policy,
            priority: m.priority,
            preempt: m.preempt,
            config,
        };
        m.cluster = Some(Cluster::new(now, config).unwrap());
        m.stall += m.stall % 2;
        m.backlog.clear();
        (m.wish, m.lost, m.relay, m.done) = (Wish::Drop, Epoch::default(), None, false);
        (m.share, m.owes, m.beside) = (None, false, None);
        (m.lead, m.lanes) = (Wish::Drop, false);
        m.role = Role::Starting;
        (m.ask, m.asks) = (None, m.asks + 1);
        let (usable, reach) = (m.usable, m.reach);
        self.note(format!("{node} starts"));
        self.input(node, Input::Usable(usable));
        self.input(node, Input::Reach(reach));
        self.timer(node);
    }

    fn up(&self, node: usize) -> bool {
        self.machines[node].cluster.is_some()
    }

    fn hung(&self, node: usize) -> bool {
        self.machines[node].stall % 2 == 1
    }

    /// The process ends without a word; its guard and its kernel live.
    fn kill(&mut self, node: usize) {
        self.note(format!("{node} is killed"));
        self.end(node);
        let other = 1 - node;
        if self.link != 0 {
            self.link = 0;
            if !self.stream_cut {
                self.tell_link(other, ms(1), Link::Down(Loss::Reset));
                self.tell_link(other, ms(2), Link::Down(Loss::Refused));
            } else {
                self.tell_link(other, ms(1_000), Link::Down(Loss::Silent));
            }
        }
    }

    fn end(&mut self, node: usize) {
        let m = &mut self.machines[node];
        m.guest = Wish::Drop;
        m.cluster = None;
        m.stall += m.stall % 2;
        let (life, stall) = (m.life, m.stall);
        self.later(ms(5), Event::Guard { node, life, stall });
        self.waiting = [VecDeque::new(), VecDeque::new()];
    }

    /// The host is gone: no kernel answers.
    fn power_off(&mut self, node: usize) {
        self.note(format!("{node} loses power"));
        self.end(node);
        let m = &mut self.machines[node];
        (m.power, m.present) = (false, false);
        if self.link != 0 {
            self.link = 0;
            self.tell_link(1 - node, ms(1_000), Link::Down(Loss::Silent));
        }
    }

    fn hang(&mut self, node: usize, time: Duration) {
        if self.hung(node) || !self.up(node) {
            return;
        }
        if time > ms(60) {
            self.note(format!("{node} hangs for {time:?}"));
        }
        let m = &mut self.machines[node];
        m.stall += 1;
        let (life, stall) = (m.life, m.stall);
        self.later(time, Event::Resume { node, stall });
        self.later(ms(85), Event::Guard { node, life, stall });
    }

    fn tell_link(&mut self, node: usize, after: Duration, event: Link) {
        let (life, peer, links) = (self.machines[node].life, self.machines[1 - node].id, self.links);
        let event = match event {
            Link::Down(loss) => Event::Down { node, life, links, loss },
            up @ Link::Up { .. } => Event::Input { node, life, input: Input::Link { peer, event: up } },
        };
        self.later(after, event);
    }

    fn command(&mut self, node: usize, command: Command) -> Result<(), Refusal> {
        self.note(format!("{node} {command:?}"));
        self.defamed |= matches!(command, Command::DeclareDead(_));
        self.input(node, Input::Command(command));
        *self.machines[node].answers.last().unwrap()
    }

    fn input(&mut self, node: usize, input: Input) {
        if self.hung(node) {
            if self.machines[node].backlog.len() < 1_000 {
                self.machines[node].backlog.push_back(input);
            }
            return;
        }
        let now = self.now;
        let Some(cluster) = &mut self.machines[node].cluster else { return };
        let mut out = Vec::new();
        cluster.handle(now, input, &mut out);
        self.carry_out(node, out);
    }

    fn timer(&mut self, node: usize) {
        let now = self.now;
        let Some(cluster) = &mut self.machines[node].cluster else { return };
        let mut out = Vec::new();
        cluster.handle_timeout(now, &mut out);
        self.carry_out(node, out);
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            if !matches!(effect, Effect::Beat { .. }) {
                self.note(format!("{node} {effect:?}"));
            }
            self.effect(node, effect);
        }
        if self.untold[node] {
            self.fail("a new role that no notice tells of");
        }
        let Some(cluster) = &self.machines[node].cluster else { return };
        let due = cluster.next_timeout();
        self.machines[node].version += 1;
        let version = self.machines[node].version;
        if due != Time::NEVER {
            let jitter = Duration::from_micros(self.chance.between(0, 900));
            let after = Duration::from_micros(due.as_micros().saturating_sub(self.now.as_micros())) + jitter;
            self.later(after, Event::Timer { node, version });
        }
        self.watch();
    }

    fn effect(&mut self, node: usize, effect: Effect) {
        let (other, life) = (1 - node, self.machines[node].life);
        match effect {
            Effect::Beat { peer, path, beat } => {
                assert_eq!(peer, self.machines[other].id);
                if !self.cut[node][usize::from(path.0)] && self.chance.between(1, 1_000) > self.loss {
                    let mut octets = Vec::new();
                    beat.write(&mut octets);
                    let delay = Duration::from_micros(self.chance.between(100, 2_000));
                    self.later(delay, Event::Beat { to: other, path: path.0, octets });
                }
            }
            Effect::Persist(counter) => {
                assert!(counter > self.machines[node].durable, "the durable counter grows");
                self.machines[node].durable = counter;
            }
            Effect::Role { role, epoch } => self.take_role(node, role, epoch),
            Effect::Adopt { owner, before, whole, .. } => {
                self.machines[node].adopted.push((owner, before));
                self.machines[node].whole = Some(whole);
            }
            Effect::Yield { epoch, .. } => {
                self.machines[node].yielded.push(epoch);
                self.machines[node].owes = true;
                self.later(ms(2), Event::Settle { node, life });
            }
            Effect::Beside(peer) => self.machines[node].beside = peer,
            Effect::Vip(wish) => {
                let m = &mut self.machines[node];
                m.wish = wish;
                let barred = m.epoch <= m.lost;
                m.present = match wish {
                    Wish::Hold => !barred,
                    Wish::Quiet => m.present,
                    Wish::Drop => false,
                };
                if wish == Wish::Hold && barred {
                    self.later(ms(1), Event::Input { node, life, input: Input::Dropped });
                }
            }
            Effect::Guest(wish) => {
                assert!(self.crossed, "nobody else has a guest");
                self.machines[node].guest = wish;
            }
            Effect::Announce => self.machines[node].announced += 1,
            Effect::Probe => self.later(ms(19), Event::Probe { node, life }),
            Effect::Relay(to) => self.machines[node].relay = to,
            Effect::Flush { number, .. } => {
                if self.link != 0 && !self.stream_cut {
                    let after = ms(self.chance.between(1, 5));
                    self.later(after, Event::Input { node, life, input: Input::Flushed(number) });
                }
            }
            Effect::Tell { message, .. } => {
                if self.link != 0 {
                    self.waiting[node].push_back(message);
                    self.later(ms(1), Event::Pump);
                }
            }
            Effect::Answer(answer) => self.machines[node].answers.push(answer),
            Effect::Notice(notice) => {
                self.tell_role(node, notice);
                self.machines[node].notices.push(notice);
            }
            Effect::Budget(budget) => self.machines[node].budget = Some(budget),
            Effect::Done => {
                self.machines[node].done = true;
                self.later(ms(2), Event::Input { node, life: 0, input: Input::Fit(Fitness::Fit) });
            }
            Effect::Share(holder) => self.machines[node].share = Some(holder),
            Effect::Unheard(peer, spent) => self.machines[node].unheard.push((peer, spent)),
            Effect::Witness(ask) => self.wants(node, ask),
            Effect::Lead(wish) => self.machines[node].lead = wish,
            Effect::Mode(mode) => self.machines[node].mode = Some(mode),
            Effect::Lanes(peer) => {
                self.machines[node].lanes = peer.is_some();
                if peer.is_none() {
                    self.unsynced = self.link;
                }
                if peer.is_some() && self.machines[other].lanes && self.unsynced == self.link {
                    self.later(ms(3), Event::Synced { link: self.link });
                }
            }
            Effect::Armed(_) | Effect::Cold => {}
        }
    }

    fn take_role(&mut self, node: usize, role: Role, epoch: Epoch) {
        let m = &mut self.machines[node];
        let new = std::mem::replace(&mut m.role, role) != role;
        m.epoch = epoch;
        if self.untold[node] {
            self.fail("two roles, and nothing tells of the first");
        }
        self.untold[node] = new && matches!(role, Role::Active | Role::Standby | Role::Joined);
        if matches!(role, Role::Active | Role::Joined) {
            self.claimed(node, epoch);
        }
    }

    /// What tells of a role goes on as a trap that says which role and claim are in force then.
    fn tell_role(&mut self, node: usize, notice: Notice) {
        let m = &self.machines[node];
        let right = match notice {
            Notice::Claimed(epoch, _) => (m.role, m.epoch) == (Role::Active, epoch),
            Notice::Confirmed(epoch) => matches!(m.role, Role::Active | Role::Joined) && m.epoch == epoch,
            Notice::Joined(_) => m.role == Role::Joined && m.epoch.node == m.id,
            Notice::SteppedBack(epoch) => (m.role, m.epoch) == (Role::Standby, epoch),
            Notice::Follows(epoch) | Notice::Yielded(epoch) | Notice::HandedOver(epoch) => {
                (m.role, m.epoch) == (Role::Standby, epoch)
            }
            Notice::Withdrew | Notice::StoodDown(_) => m.role == Role::Standby,
            _ => return,
        };
        if !right {
            self.fail("a notice of a role that is not in force");
        }
        self.untold[node] = false;
    }

    fn claimed(&mut self, node: usize, epoch: Epoch) {
        let m = &self.machines[node];
        if m.claims.last().is_some_and(|(_, last)| *last == epoch) {
            return;
        }
        if epoch.node != m.id || epoch.counter > m.durable {
            self.fail("a claim whose counter is not durable");
        }
        if m.claims.last().is_some_and(|(_, last)| *last > epoch) || !self.epochs.insert(epoch) {
            self.fail("an epoch that does not grow");
        }
        let now = self.now;
        self.machines[node].claims.push((now, epoch));
    }

    /// The guard gives the address up, although nobody wished that.
    fn lose_address(&mut self, node: usize) {
        self.machines[node].present = false;
        self.machines[node].lost = self.cluster(node).term();
        self.input(node, Input::Dropped);
    }

    /// Whether a host answers for the address.
    fn answers(&self, node: usize) -> bool {
        let m = &self.machines[node];
        m.power && m.present && m.wish == Wish::Hold
    }

    fn watch(&mut self) {
        let greater = |m: &Machine| {
            let left = m.cluster.as_ref().is_none_or(|cluster| cluster.role() == Role::Left);
            !left && m.share == Some(m.id)
        };
        if self.machines.iter().all(greater) && !self.defamed {
            self.fail("both spend the greater share");
        }
        let whole = self.lan_cut == [false; 2];
        let both = whole && self.answers(0) && self.answers(1);
        if both && self.strict {
            self.fail("two answer for the address");
        }
        match self.overlap_since {
            None if both => self.overlap_since = Some(self.now),
            Some(since) if !both => {
                self.overlap += self.now.since(since);
                self.overlap_since = None;
            }
            _ => {}
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((&(at, id), _)) = self.queue.first_key_value()
            && at <= end
        {
            let event = self.queue.remove(&(at, id)).unwrap();
            self.now = at;
            self.happen(event);
        }
        self.now = end;
    }

    /// Runs until `done`, at most `limit`; how long it took.
    fn until(&mut self, limit: Duration, done: impl Fn(&World) -> bool) -> Duration {
        let begin = self.now;
        while !done(self) {
            if self.now.since(begin) >= limit {
                self.fail("a condition did not come true in time");
            }
            self.run(Duration::from_micros(500));
        }
        self.now.since(begin)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Beat { to, path, octets } => {
                let beat = Beat::read(&octets).unwrap();
                self.input(to, Input::Beat { path: PathId(path), beat });
            }
            Event::Timer { node, version } => {
                if self.machines[node].version == version && !self.hung(node) {
                    self.timer(node);
                }
            }
            Event::Input { node, life, input } => {
                if self.machines[node].life == life {
                    self.input(node, input);
                } else if life == 0 && self.machines[node].done {
                    self.leave(node);
                }
            }
            Event::Probe { node, life } => self.probed(node, life),
            Event::Guard { node, life, stall } => {
                let m = &mut self.machines[node];
                if m.life == life && m.stall == stall && (m.cluster.is_none() || stall % 2 == 1) {
                    m.present = false;
                    if m.cluster.is_some() && m.wish != Wish::Drop {
                        m.lost = m.epoch;
                        m.backlog.push_back(Input::Dropped);
                    }
                    if m.cluster.is_some() && m.guest != Wish::Drop {
                        m.guest = Wish::Drop;
                        m.backlog.push_back(Input::GuestDropped);
                    }
                    self.watch();
                }
            }
            Event::Down { node, life, links, loss } => {
                if self.machines[node].life == life && self.links == links {
                    let peer = self.machines[1 - node].id;
                    self.input(node, Input::Link { peer, event: Link::Down(loss) });
                }
            }
            Event::Link => self.look_after_link(),
            Event::Pump => self.pump(),
            Event::Synced { link } => {
                if link == self.link && !self.stream_cut && self.machines.iter().all(|m| m.lanes) {
                    for node in 0..2 {
                        let owes = self.machines[node].owes;
                        let sync = Progress { incoming: true, outgoing: true, told: true, owes };
                        let peer = self.machines[1 - node].id;
                        self.input(node, Input::Sync { peer, sync });
                    }
                } else if link == self.link && !self.stream_cut {
                    self.unsynced = link;
                } else if link == self.link {
                    self.later(ms(50), Event::Synced { link });
                }
            }
            Event::Settle { node, life } => {
                if self.machines[node].life == life && (self.link == 0 || self.stream_cut || self.hung(node)) {
                    self.later(ms(20), Event::Settle { node, life });
                } else if self.machines[node].life == life {
                    self.machines[node].owes = false;
                    let sync = Progress { incoming: true, outgoing: true, told: true, owes: false };
                    self.input(node, Input::Sync { peer: self.machines[1 - node].id, sync });
                }
            }
            Event::Resume { node, stall } => {
                if self.machines[node].stall == stall {
                    self.resume(node);
                }
            }
            Event::Ask { node, asks } => self.ask_witness(node, asks),
            Event::Start { node } => {
                if !self.up(node) {
                    self.start(node);
                }
            }
        }
    }

    fn resume(&mut self, node: usize) {
        self.machines[node].stall += 1;
        let backlog: Vec<Input> = self.machines[node].backlog.drain(..).collect();
        if self.chance.one_in(2) {
            self.timer(node);
        }
        for input in backlog {
            self.input(node, input);
        }
        self.timer(node);
        let now = self.now;
        let m = &mut self.machines[node];
        if m.wish == Wish::Hold && m.cluster.as_ref().is_some_and(|c| now <= c.authority()) {
            m.present = true;
        }
        self.watch();
    }

    fn leave(&mut self, node: usize) {
        self.note(format!("{node} has left"));
        if self.link != 0 {
            self.link = 0;
            self.tell_link(1 - node, ms(1), Link::Down(Loss::Goodbye));
        }
        let m = &mut self.machines[node];
        m.cluster = None;
        m.present = false;
        m.done = false;
        self.watch();
    }

    fn probed(&mut self, node: usize, life: u64) {
        let addressed = self.mode == HaMode::ActiveStandby || self.crossed;
        let held = addressed && self.answers(1 - node) && self.lan_cut == [false; 2];
        self.probes += 1;
        if self.unasked {
            return;
        }
        let address = match (held, self.stranger) {
            (true, _) => Answer::Somebody,
            (false, true) => Answer::Stranger,
            (false, false) => Answer::Nobody,
        };
        let m = &self.machines[node];
        if m.life == life {
            let reference = m.reach;
            self.input(node, Input::Probed { address, reference });
        }
    }

    fn look_after_link(&mut self) {
        self.later(ms(20), Event::Link);
        let runs = |w: &World, n: usize| w.up(n) && !w.hung(n);
        let both = runs(self, 0) && runs(self, 1);
        if self.link == 0 {
            if both && !self.stream_cut {
                self.links += 1;
                self.link = self.links;
                self.link_idle = self.now;
                self.waiting = [VecDeque::new(), VecDeque::new()];
                for node in 0..2 {
                    let other = &self.machines[1 - node];
                    let incarnation = (other.life << 8) + u64::from(other.id.0);
                    self.tell_link(node, ms(1), Link::Up { incarnation });
                }
                let after = ms(self.chance.between(20, 200));
                self.later(after, Event::Synced { link: self.links });
            } else if !self.stream_cut {
                for node in 0..2 {
                    if runs(self, node) && !self.up(1 - node) && self.machines[1 - node].power {
                        self.tell_link(node, ms(1), Link::Down(Loss::Refused));
                    }
                }
            }
        } else if self.stream_cut || !both {
            if self.now.since(self.link_idle) > ms(1_000) {
                self.link = 0;
                for node in 0..2 {
                    self.tell_link(node, ms(1), Link::Down(Loss::Silent));
                }
            }
        } else {
            self.link_idle = self.now;
        }
    }

    fn pump(&mut self) {
        if self.link == 0 {
            return;
        }
        if self.stream_cut {
            return self.later(ms(20), Event::Pump);
        }
        for node in 0..2 {
            while let Some(message) = self.waiting[node].pop_front() {
                let mut octets = Vec::new();
                message.write(&mut octets);
                let message = Message::read(&octets).unwrap();
                let peer = self.machines[node].id;
                self.input(1 - node, Input::Told { peer, message });
            }
        }
    }

    fn cluster(&self, node: usize) -> &Cluster {
        self.machines[node].cluster.as_ref().unwrap()
    }

    /// The nodes that are active.
    fn active(&self) -> Vec<usize> {
        let active = |n: &usize| self.machines[*n].cluster.as_ref().is_some_and(|c| c.role() == Role::Active);
        (0..2).filter(active).collect()
    }

    fn is_pair(&self) -> bool {
        if self.mode == HaMode::ActiveActive {
            return self.both_serve();
        }
        let [active] = self.active()[..] else { return false };
        let (standby, exact) = (1 - active, self.policy == Partition::Exact);
        self.answers(active)
            && !self.answers(standby)
            && self.up(standby)
            && self.cluster(standby).role() == Role::Standby
            && self.cluster(standby).term() == self.cluster(active).term()
            && self.cluster(active).status().armed
            && self.cluster(standby).status().armed
            && self.machines[active].budget == Some(if exact { Budget::Floor } else { Budget::Whole })
            && self.machines.iter().all(|m| m.share == Some(self.machines[active].id))
            && self.machines[standby].budget == Some(Budget::Nothing)
            && self.machines.iter().all(|m| m.relay.is_none() && m.wish != Wish::Quiet)
    }

    /// One leads and the other one has joined it.
    fn both_serve(&self) -> bool {
        let [leads] = self.active()[..] else { return false };
        let other = 1 - leads;
        let peer = |n: usize| Some(self.machines[1 - n].id);
        self.up(other)
            && self.cluster(other).role() == Role::Joined
            && self.cluster(other).term() == self.cluster(leads).term()
            && (0..2).all(|n| self.cluster(n).status().armed && self.machines[n].beside == peer(n))
            && self.machines.iter().all(|m| m.budget == Some(Budget::Floor) && m.relay.is_none() && !m.owes)
            && (!self.crossed || (0..2).all(|n| self.answers(n) && self.machines[n].guest == Wish::Drop))
    }

    fn expect_pair(&self) {
        if !self.is_pair() {
            self.fail("not one active and one armed standby");
        }
    }

    fn claims(&self) -> usize {
        self.machines.iter().map(|m| m.claims.len()).sum()
    }

    fn cut_all(&mut self, cut: bool) {
        self.note(format!("everything between the nodes is {}", if cut { "cut" } else { "healed" }));
        self.cut = [[cut; 2]; 2];
        self.lan_cut = [cut; 2];
        self.stream_cut = cut;
        self.watch();
    }

    fn cut_peer_link(&mut self, cut: bool) {
        self.note(format!("the peer link is {}", if cut { "cut" } else { "healed" }));
        self.cut = [[cut; 2]; 2];
        self.stream_cut = cut;
    }

    fn has(&self, node: usize, notice: Notice) -> bool {
        self.machines[node].notices.contains(&notice)
    }
}

/// How a node starts, and what keeps it from claiming.
mod start {
    use super::*;

    #[test]
    fn the_first_waits_for_the_boot_hold_and_the_second_follows() {
        let mut w = World::new(1, 1);
        w.start(0);
        w.run(ms(2_990));
        assert_eq!(w.cluster(0).role(), Role::Starting);
        assert!(w.epochs.is_empty());
        w.run(ms(60));
        assert_eq!(w.active(), [0]);
        assert_eq!(w.machines[0].claims[0].1, Epoch { counter: 2, node: NodeId(1) });
        assert!(w.has(0, Notice::Cold), "calls of the time before may live, and nobody knows");
        w.start(1);
        w.run(ms(1_000));
        w.expect_pair();
        assert_eq!(w.claims(), 1);
        w.kill(0);
        w.run(ms(100));
        assert_eq!(w.active(), [1]);
        assert!(!w.has(1, Notice::Cold), "it knows them all");
    }

    #[test]
    fn both_at_once_end_with_the_one_that_is_preferred() {
        for seed in 0..50 {
            let mut w = World::new(seed, 1);
            w.start(0);
            w.start(1);
            w.run(ms(1_000));
            w.expect_pair();
            assert_eq!(w.active(), [0], "the lower id");
            assert_eq!(w.claims(), 1, "seed {seed}");
        }
    }

    #[test]
    fn priority_comes_before_the_epoch_and_the_epoch_before_the_id() {
        let mut w = World::new(3, 1);
        w.machines[1].durable = 7;
        w.start(0);
        w.start(1);
        w.run(ms(1_000));
        assert_eq!(w.active(), [1], "the higher epoch");
        let mut w = World::new(3, 1);
        w.machines[1].durable = 7;
        w.machines[0].priority = 101;
        w.start(1);
        w.run(ms(10));
        w.start(0);
        w.run(ms(1_000));
        w.expect_pair();
        assert_eq!(w.active(), [0], "the higher priority");
    }

    #[test]
    fn an_address_that_somebody_holds_is_not_claimed() {
        let mut w = World::armed(4, 1);
        w.kill(1);
        w.cut_peer_link(true);
        w.run(ms(100));
        w.start(1);
        w.run(ms(20_000));
        assert_eq!(w.active(), [0]);
        assert_eq!(w.cluster(1).role(), Role::Starting);
        assert!(w.has(1, Notice::AddressAnswers));
        w.cut_peer_link(false);
        w.run(ms(2_000));
        w.expect_pair();
        assert_eq!(w.claims(), 1);
    }

    #[test]
    fn two_that_cannot_hear_each_other_do_not_both_claim_while_the_lan_lives() {
        for seed in 0..20 {
            let mut w = World::new(seed, 1);
            w.cut_peer_link(true);
            w.start(0);
            w.start(1);
            w.run(ms(10_000));
            assert_eq!(w.active(), [0], "a wrong secret looks like this");
            assert_eq!(w.overlap, Duration::ZERO);
        }
    }

    #[test]
    fn the_same_member_id_twice_claims_nothing_and_says_so() {
        let mut w = World::new(5, 1);
        w.start(0);
        for _ in 0..400 {
            w.run(ms(20));
            let beat = Beat { node: NodeId(1), incarnation: 4_711, ..sample() };
            w.input(0, Input::Beat { path: PathId(0), beat });
        }
        assert_eq!(w.cluster(0).role(), Role::Starting);
        assert_eq!(w.machines[0].notices.iter().filter(|n| **n == Notice::SameMember).count(), 1, "not by the second");
        assert_eq!(w.cluster(0).stats().own_id, 400);
        w.run(ms(7_000));
        assert_eq!(w.active(), [0], "the other one has gone");
    }

    #[test]
    fn swapped_member_ids_hear_themselves_and_say_so() {
        let mut w = World::new(6, 1);
        w.start(0);
        for _ in 0..400 {
            w.run(ms(20));
            let incarnation = (w.machines[0].life << 8) + 1;
            let beat = Beat { node: NodeId(1), incarnation, ..sample() };
            w.input(0, Input::Beat { path: PathId(0), beat });
        }
        assert_eq!(w.cluster(0).role(), Role::Starting);
        assert!(w.has(0, Notice::OwnBeats(PathId(0))));
    }

    #[test]
    fn an_active_node_goes_on_when_its_id_appears_elsewhere() {
        let mut w = World::armed(7, 1);
        let beat = Beat { node: NodeId(1), incarnation: 4_711, ..sample() };
        w.input(0, Input::Beat { path: PathId(0), beat });
        w.run(ms(100));
        w.expect_pair();
        assert!(w.has(0, Notice::SameMember));
    }

    #[test]
    fn foreign_clusters_and_unknown_members_are_refused_and_told() {
        let mut w = World::new(8, 1);
        w.start(0);
        for _ in 0..200 {
            w.run(ms(20));
            w.input(0, Input::Beat { path: PathId(0), beat: Beat { cluster: 78, ..sample() } });
            w.input(0, Input::Beat { path: PathId(0), beat: Beat { node: NodeId(9), ..sample() } });
            w.input(0, Input::Unauthentic(NodeId(2)));
        }
        assert_eq!(w.active(), [0], "they hinder nothing");
        for notice in
            [Notice::ForeignCluster(PathId(0)), Notice::UnknownMember(NodeId(9)), Notice::Unauthentic(NodeId(2))]
        {
            assert_eq!(w.machines[0].notices.iter().filter(|n| **n == notice).count(), 1, "{notice:?}");
        }
        let stats = w.cluster(0).stats();
        assert_eq!((stats.foreign, stats.unknown, stats.unauthentic), (200, 200, 200));
    }

    #[test]
    fn a_different_configuration_is_told_and_the_pair_works() {
        let mut w = World::new(9, 1);
        w.config = [9, 10];
        w.start(0);
        w.start(1);
        w.run(ms(1_000));
        w.expect_pair();
        assert!(w.has(0, Notice::ConfigDiffers(NodeId(2))) && w.has(1, Notice::ConfigDiffers(NodeId(1))));
        assert!(w.cluster(0).status().peers[0].config_differs);
    }

    #[test]
    fn alone_by_configuration_it_serves_at_once() {
        let config = Config {
            me: NodeId(1),
            incarnation: 1,
            counter: 4,
            cluster: 0,
            mode: Mode { mode: HaMode::None, word: Epoch::default() },
            modes: vec![HaMode::None],
            shared: false,
            leads: false,
            peers: vec![],
            timing: Timing::default(),
            probes: true,
            crossed: None,
            partition: Partition::Exact,
            priority: 0,
            preempt: false,
            config: 0,
        };
        let mut cluster = Cluster::new(Time::from_micros(5), config).unwrap();
        let mut out = Vec::new();
        cluster.handle_timeout(Time::from_micros(5), &mut out);
        let epoch = Epoch { counter: 4, node: NodeId(1) };
        let want = [
            Effect::Role { role: Role::Active, epoch },
            Effect::Vip(Wish::Hold),
            Effect::Notice(Notice::Claimed(epoch, Reason::NoPeer)),
            Effect::Share(NodeId(1)),
            Effect::Budget(Budget::Whole),
            Effect::Armed(false),
        ];
        assert_eq!(out, want);
        assert_eq!(cluster.next_timeout(), Time::NEVER);
        assert_eq!(cluster.authority(), Time::NEVER);
        out.clear();
        cluster.handle(Time::from_micros(u64::MAX / 2), Input::Fit(Fitness::Fit), &mut out);
        assert_eq!(out, [], "however long it stood still");
    }

    fn sample() -> Beat {
        Beat {
            cluster: 77,
            node: NodeId(2),
            incarnation: 1,
            epoch: Epoch { counter: 1, node: NodeId(2) },
            term: Epoch::default(),
            state: State::Starting,
            flags: Flags::FIT,
            priority: 100,
            counter: 1,
            echo_incarnation: 0,
            echo: 0,
            config: 9,
        }
    }
}

/// Proof of death, and suspicion.
mod death {
    use super::*;

    #[test]
    fn a_killed_process_is_replaced_within_two_beats() {
        for seed in 0..200 {
            let mut w = World::armed(seed, 1);
            w.run(ms(seed % 20));
            w.kill(0);
            let took = w.until(ms(60), |w| w.active() == [1] && w.answers(1));
            assert!(took <= ms(33), "seed {seed}: {took:?}");
            assert!(w.has(1, Notice::PeerDead(NodeId(1), Death::Refused)));
            let (_, epoch) = w.machines[1].claims[0];
            assert_eq!(w.machines[1].adopted, [(NodeId(1), epoch)]);
            assert_eq!(w.machines[1].budget, Some(Budget::Whole));
            assert_eq!(w.overlap, Duration::ZERO);
        }
    }

    #[test]
    fn what_must_be_durable_comes_before_role_adoption_and_address() {
        let mut w = World::armed(1, 1);
        w.log.clear();
        w.kill(0);
        w.run(ms(60));
        let place = |what: &str| w.log.iter().position(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}"));
        let order = [place("1 Persist(3)"), place("1 Role"), place("1 Adopt"), place("1 Vip(Hold)")];
        assert!(order.is_sorted(), "{order:?}");
    }

    #[test]
    fn a_process_that_is_back_within_30_ms_loses_its_calls_to_the_peer() {
        for seed in 0..100 {
            let mut w = World::armed(seed, 1);
            w.kill(0);
            // The respawn is so fast that no connection was refused.
            w.queue.retain(|_, event| !matches!(event, Event::Down { node: 1, .. }));
            w.later(ms(seed % 30), Event::Start { node: 0 });
            w.run(ms(100));
            assert_eq!(w.active(), [1], "seed {seed}");
            let (_, epoch) = w.machines[1].claims[0];
            assert_eq!(w.machines[1].adopted[0], (NodeId(1), epoch));
            w.run(ms(1_000));
            w.expect_pair();
            assert_eq!(w.claims(), 2);
        }
    }

    #[test]
    fn a_goodbye_is_proof() {
        let mut w = World::armed(2, 1);
        w.defamed = true;
        let peer = NodeId(1);
        w.input(1, Input::Told { peer, message: Message::Goodbye });
        assert_eq!(w.active(), [0, 1], "at once");
        assert!(w.has(1, Notice::Claimed(w.machines[1].claims[0].1, Reason::Death(Death::Goodbye))));
    }

    #[test]
    fn a_silent_host_is_replaced_after_suspicion_and_probe() {
        for seed in 0..100 {
            let mut w = World::armed(seed, 2);
            w.run(ms(seed % 20));
            w.power_off(0);
            let took = w.until(ms(300), |w| w.active() == [1] && w.answers(1));
            assert!(took >= ms(145) && took <= ms(175), "seed {seed}: {took:?}");
            assert!(w.has(1, Notice::PeerSilent(NodeId(1))));
        }
    }

    #[test]
    fn a_hung_node_lost_its_address_before_it_is_claimed_and_yields_when_it_wakes() {
        for seed in 0..100 {
            let mut w = World::armed(seed, 1);
            w.run(ms(seed % 20));
            w.hang(0, ms(200 + seed * 40));
            w.until(ms(300), |w| w.active().contains(&1) && w.answers(1));
            w.run(ms(7_000));
            w.expect_pair();
            assert_eq!(w.active(), [1]);
            assert_eq!(w.overlap, Duration::ZERO, "seed {seed}");
            assert_eq!(w.cluster(0).stats().yields, 1);
            assert_eq!(w.machines[0].yielded, [w.machines[1].claims[0].1]);
            assert_eq!(w.cluster(1).status().hold, ms(150), "the claim was right: no hold-down");
        }
    }

    #[test]
    fn a_node_that_stood_still_for_a_moment_asks_and_goes_on() {
        for seed in 0..100 {
            let mut w = World::armed(seed, 1);
            w.hang(0, ms(125));
            w.run(ms(125));
            let gap = |n: &Notice| matches!(n, Notice::Doubt(gap) if *gap >= ms(125));
            assert!(w.machines[0].notices.iter().any(gap));
            w.until(ms(40), |w| w.active() == [0] && w.answers(0));
            // Its guard gave the address up meanwhile: only a new epoch puts it back.
            let epoch = w.cluster(0).term();
            assert!(w.has(0, Notice::Claimed(epoch, Reason::Resumed)));
            w.run(ms(500));
            w.expect_pair();
            assert_eq!((w.active(), w.claims()), (vec![0], 2), "seed {seed}");
        }
    }

    #[test]
    fn a_lone_node_whose_guard_gave_the_address_up_puts_it_back() {
        for (seed, stall) in (0..60).map(|n| (n, 84 + 7 * n)) {
            let mut w = World::armed(seed, 1);
            w.kill(1);
            w.run(ms(1_000));
            w.hang(0, ms(stall));
            w.run(ms(stall));
            w.until(ms(60), |w| w.active() == [0] && w.answers(0));
            w.run(ms(500));
            assert!(w.answers(0), "stall of {stall} ms");
        }
    }

    #[test]
    fn an_armed_peer_gets_the_address_that_a_guard_gave_up() {
        let mut w = World::armed(4, 1);
        w.lose_address(0);
        w.until(ms(60), |w| w.active() == [1] && w.answers(1));
        assert!(w.has(0, Notice::HandOver(NodeId(2), Cause::Dropped)));
    }

    #[test]
    fn an_armed_peer_that_does_not_hear_the_offer_is_elected() {
        let mut w = World::armed(4, 1);
        w.stream_cut = true;
        w.lose_address(0);
        w.until(ms(250), |w| w.active() == [1] && w.answers(1));
        assert!(w.has(0, Notice::HandOverFailed(NodeId(2), Refusal::TimedOut)));
        assert!(w.has(0, Notice::Withdrew));
        assert!(w.has(1, Notice::Claimed(w.cluster(1).term(), Reason::Elected)));
    }

    #[test]
    fn an_address_that_goes_again_and_again_is_offered_once_a_second() {
        let mut w = World::armed(4, 1);
        let begun = w.now;
        w.lose_address(0);
        w.until(ms(60), |w| w.active() == [1] && w.answers(1));
        w.until(ms(500), |w| w.cluster(1).status().armed);
        assert_eq!(w.command(1, Command::Switchover), Ok(()));
        w.until(ms(200), |w| w.active() == [0] && w.answers(0) && w.cluster(0).status().armed);
        assert!(w.now < begun + ms(1_000), "{:?}", w.now.since(begun));
        w.lose_address(0);
        w.until(ms(60), |w| w.answers(0));
        assert!(w.has(0, Notice::Claimed(w.cluster(0).term(), Reason::Resumed)));
        w.run((begun + ms(1_100)).since(w.now));
        assert_eq!(w.active(), [0]);
        w.lose_address(0);
        w.until(ms(60), |w| w.active() == [1] && w.answers(1));
    }

    #[test]
    fn an_address_that_cannot_be_held_is_not_tried_without_end() {
        let mut w = World::armed(4, 1);
        w.kill(1);
        w.run(ms(1_000));
        w.machines[0].lost = Epoch { counter: 1_000, node: NodeId(9) };
        w.input(0, Input::Dropped);
        w.run(ms(20_000));
        let claims = w.machines[0].claims.len();
        assert!((8..=14).contains(&claims), "{claims}");
        w.machines[0].lost = Epoch::default();
        w.until(ms(4_100), |w| w.answers(0));
    }

    #[test]
    fn a_stream_that_alone_is_reset_and_refused_proves_nothing() {
        let mut w = World::armed(3, 1);
        w.stream_cut = true;
        w.link = 0;
        for node in 0..2 {
            w.tell_link(node, ms(1), Link::Down(Loss::Reset));
            for n in 1..50 {
                w.tell_link(node, ms(2 * n), Link::Down(Loss::Refused));
            }
        }
        w.run(ms(500));
        assert_eq!(w.active(), [0]);
        assert_eq!(w.claims(), 1);
        assert!(!w.cluster(0).status().armed);
        assert_eq!(w.cluster(0).status().why_not, Some(WhyNot::Refused(Refusal::LinkDown)));
    }

    #[test]
    fn one_silent_path_is_trouble_and_no_takeover() {
        let mut w = World::armed(4, 2);
        w.cut[0][0] = true;
        w.cut[1][0] = true;
        w.run(ms(5_000));
        assert_eq!(w.active(), [0]);
        assert_eq!(w.claims(), 1);
        assert!(w.has(1, Notice::PathSilent(NodeId(1), PathId(0))));
        assert!(w.cluster(1).status().peers[0].paths[0].silent);
        w.cut = [[false; 2]; 2];
        w.run(ms(100));
        assert!(w.has(1, Notice::PathHeard(NodeId(1), PathId(0))));
    }

    #[test]
    fn a_peer_link_cut_on_a_living_lan_is_no_takeover_however_long() {
        let mut w = World::armed(5, 2);
        w.cut_peer_link(true);
        w.run(ms(60_000));
        assert_eq!(w.active(), [0]);
        assert_eq!(w.claims(), 1);
        assert!(w.has(1, Notice::AddressAnswers) && w.has(0, Notice::Disarmed));
        let told = w.machines[1].notices.iter().filter(|n| **n == Notice::AddressAnswers).count();
        assert_eq!(told, 1, "not by the second");
        // Cut, then kill: the address falls silent and is claimed.
        w.kill(0);
        let took = w.until(ms(1_300), |w| w.active() == [1]);
        assert!(took <= ms(1_050), "{took:?}");
        assert_eq!(w.machines[1].whole, Some(false), "it lived on, unheard");
    }

    #[test]
    fn who_dies_unheard_but_at_once_has_told_all() {
        for kill in [World::kill, World::power_off] {
            let mut w = World::armed(5, 2);
            w.run(ms(1_000));
            kill(&mut w, 0);
            w.until(ms(300), |w| w.active() == [1]);
            assert_eq!(w.machines[1].whole, Some(true));
        }
    }

    #[test]
    fn a_stranger_who_answers_for_a_dead_nodes_address_does_not_stop_the_claim_for_ever() {
        let mut w = World::armed(6, 1);
        w.power_off(0);
        w.stranger = true;
        w.run(ms(3_000));
        assert!(w.probes > 10 && w.probes < 30, "{}", w.probes);
        assert_eq!(w.active(), [1]);
        let (at, _) = w.machines[1].claims[0];
        assert!(w.now.since(at) < ms(750), "not before the lease had passed");
        assert!(w.has(1, Notice::Stranger));
    }

    #[test]
    fn a_question_without_any_answer_is_asked_again_and_proves_nothing() {
        let mut w = World::armed(6, 1);
        w.unasked = true;
        w.power_off(0);
        let before = w.probes;
        w.run(ms(2_000));
        assert!(w.active().is_empty(), "nobody said that nobody answers");
        assert!(w.probes > before + 20, "{}", w.probes);
        w.unasked = false;
        w.until(ms(100), |w| w.active() == [1]);
    }

    #[test]
    fn an_operator_may_declare_a_silent_peer_dead_but_not_a_living_one() {
        let mut w = World::armed(7, 1);
        assert_eq!(w.command(1, Command::DeclareDead(NodeId(1))), Err(Refusal::PeerAlive));
        assert_eq!(w.command(1, Command::DeclareDead(NodeId(5))), Err(Refusal::UnknownMember));
        w.cut_peer_link(true);
        w.run(ms(1_000));
        assert_eq!(w.active(), [0]);
        assert_eq!(w.command(1, Command::DeclareDead(NodeId(1))), Ok(()));
        assert_eq!(w.active(), [0, 1]);
        assert_eq!(w.machines[1].budget, Some(Budget::Whole));
    }

    #[test]
    fn stalls_of_35_ms_on_both_nodes_are_no_deaths() {
        let mut w = World::armed(8, 1);
        for _ in 0..6_000 {
            let node = w.chance.between(0, 1) as usize;
            w.hang(node, ms(35));
            let pause = ms(w.chance.between(20, 180));
            w.run(pause);
        }
        w.run(ms(1_000));
        w.expect_pair();
        assert_eq!(w.claims(), 1);
        assert!(!w.has(1, Notice::PeerSilent(NodeId(1))));
    }

    #[test]
    fn a_node_that_was_late_judges_nobody_for_a_suspicion() {
        let mut w = World::armed(9, 1);
        w.hang(1, ms(400));
        w.power_off(0);
        let took = w.until(ms(700), |w| w.active() == [1]);
        assert!(took >= ms(400 + 150 + 19), "{took:?}");
        assert!(w.cluster(1).stats().late >= 1);
    }

    #[test]
    fn an_unarmed_standby_claims_all_the_same() {
        let mut w = World::armed(10, 1);
        w.kill(1);
        w.run(ms(50));
        w.start(1);
        w.until(ms(100), |w| w.cluster(1).role() == Role::Standby);
        assert!(!w.cluster(1).status().armed);
        w.power_off(0);
        w.until(ms(300), |w| w.active() == [1]);
    }

    #[test]
    fn both_killed_and_both_back() {
        let mut w = World::armed(11, 1);
        w.kill(0);
        w.kill(1);
        w.run(ms(100));
        w.start(1);
        w.run(ms(30));
        w.start(0);
        w.run(ms(1_000));
        w.expect_pair();
        assert_eq!(w.epochs.len(), 2);
    }
}

/// Cut networks: isolation, partition, one-way, flapping.
mod network {
    use super::*;

    #[test]
    fn a_full_partition_makes_two_and_the_higher_epoch_goes_on() {
        for seed in 0..20 {
            let mut w = World::armed(seed, 2);
            w.cut_all(true);
            w.run(ms(60_000));
            assert_eq!(w.active(), [0, 1], "both serve whom they reach");
            let announced = w.machines[1].announced;
            w.cut_all(false);
            w.until(ms(100), |w| w.active() == [1]);
            w.run(ms(2_000));
            w.expect_pair();
            assert_eq!(w.claims(), 2);
            assert!(w.machines[1].announced > announced, "the winner announces again");
            let won = w.machines[1].claims[0].1;
            assert_eq!(w.machines[1].adopted.last(), Some(&(NodeId(1), won)));
            assert_eq!(w.machines[0].yielded, [won]);
            assert!(w.machines[0].notices.iter().any(|n| matches!(n, Notice::Split(..))));
            assert_eq!(w.cluster(0).stats().yields, 1);
        }
    }

    #[test]
    fn equal_counters_are_resolved_by_the_node_id() {
        let mut w = World::new(1, 1);
        w.cut_all(true);
        w.start(0);
        w.start(1);
        w.run(ms(5_000));
        assert_eq!(w.active(), [0, 1]);
        assert_eq!(w.cluster(0).term().counter, w.cluster(1).term().counter);
        w.cut_all(false);
        w.run(ms(2_000));
        w.expect_pair();
        assert_eq!(w.active(), [1]);
    }

    #[test]
    fn spending_follows_the_policy() {
        use Budget::{Floor, Nothing, Whole};
        let table = [
            (Partition::Available, [Floor, Floor], [Whole, Whole]),
            (Partition::Exact, [Floor, Floor], [Floor, Floor]),
            (Partition::PreferLowerId, [Floor, Floor], [Whole, Nothing]),
        ];
        for (policy, before, after) in table {
            let mut w = World::new(2, 1);
            w.policy = policy;
            w.start(0);
            w.start(1);
            w.run(ms(1_000));
            w.cut_all(true);
            w.run(ms(400));
            assert_eq!([0, 1].map(|n| w.machines[n].budget.unwrap()), before, "{policy:?} before the lease");
            w.run(ms(3_000));
            assert_eq!([0, 1].map(|n| w.machines[n].budget.unwrap()), after, "{policy:?} after it");
            w.cut_all(false);
            w.run(ms(2_000));
            w.expect_pair();
        }
    }

    #[test]
    fn one_way_silence_changes_the_role_at_most_once() {
        for (seed, from) in [(1, 0), (2, 1)] {
            let mut w = World::armed(seed, 2);
            w.cut[from] = [true; 2];
            w.lan_cut[from] = true;
            w.stream_cut = true;
            w.run(ms(60_000));
            assert!(w.claims() <= 2, "one role change at most");
            assert_eq!(w.active().len(), 1, "one goes on hearing the other, and yields");
            w.cut = [[false; 2]; 2];
            w.lan_cut = [false; 2];
            w.stream_cut = false;
            w.run(ms(2_000));
            w.expect_pair();
            assert!(w.claims() <= 2);
        }
    }

    #[test]
    fn a_path_that_works_one_way_is_told() {
        let mut w = World::armed(3, 2);
        w.cut[0][0] = true;
        w.run(ms(2_000));
        assert!(w.has(0, Notice::OneWay(NodeId(2), PathId(0))));
        assert!(w.cluster(0).status().peers[0].paths[0].one_way);
        assert!(w.has(1, Notice::PathSilent(NodeId(1), PathId(0))));
        assert_eq!(w.claims(), 1);
    }

    #[test]
    fn a_flapping_network_changes_the_role_at_most_three_times_a_minute() {
        for (seed, down, up) in [(1, 1_000, 1_000), (2, 300, 700), (3, 3_000, 1_000), (4, 10_000, 3_000)] {
            let mut w = World::armed(seed, 2);
            let rounds = 120_000 / (down + up);
            for _ in 0..rounds {
                w.cut_all(true);
                w.run(ms(down));
                w.cut_all(false);
                w.run(ms(up));
            }
            let mut claims: Vec<Time> = w.machines.iter().flat_map(|m| m.claims.iter().map(|c| c.0)).collect();
            claims.sort();
            let crowd = claims.windows(4).filter(|four| four[3].since(four[0]) < Duration::from_secs(60)).count();
            assert_eq!(crowd, 0, "{down}/{up}: {claims:?}");
            w.run(ms(5_000));
            w.expect_pair();
        }
    }

    #[test]
    fn after_a_calm_minute_silence_counts_as_before() {
        let mut w = World::armed(4, 1);
        w.cut_all(true);
        w.run(ms(1_000));
        w.cut_all(false);
        w.run(ms(2_000));
        w.expect_pair();
        assert_eq!(w.cluster(0).status().hold, Duration::from_secs(2));
        w.run(ms(60_000));
        assert_eq!(w.cluster(0).status().hold, ms(150));
    }

    #[test]
    fn an_isolated_standby_claims_nothing() {
        let mut w = World::armed(5, 1);
        for node in 0..2 {
            w.machines[node].reach = Some(true);
            w.input(node, Input::Reach(Some(true)));
        }
        w.run(ms(50));
        w.cut_all(true);
        w.machines[1].reach = Some(false);
        w.run(ms(60_000));
        assert_eq!(w.active(), [0], "the probe of the reference point told it");
        assert!(w.has(1, Notice::Isolated));
        w.cut_all(false);
        w.machines[1].reach = Some(true);
        w.input(1, Input::Reach(Some(true)));
        w.run(ms(2_000));
        w.expect_pair();
        assert_eq!(w.claims(), 1);
    }

    #[test]
    fn a_standby_that_knows_it_is_isolated_does_not_even_ask() {
        let mut w = World::armed(12, 1);
        w.machines[0].reach = Some(true);
        w.input(0, Input::Reach(Some(true)));
        w.input(1, Input::Reach(Some(false)));
        w.run(ms(50));
        let probes = w.probes;
        w.cut_all(true);
        w.run(ms(10_000));
        assert_eq!((w.active(), w.probes), (vec![0], probes));
        w.command(1, Command::DeclareDead(NodeId(1))).unwrap();
        assert_eq!(w.active(), [0, 1], "an operator knows better");
    }

    #[test]
    fn where_nobody_reaches_anything_a_silent_peer_is_replaced_all_the_same() {
        let mut w = World::armed(6, 1);
        for node in 0..2 {
            w.machines[node].reach = Some(false);
            w.input(node, Input::Reach(Some(false)));
        }
        w.run(ms(5_000));
        w.expect_pair();
        w.power_off(0);
        w.until(ms(300), |w| w.active() == [1]);
    }

    #[test]
    fn an_isolated_active_node_hands_over_to_a_peer_that_reaches_something() {
        let mut w = World::armed(7, 2);
        w.machines[1].reach = Some(true);
        w.input(1, Input::Reach(Some(true)));
        w.run(ms(50));
        w.machines[0].reach = Some(false);
        w.input(0, Input::Reach(Some(false)));
        w.until(ms(1_200), |w| w.active() == [1]);
        assert!(w.has(0, Notice::HandOver(NodeId(2), Cause::Isolated)));
        w.run(ms(2_000));
        w.expect_pair();
        assert_eq!(w.cluster(0).stats().hand_overs, 1);
    }

    #[test]
    fn an_active_node_that_reaches_nothing_keeps_the_address_if_its_peer_reaches_nothing_either() {
        let mut w = World::armed(8, 1);
        for node in 0..2 {
            w.machines[node].reach = Some(false);
            w.input(node, Input::Reach(Some(false)));
        }
        w.run(ms(10_000));
        w.expect_pair();
        assert_eq!((w.active(), w.claims()), (vec![0], 1));
    }

    #[test]
    fn a_cable_pulled_again_is_no_second_try_of_a_hand_over_that_failed() {
        let mut w = World::armed(8, 2);
        let usable = |w: &mut World, node: usize, yes: bool| {
            w.machines[node].usable = yes;
            w.input(node, Input::Usable(yes));
        };
        let armed = |w: &World| (0..2).all(|n| w.cluster(n).status().armed);
        usable(&mut w, 0, false);
        w.link = 0;
        (0..2).for_each(|node| w.tell_link(node, Duration::ZERO, Link::Down(Loss::Closed)));
        w.until(ms(500), |w| w.active() == [1]);
        let failed = w.machines[0].notices.iter().any(|n| matches!(n, Notice::HandOverFailed(..)));
        assert!(failed, "the link fell in the middle");
        usable(&mut w, 0, true);
        w.until(ms(500), armed);
        usable(&mut w, 1, false);
        w.until(ms(100), |w| w.active() == [0]);
        usable(&mut w, 1, true);
        w.until(ms(500), armed);
        usable(&mut w, 0, false);
        let took = w.until(ms(2_000), |w| w.active() == [1]);
        assert!(took <= ms(50), "{took:?}");
    }

    #[test]
    fn who_cannot_give_the_address_up_passes_on_until_the_kernel_has_ended_it() {
        for (usable, passed_on) in [(true, ms(1_000)), (false, ms(2_300))] {
            let mut w = World::armed(3, 1);
            if usable {
                assert_eq!(w.command(0, Command::Switchover), Ok(()));
            } else {
                w.input(0, Input::Usable(false));
            }
            w.until(ms(4_000), |w| w.active() == [1] && w.machines[0].relay.is_some());
            w.run(passed_on - ms(100));
            assert_eq!(w.machines[0].relay, Some(NodeId(2)));
            w.run(ms(200));
            assert_eq!(w.machines[0].relay, None);
        }
    }

    #[test]
    fn a_pulled_cable_makes_the_active_node_withdraw_and_the_peer_claim() {
        for seed in 0..50 {
            let mut w = World::armed(seed, 1);
            w.cut_all(true);
            w.machines[0].usable = false;
            w.input(0, Input::Usable(false));
            w.until(ms(300), |w| w.active() == [1]);
            assert!(w.has(0, Notice::Withdrew));
            w.run(ms(3_000));
            w.cut_all(false);
            w.machines[0].usable = true;
            w.input(0, Input::Usable(true));
            w.run(ms(2_000));
            w.expect_pair();
            assert_eq!((w.active(), w.claims()), (vec![1], 2), "seed {seed}");
            assert_eq!(w.cluster(0).stats().splits + w.cluster(1).stats().splits, 0);
            assert_eq!(w.machines[0].yielded.len(), 1, "its calls are the survivor's");
        }
    }

    #[test]
    fn a_switch_that_fails_for_both_gives_the_role_back_to_who_has_the_calls() {
        let mut w = World::armed(9, 1);
        for node in 0..2 {
            w.machines[node].reach = Some(true);
            w.input(node, Input::Reach(Some(true)));
        }
        w.run(ms(100));
        w.cut_all(true);
        for node in 0..2 {
            w.machines[node].reach = Some(false);
            w.machines[node].usable = false;
            w.input(node, Input::Usable(false));
            w.input(node, Input::Reach(Some(false)));
        }
        w.run(ms(10_000));
        assert!(w.active().is_empty(), "nobody could be reached");
        w.cut_all(false);
        for node in 0..2 {
            w.machines[node].reach = Some(true);
            w.machines[node].usable = true;
            w.input(node, Input::Usable(true));
            w.input(node, Input::Reach(Some(true)));
        }
        w.run(ms(3_000));
        w.expect_pair();
        if w.claims() != 2 {
            w.fail("one claim more");
        }
    }

    #[test]
    fn a_lone_survivor_keeps_the_address_when_its_own_gateway_fails() {
        let mut w = World::armed(10, 1);
        for node in 0..2 {
            w.machines[node].reach = Some(true);
            w.input(node, Input::Reach(Some(true)));
        }
        w.power_off(1);
        w.run(ms(20_000));
        w.machines[0].reach = Some(false);
        w.input(0, Input::Reach(Some(false)));
        w.run(ms(20_000));
        assert_eq!((w.active(), w.claims()), (vec![0], 1));
    }
}

/// Limits under `exact`: who has the greater share, and what a dead node may have spent.
mod exact {
    use super::*;

    /// An armed pair under `exact`; node 0 is active.
    fn exact(seed: u64) -> World {
        let mut w = World::new(seed, 1);
        w.policy = Partition::Exact;
        w.start(0);
        w.run(ms(200));
        w.start(1);
        w.run(ms(2_000));
        w.expect_pair();
        assert_eq!(w.active(), [0]);
        w
    }

    /// The world sees to it that never both have it.
    #[test]
    fn the_greater_share_goes_with_the_role_where_the_other_node_knows() {
        let share = |w: &World| [0, 1].map(|n| w.machines[n].share.unwrap().0);
        let mut w = exact(3);
        w.command(0, Command::Switchover).unwrap();
        w.until(ms(50), |w| w.machines[1].budget == Some(Budget::Floor));
        assert_eq!(share(&w), [2, 2], "with the word to take it, and not a moment later");
        w.run(ms(5_000));
        w.expect_pair();

        w.cut_all(true);
        w.run(ms(5_000));
        assert_eq!((w.active(), share(&w)), (vec![0, 1], [2, 2]), "a cut moves nothing");
        w.cut_all(false);
        w.run(ms(2_000));
        w.expect_pair();
        assert_eq!((w.active(), share(&w)), (vec![0], [1, 1]));

        w.kill(0);
        w.run(ms(500));
        let survivor = &w.machines[1];
        assert_eq!((survivor.share, survivor.budget), (Some(survivor.id), Some(Budget::Whole)), "by proof");
        assert_eq!(survivor.unheard, [], "it was armed, and knows every call");
        w.start(0);
        w.run(ms(2_000));
        w.expect_pair();
    }

    #[test]
    fn what_a_node_served_unheard_before_it_died_is_left_alone() {
        let mut w = exact(4);
        w.stream_cut = true;
        w.run(ms(3_000));
        assert_eq!(w.active(), [0], "its beats are heard");
        w.kill(0);
        w.until(ms(3_000), |w| w.active() == [1]);
        w.run(ms(3_000));
        assert_eq!((&w.machines[1].unheard[..], w.machines[1].budget), (&[][..], Some(Budget::Floor)), "its share is");
        w.command(1, Command::DeclareDead(NodeId(1))).unwrap();
        w.run(ms(100));
        assert_eq!(
            (&w.machines[1].unheard[..], w.machines[1].budget),
            (&[(NodeId(1), Budget::Floor)][..], Some(Budget::Whole))
        );
        // A new process in its place is proof as well.
        let mut w = exact(6);
        w.stream_cut = true;
        w.run(ms(3_000));
        w.kill(0);
        w.run(ms(5));
        w.start(0);
        w.until(ms(3_000), |w| w.active() == [1]);
        assert_eq!(w.machines[1].unheard, [(NodeId(1), Budget::Floor)]);
        // The standby's end says nothing of calls.
        let mut w = exact(5);
        w.stream_cut = true;
        w.run(ms(3_000));
        w.stream_cut = false;
        w.kill(1);
        w.run(ms(3_000));
        assert_eq!((w.active(), &w.machines[0].unheard[..]), (vec![0], &[][..]));
    }

    fn shares(w: &World) -> [u16; 2] {
        [0, 1].map(|n| w.machines[n].share.unwrap().0)
    }

    /// What each node leaves alone, as far as it was told.
    fn unheard(w: &World) -> [Vec<(u16, Budget)>; 2] {
        [0, 1].map(|n| w.machines[n].unheard.iter().map(|(peer, spent)| (peer.0, *spent)).collect())
    }

    /// Both active: the second one claimed on silence.
    fn parted(seed: u64) -> World {
        let mut w = exact(seed);
        w.cut_all(true);
        w.run(ms(3_000));
        assert_eq!(w.active(), [0, 1]);
        w
    }

    #[test]
    fn what_a_node_served_in_a_cut_before_it_died_there_is_left_alone() {
        for (dies, lives) in [(0, 1), (1, 0)] {
            let mut w = parted(7);
            let died = w.machines[dies].id;
            w.power_off(dies);
            w.run(ms(500));
            assert_eq!(unheard(&w), [vec![], vec![]]);
            w.command(lives, Command::DeclareDead(died)).unwrap();
            w.run(ms(50));
            assert_eq!(unheard(&w)[lives], [(died.0, Budget::Floor)]);
            assert_eq!((w.machines[lives].budget, w.machines[lives].whole), (Some(Budget::Whole), Some(false)));
        }
    }

    #[test]
    fn what_a_standby_served_unheard_is_left_alone_when_a_new_process_proves_its_end() {
        let mut w = parted(8);
        w.kill(1);
        w.run(ms(500));
        w.cut_all(false);
        w.start(1);
        w.run(ms(500));
        assert_eq!(unheard(&w), [vec![(2, Budget::Floor)], vec![]], "its last word was that it stands by");
    }

    #[test]
    fn what_a_node_that_yielded_had_served_is_left_alone_until_it_is_copied() {
        for copied in [false, true] {
            let mut w = parted(9);
            w.cut_all(false);
            w.stream_cut = !copied;
            w.run(ms(2_000));
            assert_eq!(w.active(), [1]);
            w.kill(0);
            w.run(ms(5));
            w.start(0);
            w.run(ms(100));
            let want = if copied { vec![] } else { vec![(1, Budget::Floor)] };
            assert_eq!(unheard(&w), [vec![], want], "{copied}");
        }
    }

    #[test]
    fn what_a_node_served_that_died_as_soon_as_it_had_the_role_is_left_alone() {
        use crate::cluster::state::{Giving, Stage};
        // Its word that it has taken the role is lost with it, or is all that was heard of it.
        for taken in [false, true] {
            let mut w = exact(10);
            w.command(0, Command::Switchover).unwrap();
            w.until(ms(200), |w| matches!(w.cluster(0).giving, Some(Giving { stage: Stage::Take(_), .. })));
            w.cut[1] = [true; 2];
            if taken {
                w.until(ms(20), |w| w.cluster(0).role() == Role::Standby);
            }
            w.kill(1);
            w.run(ms(300));
            assert_eq!((w.active(), unheard(&w)), (vec![0], [vec![(2, Budget::Floor)], vec![]]), "{taken}");
        }
    }

    #[test]
    fn what_a_node_says_with_its_goodbye_does_not_hide_that_it_served() {
        let mut w = exact(11);
        w.stream_cut = true;
        w.run(ms(3_000));
        w.command(0, Command::Stop).unwrap();
        w.run(ms(100));
        assert!(w.has(1, Notice::PeerDead(NodeId(1), Death::Goodbye)));
        assert_eq!((w.active(), unheard(&w)), (vec![1], [vec![], vec![(1, Budget::Floor)]]));
    }

    #[test]
    fn of_a_node_that_was_alone_and_never_copied_the_whole_limit_is_left_alone() {
        let mut w = World::new(12, 1);
        w.policy = Partition::Exact;
        w.start(0);
        w.run(ms(100));
        w.command(0, Command::DeclareDead(NodeId(2))).unwrap();
        w.run(ms(4_000));
        assert_eq!((w.active(), w.machines[0].budget), (vec![0], Some(Budget::Whole)));
        w.stream_cut = true;
        w.start(1);
        w.run(ms(500));
        w.kill(0);
        w.run(ms(5));
        w.start(0);
        w.run(ms(100));
        assert_eq!((w.active(), unheard(&w)), (vec![1], [vec![], vec![(1, Budget::Whole)]]));
    }

    #[test]
    fn who_does_not_know_what_was_spent_before_it_spends_nothing() {
        let mut w = World::new(13, 1);
        w.policy = Partition::Exact;
        w.start(0);
        w.run(ms(4_000));
        assert_eq!((w.active(), w.machines[0].budget), (vec![0], Some(Budget::Nothing)));
        assert!(w.has(0, Notice::Unknowing));
        w.start(1);
        w.run(ms(10));
        assert_eq!(w.machines[0].budget, Some(Budget::Floor), "a process that has just started has spent nothing");
        w.run(ms(1_000));
        w.expect_pair();

        // The other one has gone on alone meanwhile, perhaps with all of it.
        w.kill(1);
        w.run(ms(500));
        assert_eq!(w.machines[0].budget, Some(Budget::Whole));
        w.cut_all(true);
        w.start(1);
        w.run(ms(5_000));
        assert_eq!((w.active(), w.machines[1].budget), (vec![0, 1], Some(Budget::Nothing)));
        w.cut_all(false);
        w.run(ms(2_000));
        w.expect_pair();
        w.cut_all(true);
        w.run(ms(3_000));
        assert_eq!([0, 1].map(|n| w.machines[n].budget), [Some(Budget::Floor); 2], "both know now");
    }

    #[test]
    fn the_greater_share_is_taken_by_who_has_the_calls_of_the_other_one() {
        let mut w = parted(14);
        w.cut_all(false);
        w.until(ms(2_000), |w| w.link != 0 && w.cluster(0).role() == Role::Standby);
        w.queue.retain(|_, event| !matches!(event, Event::Synced { .. }));
        let mut sync = |node: usize, incoming: bool| {
            let sync = Progress { incoming, outgoing: true, told: true, owes: false };
            w.input(node, Input::Sync { peer: w.machines[1 - node].id, sync });
            w.run(ms(100));
            (w.cluster(1).status().armed, shares(&w))
        };
        sync(0, true);
        assert_eq!(sync(1, false), (true, [2, 1]), "the other one has its calls, and it has not");
        assert_eq!(sync(1, true), (true, [2, 2]));
    }

    #[test]
    fn a_role_that_is_handed_over_in_haste_comes_without_the_greater_share() {
        let mut w = World::new(15, 1);
        w.policy = Partition::Exact;
        w.start(0);
        w.run(ms(4_000));
        w.start(1);
        w.until(ms(1_000), |w| w.link != 0 && w.cluster(1).status().peers[0].link);
        w.queue.retain(|_, event| !matches!(event, Event::Synced { .. }));
        w.input(0, Input::Usable(false));
        w.until(ms(4_000), |w| w.active() == [1]);
        assert!(w.has(0, Notice::Unprotected(NodeId(2), Cause::Unusable)));
        assert_eq!(shares(&w), [2, 1]);
    }
}

/// Planned hand-over.
mod hand_over {
    use super::*;

    fn switched(w: &mut World) {
        w.until(ms(100), |w| w.active() == [1]);
    }

    #[test]
    fn a_switchover_is_silent_before_it_is_taken_and_relays_for_a_second() {
        for seed in 0..100 {
            let mut w = World::armed(seed, 1);
            w.log.clear();
            assert_eq!(w.command(0, Command::Switchover), Ok(()));
            switched(&mut w);
            let place = |what: &str| w.log.iter().position(|line| line.contains(what)).unwrap_or_else(|| w.fail(what));
            let order = [
                "Prepare",
                "Ready",
                "0 Flush { peer: NodeId(2), number: 1 }",
                "0 Vip(Quiet)",
                "0 Relay(Some(NodeId(2)))",
                "0 Flush { peer: NodeId(2), number: 2 }",
                "Take {",
                "1 Persist(3)",
                "1 Role { role: Active",
                "1 Adopt",
                "1 Vip(Hold)",
            ];
            let order: Vec<usize> = order.into_iter().map(place).collect();
            assert!(order.is_sorted(), "{order:?}\n{}", w.log.join("\n"));
            w.run(ms(30));
            assert_eq!(w.cluster(0).role(), Role::Standby);
            assert_eq!(w.machines[0].yielded.len(), 1);
            w.run(ms(900));
            assert_eq!((w.machines[0].wish, w.machines[0].relay), (Wish::Quiet, Some(NodeId(2))));
            w.run(ms(200));
            assert_eq!((w.machines[0].wish, w.machines[0].relay), (Wish::Drop, None));
            w.expect_pair();
            assert_eq!(w.overlap, Duration::ZERO);
            assert_eq!(w.cluster(0).stats().hand_overs, 1);
            assert_eq!(w.cluster(0).stats().splits + w.cluster(1).stats().splits, 0);
        }
    }

    #[test]
    fn it_can_be_asked_for_on_either_node() {
        let mut w = World::armed(1, 1);
        assert_eq!(w.command(1, Command::Switchover), Ok(()));
        switched(&mut w);
        w.run(ms(2_000));
        w.expect_pair();
        assert_eq!(w.command(1, Command::Switchover), Ok(()));
        w.until(ms(100), |w| w.active() == [0]);
    }

    #[test]
    fn it_is_refused_with_the_reason() {
        let mut w = World::armed(2, 1);
        w.stream_cut = true;
        w.run(ms(1_500));
        assert_eq!(w.command(0, Command::Switchover), Err(Refusal::LinkDown));
        assert_eq!(w.command(1, Command::Switchover), Err(Refusal::LinkDown));
        w.stream_cut = false;
        w.until(ms(500), |w| w.link != 0);
        w.run(ms(5));
        assert_eq!(w.command(0, Command::Switchover), Err(Refusal::NotArmed));
        w.run(ms(500));
        w.input(1, Input::Fit(Fitness::Faulty));
        w.run(ms(50));
        assert_eq!(w.command(0, Command::Switchover), Err(Refusal::PeerUnfit));
        w.input(1, Input::Fit(Fitness::Fit));
        w.input(1, Input::Usable(false));
        w.run(ms(50));
        assert_eq!(w.command(0, Command::Switchover), Err(Refusal::PeerUnusable));
        w.kill(1);
        w.run(ms(50));
        assert_eq!(w.command(0, Command::Switchover), Err(Refusal::NoPeer));
        assert_eq!((w.active(), w.claims()), (vec![0], 1));
    }

    #[test]
    fn a_crash_of_either_node_at_any_moment_is_resolved_by_who_lives() {
        for victim in 0..2 {
            for after in 0..60 {
                let mut w = World::armed(after, 1);
                w.command(0, Command::Switchover).unwrap();
                w.run(Duration::from_micros(after * 400));
                w.kill(victim);
                let survivor = 1 - victim;
                w.until(ms(100), |w| {
                    w.active() == [survivor] && w.answers(survivor) && w.machines[survivor].relay.is_none()
                });
                w.run(ms(2_000));
                assert_eq!(w.active(), [survivor], "{victim} killed after {after}");
                w.start(victim);
                w.run(ms(2_000));
                w.expect_pair();
                assert_eq!(w.overlap, Duration::ZERO);
            }
        }
    }

    #[test]
    fn a_cut_at_any_moment_ends_with_one() {
        for after in 0..60 {
            let mut w = World::armed(after, 1);
            w.command(0, Command::Switchover).unwrap();
            w.run(Duration::from_micros(after * 400));
            w.cut_peer_link(true);
            w.run(ms(10_000));
            assert_eq!(w.active().len(), 1, "cut after {after}");
            w.cut_peer_link(false);
            w.run(ms(4_000));
            w.expect_pair();
            assert!(w.claims() <= 3);
            assert_eq!(w.overlap, Duration::ZERO);
        }
    }

    #[test]
    fn a_peer_that_does_not_flush_leaves_the_role_where_it_is() {
        let mut w = World::armed(3, 1);
        w.command(0, Command::Switchover).unwrap();
        w.until(ms(50), |w| w.log.last().is_some_and(|line| line.contains("0 Flush")));
        w.queue.retain(|_, event| !matches!(event, Event::Input { input: Input::Flushed(_), .. }));
        assert_eq!(w.command(0, Command::Switchover), Err(Refusal::Busy));
        w.run(ms(2_200));
        assert!(w.has(0, Notice::HandOverFailed(NodeId(2), Refusal::TimedOut)));
        w.expect_pair();
        assert_eq!((w.active(), w.claims()), (vec![0], 1));
        assert_eq!(w.cluster(0).stats().hand_overs_failed, 1);
    }

    #[test]
    fn a_frozen_node_that_cannot_flush_the_rest_answers_again_under_its_epoch() {
        let mut w = World::armed(4, 1);
        w.command(0, Command::Switchover).unwrap();
        w.until(ms(50), |w| w.machines[0].relay.is_some());
        w.queue.retain(|_, event| !matches!(event, Event::Input { input: Input::Flushed(_), .. }));
        assert_eq!(w.cluster(0).authority(), Time::ZERO);
        assert_eq!(w.machines[0].budget, Some(Budget::Nothing));
        w.run(ms(600));
        w.expect_pair();
        assert!(w.has(0, Notice::Confirmed(w.cluster(0).term())), "not before the peer said that it took nothing");
        assert_eq!((w.active(), w.claims()), (vec![0], 1));
    }

    #[test]
    fn who_stops_hands_over_first_and_leaves_after_it_has_relayed() {
        let mut w = World::armed(5, 1);
        assert_eq!(w.command(0, Command::Stop), Ok(()));
        switched(&mut w);
        w.run(ms(900));
        assert!(w.up(0));
        w.run(ms(300));
        assert!(!w.up(0), "left");
        assert!(w.has(1, Notice::PeerDead(NodeId(1), Death::Goodbye)));
        assert_eq!((w.active(), w.claims()), (vec![1], 2));
        w.start(0);
        w.run(ms(1_000));
        w.expect_pair();
        assert_eq!(w.active(), [1]);
    }

    #[test]
    fn who_stops_without_an_armed_peer_drops_the_address_and_says_goodbye() {
        let mut w = World::armed(6, 1);
        w.stream_cut = true;
        w.run(ms(1_500));
        w.command(0, Command::Stop).unwrap();
        assert_eq!(w.cluster(0).role(), Role::Left);
        assert_eq!(w.cluster(0).next_timeout(), Time::NEVER);
        let took = w.until(ms(50), |w| w.active() == [1]);
        assert!(took <= ms(5), "the last beat says it: {took:?}");
        assert_eq!(w.overlap, Duration::ZERO);
    }

    #[test]
    fn a_standby_that_stops_just_goes() {
        let mut w = World::armed(7, 1);
        w.command(1, Command::Stop).unwrap();
        w.run(ms(50));
        assert!(!w.up(1));
        assert_eq!((w.active(), w.claims()), (vec![0], 1));
        assert_eq!(w.machines[0].budget, Some(Budget::Whole));
    }

    #[test]
    fn an_unfit_or_unreachable_active_node_hands_over_at_once() {
        let troubles = [
            (Input::Fit(Fitness::Faulty), Cause::Unfit),
            (Input::Fit(Fitness::Behind), Cause::Behind),
            (Input::Usable(false), Cause::Unusable),
        ];
        for (input, cause) in troubles {
            let mut w = World::armed(8, 2);
            w.input(0, input);
            switched(&mut w);
            assert!(w.has(0, Notice::HandOver(NodeId(2), cause)));
            w.run(ms(2_000));
            assert_eq!((w.active(), w.claims()), (vec![1], 2));
            assert_eq!(w.overlap, Duration::ZERO);
        }
    }

    #[test]
    fn an_active_node_that_lags_behind_steps_back_if_it_is_too_slow_to_hand_over() {
        let mut w = World::armed(9, 2);
        w.stream_cut = true;
        w.input(0, Input::Fit(Fitness::Behind));
        w.until(ms(250), |w| w.active() == [1]);
        assert!(w.has(0, Notice::HandOver(NodeId(2), Cause::Behind)));
        assert!(w.has(0, Notice::Withdrew));
    }

    #[test]
    fn an_active_node_that_lags_behind_serves_on_if_nobody_else_could() {
        let mut w = World::armed(9, 2);
        w.input(1, Input::Fit(Fitness::Faulty));
        w.run(ms(50));
        w.input(0, Input::Fit(Fitness::Behind));
        w.run(ms(5_000));
        assert_eq!((w.active(), w.claims()), (vec![0], 1));
    }

    #[test]
    fn a_load_that_neither_bears_does_not_go_to_and_fro() {
        let mut w = World::armed(9, 2);
        w.input(0, Input::Fit(Fitness::Behind));
        switched(&mut w);
        w.input(0, Input::Fit(Fitness::Fit));
        w.input(1, Input::Fit(Fitness::Behind));
        w.run(ms(59_000));
        assert_eq!((w.active(), w.claims()), (vec![1], 2));
        w.until(ms(1_500), |w| w.active() == [0]);
        assert!(w.has(1, Notice::HandOver(NodeId(1), Cause::Behind)));
    }

    #[test]
    fn without_a_link_a_node_that_nobody_reaches_withdraws() {
        let mut w = World::armed(9, 2);
        w.stream_cut = true;
        w.run(ms(1_500));
        w.input(0, Input::Usable(false));
        w.until(ms(1_300), |w| w.active() == [1]);
        assert!(w.has(0, Notice::Withdrew));
        assert!(w.has(1, Notice::Claimed(w.machines[1].claims[0].1, Reason::Elected)));
    }

    #[test]
    fn a_cable_that_carried_the_link_too_costs_no_more_than_a_step() {
        let mut w = World::armed(9, 2);
        w.stream_cut = true;
        w.cut = [[true, false]; 2];
        w.input(0, Input::Usable(false));
        w.until(ms(250), |w| w.active() == [1]);
        assert!(w.has(0, Notice::HandOverFailed(NodeId(2), Refusal::TimedOut)));
        assert!(w.has(0, Notice::Withdrew));
        assert!(w.has(1, Notice::Claimed(w.machines[1].claims[0].1, Reason::Elected)));
        w.run(ms(2_000));
        assert_eq!((w.active(), w.claims()), (vec![1], 2));
    }

    #[test]
    fn nobody_takes_a_role_back_without_being_asked() {
        let mut w = World::new(10, 1);
        w.machines[0].priority = 200;
        w.start(1);
        w.run(ms(5_000));
        w.start(0);
        w.run(ms(120_000));
        w.expect_pair();
        assert_eq!((w.active(), w.claims()), (vec![1], 1));
    }

    #[test]
    fn with_preempt_the_preferred_node_gets_it_back_once_it_is_armed_and_stable() {
        let mut w = World::new(11, 1);
        w.machines[0].priority = 200;
        w.machines.iter_mut().for_each(|m| m.preempt = true);
        w.start(1);
        w.run(ms(5_000));
        w.start(0);
        w.run(ms(29_000));
        assert_eq!(w.active(), [1]);
        w.run(ms(3_000));
        w.expect_pair();
        assert_eq!((w.active(), w.claims()), (vec![0], 2));
        assert!(w.has(1, Notice::HandOver(NodeId(1), Cause::GiveBack)));
        w.run(ms(120_000));
        assert_eq!(w.claims(), 2);
    }

    /// The second node of an armed pair has just taken the role; when, and what it does next.
    fn taken() -> (Cluster, Time) {
        let mut w = World::armed(14, 1);
        let (now, term) = (w.now, w.cluster(0).term());
        let mut cluster = w.machines[1].cluster.take().unwrap();
        for message in [Message::Prepare { term, urgent: false }, Message::Take { term, counter: term.counter + 1 }] {
            cluster.handle(now, Input::Told { peer: NodeId(1), message }, &mut Vec::new());
        }
        assert_eq!(cluster.role(), Role::Active);
        (cluster, now)
    }

    fn role_at(cluster: &mut Cluster, at: Time) -> Role {
        cluster.handle_timeout(at, &mut Vec::new());
        cluster.role()
    }

    #[test]
    fn much_work_with_a_role_that_was_handed_over_is_no_doubt_and_a_stall_is() {
        let (mut cluster, now) = taken();
        assert_eq!(role_at(&mut cluster, now + ms(300)), Role::Asking, "nobody said that it had worked");

        let (mut cluster, now) = taken();
        let late = cluster.stats().late;
        cluster.worked(now + ms(300));
        assert_eq!(role_at(&mut cluster, now + ms(301)), Role::Active);
        assert_eq!(cluster.stats().late, late);
        assert_eq!(role_at(&mut cluster, now + ms(601)), Role::Asking, "it stood still");

        let (mut cluster, now) = taken();
        cluster.worked(now + ms(300));
        cluster.worked(now + ms(440));
        assert_eq!(role_at(&mut cluster, now + ms(440)), Role::Asking, "the claim is known by then");

        let (mut cluster, now) = taken();
        cluster.worked(now + ms(460));
        assert_eq!(role_at(&mut cluster, now + ms(461)), Role::Asking, "the former active may not wait any more");

        let mut w = World::armed(15, 1);
        let (mut cluster, now) = (w.machines[0].cluster.take().unwrap(), w.now);
        cluster.worked(now + ms(300));
        assert_eq!(role_at(&mut cluster, now + ms(301)), Role::Asking, "nothing was handed to it");
    }

    #[test]
    fn a_new_active_that_had_much_to_take_over_is_not_suspected_for_that() {
        use crate::cluster::state::{Giving, Stage};
        let mut w = World::armed(16, 1);
        w.command(0, Command::Switchover).unwrap();
        w.until(ms(200), |w| matches!(w.cluster(0).giving, Some(Giving { stage: Stage::Take(_), .. })));
        let (mut giver, told) = (w.machines[0].cluster.take().unwrap(), w.now);
        let epoch = Epoch { counter: giver.term().counter + 1, node: NodeId(2) };
        let probes = |giver: &mut Cluster, message: Option<Message>, from: u64, to: u64| {
            let mut out = Vec::new();
            if let Some(message) = message {
                giver.handle(told + ms(from), Input::Told { peer: NodeId(2), message }, &mut out);
            }
            (from..to).step_by(20).for_each(|n| giver.handle_timeout(told + ms(n), &mut out));
            (giver.role(), out.iter().any(|effect| matches!(effect, Effect::Probe)))
        };
        assert_eq!(probes(&mut giver, None, 20, 300), (Role::Active, false), "it waits for the word of the other one");
        let word = Message::Taken { epoch };
        assert_eq!(probes(&mut giver, Some(word), 300, 449), (Role::Standby, false));
        assert_eq!(probes(&mut giver, None, 450, 500), (Role::Standby, true), "silence counts from that word on");
    }

    #[test]
    fn who_told_a_peer_to_take_over_that_then_fell_silent_says_that_it_is_standby() {
        use crate::cluster::state::{Giving, Stage};
        let mut w = World::armed(17, 1);
        assert!(w.has(1, Notice::Follows(w.cluster(0).term())), "that it began as the standby it has said, too");
        w.command(0, Command::Switchover).unwrap();
        w.until(ms(200), |w| matches!(w.cluster(0).giving, Some(Giving { stage: Stage::Take(_), .. })));
        w.power_off(1);
        w.until(ms(600), |w| w.cluster(0).role() == Role::Standby);
        assert!(w.has(0, Notice::HandOverFailed(NodeId(2), Refusal::TimedOut)));
        assert!(w.has(0, Notice::StoodDown(NodeId(2))));
        w.until(ms(500), |w| w.active() == [0] && w.answers(0));
    }

    #[test]
    fn a_word_to_take_the_role_that_comes_after_it_was_taken_back_is_not_obeyed() {
        let mut w = World::armed(18, 1);
        let (now, term) = (w.now, w.cluster(0).term());
        let mut giver = w.machines[0].cluster.take().unwrap();
        let mut taker = w.machines[1].cluster.take().unwrap();
        let mut told = |message| taker.handle(now, Input::Told { peer: NodeId(1), message }, &mut Vec::new());
        told(Message::Prepare { term, urgent: false });
        let mut out = Vec::new();
        giver.claim(now, Reason::Resumed, term.counter + 2, &mut out);
        giver.handle_timeout(now, &mut out);
        let beat = out.iter().find_map(|effect| match effect {
            Effect::Beat { path, beat, .. } => Some(Input::Beat { path: *path, beat: *beat }),
            _ => None,
        });
        taker.handle(now, beat.unwrap(), &mut Vec::new());
        assert_eq!(taker.term(), giver.term());
        taker.handle(
            now,
            Input::Told { peer: NodeId(1), message: Message::Take { term, counter: term.counter + 1 } },
            &mut out,
        );
        assert_eq!((taker.role(), taker.term()), (Role::Standby, giver.term()));
        let refused = Message::Refuse { term, why: Refusal::Withdrawn };
        assert!(out.contains(&Effect::Tell { peer: NodeId(1), message: refused }));
    }

    #[test]
    fn late_and_forged_steps_change_nothing() {
        let mut w = World::armed(12, 1);
        let term = w.cluster(0).term();
        for message in [
            Message::Take { term, counter: 99 },
            Message::Ready { term },
            Message::Taken { epoch: Epoch { counter: 50, node: NodeId(1) } },
            Message::Abort { term },
        ] {
            w.input(1, Input::Told { peer: NodeId(1), message });
            w.input(0, Input::Told { peer: NodeId(2), message });
        }
        w.input(0, Input::Flushed(1));
        w.run(ms(1_000));
        w.expect_pair();
        assert_eq!((w.active(), w.claims()), (vec![0], 1));
    }
}

/// Random faults.
mod seeds {
    use super::*;

    /// What may go wrong in a run.
    #[derive(Clone, Copy, Debug)]
    enum Kind {
        /// Processes end, hosts go, processes hang or stall; the network is sound.
        Nodes,
        /// The network is cut and healed in every way, beats are lost.
        Network,
        /// Everything.
        All,
    }

    fn fault(w: &mut World, kind: Kind) {
        let node = w.chance.between(0, 1) as usize;
        let node = if w.chance.one_in(2) { w.active().first().copied().unwrap_or(node) } else { node };
        let nodes = match kind {
            Kind::Nodes => true,
            Kind::Network => false,
            Kind::All => w.chance.one_in(2),
        };
        if nodes {
            match w.chance.between(0, 7) {
                0 | 1 if w.up(node) => {
                    w.kill(node);
                    let back = [ms(w.chance.between(5, 60)), ms(w.chance.between(60, 6_000))];
                    let back = back[usize::from(w.chance.one_in(2))];
                    w.later(back, Event::Start { node });
                }
                2 if w.up(node) => {
                    w.power_off(node);
                    let back = ms(w.chance.between(1_000, 8_000));
                    w.later(back, Event::Start { node });
                }
                3 => {
                    let time = ms(w.chance.between(36, 3_000));
                    w.hang(node, time);
                }
                4 if w.up(node) && !w.hung(node) => {
                    let _refused = w.command(node, Command::Switchover);
                }
                5 if w.up(node) && !w.hung(node) => {
                    let fitness = [Fitness::Fit, Fitness::Behind, Fitness::Faulty, Fitness::Fit];
                    let fitness = fitness[w.chance.between(0, 3) as usize];
                    w.input(node, Input::Fit(fitness));
                }
                _ => {
                    w.hang(0, ms(35));
                    w.hang(1, ms(35));
                }
            }
            return;
        }
        let on = w.chance.one_in(2);
        match w.chance.between(0, 7) {
            0 => w.cut_all(on),
            1 => w.cut_peer_link(on),
            2 => w.stream_cut = on,
            3 => {
                let (from, path) = (w.chance.between(0, 1) as usize, w.chance.between(0, 1) as usize);
                w.cut[from][path] = on;
            }
            4 => {
                w.cut[node] = [on; 2];
                w.lan_cut[node] = on;
            }
            5 => w.loss = if on { w.chance.between(0, 300) } else { 0 },
            6 if w.up(node) && !w.hung(node) => {
                w.machines[node].usable = on;
                w.input(node, Input::Usable(on));
            }
            _ if w.up(node) && !w.hung(node) => {
                w.machines[node].reach = [None, Some(true), Some(false)][w.chance.between(0, 2) as usize];
                let reach = w.machines[node].reach;
                w.input(node, Input::Reach(reach));
            }
            _ => {}
        }
        w.watch();
    }

    fn heal(w: &mut World) {
        w.note("everything is healed".into());
        w.cut = [[false; 2]; 2];
        w.lan_cut = [false; 2];
        (w.stream_cut, w.loss) = (false, 0);
        w.watch();
        w.run(ms(8_000));
        for node in 0..2 {
            (w.machines[node].usable, w.machines[node].reach) = (true, None);
            for input in [Input::Usable(true), Input::Reach(None), Input::Fit(Fitness::Fit)] {
                w.input(node, input);
            }
        }
        w.until(ms(8_000), World::is_pair);
        let (claims, overlap) = (w.claims(), w.overlap);
        w.run(ms(5_000));
        w.expect_pair();
        assert_eq!((w.claims(), w.overlap), (claims, overlap), "seed {}: stable", w.seed);
    }

    fn one(seed: u64, (mode, crossed): (HaMode, bool), kind: Kind) {
        let mut w = World::new(seed, 1 + (seed % 2) as u8);
        (w.mode, w.crossed) = (mode, crossed);
        w.strict = matches!(kind, Kind::Nodes) && mode == HaMode::ActiveStandby;
        w.policy = [Partition::Available, Partition::Exact, Partition::PreferLowerId][(seed % 3) as usize];
        let apart = ms(w.chance.between(0, 4_000));
        w.start((seed % 2) as usize);
        w.run(apart);
        w.start(1 - (seed % 2) as usize);
        w.until(ms(6_000), World::is_pair);
        for _ in 0..w.chance.between(3, 25) {
            let pause = ms(w.chance.between(1, 1_500));
            w.run(pause);
            fault(&mut w, kind);
        }
        heal(&mut w);
    }

    /// `TANDEM_CLUSTER_SEEDS=20000 cargo test --release --lib cluster::` runs more of them.
    fn many(kind: Kind) {
        let wanted = std::env::var("TANDEM_CLUSTER_SEEDS").ok();
        let seeds = wanted.map_or(120, |text| text.parse().expect("TANDEM_CLUSTER_SEEDS is a number"));
        for seed in 0..seeds {
            one(seed, (HaMode::ActiveStandby, false), kind);
            one(seed, (HaMode::ActiveActive, false), kind);
            one(seed, (HaMode::ActiveActive, true), kind);
        }
    }

    #[test]
    fn nodes_fail() {
        many(Kind::Nodes);
    }

    #[test]
    fn networks_fail() {
        many(Kind::Network);
    }

    #[test]
    fn everything_fails() {
        many(Kind::All);
    }
}

/// Active-active: a standby that serves beside the active node.
mod beside {
    use super::*;

    /// Both serve; the first one leads.
    fn both(seed: u64) -> World {
        let mut w = World::new(seed, 1);
        w.mode = HaMode::ActiveActive;
        w.start(0);
        w.run(ms(4_000));
        w.start(1);
        w.run(ms(1_000));
        w.expect_pair();
        assert_eq!(w.active(), [0]);
        w
    }

    #[test]
    fn a_standby_joins_once_each_holds_all_of_the_other() {
        let mut w = World::new(1, 1);
        w.mode = HaMode::ActiveActive;
        w.start(0);
        w.run(ms(4_000));
        w.start(1);
        w.until(ms(1_000), |w| w.cluster(1).role() == Role::Standby && w.link != 0);
        w.run(ms(5));
        assert_eq!(
            w.machines[1].relay,
            Some(NodeId(1)),
            "what comes to a node that does not serve goes to the one that does"
        );
        assert_eq!((w.machines[1].budget, w.machines[0].beside), (Some(Budget::Nothing), None));
        w.until(ms(1_000), World::is_pair);
        let (leads, joined) = (w.cluster(0).status(), w.cluster(1).status());
        assert!(joined.epoch > leads.epoch && joined.term == leads.epoch, "{joined:?}");
        assert!(w.has(1, Notice::Joined(leads.epoch)) && w.machines[1].yielded.is_empty());
        assert_eq!(joined.to_string(), "active beside member 1 (epoch 2); armed: nothing would be lost");
        w.run(ms(10_000));
        assert_eq!(w.claims(), 2, "and stays so");
    }

    #[test]
    fn what_a_killed_node_served_is_claimed_by_the_other_one_whoever_leads() {
        for killed in 0..2 {
            let mut w = both(2);
            let before = w.cluster(killed).status().epoch;
            w.kill(killed);
            let other = 1 - killed;
            let claims = w.machines[other].claims.len();
            let took = w.until(ms(200), |w| w.active() == [other] && w.machines[other].claims.len() > claims);
            assert!(took <= ms(35), "{took:?}");
            let id = w.machines[killed].id;
            let (owner, below) = *w.machines[other].adopted.last().unwrap();
            assert_eq!((owner, w.machines[other].whole), (id, Some(true)));
            assert!(below > before && below == w.cluster(other).status().epoch, "{below:?}");
            assert_eq!(w.machines[other].budget, Some(Budget::Whole));
            w.start(killed);
            w.until(ms(2_000), World::is_pair);
            assert_eq!(w.active(), [other], "who came back joins");
            assert!(w.machines[killed].yielded.is_empty());
        }
    }

    #[test]
    fn a_silent_node_is_replaced_after_the_lease_because_nobody_can_be_asked() {
        for off in 0..2 {
            let mut w = both(3);
            w.power_off(off);
            let other = 1 - off;
            let claims = w.machines[other].claims.len();
            let took = w.until(ms(3_000), |w| w.machines[other].claims.len() > claims);
            assert!((ms(2_280)..ms(2_500)).contains(&took), "{took:?}");
            assert_eq!(w.machines[other].adopted.last().unwrap().0, w.machines[off].id);
        }
    }

    #[test]
    fn two_that_were_cut_from_each_other_give_all_to_the_one_that_goes_on_and_both_serve() {
        let mut w = both(4);
        w.cut_all(true);
        w.run(ms(4_000));
        assert_eq!(w.active(), [0, 1], "each goes on with the calls of both");
        w.cut_all(false);
        w.until(ms(3_000), World::is_pair);
        let [leads] = w.active()[..] else { panic!("one leads") };
        assert_eq!(w.machines[1 - leads].yielded, [w.cluster(leads).status().epoch]);
        assert!(w.machines[leads].yielded.is_empty());
    }

    #[test]
    fn a_joined_node_that_stood_still_asks_and_goes_on_under_its_epoch() {
        let mut w = both(5);
        let epoch = w.cluster(1).status().epoch;
        w.hang(1, ms(200));
        w.until(ms(400), |w| !w.hung(1) && w.cluster(1).role() == Role::Asking);
        assert_eq!(w.cluster(1).authority(), Time::ZERO);
        w.until(ms(200), World::is_pair);
        assert_eq!((w.cluster(1).status().epoch, w.machines[1].yielded.len()), (epoch, 0));
        assert!(w.has(1, Notice::Confirmed(epoch)) && w.cluster(1).authority() > w.now);
    }

    #[test]
    fn a_joined_node_that_stood_still_for_longer_than_the_lease_gives_its_calls_away_and_joins_anew() {
        let mut w = both(6);
        w.hang(1, ms(3_000));
        w.run(ms(2_900));
        let claim = w.cluster(0).status().epoch;
        assert_eq!(w.machines[0].adopted.last(), Some(&(NodeId(2), claim)));
        w.until(ms(2_000), World::is_pair);
        assert_eq!(w.machines[1].yielded, [claim]);
        assert!(w.has(1, Notice::SteppedBack(claim)) && w.cluster(1).status().epoch > claim);
    }

    #[test]
    fn a_joined_node_that_stops_gives_its_calls_away_and_relays_before_it_leaves() {
        let mut w = both(7);
        w.command(1, Command::Stop).unwrap();
        w.run(ms(10));
        assert_eq!(w.machines[1].relay, Some(NodeId(1)));
        assert!(!w.machines[1].owes && w.cluster(1).role() == Role::Standby);
        assert_eq!(w.machines[1].yielded, [w.cluster(0).status().epoch]);
        w.until(ms(1_200), |w| w.machines[0].notices.contains(&Notice::PeerDead(NodeId(2), Death::Goodbye)));
        assert!(w.cluster(0).role() == Role::Active);
    }

    #[test]
    fn a_joined_node_that_is_cut_off_from_everybody_else_steps_back() {
        let mut w = both(8);
        w.machines[1].reach = Some(false);
        w.input(1, Input::Reach(Some(false)));
        w.until(ms(3_000), |w| w.cluster(1).role() == Role::Standby);
        w.run(ms(50));
        assert_eq!(w.machines[0].beside, None);
        w.machines[1].reach = Some(true);
        w.input(1, Input::Reach(Some(true)));
        w.until(ms(1_000), World::is_pair);
    }

    #[test]
    fn the_lead_can_be_handed_over_and_all_calls_with_it() {
        let mut w = both(9);
        w.command(0, Command::Switchover).unwrap();
        w.until(ms(1_000), |w| w.active() == [1]);
        w.until(ms(2_500), World::is_pair);
        assert_eq!(w.machines[0].yielded, [w.cluster(1).status().epoch]);
        assert!(w.machines[1].yielded.is_empty());
    }
}

/// Active-active where each node has addresses of its own.
mod guest {
    use super::*;

    /// Both serve, each at its own addresses; the first one leads.
    fn both(seed: u64) -> World {
        let mut w = World::new(seed, 2);
        (w.mode, w.crossed) = (HaMode::ActiveActive, true);
        w.start(0);
        w.run(ms(4_000));
        assert_eq!((w.machines[0].guest, w.answers(0)), (Wish::Hold, true), "alone it stands in for the other one");
        w.start(1);
        w.until(ms(1_000), |w| w.cluster(1).role() == Role::Joined);
        assert!(w.answers(1), "its own are announced before the other one is quiet about them");
        w.until(ms(30), |w| w.machines[0].guest == Wish::Quiet);
        w.run(ms(1_900));
        assert_eq!(w.machines[0].guest, Wish::Quiet, "who has not heard of it is still served");
        w.until(ms(200), World::is_pair);
        w
    }

    #[test]
    fn a_killed_node_is_stood_in_for_at_once_and_has_its_addresses_back() {
        for killed in 0..2 {
            let mut w = both(3);
            w.kill(killed);
            let other = 1 - killed;
            let took = w.until(ms(200), |w| w.machines[other].guest == Wish::Hold);
            assert!(took <= ms(35), "{took:?}");
            w.start(killed);
            w.until(ms(3_000), World::is_pair);
        }
    }

    #[test]
    fn a_host_that_is_gone_is_stood_in_for_once_nobody_answers_for_it() {
        for gone in 0..2 {
            let mut w = both(4);
            w.power_off(gone);
            let other = 1 - gone;
            let took = w.until(ms(1_000), |w| w.machines[other].guest == Wish::Hold);
            assert!(took <= ms(220), "{took:?}");
            assert!(w.answers(other));
        }
    }

    #[test]
    fn a_node_that_is_not_heard_and_answers_for_its_addresses_keeps_them() {
        let mut w = both(5);
        (w.cut, w.stream_cut) = ([[true; 2]; 2], true);
        w.run(ms(20_000));
        for n in 0..2 {
            assert!(w.answers(n) && w.machines[n].guest == Wish::Drop, "node {n}");
        }
    }

    #[test]
    fn a_node_that_leaves_is_stood_in_for_before_it_lets_go() {
        for leaving in 0..2 {
            let mut w = both(6);
            w.input(leaving, Input::Command(Command::Stop));
            let other = 1 - leaving;
            w.until(ms(500), |w| w.machines[other].guest == Wish::Hold);
            assert!(w.machines[leaving].present, "quiet, and handed on");
            assert_eq!(w.machines[leaving].relay, Some(w.machines[other].id));
            w.until(ms(2_500), |w| w.machines[leaving].done);
        }
    }

    #[test]
    fn addresses_of_the_peer_that_were_taken_away_are_put_back_under_a_new_epoch() {
        let mut w = both(7);
        w.kill(1);
        w.until(ms(200), |w| w.machines[0].guest == Wish::Hold);
        let lose = |w: &mut World| {
            let claims = w.claims();
            w.machines[0].guest = Wish::Drop;
            w.input(0, Input::GuestDropped);
            let took = w.until(ms(6_000), |w| w.machines[0].guest == Wish::Hold);
            assert_eq!(w.claims(), claims + 1);
            took
        };
        assert!(lose(&mut w) < ms(30), "at once");
        w.run(ms(1_000));
        assert!(lose(&mut w) > ms(3_900), "and not in a circle");
    }
}

/// `cluster.partition = "witness"`: a witness as a third party, whose ways to the nodes may be cut.
mod witness {
    use super::*;

    /// How often a node asks while it wants the same.
    const AGAIN: Duration = Duration::from_millis(500);
    /// How long it waits for an answer.
    const PATIENCE: Duration = Duration::from_millis(200);
    const REFUSES: Notice = Notice::Witness(WitnessNews::Refuses);
    const ADMITS: Notice = Notice::Witness(WitnessNews::Admits);

    impl World {
        /// A node wants something else of the witness.
        pub(super) fn wants(&mut self, node: usize, ask: Ask) {
            let m = &mut self.machines[node];
            (m.ask, m.asks) = (Some(ask), m.asks + 1);
            let asks = m.asks;
            self.later(Duration::ZERO, Event::Ask { node, asks });
        }

        pub(super) fn ask_witness(&mut self, node: usize, asks: u64) {
            let m = &mut self.machines[node];
            let Some(ask) = m.ask.filter(|_| m.asks == asks && m.cluster.is_some()) else { return };
            self.later(AGAIN, Event::Ask { node, asks });
            if self.hung(node) {
                return;
            }
            let (now, life) = (self.now, self.machines[node].life);
            let (after, word) = if self.witness_cut[node] {
                (PATIENCE, None)
            } else {
                self.machines[node].serial += 1;
                let (id, serial) = (self.machines[node].id, self.machines[node].serial);
                let reply = self.keeper.ask(now, "c", id, serial, ask).unwrap();
                (ms(self.chance.between(1, 20)), Some(reply.word(now, LEASE)))
            };
            self.later(after, Event::Input { node, life, input: Input::Witness(word) });
        }

        /// What a node may spend at this instant, if it runs.
        fn spends(&self, node: usize) -> Budget {
            let m = &self.machines[node];
            let may = m.cluster.as_ref().is_some_and(|c| self.now <= c.authority()) && !self.hung(node);
            m.budget.filter(|_| may).unwrap_or(Budget::Nothing)
        }

        /// Never does one spend everything while the other one spends anything.
        fn expect_one_spender(&self) {
            let spends = [0, 1].map(|n| self.spends(n));
            let proved = |n: usize| {
                let dead = |c: &Cluster| matches!(c.status().peers[0].health, Health::Dead(_));
                self.machines[n].cluster.as_ref().is_some_and(dead)
            };
            // Of a next life that nobody hears a proof of death says nothing.
            if proved(0) || proved(1) {
                return;
            }
            if spends.contains(&Budget::Whole) && !spends.contains(&Budget::Nothing) {
                self.fail(&format!("both spend: {spends:?}"));
            }
        }

        fn run_watched(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                self.run(ms(1));
                self.expect_one_spender();
            }
        }

        fn held(&self) -> [bool; 2] {
            [0, 1].map(|n| self.cluster(n).status().witness.unwrap().held)
        }
    }

    /// An armed pair with a witness; the first node leads.
    fn witnessed(mode: HaMode) -> World {
        let mut w = World::new(3, 1);
        (w.policy, w.mode) = (Partition::Witness, mode);
        w.start(0);
        w.run_watched(ms(4_000));
        w.start(1);
        w.run_watched(ms(2_000));
        w.expect_pair();
        assert_eq!((w.active(), w.held()), (vec![0], [true, false]));
        w
    }

    fn budgets(w: &World) -> [Budget; 2] {
        [0, 1].map(|n| w.spends(n))
    }

    #[test]
    fn in_a_cut_the_holder_spends_all_and_the_other_one_nothing() {
        for mode in [HaMode::ActiveStandby, HaMode::ActiveActive] {
            let mut w = witnessed(mode);
            w.cut_all(true);
            w.run_watched(ms(3_000));
            assert_eq!((w.active(), budgets(&w)), (vec![0, 1], [Budget::Whole, Budget::Nothing]), "{mode:?}");
            assert!(w.has(1, REFUSES) && !w.has(0, REFUSES));
            assert!(w.machines.iter().all(|m| m.unheard.is_empty()), "each knew all of the other one");
            w.cut_all(false);
            w.run_watched(ms(4_000));
            w.expect_pair();
            assert!(w.has(1, ADMITS));
            let leads = w.active()[0];
            assert_eq!(w.held(), [leads == 0, leads == 1], "the lease follows who leads");
        }
    }

    #[test]
    fn the_survivor_of_a_lost_host_spends_all_once_the_lease_has_ended() {
        for mode in [HaMode::ActiveStandby, HaMode::ActiveActive] {
            let mut w = witnessed(mode);
            w.cut_all(true);
            w.power_off(0);
            let died = w.now;
            w.until(ms(5_000), |w| w.spends(1) == Budget::Whole);
            let took = w.now.since(died);
            assert!(took < LEASE + AGAIN + ms(100) && took > LEASE - AGAIN, "{mode:?}: {took:?}");
            assert!(w.machines[1].unheard.is_empty(), "it was armed");
        }
    }

    #[test]
    fn a_proved_death_needs_no_witness() {
        let mut w = witnessed(HaMode::ActiveStandby);
        w.witness_cut = [true; 2];
        w.kill(0);
        w.until(ms(100), |w| w.spends(1) == Budget::Whole);
    }

    #[test]
    fn without_the_witness_nobody_goes_on_in_a_cut_and_a_pair_that_is_whole_keeps_to_shares() {
        for mode in [HaMode::ActiveStandby, HaMode::ActiveActive] {
            let mut w = witnessed(mode);
            w.witness_cut = [true; 2];
            w.run_watched(ms(4_000));
            assert!((0..2).all(|n| w.has(n, Notice::Witness(WitnessNews::Silent))));
            let other = if mode == HaMode::ActiveActive { Budget::Floor } else { Budget::Nothing };
            assert_eq!((budgets(&w), w.held()), ([Budget::Floor, other], [false; 2]), "{mode:?}");
            w.cut_all(true);
            w.run_watched(ms(3_000));
            assert_eq!(budgets(&w), [Budget::Nothing; 2], "{mode:?}");
            w.witness_cut[1] = false;
            w.run_watched(ms(1_000));
            assert_eq!(budgets(&w), [Budget::Nothing, Budget::Whole], "{mode:?}");
            assert!(w.has(1, Notice::Witness(WitnessNews::Answers)) && w.has(1, ADMITS));
        }
    }

    #[test]
    fn who_gets_the_lease_after_the_other_one_went_on_alone_leaves_everything_alone_that_it_does_not_know() {
        let mut w = witnessed(HaMode::ActiveStandby);
        w.cut_all(true);
        w.run_watched(ms(3_000));
        w.witness_cut[0] = true;
        w.run_watched(ms(5_000));
        assert_eq!(budgets(&w), [Budget::Nothing, Budget::Whole]);
        assert_eq!(w.machines[1].unheard, [(NodeId(1), Budget::Whole)]);
    }

    #[test]
    fn a_cut_of_one_direction_lets_one_go_on() {
        for deaf in 0..2 {
            let mut w = witnessed(HaMode::ActiveActive);
            w.cut[1 - deaf] = [true; 2];
            w.run_watched(ms(4_000));
            // The one that hears has met a higher claim if the other one made it, and gives the lease back.
            let want = if deaf == 0 { [Budget::Whole, Budget::Nothing] } else { [Budget::Nothing, Budget::Whole] };
            assert_eq!(budgets(&w), want, "{deaf} hears nothing");
        }
    }

    #[test]
    fn a_hand_over_takes_the_lease_along() {
        let mut w = witnessed(HaMode::ActiveStandby);
        w.command(0, Command::Switchover).unwrap();
        w.until(ms(1_000), |w| w.active() == [1]);
        assert_eq!(w.spends(1), Budget::Floor, "calls are taken at once");
        w.run_watched(ms(600));
        assert_eq!((w.held(), budgets(&w)), ([false, true], [Budget::Nothing, Budget::Whole]));
    }

    #[test]
    fn a_keeper_that_starts_anew_is_no_reason_to_refuse_a_call() {
        let mut w = witnessed(HaMode::ActiveStandby);
        w.keeper = Keeper::new(w.now);
        for _ in 0..8_000 {
            w.run_watched(ms(1));
            assert_ne!(w.spends(0), Budget::Nothing);
        }
        assert_eq!((w.held(), w.spends(0)), ([true, false], Budget::Whole));
    }

    /// Cuts of everything, of one direction and of the ways to the witness; hangs, deaths, restarts of all three.
    fn history(seed: u64) -> u32 {
        let mut w = World::new(seed, 1);
        w.policy = Partition::Witness;
        w.mode = if seed.is_multiple_of(2) { HaMode::ActiveStandby } else { HaMode::ActiveActive };
        w.start(0);
        w.run_watched(ms(seed % 700));
        w.start(1);
        w.run_watched(ms(6_000));
        let mut alone = 0;
        for _ in 0..12 {
            let node = w.chance.between(0, 1) as usize;
            match w.chance.between(0, 9) {
                0 | 1 => w.cut_all(true),
                2 => w.cut[node] = [true; 2],
                3 => w.stream_cut = true,
                4 | 5 => w.witness_cut[node] ^= true,
                6 => w.keeper = Keeper::new(w.now),
                7 => {
                    let time = ms(w.chance.between(50, 4_000));
                    w.hang(node, time);
                }
                8 if w.up(node) => {
                    w.kill(node);
                    let after = ms(w.chance.between(10, 5_000));
                    w.later(after, Event::Start { node });
                }
                _ => w.cut_all(false),
            }
            let time = ms(w.chance.between(20, 5_000));
            w.run_watched(time);
            alone += u32::from(budgets(&w) == [Budget::Whole, Budget::Nothing] && w.stream_cut);
        }
        w.cut_all(false);
        w.witness_cut = [false; 2];
        w.run_watched(ms(70_000));
        w.expect_pair();
        alone
    }

    #[test]
    fn two_never_spend_at_once_and_one_is_left_in_the_end() {
        let alone: u32 = (0..120).map(history).sum();
        assert!(alone > 40, "{alone}");
    }
}

mod modes {
    use super::*;

    const MODES: [HaMode; 3] = [HaMode::None, HaMode::ActiveStandby, HaMode::ActiveActive];

    /// A crossed pair that has settled in this mode.
    fn pair(seed: u64, mode: HaMode) -> World {
        let mut w = World::new(seed, 1);
        (w.mode, w.crossed) = (mode, true);
        w.start(0);
        w.start(1);
        w.until(ms(20_000), |w| settled(w, mode));
        w
    }

    /// Both nodes are in the mode and do what it says.
    fn settled(w: &World, mode: HaMode) -> bool {
        let agreed = (0..2).all(|n| w.up(n) && w.cluster(n).status().mode == mode && w.cluster(n).status().mode_agreed);
        let [leads] = w.active()[..] else { return false };
        let other = 1 - leads;
        let role = if mode == HaMode::ActiveActive { Role::Joined } else { Role::Standby };
        let lanes = mode != HaMode::None;
        agreed
            && w.cluster(other).role() == role
            && w.machines.iter().all(|m| {
                m.lanes == lanes
                    && m.wish != Wish::Quiet
                    && (lanes || m.relay.is_none() || m.id != w.machines[leads].id)
            })
            && (0..2).all(|n| w.cluster(n).status().armed == lanes)
            && (w.machines[leads].lead, w.machines[other].lead) == (Wish::Hold, Wish::Drop)
            && (w.machines[leads].guest == Wish::Hold) == (mode != HaMode::ActiveActive)
            && w.answers(other) == (mode == HaMode::ActiveActive)
    }

    fn set(w: &mut World, node: usize, mode: HaMode) {
        // Until each has heard what the other one is now.
        w.run(ms(50));
        assert_eq!(w.command(node, Command::SetMode(mode)), Ok(()));
        w.until(ms(10_000), |w| settled(w, mode));
    }

    #[test]
    fn every_mode_leads_to_every_other_one_but_none_from_where_both_serve() {
        for node in 0..2 {
            let mut w = pair(40 + node as u64, HaMode::None);
            let leads = w.active()[0];
            let to = [
                HaMode::ActiveStandby,
                HaMode::ActiveActive,
                HaMode::ActiveStandby,
                HaMode::None,
                HaMode::ActiveActive,
            ];
            for mode in to {
                set(&mut w, node, mode);
                assert_eq!(w.active(), [leads], "who is active stays it");
            }
            let budget = w.machines[leads].budget;
            assert_eq!(w.cluster(leads).permits(HaMode::None), Err(Refusal::PeerServes));
            assert_eq!(budget, Some(Budget::Floor));
        }
    }

    #[test]
    fn in_none_one_node_spends_all_and_nobody_takes_over() {
        let mut w = pair(44, HaMode::ActiveStandby);
        let leads = w.active()[0];
        set(&mut w, 0, HaMode::None);
        assert_eq!(
            (w.machines[leads].budget, w.machines[1 - leads].budget),
            (Some(Budget::Whole), Some(Budget::Nothing))
        );
        assert_eq!(w.command(leads, Command::Switchover), Err(Refusal::Apart));
        w.kill(leads);
        w.run(ms(10_000));
        assert_eq!((w.active(), w.cluster(1 - leads).role()), (vec![], Role::Standby), "nobody");
        w.start(leads);
        w.until(ms(10_000), |w| settled(w, HaMode::None));
        assert_eq!(w.active(), [leads], "it remembers that it is the one");
    }

    #[test]
    fn who_served_at_the_switch_serves_alone_also_after_restarts() {
        let mut w = pair(45, HaMode::ActiveStandby);
        let leads = w.active()[0];
        assert_eq!(w.command(leads, Command::Switchover), Ok(()));
        w.until(ms(5_000), |w| w.active() == [1 - leads] && settled(w, HaMode::ActiveStandby));
        set(&mut w, leads, HaMode::None);
        w.kill(0);
        w.kill(1);
        w.run(ms(500));
        w.start(leads);
        w.run(ms(8_000));
        assert!(w.active().is_empty(), "it stood by");
        w.start(1 - leads);
        w.until(ms(10_000), |w| settled(w, HaMode::None));
        assert_eq!(w.active(), [1 - leads]);
    }

    #[test]
    fn a_node_that_was_not_there_follows_when_it_is_back() {
        for mode in MODES {
            let mut w = pair(46, HaMode::ActiveStandby);
            let leads = w.active()[0];
            w.kill(1 - leads);
            w.until(ms(5_000), |w| matches!(w.cluster(leads).status().peers[0].health, Health::Dead(_)));
            assert_eq!(w.command(leads, Command::SetMode(mode)), Ok(()));
            assert_eq!(w.cluster(leads).status().mode, mode, "nobody has to be asked");
            w.start(1 - leads);
            w.until(ms(10_000), |w| settled(w, mode));
        }
    }

    #[test]
    fn what_cannot_be_switched_stays_on_both() {
        let mut w = pair(47, HaMode::ActiveStandby);
        let leads = w.active()[0];
        let both = |w: &World| [0, 1].map(|n| w.cluster(n).status().mode);
        w.hang(1 - leads, ms(800));
        assert_eq!(w.command(leads, Command::SetMode(HaMode::ActiveActive)), Ok(()), "asked");
        let refused = |w: &World| w.cluster(leads).status().mode_refused.is_some();
        w.until(ms(3_000), refused);
        assert_eq!(w.cluster(leads).status().mode_refused, Some(Refusal::TimedOut));
        w.run(ms(3_000));
        assert_eq!(both(&w), [HaMode::ActiveStandby; 2], "a late word changes nothing");
        w.cut_all(true);
        w.run(ms(300));
        assert_eq!(w.command(leads, Command::SetMode(HaMode::ActiveActive)), Err(Refusal::NoPeer));
        w.cut_all(false);
        w.until(ms(10_000), |w| settled(w, HaMode::ActiveStandby));
        set(&mut w, 1 - leads, HaMode::ActiveActive);
    }

    #[test]
    fn a_switch_may_meet_any_death() {
        for seed in 0..120 {
            let from = MODES[seed as usize % 3];
            let mut w = pair(1_000 + seed, from);
            let to = MODES[(seed as usize / 3) % 3];
            let (asked, dies) = ((seed as usize / 9) % 2, (seed as usize / 18) % 2);
            let _refused = w.command(asked, Command::SetMode(to));
            w.run(Duration::from_micros(seed * 137 % 9_000));
            w.kill(dies);
            w.run(ms(seed % 40 * 100));
            w.start(dies);
            let before = [0, 1].map(|n| w.up(n).then(|| w.cluster(n).status().mode));
            w.until(ms(30_000), |w| settled(w, w.cluster(0).status().mode));
            let mode = w.cluster(0).status().mode;
            assert!(mode == from || mode == to, "seed {seed}: {from} to {to}, {before:?}");
        }
    }
}
