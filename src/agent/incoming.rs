//! One call of a media server.

use std::net::SocketAddr;
use std::time::Duration;

use super::dialog::Dialog;
use super::heard::{Asked, ServerKey, Timing, transmit};
use super::hold::Hold;
use super::wire::{Response, sdp};
use crate::base::{Flow, Host, Time};
use crate::out::Out;
use crate::sip::{Message, Method, Name};

/// What a media server is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Unique among the agents of a run; part of branches and tags.
    pub name: String,
    /// Where it is.
    pub addr: SocketAddr,
    /// Its timers.
    pub timing: Timing,
    /// Seed of its tags.
    pub seed: u64,
}

/// How a media server treats calls. May be changed at any time; INVITEs already heard keep the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// From the INVITE to the 180; `None`: no 180.
    pub ring_after: Option<Duration>,
    /// From the INVITE to the final.
    pub answer_after: Duration,
    /// What it does with new INVITEs.
    pub mood: Mood,
}

impl Default for Behaviour {
    fn default() -> Self {
        let (ring_after, answer_after) = (Some(Duration::from_millis(20)), Duration::from_millis(200));
        Self { ring_after, answer_after, mood: Mood::Sound }
    }
}

impl Behaviour {
    /// How a call is treated that is to wait there.
    pub fn of(hold: Hold) -> Self {
        let (ring, forever) = (Duration::from_millis(20), Duration::from_secs(86_400));
        let (ring_after, answer_after) = match hold {
            Hold::Trying => (None, forever),
            Hold::Ringing | Hold::Cancel => (Some(ring), forever),
            Hold::Answered | Hold::ReInvite | Hold::Bye => (Some(ring), ring * 2),
        };
        Self { ring_after, answer_after, mood: Mood::Sound }
    }

    /// When something is to happen first; [`Time::NEVER`]: nothing will.
    pub fn first_due(&self, now: Time) -> Time {
        match (self.mood, self.ring_after) {
            (Mood::Stalled | Mood::Babbling | Mood::Silent, _) => Time::NEVER,
            (Mood::Sound, Some(ring)) => now + ring.min(self.answer_after),
            _ => now + self.answer_after,
        }
    }
}

/// What a media server does with new INVITEs and with OPTIONS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// 100, 180, 200; OPTIONS get 200.
    Sound,
    /// Nothing; OPTIONS get nothing either.
    Silent,
    /// 100 and nothing more.
    Stalled,
    /// No provisional at all, then 200.
    Late,
    /// This final, with Retry-After if given. OPTIONS get 200, except under 503.
    Refusing(u16, Option<u32>),
    /// Answers that fit nothing: octets that are no SIP, a branch that is not the request's. OPTIONS get nothing.
    Babbling,
}

/// What a media server has seen since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// New INVITEs heard.
    pub invited: u64,
    /// Calls answered.
    pub answered: u64,
    /// Answered calls that crashes took.
    pub forgotten: u64,
    /// The most calls it had at once.
    pub peak: usize,
    /// Likewise, with those that were not answered yet.
    pub busiest: usize,
}

/// A call and how far it got.
#[derive(Debug)]
pub struct Incoming {
    pub invite: Vec<u8>,
    pub key: ServerKey,
    pub flow: Flow,
    pub tag: String,
    pub phase: Phase,
    pub behaviour: Behaviour,
    pub began: Time,
    pub dialog: Option<Dialog>,
    /// The last 2xx to an INVITE until its ACK comes (RFC 3261 §13.3.1.4).
    pub ok: Option<(Flow, u32, Vec<u8>)>,
    /// Whether the 180 asks for a PRACK that has not come yet (RFC 3262 §3).
    pub unpracked: bool,
    pub interval: Duration,
    pub give_up: Time,
    pub hang_up: Option<Duration>,
    /// NOTIFYs without a final yet.
    pub notifying: u32,
    /// Where it waits for a word from outside.
    pub hold: Option<Hold>,
    /// What is not answered before that.
    pub withheld: Option<Withheld>,
    pub due: Time,
}

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Withheld {
    pub key: ServerKey,
    pub flow: Flow,
    pub bytes: Vec<u8>,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No 180 yet.
    Trying,
    /// 180 sent.
    Ringing,
    /// 200 sent.
    Answered,
    /// Its port is free; remembered for what still comes.
    Over,
}

impl Incoming {
    /// A call whose INVITE just came.
    pub fn new(now: Time, asked: &Asked<'_>, tag: String, behaviour: Behaviour) -> Self {
        Self {
            invite: asked.message.bytes().to_vec(),
            key: asked.key.clone(),
            flow: asked.flow,
            dialog: Dialog::of_request(asked.message, &tag),
            tag,
            phase: Phase::Trying,
            behaviour,
            began: now,
            ok: None,
            unpracked: asked.message.tokens(Name::Supported).any(|tag| tag == b"100rel"),
            interval: Duration::ZERO,
            give_up: Time::NEVER,
            hang_up: hang_up_of(asked.message),
            notifying: 0,
            hold: None,
            withheld: None,
            due: behaviour.first_due(now),
        }
    }

