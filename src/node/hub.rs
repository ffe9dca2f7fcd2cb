//! What a node has once: its view, probing, operators' commands. Nothing that happens per call.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::balance::{Budget as Ports, Probe, Shares};
use crate::base::{Epoch, NodeId, ResourceId, Time};
use crate::cluster::{Budget, Cluster, Effect, Progress};
use crate::out::Out;
use crate::proxy::{Commit, View};
use crate::sip::{Malformed, Message};

use super::peer_link::PeerLink;
use super::probe::Prober;

/// The hub of a node.
#[derive(Debug)]
pub struct Hub {
    /// What the shards are told.
    pub(super) view: Arc<View>,
    pub(super) prober: Prober,
    /// Who of the pair does what; `None`: there is no pair.
    pub(super) cluster: Option<Cluster>,
    /// What the cluster wants, in its order.
    pub(super) effects: VecDeque<Effect>,
    /// Somebody carries it out.
    pub(super) carrying: bool,
    /// Reused list of what it wants next.
    pub(super) asked: Vec<Effect>,
    /// The link to the peer.
    pub(super) peer: PeerLink,
    /// An operator wants no new calls here.
    pub(super) draining: bool,
    /// Everything that this node owns belongs to this node, under this claim, once it holds all of it.
    pub(super) owed: Option<(NodeId, Epoch)>,
    /// It is being given away.
    pub(super) settling: bool,
    /// The node that was given all of it: it is told again over each new link, until this one acts itself.
    pub(super) gave: Option<NodeId>,
    /// The node that gave all that it owned to this one, which may not act yet.
    pub(super) given: Option<NodeId>,
    /// Whether this node holds the role, and does not serve beside another one that does.
    pub(super) leads: bool,
    /// Per mille of each limit for the active node while nobody knows of the other one.
    pub(super) active_share: u16,
    /// Per mille of each limit that is left alone for a lease where nobody remembers the calls of the time before.
    pub(super) cold_reserve: u16,
    /// Who may spend the greater share.
    pub(super) shareholder: NodeId,
    /// What may be spent.
    pub(super) budget: Budget,
    /// Reused list of probe results.
    results: Vec<(ResourceId, Probe)>,
    /// Messages that could not be read, by reason.
    pub(super) malformed: [u64; Malformed::ALL.len()],
    /// Keep-alives and stray CRLF in datagrams.
    pub(super) keep_alives: u64,
    /// STUN-like datagrams.
    pub(super) stun: u64,
    /// Refusals of unreadable messages that were sent.
    pub(super) refusals: u64,
}

impl Hub {
    /// A hub that serves from now on.
    pub fn new(view: Arc<View>, prober: Prober) -> Self {
        Self {
            view,
            prober,
            cluster: None,
            effects: VecDeque::new(),
            carrying: false,
            asked: Vec::new(),
            peer: PeerLink::default(),
            draining: false,
            owed: None,
            settling: false,
            gave: None,
            given: None,
            leads: false,
            active_share: Shares::ACTIVE,
            cold_reserve: 0,
            shareholder: NodeId::default(),
            budget: Budget::Whole,
            results: Vec::new(),
            malformed: [0; Malformed::ALL.len()],
            keep_alives: 0,
            stun: 0,
            refusals: 0,
        }
    }

    /// How far replication has come.
    pub(super) fn progress(&self) -> Progress {
        Progress {
            incoming: self.peer.incoming.is_complete(),
            outgoing: self.peer.outgoing.is_complete(),
            told: self.peer.untold == 0 && self.view.commit == Commit::PeerAck,
            owes: self.owed.is_some()
                || self.settling
                || self.effects.iter().any(|e| matches!(e, Effect::Yield { .. })),
        }
    }

    /// What is to be carried out next of what the cluster wants.
    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        let effect = self.effects.pop_front();
        self.carrying = effect.is_some();
        if let Some(Effect::Yield { to, epoch }) = effect {
            self.owed = Some((to, epoch));
            // The cluster takes it for so until it hears the opposite.
            self.peer.told.owes = true;
        }
        effect
    }

    /// What a budget is of each limit, for one of the nodes.
    pub(super) fn ports(&self, node: NodeId, budget: Budget) -> Ports {
        match (budget, self.shares()) {
            (Budget::Nothing, _) => Ports::Nothing,
            (Budget::Floor, Some(shares)) => Ports::Floor(node, shares),
            _ => Ports::Whole,
        }
    }

    /// How the nodes split every limit.
    fn shares(&self) -> Option<Shares> {
        let (me, peer) = (self.view.node, self.view.peer?);
        let share = |node| if node == self.shareholder { self.active_share } else { 1_000 - self.active_share };
        Shares::new(vec![(me, share(me)), (peer, share(peer))])
    }

    /// A response to a probe. The results are for the Farm.
    pub fn probe_response(&mut self, now: Time, response: &Message<'_>) -> Option<(ResourceId, Probe)> {
        self.prober.handle_response(now, response, &mut self.results);
        self.results.pop()
    }

    /// A probe that could not be delivered.
    pub fn probe_undelivered(&mut self, branch: &[u8]) -> Option<(ResourceId, Probe)> {
        self.prober.undelivered(branch, &mut self.results);
        self.results.pop()
    }

    /// Probes that are due or late; calls `result` for each that failed.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Out, mut result: impl FnMut(ResourceId, Probe)) {
        self.prober.handle_timeout(now, out, &self.view.identities, &mut self.results);
        for (resource, probe) in self.results.drain(..) {
            result(resource, probe);
        }
    }
}
