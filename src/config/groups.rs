//! `[[resource-group]]` and `[[resource-group.resource]]`.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::aor::Aor;
use super::keys::{GROUP, RESOURCE};
use super::reader::{Reader, Section, Value, kind, shorten};
use super::settings::{Group, Resource};
use crate::balance::{Monitor, SchemeName, Terms};
use crate::base::limits;

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
/// Resources of all groups together.
const RESOURCES: usize = 4_096;
/// Other addresses of one resource.
const ALIASES: usize = 16;
/// Entries of `retry-codes`.
const RETRY_CODES: usize = 64;

/// The value of `resource-group`: a list of tables.
pub(super) fn groups(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<Group> {
    let mut groups = Vec::new();
    let DeValue::Array(list) = value.get_ref() else {
        let cause = String::from("`resource-group` must be a list of tables");
        let suggestion = String::from("write [[resource-group]] in double brackets");
        reader.fail(value.span().start, "resource-group".into(), cause, Some(suggestion));
        return groups;
    };
    let mut left = RESOURCES;
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
        resources: resources(reader, section, left),
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

fn resources(reader: &mut Reader<'_>, section: &Section<'_>, left: &mut usize) -> Vec<Resource> {
    let mut resources = Vec::new();
    let Some(list) = section.value("resource") else { return resources };
    let DeValue::Array(list) = list.get_ref() else {
        let suggestion = Some(String::from("write [[resource-group.resource]] in double brackets"));
        reader.refuse(section, "resource", list.span().start, "must be a list of tables", suggestion);
        return resources;
    };
    for value in list {
        let path = format!("{}.resource[{}]", section.path, resources.len());
        let at = value.span().start;
        let Some(table) = value.get_ref().as_table() else {
            let cause = format!("must be a list of tables, not of {}", kind(value.get_ref()));
            reader.refuse(section, "resource", at, &cause, None);
            continue;
        };
        if *left == 0 {
            let cause = format!("is one too many: a node serves at most {RESOURCES} resources");
            reader.refuse(section, "resource", at, &cause, None);
            return resources;
        }
        *left -= 1;
        let section = reader.section(&RESOURCE, path, table, at);
        resources.extend(resource(reader, &section));
    }
    resources
}

fn resource(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Resource> {
    reader.missing(section, "aor", "write sip:HOST:PORT");
    reader.missing(section, "port-capacity", "write a number of calls, 0 for none, or \"unlimited\"");
    let also_tcp = reader.boolean(section, "tcp").unwrap_or(false);
    let port_capacity = port_capacity(reader, section);
    let written = reader.text(section, "aor");
    let aor = written.and_then(|text| aor(reader, section, text));
    let aliases = aliases(reader, section, aor.as_ref().map_or(5060, |a| a.port));
    let aor = aor?;
    Some(Resource {
        aor: written?.into(),
        canonical: aor.canonical(),
        host: aor.host,
        port: aor.port,
        transport: aor.transport,
        also_tcp,
        aliases,
        port_capacity: port_capacity?,
    })
}

fn aor(reader: &mut Reader<'_>, section: &Section<'_>, text: &str) -> Option<Aor> {
    match Aor::read(text) {
        Ok(aor) => Some(aor),
        Err((why, suggestion)) => {
            let at = section.value("aor")?.span().start;
            reader.refuse(section, "aor", at, &format!("is \"{}\": {why}", shorten(text)), suggestion);
            None
        }
    }
}

/// A number, `0` or `unlimited`: three different words. The outer `None`: it could not be read.
fn port_capacity(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Option<u32>> {
    const KEY: &str = "port-capacity";
    let value = section.value(KEY)?;
    match value.get_ref() {
        DeValue::String(text) if text == "unlimited" => Some(None),
        DeValue::Integer(n) if n.as_str().starts_with('-') => {
            let suggestion = Some(String::from("write \"unlimited\" if there is no limit, 0 if it takes no calls"));
            reader.refuse(section, KEY, value.span().start, &format!("is {}", shorten(n.as_str())), suggestion);
            None
        }
        DeValue::String(text) if text.parse::<u64>().is_err() => {
            let cause = format!("cannot be \"{}\"", shorten(text));
            let suggestion = match super::finding::did_you_mean(text, ["unlimited"]) {
                Some(_) => "did you mean \"unlimited\"?",
                None => "write a number of calls, 0 for none, or \"unlimited\"",
            };
            reader.refuse(section, KEY, value.span().start, &cause, Some(suggestion.into()));
            None
        }
        _ => reader.number(section, KEY, 0..=limits::LEGS as u64).map(|n| Some(n as u32)),
    }
}

fn aliases(reader: &mut Reader<'_>, section: &Section<'_>, port: u16) -> Vec<SocketAddr> {
    const KEY: &str = "aliases";
    let list = reader.list(section, KEY).unwrap_or_default();
    if list.len() > ALIASES {
        let at = section.value(KEY).map_or(section.at, |v| v.span().start);
        let cause = format!("has {} entries; allowed is 0 to {ALIASES}", list.len());
        reader.refuse(section, KEY, at, &cause, None);
    }
    let mut aliases = Vec::new();
    for value in list.iter().take(ALIASES) {
        let text = value.get_ref().as_str().unwrap_or_default();
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        let alias = text.parse().ok().or_else(|| bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port)));
        match alias {
            Some(alias) => aliases.push(alias),
            None => {
                let suggestion = Some(String::from("write \"IP\" or \"IP:PORT\""));
                reader.refuse(section, KEY, value.span().start, "has an entry that is no address", suggestion);
            }
        }
    }
    aliases
}
