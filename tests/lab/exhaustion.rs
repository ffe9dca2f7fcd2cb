//! Out of descriptors, out of tables: new work is refused, what lives goes on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use crate::rig::call::{self, Call};
use crate::rig::mcp::{self, Mcp};
use crate::rig::message::Message;
use crate::rig::node::{Metrics, Setup};
use crate::rig::poll::{SOON, until_true};
use crate::rig::tcp::Tcp;
use crate::rig::traffic::Traffic;
use crate::rig::udp::Udp;
use crate::rig::world::World;

#[test]
fn streams_leave_descriptors_for_operators() {
    let world = World::new("hoard");
    let server = Traffic::server(&world);
    let mut setup = Traffic::setup(&world);
    setup.wrapper = ["prlimit", "--nofile=64:64"].map(str::to_owned).to_vec();
    let node = setup.start(&world);
    let mut traffic = Traffic::start(&world, server, 10);
    traffic.until_it_flows();
    let from = IpAddr::V4(world.ip(200));
    let hoard: Vec<Tcp> = (0..100).filter_map(|_| Tcp::try_connect(from, node.sip).ok()).collect();
    let evicted = |m: &Metrics| m.labelled("tandem_streams_closed_total", "reason=\"evicted\"");
    let metrics = node.until("the oldest make room", |m| evicted(m) >= 68.0);
    assert_eq!(metrics.sum("tandem_accept_errors_total"), 0.0);
    assert!(traffic.goes_on());
    assert!(node.process.descriptors() < 64);
    let mut newcomer = Tcp::connect(from, node.sip);
    newcomer.send(call::options(newcomer.local(), node.sip, 1).replace("UDP", "TCP"));
    assert!(newcomer.message(SOON).is_some_and(|m| m.answers(200, "OPTIONS")));
    traffic.assert_lossless();
    drop(hoard);
}

#[test]
fn out_of_descriptors_calls_go_on_and_streams_come_back() {
    let world = World::new("fds");
    let server = Traffic::server(&world);
    let node = Traffic::setup(&world).start(&world);
    let mut traffic = Traffic::start(&world, server, 10);
    traffic.until_it_flows();
    let limit = |files: usize| {
        let (pid, files) = (node.process.pid().to_string(), format!("--nofile={files}:"));
        let done = Command::new("prlimit").args(["--pid", &pid, &files]).status();
        assert!(done.expect("prlimit").success());
    };
    let from = IpAddr::V4(world.ip(200));
    limit(node.process.descriptors() + 1);
    let hoard: Vec<Tcp> = (0..100).filter_map(|_| Tcp::try_connect(from, node.sip).ok()).collect();
    until_true("the cause and the cure", SOON, || node.log().contains("cannot accept streams: "));
    assert!(traffic.goes_on());
    let udp = Udp::bind(world.addr(102, 5060));
    udp.send(node.sip, call::options(udp.at, node.sip, 0));
    udp.answer(200, "OPTIONS");
    drop(hoard);
    limit(1_024);
    until_true("streams taken again", SOON, || {
        let Ok(mut tcp) = Tcp::try_connect(from, node.sip) else { return false };
        tcp.send(call::options(tcp.local(), node.sip, 1).replace("UDP", "TCP"));
        tcp.message(Duration::from_secs(1)).is_some_and(|m| m.answers(200, "OPTIONS"))
    });
    assert!(node.metrics().sum("tandem_accept_errors_total") > 0.0);
    traffic.assert_lossless();
    let quiet = node.log().lines().filter(|l| l.contains("descriptor") || l.contains("accept")).count();
    assert!(quiet < 20, "{quiet} lines about it");
}

#[test]
fn ringing_calls_cost_what_is_documented_and_give_it_back() {
    const CALLS: u64 = 20_000;
    let world = World::beside("memory");
    let at = world.addr(11, 5060);
    let mut invites: HashMap<String, Message> = HashMap::new();
    let script = move |message: &Message, _| match message.method() {
        "INVITE" => {
            invites.insert(message.call_id().to_owned(), message.clone());
            vec![mcp::now(mcp::reply(message, at, 180))]
        }
        "CANCEL" => {
            let ended = invites.remove(message.call_id()).map(|invite| mcp::now(mcp::reply(&invite, at, 487)));
            std::iter::once(mcp::now(mcp::reply(message, at, 200))).chain(ended).collect()
        }
        _ => mcp::answer(message, at),
    };
    let ringing = Mcp::start(at, Box::new(script));
    let node = Setup::new(&world).members(&[at], "\"unlimited\"").start(&world);
    let udp = Udp::bind(world.addr(100, 5060));
    let idle = node.process.rss();
    let calls: Vec<Call> = (0..CALLS).map(|_| Call::new(udp.at, node.sip)).collect();
    for (n, call) in calls.iter().enumerate() {
        udp.send(node.sip, call.invite());
        if n % 50 == 49 {
            udp.expect("180", |m| m.call_id() == call.id && m.answers(180, "INVITE"));
        }
    }
    node.until("all of them ringing", |m| m.sum("tandem_ringing") == CALLS as f64);
    let each = (node.process.rss().saturating_sub(idle)) * 1_024 / CALLS;
    println!("a ringing call: {each} octets");
    assert!(each < 6 * 1_024, "{each} octets for a ringing call");
    for (n, call) in calls.iter().enumerate() {
        udp.send(node.sip, call.cancel());
        if n % 50 == 49 {
            let refusal = udp.expect("487", |m| m.call_id() == call.id && m.answers(487, "INVITE"));
            udp.send(node.sip, call.ack_refusal(&refusal));
        }
    }
    node.assert_empty();
    drop(ringing);
}
