//! What must hold of every message that crosses the network, whatever happens.

use std::collections::BTreeMap;

use tandem::base::{Flow, Host, Transport, table_hash};
use tandem::sip::{Index, Message, Method, Name};

use crate::model::Model;
use crate::scenario::{SERVERS, caller_addr, is_node, server_addr};

/// An observer at the node's network interface.
pub struct Check {
    index: Index,
    /// The first final to each request of a caller, by branch and CSeq method.
    finals: BTreeMap<Vec<u8>, (u16, Vec<u8>)>,
    /// A hash of each request of the node, by branch and method: a repetition has the same octets.
    requests: BTreeMap<Vec<u8>, u64>,
    /// A hash of each body that went into the node with an INVITE, by Call-ID and CSeq.
    bodies: BTreeMap<Vec<u8>, u64>,
    /// Two nodes that could not agree may have answered one request.
    pub parted: bool,
    /// One of two nodes that both serve stood still: what was answered through the other one meanwhile it does not know.
    pub slept: bool,
    /// Two nodes serve: each answers a request that is no INVITE, if both get it.
    pub both: bool,
}

impl Check {
    pub fn new() -> Self {
        Self {
            index: Index::new(),
            finals: BTreeMap::new(),
            requests: BTreeMap::new(),
            bodies: BTreeMap::new(),
            parted: false,
            slept: false,
            both: false,
        }
    }

    /// A message as it is sent; `Err` says what is wrong with it.
    pub fn sent(&mut self, flow: Flow, bytes: &[u8], model: &mut Model) -> Result<(), String> {
        let mut index = std::mem::take(&mut self.index);
        let verdict = match index.parse(bytes) {
            Err(_) if !is_node(flow.local.ip()) => Ok(()),
            Err(why) => Err(format!("malformed: {}", why.name())),
            Ok(()) => self.look(flow, &index.message(bytes), model),
        };
        self.index = index;
        verdict.map_err(|why| format!("{why}\n{flow:?}\n{}", String::from_utf8_lossy(bytes)))
    }

    fn look(&mut self, flow: Flow, message: &Message<'_>, model: &mut Model) -> Result<(), String> {
        let from_node = is_node(flow.local.ip());
        match (from_node, message.status()) {
            (true, None) => self.request_of_node(flow, message, model),
            (true, Some(status)) => self.response_of_node(flow, status, message),
            (false, None) => {
                if message.to_tag().is_none() && matches!(message.method(), Method::Invite) {
                    self.bodies.insert(key(message), table_hash(0, message.body()));
                }
                Ok(())
            }
            (false, Some(status)) => {
                let invite = matches!(message.cseq().method, Method::Invite) && message.cseq().number == 1;
                if let Some(history) = model.calls.get_mut(&text(message.call_id()))
                    && invite
                    && status >= 200
                {
                    history.finals.push(status);
                }
                Ok(())
            }
        }
    }

    /// RFC 3261 §16.6.
    fn request_of_node(&mut self, flow: Flow, message: &Message<'_>, model: &mut Model) -> Result<(), String> {
        let (via, vias) = (message.via(), message.vias().count());
        if via.host != Host::Ip(flow.local.ip()) || via.port.unwrap_or(5060) != flow.local.port() {
            return Err("the top Via is not the packet's source".into());
        }
        if !via.transport.eq_ignore_ascii_case(flow.transport.via().as_bytes()) {
            return Err("the top Via names another transport".into());
        }
        let branch = via.branch.unwrap_or_default();
        if !branch.starts_with(b"z9hG4bK") || branch.len() < 16 {
            return Err("no usable branch".into());
        }
        let own = matches!(message.method(), Method::Options | Method::Cancel | Method::Ack);
        match (vias, message.max_forwards()) {
            (1, Some(1..=70)) if own => {}
            (2, Some(69)) => {}
            (count, hops) => return Err(format!("{count} Vias with Max-Forwards {hops:?}")),
        }
        if message
            .routes()
            .flatten()
            .filter_map(|route| route.parsed())
            .any(|uri| matches!(uri.host, Host::Ip(ip) if is_node(ip)))
        {
            return Err("a Route of the node's own is left".into());
        }
        // An ACK that meets a node which does not know its INVITE any more passes, beside what that INVITE's own node sent.
        let repeated = [branch, &[vias as u8], message.method().as_bytes()].concat();
        let hash = table_hash(0, message.bytes());
        // Without its INVITE a node writes the ACK to a refusal from that alone.
        let bare = self.both && self.parted && message.method() == Method::Ack;
        if *self.requests.entry(repeated).or_insert(hash) != hash && !bare {
            return Err("another request with the same branch".into());
        }
        match message.method() {
            Method::Invite if message.to_tag().is_none() => self.placed(flow, message, model),
            _ => Ok(()),
        }
    }

