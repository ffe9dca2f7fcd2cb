//! What every witness can do, whatever it is.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::base::NodeId;
use crate::cluster::{Ask, Word};

/// A third party that gives a lease to one node of a pair at a time: ours, etcd, or what else can do that.
pub trait Witness: Send {
    /// Asks once and waits for at most `within`. A lease in the answer is counted from before it was asked for.
    ///
    /// # Errors
    ///
    /// Why there is no answer. Nothing is known then of what became of the question.
    fn ask(&mut self, ask: Ask, within: Duration) -> Result<Word, Silence>;
}

/// Why a witness gave no answer.
#[derive(Debug)]
pub enum Silence {
    /// Its name has no address, or the network does not carry to it.
    Network(io::Error),
    /// Nothing came in time: it does not run, does not know the secret, or a filter is between.
    Late,
    /// Something answers that is no witness, or does not do what was asked.
    Odd(String),
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Silence::Network(e) => write!(f, "{e}"),
            Silence::Late => f.write_str("no answer in time: does it run, with the secret of this cluster?"),
            Silence::Odd(what) => f.write_str(what),
        }
    }
}

impl From<io::Error> for Silence {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Silence::Late,
            _ => Silence::Network(e),
        }
    }
}

/// Who asks, of which pair.
#[derive(Clone, Debug)]
pub(super) struct Me {
    pub cluster: String,
    pub node: NodeId,
    pub others: Vec<NodeId>,
}
