//! Beats: datagrams between nodes on every path, on a thread and sockets of their own, so that nothing stands before
//! them.
#![forbid(unsafe_code)]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};

use crate::base::{NodeId, PathId, Time, limits};
use crate::replica::envelope::{self, Address, BadBeat, OVERHEAD};
use crate::runtime::fault::Faults;
use crate::runtime::link::{BindError, Member};
use crate::runtime::stats::Counter;
use crate::runtime::sys::filter::sources;
use crate::runtime::sys::{self, Interest};
use crate::runtime::waker::Waker;
use crate::token::Keys;

/// Datagrams taken from one socket in one turn.
const BATCH: usize = 64;

/// How long a socket rests that had a whole batch for us: no pair beats that densely, and a flood must not take a core.
const REST: Duration = Duration::from_millis(2);

/// Octets that wait in a socket, if the kernel gives as much: beats must not be lost while this thread is late.
const BUFFER: usize = 1 << 20;

/// How often [`Pacemaker::unauthentic`] is told at most.
const TELL: Duration = Duration::from_secs(1);

/// The state machine that beats drive.
pub trait Pacemaker: Send + Sync {
    /// An authentic beat came. Whether it is an old one its content tells.
    fn beat(&self, now: Time, address: &Address, beat: &[u8]);
    /// Datagrams come from a peer's address that no secret of this cluster sealed. Told once a second.
    fn unauthentic(&self, now: Time, peer: NodeId);
    /// Does what is due at `now`; beats go to a node over a path through `send`.
    fn timeout(&self, now: Time, send: &mut dyn FnMut(NodeId, PathId, &[u8]));
    /// When [`Pacemaker::timeout`] wants to be called; [`Time::NEVER`] if not at all.
    fn next(&self) -> Time;
}

/// What beats count.
#[derive(Debug, Default)]
pub struct BeatStats {
    /// Authentic beats received.
    pub beats_in: Counter,
    /// Beats sent.
    pub beats_out: Counter,
    /// Beats that the kernel did not take.
    pub unsent: Counter,
    /// Datagrams that were none, by [`BadBeat`].
    pub bad: [Counter; BadBeat::ALL.len()],
    /// Authentic beats that came over another path than they say.
    pub astray: Counter,
    /// Turns in which a socket had more for us than any peer sends.
    pub floods: Counter,
}

/// Who beats.
#[derive(Clone)]
pub struct Config {
    /// `cluster.mymemberid`.
    pub node: NodeId,
    /// Random per process start.
    pub incarnation: u64,
    /// The keys of the cluster.
    pub keys: Keys,
    /// The addresses of `cluster.member` of this node: index = path.
    pub own: Vec<SocketAddr>,
    /// The other members.
    pub peers: Vec<Member>,
    /// What a drill wants to fail.
    pub faults: Arc<Faults>,
}

/// The thread that beats. Dropping it ends it.
pub struct Beats {
    signal: Arc<Signal>,
    thread: Mutex<Option<JoinHandle<()>>>,
    addrs: Vec<SocketAddr>,
}

struct Signal {
    waker: Waker,
    stopping: AtomicBool,
}

