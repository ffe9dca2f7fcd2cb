//! Named cases: the active node dies at one exact position of one call, and what its caller and its media server see.

use std::time::Duration;

use tandem::agent::caller::{self, Caller};
use tandem::agent::media_server::{Behaviour, Mood};
use tandem::agent::script::{Outcome, Plan, Step};
use tandem::base::Transport;
use tandem::proxy::Commit;
use tandem::replica::Kind;

use super::machine::Machine;
use super::scenario::{Act, CALLERS, HOSTS, Scenario, Side, Spread, TIMING};
use super::wire::Event;
use super::world::World;
use crate::scenario::{SERVERS, caller_addr, node_addr, server_addr};

pub const NEVER: Duration = Duration::from_secs(20);

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl World {
    /// Messages that left for media servers and begin so.
    pub fn down(&self, start: &str) -> Vec<String> {
        let to_server = |flow: &tandem::base::Flow| (0..SERVERS).any(|n| server_addr(n) == flow.remote);
        let sent = self.sent.iter().flatten().filter(|(flow, text)| to_server(flow) && text.starts_with(start));
        sent.map(|(_, text)| text.clone()).collect()
    }

    /// Messages that left for the first caller and begin so.
    pub fn up(&self, start: &str) -> usize {
        let sent = self.sent.iter().flatten();
        sent.filter(|(flow, text)| flow.remote == caller_addr(0) && text.starts_with(start)).count()
    }

    /// Messages that left for one media server and begin so.
    fn asked(&self, server: usize, start: &str) -> usize {
        let sent = self.sent.iter().flatten();
        sent.filter(|(flow, text)| flow.remote == server_addr(server) && text.starts_with(start)).count()
    }

    /// Dies, stays dead; the call ends; the only report.
    fn survive(&mut self) -> Outcome {
        self.crash(0, NEVER);
        self.run_until(Duration::from_secs(19), |w| !w.reports.is_empty());
        assert_eq!(self.active(), Some(1));
        self.reports[0].outcome
    }
}

/// An armed pair that remembers what it sent; node 0 is active.
pub fn world(seed: u64) -> World {
    let mut world = World::armed(seed);
    world.sent = Some(Vec::new());
    world
}

#[test]
fn an_invite_that_was_only_received_is_served_when_it_comes_again() {
    let mut w = world(1);
    w.call(0, Plan::default());
    // The INVITE is there and its record is not: neither 100 nor INVITE has left.
    w.run_until(ms(50), |w| w.node(0).gauges().held == 2);
    w.wire.sever(false);
    assert_eq!((w.up("SIP/2.0 100"), w.down("INVITE").len()), (0, 0));
    assert_eq!(w.survive(), Outcome::Completed);
}

#[test]
fn an_invite_that_was_recorded_goes_on_to_the_same_server_with_the_same_octets() {
    for wait in [0, 1, 30, 100] {
        let mut w = world(2);
        w.call(0, Plan::default());
        w.run_until(ms(50), |w| w.node(1).gauges().shadows == 1);
        w.run_for(ms(wait));
        assert_eq!(w.survive(), Outcome::Completed, "after {wait} ms");
        let invites = w.down("INVITE");
        assert!(invites.windows(2).all(|two| two[0] == two[1]), "{invites:?}");
        assert!(!invites.is_empty() && w.up("SIP/2.0 200") >= 2, "of INVITE and BYE");
    }
}

#[test]
fn an_answered_call_goes_on_and_ends_once() {
    let mut w = world(3);
    w.call(0, Plan { hold: Duration::from_secs(3), ..Plan::default() });
    w.run_until(ms(2_000), |w| w.node(1).gauges().legs == 1);
    assert_eq!(w.survive(), Outcome::Completed);
    let node = w.node(1);
    assert_eq!((node.gauges().legs, node.gauges().grants), (0, 0));
    assert_eq!((node.stats().calls.legs_taken_over, node.stats().calls.calls_ended_bye), (1, 1));
}

#[test]
fn an_answer_that_the_survivor_never_heard_of_is_not_sought_elsewhere() {
    // Before and after the nodes themselves notice that their link is cut.
    for silence in [20, 100, 300, 1_500] {
        let mut w = world(9);
        w.call(0, Plan { hold: Duration::from_secs(12), ..Plan::default() });
        w.run_until(ms(50), |w| w.node(1).gauges().shadows == 1);
        // Its beats go on: the active node is alive, and cannot tell what it does.
        w.wire.stream_cut = true;
        w.run_until(ms(5_000), |w| !w.down("ACK").is_empty());
        w.run_for(ms(silence));
        assert_eq!((w.node(1).gauges().legs, w.node(1).gauges().shadows), (0, 1));
        assert_eq!(w.survive(), Outcome::Completed, "after {silence} ms");
        let mut asked: Vec<String> = w.down("INVITE").iter().map(|i| i.lines().next().unwrap().to_owned()).collect();
        asked.dedup();
        assert_eq!((asked.len(), w.down("CANCEL").len()), (1, 0), "after {silence} ms: {asked:?}");
        // Its BYE came by: the INVITE is done with before it would be sent again.
        w.run_until(Duration::from_secs(16), |w| w.node(1).gauges().grants == 0);
    }
}

