//! The virtual addresses of a node: held by one of a pair, taken over by the other.
//!
//! A [`Vip`] says what is wished and hears what became of it. Who does it depends on `cluster.vip-manager`:
//! a guard process of our own, a script of the operator, or somebody who is none of our business (keepalived, a load
//! balancer). Wishes come from the cluster, which this module does not know.
//!
//! The guard is the only process with CAP_NET_ADMIN and CAP_NET_RAW. It lives beside the main process so that a hang or
//! a crash of that cannot keep the addresses: a watchdog takes them away, and behind it a lease of the kernel.
#![forbid(unsafe_code)]

mod arp;
mod checksum;
mod nd;
mod segment;
mod event;
mod message;
mod keeper;
mod netlink;
mod place;
mod link;
mod callers;
pub mod guard;
mod script;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};

pub use arp::Mac;
pub use callers::CONNECTIONS;
pub use event::{Cause, Connection, Event, Refusal, Tickle, Wish};
pub use message::ADDRESSES;

use crate::base::Time;
use crate::config::VirtualIp;
use crate::runtime::sys::packet::{receive_with, send_with};
use crate::runtime::sys::process::{self, CAP_NET_ADMIN, CAP_NET_RAW};
use crate::runtime::sys::{Interest, now, poll};
use keeper::PULSE;
use message::{Order, PACKET, Report, Setup};
use script::Script;

/// How long a guard may take to be ready: an earlier one ends first.
const READY: Duration = Duration::from_secs(5);
/// A guard that gives no sign for so long is as good as dead. Far below the kernel's lease, far above a pulse.
const GUARD_SILENT: Duration = Duration::from_millis(600);
/// How long [`Vip::stop`] waits for the guard's end.
const END: Duration = Duration::from_secs(1);

/// `cluster.vip-manager`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manager {
    /// A guard process of our own.
    Builtin {
        /// The program that has the `guard` command: this one.
        program: PathBuf,
        /// Where the guard's locks are.
        state_dir: PathBuf,
        /// How long this process may be silent while it holds addresses.
        limit: Duration,
    },
    /// `cluster.failover-script`.
    Script {
        /// The program.
        path: PathBuf,
        /// How long one run may take.
        limit: Duration,
    },
    /// Somebody else; wishes are fulfilled by saying so.
    None,
}

impl Manager {
    /// How long the main process may be silent.
    pub const LIMIT: Duration = Duration::from_millis(80);
    /// How often it kicks.
    pub const KICK: Duration = Duration::from_millis(10);
    /// How long a script may run, unless configured.
    pub const SCRIPT_LIMIT: Duration = Duration::from_secs(5);

    /// A guard of this very program, with the usual limit.
    pub fn builtin(state_dir: PathBuf) -> Self {
        // The running program, even if its file has been replaced since.
        Manager::Builtin { program: "/proc/self/exe".into(), state_dir, limit: Self::LIMIT }
    }
}

/// The virtual addresses cannot be managed.
#[derive(Debug)]
pub enum VipError {
    /// The guard says why it cannot.
    Refused(Refusal),
    /// More than [`ADDRESSES`], or none.
    Count(usize),
    /// The guard or the script's thread could not be started.
    Start(io::Error),
    /// The guard did not say that it is ready.
    Silent,
    /// The privileges that only the guard should have could not be given up.
    Privileges(io::Error),
}

impl fmt::Display for VipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Count(n) => write!(f, "cluster.virtual-ip: {n} addresses; write 1 to {ADDRESSES}"),
            Self::Start(e) => write!(f, "the keeper of the virtual addresses cannot be started: {e}"),
            Self::Silent => write!(f, "the guard of the virtual addresses was not ready within {READY:?}"),
            Self::Privileges(e) => write!(
                f,
                "CAP_NET_ADMIN and CAP_NET_RAW cannot be given up after the guard took them: {e}; \
                 allow capset and prctl in the unit's SystemCallFilter= (deploy/systemd/vip.conf does)"
            ),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Privilege(name) => write!(
                f,
                "vip-manager = \"builtin\" needs CAP_NET_ADMIN and CAP_NET_RAW, and {name} is missing; \
                 give both to the unit (AmbientCapabilities=, see deploy/systemd/vip.conf) or to the program \
                 (setcap cap_net_admin,cap_net_raw+ep), or let somebody else move the address \
                 (vip-manager = \"script\" or \"none\")"
            ),
            Self::NoInterface(ip) => write!(
                f,
                "cluster.virtual-ip {ip}: no interface has a subnet that covers it; \
                 name the interface (\"{ip}%eth0\"), or give one an address of that subnet"
            ),
            Self::UnknownInterface(name) => {
                write!(f, "cluster.virtual-ip: there is no interface {name:?}; `ip link` lists them")
            }
            Self::NoEthernet(name) => write!(
                f,
                "cluster.virtual-ip: interface {name} has no Ethernet address, so nobody can be told that an address \
                 moved to it; choose another one, or vip-manager = \"script\""
            ),
            Self::Locked(path) => write!(
                f,
                "{} is locked by the guard of another node that runs with this state-dir; \
                 stop that node, or give this one a state-dir of its own",
                path.display()
            ),
            Self::System(reason) => write!(f, "the guard of the virtual addresses cannot start: {reason}"),
        }
    }
}

