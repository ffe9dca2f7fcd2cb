//! What the kernel refuses: unreachable ports, forbidden packets, overflowing buffers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::rig::call::{self, Call};
use crate::rig::mcp::{self, Mcp};
use crate::rig::message::Message;
use crate::rig::netns;
use crate::rig::node::{Metrics, Node, Setup};
use crate::rig::poll::SOON;
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// Long enough that only the kernel's word, never a timeout, can explain a quick retry.
const PATIENT: &str = "monitor-method = \"none\"\nfirst-response-timeout = \"25s\"";

#[test]
fn an_unreachable_port_is_told_by_icmp_and_the_next_server_is_tried() {
    let world = World::beside("icmp");
    let closed = world.addr(11, 5060);
    let server = Mcp::answering(world.addr(12, 5060));
    let node = Setup::new(&world).group("MCP", PATIENT, &[closed, server.at], "10").start(&world);
    let udp = Udp::bind(world.addr(100, 5060));
    for _ in 0..2 {
        let call = Call::new(udp.at, node.sip);
        udp.send(node.sip, call.invite());
        udp.expect("200", |m| m.call_id() == call.id && m.answers(200, "INVITE"));
    }
    let metrics = node.metrics();
    assert!(metrics.sum("tandem_icmp_errors_total") >= 1.0);
    assert_eq!((metrics.ports(closed), metrics.ports(server.at)), (0.0, 2.0));
}

#[test]
fn a_forbidden_packet_is_counted_and_the_next_server_is_tried() {
    if netns::inside("network::a_forbidden_packet_is_counted_and_the_next_server_is_tried") {
        let world = World::beside("eperm");
        let walled = Mcp::answering(world.addr(11, 5060));
        let server = Mcp::answering(world.addr(12, 5060));
        let group = "monitor-method = \"none\"\nfirst-response-timeout = \"500ms\"";
        let node = Setup::new(&world).group("MCP", group, &[walled.at, server.at], "10").start(&world);
        netns::forbid(walled.at.ip(), 0);
        let udp = Udp::bind(world.addr(100, 5060));
        for _ in 0..2 {
            let call = Call::new(udp.at, node.sip);
            udp.send(node.sip, call.invite());
            udp.expect("200", |m| m.call_id() == call.id && m.answers(200, "INVITE"));
        }
        let metrics = node.metrics();
        let refused = metrics.labelled("tandem_send_errors_total", "cause=\"not_permitted\"");
        assert!(refused >= 2.0, "a rule may change: it is tried again, {metrics:?}");
        assert_eq!(metrics.ports(server.at), 2.0);
        assert!(walled.requests("INVITE").is_empty());
    }
}

#[test]
fn an_overflowing_receive_buffer_is_counted_and_the_next_message_is_served() {
    let world = World::beside("overflow");
    let server = Mcp::answering(world.addr(11, 5060));
    let node = Setup::new(&world).members(&[server.at], "10").start(&world);
    let udp = Udp::bind(world.addr(100, 5060));
    node.process.signal("STOP");
    // 64 MiB and more: beyond any receive buffer that the kernel grants.
    let noise = vec![b'\r'; 60_000];
    for _ in 0..1_200 {
        udp.send(node.sip, &noise);
    }
    node.process.signal("CONT");
    // The kernel tells of the loss with the next datagram that finds room.
    let noticed = |m: &Metrics| {
        udp.send(node.sip, "\r\n");
        m.sum("tandem_receive_overflow_total") > 0.0
    };
    node.until("the loss noticed", noticed);
    udp.send(node.sip, call::options(udp.at, node.sip, 0));
    udp.answer(200, "OPTIONS");
}

#[test]
fn a_full_queue_is_counted_and_retransmission_covers() {
    if netns::inside("network::a_full_queue_is_counted_and_retransmission_covers") {
        let world = World::beside("enobufs");
        let server = insisting(world.addr(11, 5060));
        let node = Setup::new(&world).group("MCP", PATIENT, &[server.at], "100").start(&world);
        // A few INVITEs fit; the queue drops the others and says so.
        netns::narrow(server.at.ip(), "256kbit", 3_000);
        all_answered(&world, &node, 30, 0);
        counted(&node, "no_buffers");
    }
}

