//! The link to the peer: what it brings is applied, what it asks for is sent, so that both nodes hold the same.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::balance::Farm;
use crate::base::{Bucket, NodeId, Time, Version, limits};
use crate::out::Out;
use crate::replica::body;
use crate::replica::record::Records;
use crate::replica::sync::Turn;
use crate::replica::sync_frame::{self, Digest, Part, Run};
use crate::replica::{Kind, Stream, hosts, ports, relay};

use super::peer_link::{HAND_OVER, Side};
use super::{Cell, Cells, Node, Received, Scratch};

/// A digest goes out this often, one lane after the other.
const ROUND: Duration = Duration::from_millis(100);
/// Records that nobody waits for are acknowledged together, so long after the first of them.
const ACKNOWLEDGE: Duration = Duration::from_millis(10);

impl<K: Cells> Node<K> {
    /// The link to `peer` stands: from now on it is told everything.
    pub(super) fn open_lanes(&self, now: Time, peer: NodeId, out: &mut Out) {
        self.hub.with(|hub| {
            hub.peer.up = Some(peer);
            hub.peer.incoming.clear();
            hub.peer.owed.clear();
            hub.peer.outgoing.begin(self.shards.len());
            hub.peer.apart.clear();
            hub.peer.told_doubts = None;
            hub.peer.round = now + ROUND;
        });
        // The last link may have fallen with it; whoever has heard of it loses nothing by hearing it again.
        if self.hub.with(|hub| hub.gave == Some(peer)) {
            out.frame(peer, Stream::Urgent, Kind::Handover, |_| {});
        }
        self.tell_sight(peer, out);
        // It may have to take over before the first round.
        self.tell_doubts(now, peer, Stream::Urgent, out);
        for n in 0..self.shards.len() {
            self.begin_lane(now, n, peer, out);
        }
        self.tell_ports(peer, out);
        self.tell_hosts(peer, out);
        self.tell_all_loans(peer, out);
        self.publish_sync();
    }

    fn publish_sync(&self) {
        let due = self.hub.with(|hub| hub.peer.next_timeout());
        self.deadlines.publish(self.shards.len() + 1, due, super::TimerName::Sync);
    }

    fn begin_lane(&self, now: Time, n: usize, peer: NodeId, out: &mut Out) {
        let run = self.hub.with(|hub| hub.peer.outgoing.run(n as u16));
        self.with_shard(now, n, out, |shard, _, out| {
            shard.open(peer);
            self.write_digest(run, shard, true, peer, out);
        });
    }

    fn write_digest(&self, run: Run, shard: &super::shard::Shard, begins: bool, peer: NodeId, out: &mut Out) {
        let (n, count, me) = (usize::from(run.lane), self.shards.len(), self.id);
        let buckets = (0..1u16 << 12).filter(|b| Bucket(*b).shard(count) == n).map(Bucket);
        // Of a shard that fell silent the peer keeps what it holds: nothing is to be compared with it.
        if shard.silent && !begins {
            return;
        }
        out.frame(peer, Stream::Urgent, Kind::Digest, |payload| {
            let rows = buckets.filter(|_| !shard.silent).map(|b| (b, shard.proxy().digest(me, b)));
            Digest::write(payload, (run, count as u16), begins, shard.last(), rows);
        });
    }

    /// The link is gone: nobody is told any more.
    pub(super) fn close_lanes(&self, now: Time, out: &mut Out) {
        self.hub.with(|hub| {
            hub.peer.up = None;
            hub.peer.incoming.clear();
            hub.peer.owed.clear();
            hub.peer.outgoing.begin(0);
            hub.peer.apart.clear();
            hub.peer.flush = None;
            hub.peer.relays.clear();
        });
        for n in 0..self.shards.len() {
            self.with_shard(now, n, out, |shard, _, out| shard.close(now, out));
        }
        self.farm.with(Farm::forget_borrows);
        self.lose_sight();
        self.publish_sync();
    }

