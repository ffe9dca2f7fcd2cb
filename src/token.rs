//! Keys and sealed octet strings: what Tandem writes into branches and Route URIs and must recognise when it comes back.
//! Two keys may be live at once (rotation: both are accepted, the first stamps).
#![forbid(unsafe_code)]

/// Octets of every MAC in a message: 96 bits.
pub const MAC: usize = 12;

/// Octets of every MAC between nodes: 128 bits.
pub const TAG: usize = 16;

/// What a key is for. Keys of different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Via branches.
    Branch,
    /// Record-Route tokens and leg ids.
    Route,
    /// Everything that nodes say to each other.
    Link,
}

/// The live keys of a node, first one stamps. At most two.
#[derive(Clone)]
pub struct Keys {
    keys: Vec<Key>,
    bucket: [u8; 32],
}

#[derive(Clone)]
struct Key {
    id: u8,
    branch: [u8; 32],
    route: [u8; 32],
    link: [u8; 32],
}

/// A key of one direction of one stream between two nodes. Its octets never leave the process.
#[derive(Clone)]
pub struct SessionKey([u8; 32]);

/// Why [`Keys::new`] refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// No secret at all.
    None,
    /// More than two secrets.
    TooMany,
    /// Two secrets whose key ids are equal: a token could not say which one sealed it.
    SameId,
}

impl Keys {
    /// Derives the keys from the cluster's secrets (first one stamps) and the bucket key from the cluster's name, which
    /// rotation never changes.
    pub fn new(cluster_name: &str, secrets: &[&[u8]]) -> Result<Self, KeyError> {
        match secrets.len() {
            0 => return Err(KeyError::None),
            1 | 2 => {}
            _ => return Err(KeyError::TooMany),
        }
        let keys: Vec<Key> = secrets.iter().map(|s| Key::derive(s)).collect();
        if keys.len() == 2 && keys[0].id == keys[1].id {
            return Err(KeyError::SameId);
        }
        Ok(Self { keys, bucket: blake3::derive_key("tandem 1 bucket", cluster_name.as_bytes()) })
    }

    /// The id of the key that stamps.
    pub fn id(&self) -> u8 {
        self.keys[0].id
    }

    /// Whether a live key has this id.
    pub fn knows(&self, id: u8) -> bool {
        self.keys.iter().any(|k| k.id == id)
    }

    /// A keyed hash of `parts`, each preceded by its length, under the key `id`; `None` when no live key has that id.
    pub fn mac(&self, purpose: Purpose, id: u8, parts: &[&[u8]]) -> Option<[u8; MAC]> {
        let key = self.keys.iter().find(|k| k.id == id)?;
        let hash = keyed(key.of(purpose), parts);
        let mut mac = [0; MAC];
        mac.copy_from_slice(&hash.as_bytes()[..MAC]);
        Some(mac)
    }

    /// Like [`Keys::mac`] under the Link key, with [`TAG`] octets.
    pub fn link_tag(&self, id: u8, parts: &[&[u8]]) -> Option<[u8; TAG]> {
        let key = self.keys.iter().find(|k| k.id == id)?;
        Some(tag(&keyed(&key.link, parts)))
    }

    /// The session key that `parts` name, under the Link key `id`; `None` when no live key has that id.
    pub fn session(&self, id: u8, parts: &[&[u8]]) -> Option<SessionKey> {
        let key = self.keys.iter().find(|k| k.id == id)?;
        Some(SessionKey(*keyed(&key.link, parts).as_bytes()))
    }

    /// 64 bits of a keyed hash of `parts` under the stamping Route key: leg ids, which every node mints alike.
    pub fn id64(&self, parts: &[&[u8]]) -> u64 {
        first64(&keyed(&self.keys[0].route, parts))
    }

