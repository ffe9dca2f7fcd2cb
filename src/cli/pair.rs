//! What the command line shows of a pair.

use std::fmt::Write;

use super::table::{duration, printable};
use crate::report::{Diff, PairRow, PathRow, PeerRow, Status, WitnessRow};

/// Differences that one screen shows; more are counted.
const SHOWN: usize = 8;
/// Characters of a sentence.
const SENTENCE: usize = 300;

/// The lines of `tandem status` about the pair.
pub fn screen(pair: &PairRow) -> String {
    let mut text = String::from("\n");
    let state = match (pair.armed, pair.hands_over_to) {
        (_, Some(to)) => format!("hands over to member {to}"),
        (true, None) => "armed".to_owned(),
        (false, None) => format!("NOT ARMED: {}", pair.why_not),
    };
    let _infallible = writeln!(text, "pair  {state}");
    let since = duration(pair.since_seconds);
    let addresses = pair.virtual_ips.join(" ");
    let last = pair.last_takeover_seconds.map(|s| format!(", the last in {:.0} ms", s * 1_000.0));
    let _infallible = writeln!(
        text,
        "here  {} for {since} ({}), {addresses}, takeovers {}{}",
        pair.role,
        pair.step,
        pair.takeovers,
        last.unwrap_or_default()
    );
    for peer in &pair.peers {
        let _infallible = writeln!(text, "peer  {}", peer_line(pair, peer));
        let paths: Vec<String> = peer.paths.iter().map(path).collect();
        let _infallible = writeln!(text, "paths {}", paths.join(", "));
    }
    let _infallible = writeln!(
        text,
        "lag   {} records, the oldest {:.3} s; {} calls may differ",
        pair.unacknowledged, pair.unacknowledged_seconds, pair.calls_apart
    );
    if let Some(witness) = &pair.witness {
        let _infallible = writeln!(text, "third {}", witness_line(witness));
    }
    for line in oddities(pair) {
        let _infallible = writeln!(text, "note  {line}");
    }
    text
}

fn peer_line(pair: &PairRow, peer: &PeerRow) -> String {
    let role = if peer.role.is_empty() { String::new() } else { format!(", {}", peer.role) };
    let epoch = if peer.epoch.is_empty() { String::new() } else { format!(", epoch {}", peer.epoch) };
    let link = if pair.linked { "link up" } else { "LINK DOWN" };
    format!("member {} {}{role}{epoch}, {link}", peer.node, peer.health)
}

fn witness_line(witness: &WitnessRow) -> String {
    let answers = match witness.answers {
        Some(true) => "the witness answers",
        Some(false) => "THE WITNESS IS SILENT",
        None => "the witness was not asked yet",
    };
    let holds = match (witness.held, witness.holder, witness.answers) {
        (true, ..) => "this node holds its lease".to_owned(),
        (false, Some(id), Some(true)) => format!("member {id} holds its lease"),
        (false, None, Some(true)) => "nobody holds its lease".to_owned(),
        (false, ..) => "this node does not hold its lease".to_owned(),
    };
    format!("{answers}, {holds}")
}

fn path(path: &PathRow) -> String {
    format!("{} {}", path.address, path.state)
}

/// What is not as it should be, besides what `why_not` says.
fn oddities(pair: &PairRow) -> Vec<String> {
    let all = [
        (!pair.fit, "this node is unfit: see its log and restart it"),
        (!pair.usable, "the interface cannot carry the virtual address: check its cable"),
        (pair.reaches == Some(false), "this node reaches none of its reference points"),
        (pair.late, "the timers of this node fire late: it judges no peer meanwhile"),
        (pair.budget == "floor", "new calls stay within cluster.floor"),
        (pair.budget == "nothing" && pair.role == "active", "no new calls are taken"),
        (pair.peers.iter().any(|p| p.config_differs), "the peer is configured differently: tandem peer diff"),
    ];
    all.into_iter().filter(|(holds, _)| *holds).map(|(_, said)| said.to_owned()).collect()
}

/// One thing that must be so before a pair is armed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What is wrong, with the cure; `None`: nothing.
    pub fault: Option<String>,
    /// What was found.
    pub found: String,
}

