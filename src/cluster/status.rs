//! What a node can say of its cluster, for operators.

use std::fmt;
use std::time::Duration;

use crate::base::{Epoch, NodeId, Time};

use super::config::HaMode;
use super::detector::{Health, Peer};
use super::io::{Budget, Role};
use super::lease::WitnessStatus;
use super::message::Refusal;
use super::state::{Cluster, Phase, Stage};

/// How far a node is on its way into the pair: each step includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// No peer is heard.
    Standalone,
    /// A peer is heard, the link to it is not up.
    Joining,
    /// The link is up, a copy is not complete.
    Syncing,
    /// The standby could take over.
    Armed,
    /// Active, and its standby could take over.
    Serving,
}

/// Why a pair is not armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// No peer is configured.
    NoPeer,
    /// What stands between the active node and a hand-over.
    Refused(Refusal),
    /// The peer is silent or was never heard.
    PeerNotHeard(NodeId),
    /// The peer is dead.
    PeerDead(NodeId),
    /// Nobody is active yet.
    NobodyActive,
    /// This node, a standby, is unfit.
    Unfit,
    /// This standby's interface cannot carry the addresses.
    Unusable,
    /// The link to the active node is down.
    LinkDown,
    /// Records are still coming in.
    Incomplete,
    /// `ha-mode` is `none`: nobody takes over.
    Apart,
}

/// What a node says of itself and of its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub me: NodeId,
    /// Who serves.
    pub mode: HaMode,
    /// Both nodes can serve at one time.
    pub shared: bool,
    /// Every peer that is heard is in this mode, too.
    pub mode_agreed: bool,
    /// Why the last switch of the mode that was asked for here did not come to pass.
    pub mode_refused: Option<Refusal>,
    /// What it is.
    pub role: Role,
    /// How far it is.
    pub step: Step,
    /// The epoch of its start or last claim.
    pub epoch: Epoch,
    /// The claim that it recognises; counter 0: none.
    pub term: Epoch,
    /// Whether a failure of the active node would lose nothing.
    pub armed: bool,
    /// Why it would.
    pub why_not: Option<WhyNot>,
    /// What it may spend on new calls.
    pub budget: Budget,
    /// Its workers turn.
    pub fit: bool,
    /// Its interface can carry the addresses.
    pub usable: bool,
    /// It reaches a reference point; `None`: it has none.
    pub reach: Option<bool>,
    /// Its own timers are late.
    pub late: bool,
    /// A hand-over is under way: to whom.
    pub handing_over: Option<NodeId>,
    /// How long a peer must be silent before a claim; more than the suspicion after two active nodes met.
    pub hold: Duration,
    /// Its witness; `None` unless `cluster.partition` is `witness`.
    pub witness: Option<WitnessStatus>,
    /// Its peers.
    pub peers: Vec<PeerStatus>,
}

/// What a node says of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Which.
    pub id: NodeId,
    /// Its life.
    pub incarnation: Option<u64>,
    /// Heard, silent, dead.
    pub health: Health,
    /// What it says it is.
    pub state: Option<super::beat::State>,
    /// It serves beside the node that it follows.
    pub serves: bool,
    /// The epoch that it bears.
    pub epoch: Epoch,
    /// The claim that it recognises.
    pub term: Epoch,
    /// Its stream link is up.
    pub link: bool,
    /// It says that it holds everything and could take over.
    pub armed: bool,
    /// Its configuration differs from this node's.
    pub config_differs: bool,
    /// Its paths.
    pub paths: Vec<PathStatus>,
}

/// What a node says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStatus {
    /// When a beat came last.
    pub heard_at: Option<Time>,
    /// None came for the suspicion while the peer is heard elsewhere, or ever.
    pub silent: bool,
    /// The peer does not hear this node on it.
    pub one_way: bool,
}

impl Cluster {
    /// What this node says, as of its last turn.
    pub fn status(&self) -> Status {
        let now = self.clock.last_turn;
        let armed = self.armed(now).is_some();
        Status {
            me: self.config.me,
            mode: self.mode(),
            shared: self.config.shared,
            mode_agreed: self.agreed(now),
            mode_refused: self.why_no_mode,
            role: self.role(),
            step: self.step(now, armed),
            epoch: self.epoch,
            term: self.term,
            armed,
            why_not: if armed { None } else { self.why_not(now) },
            budget: self.budget(now, self.outlook(now)),
            fit: self.fit(),
            usable: self.own.usable,
            reach: self.own.reach,
            late: now < self.clock.late_until,
            handing_over: self.giving.map(|giving| giving.to),
            hold: self.hold.wait(&self.config.timing),
            witness: self.witness_status(now),
            peers: self.peers.iter().map(|peer| self.peer_status(now, peer)).collect(),
        }
    }