    /// Whether it is answered and not ended, and has this Call-ID.
    pub fn is_up(&self, call_id: &[u8]) -> bool {
        self.phase == Phase::Answered && self.dialog.as_ref().is_some_and(|dialog| dialog.call_id == call_id)
    }

    /// It sends a 180 now: the header lines that make it a reliable one, and when something is due again. A reliable one
    /// is repeated until its PRACK or the answer.
    pub fn ring(&mut self, now: Time, t1: Duration) -> (&'static str, Time) {
        self.phase = Phase::Ringing;
        self.interval = (self.interval * 2).max(t1);
        let answer = self.began + self.behaviour.answer_after;
        let again = now + self.interval;
        let (lines, due) = if self.unpracked { (RELIABLE, answer.min(again)) } else { ("", answer) };
        (lines, due.max(now))
    }

    /// Its PRACK came: when the answer is due, if it still rings.
    pub fn pracked(&mut self) -> Option<Time> {
        self.unpracked = false;
        (self.phase == Phase::Ringing).then(|| self.began + self.behaviour.answer_after)
    }

    /// This 2xx to an INVITE was sent; when again if its ACK does not come (RFC 3261 §13.3.1.4).
    pub fn await_ack(&mut self, now: Time, timing: Timing, ok: (Flow, u32, Vec<u8>)) -> Time {
        self.ok = Some(ok);
        self.interval = timing.t1;
        self.give_up = now + timing.patience();
        now + timing.t1
    }

    /// Sends it once more; when again.
    pub fn repeat_ok(&mut self, now: Time, t2: Duration, out: &mut Out) -> Time {
        if let Some((flow, _, bytes)) = &self.ok {
            transmit(out, *flow, bytes);
        }
        self.interval = (self.interval * 2).min(t2);
        (now + self.interval).min(self.give_up)
    }
}

/// What makes the one 180 of a call reliable (RFC 3262 §3).
const RELIABLE: &str = "Require: 100rel\r\nRSeq: 1\r\n";

/// The octets of a 200 with an answer, for an INVITE or re-INVITE that came over `flow` to the server at `local`.
pub fn ok(message: &Message<'_>, flow: Flow, tag: &str, local: SocketAddr, number: u64, contact: String) -> Vec<u8> {
    let mut extra = contact;
    if let Some(expires) = message.session_expires() {
        // RFC 4028 §9: the caller refreshes.
        extra.push_str(&format!("Require: timer\r\nSession-Expires: {expires};refresher=uac\r\n"));
    }
    let mut bytes = Vec::new();
    Response { status: 200, tag, extra: &extra, body: &sdp(local, number) }.write(message, flow.remote, &mut bytes);
    bytes
}

/// A `Retry-After` line, or nothing.
pub fn retry_after(seconds: Option<u32>) -> String {
    seconds.map(|s| format!("Retry-After: {s}\r\n")).unwrap_or_default()
}

/// Sends octets that are no SIP, and a 200 whose branch is nobody's.
pub fn babble(asked: &Asked<'_>, out: &mut Out) {
    transmit(out, asked.flow, b"SIP/2.0 200 OK\r\nVia: \xff\r\n\r\n");
    let mut bytes = Vec::new();
    Response { status: 200, tag: "babble", extra: "", body: b"" }.write(asked.message, asked.flow.remote, &mut bytes);
    if let Some(at) = memchr::memmem::find(&bytes, b"z9hG4bK") {
        bytes[at + b"z9hG4bK".len()] ^= 1;
        transmit(out, asked.flow, &bytes);
    }
}

/// What is wrong with a request that a proxy sent (RFC 3261 §16.6).
pub fn wrong(request: &Message<'_>, flow: Flow) -> Option<&'static str> {
    let via = request.via();
    let source = via.port.unwrap_or(5060) == flow.remote.port() && via.host == Host::Ip(flow.remote.ip());
    let call = matches!(request.method(), Method::Invite) && request.to_tag().is_none();
    if !source && !flow.transport.reliable() {
        Some("the packet's source is not the top Via's sent-by")
    } else if !via.branch.is_some_and(|branch| branch.starts_with(b"z9hG4bK")) {
        Some("no branch with the magic cookie")
    } else if call && request.header(Name::RecordRoute).is_none() {
        Some("no Record-Route")
    } else if request.max_forwards().is_none_or(|hops| hops > 70) {
        Some("Max-Forwards out of range")
    } else {
        None
    }
}

/// The caller's wish to be hung up on, in milliseconds: a Request-URI parameter, which a proxy keeps.
fn hang_up_of(invite: &Message<'_>) -> Option<Duration> {
    let wish = invite.uri()?.param(b"hang-up")?;
    Some(Duration::from_millis(std::str::from_utf8(wish).ok()?.parse().ok()?))
}
