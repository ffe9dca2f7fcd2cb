//! Floods of every kind from strangers while known callers go on: no call lost, no amplification, a quiet log.

use std::net::SocketAddr;

use crate::rig::call::Call;
use crate::rig::mcp;
use crate::rig::message::Message;
use crate::rig::node::Node;
use crate::rig::traffic::Traffic;
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// Datagrams of one flood; sent as fast as one thread can, in bursts that a socket buffer holds.
const FLOOD: usize = 10_000;
const BURST: usize = 50;

/// The n-th datagram of a flood from `me` to `node`.
type Kind = fn(usize, SocketAddr, SocketAddr) -> Vec<u8>;

#[test]
fn floods_cost_no_call_and_answer_with_no_more_than_they_brought() {
    let world = World::new("flood");
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

/// Octets sent and octets that came back.
fn flood(node: &Node, stranger: &Udp, kind: Kind) -> (usize, usize) {
    let (mut sent, mut heard) = (0, 0);
    let mut listen = |patience| {
        while let Some((octets, _)) = stranger.octets(patience) {
            heard += octets.len();
        }
    };
    for n in 0..FLOOD {
        let octets = kind(n, stranger.at, node.sip);
        sent += octets.len();
        stranger.send(node.sip, octets);
        if n % BURST == 0 {
            listen(std::time::Duration::from_millis(1));
        }
    }
    listen(std::time::Duration::from_millis(500));
    (sent, heard)
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
