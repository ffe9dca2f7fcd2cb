//! How a pair begins: in any order, and with mistakes in it. Each ends in a state that is safe and that the log explains.

use std::net::Ipv4Addr;
use std::time::Duration;

use tandem::agent::media_server::{Behaviour, MediaServer};

use crate::rig::actor::{self, Actor};
use crate::rig::call::Call;
use crate::rig::lan;
use crate::rig::load::{Answering, Load};
use crate::rig::message::Message;
use crate::rig::node::{Node, Setup};
use crate::rig::pair::{CALLER, NODES, PATIENCE, PEER_PORT, Pair, Plan, SERVERS, VIP, secret, sip};
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// How often any of these words stands in a line of its log above INFO.
fn warned(node: &Node, words: &[&str]) -> bool {
    // What ends a start comes from the program itself.
    let loud = |line: &&str| line.contains("WARN") || line.contains("ERROR") || line.starts_with("tandem: ");
    node.log().lines().filter(loud).any(|line| words.iter().all(|word| line.contains(word)))
}

/// Waits until node `n` is active alone, and says so.
fn alone(pair: &Pair<'_>, n: usize) {
    pair.until_active(n);
    assert!(!pair.nodes[n].armed(), "nobody could take over");
    assert!(!pair.field.nodes[1 - n].holds(VIP));
}

fn change(plan: Plan, n: usize, change: impl FnOnce(&mut Setup)) -> Plan {
    let mut plan = plan;
    change(&mut plan.setups[n]);
    plan
}

#[test]
fn two_nodes_start_at_once_and_one_is_active() {
    let world = World::beside("ha-at-once");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let pair = plan.start(&world);
    let active = pair.until_armed();
    assert_eq!(pair.nodes[1 - active].role().as_deref(), Some("standby"));
    assert_eq!(pair.nodes[0].epoch(), pair.nodes[1].epoch(), "both know whose term it is");
}

#[test]
fn the_first_of_two_serves_alone_and_the_second_joins() {
    for first in [0, 1] {
        let world = World::beside(&format!("ha-order-{first}"));
        let Some(plan) = Plan::new(&world, "10") else { return };
        let mut pair = plan.launch(&world);
        pair.crash(1 - first);
        alone(&pair, first);
        pair.revive(1 - first);
        assert_eq!(pair.until_armed(), first, "who comes later does not take the role");
    }
}

#[test]
fn ports_are_left_alone_where_nobody_remembers_the_calls_of_before() {
    let world = World::new("ha-cold");
    let Some(plan) = Plan::new(&world, "2") else { return };
    let _servers = Answering::left(&world, &plan.field.servers);
    let with_reserve = |mut setup: Setup| {
        setup.cluster.push_str("cold-reserve = 50\n");
        setup
    };
    let pair = &mut plan.both(with_reserve).start(&world);
    let active = pair.until_armed();
    let refused = |pair: &Pair<'_>, calls| {
        let load = Load::start(&world, &pair.field.callers, CALLER, calls, 50, Duration::from_secs(2));
        load.finish(Duration::from_secs(30)).failed()
    };
    assert_eq!(refused(pair, 3), 1, "half of two servers with two ports each");
    pair.crash(active);
    pair.until_active(1 - active);
    assert_eq!(refused(pair, 5), 1, "the survivor knew every call: nothing is left alone");
}

/// A call that is answered and acknowledged.
fn answered(caller: &Udp) -> Call {
    let mut call = Call::new(caller.at, sip(VIP));
    caller.send(sip(VIP), call.invite());
    let answer = caller.expect("200", |m| m.call_id() == call.id && m.answers(200, "INVITE"));
    call.established(&answer);
    caller.send(sip(VIP), call.ack());
    call
}

/// A request inside the call is answered 200, by the media server that has the call and by no other.
#[track_caller]
fn inside(caller: &Udp, servers: &[Actor<MediaServer>], call: &mut Call, method: &str) {
    let request = call.next(method);
    let asked = Message::read(request.as_bytes()).expect("a request");
    let fits = |m: &Message| m.call_id() == call.id && m.cseq() == asked.cseq();
    caller.send(sip(VIP), &request);
    let answer = caller.expect(method, |m| fits(m) && m.status().is_some_and(|status| status >= 200));
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    if method == "INVITE" {
        caller.send(sip(VIP), call.request("ACK", asked.cseq().0, &format!("{}a", asked.branch()), "", ""));
    }
    let has_it = |server: &&Actor<MediaServer>| server.passed().iter().any(|p| p.message.call_id() == call.id);
    let those: Vec<_> = servers.iter().filter(has_it).collect();
    assert_eq!(those.len(), 1, "one media server has the call");
    let seen = those[0].passed();
    assert!(seen.iter().any(|p| !p.sent && fits(&p.message)), "{method} came to {}", those[0].at);
}

