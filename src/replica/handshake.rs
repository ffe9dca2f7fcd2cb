//! Opening a stream between two nodes. Whoever accepts speaks first, with 16 random octets; whoever connected answers
//! with a hello whose MAC covers them, so that a captured one is worth nothing; the answer to that covers both. From
//! then on each direction has a key of its own, which all three messages determine.
//!
//! A hello and its answer, version 1, numbers in network order:
//!
//! | octets | what |
//! |---|---|
//! | 4 | `TNDM` |
//! | 2 | octets of all of it, the MAC included; at most [`limits::HELLO`] |
//! | 1 | 1: hello, 2: answer |
//! | 1 | id of the key of the MAC |
//! | 1, 1 | lowest and highest version of frames |
//! | 1 | stream: 0 urgent, 1 bulk |
//! | 1 | verdict: 0, or the number of a [`Refusal`]; of a hello 0 |
//! | 2, 2 | from which node, to which node |
//! | 8 | incarnation of the sender |
//! | 8 | capabilities of the sender, a bitmap |
//! | 16 | hash of `cluster.name` |
//! | 16 | hash of the effective configuration |
//! | 16 | random octets |
//! | … | what later versions add; ignored |
//! | 16 | MAC over what was said so far and all of the above |

use std::fmt;

use super::frame::{self, Decoder, Sealer};
use super::kind::Stream;
use crate::base::{NodeId, limits};
use crate::token::{self, Keys, TAG};

/// Octets of a [`Nonce`].
pub const NONCE: usize = 16;

/// Random octets that are used once. The accepting side sends its own as they are.
pub type Nonce = [u8; NONCE];

/// Octets from which [`length`] tells how long a hello or an answer is.
pub const PREFIX: usize = 6;

/// Octets of a hello of version 1, without its MAC.
const BODY: usize = 80;

const MAGIC: [u8; 4] = *b"TNDM";

/// What this node says of itself, and whom it knows.
#[derive(Clone, Debug)]
pub struct Local {
    /// `cluster.mymemberid`.
    pub node: NodeId,
    /// Random per process start.
    pub incarnation: u64,
    /// [`cluster_hash`] of `cluster.name`.
    pub cluster: [u8; 16],
    /// Hash of the effective configuration; all zero if there is none to compare.
    pub config: [u8; 16],
    /// A bitmap; both sides use what both have.
    pub capabilities: u64,
    /// Lowest and highest version of frames.
    pub versions: (u8, u8),
    /// Every member of the cluster.
    pub members: Vec<NodeId>,
}

/// The versions of frames that this build speaks.
pub const VERSIONS: (u8, u8) = (frame::VERSION, frame::VERSION);

/// What stands for a cluster's name in a hello.
pub fn cluster_hash(name: &str) -> [u8; 16] {
    let hash = blake3::derive_key("tandem 1 cluster name", name.as_bytes());
    let (words, _) = hash.as_chunks::<16>();
    words[0]
}

/// A stream that both sides agree upon.
#[derive(Debug)]
pub struct Opened {
    /// The node at the other end.
    pub peer: NodeId,
    /// Its process.
    pub incarnation: u64,
    /// Which of its streams.
    pub stream: Stream,
    /// The version of frames.
    pub version: u8,
    /// What both can do.
    pub capabilities: u64,
    /// Hash of the other side's effective configuration.
    pub config: [u8; 16],
    /// For what goes there.
    pub sealer: Sealer,
    /// For what comes from there.
    pub decoder: Decoder,
}

/// Why a stream was not opened. The number goes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// No hello, or a damaged one. Nothing is answered.
    Garbage = 1,
    /// It does not know the secret, or replays somebody who does. Nothing is answered.
    WrongSecret = 2,
    /// Its `cluster.name` is another one.
    OtherCluster = 3,
    /// It calls itself what this node is called.
    OwnId = 4,
    /// It wants another node than the one that it reached.
    WrongNode = 5,
    /// No `cluster.member.N` stands for it.
    NotAMember = 6,
    /// Its newest version is below the oldest of this side.
    TooOld = 7,
    /// Its oldest version is above the newest of this side.
    TooNew = 8,
    /// The other side refused for a reason that this version does not know.
    Unknown = 9,
}

impl Refusal {
    /// All reasons, in the order of their numbers, which begin with 1.
    pub const ALL: [Refusal; 9] = [
        Refusal::Garbage,
        Refusal::WrongSecret,
        Refusal::OtherCluster,
        Refusal::OwnId,
        Refusal::WrongNode,
        Refusal::NotAMember,
        Refusal::TooOld,
        Refusal::TooNew,
        Refusal::Unknown,
    ];

