//! A whole node that speaks TLS.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;

use bytes::BytesMut;

use super::*;
use crate::base::limits;
use crate::runtime::secure::{Prepared, Secure};
use crate::runtime::servers::{self, Servers};
use crate::runtime::stats::Closed;
use crate::runtime::tls::testing::{Authority, Folder};
use crate::runtime::tls::{ClientSide, Clients, Handshake, Name, ServerSide, Session};

/// One end of a TLS connection.
struct End {
    socket: TcpStream,
    session: Session,
    plain: BytesMut,
}

impl End {
    /// Completes the handshake; what became of it.
    fn shake(socket: TcpStream, session: Session) -> Result<Self, Handshake> {
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut end = End { socket, session, plain: BytesMut::new() };
        while !end.session.is_open() {
            end.turn()?;
        }
        end.session.write(&mut end.socket).unwrap();
        Ok(end)
    }

    /// A client that wants `name` of whoever answers at `addr`.
    fn connect(client: &ClientSide, addr: SocketAddr, name: &str) -> Result<Self, Handshake> {
        let names = vec![Name::parse(name).unwrap()];
        Self::shake(TcpStream::connect(addr).unwrap(), client.session(names).unwrap())
    }

    /// Writes what waits, takes what comes.
    fn turn(&mut self) -> Result<(), Handshake> {
        self.session.write(&mut self.socket).unwrap();
        let mut octets = [0; 4096];
        let length = self.socket.read(&mut octets).map_err(|_| Handshake::Abandoned)?;
        if length == 0 {
            return Err(Handshake::Abandoned);
        }
        let taken = self.session.take(&octets[..length], &mut self.plain).map_err(|broken| broken.outcome);
        self.session.write(&mut self.socket).unwrap();
        taken.map(|_| ())
    }

    fn send(&mut self, text: &str) {
        self.session.put(text.as_bytes());
        self.session.write(&mut self.socket).unwrap();
    }

    /// Ends the connection; when it returns, the node knows.
    fn close(mut self) {
        self.session.close();
        self.session.write(&mut self.socket).unwrap();
        while self.turn().is_ok() {}
    }

    /// The next message; none of them has a body.
    fn receive(&mut self) -> String {
        loop {
            let text = String::from_utf8(self.plain.to_vec()).unwrap();
            if let Some(end) = text.find("\r\n\r\n") {
                let message = self.plain.split_to(end + 4);
                return String::from_utf8(message.to_vec()).unwrap();
            }
            self.turn().unwrap();
        }
    }

    fn await_message(&mut self, start: &str) -> String {
        std::iter::repeat_with(|| self.receive()).find(|text| text.starts_with(start)).unwrap()
    }
}

/// A CA, what the node presents, and a client that trusts the CA.
struct Trust {
    ca: Authority,
    own: Folder,
    client: ClientSide,
}

impl Trust {
    fn new() -> Self {
        let ca = Authority::founded();
        let own = Folder::new(&ca, &ca.issue(&["tandem.example", "127.0.0.1"]));
        let client = ClientSide::new(&Folder::new(&ca, &ca.issue(&["pbx.example"])).material());
        Self { ca, own, client }
    }

    /// A node with a listener of each transport; TLS is the last.
    fn world(&self, resources: &[SocketAddr], more: &str) -> World {
        let dir = state_dir();
        let settings = self.settings(resources, &dir, more);
        World { running: start_here(settings, small()).unwrap(), dir }
    }

    fn settings(&self, resources: &[SocketAddr], dir: &std::path::Path, more: &str) -> Settings {
        const LISTENERS: [&str; 3] = ["udp:127.0.0.1", "tcp:127.0.0.1", "tls:127.0.0.1"];
        settings_with(&LISTENERS, resources, dir, &format!("{more}{}", self.own.section()))
    }
}

fn accepted(world: &World, outcome: Handshake) -> u64 {
    world.running.io.handshakes_accepted[outcome as usize].get()
}

fn secure_request(method: &str, from: SocketAddr, call: &str) -> String {
    request(method, from, Transport::Tls, call)
        .replace(&format!("Contact: <sip:caller@{from}>"), &format!("Contact: <sip:caller@{from};transport=tls>"))
}

#[test]
fn a_call_over_tls_reaches_a_resource_on_udp() {
    let (trust, server) = (Trust::new(), udp("127.0.0.1:0"));
    let world = trust.world(&[server.local_addr().unwrap()], "");
    let mut caller = End::connect(&trust.client, world.addr(2), "tandem.example").unwrap();
    let from = caller.socket.local_addr().unwrap();
    caller.send(&secure_request("INVITE", from, "secure"));
    let (text, source) = await_message(&server, "INVITE");
    assert_eq!(source, world.addr(0));
    assert!(field(&text, "Via").starts_with(&format!("SIP/2.0/UDP {source};branch=z9hG4bK")), "{text}");
    // RFC 5658 §5: one for each side, the resource's first.
    let (first, second) = field(&text, "Record-Route").split_once(',').unwrap();
    assert!(first.starts_with(&format!("<sip:{source};lr;")), "{text}");
    assert!(second.starts_with(&format!("<sip:{};transport=tls;lr;", world.addr(2))), "{text}");
    let answer = response(&text, "200 OK", server.local_addr().unwrap());
    server.send_to(answer.as_bytes(), source).unwrap();
    let answer = caller.await_message("SIP/2.0 200");
    assert_eq!(field(&answer, "Call-ID"), "secure");
    assert!(field(&answer, "Via").starts_with("SIP/2.0/TLS "), "{answer}");
    assert_eq!((accepted(&world, Handshake::Done), world.running.node.gauges().legs), (1, 1));
    assert_eq!(world.running.io.stream_messages_in.get(), 1);
}

