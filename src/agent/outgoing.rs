//! One call of a caller.

use std::time::Duration;

use super::dialog::{self, Dialog};
use super::endpoint::Endpoint;
use super::heard::ClientId;
use super::script::{Outcome, Plan, Report, Step};
use crate::base::{Flow, Time};
use crate::sip::{Message, Name, Uri};

/// A call and what became of it so far.
#[derive(Debug)]
pub struct Outgoing {
    pub plan: Plan,
    pub phase: Phase,
    pub invite: ClientId,
    pub call_id: String,
    pub tag: String,
    pub provisional: bool,
    /// The early dialog of a reliable provisional, and the RSeq that was acknowledged last (RFC 3262 §4).
    pub early: Option<(Dialog, u32)>,
    pub cancel: Cancel,
    /// Every 2xx with a To tag of its own makes one; the first is the call, the others are ended at once
    /// (RFC 3261 §13.2.2.4).
    pub legs: Vec<Leg>,
    pub next_step: usize,
    /// The step that is not done yet. The next one waits for it: a request that overtakes another is refused
    /// (RFC 3261 §12.2.2).
    pub pending: Option<Pending>,
    pub due: Time,
    /// When the INVITE goes out again, and when it is cancelled, if there is no final by then.
    pub ask_again: Time,
    pub give_up: Time,
    pub invited: Time,
    pub answered: Option<Time>,
    pub hung_up: bool,
    pub dropped: Option<u16>,
    /// It was the BYE that failed.
    pub at_bye: bool,
    /// When the first response to the INVITE came.
    pub heard: Option<Time>,
    pub refused: Vec<u16>,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No final yet.
    Inviting,
    /// Answered.
    Up,
    /// BYE sent.
    Leaving,
    /// Reported; remembered for 2xx that come late.
    Done,
}

/// How far a CANCEL got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// Nobody wants one.
    No,
    /// It waits for a provisional (RFC 3261 §9.1).
    Wanted,
    /// It is out.
    Sent,
}

/// A step that waits.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// Its CSeq number.
    pub cseq: u32,
    /// For so long.
    pub until: Time,
    /// Its final has come.
    pub replied: bool,
    /// The NOTIFY of its end has come, which may overtake the final (RFC 3515 §2.4.4); only a REFER waits for one.
    pub told: bool,
}

/// A dialog of the call.
#[derive(Debug)]
pub struct Leg {
    pub dialog: Dialog,
    /// The ACK of each answered INVITE, by CSeq number: repeated when its 2xx is.
    pub acks: Vec<(u32, Flow, Vec<u8>)>,
    /// Its BYE, once sent or received.
    pub left: bool,
    pub bye: Option<ClientId>,
}

impl Outgoing {
    /// A call whose INVITE was just sent.
    pub fn new(now: Time, plan: Plan, invite: ClientId, call_id: String, tag: String) -> Self {
        let at = |after: Option<Duration>| after.map_or(Time::NEVER, |after| now + after);
        let (ask_again, give_up) = (at(plan.ask_again), at(plan.cancel_after));
        Self {
            plan,
            phase: Phase::Inviting,
            invite,
            call_id,
            tag,
            provisional: false,
            early: None,
            cancel: Cancel::No,
            legs: Vec::new(),
            next_step: 0,
            pending: None,
            due: ask_again.min(give_up),
            ask_again,
            give_up,
            invited: now,
            answered: None,
            hung_up: false,
            dropped: None,
            at_bye: false,
            heard: None,
            refused: Vec::new(),
        }
    }

    /// The dialog that a response belongs to.
    pub fn leg_of(&self, response: &Message<'_>) -> Option<usize> {
        let tag = response.to_tag()?;
        self.legs.iter().position(|leg| leg.dialog.remote_tag == tag)
    }

    /// The dialog that a request of the other end belongs to.
    pub fn leg_for(&self, request: &Message<'_>) -> Option<usize> {
        self.legs.iter().position(|leg| leg.dialog.covers(request))
    }

    /// Whether this is the BYE of a dialog other than the first.
    pub fn left_other(&self, bye: ClientId) -> bool {
        self.legs.iter().skip(1).any(|leg| leg.bye == Some(bye))
    }

