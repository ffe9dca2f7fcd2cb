//! CANCEL at each stage, octet by octet: what the media server gets, when, and under which branch.

use std::time::Duration;

use crate::rig::call::Call;
use crate::rig::mcp::{self, Mcp};
use crate::rig::message::Message;
use crate::rig::node::Setup;
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// A media server that says nothing for `silence`, then 180; that ends a cancelled INVITE with 487, or with 200 when
/// `late`, as if its answer had crossed the CANCEL.
fn server(world: &World, silence: Duration, late: bool) -> Mcp {
    let at = world.addr(11, 5060);
    let mut invite: Option<Message> = None;
    let script = move |message: &Message, _| match message.method() {
        "INVITE" if message.status().is_none() => {
            invite = Some(message.clone());
            vec![(silence, mcp::reply(message, at, 180))]
        }
        "CANCEL" => {
            let ending = if late { 200 } else { 487 };
            let answer = invite.as_ref().map(|invite| mcp::now(mcp::reply(invite, at, ending)));
            std::iter::once(mcp::now(mcp::reply(message, at, 200))).chain(answer).collect()
        }
        _ => mcp::answer(message, at),
    };
    Mcp::start(at, Box::new(script))
}

#[test]
fn before_a_provisional_response_the_cancel_is_held_back() {
    let world = World::beside("held");
    let server = server(&world, Duration::from_millis(700), false);
    let node = Setup::new(&world).members(&[server.at], "10").start(&world);
    let udp = Udp::bind(world.addr(100, 5060));
    let call = Call::new(udp.at, node.sip);
    udp.send(node.sip, call.invite());
    udp.send(node.sip, call.cancel());
    // The caller is told at once; the media server only after it has spoken (RFC 3261 §9.1).
    udp.answer(200, "CANCEL");
    assert!(server.requests("CANCEL").is_empty());
    let refusal = udp.answer(487, "INVITE");
    udp.send(node.sip, call.ack_refusal(&refusal));
    cancelled_under_one_branch(&server);
    node.assert_empty();
    node.assert_quiet();
}

#[test]
fn while_it_rings_the_cancel_leaves_at_once() {
    let world = World::beside("rings");
    let server = server(&world, Duration::ZERO, false);
    let node = Setup::new(&world).members(&[server.at], "10").start(&world);
    let udp = Udp::bind(world.addr(100, 5060));
    let call = Call::new(udp.at, node.sip);
    udp.send(node.sip, call.invite());
    udp.expect("180", |m| m.answers(180, "INVITE"));
    let first = {
        udp.send(node.sip, call.cancel());
        udp.answer(200, "CANCEL")
    };
    let refusal = udp.answer(487, "INVITE");
    udp.send(node.sip, call.ack_refusal(&refusal));
    cancelled_under_one_branch(&server);
    // A retransmitted CANCEL gets its 200 again and goes no further.
    udp.send(node.sip, call.cancel());
    assert_eq!(udp.answer(200, "CANCEL").raw, first.raw);
    assert_eq!(server.requests("CANCEL").len(), 1);
    node.assert_empty();
}

#[test]
fn an_answer_that_crosses_the_cancel_reaches_the_caller() {
    let world = World::beside("crosses");
    let server = server(&world, Duration::ZERO, true);
    let node = Setup::new(&world).members(&[server.at], "10").start(&world);
    let udp = Udp::bind(world.addr(100, 5060));
    let mut call = Call::new(udp.at, node.sip);
    udp.send(node.sip, call.invite());
    udp.expect("180", |m| m.answers(180, "INVITE"));
    udp.send(node.sip, call.cancel());
    let answer = udp.expect("200 to the INVITE", |m| m.answers(200, "INVITE"));
    call.established(&answer);
    udp.send(node.sip, call.ack());
    udp.send(node.sip, call.next("BYE"));
    udp.answer(200, "BYE");
    assert_eq!((server.requests("ACK").len(), server.requests("BYE").len()), (1, 1));
    node.assert_empty();
}

/// INVITE, CANCEL and the ACK of the refusal share branch, Request-URI and CSeq number (RFC 3261 §9.1, §17.1.1.3).
fn cancelled_under_one_branch(server: &Mcp) {
    server.wait_for("the ACK", |m| m.asks("ACK"));
    let one = |method: &str| {
        let requests = server.requests(method);
        let first = requests.first().unwrap_or_else(|| panic!("no {method}")).message.clone();
        (first.branch().to_owned(), first.uri().to_owned(), first.cseq().0)
    };
    assert_eq!(one("INVITE"), one("CANCEL"));
    assert_eq!(one("INVITE"), one("ACK"));
}
