//! The transactions of an agent (RFC 3261 §17 with RFC 6026): what repeats itself and what absorbs repetition.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::dialog::Dialog;
use super::heard::{Asked, ClientId, Heard, ServerKey, Timing, server_key, transmit};
use super::wire::{self, Request, Response};
use crate::base::{Flow, Time, Transport};
use crate::out::Out;
use crate::sip::{Index, Message, Method};

/// All transactions of one agent.
pub struct Endpoint {
    name: String,
    addr: SocketAddr,
    timing: Timing,
    clients: BTreeMap<ClientId, Client>,
    servers: BTreeMap<ServerKey, Server>,
    timers: BTreeSet<(Time, Due)>,
    branches: u64,
    scratch: Index,
}

#[derive(Debug)]
struct Client {
    owner: u64,
    invite: bool,
    cancelled: bool,
    bytes: Vec<u8>,
    ack: Vec<u8>,
    flow: Flow,
    state: State,
    interval: Duration,
    give_up: Time,
    due: Time,
}

#[derive(Debug)]
struct Server {
    invite: bool,
    bytes: Vec<u8>,
    flow: Flow,
    state: State,
    interval: Duration,
    give_up: Time,
    due: Time,
}

/// The states of RFC 3261 §17 and RFC 6026; a non-INVITE client's Trying is `Calling` here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Calling,
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Client(ClientId),
    Server(ServerKey),
}

impl Endpoint {
    /// An agent at `addr`; `name` makes its branches differ from those of others.
    pub fn new(name: &str, addr: SocketAddr, timing: Timing) -> Self {
        Self {
            name: name.to_owned(),
            addr,
            timing,
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
            timers: BTreeSet::new(),
            branches: 0,
            scratch: Index::new(),
        }
    }

    /// A flow from here.
    pub fn flow_to(&self, transport: Transport, remote: SocketAddr) -> Flow {
        Flow { transport, listener: Default::default(), local: self.addr, remote, conn: None }
    }

    /// A branch for a request that needs one.
    pub fn branch(&mut self) -> (u64, String) {
        self.branches += 1;
        (self.branches, format!("z9hG4bK{}.{:x}", self.name, self.branches))
    }

    /// Forgets everything, as a crash does.
    pub fn forget(&mut self) {
        self.clients.clear();
        self.servers.clear();
        self.timers.clear();
    }

    /// Sends a request other than ACK and repeats it as its transport needs. `branch` is the number from
    /// [`Endpoint::branch`].
    pub fn request(
        &mut self,
        now: Time,
        owner: u64,
        branch: u64,
        flow: Flow,
        bytes: Vec<u8>,
        out: &mut Out,
    ) -> ClientId {
        let (invite, cancel) = (bytes.starts_with(b"INVITE "), bytes.starts_with(b"CANCEL "));
        transmit(out, flow, &bytes);
        let id = ClientId { branch, cancel };
        let give_up = now + self.timing.patience();
        let due = if flow.transport.reliable() { give_up } else { now + self.timing.t1 };
        let interval = self.timing.t1;
        let (ack, cancelled, state) = (Vec::new(), false, State::Calling);
        let client = Client { owner, invite, cancelled, bytes, ack, flow, state, interval, give_up, due };
        self.clients.insert(id, client);
        self.timers.insert((due, Due::Client(id)));
        id
    }

    /// Sends the CANCEL of an INVITE that is still open (RFC 3261 §9.1). After 64·T1 without a final the INVITE counts
    /// as expired.
    pub fn cancel(&mut self, now: Time, invite: ClientId, out: &mut Out) {
        let mut bytes = Vec::new();
        let give_up = now + self.timing.patience();
        let Some(client) = self.clients.get_mut(&invite) else { return };
        if self.scratch.parse(&client.bytes).is_err() {
            return;
        }
        let message = self.scratch.message(&client.bytes);
        wire::derive(&message, "CANCEL", message.to().value, &mut bytes);
        (client.give_up, client.due, client.cancelled) = (give_up, give_up, true);
        let (owner, flow) = (client.owner, client.flow);
        self.timers.insert((give_up, Due::Client(invite)));
        self.request(now, owner, invite.branch, flow, bytes, out);
    }