impl std::error::Error for VipError {}

/// See the module. All methods may be called from any thread and never block.
#[derive(Debug)]
pub struct Vip {
    control: Socket,
    keeper: KeptBy,
    /// When the guard last gave a sign, in microseconds.
    heard: AtomicU64,
    /// When somebody last asked for one, in microseconds.
    asked: AtomicU64,
    /// It hangs, and that was told.
    silent: AtomicBool,
    /// It has ended.
    ended: AtomicBool,
}

#[derive(Debug)]
enum KeptBy {
    Guard(Mutex<Child>),
    Script,
    /// Events wait in the other end of the pair.
    Nobody(Socket),
}

impl Vip {
    /// Starts the manager of `addresses`. A guard that is ready is the only process with CAP_NET_ADMIN and CAP_NET_RAW:
    /// this thread gives them up, so it must be called before there are other threads. It waits for the end of an
    /// earlier guard, so it must also be called before sockets are bound.
    pub fn start(manager: Manager, addresses: Vec<VirtualIp>) -> Result<Vip, VipError> {
        let guarded = matches!(manager, Manager::Builtin { .. });
        let vip = Self::start_first(manager, addresses)?;
        if guarded {
            process::give_up(&[CAP_NET_ADMIN, CAP_NET_RAW]).map_err(VipError::Privileges)?;
        }
        Ok(vip)
    }

