//! A node that runs, as its service needs it.

use std::sync::Arc;
use std::time::Duration;

use super::metrics::PairSample;
use super::reload_error::ReloadError;
use super::running::Running;
use super::stats::IoStats;
use crate::balance::ResourceView;
use crate::base::Epoch;
use crate::cluster::{self, Role};
use crate::config::{Plan, Settings};
use crate::node::{Command, Gauges, LegView, Stats};
use crate::replica::handshake::Refusal;
use crate::report::{Diff, ModePlan, PairFacts};
use crate::runtime::fault::Fault;
use crate::runtime::link::LinkStats;
use crate::runtime::pairing::Peered;
use crate::runtime::sys;

/// A worker that is at one batch for longer than this stands still. A batch takes milliseconds.
const WORK: Duration = Duration::from_secs(2);

/// A node that runs, as its service needs it.
pub trait Machine: Send + Sync + 'static {
    /// The epoch of this start.
    fn epoch(&self) -> Epoch;
    /// Counters of the node. May take its locks, as the next four may.
    fn stats(&self) -> Stats;
    /// What is alive.
    fn gauges(&self) -> Gauges;
    /// All resources.
    fn resources(&self) -> Vec<ResourceView>;
    /// Up to `limit` legs.
    fn legs(&self, limit: usize) -> Vec<LegView>;
    /// Tells the node.
    fn command(&self, command: Command);
    /// Counters of its sockets.
    fn io(&self) -> Arc<IoStats>;
    /// Puts a new configuration in force, whole or not at all; says what changed. May resolve names.
    fn reload(&self, settings: Settings) -> Result<Plan, ReloadError>;
    /// Whether every worker turns; if not, what stands still. Takes no lock.
    fn turning(&self) -> Result<(), String>;
    /// What it is in its cluster. Never waits for the node.
    fn role(&self) -> Role;
    /// Whether either node of the pair could fail without a loss. Never waits for the node.
    fn armed(&self) -> bool;
    /// What is seen of the pair; `None`: it has no peer. May take the node's locks, as all that follows may.
    fn pair(&self) -> Option<PairSample>;
    /// What an operator wants of the pair; why not.
    fn order(&self, command: cluster::Command) -> Result<(), String>;
    /// What another `ha-mode` would mean; `None`: it has no peer.
    fn plan_mode(&self, to: cluster::HaMode) -> Option<ModePlan>;
    /// Begins a fault that ends after so long; why not.
    fn fail(&self, fault: Fault, span: Duration) -> Result<(), String>;
    /// Where the nodes of the pair differ.
    fn diff(&self) -> Option<Diff>;
    /// The peer goes on with everything; whether it can. [`Machine::has_left`] says when it does.
    fn leave(&self) -> bool;
    /// Whether the peer goes on.
    fn has_left(&self) -> bool;
}

impl Machine for Running {
    fn epoch(&self) -> Epoch {
        self.start.epoch
    }

    fn stats(&self) -> Stats {
        self.node.stats()
    }

    fn gauges(&self) -> Gauges {
        self.node.gauges()
    }

    fn resources(&self) -> Vec<ResourceView> {
        self.node.resources()
    }

    fn legs(&self, limit: usize) -> Vec<LegView> {
        self.node.legs(limit)
    }

    fn command(&self, command: Command) {
        match command {
            Command::Drain => self.drain(),
            Command::Resume => self.resume(),
        }
    }

    fn io(&self) -> Arc<IoStats> {
        Arc::clone(&self.io)
    }

    fn reload(&self, settings: Settings) -> Result<Plan, ReloadError> {
        Running::reload(self, settings)
    }

    fn turning(&self) -> Result<(), String> {
        let stuck = |n| format!("worker {n} has been at one batch for more than {} s", WORK.as_secs());
        Running::turning(self, WORK).map_err(stuck)
    }

    fn role(&self) -> Role {
        self.pair.as_ref().map_or(Role::Active, |peered| peered.pair.role())
    }

