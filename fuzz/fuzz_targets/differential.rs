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

    let mine: Vec<&[u8]> = ours.headers().map(|h| h.value).collect();
    let shown: Vec<String> = theirs.headers().iter().map(|h| h.to_string()).collect();
    // rsip keeps white space at the end of a value; it has no meaning (RFC 3261 §7.3.1).
    let other: Vec<&[u8]> = shown.iter().map(|h| h.split_once(':').unwrap().1.trim_ascii().as_bytes()).collect();
    let text = |values: &[&[u8]]| values.iter().map(|v| String::from_utf8_lossy(v).into_owned()).collect::<Vec<_>>();
    assert!(mine == other, "ours {:#?}\nrsip {:#?}", text(&mine), text(&other));

    assert_eq!(theirs.body().as_slice(), ours.body(), "where the body begins");
});
