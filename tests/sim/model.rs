//! The reference model: what a caller may see, given what the media servers did and what the network was told to do.

use std::collections::{BTreeMap, BTreeSet};

use tandem::agent::script::{Outcome, Plan, Report};
use tandem::base::Time;

use crate::scenario::{PATIENCE, ROOM, SERVERS, server_addr};

/// What happened so far, as far as it excuses something.
#[derive(Default)]
pub struct Model {
    /// Since when a server has been alive, sound, known as up and not full, without a break.
    pub good_since: [Option<Time>; SERVERS],
    /// When each server crashed.
    pub crashes: [Vec<Time>; SERVERS],
    /// From when to when the node was draining.
    pub drains: Vec<(Time, Time)>,
    /// By Call-ID.
    pub calls: BTreeMap<String, History>,
}

/// What media servers had to do with one call.
#[derive(Default)]
pub struct History {
    pub plan: Plan,
    /// Where its INVITE went.
    pub tried: BTreeSet<usize>,
    /// Finals that servers gave to its INVITE.
    pub finals: Vec<u16>,
}

impl Model {
    /// Why this end of a call is nobody's fault but the node's; `None` if something excuses it.
    pub fn judge(&self, report: &Report) -> Option<String> {
        let history = self.calls.get(&report.call_id)?;
        let why = match report.outcome {
            Outcome::Completed if report.hung_up && history.plan.hang_up_after.is_none() => {
                "its ACK never arrived".into()
            }
            Outcome::Completed => self.refused(report)?,
            Outcome::Cancelled if history.plan.cancel_after.is_some_and(|after| after < PATIENCE) => return None,
            // The only 2xx was lost, and the server that would have repeated it died.
            Outcome::Cancelled if history.tried.iter().any(|n| self.crashed_while(*n, report)) => return None,
            Outcome::Cancelled => "its caller lost patience".into(),
            Outcome::Unanswered => "the INVITE got no final".into(),
            Outcome::Dropped(_) if self.crashed(report) => return None,
            // Its BYE was on the way.
            Outcome::Dropped(481) if history.plan.hang_up_after.is_some() => return None,
            Outcome::Dropped(status) => format!("its dialog broke with {status} on a live server"),
            Outcome::Failed(status) => self.failed(report, history, status)?,
        };
        Some(format!("call {} ({:?} at {} us): {why}", report.call_id, report.outcome, report.ended.as_micros()))
    }

    fn refused(&self, report: &Report) -> Option<String> {
        let status = report.refused.first().filter(|_| !self.crashed(report))?;
        Some(format!("a request inside it got {status} on a live server"))
    }

    fn failed(&self, report: &Report, history: &History, status: u16) -> Option<String> {
        let draining = self.drains.iter().any(|(from, to)| *from <= report.ended && report.invited <= *to);
        if status == 503 {
            return (!draining).then(|| "503 is for the node itself".into());
        }
        let known = match status {
            480 => true,
            408 => !history.tried.is_empty(),
            500 => history.finals.iter().any(|s| matches!(s, 500 | 503)),
            _ => false,
        };
        if !known && !history.finals.contains(&status) {
            return Some(format!("no server said {status}; they said {:?}", history.finals));
        }
        // Nobody is tried any more once the caller has cancelled.
        let cancelled = history.plan.cancel_after.is_some_and(|after| report.invited + after <= report.ended);
        let bound = history.plan.extra.contains(ROOM);
        if cancelled || bound || !matches!(status, 408 | 480 | 500) {
            return None;
        }
        let passed_over =
            |n: &usize| !history.tried.contains(n) && self.good_since[*n].is_some_and(|since| since <= report.invited);
        let server = (0..SERVERS).find(passed_over)?;
        Some(format!("server {server} had a port all the time and was not tried; tried {:?}", history.tried))
    }

    fn crashed(&self, report: &Report) -> bool {
        (0..SERVERS).any(|n| report.server == Some(server_addr(n)) && self.crashed_while(n, report))
    }

    fn crashed_while(&self, server: usize, report: &Report) -> bool {
        self.crashes[server].iter().any(|at| report.invited <= *at && *at <= report.ended)
    }
}
