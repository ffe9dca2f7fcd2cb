//! What carries the octets of an opened stream: TCP, and whatever may wrap it.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::base::limits;
use crate::replica::Stream;

/// Octets that the peer's kernel has not acknowledged for so long end the link.
const UNACKNOWLEDGED_DEADLINE: Duration = Duration::from_secs(5);

/// A quiet link is probed by the kernel this often.
const PROBE: Duration = Duration::from_secs(1);

/// An opened stream that never waits. Read by one thread, written by any.
pub trait Carrier: Send + Sync {
    /// Takes what has come, at most as much as `to` holds; 0: the peer will send nothing more.
    fn read(&self, to: &mut [u8]) -> io::Result<usize>;
    /// Gives the kernel what it takes of `octets`.
    fn write(&self, octets: &[u8]) -> io::Result<usize>;
    /// Gives the kernel what [`Carrier::write`] has taken and the kernel not yet.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    /// Whether octets can be read that the kernel does not know of.
    fn holds(&self) -> bool {
        false
    }
    /// Ends it in both directions, whoever still holds it.
    fn close(&self);
    /// What to wait on.
    fn fd(&self) -> BorrowedFd<'_>;
}

impl Carrier for TcpStream {
    fn read(&self, to: &mut [u8]) -> io::Result<usize> {
        let mut stream = self;
        Read::read(&mut stream, to)
    }

    fn write(&self, octets: &[u8]) -> io::Result<usize> {
        let mut stream = self;
        Write::write(&mut stream, octets)
    }

    fn close(&self) {
        // It may be closed already.
        let _ = self.shutdown(Shutdown::Both);
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

/// Whether a stream leaves this host from this address.
pub fn leaves_from(carrier: &dyn Carrier, own: IpAddr) -> bool {
    let local = SockRef::from(&carrier.fd()).local_addr().ok().and_then(|addr| addr.as_socket());
    local.is_some_and(|addr| addr.ip() == own)
}

/// Frames leave at once, a host that vanished is noticed, and bulk data does not pile up in the kernel.
pub fn tune(socket: &SockRef<'_>, stream: Stream) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_DEADLINE))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE).with_interval(PROBE))?;
    if stream == Stream::Bulk {
        socket.set_tcp_notsent_lowat(limits::BULK_UNSENT as u32)?;
    }
    Ok(())
}
