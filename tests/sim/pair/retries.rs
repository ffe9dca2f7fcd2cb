//! Callers that ask again in a new transaction, at the other node, while their first INVITE lives.

use std::time::Duration;

use tandem::agent::media_server::Behaviour;
use tandem::agent::script::{Outcome, Plan};
use tandem::base::Flow;

use super::cases::{NEVER, ms};
use super::scenario::{Scenario, Spread};
use super::world::World;
use crate::scenario::caller_addr;

/// Both nodes serve at addresses of their own, and the first caller asks node 0, and node 1 again after a second.
fn asked_twice(seed: u64) -> World {
    let mut w = World::armed_in(seed, Scenario { crossed: true, ..Scenario::quiet() });
    w.sent = Some(Vec::new());
    let slow = Behaviour { answer_after: ms(4_000), ..Default::default() };
    w.servers.iter_mut().for_each(|server| server.behave(slow));
    w.call(0, Plan { ask_again: Some(ms(1_000)), ..Plan::default() });
    w
}

/// What was asked of servers: the INVITEs with different branches.
fn asked(w: &World) -> usize {
    let mut invites = w.down("INVITE");
    invites.sort();
    invites.dedup();
    invites.len()
}

fn retried(w: &World) -> [u64; 2] {
    [0, 1].map(|n| w.node(n).stats().calls.retried_invites)
}

fn completes(w: &mut World) {
    w.run_until(Duration::from_secs(20), |w| !w.reports.is_empty());
    assert_eq!((w.reports[0].outcome, asked(w)), (Outcome::Completed, 1));
}

#[test]
fn the_other_node_gives_it_to_the_one_that_asked_a_server() {
    let mut w = asked_twice(1);
    completes(&mut w);
    assert_eq!(retried(&w), [1, 0]);
    assert_eq!(w.node(1).stats().calls.offered, 1);
}

#[test]
fn whichever_node_of_two_behind_a_balancer_it_meets() {
    for seed in 0..8 {
        let mut w = World::armed_in(seed, Scenario { spread: Some(Spread::Datagrams), ..Scenario::quiet() });
        w.sent = Some(Vec::new());
        let slow = Behaviour { answer_after: ms(4_000), ..Default::default() };
        w.servers.iter_mut().for_each(|server| server.behave(slow));
        w.call(0, Plan { ask_again: Some(ms(1_000)), ..Plan::default() });
        completes(&mut w);
        assert_eq!(retried(&w).iter().sum::<u64>(), 1, "seed {seed}");
    }
}

#[test]
fn the_survivor_knows_what_the_dead_node_had_asked() {
    let mut w = asked_twice(2);
    w.run_until(ms(900), |w| w.node(1).gauges().shadows == 1 && w.up("SIP/2.0 180") == 1);
    w.crash(0, NEVER);
    completes(&mut w);
    assert_eq!(w.node(1).stats().calls.retried_invites, 1);
}

/// The second INVITE comes before anybody knows that the first node is dead.
#[test]
fn what_comes_in_while_the_first_node_is_silent_waits_for_who_goes_on_with_its_calls() {
    let mut w = asked_twice(5);
    let second = w.now + ms(1_000);
    w.run_until(ms(900), |w| w.up("SIP/2.0 180") == 1);
    w.run_for((second - ms(5)).since(w.now));
    w.hang(0, NEVER);
    completes(&mut w);
    assert_eq!(w.node(1).stats().calls.retried_invites, 1);
}

#[test]
fn the_survivor_answers_the_transaction_that_was_asked_last() {
    let mut w = asked_twice(3);
    w.run_until(ms(2_000), |w| retried(w) == [1, 0]);
    w.run_for(ms(50));
    w.crash(0, NEVER);
    completes(&mut w);
    let invite = &w.down("INVITE")[0];
    let first =
        invite.lines().filter(|line| line.starts_with("Via:")).nth(1).and_then(|via| via.split("branch=").nth(1));
    let first = first.and_then(|rest| rest.split([';', '\r']).next()).expect("the Via of the caller");
    let to_caller = |flow: &Flow, text: &str| flow.remote == caller_addr(0) && text.contains("1 INVITE");
    let answers = w.sent.iter().flatten().filter(|(flow, text)| to_caller(flow, text));
    let of_first = |status: &str| {
        let told = answers.clone().filter(|(_, text)| text.starts_with(&format!("SIP/2.0 {status}")));
        let (of_first, others): (Vec<_>, Vec<_>) = told.partition(|(_, text)| text.contains(first));
        (of_first.len(), others.len())
    };
    assert_eq!(of_first("482"), (1, 0), "the first transaction has ended");
    assert!(matches!(of_first("200"), (0, 1..)), "{:?}", of_first("200"));
}

#[test]
fn a_cancel_of_the_second_one_ends_the_call_wherever_it_lands() {
    let mut w = World::armed_in(4, Scenario { crossed: true, ..Scenario::quiet() });
    w.sent = Some(Vec::new());
    let slow = Behaviour { answer_after: ms(9_000), ..Default::default() };
    w.servers.iter_mut().for_each(|server| server.behave(slow));
    w.call(0, Plan { ask_again: Some(ms(1_000)), cancel_after: Some(ms(2_000)), ..Plan::default() });
    w.run_until(Duration::from_secs(20), |w| !w.reports.is_empty());
    assert_eq!((w.reports[0].outcome, asked(&w)), (Outcome::Cancelled, 1));
    w.run_until(ms(2_000), |w| w.servers.iter().all(|s| s.calls() == 0));
    assert_eq!([0, 1].map(|n| w.node(n).gauges().grants), [0; 2]);
}
