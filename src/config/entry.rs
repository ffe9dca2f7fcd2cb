//! Keys that are one text or a list of texts, each of which is parsed.

use std::net::IpAddr;

use toml::de::DeValue;

use super::reader::{Reader, Section, Value, kind, shorten};

/// What a text is not, and how to write it.
pub(super) type Refused = (&'static str, &'static str);

/// The entries of a key that is one text or a list of texts; their places are remembered.
pub(super) fn entries<T>(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &str,
    most: usize,
    parse: impl Fn(&str) -> Result<T, Refused>,
) -> Vec<T> {
    let mut found = Vec::new();
    let Some(value) = section.value(key) else { return found };
    for value in one_or_more(reader, section, key, value, most) {
        let Some(entry) = read(reader, section, key, value, &parse) else { continue };
        let place = reader.place(value.span().start);
        reader.places.put(section.full(&format!("{key}[{}]", found.len())), place);
        found.push(entry);
    }
    found
}

/// The one value, or those of the list, at most `most`; none if there are too many.
pub(super) fn one_or_more<'a>(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &str,
    value: &'a Value<'a>,
    most: usize,
) -> &'a [Value<'a>] {
    let DeValue::Array(list) = value.get_ref() else { return std::slice::from_ref(value) };
    if list.is_empty() || list.len() > most {
        let cause = format!("has {} entries; allowed is 1 to {most}", list.len());
        reader.refuse(section, key, value.span().start, &cause, None);
        return &[];
    }
    list
}

/// One text, parsed; what it is not is noted.
pub(super) fn read<T>(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &str,
    value: &Value<'_>,
    parse: impl Fn(&str) -> Result<T, Refused>,
) -> Option<T> {
    let (shown, refused) = match value.get_ref().as_str() {
        Some(text) => match parse(text) {
            Ok(read) => return Some(read),
            Err(refused) => (format!("\"{}\"", shorten(text)), refused),
        },
        None => (String::from(kind(value.get_ref())), ("is not in double quotes", "put it there")),
    };
    let cause = format!("has the entry {shown}, which {}", refused.0);
    reader.refuse(section, key, value.span().start, &cause, Some(refused.1.into()));
    None
}

/// Refuses what is not the address of one host, and an IPv4 address in the clothes of an IPv6 one.
pub(super) fn single(ip: IpAddr, form: &'static str) -> Result<(), Refused> {
    let one = !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::from([255; 4]) && ip == ip.to_canonical();
    if one { Ok(()) } else { Err(("is not the address of one host", form)) }
}
