//! The standby comes and goes; calls do not notice, and it is always armed again. While it is there it is quiet.

use std::time::Duration;

use crate::rig::load::{Answering, Load};
use crate::rig::node::Node;
use crate::rig::pair::{CALLER, PATIENCE, Plan, VIP};
use crate::rig::world::World;

#[test]
fn the_standby_restarts_again_and_again_under_load() {
    let restarts: u32 = if std::env::var_os("TANDEM_LAB_FULL").is_some() { 20 } else { 5 };
    let world = World::beside("ha-standby");
    let Some(plan) = Plan::new(&world, "5000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let mut pair = plan.both(|setup| setup.t1(500)).start(&world);
    let active = pair.until_armed();
    let epoch = pair.nodes[active].epoch();
    let calls = 300 * 6 * restarts;
    let mut load = Load::start(&world, &pair.field.callers, CALLER, calls, 300, Duration::from_secs(2));
    for n in 0..restarts {
        if n % 2 == 0 {
            pair.crash(1 - active);
        } else {
            pair.nodes[1 - active].process.signal("TERM");
            pair.nodes[1 - active].process.wait(PATIENCE);
        }
        pair.wait("the loss of the standby noticed", || (!pair.nodes[active].armed()).then_some(()));
        pair.revive(1 - active);
        assert_eq!(pair.until_armed(), active, "the active node stays active");
        assert!(pair.until_equal() > 0.0, "equal while calls live");
    }
    assert!(load.goes_on(), "all restarts came under load");
    load.assert_lossless(Duration::from_secs(60 + u64::from(6 * restarts)));
    assert_eq!(pair.nodes[active].epoch(), epoch, "nobody claimed anything");
    pair.until_idle();
    pair.until_equal();
    servers.assert_all(u64::from(calls));
}

#[test]
fn a_standby_writes_no_line_and_sends_no_sip() {
    let world = World::beside("ha-quiet");
    let Some(plan) = Plan::new(&world, "5000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let pair = plan.both(|setup| setup.t1(500)).start(&world);
    let active = pair.until_armed();
    let armed = |node: &Node| node.log().contains("the pair is armed");
    pair.wait("both have said so", || pair.nodes.iter().all(armed).then_some(()));
    let sent = [0, 1].map(|n| pair.field.nodes[n].counts_sip(VIP));
    let before = pair.nodes[1 - active].log();
    let calls = 200;
    let load = Load::start(&world, &pair.field.callers, CALLER, calls, 100, Duration::from_secs(1));
    load.assert_lossless(Duration::from_secs(60));
    pair.until_idle();
    pair.until_equal();
    servers.assert_all(u64::from(calls));
    assert_eq!(pair.nodes[1 - active].log(), before, "a standby has nothing to say");
    assert_eq!(sent[1 - active].packets(), 0, "no SIP left it, and nothing from the address");
    // INVITE, ACK and BYE go down, 100, 180 and two times 200 go up.
    let seen = sent[active].packets();
    assert!(seen >= 7 * u64::from(calls), "{seen} packets of the active node: the counter counts");
}
