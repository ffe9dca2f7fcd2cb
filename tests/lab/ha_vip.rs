//! The address: a frozen node, a dead cable, an address that somebody deletes, a stranger who uses it, a dead guard.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rustix::process::Signal;

use crate::rig::call::Call;
use crate::rig::lan::{self, Host};
use crate::rig::load::{Answering, Load};
use crate::rig::mcp::Mcp;
use crate::rig::node::{Node, Setup};
use crate::rig::pair::{CALLER, PATIENCE, Pair, Plan, SERVERS, VIP, WATCHER, sip};
use crate::rig::poll::until_true;
use crate::rig::udp::Udp;
use crate::rig::watch::{Asker, Frame, Watch};
use crate::rig::world::World;

/// A pair and somebody who asks for its address all the time.
fn asked<'w>(world: &'w World) -> Option<(Pair<'w>, Watch, Asker)> {
    let pair = Plan::new(world, "10")?.start(world);
    let watch = Watch::over(&pair.field.watcher);
    let asker = Asker::start(&pair.field.watcher, "eth0", VIP);
    let heard = || watch.answers(VIP).len() >= 3;
    until_true("answers for the address", PATIENCE, heard);
    Some((pair, watch, asker))
}

/// Waits until node `n` answers for the address.
fn until_answered_by(pair: &Pair<'_>, watch: &Watch, n: usize) {
    let mac = pair.field.nodes[n].mac("eth0");
    pair.wait("answers of the new holder", || watch.answers(VIP).last().is_some_and(|(_, m)| *m == mac).then_some(()));
}

/// Removes `address` from `eth0`, however long its prefix is.
fn delete(host: &Host, address: Ipv4Addr) {
    let shown = host.ip("-o -4 addr show dev eth0");
    let of_it = |word: &&str| word.split('/').next() == Some(address.to_string().as_str());
    let with_prefix = shown.split_whitespace().find(of_it).expect("the address").to_owned();
    host.ip(&format!("addr del {with_prefix} dev eth0"));
}

#[test]
fn a_frozen_node_gives_the_address_up_before_the_other_takes_it() {
    let world = World::new("ha-frozen");
    let Some((mut pair, watch, _asker)) = asked(&world) else { return };
    let rounds: u32 = if std::env::var_os("TANDEM_LAB_FULL").is_some() { 20 } else { 3 };
    for round in 1..=rounds {
        let active = pair.until_armed();
        pair.nodes[active].process.signal("STOP");
        pair.until_active(1 - active);
        until_answered_by(&pair, &watch, 1 - active);
        assert!(!pair.field.nodes[active].holds(VIP), "its guard has taken the address away");
        pair.nodes[active].process.signal("CONT");
        pair.until_role(active, "standby");
        assert_eq!(pair.until_armed(), 1 - active, "it yields and does not come back");
        watch.assert_one_holder(VIP, 1 + round as usize);
        assert!(pair.nodes[active].process.ended().is_none());
    }
}

/// It came in before its guard took the address away, and the takeover was later.
#[test]
fn what_a_frozen_node_had_not_read_is_discarded_when_it_goes_on() {
    let world = World::new("ha-unread-calls");
    let Some(plan) = Plan::new(&world, "100") else { return };
    let servers = SERVERS.map(|ip| plan.field.servers.within(|| Mcp::answering(sip(ip))));
    let caller = plan.field.callers.within(|| Udp::bind(sip(CALLER)));
    let pair = plan.start(&world);
    let active = pair.until_armed();
    let node = &pair.nodes[active];
    let mut call = Call::new(caller.at, sip(VIP));
    caller.send(sip(VIP), call.invite());
    call.established(&caller.answer(200, "INVITE"));
    caller.send(sip(VIP), call.ack());
    let came = |id: &str, method: &str| {
        let seen = servers.iter().flat_map(Mcp::seen);
        seen.filter(|seen| seen.message.call_id() == id && seen.message.asks(method)).count()
    };
    until_true("the ACK", PATIENCE, || came(&call.id, "ACK") > 0);
    pair.until_equal();
    caller.drain();

    let bye = call.next("BYE");
    let calls: Vec<Call> = (0..20).map(|_| Call::new(caller.at, sip(VIP))).collect();
    let invites: Vec<String> = calls.iter().map(Call::invite).collect();
    let discarded = |node: &Node| node.metrics().sum("tandem_stale_messages_total");
    let before = discarded(node);
    lan::signal(node.process.pid(), Signal::STOP);
    caller.send(sip(VIP), &bye);
    invites.iter().for_each(|invite| caller.send(sip(VIP), invite));
    pair.until_active(1 - active);
    lan::signal(node.process.pid(), Signal::CONT);
    let unread = pair.wait("what is discarded", || Some(discarded(node) - before).filter(|unread| *unread > 0.0));
    println!("{unread} of 21 messages were in its sockets");
    assert_eq!(pair.until_armed(), 1 - active);
    assert_eq!(came(&call.id, "BYE"), 0, "an old BYE went on");
    assert_eq!(calls.iter().map(|call| came(&call.id, "INVITE")).sum::<usize>(), 0, "an old INVITE went on");
    assert!(caller.drain().is_empty(), "an old request was answered");
    // Their senders repeat them, and the survivor has them once.
    caller.send(sip(VIP), &bye);
    caller.answer(200, "BYE");
    caller.send(sip(VIP), &invites[0]);
    caller.answer(200, "INVITE");
    assert_eq!([came(&call.id, "BYE"), came(&calls[0].id, "INVITE")], [1, 1]);
}

