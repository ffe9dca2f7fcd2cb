//! What a failure would cost.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// What nobody could carry on if a node failed at this moment. Without a peer that is everything it holds; with a peer
/// that holds everything it is next to nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Calls being set up: lost for good.
    pub ringing: u64,
    /// Answered calls: their media go on, their signalling is routed from its tokens by whoever has the address.
    pub answered: u64,
}
