//! A node in trouble with itself: it stalls, starves, stumbles over its own fault, or is told another time of day.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tandem::agent::chance::Chance;

use crate::rig::busy::Busy;
use crate::rig::call::Call;
use crate::rig::lan;
use crate::rig::load::{Answering, Load};
use crate::rig::node::later_binary;
use crate::rig::pair::{CALLER, PATIENCE, Pair, Plan, VIP, sip};
use crate::rig::poll::until_true;
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// How often this node became active.
fn became_active(pair: &Pair<'_>, n: usize) -> f64 {
    pair.nodes[n].metrics().sum("tandem_takeovers_total")
}

/// How often any node of the pair became active.
fn takeovers(pair: &Pair<'_>) -> f64 {
    became_active(pair, 0) + became_active(pair, 1)
}

/// Processes that get no time at all for a while.
fn stand_still(pids: &[u32], time: Duration) {
    pids.iter().for_each(|pid| lan::signal(*pid, Signal::STOP));
    thread::sleep(time);
    pids.iter().for_each(|pid| lan::signal(*pid, Signal::CONT));
}

#[test]
fn short_stalls_on_busy_processors_are_no_death() {
    const STALL: Duration = Duration::from_millis(35);
    let seconds: u32 = if std::env::var_os("TANDEM_LAB_FULL").is_some() { 1_200 } else { 10 };
    let world = World::new("ha-stalls");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let pair = plan.both(|setup| setup.t1(500)).start(&world);
    let (active, before) = (pair.until_armed(), takeovers(&pair));
    let calls = 20 * (seconds + 5);
    let load = Load::start(&world, &pair.field.callers, CALLER, calls, 20, Duration::from_secs(2));
    until_true("calls", PATIENCE, || load.begun() > 0);
    let busy = Busy::everywhere();
    let mut chance = Chance::new(u64::from(std::process::id()));
    let pids = [0, 1].map(|n| pair.nodes[n].process.pid());
    let (begun, mut stalls) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(seconds.into()) {
        stand_still(&[pids[chance.within(0..2) as usize]], STALL);
        thread::sleep(Duration::from_millis(chance.within(100..231)));
        stalls += 1;
    }
    drop(busy);
    assert!(stalls >= 3 * seconds, "{stalls} stalls");
    assert_eq!((pair.until_armed(), takeovers(&pair)), (active, before), "after {stalls} stalls");
    println!("{stalls} stalls of {STALL:?} in {seconds} s: no takeover");
    load.assert_lossless(Duration::from_secs(60));
    pair.until_idle();
    servers.assert_all(u64::from(calls));
}

/// The guard gives the address up while its process stands still: somebody has to hold it again.
#[test]
fn an_address_that_a_stall_cost_is_held_again() {
    let world = World::new("ha-held-again");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let mut pair = plan.both(|setup| setup.t1(500)).start(&world);
    let given_up = |pair: &Pair<'_>, n: usize| pair.nodes[n].log().matches("not held here any more").count();
    let stall = |pair: &Pair<'_>, n: usize, millis: u64| {
        let before = given_up(pair, n);
        stand_still(&[pair.nodes[n].process.pid()], Duration::from_millis(millis));
        until_true("the guard's word", PATIENCE, || given_up(pair, n) > before);
    };
    let load = Load::start(&world, &pair.field.callers, CALLER, 200, 20, Duration::from_secs(1));
    until_true("calls", PATIENCE, || load.begun() > 0);
    let active = pair.until_armed();
    stall(&pair, active, 110);
    let active = pair.until_armed();
    pair.crash(1 - active);
    for millis in [110, 150, 400] {
        stall(&pair, active, millis);
        pair.until_active(active);
    }
    load.assert_lossless(Duration::from_secs(60));
    pair.revive(1 - active);
    assert_eq!(pair.until_armed(), active);
    pair.until_idle();
    servers.assert_all(200);
}

/// A virtual machine is moved, a hypervisor has no time: guard and main process stand still together.
#[test]
fn a_machine_that_stands_still_for_a_while_is_of_use_again() {
    let world = World::new("ha-stood-still");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let pair = plan.both(|setup| setup.t1(500)).start(&world);
    let active = pair.until_armed();
    let load = Load::start(&world, &pair.field.callers, CALLER, 200, 20, Duration::from_secs(1));
    until_true("calls", PATIENCE, || load.begun() > 0);
    let machine = |n: usize| {
        let pids: Vec<u32> = pair.field.nodes[n].pids().into_iter().map(|pid| pid.unsigned_abs()).collect();
        assert_eq!(pids.len(), 2, "main process and guard");
        pids
    };
    stand_still(&machine(1 - active), Duration::from_millis(1_500));
    assert_eq!(pair.until_armed(), active);
    stand_still(&machine(active), Duration::from_millis(1_500));
    let active = pair.until_armed();
    // Either can still be the active one.
    pair.switch_over(active);
    assert_eq!(pair.until_armed(), 1 - active);
    pair.switch_over(1 - active);
    assert_eq!(pair.until_armed(), active);
    load.assert_lossless(Duration::from_secs(60));
    pair.until_idle();
    pair.until_equal();
    servers.assert_all(200);
}

