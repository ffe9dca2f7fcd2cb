//! A running node, fed with octets and time: it never panics, whatever it sends can be read, and when everybody has gone
//! its tables are empty.
//!
//! The input is a list of steps, separated by the octets FE FF. A step that begins with an octet from F0 on is an order
//! (below), everything else is a datagram. So a plain message is a valid input.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tandem::balance::{self, GroupConfig, Monitor, ResourceConfig, Route, SchemeName, Terms};
use tandem::base::{ConnId, Epoch, Flow, ListenerId, NodeId, Time, Transport};
use tandem::identity::{Identities, Identity};
use tandem::node::{Capacity, Command, Config, Input, Node, ProxyConfig, Received, Scratch, Single};
use tandem::out::Out;
use tandem::sip::edit::Edits;
use tandem::sip::header::{Index, Name};
use tandem::sip::reply::{Reply, reason_phrase};
use tandem::token::Keys;

/// Steps of one run, and messages kept from what the node sent.
const STEPS: usize = 64;
const KEPT: usize = 32;

const CALLER: &str = "198.51.100.9:5060";
const MEMBERS: [&str; 3] = ["203.0.113.1:5070", "203.0.113.2:5070", "203.0.113.3:5070"];

fuzz_target!(|data: &[u8]| {
    let mut world = World::new();
    for step in split(data).take(STEPS) {
        world.step(step);
    }
    world.end();
});

struct World {
    node: Node<Single>,
    now: Time,
    scratch: Scratch,
    out: Out,
    index: Index,
    /// What the node sent last, with its flow.
    sent: Vec<(Flow, Vec<u8>)>,
    /// The INVITE placed last.
    invite: Vec<u8>,
    /// Whether what came in last cannot be read.
    unsound: bool,
    /// Whether a response ever came in that the next hop could not read.
    tainted: bool,
}

impl World {
    fn new() -> Self {
        let now = Time::from_micros(1_000_000_000);
        Self {
            node: Node::new(now, config(3)),
            now,
            scratch: Scratch::default(),
            out: Out::new(),
            index: Index::new(),
            sent: Vec::new(),
            invite: Vec::new(),
            unsound: false,
            tainted: false,
        }
    }

    fn step(&mut self, step: &[u8]) {
        let Some((&order, rest)) = step.split_first() else { return };
        let pick = usize::from(rest.first().copied().unwrap_or(0));
        match order {
            0xf0 => self.pass(Duration::from_millis(pick as u64 * 20)),
            0xf1 => self.pass(Duration::from_secs(pick as u64 * 30)),
            0xf2 => self.answer(pick, rest.get(1..).unwrap_or_default()),
            0xf3 => self.return_to_sender(pick, rest.get(1..).unwrap_or_default()),
            0xf4 => self.undelivered(pick, rest.get(1).copied()),
            0xf5 => self.handle(Input::Command(if pick % 2 == 0 { Command::Drain } else { Command::Resume })),
            0xf6 => self.node.reconfigure(self.now, config(pick % 4), &mut self.out),
            0xf7 => self.receive(flow(Transport::Tcp, CALLER), rest),
            0xf8 => self.lost(rest),
            0xf9 => self.receive(flow(Transport::Udp, MEMBERS[pick % 3]), rest.get(1..).unwrap_or_default()),
            0xfa => self.in_dialog(pick, rest.get(1).copied().unwrap_or(0)),
            0xfb => self.cancel(),
            0xfc => self.place(pick),
            _ => self.receive(flow(Transport::Udp, CALLER), step),
        }
    }

    fn receive(&mut self, flow: Flow, bytes: &[u8]) {
        self.handle(Input::Message(Received { flow, bytes }));
    }

    /// A stream that lost its framing.
    fn lost(&mut self, bytes: &[u8]) {
        if let Err(reason) = self.index.parse(bytes) {
            self.handle(Input::BadStream(Received { flow: flow(Transport::Tcp, CALLER), bytes }, reason));
        }
    }

    /// Answers a request that the node sent, as its receiver would.
    fn answer(&mut self, pick: usize, how: &[u8]) {
        let Some((flow, bytes)) = self.sent.get(pick % self.sent.len().max(1)).cloned() else { return };
        const STATUSES: [u16; 12] = [100, 180, 183, 200, 200, 202, 302, 404, 408, 486, 503, 603];
        let choice = usize::from(how.first().copied().unwrap_or(3));
        let status = STATUSES[choice % STATUSES.len()];
        if self.index.parse(&bytes).is_err() || !self.index.message(&bytes).is_request() {
            return;
        }
        let request = self.index.message(&bytes);
        let routes: Vec<u8> = request.record_routes().flatten().map(|r| r.value).collect::<Vec<_>>().join(&b", "[..]);
        let mut extra: Vec<(&str, &[u8])> = vec![("Contact", b"<sip:mcp@203.0.113.1:5070>")];
        if !routes.is_empty() {
            extra.push(("Record-Route", &routes));
        }
        if choice >= STATUSES.len() {
            extra.push(("Retry-After", b"3"));
        }
        let tag = [b'm', b'0' + (pick % 8) as u8];
        let reply = Reply { status, reason: reason_phrase(status), to_tag: Some(&tag), extra: &extra };
        let mut text = Vec::new();
        reply.write(&request, flow.local, &mut text);
        self.receive(turned(flow), &text);
    }

