//! The addresses of this host's interfaces (getifaddrs), of the network and of the link.

use std::collections::BTreeSet;
use std::io;
use std::mem::{self, size_of};
use std::net::{IpAddr, SocketAddr};
use std::ptr;

use libc::sockaddr_storage;
use socket2::SockAddr;

use super::result::check;

/// The addresses of this host's interfaces that are up, loopback included.
pub fn local_addresses() -> io::Result<Vec<IpAddr>> {
    addresses(libc::IFF_UP as u32)
}

/// The Ethernet addresses of this host's interfaces, up or not, each once.
pub fn link_addresses() -> io::Result<Vec<[u8; 6]>> {
    let mut found = BTreeSet::new();
    each(|entry| {
        // SAFETY: `ifa_addr` is not null, and an address of this family is a whole sockaddr_ll.
        let link = unsafe {
            if i32::from((*entry.ifa_addr).sa_family) != libc::AF_PACKET {
                return;
            }
            ptr::read_unaligned(entry.ifa_addr.cast::<libc::sockaddr_ll>())
        };
        if link.sll_hatype == libc::ARPHRD_ETHER && link.sll_halen == 6 {
            found.extend(link.sll_addr.first_chunk::<6>().copied());
        }
    })?;
    Ok(found.into_iter().collect())
}

/// Those of interfaces that have a carrier as well.
pub fn carried_addresses() -> io::Result<Vec<IpAddr>> {
    addresses((libc::IFF_UP | libc::IFF_RUNNING) as u32)
}

/// The addresses of interfaces that have all of these flags.
fn addresses(flags: u32) -> io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    each(|entry| {
        if entry.ifa_flags & flags != flags {
            return;
        }
        // SAFETY: `ifa_addr` is a socket address of its family's size, so only as many octets are copied as that has.
        let mut storage: sockaddr_storage = unsafe { mem::zeroed() };
        let size = match i32::from(unsafe { (*entry.ifa_addr).sa_family }) {
            libc::AF_INET => size_of::<libc::sockaddr_in>(),
            libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
            _ => return,
        };
        unsafe { ptr::copy_nonoverlapping(entry.ifa_addr.cast::<u8>(), ptr::from_mut(&mut storage).cast(), size) };
        found.extend(address(&storage).map(|a| a.ip()));
    })?;
    Ok(found)
}

/// Shows each address of each interface; `ifa_addr` is not null.
fn each(mut show: impl FnMut(&libc::ifaddrs)) -> io::Result<()> {
    let mut list = ptr::null_mut();
    // SAFETY: on success `list` is a chain that is ours until freeifaddrs.
    check(unsafe { libc::getifaddrs(&mut list) })?;
    let mut next = list;
    // SAFETY: the chain ends with null.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        if !entry.ifa_addr.is_null() {
            show(entry);
        }
    }
    // SAFETY: it came from getifaddrs and nothing borrows from it any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(())
}

/// The socket address in octets of the kernel's, which may be cut short.
pub(super) fn address_in(octets: &[u8]) -> Option<SocketAddr> {
    // SAFETY: any octets are a valid sockaddr_storage, and no more are copied than it has room for.
    let mut storage: sockaddr_storage = unsafe { mem::zeroed() };
    let length = octets.len().min(size_of::<sockaddr_storage>());
    unsafe { ptr::copy_nonoverlapping(octets.as_ptr(), ptr::from_mut(&mut storage).cast(), length) };
    address(&storage)
}

/// The socket address in a storage of the kernel's.
pub(super) fn address(storage: &sockaddr_storage) -> Option<SocketAddr> {
    // SAFETY: `to` is room for a sockaddr_storage, and `storage` is copied whole.
    let fill = |to: *mut _, _| {
        unsafe { ptr::write(to, *storage) };
        Ok(())
    };
    let (_, address) = unsafe { SockAddr::try_init(|to, length| fill(to.cast(), length)) }.ok()?;
    address.as_socket()
}
