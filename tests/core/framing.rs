//! Where messages end on a stream, however the octets arrive.

use tandem::sip::{Frame, Framer, FramingError, Malformed, Noise, noise};

/// What a stream turned out to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Message(usize),
    Ping,
    Noise,
    Lost(FramingError),
    /// So many octets wait for more.
    Rest(usize),
}

/// What is found in `octets`; `next` says how many octets have arrived after the next read, given how many have before.
pub fn events(octets: &[u8], next: impl Fn(usize) -> usize) -> Vec<Event> {
    let mut framer = Framer::new();
    let mut found = Vec::new();
    let (mut start, mut arrived) = (0, 0);
    loop {
        match framer.next(&octets[start..arrived]) {
            Ok(Frame::Incomplete) if arrived < octets.len() => {
                arrived = next(arrived).min(octets.len());
                continue;
            }
            Ok(Frame::Incomplete) => {
                if start < arrived {
                    found.push(Event::Rest(arrived - start));
                }
                return found;
            }
            Ok(Frame::Message(length)) => {
                found.push(Event::Message(length));
                start += length;
            }
            Ok(Frame::Ping(length)) => {
                found.push(Event::Ping);
                start += length;
            }
            Ok(Frame::Noise(length)) => {
                found.push(Event::Noise);
                start += length;
            }
            Err(error) => {
                found.push(Event::Lost(error));
                return found;
            }
        }
        framer.consumed();
    }
}

/// What is found when all octets arrive at once.
pub fn whole(octets: &[u8]) -> Vec<Event> {
    events(octets, |_| usize::MAX)
}

/// Where to cut `length` octets in two: everywhere, and in a long message not everywhere in the middle.
pub fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (1..length).filter(move |cut| length < 4_000 || *cut < 600 || length - cut < 100 || cut % 1_999 == 0)
}

const OPTIONS: &[u8] = b"OPTIONS sip:rm.example.net SIP/2.0\r\n\
Via: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bK-o\r\n\
From: <sip:a@b>;tag=1\r\n\
To: <sip:c@d>\r\n\
Call-ID: o\r\n\
CSeq: 1 OPTIONS\r\n\
Content-Length: 0\r\n\
\r\n";

/// A message with these header lines and octets behind the empty line.
fn message(headers: &str, body: &str) -> Vec<u8> {
    let head = "MESSAGE sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\n";
    [head, headers, "\r\n", body].concat().into_bytes()
}

/// The events of `octets`, after proof that they are the same however the octets are cut.
fn found(octets: &[u8]) -> Vec<Event> {
    let expected = whole(octets);
    for cut in cuts(octets.len()) {
        assert_eq!(events(octets, |at| if at < cut { cut } else { usize::MAX }), expected, "cut at {cut}");
    }
    assert_eq!(events(octets, |at| at + 1), expected, "octet by octet");
    expected
}

fn reason(octets: &[u8]) -> Malformed {
    match found(octets)[..] {
        [Event::Lost(error)] => error.reason,
        ref other => panic!("{other:?} of {:?}", String::from_utf8_lossy(octets)),
    }
}

#[test]
fn messages_back_to_back_are_told_apart_by_content_length() {
    let first = message("Content-Length: 5\r\n", "12345");
    let both = [&first[..], OPTIONS].concat();
    assert_eq!(found(&both), [Event::Message(first.len()), Event::Message(OPTIONS.len())]);
}

#[test]
fn every_legal_spelling_of_content_length_counts() {
    for header in [
        "Content-Length: 5\r\n",
        "content-length:5\r\n",
        "L: 5\r\n",
        "l \t : 005 \r\n",
        "Content-Length:\r\n 5\r\n",
        "Content-Length: 5\r\n \r\nX: y\r\n",
    ] {
        let octets = message(header, "12345");
        assert_eq!(found(&octets), [Event::Message(octets.len())], "{header:?}");
    }
}

#[test]
fn a_doubtful_content_length_loses_the_framing() {
    for header in [
        "Content-Length: -1\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5,5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5;x\r\n",
        "Content-Length: 1\r\n 2\r\n",
        "Content-Length:\r\n",
        "Content-Length: 65536\r\n",
        "Content-Length: 4294967301\r\n",
        "Content-Length: 18446744073709551621\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nl: 5\r\n",
    ] {
        assert_eq!(reason(&message(header, "12345")), Malformed::ContentLength, "{header:?}");
    }
    assert_eq!(reason(&message("X: y\r\n", "12345")), Malformed::NoContentLength);
}

