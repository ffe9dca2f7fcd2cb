//! What the kernel refuses: unreachable ports, forbidden packets, overflowing buffers.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::Command;

use crate::rig::call::{self, Call};
use crate::rig::mcp::Mcp;
use crate::rig::message::Message;
use crate::rig::netns;
use crate::rig::node::{Metrics, Node, Setup};
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// Long enough that only the kernel's word, never a timeout, can explain a quick retry.
const PATIENT: &str = "monitor-method = \"none\"\nfirst-response-timeout = \"25s\"";

#[test]
fn an_unreachable_port_is_told_by_icmp_and_the_next_server_is_tried() {
    let world = World::new("icmp");
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
    let world = World::new("eperm");
    let walled = Mcp::answering(world.addr(11, 5060));
    let server = Mcp::answering(world.addr(12, 5060));
    let Some(wall) = Wall::before(&world, &walled) else {
        println!("nft: ABSENT");
        return;
    };
    let node = Setup::new(&world).group("MCP", PATIENT, &[walled.at, server.at], "10").start(&world);
    let udp = Udp::bind(world.addr(100, 5060));
    for _ in 0..2 {
        let call = Call::new(udp.at, node.sip);
        udp.send(node.sip, call.invite());
        udp.expect("200", |m| m.call_id() == call.id && m.answers(200, "INVITE"));
    }
    drop(wall);
    let metrics = node.metrics();
    assert!(metrics.labelled("tandem_send_errors_total", "cause=\"not_permitted\"") >= 1.0, "{metrics:?}");
    assert_eq!(metrics.ports(server.at), 2.0);
    assert!(walled.requests("INVITE").is_empty());
}

#[test]
fn an_overflowing_receive_buffer_is_counted_and_the_next_message_is_served() {
    let world = World::new("overflow");
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
        let world = World::new("enobufs");
        let server = Mcp::answering(world.addr(11, 5060));
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
        let world = World::new("eagain");
        let server = Mcp::answering(world.addr(11, 5060));
        let node = Setup::new(&world).t1(500).group("MCP", PATIENT, &[server.at], "1000").start(&world);
        // The queue holds more than the buffer of the socket may owe it.
        netns::narrow(server.at.ip(), "80mbit", 64 << 20);
        all_answered(&world, &node, 250, 55_000);
        counted(&node, "would_block");
    }
}

#[test]
fn a_packet_forbidden_now_and_then_is_counted_and_retransmission_covers() {
    if netns::inside("network::a_packet_forbidden_now_and_then_is_counted_and_retransmission_covers") {
        let world = World::new("eperm-net");
        let server = Mcp::answering(world.addr(11, 5060));
        let node = Setup::new(&world).group("MCP", PATIENT, &[server.at], "100").start(&world);
        netns::forbid(server.at.ip(), 3);
        all_answered(&world, &node, 30, 0);
        counted(&node, "not_permitted");
    }
}

/// Places so many calls at once, their INVITEs with a body of so many octets; all of them must be answered 200.
#[track_caller]
fn all_answered(world: &World, node: &Node, count: usize, octets: usize) {
    let udp = Udp::bind(world.addr(100, 5060));
    let body = "x".repeat(octets);
    let answered = RefCell::new(BTreeSet::new());
    let hear = |wanted: &dyn Fn(&Message) -> bool| {
        udp.expect("an answer", |m| {
            if m.answers(200, "INVITE") {
                answered.borrow_mut().insert(m.call_id().to_owned());
            }
            wanted(m)
        });
    };
    for _ in 0..count {
        let call = Call::new(udp.at, node.sip);
        udp.send(node.sip, call.invite_with("", &body));
        // Handled, so that its socket has room for the next one.
        hear(&|m| m.call_id() == call.id && m.answers(100, "INVITE"));
    }
    while answered.borrow().len() < count {
        hear(&|m| m.answers(200, "INVITE"));
    }
    assert_eq!(node.metrics().sum("tandem_ports_in_use"), count as f64);
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

/// A rule that makes `sendmsg` to one address fail with EPERM; gone when dropped.
struct Wall {
    table: String,
}

impl Wall {
    /// `None` where there is no nft, or no right to use it.
    fn before(world: &World, server: &Mcp) -> Option<Wall> {
        let wall = Wall { table: format!("tandem_lab_{}", std::process::id()) };
        let (table, to) = (&wall.table, server.at.ip());
        let rules = format!(
            "table inet {table} {{ chain out {{ type filter hook output priority 0; ip daddr {to} drop; }} }}\n"
        );
        let file = world.write("wall.nft", &rules);
        let set = Command::new("nft").arg("-f").arg(file).output();
        set.is_ok_and(|output| output.status.success()).then_some(wall)
    }
}

impl Drop for Wall {
    fn drop(&mut self) {
        let _ = Command::new("nft").args(["delete", "table", "inet", &self.table]).status();
    }
}
