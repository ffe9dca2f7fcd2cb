//! Comma-separated lists and semicolon parameters (RFC 3261 §7.3.1). Quoted strings and angle brackets hide separators.

use super::scan::{Span, is_lws, quoted_end, skip_lws, token_end, trim_end, value_end};

/// The list element that starts at `at`, trimmed, and where the next one starts. `None` when the element is empty or a
/// quoted string or an angle bracket does not close.
pub(super) fn element(text: &[u8], at: usize) -> Option<(Span, Option<usize>)> {
    let start = skip_lws(text, at);
    let mut at = start;
    let (end, next) = loop {
        match memchr::memchr3(b',', b'"', b'<', &text[at..]) {
            None => break (text.len(), None),
            Some(offset) => {
                at += offset;
                match text[at] {
                    b',' => break (at, Some(at + 1)),
                    b'"' => at = quoted_end(text, at)?,
                    _ => at += memchr::memchr(b'>', &text[at..])? + 1,
                }
            }
        }
    };
    let end = trim_end(text, start, end);
    (end > start).then(|| (Span::new(start, end), next))
}

/// The elements of one header value. An unreadable element is `None` and the last one: behind it nothing can be told apart.
#[derive(Clone)]
pub(super) struct Elements<'a> {
    text: &'a [u8],
    at: Option<usize>,
}

impl<'a> Elements<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Elements { text, at: Some(0) }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at?;
        let found = element(self.text, at);
        self.at = found.and_then(|(_, next)| next);
        Some(found.map(|(span, _)| span.of(self.text)))
    }
}

/// One `;name=value`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Param {
    pub(super) name: Span,
    /// Empty for a flag; a quoted string keeps its quotes.
    pub(super) value: Span,
    /// From the semicolon to the end of the value.
    pub(super) whole: Span,
}

/// The parameter whose semicolon stands at `at`, and where the text behind it goes on (white space skipped).
pub(super) fn param(text: &[u8], at: usize) -> Option<(Param, usize)> {
    let name = skip_lws(text, at + 1);
    let name_end = token_end(text, name);
    if name_end == name {
        return None;
    }
    let mut end = name_end;
    let mut value = Span::new(name_end, name_end);
    let mut next = skip_lws(text, name_end);
    if text.get(next) == Some(&b'=') {
        let start = skip_lws(text, next + 1);
        end = if text.get(start) == Some(&b'"') { quoted_end(text, start)? } else { value_end(text, start) };
        value = Span::new(start, end);
        next = match text.get(end) {
            Some(&octet) if is_lws(octet) => skip_lws(text, end),
            _ => end,
        };
    }
    Some((Param { name: Span::new(name, name_end), value, whole: Span::new(at, end) }, next))
}

/// The parameters of `text`, which starts at a semicolon or is empty. Ends silently where the text stops being
/// parameters; the readers of whole values check that it does not.
#[derive(Clone)]
pub(super) struct Params<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Params<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Params { text, at: 0 }
    }

    /// The value of the first parameter of that name, any case; empty for a flag.
    pub(super) fn find(mut self, name: &[u8]) -> Option<&'a [u8]> {
        let text = self.text;
        Iterator::find(&mut self, |p| p.name.of(text).eq_ignore_ascii_case(name)).map(|p| p.value.of(text))
    }
}

impl Iterator for Params<'_> {
    type Item = Param;

    fn next(&mut self) -> Option<Param> {
        if self.text.get(self.at) != Some(&b';') {
            return None;
        }
        let (param, next) = param(self.text, self.at)?;
        self.at = next;
        Some(param)
    }
}
