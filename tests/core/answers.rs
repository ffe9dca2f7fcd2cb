//! Edits on the way out, and answers: to what parsed and to what did not.

use std::net::SocketAddr;

use tandem::sip::{Edits, Index, Malformed, Message, Name, Reply, Span, reason_phrase, refuse, stamp_source};

use crate::parse::invite;

fn edited(octets: &[u8], edit: impl FnOnce(&Message<'_>, &mut Edits)) -> String {
    let mut index = Index::new();
    index.parse(octets).unwrap();
    let message = index.message(octets);
    let mut edits = Edits::new();
    edit(&message, &mut edits);
    let mut out = b"kept:".to_vec();
    edits.write(&message, &mut out);
    String::from_utf8(out).unwrap().strip_prefix("kept:").unwrap().to_owned()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

fn source() -> SocketAddr {
    "203.0.113.5:40000".parse().unwrap()
}

#[test]
fn no_edit_changes_nothing() {
    let octets = invite(&["Subject: a\r\n\t b"]);
    assert_eq!(edited(&octets, |_, _| {}), text(&octets));
    let excess = [&octets[..], b"excess"].concat();
    assert_eq!(edited(&excess, |_, _| {}), text(&octets), "octets behind the body do not leave");
}

#[test]
fn edits_are_written_in_order_of_place() {
    let octets = invite(&[]);
    let out = edited(&octets, |message, edits| {
        let hops = message.span(message.header(Name::MaxForwards).unwrap().value);
        edits.replace(hops).number(69);
        edits.insert(message.header_end()).push(b"X: 1\r\n");
        edits.insert(message.header_end()).push(b"Y: ").number(u64::MAX).push(b"\r\n");
        edits.insert(message.start_span().end).push(b"Via: new\r\n");
        edits.remove(message.header(Name::Contact).unwrap().line);
        edits.replace(message.span(message.request_uri())).push(b"sip:mcp");
        edits.insert(hops.start).push(b"0");
    });
    let expected = text(&octets)
        .replace("sip:ivr@rm.example.net SIP/2.0\r\n", "sip:mcp SIP/2.0\r\nVia: new\r\n")
        .replace("Max-Forwards: 70", "Max-Forwards: 069")
        .replace("Contact: <sip:caller@192.0.2.9:5060>\r\n", "")
        .replace("\r\n\r\n", "\r\nX: 1\r\nY: 18446744073709551615\r\n\r\n");
    assert_eq!(out, expected);
}

#[test]
fn edits_are_reusable_and_overlaps_do_no_harm() {
    let octets = invite(&[]);
    let mut index = Index::new();
    index.parse(&octets).unwrap();
    let message = index.message(&octets);
    let mut edits = Edits::new();
    edits.remove(Span { start: 0, end: 60 });
    edits.replace(Span { start: 10, end: 20 }).push(b"x");
    edits.remove(Span { start: 50, end: u16::MAX });
    let mut out = Vec::new();
    edits.write(&message, &mut out);
    edits.clear();
    out.clear();
    edits.write(&message, &mut out);
    assert_eq!(out, octets);
}

#[test]
fn the_first_values_of_a_list_are_removed_across_fields() {
    let octets = invite(&["Route: <sip:1>, <sip:2>", "Subject: s", "route: <sip:3> ,\r\n <sip:4>;x=\",\""]);
    let routes = |count| {
        let out = edited(&octets, |message, edits| edits.remove_values(message, Name::Route, count));
        let lines = out.split("\r\n").filter(|line| line.to_lowercase().starts_with("route"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(routes(0), ["Route: <sip:1>, <sip:2>", "route: <sip:3> ,"]);
    assert_eq!(routes(1), ["Route: <sip:2>", "route: <sip:3> ,"]);
    assert_eq!(routes(2), ["route: <sip:3> ,"]);
    assert_eq!(routes(3), ["route: <sip:4>;x=\",\""]);
    assert!(routes(4).is_empty());
    assert!(routes(9).is_empty());
}

/// The topmost Via of `via` from `source`, stamped by an edit; the stamp in a reply is the same.
fn stamped(via: &str, source: &str) -> String {
    let octets = invite(&[&format!("Via: {via}")]);
    let source = source.parse().unwrap();
    let out = edited(&octets, |message, edits| stamp_source(edits, message, source));
    let line = |text: &str| text.split("\r\n").find(|line| line.starts_with("Via: ")).unwrap()[5..].to_owned();
    assert_eq!(line(&out), line(&reply(&octets, 200, source)));
    assert_eq!(out.replace(&line(&out), via), text(&octets), "nothing else is touched");
    line(&out)
}

#[test]
fn the_true_source_is_stamped() {
    let v4 = "203.0.113.5:40000";
    for (via, source, expected) in [
        ("SIP/2.0/UDP 203.0.113.5;branch=b", v4, "SIP/2.0/UDP 203.0.113.5;branch=b"),
        ("SIP/2.0/UDP h;branch=b", v4, "SIP/2.0/UDP h;branch=b;received=203.0.113.5"),
        ("SIP/2.0/UDP 192.0.2.1:5060", v4, "SIP/2.0/UDP 192.0.2.1:5060;received=203.0.113.5"),
        ("SIP/2.0/UDP h;rport;branch=b", v4, "SIP/2.0/UDP h;rport=40000;branch=b;received=203.0.113.5"),
        ("SIP/2.0/UDP 203.0.113.5;rport", v4, "SIP/2.0/UDP 203.0.113.5;rport=40000;received=203.0.113.5"),
        ("SIP/2.0/UDP h;received=169.254.169.254;rport=80;x", v4, "SIP/2.0/UDP h;received=203.0.113.5;rport=40000;x"),
        ("SIP/2.0/UDP h;rport=80;received=1.1.1.1", v4, "SIP/2.0/UDP h;rport=40000;received=203.0.113.5"),
        ("SIP/2.0/UDP 203.0.113.5;received=1.1.1.1;x", v4, "SIP/2.0/UDP 203.0.113.5;x"),
        ("SIP/2.0/UDP h, SIP/2.0/UDP i;rport", v4, "SIP/2.0/UDP h;received=203.0.113.5, SIP/2.0/UDP i;rport"),
        ("SIP/2.0/UDP h;rport", "[2001:db8::7]:9", "SIP/2.0/UDP h;rport=9;received=2001:db8::7"),
        ("SIP/2.0/UDP [2001:DB8:0::7]", "[2001:db8::7]:9", "SIP/2.0/UDP [2001:DB8:0::7]"),
        ("SIP/2.0/UDP 203.0.113.5", "[::ffff:203.0.113.5]:9", "SIP/2.0/UDP 203.0.113.5"),
        (
            "SIP/2.0/UDP h ; rport",
            "[1111:2222:3333:4444:5555:6666:7777:8888]:65535",
            "SIP/2.0/UDP h ; rport=65535;received=1111:2222:3333:4444:5555:6666:7777:8888",
        ),
    ] {
        assert_eq!(stamped(via, source).replace(" ;rport", " ; rport"), expected, "{via}");
    }
}

fn reply(octets: &[u8], status: u16, source: SocketAddr) -> String {
    let mut index = Index::new();
    index.parse(octets).unwrap();
    let mut out = Vec::new();
    let extra: &[(&str, &[u8])] = if status == 503 { &[("Retry-After", b"5")] } else { &[] };
    Reply { status, reason: reason_phrase(status), to_tag: Some(b"mine"), extra }.write(
        &index.message(octets),
        source,
        &mut out,
    );
    text(&out)
}

#[test]
fn a_response_copies_what_it_must() {
    let octets = invite(&["Via: SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b", "v: SIP/2.0/TCP c", "Timestamp: 7"]);
    let from_to = "From: \"A, B\" <sip:caller@example.net>;tag=f1\r\nTo: <sip:ivr@rm.example.net>";
    let rest = "Call-ID: c1@192.0.2.9\r\nCSeq: 1 INVITE\r\n";
    let expected = |status: &str, tag: &str, extra: &str| {
        // In the order of the request.
        let vias = "Via: SIP/2.0/UDP a;branch=z9hG4bK1;received=203.0.113.5, SIP/2.0/UDP b\r\nVia: SIP/2.0/TCP c\r\n";
        format!("SIP/2.0 {status}\r\n{from_to}{tag}\r\n{rest}{vias}{extra}Content-Length: 0\r\n\r\n")
    };
    assert_eq!(reply(&octets, 200, source()), expected("200 OK", ";tag=mine", ""));
    assert_eq!(reply(&octets, 100, source()), expected("100 Trying", "", "Timestamp: 7\r\n"));
    assert_eq!(reply(&octets, 503, source()), expected("503 Service Unavailable", ";tag=mine", "Retry-After: 5\r\n"));
    let tagged = invite(&["To: <sip:x>;tag=theirs"]);
    assert!(reply(&tagged, 486, source()).contains("To: <sip:x>;tag=theirs\r\n"));
    // What is written parses.
    let answer = reply(&octets, 480, source()).into_bytes();
    let mut index = Index::new();
    index.parse(&answer).unwrap();
    assert_eq!(index.message(&answer).to_tag(), Some(&b"mine"[..]));
    assert_eq!(index.message(&answer).vias().count(), 3);
}

/// The reason of refusal, and the answer if there is one.
fn refusal(octets: &[u8]) -> (Option<Malformed>, Option<String>) {
    let mut index = Index::new();
    let fault = index.parse(octets).err();
    let reply = Reply { status: 400, reason: "Bad Request", to_tag: Some(b"mine"), extra: &[] };
    let mut out = b"kept".to_vec();
    let answered = refuse(&index, octets, &reply, source(), &mut out);
    assert!(out.starts_with(b"kept"));
    assert_eq!(answered, out.len() > 4);
    (fault, answered.then(|| text(&out[4..])))
}

#[test]
fn one_bad_header_does_not_leave_the_caller_without_an_answer() {
    for line in [
        "CSeq: x",
        "Max-Forwards: -1",
        "Content-Length: 4, 4",
        "rubbish",
        ": x",
        "X: a\nVia: SIP/2.0/UDP evil",
        "X: \0",
        "Content-Length: 999",
        "To: \"open <sip:a@b>",
        "Call-ID: a b",
        "CSeq: 1 BYE",
        "Route: <",
        "From: a@b|From: c@d",
    ] {
        let (fault, answer) = refusal(&invite(&line.split('|').collect::<Vec<_>>()));
        assert!(fault.is_some(), "{line:?}");
        let answer = answer.unwrap_or_else(|| panic!("no answer to {line:?}"));
        assert!(answer.starts_with("SIP/2.0 400 Bad Request\r\n"));
        let via = "Via: SIP/2.0/UDP 192.0.2.9:5060;rport=40000;branch=z9hG4bK-1;received=203.0.113.5\r\n";
        assert!(answer.contains(via), "{answer}");
        assert_eq!(answer.matches("Via:").count(), 1);
        for name in ["From: ", "To: ", "Call-ID: ", "CSeq: ", "Content-Length: 0"] {
            assert_eq!(answer.matches(name).count(), 1, "{name} in {answer}");
        }
        assert!(answer.contains("tag=mine"));
    }
}

#[test]
fn a_broken_start_line_is_answered_when_it_is_meant_as_sip() {
    let with = |line: &str| text(&invite(&[])).replace("INVITE sip:ivr@rm.example.net SIP/2.0", line).into_bytes();
    for line in ["INVITE  sip:a SIP/2.0", "INVITE <sip:a> SIP/2.0", "INVITE sip:a SIP/7.0", "INVITE sip:a SIP/2.0 "] {
        assert!(refusal(&with(line)).1.is_some(), "{line:?}");
    }
    for line in
        ["ACK  sip:a SIP/2.0", "SIP/2.0 99 x", "SIP/3.0 200 OK", "GET / HTTP/1.1", "INVITE sip:a", "\u{16}\u{3}"]
    {
        assert_eq!(refusal(&with(line)).1, None, "{line:?}");
    }
}

#[test]
fn broken_via_parameters_do_not_hide_who_asked() {
    let (fault, answer) = refusal(&invite(&["Via: SIP/2.0/UDP 192.0.2.15;;,;,,"]));
    assert_eq!(fault, Some(Malformed::BadVia));
    assert!(answer.unwrap().contains("Via: SIP/2.0/UDP 192.0.2.15;received=203.0.113.5;;,;,,\r\n"));
    for via in ["Via:", "Via: rubbish", "Via: SIP/2.0/UDP 192.0.2.9:0", "Via: SIP/2.0/UDP [x"] {
        assert_eq!(refusal(&invite(&[via])), (Some(Malformed::BadVia), None), "{via:?}");
    }
}

#[test]
fn what_was_smuggled_in_does_not_leave_in_the_answer() {
    let octets = invite(&["Call-ID: a\nVia: SIP/2.0/UDP evil", "From: <sip:a\0@b>\r\n ;tag=1"]);
    let answer = refusal(&octets).1.unwrap();
    assert!(answer.contains("Call-ID: a Via: SIP/2.0/UDP evil\r\n"), "{answer}");
    assert!(answer.contains("From: <sip:a @b>   ;tag=1\r\n"), "{answer}");
    assert_eq!(answer.matches('\n').count(), answer.matches("\r\n").count());
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<&str> = Malformed::ALL.iter().map(|fault| fault.name()).collect();
    assert_eq!(names.len(), Malformed::ALL.len());
    assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    assert_eq!(reason_phrase(299), "Success");
    assert_eq!(reason_phrase(487), "Request Terminated");
}