    /// One authentic frame of `peer`. `false`: it makes no sense, and the link is of no use.
    pub(super) fn frame(
        &self,
        now: Time,
        peer: NodeId,
        kind: Kind,
        payload: &[u8],
        scratch: &mut Scratch,
        out: &mut Out,
    ) -> bool {
        let sound = match kind {
            Kind::Records => self.records(now, peer, payload, out),
            Kind::Ack => {
                sync_frame::read_ack(payload).for_each(|(lane, seq)| self.acked(now, lane, seq, out));
                true
            }
            Kind::Digest => self.digest(now, peer, payload, out),
            Kind::Want => self.want(now, payload, out),
            Kind::Bucket => self.bucket(now, peer, payload, out),
            Kind::Ask => {
                self.hub.with(|hub| {
                    sync_frame::read_ack(payload).for_each(|(lane, seq)| hub.peer.incoming.ask(lane, seq));
                });
                self.acknowledge(peer, out);
                true
            }
            Kind::Relay => self.relayed(now, payload, scratch, out),
            Kind::Offer => self.handle_of_peer(now, payload, scratch, out),
            Kind::Marks => {
                self.hear_marks(now, payload);
                true
            }
            Kind::Tokens => self.hear_loans(now, payload, out),
            Kind::Borrow => {
                self.hear_borrows(now, payload, out);
                true
            }
            Kind::Sight => self.hear_sight(payload),
            Kind::Hosts => {
                self.farm.with(|farm| {
                    hosts::read(payload).for_each(|(resource, host)| {
                        farm.learn(resource, &host, 0);
                    });
                });
                true
            }
            Kind::Ports => {
                self.hub.with(|hub| hub.peer.ports = Some(ports::read(payload).collect()));
                true
            }
            Kind::Handover => {
                self.take_handover(now, peer, out);
                true
            }
            Kind::Cluster => self.told(now, peer, payload, out),
            Kind::Doubts => self.hear_doubts(now, payload),
            // Others' own.
            Kind::Goodbye | Kind::Settings | Kind::Callers => true,
        };
        if !sound {
            self.hub.with(|hub| hub.peer.stats.bad_frames += 1);
        }
        self.tell_sync(now, peer, out);
        sound
    }

    fn records(&self, now: Time, peer: NodeId, payload: &[u8], out: &mut Out) -> bool {
        let Ok(head) = Records::read(payload) else { return false };
        match self.hub.with(|hub| hub.peer.incoming.records(head.lane, head.from, head.to, payload)) {
            Turn::Now => self.apply(now, peer, head.clone(), out) && self.early(now, peer, head.lane, out),
            Turn::Early | Turn::Dropped => true,
        }
    }

    /// Frames of a lane whose turn has come.
    fn early(&self, now: Time, peer: NodeId, lane: u16, out: &mut Out) -> bool {
        while let Some((kind, payload)) = self.hub.with(|hub| hub.peer.incoming.next_early(lane)) {
            let sound = match kind {
                Kind::Digest => self.digest(now, peer, &payload, out),
                _ => self.records(now, peer, &payload, out),
            };
            if !sound {
                return false;
            }
        }
        true
    }

    fn apply(&self, now: Time, peer: NodeId, records: Records<'_>, out: &mut Out) -> bool {
        let (lane, to) = (records.lane, records.to);
        for record in records {
            let Ok((head, octets)) = record else { return false };
            let Ok(read) = body::read(&head, octets) else { return false };
            let n = head.bucket.shard(self.shards.len());
            self.with_shard(now, n, out, |shard, desk, out| {
                shard.run(now, desk, out, |proxy, io| proxy.apply(io, peer, &head, read));
            });
        }
        let (first, asked) = self.hub.with(|hub| {
            let first = hub.peer.owed.is_empty();
            hub.peer.owe(lane, to, now + ACKNOWLEDGE);
            (first, hub.peer.incoming.take_asked(lane, to))
        });
        if asked {
            self.acknowledge(peer, out);
        } else if first {
            self.publish_sync();
        }
        true
    }

