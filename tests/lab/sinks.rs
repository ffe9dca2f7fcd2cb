//! Readers of logs and metrics that stop reading hold up no call.

use std::io::Write;
use std::net::TcpStream;
use std::process::Stdio;

use crate::rig::node::Setup;
use crate::rig::process::Process;
use crate::rig::traffic::Traffic;
use crate::rig::world::World;

#[test]
fn a_log_that_nobody_reads() {
    let world = World::beside("log");
    let server = Traffic::server(&world);
    let mut setup: Setup = Traffic::setup(&world);
    // Trace says something of every packet: far more than a pipe holds.
    setup.level = "trace";
    let node = setup.start_with(&world, |command| {
        // Nobody reads this pipe.
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Process::start_with("node", command, world.path("none"))
    });
    Traffic::start(&world, server, 10).assert_lossless();
    node.until("lines dropped and counted", |m| m.sum("tandem_log_dropped_total") > 0.0);
    node.assert_empty();
}

#[test]
fn metrics_that_nobody_reads() {
    let world = World::beside("scrape");
    let server = Traffic::server(&world);
    let node = Traffic::setup(&world).start(&world);
    let mut stalled: Vec<TcpStream> = Vec::new();
    for n in 0..50 {
        let mut stream = TcpStream::connect(node.admin).expect("an admin listener");
        // Half of them do not even finish their question.
        let rest = if n % 2 == 0 { "" } else { "Host: x\r\n\r\n" };
        write!(stream, "GET /metrics HTTP/1.1\r\n{rest}").expect("a question");
        stalled.push(stream);
    }
    Traffic::start(&world, server, 5).assert_lossless();
    assert!(node.metrics().sum("tandem_calls") == 0.0, "others still get an answer");
    node.assert_empty();
    drop(stalled);
}
