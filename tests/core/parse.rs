//! What the parser accepts, what it refuses and why.

use tandem::sip::{Edits, Index, Method, Name};

const INVITE: &[u8] = b"INVITE sip:ivr@rm.example.net SIP/2.0\r\n\
Via: SIP/2.0/UDP 192.0.2.9:5060;rport;branch=z9hG4bK-1\r\n\
Max-Forwards: 70\r\n\
From: \"A, B\" <sip:caller@example.net>;tag=f1\r\n\
To: <sip:ivr@rm.example.net>\r\n\
Call-ID: c1@192.0.2.9\r\n\
CSeq: 1 INVITE\r\n\
Contact: <sip:caller@192.0.2.9:5060>\r\n\
Content-Length: 4\r\n\
\r\n\
body";

#[test]
fn an_invite_is_read() {
    let mut index = Index::new();
    index.parse(INVITE).unwrap();
    let message = index.message(INVITE);
    assert_eq!(message.method(), Method::Invite);
    assert_eq!(message.via().branch, Some(&b"z9hG4bK-1"[..]));
    assert_eq!(message.via().rport, Some(None));
    assert_eq!(message.from_tag(), b"f1");
    assert_eq!(message.to_tag(), None);
    assert_eq!(message.call_id(), b"c1@192.0.2.9");
    assert_eq!(message.cseq().number, 1);
    assert_eq!(message.max_forwards(), Some(70));
    assert_eq!(message.contacts().next().unwrap().unwrap().uri, b"sip:caller@192.0.2.9:5060");
    assert_eq!(message.body(), b"body");
    assert_eq!(message.header(Name::Contact).unwrap().name_text, b"Contact");
    let mut out = Vec::new();
    Edits::new().write(&message, &mut out);
    assert_eq!(out, INVITE);
}
