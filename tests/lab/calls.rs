//! The main job: calls spread over three media servers, every port counted.

use std::time::Duration;

use crate::rig::node::{NODE, Setup};
use crate::rig::sipp::{Score, Sipp};
use crate::rig::world::World;

#[test]
fn twenty_thousand_calls_over_udp() {
    spread("udp", 20_000, 500, &[]);
}

#[test]
fn callers_on_tcp_and_media_servers_on_udp() {
    spread("tcp", 2_000, 200, &["-t", "t1"]);
}

/// Calls from one SIPp over three, all of which must succeed, evenly.
fn spread(name: &str, calls: u32, rate: u32, caller: &[&str]) {
    let world = World::new(name);
    let members = [11, 12, 13].map(|host| world.addr(host, 5060));
    let servers = members.map(|at| Sipp::uas(&world, &format!("uas{}", at.ip()), "uas", at).start(&world));
    let probed = "monitor-method = \"option\"\nmonitor-interval = \"1s\"\nmonitor-timeout = \"1s\"";
    let node = Setup::new(&world).t1(500).group("MCP", probed, &members, "10000").start(&world);

    let uac = Sipp::uac(&world, "uac", "uac", world.addr(100, 5060), world.addr(NODE, 5060));
    let uac = uac.calls(calls, rate).args(caller.iter().copied()).start(&world);
    let score = uac.finish(Duration::from_secs(u64::from(calls / rate) + 40));
    score.assert_all(u64::from(calls));

    let placed = members.map(|at| node.metrics().labelled("tandem_resource_placed_total", &format!("sip:{at}\"")));
    assert_eq!(placed.iter().sum::<f64>(), f64::from(calls), "as the node counts: {placed:?}");
    node.until("all ports free", |m| m.sum("tandem_ports_in_use") == 0.0);
    node.assert_empty();
    node.assert_quiet();

    let scores: Vec<Score> = servers.into_iter().map(|server| server.stop()).collect();
    let invites: Vec<u64> = scores.iter().map(|s| s.messages("INVITE_Recv")).collect();
    assert_eq!(invites.iter().sum::<u64>(), u64::from(calls), "as the media servers count: {invites:?}");
    assert!(invites.iter().max() <= invites.iter().min().map(|least| least + 1).as_ref(), "uneven: {invites:?}");
    for score in &scores {
        assert_eq!(score.failed(), 0, "{}", score.trouble);
        assert_eq!(score.messages("INVITE_Recv"), score.messages("ACK_Recv"));
        assert_eq!(score.messages("INVITE_Recv"), score.messages("BYE_Recv"));
    }
}
