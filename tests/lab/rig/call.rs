//! A call from the caller's side, as text: what SIPp cannot say or cannot time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::message::Message;

/// The caller's half of a dialog.
#[derive(Clone)]
pub struct Call {
    /// Call-ID.
    pub id: String,
    /// Branch of the INVITE.
    pub branch: String,
    me: SocketAddr,
    node: SocketAddr,
    transport: &'static str,
    cseq: u32,
    to: String,
    routes: String,
    target: String,
}

impl Call {
    /// A new call from `me` to `node` over UDP.
    pub fn new(me: SocketAddr, node: SocketAddr) -> Call {
        Self::over("UDP", me, node)
    }

    /// A new call over `transport`.
    pub fn over(transport: &'static str, me: SocketAddr, node: SocketAddr) -> Call {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let target = format!("sip:dialog@{node};voicexml=file://app.vxml");
        let to = format!("<sip:dialog@{node}>");
        let (id, branch) = (format!("{n}-{me}"), format!("z9hG4bKcall{n}x{}", me.port()));
        Call { id, branch, me, node, transport, cseq: 1, to, routes: String::new(), target }
    }

    /// The INVITE.
    pub fn invite(&self) -> String {
        self.invite_with("", "v=0\r\n")
    }

    /// The INVITE with further header lines and a body.
    pub fn invite_with(&self, headers: &str, body: &str) -> String {
        let contact = format!("Contact: <sip:caller@{};transport={}>\r\n", self.me, self.transport);
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        self.request("INVITE", 1, &self.branch, &format!("{contact}{headers}{kind}"), body)
    }

    /// The CANCEL of the INVITE (RFC 3261 §9.1).
    pub fn cancel(&self) -> String {
        self.request("CANCEL", 1, &self.branch, "", "")
    }

    /// The ACK of a refusal (RFC 3261 §17.1.1.3).
    pub fn ack_refusal(&self, refusal: &Message) -> String {
        let mut call = self.clone();
        call.to = refusal.one("to").to_owned();
        call.request("ACK", 1, &self.branch, "", "")
    }

    /// Takes the route set and the remote target from an answer (RFC 3261 §12.1.2).
    pub fn established(&mut self, answer: &Message) {
        self.to = answer.one("to").to_owned();
        self.target = between(answer.one("contact")).to_owned();
        let routes = answer.all("record-route");
        self.routes = routes.iter().rev().map(|route| format!("Route: {route}\r\n")).collect();
    }

    /// The ACK of a 2xx.
    pub fn ack(&self) -> String {
        self.request("ACK", 1, &format!("{}ack", self.branch), "", "")
    }

    /// The next request inside the dialog.
    pub fn next(&mut self, method: &str) -> String {
        self.cseq += 1;
        let contact = format!("Contact: <sip:caller@{};transport={}>\r\n", self.me, self.transport);
        self.request(method, self.cseq, &format!("{}n{}", self.branch, self.cseq), &contact, "")
    }

    /// Where all of it goes.
    pub fn node(&self) -> SocketAddr {
        self.node
    }

    /// Any request with this call's identifiers.
    pub fn request(&self, method: &str, cseq: u32, branch: &str, headers: &str, body: &str) -> String {
        let Call { id, me, transport, to, routes, target, .. } = self;
        format!(
            "{method} {target} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {me};branch={branch};rport\r\n\
             {routes}From: <sip:caller@{me}>;tag=caller\r\n\
             To: {to}\r\n\
             Call-ID: {id}\r\n\
             CSeq: {cseq} {method}\r\n\
             Max-Forwards: 70\r\n\
             {headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// An OPTIONS to the node itself: is it alive, and what does it say of itself?
pub fn options(me: SocketAddr, node: SocketAddr, nonce: u32) -> String {
    Call::new(me, node).request("OPTIONS", 1, &format!("z9hG4bKopt{nonce}x{}", me.port()), "", "")
}

/// The URI of a name-addr.
pub fn between(value: &str) -> &str {
    let inner = value.split_once('<').map_or(value, |(_, rest)| rest);
    inner.split('>').next().unwrap_or(inner)
}
