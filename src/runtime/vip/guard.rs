//! The guard: a child process that alone may change addresses, and takes them away when its parent no longer works.
//!
//! It has one thread and does one thing at a time: hear its parent, its links and its kernel, and let the keeper decide.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use socket2::Socket;

use super::callers::{CONNECTIONS, Callers};
use super::event::{Event, Refusal};
use super::keeper::{Hands, Keeper, Loudness};
use super::link::Link;
use super::message::{Order, PACKET, Report, Setup};
use super::netlink::Monitor;
use super::place::{News, Places};
use crate::base::Time;
use crate::runtime::sys::packet::receive_with;
use crate::runtime::sys::process::{self, CAP_NET_ADMIN, CAP_NET_RAW};
use crate::runtime::sys::{Interest, now, poll};

/// How long the first packet may take.
const FIRST: Duration = Duration::from_secs(5);
/// How long an earlier guard may take to end. It does so at once when it has nothing to guard.
const EARLIER: Duration = Duration::from_secs(3);
/// How often somebody who waits for a lock looks, and somebody who keeps one looks whether he is waited for.
const LOOK: Duration = Duration::from_millis(5);
/// Announcements in a row: one may be lost.
const BURST: usize = 5;

/// `tandem guard`: serves the process at the other end of standard input until that ends.
pub fn run() -> ExitCode {
    process::outlive_group_signals();
    let Some((control, setup)) = first(FIRST) else {
        eprintln!("tandem guard: a part of `tandem run`, which starts it; it is of no use by hand");
        return ExitCode::from(2);
    };
    match Guard::new(control, &setup) {
        Ok(guard) => guard.serve(),
        Err((control, refusal)) => {
            let _ = control.send(&Report::Refused(refusal).write());
            ExitCode::FAILURE
        }
    }
}

