//! The driver: what stands between the node and the sockets. Handles inputs from any thread and sends what comes of
//! them, after the node's locks are released.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;

use super::waiting::Waiting;
use crate::base::{Flow, ListenerId, ResourceId, Time, Transport};
use crate::node::{self, Input, Node, Received, Scratch};
use crate::out::{Event, Out};
use crate::runtime::cells::Locked;
use crate::runtime::inlet::Inlet;
use crate::runtime::resolve::Resolver;
use crate::runtime::socket::UdpListener;
use crate::runtime::stats::IoStats;
use crate::runtime::sys::{self, Outbox};
use crate::runtime::tcp::Streams;
use crate::runtime::waker::Waker;

/// How often what comes of undelivered messages is handled at once, before the rest is left to timers: more than an
/// INVITE has attempts.
const ROUNDS: usize = 20;

/// Errors taken off a socket's queue at once.
const ERRORS: usize = 64;

/// How long the receiver waits for the cluster's thread, in steps.
const AUTHORITY_WAIT: Duration = Duration::from_millis(1);
/// After so many steps it goes on: the cluster's thread is as late as this one, and the guard watches both.
const AUTHORITY_WAITS: usize = 100;

/// Octets of an ICMP quotation: what an IPv6 error has room for.
const QUOTATION: usize = 1_280;

/// The node and everything it sends through.
pub struct Driver {
    /// The node.
    pub node: Arc<Node<Locked>>,
    /// What the edge counts.
    pub stats: Arc<IoStats>,
    /// Streams.
    pub streams: Arc<Streams>,
    /// Index = listener id; `None`: not a UDP listener.
    pub(super) sockets: Vec<Option<UdpSocket>>,
    pub(super) resolver: Arc<Resolver>,
    /// Turns for those who come without one.
    pub(super) turns: Mutex<Vec<Turn>>,
    /// Ends the sleep of the receiver.
    pub(super) waker: Waker,
    /// Until when the receiver sleeps; zero while it does not, or wakes up soon in any case.
    pub(super) sleeps_until: AtomicU64,
    pub(super) stopping: AtomicBool,
    /// AORs, for the log.
    pub(super) names: RwLock<HashMap<ResourceId, String>>,
    /// The way to the peer, if there is one.
    pub(super) port: OnceLock<Arc<dyn Port>>,
    /// What cannot be sent before an address of the pair is here.
    pub(super) waiting: Waiting,
}

/// The way to the peer, as the driver sees it.
pub trait Port: Send + Sync {
    /// Sends the frames of `out`.
    fn frames(&self, out: &Out);
    /// Does what the cluster wants.
    fn effects(&self, now: Time, out: &mut Out);
}

pub(super) struct UdpSocket {
    pub(super) listener: UdpListener,
    /// Datagrams lost to a full buffer, as last told by the kernel.
    pub(super) dropped: AtomicU64,
}

/// What one thread needs to handle an input and send what comes of it. Used again and again.
#[derive(Default)]
pub struct Turn {
    pub(super) scratch: Scratch,
    pub(super) out: Out,
    /// The previous round's output, while its undelivered messages are handled.
    pub(super) sent: Out,
    pub(super) outbox: Outbox,
    /// Transmits of `sent` that failed.
    pub(super) failed: Vec<usize>,
    /// Quotations from error queues.
    pub(super) refused: Vec<(Flow, Vec<u8>)>,
}

impl Turn {
    /// What was written and not sent yet.
    pub fn out(&mut self) -> &mut Out {
        &mut self.out
    }
}

impl Driver {
    /// Puts a node on its sockets. Index of `listeners` = listener id.
    pub fn new(
        node: Arc<Node<Locked>>,
        listeners: Vec<Option<UdpListener>>,
        stats: Arc<IoStats>,
        runtime: &Handle,
        waker: Waker,
    ) -> Arc<Self> {
        let socket = |listener| UdpSocket { listener, dropped: AtomicU64::new(0) };
        Arc::new_cyclic(|driver: &Weak<Driver>| {
            let inlet: Weak<dyn Inlet> = driver.clone();
            Driver {
                node,
                streams: Arc::new(Streams::new(runtime.clone(), Arc::clone(&stats), inlet.clone())),
                resolver: Arc::new(Resolver::new(runtime.clone(), Arc::clone(&stats), inlet)),
                stats,
                sockets: listeners.into_iter().map(|l| l.map(socket)).collect(),
                turns: Mutex::default(),
                waker,
                sleeps_until: AtomicU64::new(0),
                stopping: AtomicBool::new(false),
                names: RwLock::default(),
                port: OnceLock::new(),
                waiting: Waiting::default(),
            }
        })
    }

