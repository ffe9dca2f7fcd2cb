//! The link between the nodes is slow, loses, or is not read from the other side. Calls go on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::rig::load::{Answering, Load};
use crate::rig::node::{Node, Setup};
use crate::rig::pair::{CALLER, NODES, PATIENCE, PEER_PORT, Pair, Plan, SECOND};
use crate::rig::poll::until_true;
use crate::rig::relay::Relay;
use crate::rig::tls::Authority;
use crate::rig::world::World;

/// Calls of one test.
const CALLS: u32 = 600;

/// Relays in both directions: either node may be the one that connects.
fn relays(plan: &Plan) -> [Relay; 2] {
    [0, 1].map(|n| Relay::between(&plan.field.nodes[n], &[NODES[1 - n], SECOND[1 - n]], PEER_PORT))
}

fn load(world: &World, pair: &Pair<'_>) -> Load {
    Load::start(world, &pair.field.callers, CALLER, CALLS, 100, Duration::from_secs(2))
}

#[test]
fn a_link_with_a_hundred_milliseconds_of_delay() {
    let world = World::beside("ha-delay");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let relays = relays(&plan);
    let pair = plan.both(|setup| setup.t1(500)).start(&world);
    let active = pair.until_armed();
    relays.iter().for_each(|relay| relay.delay(Duration::from_millis(100)));
    load(&world, &pair).assert_lossless(Duration::from_secs(60));
    assert!(relays.iter().map(Relay::carried).sum::<u64>() > 0, "the link goes through a relay");
    assert_eq!(pair.active(), Some(active), "no takeover");
    let unprotected = pair.nodes[active].metrics().sum("tandem_commit_unprotected_total");
    assert!(unprotected > 0.0, "what waited for longer than the cap is counted");
    relays.iter().for_each(|relay| relay.delay(Duration::ZERO));
    pair.until_armed();
    pair.until_idle();
    pair.until_equal();
    servers.assert_all(u64::from(CALLS));
}

#[test]
fn a_link_that_loses_one_packet_in_twenty() {
    let world = World::beside("ha-loss");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let pair = plan.both(|setup| setup.t1(500)).start(&world);
    let active = pair.until_armed();
    let lossy = [0, 1].map(|n| pair.field.nodes[n].lossy(PEER_PORT, 5));
    load(&world, &pair).assert_lossless(Duration::from_secs(60));
    assert_eq!(pair.active(), Some(active), "no takeover");
    drop(lossy);
    pair.until_armed();
    pair.until_idle();
    pair.until_equal();
    servers.assert_all(u64::from(CALLS));
}

/// Octets that the active node has told its standby for each call so far.
fn told_per_call(node: &Node) -> f64 {
    let metrics = node.metrics();
    metrics.sum("tandem_peer_sent_bytes_total") / metrics.sum("tandem_calls_offered_total")
}

