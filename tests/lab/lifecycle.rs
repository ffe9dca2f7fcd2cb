//! Start, stop and restart: what systemd, callers and calls notice of them.

use std::os::unix::net::UnixDatagram;

use crate::rig::call::{self, Call};
use crate::rig::http;
use crate::rig::mcp::Mcp;
use crate::rig::message::Message;
use crate::rig::node::{Node, Setup};
use crate::rig::poll::{SOON, until, until_true};
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// A call from the first caller of the world, answered and acknowledged.
fn answered(udp: &Udp, node: &Node) -> Call {
    let mut call = Call::new(udp.at, node.sip);
    udp.send(node.sip, call.invite());
    let answer = udp.expect("200", |m| m.call_id() == call.id && m.answers(200, "INVITE"));
    call.established(&answer);
    udp.send(node.sip, call.ack());
    call
}

fn one_server(name: &str, proxy: &str) -> (World, Mcp, Setup) {
    let world = World::beside(name);
    let server = Mcp::answering(world.addr(11, 5060));
    let setup = Setup::new(&world).members(&[server.at], "10").proxy(proxy);
    (world, server, setup)
}

#[test]
fn systemd_hears_of_readiness_watchdog_reload_and_stop() {
    let (world, _server, mut setup) = one_server("notify", "");
    let path = world.path("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket as systemd has it");
    systemd.set_read_timeout(Some(SOON)).expect("a timeout");
    let mut heard = String::new();
    let mut hear = |wanted: &str| {
        until_true(wanted, SOON, || {
            let mut text = [0; 4_096];
            let len = systemd.recv(&mut text).expect("a word to systemd");
            heard.push_str(&String::from_utf8_lossy(&text[..len]));
            heard.push('\n');
            heard.lines().any(|line| line.starts_with(wanted))
        });
        heard.clear();
    };
    setup.env.push(("NOTIFY_SOCKET", path.display().to_string()));
    setup.env.push(("WATCHDOG_USEC", String::from("400000")));
    // systemd names the process that is to kick.
    setup.wrapper = ["sh", "-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\""].map(str::to_owned).to_vec();
    let mut node = setup.launch(&world);
    hear("READY=1");
    // Three in a row: it goes on kicking.
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    node.process.signal("HUP");
    hear("RELOADING=1");
    hear("READY=1");
    node.process.signal("TERM");
    hear("STOPPING=1");
    assert!(node.process.wait(SOON).success());
}

#[test]
fn a_graceful_stop_refuses_new_calls_and_waits_for_those_that_live() {
    let (world, server, setup) = one_server("graceful", "drain-timeout = \"60s\"");
    let mut node = setup.start(&world);
    let udp = Udp::bind(world.addr(100, 5060));
    let mut call = answered(&udp, &node);
    udp.send(node.sip, call::options(udp.at, node.sip, 0));
    udp.answer(200, "OPTIONS");

    node.process.signal("TERM");
    until_true("readiness off", SOON, || matches!(http::get(node.admin, "/readyz"), Ok((503, _))));
    let options = until("OPTIONS tell of it", SOON, || {
        let question = Call::new(udp.at, node.sip);
        udp.send(node.sip, question.request("OPTIONS", 1, &question.branch, "", ""));
        let answer = udp.expect("an answer", |m| m.call_id() == question.id);
        Some(answer).filter(|m| m.status() == Some(503))
    });
    assert_eq!(options.all("retry-after").len(), 1, "{options:?}");
    let refused = Call::new(udp.at, node.sip);
    udp.send(node.sip, refused.invite());
    let refusal = udp.answer(503, "INVITE");
    assert_eq!(refusal.all("retry-after").len(), 1, "{refusal:?}");
    udp.send(node.sip, refused.ack_refusal(&refusal));

    udp.send(node.sip, call.next("INFO"));
    udp.answer(200, "INFO");
    assert!(node.process.ended().is_none(), "a call lives");
    udp.send(node.sip, call.next("BYE"));
    udp.answer(200, "BYE");
    assert!(node.process.wait(SOON).success());
    assert_eq!((server.requests("INVITE").len(), server.requests("BYE").len()), (1, 1));
}

