//! RFC 3261 §17 with RFC 6026: four machines in four files, the tables that match messages to them, one timer queue.
//! What a transaction is for is known above; here it has an `owner`, a number.
#![forbid(unsafe_code)]

pub mod timer;
pub mod kept;
pub mod branch;
pub mod invite_client;
pub mod non_invite_client;
pub mod invite_server;
pub mod non_invite_server;

use hashbrown::HashTable;
use slab::Slab;

use crate::base::{Flow, Time, index_room, table_hash};
use crate::sip::{Message, Method};
use crate::token::fingerprint;

use branch::{Branch, COOKIE};
use invite_client::InviteClient;
use invite_server::InviteServer;
use kept::Kept;
use non_invite_client::NonInviteClient;
use non_invite_server::NonInviteServer;
use timer::{Fired, Queue, Timing};

/// A request that came in.
#[derive(Debug)]
pub struct Server {
    /// Its machine.
    pub machine: ServerMachine,
    /// Where its responses go (RFC 3261 §18.2.2).
    pub upstream: Flow,
    /// The last response, for retransmissions.
    pub last: Option<Kept>,
    /// The owner's number.
    pub owner: u32,
    /// Its request never came here: an answer that passed opened it.
    pub by_answer: bool,
    key: u128,
    serial: u32,
    queued: Time,
}

impl Server {
    /// The key under which it is found.
    pub fn key(&self) -> u128 {
        self.key
    }
}

/// The machine of a server transaction.
#[derive(Clone, Copy, Debug)]
pub enum ServerMachine {
    /// §17.2.1.
    Invite(InviteServer),
    /// §17.2.2.
    Other(NonInviteServer),
}

/// A request on its way.
#[derive(Debug)]
pub struct Client {
    /// Its machine.
    pub machine: ClientMachine,
    /// Its literal branch.
    pub branch: Branch,
    /// Whether it is a CANCEL, which shares its branch with the INVITE.
    pub cancel: bool,
    /// The owner's number.
    pub owner: u32,
    /// Which of the owner's attempts it belongs to.
    pub attempt: u8,
    serial: u32,
    queued: Time,
}

/// The machine of a client transaction.
#[derive(Clone, Copy, Debug)]
pub enum ClientMachine {
    /// §17.1.1.
    Invite(InviteClient),
    /// §17.1.2.
    Other(NonInviteClient),
}

impl ServerMachine {
    fn next(&self) -> Time {
        match self {
            ServerMachine::Invite(m) => m.clock.next(),
            ServerMachine::Other(m) => m.clock.next(),
        }
    }
}

impl ClientMachine {
    /// Whether it has had a refusal, which comes again until it is acknowledged (§17.1.1.2).
    pub fn is_completed(&self) -> bool {
        matches!(self, ClientMachine::Invite(machine) if machine.state == invite_client::State::Completed)
    }

    fn next(&self) -> Time {
        match self {
            ClientMachine::Invite(m) => m.clock.next(),
            ClientMachine::Other(m) => m.clock.next(),
        }
    }
}

/// A transaction whose clock has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A server transaction and what it wants.
    Server(u32, Fired),
    /// A client transaction and what it wants.
    Client(u32, Fired),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ref {
    Server(u32, u32),
    Client(u32, u32),
}

/// All transactions of a shard.
#[derive(Debug)]
pub struct Transactions {
    /// T1, T2, T4.
    pub timing: Timing,
    servers: Slab<Server>,
    by_key: HashTable<u32>,
    clients: Slab<Client>,
    by_branch: HashTable<u32>,
    queue: Queue<Ref>,
    secret: [u8; 32],
    seed: u64,
    serial: u32,
    limit: usize,
}

impl Transactions {
    /// Room for `limit` server and as many client transactions, set aside at once but for the indexes.
    pub fn new(timing: Timing, limit: usize, seed: u64) -> Self {
        Self {
            timing,
            servers: Slab::with_capacity(limit),
            by_key: HashTable::with_capacity(index_room(limit)),
            clients: Slab::with_capacity(limit),
            by_branch: HashTable::with_capacity(index_room(limit)),
            queue: Queue::default(),
            secret: blake3::derive_key("tandem 1 transaction", &seed.to_le_bytes()),
            seed,
            serial: 0,
            limit,
        }
    }

    /// Whether a request can be taken: one more server and one more client transaction fit.
    pub fn has_room(&self) -> bool {
        self.servers.len() < self.limit && self.clients.len() < self.limit
    }

