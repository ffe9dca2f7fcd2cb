//! What nodes tell each other over the urgent stream for a hand-over. The stream is authenticated and keeps the order:
//! a `Take` arrives behind every record that was flushed before it.

use std::fmt;

use crate::base::{Epoch, NodeId};

use super::config::{HaMode, Mode};

/// A message to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Standby to active: hand over to me (an operator asked here).
    Request,
    /// Active to standby: could you take over from the claim `term`?
    Prepare {
        /// The claim that will be given up.
        term: Epoch,
        /// The sender is of no use any more: an incomplete copy is better than none.
        urgent: bool,
    },
    /// Standby to active: go ahead.
    Ready {
        /// From `Prepare`.
        term: Epoch,
    },
    /// Either way: no, because.
    Refuse {
        /// From `Prepare`; zero in answer to `Request`.
        term: Epoch,
        /// Why.
        why: Refusal,
    },
    /// Active to standby: take it, under this counter or a higher one. The sender has stopped writing.
    Take {
        /// The claim that is given up.
        term: Epoch,
        /// Set aside for the new claim.
        counter: u32,
    },
    /// New active to former: done.
    Taken {
        /// The new claim.
        epoch: Epoch,
    },
    /// Active to standby: forget it.
    Abort {
        /// The claim that is kept.
        term: Epoch,
    },
    /// This incarnation ends now.
    Goodbye,
    /// Of `cluster.ha-mode`.
    Mode {
        /// What is said of it.
        step: ModeStep,
        /// Which.
        to: Mode,
    },
}

/// What nodes say of a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeStep {
    /// Standby to active: switch to it (an operator asked here).
    Ask,
    /// Active to standby: could you?
    Prepare,
    /// Standby to active: go ahead.
    Ready,
    /// Either way: no, because.
    Refuse(Refusal),
    /// Either way: it is in force here.
    Set,
}

/// Why something that was asked for is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// There is no peer, or none that is heard.
    NoPeer = 1,
    /// The copy at the peer is not complete.
    NotArmed = 2,
    /// The link to the peer is down.
    LinkDown = 3,
    /// The peer's workers do not turn or its shards are unsound.
    PeerUnfit = 4,
    /// The peer's interface cannot carry the address.
    PeerUnusable = 5,
    /// This node is not active, and knows of nobody who is.
    NobodyActive = 6,
    /// A hand-over is under way.
    Busy = 7,
    /// The peer is heard: it is not dead.
    PeerAlive = 8,
    /// No member has this id.
    UnknownMember = 9,
    /// The node is stopping.
    Leaving = 10,
    /// The peer follows another claim.
    OtherTerm = 11,
    /// A step took too long.
    TimedOut = 12,
    /// Withdrawn by who had begun it.
    Withdrawn = 13,
    /// In `ha-mode` `none` nobody takes over.
    Apart = 14,
    /// The addresses of the pair do not allow the mode.
    NoSuchMode = 15,
    /// The other node serves as well.
    PeerServes = 16,
    /// A reason of a later version.
    Other = 255,
}

/// Why octets are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMessage {
    /// Too short for what they begin.
    Short,
    /// A kind that this version does not know: skipped and counted.
    Kind(u8),
}

impl Message {
    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Message::Request => out.push(1),
            Message::Prepare { term, urgent } => {
                out.push(2);
                epoch(term, out);
                out.push(u8::from(urgent));
            }
            Message::Ready { term } => {
                out.push(3);
                epoch(term, out);
            }
            Message::Refuse { term, why } => {
                out.push(4);
                epoch(term, out);
                out.push(why as u8);
            }
            Message::Take { term, counter } => {
                out.push(5);
                epoch(term, out);
                out.extend_from_slice(&counter.to_be_bytes());
            }
            Message::Taken { epoch: new } => {
                out.push(6);
                epoch(new, out);
            }
            Message::Abort { term } => {
                out.push(7);
                epoch(term, out);
            }
            Message::Goodbye => out.push(8),
            Message::Mode { step, to } => {
                out.push(9);
                step.write(out);
                out.push(to.mode as u8);
                epoch(to.word, out);
            }
        }
    }

    /// Reads a message; what follows it is skipped.
    pub fn read(octets: &[u8]) -> Result<Message, NoMessage> {
        let mut rest = Rest(octets);
        Ok(match rest.u8()? {
            1 => Message::Request,
            2 => Message::Prepare { term: rest.epoch()?, urgent: rest.u8()? != 0 },
            3 => Message::Ready { term: rest.epoch()? },
            4 => Message::Refuse { term: rest.epoch()?, why: Refusal::read(rest.u8()?) },
            5 => Message::Take { term: rest.epoch()?, counter: rest.u32()? },
            6 => Message::Taken { epoch: rest.epoch()? },
            7 => Message::Abort { term: rest.epoch()? },
            8 => Message::Goodbye,
            9 => Message::Mode {
                step: ModeStep::read(&mut rest)?,
                to: Mode { mode: HaMode::read(rest.u8()?)?, word: rest.epoch()? },
            },
            other => return Err(NoMessage::Kind(other)),
        })
    }
}

