//! What the admin listener says and the command line reads: plain rows, in JSON between the two.

mod loss;
pub mod pair;
mod mode;

use serde::{Deserialize, Serialize};

use crate::balance::ResourceView;
use crate::base::{ResourceId, Time};
use crate::node::LegView;

pub use loss::Loss;
pub use mode::ModePlan;
pub use pair::{PairFacts, PairRow, PathRow, PeerRow, WitnessRow};

/// `tandem status`: one screen about one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the running program.
    pub version: String,
    /// `cluster.name`.
    pub cluster: String,
    /// `cluster.mymemberid`.
    pub node: u16,
    /// Counter of the epoch, and the node that began it: `7.1`.
    pub epoch: String,
    /// `cluster.ha-mode`.
    pub ha_mode: String,
    /// Whether new calls are taken.
    pub phase: Phase,
    /// Seconds since the process began to serve.
    pub uptime_seconds: u64,
    /// Answered calls.
    pub calls: u64,
    /// INVITEs without a final answer yet.
    pub ringing: u64,
    /// What nobody could carry on if this node failed now.
    pub loss_if_failed_now: Loss,
    /// The pair, if this node is one of a pair.
    #[serde(default)]
    pub pair: Option<PairRow>,
    /// In the order of the configuration.
    pub groups: Vec<GroupRow>,
    /// Resources that are not `up`.
    pub trouble: Vec<ResourceRow>,
    /// The last reload of the configuration, if there was one.
    pub reload: Option<Reload>,
}

/// Whether a node takes new calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Yes.
    #[default]
    Serving,
    /// No: INVITEs get 503 with Retry-After until an operator resumes. Calls go on.
    Draining,
    /// No: the process ends once its calls have, or when `drain-timeout` has passed.
    Stopping,
    /// No: the peer is active, or nobody yet.
    Standby,
}

impl Phase {
    /// All phases, in the order of their numbers.
    pub const ALL: [Phase; 4] = [Phase::Serving, Phase::Draining, Phase::Stopping, Phase::Standby];

    /// As shown to people and written into metrics.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Serving => "serving",
            Phase::Draining => "draining",
            Phase::Stopping => "stopping",
            Phase::Standby => "standby",
        }
    }
}

/// The ports of one resource group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow {
    /// `name`.
    pub name: String,
    /// Members that take new calls.
    pub usable: u32,
    /// All members.
    pub members: u32,
    /// Ports in use.
    pub in_use: u64,
    /// Sum of `port-capacity`; `null` when a member is unlimited.
    pub capacity: Option<u64>,
}

/// One line of `tandem resources`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceRow {
    /// Group name.
    pub group: String,
    /// AOR as configured; of one that drains with its address, if the AOR does not spell that.
    pub aor: String,
    /// Its id in hexadecimal, as in Route tokens.
    pub id: String,
    /// `up`, `suspect`, `overloaded`, `draining`, `down`.
    pub health: String,
    /// Why it is not `up`; empty when it is.
    pub reason: String,
    /// Ports in use.
    pub in_use: u32,
    /// How many of them calls of this node's own hold.
    #[serde(default)]
    pub own: u32,
    /// How many its own calls may hold; `null`: as many as are free.
    #[serde(default)]
    pub allowance: Option<u32>,
    /// Ports that are left alone: calls that only a dead node knew of may be on them.
    #[serde(default)]
    pub withheld: u32,
    /// Ports in use above `port-capacity`: no new call until they are given back.
    #[serde(default)]
    pub debt: u32,
    /// `port-capacity`; `null` when unlimited.
    pub capacity: Option<u32>,
    /// INVITEs placed since start.
    pub placed: u64,
    /// Of those, how many ended without a call.
    pub failed: u64,
    /// Seconds since the last probe was sent or answered; `null` when it is not probed.
    pub last_probe_seconds: Option<f64>,
}

/// One line of `tandem calls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRow {
    /// Leg id in hexadecimal.
    pub id: String,
    /// `trying`, `ringing`, `answered`.
    pub state: String,
    /// Seconds since its INVITE came in.
    pub age_seconds: u64,
    /// AOR of its resource; its id when the resource has left the configuration.
    pub resource: String,
    /// Call-ID.
    pub call_id: String,
}

/// What the node says to an order: drain, resume, reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What was done; empty when it was refused.
    pub done: Vec<String>,
    /// Why it was refused.
    pub errors: Vec<String>,
}

/// `tandem peer diff`: where the nodes differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// What of the configuration differs; `null`: the peer has not told its own since this node started.
    pub configuration: Option<Vec<String>>,
    /// Whether the digest in the peer's beats is another one.
    pub config_differs: bool,
    /// Whether the link stands, so that calls are compared.
    pub linked: bool,
    /// Buckets whose digests differ, as of the last comparison.
    pub buckets: u64,
    /// Calls that may differ.
    pub calls: u64,
    /// Buckets that had differed when compared under way, since the start; each was mended.
    pub mended: u64,
    /// Answered calls here whose records this node writes.
    pub own: u64,
    /// Answered calls here whose records the peer writes.
    pub peers: u64,
}