#[test]
fn a_call_that_ends_while_it_is_taken_over_ends_on_both_nodes() {
    let plan = || Plan { hold: ms(1_000), ..Plan::default() };
    let ends = {
        let mut w = world(12);
        w.call(0, plan());
        w.run_until(ms(5_000), |w| !w.down("BYE").is_empty());
        w.now
    };
    for n in 0..400 {
        let early = Duration::from_micros(200 * (n / 2));
        let mut w = world(12);
        w.call(0, plan());
        w.run_for((ends + ms(5)).since(w.now) - early);
        match n % 2 {
            0 => w.command(0, tandem::cluster::Command::Switchover),
            _ => w.crash(0, ms(500)),
        }
        w.run_until(Duration::from_secs(40), |w| !w.reports.is_empty());
        w.run_for(ms(5_000));
        assert_eq!((w.reports[0].outcome, w.active()), (Outcome::Completed, Some(1)), "{early:?} before the end");
        let left = [0, 1].map(|n| (w.node(n).gauges().legs, w.node(n).gauges().grants));
        assert_eq!(left, [(0, 0); 2], "{early:?} before 5 ms after the end");
    }
}

#[test]
fn a_cancel_that_was_answered_is_carried_out_by_the_survivor() {
    let mut w = world(4);
    let slow = Behaviour { answer_after: ms(9_000), ..Default::default() };
    w.servers.iter_mut().for_each(|server| server.behave(slow));
    w.call(0, Plan { cancel_after: Some(ms(500)), ..Plan::default() });
    w.run_until(ms(900), |w| w.up("SIP/2.0 200") == 1);
    assert_eq!(w.survive(), Outcome::Cancelled);
    let cancels = w.down("CANCEL");
    assert!(!cancels.is_empty() && cancels.windows(2).all(|two| two[0] == two[1]));
    let over = |w: &World| w.servers.iter().all(|s| s.calls() == 0) && w.node(1).gauges().grants == 0;
    w.run_until(Duration::from_secs(1), over);
}

/// Both nodes serve, and the one that was given the call is silent: the other one has its INVITE, and not yet as its own.
#[test]
fn a_cancel_for_a_node_that_fell_silent_waits_for_who_goes_on_with_its_calls() {
    let mut w = World::armed_in(4, Scenario { spread: Some(Spread::Calls), ..Scenario::quiet() });
    w.sent = Some(Vec::new());
    let slow = Behaviour { answer_after: ms(9_000), ..Default::default() };
    w.servers.iter_mut().for_each(|server| server.behave(slow));
    w.call(0, Plan { cancel_after: Some(ms(1_500)), ..Plan::default() });
    w.run_until(ms(200), |w| (0..2).any(|n| w.node(n).gauges().shadows == 1));
    let survivor = usize::from(w.node(1).gauges().shadows == 1);
    w.run_until(ms(900), |w| w.up("SIP/2.0 180") == 1);
    w.hang(1 - survivor, NEVER);
    w.run_until(Duration::from_secs(8), |w| !w.reports.is_empty());
    assert_eq!(w.node(survivor).stats().calls.setups_taken_over, 1);
    assert_eq!(w.reports[0].outcome, Outcome::Cancelled);
}

/// The lease is 50 s: whoever owns a call hears of too little of it to keep it alive.
#[test]
fn what_passes_through_one_node_keeps_a_call_of_the_other_one_alive() {
    for seed in 0..6 {
        let mut w = World::armed_in(seed, Scenario { spread: Some(Spread::Datagrams), ..Scenario::quiet() });
        let steps = vec![(Duration::from_secs(24), Step::Info); 10];
        w.call(0, Plan { hold: Duration::from_secs(20), steps, ..Plan::default() });
        w.run_for(Duration::from_secs(239));
        let lapsed = |w: &World| [0, 1].map(|n| w.node(n).stats().calls.calls_ended_inactive);
        assert_eq!((lapsed(&w), [0, 1].map(|n| w.node(n).gauges().legs)), ([0; 2], [1; 2]), "seed {seed}");
        w.run_until(Duration::from_secs(30), |w| !w.reports.is_empty());
        assert_eq!(w.reports[0].outcome, Outcome::Completed);
        w.run_for(ms(5_000));
        assert_eq!([0, 1].map(|n| w.node(n).gauges().grants), [0; 2], "seed {seed}");
    }
}

/// Over a stream nobody repeats anything: neither the caller its INVITE nor the node its final.
#[test]
fn a_refusal_that_was_recorded_and_had_not_left_is_told_over_a_stream_too() {
    let mut w = world(14);
    let (name, addr, node) = ("c0".to_owned(), caller_addr(0), node_addr());
    w.callers[0] =
        Caller::new(caller::Config { name, addr, transport: Transport::Tcp, node, backup: None, timing: TIMING });
    let busy = Behaviour { mood: Mood::Refusing(486, None), ..Default::default() };
    w.servers.iter_mut().for_each(|server| server.behave(busy));
    let ringing = |w: &World| w.node(1).exposure().map(|exposure| exposure.peer_ringing);
    w.call(0, Plan::default());
    w.run_until(ms(50), |w| ringing(w) == Some(1));
    w.run_until(ms(500), |w| ringing(w) == Some(0));
    assert_eq!((w.up("SIP/2.0 486"), w.down("ACK").len()), (0, 0), "the standby knows, nobody else does");
    assert_eq!(w.survive(), Outcome::Failed(486));
    w.run_for(ms(20_000));
    assert_eq!(w.up("SIP/2.0 486"), 1, "a reliable transport needs it once");
    assert_eq!(w.node(1).gauges().grants, 0);
}

#[test]
fn without_an_armed_peer_nothing_waits() {
    let mut w = world(5);
    w.crash(1, NEVER);
    w.run_for(ms(500));
    w.call(0, Plan::default());
    w.run_until(ms(50), |w| w.up("SIP/2.0 100") == 1);
    assert_eq!(w.node(0).stats().gate.held, 0);
    w.run_until(Duration::from_secs(15), |w| !w.reports.is_empty());
    assert_eq!(w.reports[0].outcome, Outcome::Completed);
}

