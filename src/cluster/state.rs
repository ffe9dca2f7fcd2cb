//! The state of a [`Cluster`], and what follows from it at an instant without changing it.

use std::time::Duration;

use crate::base::{Epoch, NodeId, Time};

use super::beat::{Flags, State};
use super::cause::Cause;
use super::config::{Config, ConfigError, Mode};
use super::detector::{Health, Peer};
use super::guest::Guest;
use super::hold::Hold;
use super::io::{Budget, Fitness, Role, Wish};
use super::lease::Witness;
use super::message::Refusal;
use super::reason::Reason;
use super::stats::Stats;

/// This node's view of who is active, and its part in it. A value without side effects: observations go in by
/// [`Cluster::handle`], time by [`Cluster::handle_timeout`], and what is to be done comes out as [`Effect`](super::Effect)s, to be
/// carried out in their order.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(super) config: Config,
    pub(super) peers: Vec<Peer>,
    pub(super) phase: Phase,
    /// Of a standby that serves all the same.
    pub(super) beside: Option<Beside>,
    /// Of the start, of the last claim, or of the time when it joined.
    pub(super) epoch: Epoch,
    /// The highest claim that this node has made or followed.
    pub(super) term: Epoch,
    /// The highest counter ever seen.
    pub(super) seen: u32,
    /// Why the last claim was made.
    pub(super) reason: Reason,
    pub(super) clock: Clock,
    /// Counter of the last beat.
    pub(super) tick: u64,
    pub(super) next_beat: Time,
    pub(super) own: Own,
    pub(super) probing: Probing,
    pub(super) giving: Option<Giving>,
    pub(super) taking: Option<Taking>,
    /// Relays to that node until then.
    pub(super) quiet: Option<(NodeId, Time)>,
    pub(super) flushes: u32,
    /// Who may spend the greater share of each limit. Whoever gives it away knows so before whoever gets it, so never two
    /// nodes at once; a node that has just started does not have it.
    pub(super) share: NodeId,
    pub(super) hold: Hold,
    pub(super) witness: Witness,
    /// Since when nobody is active.
    pub(super) election: Option<Time>,
    /// No claim of a starting node before: somebody else has its id.
    pub(super) conflict_until: Time,
    pub(super) leaving: bool,
    pub(super) told: Told,
    pub(super) guest: Guest,
    pub(super) switching: Option<Switching>,
    /// It served alone by the mode, and its peers do not serve before it has heard of all that they know.
    pub(super) opening: bool,
    /// Why the last switch of the mode came to nothing.
    pub(super) why_no_mode: Option<Refusal>,
    /// When each kind of stray beat was told last.
    pub(super) strays: [Option<Time>; 6],
    pub(super) stats: Stats,
}

/// What this node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Standby,
    Active { since: Time },
    Asking { since: Time },
    Left,
}

/// A standby that serves beside the active node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside {
    /// The claim of the active node.
    pub term: Epoch,
    /// It stood still: it serves nothing until it knows that nobody has taken its calls.
    pub asks: bool,
}

/// When this node ran, and from when on it may judge others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub started: Time,
    pub last_turn: Time,
    /// What [`Cluster::next_timeout`] said.
    pub due: Time,
    pub judge_from: Time,
    pub late_until: Time,
}

/// What is known of this node itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub fitness: Fitness,
    pub usable: bool,
    pub unusable_since: Time,
    /// As the active node it lost the virtual addresses, and they are still to be put back.
    pub dropped: bool,
    /// Not before then is it tried again to put them back.
    pub hold_at: Time,
    /// When they were last offered to a peer.
    pub offered_at: Option<Time>,
    /// The last pause before that.
    pub hold_pause: std::time::Duration,
    pub reach: Option<bool>,
    pub isolated_since: Time,
    /// It wrote calls under its last claim that no other node has taken.
    pub calls: bool,
    /// Its copy of a peer's calls was complete once.
    pub copy: bool,
    /// It knows what of each limit was spent before it started.
    pub knows: bool,
    /// No hand-over that nobody asked for before.
    pub retry_at: Time,
}

/// The question who answers for the virtual addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probing {
    Idle { not_before: Time },
    Sent { at: Time },
    Passed,
}

/// A hand-over, at the node that is active.
#[derive(Clone, Copy, Debug)]
pub(super) struct Giving {
    pub to: NodeId,
    pub cause: Cause,
    pub stage: Stage,
    pub until: Time,
}

