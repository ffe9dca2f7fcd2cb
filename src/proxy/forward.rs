//! §16.6: the octets of a forwarded request are a pure function of the request as received and its [`Hop`].
//! Retransmission, the next candidate, CANCEL and the ACK to a non-2xx all use it, and so would a survivor.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::balance::Route;
use crate::base::{Flow, LegId, ResourceId, Transport};
use crate::identity::{Identity, IdentityId};
use crate::sip::edit::{Text, decimal};
use crate::sip::reply::stamp_source;
use crate::sip::{Edits, Index, Message, Name, Scheme};
use crate::transaction::branch::Branch;

use super::route_token::{LETTERS, PARAM, RouteToken, Side};
use super::view::{View, own_identity};

/// All that a forwarded request depends on besides the request itself.
#[derive(Clone, Debug)]
pub struct Hop {
    /// The literal branch of our Via.
    pub branch: Branch,
    /// Where it goes.
    pub flow: Flow,
    /// The identity in our Via: the address that it leaves from.
    pub out: IdentityId,
    /// Where the request truly came from.
    pub source: SocketAddr,
    /// How it is routed.
    pub kind: HopKind,
}

/// How a request is routed.
#[derive(Clone, Debug)]
pub enum HopKind {
    /// A new call: to a resource, recording our route.
    Initial {
        /// The resource's address.
        route: Arc<Route>,
        /// The identity that faces the caller.
        facing: IdentityId,
        /// The leg that the attempt would become.
        leg: LegId,
        /// The resource.
        resource: ResourceId,
        /// The key of the Route tokens.
        key: u8,
        /// Preloaded Route values that name us.
        pops: u8,
    },
    /// Inside a dialog: by the route set in the message.
    InDialog {
        /// Route values of ours on top.
        pops: u8,
        /// The Request-URI was ours (the previous hop is a strict router): the last Route value takes its place (§16.4).
        take_last: bool,
        /// The next Route value is a strict router: it takes the Request-URI's place (§16.6 item 6).
        strict_next: bool,
    },
}

/// Writes the request that leaves.
pub fn write(request: &Message<'_>, hop: &Hop, view: &View, edits: &mut Edits, bytes: &mut Vec<u8>) {
    edits.clear();
    let out = view.identities.get(hop.out);
    let head = request.start_span().end;
    via(&mut edits.insert(head), out, &hop.branch);
    match &hop.kind {
        HopKind::Initial { route, facing, leg, resource, key, pops } => {
            let token = RouteToken { side: Side::Resource, leg: *leg, resource: *resource, key: *key };
            let uri = request.uri();
            let secure = uri.is_some_and(|uri| uri.scheme == Scheme::Sips);
            record_route(&mut edits.insert(head), request.call_id(), view, hop.out, *facing, &token, secure);
            if let Some(uri) = uri {
                edits.replace(request.span(uri.authority)).push(route.authority.as_bytes());
            }
            edits.remove_values(request, Name::Route, *pops as usize);
        }
        HopKind::InDialog { pops, take_last, strict_next } => {
            route_set(request, edits, *pops as usize, *take_last, *strict_next);
        }
    }
    stamp_source(edits, request, hop.source);
    max_forwards(request, edits);
    edits.write(request, bytes);
}

/// Writes a CANCEL (§9.1) or the ACK to a non-2xx (§17.1.1.3) that follows the INVITE of `hop`. `to`: the To value of
/// the response that is acknowledged.
pub fn write_follow_up(
    invite: &Message<'_>,
    hop: &Hop,
    view: &View,
    method: &str,
    to: Option<&[u8]>,
    scratch: FollowUp<'_>,
    bytes: &mut Vec<u8>,
) -> bool {
    scratch.octets.clear();
    write(invite, hop, view, scratch.edits, scratch.octets);
    if scratch.index.parse(scratch.octets).is_err() {
        return false;
    }
    let sent = scratch.index.message(scratch.octets);
    let mut line = |parts: &[&[u8]]| parts.iter().for_each(|p| bytes.extend_from_slice(p));
    line(&[method.as_bytes(), b" ", sent.request_uri(), b" SIP/2.0\r\nVia: ", sent.via().value, b"\r\n"]);
    for route in sent.all(Name::Route) {
        line(&[b"Route: ", route.value, b"\r\n"]);
    }
    line(&[b"Max-Forwards: 70\r\nFrom: ", sent.from().value, b"\r\nTo: ", to.unwrap_or(sent.to().value), b"\r\n"]);
    line(&[b"Call-ID: ", sent.call_id(), b"\r\nCSeq: "]);
    decimal(u64::from(sent.cseq().number), bytes);
    bytes.extend_from_slice(b" ");
    bytes.extend_from_slice(method.as_bytes());
    bytes.extend_from_slice(b"\r\nContent-Length: 0\r\n\r\n");
    true
}

