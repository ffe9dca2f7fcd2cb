//! `[cluster]` of a pair: what is read, what is refused and why, what a choice costs, what a reload may change, and what
//! both nodes must have alike.

use std::net::IpAddr;
use std::time::Duration;

use tandem::base::NodeId;
use tandem::cluster::{HaMode, Partition, Timing};
use tandem::config::{Commit, Settings, VipManager, check, differences, plan};

/// A pair without a fault and without a warning. The section has nine lines.
const PAIR: &str = r#"[cluster]
ha-mode = "active-standby"
mymemberid = 1
member.1 = ["192.0.2.11:9801", "10.0.0.1:9801"]
member.2 = ["192.0.2.12:9801", "10.0.0.2:9801"]
virtual-ip = "192.0.2.10"
secret-file = "/etc/tandem/secret"

[[resource-group]]
name = "MCP_LRG"
[[resource-group.resource]]
aor = "sip:198.51.100.21:5070"
port-capacity = 10
"#;

fn parse(text: &str) -> (Settings, Vec<String>) {
    match Settings::parse(text) {
        Ok((settings, warnings)) => (settings, warnings.iter().map(ToString::to_string).collect()),
        Err(errors) => panic!("not sound: {errors:#?}"),
    }
}

fn errors(text: &str) -> Vec<String> {
    match Settings::parse(text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

/// `PAIR` with the line that begins with `key` replaced; an empty `line` removes it.
#[track_caller]
fn changed(key: &str, line: &str) -> String {
    assert!(PAIR.lines().any(|l| l.starts_with(key)), "{key}");
    let lines = PAIR.lines().map(|l| if l.starts_with(key) { line } else { l });
    lines.map(|l| format!("{l}\n")).collect()
}

/// `PAIR` with `lines` as line 8 and on, in its section.
fn with(lines: &str) -> String {
    PAIR.replacen("\n\n", &format!("\n{lines}\n\n"), 1)
}

/// One error, and exactly that.
#[track_caller]
fn one(text: &str, error: &str) {
    assert_eq!(errors(text), [error], "in:\n{text}");
}

/// One warning, and exactly that.
#[track_caller]
fn warns(text: &str, warning: &str) {
    assert_eq!(parse(text).1, [warning], "in:\n{text}");
}

#[test]
fn a_pair_has_the_defaults_of_the_manual() {
    let (s, warnings) = parse(PAIR);
    assert_eq!(warnings, [""; 0]);
    let c = s.cluster;
    assert_eq!((c.ha_mode, c.node, c.is_pair()), (HaMode::ActiveStandby, NodeId(1), true));
    assert_eq!((c.own().unwrap().id, c.peer().unwrap().id), (NodeId(1), NodeId(2)));
    let paths: Vec<String> = c.peer().unwrap().paths.iter().map(ToString::to_string).collect();
    assert_eq!(paths, ["192.0.2.12:9801", "10.0.0.2:9801"]);
    let [vip] = c.virtual_ips.as_slice() else { panic!("{:?}", c.virtual_ips) };
    assert_eq!((vip.ip, vip.prefix, vip.interface.as_deref()), (IpAddr::from([192, 0, 2, 10]), None, None));
    assert_eq!((c.partition, c.floor, c.cold_reserve), (Partition::Available, 90, 10));
    assert_eq!((c.commit, c.commit_timeout), (Commit::PeerAck, Duration::from_millis(5)));
    assert_eq!(c.timing, Timing::default());
    assert_eq!((c.priority, c.preempt, c.vip_manager), (100, false, VipManager::Builtin));
    assert!(c.reference_points.is_empty() && c.service_ips.is_empty());
}

#[test]
fn every_key_of_a_pair_is_read() {
    let (s, warnings) = parse(
        r#"
        [cluster]
        ha-mode = "active-standby"
        mymemberid = 7
        members = "3, 7"
        member.7 = "[2001:db8::7]:9802"
        member.3 = "[2001:db8::3]:9801"
        virtual-ip = ["192.0.2.10/24%bond0.7", "2001:db8::10/64", "192.0.2.20%eth1"]
        secret-file = "/s"
        reference-points = ["192.0.2.1", "2001:db8::1"]
        partition = "prefer-lower-id"
        floor = 60
        cold-reserve = 0
        commit = "async"
        commit-timeout = "100ms"
        beat-interval = 50
        suspicion-timeout = "2s"
        guard-limit = "200ms"
        boot-hold = "1min"
        priority = 200
        preempt = true
        vip-manager = "script"
        failover-script = "/etc/tandem/failover"
        failover-script-timeout = "2s"
        [proxy]
        sip.transport = ["udp:0.0.0.0:5060", "udp:[::]:5060"]
        [[resource-group]]
        name = "A"
        [[resource-group.resource]]
        aor = "sip:mcp1.example.com"
        port-capacity = 1
        "#,
    );
    let c = s.cluster;
    let ids: Vec<u16> = c.members.iter().map(|m| m.id.0).collect();
    assert_eq!((ids, c.own().unwrap().paths[0].port()), (vec![3, 7], 9802));
    let vips: Vec<String> = c.virtual_ips.iter().map(ToString::to_string).collect();
    assert_eq!(vips, ["192.0.2.10/24%bond0.7", "2001:db8::10/64", "192.0.2.20%eth1"]);
    assert_eq!((c.virtual_ips[0].prefix, c.virtual_ips[2].interface.as_deref()), (Some(24), Some("eth1")));
    assert_eq!(c.reference_points, ["192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]);
    assert_eq!((c.partition, c.floor, c.cold_reserve), (Partition::PreferLowerId, 60, 0));
    let ms = Duration::from_millis;
    assert_eq!((c.commit, c.commit_timeout), (Commit::Async, ms(100)));
    let timing =
        Timing { beat: ms(50), suspicion: ms(2_000), guard_limit: ms(200), boot_hold: ms(60_000), ..Timing::default() };
    assert_eq!(c.timing, timing);
    assert_eq!((c.priority, c.preempt), (200, true));
    assert_eq!(c.vip_manager, VipManager::Script { path: "/etc/tandem/failover".into(), timeout: ms(2_000) });
    let costs: Vec<&str> = warnings.iter().map(|w| w.split(": ").nth(1).unwrap_or_default()).collect();
    assert_eq!(
        costs,
        [
            "the nodes share one path",
            "`partition` is \"prefer-lower-id\"",
            "`commit` is \"async\"",
            "`preempt` is true",
        ]
    );
}

#[test]
fn members_may_stand_in_a_table_of_their_own() {
    let text = changed("member.1", "").replace("member.2 = ", "# ").replace(
        "\n[[resource-group]]",
        "\n[cluster.member]\n2 = [\"192.0.2.12:9801\", \"10.0.0.2:9801\"]\n1 = [\"192.0.2.11:9801\", \"10.0.0.1:9801\"]\n[[resource-group]]",
    );
    assert_eq!(parse(&text).0, parse(PAIR).0);
}

#[test]
fn without_a_pair_its_keys_have_no_effect_and_say_so() {
    let alone = changed("ha-mode", "ha-mode = \"none\"").replace("virtual-ip = \"192.0.2.10\"\n", "");
    let (s, warnings) = parse(&alone);
    assert!(!s.cluster.is_pair() && s.cluster.own().is_none() && s.cluster.peer().is_none());
    assert_eq!(warnings, ["4:1: `member` in [cluster] has no effect while `ha-mode` is \"none\""]);
    assert_eq!(s.cluster.modes(), [HaMode::None]);
}

#[test]
fn a_pair_knows_the_modes_that_its_addresses_allow() {
    use HaMode::{ActiveActive, ActiveStandby, None};
    let services = "service-ip.1 = \"192.0.2.21\"\nservice-ip.2 = \"192.0.2.22\"";
    let all = with(services);
    let balanced = changed("ha-mode", "ha-mode = \"active-active\"");
    for (text, modes) in [
        (with(""), vec![None, ActiveStandby]),
        (changed("ha-mode", ""), vec![None, ActiveStandby]),
        (all.clone(), vec![None, ActiveStandby, ActiveActive]),
        (all.replace("active-standby", "none"), vec![None, ActiveStandby, ActiveActive]),
        (all.replace("active-standby", "active-active"), vec![None, ActiveStandby, ActiveActive]),
        (crossed(services), vec![None, ActiveActive]),
        (balanced.clone(), vec![None, ActiveActive]),
    ] {
        let (settings, _) = parse(&text);
        assert_eq!((settings.cluster.modes(), settings.cluster.is_pair()), (modes, true), "{text}");
    }
    let why = |text: &str, mode| parse(text).0.cluster.why_no_mode(mode).unwrap_or_default();
    assert!(why(&with(""), ActiveActive).contains("the balancer needs an address of its own"));
    assert!(why(&balanced, ActiveStandby).contains("is the load balancer's"));
    assert!(why(&crossed(services), ActiveStandby).contains("there is no `virtual-ip`"));
    let settings = parse(&all).0;
    assert_eq!((settings.cluster.moving_ips().count(), settings.cluster.balanced_ips().len()), (3, 0));
    let roles = settings.roles(7, 1);
    assert_eq!((roles.shared, roles.leads, roles.mode.word.node), (true, true, NodeId(1)));
    let other = parse(&all.replace("active-standby", "active-active")).0;
    assert_eq!(other.roles(7, 1).config, roles.config, "the mode is agreed upon, and makes no difference");
    assert_eq!((settings.cluster.partition, settings.cluster.floor), (Partition::Exact, 50));
}

#[test]
fn a_mode_that_its_addresses_allow_is_changed_by_a_reload() {
    let services = "service-ip.1 = \"192.0.2.21\"\nservice-ip.2 = \"192.0.2.22\"";
    let (old, new) = (parse(&with(services)).0, parse(&with(services).replace("active-standby", "active-active")).0);
    let said: Vec<String> = plan(&old, &new).unwrap().changes.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["`ha-mode` from active-standby to active-active"]);
    let old = parse(&with("")).0;
    let refused = plan(&old, &parse(&both("")).0).unwrap_err();
    assert!(refused.iter().any(|e| e.key == "cluster.ha-mode"), "{refused:?}");
}

#[test]
fn modes_are_words_of_the_model() {
    one(
        &changed("ha-mode", "ha-mode = \"active-stanby\""),
        "2:11: `ha-mode` in [cluster] cannot be \"active-stanby\"; did you mean \"active-standby\"?",
    );
}

/// `PAIR` in active-active, behind a balancer that returns directly.
fn both(lines: &str) -> String {
    let text = changed("ha-mode", "ha-mode = \"active-active\"");
    text.replacen("\n\n", &format!("\nvirtual-ip-in-via = true\n{lines}\n\n"), 1)
}

#[test]
fn where_both_nodes_serve_each_has_half_of_every_limit_and_no_address_moves() {
    let (settings, warnings) = parse(&both(""));
    assert_eq!(warnings, [""; 0]);
    let cluster = &settings.cluster;
    assert_eq!((cluster.ha_mode, cluster.partition, cluster.floor), (HaMode::ActiveActive, Partition::Exact, 50));
    assert_eq!((cluster.in_via, &cluster.vip_manager), (true, &VipManager::None));
    assert_eq!(cluster.moving_ips().count(), 0);
    assert_eq!(cluster.shared_ips().collect::<Vec<_>>(), ["192.0.2.10".parse::<IpAddr>().unwrap()]);
    let roles = settings.roles(7, 1);
    assert_eq!((roles.mode.mode, roles.probes, roles.check()), (HaMode::ActiveActive, false, Ok(())));
    let (_, warnings) = parse(&both("floor = 60\npreempt = true\nvip-manager = \"builtin\"\nguard-limit = 70"));
    assert_eq!(
        warnings,
        [
            "9:9: `floor` in [cluster] has no effect where both nodes can serve: each has half of every limit",
            "10:11: `preempt` in [cluster] has no effect where both nodes can serve",
            "11:15: `vip-manager` in [cluster] has no effect in active-active without `service-ip`: no address moves",
            "12:15: `guard-limit` in [cluster] has no effect in active-active without `service-ip`: no address moves",
        ]
    );
    let (settings, warnings) = parse(&with("virtual-ip-in-via = true"));
    assert_eq!(warnings, ["8:21: `virtual-ip-in-via` in [cluster] has no effect in active-standby: it always is"]);
    assert!(!settings.cluster.in_via);
}

#[test]
fn what_active_active_costs_and_cannot_do_is_told() {
    let of = |text: &str| parse(text).1;
    let away = of(&changed("ha-mode", "ha-mode = \"active-active\""));
    assert_eq!(
        away,
        [concat!(
            "1:1: `virtual-ip-in-via` is false: answers of media servers go to the node that asked, so calls that ring ",
            "at a node that dies are lost; let the balancer return directly, give each node the virtual IP as a silent ",
            "address, and write true"
        )]
    );
    let alone = of(&both("").replace("virtual-ip = \"192.0.2.10\"\n", "").replace("virtual-ip-in-via = true\n", ""));
    assert!(alone.len() == 1 && alone[0].contains("all calls of a node that dies are stranded"), "{alone:?}");
    let available = of(&both("partition = \"available\""));
    assert!(available.len() == 1 && available[0].contains("spend every limit together twice"), "{available:?}");
    let listeners = "[proxy]\nsip.transport = [\"udp:192.0.2.10:5060\", \"udp:192.0.2.11:5060\"]\n\n[[resource-group]]";
    let own = both("").replacen("[[resource-group]]", listeners, 1);
    let stranded = of(&own);
    assert!(stranded.len() == 1 && stranded[0].contains("takes nothing that is sent to a virtual IP"), "{stranded:?}");
    let translated = of(&own.replace("virtual-ip-in-via = true\n", ""));
    assert!(translated.len() == 1 && translated[0].contains("`virtual-ip-in-via` is false"), "{translated:?}");
    one(
        &both("").replace("virtual-ip = \"192.0.2.10\"\n", ""),
        concat!(
            "7:21: `virtual-ip-in-via` is true in [cluster], but there is no `virtual-ip`; ",
            "write the address of the load balancer"
        ),
    );
    let listens = "[proxy]\nsip.transport = [\"udp:192.0.2.10:5060\"]\n";
    let found = errors(&format!("{}{listens}", both("")));
    assert!(found.len() == 1 && found[0].contains("media servers are probed from an own address"), "{found:?}");
}

/// A pair whose nodes have these service IPs.
fn crossed(lines: &str) -> String {
    changed("ha-mode", "ha-mode = \"active-active\"").replace("virtual-ip = \"192.0.2.10\"\n", &format!("{lines}\n"))
}

#[test]
fn addresses_of_each_node_are_taken_over_by_the_other_one() {
    let (settings, warnings) =
        parse(&crossed("service-ip.2 = \"192.0.2.22\"\nservice-ip.1 = [\"192.0.2.21/24%eth0\"]\nguard-limit = 70"));
    assert_eq!(warnings, [""; 0]);
    let cluster = &settings.cluster;
    let of = |own| cluster.service_ips_of(own).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((of(true), of(false)), (vec!["192.0.2.21/24%eth0".to_owned()], vec!["192.0.2.22".to_owned()]));
    assert_eq!((cluster.moving_ips().count(), cluster.balanced_ips().len()), (2, 0));
    assert_eq!((&cluster.vip_manager, cluster.timing.guard_limit), (&VipManager::Builtin, Duration::from_millis(70)));
    let roles = settings.roles(7, 1);
    assert_eq!((roles.probes, roles.crossed), (true, Some(Duration::from_secs(2 * 181 + 32))));
}

#[test]
fn addresses_that_cannot_be_taken_over_are_refused() {
    for (lines, cause) in [
        ("service-ip.1 = \"192.0.2.21\"", "do not have the same number of `service-ip`"),
        (
            "service-ip.1 = [\"192.0.2.21\", \"192.0.2.23\"]\nservice-ip.2 = \"192.0.2.22\"",
            "do not have the same number of `service-ip`",
        ),
        ("service-ip.1 = \"192.0.2.21\"\nservice-ip.2 = \"192.0.2.21\"", "the service IP 192.0.2.21 is there twice"),
        ("service-ip.1 = \"192.0.2.11\"\nservice-ip.2 = \"192.0.2.22\"", "is a member's own address"),
        ("service-ip.1 = \"127.0.0.2\"\nservice-ip.2 = \"192.0.2.22\"", "is a loopback address"),
        (
            "virtual-ip = \"192.0.2.22\"\nservice-ip.1 = \"192.0.2.21\"\nservice-ip.2 = \"192.0.2.22\"",
            "the service IP 192.0.2.22 is the virtual IP, too",
        ),
        (
            "reference-points = \"192.0.2.22\"\nservice-ip.1 = \"192.0.2.21\"\nservice-ip.2 = \"192.0.2.22\"",
            "the reference point 192.0.2.22 is a service IP",
        ),
    ] {
        let found = errors(&crossed(lines));
        assert!(found.len() == 1 && found[0].contains(cause), "{lines}: {found:?}");
    }
}

#[test]
fn what_a_pair_must_have_is_missed_at_once() {
    let text = "[cluster]\nha-mode = \"active-standby\"\nvip-manager = \"script\"\n";
    let text = format!("{text}[[resource-group]]\nname = \"A\"\n");
    let at = |error: &str| format!("1:1: {error}");
    assert_eq!(
        errors(&text),
        [
            at("`mymemberid` is missing in [cluster]; write the N of this node's own `member.N`"),
            at("`member` is missing in [cluster]; write member.1 = \"IP:9801\" and member.2 = \"IP:9801\", the same on both nodes"),
            at("`virtual-ip` is missing in [cluster]; write the address that both nodes put into Record-Route and Via"),
            at("`failover-script` is missing in [cluster]; write the absolute path of the program that moves the address"),
        ]
        .iter()
        .cloned()
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()
    );
}

#[test]
fn options_of_the_model_that_have_no_counterpart_say_what_does_their_work() {
    one(
        &with("heartbeatinterval = 2000"),
        concat!(
            "8:1: `heartbeatinterval` in [cluster] would make a takeover last seconds: the model's beats are 2000 ms ",
            "apart, ours 20 ms; remove it; if you must, tune `beat-interval`"
        ),
    );
    one(
        &with("electiontimer = 3000"),
        concat!(
            "8:1: `electiontimer` in [cluster] has no counterpart: two nodes with epochs need no election, and silence ",
            "is judged after 150 ms; remove it; if you must, tune `suspicion-timeout`"
        ),
    );
    one(
        &with("hotstandby = true"),
        "8:1: `hotstandby` in [cluster] has no counterpart: a standby is always hot; remove it",
    );
    one(
        &with("FailOverScript = \"/x\""),
        "8:1: unknown key `FailOverScript` in [cluster]; did you mean `failover-script`?",
    );
    let found = errors(&with("secret = \"hush-hush-hush-hush\""));
    assert_eq!(
        found,
        [concat!(
            "8:1: `secret` in [cluster] must not stand in a file that everybody may read; ",
            "name a file of its own in `secret-file`, or set TANDEM_CLUSTER_SECRET"
        )]
    );
}

#[test]
fn members_are_two_and_have_addresses_of_their_own() {
    const FORM: &str = "write \"IP:PORT\" with the node's own address, an IPv6 address in brackets; usual is port 9801";
    let second = |value: &str| changed("member.2", &format!("member.2 = {value}"));
    for (bad, why) in [
        ("192.0.2.12", "is no address with a port"),
        ("node2:9801", "is no address with a port"),
        ("192.0.2.12:0", "has no port that the peer could call"),
        ("192.0.2.12:65536", "is no address with a port"),
        ("0.0.0.0:9801", "is not the address of one host"),
        ("[::ffff:192.0.2.12]:9801", "is not the address of one host"),
    ] {
        let error = format!("5:30: `member.2` in [cluster] has the entry \"{bad}\", which {why}; {FORM}");
        one(&second(&format!("[\"10.0.0.2:9801\", \"{bad}\"]")), &error);
    }
    one(
        &second("[\"192.0.2.12:9801\", 7]"),
        "5:32: `member.2` in [cluster] has the entry a whole number, which is not in double quotes; put it there",
    );
    one(&second("[]"), "5:12: `member.2` in [cluster] has 0 entries; allowed is 1 to 4");
    one(
        &second("\"192.0.2.12:9801\""),
        concat!(
            "5:12: member 1 has 2 paths and member 2 has 1 path: each path has two ends; ",
            "list the paths of both in one order"
        ),
    );
    one(
        &second("[\"192.0.2.12:9801\", \"[2001:db8::2]:9801\"]"),
        "5:32: path 2 leads from 10.0.0.1:9801 to [2001:db8::2]:9801: one end is IPv4, the other IPv6",
    );
    const AGAIN: &str = "a path that fails together with another one is no second path";
    one(
        &second("[\"192.0.2.12:9801\", \"192.0.2.12:9802\"]"),
        &format!("5:32: 192.0.2.12:9802 of member 2 is an address of member 2 again; {AGAIN}"),
    );
    one(
        &second("[\"192.0.2.11:9801\", \"10.0.0.2:9801\"]"),
        &format!("5:13: 192.0.2.11:9801 of member 2 is an address of member 1 again; {AGAIN}"),
    );
    one(
        &second("[\"192.0.2.10:9801\", \"10.0.0.2:9801\"]"),
        concat!(
            "5:13: 192.0.2.10:9801 of member 2 is the virtual IP, which moves between the nodes; ",
            "write the node's own address"
        ),
    );
    one(
        &changed("member.2", ""),
        concat!(
            "4:1: active-standby is for two nodes, but [cluster] has 1 `member.N`; ",
            "name both nodes, the same on each"
        ),
    );
    let third = errors(&with("member.3 = [\"192.0.2.13:9801\", \"10.0.0.3:9801\"]"));
    assert!(third[0].contains("has 3 `member.N`"), "{third:?}");
    one(
        &changed("mymemberid", "mymemberid = 3"),
        "3:14: `mymemberid` in [cluster] is 3, but the members are 1 and 2; write the N of this node's own `member.N`",
    );
    for bad in ["0", "65536", "one", "01x"] {
        let found = errors(&with(&format!("member.{bad} = \"192.0.2.13:9801\"")));
        let error = format!(
            "8:8: `member` in [cluster] has the entry `member.{bad}`, whose end is no id of a member; \
             ids are 1 to 65535, each once"
        );
        assert_eq!(found, [error]);
    }
    one(
        &changed("member.1", "member = \"192.0.2.11:9801\"").replace("member.2", "#"),
        "4:10: `member` in [cluster] has one entry for each member; write for example member.1 = \"192.0.2.11:9801\"",
    );
}

#[test]
fn the_list_of_ids_must_agree() {
    assert!(parse(&with("members = \"2 1\"")).1.is_empty());
    for bad in ["1 2 3", "1", "1 x", "1 1 2"] {
        one(
            &with(&format!("members = \"{bad}\"")),
            &format!(
                "8:11: `members` in [cluster] lists \"{bad}\", but the members are `member.1`, `member.2`; \
                 remove it: the keys `member.N` say it already"
            ),
        );
    }
}

#[test]
fn nothing_else_listens_where_the_peer_calls() {
    let proxy = |rest: &str| format!("{PAIR}[proxy]\n{rest}");
    one(
        &proxy("sip.transport = [\"udp:0.0.0.0:9801\"]")
            .replace(", \"10.0.0.1:9801\"", "")
            .replace(", \"10.0.0.2:9801\"", ""),
        concat!(
            "4:13: 192.0.2.11:9801 of member 1 is where udp:0.0.0.0:9801 listens; ",
            "give the peer link a port of its own, usually 9801"
        ),
    );
    one(
        &format!("{PAIR}[admin]\nlisten = \"10.0.0.1:9801\""),
        concat!(
            "4:32: 10.0.0.1:9801 of member 1 is where [admin] listens; ",
            "give the peer link a port of its own, usually 9801"
        ),
    );
    one(
        &format!("{PAIR}[admin]\nlisten = \"192.0.2.10:9090\""),
        concat!(
            "15:10: `listen` in [admin] is the virtual IP 192.0.2.10: only the active node could be asked; ",
            "give it an address that stays with this node"
        ),
    );
}

#[test]
fn virtual_ips_are_addresses_that_can_move() {
    const FORM: &str = "write \"IP\", \"IP/PREFIX\" or \"IP/PREFIX%INTERFACE\"";
    for (bad, why) in [
        ("vip.example.com", format!("is no IP address; {FORM}")),
        ("192.0.2.10:5060", format!("is no IP address; {FORM}")),
        ("", format!("is no IP address; {FORM}")),
        ("0.0.0.0", format!("is not the address of one host; {FORM}")),
        ("224.0.0.18", format!("is not the address of one host; {FORM}")),
        ("fe80::1%eth0", "is valid on one link only; write an address that SIP URIs can carry".into()),
        ("192.0.2.10/33", "has no such prefix; write 1 to 32 for IPv4, 1 to 128 for IPv6".into()),
        ("192.0.2.10/0", "has no such prefix; write 1 to 32 for IPv4, 1 to 128 for IPv6".into()),
        ("2001:db8::1/129", "has no such prefix; write 1 to 32 for IPv4, 1 to 128 for IPv6".into()),
        ("192.0.2.10%", format!("has no name of an interface; {FORM}")),
        ("192.0.2.10%eth0/24", format!("has no name of an interface; {FORM}")),
        ("192.0.2.10%sixteen-letters-", format!("has no name of an interface; {FORM}")),
    ] {
        one(
            &changed("virtual-ip", &format!("virtual-ip = \"{bad}\"")),
            &format!("6:14: `virtual-ip` in [cluster] has the entry \"{bad}\", which {why}"),
        );
    }
    one(
        &changed("virtual-ip", "virtual-ip = [\"192.0.2.10\", \"192.0.2.10/24\"]"),
        "6:29: the virtual IP 192.0.2.10 is there twice; keep one of them",
    );
    let many = vec!["\"192.0.2.10\""; 17].join(", ");
    one(
        &changed("virtual-ip", &format!("virtual-ip = [{many}]")),
        "6:14: `virtual-ip` in [cluster] has 17 entries; allowed is 1 to 16",
    );
}

#[test]
fn listeners_take_what_is_sent_to_a_virtual_ip() {
    let proxy = |transport: &str| format!("{PAIR}[proxy]\nsip.transport = [{transport}]");
    assert!(parse(&proxy("\"udp:192.0.2.10:5060\"")).1.is_empty());
    one(
        &changed("virtual-ip", "virtual-ip = [\"192.0.2.10\", \"2001:db8::10\"]"),
        concat!(
            "6:29: no listener takes SIP that is sent to the virtual IP 2001:db8::10; ",
            "add \"udp:[2001:db8::10]:5060\" to `sip.transport` in [proxy], or a wildcard of its family"
        ),
    );
    one(
        &proxy("\"udp:192.0.2.11:5060\""),
        concat!(
            "6:14: no listener takes SIP that is sent to the virtual IP 192.0.2.10; ",
            "add \"udp:192.0.2.10:5060\" to `sip.transport` in [proxy], or a wildcard of its family"
        ),
    );
    warns(
        &proxy("\"udp:192.0.2.10:5060\", \"udp:192.0.2.11:5060\""),
        concat!(
            "15:41: listener udp:192.0.2.11:5060 takes nothing that is sent to a virtual IP: ",
            "its calls die with this node; let it listen on a virtual IP or a wildcard"
        ),
    );
}

#[test]
fn media_servers_are_reached_from_a_virtual_ip() {
    let to = |aor: &str| {
        format!(
            "{}[proxy]\nsip.transport = [\"udp:0.0.0.0:5060\", \"udp:[::]:5060\"]\n",
            changed("aor", &format!("aor = \"{aor}\""))
        )
    };
    one(
        &to("sip:[2001:db8::21]"),
        concat!(
            "12:7: sip:[2001:db8::21] cannot be reached from a virtual IP: there is none over IPv6; ",
            "add one to `virtual-ip` in [cluster]"
        ),
    );
    one(&to("sip:192.0.2.10"), "12:7: sip:192.0.2.10 is the virtual IP of this pair itself");
    parse(&to("sip:192.0.2.10:5070"));
}

#[test]
fn reference_points_are_somebody_else() {
    const CURE: &str = "write a gateway, a media server or the SIP Server";
    one(
        &with("reference-points = [\"192.0.2.1\", \"10.0.0.2\"]"),
        &format!("8:34: the reference point 10.0.0.2 is member 2, whose silence is to be judged by it; {CURE}"),
    );
    one(
        &with("reference-points = \"192.0.2.10\""),
        &format!("8:20: the reference point 192.0.2.10 is the virtual IP, which moves between the nodes; {CURE}"),
    );
    one(
        &with("reference-points = [\"gw\"]"),
        concat!(
            "8:21: `reference-points` in [cluster] has the entry \"gw\", which is no IP address; ",
            "write an IP address without a port"
        ),
    );
}

#[test]
fn an_address_cannot_live_twice() {
    one(
        &with("suspicion-timeout = 119"),
        concat!(
            "8:21: the virtual IP could live twice: a survivor claims it after 139ms (`suspicion-timeout` 119ms + probe ",
            "20ms), but a node that hangs lets go only after 140ms (`guard-limit` 80ms + kick 10ms + `beat-interval` ",
            "20ms + margin 30ms); make `suspicion-timeout` at least 120ms"
        ),
    );
    assert!(parse(&with("suspicion-timeout = 120")).1.is_empty());
    let slow = errors(&with("beat-interval = 100"));
    assert_eq!(slow.len(), 1, "{slow:?}");
    assert!(slow[0].ends_with("make `suspicion-timeout` at least 200ms"), "{slow:?}");
    assert!(errors(&with("guard-limit = 111"))[0].contains("only after 171ms"));
    one(
        &with("beat-interval = 40\nguard-limit = 30"),
        concat!(
            "1:1: `suspicion-timeout` is 150ms: fewer than 4 lost beats of 40ms make a living peer suspect; ",
            "make `suspicion-timeout` at least 160ms"
        ),
    );
    one(
        &with("guard-limit = 30\nsuspicion-timeout = 80"),
        concat!(
            "9:21: `suspicion-timeout` is 80ms: a node that is 40ms late would be suspected before it knows; ",
            "make `suspicion-timeout` at least 91ms"
        ),
    );
    assert!(parse(&with("guard-limit = 30\nsuspicion-timeout = 91")).1.is_empty());
}

#[test]
fn the_bounds_leave_only_times_that_fit_together_or_are_refused() {
    let bounds = [("beat-interval", [10, 500]), ("suspicion-timeout", [50, 2_000]), ("guard-limit", [30, 1_000])];
    for n in 0..8 {
        let line = |(bit, (key, ends)): (usize, (&str, [u32; 2]))| format!("{key} = {}\n", ends[n >> bit & 1]);
        let lines: String = bounds.into_iter().enumerate().map(line).collect();
        for hold in [2_300, 300_000] {
            let text = with(&format!("{lines}boot-hold = {hold}"));
            match Settings::parse(&text) {
                Ok((settings, _)) => assert_eq!(settings.roles(1, 1).check(), Ok(()), "{lines}"),
                Err(errors) => assert!(errors[0].suggestion.is_some(), "{errors:?}"),
            }
        }
    }
}

#[test]
fn the_cluster_is_told_what_the_text_says() {
    let (settings, _) = parse(&with("priority = 7\npreempt = true\npartition = \"exact\""));
    let roles = settings.roles(99, 12);
    assert_eq!(roles.check(), Ok(()));
    assert_eq!((roles.me, roles.incarnation, roles.counter), (NodeId(1), 99, 12));
    assert_eq!(
        (roles.mode.mode, roles.partition, roles.priority, roles.preempt),
        (HaMode::ActiveStandby, Partition::Exact, 7, true)
    );
    let peers: Vec<(u16, u8)> = roles.peers.iter().map(|p| (p.id.0, p.paths)).collect();
    assert_eq!((peers, roles.config), (vec![(2, 2)], settings.shared_digest()));
    let west = parse(&with("name = \"west\"")).0;
    assert_ne!(west.roles(99, 12).cluster, roles.cluster);
    let alone = changed("ha-mode", "beat-interval = 500").replace("virtual-ip = \"192.0.2.10\"\n", "");
    let alone = parse(&alone).0.roles(1, 1);
    assert_eq!((alone.mode.mode, alone.peers.len(), alone.check()), (HaMode::None, 0, Ok(())));
}

#[test]
fn numbers_have_bounds() {
    for (line, error) in [
        ("commit-timeout = 101", "8:18: `commit-timeout` in [cluster] is 101ms; allowed is 1ms to 100ms"),
        ("commit-timeout = 0", "8:18: `commit-timeout` in [cluster] is 0ns; allowed is 1ms to 100ms"),
        ("floor = 49", "8:9: `floor` in [cluster] is 49; allowed is 50 to 100"),
        ("cold-reserve = 91", "8:16: `cold-reserve` in [cluster] is 91; allowed is 0 to 90"),
        ("priority = 256", "8:12: `priority` in [cluster] is 256; allowed is 0 to 255"),
        ("boot-hold = 2299", "8:13: `boot-hold` in [cluster] is 2.299s; allowed is 2.3s to 300s"),
        (
            "partition = \"best\"",
            "8:13: `partition` in [cluster] cannot be \"best\"; one of \"available\", \"exact\", \"prefer-lower-id\", \"witness\"",
        ),
        ("commit = \"acync\"", "8:10: `commit` in [cluster] cannot be \"acync\"; did you mean \"async\"?"),
        (
            "failover-script = \"bin/failover\"\nvip-manager = \"script\"",
            "8:19: `failover-script` in [cluster] is not an absolute path",
        ),
        (
            "service-ip.3 = \"192.0.2.33\"",
            "8:16: `service-ip.3` in [cluster] is for a member that there is not: the members are `member.1`, `member.2`",
        ),
    ] {
        one(&with(line), error);
    }
}

#[test]
fn check_says_what_a_choice_costs() {
    warns(
        &changed("secret-file", ""),
        concat!(
            "1:1: there is no `secret-file` in [cluster]: the node starts only with TANDEM_CLUSTER_SECRET in its ",
            "environment; both nodes must have the same secret"
        ),
    );
    warns(
        &PAIR.replace(", \"10.0.0.1:9801\"", "").replace(", \"10.0.0.2:9801\"", ""),
        concat!(
            "4:1: the nodes share one path: when it is cut, only an ARP probe of the address tells that from a death; ",
            "add a second address to each member, on another network"
        ),
    );
    warns(
        &with("commit = \"async\""),
        concat!(
            "8:10: `commit` is \"async\": what a call did in the last moments before its node died may be lost, and a ",
            "media server may get a call twice; write \"peer-ack\" to let messages wait for the peer"
        ),
    );
    warns(
        &with("partition = \"exact\"\nfloor = 70"),
        concat!(
            "8:13: `partition` is \"exact\": as long as the peer may live, a node admits new calls ",
            "only up to 70 % of each limit (the active one) or 30 %; ",
            "`tandem peer declare-dead` gives the whole limit to a survivor"
        ),
    );
    warns(
        &with("preempt = true"),
        "8:11: `preempt` is true: each return of the node with the higher priority moves the virtual IP once more",
    );
    warns(
        &with("vip-manager = \"none\""),
        "8:15: `vip-manager` is \"none\": Tandem moves no address; whatever does must follow `/readyz` of both nodes",
    );
    warns(
        &with("failover-script = \"/x\""),
        "8:19: `failover-script` in [cluster] has no effect unless `vip-manager` is \"script\"",
    );
    assert_eq!(
        check("t.toml", PAIR).report,
        concat!(
            "t.toml:1:1: warning: whoever reaches the listeners can place calls: `sip.allow-from` in [proxy] is not set; ",
            "list the networks of your SIP servers, unless a firewall keeps others out\n",
            "t.toml: sound: member 1 in active-standby with member 2 at 192.0.2.10, ",
            "2 listeners, 1 group, 1 resource with 10 ports\n"
        )
    );
}

#[test]
fn the_example_of_a_pair_is_sound_and_its_values_are_the_defaults() {
    let text = include_str!("../../deploy/tandem-pair.toml");
    let (example, warnings) = parse(text);
    assert_eq!(warnings, [""; 0]);
    assert_eq!(example.cluster, parse(PAIR).0.cluster);
    let lines = text.lines().map(|line| match line.strip_prefix("# ").filter(|l| l.split(' ').nth(1) == Some("=")) {
        Some(key) => key,
        None => line,
    });
    let all: String = lines.map(|line| format!("{line}\n")).collect();
    let (all, warnings) = parse(&all.replace("\"builtin\"", "\"script\""));
    assert_eq!(warnings, [""; 0]);
    assert_eq!(all.cluster.reference_points.len(), 2);
    assert!(matches!(all.cluster.vip_manager, VipManager::Script { timeout, .. } if timeout == Duration::from_secs(5)));
}

#[test]
fn a_reload_changes_policies_while_calls_go_on() {
    let new = with(
        "partition = \"exact\"\ncommit = \"async\"\ncommit-timeout = 10\npriority = 7\npreempt = true\nreference-points = \"192.0.2.1\"",
    );
    let plan = plan(&parse(PAIR).0, &parse(&new).0).expect("applicable");
    let changes: Vec<String> = plan.changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "`partition` from available to exact",
            "`commit` from peer-ack to async",
            "`commit-timeout` from 5ms to 10ms",
            "`reference-points` from none to 192.0.2.1",
            "`priority` from 100 to 7",
            "`preempt` from false to true",
        ]
    );
}

#[test]
fn a_reload_does_not_change_what_the_nodes_agreed_upon() {
    let new = with(
        "floor = 80\ncold-reserve = 20\nbeat-interval = 25\nsuspicion-timeout = 200\nguard-limit = 90\nboot-hold = 4000\n\
         vip-manager = \"script\"\nfailover-script = \"/x\"",
    );
    let new = new
        .replace("virtual-ip = \"192.0.2.10\"", "virtual-ip = \"192.0.2.10/24%eth0\"")
        .replace("10.0.0.2", "10.0.0.3");
    let refused = plan(&parse(PAIR).0, &parse(&new).0).expect_err("refused");
    let told: Vec<String> = refused.iter().map(|e| format!("{} {}", e.place, e.cause)).collect();
    let line = |at: &str, key: &str, from: &str, to: &str| {
        format!("{at} `cluster.{key}` cannot change from {from} to {to} while calls go on")
    };
    let members = |last: &str| format!("1:[192.0.2.11:9801 10.0.0.1:9801] 2:[192.0.2.12:9801 {last}:9801]");
    assert_eq!(
        told,
        [
            line("4:1", "member", &members("10.0.0.2"), &members("10.0.0.3")),
            line("6:14", "virtual-ip", "192.0.2.10", "192.0.2.10/24%eth0"),
            line("8:9", "floor", "90", "80"),
            line("9:16", "cold-reserve", "10", "20"),
            line("10:17", "beat-interval", "20ms", "25ms"),
            line("11:21", "suspicion-timeout", "150ms", "200ms"),
            line("12:15", "guard-limit", "80ms", "90ms"),
            line("13:13", "boot-hold", "3s", "4s"),
            line("14:15", "vip-manager", "builtin", "script"),
            line("15:19", "failover-script", "none", "/x"),
            line("1:1", "failover-script-timeout", "none", "5s"),
        ]
    );
    let alone = changed("ha-mode", "").replace("virtual-ip = \"192.0.2.10\"\n", "");
    let alone = plan(&parse(PAIR).0, &parse(&alone).0).expect_err("refused");
    assert_eq!(alone[0].cause, "`cluster.ha-mode` cannot change from active-standby to none while calls go on");
}

#[test]
fn both_nodes_find_their_files_alike_whatever_is_their_own() {
    let here = parse(PAIR).0;
    let own = "priority = 7\nreference-points = \"192.0.2.1\"\nstate-dir = \"/d\"\nboot-hold = \"5s\"";
    let there = with(own)
        .replace("mymemberid = 1", "mymemberid = 2")
        .replace("/etc/tandem/secret", "/run/secret")
        .replace("virtual-ip = \"192.0.2.10\"", "virtual-ip = \"192.0.2.10%ens3\"");
    let there = format!(
        "{there}[proxy]\nsip.transport = [\"tcp:192.0.2.10:5060\", \"udp:192.0.2.10:5060\"]\nsip.threadpoolsize = 3\n\
         drain-timeout = 0\n[admin]\nlisten = \"127.0.0.1:9091\"\n[log]\nlevel = \"debug\"\n"
    );
    let there = parse(&there).0;
    assert_eq!(here.shared_lines(), there.shared_lines());
    assert_eq!(here.shared_digest(), there.shared_digest());
}

#[test]
fn nodes_whose_files_differ_say_in_what() {
    let here = parse(PAIR).0;
    let more = "[[resource-group.resource]]\naor = \"sip:198.51.100.22\"\nport-capacity = 5\n[[resource-group]]\nname = \"B\"\n";
    let there = format!(
        "{}{more}[proxy]\nsip.timer.t1 = 250\nsip.transport = [\"udp:0.0.0.0:5060\"]\n",
        with("commit = \"async\"\nfloor = 60").replace("port-capacity = 10", "port-capacity = 20")
    );
    let there = parse(&there).0;
    assert_ne!(here.shared_digest(), there.shared_digest());
    assert_eq!(
        differences(&here.shared_lines(), &there.shared_lines()),
        [
            "`cluster.floor` is 90 here and 60 there",
            "`cluster.commit` is peer-ack here and async there",
            "`proxy.sip.transport` is tcp:192.0.2.10:5060 udp:192.0.2.10:5060 here and udp:192.0.2.10:5060 there",
            "`proxy.sip.timer.t1` is 500ms here and 250ms there",
            "`resource-group` is MCP_LRG here and MCP_LRG B there",
            concat!(
                "`resource-group[MCP_LRG].resource` is sip:198.51.100.21:5070;transport=udp here and ",
                "sip:198.51.100.21:5070;transport=udp sip:198.51.100.22:5060;transport=udp there"
            ),
            "`resource[sip:198.51.100.21:5070;transport=udp].port-capacity` is 10 here and 20 there",
        ]
    );
    assert_eq!(differences(&here.shared_lines(), &here.shared_lines()), [""; 0]);
}

#[test]
fn a_virtual_ip_on_loopback_is_for_trying_out_over_udp() {
    let text = with("vip-manager = \"none\"").replace("\"192.0.2.10\"", "\"127.9.9.9\"");
    let listen = |list: &str| format!("{text}[proxy]\nsip.transport = [{list}]\n");
    let (settings, warnings) = parse(&listen("\"udp:127.9.9.9:5060\""));
    assert!(settings.cluster.is_on_loopback());
    assert!(warnings.iter().any(|w| w.contains("for trying out on one machine only")), "{warnings:?}");
    assert!(!warnings.iter().any(|w| w.contains("Tandem moves no address")), "{warnings:?}");
    let told = errors(&listen("\"udp:127.9.9.9:5060\", \"tcp:127.9.9.9:5060\""));
    assert!(told.len() == 1 && told[0].contains("tcp:127.9.9.9:5060 cannot move"), "{told:?}");
    assert!(!parse(&with("vip-manager = \"none\"")).0.cluster.is_on_loopback());
}

#[test]
fn what_is_shared_has_one_line_for_each_key() {
    let lines = parse(include_str!("../../deploy/tandem-pair.toml")).0.shared_lines();
    let mut keys: Vec<&str> = lines.iter().map(|line| line.key.as_str()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), lines.len());
    assert_eq!(lines[0].to_string(), "cluster.name = tandem");
    assert!(!lines.iter().any(|line| line.value.contains("/etc/tandem/secret")));
}

#[test]
fn encryption_between_the_nodes_needs_certificates_on_both_sides() {
    let tls = |more: &str| format!("{}\n[tls]\ncertificate = \"/c\"\nkey = \"/k\"\n{more}", with("peer-tls = true"));
    let (settings, warnings) = parse(&tls("trusted-ca = \"/ca\""));
    assert!(settings.cluster.peer_tls);
    assert!(!warnings.iter().any(|w| w.contains("[tls] has no effect")), "{warnings:?}");
    assert!(!parse(&with("")).0.cluster.peer_tls);
    for (text, cause) in [
        (with("peer-tls = true"), "needs a certificate, and there is no section [tls]"),
        (tls(""), "`trusted-ca` is missing in [tls]"),
        (with("peer-tls = 1"), "must be true or false"),
    ] {
        let told = errors(&text);
        assert!(told.len() == 1 && told[0].contains(cause), "{told:?}");
    }
}
