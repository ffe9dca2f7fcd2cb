//! Who keeps the addresses of a pair.
#![forbid(unsafe_code)]

use crate::runtime::vip::Vip;

/// Who keeps the addresses of a pair.
pub struct Keepers {
    /// Those that are at this node while it serves.
    pub own: Vip,
    /// Where each node has addresses of its own: those of the peer.
    pub guest: Option<Vip>,
    /// And those that are with who is active.
    pub lead: Option<Vip>,
}
