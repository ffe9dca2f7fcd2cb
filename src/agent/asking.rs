//! The INVITE of a call, and the same one again in a new transaction.

use std::net::SocketAddr;

use super::caller::{Caller, Config};
use super::heard::ClientId;
use super::script::Plan;
use super::wire::{Request, sdp};
use crate::base::Time;
use crate::out::Out;
use crate::sip::{Message, Method};

impl Caller {
    /// Sends the INVITE of a call in a transaction of its own.
    pub(super) fn invite(
        &mut self,
        now: Time,
        number: u64,
        plan: &Plan,
        (call_id, tag): (&str, &str),
        node: SocketAddr,
        out: &mut Out,
    ) -> ClientId {
        let Config { name, addr, node: first, transport, .. } = &self.config;
        let hang_up = plan.hang_up_after.map(|d| format!(";hang-up={}", d.as_millis())).unwrap_or_default();
        let uri = |node: &SocketAddr| format!("sip:{}@{node}{}{hang_up}", plan.user, plan.params);
        let flow = self.endpoint.flow_to(*transport, node);
        let (branch, text) = self.endpoint.branch();
        let mut bytes = Vec::new();
        Request {
            method: "INVITE",
            uri: uri(&node).as_bytes(),
            flow,
            branch: &text,
            routes: &[],
            from: format!("<sip:{name}@{addr}>;tag={tag}").as_bytes(),
            to: format!("<{}>", uri(first)).as_bytes(),
            call_id: call_id.as_bytes(),
            cseq: 1,
            extra: &format!("{}{}", self.contact(), plan.extra),
            body: &sdp(*addr, number),
        }
        .write(&mut bytes);
        self.endpoint.request(now, number, branch, flow, bytes, out)
    }

    /// The INVITE again in a new transaction, which is the one that counts from now on.
    pub(super) fn ask_again(&mut self, now: Time, number: u64, out: &mut Out) {
        let Some(call) = self.calls.get(&number) else { return };
        let (plan, call_id, tag) = (call.plan.clone(), call.call_id.clone(), call.tag.clone());
        self.endpoint.hush(call.invite);
        let node = self.config.backup.unwrap_or(self.config.node);
        let invite = self.invite(now, number, &plan, (&call_id, &tag), node, out);
        if let Some(call) = self.calls.get_mut(&number) {
            // §9.1: a CANCEL waits for a provisional of the transaction that it ends.
            (call.invite, call.provisional) = (invite, false);
            (call.ask_again, call.due) = (Time::NEVER, call.give_up);
            self.timers.insert((call.due, number));
        }
    }

    /// Whether a response belongs to an INVITE that was asked again since: only its 2xx counts.
    pub(super) fn is_left(&self, number: u64, id: ClientId, message: &Message<'_>) -> bool {
        let of_invite = matches!(message.cseq().method, Method::Invite) && message.cseq().number == 1;
        let accepted = message.status().is_some_and(|status| (200..300).contains(&status));
        of_invite && !accepted && self.calls.get(&number).is_some_and(|call| call.invite != id)
    }
}
