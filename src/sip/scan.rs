//! Byte classes, spans, reasons of refusal.

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Malformed {
    /// Placeholder.
    StartLine,
}
