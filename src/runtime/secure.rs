//! TLS of SIP: what `[tls]` says made into both sides, and whom a connection must lead to (RFC 5922 §7.3).
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use parking_lot::{Mutex, RwLock};

use crate::base::{Transport, limits};
use crate::config::{ClientCertificate, Finding, Findings, Settings, Tls};
use crate::runtime::servers::Servers;
use crate::runtime::tls::{Broken, ClientSide, Clients, FileError, Files, Material, Name, ServerSide, Which};
use crate::runtime::wire::Wire;

/// Both sides of TLS for SIP, as configured. Replaced in place: connections that live go on.
#[derive(Debug)]
pub struct Secure {
    server: ServerSide,
    client: ClientSide,
    peers: RwLock<Peers>,
    /// Resources of which an operator was told that their TLS fails, until it works.
    told: Mutex<HashSet<SocketAddr>>,
}

/// Who may be at the other end.
#[derive(Debug, Default)]
struct Peers {
    /// `peer-names`.
    names: Vec<Name>,
    /// Resources by address: the hosts of their AORs.
    resources: HashMap<IpAddr, Vec<Name>>,
}

/// Why TLS cannot be had.
#[derive(Debug)]
pub enum SecureError {
    /// A file.
    File(FileError),
    /// The cryptography.
    Unusable(String),
}

impl fmt::Display for SecureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecureError::File(e) => e.fmt(f),
            SecureError::Unusable(why) => write!(f, "TLS cannot be used: {why}; please report this"),
        }
    }
}

impl std::error::Error for SecureError {}

/// What is ready to be put in force.
pub struct Prepared {
    material: Material,
    clients: Clients,
    peers: Peers,
}

impl Prepared {
    /// Reads the files of `[tls]`. `servers` are those of `settings`, and those that left it. `None`: no listener speaks
    /// TLS.
    ///
    /// # Errors
    ///
    /// A file that cannot be used.
    pub fn new(settings: &Settings, servers: &Servers) -> Result<Option<Self>, SecureError> {
        let listens = settings.listeners.iter().any(|l| l.transport == Transport::Tls);
        let Some(tls) = settings.tls.as_ref().filter(|_| listens) else { return Ok(None) };
        let material = Material::read(&files(tls)).map_err(SecureError::File)?;
        let names: Vec<Name> = tls.peer_names.iter().filter_map(|name| Name::parse(name)).collect();
        let clients = match tls.client_certificate {
            ClientCertificate::None => Clients::Anonymous,
            ClientCertificate::Request => Clients::Asked(names.clone()),
            ClientCertificate::Require => Clients::Known(names.clone()),
        };
        Ok(Some(Self { material, clients, peers: Peers { names, resources: resources(servers) } }))
    }

    /// When the certificate ends, seconds of the Unix epoch.
    pub fn not_after(&self) -> u64 {
        self.material.not_after()
    }

    /// The same as `YYYY-MM-DD`.
    pub fn last_day(&self) -> String {
        self.material.last_day()
    }
}

impl Secure {
    /// Both sides.
    ///
    /// # Errors
    ///
    /// If the cryptography cannot do what is needed.
    pub fn new(prepared: Prepared) -> Result<Self, SecureError> {
        let Prepared { material, clients, peers } = prepared;
        let server = ServerSide::new(&material, &clients).map_err(unusable)?;
        Ok(Self { server, client: ClientSide::new(&material), peers: RwLock::new(peers), told: Mutex::default() })
    }

    /// New connections go by this from now on.
    ///
    /// # Errors
    ///
    /// As [`Secure::new`]; then nothing has changed.
    pub fn replace(&self, prepared: Prepared) -> Result<(), SecureError> {
        let Prepared { material, clients, peers } = prepared;
        self.server.replace(&material, &clients).map_err(unusable)?;
        self.client.replace(&material);
        *self.peers.write() = peers;
        Ok(())
    }

    /// A session for a connection that was accepted.
    ///
    /// # Errors
    ///
    /// If there are no random numbers.
    pub fn accept(&self) -> Result<Wire, Broken> {
        self.server.session().map(|session| Wire::Tls(Box::new(session)))
    }