    /// The key under which a request's server transaction is found (RFC 3261 §17.2.3). `method`: that of the request
    /// whose transaction is looked for; ACK counts as INVITE.
    pub fn key(&self, request: &Message<'_>, method: Method<'_>) -> u128 {
        let via = request.via();
        let method = if method == Method::Ack { Method::Invite } else { method };
        let method_text = method.as_bytes();
        if let Some(branch) = via.branch.filter(|b| b.starts_with(COOKIE)) {
            return fingerprint(&self.secret, &[branch, via.sent_by, method_text]);
        }
        // RFC 2543: the ACK's To tag is that of our response, so it is left out for INVITE and ACK.
        let to_tag = if method == Method::Invite { None } else { request.to_tag() };
        let cseq = request.cseq().number.to_le_bytes();
        let parts: [&[u8]; 7] = [
            request.request_uri(),
            to_tag.unwrap_or_default(),
            request.from_tag(),
            request.call_id(),
            &cseq,
            via.value,
            method_text,
        ];
        fingerprint(&self.secret, &parts)
    }

    /// The server transaction with this key.
    pub fn find_server(&self, key: u128) -> Option<u32> {
        self.by_key.find(key as u64, |id| self.servers[*id as usize].key == key).copied()
    }

    /// The key of the request that `response` answers, as its next Via names it; not for branches of RFC 2543.
    pub fn answered_key(&self, response: &Message<'_>) -> Option<u128> {
        let via = response.next_via()?;
        let branch = via.branch.filter(|b| b.starts_with(COOKIE))?;
        Some(fingerprint(&self.secret, &[branch, via.sent_by, response.cseq().method.as_bytes()]))
    }

    /// The transaction of the request that `response` answers.
    pub fn answered_by(&self, response: &Message<'_>) -> Option<u32> {
        self.find_server(self.answered_key(response)?)
    }

    /// Whether the request that `response` answers has had a final from here.
    pub fn has_answered(&self, response: &Message<'_>) -> bool {
        self.answered_by(response).is_some_and(|id| match &self.server(id).machine {
            ServerMachine::Invite(machine) => machine.state != invite_server::State::Proceeding,
            ServerMachine::Other(machine) => machine.state == non_invite_server::State::Completed,
        })
    }

