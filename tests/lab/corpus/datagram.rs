//! Each message as one datagram, with a call beside it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::case::{Case, Fresh, Word};
use crate::rig::call::{self, Call};
use crate::rig::mcp::Mcp;
use crate::rig::message::{Message, parameter, sent_by};
use crate::rig::node::{Metrics, Node};
use crate::rig::poll::SOON;
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// Every case: call from one source, message from another, BYE from the first.
pub fn replay(world: &World, node: &Node, server: &Mcp, cases: &[Case]) {
    let mut failures = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        // A source of its own for each message: late retransmissions of one are not taken for answers to the next.
        let stranger = Stranger::bind(world, 20 + u8::try_from(n % 200).expect("below 200"), n, &case.octets);
        let neighbour = Neighbour::call(world, node, n);
        if let Err(what) = one(&stranger, node, server, case) {
            failures.push(format!("{}: {what}", case.name));
        }
        neighbour.hang_up();
    }
    assert!(failures.is_empty(), "{} of {} wrong:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

fn one(stranger: &Stranger, node: &Node, server: &Mcp, case: &Case) -> Result<(), String> {
    let before = (node.metrics(), server.count());
    // Two files are one message with another length: not a retransmission of the first.
    let octets =
        if case.name.contains("as-printed") { Fresh::default().copy(&case.octets) } else { case.octets.clone() };
    stranger.main.send(node.sip, octets);
    stranger.probe.send(node.sip, call::options(stranger.probe.at, node.sip, 0));
    stranger.probe.answer(200, "OPTIONS");
    let wants_traffic = case.udp.iter().any(|w| !matches!(w, Word::Drop | Word::Ignore | Word::Parse));
    let end = Instant::now() + if wants_traffic { SOON } else { Duration::ZERO };
    loop {
        let seen = Observed::now(stranger, server, before.1);
        let fitting = case.udp.iter().find(|word| seen.is(**word, case));
        match fitting {
            // A drop is believed only when nothing else is allowed or nothing else came.
            Some(Word::Drop | Word::Ignore | Word::Parse) if Instant::now() < end && wants_traffic => {}
            Some(word) => return counted(*word, &before.0, &node.metrics()),
            None if Instant::now() >= end => return Err(format!("not {:?} but {seen:?}", case.udp)),
            None => {}
        }
    }
}

/// Whether the counter that goes with an outcome has moved.
fn counted(word: Word, before: &Metrics, after: &Metrics) -> Result<(), String> {
    let moved = |names: &[&str]| names.iter().any(|name| after.sum(name) > before.sum(name));
    let (names, expected): (&[&str], bool) = match word {
        Word::Status(200..=299) => return Ok(()),
        Word::Status(400 | 505 | 513) => (&["tandem_malformed_total"], true),
        Word::Status(_) => (&["tandem_rejected_total", "tandem_malformed_total"], true),
        Word::Drop => (
            &[
                "tandem_malformed_total",
                "tandem_rejected_total",
                "tandem_stray_responses_total",
                "tandem_unsendable_responses_total",
            ],
            true,
        ),
        Word::Ignore => (&["tandem_keepalives_total"], true),
        Word::Parse | Word::Forward => (&["tandem_malformed_total"], false),
        _ => return Ok(()),
    };
    if moved(names) == expected { Ok(()) } else { Err(format!("{word:?}, but {names:?} moved: {}", !expected)) }
}

/// What has come of a message so far.
#[derive(Debug)]
struct Observed {
    answers: Vec<Message>,
    forwarded: Vec<Message>,
}

impl Observed {
    fn now(stranger: &Stranger, server: &Mcp, mark: usize) -> Observed {
        let mut answers = stranger.heard.borrow_mut();
        for socket in std::iter::once(&stranger.main).chain(stranger.others.values()) {
            // The media server's own words come back too; they prove nothing about the node.
            answers
                .extend(socket.drain().into_iter().filter(|m| !m.start.ends_with("Said") && m.status() != Some(100)));
        }
        let of_neighbour = |m: &Message| m.call_id().starts_with("beside") || m.asks("ACK") || m.status().is_some();
        let later = server.later(mark).into_iter();
        Observed { answers: answers.clone(), forwarded: later.filter(|m| !of_neighbour(m)).collect() }
    }

    fn is(&self, word: Word, case: &Case) -> bool {
        match (word, self.answers.as_slice(), self.forwarded.as_slice()) {
            (Word::Forward, [answer], []) => answer.answers(200, "OPTIONS"),
            (Word::Forward, [], [one]) => faithful(&case.octets, one),
            (Word::ForwardFirst | Word::ForwardTruncated, [], [one]) => truncated(&case.octets, one),
            (Word::Status(status), [answer], []) => answer.status() == Some(status),
            (Word::Drop | Word::Ignore, [], []) => true,
            (Word::Parse, ..) => true,
            _ => false,
        }
    }
}

/// Whether what left is what came, but for what RFC 3261 §16.6 changes: every other header line and the body, octet
/// for octet, in order.
pub fn faithful(came: &[u8], left: &Message) -> bool {
    let (head, body) = halves(came);
    let (new_head, new_body) = halves(&left.raw);
    let ours = |line: &[u8]| {
        let name: Vec<u8> = line.iter().copied().take_while(|o| !matches!(o, b':' | b' ' | b'\t' | b'\r')).collect();
        let name = name.to_ascii_lowercase();
        matches!(
            name.as_slice(),
            b"via" | b"v" | b"max-forwards" | b"record-route" | b"route" | b"l" | b"content-length"
        )
    };
    let lines = |head: &[u8]| -> Vec<Vec<u8>> { fields(head).into_iter().skip(1).filter(|l| !ours(l)).collect() };
    let own = |line: &Vec<u8>| line.to_ascii_lowercase().starts_with(b"x-genesys");
    let kept: Vec<Vec<u8>> = lines(new_head).into_iter().filter(|line| !own(line)).collect();
    lines(head) == kept && body == new_body
}

/// Whether the body that left has exactly the announced length.
fn truncated(came: &[u8], left: &Message) -> bool {
    let announced = left.all("content-length").first().and_then(|l| l.trim().parse::<usize>().ok());
    announced == Some(left.body.len()) && halves(came).1.starts_with(&left.body)
}

fn halves(raw: &[u8]) -> (&[u8], &[u8]) {
    match raw.windows(4).position(|w| w == b"\r\n\r\n") {
        Some(at) => (&raw[..at + 2], &raw[at + 4..]),
        None => (raw, &[]),
    }
}

/// Header fields with their folds.
fn fields(head: &[u8]) -> Vec<Vec<u8>> {
    let mut fields: Vec<Vec<u8>> = Vec::new();
    for line in head.split_inclusive(|o| *o == b'\n') {
        match (fields.last_mut(), line.first()) {
            (Some(last), Some(b' ' | b'\t')) => last.extend_from_slice(line),
            _ => fields.push(line.to_vec()),
        }
    }
    fields
}

/// The source of a message: the socket that sends it, and the ports at which its Via wants to be answered.
struct Stranger {
    main: Udp,
    probe: Udp,
    others: BTreeMap<u16, Udp>,
    heard: std::cell::RefCell<Vec<Message>>,
}

impl Stranger {
    fn bind(world: &World, host: u8, n: usize, octets: &[u8]) -> Stranger {
        // Later rounds over the same address use other ports, but 5060 must be free to hear answers.
        let main = Udp::bind(world.addr(host, 5060));
        let probe = Udp::bind(world.addr(host, 20_000 + u16::try_from(n).expect("a small corpus")));
        let mut others = BTreeMap::new();
        for port in via_ports(octets).filter(|port| *port != 5060) {
            others.entry(port).or_insert_with(|| Udp::bind(world.addr(host, port)));
        }
        Stranger { main, probe, others, heard: std::cell::RefCell::default() }
    }
}

/// The port of the topmost Via, read generously: bad messages are answered too.
fn via_ports(octets: &[u8]) -> impl Iterator<Item = u16> {
    let text = String::from_utf8_lossy(octets).replace("\r\n ", " ").replace("\r\n\t", " ");
    let named =
        |line: &&str| line.to_ascii_lowercase().starts_with("via") || line.to_ascii_lowercase().starts_with("v:");
    let top = text.lines().find(named).unwrap_or("").to_owned();
    let first = top.split_once(':').map_or("", |(_, value)| value).split(',').next().unwrap_or("").to_owned();
    let wanted = parameter(&first, "rport").is_none();
    let port = sent_by(&first).rsplit_once(':').and_then(|(_, port)| port.trim().parse::<u16>().ok());
    port.filter(|port| wanted && *port > 0).into_iter()
}

/// A caller with a call that must outlive what happens beside it.
struct Neighbour {
    udp: Udp,
    call: Call,
}

impl Neighbour {
    fn call(world: &World, node: &Node, n: usize) -> Neighbour {
        let udp = Udp::bind(world.addr(254, 5060));
        let mut call = Call::new(udp.at, node.sip);
        call.id = format!("beside{n}-{}", call.id);
        udp.send(node.sip, call.invite());
        let answer = udp.answer(200, "INVITE");
        call.established(&answer);
        udp.send(node.sip, call.ack());
        Neighbour { udp, call }
    }

    fn hang_up(mut self) {
        self.udp.send(self.call.node(), self.call.next("BYE"));
        self.udp.answer(200, "BYE");
    }
}
