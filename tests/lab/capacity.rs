//! `port-capacity` is never exceeded, not for an instant, as the media servers see it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::rig::call::Call;
use crate::rig::mcp::{self, Mcp};
use crate::rig::message::Message;
use crate::rig::node::Setup;
use crate::rig::udp::Udp;
use crate::rig::world::World;

#[test]
fn a_thousand_calls_at_once_on_thirty_ports() {
    let world = World::new("capacity");
    let members = [11, 12, 13].map(|host| world.addr(host, 5060));
    let slow = |at| {
        Mcp::start(
            at,
            Box::new(move |message, _| match message.method() {
                "INVITE" => {
                    // A burst may overflow a socket: as RFC 3261 §13.3.1.4 has it, the 200 comes more than once.
                    let again = [3, 4, 6, 10].map(|s| (Duration::from_secs(s), mcp::reply(message, at, 200)));
                    [mcp::now(mcp::reply(message, at, 180))].into_iter().chain(again).collect()
                }
                _ => mcp::answer(message, at),
            }),
        )
    };
    let servers = members.map(slow);
    let node = Setup::new(&world).members(&members, "10").start(&world);

    let caller = Udp::bind(world.addr(100, 5060));
    let calls: BTreeMap<String, Call> =
        (0..1_000).map(|_| Call::new(caller.at, node.sip)).map(|call| (call.id.clone(), call)).collect();
    for call in calls.values() {
        caller.send(node.sip, call.invite());
    }
    let finals = finals(&caller, &calls);
    let count = |status| finals.values().filter(|m| m.status() == Some(status)).count();
    assert_eq!((count(200), count(480), finals.len()), (30, 970, 1_000));
    for server in &servers {
        assert_eq!(server.most_calls(), 10, "on {}", server.at);
    }
    assert_eq!(node.metrics().sum("tandem_ports_in_use"), 30.0);

    // A port that a BYE gives back takes a new call, and only one.
    let (id, answer) = finals.iter().find(|(_, m)| m.status() == Some(200)).expect("an answered call");
    let mut ending = calls[id].clone();
    ending.established(answer);
    caller.send(node.sip, ending.next("BYE"));
    caller.answer(200, "BYE");
    let again = Call::new(caller.at, node.sip);
    caller.send(node.sip, again.invite());
    caller.expect("a second turn for the port", |m| m.call_id() == again.id && m.answers(180, "INVITE"));
    let refused = Call::new(caller.at, node.sip);
    caller.send(node.sip, refused.invite());
    caller.expect("480", |m| m.call_id() == refused.id && m.answers(480, "INVITE"));
    assert!(servers.iter().all(|s| s.most_calls() == 10));
}

#[test]
fn calls_above_a_lowered_limit_go_on_as_debt_and_new_ones_wait_until_it_is_paid() {
    let world = World::new("debt");
    let server = Mcp::answering(world.addr(11, 5060));
    let limited = |ports: &str| Setup::new(&world).members(&[server.at], ports);
    let mut node = limited("3").start(&world);
    let caller = Udp::bind(world.addr(100, 5060));
    let sip = node.sip;
    let invite = |status| {
        let mut call = Call::new(caller.at, sip);
        caller.send(sip, call.invite());
        let answer = caller.expect("a final", |m| m.call_id() == call.id && m.answers(status, "INVITE"));
        if status == 200 {
            call.established(&answer);
            caller.send(sip, call.ack());
        } else {
            caller.send(sip, call.ack_refusal(&answer));
        }
        call
    };
    let calls = [(); 3].map(|()| invite(200));
    node.reload(&world, limited("1"));
    node.until("two ports of debt", |m| m.sum("tandem_capacity_drift") == 2.0);
    for mut call in calls {
        invite(480);
        caller.send(sip, call.next("BYE"));
        caller.expect("200 to BYE", |m| m.call_id() == call.id && m.answers(200, "BYE"));
    }
    invite(200);
    let metrics = node.metrics();
    assert_eq!((metrics.sum("tandem_capacity_drift"), metrics.ports(server.at)), (0.0, 1.0));
}

/// Sends what the calls still owe (retransmission of unanswered INVITEs, ACKs) and collects the final answers.
fn finals(caller: &Udp, calls: &BTreeMap<String, Call>) -> BTreeMap<String, Message> {
    let mut finals = BTreeMap::new();
    let mut heard = std::collections::BTreeSet::new();
    let mut again = Instant::now() + Duration::from_secs(1);
    let end = Instant::now() + Duration::from_secs(30);
    while finals.len() < calls.len() && Instant::now() < end {
        // A burst may overflow a socket; RFC 3261 §17.1.1.2 says what a caller does then.
        if Instant::now() > again {
            for (_, call) in calls.iter().filter(|(id, _)| !heard.contains(*id)) {
                caller.send(call.node(), call.invite());
            }
            again += Duration::from_secs(1);
        }
        let Some((octets, _)) = caller.octets(Duration::from_millis(100)) else { continue };
        let Some(message) = Message::read(&octets) else { continue };
        let id = message.call_id().to_owned();
        heard.insert(id.clone());
        let call = &calls[&id];
        match message.status() {
            Some(200) => {
                let mut call = call.clone();
                call.established(&message);
                caller.send(call.node(), call.ack());
            }
            Some(300..) => caller.send(call.node(), call.ack_refusal(&message)),
            _ => continue,
        }
        finals.insert(id, message);
    }
    finals
}
