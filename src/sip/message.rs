//! A message as a view: octets and index, read when asked. What [`Index::parse`] vouched for cannot fail here.

use super::header::{Field, Index, NONE, Name};
use super::list::Elements;
use super::name_addr::{Addresses, NameAddr};
use super::scan::{Span, number, trim};
use super::start::{Method, Start};
use super::uri::Uri;
use super::via::Via;

/// A parsed message.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    index: &'a Index,
}

/// The value of CSeq (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Below 2^31.
    pub number: u32,
    /// The method.
    pub method: Method<'a>,
}

/// One header field.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// What it is.
    pub name: Name,
    /// Its name as written.
    pub name_text: &'a [u8],
    /// Its value, trimmed; folds still inside.
    pub value: &'a [u8],
    /// From the name to the CRLF, folds and CRLF included.
    pub line: Span,
}

impl Index {
    /// The message last parsed out of `bytes`. After an error only [`refuse`](super::refuse) can use the index.
    pub fn message<'a>(&'a self, bytes: &'a [u8]) -> Message<'a> {
        Message { bytes, index: self }
    }
}

impl<'a> Message<'a> {
    /// Start line to end of body, without CRLFs before and excess octets behind it.
    pub fn bytes(&self) -> &'a [u8] {
        Span { start: self.index.start.start, end: self.index.body.end }.of(self.bytes)
    }

    /// What the start line says.
    pub fn start(&self) -> Start<'a> {
        let subject = self.index.subject.of(self.bytes);
        match self.index.status {
            0 => Start::Request { method: self.method(), uri: subject },
            status => Start::Response { status, reason: subject },
        }
    }

    /// Whether it is a request.
    pub fn is_request(&self) -> bool {
        self.index.status == 0
    }

    /// The method of the request line, or for a response that of CSeq.
    pub fn method(&self) -> Method<'a> {
        Method::parse(self.index.method.of(self.bytes))
    }

    /// The status code; `None` for a request.
    pub fn status(&self) -> Option<u16> {
        (self.index.status != 0).then_some(self.index.status)
    }

    /// The Request-URI as written; empty for a response.
    pub fn request_uri(&self) -> &'a [u8] {
        if self.is_request() { self.index.subject.of(self.bytes) } else { &[] }
    }

    /// The Request-URI taken apart: always `Some` for a request, also when its scheme is an unknown one
    /// ([`Scheme::Other`](super::Scheme)).
    pub fn uri(&self) -> Option<Uri<'a>> {
        Uri::parse_clean(self.request_uri())
    }

    /// The Call-ID.
    pub fn call_id(&self) -> &'a [u8] {
        self.value(Name::CallId)
    }

    /// The CSeq.
    pub fn cseq(&self) -> CSeq<'a> {
        CSeq { number: self.index.cseq, method: Method::parse(self.index.cseq_method.of(self.bytes)) }
    }

    /// The From.
    pub fn from(&self) -> NameAddr<'a> {
        self.index.from.of(self.bytes)
    }

    /// The To.
    pub fn to(&self) -> NameAddr<'a> {
        self.index.to.of(self.bytes)
    }

    /// The tag of From; empty when there is none (RFC 2543).
    pub fn from_tag(&self) -> &'a [u8] {
        self.index.from.tag.of(self.bytes)
    }

    /// The tag of To.
    pub fn to_tag(&self) -> Option<&'a [u8]> {
        let tag = self.index.to.tag;
        (!tag.is_empty()).then(|| tag.of(self.bytes))
    }

    /// The topmost Via.
    #[inline]
    pub fn via(&self) -> Via<'a> {
        self.index.via.of(self.bytes)
    }

    /// The second Via; `None` also when it cannot be read.
    pub fn next_via(&self) -> Option<Via<'a>> {
        Via::parse(self.index.next_via.of(self.bytes))
    }

    /// How many Via values there are.
    pub fn via_count(&self) -> usize {
        usize::from(self.index.vias)
    }

    /// How many header fields there are.
    pub fn header_count(&self) -> usize {
        usize::from(self.index.count)
    }

    /// Every Via across fields and commas, topmost first. `None`: an unreadable value.
    pub fn vias(&self) -> impl Iterator<Item = Option<Via<'a>>> + 'a {
        self.all(Name::Via).flat_map(|header| Elements::new(header.value)).map(|value| value.and_then(Via::parse))
    }

    /// The Route values in order; all readable.
    pub fn routes(&self) -> impl Iterator<Item = Option<NameAddr<'a>>> + 'a {
        self.addresses(Name::Route)
    }

    /// The Record-Route values in order. `None`: an unreadable value.
    pub fn record_routes(&self) -> impl Iterator<Item = Option<NameAddr<'a>>> + 'a {
        self.addresses(Name::RecordRoute)
    }

    /// The Contact values in order. `None`: an unreadable value, or `*`.
    pub fn contacts(&self) -> impl Iterator<Item = Option<NameAddr<'a>>> + 'a {
        self.addresses(Name::Contact)
    }

    /// Max-Forwards of a request, 0 to 255.
    pub fn max_forwards(&self) -> Option<u32> {
        self.index.max_forwards.map(u32::from)
    }

    /// Max-Breadth (RFC 5393 §5.3.3); `None` if absent or unreadable.
    pub fn max_breadth(&self) -> Option<u32> {
        number(self.header(Name::MaxBreadth)?.value, u32::MAX)
    }

    /// Expires in seconds; `None` if absent or unreadable.
    pub fn expires(&self) -> Option<u32> {
        self.seconds(Name::Expires)
    }

    /// Session-Expires in seconds (RFC 4028 §4); `None` if absent or unreadable.
    pub fn session_expires(&self) -> Option<u32> {
        self.seconds(Name::SessionExpires)
    }

    /// Retry-After in seconds; `None` if absent or unreadable.
    pub fn retry_after(&self) -> Option<u32> {
        self.seconds(Name::RetryAfter)
    }

    /// The first field of that name.
    pub fn header(&self, name: Name) -> Option<Header<'a>> {
        match self.index.first(name) {
            NONE => None,
            at => Some(self.field(at)),
        }
    }

    /// Every field in order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + 'a {
        let message = *self;
        (0..self.index.count).map(move |at| message.field(at))
    }

    /// Every field of that name in order.
    pub fn all(&self, name: Name) -> impl Iterator<Item = Header<'a>> + 'a {
        let message = *self;
        self.chain(name).map(move |at| message.field(at))
    }

    /// Comma-separated tokens of every field of that name, trimmed, such as the option tags of Require.
    pub fn tokens(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.all(name)
            .flat_map(|header| header.value.split(|&octet| octet == b','))
            .map(trim)
            .filter(|token| !token.is_empty())
    }

    /// The body.
    pub fn body(&self) -> &'a [u8] {
        self.index.body.of(self.bytes)
    }

    /// Where `part`, a slice of this message, stands. An empty span at 0 for any other slice.
    pub fn span(&self, part: &[u8]) -> Span {
        let start = (part.as_ptr() as usize).wrapping_sub(self.bytes.as_ptr() as usize);
        match start.checked_add(part.len()) {
            Some(end) if end <= self.bytes.len() => Span::new(start, end),
            _ => Span::default(),
        }
    }

    /// The start line with its CRLF: its end is where the first header field starts.
    pub fn start_span(&self) -> Span {
        self.index.start
    }

    /// Where the empty line starts that ends the header section.
    pub fn header_end(&self) -> u16 {
        self.index.header_end
    }

    /// The octets that spans of this message count in.
    pub(super) fn base(&self) -> &'a [u8] {
        self.bytes
    }

    fn field(&self, at: u8) -> Header<'a> {
        let Field { name, value, .. } = self.index.fields()[usize::from(at)];
        let line = self.index.line(at);
        let text = line.of(self.bytes);
        let name_text = &text[..super::scan::token_end(text, 0)];
        Header { name, name_text, value: value.of(self.bytes), line }
    }

    fn value(&self, name: Name) -> &'a [u8] {
        match self.index.first(name) {
            NONE => &[],
            at => self.index.fields()[usize::from(at)].value.of(self.bytes),
        }
    }

    fn chain(&self, name: Name) -> impl Iterator<Item = u8> + use<'a> {
        let index = self.index;
        let mut at = index.first(name);
        std::iter::from_fn(move || {
            let found = at;
            at = index.fields().get(usize::from(found))?.next;
            Some(found)
        })
    }

    fn addresses(&self, name: Name) -> impl Iterator<Item = Option<NameAddr<'a>>> + use<'a> {
        let (bytes, index) = (self.bytes, self.index);
        self.chain(name).flat_map(move |at| Addresses::new(index.fields()[usize::from(at)].value.of(bytes)))
    }

    /// Delta-seconds at the head of a value; parameters or a comment may follow.
    fn seconds(&self, name: Name) -> Option<u32> {
        let value = self.header(name)?.value;
        let digits = value.iter().take_while(|octet| octet.is_ascii_digit()).count();
        match value.get(digits) {
            None | Some(b';' | b' ' | b'\t' | b'\r' | b'(') => number(&value[..digits], u32::MAX),
            Some(_) => None,
        }
    }
}