#[test]
fn a_resource_on_tls_must_prove_its_name() {
    let trust = Trust::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    let resource =
        format!("[[resource-group.resource]]\naor = \"sip:{addr};transport=tls\"\nport-capacity = \"unlimited\"\n");
    let world = trust.world(&[], &resource);
    let side = |name: &str| {
        let material = Folder::new(&trust.ca, &trust.ca.issue(&[name])).material();
        ServerSide::new(&material, &Clients::Known(vec![Name::parse("tandem.example").unwrap()])).unwrap()
    };
    let accept = |name: &str| End::shake(server.accept().unwrap().0, side(name).session().unwrap());
    let caller = udp("127.0.0.1:0");
    invite(&caller, world.addr(0), "proved");
    let mut end = accept("127.0.0.1").unwrap();
    let text = end.receive();
    assert!(text.starts_with("INVITE ") && field(&text, "Via").starts_with("SIP/2.0/TLS "), "{text}");
    assert!(field(&text, "Record-Route").contains(&format!("{};transport=tls;lr;", world.addr(2))), "{text}");
    end.send(&response(&text, "486 Busy Here", addr));
    await_message(&caller, "SIP/2.0 486");
    assert!(end.await_message("ACK").contains("CSeq: 1 ACK"), "on the same connection");
    end.close();
    // Another one has taken its place.
    invite(&caller, world.addr(0), "forged");
    let error = match accept("127.0.0.2") {
        Ok(mut end) => end.turn().err(),
        Err(error) => Some(error),
    };
    assert!(matches!(error, Some(Handshake::Refused | Handshake::Abandoned)), "{error:?}");
    // The only server is gone: the caller is told.
    let (answer, _) = await_message(&caller, "SIP/2.0 4");
    assert_eq!(field(&answer, "Call-ID"), "forged");
    let opened = |outcome: Handshake| world.running.io.handshakes_opened[outcome as usize].get();
    assert_eq!((opened(Handshake::Done), opened(Handshake::WrongName)), (1, 1));
}

#[test]
fn a_secure_uri_never_leaves_in_the_clear() {
    let (trust, server) = (Trust::new(), udp("127.0.0.1:0"));
    let world = trust.world(&[server.local_addr().unwrap()], "");
    let mut caller = End::connect(&trust.client, world.addr(2), "127.0.0.1").unwrap();
    let from = caller.socket.local_addr().unwrap();
    let text = secure_request("INVITE", from, "sips").replace("INVITE sip:", "INVITE sips:");
    caller.send(&text);
    assert!(caller.await_message("SIP/2.0 4").starts_with("SIP/2.0 480"), "no server is reached over TLS");
    caller.send(&secure_request("INVITE", from, "plain"));
    assert_eq!(field(&await_message(&server, "INVITE").0, "Call-ID"), "plain", "and the first one never came");
}

#[test]
fn a_reload_shows_the_new_certificate_to_new_connections_only() {
    let (trust, server) = (Trust::new(), udp("127.0.0.1:0"));
    let resources = [server.local_addr().unwrap()];
    let world = trust.world(&resources, "");
    let mut old = End::connect(&trust.client, world.addr(2), "tandem.example").unwrap();
    let end = world.running.io.certificate_not_after.load(Ordering::Relaxed);
    trust.own.present(&trust.ca.issue_with(&["renewed.example"], |params| {
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
    }));
    let plan = world.running.reload(trust.settings(&resources, &world.dir, "")).unwrap();
    let told: Vec<String> = plan.changes.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["the certificate is another one, good until 2090-01-01"]);
    assert_ne!(world.running.io.certificate_not_after.load(Ordering::Relaxed), end);
    let wrong = End::connect(&trust.client, world.addr(2), "tandem.example").err();
    assert_eq!(wrong, Some(Handshake::WrongName));
    let mut new = End::connect(&trust.client, world.addr(2), "renewed.example").unwrap();
    for (end, call) in [(&mut old, "old"), (&mut new, "new")] {
        let from = end.socket.local_addr().unwrap();
        end.send(&secure_request("OPTIONS", from, call));
        assert_eq!(field(&end.receive(), "Call-ID"), call);
    }
    // A file that cannot be used changes nothing.
    std::fs::write(trust.own.path("own.key"), "").unwrap();
    let error = world.running.reload(trust.settings(&resources, &world.dir, "")).unwrap_err().to_string();
    assert!(error.contains("holds no private key"), "{error}");
    End::connect(&trust.client, world.addr(2), "renewed.example").unwrap();
}