    /// A session for a connection to somebody who must prove one of `names`.
    ///
    /// # Errors
    ///
    /// Likewise, or if there is no name.
    pub fn open(&self, names: Vec<Name>) -> Result<Wire, Broken> {
        self.client.session(names).map(|session| Wire::Tls(Box::new(session)))
    }

    /// The names one of which must be proved by whoever answers at `remote`. `authority`: what the URI says where that is
    /// a DNS name. An address alone is proved by a certificate for it, or for the AOR of the resource there, or, where no
    /// resource is, for one of `peer-names`.
    pub fn expected(&self, remote: IpAddr, authority: Option<&[u8]>) -> Vec<Name> {
        if let Some(authority) = authority {
            return Name::of_authority(authority).into_iter().collect();
        }
        let remote = remote.to_canonical();
        let peers = self.peers.read();
        let known = peers.resources.get(&remote).unwrap_or(&peers.names);
        known.iter().filter(|n| **n != Name::Address(remote)).cloned().chain([Name::Address(remote)]).collect()
    }

    /// Tells an operator that the TLS of a resource fails, once until it works again. `why`: what is wrong, if it fails.
    pub fn tell(&self, remote: SocketAddr, why: Option<&str>) {
        if !self.peers.read().resources.contains_key(&remote.ip().to_canonical()) {
            return;
        }
        let mut told = self.told.lock();
        let Some(why) = why else {
            told.remove(&remote);
            return;
        };
        if told.len() < limits::CONNECTIONS && told.insert(remote) {
            drop(told);
            let names: Vec<String> = self.expected(remote.ip(), None).iter().map(Name::to_string).collect();
            tracing::warn!(
                "TLS to {remote} fails: {why}; its certificate must be signed by a CA of `trusted-ca` and name {} in \
                 subjectAltName",
                names.join(" or ")
            );
        }
    }
}

/// What is wrong or doubtful about the files of `[tls]`, where it stands in the text.
pub fn examine(settings: &Settings) -> Findings {
    let mut findings = Findings::default();
    let Some(tls) = &settings.tls else { return findings };
    let at = |which: Which, cause: String, suggestion| {
        let key = format!("tls.{}", which.key());
        Finding { place: settings.places.of(&key), key, cause, suggestion }
    };
    match Material::read(&files(tls)) {
        Ok(material) => {
            let told = material.warnings().iter();
            findings.warnings.extend(told.map(|(which, text)| at(*which, text.clone(), None)));
        }
        Err(e) => findings.errors.push(at(e.which, e.cause(), Some(String::from(e.cure())))),
    }
    findings
}

/// What `peer-tls` needs: what this node shows, and the names one of which the other node must prove. `None`: the link
/// speaks no TLS.
///
/// # Errors
///
/// A file that cannot be used.
pub fn of_peers(settings: &Settings) -> Result<Option<(Material, Vec<Name>)>, SecureError> {
    let (cluster, tls) = (&settings.cluster, &settings.tls);
    let (Some(peer), Some(tls), true) = (cluster.peer(), tls, cluster.peer_tls) else { return Ok(None) };
    let material = Material::read(&files(tls)).map_err(SecureError::File)?;
    let addresses = peer.paths.iter().map(|path| Name::Address(path.ip().to_canonical()));
    let names = tls.peer_names.iter().filter_map(|name| Name::parse(name));
    Ok(Some((material, addresses.chain(names).collect())))
}

fn files(tls: &Tls) -> Files<'_> {
    Files { certificate: &tls.certificate, key: &tls.key, trusted_ca: tls.trusted_ca.as_deref() }
}

/// Hosts of TLS resources by the addresses that they were resolved to, and by their aliases.
fn resources(servers: &Servers) -> HashMap<IpAddr, Vec<Name>> {
    let mut found: HashMap<IpAddr, Vec<Name>> = HashMap::new();
    for server in servers.all().filter(|server| server.written.transport == Transport::Tls) {
        for host in server.hosts() {
            found.entry(host.to_canonical()).or_default().extend(Name::parse(&server.written.host));
        }
    }
    found
}

/// The cryptography cannot do what is needed.
pub fn unusable(broken: Broken) -> SecureError {
    SecureError::Unusable(broken.why)
}
