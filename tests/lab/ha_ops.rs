//! The pair as operators see and order it: status and health on both nodes, orders, and every metric of a pair.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use tandem::agent::media_server::Behaviour;
use tandem::runtime::metrics::pair_families;

use crate::rig::actor;
use crate::rig::call::{self, Call};
use crate::rig::node::Node;
use crate::rig::pair::{CALLER, NODES, PATIENCE, PEER_PORT, Pair, Plan, SECOND, SERVERS, VIP, WATCHER, sip};
use crate::rig::poll::until_or;
use crate::rig::relay::Relay;
use crate::rig::tcp::Tcp;
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// Metrics of a pair that this test does not move, with the one that does.
const MOVED_ELSEWHERE: &[(&str, &str)] = &[
    ("tandem_buckets_diverged_total", "tests/sim/pair: what two active nodes wrote, and a lane that missed something"),
    ("tandem_beat_floods_total", "runtime::beat: a flooded socket rests"),
    ("tandem_beats_unsent_total", "runtime::beat: a path that does not exist"),
    ("tandem_lane_overflows_total", "node::gate: a lane that nobody empties"),
    ("tandem_peer_frames_broken_total", "runtime::link: a frame that was damaged under way"),
    ("tandem_peer_frames_skipped_total", "tests/core/link.rs: kinds of a later version"),
    ("tandem_peer_frames_unsent_total", "runtime::link: frames without a link"),
    ("tandem_records_without_room_total", "node::shard: a call of the peer without room here"),
    ("tandem_witness_reachable", "ha_witness: both nodes, while they reach it and while they do not"),
    ("tandem_witness_held", "ha_witness: who leads"),
    ("tandem_stale_messages_total", "node::signs: what waited while the peer took over"),
];

/// Who calls, and one call's steps.
struct Caller {
    udp: Udp,
}

impl Caller {
    fn new(pair: &Pair<'_>) -> Caller {
        Caller { udp: pair.field.callers.within(|| Udp::bind(sip(CALLER))) }
    }

    fn invite(&self) -> Call {
        let call = Call::new(self.udp.at, sip(VIP));
        self.udp.send(sip(VIP), call.invite());
        self.udp.expect("180", |m| m.call_id() == call.id && m.answers(180, "INVITE"));
        call
    }

    fn answered(&self, call: &mut Call) {
        let answer = self.udp.expect("200", |m| m.call_id() == call.id && m.answers(200, "INVITE"));
        call.established(&answer);
        self.udp.send(sip(VIP), call.ack());
    }

    fn bye(&self, mut call: Call) {
        self.udp.send(sip(VIP), call.next("BYE"));
        self.udp.expect("200 to BYE", |m| m.call_id() == call.id && m.answers(200, "BYE"));
    }
}

fn plan(world: &World) -> Option<Plan> {
    let plan = Plan::new(world, "50")?;
    Some(plan.both(|mut setup| {
        setup.groups.push_str(&format!("\n[snmp]\ntrap-target = [\"{WATCHER}:1162\"]\n"));
        setup.t1(500)
    }))
}

fn servers(plan: &Plan) -> [actor::Actor<tandem::agent::media_server::MediaServer>; 2] {
    let slow = Behaviour { answer_after: Duration::from_secs(1), ..Behaviour::default() };
    [0, 1].map(|n| actor::media_server(&plan.field.servers, &format!("m{n}"), sip(SERVERS[n]), slow))
}

#[track_caller]
fn says(node: &Node, words: &[&str], code: i32, wanted: &[&str]) {
    let (ended, said) = node.order(words);
    let lacks: Vec<_> = wanted.iter().filter(|word| !said.contains(**word)).collect();
    assert!(ended == Some(code) && lacks.is_empty(), "{words:?} ended with {ended:?} and lacks {lacks:?}: {said}");
}

