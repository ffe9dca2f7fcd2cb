//! The report for people.

use std::fmt::Write;

use super::report::Report;
use crate::cli::table::{Align, printable, table};

/// Reasons of one phase that are shown; more are in the other formats.
const REASONS: usize = 3;
/// Characters of one.
const REASON: usize = 160;

/// The report on one screen.
pub fn text(report: &Report) -> String {
    let (calls, lost, expected) = report.sums();
    let dry = if report.dry_run { "dry run of " } else { "" };
    let mut text = format!("{dry}drill {}, node at {}: {calls} calls\n\n", report.mode, report.node);
    text.push_str(&phases(report));
    if !report.dry_run {
        text.push_str(&measures(report));
    }
    let own = report.own_calls_at_risk;
    if own.ringing + own.answered > 0 {
        let _infallible = writeln!(
            text,
            "own calls     {} ringing and {} answered ones would be lost if that node failed now",
            own.ringing, own.answered
        );
    }
    for row in &report.phases {
        for reason in row.reasons.iter().take(REASONS) {
            let _infallible = writeln!(text, "lost: {}: {}", row.phase, printable(reason, REASON));
        }
    }
    for said in &report.violations {
        let _infallible = writeln!(text, "against RFC 3261: {}", printable(said, REASON));
    }
    let verdict = match (report.is_bad(), report.dry_run) {
        (false, true) => String::from("no call would be lost"),
        (true, true) => {
            format!("{lost} calls would be lost: `tandem peer check` says what keeps the pair from being armed")
        }
        (false, false) if lost == 0 => String::from("PASSED: no call was lost"),
        (false, false) => format!("PASSED: {lost} calls were lost, as expected"),
        (true, false) => format!("FAILED: {lost} calls were lost, {expected} expected, overshoot {}", report.overshoot),
    };
    let _infallible = writeln!(text, "{verdict}");
    text
}

fn phases(report: &Report) -> String {
    let lost = if report.dry_run { "WOULD BE LOST" } else { "LOST" };
    let columns = [("PHASE", Align::Left), ("CALLS", Align::Right), (lost, Align::Right), ("EXPECTED", Align::Right)];
    let row = |r: &super::report::PhaseRow| {
        [r.phase.to_owned(), r.calls.to_string(), r.lost.to_string(), r.expected.to_string()]
    };
    table(&columns, &report.phases.iter().map(row).collect::<Vec<_>>()) + "\n"
}

fn measures(report: &Report) -> String {
    let takeover = match report.takeover_ms {
        Some(ms) => format!("{ms:.1} ms without an answer to probes that leave every 10 ms"),
        None => String::from("probes were not answered any more"),
    };
    let limit = report.limit.map_or_else(|| String::from("unlimited"), |limit| limit.to_string());
    let divergence = match report.divergence {
        Some(calls) => format!("{calls} calls may differ between the nodes"),
        None => String::from("not known: no link between the nodes"),
    };
    format!(
        "takeover      {takeover}\n\
         late replies  {} finals came more than {} ms after they were sent\n\
         repeated      {} messages after the event\n\
         overshoot     {}: at most {} calls at once, limit {limit}\n\
         divergence    {divergence}\n",
        report.late_replies, report.t1_ms, report.retransmissions, report.overshoot, report.most_calls,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::drill::report::tests::report;

    #[test]
    fn the_screen_of_a_failed_drill() {
        let expected = "\
drill kill, node at 192.0.2.11:9090: 15 calls

PHASE     CALLS  LOST  EXPECTED
trying        5     0         0
ringing       5     2         0
answered      5     5         5

takeover      43.2 ms without an answer to probes that leave every 10 ms
late replies  3 finals came more than 500 ms after they were sent
repeated      12 messages after the event
overshoot     0: at most 15 calls at once, limit 15
divergence    0 calls may differ between the nodes
own calls     1 ringing and 70 answered ones would be lost if that node failed now
lost: ringing: 7-caller@192.0.2.1: <Unanswered> & \"gone\"
FAILED: 7 calls were lost, 5 expected, overshoot 0
";
        assert_eq!(text(&report()), expected);
    }

    #[test]
    fn a_dry_run_measures_nothing() {
        let mut dry = report();
        dry.dry_run = true;
        let shown = text(&dry);
        assert!(shown.starts_with("dry run of drill kill") && !shown.contains("takeover"), "{shown}");
        assert!(shown.contains("WOULD BE LOST") && shown.contains("\n7 calls would be lost: `tandem peer"), "{shown}");
    }
}
