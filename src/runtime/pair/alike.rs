//! Whether both nodes are configured alike: each shows the other what must be, and says what is not.
#![forbid(unsafe_code)]

use crate::config::{Shared, differences};

/// Differences that are logged one by one.
const TOLD: usize = 10;

/// What must be alike.
#[derive(Debug, Default)]
pub(super) struct Alike {
    pub(super) ours: Vec<Shared>,
    pub(super) theirs: Option<Vec<Shared>>,
    pub(super) differ: Vec<String>,
}

impl Alike {
    /// What differs; `None`: the peer has not told what it has.
    pub fn differences(&self) -> Option<&Vec<String>> {
        self.theirs.as_ref().map(|_| &self.differ)
    }

    /// Compares anew; what differs, if that is something new.
    pub(super) fn compare(&mut self) -> Option<&[String]> {
        let differ = self.theirs.as_ref().map(|theirs| differences(&self.ours, theirs)).unwrap_or_default();
        let changed = differ != self.differ;
        self.differ = differ;
        changed.then_some(&self.differ)
    }

    pub(super) fn tell(&mut self) {
        let Some(differ) = self.compare() else { return };
        for sentence in differ.iter().take(TOLD) {
            tracing::warn!("the peer is configured differently: {sentence}; make the two files alike");
        }
        if differ.len() > TOLD {
            tracing::warn!("and {} more differences: see tandem peer diff", differ.len() - TOLD);
        }
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
