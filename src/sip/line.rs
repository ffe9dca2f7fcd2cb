//! Header fields as lines (RFC 3261 §7.3.1): name, colon, value, folds, and the CRLF that really ends them.

use super::scan::{Malformed, Span, skip_lws, token_end, trim_end};

/// One header field with its continuation lines.
pub(super) struct Line {
    pub(super) name_end: usize,
    pub(super) value: Span,
    /// Behind the CRLF.
    pub(super) next: usize,
}

impl Line {
    /// Reads the field that starts at `at`.
    pub(super) fn read(bytes: &[u8], at: usize) -> Result<Line, Malformed> {
        let name_end = token_end(bytes, at);
        let mut colon = name_end;
        while let Some(b' ' | b'\t') = bytes.get(colon) {
            colon += 1;
        }
        if name_end == at || bytes.get(colon) != Some(&b':') {
            return Err(name_fault(bytes, at));
        }
        let end = Self::end(bytes, colon + 1)?;
        let start = skip_lws(&bytes[..end], colon + 1);
        Ok(Line { name_end, value: Span::new(start, trim_end(bytes, start, end)), next: end + 2 })
    }

    /// The CRLF that ends the value which starts at `from`: the first one behind which no white space continues it.
    pub(super) fn end(bytes: &[u8], from: usize) -> Result<usize, Malformed> {
        let mut at = from;
        loop {
            at += memchr::memchr3(b'\r', b'\n', 0, &bytes[at..]).ok_or(Malformed::NoEmptyLine)?;
            match bytes[at..] {
                [b'\r', b'\n', b' ' | b'\t', ..] => at += 3,
                [b'\r', b'\n', ..] => return Ok(at),
                [b'\r'] => return Err(Malformed::NoEmptyLine),
                [0, ..] => return Self::end_with_nul(bytes, from),
                _ => return Err(Malformed::ControlCharacter),
            }
        }
    }

    /// As [`Line::end`], for a value with a NUL in it: legal only behind a backslash in a quoted string
    /// (RFC 3261 §25.1 quoted-pair, RFC 4475 §3.1.1.2).
    #[cold]
    fn end_with_nul(bytes: &[u8], from: usize) -> Result<usize, Malformed> {
        let mut quoted = false;
        let mut at = from;
        loop {
            match bytes.get(at..) {
                Some([b'\r', b'\n', b' ' | b'\t', ..]) => at += 3,
                Some([b'\r', b'\n', ..]) => return Ok(at),
                Some([0 | b'\n', ..] | [b'\r', _, ..]) => return Err(Malformed::ControlCharacter),
                // A quoted-pair never escapes a line end.
                Some([b'\\', b'\r' | b'\n', ..]) => at += 1,
                Some([b'\\', _, ..]) if quoted => at += 2,
                Some([octet, ..]) => {
                    quoted ^= *octet == b'"';
                    at += 1;
                }
                _ => return Err(Malformed::NoEmptyLine),
            }
        }
    }
}

/// Why the text at `at` is no header name.
#[cold]
fn name_fault(bytes: &[u8], at: usize) -> Malformed {
    match memchr::memchr(b'\n', &bytes[at..]) {
        None => Malformed::NoEmptyLine,
        Some(0) => Malformed::ControlCharacter,
        Some(offset) if bytes[at + offset - 1] != b'\r' => Malformed::ControlCharacter,
        Some(_) => Malformed::HeaderName,
    }
}
