//! Messages of our own, one for each rule.

use super::case::{Case, Word};

/// Header lines of a sound INVITE without Content-Length.
const SOUND: &str = "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKown\r\n\
From: <sip:a@example.com>;tag=own001\r\n\
To: <sip:b@example.com>\r\n\
Call-ID: own\r\n\
CSeq: 1 INVITE\r\n\
Max-Forwards: 70\r\n\
Contact: <sip:a@192.0.2.9>\r\n";

const INVITE: &str = "INVITE sip:b@rm.example.net SIP/2.0\r\n";

/// All of them. Each has its own Call-ID and branch.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    framing(&mut cases);
    headers(&mut cases);
    values(&mut cases);
    noise(&mut cases);
    for (n, case) in cases.iter_mut().enumerate() {
        let text = String::from_utf8_lossy(&case.octets).into_owned();
        if case.octets.is_ascii() {
            case.octets =
                text.replace("z9hG4bKown", &format!("z9hG4bKown{n}")).replace(": own\r", &format!(": own{n}\r")).into();
        }
    }
    cases
}

fn framing(cases: &mut Vec<Case>) {
    let mut add = |name: &str, lines: &str, udp: &str, tcp: &str| {
        cases.push(case(name, format!("{INVITE}{SOUND}{lines}"), udp, tcp));
    };
    add("sound", "Content-Length: 4\r\n\r\nbody", "forward", "forward");
    add("leading zeros", "Content-Length: 0004\r\n\r\nbody", "forward", "forward");
    add("space before the colon", "Content-Length \t: 4\r\n\r\nbody", "forward", "forward");
    add("compact name", "l: 4\r\n\r\nbody", "forward", "forward");
    add("folded length", "Content-Length:\r\n 4\r\n\r\nbody", "forward", "forward");
    add("negative length", "Content-Length: -1\r\n\r\n", "400", "400+close");
    add("huge length", "Content-Length: 4294967297\r\n\r\n", "400", "400+close");
    add("two lengths", "Content-Length: 0\r\nContent-Length: 4\r\n\r\nbody", "400", "400+close");
    add("two equal lengths", "Content-Length: 4\r\nl: 4\r\n\r\nbody", "400", "400+close");
    add("list of lengths", "Content-Length: 4, 4\r\n\r\nbody", "400", "400+close");
    add("hexadecimal length", "Content-Length: 0x4\r\n\r\nbody", "400", "400+close");
    add("no length", "\r\nbody", "forward", "400+close");
    add("length beyond a datagram", "Content-Length: 5\r\n\r\nbody", "400", "wait");
    add("octets behind", "Content-Length: 2\r\n\r\nbody\r\n\r\n", "forward-truncated", "resync-error");
    add("no empty line", "Content-Length: 0\r\n", "400-or-drop", "wait");
    add("bare LF in a value", "Subject: one\ntwo: three\r\nContent-Length: 0\r\n\r\n", "400", "400+close");
    add("bare CR in a value", "Subject: one\rtwo: three\r\nContent-Length: 0\r\n\r\n", "400", "400+close");
    add("NUL in a value", "Subject: one\0two\r\nContent-Length: 0\r\n\r\n", "400", "400+close");
    add("no colon", "Subject\r\nContent-Length: 0\r\n\r\n", "400", "400+close");
    add("empty name", ": one\r\nContent-Length: 0\r\n\r\n", "400", "400+close");
    add("blank folds", "Subject: one\r\n \r\n\t\r\nContent-Length: 0\r\n\r\n", "forward", "forward");
    add("unknown header, Latin-1", "X-Name: caf\u{e9}\r\nContent-Length: 0\r\n\r\n", "forward", "forward");
}

