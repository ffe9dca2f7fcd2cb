//! What goes into a [`super::Cluster`] and what comes out.

use crate::base::{Epoch, NodeId, PathId};

use super::beat::Beat;
use super::config::{HaMode, Mode};
use super::lease::{Ask, Word};
use super::message::{Message, Refusal};
use super::notice::Notice;

/// What this node is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Has started, claims nothing yet.
    Starting,
    /// Follows the active node, or waits for one.
    Standby,
    /// Holds the virtual addresses; owns the calls.
    Active,
    /// Serves beside the active node and owns calls of its own (active-active).
    Joined,
    /// Served, woke up late: serves nothing until it knows whether its calls are still its own.
    Asking,
    /// Has left.
    Left,
}

/// Something that the driver observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// An authentic beat on a path.
    Beat {
        /// The path that it came on: index into the sender's addresses.
        path: PathId,
        /// What it says.
        beat: Beat,
    },
    /// Datagrams from a peer's address that no live secret sealed; once a second is often enough.
    Unauthentic(NodeId),
    /// The stream link to a peer changed.
    Link {
        /// Which peer.
        peer: NodeId,
        /// How.
        event: Link,
    },
    /// How far replication with a peer has come.
    Sync {
        /// Which peer.
        peer: NodeId,
        /// How far.
        sync: Progress,
    },
    /// Whether this node reaches any of its reference points; `None`: it has none.
    Reach(Option<bool>),
    /// The answer to [`Effect::Probe`].
    Probed {
        /// Who answers for a virtual address.
        address: Answer,
        /// Whether a reference point that was probed at the same time answered; `None`: there is none to probe.
        reference: Option<bool>,
    },
    /// Whether the interface can carry the virtual addresses: up, carrier, guard alive.
    Usable(bool),
    /// The virtual addresses are held here no more, although nobody wished that: only a claim under a new epoch can put
    /// them back.
    Dropped,
    /// The same of the peer's addresses that this node held ([`Effect::Guest`]).
    GuestDropped,
    /// Whether this node does its work.
    Fit(Fitness),
    /// A message of a peer over the urgent stream.
    Told {
        /// Who.
        peer: NodeId,
        /// What.
        message: Message,
    },
    /// Everything that was asked for by [`Effect::Flush`] with this number is acknowledged.
    Flushed(u32),
    /// What the witness answered to the last [`Effect::Witness`]; `None`: it does not answer.
    Witness(Option<Word>),
    /// An operator's wish.
    Command(Command),
}

/// Whether a node does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// It does.
    Fit,
    /// It lags behind: what comes in is handled long after the caller has repeated it.
    Behind,
    /// A worker does not turn, or a shard failed.
    Faulty,
}

/// A change of the stream link to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Connected and authenticated.
    Up {
        /// The peer's incarnation, as the handshake proved it.
        incarnation: u64,
    },
    /// Lost, or could not be made.
    Down(Loss),
}

/// Why a link is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Closed after a goodbye.
    Goodbye,
    /// The peer's kernel reset it.
    Reset,
    /// The peer's kernel closed it without a goodbye.
    Closed,
    /// A new connection was refused: nobody listens there.
    Refused,
    /// Nothing came for too long, or a connection was not answered at all.
    Silent,
}

/// How far replication with one peer has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// This node holds all that the peer has written.
    pub incoming: bool,
    /// The peer holds all that this node has written, but for a lag below the cap.
    pub outgoing: bool,
    /// Nothing was sent to anybody before the peer knew of it, or it knows by now.
    pub told: bool,
    /// This node still owns what it has to give to the peer ([`Effect::Yield`]).
    pub owes: bool,
}

/// Who answers for a virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nobody, in [`super::Timing::probe`].
    Nobody,
    /// A peer, or a host of which it is not known whether it is one.
    Somebody,
    /// A host that is surely no peer.
    Stranger,
}

