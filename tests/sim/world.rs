//! The world: a node, callers, media servers and a network, one clock, one seed.

use std::time::Duration;

use tandem::agent::caller::{self, Caller};
use tandem::agent::chance::Chance;
use tandem::agent::heard::Timing;
use tandem::agent::media_server::{self, Behaviour, MediaServer, Mood};
use tandem::agent::script::{Outcome, Report};
use tandem::base::{ConnId, Flow, ListenerId, Time, Transport, table_hash};
use tandem::node::{Command, Input, Node, Received, Scratch, Single};
use tandem::out::{Event, Out};
use tandem::proxy::stats::Stats;

use crate::check::Check;
use crate::model::{History, Model};
use crate::net::{Net, Packet, Weather};
use crate::scenario::{
    Act, LAST_CALLS, SAFETY, SERVERS, Scenario, Settings, caller_addr, node_addr, resource_of, server_addr,
};

/// After the last calls everything has ended by then: two times 64·T1, and the longest of the other timers.
const SETTLED: Duration = Duration::from_secs(190 + 200);
/// Steps at one instant. More are a loop without end.
const STEPS_AT_ONCE: usize = 20_000;

pub struct World {
    now: Time,
    seed: u64,
    loud: bool,
    node: Node<Single>,
    scratch: Scratch,
    out: Out,
    callers: Vec<Caller>,
    servers: Vec<MediaServer>,
    net: Net,
    acts: std::vec::IntoIter<(Time, Act)>,
    next_act: Option<(Time, Act)>,
    icmp: bool,
    settings: Settings,
    /// The largest `port-capacity` that each server ever had.
    ports: [Option<u32>; SERVERS],
    in_use: [u32; SERVERS],
    check: Check,
    model: Model,
    answered: usize,
    ended: usize,
    trace: u64,
}

/// What one run says when it went well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// A hash of every message with its time.
    pub trace: u64,
    pub calls: u64,
    pub completed: u64,
    /// What the node counted.
    pub stats: Stats,
}

/// Who acts next.
#[derive(Clone, Copy, Debug)]
enum Who {
    Net,
    Script,
    Node,
    Caller(usize),
    Server(usize),
}

impl World {
    pub fn new(seed: u64, loud: bool) -> Self {
        let scenario = Scenario::of(seed);
        let mut chance = Chance::new(seed ^ 0x7461_6e64_656d);
        let timing = Timing::default();
        let callers = scenario.callers.iter().enumerate().map(|(n, transport)| {
            let (name, addr) = (format!("c{n}"), caller_addr(n));
            Caller::new(caller::Config { name, addr, transport: *transport, node: node_addr(), backup: None, timing })
        });
        let servers = (0..SERVERS).map(|n| {
            let (name, addr) = (format!("m{n}"), server_addr(n));
            MediaServer::new(media_server::Config { name, addr, timing, seed: seed ^ n as u64 })
        });
        let mut acts = scenario.acts.into_iter();
        Self {
            now: Time::ZERO,
            seed,
            loud,
            node: Node::new(Time::ZERO, scenario.settings.config(seed)),
            scratch: Scratch::default(),
            out: Out::new(),
            callers: callers.collect(),
            servers: servers.collect(),
            net: Net::new(scenario.weather, chance.fork()),
            next_act: acts.next(),
            acts,
            icmp: scenario.icmp,
            ports: scenario.settings.members.map(|member| member.unwrap_or(Some(0))),
            settings: scenario.settings,
            in_use: [0; SERVERS],
            check: Check::new(),
            model: Model::default(),
            answered: 0,
            ended: 0,
            trace: seed,
        }
    }