    /// An INVITE of the caller; several bits choose its look.
    fn place(&mut self, pick: usize) {
        let number = pick % 8;
        let timer = if pick & 8 == 0 { "" } else { "Supported: timer\r\nSession-Expires: 90;refresher=uac\r\n" };
        let uri = if pick & 16 == 0 { "sip:dialog@192.0.2.1" } else { "sip:annc@192.0.2.1;play=x" };
        let text = format!(
            "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bKc{number}\r\nMax-Forwards: 70\r\n\
             From: <sip:a@{CALLER}>;tag=f{number}\r\nTo: <sip:b@192.0.2.1>\r\nCall-ID: call{number}\r\n\
             CSeq: 1 INVITE\r\nContact: <sip:a@{CALLER}>\r\n{timer}Content-Length: 0\r\n\r\n"
        );
        self.invite = text.clone().into_bytes();
        let transport = if pick & 32 == 0 { Transport::Udp } else { Transport::Tcp };
        self.receive(flow(transport, CALLER), text.as_bytes());
    }

    /// CANCEL of the INVITE placed last (RFC 3261 §9.1).
    fn cancel(&mut self) {
        let text = String::from_utf8_lossy(&self.invite).replace("INVITE", "CANCEL");
        self.receive(flow(Transport::Udp, CALLER), text.as_bytes());
    }

    /// A request inside a dialog, as a caller makes it from a 2xx or a media server from an INVITE.
    fn in_dialog(&mut self, pick: usize, how: u8) {
        const METHODS: [&str; 8] = ["ACK", "BYE", "INVITE", "UPDATE", "PRACK", "INFO", "REFER", "CANCEL"];
        let method = METHODS[usize::from(how) % METHODS.len()];
        let Some((flow, bytes)) = self.sent.get(pick % self.sent.len().max(1)).cloned() else { return };
        if self.index.parse(&bytes).is_err() {
            return;
        }
        let message = self.index.message(&bytes);
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let mut routes: Vec<String> = message.record_routes().flatten().map(|r| text(r.value)).collect();
        let (mut from, mut to) = (text(message.from().value), text(message.to().value));
        if message.is_request() {
            to += ";tag=m0";
            std::mem::swap(&mut from, &mut to);
        } else {
            routes.reverse();
        }
        let contact = message.contacts().flatten().next().map_or("sip:x@203.0.113.1:5070".into(), |c| text(c.uri));
        let sequence = if method == "ACK" { message.cseq().number } else { u32::from(how) + 2 };
        let routes: String = routes.iter().map(|r| format!("Route: {r}\r\n")).collect();
        let request = format!(
            "{method} {contact} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKd{how}\r\nMax-Forwards: 70\r\n{routes}\
             From: {from}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {sequence} {method}\r\nContent-Length: 0\r\n\r\n",
            flow.remote,
            text(message.call_id()),
        );
        self.receive(turned(flow), request.as_bytes());
    }

    /// Sends something of the node's own back to it, perhaps with octets exchanged.
    fn return_to_sender(&mut self, pick: usize, changes: &[u8]) {
        let Some((flow, mut bytes)) = self.sent.get(pick % self.sent.len().max(1)).cloned() else { return };
        for change in changes.chunks_exact(3) {
            let at = usize::from(u16::from_be_bytes([change[0], change[1]]));
            if let Some(octet) = bytes.get_mut(at) {
                *octet = change[2];
            }
        }
        self.receive(turned(flow), &bytes);
    }

    fn undelivered(&mut self, pick: usize, cut: Option<u8>) {
        let Some((flow, bytes)) = self.sent.get(pick % self.sent.len().max(1)).cloned() else { return };
        let len = cut.map_or(bytes.len(), |c| bytes.len().min(usize::from(c) * 4));
        self.handle(Input::Undelivered(Received { flow, bytes: &bytes[..len] }));
    }

    fn handle(&mut self, input: Input<'_>) {
        if let Input::Message(received) | Input::BadStream(received, _) = &input {
            self.unsound = !self.is_sound(received.bytes);
            // Kept, and repeated later.
            self.tainted |= self.unsound && received.bytes.trim_ascii_start().starts_with(b"SIP/");
        }
        self.node.handle(self.now, input, &mut self.scratch, &mut self.out);
        self.drain();
    }

