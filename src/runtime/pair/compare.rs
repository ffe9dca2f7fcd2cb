//! Each node shows the other how it is configured.
#![forbid(unsafe_code)]

use super::machine::Pair;
use crate::base::NodeId;
use crate::cluster::HaMode;
use crate::config::Shared;
use crate::replica::{Kind, Stream, settings};

impl Pair {
    /// What both nodes must have alike, as it is in force here from now on.
    pub fn configured(&self, lines: Vec<Shared>, file_mode: HaMode) {
        self.facts.lock().file_mode = file_mode;
        {
            let mut alike = self.alike.lock();
            alike.ours = lines;
            alike.tell();
        }
        if let Some(status) = self.driver.node.pair_status() {
            status.peers.iter().filter(|peer| peer.link).for_each(|peer| self.show_settings(peer.id));
        }
    }

    /// Shows the peer how this node is configured.
    pub(super) fn show_settings(&self, peer: NodeId) {
        let mut payload = Vec::new();
        let alike = self.alike.lock();
        settings::write(&mut payload, alike.ours.iter().map(|line| (line.key.as_str(), line.value.as_str())));
        drop(alike);
        self.links.send(peer, Stream::Bulk, Kind::Settings, &payload);
        self.links.flush();
    }

    /// The peer shows how it is configured.
    pub(super) fn compare_settings(&self, payload: &[u8]) {
        let line = |(key, value): (&str, &str)| Shared { key: key.to_owned(), value: value.to_owned() };
        let mut alike = self.alike.lock();
        alike.theirs = Some(settings::read(payload).map(line).collect());
        alike.tell();
    }
}
