//! The network falls into two halves with a node, callers and media servers in each, and heals.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::rig::load::{Answering, Load};
use crate::rig::node::FORGOTTEN;
use crate::rig::pair::{CALLER, FAR_CALLER, FAR_SERVER, Pair, Plan, SERVERS, VIP, sip};
use crate::rig::poll::until_true;
use crate::rig::sipp::Sipp;
use crate::rig::world::World;

/// Who waits for this long is told of a server that is out of reach.
const GROUP: &str = "monitor-method = \"none\"\nfirst-response-timeout = \"400ms\"";

/// A pair with media servers on both sides.
fn plan(world: &World, capacity: &str, partition: &str) -> Option<Plan> {
    let servers = [SERVERS[0], SERVERS[1], FAR_SERVER].map(sip);
    Some(Plan::new(world, capacity)?.both(|mut setup| {
        setup.groups.clear();
        setup.cluster.push_str(&format!("partition = \"{partition}\"\n"));
        setup.group("MCP", GROUP, &servers, capacity)
    }))
}

fn answering(world: &World, plan: &Plan) -> [Answering; 2] {
    [Answering::left(world, &plan.field.servers), Answering::start(world, &plan.field.far_servers, &[FAR_SERVER])]
}

/// Waits until callers on both sides send to the node that is active.
fn one_place(pair: &Pair<'_>) {
    let active = pair.until_armed();
    let mac = pair.field.nodes[active].mac("eth0");
    for host in [&pair.field.callers, &pair.field.far_callers] {
        pair.wait(&format!("{} finds the address at {mac}", host.name), || {
            host.neighbour(VIP).is_none_or(|known| known == mac).then_some(())
        });
    }
}

#[test]
fn two_halves_serve_and_become_one_again() {
    let seconds: u64 = if std::env::var_os("TANDEM_LAB_FULL").is_some() { 60 } else { 10 };
    let world = World::new("ha-partition");
    let Some(plan) = plan(&world, "1000", "available") else { return };
    let servers = answering(&world, &plan);
    let pair = plan.start(&world);
    let before = pair.until_armed();
    // Calls that begin before, in and after the partition, and end after it.
    let calls = u32::try_from(seconds + 10).expect("a short time") * 5;
    let hold = Duration::from_secs(seconds + 12);
    let near = Load::start(&world, &pair.field.callers, CALLER, calls, 5, hold);
    let far = Load::start(&world, &pair.field.far_callers, FAR_CALLER, calls, 5, hold);
    until_true("calls on both sides", Duration::from_secs(20), || near.begun() >= 20 && far.begun() >= 20);

    pair.field.part(true);
    let parted = Instant::now();
    pair.wait("both sides active", || {
        let active = |n: usize| pair.nodes[n].role().as_deref() == Some("active") && pair.field.nodes[n].holds(VIP);
        (active(0) && active(1)).then_some(())
    });
    until_true("the time of the partition", Duration::from_secs(seconds + 30), || {
        parted.elapsed() >= Duration::from_secs(seconds)
    });
    let epochs = [0, 1].map(|n| pair.nodes[n].epoch());
    assert!(epochs[1 - before] > epochs[before], "who claimed has the later term: {epochs:?}");
    pair.field.part(false);

    let active = pair.until_armed();
    assert_eq!(active, 1 - before, "the lower term yields");
    one_place(&pair);
    pair.until_equal();
    // Every call of either side is there, and none is twice.
    until_true("all calls begun", Duration::from_secs(30), || {
        near.begun() >= u64::from(calls) && far.begun() >= u64::from(calls)
    });
    for load in [near, far] {
        load.assert_lossless(FORGOTTEN + hold);
    }
    until_true("no port in use", FORGOTTEN, || {
        pair.nodes.iter().all(|node| node.metrics().sum("tandem_ports_in_use") == 0.0)
    });
    pair.until_equal();
    for score in servers.into_iter().flat_map(Answering::stop) {
        assert_eq!(score.messages("ACK_Recv"), score.messages("BYE_Recv"), "every answered call ended: {score:?}");
    }
}

