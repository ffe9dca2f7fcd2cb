//! The life of the process around a node: signals, readiness, reloads, the graceful stop, the watchdog.
//!
//! SIGHUP reads the configuration again. SIGTERM and SIGINT stop gracefully: not ready, INVITEs get 503 with
//! Retry-After, and the process ends once no call lives or `drain-timeout` has passed; a second one ends it at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sd_notify::NotifyState;
use tracing::{info, warn};

use crate::base::{NodeId, Time};
use crate::cluster::{self, HaMode, Role};
use crate::config::{ConfigError, Settings};
use crate::node::{Command, Gauges};
use crate::report::{self, Answer, CallRow, Diff, ModePlan, Phase, Reload};
use crate::runtime::admin::{Observed, Order};
use crate::runtime::fault::Fault;
use crate::runtime::log::Log;
use crate::runtime::machine::Machine;
use crate::runtime::metrics::process::Process;
use crate::runtime::metrics::{Edge, Sample};
use crate::runtime::reload_error::ReloadError;
use crate::runtime::secure;
use crate::runtime::sys;

/// One node and all that operators want of it.
pub struct Service<M> {
    pub(super) machine: M,
    pub(super) file: PathBuf,
    pub(super) log: Log,
    pub(super) edge: Arc<Edge>,
    pub(super) started: Time,
    pub(super) began: f64,
    pub(super) cluster: String,
    pub(super) node: NodeId,
    pub(super) phase: AtomicU8,
    /// Held while the node is told to drain or resume, so that it hears the same order of orders as `phase`.
    pub(super) orders: Mutex<()>,
    /// Held during a reload.
    pub(super) reloading: Mutex<()>,
    /// `drain-timeout` as in force.
    pub(super) patience: Mutex<Duration>,
    pub(super) last: Mutex<Option<(Time, Reload)>>,
    /// `[admin] drill` as in force.
    pub(super) drills: AtomicBool,
}

impl<M: Machine> Service<M> {
    /// The service of a node that was just started with `settings`, read from `file`.
    pub fn new(machine: M, file: &Path, settings: &Settings, log: Log, edge: Arc<Edge>) -> Self {
        Self {
            machine,
            file: file.to_owned(),
            log,
            edge,
            started: sys::now(),
            began: unix_time(),
            cluster: settings.cluster.name.clone(),
            node: settings.cluster.node,
            phase: AtomicU8::new(Phase::Serving as u8),
            orders: Mutex::new(()),
            reloading: Mutex::new(()),
            patience: Mutex::new(settings.drain_timeout),
            last: Mutex::new(None),
            drills: AtomicBool::new(settings.drill),
        }
    }

