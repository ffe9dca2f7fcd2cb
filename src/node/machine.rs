//! [`Node`]: how a message passes from the driver to its shard and out again, and the glue between the parts.

use std::sync::Arc;

use crate::balance::{Farm, ResourceView};
use crate::base::Time;
use crate::out::{Event, Out};
use crate::proxy::reject::{RETRY_AFTER, malformed_status};
use crate::proxy::stats::Stats as CallStats;
use crate::proxy::{Io, Proxy, View};
use crate::sip::framing::{Noise, noise};
use crate::sip::reply::{Reply, reason_phrase, refuse};
use crate::sip::{Index, Malformed, Via};
use crate::token::Keys;

use super::deadlines::Deadlines;
use super::desk::FarmDesk;
use super::hub::Hub;
use super::probe::Prober;
use super::shard::Shard;
use super::{Capacity, Cell, Cells, Command, Config, Gauges, Input, LegView, Received, Scratch, Stats, TimerName};

/// Messages that are parsed before their shards are taken.
const CHUNK: usize = 32;

/// One machine of the pair.
pub struct Node<K: Cells> {
    shards: Box<[K::Cell<Shard>]>,
    hub: K::Cell<Hub>,
    farm: K::Cell<Farm>,
    /// Of each shard, then of the hub's probes.
    deadlines: Deadlines,
    /// Knows the shard of a Call-ID; the bucket key never changes.
    steer: Keys,
}

