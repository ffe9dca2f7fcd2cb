//! The usual spelling of the usual headers, read in one go without looking for the end of the line first.
//!
//! Everything here gives up (`None`) at the first octet that is not the usual one; then the general readers judge. A
//! property test holds both to the same answers.

use super::header::Name;
use super::scan::{Span, host_end, token_end, uri_end, user_end};
use super::start;

/// The name at the head of `line` and where its value starts, if both are written as most do.
pub(super) fn name(line: &[u8]) -> Option<(Name, usize)> {
    match line.first()? {
        b'V' => with(line, b"Via: ", Name::Via),
        b'F' => with(line, b"From: ", Name::From),
        b'T' => with(line, b"To: ", Name::To),
        b'C' => match line.get(..6)? {
            b"Call-I" => with(line, b"Call-ID: ", Name::CallId),
            b"CSeq: " => Some((Name::CSeq, 6)),
            b"Contac" => with(line, b"Contact: ", Name::Contact),
            b"Conten" => with(line, b"Content-Length: ", Name::ContentLength)
                .or_else(|| with(line, b"Content-Type: ", Name::ContentType)),
            _ => None,
        },
        b'M' => with(line, b"Max-Forwards: ", Name::MaxForwards),
        b'R' => with(line, b"Route: ", Name::Route).or_else(|| with(line, b"Record-Route: ", Name::RecordRoute)),
        _ => None,
    }
}

#[inline(always)]
fn with<const N: usize>(line: &[u8], prefix: &[u8; N], name: Name) -> Option<(Name, usize)> {
    (line.first_chunk::<N>() == Some(prefix)).then_some((name, N))
}

/// Whether the line ends at `at` and no continuation follows.
pub(super) fn is_end(bytes: &[u8], at: usize) -> bool {
    matches!(bytes.get(at..), Some([b'\r', b'\n', next, ..]) if !matches!(next, b' ' | b'\t'))
}

/// `METHOD sip:[user@]host[:port][;parameters] SIP/2.0`; gives also the position of the CRLF.
pub(super) fn request_line(bytes: &[u8], at: usize) -> Option<(start::Places, usize)> {
    let method_end = token_end(bytes, at);
    if method_end == at || !bytes[method_end..].starts_with(b" sip:") {
        return None;
    }
    let uri = method_end + 1;
    let user = uri + 4;
    let mut host = user;
    let mut end = user_end(bytes, user);
    if bytes.get(end) == Some(&b'@') && end > user {
        host = end + 1;
        end = host_end(bytes, host);
    } else if host_end(bytes, user) != end {
        return None;
    }
    if end == host {
        return None;
    }
    if bytes.get(end) == Some(&b':') {
        end = super::scan::port_end(bytes, end + 1)?.1;
    }
    if bytes.get(end) == Some(&b';') {
        let params = end;
        end = uri_end(bytes, end);
        if bytes[params..end].iter().any(|octet| matches!(octet, b'?' | b'@')) {
            return None;
        }
    }
    if !bytes[end..].starts_with(b" SIP/2.0\r\n") || end - uri > crate::base::limits::URI {
        return None;
    }
    Some((start::Places { method: Span::new(at, method_end), subject: Span::new(uri, end), status: 0 }, end + 8))
}

/// `<URI>, <URI>`; gives the number of values and where they end.
pub(super) fn routes(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let (mut count, mut at) = (0, at);
    loop {
        let end = uri_end(bytes, at + 1);
        if bytes.get(at) != Some(&b'<') || end == at + 1 || bytes.get(end) != Some(&b'>') {
            return None;
        }
        count += 1;
        match bytes.get(end + 1..) {
            Some([b',', b' ', ..]) => at = end + 3,
            Some([b',', ..]) => at = end + 2,
            _ => return Some((count, end + 1)),
        }
    }
}

/// `number METHOD`; gives the number, the method and where it ends.
pub(super) fn cseq(bytes: &[u8], at: usize) -> Option<(u32, Span)> {
    let (number, end) = digits(bytes, at, (1 << 31) - 1)?;
    let method = end + 1;
    let method_end = token_end(bytes, method);
    (bytes.get(end) == Some(&b' ') && method_end > method).then_some((number, Span::new(method, method_end)))
}

/// A number of at most `limit`, and where it ends.
pub(super) fn digits(bytes: &[u8], at: usize, limit: u32) -> Option<(u32, usize)> {
    let mut end = at;
    let mut value = 0u64;
    while let Some(digit @ b'0'..=b'9') = bytes.get(end) {
        value = value * 10 + u64::from(digit - b'0');
        end += 1;
        if value > u64::from(limit) {
            return None;
        }
    }
    (end > at).then_some((value as u32, end))
}
