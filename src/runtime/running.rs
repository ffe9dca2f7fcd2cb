//! The composition root: from settings to threads that carry calls, and back.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Handle, Runtime};

use crate::balance;
use crate::base::{ListenerId, ResourceId, Time};
use crate::cluster;
use crate::config::{self, Listen, Plan, Settings, plan};
use crate::identity::Identities;
use crate::node::{Capacity, Command, Input, Node};
use crate::runtime::around::Around;
use crate::runtime::cells::Locked;
use crate::runtime::driver::Driver;
use crate::runtime::inlet::Inlet;
use crate::runtime::lane::Lane;
use crate::runtime::pairing::{self, Groundwork, Parts, Peered, prepare};
use crate::runtime::reload_error::ReloadError;
use crate::runtime::route::{self, Ways};
use crate::runtime::secure::Prepared;
use crate::runtime::servers::Servers;
use crate::runtime::snmp::Traps;
use crate::runtime::socket::{self, Bound};
use crate::runtime::sources::Door;
use crate::runtime::start::Start;
use crate::runtime::start_error::StartError;
use crate::runtime::state;
use crate::runtime::stats::IoStats;
use crate::runtime::sys;
use crate::runtime::waker::Waker;
use crate::runtime::worker::{self, Pulse, Receiver};

/// What settings do not say.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads for streams, HTTP and signals.
    pub service_threads: usize,
    /// How much the node may hold.
    pub capacity: Capacity,
}

impl Default for Options {
    fn default() -> Self {
        Self { service_threads: 2, capacity: Capacity::default() }
    }
}

/// A node that carries calls. Dropping it stops it at once.
pub struct Running {
    /// The node.
    pub node: Arc<Node<Locked>>,
    /// What the edge counts.
    pub io: Arc<IoStats>,
    /// What is bound, index = listener id; ports are the true ones.
    pub listeners: Vec<Listen>,
    /// When it started.
    pub started: Time,
    /// Who is told of role changes.
    pub traps: Traps,
    /// The pair, if this node is one of a pair.
    pub(super) pair: Option<Peered>,
    pub(super) driver: Arc<Driver>,
    /// Whose datagrams are heard.
    door: Arc<Door>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    pulses: Vec<Arc<Pulse>>,
    /// One per worker beside the receiver.
    lanes: Arc<[Lane]>,
    runtime: Option<Runtime>,
    current: Mutex<Current>,
    pub(super) start: Start,
}

struct Current {
    settings: Settings,
    identities: Identities,
    servers: Servers,
}

/// [`start`] of a process that has one thread.
pub fn start_here(settings: Settings, options: Options) -> Result<Running, StartError> {
    let ground = prepare(&settings)?;
    start(settings, options, ground)
}

/// Binds, resolves, starts every thread. When it returns, calls are carried. `ground`: of [`prepare`] with the same
/// settings, made before the process had threads.
pub fn start(settings: Settings, options: Options, ground: Groundwork) -> Result<Running, StartError> {
    let (mut running, streams) = assemble(settings, options, ground)?;
    running.accept(streams).map_err(StartError::System)?;
    running.work().map_err(StartError::System)?;
    Ok(running)
}

type StreamListeners = Vec<(ListenerId, std::net::TcpListener)>;

/// Everything but the threads: what comes in waits in the sockets.
pub(super) fn assemble(
    settings: Settings,
    options: Options,
    ground: Groundwork,
) -> Result<(Running, StreamListeners), StartError> {
    let keys = Start::keys(&settings)?;
    let Ports { bound, listeners, identities, farm } = Ports::bind(&settings)?;
    let servers = Servers::new(&settings, &farm);
    let prepared = Prepared::new(&settings, &servers).map_err(StartError::Secure)?;
    let start = Start::new(&settings, keys, options.capacity)?;
    let around = Around::of(&settings, &servers, &identities);
    let started = sys::now();
    let mut config = start.node(&settings, identities.clone(), farm);
    if let Some(pair) = &mut config.pair {
        pair.cluster.mode = state::mode_at_start(&settings.cluster).map_err(StartError::State)?;
    }
    let node = Node::<Locked>::new(started, config);
    let (node, io) = (Arc::new(node), Arc::new(IoStats::default()));
    let runtime = service_threads(options.service_threads).map_err(StartError::System)?;
    let (udp, tcp) = split(bound);
    let waker = Waker::new().map_err(StartError::System)?;
    let driver = Driver::new(Arc::clone(&node), udp, Arc::clone(&io), runtime.handle(), waker);
    driver.streams.speak(prepared).map_err(StartError::Secure)?;
    let traps = Traps::start(&settings, runtime.handle());
    let parts = |keepers| Parts {
        settings: &settings,
        keys: &start.keys,
        incarnation: start.incarnation,
        counter: start.epoch.counter,
        keepers,
    };
    let pair =
        ground.keepers.map(|keepers| pairing::start(parts(keepers), &driver, &traps, runtime.handle())).transpose()?;
    let running = Running {
        node,
        io,
        listeners,
        started,
        start,
        workers: Mutex::default(),
        pulses: Vec::new(),
        lanes: (1..settings.workers).map(|_| Lane::default()).collect(),
        runtime: Some(runtime),
        traps,
        pair,
        current: Mutex::new(Current { settings, identities, servers }),
        driver,
        door: Arc::default(),
    };
    running.know(around);
    Ok((running, tcp))
}

