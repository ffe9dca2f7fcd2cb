//! Frames: what nodes say to each other over an opened stream. A fixed header, a MAC under the key of that direction of
//! that stream, a payload. Version 1, numbers in network order:
//!
//! | octets | what |
//! |---|---|
//! | 2 | `TF` |
//! | 1 | version |
//! | 1 | kind |
//! | 1 | flags: bit 0, may be skipped by those who do not know the kind |
//! | 3 | zero; ignored, so that a later version may use them |
//! | 4 | octets of the payload |
//! | 8 | counter: 0 for the first frame of a stream, then one more each |
//! | 16 | MAC over all of the above and the payload |

use super::kind::Kind;
use crate::base::limits;
use crate::token::{self, SessionKey, TAG};

/// The version of frames that this module writes, and the only one it reads.
pub const VERSION: u8 = 1;

/// Octets before the payload.
pub const HEADER: usize = FIXED + TAG;

/// Octets before the MAC.
const FIXED: usize = 20;

const MAGIC: [u8; 2] = *b"TF";

/// Those who do not know the kind skip the frame.
const IGNORABLE: u8 = 1;

/// Octets of memory that a decoder begins with, and keeps.
const MEMORY: usize = 64 * 1024;

/// Seals frames for one direction of one stream.
#[derive(Debug)]
pub struct Sealer {
    key: SessionKey,
    counter: u64,
}

/// A payload above [`limits::FRAME`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Sealer {
    /// The first frame is yet to come.
    pub fn new(key: SessionKey) -> Self {
        Self { key, counter: 0 }
    }

    /// Appends one sealed frame to `to`: [`HEADER`] octets and the payload.
    pub fn seal(&mut self, kind: Kind, payload: &[u8], to: &mut Vec<u8>) -> Result<(), TooLong> {
        if cfg!(feature = "next") && kind == Kind::Ack {
            self.seal_number(u8::MAX, true, b"of a later version", to)?;
        }
        self.seal_number(kind as u8, kind.is_ignorable(), payload, to)
    }

    /// Likewise a kind that this version may not know. `ignorable`: a reader that does not know it skips the frame;
    /// otherwise it ends the stream.
    pub fn seal_number(&mut self, kind: u8, ignorable: bool, payload: &[u8], to: &mut Vec<u8>) -> Result<(), TooLong> {
        if payload.len() > limits::FRAME {
            return Err(TooLong);
        }
        let mut fixed = [0; FIXED];
        fixed[..2].copy_from_slice(&MAGIC);
        fixed[2] = VERSION;
        fixed[3] = kind;
        fixed[4] = if ignorable { IGNORABLE } else { 0 };
        fixed[8..12].copy_from_slice(&(payload.len() as u32).to_be_bytes());
        fixed[12..].copy_from_slice(&self.counter.to_be_bytes());
        self.counter += 1;
        to.reserve(HEADER + payload.len());
        to.extend_from_slice(&fixed);
        to.extend_from_slice(&self.key.tag(&[&fixed, payload]));
        to.extend_from_slice(payload);
        Ok(())
    }
}

/// One frame that its sender sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: Kind,
    /// The rest of it.
    pub payload: &'a [u8],
}

/// Why a stream cannot go on. Nothing after it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// No frame begins here.
    Magic,
    /// A version that was not agreed upon.
    Version,
    /// It announces more than [`limits::FRAME`] octets.
    TooLong,
    /// It was lost, sent again, or moved.
    Counter,
    /// Not from the peer, or damaged.
    Mac,
    /// A kind that this version does not know and must not skip.
    UnknownKind,
}

impl Broken {
    /// All reasons, in the order of their counters.
    pub const ALL: [Broken; 6] =
        [Broken::Magic, Broken::Version, Broken::TooLong, Broken::Counter, Broken::Mac, Broken::UnknownKind];

    /// The label of its metric.
    pub const fn name(self) -> &'static str {
        match self {
            Broken::Magic => "magic",
            Broken::Version => "version",
            Broken::TooLong => "too_long",
            Broken::Counter => "counter",
            Broken::Mac => "mac",
            Broken::UnknownKind => "unknown_kind",
        }
    }
}

/// Finds the frames of one direction of one stream, however its octets were cut.
///
/// Put octets into [`Decoder::room`], say how many with [`Decoder::filled`], then call [`Decoder::next_frame`] until it
/// has none. Nothing of a payload is looked at before its MAC is right. Memory is bounded by one frame.
#[derive(Debug)]
pub struct Decoder {
    key: SessionKey,
    counter: u64,
    memory: Vec<u8>,
    /// What has come and not been taken yet.
    start: usize,
    end: usize,
    broken: Option<Broken>,
    skipped: u64,
}