    /// The whole run: a safety phase with faults, then a liveness phase in which everything ends.
    pub fn run(mut self) -> Summary {
        let mut summary = Summary::default();
        let (mut instant, mut steps) = (Time::ZERO, 0);
        while let Some((at, who)) = self.next().filter(|(at, _)| *at < Time::ZERO + SETTLED) {
            steps = if at > instant { 0 } else { steps + 1 };
            instant = instant.max(at);
            self.ensure(steps < STEPS_AT_ONCE, || format!("{who:?} does not come to rest"));
            self.now = self.now.max(at);
            self.act(who);
            self.flush();
            self.settle(&mut summary);
            if self.over() {
                break;
            }
        }
        self.end(&mut summary);
        summary
    }

    fn next(&self) -> Option<(Time, Who)> {
        let mut next: Option<(Time, Who)> = None;
        let mut offer = |at: Option<Time>, who| {
            if let Some(at) = at.filter(|at| next.is_none_or(|(first, _)| *at < first)) {
                next = Some((at, who));
            }
        };
        offer(self.net.next(), Who::Net);
        offer(self.next_act.as_ref().map(|(at, _)| *at), Who::Script);
        offer(self.node.next_timeout().map(|(at, _)| at), Who::Node);
        self.callers.iter().enumerate().for_each(|(n, caller)| offer(caller.next_timeout(), Who::Caller(n)));
        self.servers.iter().enumerate().for_each(|(n, server)| offer(server.next_timeout(), Who::Server(n)));
        next
    }

