//! No metric is dead: traffic of every kind moves each of them, or it is a fault metric with a test of its own.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::rig::call::{self, Call};
use crate::rig::http;
use crate::rig::mcp::{self, Mcp};
use crate::rig::message::Message;
use crate::rig::node::{Node, Setup};
use crate::rig::poll::SOON;
use crate::rig::tcp::Tcp;
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// Metrics that only a fault moves, with the lab's test that moves it; the others of the library's own list are moved
/// by its unit tests.
const MOVED_ELSEWHERE: &[(&str, &str)] = &[
    ("tandem_log_dropped_total", "sinks::a_log_that_nobody_reads"),
    ("tandem_capacity_drift", "capacity::calls_above_a_lowered_limit_go_on_as_debt_and_new_ones_wait_until_it_is_paid"),
    (
        "tandem_stranger_datagrams_total",
        "flood::a_flood_of_invites_from_strangers_meets_silence_and_known_callers_notice_nothing",
    ),
    ("tandem_accept_errors_total", "exhaustion::out_of_descriptors_calls_go_on_and_streams_come_back"),
    (
        "tandem_receive_overflow_total",
        "network::an_overflowing_receive_buffer_is_counted_and_the_next_message_is_served",
    ),
    ("tandem_pins", "tests/sim/pair/rooms.rs: keys that calls hold"),
    ("tandem_pin_moves_total", "tests/core/pins.rs: a key whose media server is down"),
    ("tandem_pin_refusals_total", "tests/core/pins.rs: a key whose media server is full"),
    ("tandem_send_errors_total", "network::a_forbidden_packet_is_counted_and_the_next_server_is_tried"),
];

#[test]
fn every_registered_metric_moves() {
    let world = World::new("metrics");
    let [good, busy, closed, mute] = [11, 12, 13, 14].map(|host| world.addr(host, 5060));
    let _servers = [Mcp::start(good, Box::new(move |m, _| obliging(m, good))), Mcp::refusing(busy, 503)];
    // Streams to it can be opened, and that is all.
    let _accepts = std::net::TcpListener::bind(mute).expect("a free address");
    let probed = "monitor-method = \"option\"\nmonitor-interval = \"200ms\"\nmonitor-timeout = \"200ms\"";
    let setup = Setup::new(&world).t1(50).group("MCP", probed, &[good, busy, closed], "50");
    let setup = setup.resource(&format!("sip:{mute};transport=tcp"), "port-capacity = 1");
    let mut node = setup.clone().start(&world);
    let udp = Udp::bind(world.addr(100, 5060));
    let moved = RefCell::new(BTreeSet::new());
    let look = |node: &Node| {
        let now = node.metrics();
        moved.borrow_mut().extend(now.series().filter(|(_, v)| *v != 0.0).map(|(name, _)| family(name).to_owned()));
    };

    for _ in 0..8 {
        answered(&udp, node.sip);
    }
    let ringing = ringing(&udp, node.sip);
    look(&node);
    cancelled(&udp, node.sip, &ringing);
    asked_again(&udp, node.sip);
    by_name(&udp, node.sip);
    oddities(&udp, node.sip);
    let _open = streams(&world, node.sip);
    look(&node);
    node.until("the closed port seen as down", |m| m.health(closed, "down"));
    node.reload_text("[");
    node.until("a refused reload", |m| m.labelled("tandem_reloads_total", "refused") == 1.0);
    node.reload(&world, setup.proxy("inactivity-lease = \"1h\""));
    node.until("an applied reload", |m| m.labelled("tandem_reloads_total", "applied") == 1.0);
    // Rare ones need a moment: probes, leases, retransmissions.
    let end = Instant::now() + Duration::from_secs(20);
    let mut dead = vec![String::new()];
    while !dead.is_empty() && Instant::now() < end {
        answered(&udp, node.sip);
        look(&node);
        dead = registered(node.admin).into_iter().filter(|name| !is_fault(name)).collect();
        dead.retain(|name| !moved.borrow().contains(name));
    }
    assert!(dead.is_empty(), "never moved: {dead:#?}");
}

#[test]
fn the_format_pleases_the_reader_that_counts() {
    let world = World::new("promtool");
    let server = Mcp::answering(world.addr(11, 5060));
    let node = Setup::new(&world).members(&[server.at], "10").start(&world);
    let (_, text) = http::get(node.admin, "/metrics").expect("metrics");
    // The model product's own names break every rule of naming.
    let ours = |line: &&str| !line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ").starts_with("rm");
    let text: String = text.lines().filter(ours).flat_map(|line| [line, "\n"]).collect();
    let check = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn();
    let Ok(mut check) = check else {
        println!("promtool: ABSENT");
        return;
    };
    check.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("a reader");
    assert!(check.wait().expect("a child").success());
}

fn family(series: &str) -> &str {
    series.split('{').next().unwrap_or(series)
}

fn is_fault(name: &str) -> bool {
    let listed = tandem::runtime::metrics::FAULT_METRICS.contains(&name);
    listed || MOVED_ELSEWHERE.iter().any(|(elsewhere, _)| *elsewhere == name)
}

/// The names of all `# TYPE` lines.
fn registered(admin: SocketAddr) -> Vec<String> {
    let (_, text) = http::get(admin, "/metrics").expect("metrics");
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|l| l.split(' ').next());
    names.map(str::to_owned).collect()
}