#[test]
fn what_waits_for_the_peer_has_its_word_at_once() {
    let mut w = world(11);
    w.call(0, Plan::default());
    w.run_until(Duration::from_secs(15), |w| !w.reports.is_empty());
    w.run_for(ms(12));
    let gate = w.node(0).stats().gate;
    // INVITE and 100, 200, 200 to BYE: there, applied and back takes two flights of 0.2 ms each.
    assert_eq!((gate.held, gate.unprotected), (4, 0));
    assert!(gate.waited_us < 4 * 500, "{} us", gate.waited_us);
    assert_eq!(w.node(0).exposure().map(|exposure| exposure.records), Some(0), "the rest was acknowledged later");
}

#[test]
fn where_nothing_waits_for_the_peer_it_is_told_a_moment_later() {
    let mut w = World::armed_in(10, Scenario { commit: Commit::Async, ..Scenario::quiet() });
    for _ in 0..20 {
        w.call(0, Plan { hold: Duration::from_secs(8), ..Plan::default() });
    }
    w.run_until(ms(2_000), |w| w.node(0).gauges().legs == 20);
    let told = w.now;
    w.run_until(ms(5), |w| w.node(1).gauges().legs == 20);
    assert!(w.now.since(told) > ms(1), "the last records gathered first");
    w.run_for(ms(12));
    let gate = w.node(0).stats().gate;
    let unacknowledged = w.node(0).exposure().map(|exposure| exposure.records);
    assert_eq!((gate.held, gate.unprotected, unacknowledged), (0, 0, Some(0)));
    w.crash(0, NEVER);
    w.run_until(Duration::from_secs(25), |w| w.reports.len() == 20);
    assert!(w.reports.iter().all(|report| report.outcome == Outcome::Completed));
}

#[test]
fn what_the_peer_does_not_acknowledge_in_time_leaves_all_the_same() {
    let mut w = world(6);
    w.hang(1, ms(40));
    w.call(0, Plan::default());
    w.run_until(ms(20), |w| w.up("SIP/2.0 100") == 1);
    assert_eq!((w.node(0).gauges().held, w.node(0).stats().gate.unprotected), (0, 2));
}

#[test]
fn a_dead_node_that_starts_again_at_once_gets_all_that_was_adopted() {
    let mut w = world(7);
    for _ in 0..20 {
        w.call(0, Plan { hold: Duration::from_secs(8), ..Plan::default() });
    }
    w.run_until(ms(2_000), |w| w.node(1).gauges().legs == 20);
    w.crash(0, ms(8));
    w.run_until(ms(1_000), |w| w.machines[0].turns() && w.is_pair());
    assert_eq!((w.active(), w.node(0).gauges().legs), (Some(1), 20), "armed means that it could take over");
}

#[test]
fn a_node_that_starts_again_gets_all_however_much_that_is() {
    const CALLS: usize = 120;
    const OCTETS: usize = 50_000;
    const { assert!(CALLS * OCTETS > tandem::base::limits::BULK_OUTBOUND) };
    let settings = crate::scenario::Settings { members: [Some(None); SERVERS], ..Scenario::quiet().settings };
    let mut w = World::armed_in(13, Scenario { settings, ..Scenario::quiet() });
    let slow = tandem::agent::media_server::Behaviour { answer_after: ms(9_000), ..Default::default() };
    w.servers.iter_mut().for_each(|server| server.behave(slow));
    let extra = format!("X-Octets: {}\r\n", "x".repeat(OCTETS));
    for n in 0..CALLS {
        w.call(n % CALLERS, Plan { extra: extra.clone(), ..Plan::default() });
    }
    w.run_until(ms(2_000), |w| w.node(1).gauges().shadows == CALLS);
    w.crash(1, ms(8));
    w.run_until(ms(1_000), |w| w.machines[1].turns() && w.is_pair());
    assert_eq!(w.node(1).gauges().shadows, CALLS, "armed means that it could take over");
}

#[test]
fn hosts_that_were_cut_off_learn_who_holds_the_address() {
    let mut w = world(8);
    // The first caller is beside node 0, all others beside node 1.
    w.play(Act::Part(Some(std::array::from_fn::<_, HOSTS, _>(|host| Side::Of(usize::from(host != 0))))));
    w.run_until(Duration::from_secs(3), |w| w.machines[1].is_active());
    w.crash(0, ms(50));
    w.run_for(ms(500));
    w.play(Act::Part(None));
    w.run_until(Duration::from_secs(3), World::is_pair);
    w.run_for(ms(300));
    w.call(0, Plan::default());
    w.run_until(Duration::from_secs(15), |w| !w.reports.is_empty());
    assert_eq!(w.reports[0].outcome, Outcome::Completed);
}

/// Hangs as the active node under 20 answered calls, wakes up as the standby, and is armed again.
fn stalled(seed: u64) -> World {
    let mut w = world(seed);
    for _ in 0..20 {
        w.call(0, Plan { hold: Duration::from_secs(9), ..Plan::default() });
    }
    w.run_until(ms(2_000), |w| w.node(1).gauges().legs == 20);
    w.hang(0, ms(1_000));
    w.run_until(ms(3_000), |w| w.machines[0].turns() && w.is_pair());
    assert_eq!(w.active(), Some(1));
    w
}

#[test]
fn a_node_that_took_over_from_a_hung_one_can_hand_back_without_a_call_in_between() {
    let mut w = stalled(10);
    w.command(1, tandem::cluster::Command::Switchover);
    w.run_until(ms(100), |w| w.active() == Some(0));
    w.run_until(Duration::from_secs(15), |w| w.reports.len() == 20);
    assert!(w.reports.iter().all(|report| report.outcome == Outcome::Completed));
}

