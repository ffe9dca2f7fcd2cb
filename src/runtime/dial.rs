//! Opening a stream of SIP: from which address, how long it may take, what its socket is told.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time;

use crate::base::Flow;
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
pub async fn once_here<T, F: Future<Output = io::Result<T>>>(
    local: IpAddr,
    mut open: impl FnMut() -> F,
) -> io::Result<T> {
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

/// Opens a stream from the host of a flow to its other end.
pub async fn connect(flow: Flow) -> io::Result<TcpStream> {
    let socket = if flow.remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // From the host that our Via names; the port is the kernel's choice.
    socket.bind(SocketAddr::new(flow.local.ip(), 0))?;
    let stream = socket.connect(flow.remote).await?;
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
    use crate::base::{ListenerId, Transport};

    #[test]
    fn a_stream_waits_for_the_address_that_it_leaves_from() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let absent = Flow {
            transport: Transport::Tcp,
            listener: ListenerId(0),
            local: "192.0.2.77:5060".parse().unwrap(),
            remote: "127.0.0.1:9".parse().unwrap(),
            conn: None,
        };
        let mut tries = 0;
        let opened = runtime.block_on(once_here(absent.local.ip(), || {
            tries += 1;
            let tried = tries;
            async move { if tried < 3 { connect(absent).await.map(|_| 0) } else { Ok(tried) } }
        }));
        assert_eq!(opened.unwrap(), 3, "no moment longer");
        let refused = || async { Err::<(), _>(io::ErrorKind::ConnectionRefused.into()) };
        let refused = runtime.block_on(once_here("127.0.0.1".parse().unwrap(), refused)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