    /// The INVITE of a call, on its way to a media server.
    fn placed(&mut self, flow: Flow, message: &Message<'_>, model: &mut Model) -> Result<(), String> {
        let Some(server) = (0..SERVERS).find(|n| server_addr(*n) == flow.remote) else {
            return Err("an INVITE to a stranger".into());
        };
        let Some(history) = model.calls.get_mut(&text(message.call_id())) else {
            return Err("an INVITE of nobody".into());
        };
        history.tried.insert(server);
        let uri = message.uri().ok_or("the Request-URI cannot be read")?;
        if uri.host != Host::Ip(flow.remote.ip()) || uri.port != Some(flow.remote.port()) {
            return Err("the Request-URI does not name the server".into());
        }
        if uri.user != Some(history.plan.user.as_bytes()) || !uri.params.starts_with(history.plan.params.as_bytes()) {
            return Err("user part or parameters of the Request-URI were changed".into());
        }
        let mut own = message.record_routes().map(|route| route?.parsed());
        let ours = |uri: &tandem::sip::Uri<'_>| matches!(uri.host, Host::Ip(ip) if is_node(ip)) && uri.is_loose();
        if !own.next().flatten().is_some_and(|uri| ours(&uri)) || !own.all(|uri| uri.is_some_and(|uri| ours(&uri))) {
            return Err("Record-Route is not the node's own loose route".into());
        }
        if self.bodies.get(&key(message)) != Some(&table_hash(0, message.body())) {
            return Err("the body was changed".into());
        }
        Ok(())
    }

    /// RFC 3261 §16.7 and §17.2.
    fn response_of_node(&mut self, flow: Flow, status: u16, message: &Message<'_>) -> Result<(), String> {
        if (0..SERVERS).any(|n| server_addr(n) == flow.remote) || message.header(Name::Via).is_none() {
            return self.one_final(status, message);
        }
        let caller = (0..2).find(|n| caller_addr(*n).ip() == flow.remote.ip());
        let via = message.via();
        if caller.is_none_or(|n| via.host != Host::Ip(caller_addr(n).ip())) || message.next_via().is_some() {
            return Err("a response with another's Via".into());
        }
        if flow.transport == Transport::Udp && !is_node(flow.local.ip()) {
            return Err("a response from another address than the request came to".into());
        }
        self.one_final(status, message)
    }

    /// No request gets two different finals; only a 2xx to INVITE may follow something else (RFC 3261 §16.7 step 5:
    /// every 2xx is passed on).
    fn one_final(&mut self, status: u16, message: &Message<'_>) -> Result<(), String> {
        if status < 200 {
            return Ok(());
        }
        let (via, method) = (message.via(), message.cseq().method);
        let request = [via.branch.unwrap_or_default(), via.sent_by, b" ", method.as_bytes()].concat();
        let tag = message.to_tag().unwrap_or_default().to_vec();
        let answer = matches!(method, Method::Invite) && (200..300).contains(&status);
        if self.both && method != Method::Invite {
            return Ok(());
        }
        let first = self.finals.entry(request).or_insert_with(|| (status, tag.clone()));
        let unknown = self.slept && matches!(method, Method::Invite) && (200..300).contains(&first.0);
        if *first == (status, tag) || answer || self.parted || unknown {
            return Ok(());
        }
        Err(format!("{status} after {}, to one request", first.0))
    }
}

fn key(message: &Message<'_>) -> Vec<u8> {
    [message.call_id(), b" ", message.cseq().number.to_string().as_bytes()].concat()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
