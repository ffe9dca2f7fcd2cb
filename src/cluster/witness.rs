//! `cluster.partition = "witness"`: a third party gives one node of a pair at a time a lease, and so says who may spend when
//! nodes do not hear each other.
//!
//! The active node always holds the lease or asks for it, so that it need not fight for it when its peer falls silent,
//! and an operator sees that the witness is gone before it is missed. A lease counts here from the instant at which it
//! was asked for, at the witness from the instant at which it was given: here it ends first.
//!
//! | peer | holder | other node |
//! |---|---|---|
//! | proved dead | everything | everything |
//! | heard | everything; beside a node that serves its share | its share, while the peer hears this node, too |
//! | silent | its share, after the lease of [`Timing`](super::Timing) everything | nothing |
//!
//! Before a holder spends what its peer may not learn of it has the witness note that it goes on alone. Who gets the lease
//! after it reads that note, and leaves everything alone that is not known to be free.

use crate::base::Time;

use super::beat::Flags;
use super::config::Partition;
use super::detector::{Health, Peer};
use super::io::{Budget, Effect};
use super::lease::{Ask, Lease, Note, Witness, WitnessStatus, Word};
use super::news::WitnessNews;
use super::notice::Notice;
use super::partition::Outlook;
use super::reason::Reason;
use super::state::{Cluster, Phase};
use super::timing::MARGIN;

impl Cluster {
    /// The witness has answered; `None`: it has not, for long enough.
    pub(super) fn take_word(&mut self, word: Option<Word>, out: &mut Vec<Effect>) {
        let answers = word.is_some();
        let before = self.witness.answers.replace(answers);
        if before != Some(answers) && self.is_witnessed() {
            let news = if answers { WitnessNews::Answers } else { WitnessNews::Silent };
            out.push(Effect::Notice(Notice::Witness(news)));
        }
        let Some(word) = word else { return };
        // What was asked for and is not wanted any more is being given back.
        let asked = self.witness.asked.filter(|ask| ask.hold);
        let noted = |lease: Lease, ask: Ask| Lease { alone: lease.alone && ask.note == Note::Alone, ..lease };
        self.witness.lease = word.lease.zip(asked).map(|(lease, ask)| noted(lease, ask));
        (self.witness.holder, self.witness.other_alone) = (word.holder, word.other_alone);
    }

    /// What this node says of its witness; `None` under another policy.
    pub(super) fn witness_status(&self, now: Time) -> Option<WitnessStatus> {
        let Witness { answers, holder, .. } = self.witness;
        self.is_witnessed().then(|| WitnessStatus { answers, held: self.holds_lease(now), holder })
    }

    pub(super) fn is_witnessed(&self) -> bool {
        self.config.partition == Partition::Witness && !self.peers.is_empty()
    }

    /// Whether no other node can have the lease. It ends a little before it does, so that a turn comes first.
    pub(super) fn holds_lease(&self, now: Time) -> bool {
        self.is_witnessed() && self.witness.lease.is_some_and(|lease| now + MARGIN < lease.until)
    }

    /// When [`Cluster::holds_lease`] ends by itself.
    pub(super) fn lease_ends(&self) -> Option<Time> {
        self.witness
            .lease
            .map(|lease| Time::from_micros(lease.until.as_micros().saturating_sub(MARGIN.as_micros() as u64)))
    }

    /// When a node that does not hold the lease ceases to know that its peer hears it.
    pub(super) fn hearing_ends(&self) -> impl Iterator<Item = Time> {
        let patience = self.config.timing.hearing();
        self.peers.iter().filter(|_| self.is_witnessed()).map(move |peer| peer.hears_at + patience)
    }

    /// Until when this node may act as one that serves without having looked again.
    pub(super) fn right_ends(&self) -> Time {
        let doubt = self.clock.last_turn + self.doubt_after();
        self.lease_bounds().map_or(doubt, |lease| doubt.min(lease))
    }

    /// The end of the right to spend, if it comes from the lease alone: a process that was stopped must not go on with it.
    fn lease_bounds(&self) -> Option<Time> {
        let spends = self.told.budget.is_some_and(|budget| budget != Budget::Nothing);
        let alive = self.peers.iter().any(|peer| peer.dead.is_none());
        let lease = self.witness.lease.filter(|_| self.is_witnessed() && spends && alive)?;
        (self.clock.last_turn + MARGIN < lease.until).then_some(lease.until)
    }

