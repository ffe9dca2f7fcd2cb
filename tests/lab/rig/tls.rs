//! TLS of the test: a CA, callers that connect, media servers that are connected to.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::ops::DerefMut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls::{ConnectionCommon, RootCertStore, SideData, StreamOwned};
use socket2::{Domain, Socket, Type};

use super::mcp;
use super::message::Message;
use super::node::Setup;
use super::phone::Stream;
use super::poll::{SOON, until};
use super::tcp::{cut, is_broken};
use super::world::World;

/// A CA of the test's own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn founded() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate for its own issuer where both have one name.
        params.distinguished_name.push(DnType::CommonName, "a CA of the lab");
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for these addresses and DNS names; `year`: in which it ends.
    pub fn issue(&self, names: &[&str], year: i32) -> Issued {
        let name = |name: &&str| match name.parse() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => SanType::DnsName((*name).try_into().expect("ASCII")),
        };
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.iter().map(name).collect();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    /// A node that also listens for TLS, on port 5061, and presents `own`; `more`: further lines of `[tls]`.
    pub fn setup(&self, world: &World, setup: Setup, own: &Issued, more: &str) -> Setup {
        let mut setup = Setup { groups: self.section(world, own, more) + &setup.groups, ..setup };
        setup.listen.push(format!("tls:{}", world.addr(super::node::NODE, 5061)));
        setup
    }

    /// `[tls]` of a node that presents `own`; `more`: further lines of it.
    pub fn section(&self, world: &World, own: &Issued, more: &str) -> String {
        let ca = world.write("ca.pem", &self.pem);
        let [certificate, key] = present(world, own);
        format!("\n[tls]\ncertificate = {certificate:?}\nkey = {key:?}\ntrusted-ca = {ca:?}\n{more}\n")
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("a certificate")).expect("a CA");
        roots.into()
    }
}

/// Puts a certificate where the node looks for it.
pub fn present(world: &World, own: &Issued) -> [std::path::PathBuf; 2] {
    use std::os::unix::fs::PermissionsExt;
    let key = world.write("own.key", &own.key);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("a file of ours");
    [world.write("own.pem", &own.certificate), key]
}

impl Issued {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<_, _>>().expect("PEM")
    }

    fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM")
    }
}

fn provider() -> Arc<CryptoProvider> {
    ring::default_provider().into()
}

/// A connection over TLS and what it has said so far.
pub struct Tls<C = ClientConnection> {
    stream: StreamOwned<C, TcpStream>,
    unread: Vec<u8>,
    /// Whether the far end has closed it.
    pub closed: bool,
    reset: bool,
}

impl Tls {
    /// Connects from an address of its own and shakes hands; `own`: the certificate that is shown where one is asked
    /// for.
    pub fn connect(ca: &Authority, from: IpAddr, to: SocketAddr, own: Option<&Issued>) -> std::io::Result<Tls> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.expect("TLS 1.2 and 1.3").with_root_certificates(ca.roots());
        let config = match own {
            Some(own) => builder.with_client_auth_cert(own.chain(), own.private()).expect("a key of it"),
            None => builder.with_no_client_auth(),
        };
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&to.into(), SOON)?;
        socket.set_read_timeout(Some(SOON))?;
        let connection = ClientConnection::new(config.into(), ServerName::IpAddress(to.ip().into()));
        Tls::shaken(connection.map_err(std::io::Error::other)?, socket.into())
    }

    /// The certificate that the node showed.
    pub fn certificate(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().expect("a certificate")[0].to_vec()
    }
}

impl Tls<ServerConnection> {
    /// A connection that came in; shows `own`, and shakes hands.
    pub fn accepted(stream: TcpStream, own: &Issued) -> std::io::Result<Tls<ServerConnection>> {
        stream.set_read_timeout(Some(SOON))?;
        Tls::shaken(ServerConnection::new(presenting(own)).map_err(std::io::Error::other)?, stream)
    }
}

