//! SNMP traps: role changes and what threatens the next one, sent to whoever watches. A trap is news, not a state: it is
//! sent once to every target, nobody acknowledges it, and nothing waits for it.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use async_snmp::message::CommunityMessage;
use async_snmp::{GenericTrap, NotificationPdu, TrapV1Notification, Value, VarBind, Version};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::base::{Epoch, NodeId, Time};
use crate::config::{Settings, Snmp, TrapVersion};
use crate::runtime::stats::Counter;
use crate::runtime::sys;

/// Traps that wait for their turn; more are dropped and counted.
pub const QUEUE: usize = 64;
/// Octets of a cause; the rest is cut (DisplayString, RFC 2579).
pub const CAUSE: usize = 255;

/// What happened. The numbers are SNMPv1's specific traps; 1121 and 1122 are the model product's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node became active: it takes SIP.
    BecameActive = 1121,
    /// This node became standby.
    BecameStandby = 1122,
    /// The peer is silent on every path.
    PeerLost = 1123,
    /// The peer is heard again.
    PeerBack = 1124,
    /// A death now would lose calls: the pair is not in step.
    NotArmed = 1125,
    /// The pair is in step.
    Armed = 1126,
    /// Somebody else answers for a virtual IP that this node holds.
    VipConflict = 1127,
}

/// What the node was after the event; the numbers are those of `deploy/TANDEM-MIB.txt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has no peer.
    Standalone = 1,
    /// It takes SIP.
    Active = 2,
    /// It follows the active node.
    Standby = 3,
}

/// One trap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// What happened.
    pub event: Event,
    /// What the node is now.
    pub role: Role,
    /// The epoch that is in force now.
    pub epoch: Epoch,
    /// Why, for people: ASCII, at most [`CAUSE`] octets.
    pub cause: String,
}

/// What became of the traps of this process.
#[derive(Debug, Default)]
pub struct TrapStats {
    /// Datagrams that left, one for each target.
    pub sent: Counter,
    /// Datagrams that could not leave.
    pub failed: Counter,
    /// Traps for which [`QUEUE`] had no room.
    pub dropped: Counter,
}

/// The sender of traps. Without targets it takes them and does nothing.
#[derive(Clone)]
pub struct Traps {
    queue: mpsc::Sender<(Trap, Time)>,
    sender: Arc<Mutex<Arc<Sender>>>,
    stats: Arc<TrapStats>,
}

impl Traps {
    /// Starts the task that sends, on the threads of `runtime`. It ends when the last clone is gone.
    pub fn start(settings: &Settings, runtime: &Handle) -> Traps {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let sender = Arc::new(Mutex::new(Arc::new(Sender::new(settings))));
        let stats = Arc::new(TrapStats::default());
        runtime.spawn(run(Arc::clone(&sender), sys::now(), waiting, Arc::clone(&stats)));
        Traps { queue, sender, stats }
    }

    /// Sends a trap to every target. Never blocks, from any thread.
    pub fn send(&self, trap: Trap) {
        if self.queue.try_send((trap, sys::now())).is_err() {
            self.stats.dropped.count();
        }
    }

    /// Goes by other settings from now on.
    pub fn follow(&self, settings: &Settings) {
        *self.sender.lock() = Arc::new(Sender::new(settings));
    }

    /// What became of the traps so far.
    pub fn stats(&self) -> &Arc<TrapStats> {
        &self.stats
    }
}

async fn run(
    sender: Arc<Mutex<Arc<Sender>>>,
    started: Time,
    mut waiting: mpsc::Receiver<(Trap, Time)>,
    stats: Arc<TrapStats>,
) {
    let mut number = 0;
    while let Some((trap, at)) = waiting.recv().await {
        number += 1;
        let sender = Arc::clone(&sender.lock());
        sender.send(&trap, at.since(started), number, &stats);
    }
}

/// Where traps go and what they say of this node.
struct Sender {
    snmp: Option<Snmp>,
    cluster: String,
    node: NodeId,
    /// The node's own address, where the kernel would name one that moves.
    own: Option<Ipv4Addr>,
    moving: Vec<IpAddr>,
}

