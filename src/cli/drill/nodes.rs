//! The operator's nodes as their admin listeners tell: which one is to fail, and whether it is ready for a drill.

use std::net::{IpAddr, SocketAddr};

use serde::de::DeserializeOwned;

use super::mode::Mode;
use super::trouble::Trouble;
use crate::base::Host;
use crate::cli::http;
use crate::cli::table::printable;
use crate::report::{Answer, Phase, ResourceRow, Status, usable};
use crate::sip::Uri;

/// Port of SIP where nothing else is said.
const SIP: u16 = 5060;

/// The nodes that were named, and what they said.
#[derive(Clone, Debug)]
pub struct Nodes {
    /// Admin address and status of those that answer.
    all: Vec<(String, Status)>,
    /// Index of the one to which it happens.
    target: usize,
}

impl Nodes {
    /// Asks every admin address, and chooses the node to which `mode` happens: `named`, else for a slow peer the one that
    /// is not active, else the one that is.
    ///
    /// # Errors
    ///
    /// None of them answers, or none of those that do is the one that is wanted.
    pub fn ask(admins: &[String], named: Option<&str>, mode: Mode) -> Result<Self, Trouble> {
        let mut all: Vec<(String, Status)> = Vec::new();
        let mut silent = Vec::new();
        for admin in admins.iter().map(String::as_str).chain(named) {
            match status(admin) {
                Ok(status) if all.iter().all(|(known, _)| known != admin) => all.push((admin.to_owned(), status)),
                Ok(_) => {}
                Err(why) => silent.push(format!("no node at {admin}: {why}")),
            }
        }
        if all.is_empty() {
            let cure = "is it running, and is this its [admin] listen? Another one: --admin HOST:PORT";
            return Err(Trouble::Unreachable(format!("{}; {cure}", silent.join("; "))));
        }
        let found = match (named, mode) {
            (Some(named), _) => all.iter().position(|(admin, _)| admin == named),
            (None, Mode::SlowPeer) => {
                all.iter().position(|(_, status)| status.phase == Phase::Standby).or_else(|| serving(&all))
            }
            (None, _) => serving(&all),
        };
        let none = || match named {
            Some(named) => Trouble::Unreachable(format!("no node answers at {named}: --node names the one to fail")),
            None => Trouble::Use("no node that was asked serves calls; name both: --admin A --admin B".to_owned()),
        };
        Ok(Self { target: found.ok_or_else(none)?, all })
    }

    /// Admin address of the node to which it happens.
    pub fn admin(&self) -> &str {
        &self.all[self.target].0
    }

    /// What that node said.
    pub fn status(&self) -> &Status {
        &self.all[self.target].1
    }

    /// Where callers find the pair: its first shared address.
    ///
    /// # Errors
    ///
    /// There is none, because the node runs alone.
    pub fn sip(&self) -> Result<SocketAddr, Trouble> {
        let shared = self.status().pair.as_ref().and_then(|pair| pair.virtual_ips.first());
        let ip = shared.and_then(|text| text.split('/').next()?.parse::<IpAddr>().ok());
        let none = || Trouble::Use("the node names no virtual IP: say where callers find it, --target IP:PORT".into());
        Ok(SocketAddr::new(ip.ok_or_else(none)?, SIP))
    }

    /// The capacity of `server`, which is to be a resource of the node, alone in its group, with room for so many calls.
    /// Whether it is `up` is another question.
    ///
    /// # Errors
    ///
    /// What is missing, with the cure.
    pub fn limit(&self, server: SocketAddr, calls: u64) -> Result<Option<u32>, Trouble> {
        room(&resources(self.admin())?, server, calls).map_err(Trouble::Use)
    }

    /// Whether the node that serves calls would send one to `server` now.
    pub fn is_up(&self, server: SocketAddr) -> bool {
        let asked = serving(&self.all).unwrap_or(self.target);
        let rows = resources(&self.all[asked].0).unwrap_or_default();
        rows.iter().any(|row| is_at(row, server) && usable(&row.health))
    }

    /// Calls that may differ between the nodes, as whichever says most; `None`: nobody has a link to compare over.
    pub fn divergence(&self) -> Option<u64> {
        let linked = |admin: &String| status(admin).ok()?.pair.filter(|pair| pair.linked).map(|pair| pair.calls_apart);
        self.all.iter().filter_map(|(admin, _)| linked(admin)).max()
    }
}

