//! Callers on TCP: a takeover takes their connection, not their call.

use tandem::agent::media_server::Behaviour;

use crate::rig::actor;
use crate::rig::call::Call;
use crate::rig::pair::{CALLER, PATIENCE, Plan, SERVERS, VIP, sip};
use crate::rig::tcp::Tcp;
use crate::rig::world::World;

/// An answered call over TCP; the active node goes by `fault`; the caller's kernel is told, and a new connection carries
/// the rest of the call.
fn answered_call_outlives(name: &str, fault: impl FnOnce(&mut crate::rig::pair::Pair<'_>, usize)) {
    let world = World::new(name);
    let Some(plan) = Plan::new(&world, "10") else { return };
    let server = actor::media_server(&plan.field.servers, "ma", sip(SERVERS[0]), Behaviour::default());
    let other = actor::media_server(&plan.field.servers, "mb", sip(SERVERS[1]), Behaviour::default());
    let mut pair = plan.start(&world);
    let active = pair.until_armed();
    let callers = pair.field.callers.clone();
    let connect = || callers.within(|| Tcp::connect(CALLER.into(), sip(VIP)));

    let mut tcp = connect();
    let mut call = Call::over("TCP", tcp.local(), sip(VIP));
    tcp.send(call.invite());
    let answer = tcp.expect("200", |m| m.answers(200, "INVITE"));
    call.established(&answer);
    tcp.send(call.ack());
    tcp.send(call.next("INFO"));
    tcp.expect("200 to INFO", |m| m.answers(200, "INFO"));

    fault(&mut pair, active);
    pair.until_active(1 - active);
    assert!(tcp.closes_within(PATIENCE), "without a word of ours: the survivor makes the caller's kernel notice");

    let mut tcp = connect();
    for method in ["INFO", "BYE"] {
        tcp.send(call.next(method));
        tcp.expect(&format!("200 to {method}"), |m| m.answers(200, method));
    }
    pair.wait("no port in use", || {
        let metrics = pair.nodes[1 - active].try_metrics()?;
        (metrics.sum("tandem_ports_in_use") == 0.0 && metrics.sum("tandem_calls") == 0.0).then_some(())
    });
    let byes = |passed: Vec<actor::Passed>| passed.iter().filter(|p| !p.sent && p.message.asks("BYE")).count();
    assert_eq!(byes(server.passed()) + byes(other.passed()), 1, "one BYE at the media server");
}

#[test]
fn an_answered_call_over_tcp_outlives_a_killed_process() {
    answered_call_outlives("ha-tcp-kill", |pair, active| pair.crash(active));
}

#[test]
fn an_answered_call_over_tcp_outlives_a_host_that_is_gone() {
    answered_call_outlives("ha-tcp-host", |pair, active| {
        pair.field.cables[active].cut();
        pair.field.seconds[active].cut();
    });
}
