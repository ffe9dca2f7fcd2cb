//! What the cluster decides, carried out in the parts of this node; the rest is the driver's.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::balance::{Budget as Ports, Reserve};
use crate::base::{Epoch, NodeId, Time};
use crate::cluster::{self, Effect, Input, Role};
use crate::out::Out;
use crate::proxy::{Commit, Taken, View};
use crate::replica::{Kind, Stream};

use super::peer_link::Flush;
use super::{Cell, Cells, Node};

impl<K: Cells> Node<K> {
    /// Something that the driver observed of the pair.
    pub fn pair(&self, now: Time, input: Input, out: &mut Out) {
        let link = match input {
            Input::Link { peer, event } => Some((peer, matches!(event, cluster::Link::Up { .. }))),
            _ => None,
        };
        if let Some((_, false)) = link {
            self.close_lanes(now, out);
            self.look(now, out, |view| view.linked = false);
        }
        if matches!(input, Input::Dropped | Input::Usable(false)) {
            self.addresses(now, false);
        }
        self.ask_cluster(now, out, |cluster, effects| cluster.handle(now, input, effects));
        // After the cluster's word: what a new life of the peer makes this node adopt stands in the first digests.
        if let Some((peer, true)) = link {
            self.open_lanes(now, peer, out);
            self.look(now, out, |view| view.linked = true);
        }
    }

    /// Everything of the pair that is due at `now`: beats, suspicion, deadlines of a hand-over.
    pub fn pair_timeout(&self, now: Time, out: &mut Out) {
        self.ask_cluster(now, out, |cluster, effects| cluster.handle_timeout(now, effects));
    }

    /// When [`Node::pair_timeout`] wants to be called next.
    pub fn next_pair_timeout(&self) -> Option<Time> {
        self.hub.with(|hub| hub.cluster.as_ref().map(cluster::Cluster::next_timeout))
    }

    /// Whether the peer could take over, or this node for the peer, without a loss.
    pub fn is_armed(&self) -> bool {
        self.hub.with(|hub| hub.view.armed)
    }

    /// Whether messages wait for the peer's word, which comes over its link. Takes no part.
    pub fn is_waiting(&self) -> bool {
        self.signs.is_waiting()
    }

    /// Whether a message from or to this address is none of this node's any more, because another one acts for the pair;
    /// counted. Takes no part.
    pub fn is_stale(&self, local: std::net::IpAddr) -> bool {
        self.signs.is_virtual(local) && self.signs.is_stale()
    }

    /// Until when this node may act as the active one without its cluster having run again; see
    /// [`cluster::Cluster::authority`]. Takes no part.
    pub fn authority(&self) -> Time {
        self.signs.authority()
    }

    /// Whether the addresses of the pair are at this node, as far as an active one was told. Without them no answer to
    /// what is asked from there comes here, so resources are probed from its own address.
    pub fn addresses(&self, now: Time, here: bool) {
        self.hub.with(|hub| hub.prober.stand_by(now, !(here && self.signs.is_active())));
        self.publish_probes();
    }

    /// What the cluster says of itself, if this node is one of a pair.
    pub fn pair_status(&self) -> Option<cluster::Status> {
        self.hub.with(|hub| hub.cluster.as_ref().map(cluster::Cluster::status))
    }

    fn ask_cluster(&self, now: Time, out: &mut Out, ask: impl FnOnce(&mut cluster::Cluster, &mut Vec<Effect>)) {
        let mut effects = self.hub.with(|hub| {
            let mut effects = std::mem::take(&mut hub.effects);
            if let Some(cluster) = &mut hub.cluster {
                ask(cluster, &mut effects);
                self.signs.set_authority(cluster.authority());
            }
            effects
        });
        for effect in effects.drain(..) {
            self.carry_out(now, effect, out);
        }
        if self.signs.is_active() {
            self.handle_relays(now, out);
        }
        self.hub.with(|hub| hub.effects = effects);
    }

    fn carry_out(&self, now: Time, effect: Effect, out: &mut Out) {
        match effect {
            Effect::Role { role, epoch } => self.take_role(now, role, epoch, out),
            Effect::Adopt { owner, before, whole } => self.adopt(now, owner, before, whole, out),
            Effect::Yield { to, epoch } => {
                self.hub.with(|hub| hub.owed = Some((to, epoch)));
                self.settle(now, out);
            }
            Effect::Budget(budget) => {
                let ports = match (budget, self.hub.with(|hub| hub.shares())) {
                    (cluster::Budget::Nothing, _) => Ports::Nothing,
                    (cluster::Budget::Floor, Some(shares)) => Ports::Floor(self.id, shares),
                    _ => Ports::Whole,
                };
                self.farm.with(|farm| farm.set_budget(now, ports));
            }
            Effect::Cold => {
                let reserve =
                    self.hub.with(|hub| Reserve::for_lease(now, hub.cold_reserve, hub.view.config.inactivity));
                self.farm.with(|farm| farm.set_reserve(now, reserve));
            }
            Effect::Relay(to) => {
                self.relay.store(to.map_or(0, |peer| u32::from(peer.0) + 1), Ordering::SeqCst);
                self.look(now, out, |view| view.frozen = to.is_some());
            }
            Effect::Armed(armed) => {
                self.hub.with(|hub| hub.agree(armed));
                self.look(now, out, |view| view.armed = armed);
            }
            Effect::Flush { number, .. } => self.flush(now, number, out),
            Effect::Tell { peer, message } => {
                out.frame(peer, Stream::Urgent, Kind::Cluster, |payload| message.write(payload));
            }
            other => out.effects.push(other),
        }
    }

