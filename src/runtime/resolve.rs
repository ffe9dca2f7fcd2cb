//! Next hops that are names (RFC 3263 §4.2: A and AAAA): looked up off the call path, remembered for a moment.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::base::{Flow, Time, Transport};
use crate::node::{Input, Received};
use crate::runtime::connection::NotTaken;
use crate::runtime::inlet::Inlet;
use crate::runtime::stats::IoStats;
use crate::runtime::sys;

/// Messages that wait for a name at the same time.
const WAITING: usize = 256;

/// Names that are remembered.
const REMEMBERED: usize = 1_024;

/// How long a name is remembered: requests of one dialog come in a burst, and the system's resolver tells no TTL.
const FRESH: Duration = Duration::from_secs(5);

/// Turns names into addresses.
pub struct Resolver {
    /// By host, without a port.
    known: Mutex<HashMap<Box<[u8]>, Found>>,
    waiting: Arc<Semaphore>,
    runtime: Handle,
    stats: Arc<IoStats>,
    inlet: Weak<dyn Inlet>,
}

struct Found {
    ip: IpAddr,
    until: Time,
}

impl Resolver {
    /// A resolver that knows nothing yet. Messages whose name was found go to `inlet`.
    pub fn new(runtime: Handle, stats: Arc<IoStats>, inlet: Weak<dyn Inlet>) -> Self {
        Self { known: Mutex::default(), waiting: Arc::new(Semaphore::new(WAITING)), runtime, stats, inlet }
    }

    /// The address of `host:port` or `host` for a flow, in the family of its local address, if it was found a moment ago.
    pub fn known(&self, name: &[u8], flow: &Flow) -> Option<SocketAddr> {
        let (host, port) = split(name, flow.transport)?;
        let known = self.known.lock();
        let found = known.get(host.as_bytes())?;
        let fits = found.until > sys::now() && found.ip.is_ipv4() == flow.local.is_ipv4();
        fits.then(|| SocketAddr::new(found.ip, port))
    }

    /// Looks the name up, then has the message delivered, or reported as undelivered.
    pub fn submit(self: &Arc<Self>, flow: Flow, name: &[u8], message: &[u8]) -> Result<(), NotTaken> {
        let target = split(name, flow.transport).zip(Arc::clone(&self.waiting).try_acquire_owned().ok());
        let Some(((host, port), permit)) = target else {
            self.stats.names_failed.count();
            return Err(NotTaken);
        };
        let (resolver, host) = (Arc::clone(self), host.to_owned());
        let (name, message): (Box<[u8]>, Box<[u8]>) = (name.into(), message.into());
        self.runtime.spawn(async move {
            let found = net::lookup_host((host.as_str(), port)).await.ok();
            drop(permit);
            let fits = |addr: &SocketAddr| addr.is_ipv4() == flow.local.is_ipv4();
            let addr = found.and_then(|mut addrs| addrs.find(fits));
            let Some(inlet) = resolver.inlet.upgrade() else { return };
            match addr {
                Some(remote) => {
                    resolver.stats.names_resolved.count();
                    resolver.remember(host, remote.ip());
                    inlet.deliver(Flow { remote, ..flow }, Some(&name), &message);
                }
                None => {
                    resolver.stats.names_failed.count();
                    inlet.input(Input::Undelivered(Received { flow, bytes: &message }));
                }
            }
        });
        Ok(())
    }

    fn remember(&self, host: String, ip: IpAddr) {
        let now = sys::now();
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED {
            known.retain(|_, found| found.until > now);
        }
        if known.len() < REMEMBERED {
            known.insert(host.into_bytes().into(), Found { ip, until: now + FRESH });
        }
    }
}

/// Host and port of `host:port` or `host`; without one that of the transport (RFC 3263 §4.2).
fn split(name: &[u8], transport: Transport) -> Option<(&str, u16)> {
    let name = std::str::from_utf8(name).ok()?;
    match name.rsplit_once(':') {
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((name, transport.default_port())),
    }
    .filter(|(host, _)| !host.is_empty() && host.len() <= 255)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::base::ListenerId;

    /// What became of a message: sent to an address, or not delivered.
    struct Ear(Mutex<mpsc::Sender<(Option<SocketAddr>, Vec<u8>)>>);

    impl Inlet for Ear {
        fn undecided(&self, _: &Flow) -> bool {
            false
        }

        fn input(&self, input: Input<'_>) {
            let Input::Undelivered(received) = input else { panic!("{input:?}") };
            self.0.lock().send((None, received.bytes.to_vec())).unwrap();
        }

        fn deliver(&self, flow: Flow, _: Option<&[u8]>, bytes: &[u8]) {
            self.0.lock().send((Some(flow.remote), bytes.to_vec())).unwrap();
        }
    }

    #[test]
    fn a_message_waits_for_its_name_or_comes_back() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (ear, told) = mpsc::channel();
        let ear: Arc<dyn Inlet> = Arc::new(Ear(Mutex::new(ear)));
        let stats = Arc::new(IoStats::default());
        let resolver = Arc::new(Resolver::new(runtime.handle().clone(), Arc::clone(&stats), Arc::downgrade(&ear)));
        let local: SocketAddr = "127.0.0.1:5060".parse().unwrap();
        let flow = Flow { transport: Transport::Udp, listener: ListenerId(0), local, remote: local, conn: None };
        assert_eq!(resolver.known(b"localhost:5070", &flow), None);
        resolver.submit(flow, b"localhost:5070", b"found").unwrap();
        let addr: SocketAddr = "127.0.0.1:5070".parse().unwrap();
        assert_eq!(told.recv().unwrap(), (Some(addr), b"found".to_vec()));
        assert_eq!(resolver.known(b"localhost:5070", &flow), Some(addr));
        let secure = Flow { transport: Transport::Tls, ..flow };
        assert_eq!(resolver.known(b"localhost", &secure).map(|a| a.port()), Some(5061));
        let six = Flow { local: "[::1]:5060".parse().unwrap(), ..flow };
        assert_eq!(resolver.known(b"localhost:5070", &six), None, "of the other family");
        resolver.submit(flow, b"no-such-host.invalid", b"lost").unwrap();
        assert_eq!(told.recv().unwrap(), (None, b"lost".to_vec()));
        assert_eq!(resolver.submit(flow, b"host:port", b"never").unwrap_err(), NotTaken);
        assert_eq!((stats.names_resolved.get(), stats.names_failed.get()), (1, 2));
    }

    #[test]
    fn a_name_has_the_port_of_its_transport_unless_it_says_otherwise() {
        let split = |name: &'static [u8]| super::split(name, Transport::Udp);
        assert_eq!(split(b"mcp.example.com"), Some(("mcp.example.com", 5060)));
        assert_eq!(super::split(b"mcp.example.com", Transport::Tls), Some(("mcp.example.com", 5061)));
        assert_eq!(split(b"mcp.example.com:5080"), Some(("mcp.example.com", 5080)));
        assert_eq!(split(b"mcp.example.com:70000"), None);
        assert_eq!(split(b":5060"), None);
    }
}
