//! Known callers that go on while something bad happens beside them.

use std::net::SocketAddr;
use std::time::Duration;

use super::node::{NODE, Setup};
use super::poll::{SOON, until_true};
use super::sipp::{Running, Sipp};
use super::world::World;

/// SIPp calls of known callers over UDP and TCP, to one SIPp media server.
pub struct Traffic {
    server: Running,
    callers: [Running; 2],
    calls: u64,
}

/// Where the media server of [`Traffic`] is.
pub fn server(world: &World) -> SocketAddr {
    world.addr(11, 5060)
}

impl Traffic {
    /// The media server, to be started before the node.
    pub fn server(world: &World) -> Running {
        Sipp::uas(world, "uas", "uas", server(world)).start(world)
    }

    /// A node configuration with that media server.
    pub fn setup(world: &World) -> Setup {
        Setup::new(world).members(&[server(world)], "100000")
    }

    /// Starts calls for `seconds`, a hundred a second over each transport.
    pub fn start(world: &World, server: Running, seconds: u32) -> Traffic {
        let to = world.addr(NODE, 5060);
        let calls = seconds * 100;
        let caller = |name: &str, host, args: &[&str]| {
            let uac = Sipp::uac(world, name, "uac", world.addr(host, 5060), to).calls(calls, 100);
            uac.args(args.iter().copied()).args(["-d", "200"]).start(world)
        };
        let callers = [caller("uac-udp", 100, &[]), caller("uac-tcp", 101, &["-t", "t1"])];
        Traffic { server, callers, calls: u64::from(calls) }
    }

    /// Waits until each caller has had a whole call.
    pub fn until_it_flows(&self) {
        let had_one = |caller: &Running| caller.score().column("SuccessfulCall(C)") > 0;
        until_true("a call over each transport", SOON, || self.callers.iter().all(had_one));
    }

    /// Whether calls are still being made.
    pub fn goes_on(&mut self) -> bool {
        self.callers.iter_mut().any(|caller| caller.process().ended().is_none())
    }

    /// No call was lost.
    #[track_caller]
    pub fn assert_lossless(self) {
        for caller in self.callers {
            caller.finish(Duration::from_secs(90)).assert_all(self.calls);
        }
        // Others may have called it too.
        let score = self.server.stop();
        assert_eq!(score.failed(), 0, "{}", score.trouble);
        assert!(score.successful() >= 2 * self.calls, "{score:?}");
    }
}
