//! A sans-IO media server: a UAS that answers calls as its [`Behaviour`] says, soundly or not.

mod machine;
mod inside;
mod held;

pub use super::incoming::{Behaviour, Config, Mood, Tally};
pub use machine::MediaServer;
