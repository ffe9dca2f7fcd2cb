//! What one call into the proxy may use of the world.

use std::ops::Range;

use crate::balance::Desk;
use crate::base::{Flow, Seq, Time, Version};
use crate::out::Out;
use crate::session::change::Change;

/// Writes changes down for the peer, and decides when a message leaves whose record the peer must have first.
pub trait Gate {
    /// Whether somebody reads what is recorded; if not, [`Gate::skip`] will do.
    fn is_recording(&self) -> bool;
    /// Whether the peer holds everything that was recorded before, or will before the next record: what it was told
    /// once need not be told again.
    fn is_synced(&self) -> bool;
    /// Writes a change down.
    fn record(&mut self, change: &Change<'_>) -> Version;
    /// A change that nobody reads: its version all the same.
    fn skip(&mut self) -> Version;
    /// `out.transmits[sends]` leave only when the peer holds everything up to `seq`. An open gate lets them go at once.
    fn hold(&mut self, now: Time, out: &mut Out, sends: Range<usize>, seq: Seq);
    /// Whether messages that wait for `seq` have not left yet.
    fn is_held(&self, seq: Seq) -> bool;
    /// Messages that wait for `seq` never leave. `false`: they have left already.
    fn retract(&mut self, seq: Seq) -> bool;
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
    /// What is handled came in at the peer, which has passed it on.
    pub relayed: bool,
}

impl Io<'_> {
    /// Sends what `write` appends to the arena.
    pub fn send(&mut self, flow: Flow, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        self.out.send(flow, write)
    }

    /// What was put out since `from` leaves only when everything up to `seq` is safe.
    pub fn hold_since(&mut self, from: usize, seq: Seq) {
        let sends = from..self.out.transmits.len();
        self.gate.hold(self.now, self.out, sends, seq);
    }
}