impl Beats {
    /// Binds a socket per path and begins to beat.
    pub fn start(config: Config, pacemaker: Arc<dyn Pacemaker>, stats: Arc<BeatStats>) -> Result<Self, BindError> {
        let of_path = |path: usize| config.peers.iter().filter_map(move |peer| peer.addrs.get(path));
        let sockets = config
            .own
            .iter()
            .enumerate()
            .map(|(path, addr)| bind(*addr, of_path(path)).map_err(|source| BindError { addr: *addr, source }));
        let sockets: Vec<UdpSocket> = sockets.collect::<Result<_, _>>()?;
        let first = config.own.first().copied();
        let failed = |source| BindError { addr: first.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0))), source };
        let addrs = sockets.iter().map(UdpSocket::local_addr).collect::<Result<_, _>>().map_err(failed)?;
        let signal = Signal { waker: Waker::new().map_err(failed)?, stopping: AtomicBool::new(false) };
        let signal = Arc::new(signal);
        let heart = Heart {
            paths: sockets.into_iter().map(|socket| Path { socket, rests_until: Time::ZERO }).collect(),
            config,
            pacemaker,
            stats,
            signal: Arc::clone(&signal),
            sealed: Vec::with_capacity(OVERHEAD + limits::BEAT),
            told: Time::ZERO,
        };
        let thread = thread::Builder::new().name("beats".into()).spawn(move || heart.run()).map_err(failed)?;
        Ok(Self { signal, thread: Mutex::new(Some(thread)), addrs })
    }

    /// The bound addresses: index = path.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// [`Pacemaker::next`] may be earlier now.
    pub fn nudge(&self) {
        self.signal.waker.notify();
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.signal.stopping.store(true, Ordering::SeqCst);
        self.signal.waker.notify();
        if let Some(thread) = self.thread.lock().take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Beats {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Heart {
    paths: Vec<Path>,
    config: Config,
    pacemaker: Arc<dyn Pacemaker>,
    stats: Arc<BeatStats>,
    signal: Arc<Signal>,
    /// The datagram that is being sent.
    sealed: Vec<u8>,
    /// When the pacemaker was last told of an unauthentic one.
    told: Time,
}

struct Path {
    socket: UdpSocket,
    /// Not polled before.
    rests_until: Time,
}

impl Heart {
    fn run(mut self) {
        sys::hurry();
        // One per path, then the waker.
        let mut interests = vec![Interest::none(); self.paths.len() + 1];
        let mut memory = [0; OVERHEAD + limits::BEAT + 1];
        while !self.signal.stopping.load(Ordering::SeqCst) {
            if let Err(e) = self.wait(&mut interests) {
                // Only want of kernel memory can get here.
                tracing::warn!("cannot wait for beats: {e}");
                thread::sleep(REST);
            }
            // What came before what is due: a beat may be what a timer waits for.
            for (path, _) in interests[..self.paths.len()].iter().enumerate().filter(|(_, i)| i.ready()) {
                self.receive(path, &mut memory);
            }
            let now = sys::now();
            if self.pacemaker.next() <= now {
                self.beat(now);
            }
        }
    }

    /// Sleeps until the pacemaker wants something, a datagram or a nudge.
    fn wait(&self, interests: &mut [Interest]) -> io::Result<()> {
        let (now, mut until) = (sys::now(), self.pacemaker.next());
        let count = self.paths.len();
        for (path, interest) in self.paths.iter().zip(&mut *interests) {
            if path.rests_until > now {
                until = until.min(path.rests_until);
                *interest = Interest::none();
            } else {
                *interest = Interest::readable(path.socket.as_fd());
            }
        }
        interests[count] = Interest::readable(self.signal.waker.as_fd());
        sys::poll(interests, (until != Time::NEVER).then(|| until.since(now)))?;
        if interests[count].ready() {
            self.signal.waker.clear();
        }
        Ok(())
    }

    fn receive(&mut self, path: usize, memory: &mut [u8]) {
        for _ in 0..BATCH {
            let (length, source) = match self.paths[path].socket.recv_from(memory) {
                Ok(received) => received,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // The host of a peer that has no process refuses with ICMP; each error is told once.
                Err(_) => continue,
            };
            let Config { keys, node, incarnation, faults, .. } = &self.config;
            if faults.is_parted() {
                continue;
            }
            match envelope::open(keys, *node, *incarnation, &memory[..length]) {
                Ok((address, _)) if usize::from(address.path.0) != path => self.stats.astray.count(),
                Ok((address, beat)) => {
                    self.stats.beats_in.count();
                    self.pacemaker.beat(sys::now(), &address, beat);
                }
                Err(bad) => {
                    self.stats.bad[bad as usize].count();
                    if bad == BadBeat::WrongSecret {
                        self.unauthentic(source);
                    }
                }
            }
        }
        self.stats.floods.count();
        self.paths[path].rests_until = sys::now() + REST;
    }

    fn unauthentic(&mut self, source: SocketAddr) {
        let Some(peer) = self.config.peers.iter().find(|m| m.addrs.contains(&source)) else { return };
        let now = sys::now();
        if now.since(self.told) >= TELL {
            self.told = now;
            self.pacemaker.unauthentic(now, peer.node);
        }
    }

    fn beat(&mut self, now: Time) {
        let Self { paths, config, pacemaker, stats, sealed, .. } = self;
        pacemaker.timeout(now, &mut |to, path, beat| {
            let address = Address { from: config.node, to, incarnation: config.incarnation, path };
            let index = usize::from(path.0);
            let remote = config.peers.iter().find(|m| m.node == to).and_then(|m| m.addrs.get(index));
            let (Some(remote), Some(own)) = (remote, paths.get(index)) else { return stats.unsent.count() };
            let sent = !config.faults.is_parted()
                && envelope::seal(&config.keys, &address, beat, sealed)
                && own.socket.send_to(sealed, *remote).is_ok_and(|octets| octets == sealed.len());
            let counter = if sent { &stats.beats_out } else { &stats.unsent };
            counter.count();
        });
    }
}

/// Takes datagrams of `peers` alone: what anybody else sends stands in nobody's way.
fn bind<'a>(addr: SocketAddr, peers: impl Iterator<Item = &'a SocketAddr>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    let alike = peers.map(SocketAddr::ip).filter(|ip| ip.is_ipv4() == addr.is_ipv4());
    // Before it is bound, so that nothing slips in.
    socket.attach_filter(&sources(alike))?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.bind(&addr.into())?;
    socket.set_nonblocking(true)?;
    Ok(UdpSocket::from(socket))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::runtime::fault::Fault;

    const LIMIT: Duration = Duration::from_secs(5);
    const EVERY: Duration = Duration::from_millis(5);

    /// Beats to `peer` every 5 ms over two paths, and tells what it hears.
    struct Fake {
        peer: NodeId,
        next: Mutex<Time>,
        heard: Mutex<mpsc::Sender<(Address, Vec<u8>)>>,
        unauthentic: Counter,
        /// Held: the thread hangs at the next beat, once it has told of it.
        hold: Mutex<()>,
    }

    impl Pacemaker for Fake {
        fn beat(&self, now: Time, address: &Address, beat: &[u8]) {
            assert!(now > Time::ZERO);
            let _ = self.heard.lock().send((*address, beat.to_vec()));
            drop(self.hold.lock());
        }

        fn unauthentic(&self, _: Time, peer: NodeId) {
            assert_eq!(peer, self.peer);
            self.unauthentic.count();
        }

        fn timeout(&self, now: Time, send: &mut dyn FnMut(NodeId, PathId, &[u8])) {
            *self.next.lock() = now + EVERY;
            send(self.peer, PathId(0), b"first");
            send(self.peer, PathId(1), b"second");
            send(self.peer, PathId(2), b"no such path");
        }

        fn next(&self) -> Time {
            *self.next.lock()
        }
    }

    struct Side {
        beats: Beats,
        stats: Arc<BeatStats>,
        faults: Arc<Faults>,
        fake: Arc<Fake>,
        heard: mpsc::Receiver<(Address, Vec<u8>)>,
    }

    fn ports(hosts: [&str; 2]) -> Vec<SocketAddr> {
        hosts.map(|host| UdpSocket::bind((host, 0)).unwrap().local_addr().unwrap()).to_vec()
    }

    fn side(node: u16, own: &[SocketAddr], peer: u16, addrs: &[SocketAddr], next: Time) -> Side {
        let (told, heard) = mpsc::channel();
        let (next, heard_by, unauthentic) = (Mutex::new(next), Mutex::new(told), Counter::default());
        let fake = Arc::new(Fake { peer: NodeId(peer), next, heard: heard_by, unauthentic, hold: Mutex::default() });
        let (stats, faults) = (Arc::new(BeatStats::default()), Arc::<Faults>::default());
        let config = Config {
            node: NodeId(node),
            incarnation: u64::from(node) * 100,
            keys: Keys::new("c", &[b"a secret"]).unwrap(),
            own: own.to_vec(),
            peers: vec![Member { node: NodeId(peer), addrs: addrs.to_vec() }],
            faults: Arc::clone(&faults),
        };
        let beats = Beats::start(config, Arc::clone(&fake) as Arc<dyn Pacemaker>, Arc::clone(&stats)).unwrap();
        Side { beats, stats, faults, fake, heard }
    }

    #[test]
    fn a_node_that_a_drill_cuts_off_neither_speaks_nor_hears_until_that_ends() {
        let (one, two) = (ports(["127.0.0.1", "127.0.0.3"]), ports(["127.0.0.2", "127.0.0.4"]));
        let (one, two) = (side(1, &one, 2, &two, Time::ZERO), side(2, &two, 1, &one, Time::ZERO));
        let until = |counter: &Counter, count: u64| {
            while counter.get() < count {
                thread::yield_now();
            }
        };
        until(&one.stats.beats_in, 2);
        one.faults.begin(Fault::Partition, sys::now() + Duration::from_secs(3_600));
        // Of three beats of a turn one has no path: the third says that a turn has begun since.
        until(&one.stats.unsent, one.stats.unsent.get() + 3);
        let counts = || (one.stats.beats_out.get(), one.stats.beats_in.get());
        let cut = counts();
        until(&two.stats.beats_out, two.stats.beats_out.get() + 8);
        until(&one.stats.unsent, one.stats.unsent.get() + 6);
        assert_eq!(counts(), cut);
        one.faults.begin(Fault::Partition, sys::now());
        until(&one.stats.beats_out, cut.0 + 2);
        until(&one.stats.beats_in, cut.1 + 2);
    }

    #[test]
    fn two_nodes_hear_each_other_on_every_path() {
        let (one, two) = (ports(["127.0.0.1", "127.0.0.3"]), ports(["127.0.0.2", "127.0.0.4"]));
        let (one, two) = (side(1, &one, 2, &two, Time::ZERO), side(2, &two, 1, &one, Time::ZERO));
        for (side, from) in [(&one, 2u16), (&two, 1)] {
            for (path, text) in [(0, &b"first"[..]), (1, b"second")] {
                let wanted = |heard: &(Address, Vec<u8>)| heard.0.path == PathId(path);
                let (address, beat) =
                    std::iter::repeat_with(|| side.heard.recv_timeout(LIMIT).unwrap()).find(wanted).unwrap();
                assert_eq!((address.from, address.incarnation), (NodeId(from), u64::from(from) * 100));
                assert_eq!(beat, text);
            }
            assert!(side.stats.beats_in.get() >= 2);
            // What came is heard before what is due is sent, and a path that does not exist comes last.
            while side.stats.unsent.get() == 0 {
                thread::yield_now();
            }
            assert!(side.stats.beats_out.get() >= 2);
        }
    }

    #[test]
    fn what_a_stranger_sends_does_not_come_as_far_as_the_counters() {
        let addrs = ports(["127.0.0.1", "127.0.0.3"]);
        let side = side(1, &addrs, 2, &ports(["127.0.0.2", "127.0.0.4"]), Time::NEVER);
        let [stranger, astray, member] =
            ["127.0.0.9:0", "127.0.0.4:0", "127.0.0.2:0"].map(|at| UdpSocket::bind(at).unwrap());
        let address = Address { from: NodeId(2), to: NodeId(1), incarnation: 5, path: PathId(0) };
        let mut beat = Vec::new();
        envelope::seal(&Keys::new("c", &[b"a secret"]).unwrap(), &address, b"x", &mut beat);
        for socket in [&stranger, &astray] {
            for datagram in [&b"garbage"[..], &beat] {
                socket.send_to(datagram, addrs[0]).unwrap();
            }
        }
        member.send_to(b"garbage", addrs[0]).unwrap();
        member.send_to(&beat, addrs[0]).unwrap();
        // Who comes first is heard first.
        assert_eq!(side.heard.recv_timeout(LIMIT).unwrap(), (address, b"x".to_vec()));
        side.beats.stop();
        let bad: u64 = side.stats.bad.iter().map(Counter::get).sum();
        assert_eq!((bad, side.stats.beats_in.get()), (1, 1), "the member's own");
    }

    #[test]
    fn what_is_no_beat_is_counted_and_a_nudge_ends_the_wait() {
        let addrs = ports(["127.0.0.1", "127.0.0.3"]);
        let member = UdpSocket::bind("127.0.0.2:0").unwrap();
        let theirs = [member.local_addr().unwrap(), ports(["127.0.0.4", "127.0.0.4"])[0]];
        let side = side(1, &addrs, 2, &theirs, Time::NEVER);
        let [host, second] = ["127.0.0.2:0", "127.0.0.4:0"].map(|at| UdpSocket::bind(at).unwrap());
        let address = Address { from: NodeId(2), to: NodeId(1), incarnation: 5, path: PathId(1) };
        let (mut beat, mut foreign) = (Vec::new(), Vec::new());
        envelope::seal(&Keys::new("c", &[b"a secret"]).unwrap(), &address, b"x", &mut beat);
        envelope::seal(&Keys::new("c", &[b"another"]).unwrap(), &address, b"x", &mut foreign);
        for datagram in [&b"garbage"[..], &[0; 2_000], &foreign, &beat] {
            host.send_to(datagram, addrs[0]).unwrap();
        }
        member.send_to(&foreign, addrs[0]).unwrap();
        member.send_to(&foreign, addrs[0]).unwrap();
        for _ in 0..2 {
            second.send_to(&beat, addrs[1]).unwrap();
            // A copy is as authentic as the first: its counter tells them apart.
            assert_eq!(side.heard.recv_timeout(LIMIT).unwrap(), (address, b"x".to_vec()));
        }
        *side.fake.next.lock() = Time::ZERO;
        assert_eq!(side.stats.beats_out.get(), 0);
        side.beats.nudge();
        while side.stats.beats_out.get() == 0 {
            thread::yield_now();
        }
        while side.stats.bad[BadBeat::WrongSecret as usize].get() < 3 || side.stats.astray.get() == 0 {
            thread::yield_now();
        }
        side.beats.stop();
        assert_eq!(side.fake.unauthentic.get(), 1, "of a member, once a second");
        let bad = BadBeat::ALL.map(|bad| side.stats.bad[bad as usize].get());
        assert_eq!((bad, side.stats.astray.get()), ([2, 0, 3, 0], 1));
    }

    #[test]
    fn a_flood_makes_a_socket_rest_and_the_other_path_is_heard() {
        let addrs = ports(["127.0.0.1", "127.0.0.3"]);
        let side = side(1, &addrs, 2, &ports(["127.0.0.2", "127.0.0.4"]), Time::NEVER);
        let [host, second] = ["127.0.0.2:0", "127.0.0.4:0"].map(|at| UdpSocket::bind(at).unwrap());
        let address = Address { from: NodeId(2), to: NodeId(1), incarnation: 5, path: PathId(1) };
        let mut beat = Vec::new();
        let keys = Keys::new("c", &[b"a secret"]).unwrap();
        envelope::seal(&keys, &address, b"x", &mut beat);
        let mut first = Vec::new();
        envelope::seal(&keys, &Address { path: PathId(0), ..address }, b"first", &mut first);
        let held = side.fake.hold.lock();
        host.send_to(&first, addrs[0]).unwrap();
        assert_eq!(side.heard.recv_timeout(LIMIT).unwrap().1, b"first");
        for _ in 0..BATCH {
            host.send_to(b"flood", addrs[0]).unwrap();
        }
        drop(held);
        second.send_to(&beat, addrs[1]).unwrap();
        assert_eq!(side.heard.recv_timeout(LIMIT).unwrap().1, b"x");
        side.beats.stop();
        assert_eq!(side.stats.floods.get(), 1);
    }
}
