//! A sans-IO caller: a UAC that plays [`Plan`]s and reports each call's [`Outcome`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::endpoint::Endpoint;
use super::heard::{Asked, ClientId, Heard, Timing, Violations, transmit};
use super::outgoing::{Cancel, Leg, Outgoing, Phase, number_of};
use super::refer;
use super::script::{Outcome, Plan, Report, Step};
use super::wire::{Response, sdp};
use crate::base::{Flow, Time, Transport};
use crate::out::Out;
use crate::sip::{Index, Message, Method};

/// What a caller is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Unique among the agents of a run; part of branches, tags and Call-IDs.
    pub name: String,
    /// Where it is.
    pub addr: SocketAddr,
    /// How it reaches the node.
    pub transport: Transport,
    /// The node.
    pub node: SocketAddr,
    /// The node that is asked again; `None`: the same one.
    pub backup: Option<SocketAddr>,
    /// Its timers.
    pub timing: Timing,
}

/// A caller.
pub struct Caller {
    pub(super) config: Config,
    pub(super) endpoint: Endpoint,
    pub(super) calls: BTreeMap<u64, Outgoing>,
    pub(super) timers: BTreeSet<(Time, u64)>,
    placed: u64,
    reports: Vec<Report>,
    violations: Violations,
    index: Index,
}

impl Caller {
    /// A caller without calls.
    pub fn new(config: Config) -> Self {
        Self {
            endpoint: Endpoint::new(&config.name, config.addr, config.timing),
            config,
            calls: BTreeMap::new(),
            timers: BTreeSet::new(),
            placed: 0,
            reports: Vec::new(),
            violations: Violations::default(),
            index: Index::new(),
        }
    }

    /// Starts a call.
    pub fn call(&mut self, now: Time, plan: Plan, out: &mut Out) {
        let call_id = self.next_call_id();
        self.placed += 1;
        let number = self.placed;
        let tag = format!("{}t{number:x}", self.config.name);
        let invite = self.invite(now, number, &plan, (&call_id, &tag), self.config.node, out);
        let call = Outgoing::new(now, plan, invite, call_id, tag);
        let due = call.due;
        self.timers.insert((due, number));
        self.calls.insert(number, call);
    }

    /// The Call-ID of the call that comes next.
    pub fn next_call_id(&self) -> String {
        format!("{:x}-{}@{}", self.placed + 1, self.config.name, self.config.addr.ip())
    }

    /// One message that came in.
    pub fn handle(&mut self, now: Time, bytes: &[u8], flow: Flow, out: &mut Out) {
        let mut index = std::mem::take(&mut self.index);
        match index.parse(bytes) {
            Ok(()) => {
                let message = index.message(bytes);
                match self.endpoint.hear(now, &message, flow, out) {
                    Heard::Absorbed | Heard::Ack => {}
                    Heard::Request(key) => self.on_request(now, &Asked { key: &key, message: &message, flow }, out),
                    Heard::Response { id, owner } if self.is_left(owner, id, &message) => {}
                    Heard::Response { owner, .. } => self.on_response(now, owner, &message, out),
                    Heard::Stray => self.on_stray(now, &message, out),
                }
            }
            Err(why) => self.violations.push(format!("a malformed message ({}) reached the caller", why.name())),
        }
        self.index = index;
    }

    /// Everything that is due at `now`.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Out) {
        let mut expired = Vec::new();
        self.endpoint.handle_timeout(now, out, &mut expired);
        for (id, number) in expired {
            self.on_expired(now, number, id, out);
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
        let own = self.timers.first().map(|(at, _)| *at).filter(|at| *at < Time::NEVER);
        [own, self.endpoint.next_timeout()].into_iter().flatten().min()
    }

    /// The calls that ended since the last time.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// What others did wrong, in words.
    pub fn violations(&self) -> &[String] {
        self.violations.all()
    }

    /// Calls without a report yet.
    pub fn open(&self) -> usize {
        self.calls.values().filter(|call| call.phase != Phase::Done).count()
    }

    /// When one of the calls that began at `since` or later first got a response to its INVITE.
    pub fn first_heard(&self, since: Time) -> Option<Time> {
        self.calls.values().filter(|call| call.invited >= since).filter_map(|call| call.heard).min()
    }

    fn on_response(&mut self, now: Time, number: u64, message: &Message<'_>, out: &mut Out) {
        if let Some(wrong) = self.calls.get(&number).and_then(|call| call.wrong(message)) {
            self.violations.push(format!("call {number}: a response with {wrong}"));
        }
        let (status, cseq) = (message.status().unwrap_or_default(), message.cseq());
        match cseq.method {
            Method::Cancel => {}
            Method::Invite if cseq.number == 1 => self.on_invite_response(now, number, status, message, out),
            Method::Bye if status >= 200 => self.on_bye_response(now, number, status, message),
            _ if status >= 200 => self.on_step_response(now, number, status, message, out),
            _ => {}
        }
    }

