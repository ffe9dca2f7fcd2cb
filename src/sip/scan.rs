//! Spans, reasons of refusal, byte classes and the smallest readers (RFC 3261 §25.1).

use std::fmt;

/// Half-open range of octets in a message. Positions fit because a message has at most
/// [`limits::MESSAGE`](crate::base::limits::MESSAGE) octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First octet.
    pub start: u16,
    /// One past the last octet.
    pub end: u16,
}

impl Span {
    /// The range `start..end`; positions behind 65,535 are cut to it.
    pub(super) const fn new(start: usize, end: usize) -> Self {
        Span { start: position(start), end: position(end) }
    }

    /// The octets of this range; empty when `bytes` is too short.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }

    /// Number of octets.
    pub const fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.end <= self.start
    }
}

const fn position(at: usize) -> u16 {
    if at > u16::MAX as usize { u16::MAX } else { at as u16 }
}

macro_rules! malformed {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal,)+) => {
        /// Why a message is refused. Says nothing about the status of an answer: `proxy` maps that in one place.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Malformed {
            $($(#[$doc])+ $variant,)+
        }

        impl Malformed {
            /// Every reason, in order of declaration.
            pub const ALL: &'static [Malformed] = &[$(Malformed::$variant,)+];

            /// The label of this reason in metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Malformed::$variant => $name,)+
                }
            }
        }
    };
}

malformed! {
    /// The start line is neither a Request-Line nor a Status-Line (RFC 3261 §7.1, §7.2).
    StartLine = "start_line",
    /// A SIP version other than 2.0 (RFC 3261 §21.5.6: 505).
    Version = "version",
    /// A status code outside 100 to 699, or not of three digits.
    StatusCode = "status_code",
    /// The Request-URI is no URI, carries headers, or stands in angle brackets.
    RequestUri = "request_uri",
    /// The Request-URI is longer than `limits::URI` (RFC 3261 §21.4.12: 414).
    UriTooLong = "uri_too_long",
    /// A header line without a name, without a colon, or with an octet in its name that a token cannot have.
    HeaderName = "header_name",
    /// A continuation line behind the start line: there is nothing to continue.
    HeaderFold = "header_fold",
    /// A bare CR, a bare LF or an unescaped NUL in the header section.
    ControlCharacter = "control_character",
    /// The header section does not end.
    NoEmptyLine = "no_empty_line",
    /// More than `limits::MESSAGE` octets (RFC 3261 §21.5.7: 513).
    TooLarge = "too_large",
    /// More than `limits::HEADERS` header fields (513).
    TooManyHeaders = "too_many_headers",
    /// More than `limits::VIAS` Via values (513).
    TooManyVias = "too_many_vias",
    /// More than `limits::ROUTES` Route values (513).
    TooManyRoutes = "too_many_routes",
    /// No Via.
    NoVia = "no_via",
    /// The topmost Via cannot be read, or the list has an empty element.
    BadVia = "bad_via",
    /// The topmost branch is the magic cookie alone, empty, or longer than `limits::IDENTIFIER`.
    BadBranch = "bad_branch",
    /// No From.
    NoFrom = "no_from",
    /// From cannot be read, or its tag is empty or too long.
    BadFrom = "bad_from",
    /// No To.
    NoTo = "no_to",
    /// To cannot be read, or its tag is empty or too long.
    BadTo = "bad_to",
    /// No Call-ID.
    NoCallId = "no_call_id",
    /// Call-ID is empty, has white space inside, or is longer than `limits::IDENTIFIER`.
    BadCallId = "bad_call_id",
    /// No CSeq.
    NoCSeq = "no_cseq",
    /// CSeq is not a number below 2^31 and a method (RFC 3261 §8.1.1.5).
    BadCSeq = "bad_cseq",
    /// The method of CSeq is not that of the request line.
    CSeqMethod = "cseq_method",
    /// From, To, Call-ID, CSeq or Max-Forwards stands twice.
    Duplicate = "duplicate",
    /// Max-Forwards of a request is not a number from 0 to 255 (RFC 3261 §20.22).
    MaxForwards = "max_forwards",
    /// A Route value cannot be read.
    BadRoute = "bad_route",
    /// Content-Length is no number, stands twice, or exceeds `limits::MESSAGE`.
    ContentLength = "content_length",
    /// A message on a stream without Content-Length (RFC 3261 §18.3).
    NoContentLength = "no_content_length",
    /// A datagram that holds less body than Content-Length says (RFC 3261 §18.3).
    BodyShort = "body_short",
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const TOKEN: u8 = 1;
const HOST: u8 = 2;
const URI: u8 = 4;
const VALUE: u8 = 8;
const DISPLAY: u8 = 16;
const WORD: u8 = 32;
const QUOTED: u8 = 64;

/// What each octet may be part of. Octets above 127 pass wherever a value is opaque: nothing here judges UTF-8.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let octet = n as u8;
        let alphanumeric = octet.is_ascii_alphanumeric();
        let visible = octet > b' ';
        let mut class = 0;
        if alphanumeric || matches!(octet, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~') {
            class |= TOKEN;
        }
        if alphanumeric || matches!(octet, b'-' | b'.' | b'_') {
            class |= HOST;
        }
        if visible && !matches!(octet, b'<' | b'>' | b'"') {
            class |= URI;
        }
        // A stray bracket behind a value stands even in RFC 3666 (§2.3 F5).
        if visible && !matches!(octet, b'<' | b'"' | b';' | b',') {
            class |= VALUE;
        }
        if (visible || matches!(octet, b' ' | b'\t' | b'\r' | b'\n'))
            && !matches!(octet, b'<' | b'>' | b'"' | b';' | b',' | b':')
        {
            class |= DISPLAY;
        }
        if class & TOKEN != 0 || octet == b' ' {
            class |= WORD;
        }
        if octet >= b' ' && !matches!(octet, b'"' | b'\\' | 0x7f) {
            class |= QUOTED;
        }
        table[n] = class;
        n += 1;
    }
    table
}

