//! Messages as the agents write them: requests of a UAC (RFC 3261 §8.1.1), responses of a UAS (§8.2.6).

use std::net::SocketAddr;

use crate::base::{Flow, Host};
use crate::sip::{Message, Name, Via, reason_phrase};

/// A request of a UAC.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Request line and CSeq.
    pub method: &'a str,
    /// Request-URI.
    pub uri: &'a [u8],
    /// Its local address becomes the Via's sent-by.
    pub flow: Flow,
    /// With the magic cookie.
    pub branch: &'a str,
    /// The route set, in order (RFC 3261 §12.2.1.1).
    pub routes: &'a [Vec<u8>],
    /// From, with its tag.
    pub from: &'a [u8],
    /// To, with its tag inside a dialog.
    pub to: &'a [u8],
    /// Call-ID.
    pub call_id: &'a [u8],
    /// CSeq number.
    pub cseq: u32,
    /// More header lines, each with its CRLF; with a Content-Type if the body is no SDP.
    pub extra: &'a str,
    /// SDP or something else or nothing.
    pub body: &'a [u8],
}

impl Request<'_> {
    /// Appends the octets.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (transport, local) = (self.flow.transport.via(), self.flow.local);
        line(out, &[self.method.as_bytes(), b" ", self.uri, b" SIP/2.0"]);
        let via = format!("Via: SIP/2.0/{transport} {local};branch={}", self.branch);
        line(out, &[via.as_bytes()]);
        line(out, &[b"Max-Forwards: 70"]);
        for route in self.routes {
            line(out, &[b"Route: ", route]);
        }
        line(out, &[b"From: ", self.from]);
        line(out, &[b"To: ", self.to]);
        line(out, &[b"Call-ID: ", self.call_id]);
        line(out, &[format!("CSeq: {} {}", self.cseq, self.method).as_bytes()]);
        finish(out, self.extra, self.body);
    }
}

/// The CANCEL (RFC 3261 §9.1) or the ACK to a non-2xx final (§17.1.1.3) that belongs to `invite`: its Request-URI, top
/// Via, Route, From, Call-ID and CSeq number. The ACK carries the To of the response.
pub fn derive(invite: &Message<'_>, method: &str, to: &[u8], out: &mut Vec<u8>) {
    line(out, &[method.as_bytes(), b" ", invite.request_uri(), b" SIP/2.0"]);
    line(out, &[b"Via: ", invite.via().value]);
    line(out, &[b"Max-Forwards: 70"]);
    for route in invite.all(Name::Route) {
        line(out, &[b"Route: ", route.value]);
    }
    line(out, &[b"From: ", invite.from().value]);
    line(out, &[b"To: ", to]);
    line(out, &[b"Call-ID: ", invite.call_id()]);
    line(out, &[format!("CSeq: {} {method}", invite.cseq().number).as_bytes()]);
    finish(out, "", b"");
}

/// A response of a UAS.
#[derive(Clone, Copy, Debug, Default)]
pub struct Response<'a> {
    /// 100 to 699.
    pub status: u16,
    /// Added to To where it has no tag; a 100 carries none.
    pub tag: &'a str,
    /// More header lines, each with its CRLF.
    pub extra: &'a str,
    /// SDP or nothing.
    pub body: &'a [u8],
}

impl Response<'_> {
    /// Appends the octets of this response to `request`, which came from `source`.
    pub fn write(&self, request: &Message<'_>, source: SocketAddr, out: &mut Vec<u8>) {
        line(out, &[format!("SIP/2.0 {} {}", self.status, reason_phrase(self.status)).as_bytes()]);
        let mut top = true;
        for header in request.all(Name::Via) {
            match std::mem::take(&mut top) {
                true => line(out, &[b"Via: ", &stamped(&request.via(), header.value, source)]),
                false => line(out, &[b"Via: ", header.value]),
            }
        }
        // RFC 3261 §12.1.1: Record-Route comes back in what makes a dialog.
        if (101..300).contains(&self.status) {
            for header in request.all(Name::RecordRoute) {
                line(out, &[b"Record-Route: ", header.value]);
            }
        }
        line(out, &[b"From: ", request.from().value]);
        match request.to_tag().is_some() || self.status == 100 {
            true => line(out, &[b"To: ", request.to().value]),
            false => line(out, &[b"To: ", request.to().value, b";tag=", self.tag.as_bytes()]),
        }
        line(out, &[b"Call-ID: ", request.call_id()]);
        let cseq = request.cseq();
        line(out, &[format!("CSeq: {} ", cseq.number).as_bytes(), cseq.method.as_bytes()]);
        finish(out, self.extra, self.body);
    }
}

/// An offer or answer of one PCMU stream.
pub fn sdp(local: SocketAddr, session: u64) -> Vec<u8> {
    let (family, host) = (if local.is_ipv4() { "IP4" } else { "IP6" }, local.ip());
    format!(
        "v=0\r\no=- {session} {session} IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\n\
         m=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )
    .into_bytes()
}

/// RFC 3261 §18.2.1 and RFC 3581 §4: where the request really came from, in the first value of its top Via header.
fn stamped(via: &Via<'_>, value: &[u8], source: SocketAddr) -> Vec<u8> {
    let asks_rport = via.rport == Some(None);
    let same_host = matches!(via.host, Host::Ip(ip) if ip == source.ip());
    let mut text = via.value.to_vec();
    if asks_rport || !same_host {
        text.extend_from_slice(format!(";received={}", source.ip()).as_bytes());
    }
    if asks_rport && let Some(at) = memchr::memmem::find(&text, b";rport") {
        let filled = format!(";rport={}", source.port());
        text.splice(at..at + b";rport".len(), filled.into_bytes());
    }
    text.extend_from_slice(&value[via.value.len().min(value.len())..]);
    text
}

fn line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

fn finish(out: &mut Vec<u8>, extra: &str, body: &[u8]) {
    out.extend_from_slice(extra.as_bytes());
    if !body.is_empty() && !extra.contains("Content-Type:") {
        line(out, &[b"Content-Type: application/sdp"]);
    }
    line(out, &[format!("Content-Length: {}", body.len()).as_bytes()]);
    line(out, &[]);
    out.extend_from_slice(body);
}