/// A minute of calls under a fault by which nothing that the standby is told is read. What calls need themselves has
/// settled after half of it, 64*T1 (RFC 6026 §8.3): whoever kept what nobody reads would grow on.
fn unread_for_a_minute(name: &str, fault: impl Fn(&Pair<'_>, &[Relay; 2], bool)) {
    const RATE: u32 = 100;
    let world = World::beside(name);
    let Some(plan) = Plan::new(&world, "5000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let relays = relays(&plan);
    let pair = plan.both(|setup| setup.t1(500)).start(&world);
    let active = pair.until_armed();
    let (node, epoch) = (&pair.nodes[active], pair.nodes[active].epoch());
    let calls = 80 * RATE;
    let mut load = Load::start(&world, &pair.field.callers, CALLER, calls, RATE, Duration::from_secs(2));
    let begun = |seconds: u32| {
        let all = u64::from(seconds * RATE);
        until_true(&format!("{all} calls"), Duration::from_secs(90), || load.begun() >= all);
    };
    begun(5);
    let told = told_per_call(node);
    fault(&pair, &relays, true);
    pair.wait("not armed", || (!node.armed()).then_some(()));
    begun(35);
    let half = node.process.rss();
    begun(65);
    let grown = node.process.rss().saturating_sub(half);
    let unread = (told * f64::from(30 * RATE)) as u64 / 1_024;
    println!("{half} KiB, grown by {grown} KiB; the standby would have been told {unread} KiB");
    assert!(grown * 4 < unread * 3, "{grown} KiB of {unread} KiB that nobody read");
    assert!(!node.armed(), "nobody stands by");
    fault(&pair, &relays, false);
    assert_eq!(pair.until_armed(), active, "armed again, and nobody yields");
    assert!(pair.until_equal() > 0.0, "equal while calls live");
    assert!(load.goes_on(), "all of it came under load");
    load.assert_lossless(Duration::from_secs(90));
    assert_eq!(node.epoch(), epoch, "nobody claimed anything");
    pair.until_idle();
    pair.until_equal();
    servers.assert_all(u64::from(calls));
}

/// Its beats go on, and its kernel accepts connections.
#[test]
fn a_peer_that_reads_nothing_for_a_minute_costs_bounded_memory() {
    unread_for_a_minute("ha-unread", |_, relays, stall| relays.iter().for_each(|relay| relay.stall(stall)));
}

/// Nothing comes from it, and its kernel takes what is sent until its buffers are full.
#[test]
fn a_standby_that_is_frozen_for_a_minute_costs_bounded_memory() {
    unread_for_a_minute("ha-unread-frozen", |pair, _, stop| {
        let active = pair.active().expect("one of the two");
        pair.nodes[1 - active].process.signal(if stop { "STOP" } else { "CONT" });
    });
}

#[test]
fn a_cut_link_is_told_and_mended() {
    let world = World::beside("ha-cut");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let pair = plan.both(|setup| setup.t1(500)).start(&world);
    let active = pair.until_armed();
    let epoch = pair.nodes[active].epoch();
    let muted = pair.field.mute_peers();
    pair.wait("not armed", || (!pair.nodes[active].armed()).then_some(()));
    load(&world, &pair).assert_lossless(Duration::from_secs(60));
    assert_eq!(pair.active(), Some(active), "the address answers: no takeover");
    drop(muted);
    assert_eq!(pair.until_armed(), active);
    assert_eq!(pair.nodes[active].epoch(), epoch, "nobody claimed anything");
    pair.until_idle();
    pair.until_equal();
    servers.assert_all(u64::from(CALLS));
}

#[test]
fn one_path_of_two_is_enough() {
    let world = World::beside("ha-path");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let pair = plan.start(&world);
    let active = pair.until_armed();
    let epoch = pair.nodes[active].epoch();
    pair.field.seconds[0].cut();
    let told = || pair.nodes.iter().all(|node| node.log().contains("path"));
    until_true("both say that a path is silent", PATIENCE, told);
    assert_eq!(pair.until_armed(), active);
    pair.field.seconds[0].heal();
    assert_eq!((pair.until_armed(), pair.nodes[active].epoch()), (active, epoch));
}

#[test]
fn a_node_that_is_not_heard_changes_nothing_twice() {
    let world = World::beside("ha-one-way");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let pair = plan.start(&world);
    let active = pair.until_armed();
    let epoch = pair.nodes[active].epoch();
    // The standby hears nothing of the active node, which hears the standby all the time.
    let standby = &pair.field.nodes[1 - active];
    let deaf = [NODES, SECOND].map(|paths| standby.deaf_to(paths[active]));
    pair.wait("not armed", || (!pair.nodes[active].armed()).then_some(()));
    let servers = Answering::left(&world, &pair.field.servers);
    let calls = Load::start(&world, &pair.field.callers, CALLER, 100, 50, Duration::from_secs(1));
    calls.assert_lossless(Duration::from_secs(60));
    drop(deaf);
    let now = pair.until_armed();
    assert!(pair.nodes[now].epoch() <= epoch + 1.0, "one role change at most");
    pair.until_idle();
    servers.assert_all(100);
}

#[test]
fn a_link_inside_tls_carries_a_takeover() {
    let world = World::beside("ha-tls");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let ca = Authority::founded();
    let names: Vec<String> = NODES.iter().chain(&SECOND).map(ToString::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let section = ca.section(&world, &ca.issue(&names, 2090), "");
    let with_tls = |mut setup: Setup| {
        setup.cluster.push_str("peer-tls = true\n");
        setup.groups.insert_str(0, &section);
        setup.t1(500)
    };
    let mut pair = plan.both(with_tls).start(&world);
    let active = pair.until_armed();
    let load = Load::start(&world, &pair.field.callers, CALLER, 200, 50, Duration::from_secs(3));
    until_true("100 calls", PATIENCE, || load.begun() >= 100);
    pair.crash(active);
    pair.until_active(1 - active);
    pair.revive(active);
    assert_eq!(pair.until_armed(), 1 - active);
    load.assert_lossless(Duration::from_secs(60));
    pair.until_idle();
    pair.until_equal();
    servers.assert_all(200);
}

#[test]
fn a_stranger_at_the_peer_port_learns_nothing_and_disturbs_nothing() {
    let world = World::beside("ha-stranger");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let pair = plan.both(|setup| setup.t1(500)).start(&world);
    let active = pair.until_armed();
    let epoch = pair.nodes[active].epoch();
    let mut calls = load(&world, &pair);
    let mut heard = 0;
    while calls.goes_on() {
        heard += pair
            .field
            .watcher
            .within(|| NODES.iter().map(|ip| pester(SocketAddr::new((*ip).into(), PEER_PORT))).sum::<usize>());
    }
    // Each connection is shown a challenge, which says nothing of the node.
    println!("octets heard: {heard}");
    calls.assert_lossless(Duration::from_secs(60));
    assert_eq!((pair.until_armed(), pair.nodes[active].epoch()), (active, epoch), "no role changed");
    for node in &pair.nodes {
        let metrics = node.metrics();
        assert_eq!(metrics.sum("tandem_beats_refused_total"), 0.0, "the kernel keeps a stranger's datagrams away");
        assert!(metrics.sum("tandem_peer_handshakes_refused_total") >= 10.0, "who is no peer is counted");
        assert_eq!(metrics.sum("tandem_peer_frames_broken_total"), 0.0, "no stranger has a link");
    }
    pair.until_idle();
    pair.until_equal();
    servers.assert_all(u64::from(CALLS));
}

/// Datagrams and connections with octets of no meaning to a peer port; the octets that came back.
fn pester(port: SocketAddr) -> usize {
    let udp = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    for length in [0, 1, 73, 97, 200, 1_400] {
        udp.send_to(&vec![0xa5; length], port).expect("room to send");
    }
    let Ok(mut tcp) = TcpStream::connect_timeout(&port, Duration::from_secs(2)) else { return 0 };
    tcp.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let mut answer = [0; 1_024];
    let shown = tcp.read(&mut answer).unwrap_or(0);
    let _ = tcp.write_all(&[0x5a; 300]);
    shown + tcp.read(&mut answer).unwrap_or(0)
}
