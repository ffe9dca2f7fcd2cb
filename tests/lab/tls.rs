//! SIP over TLS: who is believed, what a connection may be used for, what a reload and a flood do to those who call.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::rig::call::{self, Call};
use crate::rig::mcp::{self, Mcp};
use crate::rig::message::Message;
use crate::rig::node::{Metrics, NODE, Node, Setup};
use crate::rig::poll::{SOON, until_true};
use crate::rig::tcp::Tcp;
use crate::rig::tls::{Authority, Issued, Tls, TlsMcp, present};
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// The host that callers call from.
const CALLER: u8 = 100;

struct Field {
    world: World,
    ca: Authority,
    own: Issued,
    /// Where the node takes TLS.
    tls: SocketAddr,
}

impl Field {
    fn new(name: &str) -> Field {
        let (world, ca) = (World::beside(name), Authority::founded());
        let own = ca.issue(&[&world.ip(NODE).to_string()], 2090);
        let tls = world.addr(NODE, 5061);
        Field { world, ca, own, tls }
    }

    fn node(&self, setup: Setup, more: &str) -> Node {
        self.ca.setup(&self.world, setup, &self.own, more).start(&self.world)
    }

    fn connect(&self, host: u8, own: Option<&Issued>) -> Tls {
        Tls::connect(&self.ca, self.world.ip(host).into(), self.tls, own).expect("a handshake")
    }
}

fn handshakes(metrics: &Metrics, side: &str, outcome: &str) -> f64 {
    let of = |series: &str| series.contains(&format!("side=\"{side}\"")) && series.contains(outcome);
    let mine = |s: &&(&str, f64)| s.0.starts_with("tandem_tls_handshakes_total{") && of(s.0);
    metrics.series().filter(|s| mine(&s)).map(|(_, value)| value).sum()
}

/// A call that stands.
fn call(field: &Field, tls: &mut Tls) -> Call {
    let mut call = Call::over("TLS", tls.local(), field.tls);
    tls.send(call.invite());
    let answer = tls.expect("200", |m| m.call_id() == call.id && m.answers(200, "INVITE"));
    call.established(&answer);
    tls.send(call.ack());
    call
}

fn ask(tls: &mut Tls, call: &mut Call, method: &str) {
    tls.send(call.next(method));
    tls.expect(&format!("200 to {method}"), |m| m.call_id() == call.id && m.answers(200, method));
}

#[test]
fn a_call_goes_over_tls_to_servers_on_udp_and_on_tls() {
    let field = Field::new("tls-call");
    let open = Mcp::answering(field.world.addr(11, 5060));
    let at = field.world.addr(12, 5061);
    let secure = TlsMcp::answering(at, &field.ca.issue(&[&at.ip().to_string()], 2090));
    let setup = Setup::new(&field.world).members(&[open.at], "10");
    let node = field.node(setup.resource(&format!("sip:{at};transport=tls"), "port-capacity = 10"), "");
    let mut tls = field.connect(CALLER, None);
    for _ in 0..4 {
        let mut call = call(&field, &mut tls);
        ask(&mut tls, &mut call, "INFO");
        ask(&mut tls, &mut call, "BYE");
    }
    let invite = secure.wait_for("an INVITE", |m| m.asks("INVITE"));
    assert!(invite.top_via().starts_with(&format!("SIP/2.0/TLS {};branch=z9hG4bK", field.tls)), "{invite:?}");
    let routes = invite.all("record-route");
    assert!(routes.len() == 1 && routes[0].contains(&format!("sip:{};transport=tls;lr;", field.tls)), "{routes:?}");
    secure.wait_for("a BYE", |m| m.asks("BYE"));
    let invite = open.wait_for("an INVITE", |m| m.asks("INVITE")).message;
    let routes = invite.all("record-route");
    assert!(routes.len() == 2 && routes[1].contains(";transport=tls;lr;"), "{routes:?}");
    let metrics = node.metrics();
    assert_eq!((handshakes(&metrics, "server", "done"), handshakes(&metrics, "client", "done")), (1.0, 1.0));
    assert_eq!(metrics.sum("tandem_tls_certificate_not_after_timestamp_seconds"), 3_786_912_000.0);
    node.assert_empty();
}

