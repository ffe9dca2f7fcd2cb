//! System calls that std, socket2 and tokio do not offer, behind safe types: batches of datagrams with their local
//! address, the error queue, ppoll, eventfd, the boot-time clock; in files of their own addresses of interfaces, filters of
//! sockets, link-layer frames, passed descriptors, privileges and priorities. The only unsafe module.
#![expect(
    unsafe_code,
    reason = "recvmmsg, sendmmsg, control messages, ppoll, eventfd and getifaddrs have no safe form"
)]

mod result;
mod interfaces;
pub mod filter;
pub mod packet;
pub mod process;

use std::fs::File;
use std::io;
use std::mem::{self, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libc::{c_int, cmsghdr, iovec, mmsghdr, msghdr, sockaddr_storage, socklen_t};
use socket2::SockAddr;

use self::interfaces::{address, address_in};
pub use self::interfaces::{carried_addresses, link_addresses, local_addresses};
pub use self::process::hurry;
use self::result::check;
pub use self::result::is_of_the_peer;
use crate::base::{Time, limits};
use crate::runtime::datagram::{Datagram, Packet, Refused, Wait};

/// Datagrams of one [`Inbox`] or one [`Outbox`] call.
pub const SLOTS: usize = 64;

/// Slots lie this far apart: a whole datagram, and not a multiple of the page size, so that the first lines of all
/// slots do not compete for one set of the L1 cache.
const STRIDE: usize = (limits::MESSAGE + 1) + 448;

/// Room for every control message that is asked for, aligned as `cmsghdr` wants it.
type Control = [u64; 24];

/// The boot-time clock: it also counts while the machine sleeps, and nobody can set it.
pub fn now() -> Time {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec; this clock exists since Linux 2.6.39, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut t) };
    Time::from_micros(t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1_000)
}

/// A new eventfd, non-blocking.
pub fn event() -> io::Result<File> {
    // SAFETY: eventfd takes no pointers; its descriptor is new and owned by nobody else.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Puts another socket, with all that it is bound to, in the place of an open one: whoever uses `place` uses `socket`
/// from now on. A call that is waiting in the old one goes on with it until it returns.
pub fn put_over(place: BorrowedFd<'_>, socket: OwnedFd) -> io::Result<()> {
    // SAFETY: dup3 takes numbers, and both descriptors are open for the call.
    check(unsafe { libc::dup3(socket.as_raw_fd(), place.as_raw_fd(), libc::O_CLOEXEC) }).map(drop)
}

/// One descriptor to wait for.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Interest(libc::pollfd);

impl Interest {
    /// Something to read, or an error. The caller keeps the descriptor open while it polls.
    pub fn readable(fd: BorrowedFd<'_>) -> Self {
        Interest(libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 })
    }

    /// Nothing: keeps a place.
    pub fn none() -> Self {
        Interest(libc::pollfd { fd: -1, events: 0, revents: 0 })
    }

    /// Room to write, too.
    pub fn or_writable(mut self) -> Self {
        self.0.events |= libc::POLLOUT;
        self
    }

    /// Whether the last [`poll`] found room to write, or an error.
    pub fn writable(&self) -> bool {
        self.0.revents & (libc::POLLOUT | libc::POLLERR | libc::POLLHUP) != 0
    }

    /// Whether the last [`poll`] found something to read, or an error (POLLERR).
    pub fn ready(&self) -> bool {
        self.0.revents != 0
    }

    /// Forgets what the last [`poll`] found.
    pub fn clear(&mut self) {
        self.0.revents = 0;
    }

    /// Whether the last [`poll`] found a pending error.
    pub fn error(&self) -> bool {
        self.0.revents & libc::POLLERR != 0
    }
}

