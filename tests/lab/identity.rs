//! Requests leave from the address that their Via names, answers from the one that was asked; UDP and TCP, small and
//! large, IPv4 and IPv6 meet in one call.

use std::net::{Ipv6Addr, SocketAddr};
use std::process;
use std::time::Duration;

use crate::rig::call::Call;
use crate::rig::mcp::{Mcp, Seen};
use crate::rig::message::{parameter, sent_by};
use crate::rig::node::{NODE, Node, Setup};
use crate::rig::poll::{SOON, until};
use crate::rig::sipp::Sipp;
use crate::rig::tcp::Tcp;
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// One call through `to`, and what it must look like at both ends.
fn a_call(udp: &Udp, to: SocketAddr) -> Call {
    let mut call = Call::new(udp.at, to);
    udp.send(to, call.invite());
    let answer = udp.expect("200", |m| m.call_id() == call.id && m.answers(200, "INVITE"));
    assert_eq!(answer.all("via").len(), 1, "our own Via is gone: {answer:?}");
    let via = answer.top_via();
    assert_eq!(parameter(via, "rport"), Some(udp.at.port().to_string().as_str()), "RFC 3581 §4: {via}");
    call.established(&answer);
    udp.send(to, call.ack());
    udp.send(to, call.next("BYE"));
    udp.expect("200 to BYE", |m| m.call_id() == call.id && m.answers(200, "BYE"));
    call
}

/// Every request of the node, ACK and probe included, names its true source.
fn assert_true_sources(server: &Mcp) {
    let requests: Vec<Seen> = server.seen().into_iter().filter(|s| s.message.status().is_none()).collect();
    assert!(!requests.is_empty());
    for seen in requests {
        let via = seen.message.top_via();
        assert_eq!(sent_by(via), seen.from.to_string(), "{:?}", seen.message);
    }
}

#[test]
fn answers_come_from_the_address_that_was_asked_on_a_wildcard_listener() {
    let world = World::new("wildcard");
    let server = Mcp::answering(world.addr(11, 5060));
    let port = 20_000 + u16::try_from(process::id() % 10_000).expect("below 10,000");
    let mut setup = Setup::new(&world).group("MCP", PROBED, &[server.at], "10");
    setup.listen = vec![format!("udp:0.0.0.0:{port}")];
    let node = setup.start(&world);
    for host in [1, 2] {
        let udp = Udp::bind(world.addr(100 + host, 5060));
        let to = world.addr(host, port);
        udp.connect(to);
        a_call(&udp, to);
    }
    server.wait_for("a probe", |m| m.asks("OPTIONS"));
    assert_true_sources(&server);
    node.assert_empty();
}

#[test]
fn two_listeners_keep_their_own_names() {
    let world = World::beside("two");
    let server = Mcp::answering(world.addr(11, 5060));
    let mut setup = Setup::new(&world).group("MCP", PROBED, &[server.at], "10");
    let second = world.addr(2, 5062);
    setup.listen.push(format!("udp:{second}"));
    let node = setup.start(&world);
    let udp = Udp::bind(world.addr(100, 5060));
    a_call(&udp, node.sip);
    a_call(&udp, second);
    server.wait_for("a probe", |m| m.asks("OPTIONS"));
    assert_true_sources(&server);
    node.assert_empty();
    node.assert_quiet();
}

#[test]
fn ipv6_on_both_sides() {
    let world = World::new("six");
    let port = 30_000 + u16::try_from(process::id() % 2_000).expect("below 2,000");
    let six = |n: u16| SocketAddr::from((Ipv6Addr::LOCALHOST, port + n * 2_000));
    let server = Mcp::answering(six(1));
    let mut setup = Setup::new(&world).group("MCP", PROBED, &[server.at], "10");
    setup.listen = vec![format!("udp:{}", six(0))];
    let node = setup.start(&world);
    let udp = Udp::bind(six(2));
    a_call(&udp, six(0));
    server.wait_for("a probe", |m| m.asks("OPTIONS"));
    assert_true_sources(&server);
    node.assert_empty();
}

#[test]
fn callers_on_udp_and_media_servers_on_tcp() {
    let world = World::beside("bridge");
    let member = world.addr(11, 5060);
    let uas = Sipp::uas(&world, "uas", "uas", member).args(["-t", "t1"]).start(&world);
    let setup = Setup::new(&world).group("MCP", "monitor-method = \"none\"", &[], "1");
    let node = setup.resource(&format!("sip:{member};transport=tcp"), "port-capacity = 1000").start(&world);
    let uac = Sipp::uac(&world, "uac", "uac", world.addr(100, 5060), node.sip).calls(500, 100);
    uac.start(&world).finish(Duration::from_secs(40)).assert_all(500);
    uas.stop().assert_all(500);
    node.assert_empty();
    node.assert_quiet();
}

#[test]
fn a_message_over_the_path_mtu_takes_the_stream() {
    let world = World::beside("large");
    let small = Mcp::answering(world.addr(11, 5060));
    let large = Sipp::uas(&world, "uas", "uas", small.at).args(["-t", "t1"]).launch(&world);
    let setup = Setup::new(&world).group("MCP", "monitor-method = \"none\"", &[], "1");
    let node = setup.resource(&format!("sip:{}", small.at), "port-capacity = 10\ntcp = true").start(&world);
    until("SIPp listens beside the media server", SOON, || Tcp::try_connect(world.ip(99).into(), small.at).ok());
    let udp = Udp::bind(world.addr(100, 5060));
    let mut call = Call::new(udp.at, node.sip);
    let body = format!("v=0\r\n{}", "a=candidate:1 1 UDP 1 192.0.2.1 1 typ host\r\n".repeat(40));
    udp.send(node.sip, call.invite_with("", &body));
    let answer = udp.answer(200, "INVITE");
    call.established(&answer);
    udp.send(node.sip, call.ack());
    udp.send(node.sip, call.next("BYE"));
    udp.answer(200, "BYE");
    let score = large.stop();
    assert_eq!((score.messages("INVITE_Recv"), score.messages("BYE_Recv")), (1, 1), "{}", score.trouble);
    assert!(small.requests("INVITE").is_empty(), "not as a datagram");
    a_call(&udp, node.sip);
    assert_eq!(small.requests("INVITE").len(), 1, "small ones stay on UDP");
    node.assert_empty();
}

#[test]
fn a_stream_that_is_gone_is_opened_again_for_the_answer() {
    let world = World::beside("reopen");
    let server = Mcp::answering(world.addr(11, 5060));
    let node: Node = Setup::new(&world).members(&[server.at], "10").start(&world);
    let mut tcp = Tcp::connect(world.ip(100).into(), world.addr(NODE, 5060));
    let call = Call::over("TCP", tcp.local(), node.sip);
    tcp.send(call.invite());
    let answer = tcp.expect("200", |m| m.answers(200, "INVITE"));
    assert_eq!(answer.all("record-route").len(), 2, "one for each transport (RFC 3261 §16.6 step 4): {answer:?}");
    let routes = answer.all("record-route");
    assert!(routes[0].contains("transport=tcp") || routes[1].contains("transport=tcp"), "{routes:?}");
}

const PROBED: &str = "monitor-method = \"option\"\nmonitor-interval = \"200ms\"\nmonitor-timeout = \"200ms\"";
