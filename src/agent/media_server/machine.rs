//! The media server itself: calls in set-up, and what is due.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::agent::chance::Chance;
use crate::agent::endpoint::Endpoint;
use crate::agent::heard::{Asked, Heard, Violations, server_key};
use crate::agent::hold::Hold;
use crate::agent::incoming::{Behaviour, Config, Incoming, Mood, Phase, Tally, babble, ok, retry_after, wrong};
use crate::agent::wire::Response;
use crate::base::{Flow, Time};
use crate::out::Out;
use crate::sip::{Index, Message, Method};

/// A media server.
pub struct MediaServer {
    pub(super) config: Config,
    pub(super) behaviour: Behaviour,
    pub(super) alive: bool,
    pub(super) endpoint: Endpoint,
    pub(super) calls: BTreeMap<u64, Incoming>,
    pub(super) tags: BTreeMap<String, u64>,
    pub(super) timers: BTreeSet<(Time, u64)>,
    pub(super) chance: Chance,
    pub(super) tally: Tally,
    pub(super) violations: Violations,
    pub(super) index: Index,
    pub(super) scratch: Index,
}

pub(super) const ALLOW: &str = "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, REFER\r\n";

impl MediaServer {
    /// A media server without calls.
    pub fn new(config: Config) -> Self {
        Self {
            endpoint: Endpoint::new(&config.name, config.addr, config.timing),
            chance: Chance::new(config.seed),
            config,
            behaviour: Behaviour::default(),
            alive: true,
            calls: BTreeMap::new(),
            tags: BTreeMap::new(),
            timers: BTreeSet::new(),
            tally: Tally::default(),
            violations: Violations::default(),
            index: Index::new(),
            scratch: Index::new(),
        }
    }

    /// Changes how it treats new calls.
    pub fn behave(&mut self, behaviour: Behaviour) {
        self.behaviour = behaviour;
    }

    /// How it treats new calls.
    pub fn behaviour(&self) -> Behaviour {
        self.behaviour
    }

    /// Dies: forgets all calls and hears nothing until [`MediaServer::revive`].
    pub fn crash(&mut self) {
        self.alive = false;
        self.tally.forgotten += self.calls() as u64;
        self.endpoint.forget();
        self.calls.clear();
        self.tags.clear();
        self.timers.clear();
    }

    /// Comes back, empty.
    pub fn revive(&mut self) {
        self.alive = true;
    }

    /// Whether it hears anything.
    pub fn alive(&self) -> bool {
        self.alive
    }

    /// Where it is.
    pub fn addr(&self) -> SocketAddr {
        self.config.addr
    }

    /// Calls answered and not ended: ports in use, as it sees them.
    pub fn calls(&self) -> usize {
        self.calls.values().filter(|call| call.phase == Phase::Answered).count()
    }

    /// Calls that have not ended, those in set-up too.
    pub fn alive_calls(&self) -> usize {
        self.calls.values().filter(|call| call.phase != Phase::Over).count()
    }

    /// What it has seen since its start.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether it has no calls, nor remembers any.
    pub fn idle(&self) -> bool {
        self.calls.is_empty()
    }

    /// What others did wrong, in words.
    pub fn violations(&self) -> &[String] {
        self.violations.all()
    }

    /// Ends an answered call by its Call-ID with a BYE. `false`: there is none.
    pub fn hang_up(&mut self, now: Time, call_id: &[u8], out: &mut Out) -> bool {
        let found = self.calls.iter().find(|(_, call)| call.is_up(call_id)).map(|(number, _)| *number);
        found.into_iter().for_each(|number| self.bye(now, number, out));
        found.is_some()
    }

    /// One message that came in.
    pub fn handle(&mut self, now: Time, bytes: &[u8], flow: Flow, out: &mut Out) {
        if !self.alive {
            return;
        }
        let mut index = std::mem::take(&mut self.index);
        match index.parse(bytes) {
            Ok(()) => self.hear(now, &index.message(bytes), flow, out),
            Err(why) => self.violations.push(format!("a malformed message ({}) reached the media server", why.name())),
        }
        self.index = index;
    }

