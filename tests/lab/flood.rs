//! Floods of every kind from strangers while known callers go on: no call lost, no amplification, a quiet log.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::rig::call::Call;
use crate::rig::mcp::{self, Mcp};
use crate::rig::message::Message;
use crate::rig::node::{FORGOTTEN, Metrics, Node, Setup};
use crate::rig::poll::SOON;
use crate::rig::tcp::Tcp;
use crate::rig::traffic::Traffic;
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// Datagrams of one flood; sent as fast as one thread can, in bursts that a socket buffer holds.
const FLOOD: usize = 10_000;
const BURST: usize = 50;
/// Between bursts: nearly nothing, or what leaves the known callers their part of a small machine (10,000 a second).
const FAST: Duration = Duration::from_millis(1);
const STEADY: Duration = Duration::from_millis(5);

/// The n-th datagram of a flood from `me` to `node`.
type Kind = fn(usize, SocketAddr, SocketAddr) -> Vec<u8>;

#[test]
fn floods_cost_no_call_and_answer_with_no_more_than_they_brought() {
    let world = World::beside("flood");
    let server = Traffic::server(&world);
    let node = Traffic::setup(&world).start(&world);
    let kinds: [(&str, Kind); 7] = [
        ("garbage", garbage),
        ("malformed", malformed),
        ("OPTIONS", options),
        ("CANCEL", cancel),
        ("BYE", bye),
        ("stray responses", stray),
        ("REGISTER", register),
    ];
    let before = node.log().lines().count();
    let mut traffic = Traffic::start(&world, server, 30);
    let mut total = (0, 0);
    for (n, (name, kind)) in kinds.into_iter().enumerate() {
        let stranger = Udp::bind(world.addr(200 + u8::try_from(n).expect("a few"), 5060));
        let (sent, heard) = flood(&node, &stranger, kind);
        // To tag, received and rport are owed to the barest of requests too: a few octets, never a multiple. A 405 owes
        // its Allow besides.
        let bound = if name == "REGISTER" { sent + sent / 8 } else { sent + sent / 20 };
        assert!(heard <= bound, "{name}: {heard} octets for {sent}");
        total = (total.0 + sent, total.1 + heard);
        println!("{name}: {sent} octets in, {heard} out");
    }
    assert!(total.1 <= total.0, "{} octets for {}", total.1, total.0);
    assert!(traffic.goes_on(), "calls were made all the while");
    traffic.assert_lossless();
    let lines = node.log().lines().count() - before;
    assert!(lines < 60, "{lines} lines in the log");
    assert!(node.metrics().sum("tandem_malformed_total") > 0.0);
    node.assert_empty();
}

