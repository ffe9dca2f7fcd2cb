//! The drill on a running pair: its report says what the agents and SIPp saw.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::rig::crossed::SERVICES;
use crate::rig::load::{Answering, Load};
use crate::rig::node::binary;
use crate::rig::pair::{CALLER, NODES, Pair, Plan, SERVERS, WATCHER, sip};
use crate::rig::poll::{SOON, until_true};
use crate::rig::world::World;

/// Calls in each phase.
const EACH: u64 = 5;
const PHASES: [&str; 7] = ["trying", "ringing", "answered", "re-invite", "bye", "cancel", "new"];
/// Ports of the drill's media server.
const LIMIT: u64 = 40;
/// What of it the active node may spend while it does not know how its peer is: `cluster.floor`, 90 %.
const SHARE: u64 = 36;
/// Calls in each phase, and new ones: five more than the limit, twice.
const CALLS: [u64; 7] = [EACH, EACH, EACH, EACH, EACH, EACH, 2 * (LIMIT + 5)];
/// The lab's T1, so that 64*T1 is soon over.
const T1: &str = "200";

/// A pair with such lines in `[admin]`, whose admin listeners the drill's host reaches.
fn plan(world: &World, admin: &str) -> Option<Plan> {
    let mut plan = Plan::new(world, "50")?;
    for (setup, ip) in plan.setups.iter_mut().zip(NODES) {
        setup.admin = SocketAddr::from((ip, 9_090));
        setup.admin_lines = admin.to_owned();
        setup.groups = String::new();
    }
    let own = [SocketAddr::from((WATCHER, 5_070))];
    Some(plan.both(|setup| {
        let setup =
            setup.group("MCP", "monitor-method = \"none\"\nservice-types = [\"voicexml\"]", &SERVERS.map(sip), "50");
        let probed = "service-types = [\"cpd\"]\nmonitor-interval = 200\nmonitor-up-after = 1";
        setup.group("DRILL", probed, &own, &LIMIT.to_string())
    }))
}

/// `tandem drill` of a mode with further arguments.
fn command(pair: &Pair<'_>, mode: &str, more: &[&str]) -> Command {
    let mut command = pair.field.watcher.command(binary());
    command.args(["drill", "--mode", mode, "--media-server", &format!("{WATCHER}:5070"), "--t1", T1]);
    NODES.iter().for_each(|ip| _ = command.args(["--admin", &format!("{ip}:9090")]));
    command.args(more);
    command
}

/// Runs it: exit code, report, complaints.
#[track_caller]
fn drill(pair: &Pair<'_>, mode: &str, more: &[&str]) -> (Option<i32>, Value, String) {
    let done = command(pair, mode, &["--format", "json"]).args(more).output().expect("the program");
    let report = serde_json::from_slice(&done.stdout).unwrap_or(Value::Null);
    (done.status.code(), report, String::from_utf8_lossy(&done.stderr).into_owned())
}

/// One number of each phase.
#[track_caller]
fn of_phases(report: &Value, what: &str) -> Vec<u64> {
    let phases = report["phases"].as_array().unwrap_or_else(|| panic!("no phases: {report}"));
    assert_eq!(phases.iter().map(|row| row["phase"].as_str().expect("a name")).collect::<Vec<_>>(), PHASES);
    phases.iter().map(|row| row[what].as_u64().expect("a number")).collect()
}

/// Every canary lived in its phase and ended as it should, and so many calls at least were let in at once, but never more
/// than the limit.
#[track_caller]
fn assert_lossless(said: &(Option<i32>, Value, String), met: u64) {
    let (code, report, complaints) = said;
    assert_eq!((*code, complaints.as_str()), (Some(0), ""), "{report:#}");
    assert_eq!(
        ["calls", "lost", "expected"].map(|what| of_phases(report, what)),
        [CALLS, [0; 7], [0; 7]],
        "{report:#}"
    );
    let most = report["most_calls"].as_u64().expect("a number");
    assert!((met..=LIMIT).contains(&most) && report["overshoot"] == 0, "{report:#}");
    assert_eq!((&report["passed"], &report["violations"]), (&true.into(), &Value::Array(Vec::new())), "{report:#}");
}

