//! What operators see of a pair: this node, its peer, and what stands between them.
#![forbid(unsafe_code)]

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{Epoch, Time};
use crate::cluster::{Budget, Health, PathStatus, PeerStatus, Role, State, Status};
use crate::node::Exposure;

use super::loss::Loss;

/// This node as one of a pair.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairRow {
    /// `starting`, `standby`, `active`, `asking`, `left`.
    pub role: String,
    /// Seconds since it has this role.
    pub since_seconds: u64,
    /// `standalone`, `joining`, `syncing`, `armed`, `serving`: how far it is on its way into the pair.
    pub step: String,
    /// Whether either node could fail without a loss.
    pub armed: bool,
    /// Why not, with the cure; empty when armed.
    pub why_not: String,
    /// The claim that this node recognises, counter and node: `7.1`; empty when nobody is active.
    pub term: String,
    /// Whether the link to the peer stands.
    pub linked: bool,
    /// Why it does not, as far as anything was heard of it.
    pub link_trouble: Vec<String>,
    /// What may be spent on new calls: `whole`, `floor`, `shared` (both nodes serve, and lend each other ports), `nothing`.
    pub budget: String,
    /// Its workers turn and its shards are sound.
    pub fit: bool,
    /// Its interface can carry the addresses.
    pub usable: bool,
    /// It reaches a reference point; `null`: it has none.
    pub reaches: Option<bool>,
    /// Its own timers fire late: it judges nobody.
    pub late: bool,
    /// Whether every node that is heard is in the same `ha-mode`.
    #[serde(default)]
    pub mode_agreed: bool,
    /// Why the last switch of the mode that was asked for here came to nothing; empty: it did not.
    #[serde(default)]
    pub mode_refused: String,
    /// To whom it hands over at this moment.
    pub hands_over_to: Option<u16>,
    /// The addresses that the pair shares.
    pub virtual_ips: Vec<String>,
    /// Records that the peer has not acknowledged.
    pub unacknowledged: u64,
    /// Age of the oldest of them, seconds.
    pub unacknowledged_seconds: f64,
    /// Calls that may differ between the nodes.
    pub calls_apart: u64,
    /// INVITEs without a final answer that the peer acts for.
    pub peer_ringing: u64,
    /// How often this node became active since its start.
    pub takeovers: u64,
    /// From the claim to the announced addresses, the last time, seconds.
    pub last_takeover_seconds: Option<f64>,
    /// What of the peer's configuration differs; `null`: it has not told.
    pub differences: Option<Vec<String>>,
    /// The witness; `null` unless `cluster.partition` is `witness`.
    pub witness: Option<WitnessRow>,
    /// The other node.
    pub peers: Vec<PeerRow>,
}

/// The witness, as this node hears it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WitnessRow {
    /// Whether it answers; `null`: it was not asked yet.
    pub answers: Option<bool>,
    /// This node holds its lease.
    pub held: bool,
    /// The member that holds it, as far as it said when it last answered.
    pub holder: Option<u16>,
}

/// The other node, as this one hears it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerRow {
    /// Its `cluster.mymemberid`.
    pub node: u16,
    /// `never heard`, `heard`, `not judged`, `silent`, `dead`.
    pub health: String,
    /// What it says it is; empty before it was heard.
    pub role: String,
    /// The epoch that it bears.
    pub epoch: String,
    /// The claim that it recognises.
    pub term: String,
    /// It says that it holds everything.
    pub armed: bool,
    /// Its stream link is up.
    pub linked: bool,
    /// Its configuration differs.
    pub config_differs: bool,
    /// The ways to it, in the order of the configuration.
    pub paths: Vec<PathRow>,
}

/// One way to the other node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathRow {
    /// The peer's address on it.
    pub address: String,
    /// `never heard`, `heard`, `silent`, `one way` (the peer does not hear this node).
    pub state: String,
    /// Seconds since the last beat.
    pub heard_seconds: Option<f64>,
}

