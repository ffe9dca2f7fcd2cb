//! One datagram: whatever parses has sound views, and comes out of the editor as it went in.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use tandem::sip::Malformed;
use tandem::sip::edit::Edits;
use tandem::sip::header::{Index, Name};
use tandem::sip::message::Message;

thread_local! {
    static DIRTY: RefCell<Index> = RefCell::new(Index::new());
}

fuzz_target!(|data: &[u8]| {
    let mut index = Index::new();
    let parsed = index.parse(data);
    let message = index.message(data);
    DIRTY.with_borrow_mut(|dirty| {
        assert_eq!(dirty.parse(data), parsed, "what was parsed before does not matter");
        if parsed.is_ok() {
            assert_eq!(summary(&dirty.message(data)), summary(&message));
        }
    });
    if parsed.is_err() {
        return;
    }
    views(data, &message);
    without_values(data, &message);

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
fn views(data: &[u8], message: &Message<'_>) {
    let method = message.method();
    assert_eq!(message.is_request(), message.status().is_none());
    assert!(message.is_request() || message.cseq().method == method);
    let via = message.via();
    assert!(!via.sent_by.is_empty());
    assert_eq!(message.span(via.value).of(data), via.value);
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
        // LWS as RFC 3261 25.1 has it: a form feed, say, is none.
        let lws = |octet: Option<&u8>| octet.is_none_or(|octet| b" \t\r\n".contains(octet));
        assert!(message.tokens(name).all(|t| !lws(t.first()) && !lws(t.last())));
    }
    assert!(message.headers().count() <= tandem::base::limits::HEADERS);
}

/// The values that decide where a message goes.
fn summary<'a>(message: &Message<'a>) -> (Vec<&'a [u8]>, Option<u16>, u32, usize) {
    let via = message.via();
    let mut parts = vec![via.value, via.sent_by, via.branch.unwrap_or_default(), message.call_id(), message.from_tag()];
    parts.extend([message.to_tag().unwrap_or_default(), message.request_uri(), message.body(), message.bytes()]);
    parts.extend(message.routes().flatten().map(|r| r.value));
    parts.extend(message.headers().map(|h| h.value));
    (parts, message.status(), message.cseq().number, message.vias().count())
}

/// Values taken off the front of a list leave the others as they were.
fn without_values(data: &[u8], message: &Message<'_>) {
    let vias = |m: &Message<'_>| m.vias().map(|v| v.map(|v| v.value.to_vec())).collect::<Vec<_>>();
    let routes = |m: &Message<'_>| m.routes().map(|r| r.map(|r| r.value.to_vec())).collect::<Vec<_>>();
    let (all_vias, all_routes) = (vias(message), routes(message));
    let (v, r) = (data.len() % all_vias.len(), data.len() % (all_routes.len() + 1));
    let mut edits = Edits::new();
    edits.remove_values(message, Name::Via, v);
    edits.remove_values(message, Name::Route, r);
    let mut written = Vec::new();
    edits.write(message, &mut written);
    let mut again = Index::new();
    if let Err(reason) = again.parse(&written) {
        // What is asked of the topmost Via alone may be wrong with the one that came to the top.
        let top = all_vias[v].is_none() || reason == Malformed::BadBranch;
        assert!(top, "{reason:?}: {}", written.escape_ascii());
        return;
    }
    let edited = again.message(&written);
    assert_eq!(vias(&edited), all_vias[v..]);
    assert_eq!(routes(&edited), all_routes[r..]);
}
