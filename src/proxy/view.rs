//! What the hub tells the shards.

use std::fmt;
use std::time::Duration;

use smallvec::SmallVec;

use crate::base::{Epoch, Host, NodeId, Time};
use crate::identity::{Identities, IdentityId};
use crate::sip::Uri;
use crate::token::Keys;

/// How calls are handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// T1, default 500 ms (RFC 3261 §17.1.1.1).
    pub t1: Duration,
    /// T2, default 4 s.
    pub t2: Duration,
    /// T4, default 5 s.
    pub t4: Duration,
    /// Timer C, default 181 s: more than three minutes (RFC 3261 §16.6 item 11).
    pub timer_c: Duration,
    /// A leg without any message for this long is ended: default 2 h.
    pub inactivity: Duration,
    /// `Server` header value of responses of our own; empty: none.
    pub server: String,
    /// `sip.retried-invite`: what becomes of an INVITE that comes again in a new transaction.
    pub retried: Retried,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            timer_c: Duration::from_secs(181),
            inactivity: Duration::from_secs(7_200),
            server: String::from("Tandem"),
            retried: Retried::default(),
        }
    }
}

/// What becomes of an INVITE with the Call-ID, From tag and CSeq number of one that nobody has answered yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retried {
    /// It takes the place of the first one at the resource that is being asked.
    #[default]
    Join,
    /// The first one is cancelled, and it is a new call.
    Replace,
    /// It is refused (482, RFC 3261 §8.2.2.2).
    Reject,
}

impl fmt::Display for Retried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Retried::Join => "join",
            Retried::Replace => "replace",
            Retried::Reject => "reject",
        })
    }
}

/// What the hub tells the shards; immutable, replaced as a whole.
#[derive(Clone, Debug)]
pub struct View {
    /// Grows with each view of a node: two threads may bring them in the other order.
    pub generation: u64,
    /// Whether new calls are taken.
    pub serving: bool,
    /// Whether this node acts for the pair; a node without a peer always does.
    pub active: bool,
    /// A hand-over has gone so far that the peer acts next: what it was told of must stay all there is.
    pub frozen: bool,
    /// This node.
    pub node: NodeId,
    /// The present epoch.
    pub epoch: Epoch,
    /// Our addresses.
    pub identities: Identities,
    /// Keys of branches and tokens.
    pub keys: Keys,
    /// How calls are handled.
    pub config: Config,
    /// The nodes whose calls this one took over, and itself in earlier epochs and runs.
    pub taken: SmallVec<[Taken; 2]>,
    /// The peer, if there is one.
    pub peer: Option<NodeId>,
    /// Whether the peer can be told something.
    pub linked: bool,
    /// Every node serves where it can (active-active): a dialog must find any of them.
    pub shared: bool,
    /// The peer serves as well, and what comes in here for its calls can go there.
    pub beside: Option<NodeId>,
    /// Whether the peer holds all that this node owns: what waits for it need not wait in vain.
    pub armed: bool,
    /// `cluster.commit`.
    pub commit: Commit,
    /// `cluster.commit-timeout`: how long a message waits for the peer at most.
    pub commit_timeout: Duration,
}

impl View {
    /// Whether this node may change calls and send for them. Otherwise another one may be doing so.
    pub fn acts(&self) -> bool {
        self.active && !self.frozen
    }

    /// What `node` asked before the epoch `before` is carried on here; `living`: it may do so itself.
    pub fn carry_on(&mut self, now: Time, node: NodeId, before: Epoch, living: bool) {
        let through = before.counter.saturating_sub(1);
        self.taken.retain(|taken| taken.node != node);
        self.taken.push(Taken { node, through, since: now, living });
    }

    /// A node without a peer and without addresses, which has taken nobody's calls but those of its own earlier runs.
    pub fn alone(node: NodeId, epoch: Epoch, keys: Keys, now: Time) -> Self {
        let earlier = Taken { node, through: epoch.counter.saturating_sub(1), since: now, living: false };
        Self {
            generation: 0,
            serving: true,
            active: true,
            frozen: false,
            node,
            epoch,
            identities: Identities::default(),
            keys,
            config: Config::default(),
            taken: SmallVec::from_iter([earlier]),
            peer: None,
            linked: false,
            shared: false,
            beside: None,
            armed: false,
            commit: Commit::default(),
            commit_timeout: Duration::from_millis(5),
        }
    }
}

/// What a message waits for whose record a survivor needs (`cluster.commit`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Commit {
    /// For the peer's word that it holds the record, or the cap.
    #[default]
    PeerAck,
    /// For nothing: promises weaken accordingly.
    Async,
}

/// A node that this one carries on for, or itself before its present epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub node: NodeId,
    /// Up to this counter of its epochs.
    pub through: u32,
    /// Since when.
    pub since: Time,
    /// It was merely silent and may wait for its answers itself.
    pub living: bool,
}

/// The identity of ours that a URI names.
pub(super) fn own_identity(identities: &Identities, uri: &Uri<'_>) -> Option<IdentityId> {
    match uri.host {
        Host::Ip(ip) => identities.recognise(uri.transport(), ip, uri.port_or_default()),
        Host::Name(_) => None,
    }
}
