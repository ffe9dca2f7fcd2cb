//! The library's agents on real sockets: one thread, one socket each.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use crate::agent::caller::{self, Caller};
use crate::agent::heard::Timing;
use crate::agent::media_server::{self, Behaviour, MediaServer};
use crate::agent::script::{Plan, Report};
use crate::base::{Flow, Time, Transport};
use crate::out::Out;
use crate::runtime::sys::{self, Interest};

/// Datagrams read from one socket per turn.
const BATCH: usize = 64;

/// A socket on loopback with a port of the kernel's choice.
pub fn bind() -> io::Result<UdpSocket> {
    bind_to(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

/// A socket there.
pub fn bind_to(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(addr)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whose message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The caller.
    Caller,
    /// A media server.
    Server,
}

/// Somebody who looks at each message as it passes.
pub trait Tap {
    /// `who` has sent these octets, or got them.
    fn passed(&mut self, now: Time, who: Who, sent: bool, bytes: &[u8]);
}

/// Nobody looks on.
impl Tap for () {
    fn passed(&mut self, _: Time, _: Who, _: bool, _: &[u8]) {}
}

/// One caller and its media servers.
pub struct Stage<T> {
    /// The caller.
    pub caller: Caller,
    /// The media servers.
    pub servers: Vec<MediaServer>,
    /// Who looks on.
    pub tap: T,
    /// One for each server and the caller's at the end; `None`: the process behind it is dead.
    sockets: Vec<Option<UdpSocket>>,
    addrs: Vec<SocketAddr>,
    out: Out,
    buffer: Vec<u8>,
}

/// What the agents have in common.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Part of every name, so that two runs have no Call-ID, tag or branch in common.
    pub run: String,
    /// Where the caller finds the node.
    pub node: SocketAddr,
    /// Timers of all agents.
    pub timing: Timing,
    /// How the media servers treat calls that wish nothing else.
    pub behaviour: Behaviour,
}

impl<T: Tap> Stage<T> {
    /// A caller on `socket` and a media server on each of `sockets`.
    pub fn new(setting: Setting, socket: UdpSocket, sockets: Vec<UdpSocket>, tap: T) -> io::Result<Self> {
        let Setting { run, node, timing, behaviour } = setting;
        let mut servers = Vec::new();
        for (n, socket) in sockets.iter().enumerate() {
            let (name, addr) = (format!("mcp{}{run}", n + 1), socket.local_addr()?);
            let mut server = MediaServer::new(media_server::Config { name, addr, timing, seed: n as u64 });
            server.behave(behaviour);
            servers.push(server);
        }
        let (name, addr) = (format!("caller{run}"), socket.local_addr()?);
        let caller = Caller::new(caller::Config { name, addr, transport: Transport::Udp, node, backup: None, timing });
        let sockets: Vec<Option<UdpSocket>> = sockets.into_iter().chain([socket]).map(Some).collect();
        let addrs = sockets.iter().flatten().map(UdpSocket::local_addr).collect::<Result<_, _>>()?;
        let buffer = vec![0; crate::base::limits::MESSAGE];
        Ok(Self { caller, servers, tap, sockets, addrs, out: Out::new(), buffer })
    }

    /// Starts a call.
    pub fn call(&mut self, now: Time, plan: Plan) {
        self.caller.call(now, plan, &mut self.out);
        self.flush();
    }

    /// Lets a call go on that waits at a media server.
    pub fn go_on(&mut self, now: Time, call_id: &str) {
        self.servers.iter_mut().for_each(|server| server.go_on(now, call_id.as_bytes(), &mut self.out));
        self.flush();
    }

    /// A media server's process dies: its socket closes, its calls are gone.
    pub fn kill(&mut self, server: usize) {
        self.servers[server].crash();
        self.sockets[server] = None;
    }

    /// The media server starts again on its old port.
    pub fn restart(&mut self, server: usize) -> io::Result<()> {
        self.sockets[server] = Some(bind_to(self.addrs[server])?);
        self.servers[server].revive();
        Ok(())
    }

    /// Reads, answers and repeats until `until`; may return earlier.
    pub fn turn(&mut self, until: Time) -> io::Result<()> {
        let now = sys::now();
        let servers = self.servers.iter().filter_map(MediaServer::next_timeout);
        let due = servers.chain(self.caller.next_timeout()).fold(until, Time::min);
        let open: Vec<usize> = (0..self.sockets.len()).filter(|n| self.sockets[*n].is_some()).collect();
        let mut interests: Vec<Interest> =
            self.sockets.iter().flatten().map(|socket| Interest::readable(socket.as_fd())).collect();
        sys::poll(&mut interests, Some(due.since(now)))?;
        for (n, _) in open.iter().zip(&interests).filter(|(_, interest)| interest.ready()) {
            self.receive(*n);
        }
        let now = sys::now();
        self.caller.handle_timeout(now, &mut self.out);
        self.servers.iter_mut().for_each(|server| server.handle_timeout(now, &mut self.out));
        self.flush();
        Ok(())
    }

    /// The calls that ended since the last time.
    pub fn take_reports(&mut self) -> Vec<Report> {
        self.caller.take_reports()
    }

    fn receive(&mut self, n: usize) {
        let now = sys::now();
        for _ in 0..BATCH {
            let Some(Ok((length, remote))) = self.sockets[n].as_ref().map(|s| s.recv_from(&mut self.buffer)) else {
                break;
            };
            let local = self.addrs[n];
            let flow = Flow { transport: Transport::Udp, listener: Default::default(), local, remote, conn: None };
            let bytes = &self.buffer[..length];
            let who = if n < self.servers.len() { Who::Server } else { Who::Caller };
            self.tap.passed(now, who, false, bytes);
            match self.servers.get_mut(n) {
                Some(server) => server.handle(now, bytes, flow, &mut self.out),
                None => self.caller.handle(now, bytes, flow, &mut self.out),
            }
        }
        self.flush();
    }

    /// A datagram that the kernel refuses is lost like any other; SIP repeats it.
    fn flush(&mut self) {
        let now = sys::now();
        for transmit in &self.out.transmits {
            let from = self.addrs.iter().position(|addr| *addr == transmit.flow.local);
            if let Some((n, socket)) = from.and_then(|n| Some((n, self.sockets[n].as_ref()?))) {
                let who = if n < self.servers.len() { Who::Server } else { Who::Caller };
                self.tap.passed(now, who, true, self.out.bytes(transmit));
                let _lost = socket.send_to(self.out.bytes(transmit), transmit.flow.remote);
            }
        }
        self.out.clear();
    }
}
