//! The signals of a process, its graceful end, and what the service manager is told meanwhile.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::orders::{Service, tell};
use crate::node::Command;
use crate::report::Phase;
use crate::runtime::admin::{self, Observed, Patience};
use crate::runtime::machine::Machine;

/// How long the threads of the node may take to end.
const END: Duration = Duration::from_secs(2);

/// How often a stopping process looks whether its calls have ended.
const LOOK: Duration = Duration::from_millis(100);
/// How often it looks whether the hand-over to its peer is done.
const GLANCE: Duration = Duration::from_millis(20);
/// How long it waits for the node to say how many live; a node that hangs does not keep the process alive.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);
/// How long a hand-over at the end may take, with the second in which the silent address is passed on.
const LEAVE: Duration = Duration::from_secs(5);
/// How often the service manager is told what the node is, if that has changed.
const NEWS: Duration = Duration::from_secs(1);

/// The signals of one process and what follows from them.
pub(super) struct Life<M> {
    service: Arc<Service<M>>,
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
    watchdog: Interval,
    news: Interval,
    /// What the service manager was told last.
    told: String,
}

impl<M: Machine> Service<M> {
    /// Runs until a signal ends it; `admin` is the listener of operators.
    ///
    /// # Errors
    ///
    /// If signals or the listener cannot be set up.
    pub fn run(self, admin: TcpListener) -> io::Result<()> {
        let service = Arc::new(self);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ended = runtime.block_on(async {
            let mut life = Life::new(Arc::clone(&service))?;
            admin.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(admin)?;
            let observed: Arc<dyn Observed> = Arc::clone(&service) as _;
            tokio::spawn(admin::serve(listener, observed, Patience::default()));
            tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
            life.live().await;
            Ok(())
        });
        // Neither a question to a node that hangs nor its threads may keep the process.
        runtime.shutdown_background();
        let log = service.log.clone();
        let (ends, end) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("end".into()).spawn(move || {
            drop(service);
            let _nobody_waits = ends.send(());
        })?;
        let _hangs = end.recv_timeout(END);
        log.flush();
        ended
    }
}

impl<M: Machine> Life<M> {
    pub(super) fn new(service: Arc<Service<M>>) -> io::Result<Self> {
        // Twice per deadline, as sd_watchdog_enabled(3) advises; without a watchdog the beat is idle.
        let mut deadline = 0;
        let watched = sd_notify::watchdog_enabled(false, &mut deadline) && deadline > 0;
        let beat = if watched { Duration::from_micros(deadline) / 2 } else { Duration::from_secs(10) };
        let mut watchdog = interval(beat);
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut news = interval(NEWS);
        news.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            service,
            reload: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            watchdog,
            news,
            told: String::new(),
        })
    }

    pub(super) async fn live(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.reload.recv() => self.read_again(),
                _ = self.watchdog.tick() => self.feed(),
                _ = self.news.tick() => self.tell_news(),
            }
        }
        self.stop().await;
    }

    /// What `systemctl status` shows.
    fn tell_news(&mut self) {
        let now = self.service.in_a_word();
        if now != self.told {
            tell(&[NotifyState::Status(&now)]);
            self.told = now;
        }
    }

    /// Kicked by work done: a worker that stands still lets the watchdog bark.
    fn feed(&self) {
        match self.service.turning() {
            Ok(()) => tell(&[NotifyState::Watchdog]),
            Err(what) => warn!("{what}"),
        }
    }

    /// Beside this thread, because names may be resolved: the watchdog must be fed meanwhile.
    fn read_again(&self) {
        let service = Arc::clone(&self.service);
        tokio::task::spawn_blocking(move || service.reload());
    }

    async fn stop(&mut self) {
        tell(&[NotifyState::Stopping]);
        let service = Arc::clone(&self.service);
        service.phase.store(Phase::Stopping as u8, Ordering::Release);
        let patience = *service.patience.lock();
        if self.leave().await {
            return;
        }
        info!(seconds = patience.as_secs(), "stopping: no new calls");
        let telling = tokio::task::spawn_blocking(move || {
            let _one_at_a_time = service.orders.lock();
            service.machine.command(Command::Drain);
        });
        let _told_or_hangs = timeout(LOOK_PATIENCE, telling).await;
        let deadline = Instant::now() + patience;
        let mut left = self.alive().await;
        while left != Some(0) && Instant::now() < deadline {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.watchdog.tick() => self.feed(),
                () = tokio::time::sleep(LOOK) => {
                    // A peer that has come meanwhile may be able to go on.
                    if self.service.machine.armed() && self.leave().await {
                        return;
                    }
                    left = self.alive().await;
                }
            }
        }
        match left {
            Some(0) => info!("stopped: no call was left"),
            Some(left) => warn!(calls = left, "stopped with calls; their signalling waits for the next start"),
            None => warn!("stopped; the node did not say how many calls were left"),
        }
    }

    /// The node of a pair leaves at once: its peer goes on with every call. `false`: the peer cannot.
    async fn leave(&mut self) -> bool {
        let service = Arc::clone(&self.service);
        let asking = tokio::task::spawn_blocking(move || service.machine.leave());
        if !matches!(timeout(LOOK_PATIENCE, asking).await, Ok(Ok(true))) {
            return false;
        }
        tell(&[NotifyState::Status("stopping: the peer goes on")]);
        info!("stopping: the peer goes on with every call");
        let deadline = Instant::now() + LEAVE;
        while !self.service.machine.has_left() && Instant::now() < deadline {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.watchdog.tick() => self.feed(),
                () = tokio::time::sleep(GLANCE) => {}
            }
        }
        match self.service.machine.has_left() {
            true => info!("stopped: this node has left the pair"),
            false => warn!("stopped before the hand-over was complete; the peer takes over by itself"),
        }
        true
    }

    /// Calls and INVITEs alive; `None` if the node does not say in time.
    async fn alive(&self) -> Option<usize> {
        let service = Arc::clone(&self.service);
        let asking = tokio::task::spawn_blocking(move || service.machine.gauges());
        let gauges = timeout(LOOK_PATIENCE, asking).await.ok()?.ok()?;
        let left = gauges.legs + gauges.ringing;
        tell(&[NotifyState::Status(&format!("stopping, {left} calls left"))]);
        Some(left)
    }
}
