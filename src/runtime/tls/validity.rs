//! When a certificate of ours expires. Only what a CA gave to the operator is read here; what strangers send is read by
//! webpki.

/// Seconds of the Unix epoch in `notAfter` (RFC 5280 §4.1.2.5). `None` if this is no certificate.
pub(super) fn not_after(certificate: &[u8]) -> Option<u64> {
    const SEQUENCE: u8 = 0x30;
    let (certificate, _) = value(certificate, SEQUENCE)?;
    let (mut rest, _) = value(certificate, SEQUENCE)?;
    // Version, if there is one; serial number, signature algorithm, issuer.
    for tag in [0xa0, 0x02, SEQUENCE, SEQUENCE] {
        match value(rest, tag) {
            Some((_, behind)) => rest = behind,
            None if tag == 0xa0 => {}
            None => return None,
        }
    }
    let (validity, _) = value(rest, SEQUENCE)?;
    let (_, behind) = time(validity)?;
    time(behind).map(|(time, _)| time)
}

/// The value of the first element, which must have this tag, and what stands behind it.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first().filter(|_| first == tag)?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (octets, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (octets.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// UTCTime `YYMMDDHHMMSSZ` or GeneralizedTime `YYYYMMDDHHMMSSZ`.
fn time(der: &[u8]) -> Option<(u64, &[u8])> {
    let (text, rest) = value(der, 0x17).or_else(|| value(der, 0x18))?;
    let digits = text.strip_suffix(b"Z").filter(|d| d.iter().all(u8::is_ascii_digit))?;
    let number = |digits: &[u8]| digits.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0'));
    let (year, digits) = match digits.len() {
        12 => {
            // RFC 5280 §4.1.2.5.1: 50 to 99 are of the last century.
            let two = number(&digits[..2]);
            (if two < 50 { 2000 + two } else { 1900 + two }, &digits[2..])
        }
        14 => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| number(&digits[at..at + 2]));
    let days = days(year, month, day)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second, rest))
}

/// Days from the Unix epoch to a day of the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March end with the leap day.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let since_year_0 = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    // 1970-01-01, counted alike.
    since_year_0.checked_sub(719_468)
}

/// `YYYY-MM-DD` of seconds of the Unix epoch.
pub(super) fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (year_of_era * 365 + year_of_era / 4 - year_of_era / 100);
    let shifted = (day_of_year * 5 + 2) / 153;
    let day = day_of_year - (shifted * 153 + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_seconds_agree() {
        for (year, month, day, days_since, text) in [
            (1970, 1, 1, 0, "1970-01-01"),
            (2000, 2, 29, 11_016, "2000-02-29"),
            (2026, 11, 25, 20_782, "2026-11-25"),
            (2100, 3, 1, 47_541, "2100-03-01"),
        ] {
            assert_eq!(days(year, month, day), Some(days_since), "{text}");
            assert_eq!(date(days_since * 86_400 + 86_399), text);
        }
        assert_eq!((days(1969, 12, 31), days(2026, 13, 1)), (None, None));
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        for bad in [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x03\x30\x01\x00", &[0x30; 64]] {
            assert_eq!(not_after(bad), None);
        }
    }

    #[test]
    fn both_forms_of_time_are_read() {
        let utc = b"\x17\x0d491231235959Z";
        let general = b"\x18\x0f20500101000000Z";
        assert_eq!(time(utc).unwrap().0 + 1, time(general).unwrap().0);
        assert_eq!(time(b"\x17\x0d700101000000Z").unwrap().0, 0);
        assert_eq!(time(b"\x17\x0b7001010000Z").map(|t| t.0), None);
    }
}
