//! Addresses and links of this host, asked, changed and watched over rtnetlink. Blocking, one request at a time.
#![forbid(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecUnspec, LinkAttribute, LinkEvent, LinkFlags, LinkLayerType, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::arp::Mac;

type Message = NetlinkMessage<RouteNetlinkMessage>;

/// A network interface, as far as an address needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number; a new one when it is made again.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address; `None` if it is of another kind.
    pub mac: Option<Mac>,
    /// Up, and with a link.
    pub carrier: bool,
    /// How it treats ARP; `None` where the kernel did not say.
    pub manners: Option<Manners>,
    /// The message tells of a bond that now uses another link, or of a wish to be announced.
    pub failover: bool,
}

/// How an interface treats ARP (ip-sysctl.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manners {
    /// `arp_ignore`: 0 answers for every address of the host, 1 only for the interface's own.
    pub ignore: i32,
    /// `arp_announce`: 0 asks in the name of any address of the host, 2 only in that of the interface's own.
    pub announce: i32,
}

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface's number.
    pub index: u32,
    /// The address.
    pub ip: IpAddr,
    /// Its prefix.
    pub prefix: u8,
}

impl Address {
    /// Whether its subnet covers `ip`.
    pub fn covers(&self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                let differ = own.to_bits() ^ ip.to_bits();
                differ.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                let differ = own.to_bits() ^ ip.to_bits();
                differ.checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Asks and changes.
pub struct Netlink {
    socket: Socket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// A socket of its own.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, port, sequence: 0, buffer: Vec::with_capacity(8_192) })
    }

    /// What the kernel signs with that this socket caused.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// All interfaces.
    pub fn interfaces(&mut self) -> io::Result<Vec<Interface>> {
        let mut found = Vec::new();
        self.request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP, |message| {
            if let RouteNetlinkMessage::NewLink(link) = message {
                found.push(interface(&link));
            }
        })?;
        Ok(found)
    }

