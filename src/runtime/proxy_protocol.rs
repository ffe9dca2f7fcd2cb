//! The PROXY protocol, version 2 (the HAProxy project's proxy-protocol.txt, §2.2): a load balancer that forwards a stream
//! says first whose it is. What lies behind the header is the stream, its TLS handshake too.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time;

use crate::base::limits;
use crate::runtime::sources::Sources;

/// What every header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Octets of the signature, version and command, family, and length.
const FIXED: usize = 16;

/// Octets behind these at most. Addresses take 36; what follows them is of no use here.
const LONGEST: usize = 2_048;

/// Streams whose header is waited for at once: balancers write it as soon as the stream stands.
const AWAITED: usize = 32;

/// The load balancers that say whose the streams are that they forward (`sip.proxy-protocol-from`).
pub struct Balancers {
    known: RwLock<Sources>,
    places: Arc<Semaphore>,
    /// Whether it was said that one of them writes no header.
    told: AtomicBool,
}

impl Default for Balancers {
    /// There are none.
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(AWAITED));
        Balancers { known: RwLock::new(Sources::only(&[], [])), places, told: AtomicBool::new(false) }
    }
}

impl Balancers {
    /// From now on these.
    pub fn are(&self, known: Sources) {
        *self.known.write() = known;
        self.told.store(false, Ordering::Relaxed);
    }

    /// Whether a stream from this host is somebody else's.
    pub fn forward(&self, host: IpAddr) -> bool {
        self.known.read().permit(host)
    }

    /// A place to wait for one header in.
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Whose stream this is. `None`: the balancer at `remote` did not say it in time, or not as it should.
    pub async fn source(&self, stream: &mut (impl AsyncRead + Unpin), remote: SocketAddr) -> Option<SocketAddr> {
        let wrong = match time::timeout(limits::HEADER_DEADLINE, read(stream)).await {
            Ok(Ok(source)) => return Some(source.unwrap_or(remote)),
            Ok(Err(wrong)) => wrong,
            Err(_) => Wrong::Late,
        };
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the load balancer {} {wrong}; have it send PROXY headers of version 2 (in HAProxy: send-proxy-v2, and \
                 check-send-proxy), or take it out of sip.proxy-protocol-from; this is said once, \
                 tandem_streams_closed_total{{reason=\"proxy-header\"}} counts",
                remote.ip()
            );
        }
        None
    }
}

/// Why a header is none.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    /// Something else came.
    Absent,
    /// A version other than 2, or a command that this version has not.
    Unknown,
    /// It is longer than any that is of use.
    Long,
    /// It has no room for its addresses.
    Short,
    /// It was not complete in time.
    Late,
    /// The stream ended before.
    Ended,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wrong::Absent => "opened a stream that does not begin with a PROXY header of version 2",
            Wrong::Unknown => "sent a PROXY header of an unknown version or with an unknown command",
            Wrong::Long => "sent a PROXY header that is too long",
            Wrong::Short => "sent a PROXY header that is too short for its addresses",
            Wrong::Late => "opened a stream and sent no whole PROXY header in time",
            Wrong::Ended => "opened a stream and closed it before its PROXY header was whole",
        })
    }
}

impl From<io::Error> for Wrong {
    fn from(_: io::Error) -> Self {
        Wrong::Ended
    }
}