impl Sender {
    fn new(settings: &Settings) -> Self {
        let cluster = &settings.cluster;
        let paths = cluster.own().map(|m| m.paths.as_slice()).unwrap_or_default();
        let own = paths.iter().find_map(|path| match path.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
        Self {
            snmp: settings.snmp.clone(),
            cluster: cluster.name.clone(),
            node: cluster.node,
            own,
            moving: cluster.virtual_ips.iter().map(|vip| vip.ip).chain(cluster.moving_ips()).collect(),
        }
    }

    fn send(&self, trap: &Trap, uptime: Duration, number: i32, stats: &TrapStats) {
        let Some(snmp) = &self.snmp else { return };
        for target in &snmp.targets {
            match self.send_to(snmp, *target, trap, uptime, number) {
                Ok(()) => stats.sent.count(),
                Err(error) => {
                    stats.failed.count();
                    tracing::warn!(%target, trap = trap.event as u16, %error, "a trap could not be sent");
                }
            }
        }
    }

    /// A socket of its own for each datagram: traps are rare, and an ICMP error for one must not eat the next.
    fn send_to(&self, snmp: &Snmp, target: SocketAddr, trap: &Trap, up: Duration, number: i32) -> io::Result<()> {
        let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(target)?;
        let agent = self.agent(socket.local_addr()?.ip());
        let datagram = self.encode(snmp, trap, up, number, agent).map_err(io::Error::other)?;
        socket.send(&datagram).map(|_| ())
    }

    /// The agent address of SNMPv1: the one that the target sees, unless it is one that moves between nodes.
    fn agent(&self, source: IpAddr) -> Ipv4Addr {
        match source {
            IpAddr::V4(ip) if !self.moving.contains(&source) => ip,
            // RFC 3584 section 3.1: 0.0.0.0 stands for an address that is none of IPv4.
            _ => self.own.unwrap_or(Ipv4Addr::UNSPECIFIED),
        }
    }

    fn encode(
        &self,
        snmp: &Snmp,
        trap: &Trap,
        uptime: Duration,
        number: i32,
        agent: Ipv4Addr,
    ) -> async_snmp::Result<Bytes> {
        let enterprise = async_snmp::Oid::from_slice(&snmp.enterprise.0);
        let objects = self.objects(&enterprise, trap);
        // TimeTicks: hundredths of a second, which wrap (RFC 2578 section 7.1.8).
        let ticks = (uptime.as_millis() / 10) as u32;
        let number_of_event = trap.event as u16;
        let message = match snmp.version {
            TrapVersion::V1 => {
                let kind = GenericTrap::EnterpriseSpecific;
                let specific = i32::from(number_of_event);
                let pdu =
                    TrapV1Notification::new(enterprise, agent.octets(), kind, specific, ticks, objects)?.into_raw();
                CommunityMessage::v1_trap(snmp.community.octets(), pdu)?
            }
            TrapVersion::V2c => {
                // RFC 3584 section 3.1: so that both versions of one trap have one name.
                let name = enterprise.child(0).child(number_of_event.into());
                let pdu = NotificationPdu::trap_v2(Version::V2c, number, ticks, &name, objects)?.into_raw();
                CommunityMessage::v2c(snmp.community.octets(), pdu)?
            }
        };
        message.encode()
    }

    /// In the order of the MIB: who, in which epoch, what it is now, why.
    fn objects(&self, enterprise: &async_snmp::Oid, trap: &Trap) -> Vec<VarBind> {
        let text = |text: &str| Value::OctetString(Bytes::from(printable(text)));
        let values = [
            text(&self.cluster),
            Value::Gauge32(self.node.0.into()),
            Value::Gauge32(trap.epoch.counter),
            Value::Gauge32(trap.epoch.node.0.into()),
            Value::Integer(trap.role as i32),
            text(&trap.cause),
        ];
        let objects = enterprise.child(1);
        (1..).zip(values).map(|(n, value)| VarBind::new(objects.child(n).child(0), value)).collect()
    }
}

/// A DisplayString of at most [`CAUSE`] octets.
fn printable(text: &str) -> Vec<u8> {
    let plain = |c: char| if c.is_ascii() && !c.is_ascii_control() { c as u8 } else { b'?' };
    text.chars().take(CAUSE).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(snmp: &str) -> Settings {
        let text = format!("[cluster]\nname = \"east\"\nmymemberid = 2\n{snmp}\n[[resource-group]]\nname = \"A\"");
        Settings::parse(&text).expect("sound").0
    }

    fn trap(cause: &str) -> Trap {
        let epoch = Epoch { counter: 17, node: NodeId(1) };
        Trap { event: Event::BecameActive, role: Role::Active, epoch, cause: cause.into() }
    }

    fn encoded(snmp: &str, cause: &str) -> Bytes {
        let settings = settings(snmp);
        let snmp = settings.snmp.as_ref().unwrap();
        let agent = Ipv4Addr::new(192, 0, 2, 12);
        Sender::new(&settings).encode(snmp, &trap(cause), Duration::from_millis(2_560), 3, agent).unwrap()
    }

    /// By hand, after RFC 1157 section 4.1.6 and X.690.
    #[test]
    fn a_trap_of_version_1_has_these_octets() {
        let found =
            encoded("[snmp]\ntrap-target = \"192.0.2.1\"\nversion = \"v1\"\nenterprise = \"1.3.6.1.4.1.9\"", "why");
        let mut wanted = vec![0x30, 0x81, 142, 0x02, 1, 0, 0x04, 6];
        wanted.extend(b"public");
        wanted.extend([0xa4, 0x81, 128, 0x06, 6, 0x2b, 6, 1, 4, 1, 9, 0x40, 4, 192, 0, 2, 12]);
        wanted.extend([0x02, 1, 6, 0x02, 2, 0x04, 0x61, 0x43, 2, 0x01, 0x00]);
        wanted.extend([0x30, 101]);
        let name = |n: u8| [0x06, 9, 0x2b, 6, 1, 4, 1, 9, 1, n, 0];
        let values: [&[u8]; 6] = [
            &[0x04, 4, b'e', b'a', b's', b't'],
            &[0x42, 1, 2],
            &[0x42, 1, 17],
            &[0x42, 1, 1],
            &[0x02, 1, 2],
            &[0x04, 3, b'w', b'h', b'y'],
        ];
        for (n, value) in (1..).zip(values) {
            wanted.extend([0x30, 11 + value.len() as u8]);
            wanted.extend(name(n));
            wanted.extend(value);
        }
        assert_eq!(found[..], wanted[..], "\n{found:02x?}\n{wanted:02x?}");
    }

    #[test]
    fn a_trap_of_version_2c_begins_with_uptime_and_name() {
        let found = encoded("[snmp]\ntrap-target = \"192.0.2.1\"\nenterprise = \"1.3.6.1.4.1.9\"", "why");
        // RFC 3416 section 4.2.6: sysUpTime.0, then snmpTrapOID.0, which is enterprise.0.1121 (RFC 3584 section 3.1).
        let uptime: &[u8] = &[0x30, 14, 0x06, 8, 0x2b, 6, 1, 2, 1, 1, 3, 0, 0x43, 2, 1, 0];
        let name: &[u8] =
            &[0x30, 23, 0x06, 10, 0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0, 0x06, 9, 0x2b, 6, 1, 4, 1, 9, 0, 0x88, 0x61];
        assert_eq!(found[..14], *b"\x30\x81\xa8\x02\x01\x01\x04\x06public");
        let at = found.windows(uptime.len()).position(|w| w == uptime).expect("sysUpTime.0");
        assert_eq!(&found[at + uptime.len()..][..name.len()], name);
    }

    #[test]
    fn causes_are_cut_and_plain() {
        let long = format!("caf\u{e9}\n{}", "x".repeat(300));
        let found = printable(&long);
        assert_eq!((found.len(), &found[..6]), (CAUSE, &b"caf??x"[..]));
        assert!(encoded("[snmp]\ntrap-target = \"192.0.2.1\"", &long).len() < 512);
    }

    #[test]
    fn an_address_that_moves_is_no_agent_address() {
        let pair = "ha-mode = \"active-standby\"\nvirtual-ip = \"192.0.2.10\"\nmember.1 = \"[2001:db8::1]:9801\"\n\
                    member.2 = [\"192.0.2.12:9801\"]\n";
        let sender = Sender::new(&settings(&pair.replace("[2001:db8::1]", "192.0.2.11")));
        let own = Ipv4Addr::new(192, 0, 2, 12);
        let other = Ipv4Addr::new(198, 51, 100, 9);
        assert_eq!(sender.agent(other.into()), other);
        assert_eq!(sender.agent(IpAddr::from([192, 0, 2, 10])), own);
        assert_eq!(sender.agent(Ipv6Addr::LOCALHOST.into()), own);
        assert_eq!(Sender::new(&settings("")).agent(Ipv6Addr::LOCALHOST.into()), Ipv4Addr::UNSPECIFIED);
    }

    /// Names and numbers of the paper that operators load into their managers.
    #[test]
    fn the_mib_has_every_event_role_and_object() {
        let mib = include_str!("../../deploy/TANDEM-MIB.txt");
        let clauses: Vec<String> =
            mib.split("\n\n").map(|c| c.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let there = |start: &str, end: &str| clauses.iter().any(|c| c.starts_with(start) && c.ends_with(end));
        for event in [
            Event::BecameActive,
            Event::BecameStandby,
            Event::PeerLost,
            Event::PeerBack,
            Event::NotArmed,
            Event::Armed,
            Event::VipConflict,
        ] {
            let end = format!("::= {{ tandemNotifications {} }}", event as u16);
            assert!(there(&format!("tandem{event:?} NOTIFICATION-TYPE"), &end), "{event:?}");
        }
        let roles = [Role::Standalone, Role::Active, Role::Standby];
        let listed = roles.map(|role| format!("{}({})", format!("{role:?}").to_lowercase(), role as i32)).join(", ");
        assert!(mib.contains(&format!("INTEGER {{ {listed} }}")), "{listed}");
        let objects = ["ClusterName", "NodeId", "EpochCounter", "EpochNode", "Role", "Cause"];
        for (n, object) in (1..).zip(objects) {
            let end = format!("::= {{ tandemObjects {n} }}");
            assert!(there(&format!("tandem{object} OBJECT-TYPE"), &end), "{object}");
        }
        let default = crate::config::Oid::default().to_string();
        let place = default.strip_prefix("1.3.6.1.4.1.").unwrap().replace('.', " ");
        assert!(mib.contains(&format!("::= {{ enterprises {place} }}")), "{place}");
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    /// Receives one datagram, as its octets.
    fn receive(socket: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 1_500];
        let len = socket.recv(&mut buffer).expect("a trap");
        buffer[..len].to_vec()
    }

    #[test]
    fn every_target_gets_every_trap_and_new_settings_are_followed() {
        let sockets: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        sockets.iter().for_each(|s| s.set_read_timeout(Some(Duration::from_secs(10))).unwrap());
        let at = |n: usize| format!("{:?}", sockets[n].local_addr().unwrap().to_string());
        let runtime = runtime();
        let traps = Traps::start(&settings(&format!("[snmp]\ntrap-target = [{}, {}]", at(0), at(1))), runtime.handle());
        let sent = |n| {
            runtime.block_on(async {
                while traps.stats().sent.get() < n {
                    tokio::task::yield_now().await;
                }
            });
        };
        traps.send(trap("first"));
        sent(2);
        traps.follow(&settings(&format!("[snmp]\ntrap-target = {}", at(2))));
        traps.send(trap("second"));
        sent(3);
        traps.follow(&settings(""));
        traps.send(trap("to nobody"));
        runtime.block_on(tokio::task::yield_now());
        let stats = traps.stats();
        assert_eq!((stats.sent.get(), stats.failed.get(), stats.dropped.get()), (3, 0, 0));
        let last = |socket| String::from_utf8_lossy(&receive(socket)).into_owned();
        assert!(last(&sockets[0]).ends_with("first") && last(&sockets[1]).ends_with("first"));
        assert!(last(&sockets[2]).ends_with("second"));
    }

    #[test]
    fn what_cannot_leave_and_what_finds_no_room_is_counted() {
        let runtime = runtime();
        // A documentation address behind no route that a socket without the permission to broadcast could use.
        let traps = Traps::start(&settings("[snmp]\ntrap-target = \"127.255.255.255:162\""), runtime.handle());
        // Nobody turns the runtime yet, so that the queue fills.
        (0..QUEUE + 3).for_each(|_| traps.send(trap("")));
        assert_eq!(traps.stats().dropped.get(), 3);
        runtime.block_on(async {
            while traps.stats().failed.get() < QUEUE as u64 {
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(traps.stats().sent.get(), 0);
    }
}