fn first(patience: Duration) -> Option<(Socket, Setup)> {
    let control = io::stdin().as_fd().try_clone_to_owned().ok()?;
    let end = now() + patience;
    while now() < end {
        poll(&mut [Interest::readable(control.as_fd())], Some(end.since(now()))).ok()?;
        let mut packet = [0; PACKET];
        match receive_with(control.as_fd(), &mut packet, &mut Vec::new()) {
            Ok(length) => {
                let Order::Setup(setup) = Order::read(&packet[..length])? else { return None };
                return Some((control.into(), setup));
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
    None
}

/// The guard at work.
struct Guard {
    keeper: Keeper,
    machine: Machine,
    monitor: Monitor,
    /// The sockets of the main process, open for as long as this guard lives.
    lent: Vec<OwnedFd>,
    /// Held from before the first claim until after the last removal.
    _lock: File,
    /// Locked by those who wait for `_lock`.
    next: PathBuf,
    closed: bool,
}

impl Guard {
    fn new(control: Socket, setup: &Setup) -> Result<Guard, (Socket, Refusal)> {
        match Self::parts(setup) {
            Ok((lock, monitor, places, link)) => {
                let machine = Machine { control, places, link, callers: Callers::default(), full: false };
                let next = setup.state_dir.join("guard.next");
                let keeper = Keeper::new(setup.limit, now());
                Ok(Guard { keeper, machine, monitor, lent: Vec::new(), _lock: lock, next, closed: false })
            }
            Err(refusal) => Err((control, refusal)),
        }
    }

    fn parts(setup: &Setup) -> Result<(File, Monitor, Places, Link), Refusal> {
        for (number, name) in [(CAP_NET_ADMIN, "CAP_NET_ADMIN"), (CAP_NET_RAW, "CAP_NET_RAW")] {
            let capable = process::capable(number).map_err(|e| Refusal::System(format!("no capabilities: {e}")))?;
            if !capable {
                return Err(Refusal::Privilege(name.into()));
            }
        }
        let lock = lock(&setup.state_dir)?;
        // Before the interfaces are listed, so that no change is missed.
        let monitor = Monitor::open().map_err(|e| Refusal::System(format!("cannot watch the interfaces: {e}")))?;
        let places = Places::find(&setup.addresses)?;
        let ips: Vec<IpAddr> = places.all.iter().map(|p| p.ip).collect();
        let link = Link::open(&ips).map_err(|e| Refusal::System(format!("no packet socket: {e}")))?;
        Ok((lock, monitor, places, link))
    }

    fn serve(mut self) -> ExitCode {
        let urgency = process::hurry();
        process::lock_memory();
        self.machine.report(&Report::Ready(format!("{urgency:?}")));
        // A cable that is out already is no change that the kernel would tell of.
        let dark: Vec<String> = self.machine.places.dark().into_iter().map(String::from).collect();
        dark.iter().for_each(|name| self.keeper.carrier_lost(name, &mut self.machine));
        while !self.keeper.done(now()) {
            if self.closed && awaited(&self.next) {
                break;
            }
            if let Err(e) = self.turn() {
                self.machine.say(Event::Failed { reason: format!("the guard gives up: {e}") });
                let _ = self.machine.release();
                return ExitCode::FAILURE;
            }
        }
        ExitCode::SUCCESS
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut wait = self.keeper.next().since(now());
        if self.closed {
            wait = wait.min(LOOK);
        }
        let [arp, nd] = self.machine.link.descriptors();
        let monitor = self.monitor.as_fd();
        let mut interests = [self.machine.control.as_fd(), arp, nd, monitor].map(Interest::readable);
        // The end of a parent stays readable for ever.
        poll(if self.closed { &mut interests[1..] } else { &mut interests }, Some(wait))?;
        let now = now();
        if !self.closed {
            self.hear_parent(now)?;
        }
        self.keeper.judge(now, &mut self.machine);
        self.hear_links(now);
        self.hear_kernel(now)?;
        self.keeper.turn(now, &mut self.machine);
        Ok(())
    }

    fn hear_parent(&mut self, now: Time) -> io::Result<()> {
        let mut packet = [0; PACKET];
        let mut descriptors = Vec::new();
        loop {
            let length = match receive_with(self.machine.control.as_fd(), &mut packet, &mut descriptors) {
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // A reset is an end that left something unread.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => 0,
                Err(e) => return Err(e),
            };
            if length == 0 {
                self.closed = true;
                self.keeper.closed(now, !self.lent.is_empty(), &mut self.machine);
                return Ok(());
            }
            match Order::read(&packet[..length]) {
                Some(Order::Kick) => self.keeper.kick(now),
                Some(Order::Wish(wish)) => self.keeper.wish(now, wish, &mut self.machine),
                Some(Order::Lend) => self.lent = std::mem::take(&mut descriptors),
                Some(Order::Tickle(tickle)) => self.machine.learn(tickle),
                Some(Order::Setup(_)) | None => {}
            }
        }
    }

    fn hear_links(&mut self, now: Time) {
        let Guard { keeper, machine, .. } = self;
        let mut claims = Vec::new();
        machine.link.drain(|index, ip, mac| {
            let places = &machine.places.all;
            let there = places.iter().any(|p| p.ip == ip && p.interface.index == index);
            if there && places.iter().all(|p| p.mac != mac) && !claims.contains(&(ip, mac)) {
                claims.push((ip, mac));
            }
        });
        claims.into_iter().for_each(|(ip, mac)| keeper.heard(now, ip, mac, machine));
    }

    fn hear_kernel(&mut self, now: Time) -> io::Result<()> {
        let mut news = Vec::new();
        let places = &mut self.machine.places;
        self.monitor.drain(|change| news.extend(places.learn(change)))?;
        for piece in news {
            match piece {
                News::Deleted(ip) => self.keeper.deleted(now, ip, &mut self.machine),
                News::CarrierLost(name) => self.keeper.carrier_lost(&name, &mut self.machine),
                News::CarrierBack(name) => self.keeper.carrier_back(now, &name, &mut self.machine),
                News::Moved => self.keeper.moved(now, &mut self.machine),
            }
        }
        Ok(())
    }
}

/// What the keeper moves.
struct Machine {
    control: Socket,
    places: Places,
    link: Link,
    callers: Callers,
    /// The list of callers was full, and that was said.
    full: bool,
}

impl Machine {
    /// A parent that reads nothing is stopped; it will ask when it wakes.
    fn report(&self, report: &Report) {
        let _ = self.control.send_with_flags(&report.write(), libc::MSG_DONTWAIT);
    }

    fn learn(&mut self, tickle: super::event::Tickle) {
        if !self.callers.learn(tickle) && !std::mem::replace(&mut self.full, true) {
            let reason = format!(
                "{CONNECTIONS} connections are known already; callers of more notice a takeover when they next send"
            );
            self.say(Event::Hindered { reason });
        }
    }
}

impl Hands for Machine {
    fn claim(&mut self) -> Result<(), String> {
        self.places.claim()
    }

    fn hush(&mut self) -> Result<(), String> {
        self.places.hush()
    }

    fn release(&mut self) -> Result<(), String> {
        let released = self.places.release();
        // Afterwards: nothing can be sent from the addresses any more.
        if let Err(reason) = self.places.forget_unsent() {
            self.say(Event::Hindered { reason });
        }
        released
    }

    fn refresh(&mut self) -> Result<(), String> {
        self.places.refresh()
    }

    fn announce(&mut self, loudness: Loudness) {
        let times = if loudness == Loudness::Once { 1 } else { BURST };
        for _ in 0..times {
            for place in &self.places.all {
                self.link.announce(place.interface.index, place.mac, place.ip);
            }
        }
        if loudness == Loudness::BurstAndReply {
            for place in &self.places.all {
                self.link.announce_as_reply(place.interface.index, place.mac, place.ip);
            }
        }
    }

    fn probe(&mut self) {
        for place in &self.places.all {
            self.link.probe(place.interface.index, place.mac, place.ip);
        }
    }

    fn tickle(&mut self, first: bool) -> bool {
        self.callers.tell(first).unwrap_or_else(|e| {
            self.say(Event::Hindered { reason: format!("callers cannot be told of the takeover: {e}") });
            false
        })
    }

    fn say(&mut self, event: Event) {
        self.report(&Report::Event(event));
    }

    fn pulse(&mut self) {
        self.report(&Report::Pulse);
    }
}

/// Takes the guard's lock. Whoever waits for it says so with a second one: a guard that only keeps sockets of a dead
/// process open makes way for a new process, which needs their ports.
fn lock(dir: &Path) -> Result<File, Refusal> {
    let end = now() + EARLIER;
    let _next = wait_for(&dir.join("guard.next"), end)?;
    wait_for(&dir.join("guard.lock"), end)
}

fn wait_for(path: &Path, end: Time) -> Result<File, Refusal> {
    let failed = |e: io::Error| Refusal::System(format!("cannot lock {}: {e}", path.display()));
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(failed)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if now() < end => thread::sleep(LOOK),
            Err(TryLockError::WouldBlock) => return Err(Refusal::Locked(path.into())),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
    }
}

/// Whether somebody waits for the lock.
fn awaited(next: &Path) -> bool {
    OpenOptions::new().write(true).open(next).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_the_lock_is_seen_by_who_has_it() {
        let dir = std::env::temp_dir().join(format!("tandem-guard-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let held = lock(&dir).unwrap();
        let next = dir.join("guard.next");
        assert!(!awaited(&next));
        let waiting = thread::spawn({
            let dir = dir.clone();
            move || lock(&dir).map(drop)
        });
        let end = now() + EARLIER;
        while !awaited(&next) {
            assert!(now() < end);
            thread::yield_now();
        }
        drop(held);
        assert_eq!(waiting.join().unwrap(), Ok(()));

        let _held = lock(&dir).unwrap();
        let path = dir.join("guard.lock");
        assert_eq!(wait_for(&path, now()).unwrap_err(), Refusal::Locked(path));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
