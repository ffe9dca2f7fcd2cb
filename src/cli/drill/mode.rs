//! What a drill does to the pair.

use std::fmt;

use serde::Serialize;

/// What happens while the canaries live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The process of the node dies, as by SIGKILL.
    Kill,
    /// The node hands over to its peer; one that has no standby takes no new calls for a while.
    Drain,
    /// The node and its peer hear nothing of each other.
    Partition,
    /// The peer of the active node does not read what it is told.
    SlowPeer,
    /// Both nodes change to another `ha-mode`.
    #[serde(rename = "switch-mode")]
    #[value(name = "switch-mode")]
    Switch,
}

impl Mode {
    /// As operators write it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Kill => "kill",
            Mode::Drain => "drain",
            Mode::Partition => "partition",
            Mode::SlowPeer => "slow-peer",
            Mode::Switch => "switch-mode",
        }
    }

    /// Whether it takes time of its own, after which it ends by itself.
    pub fn lasts(self) -> bool {
        matches!(self, Mode::Partition | Mode::SlowPeer)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
