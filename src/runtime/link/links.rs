//! [`Links`]: what the rest of the process sends through.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::base::{NodeId, PathId};
use crate::replica::{Kind, Stream};
use crate::runtime::link::carrier;
use crate::runtime::link::dial;
use crate::runtime::link::door::Door;
use crate::runtime::link::shared::{Config, DownCause, Peer, Shared, Standing};
use crate::runtime::link::stats::LinkStats;

/// The links to all peers.
pub struct Links {
    pub(super) shared: Arc<Shared>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Links {
    /// Links that nobody raises yet.
    pub fn new(config: Config, stats: Arc<LinkStats>) -> io::Result<Self> {
        Ok(Self { shared: Arc::new(Shared::new(config, stats)?), tasks: Mutex::default() })
    }

    /// Accepts on `listeners` (of [`BindError::bind`](super::BindError::bind)) and raises links, on threads of
    /// `runtime`.
    pub fn start(&self, runtime: &Handle, listeners: Vec<TcpListener>) -> io::Result<()> {
        let _entered = runtime.enter();
        let mut tasks = self.tasks.lock();
        let door = Arc::new(Door::new(Arc::clone(&self.shared), runtime.clone()));
        for listener in listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tasks.push(runtime.spawn(Arc::clone(&door).accept(listener)).abort_handle());
        }
        let own = self.shared.config.local.node;
        for (index, peer) in self.shared.peers.iter().enumerate() {
            let keep = dial::keep(Arc::clone(&self.shared), index, own > peer.member.node);
            tasks.push(runtime.spawn(keep).abort_handle());
        }
        Ok(())
    }

    /// What is counted.
    pub fn stats(&self) -> &Arc<LinkStats> {
        &self.shared.stats
    }

    /// Whether the link to `peer` stands.
    pub fn is_up(&self, peer: NodeId) -> bool {
        self.shared.peer(peer).is_some_and(|(_, peer)| *peer.standing.borrow() == Standing::Up)
    }

    /// Queues a frame of at most [`limits::FRAME`](crate::base::limits::FRAME) octets, which leaves with the next
    /// [`Links::flush`]. `false`: the link does not stand, or falls now because its queue is full; the frame is counted
    /// and gone.
    pub fn send(&self, peer: NodeId, stream: Stream, kind: Kind, payload: &[u8]) -> bool {
        let stats = &self.shared.stats;
        let slot = self.shared.peer(peer).map(|(_, peer)| &peer.out[stream as usize]);
        let queued = slot.is_some_and(|slot| {
            let mut outgoing = slot.outgoing.lock();
            let Some(open) = outgoing.as_mut() else { return false };
            let pushed = open.push(kind, payload);
            if pushed.is_err() {
                // What was lost in the middle cannot be made good on this stream.
                *outgoing = None;
                *slot.failed.lock() = Some(DownCause::Full);
                self.shared.waker.notify();
            }
            slot.dirty.store(true, Ordering::Release);
            pushed.is_ok()
        });
        let counter = if queued { &stats.frames_out[stream as usize] } else { &stats.unsent };
        counter.count();
        queued
    }

    /// Gives the kernel what was queued. Never waits; what it does not take now leaves when it can.
    pub fn flush(&self) {
        self.shared.peers.iter().for_each(|peer| self.shared.flush(peer));
    }

    /// Octets that may be queued for `peer` on the bulk stream, the header of one frame aside; 0 while the link does not
    /// stand. Once some of them are used and at most half the queue waits, [`Peers::room`](super::Peers::room) tells that
    /// there are more.
    pub fn bulk_room(&self, peer: NodeId) -> usize {
        let slot = self.shared.peer(peer).map(|(_, peer)| &peer.out[Stream::Bulk as usize]);
        slot.and_then(|slot| slot.outgoing.lock().as_mut().map(|open| open.room())).unwrap_or(0)
    }

    /// Only these addresses of this host are on a network: links over others fall at once, to be raised over another path.
    pub fn leave(&self, carried: &[IpAddr]) {
        for (path, own) in (0..).map(PathId).zip(&self.shared.config.own) {
            if !carried.contains(&own.ip()) {
                self.shared.peers.iter().for_each(|peer| self.path(peer.member.node, path, false));
            }
        }
    }

    /// Whether a peer, heard on one path at least, is heard on this one: a link over a path that is silent falls at once,
    /// to be raised over another one.
    pub fn path(&self, peer: NodeId, path: PathId, heard: bool) {
        let Some((_, peer)) = self.shared.peer(peer) else { return };
        let Some(own) = self.shared.config.own.get(usize::from(path.0)) else { return };
        let bit = 1 << path.0;
        if heard {
            peer.silent.fetch_and(!bit, Ordering::Relaxed);
            return;
        }
        peer.silent.fetch_or(bit, Ordering::Relaxed);
        for slot in &peer.out {
            let mut outgoing = slot.outgoing.lock();
            if outgoing.as_ref().is_some_and(|open| carrier::leaves_from(open.carrier().as_ref(), own.ip())) {
                *outgoing = None;
                *slot.failed.lock() = Some(DownCause::Moved);
                self.shared.waker.notify();
            }
        }
    }

    /// A fault of the drill has ended: what waited for that is read and leaves.
    pub fn resume(&self) {
        self.shared.waker.notify();
    }

    /// Tells every peer that this process ends, as proof that it serves no more: the last frame. No link is raised or
    /// accepted from now on.
    pub fn goodbye(&self) {
        self.raise_no_more();
        for peer in &self.shared.peers {
            self.send(peer.member.node, Stream::Urgent, Kind::Goodbye, b"");
        }
        self.flush();
    }

    fn raise_no_more(&self) {
        self.shared.stop();
        self.tasks.lock().drain(..).for_each(|task| task.abort());
    }

    /// Closes everything at once.
    pub fn stop(&self) {
        self.raise_no_more();
        for slot in self.shared.peers.iter().flat_map(|peer| &peer.out) {
            if let Some(open) = slot.outgoing.lock().take() {
                open.carrier().close();
            }
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Gives the kernel what was queued for a peer.
    pub(super) fn flush(&self, peer: &Peer) {
        if self.config.faults.is_parted() {
            return;
        }
        for (n, slot) in peer.out.iter().enumerate() {
            if !slot.dirty.swap(false, Ordering::AcqRel) {
                continue;
            }
            let mut outgoing = slot.outgoing.lock();
            let Some(open) = outgoing.as_mut() else { continue };
            match open.flush() {
                Ok(flushed) => {
                    self.stats.octets_out[n].add(flushed.octets as u64);
                    if flushed.blocked || flushed.room {
                        slot.blocked.fetch_or(flushed.blocked, Ordering::AcqRel);
                        slot.room.fetch_or(flushed.room, Ordering::AcqRel);
                        self.waker.notify();
                    }
                }
                Err(e) => {
                    *outgoing = None;
                    *slot.failed.lock() = Some(DownCause::of(&e));
                    self.waker.notify();
                }
            }
        }
    }
}
