//! Where each virtual address belongs, and putting it there.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_route::address::AddressScope;

use super::arp::Mac;
use super::event::Refusal;
use super::keeper::LEASE;
use super::netlink::{Address, Change, Interface, Manners, Netlink};
use crate::config::VirtualIp;

/// A virtual address and its interface, which is found by name for as long as the guard lives.
#[derive(Clone, Debug)]
pub struct Place {
    /// The address.
    pub ip: IpAddr,
    prefix: u8,
    /// The interface as last heard of.
    pub interface: Interface,
    /// Its Ethernet address.
    pub mac: Mac,
    /// How its interface treated ARP before that was changed for this address.
    before: Option<Manners>,
}

/// What a change of this host means for the places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Somebody deleted this address.
    Deleted(IpAddr),
    /// This interface has lost its link.
    CarrierLost(String),
    /// It has it again, and so has every other one.
    CarrierBack(String),
    /// The way to an address is a new one, or may be.
    Moved,
}

/// All places, and the means to change them.
pub struct Places {
    netlink: Netlink,
    /// Each address of the settings.
    pub all: Vec<Place>,
    loopback: u32,
    quiet: bool,
}

impl Places {
    /// Finds the interface of each address, and removes what an earlier guard may have left.
    pub fn find(addresses: &[VirtualIp]) -> Result<Places, Refusal> {
        let system = |what: &str| {
            let what = what.to_owned();
            move |e: io::Error| Refusal::System(format!("{what}: {e}"))
        };
        let mut netlink = Netlink::open().map_err(system("no netlink socket"))?;
        let interfaces = netlink.interfaces().map_err(system("cannot list the interfaces"))?;
        let present = netlink.addresses().map_err(system("cannot list the addresses"))?;
        let subnets: Vec<Address> =
            present.iter().copied().filter(|a| addresses.iter().all(|v| v.ip != a.ip)).collect();
        let all = addresses.iter().map(|v| place(v, &interfaces, &subnets)).collect::<Result<_, _>>()?;
        let loopback = interfaces.iter().find(|i| i.name == "lo").map_or(1, |i| i.index);
        let mut places = Places { netlink, all, loopback, quiet: true };
        places.release().map_err(Refusal::System)?;
        Ok(places)
    }

    /// Puts all on their interfaces, or none.
    pub fn claim(&mut self) -> Result<(), String> {
        for n in 0..self.all.len() {
            if let Err(e) = self.add(n) {
                // The keeper releases the rest.
                return Err(self.why(n, "cannot be added", &e));
            }
        }
        self.leave_loopback()
    }

    /// Takes all off the link. A Linux host takes in datagrams for any address it has, so they go to the loopback
    /// interface; ARP answers for those too, and asks in their name, unless the interface is told to keep to its own.
    /// Neighbour discovery only ever answers for the interface's own.
    pub fn hush(&mut self) -> Result<(), String> {
        self.quiet = true;
        for n in 0..self.all.len() {
            let (index, before) = (self.all[n].interface.index, self.all[n].interface.manners.unwrap_or_default());
            let own_only = Manners { ignore: before.ignore.max(1), announce: before.announce.max(2) };
            if self.all[n].ip.is_ipv4() && own_only != before && !self.told_before(n) {
                let set = self.netlink.set_manners(index, own_only);
                set.map_err(|e| self.why(n, "cannot be made quiet (arp_ignore, arp_announce)", &e))?;
                self.all[n].before = Some(before);
            }
        }
        for n in 0..self.all.len() {
            let moved = self.add_inside(n).and_then(|()| self.netlink.remove(self.address(n)));
            moved.map_err(|e| self.why(n, "cannot be made quiet", &e))?;
        }
        Ok(())
    }

    /// Removes all, wherever they are. Each is tried, whatever becomes of the others.
    pub fn release(&mut self) -> Result<(), String> {
        let mut failed = None;
        for n in 0..self.all.len() {
            if let Err(e) = self.netlink.remove(self.address(n)) {
                failed = Some(self.why(n, "cannot be removed", &e));
            }
        }
        let inside = self.leave_loopback();
        failed.map_or(inside, Err)
    }

