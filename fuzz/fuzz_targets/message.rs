//! One datagram: whatever parses has sound views, and comes out of the editor as it went in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem::sip::edit::Edits;
use tandem::sip::header::{Index, Name};
use tandem::sip::message::Message;

fuzz_target!(|data: &[u8]| {
    let mut index = Index::new();
    if index.parse(data).is_err() {
        return;
    }
    let message = index.message(data);
    views(&message);

    let mut written = Vec::new();
    let mut edits = Edits::new();
    edits.write(&message, &mut written);
    assert_eq!(written, message.bytes(), "no edits, no change");

    // An added line appears, and every other header field keeps its octets.
    edits.clear();
    edits.insert(message.header_end()).push(b"X-Fuzz: 1\r\n");
    written.clear();
    edits.write(&message, &mut written);
    let mut again = Index::new();
    if again.parse(&written).is_err() {
        return; // The added line can pass a limit.
    }
    let edited = again.message(&written);
    let fields = |m: &Message<'_>| m.headers().map(|h| (h.name_text.to_vec(), h.value.to_vec())).collect::<Vec<_>>();
    let mut expected = fields(&message);
    expected.push((b"X-Fuzz".to_vec(), b"1".to_vec()));
    assert_eq!(fields(&edited), expected);
    assert_eq!(edited.body(), message.body());
});

/// Touches everything that a proxy reads.
fn views(message: &Message<'_>) {
    let method = message.method();
    assert_eq!(message.is_request(), message.status().is_none());
    assert!(message.is_request() || message.cseq().method == method);
    let via = message.via();
    assert!(!via.sent_by.is_empty());
    assert_eq!(message.span(via.value).of(message.bytes()), via.value);
    assert!(message.vias().count() >= 1);
    assert!(!message.call_id().is_empty());
    let _ = (message.uri(), message.from().parsed(), message.to().parsed(), message.from_tag(), message.to_tag());
    let _ = (message.max_forwards(), message.max_breadth(), message.expires(), message.session_expires());
    let _ = (message.retry_after(), message.next_via());
    let _ = message
        .routes()
        .chain(message.record_routes())
        .chain(message.contacts())
        .flatten()
        .filter_map(|a| a.parsed())
        .count();
    for name in [Name::Require, Name::ProxyRequire, Name::Supported, Name::Allow] {
        assert!(message.tokens(name).all(|t| t.trim_ascii() == t));
    }
    assert!(message.headers().count() <= tandem::base::limits::HEADERS);
}
