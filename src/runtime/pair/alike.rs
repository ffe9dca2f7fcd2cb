//! Whether both nodes are configured alike: each shows the other what must be, and says what is not.
#![forbid(unsafe_code)]

use super::Pair;
use crate::base::NodeId;
use crate::config::{Shared, differences};
use crate::replica::{Kind, Stream, settings};

/// Differences that are logged one by one.
const TOLD: usize = 10;

/// What must be alike.
#[derive(Debug, Default)]
pub(super) struct Alike {
    ours: Vec<Shared>,
    theirs: Option<Vec<Shared>>,
    differ: Vec<String>,
}

impl Alike {
    /// What differs; `None`: the peer has not told what it has.
    pub fn differences(&self) -> Option<&Vec<String>> {
        self.theirs.as_ref().map(|_| &self.differ)
    }

    /// Compares anew; what differs, if that is something new.
    fn compare(&mut self) -> Option<&[String]> {
        let differ = self.theirs.as_ref().map(|theirs| differences(&self.ours, theirs)).unwrap_or_default();
        let changed = differ != self.differ;
        self.differ = differ;
        changed.then_some(&self.differ)
    }

    fn tell(&mut self) {
        let Some(differ) = self.compare() else { return };
        for sentence in differ.iter().take(TOLD) {
            tracing::warn!("the peer is configured differently: {sentence}; make the two files alike");
        }
        if differ.len() > TOLD {
            tracing::warn!("and {} more differences: see tandem peer diff", differ.len() - TOLD);
        }
    }
}

impl Pair {
    /// What both nodes must have alike, as it is in force here from now on.
    pub fn configured(&self, lines: Vec<Shared>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(commit: &str) -> Vec<Shared> {
        let line = |key: &str, value: &str| Shared { key: key.to_owned(), value: value.to_owned() };
        vec![line("cluster.name", "west"), line("cluster.commit", commit)]
    }

    #[test]
    fn a_difference_is_told_once_and_again_when_it_changes() {
        let mut alike = Alike { ours: lines("async"), ..Alike::default() };
        assert_eq!(alike.compare(), None);
        assert_eq!(alike.differences(), None, "nobody has told anything");
        alike.theirs = Some(lines("peer-ack"));
        let said = "`cluster.commit` is async here and peer-ack there".to_owned();
        assert_eq!(alike.compare(), Some(&[said][..]));
        assert_eq!(alike.compare(), None);
        alike.ours = lines("peer-ack");
        assert_eq!(alike.compare(), Some(&[][..]));
        assert_eq!(alike.differences(), Some(&vec![]));
    }
}
