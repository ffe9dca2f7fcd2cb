//! What a beat travels in: a datagram that says from which node, which of its processes and over which path it comes,
//! and a MAC that makes it so. That it is not an old one, its reader sees from the counters inside.
//!
//! | octets | what |
//! |---|---|
//! | 2 | `TB` |
//! | 1 | version |
//! | 1 | id of the key of the MAC |
//! | 2, 2 | from which node, to which node, in network order |
//! | 8 | incarnation of the sender |
//! | 1 | path |
//! | … | the beat, at most [`limits::BEAT`] octets |
//! | 16 | MAC over all of the above |

use crate::base::{NodeId, PathId, limits};
use crate::token::{self, Keys, TAG};

/// Octets around a beat.
pub const OVERHEAD: usize = HEAD + TAG;

const HEAD: usize = 17;
const MAGIC: [u8; 2] = *b"TB";
const VERSION: u8 = 1;

/// Where a datagram belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The node that sends it.
    pub from: NodeId,
    /// The node that it is for.
    pub to: NodeId,
    /// The process that sends it: random per start.
    pub incarnation: u64,
    /// The path that it takes.
    pub path: PathId,
}

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBeat {
    /// Too short, too long, or something else.
    Garbage,
    /// Another version.
    Version,
    /// Not sealed with a secret of this cluster.
    WrongSecret,
    /// For another node, or sent back to the process that sent it.
    NotForMe,
}

impl BadBeat {
    /// All reasons, in the order of their counters.
    pub const ALL: [BadBeat; 4] = [BadBeat::Garbage, BadBeat::Version, BadBeat::WrongSecret, BadBeat::NotForMe];

    /// The label of its metric.
    pub const fn name(self) -> &'static str {
        match self {
            BadBeat::Garbage => "garbage",
            BadBeat::Version => "version",
            BadBeat::WrongSecret => "wrong_secret",
            BadBeat::NotForMe => "not_for_me",
        }
    }
}

/// Writes `beat` in its envelope into `to`, which is emptied first. A beat above [`limits::BEAT`] octets is not
/// written, and the answer is `false`.
pub fn seal(keys: &Keys, address: &Address, beat: &[u8], to: &mut Vec<u8>) -> bool {
    to.clear();
    if beat.len() > limits::BEAT {
        return false;
    }
    to.extend_from_slice(&MAGIC);
    to.extend_from_slice(&[VERSION, keys.id()]);
    to.extend_from_slice(&address.from.0.to_be_bytes());
    to.extend_from_slice(&address.to.0.to_be_bytes());
    to.extend_from_slice(&address.incarnation.to_be_bytes());
    to.push(address.path.0);
    to.extend_from_slice(beat);
    let tag = keys.link_tag(keys.id(), &[b"beat", to]).unwrap_or_default();
    to.extend_from_slice(&tag);
    true
}

/// Takes a beat for node `own`, in its process `incarnation`, out of its envelope. Beats of another process that calls
/// itself `own` come through, too, whomever they are for: the cluster must know of it.
pub fn open<'a>(
    keys: &Keys,
    own: NodeId,
    incarnation: u64,
    datagram: &'a [u8],
) -> Result<(Address, &'a [u8]), BadBeat> {
    if datagram.len() > OVERHEAD + limits::BEAT {
        return Err(BadBeat::Garbage);
    }
    let (sealed, tag) = datagram.split_last_chunk::<TAG>().ok_or(BadBeat::Garbage)?;
    let (head, beat) = sealed.split_first_chunk::<HEAD>().ok_or(BadBeat::Garbage)?;
    let [m0, m1, version, key, f0, f1, t0, t1, process @ .., path] = *head;
    if [m0, m1] != MAGIC {
        return Err(BadBeat::Garbage);
    }
    if version != VERSION {
        return Err(BadBeat::Version);
    }
    let expected = keys.link_tag(key, &[b"beat", sealed]);
    if !expected.is_some_and(|expected| token::same(&expected, tag)) {
        return Err(BadBeat::WrongSecret);
    }
    let address = Address {
        from: NodeId(u16::from_be_bytes([f0, f1])),
        to: NodeId(u16::from_be_bytes([t0, t1])),
        incarnation: u64::from_be_bytes(process),
        path: PathId(path),
    };
    let for_me = if address.from == own { address.incarnation != incarnation } else { address.to == own };
    if !for_me {
        return Err(BadBeat::NotForMe);
    }
    Ok((address, beat))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Address = Address { from: NodeId(1), to: NodeId(2), incarnation: 77, path: PathId(1) };

    fn keys(secrets: &[&[u8]]) -> Keys {
        Keys::new("c", secrets).unwrap()
    }

    #[test]
    fn a_beat_arrives_with_its_address() {
        let (old, both) = (keys(&[b"old"]), keys(&[b"new", b"old"]));
        let mut datagram = b"left over".to_vec();
        for beat in [&b""[..], b"beat", &[7; limits::BEAT]] {
            assert!(seal(&old, &ADDRESS, beat, &mut datagram));
            assert_eq!(datagram.len(), OVERHEAD + beat.len());
            assert_eq!(open(&both, NodeId(2), 1, &datagram), Ok((ADDRESS, beat)));
        }
        assert!(!seal(&old, &ADDRESS, &[7; limits::BEAT + 1], &mut datagram) && datagram.is_empty());
    }

    #[test]
    fn what_is_not_a_beat_for_this_node_is_dropped_with_a_reason() {
        let keys = keys(&[b"s"]);
        let mut datagram = Vec::new();
        seal(&keys, &ADDRESS, b"beat", &mut datagram);
        assert_eq!(open(&keys, NodeId(1), 77, &datagram), Err(BadBeat::NotForMe), "sent back to its sender");
        assert_eq!(open(&keys, NodeId(1), 78, &datagram), Ok((ADDRESS, &b"beat"[..])), "two nodes with one id");
        assert_eq!(open(&keys, NodeId(3), 1, &datagram), Err(BadBeat::NotForMe));
        assert_eq!(open(&self::keys(&[b"t"]), NodeId(2), 1, &datagram), Err(BadBeat::WrongSecret));
        for bit in 0..datagram.len() * 8 {
            let mut damaged = datagram.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let reason = match bit / 8 {
                0 | 1 => BadBeat::Garbage,
                2 => BadBeat::Version,
                _ => BadBeat::WrongSecret,
            };
            assert_eq!(open(&keys, NodeId(2), 1, &damaged), Err(reason), "bit {bit}");
        }
        for cut in 0..datagram.len() {
            assert!(open(&keys, NodeId(2), 1, &datagram[..cut]).is_err());
        }
        assert_eq!(open(&keys, NodeId(2), 1, &[b'T'; 2_000]), Err(BadBeat::Garbage));
    }
}