    /// Opens a server transaction.
    pub fn open_server(&mut self, key: u128, machine: ServerMachine, upstream: Flow, owner: u32) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        let (serial, queued) = (self.serial, Time::NEVER);
        let server = Server { machine, upstream, last: None, owner, by_answer: false, key, serial, queued };
        let id = self.servers.insert(server) as u32;
        let servers = &self.servers;
        self.by_key.insert_unique(key as u64, id, |id| servers[*id as usize].key as u64);
        self.arm_server(id);
        id
    }

    /// A server transaction.
    pub fn server(&self, id: u32) -> &Server {
        &self.servers[id as usize]
    }

    /// A server transaction, to be changed; call [`Self::arm_server`] when its machine moved.
    pub fn server_mut(&mut self, id: u32) -> &mut Server {
        &mut self.servers[id as usize]
    }

    /// Takes a server transaction out.
    pub fn close_server(&mut self, id: u32) -> Server {
        let server = self.servers.remove(id as usize);
        if let Ok(entry) = self.by_key.find_entry(server.key as u64, |e| *e == id) {
            entry.remove();
        }
        server
    }

    /// The client transaction that a response belongs to (RFC 3261 §17.1.3): branch and CSeq method.
    pub fn find_client(&self, branch: &[u8], cancel: bool) -> Option<u32> {
        let fits = |id: &u32| {
            let client = &self.clients[*id as usize];
            client.cancel == cancel && client.branch.as_bytes() == branch
        };
        self.by_branch.find(table_hash(self.seed, branch), fits).copied()
    }

    /// Opens a client transaction.
    pub fn open_client(&mut self, client: NewClient) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        let NewClient { machine, branch, cancel, owner, attempt } = client;
        let serial = self.serial;
        let client = Client { machine, branch, cancel, owner, attempt, serial, queued: Time::NEVER };
        let hash = table_hash(self.seed, client.branch.as_bytes());
        let id = self.clients.insert(client) as u32;
        let (clients, seed) = (&self.clients, self.seed);
        self.by_branch.insert_unique(hash, id, |id| table_hash(seed, clients[*id as usize].branch.as_bytes()));
        self.arm_client(id);
        id
    }

    /// A client transaction.
    pub fn client(&self, id: u32) -> &Client {
        &self.clients[id as usize]
    }

    /// A client transaction, to be changed; call [`Self::arm_client`] when its machine moved.
    pub fn client_mut(&mut self, id: u32) -> &mut Client {
        &mut self.clients[id as usize]
    }

    /// Takes a client transaction out.
    pub fn close_client(&mut self, id: u32) -> Client {
        let client = self.clients.remove(id as usize);
        if let Ok(entry) = self.by_branch.find_entry(table_hash(self.seed, client.branch.as_bytes()), |e| *e == id) {
            entry.remove();
        }
        client
    }

    /// Takes every transaction out, in silence.
    pub fn clear(&mut self) -> impl Iterator<Item = Server> {
        self.by_key.clear();
        self.by_branch.clear();
        self.queue.clear();
        self.clients.clear();
        std::mem::take(&mut self.servers).into_iter().map(|(_, server)| server)
    }

    /// Queues the next deadline of a server transaction if it is nearer than the one queued.
    pub fn arm_server(&mut self, id: u32) {
        let server = &mut self.servers[id as usize];
        let next = server.machine.next();
        if next < server.queued {
            server.queued = next;
            self.queue.push(next, Ref::Server(id, server.serial));
        }
    }

    /// Queues the next deadline of a client transaction if it is nearer than the one queued.
    pub fn arm_client(&mut self, id: u32) {
        let client = &mut self.clients[id as usize];
        let next = client.machine.next();
        if next < client.queued {
            client.queued = next;
            self.queue.push(next, Ref::Client(id, client.serial));
        }
    }

    /// The next transaction that wants something at `now`. The caller closes those that are over.
    pub fn pop_due(&mut self, now: Time) -> Option<Due> {
        while let Some(entry) = self.queue.pop_due(now) {
            let due = match entry {
                Ref::Server(id, serial) => self.fire_server(now, id, serial).map(|f| Due::Server(id, f)),
                Ref::Client(id, serial) => self.fire_client(now, id, serial).map(|f| Due::Client(id, f)),
            };
            if due.is_some() {
                return due;
            }
        }
        None
    }

    fn fire_server(&mut self, now: Time, id: u32, serial: u32) -> Option<Fired> {
        let server = self.servers.get_mut(id as usize).filter(|s| s.serial == serial)?;
        server.queued = Time::NEVER;
        let fired = match &mut server.machine {
            ServerMachine::Invite(m) => m.on_timer(now, &self.timing),
            ServerMachine::Other(m) => m.on_timer(now),
        };
        if matches!(fired, Fired::Nothing | Fired::Repeat) {
            self.arm_server(id);
        }
        (fired != Fired::Nothing).then_some(fired)
    }

    fn fire_client(&mut self, now: Time, id: u32, serial: u32) -> Option<Fired> {
        let client = self.clients.get_mut(id as usize).filter(|c| c.serial == serial)?;
        client.queued = Time::NEVER;
        let fired = match &mut client.machine {
            ClientMachine::Invite(m) => m.on_timer(now),
            ClientMachine::Other(m) => m.on_timer(now, &self.timing),
        };
        if matches!(fired, Fired::Nothing | Fired::Repeat) {
            self.arm_client(id);
        }
        (fired != Fired::Nothing).then_some(fired)
    }

    /// The earliest deadline; may be that of a transaction which is gone.
    pub fn next_timeout(&self) -> Option<Time> {
        self.queue.next()
    }

    /// Server transactions alive.
    pub fn servers(&self) -> usize {
        self.servers.len()
    }

    /// Client transactions alive.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Queued deadlines, also of transactions that are gone.
    pub fn timers(&self) -> usize {
        self.queue.len()
    }

    /// Whether indexes and slabs agree.
    pub fn check(&self) -> bool {
        self.by_key.len() == self.servers.len()
            && self.by_branch.len() == self.clients.len()
            && self.servers.iter().all(|(id, s)| self.find_server(s.key) == Some(id as u32))
    }
}

/// What a client transaction is opened with.
#[derive(Debug)]
pub struct NewClient {
    /// A machine that has just started.
    pub machine: ClientMachine,
    /// Its literal branch.
    pub branch: Branch,
    /// Whether it is a CANCEL.
    pub cancel: bool,
    /// The owner's number.
    pub owner: u32,
    /// Which of the owner's attempts.
    pub attempt: u8,
}

#[cfg(test)]
mod tests;