    /// Lets the kernel forget what waits for neighbours behind a cable that is out. It keeps such packets for up to three
    /// seconds, and would send them after whoever acts then has spoken.
    pub fn forget_unsent(&mut self) -> Result<(), String> {
        let dark: BTreeSet<u32> = self.all.iter().filter(|p| !p.interface.carrier).map(|p| p.interface.index).collect();
        dark.into_iter()
            .try_for_each(|index| self.netlink.forget_unresolved(index))
            .map_err(|e| format!("what waits for the cable cannot be taken back, and may be sent late: {e}"))
    }

    /// Puts all where they are once more, with a fresh lease.
    pub fn refresh(&mut self) -> Result<(), String> {
        for n in 0..self.all.len() {
            let done = if self.quiet { self.add_inside(n) } else { self.add(n) };
            done.map_err(|e| self.why(n, "cannot be refreshed", &e))?;
        }
        Ok(())
    }

    /// Learns from a change of this host.
    pub fn learn(&mut self, change: Change) -> Option<News> {
        match change {
            Change::Gone { by, .. } if by == self.netlink.port() => None,
            Change::Gone { address, .. } => {
                let ours = |p: &&Place| p.ip == address.ip && p.interface.index == address.index;
                self.all.iter().find(ours).map(|p| News::Deleted(p.ip))
            }
            Change::Link(link) => self.learn_link(&link),
            Change::LinkGone(index) => {
                let mut lost = None;
                for place in self.all.iter_mut().filter(|p| p.interface.index == index && p.interface.carrier) {
                    place.interface.carrier = false;
                    lost = Some(News::CarrierLost(place.interface.name.clone()));
                }
                lost
            }
            Change::Overrun => Some(self.look_again()),
        }
    }

    /// Changes were lost, that of a cable perhaps.
    fn look_again(&mut self) -> News {
        let Ok(links) = self.netlink.interfaces() else { return News::Moved };
        let mut news: Vec<News> = links.iter().filter_map(|link| self.learn_link(link)).collect();
        let gone = |place: &&Place| links.iter().all(|link| link.name != place.interface.name);
        let gone: BTreeSet<u32> = self.all.iter().filter(gone).map(|place| place.interface.index).collect();
        news.extend(gone.into_iter().filter_map(|index| self.learn(Change::LinkGone(index))));
        let back = news.iter().find(|n| matches!(n, News::CarrierBack(_)));
        let first = news.iter().find(|n| matches!(n, News::CarrierLost(_))).or(back);
        first.cloned().unwrap_or(News::Moved)
    }

    fn learn_link(&mut self, link: &Interface) -> Option<News> {
        let mut news = None;
        for place in self.all.iter_mut().filter(|p| p.interface.name == link.name) {
            let Some(mac) = link.mac else { continue };
            let (before, now) = (place.interface.carrier, link.carrier);
            let moved = link.failover || mac != place.mac || link.index != place.interface.index;
            place.mac = mac;
            let manners = link.manners.or(place.interface.manners);
            place.interface = Interface { manners, failover: false, ..link.clone() };
            news = match (before, now) {
                (true, false) => Some(News::CarrierLost(link.name.clone())),
                (false, true) => Some(News::CarrierBack(link.name.clone())),
                _ if moved => Some(News::Moved),
                _ => news,
            };
        }
        // All move together: while one of them cannot be reached, none is of use here.
        if matches!(news, Some(News::CarrierBack(_))) && !self.dark().is_empty() { Some(News::Moved) } else { news }
    }

    /// The interfaces that have no link.
    pub fn dark(&self) -> BTreeSet<&str> {
        self.all.iter().map(|p| &p.interface).filter(|i| !i.carrier).map(|i| i.name.as_str()).collect()
    }

    fn address(&self, n: usize) -> Address {
        let Place { ip, prefix, interface, .. } = &self.all[n];
        Address { index: interface.index, ip: *ip, prefix: *prefix }
    }

    fn inside(&self, n: usize) -> Address {
        let ip = self.all[n].ip;
        Address { index: self.loopback, ip, prefix: if ip.is_ipv4() { 32 } else { 128 } }
    }

    fn add(&mut self, n: usize) -> io::Result<()> {
        self.netlink.add(self.address(n), AddressScope::Universe, LEASE.as_secs() as u32)
    }

    fn add_inside(&mut self, n: usize) -> io::Result<()> {
        self.netlink.add(self.inside(n), AddressScope::Host, LEASE.as_secs() as u32)
    }

