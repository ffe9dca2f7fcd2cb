//! Two nodes on loopback, and those who disturb them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Runtime;

use super::stats::{Ended, Turned};
use super::*;
use crate::base::{NodeId, PathId, limits};
use crate::replica::frame::{Broken, HEADER};
use crate::replica::handshake::{self, Local, NONCE, PREFIX, Refusal, VERSIONS, cluster_hash};
use crate::replica::{Kind, Stream};
use crate::runtime::sys;
use crate::token::Keys;

const LIMIT: Duration = Duration::from_secs(10);
const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

#[derive(Debug, PartialEq)]
enum Told {
    Up(NodeId, u64),
    Down(DownCause),
    Frame(Stream, Kind, Vec<u8>),
    Room,
}

struct Ear {
    told: Mutex<mpsc::Sender<Told>>,
    /// Held: the reader hangs at the next frame.
    hold: Arc<Mutex<()>>,
}

impl Ear {
    fn tell(&self, told: Told) {
        let _ = self.told.lock().send(told);
    }
}

impl Peers for Ear {
    fn up(&self, peer: NodeId, greeting: &Greeting) {
        self.tell(Told::Up(peer, greeting.incarnation));
    }

    fn down(&self, _: NodeId, cause: DownCause) {
        self.tell(Told::Down(cause));
    }

    fn frame(&self, _: NodeId, stream: Stream, kind: Kind, payload: &[u8]) {
        drop(self.hold.lock());
        self.tell(Told::Frame(stream, kind, payload.to_vec()));
    }

    fn room(&self, _: NodeId) {
        self.tell(Told::Room);
    }

    fn settled(&self) {}
}

/// A node, as far as its link goes.
struct Side {
    links: Arc<Links>,
    told: mpsc::Receiver<Told>,
    hold: Arc<Mutex<()>>,
    reader: Option<JoinHandle<()>>,
    over: Arc<AtomicBool>,
    _runtime: Runtime,
}

impl Side {
    fn start(
        node: NodeId,
        incarnation: u64,
        listeners: Vec<TcpListener>,
        peer: NodeId,
        addrs: Vec<SocketAddr>,
    ) -> Self {
        let own = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
        Self::with(node, incarnation, own, listeners, Member { node: peer, addrs }, b"a secret of two nodes")
    }

    fn with(
        node: NodeId,
        incarnation: u64,
        own: Vec<SocketAddr>,
        listeners: Vec<TcpListener>,
        peer: Member,
        secret: &[u8],
    ) -> Self {
        Self::encrypted(node, incarnation, own, listeners, peer, secret, None)
    }

