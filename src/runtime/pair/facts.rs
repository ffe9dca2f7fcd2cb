//! What a node last knew and did as one of a pair, and what operators see of it.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::base::{Epoch, Time};
use crate::cluster::{self, Fitness, HaMode, Refusal, Role};

use super::fitness::Watched;

/// What this node last knew and did as one of a pair.
#[derive(Debug)]
pub(super) struct Facts {
    pub role: Role,
    /// Since when it has this role.
    pub since: Time,
    pub epoch: Epoch,
    pub armed: bool,
    pub watched: Watched,
    pub fitness: Fitness,
    pub reach: Option<Option<bool>>,
    /// What came to the pair's addresses concerned this node.
    pub concerned: bool,
    /// The interface of an address has no link: by whose they are.
    pub dark: [bool; 3],
    /// Somebody works who can hold addresses, by whose they are.
    pub guarded: [bool; 3],
    /// `ha-mode` as the file says.
    pub file_mode: HaMode,
    pub next_kick: Time,
    pub next_reach: Time,
    pub answer: Option<Result<(), Refusal>>,
    pub takeovers: u64,
    pub took: Option<Duration>,
    /// When the present takeover began.
    pub claimed: Option<Time>,
}

/// What operators see of a pair beside the cluster's own words.
#[derive(Clone, Debug)]
pub struct PairView {
    /// The cluster's own words.
    pub status: cluster::Status,
    /// Since when this node has its role.
    pub since: Time,
    /// How often it became active.
    pub takeovers: u64,
    /// From the claim to the announced addresses, the last time.
    pub took: Option<Duration>,
    /// Whether the link to the peer stands.
    pub linked: bool,
    /// What of the peer's configuration differs, one sentence each; `None`: the peer has not told it.
    pub differences: Option<Vec<String>>,
}

impl Facts {
    /// Of a node that has not begun.
    pub fn new(now: Time) -> Self {
        Self {
            role: Role::Starting,
            since: now,
            epoch: Epoch::default(),
            armed: false,
            watched: Watched::default(),
            fitness: Fitness::Fit,
            reach: None,
            concerned: false,
            dark: [false; 3],
            guarded: [true; 3],
            file_mode: HaMode::None,
            next_kick: now,
            next_reach: now,
            answer: None,
            takeovers: 0,
            took: None,
            claimed: None,
        }
    }
}
