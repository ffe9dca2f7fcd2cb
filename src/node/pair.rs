//! What the cluster decides, carried out in the parts of this node; the rest is the driver's.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::balance::Reserve;
use crate::base::{Epoch, NodeId, Time};
use crate::cluster::{self, Effect, Input, Role, Wish};
use crate::out::Out;
use crate::proxy::View;
use crate::replica::{Kind, Stream};

use super::hub::Hub;
use super::peer_link::Flush;
use super::{Cell, Cells, Node};

impl<K: Cells> Node<K> {
    /// Something that the driver observed of the pair.
    pub fn pair(&self, now: Time, input: Input, out: &mut Out) {
        let link = match input {
            Input::Link { event, .. } => Some(matches!(event, cluster::Link::Up { .. })),
            _ => None,
        };
        if link == Some(false) {
            self.close_lanes(now, out);
            self.look(now, out, |view| view.linked = false);
        }
        if matches!(input, Input::Dropped | Input::Usable(false)) {
            self.addresses(now, false);
        }
        let usable = matches!(input, Input::Usable(true));
        self.ask_cluster(now, out, |cluster, effects| cluster.handle(now, input, effects));
        if usable && self.signs.is_active() && !self.is_passing_on() {
            // It has kept the role, and with it the addresses.
            self.addresses(now, true);
        }
    }

    /// Everything of the pair that is due at `now`: beats, suspicion, deadlines of a hand-over.
    pub fn pair_timeout(&self, now: Time, out: &mut Out) {
        self.ask_cluster(now, out, |cluster, effects| cluster.handle_timeout(now, effects));
    }

    /// All that the cluster wanted is done at `now`, before its frames leave; see [`cluster::Cluster::worked`].
    pub fn pair_worked(&self, now: Time) {
        self.hub.with(|hub| {
            if let Some(cluster) = &mut hub.cluster {
                cluster.worked(now);
                self.signs.set_authority(cluster.authority());
            }
        });
    }

    /// When [`Node::pair_timeout`] wants to be called next.
    pub fn next_pair_timeout(&self) -> Option<Time> {
        self.hub.with(|hub| hub.cluster.as_ref().map(cluster::Cluster::next_timeout))
    }

    /// Whether the addresses of the pair are at this node, as far as an active one was told. Without them no answer to
    /// what is asked from there comes here, so resources are probed from its own address.
    pub fn addresses(&self, now: Time, here: bool) {
        let active = self.signs.is_active();
        // What is asked from an address of all nodes may be answered to any of them.
        let (own, slow) = if self.signs.is_shared() { (true, !active) } else { (!(here && active), !(here && active)) };
        self.hub.with(|hub| hub.prober.stand_by(now, own, slow));
        self.publish_probes();
    }

    fn ask_cluster(&self, now: Time, out: &mut Out, ask: impl FnOnce(&mut cluster::Cluster, &mut Vec<Effect>)) {
        self.ask_hub(now, out, |hub, effects| {
            if let Some(cluster) = &mut hub.cluster {
                ask(cluster, effects);
            }
        });
    }

    fn ask_hub(&self, now: Time, out: &mut Out, ask: impl FnOnce(&mut Hub, &mut Vec<Effect>)) {
        let carries = self.hub.with(|hub| {
            let mut effects = std::mem::take(&mut hub.asked);
            ask(hub, &mut effects);
            hub.cluster.iter().for_each(|cluster| self.signs.set_authority(cluster.authority()));
            hub.effects.extend(effects.drain(..));
            hub.asked = effects;
            std::mem::replace(&mut hub.carrying, true)
        });
        // What is carried out may make the cluster want more: that comes behind all that it wanted before.
        if carries {
            return;
        }
        let mut carrying = Carrying { hub: &self.hub, done: false };
        while let Some(effect) = self.hub.with(Hub::next_effect) {
            self.carry_out(now, effect, out);
        }
        carrying.done = true;
        if self.hub.with(|hub| hub.leads) {
            self.handle_relays(now, out);
        }
    }