    /// The keyed hash of what calls of a group have in common, under a key that only the cluster's name determines: a
    /// change of secrets moves no call.
    pub fn pin_key(&self, group: &str, shown: &[u8]) -> crate::base::PinKey {
        crate::base::PinKey(first64(&keyed(&self.bucket, &[b"pin", group.as_bytes(), shown])))
    }

    /// The keyed hash of a Call-ID, under a key that only the cluster's name determines.
    pub fn call_key(&self, call_id: &[u8]) -> crate::base::CallKey {
        crate::base::CallKey(first64(&blake3::keyed_hash(&self.bucket, call_id)))
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|k| k.id)).finish()
    }
}

impl Key {
    fn derive(secret: &[u8]) -> Self {
        Key {
            id: blake3::derive_key("tandem 1 key id", secret)[0],
            branch: blake3::derive_key("tandem 1 branch", secret),
            route: blake3::derive_key("tandem 1 route", secret),
            link: blake3::derive_key("tandem 1 link", secret),
        }
    }

    fn of(&self, purpose: Purpose) -> &[u8; 32] {
        match purpose {
            Purpose::Branch => &self.branch,
            Purpose::Route => &self.route,
            Purpose::Link => &self.link,
        }
    }
}

impl SessionKey {
    /// A keyed hash of `parts`, each preceded by its length.
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; TAG] {
        tag(&keyed(&self.0, parts))
    }
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey")
    }
}

/// 128 bits of a keyed hash of `parts`: a name for something that lives in this process only.
pub fn fingerprint(key: &[u8; 32], parts: &[&[u8]]) -> u128 {
    let hash = keyed(key, parts);
    let (words, _) = hash.as_bytes().as_chunks::<16>();
    u128::from_le_bytes(words[0])
}

/// Whether two MACs are equal, in time that does not depend on where they differ.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

/// Appends the text of `octets`: base64url (RFC 4648 §5, no padding) with `!` and `~` for `Q` and `q`. All of it may
/// stand in a branch and in a URI parameter, and no text can spell `CSeq`: neighbours that look for that word anywhere
/// in a message would misread one call in tens of thousands.
pub fn encode(octets: &[u8], text: &mut impl Extend<u8>) {
    for chunk in octets.chunks(3) {
        let word = chunk.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        text.extend((0..=chunk.len()).map(|n| ALPHABET[(word >> (18 - 6 * n)) as usize & 63]));
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOP!RSTUVWXYZabcdefghijklmnop~rstuvwxyz0123456789-_";

/// The octets of a text of exactly `N` octets; `None` for any other length, letter, or for a spelling that
/// [`encode`] would not have written.
pub fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != (N * 4).div_ceil(3) {
        return None;
    }
    let mut octets = [0; N];
    let (mut word, mut bits, mut filled) = (0u32, 0, 0);
    for &letter in text {
        word = word << 6 | u32::from(sextet(letter)?);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            octets[filled] = (word >> bits) as u8;
            filled += 1;
            word &= (1 << bits) - 1;
        }
    }
    (word == 0).then_some(octets)
}

