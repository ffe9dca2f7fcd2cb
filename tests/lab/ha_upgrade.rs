//! A rolling upgrade: one node after the other, there and back again, while calls go on.

use std::time::Duration;

use crate::rig::load::{Answering, Load};
use crate::rig::node::{binary, later_binary};
use crate::rig::pair::{CALLER, PATIENCE, Plan};
use crate::rig::poll::until_true;
use crate::rig::world::World;

#[test]
fn neighbouring_versions_take_each_others_place_under_load() {
    const CALLS: u32 = 1_000;
    let world = World::beside("ha-upgrade");
    let Some(plan) = Plan::new(&world, "1000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let mut pair = plan.both(|setup| setup.t1(500)).start(&world);
    let mut load = Load::start(&world, &pair.field.callers, CALLER, CALLS, 25, Duration::from_secs(10));
    until_true("50 calls", PATIENCE, || load.begun() >= 50);
    // Each way, either version stands by for the other one, takes over from it, and sends it all that it holds.
    for program in [later_binary(), binary()] {
        for _ in 0..2 {
            let active = pair.until_armed();
            let other = &mut pair.nodes[1 - active];
            other.process.signal("TERM");
            other.process.wait(PATIENCE);
            other.launch_as(&program, &world);
            assert_eq!(pair.until_armed(), active, "who joins takes no role");
            pair.switch_over(active);
        }
    }
    pair.until_armed();
    assert!(load.goes_on(), "all of it came under load");
    load.assert_lossless(Duration::from_secs(60));
    pair.until_idle();
    pair.until_equal();
    let sum = |name: &str| pair.nodes.iter().map(|node| node.metrics().sum(name)).sum::<f64>();
    assert_eq!(sum("tandem_peer_frames_broken_total"), 0.0, "neighbours understand each other");
    assert!(sum("tandem_peer_frames_skipped_total") > 0.0, "the later version said what this one does not know");
    servers.assert_all(u64::from(CALLS));
}

#[test]
fn neighbouring_versions_outlive_each_others_death() {
    const CALLS: u32 = 350;
    let world = World::beside("ha-mixed-kill");
    let Some(mut plan) = Plan::new(&world, "1000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    plan.setups[1].program = Some(later_binary());
    let mut pair = plan.both(|setup| setup.t1(500)).start(&world);
    let mut load = Load::start(&world, &pair.field.callers, CALLER, CALLS, 25, Duration::from_secs(5));
    // One version dies and the other one carries its calls on, both ways.
    for (n, due) in (1..=2).map(|n| (n, 100 * n)) {
        until_true(&format!("{due} calls"), PATIENCE, || load.begun() >= due);
        let active = pair.until_armed();
        assert!(pair.until_equal() > 0.0, "equal while calls live");
        pair.crash(active);
        pair.until_active(1 - active);
        pair.revive(active);
        assert_eq!(pair.until_armed(), 1 - active, "death {n}");
    }
    assert!(load.goes_on(), "all of it came under load");
    load.assert_lossless(Duration::from_secs(60));
    pair.until_idle();
    pair.until_equal();
    servers.assert_all(u64::from(CALLS));
}
