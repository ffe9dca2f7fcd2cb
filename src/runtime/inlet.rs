//! Where transports put what they received.
#![forbid(unsafe_code)]

use crate::base::Flow;
use crate::node::Input;

/// The driver, as streams and the resolver see it.
pub trait Inlet: Send + Sync {
    /// Has the node handle one input and sends what comes of it. Never panics, never waits for the network.
    fn input(&self, input: Input<'_>);
    /// Whether what comes on this flow must wait unread: a stream's messages are not repeated, so none may be lost between
    /// two nodes that are about to settle which of them handles it. Soon decided.
    fn undecided(&self, flow: &Flow) -> bool;
    /// Sends one message, now that its next hop, `name`, has an address. What cannot be sent comes back as
    /// [`Input::Undelivered`].
    fn deliver(&self, flow: Flow, name: Option<&[u8]>, bytes: &[u8]);
}
