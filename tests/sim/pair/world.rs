//! The world of a pair: two nodes, callers, media servers, a LAN on which one address moves, and what lies between the
//! nodes; one clock, one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tandem::agent::caller::{self, Caller};
use tandem::agent::chance::Chance;
use tandem::agent::media_server::{self, Behaviour, MediaServer, Mood};
use tandem::agent::script::{Outcome, Plan, Report};
use tandem::base::{Bucket, Epoch, Flow, LegId, NodeId, Time, table_hash};
use tandem::cluster::{self, Ask, Effect, Keeper, LEASE as WITNESSED, Link, Loss, Notice, Partition, Role, Wish};
use tandem::node::{Command, Input, Node, Single};
use tandem::out::{Event as Fact, Out};
use tandem::proxy::Commit;
use tandem::replica::{Kind, Stream, relay};

use super::machine::{Machine, Waiting};
use super::scenario::{
    Act, CALLERS, HOSTS, LAST_CALLS, SAFETY, SETTLED, Scenario, Side, Spread, TIMING, Who, own_addr,
};
use super::wire::{Event, Wire};
use crate::check::Check;
use crate::model::{History, Model};
use crate::net::{Net, Packet, Weather};
use crate::scenario::{SERVERS, Settings, caller_addr, node_addr, resource_of, server_addr, service_addr};

const STEPS_AT_ONCE: usize = 20_000;
/// Older datagrams are thrown away by who wakes up.
const LEASE: Duration = Duration::from_millis(2_300);
/// A node that goes on may not notice the silence of its peer for so long: suspicion, and its right to act without a look.
const UNNOTICED: Duration = Duration::from_millis(250);
/// What it takes to put the address up.
const HOLD: Duration = Duration::from_micros(300);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The number of an address by which callers know nodes: that of the pair is the first.
fn address_of(addr: std::net::SocketAddr) -> Option<usize> {
    let own = (0..2).find(|n| service_addr(*n) == addr);
    own.or_else(|| (addr == node_addr()).then_some(0))
}

fn call_id(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().find_map(|line| line.strip_prefix("Call-ID: ")).unwrap_or_default().to_owned()
}

/// Who writes into [`Out`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Machine(usize),
    Host(usize),
}

/// Who acts next.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Wire,
    Net,
    Script,
    Node(usize),
    Pair(usize),
    Caller(usize),
    Server(usize),
}

/// Something that may excuse the loss of a call.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub at: Time,
    /// When the pair was armed again.
    pub until: Time,
    /// The pair was armed and nothing else was wrong: no call may be lost.
    pub single: bool,
}

pub struct World {
    pub now: Time,
    pub seed: u64,
    pub loud: bool,
    pub machines: [Machine; 2],
    pub callers: Vec<Caller>,
    pub servers: Vec<MediaServer>,
    pub net: Net,
    pub wire: Wire,
    out: Out,
    acts: std::vec::IntoIter<(Time, Act)>,
    next_act: Option<(Time, Act)>,
    scenario: Scenario,
    settings: Settings,
    /// Who each host believes to hold the virtual address, or that of each node.
    pub arp: [[usize; 2]; HOSTS],
    /// Where each host is while the nodes are cut from each other.
    part: Option<[Side; HOSTS]>,
    /// By host and Call-ID: the machine that a host on both sides heard of the call from.
    paths: BTreeMap<(usize, String), usize>,
    check: Check,
    pub model: Model,
    pub faults: Vec<Fault>,
    epochs: BTreeSet<Epoch>,
    ended: BTreeMap<LegId, Time>,
    draining: bool,
    /// A node has claimed and nobody remembered the calls of before.
    cold: bool,
    /// Nodes that each have their own address have not heard each other, and none has claimed.
    unheard: bool,
    ports: [Option<u32>; SERVERS],
    pub reports: Vec<Report>,
    pub summary: Summary,
    compared: Time,
    /// For named cases: every message that left, with its sender.
    pub sent: Option<Vec<(Flow, String)>>,
    keeper: Keeper,
    /// Since when the nodes do not hear each other.
    apart: Option<Time>,
    /// By server: INVITEs that went there before a node noticed that nobody hears of them any more.
    unnoticed: [usize; SERVERS],
    /// A node has taken a server for dead.
    fell: bool,
    /// The servers that are configured have changed.
    reseated: bool,
    /// What a balancer believes of the machines, since it looked last.
    healthy: [bool; 2],
}

/// What one run says when it went well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub trace: u64,
    pub calls: u64,
    pub completed: u64,
    /// Took place although something failed meanwhile, and nothing excuses the opposite.
    pub through_faults: u64,
    pub taken_over: u64,
    pub held: u64,
    pub claims: u64,
    pub relayed: u64,
    pub divergent: u64,
    pub compared: u64,
    /// Calls whose end two nodes told.
    pub ended_twice: u64,
    /// How often calls were seen that belong together.
    pub together: u64,
}

impl World {
    pub fn new(seed: u64, loud: bool, mut scenario: Scenario) -> Self {
        let mut chance = Chance::new(seed ^ 0x7461_6e64_656d);
        let callers = (0..CALLERS).map(|n| {
            let (name, addr, transport) = (format!("c{n}"), caller_addr(n), tandem::base::Transport::Udp);
            let node = if scenario.crossed { service_addr(n % 2) } else { node_addr() };
            let backup = scenario.crossed.then(|| service_addr((n + 1) % 2));
            Caller::new(caller::Config { name, addr, transport, node, backup, timing: TIMING })
        });
        let servers = (0..SERVERS).map(|n| {
            let (name, addr) = (format!("m{n}"), server_addr(n));
            MediaServer::new(media_server::Config { name, addr, timing: TIMING, seed: seed ^ n as u64 })
        });
        let mut acts = std::mem::take(&mut scenario.acts).into_iter();
        let mut world = Self {
            now: Time::from_micros(1),
            seed,
            loud,
            machines: [Machine::new(1), Machine::new(2)],
            callers: callers.collect(),
            servers: servers.collect(),
            net: Net::new(scenario.weather.clone(), chance.fork()),
            wire: Wire::new(chance.fork(), scenario.beats_lost, scenario.delay),
            out: Out::new(),
            next_act: acts.next(),
            acts,
            settings: scenario.settings.clone(),
            ports: scenario.settings.members.map(|member| member.unwrap_or(Some(0))),
            arp: [if scenario.crossed { [0, 1] } else { [0; 2] }; HOSTS],
            part: None,
            paths: BTreeMap::new(),
            check: Check::new(),
            model: Model::default(),
            faults: vec![Fault { at: Time::ZERO, until: Time::NEVER, single: false }],
            epochs: BTreeSet::new(),
            ended: BTreeMap::new(),
            draining: false,
            cold: false,
            unheard: false,
            reports: Vec::new(),
            summary: Summary::default(),
            compared: Time::ZERO,
            sent: None,
            keeper: Keeper::new(Time::ZERO),
            apart: None,
            unnoticed: [0; SERVERS],
            fell: false,
            reseated: false,
            healthy: [true; 2],
            scenario,
        };
        world.check.both = world.scenario.both_serve();
        let shared = world.scenario.spread.is_some();
        world.machines.iter_mut().for_each(|machine| (machine.shared, machine.present) = (shared, shared));
        world.wire.at(Time::from_micros(1), Event::Start { node: 0 });
        world.wire.at(Time::ZERO + world.scenario.second, Event::Start { node: 1 });
        world.wire.at(Time::from_micros(2), Event::Link);
        world
    }

