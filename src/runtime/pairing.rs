//! From the settings of a pair to its running parts: the keeper of the addresses, the links, the heart.
#![forbid(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::config::{self, Settings, VipManager, VirtualIp};
use crate::identity::Shared;
use crate::node;
use crate::replica::handshake::{self, Local};
use crate::runtime::beat::{self, BeatStats, Beats, Pacemaker};
use crate::runtime::driver::Driver;
use crate::runtime::fault::{Fault, Faults};
use crate::runtime::link::{self, BindError, Encryption, LinkStats, Links, Member, Peers, Reader};
use crate::runtime::pair::{Keepers, Pair, RESERVE, Turns};
use crate::runtime::secure::{self, SecureError};
use crate::runtime::snmp::Traps;
use crate::runtime::start_error::StartError;
use crate::runtime::state;
use crate::runtime::sys;
use crate::runtime::vip::{Manager, Vip};
use crate::runtime::witness::{self, Watch};
use crate::runtime::worker::Pulse;
use crate::token::Keys;

/// The addresses that the pair shares: they stand in Record-Route, and dialogs carry them.
pub fn shared_ips(settings: &Settings) -> Shared {
    let cluster = &settings.cluster;
    if cluster.is_crossed() {
        let [ips, guests] = [true, false].map(|own| cluster.service_ips_of(own).iter().map(|vip| vip.ip).collect());
        let virtual_ips = cluster.virtual_ips.iter().map(|vip| vip.ip).collect();
        return Shared { ips, sends: true, guests, virtual_ips, ..Shared::default() };
    }
    Shared { ips: cluster.shared_ips().collect(), sends: !cluster.is_shared() || cluster.in_via, ..Shared::default() }
}

/// What must be done while the process has one thread, because privileges belong to threads.
pub struct Groundwork {
    /// The keepers of the addresses of a pair.
    pub keepers: Option<Keepers>,
}

/// Makes `state-dir` and starts the keepers of a pair. Earlier guards give their addresses and sockets up first.
pub fn prepare(settings: &Settings) -> Result<Groundwork, StartError> {
    state::make_dir(&settings.cluster.state_dir).map_err(StartError::State)?;
    if !settings.cluster.is_pair() {
        return Ok(Groundwork { keepers: None });
    }
    Ok(Groundwork { keepers: Some(keepers(settings)?) })
}

/// Takes privileges away from this thread.
fn keepers(settings: &Settings) -> Result<Keepers, StartError> {
    let cluster = &settings.cluster;
    let state_dir = &cluster.state_dir;
    let first = |name: &str, ips: &[VirtualIp]| {
        if !cluster.is_crossed() || ips.is_empty() {
            return Ok(None);
        }
        let state_dir = state_dir.join(name);
        state::make_dir(&state_dir).map_err(StartError::State)?;
        Vip::start_first(manager(cluster, state_dir), ips.to_vec()).map(Some).map_err(StartError::Vip)
    };
    let guest = first("guest", cluster.service_ips_of(false))?;
    let lead = first("lead", &cluster.virtual_ips)?;
    let own = if cluster.is_shared() { cluster.service_ips_of(true) } else { &cluster.virtual_ips };
    let own = Vip::start(manager(cluster, state_dir.clone()), own.to_vec()).map_err(StartError::Vip)?;
    Ok(Keepers { own, guest, lead })
}

fn manager(cluster: &config::Cluster, state_dir: PathBuf) -> Manager {
    match &cluster.vip_manager {
        VipManager::Builtin => match Manager::builtin(state_dir) {
            Manager::Builtin { program, state_dir, .. } => {
                Manager::Builtin { program, state_dir, limit: cluster.timing.guard_limit }
            }
            other => other,
        },
        VipManager::Script { path, timeout } => Manager::Script { path: path.clone(), limit: *timeout },
        VipManager::None => Manager::None,
    }
}

/// The pair as the node knows it.
pub fn of_node(settings: &Settings, incarnation: u64, counter: u32) -> Option<node::Pair> {
    let cluster = &settings.cluster;
    let peer = cluster.peer()?.id;
    Some(node::Pair {
        cluster: settings.roles(incarnation, counter),
        peer,
        virtual_ips: cluster.moving_ips().collect(),
        commit: match cluster.commit {
            config::Commit::PeerAck => node::Commit::PeerAck,
            config::Commit::Async => node::Commit::Async,
        },
        commit_timeout: cluster.commit_timeout,
        active_share: u16::from(cluster.floor) * 10,
        cold_reserve: u16::from(cluster.cold_reserve) * 10,
    })
}

/// What the parts of a pair are made from.
pub struct Parts<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// The keys of the cluster.
    pub keys: &'a Keys,
    /// Random per process start.
    pub incarnation: u64,
    /// The durable counter of this start.
    pub counter: u32,
    /// Who keeps the addresses.
    pub keepers: Keepers,
}

/// A pair whose parts are bound and do not act yet.
pub struct Peered {
    /// What operators ask.
    pub pair: Arc<Pair>,
    /// The links.
    pub links: Arc<Links>,
    /// What links count.
    pub link_stats: Arc<LinkStats>,
    /// What beats count.
    pub beat_stats: Arc<BeatStats>,
    /// The addresses that the pair shares, as configured.
    pub virtual_ips: Vec<String>,
    /// Of those: which whoever is active has, and which each node has.
    pub addresses_of: [Vec<String>; 2],
    /// The addresses of the peer: index = path.
    pub addresses: Vec<String>,
    /// What a drill wants to fail.
    pub faults: Arc<Faults>,
    config: beat::Config,
    encryption: Option<Arc<Encryption>>,
}

