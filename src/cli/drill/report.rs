//! What came of a drill, as a plain value.

use serde::Serialize;

use super::mode::Mode;
use crate::report::Loss;

/// What came of a drill, or what would.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What happened.
    pub mode: Mode,
    /// Nothing happened: `lost` is what would have been.
    pub dry_run: bool,
    /// Admin address of the node to which it happened.
    pub node: String,
    /// The operator's own calls that the loss meter said would be lost if that node failed, right before the event.
    pub own_calls_at_risk: Loss,
    /// T1 of the agents, milliseconds.
    pub t1_ms: u64,
    /// In the order of a call's life, then the crowd.
    pub phases: Vec<PhaseRow>,
    /// The longest time without an answered probe from the event on, milliseconds, where probes leave every 10 ms;
    /// `null`: nothing happened, or none was answered any more.
    pub takeover_ms: Option<f64>,
    /// Finals that reached the other agent more than T1 after they were first sent.
    pub late_replies: u64,
    /// Messages that an agent sent again after the event.
    pub retransmissions: u64,
    /// The most calls at the media server at once, those in set-up too.
    pub most_calls: u64,
    /// Its `port-capacity`; `null`: unlimited.
    pub limit: Option<u32>,
    /// Calls offered at once after the event, and once more behind the last canary, so that the limit is met; 0: it is
    /// too far away.
    pub crowd: u64,
    /// By how many calls the limit was exceeded.
    pub overshoot: u64,
    /// Calls that may differ between the nodes, a while after the event; `null`: there is no link to compare over.
    pub divergence: Option<u64>,
    /// What the agents saw somebody do against RFC 3261.
    pub violations: Vec<String>,
}

/// The canaries of one phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PhaseRow {
    /// `trying`, `ringing`, `answered`, `re-invite`, `bye`, `cancel`; `new`: placed after the event, and also well ended
    /// if refused.
    pub phase: &'static str,
    /// How many were in it.
    pub calls: u64,
    /// How many did not end as they should have.
    pub lost: u64,
    /// How many the loss meter said would be lost.
    pub expected: u64,
    /// Of lost ones: the Call-ID and what became of it.
    pub reasons: Vec<String>,
}

impl PhaseRow {
    /// What is wrong with it; `None`: nothing. What a dry run expects is what is wrong.
    pub fn fault(&self, dry_run: bool) -> Option<String> {
        let Self { calls, lost, expected, .. } = self;
        match dry_run {
            true if *lost > 0 => Some(format!("{lost} of {calls} calls would be lost")),
            false if lost > expected => Some(format!("{lost} of {calls} calls lost, {expected} expected")),
            _ => None,
        }
    }
}

impl Report {
    /// Whether a promise was broken: a call was lost that was not to be, or a limit was exceeded.
    pub fn is_bad(&self) -> bool {
        self.phases.iter().any(|row| row.fault(self.dry_run).is_some()) || self.capacity_fault().is_some()
    }

    /// By how much the limit was exceeded; `None`: it was not.
    pub fn capacity_fault(&self) -> Option<String> {
        let limit = self.limit.filter(|_| self.overshoot > 0)?;
        Some(format!("{} calls at the media server, at most {limit} allowed", self.most_calls))
    }

    /// All phases together: calls, lost, expected.
    pub fn sums(&self) -> (u64, u64, u64) {
        let sum = |of: fn(&PhaseRow) -> u64| self.phases.iter().map(of).sum();
        (sum(|row| row.calls), sum(|row| row.lost), sum(|row| row.expected))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn report() -> Report {
        let row = |phase, lost, expected| PhaseRow { phase, calls: 5, lost, expected, reasons: Vec::new() };
        let mut phases = vec![row("trying", 0, 0), row("ringing", 2, 0), row("answered", 5, 5)];
        phases[1].reasons = vec!["7-caller@192.0.2.1: <Unanswered> & \"gone\"".to_owned()];
        Report {
            mode: Mode::Kill,
            dry_run: false,
            node: "192.0.2.11:9090".to_owned(),
            own_calls_at_risk: Loss { ringing: 1, answered: 70 },
            t1_ms: 500,
            phases,
            takeover_ms: Some(43.25),
            late_replies: 3,
            retransmissions: 12,
            most_calls: 15,
            limit: Some(15),
            crowd: 4,
            overshoot: 0,
            divergence: Some(0),
            violations: Vec::new(),
        }
    }

    #[test]
    fn only_what_was_not_expected_is_bad() {
        let mut report = report();
        assert_eq!(report.sums(), (15, 7, 5));
        assert_eq!(report.phases[1].fault(false).as_deref(), Some("2 of 5 calls lost, 0 expected"));
        assert_eq!((report.phases[2].fault(false), report.is_bad()), (None, true));
        report.phases.remove(1);
        assert!(!report.is_bad());
        report.dry_run = true;
        assert_eq!(report.phases[1].fault(true).as_deref(), Some("5 of 5 calls would be lost"));
        assert!(report.is_bad());
        report.dry_run = false;
        (report.most_calls, report.overshoot) = (16, 1);
        assert_eq!(report.capacity_fault().as_deref(), Some("16 calls at the media server, at most 15 allowed"));
        assert!(report.is_bad());
        report.limit = None;
        assert!(!report.is_bad());
    }
}
