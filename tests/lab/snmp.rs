//! Traps as net-snmp reads them: names, numbers and values, in both versions, and the MIB that explains them.

use std::net::SocketAddr;
use std::process::Command;

use tandem::base::{Epoch, NodeId};
use tandem::config::Settings;
use tandem::runtime::snmp::{Event, Role, Trap, Traps};

use crate::rig::lan::Host;
use crate::rig::pair::{NODES, Pair, Plan, WATCHER};
use crate::rig::poll::{SOON, until, until_true};
use crate::rig::process::Process;
use crate::rig::world::World;

/// Where `deploy/TANDEM-MIB.txt` puts Tandem.
const TANDEM: &str = ".1.3.6.1.4.1.8072.9999.9999.5060";

/// The modules that the MIB imports from, as far as net-snmp's reader does not know them by itself: Debian ships none.
const IMPORTED: &[(&str, &str)] = &[
    (
        "SNMPv2-SMI",
        "org OBJECT IDENTIFIER ::= { iso 3 }\ndod OBJECT IDENTIFIER ::= { org 6 }\n\
         internet OBJECT IDENTIFIER ::= { dod 1 }\nprivate OBJECT IDENTIFIER ::= { internet 4 }\n\
         enterprises OBJECT IDENTIFIER ::= { private 1 }",
    ),
    (
        "SNMPv2-TC",
        "DisplayString ::= TEXTUAL-CONVENTION DISPLAY-HINT \"255a\" STATUS current DESCRIPTION \"Text.\" \
         SYNTAX OCTET STRING (SIZE (0..255))",
    ),
    ("SNMPv2-CONF", ""),
];

/// Where net-snmp finds the MIB of `deploy/` and what that imports.
fn mib_folders(world: &World) -> String {
    for (module, text) in IMPORTED {
        world.write(&format!("{module}.txt"), &format!("{module} DEFINITIONS ::= BEGIN\n{text}\nEND\n"));
    }
    let deploy = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    format!("{}:{}", world.path("").display(), deploy.display())
}

/// A snmptrapd that writes one line for each trap: version and community, for v1 enterprise, generic and specific trap
/// and agent address, then the objects.
struct Receiver {
    at: SocketAddr,
    process: Process,
}

impl Receiver {
    /// On loopback, beside the test; numbers stay numbers.
    fn start(world: &World, host: u8) -> Receiver {
        Self::run(world, &format!("snmptrapd-{host}"), world.addr(host, 1_162), &["-On", "-m", ""])
    }

    /// In a host of a network, with the names of `deploy/TANDEM-MIB.txt`.
    fn named(world: &World, host: &Host, at: SocketAddr) -> Receiver {
        let folders = mib_folders(world);
        let names = ["-M", &folders, "-m", "TANDEM-MIB"];
        host.within(|| Self::run(world, "snmptrapd-named", at, &names))
    }

    fn run(world: &World, name: &str, at: SocketAddr, names: &[&str]) -> Receiver {
        let text = "disableAuthorization yes\ndoNotRetainNotificationLogs yes\n\
                    format1 v1|%P|%N|%w|%q|%a|%V|%v\\n\nformat2 v2|%P|%V|%v\\n\n";
        let config = world.write(&format!("{name}.conf"), text);
        let mut command = Command::new("snmptrapd");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("SNMP_PERSISTENT_DIR", world.path(name));
        command.args(["-f", "-C", "-c"]).arg(config).arg("-Lo").args(names).arg(format!("udp:{at}"));
        let process = Process::start(world, name, &mut command);
        until_true("snmptrapd", SOON, || process.sees_bound(at));
        Receiver { at, process }
    }

    /// The first `n` traps, each as its fields.
    fn traps(&self, n: usize) -> Vec<Vec<String>> {
        until(&format!("{n} traps"), SOON, || {
            let log = self.process.log();
            let lines: Vec<&str> = log.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
            let traps = lines.into_iter().filter(|line| line.starts_with("v1|") || line.starts_with("v2|"));
            let traps: Vec<Vec<String>> = traps.map(|l| l.trim().split('|').map(String::from).collect()).collect();
            (traps.len() >= n).then_some(traps)
        })
    }
}

fn settings(targets: &[SocketAddr], version: &str) -> Settings {
    let targets: Vec<String> = targets.iter().map(|t| format!("\"{t}\"")).collect();
    let text = format!(
        "[cluster]\nname = \"east\"\nmymemberid = 2\n\
         [snmp]\ntrap-target = [{}]\nversion = \"{version}\"\ncommunity = \"quiet\"\n\
         [[resource-group]]\nname = \"MCP\"",
        targets.join(", ")
    );
    Settings::parse(&text).expect("sound").0
}

