//! The write half of an opened stream: sealed octets that wait, up to a limit, for the kernel to take them.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;

use crate::base::limits;
use crate::replica::frame::{HEADER, Sealer};
use crate::replica::{Kind, Stream};
use crate::runtime::link::carrier::Carrier;

/// Memory that an empty queue keeps.
const KEPT: usize = 256 * 1024;

/// What waits for one stream.
pub struct Outgoing {
    carrier: Arc<dyn Carrier>,
    sealer: Sealer,
    octets: Vec<u8>,
    /// How many of them the kernel has.
    written: usize,
    limit: usize,
    /// The kernel takes nothing until it says so.
    blocked: bool,
    /// Somebody was told how much room there is, and wants to hear of more.
    asked: bool,
    /// That one has less room than a full queue has, be it that it was told so, be it that it has used some.
    short: bool,
}

/// A frame that was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What came of [`Outgoing::flush`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Octets that the kernel took.
    pub octets: usize,
    /// The rest has to wait until the stream is writable. Told once.
    pub blocked: bool,
    /// There is more room than was told, less what was queued since. Told once, until somebody asks.
    pub room: bool,
}

impl Outgoing {
    /// Nothing waits yet.
    pub fn new(carrier: Arc<dyn Carrier>, sealer: Sealer, stream: Stream) -> Self {
        let limit = match stream {
            Stream::Urgent => limits::URGENT_OUTBOUND,
            Stream::Bulk => limits::BULK_OUTBOUND,
        };
        Self { carrier, sealer, octets: Vec::new(), written: 0, limit, blocked: false, asked: false, short: false }
    }

    /// Seals a frame and queues it.
    pub fn push(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Full> {
        if self.pending() + HEADER + payload.len() > self.limit {
            return Err(Full);
        }
        if self.written > KEPT && self.written > self.pending() {
            self.octets.drain(..self.written);
            self.written = 0;
        }
        self.sealer.seal(kind, payload, &mut self.octets).map_err(|_| Full)?;
        self.short |= self.asked;
        Ok(())
    }

    /// Octets that may be queued, the header of one frame aside. Whoever asks may count on them until they are used up:
    /// once some are used, and at most half the queue waits, [`Flushed::room`] tells that it is time to ask again.
    pub fn room(&mut self) -> usize {
        self.asked = true;
        self.short |= self.pending() > self.limit / 2;
        (self.limit - self.pending()).saturating_sub(HEADER)
    }

    /// Gives the kernel what it takes, without waiting.
    pub fn flush(&mut self) -> io::Result<Flushed> {
        let mut flushed = Flushed::default();
        while !self.blocked && self.pending() > 0 {
            match self.carrier.write(&self.octets[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count;
                    flushed.octets += count;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    flushed.blocked = true;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if !self.blocked
            && let Err(e) = self.carrier.flush()
        {
            if e.kind() != io::ErrorKind::WouldBlock {
                return Err(e);
            }
            (self.blocked, flushed.blocked) = (true, true);
        }
        if self.pending() == 0 {
            self.octets.clear();
            self.written = 0;
            if self.octets.capacity() > KEPT {
                self.octets = Vec::new();
            }
        }
        if self.short && self.pending() <= self.limit / 2 {
            (self.asked, self.short) = (false, false);
            flushed.room = true;
        }
        Ok(flushed)
    }

    /// The stream is writable again.
    pub fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Whether octets wait for the stream to be writable.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// What carries it.
    pub fn carrier(&self) -> &Arc<dyn Carrier> {
        &self.carrier
    }

    /// Octets that the kernel has not taken.
    fn pending(&self) -> usize {
        self.octets.len() - self.written
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::{AsFd, BorrowedFd};

    use parking_lot::Mutex;

    use super::*;
    use crate::token::Keys;

    /// Takes as much as it is told to.
    struct Narrow(Mutex<usize>, TcpListener);

    impl Carrier for Narrow {
        fn read(&self, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }

        fn write(&self, octets: &[u8]) -> io::Result<usize> {
            let mut room = self.0.lock();
            let count = octets.len().min(*room);
            *room -= count;
            if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
        }

        fn close(&self) {}

        fn fd(&self) -> BorrowedFd<'_> {
            self.1.as_fd()
        }
    }

    fn outgoing(stream: Stream, room: usize) -> (Arc<Narrow>, Outgoing) {
        let carrier = Arc::new(Narrow(Mutex::new(room), TcpListener::bind("127.0.0.1:0").unwrap()));
        let keys = Keys::new("c", &[b"s"]).unwrap();
        let sealer = Sealer::new(keys.session(keys.id(), &[]).unwrap());
        (Arc::clone(&carrier), Outgoing::new(carrier, sealer, stream))
    }

    #[test]
    fn a_queue_has_a_limit_and_so_has_its_memory() {
        let (carrier, mut queue) = outgoing(Stream::Urgent, 0);
        let payload = [0; 100_000];
        let taken = (0..1_000).take_while(|_| queue.push(Kind::Records, &payload).is_ok()).count();
        assert_eq!(taken, limits::URGENT_OUTBOUND / (HEADER + payload.len()));
        assert_eq!(queue.flush().unwrap(), Flushed { blocked: true, ..Flushed::default() });
        assert_eq!(queue.flush().unwrap(), Flushed::default(), "told once");
        // A peer that always takes a little must not make memory grow.
        for _ in 0..1_000 {
            *carrier.0.lock() = HEADER + payload.len();
            queue.unblock();
            queue.flush().unwrap();
            queue.push(Kind::Records, &payload).unwrap();
        }
        assert!(queue.octets.capacity() <= 4 * limits::URGENT_OUTBOUND, "{}", queue.octets.capacity());
        *carrier.0.lock() = usize::MAX;
        queue.unblock();
        queue.flush().unwrap();
        assert_eq!((queue.pending(), queue.octets.capacity()), (0, 0));
    }

    #[test]
    fn whoever_found_little_room_is_told_when_there_is_more() {
        let (carrier, mut queue) = outgoing(Stream::Bulk, 0);
        assert_eq!(queue.room(), limits::BULK_OUTBOUND - HEADER);
        while queue.room() >= limits::FRAME {
            queue.push(Kind::Bucket, &[0; limits::FRAME]).unwrap();
        }
        assert!(!queue.flush().unwrap().room && queue.is_blocked());
        *carrier.0.lock() = 10;
        queue.unblock();
        assert!(!queue.flush().unwrap().room, "ten octets are not room");
        *carrier.0.lock() = usize::MAX;
        queue.unblock();
        assert!(queue.flush().unwrap().room);
        assert!(!queue.flush().unwrap().room, "told once");
    }

    #[test]
    fn whoever_uses_its_room_little_by_little_is_told_as_well() {
        let (_, mut queue) = outgoing(Stream::Bulk, usize::MAX);
        queue.push(Kind::Bucket, b"nobody counts").unwrap();
        assert!(!queue.flush().unwrap().room, "nobody has asked");
        let mut told = 0;
        for _ in 0..3 {
            let mut room = queue.room();
            assert!(!queue.flush().unwrap().room, "nothing was used");
            while room >= limits::FRAME {
                queue.push(Kind::Bucket, &[0; limits::FRAME]).unwrap();
                room -= HEADER + limits::FRAME;
                told += usize::from(queue.flush().unwrap().room);
            }
        }
        assert_eq!(told, 3, "once for each time that somebody asked");
    }
}
