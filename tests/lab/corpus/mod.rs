//! Bad and odd messages on real sockets: each gets its pinned outcome, over UDP and over streams, wherever the stream
//! is cut; and a call beside it never notices.

mod case;
mod own;
mod stream;
mod datagram;

use crate::rig::mcp::{self, Mcp};
use crate::rig::node::{Node, Setup};
use crate::rig::world::World;

use case::Case;

/// The media server refuses with a reason phrase of its own, so that its refusals are told from the node's.
const MCP: u8 = 11;

fn node(world: &World) -> (Node, Mcp) {
    let at = world.addr(MCP, 5060);
    let server = Mcp::start(
        at,
        Box::new(move |message, _| match message.method() {
            _ if message.status().is_some() => Vec::new(),
            "INVITE" if !message.call_id().starts_with("beside") => vec![mcp::now(mcp::reply(message, at, 486))],
            _ => mcp::answer(message, at),
        }),
    );
    let node = Setup::new(world).members(&[at], "\"unlimited\"").start(world);
    (node, server)
}

/// The corpus of RFC messages and hostile ones, which is not part of this repository.
fn corpus() -> Vec<Case> {
    let Some(dir) = case::directory() else {
        println!("corpus: ABSENT");
        return Vec::new();
    };
    let cases = case::read(&dir);
    println!("corpus: {} files replayed, checksums verified", cases.len());
    cases
}

#[test]
fn own_messages_as_datagrams() {
    let world = World::beside("own-udp");
    let (node, server) = node(&world);
    datagram::replay(&world, &node, &server, &own::cases());
    node.assert_quiet();
}

#[test]
fn own_messages_on_streams() {
    let world = World::beside("own-tcp");
    let (node, server) = node(&world);
    stream::replay(&world, &node, &server, &own::cases());
    node.assert_quiet();
}

#[test]
fn the_corpus_as_datagrams() {
    let world = World::beside("corpus-udp");
    let (node, server) = node(&world);
    datagram::replay(&world, &node, &server, &corpus());
    node.assert_quiet();
}

#[test]
fn the_corpus_on_streams() {
    let world = World::beside("corpus-tcp");
    let (node, server) = node(&world);
    stream::replay(&world, &node, &server, &corpus());
    node.assert_quiet();
}