    /// All addresses.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let mut found = Vec::new();
        self.request(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP, |message| {
            if let RouteNetlinkMessage::NewAddress(message) = message {
                found.extend(address(&message));
            }
        })?;
        Ok(found)
    }

    /// Adds an address for `lease` seconds, or gives one that is there a new lease. IPv6: without duplicate address
    /// detection, and never as the source of what others send. `scope`: host for an address that stays inside.
    pub fn add(&mut self, address: Address, scope: AddressScope, lease: u32) -> io::Result<()> {
        let mut message = address_message(address, scope);
        let six = address.ip.is_ipv6();
        let mut cache = CacheInfo::default();
        (cache.ifa_valid, cache.ifa_preferred) = (lease, if six { 0 } else { lease });
        let flags = AddressFlags::Noprefixroute | if six { AddressFlags::Nodad } else { AddressFlags::empty() };
        message.header.flags = AddressHeaderFlags::from_bits_truncate(flags.bits() as u8);
        message.attributes.extend([AddressAttribute::CacheInfo(cache), AddressAttribute::Flags(flags)]);
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.request(RouteNetlinkMessage::NewAddress(message), flags, drop)
    }

    /// Removes an address. One that is not there, or whose interface is not, is removed.
    pub fn remove(&mut self, address: Address) -> io::Result<()> {
        let message = address_message(address, AddressScope::Universe);
        let done = self.request(RouteNetlinkMessage::DelAddress(message), NLM_F_ACK, drop);
        match done.as_ref().map_err(io::Error::raw_os_error) {
            Err(Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => Ok(()),
            _ => done,
        }
    }

    /// Sets how an interface treats ARP. Over netlink: `/proc/sys` is read-only for a service that is locked in.
    pub fn set_manners(&mut self, index: u32, manners: Manners) -> io::Result<()> {
        // IFLA_INET_CONF (1) holds one attribute of 8 octets for each value that changes.
        const ARP_ANNOUNCE: u16 = 18;
        const ARP_IGNORE: u16 = 19;
        let mut change = Vec::with_capacity(16);
        for (kind, value) in [(ARP_ANNOUNCE, manners.announce), (ARP_IGNORE, manners.ignore)] {
            change.extend([8, kind].map(u16::to_ne_bytes).concat());
            change.extend(value.to_ne_bytes());
        }
        let inet = AfSpecInet::Other(DefaultNla::new(1, change));
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![inet])]));
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK, drop)
    }

    /// Forgets the neighbours of an interface that are still asked for, and with each the packets that wait for its
    /// answer.
    pub fn forget_unresolved(&mut self, index: u32) -> io::Result<()> {
        let mut unresolved = Vec::new();
        self.request(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), NLM_F_DUMP, |message| {
            if let RouteNetlinkMessage::NewNeighbour(neighbour) = message
                && neighbour.header.ifindex == index
                && neighbour.header.state == NeighbourState::Incomplete
            {
                unresolved.push(neighbour);
            }
        })?;
        for mut neighbour in unresolved {
            neighbour.attributes.retain(|attribute| matches!(attribute, NeighbourAttribute::Destination(_)));
            let done = self.request(RouteNetlinkMessage::DelNeighbour(neighbour), NLM_F_ACK, drop);
            // It may have been given up meanwhile.
            done.or_else(|e| if e.raw_os_error() == Some(libc::ENOENT) { Ok(()) } else { Err(e) })?;
        }
        Ok(())
    }

    /// Sends a request and reads until its end: the acknowledgement, or the end of the dump.
    fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        (header.flags, header.sequence_number) = (NLM_F_REQUEST | flags, self.sequence);
        let mut request = Message::new(header, message.into());
        request.finalize();
        self.buffer.clear();
        self.buffer.resize(request.buffer_len(), 0);
        request.serialize(&mut self.buffer);
        self.socket.send(&self.buffer, 0)?;
        loop {
            let (answer, _) = self.socket.recv_from_full()?;
            for (header, payload) in messages(&answer) {
                if header.sequence_number != self.sequence {
                    continue;
                }
                match payload {
                    NetlinkPayload::InnerMessage(message) => take(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(()),
                    _ => {}
                }
            }
        }
    }
}

/// What changed on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An address is gone; `by` is the netlink port of who deleted it, 0 for the kernel.
    Gone {
        /// Which.
        address: Address,
        /// By whom.
        by: u32,
    },
    /// An interface is there, or is different.
    Link(Interface),
    /// An interface is gone.
    LinkGone(u32),
    /// Changes were lost: everything may be different.
    Overrun,
}

/// Watches links and addresses. Needs no privilege.
pub struct Monitor(Socket);

impl Monitor {
    /// Hears from now on.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        for group in [libc::RTNLGRP_LINK, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR] {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Monitor(socket))
    }

    /// Takes all changes that wait.
    pub fn drain(&self, mut take: impl FnMut(Change)) -> io::Result<()> {
        loop {
            match self.0.recv_from_full() {
                Ok((packet, _)) => changes(&packet).for_each(&mut take),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => take(Change::Overrun),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The messages of a packet. One that a newer kernel made unreadable is left out.
fn messages(packet: &[u8]) -> impl Iterator<Item = (NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>)> {
    let mut rest = packet;
    std::iter::from_fn(move || {
        loop {
            let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
            let message = rest.get(..length).filter(|m| m.len() >= 16)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            if let Ok(message) = Message::deserialize(message) {
                return Some(message.into_parts());
            }
        }
    })
}

fn changes(packet: &[u8]) -> impl Iterator<Item = Change> {
    messages(packet).filter_map(|(header, payload)| {
        let NetlinkPayload::InnerMessage(message) = payload else { return None };
        match message {
            RouteNetlinkMessage::DelAddress(gone) => {
                address(&gone).map(|address| Change::Gone { address, by: header.port_number })
            }
            // Ports of a bridge are told in a family of their own, without the rest.
            RouteNetlinkMessage::NewLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                Some(Change::Link(interface(&link)))
            }
            RouteNetlinkMessage::DelLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                Some(Change::LinkGone(link.header.index))
            }
            _ => None,
        }
    })
}

fn address_message(address: Address, scope: AddressScope) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if address.ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.index = address.index;
    message.header.prefix_len = address.prefix;
    message.header.scope = scope;
    message.attributes = vec![AddressAttribute::Local(address.ip), AddressAttribute::Address(address.ip)];
    message
}

