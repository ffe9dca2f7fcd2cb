//! `cluster.partition = "witness"` and who the witness is.

use tandem::cluster::Partition;
use tandem::config::{Settings, plan};

/// A pair with a witness; `lines` stand in its section from line 9 on.
fn pair(lines: &str) -> String {
    format!(
        r#"[cluster]
ha-mode = "active-standby"
mymemberid = 1
member.1 = ["192.0.2.11:9801", "10.0.0.1:9801"]
member.2 = ["192.0.2.12:9801", "10.0.0.2:9801"]
virtual-ip = "192.0.2.10"
secret-file = "/etc/tandem/secret"
partition = "witness"
{lines}
[[resource-group]]
name = "MCP_LRG"
[[resource-group.resource]]
aor = "sip:198.51.100.21:5070"
port-capacity = 10
"#
    )
}

fn read(text: &str) -> (Settings, Vec<String>) {
    let (settings, warnings) = Settings::parse(text).expect("sound");
    (settings, warnings.iter().map(ToString::to_string).collect())
}

/// One error, and what it begins with.
#[track_caller]
fn refused(text: &str, begin: &str) {
    let errors: Vec<String> = Settings::parse(text).expect_err("refused").iter().map(ToString::to_string).collect();
    assert!(errors.len() == 1 && errors[0].starts_with(begin), "{errors:#?}");
}

const OWN: &str = "witness = \"udp:192.0.2.5:9802\"";

#[test]
fn a_witness_is_read_and_its_cost_told() {
    for name in ["udp:192.0.2.5:9802", "etcd:http://etcd.example.net:2379"] {
        let (settings, warnings) = read(&pair(&format!("witness = \"{name}\"")));
        assert_eq!(settings.cluster.witness.as_ref().map(ToString::to_string).as_deref(), Some(name));
        assert_eq!(settings.cluster.partition, Partition::Witness);
        assert_eq!(settings.roles(1, 1).check(), Ok(()));
        let [cost] = &warnings[..] else { panic!("{warnings:?}") };
        assert!(cost.contains("a node that hears neither its peer nor the witness admits no new call"), "{cost}");
    }
}

#[test]
fn the_policy_needs_a_witness_and_a_witness_the_policy() {
    refused(&pair(""), "8:13: `partition` is \"witness\", but [cluster] names none; write for example witness = ");
    let idle = pair(OWN).replace("\"witness\"\n", "\"exact\"\n");
    let warnings = read(&idle).1;
    assert!(
        warnings.iter().any(|w| w.starts_with("9:11: `witness` has no effect: `partition` is \"exact\"")),
        "{warnings:?}"
    );
    let alone = pair(OWN).replace("\"active-standby\"", "\"none\"").replace("virtual-ip", "# virtual-ip");
    let alone = read(&alone).1;
    assert!(alone.iter().any(|w| w.contains("`witness` in [cluster] has no effect while `ha-mode` is \"none\"")));
}

#[test]
fn a_witness_is_a_third_host() {
    refused(&pair("witness = \"udp:192.0.2.10:9802\""), "9:11: the witness 192.0.2.10 is the virtual IP");
    let beside = read(&pair("witness = \"udp:10.0.0.2:9802\"")).1;
    assert!(beside.iter().any(|w| w.starts_with("9:11: the witness is on the host of member 2")), "{beside:?}");
    refused(
        &pair("witness = \"192.0.2.5\""),
        "9:11: `witness` in [cluster] has the entry \"192.0.2.5\", which is no witness",
    );
    refused(
        &pair("witness = \"etcd:https://e:2379\""),
        "9:11: `witness` in [cluster] has the entry \"etcd:https://e:2379\", which asks for TLS",
    );
}

#[test]
fn who_is_not_to_go_on_has_stopped_before_the_other_one_takes_everything() {
    let with = |suspicion: u32| pair(&format!("{OWN}\nsuspicion-timeout = {suspicion}"));
    read(&with(750));
    refused(
        &with(800),
        "10:21: with a suspicion of 800ms a node may admit calls for 2.38s after its peer heard it last",
    );
    read(&with(800).replace("\"witness\"\n", "\"exact\"\n"));
}

#[test]
fn both_nodes_have_the_same_witness_for_as_long_as_they_run() {
    let (one, other) = (read(&pair(OWN)).0, read(&pair("witness = \"udp:192.0.2.6:9802\"")).0);
    assert_ne!(one.shared_digest(), other.shared_digest());
    let refused = plan(&one, &other).expect_err("needs a restart");
    let cause = "`cluster.witness` cannot change from udp:192.0.2.5:9802 to udp:192.0.2.6:9802 while calls go on";
    assert_eq!(refused[0].cause, cause);
}

#[test]
fn the_unit_of_the_witness_fits_its_arguments() {
    let unit = include_str!("../../deploy/tandem-witness.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("it starts something");
    assert!(start.ends_with("tandem witness --listen 0.0.0.0:9802 --secret-file ${CREDENTIALS_DIRECTORY}/secret"));
    assert!(unit.lines().any(|line| line == "LoadCredential=secret:/etc/tandem/secret"));
}
