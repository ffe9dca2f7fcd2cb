//! Where a message ends on a stream (RFC 3261 §18.3), keep-alives (RFC 5626 §3.5.1), and what is no SIP at all.
//!
//! Content-Length alone decides, so everything that could make two readers disagree about it is refused here: names and
//! folds out of grammar, bare CR or LF, two lengths. All other faults of a message leave the framing sound.

use crate::base::limits;

use super::header::Name;
use super::line::Line;
use super::parse::content_length;
use super::scan::Malformed;

/// What the octets at the front of a stream are. Sans-IO and resumable: every octet is looked at a bounded number of
/// times however the input is cut, and the answer does not depend on the cuts.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    /// Where the line starts that is not judged yet.
    line: usize,
    /// How far that line was searched for its end.
    scanned: usize,
    /// Whether the start line was judged.
    started: bool,
    length: Option<u16>,
    fault: Option<Malformed>,
    /// The last frame was a CRLF that may be the first half of a ping.
    half_ping: bool,
    frame: Option<Frame>,
}

/// What stands at the front of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// So many octets are one message.
    Message(usize),
    /// So many octets complete a keep-alive (CRLF CRLF): drop them, answer with one CRLF (RFC 5626 §3.5.1).
    Ping(usize),
    /// So many octets are a lone CRLF, a pong or a gap between messages: drop them.
    Noise(usize),
    /// More octets are needed.
    Incomplete,
}

/// The framing is lost: answer if possible, then close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramingError {
    /// Why.
    pub reason: Malformed,
    /// So many octets are the header section as far as it could be read: what an answer is made from.
    /// 0: nothing to answer.
    pub head: usize,
}

impl Framer {
    /// A framer at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// What stands at the front of `buffered`: all octets since the last frame that was dropped. Asking again without
    /// dropping gives the same answer.
    pub fn next(&mut self, buffered: &[u8]) -> Result<Frame, FramingError> {
        if let Some(frame) = self.frame {
            return Ok(frame);
        }
        if !self.started {
            match buffered {
                [] | [b'\r'] => return Ok(Frame::Incomplete),
                [b'\r', b'\n', ..] if self.half_ping => return Ok(self.found(Frame::Ping(2))),
                [b'\r', b'\n', ..] => return Ok(self.found(Frame::Noise(2))),
                // Every start line begins with a token; STUN, TLS and zeros do not.
                [first, ..] if super::scan::token_end(&[*first], 0) == 0 => return Err(lost(Malformed::StartLine, 0)),
                _ => {}
            }
        }
        self.header_section(buffered)
    }

    /// The caller dropped the octets of the last frame.
    pub fn consumed(&mut self) {
        let half_ping = self.frame == Some(Frame::Noise(2));
        *self = Framer { half_ping, ..Framer::default() };
    }

    /// Whether a message has begun but not ended.
    pub fn is_waiting(&self) -> bool {
        self.scanned > 0 && self.frame.is_none()
    }

    fn found(&mut self, frame: Frame) -> Frame {
        self.frame = Some(frame);
        frame
    }

    /// Judges line by line until the empty one. A fault in a line is told when the section has ended, so that the
    /// answer can be made from all of it; a control character at once, because then no end may ever come.
    fn header_section(&mut self, buffered: &[u8]) -> Result<Frame, FramingError> {
        let bytes = &buffered[..buffered.len().min(limits::MESSAGE)];
        loop {
            let end = match self.line_end(bytes)? {
                Some(end) => end,
                None if buffered.len() > limits::MESSAGE => return Err(lost(Malformed::TooLarge, self.line)),
                None => return Ok(Frame::Incomplete),
            };
            if self.started && end == self.line {
                return self.body(buffered.len(), end + 2);
            }
            if self.started {
                self.field(&bytes[..end + 2]);
            } else if !plausible(&bytes[self.line..end]) {
                return Err(lost(Malformed::StartLine, 0));
            }
            self.started = true;
            self.line = end + 2;
            self.scanned = self.line;
        }
    }

