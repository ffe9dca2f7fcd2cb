//! UDP workers: plain threads. One receives, and handles what it receives itself, because waking another core costs
//! more than a whole call. Only when a batch comes back full do the others help, each with the calls of its own lane.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use smallvec::SmallVec;

use crate::base::{Flow, ListenerId, Time, Transport, limits};
use crate::node::Received;
use crate::runtime::datagram::Wait;
use crate::runtime::driver::{Driver, Turn};
use crate::runtime::lane::{self, Lane, Share};
use crate::runtime::link::Reader;
use crate::runtime::socket::UdpListener;
use crate::runtime::sources::{Door, Porter};
use crate::runtime::sys::{self, Inbox, Interest, SLOTS};

const _: () = assert!(SLOTS <= limits::BATCH, "one wake-up handles at most a batch");

/// Datagrams that come closer together than this are waited for in `recvmmsg` itself, which saves the `ppoll`. Deadlines
/// and links may then be late by [`socket::RECEIVE_TIMEOUT`](crate::runtime::socket::RECEIVE_TIMEOUT), but only when
/// traffic pauses.
const BUSY: Duration = Duration::from_millis(2);

/// Deadlines are looked at this often at most, and links, while datagrams come, as often at least: to ask every shard with
/// each datagram would cost more than to parse it.
const LOOK: Duration = Duration::from_millis(2);

type Batch<'a> = SmallVec<[Received<'a>; SLOTS]>;

/// When a worker took its present work in hand, for the watchdog.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU64);

impl Pulse {
    /// Whether the worker waits, or began its present work less than `limit` ago.
    pub fn beats(&self, now: Time, limit: Duration) -> bool {
        let since = Time::from_micros(self.0.load(Ordering::Relaxed));
        since == Time::ZERO || now.since(since) < limit
    }

    fn work(&self, now: Time) {
        self.0.store(now.as_micros(), Ordering::Relaxed);
    }

