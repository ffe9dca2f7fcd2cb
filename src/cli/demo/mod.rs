//! `tandem demo`: the main job on one screen. Two nodes on loopback that are one proxy, three media servers and a
//! caller. One media server dies and comes back, the active node is killed, comes back, and the other one is killed;
//! no call that can be saved is lost.

mod nodes;
mod tally;
mod takeover;
mod screen;

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::nodes::{NODES, Nodes, Seen};
use self::screen::Screen;
use self::takeover::Takeovers;
use self::tally::{Death, Tally};
use crate::agent::chance::Chance;
use crate::agent::heard::Timing;
use crate::agent::media_server::{Behaviour, Mood};
use crate::agent::script::{Plan, Step};
use crate::base::Time;
use crate::cli::stage::{self, Setting, Stage};
use crate::cli::table::{Align, table};
use crate::cli::terminal::{FAILURE, SUCCESS, complain, say};
use crate::runtime::sys;

/// Length without `--seconds`.
const LENGTH: u64 = 30;
/// Shorter leaves no room for a start, a death, a return and calls around them.
const SHORTEST: u64 = 15;
const SERVERS: usize = 3;
/// The one that dies.
const MORTAL: usize = 1;
/// Between two calls: 80 calls/s.
const PACE: Duration = Duration::from_micros(12_500);
/// The longest call: set-up on the second choice and the longest hold.
const LONGEST_CALL: Duration = Duration::from_millis(4_000);
/// Calls on the server that dies may have to wait for their BYE to time out (64·T1, RFC 3261 §17.1.2.2).
const PATIENCE: Duration = Duration::from_secs(35);
/// How long the nodes may take to become a pair.
const START: Duration = Duration::from_secs(20);
/// No node is killed so shortly before the last call: some calls are to come after it.
const AFTERMATH: Duration = Duration::from_millis(1_500);

/// What happens, and after which share of the time in which calls come, in percent.
const PLOT: [(u32, Turn); 6] = [
    (10, Turn::ServerDies),
    (30, Turn::ServerReturns),
    (40, Turn::NodeDies),
    (50, Turn::NodeReturns),
    (75, Turn::NodeDies),
    (90, Turn::NodeReturns),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    ServerDies,
    ServerReturns,
    /// The active one; waits until the pair is armed.
    NodeDies,
    NodeReturns,
}

/// Runs the demo for about `seconds` (default 30, at least 15). Exit code 1 if a call was lost: a set-up that failed, or
/// a dialog that broke on a live media server.
pub fn run(seconds: Option<u64>) -> ExitCode {
    let length = Duration::from_secs(seconds.unwrap_or(LENGTH).max(SHORTEST));
    match Demo::open(length).and_then(Demo::play) {
        Ok(0) => ExitCode::from(SUCCESS),
        Ok(_) => ExitCode::from(FAILURE),
        Err(why) => {
            complain(&format!("tandem demo: {why}"));
            ExitCode::from(FAILURE)
        }
    }
}

struct Demo {
    nodes: Nodes,
    stage: Stage<()>,
    tally: Tally,
    takeovers: Takeovers,
    screen: Screen,
    chance: Chance,
    opened: Time,
    /// When calls began.
    began: Time,
    length: Duration,
    death: Death,
    /// The node that was killed last, while it is dead.
    dead: Option<usize>,
    /// Index of what happens next in [`PLOT`].
    next: usize,
    stopped: Arc<AtomicBool>,
    rate: Rate,
}

impl Demo {
    fn open(length: Duration) -> Result<Self, String> {
        let opened = sys::now();
        let sockets = (0..SERVERS).map(|_| stage::bind()).collect::<Result<Vec<_>, _>>().map_err(text)?;
        let addrs = sockets.iter().map(|socket| socket.local_addr()).collect::<Result<Vec<_>, _>>().map_err(text)?;
        let stopped = stop_on_signal()?;
        let nodes = Nodes::start(&addrs)?;
        let behaviour = Behaviour {
            ring_after: Some(Duration::from_millis(30)),
            answer_after: Duration::from_millis(250),
            mood: Mood::Sound,
        };
        let setting = Setting { run: String::new(), node: nodes.sip, timing: Timing::default(), behaviour };
        let stage = stage::bind().and_then(|socket| Stage::new(setting, socket, sockets, ())).map_err(text)?;
        say(&format!(
            "tandem demo: {NODES} nodes behind {}, {SERVERS} media servers, 1 caller, {} s\n",
            nodes.sip,
            length.as_secs()
        ));
        Ok(Self {
            nodes,
            stage,
            tally: Tally::new(addrs.iter().copied()),
            takeovers: Takeovers::default(),
            screen: Screen::new(),
            chance: Chance::new(1),
            opened,
            began: opened,
            length,
            death: Death { server: addrs[MORTAL], at: Time::NEVER },
            dead: None,
            next: 0,
            stopped,
            rate: Rate::default(),
        })
    }

