//! The two ends that open sessions. Each can be given newer files; sessions that live go on with what they began with.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};

use super::material::Material;
use super::name::Name;
use super::outcome::{Broken, Clients, Handshake};
use super::session::Session;
use super::verify::Verifier;

/// Accepts sessions.
#[derive(Debug)]
pub struct ServerSide(RwLock<Arc<ServerConfig>>);

impl ServerSide {
    /// A server that presents `material` and wants of its clients what `clients` says.
    ///
    /// # Errors
    ///
    /// If the cryptography cannot do what is needed: a fault of the build.
    pub fn new(material: &Material, clients: &Clients) -> Result<Self, Broken> {
        Ok(Self(RwLock::new(Arc::new(server(material, clients).map_err(|e| unusable(&e))?))))
    }

    /// New sessions are accepted with these from now on.
    ///
    /// # Errors
    ///
    /// As [`ServerSide::new`]; then nothing has changed.
    pub fn replace(&self, material: &Material, clients: &Clients) -> Result<(), Broken> {
        let config = Arc::new(server(material, clients).map_err(|e| unusable(&e))?);
        *self.0.write() = config;
        Ok(())
    }

    /// A session for somebody who has connected.
    ///
    /// # Errors
    ///
    /// If there are no random numbers.
    pub fn session(&self) -> Result<Session, Broken> {
        let config = Arc::clone(&self.0.read());
        Ok(Session::new(ServerConnection::new(config).map_err(|e| unusable(&e))?.into()))
    }
}

/// Opens sessions.
#[derive(Debug)]
pub struct ClientSide(RwLock<Material>);

impl ClientSide {
    /// A client that presents `material` where it is asked to, and trusts whom it names.
    pub fn new(material: &Material) -> Self {
        Self(RwLock::new(material.clone()))
    }

    /// New sessions are opened with this from now on.
    pub fn replace(&self, material: &Material) {
        *self.0.write() = material.clone();
    }

    /// A session with a server that must prove one of `names`; the first domain among them is the one that it is asked
    /// for (SNI, RFC 6066 §3).
    ///
    /// # Errors
    ///
    /// If there are no random numbers, or no usable name.
    pub fn session(&self, names: Vec<Name>) -> Result<Session, Broken> {
        let domain = names.iter().find_map(|name| match name {
            Name::Domain(domain) => ServerName::try_from(domain.to_string()).ok(),
            Name::Address(_) => None,
        });
        let address = names.iter().find_map(|name| match name {
            Name::Address(ip) => Some(ServerName::IpAddress((*ip).into())),
            Name::Domain(_) => None,
        });
        let Some(asked) = domain.or(address) else {
            return Err(Broken { outcome: Handshake::WrongName, why: String::from("it has no name to prove") });
        };
        let config = Arc::new(client(&self.0.read(), names).map_err(|e| unusable(&e))?);
        Ok(Session::new(ClientConnection::new(config, asked).map_err(|e| unusable(&e))?.into()))
    }
}

fn server(material: &Material, clients: &Clients) -> Result<ServerConfig, Error> {
    let verifier = |names: &[Name], mandatory| {
        Arc::new(Verifier {
            roots: Arc::clone(&material.roots),
            algorithms: material.provider.signature_verification_algorithms,
            names: names.to_vec(),
            mandatory,
        })
    };
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&material.provider)).with_safe_default_protocol_versions()?;
    let builder = builder.with_client_cert_verifier(match clients {
        Clients::Anonymous => WebPkiClientVerifier::no_client_auth(),
        Clients::Asked(names) => verifier(names, false),
        Clients::Known(names) => verifier(names, true),
    });
    let mut config = builder.with_cert_resolver(Arc::clone(&material.own) as _);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A configuration of its own for each session: what must be proved differs, and sessions are few.
fn client(material: &Material, names: Vec<Name>) -> Result<ClientConfig, Error> {
    let verifier = Verifier {
        roots: Arc::clone(&material.roots),
        algorithms: material.provider.signature_verification_algorithms,
        names,
        mandatory: false,
    };
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&material.provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::clone(&material.own) as _);
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn unusable(error: &Error) -> Broken {
    Broken { outcome: Handshake::Incompatible, why: error.to_string() }
}
