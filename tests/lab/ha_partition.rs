//! The network falls into two halves with a node, callers and media servers in each, and heals.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tandem::agent::script::{Outcome, Plan as Script};

use crate::rig::actor;
use crate::rig::lan::{Cable, Net};
use crate::rig::load::{Answering, Load};
use crate::rig::mcp::Mcp;
use crate::rig::node::{FORGOTTEN, Metrics};
use crate::rig::pair::{CALLER, FAR_CALLER, FAR_SERVER, PATIENCE, Pair, Plan, SERVERS, VIP, sip};
use crate::rig::poll::until_true;
use crate::rig::sipp::Score;
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// Who waits for this long is told of a server that is out of reach.
const GROUP: &str = "monitor-method = \"none\"\nfirst-response-timeout = \"400ms\"";

/// Every server is in reach all the time.
const IN_REACH: &str = "monitor-method = \"none\"";

/// A media server that both halves reach while they are apart.
const SHARED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 24);

/// The one at [`SHARED`]: a leg in each half with one address, as one machine to either. The right leg is plugged in
/// only while the halves are apart, or the address would be there twice.
struct Shared {
    server: Mcp,
    left: Cable,
    right: Cable,
}

impl Shared {
    fn new(plan: &Plan) -> Shared {
        let (server, [left, right]) = Self::legs(plan, |sockets| Mcp::in_networks(sip(SHARED), sockets));
        Shared { server, left, right }
    }

    /// One that refuses what is more than `ports` calls, and how many it refused.
    fn full_at(plan: &Plan, ports: u32) -> (Shared, Arc<AtomicU64>) {
        let room = |sockets| Mcp::with_room_for(ports as usize, sip(SHARED), sockets);
        let ((server, refused), [left, right]) = Self::legs(plan, room);
        (Shared { server, left, right }, refused)
    }

    fn legs<T>(plan: &Plan, serve: impl FnOnce([Udp; 2]) -> T) -> (T, [Cable; 2]) {
        let lan = &plan.field.lan;
        let legs = ["leg-left", "leg-right"].map(|name| lan.host(name));
        let cables = [(0, Net::Left), (1, Net::Right)].map(|(n, net)| lan.plug(&legs[n], "eth0", net, &[SHARED]));
        cables[1].cut();
        legs[1].ip(&format!("link set dev eth0 address {}", legs[0].mac("eth0")));
        let sockets = [0, 1].map(|n| legs[n].within(|| Udp::bind(sip(SHARED))));
        (serve(sockets), cables)
    }

    fn part(&self, pair: &Pair<'_>) {
        pair.field.part(true);
        self.right.heal();
    }

    fn heal(&self, pair: &Pair<'_>) {
        self.right.cut();
        pair.field.part(false);
    }
}

/// A pair with media servers on both sides.
fn plan(world: &World, capacity: &str, partition: &str) -> Option<Plan> {
    plan_of(world, GROUP, &[SERVERS[0], SERVERS[1], FAR_SERVER], capacity, partition)
}