/// How far a hand-over is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Asked whether the peer could.
    Prepare,
    /// Serving on while what the peer lacks is sent.
    Flush(u32),
    /// Silent and relaying while the rest is sent.
    Freeze(u32),
    /// Told to take it under this counter.
    Take(u32),
}

/// A switch of the mode, at the active node that has asked its peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switching {
    pub to: Mode,
    pub until: Time,
}

/// A hand-over, at the node that will be active.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taking {
    pub from: NodeId,
    pub term: Epoch,
    pub until: Time,
}

/// The last effects of which only changes are told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    pub armed: Option<bool>,
    pub armed_since: Time,
    /// Nobody was told anything that the peer does not know; stays what it was when the role ends.
    pub tells: bool,
    pub budget: Option<Budget>,
    pub share: Option<NodeId>,
    pub wish: Option<Wish>,
    pub relay: Option<NodeId>,
    pub beside: Option<NodeId>,
    pub lanes: Option<NodeId>,
    pub lead: Option<Wish>,
    pub address_answers: bool,
    /// That it takes no new calls, because it does not know what was spent before it.
    pub idle: bool,
}

impl Cluster {
    /// A node that has just started and claims nothing yet. Call [`Cluster::handle_timeout`] at once.
    pub fn new(now: Time, config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            peers: config.peers.iter().map(|peer| Peer::new(*peer)).collect(),
            phase: Phase::Starting,
            beside: None,
            epoch: config.epoch(),
            term: Epoch::default(),
            seen: config.counter,
            reason: Reason::NoPeer,
            clock: Clock { started: now, last_turn: now, due: now, judge_from: now, late_until: Time::ZERO },
            tick: 0,
            next_beat: now,
            own: Own {
                fitness: Fitness::Fit,
                dropped: false,
                hold_at: Time::ZERO,
                offered_at: None,
                hold_pause: std::time::Duration::ZERO,
                usable: true,
                unusable_since: now,
                reach: None,
                isolated_since: now,
                calls: false,
                copy: false,
                knows: false,
                retry_at: Time::ZERO,
            },
            probing: Probing::Idle { not_before: Time::ZERO },
            giving: None,
            taking: None,
            quiet: None,
            flushes: 0,
            share: config.peers.first().map_or(config.me, |peer| peer.id),
            hold: Hold::default(),
            witness: Witness::default(),
            election: None,
            conflict_until: Time::ZERO,
            leaving: false,
            told: Told::default(),
            guest: Guest::default(),
            switching: None,
            opening: false,
            why_no_mode: None,
            strays: [None; 6],
            stats: Stats::default(),
            config,
        })
    }

    /// What this node is.
    pub fn role(&self) -> Role {
        match self.phase {
            Phase::Starting => Role::Starting,
            Phase::Standby => match self.beside {
                Some(Beside { asks: true, .. }) => Role::Asking,
                Some(_) => Role::Joined,
                None => Role::Standby,
            },
            Phase::Active { .. } => Role::Active,
            Phase::Asking { .. } => Role::Asking,
            Phase::Left => Role::Left,
        }
    }

    /// Its claim if it is active, else the claim that it recognises.
    pub fn term(&self) -> Epoch {
        self.term
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The instant up to which this node may act as the active one without hearing from [`Cluster::handle_timeout`]
    /// again. Whoever handles a message of a caller checks it first: a process that was stopped finds it passed, and
    /// must not serve before the cluster has asked the peer. Zero for a node that is not active.
    pub fn authority(&self) -> Time {
        let acts = self.active() && !self.frozen() || self.phase == Phase::Standby && self.is_beside();
        if acts { self.right_ends() } else { Time::ZERO }
    }

    /// How long this node, if active, may stand still and go on without asking.
    pub(super) fn doubt_after(&self) -> Duration {
        if self.peers.is_empty() {
            Duration::MAX
        } else if self.peers.iter().any(|p| self.near(self.clock.last_turn, p)) {
            self.config.timing.doubt()
        } else {
            // Nobody was there to notice; whoever starts meanwhile holds back for longer than this.
            self.config.timing.lease
        }
    }

    /// Whether a hand-over has gone so far that this node serves no longer.
    pub(super) fn frozen(&self) -> bool {
        self.giving.is_some_and(|giving| matches!(giving.stage, Stage::Freeze(_) | Stage::Take(_)))
    }

    pub(super) fn active(&self) -> bool {
        matches!(self.phase, Phase::Active { .. })
    }

    pub(super) fn health(&self, now: Time, peer: &Peer) -> Health {
        peer.health(now, self.clock.judge_from, &self.config.timing)
    }

    pub(super) fn heard(&self, now: Time, peer: &Peer) -> bool {
        self.health(now, peer) == Health::Heard
    }

    /// Heard, or at least not to be taken for silent.
    pub(super) fn near(&self, now: Time, peer: &Peer) -> bool {
        matches!(self.health(now, peer), Health::Heard | Health::Unjudged)
    }

    pub(super) fn index(&self, id: NodeId) -> Option<usize> {
        self.peers.iter().position(|peer| peer.id == id)
    }

    /// The heard peer that is active under the highest epoch, and that epoch.
    pub(super) fn leader(&self, now: Time) -> Option<(usize, Epoch)> {
        let active = |(n, peer): (usize, &Peer)| {
            let last = peer.last.filter(|_| self.near(now, peer))?;
            // Its claim may be known from the stream before its beats tell of it.
            let told = self.term.node == peer.id && self.term > last.epoch;
            let epoch = if told { self.term } else { last.epoch };
            (told || last.state == State::Active).then_some((n, epoch))
        };
        self.peers.iter().enumerate().filter_map(active).max_by_key(|(_, epoch)| *epoch)
    }

    /// Whether this node is cut off while its peers were not: it reaches none of its reference points, and not because
    /// nobody does.
    pub(super) fn isolated(&self) -> bool {
        let tells = |peer: &Peer| peer.last.is_none() || peer.has(Flags::REACHES);
        self.own.reach == Some(false) && self.peers.iter().any(tells)
    }

    /// Whether this node holds a complete copy of what the active one wrote, or the one that serves beside it, and could
    /// take over.
    pub(super) fn complete(&self, now: Time) -> bool {
        let of = match self.phase {
            Phase::Standby => self.leader(now).map(|(n, _)| n),
            Phase::Active { .. } if self.config.shared => {
                self.peers.iter().position(|p| p.serves && self.heard(now, p))
            }
            _ => None,
        };
        of.is_some_and(|n| self.peers[n].link && self.peers[n].sync.incoming) && self.able()
    }

    pub(super) fn fit(&self) -> bool {
        self.own.fitness == Fitness::Fit
    }

    pub(super) fn able(&self) -> bool {
        self.fit() && self.own.usable && !self.own.dropped && !self.leaving
    }

    /// Why the peer could not take over from this active node without a loss.
    pub(super) fn unarmed(&self, now: Time, peer: &Peer) -> Result<(), Refusal> {
        self.willing(now, peer)?;
        if peer.sync.outgoing && peer.has(Flags::ARMED) { Ok(()) } else { Err(Refusal::NotArmed) }
    }

    /// Why the peer could not take over from this active node at all.
    pub(super) fn willing(&self, now: Time, peer: &Peer) -> Result<(), Refusal> {
        let refuse = |on: bool, why| if on { Err(why) } else { Ok(()) };
        refuse(!self.heard(now, peer) || peer.last.is_none(), Refusal::NoPeer)?;
        refuse(peer.has(Flags::LEAVING), Refusal::Leaving)?;
        refuse(!peer.link, Refusal::LinkDown)?;
        refuse(!peer.has(Flags::FIT), Refusal::PeerUnfit)?;
        refuse(!peer.has(Flags::USABLE), Refusal::PeerUnusable)?;
        let follows = peer.last.is_some_and(|last| last.state == State::Standby && last.term == self.epoch);
        refuse(!follows, Refusal::OtherTerm)
    }

    /// Whether the pair is armed: a failure of the active node would lose nothing.
    pub(super) fn armed(&self, now: Time) -> Option<NodeId> {
        match self.phase {
            Phase::Active { .. } => self.peers.iter().find(|p| self.unarmed(now, p).is_ok()).map(|p| p.id),
            Phase::Standby if self.beside.is_some() => self.armed_beside(now),
            Phase::Standby if self.complete(now) => Some(self.config.me),
            _ => None,
        }
    }

    pub(super) fn on_silence(&self) -> bool {
        matches!(self.reason, Reason::Silence | Reason::Alone)
    }
}
