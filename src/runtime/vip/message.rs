//! What the main process and the keeper of its addresses tell each other, one packet each. Both are the same program, so
//! there are no versions; a packet that is not understood is nothing.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::arp::Mac;
use super::event::{Cause, Connection, Event, Refusal, Tickle, Wish};
use crate::base::{Epoch, NodeId};
use crate::config::VirtualIp;

/// Octets of one packet.
pub const PACKET: usize = 8_192;

/// Virtual addresses of one node.
pub const ADDRESSES: usize = 16;

/// What a guard is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Where its locks are.
    pub state_dir: PathBuf,
    /// Without a kick for so long it takes the addresses away.
    pub limit: Duration,
    /// What it guards.
    pub addresses: Vec<VirtualIp>,
}

/// From the main process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The first packet.
    Setup(Setup),
    /// Work is being done.
    Kick,
    /// A wish.
    Wish(Wish),
    /// The descriptors that come with this packet replace those of the last one.
    Lend,
    /// The list of connections.
    Tickle(Tickle),
}

/// To the main process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Set up; the text says how urgently the scheduler treats it.
    Ready(String),
    /// Not set up; the guard ends.
    Refused(Refusal),
    /// Still here.
    Pulse,
    /// Something happened.
    Event(Event),
}

/// Writes one packet.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn tag(tag: u8) -> Self {
        Writer(vec![tag])
    }

    fn octets(mut self, octets: &[u8]) -> Self {
        self.0.extend_from_slice(octets);
        self
    }

    fn micros(self, time: Duration) -> Self {
        self.octets(&u64::try_from(time.as_micros()).unwrap_or(u64::MAX).to_le_bytes())
    }

    fn epoch(self, epoch: Epoch) -> Self {
        self.octets(&epoch.counter.to_le_bytes()).octets(&epoch.node.0.to_le_bytes())
    }

    /// Cut to what a packet surely holds.
    fn text(self, text: &[u8]) -> Self {
        let text = &text[..text.len().min(1_024)];
        self.octets(&(text.len() as u16).to_le_bytes()).octets(text)
    }

    fn ip(self, ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => self.octets(&[4]).octets(&ip.octets()),
            IpAddr::V6(ip) => self.octets(&[6]).octets(&ip.octets()),
        }
    }

    fn addr(self, addr: SocketAddr) -> Self {
        self.ip(addr.ip()).octets(&addr.port().to_le_bytes())
    }

    /// A prefix of 0 and an interface of no name stand for those that the configuration leaves out.
    fn virtual_ip(self, address: &VirtualIp) -> Self {
        let interface = address.interface.as_deref().unwrap_or_default();
        self.ip(address.ip).octets(&[address.prefix.unwrap_or(0)]).text(interface.as_bytes())
    }

    fn connection(self, connection: Connection) -> Self {
        self.addr(connection.local).addr(connection.remote)
    }
}

/// Reads one packet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn octet(&mut self) -> Option<u8> {
        self.array().map(|[octet]| octet)
    }

    fn micros(&mut self) -> Option<Duration> {
        self.array().map(u64::from_le_bytes).map(Duration::from_micros)
    }

    fn epoch(&mut self) -> Option<Epoch> {
        let counter = u32::from_le_bytes(self.array()?);
        Some(Epoch { counter, node: NodeId(u16::from_le_bytes(self.array()?)) })
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    fn ip(&mut self) -> Option<IpAddr> {
        match self.octet()? {
            4 => self.array::<4>().map(|o| Ipv4Addr::from(o).into()),
            6 => self.array::<16>().map(|o| Ipv6Addr::from(o).into()),
            _ => None,
        }
    }

    fn addr(&mut self) -> Option<SocketAddr> {
        let ip = self.ip()?;
        Some(SocketAddr::new(ip, u16::from_le_bytes(self.array()?)))
    }

    fn virtual_ip(&mut self) -> Option<VirtualIp> {
        let (ip, prefix, interface) = (self.ip()?, self.octet()?, self.text()?);
        let (prefix, interface) = (Some(prefix).filter(|p| *p > 0), Some(interface).filter(|name| !name.is_empty()));
        Some(VirtualIp { ip, prefix, interface })
    }

    fn connection(&mut self) -> Option<Connection> {
        Some(Connection { local: self.addr()?, remote: self.addr()? })
    }
}

impl Order {
    /// As a packet.
    pub fn write(&self) -> Vec<u8> {
        match self {
            Order::Setup(setup) => {
                let path = setup.state_dir.to_string_lossy();
                let head = Writer::tag(0).text(path.as_bytes()).micros(setup.limit);
                let addresses = setup.addresses.iter().take(ADDRESSES);
                addresses.fold(head, Writer::virtual_ip).0
            }
            Order::Kick => vec![1],
            Order::Wish(Wish::Hold { epoch }) => Writer::tag(2).epoch(*epoch).0,
            Order::Wish(Wish::Announce) => vec![3],
            Order::Wish(Wish::Quiet) => vec![4],
            Order::Wish(Wish::Drop) => vec![5],
            Order::Wish(Wish::Probe { within }) => Writer::tag(6).micros(*within).0,
            Order::Lend => vec![7],
            Order::Tickle(Tickle::Add(connection)) => Writer::tag(8).connection(*connection).0,
            Order::Tickle(Tickle::Remove(connection)) => Writer::tag(9).connection(*connection).0,
            Order::Tickle(Tickle::Clear) => vec![10],
        }
    }

