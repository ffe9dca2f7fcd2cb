//! The token in our Record-Route URI: which leg, on which resource, whose route set. Sealed over Call-ID and identity,
//! so that it is worth nothing in another dialog or at another address.

use crate::base::{LegId, ResourceId};
use crate::token::{Keys, MAC, Purpose, decode, encode, same};

/// The URI parameter that carries it.
pub const PARAM: &str = "tk";
/// Letters of a token.
pub const LETTERS: usize = 40;

const FIELDS: usize = 18;
const OCTETS: usize = FIELDS + MAC;
/// Kind 3, version 1, side in the lowest bit.
const KIND: u8 = 0x30 | 0x02;

/// Whose route set has the URI first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The caller's: requests towards the resource consume it.
    Caller,
    /// The resource's: requests towards the caller consume it.
    Resource,
}

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteToken {
    /// Whose route set has it first.
    pub side: Side,
    /// The leg.
    pub leg: LegId,
    /// Where the leg lives.
    pub resource: ResourceId,
    /// The key that sealed it.
    pub key: u8,
}

impl RouteToken {
    /// Appends the token's text, sealed for this dialog and identity.
    pub fn seal(&self, keys: &Keys, call_id: &[u8], identity: &str, text: &mut impl Extend<u8>) {
        let mut octets = [0; OCTETS];
        octets[0] = KIND | (self.side == Side::Resource) as u8;
        octets[1] = self.key;
        octets[2..10].copy_from_slice(&self.leg.0.to_be_bytes());
        octets[10..18].copy_from_slice(&self.resource.0.to_be_bytes());
        if let Some(mac) = mac(keys, self.key, &octets[..FIELDS], call_id, identity) {
            octets[FIELDS..].copy_from_slice(&mac);
        }
        encode(&octets, text);
    }

    /// Reads a token; `None` if we did not seal it for this dialog and identity.
    pub fn open(keys: &Keys, call_id: &[u8], identity: &str, text: &[u8]) -> Option<Self> {
        let octets = decode::<OCTETS>(text)?;
        if octets[0] & !1 != KIND {
            return None;
        }
        let expected = mac(keys, octets[1], &octets[..FIELDS], call_id, identity)?;
        if !same(&expected, &octets[FIELDS..]) {
            return None;
        }
        let (words, _) = octets[2..18].as_chunks::<8>();
        Some(RouteToken {
            side: if octets[0] & 1 == 1 { Side::Resource } else { Side::Caller },
            leg: LegId(u64::from_be_bytes(words[0])),
            resource: ResourceId(u64::from_be_bytes(words[1])),
            key: octets[1],
        })
    }
}

fn mac(keys: &Keys, key: u8, fields: &[u8], call_id: &[u8], identity: &str) -> Option<[u8; MAC]> {
    keys.mac(Purpose::Route, key, &[fields, call_id, identity.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::new("tandem", &[b"secret"]).unwrap()
    }

    fn token() -> RouteToken {
        RouteToken { side: Side::Resource, leg: LegId(7), resource: ResourceId(9), key: keys().id() }
    }

    #[test]
    fn a_token_opens_only_in_its_dialog_at_its_address() {
        let mut text = Vec::new();
        token().seal(&keys(), b"call", "192.0.2.1:5060", &mut text);
        assert_eq!(text.len(), LETTERS);
        assert_eq!(RouteToken::open(&keys(), b"call", "192.0.2.1:5060", &text), Some(token()));
        assert_eq!(RouteToken::open(&keys(), b"other", "192.0.2.1:5060", &text), None);
        assert_eq!(RouteToken::open(&keys(), b"call", "192.0.2.2:5060", &text), None);
        let foreign = Keys::new("tandem", &[b"other secret"]).unwrap();
        assert_eq!(RouteToken::open(&foreign, b"call", "192.0.2.1:5060", &text), None);
    }

    #[test]
    fn no_single_letter_can_be_changed() {
        let mut text = Vec::new();
        token().seal(&keys(), b"call", "192.0.2.1:5060", &mut text);
        for n in 0..text.len() {
            let mut forged = text.clone();
            forged[n] = if forged[n] == b'A' { b'B' } else { b'A' };
            assert_eq!(RouteToken::open(&keys(), b"call", "192.0.2.1:5060", &forged), None, "letter {n}");
        }
    }
}