    /// The label of its metric.
    pub const fn name(self) -> &'static str {
        match self {
            Refusal::Garbage => "garbage",
            Refusal::WrongSecret => "wrong_secret",
            Refusal::OtherCluster => "other_cluster",
            Refusal::OwnId => "own_id",
            Refusal::WrongNode => "wrong_node",
            Refusal::NotAMember => "not_a_member",
            Refusal::TooOld => "too_old",
            Refusal::TooNew => "too_new",
            Refusal::Unknown => "unknown",
        }
    }

    fn of(number: u8) -> Self {
        Self::ALL.into_iter().find(|refusal| *refusal as u8 == number).unwrap_or(Refusal::Unknown)
    }
}

impl fmt::Display for Refusal {
    /// For operators: cause and cure.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Garbage => {
                "what answers there speaks another protocol; give cluster.member.N a port that nothing else uses"
            }
            Refusal::WrongSecret => {
                "the nodes have different secrets; copy cluster.secret-file from one node to the other (while two \
                 secrets rotate, both nodes must list both before either puts the new one first)"
            }
            Refusal::OtherCluster => "the nodes have different cluster.name; write the same name on both",
            Refusal::OwnId => "both nodes have the same cluster.mymemberid; give each node its own",
            Refusal::WrongNode => {
                "the address belongs to another member than it is listed for; compare cluster.member.N on both nodes"
            }
            Refusal::NotAMember => {
                "one node is no member for the other; list every node as cluster.member.N in both configurations"
            }
            Refusal::TooOld => "the peer's version is too old for this one; upgrade the peer, one version at a time",
            Refusal::TooNew => "the peer's version is too new for this one; upgrade this node, one version at a time",
            Refusal::Unknown => "the peer refused for a reason that this version does not know; its log names it",
        })
    }
}

/// How long a hello or an answer that begins with `prefix` is.
pub fn length(prefix: [u8; PREFIX]) -> Result<usize, Refusal> {
    let [m0, m1, m2, m3, l0, l1] = prefix;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let sound = [m0, m1, m2, m3] == MAGIC && (BODY + TAG..=limits::HELLO).contains(&length);
    if sound { Ok(length) } else { Err(Refusal::Garbage) }
}

/// The side that connected, after its hello.
#[derive(Debug)]
pub struct Asked {
    challenge: Nonce,
    hello: Vec<u8>,
    peer: NodeId,
    stream: Stream,
}

/// The hello that answers the accepting side's `challenge`. `nonce`: random, used for nothing else.
pub fn hello(
    keys: &Keys,
    local: &Local,
    peer: NodeId,
    stream: Stream,
    challenge: Nonce,
    nonce: Nonce,
) -> (Vec<u8>, Asked) {
    let body = Body { what: What::Hello, key: keys.id(), stream, verdict: 0, to: peer, nonce };
    let mut hello = body.write(local);
    let tag = keys.link_tag(keys.id(), &[b"hello", &challenge, &hello]).unwrap_or_default();
    hello.extend_from_slice(&tag);
    (hello.clone(), Asked { challenge, hello, peer, stream })
}

impl Asked {
    /// Reads the answer, as long as [`length`] says.
    pub fn opened(self, keys: &Keys, local: &Local, answer: &[u8]) -> Result<Opened, Refusal> {
        let (said, body, tag) = Said::read(answer, What::Answer).ok_or(Refusal::Garbage)?;
        let expected = keys.link_tag(said.key, &[b"answer", &self.challenge, &self.hello, body]);
        if !expected.is_some_and(|expected| token::same(&expected, tag)) {
            return Err(Refusal::WrongSecret);
        }
        said.judge(local)?;
        if said.verdict != 0 {
            return Err(Refusal::of(said.verdict));
        }
        if said.from != self.peer || said.stream != self.stream {
            return Err(Refusal::WrongNode);
        }
        let (there, back) = directions(keys, said.key, &self.challenge, &self.hello, answer)?;
        Ok(said.open(local, Sealer::new(there), Decoder::new(back)))
    }
}

