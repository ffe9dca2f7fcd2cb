//! A reload is applied whole or refused whole.

use std::net::SocketAddr;

use crate::rig::call::{Call, between, options};
use crate::rig::mcp::{Mcp, reply};
use crate::rig::message::Message;
use crate::rig::node::{Metrics, Node, Setup};
use crate::rig::poll::{SOON, until_true};
use crate::rig::udp::Udp;
use crate::rig::world::World;

fn call(udp: &Udp, node: &Node) -> Call {
    let mut call = Call::new(udp.at, node.sip);
    udp.send(node.sip, call.invite());
    let answer = udp.expect("200", |m| m.call_id() == call.id && m.answers(200, "INVITE"));
    call.established(&answer);
    udp.send(node.sip, call.ack());
    call
}

fn ask(udp: &Udp, call: &mut Call, method: &str) {
    udp.send(call.node(), call.next(method));
    udp.expect(&format!("200 to {method}"), |m| m.call_id() == call.id && m.answers(200, method));
}

fn reloads(metrics: &Metrics, outcome: &str) -> f64 {
    metrics.labelled("tandem_reloads_total", &format!("outcome=\"{outcome}\""))
}

#[test]
fn what_is_wrong_is_refused_with_its_line_and_changes_nothing() {
    let world = World::beside("refused");
    let server = Mcp::answering(world.addr(11, 5060));
    let node = Setup::new(&world).members(&[server.at], "10").start(&world);
    let udp = Udp::bind(world.addr(100, 5060));
    let mut lives = call(&udp, &node);
    let sound = node.config();
    let wrong = [
        ("a syntax error", sound.replace("[admin]", "[admin"), "unclosed table"),
        ("an unknown key", sound.replace("port-capacity", "port-capazity"), "port-capazity"),
        ("a new listener", sound.replace(":5060\", \"tcp", ":5069\", \"tcp"), "sip.transport"),
    ];
    for (n, (what, text, named)) in wrong.iter().enumerate() {
        assert_ne!(*text, sound, "{what}");
        node.reload_text(text);
        let refused = f64::from(u32::try_from(n + 1).expect("a few"));
        node.until(what, |m| reloads(m, "refused") == refused);
        until_true("its reason in the log", SOON, || node.log().contains(named));
        call(&udp, &node);
    }
    ask(&udp, &mut lives, "INFO");
    assert_eq!(reloads(&node.metrics(), "applied"), 0.0);
    assert_eq!(node.metrics().ports(server.at), 4.0);
}

/// What a media server that took this INVITE sends when it hangs up first.
fn bye(invite: &Message, server: SocketAddr) -> String {
    let routes: String = invite.all("record-route").iter().map(|route| format!("Route: {route}\r\n")).collect();
    format!(
        "BYE {} SIP/2.0\r\nVia: SIP/2.0/UDP {server};branch=z9hG4bKhangs-up\r\n{routes}From: {};tag=mcp\r\nTo: {}\r\n\
         Call-ID: {}\r\nCSeq: 1 BYE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
        between(invite.one("contact")),
        invite.one("to"),
        invite.one("from"),
        invite.call_id(),
    )
}

#[test]
fn a_removed_media_server_hangs_up_although_the_list_of_sources_does_not_name_it() {
    let world = World::beside("hangs-up");
    let (old, new) = (Udp::bind(world.addr(11, 5060)), Mcp::answering(world.addr(12, 5060)));
    let udp = Udp::bind(world.addr(100, 5060));
    let setup = || Setup::new(&world).proxy(&format!("sip.allow-from = [\"{}\"]", udp.at.ip()));
    let mut node = setup().members(&[old.at], "10").start(&world);
    let mut call = Call::new(udp.at, node.sip);
    udp.send(node.sip, call.invite());
    let invite = old.expect("INVITE", |m| m.asks("INVITE"));
    old.send(node.sip, reply(&invite, old.at, 200));
    call.established(&udp.expect("200", |m| m.answers(200, "INVITE")));
    udp.send(node.sip, call.ack());
    old.expect("ACK", |m| m.asks("ACK"));

    node.reload(&world, setup().members(&[new.at], "10"));
    node.until("the reload", |m| reloads(m, "applied") == 1.0);
    old.send(node.sip, bye(&invite, old.at));
    let heard = udp.expect("BYE", |m| m.asks("BYE"));
    assert_eq!(heard.call_id(), call.id);
    udp.send(node.sip, reply(&heard, udp.at, 200));
    old.expect("200 to BYE", |m| m.answers(200, "BYE"));
    assert_eq!(node.metrics().sum("tandem_stranger_datagrams_total"), 0.0);

    node.reload(&world, setup().members(&[new.at], "10"));
    node.until("the next reload", |m| reloads(m, "applied") == 2.0);
    old.send(node.sip, options(old.at, node.sip, 1));
    node.until("a stranger by now", |m| m.sum("tandem_stranger_datagrams_total") == 1.0);
    node.assert_empty();
}

#[test]
fn a_removed_media_server_drains_and_a_new_one_serves() {
    let world = World::beside("drains");
    let [old, kept, new] = [11, 12, 13].map(|host| Mcp::answering(world.addr(host, 5060)));
    let mut node = Setup::new(&world).members(&[old.at, kept.at], "10").start(&world);
    let udp = Udp::bind(world.addr(100, 5060));
    let mut calls = [call(&udp, &node), call(&udp, &node)];
    assert_eq!((old.requests("INVITE").len(), kept.requests("INVITE").len()), (1, 1));

    node.reload(&world, Setup::new(&world).members(&[kept.at, new.at], "10"));
    node.until("the reload", |m| reloads(m, "applied") == 1.0);
    let mut later = [0; 4].map(|_| call(&udp, &node));
    assert_eq!(old.requests("INVITE").len(), 1, "nothing new for the removed one");
    assert!(new.requests("INVITE").len() >= 2 && kept.requests("INVITE").len() >= 2);
    let metrics = node.metrics();
    assert_eq!(metrics.ports(old.at), 1.0, "its call is still counted");
    assert!(metrics.health(old.at, "draining"), "{metrics:?}");

    for call in &mut calls {
        ask(&udp, call, "INFO");
        ask(&udp, call, "BYE");
    }
    assert_eq!((old.requests("INFO").len(), old.requests("BYE").len()), (1, 1));
    node.until("the drained one gone", |m| !m.series().any(|(name, _)| name.contains(&format!("sip:{}\"", old.at))));
    for call in &mut later {
        ask(&udp, call, "BYE");
    }
    node.assert_empty();
}
