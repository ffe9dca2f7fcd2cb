//! What the parser accepts, what it refuses and why, and what it says about a message.

use std::net::IpAddr;

use tandem::sip::{Host, Index, Malformed, Message, Method, Name, NameAddr, Scheme, Start, Uri, Via, parse_host};

const REQUEST: &str = "INVITE sip:ivr@rm.example.net SIP/2.0";
const VIA: &str = "Via: SIP/2.0/UDP 192.0.2.9:5060;rport;branch=z9hG4bK-1";
const HEADERS: [&str; 7] = [
    "Max-Forwards: 70",
    "From: \"A, B\" <sip:caller@example.net>;tag=f1",
    "To: <sip:ivr@rm.example.net>",
    "Call-ID: c1@192.0.2.9",
    "CSeq: 1 INVITE",
    "Contact: <sip:caller@192.0.2.9:5060>",
    "Content-Length: 4",
];

/// A sound INVITE in which `lines` replace the lines of the same name, or are added.
pub fn invite(lines: &[&str]) -> Vec<u8> {
    let name = |line: &str| line.split([':', ' ']).next().map(str::to_ascii_lowercase);
    let kept = [VIA].into_iter().chain(HEADERS).filter(|old| !lines.iter().any(|new| name(new) == name(old)));
    let all: Vec<&str> = [REQUEST].into_iter().chain(kept).chain(lines.iter().copied()).collect();
    (all.join("\r\n") + "\r\n\r\nbody").into_bytes()
}

fn with_start(start: &str) -> Vec<u8> {
    String::from_utf8(invite(&[])).unwrap().replace(REQUEST, start).into_bytes()
}