    fn wait(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// The worker that receives. There is one.
pub struct Receiver {
    driver: Arc<Driver>,
    pulse: Arc<Pulse>,
    lanes: Arc<[Lane]>,
    inbox: Inbox,
    door: Arc<Door>,
    porter: Porter,
    turn: Turn,
    listeners: Vec<ListenerId>,
    /// Reads the links to peers, if there are any.
    reader: Option<Reader>,
    /// One per UDP listener, then the waker, then those of the links.
    interests: Vec<Interest>,
    /// Where the search for a ready socket goes on, so that none starves.
    next: usize,
    /// When something last came in.
    last: Time,
    /// When it was last seen what is ready.
    polled: Time,
    slept: bool,
    busy: bool,
    /// When deadlines are looked at again.
    look: Time,
}

impl Receiver {
    /// A receiver that has not begun. Each of `lanes` must have its [`help`].
    pub fn new(driver: Arc<Driver>, pulse: Arc<Pulse>, lanes: Arc<[Lane]>, door: Arc<Door>) -> Self {
        let mut interests: Vec<Interest> =
            driver.listeners().map(|(_, listener)| Interest::readable(listener.socket.as_fd())).collect();
        interests.push(Interest::readable(driver.waker().as_fd()));
        let listeners = driver.listeners().map(|(id, _)| id).collect();
        let (inbox, porter, turn) = (Inbox::new(), Porter::new(&door), Turn::default());
        let (last, look, polled) = (Time::ZERO, Time::ZERO, Time::ZERO);
        let reader = None;
        Self {
            driver,
            pulse,
            lanes,
            inbox,
            door,
            porter,
            turn,
            listeners,
            reader,
            interests,
            next: 0,
            last,
            polled,
            slept: false,
            busy: false,
            look,
        }
    }

    /// Reads the links to peers, too.
    pub fn with_links(self, reader: Reader) -> Self {
        Self { reader: Some(reader), ..self }
    }

    /// Works until the driver stops.
    pub fn run(mut self) {
        while !self.driver.is_stopping() {
            let came = self.receive();
            let now = sys::now();
            self.pulse.work(now);
            if std::mem::take(&mut self.slept) {
                self.polled = now;
            }
            if let Some(reader) = &mut self.reader {
                reader.serve(&mut self.interests[self.listeners.len() + 1..]);
            }
            let now = self.driver.once_sure(now);
            if let Some((listener, count)) = came {
                self.busy = now.since(self.last) < BUSY;
                self.last = now;
                self.handle(now, listener, count);
            }
            if now >= self.look {
                self.driver.fire(now, &mut self.turn);
                self.look = now + LOOK;
            }
            self.driver.flush(now, &mut self.turn);
            self.pulse.wait();
        }
    }

    /// Waits for datagrams or the next deadline. `None`: no datagrams.
    fn receive(&mut self) -> Option<(ListenerId, usize)> {
        let (ready, wait) = if self.may_wait_for_one() {
            self.busy = false;
            (0, Wait::ForOne)
        } else {
            let (ready, error) = self.take_ready().or_else(|| {
                self.sleep();
                self.take_ready()
            })?;
            if error {
                self.driver.take_errors(self.listeners[ready], &mut self.turn);
            }
            (ready, Wait::No)
        };
        let id = self.listeners[ready];
        match self.inbox.receive(self.driver.listener(id)?.socket.as_fd(), wait) {
            Ok(count) => Some((id, count)),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
            Err(_) => {
                self.driver.take_errors(id, &mut self.turn);
                None
            }
        }
    }

    /// Whether the next thing that matters is most likely a datagram of the one socket. Links to peers have something to
    /// say now and then; while messages wait for a peer's word, that word matters as much.
    fn may_wait_for_one(&self) -> bool {
        let linked = self.reader.is_some();
        let heard = !linked || self.last < self.polled + LOOK && !self.driver.node.is_waiting();
        self.busy && self.listeners.len() == 1 && heard
    }

    /// The next socket that the last poll found ready, and whether an error is pending on it.
    fn take_ready(&mut self) -> Option<(usize, bool)> {
        let count = self.listeners.len();
        let ready = (0..count).map(|n| (self.next + n) % count).find(|n| self.interests[*n].ready())?;
        self.next = (ready + 1) % count;
        let error = self.interests[ready].error();
        self.interests[ready].clear();
        Some((ready, error))
    }

    fn sleep(&mut self) {
        let until = self.driver.fall_asleep();
        let timeout = until.map(|until| until.max(self.look).since(sys::now()));
        self.interests.truncate(self.listeners.len() + 1);
        if let Some(reader) = &self.reader {
            reader.interests(&mut self.interests);
        }
        let woken = sys::poll(&mut self.interests, timeout);
        self.slept = true;
        self.driver.wake_up();
        if let Err(e) = woken {
            // Only want of kernel memory can get here.
            tracing::warn!("cannot wait for datagrams: {e}");
            std::thread::sleep(Duration::from_millis(10));
        }
        if self.interests[self.listeners.len()].ready() {
            self.driver.waker().clear();
        }
    }

    fn handle(&mut self, now: Time, id: ListenerId, count: usize) {
        let Self { driver, inbox, door, porter, turn, lanes, .. } = self;
        let Some(listener) = driver.listener(id) else { return };
        porter.look(door);
        let mut batch: Batch<'_> = SmallVec::new();
        let (mut octets, mut strangers) = (0, 0);
        for datagram in (0..count).filter_map(|n| inbox.datagram(n)) {
            octets += datagram.bytes.len();
            if let Some(dropped) = datagram.dropped {
                driver.count_overflow(id, dropped);
            }
            if !porter.admit(datagram.source.ip()) {
                strangers += 1;
                continue;
            }
            if cfg!(feature = "next") && memchr::memmem::find(datagram.bytes, b"X-Tandem-Idle").is_some() {
                std::thread::sleep(Duration::from_micros(300));
            }
            let flow = flow(listener, id, datagram.local, datagram.source);
            tracing::trace!(from = %flow.remote, to = %flow.local, octets = datagram.bytes.len(), "datagram received");
            batch.push(Received { flow, bytes: datagram.bytes });
        }
        driver.stats.batches.count();
        driver.stats.datagrams_in.add(count as u64);
        driver.stats.octets_in.add(octets as u64);
        driver.stats.stranger_datagrams.add(strangers);
        let full = count == SLOTS;
        if full {
            driver.stats.full_batches.count();
        }
        if batch.is_empty() {
            return;
        }
        share_out(&mut batch, lanes, full);
        driver.batch(now, &batch, turn);
    }
}

/// Gives each lane its part of a batch, if the batch is full, or if the lane is still at work: then an earlier message
/// of the same call may be there.
fn share_out(batch: &mut Batch<'_>, lanes: &[Lane], full: bool) {
    if !full && lanes.iter().all(Lane::is_idle) {
        return;
    }
    // The receiver's own lane comes after those of its helpers.
    let own = lanes.len();
    let numbers: SmallVec<[usize; SLOTS]> = batch.iter().map(|r| lane::of(r.bytes, own + 1)).collect();
    let mut given: SmallVec<[bool; 8]> = SmallVec::new();
    for (n, lane) in lanes.iter().enumerate() {
        given.push(full || !lane.is_idle());
        if given[n] && numbers.contains(&n) {
            lane.push(batch.iter().zip(&numbers).filter(|(_, number)| **number == n).map(|(received, _)| received));
        }
    }
    let mut numbers = numbers.iter();
    batch.retain(|_| numbers.next().is_none_or(|n| *n == own || !given[*n]));
}

/// Helps the receiver with one lane until the driver stops.
pub fn help(driver: &Driver, pulse: &Pulse, lane: &Lane) {
    let (mut share, mut turn) = (Share::default(), Turn::default());
    while lane.take(&mut share, || driver.is_stopping()) {
        let mut received = share.received().peekable();
        while received.peek().is_some() {
            let batch: Batch<'_> = received.by_ref().take(SLOTS).collect();
            let now = sys::now();
            pulse.work(now);
            let now = driver.once_sure(now);
            driver.batch(now, &batch, &mut turn);
            driver.flush(now, &mut turn);
        }
        driver.nudge();
        pulse.wait();
    }
}

fn flow(listener: &UdpListener, id: ListenerId, local: Option<IpAddr>, remote: SocketAddr) -> Flow {
    let mut addr = listener.addr;
    if let (true, Some(ip)) = (addr.ip().is_unspecified(), local) {
        addr.set_ip(ip);
    }
    Flow { transport: Transport::Udp, listener: id, local: addr, remote, conn: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_stays_in_its_lane_until_the_lane_is_idle() {
        let addr = "127.0.0.1:5060".parse().unwrap();
        let flow = Flow { transport: Transport::Udp, listener: ListenerId(0), local: addr, remote: addr, conn: None };
        let texts: Vec<String> = (0..40).map(|n| format!("ACK sip:a SIP/2.0\r\ni: {}\r\n\r\n", n % 20)).collect();
        let batch = || texts.iter().map(|t| Received { flow, bytes: t.as_bytes() }).collect::<Batch<'_>>();
        let lanes: [Lane; 2] = Default::default();
        let own = |batch: &Batch<'_>| batch.iter().map(|r| lane::of(r.bytes, 3)).collect::<Vec<_>>();

        let mut quiet = batch();
        share_out(&mut quiet, &lanes, false);
        assert_eq!(quiet.len(), 40, "nobody is woken for a batch that is not full");

        let mut full = batch();
        share_out(&mut full, &lanes, true);
        assert!(!full.is_empty() && own(&full).iter().all(|n| *n == 2), "{:?}", own(&full));
        assert!(lanes.iter().all(|lane| !lane.is_idle()));

        let mut share = Share::default();
        assert!(lanes[0].take(&mut share, || false));
        assert!(share.received().all(|r| lane::of(r.bytes, 3) == 0) && share.received().count() >= 2);
        assert!(!lanes[0].take(&mut share, || true), "all is done");
        let mut next = batch();
        share_out(&mut next, &lanes, false);
        assert!(own(&next).contains(&0), "lane 0 is idle again: its calls are handled here");
        assert!(!own(&next).contains(&1), "lane 1 is not");
    }
}