#[test]
fn a_graceful_stop_ends_at_its_deadline() {
    let (world, _server, setup) = one_server("deadline", "drain-timeout = \"1s\"");
    let mut node = setup.start(&world);
    let udp = Udp::bind(world.addr(100, 5060));
    let _lives = answered(&udp, &node);
    node.process.signal("TERM");
    node.process.wait(SOON);
}

#[test]
fn a_dialog_outlives_a_crash_and_its_port_is_counted_again() {
    let (world, server, setup) = one_server("restart", "");
    let mut node = setup.start(&world);
    let udp = Udp::bind(world.addr(100, 5060));
    let mut call = answered(&udp, &node);
    let mut other = answered(&udp, &node);
    server.wait_for("both ACKs", |m| m.asks("ACK") && m.call_id() == other.id);

    node.process.crash();
    node.start_again(&world);
    assert_eq!(node.metrics().sum("tandem_calls"), 0.0, "it begins with nothing");
    udp.send(node.sip, call.next("INFO"));
    udp.expect("200 to INFO", |m| m.call_id() == call.id && m.answers(200, "INFO"));
    server.wait_for("the INFO", |m| m.asks("INFO") && m.call_id() == call.id);
    node.until("the leg built anew from its token", |m| m.sum("tandem_calls") == 1.0 && m.ports(server.at) == 1.0);
    // A BYE never rebuilds a leg.
    for dialog in [&mut other, &mut call] {
        udp.send(node.sip, dialog.next("BYE"));
        udp.expect("200 to BYE", |m| m.call_id() == dialog.id && m.answers(200, "BYE"));
    }
    assert_eq!(server.requests("BYE").len(), 2);
    node.assert_empty();
}

#[test]
fn a_token_of_another_node_is_refused() {
    let (world, server, setup) = one_server("foreign", "");
    let node = setup.start(&world);
    let udp = Udp::bind(world.addr(100, 5060));
    let mut call = answered(&udp, &node);
    server.wait_for("the ACK", |m| m.asks("ACK"));
    drop(node);
    std::fs::remove_dir_all(world.path("state")).expect("the key of the node");
    let node = Setup::new(&world).members(&[server.at], "10").start(&world);
    udp.send(node.sip, call.next("BYE"));
    udp.answer(403, "BYE");
    assert!(server.requests("BYE").is_empty());
    assert!(node.metrics().sum("tandem_forged_tokens_total") > 0.0, "{:?}", node.metrics());
    // An ACK is dropped, never answered (RFC 3261 §17.1.1.3 leaves nobody to tell).
    udp.send(node.sip, call.ack());
    udp.send(node.sip, call::options(udp.at, node.sip, 0));
    let next = udp.expect("any answer", |_| true);
    assert_eq!(next.method(), "OPTIONS");
    assert!(!server.seen().iter().skip_while(|s| !s.message.asks("ACK")).skip(1).any(|s| s.message.asks("ACK")));
}

#[test]
fn a_retransmission_is_answered_and_never_placed_twice() {
    let (world, server, setup) = one_server("again", "");
    let node = setup.start(&world);
    let udp = Udp::bind(world.addr(100, 5060));
    let mut call = Call::new(udp.at, node.sip);
    for _ in 0..3 {
        udp.send(node.sip, call.invite());
    }
    let answer = udp.answer(200, "INVITE");
    call.established(&answer);
    udp.send(node.sip, call.ack());
    let bye = call.next("BYE");
    udp.send(node.sip, &bye);
    let first: Message = udp.answer(200, "BYE");
    udp.send(node.sip, &bye);
    let second = udp.answer(200, "BYE");
    assert_eq!(first.raw, second.raw, "the same octets");
    let branches: std::collections::BTreeSet<_> =
        server.requests("INVITE").iter().map(|s| s.message.branch().to_owned()).collect();
    assert_eq!((branches.len(), server.requests("BYE").len()), (1, 1));
    node.assert_quiet();
    node.until("no call", |m| m.sum("tandem_ports_in_use") == 0.0);
}