    pub(super) fn reload(&self) -> Answer {
        let _one_at_a_time = self.reloading.lock();
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now());
        tell(&states);
        let answer = match self.replace() {
            Ok(changes) => {
                self.edge.reloads_applied.count();
                info!(changes = changes.len(), "configuration applied");
                changes.iter().for_each(|change| info!("configuration: {change}"));
                Answer { done: changes, errors: Vec::new() }
            }
            Err(errors) => {
                self.edge.reloads_refused.count();
                warn!(errors = errors.len(), "configuration refused; the old one stays in force");
                errors.iter().for_each(|error| warn!("{error}"));
                Answer { done: Vec::new(), errors }
            }
        };
        let Answer { done, errors } = answer.clone();
        let applied = errors.is_empty();
        *self.last.lock() = Some((sys::now(), Reload { applied, age_seconds: 0, changes: done, errors }));
        tell(&[
            NotifyState::Ready,
            NotifyState::Status(if applied { "reloaded" } else { "the last reload was refused" }),
        ]);
        answer
    }

    /// Reads the file and puts it in force; what changed, or every error with its place.
    pub(super) fn replace(&self) -> Result<Vec<String>, Vec<String>> {
        let file = self.file.display();
        let placed = |errors: &[ConfigError]| errors.iter().map(|e| format!("{file}:{e}")).collect::<Vec<_>>();
        let text = fs::read_to_string(&self.file).map_err(|e| vec![format!("{file}: {e}")])?;
        let (new, warnings) = Settings::parse(&text).map_err(|errors| placed(&errors))?;
        let (patience, level, drills) = (new.drain_timeout, new.log_level, new.drill);
        let found = secure::examine(&new);
        if !found.errors.is_empty() {
            return Err(placed(&found.errors));
        }
        let plan = self.machine.reload(new).map_err(|e| match e {
            ReloadError::Restart(errors) => placed(&errors),
            e @ ReloadError::Mode(_) => vec![e.to_string()],
            ReloadError::Route(e) => vec![e.to_string()],
            ReloadError::Secure(e) => vec![e.to_string()],
        })?;
        *self.patience.lock() = patience;
        self.drills.store(drills, Ordering::Relaxed);
        self.log.set_level(level);
        warnings.iter().chain(&found.warnings).for_each(|w| warn!("{file}:{w}"));
        if plan.changes.is_empty() {
            return Ok(vec!["nothing changed".to_owned()]);
        }
        Ok(plan.changes.iter().map(ToString::to_string).collect())
    }

    /// What an operator wants of the pair.
    pub(super) fn of_pair(&self, command: cluster::Command, done: String) -> Answer {
        match self.machine.order(command) {
            Ok(()) => {
                info!("an operator: {done}");
                Answer { done: vec![done], errors: Vec::new() }
            }
            Err(why) => Answer { done: Vec::new(), errors: vec![why] },
        }
    }

    /// Another mode for the pair, as far as this node can tell.
    fn set_mode(&self, to: HaMode) -> Answer {
        let Some(plan) = self.machine.plan_mode(to) else {
            let why = "this node has no peer: write member.N and the addresses of both into [cluster], and restart";
            return Answer { done: Vec::new(), errors: vec![why.to_owned()] };
        };
        match plan.refused.is_empty() || plan.from == plan.to {
            true => self.of_pair(cluster::Command::SetMode(to), format!("ha-mode {to} is asked for")),
            false => Answer { done: Vec::new(), errors: vec![plan.refused] },
        }
    }

    /// Lets something fail for a drill, where the configuration permits it.
    pub(super) fn fail(&self, fault: Fault, span: Duration) -> Answer {
        if !self.drills.load(Ordering::Relaxed) {
            let why = "the configuration permits no drill: set `drill = true` in [admin] and `tandem reload`";
            return Answer { done: Vec::new(), errors: vec![why.to_owned()] };
        }
        warn!("an operator: a drill, {fault} for {} s", span.as_secs());
        self.log.flush();
        match self.machine.fail(fault, span) {
            Ok(()) => Answer { done: vec![format!("{fault} for {} s", span.as_secs())], errors: Vec::new() },
            Err(why) => Answer { done: Vec::new(), errors: vec![why] },
        }
    }

    /// What the node is and does: `active, serving`.
    pub(super) fn in_a_word(&self) -> String {
        let phase = self.phase().name();
        match self.machine.role() {
            Role::Active if phase == "serving" => "active, serving".to_owned(),
            Role::Standby if phase == "standby" => "standby".to_owned(),
            role => format!("{}, {phase}", report::pair::role(role)),
        }
    }

    /// Drains or resumes, unless the process is about to end.
    pub(super) fn turn(&self, to: Phase, command: Command) -> Answer {
        let _one_at_a_time = self.orders.lock();
        let moved = self.phase.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
            (now != Phase::Stopping as u8).then_some(to as u8)
        });
        if moved.is_err() {
            return Answer { done: Vec::new(), errors: vec!["the node is stopping".to_owned()] };
        }
        self.machine.command(command);
        let Gauges { legs, ringing, .. } = self.machine.gauges();
        info!(calls = legs, ringing, "an operator wants the node {}", to.name());
        Answer { done: vec![format!("{}: {legs} calls and {ringing} ringing go on", to.name())], errors: Vec::new() }
    }
}

