//! What a node and `tandem witness` tell each other: one datagram each way, sealed with the secret of the cluster.
//!
//! | octets | what |
//! |---|---|
//! | 2 | `TW` |
//! | 1 | version |
//! | 1 | id of the key of the MAC |
//! | 1 | 1: a question, 2: its answer |
//! | 2, 8 | which node asks; the number of its question, which grows, in network order |
//! | 1 | a question: bit 0 the lease is wanted, bits 1 and 2 the note. An answer: bit 0 it is held, 1 noted alone, 2 the other went alone |
//! | 2 | an answer: who holds the lease, 0 for nobody |
//! | 4 | an answer: how long a lease lasts, ms |
//! | 1, … | octets of the name of the cluster, and the name |
//! | 16 | MAC over all of the above |

use std::time::Duration;

use crate::base::NodeId;
use crate::cluster::{Ask, Note, Reply};
use crate::token::{self, Keys, TAG};

const MAGIC: [u8; 2] = *b"TW";
const VERSION: u8 = 1;
const HEAD: usize = 23;
/// Octets of the name of a cluster.
const NAME: usize = 64;
/// Octets of the longest datagram.
pub(super) const LONGEST: usize = HEAD + NAME + TAG;

/// A question of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub cluster: String,
    pub node: NodeId,
    pub serial: u64,
    pub ask: Ask,
}

/// What a datagram says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Question(Question),
    /// To which question, what, and how long a lease lasts.
    Answer(u64, Reply, Duration),
}

/// Writes a question.
pub(super) fn question(keys: &Keys, question: &Question) -> Vec<u8> {
    let note = match question.ask.note {
        Note::Keep => 0,
        Note::Shared => 1,
        Note::Alone => 2,
    };
    seal(keys, 1, question, u8::from(question.ask.hold) | note << 1, 0, 0)
}

/// Writes the answer to a question.
pub(super) fn answer(keys: &Keys, to: &Question, reply: &Reply, lease: Duration) -> Vec<u8> {
    let flags = u8::from(reply.held) | u8::from(reply.alone) << 1 | u8::from(reply.other_alone) << 2;
    seal(keys, 2, to, flags, reply.holder.map_or(0, |id| id.0), lease.as_millis() as u32)
}

fn seal(keys: &Keys, kind: u8, question: &Question, flags: u8, holder: u16, lease: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(LONGEST);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, keys.id(), kind]);
    out.extend_from_slice(&question.node.0.to_be_bytes());
    out.extend_from_slice(&question.serial.to_be_bytes());
    out.push(flags);
    out.extend_from_slice(&holder.to_be_bytes());
    out.extend_from_slice(&lease.to_be_bytes());
    out.push(question.cluster.len() as u8);
    out.extend_from_slice(question.cluster.as_bytes());
    let tag = keys.link_tag(keys.id(), &[b"witness", &out]).unwrap_or_default();
    out.extend_from_slice(&tag);
    out
}

/// Reads a datagram that `keys` sealed; `None` for anything else.
pub(super) fn read(keys: &Keys, datagram: &[u8]) -> Option<(String, NodeId, Frame)> {
    let (sealed, tag) = datagram.split_last_chunk::<TAG>()?;
    let (head, name) = sealed.split_first_chunk::<HEAD>()?;
    let [m0, m1, version, key, kind, n0, n1, serial @ .., flags, h0, h1, l0, l1, l2, l3, length] = *head;
    let shaped = [m0, m1] == MAGIC && version == VERSION && usize::from(length) == name.len() && name.len() <= NAME;
    if !shaped || !keys.link_tag(key, &[b"witness", sealed]).is_some_and(|expected| token::same(&expected, tag)) {
        return None;
    }
    let cluster = std::str::from_utf8(name).ok()?.to_owned();
    let (node, serial) = (NodeId(u16::from_be_bytes([n0, n1])), u64::from_be_bytes(serial));
    let bit = |n: u8| flags >> n & 1 == 1;
    let frame = match kind {
        1 => {
            let note = match flags >> 1 & 3 {
                0 => Note::Keep,
                1 => Note::Shared,
                2 => Note::Alone,
                _ => return None,
            };
            let ask = Ask { hold: bit(0), note };
            Frame::Question(Question { cluster: cluster.clone(), node, serial, ask })
        }
        2 => {
            let holder = Some(NodeId(u16::from_be_bytes([h0, h1]))).filter(|id| id.0 != 0);
            let reply = Reply { held: bit(0), alone: bit(1), other_alone: bit(2), holder };
            Frame::Answer(serial, reply, Duration::from_millis(u32::from_be_bytes([l0, l1, l2, l3]).into()))
        }
        _ => return None,
    };
    Some((cluster, node, frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(hold: bool, note: Note) -> Question {
        Question { cluster: "c".repeat(NAME), node: NodeId(0x0102), serial: 1 << 40, ask: Ask { hold, note } }
    }

    #[test]
    fn what_is_written_is_read() {
        let keys = Keys::new("x", &[b"a secret of sixteen"]).unwrap();
        for note in [Note::Keep, Note::Shared, Note::Alone] {
            let asked = asked(note == Note::Alone, note);
            let datagram = question(&keys, &asked);
            assert_eq!(datagram.len(), LONGEST);
            let said = (asked.cluster.clone(), asked.node, Frame::Question(asked.clone()));
            assert_eq!(read(&keys, &datagram), Some(said));
        }
        for n in 0..8 {
            let holder = Some(NodeId(9)).filter(|_| n > 3);
            let reply = Reply { held: n & 1 == 1, alone: n & 2 == 2, other_alone: n & 4 == 4, holder };
            let asked = asked(true, Note::Keep);
            let datagram = answer(&keys, &asked, &reply, Duration::from_secs(3));
            let frame = Frame::Answer(asked.serial, reply, Duration::from_secs(3));
            assert_eq!(read(&keys, &datagram), Some((asked.cluster, asked.node, frame)));
        }
    }

    #[test]
    fn what_no_secret_of_this_cluster_sealed_is_nothing() {
        let keys = Keys::new("x", &[b"a secret of sixteen"]).unwrap();
        let datagram = question(&keys, &asked(true, Note::Shared));
        for bit in 0..datagram.len() * 8 {
            let mut damaged = datagram.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&keys, &damaged), None, "bit {bit}");
        }
        assert!((0..datagram.len()).all(|cut| read(&keys, &datagram[..cut]).is_none()));
        assert_eq!(read(&Keys::new("x", &[b"another secret of it"]).unwrap(), &datagram), None);
    }
}
