//! `cluster.vip-manager = "script"`: a program of the operator moves the address, where only he can: in a cloud's API.
//!
//! It is run as `SCRIPT active|standby EPOCH ADDRESS...`, one run at a time. What is wished meanwhile replaces what was
//! wished before and has not begun. It gets no input; what it prints on standard error goes where the log goes.
#![forbid(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use socket2::Socket;

use super::event::{Cause, Event, Wish};
use super::message::{Order, PACKET, Report};
use crate::base::Epoch;
use crate::config::VirtualIp;
use crate::runtime::sys::packet::receive_with;
use crate::runtime::sys::{Interest, now, poll, process};
use std::os::fd::AsFd;

/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Runs the script for the process at the other end of `control`, until that end is closed.
pub struct Script {
    /// The program.
    pub path: PathBuf,
    /// How long one run may take; then it is killed with all that it started.
    pub limit: Duration,
    /// Its last arguments.
    pub addresses: Vec<VirtualIp>,
    /// Orders come from it, reports go to it.
    pub control: Socket,
}

impl Script {
    /// The body of a thread.
    pub fn serve(self) {
        let mut epoch = Epoch::default();
        let mut active = false;
        while let Some(wish) = self.last_wish() {
            let event = match wish {
                Wish::Hold { epoch: claim } => {
                    epoch = claim;
                    let done = self.run("active", epoch);
                    active = done.is_ok();
                    done.map_or_else(failed, |()| Event::Held { epoch })
                }
                Wish::Drop => {
                    active = false;
                    self.run("standby", epoch).map_or_else(failed, |()| Event::Dropped { cause: Cause::Wished })
                }
                // The script has no word for it: the address stays until it is dropped.
                Wish::Quiet => Event::Quiet,
                Wish::Announce if active => self.run("active", epoch).map_or_else(failed, |()| Event::Held { epoch }),
                Wish::Announce => continue,
                // Nobody can be asked; the cloud's word decides.
                Wish::Probe { .. } => Event::ProbeEnded,
            };
            let _ = self.control.send_with_flags(&Report::Event(event).write(), libc::MSG_DONTWAIT);
        }
    }

    /// Waits for a wish and takes the last of those that are there; `None` at the end of the other side. A probe has
    /// its answer at once and replaces nothing.
    fn last_wish(&self) -> Option<Wish> {
        let mut last = None;
        loop {
            let mut packet = [0; PACKET];
            match receive_with(self.control.as_fd(), &mut packet, &mut Vec::new()) {
                Ok(0) => return None,
                Ok(length) => match Order::read(&packet[..length]) {
                    Some(Order::Wish(wish @ Wish::Probe { .. })) if last.is_none() => return Some(wish),
                    Some(Order::Wish(Wish::Probe { .. })) => {
                        let answer = Report::Event(Event::ProbeEnded).write();
                        let _ = self.control.send_with_flags(&answer, libc::MSG_DONTWAIT);
                    }
                    Some(Order::Wish(wish)) => last = Some(wish),
                    _ => {}
                },
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && last.is_some() => return last,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [Interest::readable(self.control.as_fd())], None).ok()?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    fn run(&self, role: &str, epoch: Epoch) -> Result<(), String> {
        let name = self.path.display();
        let mut child = Command::new(&self.path)
            .arg(role)
            .arg(epoch.counter.to_string())
            .args(self.addresses.iter().map(|a| a.ip.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|e| format!("cluster.failover-script {name} cannot be started: {e}"))?;
        match self.wait(&mut child).map_err(|e| format!("cluster.failover-script {name} is lost: {e}"))? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("cluster.failover-script {name} {role}: {status}")),
            None => {
                Err(format!("cluster.failover-script {name} {role}: not done within {:?}, it was killed", self.limit))
            }
        }
    }

    fn wait(&self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        let end = now() + self.limit;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if now() >= end {
                process::kill_group(child.id())?;
                child.wait()?;
                return Ok(None);
            }
            thread::sleep(LOOK);
        }
    }
}

fn failed(reason: String) -> Event {
    Event::Failed { reason }
}
