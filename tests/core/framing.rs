//! Where messages end on a stream, however the octets arrive.

use tandem::sip::{Frame, Framer, FramingError};

/// What a stream turned out to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Message(usize),
    Ping,
    Noise,
    Lost(FramingError),
    /// So many octets wait for more.
    Rest(usize),
}

/// What is found in `octets`; `next` says how many octets have arrived after the next read, given how many have before.
pub fn events(octets: &[u8], next: impl Fn(usize) -> usize) -> Vec<Event> {
    let mut framer = Framer::new();
    let mut found = Vec::new();
    let (mut start, mut arrived) = (0, 0);
    loop {
        match framer.next(&octets[start..arrived]) {
            Ok(Frame::Incomplete) if arrived < octets.len() => {
                arrived = next(arrived).min(octets.len());
                continue;
            }
            Ok(Frame::Incomplete) => {
                if start < arrived {
                    found.push(Event::Rest(arrived - start));
                }
                return found;
            }
            Ok(Frame::Message(length)) => {
                found.push(Event::Message(length));
                start += length;
            }
            Ok(Frame::Ping(length)) => {
                found.push(Event::Ping);
                start += length;
            }
            Ok(Frame::Noise(length)) => {
                found.push(Event::Noise);
                start += length;
            }
            Err(error) => {
                found.push(Event::Lost(error));
                return found;
            }
        }
        framer.consumed();
    }
}

/// What is found when all octets arrive at once.
pub fn whole(octets: &[u8]) -> Vec<Event> {
    events(octets, |_| usize::MAX)
}

/// Where to cut `length` octets in two: everywhere, and in a long message not everywhere in the middle.
pub fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (1..length).filter(move |cut| length < 4_000 || *cut < 600 || length - cut < 600 || cut % 307 == 0)
}
