//! Text to types: the TOML file, its errors with line and key, and the plan of a reload.
#![forbid(unsafe_code)]

mod finding;
mod keys;
mod reader;
mod aor;
mod sections;
mod groups;
mod sound;
mod check;
mod plan;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::balance::{Monitor, SchemeName, Terms};
use crate::base::{NodeId, Transport};
use crate::node::ProxyConfig;

pub use check::{Checked, check};
pub use finding::{ConfigError, Finding, Place, Places, Warning};
use keys::Keys;
pub use plan::{Change, Edit, Plan, plan};
use reader::{Reader, Section, Value};

/// A configuration that is sound. Only [`Settings::parse`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `[cluster]`.
    pub cluster: Cluster,
    /// `sip.transport` in order: index = listener id.
    pub listeners: Vec<Listen>,
    /// `[proxy]` timers and the like.
    pub proxy: ProxyConfig,
    /// UDP worker threads; default: number of cores, at most 8.
    pub workers: usize,
    /// How long a graceful stop waits for calls; default 60 s... operators may raise it.
    pub drain_timeout: Duration,
    /// `[admin] listen`, default 127.0.0.1:9090.
    pub admin: SocketAddr,
    /// `[log] level`, default `info`.
    pub log_level: tracing::Level,
    /// `[[resource-group]]` in order.
    pub groups: Vec<Group>,
    /// Where all that stands in the text.
    pub places: Places,
}

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
            reader.errors.append(&mut reader.absent);
        } else {
            reader.broken(&broken);
        }
        if !reader.errors.is_empty() {
            reader.errors.sort();
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
    for (key, value) in root {
        if !["cluster", "proxy", "admin", "log", "resource-group"].contains(&key.get_ref().as_ref()) {
            unknown(reader, key.get_ref(), key.span().start, value);
        }
    }
    let groups = root.get("resource-group").map(|value| groups::groups(reader, value));
    let cluster = sections::cluster(reader, &cluster);
    let admin = sections::admin(reader, &admin);
    let log_level = sections::log(reader, &log);
    let sections::Proxy { listeners, config, workers, drain_timeout } = sections::proxy(reader, &proxy);
    Settings {
        cluster,
        listeners,
        proxy: config,
        workers,
        drain_timeout,
        admin,
        log_level,
        groups: groups.unwrap_or_default(),
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

/// `[cluster]`. `ha-mode` other than `none` is refused until there is a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `name`, default "tandem".
    pub name: String,
    /// `mymemberid`, default 1.
    pub node: NodeId,
    /// `secret-file` contents or environment; `None`: `node.key` in `state-dir`.
    pub secret_file: Option<PathBuf>,
    /// `state-dir`, default /var/lib/tandem.
    pub state_dir: PathBuf,
}

/// One entry of `sip.transport`: `udp:0.0.0.0:5060`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// UDP or TCP.
    pub transport: Transport,
    /// May be a wildcard.
    pub addr: SocketAddr,
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.transport, self.addr)
    }
}

/// `[[resource-group]]`; resources are not resolved yet (`runtime` turns them into routes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `name`.
    pub name: String,
    /// `service-types`.
    pub service_types: Vec<String>,
    /// `load-balance-scheme`.
    pub scheme: SchemeName,
    /// `monitor-method`, `monitor-interval`, ….
    pub monitor: Option<Monitor>,
    /// `noresource-response-code`.
    pub noresource_response_code: u16,
    /// `first-response-timeout`, `retry-codes`.
    pub terms: Terms,
    /// `[[resource-group.resource]]`.
    pub resources: Vec<Resource>,
}

/// One media server as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// As written.
    pub aor: String,
    /// `sip:host:port;transport=…` in lower case with everything written out: what [`crate::balance::resource_id`] hashes.
    pub canonical: String,
    /// IP literal or name.
    pub host: String,
    /// Port, 5060 if not written.
    pub port: u16,
    /// Usual transport: the AOR's `transport`, else UDP.
    pub transport: Transport,
    /// Whether it also takes TCP on the same port (`tcp = true`), for what does not fit a datagram.
    pub also_tcp: bool,
    /// `aliases`.
    pub aliases: Vec<SocketAddr>,
    /// `port-capacity`: required; a number or "unlimited".
    pub port_capacity: Option<u32>,
}
