//! A second opinion: messages that we accept and that rsip reads with other boundaries of header fields or body.
//! Each such message is explained here; one that is not fails the test.

use proptest::prelude::*;
use rsip::SipMessage;
use rsip::message::HasHeaders;
use tandem::sip::{Index, Name};

use crate::corpus;
use crate::parse::invite;
use crate::property::{config, request};

/// Name (long form, lower case) and value of each header field, and the body under an empty name.
type Parts = Vec<(String, String)>;

fn part(name: &str, value: &[u8]) -> (String, String) {
    // That rsip leaves compact names to its caller moves no boundary.
    let name = match Name::of(name.trim().as_bytes()) {
        Name::Other => name.trim().to_ascii_lowercase(),
        known => known.as_str().to_ascii_lowercase(),
    };
    (name, String::from_utf8_lossy(value).trim().to_owned())
}

/// As we read it; `None` if we refuse it.
fn ours(octets: &[u8]) -> Option<Parts> {
    let mut index = Index::new();
    index.parse(octets).ok()?;
    let message = index.message(octets);
    let fields = message.headers().map(|header| part(&String::from_utf8_lossy(header.name_text), header.value));
    Some(fields.chain([part("", message.body())]).collect())
}

/// As rsip reads it; `None` if it refuses it.
fn theirs(octets: &[u8]) -> Option<Parts> {
    let message = SipMessage::try_from(octets).ok()?;
    let fields = message.headers().iter().map(|header| {
        let text = header.to_string();
        let (name, value) = text.split_once(':').unwrap_or((&text, ""));
        part(name, value.as_bytes())
    });
    let body = match &message {
        SipMessage::Request(request) => &request.body,
        SipMessage::Response(response) => &response.body,
    };
    Some(fields.chain([part("", body)]).collect())
}

/// What rsip makes of a message that we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The same parts.
    Same,
    /// Nothing: it refuses the message, so nobody is led astray.
    Refuses,
    /// Other parts.
    Differs,
}
use Verdict::{Differs, Refuses, Same};

fn verdict(octets: &[u8]) -> Option<Verdict> {
    let ours = ours(octets)?;
    Some(match theirs(octets) {
        None => Refuses,
        Some(theirs) if theirs == ours => Same,
        Some(_) => Differs,
    })
}

/// A header line, what rsip makes of a message with it, and why.
const EXPLAINED: &[(&str, Verdict, &str)] = &[
    ("Subject: plain", Same, "the usual spelling"),
    ("Subject:tight", Same, "RFC 3261 §7.3.1: white space behind the colon is optional"),
    ("Subject:", Same, "a value may be empty"),
    ("Subject: a: b, \"c, d\"", Same, "only the first colon counts, and nobody splits at commas"),
    ("Subject: \u{7}", Same, "controls other than CR, LF and NUL are opaque to both"),
    ("Subject: \"\\\0\"", Same, "a quoted NUL is legal"),
    ("C%6Fntact: x", Same, "a name is never unescaped"),
    ("v: SIP/2.0/TCP h;branch=z9hG4bKx", Same, "compact names move no boundary"),
    ("VIA: SIP/2.0/UDP h;branch=z9hG4bKx", Same, "names have no case"),
    ("Subject : a", Refuses, "rsip takes no white space before the colon; RFC 3261 §25.1 HCOLON allows it"),
    ("Subject\t: a", Refuses, "the same with a tab"),
    ("Subject: a\r\n b", Refuses, "rsip does not know folding; RFC 3261 §7.3.1 demands it"),
    ("Subject: a\r\n Route: <sip:e>", Refuses, "so a folded line cannot become a header there"),
    ("Subject:\r\n a", Refuses, "the same with all of the value behind the fold"),
    ("Content-Length: 004", Same, "leading zeros are legal"),
    ("Content-Length: 3", Differs, "rsip takes all that is left as the body; RFC 3261 §18.3 cuts at Content-Length"),
    ("Content-Length: 0", Differs, "the same"),
];

#[test]
fn every_other_reading_is_explained() {
    for (line, expected, why) in EXPLAINED {
        assert_eq!(verdict(&invite(&[line])), Some(*expected), "{line:?}: {why}");
    }
}

/// Files of the corpus that rsip reads otherwise, all for one reason: octets behind the announced body.
const DIFFERING_FILES: [&str; 4] = [
    "rfc4475/dblreq.dat",
    "rfc5118/as-printed/mult-ip-in-sdp.dat",
    "rfc5118/as-printed/ipv4-mapped-ipv6.dat",
    "hostile/cl-short-by-one.dat",
];

#[test]
fn corpus_files_are_read_alike() {
    let Some(rows) = corpus::rows() else { return };
    for row in rows.iter().filter(|row| verdict(&row.octets) == Some(Differs)) {
        let (ours, theirs) = (ours(&row.octets), theirs(&row.octets));
        assert!(DIFFERING_FILES.contains(&row.file.as_str()), "{}:\n{ours:?}\n{theirs:?}", row.file);
    }
}

/// The same message without folds and without white space before colons, which rsip refuses.
fn plain(octets: &[u8]) -> Vec<u8> {
    let (head, body) = octets.split_at(octets.windows(4).position(|four| four == b"\r\n\r\n").unwrap());
    // Each octet as the character of the same number: nothing is lost on the way back.
    let text: String = head.iter().map(|&octet| char::from(octet)).collect();
    let unfolded = text.replace("\r\n ", "  ").replace("\r\n\t", "  ");
    let lines: Vec<String> = unfolded
        .split("\r\n")
        .map(|line| match line.split_once(':') {
            Some((name, value)) => format!("{}:{value}", name.trim_end()),
            None => line.to_owned(),
        })
        .collect();
    let head: Vec<u8> = lines.join("\r\n").chars().map(|c| c as u8).collect();
    [&head, body].concat()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn sound_requests_are_never_read_otherwise(octets in request()) {
        let mut index = Index::new();
        prop_assert_eq!(index.parse(&octets), Ok(()));
        // Without the octets behind the body, which are the one explained difference.
        let exact = &plain(index.message(&octets).bytes());
        prop_assert_ne!(verdict(exact), Some(Differs), "{:?}\n{:?}", ours(exact), theirs(exact));
    }
}
