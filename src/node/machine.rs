//! [`Node`]: how a message passes from the driver to its shard and out again, and the glue between the parts.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::balance::Farm;
use crate::base::{NodeId, Time};
use crate::cluster::{self, Cluster};
use crate::out::{Event, Out};
use crate::proxy::View;
use crate::sip::Index;
use crate::sip::framing::{Noise, noise};
use crate::token::Keys;

use super::deadlines::Deadlines;
use super::desk::FarmDesk;
use super::hub::Hub;
use super::probe::Prober;
use super::shard::{Place, Shard};
use super::signs::Signs;
use super::{Capacity, Cell, Cells, Command, Config, Input, Received, Scratch, TimerName};

/// Messages that are parsed before their shards are taken.
const CHUNK: usize = 32;

/// One machine of the pair.
pub struct Node<K: Cells> {
    pub(super) shards: Box<[K::Cell<Shard>]>,
    pub(super) hub: K::Cell<Hub>,
    pub(super) farm: K::Cell<Farm>,
    /// Of each shard, then of the hub's probes, then of the link to the peer.
    pub(super) deadlines: Deadlines,
    /// Knows the shard of a Call-ID; the bucket key never changes.
    steer: Keys,
    /// This node.
    pub(super) id: NodeId,
    /// The peer that handles what comes in here, plus one; 0: this node does.
    pub(super) relay: AtomicU32,
    /// What can be asked without taking a part.
    pub(super) signs: Signs,
}