    /// The UDP listeners.
    pub fn listeners(&self) -> impl Iterator<Item = (ListenerId, &UdpListener)> {
        let of = |(n, s): (usize, _)| Some((ListenerId(n as u16), Option::as_ref(s).map(|s: &UdpSocket| &s.listener)?));
        self.sockets.iter().enumerate().filter_map(of)
    }

    /// The UDP listener with this id.
    pub fn listener(&self, id: ListenerId) -> Option<&UdpListener> {
        self.socket(id).map(|s| &s.listener)
    }

    /// How long the oldest datagram has waited that nobody has taken in hand yet.
    pub fn waited(&self) -> Duration {
        let waiting = |(_, listener): (_, &UdpListener)| sys::waiting(listener.socket.as_fd());
        self.listeners().filter_map(waiting).max().unwrap_or_default()
    }

    /// Ends what the receiver sleeps for.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Names of resources for the log.
    pub fn name(&self, names: HashMap<ResourceId, String>) {
        *self.names.write() = names;
    }

    /// Workers return as soon as they notice.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.waker.notify();
        self.streams.stop();
    }

    /// Whether [`Driver::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Tells everybody until when the receiver is about to sleep, and returns it. From here on whoever arms an earlier
    /// deadline wakes it.
    pub fn fall_asleep(&self) -> Option<Time> {
        let first = self.deadline();
        self.sleeps_until.store(first.as_micros(), Ordering::SeqCst);
        // One armed between the two lines above has seen nobody asleep.
        let until = first.min(self.deadline());
        (until != Time::NEVER).then_some(until)
    }

    /// The sleep is over.
    pub fn wake_up(&self) {
        self.sleeps_until.store(0, Ordering::SeqCst);
    }

    /// From here on there is a peer.
    pub fn connect(&self, port: Arc<dyn Port>) {
        let _ = self.port.set(port);
    }

    /// Handles one input in a turn of the caller's; [`Driver::flush`] sends what comes of it.
    pub fn hand(&self, now: Time, input: Input<'_>, turn: &mut Turn) {
        self.guarded(|| self.node.handle(now, input, &mut turn.scratch, &mut turn.out));
    }

    /// An active node whose cluster has not run for too long does not know whether it still is the active one: waits until
    /// it does. The time then, for all that is handled next. One that hands over handles nothing itself, and the
    /// acknowledgements that its hand-over waits for may be the next that is read.
    pub fn once_sure(&self, mut now: Time) -> Time {
        for _ in 0..AUTHORITY_WAITS {
            if now <= self.node.authority() || !self.node.is_active_now() || self.node.is_passing_on() {
                break;
            }
            std::thread::sleep(AUTHORITY_WAIT);
            now = sys::now();
        }
        now
    }

    /// Handles a batch of datagrams that came at `now`, which is of [`Driver::once_sure`].
    pub fn batch(&self, now: Time, batch: &[Received<'_>], turn: &mut Turn) {
        self.guarded(|| self.node.handle_batch(now, batch, &mut turn.scratch, &mut turn.out));
    }

    /// Fires what is due at `now`, which is of [`Driver::once_sure`].
    pub fn fire(&self, now: Time, turn: &mut Turn) {
        if self.deadline() <= now {
            self.guarded(|| self.node.handle_timeout(now, &mut turn.scratch, &mut turn.out));
        }
    }

    /// Wakes the sleeper if it would miss a deadline. For those who handle something beside the receiver.
    pub fn nudge(&self) {
        if self.deadline().as_micros() < self.sleeps_until.load(Ordering::SeqCst) {
            self.waker.notify();
        }
    }

    /// Counts what a socket lost, as the kernel tells it with a datagram.
    pub fn count_overflow(&self, listener: ListenerId, dropped: u32) {
        if let Some(socket) = self.socket(listener) {
            let before = socket.dropped.fetch_max(u64::from(dropped), Ordering::Relaxed);
            self.stats.receive_overflow.add(u64::from(dropped).saturating_sub(before));
        }
    }

    /// Takes the errors off a socket's queue; those that quote a datagram of ours reach the node with the next
    /// [`Driver::flush`]. Returns how many there were.
    pub fn take_errors(&self, listener: ListenerId, turn: &mut Turn) -> usize {
        let Some(socket) = self.socket(listener) else { return 0 };
        let mut memory = [0; QUOTATION];
        for taken in 0..ERRORS {
            let Some(refused) = sys::read_refused(socket.listener.socket.as_fd(), &mut memory) else { return taken };
            if refused.quoted.is_empty() {
                continue;
            }
            self.stats.icmp_errors.count();
            let mut local = socket.listener.addr;
            if let (true, Some(from)) = (local.ip().is_unspecified(), refused.from) {
                local.set_ip(from);
            }
            let flow = Flow { transport: Transport::Udp, listener, local, remote: refused.to, conn: None };
            turn.refused.push((flow, refused.quoted.to_vec()));
        }
        ERRORS
    }

    pub(super) fn deadline(&self) -> Time {
        self.node.next_timeout().map_or(Time::NEVER, |(time, _)| time)
    }

    pub(super) fn socket(&self, listener: ListenerId) -> Option<&UdpSocket> {
        self.sockets.get(usize::from(listener.0))?.as_ref()
    }

    /// A message that makes the node panic is dropped and counted; what was handled before it is sent all the same.
    pub fn guarded(&self, handle: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(handle)).is_err() {
            self.stats.panics.count();
            tracing::warn!("a message was dropped because handling it panicked; please report the trace above");
        }
    }

    /// Sends everything that `turn` holds, and has the node handle what could not be delivered until nothing more comes
    /// of it.
    pub fn flush(&self, now: Time, turn: &mut Turn) {
        for _ in 0..ROUNDS {
            std::mem::swap(&mut turn.out, &mut turn.sent);
            self.pass_on(now, &mut turn.sent);
            self.withhold(now, &mut turn.sent);
            self.send(turn);
            self.tell(&turn.sent);
            if turn.failed.is_empty() && turn.refused.is_empty() {
                break;
            }
            for (flow, quoted) in std::mem::take(&mut turn.refused) {
                self.undelivered(now, Received { flow, bytes: &quoted }, &mut turn.scratch, &mut turn.out);
            }
            for n in std::mem::take(&mut turn.failed) {
                let transmit = &turn.sent.transmits[n];
                let received = Received { flow: transmit.flow, bytes: turn.sent.bytes(transmit) };
                self.undelivered(now, received, &mut turn.scratch, &mut turn.out);
            }
            turn.sent.clear();
        }
        turn.sent.clear();
        turn.out.clear();
    }

    /// Hands frames and wishes to the pair. Records leave before what does not wait for them.
    pub(super) fn pass_on(&self, now: Time, out: &mut Out) {
        let Some(port) = self.port.get() else { return };
        if !out.frames.is_empty() {
            port.frames(out);
        }
        if !out.effects.is_empty() {
            port.effects(now, out);
        }
    }

    pub(super) fn undelivered(&self, now: Time, received: Received<'_>, scratch: &mut Scratch, out: &mut Out) {
        self.guarded(|| self.node.handle(now, Input::Undelivered(received), scratch, out));
    }

    /// Events for the log. Calls are counted by the node.
    pub(super) fn tell(&self, out: &Out) {
        for event in &out.events {
            if let Event::Health { resource, usable } = *event {
                let names = self.names.read();
                let name = names.get(&resource).map_or("a removed resource", String::as_str);
                if usable {
                    tracing::info!("{name} is up and takes calls");
                } else {
                    tracing::warn!("{name} is down and takes no new calls");
                }
            }
        }
    }

    /// Puts a new configuration of the node in force.
    pub fn reconfigure(&self, config: node::Config) {
        self.with_turn(|now, turn| self.node.reconfigure(now, config, &mut turn.out));
    }

    pub(super) fn with_turn(&self, act: impl FnOnce(Time, &mut Turn)) {
        let mut turn = self.turns.lock().pop().unwrap_or_default();
        let now = sys::now();
        act(now, &mut turn);
        self.flush(now, &mut turn);
        self.turns.lock().push(turn);
        self.nudge();
    }
}

impl Inlet for Driver {
    fn input(&self, input: Input<'_>) {
        self.with_turn(|now, turn| {
            let now = self.once_sure(now);
            self.guarded(|| self.node.handle(now, input, &mut turn.scratch, &mut turn.out));
        });
    }

    fn undecided(&self, flow: &Flow) -> bool {
        self.node.is_undecided(flow.local.ip())
    }

    fn deliver(&self, flow: Flow, name: Option<&[u8]>, bytes: &[u8]) {
        if flow.transport == Transport::Tls {
            if self.streams.send(flow, name, bytes).is_err() {
                self.input(Input::Undelivered(Received { flow, bytes }));
            }
            return;
        }
        self.with_turn(|_, turn| {
            turn.out.send(flow, |arena| {
                arena.extend_from_slice(bytes);
                true
            });
        });
    }
}