#[test]
fn a_full_send_buffer_is_counted_and_retransmission_covers() {
    if netns::inside("network::a_full_send_buffer_is_counted_and_retransmission_covers") {
        let world = World::beside("eagain");
        let server = insisting(world.addr(11, 5060));
        let node = Setup::new(&world).t1(500).group("MCP", PATIENT, &[server.at], "1000").start(&world);
        // The queue holds more than the buffer of the socket may owe it.
        netns::narrow(server.at.ip(), "24mbit", 64 << 20);
        all_answered(&world, &node, 200, 55_000);
        counted(&node, "would_block");
    }
}

#[test]
fn a_packet_forbidden_now_and_then_is_counted_and_retransmission_covers() {
    if netns::inside("network::a_packet_forbidden_now_and_then_is_counted_and_retransmission_covers") {
        let world = World::beside("eperm-net");
        let server = insisting(world.addr(11, 5060));
        let node = Setup::new(&world).group("MCP", PATIENT, &[server.at], "100").start(&world);
        netns::forbid(server.at.ip(), 10);
        all_answered(&world, &node, 30, 0);
        counted(&node, "not_permitted");
    }
}

/// Places so many calls at once, their INVITEs with a body of so many octets, and repeats what nobody has answered
/// (RFC 3261 §17.1.1.2); all of them must be answered 200.
#[track_caller]
fn all_answered(world: &World, node: &Node, count: usize, octets: usize) {
    let udp = Udp::bind(world.addr(100, 5060));
    let body = "x".repeat(octets);
    let calls: BTreeMap<String, Call> =
        (0..count).map(|_| Call::new(udp.at, node.sip)).map(|call| (call.id.clone(), call)).collect();
    let (mut heard, mut answered) = (BTreeSet::new(), BTreeSet::new());
    let end = Instant::now() + 3 * SOON;
    while answered.len() < count {
        assert!(Instant::now() < end, "{} of {count} answered, {} heard of", answered.len(), heard.len());
        for (_, call) in calls.iter().filter(|(id, _)| !heard.contains(*id)).collect::<Vec<_>>() {
            udp.send(node.sip, call.invite_with("", &body));
            // Room in the receive buffer of the node.
            collect(&udp, Duration::from_millis(1), &mut heard, &mut answered);
        }
        collect(&udp, Duration::from_millis(500), &mut heard, &mut answered);
    }
    assert_eq!(node.metrics().sum("tandem_ports_in_use"), count as f64);
}

/// Notes whose answers come until nothing has come for so long.
fn collect(udp: &Udp, patience: Duration, heard: &mut BTreeSet<String>, answered: &mut BTreeSet<String>) {
    while let Some((octets, _)) = udp.octets(patience) {
        let Some(message) = Message::read(&octets) else { continue };
        heard.insert(message.call_id().to_owned());
        if message.answers(200, "INVITE") {
            answered.insert(message.call_id().to_owned());
        }
    }
}

/// A media server that repeats its 200 as one does that gets no ACK (RFC 3261 §13.3.1.4).
fn insisting(at: SocketAddr) -> Mcp {
    let insist = move |message: &Message, _: SocketAddr| match message.method() {
        "INVITE" => {
            [0, 500, 1_500, 3_500, 7_500].map(|ms| (Duration::from_millis(ms), mcp::reply(message, at, 200))).into()
        }
        _ => mcp::answer(message, at),
    };
    Mcp::start(at, Box::new(insist))
}

/// So could nothing but this be sent, and nobody was told: it was tried again, in time.
#[track_caller]
fn counted(node: &Node, cause: &str) {
    let metrics = node.metrics();
    let refused = metrics.labelled("tandem_send_errors_total", &format!("cause=\"{cause}\""));
    println!("{cause}: {refused}");
    assert!(refused >= 1.0, "{metrics:?}");
    assert_eq!(metrics.sum("tandem_send_errors_total"), refused);
    assert_eq!((metrics.sum("tandem_retries_total"), metrics.sum("tandem_transport_errors_total")), (0.0, 0.0));
}
