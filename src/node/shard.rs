//! One of the shards of a node: transactions, proxy and legs of the calls whose bucket falls to it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::balance::Desk;
use crate::base::{Epoch, NodeId, Seq, Time, Version};
use crate::out::Out;
use crate::proxy::{Io, Proxy, View};

use super::gate::Gate;

/// Which of how many shards one is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Which.
    pub number: usize,
    /// Of how many.
    pub shards: usize,
}

/// Two failed assertions within this time silence a shard.
const POISON_WINDOW: Duration = Duration::from_secs(60);

/// Positions that the last owner of a lane may have used without being heard: more than a lane holds, so that nothing of
/// it looks younger than what this node says of the same calls.
const UNHEARD: u64 = 1 << 20;

/// All that happens per call, for the calls of one shard.
pub struct Shard {
    proxy: Proxy,
    gate: Gate,
    panicked: Option<Time>,
    /// Of the view that is in force.
    generation: u64,
    /// The peer was not told yet that nothing more comes of this shard.
    fell: bool,
    /// Failed assertions.
    pub(super) panics: u64,
    /// Whether the shard has stopped for good: its state cannot be trusted any more.
    pub(super) silent: bool,
}

impl Shard {
    /// A shard with room for `transactions` and `legs`.
    pub fn new(view: Arc<View>, place: Place, transactions: usize, legs: usize, seed: u64) -> Self {
        let gate = Gate::new(place.number, &view);
        let proxy = Proxy::new(view, place.shards, transactions, legs, seed);
        Self { proxy, gate, panicked: None, generation: 0, fell: false, panics: 0, silent: false }
    }

    /// The proxy of this shard.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// A new view; calls go on. One that is older than what was told already comes late and changes nothing.
    pub fn set_view(&mut self, now: Time, view: Arc<View>, out: &mut Out) {
        if view.generation < self.generation {
            return;
        }
        self.generation = view.generation;
        self.gate.set_view(now, &view, out);
        self.proxy.set_view(now, view);
    }

    /// What the gate of this shard counted.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The version of the last record.
    pub(super) fn last(&self) -> Version {
        self.gate.last()
    }

    /// `peer` is told from now on.
    pub(super) fn open(&mut self, peer: NodeId) {
        if !self.silent {
            self.gate.open(peer);
        }
    }

    /// Nobody is told any more.
    pub(super) fn close(&mut self, now: Time, out: &mut Out) {
        self.gate.close(now, out);
    }

    /// The peer holds everything up to `seq`; whether that is all.
    pub(super) fn acked(&mut self, now: Time, seq: Seq, out: &mut Out) -> bool {
        self.gate.acked(now, seq, out);
        self.gate.is_acknowledged()
    }

    /// Whether the peer knows of all that was sent, if that has changed.
    pub(super) fn take_tells(&mut self) -> Option<bool> {
        self.gate.take_tells()
    }

    /// Puts out what was recorded, or lets it gather; whether the lane was full meanwhile.
    pub(super) fn flush(&mut self, now: Time, out: &mut Out) -> bool {
        self.gate.flush(now, out);
        self.gate.take_overflow()
    }

    /// Whether the shard has fallen silent; says so once.
    pub(super) fn take_fall(&mut self) -> bool {
        std::mem::take(&mut self.fell)
    }

    /// Puts out all that was recorded; whether the peer has acknowledged it. If not, it is asked to.
    pub(super) fn flush_all(&mut self, now: Time, out: &mut Out) -> bool {
        self.gate.flush_all(now, out)
    }

    /// Puts out all that was recorded, for what stands behind it.
    pub(super) fn put_out(&mut self, now: Time, out: &mut Out) {
        self.gate.put_out(now, out);
    }

    /// Everything of `owner` is this node's; `whole`: nothing that it told anybody is unknown here.
    pub(super) fn adopt(&mut self, now: Time, owner: NodeId, whole: bool, desk: &dyn Desk, out: &mut Out) {
        if self.silent {
            return;
        }
        // Later records of the same things must look later, too.
        let (epoch, seen) = (self.gate.last().epoch, self.proxy.seen(owner));
        self.gate.begin_epoch(epoch, Seq(seen.0 + UNHEARD));
        self.run(now, desk, out, |proxy, io| proxy.adopt(io, owner, whole));
    }

    /// The peer has a transaction that this node does not have.
    pub(super) fn hear_mark(&mut self, now: Time, mark: u64) {
        self.proxy.hear_mark(now, mark);
    }

    /// Whether a record of the peer was ignored, because this node goes on with its INVITE itself; says so once.
    pub(super) fn take_ignored(&mut self) -> bool {
        self.proxy.take_ignored()
    }

    /// Everything of this node is `to`'s.
    pub(super) fn give_up(&mut self, now: Time, to: NodeId, epoch: Epoch, desk: &dyn Desk, out: &mut Out) {
        self.gate.discard();
        self.run(now, desk, out, |proxy, io| proxy.give_up(io, to, epoch));
    }

    /// Everything that is due.
    pub(super) fn handle_timeout(&mut self, now: Time, desk: &dyn Desk, out: &mut Out) {
        self.gate.handle_timeout(now, out);
        self.run(now, desk, out, Proxy::handle_timeout);
    }

