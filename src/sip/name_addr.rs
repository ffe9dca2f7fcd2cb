//! Addresses with display name and parameters: From, To, Contact, Route, Record-Route (RFC 3261 §20.10, §25.1).

use super::list::{Params, element, param};
use super::scan::{
    Span, display_end, display_word_end, quoted_end, quoted_text_end, skip_lws, trim_end, uri_end, value_end,
};
use super::uri::Uri;

/// One address of a header.
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'a> {
    /// The whole list element.
    pub value: &'a [u8],
    /// Display name as written, quotes included; empty if there is none.
    pub display: &'a [u8],
    /// The URI without angle brackets.
    pub uri: &'a [u8],
    /// Header parameters, from the first semicolon behind the URI.
    pub params: &'a [u8],
}

impl<'a> NameAddr<'a> {
    /// Reads one list element. `None` when it is no address, or when more than one stands in it.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        if value.len() > usize::from(u16::MAX) {
            return None;
        }
        let mut places = Places::default();
        match places.usual(value, 0) {
            Some(end) if end == value.len() => Some(places.of(value)),
            _ => Places::read(value, 0).map(|places| places.of(value)),
        }
    }

    /// The value of a header parameter, any case; empty for a flag. A quoted value keeps its quotes.
    pub fn param(&self, name: &[u8]) -> Option<&'a [u8]> {
        Params::new(self.params).find(name)
    }

    /// The tag of a From or To.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.param(b"tag")
    }

    /// The URI taken apart; `None` when it cannot be.
    pub fn parsed(&self) -> Option<Uri<'a>> {
        Uri::parse(self.uri)
    }
}

/// Where the parts of an address stand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Places {
    pub(super) value: Span,
    pub(super) display: Span,
    pub(super) uri: Span,
    pub(super) params: Span,
    /// The tag. Empty: there is none.
    pub(super) tag: Span,
}

impl Places {
    /// Reads `[display] <URI>[;tag=…]` without other white space, whatever follows; gives where it ends. Gives up at
    /// anything else. The parts must be default before, and are rubbish after `None`.
    pub(super) fn usual(&mut self, text: &[u8], at: usize) -> Option<usize> {
        let (bracket, display_end) = match text.get(at)? {
            b'<' => (at, at),
            b'"' => {
                let close = quoted_text_end(text, at + 1);
                let next = close + 1;
                (text.get(close) == Some(&b'"')).then_some((next + usize::from(text.get(next) == Some(&b' ')), next))?
            }
            _ => {
                let end = display_word_end(text, at);
                (end, trim_end(text, at, end))
            }
        };
        let uri = bracket + 1;
        let uri_end = match text.get(bracket) {
            Some(b'<') => uri_end(text, uri),
            _ => return None,
        };
        if uri_end == uri || text.get(uri_end) != Some(&b'>') {
            return None;
        }
        let params = uri_end + 1;
        let mut end = params;
        if text[params..].starts_with(b";tag=") {
            end = value_end(text, params + 5);
            self.tag = Span::new(params + 5, end);
            if self.tag.is_empty() {
                return None;
            }
        }
        self.value = Span::new(at, end);
        self.display = Span::new(at, display_end);
        self.uri = Span::new(uri, uri_end);
        self.params = Span::new(params, end);
        Some(end)
    }

    /// Reads the address that starts at `at` and ends with `text`, white space around it allowed. `None` also for an
    /// empty tag and for a second one (RFC 3261 §7.3.1).
    pub(super) fn read(text: &[u8], at: usize) -> Option<Places> {
        let start = skip_lws(text, at);
        let mut places = Places::default();
        let display_end = match text.get(start)? {
            b'"' => quoted_end(text, start)?,
            b'<' => start,
            _ => display_end(text, start),
        };
        let bracket = skip_lws(text, display_end);
        let mut at = match text.get(bracket)? {
            b'<' => {
                places.display = Span::new(start, trim_end(text, start, display_end));
                places.bracketed(text, bracket)?
            }
            b':' if text[start] != b'"' => places.bare(text, start, bracket)?,
            _ => return None,
        };
        let params = at;
        let mut end = at;
        at = skip_lws(text, at);
        while at < text.len() {
            if text[at] != b';' {
                return None;
            }
            let (param, next) = param(text, at)?;
            if param.name.of(text).eq_ignore_ascii_case(b"tag") {
                if param.value.is_empty() || !places.tag.is_empty() {
                    return None;
                }
                places.tag = param.value;
            }
            end = usize::from(param.whole.end);
            at = next;
        }
        places.params = Span::new(skip_lws(text, params).min(end), end);
        places.value = Span::new(start, end);
        Some(places)
    }

    /// `<URI>`, which may turn out to be none when it is needed (RFC 3666 §2.3 F14 forgets the scheme). Spaces inside
    /// the brackets are a fault that needs no punishment (RFC 4475 §3.1.2.14).
    fn bracketed(&mut self, text: &[u8], bracket: usize) -> Option<usize> {
        let start = skip_lws(text, bracket + 1);
        let end = uri_end(text, start);
        let close = skip_lws(text, end);
        self.uri = Span::new(start, end);
        (end > start && text.get(close) == Some(&b'>')).then_some(close + 1)
    }

    /// A URI without brackets ends at the first semicolon: what follows are parameters of the header
    /// (RFC 3261 §20.10).
    fn bare(&mut self, text: &[u8], start: usize, colon: usize) -> Option<usize> {
        let end = value_end(text, colon);
        self.display = Span::new(start, start);
        self.uri = Span::new(start, end);
        (uri_end(text, start) >= end && end > colon + 1 && colon > start).then_some(end)
    }

    /// The address in the octets that it was read from.
    pub(super) fn of<'a>(&self, bytes: &'a [u8]) -> NameAddr<'a> {
        NameAddr {
            value: self.value.of(bytes),
            display: self.display.of(bytes),
            uri: self.uri.of(bytes),
            params: self.params.of(bytes),
        }
    }
}

/// The addresses of one header value. An unreadable one is `None`; behind a bracket that does not close nothing follows.
pub(super) struct Addresses<'a> {
    text: &'a [u8],
    at: Option<usize>,
}

impl<'a> Addresses<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Addresses { text, at: Some(0) }
    }
}

impl<'a> Iterator for Addresses<'a> {
    type Item = Option<NameAddr<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at?;
        let mut places = Places::default();
        match places.usual(self.text, skip_lws(self.text, at)) {
            Some(end) if end == self.text.len() => self.at = None,
            Some(end) if self.text[end] == b',' => self.at = Some(end + 1),
            _ => {
                let found = element(self.text, at);
                self.at = found.and_then(|(_, next)| next);
                return Some(found.and_then(|(span, _)| NameAddr::parse(span.of(self.text))));
            }
        }
        Some(Some(places.of(self.text)))
    }
}