    /// The same with privileges kept, for another manager that is still to be started.
    pub fn start_first(manager: Manager, addresses: Vec<VirtualIp>) -> Result<Vip, VipError> {
        let some = !addresses.is_empty() || matches!(manager, Manager::None);
        if !some || addresses.len() > ADDRESSES {
            return Err(VipError::Count(addresses.len()));
        }
        let (control, other) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).map_err(VipError::Start)?;
        let keeper = match manager {
            Manager::Builtin { program, state_dir, limit } => {
                let setup = Setup { state_dir, limit, addresses };
                let child = start_guard(program, setup, &control, other)?;
                KeptBy::Guard(Mutex::new(child))
            }
            Manager::Script { path, limit } => {
                let script = Script { path, limit, addresses, control: other };
                let thread = std::thread::Builder::new().name("vip-script".into());
                thread.spawn(|| script.serve()).map_err(VipError::Start)?;
                KeptBy::Script
            }
            Manager::None => KeptBy::Nobody(other),
        };
        Ok(Vip::of(control, keeper))
    }

    fn of(control: Socket, keeper: KeptBy) -> Vip {
        let started = now().as_micros();
        Vip {
            control,
            keeper,
            heard: AtomicU64::new(started),
            asked: AtomicU64::new(started),
            silent: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    /// Says what is wanted. What becomes of it is an event.
    pub fn wish(&self, wish: Wish) -> io::Result<()> {
        let KeptBy::Nobody(other) = &self.keeper else { return self.order(&Order::Wish(wish)) };
        let event = match wish {
            Wish::Hold { epoch } => Event::Held { epoch },
            Wish::Announce => return Ok(()),
            Wish::Quiet => Event::Quiet,
            Wish::Drop => Event::Dropped { cause: Cause::Wished },
            Wish::Probe { .. } => Event::ProbeEnded,
        };
        tell(other, event)
    }

    /// Says that what nobody else keeps could not be taken: the event of [`Manager::None`] that its user brings about.
    pub fn fail(&self, reason: String) -> io::Result<()> {
        let KeptBy::Nobody(other) = &self.keeper else { return Ok(()) };
        tell(other, Event::Failed { reason })
    }

    /// A sign of work, due every [`Manager::KICK`] while the process works and only then.
    pub fn kick(&self) {
        // Kicks that nobody reads would take the room of wishes.
        if matches!(self.keeper, KeptBy::Guard(_)) && !self.silent.load(Ordering::Relaxed) {
            // A guard that takes no more kicks gives no more signs either, which `event` tells.
            let _ = self.order(&Order::Kick);
        }
    }

    /// Lets the guard keep these sockets open in case this process dies: datagrams then wait instead of being answered
    /// "port unreachable". Replaces the sockets of the last call; at most 64.
    pub fn lend(&self, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        match self.keeper {
            KeptBy::Guard(_) => send_with(self.control.as_fd(), &Order::Lend.write(), sockets),
            _ => Ok(()),
        }
    }

    /// Changes the list of connections whose callers are told at a takeover; at most [`CONNECTIONS`].
    pub fn tickle(&self, tickle: Tickle) -> io::Result<()> {
        match self.keeper {
            KeptBy::Guard(_) => self.order(&Order::Tickle(tickle)),
            _ => Ok(()),
        }
    }

    /// The next event; `None` if there is none now. [`Vip::as_fd`] is readable when there may be one; the death of a
    /// guard that hangs is noticed only by asking, so ask now and then.
    pub fn event(&self) -> Option<Event> {
        let mut packet = [0; PACKET];
        loop {
            match receive_with(self.control.as_fd(), &mut packet, &mut Vec::new()) {
                Ok(0) => return self.guard_ended(),
                Ok(length) => {
                    self.heard.store(now().as_micros(), Ordering::Relaxed);
                    match Report::read(&packet[..length]) {
                        Some(Report::Event(event)) => return Some(event),
                        Some(Report::Pulse) if self.silent.swap(false, Ordering::Relaxed) => {
                            return Some(Event::GuardBack);
                        }
                        _ => {}
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.guard_ended(),
            }
        }
        self.guard_hangs(now())
    }

    fn guard_ended(&self) -> Option<Event> {
        if let KeptBy::Guard(child) = &self.keeper {
            let _ = child.lock().try_wait();
        }
        let told = self.ended.swap(true, Ordering::Relaxed) || self.silent.load(Ordering::Relaxed);
        (!told).then_some(Event::GuardDied)
    }

    fn guard_hangs(&self, now: Time) -> Option<Event> {
        let asked = Time::from_micros(self.asked.swap(now.as_micros(), Ordering::Relaxed));
        if now.since(asked) > PULSE {
            // Who has not asked himself knows nothing of the other: the whole machine may have stood still.
            self.heard.store(now.as_micros(), Ordering::Relaxed);
        }
        let heard = Time::from_micros(self.heard.load(Ordering::Relaxed));
        let hangs = matches!(self.keeper, KeptBy::Guard(_)) && now.since(heard) > GUARD_SILENT;
        (hangs && !self.silent.swap(true, Ordering::Relaxed)).then_some(Event::GuardDied)
    }

    /// Ends the manager: addresses are removed and lent sockets given back, before this returns (within a second).
    pub fn stop(self) {
        let _ = self.lend(&[]);
        let Vip { control, keeper, .. } = self;
        drop(control);
        if let KeptBy::Guard(child) = keeper {
            let mut child = child.into_inner();
            let end = now() + END;
            while now() < end && child.try_wait().is_ok_and(|ended| ended.is_none()) {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    fn order(&self, order: &Order) -> io::Result<()> {
        self.control.send_with_flags(&order.write(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).map(drop)
    }
}

impl AsFd for Vip {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

fn tell(other: &Socket, event: Event) -> io::Result<()> {
    other.send_with_flags(&Report::Event(event).write(), libc::MSG_DONTWAIT).map(drop)
}

/// Starts a guard and waits until it is ready.
fn start_guard(program: PathBuf, setup: Setup, control: &Socket, other: Socket) -> Result<Child, VipError> {
    let mut command = Command::new(program);
    command.arg("guard").stdin(Stdio::from(OwnedFd::from(other))).stdout(Stdio::null());
    // What is meant for the main process's group (Ctrl-C) does not concern the guard.
    let mut child = command.process_group(0).spawn().map_err(VipError::Start)?;
    // It holds a copy of the other end, without which the guard's death would not be noticed.
    drop(command);
    let ready = control
        .send_with_flags(&Order::Setup(setup).write(), libc::MSG_NOSIGNAL)
        .map_err(VipError::Start)
        .and_then(|_| wait_for_ready(control));
    if let Err(e) = ready {
        let _ = child.kill();
        let _ = child.wait();
        return Err(e);
    }
    Ok(child)
}

fn wait_for_ready(control: &Socket) -> Result<(), VipError> {
    let end = now() + READY;
    while now() < end {
        let mut packet = [0; PACKET];
        match receive_with(control.as_fd(), &mut packet, &mut Vec::new()) {
            Ok(0) => return Err(VipError::Silent),
            Ok(length) => match Report::read(&packet[..length]) {
                Some(Report::Ready(urgency)) => {
                    tracing::info!(urgency, "the guard of the virtual addresses is ready");
                    return Ok(());
                }
                Some(Report::Refused(refusal)) => return Err(VipError::Refused(refusal)),
                // Nothing else comes before it.
                _ => {}
            },
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let left = Some(end.since(now()));
                poll(&mut [Interest::readable(control.as_fd())], left).map_err(VipError::Start)?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(VipError::Start(e)),
        }
    }
    Err(VipError::Silent)
}

#[cfg(test)]
mod tests;