    /// Plays it; returns how many calls were lost.
    fn play(mut self) -> Result<u64, String> {
        self.pair_up()?;
        let end = (self.opened + self.length).max(self.began + LONGEST_CALL * 2);
        let last_call = end - LONGEST_CALL;
        let mut next_call = self.began;
        loop {
            let now = sys::now();
            let stopped = self.is_stopped();
            let calling = now < last_call && !stopped;
            if calling {
                self.act(now, last_call)?;
            }
            while calling && next_call <= now {
                next_call = next_call + PACE;
                self.call(now);
            }
            let wake = if calling { next_call } else { now + Duration::from_millis(100) };
            self.turn(wake)?;
            self.takeovers.look(&self.stage.caller, &self.nodes.seen());
            self.show(now);
            if !calling && (self.stage.caller.open() == 0 || now >= end + PATIENCE || stopped) {
                return self.close();
            }
        }
    }

    /// Waits until either node could die without a loss. The media servers answer probes meanwhile.
    fn pair_up(&mut self) -> Result<(), String> {
        while !self.nodes.seen().is_armed() && !self.is_stopped() {
            let now = sys::now();
            if let Some(why) = self.nodes.fallen() {
                return Err(why);
            }
            if now >= self.opened + START {
                let logs = self.nodes.keep_logs();
                return Err(format!("the nodes did not become a pair within {START:?}; their logs are in {logs}"));
            }
            self.turn(now + Duration::from_millis(20))?;
        }
        self.began = sys::now();
        self.note(self.began, "the pair is armed: either node can die");
        Ok(())
    }

    fn turn(&mut self, until: Time) -> Result<(), String> {
        self.stage.turn(until).map_err(text)?;
        for report in self.stage.take_reports() {
            self.tally.add(&report, self.death);
        }
        Ok(())
    }

    fn call(&mut self, now: Time) {
        self.tally.offered += 1;
        let (quiet, hold) = (self.chance.millis(600..1_000), self.chance.millis(900..1_500));
        self.stage.call(now, Plan { hold, steps: vec![(quiet, Step::Info)], ..Plan::default() });
    }