/// The role goes there and back while a server repeats its 2xx, whose first copy the network lost.
#[test]
fn an_answer_to_an_invite_of_an_earlier_time_as_the_active_node_reaches_its_caller() {
    let mut w = world(16);
    let slow = Behaviour { answer_after: ms(1_500), ..Default::default() };
    w.servers.iter_mut().for_each(|server| server.behave(slow));
    w.call(0, Plan { hold: Duration::from_secs(4), ..Plan::default() });
    w.run_until(ms(1_000), |w| w.up("SIP/2.0 180") == 1);
    w.command(0, tandem::cluster::Command::Switchover);
    w.run_until(ms(1_000), |w| w.active() == Some(1) && w.is_pair());
    w.run_until(ms(2_000), |w| w.node(1).gauges().held == 1);
    w.net.weather.lost = 1_000;
    w.run_until(ms(10), |w| w.up("SIP/2.0 200") == 1);
    w.net.weather.lost = 0;
    w.command(1, tandem::cluster::Command::Switchover);
    w.run_until(ms(100), |w| w.active() == Some(0));
    w.run_until(Duration::from_secs(40), |w| !w.reports.is_empty());
    assert_eq!(w.reports[0].outcome, Outcome::Completed);
    w.run_for(ms(5_000));
    let left = [0, 1].map(|n| (w.node(n).gauges().legs, w.node(n).gauges().grants));
    assert_eq!(left, [(0, 0); 2]);
}

/// While its node hangs, the answer to an INVITE of which nobody was told passes at the other one, and leaves there what
/// absorbs repetitions. The role comes back before the media server says it again.
#[test]
fn an_invite_of_the_peer_is_taken_up_although_its_answer_has_passed_here() {
    let mut w = world(19);
    let slow = Behaviour { answer_after: ms(1_500), ..Default::default() };
    w.servers.iter_mut().for_each(|server| server.behave(slow));
    w.wire.stream_cut = true;
    w.run_for(ms(3_000));
    w.call(0, Plan { hold: Duration::from_secs(20), ..Plan::default() });
    w.run_until(ms(1_000), |w| w.up("SIP/2.0 180") == 1);
    w.hang(0, ms(2_500));
    w.run_until(ms(2_000), |w| w.up("SIP/2.0 200") == 1);
    assert!(w.machines[1].is_active());
    w.net.weather.lost = 1_000;
    w.run_until(ms(3_000), |w| w.machines[0].turns() && w.active() == Some(1));
    w.hang(1, ms(1_000));
    w.run_until(ms(2_000), |w| w.machines[1].turns() && w.active() == Some(0));
    assert_eq!((w.node(0).gauges().ringing, w.node(1).gauges().shadows), (1, 0));
    w.wire.stream_cut = false;
    w.run_until(ms(3_000), World::is_pair);
    assert_eq!((w.node(0).gauges().ringing, w.node(1).gauges().shadows), (1, 1), "a takeover would know of it");
    w.net.weather.lost = 0;
    w.run_until(Duration::from_secs(40), |w| !w.reports.is_empty());
    assert_eq!(w.reports[0].outcome, Outcome::Completed);
    let left = [0, 1].map(|n| (w.node(n).gauges().legs, w.node(n).gauges().grants));
    assert_eq!(left, [(0, 0); 2]);
}

/// Likewise, and the node that passed the answer keeps the role: what it takes up has ended well already.
#[test]
fn an_invite_of_the_peer_whose_answer_has_passed_here_holds_no_second_port() {
    let mut w = world(19);
    let slow = Behaviour { answer_after: ms(1_500), ..Default::default() };
    w.servers.iter_mut().for_each(|server| server.behave(slow));
    w.wire.stream_cut = true;
    w.run_for(ms(3_000));
    w.call(0, Plan { hold: Duration::from_secs(20), ..Plan::default() });
    w.run_until(ms(1_000), |w| w.up("SIP/2.0 180") == 1);
    w.hang(0, ms(2_500));
    w.run_until(ms(2_000), |w| w.up("SIP/2.0 200") == 1 && w.node(1).gauges().legs == 1);
    assert_eq!(w.node(1).gauges().grants, 1);
    w.run_until(ms(3_000), |w| w.machines[0].turns() && w.active() == Some(1));
    w.wire.stream_cut = false;
    w.run_until(ms(3_000), World::is_pair);
    w.run_for(ms(1_000));
    assert_eq!((w.active(), w.node(1).gauges().grants), (Some(1), 1), "one call, one port");
    assert_eq!(w.down("CANCEL").len(), 0, "nobody gave it up");
    w.run_until(Duration::from_secs(40), |w| !w.reports.is_empty());
    assert_eq!(w.reports[0].outcome, Outcome::Completed);
    let left = [0, 1].map(|n| (w.node(n).gauges().legs, w.node(n).gauges().grants));
    assert_eq!(left, [(0, 0); 2]);
}