/// What is bound, and what follows from it.
struct Ports {
    bound: Vec<Bound>,
    listeners: Vec<Listen>,
    identities: Identities,
    farm: balance::Config,
}

impl Ports {
    fn bind(settings: &Settings) -> Result<Self, StartError> {
        let shared = pairing::shared_ips(settings);
        let moves = |ip| [&shared.ips, &shared.guests, &shared.virtual_ips].iter().any(|ips| ips.contains(&ip));
        let bind = |l: &Listen| match moves(l.addr.ip()) {
            true if settings.cluster.is_on_loopback() => Bound::aside(l),
            early => Bound::new(l, early),
        };
        let bound: Result<Vec<Bound>, _> = settings.listeners.iter().map(bind).collect();
        let bound = bound.map_err(StartError::Bind)?;
        let listeners = socket::addresses(&bound);
        let ways = Ways { listeners: &listeners, shared: &shared, streams: settings.cluster.balanced_ips().is_empty() };
        let farm = route::groups(&settings.groups, ways).map_err(StartError::Route)?;
        let local = sys::local_addresses().map_err(StartError::System)?;
        let identities = socket::identities(&listeners, &local, shared);
        Ok(Self { bound, listeners, identities, farm })
    }
}

impl Running {
    /// The threads for everything that is not per datagram.
    pub fn services(&self) -> &Handle {
        self.runtime.as_ref().expect("it is there until drop").handle()
    }

    /// Time as the node sees it.
    pub fn now(&self) -> Time {
        sys::now()
    }

    /// The settings that are in force.
    pub fn settings(&self) -> Settings {
        self.current.lock().settings.clone()
    }

    /// No new calls from now on; those that live go on.
    pub fn drain(&self) {
        self.driver.input(Input::Command(Command::Drain));
    }

    /// New calls are welcome again.
    pub fn resume(&self) {
        self.driver.input(Input::Command(Command::Resume));
    }

    /// Whether every worker waits, or took its present work in hand less than `limit` ago; if not, which does not.
    pub fn turning(&self, limit: Duration) -> Result<(), usize> {
        self.pulses.iter().position(|pulse| !pulse.beats(sys::now(), limit)).map_or(Ok(()), Err)
    }

    /// Puts new settings in force while calls go on, whole or not at all. Blocks while names are resolved.
    pub fn reload(&self, settings: Settings) -> Result<Plan, ReloadError> {
        let mut current = self.current.lock();
        let mut plan = plan(&current.settings, &settings).map_err(ReloadError::Restart)?;
        let mode = Some(settings.cluster.ha_mode).filter(|to| *to != current.settings.cluster.ha_mode);
        mode.map_or(Ok(()), |to| self.node.permits(to)).map_err(ReloadError::Mode)?;
        let shared = pairing::shared_ips(&settings);
        let ways =
            Ways { listeners: &self.listeners, shared: &shared, streams: settings.cluster.balanced_ips().is_empty() };
        let farm = route::groups(&settings.groups, ways).map_err(ReloadError::Route)?;
        self.pair.as_ref().map_or(Ok(()), |peered| peered.renew(&settings)).map_err(ReloadError::Secure)?;
        let speak = |prepared| self.driver.streams.speak(prepared);
        let servers = Servers::new(&settings, &farm);
        plan.changes.extend(servers.moved(&current.servers));
        let servers = servers.succeed(&current.servers, &self.used());
        let renewed = Prepared::new(&settings, &servers).and_then(speak).map_err(ReloadError::Secure)?;
        // An address that has left the interfaces lingers: dialogs carry it.
        let local = sys::local_addresses().unwrap_or_default();
        let identities = current.identities.succeed(socket::identities(&self.listeners, &local, shared));
        self.know(Around::of(&settings, &servers, &identities));
        if let Some(peered) = &self.pair {
            peered.pair.configured(settings.shared_lines(), settings.cluster.ha_mode);
        }
        self.driver.reconfigure(self.start.node(&settings, identities.clone(), farm));
        self.traps.follow(&settings);
        *current = Current { settings, identities, servers };
        drop(current);
        if let (Some(to), Some(peered)) = (mode, &self.pair) {
            peered.pair.command(cluster::Command::SetMode(to)).map_err(ReloadError::Mode)?;
        }
        plan.changes.extend(renewed);
        Ok(plan)
    }