/// Sleeps until one of `interests` is ready or `timeout` has passed (`None`: no limit). A signal ends it early with 0.
pub fn poll(interests: &mut [Interest], timeout: Option<Duration>) -> io::Result<usize> {
    let timeout = timeout.map(|t| libc::timespec {
        tv_sec: t.as_secs().min(86_400) as libc::time_t,
        tv_nsec: libc::c_long::from(t.subsec_nanos() as i32),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `Interest` is a transparent pollfd, the length is the slice's; `timeout` is null or valid for the call.
    let n =
        unsafe { libc::ppoll(interests.as_mut_ptr().cast(), interests.len() as libc::nfds_t, timeout, ptr::null()) };
    match check(n) {
        Ok(n) => Ok(n as usize),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => {
            // The kernel wrote no results; those of the last call are stale.
            interests.iter_mut().for_each(Interest::clear);
            Ok(0)
        }
        Err(e) => Err(e),
    }
}

/// Sets a UDP socket up for [`Inbox`], [`waiting`] and [`read_refused`]: local address and time of what comes in, drop
/// counter, error queue, and no path-MTU guessing (large datagrams are fragmented instead of lost).
pub fn prepare(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    option(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    queue_errors(socket, v6)?;
    if v6 {
        option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)
    } else {
        option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
    }
}

/// Sets a UDP socket up for [`read_refused`] alone. Without it the kernel keeps to itself what it takes for passing: that
/// nobody answers ARP, that a router has no route.
pub fn queue_errors(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    let (level, name) =
        if v6 { (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) } else { (libc::IPPROTO_IP, libc::IP_RECVERR) };
    option(socket, level, name, 1)
}

fn option(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let size = size_of::<c_int>() as socklen_t;
    // SAFETY: the value is a c_int and its size is passed along.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, ptr::from_ref(&value).cast(), size) }).map(drop)
}

/// Receive buffers of one worker thread, used again for each batch. Memory is touched only as far as datagrams reach.
pub struct Inbox {
    memory: Vec<u8>,
    headers: Vec<mmsghdr>,
    /// What `headers` points into; never moved or resized.
    _vectors: Vec<iovec>,
    names: Vec<sockaddr_storage>,
    controls: Vec<Control>,
    filled: usize,
}

impl Inbox {
    /// Buffers for [`SLOTS`] datagrams of any size.
    #[expect(clippy::new_without_default, reason = "4 MiB are not a default")]
    pub fn new() -> Self {
        let mut memory = vec![0; SLOTS * STRIDE];
        // SAFETY: all-zero bits are a valid sockaddr_storage and a valid mmsghdr (null pointers, zero lengths).
        let (mut names, mut headers) = unsafe { (vec![mem::zeroed(); SLOTS], vec![mem::zeroed::<mmsghdr>(); SLOTS]) };
        let mut controls: Vec<Control> = vec![[0; 24]; SLOTS];
        let mut vectors: Vec<iovec> = memory
            .chunks_exact_mut(STRIDE)
            .map(|slot| iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: limits::MESSAGE })
            .collect();
        for (n, header) in headers.iter_mut().enumerate() {
            header.msg_hdr.msg_iov = &mut vectors[n];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = ptr::from_mut::<sockaddr_storage>(&mut names[n]).cast();
            header.msg_hdr.msg_control = ptr::from_mut(&mut controls[n]).cast();
        }
        Self { memory, headers, _vectors: vectors, names, controls, filled: SLOTS }
    }

    /// Receives what is there, at most [`SLOTS`] datagrams. Errors: `WouldBlock` (nothing came), and pending socket
    /// errors, whose cause [`read_refused`] tells.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, wait: Wait) -> io::Result<usize> {
        for header in &mut self.headers[..self.filled] {
            header.msg_hdr.msg_namelen = size_of::<sockaddr_storage>() as socklen_t;
            header.msg_hdr.msg_controllen = size_of::<Control>();
            header.msg_hdr.msg_flags = 0;
        }
        self.filled = 0;
        let flags = if wait == Wait::No { libc::MSG_DONTWAIT } else { libc::MSG_WAITFORONE };
        // SAFETY: each header points to its own slot, name and control buffer, all owned by self and of the lengths
        // that the header says.
        let n = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), SLOTS as u32, flags, ptr::null_mut())
        };
        self.filled = check(n)? as usize;
        Ok(self.filled)
    }

    /// A datagram of the last batch; `None` if its source is not an IP address.
    pub fn datagram(&self, n: usize) -> Option<Datagram<'_>> {
        let header = &self.headers[..self.filled][n];
        let start = n * STRIDE;
        let mut datagram = Datagram {
            bytes: &self.memory[start..start + (header.msg_len as usize).min(limits::MESSAGE)],
            source: address(&self.names[n])?,
            local: None,
            dropped: None,
        };
        for (control, data) in controls(&header.msg_hdr, &self.controls[n]) {
            match (control.cmsg_level, control.cmsg_type) {
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => datagram.dropped = read::<u32>(data),
                _ => datagram.local = datagram.local.or(packet_info(control, data)),
            }
        }
        Some(datagram)
    }
}