    /// After this nothing of [`Places::hush`] is left.
    fn leave_loopback(&mut self) -> Result<(), String> {
        if !self.quiet {
            return Ok(());
        }
        let mut failed = None;
        for n in 0..self.all.len() {
            let mut done = self.netlink.remove(self.inside(n));
            if done.is_ok()
                && let Some(before) = self.all[n].before
            {
                done = self.netlink.set_manners(self.all[n].interface.index, before);
                // An interface that is gone took its manners with it.
                let gone = done.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::ENODEV));
                if done.is_ok() || gone {
                    (self.all[n].before, done) = (None, Ok(()));
                }
            }
            if let Err(e) = done {
                failed = Some(self.why(n, "cannot be taken off the loopback interface", &e));
            }
        }
        self.quiet = failed.is_some();
        failed.map_or(Ok(()), Err)
    }

    /// Whether the interface was told for another address: what it is now is not what it was before.
    fn told_before(&self, n: usize) -> bool {
        let index = self.all[n].interface.index;
        self.all.iter().any(|p| p.interface.index == index && p.before.is_some())
    }

    fn why(&self, n: usize, what: &str, error: &io::Error) -> String {
        let Place { ip, interface, .. } = &self.all[n];
        format!("{ip} on {} {what}: {error}", interface.name)
    }
}

