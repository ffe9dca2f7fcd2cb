//! A second opinion: messages that Tandem accepts and rsip reads with other header boundaries. Such a message could pass
//! one of them as harmless and mean something else to the next. A difference that is understood is named here.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rsip::SipMessage;
use rsip::message::HasHeaders;
use tandem::sip::header::Index;

fuzz_target!(|data: &[u8]| {
    let mut index = Index::new();
    if index.parse(data).is_err() {
        return;
    }
    let ours = index.message(data);
    // rsip refuses more than we do: folding, compact lists of methods, Latin-1. Only what both accept is compared.
    let Ok(theirs) = SipMessage::try_from(ours.bytes()) else { return };
    // The Request-URI of a scheme that rsip does not spell runs on over line ends there, up to a later " SIP/2.0". RFC 3261
    // §7.1 has the request line end with its CRLF.
    if matches!(&theirs, SipMessage::Request(request) if request.uri.to_string().contains(['\r', '\n'])) {
        return;
    }

    let mine: Vec<Vec<u8>> = ours.headers().map(|h| h.value.to_vec()).collect();
    let shown: Vec<String> = theirs.headers().iter().map(|h| h.to_string()).collect();
    // rsip keeps white space at the end of a value; it has no meaning (RFC 3261 §7.3.1).
    let value = |shown: &'_ String| shown.split_once(':').unwrap().1.trim_matches([' ', '\t']).as_bytes().to_vec();
    let other: Vec<Vec<u8>> = shown.iter().map(value).collect();
    assert!(mine == other, "ours {}\nrsip {}", lines(&mine), lines(&other));

    assert_eq!(theirs.body().as_slice(), ours.body(), "where the body begins");
});

fn lines(values: &[Vec<u8>]) -> String {
    values.iter().map(|v| format!("\n    {}", v.escape_ascii())).collect()
}
