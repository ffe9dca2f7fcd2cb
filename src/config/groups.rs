//! `[[resource-group]]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::keys::GROUP;
use super::reader::{Reader, Section, Value, kind};
use super::resources;
use super::settings::Group;
use crate::balance::{Monitor, PinBy, SchemeName, Terms};

/// The model's service types.
const SERVICES: [&str; 13] = [
    "announcement",
    "asr",
    "ccxml",
    "conference",
    "cpd",
    "cti",
    "gateway",
    "media",
    "msml",
    "recordingclient",
    "recordingserver",
    "tts",
    "voicexml",
];
/// Entries of `retry-codes`.
const RETRY_CODES: usize = 64;

/// Octets of a name in `pin-by`.
const NAME: usize = 128;

/// The value of `resource-group`: a list of tables.
pub(super) fn groups(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<Group> {
    let mut groups = Vec::new();
    let DeValue::Array(list) = value.get_ref() else {
        let cause = String::from("`resource-group` must be a list of tables");
        let suggestion = String::from("write [[resource-group]] in double brackets");
        reader.fail(value.span().start, "resource-group".into(), cause, Some(suggestion));
        return groups;
    };
    let mut left = resources::RESOURCES;
    for value in list {
        let path = format!("resource-group[{}]", groups.len());
        let at = value.span().start;
        let Some(table) = value.get_ref().as_table() else {
            let cause = format!("`resource-group` must be a list of tables, not of {}", kind(value.get_ref()));
            reader.fail(at, path, cause, None);
            continue;
        };
        let section = reader.section(&GROUP, path, table, at);
        groups.push(group(reader, &section, &mut left));
    }
    groups
}

fn group(reader: &mut Reader<'_>, section: &Section<'_>, left: &mut usize) -> Group {
    reader.missing(section, "name", "every group needs a name of its own");
    let name = reader.text(section, "name").map(String::from);
    if let (Some(""), Some(value)) = (name.as_deref(), section.value("name")) {
        reader.refuse(section, "name", value.span().start, "is empty", None);
    }
    let schemes = [
        ("round-robin", SchemeName::RoundRobin),
        ("least-used", SchemeName::LeastUsed),
        ("least-percent", SchemeName::LeastPercent),
    ];
    Group {
        name: name.unwrap_or_default(),
        service_types: services(reader, section),
        scheme: reader.choice(section, "load-balance-scheme", &schemes).unwrap_or_default(),
        monitor: monitor(reader, section),
        noresource_response_code: reader
            .number(section, "noresource-response-code", 400..=699)
            .map_or(480, |code| code as u16),
        terms: Terms {
            first_response_timeout: reader
                .duration(section, "first-response-timeout", Duration::from_millis(50)..=Duration::from_secs(180))
                .unwrap_or(Duration::from_secs(2)),
            retry_codes: retry_codes(reader, section),
        },
        pin_by: pin_by(reader, section),
        resources: resources::resources(reader, section, left),
    }
}

fn services(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<String> {
    const KEY: &str = "service-types";
    let words = SERVICES.map(|s| (s, s));
    let list = reader.list(section, KEY).unwrap_or_default();
    let mut services: Vec<String> = Vec::new();
    for value in list {
        let Some(service) = reader.choice_at(section, KEY, value, &words) else { continue };
        if !services.iter().any(|s| s == service) {
            services.push(service.into());
        }
    }
    services
}

/// OPTIONS probing. By default a member is down 3 probes after its death: 8 s at the latest.
fn monitor(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Monitor> {
    let ms = Duration::from_millis;
    let times = ms(50)..=ms(3_600_000);
    let interval = reader.duration(section, "monitor-interval", times.clone());
    let timeout = reader.duration(section, "monitor-timeout", times);
    let down_after = reader.number(section, "monitor-down-after", 1..=100);
    let up_after = reader.number(section, "monitor-up-after", 1..=100);
    let interval = interval.unwrap_or(ms(2_000));
    let option = reader.choice(section, "monitor-method", &[("option", true), ("none", false)]).unwrap_or(true);
    if !option {
        for key in ["monitor-interval", "monitor-timeout", "monitor-down-after", "monitor-up-after"] {
            reader.idle(section, key, "while `monitor-method` is \"none\"");
        }
    }
    option.then(|| Monitor {
        interval,
        timeout: timeout.unwrap_or(ms(1_000).min(interval)),
        down_after: down_after.map_or(3, |n| n as u8),
        up_after: up_after.map_or(2, |n| n as u8),
    })
}

/// 408, 480 and every 5xx except 501, 505 and 513, which no other member would answer otherwise.
pub(super) fn default_retry_codes() -> Vec<RangeInclusive<u16>> {
    vec![408..=408, 480..=480, 500..=500, 502..=504, 506..=512, 514..=599]
}

fn retry_codes(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<RangeInclusive<u16>> {
    const KEY: &str = "retry-codes";
    if section.value(KEY).is_none() {
        return default_retry_codes();
    }
    let list = reader.list(section, KEY).unwrap_or_default();
    if list.len() > RETRY_CODES {
        let at = section.value(KEY).map_or(section.at, |v| v.span().start);
        let cause = format!("has {} entries; allowed is 0 to {RETRY_CODES}", list.len());
        reader.refuse(section, KEY, at, &cause, Some(String::from("write ranges: \"500-599\"")));
        return Vec::new();
    }
    list.iter().filter_map(|value| retry_code(reader, section, KEY, value)).collect()
}

fn retry_code(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &str,
    value: &Value<'_>,
) -> Option<RangeInclusive<u16>> {
    let range = match value.get_ref() {
        DeValue::Integer(n) => n.as_str().parse().ok().map(|code: u16| code..=code),
        DeValue::String(text) => match text.split_once('-') {
            Some((first, last)) => first.trim().parse().ok().zip(last.trim().parse().ok()).map(|(f, l)| f..=l),
            None => text.parse().ok().map(|code| code..=code),
        },
        _ => None,
    };
    let at = value.span().start;
    let Some(range) = range.filter(|r| !r.is_empty()) else {
        let suggestion = String::from("write a status such as 503, or a range such as \"500-599\"");
        reader.refuse(section, key, at, "has an entry that is no status", Some(suggestion));
        return None;
    };
    if *range.start() < 300 || *range.end() > 599 {
        // RFC 3261 §16.7 step 5: after a 6xx no new branch may be made; a 2xx is an answer.
        let cause = "has an entry outside 300 to 599: a 2xx is an answer, and a 6xx speaks for every server";
        reader.refuse(section, key, at, cause, None);
        return None;
    }
    Some(range)
}

/// What calls have in common that belong on one server: a header field, or a parameter of the Request-URI.
fn pin_by(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<PinBy> {
    const KEY: &str = "pin-by";
    let text = reader.text(section, KEY)?;
    let read = match text.split_once(' ') {
        Some(("header", name)) => Some((name.trim(), PinBy::Header as fn(Box<str>) -> PinBy)),
        Some(("uri-parameter", name)) => Some((name.trim(), PinBy::UriParameter as fn(Box<str>) -> PinBy)),
        _ => None,
    };
    let at = section.value(KEY).map_or(section.at, |value| value.span().start);
    let Some((name, by)) = read else {
        let cure = String::from("write \"header NAME\" or \"uri-parameter NAME\"");
        reader.refuse(section, KEY, at, "does not say what calls have in common", Some(cure));
        return None;
    };
    // RFC 3261 §25.1: of these letters any such name can be made without escapes.
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
    if name.is_empty() || name.len() > NAME || !name.bytes().all(letter) {
        let cure = String::from("write the name alone, without colon or value");
        reader.refuse(section, KEY, at, "names nothing that could stand in an INVITE", Some(cure));
        return None;
    }
    Some(by(name.into()))
}
