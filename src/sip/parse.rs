//! One pass over the header section: where each field stands, and whether everything that a proxy relies on is sound.

use crate::base::limits;

use super::header::{Index, NONE, Name};
use super::line::Line;
use super::list::element;
use super::scan::{Malformed, Span, is_lws, number, skip_lws, token_end, trim_end, value_end};
use super::start;
use super::via::MAGIC_COOKIE;
use super::{name_addr, usual, via};

/// How many values of a list header there were.
#[derive(Default)]
struct Seen {
    vias: usize,
    routes: usize,
}

impl Index {
    /// Indexes one whole message that came as a datagram, or that a [`Framer`](super::Framer) cut out of a stream.
    ///
    /// Content-Length decides where the body ends; octets behind it are not part of the message. Without it the rest
    /// is the body (RFC 3261 §18.3). CRLFs before the start line are skipped (§7.5). After `Err` only
    /// [`refuse`](super::refuse) may use the index.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.clear();
        let result = self.index(bytes);
        if result.is_err() {
            self.salvage(bytes);
        }
        result
    }

    fn index(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if bytes.len() > limits::MESSAGE {
            return Err(Malformed::TooLarge);
        }
        let mut at = self.start_line(bytes)?;
        let mut seen = Seen::default();
        loop {
            match bytes.get(at) {
                Some(b'\r') if bytes.get(at + 1) == Some(&b'\n') => break,
                Some(b' ' | b'\t') => return Err(Malformed::HeaderFold),
                Some(_) => {}
                None => return Err(Malformed::NoEmptyLine),
            }
            at = match self.usual(bytes, at, &mut seen) {
                Some(next) => next,
                None => self.any(bytes, at, &mut seen)?,
            };
        }
        self.header_end = at as u16;
        self.vias = seen.vias as u8;
        self.finish(bytes, at + 2)
    }

    /// A field as most write it; gives the next line. `None`: [`Index::any`] shall read it, whatever was stored here.
    fn usual(&mut self, bytes: &[u8], at: usize, seen: &mut Seen) -> Option<usize> {
        let (name, prefix) = usual::name(&bytes[at..])?;
        let start = at + prefix;
        if bytes.get(start).is_none_or(|octet| is_lws(*octet)) {
            // White space before a value is not of it (RFC 3261 §7.3.1).
            return None;
        }
        if matches!(name, Name::Contact | Name::RecordRoute | Name::ContentType) {
            return self.opaque(name, bytes, at, start);
        }
        if self.first(name) != NONE {
            return if name == Name::Via { self.lower_via(bytes, at, start, seen) } else { None };
        }
        let mut routes = 0;
        let end = match name {
            Name::Via => {
                let end = self.via.usual(bytes, start)?;
                check_branch(&self.via, bytes).ok()?;
                end
            }
            Name::From => tag_bounded(self.from.usual(bytes, start)?, &self.from)?,
            Name::To => tag_bounded(self.to.usual(bytes, start)?, &self.to)?,
            Name::CallId => {
                let end = value_end(bytes, start);
                (end > start && end - start <= limits::IDENTIFIER).then_some(end)?
            }
            Name::CSeq => {
                (self.cseq, self.cseq_method) = usual::cseq(bytes, start)?;
                usize::from(self.cseq_method.end)
            }
            Name::MaxForwards if self.status == 0 => {
                let (hops, end) = usual::digits(bytes, start, 255)?;
                self.max_forwards = Some(hops as u8);
                end
            }
            Name::ContentLength => usual::digits(bytes, start, limits::MESSAGE as u32)?.1,
            Name::Route => {
                let (count, end) = usual::routes(bytes, start)?;
                routes = count;
                (count <= limits::ROUTES).then_some(end)?
            }
            _ => return None,
        };
        if !usual::is_end(bytes, end) || !self.push(name, at, Span::new(start, end)) {
            return None;
        }
        match name {
            Name::Via => seen.vias = 1,
            Name::Route => seen.routes = routes,
            Name::ContentLength => self.content_length = usual::digits(bytes, start, u32::MAX).map(|l| l.0 as u16),
            _ => {}
        }
        Some(end + 2)
    }

    /// A field whose value nobody judges.
    fn opaque(&mut self, name: Name, bytes: &[u8], at: usize, start: usize) -> Option<usize> {
        let end = Line::end(bytes, start).ok()?;
        let value = Span::new(start, trim_end(bytes, start, end));
        self.push(name, at, value).then_some(end + 2)
    }

    /// A Via below the topmost with a single value.
    fn lower_via(&mut self, bytes: &[u8], at: usize, start: usize, seen: &mut Seen) -> Option<usize> {
        let end = Line::end(bytes, start).ok()?;
        let value = Span::new(start, trim_end(bytes, start, end));
        let single = memchr::memchr3(b',', b'"', b'<', value.of(bytes)).is_none();
        if !single || value.is_empty() || seen.vias >= limits::VIAS {
            return None;
        }
        if !self.push(Name::Via, at, value) {
            return None;
        }
        seen.vias += 1;
        if seen.vias == 2 {
            self.next_via = value;
        }
        Some(end + 2)
    }

    /// A field of any spelling; gives the next line.
    fn any(&mut self, bytes: &[u8], at: usize, seen: &mut Seen) -> Result<usize, Malformed> {
        let line = Line::read(bytes, at)?;
        let name = Name::of(&bytes[at..line.name_end]);
        self.value(name, &bytes[..usize::from(line.value.end)], line.value, seen)?;
        if self.push(name, at, line.value) { Ok(line.next) } else { Err(Malformed::TooManyHeaders) }
    }

    /// Reads the start line; gives the position behind its CRLF.
    fn start_line(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut at = 0;
        while bytes[at..].starts_with(b"\r\n") {
            at += 2;
        }
        if let Some((places, end)) = usual::request_line(bytes, at) {
            self.begin(at, places, end);
            return Ok(end + 2);
        }
        let Some(offset) = memchr::memchr3(b'\r', b'\n', 0, &bytes[at..]) else {
            return Err(Malformed::NoEmptyLine);
        };
        let end = at + offset;
        match bytes[end..] {
            [b'\r', b'\n', ..] => {}
            [b'\r'] => return Err(Malformed::NoEmptyLine),
            _ => return Err(Malformed::ControlCharacter),
        }
        self.begin(at, start::Places::read(&bytes[..end], at)?, end);
        Ok(end + 2)
    }

    fn begin(&mut self, at: usize, places: start::Places, end: usize) {
        self.start = Span::new(at, end + 2);
        self.method = places.method;
        self.subject = places.subject;
        self.status = places.status;
    }

    /// Judges one value. `text` ends with the value.
    fn value(&mut self, name: Name, text: &[u8], value: Span, seen: &mut Seen) -> Result<(), Malformed> {
        let at = usize::from(value.start);
        match name {
            Name::Via => self.vias(text, at, &mut seen.vias),
            Name::From => {
                self.once(name)?;
                self.from = name_addr::Places::read(text, at).ok_or(Malformed::BadFrom)?;
                bounded(self.from.tag, Malformed::BadFrom)
            }
            Name::To => {
                self.once(name)?;
                self.to = name_addr::Places::read(text, at).ok_or(Malformed::BadTo)?;
                bounded(self.to.tag, Malformed::BadTo)
            }
            Name::CallId => {
                self.once(name)?;
                if value.is_empty() || value.of(text).iter().any(|&octet| is_lws(octet)) {
                    return Err(Malformed::BadCallId);
                }
                bounded(value, Malformed::BadCallId)
            }
            Name::CSeq => {
                self.once(name)?;
                self.cseq(text, at)
            }
            Name::MaxForwards if self.status == 0 => {
                self.once(name)?;
                let hops = number(value.of(text), 255).ok_or(Malformed::MaxForwards)?;
                self.max_forwards = Some(hops as u8);
                Ok(())
            }
            Name::ContentLength => {
                // Two values, even if equal, are two opinions about where the next message starts.
                if self.content_length.is_some() {
                    return Err(Malformed::ContentLength);
                }
                self.content_length = Some(content_length(value.of(text))?);
                Ok(())
            }
            Name::Route => count_routes(text, at, &mut seen.routes),
            _ => Ok(()),
        }
    }

    fn once(&self, name: Name) -> Result<(), Malformed> {
        if self.first(name) == NONE { Ok(()) } else { Err(Malformed::Duplicate) }
    }

    /// Reads the topmost Via and remembers the second; of the others only their number counts.
    fn vias(&mut self, text: &[u8], at: usize, seen: &mut usize) -> Result<(), Malformed> {
        let mut next = Some(at);
        while let Some(at) = next {
            let (value, more) = element(text, at).ok_or(Malformed::BadVia)?;
            next = more;
            *seen += 1;
            match *seen {
                1 => {
                    let places = via::Places::read(&text[..usize::from(value.end)], at);
                    self.via = places.ok_or(Malformed::BadVia)?;
                    check_branch(&self.via, text)?;
                }
                2 => self.next_via = value,
                seen if seen > limits::VIAS => return Err(Malformed::TooManyVias),
                _ => {}
            }
        }
        Ok(())
    }

    fn cseq(&mut self, text: &[u8], at: usize) -> Result<(), Malformed> {
        let digits = at + text[at..].iter().take_while(|octet| octet.is_ascii_digit()).count();
        // RFC 3261 §8.1.1.5: less than 2**31.
        self.cseq = number(&text[at..digits], (1 << 31) - 1).ok_or(Malformed::BadCSeq)?;
        let method = skip_lws(text, digits);
        if method == digits || method == text.len() || token_end(text, method) != text.len() {
            return Err(Malformed::BadCSeq);
        }
        self.cseq_method = Span::new(method, text.len());
        Ok(())
    }

    /// What can only be judged when all fields are known.
    fn finish(&mut self, bytes: &[u8], body: usize) -> Result<(), Malformed> {
        for (name, fault) in [
            (Name::Via, Malformed::NoVia),
            (Name::From, Malformed::NoFrom),
            (Name::To, Malformed::NoTo),
            (Name::CallId, Malformed::NoCallId),
            (Name::CSeq, Malformed::NoCSeq),
        ] {
            if self.first(name) == NONE {
                return Err(fault);
            }
        }
        if self.status == 0 {
            if self.method.of(bytes) != self.cseq_method.of(bytes) {
                return Err(Malformed::CSeqMethod);
            }
        } else {
            self.method = self.cseq_method;
        }
        let end = match self.content_length {
            Some(length) => body + usize::from(length),
            None => bytes.len(),
        };
        if end > bytes.len() {
            return Err(Malformed::BodyShort);
        }
        self.body = Span::new(body, end);
        Ok(())
    }
}