    /// Takes no new calls, waits until those that live have ended or `limit` has passed, and stops. Returns how many
    /// calls were left.
    pub fn shutdown(&self, limit: Duration) -> usize {
        self.drain();
        let end = sys::now() + limit;
        let alive = || {
            let gauges = self.node.gauges();
            gauges.legs + gauges.ringing
        };
        while alive() > 0 && sys::now() < end {
            std::thread::sleep(Duration::from_millis(20).min(end.since(sys::now())));
        }
        let left = alive();
        self.stop();
        left
    }

    /// Media servers that calls are on.
    fn used(&self) -> HashSet<ResourceId> {
        self.node.resources().iter().filter(|resource| resource.in_use > 0).map(|resource| resource.id).collect()
    }

    /// What the configuration in force says of the cluster.
    pub(super) fn cluster_settings<T>(&self, ask: impl FnOnce(&config::Cluster) -> T) -> T {
        ask(&self.current.lock().settings.cluster)
    }

    fn know(&self, around: Around) {
        let Around { sources, balancers, shared, hosts, names, reach } = around;
        let sources = Arc::new(sources);
        self.driver.streams.forwarded_by(balancers);
        self.driver.streams.shared.are(shared);
        self.driver.streams.welcome(Arc::clone(&sources));
        self.driver.streams.exempt(hosts);
        self.driver.name(names);
        self.door.hang(sources);
        if let Some(peered) = &self.pair {
            peered.pair.refer_to(reach);
        }
    }

    fn stop(&self) {
        if let Some(pair) = &self.pair {
            pair.stop();
        }
        self.driver.stop();
        self.lanes.iter().for_each(Lane::wake);
        for worker in self.workers.lock().drain(..) {
            // A worker that panicked has said so.
            let _ = worker.join();
        }
    }

    fn accept(&self, listeners: StreamListeners) -> io::Result<()> {
        let _entered = self.services().enter();
        for (id, socket) in listeners {
            let socket = tokio::net::TcpListener::from_std(socket)?;
            let transport = self.listeners[usize::from(id.0)].transport;
            self.services().spawn(Arc::clone(&self.driver.streams).accept(id, transport, socket));
        }
        Ok(())
    }

    pub(super) fn work(&mut self) -> io::Result<()> {
        let driver = Arc::clone(&self.driver);
        let (pulse, lanes, door) = (self.pulse(), Arc::clone(&self.lanes), Arc::clone(&self.door));
        let reader = self.pair.as_ref().map(Peered::reader);
        self.thread("receiver".into(), move || {
            let receiver = Receiver::new(driver, pulse, lanes, door);
            match reader {
                Some(reader) => receiver.with_links(reader).run(),
                None => receiver.run(),
            }
        })?;
        for n in 0..self.lanes.len() {
            let (driver, pulse, lanes) = (Arc::clone(&self.driver), self.pulse(), Arc::clone(&self.lanes));
            self.thread(format!("helper {n}"), move || worker::help(&driver, &pulse, &lanes[n]))?;
        }
        if let Some(pair) = &self.pair {
            // Last: from here on this node can be asked to serve.
            pair.begin(self.pulses.clone())?;
        }
        Ok(())
    }

    fn pulse(&mut self) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::default());
        self.pulses.push(Arc::clone(&pulse));
        pulse
    }

    fn thread(&self, name: String, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = std::thread::Builder::new().name(name).spawn(work)?;
        self.workers.lock().push(thread);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        if let Some(runtime) = self.runtime.take() {
            // A name that is being looked up may take its time.
            runtime.shutdown_timeout(Duration::from_millis(500));
        }
    }
}

fn service_threads(count: usize) -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(count.max(1))
        .max_blocking_threads(32)
        .thread_name("service")
        .enable_all()
        .build()
}

type Split = (Vec<Option<socket::UdpListener>>, StreamListeners);

fn split(bound: Vec<Bound>) -> Split {
    let mut split: Split = Default::default();
    for (n, bound) in bound.into_iter().enumerate() {
        match bound {
            Bound::Udp(udp) => split.0.push(Some(udp)),
            Bound::Tcp { socket, .. } => {
                split.0.push(None);
                split.1.push((ListenerId(n as u16), socket));
            }
        }
    }
    split
}
