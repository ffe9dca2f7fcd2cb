//! A caller that hears nothing from one node asks again, at another one or at the same: the same INVITE in a new
//! transaction, while the first one lives. It is one call, and only one resource may be asked (`sip.retried-invite`).

use crate::base::{Flow, InviteId};
use crate::session::change::Answer;
use crate::sip::reply::write_vias;
use crate::sip::{Host, Index, Message, Method};
use crate::transaction::ServerMachine;
use crate::transaction::invite_server::InviteServer;

use super::context::{Role, retry_key};
use super::forward::write_response;
use super::initial::{NOBODY, trying};
use super::reject::Reject;
use super::shadow::{Shadow, Stage};
use super::view::Retried;
use super::{Io, Proxy};

impl Proxy {
    /// Whether an INVITE repeats one that lives, and needs no resource of its own.
    pub(super) fn retried(
        &mut self,
        io: &mut Io<'_>,
        request: &Message<'_>,
        (flow, upstream): (Flow, Flow),
        key: u128,
        service: Option<&'static str>,
    ) -> bool {
        let Some(id) = self.first_of(request, service) else { return false };
        self.stats.retried_invites += 1;
        match self.view.config.retried {
            Retried::Join => self.join(io, id, request, (flow, upstream), key),
            Retried::Reject => self.refuse(io, request, flow, upstream, key, &Reject::Merged),
            Retried::Replace => {
                self.contexts[id as usize].cancelled = true;
                self.note(id);
                self.cancel_all(io, id);
                return false;
            }
        }
        true
    }

    /// The response context of the INVITE that this one repeats, while nobody has answered that.
    fn first_of(&self, request: &Message<'_>, service: Option<&'static str>) -> Option<u32> {
        let retry = self.retry_key(request)?;
        let same = |id: &u32| {
            let context = &self.contexts[*id as usize];
            let Role::Initial { service: first, .. } = context.role else { return false };
            context.retry == retry && first == service && context.is_ringing() && !context.cancelled
        };
        self.by_retry.find(retry, same).copied()
    }

    /// An INVITE of another node, without a final answer yet, that this one repeats.
    pub(super) fn first_elsewhere(&self, request: &Message<'_>) -> Option<&Shadow> {
        if !self.view.shared || self.shadows.len() == 0 {
            return None;
        }
        let shadow = self.shadows.find_by_retry(self.retry_key(request)?)?;
        (shadow.owner != self.view.node && shadow.stage == Stage::Live).then_some(shadow)
    }