    /// Runs one call into the proxy. A failed assertion of ours costs the message that met it; if the state has suffered,
    /// or it happens again soon, the shard falls silent rather than spread the damage.
    pub fn run<R: Default>(
        &mut self,
        now: Time,
        desk: &dyn Desk,
        out: &mut Out,
        f: impl FnOnce(&mut Proxy, &mut Io<'_>) -> R,
    ) -> R {
        if self.silent {
            return R::default();
        }
        let sent = out.transmits.len();
        let (proxy, gate) = (&mut self.proxy, &mut self.gate);
        let done =
            catch_unwind(AssertUnwindSafe(|| f(proxy, &mut Io { now, out: &mut *out, desk, gate, relayed: false })));
        done.unwrap_or_else(|_| {
            out.transmits.truncate(sent);
            self.poisoned(now);
            R::default()
        })
    }

    fn poisoned(&mut self, now: Time) {
        self.panics += 1;
        let again = self.panicked.is_some_and(|last| now.since(last) < POISON_WINDOW);
        self.panicked = Some(now);
        let sound = catch_unwind(AssertUnwindSafe(|| self.proxy.check().is_ok())).unwrap_or(false);
        self.silent = again || !sound;
        if self.silent {
            self.gate.forget();
            self.fell = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{Ask, Evidence, Grant, Outcome, Refusal, Vouch};
    use crate::base::{Bucket, Flow, Host, LegId, NodeId, Pin, ResourceId};
    use crate::replica::body::{LegBody, Read};
    use crate::replica::record::{Class, Head};
    use crate::token::Keys;

    struct Nobody;

    impl Desk for Nobody {
        fn admit(&self, _: Time, _: &Ask<'_>) -> Result<Grant, Refusal> {
            Err(Refusal::NoGroup)
        }
        fn advance(&self, _: Time, _: Grant, _: Outcome, _: &Ask<'_>) -> Result<Grant, Refusal> {
            Err(Refusal::NoGroup)
        }
        fn release(&self, _: Time, _: Grant, _: Outcome) {}
        fn evidence(&self, _: Time, _: ResourceId, _: Evidence) {}
        fn adopt(&self, _: Time, _: ResourceId, _: LegId, _: Option<Pin>) -> Option<Grant> {
            None
        }
        fn shadow(&self, _: Time, _: ResourceId, _: LegId, _: Option<Pin>) -> Grant {
            unreachable!("there is no peer")
        }
        fn take_over(&self, _: Time, _: &mut Grant) {}
        fn hand_over(&self, _: Time, _: &mut Grant) {}
        fn vouch(&self, _: ResourceId, _: &Host<'_>, _: u16) -> Vouch {
            Vouch::NoResource
        }
        fn stream(&self, _: ResourceId) -> Option<Flow> {
            None
        }
        fn learn(&self, _: ResourceId, _: &Host<'_>, _: u16) -> bool {
            false
        }
        fn peer_serves(&self, _: &Ask<'_>) -> bool {
            false
        }
        fn peer_reaches(&self, _: ResourceId) -> bool {
            false
        }
    }

    fn shard() -> Shard {
        with_room(8)
    }

    fn with_room(legs: usize) -> Shard {
        let view = View {
            serving: true,
            ..View::alone(NodeId(1), Epoch::default(), Keys::new("tandem", &[b"x"]).unwrap(), Time::ZERO)
        };
        Shard::new(Arc::new(view), Place { number: 0, shards: 1 }, 8, legs, 1)
    }

    #[test]
    fn a_call_of_the_peer_without_room_here_is_counted_and_left_out() {
        let mut shard = with_room(0);
        let version = Version { epoch: Epoch::default(), seq: Seq(1) };
        let head = Head { class: Class::Leg, ignorable: false, bucket: Bucket(0), id: 7, version };
        shard.run(Time::ZERO, &Nobody, &mut Out::new(), |proxy, io| {
            proxy.apply(io, NodeId(2), &head, Read::Leg(LegBody::default()));
        });
        let stats = &shard.proxy().stats;
        assert_eq!((stats.records_without_room, stats.records_applied), (1, 1));
        assert!(shard.proxy().legs().is_empty());
    }

    #[test]
    fn a_view_that_comes_late_changes_nothing() {
        let (mut shard, mut out) = (shard(), Out::new());
        let alone = View::alone(NodeId(1), Epoch::default(), Keys::new("tandem", &[b"x"]).unwrap(), Time::ZERO);
        let view = |generation, active| Arc::new(View { generation, active, ..alone.clone() });
        shard.set_view(Time::ZERO, view(7, true), &mut out);
        shard.set_view(Time::ZERO, view(6, false), &mut out);
        assert!(shard.proxy().acts(), "the later word stands");
        shard.set_view(Time::ZERO, view(8, false), &mut out);
        assert!(!shard.proxy().acts());
    }

    fn fail(shard: &mut Shard, seconds: u64) {
        let now = Time::from_micros(seconds * 1_000_000);
        let mut out = Out::new();
        shard.run::<()>(now, &Nobody, &mut out, |_, _| panic!("poison"));
        assert!(out.transmits.is_empty());
    }

    #[test]
    fn one_failed_assertion_costs_one_message_and_a_second_one_soon_the_shard() {
        let mut shard = shard();
        fail(&mut shard, 1);
        assert!(shard.run(Time::ZERO, &Nobody, &mut Out::new(), |_, _| true), "it goes on");
        fail(&mut shard, 62);
        assert_eq!((shard.panics, shard.silent), (2, false), "long ago is forgiven");
        fail(&mut shard, 63);
        assert!(shard.silent && !shard.run(Time::ZERO, &Nobody, &mut Out::new(), |_, _| true));
    }
}
