//! A relay in the way of the TCP connections from one host to another: it delays, or takes nothing more.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::lan::{Host, Rules};
use super::poll::SOON;

/// The relay's own connections carry it, so that they are not sent back to the relay.
const MARK: u32 = 77;
/// Octets on their way in one direction of one connection.
const MOST: usize = 1 << 20;
/// Connections at one time.
const CONNECTIONS: usize = 64;
/// A look at stop, stall and due octets at least this often.
const TURN: Duration = Duration::from_millis(2);

#[derive(Default)]
struct Control {
    stop: AtomicBool,
    stalled: AtomicBool,
    delay_us: AtomicU64,
    carried: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

/// A relay. Dropped, its connections end and new ones go straight again.
pub struct Relay {
    control: Arc<Control>,
    threads: Vec<JoinHandle<()>>,
    _redirect: Rules,
}

impl Relay {
    /// From now on connections that `host` opens to `port` of `to` go through a relay; those that are open already do
    /// not.
    #[track_caller]
    pub fn between(host: &Host, to: &[Ipv4Addr], port: u16) -> Relay {
        let listener = host.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a listener");
        let own = listener.local_addr().expect("its address").port();
        listener.set_nonblocking(true).expect("a listener that does not block");
        let list = to.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ");
        let redirect = host.rules(
            "ip",
            &format!(
                "type nat hook output priority -100;\n \
                 ip daddr {{ {list} }} tcp dport {port} meta mark != {MARK} redirect to :{own}"
            ),
        );
        let control = Arc::new(Control::default());
        let accept = {
            let (control, host, to) = (Arc::clone(&control), host.clone(), to.to_vec());
            move || accept(&listener, &host, &to, port, &control)
        };
        Relay { control, threads: vec![thread::spawn(accept)], _redirect: redirect }
    }

    /// Each octet stays this long, both ways.
    pub fn delay(&self, delay: Duration) {
        self.control.delay_us.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// Takes nothing more from either side, or goes on.
    pub fn stall(&self, stalled: bool) {
        self.control.stalled.store(stalled, Ordering::Release);
    }

    /// Octets that it has carried.
    pub fn carried(&self) -> u64 {
        self.control.carried.load(Ordering::Acquire)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.control.stop.store(true, Ordering::Release);
        for stream in self.control.open.lock().expect("no panic in a relay").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The original target is among `to`; the first that answers is taken, which with one address is the one.
fn accept(listener: &TcpListener, host: &Host, to: &[Ipv4Addr], port: u16, control: &Arc<Control>) {
    let mut pumps = Vec::new();
    while !control.stop.load(Ordering::Acquire) {
        let Ok((near, _)) = listener.accept() else {
            thread::park_timeout(TURN);
            continue;
        };
        pumps.retain(|pump: &JoinHandle<()>| !pump.is_finished());
        let far = to.iter().find_map(|address| host.within(|| connect(SocketAddr::new(IpAddr::V4(*address), port))));
        let Some(far) = far.filter(|_| pumps.len() < 2 * CONNECTIONS) else { continue };
        let mut open = control.open.lock().expect("no panic in a relay");
        open.retain(|stream| stream.take_error().is_ok_and(|error| error.is_none()) && stream.peer_addr().is_ok());
        for (from, into) in [(&near, &far), (&far, &near)] {
            let (from, into) = (from.try_clone().expect("a handle"), into.try_clone().expect("a handle"));
            open.push(from.try_clone().expect("a handle"));
            let control = Arc::clone(control);
            pumps.push(thread::spawn(move || pump(from, into, &control)));
        }
    }
    for pump in pumps {
        let _ = pump.join();
    }
}

fn connect(to: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).ok()?;
    socket.set_mark(MARK).ok()?;
    socket.connect_timeout(&to.into(), SOON).ok()?;
    Some(socket.into())
}

/// Carries one direction until either side ends.
fn pump(mut from: TcpStream, mut into: TcpStream, control: &Control) {
    let mut queue: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let (mut octets, mut waiting, mut ended) = (vec![0; 65_536], 0, false);
    let _ = from.set_read_timeout(Some(TURN));
    let _ = from.set_nodelay(true);
    while !control.stop.load(Ordering::Acquire) {
        if ended && queue.is_empty() {
            break;
        }
        if control.stalled.load(Ordering::Acquire) {
            thread::park_timeout(TURN);
            continue;
        }
        let delay = Duration::from_micros(control.delay_us.load(Ordering::Acquire));
        if waiting < MOST && !ended {
            match from.read(&mut octets) {
                Ok(0) => ended = true,
                Ok(length) => {
                    queue.push_back((Instant::now() + delay, octets[..length].to_vec()));
                    waiting += length;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => ended = true,
            }
        } else {
            thread::park_timeout(TURN);
        }
        while queue.front().is_some_and(|(due, _)| *due <= Instant::now()) {
            let Some((_, piece)) = queue.pop_front() else { break };
            waiting -= piece.len();
            control.carried.fetch_add(piece.len() as u64, Ordering::Relaxed);
            if into.write_all(&piece).is_err() {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
        }
    }
    let _ = into.shutdown(Shutdown::Write);
}