fn trap(event: Event, role: Role, cause: &str) -> Trap {
    Trap { event, role, epoch: Epoch { counter: 4_000_000_000, node: NodeId(1) }, cause: cause.into() }
}

/// The objects of a trap of [`trap`].
fn objects(role: Role, cause: &str) -> Vec<String> {
    let object = |n: u8, value: &str| format!("{TANDEM}.1.{n}.0 = {value}");
    vec![
        object(1, "STRING: \"east\""),
        object(2, "Gauge32: 2"),
        object(3, "Gauge32: 4000000000"),
        object(4, "Gauge32: 1"),
        object(5, &format!("INTEGER: {}", role as i32)),
        object(6, &format!("STRING: \"{cause}\"")),
    ]
}

#[test]
fn role_changes_reach_every_receiver_in_both_versions() {
    let world = World::new("snmp");
    let receivers = [Receiver::start(&world, 21), Receiver::start(&world, 22)];
    let targets = receivers.each_ref().map(|r| r.at);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let traps = Traps::start(&settings(&targets, "v1"), runtime.handle());
    let (active, standby) = ("proof of death: reset and refused", "a higher epoch was met");
    traps.send(trap(Event::BecameActive, Role::Active, active));
    traps.send(trap(Event::BecameStandby, Role::Standby, standby));
    receivers.iter().for_each(|r| assert_eq!(r.traps(2).len(), 2));
    traps.follow(&settings(&targets, "v2c"));
    traps.send(trap(Event::BecameActive, Role::Active, active));
    traps.send(trap(Event::BecameStandby, Role::Standby, standby));
    for receiver in &receivers {
        let all = receiver.traps(4);
        let sent = [
            ("1121", Role::Active, active),
            ("1122", Role::Standby, standby),
            ("1121", Role::Active, active),
            ("1122", Role::Standby, standby),
        ];
        for (n, (found, (number, role, cause))) in all.iter().zip(sent).enumerate() {
            if n < 2 {
                let head = ["v1", "TRAP, SNMP v1, community quiet", TANDEM, "6", &format!(".{number}"), "127.0.0.1"];
                assert_eq!(found[..6], head, "{found:?}");
                assert_eq!(found[6..], objects(role, cause));
            } else {
                assert_eq!(found[..2], ["v2", "TRAP2, SNMP v2c, community quiet"], "{found:?}");
                assert!(found[2].starts_with(".1.3.6.1.2.1.1.3.0 = Timeticks: ("), "{found:?}");
                assert_eq!(found[3], format!(".1.3.6.1.6.3.1.1.4.1.0 = OID: {TANDEM}.0.{number}"));
                assert_eq!(found[4..], objects(role, cause));
            }
        }
    }
    assert_eq!((traps.stats().sent.get(), traps.stats().failed.get(), traps.stats().dropped.get()), (8, 0, 0));
}

#[test]
fn the_mib_names_every_trap_and_object() {
    let world = World::new("mib");
    let folders = mib_folders(&world);
    let translate = |oid: &str| {
        let mut command = Command::new("snmptranslate");
        command.env("SNMP_PERSISTENT_DIR", world.path("persistent"));
        let done = command.args(["-M", &folders, "-m", "TANDEM-MIB", oid]).output();
        let done = done.expect("snmptranslate; `tests/run` installs what the lab needs");
        let complaints = String::from_utf8_lossy(&done.stderr);
        assert!(!["Cannot", "Undefined", "Unlinked", "Bad"].iter().any(|w| complaints.contains(w)), "{complaints}");
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    };
    for (oid, name) in [
        ("0.1121", "tandemBecameActive"),
        ("0.1122", "tandemBecameStandby"),
        ("0.1123", "tandemPeerLost"),
        ("0.1124", "tandemPeerBack"),
        ("0.1125", "tandemNotArmed"),
        ("0.1126", "tandemArmed"),
        ("0.1127", "tandemVipConflict"),
        ("1.1.0", "tandemClusterName.0"),
        ("1.2.0", "tandemNodeId.0"),
        ("1.3.0", "tandemEpochCounter.0"),
        ("1.4.0", "tandemEpochNode.0"),
        ("1.5.0", "tandemRole.0"),
        ("1.6.0", "tandemCause.0"),
    ] {
        assert_eq!(translate(&format!("{TANDEM}.{oid}")), format!("TANDEM-MIB::{name}"));
    }
}

