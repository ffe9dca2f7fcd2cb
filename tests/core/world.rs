//! A node alone in the world: messages go in as text, what leaves comes out as text, time is ours.

use std::net::SocketAddr;
use std::time::Duration;

use tandem::balance::{
    Config as FarmConfig, GroupConfig, PinBy, ResourceConfig, Route, SchemeName, Terms, resource_id,
};
use tandem::base::{ConnId, Epoch, Flow, ListenerId, NodeId, Time, Transport};
use tandem::identity::{Identities, Identity};
use tandem::node::{Capacity, Command, Config, Gauges, Input, Node, ProxyConfig, Received, Scratch, Single, Stats};
use tandem::out::{Event, Out};
use tandem::proxy::Retried;
use tandem::token::Keys;

/// The node's address.
pub const NODE: &str = "192.0.2.1:5060";
/// The same over TLS.
pub const NODE_TLS: &str = "192.0.2.1:5061";
/// The caller's.
pub const CALLER: &str = "192.0.2.9:5060";
/// The media servers'.
pub const MCPS: [&str; 3] = ["198.51.100.1:5060", "198.51.100.2:5060", "198.51.100.3:5060"];

/// A message that left.
#[derive(Clone, Debug)]
pub struct Sent {
    pub flow: Flow,
    pub text: String,
    pub name: Option<String>,
}

pub struct World {
    pub node: Node<Single>,
    pub now: Time,
    pub events: Vec<Event>,
    scratch: Scratch,
    out: Out,
}

/// How a test bends the usual node.
pub struct Bend {
    pub port_capacity: Option<u32>,
    pub epoch: u32,
    pub members: usize,
    pub stream: bool,
    /// Whether the node speaks TLS, and how many of its members do, the last ones.
    pub secure: Option<usize>,
    pub pin_by: Option<PinBy>,
    pub retried: Retried,
}

impl Default for Bend {
    fn default() -> Self {
        Bend {
            port_capacity: None,
            epoch: 1,
            members: 3,
            stream: false,
            secure: None,
            pin_by: None,
            retried: Retried::Join,
        }
    }
}

impl World {
    pub fn new() -> Self {
        Self::bent(Bend::default())
    }

    pub fn bent(bend: Bend) -> Self {
        let now = Time::from_micros(1_000_000);
        let node = Node::new(now, config(&bend));
        World { node, now, events: Vec::new(), scratch: Scratch::default(), out: Out::new() }
    }

    /// A datagram from `from`; everything that leaves because of it.
    pub fn receive(&mut self, from: &str, text: &str) -> Vec<Sent> {
        self.receive_over(udp(from), text)
    }

    /// The same over any flow.
    pub fn receive_over(&mut self, flow: Flow, text: &str) -> Vec<Sent> {
        let bytes = crlf(text);
        self.input(Input::Message(Received { flow, bytes: bytes.as_bytes() }))
    }

    pub fn input(&mut self, input: Input<'_>) -> Vec<Sent> {
        self.node.handle(self.now, input, &mut self.scratch, &mut self.out);
        self.drain()
    }

    pub fn command(&mut self, command: Command) {
        assert!(self.input(Input::Command(command)).is_empty());
    }

    /// Octets of the node that could not be delivered.
    pub fn undelivered(&mut self, sent: &Sent) -> Vec<Sent> {
        self.input(Input::Undelivered(Received { flow: sent.flow, bytes: sent.text.as_bytes() }))
    }

    /// Lets time pass, deadline by deadline; everything that leaves meanwhile, with its time in ms from now.
    pub fn pass(&mut self, time: Duration) -> Vec<(u64, Sent)> {
        let (start, end) = (self.now, self.now + time);
        let mut sent = Vec::new();
        while let Some((due, _)) = self.node.next_timeout().filter(|(due, _)| *due <= end) {
            self.now = self.now.max(due);
            self.node.handle_timeout(self.now, &mut self.scratch, &mut self.out);
            let at = self.now.since(start).as_millis() as u64;
            sent.extend(self.drain().into_iter().map(|s| (at, s)));
        }
        self.now = end;
        sent
    }

    pub fn stats(&self) -> Stats {
        self.node.stats()
    }