    /// A 2xx may outlive the transaction of its INVITE; the dialog that it made must end (RFC 3261 §13.2.2.4).
    fn on_stray(&mut self, now: Time, message: &Message<'_>, out: &mut Out) {
        let known = |call: &Outgoing| call.call_id.as_bytes() == message.call_id();
        let Some(number) = number_of(message).filter(|n| self.calls.get(n).is_some_and(known)) else { return };
        let status = message.status().unwrap_or_default();
        if (200..300).contains(&status) && matches!(message.cseq().method, Method::Invite) {
            self.on_response(now, number, message, out);
        }
    }

    fn on_invite_response(&mut self, now: Time, number: u64, status: u16, message: &Message<'_>, out: &mut Out) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.heard.get_or_insert(now);
        match status {
            100..200 => {
                call.provisional = true;
                if let Some((branch, flow, bytes)) = call.prack(message, &mut self.endpoint) {
                    self.endpoint.request(now, number, branch, flow, bytes, out);
                }
                if call.cancel == Cancel::Wanted && call.phase == Phase::Inviting {
                    call.cancel = Cancel::Sent;
                    self.endpoint.cancel(now, call.invite, out);
                }
            }
            200..300 => self.on_answer(now, number, message, out),
            _ if call.phase != Phase::Inviting => {}
            487 if call.cancel == Cancel::Sent => self.finish(now, number, Outcome::Cancelled),
            _ => self.finish(now, number, Outcome::Failed(status)),
        }
    }

