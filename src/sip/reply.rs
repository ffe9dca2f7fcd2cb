//! Responses made from a request (RFC 3261 §8.2.6), and the true source in the topmost Via (§18.2.1, RFC 3581 §4).

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use super::edit::{Edits, decimal};
use super::header::{Index, Name};
use super::message::Message;
use super::scan::Span;
use super::start::Method;
use super::uri::Host;
use super::via::Via;

/// A response to be.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// 100 to 699.
    pub status: u16,
    /// The reason phrase; see [`reason_phrase`].
    pub reason: &'a str,
    /// Becomes the tag of To if it has none and the status is not 100 (RFC 3261 §8.2.6.2).
    pub to_tag: Option<&'a [u8]>,
    /// More header lines: name and value.
    pub extra: &'a [(&'a str, &'a [u8])],
}

impl Reply<'_> {
    /// Appends the response to `request`, which came from `source`: its Vias, the topmost with the true source, From,
    /// To, Call-ID, CSeq, for a 100 also Timestamp (RFC 3261 §8.2.6.1), `extra`, and no body.
    pub fn write(&self, request: &Message<'_>, source: SocketAddr, out: &mut Vec<u8>) {
        self.status_line(out);
        let stamps = Stamps::of(request, &request.via(), source);
        for header in request.headers().filter(|header| self.copies(header.name)) {
            begin(out, header.name.as_str());
            match header.name {
                Name::Via => stamps.write(request.span(header.value), request.base(), out),
                _ => out.extend_from_slice(header.value),
            }
            if header.name == Name::To {
                self.tag(request.to_tag().is_some(), out);
            }
            out.extend_from_slice(b"\r\n");
        }
        self.finish(out);
    }

    /// Whether the response has this header of the request.
    fn copies(&self, name: Name) -> bool {
        match name {
            Name::Via | Name::From | Name::To | Name::CallId | Name::CSeq => true,
            Name::Timestamp => self.status == 100,
            _ => false,
        }
    }

    fn status_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"SIP/2.0 ");
        decimal(u64::from(self.status), out);
        out.push(b' ');
        out.extend_from_slice(self.reason.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// Appends the tag of To, if it needs one.
    fn tag(&self, tagged: bool, out: &mut Vec<u8>) {
        if let Some(tag) = self.to_tag
            && !tagged
            && self.status != 100
        {
            out.extend_from_slice(b";tag=");
            out.extend_from_slice(tag);
        }
    }

    fn finish(&self, out: &mut Vec<u8>) {
        for (name, value) in self.extra {
            begin(out, name);
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }
}

/// Appends a response to a request that did not parse, made from what could be read of it. `false`, and nothing
/// written, when it must not or cannot be answered: a response, an ACK, no SIP, or no topmost Via that says who asked.
///
/// Header values are copied with bare CR, LF and NUL turned to spaces: what was smuggled in does not leave again.
pub fn refuse(index: &Index, bytes: &[u8], reply: &Reply<'_>, source: SocketAddr, out: &mut Vec<u8>) -> bool {
    let message = index.message(bytes);
    let via = message.via();
    let method = index.method.of(bytes);
    if index.status != 0 || method.is_empty() || Method::parse(method) == Method::Ack || via.sent_by.is_empty() {
        return false;
    }
    reply.status_line(out);
    let stamps = Stamps::of(&message, &via, source);
    for field in index.fields().iter().filter(|field| reply.copies(field.name)) {
        begin(out, field.name.as_str());
        let start = out.len();
        match field.name {
            Name::Via => stamps.write(field.value, bytes, out),
            _ => out.extend_from_slice(field.value.of(bytes)),
        }
        let copied = out[start..].iter_mut();
        copied.filter(|octet| matches!(**octet, b'\r' | b'\n' | 0)).for_each(|octet| *octet = b' ');
        if field.name == Name::To {
            reply.tag(!index.to.tag.is_empty(), out);
        }
        out.extend_from_slice(b"\r\n");
    }
    reply.finish(out);
    true
}

/// Appends the Via lines that a response to `request` has, which came from `source`.
pub fn write_vias(request: &Message<'_>, source: SocketAddr, out: &mut Vec<u8>) {
    let stamps = Stamps::of(request, &request.via(), source);
    for header in request.all(Name::Via) {
        begin(out, header.name.as_str());
        stamps.write(request.span(header.value), request.base(), out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Edits that write the true source into the topmost Via of a request to be forwarded. `received` when the host of
/// sent-by is not the source address (RFC 3261 §18.2.1); both `received` and `rport` when the client asked for `rport`
/// (RFC 3581 §4). What the client itself wrote there is replaced, or removed.
pub fn stamp_source(edits: &mut Edits, message: &Message<'_>, source: SocketAddr) {
    let stamps = Stamps::of(message, &message.via(), source);
    for stamp in stamps.list() {
        let mut text = edits.replace(stamp.span);
        text.push(stamp.text());
    }
}

/// The changes to a topmost Via, in order of place: at most two parameters and what is appended.
struct Stamps {
    stamps: [Stamp; 3],
    count: usize,
}

#[derive(Clone, Copy)]
struct Stamp {
    span: Span,
    text: [u8; 64],
    length: usize,
}

impl Stamp {
    fn new(span: Span) -> Self {
        Stamp { span, text: [0; 64], length: 0 }
    }

    fn text(&self) -> &[u8] {
        &self.text[..self.length]
    }

    // 64 octets hold both parameters with the longest address there is.
    fn received(&mut self, ip: IpAddr) {
        let _ = write!(self, ";received={ip}");
    }

    fn rport(&mut self, port: u16) {
        let _ = write!(self, ";rport={port}");
    }
}

impl fmt::Write for Stamp {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.text.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

impl Stamps {
    fn of(message: &Message<'_>, via: &Via<'_>, source: SocketAddr) -> Self {
        let ip = source.ip().to_canonical();
        let asked = via.rport.is_some();
        let received = asked || via.host != Host::Ip(ip);
        let mut stamps = Stamps { stamps: [Stamp::new(Span::default()); 3], count: 0 };
        let mut params = [via.received_param, via.rport_param];
        params.sort_by_key(|param| param.map(<[u8]>::as_ptr));
        for param in params.into_iter().flatten() {
            let stamp = stamps.add(message.span(param));
            if Some(param) == via.rport_param {
                stamp.rport(source.port());
            } else if received {
                stamp.received(ip);
            }
        }
        if received && via.received_param.is_none() {
            let end = message.span(via.value).end;
            stamps.add(Span { start: end, end }).received(ip);
        }
        stamps
    }

    fn add(&mut self, span: Span) -> &mut Stamp {
        let at = self.count.min(self.stamps.len() - 1);
        self.count = at + 1;
        self.stamps[at] = Stamp::new(span);
        &mut self.stamps[at]
    }

    fn list(&self) -> &[Stamp] {
        &self.stamps[..self.count]
    }

    /// Appends `value` with the changes that fall into it.
    fn write(&self, value: Span, bytes: &[u8], out: &mut Vec<u8>) {
        let mut at = value.start;
        for stamp in self.list().iter().filter(|s| s.span.start >= value.start && s.span.end <= value.end) {
            out.extend_from_slice(Span { start: at, end: stamp.span.start }.of(bytes));
            out.extend_from_slice(stamp.text());
            at = stamp.span.end;
        }
        out.extend_from_slice(Span { start: at, end: value.end }.of(bytes));
    }
}

fn begin(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
}

/// The usual phrase of a status code (RFC 3261 §21 and the RFCs that add to it); of its class if there is none.
pub fn reason_phrase(status: u16) -> &'static str {
    match PHRASES.binary_search_by_key(&status, |phrase| phrase.0) {
        Ok(at) => PHRASES[at].1,
        Err(_) => match status / 100 {
            1 => "Progress",
            2 => "Success",
            3 => "Redirection",
            4 => "Request Failure",
            5 => "Server Failure",
            _ => "Global Failure",
        },
    }
}

const PHRASES: &[(u16, &str)] = &[
    (100, "Trying"),
    (180, "Ringing"),
    (181, "Call Is Being Forwarded"),
    (182, "Queued"),
    (183, "Session Progress"),
    (200, "OK"),
    (202, "Accepted"),
    (300, "Multiple Choices"),
    (301, "Moved Permanently"),
    (302, "Moved Temporarily"),
    (305, "Use Proxy"),
    (380, "Alternative Service"),
    (400, "Bad Request"),
    (401, "Unauthorized"),
    (402, "Payment Required"),
    (403, "Forbidden"),
    (404, "Not Found"),
    (405, "Method Not Allowed"),
    (406, "Not Acceptable"),
    (407, "Proxy Authentication Required"),
    (408, "Request Timeout"),
    (410, "Gone"),
    (413, "Request Entity Too Large"),
    (414, "Request-URI Too Long"),
    (415, "Unsupported Media Type"),
    (416, "Unsupported URI Scheme"),
    (420, "Bad Extension"),
    (421, "Extension Required"),
    (422, "Session Interval Too Small"),
    (423, "Interval Too Brief"),
    (430, "Flow Failed"),
    (440, "Max-Breadth Exceeded"),
    (480, "Temporarily Unavailable"),
    (481, "Call/Transaction Does Not Exist"),
    (482, "Loop Detected"),
    (483, "Too Many Hops"),
    (484, "Address Incomplete"),
    (485, "Ambiguous"),
    (486, "Busy Here"),
    (487, "Request Terminated"),
    (488, "Not Acceptable Here"),
    (489, "Bad Event"),
    (491, "Request Pending"),
    (493, "Undecipherable"),
    (500, "Server Internal Error"),
    (501, "Not Implemented"),
    (502, "Bad Gateway"),
    (503, "Service Unavailable"),
    (504, "Server Time-out"),
    (505, "Version Not Supported"),
    (513, "Message Too Large"),
    (580, "Precondition Failure"),
    (600, "Busy Everywhere"),
    (603, "Decline"),
    (604, "Does Not Exist Anywhere"),
    (606, "Not Acceptable"),
];
