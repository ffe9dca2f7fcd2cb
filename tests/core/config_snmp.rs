//! `[snmp]`: what is read, what is refused, and that nothing ever shows a community.

use tandem::config::{Settings, TrapVersion, check, plan};

const REST: &str =
    "\n[[resource-group]]\nname = \"A\"\n[[resource-group.resource]]\naor = \"sip:192.0.2.1\"\nport-capacity = 1\n";

fn parse(lines: &str) -> (Settings, Vec<String>) {
    match Settings::parse(&format!("[snmp]\n{lines}{REST}")) {
        Ok((settings, warnings)) => (settings, warnings.iter().map(ToString::to_string).collect()),
        Err(errors) => panic!("not sound: {errors:#?}"),
    }
}

/// One error, and exactly that.
#[track_caller]
fn one(lines: &str, error: &str) {
    let errors = Settings::parse(&format!("[snmp]\n{lines}{REST}")).expect_err("refused");
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(told, [error], "{lines}");
}

#[test]
fn receivers_have_the_usual_port_version_and_community() {
    let (settings, warnings) =
        parse("trap-target = [\"192.0.2.9\", \"192.0.2.10:1162\", \"[2001:db8::9]:162\", \"2001:db8::9\"]");
    assert_eq!(warnings, [""; 0]);
    let snmp = settings.snmp.expect("traps");
    let targets: Vec<String> = snmp.targets.iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["192.0.2.9:162", "192.0.2.10:1162", "[2001:db8::9]:162", "[2001:db8::9]:162"]);
    assert_eq!((snmp.version, snmp.community.octets()), (TrapVersion::V2c, &b"public"[..]));
    assert_eq!(snmp.enterprise.to_string(), "1.3.6.1.4.1.8072.9999.9999.5060");
    let all = "trap-target = \"192.0.2.9\"\nversion = \"v1\"\ncommunity = \"quiet\"\nenterprise = \"1.3.6.1.4.1.99999.4294967295\"";
    let snmp = parse(all).0.snmp.expect("traps");
    assert_eq!((snmp.version, snmp.community.octets()), (TrapVersion::V1, &b"quiet"[..]));
    assert_eq!(snmp.enterprise.0, [1, 3, 6, 1, 4, 1, 99_999, 4_294_967_295]);
}

#[test]
fn without_a_receiver_there_are_no_traps() {
    assert!(parse("").0.snmp.is_none());
    let (settings, warnings) = parse("version = \"v1\"");
    assert!(settings.snmp.is_none());
    assert_eq!(warnings, ["2:11: `version` in [snmp] has no effect without `trap-target`"]);
}

#[test]
fn what_is_refused_says_why() {
    const FORM: &str = "write \"IP\" or \"IP:PORT\", an IPv6 address with a port in brackets; usual is port 162";
    for (bad, why) in [
        ("nms:162", "is no address"),
        ("192.0.2.9:0", "has port 0, where nobody listens"),
        ("239.0.0.1", "is not the address of one host"),
    ] {
        let error = format!("2:15: `trap-target` in [snmp] has the entry \"{bad}\", which {why}; {FORM}");
        one(&format!("trap-target = \"{bad}\""), &error);
    }
    let many = ["\"192.0.2.9\""; 9].join(", ");
    one(&format!("trap-target = [{many}]"), "2:15: `trap-target` in [snmp] has 9 entries; allowed is 1 to 8");
    one("version = \"v3\"", "2:11: `version` in [snmp] cannot be \"v3\"; did you mean \"v1\"?");
    for bad in ["", "1.3", "3.1.1", "1.40.1", "1.3.6.x", "1.3.6.4294967296", ".1.3.6.1"] {
        let cure = "write numbers with dots between, such as \"1.3.6.1.4.1.99999.1\"";
        one(
            &format!("enterprise = \"{bad}\""),
            &format!("2:14: `enterprise` in [snmp] is no object identifier; {cure}"),
        );
    }
    one(
        "timeout = 100",
        "2:1: `timeout` in [snmp] belongs to a sub-agent, which Tandem has not: it only sends traps; remove it",
    );
}

#[test]
fn a_community_is_never_shown() {
    let lines = |community: &str| format!("trap-target = \"192.0.2.9\"\ncommunity = \"{community}\"");
    let long = "hush".repeat(64);
    let report = check("t.toml", &format!("[snmp]\n{}{REST}", lines(&long))).report;
    assert!(report.contains("3:13: `community` in [snmp] must be 1 to 255 octets"), "{report}");
    let (old, new) = (parse(&lines("hush-a")).0, parse(&lines("hush-b")).0);
    let plan = plan(&old, &new).expect("applicable");
    assert_eq!(plan.to_string(), "`community` from one to another");
    for told in [report, format!("{old:?}{plan:?}{:?}", old.shared_lines())] {
        assert!(!told.contains("hush"), "{told}");
    }
}

#[test]
fn receivers_may_change_while_calls_go_on() {
    let (old, _) = parse("");
    let (new, _) = parse("trap-target = [\"192.0.2.9\", \"192.0.2.8:1162\"]\nversion = \"v1\"");
    let plan = plan(&old, &new).expect("applicable");
    let changes: Vec<String> = plan.changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "`trap-target` from none to 192.0.2.9:162 192.0.2.8:1162",
            "`version` from none to v1",
            "`enterprise` from none to 1.3.6.1.4.1.8072.9999.9999.5060",
        ]
    );
    assert_eq!(old.shared_digest(), new.shared_digest());
}
