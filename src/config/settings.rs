//! What a configuration says, as values.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::cluster_settings::Cluster;
use super::finding::Places;
use super::prefix::Prefix;
use crate::balance::{Monitor, PinBy, SchemeName, Terms};
use crate::base::Transport;
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
    /// `sip.proxy-protocol-from`: load balancers whose streams begin with a PROXY header; default: none.
    pub proxy_protocol_from: Vec<Prefix>,
    /// `[proxy]` timers and the like.
    pub proxy: ProxyConfig,
    /// `sip.threadpoolsize`: UDP worker threads, 1 to 64; default: number of cores, at most 8.
    pub workers: usize,
    /// `drain-timeout`: how long a graceful stop waits for calls; default 60 s.
    pub drain_timeout: Duration,
    /// `[admin] listen`, default 127.0.0.1:9090.
    pub admin: SocketAddr,
    /// `[admin] drill`, default `false`: whether an operator may let this node fail.
    pub drill: bool,
    /// `[log] level`, default `info`.
    pub log_level: tracing::Level,
    /// `[snmp]`; `None`: no traps.
    pub snmp: Option<Snmp>,
    /// `[[resource-group]]` in order.
    pub groups: Vec<Group>,
    /// `[tls]`, if there is one.
    pub tls: Option<Tls>,
    /// Where all that stands in the text.
    pub places: Places,
}

/// `[snmp]`: who is told of role changes and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snmp {
    /// `trap-target`; each trap goes to all of them.
    pub targets: Vec<SocketAddr>,
    /// `version`, default v2c.
    pub version: TrapVersion,
    /// `community`, default "public".
    pub community: Community,
    /// `enterprise`: the object identifier under which traps and objects stand.
    pub enterprise: Oid,
}

/// `version`: how traps are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrapVersion {
    /// SNMPv1 (RFC 1157): enterprise, generic and specific trap.
    V1,
    /// SNMPv2c (RFC 1901, RFC 3416): one object identifier.
    #[default]
    V2c,
}

/// A community, which no log or report may show.
#[derive(Clone, PartialEq, Eq)]
pub struct Community(String);

impl Community {
    pub(super) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// What goes into a datagram, and nowhere else.
    pub fn octets(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Default for Community {
    fn default() -> Self {
        Self("public".into())
    }
}

impl fmt::Debug for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Community")
    }
}

/// An object identifier: its sub-identifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oid(pub Vec<u32>);

/// A place in the playground of net-snmp (netSnmpPlaypen), free for private use: what `deploy/TANDEM-MIB.txt` describes.
impl Default for Oid {
    fn default() -> Self {
        Self(vec![1, 3, 6, 1, 4, 1, 8072, 9999, 9999, 5060])
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, arc) in self.0.iter().enumerate() {
            write!(f, "{}{arc}", if n == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

/// `[tls]`: files are paths as written, read when the node starts and with every reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `certificate`: PEM, this node's own first, then its chain.
    pub certificate: PathBuf,
    /// `key`: PEM, not encrypted.
    pub key: PathBuf,
    /// `trusted-ca`: PEM; `None`: nobody is trusted.
    pub trusted_ca: Option<PathBuf>,
    /// `client-certificate`.
    pub client_certificate: ClientCertificate,
    /// `peer-names`: lower case, IP literals without brackets. Empty: any name that a trusted CA signed.
    pub peer_names: Vec<String>,
}

/// Whether who connects must show a certificate (mutual TLS).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// It is not asked for one.
    #[default]
    None,
    /// It is asked; one that it shows must be good.
    Request,
    /// Without a good one there is no connection.
    Require,
}

/// One entry of `sip.transport`: `udp:0.0.0.0:5060`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// UDP, TCP or TLS.
    pub transport: Transport,
    /// May be a wildcard. Port 0 is refused in a text; a program that embeds a node may set it afterwards, and the
    /// kernel chooses.
    pub addr: SocketAddr,
}

impl Listen {
    /// Whether it receives what is sent to `ip`.
    pub fn takes(&self, ip: IpAddr) -> bool {
        self.addr.is_ipv4() == ip.is_ipv4() && (self.addr.ip().is_unspecified() || self.addr.ip() == ip)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    /// `pin-by`.
    pub pin_by: Option<PinBy>,
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
    /// Port, if not written 5060, or 5061 over TLS.
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

/// As written.
impl fmt::Display for TrapVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrapVersion::V1 => "v1",
            TrapVersion::V2c => "v2c",
        })
    }
}
