//! Header names with their compact forms (RFC 3261 §7.3.3) and the caller-owned index of one message.

use crate::base::limits;

use super::scan::Span;
use super::{name_addr, via};

macro_rules! names {
    ($($(#[$doc:meta])+ $variant:ident = $long:literal $(| $compact:literal)?,)+) => {
        /// A header that something in Tandem reads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Name {
            $($(#[$doc])+ $variant,)+
            /// Any other header.
            Other,
        }

        impl Name {
            /// The header of that name, any case, long or compact form.
            pub fn of(text: &[u8]) -> Name {
                // Almost every sender writes names as the RFCs do; that comparison is the cheapest.
                match text {
                    $($long $(| $compact)? => Name::$variant,)+
                    _ => Name::any_case(text),
                }
            }

            fn any_case(text: &[u8]) -> Name {
                match text.len() {
                    $(length if (length == $long.len() && text.eq_ignore_ascii_case($long))
                        $(|| (length == $compact.len() && text.eq_ignore_ascii_case($compact)))? => Name::$variant,)+
                    _ => Name::Other,
                }
            }

            /// The long form as RFCs write it; empty for [`Name::Other`].
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Name::$variant => match std::str::from_utf8($long) {
                        Ok(text) => text,
                        Err(_) => "",
                    },)+
                    Name::Other => "",
                }
            }
        }
    };
}

names! {
    /// RFC 3261 §20.42
    Via = b"Via" | b"v",
    /// RFC 3261 §20.20
    From = b"From" | b"f",
    /// RFC 3261 §20.39
    To = b"To" | b"t",
    /// RFC 3261 §20.8
    CallId = b"Call-ID" | b"i",
    /// RFC 3261 §20.16
    CSeq = b"CSeq",
    /// RFC 3261 §20.22
    MaxForwards = b"Max-Forwards",
    /// RFC 3261 §20.10
    Contact = b"Contact" | b"m",
    /// RFC 3261 §20.34
    Route = b"Route",
    /// RFC 3261 §20.30
    RecordRoute = b"Record-Route",
    /// RFC 3261 §20.14
    ContentLength = b"Content-Length" | b"l",
    /// RFC 3261 §20.15
    ContentType = b"Content-Type" | b"c",
    /// RFC 3261 §20.19
    Expires = b"Expires",
    /// RFC 4028 §4
    SessionExpires = b"Session-Expires" | b"x",
    /// RFC 4028 §5
    MinSe = b"Min-SE",
    /// RFC 3261 §20.32
    Require = b"Require",
    /// RFC 3261 §20.29
    ProxyRequire = b"Proxy-Require",
    /// RFC 3261 §20.37
    Supported = b"Supported" | b"k",
    /// RFC 3261 §20.40
    Unsupported = b"Unsupported",
    /// RFC 3261 §20.5
    Allow = b"Allow",
    /// RFC 3891
    Replaces = b"Replaces",
    /// RFC 3325 §9.1
    PAssertedIdentity = b"P-Asserted-Identity",
    /// RFC 5393 §5.3.1
    MaxBreadth = b"Max-Breadth",
    /// RFC 3261 §20.33
    RetryAfter = b"Retry-After",
    /// RFC 3261 §20.38
    Timestamp = b"Timestamp",
    /// RFC 3262 §7.2
    RAck = b"RAck",
    /// RFC 3262 §7.1
    RSeq = b"RSeq",
    /// RFC 3261 §20.35
    Server = b"Server",
    /// RFC 3261 §20.41
    UserAgent = b"User-Agent",
    /// RFC 3326
    Reason = b"Reason",
    /// RFC 3515
    ReferTo = b"Refer-To" | b"r",
    /// RFC 3261 §20.43
    Warning = b"Warning",
}

const NAMES: usize = Name::Other as usize + 1;

/// No header field: ends chains.
pub(super) const NONE: u8 = u8::MAX;