/// How long the oldest datagram has waited in a [prepared](prepare) socket; `None` if none waits. It stays there. By the
/// wall clock, the only one that the kernel stamps datagrams with: a step of that clock shows in what waited meanwhile.
#[expect(clippy::disallowed_methods, reason = "the kernel's stamps have no other clock")]
pub fn waiting(socket: BorrowedFd<'_>) -> Option<Duration> {
    let mut control: Control = [0; 24];
    // SAFETY: all-zero bits are a valid msghdr, one without a name and without room for octets.
    let mut header: msghdr = unsafe { mem::zeroed() };
    header.msg_control = ptr::from_mut(&mut control).cast();
    header.msg_controllen = size_of::<Control>();
    // SAFETY: the control buffer is a local, of the length that the header says.
    let n = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
    if n < 0 {
        return None;
    }
    let stamp = |(control, data): (&cmsghdr, _)| {
        (control.cmsg_level == libc::SOL_SOCKET && control.cmsg_type == libc::SCM_TIMESTAMPNS).then(|| read(data))
    };
    let stamp: libc::timespec = controls(&header, &control).find_map(stamp)??;
    let came = UNIX_EPOCH + Duration::new(stamp.tv_sec.try_into().ok()?, stamp.tv_nsec.try_into().ok()?);
    Some(SystemTime::now().duration_since(came).unwrap_or_default())
}

/// Send headers, used again for each batch.
#[derive(Default)]
pub struct Outbox {
    headers: Vec<mmsghdr>,
    vectors: Vec<iovec>,
    names: Vec<SockAddr>,
    controls: Vec<Control>,
}

// SAFETY: the pointers inside are written and used within one call of `send` and never read afterwards.
unsafe impl Send for Outbox {}

impl Outbox {
    /// Sends the first of `packets`, at most [`SLOTS`], without waiting. Returns how many the kernel took; an error
    /// concerns the first packet, or is a pending socket error that an earlier one caused.
    pub fn send(&mut self, socket: BorrowedFd<'_>, packets: &[Packet<'_>]) -> io::Result<usize> {
        let packets = &packets[..packets.len().min(SLOTS)];
        self.names.clear();
        self.names.extend(packets.iter().map(|p| SockAddr::from(p.to)));
        self.vectors.clear();
        // The kernel only reads through iov_base when it sends.
        self.vectors.extend(
            packets.iter().map(|p| iovec { iov_base: p.bytes.as_ptr().cast_mut().cast(), iov_len: p.bytes.len() }),
        );
        self.controls.resize(SLOTS, [0; 24]);
        self.headers.clear();
        for (n, packet) in packets.iter().enumerate() {
            // SAFETY: all-zero bits are a valid mmsghdr.
            let mut header: mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_name = self.names[n].as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = self.names[n].len();
            header.msg_hdr.msg_iov = &mut self.vectors[n];
            header.msg_hdr.msg_iovlen = 1;
            if let Some(from) = packet.from {
                write_packet_info(&mut header.msg_hdr, &mut self.controls[n], from, packet.to);
            }
            self.headers.push(header);
        }
        // SAFETY: every header points to buffers of `self` and `packets` that live and stay unmoved until the call ends.
        let n = unsafe {
            let headers = self.headers.as_mut_ptr();
            libc::sendmmsg(socket.as_raw_fd(), headers, packets.len() as u32, libc::MSG_DONTWAIT)
        };
        check(n).map(|n| n as usize)
    }
}

/// Takes one entry from a socket's error queue (IP_RECVERR); `None` when it is empty. `memory` receives the quotation.
pub fn read_refused<'a>(socket: BorrowedFd<'_>, memory: &'a mut [u8]) -> Option<Refused<'a>> {
    let mut control: Control = [0; 24];
    let mut vector = iovec { iov_base: memory.as_mut_ptr().cast(), iov_len: memory.len() };
    // SAFETY: all-zero bits are a valid msghdr and sockaddr_storage.
    let (mut header, mut name): (msghdr, sockaddr_storage) = unsafe { (mem::zeroed(), mem::zeroed()) };
    header.msg_name = ptr::from_mut(&mut name).cast();
    header.msg_namelen = size_of::<sockaddr_storage>() as socklen_t;
    header.msg_iov = &mut vector;
    header.msg_iovlen = 1;
    header.msg_control = ptr::from_mut(&mut control).cast();
    header.msg_controllen = size_of::<Control>();
    // SAFETY: every pointer in the header is to a local or to `memory`, with its true length.
    let n = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
    let quoted = memory.get(..usize::try_from(n).ok()?)?;
    let (mut from, mut cause, mut by) = (None, None, None);
    for (entry, data) in controls(&header, &control) {
        match (entry.cmsg_level, entry.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                cause = read::<libc::sock_extended_err>(data).map(|e| io::Error::from_raw_os_error(e.ee_errno as i32));
                // Behind the error stands who told of it, of no family if nobody did.
                by = data.get(size_of::<libc::sock_extended_err>()..).and_then(address_in).map(|a| a.ip());
            }
            _ => from = from.or(packet_info(entry, data)),
        }
    }
    Some(Refused { quoted, to: address(&name)?, from, by, cause: cause? })
}

