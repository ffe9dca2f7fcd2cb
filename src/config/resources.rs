//! `[[resource-group.resource]]`.

use std::net::{IpAddr, SocketAddr};

use toml::de::DeValue;

use super::aor::Aor;
use super::finding::did_you_mean;
use super::keys::RESOURCE;
use super::reader::{Reader, Section, kind, shorten};
use super::settings::Resource;
use crate::base::limits;

/// Resources of all groups together.
pub(super) const RESOURCES: usize = 4_096;
/// Other addresses of one resource.
const ALIASES: usize = 16;

/// The resources of one group. `left`: how many more the node may have.
pub(super) fn resources(reader: &mut Reader<'_>, section: &Section<'_>, left: &mut usize) -> Vec<Resource> {
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
            let suggestion = match did_you_mean(text, ["unlimited"]) {
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