/// The process of the guard of node `n`.
pub fn guard(pair: &Pair<'_>, n: usize) -> u32 {
    let main = pair.nodes[n].process.pid();
    let pids = pair.field.nodes[n].pids();
    let guards: Vec<u32> = pids.iter().map(|pid| pid.unsigned_abs()).filter(|pid| *pid != main).collect();
    assert_eq!(guards.len(), 1, "one process beside the main one");
    guards[0]
}

/// The guard alone hangs: its node gives the role away and is of use again when the guard works again.
#[test]
fn a_guard_that_hung_is_believed_again() {
    let world = World::new("ha-guard-hung");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let pair = plan.start(&world);
    let active = pair.until_armed();
    let guard = guard(&pair, active);
    lan::signal(guard, Signal::STOP);
    pair.until_active(1 - active);
    lan::signal(guard, Signal::CONT);
    assert_eq!(pair.until_armed(), 1 - active);
    pair.switch_over(1 - active);
    assert_eq!(pair.until_armed(), active);
}

/// Nobody is told that the addresses can be held while the cable is out.
#[test]
fn a_guard_that_is_back_before_its_cable_promises_nothing() {
    let world = World::new("ha-guard-dark");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let pair = plan.start(&world);
    let standby = 1 - pair.until_armed();
    let guard = guard(&pair, standby);
    let logged = |text: &str| pair.wait(text, || pair.nodes[standby].log().contains(text).then_some(()));
    pair.field.cables[standby].cut();
    logged("has no link; check the cable");
    lan::signal(guard, Signal::STOP);
    logged("their guard has ended or hangs");
    lan::signal(guard, Signal::CONT);
    logged("their guard works again");
    let promise = "the virtual addresses can be held here again";
    assert!(!pair.nodes[standby].log().contains(promise), "{}", pair.nodes[standby].log());
    pair.field.cables[standby].heal();
    logged(&format!("{promise}: eth0 has its link again"));
    assert_eq!(pair.until_armed(), 1 - standby);
}

/// The workers run only when nothing else does, and something always does.
#[test]
fn an_active_node_whose_workers_starve_hands_over_once() {
    let world = World::new("ha-starved");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let pair = plan.both(|setup| setup.t1(500)).start(&world);
    let active = pair.until_armed();
    let before = became_active(&pair, 1 - active);
    // SIPp takes a 200 that is repeated after its BYE for that of the BYE: calls last longer than starving does.
    let load = Load::start(&world, &pair.field.callers, CALLER, 300, 30, Duration::from_secs(6));
    until_true("60 calls", PATIENCE, || load.begun() >= 60);
    let process = &pair.nodes[active].process;
    let workers = [process.threads("receiver"), process.threads("helper")].concat();
    assert!(!workers.is_empty(), "workers have their names");
    let schedule = |policy: &str| {
        for worker in &workers {
            let done = Command::new("chrt").args([policy, "--pid", "0", &worker.to_string()]).status();
            assert!(done.expect("chrt").success(), "{policy} for thread {worker}");
        }
    };
    let busy = Busy::everywhere();
    schedule("--idle");
    pair.until_active(1 - active);
    schedule("--other");
    drop(busy);
    // The one that starves may have put a lost address back before; to and fro it does not go.
    assert_eq!((pair.until_armed(), became_active(&pair, 1 - active)), (1 - active, before + 1.0));
    load.assert_lossless(Duration::from_secs(60));
    pair.until_idle();
    pair.until_equal();
    servers.assert_all(300);
}