/// What the accepting side does with a hello, as long as [`length`] says: octets to send, if any, and the opened stream
/// or why there is none. A stranger is sent nothing. `nonce`: random, used for nothing else.
pub fn answer(
    keys: &Keys,
    local: &Local,
    challenge: Nonce,
    hello: &[u8],
    nonce: Nonce,
) -> (Option<Vec<u8>>, Result<Opened, Refusal>) {
    let Some((said, body, tag)) = Said::read(hello, What::Hello) else { return (None, Err(Refusal::Garbage)) };
    let expected = keys.link_tag(said.key, &[b"hello", &challenge, body]);
    if !expected.is_some_and(|expected| token::same(&expected, tag)) {
        return (None, Err(Refusal::WrongSecret));
    }
    let judged = said.judge(local);
    let verdict = judged.err().map_or(0, |refusal| refusal as u8);
    let body = Body { what: What::Answer, key: said.key, stream: said.stream, verdict, to: said.from, nonce };
    let mut answer = body.write(local);
    let tag = keys.link_tag(said.key, &[b"answer", &challenge, hello, &answer]).unwrap_or_default();
    answer.extend_from_slice(&tag);
    let opened = judged.and_then(|()| {
        let (there, back) = directions(keys, said.key, &challenge, hello, &answer)?;
        Ok(said.open(local, Sealer::new(back), Decoder::new(there)))
    });
    (Some(answer), opened)
}