fn read<T>(octets: &[u8], look: impl FnOnce(Message<'_>) -> T) -> T {
    let mut index = Index::new();
    if let Err(fault) = index.parse(octets) {
        panic!("{fault}: {}", String::from_utf8_lossy(octets));
    }
    look(index.message(octets))
}

fn fault(octets: &[u8]) -> Option<Malformed> {
    Index::new().parse(octets).err()
}

#[track_caller]
fn refused(cases: &[&str], expected: Malformed) {
    for case in cases {
        assert_eq!(fault(&invite(&case.split('|').collect::<Vec<_>>())), Some(expected), "{case:?}");
    }
}

#[track_caller]
fn accepted(cases: &[&str]) {
    for case in cases {
        assert_eq!(fault(&invite(&case.split('|').collect::<Vec<_>>())), None, "{case:?}");
    }
}

#[test]
fn white_space_before_a_value_is_not_of_it() {
    for line in [VIA].into_iter().chain(HEADERS) {
        let (name, value) = line.split_once(": ").unwrap();
        for gap in ["", "  ", "\t", " \t "] {
            let octets = invite(&[&format!("{name}:{gap}{value}")]);
            let found = read(&octets, |message| message.headers().any(|header| header.value == value.as_bytes()));
            assert!(found, "{name} behind {gap:?}");
        }
    }
}

#[test]
fn an_invite_is_read() {
    read(&invite(&[]), |message| {
        assert_eq!(message.method(), Method::Invite);
        assert_eq!(message.request_uri(), b"sip:ivr@rm.example.net");
        assert_eq!(message.uri().unwrap().user, Some(&b"ivr"[..]));
        assert_eq!(message.via().branch, Some(&b"z9hG4bK-1"[..]));
        assert_eq!(message.via().rport, Some(None));
        assert_eq!(message.via().sent_by, b"192.0.2.9:5060");
        assert_eq!(message.from().display, b"\"A, B\"");
        assert_eq!(message.from_tag(), b"f1");
        assert_eq!(message.to_tag(), None);
        assert_eq!(message.call_id(), b"c1@192.0.2.9");
        assert_eq!((message.cseq().number, message.cseq().method), (1, Method::Invite));
        assert_eq!(message.max_forwards(), Some(70));
        assert_eq!(message.contacts().next().unwrap().unwrap().uri, b"sip:caller@192.0.2.9:5060");
        assert_eq!(message.body(), b"body");
        assert_eq!(message.header(Name::Contact).unwrap().name_text, b"Contact");
        assert!(message.is_request() && message.status().is_none() && message.next_via().is_none());
    });
}

#[test]
fn a_response_is_read() {
    let text = String::from_utf8(invite(&["To: <sip:ivr@rm.example.net>;tag=t9"])).unwrap();
    for (line, status, phrase) in [
        ("SIP/2.0 200 OK", 200, "OK"),
        ("SIP/2.0 100 ", 100, ""),
        ("SIP/2.0 699", 699, ""),
        ("SIP/2.0 180 \u{420}\u{430} = 2**3", 180, "\u{420}\u{430} = 2**3"),
    ] {
        read(text.replace(REQUEST, line).as_bytes(), |message| {
            let Start::Response { status: code, reason } = message.start() else { panic!() };
            assert_eq!((code, reason), (status, phrase.as_bytes()));
            assert_eq!(message.status(), Some(status));
            assert_eq!(message.method(), Method::Invite);
            assert_eq!(message.to_tag(), Some(&b"t9"[..]));
            assert_eq!((message.request_uri(), message.uri().is_none()), (&b""[..], true));
        });
    }
}

#[test]
fn a_broken_start_line_is_refused() {
    for (line, expected) in [
        ("INVITE sip:a@b", Malformed::StartLine),
        ("INVITE  sip:a@b SIP/2.0", Malformed::StartLine),
        ("INVITE sip:a@b  SIP/2.0", Malformed::StartLine),
        ("INVITE sip:a@b SIP/2.0 ", Malformed::StartLine),
        ("INVITE sip:a@b; lr SIP/2.0", Malformed::StartLine),
        ("INVITE sip:a@b HTTP/1.1", Malformed::StartLine),
        ("IN<VITE sip:a@b SIP/2.0", Malformed::StartLine),
        ("INVITE sip:a@b SIP/2.0x", Malformed::StartLine),
        ("INVITE sip:a@b SIP/7.0", Malformed::Version),
        ("INVITE sip:a@b sip/1.0", Malformed::Version),
        ("SIP/3.0 200 OK", Malformed::Version),
        ("SIP/2.0", Malformed::StatusCode),
        ("SIP/2.0 99 Low", Malformed::StatusCode),
        ("SIP/2.0 700 High", Malformed::StatusCode),
        ("SIP/2.0 0200 OK", Malformed::StatusCode),
        ("SIP/2.0 200OK", Malformed::StatusCode),
        ("SIP/2.0 4294967301 wraps", Malformed::StatusCode),
        ("SIP/2.0  200 OK", Malformed::StatusCode),
        ("INVITE <sip:a@b> SIP/2.0", Malformed::RequestUri),
        ("INVITE sip: SIP/2.0", Malformed::RequestUri),
        ("INVITE sip:@ SIP/2.0", Malformed::RequestUri),
        ("INVITE sip:@b SIP/2.0", Malformed::RequestUri),
        ("INVITE sip:a@ SIP/2.0", Malformed::RequestUri),
        ("INVITE sip:a@[::1 SIP/2.0", Malformed::RequestUri),
        ("INVITE sip:a@[1::2::3] SIP/2.0", Malformed::RequestUri),
        ("INVITE sip:2001:db8::10 SIP/2.0", Malformed::RequestUri),
        ("INVITE sip:a@b:99999 SIP/2.0", Malformed::RequestUri),
        ("INVITE sip:a@b:0 SIP/2.0", Malformed::RequestUri),
        ("INVITE sip:a@b: SIP/2.0", Malformed::RequestUri),
        ("INVITE sip:a@b/c SIP/2.0", Malformed::RequestUri),
        ("INVITE sip:a@b?Route=%3Csip:e%3E SIP/2.0", Malformed::RequestUri),
        ("INVITE sip:a@b;x?y=z SIP/2.0", Malformed::RequestUri),
        ("INVITE noscheme SIP/2.0", Malformed::RequestUri),
        ("INVITE tel: SIP/2.0", Malformed::RequestUri),
    ] {
        assert_eq!(fault(&with_start(line)), Some(expected), "{line:?}");
    }
    let long = |length| with_start(&format!("INVITE sip:{}@b SIP/2.0", "u".repeat(length)));
    assert_eq!(fault(&long(8_192 - 6)), None);
    assert_eq!(fault(&long(8_192 - 5)), Some(Malformed::UriTooLong));
}

#[test]
fn odd_but_legal_start_lines_are_accepted() {
    for (line, scheme) in [
        ("INVITE sip:b sip/2.0", Scheme::Sip),
        ("INVITE SIP:b SIP/2.0", Scheme::Sip),
        ("INVITE sips:a@b:5061;x=y SIP/2.0", Scheme::Sips),
        ("INVITE tel:+1-201-555-0123;phone-context=x SIP/2.0", Scheme::Tel),
        ("INVITE soap.beep://192.0.2.103:3002 SIP/2.0", Scheme::Other),
        (
            "INVITE sip:1_u~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d@[2001:db8:::192.0.2.1]:99;a SIP/2.0",
            Scheme::Sip,
        ),
        ("INVITE sip:user;par=u%40example.net@example.com SIP/2.0", Scheme::Sip),
        ("INVITE sip:dialog@b;voicexml=http://h/x.vxml;n=%00 SIP/2.0", Scheme::Sip),
    ] {
        read(&with_start(line), |message| assert_eq!(message.uri().map(|u| u.scheme), Some(scheme), "{line:?}"));
    }
    // Methods are case-sensitive and may be any token.
    for method in ["invite", "RE%47IST%45R", "!interesting-Method0123456789_*+`.%indeed'~"] {
        let octets = String::from_utf8(invite(&[])).unwrap().replace("INVITE", method);
        read(octets.as_bytes(), |message| assert_eq!(message.method(), Method::Other(method.as_bytes())));
    }
    let gap = [b"\r\n\r\n", &invite(&[])[..]].concat();
    read(&gap, |message| {
        assert_eq!(message.bytes(), invite(&[]));
        assert_eq!(message.start_span().start, 4);
    });
}

#[test]
fn lines_out_of_grammar_are_refused() {
    refused(
        &["X Y: 1", ": 1", "rubbish", "X\u{1}: 1", "X\u{b}: 1", "X\u{e9}: 1", "To\u{1}: <sip:a@b>"],
        Malformed::HeaderName,
    );
    refused(
        &["X: a\nRoute: <sip:e>", "X: a\rb", "X: a\0b", "X: \"a\0b\"", "X: \\\0", "X: a\n"],
        Malformed::ControlCharacter,
    );
    assert_eq!(fault(b"INVITE sip:a SIP/2.0\r\n Via: x\r\n\r\n"), Some(Malformed::HeaderFold));
    assert_eq!(fault(b"INVITE sip:a SIP/2.0\nVia: x\n\n"), Some(Malformed::ControlCharacter));
    let whole = invite(&[]);
    for end in 0..whole.len() - 6 {
        assert_eq!(fault(&whole[..end]), Some(Malformed::NoEmptyLine), "cut at {end}");
    }
    accepted(&[
        "X:",
        "X: ",
        "X\t :\r\n \t\r\n y",
        "X: \u{7}",
        "X: \"\\\0\"",
        "C%6Fntact: <",
        "s: a\r\n \r\n \r\n b",
        "Warning: ",
    ]);
}

#[test]
fn latin1_and_broken_utf8_pass() {
    let mut octets = invite(&["Subject: x"]);
    let at = octets.windows(3).position(|w| w == b": x").unwrap() + 2;
    octets[at] = 0xff;
    read(&octets, |message| assert_eq!(message.headers().last().unwrap().value, b"\xff"));
}

#[test]
fn what_a_proxy_needs_must_be_there_once() {
    let without = |name: &str| {
        let text = String::from_utf8(invite(&[])).unwrap();
        text.split_inclusive("\r\n").filter(|line| !line.starts_with(name)).collect::<String>().into_bytes()
    };
    for (name, expected) in [
        ("Via", Malformed::NoVia),
        ("From", Malformed::NoFrom),
        ("To", Malformed::NoTo),
        ("Call-ID", Malformed::NoCallId),
        ("CSeq", Malformed::NoCSeq),
    ] {
        assert_eq!(fault(&without(name)), Some(expected), "{name}");
    }
    refused(
        &[
            "From: <sip:a@b>;tag=1|f: <sip:a@b>;tag=1",
            "To: <sip:a@b>|t: <sip:a@b>",
            "Call-ID: x|i: x",
            "CSeq: 1 INVITE|CSEQ: 1 INVITE",
            "Max-Forwards: 70|max-forwards: 70",
        ],
        Malformed::Duplicate,
    );
    refused(&["Content-Length: 4|l: 4", "Content-Length: 4|Content-Length: 4"], Malformed::ContentLength);
}

#[test]
fn bad_addresses_are_refused() {
    let bad = [
        "\"open <sip:a@b>;tag=1",
        "Bell, A <sip:a@b>;tag=1",
        "<sip:a@b>;tag=",
        "<sip:a@b>;tag=1;tag=2",
        "<sip:a@b>;tag=1, <sip:c@d>",
        "<sip:a@b;tag=1",
        "<<sip:a@b>>;tag=1",
        "<sip:a b@c>;tag=1",
        "<>;tag=1",
        "a@b;tag=1",
        "sip:",
        "",
        "<sip:a@b>;;tag=1",
        "<sip:a@b> tag=1",
        "<sip:a@b>;tag=\"1",
    ];
    for value in bad {
        refused(&[&format!("From: {value}")], Malformed::BadFrom);
        refused(&[&format!("To: {value}")], Malformed::BadTo);
    }
    refused(&[&format!("To: <sip:a@b>;tag={}", "t".repeat(1_025))], Malformed::BadTo);
    accepted(&[
        "From: caller<sip:a@b>;tag=1",
        "From: sip:a@b;tag=1",
        "From: isbn:2983792873",
        "From: \"\\\"<\" < sip:a@b > ; x = \"a;b,\\\"\" ; tag = 1",
        "From: <http://www.example.com>;tag=1",
        "From: t1~` t2'+_ t3*%!.- <sip:a@b>;from''~=\"\u{440}\";tag=_t~1'+`*%!-.",
        &format!("To: <sip:a@b>;tag={}", "t".repeat(1_024)),
    ]);
}

#[test]
fn bad_vias_are_refused() {
    refused(
        &[
            "Via:",
            "Via: SIP/2.0/UDP",
            "Via: SIP/2.0 192.0.2.9",
            "Via: SIP/2.0/UDP 192.0.2.9;;,;,,",
            "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKx,",
            "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKx,,SIP/2.0/UDP b",
            "Via: SIP/2.0/UDP 192.0.2.9:0;branch=z9hG4bKx",
            "Via: SIP/2.0/UDP 192.0.2.9:65536;branch=z9hG4bKx",
            "Via: SIP/2.0/UDP 192.0.2.9:;branch=z9hG4bKx",
            "Via: SIP/2.0/UDP 2001:db8::1;branch=z9hG4bKx",
            "Via: SIP/2.0/UDP [2001:db8::1;branch=z9hG4bKx",
            "Via: SIP/2.0/UDP [zz];branch=z9hG4bKx",
            "Via: SIP/2.0/UDP a b;branch=z9hG4bKx",
            "Via: SIP/2.0/UDP a;branch=z9hG4bKx;branch=z9hG4bKy",
            "Via: SIP/2.0/UDP a;received=192.0.2.1;received=192.0.2.2",
            "Via: SIP/2.0/UDP a;x=\"open",
        ],
        Malformed::BadVia,
    );
    refused(
        &[
            "Via: SIP/2.0/UDP a;branch=z9hG4bK",
            "Via: SIP/2.0/UDP a;branch=",
            "Via: SIP/2.0/UDP a ; branch = z9hG4bK",
            &format!("Via: SIP/2.0/UDP a;branch=z9hG4bK{}", "b".repeat(1_020)),
        ],
        Malformed::BadBranch,
    );
    accepted(&[
        "Via: SIP/2.0/UDP a",
        "Via: SIP/2.0/UNKNOWN a;branch=z9hG4bK-.!%66*_+`'~",
        "Via: SIP  / 2.0  /\r\n TCP     a.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n SIP  /    2.0   / UDP  b   ; branch=\r\n z9",
        "Via: SIP/2.0/UDP [2001:db8::9:1]:5060;received=[2001:db8::9:255];branch=z9hG4bKas3-111",
        "Via: SIP/2.0/UDP a;ttl=1;maddr=224.0.0.1;alias;other=\"a,b;c\"",
    ]);
}

#[test]
fn bad_numbers_are_refused() {
    refused(&["Call-ID:", "Call-ID: a b", &format!("Call-ID: {}", "c".repeat(1_025))], Malformed::BadCallId);
    refused(
        &[
            "CSeq: 2147483648 INVITE",
            "CSeq: 36893488147419103232 INVITE",
            "CSeq: -1 INVITE",
            "CSeq: INVITE",
            "CSeq: 1",
            "CSeq: 1INVITE",
            "CSeq: 1 INVITE x",
            "CSeq: 1 IN<",
        ],
        Malformed::BadCSeq,
    );
    refused(&["CSeq: 1 BYE", "CSeq: 1 invite"], Malformed::CSeqMethod);
    refused(
        &["Max-Forwards: -1", "Max-Forwards: 256", "Max-Forwards:", "Max-Forwards: 70, 70"],
        Malformed::MaxForwards,
    );
    let lengths = ["-4", "+4", "0x4", "4 4", "4,4", "4;x", "", "65536", "4294967300"];
    lengths.iter().for_each(|length| refused(&[&format!("Content-Length: {length}")], Malformed::ContentLength));
    refused(&["Content-Length: 5", "Content-Length: 65535"], Malformed::BodyShort);
    accepted(&[
        "CSeq: 2147483647 INVITE",
        "CSeq: 0009\r\n  INVITE",
        "Max-Forwards: 0255",
        "Content-Length: 0000000000000000000000000004",
        "Call-ID: w%ZK-!.*_+'@w`~)(><:\\/\"][?}{",
    ]);
    // A response is no place to judge Max-Forwards.
    let response = String::from_utf8(invite(&["Max-Forwards: x"])).unwrap().replace(REQUEST, "SIP/2.0 200 OK");
    assert_eq!(fault(response.as_bytes()), None);
}

#[test]
fn limits_are_kept() {
    let many = |line: &str, count: usize| {
        let lines: Vec<&str> = std::iter::repeat_n(line, count).collect();
        fault(&invite(&lines))
    };
    assert_eq!(many("X: y", 128 - 8), None);
    assert_eq!(many("X: y", 128 - 7), Some(Malformed::TooManyHeaders));
    let vias = |count| format!("Via: {}", vec!["SIP/2.0/UDP a;branch=z9hG4bKx"; count].join(", "));
    assert_eq!(fault(&invite(&[&vias(80)])), None);
    assert_eq!(fault(&invite(&[&vias(81)])), Some(Malformed::TooManyVias));
    assert_eq!(many("Via: SIP/2.0/UDP a;branch=z9hG4bKx", 81), Some(Malformed::TooManyVias));
    assert_eq!(many("Route: <sip:a;lr>", 32), None);
    assert_eq!(many("Route: <sip:a;lr>", 33), Some(Malformed::TooManyRoutes));
    refused(&["Route: <<<", "Route:", "Route: <sip:a>,", "Route: <sip:a> x", "Route: \"a"], Malformed::BadRoute);
    let long = vec![b'x'; 65_536];
    assert_eq!(fault(&long), Some(Malformed::TooLarge));
}

#[test]
fn content_length_decides_about_the_body_of_a_datagram() {
    let body = |length: &str| read(&invite(&[length]), |message| (message.body().to_vec(), message.bytes().len()));
    let all = invite(&["Content-Length: 4"]).len();
    assert_eq!(body("Content-Length: 4"), (b"body".to_vec(), all));
    assert_eq!(body("Content-Length: 3"), (b"bod".to_vec(), all - 1));
    assert_eq!(body("Content-Length: 0"), (b"".to_vec(), all - 4));
    let text = String::from_utf8(invite(&[])).unwrap().replace("Content-Length: 4\r\n", "");
    read(text.as_bytes(), |message| assert_eq!(message.body(), b"body"));
}

#[test]
fn a_request_of_rfc_2543_is_read() {
    let octets = b"INVITE sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP gw.example.com\r\nFrom: <sip:1@c>\r\n\
        To: sip:2@d;user=phone\r\nCall-ID: x\r\nCSeq: 56 INVITE\r\n\r\nv=0\r\n";
    read(octets, |message| {
        assert_eq!(message.via().branch, None);
        assert!(!message.via().has_cookie());
        assert_eq!((message.from_tag(), message.to_tag()), (&b""[..], None));
        assert_eq!(message.to().param(b"user"), Some(&b"phone"[..]));
        assert_eq!(message.max_forwards(), None);
        assert_eq!(message.body(), b"v=0\r\n");
    });
}

#[test]
fn names_are_known_in_every_spelling() {
    for (text, name) in [
        ("Via", Name::Via),
        ("v", Name::Via),
        ("V", Name::Via),
        ("vIA", Name::Via),
        ("CALL-ID", Name::CallId),
        ("i", Name::CallId),
        ("m", Name::Contact),
        ("x", Name::SessionExpires),
        ("k", Name::Supported),
        ("r", Name::ReferTo),
        ("c", Name::ContentType),
        ("max-breadth", Name::MaxBreadth),
        ("p-asserted-identity", Name::PAssertedIdentity),
        ("C%6Fntact", Name::Other),
        ("a", Name::Other),
        ("", Name::Other),
    ] {
        assert_eq!(Name::of(text.as_bytes()), name, "{text}");
    }
}

#[test]
fn lists_go_across_fields_and_commas() {
    let octets = invite(&[
        "Via: SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/TCP b;x=\"1,2\"",
        "v: SIP/2.0/UDP [2001:db8::1]:5070",
        "Route: \"a, \\\"b\" <sip:1,2;lr>;x=\",\" , <sip:3>",
        "Route: <sip:4>",
        "Record-Route: <sip:5;lr>,<sip:6>, broken",
        "Require: a, b ,c",
        "Require: d",
    ]);
    read(&octets, |message| {
        let sent_by: Vec<&[u8]> = message.vias().map(|via| via.unwrap().sent_by).collect();
        assert_eq!(sent_by, [&b"a"[..], b"b", b"[2001:db8::1]:5070"]);
        assert_eq!(message.next_via().unwrap().transport, b"TCP");
        let routes: Vec<&[u8]> = message.routes().map(|route| route.unwrap().uri).collect();
        assert_eq!(routes, [&b"sip:1,2;lr"[..], b"sip:3", b"sip:4"]);
        let recorded: Vec<Option<&[u8]>> = message.record_routes().map(|r| r.map(|r| r.uri)).collect();
        assert_eq!(recorded, [Some(&b"sip:5;lr"[..]), Some(b"sip:6"), None]);
        assert_eq!(message.tokens(Name::Require).collect::<Vec<_>>(), [b"a", b"b", b"c", b"d"]);
        assert_eq!(message.all(Name::Require).count(), 2);
    });
}

#[test]
fn header_lines_cover_the_header_section() {
    let octets = invite(&["Subject: a\r\n b", "X:"]);
    read(&octets, |message| {
        let mut at = message.start_span().end;
        for header in message.headers() {
            assert_eq!(header.line.start, at);
            assert_eq!(message.span(header.name_text).start, at);
            assert!(header.line.of(&octets).ends_with(b"\r\n"));
            at = header.line.end;
        }
        assert_eq!(at, message.header_end());
        assert!(message.header(Name::Route).is_none());
        assert_eq!(message.span(message.call_id()).of(&octets), b"c1@192.0.2.9");
        assert!(message.span(b"elsewhere").is_empty());
    });
}

#[test]
fn seconds_are_read_with_what_may_follow() {
    let octets = invite(&[
        "Session-Expires: 1800;refresher=uac",
        "Expires: 99999999999",
        "Retry-After: 18 (busy)",
        "Max-Breadth: 60",
    ]);
    read(&octets, |message| {
        assert_eq!(message.session_expires(), Some(1800));
        assert_eq!(message.expires(), None);
        assert_eq!(message.retry_after(), Some(18));
        assert_eq!(message.max_breadth(), Some(60));
    });
    read(&invite(&["x: 90x"]), |message| assert_eq!(message.session_expires(), None));
}

#[test]
fn vias_are_taken_apart() {
    let via = Via::parse(
        b"SIP / 2.0/ UDP [2001:db8::1] : 5070 ;received= 192.0.2.7;rport = 99;BRANCH=z9hG4bKx;ttl=3;maddr=m;alias",
    )
    .unwrap();
    assert_eq!(via.host, Host::Ip("2001:db8::1".parse().unwrap()));
    assert_eq!((via.port, via.transport, via.sent_by), (Some(5070), &b"UDP"[..], &b"[2001:db8::1] : 5070"[..]));
    assert_eq!((via.branch, via.received), (Some(&b"z9hG4bKx"[..]), Some(&b"192.0.2.7"[..])));
    assert_eq!((via.rport, via.rport_param), (Some(Some(99)), Some(&b";rport = 99"[..])));
    assert_eq!(via.received_param, Some(&b";received= 192.0.2.7"[..]));
    assert_eq!((via.ttl, via.maddr, via.alias), (Some(&b"3"[..]), Some(&b"m"[..]), true));
    assert_eq!(
        Via::parse(b"SIP/2.0/UDP a;received=[::1]").unwrap().received_ip(),
        Some("::1".parse::<IpAddr>().unwrap())
    );
    assert_eq!(
        Via::parse(b"SIP/2.0/UDP a;received=::1").unwrap().received_ip(),
        Some("::1".parse::<IpAddr>().unwrap())
    );
    assert_eq!(Via::parse(b"SIP/2.0/UDP a;rport=").unwrap().rport, Some(None));
    assert!(Via::parse(b"SIP/2.0/UDP a, SIP/2.0/UDP b").is_none());
}

#[test]
fn uris_are_taken_apart() {
    let uri = Uri::parse(b"sip:u:p@[2001:db8::10:5070]:5071;lr;Transport=TCP;x%2Dy=%41?a=b").unwrap();
    assert_eq!((uri.user, uri.authority), (Some(&b"u:p"[..]), &b"[2001:db8::10:5070]:5071"[..]));
    assert_eq!((uri.port, uri.port_or_default()), (Some(5071), 5071));
    assert_eq!(uri.transport(), Some(tandem::base::Transport::Tcp));
    assert!(uri.is_loose());
    assert_eq!(uri.param(b"x-y"), Some(&b"%41"[..]));
    assert_eq!(uri.headers, b"a=b");
    // Unescaped once, never twice.
    assert!(Uri::parse(b"sip:h;%256cr").unwrap().param(b"lr").is_none());
    assert!(Uri::parse(b"sip:h;%6cr").unwrap().is_loose());
    assert_eq!(Uri::parse(b"sips:h").unwrap().port_or_default(), 5061);
    assert_eq!(Uri::parse(b"tel:+123;x=y").unwrap().user, Some(&b"+123"[..]));
    assert_eq!(Uri::parse(b"sip:null-%00-null@h").unwrap().user, Some(&b"null-%00-null"[..]));
    let port_free = Uri::parse(b"sip:[2001:db8::10:5070]").unwrap();
    assert_eq!((port_free.port, port_free.host), (None, Host::Ip("2001:db8::10:5070".parse().unwrap())));
    assert_eq!(Uri::parse(b"sip:u@b;x=y@z").map(|u| u.params), Some(&b";x=y@z"[..]));
}

#[test]
fn hosts_are_names_or_addresses() {
    let ip = |text: &str| Some(Host::Ip(text.parse().unwrap()));
    assert_eq!(parse_host(b"192.0.2.1"), ip("192.0.2.1"));
    assert_eq!(parse_host(b"[::ffff:192.0.2.1]"), ip("::ffff:192.0.2.1"));
    assert_eq!(parse_host(b"[2001:db8:::192.0.2.1]"), ip("2001:db8::192.0.2.1"));
    for name in ["example.com", "192.0.2", "192.0.2.256", "192.0.02.1", "1.2.3.4.5", "a1"] {
        assert_eq!(parse_host(name.as_bytes()), Some(Host::Name(name.as_bytes())));
    }
    assert_eq!(parse_host(b"[x]"), None);
    assert_eq!(parse_host(b""), None);
}

#[test]
fn addresses_are_taken_apart() {
    let address = NameAddr::parse(b" \"q\\\"\"  <sip:a@b;x=y?h=i> ; p = \"v;w\" ;FLAG").unwrap();
    assert_eq!((address.display, address.uri), (&b"\"q\\\"\""[..], &b"sip:a@b;x=y?h=i"[..]));
    assert_eq!((address.param(b"P"), address.param(b"flag")), (Some(&b"\"v;w\""[..]), Some(&b""[..])));
    assert_eq!(address.params, b"; p = \"v;w\" ;FLAG");
    assert_eq!(address.parsed().unwrap().param(b"x"), Some(&b"y"[..]));
    let bare = NameAddr::parse(b"sip:a@b;tag=1").unwrap();
    assert_eq!((bare.uri, bare.tag()), (&b"sip:a@b"[..], Some(&b"1"[..])));
    assert_eq!(NameAddr::parse(b"*").map(|a| a.uri), None);
    assert!(NameAddr::parse(b"<no.scheme;lr>").unwrap().parsed().is_none());
}