#[test]
fn a_killed_node_leaves_no_second_holder() {
    let world = World::new("ha-killed");
    let Some((mut pair, watch, _asker)) = asked(&world) else { return };
    for round in 1..=3 {
        let active = pair.until_armed();
        pair.crash(active);
        pair.until_active(1 - active);
        until_answered_by(&pair, &watch, 1 - active);
        pair.revive(active);
        assert_eq!(pair.until_armed(), 1 - active);
        watch.assert_one_holder(VIP, 1 + round);
    }
}

#[test]
fn a_hand_over_has_one_holder_at_a_time() {
    let world = World::new("ha-planned");
    let Some((pair, watch, _asker)) = asked(&world) else { return };
    for round in 1..=4 {
        let active = pair.until_armed();
        pair.switch_over(active);
        until_answered_by(&pair, &watch, 1 - active);
        assert_eq!(pair.until_armed(), 1 - active);
        watch.assert_one_holder(VIP, 1 + round);
    }
}

#[test]
fn a_pulled_cable_moves_the_address_and_it_stays_there() {
    let world = World::new("ha-cable");
    let Some((pair, watch, _asker)) = asked(&world) else { return };
    let active = pair.until_armed();
    pair.field.cables[active].cut();
    pair.until_active(1 - active);
    until_answered_by(&pair, &watch, 1 - active);
    // Its own network tells the other that it lives: it yields by itself.
    pair.until_role(active, "standby");
    pair.field.cables[active].heal();
    assert_eq!(pair.until_armed(), 1 - active);
    watch.assert_one_holder(VIP, 2);
}

#[test]
fn a_node_that_starts_without_its_cable_is_not_the_one_to_be_active() {
    let world = World::new("ha-dark");
    let Some(plan) = Plan::new(&world, "10") else { return };
    // Of two that are alike, the lower id is chosen.
    plan.field.cables[0].cut();
    let pair = plan.launch(&world);
    pair.until_active(1);
    pair.until_role(0, "standby");
    pair.wait("a warning that names the interface", || told(&pair.nodes[0], "eth0 has no link").then_some(()));
    assert!(pair.nodes.iter().all(|node| !node.armed()), "a failure now would lose calls");
    pair.field.cables[0].heal();
    assert_eq!(pair.until_armed(), 1);
}

#[test]
fn a_network_that_falls_silent_behind_a_living_carrier_moves_the_address() {
    let world = World::new("ha-silent-net");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let refer = |mut setup: Setup| {
        setup.cluster.push_str(&format!("reference-points = [\"{WATCHER}\"]\n"));
        setup.t1(500)
    };
    let pair = plan.both(refer).start(&world);
    let active = pair.until_armed();
    let load = Load::start(&world, &pair.field.callers, CALLER, 60, 20, Duration::from_secs(2));
    until_true("calls", PATIENCE, || load.begun() >= 20);
    pair.field.cables[active].deaden();
    // The kernel believes what it knows of its neighbours for up to a minute.
    pair.field.nodes[active].ip("neigh flush dev eth0");
    pair.until_active(1 - active);
    pair.until_role(active, "standby");
    load.assert_lossless(Duration::from_secs(60));
    pair.until_idle();
    servers.assert_all(60);
}

#[test]
fn a_host_that_is_gone_from_every_network() {
    let world = World::new("ha-host");
    let Some((pair, watch, _asker)) = asked(&world) else { return };
    let active = pair.until_armed();
    let cables = [&pair.field.cables[active], &pair.field.seconds[active]];
    cables.iter().for_each(|cable| cable.cut());
    pair.until_active(1 - active);
    until_answered_by(&pair, &watch, 1 - active);
    cables.iter().for_each(|cable| cable.heal());
    assert_eq!(pair.until_armed(), 1 - active);
    // Healed, both answer until the first beat of the other one is heard; who stays is who counts.
    until_answered_by(&pair, &watch, 1 - active);
    assert!(!pair.field.nodes[active].holds(VIP), "one holder is left");
}