/// The control messages that the kernel wrote into `buffer`, each with its data.
fn controls<'a>(header: &'a msghdr, buffer: &'a Control) -> impl Iterator<Item = (&'a cmsghdr, &'a [u8])> {
    let end = buffer.as_ptr() as usize + size_of::<Control>();
    // SAFETY: the kernel filled `msg_controllen` octets of `buffer` with control messages, which these walk.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    std::iter::successors(unsafe { first.as_ref() }, move |c| unsafe { libc::CMSG_NXTHDR(header, *c).as_ref() }).map(
        move |c| {
            // SAFETY: `cmsg_len` counts from the header's start and was written by the kernel; cut at the buffer's end.
            let data = unsafe { libc::CMSG_DATA(c) };
            let length = (ptr::from_ref(c) as usize + c.cmsg_len).min(end).saturating_sub(data as usize);
            (c, unsafe { std::slice::from_raw_parts(data, length) })
        },
    )
}

/// Types of the kernel's interface that any bits make a valid value of.
trait Plain: Copy {}
impl Plain for u32 {}
impl Plain for libc::timespec {}
impl Plain for libc::in_pktinfo {}
impl Plain for libc::in6_pktinfo {}
impl Plain for libc::sock_extended_err {}

fn read<T: Plain>(data: &[u8]) -> Option<T> {
    // SAFETY: enough octets are there, and any bits are a valid T.
    (data.len() >= size_of::<T>()).then(|| unsafe { ptr::read_unaligned(data.as_ptr().cast()) })
}

fn packet_info(control: &cmsghdr, data: &[u8]) -> Option<IpAddr> {
    match (control.cmsg_level, control.cmsg_type) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            read::<libc::in_pktinfo>(data).map(|i| Ipv4Addr::from(i.ipi_addr.s_addr.to_ne_bytes()).into())
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            read::<libc::in6_pktinfo>(data).map(|i| Ipv6Addr::from(i.ipi6_addr.s6_addr).into())
        }
        _ => None,
    }
}