fn run(text: &[u8], mut at: usize, class: u8) -> usize {
    while let Some(&octet) = text.get(at)
        && CLASS[usize::from(octet)] & class != 0
    {
        at += 1;
    }
    at
}

const ONES: u64 = u64::MAX / 255;
const TOPS: u64 = ONES << 7;

/// As [`run`], eight octets at a time. `stops` flags, in the top bit of each octet, whatever is not of the class; it may
/// flag more, and anything above the lowest flag may be wrong: the table has the last word.
#[inline(always)]
fn wide_run(text: &[u8], mut at: usize, class: u8, stops: impl Fn(u64) -> u64) -> usize {
    while let Some(block) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let flags = stops(u64::from_le_bytes(*block));
        if flags == 0 {
            at += 8;
            continue;
        }
        at += (flags.trailing_zeros() / 8) as usize;
        match text.get(at) {
            Some(&octet) if CLASS[usize::from(octet)] & class != 0 => at += 1,
            _ => return at,
        }
    }
    run(text, at, class)
}

/// Flags the octets below `limit`, which is at most 128.
#[inline(always)]
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * limit as u64) & !word & TOPS
}

/// Flags the octets equal to `octet`.
#[inline(always)]
const fn equal(word: u64, octet: u8) -> u64 {
    below(word ^ (ONES * octet as u64), 1)
}

/// Flags all but digits, lower-case letters, dash and dot.
#[inline(always)]
const fn no_name(word: u64) -> u64 {
    let low = word & !TOPS;
    // The top bit of an octet of each sum tells whether that octet is at least so large.
    let (dash, colon) = (low + ONES * (0x80 - b'-' as u64), low + ONES * (0x80 - b':' as u64));
    let (a, brace) = (low + ONES * (0x80 - b'a' as u64), low + ONES * (0x80 - b'{' as u64));
    let member = (dash & !colon) | (a & !brace);
    ((!member | word) & TOPS) | equal(word, b'/')
}

/// Where the token that starts at `at` ends.
pub(super) fn token_end(text: &[u8], at: usize) -> usize {
    run(text, at, TOKEN)
}

/// Where the host name that starts at `at` ends. The underscore is no host character, but in use.
pub(super) fn host_end(text: &[u8], at: usize) -> usize {
    wide_run(text, at, HOST, no_name)
}

/// Where the user part, or the host that stands in its place, ends that is made of token octets.
pub(super) fn user_end(text: &[u8], at: usize) -> usize {
    wide_run(text, at, TOKEN, no_name)
}

/// Where the octets end that a URI can be made of.
pub(super) fn uri_end(text: &[u8], at: usize) -> usize {
    wide_run(text, at, URI, |word| below(word, b'"' + 1) | equal(word | (ONES * 2), b'>'))
}

/// Where an unquoted parameter value ends.
pub(super) fn value_end(text: &[u8], at: usize) -> usize {
    wide_run(text, at, VALUE, |word| below(word, b',' + 1) | equal(word, b';') | equal(word, b'<'))
}

/// Where an unquoted display name ends. Wider than the tokens of RFC 3261: it stops only where a reader could go astray.
pub(super) fn display_end(text: &[u8], at: usize) -> usize {
    run(text, at, DISPLAY)
}

/// Where a display name ends that is made of tokens with spaces between.
pub(super) fn display_word_end(text: &[u8], at: usize) -> usize {
    run(text, at, WORD)
}

/// Where the inside of a quoted string without quoted-pairs ends.
pub(super) fn quoted_text_end(text: &[u8], at: usize) -> usize {
    run(text, at, QUOTED)
}

/// Linear white space. CR and LF count: where a value is read, they only stand in folds (RFC 3261 §7.3.1).
pub(super) const fn is_lws(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

/// The first octet from `at` on that is no white space.
pub(super) fn skip_lws(text: &[u8], mut at: usize) -> usize {
    while let Some(&octet) = text.get(at)
        && is_lws(octet)
    {
        at += 1;
    }
    at
}

/// `start..end` without white space at its end.
pub(super) fn trim_end(text: &[u8], start: usize, mut end: usize) -> usize {
    while end > start && is_lws(text[end - 1]) {
        end -= 1;
    }
    end
}

/// `text` without white space around it.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    let start = skip_lws(text, 0);
    &text[start..trim_end(text, start, text.len())]
}

/// One past the closing quote of the quoted string that starts at `at`; a backslash takes the next octet with it.
pub(super) fn quoted_end(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The number that all of `text` spells; `None` if there are no digits, others than digits, or if it exceeds `limit`.
pub(super) fn number(text: &[u8], limit: u32) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for &digit in text {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
        if value > u64::from(limit) {
            return None;
        }
    }
    Some(value as u32)
}

/// A port that something can be sent to: 1 to 65,535.
pub(super) fn port(text: &[u8]) -> Option<u16> {
    match number(text, u32::from(u16::MAX)) {
        Some(0) | None => None,
        Some(port) => Some(port as u16),
    }
}

/// The port whose digits start at `at`, and where they end.
pub(super) fn port_end(text: &[u8], at: usize) -> Option<(u16, usize)> {
    let mut end = at;
    while text.get(end).is_some_and(u8::is_ascii_digit) {
        end += 1;
    }
    Some((port(&text[at..end])?, end))
}
