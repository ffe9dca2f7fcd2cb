//! A process that dies and is there again at once, as systemd does it: the calls of the old one are not lost.

use std::time::Duration;

use tandem::agent::media_server::Behaviour;
use tandem::agent::script::{Outcome, Plan as Script};

use crate::rig::actor;
use crate::rig::pair::{CALLER, PATIENCE, Plan, SERVERS, VIP, sip};
use crate::rig::world::World;

/// `restarts` times: the active process is killed and started again at once, under an answered, a ringing and a new call.
#[test]
fn a_new_incarnation_that_is_back_at_once_does_not_lose_the_calls_of_the_old_one() {
    let restarts = if std::env::var_os("TANDEM_LAB_FULL").is_some() { 10 } else { 3 };
    let world = World::beside("ha-respawn");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let host = &plan.field.servers;
    let behaviour = Behaviour { answer_after: Duration::from_millis(700), ..Behaviour::default() };
    let servers: Vec<_> = [("ma", SERVERS[0]), ("mb", SERVERS[1])]
        .map(|(name, ip)| actor::media_server(host, name, sip(ip), behaviour))
        .into();
    let caller = actor::caller(&plan.field.callers, "uac", sip(CALLER), sip(VIP));
    let mut pair = plan.start(&world);
    let holding = |hold| Script { hold: Duration::from_millis(hold), ..Script::default() };
    let rung = |call_id: &str, status| {
        let call_id = call_id.to_owned();
        move |p: &actor::Passed| !p.sent && p.message.call_id() == call_id && p.message.answers(status, "INVITE")
    };
    for n in 0..restarts {
        let active = pair.until_armed();
        let answered = caller.call(holding(2_500));
        caller.wait_for("an answered call", PATIENCE, rung(&answered, 200));
        let ringing = caller.call(holding(1_500));
        caller.wait_for("a ringing call", PATIENCE, rung(&ringing, 180));
        // No look at the pair in between: the new process is there within milliseconds.
        pair.crash(active);
        pair.revive(active);
        caller.call(holding(1_000));
        let reports = caller.finish("the end of three calls", PATIENCE);
        let outcomes: Vec<_> = reports.iter().map(|report| report.outcome).collect();
        assert_eq!(outcomes, [Outcome::Completed; 3], "restart {n}: {reports:#?}");
        pair.until_armed();
        pair.until_idle();
    }
    let calls: u64 = servers.iter().map(|server| server.with(|agent, _, _| agent.tally().invited)).sum();
    assert_eq!(calls, 3 * restarts, "no call was placed twice");
    for server in &servers {
        assert_eq!(server.violations(), Vec::<String>::new());
    }
}
