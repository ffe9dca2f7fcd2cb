//! UDP workers: plain threads, one of which holds the receive baton and sleeps; it handles what it receives itself and
//! passes the baton on only when a batch came back full. At low load one thread does everything, because waking another
//! core costs more than a whole call.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use crate::base::{Flow, ListenerId, Time, Transport, limits};
use crate::node::Received;
use crate::runtime::driver::{Driver, Turn};
use crate::runtime::socket::UdpListener;
use crate::runtime::sys::{self, Inbox, Interest, SLOTS, Wait};

const _: () = assert!(SLOTS <= limits::BATCH, "one wake-up handles at most a batch");

/// Datagrams that come closer together than this are waited for in `recvmmsg` itself, which saves the `ppoll`. Deadlines
/// may then be late by [`socket::RECEIVE_TIMEOUT`](crate::runtime::socket::RECEIVE_TIMEOUT), but only when traffic
/// pauses: each batch looks at them.
const BUSY: Duration = Duration::from_millis(2);

/// What only the holder of the baton touches.
pub struct Baton {
    /// One per UDP listener, then the waker.
    interests: Vec<Interest>,
    listeners: Vec<ListenerId>,
    /// Where the search for a ready socket goes on, so that none starves.
    turn: usize,
    /// When something last came in.
    last: Time,
    busy: bool,
}

impl Baton {
    /// The baton of a driver.
    pub fn new(driver: &Driver) -> Self {
        let mut interests: Vec<Interest> =
            driver.listeners().map(|(_, listener)| Interest::readable(listener.socket.as_fd())).collect();
        interests.push(Interest::readable(driver.waker().as_fd()));
        let listeners = driver.listeners().map(|(id, _)| id).collect();
        Self { interests, listeners, turn: 0, last: Time::ZERO, busy: false }
    }

    /// The next socket that the last poll found ready.
    fn take_ready(&mut self) -> Option<(usize, bool)> {
        let count = self.listeners.len();
        let ready = (0..count).map(|n| (self.turn + n) % count).find(|n| self.interests[*n].ready())?;
        self.turn = (ready + 1) % count;
        let error = self.interests[ready].error();
        self.interests[ready].clear();
        Some((ready, error))
    }
}

/// When a worker took its present work in hand, for the watchdog.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU64);

impl Pulse {
    /// Whether the worker waits, or began its present work less than `limit` ago.
    pub fn beats(&self, now: Time, limit: Duration) -> bool {
        let since = Time::from_micros(self.0.load(Ordering::Relaxed));
        since == Time::ZERO || now.since(since) < limit
    }
}

/// One UDP worker.
pub struct Worker {
    driver: Arc<Driver>,
    baton: Arc<Mutex<Baton>>,
    pulse: Arc<Pulse>,
    inbox: Inbox,
    turn: Turn,
}

impl Worker {
    /// A worker that has not begun.
    pub fn new(driver: Arc<Driver>, baton: Arc<Mutex<Baton>>, pulse: Arc<Pulse>) -> Self {
        Self { driver, baton, pulse, inbox: Inbox::new(), turn: Turn::default() }
    }

    /// Works until the driver stops.
    pub fn run(mut self) {
        let baton = Arc::clone(&self.baton);
        while !self.driver.is_stopping() {
            let mut held = baton.lock();
            while !self.driver.is_stopping() {
                let came = self.receive(&mut held);
                let now = sys::now();
                self.pulse.0.store(now.as_micros(), Ordering::Relaxed);
                let full = came.is_some_and(|(_, n)| n == SLOTS);
                if let Some((listener, n)) = came {
                    held.busy = now.since(held.last) < BUSY;
                    held.last = now;
                    if full {
                        self.driver.stats.full_batches.count();
                        MutexGuard::unlock_fair(held);
                        self.handle(now, listener, n);
                        self.driver.settle(now, &mut self.turn);
                        self.driver.nudge();
                        self.pulse.0.store(0, Ordering::Relaxed);
                        break;
                    }
                    self.handle(now, listener, n);
                }
                self.driver.settle(now, &mut self.turn);
                self.pulse.0.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Waits for datagrams or the next deadline. `None`: no datagrams.
    fn receive(&mut self, held: &mut Baton) -> Option<(ListenerId, usize)> {
        let (ready, wait) = if held.busy && held.listeners.len() == 1 {
            held.busy = false;
            (0, Wait::ForOne)
        } else {
            let (ready, error) = held.take_ready().or_else(|| {
                self.sleep(held);
                held.take_ready()
            })?;
            if error {
                self.driver.take_errors(held.listeners[ready], &mut self.turn);
            }
            (ready, Wait::No)
        };
        let id = held.listeners[ready];
        let (_, listener) = self.driver.listeners().find(|(n, _)| *n == id)?;
        match self.inbox.receive(listener.socket.as_fd(), wait) {
            Ok(n) => Some((id, n)),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
            Err(_) => {
                self.driver.take_errors(id, &mut self.turn);
                None
            }
        }
    }

    fn sleep(&self, held: &mut Baton) {
        let until = self.driver.fall_asleep();
        let timeout = until.map(|until| until.since(sys::now()));
        let woken = sys::poll(&mut held.interests, timeout);
        self.driver.wake_up();
        if let Err(e) = woken {
            // Only want of kernel memory can get here.
            tracing::warn!("cannot wait for datagrams: {e}");
            std::thread::sleep(Duration::from_millis(10));
        }
        if held.interests.last().is_some_and(Interest::ready) {
            self.driver.waker().clear();
        }
    }

    fn handle(&mut self, now: Time, id: ListenerId, count: usize) {
        let Self { driver, inbox, turn, .. } = self;
        let Some((_, listener)) = driver.listeners().find(|(n, _)| *n == id) else { return };
        let mut batch: SmallVec<[Received<'_>; SLOTS]> = SmallVec::new();
        let mut octets = 0;
        for datagram in (0..count).filter_map(|n| inbox.datagram(n)) {
            octets += datagram.bytes.len();
            if let Some(dropped) = datagram.dropped {
                driver.count_overflow(id, dropped);
            }
            let flow = flow(listener, id, datagram.local, datagram.source);
            batch.push(Received { flow, bytes: datagram.bytes });
        }
        driver.stats.batches.count();
        driver.stats.datagrams_in.add(count as u64);
        driver.stats.octets_in.add(octets as u64);
        driver.batch(now, &batch, turn);
    }
}

fn flow(listener: &UdpListener, id: ListenerId, local: Option<std::net::IpAddr>, remote: std::net::SocketAddr) -> Flow {
    let mut addr = listener.addr;
    if let (true, Some(ip)) = (addr.ip().is_unspecified(), local) {
        addr.set_ip(ip);
    }
    Flow { transport: Transport::Udp, listener: id, local: addr, remote, conn: None }
}