    /// Acknowledges what was taken.
    fn acknowledge(&self, peer: NodeId, out: &mut Out) {
        self.hub.with(|hub| {
            if !hub.peer.owed.is_empty() {
                out.frame(peer, Stream::Urgent, Kind::Ack, |payload| {
                    hub.peer.owed.drain(..).for_each(|(lane, seq)| sync_frame::write_ack(lane, seq, payload));
                });
            }
        });
    }

    fn acked(&self, now: Time, lane: u16, seq: crate::base::Seq, out: &mut Out) {
        let n = usize::from(lane);
        if n >= self.shards.len() {
            return;
        }
        let done = self.with_shard(now, n, out, |shard, _, out| shard.acked(now, seq, out));
        if done {
            self.flushed(now, n, out);
            self.settle(now, out);
        }
    }

    fn digest(&self, now: Time, peer: NodeId, payload: &[u8], out: &mut Out) -> bool {
        let Some(digest) = Digest::read(payload) else { return false };
        match self.hub.with(|hub| hub.peer.incoming.digest(&digest, payload)) {
            Turn::Now => {}
            Turn::Early | Turn::Dropped => return true,
        }
        self.acknowledge(peer, out);
        let mut differ = Vec::new();
        for (bucket, theirs) in digest.rows() {
            let ours = self.shards[bucket.shard(self.shards.len())].with(|s| s.proxy().digest(peer, bucket));
            if ours != theirs {
                differ.push(bucket);
            }
        }
        self.hub.with(|hub| {
            hub.peer.incoming.compared(digest.run.lane, differ.is_empty());
            hub.peer.stats.divergent_buckets += if digest.begins { 0 } else { differ.len() as u64 };
        });
        out.frame(peer, Stream::Urgent, Kind::Want, |p| sync_frame::write_want(digest.run, differ.iter().copied(), p));
        self.hub.with(|hub| hub.peer.differ(Side::Peer, digest.run.lane, differ));
        self.early(now, peer, digest.run.lane, out)
    }

    fn want(&self, now: Time, payload: &[u8], out: &mut Out) -> bool {
        let Some((run, buckets)) = sync_frame::read_want(payload) else { return false };
        let buckets: Vec<Bucket> = buckets.collect();
        self.hub.with(|hub| {
            hub.peer.outgoing.want(run, buckets.iter().copied());
            hub.peer.differ(Side::Own, run.lane, buckets);
        });
        self.send_buckets(now, out);
        true
    }

    /// The bulk stream has room for `octets`.
    pub(super) fn bulk_room(&self, now: Time, octets: usize, out: &mut Out) {
        self.hub.with(|hub| hub.peer.room = octets);
        self.send_buckets(now, out);
    }

    /// Sends wanted buckets while the bulk stream has room.
    fn send_buckets(&self, now: Time, out: &mut Out) {
        loop {
            let next = self.hub.with(|hub| {
                let peer = hub.peer.up.filter(|_| hub.peer.room >= limits::BULK_ROOM)?;
                hub.peer.stats.buckets_sent += u64::from(hub.peer.outgoing.is_sending());
                hub.peer.outgoing.next_wanted().map(|next| (peer, next))
            });
            let Some((peer, (run, bucket, last))) = next else { return };
            let n = bucket.shard(self.shards.len());
            let sent = self.with_shard(now, n, out, |shard, _, out| {
                let mut octets = Vec::new();
                shard.proxy().write_bucket(now, bucket, &mut octets);
                let whole = Part { run, bucket, more: false, last, at: shard.last(), octets: &octets };
                whole.split().for_each(|part| out.frame(peer, Stream::Bulk, Kind::Bucket, |p| part.write(p)));
                octets.len()
            });
            self.hub.with(|hub| hub.peer.room = hub.peer.room.saturating_sub(sent + 64));
        }
    }