    /// A pair that is armed and has nothing to do; node 0 is active, or both are.
    pub fn armed(seed: u64) -> Self {
        Self::armed_in(seed, Scenario::quiet())
    }

    pub fn armed_in(seed: u64, scenario: Scenario) -> Self {
        let mut world = World::new(seed, std::env::var("TANDEM_SIM_LOUD").is_ok(), scenario);
        world.run_until(ms(10_000), World::is_pair);
        let both = world.scenario.both_serve();
        assert_eq!(world.active(), if both { None } else { Some(0) });
        world
    }

    pub fn run(mut self) -> Summary {
        let (mut instant, mut steps) = (Time::ZERO, 0);
        while let Some((at, turn)) = self.next().filter(|(at, _)| *at < Time::ZERO + SETTLED) {
            steps = if at > instant { 0 } else { steps + 1 };
            instant = instant.max(at);
            self.ensure(steps < STEPS_AT_ONCE, || format!("{turn:?} does not come to rest"));
            self.step(at, turn);
            if self.over() {
                break;
            }
        }
        self.end();
        self.summary
    }

    /// Runs until `done`, at most `limit`.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&World) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            let Some((at, turn)) = self.next().filter(|(at, _)| *at <= end) else {
                self.fail("a condition did not come true in time");
            };
            self.step(at, turn);
        }
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, turn)) = self.next().filter(|(at, _)| *at <= end) {
            self.step(at, turn);
        }
        self.now = end;
    }

    /// Runs up to the next step that concerns calls, and through it.
    pub fn step_of_calls(&mut self) {
        while let Some((at, turn)) = self.next() {
            if self.step(at, turn) {
                return;
            }
        }
    }

    /// Whether it concerned calls.
    fn step(&mut self, at: Time, turn: Turn) -> bool {
        self.now = self.now.max(at);
        let quiet = self.act(turn);
        self.settle(quiet);
        !quiet
    }

    fn next(&self) -> Option<(Time, Turn)> {
        let mut next: Option<(Time, Turn)> = None;
        let mut offer = |at: Option<Time>, turn| {
            if let Some(at) = at.filter(|at| *at < Time::NEVER && next.is_none_or(|(first, _)| *at < first)) {
                next = Some((at, turn));
            }
        };
        offer(self.wire.next(), Turn::Wire);
        offer(self.net.next(), Turn::Net);
        offer(self.next_act.as_ref().map(|(at, _)| *at), Turn::Script);
        for (n, machine) in self.machines.iter().enumerate().filter(|(_, m)| !m.hung()) {
            offer(machine.node.as_ref().and_then(|node| node.next_timeout()).map(|(at, _)| at), Turn::Node(n));
            offer(machine.node.as_ref().and_then(Node::next_pair_timeout), Turn::Pair(n));
        }
        self.callers.iter().enumerate().for_each(|(n, caller)| offer(caller.next_timeout(), Turn::Caller(n)));
        self.servers.iter().enumerate().for_each(|(n, server)| offer(server.next_timeout(), Turn::Server(n)));
        next
    }

    /// Whether nothing about calls has happened.
    fn act(&mut self, turn: Turn) -> bool {
        let now = self.now;
        match turn {
            Turn::Wire => {
                let Some(event) = self.wire.take() else { return true };
                return self.happen(event);
            }
            Turn::Net => {
                if let Some(packet) = self.net.receive() {
                    self.deliver(packet);
                }
            }
            Turn::Script => {
                if let Some((_, act)) = std::mem::replace(&mut self.next_act, self.acts.next()) {
                    self.play(act);
                }
            }
            Turn::Node(n) => {
                let machine = &mut self.machines[n];
                if let Some(node) = &machine.node {
                    node.handle_timeout(now, &mut machine.scratch, &mut self.out);
                }
                self.flush(Source::Machine(n));
            }
            Turn::Pair(n) => {
                self.pair_turn(n);
                return true;
            }
            Turn::Caller(n) => {
                self.callers[n].handle_timeout(now, &mut self.out);
                self.flush(Source::Host(n));
            }
            Turn::Server(n) => {
                self.servers[n].handle_timeout(now, &mut self.out);
                self.flush(Source::Host(CALLERS + n));
            }
        }
        false
    }

    fn pair_turn(&mut self, n: usize) {
        if let Some(node) = &self.machines[n].node {
            node.pair_timeout(self.now, &mut self.out);
        }
        self.flush(Source::Machine(n));
    }

    fn pair_input(&mut self, n: usize, input: cluster::Input) {
        if self.machines[n].hung() {
            return self.machines[n].backlog.push_back(Waiting::Pair(input));
        }
        self.machines[n].handle(self.now, Input::Pair(input), &mut self.out);
        self.flush(Source::Machine(n));
    }

    fn happen(&mut self, event: Event) -> bool {
        match event {
            Event::Beat { to, path, beat } => {
                if self.machines[to].up() {
                    self.pair_input(to, cluster::Input::Beat { path: tandem::base::PathId(path), beat });
                }
                return true;
            }
            Event::Frame { to, link, stream, kind, payload } => {
                if self.wire.is_cut() && link == self.wire.link {
                    self.wire.resend(self.now, to, link, stream, kind, payload);
                } else if link == self.wire.link || (self.wire.link == 0 && link == self.wire.links) {
                    self.hear(to, link, stream, kind, payload);
                }
                return false;
            }
            Event::Room { node, link } => {
                if link == self.wire.link {
                    self.take(node, &Waiting::Room);
                }
            }
            Event::Input { node, life, input } => {
                if self.machines[node].life == life {
                    self.pair_input(node, input);
                    if matches!(input, cluster::Input::Link { event: Link::Up { .. }, .. }) {
                        self.take(node, &Waiting::Room);
                    }
                }
            }
            Event::Down { node, life, links, loss } => {
                if self.machines[node].life == life && self.wire.links == links {
                    let peer = self.machines[1 - node].id;
                    self.pair_input(node, cluster::Input::Link { peer, event: Link::Down(loss) });
                }
            }
            Event::Probe { node, life } => {
                let meet = self.part.is_none() && self.machines.iter().all(|machine| machine.plugged);
                let held = self.machines[1 - node].answers() && meet && !self.machines[node].shared;
                let address = if held { cluster::Answer::Somebody } else { cluster::Answer::Nobody };
                if self.machines[node].life == life {
                    self.pair_input(node, cluster::Input::Probed { address, reference: None });
                }
            }
            Event::Guard { node, life, stall } => {
                let machine = &mut self.machines[node];
                if machine.life == life && machine.stall == stall && !machine.turns() {
                    machine.give_up();
                }
            }
            Event::Held { node, life, epoch } => {
                let machine = &mut self.machines[node];
                if machine.life == life && machine.up() && machine.holds(epoch) {
                    machine.present = true;
                    self.announce_twice(node);
                    self.wire.at(self.now, Event::Told { node, life, epoch });
                }
            }
            Event::Told { node, life, epoch } => {
                let machine = &self.machines[node];
                match &machine.node {
                    Some(_) if machine.life != life || !machine.holds(epoch) => {}
                    Some(tandem) if !machine.hung() => tandem.addresses(self.now, true),
                    Some(_) => self.wire.at(self.now + ms(1), Event::Told { node, life, epoch }),
                    None => {}
                }
            }
            Event::Dropped { node, life } => {
                if self.machines[node].life == life {
                    self.pair_input(node, cluster::Input::Dropped);
                }
            }
            Event::Ask { node, asks } => self.ask_witness(node, asks),
            Event::Asked { node, life, serial, ask } => self.witness(node, life, serial, ask),
            Event::Link => self.look_after_link(),
            Event::Resume { node, stall } => {
                if self.machines[node].stall == stall {
                    self.resume(node);
                }
            }
            Event::Start { node } => self.start(node),
            Event::Leave { node, life } => self.leave(node, life),
            Event::Plug { node } => self.plug(node),
            Event::Arp { host, address, holder } => self.arp[host][address] = holder,
            Event::StandsIn { node, life } => {
                let machine = &mut self.machines[node];
                if machine.life == life && machine.turns() && machine.guest == Wish::Hold {
                    machine.stands_in = true;
                    self.announce_twice(node);
                }
            }
            Event::Again { node, life } => {
                if self.machines[node].life == life {
                    self.announce(node);
                }
            }
        }
        true
    }

    fn hear(&mut self, to: usize, link: u64, stream: Stream, kind: tandem::replica::Kind, payload: Vec<u8>) {
        if stream == Stream::Bulk && link == self.wire.link && self.wire.carried(1 - to, payload.len()) {
            self.wire.at(self.now + ms(1), Event::Room { node: 1 - to, link });
        }
        if !self.machines[to].up() {
            return;
        }
        self.take(to, &Waiting::Frame(kind, payload));
    }

    fn take(&mut self, node: usize, waiting: &Waiting) {
        let machine = &mut self.machines[node];
        if machine.hung() {
            return machine.backlog.push_back(waiting.clone());
        }
        let peer = self.machines[1 - node].id;
        let octets = if matches!(waiting, Waiting::Room) { self.wire.room(node) } else { 0 };
        self.machines[node].take(self.now, waiting, peer, octets, &mut self.out);
        self.flush(Source::Machine(node));
    }

    fn start(&mut self, node: usize) {
        if self.machines[node].up() {
            return;
        }
        let machine = &mut self.machines[node];
        machine.life += 1;
        machine.durable += 1;
        let (incarnation, counter) = (machine.incarnation(), machine.durable);
        let mode = machine.mode;
        let config = self.scenario.config(&self.settings, node, self.seed, (incarnation, counter), mode);
        self.note(|| format!("{node} starts"));
        self.machines[node].start(self.now, config);
        self.pair_turn(node);
        self.pair_input(node, cluster::Input::Usable(self.machines[node].plugged));
        self.pair_input(node, cluster::Input::Reach(None));
        if self.draining {
            self.machines[node].handle(self.now, Input::Command(Command::Drain), &mut self.out);
            self.flush(Source::Machine(node));
        }
    }

    /// The process ends without a word; its guard and its kernel live.
    pub fn crash(&mut self, node: usize, again: Duration) {
        if !self.machines[node].up() {
            return;
        }
        self.note(|| format!("{node} crashes"));
        self.fault(Some(node));
        self.machines[node].end();
        let (life, stall) = (self.machines[node].life, self.machines[node].stall);
        self.wire.at(self.now + ms(5), Event::Guard { node, life, stall });
        self.wire.at(self.now + again.max(ms(6)), Event::Start { node });
        let other = 1 - node;
        if self.wire.link != 0 {
            // What was written before may arrive, and then the end of the stream.
            let drains = !self.wire.is_cut() && self.wire.chance.per_mille(500);
            self.wire.sever(drains);
            if self.wire.is_cut() {
                self.tell_link(other, ms(1_000), Link::Down(Loss::Silent));
            } else {
                self.tell_link(other, ms(5), Link::Down(if drains { Loss::Closed } else { Loss::Reset }));
                self.tell_link(other, ms(6), Link::Down(Loss::Refused));
            }
        }
    }

    /// The link falls, with all that is under way on it.
    pub fn break_link(&mut self) {
        self.note(|| "the link falls".into());
        self.fault(None);
        self.wire.sever(false);
        self.wire.links += 1;
        (0..2).for_each(|node| self.tell_link(node, ms(1), Link::Down(Loss::Reset)));
    }

    pub fn hang(&mut self, node: usize, time: Duration) {
        if !self.machines[node].turns() {
            return;
        }
        self.note(|| format!("{node} hangs for {time:?}"));
        if time > ms(80) {
            self.fault(Some(node));
            self.check.slept |= self.scenario.both_serve();
        }
        let machine = &mut self.machines[node];
        machine.stall += 1;
        let (life, stall) = (machine.life, machine.stall);
        self.wire.at(self.now + time, Event::Resume { node, stall });
        self.wire.at(self.now + ms(85), Event::Guard { node, life, stall });
    }

    fn resume(&mut self, node: usize) {
        self.note(|| format!("{node} goes on"));
        self.machines[node].stall += 1;
        let backlog = std::mem::take(&mut self.machines[node].backlog);
        let (beats, rest): (Vec<_>, Vec<_>) = backlog.into_iter().partition(|w| matches!(w, Waiting::Pair(_)));
        // The cluster's thread and the workers wake in any order; workers wait for the cluster's word.
        for waiting in beats {
            self.take(node, &waiting);
        }
        self.pair_turn(node);
        let old = self.now - LEASE;
        for waiting in rest {
            match &waiting {
                Waiting::Packet(packet, at) if *at >= old => self.receive(node, packet.clone()),
                Waiting::Packet(..) => {}
                _ => self.take(node, &waiting),
            }
        }
    }

    fn leave(&mut self, node: usize, life: u64) {
        if self.machines[node].life != life || !self.machines[node].up() {
            return;
        }
        self.note(|| format!("{node} has left"));
        self.machines[node].end();
        (self.machines[node].present, self.machines[node].stands_in) = (false, false);
        if self.wire.link != 0 {
            self.wire.sever(true);
            self.tell_link(1 - node, ms(5), Link::Down(Loss::Goodbye));
        }
    }

    fn tell_link(&mut self, node: usize, after: Duration, event: Link) {
        let (life, peer, links) = (self.machines[node].life, self.machines[1 - node].id, self.wire.links);
        let event = match event {
            Link::Down(loss) => Event::Down { node, life, links, loss },
            up @ Link::Up { .. } => Event::Input { node, life, input: cluster::Input::Link { peer, event: up } },
        };
        self.wire.at(self.now + after, event);
    }

    fn look_after_link(&mut self) {
        self.wire.at(self.now + ms(20), Event::Link);
        if self.now.as_micros() / 1_000 % 500 < 20 {
            // A node that drains says no to its balancer, and is asked no more for new calls only: here all goes on.
            self.healthy = std::array::from_fn(|n| self.machines[n].turns() && self.machines[n].is_active());
        }
        let both = self.machines.iter().all(Machine::turns);
        if self.wire.link == 0 {
            if both && !self.wire.is_cut() {
                self.wire.links += 1;
                self.wire.link = self.wire.links;
                self.wire.idle = self.now;
                for node in 0..2 {
                    let incarnation = self.machines[1 - node].incarnation();
                    self.pair_up(node, incarnation);
                }
            } else if !self.wire.is_cut() {
                for node in 0..2 {
                    if self.machines[node].turns() && !self.machines[1 - node].up() {
                        self.tell_link(node, ms(1), Link::Down(Loss::Refused));
                    }
                }
            }
        } else if self.wire.is_cut() || !both {
            if self.now.since(self.wire.idle) > ms(1_000) {
                self.wire.sever(false);
                self.wire.links += 1;
                for node in 0..2 {
                    self.tell_link(node, ms(1), Link::Down(Loss::Silent));
                }
            }
        } else {
            self.wire.idle = self.now;
        }
    }

    fn pair_up(&mut self, node: usize, incarnation: u64) {
        let peer = self.machines[1 - node].id;
        self.pair_input(node, cluster::Input::Link { peer, event: Link::Up { incarnation } });
        self.take(node, &Waiting::Room);
    }

    /// Something went wrong with a machine, or between them.
    fn fault(&mut self, node: Option<usize>) {
        let weak = node.is_some_and(|n| {
            let node = self.machines[n].node.as_ref();
            node.is_some_and(|node| node.stats().gate.unprotected > self.machines[n].unprotected)
        });
        let single = self.is_pair() && self.faults.last().is_none_or(|f| f.until < Time::NEVER) && !weak;
        let now = self.now;
        if let Some(open) = self.faults.last_mut().filter(|f| f.until == Time::NEVER) {
            open.single = false;
        } else {
            self.faults.push(Fault { at: now, until: Time::NEVER, single });
        }
        // Two that serve and do not hear each other each go on with all calls.
        let apart = node.is_none() && self.scenario.spread.is_some();
        self.check.parted |= !single || apart;
    }

    pub fn play(&mut self, act: Act) {
        let now = self.now;
        self.note(|| format!("{act:?}"));
        match act {
            Act::Call(n, plan) => self.call(n, plan),
            Act::Behave(n, behaviour) => {
                self.model.good_since[n] = None;
                self.servers[n].behave(behaviour);
            }
            Act::CrashServer(n) => {
                self.model.crashes[n].push(now);
                self.servers[n].crash();
            }
            Act::ReviveServer(n) => self.servers[n].revive(),
            Act::Crash(who, again) => self.crash(self.who(who), again),
            Act::Hang(who, time) => self.hang(self.who(who), time),
            Act::SetMode(who, to) => self.command(self.who(who), cluster::Command::SetMode(to)),
            Act::Switchover => self.command(self.who(Who::Active), cluster::Command::Switchover),
            Act::Stop(who, again) => {
                let node = self.who(who);
                if self.machines[node].turns() {
                    self.fault(Some(node));
                    self.command(node, cluster::Command::Stop);
                    self.wire.at(now + ms(3_000) + again, Event::Start { node });
                }
            }
            Act::CutLink(cut) => {
                if cut {
                    self.fault(None);
                }
                (self.wire.cut, self.wire.stream_cut) = ([cut; 2], cut);
            }
            Act::CutPath(path, cut) => self.wire.cut[path] = cut,
            Act::Unplug(who, time, all) => self.unplug(self.who(who), time, all),
            Act::Part(part) => {
                if part.is_some() {
                    self.fault(None);
                    self.faults.last_mut().unwrap().single = false;
                    self.check.parted = true;
                }
                self.part = part;
                self.wire.parted = part.is_some();
            }
            Act::CutWitness(n, cut) => self.machines[n].unseen = cut,
            Act::RestartWitness => self.keeper = Keeper::new(now),
            Act::Drain(on) => self.drain(on),
            Act::Reload(settings) => self.reload(settings),
            Act::Calm => self.calm(),
        }
    }

    /// The cable of the service network is pulled; `all`: every other one of this machine with it.
    pub fn unplug(&mut self, node: usize, time: Duration, all: bool) {
        if !self.machines[node].plugged {
            return;
        }
        self.note(|| format!("{node} loses its cable for {time:?}"));
        self.fault(Some(node));
        self.machines[node].plugged = false;
        self.wire.at(self.now + time, Event::Plug { node });
        self.wire.pulled[0] = true;
        if all {
            self.wire.pulled[1] = true;
            self.wire.unplugged = true;
        }
        if self.machines[node].up() {
            self.pair_input(node, cluster::Input::Usable(false));
        }
        if all && self.wire.link != 0 && self.wire.chance.per_mille(500) {
            // Whose socket complains at once knows of it; the other end only hears nothing more.
            self.wire.sever(false);
            self.tell_link(node, ms(1), Link::Down(Loss::Silent));
            self.tell_link(1 - node, ms(1_000), Link::Down(Loss::Silent));
        }
    }

    fn plug(&mut self, node: usize) {
        self.note(|| format!("{node} has its cable again"));
        self.machines[node].plugged = true;
        if self.machines.iter().all(|machine| machine.plugged) {
            (self.wire.pulled, self.wire.unplugged) = ([false; 2], false);
        }
        if self.machines[node].up() {
            self.pair_input(node, cluster::Input::Usable(true));
        }
    }

    fn calm(&mut self) {
        self.net.weather = Weather::calm();
        self.drain(false);
        (self.part, self.wire.parted, self.wire.cut) = (None, false, [false; 2]);
        (self.wire.stream_cut, self.wire.loss) = (false, 0);
        self.machines.iter_mut().for_each(|machine| machine.unseen = false);
        for server in &mut self.servers {
            server.revive();
            server.behave(Behaviour::default());
        }
    }

    pub fn call(&mut self, n: usize, plan: Plan) {
        let call_id = self.callers[n].next_call_id();
        self.model.calls.insert(call_id, History { plan: plan.clone(), ..History::default() });
        self.callers[n].call(self.now, plan, &mut self.out);
        self.flush(Source::Host(n));
    }

    /// Servers are reached by one machine alone; the nodes hear each other. `None`: by both again.
    pub fn blind(&mut self, seeing: Option<usize>) {
        self.part = seeing.map(|n| std::array::from_fn(|host| if host < CALLERS { Side::Both } else { Side::Of(n) }));
    }

    pub fn command(&mut self, node: usize, command: cluster::Command) {
        self.note(|| format!("{node} {command:?}"));
        if self.machines[node].turns() {
            self.pair_input(node, cluster::Input::Command(command));
        }
    }

    fn who(&self, who: Who) -> usize {
        let leads = self.machines.iter().position(|m| m.role == Role::Active);
        let active = self.active().or(leads).unwrap_or(0);
        if who == Who::Active { active } else { 1 - active }
    }

    fn drain(&mut self, on: bool) {
        self.draining = on;
        let command = if on { Command::Drain } else { Command::Resume };
        for n in 0..2 {
            self.machines[n].handle(self.now, Input::Command(command), &mut self.out);
            self.flush(Source::Machine(n));
        }
        match self.model.drains.last_mut().filter(|(_, to)| *to == Time::NEVER) {
            Some(last) if !on => last.1 = self.now,
            None if on => self.model.drains.push((self.now, Time::NEVER)),
            _ => {}
        }
    }

    fn reload(&mut self, settings: Settings) {
        for n in 0..2 {
            let (incarnation, counter) = (self.machines[n].incarnation(), self.machines[n].durable);
            let mode = self.machines[n].mode;
            let config = self.scenario.config(&settings, n, self.seed, (incarnation, counter), mode);
            if let Some(node) = &self.machines[n].node {
                node.reconfigure(self.now, config, &mut self.out);
            }
            self.flush(Source::Machine(n));
        }
        for n in 0..SERVERS {
            self.ports[n] = match (self.ports[n], settings.members[n]) {
                (Some(a), Some(Some(b))) => Some(a.max(b)),
                (Some(a), None) => Some(a),
                _ => None,
            };
        }
        let seats = |settings: &Settings| settings.members.map(|member| member.is_some());
        self.reseated |= seats(&self.settings) != seats(&settings);
        self.settings = settings;
    }

    fn host_of(ip: std::net::IpAddr) -> Option<usize> {
        let caller = (0..CALLERS).find(|n| caller_addr(*n).ip() == ip);
        caller.or_else(|| (0..SERVERS).find(|n| server_addr(*n).ip() == ip).map(|n| CALLERS + n))
    }

    fn reachable(&self, host: usize, machine: usize) -> bool {
        let beside = |side: [Side; HOSTS]| side[host] == Side::Both || side[host] == Side::Of(machine);
        self.machines[machine].plugged && self.part.is_none_or(beside)
    }

    fn deliver(&mut self, packet: Packet) {
        let flow = packet.flow;
        if packet.refused {
            let Some(host) = Self::host_of(flow.remote.ip()) else { return };
            let to = match address_of(flow.local).filter(|_| self.scenario.spread.is_none()) {
                Some(address) => self.arp[host][address],
                None => packet.origin,
            };
            return self.arrive(host, to, packet);
        }
        match Self::host_of(flow.remote.ip()) {
            Some(host) if self.reachable(host, packet.origin) => {
                if self.part.is_some_and(|side| side[host] == Side::Both) && address_of(flow.local).is_some() {
                    self.paths.insert((host, call_id(&packet.bytes)), packet.origin);
                }
                self.at_host(host, packet);
            }
            Some(_) => {}
            None => {
                let Some(host) = Self::host_of(flow.local.ip()) else {
                    return self.ensure(false, || format!("a message to nowhere: {flow:?}"));
                };
                let believed = self.arp[host][address_of(flow.remote).unwrap_or(0)];
                let to = match (0..2).find(|n| own_addr(*n).ip() == flow.remote.ip()) {
                    Some(own) => own,
                    None if self.scenario.spread.is_some() => self.spread(host, &packet.bytes),
                    // Two hold the address; what answers goes back by where it came from.
                    None if self.part.is_some_and(|side| side[host] == Side::Both) => {
                        self.paths.get(&(host, call_id(&packet.bytes))).copied().unwrap_or(believed)
                    }
                    None => believed,
                };
                self.arrive(host, to, packet);
            }
        }
    }

    /// The machine to which a balancer gives what `host` sends to the virtual address.
    fn spread(&mut self, host: usize, bytes: &[u8]) -> usize {
        let key = match self.scenario.spread {
            Some(Spread::Hosts) => host as u64,
            Some(Spread::Calls) => table_hash(self.seed, call_id(bytes).as_bytes()),
            _ => self.wire.chance.within(0..2),
        };
        let picked = (key % 2) as usize;
        let fits = |n: usize| self.healthy[n] && self.reachable(host, n);
        if !fits(picked) && fits(1 - picked) { 1 - picked } else { picked }
    }

    /// A packet of a host at a machine.
    fn arrive(&mut self, host: usize, to: usize, packet: Packet) {
        let address = if packet.refused { packet.flow.local } else { packet.flow.remote };
        let taken = address_of(address).is_none_or(|n| self.has(to, n));
        if self.reachable(host, to) && self.machines[to].up() && taken {
            self.receive(to, packet);
        }
    }

    /// Whether the kernel of a machine has the virtual address, or that of a node.
    fn has(&self, machine: usize, address: usize) -> bool {
        let machine_ = &self.machines[machine];
        if self.scenario.crossed && address != machine { machine_.stands_in } else { machine_.present }
    }

    fn receive(&mut self, to: usize, packet: Packet) {
        let now = self.now;
        let machine = &mut self.machines[to];
        let late = machine.node.as_ref().is_some_and(|n| n.is_active_now() && now > n.authority());
        if machine.hung() {
            return machine.backlog.push_back(Waiting::Packet(packet, now));
        }
        if late {
            self.pair_turn(to);
        }
        let waiting = Waiting::Packet(packet, now);
        self.take(to, &waiting);
    }

    fn at_host(&mut self, host: usize, packet: Packet) {
        let (now, flow) = (self.now, packet.flow);
        let turned = Flow { local: flow.remote, remote: flow.local, ..flow };
        if host < CALLERS {
            self.callers[host].handle(now, &packet.bytes, turned, &mut self.out);
        } else if !self.servers[host - CALLERS].alive() {
            if self.scenario.icmp {
                self.net.refuse(now, packet);
            }
            return;
        } else {
            self.servers[host - CALLERS].handle(now, &packet.bytes, turned, &mut self.out);
        }
        self.flush(Source::Host(host));
    }

    /// Sends what was written; looks at each message on the way.
    fn flush(&mut self, source: Source) {
        let mut out = std::mem::take(&mut self.out);
        let origin = match source {
            Source::Machine(n) => n,
            Source::Host(_) => 0,
        };
        for transmit in &out.transmits {
            let (flow, bytes) = (transmit.flow, out.bytes(transmit));
            self.ensure(transmit.name.is_none(), || "a name to resolve".into());
            self.show(source, flow, bytes);
            self.summary.trace = table_hash(self.summary.trace ^ self.now.as_micros(), bytes);
            if let Source::Machine(n) = source {
                // What is wished for with it is sent after it was wished for.
                let gets = |e: &Effect| matches!(e, Effect::Guest(Wish::Hold) | Effect::Vip(Wish::Hold));
                self.leaves(n, flow, bytes, out.effects.iter().any(gets));
                self.count_unnoticed(flow, bytes);
            }
            if let Err(why) = self.check.sent(flow, bytes, &mut self.model) {
                self.fail(&why);
            }
            if let Some(sent) = &mut self.sent {
                sent.push((flow, String::from_utf8_lossy(bytes).into_owned()));
            }
            self.net.send_from(self.now, origin, flow, bytes.to_vec());
        }
        for event in &out.events {
            if self.loud {
                eprintln!("{:>12} {source:?} {event:?}", self.now.as_micros());
            }
            if let Fact::Ended { leg, .. } = event {
                self.leg_ended(*leg);
            }
            self.fell |= matches!(event, Fact::Health { usable: false, .. });
        }
        if let Source::Machine(n) = source {
            for effect in &out.effects {
                self.effect(n, *effect);
            }
            for frame in &out.frames {
                if self.loud {
                    let (kind, payload) = (frame.kind, out.payload(frame));
                    eprintln!("{:>12} {n} ={kind:?}=> {} octets", self.now.as_micros(), payload.len());
                    if let Some((flow, message)) =
                        relay::read(payload).filter(|_| matches!(kind, Kind::Relay | Kind::Offer))
                    {
                        self.show(source, flow, message);
                    }
                }
                if self.wire.link != 0 {
                    self.wire.frame(self.now, n, frame.stream, frame.kind, out.payload(frame).to_vec());
                }
            }
        }
        out.clear();
        self.out = out;
    }

    fn show(&self, source: Source, flow: Flow, bytes: &[u8]) {
        if self.loud {
            let line = String::from_utf8_lossy(bytes.split(|b| *b == b'\r').next().unwrap_or_default()).into_owned();
            let call_id = call_id(bytes);
            eprintln!("{:>12} {source:?} {} > {} {line} [{call_id}]", self.now.as_micros(), flow.local, flow.remote);
        }
    }

    /// Only the node that has the address may send from it.
    fn leaves(&self, n: usize, flow: Flow, bytes: &[u8], gets: bool) {
        let (machine, address) = (&self.machines[n], address_of(flow.local));
        let vip = address.is_some();
        let present = address.is_some_and(|address| self.has(n, address));
        let wish = if self.scenario.crossed && address != Some(n) { machine.guest } else { machine.wish };
        // A call's message may be late for its address; what asks for an answer there may not.
        let probe = bytes.starts_with(b"OPTIONS") && bytes.windows(12).any(|octets| octets == b"z9hG4bKprobe");
        self.ensure(!(vip && probe) || present, || format!("{n} probes from an address it does not have"));
        let may = present || wish == Wish::Hold || gets || (machine.is_active() && !self.scenario.crossed);
        self.ensure(!vip || may, || format!("{n} sends from an address it does not have: {flow:?}"));
        self.ensure(vip || flow.local == own_addr(n), || format!("{n} sends from {}", flow.local));
    }

    /// With a witness a node spends until it notices that its peer is silent, but for the calls that its peer knows.
    fn count_unnoticed(&mut self, flow: Flow, bytes: &[u8]) {
        let cut = self.wire.is_cut() || self.wire.link == 0 || self.machines.iter().any(|m| !m.turns());
        self.apart = if cut { self.apart.or(Some(self.now)) } else { None };
        let fresh = self.apart.is_some_and(|since| self.now.since(since) <= UNNOTICED);
        if fresh && self.scenario.partition == Partition::Witness && bytes.starts_with(b"INVITE") {
            let to = (0..SERVERS).find(|n| server_addr(*n) == flow.remote);
            to.into_iter().for_each(|n| self.unnoticed[n] += 1);
        }
    }

    /// One end event for each call, by either node. Two where the first was told by a node that went before its peer had
    /// the record of it: who saw no final of the BYE repeats it, and the survivor tells the end of a call that it has.
    fn leg_ended(&mut self, leg: LegId) {
        let before = self.ended.insert(leg, self.now);
        let unheard = |f: &Fault| before.is_some_and(|b| b <= f.at && f.at <= b + ms(20));
        // Where both serve, each may see a final of one BYE that was repeated.
        let both = self.scenario.both_serve() && before.is_some_and(|b| self.now.since(b) < ms(20));
        let excused = self.faults.iter().any(unheard) || self.check.parted || both;
        self.ensure(before.is_none() || excused, || format!("{leg:?} ended twice, first at {before:?}"));
        self.summary.ended_twice += u64::from(before.is_some());
    }

    fn effect(&mut self, n: usize, effect: Effect) {
        if !matches!(effect, Effect::Beat { .. }) {
            self.note(|| format!("{n} {effect:?}"));
        }
        let life = self.machines[n].life;
        self.unheard |= self.scenario.crossed && matches!(effect, Effect::Notice(Notice::PeerSilent(_)));
        self.cold |= matches!(effect, Effect::Notice(Notice::Cold)) && !self.model.calls.is_empty();
        if let Effect::Role { role: Role::Active | Role::Joined, epoch } = effect {
            let id = self.machines[n].id;
            let own = epoch.node == id && epoch.counter <= self.machines[n].durable;
            self.ensure(own, || "a claim whose counter is not durable".into());
            let first = self.epochs.insert(epoch);
            self.ensure(first || self.machines[n].role == Role::Asking, || format!("{epoch:?} claimed twice"));
            self.summary.claims += 1;
            // Silent for each other, be it that the link stands: both go on with all calls.
            let other = self.machines[1 - n].role == Role::Active;
            self.check.parted |=
                self.scenario.both_serve() && other && matches!(effect, Effect::Role { role: Role::Active, .. });
        }
        match self.machines[n].carry_out(effect) {
            Some(Effect::Beat { path, beat, .. }) => self.wire.beat(self.now, n, path.0, beat),
            Some(Effect::Vip(Wish::Hold)) => {
                let epoch = self.machines[n].epoch;
                let event = match self.machines[n].holds(epoch) {
                    true => Event::Held { node: n, life, epoch },
                    false => Event::Dropped { node: n, life },
                };
                self.wire.at(self.now + HOLD, event);
            }
            Some(Effect::Guest(Wish::Hold)) => self.wire.at(self.now + HOLD, Event::StandsIn { node: n, life }),
            Some(Effect::Announce) => self.announce_twice(n),
            Some(Effect::Probe) => self.wire.at(self.now + ms(19), Event::Probe { node: n, life }),
            Some(Effect::Witness(ask)) => self.wants(n, ask),
            Some(Effect::Done) => self.wire.at(self.now + ms(2), Event::Leave { node: n, life }),
            _ => {}
        }
    }

    fn wants(&mut self, node: usize, ask: Ask) {
        let machine = &mut self.machines[node];
        (machine.ask, machine.asks) = (Some(ask), machine.asks + 1);
        let asks = machine.asks;
        self.wire.at(self.now, Event::Ask { node, asks });
    }

    /// A node asks the witness, and again when an answer may have been lost.
    fn ask_witness(&mut self, node: usize, asks: u64) {
        let machine = &mut self.machines[node];
        let Some(ask) = machine.ask.filter(|_| machine.asks == asks && machine.node.is_some()) else { return };
        self.wire.at(self.now + ms(500), Event::Ask { node, asks });
        if machine.hung() {
            return;
        }
        machine.serial += 1;
        machine.asked_at = self.now;
        let (life, serial) = (machine.life, machine.serial);
        if machine.unseen || !machine.plugged {
            let input = cluster::Input::Witness(None);
            return self.wire.at(self.now + ms(400), Event::Input { node, life, input });
        }
        let delay = Duration::from_micros(self.wire.chance.within(100..20_000));
        self.wire.at(self.now + delay, Event::Asked { node, life, serial, ask });
    }

    /// The witness hears a question; its answer is of use until the next one is asked.
    fn witness(&mut self, node: usize, life: u64, serial: u64, ask: Ask) {
        let (id, asked) = (self.machines[node].id, self.machines[node].asked_at);
        let Ok(reply) = self.keeper.ask(self.now, "sim", id, serial, ask) else { return };
        if self.machines[node].serial == serial {
            let input = cluster::Input::Witness(Some(reply.word(asked, WITNESSED)));
            let delay = Duration::from_micros(self.wire.chance.within(100..20_000));
            self.wire.at(self.now + delay, Event::Input { node, life, input });
        }
    }

    fn announce_twice(&mut self, holder: usize) {
        self.announce(holder);
        let life = self.machines[holder].life;
        self.wire.at(self.now + ms(500), Event::Again { node: holder, life });
    }

    /// Announces each address that a machine answers for.
    fn announce(&mut self, holder: usize) {
        let machine = &self.machines[holder];
        let own = if self.scenario.crossed { holder } else { 0 };
        let held = [(machine.answers(), own), (machine.answers_for_other(), 1 - holder)];
        for (_, address) in held.into_iter().filter(|(answers, _)| *answers) {
            for host in 0..HOSTS {
                if self.reachable(host, holder) {
                    let delay = match self.wire.chance.per_mille(900) {
                        true => self.wire.chance.within(100..2_000),
                        false => self.wire.chance.within(2_000..200_000),
                    };
                    self.wire.at(self.now + Duration::from_micros(delay), Event::Arp { host, address, holder });
                }
            }
        }
    }

    /// The active node, if there is exactly one.
    pub fn active(&self) -> Option<usize> {
        match [self.machines[0].is_active(), self.machines[1].is_active()] {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        }
    }

    /// One active, one standby that could take over.
    pub fn is_pair(&self) -> bool {
        if self.scenario.both_serve() {
            let serves = |m: &Machine| m.turns() && m.is_active() && m.node.as_ref().is_some_and(Node::is_armed);
            return self.machines.iter().all(serves);
        }
        let armed = |n: usize| self.machines[n].node.as_ref().is_some_and(Node::is_armed);
        self.active()
            .is_some_and(|n| self.machines[1 - n].turns() && self.machines[n].turns() && armed(n) && armed(1 - n))
    }

    pub fn node(&self, n: usize) -> &Node<Single> {
        self.machines[n].node.as_ref().expect("it runs")
    }

    /// What holds after each step.
    fn settle(&mut self, quiet: bool) {
        if self.is_pair()
            && self.part.is_none()
            && !self.wire.is_cut()
            && let Some(open) = self.faults.last_mut().filter(|f| f.until == Time::NEVER)
        {
            open.until = self.now;
            for machine in &mut self.machines {
                machine.unprotected = machine.node.as_ref().map_or(0, |n| n.stats().gate.unprotected);
            }
            self.note(|| "the pair is armed".into());
        }
        if quiet {
            return;
        }
        for (n, machine) in self.machines.iter().enumerate() {
            if let Some(node) = &machine.node {
                node.check().unwrap_or_else(|why| self.fail(&format!("node {n} does not agree with itself: {why}")));
                self.ensure(node.is_fit(), || format!("node {n}: a shard is silent"));
            }
        }
        self.look_at_servers();
        self.look_at_rooms();
        self.compare();
        let reports: Vec<Report> = self.callers.iter_mut().flat_map(Caller::take_reports).collect();
        for report in reports {
            self.judge(&report);
            self.reports.push(report);
        }
    }

    /// Answered calls that belong together are on one server, by each decision and, while no server died, by all.
    fn look_at_rooms(&mut self) {
        let nodes = self.machines.iter().filter_map(|machine| machine.node.as_ref());
        let pinned: BTreeMap<_, _> = nodes
            .filter(|node| node.gauges().pins > 0)
            .flat_map(|node| node.legs(usize::MAX))
            .filter(|leg| leg.state == "answered")
            .filter_map(|leg| Some((leg.id, (leg.pin?, leg.resource))))
            .collect();
        let (mut decisions, mut rooms) = (BTreeMap::new(), BTreeMap::new());
        for (pin, resource) in pinned.values() {
            let decided = *decisions.entry((pin.key, pin.generation)).or_insert(*resource);
            let (calls, room) = rooms.entry(pin.key).or_insert((0, *resource));
            *calls += 1;
            let fine = decided == *resource && (*room == *resource || self.fell);
            self.ensure(fine || self.reseated, || format!("a room is scattered: {pinned:?}"));
        }
        self.summary.together += u64::from(rooms.values().any(|(calls, _)| *calls > 1));
    }

    fn look_at_servers(&mut self) {
        // Where both serve a call may meet either's share.
        let views: Vec<_> = match self.scenario.both_serve() {
            true if self.is_pair() => (0..2).map(|n| self.node(n).resources()).collect(),
            _ => self
                .active()
                .filter(|n| self.machines[*n].turns())
                .map(|n| self.node(n).resources())
                .into_iter()
                .collect(),
        };
        // Under `exact` no fault excuses more calls than a limit allows, but for a pair that remembers nothing.
        let harmed = match self.scenario.partition {
            Partition::Exact | Partition::Witness => self.cold,
            _ => self.check.parted || self.unheard,
        };
        for n in 0..SERVERS {
            let rows: Vec<_> = views.iter().filter_map(|v| v.iter().find(|r| r.id == resource_of(n))).collect();
            let full = rows.is_empty()
                || rows.iter().any(|r| {
                    let own = r.allowance.is_some_and(|ports| r.own >= ports);
                    own || r.capacity.is_some_and(|ports| r.in_use + r.withheld >= ports)
                });
            let (calls, ports) = (self.servers[n].calls(), self.ports[n]);
            // What its kernel refused for it may be under way once more when it comes back.
            let revived = self.scenario.icmp && !self.model.crashes[n].is_empty();
            let ports = ports.map(|ports| ports.saturating_add(self.unnoticed[n] as u32));
            self.ensure(harmed || revived || ports.is_none_or(|p| calls <= p as usize), || {
                format!("server {n} has {calls} of {ports:?} calls")
            });
            let up = rows.iter().all(|r| r.health == "up") && self.servers[n].alive();
            let good =
                up && !full && self.servers[n].behaviour().mood == Mood::Sound && self.settings.members[n].is_some();
            let since = self.model.good_since[n].unwrap_or(self.now);
            self.model.good_since[n] = good.then_some(since);
        }
    }

    /// Nothing is under way between the nodes: they hold the same.
    fn compare(&mut self) {
        if self.now < self.compared || self.wire.flying > 0 || !self.is_pair() || self.wire.link == 0 {
            return;
        }
        let waiting = self.machines.iter().any(|m| m.node.as_ref().is_none_or(|n| n.gauges().held > 0));
        // Records that nothing waits for gather where they were written.
        let gathering =
            |n: &Node<Single>| self.scenario.commit == Commit::Async && n.exposure().is_some_and(|e| e.records > 0);
        let waiting = waiting || self.machines.iter().filter_map(|m| m.node.as_ref()).any(gathering);
        let open = self.faults.last().is_some_and(|f| f.until == Time::NEVER);
        if waiting || open {
            return;
        }
        self.compared = self.now + ms(20);
        self.summary.compared += 1;
        let answered = |n: usize| -> Vec<(String, u64)> {
            let mut legs: Vec<_> =
                self.node(n).legs(usize::MAX).into_iter().filter(|l| l.state == "answered").collect();
            legs.sort_by(|a, b| a.id.cmp(&b.id));
            legs.into_iter().map(|l| (l.id, l.resource.0)).collect()
        };
        let (first, second) = (answered(0), answered(1));
        self.ensure(first == second, || format!("legs differ: {first:?} and {second:?}"));
        if self.summary.compared % 32 != 1 {
            return;
        }
        for owner in [NodeId(1), NodeId(2)] {
            for bucket in (0..1 << 12).map(Bucket) {
                let (a, b) = (self.node(0).digest_of(owner, bucket), self.node(1).digest_of(owner, bucket));
                self.ensure(a == b, || format!("digests of {owner:?} differ in {bucket:?}"));
            }
        }
    }

    fn judge(&mut self, report: &Report) {
        self.note(|| format!("{report:?}"));
        self.summary.calls += 1;
        self.summary.completed += u64::from(report.outcome == Outcome::Completed);
        let during = |f: &&Fault| f.at <= report.ended && report.invited <= f.until;
        let met = self.faults.iter().filter(during).count() > 0;
        self.summary.through_faults += u64::from(met && report.outcome == Outcome::Completed);
        if let Some(why) = self.model.judge(report) {
            let excused = self.faults.iter().filter(during).any(|f| !f.single);
            self.ensure(excused, || why);
        }
        // Under `exact` a port that is the standby's by its share stays free; the model knows of those.
        let shares = self.scenario.partition != Partition::Available || self.scenario.both_serve();
        let last = report.invited >= Time::ZERO + LAST_CALLS && !shares;
        let fine = report.outcome == Outcome::Completed;
        self.ensure(!last || fine, || format!("after all faults had ended: {report:?}"));
    }

    /// Whether a call may have lost its caller: nobody ends it at its server then.
    fn is_excused(&self) -> bool {
        // The first one is the start, before any call.
        // So may one that two nodes handle that do not hear each other.
        let apart = self.scenario.both_serve() && self.check.parted;
        apart || self.faults[1..].iter().any(|f| !f.single)
    }

    fn over(&self) -> bool {
        self.next_act.is_none()
            && self.now > Time::ZERO + SAFETY
            && self.net.next().is_none()
            && self.callers.iter().all(|caller| caller.open() == 0)
            && (self.is_excused() || self.servers.iter().all(|s| s.idle()))
            && self.machines.iter().all(|m| m.node.as_ref().is_some_and(|n| n.gauges().is_empty()))
            && self.is_pair()
    }

    /// The end of the liveness phase: nothing is left of all this.
    fn end(&mut self) {
        self.ensure(self.is_pair(), || {
            let status = |n: usize| self.machines[n].node.as_ref().map(|n| n.pair_status());
            format!("one active, one armed standby: {:?} {:?}", status(0), status(1))
        });
        let open: usize = self.callers.iter().map(|caller| caller.open()).sum();
        self.ensure(open == 0, || format!("{open} calls have no end"));
        let answered = self.reports.iter().filter(|report| report.answered.is_some()).count();
        let ended = self.ended.len();
        self.ensure(ended >= answered || self.is_excused(), || format!("{answered} calls answered, {ended} ended"));
        let idle = self.servers.iter().all(|s| s.idle());
        self.ensure(idle || self.is_excused(), || "a server still has calls".into());
        for n in 0..2 {
            let node = self.node(n);
            let gauges = node.gauges();
            self.ensure(gauges.is_empty(), || format!("tables of {n} are not empty: {gauges:?}, {:?}", node.legs(5)));
            for bucket in (0..1 << 12).map(Bucket) {
                let left = [NodeId(1), NodeId(2)].map(|owner| node.digest_of(owner, bucket));
                self.ensure(left == [0, 0], || format!("{n} has digests of nothing: {left:?}"));
            }
            let stats = node.stats();
            let broken = (stats.panics, stats.silent_shards, stats.calls.unsendable, stats.peer.bad_frames);
            self.ensure(broken == (0, 0, 0, 0), || format!("panics, silent shards, unsendable, frames: {broken:?}"));
            self.summary.taken_over += stats.calls.legs_taken_over + stats.calls.setups_taken_over;
            self.summary.held += stats.gate.held;
            self.summary.relayed += stats.peer.relayed_in;
            self.summary.divergent += stats.peer.divergent_buckets;
        }
        let violations = self.callers.iter().flat_map(|c| c.violations());
        let violations: Vec<_> = violations.chain(self.servers.iter().flat_map(|s| s.violations())).cloned().collect();
        self.ensure(violations.is_empty(), || violations.join("\n"));
    }

    fn note(&self, line: impl FnOnce() -> String) {
        if self.loud {
            eprintln!("{:>12} {}", self.now.as_micros(), line());
        }
    }

    pub fn ensure(&self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.fail(&why());
        }
    }

    pub fn fail(&self, why: &str) -> ! {
        panic!("seed {} at {} us: {why}", self.seed, self.now.as_micros());
    }
}