fn answered(udp: &Udp, node: SocketAddr) {
    let mut call = Call::new(udp.at, node);
    udp.send(node, call.invite());
    let answer = udp.expect("200", |m| m.call_id() == call.id && m.answers(200, "INVITE"));
    call.established(&answer);
    udp.send(node, call.ack());
    for method in ["INFO", "BYE"] {
        udp.send(node, call.next(method));
        udp.expect(method, |m| m.call_id() == call.id && m.answers(200, method));
    }
}

/// Answers as it is asked to: `X-Ring` only rings, `X-Name` answers from a name.
fn obliging(message: &Message, at: SocketAddr) -> Vec<(Duration, String)> {
    let asked = |header: &str| message.asks("INVITE") && !message.all(header).is_empty();
    if asked("x-ring") {
        return vec![mcp::now(mcp::reply(message, at, 180))];
    }
    if message.asks("CANCEL") {
        let refusal = mcp::reply(message, at, 487).replace("CANCEL", "INVITE");
        return vec![mcp::now(mcp::reply(message, at, 200)), mcp::now(refusal)];
    }
    let named = asked("x-name");
    let say = |text: String| if named { text.replace(&format!("ms@{at}"), "ms@localhost:5060") } else { text };
    mcp::answer(message, at).into_iter().map(|(delay, text)| (delay, say(text))).collect()
}

fn ringing(udp: &Udp, node: SocketAddr) -> Call {
    let call = Call::new(udp.at, node);
    udp.send(node, call.invite_with("X-Ring: yes\r\n", ""));
    udp.expect("180", |m| m.call_id() == call.id && m.answers(180, "INVITE"));
    call
}

fn cancelled(udp: &Udp, node: SocketAddr, call: &Call) {
    udp.send(node, call.cancel());
    udp.expect("200 to CANCEL", |m| m.call_id() == call.id && m.answers(200, "CANCEL"));
    let refusal = udp.expect("487", |m| m.call_id() == call.id && m.answers(487, "INVITE"));
    udp.send(node, call.ack_refusal(&refusal));
}

/// The INVITE of a call that rings comes again in a new transaction, and ends there.
fn asked_again(udp: &Udp, node: SocketAddr) {
    let call = Call::new(udp.at, node);
    let again = |text: String| text.replace("branch=z9hG4bK", "branch=z9hG4bKagain");
    udp.send(node, call.invite_with("X-Ring: yes\r\n", ""));
    udp.expect("180", |m| m.call_id() == call.id && m.answers(180, "INVITE"));
    udp.send(node, again(call.invite_with("X-Ring: yes\r\n", "")));
    let merged = udp.expect("482", |m| m.call_id() == call.id && m.answers(482, "INVITE"));
    udp.send(node, call.ack_refusal(&merged));
    udp.send(node, again(call.cancel()));
    let refusal = udp.expect("487", |m| m.call_id() == call.id && m.answers(487, "INVITE"));
    udp.send(node, again(call.ack_refusal(&refusal)));
}

/// A call whose next hop is a name.
fn by_name(udp: &Udp, node: SocketAddr) {
    let mut call = Call::new(udp.at, node);
    udp.send(node, call.invite_with("X-Name: yes\r\n", ""));
    let answer = udp.expect("200", |m| m.call_id() == call.id && m.answers(200, "INVITE"));
    call.established(&answer);
    udp.send(node, call.ack());
}

/// What is refused, dropped or answered by the node itself.
fn oddities(udp: &Udp, node: SocketAddr) {
    udp.send(node, "\r\n\r\n");
    let call = || Call::new(udp.at, node);
    udp.send(node, call().invite().replace("CSeq: 1", "CSeq: x"));
    udp.expect("400", |m| m.status() == Some(400));
    udp.send(node, call().invite().replace("Max-Forwards: 70", "Max-Forwards: 0"));
    udp.expect("483", |m| m.status() == Some(483));
    udp.send(node, call().request("REGISTER", 1, "z9hG4bKreg", "", ""));
    udp.expect("405", |m| m.answers(405, "REGISTER"));
    let mut stray = call();
    udp.send(node, stray.next("BYE").replace(">\r\nCall-ID", ">;tag=x\r\nCall-ID"));
    udp.expect("481", |m| m.answers(481, "BYE"));
    let forged = format!("Route: <sip:AAAA@{node};lr>\r\n");
    let bye =
        stray.next("BYE").replace(">\r\nCall-ID", ">;tag=x\r\nCall-ID").replace("From: ", &format!("{forged}From: "));
    udp.send(node, bye);
    udp.expect("403", |m| m.answers(403, "BYE"));
    let request = Message::read(call().invite().as_bytes()).expect("a sound INVITE");
    let via = format!("Via: SIP/2.0/UDP {node};branch=z9hG4bKforged\r\nVia: ");
    udp.send(node, mcp::reply(&request, udp.at, 200).replacen("Via: ", &via, 1));
    udp.send(node, call::options(udp.at, node, 1));
    udp.answer(200, "OPTIONS");
}

/// Requests and noise over streams; one stays open.
fn streams(world: &World, node: SocketAddr) -> Tcp {
    let mut tcp = Tcp::connect(world.ip(101).into(), node);
    tcp.send(call::options(tcp.local(), node, 2).replace("UDP", "TCP"));
    tcp.expect("200", |m| m.answers(200, "OPTIONS"));
    let mut garbage = Tcp::connect(world.ip(101).into(), node);
    garbage.send("GET / HTTP/1.1\r\n\r\n");
    assert!(garbage.closes_within(SOON));
    tcp
}
