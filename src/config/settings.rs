//! What a configuration says, as values.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::finding::Places;
use super::prefix::Prefix;
use crate::balance::{Monitor, SchemeName, Terms};
use crate::base::{NodeId, Transport};
use crate::node::ProxyConfig;

/// A configuration that is sound. Only [`Settings::parse`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `[cluster]`.
    pub cluster: Cluster,
    /// `sip.transport` in order: index = listener id.
    pub listeners: Vec<Listen>,
    /// `sip.allow-from`: whose SIP is heard beside the resources'; `None`: everybody's.
    pub allow_from: Option<Vec<Prefix>>,
    /// `[proxy]` timers and the like.
    pub proxy: ProxyConfig,
    /// `sip.threadpoolsize`: UDP worker threads, 1 to 64; default: number of cores, at most 8.
    pub workers: usize,
    /// `drain-timeout`: how long a graceful stop waits for calls; default 60 s.
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

/// `[cluster]`. `ha-mode` other than `none` is refused until there is a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `name`, default "tandem".
    pub name: String,
    /// `mymemberid`, default 1.
    pub node: NodeId,
    /// `secret-file`, whose octets are the secret; `None`: `node.key` in `state-dir`.
    pub secret_file: Option<PathBuf>,
    /// `state-dir`, default /var/lib/tandem.
    pub state_dir: PathBuf,
}

/// One entry of `sip.transport`: `udp:0.0.0.0:5060`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// UDP or TCP.
    pub transport: Transport,
    /// May be a wildcard. Port 0 is refused in a text; a program that embeds a node may set it afterwards, and the
    /// kernel chooses.
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
