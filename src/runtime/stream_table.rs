//! Every SIP stream of a node, and which of them make room for others.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::base::{ConnId, limits};
use crate::runtime::connection::Connection;
use crate::runtime::handshakes::Handshakes;
use crate::runtime::reuse::{Aliases, Way};
use crate::runtime::sources::Sources;
use crate::runtime::stats::Closed;
use crate::runtime::sys;

/// Connections that are looked at to find one that makes room: keeps accepting cheap in a flood.
const CANDIDATES: usize = 64;

/// The streams of a node.
pub struct Table {
    /// So many there may be.
    most: usize,
    /// In the order in which they began.
    pub all: BTreeMap<ConnId, Arc<Connection>>,
    /// Those that this node opened, by where they lead.
    pub opened: HashMap<Way, ConnId>,
    /// The same the other way round.
    pub ways: HashMap<ConnId, Way>,
    /// Those that their peers opened and offered for requests.
    pub aliases: Aliases,
    /// Those that their peers opened and that are not secure yet.
    handshakes: Handshakes,
    /// Those that others opened, by their host.
    pub sources: HashMap<IpAddr, BTreeSet<ConnId>>,
    /// Hosts without a limit per source: resources.
    pub exempt: HashSet<IpAddr>,
    /// Who may open one; `None`: everybody.
    pub welcome: Option<Arc<Sources>>,
    /// Where the search for one that makes room goes on.
    cursor: u64,
    /// Whether no more begin.
    pub stopped: bool,
}

impl Table {
    /// None yet. Streams alone never take all `descriptors` that the process may have: an operator would not get in.
    pub fn new(descriptors: usize) -> Self {
        let kept = limits::DESCRIPTORS_KEPT.min(descriptors / 2);
        Table {
            most: limits::CONNECTIONS.min(descriptors - kept),
            all: BTreeMap::new(),
            opened: HashMap::new(),
            ways: HashMap::new(),
            aliases: Aliases::default(),
            handshakes: Handshakes::default(),
            sources: HashMap::new(),
            exempt: HashSet::new(),
            welcome: None,
            cursor: 0,
            stopped: false,
        }
    }

    /// How many there may be.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether this host may open one.
    pub fn welcomes(&self, host: IpAddr) -> bool {
        self.welcome.as_ref().is_none_or(|sources| sources.permit(host))
    }

    /// Whether there is room for one more connection, if need be after one has been told to end.
    pub fn make_room(&mut self) -> bool {
        if self.all.len() < self.most {
            return true;
        }
        let cursor = ConnId(self.cursor);
        let sample = || self.all.range(cursor..).chain(self.all.range(..cursor)).map(|(_, c)| c).take(CANDIDATES);
        let next = sample().last().map_or(0, |c| c.id.0 + 1);
        let chosen = least_wanted(sample()).map(Arc::clone);
        self.cursor = next;
        self.evict(chosen)
    }

    /// Likewise for one more from this host.
    pub fn make_room_from(&mut self, host: IpAddr) -> bool {
        let Some(ids) = self.sources.get(&host) else { return true };
        if ids.len() < limits::CONNECTIONS_PER_SOURCE || self.exempt.contains(&host) {
            return true;
        }
        let chosen = least_wanted(ids.iter().filter_map(|id| self.all.get(id)).take(CANDIDATES)).map(Arc::clone);
        self.evict(chosen)
    }

    /// Counts in one more handshake, if need be after another one has been told to end.
    pub fn begin_handshake(&mut self, connection: &Arc<Connection>) -> bool {
        let begun = self.handshakes.begin(connection, sys::now());
        begun.is_ok_and(|late| late.is_none() || self.evict(late))
    }

    fn evict(&mut self, chosen: Option<Arc<Connection>>) -> bool {
        let Some(connection) = chosen else { return false };
        connection.end(Closed::Evicted);
        self.remove(&connection);
        true
    }

    /// Forgets one.
    pub fn remove(&mut self, connection: &Connection) {
        self.all.remove(&connection.id);
        if connection.accepted {
            let host = connection.flow.remote.ip();
            if let Some(ids) = self.sources.get_mut(&host) {
                ids.remove(&connection.id);
                if ids.is_empty() {
                    self.sources.remove(&host);
                }
            }
            self.aliases.remove(connection.id);
        } else if let Some(way) = self.ways.remove(&connection.id)
            && self.opened.get(&way) == Some(&connection.id)
        {
            self.opened.remove(&way);
        }
    }
}

fn least_wanted<'a>(candidates: impl Iterator<Item = &'a Arc<Connection>>) -> Option<&'a Arc<Connection>> {
    candidates.filter_map(|c| Some((c.dispensable()?, c))).min_by_key(|(rank, _)| *rank).map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_leave_descriptors_for_everything_else() {
        let most = [64, 255, 256, 1_024, 65_536, usize::MAX].map(|descriptors| Table::new(descriptors).most());
        assert_eq!(most, [32, 128, 128, 896, limits::CONNECTIONS, limits::CONNECTIONS]);
    }
}
