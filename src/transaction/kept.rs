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
}

impl Default for Pool {
    fn default() -> Self {
        Self { free: std::array::from_fn(|_| Vec::new()) }
    }
}

impl Pool {
    /// Copies `octets`.
    pub fn keep(&mut self, octets: &[u8]) -> Kept {
        let class = CLASSES.iter().position(|size| octets.len() <= *size).unwrap_or(CLASSES.len() - 1);
        let size = CLASSES[class].max(octets.len());
        let mut buffer = self.free[class].pop().unwrap_or_else(|| BytesMut::zeroed(size));
        if buffer.len() < octets.len() {
            buffer.resize(octets.len(), 0);
        }
        buffer[..octets.len()].copy_from_slice(octets);
        // A full buffer freezes and thaws without an allocation.
        Kept { bytes: buffer.freeze(), len: octets.len() as u32 }
    }

    /// Takes a buffer back.
    pub fn give_back(&mut self, kept: Kept) {
        if let Ok(buffer) = kept.bytes.try_into_mut()
            && let Some(class) = CLASSES.iter().position(|size| *size == buffer.len())
            && self.free[class].len() < FREE
        {
            self.free[class].push(buffer);
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
