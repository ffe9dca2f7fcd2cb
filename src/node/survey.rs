//! What a node says of itself: counters, gauges, rows; and whether its parts agree.

use crate::balance::ResourceView;
use crate::base::{Bucket, NodeId};
use crate::proxy::stats::Stats as CallStats;

use super::gate::GateStats;
use super::{Cell, Cells, Exposure, Gauges, LegView, Node, PeerStats, Stats};

impl<K: Cells> Node<K> {
    /// Counters since start.
    pub fn stats(&self) -> Stats {
        let (mut calls, mut panics, mut silent_shards) = (CallStats::default(), 0, 0);
        let mut gate = GateStats::default();
        for shard in &self.shards {
            shard.with(|s| {
                calls.add(&s.proxy().stats);
                gate.add(&s.gate().stats);
                panics += s.panics;
                silent_shards += u64::from(s.silent);
            });
        }
        let pins = self.farm.with(|farm| farm.pin_stats());
        self.hub.with(|hub| Stats {
            calls,
            pins,
            malformed: hub.malformed,
            refusals: hub.refusals,
            keep_alives: hub.keep_alives,
            stun: hub.stun,
            panics,
            silent_shards,
            gate,
            peer: PeerStats { relayed_out: self.signs.relayed(), ..hub.peer.stats },
            stale: self.signs.stale(),
        })
    }

    /// What is alive now.
    pub fn gauges(&self) -> Gauges {
        let (grants, pins) = self.farm.with(|farm| (farm.grants(), farm.live_pins()));
        let mut sum = Gauges { grants, pins, ..Gauges::default() };
        for shard in &self.shards {
            shard.with(|s| {
                let proxy = s.proxy();
                sum.legs += proxy.legs().len();
                sum.ringing += proxy.ringing().count();
                sum.sessions += proxy.legs().sessions();
                sum.server_transactions += proxy.transactions().servers();
                sum.client_transactions += proxy.transactions().clients();
                sum.shadows += proxy.shadows();
                sum.held += s.gate().waiting();
                sum.remembered += proxy.legs().remembered();
                sum.timers += proxy.transactions().timers() + proxy.coarse_timers();
            });
        }
        sum
    }

    /// How far the peer holds what this node does, if there is one.
    pub fn exposure(&self) -> Option<Exposure> {
        let (paired, linked, apart) =
            self.hub.with(|hub| (hub.cluster.is_some(), hub.peer.up.is_some(), hub.peer.apart()));
        if !paired {
            return None;
        }
        let mut sum = Exposure { linked, ..Exposure::default() };
        for shard in &self.shards {
            shard.with(|s| {
                let (proxy, gate) = (s.proxy(), s.gate());
                let (records, oldest) = gate.unacknowledged();
                sum.records += records;
                sum.oldest = sum.oldest.into_iter().chain(oldest).min();
                sum.ringing += proxy.ringing_beyond(gate.acknowledged());
                sum.peer_ringing += proxy.shadows_ringing();
                sum.apart += apart.as_ref().map_or_else(
                    || proxy.legs().len() + proxy.ringing().count() + proxy.shadows_ringing(),
                    |buckets| proxy.calls_in(buckets),
                );
            });
        }
        // What only the peer knows counts too.
        sum.buckets_apart = apart.map_or(0, |buckets| buckets.len());
        sum.apart = sum.apart.max(sum.buckets_apart);
        Some(sum)
    }

    /// Answered calls by who writes their records: this node's own, and all others. Looks at each call.
    pub fn owners(&self) -> (usize, usize) {
        let (mut own, mut all) = (0, 0);
        for shard in &self.shards {
            shard.with(|s| {
                all += s.proxy().legs().len();
                own += s.proxy().legs().iter().filter(|leg| leg.owner == self.id).count();
            });
        }
        (own, all - own)
    }

    /// The digest of what `owner` has in `bucket`, as this node knows it.
    pub fn digest_of(&self, owner: NodeId, bucket: Bucket) -> u64 {
        self.shards[bucket.shard(self.shards.len())].with(|s| s.proxy().digest(owner, bucket))
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
                        views.push(LegView { id, call_id, resource, state, since, pin: call.pin });
                    }
                });
            });
        }
        views
    }

    /// Whether every part agrees with itself and the ledger with the union of the grants of all shards.
    pub fn check(&self) -> Result<(), String> {
        let (mut held, mut pinned) = (0, 0);
        for (n, shard) in self.shards.iter().enumerate() {
            shard.with(|s| {
                let (all, bound) = s.proxy().grants();
                (held, pinned) = (held + all, pinned + bound);
                s.proxy().check().map_err(|part| format!("shard {n}: {part}"))
            })?;
        }
        self.farm.with(|farm| {
            farm.check()?;
            let granted = (farm.grants(), farm.pinned());
            if granted == (held, pinned) {
                Ok(())
            } else {
                Err(format!("{granted:?} ports, and of pinned calls, are granted, and {:?} held", (held, pinned)))
            }
        })
    }
}