#[test]
fn a_kill_of_an_armed_pair_loses_no_canary_and_none_of_sipps_calls() {
    let world = World::beside("drill-kill");
    let Some(plan) = plan(&world, "drill = true") else { return };
    let mut pair = plan.start(&world);
    let active = pair.until_armed();
    let servers = Answering::left(&world, &pair.field.servers);
    let mut load = Load::start(&world, &pair.field.callers, CALLER, 300, 20, Duration::from_millis(500));
    until_true("calls begun", SOON, || load.begun() > 0);

    let said = drill(&pair, "kill", &["--calls", "5"]);
    assert!(load.goes_on(), "calls went on meanwhile");
    let status = pair.nodes[active].process.wait(SOON);
    assert_eq!(status.signal(), Some(9), "the process died as by SIGKILL");
    assert_lossless(&said, LIMIT);
    let report = &said.1;
    assert!(report["takeover_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{report:#}");
    assert!(report["divergence"].is_null(), "nobody is left to compare with: {report:#}");
    pair.until_active(1 - active);
    load.assert_lossless(Duration::from_secs(60));
    servers.assert_all(300);
}

#[test]
fn a_kill_without_a_stand_in_loses_what_the_dry_run_said() {
    let world = World::beside("drill-alone");
    let Some(plan) = plan(&world, "drill = true") else { return };
    let mut pair = plan.start(&world);
    let active = pair.until_armed();
    let (code, armed, _) = drill(&pair, "kill", &["--dry-run"]);
    assert_eq!((code, of_phases(&armed, "lost")), (Some(0), vec![0; 7]));
    pair.crash(1 - active);
    pair.wait("a node that knows itself alone", || (!pair.nodes[active].armed()).then_some(()));

    let (code, dry, _) = drill(&pair, "kill", &["--dry-run"]);
    assert_eq!((code, &dry["dry_run"]), (Some(1), &true.into()), "{dry:#}");
    assert_eq!(of_phases(&dry, "lost"), CALLS);
    let (code, _, complaints) = drill(&pair, "kill", &[]);
    assert!(
        code == Some(2) && complaints.contains("--force") && complaints.contains("120 calls"),
        "{code:?} {complaints}"
    );
    assert!(pair.nodes[active].process.ended().is_none(), "nothing was done");

    let (code, report, complaints) = drill(&pair, "kill", &["--force"]);
    assert_eq!((code, complaints.as_str()), (Some(0), ""), "{report:#}");
    assert_eq!(of_phases(&report, "lost"), of_phases(&dry, "lost"), "{report:#}");
    assert!(report["takeover_ms"].is_null(), "{report:#}");
    assert_eq!(pair.nodes[active].process.wait(SOON).signal(), Some(9));
}

#[test]
fn a_drain_hands_over_and_loses_nothing() {
    let world = World::beside("drill-drain");
    let Some(plan) = plan(&world, "drill = true") else { return };
    let pair = plan.start(&world);
    let active = pair.until_armed();
    let servers = Answering::left(&world, &pair.field.servers);
    let load = Load::start(&world, &pair.field.callers, CALLER, 200, 20, Duration::from_millis(500));
    until_true("calls begun", SOON, || load.begun() > 0);
    let said = drill(&pair, "drain", &[]);
    assert_lossless(&said, LIMIT);
    assert_eq!(said.1["divergence"], 0, "{:#}", said.1);
    pair.until_active(1 - active);
    load.assert_lossless(Duration::from_secs(60));
    servers.assert_all(200);
    pair.until_idle();

    // The same for machines that run tests.
    let file = world.path("drill.xml");
    let path = file.to_str().expect("a path");
    let done = command(&pair, "drain", &["--format", "junit", "--output", path]).output().expect("the program");
    assert_eq!((done.status.code(), done.stdout.len()), (Some(0), 0), "{}", String::from_utf8_lossy(&done.stderr));
    let xml = std::fs::read_to_string(&file).expect("a report");
    assert!(xml.contains("<testsuite name=\"tandem drill drain\" tests=\"8\" failures=\"0\""), "{xml}");
    pair.until_active(active);
}

#[test]
fn a_partition_and_a_slow_peer_end_by_themselves_and_lose_nothing() {
    let world = World::beside("drill-cut");
    let Some(plan) = plan(&world, "drill = true") else { return };
    let pair = plan.start(&world);
    let active = pair.until_armed();
    let modes: &[&str] = match std::env::var_os("TANDEM_LAB_FULL") {
        Some(_) => &["partition", "slow-peer"],
        None => &["partition"],
    };
    for &mode in modes {
        let mut load = Load::start(&world, &pair.field.callers, CALLER, 300, 20, Duration::from_millis(500));
        let servers = Answering::left(&world, &pair.field.servers);
        let file = world.path(&format!("{mode}.json"));
        let path = file.to_str().expect("a path");
        let mut running = command(&pair, mode, &["--for", "4", "--format", "json", "--output", path]);
        let mut running = running.spawn().expect("the program");
        let mut behind = false;
        until_true(&format!("the end of {mode}"), Duration::from_secs(60), || {
            let metrics = pair.nodes[active].metrics();
            behind |= metrics.sum("tandem_peer_unacked_oldest_seconds") > 1.0;
            running.try_wait().expect("a child of ours").is_some()
        });
        let report = std::fs::read_to_string(&file).unwrap_or_default();
        let code = running.wait().expect("its end").code();
        assert!(load.goes_on(), "calls went on meanwhile");
        assert!(behind, "{mode}: all was acknowledged all the time: {report}");
        // A slow peer beats as ever.
        let silences = pair.nodes[active].log().matches("is silent on every path").count();
        assert_eq!(silences, 1, "{mode}");
        assert_lossless(&(code, serde_json::from_str(&report).unwrap_or(Value::Null), String::new()), SHARE);
        assert_eq!(pair.until_armed(), active, "{mode}");
        load.assert_lossless(Duration::from_secs(60));
        servers.assert_all(300);
        pair.until_equal();
    }
}

#[test]
fn a_switch_of_the_mode_loses_nothing() {
    let world = World::beside("drill-mode");
    let Some(plan) = plan(&world, "drill = true") else { return };
    let plan = plan.both(|mut setup| {
        (1..).zip(SERVICES).for_each(|(n, ip)| setup.cluster += &format!("service-ip.{n} = \"{ip}\"\n"));
        setup
    });
    let pair = plan.launch(&world);
    pair.until_armed();
    let servers = Answering::left(&world, &pair.field.servers);
    for mode in ["active-active", "active-standby"] {
        let mut load = Load::start(&world, &pair.field.callers, CALLER, 300, 20, Duration::from_millis(500));
        until_true("calls begun", SOON, || load.begun() > 0);
        // Each node has half of the limit, and what the other one lends it: a burst beyond that is refused.
        let (code, report, complaints) = drill(&pair, "switch-mode", &["--calls", "3", "--to", mode]);
        assert_eq!((code, complaints.as_str(), &report["passed"]), (Some(0), "", &true.into()), "{report:#}");
        assert_eq!((of_phases(&report, "lost"), &report["overshoot"]), (vec![0; 7], &0.into()), "{report:#}");
        assert_eq!(of_phases(&report, "calls")[..6], [3; 6], "{report:#}");
        assert!(load.goes_on(), "calls went on meanwhile");
        assert!(pair.nodes.iter().all(|node| node.order(&["ha-mode", "set", mode]).0 == Some(0)), "{mode} on both");
        load.assert_lossless(Duration::from_secs(60));
    }
    servers.assert_all(600);
    pair.until_equal();
}

#[test]
fn what_a_node_does_not_permit_or_know_is_refused_and_nothing_happens() {
    let world = World::beside("drill-refused");
    let Some(plan) = plan(&world, "") else { return };
    let mut pair = plan.start(&world);
    let active = pair.until_armed();
    for mode in ["kill", "partition", "slow-peer"] {
        let (code, _, complaints) = drill(&pair, mode, &["--calls", "1"]);
        assert!(
            code == Some(2) && complaints.contains("set `drill = true` in [admin]"),
            "{mode}: {code:?} {complaints}"
        );
    }
    let (code, _, complaints) = drill(&pair, "switch-mode", &["--calls", "1", "--to", "no-such-mode"]);
    let said = format!("{}:9090 refuses: no ha-mode", NODES[active]);
    assert!(code == Some(2) && complaints.contains(&said), "{code:?} {complaints}");
    let (code, _, complaints) = drill(&pair, "switch-mode", &["--calls", "1", "--to", "active-active"]);
    assert!(code == Some(2) && complaints.contains("the balancer needs an address of its own"), "{complaints}");
    let (code, _, complaints) = drill(&pair, "kill", &["--user", "dialog", "--force"]);
    assert!(code == Some(2) && complaints.contains("sip:dialog@ (--user)"), "{code:?} {complaints}");
    let (code, _, complaints) = drill(&pair, "kill", &["--calls", "8"]);
    assert!(code == Some(2) && complaints.contains("48 canaries need as many ports, and 40 are free"), "{complaints}");
    assert!(pair.nodes.iter_mut().all(|node| node.process.ended().is_none()), "both live");
    assert_eq!(pair.until_armed(), active);
}
