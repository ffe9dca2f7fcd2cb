//! What the hub tells the shards.

use std::time::Duration;

use crate::base::{Epoch, Host, NodeId, Time};
use crate::identity::{Identities, IdentityId};
use crate::sip::Uri;
use crate::token::Keys;

/// How calls are handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// T1, default 500 ms (RFC 3261 §17.1.1.1).
    pub t1: Duration,
    /// T2, default 4 s.
    pub t2: Duration,
    /// T4, default 5 s.
    pub t4: Duration,
    /// Timer C, default 181 s: more than three minutes (RFC 3261 §16.6 item 11).
    pub timer_c: Duration,
    /// A leg without any message for this long is ended: default 2 h.
    pub inactivity: Duration,
    /// `Server` header value of responses of our own; empty: none.
    pub server: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            timer_c: Duration::from_secs(181),
            inactivity: Duration::from_secs(7_200),
            server: String::from("Tandem"),
        }
    }
}

/// What the hub tells the shards; immutable, replaced as a whole.
#[derive(Clone, Debug)]
pub struct View {
    /// Whether new calls are taken.
    pub serving: bool,
    /// This node.
    pub node: NodeId,
    /// The present epoch.
    pub epoch: Epoch,
    /// Our addresses.
    pub identities: Identities,
    /// Keys of branches and tokens.
    pub keys: Keys,
    /// How calls are handled.
    pub config: Config,
    /// When this node began to serve in its epoch.
    pub since: Time,
}

/// The identity of ours that a URI names.
pub(super) fn own_identity(identities: &Identities, uri: &Uri<'_>) -> Option<IdentityId> {
    match uri.host {
        Host::Ip(ip) => identities.recognise(uri.transport(), ip, uri.port_or_default()),
        Host::Name(_) => None,
    }
}
