//! TLS and SIPS by transcript (RFC 3261 §16.3, §16.6, §18.2.2, §26.2.2): every hop of a SIPS request is a secure one, a
//! call in the clear may use one, and nothing is ever moved from TLS to less.

use std::time::Duration;

use tandem::base::Transport;

use super::world::{Bend, CALLER, MCPS, Sent, World, from_caller, from_mcp, invite, tls, udp};

/// Where the caller connects from; its sent-by names its own listener.
const FROM: &str = "192.0.2.9:40001";
const CONTACT: &str = "Contact: <sip:mcp@198.51.100.1:5060;transport=tls>\r\n";

fn world(members: usize, secure: usize) -> World {
    World::bent(Bend { members, secure: Some(secure), ..Bend::default() })
}

/// The INVITE as a caller over TLS sends it.
fn over_tls(n: u32) -> String {
    let text = invite(n).replace("SIP/2.0/UDP", "SIP/2.0/TLS").replace("192.0.2.9:5060;branch", "192.0.2.9;branch");
    text.replace("caller@192.0.2.9:5060>", "caller@192.0.2.9;transport=tls>")
}

/// The same with a SIPS Request-URI and Contact.
fn sips(n: u32) -> String {
    over_tls(n)
        .replace("INVITE sip:dialog@192.0.2.1:5060", "INVITE sips:dialog@192.0.2.1:5061")
        .replace("<sip:caller@192.0.2.9;transport=tls>", "<sips:caller@192.0.2.9>")
}

fn transports(sent: &[Sent]) -> Vec<Transport> {
    sent.iter().map(|s| s.flow.transport).collect()
}

#[test]
fn a_caller_over_tls_and_a_server_over_udp_each_keep_their_side() {
    let mut world = world(1, 0);
    let sent = world.receive_over(tls(FROM), &over_tls(1));
    assert_eq!(transports(&sent), [Transport::Udp, Transport::Tls]);
    let (out, inn) = sent[0].header("Record-Route").split_once(',').unwrap();
    assert!(out.starts_with("<sip:192.0.2.1:5060;lr;tk="), "{out}");
    assert!(inn.starts_with("<sip:192.0.2.1:5061;transport=tls;lr;tk="), "{inn}");
    assert_eq!((sent[1].flow.conn, sent[1].status()), (tls(FROM).conn, 100));
    // §18.2.2: where the connection is gone, sent-by has the port of TLS.
    assert_eq!(sent[1].to(), "192.0.2.9:5061");
    let ok = world.receive(MCPS[0], &sent[0].answer("200 OK", "m", "Contact: <sip:mcp@198.51.100.1:5060>\r\n"));
    let bye = from_caller(1, "BYE", 2, &ok[0]).replace("SIP/2.0/UDP", "SIP/2.0/TLS");
    let bye = world.receive_over(tls(FROM), &bye)[0].clone();
    assert_eq!((bye.to(), bye.flow.transport), (MCPS[0].into(), Transport::Udp));
    let info = world.receive(MCPS[0], &from_mcp(MCPS[0], "INFO", 1, &sent[0], "m"))[0].clone();
    assert_eq!((info.to(), info.flow.transport), ("192.0.2.9:5061".into(), Transport::Tls));
    assert!(info.header("Via").starts_with("SIP/2.0/TLS 192.0.2.1:5061;branch=z9hG4bK"), "{}", info.text);
}

#[test]
fn a_call_in_the_clear_may_be_served_over_tls() {
    let mut world = world(1, 1);
    let sent = world.receive(CALLER, &invite(1));
    assert_eq!(transports(&sent), [Transport::Tls, Transport::Udp]);
    assert!(sent[0].start_line().starts_with("INVITE sip:dialog@198.51.100.1:5060;"), "{}", sent[0].text);
    assert!(sent[0].header("Via").starts_with("SIP/2.0/TLS 192.0.2.1:5061;branch="));
    assert!(sent[0].header("Record-Route").starts_with("<sip:192.0.2.1:5061;transport=tls;lr;tk="));
    let before = world.stats().calls.retransmissions_sent;
    world.pass(Duration::from_millis(1_900));
    assert_eq!(world.stats().calls.retransmissions_sent, before, "TLS is reliable: no Timer A");
    let ok = world.receive_over(tls(MCPS[0]), &sent[0].answer("200 OK", "m", CONTACT))[0].clone();
    assert_eq!((ok.to(), ok.flow.transport), (CALLER.into(), Transport::Udp));
    let ack = world.receive(CALLER, &from_caller(1, "ACK", 1, &ok))[0].clone();
    assert_eq!((ack.to(), ack.flow.transport), (MCPS[0].into(), Transport::Tls));
}