/// Sends an order.
///
/// # Errors
///
/// Why it was refused, or that nobody answered.
pub fn order(admin: &str, path: &str) -> Result<(), Trouble> {
    let reply = http::ask(admin, "POST", path).map_err(|why| Trouble::Unreachable(format!("{admin}: {why}")))?;
    match (reply.status, serde_json::from_str::<Answer>(&reply.body)) {
        (404 | 405, _) => Err(Trouble::Use(format!("not supported by this node: {admin} knows no order {path}"))),
        (_, Ok(answer)) if answer.errors.is_empty() => Ok(()),
        (_, Ok(answer)) => Err(Trouble::Use(format!("{admin} refuses: {}", answer.errors.join("; ")))),
        (status, Err(_)) => {
            let said = printable(reply.body.lines().next().unwrap_or_default(), 200);
            Err(Trouble::Use(format!("{admin} answered {status}: {said}")))
        }
    }
}

/// What a node says of itself.
pub fn status(admin: &str) -> Result<Status, String> {
    get(admin, "/api/status")
}

fn resources(admin: &str) -> Result<Vec<ResourceRow>, Trouble> {
    get(admin, "/api/resources").map_err(|why| Trouble::Unreachable(format!("{admin}: {why}")))
}

fn get<T: DeserializeOwned>(admin: &str, path: &str) -> Result<T, String> {
    let reply = http::ask(admin, "GET", path)?;
    serde_json::from_str(&reply.body).map_err(|_| format!("it answered {} to {path}", reply.status))
}

fn serving(all: &[(String, Status)]) -> Option<usize> {
    all.iter().position(|(_, status)| status.phase == Phase::Serving)
}

fn is_at(row: &ResourceRow, server: SocketAddr) -> bool {
    let uri = Uri::parse(row.aor.as_bytes());
    uri.is_some_and(|uri| uri.host == Host::Ip(server.ip()) && uri.port_or_default() == server.port())
}

/// See [`Nodes::limit`].
fn room(rows: &[ResourceRow], server: SocketAddr, calls: u64) -> Result<Option<u32>, String> {
    let Some(row) = rows.iter().find(|row| is_at(row, server)) else {
        return Err(format!(
            "{server} is no resource of the node: give both nodes a [[resource-group]] for the drill with the resource \
             \"sip:{server}\", and reload them"
        ));
    };
    if let Some(other) = rows.iter().find(|other| other.group == row.group && other.aor != row.aor) {
        return Err(format!(
            "{} serves the group \"{}\" too, and canaries would ring there: give the drill a group of its own",
            other.aor, row.group
        ));
    }
    let free = row.capacity.map(|ports| u64::from(ports.saturating_sub(row.in_use)));
    match free {
        Some(free) if free < calls => Err(format!(
            "{calls} canaries need as many ports, and {free} are free at {server}: raise its port-capacity, or lower --calls"
        )),
        _ => Ok(row.capacity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: &str, aor: &str, capacity: Option<u32>) -> ResourceRow {
        ResourceRow { group: group.into(), aor: aor.into(), capacity, in_use: 2, ..ResourceRow::default() }
    }

    #[test]
    fn a_media_server_needs_a_group_of_its_own_and_room() {
        let server = "192.0.2.40:5060".parse().unwrap();
        let real = row("MCP", "sip:192.0.2.21:5060", Some(10));
        let own = row("DRILL", "sip:192.0.2.40", Some(32));
        assert_eq!(room(&[real.clone(), own.clone()], server, 30), Ok(Some(32)));
        assert_eq!(room(&[row("DRILL", "sip:192.0.2.40:5060", None)], server, 30), Ok(None));
        let cases: [(&[ResourceRow], &str); 4] = [
            (std::slice::from_ref(&real), "192.0.2.40:5060 is no resource"),
            (&[row("DRILL", "sip:192.0.2.40:5070", None)], "is no resource"),
            (&[own.clone(), row("DRILL", "sip:192.0.2.41", None)], "sip:192.0.2.41 serves the group \"DRILL\" too"),
            (&[row("DRILL", "sip:192.0.2.40", Some(31))], "29 are free at 192.0.2.40:5060"),
        ];
        for (rows, said) in cases {
            let refused = room(rows, server, 30);
            assert!(refused.as_ref().is_err_and(|why| why.contains(said)), "{said}: {refused:?}");
        }
    }

    #[test]
    fn nobody_there_is_told_with_the_cure() {
        // Bound and dropped: nothing listens there.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let trouble = Nodes::ask(std::slice::from_ref(&free), None, Mode::Kill).unwrap_err();
        assert!(matches!(&trouble, Trouble::Unreachable(said) if said.contains(&free) && said.contains("--admin")));
        assert!(matches!(order(&free, "/api/drain"), Err(Trouble::Unreachable(_))));
    }
}