    /// Whether a message can be read, and a response also without its topmost Via: the one below is not judged before.
    fn is_sound(&mut self, bytes: &[u8]) -> bool {
        if self.index.parse(bytes).is_err() {
            return false;
        }
        let message = self.index.message(bytes);
        if message.is_request() {
            return true;
        }
        let (mut edits, mut rest) = (Edits::new(), Vec::new());
        edits.remove_values(&message, Name::Via, 1);
        edits.write(&message, &mut rest);
        self.index.parse(&rest).is_ok()
    }

    /// Lets time pass, timer by timer.
    fn pass(&mut self, by: Duration) {
        self.unsound = false;
        let end = self.now + by;
        for _ in 0..10_000 {
            let Some((due, _)) = self.node.next_timeout().filter(|(due, _)| *due <= end) else { break };
            self.now = self.now.max(due);
            self.node.handle_timeout(self.now, &mut self.scratch, &mut self.out);
            self.drain();
        }
        self.now = end;
        self.node.handle_timeout(self.now, &mut self.scratch, &mut self.out);
        self.drain();
    }

    /// Takes what the node wants sent: every message must be one.
    fn drain(&mut self) {
        self.node.check().expect("the node agrees with itself");
        for transmit in &self.out.transmits {
            let bytes = self.out.bytes(transmit);
            if !bytes.iter().all(|b| matches!(b, b'\r' | b'\n')) {
                let parsed = self.index.parse(bytes);
                // A refusal, or a response passed on, repeats what was wrong.
                let repeats = (self.unsound || self.tainted) && bytes.starts_with(b"SIP/2.0 ");
                assert!(parsed.is_ok() || repeats, "{parsed:?}: {}", String::from_utf8_lossy(bytes));
            }
            if self.sent.len() == KEPT {
                self.sent.remove(0);
            }
            self.sent.push((transmit.flow, bytes.to_vec()));
        }
        self.out.clear();
    }

    /// Everybody is gone: leases and timers run out, and nothing is left.
    fn end(&mut self) {
        self.node.reconfigure(self.now, config(0), &mut self.out);
        for _ in 0..40 {
            self.pass(Duration::from_secs(600));
        }
        let left = self.node.gauges();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The steps of an input.
fn split(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let text = rest?;
        let at = text.windows(2).position(|w| w == [0xfe, 0xff]);
        rest = at.map(|n| &text[n + 2..]);
        Some(&text[..at.unwrap_or(text.len())])
    })
}

fn flow(transport: Transport, remote: &str) -> Flow {
    let (listener, conn) = match transport {
        Transport::Udp => (ListenerId(0), None),
        Transport::Tcp | Transport::Tls => (ListenerId(1), Some(ConnId(7))),
    };
    Flow { transport, listener, local: here(), remote: remote.parse().unwrap(), conn }
}

/// The flow of what comes back on `flow`.
fn turned(flow: Flow) -> Flow {
    Flow { local: here(), ..flow }
}

fn here() -> SocketAddr {
    "192.0.2.1:5060".parse().unwrap()
}

/// A node with `members` media servers.
fn config(members: usize) -> Config {
    let identity = |t, l| Identity::new(t, here(), ListenerId(l));
    Config {
        node: NodeId(1),
        epoch: Epoch { counter: 1, node: NodeId(1) },
        incarnation: 77,
        seed: 5,
        keys: Keys::new("fuzz", &[b"a secret of the fuzzer"]).unwrap(),
        identities: Identities::new([identity(Transport::Udp, 0), identity(Transport::Tcp, 1)]),
        farm: balance::Config { groups: if members == 0 { vec![] } else { vec![group(members)] } },
        proxy: ProxyConfig::default(),
        capacity: Capacity { shards: 2, legs: 16, transactions: 32 },
            pair: None,
    }
}

fn group(members: usize) -> GroupConfig {
    GroupConfig {
        name: "media".into(),
        service_types: vec![],
        scheme: SchemeName::RoundRobin,
        monitor: (members == 2).then_some(Monitor {
            interval: Duration::from_secs(20),
            timeout: Duration::from_secs(2),
            down_after: 2,
            up_after: 1,
        }),
        noresource_response_code: 480,
        terms: Terms {
            first_response_timeout: Duration::from_secs(2),
            retry_codes: vec![408..=408, 480..=480, 500..=500, 503..=503],
        },
        pin_by: None,
        resources: MEMBERS.iter().take(members).map(|addr| resource(addr)).collect(),
    }
}

fn resource(addr: &str) -> ResourceConfig {
    let aor = format!("sip:{addr};transport=udp");
    ResourceConfig {
        id: balance::resource_id(&aor),
        aor,
        route: Route { authority: addr.into(), flow: flow(Transport::Udp, addr), stream: None, own: None },
        aliases: vec![],
        port_capacity: Some(4),
    }
}
