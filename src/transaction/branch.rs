//! The two kinds of branch that Tandem writes, and how it knows them again when a response brings them back.
//!
//! An *attempt* branch (initial INVITE) says node, epoch, resource and attempt, and is stored literally. A *pure* branch
//! (every in-dialog request) is a function of the request alone, so that every node of a cluster writes the same octets.

use std::fmt;

use crate::base::ResourceId;
use crate::sip::{Message, Method, Via};
use crate::token::{Keys, MAC, Purpose, decode, encode, same};

/// RFC 3261 §8.1.1.7: the magic cookie.
pub const COOKIE: &[u8] = b"z9hG4bK";

const ATTEMPT: u8 = 0x11;
const PURE: u8 = 0x21;
const ATTEMPT_FIELDS: usize = 21;
const ATTEMPT_OCTETS: usize = ATTEMPT_FIELDS + MAC;
const PURE_OCTETS: usize = 2 + MAC;
const LONGEST: usize = 7 + 44;

/// A branch parameter, cookie included.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Branch {
    text: [u8; LONGEST],
    len: u8,
}

impl Branch {
    /// Its octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len as usize]
    }

    /// A branch that this or another node minted, as it stands in a record; `None` if none of ours is so long.
    pub fn literal(text: &[u8]) -> Option<Self> {
        let mut branch = Branch { text: [0; LONGEST], len: text.len() as u8 };
        branch.text.get_mut(..text.len())?.copy_from_slice(text);
        Some(branch)
    }

    fn seal(octets: &[u8]) -> Self {
        struct Fill<'a>(&'a mut Branch);
        impl Extend<u8> for Fill<'_> {
            fn extend<I: IntoIterator<Item = u8>>(&mut self, letters: I) {
                for letter in letters {
                    self.0.text[self.0.len as usize] = letter;
                    self.0.len += 1;
                }
            }
        }
        let mut branch = Branch { text: [0; LONGEST], len: COOKIE.len() as u8 };
        branch.text[..COOKIE.len()].copy_from_slice(COOKIE);
        encode(octets, &mut Fill(&mut branch));
        branch
    }
}

impl fmt::Debug for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

/// What an attempt branch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Who sent the INVITE.
    pub node: u16,
    /// In which epoch; a routing hint.
    pub epoch: u32,
    /// Which attempt of its INVITE.
    pub index: u8,
    /// To which resource.
    pub resource: ResourceId,
    /// Hash over the incoming (Request-URI, Route), for loop detection (RFC 5393). Opaque to verification.
    pub spiral: u32,
}

/// A branch of ours that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// Of an initial INVITE.
    Attempt(Attempt),
    /// Of an in-dialog request.
    Pure,
}

/// The parts of a request's upstream hop that every response to it brings back.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// Branch of the Via below ours; empty if it has none (RFC 2543).
    pub branch: &'a [u8],
    /// Its sent-by as written.
    pub sent_by: &'a [u8],
    /// Call-ID.
    pub call_id: &'a [u8],
    /// CSeq number; not the method, which a CANCEL changes.
    pub cseq: u32,
}

impl<'a> Bound<'a> {
    /// Of a message whose hop above us is described by `via`.
    pub fn new(message: &Message<'a>, via: &Via<'a>) -> Self {
        Bound {
            branch: via.branch.unwrap_or_default(),
            sent_by: via.sent_by,
            call_id: message.call_id(),
            cseq: message.cseq().number,
        }
    }
}

/// Mints the branch of an attempt.
pub fn attempt(keys: &Keys, fields: &Attempt, bound: &Bound<'_>) -> Branch {
    let mut octets = [0; ATTEMPT_OCTETS];
    octets[0] = ATTEMPT;
    octets[1] = keys.id();
    octets[2..4].copy_from_slice(&fields.node.to_be_bytes());
    octets[4..8].copy_from_slice(&fields.epoch.to_be_bytes());
    octets[8] = fields.index;
    octets[9..17].copy_from_slice(&fields.resource.0.to_be_bytes());
    octets[17..21].copy_from_slice(&fields.spiral.to_be_bytes());
    if let Some(mac) = attempt_mac(keys, keys.id(), &octets[..ATTEMPT_FIELDS], bound) {
        octets[ATTEMPT_FIELDS..].copy_from_slice(&mac);
    }
    Branch::seal(&octets)
}