const _: () = assert!(limits::HEADERS < NONE as usize);

/// Where one header field stands. Its line ends where the next one starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) start: u16,
    /// Trimmed; folds still inside.
    pub(super) value: Span,
    pub(super) name: Name,
    /// The next field of the same name.
    pub(super) next: u8,
}

/// Caller-owned, reusable scratch of one message: about 1.3 KiB. Says where everything stands; holds no octets.
pub struct Index {
    pub(super) fields: [Field; limits::HEADERS],
    pub(super) count: u8,
    first: [u8; NAMES],
    last: [u8; NAMES],
    /// Start line with its CRLF.
    pub(super) start: Span,
    /// Request-URI, or reason phrase of a response.
    pub(super) subject: Span,
    /// The method of a request, or that of CSeq.
    pub(super) method: Span,
    /// 0 for a request.
    pub(super) status: u16,
    /// Where the empty line starts.
    pub(super) header_end: u16,
    pub(super) body: Span,
    pub(super) via: via::Places,
    pub(super) next_via: Span,
    /// Via values.
    pub(super) vias: u8,
    pub(super) from: name_addr::Places,
    pub(super) to: name_addr::Places,
    pub(super) cseq: u32,
    pub(super) cseq_method: Span,
    pub(super) max_forwards: Option<u8>,
    pub(super) content_length: Option<u16>,
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl Index {
    /// An index of nothing.
    pub fn new() -> Self {
        let empty = Field { start: 0, value: Span { start: 0, end: 0 }, name: Name::Other, next: NONE };
        Index {
            fields: [empty; limits::HEADERS],
            count: 0,
            first: [NONE; NAMES],
            last: [NONE; NAMES],
            start: Span::default(),
            subject: Span::default(),
            method: Span::default(),
            status: 0,
            header_end: 0,
            body: Span::default(),
            via: via::Places::default(),
            next_via: Span::default(),
            vias: 0,
            from: name_addr::Places::default(),
            to: name_addr::Places::default(),
            cseq: 0,
            cseq_method: Span::default(),
            max_forwards: None,
            content_length: None,
        }
    }

    /// Forgets the last message. What is not reset here is either written by every parse or reached only through what is.
    pub(super) fn clear(&mut self) {
        self.count = 0;
        self.first = [NONE; NAMES];
        self.start = Span::default();
        self.subject = Span::default();
        self.method = Span::default();
        self.status = 0;
        self.header_end = 0;
        self.body = Span::default();
        self.via = via::Places::default();
        self.next_via = Span::default();
        self.vias = 0;
        self.from = name_addr::Places::default();
        self.to = name_addr::Places::default();
        self.cseq_method = Span::default();
        self.max_forwards = None;
        self.content_length = None;
    }

    /// Adds a field; `false` when the table is full. Tells apart nothing but its name.
    pub(super) fn push(&mut self, name: Name, start: usize, value: Span) -> bool {
        let at = self.count;
        let Some(field) = self.fields.get_mut(usize::from(at)) else { return false };
        *field = Field { start: Span::new(start, start).start, value, name, next: NONE };
        let slot = name as usize;
        if self.first[slot] == NONE {
            self.first[slot] = at;
        } else {
            self.fields[usize::from(self.last[slot])].next = at;
        }
        self.last[slot] = at;
        self.count = at + 1;
        true
    }

    /// Position of the first field of that name, or [`NONE`].
    pub(super) fn first(&self, name: Name) -> u8 {
        self.first[name as usize]
    }

    /// The fields of the message.
    pub(super) fn fields(&self) -> &[Field] {
        &self.fields[..usize::from(self.count)]
    }

    /// The line of field `at`, its CRLF included.
    pub(super) fn line(&self, at: u8) -> Span {
        let fields = self.fields();
        let start = fields[usize::from(at)].start;
        Span { start, end: fields.get(usize::from(at) + 1).map_or(self.header_end, |next| next.start) }
    }
}