#[test]
fn a_flood_of_invites_from_strangers_meets_silence_and_known_callers_notice_nothing() {
    let world = World::beside("strangers");
    let server = Traffic::server(&world);
    let known = |hosts: &str| format!("sip.allow-from = [{hosts}]");
    let callers = format!("\"{}\", \"{}\"", world.ip(100), world.ip(101));
    let mut node = Traffic::setup(&world).proxy(&known(&callers)).start(&world);
    let before = node.log().lines().count();
    let mut traffic = Traffic::start(&world, server, 30);
    let mut sent = 0;
    for host in 200..204 {
        let stranger = Udp::bind(world.addr(host, 5060));
        let (octets, heard) = burst(&node, &stranger, invite, FLOOD, STEADY);
        assert_eq!(heard, 0, "octets came back to {}", stranger.at);
        sent += octets;
    }
    // The reset may come before the connection is seen to be there.
    let stream = Tcp::try_connect(world.ip(200).into(), node.sip);
    assert!(stream.map_or(true, |mut stream| stream.closes_within(SOON)), "a stranger's connection");
    // The last burst may wait unread still.
    let counted = |m: &Metrics| (m.sum("tandem_stranger_datagrams_total"), m.sum("tandem_receive_overflow_total"));
    let metrics = node.until("every datagram counted", |m| {
        let (dropped, lost) = counted(m);
        dropped + lost >= (4 * FLOOD) as f64
    });
    let (dropped, lost) = counted(&metrics);
    println!("INVITE: {sent} octets in, 0 out; {dropped} datagrams dropped unread, {lost} by the kernel");
    assert!(dropped > 0.0, "all lost by the kernel");
    assert_eq!(metrics.labelled("tandem_streams_closed_total", "reason=\"stranger\""), 1.0);
    assert!(traffic.goes_on(), "calls were made all the while");
    traffic.assert_lossless();
    let lines = node.log().lines().count() - before;
    assert!(lines < 5, "{lines} lines in the log");

    // Who is let in by a reload is answered, and who is no longer named is not.
    let stranger = Udp::bind(world.addr(200, 5060));
    let caller = Udp::bind(world.addr(100, 5060));
    node.reload(&world, Traffic::setup(&world).proxy(&known(&format!("\"{}\"", world.ip(200)))));
    node.until("an applied reload", |m| m.labelled("tandem_reloads_total", "applied") == 1.0);
    caller.send(node.sip, crate::rig::call::options(caller.at, node.sip, 0));
    stranger.send(node.sip, crate::rig::call::options(stranger.at, node.sip, 0));
    stranger.answer(200, "OPTIONS");
    assert!(caller.drain().is_empty());
    node.assert_empty();
}

/// Without `sip.allow-from` every INVITE is a call. So a flood of them takes the ports, and new calls of known callers
/// are refused like its own; what it cannot take are calls that are there.
#[test]
fn a_flood_of_invites_takes_the_ports_but_no_call_and_answers_with_less_than_it_brought() {
    const PORTS: usize = 100;
    const CALLS: usize = 20;
    let world = World::new("invites");
    let server = Mcp::answering(world.addr(11, 5060));
    let node = Setup::new(&world).members(&[server.at], &PORTS.to_string()).start(&world);
    let caller = Udp::bind(world.addr(100, 5060));
    let mut calls: Vec<Call> = (0..CALLS).map(|_| established(&caller, &node)).collect();
    let before = (node.log().lines().count(), node.process.rss());

    let stranger = Udp::bind(world.addr(200, 5060));
    let (mut sent, mut heard) = (0, 0);
    for call in &mut calls {
        let (octets, back) = burst(&node, &stranger, invite, FLOOD / CALLS, FAST);
        (sent, heard) = (sent + octets, heard + back);
        caller.send(node.sip, call.next("INFO"));
        caller.expect("200 to INFO", |m| m.call_id() == call.id && m.answers(200, "INFO"));
    }
    let refused = Call::new(caller.at, node.sip);
    caller.send(node.sip, refused.invite());
    let refusal = caller.expect("480", |m| m.call_id() == refused.id && m.answers(480, "INVITE"));
    caller.send(node.sip, refused.ack_refusal(&refusal));
    assert_eq!((node.metrics().sum("tandem_ports_in_use"), server.most_calls()), (PORTS as f64, PORTS));
    let remembered = node.metrics().sum("tandem_transactions");
    // Refusals are remembered for 64*T1, and none may be sent again meanwhile but to who asks again.
    let end = Instant::now() + FORGOTTEN;
    while node.metrics().sum("tandem_transactions") > 0.0 && Instant::now() < end {
        heard += listen(&stranger, Duration::from_millis(200));
    }
    heard += listen(&stranger, Duration::from_millis(200));
    println!("INVITE: {sent} octets in, {heard} out; {remembered} transactions at the end");
    assert!(heard <= sent, "{heard} octets for {sent}");
    let (lines, grown) = (node.log().lines().count() - before.0, node.process.rss().saturating_sub(before.1));
    assert!(lines < 10 && grown < 64 << 10, "{lines} lines in the log, {grown} KiB more memory");
    // Those of the known caller's own requests come on top.
    assert!(remembered <= (FLOOD + PORTS + 500) as f64, "{remembered}");
    for call in &mut calls {
        caller.send(node.sip, call.next("BYE"));
        caller.expect("200 to BYE", |m| m.call_id() == call.id && m.answers(200, "BYE"));
    }
    // What it gave back takes new calls again.
    established(&caller, &node);
    node.assert_quiet();
}

