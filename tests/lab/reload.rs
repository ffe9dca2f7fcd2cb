//! A reload is applied whole or refused whole.

use crate::rig::call::Call;
use crate::rig::mcp::Mcp;
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
