//! What operators see of a pair.
#![forbid(unsafe_code)]

use super::facts::{Facts, PairView};
use super::machine::Pair;
use crate::cluster::Role;

impl Pair {
    /// What operators see.
    pub fn view(&self) -> Option<PairView> {
        let status = self.driver.node.pair_status()?;
        let linked = status.peers.iter().any(|peer| self.links.is_up(peer.id));
        let differences = self.alike.lock().differences().cloned();
        let facts = self.facts.lock();
        let Facts { since, takeovers, took, .. } = *facts;
        Some(PairView { status, since, takeovers, took, linked, differences })
    }

    /// Whether either node could fail without a loss, as of a moment ago. Never waits for the node.
    pub fn is_armed(&self) -> bool {
        self.facts.lock().armed
    }

    /// What this node is. Never waits for the node.
    pub fn role(&self) -> Role {
        self.facts.lock().role
    }
}
