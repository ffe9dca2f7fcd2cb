//! Both nodes behind a balancer that gives each datagram to any of them, while they do not hear each other: what each
//! policy of `partition` promises, and that limits hold whoever dies.

use std::time::{Duration, Instant};

use tandem::agent::caller::Caller;
use tandem::agent::media_server::{Behaviour, MediaServer};
use tandem::agent::script::{Outcome, Plan as Script, Step};

use crate::rig::actor::{self, Actor};
use crate::rig::both::Spread;
use crate::rig::pair::{CALLER, PATIENCE, Pair, Plan, SERVERS, VIP, sip};
use crate::rig::world::World;

/// Whether time is not short.
fn full() -> bool {
    std::env::var_os("TANDEM_LAB_FULL").is_some()
}

fn servers(plan: &Plan) -> Vec<Actor<MediaServer>> {
    let server = |(name, ip)| actor::media_server(&plan.field.servers, name, sip(ip), Behaviour::default());
    ["ma", "mb"].into_iter().zip(SERVERS).map(server).collect()
}

/// So many calls at once, to their ends; how many were served. Who is not is told so at once: nothing else may happen.
fn round(caller: &Actor<Caller>, calls: u32, hold: Duration) -> u32 {
    for n in 0..calls {
        let steps = if n % 3 == 0 { vec![(hold / 3, Step::ReInvite)] } else { Vec::new() };
        caller.call(Script { hold, steps, ..Script::default() });
    }
    let reports = caller.finish("the calls of a round", PATIENCE + Duration::from_secs(32));
    let served = |report: &tandem::agent::script::Report| match report.outcome {
        Outcome::Completed => 1,
        Outcome::Failed(480) => 0,
        _ => panic!("{report:?}"),
    };
    reports.iter().map(served).sum()
}

fn until_apart(pair: &Pair<'_>) {
    pair.wait("an alarm on both nodes", || pair.nodes.iter().all(|node| !node.armed()).then_some(()));
}

/// Calls before, during and after a cut of the link whose messages come to either node. `limit`: no server may have more
/// calls at once.
fn cut_under_spray(partition: &str, ports: u32, limit: Option<usize>) {
    const CALLS: u32 = 12;
    let hold = Duration::from_millis(600);
    let world = World::beside(&format!("cut-{partition}"));
    let Some(plan) = Plan::new(&world, &ports.to_string()) else { return };
    let (mut plan, _balancer) = plan.behind(Spread::Datagrams);
    plan.setups
        .iter_mut()
        .for_each(|s| s.cluster.push_str(&format!("partition = \"{partition}\"\ncold-reserve = 0\n")));
    let servers = servers(&plan);
    let caller = actor::caller(&plan.field.callers, "uac", sip(CALLER), sip(VIP));
    let pair = plan.start_both(&world);
    assert_eq!(round(&caller, CALLS, hold), CALLS);
    let muted = pair.field.mute_peers();
    until_apart(&pair);
    let (begun, mut offered, mut served) = (Instant::now(), 0, 0);
    while begun.elapsed() < Duration::from_secs(if full() { 60 } else { 8 }) {
        served += round(&caller, CALLS, hold);
        offered += CALLS;
    }
    println!("{partition}: {served} of {offered} calls served in the cut");
    match partition {
        "available" | "exact" => assert_eq!(served, offered, "there are ports on both sides"),
        _ => assert!(served > 0 && served < offered, "one side takes new calls: {served} of {offered}"),
    }
    drop(muted);
    pair.until_both();
    let met = Instant::now();
    pair.until_equal();
    println!("{partition}: equal after {:?}", met.elapsed());
    assert_eq!(round(&caller, CALLS, hold), CALLS);
    pair.until_idle();
    let most: Vec<_> = servers.iter().map(Actor::most_calls).collect();
    assert!(most.iter().all(|most| limit.is_none_or(|limit| *most <= limit)), "{most:?}");
    assert_eq!(caller.violations(), [""; 0]);
    assert!(pair.nodes.iter().all(|node| node.metrics().sum("tandem_capacity_drift") == 0.0));
}

#[test]
fn a_cut_refuses_nobody_where_both_sides_are_available() {
    cut_under_spray("available", 100, None);
}

#[test]
fn a_cut_leaves_each_side_its_share_under_exact() {
    cut_under_spray("exact", 100, Some(100));
}

#[test]
fn a_cut_leaves_new_calls_to_the_lower_id() {
    cut_under_spray("prefer-lower-id", 100, Some(100));
}

/// More calls than ports all the time: with the nodes together, cut from each other, one of them dead, and both dead.
#[test]
fn no_limit_is_passed_whoever_dies() {
    let limit: usize = if full() { 100 } else { 10 };
    let hold = Duration::from_millis(500);
    let world = World::beside("cut-limit");
    let Some(plan) = Plan::new(&world, &limit.to_string()) else { return };
    let (mut plan, mut balancer) = plan.behind(Spread::Datagrams);
    plan.setups.iter_mut().for_each(|s| s.cluster.push_str("partition = \"exact\"\ncommit = \"peer-ack\"\n"));
    let servers = servers(&plan);
    let caller = actor::caller(&plan.field.callers, "uac", sip(CALLER), sip(VIP));
    let mut pair = plan.start_both(&world);
    let most = || servers.iter().map(Actor::most_calls).max().unwrap_or_default();
    let calls = 3 * limit as u32;
    let rounds = |count: u32| (0..count).map(|_| round(&caller, calls, hold)).sum::<u32>();
    let few = if full() { 8 } else { 2 };

    assert!(rounds(few) > 0);
    let muted = pair.field.mute_peers();
    until_apart(&pair);
    assert!(rounds(few) > 0, "each side goes on with its share");
    assert!(most() <= limit, "{} calls at once in a cut", most());
    pair.crash(1);
    balancer.serve(&[0]);
    assert!(rounds(few) > 0);
    drop(muted);
    assert!(rounds(few) > 0);
    assert!(most() <= limit, "{} calls at once after a death", most());
    pair.revive(1);
    pair.until_both();
    balancer.serve(&[0, 1]);
    pair.until_idle();
    let mut tries = 0;
    while most() < limit && tries < 40 {
        rounds(1);
        tries += 1;
    }
    assert_eq!(most(), limit, "all ports in use at once, and no more");

    pair.until_idle();
    [0, 1].into_iter().for_each(|n| pair.crash(n));
    [0, 1].into_iter().for_each(|n| pair.revive(n));
    pair.until_both();
    rounds(few);
    assert_eq!(most(), limit, "no more than the limit is admitted anew");
    assert_eq!(caller.violations(), [""; 0]);
}