    /// Everything that is due at `now`.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Out) {
        let mut expired = Vec::new();
        self.endpoint.handle_timeout(now, out, &mut expired);
        for (_, number) in expired {
            self.on_final(now, number, 408, out);
        }
        while let Some((at, number)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.pop_first();
            if self.calls.get(&number).is_some_and(|call| call.due == at) {
                self.on_due(now, number, out);
            }
        }
    }

    /// The earliest deadline.
    pub fn next_timeout(&self) -> Option<Time> {
        let own = self.timers.first().map(|(at, _)| *at);
        [own, self.endpoint.next_timeout()].into_iter().flatten().min()
    }

    fn hear(&mut self, now: Time, message: &Message<'_>, flow: Flow, out: &mut Out) {
        if message.is_request()
            && let Some(wrong) = wrong(message, flow)
        {
            self.violations.push(format!("{}: {wrong}", String::from_utf8_lossy(message.method().as_bytes())));
        }
        match (self.behaviour.mood, message.method(), message.to_tag()) {
            (Mood::Silent | Mood::Babbling, Method::Options, None) if message.is_request() => return,
            (Mood::Silent, Method::Invite, None) if message.is_request() => return,
            _ => {}
        }
        match self.endpoint.hear(now, message, flow, out) {
            Heard::Absorbed => {}
            Heard::Ack => self.on_ack(now, message),
            Heard::Request(key) => self.on_request(now, &Asked { key: &key, message, flow }, out),
            Heard::Response { owner, .. } => self.on_final(now, owner, message.status().unwrap_or_default(), out),
            Heard::Stray => {}
        }
    }

    pub(super) fn on_request(&mut self, now: Time, asked: &Asked<'_>, out: &mut Out) {
        if self.holds_back(now, asked, out) {
            return;
        }
        if asked.message.to_tag().is_some() {
            return self.on_in_dialog(now, asked, out);
        }
        match (asked.message.method(), self.behaviour.mood) {
            (Method::Invite, _) => self.on_invite(now, asked, out),
            (Method::Cancel, _) => self.on_cancel(now, asked, out),
            (Method::Options, Mood::Refusing(503, after)) => self.reply(now, asked, 503, &retry_after(after), out),
            (Method::Options, _) => self.reply(now, asked, 200, ALLOW, out),
            _ => self.reply(now, asked, 405, ALLOW, out),
        }
    }

    fn on_invite(&mut self, now: Time, asked: &Asked<'_>, out: &mut Out) {
        self.tally.invited += 1;
        let number = self.tally.invited;
        let tag = format!("{}{:x}", self.config.name, self.chance.bits() >> 16);
        let hold = Hold::of(asked.message);
        let behaviour = hold.map_or(self.behaviour, Behaviour::of);
        match behaviour.mood {
            Mood::Sound | Mood::Stalled => self.reply(now, asked, 100, "", out),
            Mood::Babbling => return babble(asked, out),
            Mood::Silent | Mood::Late | Mood::Refusing(..) => {}
        }
        let mut call = Incoming::new(now, asked, tag.clone(), behaviour);
        call.hold = hold;
        let due = call.due;
        self.tags.insert(tag, number);
        self.calls.insert(number, call);
        self.tally.busiest = self.tally.busiest.max(self.alive_calls());
        self.arm(number, due);
    }

    /// RFC 3261 §9.2: 200 to the CANCEL, 487 to an INVITE without a final.
    fn on_cancel(&mut self, now: Time, asked: &Asked<'_>, out: &mut Out) {
        let invite = server_key(asked.message, Method::Invite);
        let found = self.calls.iter().find(|(_, call)| call.key == invite).map(|(number, call)| (*number, call.phase));
        self.reply(now, asked, if found.is_some() { 200 } else { 481 }, "", out);
        if let Some((number, Phase::Trying | Phase::Ringing)) = found {
            self.final_response(now, number, 487, "", out);
        }
    }

    fn on_due(&mut self, now: Time, number: u64, out: &mut Out) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let answer = call.began + call.behaviour.answer_after;
        match (call.phase, call.behaviour.mood) {
            (Phase::Trying, Mood::Sound) if call.behaviour.ring_after.is_some() => self.ring(now, number, out),
            (Phase::Ringing, Mood::Sound) if call.unpracked && now < answer => self.ring(now, number, out),
            (Phase::Trying | Phase::Ringing, Mood::Refusing(status, after)) => {
                self.final_response(now, number, status, &retry_after(after), out);
            }
            (Phase::Trying | Phase::Ringing, _) => self.answer(now, number, out),
            (Phase::Answered, _) if call.ok.is_some() && now < call.give_up => {
                let due = call.repeat_ok(now, self.config.timing.t2, out);
                self.arm(number, due);
            }
            // No ACK for 64·T1 (RFC 3261 §13.3.1.4), or the moment to hang up.
            (Phase::Answered, _) => self.bye(now, number, out),
            (Phase::Over, _) => {
                if let Some(call) = self.calls.remove(&number) {
                    self.tags.remove(&call.tag);
                }
            }
        }
    }

    fn ring(&mut self, now: Time, number: u64, out: &mut Out) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let (reliable, due) = call.ring(now, self.config.timing.t1);
        let extra = format!("{}{reliable}", self.contact());
        self.respond_to_invite(now, number, 180, &extra, out);
        self.arm(number, due);
    }

    pub(super) fn answer(&mut self, now: Time, number: u64, out: &mut Out) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let (invite, key, flow) = (std::mem::take(&mut call.invite), call.key.clone(), call.flow);
        call.phase = Phase::Answered;
        let mut scratch = std::mem::take(&mut self.scratch);
        if scratch.parse(&invite).is_ok() {
            let message = scratch.message(&invite);
            let bytes = self.ok(number, &message, flow);
            self.endpoint.respond(now, &key, 200, bytes.clone(), out);
            self.await_ack(now, number, flow, message.cseq().number, bytes);
        }
        self.scratch = scratch;
        self.tally.answered += 1;
        self.tally.peak = self.tally.peak.max(self.calls());
    }

    pub(super) fn final_response(&mut self, now: Time, number: u64, status: u16, extra: &str, out: &mut Out) {
        self.respond_to_invite(now, number, status, extra, out);
        self.end(now, number);
    }

    pub(super) fn respond_to_invite(&mut self, now: Time, number: u64, status: u16, extra: &str, out: &mut Out) {
        let Some(call) = self.calls.get(&number) else { return };
        let mut bytes = Vec::new();
        if self.scratch.parse(&call.invite).is_ok() {
            let message = self.scratch.message(&call.invite);
            Response { status, tag: &call.tag, extra, body: b"" }.write(&message, call.flow.remote, &mut bytes);
            let key = call.key.clone();
            self.endpoint.respond(now, &key, status, bytes, out);
        }
    }

    pub(super) fn ok(&self, number: u64, message: &Message<'_>, flow: Flow) -> Vec<u8> {
        let tag = self.calls.get(&number).map_or("", |call| call.tag.as_str());
        ok(message, flow, tag, self.config.addr, number, self.contact())
    }

    pub(super) fn await_ack(&mut self, now: Time, number: u64, flow: Flow, cseq: u32, bytes: Vec<u8>) {
        let due = self.calls.get_mut(&number).map(|call| call.await_ack(now, self.config.timing, (flow, cseq, bytes)));
        due.into_iter().for_each(|due| self.arm(number, due));
    }

    /// The port is free at once; the dialog is remembered for what still comes.
    pub(super) fn end(&mut self, now: Time, number: u64) {
        let until = now + self.config.timing.patience();
        let Some(call) = self.calls.get_mut(&number).filter(|call| call.phase != Phase::Over) else { return };
        call.phase = Phase::Over;
        call.ok = None;
        self.arm(number, until);
    }

    pub(super) fn arm(&mut self, number: u64, due: Time) {
        if let Some(call) = self.calls.get_mut(&number) {
            call.due = due;
            if due < Time::NEVER {
                self.timers.insert((due, number));
            }
        }
    }

    pub(super) fn reply(&mut self, now: Time, asked: &Asked<'_>, status: u16, extra: &str, out: &mut Out) {
        let tag = format!("{}r", self.config.name);
        self.endpoint.reply(now, asked, Response { status, tag: &tag, extra, body: b"" }, out);
    }

    pub(super) fn number_of(&self, request: &Message<'_>) -> u64 {
        let tag = request.to_tag().and_then(|tag| std::str::from_utf8(tag).ok()).unwrap_or_default();
        self.tags.get(tag).copied().unwrap_or_default()
    }

    pub(super) fn contact(&self) -> String {
        format!("Contact: <sip:{}@{}>\r\n", self.config.name, self.config.addr)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::agent::caller::{self, Caller};
    use crate::agent::heard::Timing;
    use crate::agent::script::{Outcome, Plan, Report, Step};
    use crate::base::Transport;

    /// Both ends of a wire without a proxy; octets arrive after 1 ms.
    struct Pair {
        now: Time,
        caller: Caller,
        server: MediaServer,
        out: Out,
        wire: Vec<(Time, Flow, Vec<u8>)>,
        seen: Vec<String>,
        /// How many packets that begin so are lost.
        lose: (&'static str, usize),
    }

    impl Pair {
        fn new(mood: Mood) -> Self {
            let (here, there) = ("192.0.2.1:5060".parse().unwrap(), "192.0.2.2:5060".parse().unwrap());
            let timing = Timing::default();
            let (name, transport) = (String::from("a"), Transport::Udp);
            let caller = Caller::new(caller::Config { name, addr: here, transport, node: there, backup: None, timing });
            let mut server = MediaServer::new(Config { name: String::from("m"), addr: there, timing, seed: 1 });
            server.behave(Behaviour { mood, ..Behaviour::default() });
            let (now, out) = (Time::ZERO, Out::new());
            Self { now, caller, server, out, wire: Vec::new(), seen: Vec::new(), lose: ("", 0) }
        }

        fn run(&mut self, plan: Plan) -> Report {
            self.caller.call(self.now, plan, &mut self.out);
            self.run_until(Time::ZERO + Duration::from_secs(300));
            let reports = self.caller.take_reports();
            assert_eq!(reports.len(), 1, "one call, one report");
            assert!(self.server.next_timeout().is_none() && self.caller.next_timeout().is_none(), "nothing is left");
            reports[0].clone()
        }

        fn run_until(&mut self, end: Time) {
            loop {
                self.collect();
                let due = [self.caller.next_timeout(), self.server.next_timeout(), self.wire.first().map(|w| w.0)];
                let Some(next) = due.into_iter().flatten().min().filter(|at| *at <= end) else { return };
                self.now = next;
                if self.wire.first().is_some_and(|(at, ..)| *at <= next) {
                    let (_, flow, bytes) = self.wire.remove(0);
                    let flow = Flow { local: flow.remote, remote: flow.local, ..flow };
                    if flow.local == self.server.addr() {
                        self.server.handle(next, &bytes, flow, &mut self.out);
                    } else {
                        self.caller.handle(next, &bytes, flow, &mut self.out);
                    }
                } else {
                    self.caller.handle_timeout(next, &mut self.out);
                    self.server.handle_timeout(next, &mut self.out);
                }
            }
        }

        fn collect(&mut self) {
            for transmit in &self.out.transmits {
                let bytes = self.out.bytes(transmit).to_vec();
                let line = String::from_utf8_lossy(bytes.split(|b| *b == b'\r').next().unwrap()).into_owned();
                self.seen.push(line.clone());
                if self.lose.1 > 0 && line.starts_with(self.lose.0) {
                    self.lose.1 -= 1;
                } else {
                    self.wire.push((self.now + Duration::from_millis(1), transmit.flow, bytes));
                }
            }
            self.out.clear();
        }

        fn count(&self, start: &str) -> usize {
            self.seen.iter().filter(|line| line.starts_with(start)).count()
        }
    }

    #[test]
    fn a_call_with_requests_inside_it_completes() {
        let mut pair = Pair::new(Mood::Sound);
        let pause = Duration::from_millis(100);
        let steps = [Step::ReInvite, Step::Info, Step::Update, Step::Options].map(|step| (pause, step)).to_vec();
        let report = pair.run(Plan { steps, ..Plan::default() });
        assert_eq!(report.outcome, Outcome::Completed);
        assert_eq!(report.server, Some(pair.server.addr()));
        assert_eq!(report.answered, Some(Time::from_micros(202_000)), "200 ms and two ways");
        assert_eq!((pair.count("INVITE"), pair.count("ACK"), pair.count("BYE")), (2, 2, 1));
        assert_eq!((pair.count("INFO"), pair.count("UPDATE"), pair.count("OPTIONS")), (1, 1, 1));
        assert_eq!(pair.server.tally(), Tally { invited: 1, answered: 1, forgotten: 0, peak: 1, busiest: 1 });
        assert!(report.refused.is_empty() && pair.caller.violations().is_empty());
    }

    /// What a canary does that is to wait there.
    fn canary(hold: Hold) -> Plan {
        let step = Duration::from_millis(50);
        Plan {
            params: format!(";{}={}", Hold::PARAMETER, hold.name()),
            hold: if hold == Hold::Answered { Duration::from_secs(600) } else { step },
            steps: if hold == Hold::ReInvite { vec![(step, Step::ReInvite)] } else { Vec::new() },
            cancel_after: (hold == Hold::Cancel).then_some(step),
            ..Plan::default()
        }
    }

    #[test]
    fn a_call_waits_where_it_was_asked_to_and_then_goes_on() {
        for hold in Hold::ALL {
            // Nobody else is served meanwhile.
            let mut pair = Pair::new(Mood::Refusing(480, None));
            let call_id = pair.caller.next_call_id();
            pair.caller.call(pair.now, canary(hold), &mut pair.out);
            pair.run_until(Time::ZERO + Duration::from_secs(20));
            assert_eq!(pair.server.waits(call_id.as_bytes()), Some(hold));
            assert_eq!((pair.caller.take_reports().len(), pair.server.tally().busiest), (0, 1), "{hold:?}");
            assert_eq!(pair.count("SIP/2.0 200") > 0, matches!(hold, Hold::Answered | Hold::ReInvite | Hold::Bye));

            pair.now = Time::ZERO + Duration::from_secs(20);
            pair.server.go_on(pair.now, call_id.as_bytes(), &mut pair.out);
            assert_eq!(pair.server.waits(call_id.as_bytes()), None, "{hold:?}");
            pair.run_until(Time::ZERO + Duration::from_secs(900));
            let reports = pair.caller.take_reports();
            let wanted = if hold == Hold::Cancel { Outcome::Cancelled } else { Outcome::Completed };
            assert_eq!(reports.iter().map(|r| r.outcome).collect::<Vec<_>>(), [wanted], "{hold:?}");
            assert_eq!((reports[0].hung_up, reports[0].refused.len()), (hold == Hold::Answered, 0), "{hold:?}");
            assert_eq!(pair.count("SIP/2.0 487") > 0, hold == Hold::Cancel);
            assert!(pair.caller.violations().is_empty(), "{:?}", pair.caller.violations());
            assert!(pair.server.idle() && pair.caller.next_timeout().is_none(), "nothing is left");
        }
    }

    #[test]
    fn a_refer_is_accepted_and_its_end_is_told_once() {
        let step = |step| (Duration::from_millis(100), step);
        let cases = [("nothing", [1, 1, 1]), ("REFER", [2, 1, 1]), ("SIP/2.0 202", [2, 2, 1]), ("NOTIFY", [1, 1, 2])];
        for (lost, sent) in cases {
            let mut pair = Pair::new(Mood::Sound);
            pair.lose = (lost, 1);
            let report = pair.run(Plan { steps: vec![step(Step::Refer), step(Step::Info)], ..Plan::default() });
            assert_eq!((report.outcome, report.refused.len()), (Outcome::Completed, 0), "{lost} lost once");
            assert_eq!(["REFER", "SIP/2.0 202", "NOTIFY"].map(|start| pair.count(start)), sent, "{lost} lost once");
            let after = |line: &str| pair.seen.iter().rposition(|seen| seen.starts_with(line));
            assert!(after("INFO") > after("NOTIFY"), "{lost} lost once: the next step waits");
            assert!(pair.caller.violations().is_empty(), "{:?}", pair.caller.violations());
        }
    }

    #[test]
    fn each_refer_of_a_dialog_has_its_notify() {
        let mut pair = Pair::new(Mood::Sound);
        let report = pair.run(Plan { steps: vec![(Duration::from_millis(100), Step::Refer); 3], ..Plan::default() });
        assert_eq!((report.outcome, pair.count("REFER"), pair.count("NOTIFY")), (Outcome::Completed, 3, 3));
        assert!(pair.caller.violations().is_empty(), "{:?}", pair.caller.violations());
    }

    #[test]
    fn a_refer_whose_end_is_never_told_ends_the_call() {
        let plan = Plan { steps: vec![(Duration::from_millis(100), Step::Refer)], ..Plan::default() };
        let mut pair = Pair::new(Mood::Sound);
        pair.lose = ("NOTIFY", usize::MAX);
        let report = pair.run(plan.clone());
        assert_eq!((report.outcome, report.hung_up), (Outcome::Completed, true), "its server knows that it is alone");
        assert_eq!((pair.count("SIP/2.0 202"), pair.count("INVITE")), (1, 1));

        let mut pair = Pair::new(Mood::Sound);
        pair.lose = ("NOTIFY", usize::MAX);
        pair.caller.call(Time::ZERO, plan, &mut pair.out);
        pair.run_until(Time::from_micros(5_000_000));
        pair.server.crash();
        pair.run_until(Time::from_micros(300_000_000));
        assert_eq!(pair.caller.take_reports()[0].outcome, Outcome::Dropped(408), "its caller waits no longer");
    }

    #[test]
    fn a_bye_does_not_overtake_a_notify() {
        let mut pair = Pair::new(Mood::Sound);
        pair.lose = ("NOTIFY", 2);
        let (hang_up_after, steps) =
            (Some(Duration::from_millis(700)), vec![(Duration::from_millis(100), Step::Refer)]);
        let report = pair.run(Plan { hang_up_after, steps, hold: Duration::from_secs(9), ..Plan::default() });
        assert_eq!((report.outcome, report.hung_up), (Outcome::Completed, true));
        assert_eq!((pair.count("NOTIFY"), pair.count("BYE")), (3, 1));
        assert!(pair.caller.violations().is_empty(), "{:?}", pair.caller.violations());
    }

    #[test]
    fn a_reliable_provisional_is_repeated_until_its_prack() {
        for (lost, rings, pracks) in [("nothing", 1, 1), ("SIP/2.0 180", 2, 1), ("PRACK", 2, 2)] {
            let mut pair = Pair::new(Mood::Sound);
            let answer_after = Duration::from_secs(3);
            pair.server.behave(Behaviour { answer_after, ..Behaviour::default() });
            pair.lose = (lost, 1);
            let plan = Plan { extra: "Supported: 100rel\r\n".to_owned(), ..Plan::default() };
            let report = pair.run(plan);
            assert_eq!((report.outcome, report.refused.len()), (Outcome::Completed, 0), "{lost} lost once");
            assert_eq!((pair.count("SIP/2.0 180"), pair.count("PRACK")), (rings, pracks), "{lost} lost once");
            assert_eq!(report.answered, Some(Time::from_micros(3_002_000)), "the answer keeps its time");
            assert!(pair.caller.violations().is_empty(), "{:?}", pair.caller.violations());
        }
    }

    #[test]
    fn a_lost_2xx_and_a_lost_ack_are_repeated() {
        for (lost, oks, acks) in [("SIP/2.0 200", 2, 1), ("ACK", 2, 2)] {
            let mut pair = Pair::new(Mood::Sound);
            pair.lose = (lost, 1);
            assert_eq!(pair.run(Plan::default()).outcome, Outcome::Completed);
            assert_eq!((pair.count("SIP/2.0 200") - 1, pair.count("ACK")), (oks, acks), "{lost} lost once");
        }
    }

    #[test]
    fn an_invite_is_repeated_until_a_provisional() {
        let mut pair = Pair::new(Mood::Sound);
        pair.lose = ("INVITE", 3);
        assert_eq!(pair.run(Plan::default()).answered, Some(Time::from_micros(3_500_000 + 202_000)));
        assert_eq!(pair.count("INVITE"), 4, "at 0, 0.5, 1.5 and 3.5 s");
    }

    #[test]
    fn a_cancel_waits_for_a_provisional_and_ends_in_487() {
        let mut pair = Pair::new(Mood::Stalled);
        pair.lose = ("SIP/2.0 100", 1);
        let report = pair.run(Plan { cancel_after: Some(Duration::from_millis(50)), ..Plan::default() });
        assert_eq!(report.outcome, Outcome::Cancelled);
        assert_eq!((pair.count("CANCEL"), pair.count("SIP/2.0 487"), pair.count("ACK")), (1, 1, 1));
        assert_eq!(report.ended, Time::from_micros(504_000), "CANCEL left after the second INVITE's 100");
    }

    #[test]
    fn a_refusal_is_acknowledged_with_its_own_to_tag() {
        let mut pair = Pair::new(Mood::Refusing(486, None));
        pair.lose = ("ACK", 1);
        assert_eq!(pair.run(Plan::default()).outcome, Outcome::Failed(486));
        assert_eq!((pair.count("SIP/2.0 486"), pair.count("ACK")), (2, 2));
    }

    #[test]
    fn a_crash_drops_the_call_and_a_silent_server_never_answers() {
        let mut pair = Pair::new(Mood::Sound);
        pair.caller.call(Time::ZERO, Plan::default(), &mut pair.out);
        pair.run_until(Time::from_micros(1_000_000));
        pair.server.crash();
        pair.server.revive();
        pair.run_until(Time::from_micros(60_000_000));
        assert_eq!(pair.caller.take_reports()[0].outcome, Outcome::Dropped(481));
        assert_eq!(pair.server.tally().forgotten, 1);
        assert_eq!(Pair::new(Mood::Silent).run(Plan::default()).outcome, Outcome::Unanswered);
    }

    #[test]
    fn the_server_hangs_up_when_the_caller_asks_for_it() {
        let mut pair = Pair::new(Mood::Sound);
        let hang_up_after = Some(Duration::from_millis(700));
        let report = pair.run(Plan { hang_up_after, ..Plan::default() });
        assert_eq!((report.outcome, report.hung_up, pair.count("BYE")), (Outcome::Completed, true, 1));
    }
}