/// What `tandem peer check` looks at, in the order in which each needs those before it.
pub fn checks(status: &Status) -> Vec<Check> {
    let Some(pair) = &status.pair else {
        let fault = "this node runs alone: set cluster.ha-mode = \"active-standby\" and cluster.member.N".to_owned();
        return vec![Check { name: "config", fault: Some(fault), found: status.ha_mode.clone() }];
    };
    let Some(peer) = pair.peers.first() else { return Vec::new() };
    let check = |name, fault: Option<String>, found: String| Check { name, fault, found };
    let heard = peer.health == "heard";
    // Who is not heard may be refused for its secret: then that is the fault, not the network.
    let secret = pair.link_trouble.iter().find(|said| said.contains("secret")).filter(|_| !pair.linked).cloned();
    let silent = (!heard && secret.is_none()).then(|| {
        format!("member {} is {}: start it, or see what cuts UDP off on the paths below", peer.node, peer.health)
    });
    let differ = peer.config_differs.then(|| "the files differ: tandem peer diff".to_owned());
    let mut all = vec![check("config", differ, format!("a pair with member {}", peer.node))];
    all.push(check("secret", secret, "frames and beats are sealed with a secret of both".to_owned()));
    all.push(check("beats", silent, format!("member {} is {}", peer.node, peer.health)));
    for path in &peer.paths {
        let fault = (heard && path.state != "heard").then(|| path_fault(path));
        let age = path.heard_seconds.map(|s| format!(", last {s:.2} s ago")).unwrap_or_default();
        all.push(check("path", fault, format!("{} {}{age}", path.address, path.state)));
    }
    let down = (!pair.linked).then(|| {
        let said = pair.link_trouble.first().cloned();
        said.unwrap_or_else(|| "nothing was heard of the peer's port: check routes and filters for TCP".to_owned())
    });
    all.push(check("link", down, if pair.linked { "up" } else { "down" }.to_owned()));
    let behind = (pair.linked && pair.step == "syncing").then(|| pair.why_not.clone());
    all.push(check(
        "sync",
        behind,
        format!("{} records behind, {} calls may differ", pair.unacknowledged, pair.calls_apart),
    ));
    let armed = (!pair.armed).then(|| pair.why_not.clone());
    all.push(check("armed", armed, if pair.armed { "yes" } else { "no" }.to_owned()));
    all
}

fn path_fault(path: &PathRow) -> String {
    match path.state.as_str() {
        "one way" => "the peer does not hear this node on it: check filters and routes towards the peer".to_owned(),
        _ => "nothing comes on it: check that network; the pair works over the other path".to_owned(),
    }
}

/// The checks as lines.
pub fn check_screen(checks: &[Check]) -> String {
    let mut text = String::new();
    for Check { name, fault, found } in checks {
        let _infallible = match fault {
            None => writeln!(text, "{name:<7} ok      {found}"),
            Some(fault) => writeln!(text, "{name:<7} FAILS   {found}; {}", printable(fault, SENTENCE)),
        };
    }
    text
}