/// The world sees to it that no server ever has more calls than its ports.
#[test]
fn ports_of_calls_that_only_a_dead_node_knew_of_are_left_alone_under_exact() {
    let mut settings = Scenario::quiet().settings;
    settings.members = [Some(Some(10)); SERVERS];
    let partition = tandem::cluster::Partition::Exact;
    let mut w = World::armed_in(17, Scenario { partition, settings, ..Scenario::quiet() });
    let more = |w: &mut World, calls: usize| {
        let before = w.reports.len();
        (0..calls).for_each(|n| w.call(n % CALLERS, Plan { hold: Duration::from_secs(120), ..Plan::default() }));
        w.run_for(ms(3_000));
        let refused = w.reports[before..].iter().filter(|report| report.outcome == Outcome::Failed(480)).count();
        calls - refused
    };
    let withheld = |w: &World, n: usize| w.node(n).resources().iter().map(|r| r.withheld).sum::<u32>() as usize;
    w.wire.stream_cut = true;
    w.run_for(ms(3_000));
    let unheard = more(&mut w, 40);
    assert_eq!(unheard, 27, "its share of 30 ports");
    w.wire.stream_cut = false;
    w.crash(0, ms(3_000));
    w.run_until(ms(2_000), |w| w.machines[1].is_active());
    assert_eq!(withheld(&w, 1), unheard, "it knows none of them");
    let taken = more(&mut w, 40);
    assert_eq!(taken, 3);
    // A hand-over within the lease forgets nothing.
    w.run_until(ms(3_000), World::is_pair);
    w.run_for(ms(500));
    w.command(1, tandem::cluster::Command::Switchover);
    w.run_until(ms(1_000), |w| w.active() == Some(0) && w.is_pair());
    assert_eq!((withheld(&w, 0), more(&mut w, 40)), (unheard, 0));
    w.run_for(Duration::from_secs(60));
    assert_eq!((withheld(&w, 0), withheld(&w, 1)), (0, 0), "a lease has passed");
}

/// What is left alone is known to who has the role before the first round of comparisons, and in a hurry.
#[test]
fn ports_that_are_left_alone_are_told_as_soon_as_the_nodes_meet() {
    for hand_over in [false, true] {
        let partition = tandem::cluster::Partition::Exact;
        let mut w = World::armed_in(18, Scenario { partition, ..Scenario::quiet() });
        w.wire.stream_cut = true;
        w.run_for(ms(3_000));
        w.wire.stream_cut = false;
        w.crash(0, ms(3_000));
        w.run_until(ms(2_000), |w| w.machines[1].is_active());
        let withheld = |w: &World, n: usize| w.node(n).resources().iter().map(|r| r.withheld).sum::<u32>();
        assert_eq!(withheld(&w, 1), 3 * 8, "of each the greater share, and what cannot be split");
        if hand_over {
            w.run_until(ms(4_000), |w| w.wire.link != 0 && w.is_pair());
            w.command(1, tandem::cluster::Command::Switchover);
        } else {
            w.run_until(ms(4_000), |w| w.wire.link != 0 && w.machines[0].up());
            w.run_for(ms(20));
            w.crash(1, NEVER);
        }
        w.run_until(ms(4_000), |w| w.active() == Some(0));
        assert_eq!(withheld(&w, 0), 3 * 8, "{hand_over}");
    }
}

#[test]
fn ports_of_calls_that_two_dead_nodes_knew_of_are_left_alone_together() {
    let mut settings = Scenario::quiet().settings;
    settings.members = [Some(Some(10)); SERVERS];
    let partition = tandem::cluster::Partition::Exact;
    let mut w = World::armed_in(20, Scenario { partition, settings, ..Scenario::quiet() });
    let withheld = |w: &World, n: usize| w.node(n).resources().iter().map(|r| r.withheld).sum::<u32>();
    for (dies, again, left_alone) in [(0, ms(500), 27), (1, NEVER, 30)] {
        w.wire.stream_cut = true;
        w.run_for(ms(3_000));
        w.wire.stream_cut = false;
        w.crash(dies, again);
        w.run_until(ms(2_000), |w| w.machines[1 - dies].is_active());
        assert_eq!(withheld(&w, 1 - dies), left_alone, "of 30, each has had a share of 27");
        w.run_for(ms(2_000));
    }
}

/// Both reach the same servers, and the world watches the limit of each.
#[test]
fn two_halves_of_a_cut_keep_the_limits_of_servers_that_both_reach() {
    let mut settings = Scenario::quiet().settings;
    settings.members = [Some(Some(10)); SERVERS];
    let partition = tandem::cluster::Partition::Exact;
    let mut w = World::armed_in(21, Scenario { partition, settings, ..Scenario::quiet() });
    let sides = |host| if host < CALLERS { Side::Of(host % 2) } else { Side::Both };
    let calls = |w: &mut World| {
        (0..80).for_each(|n| w.call(n % CALLERS, Plan { hold: Duration::from_secs(120), ..Plan::default() }));
        w.run_for(ms(5_000));
        w.servers.iter().map(|server| server.calls()).sum::<usize>()
    };
    w.play(Act::Part(Some(std::array::from_fn::<_, HOSTS, _>(sides))));
    w.run_for(ms(2_000));
    assert!(w.machines.iter().all(Machine::is_active));
    assert_eq!(calls(&mut w), 30, "each its share");
    // The second one dies in the cut, and is proved dead: nobody else heard of its three.
    w.crash(1, NEVER);
    w.command(0, tandem::cluster::Command::DeclareDead(tandem::base::NodeId(2)));
    w.run_for(ms(100));
    let row = &w.node(0).resources()[0];
    assert_eq!((row.own, row.withheld, row.allowance), (9, 1, None));
    assert_eq!(calls(&mut w), 30);
}