#[test]
fn a_server_that_proves_another_name_gets_no_call_and_an_operator_is_told_once() {
    let field = Field::new("tls-name");
    let at = field.world.addr(12, 5061);
    let false_one = TlsMcp::answering(at, &field.ca.issue(&["other.example.com"], 2090));
    let open = Mcp::answering(field.world.addr(11, 5060));
    let setup =
        Setup::new(&field.world).members(&[], "10").resource(&format!("sip:{at};transport=tls"), "port-capacity = 10");
    let node = field.node(setup.resource(&format!("sip:{}", open.at), "port-capacity = 10"), "");
    let udp = Udp::bind(field.world.addr(CALLER, 5060));
    for _ in 0..3 {
        let call = Call::new(udp.at, node.sip);
        udp.send(node.sip, call.invite());
        udp.expect("200", |m| m.call_id() == call.id && m.answers(200, "INVITE"));
    }
    assert_eq!(open.requests("INVITE").len(), 3);
    assert!(false_one.seen().is_empty(), "not one message reached it");
    assert!(handshakes(&node.metrics(), "client", "wrong_name") >= 1.0);
    let told: Vec<String> = node.log().lines().filter(|l| l.contains("TLS to")).map(str::to_owned).collect();
    assert!(told.len() == 1 && told[0].contains("WARN") && told[0].contains(&at.ip().to_string()), "{told:#?}");
}

/// A media server on UDP whose call the test plays by hand: answers the INVITE, later sends a BYE of its own.
fn bye_of_the_server(server: &Udp, node: SocketAddr, invite: &Message) {
    let routes: String = invite.all("record-route").iter().map(|r| format!("Route: {r}\r\n")).collect();
    let bye = format!(
        "BYE {} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKbye\r\nMax-Forwards: 70\r\n{routes}From: {};tag=mcp\r\n\
         To: {}\r\nCall-ID: {}\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n",
        call::between(invite.one("contact")),
        server.at,
        invite.one("to"),
        invite.one("from"),
        invite.call_id(),
    );
    server.send(node, bye);
}

#[test]
fn an_alias_is_honoured_where_it_is_authenticated_and_ignored_where_not() {
    let field = Field::new("tls-alias");
    let server = Udp::bind(field.world.addr(11, 5060));
    let node = field.node(
        Setup::new(&field.world).members(&[server.at], "10"),
        "client-certificate = \"request\"\npeer-names = [\"pbx.example.com\"]",
    );
    let own = field.ca.issue(&["pbx.example.com"], 2090);
    for (host, shown, reused) in [(CALLER, Some(&own), true), (CALLER + 1, None, false)] {
        let mut tls = field.connect(host, shown);
        // Nobody listens there: only the connection that is open leads to the caller.
        let listens = SocketAddr::new(tls.local().ip(), 5071);
        let mut call = Call::over("TLS", listens, field.tls);
        tls.send(call.invite().replace(";rport", ";alias"));
        let invite = server.expect("an INVITE", |m| m.asks("INVITE") && m.call_id() == call.id);
        server.send(node.sip, mcp::reply(&invite, server.at, 200));
        call.established(&tls.expect("200", |m| m.answers(200, "INVITE")));
        tls.send(call.ack());
        server.expect("an ACK", |m| m.asks("ACK") && m.call_id() == call.id);
        bye_of_the_server(&server, node.sip, &invite);
        if reused {
            let bye = tls.expect("a BYE on the connection that is open", |m| m.asks("BYE"));
            tls.send(mcp::reply(&bye, listens, 200));
            server.expect("200 to the BYE", |m| m.answers(200, "BYE"));
        } else {
            server.expect("500 to the BYE", |m| m.answers(500, "BYE"));
            assert!(tls.message(Duration::from_millis(200)).is_none(), "nothing on a connection that proves nothing");
        }
    }
    let metrics = node.metrics();
    assert_eq!((metrics.sum("tandem_tls_aliases_total"), metrics.sum("tandem_streams_unreachable_total")), (1.0, 1.0));
    node.assert_empty();
}

#[test]
fn who_must_prove_a_name_and_does_not_gets_no_connection() {
    let field = Field::new("tls-mutual");
    let server = Mcp::answering(field.world.addr(11, 5060));
    let more = "client-certificate = \"require\"\npeer-names = [\"pbx.example.com\"]";
    let node = field.node(Setup::new(&field.world).members(&[server.at], "10"), more);
    let stranger = Authority::founded().issue(&["pbx.example.com"], 2090);
    for (own, outcome) in [
        (None, "no_certificate"),
        (Some(stranger), "bad_certificate"),
        (Some(field.ca.issue(&["pbx.example.com.evil.example"], 2090)), "wrong_name"),
        (Some(field.ca.issue(&["*.example.com"], 2090)), "wrong_name"),
    ] {
        let before = handshakes(&node.metrics(), "server", outcome);
        // TLS 1.3: the client has finished before the server has judged.
        if let Ok(mut tls) = Tls::connect(&field.ca, field.world.ip(CALLER).into(), field.tls, own.as_ref()) {
            tls.send(call::options(tls.local(), field.tls, 1));
            assert!(tls.message(SOON).is_none() && tls.closed, "{outcome}");
        }
        node.until(outcome, |m| handshakes(m, "server", outcome) == before + 1.0);
    }
    assert_eq!(server.count(), 0);
    let mut known = field.connect(CALLER, Some(&field.ca.issue(&["PBX.example.com"], 2090)));
    call(&field, &mut known);
}

