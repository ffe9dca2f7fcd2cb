//! What the kernel refuses: unreachable ports, forbidden packets, overflowing buffers.

use std::process::Command;

use crate::rig::call::{self, Call};
use crate::rig::mcp::Mcp;
use crate::rig::node::{Metrics, Setup};
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