    fn on_answer(&mut self, now: Time, number: u64, message: &Message<'_>, out: &mut Out) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        if let Some(leg) = call.leg_of(message) {
            return self.acknowledge(number, leg, message.cseq().number, out);
        }
        let Some(dialog) = call.confirmed(message) else {
            return self.violations.push(format!("call {number}: 2xx without To tag or Contact"));
        };
        call.legs.push(Leg { dialog, acks: Vec::new(), left: false, bye: None });
        let (leg, wanted) = (call.legs.len() - 1, call.phase == Phase::Inviting);
        if wanted {
            call.answered = Some(now);
            call.phase = Phase::Up;
            call.due = call.next_due(now);
            self.timers.insert((call.due, number));
        }
        let unwanted = !wanted || call.cancel == Cancel::Sent;
        self.acknowledge(number, leg, message.cseq().number, out);
        if unwanted {
            self.leave(now, number, leg, out);
        }
    }

    fn on_step_response(&mut self, now: Time, number: u64, status: u16, message: &Message<'_>, out: &mut Out) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let Some(leg) = call.leg_of(message) else { return };
        let cseq = message.cseq();
        call.replied(cseq.number, status);
        match status {
            200..300 if matches!(cseq.method, Method::Invite) => self.acknowledge(number, leg, cseq.number, out),
            200..300 => {}
            // RFC 3261 §12.2.1.2: the dialog is gone.
            408 | 481 => {
                call.dropped.get_or_insert(status);
                self.leave(now, number, leg, out);
            }
            _ => call.refused.push(status),
        }
    }

    fn on_bye_response(&mut self, now: Time, number: u64, status: u16, message: &Message<'_>) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        if call.phase == Phase::Leaving && call.leg_of(message) == Some(0) {
            // A 481 after their own BYE only says that both hung up at once.
            if status >= 300 && !call.hung_up {
                call.bye_failed(status);
            }
            self.over(now, number);
        }
    }

    fn on_request(&mut self, now: Time, asked: &Asked<'_>, out: &mut Out) {
        let (message, cseq) = (asked.message, asked.message.cseq().number);
        let mut calls = self.calls.iter_mut();
        let found = calls.find_map(|(number, call)| Some((*number, call.leg_for(message)?, call)));
        let status = match (&found, message.method()) {
            (Some((_, leg, call)), _) if cseq <= call.legs[*leg].dialog.heard => 500,
            (Some(_), _) | (None, Method::Options) => 200,
            (None, _) => 481,
        };
        if let Some((number, leg, call)) = found {
            call.legs[leg].dialog.heard = cseq;
            let bye = matches!(message.method(), Method::Bye);
            call.legs[leg].left |= bye;
            call.hung_up |= bye && leg == 0;
            match message.method() {
                _ if status == 500 => self.violations.push(format!("call {number}: CSeq did not grow")),
                Method::Bye if leg == 0 => self.over(now, number),
                Method::Notify => match refer::told(message) {
                    Some(cseq) => call.told(cseq),
                    None => self.violations.push(format!("call {number}: NOTIFY of nothing that was asked for")),
                },
                _ => {}
            }
        }
        let extra = self.contact();
        self.endpoint.reply(now, asked, Response { status, tag: "none", extra: &extra, body: b"" }, out);
    }

    fn on_expired(&mut self, now: Time, number: u64, id: ClientId, out: &mut Out) {
        let Some(call) = self.calls.get_mut(&number).filter(|call| !call.left_other(id)) else { return };
        match call.phase {
            Phase::Inviting if id == call.invite && call.cancel == Cancel::Sent => {
                self.finish(now, number, Outcome::Cancelled);
            }
            Phase::Inviting if id == call.invite => self.finish(now, number, Outcome::Unanswered),
            Phase::Up if !id.cancel => {
                call.dropped.get_or_insert(408);
                self.leave(now, number, 0, out);
            }
            Phase::Leaving if !id.cancel => {
                call.bye_failed(408);
                self.over(now, number);
            }
            _ => {}
        }
    }

    fn on_due(&mut self, now: Time, number: u64, out: &mut Out) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        match call.phase {
            Phase::Inviting if now >= call.ask_again => self.ask_again(now, number, out),
            Phase::Inviting if call.provisional => {
                call.cancel = Cancel::Sent;
                self.endpoint.cancel(now, call.invite, out);
            }
            Phase::Inviting => call.cancel = Cancel::Wanted,
            Phase::Up if call.pending.is_some_and(|step| now >= step.until) => {
                call.dropped.get_or_insert(408);
                self.leave(now, number, 0, out);
            }
            Phase::Up if call.pending.is_some() => {
                call.due = now + self.config.timing.t1;
                self.timers.insert((call.due, number));
            }
            Phase::Up => match call.plan.steps.get(call.next_step).copied() {
                Some((_, step)) => {
                    call.next_step += 1;
                    call.due = call.next_due(now);
                    self.timers.insert((call.due, number));
                    self.step(now, number, step, out);
                }
                None => self.leave(now, number, 0, out),
            },
            Phase::Leaving => {}
            Phase::Done => {
                self.calls.remove(&number);
            }
        }
    }

    fn step(&mut self, now: Time, number: u64, step: Step, out: &mut Out) {
        let (extra, body) = match step {
            Step::ReInvite | Step::Update => (self.contact(), sdp(self.config.addr, number)),
            Step::Info | Step::Options => (String::new(), Vec::new()),
            Step::Refer => (self.contact() + &refer::asking(self.config.addr), Vec::new()),
        };
        let Some(call) = self.calls.get_mut(&number).filter(|call| !call.legs.is_empty()) else { return };
        match self.endpoint.inside(&mut call.legs[0].dialog, step.method(), None, &extra, &body) {
            Some((branch, flow, bytes)) => {
                call.stepped(step, call.legs[0].dialog.cseq, now + self.config.timing.patience() * 2);
                self.endpoint.request(now, number, branch, flow, bytes, out);
            }
            None => self.violations.push(format!("call {number}: route set leads nowhere")),
        }
    }

    /// BYE for one leg, once.
    fn leave(&mut self, now: Time, number: u64, leg: usize, out: &mut Out) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        if leg == 0 && call.phase == Phase::Up {
            call.phase = Phase::Leaving;
            call.due = Time::NEVER;
        }
        let leg = &mut call.legs[leg];
        if std::mem::replace(&mut leg.left, true) {
            return;
        }
        match self.endpoint.inside(&mut leg.dialog, "BYE", None, "", b"") {
            Some((branch, flow, bytes)) => {
                leg.bye = Some(self.endpoint.request(now, number, branch, flow, bytes, out));
            }
            None => self.violations.push(format!("call {number}: route set leads nowhere")),
        }
    }

    /// ACK to a 2xx, and the same ACK again to each repetition of it (RFC 3261 §13.2.2.4).
    fn acknowledge(&mut self, number: u64, leg: usize, cseq: u32, out: &mut Out) {
        let Some(leg) = self.calls.get_mut(&number).and_then(|call| call.legs.get_mut(leg)) else { return };
        if let Some((_, flow, ack)) = leg.acks.iter().find(|(n, ..)| *n == cseq) {
            return transmit(out, *flow, ack);
        }
        match self.endpoint.inside(&mut leg.dialog, "ACK", Some(cseq), "", b"") {
            Some((_, flow, bytes)) => {
                transmit(out, flow, &bytes);
                leg.acks.push((cseq, flow, bytes));
            }
            None => self.violations.push(format!("call {number}: route set leads nowhere")),
        }
    }

    fn over(&mut self, now: Time, number: u64) {
        let Some(call) = self.calls.get(&number) else { return };
        self.finish(now, number, call.outcome());
    }

    /// Reports a call, once. It is remembered for as long as a 2xx may still come.
    fn finish(&mut self, now: Time, number: u64, outcome: Outcome) {
        let linger = self.config.timing.patience() * 2;
        let Some(call) = self.calls.get_mut(&number).filter(|call| call.phase != Phase::Done) else { return };
        call.phase = Phase::Done;
        call.due = now + linger;
        self.timers.insert((call.due, number));
        self.reports.push(call.report(now, number, outcome));
    }

    pub(super) fn contact(&self) -> String {
        let Config { name, addr, transport, .. } = &self.config;
        let stream = if *transport == Transport::Udp { String::new() } else { format!(";transport={transport}") };
        format!("Contact: <sip:{name}@{addr}{stream}>\r\n")
    }
}
