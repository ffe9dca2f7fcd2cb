//! Streams that do not behave, while known callers go on.

use std::net::IpAddr;
use std::time::Duration;

use crate::rig::call::{self, Call};
use crate::rig::node::Node;
use crate::rig::poll::until_true;
use crate::rig::tcp::Tcp;
use crate::rig::traffic::Traffic;
use crate::rig::world::World;

/// Streams of one source; the node takes up to 1,000.
const EACH: usize = 500;
const SOURCES: u8 = 6;

#[test]
fn three_thousand_slow_streams_keep_nobody_out_and_are_closed() {
    let world = World::beside("slow");
    let server = Traffic::server(&world);
    let node = Traffic::setup(&world).start(&world);
    let mut traffic = Traffic::start(&world, server, 15);
    let mut slow: Vec<Tcp> = Vec::new();
    for host in 0..SOURCES {
        let from = IpAddr::V4(world.ip(200 + host));
        slow.extend((0..EACH).map(|_| Tcp::connect(from, node.sip)));
    }
    for (n, tcp) in slow.iter_mut().enumerate() {
        tcp.send(format!("INVITE sip:slow{n}@example.com SIP/2.0\r\nVia: SIP/2.0/TCP "));
    }
    one_call_on_a_stream(&world, &node);
    assert!(traffic.goes_on(), "calls were made all the while");
    // The deadline of a begun message is 5 s; one more octet now and then buys no more time.
    let closed = |m: &crate::rig::node::Metrics| m.labelled("tandem_streams_closed_total", "reason=\"slow\"");
    until_true("all slow streams closed", Duration::from_secs(20), || {
        slow.iter_mut().step_by(7).for_each(|tcp| tcp.send("x"));
        closed(&node.metrics()) >= (EACH * usize::from(SOURCES)) as f64 * 0.99
    });
    assert!(slow.iter_mut().all(|tcp| tcp.closes_within(Duration::from_secs(5))));
    traffic.assert_lossless();
    node.until("no stream left", |m| m.sum("tandem_streams") == 0.0);
    node.assert_empty();
}

#[test]
fn resets_garbage_and_single_octets() {
    let world = World::beside("resets");
    let server = Traffic::server(&world);
    let node = Traffic::setup(&world).start(&world);
    let mut traffic = Traffic::start(&world, server, 10);
    let from = IpAddr::V4(world.ip(200));
    for n in 0..2_000 {
        let mut tcp = Tcp::connect(from, node.sip);
        match n % 4 {
            0 => {}
            1 => tcp.send("INVITE sip:x"),
            2 => tcp.send(Call::over("TCP", tcp.local(), node.sip).invite().replace("INVITE", "BYE")),
            _ => tcp.send(call::options(tcp.local(), node.sip, n)),
        }
        tcp.reset();
    }
    for n in 0..200 {
        let mut tcp = Tcp::connect(from, node.sip);
        tcp.send([0x16, 0x03, 0x01, 0x02, n, 0x01, 0x00]);
        tcp.send("GET / HTTP/1.1\r\nHost: rm\r\n\r\n");
        assert!(tcp.closes_within(Duration::from_secs(10)), "garbage costs the stream");
    }
    let mut tcp = Tcp::connect(from, node.sip);
    let invite = Call::over("TCP", tcp.local(), node.sip).request("OPTIONS", 1, "z9hG4bKone", "", "");
    invite.bytes().for_each(|octet| tcp.send([octet]));
    tcp.expect("200 to single octets", |m| m.answers(200, "OPTIONS"));
    one_call_on_a_stream(&world, &node);
    assert!(traffic.goes_on(), "calls were made all the while");
    traffic.assert_lossless();
    let metrics = node.metrics();
    for reason in ["peer", "framing", "error"] {
        let label = format!("reason=\"{reason}\"");
        assert!(metrics.labelled("tandem_streams_closed_total", &label) > 0.0, "{reason}");
    }
    node.assert_empty();
    node.assert_quiet();
}

#[test]
fn a_reader_that_stops_reading_is_closed_and_holds_no_memory() {
    let world = World::beside("deaf");
    let server = Traffic::server(&world);
    let node = Traffic::setup(&world).start(&world);
    let mut deaf = Tcp::connect(world.ip(200).into(), node.sip);
    let traffic = Traffic::start(&world, server, 5);
    // Asks and asks and never reads an answer: the outbound queue has its limit.
    let question = call::options(deaf.local(), node.sip, 0).replace("UDP", "TCP");
    deaf.shout(&question, 40_000);
    node.until("the deaf one closed", |m| m.labelled("tandem_streams_closed_total", "reason=\"full\"") == 1.0);
    traffic.assert_lossless();
}

fn one_call_on_a_stream(world: &World, node: &Node) {
    let mut tcp = Tcp::connect(world.ip(99).into(), node.sip);
    let mut call = Call::over("TCP", tcp.local(), node.sip);
    tcp.send(call.invite());
    let answer = tcp.expect("200", |m| m.answers(200, "INVITE"));
    call.established(&answer);
    tcp.send(call.ack());
    tcp.send(call.next("BYE"));
    tcp.expect("200 to BYE", |m| m.answers(200, "BYE"));
}