/// What is known of a pair beside the cluster's own words.
#[derive(Clone, Debug, Default)]
pub struct PairFacts {
    /// Since when this node has its role.
    pub since: Time,
    /// How often it became active.
    pub takeovers: u64,
    /// How long that took the last time.
    pub took: Option<Duration>,
    /// See [`PairRow::link_trouble`].
    pub link_trouble: Vec<String>,
    /// See [`PairRow::differences`].
    pub differences: Option<Vec<String>>,
    /// See [`PairRow::virtual_ips`].
    pub virtual_ips: Vec<String>,
    /// Of those: which whoever is active has, and which each node has.
    pub addresses_of: [Vec<String>; 2],
    /// The peer's addresses: index = path.
    pub addresses: Vec<String>,
    /// How far the peer holds what this node does.
    pub exposure: Exposure,
}

impl PairRow {
    /// The row as seen at `now`.
    pub fn new(now: Time, status: &Status, facts: &PairFacts) -> Self {
        let exposure = facts.exposure;
        Self {
            role: role(status.role).to_owned(),
            since_seconds: now.since(facts.since).as_secs(),
            step: status.step.to_string(),
            armed: status.armed,
            why_not: status.why_not.map(|why| why.to_string()).unwrap_or_default(),
            term: epoch(status.term),
            linked: exposure.linked,
            link_trouble: facts.link_trouble.clone(),
            budget: match (status.shared, status.budget) {
                (true, Budget::Floor) => "shared",
                (_, other) => budget(other),
            }
            .to_owned(),
            fit: status.fit,
            usable: status.usable,
            reaches: status.reach,
            late: status.late,
            mode_agreed: status.mode_agreed,
            mode_refused: status.mode_refused.map(|why| why.to_string()).unwrap_or_default(),
            hands_over_to: status.handing_over.map(|to| to.0),
            virtual_ips: facts.virtual_ips.clone(),
            unacknowledged: exposure.records,
            unacknowledged_seconds: age(now, exposure.oldest),
            calls_apart: exposure.apart as u64,
            peer_ringing: exposure.peer_ringing as u64,
            takeovers: facts.takeovers,
            last_takeover_seconds: facts.took.map(|took| took.as_secs_f64()),
            differences: facts.differences.clone(),
            witness: status.witness.map(|w| WitnessRow {
                answers: w.answers,
                held: w.held,
                holder: w.holder.map(|id| id.0),
            }),
            peers: status.peers.iter().map(|peer| PeerRow::new(now, peer, &facts.addresses)).collect(),
        }
    }
}

impl PeerRow {
    fn new(now: Time, peer: &PeerStatus, addresses: &[String]) -> Self {
        let path = |(n, path): (usize, &PathStatus)| PathRow {
            address: addresses.get(n).cloned().unwrap_or_default(),
            state: path_state(path).to_owned(),
            heard_seconds: path.heard_at.map(|at| now.since(at).as_secs_f64()),
        };
        Self {
            node: peer.id.0,
            health: health(peer.health).to_owned(),
            role: if peer.serves { "active" } else { peer.state.map(state).unwrap_or_default() }.to_owned(),
            epoch: epoch(peer.epoch),
            term: epoch(peer.term),
            armed: peer.armed,
            linked: peer.link,
            config_differs: peer.config_differs,
            paths: peer.paths.iter().enumerate().map(path).collect(),
        }
    }
}

/// What is lost if this node fails now, of so many ringing and answered calls in its tables.
pub fn loss(status: &Status, exposure: Exposure, ringing: u64, answered: u64) -> Loss {
    match (status.armed, status.role) {
        // What waits for the peer's word; a caller repeats an INVITE that nobody answered.
        (true, _) => Loss { ringing: exposure.ringing as u64, answered: 0 },
        (false, Role::Active | Role::Joined | Role::Asking) => Loss { ringing, answered },
        // The active node goes on with what it has.
        (false, Role::Starting | Role::Standby | Role::Left) => Loss { ringing, answered: 0 },
    }
}

