//! One call, and the active node dies after each step of it that concerns calls: received and not recorded, recorded and
//! not acknowledged, acknowledged and not sent, sent and not arrived. Nothing is lost, wherever it stood.

use std::collections::BTreeSet;
use std::time::Duration;

use tandem::agent::media_server::{Behaviour, Mood};
use tandem::agent::script::{Outcome, Plan, Step};

use super::cases::{NEVER, ms, world};
use super::world::World;

/// A call with everything: PRACK, re-INVITE, UPDATE, INFO, OPTIONS, and a BYE of the caller.
fn full() -> Plan {
    let steps = [Step::ReInvite, Step::Update, Step::Info, Step::Options].map(|step| (ms(300), step));
    let extra = "Supported: 100rel\r\n".to_owned();
    Plan { extra, steps: steps.into(), hold: ms(2_000), ..Plan::default() }
}

/// A REFER of the caller, and the NOTIFY of its end.
fn referred() -> Plan {
    Plan { steps: vec![(ms(300), Step::Refer)], hold: ms(500), ..Plan::default() }
}

/// Ends by a BYE of the media server.
fn hung_up() -> Plan {
    Plan { hang_up_after: Some(ms(700)), hold: ms(2_000), ..Plan::default() }
}

fn cancelled() -> Plan {
    Plan { cancel_after: Some(ms(400)), ..Plan::default() }
}

/// A call of `plan` of which `steps` have happened when the active node dies; `None`: it was over before.
fn died_after(steps: usize, seed: u64, plan: &Plan, behaviour: Behaviour) -> Option<World> {
    let mut w = world(seed);
    w.servers.iter_mut().for_each(|server| server.behave(behaviour));
    w.call(0, plan.clone());
    for _ in 0..steps {
        w.step_of_calls();
        if !w.reports.is_empty() {
            return None;
        }
    }
    w.crash(0, NEVER);
    w.run_until(Duration::from_secs(19), |w| !w.reports.is_empty() && w.active() == Some(1));
    Some(w)
}

/// At how many steps it died.
fn each_step(seed: u64, plan: &Plan, behaviour: Behaviour, outcome: Outcome) -> usize {
    let dies = |steps: usize| died_after(steps, seed, plan, behaviour);
    (0..)
        .map_while(|steps| Some((steps, dies(steps)?)))
        .map(|(steps, mut w)| {
            assert_eq!(w.reports[0].outcome, outcome, "after {steps} steps");
            // Its last retransmissions, and the ports of attempts whose answers nobody waits for.
            w.run_for(ms(18_000));
            let gauges = w.node(1).gauges();
            assert_eq!((gauges.legs, gauges.grants), (0, 0), "after {steps} steps");
            assert!(w.servers.iter().all(|server| server.calls() == 0), "after {steps} steps");
            one_branch_each(&w, steps);
        })
        .count()
}

/// Of one INVITE, one branch at one server: each record had been acknowledged before anything of it left.
fn one_branch_each(w: &World, steps: usize) {
    let initial =
        |text: &&String| text.starts_with("INVITE") && !text.contains("\r\nRoute:") && text.contains("CSeq: 1 ");
    let branch = |text: &String| text.lines().find(|line| line.starts_with("Via:")).map(str::to_owned);
    let invites = w.down("INVITE");
    let branches: BTreeSet<_> = invites.iter().filter(initial).map(branch).collect();
    assert_eq!(branches.len(), 1, "after {steps} steps: {branches:?}");
}

#[test]
fn a_call_with_everything_outlives_its_node_at_each_step() {
    let died = each_step(31, &full(), Behaviour::default(), Outcome::Completed);
    assert!(died > 270, "{died} steps");
}

#[test]
fn a_referred_call_outlives_its_node_at_each_step() {
    let died = each_step(40, &referred(), Behaviour::default(), Outcome::Completed);
    assert!(died > 100, "{died} steps");
}

#[test]
fn a_call_that_the_media_server_ends_outlives_its_node_at_each_step() {
    let died = each_step(32, &hung_up(), Behaviour::default(), Outcome::Completed);
    assert!(died > 75, "{died} steps");
}

#[test]
fn a_cancelled_call_outlives_its_node_at_each_step() {
    let slow = Behaviour { answer_after: ms(9_000), ..Behaviour::default() };
    let died = each_step(33, &cancelled(), slow, Outcome::Cancelled);
    assert!(died > 48, "{died} steps");
}

#[test]
fn a_refused_call_outlives_its_node_at_each_step() {
    let busy = Behaviour { mood: Mood::Refusing(486, None), ..Behaviour::default() };
    let died = each_step(34, &Plan::default(), busy, Outcome::Failed(486));
    assert!(died > 24, "{died} steps");
}

