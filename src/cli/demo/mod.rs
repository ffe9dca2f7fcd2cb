//! `tandem demo`: the main job on one screen. A node on loopback, three media servers and a caller, all in this
//! process; one server dies and comes back, and no call that can be saved is lost.

mod stage;
mod tally;
mod screen;

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::screen::Screen;
use self::stage::Stage;
use self::tally::{Death, Tally};
use crate::agent::chance::Chance;
use crate::agent::media_server::{Behaviour, Mood};
use crate::agent::script::Plan;
use crate::base::Time;
use crate::cli::table::{Align, table};
use crate::cli::terminal::{FAILURE, SUCCESS, complain, say};
use crate::config::Settings;
use crate::node::Capacity;
use crate::runtime::{self, Options, Running, sys};

/// Length without `--seconds`.
const LENGTH: u64 = 30;
/// Shorter leaves no room for a death, a return and calls around them.
const SHORTEST: u64 = 6;
const SERVERS: usize = 3;
/// The one that dies.
const MORTAL: usize = 1;
/// Between two calls: 80 calls/s.
const PACE: Duration = Duration::from_micros(12_500);
/// The longest call: set-up on the second choice and the longest hold.
const LONGEST_CALL: Duration = Duration::from_millis(4_000);
/// Calls on the server that dies may have to wait for their BYE to time out (64·T1, RFC 3261 §17.1.2.2).
const PATIENCE: Duration = Duration::from_secs(35);

/// The embedded configuration. The state directory and the media servers are put in; the kernel chooses the listener's
/// port, so that the demo runs beside anything else.
const CONFIGURATION: &str = r#"
[cluster]
name = "demo"
state-dir = "{state}"

[proxy]
sip.transport = ["udp:127.0.0.1:5060"]

[[resource-group]]
name = "MCP_LRG"
service-types = ["voicexml", "announcement", "conference", "msml"]
load-balance-scheme = "round-robin"
monitor-method = "option"
monitor-interval = "500ms"
monitor-timeout = "400ms"
monitor-down-after = 2
monitor-up-after = 2
"#;

/// Runs the demo for about `seconds` (default 30, at least 6). Exit code 1 if a call was lost: a set-up that failed, or
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
    running: Running,
    stage: Stage,
    tally: Tally,
    screen: Screen,
    chance: Chance,
    began: Time,
    length: Duration,
    death: Death,
    stopped: Arc<AtomicBool>,
    rate: Rate,
    _state: StateDir,
}

impl Demo {
    fn open(length: Duration) -> Result<Self, String> {
        let sockets = (0..SERVERS).map(|_| stage::bind()).collect::<Result<Vec<_>, _>>().map_err(text)?;
        let addrs = sockets.iter().map(|socket| socket.local_addr()).collect::<Result<Vec<_>, _>>().map_err(text)?;
        let state = StateDir::new();
        let running = node(&state, &addrs)?;
        let node = running.listeners.first().ok_or("the node has no listener")?.addr;
        let behaviour = Behaviour {
            ring_after: Some(Duration::from_millis(30)),
            answer_after: Duration::from_millis(250),
            mood: Mood::Sound,
        };
        let stage = Stage::new(node, sockets, behaviour).map_err(text)?;
        let stopped = stop_on_interrupt(&running);
        say(&format!("tandem demo: node {node}, {SERVERS} media servers, 1 caller, {} s\n", length.as_secs()));
        Ok(Self {
            running,
            stage,
            tally: Tally::new(addrs.iter().copied()),
            screen: Screen::new(),
            chance: Chance::new(1),
            began: sys::now(),
            length,
            death: Death { server: addrs[MORTAL], at: Time::NEVER },
            stopped,
            rate: Rate::default(),
            _state: state,
        })
    }

    /// Plays it; returns how many calls were lost.
    fn play(mut self) -> Result<u64, String> {
        let end = self.began + self.length;
        let last_call = end - LONGEST_CALL;
        let (death, birth) = (self.began + self.length / 3, self.began + self.length * 2 / 3);
        let (mut next_call, mut dead, mut back) = (self.began, false, false);
        loop {
            let now = sys::now();
            let stopped = self.stopped.load(Ordering::Relaxed);
            if !dead && now >= death {
                dead = true;
                self.kill(now);
            }
            if dead && !back && now >= birth {
                back = self.restart(now);
            }
            let calling = now < last_call && !stopped;
            while calling && next_call <= now {
                next_call = next_call + PACE;
                self.call(now);
            }
            let wake = if calling { next_call } else { now + Duration::from_millis(100) };
            self.stage.turn(wake).map_err(text)?;
            for report in self.stage.take_reports() {
                self.tally.add(&report, self.death);
            }
            self.show(now);
            if !calling && (self.stage.caller.open() == 0 || now >= end + PATIENCE || stopped) {
                return Ok(self.close());
            }
        }
    }

