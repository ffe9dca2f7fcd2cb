//! What a node says of itself: counters, gauges, rows; and whether its parts agree.

use crate::balance::ResourceView;
use crate::proxy::stats::Stats as CallStats;

use super::gate::GateStats;
use super::{Cell, Cells, Gauges, LegView, Node, Stats};

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
        self.hub.with(|hub| Stats {
            calls,
            malformed: hub.malformed,
            refusals: hub.refusals,
            keep_alives: hub.keep_alives,
            stun: hub.stun,
            panics,
            silent_shards,
            gate,
            peer: hub.peer.stats,
            stale: self.signs.stale(),
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
                sum.shadows += proxy.shadows();
                sum.held += s.gate().waiting();
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
}
