//! The standby comes and goes; calls do not notice, and it is always armed again.

use std::time::Duration;

use crate::rig::load::{Answering, Load};
use crate::rig::pair::{CALLER, PATIENCE, Plan};
use crate::rig::world::World;

#[test]
fn the_standby_restarts_again_and_again_under_load() {
    let restarts: u32 = if std::env::var_os("TANDEM_LAB_FULL").is_some() { 20 } else { 5 };
    let world = World::new("ha-standby");
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
    load.assert_lossless(Duration::from_secs(90));
    assert_eq!(pair.nodes[active].epoch(), epoch, "nobody claimed anything");
    pair.until_idle();
    pair.until_equal();
    servers.assert_all(u64::from(calls));
}