/// Both reach the same servers and the witness; who led goes on with everything, the other one takes nothing new.
#[test]
fn in_a_cut_the_witness_lets_one_half_have_all_ports() {
    let mut settings = Scenario::quiet().settings;
    settings.members = [Some(Some(10)); SERVERS];
    let partition = tandem::cluster::Partition::Witness;
    let mut w = World::armed_in(21, Scenario { partition, settings, ..Scenario::quiet() });
    let held = |w: &World, n: usize| w.node(n).pair_status().unwrap().witness.unwrap().held;
    w.run_until(ms(5_000), |w| held(w, 0));
    w.run_for(ms(1_000));
    let sides = |host| if host < CALLERS { Side::Of(host % 2) } else { Side::Both };
    let calls = |w: &mut World, caller: usize| {
        (0..40).for_each(|_| w.call(caller, Plan { hold: Duration::from_secs(120), ..Plan::default() }));
        w.run_for(ms(5_000));
        w.servers.iter().map(|server| server.calls()).sum::<usize>()
    };
    w.play(Act::Part(Some(std::array::from_fn::<_, HOSTS, _>(sides))));
    w.run_for(ms(4_000));
    assert!(w.machines.iter().all(Machine::is_active));
    assert_eq!((calls(&mut w, 1), calls(&mut w, 0)), (0, 30));
    // The holder loses the witness: nothing that the other one does not know of is spent twice.
    w.play(Act::CutWitness(0, true));
    w.run_for(ms(5_000));
    assert_eq!(([0, 1].map(|n| held(&w, n)), calls(&mut w, 1)), ([false, true], 30));
}

/// The end of a call is remembered for 64*T1, and a cut may last longer.
#[test]
fn a_call_that_ended_at_one_side_of_a_long_cut_ends_at_the_other_when_they_meet() {
    let mut w = world(19);
    w.call(0, Plan { hold: ms(8_000), ..Plan::default() });
    w.run_until(ms(2_000), |w| w.node(1).gauges().legs == 1);
    w.play(Act::Part(Some([Side::Of(0); HOSTS])));
    w.run_until(ms(12_000), |w| !w.reports.is_empty());
    // One that the other side has never heard of is forgotten as ever.
    w.call(0, Plan { hold: ms(1_000), ..Plan::default() });
    w.run_for(ms(30_000));
    let counts = |w: &World| [0, 1].map(|n| (w.node(n).gauges().legs, w.node(n).gauges().remembered));
    assert_eq!((w.reports.len(), counts(&w)), (2, [(0, 1), (1, 0)]));
    w.play(Act::Part(None));
    w.run_until(ms(3_000), World::is_pair);
    w.run_for(ms(500));
    assert_eq!([0, 1].map(|n| (w.node(n).gauges().legs, w.node(n).gauges().grants)), [(0, 0); 2]);
    w.run_for(ms(40_000));
    assert_eq!(counts(&w), [(0, 0); 2]);
}

/// Likewise of one that began at one side and ended at the other, which had never heard of it.
#[test]
fn a_call_that_moved_to_the_other_side_of_a_long_cut_is_over_when_they_meet() {
    let mut w = world(19);
    w.play(Act::Part(Some([Side::Of(0); HOSTS])));
    w.run_until(ms(3_000), |w| w.machines.iter().all(Machine::is_active));
    w.call(0, Plan { steps: vec![(ms(2_000), Step::Info)], hold: ms(2_000), ..Plan::default() });
    w.run_until(ms(2_000), |w| w.node(0).gauges().legs == 1);
    w.run_for(ms(500));
    w.play(Act::Part(Some([Side::Of(1); HOSTS])));
    w.arp = [[1; 2]; HOSTS];
    w.run_until(ms(12_000), |w| !w.reports.is_empty());
    assert_eq!(w.reports[0].outcome, Outcome::Completed);
    w.run_for(ms(20_000));
    assert_eq!([0, 1].map(|n| (w.node(n).gauges().legs, w.node(n).gauges().remembered)), [(1, 0), (0, 1)]);
    w.play(Act::Part(None));
    w.run_until(ms(3_000), World::is_pair);
    w.run_for(ms(500));
    assert_eq!([0, 1].map(|n| (w.node(n).gauges().legs, w.node(n).gauges().grants)), [(0, 0); 2]);
}

/// What the loser of a meeting has is given to the other node in one word, and the link falls with it.
#[test]
fn calls_outlive_the_link_that_falls_as_they_are_handed_over() {
    let mut w = world(23);
    w.play(Act::Part(Some([Side::Of(0); HOSTS])));
    w.run_until(ms(3_000), |w| w.machines.iter().all(Machine::is_active));
    w.call(0, Plan { hold: Duration::from_secs(20), ..Plan::default() });
    w.run_until(ms(2_000), |w| w.node(0).gauges().legs == 1);
    let slow = Behaviour { answer_after: ms(8_000), ..Default::default() };
    w.servers.iter_mut().for_each(|server| server.behave(slow));
    w.call(1, Plan { hold: ms(1_000), ..Plan::default() });
    w.run_until(ms(1_000), |w| w.node(0).gauges().ringing == 1);
    w.wire.stream_cut = true;
    w.play(Act::Part(None));
    w.run_for(ms(1_500));
    w.wire.stream_cut = false;
    let under_way = |w: &World| w.wire.queue.values().any(|e| matches!(e, Event::Frame { kind: Kind::Handover, .. }));
    w.run_until(ms(3_000), under_way);
    assert!(under_way(&w) && w.active() == Some(1));
    w.break_link();
    w.run_until(ms(3_000), World::is_pair);
    let held = [0, 1].map(|n| (w.node(n).gauges().legs, w.node(n).gauges().grants));
    assert_eq!((held, w.node(1).gauges().ringing), ([(1, 2); 2], 1));
    w.run_until(Duration::from_secs(40), |w| w.reports.len() == 2);
    assert!(w.reports.iter().all(|report| report.outcome == Outcome::Completed), "{:?}", w.reports);
    let left = [0, 1].map(|n| (w.node(n).gauges().legs, w.node(n).gauges().grants));
    assert_eq!(left, [(0, 0); 2]);
}

