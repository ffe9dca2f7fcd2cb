//! What a switch of `cluster.ha-mode` would mean.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use super::pair::PairFacts;
use crate::cluster::{HaMode, Role, Status};

/// What a switch would mean now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModePlan {
    /// The mode in force.
    pub from: String,
    /// The one that was asked about.
    pub to: String,
    /// Why it would be refused, with the cure; empty: it would not.
    pub refused: String,
    /// Calls of this node and of its peer, answered or in set-up; all go on.
    pub calls: [u64; 2],
    /// Who takes calls then, and where.
    pub serves: String,
    /// Addresses that calls carry and nobody new is given: what becomes of them.
    pub lingers: String,
    /// What would not be as it was, and why.
    pub costs: Vec<String>,
}

impl ModePlan {
    /// The plan of a node that is this, for a mode that is refused for this reason or none.
    pub fn new(status: &Status, facts: &PairFacts, calls: [u64; 2], to: HaMode, refused: Option<String>) -> Self {
        let [virtual_ips, services] = facts.addresses_of.clone().map(|ips| ips.join(" "));
        let active = match status.role {
            Role::Active => status.me,
            _ => status.term.node,
        };
        let held = if virtual_ips.is_empty() { services.clone() } else { virtual_ips.clone() };
        let serves = match to {
            HaMode::None => format!("member {} alone, at {held}; nobody takes over from it", active.0),
            HaMode::ActiveStandby => format!("member {} at {held}; the other one takes over from it", active.0),
            HaMode::ActiveActive if services.is_empty() => format!("both nodes, behind what balances {virtual_ips}"),
            HaMode::ActiveActive => format!("each node at its own: {services}; each takes over from the other one"),
        };
        let lingers = match to {
            HaMode::ActiveActive if !services.is_empty() && !virtual_ips.is_empty() => {
                format!(
                    "{virtual_ips} stays with the active node, and the other one takes it over, for as long as it is configured"
                )
            }
            HaMode::None | HaMode::ActiveStandby if !services.is_empty() => {
                format!("{services} stay with the active node, for as long as they are configured")
            }
            _ => String::new(),
        };
        Self {
            from: status.mode.to_string(),
            to: to.to_string(),
            refused: refused.unwrap_or_default(),
            calls,
            serves,
            lingers,
            costs: costs(status.mode, to),
        }
    }
}

fn costs(from: HaMode, to: HaMode) -> Vec<String> {
    let all = [
        (
            to == HaMode::None && from != to,
            "no copy of calls is kept: if the node dies, its calls are lost, and its addresses are gone until it is back",
        ),
        (
            from == HaMode::None && from != to,
            "until the peer has a copy of every call (tandem status says armed), a death costs calls as before",
        ),
        (
            from == HaMode::ActiveActive && to == HaMode::ActiveStandby,
            "one node carries what two carried: see that it can",
        ),
    ];
    all.into_iter().filter(|(holds, _)| *holds).map(|(_, said)| said.to_owned()).collect()
}