impl<C, S> Tls<C>
where
    C: DerefMut<Target = ConnectionCommon<S>>,
    S: SideData,
{
    fn shaken(connection: C, socket: TcpStream) -> std::io::Result<Tls<C>> {
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Tls { stream, unread: Vec::new(), closed: false, reset: false })
    }

    /// Where it comes from.
    pub fn local(&self) -> SocketAddr {
        self.stream.sock.local_addr().expect("a connected socket")
    }

    /// Writes in one piece. A far end that has closed already is no error here.
    pub fn send(&mut self, octets: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(octets.as_ref()).and_then(|()| self.stream.flush());
    }

    /// The next message, if it comes in time.
    pub fn message(&mut self, limit: Duration) -> Option<Message> {
        let end = Instant::now() + limit;
        loop {
            if let Some(message) = cut(&mut self.unread) {
                return Some(message);
            }
            let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            self.stream.sock.set_read_timeout(Some(left)).ok()?;
            let mut octets = [0; 16_384];
            match self.stream.read(&mut octets) {
                Ok(len) if len > 0 => self.unread.extend_from_slice(octets.get(..len)?),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
                ended => {
                    self.closed = true;
                    self.reset = ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
                    return None;
                }
            }
        }
    }

    /// The next message that `wanted` takes; others are skipped.
    #[track_caller]
    pub fn expect(&mut self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        let end = Instant::now() + SOON;
        let mut skipped = Vec::new();
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            match self.message(left) {
                Some(message) if wanted(&message) => return message,
                Some(message) => skipped.push(message.start),
                None => break,
            }
        }
        panic!("no {what}, closed: {}, but {skipped:?}", self.closed)
    }
}

impl<C, S> Stream for Tls<C>
where
    C: DerefMut<Target = ConnectionCommon<S>>,
    S: SideData,
{
    fn send(&mut self, octets: &str) {
        self.send(octets);
    }

    fn message(&mut self, limit: Duration) -> Option<Message> {
        self.message(limit)
    }

    fn closed(&self) -> bool {
        self.closed
    }

    fn was_reset(&mut self) -> bool {
        self.reset |= is_broken(&self.stream.sock);
        self.reset
    }
}

/// Takes connections and shows `own`; asks for no certificate.
fn presenting(own: &Issued) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.expect("TLS 1.2 and 1.3").with_no_client_auth();
    builder.with_single_cert(own.chain(), own.private()).expect("a key of it").into()
}

/// A media server that is reached over TLS.
pub struct TlsMcp {
    /// Its address.
    pub at: SocketAddr,
    seen: Arc<Mutex<Vec<Message>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TlsMcp {
    /// One that presents `own` and answers every call at once.
    #[track_caller]
    pub fn answering(at: SocketAddr, own: &Issued) -> TlsMcp {
        let config = presenting(own);
        let listener = TcpListener::bind(at).unwrap_or_else(|error| panic!("{at}: {error}"));
        listener.set_nonblocking(true).expect("a socket of ours");
        let (seen, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || {
                let mut streams = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((stream, _)) = listener.accept() {
                        stream.set_nonblocking(false).expect("a socket of ours");
                        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
                        let connection = ServerConnection::new(Arc::clone(&config)).expect("random numbers");
                        streams.push((StreamOwned::new(connection, stream), Vec::new()));
                    }
                    streams.retain_mut(|(stream, unread)| serve(at, stream, unread, &seen));
                    thread::park_timeout(Duration::from_millis(5));
                }
            }
        });
        TlsMcp { at, seen, stop, thread: Some(thread) }
    }

    /// Waits for a message.
    #[track_caller]
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        until(&format!("{what} at {}", self.at), SOON, || self.seen().into_iter().find(&wanted))
    }

    /// All it has seen.
    pub fn seen(&self) -> Vec<Message> {
        self.seen.lock().expect("no panic in the media server").clone()
    }
}

impl Drop for TlsMcp {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers what has come; whether the connection lives.
fn serve(
    at: SocketAddr,
    stream: &mut StreamOwned<ServerConnection, TcpStream>,
    unread: &mut Vec<u8>,
    seen: &Mutex<Vec<Message>>,
) -> bool {
    let mut octets = [0; 16_384];
    match stream.read(&mut octets) {
        Ok(len) if len > 0 => unread.extend_from_slice(&octets[..len]),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return true,
        _ => return false,
    }
    while let Some(message) = cut(unread) {
        for (_, answer) in mcp::answer(&message, at) {
            if stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()).is_err() {
                return false;
            }
        }
        seen.lock().expect("no panic in the test").push(message);
    }
    true
}