    /// What a node that serves may spend.
    pub(super) fn witnessed(&self, now: Time, outlook: Outlook) -> Budget {
        let lease = self.witness.lease.filter(|_| self.holds_lease(now));
        match (outlook, lease) {
            (Outlook::Alone, _) => Budget::Whole,
            (Outlook::Lapsed, Some(Lease { alone: true, .. })) => Budget::Whole,
            (Outlook::Unknown, Some(Lease { alone: true, .. })) => Budget::Floor,
            (Outlook::Lapsed | Outlook::Unknown, _) => Budget::Nothing,
            (Outlook::Together | Outlook::Contested, _) if !self.own.knows => Budget::Nothing,
            (Outlook::Together, Some(lease)) if lease.alone || self.shares_calls(now) => match self.config.shared {
                true => Budget::Floor,
                false => Budget::Whole,
            },
            (Outlook::Together | Outlook::Contested, Some(_)) => Budget::Floor,
            (Outlook::Together | Outlook::Contested, None) if self.is_heard(now) => Budget::Floor,
            (Outlook::Together | Outlook::Contested, None) => Budget::Nothing,
        }
    }

    /// Whether every peer that lives has lately heard this node in what it is now: whoever may have the lease keeps to its
    /// own share then.
    fn is_heard(&self, now: Time) -> bool {
        let since = match self.phase {
            // Whoever gave the role knows of it.
            Phase::Active { since } if self.reason != Reason::HandOver => since,
            _ => Time::ZERO,
        };
        let hears = |p: &Peer| p.hears_at >= since && now < p.hears_at + self.config.timing.hearing();
        self.peers.iter().all(|p| p.dead.is_some() || hears(p))
    }

    /// Whether the peer knows of every call here.
    fn shares_calls(&self, now: Time) -> bool {
        let told = |id| self.index(id).is_some_and(|n| self.peers[n].sync.told);
        if self.serves() {
            return self.armed(now).is_some_and(told);
        }
        // Whoever serves no more has given its calls away.
        self.phase == Phase::Standby
            && self.peers.iter().all(|p| p.link && p.sync.outgoing && p.sync.told && !p.sync.owes)
    }

    /// Whether this node may have missed what a peer spent: it does not know the limits any more before it was told.
    pub(super) fn is_estranged(&self, now: Time, outlook: Outlook) -> bool {
        let silent = matches!(outlook, Outlook::Unknown | Outlook::Lapsed);
        self.is_witnessed() && silent && !self.holds_lease(now)
    }

    /// Whether all that this peer has spent is known here.
    pub(super) fn is_known(&self, peer: &Peer) -> bool {
        peer.sync.incoming && (!self.is_witnessed() || !peer.serves_now() || peer.has(Flags::TELLS))
    }

    /// What a peer that is gone may have spent unheard.
    pub(super) fn may_have_spent(&self, known: Budget) -> Budget {
        if self.is_witnessed() && self.witness.other_alone { Budget::Whole } else { known }
    }

    /// The lease proves that silent peers spend nothing more: what they may have spent unheard is left alone, once.
    pub(super) fn settle_estate(&mut self, now: Time, outlook: Outlook, out: &mut Vec<Effect>) {
        let lapsed = outlook == Outlook::Lapsed && self.holds_lease(now) && self.serves();
        if lapsed && !self.witness.settled {
            for n in 0..self.peers.len() {
                if !matches!(self.health(now, &self.peers[n]), Health::Heard | Health::Dead(_)) {
                    self.leave_alone(n, out);
                }
            }
        }
        self.witness.settled = lapsed;
    }

    /// Tells what is wanted of the witness, and operators what comes of it.
    pub(super) fn tell_witness(&mut self, now: Time, outlook: Outlook, out: &mut Vec<Effect>) {
        if !self.is_witnessed() && self.witness.asked.is_none() {
            return;
        }
        let hold = self.is_witnessed() && self.active() && !self.frozen() && !self.leaving;
        let note = match hold {
            _ if self.shares_calls(now) => Note::Shared,
            true => Note::Alone,
            false => Note::Keep,
        };
        let ask = Ask { hold, note };
        if self.witness.asked != Some(ask) {
            self.witness.asked = Some(ask);
            // The note may be gone as soon as that is asked for.
            let noted = |lease: Lease| Lease { alone: lease.alone && note == Note::Alone, ..lease };
            self.witness.lease = self.witness.lease.filter(|_| hold).map(noted);
            out.push(Effect::Witness(ask));
        }
        let silent = matches!(outlook, Outlook::Unknown | Outlook::Lapsed);
        let refuses = self.serves() && silent && self.told.budget == Some(Budget::Nothing);
        let since = refuses.then(|| self.witness.refuses_since.unwrap_or(now));
        self.witness.refuses_since = since;
        // An answer of the witness takes a moment.
        let tells =
            since.is_some_and(|since| self.witness.told_refusal || now.since(since) >= self.config.timing.isolation);
        if std::mem::replace(&mut self.witness.told_refusal, tells) != tells {
            let news = if tells { WitnessNews::Refuses } else { WitnessNews::Admits };
            out.push(Effect::Notice(Notice::Witness(news)));
        }
    }
}