#[test]
fn sips_takes_secure_members_only_and_stays_sips() {
    let mut world = world(3, 1);
    for n in 1..=3 {
        let sent = world.receive_over(tls(FROM), &sips(n));
        assert_eq!((sent[0].to(), sent[0].flow.transport), (MCPS[2].into(), Transport::Tls), "call {n}");
        assert!(sent[0].start_line().starts_with("INVITE sips:dialog@198.51.100.3:5060;"), "{}", sent[0].text);
        let route = sent[0].header("Record-Route");
        assert!(route.starts_with("<sips:192.0.2.1:5061;lr;tk=") && !route.contains(','), "{route}");
        // The only secure one has failed: no other is asked.
        let failed = world.receive_over(tls(MCPS[2]), &sent[0].answer("500 Server Error", "m", ""));
        assert!(failed.iter().all(|s| s.to() != MCPS[0] && s.to() != MCPS[1]), "{failed:#?}");
    }
}

#[test]
fn sips_without_a_secure_member_is_refused_and_never_downgraded() {
    let mut world = world(3, 0);
    let sent = world.receive_over(tls(FROM), &sips(1));
    assert_eq!((sent.len(), sent[0].status(), sent[0].flow.transport), (1, 480, Transport::Tls), "RFC 5630 §5.3");
}

#[test]
fn sips_without_tls_is_a_scheme_that_is_not_served() {
    let mut world = World::new();
    let text = invite(1).replace("INVITE sip:dialog@", "INVITE sips:dialog@");
    assert_eq!(world.receive(CALLER, &text)[0].status(), 416);
}

#[test]
fn sips_in_the_clear_goes_on_securely_on_both_sides() {
    let mut world = world(1, 1);
    let text = invite(1).replace("INVITE sip:dialog@", "INVITE sips:dialog@");
    let sent = world.receive_over(udp(CALLER), &text);
    assert_eq!(transports(&sent), [Transport::Tls, Transport::Udp]);
    let route = sent[0].header("Record-Route");
    assert!(route.starts_with("<sips:192.0.2.1:5061;lr;tk=") && !route.contains("sip:"), "§16.6 item 4: {route}");
}

#[test]
fn a_sips_target_makes_every_hop_of_a_dialog_secure() {
    let mut world = world(1, 1);
    let sent = world.receive_over(tls(FROM), &sips(1));
    let contact = "Contact: <sips:mcp@198.51.100.1:5060>\r\n";
    let ok = world.receive_over(tls(MCPS[0]), &sent[0].answer("200 OK", "m", contact))[0].clone();
    let bye = from_caller(1, "BYE", 2, &ok).replace("SIP/2.0/UDP", "SIP/2.0/TLS");
    // A proxy behind us whose Route asks for less is reached over TLS all the same (§16.6 item 7).
    let route = "Route: <sip:198.51.100.1:5060;transport=udp;lr>\r\nFrom:";
    let routed = world.receive_over(tls(FROM), &bye.replacen("From:", route, 1))[0].clone();
    assert_eq!((routed.to(), routed.flow.transport), (MCPS[0].into(), Transport::Tls));
    assert!(routed.start_line().starts_with("BYE sips:mcp@198.51.100.1:5060"), "{}", routed.text);
    assert_eq!(routed.all("Route"), ["<sip:198.51.100.1:5060;transport=udp;lr>"]);
    let info = from_mcp(MCPS[0], "INFO", 1, &sent[0], "m").replace("SIP/2.0/UDP", "SIP/2.0/TLS");
    let info = world.receive_over(tls(MCPS[0]), &info)[0].clone();
    assert_eq!((info.to(), info.flow.transport), ("192.0.2.9:5061".into(), Transport::Tls));
}

#[test]
fn a_name_over_tls_is_left_to_the_driver_with_its_port() {
    let mut world = world(1, 0);
    let text = over_tls(1).replace("caller@192.0.2.9;transport=tls>", "caller@pbx.example.com;transport=tls>");
    let sent = world.receive_over(tls(FROM), &text);
    world.receive(MCPS[0], &sent[0].answer("200 OK", "m", "Contact: <sip:mcp@198.51.100.1:5060>\r\n"));
    let bye = world.receive(MCPS[0], &from_mcp(MCPS[0], "BYE", 1, &sent[0], "m"))[0].clone();
    assert_eq!((bye.name.as_deref(), bye.flow.transport), (Some("pbx.example.com"), Transport::Tls));
    assert_eq!(bye.flow.remote.port(), 5061, "§19.1.2");
}

#[test]
fn a_stray_response_goes_back_over_tls_to_its_port() {
    let mut world = world(1, 0);
    let sent = world.receive_over(tls(FROM), &over_tls(1));
    let ok = world.receive(MCPS[0], &sent[0].answer("200 OK", "m", "Contact: <sip:mcp@198.51.100.1:5060>\r\n"));
    let info = from_caller(1, "INFO", 2, &ok[0]).replace("UDP 192.0.2.9:5060", "TLS 192.0.2.9");
    let info = world.receive_over(tls(FROM), &info)[0].clone();
    // A node that was restarted knows no transaction; the branch is ours.
    let mut next = World::bent(Bend { members: 1, secure: Some(0), epoch: 2, ..Bend::default() });
    let late = next.receive(MCPS[0], &info.answer("200 OK", "", ""))[0].clone();
    assert_eq!((late.to(), late.flow.transport), ("192.0.2.9:5061".into(), Transport::Tls));
}