    fn armed(&self) -> bool {
        self.pair.as_ref().is_some_and(|peered| peered.pair.is_armed())
    }

    fn pair(&self) -> Option<PairSample> {
        let Peered { pair, links, link_stats, beat_stats, virtual_ips, addresses_of, addresses, .. } =
            self.pair.as_ref()?;
        let view = pair.view()?;
        let mut exposure = self.node.exposure()?;
        exposure.linked = view.linked;
        let facts = PairFacts {
            since: view.since,
            takeovers: view.takeovers,
            took: view.took,
            link_trouble: if view.linked { Vec::new() } else { link_trouble(link_stats) },
            differences: view.differences,
            virtual_ips: virtual_ips.clone(),
            addresses_of: addresses_of.clone(),
            addresses: addresses.clone(),
            exposure,
        };
        let traps = Arc::clone(self.traps.stats());
        let (links, beats) = (Arc::clone(links.stats()), Arc::clone(beat_stats));
        Some(PairSample { status: view.status, facts, links, beats, traps })
    }

    fn order(&self, command: cluster::Command) -> Result<(), String> {
        let peered = self.pair.as_ref().ok_or("this node runs alone; set cluster.ha-mode for a pair")?;
        peered.pair.command(command).map_err(|refusal| refusal.to_string())
    }

    fn plan_mode(&self, to: cluster::HaMode) -> Option<ModePlan> {
        let PairSample { status, facts, .. } = self.pair()?;
        let (own, peers) = self.node.owners();
        let impossible = self.cluster_settings(|cluster| cluster.why_no_mode(to).map(str::to_owned));
        let refused = impossible.or_else(|| self.node.permits(to).err().map(|refusal| refusal.to_string()));
        Some(ModePlan::new(&status, &facts, [own, peers].map(|calls| calls as u64), to, refused))
    }

    fn fail(&self, fault: Fault, span: Duration) -> Result<(), String> {
        match (fault, &self.pair) {
            (Fault::Kill, _) => sys::process::die(),
            (_, Some(peered)) => peered.fail(fault, span).map_err(|e| format!("no thread for the drill: {e}"))?,
            (_, None) => return Err("this node runs alone: it has no peer that could fail; `kill` is left".into()),
        }
        Ok(())
    }

    fn diff(&self) -> Option<Diff> {
        let (view, exposure) = (self.pair.as_ref()?.pair.view()?, self.node.exposure()?);
        let (own, peers) = self.node.owners();
        Some(Diff {
            configuration: view.differences,
            config_differs: view.status.peers.iter().any(|peer| peer.config_differs),
            linked: view.linked,
            buckets: exposure.buckets_apart as u64,
            calls: exposure.apart as u64,
            mended: self.node.stats().peer.divergent_buckets,
            own: own as u64,
            peers: peers as u64,
        })
    }

    fn leave(&self) -> bool {
        let Some(peered) = &self.pair else { return false };
        let standby = matches!(peered.pair.role(), Role::Standby | Role::Starting);
        (standby || peered.pair.is_armed()) && peered.pair.command(cluster::Command::Stop).is_ok()
    }

    fn has_left(&self) -> bool {
        self.pair.as_ref().is_some_and(|peered| peered.pair.has_left())
    }
}

/// Why a link does not stand, as far as anything was counted.
fn link_trouble(stats: &LinkStats) -> Vec<String> {
    let refused = |refusal: &Refusal| stats.refusals[*refusal as usize - 1].get() > 0;
    let mut found: Vec<String> = Refusal::ALL.iter().filter(|r| refused(r)).map(ToString::to_string).collect();
    let counted = [
        (&stats.dial_refused, "no process listens on the peer's port; start it, or correct cluster.member.N"),
        (&stats.dial_unreachable, "the peer's port cannot be reached; check routes and filters for TCP"),
        (&stats.dial_silent, "what accepts on the peer's port says nothing; look at the peer's log"),
    ];
    found.extend(counted.iter().filter(|(counter, _)| counter.get() > 0).map(|(_, said)| (*said).to_owned()));
    found
}