#[test]
fn a_reload_shows_a_new_certificate_and_keeps_connections_and_refuses_broken_files() {
    let field = Field::new("tls-reload");
    let server = Mcp::answering(field.world.addr(11, 5060));
    let node = field.node(Setup::new(&field.world).members(&[server.at], "10"), "");
    let mut old = field.connect(CALLER, None);
    let mut lives = call(&field, &mut old);
    let renewed = field.ca.issue(&[&field.world.ip(NODE).to_string()], 2091);
    present(&field.world, &renewed);
    node.process.signal("HUP");
    let end = "tandem_tls_certificate_not_after_timestamp_seconds";
    node.until("the new certificate", |m| m.sum(end) == 3_818_448_000.0);
    until_true("its last day in the log", SOON, || node.log().contains("good until 2091-01-01"));
    let mut new = field.connect(CALLER, None);
    assert_ne!(new.certificate(), old.certificate());
    ask(&mut old, &mut lives, "INFO");
    call(&field, &mut new);
    field.world.write("own.pem", "no certificate");
    node.process.signal("HUP");
    node.until("a refused reload", |m| m.labelled("tandem_reloads_total", "refused") == 1.0);
    until_true("its reason with line and cure", SOON, || node.log().contains("`certificate` in [tls]"));
    assert_eq!(field.connect(CALLER, None).certificate(), new.certificate());
    ask(&mut old, &mut lives, "BYE");
}

#[test]
fn half_open_handshakes_and_garbage_keep_nobody_out() {
    let field = Field::new("tls-flood");
    let server = Mcp::answering(field.world.addr(11, 5060));
    let node = field.node(Setup::new(&field.world).members(&[server.at], "1000"), "");
    let mut known = field.connect(CALLER, None);
    let mut lives = call(&field, &mut known);
    let mut silent: Vec<Tcp> = Vec::new();
    for n in 0..2_400_u32 {
        let from = field.world.ip(200 + u8::try_from(n % 4).expect("four")).into();
        let Ok(mut tcp) = Tcp::try_connect(from, field.tls) else { continue };
        match n % 6 {
            0 => tcp.send("OPTIONS sip:a@b SIP/2.0\r\n\r\n"),
            // The head of a handshake record, and nothing more.
            1 => tcp.send([0x16, 3, 1, 2, 0, 1]),
            _ => {}
        }
        silent.push(tcp);
        if n % 400 == 0 {
            ask(&mut known, &mut lives, "INFO");
            call(&field, &mut field.connect(CALLER, None));
        }
    }
    // The first 1,200 leave 1,000 that shake hands for ever: then the hosts of the flood get no further ones.
    let metrics = node.until("garbage counted", |m| handshakes(m, "server", "garbage") >= 200.0);
    assert!(metrics.sum("tandem_streams") <= 10_000.0);
    node.until("all of them closed", |m| m.sum("tandem_streams") <= 10.0);
    assert!(silent.iter_mut().all(|tcp| tcp.closes_within(SOON)), "the deadline of a handshake is 3 s");
    ask(&mut known, &mut lives, "BYE");
    assert_eq!(node.metrics().sum("tandem_panics_total"), 0.0);
}

#[test]
fn openssl_is_answered() {
    let field = Field::new("tls-openssl");
    let server = Mcp::answering(field.world.addr(11, 5060));
    let _node = field.node(Setup::new(&field.world).members(&[server.at], "10"), "");
    for version in ["-tls1_2", "-tls1_3"] {
        let ca = field.world.path("ca.pem");
        let client = Command::new("openssl")
            .args(["s_client", "-quiet", "-verify_return_error", version, "-connect", &field.tls.to_string()])
            .arg("-CAfile")
            .arg(ca)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut client) = client else {
            println!("openssl: ABSENT");
            return;
        };
        let me = field.world.addr(CALLER, 5060);
        let question = call::options(me, field.tls, 7).replace("SIP/2.0/UDP", "SIP/2.0/TLS");
        let mut stdin = client.stdin.take().expect("a pipe");
        stdin.write_all(question.as_bytes()).expect("a reader");
        let mut answer = vec![0; 15];
        std::io::Read::read_exact(client.stdout.as_mut().expect("a pipe"), &mut answer).expect("an answer");
        assert_eq!(String::from_utf8_lossy(&answer), "SIP/2.0 200 OK\r", "{version}");
        drop(stdin);
        client.kill().expect("a child");
        client.wait().expect("a child");
    }
}