impl<K: Cells> Node<K> {
    /// A node that serves from now on.
    pub fn new(now: Time, config: Config) -> Self {
        let Capacity { shards, legs, transactions } = config.capacity;
        let view = Arc::new(View {
            serving: true,
            node: config.node,
            epoch: config.epoch,
            identities: config.identities,
            keys: config.keys.clone(),
            config: config.proxy,
            since: now,
        });
        let farm = Farm::new(config.farm);
        let mut prober = Prober::new(config.node, config.incarnation, config.seed);
        prober.configure(now, farm.monitored().map(|(id, route, monitor)| (id, route.clone(), monitor)));
        // Hashing spreads calls unevenly: a quarter and a few more per shard keep the node's limit reachable.
        let share = |limit: usize| limit / shards + limit / shards / 4 + 64;
        let shard = |n: usize| {
            let seed = config.seed.wrapping_add(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            K::Cell::new(Shard::new(view.clone(), share(transactions), share(legs), seed))
        };
        let node = Self {
            shards: (0..shards).map(shard).collect(),
            hub: K::Cell::new(Hub::new(view.clone(), prober)),
            farm: K::Cell::new(farm),
            deadlines: Deadlines::new(shards + 1),
            steer: config.keys,
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
            Input::Command(command) => self.command(command),
        }
    }

    /// A batch of received messages: parsed before any lock, grouped by shard, each shard taken once.
    pub fn handle_batch(&self, now: Time, batch: &[Received<'_>], scratch: &mut Scratch, out: &mut Out) {
        scratch.reserve();
        for chunk in batch.chunks(CHUNK) {
            scratch.order.clear();
            for (n, received) in chunk.iter().enumerate() {
                if let Some(shard) = self.sort(now, received, &mut scratch.indexes[n], out) {
                    scratch.order.push((shard as u8, n as u8));
                }
            }
            scratch.order.sort_unstable();
            for group in scratch.order.chunk_by(|a, b| a.0 == b.0) {
                self.with_shard(now, group[0].0 as usize, out, |shard, desk, out| {
                    for &(_, n) in group {
                        let received = &chunk[n as usize];
                        let message = scratch.indexes[n as usize].message(received.bytes);
                        shard.run(now, desk, out, |proxy, io| proxy.handle(io, &message, received.flow));
                    }
                });
            }
        }
    }

    /// Everything that is due at `now`.
    pub fn handle_timeout(&self, now: Time, _scratch: &mut Scratch, out: &mut Out) {
        for n in (0..self.shards.len()).filter(|n| self.deadlines.is_due(*n, now)) {
            self.with_shard(now, n, out, |shard, desk, out| shard.run(now, desk, out, Proxy::handle_timeout));
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
        self.deadlines.refresh();
    }

    /// When `handle_timeout` wants to be called next, and why. Never too late; sometimes too early, when what was to be
    /// done then has been done.
    pub fn next_timeout(&self) -> Option<(Time, TimerName)> {
        Some(self.deadlines.earliest()).filter(|(due, _)| *due != Time::NEVER)
    }

    /// Replaces identities, keys, groups and proxy settings; calls go on. Node id, epoch, seed and capacity stay.
    pub fn reconfigure(&self, now: Time, config: Config) {
        let view = self.hub.with(|hub| {
            hub.view = Arc::new(View {
                identities: hub.view.identities.succeed(config.identities),
                keys: config.keys,
                config: config.proxy,
                ..View::clone(&hub.view)
            });
            hub.view.clone()
        });
        let targets: Vec<_> = self.farm.with(|farm| {
            farm.reconfigure(now, config.farm);
            farm.monitored().map(|(id, route, monitor)| (id, route.clone(), monitor)).collect()
        });
        self.hub.with(|hub| hub.prober.configure(now, targets.into_iter()));
        self.publish_probes();
        self.set_view(&view);
    }

    /// Whether the node refuses new calls.
    pub fn draining(&self) -> bool {
        self.hub.with(|hub| !hub.view.serving)
    }

    /// Whether no shard had to be silenced.
    pub fn is_fit(&self) -> bool {
        self.shards.iter().all(|shard| shard.with(|s| !s.silent))
    }

    /// Counters since start.
    pub fn stats(&self) -> Stats {
        let (mut calls, mut panics, mut silent_shards) = (CallStats::default(), 0, 0);
        for shard in &self.shards {
            shard.with(|s| {
                calls.add(&s.proxy().stats);
                panics += s.panics;
                silent_shards += u64::from(s.silent);
            });
        }
        self.hub.with(|hub| Stats {
            calls,
            malformed: hub.malformed,
            refusals: hub.refusals,
            keep_alives: hub.keep_alives,
            stun: hub.stun,
            panics,
            silent_shards,
        })
    }

    /// What is alive now.
    pub fn gauges(&self) -> Gauges {
        let mut sum = Gauges { grants: self.farm.with(|farm| farm.grants()), ..Gauges::default() };
        for shard in &self.shards {
            shard.with(|s| {
                let proxy = s.proxy();
                sum.legs += proxy.legs().len();
                sum.ringing += proxy.ringing().count();
                sum.sessions += proxy.legs().sessions();
                sum.server_transactions += proxy.transactions().servers();
                sum.client_transactions += proxy.transactions().clients();
                sum.remembered += proxy.legs().remembered();
                sum.timers += proxy.transactions().timers() + proxy.coarse_timers();
            });
        }
        sum
    }

    /// All resources.
    pub fn resources(&self) -> Vec<ResourceView> {
        self.farm.with(|farm| farm.view())
    }

    /// Up to `limit` calls, answered or not.
    pub fn legs(&self, limit: usize) -> Vec<LegView> {
        let mut views = Vec::new();
        for shard in &self.shards {
            shard.with(|s| {
                s.proxy().each_call(&mut |call| {
                    if views.len() < limit {
                        let call_id = String::from_utf8_lossy(call.call_id).into_owned();
                        let id = format!("{:016x}", call.leg.0);
                        let (resource, state, since) = (call.resource, call.state, call.since);
                        views.push(LegView { id, call_id, resource, state, since });
                    }
                });
            });
        }
        views
    }

    /// Whether every part agrees with itself and the ledger with the union of the grants of all shards.
    pub fn check(&self) -> bool {
        let mut held = 0;
        let sound = self.shards.iter().all(|shard| {
            shard.with(|s| {
                held += s.proxy().grants();
                s.proxy().check()
            })
        });
        sound && self.farm.with(|farm| farm.check().is_ok() && farm.grants() == held)
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

    /// Counts a message that could not be read, and answers it where a response can be built.
    fn refuse(&self, received: &Received<'_>, index: &Index, malformed: Malformed, out: &mut Out) {
        let status = malformed_status(malformed);
        let retry = [("Retry-After", RETRY_AFTER.as_bytes())];
        let extra = if status == 503 { &retry[..] } else { &[] };
        let reply = Reply { status, reason: reason_phrase(status), to_tag: Some(b"unreadable"), extra };
        // Without a readable Via port the true source is the only way back that is not a guess (RFC 3581 §4).
        let answered = out.send(received.flow, |bytes| {
            let start = bytes.len();
            // The answer is never larger than what provoked it: nobody is flooded through us.
            refuse(index, received.bytes, &reply, received.flow.remote, bytes)
                && bytes.len() - start <= received.bytes.len().max(SMALL_REFUSAL)
        });
        self.hub.with(|hub| {
            hub.malformed[malformed as usize] += 1;
            hub.refusals += u64::from(answered);
        });
        // Who cannot be told by an answer is told by the end of the stream, instead of waiting for one.
        if !answered && !received.bytes.starts_with(b"SIP/") {
            out.close.extend(received.flow.conn);
        }
    }

    /// Octets of ours that did not arrive. The quotation in an ICMP error may be cut short, so only the start line and
    /// the first Via are read, and every shard is asked for the branch.
    fn undelivered(&self, now: Time, octets: &[u8], out: &mut Out) {
        let Some((branch, cancel)) = own_branch(octets) else { return };
        if Prober::owns(branch) {
            let result = self.hub.with(|hub| hub.probe_undelivered(branch));
            self.publish_probes();
            if let Some((resource, probe)) = result {
                self.farm.with(|farm| farm.probed(now, resource, probe));
                self.spread_health(now, out);
            }
            return;
        }
        for n in 0..self.shards.len() {
            let found = self.with_shard(now, n, out, |shard, desk, out| {
                shard.run(now, desk, out, |proxy, io: &mut Io<'_>| proxy.undelivered(io, branch, cancel))
            });
            if found {
                return;
            }
        }
    }

    fn command(&self, command: Command) {
        if let Some(view) = self.hub.with(|hub| hub.command(command)) {
            self.set_view(&view);
        }
    }

    fn set_view(&self, view: &Arc<View>) {
        for shard in &self.shards {
            shard.with(|s| s.set_view(view.clone()));
        }
    }

    /// Takes one shard, publishes its next deadlines, and passes on what it told the Farm.
    fn with_shard<R>(
        &self,
        now: Time,
        n: usize,
        out: &mut Out,
        f: impl FnOnce(&mut Shard, &FarmDesk<'_, K::Cell<Farm>>, &mut Out) -> R,
    ) -> R {
        let desk = FarmDesk::new(&self.farm);
        let result = self.shards[n].with(|shard| {
            let result = f(shard, &desk, out);
            self.publish(n, shard);
            result
        });
        if desk.take_touched() {
            self.spread_health(now, out);
        }
        result
    }

    fn publish(&self, n: usize, shard: &Shard) {
        let (transaction, coarse) = match shard.silent {
            true => (Time::NEVER, Time::NEVER),
            false => shard.proxy().next_timeout(),
        };
        if transaction <= coarse {
            self.deadlines.publish(n, transaction, TimerName::Transaction);
        } else {
            self.deadlines.publish(n, coarse, TimerName::Coarse);
        }
    }

    fn publish_probes(&self) {
        let due = self.hub.with(|hub| hub.prober.next_timeout()).unwrap_or(Time::NEVER);
        self.deadlines.publish(self.shards.len(), due, TimerName::Probe);
    }

    /// Members that went down have their unanswered attempts cancelled and tried elsewhere.
    fn spread_health(&self, now: Time, out: &mut Out) {
        while let Some(change) = self.farm.with(|farm| farm.take_changes()) {
            let (resource, usable) = (change.resource, change.usable);
            out.events.push(Event::Health { resource, usable });
            if usable {
                continue;
            }
            for n in 0..self.shards.len() {
                let desk = FarmDesk::new(&self.farm);
                self.shards[n].with(|shard| {
                    shard.run(now, &desk, out, |proxy, io| proxy.resource_down(io, resource));
                    self.publish(n, shard);
                });
            }
        }
    }
}

/// A refusal this small may be larger than the message that provoked it.
const SMALL_REFUSAL: usize = 512;

/// The branch of the first Via of a request of ours, and whether the request is a CANCEL.
fn own_branch(octets: &[u8]) -> Option<(&[u8], bool)> {
    let mut lines = octets.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let start = lines.next()?;
    if start.starts_with(b"SIP/") {
        return None;
    }
    let via = lines.next()?.strip_prefix(b"Via: ")?;
    Some((Via::parse(via)?.branch?, start.starts_with(b"CANCEL ")))
}

impl Scratch {
    fn reserve(&mut self) {
        if self.indexes.len() < CHUNK {
            self.indexes.resize_with(CHUNK, Index::new);
        }
    }
}