#[test]
fn lines_that_two_readers_could_see_differently_lose_the_framing() {
    for (headers, fault) in [
        ("Content-Length : 5\r\n: x\r\n", Malformed::HeaderName),
        ("Content-Length: 5\r\nX Y: 1\r\n", Malformed::HeaderName),
        ("Content-Length: 5\r\nX\u{b}: 1\r\n", Malformed::HeaderName),
        ("Content-Length: 5\r\nrubbish\r\n", Malformed::HeaderName),
        ("Content-Length: 5\r\nX: a\nRoute: <sip:e>\r\n", Malformed::ControlCharacter),
        ("Content-Length: 5\r\nX: a\rb\r\n", Malformed::ControlCharacter),
        ("Content-Length: 5\r\nX: a\0b\r\n", Malformed::ControlCharacter),
        ("Content-Length: 5\n", Malformed::ControlCharacter),
    ] {
        assert_eq!(reason(&message(headers, "12345")), fault, "{headers:?}");
    }
    let fold = b"OPTIONS sip:a SIP/2.0\r\n Via: x\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(reason(fold), Malformed::HeaderFold);
}

#[test]
fn the_answer_to_lost_framing_has_the_whole_header_section() {
    let octets = message("Content-Length: x\r\nCall-ID: later\r\n", "12345");
    let head = octets.len() - 5;
    assert_eq!(found(&octets), [Event::Lost(FramingError { reason: Malformed::ContentLength, head })]);
}

#[test]
fn what_cannot_be_a_start_line_is_not_waited_for() {
    for octets in [&b"\0"[..], b"\x16\x03\x01", b"\n", b" OPTIONS", b"<", b"\r\nGET / HTTP/1.1\r\n", b"\rX"] {
        match found(octets).last() {
            Some(Event::Lost(error)) => assert_eq!(error.head, 0),
            other => panic!("{other:?} of {octets:?}"),
        }
    }
    // What only looks broken is the parser's to answer.
    let odd = b"OPTIONS  sip:a SIP/7.0 \r\nContent-Length: 0\r\n\r\n";
    assert_eq!(found(odd), [Event::Message(odd.len())]);
}

#[test]
fn a_double_crlf_is_one_ping_however_it_comes() {
    assert_eq!(found(b"\r\n"), [Event::Noise]);
    assert_eq!(found(b"\r\n\r\n"), [Event::Noise, Event::Ping]);
    assert_eq!(found(b"\r\n\r\n\r\n\r\n"), [Event::Noise, Event::Ping, Event::Noise, Event::Ping]);
    let between = [b"\r\n", OPTIONS, b"\r\n", OPTIONS].concat();
    let message = Event::Message(OPTIONS.len());
    assert_eq!(found(&between), [Event::Noise, message, Event::Noise, message]);
}

#[test]
fn a_message_that_is_not_all_there_is_waited_for() {
    let octets = message("Content-Length: 6\r\n", "12345");
    assert_eq!(found(&octets), [Event::Rest(octets.len())]);
    assert_eq!(found(b"OPTIONS sip:a SIP/2.0\r\nX: y"), [Event::Rest(27)]);
}

#[test]
fn nothing_is_waited_for_beyond_the_limit() {
    let endless = message(&format!("X: {}", "x".repeat(70_000)), "");
    assert_eq!(reason(&endless), Malformed::TooLarge);
    assert_eq!(reason(&message("Content-Length: 65535\r\n", "")), Malformed::TooLarge);
    let room = 65_535 - message("Content-Length: 65000\r\n", "").len();
    assert!(room > 400);
    let fits = message("Content-Length: 65000\r\n", &"b".repeat(65_000));
    assert_eq!(whole(&fits), [Event::Message(fits.len())]);
}

#[test]
fn asking_again_changes_nothing() {
    let mut framer = Framer::new();
    let octets = [OPTIONS, OPTIONS].concat();
    assert_eq!(framer.next(&octets), Ok(Frame::Message(OPTIONS.len())));
    assert_eq!(framer.next(&octets), Ok(Frame::Message(OPTIONS.len())));
    framer.consumed();
    assert_eq!(framer.next(&octets[OPTIONS.len()..]), Ok(Frame::Message(OPTIONS.len())));
    let mut broken = Framer::new();
    assert_eq!(broken.next(b"X: a\n"), broken.next(b"X: a\n"));
    let mut waiting = Framer::new();
    assert!(!waiting.is_waiting());
    assert_eq!(waiting.next(&OPTIONS[..40]), Ok(Frame::Incomplete));
    assert!(waiting.is_waiting());
}

#[test]
fn datagrams_that_are_no_sip_are_known() {
    let stun = [&[0, 1, 0, 4, 0x21, 0x12, 0xa4, 0x42][..], &[7; 16]].concat();
    assert_eq!(noise(&stun), Some(Noise::Stun));
    assert_eq!(noise(&stun[..23]), None);
    assert_eq!(noise(b"\r\n\r\n"), Some(Noise::KeepAlive));
    assert_eq!(noise(&[0; 4]), Some(Noise::KeepAlive));
    assert_eq!(noise(b""), Some(Noise::KeepAlive));
    assert_eq!(noise(OPTIONS), None);
}
