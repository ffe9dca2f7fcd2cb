//! The configuration: what is read, every kind of error with its line, column and words, and the plan of a reload.

use std::time::Duration;

use proptest::prelude::*;
use tandem::balance::{Monitor, PinBy, SchemeName, resource_id};
use tandem::base::{NodeId, Transport};
use tandem::config::{Change, Settings, check, plan};
use tandem::proxy::Retried;

/// The shortest sound text. Six lines.
const SOUND: &str = r#"[[resource-group]]
name = "MCP_LRG"

[[resource-group.resource]]
aor = "sip:198.51.100.21:5070"
port-capacity = 10
"#;

fn read(text: &str) -> Settings {
    match Settings::parse(text) {
        Ok((settings, _)) => settings,
        Err(errors) => panic!("not sound: {errors:#?}"),
    }
}

fn errors(text: &str) -> Vec<String> {
    match Settings::parse(text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn warnings(text: &str) -> Vec<String> {
    let (_, warnings) = Settings::parse(text).expect("sound");
    warnings.iter().map(ToString::to_string).collect()
}

/// `SOUND` with `lines` in front: sections of their own, which begin at line 1.
fn with(lines: &str) -> String {
    format!("{lines}\n{SOUND}")
}

/// `SOUND` with `lines` in its group, from line 3.
fn in_group(lines: &str) -> String {
    SOUND.replacen("\n\n", &format!("\n{lines}\n"), 1)
}

/// A text whose only resource, from line 4, has these lines.
fn resource(lines: &str) -> String {
    format!("[[resource-group]]\nname = \"MCP_LRG\"\n[[resource-group.resource]]\n{lines}\n")
}

/// One error, and exactly that.
#[track_caller]
fn one(text: &str, error: &str) {
    assert_eq!(errors(text), [error], "in:\n{text}");
}

#[test]
fn defaults_are_those_of_the_standard_and_the_model() {
    let s = read(SOUND);
    assert_eq!(s.cluster.name, "tandem");
    assert_eq!(s.cluster.node, NodeId(1));
    assert_eq!(s.cluster.secret_file, None);
    assert_eq!(s.cluster.state_dir.to_str(), Some("/var/lib/tandem"));
    let listeners: Vec<String> = s.listeners.iter().map(ToString::to_string).collect();
    assert_eq!(listeners, ["udp:0.0.0.0:5060", "tcp:0.0.0.0:5060"]);
    assert_eq!(s.proxy, tandem::node::ProxyConfig::default());
    assert!((1..=8).contains(&s.workers));
    assert_eq!(s.drain_timeout, Duration::from_secs(60));
    assert_eq!(s.admin.to_string(), "127.0.0.1:9090");
    assert_eq!(s.log_level.to_string(), "INFO");
    let group = &s.groups[0];
    assert_eq!((group.name.as_str(), group.scheme), ("MCP_LRG", SchemeName::RoundRobin));
    assert!(group.service_types.is_empty());
    let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(1));
    assert_eq!(group.monitor, Some(Monitor { interval, timeout, down_after: 3, up_after: 2 }));
    assert_eq!(group.noresource_response_code, 480);
    assert_eq!(group.terms.first_response_timeout, Duration::from_secs(2));
    let retried: Vec<u16> = (100..=699).filter(|code| group.terms.retries(*code)).collect();
    let wanted: Vec<u16> = [408, 480].into_iter().chain((500..600).filter(|c| ![501, 505, 513].contains(c))).collect();
    assert_eq!(retried, wanted);
}

#[test]
fn every_key_is_read() {
    let s = read(
        r#"
        [cluster]
        name = "east"
        ha-mode = "none"
        mymemberid = 2
        secret-file = "/run/secret"
        state-dir = "/tmp/t"
        [proxy]
        sip.transport = ["udp:192.0.2.1:5060", "tcp:[2001:db8::1]:5062", "udp:any:5064"]
        sip.threadpoolsize = 3
        sip.timer.t1 = 250
        sip.timer.t2 = "2s"
        sip.timer.t4 = "2500ms"
        sip.timer.c = "4min"
        inactivity-lease = "1h"
        drain-timeout = 0
        server-header = ""
        [admin]
        listen = "[::1]:9091"
        [log]
        level = "debug"
        [[resource-group]]
        name = "A"
        service-types = ["voicexml", "msml", "msml"]
        load-balance-scheme = "least-percent"
        monitor-method = "option"
        monitor-interval = 500
        monitor-timeout = 400
        monitor-down-after = 4
        monitor-up-after = 5
        noresource-response-code = 503
        first-response-timeout = "900ms"
        retry-codes = [408, "500-502", "599"]
        [[resource-group.resource]]
        aor = "sip:[2001:DB8::0:9];transport=tcp"
        port-capacity = "unlimited"
        aliases = ["192.0.2.7", "192.0.2.8:99", "[2001:db8::7]", "2001:db8::8"]
        [[resource-group.resource]]
        aor = "sip:MCP1.Example.com:5070"
        port-capacity = 0
        tcp = true
        [[resource-group]]
        name = "B"
        load-balance-scheme = "least-used"
        monitor-method = "none"
        retry-codes = []
        "#,
    );
    assert_eq!((s.cluster.name.as_str(), s.cluster.node), ("east", NodeId(2)));
    assert_eq!(s.cluster.secret_file.as_deref().and_then(|p| p.to_str()), Some("/run/secret"));
    assert_eq!(s.cluster.state_dir.to_str(), Some("/tmp/t"));
    let listeners: Vec<String> = s.listeners.iter().map(ToString::to_string).collect();
    assert_eq!(listeners, ["udp:192.0.2.1:5060", "tcp:[2001:db8::1]:5062", "udp:0.0.0.0:5064"]);
    assert_eq!(s.workers, 3);
    let ms = Duration::from_millis;
    assert_eq!((s.proxy.t1, s.proxy.t2, s.proxy.t4), (ms(250), ms(2_000), ms(2_500)));
    assert_eq!((s.proxy.timer_c, s.proxy.inactivity), (ms(240_000), ms(3_600_000)));
    assert_eq!((s.drain_timeout, s.proxy.server.as_str()), (ms(0), ""));
    assert_eq!((s.admin.to_string().as_str(), s.log_level.to_string().as_str()), ("[::1]:9091", "DEBUG"));
    let [a, b] = s.groups.as_slice() else { panic!("{:?}", s.groups) };
    assert_eq!(a.service_types, ["voicexml", "msml"]);
    assert_eq!((a.scheme, b.scheme), (SchemeName::LeastPercent, SchemeName::LeastUsed));
    assert_eq!(a.monitor, Some(Monitor { interval: ms(500), timeout: ms(400), down_after: 4, up_after: 5 }));
    assert_eq!(b.monitor, None);
    assert_eq!(a.noresource_response_code, 503);
    assert_eq!(a.terms.first_response_timeout, ms(900));
    assert_eq!(a.terms.retry_codes, [408..=408, 500..=502, 599..=599]);
    assert!(b.terms.retry_codes.is_empty() && b.resources.is_empty());
    let [v6, name] = a.resources.as_slice() else { panic!("{:?}", a.resources) };
    assert_eq!(v6.canonical, "sip:[2001:db8::9]:5060;transport=tcp");
    assert_eq!((v6.host.as_str(), v6.port, v6.transport), ("2001:db8::9", 5060, Transport::Tcp));
    let aliases: Vec<String> = v6.aliases.iter().map(ToString::to_string).collect();
    assert_eq!(aliases, ["192.0.2.7:5060", "192.0.2.8:99", "[2001:db8::7]:5060", "[2001:db8::8]:5060"]);
    assert_eq!((v6.port_capacity, name.port_capacity), (None, Some(0)));
    assert_eq!(
        (name.aor.as_str(), name.canonical.as_str()),
        ("sip:MCP1.Example.com:5070", "sip:mcp1.example.com:5070;transport=udp")
    );
    assert_eq!((name.host.as_str(), name.port, name.transport), ("mcp1.example.com", 5070, Transport::Udp));
    assert_eq!((name.also_tcp, v6.also_tcp), (true, false));
}

#[test]
fn the_example_is_sound_and_its_values_are_the_defaults() {
    let example = read(include_str!("../../deploy/tandem.toml"));
    let default = read(SOUND);
    assert_eq!(warnings(include_str!("../../deploy/tandem.toml")), [""; 0]);
    assert_eq!((&example.cluster, &example.listeners), (&default.cluster, &default.listeners));
    assert_eq!((&example.proxy, example.drain_timeout), (&default.proxy, default.drain_timeout));
    assert_eq!((example.admin, example.log_level), (default.admin, default.log_level));
    let (a, b) = (&example.groups[0], &default.groups[0]);
    assert_eq!((a.scheme, a.monitor, &a.terms), (b.scheme, b.monitor, &b.terms));
    assert_eq!(a.noresource_response_code, b.noresource_response_code);
    assert_eq!(example.groups.iter().map(|g| g.resources.len()).sum::<usize>(), 3);
}

#[test]
fn commented_keys_of_the_example_are_sound_too() {
    let text = include_str!("../../deploy/tandem.toml");
    let mut put_in = 0;
    let lines = text.lines().map(|line| match line.strip_prefix("# ").filter(|l| l.split(' ').nth(1) == Some("=")) {
        None if line == "# [tls]" => String::from("[tls]"),
        Some(key) => {
            put_in += 1;
            key.to_string()
        }
        None => line.to_string(),
    });
    let text: Vec<String> = lines.collect();
    let settings = read(&text.join("\n"));
    assert_eq!(
        put_in, 15,
        "secret-file, sip.allow-from, sip.proxy-protocol-from, sip.threadpoolsize, drill, pin-by, [tls] and [snmp]"
    );
    assert_eq!(settings.workers, 4);
    assert_eq!(settings.allow_from.map(|list| list.len()), Some(2));
    let tls = settings.tls.unwrap();
    assert_eq!((tls.peer_names, tls.trusted_ca), (vec!["sip.example.com".into()], Some("/etc/tandem/ca.crt".into())));
}

#[test]
fn unknown_keys_are_errors_with_a_suggestion() {
    one(
        &resource("aor = \"sip:198.51.100.21\"\n    port-capasity = 10"),
        "5:5: unknown key `port-capasity` in [[resource-group.resource]]; did you mean `port-capacity`?",
    );
    one(&with("[proxy]\nworkers = 2"), "2:1: unknown key `workers` in [proxy]; did you mean `sip.threadpoolsize`?");
    one(
        &with("[proxy]\nsip.timer.tt1 = 2"),
        "2:11: unknown key `sip.timer.tt1` in [proxy]; did you mean `sip.timer.t1`?",
    );
    one(
        &with("[proxy.sip]\ntransprot = []"),
        "2:1: unknown key `sip.transprot` in [proxy]; did you mean `sip.transport`?",
    );
    one(&with("[admin]\nlevel = \"info\""), "2:1: unknown key `level` in [admin]; it belongs in [log]");
    one(&with("[log]\nzebra = 1"), "2:1: unknown key `zebra` in [log]");
    one(&with("[log]\nLEVEL = \"info\""), "2:1: unknown key `LEVEL` in [log]; did you mean `level`?");
    one(&with("[clutser]\nname = \"x\""), "1:2: unknown section `clutser`; did you mean [cluster]?");
    one(
        &with("[[resource_group]]\nname = \"x\""),
        "1:3: unknown section `resource_group`; did you mean [[resource-group]]?",
    );
    one(&with("[zebra]"), "1:2: unknown section `zebra`");
    one(&with("mymemberid = 2"), "1:1: unknown key `mymemberid` outside of any section; it belongs in [cluster]");
    one(&with("zebra = 2"), "1:1: unknown key `zebra` outside of any section");
}

#[test]
fn values_of_the_wrong_kind_say_what_is_wanted() {
    one(
        &with("[cluster]\nname = 7"),
        "2:8: `name` in [cluster] must be text, not a whole number; put it in double quotes",
    );
    one(
        &with("[cluster]\nmymemberid = \"2\""),
        "2:14: `mymemberid` in [cluster] must be a whole number, not text; write 2 without quotes",
    );
    one(
        &with("[cluster]\nmymemberid = 1.5"),
        "2:14: `mymemberid` in [cluster] must be a whole number, not a number with a fraction",
    );
    one(&with("[cluster]\nmymemberid = 65536"), "2:14: `mymemberid` in [cluster] is 65536; allowed is 1 to 65535");
    one(
        &with("[cluster]\nmymemberid = 99999999999999999999"),
        "2:14: `mymemberid` in [cluster] is 99999999999999999999; allowed is 1 to 65535",
    );
    one(
        &with("[cluster]\nname = \"a b\""),
        "2:8: `name` in [cluster] must be 1 to 64 printable characters without spaces",
    );
    one(&with("[cluster]\nstate-dir = \"\""), "2:13: `state-dir` in [cluster] is not a path");
    one(&with("cluster = 7"), "1:11: `cluster` must be a section; write [cluster] on a line of its own");
    one(&with("[[proxy]]"), "1:1: `proxy` must be a section; write [proxy] on a line of its own");
    one(
        &with("[proxy]\nsip.transport = \"udp:0.0.0.0:5060\""),
        "2:17: `sip.transport` in [proxy] must be a list, not text; put it in square brackets",
    );
    one(
        &with("[proxy]\nserver-header = \"a\\r\\nb\""),
        "2:17: `server-header` in [proxy] must be at most 128 printable ASCII characters",
    );
    one(
        &with("[log]\nlevel = 7"),
        concat!(
            "2:9: `level` in [log] must be text, not a whole number; ",
            "one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
        ),
    );
    one(
        &with("[log]\nlevel = \"loud\""),
        concat!(
            "2:9: `level` in [log] cannot be \"loud\"; ",
            "one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
        ),
    );
    one(
        &with("[admin]\nlisten = \"localhost:9090\""),
        "2:10: `listen` in [admin] cannot be \"localhost:9090\"; write \"IP:PORT\", such as \"127.0.0.1:9090\"",
    );
}

#[test]
fn durations_have_units_and_bounds() {
    const FORMS: &str = "write milliseconds as a number, or text with a unit: \"500ms\", \"4s\", \"30min\", \"2h\"";
    for bad in ["\"half a second\"", "\"5\"", "\"5m\"", "\"-5s\"", "\"\"", "-5", "\"99999999999999999999s\""] {
        let error = format!("2:16: `sip.timer.t1` in [proxy] is not a duration; {FORMS}");
        one(&with(&format!("[proxy]\nsip.timer.t1 = {bad}")), &error);
    }
    one(
        &with("[proxy]\nsip.timer.t1 = 0.5"),
        &format!("2:16: `sip.timer.t1` in [proxy] must be a duration, not a number with a fraction; {FORMS}"),
    );
    one(&with("[proxy]\nsip.timer.t1 = 9"), "2:16: `sip.timer.t1` in [proxy] is 9ms; allowed is 10ms to 10s");
    one(
        &with("[proxy]\nsip.timer.c = \"3min\""),
        "2:15: `sip.timer.c` in [proxy] is 180s; allowed is 180.001s to 3600s",
    );
    assert_eq!(read(&with("[proxy]\nsip.timer.c = 180001")).proxy.timer_c, Duration::from_millis(180_001));
    one(
        &with("[proxy]\nsip.timer.t1 = \"5s\""),
        concat!(
            "1:1: `sip.timer.t2` in [proxy] is 4s, shorter than `sip.timer.t1`, which is 5s; ",
            "make it at least as long; usual are 500ms and 4s"
        ),
    );
}

#[test]
fn listeners_are_addresses_that_can_be_bound_together() {
    const FORM: &str = "write \"udp:IP:PORT\", \"tcp:IP:PORT\" or \"tls:IP:PORT\", an IPv6 address in brackets";
    for bad in
        ["udp:5060", "sctp:192.0.2.1:5060", "udp:192.0.2.1", "udp:sip.example.com:5060", "udp:2001:db8::1:5060", ""]
    {
        let error = format!("2:18: `sip.transport` in [proxy] has the entry \"{bad}\", which is no listener; {FORM}");
        one(&with(&format!("[proxy]\nsip.transport = [\"{bad}\"]")), &error);
    }
    one(
        &with("[proxy]\nsip.transport = [\"tls:0.0.0.0:5061\", \"udp:0.0.0.0:5060\"]"),
        concat!(
            "2:18: listener tls:0.0.0.0:5061 needs a certificate, and there is no section [tls]; ",
            "add [tls] with `certificate` and `key`"
        ),
    );
    one(
        &with("[proxy]\nsip.transport = []"),
        "2:17: `sip.transport` in [proxy] has 0 entries; allowed is 1 to 64; for example [\"udp:0.0.0.0:5060\"]",
    );
    one(
        &with("[proxy]\nsip.transport = [\n  \"udp:192.0.2.1:5060\",\n  \"udp:0.0.0.0:0\",\n]"),
        "4:3: listener udp:0.0.0.0:0 has port 0, which nobody could be told; write the port, usually 5060",
    );
    one(
        &with("[proxy]\nsip.transport = [\"udp:224.0.0.1:5060\", \"udp:192.0.2.1:5060\"]"),
        "2:18: listener udp:224.0.0.1:5060 is not the address of one node",
    );
    one(
        &with("[proxy]\nsip.transport = [\"udp:192.0.2.1:5060\", \"udp:192.0.2.1:5060\"]"),
        "2:40: listener udp:192.0.2.1:5060 is there twice; keep one of them",
    );
    one(
        &with("[proxy]\nsip.transport = [\"udp:192.0.2.1:5060\", \"udp:0.0.0.0:5060\"]"),
        concat!(
            "2:40: listeners udp:192.0.2.1:5060 and udp:0.0.0.0:5060 cannot both be bound: one includes the other; ",
            "keep one of them"
        ),
    );
    read(&with("[proxy]\nsip.transport = [\"udp:[::]:5060\", \"udp:0.0.0.0:5060\", \"tcp:192.0.2.1:5060\"]"));
}

#[test]
fn the_admin_listener_stands_apart() {
    one(
        &with("[admin]\nlisten = \"127.0.0.1:0\""),
        "2:10: `listen` in [admin] has port 0; write the port, usually 9090",
    );
    one(
        &with("[admin]\nlisten = \"127.0.0.1:5060\""),
        concat!(
            "2:10: `listen` in [admin] is 127.0.0.1:5060, where tcp:0.0.0.0:5060 listens already; ",
            "give it a port of its own, usually 9090"
        ),
    );
    assert_eq!(
        warnings(&with("[admin]\nlisten = \"0.0.0.0:9090\"")),
        [concat!(
            "2:10: `listen` in [admin] is 0.0.0.0:9090: whoever reaches this machine can read and command it; ",
            "use 127.0.0.1 or an address of the management network"
        )]
    );
}

#[test]
fn groups_must_exist_and_have_names_of_their_own() {
    one(
        "",
        concat!(
            "1:1: there is no [[resource-group]]: calls would have nowhere to go; ",
            "add a group with at least one [[resource-group.resource]]"
        ),
    );
    one(
        "[resource-group]\nname = \"A\"",
        "1:1: `resource-group` must be a list of tables; write [[resource-group]] in double brackets",
    );
    one("resource-group = [7]", "1:19: `resource-group` must be a list of tables, not of a whole number");
    one(
        "[[resource-group]]\nresource = []",
        "1:1: `name` is missing in [[resource-group]]; every group needs a name of its own",
    );
    one("[[resource-group]]\nname = \"\"", "2:8: `name` in [[resource-group]] is empty");
    one(
        &format!("{SOUND}[[resource-group]]\nname = \"MCP_LRG\""),
        "8:8: the name \"MCP_LRG\" is taken by the group of line 2; give each group a name of its own",
    );
    one(
        "[[resource-group]]\nname = \"A\"\n[resource-group.resource]\naor = \"sip:192.0.2.1\"",
        concat!(
            "3:1: `resource` in [[resource-group]] must be a list of tables; ",
            "write [[resource-group.resource]] in double brackets"
        ),
    );
    assert_eq!(
        warnings("[[resource-group]]\nname = \"A\""),
        ["1:1: this group has no resource: its calls are answered 480"]
    );
}

#[test]
fn keys_of_a_group_are_checked() {
    one(
        &in_group("load-balance-scheme = \"least used\""),
        "3:23: `load-balance-scheme` in [[resource-group]] cannot be \"least used\"; did you mean \"least-used\"?",
    );
    one(
        &in_group("service-types = [\"msml\", \"voicexm\"]"),
        "3:26: `service-types` in [[resource-group]] cannot be \"voicexm\"; did you mean \"voicexml\"?",
    );
    one(
        &in_group("monitor-method = \"options\""),
        "3:18: `monitor-method` in [[resource-group]] cannot be \"options\"; did you mean \"option\"?",
    );
    one(
        &in_group("monitor-interval = \"1s\"\nmonitor-timeout = \"1001ms\""),
        concat!(
            "4:19: `monitor-timeout` in [[resource-group]] is 1.001s, longer than `monitor-interval`, which is 1s; ",
            "a probe must be decided before the next one"
        ),
    );
    assert_eq!(read(&in_group("monitor-interval = 500")).groups[0].monitor.map(|m| m.timeout.as_millis()), Some(500));
    one(
        &in_group("monitor-down-after = 0"),
        "3:22: `monitor-down-after` in [[resource-group]] is 0; allowed is 1 to 100",
    );
    one(
        &in_group("noresource-response-code = 200"),
        "3:28: `noresource-response-code` in [[resource-group]] is 200; allowed is 400 to 699",
    );
    const STATUS: &str = "has an entry that is no status; write a status such as 503, or a range such as \"500-599\"";
    for bad in ["\"5xx\"", "\"599-500\"", "503.0", "-1", "70000"] {
        let error = format!("3:21: `retry-codes` in [[resource-group]] {STATUS}");
        one(&in_group(&format!("retry-codes = [408, {bad}]")), &error);
    }
    for bad in ["200", "\"500-600\"", "603"] {
        let error = concat!(
            "3:16: `retry-codes` in [[resource-group]] has an entry outside 300 to 599: ",
            "a 2xx is an answer, and a 6xx speaks for every server"
        );
        one(&in_group(&format!("retry-codes = [{bad}]")), error);
    }
    one(
        &in_group("first-response-timeout = \"1ms\""),
        "3:26: `first-response-timeout` in [[resource-group]] is 1ms; allowed is 50ms to 180s",
    );
    assert_eq!(
        warnings(&in_group("first-response-timeout = \"40s\"")),
        [concat!(
            "3:26: `first-response-timeout` is 40s, but 64 times T1 ends an attempt after 32s; ",
            "shorten it, so that the caller is still there"
        )]
    );
    assert_eq!(
        warnings(&in_group("monitor-method = \"none\"")),
        [concat!(
            "3:18: `monitor-method` is \"none\": only calls that fail tell that a resource is dead; ",
            "write \"option\" to probe with OPTIONS"
        )]
    );
}

#[test]
fn zero_missing_and_unlimited_are_three_words() {
    const KEY: &str = "`port-capacity` in [[resource-group.resource]]";
    let with = |capacity: &str| resource(&format!("aor = \"sip:198.51.100.21:5070\"\n{capacity}"));
    one(
        &with(""),
        concat!(
            "3:1: `port-capacity` is missing in [[resource-group.resource]]; ",
            "write a number of calls, 0 for none, or \"unlimited\""
        ),
    );
    assert_eq!(read(&with("port-capacity = 0")).groups[0].resources[0].port_capacity, Some(0));
    assert_eq!(warnings(&with("port-capacity = 0")), ["5:17: sip:198.51.100.21:5070 takes no calls: 0 ports"]);
    assert_eq!(read(&with("port-capacity = \"unlimited\"")).groups[0].resources[0].port_capacity, None);
    assert_eq!(
        warnings(&with("port-capacity = \"unlimited\"")),
        [concat!(
            "5:17: nothing keeps sip:198.51.100.21:5070 from being overrun: its ports are unlimited; ",
            "write the number of calls that it can serve"
        )]
    );
    one(
        &with("port-capacity = -1"),
        &format!("5:17: {KEY} is -1; write \"unlimited\" if there is no limit, 0 if it takes no calls"),
    );
    one(
        &with("port-capacity = \"10\""),
        &format!("5:17: {KEY} must be a whole number, not text; write 10 without quotes"),
    );
    one(
        &with("port-capacity = \"unlimted\""),
        &format!("5:17: {KEY} cannot be \"unlimted\"; did you mean \"unlimited\"?"),
    );
    one(
        &with("port-capacity = \"many\""),
        &format!("5:17: {KEY} cannot be \"many\"; write a number of calls, 0 for none, or \"unlimited\""),
    );
    one(&with("port-capacity = 1000001"), &format!("5:17: {KEY} is 1000001; allowed is 0 to 1000000"));
}

#[test]
fn aors_that_name_no_server_are_refused_with_a_reason() {
    const FORM: &str = "write sip:HOST:PORT, with ;transport=tcp for a stream, ;transport=tls for a secure one";
    let cases = [
        (
            "sips:198.51.100.21",
            "a server is reached by a transport, not by a scheme; write \"sip:198.51.100.21;transport=tls\"",
        ),
        ("sip:198.51.100.21;transport=sctp", "\"sctp\" is no transport; transports are udp, tcp and tls"),
        ("sip:198.51.100.21;transport=udp;transport=tcp", "it has two transports; keep one"),
        (
            "sip:198.51.100.21;lr",
            "the parameter `lr` means nothing here; only ;transport=udp, ;transport=tcp and ;transport=tls do",
        ),
        ("sip:mcp@198.51.100.21", &format!("a call keeps the user part that it came with, so this has none; {FORM}")),
        ("sip:198.51.100.21?a=b", &format!("a server's address has no URI headers; {FORM}")),
        ("sip:198.51.100.21:0", "port 0 is no port; write the port that the server listens on"),
        ("sip:0.0.0.0:5070", "0.0.0.0 is no single server; write the server's own address"),
        ("sip:239.0.0.1:5070", "239.0.0.1 is no single server; write the server's own address"),
        ("tel:+15551234", &format!("it is not a SIP URI; {FORM}")),
        ("sip:", &format!("it is not a SIP URI; {FORM}")),
        ("mcp1", "it is not a SIP URI; did you mean \"sip:mcp1\"?"),
        ("198.51.100.21:5070", "it is not a SIP URI; did you mean \"sip:198.51.100.21:5070\"?"),
        ("sip:198.51.100", "\"198.51.100\" is neither an address nor a name"),
        ("sip:1234:5070", "\"1234\" is neither an address nor a name"),
        ("sip:198.51.100.21:99999", &format!("it is not a SIP URI; {FORM}")),
        ("sip:2001:db8::1", &format!("it is not a SIP URI; {FORM}")),
        ("<sip:198.51.100.21>", &format!("it is not a SIP URI; {FORM}")),
        ("sip:mcp 1", &format!("it is not a SIP URI; {FORM}")),
    ];
    for (aor, why) in cases {
        let error = format!("4:7: `aor` in [[resource-group.resource]] is \"{aor}\": {why}");
        one(&resource(&format!("aor = \"{aor}\"\nport-capacity = 1")), &error);
    }
    one(&resource("port-capacity = 1"), "3:1: `aor` is missing in [[resource-group.resource]]; write sip:HOST:PORT");
    one(
        &resource("aor = 7\nport-capacity = 1"),
        "4:7: `aor` in [[resource-group.resource]] must be text, not a whole number; put it in double quotes",
    );
}

#[test]
fn every_spelling_of_a_server_has_one_id() {
    let id = |aor: &str| {
        let text = with("[proxy]\nsip.transport = [\"udp:0.0.0.0:5060\", \"udp:[::]:5060\", \"tcp:0.0.0.0:5060\"]");
        let text = text.replace("sip:198.51.100.21:5070", aor);
        resource_id(&read(&text).groups[0].resources[0].canonical)
    };
    assert_eq!(id("sip:MCP1.example.com"), id("SIP:mcp1.EXAMPLE.com:5060;Transport=UDP"));
    assert_eq!(id("sip:[2001:db8:0:0::1]"), id("sip:[2001:DB8::1]:5060"));
    assert_ne!(id("sip:mcp1.example.com"), id("sip:mcp1.example.com;transport=tcp"));
    assert_ne!(id("sip:mcp1.example.com"), id("sip:mcp1.example.com:5061"));
}

#[test]
fn resources_are_listed_once_and_can_be_reached() {
    let again = format!(
        "{SOUND}[[resource-group.resource]]\nport-capacity = 1\naor = \"sip:198.51.100.21:5070;transport=udp\""
    );
    one(
        &again,
        concat!(
            "9:7: sip:198.51.100.21:5070;transport=udp is the resource of line 5 again; ",
            "list each resource once, in one group"
        ),
    );
    assert_eq!(
        warnings(&again.replace("transport=udp", "transport=tcp")),
        [concat!(
            "9:7: host and port are those of line 5: the ports of both are counted apart; ",
            "write `tcp = true` instead of a second resource"
        )]
    );
    one(
        &with("[proxy]\nsip.transport = [\"udp:[::]:5060\"]"),
        concat!(
            "7:7: sip:198.51.100.21:5070 cannot be reached: no listener speaks udp over IPv4; ",
            "add one to `sip.transport` in [proxy]"
        ),
    );
    one(
        &format!("[proxy]\nsip.transport = [\"udp:0.0.0.0:5060\"]\n{SOUND}tcp = true"),
        "9:7: `tcp` is true, but no listener speaks tcp over IPv4; add one to `sip.transport` in [proxy]",
    );
    one(
        &with("[proxy]\nsip.transport = [\"tcp:0.0.0.0:5060\"]").replace("198.51.100.21", "mcp1.example.com"),
        concat!(
            "7:7: sip:mcp1.example.com:5070 cannot be reached: no listener speaks udp; ",
            "add one to `sip.transport` in [proxy]"
        ),
    );
    one(
        &with("[proxy]\nsip.transport = [\"udp:198.51.100.21:5070\"]"),
        "7:7: sip:198.51.100.21:5070 is the listener udp:198.51.100.21:5070 of this node itself",
    );
    one(
        &format!("{SOUND}tcp = 1"),
        "7:7: `tcp` in [[resource-group.resource]] must be true or false, not a whole number",
    );
    one(
        &format!("{SOUND}aliases = [\"192.0.2.1\", \"mcp1\"]"),
        concat!(
            "7:25: `aliases` in [[resource-group.resource]] has an entry that is no address; ",
            "write \"IP\" or \"IP:PORT\""
        ),
    );
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_text() {
    let text = r#"[cluster]
mymemberid = 0
ha-mod = "none"
[proxy]
sip.transport = ["udp:0.0.0.0:5060", "udp:0.0.0.0:5060"]
[[resource-group]]
load-balance-scheme = "best"
[[resource-group.resource]]
aor = "sips:198.51.100.21"
port-capasity = 10
[[resource-group.resource]]
"#;
    assert_eq!(
        errors(text),
        [
            "2:14: `mymemberid` in [cluster] is 0; allowed is 1 to 65535",
            "3:1: unknown key `ha-mod` in [cluster]; did you mean `ha-mode`?",
            "5:38: listener udp:0.0.0.0:5060 is there twice; keep one of them",
            "6:1: `name` is missing in [[resource-group]]; every group needs a name of its own",
            concat!(
                "7:23: `load-balance-scheme` in [[resource-group]] cannot be \"best\"; ",
                "one of \"round-robin\", \"least-used\", \"least-percent\""
            ),
            concat!(
                "9:7: `aor` in [[resource-group.resource]] is \"sips:198.51.100.21\": a server is reached by a ",
                "transport, not by a scheme; write \"sip:198.51.100.21;transport=tls\""
            ),
            "10:1: unknown key `port-capasity` in [[resource-group.resource]]; did you mean `port-capacity`?",
            "11:1: `aor` is missing in [[resource-group.resource]]; write sip:HOST:PORT",
            concat!(
                "11:1: `port-capacity` is missing in [[resource-group.resource]]; ",
                "write a number of calls, 0 for none, or \"unlimited\""
            ),
        ]
    );
}

#[test]
fn what_is_not_toml_is_told_with_what_could_be_read() {
    assert_eq!(
        errors("[log]\nlevel = 7\n[admin]\nlisten = 127.0.0.1:9090\n[proxy]\nworkers = 2\nx y\n"),
        [
            concat!(
                "2:9: `level` in [log] must be text, not a whole number; ",
                "one of \"error\", \"warn\", \"info\", \"debug\", \"trace\""
            ),
            "4:15: not TOML: invalid float",
            "6:1: unknown key `workers` in [proxy]; did you mean `sip.threadpoolsize`?",
            "7:3: not TOML: key with no value, expected `=`",
        ]
    );
    assert_eq!(errors("[log]\nlevel = \"info\"\nlevel = \"warn\""), ["3:1: not TOML: duplicate key"]);
    let long = "#".repeat(Settings::LONGEST + 1);
    assert_eq!(errors(&long), ["1:1: the text is longer than 1048576 octets"]);
    assert!(!errors(&"a=[".repeat(100_000)).is_empty());
}

#[test]
fn lists_are_bounded() {
    let times = |n: usize, entry: &str| vec![entry; n].join(", ");
    one(
        &with(&format!("[proxy]\nsip.transport = [{}]", times(65, "\"udp:192.0.2.1:5060\""))),
        "2:17: `sip.transport` in [proxy] has 65 entries; allowed is 1 to 64; for example [\"udp:0.0.0.0:5060\"]",
    );
    one(
        &in_group(&format!("retry-codes = [{}]", times(65, "503"))),
        "3:15: `retry-codes` in [[resource-group]] has 65 entries; allowed is 0 to 64; write ranges: \"500-599\"",
    );
    one(
        &format!("{SOUND}aliases = [{}]", times(17, "\"192.0.2.1\"")),
        "7:11: `aliases` in [[resource-group.resource]] has 17 entries; allowed is 0 to 16",
    );
    let many = |n: usize| {
        let one = |n: usize| format!("{{ aor = \"sip:10.0.{}.{}\", port-capacity = 1 }},\n", n / 250, n % 250 + 1);
        format!("[[resource-group]]\nname = \"A\"\nresource = [\n{}]", (0..n).map(one).collect::<String>())
    };
    assert_eq!(read(&many(4_096)).groups[0].resources.len(), 4_096);
    one(&many(4_100), "4100:1: `resource` in [[resource-group]] is one too many: a node serves at most 4096 resources");
}

#[test]
fn columns_count_characters_and_values_are_shown_safely() {
    one(
        &with("[log]\nlevel = \"\\u001b[2J\""),
        concat!(
            "2:9: `level` in [log] cannot be \"\\u{1b}[2J\"; ",
            "one of \"error\", \"warn\", \"info\", \"debug\", \"trace\""
        ),
    );
    one(
        "resource-group = [{ name = \"\u{e4}\u{f6}\u{fc}\", nmae = 1 }]",
        "1:35: unknown key `nmae` in [[resource-group]]; did you mean `name`?",
    );
    one(&with("[proxy]\n\"\u{fc}\" = 1"), "2:1: unknown key `\u{fc}` in [proxy]");
    one(&with("[cluster]\r\nmymemberid = 0\r"), "2:14: `mymemberid` in [cluster] is 0; allowed is 1 to 65535");
    let long = format!("[log]\nlevel = \"{}\"", "x".repeat(5_000));
    assert!(errors(&with(&long))[0].len() < 300);
}

#[test]
fn sources_are_networks_or_everybody() {
    assert_eq!(read(SOUND).allow_from, None);
    let allow = |list: &str| with(&format!("[proxy]\nsip.allow-from = {list}"));
    let list = read(&allow(r#"["192.0.2.0/24", "198.51.100.7", "2001:db8::/32"]"#)).allow_from.expect("a list");
    let texts: Vec<String> = list.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32"]);
    let key = "`sip.allow-from` in [proxy]";
    let empty = "list the networks of those who place calls, or remove the key to let everybody in";
    one(&allow("[]"), &format!("2:18: {key} has 0 entries; allowed is 1 to 256; {empty}"));
    let many = vec!["\"192.0.2.1\""; 257].join(", ");
    one(&allow(&format!("[{many}]")), &format!("2:18: {key} has 257 entries; allowed is 1 to 256; {empty}"));
    let form = "write a network such as \"192.0.2.0/24\" or \"2001:db8::/32\", or one address";
    one(
        &allow(r#"["any"]"#),
        &format!("2:19: {key} has the entry \"any\", which is no network and no address; {form}"),
    );
    let host = "is a host inside of a network; write \"192.0.2.0/24\" for the network, \"192.0.2.9\" for the host";
    one(&allow(r#"["192.0.2.9/24"]"#), &format!("2:19: {key} has the entry \"192.0.2.9/24\", which {host}"));
    assert_eq!(errors(&allow("[7, true]")).len(), 2);
    one(&allow("\"any\""), &format!("2:18: {key} must be a list, not text; put it in square brackets"));
    assert_eq!(
        planned(SOUND, &allow(r#"["192.0.2.0/24", "198.51.100.7"]"#)),
        ["`sip.allow-from` from everybody to 192.0.2.0/24 198.51.100.7/32"]
    );
}

#[test]
fn what_becomes_of_an_invite_that_comes_again_is_one_of_three_words() {
    let says = |word: &str| with(&format!("[proxy]\nsip.retried-invite = \"{word}\""));
    let words = [("join", Retried::Join), ("replace", Retried::Replace), ("reject", Retried::Reject)];
    words.into_iter().for_each(|(word, meant)| assert_eq!(read(&says(word)).proxy.retried, meant));
    assert_eq!(read(SOUND).proxy.retried, Retried::Join);
    assert_eq!(planned(SOUND, &says("reject")), ["`sip.retried-invite` from join to reject"]);
    let wrong = "2:22: `sip.retried-invite` in [proxy] cannot be \"merge\"; one of \"join\", \"replace\", \"reject\"";
    one(&says("merge"), wrong);
}

#[test]
fn load_balancers_are_networks() {
    assert_eq!(read(SOUND).proxy_protocol_from, []);
    let from = |list: &str| with(&format!("[proxy]\nsip.proxy-protocol-from = {list}"));
    let list = read(&from(r#"["192.0.2.80", "2001:db8::/126"]"#)).proxy_protocol_from;
    assert_eq!(list.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.80/32", "2001:db8::/126"]);
    let key = "`sip.proxy-protocol-from` in [proxy]";
    let empty = "list the addresses of your load balancers, or remove the key";
    one(&from("[]"), &format!("2:27: {key} has 0 entries; allowed is 1 to 256; {empty}"));
    assert_eq!(planned(SOUND, &from(r#"["192.0.2.80"]"#)), ["`sip.proxy-protocol-from` from nobody to 192.0.2.80/32"]);
    let deaf = with("[proxy]\nsip.transport = [\"udp:192.0.2.1:5060\"]\nsip.proxy-protocol-from = [\"192.0.2.80\"]");
    let cure = "add a \"tcp:\" or \"tls:\" listener to `sip.transport`, or remove the key";
    assert_eq!(warnings(&deaf), [format!("3:27: {key} has no effect: no listener takes streams; {cure}")]);
}

#[test]
fn check_tells_what_an_open_door_costs() {
    let told = |text: &str| check("t.toml", text).report.contains("whoever reaches the listeners can place calls");
    assert!(told(SOUND));
    assert!(!told(&with("[proxy]\nsip.allow-from = [\"192.0.2.0/24\"]")));
    assert!(!told(&with("[proxy]\nsip.transport = [\"udp:127.0.0.1:5060\"]")), "nobody reaches it");
    assert_eq!(warnings(SOUND), [""; 0], "it is no news for the log of each start");
}

#[test]
fn check_reports_errors_and_warnings_like_a_compiler() {
    let bad = check("tandem.toml", &resource("aor = \"sip:198.51.100.21\"\nport-capasity = 1"));
    assert_eq!(bad.code, 1);
    assert_eq!(
        bad.report,
        concat!(
            "tandem.toml:5:1: unknown key `port-capasity` in [[resource-group.resource]]; did you mean `port-capacity`?\n",
            "tandem.toml: not usable: 1 error\n"
        )
    );
    let good = check("t.toml", &in_group("monitor-method = \"none\""));
    assert_eq!(good.code, 0);
    assert_eq!(
        good.report,
        concat!(
            "t.toml:3:18: warning: `monitor-method` is \"none\": only calls that fail tell that a resource is dead; ",
            "write \"option\" to probe with OPTIONS\n",
            "t.toml:1:1: warning: whoever reaches the listeners can place calls: `sip.allow-from` in [proxy] is not set; ",
            "list the networks of your SIP servers, unless a firewall keeps others out\n",
            "t.toml: sound: 2 listeners, 1 group, 1 resource with 10 ports\n"
        )
    );
}

/// What the unit promises to the program, and the program to the unit.
#[test]
fn the_systemd_unit_fits_the_defaults() {
    let unit = include_str!("../../deploy/tandem.service");
    let value = |key: &str| unit.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    let default = read(SOUND);
    assert_eq!(value("Type"), Some("notify"));
    assert_eq!(value("ExecReload"), Some("/bin/kill -HUP $MAINPID"));
    assert!(value("ExecStart").is_some_and(|v| v.ends_with("tandem run --config /etc/tandem/tandem.toml")));
    let state_dir = value("StateDirectory").map(|d| format!("/var/lib/{d}"));
    assert_eq!(state_dir.as_deref(), default.cluster.state_dir.to_str());
    let stop = value("TimeoutStopSec").and_then(|v| v.strip_suffix('s')).and_then(|v| v.parse().ok()).unwrap();
    assert!(Duration::from_secs(stop) > default.drain_timeout, "a graceful stop is cut off");
    let files: usize = value("LimitNOFILE").and_then(|v| v.parse().ok()).unwrap();
    assert!(files > 2 * tandem::base::limits::CONNECTIONS);
    assert_eq!(value("CapabilityBoundingSet"), Some(""));
    for key in ["NoNewPrivileges", "ProtectHome", "PrivateDevices", "MemoryDenyWriteExecute"] {
        assert_eq!(value(key), Some("yes"), "{key}");
    }
    assert_eq!(value("ProtectSystem"), Some("strict"));
    assert!(value("WatchdogSec").is_some() && value("Restart") == Some("on-failure"));
}

fn planned(old: &str, new: &str) -> Vec<String> {
    plan(&read(old), &read(new)).expect("applicable").changes.iter().map(ToString::to_string).collect()
}

#[test]
fn what_binds_calls_to_one_server_is_read_or_refused() {
    let by = |value: &str| read(&in_group(&format!("pin-by = \"{value}\""))).groups[0].pin_by.clone();
    assert_eq!(by("header X-Genesys-Room"), Some(PinBy::Header("X-Genesys-Room".into())));
    assert_eq!(by("uri-parameter  conf "), Some(PinBy::UriParameter("conf".into())));
    assert_eq!(read(SOUND).groups[0].pin_by, None);
    for bad in ["", "X-Room", "cookie X-Room", "Header X-Room"] {
        let error = "3:10: `pin-by` in [[resource-group]] does not say what calls have in common; \
                     write \"header NAME\" or \"uri-parameter NAME\"";
        one(&in_group(&format!("pin-by = \"{bad}\"")), error);
    }
    for bad in ["header ", "header X-Room: 7", "header a,b", &format!("uri-parameter {}", "x".repeat(129))] {
        let error = "3:10: `pin-by` in [[resource-group]] names nothing that could stand in an INVITE; \
                     write the name alone, without colon or value";
        one(&in_group(&format!("pin-by = \"{bad}\"")), error);
    }
    one(
        &in_group("pin-by = \"header X-Room\"\nmonitor-method = \"none\""),
        "3:10: `pin-by` needs probes: only they tell when a server is dead and its calls belong elsewhere; \
         write `monitor-method = \"option\"`, or remove `pin-by`",
    );
    let pinned = in_group("pin-by = \"header X-Room\"");
    assert_eq!(planned(SOUND, &pinned), ["group MCP_LRG: `pin-by` from none to header X-Room"]);
    assert_eq!(
        planned(&pinned, &in_group("pin-by = \"uri-parameter conf\"")),
        ["group MCP_LRG: `pin-by` from header X-Room to uri-parameter conf"]
    );
}

#[test]
fn a_plan_tells_what_changes_in_operators_words() {
    let old = format!("{SOUND}[[resource-group.resource]]\naor = \"sip:198.51.100.22\"\nport-capacity = 5\n");
    let new = r#"
        [log]
        level = "debug"
        [proxy]
        sip.timer.c = "5min"
        [[resource-group]]
        name = "NEW"
        [[resource-group.resource]]
        aor = "sip:198.51.100.22"
        port-capacity = 5
        [[resource-group.resource]]
        aor = "sip:198.51.100.29"
        port-capacity = "unlimited"
        [[resource-group]]
        name = "MCP_LRG"
        retry-codes = [503]
        monitor-method = "none"
        [[resource-group.resource]]
        aor = "sip:198.51.100.21:5070"
        port-capacity = 20
        aliases = ["192.0.2.9"]
    "#;
    assert_eq!(
        planned(&old, new),
        [
            "`sip.timer.c` from 181s to 300s",
            "`level` from info to debug",
            "group NEW is new",
            "sip:198.51.100.22 moves from group MCP_LRG to NEW",
            "group NEW: sip:198.51.100.29 is new, port-capacity unlimited",
            "group MCP_LRG: `monitor-method` from option every 2s within 1s, down after 3, up after 2 to none",
            "group MCP_LRG: `retry-codes` from 408 480 500 502-504 506-512 514-599 to 503",
            "sip:198.51.100.21:5070: `port-capacity` from 10 to 20",
            "sip:198.51.100.21:5070: `aliases` from none to 192.0.2.9:5070",
        ]
    );
    assert_eq!(
        planned(new, &old.replace("198.51.100.22", "198.51.100.23")),
        [
            "`sip.timer.c` from 300s to 181s",
            "`level` from debug to info",
            "group MCP_LRG: `monitor-method` from none to option every 2s within 1s, down after 3, up after 2",
            "group MCP_LRG: `retry-codes` from 503 to 408 480 500 502-504 506-512 514-599",
            "sip:198.51.100.21:5070: `port-capacity` from 20 to 10",
            "sip:198.51.100.21:5070: `aliases` from 192.0.2.9:5070 to none",
            "group MCP_LRG: sip:198.51.100.23 is new, port-capacity 5",
            "group NEW is removed",
            "group NEW: sip:198.51.100.22 is removed; it drains",
            "group NEW: sip:198.51.100.29 is removed; it drains",
        ]
    );
}

#[test]
fn a_plan_without_changes_is_empty_wherever_things_stand() {
    let moved = format!("# a comment\n\n[log]\nlevel = \"info\"\n{SOUND}tcp = false\n");
    assert_eq!(read(SOUND), read(&moved));
    let plan = plan(&read(SOUND), &read(&moved)).expect("applicable");
    assert_eq!(plan.changes, [] as [Change; 0]);
    assert_eq!(plan.to_string(), "nothing changes");
}

#[test]
fn another_order_is_a_change() {
    let second = "[[resource-group.resource]]\naor = \"sip:198.51.100.22\"\nport-capacity = 5\n";
    let first = SOUND.split_once("\n\n").unwrap().1;
    let head = "[[resource-group]]\nname = \"MCP_LRG\"\n";
    let (a, b) = (format!("{head}{first}{second}"), format!("{head}{second}{first}"));
    assert_eq!(planned(&a, &b), ["group MCP_LRG: resources stand in another order"]);
    let other = "[[resource-group]]\nname = \"B\"\n";
    assert_eq!(planned(&format!("{SOUND}{other}"), &format!("{other}{SOUND}")), ["the groups stand in another order"]);
}

#[test]
fn a_reload_that_needs_a_restart_is_refused_whole_with_lines() {
    let new = with(
        "[cluster]\nname = \"east\"\nmymemberid = 2\nsecret-file = \"/s\"\nstate-dir = \"/d\"\n\
         [proxy]\nsip.threadpoolsize = 9\nsip.transport = [\"udp:0.0.0.0:5062\"]\nsip.timer.c = \"4min\"\n\
         [admin]\nlisten = \"127.0.0.1:9091\"",
    );
    let old = with("[proxy]\nsip.threadpoolsize = 8");
    let refused: Vec<String> =
        plan(&read(&old), &read(&new)).expect_err("refused").iter().map(ToString::to_string).collect();
    let line = |at: &str, key: &str, from: &str, to: &str| {
        format!("{at}: `{key}` cannot change from {from} to {to} while calls go on; put it back, or restart")
    };
    assert_eq!(
        refused,
        [
            line("2:8", "cluster.name", "tandem", "east"),
            line("3:14", "cluster.mymemberid", "1", "2"),
            line("4:15", "cluster.secret-file", "none", "/s"),
            line("5:13", "cluster.state-dir", "/var/lib/tandem", "/d"),
            line("8:17", "proxy.sip.transport", "udp:0.0.0.0:5060 tcp:0.0.0.0:5060", "udp:0.0.0.0:5062"),
            line("7:22", "proxy.sip.threadpoolsize", "8", "9"),
            line("11:10", "admin.listen", "127.0.0.1:9090", "127.0.0.1:9091"),
        ]
    );
    let refused = plan(&read(&new), &read(&with("\n[cluster]\n[proxy]\nsip.threadpoolsize = 9"))).expect_err("refused");
    let places: Vec<String> = refused.iter().map(|e| format!("{} {}", e.key, e.place)).collect();
    assert_eq!(
        places,
        [
            "cluster.name 2:1",
            "cluster.mymemberid 2:1",
            "cluster.secret-file 2:1",
            "cluster.state-dir 2:1",
            "proxy.sip.transport 3:1",
            "admin.listen 1:1",
        ]
    );
}

/// Pieces of configuration text, so that random texts get past the first character.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "[cluster]",
        "member.1",
        "virtual-ip",
        "\"active-standby\"",
        "\"192.0.2.10/24%eth0\"",
        "[proxy]",
        "[admin]",
        "[[resource-group]]",
        "[[resource-group.resource]]",
        "[resource-group]",
        "name",
        "ha-mode",
        "sip.transport",
        "sip.timer.t1",
        "sip",
        "listen",
        "aor",
        "port-capacity",
        "retry-codes",
        "resource",
        "tcp",
        " = ",
        "\n",
        "\n",
        "\n",
        "\"",
        "\"\"\"",
        "[",
        "]",
        "{",
        "}",
        ",",
        ".",
        "7",
        "-1",
        "true",
        "\"sip:198.51.100.21:5070\"",
        "\"udp:0.0.0.0:5060\"",
        "\"unlimited\"",
        "\"4s\"",
        "1979-05-27",
        "#",
        "\\u0000",
    ];
    prop_oneof![
        8 => proptest::sample::select(words.to_vec()).prop_map(String::from),
        1 => any::<char>().prop_map(String::from),
        1 => any::<u64>().prop_map(|n| n.to_string()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_reader_panic(pieces in proptest::collection::vec(piece(), 0..60)) {
        let text = pieces.concat();
        let lines = text.split('\n').count();
        let checked = check("t", &text);
        prop_assert_eq!(checked.code == 0, Settings::parse(&text).is_ok());
        if let Err(errors) = Settings::parse(&text) {
            prop_assert!(!errors.is_empty());
            for error in errors {
                prop_assert!(error.place.line <= lines && error.place.column >= 1, "{} of {:?}", error, text);
                prop_assert!(!error.to_string().contains('\n'), "{:?}", error);
            }
        }
    }

    #[test]
    fn no_aor_makes_the_reader_panic(aor in "(sips?:)?([a-z]{0,3}@)?(\\PC{0,12}|[0-9.]{1,9}|\\[[0-9a-f:]{0,9}\\])(:[0-9]{0,6})?(;[a-z]{0,9}=?[a-z]{0,4}){0,2}") {
        let quoted = format!("{aor:?}").replace("\\u{", "").replace('}', "");
        let _ = check("t", &resource(&format!("aor = {quoted}\nport-capacity = 1")));
    }

    #[test]
    fn a_plan_is_empty_only_if_both_mean_the_same(a in 0usize..4, b in 0usize..4, c in 1u32..3, d in 1u32..3) {
        let text = |n: usize, capacity: u32| {
            let one = |r: usize| format!("[[resource-group.resource]]\naor = \"sip:192.0.2.{r}\"\nport-capacity = {capacity}\n");
            format!("[[resource-group]]\nname = \"A\"\n{}", (1..=n).map(one).collect::<String>())
        };
        let (old, new) = (read(&text(a, c)), read(&text(b, d)));
        let plan = plan(&old, &new).expect("applicable");
        prop_assert_eq!(plan.changes.is_empty(), old == new);
    }
}