    fn take_role(&self, now: Time, role: Role, epoch: Epoch, out: &mut Out) {
        let active = role == Role::Active;
        if !active {
            self.signs.set_active(false);
            self.hub.with(|hub| hub.peer.relays.clear());
            self.addresses(now, false);
        }
        self.look(now, out, |view| {
            view.active = active;
            if active {
                view.epoch = epoch;
            }
        });
        if active {
            self.hub.with(|hub| hub.owed = None);
            self.signs.set_active(true);
        }
        out.effects.push(Effect::Role { role, epoch });
    }

    /// Everything of `owner` is this node's, which is active in its own epoch.
    fn adopt(&self, now: Time, owner: NodeId, before: Epoch, whole: bool, out: &mut Out) {
        let through = before.counter.saturating_sub(1);
        self.look(now, out, |view| {
            view.taken.retain(|taken| taken.node != owner);
            view.taken.push(Taken { node: owner, through, since: now });
        });
        self.share_doubts(now);
        for n in 0..self.shards.len() {
            self.with_shard(now, n, out, |shard, desk, out| shard.adopt(now, owner, whole, desk, out));
        }
        // What was adopted while the nodes still compare was no part of the comparison; what a living peer hands over
        // stands on both sides alike.
        if self.hub.with(|hub| hub.peer.up.is_some() && !hub.peer.incoming.is_complete()) {
            (0..self.shards.len()).for_each(|n| self.restart_lane(now, n, out));
        }
    }

    /// The peer gave all that it owned to this node.
    pub(super) fn take_handover(&self, now: Time, peer: NodeId, out: &mut Out) {
        let epoch = self.hub.with(|hub| hub.view.active.then_some(hub.view.epoch));
        if let Some(epoch) = epoch {
            self.adopt(now, peer, epoch, true, out);
            for n in 0..self.shards.len() {
                if self.shards[n].with(|shard| shard.take_ignored()) {
                    self.restart_lane(now, n, out);
                }
            }
        }
    }

    /// What this node owns and should not: once the peer holds all of it, it is the peer's.
    fn settle(&self, now: Time, out: &mut Out) {
        let owed = self.hub.with(|hub| {
            // What the peer has taken already comes in its own words first: no position of ours may stand above it.
            let ready = hub.peer.outgoing.is_complete() && hub.peer.incoming.is_complete();
            hub.owed.take_if(|(to, _)| ready && hub.peer.up == Some(*to))
        });
        let Some((to, epoch)) = owed else { return };
        for n in 0..self.shards.len() {
            self.with_shard(now, n, out, |shard, desk, out| {
                shard.give_up(now, to, epoch, desk, out);
                shard.put_out(now, out);
            });
        }
        out.frame(to, Stream::Urgent, Kind::Handover, |_| {});
    }

    /// Says `number` once all that was recorded before is acknowledged.
    fn flush(&self, now: Time, number: u32, out: &mut Out) {
        // Acknowledgements may come in while the last shards are still being flushed.
        self.hub.with(|hub| hub.peer.flush = Some(Flush { number, waits: (0..self.shards.len()).collect() }));
        for n in 0..self.shards.len() {
            if self.with_shard(now, n, out, |shard, _, out| shard.flush_all(now, out)) {
                self.flushed(now, n, out);
            }
        }
    }

    /// All that a shard recorded is acknowledged.
    pub(super) fn flushed(&self, now: Time, n: usize, out: &mut Out) {
        let done = self.hub.with(|hub| {
            let flush = hub.peer.flush.as_mut()?;
            flush.waits.retain(|waiting| *waiting != n);
            let number = flush.number;
            flush.waits.is_empty().then(|| {
                hub.peer.flush = None;
                number
            })
        });
        if let Some(number) = done {
            self.pair(now, Input::Flushed(number), out);
        }
    }

    pub(super) fn told(&self, now: Time, peer: NodeId, payload: &[u8], out: &mut Out) -> bool {
        match cluster::Message::read(payload) {
            Ok(message) => self.pair(now, Input::Told { peer, message }, out),
            // A kind of a later version is skipped.
            Err(cluster::NoMessage::Kind(_)) => {}
            Err(cluster::NoMessage::Short) => return false,
        }
        true
    }

    /// Tells the cluster how far replication has come, if that changed.
    pub(super) fn tell_sync(&self, now: Time, peer: NodeId, out: &mut Out) {
        let changed = self.hub.with(|hub| {
            let sync = cluster::Progress {
                incoming: hub.peer.incoming.is_complete(),
                outgoing: hub.peer.outgoing.is_complete(),
                told: hub.peer.untold == 0 && hub.view.commit == Commit::PeerAck,
            };
            (sync != hub.peer.told).then(|| {
                hub.peer.told = sync;
                sync
            })
        });
        if let Some(sync) = changed {
            self.pair(now, Input::Sync { peer, sync }, out);
            self.settle(now, out);
        }
    }

    /// A shard has sent something of which the peer does not know, or the peer knows of all that it sent.
    pub(super) fn tells(&self, now: Time, tells: bool, out: &mut Out) {
        let peer = self.hub.with(|hub| {
            hub.peer.untold += if tells { -1 } else { 1 };
            hub.peer.up
        });
        if let Some(peer) = peer {
            self.tell_sync(now, peer, out);
        }
    }

    /// Changes what the shards are told.
    pub(super) fn look(&self, now: Time, out: &mut Out, change: impl FnOnce(&mut View)) {
        let view = self.hub.with(|hub| {
            let mut view = View::clone(&hub.view);
            change(&mut view);
            view.serving = view.active && !hub.draining;
            hub.view = Arc::new(view);
            hub.view.clone()
        });
        self.set_view(now, &view, out);
    }
}
