//! What an operator must know, in sentences that name cause and cure. One notice per change, none by the second.

use std::fmt;
use std::time::Duration;

use crate::base::{Epoch, NodeId, PathId};

use super::cause::Cause;
use super::config::Mode;
use super::message::Refusal;
use super::news::WitnessNews;
use super::reason::{Death, Reason};

/// Whom a notice concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// An operator caused it or must know it.
    Info,
    /// Wakes someone.
    Warn,
}

/// Something happened. What tells of a new role comes behind the effect that brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// First sign of life of a peer, or the first after silence or death.
    PeerHeard(NodeId),
    /// No sign of life on any path for the suspicion.
    PeerSilent(NodeId),
    /// It is dead, and how that is known.
    PeerDead(NodeId, Death),
    /// One path is silent while the peer is heard on another.
    PathSilent(NodeId, PathId),
    /// The path carries beats again.
    PathHeard(NodeId, PathId),
    /// The peer is heard on the path but does not hear this node on it.
    OneWay(NodeId, PathId),
    /// Both directions carry beats again.
    BothWays(NodeId, PathId),
    /// Another process claims this node's member id.
    SameMember,
    /// This node hears its own beats.
    OwnBeats(PathId),
    /// A member that the configuration does not know.
    UnknownMember(NodeId),
    /// A node of another cluster that has the same secret.
    ForeignCluster(PathId),
    /// Datagrams from a peer's address whose MAC no live secret made.
    Unauthentic(NodeId),
    /// A peer whose epoch is older than one it had before: a replay, or its state folder was lost.
    Stale(NodeId),
    /// Peer's configuration differs.
    ConfigDiffers(NodeId),
    /// Peer's configuration is the same again.
    ConfigEqual(NodeId),
    /// The active peer is silent but somebody answers for the address.
    AddressAnswers,
    /// A stranger answers for the address.
    Stranger,
    /// This node reaches none of its reference points.
    Isolated,
    /// It reaches one again.
    Reaches,
    /// The interface cannot carry the addresses.
    Unusable,
    /// It can again.
    Usable,
    /// Workers do not turn or shards are unsound.
    Unfit,
    /// What comes in waits for too long.
    Behind,
    /// Fit again.
    Fit,
    /// Own timers fired this late: nobody is judged for a while.
    Late(Duration),
    /// Woke up after so long as the active node: asks first.
    Doubt(Duration),
    /// Asked, and is still active.
    Confirmed(Epoch),
    /// Two nodes had been active at one time; the epochs of the winner and of the other.
    Split(Epoch, Epoch),
    /// Will wait this long before it claims on silence again.
    HoldDown(Duration),
    /// Took the role.
    Claimed(Epoch, Reason),
    /// It does not know the calls of the time before, and nobody else does.
    Cold,
    /// It takes no new calls: a peer that may live may have spent every limit.
    Unknowing,
    /// Started beside a node that is active under this epoch.
    Follows(Epoch),
    /// Serves beside the node that is active under this epoch.
    Joined(Epoch),
    /// Does not serve any more beside the node that is active under this epoch.
    SteppedBack(Epoch),
    /// What changed with the witness.
    Witness(WitnessNews),
    /// Gave the role up to a higher epoch.
    Yielded(Epoch),
    /// Gave the role up because nobody can reach this node.
    Withdrew,
    /// Gave the role up because this peer was told to take it and fell silent.
    StoodDown(NodeId),
    /// Began to hand over.
    HandOver(NodeId, Cause),
    /// The hand-over goes on without a complete copy at the peer: calls being set up may be lost.
    Unprotected(NodeId, Cause),
    /// The hand-over is done; the peer's epoch.
    HandedOver(Epoch),
    /// The hand-over was given up; this node serves on.
    HandOverFailed(NodeId, Refusal),
    /// The peer can take over at any moment.
    Armed(NodeId),
    /// It cannot.
    Disarmed,
    /// Another mode is in force.
    ModeSet(Mode),
    /// The mode stays what it was.
    ModeRefused(Refusal),
    /// The node has left the cluster.
    Left,
}

