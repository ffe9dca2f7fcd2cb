//! Responses made from requests: whatever we answer, the other side can read and match.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem::sip::header::{Index, Name};
use tandem::sip::message::Message;
use tandem::sip::reply::{Reply, refuse};

fuzz_target!(|data: &[u8]| {
    let source = "192.0.2.77:5099".parse().unwrap();
    let mut index = Index::new();
    let parsed = index.parse(data);
    let mut out = Vec::new();
    let reply = Reply { status: 400, reason: "Bad Request", to_tag: Some(b"t-1"), extra: &[("Server", b"fuzz")] };
    if parsed.is_err() {
        if refuse(&index, data, &reply, source, &mut out) {
            assert!(out.starts_with(b"SIP/2.0 400 "), "a refusal is a response");
            assert!(out.ends_with(b"\r\n\r\n"));
        } else {
            assert!(out.is_empty(), "no refusal, no octets");
        }
        return;
    }
    let request = index.message(data);
    if !request.is_request() {
        return;
    }
    reply.write(&request, source, &mut out);
    let mut again = Index::new();
    if let Err(reason) = again.parse(&out) {
        // received and rport make the answer longer than the request.
        assert!(out.len() > tandem::base::limits::MESSAGE, "{reason:?}: {}", String::from_utf8_lossy(&out));
        return;
    }
    matches(&request, &again.message(&out));
});

/// RFC 3261 §8.2.6.2: what a response copies.
fn matches(request: &Message<'_>, response: &Message<'_>) {
    assert_eq!(response.status(), Some(400));
    assert_eq!(response.call_id(), request.call_id());
    assert_eq!(response.cseq().number, request.cseq().number);
    assert_eq!(response.cseq().method, request.cseq().method);
    assert_eq!(response.from_tag(), request.from_tag());
    assert_eq!(response.to_tag(), Some(request.to_tag().unwrap_or(b"t-1")));
    assert_eq!(response.vias().count(), request.vias().count());
    assert_eq!(response.via().branch, request.via().branch);
    assert_eq!(response.via().sent_by, request.via().sent_by);
    assert!(response.header(Name::ContentLength).is_some_and(|h| h.value == b"0"));
    assert!(response.body().is_empty());
}
