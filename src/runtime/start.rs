//! One start of a process: what tells it apart from every other one.
#![forbid(unsafe_code)]

use crate::balance;
use crate::base::Epoch;
use crate::config::Settings;
use crate::identity::Identities;
use crate::node::{self, Capacity};
use crate::runtime::pairing;
use crate::runtime::start_error::StartError;
use crate::runtime::state;
use crate::token::Keys;

/// One start of a process.
pub(super) struct Start {
    /// The epoch of this start.
    pub epoch: Epoch,
    /// Random: which life of the node this is.
    pub incarnation: u64,
    /// Of the keys that its branches and tokens bear.
    pub keys: Keys,
    seed: u64,
    capacity: Capacity,
}

impl Start {
    /// The keys of the cluster, from wherever the operator keeps its secrets.
    pub fn keys(settings: &Settings) -> Result<Keys, StartError> {
        let variable = std::env::var_os(state::SECRET_VARIABLE);
        let secrets = state::secrets(&settings.cluster, variable.as_deref()).map_err(StartError::State)?;
        let secrets: Vec<&[u8]> = secrets.iter().map(Vec::as_slice).collect();
        Keys::new(&settings.cluster.name, &secrets).map_err(StartError::Secrets)
    }

    /// Uses an epoch up: a start that fails had better fail before.
    pub fn new(settings: &Settings, keys: Keys, capacity: Capacity) -> Result<Self, StartError> {
        let random = || state::random::<8>().map(u64::from_ne_bytes).map_err(StartError::State);
        let (incarnation, seed) = (random()?, random()?);
        let counter = state::next_epoch(&settings.cluster.state_dir).map_err(StartError::State)?;
        let epoch = Epoch { counter, node: settings.cluster.node };
        Ok(Self { epoch, incarnation, seed, keys, capacity })
    }

    /// The configuration of the node, now or after a reload.
    pub fn node(&self, settings: &Settings, identities: Identities, farm: balance::Config) -> node::Config {
        node::Config {
            node: settings.cluster.node,
            epoch: self.epoch,
            incarnation: self.incarnation,
            seed: self.seed,
            keys: self.keys.clone(),
            identities,
            farm,
            proxy: settings.proxy.clone(),
            capacity: self.capacity,
            pair: pairing::of_node(settings, self.incarnation, self.epoch.counter),
        }
    }
}