/// Row 38 of the faults: half-open TLS, TLS garbage.
#[test]
fn garbage_and_half_open_handshakes_are_counted_and_others_are_served() {
    let (trust, server) = (Trust::new(), udp("127.0.0.1:0"));
    let world = trust.world(&[server.local_addr().unwrap()], "");
    let connect = || {
        let socket = TcpStream::connect(world.addr(2)).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket
    };
    let silent: Vec<TcpStream> = (0..20).map(|_| connect()).collect();
    // A record that never ends.
    let half: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut socket = connect();
            socket.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).unwrap();
            socket
        })
        .collect();
    for garbage in [&b"OPTIONS sip:a@b SIP/2.0\r\n\r\n"[..], &[0; 64], &[0x16, 3, 1, 0, 5, 9, 9, 9, 9, 9]] {
        let mut socket = connect();
        socket.write_all(garbage).unwrap();
        let mut answer = Vec::new();
        match socket.read_to_end(&mut answer) {
            Ok(_) => assert!(answer.first().is_none_or(|kind| *kind == 21), "an alert or nothing: {answer:02x?}"),
            Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset),
        }
    }
    assert_eq!(accepted(&world, Handshake::Garbage), 3);
    let mut caller = End::connect(&trust.client, world.addr(2), "tandem.example").unwrap();
    caller.send(&secure_request("INVITE", caller.socket.local_addr().unwrap(), "meanwhile"));
    assert_eq!(field(&await_message(&server, "INVITE").0, "Call-ID"), "meanwhile");
    assert_eq!(accepted(&world, Handshake::Timeout), 0, "within {:?} all of this", limits::HANDSHAKE_DEADLINE);
    for mut socket in silent.into_iter().chain(half) {
        let _ = socket.read_to_end(&mut Vec::new());
    }
    assert_eq!(accepted(&world, Handshake::Timeout), 40);
    assert_eq!(world.running.io.streams_closed[Closed::Handshake as usize].get(), 43);
    assert_eq!((accepted(&world, Handshake::Done), world.running.io.panics.get()), (1, 0));
}

#[test]
fn who_must_show_a_certificate_and_has_none_of_ours_is_refused() {
    let (trust, server) = (Trust::new(), udp("127.0.0.1:0"));
    let dir = state_dir();
    let more = format!("{}client-certificate = \"require\"\npeer-names = [\"pbx.example\"]\n", trust.own.section());
    let settings = settings_with(&["udp:127.0.0.1", "tls:127.0.0.1"], &[server.local_addr().unwrap()], &dir, &more);
    let world = World { running: start_here(settings, small()).unwrap(), dir };
    let other = ClientSide::new(&Folder::new(&trust.ca, &trust.ca.issue(&["other.example"])).material());
    let mut refused = match End::connect(&other, world.addr(1), "tandem.example") {
        // With TLS 1.3 a client is done before the server has judged it.
        Ok(mut end) => end.turn().err(),
        Err(outcome) => Some(outcome),
    };
    assert!(matches!(refused.take(), Some(Handshake::Refused | Handshake::Abandoned)));
    assert_eq!(accepted(&world, Handshake::WrongName), 1);
    let mut known = End::connect(&trust.client, world.addr(1), "tandem.example").unwrap();
    known.send(&secure_request("OPTIONS", known.socket.local_addr().unwrap(), "known"));
    assert_eq!(field(&known.receive(), "Call-ID"), "known");
}

#[test]
fn the_name_of_a_server_that_left_the_file_is_still_expected_of_it() {
    let trust = Trust::new();
    let dir = state_dir();
    let with = |aor: &str, remote: &str| {
        let more = format!("[[resource-group.resource]]\naor = \"{aor};transport=tls\"\nport-capacity = 1\n");
        let settings = trust.settings(&[], &dir, &more);
        let servers = Servers::new(&settings, &servers::tests::farm(&[(aor, remote)]).1);
        (settings, servers)
    };
    let expected = |settings: &Settings, servers: &Servers| {
        let prepared = Prepared::new(settings, servers).unwrap().unwrap();
        let secure = Secure::new(prepared).unwrap();
        secure.expected([192, 0, 2, 7].into(), None).iter().map(Name::to_string).collect::<Vec<_>>()
    };
    let (settings, before) = with("sip:media.example", "192.0.2.7:5061");
    assert_eq!(expected(&settings, &before), ["media.example", "192.0.2.7"]);
    let (settings, after) = with("sip:other.example", "192.0.2.8:5061");
    assert_eq!(expected(&settings, &after), ["192.0.2.7"], "of a host that nobody has named");
    assert_eq!(expected(&settings, &after.succeed(&before, &HashSet::new())), ["media.example", "192.0.2.7"]);
}
