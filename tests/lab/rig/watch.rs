//! What passes on the wire of a host: every frame that its devices send or receive, looked at for ARP answers, ICMP
//! errors and neighbour advertisements; and somebody who asks for an address all the time.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::lan::Host;

/// `ETH_P_ALL` in network order: every frame.
const EVERY_FRAME: i32 = 0x0003_u16.to_be() as i32;
/// Frames of interest that one watch remembers.
const MEMORY: usize = 200_000;
/// How often the asker asks.
const ASK: Duration = Duration::from_millis(5);

/// A frame of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Somebody says, asked or not, that `address` is at `mac`.
    ArpAnswer {
        /// Whose address.
        address: Ipv4Addr,
        /// Sender's link-layer address as the answer says.
        mac: String,
    },
    /// A request by which the sender announces its own address (RFC 5227 §3), or probes for it (sender 0.0.0.0, §1.1).
    ArpRequest {
        /// Who asks; unspecified in a probe.
        sender: Ipv4Addr,
        /// For whom.
        target: Ipv4Addr,
        /// Sender's link-layer address.
        mac: String,
    },
    /// An ICMP error.
    Icmp {
        /// Who sent it.
        from: Ipv4Addr,
        /// Who got it.
        to: Ipv4Addr,
        /// 3: unreachable.
        kind: u8,
        /// 3: port.
        code: u8,
    },
}

/// A watch over one host. Dropped, it ends.
pub struct Watch {
    seen: Arc<Mutex<Vec<(Instant, Frame)>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins.
    #[track_caller]
    pub fn over(host: &Host) -> Watch {
        let socket = host.within(|| Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERY_FRAME))));
        let socket = socket.expect("the right to see frames");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || look(socket, &seen, &stop)
        });
        Watch { seen, stop, thread: Some(thread) }
    }

    /// All that it has seen, with the time.
    pub fn seen(&self) -> Vec<(Instant, Frame)> {
        self.seen.lock().expect("no panic in a watch").clone()
    }

    /// Asserts that no ICMP error came to `address`.
    #[track_caller]
    pub fn assert_no_icmp_to(&self, address: Ipv4Addr) {
        let errors: Vec<_> = self.seen().into_iter().map(|(_, f)| f).filter(|f| f.is_icmp_to(address)).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }

    /// The ARP answers for `address`, in order.
    pub fn answers(&self, address: Ipv4Addr) -> Vec<(Instant, String)> {
        let answer = |(at, frame)| match frame {
            Frame::ArpAnswer { address: of, mac } if of == address => Some((at, mac)),
            _ => None,
        };
        self.seen().into_iter().filter_map(answer).collect()
    }

    /// Asserts that `address` never had two places at one time: each link-layer address that answers for it does so in
    /// one unbroken run, and there are `runs` of them.
    #[track_caller]
    pub fn assert_one_holder(&self, address: Ipv4Addr, runs: usize) {
        let mut macs: Vec<String> = self.answers(address).into_iter().map(|(_, mac)| mac).collect();
        macs.dedup();
        assert_eq!(macs.len(), runs, "who answers for {address}, in order: {macs:?}");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Frame {
    fn is_icmp_to(&self, address: Ipv4Addr) -> bool {
        matches!(self, Frame::Icmp { to, .. } if *to == address)
    }

    /// `None` for what is not of interest.
    fn read(octets: &[u8]) -> Option<Frame> {
        match octets.get(12..14)? {
            [8, 6] => arp(octets.get(14..42)?),
            [8, 0] => icmp(octets.get(14..)?),
            _ => None,
        }
    }
}

/// RFC 826, for Ethernet and IPv4.
fn arp(packet: &[u8]) -> Option<Frame> {
    let (sender, target) = (ipv4(packet.get(14..18)?), ipv4(packet.get(24..28)?));
    let mac = packet.get(8..14)?.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":");
    match packet.get(6..8)? {
        [0, 1] => Some(Frame::ArpRequest { sender, target, mac }),
        [0, 2] => Some(Frame::ArpAnswer { address: sender, mac }),
        _ => None,
    }
}

/// RFC 792: the errors, not the questions and answers.
fn icmp(packet: &[u8]) -> Option<Frame> {
    let (header, protocol) = (usize::from(packet.first()? & 15) * 4, *packet.get(9)?);
    let (kind, code) = (*packet.get(header)?, *packet.get(header + 1)?);
    let error = protocol == 1 && matches!(kind, 3 | 4 | 5 | 11 | 12);
    error.then(|| Frame::Icmp { from: ipv4(&packet[12..16]), to: ipv4(&packet[16..20]), kind, code })
}

fn ipv4(octets: &[u8]) -> Ipv4Addr {
    Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])
}

fn look(mut socket: Socket, seen: &Mutex<Vec<(Instant, Frame)>>, stop: &AtomicBool) {
    let mut octets = [0; 2_048];
    while !stop.load(Ordering::Acquire) {
        let Ok(length) = socket.read(&mut octets) else { continue };
        let Some(frame) = Frame::read(&octets[..length]) else { continue };
        let mut seen = seen.lock().expect("no panic in the test");
        if seen.len() < MEMORY {
            seen.push((Instant::now(), frame));
        }
    }
}

/// A host that asks for one address again and again, so that everybody who thinks it is his must answer.
pub struct Asker {
    ip: Child,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Asker {
    /// Begins to ask from `device` of `host`.
    pub fn start(host: &Host, device: &str, address: Ipv4Addr) -> Asker {
        let mut command: Command = host.command("ip");
        command.args(["-force", "-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut ip = command.spawn().expect("ip");
        let socket = host.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a socket");
        let input = ip.stdin.take().expect("its input");
        let stop = Arc::new(AtomicBool::new(false));
        let line = format!("neigh flush to {address} dev {device}\n");
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || ask(&socket, address, input, &line, &stop)
        });
        Asker { ip, stop, thread: Some(thread) }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = self.ip.kill();
        let _ = self.ip.wait();
    }
}

/// The kernel asks only when it knows of no neighbour: what it knows is taken from it each time.
fn ask(socket: &UdpSocket, address: Ipv4Addr, mut ip: ChildStdin, line: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let _ = ip.write_all(line.as_bytes());
        // The discard port: nobody there takes it for anything.
        let _ = socket.send_to(b"\r\n", (address, 9));
        thread::park_timeout(ASK);
    }
}