    /// `step` was sent with this CSeq number.
    pub fn stepped(&mut self, step: Step, cseq: u32, until: Time) {
        self.pending = Some(Pending { cseq, until, replied: false, told: step != Step::Refer });
    }

    /// The step with this CSeq number got a final.
    pub fn replied(&mut self, cseq: u32, status: u16) {
        self.settle(cseq, |step| (step.replied, step.told) = (true, step.told || status >= 300));
    }

    /// The end of the REFER with this CSeq number was told.
    pub fn told(&mut self, cseq: u32) {
        self.settle(cseq, |step| step.told = true);
    }

    fn settle(&mut self, cseq: u32, note: impl FnOnce(&mut Pending)) {
        if let Some(step) = self.pending.as_mut().filter(|step| step.cseq == cseq) {
            note(step);
        }
        self.pending = self.pending.filter(|step| !(step.replied && step.told));
    }

    /// The PRACK of a reliable provisional that was not acknowledged yet (RFC 3262 §4), ready to send.
    pub fn prack(&mut self, message: &Message<'_>, endpoint: &mut Endpoint) -> Option<(u64, Flow, Vec<u8>)> {
        let rseq: u32 = std::str::from_utf8(message.header(Name::RSeq)?.value).ok()?.parse().ok()?;
        let (mut dialog, last) = self.early.take().or_else(|| Some((Dialog::of_response(message)?, 0)))?;
        let rack = format!("RAck: {rseq} {} INVITE\r\n", message.cseq().number);
        let prack = if rseq > last { endpoint.inside(&mut dialog, "PRACK", None, &rack, b"") } else { None };
        self.early = Some((dialog, rseq.max(last)));
        prack
    }

    /// The dialog that a 2xx makes; its numbers go on where those of the early one ended.
    pub fn confirmed(&self, message: &Message<'_>) -> Option<Dialog> {
        let mut dialog = Dialog::of_response(message)?;
        dialog.cseq = self.early.as_ref().map_or(dialog.cseq, |(early, _)| early.cseq.max(dialog.cseq));
        Some(dialog)
    }

    /// When the next step, or the BYE, is due.
    pub fn next_due(&self, now: Time) -> Time {
        now + self.plan.steps.get(self.next_step).map_or(self.plan.hold, |(after, _)| *after)
    }

    /// Its BYE got this final, or none (408).
    pub fn bye_failed(&mut self, status: u16) {
        self.at_bye |= self.dropped.is_none();
        self.dropped.get_or_insert(status);
    }

    /// How an answered call ended, now that its BYE is done.
    pub fn outcome(&self) -> Outcome {
        match (self.dropped, self.cancel) {
            (Some(status), _) => Outcome::Dropped(status),
            (None, Cancel::Sent) => Outcome::Cancelled,
            (None, _) => Outcome::Completed,
        }
    }

    /// The report of a call that is over.
    pub fn report(&self, now: Time, call: u64, outcome: Outcome) -> Report {
        let target = self.legs.first().and_then(|leg| dialog::address(&Uri::parse(&leg.dialog.target)?));
        Report {
            call,
            call_id: self.call_id.clone(),
            outcome,
            server: target.map(|(_, addr)| addr),
            invited: self.invited,
            answered: self.answered,
            ended: now,
            hung_up: self.hung_up,
            at_bye: self.at_bye,
            refused: self.refused.clone(),
        }
    }

    /// What is wrong with a response to one of its requests (RFC 3261 §8.1.3.3, §8.2.6.2).
    pub fn wrong(&self, response: &Message<'_>) -> Option<&'static str> {
        if response.next_via().is_some() {
            Some("more than one Via")
        } else if response.call_id() != self.call_id.as_bytes() {
            Some("another Call-ID")
        } else if response.from_tag() != self.tag.as_bytes() {
            Some("another From tag")
        } else if response.status() > Some(100) && response.to_tag().is_none() {
            Some("no To tag")
        } else {
            None
        }
    }
}

/// The number of the call that a response belongs to: the begin of its Call-ID.
pub fn number_of(response: &Message<'_>) -> Option<u64> {
    let text = response.call_id().split(|b| *b == b'-').next()?;
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}
