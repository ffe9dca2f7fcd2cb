//! One of a pair: what the cluster wants is done, what it must know is told. The heartbeat thread drives it; the thread
//! that reads the links, the guard's events and operators' commands come in beside it, one at a time.

mod fitness;
mod facts;
mod turns;
mod alike;
mod cards;
mod keepers;
mod machine;
mod wishes;
mod view;
mod compare;
mod watch;
mod callers;

pub use facts::PairView;
pub use keepers::Keepers;
pub use machine::{Pair, RESERVE};
pub use turns::Turns;
