//! Whole frames of a link (AF_PACKET), and descriptors that travel over a Unix socket (SCM_RIGHTS).

use std::io;
use std::mem::{self, MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use libc::{c_int, iovec, msghdr, sockaddr_ll, socklen_t};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};

use super::result::check;

/// Descriptors that one message may carry; the kernel allows 253.
pub const DESCRIPTORS: usize = 64;

/// Sends and receives frames of one EtherType on all interfaces, Ethernet header included.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
    protocol: u16,
}

impl PacketSocket {
    /// Needs CAP_NET_RAW. Only frames that `filter` (classic BPF) accepts are received; the socket never blocks.
    pub fn open(protocol: u16, filter: &[SockFilter]) -> io::Result<Self> {
        // Protocol 0 receives nothing, so that no frame slips in before the filter stands.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        socket.attach_filter(filter)?;
        socket.set_nonblocking(true)?;
        socket.bind(&link(protocol, 0))?;
        Ok(Self { socket, protocol })
    }

    /// Sends a whole frame on the interface with this index.
    pub fn send(&self, index: u32, frame: &[u8]) -> io::Result<()> {
        self.socket.send_to(frame, &link(self.protocol, index)).map(drop)
    }

    /// The next frame, cut to the buffer: its length and the index of its interface. `WouldBlock`: there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, u32)> {
        // SAFETY: the kernel only writes octets, and u8 has no invalid ones.
        let room = unsafe { &mut *(ptr::from_mut::<[u8]>(buffer) as *mut [MaybeUninit<u8>]) };
        let (length, from) = self.socket.recv_from(room)?;
        // SAFETY: a packet socket names its sources as sockaddr_ll, and the storage behind `from` is larger than one.
        let from = unsafe { ptr::read_unaligned(from.as_ptr().cast::<sockaddr_ll>()) };
        Ok((length, from.sll_ifindex as u32))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn link(protocol: u16, index: u32) -> SockAddr {
    let fill = |to: *mut _, length: *mut socklen_t| {
        // SAFETY: all-zero bits are a valid sockaddr_ll; `to` is room for a sockaddr_storage, which is larger.
        let mut address: sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = index as c_int;
        unsafe {
            ptr::write_unaligned(to, address);
            *length = size_of::<sockaddr_ll>() as socklen_t;
        }
        Ok(())
    };
    // SAFETY: `fill` writes a whole address and its length.
    unsafe { SockAddr::try_init(|to, length| fill(to.cast(), length)) }.expect("fill does not fail").1
}

/// Room for one SCM_RIGHTS message with [`DESCRIPTORS`] descriptors, aligned as `cmsghdr` wants it.
type Rights = [u64; 2 + DESCRIPTORS / 2];

/// Sends one message with descriptors, at most [`DESCRIPTORS`], over a Unix socket. Never blocks.
pub fn send_with(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<c_int> = descriptors.iter().take(DESCRIPTORS).map(AsRawFd::as_raw_fd).collect();
    let mut rights: Rights = [0; 2 + DESCRIPTORS / 2];
    let mut vector = iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero bits are a valid msghdr; the control message is written within `rights`, which is large enough
    // for as many descriptors as `raw` has; the kernel only reads `bytes`.
    let sent = unsafe {
        let mut header: msghdr = mem::zeroed();
        header.msg_iov = &mut vector;
        header.msg_iovlen = 1;
        if !raw.is_empty() {
            let size = mem::size_of_val(raw.as_slice());
            header.msg_control = ptr::from_mut(&mut rights).cast();
            header.msg_controllen = libc::CMSG_SPACE(size as u32) as usize;
            let entry = libc::CMSG_FIRSTHDR(&header);
            (*entry).cmsg_level = libc::SOL_SOCKET;
            (*entry).cmsg_type = libc::SCM_RIGHTS;
            (*entry).cmsg_len = libc::CMSG_LEN(size as u32) as usize;
            ptr::copy_nonoverlapping(raw.as_ptr().cast(), libc::CMSG_DATA(entry), size);
        }
        libc::sendmsg(socket.as_raw_fd(), &header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    check(sent as c_int).map(drop)
}

/// Receives one message and the descriptors that came with it. Never blocks; 0 octets are the end of the other side.
pub fn receive_with(socket: BorrowedFd<'_>, bytes: &mut [u8], into: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut rights: Rights = [0; 2 + DESCRIPTORS / 2];
    let mut vector = iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero bits are a valid msghdr.
    let mut header: msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &mut vector;
    header.msg_iovlen = 1;
    header.msg_control = ptr::from_mut(&mut rights).cast();
    header.msg_controllen = size_of::<Rights>();
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: every pointer in the header is to a local or to `bytes`, with its true length.
    let length = check(unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, flags) } as c_int)?;
    // SAFETY: the kernel wrote `msg_controllen` octets of control messages into `rights`, which this walks; descriptors
    // of SCM_RIGHTS are new and owned by nobody else.
    unsafe {
        let mut entry = libc::CMSG_FIRSTHDR(&header);
        while let Some(control) = entry.as_ref() {
            if (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let count = (control.cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<c_int>();
                let data = libc::CMSG_DATA(entry).cast::<c_int>();
                into.extend((0..count).map(|n| OwnedFd::from_raw_fd(ptr::read_unaligned(data.add(n)))));
            }
            entry = libc::CMSG_NXTHDR(&header, entry);
        }
    }
    Ok(length as usize)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn descriptors_arrive_and_name_the_same_socket() {
        let (here, there) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        let sockets = [UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap()];
        send_with(here.as_fd(), b"take", &[sockets[0].as_fd(), sockets[1].as_fd()]).unwrap();
        send_with(here.as_fd(), b"none", &[]).unwrap();

        let (mut bytes, mut descriptors) = ([0; 16], Vec::new());
        assert_eq!(receive_with(there.as_fd(), &mut bytes, &mut descriptors).unwrap(), 4);
        assert_eq!(&bytes[..4], b"take");
        let names: Vec<_> = descriptors.drain(..).map(|d| UdpSocket::from(d).local_addr().unwrap()).collect();
        assert_eq!(names, sockets.map(|s| s.local_addr().unwrap()));

        assert_eq!(receive_with(there.as_fd(), &mut bytes, &mut descriptors).unwrap(), 4);
        assert!(descriptors.is_empty());
        let empty = receive_with(there.as_fd(), &mut bytes, &mut descriptors).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        drop(here);
        assert_eq!(receive_with(there.as_fd(), &mut bytes, &mut descriptors).unwrap(), 0);
    }
}