/// IPv4 names the own address "local" and calls the other end of a point-to-point link "address".
fn address(message: &AddressMessage) -> Option<Address> {
    let find = |local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) if local => Some(*ip),
            AddressAttribute::Address(ip) if !local => Some(*ip),
            _ => None,
        })
    };
    let ip = find(true).or_else(|| find(false))?;
    Some(Address { index: message.header.index, ip, prefix: message.header.prefix_len })
}

fn interface(message: &LinkMessage) -> Interface {
    let flags = message.header.flags;
    let mut interface = Interface {
        index: message.header.index,
        name: String::new(),
        mac: None,
        carrier: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        manners: None,
        failover: false,
    };
    let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Address(octets) if ethernet => interface.mac = octets.as_slice().try_into().ok().map(Mac),
            LinkAttribute::Event(LinkEvent::BondingFailover | LinkEvent::NotifyPeers) => interface.failover = true,
            LinkAttribute::AfSpecUnspec(families) => {
                interface.manners = families.iter().find_map(manners);
            }
            _ => {}
        }
    }
    interface
}

fn manners(family: &AfSpecUnspec) -> Option<Manners> {
    let AfSpecUnspec::Inet(values) = family else { return None };
    values.iter().find_map(|value| match value {
        AfSpecInet::DevConf(conf) => Some(Manners { ignore: conf.arp_ignore, announce: conf.arp_announce }),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RTM_NEWLINK.
    const NEW_LINK: u16 = 16;
    /// What a kernel with a bond said of it: header (index 24, Ethernet, up, running, with a link, controller of
    /// others) and the kind.
    const BOND: [u8; 32] = [
        0, 0, 1, 0, 24, 0, 0, 0, 0x43, 0x14, 1, 0, 0, 0, 0, 0, // header
        16, 0, 18, 0, 9, 0, 1, 0, b'b', b'o', b'n', b'd', 0, 0, 0, 0, // IFLA_LINKINFO
    ];
    /// The same of a VLAN: index 34.
    const VLAN: [u8; 32] = [
        0, 0, 1, 0, 34, 0, 0, 0, 0x43, 0x10, 1, 0, 0, 0, 0, 0, // header
        16, 0, 18, 0, 9, 0, 1, 0, b'v', b'l', b'a', b'n', 0, 0, 0, 0, // IFLA_LINKINFO
    ];

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut octets = [4 + value.len() as u16, kind].map(u16::to_ne_bytes).concat();
        octets.extend(value);
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    }

    /// A packet with one message of the kernel.
    fn packet(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut octets = (16 + body.len() as u32).to_ne_bytes().to_vec();
        octets.extend([kind, 0].map(u16::to_ne_bytes).concat());
        octets.extend([0; 8]);
        octets.extend(body);
        octets
    }

    /// With the name and hardware address that every such message has, and more.
    fn told(head: &[u8], name: &[u8], more: &[u8]) -> Vec<u8> {
        packet(NEW_LINK, &[head, &attribute(3, name), &attribute(1, &[2, 0, 0, 0, 7, 1]), more].concat())
    }

    fn one(packet: &[u8]) -> Interface {
        let all: Vec<Change> = changes(packet).collect();
        let [Change::Link(interface)] = &all[..] else { panic!("{all:?}") };
        interface.clone()
    }

    #[test]
    fn a_bond_tells_of_its_carrier_and_of_its_failover() {
        let usual = one(&told(&BOND, b"bond0\0", &[]));
        let mac = Some(Mac([2, 0, 0, 0, 7, 1]));
        let bond = Interface { index: 24, name: "bond0".into(), mac, carrier: true, manners: None, failover: false };
        assert_eq!(usual, bond);
        let event = |number: u32| attribute(44, &number.to_ne_bytes());
        // IFLA_EVENT_BONDING_FAILOVER, IFLA_EVENT_NOTIFY_PEERS, and one of no concern.
        assert!(one(&told(&BOND, b"bond0\0", &event(3))).failover);
        assert!(one(&told(&BOND, b"bond0\0", &event(4))).failover);
        assert!(!one(&told(&BOND, b"bond0\0", &event(2))).failover);
        // None of its links has a carrier: up, but not LOWER_UP.
        let mut dark = BOND;
        dark[10] = 0;
        assert!(!one(&told(&dark, b"bond0\0", &[])).carrier);
    }

    #[test]
    fn a_vlan_is_an_interface_like_any_other() {
        let vlan = one(&told(&VLAN, b"eth0.101\0", &[]));
        assert_eq!((vlan.index, vlan.name.as_str(), vlan.carrier), (34, "eth0.101", true));
    }

    #[test]
    fn cut_and_unknown_messages_are_left_out() {
        let good = told(&VLAN, b"eth0.101\0", &[]);
        for length in 0..good.len() {
            assert_eq!(changes(&good[..length]).count(), 0, "{length}");
        }
        let mut odd = packet(NEW_LINK, &[0; 3]);
        odd.resize(odd.len().next_multiple_of(4), 0);
        odd.extend(&good);
        assert_eq!(changes(&odd).count(), 1, "one that cannot be read hides no other");
        assert_eq!(changes(&[0; 64]).count(), 0);
        // A port of a bridge, told in the bridge's own family (AF_BRIDGE).
        let mut port = BOND;
        port[0] = 7;
        assert_eq!(changes(&told(&port, b"bond0\0", &[])).count(), 0);
    }

    #[test]
    fn a_deletion_names_who_did_it() {
        // RTM_DELADDR: family, prefix, flags, scope, index; IFA_ADDRESS and IFA_LOCAL as on a point-to-point link.
        let body = [&[2, 32, 0x80, 0, 3, 0, 0, 0][..], &attribute(1, &[192, 0, 2, 9]), &attribute(2, &[192, 0, 2, 10])];
        let mut deletion = packet(21, &body.concat());
        deletion[12..16].copy_from_slice(&4_711u32.to_ne_bytes());
        let address = Address { index: 3, ip: "192.0.2.10".parse().unwrap(), prefix: 32 };
        assert_eq!(changes(&deletion).collect::<Vec<_>>(), [Change::Gone { address, by: 4_711 }]);
    }

    #[test]
    fn a_subnet_covers_its_own_family_only() {
        let covers = |ip: &str, prefix: u8, other: &str| {
            Address { index: 1, ip: ip.parse().unwrap(), prefix }.covers(other.parse().unwrap())
        };
        assert!(covers("192.0.2.1", 24, "192.0.2.200") && !covers("192.0.2.1", 25, "192.0.2.200"));
        assert!(covers("192.0.2.1", 32, "192.0.2.1") && !covers("192.0.2.1", 32, "192.0.2.0"));
        assert!(covers("192.0.2.1", 0, "8.8.8.8") && covers("2001:db8::1", 0, "fd00::1"));
        assert!(covers("2001:db8::1", 64, "2001:db8::ffff") && !covers("2001:db8::1", 64, "2001:db8:0:1::1"));
        assert!(!covers("192.0.2.1", 0, "::") && !covers("::", 0, "192.0.2.1"));
    }

    #[test]
    fn this_host_has_a_loopback_interface() {
        let mut netlink = Netlink::open().unwrap();
        let interfaces = netlink.interfaces().unwrap();
        let lo = interfaces.iter().find(|i| i.name == "lo").unwrap();
        assert_eq!(lo.mac, None, "not Ethernet");
        let home = Address { index: lo.index, ip: "127.0.0.1".parse().unwrap(), prefix: 8 };
        assert!(netlink.addresses().unwrap().contains(&home));
        assert!(Monitor::open().unwrap().drain(|_| ()).is_ok());
    }
}
