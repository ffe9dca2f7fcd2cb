//! Callers on IPv6, media servers on IPv4: the two virtual addresses move as one.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::rig::lan::Host;
use crate::rig::load::Answering;
use crate::rig::node::FORGOTTEN;
use crate::rig::pair::{PATIENCE, Pair, Plan, VIP};
use crate::rig::poll::until_true;
use crate::rig::sipp::Sipp;
use crate::rig::world::World;

const fn six(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last)
}

/// The address of the pair on IPv6.
const VIP_SIX: Ipv6Addr = six(0x100);

/// A pair with an address of either family.
fn plan(world: &World) -> Option<Plan> {
    let plan = Plan::new(world, "1000")?;
    for (host, last) in [(&plan.field.nodes[0], 1), (&plan.field.nodes[1], 2), (&plan.field.callers, 0x10)] {
        host.ip(&format!("-6 addr add {}/64 dev eth0 nodad", six(last)));
    }
    Some(plan.both(|mut setup| {
        let both = format!("virtual-ip = [\"{VIP}\", \"{VIP_SIX}\"]");
        setup.cluster = setup.cluster.replace(&format!("virtual-ip = \"{VIP}\""), &both);
        setup.listen.push("udp:[::]:5060".to_owned());
        setup.t1(500)
    }))
}

fn holds_six(host: &Host) -> bool {
    host.ip("-6 -o addr show dev eth0").contains(&format!("{VIP_SIX}/"))
}

/// Which nodes hold both addresses; panics where one of them is held alone.
fn holders(pair: &Pair<'_>) -> [bool; 2] {
    [0, 1].map(|n| {
        let host = &pair.field.nodes[n];
        let held = [host.holds(VIP), holds_six(host)];
        assert_eq!(held[0], held[1], "{}: both or none", host.name);
        held[0]
    })
}

#[test]
fn callers_on_ipv6_outlive_a_kill_and_a_hand_over() {
    let world = World::beside("ha-six");
    let Some(plan) = plan(&world) else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let mut pair = plan.start(&world);
    let active = pair.until_armed();
    assert!(holders(&pair)[active] && !holders(&pair)[1 - active]);
    let at = |ip| SocketAddr::new(IpAddr::V6(ip), 5060);
    let uac = Sipp::uac(&world, "uac-six", "uac-again", at(six(0x10)), at(VIP_SIX)).calls(300, 30).args(["-d", "4000"]);
    let load = pair.field.callers.within(|| uac.start(&world));
    let begun = || load.score().column("TotalCallCreated");
    until_true("100 calls", PATIENCE, || begun() >= 100);
    pair.crash(active);
    pair.until_active(1 - active);
    pair.revive(active);
    assert_eq!(pair.until_armed(), 1 - active);
    assert!(holders(&pair)[1 - active] && !holders(&pair)[active]);
    until_true("200 calls", PATIENCE, || begun() >= 200);
    pair.switch_over(1 - active);
    load.finish(FORGOTTEN).assert_all(300);
    assert!(holders(&pair)[active] && !holders(&pair)[1 - active]);
    pair.until_idle();
    servers.assert_all(300);
}