/// The keys of both directions: from the side that connected, and back.
fn directions(
    keys: &Keys,
    id: u8,
    challenge: &Nonce,
    hello: &[u8],
    answer: &[u8],
) -> Result<(token::SessionKey, token::SessionKey), Refusal> {
    let of = |direction: &[u8]| keys.session(id, &[direction, challenge, hello, answer]).ok_or(Refusal::WrongSecret);
    Ok((of(b"there")?, of(b"back")?))
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum What {
    Hello = 1,
    Answer = 2,
}

/// What differs between the messages that one node writes.
struct Body {
    what: What,
    key: u8,
    stream: Stream,
    verdict: u8,
    to: NodeId,
    nonce: Nonce,
}

impl Body {
    fn write(&self, local: &Local) -> Vec<u8> {
        let later: &[u8] = if cfg!(feature = "next") { b"of a later version" } else { b"" };
        let mut octets = Vec::with_capacity(BODY + later.len() + TAG);
        octets.extend_from_slice(&MAGIC);
        octets.extend_from_slice(&((BODY + later.len() + TAG) as u16).to_be_bytes());
        let (lowest, highest) = local.versions;
        octets.extend_from_slice(&[self.what as u8, self.key, lowest, highest, self.stream as u8, self.verdict]);
        octets.extend_from_slice(&local.node.0.to_be_bytes());
        octets.extend_from_slice(&self.to.0.to_be_bytes());
        octets.extend_from_slice(&local.incarnation.to_be_bytes());
        octets.extend_from_slice(&local.capabilities.to_be_bytes());
        octets.extend_from_slice(&local.cluster);
        octets.extend_from_slice(&local.config);
        octets.extend_from_slice(&self.nonce);
        octets.extend_from_slice(later);
        octets
    }
}

/// What the other side said. Believed only after its MAC.
struct Said {
    key: u8,
    versions: (u8, u8),
    stream: Stream,
    verdict: u8,
    from: NodeId,
    to: NodeId,
    incarnation: u64,
    capabilities: u64,
    cluster: [u8; 16],
    config: [u8; 16],
}

impl Said {
    /// A message of this kind, all octets before its MAC, and the MAC.
    fn read(octets: &[u8], what: What) -> Option<(Said, &[u8], &[u8; TAG])> {
        let (prefix, _) = octets.split_first_chunk::<PREFIX>()?;
        let (body, tag) = octets.split_last_chunk::<TAG>()?;
        if length(*prefix).ok()? != octets.len() {
            return None;
        }
        let (fixed, _) = body.split_first_chunk::<BODY>()?;
        let [_, _, _, _, _, _, kind, key, lowest, highest, stream, verdict, f0, f1, t0, t1, rest @ ..] = *fixed;
        let (words, _) = rest.as_chunks::<8>();
        let (halves, _) = rest.as_chunks::<16>();
        let said = Said {
            key,
            versions: (lowest, highest),
            stream: Stream::of(stream)?,
            verdict,
            from: NodeId(u16::from_be_bytes([f0, f1])),
            to: NodeId(u16::from_be_bytes([t0, t1])),
            incarnation: u64::from_be_bytes(words[0]),
            capabilities: u64::from_be_bytes(words[1]),
            cluster: halves[1],
            config: halves[2],
        };
        (kind == what as u8).then_some((said, body, tag))
    }

    /// Whether `local` may talk to its sender. Both sides ask.
    fn judge(&self, local: &Local) -> Result<(), Refusal> {
        let (lowest, highest) = local.versions;
        if self.cluster != local.cluster {
            Err(Refusal::OtherCluster)
        } else if self.from == local.node {
            Err(Refusal::OwnId)
        } else if self.to != local.node {
            Err(Refusal::WrongNode)
        } else if !local.members.contains(&self.from) {
            Err(Refusal::NotAMember)
        } else if self.versions.1 < lowest {
            Err(Refusal::TooOld)
        } else if self.versions.0 > highest {
            Err(Refusal::TooNew)
        } else {
            Ok(())
        }
    }

    fn open(&self, local: &Local, sealer: Sealer, decoder: Decoder) -> Opened {
        Opened {
            peer: self.from,
            incarnation: self.incarnation,
            stream: self.stream,
            version: self.versions.1.min(local.versions.1),
            capabilities: self.capabilities & local.capabilities,
            config: self.config,
            sealer,
            decoder,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Kind;

    const CHALLENGE: Nonce = [1; NONCE];

    fn local(node: u16) -> Local {
        Local {
            node: NodeId(node),
            incarnation: u64::from(node) * 1_000,
            cluster: cluster_hash("tandem"),
            config: [node as u8; 16],
            capabilities: 0b110 | u64::from(node),
            versions: VERSIONS,
            members: vec![NodeId(1), NodeId(2)],
        }
    }

    fn keys(secrets: &[&[u8]]) -> Keys {
        Keys::new("tandem", secrets).unwrap()
    }

    /// Node 2 connects to node 1; what each made of it.
    fn meet(two: (&Keys, &Local), one: (&Keys, &Local)) -> (Option<Result<Opened, Refusal>>, Result<Opened, Refusal>) {
        let (hello, asked) = hello(two.0, two.1, NodeId(1), Stream::Bulk, CHALLENGE, [2; NONCE]);
        let (answer, theirs) = answer(one.0, one.1, CHALLENGE, &hello, [3; NONCE]);
        (answer.map(|answer| asked.opened(two.0, two.1, &answer)), theirs)
    }

    fn refused(two: &Local, one: &Local) -> (Refusal, Refusal) {
        let keys = keys(&[b"s"]);
        let (ours, theirs) = meet((&keys, two), (&keys, one));
        (ours.unwrap().unwrap_err(), theirs.unwrap_err())
    }

    #[test]
    fn two_nodes_that_share_a_secret_open_a_stream() {
        let keys = keys(&[b"s"]);
        let (ours, theirs) = meet((&keys, &local(2)), (&keys, &local(1)));
        let (mut ours, mut theirs) = (ours.unwrap().unwrap(), theirs.unwrap());
        assert_eq!((ours.peer, ours.incarnation, ours.config), (NodeId(1), 1_000, [1; 16]));
        assert_eq!((theirs.peer, theirs.incarnation, theirs.stream), (NodeId(2), 2_000, Stream::Bulk));
        assert_eq!((ours.version, ours.capabilities, theirs.capabilities), (1, 0b110, 0b110));

        for (from, to) in [(&mut ours.sealer, &mut theirs.decoder), (&mut theirs.sealer, &mut ours.decoder)] {
            let mut octets = Vec::new();
            from.seal(Kind::Ack, b"x", &mut octets).unwrap();
            to.room()[..octets.len()].copy_from_slice(&octets);
            to.filled(octets.len());
            assert_eq!(to.next_frame().unwrap().unwrap().payload, b"x");
        }
    }

    #[test]
    fn a_captured_hello_is_worth_nothing() {
        let keys = keys(&[b"s"]);
        let (hello, asked) = hello(&keys, &local(2), NodeId(1), Stream::Urgent, CHALLENGE, [2; NONCE]);
        let (sent, result) = answer(&keys, &local(1), [9; NONCE], &hello, [3; NONCE]);
        assert_eq!((sent, result.unwrap_err()), (None, Refusal::WrongSecret));
        // Nor is a captured answer, nor a hello sent back to its sender.
        let (sent, _) = answer(&keys, &local(1), CHALLENGE, &hello, [3; NONCE]);
        let again = super::hello(&keys, &local(2), NodeId(1), Stream::Urgent, CHALLENGE, [4; NONCE]).1;
        assert_eq!(again.opened(&keys, &local(2), &sent.unwrap()).unwrap_err(), Refusal::WrongSecret);
        assert_eq!(asked.opened(&keys, &local(2), &hello).unwrap_err(), Refusal::Garbage);
        let (_, result) = answer(&keys, &local(2), CHALLENGE, &hello, [3; NONCE]);
        assert_eq!(result.unwrap_err(), Refusal::OwnId);
    }

    #[test]
    fn both_secrets_are_accepted_while_they_rotate() {
        let (old, both) = (keys(&[b"old"]), keys(&[b"old", b"new"]));
        let (new, other) = (keys(&[b"new", b"old"]), keys(&[b"third"]));
        for (two, one) in [(&old, &both), (&both, &new), (&new, &both), (&old, &new)] {
            let (ours, theirs) = meet((two, &local(2)), (one, &local(1)));
            assert!(ours.unwrap().is_ok() && theirs.is_ok());
        }
        for (two, one) in [(&other, &both), (&new, &old)] {
            let (ours, theirs) = meet((two, &local(2)), (one, &local(1)));
            assert!(ours.is_none(), "a stranger is sent nothing");
            assert_eq!(theirs.unwrap_err(), Refusal::WrongSecret);
        }
    }

    #[test]
    fn each_mistake_has_its_reason_on_both_sides() {
        use Refusal::{NotAMember, OtherCluster, OwnId, TooNew, TooOld, WrongNode};
        let other = Local { cluster: cluster_hash("other"), ..local(2) };
        assert_eq!(refused(&other, &local(1)), (OtherCluster, OtherCluster));
        assert_eq!(refused(&local(1), &local(1)), (OwnId, OwnId));
        let third = Local { node: NodeId(3), members: vec![NodeId(2), NodeId(3)], ..local(1) };
        assert_eq!(refused(&local(2), &third), (NotAMember, WrongNode));
        let alone = Local { members: vec![NodeId(1)], ..local(1) };
        assert_eq!(refused(&local(2), &alone), (NotAMember, NotAMember));
        let newer = Local { versions: (2, 3), ..local(2) };
        assert_eq!(refused(&newer, &local(1)), (TooOld, TooNew));
        let older = Local { versions: (0, 0), ..local(2) };
        assert_eq!(refused(&older, &local(1)), (TooNew, TooOld));
        let keys = keys(&[b"s"]);
        let both = Local { versions: (1, 4), ..local(2) };
        assert_eq!(meet((&keys, &both), (&keys, &local(1))).1.unwrap().version, 1);
    }

    #[test]
    fn every_flipped_bit_of_a_hello_is_silence() {
        let keys = keys(&[b"s"]);
        let (hello, _) = hello(&keys, &local(2), NodeId(1), Stream::Urgent, CHALLENGE, [2; NONCE]);
        for bit in 0..hello.len() * 8 {
            let mut damaged = hello.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let (sent, result) = answer(&keys, &local(1), CHALLENGE, &damaged, [3; NONCE]);
            assert!(sent.is_none() && matches!(result, Err(Refusal::Garbage | Refusal::WrongSecret)), "bit {bit}");
        }
        for cut in 0..hello.len() {
            assert!(answer(&keys, &local(1), CHALLENGE, &hello[..cut], [3; NONCE]).0.is_none());
        }
    }

    #[test]
    fn what_a_later_version_adds_to_a_hello_is_ignored() {
        let keys = keys(&[b"s"]);
        let (hello, _) = hello(&keys, &local(2), NodeId(1), Stream::Urgent, CHALLENGE, [2; NONCE]);
        let mut longer = hello[..BODY].to_vec();
        longer.extend_from_slice(b"more");
        longer[4..6].copy_from_slice(&((BODY + 4 + TAG) as u16).to_be_bytes());
        let tag = keys.link_tag(keys.id(), &[b"hello", &CHALLENGE, &longer]).unwrap();
        longer.extend_from_slice(&tag);
        assert_eq!(length(*longer.first_chunk().unwrap()), Ok(longer.len()));
        assert!(answer(&keys, &local(1), CHALLENGE, &longer, [3; NONCE]).1.is_ok());
        longer[4..6].copy_from_slice(&(limits::HELLO as u16 + 1).to_be_bytes());
        assert_eq!(length(*longer.first_chunk().unwrap()), Err(Refusal::Garbage));
    }

    #[test]
    fn every_refusal_names_a_cure() {
        for (n, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, n + 1);
            assert!(refusal.to_string().contains(';'), "{refusal:?}");
        }
        assert_eq!(Refusal::of(200), Refusal::Unknown);
    }
}
