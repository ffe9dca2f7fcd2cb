//! Who is heard after a reload.

use std::net::IpAddr;

use socket2::{Domain, Socket, Type};

use super::*;

/// What a server that took this INVITE says when it hangs up first.
fn bye(invite: &str, server: SocketAddr) -> String {
    let caller = field(invite, "Contact").trim_matches(['<', '>']);
    let mut text =
        format!("BYE {caller} SIP/2.0\r\nVia: SIP/2.0/UDP {server};branch=z9hG4bKbye\r\nMax-Forwards: 70\r\n");
    for route in invite.lines().filter_map(|l| l.strip_prefix("Record-Route: ")) {
        text += &format!("Route: {route}\r\n");
    }
    let (from, to, call) = (field(invite, "From"), field(invite, "To"), field(invite, "Call-ID"));
    text + &format!("From: {to};tag=s\r\nTo: {from}\r\nCall-ID: {call}\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n")
}

fn stream_from(host: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(host, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

#[test]
fn a_server_that_left_the_file_hangs_up_and_keeps_its_streams() {
    let [old, new, caller] = ["127.0.0.3:0", "127.0.0.5:0", "127.0.0.9:0"].map(udp);
    let of = |server: &UdpSocket, dir: &std::path::Path| {
        let listeners = ["udp:127.0.0.1", "tcp:127.0.0.1"];
        let mut settings = settings(&listeners, &[server.local_addr().unwrap()], dir);
        settings.allow_from = allow_from("\"127.0.0.9\"");
        settings
    };
    let dir = state_dir();
    let world = World { running: start_here(of(&old, &dir), small()).unwrap(), dir };
    let (at, node) = (old.local_addr().unwrap(), world.addr(0));
    let mut stream = stream_from(at.ip(), world.addr(1));
    invite(&caller, node, "drains");
    let (text, _) = await_message(&old, "INVITE");
    old.send_to(response(&text, "200 OK", at).as_bytes(), node).unwrap();
    await_message(&caller, "SIP/2.0 200");

    world.running.reload(of(&new, &world.dir)).unwrap();
    old.send_to(bye(&text, at).as_bytes(), node).unwrap();
    let (heard, _) = await_message(&caller, "BYE ");
    assert_eq!(field(&heard, "Call-ID"), "drains");
    let text = request("OPTIONS", stream.local_addr().unwrap(), Transport::Tcp, "stream");
    stream.write_all(text.as_bytes()).unwrap();
    assert!(stream.read(&mut [0; 4096]).unwrap() > 0, "its stream lives");
    assert_eq!(world.running.io.stranger_datagrams.get(), 0);
}

#[test]
fn a_server_without_calls_is_a_stranger_one_reload_later() {
    let [old, new, caller] = ["127.0.0.3:0", "127.0.0.5:0", "127.0.0.9:0"].map(udp);
    let of = |server: &UdpSocket, dir: &std::path::Path| {
        let mut settings = settings(&["udp:127.0.0.1"], &[server.local_addr().unwrap()], dir);
        settings.allow_from = allow_from("\"127.0.0.9\"");
        settings
    };
    let dir = state_dir();
    let world = World { running: start_here(of(&old, &dir), small()).unwrap(), dir };
    for _ in 0..2 {
        world.running.reload(of(&new, &world.dir)).unwrap();
    }
    for from in [&old, &caller] {
        let text = request("OPTIONS", from.local_addr().unwrap(), Transport::Udp, "ask");
        from.send_to(text.as_bytes(), world.addr(0)).unwrap();
    }
    assert_eq!(field(&receive(&caller).0, "Call-ID"), "ask");
    assert_eq!(world.running.io.stranger_datagrams.get(), 1);
}