    /// What an INVITE and its repetition in another transaction have in common. `None`: it has passed through us before
    /// and comes back (a spiral, §6), which is another call; or it says too little.
    fn retry_key(&self, request: &Message<'_>) -> Option<u64> {
        let ours = |host: Host<'_>, port| match host {
            Host::Ip(ip) => self.view.identities.recognise(None, ip, port).is_some(),
            Host::Name(_) => false,
        };
        let spiral = request.vias().skip(1).flatten().any(|via| ours(via.host, via.port_or_default()));
        if spiral { None } else { retry_key(&self.view.keys, request) }
    }

    /// The new transaction is the one that is answered from now on: with what the caller was told last, and with all that
    /// comes. The old one ends (§8.2.2.2).
    fn join(&mut self, io: &mut Io<'_>, id: u32, request: &Message<'_>, (flow, upstream): (Flow, Flow), key: u128) {
        self.dispel(io.now, id);
        let told = self.let_go(io, id);
        let machine = ServerMachine::Invite(InviteServer::start(flow.transport.reliable()));
        let server = self.transactions.open_server(key, machine, upstream, id);
        let joined = self.pool.keep(request.bytes());
        let context = &mut self.contexts[id as usize];
        context.server = Some(server);
        (context.source, context.upstream) = (flow, upstream);
        let before = context.joined.replace(joined);
        before.into_iter().for_each(|kept| self.pool.give_back(kept));
        // Its caller stops repeating it once it hears of us: the peer must know before whom to answer.
        let recorded = self.record_setup(io, id, None, Answer::None);
        let from = io.out.transmits.len();
        let mut index = Index::new();
        match told {
            Some(told) if index.parse(&told).is_ok() => self.forward_provisional(io, id, &index.message(&told)),
            _ => trying(io, request, flow, upstream),
        }
        io.hold_since(from, recorded);
    }

    /// Ends the server transaction of a context that another one takes the place of; the last provisional that it sent.
    fn let_go(&mut self, io: &mut Io<'_>, id: u32) -> Option<Vec<u8>> {
        let source = self.contexts[id as usize].source;
        let server = self.contexts[id as usize].server.take()?;
        let told = self.transactions.server_mut(server).last.take();
        let octets = told.as_deref().map(<[u8]>::to_vec);
        told.into_iter().for_each(|kept| self.pool.give_back(kept));
        self.with_request(id, |proxy, first| {
            proxy.with_joined(id, |proxy, joined| {
                let (now, timing) = (io.now, proxy.transactions.timing);
                let upstream = proxy.transactions.server(server).upstream;
                let start = io.out.arena.len();
                let request = joined.unwrap_or(first);
                io.send(upstream, |bytes| proxy.write_reject(request, source, &Reject::Merged, bytes));
                proxy.stats.responses_generated += 1;
                let last = proxy.pool.keep(&io.out.arena[start..]);
                let transaction = proxy.transactions.server_mut(server);
                (transaction.owner, transaction.last) = (NOBODY, Some(last));
                if let ServerMachine::Invite(machine) = &mut transaction.machine {
                    machine.on_send(now, &timing, 482);
                }
                proxy.transactions.arm_server(server);
            });
        });
        octets
    }

    /// Lends the INVITE that is answered instead of the first one of a context, if there is one.
    pub(super) fn with_joined<R>(&mut self, id: u32, f: impl FnOnce(&mut Self, Option<&Message<'_>>) -> R) -> R {
        let Some(kept) = self.contexts[id as usize].joined.take() else { return f(self, None) };
        let mut index = Index::new();
        let joined = index.parse(&kept).is_ok().then(|| index.message(&kept));
        let result = f(self, joined.as_ref());
        match self.contexts.get_mut(id as usize) {
            Some(context) => context.joined = Some(kept),
            None => self.pool.give_back(kept),
        }
        result
    }

    /// Sends a response on to the sender of the request of a context: with the Vias that its resource was shown, or those
    /// of the INVITE that is answered instead.
    pub(super) fn send_upstream(&mut self, io: &mut Io<'_>, id: u32, response: &Message<'_>) {
        let context = &self.contexts[id as usize];
        let (source, upstream) = (context.source, context.upstream);
        let mut scratch = self.scratch.take().unwrap_or_default();
        self.with_joined(id, |proxy, joined| {
            scratch.octets.clear();
            joined.into_iter().for_each(|joined| write_vias(joined, source.remote, &mut scratch.octets));
            let vias = joined.map(|_| &*scratch.octets);
            io.send(upstream, |bytes| {
                write_response(response, vias, &proxy.view, &mut scratch.edits, bytes);
                true
            });
        });
        self.scratch = Some(scratch);
    }

    /// Another transaction of its caller takes the place of the first.
    pub(super) fn join_shadow(&mut self, invite: InviteId, joined: &[u8]) {
        if joined.is_empty() {
            return;
        }
        if let Some((key, _)) = self.server_key(joined) {
            let before = self.shadows.join(invite, key, self.pool.keep(joined));
            before.into_iter().for_each(|kept| self.pool.give_back(kept));
        }
    }

    /// The key under which an INVITE's server transaction would be found here, and what its repetition in another one has
    /// in common with it.
    pub(super) fn server_key(&mut self, request: &[u8]) -> Option<(u128, u64)> {
        let mut index = self.spare.take().unwrap_or_default();
        let sound = index.parse(request).is_ok();
        let keys = sound.then(|| {
            let message = index.message(request);
            let retry = retry_key(&self.view.keys, &message).unwrap_or_default();
            (self.transactions.key(&message, Method::Invite), retry)
        });
        self.spare = Some(index);
        keys
    }

    /// A context goes: nothing repeats its INVITE any more.
    pub(super) fn forget_retries(&mut self, id: u32, retry: u64) {
        if let Ok(entry) = self.by_retry.find_entry(retry, |other| *other == id) {
            entry.remove();
        }
    }

    /// A context has come whose INVITE may be repeated.
    pub(super) fn await_retries(&mut self, id: u32) {
        let contexts = &self.contexts;
        // A fingerprint needs no hash.
        self.by_retry.insert_unique(contexts[id as usize].retry, id, |other| contexts[*other as usize].retry);
    }
}
