//! A record-routing Kamailio in front of the node, another in front of the media server, and everything that a dialog
//! can carry between them.

use std::time::Duration;

use crate::rig::kamailio::Kamailio;
use crate::rig::node::{NODE, Node, Setup};
use crate::rig::sipp::{Score, Sipp};
use crate::rig::world::World;

const UPSTREAM: u8 = 2;
const DOWNSTREAM: u8 = 3;
const SERVER: u8 = 11;
const CALLER: u8 = 100;
const CALLS: u32 = 20;

/// SIPp, Kamailio, the node, Kamailio; SIPp's media server comes with each flow.
struct Chain {
    node: Node,
    _upstream: Kamailio,
    _downstream: Kamailio,
    world: World,
}

impl Chain {
    fn new(name: &str) -> Chain {
        let world = World::beside(name);
        let at = |host| world.addr(host, 5060);
        let downstream = Kamailio::start(&world, "downstream", at(DOWNSTREAM), at(SERVER));
        let upstream = Kamailio::start(&world, "upstream", at(UPSTREAM), at(NODE));
        let node = Setup::new(&world).members(&[at(DOWNSTREAM)], "1000").start(&world);
        Chain { node, _upstream: upstream, _downstream: downstream, world }
    }

    /// Both ends of a flow; all calls must succeed at both, and leave nothing behind.
    fn run(&self, server: &str, caller: &str) -> (Score, Score) {
        let at = |host| self.world.addr(host, 5060);
        let uas = Sipp::uas(&self.world, server, server, at(SERVER)).start(&self.world);
        let uac = Sipp::uac(&self.world, caller, caller, at(CALLER), at(UPSTREAM)).calls(CALLS, 20);
        let caller = uac.start(&self.world).finish(Duration::from_secs(40));
        caller.assert_all(u64::from(CALLS));
        let server = uas.stop();
        server.assert_all(u64::from(CALLS));
        self.node.until("all ports free", |m| m.sum("tandem_ports_in_use") == 0.0);
        (caller, server)
    }
}

#[test]
fn a_dialog_carries_prack_update_reinvite_info_refer_and_notify() {
    let chain = Chain::new("flow");
    let (_, server) = chain.run("flow-uas", "flow-uac");
    for method in ["PRACK", "UPDATE", "INFO", "REFER", "BYE"] {
        assert!(server.messages(&format!("{method}_Recv")) >= u64::from(CALLS), "{method}: {server:?}");
    }
    chain.node.assert_empty();
    chain.node.assert_quiet();
}

#[test]
fn the_media_server_asks_and_hangs_up() {
    let chain = Chain::new("hangup");
    chain.run("hangup-uas", "hangup-uac");
    chain.node.assert_quiet();
}

#[test]
fn a_caller_gives_up_at_each_stage() {
    let chain = Chain::new("cancel");
    chain.run("cancel-uas", "cancel-trying-uac");
    chain.run("cancel-uas", "cancel-ringing-uac");
    let (_, server) = chain.run("cancel-race-uas", "cancel-race-uac");
    assert_eq!(server.messages("BYE_Recv"), u64::from(CALLS), "a 200 that raced the CANCEL reaches the caller");
    chain.node.assert_empty();
    chain.node.assert_quiet();
}

#[test]
fn an_answer_is_repeated_until_its_ack_and_a_refusal_is_acknowledged_hop_by_hop() {
    let chain = Chain::new("ack");
    let (_, server) = chain.run("uas", "late-ack-uac");
    assert!(server.messages("200_Retrans") >= u64::from(CALLS), "the 200 was sent again: {server:?}");
    assert_eq!(server.messages("ACK_Recv"), u64::from(CALLS));
    let (caller, server) = chain.run("busy-uas", "busy-uac");
    assert_eq!(caller.messages("486_Recv"), u64::from(CALLS));
    assert_eq!(server.messages("ACK_Recv"), u64::from(CALLS));
    chain.node.assert_empty();
    chain.node.assert_quiet();
}