    fn bucket(&self, now: Time, peer: NodeId, payload: &[u8], out: &mut Out) -> bool {
        let Some(part) = Part::read(payload) else { return false };
        let Some(whole) = self.hub.with(|hub| hub.peer.incoming.part(&part)) else { return false };
        let Some(octets) = whole else { return true };
        let n = part.bucket.shard(self.shards.len());
        let (bucket, at): (Bucket, Version) = (part.bucket, part.at);
        let sound = self.with_shard(now, n, out, |shard, desk, out| {
            shard.run(now, desk, out, |proxy, io| proxy.apply_bucket(io, peer, bucket, at, &octets))
        });
        if sound && part.last {
            let mended = self.hub.with(|hub| {
                let mended = hub.peer.incoming.mended(part.run);
                if mended {
                    hub.peer.differ(Side::Peer, part.run.lane, Vec::new());
                }
                mended
            });
            if mended {
                out.frame(peer, Stream::Urgent, Kind::Want, |p| {
                    sync_frame::write_want(part.run, std::iter::empty(), p)
                });
            }
        }
        sound
    }

    /// Whether a message is not to be handled here, because another node acts for its address or is about to. It is
    /// passed on to that node, or dropped where its sender has repeated it there.
    pub(super) fn passes_on(&self, now: Time, received: &Received<'_>, out: &mut Out) -> bool {
        if !self.signs.is_virtual(received.flow.local.ip()) {
            return false;
        }
        match self.relay.load(Ordering::SeqCst) {
            0 => self.signs.is_stale(),
            peer => {
                self.pass_on(now, NodeId((peer - 1) as u16), received, out);
                true
            }
        }
    }

    /// A message that came in at the peer, handled as if it had come in here. One that comes before this node was told
    /// to take over waits until it has.
    fn relayed(&self, now: Time, payload: &[u8], scratch: &mut Scratch, out: &mut Out) -> bool {
        if relay::read(payload).is_none() {
            return false;
        }
        if !self.hub.with(|hub| hub.leads) && self.hub.with(|hub| hub.peer.keep_relay(now, payload)) {
            return true;
        }
        self.handle_of_peer(now, payload, scratch, out)
    }

    /// What was passed on to this node before it acted.
    pub(super) fn handle_relays(&self, now: Time, out: &mut Out) {
        let relays = self.hub.with(|hub| std::mem::take(&mut hub.peer.relays));
        let mut scratch = Scratch::default();
        // What is older was passed on in a hand-over that came to nothing.
        for (_, payload) in relays.into_iter().filter(|(came, _)| now.since(*came) < HAND_OVER) {
            self.handle_of_peer(now, &payload, &mut scratch, out);
        }
    }

    /// What the link wants at `now`: acknowledgements that are owed, the next lane's digest.
    pub(super) fn sync_timeout(&self, now: Time, out: &mut Out) {
        let (peer, owed) = self.hub.with(|hub| (hub.peer.up, hub.peer.owed_until <= now));
        if let (Some(peer), true) = (peer, owed) {
            self.acknowledge(peer, out);
        }
        self.sync_round(now, out);
        self.publish_sync();
    }

    fn sync_round(&self, now: Time, out: &mut Out) {
        let due = self.hub.with(|hub| {
            let peer = hub.peer.up.filter(|_| hub.peer.round <= now)?;
            hub.peer.round = now + ROUND;
            Some((peer, hub.peer.outgoing.next_round().map(|lane| hub.peer.outgoing.run(lane))))
        });
        let Some((peer, next)) = due else { return };
        self.tell_doubts(now, peer, Stream::Bulk, out);
        if let Some(run) = next {
            let n = usize::from(run.lane);
            self.with_shard(now, n, out, |shard, _, out| {
                shard.put_out(now, out);
                self.write_digest(run, shard, false, peer, out);
            });
        }
    }

    /// A lane was full: what it holds is compared anew.
    pub(super) fn restart_lane(&self, now: Time, n: usize, out: &mut Out) {
        let Some(peer) = self.hub.with(|hub| {
            let peer = hub.peer.up?;
            hub.peer.outgoing.doubt(n as u16);
            Some(peer)
        }) else {
            return;
        };
        self.begin_lane(now, n, peer, out);
        self.tell_sync(now, peer, out);
    }
}