    /// What the plot has for this moment.
    fn act(&mut self, now: Time, last_call: Time) -> Result<(), String> {
        let Some((share, turn)) = PLOT.get(self.next).copied() else { return Ok(()) };
        if now < self.began + last_call.since(self.began) * share / 100 {
            return Ok(());
        }
        match turn {
            Turn::ServerDies => {
                self.death.at = now;
                self.stage.kill(MORTAL);
                self.note(now, &format!("media server {} dies with its calls", self.death.server));
            }
            Turn::ServerReturns => {
                if self.stage.restart(MORTAL).is_err() {
                    return Ok(());
                }
                self.note(now, &format!("media server {} is back", self.death.server));
            }
            Turn::NodeDies => {
                let seen = self.nodes.seen();
                let Some(active) = seen.active().filter(|_| seen.is_armed()) else { return Ok(()) };
                if now + AFTERMATH > last_call {
                    return Ok(());
                }
                self.nodes.kill(active);
                self.takeovers.killed(active, now);
                self.dead = Some(active);
                self.note(now, &format!("SIGKILL to the active node {}", active + 1));
            }
            Turn::NodeReturns => {
                if let Some(node) = self.dead.take() {
                    self.nodes.revive(node)?;
                    self.note(now, &format!("node {} is started again", node + 1));
                }
            }
        }
        self.next += 1;
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn note(&mut self, now: Time, what: &str) {
        let elapsed = now.since(self.opened).as_secs_f64();
        self.screen.note(&format!("{elapsed:5.1} s  {what}"));
    }

    fn show(&mut self, now: Time) {
        let answered: u64 = self.stage.servers.iter().map(|server| server.tally().answered).sum();
        self.rate.see(now, answered);
        if !self.screen.due(now) {
            return;
        }
        let (all, open, seen) = (self.tally.all, self.stage.caller.open(), self.nodes.seen());
        let line = format!(
            "{:5.1} s  {:5.1} calls/s  offered {}  open {open}  completed {}  died with server {}  lost {}",
            now.since(self.opened).as_secs_f64(),
            self.rate.per_second,
            self.tally.offered,
            all.completed,
            all.died,
            all.lost,
        );
        let ports: Vec<String> = seen.resources.iter().map(|r| format!("{} {}", r.in_use, r.health)).collect();
        let roles: Vec<&str> = (0..NODES).map(|n| seen.role(n)).collect();
        let armed = if seen.is_armed() { "armed" } else { "not armed" };
        let short = format!("{line}  nodes {}, {armed}  ports {}", roles.join("/"), ports.join(", "));
        let picture = format!("{line}\n\n{}\n{}\n{}", pair_table(&seen), self.takeovers.screen(), farm_table(&seen));
        self.screen.show(&short, &picture);
    }

    fn close(mut self) -> Result<u64, String> {
        let stopped = self.is_stopped();
        if !stopped {
            self.tally.close(self.stage.caller.open() as u64);
        }
        let held: u32 = self.nodes.seen().resources.iter().map(|r| r.in_use).sum();
        self.screen.note("");
        say(&self.tally.summary());
        say(&format!("\n{}", self.takeovers.screen()));
        match held {
            0 => say("ports held at the end: 0\n"),
            // The server might have answered: its ports are given back 64·T1 after the CANCEL (RFC 3261 §9.1).
            _ => say(&format!(
                "ports held at the end: {held}, by INVITEs that died unanswered; back 32 s after their CANCEL\n"
            )),
        }
        for violation in
            self.stage.caller.violations().iter().chain(self.stage.servers.iter().flat_map(|s| s.violations()))
        {
            complain(&format!("tandem demo: against RFC 3261: {violation}"));
        }
        if self.tally.all.lost > 0 {
            complain(&format!("tandem demo: the logs of both nodes are in {}", self.nodes.keep_logs()));
        }
        match self.takeovers.is_complete() || stopped {
            true => Ok(self.tally.all.lost),
            false => Err(format!(
                "no takeover was seen; the logs of both nodes are in {}, and a longer --seconds may help",
                self.nodes.keep_logs()
            )),
        }
    }
}

fn pair_table(seen: &Seen) -> String {
    let columns = [("NODE", Align::Left), ("ROLE", Align::Left), ("ARMED", Align::Left), ("CALLS", Align::Right)];
    let row = |n: usize| {
        let status = seen.nodes[n].as_ref();
        let armed = status.and_then(|s| s.pair.as_ref()).is_some_and(|pair| pair.armed);
        let calls = status.map_or_else(String::new, |s| s.calls.to_string());
        [format!("node {}", n + 1), seen.role(n).to_owned(), String::from(if armed { "yes" } else { "no" }), calls]
    };
    table(&columns, &[row(0), row(1)])
}

fn farm_table(seen: &Seen) -> String {
    let columns =
        [("MEDIA SERVER", Align::Left), ("HEALTH", Align::Left), ("PORTS", Align::Right), ("PLACED", Align::Right)];
    let rows: Vec<[String; 4]> = seen
        .resources
        .iter()
        .map(|r| {
            let capacity = r.capacity.map_or_else(|| String::from("unlimited"), |ports| ports.to_string());
            [r.aor.clone(), r.health.clone(), format!("{}/{capacity}", r.in_use), r.placed.to_string()]
        })
        .collect();
    table(&columns, &rows)
}

/// Answered calls per second, over the last whole second.
#[derive(Debug, Default)]
struct Rate {
    per_second: f64,
    since: Time,
    count: u64,
}

impl Rate {
    fn see(&mut self, now: Time, count: u64) {
        let passed = now.since(self.since);
        if self.since == Time::ZERO || passed >= Duration::from_secs(1) {
            let known = self.since != Time::ZERO;
            self.per_second = if known { (count - self.count) as f64 / passed.as_secs_f64() } else { 0.0 };
            (self.since, self.count) = (now, count);
        }
    }
}

/// Ctrl-C ends the demo early, with its summary.
fn stop_on_signal() -> Result<Arc<AtomicBool>, String> {
    let stopped = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stopped);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(text)?;
    let wait = move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            seen.store(true, Ordering::Relaxed);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map_err(text)?;
    Ok(stopped)
}

fn text(why: impl Display) -> String {
    why.to_string()
}