fn place(address: &VirtualIp, interfaces: &[Interface], subnets: &[Address]) -> Result<Place, Refusal> {
    let interface = match &address.interface {
        Some(name) => interfaces.iter().find(|i| i.name == *name),
        None => {
            let closest = subnets.iter().filter(|s| s.covers(address.ip)).max_by_key(|s| s.prefix);
            closest.and_then(|s| interfaces.iter().find(|i| i.index == s.index))
        }
    };
    let Some(interface) = interface.cloned() else {
        return Err(match &address.interface {
            Some(name) => Refusal::UnknownInterface(name.clone()),
            None => Refusal::NoInterface(address.ip),
        });
    };
    let Some(mac) = interface.mac else { return Err(Refusal::NoEthernet(interface.name)) };
    // All its bits: it stands apart from the subnet's own addresses, which would take it along when they are deleted.
    let prefix = address.prefix.unwrap_or(if address.ip.is_ipv4() { 32 } else { 128 });
    Ok(Place { ip: address.ip, prefix, interface, mac, before: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str) -> Interface {
        let mac = Some(Mac([2, 0, 0, 0, 0, index as u8]));
        Interface { index, name: name.into(), mac, carrier: true, manners: None, failover: false }
    }

    fn subnet(index: u32, ip: &str, prefix: u8) -> Address {
        Address { index, ip: ip.parse().unwrap(), prefix }
    }

    fn chosen(address: &str) -> Result<String, Refusal> {
        let mut tunnel = interface(4, "tun0");
        tunnel.mac = None;
        let interfaces = [interface(1, "eth0"), interface(2, "bond0"), interface(3, "eth1"), tunnel];
        let subnets = [
            subnet(1, "10.0.0.1", 8),
            subnet(2, "10.1.0.1", 16),
            subnet(2, "2001:db8::1", 64),
            subnet(3, "192.0.2.1", 24),
            subnet(4, "198.51.100.1", 24),
        ];
        let (ip, name) = address.split_once('%').map_or((address, None), |(ip, name)| (ip, Some(name)));
        let address = VirtualIp { ip: ip.parse().unwrap(), prefix: None, interface: name.map(String::from) };
        place(&address, &interfaces, &subnets).map(|p| p.interface.name)
    }

    #[test]
    fn the_closest_subnet_wins_and_a_name_beats_it() {
        assert_eq!(chosen("10.1.0.77").unwrap(), "bond0");
        assert_eq!(chosen("10.2.0.77").unwrap(), "eth0");
        assert_eq!(chosen("2001:db8::77").unwrap(), "bond0");
        assert_eq!(chosen("10.1.0.77%eth1").unwrap(), "eth1");
        assert_eq!(chosen("203.0.113.1%eth1").unwrap(), "eth1");
        assert_eq!(chosen("203.0.113.1"), Err(Refusal::NoInterface([203, 0, 113, 1].into())));
        assert_eq!(chosen("10.1.0.77%eth9"), Err(Refusal::UnknownInterface("eth9".into())));
        assert_eq!(chosen("198.51.100.77"), Err(Refusal::NoEthernet("tun0".into())));
    }

    fn places() -> Places {
        let all = [("192.0.2.10", 3, "bond0"), ("2001:db8::10", 3, "bond0"), ("198.51.100.10", 5, "eth1")];
        let place = |(ip, index, name): (&str, u32, &str)| {
            let interface = interface(index, name);
            let (ip, mac) = (ip.parse().unwrap(), interface.mac.unwrap());
            Place { ip, prefix: 32, interface, mac, before: None }
        };
        Places { netlink: Netlink::open().unwrap(), all: all.map(place).to_vec(), loopback: 1, quiet: false }
    }

    #[test]
    fn a_bond_that_fails_over_or_changes_its_address_has_moved() {
        let mut places = places();
        let bond = interface(3, "bond0");
        assert_eq!(places.learn(Change::Link(bond.clone())), None);
        assert_eq!(places.learn(Change::Link(Interface { failover: true, ..bond.clone() })), Some(News::Moved));
        assert_eq!(places.learn(Change::Link(bond.clone())), None, "an event is over when it is told");
        let other = Interface { mac: Some(Mac([2; 6])), ..bond.clone() };
        assert_eq!(places.learn(Change::Link(other)), Some(News::Moved));
        assert_eq!((places.all[0].mac, places.all[1].mac), (Mac([2; 6]), Mac([2; 6])));
        assert_ne!(places.all[2].mac, Mac([2; 6]));
    }

    #[test]
    fn a_carrier_is_lost_and_back_once_for_all_addresses_of_its_interface() {
        let mut places = places();
        let bond = interface(3, "bond0");
        let dark = Interface { carrier: false, ..bond.clone() };
        assert_eq!(places.learn(Change::Link(dark.clone())), Some(News::CarrierLost("bond0".into())));
        assert_eq!(places.learn(Change::Link(dark)), None);
        assert_eq!(places.learn(Change::Link(bond)), Some(News::CarrierBack("bond0".into())));
        assert_eq!(places.learn(Change::LinkGone(5)), Some(News::CarrierLost("eth1".into())));
        assert_eq!(places.learn(Change::LinkGone(5)), None);
        // Made again, under another number.
        assert_eq!(places.learn(Change::Link(interface(9, "eth1"))), Some(News::CarrierBack("eth1".into())));
        assert_eq!(places.all[2].interface.index, 9);
        assert_eq!(places.learn(Change::Link(interface(7, "eth7"))), None);
    }

    #[test]
    fn a_carrier_is_back_when_every_address_has_one() {
        let mut places = places();
        let link = |index, name, carrier| Change::Link(Interface { carrier, ..interface(index, name) });
        assert!(places.dark().is_empty());
        assert_eq!(places.learn(link(3, "bond0", false)), Some(News::CarrierLost("bond0".into())));
        assert_eq!(places.learn(link(5, "eth1", false)), Some(News::CarrierLost("eth1".into())));
        assert_eq!(Vec::from_iter(places.dark()), ["bond0", "eth1"]);
        assert_eq!(places.learn(link(3, "bond0", true)), Some(News::Moved), "to be announced, and no more");
        assert_eq!(Vec::from_iter(places.dark()), ["eth1"]);
        assert_eq!(places.learn(link(5, "eth1", true)), Some(News::CarrierBack("eth1".into())));
    }

    #[test]
    fn where_changes_were_lost_a_cable_that_went_with_them_is_noticed() {
        let mut places = places();
        places.all.iter_mut().for_each(|place| place.interface.name = String::from("nowhere"));
        assert_eq!(places.learn(Change::Overrun), Some(News::CarrierLost("nowhere".into())));
        assert_eq!(places.learn(Change::Overrun), Some(News::Moved), "to be announced, and no more");
    }

    #[test]
    fn only_deletions_by_others_on_the_right_interface_count() {
        let mut places = places();
        let own = places.netlink.port();
        let mut gone = |index, ip: &str, by| places.learn(Change::Gone { address: subnet(index, ip, 32), by });
        assert_eq!(gone(3, "192.0.2.10", 0), Some(News::Deleted([192, 0, 2, 10].into())));
        assert_eq!(gone(3, "192.0.2.10", own), None);
        assert_eq!(gone(5, "192.0.2.10", 0), None);
        assert_eq!(gone(3, "192.0.2.11", 0), None);
    }
}