fn write_packet_info(header: &mut msghdr, control: &mut Control, from: IpAddr, to: SocketAddr) {
    match from {
        IpAddr::V4(ip) => {
            let source = libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: source };
            write_control(header, control, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        IpAddr::V6(ip) => {
            // A link-local destination says which interface it is on.
            let scope = if let SocketAddr::V6(to) = to { to.scope_id() } else { 0 };
            let source = libc::in6_addr { s6_addr: ip.octets() };
            let info = libc::in6_pktinfo { ipi6_addr: source, ipi6_ifindex: scope };
            write_control(header, control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
}

fn write_control<T: Plain>(header: &mut msghdr, control: &mut Control, level: c_int, kind: c_int, value: T) {
    let size = size_of::<T>() as u32;
    header.msg_control = ptr::from_mut(control).cast();
    // SAFETY: `control` is aligned for cmsghdr and larger than one header with any Plain value.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(size) as usize;
        let entry = libc::CMSG_FIRSTHDR(header);
        (*entry).cmsg_level = level;
        (*entry).cmsg_type = kind;
        (*entry).cmsg_len = libc::CMSG_LEN(size) as usize;
        ptr::write_unaligned(libc::CMSG_DATA(entry).cast(), value);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    fn socket(addr: &str) -> UdpSocket {
        let socket = UdpSocket::bind(addr).unwrap();
        prepare(socket.as_fd(), socket.local_addr().unwrap().is_ipv6()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    fn carries(wildcard: &str, ours: &str, theirs: &str) {
        let (ours, theirs): (IpAddr, IpAddr) = (ours.parse().unwrap(), theirs.parse().unwrap());
        let us = socket(wildcard);
        let port = us.local_addr().unwrap().port();
        let peer = UdpSocket::bind((theirs, 0)).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        peer.send_to(b"one", (ours, port)).unwrap();
        peer.send_to(b"second", (ours, port)).unwrap();

        let mut inbox = Inbox::new();
        assert_eq!(inbox.receive(us.as_fd(), Wait::ForOne).unwrap(), 2);
        let second = inbox.datagram(1).unwrap();
        assert_eq!((second.bytes, second.source), (&b"second"[..], peer.local_addr().unwrap()));
        assert_eq!(second.local, Some(ours));
        assert_eq!(inbox.receive(us.as_fd(), Wait::No).unwrap_err().kind(), io::ErrorKind::WouldBlock);

        let packet = Packet { bytes: b"back", to: peer.local_addr().unwrap(), from: Some(ours) };
        assert_eq!(Outbox::default().send(us.as_fd(), &[packet, packet]).unwrap(), 2);
        let mut memory = [0; 16];
        let (length, source) = peer.recv_from(&mut memory).unwrap();
        assert_eq!((&memory[..length], source), (&b"back"[..], SocketAddr::new(ours, port)));
    }

    #[test]
    fn datagrams_come_with_and_leave_from_their_local_address() {
        // The kernel's own choice towards 127.0.0.1 would be 127.0.0.1.
        carries("0.0.0.0:0", "127.0.0.2", "127.0.0.1");
        carries("[::]:0", "::1", "::1");
    }

    #[test]
    fn the_oldest_datagram_tells_how_long_it_has_waited_and_stays() {
        let us = socket("127.0.0.1:0");
        assert_eq!(waiting(us.as_fd()), None);
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let begun = std::time::Instant::now();
        peer.send_to(b"one", us.local_addr().unwrap()).unwrap();
        poll(&mut [Interest::readable(us.as_fd())], Some(Duration::from_secs(5))).unwrap();
        let first = waiting(us.as_fd()).unwrap();
        assert!(first <= begun.elapsed());
        while waiting(us.as_fd()).unwrap() <= first {}
        let mut inbox = Inbox::new();
        assert_eq!(inbox.receive(us.as_fd(), Wait::No).unwrap(), 1);
        assert_eq!(inbox.datagram(0).unwrap().local, Some([127, 0, 0, 1].into()));
        assert_eq!(waiting(us.as_fd()), None);
    }

    #[test]
    fn a_closed_port_comes_back_with_its_quotation() {
        let us = socket("127.0.0.1:0");
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let packet = Packet { bytes: b"BYE sip:nobody SIP/2.0", to: gone, from: None };
        Outbox::default().send(us.as_fd(), &[packet]).unwrap();
        let mut interests = [Interest::readable(us.as_fd())];
        poll(&mut interests, Some(Duration::from_secs(5))).unwrap();
        assert!(interests[0].error());
        let mut memory = [0; 1024];
        let refused = read_refused(us.as_fd(), &mut memory).unwrap();
        assert_eq!((refused.quoted, refused.to), (&b"BYE sip:nobody SIP/2.0"[..], gone));
        assert_eq!((refused.from, refused.by), (Some([127, 0, 0, 1].into()), Some([127, 0, 0, 1].into())));
        assert_eq!(refused.cause.kind(), io::ErrorKind::ConnectionRefused);
        assert!(read_refused(us.as_fd(), &mut memory).is_none());
    }

    #[test]
    fn time_moves_and_loopback_is_a_local_address() {
        let then = now();
        assert!(then > Time::ZERO && now() >= then);
        assert!(local_addresses().unwrap().contains(&[127, 0, 0, 1].into()));
        assert!(carried_addresses().unwrap().contains(&[127, 0, 0, 1].into()));
    }

    #[test]
    fn every_ethernet_interface_has_its_address() {
        let told = |path: std::path::PathBuf, what: &str| std::fs::read_to_string(path.join(what)).unwrap_or_default();
        let links = std::fs::read_dir("/sys/class/net").unwrap().map(|entry| entry.unwrap().path());
        let ethernet = links.filter(|path| told(path.clone(), "type").trim() == "1");
        let shown: BTreeSet<String> = ethernet.map(|path| told(path, "address").trim().to_owned()).collect();
        let hex = |mac: [u8; 6]| mac.map(|octet| format!("{octet:02x}")).join(":");
        assert_eq!(link_addresses().unwrap().into_iter().map(hex).collect::<BTreeSet<_>>(), shown);
    }
}
