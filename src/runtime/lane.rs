//! Lanes: how a receiver that has more than it can handle shares it out. All messages of one call take one lane, so they
//! are handled, and what comes of them is sent, in the order in which they came.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use memchr::memchr;
use parking_lot::{Condvar, Mutex};

use crate::base::{Flow, limits, table_hash};
use crate::node::Received;

/// One helper's share: datagrams, copied, in order. Bounded by [`limits::BATCH`].
#[derive(Default)]
pub struct Lane {
    waiting: Mutex<Share>,
    /// Something waits, or the driver stops.
    work: Condvar,
    /// There is room again.
    room: Condvar,
    /// Something waits or is being handled.
    busy: AtomicBool,
}

/// Datagrams and their octets.
#[derive(Default)]
pub struct Share {
    octets: Vec<u8>,
    datagrams: Vec<(Flow, Range<usize>)>,
}

impl Lane {
    /// Whether nothing waits and nothing is being handled. Only the receiver makes it busy.
    pub fn is_idle(&self) -> bool {
        !self.busy.load(Ordering::Acquire)
    }

    /// Adds to the share; waits while it is full, so that what is too much stays with the kernel, which counts what it
    /// drops.
    pub fn push<'a>(&self, received: impl Iterator<Item = &'a Received<'a>>) {
        let mut share = self.waiting.lock();
        for Received { flow, bytes } in received {
            while share.datagrams.len() >= limits::BATCH {
                self.work.notify_one();
                self.room.wait(&mut share);
            }
            let start = share.octets.len();
            share.octets.extend_from_slice(bytes);
            let end = share.octets.len();
            share.datagrams.push((*flow, start..end));
            self.busy.store(true, Ordering::Release);
        }
        drop(share);
        self.work.notify_one();
    }

    /// Waits for a share and takes it whole in exchange for `done`, which has been handled and sent. `false`: `stopping`
    /// says that no more will come.
    pub fn take(&self, done: &mut Share, stopping: impl Fn() -> bool) -> bool {
        done.octets.clear();
        done.datagrams.clear();
        let mut share = self.waiting.lock();
        if share.datagrams.is_empty() {
            self.busy.store(false, Ordering::Release);
        }
        while share.datagrams.is_empty() {
            if stopping() {
                return false;
            }
            self.work.wait(&mut share);
        }
        std::mem::swap(&mut *share, done);
        self.room.notify_one();
        true
    }

    /// Has a helper that waits look whether it is to stop.
    pub fn wake(&self) {
        let _share = self.waiting.lock();
        self.work.notify_all();
    }
}

impl Share {
    /// The datagrams, in order.
    pub fn received(&self) -> impl Iterator<Item = Received<'_>> {
        self.datagrams.iter().map(|(flow, span)| Received { flow: *flow, bytes: &self.octets[span.clone()] })
    }
}

/// The lane of a message: a hash of its Call-ID. Messages without one share lane 0; nothing depends on their order.
pub fn of(message: &[u8], lanes: usize) -> usize {
    call_id(message).map_or(0, |id| (table_hash(0, id) % lanes as u64) as usize)
}

/// The value of the first Call-ID field (RFC 3261 §20.8), found without reading anything else.
fn call_id(message: &[u8]) -> Option<&[u8]> {
    let mut rest = message;
    while let Some(end) = memchr(b'\n', rest) {
        rest = &rest[end + 1..];
        let after_name = match rest.first()? {
            b'C' | b'c' if rest.get(..7)?.eq_ignore_ascii_case(b"Call-ID") => &rest[7..],
            b'I' | b'i' => &rest[1..],
            b'\r' => return None,
            _ => continue,
        };
        if let Some(value) = after_name.trim_ascii_start().strip_prefix(b":") {
            return Some(value[..memchr(b'\n', value)?].trim_ascii());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{ListenerId, Transport};

    #[test]
    fn the_call_id_is_found_however_it_is_written() {
        for field in ["Call-ID: a@b", "call-id:a@b", "i: a@b ", "I :a@b", "CALL-ID  :  a@b"] {
            let text = format!("BYE sip:x SIP/2.0\r\nContact: <sip:i>\r\nin: 3\r\n{field}\r\nCSeq: 1 BYE\r\n\r\n");
            assert_eq!(call_id(text.as_bytes()), Some(&b"a@b"[..]), "{field}");
        }
        assert_eq!(call_id(b"BYE sip:x SIP/2.0\r\nCSeq: 1 BYE\r\n\r\nCall-ID: body\r\n"), None);
        assert_eq!(call_id(b"\r\n\r\n"), None);
        assert_eq!(of(b"", 4), 0);
    }

    #[test]
    fn a_share_keeps_its_order_and_its_bound() {
        let addr = "127.0.0.1:5060".parse().unwrap();
        let flow = Flow { transport: Transport::Udp, listener: ListenerId(0), local: addr, remote: addr, conn: None };
        let count = 3 * limits::BATCH;
        let texts: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        let lane = Arc::new(Lane::default());
        assert!(lane.is_idle());
        let helper = std::thread::spawn({
            let lane = Arc::clone(&lane);
            move || {
                let (mut share, mut seen) = (Share::default(), Vec::new());
                while seen.len() < count && lane.take(&mut share, || false) {
                    assert!(share.datagrams.len() <= limits::BATCH);
                    seen.extend(share.received().map(|r| String::from_utf8(r.bytes.to_vec()).unwrap()));
                    assert!(!lane.is_idle(), "what was taken is not done yet");
                }
                lane.take(&mut share, || true);
                seen
            }
        });
        let received: Vec<Received<'_>> = texts.iter().map(|t| Received { flow, bytes: t.as_bytes() }).collect();
        lane.push(received.iter());
        assert_eq!(helper.join().unwrap(), texts);
        assert!(lane.is_idle());
    }
}
