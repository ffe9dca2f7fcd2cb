//! One takeover after the other, of every kind, while calls go on.

use std::collections::BTreeSet;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tandem::agent::caller::Caller;
use tandem::agent::media_server::{Behaviour, MediaServer};
use tandem::agent::script::{Outcome, Plan as Script, Report, Step};

use crate::rig::actor::{self, Actor, Passed};
use crate::rig::lan;
use crate::rig::load::{Answering, Load};
use crate::rig::mcp::Mcp;
use crate::rig::node::{FORGOTTEN, Metrics, Node, Setup};
use crate::rig::pair::{CALLER, PATIENCE, Pair, Plan, SERVERS, VIP, sip};
use crate::rig::poll::{until, until_true};
use crate::rig::world::World;

/// What happens to the active node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// SIGKILL.
    Kill,
    /// Its cable into the service network is pulled.
    Link,
    /// SIGSTOP.
    Stop,
    /// An operator asks.
    Switchover,
    /// SIGTERM: it hands over and ends.
    Term,
}

/// End events of answered calls, as a node counts them.
const ENDED: &str = "tandem_calls_ended_total";

const KINDS: [Kind; 5] = [Kind::Kill, Kind::Link, Kind::Stop, Kind::Switchover, Kind::Term];

/// Ends of calls that were told by processes which are gone.
#[derive(Default)]
struct Told {
    ends: f64,
    /// From the last look at each of them that was killed to its death, together.
    unseen: Duration,
    kills: u32,
}

impl Told {
    /// Kills a node's process as soon after a look at what it has told as can be.
    fn crash(&mut self, pair: &mut Pair<'_>, n: usize) {
        // So soon that hardly a call ends in between; a busy machine is asked again.
        const AT_ONCE: Duration = Duration::from_millis(20);
        let (began, ends) = (0..100)
            .map(|_| (Instant::now(), pair.nodes[n].metrics().sum(ENDED)))
            .find(|(began, _)| began.elapsed() < AT_ONCE)
            .expect("an admin listener that answers at once");
        lan::kill(pair.nodes[n].process.pid());
        self.unseen += began.elapsed();
        self.kills += 1;
        self.ends += ends;
        pair.nodes[n].process.wait(PATIENCE);
    }

    /// Looks at a process that has handed over, again and again until it ends. It only passes messages on by then.
    fn until_gone(&mut self, pair: &mut Pair<'_>, n: usize) -> ExitStatus {
        let mut ends = 0.0;
        let ended = until("its end", PATIENCE, || {
            ends = pair.nodes[n].try_metrics().map_or(ends, |metrics| metrics.sum(ENDED));
            pair.nodes[n].process.ended()
        });
        self.ends += ends;
        ended
    }

    /// Asserts that each of `calls` ended once, as all processes together told, those that live and those that are gone.
    /// A killed one may have told ends after the last look at it: as many as `rate` ends in a second gave in that time,
    /// and one more that fell into it by chance.
    fn assert_each_once(&self, pair: &Pair<'_>, calls: u32, rate: u32) {
        let living: f64 = pair.nodes.iter().map(|node| node.metrics().sum(ENDED)).sum();
        let (told, calls) = (self.ends + living, f64::from(calls));
        let unseen = f64::from(self.kills) + (self.unseen.as_secs_f64() * f64::from(rate)).ceil();
        println!("{told} ends told of {calls} calls; {} kills, {:?} not looked at", self.kills, self.unseen);
        assert!(told <= calls, "{told} ends of {calls} calls: some call ended twice");
        assert!(told >= calls - unseen, "{told} ends of {calls} calls, and at most {unseen} were not seen");
    }
}

/// What happens now, and the way back to an armed pair.
fn take_over(pair: &mut Pair<'_>, kind: Kind, told: &mut Told) {
    let active = pair.until_armed();
    match kind {
        Kind::Kill => told.crash(pair, active),
        Kind::Link => pair.field.cables[active].cut(),
        Kind::Stop => pair.nodes[active].process.signal("STOP"),
        Kind::Switchover => pair.switch_over(active),
        Kind::Term => pair.nodes[active].process.signal("TERM"),
    }
    pair.until_active(1 - active);
    match kind {
        Kind::Kill => pair.revive(active),
        Kind::Link => pair.field.cables[active].heal(),
        Kind::Stop => pair.nodes[active].process.signal("CONT"),
        Kind::Switchover => {}
        Kind::Term => {
            let ended = told.until_gone(pair, active);
            assert!(ended.success(), "{ended}");
            pair.revive(active);
        }
    }
    assert_eq!(pair.until_armed(), 1 - active, "no way back after {kind:?}");
}

