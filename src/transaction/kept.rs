//! Octets that outlive the receive buffer, copied once into a buffer of a size class that is used again and again.

use std::ops::Deref;

use bytes::{Bytes, BytesMut};

/// Buffer sizes. A steady load finds every size it needs in the pool.
const CLASSES: [usize; 15] =
    [128, 256, 384, 512, 768, 1_024, 1_536, 2_048, 3_072, 4_096, 8_192, 16_384, 32_768, 65_536, 131_072];

/// Free buffers held per class; beyond that they go back to the allocator.
const FREE: usize = 4_096;

/// A copy of a message. Give it back to its [`Pool`] when it is not needed any more.
#[derive(Debug)]
#[must_use]
pub struct Kept {
    bytes: Bytes,
    len: u32,
}

impl Deref for Kept {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

/// Free buffers, one list per size class.
#[derive(Debug)]
pub struct Pool {
    free: [Vec<BytesMut>; CLASSES.len()],
    /// Buffers that exist per class, lent or free.
    made: [usize; CLASSES.len()],
}

impl Default for Pool {
    fn default() -> Self {
        Self { free: std::array::from_fn(|_| Vec::new()), made: [0; CLASSES.len()] }
    }
}

impl Pool {
    /// Copies `octets`.
    pub fn keep(&mut self, octets: &[u8]) -> Kept {
        let class = CLASSES.iter().position(|size| octets.len() <= *size).unwrap_or(CLASSES.len() - 1);
        let size = CLASSES[class].max(octets.len());
        let mut buffer = match self.free[class].pop() {
            Some(buffer) if buffer.len() == size => buffer,
            _ => self.make(class, size),
        };
        buffer[..octets.len()].copy_from_slice(octets);
        // A full buffer freezes and thaws without an allocation.
        Kept { bytes: buffer.freeze(), len: octets.len() as u32 }
    }

    /// Makes more buffers, in proportion to those that exist: a new peak of a steady load finds some to spare.
    fn make(&mut self, class: usize, size: usize) -> BytesMut {
        let spare = (self.made[class] / 8).min(FREE);
        self.made[class] += 1 + spare;
        self.free[class].extend((0..spare).map(|_| BytesMut::zeroed(CLASSES[class])));
        BytesMut::zeroed(size)
    }

    /// Takes a buffer back.
    pub fn give_back(&mut self, kept: Kept) {
        let class = CLASSES.iter().position(|size| *size == kept.bytes.len());
        if let Ok(buffer) = kept.bytes.try_into_mut()
            && let Some(class) = class
            && self.free[class].len() < FREE
        {
            self.free[class].push(buffer);
        } else if let Some(class) = class {
            self.made[class] = self.made[class].saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again() {
        let mut pool = Pool::default();
        let kept = pool.keep(b"INVITE");
        let place = kept.as_ptr();
        assert_eq!(&*kept, b"INVITE");
        pool.give_back(kept);
        let again = pool.keep(b"BYE");
        assert_eq!((&*again, again.as_ptr()), (&b"BYE"[..], place));
    }

    #[test]
    fn every_size_up_to_the_largest_message_fits() {
        let mut pool = Pool::default();
        for size in [0, 1, 128, 129, 65_535, 140_000] {
            let kept = pool.keep(&vec![7; size]);
            assert_eq!(kept.len(), size);
            pool.give_back(kept);
        }
    }
}
