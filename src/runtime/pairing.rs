//! From the settings of a pair to its running parts: the keeper of the addresses, the links, the heart.
#![forbid(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::config::{self, Settings, VipManager};
use crate::node;
use crate::replica::handshake::{self, Local};
use crate::runtime::beat::{self, BeatStats, Beats, Pacemaker};
use crate::runtime::driver::Driver;
use crate::runtime::link::{self, BindError, Encryption, LinkStats, Links, Member, Peers, Reader};
use crate::runtime::pair::{Pair, RESERVE, Turns};
use crate::runtime::secure::{self, SecureError};
use crate::runtime::snmp::Traps;
use crate::runtime::start_error::StartError;
use crate::runtime::state;
use crate::runtime::vip::{Manager, Vip, VipError};
use crate::runtime::worker::Pulse;
use crate::token::Keys;

/// The addresses that the pair shares.
pub fn virtual_ips(settings: &Settings) -> Vec<IpAddr> {
    match settings.cluster.is_pair() {
        true => settings.cluster.virtual_ips.iter().map(|vip| vip.ip).collect(),
        false => Vec::new(),
    }
}

/// What must be done while the process has one thread, because privileges belong to threads.
pub struct Groundwork {
    /// The keeper of the addresses of a pair.
    pub vip: Option<Vip>,
}

/// Makes `state-dir` and starts the keeper of a pair. An earlier guard gives its addresses and sockets up first.
pub fn prepare(settings: &Settings) -> Result<Groundwork, StartError> {
    state::make_dir(&settings.cluster.state_dir).map_err(StartError::State)?;
    let vip = keeper(settings).map_err(StartError::Vip)?;
    Ok(Groundwork { vip })
}

/// The keeper of the addresses of a pair. Takes privileges away from this thread.
fn keeper(settings: &Settings) -> Result<Option<Vip>, VipError> {
    let cluster = &settings.cluster;
    if !cluster.is_pair() {
        return Ok(None);
    }
    let manager = match &cluster.vip_manager {
        VipManager::Builtin => match Manager::builtin(cluster.state_dir.clone()) {
            Manager::Builtin { program, state_dir, .. } => {
                Manager::Builtin { program, state_dir, limit: cluster.timing.guard_limit }
            }
            other => other,
        },
        VipManager::Script { path, timeout } => Manager::Script { path: path.clone(), limit: *timeout },
        VipManager::None => Manager::None,
    };
    Vip::start(manager, cluster.virtual_ips.clone()).map(Some)
}

/// The pair as the node knows it.
pub fn of_node(settings: &Settings, incarnation: u64, counter: u32) -> Option<node::Pair> {
    let cluster = &settings.cluster;
    let peer = cluster.peer()?.id;
    Some(node::Pair {
        cluster: settings.roles(incarnation, counter),
        peer,
        virtual_ips: virtual_ips(settings),
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
    /// The keeper of the addresses.
    pub vip: Vip,
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
    /// The addresses of the peer: index = path.
    pub addresses: Vec<String>,
    config: beat::Config,
    encryption: Option<Arc<Encryption>>,
}

/// Binds the addresses of this member and puts the parts together.
pub fn start(parts: Parts<'_>, driver: &Arc<Driver>, traps: &Traps, runtime: &Handle) -> Result<Peered, StartError> {
    let Parts { settings, keys, incarnation, counter, vip } = parts;
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
    let config = link::Config {
        local,
        keys: keys.clone(),
        own: own.clone(),
        peers: peers.clone(),
        seed,
        encryption: encryption.clone(),
    };
    let link_stats = Arc::new(LinkStats::default());
    let links = Arc::new(Links::new(config, Arc::clone(&link_stats)).map_err(StartError::System)?);
    let listeners = BindError::bind(&own).map_err(StartError::Member)?;
    let upto = counter.saturating_add(RESERVE);
    state::reserve_epochs(&cluster.state_dir, upto).map_err(StartError::State)?;
    let state_dir = cluster.state_dir.clone();
    let ports = match cluster.is_on_loopback() {
        true => Turns::new(driver, &virtual_ips(settings)),
        false => Turns::default(),
    };
    let pair = Pair::new(Arc::clone(driver), Arc::clone(&links), vip, ports, traps.clone(), state_dir, upto);
    driver.connect(Arc::clone(&pair) as _);
    let watch: std::sync::Weak<Pair> = Arc::downgrade(&pair);
    driver.streams.watched_by(watch as _);
    pair.configured(settings.shared_lines());
    pair.lend_sockets();
    links.start(runtime, listeners).map_err(StartError::System)?;
    let beat_stats = Arc::new(BeatStats::default());
    let config = beat::Config { node: cluster.node, incarnation, keys: keys.clone(), own, peers };
    let virtual_ips = cluster.virtual_ips.iter().map(ToString::to_string).collect();
    let addresses = cluster.peer().map(|peer| peer.paths.iter().map(ToString::to_string).collect());
    let addresses = addresses.unwrap_or_default();
    Ok(Peered { pair, links, link_stats, beat_stats, virtual_ips, addresses, config, encryption })
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

    /// Says goodbye and gives the addresses up.
    pub fn stop(&self) {
        self.pair.stop();
        self.links.stop();
    }
}