/// Mints the branch of an in-dialog request that leaves from `identity`, under the key that its Route token names.
pub fn pure(keys: &Keys, key: u8, identity: &str, request: &Message<'_>) -> Branch {
    let mut octets = [0; PURE_OCTETS];
    octets[0] = PURE;
    octets[1] = key;
    if let Some(mac) = pure_mac(keys, key, identity, request, &request.via()) {
        octets[2..].copy_from_slice(&mac);
    }
    Branch::seal(&octets)
}

/// Knows a branch of ours in a response again, if its MAC is good. `identity` is the sent-by of the response's top Via.
pub fn recognise(keys: &Keys, identity: &str, response: &Message<'_>) -> Option<Recognised> {
    let next = response.next_via()?;
    let text = response.via().branch?.strip_prefix(COOKIE)?;
    if let Some(octets) = decode::<PURE_OCTETS>(text).filter(|o| o[0] == PURE) {
        let mac = pure_mac(keys, octets[1], identity, response, &next)?;
        return same(&mac, &octets[2..]).then_some(Recognised::Pure);
    }
    let octets = decode::<ATTEMPT_OCTETS>(text).filter(|o| o[0] == ATTEMPT)?;
    let mac = attempt_mac(keys, octets[1], &octets[..ATTEMPT_FIELDS], &Bound::new(response, &next))?;
    same(&mac, &octets[ATTEMPT_FIELDS..]).then(|| Recognised::Attempt(fields(&octets)))
}

/// What an attempt branch says, without asking whether it is ours: for loop detection, where a false answer costs the
/// forger his own call.
pub fn peek_attempt(branch: &[u8]) -> Option<Attempt> {
    let octets = decode::<ATTEMPT_OCTETS>(branch.strip_prefix(COOKIE)?)?;
    (octets[0] == ATTEMPT).then(|| fields(&octets))
}

fn fields(octets: &[u8; ATTEMPT_OCTETS]) -> Attempt {
    let mut resource = [0; 8];
    resource.copy_from_slice(&octets[9..17]);
    Attempt {
        node: u16::from_be_bytes([octets[2], octets[3]]),
        epoch: u32::from_be_bytes([octets[4], octets[5], octets[6], octets[7]]),
        index: octets[8],
        resource: ResourceId(u64::from_be_bytes(resource)),
        spiral: u32::from_be_bytes([octets[17], octets[18], octets[19], octets[20]]),
    }
}

fn attempt_mac(keys: &Keys, key: u8, fields: &[u8], bound: &Bound<'_>) -> Option<[u8; MAC]> {
    let parts = [fields, bound.branch, bound.sent_by, bound.call_id, &bound.cseq.to_be_bytes()];
    keys.mac(Purpose::Branch, key, &parts)
}

fn pure_mac(keys: &Keys, key: u8, identity: &str, message: &Message<'_>, upstream: &Via<'_>) -> Option<[u8; MAC]> {
    let bound = Bound::new(message, upstream);
    let cseq = message.cseq();
    // A CANCEL and the ACK to a non-2xx carry the branch of their INVITE.
    let method = match cseq.method {
        Method::Cancel | Method::Ack => Method::Invite,
        other => other,
    };
    let parts = [
        identity.as_bytes(),
        bound.branch,
        bound.sent_by,
        bound.call_id,
        message.from_tag(),
        message.to_tag().unwrap_or_default(),
        &bound.cseq.to_be_bytes(),
        method.as_bytes(),
    ];
    keys.mac(Purpose::Branch, key, &parts)
}