    /// A request is not repeated any more; its answers are still heard.
    pub fn hush(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id).filter(|client| client.state == State::Calling) {
            client.due = client.give_up;
            self.timers.insert((client.due, Due::Client(id)));
        }
    }

    /// Answers the request of a server transaction. Finals are repeated and remembered as RFC 3261 §17.2 says; a 2xx to
    /// INVITE is repeated by its sender instead (§13.3.1.4).
    pub fn respond(&mut self, now: Time, key: &ServerKey, status: u16, bytes: Vec<u8>, out: &mut Out) {
        let Some(server) = self.servers.get_mut(key) else { return };
        transmit(out, server.flow, &bytes);
        server.bytes = bytes;
        if status < 200 {
            return;
        }
        server.give_up = now + self.timing.patience();
        server.state = if server.invite && status < 300 { State::Accepted } else { State::Completed };
        server.interval = self.timing.t1;
        let repeats = server.invite && status >= 300 && !server.flow.transport.reliable();
        server.due = if repeats { now + self.timing.t1 } else { server.give_up };
        self.timers.insert((server.due, Due::Server(key.clone())));
    }

    /// A request inside `dialog`, ready to send, with the number of its branch. `ack`: the CSeq number of the INVITE that
    /// an ACK belongs to (RFC 3261 §13.2.2.4); otherwise the dialog's own number grows. `None` if the route set leads
    /// nowhere.
    pub fn inside(
        &mut self,
        dialog: &mut Dialog,
        method: &str,
        ack: Option<u32>,
        extra: &str,
        body: &[u8],
    ) -> Option<(u64, Flow, Vec<u8>)> {
        let (transport, remote) = dialog.next_hop()?;
        let flow = self.flow_to(transport, remote);
        let (branch, text) = self.branch();
        dialog.cseq += u32::from(ack.is_none());
        let mut bytes = Vec::new();
        Request {
            method,
            uri: &dialog.target,
            flow,
            branch: &text,
            routes: &dialog.routes,
            from: &dialog.local,
            to: &dialog.remote,
            call_id: &dialog.call_id,
            cseq: ack.unwrap_or(dialog.cseq),
            extra,
            body,
        }
        .write(&mut bytes);
        Some((branch, flow, bytes))
    }

    /// Answers `asked` with a response that needs no more than its head.
    pub fn reply(&mut self, now: Time, asked: &Asked<'_>, response: Response<'_>, out: &mut Out) {
        let mut bytes = Vec::new();
        response.write(asked.message, asked.flow.remote, &mut bytes);
        self.respond(now, asked.key, response.status, bytes, out);
    }

    /// The first reading of a message.
    pub fn hear(&mut self, now: Time, message: &Message<'_>, flow: Flow, out: &mut Out) -> Heard {
        match message.status() {
            Some(status) => self.hear_response(now, status, message, out),
            None => self.hear_request(now, message, flow, out),
        }
    }

    /// Repeats what is due; appends the owners of transactions that got no final in time to `expired`.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Out, expired: &mut Vec<(ClientId, u64)>) {
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            match self.timers.pop_first() {
                Some((at, Due::Client(id))) => self.client_due(now, at, id, out, expired),
                Some((at, Due::Server(key))) => self.server_due(now, at, key, out),
                None => return,
            }
        }
    }

    /// The earliest deadline.
    pub fn next_timeout(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn hear_response(&mut self, now: Time, status: u16, message: &Message<'_>, out: &mut Out) -> Heard {
        let Some(id) = self.client_of(message) else { return Heard::Stray };
        let timing = self.timing;
        let Some(client) = self.clients.get_mut(&id) else { return Heard::Stray };
        let response = Heard::Response { id, owner: client.owner };
        let reliable = client.flow.transport.reliable();
        match (client.state, client.invite) {
            (State::Calling | State::Proceeding, true) if status < 200 => {
                client.state = State::Proceeding;
                // Timers A and B end with the first provisional; a CANCEL's own patience stays.
                client.due = if client.cancelled { client.due } else { Time::NEVER };
                return response;
            }
            (State::Calling | State::Proceeding, false) if status < 200 => {
                client.state = State::Proceeding;
                return response;
            }
            (State::Calling | State::Proceeding, true) if status < 300 => {
                client.state = State::Accepted;
                client.due = now + timing.patience();
            }
            (State::Calling | State::Proceeding, true) => {
                client.state = State::Completed;
                client.due = if reliable { now } else { now + timing.patience() };
                if self.scratch.parse(&client.bytes).is_ok() {
                    let invite = self.scratch.message(&client.bytes);
                    wire::derive(&invite, "ACK", message.to().value, &mut client.ack);
                }
                transmit(out, client.flow, &client.ack);
            }
            (State::Calling | State::Proceeding, false) => {
                client.state = State::Completed;
                client.due = if reliable { now } else { now + timing.t4 };
            }
            (State::Accepted | State::Completed, true) if (200..300).contains(&status) => return response,
            (State::Completed, true) if status >= 300 => {
                transmit(out, client.flow, &client.ack);
                return Heard::Absorbed;
            }
            _ => return Heard::Absorbed,
        }
        self.timers.insert((client.due, Due::Client(id)));
        response
    }

    fn hear_request(&mut self, now: Time, message: &Message<'_>, flow: Flow, out: &mut Out) -> Heard {
        let ack = matches!(message.method(), Method::Ack);
        let key = server_key(message, message.method());
        let Some(server) = self.servers.get_mut(&key) else {
            if ack {
                return Heard::Ack;
            }
            let invite = matches!(message.method(), Method::Invite);
            let (interval, never) = (Duration::ZERO, Time::NEVER);
            let state = State::Proceeding;
            let server = Server { invite, bytes: Vec::new(), flow, state, interval, give_up: never, due: never };
            self.servers.insert(key.clone(), server);
            return Heard::Request(key);
        };
        match (server.state, ack) {
            (State::Accepted, true) => return Heard::Ack,
            (State::Completed, true) => {
                server.state = State::Confirmed;
                server.due = if flow.transport.reliable() { now } else { now + self.timing.t4 };
                self.timers.insert((server.due, Due::Server(key)));
            }
            // RFC 6026 §8.7: a repeated INVITE is absorbed; its 2xx is repeated by the one who sent it.
            (State::Accepted | State::Confirmed, _) | (_, true) => {}
            _ if server.bytes.is_empty() => {}
            _ => transmit(out, server.flow, &server.bytes),
        }
        Heard::Absorbed
    }

    fn client_of(&self, message: &Message<'_>) -> Option<ClientId> {
        let branch = message.via().branch?.strip_prefix(b"z9hG4bK")?.strip_prefix(self.name.as_bytes())?;
        let number = std::str::from_utf8(branch.strip_prefix(b".")?).ok()?;
        let cancel = matches!(message.cseq().method, Method::Cancel);
        Some(ClientId { branch: u64::from_str_radix(number, 16).ok()?, cancel })
    }

    fn client_due(&mut self, now: Time, at: Time, id: ClientId, out: &mut Out, expired: &mut Vec<(ClientId, u64)>) {
        let Some(client) = self.clients.get_mut(&id).filter(|c| c.due == at) else { return };
        match client.state {
            State::Calling | State::Proceeding if at < client.give_up => {
                transmit(out, client.flow, &client.bytes);
                let doubled = client.interval * 2;
                client.interval = match (client.invite, client.state) {
                    (true, _) => doubled,
                    (false, State::Proceeding) => self.timing.t2,
                    (false, _) => doubled.min(self.timing.t2),
                };
                client.due = (now + client.interval).min(client.give_up);
                self.timers.insert((client.due, Due::Client(id)));
            }
            State::Calling | State::Proceeding => {
                expired.push((id, client.owner));
                self.clients.remove(&id);
            }
            State::Completed | State::Confirmed | State::Accepted => {
                self.clients.remove(&id);
            }
        }
    }

    fn server_due(&mut self, now: Time, at: Time, key: ServerKey, out: &mut Out) {
        let Some(server) = self.servers.get_mut(&key).filter(|s| s.due == at) else { return };
        if server.state == State::Completed && at < server.give_up {
            transmit(out, server.flow, &server.bytes);
            server.interval = (server.interval * 2).min(self.timing.t2);
            server.due = (now + server.interval).min(server.give_up);
            self.timers.insert((server.due, Due::Server(key)));
        } else {
            self.servers.remove(&key);
        }
    }
}
