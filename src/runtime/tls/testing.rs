//! Certificates for tests, good and bad.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

use super::files::Files;
use super::material::Material;

/// A CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, PEM.
pub struct Issued {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
}

impl Authority {
    /// A CA that nobody knows yet.
    pub fn founded() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for `names`: `sip:…` is a URI, an IP literal an address, anything else a DNS name.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, |_| {})
    }

    /// The same, bent.
    pub fn issue_with(&self, names: &[&str], bend: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.iter().map(|name| alternative(name)).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        bend(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}

fn alternative(name: &str) -> SanType {
    match name.parse() {
        Ok(ip) => SanType::IpAddress(ip),
        Err(_) if name.contains(':') => SanType::URI(name.try_into().unwrap()),
        Err(_) => SanType::DnsName(name.try_into().unwrap()),
    }
}

/// A folder with the files of one node; gone when it is dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    /// `ca` is trusted; `own` is presented.
    pub fn new(ca: &Authority, own: &Issued) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = Self(std::env::temp_dir().join(format!("tandem-tls-{}-{n}", std::process::id())));
        fs::create_dir_all(&folder.0).unwrap();
        fs::write(folder.path("ca.pem"), &ca.pem).unwrap();
        folder.present(own);
        folder
    }

    /// Another certificate takes the place of the one that is presented.
    pub fn present(&self, own: &Issued) {
        use std::os::unix::fs::PermissionsExt;
        fs::write(self.path("own.pem"), &own.certificate).unwrap();
        fs::write(self.path("own.key"), &own.key).unwrap();
        fs::set_permissions(self.path("own.key"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Where a file of it is.
    pub fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// What they hold.
    pub fn material(&self) -> Material {
        let [certificate, key, ca] = ["own.pem", "own.key", "ca.pem"].map(|file| self.path(file));
        Material::read(&Files { certificate: &certificate, key: &key, trusted_ca: Some(&ca) }).unwrap()
    }

    /// The `[tls]` that names them.
    pub fn section(&self) -> String {
        let at = |file| Path::display(&self.path(file)).to_string();
        format!(
            "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\ntrusted-ca = \"{}\"\n",
            at("own.pem"),
            at("own.key"),
            at("ca.pem")
        )
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
