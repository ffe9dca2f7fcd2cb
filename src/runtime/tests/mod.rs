//! A whole node on loopback sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::inlet::Inlet;
use super::running::assemble;
use super::stats::SendError;
use super::sys::SLOTS;
use super::{Options, Running, prepare, start_here};
use crate::base::{Flow, ListenerId, Transport};
use crate::config::{Prefix, Settings};
use crate::node::Capacity;

mod reload;
#[cfg(feature = "tls")]
mod secure;
mod sending;

const LIMIT: Duration = Duration::from_secs(10);

/// A node that serves on `listeners`, with its own state directory.
struct World {
    running: Running,
    dir: PathBuf,
}

impl World {
    /// `listeners` without ports; `resources` are tried in this order.
    fn new(listeners: &[&str], resources: &[SocketAddr]) -> Self {
        let dir = state_dir();
        Self { running: start_here(settings(listeners, resources, &dir), small()).unwrap(), dir }
    }

    /// Bound, but nobody receives until [`Running::work`].
    fn asleep(listeners: &[&str], resources: &[SocketAddr]) -> Self {
        let dir = state_dir();
        let settings = settings(listeners, resources, &dir);
        let ground = prepare(&settings).unwrap();
        Self { running: assemble(settings, small(), ground).unwrap().0, dir }
    }

    fn addr(&self, listener: usize) -> SocketAddr {
        self.running.listeners[listener].addr
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn state_dir() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("tandem-runtime-{}-{n}", std::process::id()))
}

fn small() -> Options {
    let capacity = Capacity { shards: 4, legs: 1_000, transactions: 1_000 };
    Options { capacity, ..Options::default() }
}

fn settings(listeners: &[&str], resources: &[SocketAddr], dir: &std::path::Path) -> Settings {
    settings_with(listeners, resources, dir, "")
}

/// `more` stands behind the resources.
fn settings_with(listeners: &[&str], resources: &[SocketAddr], dir: &std::path::Path, more: &str) -> Settings {
    let listeners: Vec<String> = listeners.iter().enumerate().map(|(n, l)| format!("\"{l}:{}\"", 5060 + n)).collect();
    let resource = |addr: &SocketAddr| {
        format!("[[resource-group.resource]]\naor = \"sip:{addr}\"\nport-capacity = \"unlimited\"\n")
    };
    let text = format!(
        "[cluster]\nstate-dir = \"{}\"\n[proxy]\nsip.transport = [{}]\nsip.timer.t1 = 100\n[[resource-group]]\n\
         name = \"g\"\nservice-types = []\nmonitor-method = \"none\"\n{}{more}",
        dir.display(),
        listeners.join(", "),
        resources.iter().map(resource).collect::<String>(),
    );
    let (mut settings, _) = Settings::parse(&text).unwrap();
    settings.listeners.iter_mut().for_each(|l| l.addr.set_port(0));
    settings
}

/// `sip.allow-from` with these networks.
fn allow_from(networks: &str) -> Option<Vec<Prefix>> {
    let text = format!("[proxy]\nsip.allow-from = [{networks}]\n[[resource-group]]\nname = \"g\"");
    Settings::parse(&text).unwrap().0.allow_from
}

fn udp(addr: &str) -> UdpSocket {
    let socket = UdpSocket::bind(addr).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// A port that nobody listens on.
fn closed_port() -> SocketAddr {
    udp("127.0.0.1:0").local_addr().unwrap()
}

fn receive(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut memory = [0; 65_535];
    let (length, source) = socket.recv_from(&mut memory).unwrap();
    (String::from_utf8(memory[..length].to_vec()).unwrap(), source)
}

/// The next message whose start line begins with `start`; those before it are dropped.
fn await_message(socket: &UdpSocket, start: &str) -> (String, SocketAddr) {
    loop {
        let (text, source) = receive(socket);
        if text.starts_with(start) {
            return (text, source);
        }
    }
}

fn field<'a>(message: &'a str, name: &str) -> &'a str {
    message
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
        .unwrap_or_else(|| panic!("{name}: {message}"))
}

fn request(method: &str, from: SocketAddr, transport: Transport, call: &str) -> String {
    format!(
        "{method} sip:dialog@tandem.example SIP/2.0\r\nVia: SIP/2.0/{} {from};branch=z9hG4bK{call}{method}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:caller@{from}>;tag=c\r\nTo: <sip:dialog@tandem.example>\r\nCall-ID: {call}\r\n\
         CSeq: 1 {method}\r\nContact: <sip:caller@{from}>\r\nContent-Length: 0\r\n\r\n",
        transport.via()
    )
}