fn established(caller: &Udp, node: &Node) -> Call {
    let mut call = Call::new(caller.at, node.sip);
    caller.send(node.sip, call.invite());
    let answer = caller.expect("200", |m| m.call_id() == call.id && m.answers(200, "INVITE"));
    call.established(&answer);
    caller.send(node.sip, call.ack());
    call
}

/// Octets sent and octets that came back.
fn flood(node: &Node, stranger: &Udp, kind: Kind) -> (usize, usize) {
    let (sent, heard) = burst(node, stranger, kind, FLOOD, FAST);
    (sent, heard + listen(stranger, Duration::from_millis(500)))
}

/// [`flood`] of another size and with another pause after each burst, without waiting for what still comes.
fn burst(node: &Node, stranger: &Udp, kind: Kind, count: usize, pause: Duration) -> (usize, usize) {
    let (mut sent, mut heard) = (0, 0);
    for n in 0..count {
        let octets = kind(n, stranger.at, node.sip);
        sent += octets.len();
        stranger.send(node.sip, octets);
        if n % BURST == 0 {
            heard += listen(stranger, pause);
        }
    }
    (sent, heard)
}

/// Octets that come until nothing has come for so long.
fn listen(stranger: &Udp, patience: Duration) -> usize {
    std::iter::from_fn(|| stranger.octets(patience)).map(|(octets, _)| octets.len()).sum()
}

fn invite(_: usize, me: SocketAddr, node: SocketAddr) -> Vec<u8> {
    Call::new(me, node).invite().into_bytes()
}

fn garbage(n: usize, _: SocketAddr, _: SocketAddr) -> Vec<u8> {
    let mut state = n as u64 + 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(400).collect()
}

fn malformed(n: usize, me: SocketAddr, node: SocketAddr) -> Vec<u8> {
    let invite = Call::new(me, node).invite();
    let wrong = match n % 4 {
        0 => invite.replace("Content-Length: ", "Content-Length: -"),
        1 => invite.replace("CSeq: 1 INVITE", "CSeq: INVITE"),
        2 => invite.replace("From: ", "From "),
        _ => invite.replace("\r\n\r\n", "\r\n"),
    };
    wrong.into_bytes()
}

fn options(n: usize, me: SocketAddr, node: SocketAddr) -> Vec<u8> {
    crate::rig::call::options(me, node, u32::try_from(n).unwrap_or(0)).into_bytes()
}

fn cancel(_: usize, me: SocketAddr, node: SocketAddr) -> Vec<u8> {
    Call::new(me, node).cancel().into_bytes()
}

fn bye(n: usize, me: SocketAddr, node: SocketAddr) -> Vec<u8> {
    let mut call = Call::new(me, node);
    call.next("BYE")
        .replace(&format!("To: <sip:dialog@{node}>"), &format!("To: <sip:dialog@{node}>;tag={n}"))
        .into_bytes()
}

fn stray(_: usize, me: SocketAddr, node: SocketAddr) -> Vec<u8> {
    let request = Message::read(Call::new(me, node).invite().as_bytes()).expect("a sound INVITE");
    let answer = mcp::reply(&request, me, 200);
    answer.replacen("Via: ", &format!("Via: SIP/2.0/UDP {node};branch=z9hG4bKforged\r\nVia: "), 1).into_bytes()
}

fn register(n: usize, me: SocketAddr, node: SocketAddr) -> Vec<u8> {
    Call::new(me, node).request("REGISTER", 1, &format!("z9hG4bKreg{n}"), "", "").into_bytes()
}
