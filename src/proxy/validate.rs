//! §16.3 request validation and §16.4 route information preprocessing.

use smallvec::SmallVec;

use crate::base::{Host, Transport, limits, table_hash};
use crate::identity::IdentityId;
use crate::sip::{Message, Method, Name, Scheme, Uri};
use crate::transaction::branch::peek_attempt;

use super::Proxy;
use super::reject::Reject;
use super::route_token::{PARAM, RouteToken};
use super::view::own_identity;

/// What §16.4 finds on top of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Route values of ours to take off.
    pub pops: u8,
    /// The Request-URI is our Record-Route URI: the previous hop is a strict router.
    pub take_last: bool,
    /// The identity that the last consumed value names: the request goes on from there.
    pub identity: Option<IdentityId>,
    /// The token of the first consumed value.
    pub token: Token,
}

/// The token of a consumed Route value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Token {
    /// There is none.
    #[default]
    Absent,
    /// There is one that we did not seal for this dialog and identity.
    Forged,
    /// Ours.
    Good(RouteToken),
}

/// Whether a request stays within our limits with what a proxy adds.
fn has_room(request: &Message<'_>) -> bool {
    request.via_count() < limits::VIAS
        && request.header_count() + limits::GAINED_HEADERS <= limits::HEADERS
        && request.bytes().len() + limits::GAINED_OCTETS <= limits::MESSAGE
}

impl Proxy {
    /// §16.3 without the loop check.
    pub(super) fn validate(&self, request: &Message<'_>) -> Result<(), Reject> {
        // Item 2: URI scheme. Without TLS of our own, sips is one that we cannot honour (§26.2.2).
        let served = |uri: &Uri<'_>| match uri.scheme {
            Scheme::Sip => true,
            Scheme::Sips => self.view.identities.speaks(Transport::Tls),
            Scheme::Tel | Scheme::Other => false,
        };
        let uri = request.uri().filter(served).ok_or(Reject::Scheme)?;
        if !uri.headers.is_empty() {
            // §19.1.1: header components never stand in a Request-URI.
            return Err(Reject::BadUri);
        }
        // Item 3: Max-Forwards.
        if request.max_forwards() == Some(0) {
            return Err(Reject::TooManyHops);
        }
        if !has_room(request) {
            return Err(Reject::NoRoom);
        }
        // RFC 5393 §5.3.3.
        if request.max_breadth() == Some(0) {
            return Err(Reject::Breadth);
        }
        // Item 5: Proxy-Require. We support no extension that a proxy would have to. An ACK cannot be refused (§20.29).
        if request.method() != Method::Ack && request.header(Name::ProxyRequire).is_some() {
            let mut unsupported = SmallVec::new();
            for tag in request.tokens(Name::ProxyRequire) {
                if !unsupported.is_empty() {
                    unsupported.extend_from_slice(b", ");
                }
                unsupported.extend_from_slice(tag);
            }
            if !unsupported.is_empty() {
                return Err(Reject::Extension(unsupported));
            }
        }
        Ok(())
    }

    /// §16.3 item 4: a Via of ours whose spiral hash is that of this request means that it came back unchanged.
    pub(super) fn check_loop(&self, request: &Message<'_>) -> Result<(), Reject> {
        let mut spiral = None;
        for via in request.vias().flatten() {
            let (Host::Ip(ip), Some(branch)) = (via.host, via.branch) else { continue };
            if self.view.identities.recognise(None, ip, via.port_or_default()).is_none() {
                continue;
            }
            let Some(attempt) = peek_attempt(branch) else { continue };
            if attempt.spiral == *spiral.get_or_insert_with(|| self.spiral(request)) {
                return Err(Reject::Loop);
            }
        }
        Ok(())
    }

    /// The hash over what decides where a request goes: Request-URI and Route (RFC 5393 §4.2.1).
    pub(super) fn spiral(&self, request: &Message<'_>) -> u32 {
        let mut hash = table_hash(SPIRAL_SEED, request.request_uri());
        for route in request.all(Name::Route) {
            hash = table_hash(hash, route.value);
        }
        hash as u32
    }

    /// §16.4: what of the Request-URI and the Route values on top is ours.
    pub(super) fn preprocess(&self, request: &Message<'_>) -> Place {
        let mut place = Place::default();
        if let Some(uri) = request.uri()
            && uri.param(PARAM.as_bytes()).is_some()
            && let Some(identity) = own_identity(&self.view.identities, &uri)
        {
            place.take_last = true;
            self.consume(request, &uri, identity, &mut place);
        }
        for route in request.routes() {
            let Some(uri) = route.and_then(|r| r.parsed()) else { break };
            let Some(identity) = own_identity(&self.view.identities, &uri) else { break };
            if !self.consume(request, &uri, identity, &mut place) {
                break;
            }
            place.pops += 1;
        }
        place
    }

    /// Whether a value that names us belongs to this pass: the first one does, the next one if it is the other half of
    /// a double Record-Route (same leg). Another leg's value is a spiral and stays.
    fn consume(&self, request: &Message<'_>, uri: &Uri<'_>, identity: IdentityId, place: &mut Place) -> bool {
        let sealed_for = self.view.identities.get(identity).text();
        let token = match uri.param(PARAM.as_bytes()) {
            None => Token::Absent,
            Some(text) => RouteToken::open(&self.view.keys, request.call_id(), sealed_for, text)
                .map_or(Token::Forged, Token::Good),
        };
        match (place.identity, place.token, token) {
            (None, ..) => place.token = token,
            (Some(_), Token::Good(first), Token::Good(second)) if first.leg == second.leg => {}
            (Some(_), Token::Absent, Token::Absent) => {}
            _ => return false,
        }
        place.identity = Some(identity);
        true
    }
}

/// Spiral hashes are compared by every node of a cluster.
const SPIRAL_SEED: u64 = 0x7461_6e64_656d_0001;