/// Takes a header off a stream and nothing behind it. `None`: the stream is the balancer's own, or it does not say whose.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, Wrong> {
    let mut fixed = [0; FIXED];
    stream.read_exact(&mut fixed).await?;
    let [.., version_and_command, family, high, low] = fixed;
    if fixed[..SIGNATURE.len()] != SIGNATURE {
        return Err(Wrong::Absent);
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST {
        return Err(Wrong::Long);
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match version_and_command {
        // LOCAL: the balancer looks after its streams.
        0x20 => Ok(None),
        0x21 => source(family, &rest),
        _ => Err(Wrong::Unknown),
    }
}

fn source(family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, Wrong> {
    // Addresses of source and destination, then their ports.
    let (ip, ports): (IpAddr, usize) = match family {
        0x11 => (Ipv4Addr::from(*rest.first_chunk().ok_or(Wrong::Short)?).into(), 8),
        0x21 => (Ipv6Addr::from(*rest.first_chunk().ok_or(Wrong::Short)?).to_canonical(), 32),
        _ => return Ok(None),
    };
    match rest.get(ports..ports + 4) {
        Some(&[high, low, ..]) => Ok(Some((ip, u16::from_be_bytes([high, low])).into())),
        _ => Err(Wrong::Short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE, &[version_and_command, family][..], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x13, 0xC4, 0x13, 0xC5];

    /// What is read of `octets`, and what is left behind it.
    fn read_of(octets: &[u8]) -> (Result<Option<String>, Wrong>, String) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut stream = octets;
        let read = runtime.block_on(read(&mut stream));
        (read.map(|source| source.map(|s| s.to_string())), String::from_utf8_lossy(stream).into_owned())
    }

    #[test]
    fn a_header_says_whose_the_stream_behind_it_is() {
        let of = |header: Vec<u8>| read_of(&[&header, &b"OPTIONS"[..]].concat());
        let behind = |source: Option<&str>| (Ok(source.map(String::from)), String::from("OPTIONS"));
        assert_eq!(of(header(0x21, 0x11, &V4)), behind(Some("192.0.2.7:5060")));
        assert_eq!(of(header(0x21, 0x11, &[&V4[..], &[4, 0, 1, 9]].concat())), behind(Some("192.0.2.7:5060")));
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        v6[32..].copy_from_slice(&[0x13, 0xC4, 0, 1]);
        assert_eq!(of(header(0x21, 0x21, &v6)), behind(Some("[2001:db8::7]:5060")));
        v6[..16].copy_from_slice(&"::ffff:192.0.2.7".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(of(header(0x21, 0x21, &v6)), behind(Some("192.0.2.7:5060")));
        // LOCAL, UNSPEC, datagrams, sockets of a file system: the balancer itself, or nobody knows.
        assert_eq!(of(header(0x20, 0x11, &V4)), behind(None));
        assert_eq!(of(header(0x20, 0, &[])), behind(None));
        for family in [0, 0x12, 0x31] {
            assert_eq!(of(header(0x21, family, &V4)), behind(None), "{family:#x}");
        }
    }

    #[test]
    fn what_is_no_header_is_told_apart() {
        assert_eq!(read_of(b"OPTIONS sip:a@b SIP/2.0\r\n").0, Err(Wrong::Absent));
        assert_eq!(read_of(b"PROXY TCP4 192.0.2.7 198.51.100.1 5060 5061\r\n").0, Err(Wrong::Absent), "version 1");
        for (version_and_command, wrong) in [(0x11, Wrong::Unknown), (0x22, Wrong::Unknown), (0x31, Wrong::Unknown)] {
            assert_eq!(read_of(&header(version_and_command, 0x11, &V4)).0, Err(wrong));
        }
        assert_eq!(read_of(&header(0x21, 0x11, &vec![0; LONGEST])).0, Ok(Some("0.0.0.0:0".into())));
        assert_eq!(read_of(&header(0x21, 0x11, &vec![0; LONGEST + 1])).0, Err(Wrong::Long));
        for (family, whole) in [(0x11, 12), (0x21, 36)] {
            for length in 0..whole {
                assert_eq!(
                    read_of(&header(0x21, family, &vec![0; length])).0,
                    Err(Wrong::Short),
                    "{family:#x} {length}"
                );
            }
        }
        let whole = header(0x21, 0x11, &V4);
        for length in 0..whole.len() {
            assert_eq!(read_of(&whole[..length]).0, Err(Wrong::Ended), "{length}");
        }
    }
}
