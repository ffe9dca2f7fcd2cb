//! A network of a test's own: the test runs again as a process in a namespace where it may shape and drop what it likes.

use std::net::IpAddr;
use std::process::Command;

/// Tells the second run that it is the second run.
const INSIDE: &str = "TANDEM_LAB_NAMESPACE";

/// Whether this process has a network of its own, with loopback up. The first run of `test` (its full name) has not: it
/// starts the second one, waits until that has passed, and has nothing left to do.
#[track_caller]
pub fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        return true;
    }
    if !Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success()) {
        println!("network namespaces: ABSENT");
        return false;
    }
    let own = std::env::current_exe().expect("this very program");
    let mut again = Command::new("unshare");
    again.arg("--net").arg(own).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = again.output().expect("unshare(1)");
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test} failed in its namespace");
    assert!(said.contains("1 passed"), "no test has the name {test}");
    false
}

/// Lets datagrams to `host` leave at `rate` only (`64kbit`); `limit` octets may wait for it. Others pass at once.
#[track_caller]
pub fn narrow(host: IpAddr, rate: &str, limit: usize) {
    let tc = |args: &str| run("tc", &args.split(' ').collect::<Vec<_>>());
    tc("qdisc add dev lo root handle 1: htb default 10");
    tc("class add dev lo parent 1: classid 1:10 htb rate 10gbit burst 1mb quantum 60000");
    tc(&format!("class add dev lo parent 1: classid 1:30 htb rate {rate} burst 2000 quantum 60000"));
    tc(&format!("qdisc add dev lo parent 1:30 handle 30: bfifo limit {limit}"));
    output_rule(&format!("ip daddr {host} meta l4proto udp meta priority set 0x10030"));
}

/// Makes the kernel refuse datagrams to `host` (EPERM), all, or those beyond ten and so many in a second.
#[track_caller]
pub fn forbid(host: IpAddr, beyond: u32) {
    let some = if beyond == 0 { String::new() } else { format!("limit rate over {beyond}/second burst 10 packets ") };
    output_rule(&format!("ip daddr {host} meta l4proto udp {some}drop"));
}

#[track_caller]
fn output_rule(rule: &str) {
    let chain = "chain out { type filter hook output priority 0; ";
    run("nft", &[&format!("table inet lab {{ {chain}{rule}; }}; }}")]);
}

#[track_caller]
fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
