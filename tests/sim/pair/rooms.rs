//! Calls that belong together, taken by two nodes that both serve.

use std::collections::BTreeSet;
use std::time::Duration;

use tandem::agent::script::{Outcome, Plan};
use tandem::balance::Monitor;

use super::cases::ms;
use super::scenario::{Act, Scenario, Spread};
use super::world::World;
use crate::scenario::{ROOM, SERVERS, server_addr};

const ROOMS: usize = 12;

/// Each caller has a node of its own.
fn world(seed: u64, monitor: Option<Monitor>) -> World {
    let quiet = Scenario::quiet();
    let mut settings = quiet.settings.clone();
    (settings.monitor, settings.members) = (monitor, [Some(None); SERVERS]);
    let mut w = World::armed_in(seed, Scenario { spread: Some(Spread::Hosts), settings, ..quiet });
    w.sent = Some(Vec::new());
    w
}

fn enter(w: &mut World, caller: usize, room: usize) {
    let extra = format!("{ROOM}: {room}\r\n");
    w.call(caller, Plan { extra, hold: ms(5_000), ..Plan::default() });
}

/// The servers that were asked for a room.
fn asked(w: &World, room: usize) -> BTreeSet<usize> {
    let line = format!("{ROOM}: {room}\r\n");
    let invites = w.sent.iter().flatten().filter(|(_, text)| text.starts_with("INVITE") && text.contains(&line));
    invites.filter_map(|(flow, _)| (0..SERVERS).find(|n| server_addr(*n) == flow.remote)).collect()
}

/// Each room is asked of one server; all of them.
fn spread(w: &World) -> BTreeSet<usize> {
    let one = |room| {
        let servers = asked(w, room);
        assert_eq!(servers.len(), 1, "room {room}: {servers:?}");
        servers
    };
    (0..ROOMS).flat_map(one).collect()
}

fn all_complete(w: &mut World, calls: usize) {
    w.run_until(Duration::from_secs(20), |w| w.reports.len() == calls);
    let outcomes: BTreeSet<_> = w.reports.iter().map(|report| report.outcome).collect();
    assert_eq!(outcomes, BTreeSet::from([Outcome::Completed]));
}

#[test]
fn two_first_invites_at_two_nodes_at_once_end_on_one_server() {
    let mut w = world(61, None);
    (0..ROOMS).for_each(|room| (0..2).for_each(|caller| enter(&mut w, caller, room)));
    w.run_until(ms(2_000), |w| w.node(0).gauges().legs == 2 * ROOMS && w.node(1).gauges().legs == 2 * ROOMS);
    assert_eq!([0, 1].map(|n| w.node(n).stats().calls.calls_offered), [ROOMS as u64; 2], "each node took its own");
    assert_eq!([0, 1].map(|n| w.node(n).gauges().pins), [ROOMS; 2]);
    assert_eq!(spread(&w).len(), SERVERS);
    all_complete(&mut w, 2 * ROOMS);
    w.run_until(ms(1_000), |w| (0..2).all(|n| w.node(n).gauges().pins == 0));
}

#[test]
fn so_they_do_while_the_nodes_do_not_hear_each_other() {
    for silence in [20, 1_500] {
        let mut w = world(62, None);
        w.play(Act::CutLink(true));
        w.run_for(ms(silence));
        (0..ROOMS).for_each(|room| (0..2).for_each(|caller| enter(&mut w, caller, room)));
        w.run_for(ms(900));
        let offered = [0, 1].map(|n| w.node(n).stats().calls.calls_offered);
        assert_eq!(offered, [ROOMS as u64; 2], "after {silence} ms");
        assert_eq!(spread(&w).len(), SERVERS, "after {silence} ms");
        w.play(Act::CutLink(false));
        w.run_until(Duration::from_secs(5), |w| w.is_pair());
        w.run_until(Duration::from_secs(40), |w| w.reports.len() == 2 * ROOMS);
    }
}

#[test]
fn rooms_of_a_dead_server_go_to_the_next_one_together_and_stay_there_when_a_node_dies() {
    let monitor = Monitor { interval: ms(500), timeout: ms(300), down_after: 2, up_after: 2 };
    let mut w = world(63, Some(monitor));
    w.servers[1].crash();
    let down = |w: &World, n: usize| w.node(n).resources().iter().filter(|r| r.health == "down").count();
    w.run_until(Duration::from_secs(5), |w| (0..2).all(|n| down(w, n) == 1));
    w.run_for(ms(50));
    (0..ROOMS).for_each(|room| (0..2).for_each(|caller| enter(&mut w, caller, room)));
    w.run_until(ms(2_000), |w| (0..2).all(|n| w.node(n).gauges().legs == 2 * ROOMS));
    assert_eq!(spread(&w), BTreeSet::from([0, 2]));
    // It is up again, and the rooms of whoever still talks are where they were.
    w.servers[1].revive();
    w.run_until(ms(2_500), |w| (0..2).all(|n| down(w, n) == 0));
    w.crash(0, Duration::from_secs(20));
    w.run_until(ms(1_500), |w| w.machines[1].is_active() && w.node(1).pair_status().is_some_and(|s| !s.armed));
    assert!(w.node(1).gauges().legs > 0, "some calls live");
    (0..ROOMS).for_each(|room| enter(&mut w, 1, room));
    w.run_for(ms(300));
    assert_eq!(spread(&w), BTreeSet::from([0, 2]));
}
