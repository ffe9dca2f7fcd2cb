//! `tandem witness`: keeps the leases of pairs, in memory, on one UDP port.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};

use super::frame::{self, Frame, LONGEST, Question};
use crate::base::NodeId;
use crate::cluster::{Keeper, LEASE};
use crate::runtime::sys;
use crate::token::Keys;

/// A witness at work.
pub struct Server {
    socket: UdpSocket,
    /// One for each secret.
    keys: Vec<Keys>,
    keeper: Keeper,
    /// Who was last said to hold each lease.
    told: HashMap<String, Option<NodeId>>,
}

/// The lease of a pair went to another node, or to nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `cluster.name`.
    pub cluster: String,
    /// Who holds it now.
    pub holder: Option<NodeId>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.holder {
            Some(id) => write!(f, "{}: member {} holds the lease", self.cluster, id.0),
            None => write!(f, "{}: nobody holds the lease", self.cluster),
        }
    }
}

impl Server {
    /// Binds the port. Whose secrets these are may ask.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub fn bind(listen: SocketAddr, secrets: &[Vec<u8>]) -> io::Result<Self> {
        let keys = secrets.iter().filter_map(|secret| Keys::new("", &[secret]).ok()).collect();
        let (socket, keeper) = (UdpSocket::bind(listen)?, Keeper::new(sys::now()));
        Ok(Self { socket, keys, keeper, told: HashMap::new() })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// The kernel does not say it.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Answers one datagram, if it is a question; what changed by it.
    ///
    /// # Errors
    ///
    /// The socket is of no use any more.
    pub fn serve_one(&mut self) -> io::Result<Option<Change>> {
        let mut memory = [0; LONGEST + 1];
        let (length, source) = match self.socket.recv_from(&mut memory) {
            Ok(received) => received,
            // A node that has ended: its host says so.
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let read = |keys: &&Keys| matches!(frame::read(keys, &memory[..length]), Some((.., Frame::Question(_))));
        let Some(keys) = self.keys.iter().find(read) else { return Ok(None) };
        let Some((.., Frame::Question(question))) = frame::read(keys, &memory[..length]) else { return Ok(None) };
        let Question { cluster, node, serial, ask } = &question;
        let Ok(reply) = self.keeper.ask(sys::now(), cluster, *node, *serial, *ask) else { return Ok(None) };
        // What the kernel does not take is lost like any datagram.
        let _ = self.socket.send_to(&frame::answer(keys, &question, &reply, LEASE), source);
        if self.told.len() > self.keeper.pairs() {
            self.told.clear();
        }
        let before = self.told.insert(question.cluster.clone(), reply.holder).flatten();
        let changed = before != reply.holder;
        Ok(changed.then_some(Change { cluster: question.cluster, holder: reply.holder }))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::super::contract::{Me, Silence, Witness};
    use super::super::own::Own;
    use super::*;
    use crate::cluster::{Ask, Note};
    use crate::config::Host;

    const SECRETS: [&[u8]; 2] = [b"one secret of a pair", b"one of another pair!"];
    const LIMIT: Duration = Duration::from_secs(5);

    fn own(server: SocketAddr, node: u16, secret: &[u8]) -> Own {
        let host = Host { name: server.ip().to_string(), port: server.port() };
        let me = Me { cluster: "c".into(), node: NodeId(node), others: Vec::new() };
        Own::new(host, me, Keys::new("c", &[secret]).unwrap(), 1)
    }

    #[test]
    fn it_gives_its_lease_to_one_node_of_those_that_know_a_secret() {
        let secrets = SECRETS.map(<[u8]>::to_vec);
        let mut server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &secrets).unwrap();
        let at = server.addr().unwrap();
        server.keeper = Keeper::new(crate::base::Time::ZERO);
        let serve = move || (0..3).filter_map(|_| server.serve_one().unwrap()).collect::<Vec<_>>();
        let serving = thread::spawn(serve);
        let hold = Ask { hold: true, note: Note::Alone };
        let (mut first, mut second) = (own(at, 1, SECRETS[0]), own(at, 2, SECRETS[1]));
        let stranger = own(at, 3, b"no secret of anybody").ask(hold, Duration::from_millis(50));
        assert!(matches!(stranger, Err(Silence::Late)), "{stranger:?}");
        let before = sys::now();
        let word = first.ask(hold, LIMIT).unwrap();
        let lease = word.lease.unwrap();
        assert!(lease.alone && lease.until > before && lease.until < sys::now() + LEASE);
        assert_eq!((word.holder, word.other_alone), (Some(NodeId(1)), false));
        let word = second.ask(hold, LIMIT).unwrap();
        assert_eq!((word.lease, word.holder, word.other_alone), (None, Some(NodeId(1)), true));
        let changes: Vec<String> = serving.join().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(changes, ["c: member 1 holds the lease"]);
    }
}
