//! SHA-256 (FIPS 180-4), to know that a corpus file is the one that its outcome was pinned for.

/// The digest of `data` in hexadecimal.
pub fn hex(data: &[u8]) -> String {
    let mut state = fractions(2, 8);
    let rounds = fractions(3, 64);
    let mut padded = data.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend_from_slice(&(data.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        compress(&mut state, block, &rounds);
    }
    state.iter().map(|word| format!("{word:08x}")).collect()
}

/// The first 32 bits of the fractional parts of the square or cube roots of the first primes.
fn fractions(root: u32, count: usize) -> Vec<u32> {
    (2u128..).filter(|n| (2..*n).all(|d| n % d != 0)).take(count).map(|prime| fraction(prime, root)).collect()
}

fn fraction(prime: u128, root: u32) -> u32 {
    // The largest x with x^root <= prime * 2^(32 * root): its low 32 bits are the fraction.
    let target = prime << (32 * root);
    let (mut low, mut high) = (0u128, 1 << 40);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if middle.checked_pow(root).is_some_and(|power| power <= target) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low as u32
}

fn compress(state: &mut [u32], block: &[u8], rounds: &[u32]) {
    let mut words: Vec<u32> = block.chunks_exact(4).map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]])).collect();
    for n in 16..64 {
        let (a, b) = (words[n - 15], words[n - 2]);
        let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
        let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
        words.push(words[n - 16].wrapping_add(s0).wrapping_add(words[n - 7]).wrapping_add(s1));
    }
    let mut v: Vec<u32> = state.to_vec();
    for n in 0..64 {
        let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
        let choice = (v[4] & v[5]) ^ (!v[4] & v[6]);
        let t1 = v[7].wrapping_add(s1).wrapping_add(choice).wrapping_add(rounds[n]).wrapping_add(words[n]);
        let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
        let majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        v.rotate_right(1);
        v[4] = v[4].wrapping_add(t1);
        v[0] = t1.wrapping_add(s0.wrapping_add(majority));
    }
    state.iter_mut().zip(v).for_each(|(s, w)| *s = s.wrapping_add(w));
}

#[test]
fn the_digest_of_abc_is_known() {
    assert_eq!(hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}