/// Reused memory of [`write_follow_up`].
pub struct FollowUp<'a> {
    /// Edits of the INVITE.
    pub edits: &'a mut Edits,
    /// Index of the INVITE as sent.
    pub index: &'a mut Index,
    /// The INVITE as sent.
    pub octets: &'a mut Vec<u8>,
}

/// Writes the response that goes on: without our Via, with our Route token turned to the side of the caller (§16.7
/// steps 3 and 8). `vias`: header lines in the place of all its Vias.
pub fn write_response(
    response: &Message<'_>,
    vias: Option<&[u8]>,
    view: &View,
    edits: &mut Edits,
    bytes: &mut Vec<u8>,
) {
    edits.clear();
    edits.remove_values(response, Name::Via, vias.map_or(1, |_| usize::MAX));
    if let Some(vias) = vias {
        edits.insert(response.start_span().end).push(vias);
    }
    if let Some((token, text, identity)) = own_record_route(response, view) {
        let mut turned = Letters::default();
        RouteToken { side: Side::Caller, ..token }.seal(
            &view.keys,
            response.call_id(),
            view.identities.get(identity).text(),
            &mut turned,
        );
        edits.replace(response.span(text)).push(&turned.0);
    }
    edits.write(response, bytes);
}

/// What our own Record-Route value in a response says, one or two of them.
pub(super) fn own_token(response: &Message<'_>, view: &View) -> Option<RouteToken> {
    own_tokens(response, view).next().map(|(token, ..)| token)
}

fn own_tokens<'a>(response: &Message<'a>, view: &View) -> impl Iterator<Item = (RouteToken, &'a [u8], IdentityId)> {
    response.record_routes().filter_map(|value| {
        let uri = value.and_then(|v| v.parsed())?;
        let text = uri.param(PARAM.as_bytes())?;
        let identity = own_identity(&view.identities, &uri)?;
        let sealed_for = view.identities.get(identity).text();
        Some((RouteToken::open(&view.keys, response.call_id(), sealed_for, text)?, text, identity))
    })
}

/// Our own Record-Route value in a response, if there is exactly one of this leg: a double one keeps its sides.
pub(super) fn own_record_route<'a>(response: &Message<'a>, view: &View) -> Option<(RouteToken, &'a [u8], IdentityId)> {
    let mut found: Option<(RouteToken, &'a [u8], IdentityId)> = None;
    response.header(Name::RecordRoute)?;
    for (token, text, identity) in own_tokens(response, view) {
        match found {
            Some((first, ..)) if first.leg == token.leg => return None,
            Some(_) => {}
            None => found = Some((token, text, identity)),
        }
    }
    found.filter(|(token, ..)| token.side == Side::Resource)
}

fn via(text: &mut Text<'_>, out: &Identity, branch: &Branch) {
    text.push(b"Via: SIP/2.0/").push(out.transport.via().as_bytes()).push(b" ").push(out.text().as_bytes());
    text.push(b";branch=").push(branch.as_bytes()).push(b"\r\n");
}

/// §16.6 item 4; two values when the sides differ in transport or listener, outgoing side on top (RFC 5658 §5).
/// `secure`: the Request-URI is a SIPS URI, and so are ours.
fn record_route(
    text: &mut Text<'_>,
    call_id: &[u8],
    view: &View,
    out: IdentityId,
    facing: IdentityId,
    token: &RouteToken,
    secure: bool,
) {
    let (out, facing) = (recorded(view, out), recorded(view, facing));
    text.push(b"Record-Route: <");
    own_uri(text, call_id, view, out, token, secure);
    if facing != out && !view.identities.correspond(facing, out) {
        text.push(b">,<");
        own_uri(text, call_id, view, facing, &RouteToken { side: Side::Caller, ..*token }, secure);
    }
    text.push(b">\r\n");
}

/// What stands for an identity in a dialog, which must find any node where each of them serves. Where one does, what a
/// caller reaches it at is what he goes on with.
fn recorded(view: &View, id: IdentityId) -> IdentityId {
    if view.shared { view.identities.recorded(id) } else { id }
}

fn own_uri(text: &mut Text<'_>, call_id: &[u8], view: &View, identity: IdentityId, token: &RouteToken, secure: bool) {
    let identity = view.identities.get(identity);
    let mut letters = Letters::default();
    token.seal(&view.keys, call_id, identity.text(), &mut letters);
    if secure && identity.transport == Transport::Tls {
        text.push(b"sips:").push(identity.text().as_bytes());
    } else {
        text.push(b"sip:").push(identity.text().as_bytes());
        if identity.transport != Transport::Udp {
            text.push(b";transport=").push(identity.transport.param().as_bytes());
        }
    }
    text.push(b";lr;").push(PARAM.as_bytes()).push(b"=").push(&letters.0);
}

/// The text of one token, on the stack.
struct Letters([u8; LETTERS], usize);

impl Default for Letters {
    fn default() -> Self {
        Letters([0; LETTERS], 0)
    }
}

impl Extend<u8> for Letters {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, letters: I) {
        for letter in letters {
            self.0[self.1] = letter;
            self.1 += 1;
        }
    }
}