fn sextet(letter: u8) -> Option<u8> {
    match letter {
        b'Q' | b'q' => None,
        b'!' => Some(16),
        b'~' => Some(42),
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

fn keyed(key: &[u8; 32], parts: &[&[u8]]) -> blake3::Hash {
    let octets: usize = parts.iter().map(|part| 4 + part.len()).sum();
    if octets > GATHERED {
        let mut hasher = blake3::Hasher::new_keyed(key);
        for part in parts {
            hasher.update(&(part.len() as u32).to_le_bytes()).update(part);
        }
        return hasher.finalize();
    }
    // Short inputs, the usual case, are gathered first: one call costs less than two updates per part.
    let mut gathered = [0; GATHERED];
    let mut rest = &mut gathered[..];
    for part in parts {
        let (head, tail) = rest.split_at_mut(4 + part.len());
        head[..4].copy_from_slice(&(part.len() as u32).to_le_bytes());
        head[4..].copy_from_slice(part);
        rest = tail;
    }
    blake3::keyed_hash(key, &gathered[..octets])
}

/// Octets that are hashed in one call.
const GATHERED: usize = 320;

fn tag(hash: &blake3::Hash) -> [u8; TAG] {
    let (words, _) = hash.as_bytes().as_chunks::<TAG>();
    words[0]
}

fn first64(hash: &blake3::Hash) -> u64 {
    let (words, _) = hash.as_bytes().as_chunks::<8>();
    u64::from_be_bytes(words[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_octets_are_one_to_one() {
        let octets: [u8; 30] = std::array::from_fn(|n| (n * 37) as u8);
        let mut text = Vec::new();
        encode(&octets, &mut text);
        assert_eq!(text.len(), 40);
        assert_eq!(decode::<30>(&text), Some(octets));
        let mut short = Vec::new();
        encode(&octets[..14], &mut short);
        assert_eq!(short.len(), 19);
        let last = short.pop().unwrap();
        short.push(if last == b'_' { b'-' } else { last + 1 });
        assert_eq!(decode::<14>(&short), None, "a second spelling of the same octets is refused");
    }

    #[test]
    fn every_letter_has_one_meaning_and_none_is_a_q() {
        for value in 0..64u8 {
            assert_eq!(sextet(ALPHABET[usize::from(value)]), Some(value));
        }
        assert_eq!((0..=255).filter(|letter| sextet(*letter).is_some()).count(), 64);
        assert!(!ALPHABET.to_ascii_lowercase().contains(&b'q'));
    }

    #[test]
    fn parts_are_framed_by_length() {
        let keys = Keys::new("c", &[b"s"]).unwrap();
        let mac = |parts: &[&[u8]]| keys.mac(Purpose::Branch, keys.id(), parts).unwrap();
        assert_ne!(mac(&[b"ab", b"c"]), mac(&[b"a", b"bc"]));
        assert_ne!(mac(&[b"ab"]), keys.mac(Purpose::Route, keys.id(), &[b"ab"]).unwrap());
        assert_ne!(mac(&[b"ab"]), keys.mac(Purpose::Link, keys.id(), &[b"ab"]).unwrap());
    }

    #[test]
    fn long_parts_are_framed_like_short_ones() {
        let long = [b'x'; 400];
        let mut hasher = blake3::Hasher::new_keyed(&[7; 32]);
        hasher.update(&400u32.to_le_bytes()).update(&long);
        assert_eq!(keyed(&[7; 32], &[&long]), hasher.finalize());
        hasher.reset();
        hasher.update(&2u32.to_le_bytes()).update(b"ab").update(&0u32.to_le_bytes());
        assert_eq!(keyed(&[7; 32], &[b"ab", b""]), hasher.finalize());
    }

    #[test]
    fn rotation_accepts_both_and_keeps_the_buckets() {
        let old = Keys::new("c", &[b"one"]).unwrap();
        let both = Keys::new("c", &[b"two", b"one"]).unwrap();
        assert!(both.knows(old.id()));
        assert_eq!(old.mac(Purpose::Route, old.id(), &[b"x"]), both.mac(Purpose::Route, old.id(), &[b"x"]));
        assert_eq!(old.link_tag(old.id(), &[b"x"]), both.link_tag(old.id(), &[b"x"]));
        assert_ne!(old.link_tag(old.id(), &[b"x"]), both.link_tag(both.id(), &[b"x"]));
        let session = |keys: &Keys| keys.session(old.id(), &[b"x"]).unwrap().tag(&[b"y"]);
        assert_eq!(session(&old), session(&both));
        assert!(old.session(both.id(), &[b"x"]).is_none());
        assert_eq!(old.call_key(b"id"), both.call_key(b"id"));
        assert_eq!(Keys::new("c", &[b"one", b"one"]).err(), Some(KeyError::SameId));
    }
}
