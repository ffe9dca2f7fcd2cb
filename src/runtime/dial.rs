//! Opening a stream of SIP: from which address, how long it may take, what its socket is told.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use parking_lot::RwLock;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time;

use crate::runtime::sys;

/// A connection must be established within this time.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(4);

/// Between two attempts to leave from an address that is not here.
const NOT_HERE_YET: Duration = Duration::from_millis(5);

/// Octets that the other side's kernel has not acknowledged for so long end the connection.
const UNACKNOWLEDGED_DEADLINE: Duration = Duration::from_secs(10);

/// A connection that has been quiet for so long is probed by the kernel, this often.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// The address of a pair may still be on its way here. What waits for the stream waits that long.
///
/// # Errors
///
/// Those of `open`, with the address here.
async fn once_here<T, F: Future<Output = io::Result<T>>>(local: IpAddr, mut open: impl FnMut() -> F) -> io::Result<T> {
    loop {
        match open().await {
            // Which error it is depends on net.ipv4.ip_nonlocal_bind, which hosts with a virtual address often have set.
            Err(_) if !is_here(local) => time::sleep(NOT_HERE_YET).await,
            opened => return opened,
        }
    }
}

/// Whether this host has an address; of that which cannot be told it is believed.
fn is_here(ip: IpAddr) -> bool {
    ip.is_loopback() || sys::local_addresses().map_or(true, |all| all.contains(&ip.to_canonical()))
}

/// Addresses that other hosts have as well, or may: what is answered to one of them may come to another host, so no stream is
/// opened from there. What it carries still names the shared address.
#[derive(Debug, Default)]
pub struct Shared(RwLock<Vec<(IpAddr, Option<IpAddr>)>>);

impl Shared {
    /// From now on these are, each with the address that streams leave from instead; `None`: where the kernel would.
    pub fn are(&self, addresses: Vec<(IpAddr, Option<IpAddr>)>) {
        *self.0.write() = addresses;
    }

    /// Opens a stream from one host to another, once the address is here.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub async fn open(&self, local: IpAddr, remote: SocketAddr) -> io::Result<TcpStream> {
        let instead = self.0.read().iter().find(|(ip, _)| *ip == local).map(|(_, instead)| *instead);
        match instead.unwrap_or(Some(local)) {
            None => connect(remote, None).await,
            Some(from) => once_here(from, || connect(remote, Some(from))).await,
        }
    }
}

/// Opens a stream to `remote` from one host; `None`: from where the kernel would.
async fn connect(remote: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(host) = from {
        // The port is the kernel's choice.
        socket.bind(SocketAddr::new(host, 0))?;
    }
    let stream = socket.connect(remote).await?;
    tune(&stream)?;
    Ok(stream)
}

/// Small messages leave at once, and a host that vanished without a word is noticed while its calls still live.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_DEADLINE))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_waits_for_the_address_that_it_leaves_from() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (absent, remote) = ("192.0.2.77".parse().unwrap(), "127.0.0.1:9".parse().unwrap());
        let mut tries = 0;
        let opened = runtime.block_on(once_here(absent, || {
            tries += 1;
            let tried = tries;
            async move { if tried < 3 { connect(remote, Some(absent)).await.map(|_| 0) } else { Ok(tried) } }
        }));
        assert_eq!(opened.unwrap(), 3, "no moment longer");
        let refused = || async { Err::<(), _>(io::ErrorKind::ConnectionRefused.into()) };
        let refused = runtime.block_on(once_here("127.0.0.1".parse().unwrap(), refused)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
