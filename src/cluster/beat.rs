//! The heartbeat: what a node says of itself every few milliseconds on every path. Fixed size; whoever sends it
//! authenticates the datagram, whoever receives it checks that before reading.

use crate::base::{Epoch, NodeId};

/// Octets of a beat of version 1. A later version of the format may append; the tail is skipped.
pub const LEN: usize = 73;
/// First octet. A format that does not begin like version 1 gets another number.
const VERSION: u8 = 1;

/// What the sender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Has started, claims nothing yet.
    Starting = 1,
    /// Follows, or waits for somebody to follow.
    Standby = 2,
    /// Holds the role under the epoch of the beat.
    Active = 3,
    /// Was active, woke up late, and asks whether it still is.
    Asking = 4,
    /// Was active and has told a peer to take the role.
    Giving = 5,
    /// Stops; nothing of it will be heard again.
    Leaving = 6,
}

impl State {
    /// Whether calls may be served in it, or were a moment ago.
    pub(super) fn leads(self) -> bool {
        matches!(self, State::Active | State::Giving | State::Asking)
    }
}

/// What holds of the sender at the moment, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// Its workers turn and its shards are sound.
    pub const FIT: Flags = Flags(1);
    /// Its interface could carry the virtual addresses.
    pub const USABLE: Flags = Flags(1 << 1);
    /// It holds a complete copy and could take over now.
    pub const ARMED: Flags = Flags(1 << 2);
    /// It reaches one of its reference points, or has none.
    pub const REACHES: Flags = Flags(1 << 3);
    /// Its own timers fire late: it judges nobody.
    pub const LATE: Flags = Flags(1 << 4);
    /// It holds the virtual addresses and answers for them.
    pub const HOLDS: Flags = Flags(1 << 5);
    /// It has calls: its own, or a copy that was complete once.
    pub const CALLS: Flags = Flags(1 << 6);
    /// Its last claim was made on mere silence.
    pub const ON_SILENCE: Flags = Flags(1 << 7);
    /// It is about to stop and takes no role.
    pub const LEAVING: Flags = Flags(1 << 8);
    /// Its peer knows of all that it told anybody as the active node.
    pub const TELLS: Flags = Flags(1 << 9);
    /// It serves beside the node that it follows (active-active).
    pub const SERVES: Flags = Flags(1 << 10);

    /// Whether all bits of `flag` are set.
    pub const fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 == flag.0
    }

    /// With `flag` set if `on`.
    #[must_use]
    pub const fn with(self, flag: Flags, on: bool) -> Flags {
        if on { Flags(self.0 | flag.0) } else { self }
    }
}

/// One beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Hash of the cluster's name.
    pub cluster: u64,
    /// Who.
    pub node: NodeId,
    /// Which of its lives.
    pub incarnation: u64,
    /// The epoch of its start or of its last claim.
    pub epoch: Epoch,
    /// The claim that it recognises; counter 0: none.
    pub term: Epoch,
    /// What it is.
    pub state: State,
    /// What holds of it.
    pub flags: Flags,
    /// Its priority.
    pub priority: u8,
    /// Grows with every beat of this incarnation on this path.
    pub counter: u64,
    /// The incarnation of the receiver that it heard last on this path; 0: none.
    pub echo_incarnation: u64,
    /// The last counter that it heard from that incarnation on this path: a path that works one way only shows itself.
    pub echo: u64,
    /// Hash of its effective configuration.
    pub config: u64,
}

/// Why a datagram is no beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBeat {
    /// Shorter than [`LEN`].
    Short,
    /// Another format.
    Version(u8),
    /// A state that this version does not know.
    State(u8),
}