/// A shuffled sequence, the same for a seed; the seed is printed.
fn shuffled(count: usize) -> Vec<Kind> {
    let seed = std::env::var("TANDEM_LAB_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("TANDEM_LAB_SEED={seed}");
    let mut chance = tandem::agent::chance::Chance::new(seed);
    let mut kinds: Vec<Kind> = KINDS.into_iter().cycle().take(count).collect();
    // Who claims on mere silence again and again is made to wait, so that a bad network does not make the address flap;
    // that is not what is looked at here.
    let silent = kinds.iter_mut().filter(|kind| **kind == Kind::Stop);
    silent.skip(2).for_each(|kind| *kind = Kind::Kill);
    for last in (1..kinds.len()).rev() {
        let other = usize::try_from(chance.within(0..last as u64 + 1)).expect("a small number");
        kinds.swap(last, other);
    }
    kinds
}

/// In full two thousand calls across twenty takeovers.
#[test]
fn calls_across_many_takeovers_of_random_kinds() {
    const RATE: u32 = 20;
    let takeovers: u32 = if std::env::var_os("TANDEM_LAB_FULL").is_some() { 20 } else { 10 };
    let calls = takeovers * 100;
    let world = World::beside("ha-takeovers");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let mut pair = plan.both(|setup| setup.t1(500)).start(&world);
    let hold = Duration::from_secs(3);
    let mut load = Load::start(&world, &pair.field.callers, CALLER, calls, RATE, hold);
    let mut told = Told::default();
    for (n, kind) in (0..).zip(shuffled(takeovers as usize)) {
        let due = u64::from(n * (calls - 100) / takeovers);
        until(&format!("{due} calls"), Duration::from_secs(60), || (load.begun() >= due).then_some(()));
        println!("takeover {n}: {kind:?} after {} calls", load.begun());
        take_over(&mut pair, kind, &mut told);
        pair.until_equal();
    }
    assert!(load.goes_on(), "all takeovers came under load");
    load.assert_lossless(Duration::from_secs(60));
    pair.until_idle();
    pair.until_equal();
    told.assert_each_once(&pair, calls, RATE);
    servers.assert_all(u64::from(calls));
}

#[test]
fn each_call_is_answered_once_and_ends_once_across_takeovers_that_end_no_process() {
    const CALLS: u32 = 600;
    let world = World::beside("ha-ends");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let mut pair = plan.both(|setup| setup.t1(500)).start(&world);
    let mut load = Load::start(&world, &pair.field.callers, CALLER, CALLS, 20, Duration::from_secs(3));
    let kinds = [Kind::Switchover, Kind::Link, Kind::Stop].into_iter().cycle().take(6);
    for (n, kind) in (0..).zip(kinds) {
        let due = n * u64::from(CALLS - 100) / 6;
        until(&format!("{due} calls"), Duration::from_secs(60), || (load.begun() >= due).then_some(()));
        take_over(&mut pair, kind, &mut Told::default());
        pair.until_equal();
    }
    assert!(load.goes_on(), "all takeovers came under load");
    load.assert_lossless(Duration::from_secs(60));
    pair.until_idle();
    pair.until_equal();
    servers.assert_all(u64::from(CALLS));
    // Both processes have lived all the time, so their counters together are all that was counted.
    let metrics = [0, 1].map(|n| pair.nodes[n].metrics());
    let sum = |name: &str, label: &str| metrics.iter().map(|m| m.labelled(name, label)).sum::<f64>();
    let names = [("tandem_calls_answered_total", ""), (ENDED, "bye"), (ENDED, "")];
    assert_eq!(names.map(|(name, label)| sum(name, label)), [f64::from(CALLS); 3], "answered, ended by BYE, ended");
}

/// Media servers on the left that answer each call after this time.
fn slow(plan: &Plan, answer_after: Duration) -> [Actor<MediaServer>; 2] {
    let behaviour = Behaviour { answer_after, ..Behaviour::default() };
    [0, 1].map(|n| actor::media_server(&plan.field.servers, &format!("m{n}"), sip(SERVERS[n]), behaviour))
}

/// Calls of each phase at the kill: as many again of which the survivor does not know.
const EACH: usize = 20;

/// Places calls that have an INFO and a BYE long after the kill; their Call-IDs when each has got `status`.
fn placed(caller: &Actor<Caller>, status: u16) -> BTreeSet<String> {
    let script = Script {
        steps: vec![(Duration::from_secs(20), Step::Info)],
        hold: Duration::from_millis(500),
        // Who hears nothing more gives up.
        cancel_after: Some(Duration::from_secs(40)),
        ..Script::default()
    };
    let calls: BTreeSet<_> = (0..EACH).map(|_| caller.call(script.clone())).collect();
    until_true(&format!("{EACH} calls at {status}"), PATIENCE, || {
        let told = |p: &Passed| !p.sent && p.message.answers(status, "INVITE") && calls.contains(p.message.call_id());
        let heard = caller.passed();
        heard.iter().filter(|p| told(p)).map(|p| p.message.call_id()).collect::<BTreeSet<_>>().len() == EACH
    });
    calls
}

#[test]
fn a_kill_while_the_peer_link_is_cut_loses_no_answered_call_and_no_more_than_was_said() {
    let world = World::beside("ha-unarmed");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let servers = slow(&plan, Duration::ZERO);
    let answer_after = |answer_after| {
        let behaviour = Behaviour { answer_after, ..Behaviour::default() };
        servers.iter().for_each(|server| server.with(|agent, _, _| agent.behave(behaviour)));
    };
    let (at_once, later) = (Duration::from_millis(100), Duration::from_secs(20));
    let mut pair = plan.both(|setup| setup.proxy("inactivity-lease = \"60s\"")).start(&world);
    let caller = actor::caller(&pair.field.callers, "uac", sip(CALLER), sip(VIP));
    let active = pair.until_armed();
    answer_after(at_once);
    let mut answered = placed(&caller, 200);
    answer_after(later);
    let mut ringing = placed(&caller, 180);
    let muted = pair.field.mute_peers();
    pair.wait("not armed", || (!pair.nodes[active].armed()).then_some(()));
    assert_eq!(pair.active(), Some(active), "a cut link is no death while the address answers");
    answer_after(at_once);
    answered.extend(placed(&caller, 200));
    answer_after(later);
    ringing.extend(placed(&caller, 180));

    let metrics = pair.nodes[active].metrics();
    let said = |phase: &str| metrics.labelled("tandem_loss_if_failed_now", &format!("phase=\"{phase}\""));
    let [said_ringing, said_answered] = ["ringing", "answered"].map(said);
    assert_eq!([said_ringing, said_answered], [2.0 * EACH as f64; 2], "nothing moved between the look and the kill");
    pair.crash(active);
    // They are asked while nobody holds the address.
    answer_after(at_once);
    let lasting = Script { hold: Duration::from_secs(20), ..Script::default() };
    let fresh: BTreeSet<_> = (0..EACH).map(|_| caller.call(lasting.clone())).collect();
    pair.until_active(1 - active);
    let survivor = &pair.nodes[1 - active];
    survivor.until("the calls that it was told of and those that it placed, each on its port", |m| {
        let alive = ["tandem_ports_in_use", "tandem_ringing", "tandem_calls"].map(|name| m.sum(name));
        alive == [3, 1, 2].map(|phases| (phases * EACH) as f64)
    });
    drop(muted);
    pair.revive(active);

    let reports = caller.finish("the end of all calls", Duration::from_secs(90));
    let lost = |of: &BTreeSet<String>| {
        let of_phase = reports.iter().filter(|report| of.contains(&report.call_id));
        let (whole, lost): (Vec<_>, Vec<_>) =
            of_phase.partition(|r| r.outcome == Outcome::Completed && r.refused.is_empty());
        assert_eq!(whole.len() + lost.len(), of.len());
        lost
    };
    let lost_ringing = lost(&ringing).len() as f64;
    println!("said {said_ringing} ringing, {said_answered} answered; lost {lost_ringing} ringing");
    assert!(lost_ringing <= said_ringing, "more calls in set-up were lost than was said");
    assert_eq!(lost(&answered), Vec::<&Report>::new(), "an answered call was lost");
    assert_eq!(lost(&fresh), Vec::<&Report>::new(), "a call that nobody had heard of was lost");
    assert_eq!(pair.until_armed(), 1 - active);
    // Their ports return with their lease.
    let idle = |n: usize| pair.nodes[n].try_metrics().is_some_and(|m| m.sum("tandem_ports_in_use") == 0.0);
    until_true("no port after one lease", Duration::from_secs(60) + PATIENCE, || idle(0) && idle(1));
    let most: usize = servers.iter().map(Actor::most_calls).sum();
    assert!(most <= 5 * EACH, "some call was placed twice: {most} at once");
    for server in servers {
        until_true("no leaked leg at a media server", PATIENCE, || server.calls() == 0);
        assert_eq!(server.violations(), Vec::<String>::new());
    }
}

#[test]
fn under_exact_calls_that_only_the_dead_node_knew_of_keep_their_ports() {
    const PORTS: usize = 10;
    let world = World::beside("ha-unheard");
    let Some(plan) = Plan::new(&world, &PORTS.to_string()) else { return };
    let servers = SERVERS.map(|ip| plan.field.servers.within(|| Mcp::answering(sip(ip))));
    let setup = |mut setup: Setup| {
        setup.cluster.push_str("partition = \"exact\"\n");
        setup.t1(500).proxy("inactivity-lease = \"60s\"")
    };
    let mut pair = plan.both(setup).start(&world);
    let active = pair.until_armed();
    let muted = pair.field.mute_peers();
    pair.wait("not armed", || (!pair.nodes[active].armed()).then_some(()));
    let mut load = Load::start(&world, &pair.field.callers, CALLER, 200, 20, Duration::from_secs(8));
    // `cluster.floor`: nine tenths.
    let spent = |m: &Metrics| SERVERS.iter().all(|ip| m.ports(sip(*ip)) == 0.9 * PORTS as f64);
    pair.nodes[active].until("its share in use", spent);
    pair.crash(active);
    drop(muted);
    pair.until_active(1 - active);
    let allowed = || servers.iter().all(|server| server.most_calls() <= PORTS);
    until_true("the end of the load", Duration::from_secs(60), || {
        assert!(allowed(), "at most {PORTS} at one media server");
        !load.goes_on()
    });
    let taken = pair.nodes[1 - active].metrics().sum("tandem_calls_answered_total");
    assert!(taken > 0.0, "the survivor spends what is left");
    load.finish(FORGOTTEN);
    let free = || pair.nodes[1 - active].metrics().sum("tandem_ports_in_use") == 0.0;
    until_true("no port in use after the lease", FORGOTTEN, free);
    assert!(allowed());
}

#[test]
fn ports_are_exact_after_a_takeover_in_mid_load() {
    const CALLS: u32 = 200;
    let world = World::beside("ha-exact");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    // All calls are there before the first is answered, and none ends before the last is.
    let servers = slow(&plan, Duration::from_secs(6));
    let mut pair = plan.both(|setup| setup.t1(500)).start(&world);
    let active = pair.until_armed();
    let load = Load::start(&world, &pair.field.callers, CALLER, CALLS, 100, Duration::from_secs(15));
    let held = || servers.each_ref().map(|server| server.calls() as f64);
    let exact = |node: &Node| {
        let metrics = node.try_metrics()?;
        let [ringing, answered] = ["tandem_ringing", "tandem_calls"].map(|name| metrics.sum(name));
        let ports = SERVERS.map(|ip| metrics.ports(sip(ip)));
        let sessions = metrics.sum("tandem_sessions");
        let whole = [ringing + answered, sessions] == [f64::from(CALLS); 2];
        (whole && ports == held()).then_some([ringing, answered])
    };
    let some = |counts: &[f64; 2]| counts.iter().all(|count| *count > 10.0);
    pair.wait("200 calls, some of them ringing", || exact(&pair.nodes[active]).filter(some));
    pair.crash(active);
    pair.until_active(1 - active);
    let [ringing, answered] = pair.wait("the same calls on the same ports", || exact(&pair.nodes[1 - active]));
    println!("after the takeover {ringing} ring, {answered} are answered");
    pair.wait("200 answered calls", || {
        exact(&pair.nodes[1 - active]).filter(|counts| *counts == [0.0, f64::from(CALLS)])
    });
    assert_eq!(held().iter().sum::<f64>(), f64::from(CALLS), "none is at two media servers");
    assert!(pair.field.nodes[1 - active].holds(VIP));
    pair.revive(active);
    pair.until_armed();
    assert_eq!(pair.until_equal(), f64::from(CALLS));
    load.assert_lossless(Duration::from_secs(60));
    pair.until_idle();
    for server in servers {
        assert_eq!((server.calls(), server.violations()), (0, Vec::<String>::new()));
    }
}
