//! What can be read of a message that was refused: enough to answer it. One bad header must not leave the caller without
//! an answer, retransmitting for 32 seconds.

use super::header::{Index, NONE, Name};
use super::list::element;
use super::scan::{Span, token_end, trim_end};
use super::{name_addr, via};

impl Index {
    /// Collects the fields that a response copies, skipping what is broken. Only CRLF ends a line here: a bare LF never
    /// makes a header.
    #[cold]
    pub(super) fn salvage(&mut self, bytes: &[u8]) {
        self.clear();
        let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
        let mut at = 0;
        while bytes[at..].starts_with(b"\r\n") {
            at += 2;
        }
        let Some(end) = memchr::memmem::find(&bytes[at..], b"\r\n").map(|offset| at + offset) else { return };
        self.start = Span::new(at, end + 2);
        let method = token_end(bytes, at);
        let spoken = memchr::memmem::find(&bytes[method..end], b" SIP/").is_some();
        if spoken && bytes.get(method) == Some(&b' ') {
            self.method = Span::new(at, method);
        }
        at = end + 2;
        while at < bytes.len() && !bytes[at..].starts_with(b"\r\n") {
            let end = line_end(bytes, at).unwrap_or(bytes.len());
            self.header_end = end.min(usize::from(u16::MAX) - 2) as u16 + 2;
            self.keep(bytes, at, end);
            at = end + 2;
        }
    }

    fn keep(&mut self, bytes: &[u8], at: usize, end: usize) {
        let text = &bytes[..end];
        // Only the first line can start with white space: a continuation of the start line, so a refused one.
        let at = super::scan::skip_lws(text, at);
        let name_end = token_end(text, at);
        let mut colon = name_end;
        while let Some(b' ' | b'\t') = text.get(colon) {
            colon += 1;
        }
        if text.get(colon) != Some(&b':') {
            return;
        }
        let name = Name::of(&text[at..name_end]);
        let start = super::scan::skip_lws(text, colon + 1);
        let value = Span::new(start, trim_end(text, start, end));
        let text = &text[..usize::from(value.end)];
        match name {
            Name::Via if self.first(Name::Via) == NONE => self.salvage_via(text, start),
            Name::From | Name::To | Name::CallId | Name::CSeq if self.first(name) != NONE => return,
            Name::To => self.to = name_addr::Places::read(text, start).unwrap_or_default(),
            Name::Via | Name::From | Name::CallId | Name::CSeq | Name::Timestamp => {}
            _ => return,
        }
        self.push(name, at, value);
    }

    fn salvage_via(&mut self, text: &[u8], start: usize) {
        let whole =
            element(text, start).and_then(|(value, _)| via::Places::read(&text[..usize::from(value.end)], start));
        self.via = whole.or_else(|| via::Places::sent_by(text, start).map(|found| found.0)).unwrap_or_default();
    }
}

/// The CRLF that ends the line with all its continuations.
fn line_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memmem::find(bytes.get(at..)?, b"\r\n")?;
        match bytes.get(at + 2) {
            Some(b' ' | b'\t') => at += 2,
            _ => return Some(at),
        }
    }
}