impl Decoder {
    /// The first frame is yet to come.
    pub fn new(key: SessionKey) -> Self {
        let (counter, start, end) = (0, 0, 0);
        Self { key, counter, memory: Vec::new(), start, end, broken: None, skipped: 0 }
    }

    /// Where the next octets of the stream go. Never empty once [`Decoder::next_frame`] has said that there is none.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.memory.len() > MEMORY {
                // A large frame is an exception.
                self.memory = Vec::new();
            }
        }
        let wanted = self.announced().unwrap_or(HEADER).max(MEMORY);
        if self.memory.len() < wanted {
            self.memory.resize(wanted, 0);
        }
        if self.memory.len() - self.start < wanted || self.end == self.memory.len() {
            self.memory.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.memory[self.end..]
    }

    /// The first `count` octets of [`Decoder::room`] have come.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.memory.len());
    }

    /// The next frame, if all of it has come. An error is final.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Broken> {
        loop {
            if let Some(broken) = self.broken {
                return Err(broken);
            }
            match self.check() {
                Ok(None) => return Ok(None),
                Ok(Some((kind, length))) => {
                    let payload = self.start + HEADER..self.start + HEADER + length;
                    self.start = payload.end;
                    self.counter += 1;
                    match kind {
                        Some(kind) => return Ok(Some(Frame { kind, payload: &self.memory[payload] })),
                        None => self.skipped += 1,
                    }
                }
                Err(broken) => self.broken = Some(broken),
            }
        }
    }

    /// Frames of unknown kinds that were skipped.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Whether nothing of a frame has come that is not whole.
    pub fn is_between_frames(&self) -> bool {
        self.start == self.end
    }

    fn pending(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    /// Octets of the frame that has begun, if its header is here and sound.
    fn announced(&self) -> Option<usize> {
        let (fixed, _) = self.pending().split_first_chunk::<FIXED>()?;
        self.head(fixed).ok().map(|length| HEADER + length)
    }

    /// Checks a header and returns the length of its payload. All of it is only believed with the MAC.
    fn head(&self, fixed: &[u8; FIXED]) -> Result<usize, Broken> {
        let [m0, m1, version, _, _, _, _, _, l0, l1, l2, l3, counter @ ..] = *fixed;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if [m0, m1] != MAGIC {
            Err(Broken::Magic)
        } else if version != VERSION {
            Err(Broken::Version)
        } else if u64::from_be_bytes(counter) != self.counter {
            Err(Broken::Counter)
        } else if length > limits::FRAME {
            Err(Broken::TooLong)
        } else {
            Ok(length)
        }
    }

    /// Kind (`None`: to be skipped) and payload length of the first frame, if it is whole and sound.
    fn check(&self) -> Result<Option<(Option<Kind>, usize)>, Broken> {
        let pending = self.pending();
        let Some((fixed, rest)) = pending.split_first_chunk::<FIXED>() else { return Ok(None) };
        let length = self.head(fixed)?;
        let Some((tag, rest)) = rest.split_first_chunk::<TAG>() else { return Ok(None) };
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        if !token::same(tag, &self.key.tag(&[fixed, payload])) {
            return Err(Broken::Mac);
        }
        match Kind::of(fixed[3]) {
            None if fixed[4] & IGNORABLE == 0 => Err(Broken::UnknownKind),
            kind => Ok(Some((kind, length))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Keys;

    fn key(name: &[u8]) -> SessionKey {
        let keys = Keys::new("c", &[b"a secret"]).unwrap();
        keys.session(keys.id(), &[name]).unwrap()
    }

    /// Everything that a stream says, fed `step` octets at a time.
    fn read(decoder: &mut Decoder, mut octets: &[u8], step: usize) -> (Vec<(Kind, Vec<u8>)>, Option<Broken>) {
        let mut frames = Vec::new();
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push((frame.kind, frame.payload.to_vec())),
                Ok(None) if octets.is_empty() => return (frames, None),
                Ok(None) => {
                    let room = decoder.room();
                    let count = room.len().min(step).min(octets.len());
                    assert!(count > 0, "there is always room for more");
                    room[..count].copy_from_slice(&octets[..count]);
                    octets = &octets[count..];
                    decoder.filled(count);
                }
                Err(broken) => return (frames, Some(broken)),
            }
        }
    }

    fn sealed(payloads: &[&[u8]]) -> Vec<u8> {
        let mut sealer = Sealer::new(key(b"k"));
        let mut octets = Vec::new();
        payloads.iter().for_each(|p| sealer.seal(Kind::Records, p, &mut octets).unwrap());
        octets
    }

    #[test]
    fn frames_arrive_whole_at_every_cut() {
        let large: Vec<u8> = (0..limits::FRAME).map(|n| (n * 7) as u8).collect();
        let payloads: [&[u8]; 5] = [b"", b"a", &large[..1000], &large, b"last"];
        let octets = sealed(&payloads);
        for step in [1, 2, 7, HEADER, 1_500, 65_536, usize::MAX] {
            if step == 1 {
                let (few, none) = read(&mut Decoder::new(key(b"k")), &sealed(&payloads[..3]), 1);
                assert_eq!((few.len(), none), (3, None));
                continue;
            }
            let (frames, broken) = read(&mut Decoder::new(key(b"k")), &octets, step);
            assert_eq!(broken, None);
            assert!(frames.iter().map(|(_, p)| p.as_slice()).eq(payloads), "cut every {step}");
        }
        assert_eq!(Sealer::new(key(b"k")).seal(Kind::Ack, &[0; limits::FRAME + 1], &mut Vec::new()), Err(TooLong));
    }

    #[test]
    fn a_large_frame_takes_its_memory_along() {
        let mut decoder = Decoder::new(key(b"k"));
        assert_eq!(read(&mut decoder, &sealed(&[&[1; limits::FRAME]]), usize::MAX).1, None);
        assert!(decoder.memory.len() <= HEADER + limits::FRAME);
        assert_eq!(decoder.room().len(), MEMORY);
    }

    #[test]
    fn a_length_is_refused_before_memory_is_reserved() {
        let mut octets = sealed(&[b"abc"]);
        octets[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
        let mut decoder = Decoder::new(key(b"k"));
        assert_eq!(read(&mut decoder, &octets[..FIXED], 1), (vec![], Some(Broken::TooLong)));
        assert_eq!(decoder.memory.len(), MEMORY);
        assert_eq!(decoder.next_frame(), Err(Broken::TooLong), "an error is final");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let octets = sealed(&[b"one", b"two"]);
        for bit in 0..octets.len() * 8 {
            let mut damaged = octets.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            damaged.extend_from_slice(&[0; 64]);
            let (frames, broken) = read(&mut Decoder::new(key(b"k")), &damaged, usize::MAX);
            let whole = usize::from(bit / 8 >= HEADER + 3);
            // A length that grew waits for what never comes, within the bound.
            let waits = broken.is_none() && (8..12).contains(&((bit / 8) % (HEADER + 3)));
            assert!(frames.len() == whole && (broken.is_some() || waits), "bit {bit}: {frames:?} {broken:?}");
        }
    }

    #[test]
    fn a_frame_that_is_lost_moved_or_sent_again_ends_the_stream() {
        let octets = sealed(&[b"one", b"two"]);
        let (one, two) = octets.split_at(HEADER + 3);
        for (order, frames) in [([one, one], 1), ([two, one], 0)] {
            let (read, broken) = read(&mut Decoder::new(key(b"k")), &order.concat(), usize::MAX);
            assert_eq!((read.len(), broken), (frames, Some(Broken::Counter)));
        }
        let (none, broken) = read(&mut Decoder::new(key(b"other")), &octets, usize::MAX);
        assert_eq!((none.len(), broken), (0, Some(Broken::Mac)), "another direction or stream has another key");
    }

    #[test]
    fn kinds_to_come_are_skipped_or_end_the_stream() {
        let mut sealer = Sealer::new(key(b"k"));
        let mut octets = Vec::new();
        sealer.seal_number(200, true, b"news", &mut octets).unwrap();
        sealer.seal(Kind::Ack, b"known", &mut octets).unwrap();
        sealer.seal_number(201, false, b"must be understood", &mut octets).unwrap();
        let mut decoder = Decoder::new(key(b"k"));
        let (frames, broken) = read(&mut decoder, &octets, usize::MAX);
        assert_eq!(frames, [(Kind::Ack, b"known".to_vec())]);
        assert_eq!((broken, decoder.skipped()), (Some(Broken::UnknownKind), 1));
    }
}
