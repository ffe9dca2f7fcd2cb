//! What an operator must know of the witness.

use std::fmt;

/// What changed with the witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WitnessNews {
    /// It does not answer.
    Silent,
    /// It answers, for the first time or again.
    Answers,
    /// This node takes no new calls: its peer is silent and the lease is not its own.
    Refuses,
    /// It takes new calls again.
    Admits,
}

impl fmt::Display for WitnessNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WitnessNews::Silent => {
                "the witness does not answer: if the peer falls silent now, no new calls are taken; see cluster.witness, \
                 its host and the network"
            }
            WitnessNews::Answers => "the witness answers",
            WitnessNews::Refuses => {
                "no new calls are taken: the peer is silent and this node does not hold the lease of the witness \
                 (cluster.partition is witness); mend the network or the witness, start the peer, or stop it and run \
                 tandem peer declare-dead"
            }
            WitnessNews::Admits => {
                "new calls are taken again: the peer is heard, is dead, or this node holds the lease of the witness"
            }
        })
    }
}