fn invite(caller: &UdpSocket, node: SocketAddr, call: &str) {
    let text = request("INVITE", caller.local_addr().unwrap(), Transport::Udp, call);
    caller.send_to(text.as_bytes(), node).unwrap();
}

/// The response to a request, as a server at `contact` gives it.
fn response(request: &str, status: &str, contact: SocketAddr) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for line in request.lines().skip(1) {
        let copied = ["Via: ", "Record-Route: ", "From: ", "Call-ID: ", "CSeq: "].iter().any(|n| line.starts_with(n));
        if copied {
            text += &format!("{line}\r\n");
        } else if line.starts_with("To: ") {
            text += &format!("{line};tag=s\r\n");
        }
    }
    text + &format!("Contact: <sip:server@{contact}>\r\nContent-Length: 0\r\n\r\n")
}

#[test]
fn a_request_leaves_from_the_address_that_its_via_names() {
    let server = udp("127.0.0.1:0");
    let world = World::new(&["udp:0.0.0.0"], &[server.local_addr().unwrap()]);
    let caller = udp("127.0.0.1:0");
    let node = SocketAddr::new([127, 0, 0, 1].into(), world.addr(0).port());
    invite(&caller, node, "via");
    let (text, source) = await_message(&server, "INVITE");
    assert!(field(&text, "Via").starts_with(&format!("SIP/2.0/UDP {source};branch=z9hG4bK")), "{text}");
    server.send_to(response(&text, "200 OK", server.local_addr().unwrap()).as_bytes(), source).unwrap();
    let (answer, from) = await_message(&caller, "SIP/2.0 200");
    assert_eq!((field(&answer, "Call-ID"), from), ("via", node));
    assert_eq!(world.running.node.gauges().legs, 1);
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let server = udp("127.0.0.1:0");
    let world = World::new(&["udp:0.0.0.0", "udp:[::]"], &[server.local_addr().unwrap()]);
    for (listener, host, from) in
        [(0, "127.0.0.1", "127.0.0.1:0"), (0, "127.0.0.3", "127.0.0.1:0"), (1, "::1", "[::1]:0")]
    {
        let node = SocketAddr::new(host.parse().unwrap(), world.addr(listener).port());
        let caller = udp(from);
        let text = request("OPTIONS", caller.local_addr().unwrap(), Transport::Udp, "ask");
        caller.send_to(text.as_bytes(), node).unwrap();
        let (answer, source) = receive(&caller);
        assert!(answer.starts_with("SIP/2.0 "), "{answer}");
        assert_eq!(source, node);
    }
}

#[test]
fn a_refused_datagram_sends_the_call_to_the_next_server() {
    let (gone, server) = (closed_port(), udp("127.0.0.1:0"));
    let world = World::new(&["udp:127.0.0.1"], &[gone, server.local_addr().unwrap()]);
    let caller = udp("127.0.0.1:0");
    for call in ["first", "second"] {
        invite(&caller, world.addr(0), call);
        let (text, _) = await_message(&server, "INVITE");
        assert_eq!(field(&text, "Call-ID"), call);
        server.send_to(response(&text, "486 Busy Here", gone).as_bytes(), world.addr(0)).unwrap();
        await_message(&caller, "SIP/2.0 486");
    }
    assert!(world.running.io.icmp_errors.get() >= 1);
    assert_eq!(world.running.io.panics.get(), 0);
}

#[test]
fn a_deadline_armed_by_a_stream_wakes_the_worker() {
    let server = udp("127.0.0.1:0");
    let world = World::new(&["udp:127.0.0.1", "tcp:127.0.0.1"], &[server.local_addr().unwrap()]);
    let mut caller = TcpStream::connect(world.addr(1)).unwrap();
    caller.set_read_timeout(Some(LIMIT)).unwrap();
    let text = request("INVITE", caller.local_addr().unwrap(), Transport::Tcp, "stream");
    caller.write_all(text.as_bytes()).unwrap();
    let (first, _) = receive(&server);
    // Timer A of an INVITE that is not answered (RFC 3261 section 17.1.1.2).
    let (second, source) = receive(&server);
    assert_eq!(first, second);
    server.send_to(response(&first, "200 OK", server.local_addr().unwrap()).as_bytes(), source).unwrap();
    let mut answers = String::new();
    while !answers.contains("SIP/2.0 200") {
        let mut memory = [0; 4096];
        let length = caller.read(&mut memory).unwrap();
        assert!(length > 0, "{answers}");
        answers += std::str::from_utf8(&memory[..length]).unwrap();
    }
    assert!(answers.starts_with("SIP/2.0 100"), "{answers}");
    assert_eq!(world.running.io.stream_messages_in.get(), 1);
}

