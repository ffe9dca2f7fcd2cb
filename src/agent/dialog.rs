//! What both ends of a dialog remember (RFC 3261 §12).

use std::net::SocketAddr;

use crate::base::{Host, Transport};
use crate::sip::{Message, Uri};

/// The state of one dialog at one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: Vec<u8>,
    /// Our From (or To), with our tag.
    pub local: Vec<u8>,
    /// Theirs, with their tag.
    pub remote: Vec<u8>,
    /// Our tag.
    pub local_tag: Vec<u8>,
    /// Their tag.
    pub remote_tag: Vec<u8>,
    /// Their Contact's URI: the Request-URI of what we send.
    pub target: Vec<u8>,
    /// The route set, in our order.
    pub routes: Vec<Vec<u8>>,
    /// CSeq number of our last request.
    pub cseq: u32,
    /// CSeq number of their last request; 0 before the first.
    pub heard: u32,
}

impl Dialog {
    /// The caller's dialog, made by a 2xx to its INVITE (RFC 3261 §12.1.2). `None` without To tag or Contact.
    pub fn of_response(response: &Message<'_>) -> Option<Self> {
        let mut routes: Vec<Vec<u8>> = Vec::new();
        for route in response.record_routes() {
            routes.push(route?.value.to_vec());
        }
        routes.reverse();
        Some(Self {
            call_id: response.call_id().to_vec(),
            local: response.from().value.to_vec(),
            remote: response.to().value.to_vec(),
            local_tag: response.from_tag().to_vec(),
            remote_tag: response.to_tag()?.to_vec(),
            target: response.contacts().next()??.uri.to_vec(),
            routes,
            cseq: response.cseq().number,
            heard: 0,
        })
    }

    /// The callee's dialog, made by an INVITE that it answers with `tag` (RFC 3261 §12.1.1). `None` without Contact.
    pub fn of_request(request: &Message<'_>, tag: &str) -> Option<Self> {
        let mut routes: Vec<Vec<u8>> = Vec::new();
        for route in request.record_routes() {
            routes.push(route?.value.to_vec());
        }
        Some(Self {
            call_id: request.call_id().to_vec(),
            local: [request.to().value, b";tag=", tag.as_bytes()].concat(),
            remote: request.from().value.to_vec(),
            local_tag: tag.as_bytes().to_vec(),
            remote_tag: request.from_tag().to_vec(),
            target: request.contacts().next()??.uri.to_vec(),
            routes,
            cseq: 0,
            heard: request.cseq().number,
        })
    }

    /// Whether `request` of the other end belongs to this dialog.
    pub fn covers(&self, request: &Message<'_>) -> bool {
        request.call_id() == self.call_id
            && request.from_tag() == self.remote_tag
            && request.to_tag() == Some(self.local_tag.as_slice())
    }

    /// Where our requests go: the first loose route, else the target (RFC 3261 §12.2.1.1). `None` if that is no IP
    /// literal or the first route is a strict one, which no agent here meets.
    pub fn next_hop(&self) -> Option<(Transport, SocketAddr)> {
        match self.routes.first() {
            Some(route) => {
                let uri = crate::sip::NameAddr::parse(route)?.parsed()?;
                if uri.is_loose() { address(&uri) } else { None }
            }
            None => address(&Uri::parse(&self.target)?),
        }
    }
}

/// The transport and address that a URI with an IP literal names.
pub fn address(uri: &Uri<'_>) -> Option<(Transport, SocketAddr)> {
    match uri.host {
        Host::Ip(ip) => Some((uri.transport().unwrap_or(Transport::Udp), SocketAddr::new(ip, uri.port_or_default()))),
        Host::Name(_) => None,
    }
}
