//! What the agents' transactions are named by, and what a message was to them.

use std::time::Duration;

use crate::base::Flow;
use crate::out::Out;
use crate::sip::{Message, Method};

/// T1, T2 and T4 (RFC 3261 table 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Round-trip estimate.
    pub t1: Duration,
    /// Longest interval of non-INVITE requests and INVITE responses.
    pub t2: Duration,
    /// Longest life of a message in the network.
    pub t4: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

impl Timing {
    /// 64·T1: timers B, D, F, H, J, L and M.
    pub fn patience(&self) -> Duration {
        self.t1 * 64
    }
}

/// A client transaction: the number in its branch; a CANCEL shares the branch of its INVITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId {
    /// Number in the branch.
    pub branch: u64,
    /// Whether it is the CANCEL.
    pub cancel: bool,
}

/// A server transaction: branch, sent-by and method of its request (RFC 3261 §17.2.3).
pub type ServerKey = Vec<u8>;

/// A request that waits for its answer.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Its transaction.
    pub key: &'a ServerKey,
    /// What it says.
    pub message: &'a Message<'a>,
    /// How it came.
    pub flow: Flow,
}

/// What a message was, after the transactions had their part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A repetition, or the ACK to a non-2xx final: nothing more to do.
    Absorbed,
    /// A new request. Its transaction waits for `Endpoint::respond`.
    Request(ServerKey),
    /// The ACK to a 2xx.
    Ack,
    /// A response to a transaction of `owner`.
    Response {
        /// Which transaction.
        id: ClientId,
        /// Who sent the request.
        owner: u64,
    },
    /// A response without a transaction.
    Stray,
}

/// The key of the transaction that `message` belongs to, as `method` (RFC 3261 §17.2.3: ACK matches its INVITE; a CANCEL
/// looks for its INVITE by the same branch, §9.2).
pub fn server_key(message: &Message<'_>, method: Method<'_>) -> ServerKey {
    let method = if matches!(method, Method::Ack) { Method::Invite } else { method };
    let via = message.via();
    [via.branch.unwrap_or_default(), b" ", via.sent_by, b" ", method.as_bytes()].concat()
}

/// Sends `bytes` as they are.
pub fn transmit(out: &mut Out, flow: Flow, bytes: &[u8]) {
    out.send(flow, |arena| {
        arena.extend_from_slice(bytes);
        true
    });
}

/// What others did wrong, in words; a bounded list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations(Vec<String>);

impl Violations {
    /// More are only noise.
    const MOST: usize = 32;

    /// Notes one.
    pub fn push(&mut self, text: String) {
        if self.0.len() < Self::MOST {
            self.0.push(text);
        }
    }

    /// All that were noted.
    pub fn all(&self) -> &[String] {
        &self.0
    }
}