    fn carry_out(&self, now: Time, effect: Effect, out: &mut Out) {
        match effect {
            Effect::Role { role, epoch } => self.take_role(now, role, epoch, out),
            Effect::Adopt { owner, before, whole, living } => self.adopt(now, owner, before, (whole, living), out),
            Effect::Yield { to, .. } => {
                self.signs.set_owing(true);
                self.settle(now, out);
                self.tell_sync(now, to, out);
            }
            Effect::Beside(peer) => self.look(now, out, |view| view.beside = peer),
            Effect::Budget(budget) => self.spend(now, |hub| hub.budget = budget),
            Effect::Share(node) => self.spend(now, |hub| hub.shareholder = node),
            Effect::Unheard(peer, spent) => {
                // What the dead one left alone itself are other calls.
                self.share_doubts(now);
                let (spent, lease) = self.hub.with(|hub| (hub.ports(peer, spent), hub.view.config.inactivity));
                self.farm.with(|farm| farm.withhold(now, &spent, now + lease));
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
            Effect::Guest(wish) => {
                self.look(now, out, |view| view.identities.stand_in(wish != Wish::Drop));
                out.effects.push(effect);
            }
            // After all that the cluster wanted: what a new life of the peer makes this node adopt stands in the first digests.
            Effect::Lanes(Some(peer)) => {
                self.open_lanes(now, peer, out);
                self.look(now, out, |view| view.linked = true);
            }
            Effect::Lanes(None) => {
                if self.hub.with(|hub| hub.peer.up.is_some()) {
                    self.close_lanes(now, out);
                }
                self.look(now, out, |view| view.linked = false);
            }
            Effect::Lead(wish) => {
                self.look(now, out, |view| view.identities.lead(wish != Wish::Drop));
                out.effects.push(effect);
            }
            Effect::Armed(armed) => {
                self.look(now, out, |view| view.armed = armed);
            }
            Effect::Flush { peer, number } => {
                self.tell_doubts(now, peer, Stream::Urgent, out);
                self.flush(now, number, out);
            }
            Effect::Tell { peer, message } => {
                out.frame(peer, Stream::Urgent, Kind::Cluster, |payload| message.write(payload));
            }
            other => out.effects.push(other),
        }
    }

    /// What calls of this node's own may spend changes.
    fn spend(&self, now: Time, change: impl FnOnce(&mut Hub)) {
        let ports = self.hub.with(|hub| {
            change(hub);
            hub.ports(self.id, hub.budget)
        });
        self.farm.with(|farm| farm.set_budget(now, ports));
    }

    fn take_role(&self, now: Time, role: Role, epoch: Epoch, out: &mut Out) {
        let active = matches!(role, Role::Active | Role::Joined);
        self.hub.with(|hub| hub.leads = role == Role::Active);
        if !active {
            self.signs.set_asking(role == Role::Asking);
            self.signs.set_active(false);
            self.hub.with(|hub| hub.peer.relays.clear());
            self.addresses(now, false);
        }
        self.look(now, out, |view| {
            view.active = active;
            if active {
                // What was asked under an earlier epoch may have been another node's meanwhile.
                view.carry_on(now, view.node, epoch, false);
                view.epoch = epoch;
            }
        });
        let given = self.hub.with(|hub| {
            if active {
                (hub.owed, hub.gave) = (None, None);
            }
            if let Some(owed) = hub.owed.as_mut().filter(|(to, _)| *to == epoch.node) {
                // Whoever is to have it has claimed again since.
                owed.1 = epoch;
            }
            hub.given.take_if(|_| role != Role::Asking)
        });
        if active {
            self.signs.set_owing(false);
            self.signs.set_active(true);
            self.signs.set_asking(false);
            if self.signs.is_shared() {
                self.addresses(now, false);
            }
            given.into_iter().for_each(|peer| self.take_handover(now, peer, out));
        }
        self.tell_sight_again(out);
        out.effects.push(Effect::Role { role, epoch });
    }

    /// Everything of `owner` is this node's, which is active in its own epoch.
    fn adopt(&self, now: Time, owner: NodeId, before: Epoch, (whole, living): (bool, bool), out: &mut Out) {
        self.look(now, out, |view| view.carry_on(now, owner, before, living));
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
        let epoch = self.hub.with(|hub| {
            hub.given = (!hub.view.active && self.signs.is_asking()).then_some(peer);
            hub.view.active.then_some(hub.view.epoch)
        });
        if let Some(epoch) = epoch {
            self.adopt(now, peer, epoch, (true, false), out);
            for n in 0..self.shards.len() {
                if self.shards[n].with(|shard| shard.take_ignored()) {
                    self.restart_lane(now, n, out);
                }
            }
        }
    }

    /// What this node owns and should not: once the peer holds all of it, it is the peer's.
    pub(super) fn settle(&self, now: Time, out: &mut Out) {
        // What the peer has taken already comes in its own words first: no position of ours may stand above it.
        let ready = |hub: &mut Hub| {
            let owed = hub.owed.is_some_and(|(to, _)| hub.peer.up == Some(to));
            owed && hub.peer.outgoing.is_complete() && hub.peer.incoming.is_complete()
        };
        if !self.hub.with(ready) {
            return;
        }
        // What was recorded since may be on a link that is dead and not known to be.
        let flush = |n| self.with_shard(now, n, out, |shard, _, out| shard.flush_all(now, out));
        if (0..self.shards.len()).map(flush).filter(|done| !done).count() > 0 {
            return;
        }
        let owed = self.hub.with(|hub| {
            let owed = if ready(hub) { hub.owed.take() } else { None };
            hub.gave = owed.map(|(to, _)| to).or(hub.gave);
            hub.settling = owed.is_some();
            owed
        });
        let Some((to, epoch)) = owed else { return };
        for n in 0..self.shards.len() {
            self.with_shard(now, n, out, |shard, desk, out| {
                shard.give_up(now, to, epoch, desk, out);
                shard.put_out(now, out);
            });
        }
        out.frame(to, Stream::Urgent, Kind::Handover, |_| {});
        self.hub.with(|hub| hub.settling = false);
        self.signs.set_owing(false);
        if self.signs.is_shared() {
            self.pass_on_kept(now, to, out);
        }
        self.tell_sync(now, to, out);
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
        self.leave_ports_of_peer(now, out);
        if self.hub.with(|hub| hub.progress() == hub.peer.told) {
            return;
        }
        // Under one lock, or an older word could come last.
        self.ask_hub(now, out, |hub, effects| {
            let sync = hub.progress();
            if std::mem::replace(&mut hub.peer.told, sync) != sync {
                let input = Input::Sync { peer, sync };
                hub.cluster.iter_mut().for_each(|cluster| cluster.handle(now, input, effects));
            }
        });
        self.settle(now, out);
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
            view.generation += 1;
            view.serving = view.active && !hub.draining;
            hub.view = Arc::new(view);
            hub.view.clone()
        });
        self.set_view(now, &view, out);
    }
}