    /// From a packet.
    pub fn read(packet: &[u8]) -> Option<Order> {
        let mut reader = Reader(packet);
        Some(match reader.octet()? {
            0 => {
                let (state_dir, limit) = (PathBuf::from(reader.text()?), reader.micros()?);
                let mut addresses = Vec::new();
                while !reader.0.is_empty() {
                    addresses.push(reader.virtual_ip()?);
                }
                Order::Setup(Setup { state_dir, limit, addresses })
            }
            1 => Order::Kick,
            2 => Order::Wish(Wish::Hold { epoch: reader.epoch()? }),
            3 => Order::Wish(Wish::Announce),
            4 => Order::Wish(Wish::Quiet),
            5 => Order::Wish(Wish::Drop),
            6 => Order::Wish(Wish::Probe { within: reader.micros()? }),
            7 => Order::Lend,
            8 => Order::Tickle(Tickle::Add(reader.connection()?)),
            9 => Order::Tickle(Tickle::Remove(reader.connection()?)),
            10 => Order::Tickle(Tickle::Clear),
            _ => return None,
        })
    }
}

impl Report {
    /// As a packet.
    pub fn write(&self) -> Vec<u8> {
        match self {
            Report::Ready(text) => Writer::tag(0).text(text.as_bytes()).0,
            Report::Refused(refusal) => {
                let (kind, text) = match refusal {
                    Refusal::Privilege(name) => (0, name.clone()),
                    Refusal::NoInterface(ip) => (1, ip.to_string()),
                    Refusal::UnknownInterface(name) => (2, name.clone()),
                    Refusal::NoEthernet(name) => (3, name.clone()),
                    Refusal::Locked(path) => (4, path.display().to_string()),
                    Refusal::System(text) => (5, text.clone()),
                };
                Writer::tag(1).octets(&[kind]).text(text.as_bytes()).0
            }
            Report::Pulse => vec![2],
            Report::Event(event) => event.write(),
        }
    }

    /// From a packet.
    pub fn read(packet: &[u8]) -> Option<Report> {
        let mut reader = Reader(packet);
        Some(match reader.octet()? {
            0 => Report::Ready(reader.text()?),
            1 => {
                let (kind, text) = (reader.octet()?, reader.text()?);
                Report::Refused(match kind {
                    0 => Refusal::Privilege(text),
                    1 => Refusal::NoInterface(text.parse().ok()?),
                    2 => Refusal::UnknownInterface(text),
                    3 => Refusal::NoEthernet(text),
                    4 => Refusal::Locked(text.into()),
                    5 => Refusal::System(text),
                    _ => return None,
                })
            }
            2 => Report::Pulse,
            tag => Report::Event(Event::read(tag, &mut reader)?),
        })
    }
}

const CAUSES: [Cause; 5] = [Cause::Wished, Cause::Silent, Cause::Paused, Cause::Deleted, Cause::NotQuiet];

impl Event {
    fn write(&self) -> Vec<u8> {
        let claim = |tag, ip: &IpAddr, mac: &Mac| Writer::tag(tag).ip(*ip).octets(&mac.0).0;
        match self {
            Event::Held { epoch } => Writer::tag(3).epoch(*epoch).0,
            Event::Quiet => vec![4],
            Event::Dropped { cause } => {
                let at = CAUSES.iter().position(|c| c == cause).expect("all causes are listed");
                vec![5, at as u8]
            }
            Event::ProbeAnswered { ip, mac } => claim(6, ip, mac),
            Event::ProbeEnded => vec![7],
            Event::CarrierLost { interface } => Writer::tag(8).text(interface.as_bytes()).0,
            Event::CarrierBack { interface } => Writer::tag(9).text(interface.as_bytes()).0,
            Event::AddressDeleted { ip } => Writer::tag(10).ip(*ip).0,
            Event::Stranger { ip, mac } => claim(11, ip, mac),
            Event::Failed { reason } => Writer::tag(12).text(reason.as_bytes()).0,
            Event::GuardDied => vec![13],
            Event::GuardBack => vec![15],
            Event::Hindered { reason } => Writer::tag(14).text(reason.as_bytes()).0,
        }
    }