/// Beats are back before the stream, which is dead and does not know it.
#[test]
fn calls_outlive_the_link_that_was_dead_when_the_halves_met() {
    let mut w = world(31);
    w.play(Act::Part(Some([Side::Of(0); HOSTS])));
    w.run_until(ms(600), |w| w.machines[1].is_active());
    w.call(0, Plan { hold: Duration::from_secs(20), ..Plan::default() });
    w.run_until(ms(300), |w| w.node(0).gauges().legs == 1);
    w.wire.stream_cut = true;
    w.play(Act::Part(None));
    w.run_until(ms(200), |w| w.active() == Some(1));
    w.run_for(ms(1_200));
    w.wire.stream_cut = false;
    w.run_until(ms(3_000), World::is_pair);
    w.run_for(ms(7_000));
    assert_eq!([0, 1].map(|n| (w.node(n).gauges().legs, w.node(n).gauges().grants)), [(1, 1); 2]);
    w.run_until(Duration::from_secs(40), |w| !w.reports.is_empty());
    assert_eq!(w.reports[0].outcome, Outcome::Completed);
}

/// A cut with all callers on the side of one node; both reach the servers.
fn callers_at(node: usize) -> Act {
    let side = |host| if host < CALLERS { Side::Of(node) } else { Side::Both };
    Act::Part(Some(std::array::from_fn::<_, HOSTS, _>(side)))
}

/// Nobody hears of the first node's question to the second server: the caller, now on the other side of a cut, asks the
/// second node, which will ask the first server.
fn taken_twice(answer_after: Duration, hold: Duration) -> World {
    let mut settings = Scenario::quiet().settings;
    settings.members = [Some(Some(100)); SERVERS];
    let mut w = World::armed_in(29, Scenario { settings, ..Scenario::quiet() });
    w.sent = Some(Vec::new());
    w.call(0, Plan { hold: ms(500), ..Plan::default() });
    w.run_until(ms(5_000), |w| w.reports.len() == 1);
    let answers = Behaviour { answer_after, ..Default::default() };
    w.servers.iter_mut().for_each(|server| server.behave(answers));
    w.wire.stream_cut = true;
    w.run_for(ms(3_000));
    w.call(0, Plan { hold, ..Plan::default() });
    w.net.weather.lost = 1_000;
    w.run_until(ms(100), |w| w.asked(1, "INVITE") == 1);
    w.net.weather.lost = 0;
    w.play(callers_at(1));
    w
}

#[test]
fn an_invite_that_both_nodes_took_rings_at_one_server_when_they_have_met() {
    let mut w = taken_twice(ms(9_000), ms(1_000));
    let first = w.asked(0, "INVITE");
    w.run_until(ms(4_000), |w| w.asked(0, "INVITE") > first && w.asked(1, "INVITE") > 1);
    assert_eq!([0, 1].map(|n| w.node(n).gauges().ringing), [1; 2]);
    w.play(Act::Part(None));
    w.wire.stream_cut = false;
    w.run_until(ms(3_000), World::is_pair);
    w.run_for(ms(500));
    assert_eq!([0, 1].map(|server| w.asked(server, "CANCEL")), [0, 1], "one of the two is told to stop");
    w.run_until(Duration::from_secs(40), |w| w.reports.len() == 2);
    assert_eq!(w.reports[1].outcome, Outcome::Completed);
    let left = [0, 1].map(|n| (w.node(n).gauges().legs, w.node(n).gauges().grants));
    assert_eq!(left, [(0, 0); 2]);
}

/// Likewise, but both servers answer before the nodes meet: both dialogs have one leg id.
#[test]
fn a_call_of_two_dialogs_is_counted_where_the_one_that_stays_is() {
    let mut w = taken_twice(Behaviour::default().answer_after, Duration::from_secs(20));
    w.run_until(ms(4_000), |w| [0, 1].iter().all(|n| w.node(*n).gauges().legs == 1));
    w.play(Act::Part(None));
    w.wire.stream_cut = false;
    w.run_until(ms(3_000), World::is_pair);
    w.run_for(ms(500));
    let ports = |w: &World| [0, 1].map(|n| w.node(n).resources().iter().map(|r| r.in_use).collect::<Vec<_>>());
    assert_eq!(ports(&w), [[1, 0, 0]; 2], "where the caller's side asked");
    w.crash(1, NEVER);
    w.run_until(Duration::from_secs(40), |w| w.reports.len() == 2);
    assert_eq!(w.reports[1].outcome, Outcome::Completed);
    assert!(w.node(0).resources().iter().all(|r| r.in_use == 0));
}

/// The other side of the cut goes on with it, and gives it back as they meet.
#[test]
fn an_invite_that_the_survivor_has_ended_is_not_asked_anew_for_the_one_that_comes_back() {
    let mut w = world(33);
    let slow = Behaviour { answer_after: ms(20_000), ..Default::default() };
    w.servers.iter_mut().for_each(|server| server.behave(slow));
    w.call(0, Plan { cancel_after: Some(ms(1_500)), ..Plan::default() });
    w.run_until(ms(1_400), |w| w.up("SIP/2.0 180") > 0 && w.node(1).gauges().shadows == 1);
    w.play(callers_at(1));
    w.run_until(ms(4_000), |w| !w.reports.is_empty());
    assert_eq!(w.reports[0].outcome, Outcome::Cancelled);
    // Both transactions of the 487 go.
    w.run_for(ms(3_500));
    assert_eq!([0, 1].map(|n| w.node(n).gauges().ringing), [1, 0]);
    let asked = w.down("INVITE").len();
    w.play(Act::Part(None));
    w.run_until(ms(8_000), World::is_pair);
    w.run_for(ms(1_000));
    assert_eq!(w.down("INVITE").len(), asked);
    assert_eq!([0, 1].map(|n| w.node(n).gauges().grants), [0; 2]);
    w.run_for(ms(40_000));
    assert_eq!([0, 1].map(|n| w.node(n).gauges().shadows), [0; 2]);
}