impl<M: Machine> Observed for Service<M> {
    fn sample(&self) -> Sample {
        Sample {
            now: sys::now(),
            started: self.started,
            cluster: self.cluster.clone(),
            node: self.node,
            epoch: self.machine.epoch(),
            phase: self.phase(),
            stats: self.machine.stats(),
            gauges: self.machine.gauges(),
            resources: self.machine.resources(),
            io: self.machine.io(),
            edge: Arc::clone(&self.edge),
            process: Process::read(),
            began: self.began,
            pair: self.machine.pair(),
        }
    }

    fn calls(&self, limit: usize) -> Vec<CallRow> {
        let (now, resources) = (sys::now(), self.machine.resources());
        self.machine.legs(limit).iter().map(|leg| CallRow::new(now, leg, &resources)).collect()
    }

    fn order(&self, order: Order) -> Answer {
        match order {
            Order::Drain => self.turn(Phase::Draining, Command::Drain),
            Order::Resume => self.turn(Phase::Serving, Command::Resume),
            Order::Reload => self.reload(),
            Order::Fail(fault, span) => self.fail(fault, span),
            Order::SetMode(to) => self.set_mode(to),
            Order::Switchover => self.of_pair(cluster::Command::Switchover, "the other node becomes active".into()),
            Order::DeclareDead(id) => {
                let done = format!("member {} counts as dead", id.0);
                self.of_pair(cluster::Command::DeclareDead(id), done)
            }
        }
    }

    fn last_reload(&self) -> Option<Reload> {
        let last = self.last.lock();
        let (at, reload) = last.as_ref()?;
        Some(Reload { age_seconds: sys::now().since(*at).as_secs(), ..reload.clone() })
    }

    fn turning(&self) -> Result<(), String> {
        self.machine.turning()
    }

    fn phase(&self) -> Phase {
        let now = self.phase.load(Ordering::Acquire);
        let phase = Phase::ALL.into_iter().find(|p| *p as u8 == now).unwrap_or_default();
        match (phase, self.machine.role()) {
            (Phase::Serving, Role::Active) => Phase::Serving,
            (Phase::Serving, _) => Phase::Standby,
            (other, _) => other,
        }
    }

    fn armed(&self) -> bool {
        self.machine.armed()
    }

    fn diff(&self) -> Option<Diff> {
        self.machine.diff()
    }

    fn plan_mode(&self, to: HaMode) -> Option<ModePlan> {
        self.machine.plan_mode(to)
    }

    fn edge(&self) -> &Edge {
        &self.edge
    }
}

/// Tells the service manager, if there is one. That it cannot be told is nothing that a call should feel.
pub(super) fn tell(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(false, states) {
        tracing::debug!("service manager: {e}");
    }
}

/// Prometheus wants the start of the process in Unix time.
#[expect(clippy::disallowed_methods, reason = "an instant to show, not to compute with")]
fn unix_time() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |d| d.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::ResourceView;
    use crate::base::Epoch;
    use crate::config::{self, Plan};
    use crate::node::{LegView, Stats};
    use crate::runtime::metrics::PairSample;
    use crate::runtime::stats::IoStats;

    const TEXT: &str = r#"
[proxy]
sip.transport = ["udp:127.0.0.1:5060"]

[[resource-group]]
name = "MCP"
monitor-method = "none"

