//! Traps as net-snmp reads them: names, numbers and values, in both versions, and the MIB that explains them.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use tandem::base::{Epoch, NodeId};
use tandem::config::Settings;
use tandem::runtime::snmp::{Event, Role, Trap, Traps};

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

/// A snmptrapd that writes one line for each trap: version and community, for v1 enterprise, generic and specific trap
/// and agent address, then the objects.
struct Receiver {
    at: SocketAddr,
    process: Process,
}

impl Receiver {
    fn start(world: &World, host: u8) -> Receiver {
        let name = format!("snmptrapd-{host}");
        let text = "disableAuthorization yes\ndoNotRetainNotificationLogs yes\n\
                    format1 v1|%P|%N|%w|%q|%a|%V|%v\\n\nformat2 v2|%P|%V|%v\\n\n";
        let config = world.write(&format!("{name}.conf"), text);
        let at = world.addr(host, 1_162);
        let mut command = Command::new("snmptrapd");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("SNMP_PERSISTENT_DIR", world.path(&name));
        command.args(["-f", "-C", "-c"]).arg(config).args(["-Lo", "-On", "-m", ""]).arg(format!("udp:{at}"));
        let process = Process::start(world, &name, &mut command);
        let SocketAddr::V4(v4) = at else { unreachable!("the lab is IPv4") };
        let bound = format!(" {:08X}:{:04X} ", u32::from_ne_bytes(v4.ip().octets()), at.port());
        until_true("snmptrapd", SOON, || fs::read_to_string("/proc/net/udp").is_ok_and(|udp| udp.contains(&bound)));
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
    for (module, text) in IMPORTED {
        world.write(&format!("{module}.txt"), &format!("{module} DEFINITIONS ::= BEGIN\n{text}\nEND\n"));
    }
    let deploy = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let folders = format!("{}:{}", world.path("").display(), deploy.display());
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