impl Notice {
    /// Whom it concerns.
    pub fn level(&self) -> Level {
        match self {
            Notice::PeerHeard(_)
            | Notice::PathHeard(..)
            | Notice::BothWays(..)
            | Notice::ConfigEqual(_)
            | Notice::Reaches
            | Notice::Usable
            | Notice::Fit
            | Notice::Late(_)
            | Notice::Confirmed(_)
            | Notice::HoldDown(_)
            | Notice::Cold
            | Notice::Witness(WitnessNews::Answers | WitnessNews::Admits)
            | Notice::Follows(_)
            | Notice::Joined(_)
            | Notice::HandOver(_, Cause::Switchover | Cause::GiveBack | Cause::Stop)
            | Notice::HandedOver(_)
            | Notice::PeerDead(_, Death::Goodbye | Death::Declared)
            | Notice::Armed(_)
            | Notice::ModeSet(_)
            | Notice::Left => Level::Info,
            Notice::Claimed(_, reason) => match reason {
                Reason::Death(Death::Refused | Death::Replaced) | Reason::Silence | Reason::Resumed => Level::Warn,
                _ => Level::Info,
            },
            _ => Level::Warn,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::PeerHeard(_)
            | Notice::PeerSilent(_)
            | Notice::PeerDead(..)
            | Notice::PathSilent(..)
            | Notice::PathHeard(..)
            | Notice::OneWay(..)
            | Notice::BothWays(..)
            | Notice::Stale(_)
            | Notice::ConfigDiffers(_)
            | Notice::ConfigEqual(_) => self.of_peer(f),
            Notice::SameMember
            | Notice::OwnBeats(_)
            | Notice::UnknownMember(_)
            | Notice::ForeignCluster(_)
            | Notice::Unauthentic(_) => self.of_members(f),
            Notice::AddressAnswers
            | Notice::Stranger
            | Notice::Isolated
            | Notice::Reaches
            | Notice::Unusable
            | Notice::Usable
            | Notice::Unfit
            | Notice::Behind
            | Notice::Fit
            | Notice::Late(_) => self.of_self(f),
            Notice::Witness(news) => news.fmt(f),
            _ => self.of_role(f),
        }
    }
}

