//! Via values (RFC 3261 §20.42, RFC 3581, RFC 5923). White space and folds are allowed around every separator.

use std::net::IpAddr;

use crate::base::Transport;

use super::list::param;
use super::scan::{Span, host_end, port, port_end, skip_lws, token_end, value_end};
use super::uri::{Host, Place, parse_host, parse_ip};

/// Every branch of an RFC 3261 transaction starts with it (§8.1.1.7).
pub const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

/// One Via value.
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    /// The whole list element.
    pub value: &'a [u8],
    /// The transport as written, such as `UDP`.
    pub transport: &'a [u8],
    /// `host[:port]` as written.
    pub sent_by: &'a [u8],
    /// The host of sent-by.
    pub host: Host<'a>,
    /// The port of sent-by if one is written.
    pub port: Option<u16>,
    /// The branch; `None` before RFC 3261.
    pub branch: Option<&'a [u8]>,
    /// The value of `received` as written.
    pub received: Option<&'a [u8]>,
    /// `rport` (RFC 3581): `None` if absent, `Some(None)` if asked for or not a port, `Some(Some(port))` if filled in.
    pub rport: Option<Option<u16>>,
    /// The whole `;received=…`, to replace or remove.
    pub received_param: Option<&'a [u8]>,
    /// The whole `;rport` or `;rport=…`, to replace or remove.
    pub rport_param: Option<&'a [u8]>,
    /// The value of `maddr`.
    pub maddr: Option<&'a [u8]>,
    /// The value of `ttl`.
    pub ttl: Option<&'a [u8]>,
    /// Whether the sender offers the connection for reuse (RFC 5923 §5).
    pub alias: bool,
}

impl<'a> Via<'a> {
    /// Reads one Via value. `None` when its grammar is violated or a parameter that we know stands twice.
    pub fn parse(value: &'a [u8]) -> Option<Via<'a>> {
        if value.len() > usize::from(u16::MAX) {
            return None;
        }
        Places::read(value, 0).map(|places| places.of(value))
    }

    /// The address in `received`, with or without brackets (RFC 5118 §4.5).
    pub fn received_ip(&self) -> Option<IpAddr> {
        parse_ip(self.received?)
    }

    /// The transport, if it is one that Tandem speaks.
    pub fn transport(&self) -> Option<Transport> {
        Transport::parse(self.transport)
    }

    /// The port of sent-by: the one written, else that of the transport (RFC 3261 §18.2.2).
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or_else(|| self.transport().map_or(5060, Transport::default_port))
    }

    /// Whether the branch has the magic cookie: the transaction is matched by it alone (RFC 3261 §17.2.3).
    pub fn has_cookie(&self) -> bool {
        self.branch.is_some_and(|branch| branch.starts_with(MAGIC_COOKIE))
    }
}

/// Where the parts of a Via value stand. A parameter that is absent has an empty span of its whole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Places {
    pub(super) value: Span,
    pub(super) transport: Span,
    pub(super) sent_by: Span,
    pub(super) host: Span,
    pub(super) port: Option<u16>,
    pub(super) branch: Known,
    pub(super) received: Known,
    pub(super) rport: Known,
    pub(super) maddr: Known,
    pub(super) ttl: Known,
    pub(super) alias: Known,
}

/// A parameter that is looked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    pub(super) whole: Span,
    pub(super) value: Span,
}

impl Known {
    fn of<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        (!self.whole.is_empty()).then(|| self.value.of(bytes))
    }

    fn whole_of<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        (!self.whole.is_empty()).then(|| self.whole.of(bytes))
    }
}

impl Places {
    /// Reads `SIP/2.0/transport host[:port][;branch=…][;received=…][;rport[=…]]` without white space, whatever follows;
    /// gives where it ends. Gives up at anything else. The parts must be default before, and are rubbish after `None`.
    pub(super) fn usual(&mut self, text: &[u8], at: usize) -> Option<usize> {
        if !text[at..].starts_with(b"SIP/2.0/") {
            return None;
        }
        let transport = at + 8;
        let host = token(text, transport)? + 1;
        let host_end = host_end(text, host);
        if host_end == host || text[host - 1] != b' ' {
            return None;
        }
        self.transport = Span::new(transport, host - 1);
        self.host = Span::new(host, host_end);
        let mut end = host_end;
        if text.get(end) == Some(&b':') {
            let (port, port_end) = port_end(text, end + 1)?;
            self.port = Some(port);
            end = port_end;
        }
        self.sent_by = Span::new(host, end);
        while text.get(end) == Some(&b';') {
            let rest = &text[end + 1..];
            let (known, start) = match rest {
                _ if rest.starts_with(b"branch=") => (&mut self.branch, end + 8),
                _ if rest.starts_with(b"received=") => (&mut self.received, end + 10),
                _ if rest.starts_with(b"rport=") => (&mut self.rport, end + 7),
                _ if rest.starts_with(b"rport;") || rest.starts_with(b"rport\r") => (&mut self.rport, end + 6),
                _ => return None,
            };
            // A flag ends where its value would start: at an octet that no value has.
            let value = value_end(text, start);
            if !known.whole.is_empty() {
                return None;
            }
            *known = Known { whole: Span::new(end, value), value: Span::new(start, value) };
            end = value;
        }
        self.value = Span::new(at, end);
        Some(end)
    }