fn epoch(epoch: Epoch, out: &mut Vec<u8>) {
    out.extend_from_slice(&epoch.counter.to_be_bytes());
    out.extend_from_slice(&epoch.node.0.to_be_bytes());
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], NoMessage> {
        let (head, rest) = self.0.split_first_chunk().ok_or(NoMessage::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, NoMessage> {
        Ok(u8::from_be_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, NoMessage> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn epoch(&mut self) -> Result<Epoch, NoMessage> {
        let counter = self.u32()?;
        Ok(Epoch { counter, node: NodeId(u16::from_be_bytes(self.take()?)) })
    }
}

impl ModeStep {
    fn write(self, out: &mut Vec<u8>) {
        let (step, why) = match self {
            ModeStep::Ask => (0, 0),
            ModeStep::Prepare => (1, 0),
            ModeStep::Ready => (2, 0),
            ModeStep::Refuse(why) => (3, why as u8),
            ModeStep::Set => (4, 0),
        };
        out.extend_from_slice(&[step, why]);
    }

    fn read(rest: &mut Rest<'_>) -> Result<Self, NoMessage> {
        let (step, why) = (rest.u8()?, rest.u8()?);
        Ok(match step {
            0 => ModeStep::Ask,
            1 => ModeStep::Prepare,
            2 => ModeStep::Ready,
            3 => ModeStep::Refuse(Refusal::read(why)),
            4 => ModeStep::Set,
            _ => return Err(NoMessage::Kind(9)),
        })
    }
}

impl HaMode {
    fn read(octet: u8) -> Result<Self, NoMessage> {
        let all = [HaMode::None, HaMode::ActiveStandby, HaMode::ActiveActive];
        all.into_iter().find(|mode| *mode as u8 == octet).ok_or(NoMessage::Kind(9))
    }
}

impl Refusal {
    const ALL: [Refusal; 16] = [
        Refusal::NoPeer,
        Refusal::NotArmed,
        Refusal::LinkDown,
        Refusal::PeerUnfit,
        Refusal::PeerUnusable,
        Refusal::NobodyActive,
        Refusal::Busy,
        Refusal::PeerAlive,
        Refusal::UnknownMember,
        Refusal::Leaving,
        Refusal::OtherTerm,
        Refusal::TimedOut,
        Refusal::Withdrawn,
        Refusal::Apart,
        Refusal::NoSuchMode,
        Refusal::PeerServes,
    ];

    fn read(octet: u8) -> Refusal {
        Self::ALL.into_iter().find(|why| *why as u8 == octet).unwrap_or(Refusal::Other)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::NoPeer => "no peer is heard; start it, or see what cuts it off (tandem peer check)",
            Refusal::NotArmed => "the peer does not hold a complete copy yet; wait until tandem status shows armed",
            Refusal::LinkDown => "the link to the peer is down; see tandem peer check",
            Refusal::PeerUnfit => "the peer is unfit; see its log and restart it",
            Refusal::PeerUnusable => "the peer's interface cannot carry the virtual address; check its cable",
            Refusal::NobodyActive => "no node is active at the moment; wait, then ask again",
            Refusal::Busy => "a hand-over is under way; wait for its end",
            Refusal::PeerAlive => "the peer is heard, so it is not dead; stop it first",
            Refusal::UnknownMember => "no member has this id; see cluster.member.N",
            Refusal::Leaving => "a node of the pair is stopping",
            Refusal::OtherTerm => "the nodes disagree about who is active; wait until tandem status agrees on both",
            Refusal::TimedOut => "the peer did not finish a step in time; see its log and the link's delay",
            Refusal::Withdrawn => "the node that had begun it withdrew",
            Refusal::Apart => "ha-mode is none, so nobody takes over; see tandem ha-mode plan active-standby",
            Refusal::NoSuchMode => "the addresses of a node do not allow this ha-mode; see tandem ha-mode plan",
            Refusal::PeerServes => "the other node serves, too, or did a moment ago; switch to active-standby first",
            Refusal::Other => "the peer has a reason that this version does not know; see its log",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Epoch = Epoch { counter: 0x0102_0304, node: NodeId(0x0506) };

    fn every() -> Vec<Message> {
        vec![
            Message::Request,
            Message::Prepare { term: TERM, urgent: true },
            Message::Ready { term: TERM },
            Message::Refuse { term: TERM, why: Refusal::Withdrawn },
            Message::Take { term: TERM, counter: 9 },
            Message::Taken { epoch: TERM },
            Message::Abort { term: TERM },
            Message::Goodbye,
            Message::Mode {
                step: ModeStep::Refuse(Refusal::PeerServes),
                to: Mode { mode: HaMode::ActiveActive, word: TERM },
            },
            Message::Mode { step: ModeStep::Set, to: Mode { mode: HaMode::None, word: TERM } },
        ]
    }

    #[test]
    fn reads_what_it_wrote_skips_a_tail_and_refuses_a_part() {
        for message in every() {
            let mut octets = Vec::new();
            message.write(&mut octets);
            assert_eq!(Message::read(&octets), Ok(message));
            for len in 0..octets.len() {
                assert_eq!(Message::read(&octets[..len]), Err(NoMessage::Short), "{message:?} cut at {len}");
            }
            octets.push(0xff);
            assert_eq!(Message::read(&octets), Ok(message));
        }
        assert_eq!(Message::read(&[99, 1, 2]), Err(NoMessage::Kind(99)));
    }

    #[test]
    fn octets_stand_still_and_later_reasons_are_kept_apart() {
        let mut octets = Vec::new();
        Message::Refuse { term: TERM, why: Refusal::NotArmed }.write(&mut octets);
        assert_eq!(octets, [4, 1, 2, 3, 4, 5, 6, 2]);
        octets[7] = 200;
        assert_eq!(Message::read(&octets), Ok(Message::Refuse { term: TERM, why: Refusal::Other }));
        assert!(Refusal::ALL.iter().all(|why| Refusal::read(*why as u8) == *why));
    }
}
