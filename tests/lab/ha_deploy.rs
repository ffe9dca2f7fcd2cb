//! Both ways of moving the address that `deploy/` gives to operators, with a pair: the example of a script, and
//! keepalived.

use std::fs;

use crate::rig::keepalived::{HOLDER, keepalived};
use crate::rig::node::{Node, Setup};
use crate::rig::pair::{Pair, Plan, VIP};
use crate::rig::poll::{SOON, until_true};
use crate::rig::stubs::{Stubs, deployed};
use crate::rig::world::World;

/// The lines of a node's log that the example script wrote.
fn moves(pair: &Pair<'_>, n: usize) -> Vec<String> {
    let log = pair.nodes[n].log();
    log.lines().filter(|line| line.starts_with("move-address: ")).map(str::to_owned).collect()
}

#[test]
fn a_pair_moves_its_address_through_the_example_script() {
    let world = World::new("ha-script");
    let Some(mut plan) = Plan::new(&world, "10") else { return };
    let hang = world.path("hang");
    let api = [0, 1].map(|n| {
        let then = format!("[ ! -e {hang:?} ] || sleep 600");
        let stubs = Stubs::new(&world, &format!("bin{n}")).program("aws", &then);
        let conf = world.write(&format!("move-{n}.conf"), &format!("INTERFACE_ID=eni-{n}\nDEVICE=eth0\n"));
        let setup = &mut plan.setups[n];
        let script = deployed("failover-script/move-address");
        setup.cluster.push_str(&format!(
            "vip-manager = \"script\"\nfailover-script = {script:?}\nfailover-script-timeout = \"1s\"\n"
        ));
        setup.env = vec![("PATH", stubs.path()), ("MOVE_ADDRESS_CONF", conf.display().to_string())];
        stubs
    });
    let pair = plan.start(&world);
    let active = pair.until_armed();
    let told = |n: usize| {
        let calls = api[n].calls();
        let take = format!(
            "aws ec2 assign-private-ip-addresses --network-interface-id eni-{n} --private-ip-addresses {VIP} \
             --allow-reassignment"
        );
        assert!(calls.iter().all(|call| *call == take), "{calls:?}");
        calls.len()
    };
    let said = |n: usize, role: &str, epoch: f64| {
        let line = format!("move-address: {role} in epoch {epoch}: {VIP}");
        until_true(&line, SOON, || moves(&pair, n).last() == Some(&line));
    };
    let first = pair.nodes[active].epoch();
    said(active, "active", first);
    // Where the address has to be announced again the script runs again.
    assert!(told(active) >= 1 && told(1 - active) == 0);

    pair.switch_over(active);
    assert_eq!(pair.until_armed(), 1 - active);
    let second = pair.nodes[1 - active].epoch();
    assert!(second > first, "{second} after {first}");
    said(1 - active, "active", second);
    said(active, "standby", first);
    assert!(told(1 - active) >= 1 && told(active) == 0);

    // The API does not answer: the run is ended with all that it started, and the address goes back.
    fs::write(&hang, "").expect("a file");
    let (code, words) = pair.nodes[1 - active].order(&["switchover"]);
    assert_eq!(code, Some(0), "{words}");
    let killed = "active: not done within 1s, it was killed";
    pair.wait("the end of the run", || pair.nodes[active].log().contains(killed).then_some(()));
    fs::remove_file(&hang).expect("the file");
    let sleeps = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep");
    let host = &pair.field.nodes[active];
    until_true("nothing of it left", SOON, || !host.pids().iter().any(sleeps));
    let holder = pair.until_armed();
    assert!(pair.nodes[holder].epoch() > second, "the claim that failed has had its epoch");
    assert!(told(active) >= 1, "the API was asked");
}

#[test]
fn keepalived_follows_the_roles_and_the_roles_follow_keepalived() {
    let world = World::new("ha-keepalived");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let none = |mut setup: Setup| {
        setup.cluster.push_str("vip-manager = \"none\"\n");
        setup
    };
    let pair = plan.both(none).launch(&world);
    let roles = || (pair.active().is_some() && pair.nodes.iter().all(Node::armed)).then_some(());
    pair.wait("roles before the address is anywhere", roles);
    let active = pair.active().expect("a role that nothing moves");
    let epoch = pair.nodes[active].epoch();
    let calls = |n: usize| {
        let calls = world.path(&format!("keepalived{}-bin", n + 1)).join("calls");
        fs::read_to_string(calls).unwrap_or_default()
    };
    let came = format!("logger -t tandem-notify the address is here: tandem is {HOLDER}\n");
    // The standby's keepalived would take an address that nobody announces yet, and the role with it.
    let first = keepalived(&world, &pair.field.nodes[active], active, false);
    pair.wait("the notification of the first holder", || calls(active).contains(&came).then_some(()));
    let mut second = keepalived(&world, &pair.field.nodes[1 - active], 1 - active, false);
    assert_eq!(pair.until_armed(), active);

    // Tandem first: keepalived brings the address to who serves.
    pair.switch_over(active);
    assert_eq!(pair.until_armed(), 1 - active);
    pair.wait("the notification of the second holder", || calls(1 - active).contains(&came).then_some(()));
    assert_eq!(pair.nodes[1 - active].epoch(), epoch + 1.0, "one hand-over, and no second one by the notification");

    // keepalived first: its end moves the address, and the notification asks for the role.
    second.signal("TERM");
    assert!(second.wait(SOON).success());
    assert_eq!(pair.until_armed(), active);
    drop(first);
    assert_eq!(pair.nodes[active].epoch(), epoch + 2.0);
    assert!(!calls(active).contains("do not follow"), "{}", calls(active));
}
