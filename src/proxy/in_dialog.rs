//! Requests inside a dialog: the next hop is the message's own (§16.6 items 5 to 7), our Route token is the permission.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::balance::Vouch;
use crate::base::{Flow, Host, LegId, ResourceId, Seq, SessionId, Time, Transport, Version, limits};
use crate::identity::IdentityId;
use crate::out::{Out, Transmit};
use crate::session::Leg;
use crate::session::change::Interval;
use crate::sip::{Message, Method, Scheme, Uri};
use crate::transaction::branch;
use crate::transaction::invite_client::InviteClient;
use crate::transaction::invite_server::InviteServer;
use crate::transaction::non_invite_client::NonInviteClient;
use crate::transaction::non_invite_server::NonInviteServer;
use crate::transaction::{ClientMachine, NewClient, ServerMachine};

use super::context::{Attempt, AttemptState, Cancel, Effect, Role};
use super::forward::{self, Hop, HopKind};
use super::initial::trying;
use super::own::sendable;
use super::reject::Reject;
use super::route_token::{RouteToken, Side};
use super::validate::{Place, Token};
use super::view::own_identity;
use super::{Io, Proxy};

/// Where a request goes by its own route set.
struct NextHop<'a> {
    flow: Flow,
    out: IdentityId,
    /// Set when a DNS name must be resolved first.
    name: Option<&'a [u8]>,
    host: Host<'a>,
    port: u16,
    strict: bool,
    /// The URI itself names the transport.
    explicit: bool,
}