#[test]
fn a_reload_changes_the_servers_and_refuses_other_listeners() {
    let (old, new) = (udp("127.0.0.1:0"), udp("127.0.0.1:0"));
    let world = World::new(&["udp:127.0.0.1"], &[old.local_addr().unwrap()]);
    let plan = world.running.reload(settings(&["udp:127.0.0.1"], &[new.local_addr().unwrap()], &world.dir)).unwrap();
    assert_eq!(plan.changes.len(), 2, "{plan:?}");
    let caller = udp("127.0.0.1:0");
    invite(&caller, world.addr(0), "reloaded");
    assert_eq!(field(&await_message(&new, "INVITE").0, "Call-ID"), "reloaded");
    let other = settings(&["udp:127.0.0.1", "tcp:127.0.0.1"], &[old.local_addr().unwrap()], &world.dir);
    let error = world.running.reload(other).unwrap_err().to_string();
    assert!(error.contains("sip.transport"), "{error}");
}

#[test]
fn strangers_hear_nothing_until_a_reload_lets_them_in() {
    let server = udp("127.0.0.3:0");
    let listeners = ["udp:127.0.0.1", "tcp:127.0.0.1"];
    let of = |sources: &str, dir: &std::path::Path| {
        let mut settings = settings(&listeners, &[server.local_addr().unwrap()], dir);
        settings.allow_from = allow_from(sources);
        settings
    };
    let dir = state_dir();
    let world = World { running: start_here(of("\"127.0.0.4/30\"", &dir), small()).unwrap(), dir };
    let node = world.addr(0);
    let (known, stranger) = (udp("127.0.0.7:0"), udp("127.0.0.8:0"));
    let ask = |from: &UdpSocket, call: &str| {
        let text = request("OPTIONS", from.local_addr().unwrap(), Transport::Udp, call);
        from.send_to(text.as_bytes(), node).unwrap();
    };
    let mut own = TcpStream::connect(world.addr(1)).unwrap();
    own.set_read_timeout(Some(LIMIT)).unwrap();
    // 127.0.0.1 is this machine's own; the others are told apart by where they send from.
    ask(&stranger, "unheard");
    for from in [&known, &server] {
        ask(from, "heard");
        assert_eq!(field(&receive(from).0, "Call-ID"), "heard");
    }
    assert_eq!((world.running.io.stranger_datagrams.get(), world.running.io.datagrams_in.get()), (1, 3));
    let text = request("OPTIONS", own.local_addr().unwrap(), Transport::Tcp, "own");
    own.write_all(text.as_bytes()).unwrap();
    assert!(own.read(&mut [0; 4096]).unwrap() > 0);
    world.running.reload(of("\"127.0.0.8\"", &world.dir)).unwrap();
    ask(&known, "unheard");
    ask(&stranger, "welcome");
    assert_eq!(field(&receive(&stranger).0, "Call-ID"), "welcome");
    assert_eq!(world.running.io.stranger_datagrams.get(), 2);
}

#[test]
fn a_draining_node_says_so_and_a_stopped_one_frees_its_ports() {
    let server = udp("127.0.0.1:0");
    let world = World::new(&["udp:127.0.0.1"], &[server.local_addr().unwrap()]);
    let (caller, node) = (udp("127.0.0.1:0"), world.addr(0));
    world.running.drain();
    invite(&caller, node, "late");
    let (answer, _) = await_message(&caller, "SIP/2.0 503");
    assert!(field(&answer, "Retry-After").parse::<u32>().is_ok(), "{answer}");
    world.running.resume();
    invite(&caller, node, "welcome");
    await_message(&server, "INVITE");
    assert_eq!(world.running.shutdown(Duration::ZERO), 1, "the call that rings");
    drop(world);
    UdpSocket::bind(node).unwrap();
}

#[test]
fn a_flood_of_noise_is_counted_and_the_next_message_is_served() {
    let server = udp("127.0.0.1:0");
    let world = World::new(&["udp:127.0.0.1"], &[server.local_addr().unwrap()]);
    let (caller, node) = (udp("127.0.0.1:0"), world.addr(0));
    for n in 0..1_000_u32 {
        let noise = vec![n as u8; n as usize % 70];
        caller.send_to(&noise, node).unwrap();
    }
    invite(&caller, node, "sound");
    assert_eq!(field(&await_message(&server, "INVITE").0, "Call-ID"), "sound");
    assert_eq!(world.running.io.datagrams_in.get(), 1_001);
    assert_eq!(world.running.io.panics.get(), 0);
}

