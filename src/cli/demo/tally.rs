//! What became of the calls of the demo.

use std::net::SocketAddr;

use crate::agent::script::{Outcome, Report};
use crate::base::Time;
use crate::cli::table::{Align, table};

/// Reasons kept of lost calls.
const REASONS: usize = 5;

/// All calls, and those of each media server.
#[derive(Debug, Default)]
pub struct Tally {
    /// Calls placed.
    pub offered: u64,
    /// Sums over all servers, and calls that no server answered.
    pub all: Counts,
    /// The lost ones of `all`.
    pub lost: Lost,
    servers: Vec<(SocketAddr, Counts)>,
    reasons: Vec<String>,
}

/// Calls that ended, by how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Got a 2xx.
    pub answered: u64,
    /// Ended by a BYE that was answered.
    pub completed: u64,
    /// Lived on a server when it died.
    pub died: u64,
    /// Failed set-up, or a dialog that broke on a live server.
    pub lost: u64,
}

/// Lost calls, by what they were at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Their INVITE.
    pub set_up: u64,
    /// A request inside the dialog.
    pub answered: u64,
    /// Their BYE, or no end at all.
    pub tear_down: u64,
}

/// A media server that dies, and when.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// Which.
    pub server: SocketAddr,
    /// When; [`Time::NEVER`] before it happened.
    pub at: Time,
}

impl Tally {
    /// No calls yet, on these servers.
    pub fn new(servers: impl Iterator<Item = SocketAddr>) -> Self {
        Self { servers: servers.map(|addr| (addr, Counts::default())).collect(), ..Self::default() }
    }

    /// Counts a call that is over.
    pub fn add(&mut self, report: &Report, death: Death) {
        let completed = report.outcome == Outcome::Completed;
        let there = report.answered.is_some() && report.server == Some(death.server);
        let died = !completed && there && report.invited < death.at && death.at <= report.ended;
        let lost = !completed && !died;
        let row = self.servers.iter_mut().find(|(addr, _)| report.server == Some(*addr)).map(|(_, counts)| counts);
        for counts in row.into_iter().chain([&mut self.all]) {
            counts.answered += u64::from(report.answered.is_some());
            counts.completed += u64::from(completed);
            counts.died += u64::from(died);
            counts.lost += u64::from(lost);
        }
        match report.answered {
            _ if !lost => {}
            None => self.lost.set_up += 1,
            Some(_) if report.at_bye => self.lost.tear_down += 1,
            Some(_) => self.lost.answered += 1,
        }
        if lost && self.reasons.len() < REASONS {
            let server = report.server.map_or_else(|| String::from("no server"), |addr| addr.to_string());
            self.reasons.push(format!("{} on {server}: {:?}", report.call_id, report.outcome));
        }
    }

    /// Calls that have not ended are lost.
    pub fn close(&mut self, open: u64) {
        self.all.lost += open;
        self.lost.tear_down += open;
        if open > 0 {
            self.reasons.push(format!("{open} calls did not end"));
        }
    }

    /// The table at the end.
    pub fn summary(&self) -> String {
        let columns = [
            ("MEDIA SERVER", Align::Left),
            ("OFFERED", Align::Right),
            ("ANSWERED", Align::Right),
            ("COMPLETED", Align::Right),
            ("DIED WITH IT", Align::Right),
            ("LOST", Align::Right),
        ];
        let row = |name: String, offered: String, counts: &Counts| {
            let numbers = [counts.answered, counts.completed, counts.died, counts.lost].map(|n| n.to_string());
            let [answered, completed, died, lost] = numbers;
            [name, offered, answered, completed, died, lost]
        };
        let mut rows: Vec<_> =
            self.servers.iter().map(|(addr, counts)| row(addr.to_string(), String::new(), counts)).collect();
        rows.push(row(String::from("all"), self.offered.to_string(), &self.all));
        let mut text = table(&columns, &rows);
        let Lost { set_up, answered, tear_down } = self.lost;
        text.push_str(&format!("lost in set-up: {set_up}, answered: {answered}, in tear-down: {tear_down}\n"));
        self.reasons.iter().for_each(|reason| text.push_str(&format!("lost: {reason}\n")));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcome: Outcome, server: &str, from: u64, to: u64) -> Report {
        Report {
            call: 1,
            call_id: String::from("1-caller"),
            outcome,
            server: server.parse().ok(),
            invited: Time::from_micros(from),
            answered: server.parse::<SocketAddr>().ok().map(|_| Time::from_micros(from + 1)),
            ended: Time::from_micros(to),
            hung_up: false,
            at_bye: to == 151,
            refused: Vec::new(),
        }
    }

    #[test]
    fn only_calls_on_the_dying_server_die_with_it() {
        let (a, b) = ("127.0.0.1:7001", "127.0.0.1:7002");
        let death = Death { server: a.parse().unwrap(), at: Time::from_micros(100) };
        let mut tally = Tally::new([a, b].iter().map(|addr| addr.parse().unwrap()));
        tally.add(&report(Outcome::Completed, a, 0, 50), death);
        tally.add(&report(Outcome::Dropped(408), a, 50, 150), death);
        tally.add(&report(Outcome::Dropped(408), b, 50, 150), death);
        tally.add(&report(Outcome::Dropped(408), a, 110, 150), death);
        tally.add(&report(Outcome::Failed(480), "", 50, 150), death);
        tally.add(&report(Outcome::Dropped(481), b, 120, 151), death);
        tally.close(2);
        assert_eq!(tally.all, Counts { answered: 5, completed: 1, died: 1, lost: 6 });
        assert_eq!(tally.lost, Lost { set_up: 1, answered: 2, tear_down: 3 });
        assert_eq!(tally.servers[0].1, Counts { answered: 3, completed: 1, died: 1, lost: 1 });
        assert_eq!(tally.servers[1].1, Counts { answered: 2, completed: 0, died: 0, lost: 2 });
    }
}
