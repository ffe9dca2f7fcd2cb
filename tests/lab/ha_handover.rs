//! Planned hand-overs, one after the other, while a request leaves each millisecond, once: not one is lost.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ha_self::guard;
use crate::rig::call::Call;
use crate::rig::lan;
use crate::rig::mcp::Mcp;
use crate::rig::message::Message;
use crate::rig::pair::{CALLER, Pair, Plan, SERVERS, VIP, sip};
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// Slower than a busy machine is, and than the test's end: what comes twice, or late, was lost the first time.
const T1: u16 = 4_000;

/// Sends an INFO inside `call` each millisecond, none of them twice, until it is told to stop and for as long as answers
/// are missing; how many it sent, and the CSeq numbers that were answered.
fn ask(caller: &Udp, call: &mut Call, stop: &AtomicBool) -> (usize, BTreeSet<u32>) {
    let (mut sent, mut answered) = (0, BTreeSet::new());
    let hear = |until: Instant, answered: &mut BTreeSet<u32>| {
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let heard = caller.octets(left).and_then(|(octets, _)| Message::read(&octets));
            answered.extend(heard.filter(|m| m.answers(200, "INFO")).map(|m| m.cseq().0));
        }
    };
    while !stop.load(Ordering::Relaxed) {
        caller.send(sip(VIP), call.next("INFO"));
        sent += 1;
        hear(Instant::now() + Duration::from_millis(1), &mut answered);
    }
    let end = Instant::now() + Duration::from_millis(T1.into()) / 2;
    while answered.len() < sent && Instant::now() < end {
        hear(Instant::now() + Duration::from_millis(10), &mut answered);
    }
    (sent, answered)
}

/// Calls `act` on a pair while requests inside a call go through it: each arrives, and each is answered, once.
fn without_a_loss(name: &str, act: impl FnOnce(&Pair<'_>)) {
    let world = World::new(name);
    let Some(plan) = Plan::new(&world, "10") else { return };
    let servers = SERVERS.map(|ip| plan.field.servers.within(|| Mcp::answering(sip(ip))));
    let caller = plan.field.callers.within(|| Udp::bind(sip(CALLER)));
    let pair = plan.both(|setup| setup.t1(T1)).start(&world);
    let mut call = Call::new(caller.at, sip(VIP));
    caller.send(sip(VIP), call.invite());
    call.established(&caller.answer(200, "INVITE"));
    caller.send(sip(VIP), call.ack());
    pair.wait("an answered call on both nodes", || (pair.until_equal() == 1.0).then_some(()));

    let stop = AtomicBool::new(false);
    let (sent, answered) = thread::scope(|scope| {
        let asker = scope.spawn(|| ask(&caller, &mut call, &stop));
        act(&pair);
        pair.until_armed();
        stop.store(true, Ordering::Relaxed);
        asker.join().expect("an asker")
    });
    let of_call = servers.iter().flat_map(|server| server.requests("INFO"));
    let arrived: Vec<u32> = of_call.map(|seen| seen.message.cseq().0).collect();
    let once: BTreeSet<u32> = arrived.iter().copied().collect();
    println!("{sent} requests, {} at the media server", arrived.len());
    assert!(sent > 50, "{sent} requests");
    let missing = |seen: &BTreeSet<u32>| (2..sent as u32 + 2).filter(|cseq| !seen.contains(cseq)).collect::<Vec<_>>();
    assert_eq!(
        [missing(&once), missing(&answered)],
        [Vec::<u32>::new(), Vec::new()],
        "requests and answers that were lost"
    );
    assert_eq!(arrived.len(), once.len(), "an answer was lost, and the request repeated");
}

#[test]
fn twenty_hand_overs_lose_no_datagram() {
    const HAND_OVERS: u32 = 20;
    without_a_loss("ha-handover", |pair| {
        for _ in 0..HAND_OVERS {
            let active = pair.until_armed();
            pair.switch_over(active);
        }
        let claims: f64 = pair.nodes.iter().map(|node| node.metrics().sum("tandem_takeovers_total")).sum();
        assert!(claims >= f64::from(HAND_OVERS), "{claims} claims");
    });
}

/// Until the guard of the new node works, nobody answers for the address, and what still comes to the old node is passed on.
#[test]
fn an_address_that_comes_late_loses_no_datagram() {
    without_a_loss("ha-handover-late", |pair| {
        let active = pair.until_armed();
        let guard = guard(pair, 1 - active);
        let handled = || pair.nodes[1 - active].metrics().labelled("tandem_relayed_total", "direction=\"in\"");
        lan::signal(guard, Signal::STOP);
        let (code, said) = pair.nodes[active].order(&["switchover"]);
        assert_eq!(code, Some(0), "{said}");
        pair.until_role(1 - active, "active");
        pair.wait("messages passed on", || (handled() >= 10.0).then_some(()));
        lan::signal(guard, Signal::CONT);
        pair.until_active(1 - active);
    });
}
