//! Both nodes serve, each at an address of its own: the SIP Server knows both, and each stands in for the other one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tandem::agent::media_server::Behaviour;
use tandem::agent::script::{Outcome, Plan as Script, Step};

use crate::ha_times::ask;
use crate::rig::actor::{self, Actor};
use crate::rig::call;
use crate::rig::crossed::SERVICES;
use crate::rig::load::{Answering, Load};
use crate::rig::message::{Message, sent_by};
use crate::rig::pair::{CALLER, FAR_CALLER, PATIENCE, Pair, Plan, SERVERS, sip};
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// Calls at both addresses, each long enough for a takeover in its middle; all are whole.
struct Both([Load; 2]);

impl Both {
    fn start(world: &World, field: &crate::rig::pair::Field, calls: u32) -> Both {
        let hosts = [(&field.callers, CALLER), (&field.far_callers, FAR_CALLER)];
        let load = |n: usize| {
            let (host, address) = hosts[n];
            Load::to(world, host, (address, SERVICES[n]), calls, 50, Duration::from_millis(1_500))
        };
        Both([load(0), load(1)])
    }

    fn begun(&self) -> u64 {
        self.0.iter().map(Load::begun).min().unwrap_or(0)
    }

    #[track_caller]
    fn assert_lossless(self) {
        self.0.into_iter().for_each(|load| load.assert_lossless(Duration::from_secs(60)));
    }
}