/// Content-Length: digits alone, at most `limits::MESSAGE`.
pub(super) fn content_length(value: &[u8]) -> Result<u16, Malformed> {
    match number(value, limits::MESSAGE as u32) {
        Some(length) => Ok(length as u16),
        None => Err(Malformed::ContentLength),
    }
}

fn bounded(span: Span, fault: Malformed) -> Result<(), Malformed> {
    if span.len() > limits::IDENTIFIER { Err(fault) } else { Ok(()) }
}

fn tag_bounded(end: usize, address: &name_addr::Places) -> Option<usize> {
    (address.tag.len() <= limits::IDENTIFIER).then_some(end)
}

fn check_branch(via: &via::Places, text: &[u8]) -> Result<(), Malformed> {
    if via.branch.whole.is_empty() {
        return Ok(());
    }
    // RFC 4475 §3.2.1: the cookie alone identifies nothing.
    match via.branch.value.of(text) {
        b"" | MAGIC_COOKIE => Err(Malformed::BadBranch),
        _ => bounded(via.branch.value, Malformed::BadBranch),
    }
}

fn count_routes(text: &[u8], at: usize, seen: &mut usize) -> Result<(), Malformed> {
    let mut next = Some(at);
    while let Some(at) = next {
        let (value, more) = element(text, at).ok_or(Malformed::BadRoute)?;
        name_addr::Places::read(&text[..usize::from(value.end)], at).ok_or(Malformed::BadRoute)?;
        next = more;
        *seen += 1;
        if *seen > limits::ROUTES {
            return Err(Malformed::TooManyRoutes);
        }
    }
    Ok(())
}