#[test]
fn a_deleted_address_is_put_back() {
    let world = World::new("ha-deleted");
    let Some((pair, watch, _asker)) = asked(&world) else { return };
    let active = pair.until_armed();
    let epoch = pair.nodes[active].epoch();
    delete(&pair.field.nodes[active], VIP);
    lan::until_held(&pair.field.nodes[active], VIP);
    let told = || told(&pair.nodes[active], &VIP.to_string());
    until_true("a warning that names the address", PATIENCE, told);
    assert_eq!((pair.until_armed(), pair.nodes[active].epoch()), (active, epoch), "no takeover");
    let before = watch.answers(VIP).len();
    until_true("answers again", PATIENCE, || watch.answers(VIP).len() > before);
    watch.assert_one_holder(VIP, 1);
}

/// Whether a warning of the node names this.
fn told(node: &Node, what: &str) -> bool {
    node.log().lines().any(|line| line.contains("WARN") && line.contains(what))
}

#[test]
fn a_stranger_with_the_address_is_named_and_gets_nothing() {
    let world = World::new("ha-stranger");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let pair = plan.start(&world);
    let active = pair.until_armed();
    let epoch = pair.nodes[active].epoch();
    let watch = Watch::over(&pair.field.callers);
    let stranger = &pair.field.watcher;
    stranger.ip(&format!("addr add {VIP}/32 dev eth0"));
    // A datagram that leaves with the address as its source: the kernel asks for its target in that name.
    let uses = stranger.within(|| Udp::bind(SocketAddr::from((VIP, 0))));
    stranger.ip("neigh flush all");
    uses.try_send(SocketAddr::from((CALLER, 9)), "\r\n");
    let mac = stranger.mac("eth0");
    pair.wait("an alarm that names the stranger", || told(&pair.nodes[active], &mac).then_some(()));
    let own = pair.field.nodes[active].mac("eth0");
    let announced = |(_, frame): &(std::time::Instant, Frame)| matches!(frame, Frame::ArpRequest { sender: VIP, target: VIP, mac } if *mac == own);
    until_true("the address announced again", PATIENCE, || watch.seen().iter().any(announced));
    assert_eq!(pair.active(), Some(active), "it yields to no stranger");
    let lines = pair.nodes[active].log().lines().filter(|line| line.contains(&mac)).count();
    assert!(lines <= 5, "the alarm does not repeat itself by the frame: {lines}");
    stranger.ip(&format!("addr del {VIP}/32 dev eth0"));
    assert_eq!((pair.until_armed(), pair.nodes[active].epoch()), (active, epoch));
}

#[test]
fn a_stranger_with_the_address_does_not_stop_the_takeover_of_a_host_that_is_gone() {
    let world = World::new("ha-stranger-stays");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let pair = plan.start(&world);
    let active = pair.until_armed();
    let stranger = &pair.field.watcher;
    stranger.ip(&format!("addr add {VIP}/32 dev eth0"));
    // In this order there is no path left over which it could hand over.
    [&pair.field.seconds[active], &pair.field.cables[active]].iter().for_each(|cable| cable.cut());
    pair.until_active(1 - active);
    let mac = stranger.mac("eth0");
    pair.wait("an alarm that names the stranger", || told(&pair.nodes[1 - active], &mac).then_some(()));
}

#[test]
fn a_dead_guard_is_a_hand_over() {
    let world = World::new("ha-guard");
    let Some((mut pair, watch, _asker)) = asked(&world) else { return };
    let active = pair.until_armed();
    let main = pair.nodes[active].process.pid();
    let others: Vec<u32> = pair.field.nodes[active].pids().into_iter().map(|pid| pid.unsigned_abs()).collect();
    let guards: Vec<u32> = others.into_iter().filter(|pid| *pid != main).collect();
    assert_eq!(guards.len(), 1, "one process beside the main one");
    lan::kill(guards[0]);
    pair.until_active(1 - active);
    until_answered_by(&pair, &watch, 1 - active);
    assert_eq!(pair.nodes[active].process.ended(), None, "the main process lives");
}

#[test]
fn a_killed_process_refuses_nothing() {
    let world = World::new("ha-silent");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let mut pair = plan.start(&world);
    let watch = Watch::over(&pair.field.callers);
    let caller = pair.field.callers.within(|| Udp::bind(sip(CALLER)));
    let active = pair.until_armed();
    pair.crash(active);
    // Somebody sends all the time; nobody's kernel may say that there is no socket.
    until_true("the other node active", PATIENCE, || {
        caller.try_send(sip(VIP), "\r\n\r\n");
        caller.octets(Duration::from_millis(1));
        pair.nodes[1 - active].role().as_deref() == Some("active")
    });
    for _ in 0..300 {
        caller.try_send(sip(VIP), "\r\n\r\n");
        caller.octets(Duration::from_millis(2));
    }
    watch.assert_no_icmp_to(CALLER);
}