#[test]
fn a_message_that_makes_a_node_stumble_twice_moves_the_calls_and_does_not_take_both_nodes() {
    let world = World::new("ha-stumble");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let program = later_binary();
    let stumbling = |mut setup: crate::rig::node::Setup| {
        setup.program = Some(program.clone());
        setup.t1(500)
    };
    let mut pair = plan.both(stumbling).start(&world);
    let (active, before) = (pair.until_armed(), takeovers(&pair));
    let load = Load::start(&world, &pair.field.callers, CALLER, 300, 30, Duration::from_secs(2));
    until_true("60 calls", PATIENCE, || load.begun() >= 60);

    let caller = pair.field.callers.within(|| Udp::bind(SocketAddr::new(CALLER.into(), 5070)));
    let poison = Call::new(caller.at, sip(VIP)).invite_with("X-Tandem-Stumble: 1\r\n", "");
    let panics = |n: usize| pair.nodes[n].metrics().sum("tandem_panics_total");
    caller.send(sip(VIP), &poison);
    pair.wait("a dropped message", || (panics(active) == 1.0).then_some(()));
    let (now, taken) = (pair.until_armed(), takeovers(&pair));
    assert_eq!((now, taken), (active, before), "one such message changes nothing");
    caller.send(sip(VIP), &poison);
    pair.until_active(1 - active);
    assert_eq!(panics(active), 2.0);
    let told = pair.nodes[active].log();
    assert!(told.contains("this node is unfit"), "{told}");
    load.assert_lossless(Duration::from_secs(60));
    servers.assert_all(300);
    // Its sender repeats it: who took over bears it as well, and there is nobody to hand over to.
    caller.send(sip(VIP), &poison);
    pair.wait("a dropped message there", || (panics(1 - active) == 1.0).then_some(()));
    caller.send(sip(VIP), &poison);
    pair.wait("a second one", || (panics(1 - active) == 2.0).then_some(()));
    assert!(caller.octets(Duration::from_millis(200)).is_none(), "nothing of it was answered or passed on");
    assert_eq!((pair.active(), takeovers(&pair)), (Some(1 - active), before + 1.0));

    pair.nodes[active].process.signal("TERM");
    pair.nodes[active].process.wait(PATIENCE);
    pair.revive(active);
    pair.until_role(active, "active");
}

/// Each question takes a third of a millisecond, and more come than it can bear.
#[test]
fn an_active_node_that_lags_behind_hands_over_and_does_not_get_the_role_back_at_once() {
    let world = World::new("ha-behind");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let program = later_binary();
    let slow = |mut setup: crate::rig::node::Setup| {
        setup.program = Some(program.clone());
        setup
    };
    let pair = plan.both(slow).start(&world);
    let (active, before) = (pair.until_armed(), takeovers(&pair));
    let caller = pair.field.callers.within(|| Udp::bind(SocketAddr::new(CALLER.into(), 5070)));
    let question = |n: u32| {
        let call = Call::new(caller.at, sip(VIP));
        call.request("OPTIONS", 1, &format!("z9hG4bKlag{n}"), "X-Tandem-Idle: 1\r\n", "")
    };
    let over = || pair.nodes[1 - active].role().as_deref() == Some("active");
    let mut asked = 0;
    until_true("a hand-over", PATIENCE, || {
        (0..80).for_each(|n| caller.try_send(sip(VIP), question(asked + n)));
        asked += 80;
        // The next 80 come 10 ms later.
        asked % 1_600 == 0 && over()
    });
    let told = pair.nodes[active].log();
    assert!(told.contains("hands over to member") && told.contains("this node lags behind"), "{told}");
    // Who took over lags as well; to give back would help nobody.
    until_true("a second one that lags", PATIENCE, || {
        (0..80).for_each(|n| caller.try_send(sip(VIP), question(asked + n)));
        asked += 80;
        asked % 1_600 == 0 && pair.nodes[1 - active].log().contains("this node lags behind")
    });
    assert_eq!((pair.until_armed(), takeovers(&pair)), (1 - active, before + 1.0));
}

/// Offsets of the time of day, in force for a node from its next look at the clock.
struct TimeOfDay(PathBuf);

impl TimeOfDay {
    fn set(&self, offset: &str) {
        std::fs::write(&self.0, offset).expect("a writable directory");
    }
}

fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut found =
        folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).filter(|path| path.exists());
    found.next().expect("libfaketime; `tests/run` installs what the lab needs")
}

#[test]
fn steps_of_the_time_of_day_move_nothing() {
    let world = World::new("ha-clock");
    let Some(mut plan) = Plan::new(&world, "1000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let clocks = [0, 1].map(|n| TimeOfDay(world.write(&format!("clock{n}"), "+0")));
    for (setup, clock) in plan.setups.iter_mut().zip(&clocks) {
        let library = faketime().display().to_string();
        setup.env = vec![
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", clock.0.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ];
    }
    let pair = plan.both(|setup| setup.t1(500)).start(&world);
    let (active, before) = (pair.until_armed(), takeovers(&pair));
    let load = Load::start(&world, &pair.field.callers, CALLER, 300, 30, Duration::from_secs(3));
    for (n, offset) in [(active, "+3600"), (1 - active, "-3600"), (active, "-3600"), (1 - active, "+10000d")] {
        let begun = load.begun();
        clocks[n].set(offset);
        until_true("calls after the step", PATIENCE, || load.begun() >= begun + 40);
        assert_eq!((pair.until_armed(), takeovers(&pair)), (active, before), "{offset} at node {}", n + 1);
    }
    pair.switch_over(active);
    let dated = pair.nodes[1 - active].log().lines().filter(|line| line.starts_with("205")).count();
    assert!(dated > 0, "the step arrived: {}", pair.nodes[1 - active].log());
    load.assert_lossless(Duration::from_secs(60));
    pair.until_idle();
    pair.until_equal();
    servers.assert_all(300);
}
