//! A load balancer in front of a node.

use std::net::IpAddr;

use crate::rig::call::Call;
use crate::rig::haproxy::haproxy;
use crate::rig::mcp::Mcp;
use crate::rig::node::Setup;
use crate::rig::poll::SOON;
use crate::rig::tcp::Tcp;
use crate::rig::world::World;

#[test]
fn streams_through_haproxy_are_those_of_their_callers() {
    let world = World::beside("haproxy");
    let server = Mcp::answering(world.addr(11, 5060));
    let (balancer, known, stranger) = (world.addr(50, 5060), IpAddr::from(world.ip(100)), IpAddr::from(world.ip(101)));
    let lines = format!("sip.allow-from = [\"{known}\"]\nsip.proxy-protocol-from = [\"{}\"]", balancer.ip());
    let node = Setup::new(&world).proxy(&lines).members(&[server.at], "10").start(&world);
    let _haproxy = haproxy(&world, balancer, node.sip);

    let mut line = Tcp::connect(known, balancer);
    let at = line.local();
    let mut call = Call::over("TCP", at, node.sip);
    line.send(call.invite().replace(&format!("SIP/2.0/TCP {at}"), "SIP/2.0/TCP caller.example.com"));
    let invite = server.wait_for("INVITE", |m| m.asks("INVITE")).message;
    let vias = invite.all("via");
    // RFC 3261 §18.2.1, RFC 3581 §4: what the balancer says of the stream.
    assert!(vias[1].contains(&format!("received={known}")), "{vias:?}");
    assert!(vias[1].contains(&format!("rport={}", at.port())), "{vias:?}");
    let answer = line.expect("200", |m| m.answers(200, "INVITE"));
    call.established(&answer);
    line.send(call.ack());
    server.wait_for("ACK", |m| m.asks("ACK"));
    line.send(call.next("BYE"));
    line.expect("200 to BYE", |m| m.answers(200, "BYE"));

    let mut other = Tcp::connect(stranger, balancer);
    other.send(Call::over("TCP", other.local(), node.sip).invite());
    assert!(other.closes_within(SOON));
    // Around the balancer, and without a word of whose it is.
    let mut bare = Tcp::connect(balancer.ip(), node.sip);
    bare.send(Call::over("TCP", bare.local(), node.sip).invite());
    assert!(bare.closes_within(SOON));
    let metrics = node.metrics();
    let closed = |why: &str| metrics.labelled("tandem_streams_closed_total", &format!("reason=\"{why}\""));
    // The balancer may try a stream once more that is closed at once.
    assert!(closed("stranger") >= 1.0, "{}", closed("stranger"));
    assert_eq!(closed("proxy-header"), 1.0);
    assert_eq!(server.requests("INVITE").len(), 1);
    let said = format!("the load balancer {} opened a stream that does not begin with a PROXY header", balancer.ip());
    assert!(node.log().contains(&said), "{}", node.log());
    node.assert_empty();
}