    fn read(tag: u8, reader: &mut Reader<'_>) -> Option<Event> {
        Some(match tag {
            3 => Event::Held { epoch: reader.epoch()? },
            4 => Event::Quiet,
            5 => Event::Dropped { cause: *CAUSES.get(usize::from(reader.octet()?))? },
            6 => Event::ProbeAnswered { ip: reader.ip()?, mac: Mac(reader.array()?) },
            7 => Event::ProbeEnded,
            8 => Event::CarrierLost { interface: reader.text()? },
            9 => Event::CarrierBack { interface: reader.text()? },
            10 => Event::AddressDeleted { ip: reader.ip()? },
            11 => Event::Stranger { ip: reader.ip()?, mac: Mac(reader.array()?) },
            12 => Event::Failed { reason: reader.text()? },
            13 => Event::GuardDied,
            15 => Event::GuardBack,
            14 => Event::Hindered { reason: reader.text()? },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> Vec<Order> {
        let connection =
            Connection { local: "192.0.2.10:5060".parse().unwrap(), remote: "198.51.100.7:40001".parse().unwrap() };
        let six = Connection {
            local: "[2001:db8::10]:5060".parse().unwrap(),
            remote: "[2001:db8:1::7]:40001".parse().unwrap(),
        };
        let virtual_ip = |ip: &str, prefix, name: Option<&str>| VirtualIp {
            ip: ip.parse().unwrap(),
            prefix,
            interface: name.map(String::from),
        };
        let addresses = vec![virtual_ip("192.0.2.10", None, None), virtual_ip("2001:db8::10", Some(64), Some("eth0"))];
        let limit = Duration::from_millis(80);
        vec![
            Order::Setup(Setup { state_dir: "/var/lib/tandem".into(), limit, addresses }),
            Order::Kick,
            Order::Wish(Wish::Hold { epoch: Epoch { counter: 70_000, node: NodeId(513) } }),
            Order::Wish(Wish::Announce),
            Order::Wish(Wish::Quiet),
            Order::Wish(Wish::Drop),
            Order::Wish(Wish::Probe { within: Duration::from_millis(20) }),
            Order::Lend,
            Order::Tickle(Tickle::Add(connection)),
            Order::Tickle(Tickle::Remove(six)),
            Order::Tickle(Tickle::Clear),
        ]
    }

    fn reports() -> Vec<Report> {
        let (ip, mac) = ("192.0.2.10".parse().unwrap(), Mac([2, 0, 0, 0, 0, 9]));
        let mut all = vec![Report::Ready("RealTime".into()), Report::Pulse];
        let refusals = [
            Refusal::Privilege("CAP_NET_ADMIN".into()),
            Refusal::NoInterface(ip),
            Refusal::UnknownInterface("eth7".into()),
            Refusal::NoEthernet("tun0".into()),
            Refusal::Locked("/var/lib/tandem/guard.lock".into()),
            Refusal::System("bind: no".into()),
        ];
        all.extend(refusals.map(Report::Refused));
        all.extend(CAUSES.map(|cause| Report::Event(Event::Dropped { cause })));
        let events = [
            Event::Held { epoch: Epoch { counter: 3, node: NodeId(2) } },
            Event::Quiet,
            Event::ProbeAnswered { ip, mac },
            Event::ProbeEnded,
            Event::CarrierLost { interface: "eth0".into() },
            Event::CarrierBack { interface: "eth0".into() },
            Event::AddressDeleted { ip: "2001:db8::10".parse().unwrap() },
            Event::Stranger { ip, mac },
            Event::Failed { reason: "192.0.2.10: no such device".into() },
            Event::GuardDied,
            Event::GuardBack,
            Event::Hindered { reason: "callers cannot be told".into() },
        ];
        all.extend(events.map(Report::Event));
        all
    }

    #[test]
    fn every_packet_reads_as_it_was_written() {
        for order in orders() {
            assert_eq!(Order::read(&order.write()), Some(order));
        }
        for report in reports() {
            assert_eq!(Report::read(&report.write()), Some(report));
        }
    }

    #[test]
    fn a_cut_packet_is_nothing_and_never_panics() {
        for order in orders() {
            let packet = order.write();
            // A setup that is cut between two addresses is a shorter setup.
            let whole = |read: Option<Order>| read.is_some() && !matches!(order, Order::Setup(_));
            assert!((0..packet.len()).all(|n| !whole(Order::read(&packet[..n]))), "{order:?}");
        }
        for report in reports() {
            let packet = report.write();
            assert!((0..packet.len()).all(|n| Report::read(&packet[..n]).is_none()), "{report:?}");
        }
        assert_eq!((Order::read(&[200]), Report::read(&[200])), (None, None));
    }

    #[test]
    fn the_largest_setup_fits_a_packet() {
        let interface = Some("fifteen-octets0".into());
        let address = VirtualIp { ip: "2001:db8::10".parse().unwrap(), prefix: Some(128), interface };
        let state_dir = PathBuf::from("x".repeat(2_000));
        let setup = Setup { state_dir, limit: Duration::MAX, addresses: vec![address; ADDRESSES + 1] };
        assert!(Order::Setup(setup).write().len() <= PACKET);
        assert!(Report::Event(Event::Failed { reason: "x".repeat(100_000) }).write().len() <= PACKET);
    }
}
