//! Recorded sends wait for whoever must know their record first. Without a peer there is nobody to wait for.

use crate::base::{Seq, Time};
use crate::out::Out;
use crate::proxy::Gate;
use crate::session::change::Change;

/// The gate of one shard: always open while there is no peer.
#[derive(Debug, Default)]
pub struct OpenGate {
    last: Seq,
}

impl OpenGate {
    /// Changes recorded so far.
    pub fn recorded(&self) -> Seq {
        self.last
    }
}

impl Gate for OpenGate {
    fn record(&mut self, _now: Time, _change: &Change<'_>, _out: &mut Out, _from: usize) {
        self.last.0 += 1;
    }
}
