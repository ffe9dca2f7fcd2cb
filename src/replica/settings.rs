//! The configuration as nodes show it to each other: keys and values, each ended by a zero octet.

/// Octets of one telling. What does not fit is left out: differences in it are told by the digest alone.
pub const LIMIT: usize = 256 * 1024;

/// Appends as many of the lines as fit.
pub fn write<'a>(payload: &mut Vec<u8>, lines: impl Iterator<Item = (&'a str, &'a str)>) {
    let start = payload.len();
    for (key, value) in lines {
        if payload.len() - start + key.len() + value.len() + 2 > LIMIT {
            return;
        }
        for part in [key, value] {
            payload.extend_from_slice(part.as_bytes());
            payload.push(0);
        }
    }
}

/// The lines of a payload, as far as they are sound.
pub fn read(payload: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let mut parts = payload.split(|octet| *octet == 0);
    std::iter::from_fn(move || {
        let (key, value) = (parts.next()?, parts.next()?);
        Some((std::str::from_utf8(key).ok()?, std::str::from_utf8(value).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back() {
        let lines = [("a.b", "c d"), ("e", "")];
        let mut payload = Vec::new();
        write(&mut payload, lines.into_iter());
        assert_eq!(read(&payload).collect::<Vec<_>>(), lines);
        assert_eq!(read(b"").count(), 0);
        assert_eq!(read(b"half").count(), 0);
        assert_eq!(read(b"\xff\0x\0").count(), 0);
    }

    #[test]
    fn what_does_not_fit_is_left_out_whole() {
        let long = "x".repeat(LIMIT / 3);
        let mut payload = vec![7];
        write(&mut payload, (0..4).map(|_| ("k", long.as_str())));
        assert_eq!(read(&payload[1..]).collect::<Vec<_>>(), [("k", long.as_str()); 2]);
    }
}