/// `tandem peer diff`.
pub fn diff_screen(diff: &Diff) -> String {
    let mut text = String::new();
    match &diff.configuration {
        Some(lines) if !lines.is_empty() => {
            let _infallible = writeln!(text, "configuration: {} differences", lines.len());
            for line in lines.iter().take(SHOWN) {
                let _infallible = writeln!(text, "  {}", printable(line, SENTENCE));
            }
            if lines.len() > SHOWN {
                let _infallible = writeln!(text, "  ... and {} more: --json", lines.len() - SHOWN);
            }
        }
        _ if diff.config_differs => text
            .push_str("configuration: the digests differ, and the peer has not told its keys; compare the two files\n"),
        Some(_) => text.push_str("configuration: alike\n"),
        None => text.push_str("configuration: the peer has not told its own\n"),
    }
    let calls = match (diff.linked, diff.calls) {
        (false, n) => format!("the link is down, so nothing is compared; up to {n} may differ"),
        (true, 0) => "alike".to_owned(),
        (true, n) => format!("{n} may differ, in {} buckets; they are being mended", diff.buckets),
    };
    let _infallible = writeln!(
        text,
        "calls: {calls}\nanswered calls here: {} of this node, {} of the peer\nbuckets mended since the start: {}",
        diff.own, diff.peers, diff.mended
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> PairRow {
        let path =
            |address: &str| PathRow { address: address.into(), state: "heard".into(), heard_seconds: Some(0.01) };
        PairRow {
            role: "active".into(),
            since_seconds: 61,
            step: "serving".into(),
            armed: true,
            linked: true,
            budget: "whole".into(),
            fit: true,
            usable: true,
            virtual_ips: vec!["192.0.2.10".into()],
            takeovers: 2,
            last_takeover_seconds: Some(0.0034),
            peers: vec![PeerRow {
                node: 2,
                health: "heard".into(),
                role: "standby".into(),
                epoch: "8.2".into(),
                linked: true,
                armed: true,
                paths: vec![path("192.0.2.12:9801"), path("10.0.0.2:9801")],
                ..PeerRow::default()
            }],
            ..PairRow::default()
        }
    }

    fn failing(pair: PairRow) -> Vec<&'static str> {
        let status = Status { pair: Some(pair), ..Status::default() };
        checks(&status).into_iter().filter(|check| check.fault.is_some()).map(|check| check.name).collect()
    }

    #[test]
    fn a_screen_about_both_nodes() {
        let expected = "
pair  armed
here  active for 00:01:01 (serving), 192.0.2.10, takeovers 2, the last in 3 ms
peer  member 2 heard, standby, epoch 8.2, link up
paths 192.0.2.12:9801 heard, 10.0.0.2:9801 heard
lag   0 records, the oldest 0.000 s; 0 calls may differ
";
        assert_eq!(screen(&pair()), expected);
        let witness = |answers, held, holder| {
            let witness = Some(WitnessRow { answers, held, holder });
            screen(&PairRow { witness, ..pair() }).lines().find(|line| line.starts_with("third")).unwrap().to_owned()
        };
        assert_eq!(witness(Some(true), true, Some(1)), "third the witness answers, this node holds its lease");
        assert_eq!(witness(Some(true), false, Some(2)), "third the witness answers, member 2 holds its lease");
        assert_eq!(witness(Some(true), false, None), "third the witness answers, nobody holds its lease");
        let silent = "third THE WITNESS IS SILENT, this node does not hold its lease";
        assert_eq!(witness(Some(false), false, Some(2)), silent, "who held it is no news");
        let unarmed = PairRow { armed: false, why_not: "the cable".into(), fit: false, ..pair() };
        let said = screen(&unarmed);
        assert!(said.contains("NOT ARMED: the cable") && said.contains("note  this node is unfit"), "{said}");
    }

    #[test]
    fn the_failing_step_is_named() {
        assert!(failing(pair()).is_empty());
        let why_not = || "because".to_owned();
        let cut = PairRow { armed: false, linked: false, why_not: why_not(), step: "joining".into(), ..pair() };
        assert_eq!(failing(cut.clone()), ["link", "armed"]);
        let trouble = vec!["it does not know the secret".to_owned()];
        let mut refused = PairRow { link_trouble: trouble, ..cut.clone() };
        refused.peers[0].health = "never heard".into();
        assert_eq!(failing(refused), ["secret", "link", "armed"]);
        let mut dead = cut;
        dead.peers[0].health = "silent".into();
        assert_eq!(failing(dead), ["beats", "link", "armed"]);
        let behind = PairRow { armed: false, why_not: why_not(), step: "syncing".into(), ..pair() };
        assert_eq!(failing(behind), ["sync", "armed"]);
        let mut odd = pair();
        odd.peers[0].config_differs = true;
        odd.peers[0].paths[1].state = "one way".into();
        assert_eq!(failing(odd), ["config", "path"]);
        let alone = checks(&Status { ha_mode: "none".into(), ..Status::default() });
        assert!(alone.len() == 1 && check_screen(&alone).contains("FAILS   none; this node runs alone"), "{alone:?}");
    }

    #[test]
    fn differences_are_listed_and_calls_counted() {
        let said = "`cluster.commit` is async here and peer-ack there".to_owned();
        let diff =
            Diff { configuration: Some(vec![said.clone(); 9]), linked: true, calls: 7, buckets: 3, ..Diff::default() };
        let text = diff_screen(&diff);
        assert!(
            text.contains(&said) && text.contains("... and 1 more") && text.contains("7 may differ, in 3"),
            "{text}"
        );
        assert!(!diff.is_empty());
        let alike = Diff { configuration: Some(vec![]), linked: true, own: 4, ..Diff::default() };
        assert!(alike.is_empty() && diff_screen(&alike).contains("4 of this node, 0 of the peer"));
        assert!(!Diff { config_differs: true, ..alike }.is_empty());
    }
}
