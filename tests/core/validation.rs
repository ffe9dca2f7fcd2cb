//! RFC 3261 §16.3 and §16.4 by transcript: what is refused, with which status, and what strict routers do to a request.

use super::world::{CALLER, MCPS, Sent, World, from_caller, invite, invite_with};

fn refused(text: &str) -> (u16, Sent) {
    let mut world = World::new();
    let sent = world.receive(CALLER, text);
    assert_eq!((sent.len(), sent[0].to()), (1, CALLER.into()));
    assert_eq!((world.gauges().grants, world.gauges().server_transactions), (0, 0), "nothing is kept");
    (sent[0].status(), sent[0].clone())
}

#[test]
fn each_check_has_its_status() {
    let invite1 = invite(1);
    assert_eq!(refused(&invite1.replace("INVITE sip:dialog@", "INVITE sips:dialog@")).0, 416);
    assert_eq!(
        refused(
            &invite1.replace("INVITE sip:dialog@192.0.2.1:5060;voicexml=http://vxml.example/start", "INVITE tel:+1555")
        )
        .0,
        416
    );
    assert_eq!(refused(&invite1.replace("Max-Forwards: 70", "Max-Forwards: 0")).0, 483);
    assert_eq!(refused(&invite_with(1, "Max-Breadth: 0\n")).0, 440);
    let (status, sent) = refused(&invite1.replace("INVITE", "REGISTER"));
    assert_eq!((status, sent.header("Allow")), (405, "INVITE, ACK, CANCEL, BYE, OPTIONS"));
    assert_eq!(refused(&invite1.replace("INVITE", "FROBNICATE")).0, 501);
    assert_eq!(refused(&invite1.replace("INVITE", "BYE")).0, 405);
    let (status, sent) = refused(&invite_with(1, "Proxy-Require: foo, bar\n"));
    assert_eq!((status, sent.header("Unsupported")), (420, "foo, bar"));
}

#[test]
fn a_request_that_comes_back_unchanged_is_a_loop_and_a_changed_one_a_spiral() {
    let mut world = World::new();
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    let back = placed.text.replace("sip:dialog@198.51.100.1:5060;", "sip:dialog@192.0.2.1:5060;");
    let looped = world.receive(MCPS[0], &back);
    assert_eq!((looped.len(), looped[0].status()), (1, 482));
    let spiral = back.replace("sip:dialog@192.0.2.1:5060;", "sip:other@192.0.2.1:5060;");
    assert_eq!(world.receive(MCPS[0], &spiral)[0].to(), MCPS[1]);
}

#[test]
fn a_preloaded_route_that_names_us_is_popped() {
    let mut world = World::new();
    let sent = world.receive(CALLER, &invite_with(1, "Route: <sip:192.0.2.1:5060;lr>\n"));
    assert!(sent[0].all("Route").is_empty());
    assert_eq!(sent[0].to(), MCPS[0]);
}

#[test]
fn a_strict_router_before_us_gets_its_request_uri_back() {
    let mut world = World::new();
    let (_, ok) = super::calls::answered(&mut world, 1);
    let own = ok.header("Record-Route").trim_matches(['<', '>']).to_owned();
    let bye = from_caller(1, "BYE", 2, &ok);
    let strict = bye.replacen("BYE sip:mcp@198.51.100.1:5060", &format!("BYE {own}"), 1);
    let strict = strict.replace(&format!("Route: <{own}>"), "Route: <sip:mcp@198.51.100.1:5060>");
    let sent = world.receive(CALLER, &strict);
    assert_eq!((sent[0].start_line(), sent[0].to()), ("BYE sip:mcp@198.51.100.1:5060 SIP/2.0", MCPS[0].into()));
    assert!(sent[0].all("Route").is_empty());
}

#[test]
fn a_strict_router_behind_us_is_addressed_by_the_request_uri() {
    let mut world = World::new();
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    let answer = placed.answer("200 OK", "m", "Contact: <sip:mcp@198.51.100.77:5060>\r\n");
    let answer = answer.replacen("Record-Route:", "Record-Route: <sip:198.51.100.1:5060>\r\nRecord-Route:", 1);
    let ok = world.receive(MCPS[0], &answer)[0].clone();
    let sent = world.receive(CALLER, &from_caller(1, "BYE", 2, &ok));
    assert_eq!((sent[0].start_line(), sent[0].to()), ("BYE sip:198.51.100.1:5060 SIP/2.0", MCPS[0].into()));
    assert_eq!(sent[0].all("Route"), ["<sip:mcp@198.51.100.77:5060>"]);
}

#[test]
fn the_true_source_is_stamped_and_answered() {
    let mut world = World::new();
    let asked = invite(1).replace("192.0.2.9:5060;branch", "10.9.9.9:5060;rport;branch");
    let sent = world.receive("192.0.2.9:1024", &asked);
    assert!(sent[0].all("Via")[1].contains("received=192.0.2.9") && sent[0].all("Via")[1].contains("rport=1024"));
    assert_eq!(sent[1].to(), "192.0.2.9:1024", "RFC 3581 §4");
    let plain = invite(2).replace("192.0.2.9:5060;branch", "10.9.9.9:5070;branch");
    assert_eq!(world.receive("192.0.2.9:1024", &plain)[1].to(), "192.0.2.9:5070", "§18.2.2");
}

#[test]
fn an_rfc_2543_call_is_matched_by_the_older_rule() {
    let mut world = World::new();
    let old = invite(1).replace(";branch=z9hG4bK1i", "");
    let placed = world.receive(CALLER, &old)[0].clone();
    assert_eq!(world.receive(CALLER, &old)[0].start_line(), "SIP/2.0 100 Trying");
    let refused = world.receive(MCPS[0], &placed.answer("486 Busy Here", "busy", ""));
    assert_eq!(refused[1].status(), 486);
    let ack = old
        .replace("INVITE", "ACK")
        .replace("To: <sip:dialog@192.0.2.1:5060>", "To: <sip:dialog@192.0.2.1:5060>;tag=busy");
    assert!(world.receive(CALLER, &ack).is_empty());
    assert!(world.pass(std::time::Duration::from_secs(3)).is_empty(), "the ACK was matched");
}

#[test]
fn nothing_is_sent_to_addresses_that_are_nobody() {
    let mut world = World::new();
    for addr in ["255.255.255.255", "0.0.0.0", "224.0.1.75"] {
        let (_, ok) = super::calls::answered(&mut world, 1);
        let text =
            from_caller(1, "INFO", 2, &ok).replace("INFO sip:mcp@198.51.100.1:5060", &format!("INFO sip:mcp@{addr}"));
        assert!(world.receive(CALLER, &text).iter().all(|s| s.to() == CALLER), "{addr}");
        world = World::new();
    }
}