impl Beat {
    /// Appends the beat: [`LEN`] octets, big-endian.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&self.cluster.to_be_bytes());
        out.extend_from_slice(&self.node.0.to_be_bytes());
        out.extend_from_slice(&self.incarnation.to_be_bytes());
        for epoch in [self.epoch, self.term] {
            out.extend_from_slice(&epoch.counter.to_be_bytes());
            out.extend_from_slice(&epoch.node.0.to_be_bytes());
        }
        out.push(self.state as u8);
        out.extend_from_slice(&self.flags.0.to_be_bytes());
        out.push(self.priority);
        // Room for what version 1 may still need in the fixed part.
        out.extend_from_slice(&[0; 6]);
        for word in [self.counter, self.echo_incarnation, self.echo, self.config] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        if cfg!(feature = "next") {
            out.extend_from_slice(b"of a later version");
        }
    }

    /// Reads a beat; what follows it is skipped, and so are flags of later versions.
    pub fn read(octets: &[u8]) -> Result<Beat, NoBeat> {
        let Some((fixed, _)) = octets.split_first_chunk::<LEN>() else { return Err(NoBeat::Short) };
        if fixed[0] != VERSION {
            return Err(NoBeat::Version(fixed[0]));
        }
        let mut rest = Fields(&fixed[1..]);
        let (cluster, node, incarnation) = (rest.u64(), NodeId(rest.u16()), rest.u64());
        let (epoch, term) = (rest.epoch(), rest.epoch());
        let state = State::read(rest.u8())?;
        let (flags, priority) = (Flags(rest.u16()), rest.u8());
        let _room: [u8; 6] = rest.take();
        let (counter, echo_incarnation, echo) = (rest.u64(), rest.u64(), rest.u64());
        let config = rest.u64();
        Ok(Beat {
            cluster,
            node,
            incarnation,
            epoch,
            term,
            state,
            flags,
            priority,
            counter,
            echo_incarnation,
            echo,
            config,
        })
    }
}

impl State {
    fn read(octet: u8) -> Result<State, NoBeat> {
        Ok(match octet {
            1 => State::Starting,
            2 => State::Standby,
            3 => State::Active,
            4 => State::Asking,
            5 => State::Giving,
            6 => State::Leaving,
            other => return Err(NoBeat::State(other)),
        })
    }
}

/// Reads big-endian fields off a slice of known length.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk().expect("the length was checked");
        self.0 = rest;
        *head
    }

    fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.take())
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }

    fn epoch(&mut self) -> Epoch {
        Epoch { counter: u32::from_be_bytes(self.take()), node: NodeId(self.u16()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat() -> Beat {
        Beat {
            cluster: 0x0102_0304_0506_0708,
            node: NodeId(0x090a),
            incarnation: 0x0b0c_0d0e_0f10_1112,
            epoch: Epoch { counter: 0x1314_1516, node: NodeId(0x1718) },
            term: Epoch { counter: 0x191a_1b1c, node: NodeId(0x1d1e) },
            state: State::Giving,
            flags: Flags::FIT.with(Flags::LEAVING, true),
            priority: 200,
            counter: 1 << 40,
            echo_incarnation: u64::MAX,
            echo: 77,
            config: 78,
        }
    }

    #[test]
    fn reads_what_it_wrote_and_skips_what_follows() {
        let mut octets = Vec::new();
        beat().write(&mut octets);
        assert_eq!(octets.len(), LEN);
        assert_eq!(Beat::read(&octets), Ok(beat()));
        octets.extend_from_slice(b"a field of a later version");
        assert_eq!(Beat::read(&octets), Ok(beat()));
    }

    #[test]
    fn the_first_octets_stand_still() {
        let mut octets = Vec::new();
        beat().write(&mut octets);
        let ascending: Vec<u8> = (1..=0x1e).collect();
        assert_eq!(octets[0], 1);
        assert_eq!(octets[1..31], ascending[..]);
        assert_eq!(octets[31..35], [5, 1, 1, 200]);
        assert_eq!(octets[41..49], (1u64 << 40).to_be_bytes());
    }

    #[test]
    fn refuses_what_is_no_beat() {
        let mut octets = Vec::new();
        beat().write(&mut octets);
        assert_eq!(Beat::read(&octets[..LEN - 1]), Err(NoBeat::Short));
        assert_eq!(Beat::read(&[]), Err(NoBeat::Short));
        octets[31] = 0;
        assert_eq!(Beat::read(&octets), Err(NoBeat::State(0)));
        octets[0] = 2;
        assert_eq!(Beat::read(&octets), Err(NoBeat::Version(2)));
    }
}
