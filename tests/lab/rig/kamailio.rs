//! Kamailio as a record-routing proxy.

use std::net::SocketAddr;
use std::process::Command;

use super::poll::{SOON, until_true};
use super::process::Process;
use super::world::World;

/// A running Kamailio.
pub struct Kamailio {
    process: Process,
}

impl Kamailio {
    /// Starts one that listens at `at` and sends calls to `next`.
    #[track_caller]
    pub fn start(world: &World, name: &str, at: SocketAddr, next: SocketAddr) -> Kamailio {
        let run = world.path(name);
        std::fs::create_dir_all(&run).expect("a directory for its sockets");
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/kamailio/proxy.cfg");
        let mut command = Command::new("kamailio");
        command.args(["-DD", "-E", "-f", config, "-m", "64", "-M", "8"]).arg("-Y").arg(&run);
        command.arg("-P").arg(world.path(&format!("{name}.pid")));
        command.args(["-A", &format!("LISTEN=udp:{at}"), "-A", &format!("NEXT=\"sip:{next}\"")]);
        let process = Process::start(world, name, &mut command);
        until_true(&format!("{name} holds {at}"), SOON, || process.sees_bound(at));
        Kamailio { process }
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        // Its children end with it only when it is asked to end.
        self.process.signal("TERM");
        self.process.wait(SOON);
    }
}
