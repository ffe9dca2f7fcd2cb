//! The mode is switched while calls go on: none, active-standby, active-active and back, with every address known all the
//! time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::rig::crossed::SERVICES;
use crate::rig::load::{Answering, Load};
use crate::rig::node::Node;
use crate::rig::pair::{CALLER, FAR_CALLER, Pair, Plan, VIP, sip};
use crate::rig::poll::until_true;
use crate::rig::world::World;

/// Longer than any call.
const OVER: Duration = Duration::from_secs(60);
const MODES: [&str; 5] = ["none", "active-standby", "active-active", "active-standby", "none"];

fn full() -> bool {
    std::env::var_os("TANDEM_LAB_FULL").is_some()
}

/// A pair with a virtual IP and service IPs, in the mode `none`, where member 1 serves.
fn pair(plan: Plan, world: &World) -> Pair<'_> {
    let services = format!("service-ip.1 = \"{}\"\nservice-ip.2 = \"{}\"\n", SERVICES[0], SERVICES[1]);
    let plan = plan.both(|mut setup| {
        setup.cluster = setup.cluster.replace("active-standby", "none") + &services;
        setup
    });
    let pair = plan.launch(world);
    until_in(&pair, "none");
    pair
}

/// Waits until both nodes are in the mode and do what it says.
#[track_caller]
fn until_in(pair: &Pair<'_>, mode: &str) {
    let role = |n: usize| pair.nodes[n].role();
    let armed = mode != "none";
    let both = mode == "active-active";
    pair.wait(&format!("a pair in {mode}"), || {
        let said = |node: &Node| node.order(&["status"]).1;
        let agreed = |node: &Node| said(node).contains(&format!("ha-mode {mode},")) && node.armed() == armed;
        let serving = (0..2).filter(|n| role(*n).as_deref() == Some("active")).count();
        (pair.nodes.iter().all(agreed) && serving == if both { 2 } else { 1 }).then_some(())
    });
}

/// Calls to these addresses, one from each caller; `port` of the callers.
fn load(world: &World, pair: &Pair<'_>, nodes: [Ipv4Addr; 2], port: u16, (calls, rate): (u32, u32)) -> [Load; 2] {
    let hold = Duration::from_millis(1_500);
    let callers = [(&pair.field.callers, CALLER), (&pair.field.far_callers, FAR_CALLER)];
    [0, 1].map(|n| {
        let (host, ip) = callers[n];
        Load::between(world, host, (SocketAddr::new(ip.into(), port), sip(nodes[n])), calls, rate, hold)
    })
}

/// Where callers of this mode call.
fn addresses(mode: &str) -> [Ipv4Addr; 2] {
    if mode == "active-active" { SERVICES } else { [VIP; 2] }
}

#[test]
fn every_switch_of_the_mode_under_load_loses_no_call() {
    let world = World::beside("ha-mode");
    let Some(plan) = Plan::new(&world, "4000") else { return };
    let _servers = Answering::left(&world, &plan.field.servers);
    let pair = pair(plan, &world);
    // Half from each caller: 500 calls a second, 30 seconds in each mode, 5 more in the next one.
    let (rate, seconds) = if full() { (250, 30) } else { (100, 4) };
    let after = if full() { 5 } else { 2 };
    let mut before: Option<[Load; 2]> = None;
    for (n, mode) in MODES.iter().enumerate() {
        let (node, asks) = (&pair.nodes[n % 2], ["ha-mode", "set", *mode]);
        let (code, said) = node.order(&asks);
        assert_eq!(code, Some(0), "{said}");
        until_in(&pair, mode);
        let calls = rate * (seconds + after);
        let now = load(&world, &pair, addresses(mode), 5070 + n as u16, (calls, rate));
        for load in before.replace(now).into_iter().flatten() {
            load.assert_lossless(OVER);
        }
        let loads = before.as_ref().expect("calls");
        let begun = || loads.iter().all(|load| load.begun() >= u64::from(rate * seconds));
        until_true("calls in this mode", OVER, begun);
    }
    before.into_iter().flatten().for_each(|load| load.assert_lossless(OVER));
    // What ended while nobody told the other node is gone there once somebody does.
    assert_eq!(pair.nodes[1].order(&["ha-mode", "set", "active-standby"]).0, Some(0));
    until_in(&pair, "active-standby");
    pair.until_idle();
}