#[test]
fn a_port_in_use_and_a_lost_key_are_told_with_their_cure() {
    let server = udp("127.0.0.1:0");
    let world = World::new(&["udp:127.0.0.1"], &[server.local_addr().unwrap()]);
    let mut again = settings(&["udp:127.0.0.1"], &[server.local_addr().unwrap()], &world.dir);
    again.listeners[0].addr = world.addr(0);
    let error = start_here(again.clone(), Options::default()).err().unwrap().to_string();
    assert!(error.contains("another process has it"), "{error}");
    assert_eq!(std::fs::read_to_string(world.dir.join("epoch")).unwrap(), "1\n", "a failed start uses no epoch up");
    std::fs::write(world.dir.join("node.key"), "short").unwrap();
    let error = start_here(again, Options::default()).err().unwrap().to_string();
    assert!(error.contains("node.key") && error.contains("does not hold 32 octets"), "{error}");
}

#[test]
fn a_burst_is_shared_out_and_every_call_gets_its_answer() {
    // As many answers as the caller's own buffer holds.
    const CALLS: usize = 2 * SLOTS;
    let server = udp("127.0.0.1:0");
    let mut world = World::asleep(&["udp:127.0.0.1"], &[server.local_addr().unwrap()]);
    let caller = udp("127.0.0.1:0");
    for n in 0..CALLS {
        let text = request("REGISTER", caller.local_addr().unwrap(), Transport::Udp, &format!("burst{n}"));
        caller.send_to(text.as_bytes(), world.addr(0)).unwrap();
    }
    world.running.work().unwrap();
    let mut answered: Vec<String> = (0..CALLS)
        .map(|_| {
            let (answer, _) = receive(&caller);
            assert!(answer.starts_with("SIP/2.0 405"), "{answer}");
            field(&answer, "Call-ID").to_owned()
        })
        .collect();
    answered.sort();
    answered.dedup();
    assert_eq!(answered.len(), CALLS);
    assert!(world.running.io.full_batches.get() >= 1);
}

#[test]
fn what_a_full_buffer_loses_is_counted() {
    let mut world = World::asleep(&["udp:127.0.0.1"], &[closed_port()]);
    let (caller, node) = (udp("127.0.0.1:0"), world.addr(0));
    let large = vec![b'x'; 60_000];
    for _ in 0..1_000 {
        caller.send_to(&large, node).unwrap();
    }
    world.running.work().unwrap();
    // The kernel tells the count with the next datagram that it takes; the first may still find the buffer full.
    caller.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let text = request("REGISTER", caller.local_addr().unwrap(), Transport::Udp, "after");
    let answered = (0..100).any(|_| {
        caller.send_to(text.as_bytes(), node).unwrap();
        caller.recv(&mut [0; 4096]).is_ok()
    });
    assert!(answered);
    let io = &world.running.io;
    let (lost, came) = (io.receive_overflow.get(), io.datagrams_in.get());
    assert!(lost > 0 && came < 1_000 && lost + came >= 1_001, "{lost} lost, {came} came");
}

#[test]
fn what_cannot_be_sent_is_counted_by_cause() {
    let server = udp("127.0.0.1:0");
    let world = World::new(&["udp:127.0.0.1", "tcp:127.0.0.1"], &[server.local_addr().unwrap()]);
    let flow = Flow {
        transport: Transport::Udp,
        listener: ListenerId(0),
        local: world.addr(0),
        remote: server.local_addr().unwrap(),
        conn: None,
    };
    let driver = &world.running.driver;
    driver.deliver(flow, None, &[b'x'; 65_530]);
    driver.deliver(Flow { listener: ListenerId(1), ..flow }, None, b"x");
    driver.deliver(Flow { remote: "[::1]:5060".parse().unwrap(), ..flow }, None, b"x");
    driver.deliver(flow, None, b"sound");
    assert_eq!(receive(&server).0, "sound");
    let count = |cause: SendError| world.running.io.send_errors[cause as usize].get();
    assert_eq!(SendError::ALL.map(count), [0, 0, 0, 1, 1, 1, 0]);
    assert_eq!(world.running.io.datagrams_out.get(), 1);
}