[[resource-group.resource]]
aor = "sip:127.0.0.1:5070"
port-capacity = 10
"#;

    #[derive(Default)]
    struct Fake {
        role: Mutex<Option<Role>>,
        armed: bool,
        wanted: Mutex<Vec<cluster::Command>>,
        told: Mutex<Vec<Command>>,
        failed: Mutex<Vec<(Fault, Duration)>>,
        settings: Mutex<Option<Settings>>,
    }

    impl Machine for Fake {
        fn epoch(&self) -> Epoch {
            Epoch::default()
        }

        fn stats(&self) -> Stats {
            Stats::default()
        }

        fn gauges(&self) -> Gauges {
            Gauges { legs: 3, ringing: 1, ..Gauges::default() }
        }

        fn resources(&self) -> Vec<ResourceView> {
            Vec::new()
        }

        fn legs(&self, _: usize) -> Vec<LegView> {
            Vec::new()
        }

        fn command(&self, command: Command) {
            self.told.lock().push(command);
        }

        fn io(&self) -> Arc<IoStats> {
            Arc::default()
        }

        fn reload(&self, settings: Settings) -> Result<Plan, ReloadError> {
            let mut current = self.settings.lock();
            let plan = config::plan(current.as_ref().unwrap(), &settings).map_err(ReloadError::Restart)?;
            *current = Some(settings);
            Ok(plan)
        }

        fn turning(&self) -> Result<(), String> {
            Ok(())
        }

        fn role(&self) -> Role {
            self.role.lock().unwrap_or(Role::Active)
        }

        fn armed(&self) -> bool {
            self.armed
        }

        fn pair(&self) -> Option<PairSample> {
            None
        }

        fn order(&self, command: cluster::Command) -> Result<(), String> {
            self.wanted.lock().push(command);
            if self.armed { Ok(()) } else { Err("the peer does not hold a complete copy yet".into()) }
        }

        fn fail(&self, fault: Fault, span: Duration) -> Result<(), String> {
            self.failed.lock().push((fault, span));
            Ok(())
        }

        fn diff(&self) -> Option<Diff> {
            None
        }

        fn plan_mode(&self, to: HaMode) -> Option<ModePlan> {
            self.armed.then(|| ModePlan { to: to.to_string(), ..ModePlan::default() })
        }

        fn leave(&self) -> bool {
            false
        }

        fn has_left(&self) -> bool {
            false
        }
    }

    /// A service whose file is gone when the test ends.
    struct Rig {
        service: Service<Fake>,
        file: PathBuf,
    }

    impl Rig {
        fn new(name: &str) -> Self {
            let file = std::env::temp_dir().join(format!("tandem-service-{name}-{}.toml", std::process::id()));
            let (settings, _) = Settings::parse(TEXT).unwrap();
            let log = Log::start(std::io::sink(), Arc::default()).unwrap();
            let machine = Fake { settings: Mutex::new(Some(settings.clone())), ..Fake::default() };
            Self { service: Service::new(machine, &file, &settings, log, Arc::default()), file }
        }

        fn ports(&self) -> Option<u32> {
            self.service.machine.settings.lock().as_ref().unwrap().groups[0].resources[0].port_capacity
        }

        fn reload(&self, text: &str) -> Answer {
            fs::write(&self.file, text).unwrap();
            self.service.order(Order::Reload)
        }
    }

    impl Drop for Rig {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.file);
        }
    }

    #[test]
    fn orders_change_the_phase_and_reach_the_node() {
        let rig = Rig::new("orders");
        assert_eq!(rig.service.order(Order::Drain).done, ["draining: 3 calls and 1 ringing go on"]);
        assert_eq!(rig.service.phase(), Phase::Draining);
        assert_eq!(rig.service.order(Order::Resume).done, ["serving: 3 calls and 1 ringing go on"]);
        assert_eq!(rig.service.phase(), Phase::Serving);
        assert_eq!(*rig.service.machine.told.lock(), [Command::Drain, Command::Resume]);
    }

    #[test]
    fn a_standby_says_so_and_orders_reach_its_pair() {
        let mut rig = Rig::new("standby");
        *rig.service.machine.role.lock() = Some(Role::Standby);
        assert_eq!((rig.service.phase(), rig.service.in_a_word().as_str()), (Phase::Standby, "standby"));
        let refused = rig.service.order(Order::Switchover);
        assert_eq!(refused.errors, ["the peer does not hold a complete copy yet"]);
        rig.service.machine.armed = true;
        assert_eq!(rig.service.order(Order::DeclareDead(NodeId(2))).done, ["member 2 counts as dead"]);
        let wanted = [cluster::Command::Switchover, cluster::Command::DeclareDead(NodeId(2))];
        assert_eq!(*rig.service.machine.wanted.lock(), wanted);
        rig.service.order(Order::Drain);
        assert_eq!((rig.service.phase(), rig.service.in_a_word().as_str()), (Phase::Draining, "standby, draining"));
        *rig.service.machine.role.lock() = None;
        rig.service.order(Order::Resume);
        assert_eq!(rig.service.in_a_word(), "active, serving");
    }

    #[test]
    fn a_node_fails_only_where_its_configuration_permits_it() {
        let rig = Rig::new("drill");
        let order = Order::Fail(Fault::Partition, Duration::from_secs(5));
        let refused = rig.service.order(order).errors;
        assert!(refused.len() == 1 && refused[0].contains("`drill = true` in [admin]"), "{refused:?}");
        assert!(rig.service.machine.failed.lock().is_empty());
        assert_eq!(rig.reload(&format!("{TEXT}\n[admin]\ndrill = true\n")).errors, Vec::<String>::new());
        assert_eq!(rig.service.order(order).done, ["partition for 5 s"]);
        assert_eq!(*rig.service.machine.failed.lock(), [(Fault::Partition, Duration::from_secs(5))]);
        rig.reload(TEXT);
        assert_eq!(rig.service.order(order).errors, refused);
    }

    #[test]
    fn nobody_resumes_a_stopping_node() {
        let rig = Rig::new("stopping");
        rig.service.phase.store(Phase::Stopping as u8, Ordering::Release);
        assert_eq!(rig.service.order(Order::Resume).errors, ["the node is stopping"]);
        assert_eq!(rig.service.phase(), Phase::Stopping);
        assert!(rig.service.machine.told.lock().is_empty());
    }

    #[test]
    fn a_sound_file_comes_into_force() {
        let rig = Rig::new("sound");
        let answer = rig.reload(&TEXT.replace("port-capacity = 10", "port-capacity = 20"));
        assert!(answer.errors.is_empty() && answer.done.len() == 1, "{answer:?}");
        assert!(answer.done[0].contains("20"), "{answer:?}");
        assert_eq!(rig.ports(), Some(20));
        let last = rig.service.last_reload().unwrap();
        assert!(last.applied && last.changes == answer.done, "{last:?}");
        assert_eq!(rig.service.edge.reloads_applied.get(), 1);
        assert_eq!(rig.reload(&TEXT.replace("= 10", "= 20")).done, ["nothing changed"]);
    }

    #[test]
    fn a_wrong_file_is_refused_with_every_error_and_the_old_one_stays() {
        let rig = Rig::new("wrong");
        let answer = rig.reload(&TEXT.replace("port-capacity = 10", "port-capacity = -1\nport = 3"));
        assert_eq!(answer.errors.len(), 2, "{answer:?}");
        assert!(answer.errors[0].starts_with(&format!("{}:11:", rig.file.display())), "{answer:?}");
        assert_eq!(rig.ports(), Some(10));
        let last = rig.service.last_reload().unwrap();
        assert!(!last.applied && last.errors == answer.errors, "{last:?}");
        assert_eq!(rig.service.edge.reloads_refused.get(), 1);
    }

    #[test]
    fn what_needs_a_restart_is_refused_whole() {
        let rig = Rig::new("restart");
        let answer = rig.reload(&TEXT.replace("127.0.0.1:5060", "127.0.0.1:5062").replace("= 10", "= 20"));
        assert!(answer.errors.len() == 1 && answer.errors[0].contains("sip.transport"), "{answer:?}");
        assert!(answer.errors[0].starts_with(&format!("{}:3:", rig.file.display())), "{answer:?}");
        assert_eq!(rig.ports(), Some(10));
    }

    #[test]
    fn a_new_drain_timeout_counts_at_the_next_stop() {
        let rig = Rig::new("patience");
        rig.reload(&TEXT.replace("[proxy]\n", "[proxy]\ndrain-timeout = \"7 s\"\n"));
        assert_eq!(*rig.service.patience.lock(), Duration::from_secs(7));
    }

    #[test]
    fn a_file_that_is_gone_is_refused_by_its_name() {
        let rig = Rig::new("gone");
        let errors = rig.service.order(Order::Reload).errors;
        assert!(errors.len() == 1 && errors[0].starts_with(&rig.file.display().to_string()), "{errors:?}");
    }
}