#[test]
fn both_killed_at_once_come_back_and_calls_of_before_go_on() {
    let world = World::new("ha-both");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let servers = [0, 1].map(|n| {
        let host = &plan.field.servers;
        actor::media_server(host, &format!("m{n}"), sip(SERVERS[n]), Behaviour::default())
    });
    let caller = plan.field.callers.within(|| Udp::bind(sip(CALLER)));
    let mut pair = plan.start(&world);
    for first in [0, 1] {
        let before = pair.nodes[0].epoch();
        let mut calls = [(); 4].map(|()| answered(&caller));
        pair.nodes.iter().for_each(|node| lan::kill(node.process.pid()));
        pair.nodes.iter_mut().for_each(|node| _ = node.process.wait(PATIENCE));
        pair.revive(first);
        alone(&pair, first);
        inside(&caller, &servers, &mut calls[0], "INFO");
        inside(&caller, &servers, &mut calls[1], "INVITE");
        inside(&caller, &servers, &mut calls[2], "BYE");
        // What a 2xx has passed for is known again.
        let ports = |n: usize| pair.nodes[n].metrics().sum("tandem_ports_in_use");
        pair.wait("two calls that are known again", || (ports(first) == 2.0).then_some(()));
        pair.revive(1 - first);
        assert_eq!(pair.until_armed(), first, "who comes later does not take the role");
        assert!(pair.nodes[first].epoch() > before, "epochs survive restarts and grow");
        assert_eq!(pair.until_equal(), 2.0);
        let [info, invite, _, unheard] = &mut calls;
        for call in [info, invite, unheard] {
            inside(&caller, &servers, call, "BYE");
        }
        pair.until_idle();
        assert_eq!(servers.each_ref().map(Actor::calls), [0; 2]);
    }
    servers.iter().for_each(|server| assert_eq!(server.violations(), Vec::<String>::new()));
}

#[test]
fn a_wrong_secret_is_explained_and_the_address_stays_where_it_is() {
    let world = World::beside("ha-secret");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let other = secret(&world, "other-secret", "another secret of the lab, also long enough\n");
    let right = world.path("secret").display().to_string();
    let wrong = other.display().to_string();
    let plan = change(plan, 1, |setup| setup.cluster = setup.cluster.replace(&right, &wrong));
    let mut pair = plan.launch(&world);
    pair.crash(1);
    alone(&pair, 0);
    pair.revive(1);
    let explained = || pair.nodes.iter().all(|node| warned(node, &["secret"]));
    pair.wait("both say that the secrets differ", || explained().then_some(()));
    assert_eq!([0, 1].map(|n| pair.field.nodes[n].holds(VIP)), [true, false]);
    assert_eq!(pair.nodes[0].role().as_deref(), Some("active"));
    assert_ne!(pair.nodes[1].role().as_deref(), Some("active"));
}

#[test]
fn different_configurations_are_told_apart_and_the_pair_works_meanwhile() {
    let world = World::beside("ha-differ");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let plan = change(plan, 1, |setup| setup.cluster.push_str("partition = \"exact\"\n"));
    let pair = plan.launch(&world);
    let active = pair.until_armed();
    pair.until_role(1 - active, "standby");
    for (n, [here, there]) in [["available", "exact"], ["exact", "available"]].into_iter().enumerate() {
        let sentence = format!(
            "the peer is configured differently: `cluster.partition` is {here} here and {there} there; make the two \
             files alike"
        );
        let node = &pair.nodes[n];
        pair.wait("the key that differs named", || warned(node, &[&sentence]).then_some(()));
        let beats = format!("the configuration of member {} differs from this one's", 2 - n);
        assert!(warned(node, &[&beats]), "{}", node.log());
        let note = "note  the peer is configured differently: tandem peer diff";
        let (code, said) = node.order(&["status"]);
        let says = |line: &str| said.lines().any(|found| found == line);
        assert!(code == Some(0) && says("pair  armed") && says(note), "{said}");
    }
    assert_eq!(pair.until_armed(), active, "nothing has changed");
}

/// How a node ends whose member's address is another host's.
#[track_caller]
fn refused(pair: &mut Pair<'_>, n: usize, ip: Ipv4Addr) {
    let ended = pair.nodes[n].process.wait(PATIENCE);
    let sentence = format!(
        "stopped: cannot listen for peers on {ip}:{PEER_PORT}: no interface of this host has {ip} (ip addr shows them); \
         change cluster.member, or cluster.mymemberid if this is another member"
    );
    let log = pair.nodes[n].log();
    assert!(log.lines().any(|line| line.ends_with(&sentence)), "{log}");
    assert_eq!(ended.code(), Some(1), "{log}");
}

#[test]
fn swapped_member_ids_are_refused() {
    let world = World::beside("ha-swapped");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let swap = |setup: &mut Setup, from: &str, to: &str| {
        setup.cluster = setup.cluster.replace(&format!("mymemberid = {from}"), &format!("mymemberid = {to}"));
    };
    let plan = change(change(plan, 0, |setup| swap(setup, "1", "2")), 1, |setup| swap(setup, "2", "1"));
    let mut pair = plan.launch(&world);
    refused(&mut pair, 0, NODES[1]);
    refused(&mut pair, 1, NODES[0]);
    assert_eq!([0, 1].map(|n| pair.field.nodes[n].holds(VIP)), [false; 2], "no claim");
}

#[test]
fn the_same_member_id_twice_is_refused_and_the_other_serves() {
    let world = World::beside("ha-twin");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let twin = |setup: &mut Setup| setup.cluster = setup.cluster.replace("mymemberid = 2", "mymemberid = 1");
    let mut pair = change(plan, 1, twin).launch(&world);
    refused(&mut pair, 1, NODES[0]);
    alone(&pair, 0);
    pair.revive(1);
    refused(&mut pair, 1, NODES[0]);
    assert_eq!(pair.active(), Some(0));
    assert_eq!([0, 1].map(|n| pair.field.nodes[n].holds(VIP)), [true, false]);
}
