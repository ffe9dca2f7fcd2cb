//! Text to types: the TOML file, its errors with line and key, and the plan of a reload.
#![forbid(unsafe_code)]

mod finding;
mod prefix;
mod keys;
mod reader;
mod entry;
mod witness;
mod cluster_settings;
mod settings;
mod tls;
mod aor;
mod cluster;
mod snmp;
mod sections;
mod resources;
mod groups;
mod sound;
mod services;
mod pair;
mod check;
mod shared;
mod plan;

use toml::de::{DeTable, DeValue};

pub use check::{Checked, check, check_with};
pub use cluster_settings::{Cluster, Commit, Member, VipManager, VirtualIp};
pub use finding::{ConfigError, Finding, Findings, Place, Places, Warning};
pub use plan::{Change, Edit, Plan, plan};
pub use prefix::Prefix;
pub use settings::{ClientCertificate, Community, Group, Listen, Oid, Resource, Settings, Snmp, Tls, TrapVersion};
pub use shared::{Shared, differences};
pub use witness::{Host, Witness};

use keys::Keys;
use reader::{Reader, Section, Value};

impl Settings {
    /// Octets of a configuration text.
    pub const LONGEST: usize = 1 << 20;

    /// Reads and checks a configuration text. Every error is reported at once, in the order of the text.
    pub fn parse(text: &str) -> Result<(Settings, Vec<Warning>), Vec<ConfigError>> {
        if text.len() > Self::LONGEST {
            let cause = format!("the text is longer than {} octets", Self::LONGEST);
            return Err(vec![Finding { place: Place::default(), key: String::new(), cause, suggestion: None }]);
        }
        let (root, broken) = DeTable::parse_recoverable(text);
        let mut reader = Reader::new(text);
        let settings = read(&mut reader, root.get_ref());
        if broken.is_empty() {
            sound::check(&mut reader, &settings, root.get_ref().contains_key("resource-group"));
            pair::check(&mut reader, &settings);
            tls::check(&mut reader, &settings, root.get_ref().contains_key("tls"));
            reader.errors.append(&mut reader.absent);
        } else {
            reader.broken(&broken);
        }
        if !reader.errors.is_empty() {
            reader.errors.sort();
            reader.errors.dedup();
            return Err(reader.errors);
        }
        reader.warnings.sort();
        Ok((Settings { places: reader.places, ..settings }, reader.warnings))
    }
}

/// Takes what can be read; what cannot is noted in `reader` and has its default.
fn read(reader: &mut Reader<'_>, root: &DeTable<'_>) -> Settings {
    let cluster = section(reader, root, "cluster", &keys::CLUSTER);
    let proxy = section(reader, root, "proxy", &keys::PROXY);
    let admin = section(reader, root, "admin", &keys::ADMIN);
    let log = section(reader, root, "log", &keys::LOG);
    let snmp = section(reader, root, "snmp", &keys::SNMP);
    let secure = section(reader, root, "tls", &keys::TLS);
    for (key, value) in root {
        if !["cluster", "proxy", "tls", "admin", "log", "snmp", "resource-group"].contains(&key.get_ref().as_ref()) {
            unknown(reader, key.get_ref(), key.span().start, value);
        }
    }
    let groups = root.get("resource-group").map(|value| groups::groups(reader, value));
    let cluster = cluster::cluster(reader, &cluster);
    let drill = sections::drill(reader, &admin);
    let admin = sections::admin(reader, &admin);
    let log_level = sections::log(reader, &log);
    let tls = root.contains_key("tls").then(|| tls::tls(reader, &secure)).flatten();
    let snmp = snmp::snmp(reader, &snmp);
    let sections::Proxy { listeners, allow_from, proxy_protocol_from, config, workers, drain_timeout } =
        sections::proxy(reader, &proxy);
    Settings {
        cluster,
        listeners,
        allow_from,
        proxy_protocol_from,
        proxy: config,
        workers,
        drain_timeout,
        admin,
        drill,
        log_level,
        snmp,
        groups: groups.unwrap_or_default(),
        tls,
        places: Places::default(),
    }
}

/// A section of the top level; an empty one where the text has none.
fn section<'a>(reader: &mut Reader<'_>, root: &'a DeTable<'a>, name: &str, keys: &'static Keys) -> Section<'a> {
    match root.get(name) {
        Some(value) => match value.get_ref() {
            DeValue::Table(table) => reader.section(keys, name.into(), table, value.span().start),
            _ => {
                let suggestion = Some(format!("write {} on a line of its own", keys.title));
                reader.fail(value.span().start, name.into(), format!("`{name}` must be a section"), suggestion);
                Section::empty(keys, name)
            }
        },
        None => Section::empty(keys, name),
    }
}

fn unknown(reader: &mut Reader<'_>, key: &str, at: usize, value: &Value<'_>) {
    let shown = reader::shorten(key);
    let titles = keys::ALL.iter().map(|k| k.title.trim_matches(['[', ']'])).filter(|t| !t.contains('.'));
    let meant = finding::did_you_mean(key, titles).and_then(|t| keys::ALL.iter().find(|k| k.title.contains(t)));
    let belongs = keys::ALL.iter().find(|k| k.known.contains(&key));
    let (cause, suggestion) = match value.get_ref() {
        DeValue::Table(_) | DeValue::Array(_) if belongs.is_none() => {
            (format!("unknown section `{shown}`"), meant.map(|k| format!("did you mean {}?", k.title)))
        }
        _ => (
            format!("unknown key `{shown}` outside of any section"),
            belongs.map(|k| format!("it belongs in {}", k.title)),
        ),
    };
    reader.fail(at, key.into(), cause, suggestion);
}