impl Diff {
    /// Whether nothing is known to differ.
    pub fn is_empty(&self) -> bool {
        let alike = self.configuration.as_ref().is_none_or(Vec::is_empty) && !self.config_differs;
        alike && self.linked && self.calls == 0 && self.buckets == 0
    }
}

/// The result of reading the configuration again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// Whether it is in force now. If not, the old one is, whole.
    pub applied: bool,
    /// Seconds since then.
    pub age_seconds: u64,
    /// What changed.
    pub changes: Vec<String>,
    /// Why it was refused: every error, with its line.
    pub errors: Vec<String>,
}

impl ResourceRow {
    /// The row of a resource as seen at `now`.
    pub fn new(now: Time, view: &ResourceView) -> Self {
        Self {
            group: view.group.clone(),
            aor: view.aor.clone(),
            id: hex(view.id),
            health: view.health.to_owned(),
            reason: view.reason.to_owned(),
            in_use: view.in_use,
            own: view.own,
            allowance: view.allowance,
            withheld: view.withheld,
            debt: view.debt,
            capacity: view.capacity,
            placed: view.placed,
            failed: view.failed,
            last_probe_seconds: view.last_probe.map(|t| now.since(t).as_secs_f64()),
        }
    }
}

impl CallRow {
    /// The row of a leg as seen at `now`; `resources` lend their names.
    pub fn new(now: Time, leg: &LegView, resources: &[ResourceView]) -> Self {
        let known = resources.iter().find(|r| r.id == leg.resource);
        Self {
            id: leg.id.clone(),
            state: leg.state.to_owned(),
            age_seconds: now.since(leg.since).as_secs(),
            resource: known.map_or_else(|| hex(leg.resource), |r| r.aor.clone()),
            call_id: leg.call_id.clone(),
        }
    }
}

/// Groups in the order in which they first appear among `resources`.
pub fn groups(resources: &[ResourceView]) -> Vec<GroupRow> {
    let mut rows: Vec<GroupRow> = Vec::new();
    for resource in resources {
        let known = rows.iter().position(|r| r.name == resource.group);
        let row = match known {
            Some(n) => &mut rows[n],
            None => {
                rows.push(GroupRow { name: resource.group.clone(), capacity: Some(0), ..GroupRow::default() });
                rows.last_mut().expect("just pushed")
            }
        };
        row.members += 1;
        row.usable += u32::from(usable(resource.health));
        row.in_use += u64::from(resource.in_use);
        row.capacity = row.capacity.zip(resource.capacity).map(|(sum, one)| sum + u64::from(one));
    }
    rows
}

/// Whether a resource of this health takes new calls, capacity permitting.
pub fn usable(health: &str) -> bool {
    matches!(health, "up" | "suspect")
}

fn hex(id: ResourceId) -> String {
    format!("{:016x}", id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(group: &str, aor: &str, health: &'static str, in_use: u32, capacity: Option<u32>) -> ResourceView {
        ResourceView {
            group: group.into(),
            aor: aor.into(),
            id: crate::balance::resource_id(aor),
            health,
            reason: "",
            in_use,
            own: 1,
            allowance: Some(9),
            withheld: 0,
            debt: 0,
            capacity,
            placed: 9,
            failed: 1,
            last_probe: Some(Time::from_micros(1_500_000)),
        }
    }

    #[test]
    fn groups_add_up_and_one_unlimited_member_makes_the_group_unlimited() {
        let rows = groups(&[
            view("a", "sip:1", "up", 3, Some(10)),
            view("b", "sip:2", "down", 0, None),
            view("a", "sip:3", "overloaded", 4, Some(5)),
            view("b", "sip:4", "suspect", 1, Some(7)),
        ]);
        let row =
            |name: &str, usable, in_use, capacity| GroupRow { name: name.into(), usable, members: 2, in_use, capacity };
        assert_eq!(rows, [row("a", 1, 7, Some(15)), row("b", 1, 1, None)]);
    }

    #[test]
    fn a_call_on_a_removed_resource_shows_its_id() {
        let here = view("a", "sip:1", "up", 1, None);
        let mut leg = LegView {
            id: "00".into(),
            call_id: "x@y".into(),
            resource: here.id,
            state: "answered",
            since: Time::from_micros(1_000_000),
            pin: None,
        };
        let now = Time::from_micros(62_000_000);
        let row = CallRow::new(now, &leg, std::slice::from_ref(&here));
        assert_eq!((row.resource.as_str(), row.age_seconds), ("sip:1", 61));
        leg.resource = ResourceId(0xabc);
        assert_eq!(CallRow::new(now, &leg, &[here]).resource, "0000000000000abc");
    }

    #[test]
    fn rows_survive_json() {
        let status = Status {
            phase: Phase::Draining,
            groups: groups(&[view("a", "sip:1", "up", 3, Some(10))]),
            trouble: vec![ResourceRow::new(Time::from_micros(2_000_000), &view("a", "sip:1", "down", 0, None))],
            reload: Some(Reload { errors: vec!["line 3: no".into()], ..Reload::default() }),
            ..Status::default()
        };
        let text = serde_json::to_string(&status).unwrap();
        assert!(text.contains(r#""phase":"draining""#) && text.contains(r#""last_probe_seconds":0.5"#), "{text}");
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }
}
