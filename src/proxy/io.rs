//! What one call into the proxy may use of the world.

use crate::balance::Desk;
use crate::base::{Flow, Time};
use crate::out::Out;
use crate::session::change::Change;

/// Decides when a message leaves whose record somebody else must have first.
pub trait Gate {
    /// `out.transmits[from..]` depend on `change`. An open gate lets them go at once.
    fn record(&mut self, now: Time, change: &Change<'_>, out: &mut Out, from: usize);
}

/// What one call into the proxy may use of the world.
pub struct Io<'a> {
    /// The time of this batch.
    pub now: Time,
    /// Where outputs go.
    pub out: &'a mut Out,
    /// The farm.
    pub desk: &'a dyn Desk,
    /// Holds recorded sends.
    pub gate: &'a mut dyn Gate,
}

impl Io<'_> {
    /// Sends what `write` appends to the arena.
    pub fn send(&mut self, flow: Flow, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        self.out.send(flow, write)
    }

    /// What `transmit` puts out leaves only when `change` is safe.
    pub fn send_recorded(&mut self, change: &Change<'_>, transmit: impl FnOnce(&mut Self)) {
        let from = self.out.transmits.len();
        transmit(self);
        self.gate.record(self.now, change, self.out, from);
    }
}
