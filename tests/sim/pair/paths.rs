//! Media servers that only one of two nodes reaches: what the other one is asked goes through that.

use std::time::Duration;

use tandem::agent::script::{Outcome, Plan, Step};
use tandem::balance::Monitor;

use super::cases::ms;
use super::scenario::{Act, Scenario, Spread};
use super::world::World;
use crate::scenario::SERVERS;

/// Both nodes serve; each caller has a node of its own.
fn world(crossed: bool) -> World {
    let quiet = Scenario::quiet();
    let mut settings = quiet.settings.clone();
    settings.monitor = Some(Monitor { interval: ms(500), timeout: ms(300), down_after: 2, up_after: 2 });
    let spread = (!crossed).then_some(Spread::Hosts);
    let mut w = World::armed_in(71, Scenario { spread, crossed, settings, ..quiet });
    w.sent = Some(Vec::new());
    w
}

fn down(w: &World, n: usize) -> usize {
    w.node(n).resources().iter().filter(|r| r.health == "down").count()
}

/// One machine alone reaches the servers, and the other one has told it so.
fn blind(w: &mut World, seeing: usize) {
    w.blind(Some(seeing));
    w.run_until(Duration::from_secs(5), |w| down(w, 1 - seeing) == SERVERS);
    w.run_for(ms(50));
}

fn through_peer(w: &World) -> [u64; 2] {
    [0, 1].map(|n| w.node(n).stats().calls.through_peer)
}

fn plan() -> Plan {
    Plan { hold: ms(2_000), steps: vec![(ms(300), Step::Info), (ms(300), Step::ReInvite)], ..Plan::default() }
}

fn all_complete(w: &mut World, calls: usize) {
    w.run_until(Duration::from_secs(30), |w| w.reports.len() == calls);
    assert!(w.reports.iter().all(|report| report.outcome == Outcome::Completed), "{:?}", w.reports);
    w.run_for(ms(2_000));
    assert_eq!([0, 1].map(|n| w.node(n).gauges().grants), [0; 2]);
}

#[test]
fn new_calls_are_taken_by_the_node_that_reaches_a_server() {
    for (crossed, seeing) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
        let mut w = world(crossed);
        blind(&mut w, seeing);
        (0..2).for_each(|caller| w.call(caller, plan()));
        all_complete(&mut w, 2);
        let through = through_peer(&w);
        assert!(through[1 - seeing] >= 1 && through[seeing] == 0, "{through:?} of {crossed} {seeing}");
        assert_eq!(w.node(seeing).stats().calls.calls_offered, 2);
    }
}

#[test]
fn what_belongs_to_a_call_of_before_goes_the_same_way() {
    let mut w = world(false);
    (0..2).for_each(|caller| w.call(caller, Plan { hold: ms(6_000), ..Plan::default() }));
    w.run_until(ms(2_000), |w| (0..2).all(|n| w.node(n).gauges().legs == 2));
    blind(&mut w, 0);
    assert_eq!(through_peer(&w), [0; 2]);
    all_complete(&mut w, 2);
    let through = through_peer(&w);
    assert!(matches!(through, [0, 1..=2]), "a BYE that came to the other node: {through:?}");
    // Everything is as before once the servers are reached again.
    w.blind(None);
    w.run_until(Duration::from_secs(5), |w| down(w, 1) == 0);
    (0..2).for_each(|caller| w.call(caller, plan()));
    all_complete(&mut w, 4);
    assert_eq!(through_peer(&w), through);
}

#[test]
fn where_neither_reaches_a_server_a_call_is_refused_at_once() {
    let mut w = world(false);
    w.servers.iter_mut().for_each(tandem::agent::media_server::MediaServer::crash);
    w.run_until(Duration::from_secs(5), |w| (0..2).all(|n| down(w, n) == SERVERS));
    w.run_for(ms(50));
    (0..2).for_each(|caller| w.call(caller, plan()));
    w.run_until(ms(500), |w| w.reports.len() == 2);
    assert!(w.reports.iter().all(|report| report.outcome == Outcome::Failed(480)), "{:?}", w.reports);
    assert_eq!(through_peer(&w), [0; 2]);
}

/// Each message comes to either node, and neither hears the other one.
#[test]
fn no_call_outlives_its_end_where_messages_are_sprayed_over_a_cut() {
    for seed in 0..30 {
        let mut w = World::armed_in(seed, Scenario { spread: Some(Spread::Datagrams), ..Scenario::quiet() });
        w.play(Act::CutLink(true));
        let mut calls = 0;
        for _ in 0..8 {
            for caller in 0..2 {
                for n in 0..3 {
                    let steps = if n == 0 { vec![(ms(200), Step::ReInvite)] } else { Vec::new() };
                    w.call(caller, Plan { hold: ms(600), steps, ..Plan::default() });
                    calls += 1;
                }
            }
            w.run_for(ms(1_000));
        }
        w.play(Act::CutLink(false));
        w.run_until(Duration::from_secs(10), |w| w.is_pair());
        w.run_until(Duration::from_secs(60), |w| w.reports.len() == calls);
        w.run_for(ms(5_000));
        assert_eq!([0, 1].map(|n| w.node(n).gauges().legs), [0; 2], "seed {seed}");
        // An INVITE whose final went to the other node is given up like one that nobody answers, and then its CANCEL.
        w.run_for(Duration::from_secs(60));
        assert_eq!([0, 1].map(|n| w.node(n).gauges().grants), [0; 2], "seed {seed}");
    }
}
