//! Request-Line and Status-Line (RFC 3261 §7.1, §7.2), methods.

use crate::base::limits;

use super::scan::{Malformed, Span, token_end, uri_end};
use super::uri::Uri;

/// A method. Case-sensitive (RFC 3261 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// RFC 3261 §13
    Invite,
    /// RFC 3261 §13
    Ack,
    /// RFC 3261 §15
    Bye,
    /// RFC 3261 §9
    Cancel,
    /// RFC 3261 §11
    Options,
    /// RFC 3261 §10
    Register,
    /// RFC 3262
    Prack,
    /// RFC 3311
    Update,
    /// RFC 6086
    Info,
    /// RFC 3515
    Refer,
    /// RFC 6665
    Subscribe,
    /// RFC 6665
    Notify,
    /// RFC 3428
    Message,
    /// RFC 3903
    Publish,
    /// Any other.
    Other(&'a [u8]),
}

impl<'a> Method<'a> {
    /// The method of that name.
    pub fn parse(text: &'a [u8]) -> Method<'a> {
        match text {
            b"INVITE" => Method::Invite,
            b"ACK" => Method::Ack,
            b"BYE" => Method::Bye,
            b"CANCEL" => Method::Cancel,
            b"OPTIONS" => Method::Options,
            b"REGISTER" => Method::Register,
            b"PRACK" => Method::Prack,
            b"UPDATE" => Method::Update,
            b"INFO" => Method::Info,
            b"REFER" => Method::Refer,
            b"SUBSCRIBE" => Method::Subscribe,
            b"NOTIFY" => Method::Notify,
            b"MESSAGE" => Method::Message,
            b"PUBLISH" => Method::Publish,
            other => Method::Other(other),
        }
    }

    /// As written in a message.
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Method::Invite => b"INVITE",
            Method::Ack => b"ACK",
            Method::Bye => b"BYE",
            Method::Cancel => b"CANCEL",
            Method::Options => b"OPTIONS",
            Method::Register => b"REGISTER",
            Method::Prack => b"PRACK",
            Method::Update => b"UPDATE",
            Method::Info => b"INFO",
            Method::Refer => b"REFER",
            Method::Subscribe => b"SUBSCRIBE",
            Method::Notify => b"NOTIFY",
            Method::Message => b"MESSAGE",
            Method::Publish => b"PUBLISH",
            Method::Other(text) => text,
        }
    }
}

/// What a start line says.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// A Request-Line.
    Request {
        /// The method.
        method: Method<'a>,
        /// The Request-URI as written.
        uri: &'a [u8],
    },
    /// A Status-Line.
    Response {
        /// 100 to 699.
        status: u16,
        /// The reason phrase as written; may be empty.
        reason: &'a [u8],
    },
}

/// Where the parts of a start line stand.
pub(super) struct Places {
    /// Empty for a response.
    pub(super) method: Span,
    /// Request-URI or reason phrase.
    pub(super) subject: Span,
    /// 0 for a request.
    pub(super) status: u16,
}

impl Places {
    /// Reads the start line that begins at `at`; `text` ends before its CRLF.
    pub(super) fn read(text: &[u8], at: usize) -> Result<Places, Malformed> {
        if text[at..].starts_with(b"SIP/") { Self::status(text, at) } else { Self::request(text, at) }
    }

    fn status(text: &[u8], at: usize) -> Result<Places, Malformed> {
        let version = at + 7;
        if !text[at..].starts_with(b"SIP/2.0") {
            let word = text[at..].split(|&octet| octet == b' ').next().unwrap_or_default();
            return Err(if is_version(word) { Malformed::Version } else { Malformed::StartLine });
        }
        // The space behind the code is mandatory, but some leave it out together with the phrase.
        let (code, phrase) = match &text[version..] {
            [b' ', code @ ..] if code.len() == 3 => (code, text.len()),
            [b' ', code @ ..] if code.len() > 3 && code[3] == b' ' => (&code[..3], version + 5),
            _ => return Err(Malformed::StatusCode),
        };
        match super::scan::number(code, 699) {
            Some(status) if status >= 100 => {
                let subject = Span::new(phrase, text.len());
                Ok(Places { method: Span::default(), subject, status: status as u16 })
            }
            _ => Err(Malformed::StatusCode),
        }
    }

    fn request(text: &[u8], at: usize) -> Result<Places, Malformed> {
        let method_end = token_end(text, at);
        if method_end == at || text.get(method_end) != Some(&b' ') {
            return Err(Malformed::StartLine);
        }
        let uri = method_end + 1;
        let end = uri_end(text, uri);
        match &text[end..] {
            b" SIP/2.0" => {}
            [b' ', version @ ..] if is_version(version) => match version.eq_ignore_ascii_case(b"SIP/2.0") {
                // RFC 3261 §7.1: the version is compared without case.
                true => {}
                false => return Err(Malformed::Version),
            },
            [b'<' | b'>' | b'"', ..] => return Err(Malformed::RequestUri),
            _ => return Err(Malformed::StartLine),
        }
        let subject = Span::new(uri, end);
        if end - uri > limits::URI {
            return Err(Malformed::UriTooLong);
        }
        match Uri::parse_clean(subject.of(text)) {
            // RFC 3261 §19.1.1: a Request-URI has no headers.
            Some(uri) if uri.headers.is_empty() && !subject.of(text).ends_with(b"?") => {}
            _ => return Err(Malformed::RequestUri),
        }
        Ok(Places { method: Span::new(at, method_end), subject, status: 0 })
    }
}

/// `SIP/n.n`
fn is_version(text: &[u8]) -> bool {
    let Some((name, rest)) = text.split_at_checked(4) else { return false };
    if !name.eq_ignore_ascii_case(b"SIP/") {
        return false;
    }
    let mut parts = rest.split(|&octet| octet == b'.');
    let digits = |part: Option<&[u8]>| part.is_some_and(|p| !p.is_empty() && p.iter().all(u8::is_ascii_digit));
    digits(parts.next()) && digits(parts.next()) && parts.next().is_none()
}
