//! `tandem ha-mode plan|set`: another `cluster.ha-mode` for a pair that carries calls.

use std::fmt::Write;
use std::thread;
use std::time::Duration;

use super::ask::{Target, View, show, unreachable};
use super::drill::nodes;
use super::drill::trouble::Trouble;
use super::terminal::{FAILURE, SUCCESS, UNDER_WAY, complain, say};
use crate::report::{ModePlan, Status};
use crate::runtime::sys;

/// How long a switch is waited for: its steps take a round trip each.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(50);

/// `tandem ha-mode plan`.
pub fn plan(view: &View, mode: &str) -> u8 {
    let mut refused = false;
    let code = show(view, &format!("/api/ha-mode?mode={mode}"), |plan: &ModePlan| {
        refused = !plan.refused.is_empty();
        screen(plan)
    });
    if code == SUCCESS && refused { FAILURE } else { code }
}

/// `tandem ha-mode set`.
pub fn set(target: &Target, mode: &str) -> u8 {
    match nodes::order(&target.admin, &format!("/api/ha-mode?mode={mode}")) {
        Ok(()) => {}
        Err(Trouble::Unreachable(why)) => return unreachable(target, &why),
        Err(why) => {
            complain(&why.to_string());
            return FAILURE;
        }
    }
    let end = sys::now() + PATIENCE;
    loop {
        let said = nodes::status(&target.admin);
        match said.as_ref().ok().and_then(|status| outcome(status, mode)) {
            Some(Ok(())) => {
                say(&format!("ha-mode is {mode} on both nodes; write it into both files as well\n"));
                return SUCCESS;
            }
            Some(Err(why)) => {
                complain(&format!("ha-mode stays as it is: {why}"));
                return FAILURE;
            }
            None if sys::now() >= end => {
                complain("not done yet, it goes on; `tandem status` says what comes of it");
                return UNDER_WAY;
            }
            None => thread::sleep(AGAIN),
        }
    }
}

/// What came of it; `None`: nothing yet.
fn outcome(status: &Status, mode: &str) -> Option<Result<(), String>> {
    let pair = status.pair.as_ref()?;
    if !pair.mode_refused.is_empty() {
        return Some(Err(pair.mode_refused.clone()));
    }
    (status.ha_mode == mode && pair.mode_agreed).then_some(Ok(()))
}

fn screen(plan: &ModePlan) -> String {
    let ModePlan { from, to, refused, calls, serves, lingers, costs } = plan;
    let mut text = format!("mode   {from} now, {to} asked for\n");
    let mut line = |name: &str, said: &str| {
        let _infallible = writeln!(text, "{name:<6} {said}");
    };
    if !refused.is_empty() {
        line("NO", refused);
    }
    let [own, peers] = calls;
    line("calls", &format!("{own} of this node and {peers} of its peer go on"));
    line("serves", serves);
    if !lingers.is_empty() {
        line("stays", lingers);
    }
    costs.iter().for_each(|cost| line("cost", cost));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::PairRow;

    #[test]
    fn a_plan_says_what_stays_and_what_it_costs() {
        let plan = ModePlan {
            from: "active-active".into(),
            to: "active-standby".into(),
            calls: [7, 2],
            serves: "member 1 at 192.0.2.10".into(),
            lingers: "192.0.2.21 192.0.2.22 stay".into(),
            costs: vec!["one node carries what two carried".into()],
            ..ModePlan::default()
        };
        let want = "\
mode   active-active now, active-standby asked for
calls  7 of this node and 2 of its peer go on
serves member 1 at 192.0.2.10
stays  192.0.2.21 192.0.2.22 stay
cost   one node carries what two carried
";
        assert_eq!(screen(&plan), want);
        let refused = ModePlan { refused: "the link is down".into(), ..plan };
        assert!(screen(&refused).contains("\nNO     the link is down\n"));
    }

    #[test]
    fn a_switch_is_done_when_both_nodes_are_in_the_mode() {
        let status =
            |ha_mode: &str, pair: PairRow| Status { ha_mode: ha_mode.into(), pair: Some(pair), ..Status::default() };
        let agreed = PairRow { mode_agreed: true, ..PairRow::default() };
        assert_eq!(outcome(&status("none", agreed.clone()), "none"), Some(Ok(())));
        assert_eq!(outcome(&status("active-active", agreed), "none"), None);
        assert_eq!(outcome(&status("none", PairRow::default()), "none"), None, "the peer has not followed yet");
        let refused = PairRow { mode_refused: "busy".into(), ..PairRow::default() };
        assert_eq!(outcome(&status("none", refused), "none"), Some(Err("busy".into())));
    }
}
