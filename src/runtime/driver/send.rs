//! How the driver sends what a turn holds: datagrams in batches, streams, next hops by name.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use smallvec::SmallVec;

use super::machine::{Driver, Turn, UdpSocket};
use crate::base::{Flow, ListenerId, Time, Transport};
use crate::out::{Out, Transmit};
use crate::runtime::datagram::Packet;
use crate::runtime::stats::{Closed, SendError};
use crate::runtime::sys::{self, SLOTS};

/// What was handled longer ago than this was handled by a thread that did not run since.
const LATE: Duration = Duration::from_millis(20);

impl Driver {
    /// What was `handled` by a node that acted, and could not be sent until another one acts, stays here: that one goes on
    /// with the calls, and may have sent what follows.
    pub(super) fn withhold(&self, handled: Time, sent: &mut Out) {
        if self.port.get().is_none() || sent.transmits.is_empty() || self.node.is_active_now() {
            return;
        }
        if sys::now().since(handled) > LATE {
            sent.transmits.retain(|transmit| !self.node.is_stale(transmit.flow.local.ip()));
        }
    }

    /// Sends the transmits of `turn.sent` in order, neighbours on one socket in one call.
    pub(super) fn send(&self, turn: &mut Turn) {
        // What was to leave before comes first.
        self.send_waiting(turn);
        let sent = std::mem::take(&mut turn.sent);
        let mut next = 0;
        while let Some(transmit) = sent.transmits.get(next) {
            let length = match (transmit.flow.transport, sent.name(transmit)) {
                (Transport::Udp, None) => {
                    let on_same = |t: &&Transmit| {
                        t.flow.transport == Transport::Udp
                            && t.flow.listener == transmit.flow.listener
                            && t.name.is_none()
                    };
                    sent.transmits[next..].iter().take(SLOTS).take_while(on_same).count()
                }
                _ => 1,
            };
            match (transmit.flow.transport, sent.name(transmit)) {
                (_, Some(name)) => self.send_by_name(&sent, next, name, turn),
                (Transport::Udp, None) => self.send_datagrams(&sent, next, length, turn),
                (Transport::Tcp | Transport::Tls, None) => {
                    if self.streams.send(transmit.flow, None, sent.bytes(transmit)).is_err() {
                        turn.failed.push(next);
                    }
                }
            }
            next += length;
        }
        for id in &sent.close {
            self.streams.close(*id, Closed::Local);
        }
        turn.sent = sent;
    }

    fn send_by_name(&self, sent: &Out, n: usize, name: &[u8], turn: &mut Turn) {
        let transmit = &sent.transmits[n];
        if let Some(remote) = self.resolver.known(name, &transmit.flow) {
            let flow = Flow { remote, ..transmit.flow };
            match flow.transport {
                Transport::Udp => {
                    if self.send_one(flow, sent.bytes(transmit), turn).is_err() {
                        turn.failed.push(n);
                    }
                }
                Transport::Tcp | Transport::Tls => {
                    if self.streams.send(flow, Some(name), sent.bytes(transmit)).is_err() {
                        turn.failed.push(n);
                    }
                }
            }
        } else if self.resolver.submit(transmit.flow, name, sent.bytes(transmit)).is_err() {
            turn.failed.push(n);
        }
    }

    fn send_datagrams(&self, sent: &Out, start: usize, length: usize, turn: &mut Turn) {
        let transmits = &sent.transmits[start..start + length];
        let Some(socket) = self.socket(transmits[0].flow.listener) else {
            self.stats.send_errors[SendError::NoSocket as usize].add(length as u64);
            return turn.failed.extend(start..start + length);
        };
        let packets: SmallVec<[Packet<'_>; SLOTS]> =
            transmits.iter().map(|t| socket.packet(&t.flow, sent.bytes(t))).collect();
        for transmit in transmits {
            tracing::trace!(from = %transmit.flow.local, to = %transmit.flow.remote, octets = transmit.bytes.len(), "datagram to send");
        }
        let mut done = 0;
        while done < length {
            match self.put(transmits[0].flow.listener, &packets[done..], turn) {
                Ok(n) => done += n.max(1),
                Err(cause) => {
                    let flow = transmits[done].flow;
                    // An address of the pair that has not arrived yet says nothing of the target.
                    let moving = cause.may_be_of_source() && self.node.shares(flow.local.ip());
                    if !(moving && self.keep(flow, packets[done].bytes)) {
                        self.stats.send_error(cause);
                        if !cause.transient() && !moving {
                            turn.failed.push(start + done);
                        }
                    }
                    done += 1;
                }
            }
        }
    }

    /// Sends the first of `packets`; how many the kernel took, or why not the first one.
    fn put(&self, listener: ListenerId, packets: &[Packet<'_>], turn: &mut Turn) -> Result<usize, SendError> {
        let Some(socket) = self.socket(listener) else { return Err(SendError::NoSocket) };
        let fd = socket.listener.socket.as_fd();
        let mut sent = turn.outbox.send(fd, packets);
        if sent.is_err() {
            // It may be a pending error that an earlier datagram caused. The queue need not say so: another thread may
            // have read it, or it was full.
            self.take_errors(listener, turn);
            sent = turn.outbox.send(fd, packets);
        }
        let n = sent.map_err(|e| SendError::of(&e))?;
        self.stats.datagrams_out.add(n as u64);
        let octets: usize = packets[..n].iter().map(|p| p.bytes.len()).sum();
        self.stats.octets_out.add(octets as u64);
        Ok(n)
    }

    /// Keeps a datagram whose address is on its way here; whether it may leave later. To a node that does not act no
    /// address comes.
    fn keep(&self, flow: Flow, octets: &[u8]) -> bool {
        self.node.is_active_now() && self.waiting.keep(sys::now(), flow, octets)
    }

    /// Sends what waits for its address, once that is here. No timer would repeat an answer.
    fn send_waiting(&self, turn: &mut Turn) {
        if self.waiting.is_empty() {
            return;
        }
        let lost = self.waiting.offer(sys::now(), |flow, bytes| {
            let Some(socket) = self.socket(flow.listener) else { return true };
            if self.node.is_stale(flow.local.ip()) {
                return true;
            }
            match self.put(flow.listener, &[socket.packet(&flow, bytes)], turn) {
                Err(cause) if cause.may_be_of_source() => return false,
                Err(cause) => self.stats.send_error(cause),
                Ok(_) => {}
            }
            true
        });
        self.stats.send_errors[SendError::Unreachable as usize].add(lost);
    }

    /// Looks whether what waits for its address can leave now. For those who come by in any case.
    pub fn look_for_waiting(&self) {
        if !self.waiting.is_empty() {
            self.with_turn(|_, _| ());
        }
    }

    fn send_one(&self, flow: Flow, message: &[u8], turn: &mut Turn) -> Result<(), ()> {
        let mut single = Out::new();
        single.send(flow, |arena| {
            arena.extend_from_slice(message);
            true
        });
        let failed = std::mem::take(&mut turn.failed);
        self.send_datagrams(&single, 0, 1, turn);
        let own = std::mem::replace(&mut turn.failed, failed);
        if own.is_empty() { Ok(()) } else { Err(()) }
    }
}

impl UdpSocket {
    fn packet<'a>(&self, flow: &Flow, bytes: &'a [u8]) -> Packet<'a> {
        // A socket bound to one address sends from it anyway.
        let from: Option<IpAddr> = self.listener.addr.ip().is_unspecified().then_some(flow.local.ip());
        Packet { bytes, to: flow.remote, from: from.filter(|ip| !ip.is_unspecified()) }
    }
}
