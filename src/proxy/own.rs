//! What is asked of Tandem itself, and where responses of any kind go.

use std::net::{IpAddr, SocketAddr};

use crate::base::{Flow, Host, Transport};
use crate::sip::reply::{Reply, reason_phrase};
use crate::sip::{Message, Method, Via};

use super::reject::{ALLOW, Reject};
use super::{Io, Proxy};

impl Proxy {
    /// OPTIONS outside a dialog: the answer tells whether new calls are taken (§11.2).
    pub(super) fn options(&mut self, io: &mut Io<'_>, request: &Message<'_>, flow: Flow) -> Result<(), Reject> {
        match self.validate(request) {
            // §16.3 item 3: the final recipient may answer.
            Ok(()) | Err(Reject::TooManyHops) => {}
            Err(reject) => return Err(reject),
        }
        if !self.view.serving {
            return Err(Reject::Draining);
        }
        let Some(upstream) = self.reply_flow(request, flow) else { return Ok(()) };
        let tag = self.own_tag(request);
        let extra = [
            ("Allow", ALLOW.as_bytes()),
            ("Accept", b"application/sdp".as_slice()),
            ("Server", self.view.config.server.as_bytes()),
        ];
        let shown = if self.view.config.server.is_empty() { 2 } else { 3 };
        let reply = Reply { status: 200, reason: reason_phrase(200), to_tag: Some(&tag), extra: &extra[..shown] };
        io.send(upstream, |bytes| {
            write_no_larger(&reply, 0, request, flow, bytes);
            true
        });
        self.stats.responses_generated += 1;
        Ok(())
    }

    /// Writes a response of our own into `bytes`.
    pub(super) fn write_reject(
        &self,
        request: &Message<'_>,
        source: Flow,
        reject: &Reject,
        bytes: &mut Vec<u8>,
    ) -> bool {
        let Some(status) = reject.status() else { return false };
        let mut extra = reject.extra();
        // What a refusal must carry is never left out (§21.4.6, §21.4.15).
        let needed = extra.len();
        if !self.view.config.server.is_empty() {
            extra.push(("Server", self.view.config.server.as_bytes()));
        }
        let tag = self.own_tag(request);
        let reply = Reply { status, reason: reason_phrase(status), to_tag: Some(&tag), extra: &extra };
        write_no_larger(&reply, needed, request, source, bytes);
        true
    }

    /// A refusal that follows from the message alone needs no transaction (§16.11): a retransmission gets the same.
    pub(super) fn answer_statelessly(&mut self, io: &mut Io<'_>, request: &Message<'_>, source: Flow, reject: Reject) {
        if request.method() == Method::Ack {
            return;
        }
        let Some(upstream) = self.reply_flow(request, source) else { return };
        if !io.send(upstream, |bytes| self.write_reject(request, source, &reject, bytes)) {
            return;
        }
        self.stats.responses_generated += 1;
        if let (Method::Invite, None, Some(status)) = (request.method(), request.to_tag(), reject.status()) {
            self.stats.invite_final(status);
        }
    }

    /// A To tag of our own: the same for every retransmission of a request, whichever node answers it.
    pub(super) fn own_tag(&self, request: &Message<'_>) -> [u8; 16] {
        let branch = request.via().branch.unwrap_or_default();
        let cseq = request.cseq().number.to_be_bytes();
        let hash = self.view.keys.id64(&[b"tag", request.call_id(), branch, &cseq]);
        let mut tag = [0; 16];
        for (n, digit) in tag.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(hash >> (60 - 4 * n)) as usize & 15];
        }
        tag
    }

    /// Where the responses to a request go: §18.2.2 and RFC 3581 §4. `None` when nothing may be sent there.
    pub(super) fn reply_flow(&mut self, request: &Message<'_>, source: Flow) -> Option<Flow> {
        let via = request.via();
        let remote = match source.transport {
            Transport::Udp if via.rport.is_some() => source.remote,
            transport => SocketAddr::new(source.remote.ip(), via.port.unwrap_or(transport.default_port())),
        };
        if !sendable(remote) {
            self.stats.unsendable += 1;
            return None;
        }
        Some(Flow { remote, ..source })
    }
}

/// Writes a response; over UDP, where a source may be forged, with so many of its extra fields (`needed` at least) that
/// it is no larger than its request: nobody is flooded through us.
fn write_no_larger(reply: &Reply<'_>, needed: usize, request: &Message<'_>, source: Flow, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    for shown in (needed..=reply.extra.len()).rev() {
        bytes.truncate(start);
        Reply { extra: &reply.extra[..shown], ..*reply }.write(request, source.remote, bytes);
        if source.transport.reliable() || bytes.len() - start <= request.bytes().len() {
            return;
        }
    }
}

/// Where a response goes whose request is not remembered: what the Via says (§18.2.2).
pub(super) fn via_target(via: &Via<'_>) -> Option<(Transport, SocketAddr)> {
    let transport = via.transport()?;
    let received = via.received.and_then(ip_literal);
    let ip = match (received, via.host) {
        (Some(ip), _) => ip,
        (None, Host::Ip(ip)) => ip,
        (None, Host::Name(_)) => return None,
    };
    let port = match (transport, via.rport.flatten()) {
        (Transport::Udp, Some(port)) => port,
        _ => via.port_or_default(),
    };
    Some((transport, SocketAddr::new(ip, port))).filter(|(_, remote)| sendable(*remote))
}

/// Nothing is ever sent to port 0, a broadcast, multicast or unspecified address.
pub(super) fn sendable(remote: SocketAddr) -> bool {
    let ip = remote.ip().to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    remote.port() != 0 && !ip.is_multicast() && !ip.is_unspecified() && !broadcast
}

fn ip_literal(text: &[u8]) -> Option<IpAddr> {
    let text = text.strip_prefix(b"[").and_then(|t| t.strip_suffix(b"]")).unwrap_or(text);
    std::str::from_utf8(text).ok()?.parse().ok()
}