impl Proxy {
    /// A request with a To tag.
    pub(super) fn in_dialog(
        &mut self,
        io: &mut Io<'_>,
        request: &Message<'_>,
        flow: Flow,
        key: u128,
        place: &Place,
    ) -> Result<(), Reject> {
        let token = self.permission(request, place)?;
        if request.method() == Method::Bye
            && self.legs.find(token.leg).is_none()
            && self.is_early_elsewhere(token.leg, token.resource)
            && self.offer(io, request, flow)
        {
            return Ok(());
        }
        let towards = token.side == Side::Caller && self.view.beside.is_some();
        if towards && io.desk.peer_reaches(token.resource) && self.offer_beyond(io, request, flow) {
            return Ok(());
        }
        let mut next = self.next_hop(request, place)?;
        self.check_neighbour(io, &token, &next, flow)?;
        self.prefer_stream(io, request, &token, &mut next);
        let refreshes = effect(request) == Effect::Refreshes;
        if refreshes && token.side == Side::Resource && knows(io, token.resource, flow.remote.ip()) {
            // §12.2.2: it may name another Contact for what follows.
            self.learn(io, token.resource, request);
        }
        if let Some(leg) = self.legs.find_mut(token.leg) {
            (leg.heard, leg.acknowledged) = (io.now, true);
        }
        if matches!(effect(request), Effect::Refreshes | Effect::Touches) {
            self.tell_heard(io, token.leg, Interval::Same);
        }
        let hop = Hop {
            branch: branch::pure(&self.view.keys, token.key, self.view.identities.get(next.out).text(), request),
            flow: next.flow,
            out: next.out,
            source: flow.remote,
            kind: HopKind::InDialog { pops: place.pops, take_last: place.take_last, strict_next: next.strict },
        };
        if request.method() == Method::Ack {
            // §16.11 and §13.2.2.4: the ACK to a 2xx is a transaction of its own that nobody answers.
            self.send_hop(io.out, request, &hop, next.name);
            self.stats.requests_forwarded += 1;
            self.confirm(io, &token, request.call_id());
            return Ok(());
        }
        if !self.has_room() {
            return Err(Reject::Full);
        }
        let Some(upstream) = self.reply_flow(request, flow) else { return Ok(()) };
        let role =
            Role::InDialog { leg: token.leg, resource: token.resource, side: token.side, effect: effect(request) };
        let id = self.open_context(io.now, request, flow, upstream, role);
        self.mark(io, request);
        self.open_transactions(io, request, flow, upstream, key, id, &token, hop, next.name);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one request, each of another origin")]
    fn open_transactions(
        &mut self,
        io: &mut Io<'_>,
        request: &Message<'_>,
        source: Flow,
        upstream: Flow,
        key: u128,
        id: u32,
        token: &RouteToken,
        hop: Hop,
        name: Option<&[u8]>,
    ) {
        let (now, timing) = (io.now, self.transactions.timing);
        let (back, on) = (source.transport.reliable(), hop.flow.transport.reliable());
        let (server, client) = if request.method() == Method::Invite {
            trying(io, request, source, upstream);
            let client = ClientMachine::Invite(InviteClient::start(now, &timing, on));
            (ServerMachine::Invite(InviteServer::start(back)), client)
        } else {
            let client = ClientMachine::Other(NonInviteClient::start(now, &timing, on));
            (ServerMachine::Other(NonInviteServer::start(now, &timing, back)), client)
        };
        self.send_hop(io.out, request, &hop, name);
        self.stats.requests_forwarded += 1;
        let server = self.transactions.open_server(key, server, upstream, id);
        let branch = hop.branch;
        let client =
            self.transactions.open_client(NewClient { machine: client, branch, cancel: false, owner: id, attempt: 0 });
        let context = &mut self.contexts[id as usize];
        context.server = Some(server);
        context.clients = 1;
        context.attempts.push(Attempt {
            hop,
            leg: token.leg,
            resource: token.resource,
            grant: None,
            pin: None,
            client: Some(client),
            state: AttemptState::Sent,
            cancel: Cancel::No,
            due: Time::NEVER,
            recorded: Seq(0),
            over: false,
        });
    }

    /// Writes a request into the arena and puts its transmit out.
    pub(super) fn send_hop(&mut self, out: &mut Out, request: &Message<'_>, hop: &Hop, name: Option<&[u8]>) {
        let mut scratch = self.scratch.take().unwrap_or_default();
        let start = out.arena.len() as u32;
        forward::write(request, hop, &self.view, &mut scratch.edits, &mut out.arena);
        let end = out.arena.len() as u32;
        let name = name.map(|name| {
            out.arena.extend_from_slice(name);
            end..out.arena.len() as u32
        });
        out.transmits.push(Transmit { flow: hop.flow, bytes: start..end, name });
        self.scratch = Some(scratch);
    }

    /// The name that a hop's next hop still is: read again from the request whenever it is repeated.
    pub(super) fn unresolved<'a>(&self, request: &Message<'a>, hop: &Hop) -> Option<&'a [u8]> {
        if !hop.flow.remote.ip().is_unspecified() {
            return None;
        }
        self.next_hop(request, &self.preprocess(request)).ok()?.name
    }

    fn permission(&mut self, request: &Message<'_>, place: &Place) -> Result<RouteToken, Reject> {
        let refusal = match (place.identity, place.token) {
            (Some(_), Token::Good(token)) => return Ok(token),
            (None, _) => Reject::NoDialog,
            (_, Token::Absent) => Reject::NoToken,
            (_, Token::Forged) => {
                self.stats.forged_tokens += 1;
                Reject::ForgedToken
            }
        };
        Err(if request.method() == Method::Ack { Reject::StrayAck } else { refusal })
    }

    /// §16.6 items 6 and 7: the next Route value, else the Request-URI.
    fn next_hop<'a>(&self, request: &Message<'a>, place: &Place) -> Result<NextHop<'a>, Reject> {
        let identity = place.identity.ok_or(Reject::NoDialog)?;
        let values = request.routes().count().saturating_sub(place.take_last as usize);
        let route = request.routes().take(values).nth(place.pops as usize);
        let last = if place.take_last { request.routes().nth(values) } else { None };
        let (uri, is_route) = match (route, last) {
            (Some(route), _) => (route.and_then(|r| r.parsed()), true),
            (None, Some(last)) => (last.and_then(|r| r.parsed()), false),
            (None, None) => (request.uri(), false),
        };
        let uri = uri.ok_or(Reject::BadUri)?;
        if !is_route && own_identity(&self.view.identities, &uri).is_some() {
            return Err(Reject::NowhereToGo);
        }
        // §16.6 item 7: a SIPS Request-URI makes every hop a secure one, whatever the Route says.
        let target = if place.take_last { last.flatten().and_then(|r| r.parsed()) } else { request.uri() };
        let secure = target.is_some_and(|uri| uri.scheme == Scheme::Sips);
        self.way_to(identity, uri, is_route, secure)
    }

    fn way_to<'a>(
        &self,
        identity: IdentityId,
        uri: Uri<'a>,
        is_route: bool,
        secure: bool,
    ) -> Result<NextHop<'a>, Reject> {
        let identities = &self.view.identities;
        // A dialog keeps the transport of its side unless the URI names another one.
        let usual = uri.transport().unwrap_or(identities.get(identity).transport);
        let transport = if secure { Transport::Tls } else { usual };
        let out = match identities.get(identity).transport == transport {
            true => identity,
            false => identities.sibling(identity, transport).ok_or(Reject::NowhereToGo)?,
        };
        let out = identities.sender(out);
        let from = identities.get(out);
        let port = uri.port.unwrap_or(transport.default_port());
        let (remote, name) = match uri.host {
            Host::Ip(ip) => (SocketAddr::new(ip, port), None),
            Host::Name(_) => (SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), Some(uri.authority)),
        };
        if name.is_none() && !sendable(remote) {
            return Err(Reject::NowhereToGo);
        }
        let flow = Flow { transport, listener: from.listener, local: from.addr, remote, conn: None };
        let (strict, explicit) = (is_route && !uri.is_loose(), uri.transport().is_some());
        Ok(NextHop { flow, out, name, host: uri.host, port, strict, explicit })
    }

    /// §18.1.1: what does not fit a datagram goes to the resource over a stream, if it offers one.
    fn prefer_stream(&self, io: &Io<'_>, request: &Message<'_>, token: &RouteToken, next: &mut NextHop<'_>) {
        let large = request.bytes().len() > limits::DATAGRAM_REQUEST;
        if !large || next.explicit || next.flow.transport.reliable() || token.side != Side::Caller {
            return;
        }
        let stream = io.desk.stream(token.resource).filter(|s| s.remote.ip() == next.flow.remote.ip());
        let identities = &self.view.identities;
        if let Some(stream) = stream
            && let Some(out) = identities.by_local(stream.transport, stream.local)
        {
            next.out = out;
            next.flow = Flow { remote: next.flow.remote, ..stream };
        }
    }

    /// The token permits requests between its resource and whoever called: from the caller only to the resource, from
    /// the resource only out of its own mouth.
    fn check_neighbour(
        &mut self,
        io: &mut Io<'_>,
        token: &RouteToken,
        next: &NextHop<'_>,
        source: Flow,
    ) -> Result<(), Reject> {
        let vouch = match token.side {
            Side::Caller => io.desk.vouch(token.resource, &next.host, next.port),
            Side::Resource => io.desk.vouch(token.resource, &Host::Ip(source.remote.ip().to_canonical()), 0),
        };
        match vouch {
            Vouch::Known => Ok(()),
            // What the resource of a call that was taken over has named, only its last owner may know.
            Vouch::Stranger if self.legs.find_mut(token.leg).is_some_and(|leg| !leg.taken_over) => {
                Err(Reject::Stranger)
            }
            Vouch::Stranger | Vouch::NoResource => {
                self.stats.next_hop_unverified += 1;
                Ok(())
            }
        }
    }

    /// What the final of an in-dialog request says of its leg.
    pub(super) fn conclude_in_dialog(&mut self, io: &mut Io<'_>, id: u32, response: &Message<'_>, status: u16) {
        let context = &self.contexts[id as usize];
        let Role::InDialog { leg, resource, side, effect } = context.role else { return };
        let received = context.received;
        match effect {
            Effect::Ends => {}
            _ if !(200..300).contains(&status) => {}
            effect => {
                if effect != Effect::Passes && side == Side::Caller && self.early(leg, resource).is_none() {
                    self.rebuild(io, leg, resource, response.call_id(), received);
                }
                match effect {
                    Effect::Refreshes => self.refresh(io, leg, response),
                    _ => self.legs.find_mut(leg).into_iter().for_each(|leg| leg.heard = io.now),
                }
            }
        }
    }

    /// A 2xx to INVITE or UPDATE begins the session interval anew, or ends it (RFC 4028 §8.2, §10).
    pub(super) fn refresh(&mut self, io: &mut Io<'_>, id: LegId, response: &Message<'_>) {
        if let Some(leg) = self.legs.find_mut(id) {
            (leg.heard, leg.session_expires) = (io.now, session_end(io.now, response));
        }
        self.arm_leg(io.now, id);
        self.record_leg(io, id, &[]);
        let interval = response.session_expires().map_or(Interval::None, |s| Interval::EndsIn(seconds(s)));
        self.tell_heard(io, id, interval);
    }

    /// A leg that a good token names and this node does not know is counted from now on; the position of its record,
    /// 0 if nothing came of it.
    pub(super) fn rebuild(
        &mut self,
        io: &mut Io<'_>,
        leg: LegId,
        resource: ResourceId,
        call_id: &[u8],
        invited: Time,
    ) -> Seq {
        if self.legs.find(leg).is_some() || self.legs.has_ended(leg) {
            return Seq(0);
        }
        let Some(grant) = io.desk.adopt(io.now, resource, leg, None) else { return Seq(0) };
        self.stats.legs_rebuilt += 1;
        self.insert_leg(Leg {
            id: leg,
            session: SessionId(self.view.keys.call_key(call_id).0),
            resource,
            grant: Some(grant),
            call_id: smallvec::SmallVec::from_slice(call_id),
            call: self.view.keys.call_key(call_id),
            owner: self.view.node,
            version: Version::default(),
            taken_over: true,
            acknowledged: true,
            invited,
            answered: io.now,
            heard: io.now,
            session_expires: Time::NEVER,
            queued: Time::NEVER,
        });
        self.record_leg(io, leg, &[])
    }

    /// Adds a leg and arms its deadline.
    pub(super) fn insert_leg(&mut self, leg: Leg) {
        let (id, now) = (leg.id, leg.heard);
        self.digest_leg(leg.owner, leg.call, id, leg.version);
        self.legs.insert(leg);
        self.arm_leg(now, id);
    }
}

/// When the session interval that a 2xx grants ends (RFC 4028 §8.2, §10).
pub(super) fn session_end(now: Time, response: &Message<'_>) -> Time {
    match response.session_expires() {
        Some(granted) => now + seconds(granted),
        None => Time::NEVER,
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(u64::from(count))
}

/// Whether a resource answers at this address, whatever the port.
pub(super) fn knows(io: &Io<'_>, resource: ResourceId, ip: IpAddr) -> bool {
    io.desk.vouch(resource, &Host::Ip(ip.to_canonical()), 0) == Vouch::Known
}

fn effect(request: &Message<'_>) -> Effect {
    match request.method() {
        Method::Bye => Effect::Ends,
        Method::Invite | Method::Update => Effect::Refreshes,
        Method::Prack => Effect::Passes,
        _ => Effect::Touches,
    }
}
