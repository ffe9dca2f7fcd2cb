//! Calls that stand in every phase while something happens, and what becomes of them.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use super::observer::Observer;
use super::report::PhaseRow;
use super::trouble::Trouble;
use crate::agent::heard::Timing;
use crate::agent::hold::Hold;
use crate::agent::media_server::{Behaviour, Mood};
use crate::agent::script::{Outcome, Plan, Report, Step};
use crate::base::Time;
use crate::cli::stage::{Setting, Stage, bind_to};
use crate::runtime::sys;

/// Between what a canary does on its way into its phase.
const STEP: Duration = Duration::from_millis(50);
/// Longer than any drill: a canary that is to be hung up on never hangs up.
const NEVER: Duration = Duration::from_secs(3_600);
/// How the report names the crowd.
pub const NEW: &str = "new";
/// How often the agents are looked at while something is waited for.
const LOOK: Duration = Duration::from_millis(5);
/// From one call of the crowd to the next.
const PACE: Duration = Duration::from_millis(10);

/// Where the canaries are, and how they call.
#[derive(Clone, Debug)]
pub struct Field {
    /// Where callers find the pair.
    pub target: SocketAddr,
    /// Where the media server listens.
    pub server: SocketAddr,
    /// Where the caller is.
    pub caller: SocketAddr,
    /// T1 of all agents.
    pub t1: Duration,
    /// User part of the Request-URI: it chooses the group.
    pub user: String,
    /// Part of all names of this run.
    pub run: String,
}

/// A caller, a media server and the calls between them.
pub struct Canaries {
    stage: Stage<Observer>,
    field: Field,
    flock: Vec<(Hold, String)>,
    crowd: Vec<String>,
    ended: BTreeMap<String, Report>,
}