/// The traps that say that a role changed, once all that both nodes sent have come.
#[track_caller]
fn role_changes(pair: &Pair<'_>, receiver: &Receiver) -> Vec<Vec<String>> {
    pair.wait("every trap that was sent", || {
        let sent = |n: usize| Some(pair.nodes[n].try_metrics()?.labelled("tandem_traps_total", "outcome=\"sent\""));
        let (sent, traps) = (sent(0)? + sent(1)?, receiver.traps(0));
        let of_roles = |field: &String| field.contains("::tandemBecame");
        let all = traps.len() as f64 == sent;
        all.then(|| traps.into_iter().filter(|trap| trap.iter().any(of_roles)).collect())
    })
}

/// What node `n` says when it became active or standby, but for the cause at the end.
fn tells(version: &str, event: (&str, &str), n: usize, (counter, claimant): (f64, usize)) -> Vec<String> {
    let (name, role) = event;
    let object = |name: &str, value: String| format!("TANDEM-MIB::{name}.0 = {value}");
    let agent = NODES[n].to_string();
    let head = match version {
        "v1" => vec!["v1", "TRAP, SNMP v1, community quiet", "TANDEM-MIB::tandem", "6", name, &agent],
        _ => vec!["v2", "TRAP2, SNMP v2c, community quiet", name],
    };
    let objects = vec![
        object("tandemClusterName", "STRING: lab".into()),
        object("tandemNodeId", format!("Gauge32: {}", n + 1)),
        object("tandemEpochCounter", format!("Gauge32: {counter}")),
        object("tandemEpochNode", format!("Gauge32: {}", claimant + 1)),
        object("tandemRole", format!("INTEGER: {role}")),
    ];
    [head.into_iter().map(str::to_owned).collect(), objects].concat()
}

/// What the last of these traps of a node says that it is.
fn last_role(traps: &[Vec<String>], n: usize) -> Option<&str> {
    let id = format!("TANDEM-MIB::tandemNodeId.0 = Gauge32: {}", n + 1);
    let last = traps.iter().rfind(|trap| trap.contains(&id))?;
    last.iter().find_map(|field| field.strip_prefix("TANDEM-MIB::tandemRole.0 = INTEGER: "))
}

/// Trap 1121 and trap 1122, by their names.
const BECAME_ACTIVE: (&str, &str) = ("TANDEM-MIB::tandemBecameActive", "active(2)");
const BECAME_STANDBY: (&str, &str) = ("TANDEM-MIB::tandemBecameStandby", "standby(3)");

#[test]
fn a_switchover_sends_one_trap_from_each_node() {
    let world = World::new("ha-traps");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let at = SocketAddr::from((WATCHER, 1_162));
    let receiver = Receiver::named(&world, &plan.field.watcher, at);
    let plan = plan.both(|mut setup| {
        let target = format!("\n[snmp]\ntrap-target = [\"{at}\"]\nversion = \"v1\"\ncommunity = \"quiet\"\n");
        setup.groups.push_str(&target);
        setup
    });
    let pair = plan.start(&world);
    for version in ["v1", "v2c"] {
        if version == "v2c" {
            for node in &pair.nodes {
                node.reload_text(&node.config().replace("\"v1\"", "\"v2c\""));
                node.until("the reload", |m| m.labelled("tandem_reloads_total", "outcome=\"applied\"") == 1.0);
            }
        }
        let from = pair.until_armed();
        let to = 1 - from;
        let before = role_changes(&pair, &receiver);
        let told = [from, to].map(|n| last_role(&before, n));
        assert_eq!(told, [Some("active(2)"), Some("standby(3)")], "the last trap of each node: {before:#?}");
        pair.switch_over(from);
        assert_eq!(pair.until_armed(), to);
        let epoch = (pair.nodes[to].epoch(), to);
        let all = role_changes(&pair, &receiver);
        let mut heard: Vec<(Vec<String>, String)> = all[before.len()..].iter().map(|trap| plain(trap)).collect();
        heard.sort();
        let mut wanted = [tells(version, BECAME_ACTIVE, to, epoch), tells(version, BECAME_STANDBY, from, epoch)];
        wanted.sort();
        assert_eq!(heard.iter().map(|(trap, _)| trap.clone()).collect::<Vec<_>>(), wanted);
        for (trap, cause) in heard {
            assert!(cause.starts_with("TANDEM-MIB::tandemCause.0 = STRING: "), "{trap:?}: {cause}");
        }
    }
}

/// A trap without what each version adds of its own (the time, the names of the objects that say so), and its cause.
fn plain(trap: &[String]) -> (Vec<String>, String) {
    let (cause, rest) = trap.split_last().expect("a trap");
    if rest[0] == "v1" {
        return (rest.to_vec(), cause.clone());
    }
    let name = rest[3].split_once(" = OID: ").expect("the trap's name").1;
    let named = [rest[..2].to_vec(), vec![name.to_owned()], rest[4..].to_vec()].concat();
    (named, cause.clone())
}