    pub fn gauges(&self) -> Gauges {
        self.node.gauges()
    }

    /// Everything ends: all tables are empty after the last timer.
    pub fn assert_empties(&mut self) {
        self.pass(Duration::from_secs(3 * 3_600));
        assert_eq!(self.gauges(), Gauges::default(), "nothing leaks");
        self.node.check().unwrap();
    }

    fn drain(&mut self) -> Vec<Sent> {
        self.node.check().expect("the node agrees with itself after every step");
        let out = &self.out;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let sent =
            out.transmits.iter().map(|t| Sent { flow: t.flow, text: text(out.bytes(t)), name: out.name(t).map(text) });
        let mut sent: Vec<Sent> = sent.collect();
        // A 100 that left after its INVITE could be overtaken by the answers to it. Transcripts name it last.
        let trying = sent.iter().position(|s| s.start_line() == "SIP/2.0 100 Trying");
        if let Some(trying) = trying.map(|n| (n, sent.remove(n))) {
            let invites = sent.iter().take(trying.0).any(|s| s.start_line().starts_with("INVITE"));
            assert!(!invites, "a 100 leaves before what it speaks of");
            sent.push(trying.1);
        }
        self.events.extend(self.out.events.iter().copied());
        self.out.clear();
        sent
    }
}

impl Sent {
    pub fn to(&self) -> String {
        self.flow.remote.to_string()
    }

    pub fn start_line(&self) -> &str {
        self.text.lines().next().unwrap()
    }

    pub fn status(&self) -> u16 {
        self.start_line().split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The values of a header, line by line.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let head = self.text.split("\r\n\r\n").next().unwrap();
        let lines = head.lines().skip(1).filter_map(|l| l.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v).collect()
    }

    pub fn header(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or_else(|| panic!("no {name} in\n{}", self.text))
    }

    pub fn branch(&self) -> &str {
        self.header("Via").split(";branch=").nth(1).unwrap().split(';').next().unwrap()
    }

    pub fn tag(&self) -> &str {
        self.header("To").split(";tag=").nth(1).unwrap()
    }

    /// A response as the next hop would send it: Vias, From, To, Call-ID, CSeq and Record-Route of this request.
    pub fn answer(&self, status: &str, tag: &str, more: &str) -> String {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for name in ["Via", "Record-Route", "From"] {
            self.all(name).iter().for_each(|v| text += &format!("{name}: {v}\r\n"));
        }
        let tag =
            if tag.is_empty() || self.header("To").contains(";tag=") { String::new() } else { format!(";tag={tag}") };
        text += &format!("To: {}{tag}\r\nCall-ID: {}\r\n", self.header("To"), self.header("Call-ID"));
        text + &format!("CSeq: {}\r\n{more}Content-Length: 0\r\n\r\n", self.header("CSeq"))
    }
}

/// A node with three members behind 192.0.2.1 (UDP and TCP).
pub fn config(bend: &Bend) -> Config {
    let addr: SocketAddr = NODE.parse().unwrap();
    let tls: SocketAddr = NODE_TLS.parse().unwrap();
    let open = bend.members - bend.secure.unwrap_or_default();
    let resources = MCPS.iter().take(bend.members).enumerate().map(|(n, mcp)| {
        let flow = |transport, listener| Flow {
            transport,
            listener: ListenerId(listener),
            local: if transport == Transport::Tls { tls } else { addr },
            remote: mcp.parse().unwrap(),
            conn: None,
        };
        let usual = if n < open { flow(Transport::Udp, 0) } else { flow(Transport::Tls, 2) };
        let stream = bend.stream.then(|| flow(Transport::Tcp, 1));
        ResourceConfig {
            id: resource_id(&format!("sip:{mcp};transport=udp")),
            aor: format!("sip:{mcp}"),
            route: Route { authority: (*mcp).into(), flow: usual, stream, own: None },
            aliases: Vec::new(),
            port_capacity: bend.port_capacity,
        }
    });
    let group = GroupConfig {
        name: "MCP_LRG".into(),
        service_types: Vec::new(),
        scheme: SchemeName::RoundRobin,
        monitor: None,
        noresource_response_code: 480,
        terms: Terms {
            first_response_timeout: Duration::from_secs(2),
            retry_codes: vec![408..=408, 480..=480, 500..=500, 502..=504, 506..=512, 514..=599],
        },
        pin_by: bend.pin_by.clone(),
        resources: resources.collect(),
    };
    Config {
        node: NodeId(1),
        epoch: Epoch { counter: bend.epoch, node: NodeId(1) },
        incarnation: u64::from(bend.epoch),
        seed: 7,
        keys: Keys::new("tandem", &[b"a secret for tests"]).unwrap(),
        identities: Identities::new(
            [Identity::new(Transport::Udp, addr, ListenerId(0)), Identity::new(Transport::Tcp, addr, ListenerId(1))]
                .into_iter()
                .chain(bend.secure.map(|_| Identity::new(Transport::Tls, tls, ListenerId(2)))),
        ),
        farm: FarmConfig { groups: vec![group] },
        proxy: ProxyConfig { retried: bend.retried, ..ProxyConfig::default() },
        capacity: Capacity { shards: 4, legs: 1_000, transactions: 1_000 },
        pair: None,
    }
}

