//! SIPp at work around a pair: callers in one host, a media server on each address of another.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::lan::Host;
use super::pair::{SERVERS, VIP, sip};
use super::sipp::{Running, Score, Sipp};
use super::world::World;

/// Calls that SIPp makes to an address of the pair.
pub struct Load {
    callers: Running,
    calls: u64,
}

/// Media servers that answer them.
pub struct Answering {
    servers: Vec<Running>,
}

impl Answering {
    /// One on each address.
    pub fn start(world: &World, host: &Host, addresses: &[Ipv4Addr]) -> Answering {
        let server =
            |ip: &Ipv4Addr| host.within(|| Sipp::uas(world, &format!("uas-{ip}"), "uas-again", sip(*ip)).start(world));
        Answering { servers: addresses.iter().map(server).collect() }
    }

    /// The two on the left.
    pub fn left(world: &World, host: &Host) -> Answering {
        Self::start(world, host, &SERVERS)
    }

    /// Ends them and asserts that they saw `calls` calls, each with its ACK and its BYE, and nothing that they did not
    /// expect.
    #[track_caller]
    pub fn assert_all(self, calls: u64) {
        let scores: Vec<Score> = self.servers.into_iter().map(Running::stop).collect();
        for score in &scores {
            assert_eq!(score.failed(), 0, "{}", score.trouble);
        }
        let sum = |message: &str| scores.iter().map(|score| score.messages(message)).sum::<u64>();
        let seen = ["ACK_Recv", "BYE_Recv"].map(sum);
        assert_eq!(seen, [calls; 2], "ACK and BYE as the media servers count");
        // An INVITE that comes again after its 200 is counted again.
        assert!(sum("INVITE_Recv") >= calls, "every call reached a media server");
    }

    /// Ends them; their figures.
    pub fn stop(self) -> Vec<Score> {
        self.servers.into_iter().map(Running::stop).collect()
    }
}

impl Load {
    /// `calls` calls from `address` of `host`, `rate` a second, each `hold` long. A 180 may be lost on its way.
    pub fn start(world: &World, host: &Host, address: Ipv4Addr, calls: u32, rate: u32, hold: Duration) -> Load {
        Self::to(world, host, (address, VIP), calls, rate, hold)
    }

    /// The same from one address to another one than the virtual one.
    pub fn to(
        world: &World,
        host: &Host,
        (address, node): (Ipv4Addr, Ipv4Addr),
        calls: u32,
        rate: u32,
        hold: Duration,
    ) -> Load {
        Self::between(world, host, (sip(address), sip(node)), calls, rate, hold)
    }

    /// The same from one port to another one.
    pub fn between(
        world: &World,
        host: &Host,
        (caller, node): (SocketAddr, SocketAddr),
        calls: u32,
        rate: u32,
        hold: Duration,
    ) -> Load {
        let name = if caller.port() == 5060 {
            format!("uac-{}", caller.ip())
        } else {
            format!("uac-{}-{}", caller.ip(), caller.port())
        };
        let uac = Sipp::uac(world, &name, "uac-again", caller, node).calls(calls, rate);
        let uac = uac.args(["-d", &hold.as_millis().to_string()]);
        Load { callers: host.within(|| uac.start(world)), calls: u64::from(calls) }
    }

    /// Calls begun so far; SIPp says it each second.
    pub fn begun(&self) -> u64 {
        self.callers.score().column("TotalCallCreated")
    }

    /// Whether calls are still being made.
    pub fn goes_on(&mut self) -> bool {
        self.callers.process().ended().is_none()
    }

    /// Waits for the end; none may have failed.
    #[track_caller]
    pub fn assert_lossless(self, limit: Duration) {
        let calls = self.calls;
        self.callers.finish(limit).assert_all(calls);
    }

    /// Waits for the end; the figures.
    #[track_caller]
    pub fn finish(self, limit: Duration) -> Score {
        self.callers.finish(limit)
    }
}