/// The CANCEL has its 200 and could not be sent on, for the server has said nothing yet (RFC 3261 §9.1).
#[test]
fn a_cancel_that_waited_for_a_provisional_is_carried_out_by_the_survivor() {
    let ended = |crash: bool| {
        let mut w = world(35);
        let late = Behaviour { mood: Mood::Late, answer_after: ms(4_000), ..Behaviour::default() };
        w.servers.iter_mut().for_each(|server| server.behave(late));
        w.call(0, cancelled());
        w.run_until(ms(2_000), |w| w.up("SIP/2.0 200") == 1);
        assert_eq!(w.down("CANCEL").len(), 0);
        if crash {
            w.crash(0, NEVER);
        }
        w.run_until(Duration::from_secs(30), |w| !w.reports.is_empty());
        w.run_for(ms(18_000));
        let n = usize::from(crash);
        assert_eq!((w.node(n).gauges().legs, w.node(n).gauges().grants), (0, 0));
        assert!(w.servers.iter().all(|server| server.calls() == 0));
        w.reports[0].outcome
    };
    assert_eq!(ended(true), ended(false));
}

/// A server that was given up, and that knows nothing of it any more, gets no INVITE from the survivor: it would be a new
/// call.
#[test]
fn an_attempt_of_an_answered_call_is_not_sent_again() {
    let mut w = world(39);
    w.servers[0].crash();
    w.call(0, Plan { hold: Duration::from_secs(15), ..Plan::default() });
    w.run_until(ms(5_000), |w| w.node(1).gauges().legs == 1);
    w.servers[0].revive();
    let before = w.down("INVITE").len();
    w.crash(0, NEVER);
    w.run_until(Duration::from_secs(19), |w| !w.reports.is_empty());
    assert_eq!((w.reports[0].outcome, w.active()), (Outcome::Completed, Some(1)));
    assert!(before > 1, "the first one was asked");
    assert_eq!(w.down("INVITE").len(), before);
    w.run_for(ms(18_000));
    assert_eq!(w.node(1).gauges().grants, 0);
}

/// The INVITE that the survivor repeats has its provisional again, which begins Timer C anew (§16.7 step 2); it fires once.
#[test]
fn timer_c_of_a_ringing_call_runs_out_on_the_survivor() {
    let mut w = world(36);
    let rings = Behaviour { answer_after: Duration::from_secs(600), ..Behaviour::default() };
    w.servers.iter_mut().for_each(|server| server.behave(rings));
    w.call(0, Plan::default());
    w.run_until(ms(1_000), |w| w.up("SIP/2.0 180") == 1);
    w.run_for(ms(9_000));
    w.crash(0, Duration::from_secs(3));
    let died = w.now;
    w.run_until(ms(17_000), |w| !w.down("CANCEL").is_empty());
    let took = w.now.since(died);
    assert!((ms(15_000)..ms(15_800)).contains(&took), "{took:?}");
    w.run_for(ms(5_000));
    let expired = [0, 1].map(|n| w.node(n).stats().calls.timer_c_expired);
    assert_eq!((expired, w.node(1).gauges().grants, w.reports.len()), ([0, 1], 1, 0), "it rings on at the next one");
}

/// The session interval (RFC 4028) goes on from where it was, and ends the leg once.
#[test]
fn a_session_interval_runs_out_on_the_survivor() {
    let mut w = world(37);
    let extra = "Supported: timer\r\nSession-Expires: 30\r\n".to_owned();
    w.call(0, Plan { extra, hold: Duration::from_secs(300), ..Plan::default() });
    w.run_until(ms(2_000), |w| w.node(1).gauges().legs == 1);
    let answered = w.now;
    w.run_for(ms(12_000));
    w.crash(0, Duration::from_secs(3));
    w.run_until(ms(40_000), |w| w.machines[1].is_active() && w.node(1).gauges().legs == 0);
    let took = w.now.since(answered);
    assert!((ms(29_500)..ms(30_500)).contains(&took), "{took:?}");
    w.run_until(ms(100), |w| w.node(0).gauges().legs == 0);
    let expired = [0, 1].map(|n| w.node(n).stats().calls.calls_ended_session_expired);
    assert_eq!((expired, w.node(1).gauges().grants), ([0, 1], 0));
}

/// Of the last owner's life nobody knows how lately it heard of a call: its lease begins anew.
#[test]
fn a_lease_begins_anew_on_the_survivor() {
    let mut w = world(38);
    w.call(0, Plan { hold: Duration::from_secs(300), ..Plan::default() });
    w.run_until(ms(2_000), |w| w.node(1).gauges().legs == 1);
    w.run_for(Duration::from_secs(40));
    w.crash(0, Duration::from_secs(3));
    let died = w.now;
    w.run_until(Duration::from_secs(60), |w| w.machines[1].is_active() && w.node(1).gauges().legs == 0);
    let took = w.now.since(died);
    assert!((ms(49_500)..ms(51_500)).contains(&took), "{took:?}");
    assert_eq!(w.node(1).stats().calls.calls_ended_inactive, 1);
}
