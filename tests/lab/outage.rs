//! A media server dies in mid-run and comes back.

use std::time::Duration;

use crate::rig::node::{NODE, Setup};
use crate::rig::poll::{SOON, until_true};
use crate::rig::sipp::Sipp;
use crate::rig::world::World;

#[test]
fn a_media_server_that_dies_costs_no_call_that_it_has_not_answered() {
    let world = World::beside("outage");
    let members = [11, 12, 13].map(|host| world.addr(host, 5060));
    let start = |name: &str, n: usize| Sipp::uas(&world, name, "uas", members[n]).start(&world);
    let mut doomed = start("doomed", 0);
    let others = [start("second", 1), start("third", 2)];
    let probed = "monitor-method = \"option\"\nmonitor-interval = \"500ms\"\nmonitor-timeout = \"500ms\"\n\
                  monitor-down-after = 3\nmonitor-up-after = 2";
    let node = Setup::new(&world).t1(500).group("MCP", probed, &members, "10000").start(&world);

    // 18 s of calls at 200/s; calls end at once, so what the dying server has answered is over but for a moment.
    let uac = Sipp::uac(&world, "uac", "uac", world.addr(100, 5060), world.addr(NODE, 5060));
    let uac = uac.calls(3_600, 200).start(&world);
    let placed =
        |m: &crate::rig::node::Metrics| m.labelled("tandem_resource_placed_total", &format!("sip:{}\"", members[0]));
    node.until("calls on the doomed server", |m| placed(m) > 100.0);
    // Stopped rather than killed first: it answers nothing more, and no ICMP error tells.
    doomed.process().signal("STOP");
    let before = doomed.score();
    node.until("the server seen as down", |m| m.health(members[0], "down"));
    doomed.process().crash();
    let at_death = placed(&node.metrics());

    let back = start("back", 0);
    node.until("the server seen as up", |m| m.health(members[0], "up"));
    until_true("calls on the server that came back", SOON, || back.score().messages("INVITE_Recv") > 0);
    let score = uac.finish(Duration::from_secs(60));

    // Calls that the dead server had answered may fail: their ACK or BYE went to a corpse.
    let answered_there = before.messages("200_Sent") - before.messages("BYE_Recv").min(before.messages("200_Sent"));
    assert!(
        score.failed() <= answered_there,
        "{} failed, {answered_there} were answered: {}",
        score.failed(),
        score.trouble
    );
    assert_eq!(score.successful() + score.failed(), 3_600);
    assert!(placed(&node.metrics()) > at_death, "new calls on the server that came back");
    let elsewhere: u64 = others.into_iter().map(|o| o.stop().successful()).sum();
    assert!(elsewhere > 0);
    node.assert_empty();
}