#[test]
fn the_exact_policy_never_passes_the_limit_in_two_halves() {
    const LIMIT: u64 = 40;
    let world = World::new("ha-exact-halves");
    // One media server that both halves reach: it stands on the left, and the right half's node still has its path.
    let Some(plan) = plan(&world, &LIMIT.to_string(), "exact") else { return };
    let servers = answering(&world, &plan);
    let pair = plan.start(&world);
    pair.until_armed();
    pair.field.part(true);
    pair.wait("both sides active", || {
        let active = |n: usize| pair.nodes[n].role().as_deref() == Some("active") && pair.field.nodes[n].holds(VIP);
        (active(0) && active(1)).then_some(())
    });
    let hold = Duration::from_secs(6);
    let near = Load::start(&world, &pair.field.callers, CALLER, 200, 50, hold);
    let far = Load::start(&world, &pair.field.far_callers, FAR_CALLER, 200, 50, hold);
    let scores = [near, far].map(|load| load.finish(FORGOTTEN));
    println!("taken: {:?}", scores.iter().map(|score| score.successful()).collect::<Vec<_>>());
    assert!(scores.iter().any(|score| score.successful() > 0), "somebody serves");
    let used = |n: usize| {
        let metrics = pair.nodes[n].metrics();
        [SERVERS[0], SERVERS[1], FAR_SERVER].map(|ip| metrics.ports(sip(ip)))
    };
    let (left, right) = (used(0), used(1));
    for (l, r) in left.iter().zip(right) {
        assert!(l + r <= LIMIT as f64, "{left:?} and {right:?} of {LIMIT}");
    }
    pair.field.part(false);
    one_place(&pair);
    until_true("no port in use", FORGOTTEN, || {
        pair.nodes.iter().all(|node| node.metrics().sum("tandem_ports_in_use") == 0.0)
    });
    drop(servers);
}

#[test]
fn the_lower_id_alone_takes_new_calls_in_a_cut() {
    let world = World::new("ha-lower-id");
    let Some(plan) = plan(&world, "1000", "prefer-lower-id") else { return };
    let servers = answering(&world, &plan);
    let pair = plan.start(&world);
    pair.until_armed();
    let hold = Duration::from_secs(15);
    let kept = Load::start(&world, &pair.field.far_callers, FAR_CALLER, 20, 20, hold);
    until_true("calls before the cut", Duration::from_secs(20), || kept.begun() >= 20);
    pair.field.part(true);
    let parted = Instant::now();
    pair.wait("both sides active", || {
        let active = |n: usize| pair.nodes[n].role().as_deref() == Some("active") && pair.field.nodes[n].holds(VIP);
        (active(0) && active(1)).then_some(())
    });
    // Until the lease has passed each side keeps to its share; README, "How a death is told from a cut".
    until_true("the lease", Duration::from_secs(10), || parted.elapsed() >= Duration::from_secs(4));
    let near = Load::start(&world, &pair.field.callers, CALLER, 60, 30, Duration::from_secs(1));
    let other = SocketAddr::new(IpAddr::V4(FAR_CALLER), 5070);
    let far = Sipp::uac(&world, "uac-refused", "uac-again", other, sip(VIP)).calls(20, 20);
    let far = pair.field.far_callers.within(|| far.start(&world)).finish(FORGOTTEN);
    assert_eq!((far.successful(), far.failed()), (0, 20), "the higher id takes none");
    near.assert_lossless(FORGOTTEN);
    pair.field.part(false);
    one_place(&pair);
    kept.assert_lossless(FORGOTTEN);
    until_true("no port in use", FORGOTTEN, || {
        pair.nodes.iter().all(|node| node.metrics().sum("tandem_ports_in_use") == 0.0)
    });
    drop(servers);
}

#[test]
fn a_network_that_comes_and_goes_makes_no_role_come_and_go() {
    const FLAPS: u32 = 15;
    let world = World::new("ha-flaps");
    let Some(plan) = plan(&world, "1000", "available") else { return };
    let pair = plan.start(&world);
    let before = pair.nodes[pair.until_armed()].epoch();
    for flap in 0..2 * FLAPS {
        let since = Instant::now();
        pair.field.part(flap % 2 == 0);
        until_true("a second", Duration::from_secs(10), || since.elapsed() >= Duration::from_secs(1));
    }
    let after = pair.nodes[pair.until_armed()].epoch();
    assert!(after - before <= 3.0, "{} claims in {} s", after - before, 2 * FLAPS);
}