#[test]
fn operators_see_both_nodes_and_order_them() {
    let world = World::new("ha-ops");
    let Some(plan) = plan(&world) else { return };
    let _servers = servers(&plan);
    let mut pair = plan.start(&world);
    let active = pair.until_armed();
    let (here, there) = (&pair.nodes[active], &pair.nodes[1 - active]);
    assert_eq!(here.get("/readyz").expect("an answer"), (200, "serving\n".into()));
    assert_eq!(there.get("/readyz").expect("an answer"), (503, "standby\n".into()));
    for node in &pair.nodes {
        assert_eq!(node.get("/healthz").expect("an answer").0, 200);
        says(node, &["peer", "check"], 0, &["armed   ok"]);
        says(node, &["status"], 0, &["pair  armed", "link up", "no call lost", &VIP.to_string()]);
        says(node, &["peer", "declare-dead", "7"], 1, &["no member has this id"]);
    }
    let peer_id = (2 - active).to_string();
    says(here, &["status"], 0, &[": SERVING", &format!("member {peer_id} heard, standby")]);
    says(there, &["status"], 0, &[": STANDBY", "heard, active"]);
    says(here, &["peer", "declare-dead", &peer_id], 1, &["the peer is heard, so it is not dead"]);

    let caller = Caller::new(&pair);
    let mut call = caller.invite();
    caller.answered(&mut call);
    pair.until_equal();
    for node in &pair.nodes {
        says(node, &["peer", "diff"], 0, &["configuration: alike", "calls: alike"]);
        says(node, &["calls"], 0, &["answered", &call.id]);
    }
    says(here, &["peer", "diff"], 0, &["1 of this node, 0 of the peer"]);
    says(there, &["peer", "diff"], 0, &["0 of this node, 1 of the peer"]);
    // The standby may be asked as well.
    says(there, &["switchover"], 0, &["the other node becomes active"]);
    pair.until_active(1 - active);
    pair.until_armed();

    let muted = pair.field.mute_peers();
    pair.wait("not armed", || (!pair.nodes[1 - active].armed()).then_some(()));
    says(&pair.nodes[1 - active], &["status"], 0, &["NOT ARMED", "0 ringing and 1 answered calls lost"]);
    says(&pair.nodes[1 - active], &["switchover"], 1, &["no peer is heard"]);
    says(&pair.nodes[active], &["peer", "check"], 1, &["beats   FAILS", "silent"]);
    drop(muted);
    assert_eq!(pair.until_armed(), 1 - active);
    caller.bye(call);

    // SIGTERM: the peer goes on with a call that rings, and nobody waits for its end.
    let mut call = caller.invite();
    pair.nodes[1 - active].process.signal("TERM");
    pair.until_active(active);
    assert!(pair.nodes[1 - active].process.wait(PATIENCE).success());
    assert!(pair.nodes[1 - active].log().contains("stopped: this node has left the pair"));
    caller.answered(&mut call);
    says(&pair.nodes[active], &["peer", "check"], 1, &["beats   FAILS", "dead"]);
    // Without a peer a node waits for its calls, as it does alone.
    pair.nodes[active].process.signal("TERM");
    pair.wait("no new calls", || matches!(pair.nodes[active].get("/readyz"), Ok((503, _))).then_some(()));
    caller.bye(call);
    assert!(pair.nodes[active].process.wait(PATIENCE).success());
}

#[test]
fn a_reload_on_one_node_is_told_as_a_difference() {
    let world = World::new("ha-reload");
    let Some(plan) = plan(&world) else { return };
    let (same, mut other) = (plan.setups[1].clone(), plan.setups[1].clone());
    other.cluster.push_str("commit-timeout = \"7ms\"\npartition = \"exact\"\n");
    let mut pair = plan.start(&world);
    let restart = |setup: &crate::rig::node::Setup, line: &str| {
        let mut setup = setup.clone();
        setup.cluster.push_str(line);
        setup
    };
    pair.nodes[1].reload(&world, restart(&same, "guard-limit = \"70ms\"\n"));
    pair.wait("a refusal", || pair.nodes[1].log().contains("`cluster.guard-limit` cannot change").then_some(()));
    pair.nodes[1].reload(&world, other);
    let differs = |n: usize| pair.nodes[n].try_metrics().map(|m| m.sum("tandem_peer_config_differs"));
    pair.wait("both see it", || ([0, 1].map(differs) == [Some(1.0); 2]).then_some(()));
    for node in &pair.nodes {
        says(node, &["peer", "diff"], 1, &["2 differences", "`cluster.commit-timeout`", "`cluster.partition` is"]);
        says(node, &["peer", "check"], 1, &["config  FAILS"]);
    }
    pair.nodes[1].reload(&world, same);
    let differs = |n: usize| pair.nodes[n].try_metrics().map(|m| m.sum("tandem_peer_config_differs"));
    pair.wait("alike again", || ([0, 1].map(differs) == [Some(0.0); 2]).then_some(()));
    pair.nodes.iter().for_each(|node| says(node, &["peer", "diff"], 0, &["configuration: alike"]));
}

/// What is not zero yet.
fn look(pair: &Pair<'_>, moved: &RefCell<BTreeSet<String>>) {
    for metrics in pair.nodes.iter().filter_map(Node::try_metrics) {
        let names = metrics.series().filter(|(_, value)| *value != 0.0).map(|(name, _)| name);
        moved.borrow_mut().extend(names.map(|name| name.split('{').next().unwrap_or(name).to_owned()));
    }
}