/// What an operator can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Let the other node be active.
    Switchover,
    /// Believe that a silent peer is dead.
    DeclareDead(NodeId),
    /// Another `cluster.ha-mode` on both nodes. It comes to pass, or is refused, once the peer has answered.
    SetMode(HaMode),
    /// Leave the cluster, after a hand-over if somebody can take over.
    Stop,
}

/// What the driver shall do about the virtual addresses. A level: it holds until the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Add them and announce them.
    Hold,
    /// If they are here, keep them, but do not answer ARP or neighbour solicitations for them; never add them.
    Quiet,
    /// Remove them.
    Drop,
}

/// What part of each limit may be spent on new calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Budget {
    /// Everything.
    Whole,
    /// The own floor, and only while what is known to be in use on all nodes is below the limit.
    Floor,
    /// Nothing new.
    #[default]
    Nothing,
}

/// What the driver must do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a beat.
    Beat {
        /// To whom.
        peer: NodeId,
        /// On which of its paths.
        path: PathId,
        /// What.
        beat: Beat,
    },
    /// Make this counter durable before any later effect is carried out.
    Persist(u32),
    /// This node is something else now.
    Role {
        /// What.
        role: Role,
        /// Active or joined: its own. Otherwise: the claim that it recognises, counter 0 for none.
        epoch: Epoch,
    },
    /// Every call of `owner` that was last written under an epoch below `before` is this node's, also those whose
    /// records arrive later.
    Adopt {
        /// Whose calls.
        owner: NodeId,
        /// Written before.
        before: Epoch,
        /// All that it told anybody is known here: it was not heard once it could not tell this node.
        whole: bool,
        /// It was merely silent and may handle them still, until it is known to be dead or has given them away.
        living: bool,
    },
    /// This node has claimed, and nobody remembers the calls of the time before: for one lease a reserve is left alone.
    Cold,
    /// This node is dead and may have given so much to calls that nobody heard of: what of it is not known is left alone
    /// for one lease (`cluster.partition` is `exact`). Comes before its calls are adopted.
    Unheard(NodeId, Budget),
    /// Who may spend the greater share of each limit from now on.
    Share(NodeId),
    /// Every call of this node is the peer's.
    Yield {
        /// Whose.
        to: NodeId,
        /// The claim under which.
        epoch: Epoch,
    },
    /// What to do about the virtual addresses from now on.
    Vip(Wish),
    /// What to do about the addresses of the peer from now on, where each node has its own.
    Guest(Wish),
    /// What to do about the addresses that are with who is active, where each node has its own, too.
    Lead(Wish),
    /// The mode that is in force from now on: to be made durable before any later effect is carried out.
    Mode(Mode),
    /// The peer that is told of every change of a call, and tells of its own; `None`: nobody is told.
    Lanes(Option<NodeId>),
    /// Announce the addresses that are held again.
    Announce,
    /// Ask who answers for the virtual addresses, and a reference point; answer by [`Input::Probed`].
    Probe,
    /// What may be spent from now on.
    Budget(Budget),
    /// What to ask the witness for, again and again (`cluster.partition` is `witness`).
    Witness(Ask),
    /// Hand every datagram for a virtual address to this peer instead of handling it; `None`: handle it here.
    Relay(Option<NodeId>),
    /// The peer that serves as well and can be told: what comes in here for its calls goes there (active-active).
    Beside(Option<NodeId>),
    /// Whether a peer could take over without a loss: commit points wait for it or do not.
    Armed(bool),
    /// Send what the peer lacks and say [`Input::Flushed`] with the number once all that was written before is
    /// acknowledged.
    Flush {
        /// To whom.
        peer: NodeId,
        /// Comes back.
        number: u32,
    },
    /// Send a message over the urgent stream, behind what was flushed.
    Tell {
        /// To whom.
        peer: NodeId,
        /// What.
        message: Message,
    },
    /// The answer to a command.
    Answer(Result<(), Refusal>),
    /// Something that an operator must know.
    Notice(Notice),
    /// The node has left: close links with a goodbye; the process may end.
    Done,
}
