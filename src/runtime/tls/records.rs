//! Where one TLS record ends and the next begins: so that octets which complete nothing have a deadline.

/// Octets of a record's head: type, version, length (RFC 8446 §5.1).
const HEAD: usize = 5;

/// Follows the framing of records; their content is not looked at.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Octets of the head so far.
    head: usize,
    /// Length of the body, as far as it is known.
    length: usize,
    /// Octets of the body to come.
    body: usize,
}

impl Records {
    /// Octets that came in.
    pub fn feed(&mut self, mut octets: &[u8]) {
        while let Some((&first, rest)) = octets.split_first() {
            if self.body > 0 {
                let passed = self.body.min(octets.len());
                self.body -= passed;
                octets = &octets[passed..];
                continue;
            }
            match self.head {
                3 => self.length = usize::from(first) << 8,
                4 => self.length |= usize::from(first),
                _ => {}
            }
            self.head += 1;
            if self.head == HEAD {
                (self.head, self.body) = (0, self.length);
            }
            octets = rest;
        }
    }

    /// Whether a record has begun and is not complete.
    pub fn inside(&self) -> bool {
        self.head > 0 || self.body > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_complete_with_its_last_octet() {
        let octets = [&[23, 3, 3, 1, 2][..], &[7; 258], &[22, 3, 3, 0, 0], &[23, 3, 3, 0, 1, 9]].concat();
        let ends = [0, 263, 268, 274];
        for cut in [1, 3, 274] {
            let mut records = Records::default();
            let mut at = 0;
            for piece in octets.chunks(cut) {
                records.feed(piece);
                at += piece.len();
                assert_eq!(records.inside(), !ends.contains(&at), "after {at} octets");
            }
        }
    }
}