fn headers(cases: &mut Vec<Case>) {
    let mut replace = |name: &str, from: &str, to: &str, udp: &str, tcp: &str| {
        let text = format!("{INVITE}{SOUND}Content-Length: 0\r\n\r\n");
        assert!(text.contains(from), "{from}");
        cases.push(case(name, text.replace(from, to), udp, tcp));
    };
    replace("two From", "From: <", "From: <sip:x@y>;tag=2\r\nFrom: <", "400", "400");
    replace("two To", "To: <", "To: <sip:x@y>\r\nTo: <", "400", "400");
    replace("two CSeq", "CSeq: 1", "CSeq: 2 INVITE\r\nCSeq: 1", "400", "400");
    replace("two Max-Forwards", "Max-Forwards: 70", "Max-Forwards: 7\r\nMax-Forwards: 70", "400", "400");
    replace("no Max-Forwards", "Max-Forwards: 70\r\n", "", "forward", "forward");
    replace("other method in CSeq", "1 INVITE", "1 INFO", "400", "400");
    replace("CSeq of 2**31", "CSeq: 1 ", "CSeq: 2147483648 ", "400", "400");
    replace("no hops left", "Max-Forwards: 70", "Max-Forwards: 0", "483", "483");
    replace("unknown extension", "Max-Forwards: 70", "Max-Forwards: 70\r\nProxy-Require: foo", "420", "420");
    replace("breadth of zero", "Max-Forwards: 70", "Max-Forwards: 70\r\nMax-Breadth: 0", "440", "440");
    replace("no Via", "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKown\r\n", "", "drop", "close");
    replace("magic cookie alone", "z9hG4bKown", "z9hG4bK", "400", "400");
    let many: String = (0..80).map(|n| format!("Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKv{n}\r\n")).collect();
    let seventy: String = many.lines().take(70).map(|l| format!("{l}\r\n")).collect();
    replace("71 Via values", "From: <", &format!("{seventy}From: <"), "forward", "forward");
    let flood: String = (0..200).map(|n| format!("X-{n}: {n}\r\n")).collect();
    replace("206 headers", "From: <", &format!("{flood}From: <"), "400-or-513", "400-or-513");
}

fn values(cases: &mut Vec<Case>) {
    let mut start = |name: &str, line: &str, outcome: &str| {
        cases.push(case(name, format!("{line}\r\n{SOUND}Content-Length: 0\r\n\r\n"), outcome, outcome));
    };
    start("other version", "INVITE sip:b@rm.example.net SIP/1.0", "505");
    start("unknown scheme", "INVITE nobody:b@rm.example.net SIP/2.0", "416");
    start("URI in brackets", "INVITE <sip:b@rm.example.net> SIP/2.0", "400");
    start("port 99999", "INVITE sip:b@rm.example.net:99999 SIP/2.0", "400");
    start("open IPv6 reference", "INVITE sip:b@[2001:db8::1 SIP/2.0", "400");
    start("escaped headers", "INVITE sip:b@rm.example.net?Route=%3Csip:x%3E SIP/2.0", "400");
    start("two spaces", "INVITE  sip:b@rm.example.net SIP/2.0", "400");
}

fn noise(cases: &mut Vec<Case>) {
    let mut add = |name: &str, text: &str, udp: &str, tcp: &str| cases.push(case(name, text.to_owned(), udp, tcp));
    add("keep-alive", "\r\n", "ignore", "ignore");
    add("HTTP", "GET / HTTP/1.1\r\nHost: rm\r\n\r\n", "drop", "close");
    let stray = "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKstray\r\nVia: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKa\r\n\
                 From: <sip:a@x>;tag=1\r\nTo: <sip:b@y>;tag=2\r\nCall-ID: own\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n";
    add("stray response", &format!("SIP/2.0 200 OK\r\n{stray}"), "drop", "drop");
    add(
        "stray ACK",
        &format!("ACK sip:b@rm.example.net SIP/2.0\r\nMax-Forwards: 70\r\n{}", stray.replace("INVITE", "ACK")),
        "drop",
        "drop",
    );
}

fn case(name: &str, text: String, udp: &str, tcp: &str) -> Case {
    // Latin-1, as senders that know no UTF-8 write it.
    let octets = text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect();
    Case { name: name.to_owned(), octets, udp: Word::list(udp), tcp: Word::list(tcp) }
}
