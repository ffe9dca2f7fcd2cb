//! The agents of the demo on real sockets: one thread, one socket each.

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

fn bind_to(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(addr)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// One caller and its media servers.
pub struct Stage {
    /// The caller.
    pub caller: Caller,
    /// The media servers.
    pub servers: Vec<MediaServer>,
    /// One for each server and the caller's at the end; `None`: the process behind it is dead.
    sockets: Vec<Option<UdpSocket>>,
    addrs: Vec<SocketAddr>,
    out: Out,
    buffer: Vec<u8>,
}

impl Stage {
    /// Agents around `node`; `sockets` are those of the media servers.
    pub fn new(node: SocketAddr, sockets: Vec<UdpSocket>, behaviour: Behaviour) -> io::Result<Self> {
        let timing = Timing::default();
        let mut servers = Vec::new();
        for (n, socket) in sockets.iter().enumerate() {
            let (name, addr) = (format!("mcp{}", n + 1), socket.local_addr()?);
            let mut server = MediaServer::new(media_server::Config { name, addr, timing, seed: n as u64 });
            server.behave(behaviour);
            servers.push(server);
        }
        let socket = bind()?;
        let (name, addr) = (String::from("caller"), socket.local_addr()?);
        let caller = Caller::new(caller::Config { name, addr, transport: Transport::Udp, node, timing });
        let sockets: Vec<Option<UdpSocket>> = sockets.into_iter().chain([socket]).map(Some).collect();
        let addrs = sockets.iter().flatten().map(UdpSocket::local_addr).collect::<Result<_, _>>()?;
        Ok(Self { caller, servers, sockets, addrs, out: Out::new(), buffer: vec![0; crate::base::limits::MESSAGE] })
    }

    /// Starts a call.
    pub fn call(&mut self, now: Time, plan: Plan) {
        self.caller.call(now, plan, &mut self.out);
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
            match self.servers.get_mut(n) {
                Some(server) => server.handle(now, bytes, flow, &mut self.out),
                None => self.caller.handle(now, bytes, flow, &mut self.out),
            }
        }
        self.flush();
    }

    /// A datagram that the kernel refuses is lost like any other; SIP repeats it.
    fn flush(&mut self) {
        for transmit in &self.out.transmits {
            let from = self.addrs.iter().position(|addr| *addr == transmit.flow.local);
            if let Some(socket) = from.and_then(|n| self.sockets[n].as_ref()) {
                let _lost = socket.send_to(self.out.bytes(transmit), transmit.flow.remote);
            }
        }
        self.out.clear();
    }
}