    fn call(&mut self, now: Time) {
        self.tally.offered += 1;
        let hold = self.chance.millis(1_500..2_500);
        self.stage.call(now, Plan { hold, ..Plan::default() });
    }

    fn kill(&mut self, now: Time) {
        self.death.at = now;
        self.stage.kill(MORTAL);
        self.note(now, "dies with its calls");
    }

    fn restart(&mut self, now: Time) -> bool {
        let back = self.stage.restart(MORTAL).is_ok();
        if back {
            self.note(now, "is back");
        }
        back
    }

    fn note(&mut self, now: Time, what: &str) {
        let elapsed = now.since(self.began).as_secs_f64();
        self.screen.note(&format!("{elapsed:5.1} s  media server {} {what}", self.death.server));
    }

    fn show(&mut self, now: Time) {
        let answered: u64 = self.stage.servers.iter().map(|server| server.tally().answered).sum();
        self.rate.see(now, answered);
        if !self.screen.due(now) {
            return;
        }
        let (all, open) = (self.tally.all, self.stage.caller.open());
        let resources = self.running.node.resources();
        let ports: Vec<String> = resources.iter().map(|r| format!("{} {}", r.in_use, r.health)).collect();
        let line = format!(
            "{:5.1} s  {:5.1} calls/s  offered {}  open {open}  completed {}  died with server {}  lost {}",
            now.since(self.began).as_secs_f64(),
            self.rate.per_second,
            self.tally.offered,
            all.completed,
            all.died,
            all.lost,
        );
        let columns =
            [("MEDIA SERVER", Align::Left), ("HEALTH", Align::Left), ("PORTS", Align::Right), ("PLACED", Align::Right)];
        let rows: Vec<[String; 4]> = resources
            .iter()
            .map(|r| {
                let capacity = r.capacity.map_or_else(|| String::from("unlimited"), |ports| ports.to_string());
                [r.aor.clone(), r.health.to_owned(), format!("{}/{capacity}", r.in_use), r.placed.to_string()]
            })
            .collect();
        self.screen
            .show(&format!("{line}  ports {}", ports.join(", ")), &format!("{line}\n\n{}", table(&columns, &rows)));
    }

    fn close(mut self) -> u64 {
        if !self.stopped.load(Ordering::Relaxed) {
            self.tally.close(self.stage.caller.open() as u64);
        }
        let held: u32 = self.running.node.resources().iter().map(|r| r.in_use).sum();
        self.screen.note("");
        say(&self.tally.summary());
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
        self.tally.all.lost
    }
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

/// A directory for this process alone, gone with it.
struct StateDir(PathBuf);

impl StateDir {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("tandem-demo-{}", std::process::id())))
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        let _it_was_never_made = std::fs::remove_dir_all(&self.0);
    }
}

fn node(state: &StateDir, servers: &[SocketAddr]) -> Result<Running, String> {
    let mut configuration = CONFIGURATION.replace("{state}", &state.0.display().to_string());
    for server in servers {
        configuration
            .push_str(&format!("\n[[resource-group.resource]]\naor = \"sip:{server}\"\nport-capacity = 200\n"));
    }
    let lines = |errors: Vec<_>| errors.iter().map(text).collect::<Vec<_>>().join("\n");
    let (mut settings, _warnings) = Settings::parse(&configuration).map_err(lines)?;
    settings.listeners.iter_mut().for_each(|listener| listener.addr.set_port(0));
    let capacity = Capacity { shards: 16, legs: 10_000, transactions: 50_000 };
    runtime::start_here(settings, Options { service_threads: 1, capacity }).map_err(text)
}

/// Ctrl-C ends the demo early, with its summary.
fn stop_on_interrupt(running: &Running) -> Arc<AtomicBool> {
    let stopped = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stopped);
    running.services().spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            seen.store(true, Ordering::Relaxed);
        }
    });
    stopped
}

fn text(why: impl Display) -> String {
    why.to_string()
}