    fn act(&mut self, who: Who) {
        match who {
            Who::Net => {
                if let Some(packet) = self.net.receive() {
                    self.deliver(packet);
                }
            }
            Who::Script => {
                if let Some((_, act)) = std::mem::replace(&mut self.next_act, self.acts.next()) {
                    self.play(act);
                }
            }
            Who::Node => self.node.handle_timeout(self.now, &mut self.scratch, &mut self.out),
            Who::Caller(n) => self.callers[n].handle_timeout(self.now, &mut self.out),
            Who::Server(n) => self.servers[n].handle_timeout(self.now, &mut self.out),
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let (now, flow) = (self.now, packet.flow);
        let turned = Flow { local: flow.remote, remote: flow.local, ..flow };
        if packet.refused {
            let received = Received { flow, bytes: &packet.bytes };
            return self.node.handle(now, Input::Undelivered(received), &mut self.scratch, &mut self.out);
        }
        let to = flow.remote.ip();
        if to == node_addr().ip() {
            let flow = self.as_node_sees(turned);
            let received = Received { flow, bytes: &packet.bytes };
            self.node.handle(now, Input::Message(received), &mut self.scratch, &mut self.out);
        } else if let Some(n) = (0..self.callers.len()).find(|n| caller_addr(*n).ip() == to) {
            self.callers[n].handle(now, &packet.bytes, Flow { local: caller_addr(n), ..turned }, &mut self.out);
        } else if let Some(n) = (0..SERVERS).find(|n| server_addr(*n) == flow.remote) {
            if !self.servers[n].alive() && self.icmp {
                self.net.refuse(now, packet);
            } else {
                self.servers[n].handle(now, &packet.bytes, turned, &mut self.out);
            }
        } else {
            self.ensure(flow.remote.ip().is_loopback(), || format!("a message to nowhere: {flow:?}"));
        }
    }

    /// A stream comes from a port of its own and has an id.
    fn as_node_sees(&self, flow: Flow) -> Flow {
        match flow.transport {
            Transport::Udp => flow,
            Transport::Tcp | Transport::Tls => {
                let conn = (0..self.callers.len()).find(|n| caller_addr(*n).ip() == flow.remote.ip()).unwrap_or(99);
                let mut remote = flow.remote;
                remote.set_port(40_000 + conn as u16);
                Flow { listener: ListenerId(1), conn: Some(ConnId(conn as u64 + 1)), remote, ..flow }
            }
        }
    }

    fn play(&mut self, act: Act) {
        let now = self.now;
        if self.loud {
            eprintln!("{:>12} {act:?}", now.as_micros());
        }
        match act {
            Act::Call(n, plan) => {
                let call_id = self.callers[n].next_call_id();
                self.model.calls.insert(call_id, History { plan: plan.clone(), ..History::default() });
                self.callers[n].call(now, plan, &mut self.out);
            }
            Act::Behave(n, behaviour) => {
                self.model.good_since[n] = None;
                self.servers[n].behave(behaviour);
            }
            Act::Crash(n) => {
                self.model.crashes[n].push(now);
                self.servers[n].crash();
            }
            Act::Revive(n) => self.servers[n].revive(),
            Act::Drain | Act::Resume => self.drain(matches!(act, Act::Drain)),
            Act::Reload(settings) => self.reload(settings),
            Act::Noise(bytes) => {
                let (remote, local) = ("127.0.0.9:9".parse().unwrap(), node_addr());
                let flow = Flow { transport: Transport::Udp, listener: ListenerId(0), local, remote, conn: None };
                let received = Received { flow, bytes: &bytes };
                self.node.handle(now, Input::Message(received), &mut self.scratch, &mut self.out);
            }
            Act::Calm => {
                self.net.weather = Weather::calm();
                self.drain(false);
                for server in &mut self.servers {
                    server.revive();
                    server.behave(Behaviour::default());
                }
            }
        }
    }

    fn drain(&mut self, on: bool) {
        let command = if on { Command::Drain } else { Command::Resume };
        self.node.handle(self.now, Input::Command(command), &mut self.scratch, &mut self.out);
        match self.model.drains.last_mut().filter(|(_, to)| *to == Time::NEVER) {
            Some(last) if !on => last.1 = self.now,
            None if on => self.model.drains.push((self.now, Time::NEVER)),
            _ => {}
        }
        assert_eq!(self.node.draining(), on);
    }

    fn reload(&mut self, settings: Settings) {
        self.node.reconfigure(self.now, settings.config(self.seed), &mut self.out);
        for n in 0..SERVERS {
            self.ports[n] = match (self.ports[n], settings.members[n]) {
                (Some(a), Some(Some(b))) => Some(a.max(b)),
                (Some(a), None) => Some(a),
                _ => None,
            };
        }
        self.settings = settings;
    }

    /// Sends what was written; looks at each message on the way.
    fn flush(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        for transmit in &out.transmits {
            let (flow, bytes) = (transmit.flow, out.bytes(transmit));
            self.ensure(transmit.name.is_none(), || "a name to resolve".into());
            if self.loud {
                let line =
                    String::from_utf8_lossy(bytes.split(|b| *b == b'\r').next().unwrap_or_default()).into_owned();
                let call_id = header(bytes, "Call-ID: ");
                eprintln!("{:>12} {} > {} {line} [{call_id}]", self.now.as_micros(), flow.local, flow.remote);
            }
            self.trace = table_hash(self.trace ^ self.now.as_micros(), bytes);
            if let Err(why) = self.check.sent(flow, bytes, &mut self.model) {
                self.fail(&why);
            }
            self.net.send(self.now, flow, bytes.to_vec());
        }
        for event in &out.events {
            self.answered += usize::from(matches!(event, Event::Answered { .. }));
            self.ended += usize::from(matches!(event, Event::Ended { .. }));
        }
        out.clear();
        self.out = out;
    }

    /// What holds after each step.
    fn settle(&mut self, summary: &mut Summary) {
        let (gauges, resources) = (self.node.gauges(), self.node.resources());
        let in_use: usize = resources.iter().map(|r| r.in_use as usize).sum();
        self.ensure(in_use == gauges.grants, || format!("the ledger says {in_use}, the grants are {}", gauges.grants));
        let legs = self.answered - self.ended;
        self.ensure(legs == gauges.legs, || format!("{legs} legs by events, {} in the table", gauges.legs));
        for n in 0..SERVERS {
            let view = resources.iter().find(|r| r.id == resource_of(n));
            let (used, capacity) = view.map_or((0, Some(0)), |r| (r.in_use, r.capacity));
            let full = capacity.is_some_and(|ports| used >= ports);
            let over = capacity.is_some_and(|ports| used > ports);
            // Above the limit only by a reload that lowered it; then it may not grow.
            self.ensure(!over || used <= self.in_use[n], || format!("server {n} holds {used} of {capacity:?} ports"));
            self.in_use[n] = used;
            let calls = self.servers[n].calls();
            let ports = self.ports[n];
            self.ensure(ports.is_none_or(|p| calls <= p as usize), || {
                format!("server {n} has {calls} of {ports:?} calls")
            });
            let member = self.settings.members[n].is_some();
            let up = view.is_some_and(|r| r.health == "up") && self.servers[n].alive() && member;
            let good = up && !full && self.servers[n].behaviour().mood == Mood::Sound;
            let since = self.model.good_since[n].unwrap_or(self.now);
            self.model.good_since[n] = good.then_some(since);
        }
        for n in 0..self.callers.len() {
            for report in self.callers[n].take_reports() {
                self.judge(&report, summary);
            }
        }
    }

    fn judge(&mut self, report: &Report, summary: &mut Summary) {
        if self.loud {
            eprintln!("{:>12} {report:?}", self.now.as_micros());
        }
        if let Some(why) = self.model.judge(report) {
            self.fail(&why);
        }
        summary.calls += 1;
        summary.completed += u64::from(report.outcome == Outcome::Completed);
        let last = report.invited >= Time::ZERO + LAST_CALLS;
        let fine = report.outcome == Outcome::Completed;
        self.ensure(!last || fine, || format!("after all faults had ended: {report:?}"));
    }

    fn over(&self) -> bool {
        let quiet = self.next_act.is_none() && self.net.next().is_none();
        let idle = self.callers.iter().all(|caller| caller.open() == 0) && self.servers.iter().all(|s| s.idle());
        quiet && idle && self.now > Time::ZERO + SAFETY && self.node.gauges().is_empty()
    }

    /// The end of the liveness phase: nothing is left of all this.
    fn end(&mut self, summary: &mut Summary) {
        summary.trace = self.trace;
        self.counters(summary);
        let gauges = self.node.gauges();
        self.ensure(gauges.is_empty(), || format!("tables are not empty: {gauges:?}, {:?}", self.node.legs(5)));
        let open: usize = self.callers.iter().map(|caller| caller.open()).sum();
        self.ensure(open == 0, || format!("{open} calls have no end"));
        self.ensure(self.servers.iter().all(|s| s.idle()), || "a server still has calls".into());
        let violations = self.callers.iter().flat_map(|c| c.violations());
        let violations: Vec<_> = violations.chain(self.servers.iter().flat_map(|s| s.violations())).cloned().collect();
        self.ensure(violations.is_empty(), || violations.join("\n"));
    }

    /// The node's counters agree with what was seen, and none says that it is broken.
    fn counters(&mut self, summary: &mut Summary) {
        let stats = self.node.stats();
        let broken = (stats.panics, stats.silent_shards, stats.calls.forged_tokens, stats.calls.unsendable);
        self.ensure(broken == (0, 0, 0, 0), || format!("panics, silent shards, forged tokens, unsendable: {broken:?}"));
        let calls = &stats.calls;
        let silent = calls.calls_ended_inactive + calls.calls_ended_unacknowledged;
        let ended = calls.calls_ended_bye + calls.calls_ended_session_expired + silent;
        let counted = (calls.calls_answered as usize, ended as usize);
        let seen = (self.answered, self.ended);
        self.ensure(counted == seen, || format!("answered and ended: counted {counted:?}, seen {seen:?}"));
        summary.stats = stats.calls;
    }

    fn ensure(&self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.fail(&why());
        }
    }

    fn fail(&self, why: &str) -> ! {
        panic!("seed {} at {} us: {why}", self.seed, self.now.as_micros());
    }
}

/// For the eye: the value of the first header line that begins so.
fn header(bytes: &[u8], start: &str) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default().to_owned()
}
