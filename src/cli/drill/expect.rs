//! What the loss meter says a drill will cost.

use super::mode::Mode;
use crate::report::{Loss, Status};

/// How many of so many canaries of one phase the drill may lose: none, but where a node that nobody can stand in for dies.
/// Other faults end, and the node that serves goes on.
pub fn lost(mode: Mode, status: &Status, calls: u64) -> u64 {
    if mode == Mode::Kill && serves(status) && !is_armed(status) { calls } else { 0 }
}

/// The operator's own calls that the drill would cost now.
pub fn own(mode: Mode, status: &Status) -> Loss {
    if mode == Mode::Kill { status.loss_if_failed_now } else { Loss::default() }
}

/// Whether somebody holds everything that the node does.
pub fn is_armed(status: &Status) -> bool {
    status.pair.as_ref().is_some_and(|pair| pair.armed)
}

/// Whether the canaries go through this node, as far as is known: a node of a pair may be a standby.
fn serves(status: &Status) -> bool {
    status.pair.as_ref().is_none_or(|pair| pair.role == "active")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::PairRow;

    fn status(role: &str, armed: bool) -> Status {
        let loss_if_failed_now = Loss { ringing: 3, answered: 40 };
        Status {
            loss_if_failed_now,
            pair: Some(PairRow { role: role.into(), armed, ..PairRow::default() }),
            ..Status::default()
        }
    }

    #[test]
    fn only_the_death_of_a_node_without_a_stand_in_costs_calls() {
        let alone = Status { pair: None, ..status("active", false) };
        let cases = [
            (Mode::Kill, status("active", true), 0),
            (Mode::Kill, status("active", false), 5),
            (Mode::Kill, status("standby", false), 0),
            (Mode::Kill, alone.clone(), 5),
            (Mode::Drain, alone, 0),
            (Mode::Partition, status("active", false), 0),
            (Mode::SlowPeer, status("active", false), 0),
            (Mode::Switch, status("active", true), 0),
        ];
        for (mode, status, expected) in cases {
            assert_eq!(lost(mode, &status, 5), expected, "{mode}, {status:?}");
        }
        assert_eq!(own(Mode::Kill, &status("active", false)), Loss { ringing: 3, answered: 40 });
        assert_eq!(own(Mode::Drain, &status("active", false)), Loss::default());
    }
}
