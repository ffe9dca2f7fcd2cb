//! The event itself: orders to the admin listener of a node.

use super::mode::Mode;
use super::nodes::{self, Nodes};
use super::trouble::Trouble;
use crate::base::Time;
use crate::report::Status;
use crate::runtime::sys;

/// What is to happen, ready to be ordered.
#[derive(Clone, Debug)]
pub struct Event {
    admin: String,
    path: String,
    /// The process is to end, and can say nothing any more.
    deadly: bool,
    /// What has to be ordered afterwards.
    undo: Option<&'static str>,
    epoch: String,
}

impl Event {
    /// The event of `mode`, which lasts so many seconds if it lasts, on the chosen node; `to`: the mode to switch to.
    ///
    /// # Errors
    ///
    /// A switch needs to know where to.
    pub fn new(mode: Mode, nodes: &Nodes, seconds: u64, to: Option<&str>) -> Result<Self, Trouble> {
        let hands_over = has_standby(nodes.status());
        let path = match (mode, to) {
            (Mode::Kill | Mode::Partition | Mode::SlowPeer, _) => format!("/api/drill?fault={mode}&for={seconds}"),
            (Mode::Drain, _) if hands_over => "/api/switchover".to_owned(),
            (Mode::Drain, _) => "/api/drain".to_owned(),
            (Mode::Switch, Some(to)) => format!("/api/ha-mode?mode={to}"),
            (Mode::Switch, None) => {
                let why = "say to which mode: --to none, --to active-standby or --to active-active";
                return Err(Trouble::Use(why.to_owned()));
            }
        };
        Ok(Self {
            admin: nodes.admin().to_owned(),
            path,
            deadly: mode == Mode::Kill,
            undo: (mode == Mode::Drain && !hands_over).then_some("/api/resume"),
            epoch: nodes.status().epoch.clone(),
        })
    }

    /// Orders it; when it happened.
    ///
    /// # Errors
    ///
    /// The node refuses, does not know such an order, or does not answer although it lives.
    pub fn happen(&self) -> Result<Time, Trouble> {
        let ordered = nodes::order(&self.admin, &self.path);
        let at = sys::now();
        match ordered {
            Err(Trouble::Unreachable(_)) if self.deadly && self.is_dead() => Ok(at),
            Ok(()) if self.deadly => Err(Trouble::Use(format!("{} was told to die and goes on", self.admin))),
            other => other.map(|()| at),
        }
    }

    /// Orders what has to be ordered afterwards.
    ///
    /// # Errors
    ///
    /// As [`Event::happen`].
    pub fn undo(&self) -> Result<(), Trouble> {
        self.undo.map_or(Ok(()), |path| nodes::order(&self.admin, path))
    }

    /// Nobody answers, or a process that was started since.
    fn is_dead(&self) -> bool {
        nodes::status(&self.admin).map_or(true, |status| status.epoch != self.epoch)
    }
}

/// Whether the peer can take everything over.
fn has_standby(status: &Status) -> bool {
    status.pair.is_some() && status.ha_mode == "active-standby"
}
