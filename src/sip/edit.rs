//! Edits beside a message: a message is never modified. Written out by one gather.

use super::header::Name;
use super::list::element;
use super::message::Message;
use super::scan::Span;

/// A list of edits of one message. Reusable: [`Edits::clear`] keeps the memory.
#[derive(Debug, Default)]
pub struct Edits {
    edits: Vec<Edit>,
    /// The new text of all edits, in order of calls.
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Edit {
    span: Span,
    /// Range in the text.
    from: u32,
    to: u32,
}

/// The text of one edit, to be appended to.
pub struct Text<'e> {
    edits: &'e mut Edits,
}

impl Text<'_> {
    /// Appends octets.
    pub fn push(&mut self, octets: &[u8]) -> &mut Self {
        self.edits.text.extend_from_slice(octets);
        self.grown()
    }

    /// Appends a decimal number.
    pub fn number(&mut self, value: u64) -> &mut Self {
        decimal(value, &mut self.edits.text);
        self.grown()
    }

    fn grown(&mut self) -> &mut Self {
        let end = self.edits.text.len() as u32;
        if let Some(edit) = self.edits.edits.last_mut() {
            edit.to = end;
        }
        self
    }
}

impl Edits {
    /// No edits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all edits.
    pub fn clear(&mut self) {
        self.edits.clear();
        self.text.clear();
    }

    /// Replaces `span` by what is appended to the returned text. Edits may come in any order, but must not overlap;
    /// of overlapping ones the later part is lost. Edits at one place keep the order of calls, insertions first.
    pub fn replace(&mut self, span: Span) -> Text<'_> {
        let end = self.text.len() as u32;
        self.edits.push(Edit { span, from: end, to: end });
        Text { edits: self }
    }

    /// Inserts what is appended to the returned text before position `at`.
    pub fn insert(&mut self, at: u16) -> Text<'_> {
        self.replace(Span { start: at, end: at })
    }

    /// Removes `span`.
    pub fn remove(&mut self, span: Span) {
        self.replace(span);
    }

    /// Removes the first `count` values of a comma-separated header across its fields; a field vanishes with its last
    /// value.
    pub fn remove_values(&mut self, message: &Message<'_>, name: Name, count: usize) {
        let mut left = count;
        for header in message.all(name) {
            let mut next = Some(0);
            while let Some(at) = next
                && left > 0
            {
                next = element(header.value, at).and_then(|(_, more)| more);
                left -= 1;
            }
            match next {
                None => self.remove(header.line),
                Some(0) => return,
                Some(kept) => {
                    let value = message.span(header.value);
                    let kept = super::scan::skip_lws(header.value, kept);
                    self.remove(Span { start: value.start, end: value.start + kept as u16 });
                    return;
                }
            }
        }
    }

    /// Appends the edited message to `out`. The body and everything that no edit names stay as they are.
    pub fn write(&mut self, message: &Message<'_>, out: &mut Vec<u8>) {
        // Texts stand in order of calls, so their place keeps that order without a stable sort, which would allocate.
        self.edits.sort_unstable_by_key(|edit| (edit.span.start, !edit.span.is_empty(), edit.from));
        let bytes = message.base();
        let whole = message.span(message.bytes());
        let mut at = whole.start;
        out.reserve(whole.len() + self.text.len());
        for edit in &self.edits {
            out.extend_from_slice(Span { start: at, end: edit.span.start }.of(bytes));
            out.extend_from_slice(&self.text[edit.from as usize..edit.to as usize]);
            at = at.max(edit.span.end);
        }
        out.extend_from_slice(Span { start: at, end: whole.end }.of(bytes));
    }
}

/// Appends `value` in decimal.
pub fn decimal(value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
