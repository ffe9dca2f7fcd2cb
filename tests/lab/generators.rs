//! The control: callers and media servers with nothing between them. What fails here is no fault of the node.

use std::time::Duration;

use crate::rig::sipp::Sipp;
use crate::rig::world::World;

#[test]
fn basic_calls_without_a_node() {
    let world = World::new("control");
    let uas = Sipp::uas(&world, "uas", "uas", world.addr(11, 5060)).start(&world);
    let uac = Sipp::uac(&world, "uac", "uac", world.addr(100, 5060), world.addr(11, 5060)).calls(500, 500);
    uac.start(&world).finish(Duration::from_secs(30)).assert_all(500);
    let score = uas.stop();
    score.assert_all(500);
    assert_eq!(score.messages("INVITE_Recv"), 500);
}