impl Notice {
    fn of_peer(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::PeerHeard(id) => write!(f, "member {} is heard", id.0),
            Notice::PeerSilent(id) => write!(
                f,
                "member {} is silent on every path; it is dead, hangs, or the network between is cut: see its host, \
                 its log and the network",
                id.0
            ),
            Notice::PeerDead(id, death) => write!(f, "member {} is dead: {death}", id.0),
            Notice::PathSilent(id, path) => write!(
                f,
                "member {} is silent on path {} but heard on another: link trouble, no takeover; check that network",
                id.0, path.0
            ),
            Notice::PathHeard(id, path) => write!(f, "member {} is heard on path {} again", id.0, path.0),
            Notice::OneWay(id, path) => write!(
                f,
                "member {} is heard on path {} but does not hear this node; check filters and routes towards it",
                id.0, path.0
            ),
            Notice::BothWays(id, path) => write!(f, "path {1} to member {0} works both ways again", id.0, path.0),
            Notice::Stale(id) => write!(
                f,
                "beats of member {} bear an older epoch than it had: somebody replays, or its state-dir was lost; in \
                 the latter case it is let in as soon as its link is up",
                id.0
            ),
            Notice::ConfigDiffers(id) => write!(
                f,
                "the configuration of member {} differs from this one's; compare the two files, the pair works meanwhile",
                id.0
            ),
            Notice::ConfigEqual(id) => write!(f, "member {} has the same configuration", id.0),
            _ => Ok(()),
        }
    }

    fn of_members(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::SameMember => f.write_str(
                "another process runs with this node's cluster.mymemberid; give each its own, this one claims nothing \
                 while it starts",
            ),
            Notice::OwnBeats(path) => write!(
                f,
                "beats for a peer come back to this node on path {}: the peer's address is this host's own; \
                 cluster.mymemberid or cluster.member.N is wrong here",
                path.0
            ),
            Notice::UnknownMember(id) => {
                write!(f, "beats of member {}, which is not configured here; add cluster.member.{0}", id.0)
            }
            Notice::ForeignCluster(path) => write!(
                f,
                "beats of another cluster on path {}: cluster.name differs; correct it, or give each cluster its own \
                 addresses and secret",
                path.0
            ),
            Notice::Unauthentic(id) => write!(
                f,
                "datagrams from the address of member {} are not sealed with a secret of this node; compare \
                 cluster.secret-file on both",
                id.0
            ),
            _ => Ok(()),
        }
    }

    fn of_self(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::AddressAnswers => f.write_str(
                "the peer is silent but a host answers for the virtual address: no claim; the peer's link is cut, or it \
                 hangs: check it, stop it and run tandem peer declare-dead if it is to be replaced",
            ),
            Notice::Stranger => f.write_str("a host that is no member answers for the virtual address; remove it"),
            Notice::Isolated => f.write_str(
                "this node reaches none of its reference points; check its network and cluster.reference-points",
            ),
            Notice::Reaches => f.write_str("this node reaches a reference point again"),
            Notice::Unusable => {
                f.write_str("the interface cannot carry the virtual address (no carrier, or down); check the cable")
            }
            Notice::Usable => f.write_str("the interface can carry the virtual address again"),
            Notice::Unfit => f.write_str("this node is unfit: a worker does not turn or a shard failed; restart it"),
            Notice::Behind => f.write_str(
                "this node lags behind: what comes in waits for longer than half a second; free its processors, or \
                 share its load",
            ),
            Notice::Fit => f.write_str("this node is fit again"),
            Notice::Late(by) => {
                write!(f, "timers of this node fire {by:?} late: it judges no peer meanwhile; see what starves it")
            }
            _ => Ok(()),
        }
    }

    fn of_role(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Doubt(gap) => {
                write!(f, "this active node did not run for {gap:?}: it asks its peer before it goes on")
            }
            Notice::Confirmed(epoch) => write!(f, "still active under epoch {}.{}", epoch.counter, epoch.node.0),
            Notice::Split(won, lost) => write!(
                f,
                "two nodes had been active: epoch {}.{} goes on, {}.{} yields; see what cut the network",
                won.counter, won.node.0, lost.counter, lost.node.0
            ),
            Notice::HoldDown(wait) => {
                write!(f, "the peers met as two active nodes: the next claim on silence waits {wait:?}")
            }
            Notice::Claimed(epoch, reason) => {
                write!(f, "active under epoch {}.{}: {reason}", epoch.counter, epoch.node.0)
            }
            Notice::Follows(to) | Notice::Yielded(to) => {
                write!(f, "standby: member {} is active under epoch {}", to.node.0, to.counter)
            }
            Notice::ModeSet(to) => {
                write!(f, "ha-mode is {} from now on, by the word of member {}", to.mode, to.word.node.0)
            }
            Notice::ModeRefused(why) => write!(f, "ha-mode stays as it is: {why}"),
            Notice::Joined(to) => write!(f, "active beside member {} (epoch {})", to.node.0, to.counter),
            Notice::SteppedBack(to) => write!(
                f,
                "standby of member {} (epoch {}), which takes the calls of this node: it was cut off, stops, was silent for \
                 too long, or ha-mode says so",
                to.node.0, to.counter
            ),
            Notice::Cold => f.write_str(
                "no node remembers calls of the time before: cluster.cold-reserve of each port-capacity is left alone \
                 for one inactivity-lease",
            ),
            Notice::Unknowing => f.write_str(
                "no new calls are taken: a member that was not heard since this node started may have used up every \
                 limit (cluster.partition is exact); start it, mend the network, or tandem peer declare-dead",
            ),
            Notice::Withdrew => f.write_str("standby: nobody can reach this node, and the peer may have taken over"),
            Notice::StoodDown(to) => {
                write!(f, "standby: member {} was told to take over and fell silent; it may be active", to.0)
            }
            Notice::HandOver(to, cause) => write!(f, "hands over to member {}: {cause}", to.0),
            Notice::Unprotected(to, cause) => write!(
                f,
                "hands over to member {} without a complete copy there ({cause}): calls in set-up may be lost",
                to.0
            ),
            Notice::HandedOver(to) => {
                write!(f, "handed over: member {} is active under epoch {}", to.node.0, to.counter)
            }
            Notice::HandOverFailed(to, why) => write!(f, "no hand-over to member {}: {why}", to.0),
            Notice::Armed(id) => write!(f, "armed: member {} holds everything and can take over", id.0),
            Notice::Disarmed => {
                f.write_str("not armed: a failure of the active node would lose calls; see tandem status")
            }
            Notice::Left => f.write_str("left the cluster"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_name_cause_and_cure() {
        let id = NodeId(2);
        let epoch = Epoch { counter: 9, node: id };
        let said = |notice: Notice| notice.to_string();
        assert!(said(Notice::ConfigDiffers(id)).contains("member 2 differs"));
        assert!(said(Notice::SameMember).contains("cluster.mymemberid"));
        assert!(said(Notice::OwnBeats(PathId(0))).contains("cluster.mymemberid or cluster.member.N is wrong"));
        assert!(said(Notice::ForeignCluster(PathId(1))).contains("cluster.name differs"));
        assert!(said(Notice::Unauthentic(id)).contains("cluster.secret-file"));
        assert!(said(Notice::AddressAnswers).contains("tandem peer declare-dead"));
        assert_eq!(
            said(Notice::Claimed(epoch, Reason::Death(Death::Refused))),
            "active under epoch 9.2: the peer is dead, its connection broke, a new one is refused and its beats stopped"
        );
        assert_eq!(said(Notice::HandOver(id, Cause::Stop)), "hands over to member 2: this node stops");
        assert_eq!(said(Notice::Follows(epoch)), "standby: member 2 is active under epoch 9");
        assert_eq!(
            said(Notice::StoodDown(id)),
            "standby: member 2 was told to take over and fell silent; it may be active"
        );
    }

    #[test]
    fn what_an_operator_did_wakes_nobody() {
        let id = NodeId(2);
        assert_eq!(Notice::HandOver(id, Cause::Switchover).level(), Level::Info);
        assert_eq!(Notice::HandOver(id, Cause::Unfit).level(), Level::Warn);
        assert_eq!(Notice::PeerDead(id, Death::Goodbye).level(), Level::Info);
        assert_eq!(Notice::PeerDead(id, Death::Refused).level(), Level::Warn);
        let epoch = Epoch::default();
        assert_eq!(Notice::Claimed(epoch, Reason::Elected).level(), Level::Info);
        assert_eq!(Notice::Claimed(epoch, Reason::Silence).level(), Level::Warn);
    }
}