impl Canaries {
    /// The agents, without a call. The media server refuses whoever is no canary, so that the node asks another one.
    ///
    /// # Errors
    ///
    /// An address is not this host's, or taken.
    pub fn open(field: Field) -> Result<Self, Trouble> {
        let bind = |what: &'static str, addr: SocketAddr| {
            let cure = "run the drill on the host that has that address, and stop what listens there";
            bind_to(addr).map_err(|why| Trouble::Use(format!("{what} {addr}: {why}; {cure}")))
        };
        let server = bind("--media-server", field.server)?;
        let caller = bind("the caller", field.caller)?;
        let setting = Setting {
            run: field.run.clone(),
            node: field.target,
            timing: Timing { t1: field.t1, ..Timing::default() },
            behaviour: Behaviour { mood: Mood::Refusing(480, None), ..Behaviour::default() },
        };
        let stage = Stage::new(setting, caller, vec![server], Observer::new(field.t1));
        let stage = stage.map_err(Trouble::here("the agents"))?;
        Ok(Self { stage, field, flock: Vec::new(), crowd: Vec::new(), ended: BTreeMap::new() })
    }

    /// Does something slow while the agents go on.
    pub fn beside<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> Result<T, Trouble> {
        thread::scope(|scope| {
            let working = scope.spawn(work);
            while !working.is_finished() {
                self.turn(sys::now() + LOOK)?;
            }
            working.join().map_err(|_| Trouble::Here("a thread of the drill panicked".into()))
        })
    }

    /// Lets the agents go on until `until`.
    pub fn run_until(&mut self, until: Time) -> Result<(), Trouble> {
        while sys::now() < until {
            self.turn(until)?;
        }
        Ok(())
    }

    /// Places so many calls for each phase.
    pub fn place(&mut self, each: u64) {
        for hold in Hold::ALL.into_iter().flat_map(|hold| (0..each).map(move |_| hold)) {
            let call_id = self.call(hold);
            self.flock.push((hold, call_id));
        }
    }

    /// Waits until each call is in its phase, as both agents see it.
    ///
    /// # Errors
    ///
    /// What kept some of them from it within `limit`.
    pub fn settle(&mut self, limit: Duration) -> Result<(), Trouble> {
        let end = sys::now() + limit;
        while let Some((hold, call_id)) = self.astray() {
            if sys::now() < end && !self.ended.contains_key(&call_id) {
                self.turn(sys::now() + LOOK)?;
                continue;
            }
            let said = match self.ended.get(&call_id) {
                Some(report) => format!("ended as {:?}", report.outcome),
                None => "got no answer that leads there".to_owned(),
            };
            let Field { user, server, target, .. } = &self.field;
            return Err(Trouble::Use(format!(
                "a canary that was to be at `{}` {said}: does the first group that serves sip:{user}@ (--user) hold \
                 {server}, may this host call {target} (sip.allow-from), and is the node not drained?",
                hold.name()
            )));
        }
        Ok(())
    }

    /// The event happened.
    pub fn mark(&mut self, event: Time) {
        self.stage.tap.count_from(event);
    }

    /// Lets all canaries go on, one after the other over `spread` from now, with `crowd` more calls that stay until then
    /// and as many again behind the last canary; waits until all have ended, at most 64·T1.
    pub fn finish(&mut self, spread: Duration, crowd: u64) -> Result<(), Trouble> {
        let (began, count) = (sys::now(), self.flock.len() as u32);
        let share = |n: u32| began + spread * n / count.max(1);
        // One of each phase after the other, so that each phase meets every moment.
        let each = self.flock.len() / Hold::ALL.len();
        let turns = (0..each).flat_map(|n| (0..Hold::ALL.len()).map(move |hold| hold * each + n));
        let going: Vec<String> = turns.map(|n| self.flock[n].1.clone()).collect();
        let mut going = (0..).zip(going).peekable();
        let mut coming = (0..crowd as u32).map(|n| began + PACE * n).peekable();
        while going.peek().is_some() || coming.peek().is_some() {
            let now = sys::now();
            while coming.next_if(|at| *at <= now).is_some() {
                self.come();
            }
            while let Some((_, call_id)) = going.next_if(|(n, _)| share(*n) <= now) {
                self.stage.go_on(now, &call_id);
            }
            self.turn(now + LOOK)?;
        }
        if crowd > 0 {
            // Nobody leaves any more, so what is free fills up; some may have to repeat their INVITE.
            for _ in 0..crowd {
                self.come();
                self.run_until(sys::now() + PACE)?;
            }
            self.run_until(sys::now() + self.field.t1 * 2)?;
        }
        self.disperse();
        self.drain_out(self.field.t1 * 64)
    }

    /// Ends everything at once, whatever comes of it.
    pub fn give_up(&mut self) -> Result<(), Trouble> {
        let calls: Vec<String> = self.flock.iter().map(|(_, call_id)| call_id.clone()).collect();
        calls.iter().for_each(|call_id| self.stage.go_on(sys::now(), call_id));
        self.disperse();
        self.drain_out(self.field.t1 * 4)
    }

    /// What became of the canaries, phase by phase, and of the crowd; whether all were to be lost.
    pub fn rows(&self, hopeless: bool) -> Vec<PhaseRow> {
        let row = |hold: Hold| {
            let calls = self.flock.iter().filter(|(of, _)| *of == hold);
            let reasons: Vec<String> = calls.clone().filter_map(|(_, call_id)| self.lost(hold, call_id)).collect();
            let (calls, lost) = (calls.count() as u64, reasons.len() as u64);
            PhaseRow { phase: hold.name(), calls, lost, expected: if hopeless { calls } else { 0 }, reasons }
        };
        let new = {
            let reasons: Vec<String> = self.crowd.iter().filter_map(|call_id| self.left_alone(call_id)).collect();
            let (calls, lost) = (self.crowd.len() as u64, reasons.len() as u64);
            PhaseRow { phase: NEW, calls, lost, expected: if hopeless { calls } else { 0 }, reasons }
        };
        Hold::ALL.into_iter().map(row).chain((new.calls > 0).then_some(new)).collect()
    }

    /// The most calls that the media server had at once.
    pub fn most(&self) -> u64 {
        self.stage.servers.iter().map(|server| server.tally().busiest as u64).sum()
    }

    /// What passed.
    pub fn observer(&self) -> &Observer {
        &self.stage.tap
    }

    /// What the agents saw somebody do against RFC 3261.
    pub fn violations(&self) -> Vec<String> {
        let of_servers = self.stage.servers.iter().flat_map(|server| server.violations());
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for said in self.stage.caller.violations().iter().chain(of_servers) {
            *counts.entry(said).or_default() += 1;
        }
        counts.into_iter().map(|(said, count)| format!("{count} times: {said}")).collect()
    }

    /// One more of the crowd.
    fn come(&mut self) {
        let call_id = self.call(Hold::Answered);
        self.crowd.push(call_id);
    }

    fn call(&mut self, hold: Hold) -> String {
        let call_id = self.stage.caller.next_call_id();
        self.stage.call(sys::now(), plan(hold, &self.field.user));
        call_id
    }

    fn turn(&mut self, until: Time) -> Result<(), Trouble> {
        self.stage.turn(until).map_err(Trouble::here("the sockets of the agents"))?;
        let reports = self.stage.take_reports();
        self.ended.extend(reports.into_iter().map(|report| (report.call_id.clone(), report)));
        Ok(())
    }

    /// One that is not in its phase.
    fn astray(&self) -> Option<(Hold, String)> {
        let there = |(hold, call_id): &&(Hold, String)| {
            let held = self.stage.servers.iter().any(|server| server.waits(call_id.as_bytes()) == Some(*hold));
            let told = match hold {
                Hold::Trying => 100,
                Hold::Ringing | Hold::Cancel => 180,
                Hold::Answered | Hold::ReInvite | Hold::Bye => 200,
            };
            held && self.stage.tap.was_told(call_id, told)
        };
        self.flock.iter().find(|canary| !there(canary)).cloned()
    }

    fn disperse(&mut self) {
        let now = sys::now();
        self.crowd.iter().for_each(|call_id| self.stage.go_on(now, call_id));
    }

    fn drain_out(&mut self, limit: Duration) -> Result<(), Trouble> {
        let end = sys::now() + limit;
        while self.is_busy() && sys::now() < end {
            self.turn(sys::now() + LOOK)?;
        }
        // What one end has finished with may be on its way to the other.
        self.run_until(sys::now() + self.field.t1)
    }

    fn is_busy(&self) -> bool {
        self.stage.caller.open() > 0 || self.stage.servers.iter().any(|server| server.alive_calls() > 0)
    }

    /// What is wrong with the end of a call of the crowd, which may be refused; `None`: nothing.
    fn left_alone(&self, call_id: &str) -> Option<String> {
        match self.ended.get(call_id).map(|report| report.outcome) {
            Some(Outcome::Failed(status)) if self.stage.tap.was_told(call_id, 200) => {
                Some(format!("{call_id}: refused with {status} and answered"))
            }
            Some(Outcome::Completed | Outcome::Failed(_)) => None,
            Some(other) => Some(format!("{call_id}: {other:?}")),
            None => Some(format!("{call_id}: did not end within 64*T1")),
        }
    }

    /// What is wrong with the end of a call; `None`: nothing.
    fn lost(&self, hold: Hold, call_id: &str) -> Option<String> {
        let Some(report) = self.ended.get(call_id) else {
            return Some(format!("{call_id}: did not end within 64*T1"));
        };
        let whole = match (hold, report.outcome) {
            // Without a 487 only its patience ended (RFC 3261 §9.1).
            (Hold::Cancel, Outcome::Cancelled) => self.stage.tap.was_told(call_id, 487),
            (Hold::Cancel, _) => false,
            (_, outcome) => outcome == Outcome::Completed && report.refused.is_empty(),
        };
        (!whole).then(|| format!("{call_id}: {:?}, refused {:?}", report.outcome, report.refused))
    }
}

/// An address of this host from which `target` can be reached, with a port of the kernel's choice.
///
/// # Errors
///
/// There is no route.
pub fn local_to(target: SocketAddr) -> io::Result<SocketAddr> {
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(target)?;
    Ok(SocketAddr::new(socket.local_addr()?.ip(), 0))
}

/// What a caller does so that its call gets into this phase, and after it.
fn plan(hold: Hold, user: &str) -> Plan {
    Plan {
        user: user.to_owned(),
        params: format!(";{}={}", Hold::PARAMETER, hold.name()),
        hold: if hold == Hold::Answered { NEVER } else { STEP },
        steps: if hold == Hold::ReInvite { vec![(STEP, Step::ReInvite)] } else { Vec::new() },
        cancel_after: (hold == Hold::Cancel).then_some(STEP * 4),
        ..Plan::default()
    }
}