    fn encrypted(
        node: NodeId,
        incarnation: u64,
        own: Vec<SocketAddr>,
        listeners: Vec<TcpListener>,
        peer: Member,
        secret: &[u8],
        encryption: Option<Arc<Encryption>>,
    ) -> Self {
        let (keys, local) = (Keys::new("tests", &[secret]).unwrap(), local(node, incarnation));
        let (seed, faults) = ([incarnation as u8; 32], Arc::default());
        let config = Config { local, keys, own, peers: vec![peer], seed, faults, encryption };
        let links = Arc::new(Links::new(config, Arc::default()).unwrap());
        let (sender, told) = mpsc::channel();
        let hold = Arc::new(Mutex::new(()));
        let ear = Arc::new(Ear { told: Mutex::new(sender), hold: Arc::clone(&hold) });
        let mut reader = Reader::new(&links, ear);
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let reader = thread::spawn(move || {
            let mut list = Vec::new();
            while !until.load(Ordering::SeqCst) {
                list.clear();
                reader.interests(&mut list);
                sys::poll(&mut list, None).unwrap();
                reader.serve(&mut list);
            }
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        links.start(runtime.handle(), listeners).unwrap();
        Side { links, told, hold, reader: Some(reader), over, _runtime: runtime }
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(LIMIT).expect("something is told")
    }

    /// What is told next, refused attempts and room aside.
    fn settled(&self) -> Told {
        let aside = [Told::Down(DownCause::Refused), Told::Room];
        std::iter::repeat_with(|| self.next()).find(|told| !aside.contains(told)).unwrap()
    }

    fn send(&self, peer: NodeId, stream: Stream, payload: &[u8]) -> bool {
        let sent = self.links.send(peer, stream, Kind::Records, payload);
        self.links.flush();
        sent
    }

    fn stats(&self) -> &LinkStats {
        self.links.stats()
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.links.stop();
        let reader = self.reader.take().map(JoinHandle::join);
        assert!(reader.is_some_and(|r| r.is_ok()) || thread::panicking());
    }
}

fn local(node: NodeId, incarnation: u64) -> Local {
    Local {
        node,
        incarnation,
        cluster: cluster_hash("tests"),
        config: [0; 16],
        capabilities: 0,
        versions: VERSIONS,
        members: vec![ONE, TWO],
    }
}

fn listen(host: &str) -> (TcpListener, SocketAddr) {
    let addr = SocketAddr::new(host.parse().unwrap(), 0);
    let listener = BindError::bind(&[addr]).unwrap().pop().unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Nodes 1 and 2 with a link that stands, and their addresses.
fn pair() -> (Side, Side, SocketAddr, SocketAddr) {
    let ((first, one), (second, two)) = (listen("127.0.0.1"), listen("127.0.0.2"));
    let one_side = Side::start(ONE, 11, vec![first], TWO, vec![two]);
    let two_side = Side::start(TWO, 22, vec![second], ONE, vec![one]);
    assert_eq!(one_side.settled(), Told::Up(TWO, 22));
    assert_eq!(two_side.settled(), Told::Up(ONE, 11));
    (one_side, two_side, one, two)
}

fn again(addr: SocketAddr) -> Vec<TcpListener> {
    BindError::bind(&[addr]).unwrap()
}

#[test]
fn two_nodes_find_each_other_and_frames_of_every_size_arrive_in_order() {
    let (one, two, ..) = pair();
    assert!(one.links.is_up(TWO) && two.links.is_up(ONE) && !one.links.is_up(ONE));
    let large: Vec<u8> = (0..limits::FRAME).map(|n| (n * 7) as u8).collect();
    let sizes = [0, 1, 3, 1_000, 1_460, 65_536 - HEADER, 65_536, 100_000, limits::FRAME];
    for (from, to, peer) in [(&one, &two, TWO), (&two, &one, ONE)] {
        for stream in Stream::ALL {
            let mut sent = 0;
            for size in sizes {
                assert!(from.send(peer, stream, &large[..size]), "{stream:?} {size}");
                sent += (HEADER + size) as u64;
                assert!(to.next() == Told::Frame(stream, Kind::Records, large[..size].to_vec()), "{stream:?} {size}");
            }
            let n = stream as usize;
            // Who sends counts once the kernel has it; the other side may be faster.
            wait(|| from.stats().octets_out[n].get() >= sent);
            assert_eq!((from.stats().frames_out[n].get(), to.stats().frames_in[n].get()), (9, 9));
            assert_eq!((from.stats().octets_out[n].get(), to.stats().octets_in[n].get()), (sent, sent));
        }
    }
    assert!(
        !one.send(NodeId(7), Stream::Urgent, b"nobody") && !one.send(TWO, Stream::Urgent, &vec![0; limits::FRAME + 1])
    );
}

#[test]
fn a_node_that_starts_again_is_a_new_incarnation() {
    let (one, two, one_addr, two_addr) = pair();
    drop(two);
    assert!(matches!(one.next(), Told::Down(DownCause::Closed | DownCause::Reset)));
    assert_eq!(one.next(), Told::Down(DownCause::Refused), "the accepting side finds out, too");
    assert!(!one.send(TWO, Stream::Urgent, b"too late") && one.links.bulk_room(TWO) == 0);
    assert_eq!(one.stats().unsent.get(), 1);
    let two = Side::start(TWO, 23, again(two_addr), ONE, vec![one_addr]);
    assert_eq!(one.settled(), Told::Up(TWO, 23));
    assert_eq!(two.settled(), Told::Up(ONE, 11));

    drop(one);
    assert!(matches!(two.next(), Told::Down(DownCause::Closed | DownCause::Reset)));
    assert_eq!(two.next(), Told::Down(DownCause::Refused), "the connecting side finds out");
    let one = Side::start(ONE, 12, again(one_addr), TWO, vec![two_addr]);
    assert_eq!(two.settled(), Told::Up(ONE, 12));
    assert_eq!(one.settled(), Told::Up(TWO, 23));
    assert!(one.send(TWO, Stream::Bulk, b"fresh"));
    assert_eq!(two.next(), Told::Frame(Stream::Bulk, Kind::Records, b"fresh".to_vec()));
    assert_eq!(two.stats().links_up.get(), 2);
}

#[test]
fn a_goodbye_is_told_as_one_and_no_link_is_raised_after_it() {
    let (one, two, ..) = pair();
    two.send(ONE, Stream::Urgent, b"last");
    two.links.goodbye();
    assert_eq!(one.next(), Told::Frame(Stream::Urgent, Kind::Records, b"last".to_vec()));
    assert_eq!(one.next(), Told::Down(DownCause::Goodbye));
    assert_eq!(one.next(), Told::Down(DownCause::Refused));
    assert_eq!(one.stats().links_down[Ended::Goodbye as usize].get(), 1);
}

#[test]
fn a_lone_node_is_told_of_every_refused_attempt() {
    for (node, peer) in [(ONE, TWO), (TWO, ONE)] {
        let (gone, addr) = listen("127.0.0.2");
        drop(gone);
        let side = Side::start(node, 5, vec![listen("127.0.0.1").0], peer, vec![addr]);
        for _ in 0..3 {
            assert_eq!(side.next(), Told::Down(DownCause::Refused));
        }
        assert!(side.stats().dial_refused.get() >= 3);
    }
}

#[test]
fn the_second_path_serves_when_the_first_does_not() {
    let (gone, closed) = listen("127.0.0.1");
    drop(gone);
    let (first, one_a, one_b) = (listen("127.0.0.1"), closed, listen("127.0.0.3"));
    let (two_a, two_b) = (listen("127.0.0.2"), listen("127.0.0.4"));
    let two_addrs = vec![two_a.1, two_b.1];
    let one = Side::start(ONE, 1, vec![first.0, one_b.0], TWO, two_addrs);
    let two = Side::start(TWO, 2, vec![two_a.0, two_b.0], ONE, vec![one_a, one_b.1]);
    assert_eq!(two.settled(), Told::Up(ONE, 1));
    assert_eq!(one.settled(), Told::Up(TWO, 2));
}

#[test]
fn the_link_moves_off_a_path_that_fell_silent() {
    let (one_a, one_b) = (listen("127.0.0.1"), listen("127.0.0.3"));
    let (two_a, two_b) = (listen("127.0.0.2"), listen("127.0.0.4"));
    let one = Side::start(ONE, 1, vec![one_a.0, one_b.0], TWO, vec![two_a.1, two_b.1]);
    let two = Side::start(TWO, 2, vec![two_a.0, two_b.0], ONE, vec![one_a.1, one_b.1]);
    assert_eq!((two.settled(), one.settled()), (Told::Up(ONE, 1), Told::Up(TWO, 2)));
    let leaves_from = |side: &Side, host: &str| {
        let host = host.parse().unwrap();
        let from = |slot: &super::shared::Slot| {
            slot.outgoing.lock().as_ref().is_some_and(|open| super::carrier::leaves_from(open.carrier().as_ref(), host))
        };
        side.links.shared.peers[0].out.iter().all(from)
    };
    assert!(leaves_from(&two, "127.0.0.2"));
    two.links.path(ONE, PathId(1), false);
    two.links.path(ONE, PathId(1), true);
    two.links.leave(&["127.0.0.2".parse().unwrap()]);
    assert!(leaves_from(&two, "127.0.0.2") && two.links.is_up(ONE));
    two.links.path(ONE, PathId(1), true);
    two.links.leave(&["127.0.0.4".parse().unwrap()]);
    assert_eq!(two.settled(), Told::Down(DownCause::Moved), "only for the path that it uses");
    assert_eq!(two.settled(), Told::Up(ONE, 1));
    assert!(leaves_from(&two, "127.0.0.4"));
    assert_eq!(two.stats().links_down[Ended::Moved as usize].get(), 1);
    two.links.path(ONE, PathId(0), true);
    assert!(two.links.is_up(ONE), "and stays where it is");
}

#[test]
fn a_peer_that_does_not_read_costs_bounded_memory_and_then_the_link() {
    let (one, two, ..) = pair();
    let held = two.hold.lock();
    let payload = vec![7; limits::FRAME / 2];
    while one.links.bulk_room(TWO) >= payload.len() {
        assert!(one.send(TWO, Stream::Bulk, &payload));
    }
    assert_eq!(one.stats().links_down.iter().map(|c| c.get()).sum::<u64>(), 0);
    drop(held);
    let room = |told: Told| told == Told::Room && one.links.bulk_room(TWO) > limits::BULK_OUTBOUND / 2;
    assert!(std::iter::repeat_with(|| one.next()).any(room), "credits come back");

    let hold = Arc::clone(&two.hold);
    let held = hold.lock();
    let sent = (0..10_000).take_while(|_| one.send(TWO, Stream::Urgent, &payload)).count();
    assert!(sent * payload.len() >= limits::URGENT_OUTBOUND && sent < 1_000, "{sent} frames were taken");
    assert_eq!(one.settled(), Told::Down(DownCause::Full));
    assert_eq!(one.stats().links_down[Ended::Full as usize].get(), 1);
    drop(held);
    assert_eq!(one.settled(), Told::Up(TWO, 22), "and it comes back");
}

#[test]
fn whoever_counts_what_it_sends_can_send_without_end() {
    let (one, _two, ..) = pair();
    let payload = vec![7; 64 * 1024];
    let (mut room, mut sent) = (one.links.bulk_room(TWO), 0);
    while sent < 4 * limits::BULK_OUTBOUND {
        if room < limits::BULK_ROOM {
            assert_eq!(one.next(), Told::Room, "after {sent} octets");
            room = one.links.bulk_room(TWO);
            continue;
        }
        assert!(one.send(TWO, Stream::Bulk, &payload), "after {sent} octets");
        room -= HEADER + payload.len();
        sent += payload.len();
    }
}

/// Waits until `met`.
fn wait(met: impl Fn() -> bool) {
    let since = Instant::now();
    while !met() {
        assert!(since.elapsed() < LIMIT, "what was waited for does not happen");
        thread::yield_now();
    }
}

/// A stranger on the peer port of `addr`, and the challenge that it is sent.
fn stranger(addr: SocketAddr) -> (TcpStream, [u8; NONCE]) {
    let mut stranger = TcpStream::connect(addr).unwrap();
    stranger.set_read_timeout(Some(LIMIT)).unwrap();
    let mut challenge = [0; NONCE];
    stranger.read_exact(&mut challenge).unwrap();
    (stranger, challenge)
}

/// It is closed without another octet.
fn is_closed(mut stranger: TcpStream) -> bool {
    let mut rest = Vec::new();
    let _ = stranger.read_to_end(&mut rest);
    rest.is_empty()
}

#[test]
fn strangers_learn_nothing_and_change_nothing() {
    let (one, two, addr, _) = pair();
    let keys = Keys::new("tests", &[b"a secret of two nodes"]).unwrap();
    let wrong = Keys::new("tests", &[b"the secret of a stranger"]).unwrap();
    let hello = |keys, challenge| handshake::hello(keys, &local(TWO, 22), ONE, Stream::Urgent, challenge, [9; NONCE]).0;

    let (mut garbage, _) = stranger(addr);
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let (mut huge, _) = stranger(addr);
    huge.write_all(b"TNDM\xff\xff").unwrap();
    let (mut outsider, challenge) = stranger(addr);
    outsider.write_all(&hello(&wrong, challenge)).unwrap();
    let (_, captured) = stranger(addr);
    let (mut replay, challenge) = stranger(addr);
    assert_ne!(captured, challenge);
    replay.write_all(&hello(&keys, captured)).unwrap();
    for closed in [garbage, huge, outsider, replay] {
        assert!(is_closed(closed));
    }

    let (mut slow, challenge) = stranger(addr);
    slow.write_all(&hello(&keys, challenge)[..PREFIX + 5]).unwrap();
    let mut flood: Vec<TcpStream> = (0..30).map(|_| stranger(addr).0).collect();
    assert!(is_closed(slow), "it made room");
    for n in 0..20u8 {
        assert!(two.send(ONE, Stream::Urgent, &[n]));
        assert_eq!(one.next(), Told::Frame(Stream::Urgent, Kind::Records, vec![n]));
    }
    assert!(is_closed(flood.pop().unwrap()), "its time was up");
    let stats = one.stats();
    // A connection is counted after it was closed.
    wait(|| stats.turned[Turned::Slow as usize].get() >= 1);
    let refusals = [Refusal::Garbage, Refusal::WrongSecret].map(|r| stats.refusals[r as usize - 1].get());
    assert_eq!(refusals, [2, 2]);
    assert!(stats.turned[Turned::Evicted as usize].get() >= 27);
    assert_eq!((stats.links_up.get(), stats.links_down.iter().map(|c| c.get()).sum::<u64>()), (1, 0));
}

#[test]
fn nodes_with_different_secrets_do_not_link() {
    let ((first, one), (second, two)) = (listen("127.0.0.1"), listen("127.0.0.2"));
    let other = Member { node: TWO, addrs: vec![two] };
    let one_side = Side::with(ONE, 1, vec![one], vec![first], other, b"a secret of one");
    let two_side = Side::start(TWO, 2, vec![second], ONE, vec![one]);
    wait(|| two_side.stats().dial_silent.get() >= 4);
    assert!(one_side.stats().refusals[Refusal::WrongSecret as usize - 1].get() >= 3);
    assert!(!one_side.links.is_up(TWO) && !two_side.links.is_up(ONE));
}

/// Passes connections on to `to` and changes one octet of the first frame that goes there over the first one.
fn relay(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    thread::spawn(move || {
        for near in listener.incoming() {
            let (Ok(near), Ok(far)) = (near, TcpStream::connect(to)) else { return };
            let (near2, far2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            let damage = count.fetch_add(1, Ordering::Relaxed) == 0;
            thread::spawn(move || pass(near, far, damage));
            thread::spawn(move || pass(far2, near2, false));
        }
    });
    addr
}

fn pass(mut from: TcpStream, mut to: TcpStream, damage: bool) {
    let (mut memory, mut passed) = ([0; 4_096], 0);
    while let Ok(count @ 1..) = from.read(&mut memory) {
        // The hello has 96 octets.
        if damage && passed >= 96 {
            memory[count - 1] ^= 1;
        }
        passed += count;
        if to.write_all(&memory[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}

#[test]
fn a_frame_that_was_changed_on_the_way_ends_the_link_and_is_not_believed() {
    let ((first, one_addr), (second, two_addr)) = (listen("127.0.0.1"), listen("127.0.0.2"));
    let one = Side::start(ONE, 1, vec![first], TWO, vec![two_addr]);
    let two = Side::start(TWO, 2, vec![second], ONE, vec![relay(one_addr)]);
    assert_eq!((one.settled(), two.settled()), (Told::Up(TWO, 2), Told::Up(ONE, 1)));
    assert!(two.send(ONE, Stream::Urgent, b"changed"));
    assert_eq!(one.next(), Told::Down(DownCause::Bad(Broken::Mac)));
    assert_eq!(one.settled(), Told::Up(TWO, 2));
    assert!(matches!(two.settled(), Told::Down(_)));
    assert_eq!(two.settled(), Told::Up(ONE, 1));
    assert!(two.send(ONE, Stream::Urgent, b"not changed"));
    assert_eq!(one.next(), Told::Frame(Stream::Urgent, Kind::Records, b"not changed".to_vec()));
    assert_eq!(one.stats().broken[Broken::Mac as usize].get(), 1);
}

#[test]
fn an_address_that_cannot_be_had_names_the_cure() {
    let (_held, addr) = listen("127.0.0.1");
    let error = BindError::bind(&[addr]).unwrap_err().to_string();
    assert!(error.contains("another process has it") && error.contains("cluster.member"), "{error}");
    let error = BindError::bind(&["192.0.2.77:9801".parse().unwrap()]).unwrap_err().to_string();
    assert!(error.contains("192.0.2.77") && error.contains("cluster.mymemberid"), "{error}");
}

#[cfg(feature = "tls")]
mod encrypted {
    use super::*;
    use crate::runtime::tls::Name;
    use crate::runtime::tls::testing::{Authority, Folder};

    const SECRET: &[u8] = b"a secret of two nodes";

    fn encryption(ca: &Authority, own: &str, peer: &str) -> Option<Arc<Encryption>> {
        let material = Folder::new(ca, &ca.issue(&[own])).material();
        Some(Arc::new(Encryption::new(&material, vec![Name::parse(peer).unwrap()]).unwrap()))
    }

    /// Nodes 1 and 2 with what each of them has of TLS, and the address of node 1.
    fn pair(one: Option<Arc<Encryption>>, two: Option<Arc<Encryption>>) -> (Side, Side, SocketAddr) {
        let ((first, at), (second, to)) = (listen("127.0.0.1"), listen("127.0.0.2"));
        let member = |node, addr| Member { node, addrs: vec![addr] };
        let one = Side::encrypted(ONE, 11, vec![at], vec![first], member(TWO, to), SECRET, one);
        let two = Side::encrypted(TWO, 22, vec![to], vec![second], member(ONE, at), SECRET, two);
        (one, two, at)
    }

    #[test]
    fn frames_of_every_size_arrive_in_order() {
        let ca = Authority::founded();
        let one = encryption(&ca, "127.0.0.1", "127.0.0.2");
        let (one, two, _) = pair(one, encryption(&ca, "127.0.0.2", "127.0.0.1"));
        assert_eq!((one.settled(), two.settled()), (Told::Up(TWO, 22), Told::Up(ONE, 11)));
        let large: Vec<u8> = (0..limits::FRAME).map(|n| (n * 7) as u8).collect();
        for (from, to, peer) in [(&one, &two, TWO), (&two, &one, ONE)] {
            for stream in Stream::ALL {
                for size in [0, 1, 1_460, 16_384 - HEADER, 16_384, 100_000, limits::FRAME] {
                    assert!(from.send(peer, stream, &large[..size]), "{stream:?} {size}");
                    let told = to.next();
                    assert!(told == Told::Frame(stream, Kind::Records, large[..size].to_vec()), "{stream:?} {size}");
                }
            }
        }
    }

    #[test]
    fn what_the_peer_does_not_read_waits_and_comes_when_it_does() {
        let ca = Authority::founded();
        let one = encryption(&ca, "127.0.0.1", "127.0.0.2");
        let (one, two, _) = pair(one, encryption(&ca, "127.0.0.2", "127.0.0.1"));
        assert_eq!((one.settled(), two.settled()), (Told::Up(TWO, 22), Told::Up(ONE, 11)));
        let held = two.hold.lock();
        let payload = vec![7; limits::FRAME / 2];
        let mut sent = 0;
        while one.links.bulk_room(TWO) >= payload.len() {
            assert!(one.send(TWO, Stream::Bulk, &payload));
            sent += 1;
        }
        drop(held);
        for n in 0..sent {
            assert!(two.next() == Told::Frame(Stream::Bulk, Kind::Records, payload.clone()), "{n} of {sent}");
        }
    }

    #[test]
    fn a_certificate_for_another_name_or_of_another_ca_opens_nothing() {
        let (ca, other) = (Authority::founded(), Authority::founded());
        for wrong in [encryption(&ca, "127.0.0.9", "127.0.0.1"), encryption(&other, "127.0.0.2", "127.0.0.1")] {
            let (one, two, _) = pair(encryption(&ca, "127.0.0.1", "127.0.0.2"), wrong);
            wait(|| one.stats().turned[Turned::Tls as usize].get() >= 2);
            assert!(!one.links.is_up(TWO) && !two.links.is_up(ONE));
        }
    }

    #[test]
    fn a_node_without_tls_is_not_let_in() {
        let ca = Authority::founded();
        let (one, two, at) = pair(encryption(&ca, "127.0.0.1", "127.0.0.2"), None);
        // It waits for the first words of the other side, as that does.
        let mut stranger = TcpStream::connect(at).unwrap();
        stranger.write_all(&[b'x'; 64]).unwrap();
        wait(|| one.stats().turned[Turned::Tls as usize].get() >= 1);
        assert!(!one.links.is_up(TWO) && !two.links.is_up(ONE));
    }
}