/// Its node hangs, and the other one holds the address and knows nothing of the INVITE until the first goes on.
#[test]
fn a_refusal_waits_for_the_node_that_asked() {
    let mut w = world(31);
    let slow = Behaviour { answer_after: ms(20_000), ..Default::default() };
    w.servers.iter_mut().for_each(|server| server.behave(slow));
    w.wire.stream_cut = true;
    w.run_for(ms(3_000));
    w.call(0, Plan { cancel_after: Some(ms(1_000)), ..Plan::default() });
    w.run_until(ms(3_000), |w| w.down("CANCEL").len() == 1);
    w.hang(0, ms(2_500));
    w.run_until(ms(3_000), |w| w.machines[0].turns() && w.active() == Some(1));
    assert!(w.reports.is_empty());
    w.wire.stream_cut = false;
    w.run_until(ms(3_000), World::is_pair);
    w.run_until(ms(4_000), |w| !w.reports.is_empty());
    assert_eq!(w.reports[0].outcome, Outcome::Cancelled);
    assert_eq!([0, 1].map(|n| w.node(n).gauges().grants), [0; 2]);
}

/// Its copy on the other side of a cut had heard nothing of it for an `inactivity-lease`.
#[test]
fn a_call_that_goes_on_at_one_side_of_a_cut_outlives_the_end_of_its_copy() {
    let mut w = world(19);
    let steps = [(ms(20_000), Step::Info); 4].into();
    w.call(0, Plan { steps, hold: ms(20_000), ..Plan::default() });
    w.run_until(ms(2_000), |w| w.node(1).gauges().legs == 1);
    w.play(Act::Part(Some([Side::Of(0); HOSTS])));
    w.run_until(ms(52_000), |w| w.machines[1].is_active() && w.node(1).gauges().legs == 0);
    w.play(Act::Part(None));
    w.run_until(ms(3_000), World::is_pair);
    let counts = |w: &World| [0, 1].map(|n| (w.node(n).gauges().legs, w.node(n).gauges().grants));
    assert_eq!((w.active(), counts(&w)), (Some(1), [(1, 1); 2]));
    w.run_until(ms(60_000), |w| !w.reports.is_empty());
    assert_eq!(w.reports[0].outcome, Outcome::Completed);
    w.run_for(ms(500));
    assert_eq!(counts(&w), [(0, 0); 2]);
}

#[test]
fn what_is_passed_on_before_the_new_node_acts_is_handled_once_it_does() {
    let mut w = world(11);
    w.call(0, Plan::default());
    // The INVITE meets the hand-over after the former active has fallen silent.
    w.command(0, tandem::cluster::Command::Switchover);
    w.run_until(Duration::from_secs(15), |w| !w.reports.is_empty());
    assert_eq!((w.active(), w.reports[0].outcome), (Some(1), Outcome::Completed));
    assert_eq!(w.node(1).stats().stale, 0);
}

#[test]
fn an_attempt_that_was_given_up_is_asked_after_once() {
    let mut w = world(9);
    w.servers[0].crash();
    let slow = Behaviour { answer_after: ms(5_000), ..Default::default() };
    w.servers.iter_mut().for_each(|server| server.behave(slow));
    w.call(0, Plan::default());
    w.run_for(ms(2_500));
    let to_first = |w: &World| w.sent.iter().flatten().filter(|(flow, _)| flow.remote == server_addr(0)).count();
    let before = to_first(&w);
    assert!(before > 1 && w.down("INVITE").len() > before, "the next one is asked");
    assert_eq!(w.survive(), Outcome::Completed);
    assert_eq!(to_first(&w), before + 1);
}

#[test]
fn a_server_whose_place_another_one_took_is_not_asked_anew_by_the_survivor() {
    let mut w = world(9);
    w.servers[0].behave(Behaviour { mood: Mood::Late, answer_after: ms(3_000), ..Behaviour::default() });
    let ringing = Behaviour { answer_after: Duration::from_secs(9), ..Behaviour::default() };
    w.servers[1..].iter_mut().for_each(|server| server.behave(ringing));
    w.call(0, Plan { hold: Duration::from_secs(12), ..Plan::default() });
    w.run_until(ms(5_000), |w| w.down("CANCEL").len() == 1 && w.down("ACK").len() == 2);
    // Long enough for the server that was cancelled to forget its INVITE (Timer I).
    w.run_for(ms(6_000));
    assert_eq!(w.survive(), Outcome::Completed);
    let (invites, cancels) = (w.down("INVITE").len(), w.down("CANCEL").len());
    assert!(cancels >= 2, "{invites} INVITEs, {cancels} CANCELs");
    assert!(w.servers[1..].iter().all(|server| server.calls() == 0));
}

#[test]
fn a_survivor_knows_which_servers_are_in_doubt() {
    let mut w = world(15);
    w.servers[0].behave(Behaviour { mood: Mood::Silent, ..Behaviour::default() });
    for _ in 0..SERVERS {
        w.call(0, Plan::default());
    }
    w.run_until(Duration::from_secs(19), |w| w.reports.len() == SERVERS);
    // Nothing of that call is left to be sent again.
    w.run_for(Duration::from_secs(20));
    let before = w.asked(0, "INVITE");
    assert!(before > 0);
    w.crash(0, NEVER);
    w.call(0, Plan::default());
    w.run_until(Duration::from_secs(59), |w| w.reports.len() > SERVERS);
    assert_eq!((w.active(), w.reports[SERVERS].outcome), (Some(1), Outcome::Completed));
    assert_eq!(w.asked(0, "INVITE"), before, "the survivor would begin with the first server");
}
