//! How long a takeover took: as callers saw it, and as the survivor tells.

use std::time::Duration;

use super::nodes::Seen;
use crate::agent::caller::Caller;
use crate::base::Time;
use crate::cli::table::{Align, table};

/// Every node that was killed, and what became of it.
#[derive(Debug, Default)]
pub struct Takeovers(Vec<Takeover>);

#[derive(Debug)]
struct Takeover {
    /// Index of the node that was killed.
    killed: usize,
    at: Time,
    /// From the kill to the first response to an INVITE that was sent after it.
    seen: Option<Duration>,
    /// From the claim to the address.
    told: Option<Duration>,
}

impl Takeovers {
    /// `node` was killed.
    pub fn killed(&mut self, node: usize, at: Time) {
        self.0.push(Takeover { killed: node, at, seen: None, told: None });
    }

    /// Learns what can be known now of the last one.
    pub fn look(&mut self, caller: &Caller, nodes: &Seen) {
        let Some(last) = self.0.last_mut() else { return };
        if last.seen.is_none() {
            last.seen = caller.first_heard(last.at).map(|heard| heard.since(last.at));
        }
        if last.told.is_none() {
            last.told = nodes.took(survivor(last.killed));
        }
    }

    /// Whether there was one, and calls were served after each.
    pub fn is_complete(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|takeover| takeover.seen.is_some())
    }

    /// A table with a row for each; empty without one.
    pub fn screen(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let columns = [
            ("KILLED", Align::Left),
            ("TAKEN OVER BY", Align::Left),
            ("FIRST NEW CALL SERVED AFTER", Align::Right),
            ("CLAIM TO ADDRESS", Align::Right),
        ];
        let shown = |time: Option<Duration>| time.map_or_else(|| String::from("-"), milliseconds);
        let row = |takeover: &Takeover| {
            let [killed, survivor] = [takeover.killed, survivor(takeover.killed)].map(|n| format!("node {}", n + 1));
            [killed, survivor, shown(takeover.seen), shown(takeover.told)]
        };
        table(&columns, &self.0.iter().map(row).collect::<Vec<_>>())
    }
}

fn survivor(killed: usize) -> usize {
    1 - killed
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_takeover_counts_once_calls_were_served_after_it() {
        let mut takeovers = Takeovers::default();
        assert!(!takeovers.is_complete() && takeovers.screen().is_empty());
        takeovers.killed(0, Time::from_micros(5));
        assert!(!takeovers.is_complete());
        takeovers.0[0].seen = Some(Duration::from_micros(180_400));
        assert!(takeovers.is_complete());
        let expected = "\
KILLED  TAKEN OVER BY  FIRST NEW CALL SERVED AFTER  CLAIM TO ADDRESS
node 1  node 2                            180.4 ms                 -
";
        assert_eq!(takeovers.screen(), expected);
    }
}
