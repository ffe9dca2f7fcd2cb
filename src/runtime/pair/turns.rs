//! Two nodes on one machine: the virtual addresses are always here, and the nodes take turns at their UDP ports.
#![forbid(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::base::ListenerId;
use crate::runtime::driver::Driver;
use crate::runtime::socket::UdpListener;
use crate::runtime::vip::Wish;

/// A process that dies closes its sockets one after the other: its link may end before its port is free.
const TRIES: usize = 50;
/// Between two of them; together they stay below `suspicion-timeout`.
const PAUSE: Duration = Duration::from_millis(2);

/// The listeners whose ports move; none unless the virtual addresses are on loopback.
#[derive(Debug, Default)]
pub struct Turns(Vec<ListenerId>);

impl Turns {
    /// The listeners of `driver` on `addresses`, none of which has its port yet.
    pub fn new(driver: &Driver, addresses: &[IpAddr]) -> Self {
        Self(driver.listeners().filter(|(_, l)| addresses.contains(&l.addr.ip())).map(|(id, _)| id).collect())
    }

    /// Takes or gives up the ports as `wish` says. Errors: another process has a port, and keeps it; then all are given
    /// up.
    pub fn follow(&self, wish: Wish, driver: &Driver) -> io::Result<()> {
        let listeners = || self.0.iter().filter_map(|id| driver.listener(*id));
        let done = match wish {
            _ if self.0.is_empty() => return Ok(()),
            Wish::Hold { .. } => listeners().try_for_each(take).inspect_err(|_| {
                // It says what could not be done before.
                let _ = listeners().try_for_each(UdpListener::give_up);
            }),
            Wish::Quiet | Wish::Drop => listeners().try_for_each(UdpListener::give_up),
            Wish::Announce | Wish::Probe { .. } => return Ok(()),
        };
        // The receiver still waits for the sockets that were there.
        driver.waker().notify();
        done
    }
}

fn take(listener: &UdpListener) -> io::Result<()> {
    if listener.socket.local_addr()?.port() == listener.addr.port() {
        return Ok(());
    }
    for _ in 1..TRIES {
        match listener.take() {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => std::thread::sleep(PAUSE),
            taken => return taken,
        }
    }
    let told =
        |e: io::Error| io::Error::new(e.kind(), format!("udp:{} is held by another process: {e}", listener.addr));
    listener.take().map_err(told)
}