#[test]
fn a_node_that_is_killed_and_comes_back_loses_no_call_at_either_address() {
    let world = World::beside("crossed_killed");
    let Some(plan) = Plan::new(&world, "2000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let mut pair = plan.crossed().start_crossed(&world);
    for killed in 0..2 {
        let load = Both::start(&world, &pair.field, 350);
        pair.wait("calls on the way", || (load.begun() >= 100).then_some(()));
        pair.crash(killed);
        pair.until_stood_in(1 - killed);
        pair.revive(killed);
        pair.until_crossed();
        load.assert_lossless();
    }
    servers.assert_all(1_400);
    pair.until_idle();
}

#[test]
fn a_host_that_is_gone_is_stood_in_for_and_has_its_address_back() {
    let world = World::beside("crossed_host");
    let Some(plan) = Plan::new(&world, "2000") else { return };
    let _servers = Answering::left(&world, &plan.field.servers);
    let pair = plan.crossed().start_crossed(&world);
    let gone = 1;
    let load = Both::start(&world, &pair.field, 350);
    pair.wait("calls on the way", || (load.begun() >= 100).then_some(()));
    let cables = [&pair.field.cables[gone], &pair.field.seconds[gone]];
    cables.iter().for_each(|cable| cable.cut());
    pair.until_stood_in(1 - gone);
    cables.iter().for_each(|cable| cable.heal());
    pair.until_crossed();
    load.assert_lossless();
    pair.until_idle();
}

#[test]
fn a_node_that_leaves_hands_its_address_over_and_gets_it_back() {
    let world = World::beside("crossed_leaves");
    let Some(plan) = Plan::new(&world, "2000") else { return };
    let _servers = Answering::left(&world, &plan.field.servers);
    let mut pair = plan.crossed().start_crossed(&world);
    // In full the one that leads and the one that joined it.
    let leaves = if std::env::var_os("TANDEM_LAB_FULL").is_some() { 2 } else { 1 };
    for leaving in 0..leaves {
        let load = Both::start(&world, &pair.field, 350);
        pair.wait("calls on the way", || (load.begun() >= 100).then_some(()));
        pair.nodes[leaving].process.signal("TERM");
        pair.until_stood_in(1 - leaving);
        assert!(pair.nodes[leaving].process.wait(PATIENCE).success());
        pair.revive(leaving);
        pair.until_crossed();
        load.assert_lossless();
    }
    pair.until_idle();
}

/// Calls in every phase at the node that is killed.
#[test]
fn calls_that_ring_are_answered_or_are_changed_go_on_at_the_other_node() {
    let world = World::beside("crossed_phases");
    let Some(plan) = Plan::new(&world, "2000") else { return };
    let behaviour = Behaviour { answer_after: Duration::from_millis(700), ..Behaviour::default() };
    let server = |(name, ip)| actor::media_server(&plan.field.servers, name, sip(ip), behaviour);
    let servers: Vec<_> = ["ma", "mb"].into_iter().zip(SERVERS).map(server).collect();
    let killed = 1;
    let caller = actor::caller(&plan.field.callers, "uac", sip(CALLER), sip(SERVICES[killed]));
    let mut pair = plan.crossed().start_crossed(&world);
    let pause = Duration::from_millis(100);
    let steps = [Step::ReInvite, Step::Info, Step::Update, Step::ReInvite].map(|step| (pause, step)).to_vec();
    let whole = Script { hold: pause, steps, ..Script::default() };
    let given_up = Script { cancel_after: Some(Duration::from_millis(350)), ..Script::default() };
    // Four rounds, each begun once the one before it has come so far: at the kill calls are in every phase.
    let begin = || {
        let round = |n: usize| if n % 4 == 3 { given_up.clone() } else { whole.clone() };
        (0..8).map(|n| caller.call(round(n))).collect::<Vec<String>>()
    };
    let until = |calls: &[String], what: &str, wanted: fn(&Message) -> bool| {
        caller.wait_for(what, PATIENCE, |p| wanted(&p.message) && calls.contains(&p.message.call_id().to_owned()));
    };
    let first = begin();
    until(&first, "a call that is being changed", |m| m.asks("INVITE") && m.parameter("to", "tag").is_some());
    let second = begin();
    until(&second, "an answered call", |m| m.answers(200, "INVITE"));
    let third = begin();
    until(&third, "a ringing call", |m| m.answers(180, "INVITE"));
    begin();
    pair.crash(killed);
    for report in caller.finish("all calls", Duration::from_secs(60)) {
        let cancelled = (report.call - 1) % 4 == 3;
        let wanted = if cancelled { Outcome::Cancelled } else { Outcome::Completed };
        assert_eq!(report.outcome, wanted, "{report:?}");
        assert!(report.refused.is_empty(), "{report:?}");
    }
    pair.until_stood_in(1 - killed);
    for violations in servers.iter().map(Actor::violations).chain([caller.violations()]) {
        assert_eq!(violations, [""; 0]);
    }
    pair.revive(killed);
    pair.until_crossed();
    pair.until_idle();
}

/// What leaves for media servers names the address of the node that sends it, and comes from there.
#[test]
fn each_node_writes_its_own_address_and_sends_from_it() {
    let world = World::beside("crossed_via");
    let Some(plan) = Plan::new(&world, "100") else { return };
    let server = |(name, ip)| actor::media_server(&plan.field.servers, name, sip(ip), Behaviour::default());
    let servers: Vec<_> = ["ma", "mb"].into_iter().zip(SERVERS).map(server).collect();
    let hosts = [(&plan.field.callers, CALLER), (&plan.field.far_callers, FAR_CALLER)];
    let callers: Vec<_> = hosts
        .into_iter()
        .zip(SERVICES)
        .map(|((host, ip), node)| actor::caller(host, "uac", sip(ip), sip(node)))
        .collect();
    let pair = plan.crossed().start_crossed(&world);
    for (n, caller) in callers.iter().enumerate() {
        caller.call(Script { hold: Duration::from_millis(100), ..Script::default() });
        let report = caller.finish("a call", PATIENCE).pop().expect("one call");
        assert_eq!(report.outcome, Outcome::Completed, "{report:?}");
        let asked = servers.iter().flat_map(Actor::passed).filter(|p| !p.sent && p.message.call_id() == report.call_id);
        let asked: Vec<_> = asked.filter(|p| p.message.status().is_none()).collect();
        assert!(asked.len() >= 3, "INVITE, ACK, BYE");
        for passed in asked {
            assert_eq!(sent_by(passed.message.top_via()), sip(SERVICES[n]).to_string());
            assert!(passed.message.parameter("via", "received").is_none(), "{:?}", passed.message);
        }
    }
    pair.until_idle();
}

/// Waits for an answer at an address.
#[track_caller]
fn until_answered(pair: &Pair<'_>, address: Ipv4Addr) {
    let probe = pair.field.callers.within(|| Udp::bind(SocketAddr::from((CALLER, 0))));
    let mut asked = 0;
    pair.wait("an answer at the address", || {
        asked += 1;
        probe.try_send(sip(address), call::options(probe.at, sip(address), asked));
        probe.octets(Duration::from_millis(20)).map(drop)
    });
}

/// Printed, not judged: how long nobody answers at the address of a node that is gone.
#[test]
fn how_long_an_address_is_silent() {
    let world = World::new("crossed_times");
    let Some(plan) = Plan::new(&world, "100") else { return };
    let mut pair = plan.crossed().start_crossed(&world);
    let caller = pair.field.callers.within(|| Udp::bind(SocketAddr::from((CALLER, 5_099))));
    for (what, host) in [("kill", false), ("host loss", true)] {
        let gone = 1;
        let (stop, heard) = (AtomicBool::new(false), AtomicUsize::new(0));
        // It asks each millisecond.
        let until_heard = |pair: &Pair<'_>| {
            let before = heard.load(Ordering::Relaxed);
            pair.wait("an answer", || (heard.load(Ordering::Relaxed) > before).then_some(()));
        };
        let answers: Vec<Instant> = thread::scope(|scope| {
            until_answered(&pair, SERVICES[gone]);
            let asker = scope.spawn(|| ask(&caller, SERVICES[gone], &stop, &heard));
            until_heard(&pair);
            let cables = [pair.field.cables[gone].clone(), pair.field.seconds[gone].clone()];
            match host {
                false => pair.crash(gone),
                true => cables.iter().for_each(|cable| cable.cut()),
            }
            pair.until_stood_in(1 - gone);
            until_heard(&pair);
            stop.store(true, Ordering::Relaxed);
            if host {
                cables.iter().for_each(|cable| cable.heal());
            } else {
                pair.revive(gone);
            }
            asker.join().expect("an asker that lives")
        });
        let silent = answers.windows(2).map(|two| two[1] - two[0]).max().expect("answers before and after");
        println!("{what}: nobody answered for {silent:?}");
        pair.until_crossed();
    }
}