    /// The CRLF that ends the current line with its continuations; `None` as long as that cannot be known.
    fn line_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, FramingError> {
        loop {
            let Some(offset) = memchr::memchr3(b'\r', b'\n', 0, &bytes[self.scanned..]) else {
                self.scanned = bytes.len();
                return Ok(None);
            };
            let at = self.scanned + offset;
            self.scanned = at;
            match bytes[at..] {
                // Only a line with something in it can go on in the next one.
                [b'\r', b'\n', ..] if at == self.line => return Ok(Some(at)),
                [b'\r', b'\n', b' ' | b'\t', ..] if self.started => self.scanned = at + 3,
                [b'\r', b'\n', _, ..] => return Ok(Some(at)),
                [b'\r', b'\n'] if !self.started => return Ok(Some(at)),
                [b'\r'] | [b'\r', b'\n'] => return Ok(None),
                // Whether it stands in a quoted string is for the parser to find out.
                [0, ..] if at > self.line && bytes[at - 1] == b'\\' => self.scanned = at + 1,
                _ => return Err(lost(Malformed::ControlCharacter, self.line)),
            }
        }
    }

    /// Judges the header field in the current line; `bytes` ends with the line's CRLF.
    fn field(&mut self, bytes: &[u8]) {
        let fault = match bytes[self.line] {
            b' ' | b'\t' => Err(Malformed::HeaderFold),
            _ => match Line::read(bytes, self.line) {
                Ok(line) if Name::of(&bytes[self.line..line.name_end]) == Name::ContentLength => {
                    self.length(line.value.of(bytes))
                }
                Ok(_) => Ok(()),
                Err(fault) => Err(fault),
            },
        };
        if let Err(fault) = fault {
            self.fault.get_or_insert(fault);
        }
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Malformed> {
        match self.length {
            None => self.length = Some(content_length(value)?),
            Some(_) => return Err(Malformed::ContentLength),
        }
        Ok(())
    }

    fn body(&mut self, buffered: usize, head: usize) -> Result<Frame, FramingError> {
        if let Some(reason) = self.fault {
            return Err(lost(reason, head));
        }
        // RFC 3261 §18.3: on a stream the length must be there.
        let Some(length) = self.length else { return Err(lost(Malformed::NoContentLength, head)) };
        let end = head + usize::from(length);
        match end {
            _ if end > limits::MESSAGE => Err(lost(Malformed::TooLarge, head)),
            _ if end > buffered => {
                // Come back to the empty line, and at once, when more octets are there.
                self.scanned = self.line;
                Ok(Frame::Incomplete)
            }
            _ => Ok(self.found(Frame::Message(end))),
        }
    }
}

fn lost(reason: Malformed, head: usize) -> FramingError {
    FramingError { reason, head }
}

/// Whether a line can be meant as a start line of SIP. Its faults are the parser's to tell.
fn plausible(line: &[u8]) -> bool {
    line.starts_with(b"SIP/") || memchr::memmem::find(line, b" SIP/").is_some()
}

/// What a datagram is that is no SIP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noise {
    /// Nothing but CR and LF (RFC 5626 §3.5.1), nothing but zeros (some NAT devices are fed so), or nothing at all.
    KeepAlive,
    /// A STUN message (RFC 5626 §3.5.2).
    Stun,
}

/// Whether a datagram is keep-alive traffic: not SIP, but no fault either.
pub fn noise(datagram: &[u8]) -> Option<Noise> {
    let all = |wanted: &[u8]| datagram.iter().all(|octet| wanted.contains(octet));
    match datagram {
        // RFC 8489 §5: two zero bits, then type, length behind the header of 20 octets.
        [0 | 1, _, high, low, ..] if datagram.len() == 20 + usize::from(u16::from_be_bytes([*high, *low])) => {
            Some(Noise::Stun)
        }
        _ if all(b"\r\n") || all(&[0]) => Some(Noise::KeepAlive),
        _ => None,
    }
}