fn plan_of(world: &World, group: &str, servers: &[Ipv4Addr], capacity: &str, partition: &str) -> Option<Plan> {
    let servers: Vec<_> = servers.iter().copied().map(sip).collect();
    Some(Plan::new(world, capacity)?.both(|mut setup| {
        setup.groups.clear();
        setup.cluster.push_str(&format!("partition = \"{partition}\"\ncold-reserve = 0\n"));
        setup.group("MCP", group, &servers, capacity)
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

/// Waits until both nodes serve.
fn until_two(pair: &Pair<'_>) {
    pair.wait("both sides active", || {
        let active = |n: usize| pair.nodes[n].role().as_deref() == Some("active") && pair.field.nodes[n].holds(VIP);
        (active(0) && active(1)).then_some(())
    });
}

/// How long a cut under load lasts.
fn cut() -> u32 {
    if std::env::var_os("TANDEM_LAB_FULL").is_some() { 60 } else { 10 }
}

/// Calls of one side: how many were answered and how many refused. Every call that was answered went through to its end,
/// and every other one was told by 480 that it is not served.
#[track_caller]
fn counted(side: &str, calls: u32, score: &Score) -> (u64, u64) {
    let (begun, answered) = (score.column("TotalCallCreated"), score.messages("ACK_Sent"));
    let (whole, refused) = (score.successful(), score.refused.get(&480).copied().unwrap_or(0));
    println!("{side}: {begun} begun, {answered} answered, refused {:?}, {} lost", score.refused, answered - whole);
    assert_eq!(begun, u64::from(calls), "{side}");
    assert_eq!((answered - whole, score.failed()), (0, refused), "{side}: lost, failed; {}", score.trouble);
    assert_eq!(answered + refused, begun, "{side}");
    (answered, refused)
}

/// Waits until no call holds a port.
fn until_free(pair: &Pair<'_>) {
    until_true("no port in use", FORGOTTEN, || {
        pair.nodes.iter().all(|node| node.metrics().sum("tandem_ports_in_use") == 0.0)
    });
}

#[test]
fn two_halves_serve_and_become_one_again() {
    let seconds = u64::from(cut());
    let world = World::beside("ha-partition");
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
    until_two(&pair);
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
    until_free(&pair);
    pair.until_equal();
    for score in servers.into_iter().flat_map(Answering::stop) {
        assert_eq!(score.messages("ACK_Recv"), score.messages("BYE_Recv"), "every answered call ended: {score:?}");
    }
}

/// Ports of the shared media server that each node counts.
fn used(pair: &Pair<'_>) -> [f64; 2] {
    [0, 1].map(|n| pair.nodes[n].metrics().ports(sip(SHARED)))
}

/// `cluster.floor`: of 20 ports 18 are of the node that was active when the pair was last armed.
const LIMIT: u32 = 20;

fn floors(active: usize) -> [f64; 2] {
    if active == 0 { [18.0, 2.0] } else { [2.0, 18.0] }
}

#[test]
fn the_exact_policy_never_passes_the_limit_in_two_halves() {
    const CALLS: u32 = 200;
    let world = World::beside("ha-exact-halves");
    let Some(plan) = plan_of(&world, GROUP, &[SHARED], &LIMIT.to_string(), "exact") else { return };
    let shared = Shared::new(&plan);
    let pair = plan.start(&world);
    let floors = floors(pair.until_armed());
    shared.part(&pair);
    until_two(&pair);
    // Either side alone asks for more than the limit.
    let load = |host, address| Load::start(&world, host, address, CALLS, 20, Duration::from_secs(2));
    let mut loads = [load(&pair.field.callers, CALLER), load(&pair.field.far_callers, FAR_CALLER)];
    let mut peaks = [0.0; 2];
    until_true("the end of both loads", FORGOTTEN, || {
        let used = used(&pair);
        assert!(used[0] <= floors[0] && used[1] <= floors[1], "{used:?}, allowed {floors:?}");
        assert!(used[0] + used[1] <= f64::from(LIMIT), "{used:?} of {LIMIT}");
        peaks = [0, 1].map(|n| used[n].max(peaks[n]));
        !loads.iter_mut().any(Load::goes_on)
    });
    assert_eq!(peaks, floors, "each side spends what is its own");
    assert_eq!(shared.server.most_calls(), LIMIT as usize, "the most at once as the media server counts");
    for (load, floor) in loads.into_iter().zip(floors) {
        let score = load.finish(FORGOTTEN);
        assert_eq!(score.successful() + score.failed(), u64::from(CALLS));
        assert!(
            score.successful() as f64 > floor && score.failed() > 0,
            "ports are given back and taken again: {score:?}"
        );
        assert_eq!(score.messages("ACK_Sent"), score.successful(), "answered calls end well: {}", score.trouble);
    }
    shared.heal(&pair);
    one_place(&pair);
    until_free(&pair);
    pair.until_equal();
}

#[test]
fn every_caller_is_served_by_two_halves_that_share_a_full_media_server() {
    const RATE: u32 = 5;
    const SECONDS: u32 = 60;
    let world = World::beside("ha-available-halves");
    let Some(plan) = plan_of(&world, GROUP, &[SHARED], &LIMIT.to_string(), "available") else { return };
    // Each half has one of its own for what the shared one refuses.
    let plan = plan.both(|setup| {
        let near = setup.resource(&format!("sip:{}", sip(SERVERS[0])), "port-capacity = 1000");
        near.resource(&format!("sip:{}", sip(FAR_SERVER)), "port-capacity = 1000")
    });
    // As behind a router, which tells nobody that a host does not answer: what the kernel had queued for one fails for a
    // second after the halves have met, and whoever sent it is told so (RFC 3261 §16.9).
    for (node, (server, ip)) in [(1, (&plan.field.servers, SERVERS[0])), (0, (&plan.field.far_servers, FAR_SERVER))] {
        let entry = format!("{ip} lladdr {} dev eth0 nud permanent", server.mac("eth0"));
        plan.field.nodes[node].ip(&format!("neigh replace {entry}"));
    }
    let (shared, refused) = Shared::full_at(&plan, LIMIT);
    let own = [(&plan.field.servers, SERVERS[0]), (&plan.field.far_servers, FAR_SERVER)]
        .map(|(host, ip)| Answering::start(&world, host, &[ip]));
    let pair = plan.start(&world);
    let before = pair.until_armed();
    shared.part(&pair);
    until_two(&pair);
    let calls = (SECONDS + 15) * RATE;
    let load = |host, address| Load::start(&world, host, address, calls, RATE, Duration::from_secs(20));
    let mut loads = [load(&pair.field.callers, CALLER), load(&pair.field.far_callers, FAR_CALLER)];
    let mut peaks = [0.0; 2];
    until_true("a minute of calls on both sides", Duration::from_secs(150), || {
        let used = used(&pair);
        peaks = [0, 1].map(|n| used[n].max(peaks[n]));
        loads.iter().all(|load| load.begun() >= u64::from(SECONDS * RATE))
    });
    let refused = refused.load(Ordering::Relaxed);
    println!("most ports {peaks:?} of {LIMIT}, {refused} refused");
    let share = floors(before)[1 - before];
    assert!(peaks[1 - before] > share, "{peaks:?}: who claimed may spend more than its share of {share}");
    assert!(refused > 0, "it was full, and was asked all the same");
    let repaired = |pair: &Pair<'_>| pair.nodes.iter().map(|n| n.metrics().sum("tandem_buckets_sent_total")).sum();
    let sent: f64 = repaired(&pair);
    // While both nodes are active a server may answer to the one that did not ask, and who did asks the next server. A user
    // agent ends one of two answers (RFC 3261 §13.2.2.4), SIPp gives the call up: nothing is heard of this server meanwhile.
    shared.left.cut();
    shared.heal(&pair);
    one_place(&pair);
    shared.left.heal();
    assert!(loads.iter_mut().all(Load::goes_on), "healed under load");
    assert!(pair.until_equal() > 0.0, "equal while calls live");
    assert!(repaired(&pair) > sent, "the halves had different calls, and told each other");
    // Every caller is served.
    for load in loads {
        load.assert_lossless(FORGOTTEN);
    }
    until_free(&pair);
    pair.until_equal();
    assert_eq!(shared.server.calls(), 0, "no leaked leg at the shared media server");
    for score in own.into_iter().flat_map(Answering::stop) {
        assert_eq!(score.messages("ACK_Recv"), score.messages("BYE_Recv"), "every answered call ended: {score:?}");
    }
}

#[test]
fn the_lower_id_alone_takes_new_calls_in_a_cut() {
    const CALLS: u32 = 200;
    let (lower, higher) = (0, 1);
    let world = World::beside("ha-lower-id");
    let Some(plan) = plan_of(&world, GROUP, &[SHARED], &LIMIT.to_string(), "prefer-lower-id") else { return };
    let shared = Shared::new(&plan);
    let pair = plan.start(&world);
    let floors = floors(pair.until_armed());
    let at = SocketAddr::new(FAR_CALLER.into(), 5070);
    let keeper = actor::caller(&pair.field.far_callers, "keeper", at, sip(VIP));
    keeper.call(Script { hold: Duration::from_secs(20), ..Script::default() });
    pair.wait("a call of before the cut", || (pair.until_equal() == 1.0).then_some(()));
    shared.part(&pair);
    until_two(&pair);

    let load = |host, address| Load::start(&world, host, address, CALLS, 20, Duration::from_secs(2));
    let mut far = load(&pair.field.far_callers, FAR_CALLER);
    // Until the lease has passed each side keeps to its share; README, "How a death is told from a cut".
    pair.wait("the end of the lease", || {
        assert!(used(&pair)[higher] <= floors[higher], "{:?} of {floors:?}", used(&pair));
        let (code, said) = pair.nodes[higher].order(&["status"]);
        (code == Some(0) && said.contains("no new calls are taken")).then_some(())
    });
    let none_rings = |m: &Metrics| m.sum("tandem_ringing") == 0.0;
    let answered = |m: &Metrics| m.sum("tandem_calls_answered_total");
    let taken = answered(&pair.nodes[higher].until("no call in set-up", none_rings));
    let mut near = load(&pair.field.callers, CALLER);
    let mut peak = 0.0_f64;
    until_true("the end of both loads", FORGOTTEN, || {
        assert_eq!(answered(&pair.nodes[higher].metrics()), taken, "the higher id takes no more");
        let used = used(&pair)[lower];
        assert!(used <= f64::from(LIMIT), "{used} of {LIMIT}");
        peak = peak.max(used);
        ![&mut near, &mut far].into_iter().any(Load::goes_on)
    });
    assert_eq!(peak, f64::from(LIMIT), "the lower id spends all");
    let [near, far] = [near, far].map(|load| load.finish(FORGOTTEN));
    assert!(near.successful() > u64::from(LIMIT) && near.failed() > 0, "{near:?}");
    for score in [near, far] {
        assert_eq!(score.messages("ACK_Sent"), score.successful(), "answered calls end well: {}", score.trouble);
    }
    shared.heal(&pair);
    one_place(&pair);
    let reports = keeper.finish("the end of the call of before the cut", FORGOTTEN);
    assert_eq!(reports.iter().map(|r| r.outcome).collect::<Vec<_>>(), [Outcome::Completed], "{reports:?}");
    until_free(&pair);
    pair.until_equal();
}

/// What became of the calls around a cut.
struct Course {
    /// The node that was active before it.
    before: usize,
    /// Of either side: calls answered, and calls refused.
    counts: [(u64, u64); 2],
    /// The most at once as the media server counts.
    most: u64,
}

/// Calls that begin before, in and after a cut, on both sides; many of those of before it end in it, unseen by one node.
/// `in_cut` is asked what holds in it, and is told which node was active before.
fn cut_under_load(name: &str, limit: u32, policy: &str, in_cut: impl Fn(&Pair<'_>, usize)) -> Option<Course> {
    const RATE: u32 = 10;
    let world = World::beside(name);
    let plan = plan_of(&world, IN_REACH, &[SHARED], &limit.to_string(), policy)?;
    let shared = Shared::new(&plan);
    let pair = plan.start(&world);
    let before = pair.until_armed();
    let calls = (cut() + 20) * RATE;
    let load = |host, address| Load::start(&world, host, address, calls, RATE, Duration::from_secs(3));
    let mut loads = [load(&pair.field.callers, CALLER), load(&pair.field.far_callers, FAR_CALLER)];
    until_true("calls on both sides", PATIENCE, || loads.iter().all(|load| load.begun() >= u64::from(5 * RATE)));
    shared.part(&pair);
    let parted = Instant::now();
    until_two(&pair);
    until_true("the time of the cut", Duration::from_secs(u64::from(cut()) + 30), || {
        in_cut(&pair, before);
        parted.elapsed() >= Duration::from_secs(cut().into())
    });
    println!(
        "{policy}: after {:?} ports {:?}, {} calls in truth",
        parted.elapsed(),
        used(&pair),
        shared.server.calls()
    );
    shared.heal(&pair);
    assert!(loads.iter_mut().all(Load::goes_on), "healed under load");
    one_place(&pair);
    println!("healed: {} calls on both nodes", pair.until_equal());
    let [near, far] = loads.map(|load| load.finish(FORGOTTEN));
    let counts = [counted("near", calls, &near), counted("far", calls, &far)];
    pair.until_idle();
    pair.until_equal();
    assert_eq!(pair.until_armed(), 1 - before, "the lower term has yielded, for good");
    assert_eq!(shared.server.calls(), 0, "a leg leaked");
    let most = shared.server.most_calls() as u64;
    println!("at most {most} calls at once, the limit is {limit}");
    Some(Course { before, counts, most })
}

#[test]
fn a_cut_under_load_refuses_no_caller_where_both_sides_are_available() {
    let Some(course) = cut_under_load("ha-cut-available", 1_000, "available", |_, _| {}) else { return };
    assert!(course.counts.iter().all(|(_, refused)| *refused == 0), "{:?}", course.counts);
}

#[test]
fn a_cut_under_load_passes_no_limit_under_exact() {
    let held = |pair: &Pair<'_>, before: usize| {
        let used = used(pair);
        assert!(used[before] <= floors(before)[before], "{used:?}, node {} was active", before + 1);
    };
    let Some(course) = cut_under_load("ha-cut-exact", LIMIT, "exact", held) else { return };
    assert!(course.counts.iter().all(|(answered, refused)| *answered > 0 && *refused > 0), "{:?}", course.counts);
    assert!(course.most <= LIMIT.into(), "{} of {LIMIT}", course.most);
}

#[test]
fn a_cut_under_load_leaves_the_limit_to_the_lower_id() {
    let Some(course) = cut_under_load("ha-cut-lower-id", LIMIT, "prefer-lower-id", |_, _| {}) else { return };
    assert!(course.counts.iter().all(|(answered, refused)| *answered > 0 && *refused > 0), "{:?}", course.counts);
    // README, "How a death is told from a cut": what the higher id had taken within its share may come on top.
    let most = f64::from(LIMIT) + floors(course.before)[1];
    assert!(course.most as f64 <= most, "{} of {most}", course.most);
}

#[test]
fn a_network_that_comes_and_goes_makes_no_role_come_and_go() {
    let flaps: u32 = if std::env::var_os("TANDEM_LAB_FULL").is_some() { 60 } else { 30 };
    let world = World::beside("ha-flaps");
    let Some(plan) = plan(&world, "1000", "available") else { return };
    let pair = plan.start(&world);
    let before = pair.nodes[pair.until_armed()].epoch();
    for flap in 0..2 * flaps {
        let since = Instant::now();
        pair.field.part(flap % 2 == 0);
        until_true("a second", Duration::from_secs(10), || since.elapsed() >= Duration::from_secs(1));
    }
    let after = pair.nodes[pair.until_armed()].epoch();
    println!("{} claims in {} s", after - before, 2 * flaps);
    // Three a minute.
    assert!(after - before <= f64::from(flaps / 10), "{} claims in {} s", after - before, 2 * flaps);
}