/// Seconds since an instant; 0 if there was none.
pub fn age(now: Time, since: Option<Time>) -> f64 {
    since.map_or(0.0, |at| now.since(at).as_secs_f64())
}

/// The word for a role.
pub fn role(role: Role) -> &'static str {
    match role {
        Role::Starting => "starting",
        Role::Standby => "standby",
        Role::Active | Role::Joined => "active",
        Role::Asking => "asking",
        Role::Left => "left",
    }
}

/// The word for the state of a path.
pub fn path_state(path: &PathStatus) -> &'static str {
    match path {
        PathStatus { heard_at: None, .. } => "never heard",
        PathStatus { silent: true, .. } => "silent",
        PathStatus { one_way: true, .. } => "one way",
        _ => "heard",
    }
}

fn epoch(epoch: Epoch) -> String {
    if epoch.counter == 0 { String::new() } else { format!("{}.{}", epoch.counter, epoch.node.0) }
}

fn budget(budget: Budget) -> &'static str {
    match budget {
        Budget::Whole => "whole",
        Budget::Floor => "floor",
        Budget::Nothing => "nothing",
    }
}

fn health(health: Health) -> &'static str {
    match health {
        Health::Never => "never heard",
        Health::Heard => "heard",
        Health::Unjudged => "not judged",
        Health::Silent => "silent",
        Health::Dead(_) => "dead",
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Standby => "standby",
        State::Active => "active",
        State::Asking => "asking",
        State::Giving => "handing over",
        State::Leaving => "leaving",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::base::NodeId;
    use crate::cluster::{Cluster, Config, HaMode, Mode, Partition, PeerConfig, Timing};

    /// What a node of a pair says that has just started.
    pub(crate) fn status() -> Status {
        let config = Config {
            me: NodeId(1),
            incarnation: 7,
            counter: 1,
            cluster: 0,
            mode: Mode { mode: HaMode::ActiveStandby, word: Epoch::default() },
            modes: Vec::new(),
            shared: false,
            leads: false,
            peers: vec![PeerConfig { id: NodeId(2), paths: 2 }],
            timing: Timing::default(),
            probes: true,
            crossed: None,
            partition: Partition::Available,
            priority: 100,
            preempt: false,
            config: 0,
        };
        Cluster::new(Time::from_micros(1), config).unwrap().status()
    }

    #[test]
    fn armed_loses_what_waits_and_unarmed_everything() {
        let exposure = Exposure { ringing: 1, ..Exposure::default() };
        let of = |armed, role| loss(&Status { armed, role, ..status() }, exposure, 5, 70);
        assert_eq!(of(true, Role::Active), Loss { ringing: 1, answered: 0 });
        assert_eq!(of(false, Role::Active), Loss { ringing: 5, answered: 70 });
        assert_eq!(of(false, Role::Standby), Loss { ringing: 5, answered: 0 });
    }

    #[test]
    fn a_row_says_who_is_what_and_why_the_pair_is_not_armed() {
        let now = Time::from_micros(3_500_001);
        let facts = PairFacts { addresses: vec!["192.0.2.12:9801".into()], ..PairFacts::default() };
        let mut status = status();
        status.peers[0].paths[1].heard_at = Some(Time::from_micros(3_000_001));
        let row = PairRow::new(now, &status, &facts);
        assert_eq!((row.role.as_str(), row.step.as_str(), row.term.as_str()), ("starting", "standalone", ""));
        assert!(!row.armed && row.why_not.contains("member 2 is not heard"), "{}", row.why_not);
        let peer = &row.peers[0];
        assert_eq!((peer.node, peer.health.as_str(), peer.role.as_str()), (2, "never heard", ""));
        assert_eq!((peer.paths[0].address.as_str(), peer.paths[0].state.as_str()), ("192.0.2.12:9801", "never heard"));
        assert_eq!(peer.paths[1].heard_seconds, Some(0.5));
    }
}