impl<K: Cells> Node<K> {
    /// A node that serves from now on, or, as one of a pair, once its cluster says so.
    pub fn new(now: Time, config: Config) -> Self {
        let Capacity { shards, legs, transactions } = config.capacity;
        let alone = View::alone(config.node, config.epoch, config.keys.clone(), now);
        let mut view = View { identities: config.identities, config: config.proxy, ..alone };
        if let Some(pair) = &config.pair {
            (view.serving, view.active, view.peer) = (false, false, Some(pair.peer));
            view.shared = pair.cluster.shared;
            (view.commit, view.commit_timeout) = (pair.commit, pair.commit_timeout);
        }
        let view = Arc::new(view);
        let mut farm = Farm::new(config.farm);
        farm.set_pin_linger(view.config.t1 * 64);
        if let Some(pair) = config.pair.as_ref().filter(|_| view.shared) {
            farm.split(config.node, pair.peer);
        }
        let mut prober = Prober::new(config.node, config.incarnation, config.seed);
        prober.configure(now, farm.monitored().map(|(id, route, monitor)| (id, route.clone(), monitor)));
        prober.stand_by(now, !view.active, !view.active);
        // Hashing spreads calls unevenly: a quarter and a few more per shard keep the node's limit reachable.
        let share = |limit: usize| limit / shards + limit / shards / 4 + 64;
        let shard = |number: usize| {
            let seed = config.seed.wrapping_add(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let place = Place { number, shards };
            K::Cell::new(Shard::new(view.clone(), place, share(transactions), share(legs), seed))
        };
        let mut hub = Hub::new(view.clone(), prober);
        let virtual_ips = config.pair.as_ref().map(|pair| pair.virtual_ips.clone()).unwrap_or_default();
        let alone = config.pair.is_none();
        if let Some(pair) = config.pair {
            hub.active_share = pair.active_share.min(1_000);
            hub.cold_reserve = pair.cold_reserve.min(1_000);
            // What the configuration has refused before cannot come here.
            hub.cluster = Cluster::new(now, pair.cluster).ok();
        }
        let node = Self {
            shards: (0..shards).map(shard).collect(),
            hub: K::Cell::new(hub),
            farm: K::Cell::new(farm),
            deadlines: Deadlines::new(shards + 2),
            steer: config.keys,
            id: config.node,
            relay: AtomicU32::new(0),
            signs: Signs::new(alone, virtual_ips, view.shared),
        };
        node.publish_probes();
        node
    }

    /// One input.
    pub fn handle(&self, now: Time, input: Input<'_>, scratch: &mut Scratch, out: &mut Out) {
        match input {
            Input::Message(received) => self.handle_batch(now, &[received], scratch, out),
            Input::BadStream(received, malformed) => {
                scratch.reserve();
                let index = &mut scratch.indexes[0];
                // What the head of a broken frame still tells is enough to answer it.
                let _ = index.parse(received.bytes);
                self.refuse(&received, index, malformed, out);
            }
            Input::Undelivered(received) => self.undelivered(now, received.bytes, out),
            Input::Command(command) => self.command(now, command, out),
            Input::Frame { peer, kind, payload } => {
                self.frame(now, peer, kind, payload, scratch, out);
            }
            Input::Room(octets) => self.bulk_room(now, octets, out),
            Input::Pair(input) => self.pair(now, input, out),
        }
    }

    /// A batch of received messages: parsed before any lock, grouped by shard, each shard taken once. While a hand-over
    /// is under way those for a virtual address go to the peer instead.
    pub fn handle_batch(&self, now: Time, batch: &[Received<'_>], scratch: &mut Scratch, out: &mut Out) {
        self.take_batch(now, batch, false, scratch, out);
    }

    /// `relayed`: the peer has passed it on, and it goes nowhere else from here.
    pub(super) fn take_batch(
        &self,
        now: Time,
        batch: &[Received<'_>],
        relayed: bool,
        scratch: &mut Scratch,
        out: &mut Out,
    ) {
        scratch.reserve();
        for chunk in batch.chunks(CHUNK) {
            scratch.order.clear();
            for (n, received) in chunk.iter().enumerate() {
                if self.passes_on(now, received, out) {
                    continue;
                }
                if let Some(shard) = self.sort(now, received, &mut scratch.indexes[n], out) {
                    scratch.order.push((shard as u8, n as u8));
                }
            }
            scratch.order.sort_unstable();
            for group in scratch.order.chunk_by(|a, b| a.0 == b.0) {
                self.with_shard(now, group[0].0 as usize, out, |shard, desk, out| {
                    for &(_, n) in group {
                        let received = &chunk[n as usize];
                        // A hand-over may have begun since it was sorted.
                        let acts = shard.proxy().acts();
                        if !acts && self.passes_on(now, received, out) {
                            continue;
                        }
                        let message = scratch.indexes[n as usize].message(received.bytes);
                        if !acts && self.leaves_to_peer(now, received, &message, relayed, out) {
                            continue;
                        }
                        shard.run(now, desk, out, |proxy, io| {
                            io.relayed = relayed;
                            proxy.handle(io, &message, received.flow);
                        });
                    }
                });
            }
        }
    }

    /// Everything that is due at `now`.
    pub fn handle_timeout(&self, now: Time, _scratch: &mut Scratch, out: &mut Out) {
        for n in (0..self.shards.len()).filter(|n| self.deadlines.is_due(*n, now)) {
            self.with_shard(now, n, out, |shard, desk, out| shard.handle_timeout(now, desk, out));
        }
        if self.deadlines.is_due(self.shards.len(), now) {
            self.hub.with(|hub| {
                hub.handle_timeout(now, out, |resource, probe| {
                    self.farm.with(|farm| farm.probed(now, resource, probe));
                });
            });
            self.publish_probes();
            self.spread_health(now, out);
        }
        if self.deadlines.is_due(self.shards.len() + 1, now) {
            self.sync_timeout(now, out);
        }
        self.deadlines.refresh();
    }

    /// When `handle_timeout` wants to be called next, and why. Never too late; sometimes too early, when what was to be
    /// done then has been done.
    pub fn next_timeout(&self) -> Option<(Time, TimerName)> {
        Some(self.deadlines.earliest()).filter(|(due, _)| *due != Time::NEVER)
    }

    /// Replaces identities, keys, groups and proxy settings; calls go on. Node id, epoch, seed, capacity and members of the
    /// pair stay.
    pub fn reconfigure(&self, now: Time, config: Config, out: &mut Out) {
        let targets: Vec<_> = self.farm.with(|farm| {
            farm.reconfigure(now, config.farm);
            farm.set_pin_linger(config.proxy.t1 * 64);
            farm.monitored().map(|(id, route, monitor)| (id, route.clone(), monitor)).collect()
        });
        self.hub.with(|hub| {
            hub.prober.configure(now, targets.into_iter());
            if let (Some(cluster), Some(pair)) = (&mut hub.cluster, &config.pair) {
                let cluster::Config { partition, priority, preempt, .. } = pair.cluster;
                cluster.govern(partition, priority, preempt);
            }
        });
        self.publish_probes();
        self.tell_sight_again(out);
        self.look(now, out, |view| {
            view.identities = view.identities.succeed(config.identities);
            view.keys = config.keys;
            view.config = config.proxy;
            if let Some(pair) = &config.pair {
                (view.commit, view.commit_timeout) = (pair.commit, pair.commit_timeout);
            }
        });
        self.hub.with(|hub| {
            if let (Some(cluster), Some(pair)) = (&mut hub.cluster, &config.pair) {
                cluster.set_policy(&pair.cluster);
            }
        });
    }

    /// Whether an operator wants no new calls here.
    pub fn draining(&self) -> bool {
        self.hub.with(|hub| hub.draining)
    }

    /// Whether this node acts for the pair; one without a peer always does.
    pub fn is_active(&self) -> bool {
        self.hub.with(|hub| hub.view.active)
    }

    /// Whether no shard had to be silenced. Takes no part.
    pub fn is_fit(&self) -> bool {
        self.signs.is_fit()
    }

    /// Whether an address is one that the pair shares: it may be on its way here. Takes no part.
    pub fn shares(&self, ip: std::net::IpAddr) -> bool {
        self.signs.is_virtual(ip)
    }

    /// Whether this node acts for the pair. Takes no part.
    pub fn is_active_now(&self) -> bool {
        self.signs.is_active()
    }

    /// Indexes one message; the shard that it is for, if it is for one.
    fn sort(&self, now: Time, received: &Received<'_>, index: &mut Index, out: &mut Out) -> Option<usize> {
        if let Some(noise) = noise(received.bytes) {
            self.hub.with(|hub| match noise {
                Noise::KeepAlive => hub.keep_alives += 1,
                Noise::Stun => hub.stun += 1,
            });
            return None;
        }
        if let Err(malformed) = index.parse(received.bytes) {
            self.refuse(received, index, malformed, out);
            return None;
        }
        let message = index.message(received.bytes);
        if !message.is_request() && message.via().branch.is_some_and(Prober::owns) {
            let result = self.hub.with(|hub| hub.probe_response(now, &message));
            self.publish_probes();
            if let Some((resource, probe)) = result {
                self.farm.with(|farm| farm.probed(now, resource, probe));
                self.spread_health(now, out);
            }
            return None;
        }
        Some(self.steer.call_key(message.call_id()).bucket().shard(self.shards.len()))
    }

    fn command(&self, now: Time, command: Command, out: &mut Out) {
        self.hub.with(|hub| hub.draining = command == Command::Drain);
        self.look(now, out, |_| {});
    }

    pub(super) fn set_view(&self, now: Time, view: &Arc<View>, out: &mut Out) {
        for n in 0..self.shards.len() {
            self.with_shard(now, n, out, |shard, _, out| shard.set_view(now, view.clone(), out));
        }
    }

    /// Takes one shard, puts out what it recorded, publishes its next deadlines, and passes on what it told the Farm.
    pub(super) fn with_shard<R>(
        &self,
        now: Time,
        n: usize,
        out: &mut Out,
        f: impl FnOnce(&mut Shard, &FarmDesk<'_, K::Cell<Farm>>, &mut Out) -> R,
    ) -> R {
        let desk = FarmDesk::new(&self.farm);
        let (result, full, fell, tells) = self.shards[n].with(|shard| {
            let result = f(shard, &desk, out);
            let full = shard.flush(now, out);
            self.publish(n, shard);
            (result, full, shard.take_fall(), shard.take_tells())
        });
        tells.into_iter().for_each(|tells| self.tells(now, tells, out));
        if full || fell {
            self.restart_lane(now, n, out);
        }
        if fell {
            self.flushed(now, n, out);
        }
        if desk.take_touched() {
            self.spread_health(now, out);
        }
        if desk.take_words() {
            self.tell_loans(out);
        }
        result
    }

    fn publish(&self, n: usize, shard: &Shard) {
        self.signs.set_waiting(n, shard.gate().waiting() > 0);
        let (transaction, coarse) = match shard.silent {
            true => {
                self.signs.unfit();
                (Time::NEVER, Time::NEVER)
            }
            false => shard.proxy().next_timeout(),
        };
        let gate = (shard.gate().next_timeout(), TimerName::Gate);
        let (due, name) = [(transaction, TimerName::Transaction), (coarse, TimerName::Coarse), gate]
            .into_iter()
            .min_by_key(|(due, _)| *due)
            .unwrap_or((Time::NEVER, TimerName::Coarse));
        self.deadlines.publish(n, due, name);
    }

    pub(super) fn publish_probes(&self) {
        let due = self.hub.with(|hub| hub.prober.next_timeout()).unwrap_or(Time::NEVER);
        self.deadlines.publish(self.shards.len(), due, TimerName::Probe);
    }

    /// Members that went down have their unanswered attempts cancelled and tried elsewhere.
    pub(super) fn spread_health(&self, now: Time, out: &mut Out) {
        while let Some(change) = self.farm.with(|farm| farm.take_changes()) {
            let (resource, usable) = (change.resource, change.usable);
            // Before calls of this node move because of it.
            self.tell_sight_again(out);
            out.events.push(Event::Health { resource, usable });
            if usable {
                continue;
            }
            for n in 0..self.shards.len() {
                self.with_shard(now, n, out, |shard, desk, out| {
                    shard.run(now, desk, out, |proxy, io| proxy.resource_down(io, resource));
                });
            }
        }
    }
}

impl Scratch {
    fn reserve(&mut self) {
        if self.indexes.len() < CHUNK {
            self.indexes.resize_with(CHUNK, Index::new);
        }
    }
}