/// A datagram from `from` to the node.
pub fn udp(from: &str) -> Flow {
    Flow {
        transport: Transport::Udp,
        listener: ListenerId(0),
        local: NODE.parse().unwrap(),
        remote: from.parse().unwrap(),
        conn: None,
    }
}

/// A message over TLS from `from` to the node.
pub fn tls(from: &str) -> Flow {
    let (transport, listener, local) = (Transport::Tls, ListenerId(2), NODE_TLS.parse().unwrap());
    Flow { transport, listener, local, remote: from.parse().unwrap(), conn: Some(ConnId(9)) }
}

/// Line ends as on the wire.
pub fn crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

/// A new call. `n` makes Call-ID, tag and branch its own.
pub fn invite(n: u32) -> String {
    invite_with(n, "")
}

/// A new call with more header fields.
pub fn invite_with(n: u32, more: &str) -> String {
    crlf(&format!(
        "INVITE sip:dialog@{NODE};voicexml=http://vxml.example/start SIP/2.0\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK{n}i\n\
         Max-Forwards: 70\nFrom: <sip:+15550100@{CALLER}>;tag=from{n}\nTo: <sip:dialog@{NODE}>\nCall-ID: call{n}@caller\n\
         CSeq: 1 INVITE\nContact: <sip:caller@{CALLER}>\n{more}Content-Length: 0\n\n"
    ))
}

/// A request of the caller inside the dialog that `ok` (a 2xx at the caller) has made.
pub fn from_caller(n: u32, method: &str, cseq: u32, ok: &Sent) -> String {
    let mut routes: Vec<&str> = ok.all("Record-Route").iter().flat_map(|v| v.split(',')).collect();
    routes.reverse();
    let routes: String = routes.iter().map(|r| format!("Route: {r}\n")).collect();
    let contact = ok.header("Contact").trim_matches(['<', '>']);
    let verb = method.to_lowercase();
    crlf(&format!(
        "{method} {contact} SIP/2.0\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK{n}{verb}{cseq}\nMax-Forwards: 70\n{routes}\
         From: {}\nTo: {}\nCall-ID: {}\nCSeq: {cseq} {method}\nContent-Length: 0\n\n",
        ok.header("From"),
        ok.header("To"),
        ok.header("Call-ID"),
    ))
}

/// A request of the media server inside the dialog that the INVITE it received has made.
pub fn from_mcp(mcp: &str, method: &str, cseq: u32, invite: &Sent, tag: &str) -> String {
    let routes: String = invite.all("Record-Route").iter().map(|r| format!("Route: {r}\n")).collect();
    let contact = invite.header("Contact").trim_matches(['<', '>']);
    crlf(&format!(
        "{method} {contact} SIP/2.0\nVia: SIP/2.0/UDP {mcp};branch=z9hG4bKmcp{cseq}\nMax-Forwards: 70\n{routes}\
         From: {};tag={tag}\nTo: {}\nCall-ID: {}\nCSeq: {cseq} {method}\nContent-Length: 0\n\n",
        invite.header("To"),
        invite.header("From"),
        invite.header("Call-ID"),
    ))
}