/// Binds the addresses of this member and puts the parts together.
pub fn start(parts: Parts<'_>, driver: &Arc<Driver>, traps: &Traps, runtime: &Handle) -> Result<Peered, StartError> {
    let Parts { settings, keys, incarnation, counter, keepers } = parts;
    let cluster = &settings.cluster;
    let member = |m: &config::Member| Member { node: m.id, addrs: m.paths.clone() };
    let own = cluster.own().map(|m| m.paths.clone()).unwrap_or_default();
    let peers: Vec<Member> = cluster.peer().map(member).into_iter().collect();
    let mut digest = [0; 16];
    digest[..8].copy_from_slice(&settings.shared_digest().to_be_bytes());
    let local = Local {
        node: cluster.node,
        incarnation,
        cluster: handshake::cluster_hash(&cluster.name),
        config: digest,
        capabilities: 0,
        versions: handshake::VERSIONS,
        members: cluster.members.iter().map(|m| m.id).collect(),
    };
    let seed = state::random::<32>().map_err(StartError::State)?;
    let encryption = encryption(settings).map_err(StartError::Secure)?;
    let faults = Arc::<Faults>::default();
    let config = link::Config {
        local,
        keys: keys.clone(),
        own: own.clone(),
        peers: peers.clone(),
        seed,
        faults: Arc::clone(&faults),
        encryption: encryption.clone(),
    };
    let link_stats = Arc::new(LinkStats::default());
    let links = Arc::new(Links::new(config, Arc::clone(&link_stats)).map_err(StartError::System)?);
    let listeners = BindError::bind(&own).map_err(StartError::Member)?;
    let upto = counter.saturating_add(RESERVE);
    state::reserve_epochs(&cluster.state_dir, upto).map_err(StartError::State)?;
    let state_dir = cluster.state_dir.clone();
    let ports = match cluster.is_on_loopback() {
        true => Turns::new(driver, &cluster.moving_ips().collect::<Vec<IpAddr>>()),
        false => Turns::default(),
    };
    let pair = Pair::new(Arc::clone(driver), Arc::clone(&links), keepers, ports, traps.clone(), state_dir, upto);
    driver.connect(Arc::clone(&pair) as _);
    if let Some(witness) = witness::of(settings, keys, counter) {
        // Before anything else is heard: what the cluster wants of it is told once.
        let weak: Weak<Pair> = Arc::downgrade(&pair);
        let tell = move |word| weak.upgrade().into_iter().for_each(|pair| pair.witnessed(word));
        pair.watch_by(Watch::start(witness, tell).map_err(StartError::System)?);
    }
    let watch: Weak<Pair> = Arc::downgrade(&pair);
    driver.streams.watched_by(watch as _);
    pair.configured(settings.shared_lines(), cluster.ha_mode);
    pair.lend_sockets();
    links.start(runtime, listeners).map_err(StartError::System)?;
    let beat_stats = Arc::new(BeatStats::default());
    let config =
        beat::Config { node: cluster.node, incarnation, keys: keys.clone(), own, peers, faults: Arc::clone(&faults) };
    let services = cluster.service_ips.iter().filter(|_| cluster.is_crossed()).flat_map(|s| &s.ips);
    let addresses_of = [cluster.virtual_ips.iter().collect(), services.collect::<Vec<_>>()];
    let addresses_of = addresses_of.map(|ips: Vec<&VirtualIp>| ips.into_iter().map(ToString::to_string).collect());
    let virtual_ips = addresses_of.concat();
    let addresses = cluster.peer().map(|peer| peer.paths.iter().map(ToString::to_string).collect());
    let addresses = addresses.unwrap_or_default();
    Ok(Peered { pair, links, link_stats, beat_stats, virtual_ips, addresses_of, addresses, faults, config, encryption })
}

fn encryption(settings: &Settings) -> Result<Option<Arc<Encryption>>, SecureError> {
    let Some((material, names)) = secure::of_peers(settings)? else { return Ok(None) };
    Ok(Some(Arc::new(Encryption::new(&material, names).map_err(secure::unusable)?)))
}

impl Peered {
    /// New links go by the files and names of these settings; the one that stands goes on.
    ///
    /// # Errors
    ///
    /// A file that cannot be used; then nothing has changed.
    pub fn renew(&self, settings: &Settings) -> Result<(), SecureError> {
        let (Some(encryption), Some((material, names))) = (&self.encryption, secure::of_peers(settings)?) else {
            return Ok(());
        };
        encryption.replace(&material, names).map_err(secure::unusable)
    }

    /// What the receiver reads beside its sockets.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.links, Arc::clone(&self.pair) as Arc<dyn Peers>)
    }

    /// The heart begins to beat: from now on this node takes part.
    pub fn begin(&self, pulses: Vec<Arc<Pulse>>) -> io::Result<()> {
        self.pair.watch(pulses);
        let pacemaker = Arc::clone(&self.pair) as Arc<dyn Pacemaker>;
        let heart = Beats::start(self.config.clone(), pacemaker, Arc::clone(&self.beat_stats));
        self.pair.beat_by(heart.map_err(|e| io::Error::other(e.to_string()))?);
        Ok(())
    }

    /// Begins a fault, and goes on where it left off when it has ended.
    ///
    /// # Errors
    ///
    /// No thread could be started for the end; then nothing has begun.
    pub fn fail(&self, fault: Fault, span: Duration) -> io::Result<()> {
        let (links, until) = (Arc::downgrade(&self.links), sys::now() + span);
        let end = move || {
            thread::sleep(span);
            links.upgrade().iter().for_each(|links| links.resume());
        };
        thread::Builder::new().name("drill".into()).spawn(end)?;
        self.faults.begin(fault, until);
        self.links.resume();
        Ok(())
    }

    /// Says goodbye and gives the addresses up.
    pub fn stop(&self) {
        self.pair.stop();
        self.links.stop();
    }
}