    /// Reads the Via value that starts at `at` and ends with `text`.
    pub(super) fn read(text: &[u8], at: usize) -> Option<Places> {
        let (mut places, mut at) = Self::sent_by(text, at)?;
        while at < text.len() {
            if text[at] != b';' {
                return None;
            }
            let (param, next) = param(text, at)?;
            let known = match param.name.of(text) {
                name if name.eq_ignore_ascii_case(b"branch") => Some(&mut places.branch),
                name if name.eq_ignore_ascii_case(b"received") => Some(&mut places.received),
                name if name.eq_ignore_ascii_case(b"rport") => Some(&mut places.rport),
                name if name.eq_ignore_ascii_case(b"maddr") => Some(&mut places.maddr),
                name if name.eq_ignore_ascii_case(b"ttl") => Some(&mut places.ttl),
                name if name.eq_ignore_ascii_case(b"alias") => Some(&mut places.alias),
                _ => None,
            };
            if let Some(known) = known {
                // RFC 3261 §7.3.1: a parameter name must not appear twice.
                if !known.whole.is_empty() {
                    return None;
                }
                *known = Known { whole: param.whole, value: param.value };
            }
            places.value.end = param.whole.end;
            at = next;
        }
        Some(places)
    }

    /// Reads up to the end of sent-by; gives also where the text goes on. Enough to answer a request whose parameters
    /// are broken.
    pub(super) fn sent_by(text: &[u8], at: usize) -> Option<(Places, usize)> {
        let start = skip_lws(text, at);
        let transport = match text.get(start..) {
            Some(rest) if rest.starts_with(b"SIP/2.0/") => start + 8,
            _ => {
                let version = slash(text, token(text, start)?)?;
                slash(text, token(text, version)?)?
            }
        };
        let transport_end = token(text, transport)?;
        let host = skip_lws(text, transport_end);
        if host == transport_end {
            return None;
        }
        let host_end = Place::host(text, host)?;
        let mut places = Places {
            transport: Span::new(transport, transport_end),
            host: Span::new(host, host_end),
            ..Places::default()
        };
        parse_host(places.host.of(text))?;
        let mut end = host_end;
        let mut next = skip_lws(text, end);
        if text.get(next) == Some(&b':') {
            let (port, port_end) = port_end(text, skip_lws(text, next + 1))?;
            places.port = Some(port);
            end = port_end;
            next = skip_lws(text, end);
        }
        places.sent_by = Span::new(host, end);
        places.value = Span::new(start, end);
        Some((places, next))
    }

    /// The value in the octets that it was read from. Inlined, so that only what the caller looks at is computed.
    #[inline(always)]
    pub(super) fn of<'a>(&self, bytes: &'a [u8]) -> Via<'a> {
        let host = self.host.of(bytes);
        Via {
            value: self.value.of(bytes),
            transport: self.transport.of(bytes),
            sent_by: self.sent_by.of(bytes),
            host: parse_host(host).unwrap_or(Host::Name(host)),
            port: self.port,
            branch: self.branch.of(bytes),
            received: self.received.of(bytes),
            rport: self.rport.of(bytes).map(port),
            received_param: self.received.whole_of(bytes),
            rport_param: self.rport.whole_of(bytes),
            maddr: self.maddr.of(bytes),
            ttl: self.ttl.of(bytes),
            alias: self.alias.of(bytes).is_some(),
        }
    }
}

fn token(text: &[u8], at: usize) -> Option<usize> {
    let end = token_end(text, at);
    (end > at).then_some(end)
}

fn slash(text: &[u8], at: usize) -> Option<usize> {
    let at = skip_lws(text, at);
    (text.get(at) == Some(&b'/')).then(|| skip_lws(text, at + 1))
}
