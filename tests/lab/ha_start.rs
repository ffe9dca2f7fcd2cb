//! How a pair begins: in any order, and with mistakes in it. Each ends in a state that is safe and that the log explains.

use std::time::Duration;

use crate::rig::load::{Answering, Load};
use crate::rig::node::{Node, Setup};
use crate::rig::pair::{CALLER, PATIENCE, Pair, Plan, VIP, secret};
use crate::rig::poll::until_true;
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
    let world = World::new("ha-at-once");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let pair = plan.start(&world);
    let active = pair.until_armed();
    assert_eq!(pair.nodes[1 - active].role().as_deref(), Some("standby"));
    assert_eq!(pair.nodes[0].epoch(), pair.nodes[1].epoch(), "both know whose term it is");
}

#[test]
fn the_first_of_two_serves_alone_and_the_second_joins() {
    for first in [0, 1] {
        let world = World::new(&format!("ha-order-{first}"));
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

#[test]
fn both_killed_at_once_come_back() {
    let world = World::new("ha-both");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let mut pair = plan.start(&world);
    let before = pair.nodes[0].epoch();
    pair.crash(0);
    pair.crash(1);
    pair.revive(0);
    pair.revive(1);
    let active = pair.until_armed();
    assert!(pair.nodes[active].epoch() > before, "epochs survive restarts and grow");
}

#[test]
fn a_wrong_secret_is_explained_and_the_address_stays_where_it_is() {
    let world = World::new("ha-secret");
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
fn different_configurations_are_told_apart() {
    let world = World::new("ha-differ");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let plan = change(plan, 1, |setup| setup.cluster.push_str("partition = \"exact\"\n"));
    let pair = plan.launch(&world);
    let explained = || pair.nodes.iter().all(|node| warned(node, &["cluster.partition"]));
    pair.wait("both name the key that differs", || explained().then_some(()));
    let holders = [0, 1].map(|n| pair.field.nodes[n].holds(VIP));
    assert!(holders != [true, true], "{holders:?}");
}

#[test]
fn swapped_member_ids_are_refused_or_explained() {
    let world = World::new("ha-swapped");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let swap = |setup: &mut Setup, from: &str, to: &str| {
        setup.cluster = setup.cluster.replace(&format!("mymemberid = {from}"), &format!("mymemberid = {to}"));
    };
    let plan = change(change(plan, 0, |setup| swap(setup, "1", "2")), 1, |setup| swap(setup, "2", "1"));
    let pair = plan.launch(&world);
    let explained = || pair.nodes.iter().all(|node| warned(node, &["member"]) || warned(node, &["10.77.0."]));
    pair.wait("both name the address that is not theirs", || explained().then_some(()));
    assert_eq!([0, 1].map(|n| pair.field.nodes[n].holds(VIP)), [false; 2], "no claim");
}

#[test]
fn the_same_member_id_twice_is_explained() {
    let world = World::new("ha-twin");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let twin = |setup: &mut Setup| setup.cluster = setup.cluster.replace("mymemberid = 2", "mymemberid = 1");
    let mut pair = change(plan, 1, twin).launch(&world);
    pair.crash(1);
    alone(&pair, 0);
    pair.revive(1);
    until_true("the twin says why it does not serve", PATIENCE, || {
        warned(&pair.nodes[1], &["member"]) || warned(&pair.nodes[1], &["10.77.0.1"])
    });
    assert_eq!([0, 1].map(|n| pair.field.nodes[n].holds(VIP)), [true, false]);
}
