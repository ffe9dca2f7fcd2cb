//! [`Out`]: the driver's reusable arena. The core writes transmits, events and effects into it and keeps no output
//! queue of its own; the driver drains it after it has released the shard.
#![forbid(unsafe_code)]

use std::ops::Range;

use crate::base::{ConnId, Flow, LegId, NodeId, ResourceId, SessionId, Time};
use crate::cluster::Effect;
use crate::replica::{Kind, Stream};

pub use crate::session::EndReason;

/// Octets that a part keeps whatever is needed of them.
const KEPT: usize = 1 << 20;

/// What one or more `handle` calls want done. Reused: `clear` keeps the capacity that the next ones will need.
#[derive(Debug, Default)]
pub struct Out {
    /// The octets of all transmits, back to back. The one gather writes here.
    pub arena: Vec<u8>,
    /// What to send, in order.
    pub transmits: Vec<Transmit>,
    /// What happened, for logs, metrics and call detail records.
    pub events: Vec<Event>,
    /// Stream connections to close after their transmits are written.
    pub close: Vec<ConnId>,
    /// What the peers are told, in order.
    pub frames: Vec<Frame>,
    /// What the cluster wants of the driver, in order.
    pub effects: Vec<Effect>,
}

/// One frame for a peer. The driver authenticates and sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// For whom.
    pub peer: NodeId,
    /// Over which stream.
    pub stream: Stream,
    /// What it carries.
    pub kind: Kind,
    /// Its payload in [`Out::arena`].
    pub payload: Range<u32>,
}

/// One message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// From where to where. `remote` is meaningless while `name` is set.
    pub flow: Flow,
    /// Its octets in [`Out::arena`].
    pub bytes: Range<u32>,
    /// `host:port` or `host` in the arena, when the next hop is a DNS name that the driver must resolve first.
    pub name: Option<Range<u32>>,
}

/// A fact about a call, complete enough for a call detail record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An INVITE was placed on a resource.
    Placed {
        /// The leg.
        leg: LegId,
        /// Its session.
        session: SessionId,
        /// Where it went.
        resource: ResourceId,
        /// 0 for the first choice.
        attempt: u8,
    },
    /// A 2xx made the leg a call.
    Answered {
        /// The leg.
        leg: LegId,
        /// Who answered.
        resource: ResourceId,
        /// When its INVITE came in.
        invited: Time,
    },
    /// An INVITE ended without a call; `status` is what the caller was told.
    Failed {
        /// The session of the last attempt.
        session: SessionId,
        /// The final status sent upstream.
        status: u16,
    },
    /// An answered leg ended.
    Ended {
        /// The leg.
        leg: LegId,
        /// Where it was.
        resource: ResourceId,
        /// When it was answered.
        answered: Time,
        /// Another node answered it, and this one took it over.
        taken_over: bool,
        /// Why.
        reason: EndReason,
    },
    /// A resource changed its observed health.
    Health {
        /// Which.
        resource: ResourceId,
        /// Whether it takes new calls now.
        usable: bool,
    },
}

impl Out {
    /// An empty arena.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything, keeps the memory, except that of a peak that has passed.
    pub fn clear(&mut self) {
        clear(&mut self.arena);
        clear(&mut self.transmits);
        clear(&mut self.events);
        clear(&mut self.close);
        clear(&mut self.frames);
        clear(&mut self.effects);
    }

    /// Appends one transmit whose octets `write` puts into the arena. Nothing is added when `write` says `false`.
    pub fn send(&mut self, flow: Flow, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let start = self.arena.len();
        if !write(&mut self.arena) {
            self.arena.truncate(start);
            return false;
        }
        self.transmits.push(Transmit { flow, bytes: start as u32..self.arena.len() as u32, name: None });
        true
    }

    /// Appends one frame whose payload `write` puts into the arena.
    pub fn frame(&mut self, peer: NodeId, stream: Stream, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.arena.len() as u32;
        write(&mut self.arena);
        self.frames.push(Frame { peer, stream, kind, payload: start..self.arena.len() as u32 });
    }

    /// The last transmit's next hop is a DNS name.
    pub fn name_last(&mut self, name: &[u8]) {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(name);
        if let Some(transmit) = self.transmits.last_mut() {
            transmit.name = Some(start..self.arena.len() as u32);
        }
    }

    /// The octets of a transmit.
    pub fn bytes(&self, transmit: &Transmit) -> &[u8] {
        &self.arena[transmit.bytes.start as usize..transmit.bytes.end as usize]
    }

    /// The payload of a frame.
    pub fn payload(&self, frame: &Frame) -> &[u8] {
        &self.arena[frame.payload.start as usize..frame.payload.end as usize]
    }

    /// The name to resolve of a transmit, if its next hop is one.
    pub fn name(&self, transmit: &Transmit) -> Option<&[u8]> {
        transmit.name.as_ref().map(|r| &self.arena[r.start as usize..r.end as usize])
    }
}

/// Whoever needs an eighth of what is there keeps all of it: a load that goes up and down costs no allocation.
fn clear<T>(part: &mut Vec<T>) {
    let (needed, there, kept) = (part.len(), part.capacity(), KEPT / size_of::<T>().max(1));
    part.clear();
    if there > kept && needed > 0 && needed < there / 8 {
        part.shrink_to(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ListenerId, Transport};

    fn fill(out: &mut Out, octets: usize) {
        let at = "192.0.2.1:5060".parse().unwrap();
        let flow = Flow { transport: Transport::Udp, listener: ListenerId(0), local: at, remote: at, conn: None };
        for _ in 0..octets / 500 {
            out.send(flow, |arena| {
                arena.extend_from_slice(&[b'x'; 500]);
                true
            });
        }
    }

    fn held(out: &Out) -> (usize, usize) {
        (out.arena.capacity(), out.transmits.capacity() * size_of::<Transmit>())
    }

    #[test]
    fn a_peak_is_kept_while_it_is_used_and_given_back_once_it_is_not() {
        let mut out = Out::new();
        fill(&mut out, 32 * KEPT);
        let peak = held(&out);
        assert!(peak.0 >= 32 * KEPT && peak.1 > KEPT, "{peak:?}");
        out.clear();
        assert_eq!(held(&out), peak, "it was needed");
        out.clear();
        assert_eq!(held(&out), peak, "nothing is no use");
        fill(&mut out, 8 * KEPT);
        out.clear();
        assert_eq!(held(&out), peak, "it was needed in good part");
        fill(&mut out, KEPT);
        out.clear();
        assert!(held(&out).0 <= KEPT && held(&out).1 <= KEPT, "{:?}", held(&out));
    }

    #[test]
    fn what_is_small_is_never_given_back() {
        let mut out = Out::new();
        fill(&mut out, KEPT / 2);
        let before = held(&out);
        out.clear();
        fill(&mut out, 500);
        out.clear();
        assert_eq!(held(&out), before);
    }
}