    fn step(&self, now: Time, armed: bool) -> Step {
        let heard = || self.peers.iter().filter(|p| self.heard(now, p));
        match self.phase {
            Phase::Active { .. } if armed => Step::Serving,
            _ if armed && self.is_beside() => Step::Serving,
            _ if armed => Step::Armed,
            _ if heard().any(|p| p.link) => Step::Syncing,
            _ if heard().count() > 0 => Step::Joining,
            _ => Step::Standalone,
        }
    }

    fn why_not(&self, now: Time) -> Option<WhyNot> {
        let Some(peer) = self.peers.first() else { return Some(WhyNot::NoPeer) };
        if self.is_apart() {
            return Some(WhyNot::Apart);
        }
        match self.health(now, peer) {
            Health::Dead(_) => return Some(WhyNot::PeerDead(peer.id)),
            Health::Never | Health::Unjudged | Health::Silent => return Some(WhyNot::PeerNotHeard(peer.id)),
            Health::Heard => {}
        }
        if self.active() {
            return self.unarmed(now, peer).err().map(WhyNot::Refused);
        }
        let Some((n, _)) = self.leader(now) else { return Some(WhyNot::NobodyActive) };
        let reasons = [
            (!self.fit(), WhyNot::Unfit),
            (!self.own.usable, WhyNot::Unusable),
            (self.leaving, WhyNot::Refused(Refusal::Leaving)),
            (!self.peers[n].link, WhyNot::LinkDown),
        ];
        let first = reasons.into_iter().find_map(|(holds, why)| holds.then_some(why));
        Some(first.unwrap_or(WhyNot::Incomplete))
    }

    fn peer_status(&self, now: Time, peer: &Peer) -> PeerStatus {
        let path = |n: usize| PathStatus {
            heard_at: peer.paths[n].heard_at,
            silent: peer.path_silent(n),
            one_way: peer.paths[n].one_way,
        };
        PeerStatus {
            id: peer.id,
            incarnation: peer.incarnation,
            health: self.health(now, peer),
            state: peer.state(),
            serves: peer.has(super::beat::Flags::SERVES),
            epoch: peer.last.map_or(Epoch::default(), |last| last.epoch),
            term: peer.last.map_or(Epoch::default(), |last| last.term),
            link: peer.link,
            armed: peer.has(super::beat::Flags::ARMED),
            config_differs: peer.differs,
            paths: (0..peer.paths.len()).map(path).collect(),
        }
    }

    /// Whether this node waits for the end of a hand-over that it has begun and can no longer withdraw from.
    pub fn giving(&self) -> bool {
        self.giving.is_some_and(|giving| matches!(giving.stage, Stage::Take(_)))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Standalone => "standalone",
            Step::Joining => "joining",
            Step::Syncing => "syncing",
            Step::Armed => "armed",
            Step::Serving => "serving",
        })
    }
}

impl fmt::Display for Status {
    /// One sentence for an operator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let term = self.term;
        match self.role {
            Role::Starting => f.write_str("starting: claims nothing before it has heard its peer or waited for it")?,
            Role::Standby if term.counter == 0 => f.write_str("standby: nobody is active yet")?,
            Role::Standby => write!(f, "standby of member {} (epoch {})", term.node.0, term.counter)?,
            Role::Active => write!(f, "active under epoch {}", term.counter)?,
            Role::Joined => write!(f, "active beside member {} (epoch {})", term.node.0, term.counter)?,
            Role::Asking => f.write_str("was stopped for long and asks its peer whether it is still active")?,
            Role::Left => f.write_str("has left the cluster")?,
        }
        if let Some(to) = self.handing_over {
            write!(f, ", hands over to member {}", to.0)?;
        }
        match self.why_not {
            Some(WhyNot::NoPeer) => Ok(()),
            Some(why) => write!(f, "; not armed: {why}"),
            None => f.write_str("; armed: nothing would be lost"),
        }
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyNot::NoPeer => f.write_str("no peer is configured; add cluster.member.N"),
            WhyNot::Refused(why) => why.fmt(f),
            WhyNot::PeerNotHeard(id) => {
                write!(f, "member {} is not heard; start it, or see what cuts it off (tandem peer check)", id.0)
            }
            WhyNot::PeerDead(id) => write!(f, "member {} is dead; start it", id.0),
            WhyNot::NobodyActive => f.write_str("nobody is active yet; wait a moment"),
            WhyNot::Unfit => f.write_str("this node is unfit; see its log and restart it"),
            WhyNot::Unusable => f.write_str("the interface here cannot carry the virtual address; check its cable"),
            WhyNot::LinkDown => f.write_str("the link to the active node is down; see tandem peer check"),
            WhyNot::Apart => {
                f.write_str("ha-mode is none, so nobody takes over; see tandem ha-mode plan active-standby")
            }
            WhyNot::Incomplete => f.write_str("the copy is not complete yet; wait"),
        }
    }
}
