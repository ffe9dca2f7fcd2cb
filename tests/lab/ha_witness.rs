//! A witness decides which half of a cut goes on: `tandem witness` and etcd, on a third host that both halves reach.

use std::time::Duration;

use crate::rig::load::Load;
use crate::rig::mcp::Mcp;
use crate::rig::node::FORGOTTEN;
use crate::rig::pair::{CALLER, FAR_CALLER, FAR_SERVER, Pair, Plan, SERVERS, sip};
use crate::rig::poll::until_true;
use crate::rig::process::Process;
use crate::rig::witness::{Third, WITNESS};
use crate::rig::world::World;

const GROUP: &str = "monitor-method = \"none\"\nfirst-response-timeout = \"400ms\"";
/// Ports of the media server of each half.
const LIMIT: u32 = 10;
const CALLS: u32 = 60;

/// Which node holds the lease, by what each says.
fn holder(pair: &Pair<'_>) -> Option<usize> {
    let held = |n: usize| pair.nodes[n].try_metrics().map(|m| m.sum("tandem_witness_held"));
    match [held(0)?, held(1)?] {
        [1.0, 0.0] => Some(0),
        [0.0, 1.0] => Some(1),
        _ => None,
    }
}

fn reachable(pair: &Pair<'_>, n: usize) -> Option<f64> {
    Some(pair.nodes[n].try_metrics()?.sum("tandem_witness_reachable"))
}

/// A load of more calls than ports on one side: how many were answered, and how many refused for want of one.
#[track_caller]
fn offered(world: &World, pair: &Pair<'_>, side: usize) -> (u64, u64) {
    let (host, address) = [(&pair.field.callers, CALLER), (&pair.field.far_callers, FAR_CALLER)][side];
    let score = Load::start(world, host, address, CALLS, 20, Duration::from_secs(2)).finish(FORGOTTEN);
    let refused = score.refused.get(&480).copied().unwrap_or(0);
    assert_eq!(score.successful() + refused, u64::from(CALLS), "{}", score.trouble);
    (score.successful(), refused)
}

/// Cuts the nodes from each other: the holder spends everything, the other one nothing, until the witness fails the holder.
#[track_caller]
fn one_goes_on(world: &World, witness: &str, start: impl FnOnce(&Third, &World) -> Process) {
    let Some(plan) = Plan::new(world, "1") else { return };
    let servers = [(&plan.field.servers, SERVERS[0]), (&plan.field.far_servers, FAR_SERVER)]
        .map(|(host, ip)| host.within(|| Mcp::answering(sip(ip))));
    let third = Third::new(&plan.field);
    let _decides = start(&third, world);
    let pair = plan
        .both(|mut setup| {
            setup.groups.clear();
            setup.cluster.push_str(&format!("partition = \"witness\"\nwitness = \"{witness}\"\ncold-reserve = 0\n"));
            setup.group("MCP", GROUP, &[sip(SERVERS[0]), sip(FAR_SERVER)], &LIMIT.to_string())
        })
        .start(world);
    let leads = pair.until_armed();
    pair.wait("the active node holds the lease", || (holder(&pair)? == leads).then_some(()));
    let line = format!("third the witness answers, member {} holds its lease", leads + 1);
    pair.wait("the other node knows who holds it", || {
        pair.nodes[1 - leads].order(&["status"]).1.contains(&line).then_some(())
    });

    pair.field.part(true);
    for n in 0..2 {
        pair.until_active(n);
    }
    let other = 1 - leads;
    pair.wait("the other side refuses", || pair.nodes[other].log().contains("no new calls are taken").then_some(()));
    pair.wait("the holder spends everything", || {
        let (_, said) = pair.nodes[leads].order(&["status", "--json"]);
        said.contains("\"budget\":\"whole\"").then_some(())
    });
    assert_eq!(holder(&pair), Some(leads));
    assert_eq!(offered(world, &pair, other), (0, u64::from(CALLS)), "it takes nothing new");
    let (answered, refused) = offered(world, &pair, leads);
    assert!(answered > u64::from(LIMIT) && refused > 0, "{answered} answered, {refused} refused");
    assert_eq!(servers.each_ref().map(Mcp::most_calls)[leads], LIMIT as usize, "all ports of the server in its reach");
    assert_eq!(servers[other].most_calls(), 0);

    // Nobody reaches the witness: nobody takes new calls.
    third.legs.iter().for_each(crate::rig::lan::Cable::cut);
    pair.wait("both miss the witness", || {
        (holder(&pair).is_none() && (0..2).all(|n| reachable(&pair, n) == Some(0.0))).then_some(())
    });
    assert_eq!(offered(world, &pair, leads), (0, u64::from(CALLS)));

    third.legs.iter().for_each(crate::rig::lan::Cable::heal);
    pair.field.part(false);
    let leads = pair.until_armed();
    pair.wait("the lease is with who leads", || (holder(&pair)? == leads).then_some(()));
    until_true("no port in use", FORGOTTEN, || {
        pair.nodes.iter().all(|node| node.metrics().sum("tandem_ports_in_use") == 0.0)
    });
    pair.until_equal();
}

#[test]
fn tandem_witness_lets_one_half_of_a_cut_go_on() {
    let world = World::beside("ha-witness");
    one_goes_on(&world, &format!("udp:{WITNESS}:9802"), Third::tandem);
}

#[test]
fn etcd_lets_one_half_of_a_cut_go_on() {
    let world = World::beside("ha-witness-etcd");
    one_goes_on(&world, &format!("etcd:http://{WITNESS}:2379"), Third::etcd);
}