/// §16.4 and §16.6 item 6 on the Route values and the Request-URI.
fn route_set(request: &Message<'_>, edits: &mut Edits, pops: usize, take_last: bool, strict_next: bool) {
    if !take_last && !strict_next {
        return edits.remove_values(request, Name::Route, pops);
    }
    // A strict router on either side moves URIs between the Request-URI and the Route list: the list is written anew.
    let mut values: smallvec::SmallVec<[&[u8]; 8]> = request.routes().flatten().map(|v| v.value).collect();
    let mut uri = request.request_uri();
    if take_last && let Some(last) = values.pop() {
        uri = crate::sip::NameAddr::parse(last).map_or(uri, |v| v.uri);
    }
    values.drain(..pops.min(values.len()));
    let old_uri = uri;
    if strict_next && !values.is_empty() {
        let next = values.remove(0);
        uri = crate::sip::NameAddr::parse(next).map_or(uri, |v| v.uri);
    }
    for route in request.all(Name::Route) {
        edits.remove(route.line);
    }
    edits.replace(request.span(request.request_uri())).push(uri);
    let mut text = edits.insert(request.start_span().end);
    for value in &values {
        text.push(b"Route: ").push(value).push(b"\r\n");
    }
    if strict_next {
        text.push(b"Route: <").push(old_uri).push(b">\r\n");
    }
}

/// §16.6 item 3.
fn max_forwards(request: &Message<'_>, edits: &mut Edits) {
    match request.header(Name::MaxForwards) {
        Some(header) => {
            let left = request.max_forwards().unwrap_or(70).saturating_sub(1);
            edits.replace(request.span(header.value)).number(u64::from(left));
        }
        None => {
            edits.insert(request.start_span().end).push(b"Max-Forwards: 70\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Epoch, ListenerId, NodeId, Time};
    use crate::identity::{Identities, Shared};
    use crate::token::Keys;

    #[test]
    fn an_own_address_is_recorded_unless_every_node_serves() {
        let identity = |addr: &str| Identity::new(Transport::Udp, addr.parse().unwrap(), ListenerId::default());
        let shared = Shared { ips: vec!["192.0.2.10".parse().unwrap()], sends: true, ..Shared::default() };
        let keys = Keys::new("tandem", &[b"secret"]).unwrap();
        let mut view = View::alone(NodeId(1), Epoch::default(), keys, Time::ZERO);
        view.identities = Identities::new([identity("192.0.2.10:5060"), identity("10.0.0.1:5060")]).shared_by(shared);
        let (virtual_ip, own) = (IdentityId(0), IdentityId(1));
        assert_eq!((recorded(&view, own), recorded(&view, virtual_ip)), (own, virtual_ip));
        view.shared = true;
        assert_eq!((recorded(&view, own), recorded(&view, virtual_ip)), (virtual_ip, virtual_ip));
    }
}