/// What the cluster wants is carried out. A panic must not leave it so, or nothing would ever be carried out again.
struct Carrying<'a, C: Cell<Hub>> {
    hub: &'a C,
    done: bool,
}

impl<C: Cell<Hub>> Drop for Carrying<'_, C> {
    fn drop(&mut self) {
        if !self.done {
            self.hub.with(|hub| hub.carrying = false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Capacity, Config, Pair, Single};
    use super::*;
    use crate::balance::{self, GroupConfig, Monitor, Probe, ResourceConfig, Route, SchemeName, Terms, resource_id};
    use crate::base::{CallKey, Flow, LegId, ListenerId, ResourceId, Transport, limits};
    use crate::identity::Identities;
    use crate::proxy::Commit;
    use crate::replica::sync_frame::Digest;
    use crate::session::change::Change;
    use crate::token::Keys;
    use std::time::Duration;

    const PEER: NodeId = NodeId(2);
    const ENDED: Change<'static> = Change::Ended { call: CallKey(7), leg: LegId(9) };

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1_000)
    }

    fn server() -> ResourceId {
        resource_id("sip:192.0.2.9:5060;transport=udp")
    }

    fn farm() -> balance::Config {
        let (local, remote) = ("192.0.2.1:5060".parse().unwrap(), "192.0.2.9:5060".parse().unwrap());
        let flow = Flow { transport: Transport::Udp, listener: ListenerId(0), local, remote, conn: None };
        let route = Route { authority: "192.0.2.9:5060".into(), flow, stream: None, own: None };
        let aor = String::from("sip:192.0.2.9:5060");
        let resource = ResourceConfig { id: server(), aor, route, aliases: Vec::new(), port_capacity: None };
        let (interval, timeout) = (Duration::from_secs(5), Duration::from_secs(1));
        balance::Config {
            groups: vec![GroupConfig {
                name: String::from("MCP"),
                service_types: Vec::new(),
                scheme: SchemeName::RoundRobin,
                monitor: Some(Monitor { interval, timeout, down_after: 1, up_after: 1 }),
                noresource_response_code: 480,
                terms: Terms { first_response_timeout: Duration::from_secs(2), retry_codes: Vec::new() },
                pin_by: None,
                resources: vec![resource],
            }],
        }
    }

    /// A node of two shards, linked to its peer.
    fn linked(out: &mut Out) -> Node<Single> {
        let me = NodeId(1);
        let cluster = cluster::Config {
            me,
            incarnation: 5,
            counter: 1,
            cluster: 77,
            mode: cluster::Mode { mode: cluster::HaMode::ActiveStandby, word: Epoch::default() },
            modes: Vec::new(),
            shared: false,
            leads: false,
            peers: vec![cluster::PeerConfig { id: PEER, paths: 1 }],
            timing: cluster::Timing::default(),
            probes: true,
            crossed: None,
            partition: cluster::Partition::Available,
            priority: 100,
            preempt: false,
            config: 9,
        };
        let pair = Pair {
            cluster,
            peer: PEER,
            virtual_ips: Vec::new(),
            commit: Commit::PeerAck,
            commit_timeout: Duration::from_millis(5),
            active_share: 900,
            cold_reserve: 0,
        };
        let node = Node::new(
            at(1),
            Config {
                node: me,
                epoch: Epoch { counter: 1, node: me },
                incarnation: 5,
                seed: 1,
                keys: Keys::new("c", &[b"a secret"]).unwrap(),
                identities: Identities::default(),
                farm: farm(),
                proxy: crate::proxy::Config::default(),
                capacity: Capacity { shards: 2, legs: 8, transactions: 8 },
                pair: Some(pair),
            },
        );
        node.pair(at(1), Input::Link { peer: PEER, event: cluster::Link::Up { incarnation: 6 } }, out);
        out.clear();
        node
    }

    /// Digests that were put out: lane, run, whether it begins anew, rows.
    fn digests(out: &Out) -> Vec<(u16, u16, bool, usize)> {
        let of = |frame: &&crate::out::Frame| frame.kind == Kind::Digest;
        let read = |frame: &crate::out::Frame| {
            let digest = Digest::read(out.payload(frame)).unwrap();
            (digest.run.lane, digest.run.number, digest.begins, digest.rows().count())
        };
        out.frames.iter().filter(of).map(read).collect()
    }

    #[test]
    fn a_hand_over_does_not_wait_for_a_shard_that_fell_silent() {
        let mut out = Out::new();
        let node = linked(&mut out);
        let waits = |node: &Node<Single>| node.hub.with(|hub| hub.peer.flush.as_ref().map(|flush| flush.waits.clone()));
        let fail = |out: &mut Out| {
            node.with_shard(at(2), 0, out, |shard, desk, out| {
                shard.run::<()>(at(2), desk, out, |_, io| {
                    io.gate.record(&ENDED);
                    panic!("poison");
                });
            });
        };
        fail(&mut out);
        node.flush(at(2), 7, &mut out);
        assert_eq!(waits(&node), Some(vec![0]), "of one failure the shard lives on, and with it its records");
        out.clear();
        fail(&mut out);
        assert_eq!(waits(&node), None, "nobody will ever acknowledge the rest");
        assert_eq!(digests(&out), [(0, 1, true, 0)], "the peer keeps what it holds");
        node.flush(at(3), 8, &mut out);
        assert_eq!(waits(&node), None);
        out.clear();
        (2..6).for_each(|n| node.sync_timeout(at(100 * n), &mut out));
        assert!(!digests(&out).is_empty() && digests(&out).iter().all(|(lane, ..)| *lane == 1), "{:?}", digests(&out));
    }

    #[test]
    fn addresses_that_are_of_use_again_are_here_where_the_role_stayed() {
        let mut out = Out::new();
        let node = linked(&mut out);
        let stands_by = || node.hub.with(|hub| hub.prober.stands_by().0);
        for (active, after) in [(false, true), (true, false)] {
            node.signs.set_active(active);
            node.addresses(at(2), true);
            node.pair(at(3), Input::Usable(false), &mut out);
            assert!(stands_by());
            node.pair(at(4), Input::Usable(true), &mut out);
            assert_eq!(stands_by(), after, "active: {active}");
        }
    }

    #[test]
    fn what_speaks_against_servers_is_told_ahead_of_a_hand_over() {
        let mut out = Out::new();
        let node = linked(&mut out);
        node.signs.set_active(true);
        node.farm.with(|farm| farm.probed(at(2), server(), Probe::Failed));
        node.carry_out(at(2), Effect::Flush { peer: PEER, number: 7 }, &mut out);
        let told = out.frames.iter().find(|frame| frame.kind == Kind::Doubts).unwrap();
        let doubts = crate::replica::doubts::read(at(2), out.payload(told)).unwrap();
        assert_eq!((told.stream, doubts.len(), doubts[0].resource), (Stream::Urgent, 1, server()));
    }

    #[test]
    fn what_was_passed_on_in_a_hand_over_that_came_to_nothing_is_not_handled_later() {
        let mut out = Out::new();
        let node = linked(&mut out);
        let mut payload = Vec::new();
        let local = "192.0.2.1:5060".parse().unwrap();
        let flow = Flow { transport: Transport::Udp, listener: ListenerId(0), local, remote: local, conn: None };
        crate::replica::relay::write(flow, b"OPTIONS sip:a@b SIP/2.0\r\n\r\n", &mut payload);
        let handled = |came: u64, now: u64, out: &mut Out| {
            node.hub.with(|hub| hub.peer.keep_relay(at(came), &payload));
            node.handle_relays(at(now), out);
            node.hub.with(|hub| hub.peer.stats.relayed_in)
        };
        node.signs.set_active(true);
        assert_eq!(handled(10, 900, &mut out), 1);
        assert_eq!(handled(10, 1_010, &mut out), 1);
    }

    #[test]
    fn a_lane_that_runs_over_while_a_server_goes_down_begins_anew() {
        let mut out = Out::new();
        let node = linked(&mut out);
        node.shards[0].with(|shard| {
            let desk = super::super::desk::FarmDesk::new(&node.farm);
            shard.run(at(2), &desk, &mut out, |_, io| {
                for _ in 0..limits::LANE / 8 {
                    io.gate.record(&ENDED);
                }
            });
        });
        node.farm.with(|farm| farm.probed(at(3), server(), Probe::Failed));
        node.spread_health(at(3), &mut out);
        let begun: Vec<_> = digests(&out).iter().map(|(lane, run, begins, _)| (*lane, *run, *begins)).collect();
        assert_eq!(begun, [(0, 1, true)]);
    }
}