#[test]
fn every_metric_of_a_pair_moves() {
    let world = World::new("ha-metrics");
    let Some(plan) = plan(&world) else { return };
    let _servers = servers(&plan);
    let relays = [0, 1].map(|n| Relay::between(&plan.field.nodes[n], &[NODES[1 - n], SECOND[1 - n]], PEER_PORT));
    let mut pair = plan.start(&world);
    let active = pair.until_armed();
    let moved = RefCell::new(BTreeSet::new());
    let caller = Caller::new(&pair);

    let mut first = caller.invite();
    pair.wait("a call that rings at the peer", || {
        look(&pair, &moved);
        moved.borrow().contains("tandem_peer_ringing").then_some(())
    });
    caller.answered(&mut first);

    // A slow link: messages wait for as long as they may, and records are under way.
    relays.iter().for_each(|relay| relay.delay(Duration::from_millis(100)));
    let slow = ["tandem_held_messages", "tandem_peer_unacked_records", "tandem_peer_unacked_oldest_seconds"];
    pair.wait("messages that wait", || {
        let mut call = Call::new(caller.udp.at, sip(VIP));
        caller.udp.send(sip(VIP), call.invite());
        look(&pair, &moved);
        caller.answered(&mut call);
        caller.bye(call);
        slow.iter().all(|name| moved.borrow().contains(*name)).then_some(())
    });
    relays.iter().for_each(|relay| relay.delay(Duration::ZERO));
    pair.until_armed();

    // A caller that has not heard where the address went.
    let mac = pair.field.nodes[active].mac("eth0");
    pair.field.callers.ip(&format!("neigh replace {VIP} lladdr {mac} nud permanent dev eth0"));
    let (code, said) = pair.nodes[active].order(&["switchover"]);
    assert_eq!(code, Some(0), "{said}");
    pair.wait("a datagram that is passed on", || {
        caller.udp.try_send(sip(VIP), call::options(caller.udp.at, sip(VIP), 7));
        look(&pair, &moved);
        moved.borrow().contains("tandem_relayed_total").then_some(())
    });
    pair.field.callers.ip(&format!("neigh del {VIP} dev eth0"));
    assert_eq!(pair.until_armed(), 1 - active);

    // Noise on the peer port: datagrams of others than members do not come as far as to be counted.
    let at = SocketAddr::from((NODES[active], PEER_PORT));
    pair.field.nodes[1 - active].within(|| {
        let noise = UdpSocket::bind((NODES[1 - active], 0)).expect("a socket");
        noise.send_to(b"noise", at).expect("a datagram");
    });
    pair.field.watcher.within(|| {
        let mut stranger = Tcp::connect(WATCHER.into(), at);
        stranger.send("GET / HTTP/1.1\r\nHost: somebody who is no member of this cluster at all\r\n\r\n".repeat(8));
        assert!(stranger.closes_within(PATIENCE));
        Tcp::connect(WATCHER.into(), at).reset();
    });

    // Cut, healed; killed, back.
    let muted = pair.field.mute_peers();
    pair.wait("calls that may differ", || {
        look(&pair, &moved);
        moved.borrow().contains("tandem_peer_divergence_sessions").then_some(())
    });
    drop(muted);
    pair.until_armed();
    pair.crash(1 - active);
    pair.until_active(active);
    look(&pair, &moved);
    pair.revive(1 - active);
    pair.until_armed();
    // The higher id connects to the lower one.
    pair.crash(0);
    pair.wait("failed connects", || {
        look(&pair, &moved);
        moved.borrow().contains("tandem_peer_connects_failed_total").then_some(())
    });
    pair.revive(0);
    let active = pair.until_armed();
    let at = SocketAddr::from((NODES[active], PEER_PORT));
    caller.bye(first);
    pair.until_idle();
    // The standby lacks a media server: the configurations differ.
    let lacking = format!("[[resource-group.resource]]\naor = \"sip:{}\"\nport-capacity = 50\n", sip(SERVERS[1]));
    let config = pair.nodes[1 - active].config();
    assert!(config.contains(&lacking), "{config}");
    pair.nodes[1 - active].reload_text(&config.replace(&lacking, ""));
    pair.wait("the difference", || {
        look(&pair, &moved);
        moved.borrow().contains("tandem_peer_config_differs").then_some(())
    });
    let stay: Vec<Call> = (0..4)
        .map(|_| {
            let mut call = caller.invite();
            caller.answered(&mut call);
            call
        })
        .collect();
    // No descriptor is left for a connection to the peer port.
    let limit = |descriptors: &str| {
        let pid = pair.nodes[active].process.pid().to_string();
        let limited = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={descriptors}:4096")]).status();
        assert!(limited.expect("prlimit").success());
    };
    pair.wait("failed accepts", || {
        limit("8");
        let stranger = pair.field.watcher.within(|| Tcp::connect(WATCHER.into(), at));
        limit("4096");
        look(&pair, &moved);
        stranger.reset();
        moved.borrow().contains("tandem_peer_accept_errors_total").then_some(())
    });

    let dead = RefCell::new(Vec::new());
    until_or(
        || format!("never moved: {:?}", dead.borrow()),
        PATIENCE,
        || {
            look(&pair, &moved);
            let names = pair_families().map(|family| family.name);
            let elsewhere = |name: &&str| MOVED_ELSEWHERE.iter().any(|(other, _)| other == name);
            *dead.borrow_mut() = names.filter(|name| !elsewhere(name) && !moved.borrow().contains(*name)).collect();
            dead.borrow().is_empty().then_some(())
        },
    );
    stay.into_iter().for_each(|call| caller.bye(call));
}
