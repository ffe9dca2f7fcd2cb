//! What the files hold, read and checked.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, InconsistentKeys};

use super::files::{FileCause, FileError, Files, Which};
use super::validity::{date, not_after};
use super::verify::Roots;

/// A certificate that ends within this time is worth a warning.
const SOON: u64 = 30 * 86_400;

/// What one side of TLS presents and whom it trusts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Material {
    pub(super) own: Arc<SingleCertAndKey>,
    pub(super) roots: Roots,
    pub(super) provider: Arc<CryptoProvider>,
    not_after: u64,
    /// What an operator should know.
    warnings: Vec<(Which, String)>,
}

impl Material {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// One that cannot be used, with its cause and cure.
    pub fn read(files: &Files<'_>) -> Result<Self, FileError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificates = certificates(Which::Certificate, files.certificate)?;
        let not_after = certificates.first().and_then(|c| not_after(c)).unwrap_or(0);
        let key = PrivateKeyDer::from_pem_slice(&read(Which::Key, files.key)?)
            .map_err(|e| failed(Which::Key, files.key, of_pem(&e)))?;
        let own = CertifiedKey::from_der(certificates, key, &provider).map_err(|e| match e {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                failed(Which::Key, files.key, FileCause::OtherKey)
            }
            Error::InvalidCertificate(_) => failed(Which::Certificate, files.certificate, FileCause::Certificate),
            _ => failed(Which::Key, files.key, FileCause::UnsupportedKey),
        })?;
        let roots = match files.trusted_ca {
            Some(path) => roots(path)?,
            None => Roots::default(),
        };
        let warnings = warnings(files, not_after);
        Ok(Self { own: Arc::new(own.into()), roots, provider, not_after, warnings })
    }

    /// When the own certificate ends, seconds of the Unix epoch.
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    /// The same as `YYYY-MM-DD`.
    pub fn last_day(&self) -> String {
        date(self.not_after)
    }

    /// What is doubtful about the files, each with its cure.
    pub fn warnings(&self) -> &[(Which, String)] {
        &self.warnings
    }
}

fn read(which: Which, path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|e| failed(which, path, FileCause::Io(e)))
}

fn certificates(which: Which, path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = read(which, path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let read = read.map_err(|e| failed(which, path, of_pem(&e)))?;
    if read.is_empty() {
        return Err(failed(which, path, FileCause::Nothing));
    }
    Ok(read)
}

fn roots(path: &Path) -> Result<Roots, FileError> {
    let certificates = certificates(Which::TrustedCa, path)?;
    let anchor = |certificate| {
        webpki::anchor_from_trusted_cert(certificate)
            .map(|anchor| anchor.to_owned())
            .map_err(|_| failed(Which::TrustedCa, path, FileCause::Certificate))
    };
    certificates.iter().map(anchor).collect()
}

fn of_pem(error: &pem::Error) -> FileCause {
    match error {
        pem::Error::NoItemsFound => FileCause::Nothing,
        _ => FileCause::NotPem,
    }
}

fn failed(which: Which, path: &Path, cause: FileCause) -> FileError {
    FileError { which, path: path.to_owned(), cause }
}

fn warnings(files: &Files<'_>, not_after: u64) -> Vec<(Which, String)> {
    let mut warnings = Vec::new();
    let (now, last) = (UnixTime::now().as_secs(), date(not_after));
    let shown = files.certificate.display();
    if not_after <= now {
        warnings.push((Which::Certificate, format!("`certificate` in [tls]: {shown} expired on {last}; renew it")));
    } else if not_after - now < SOON {
        warnings.push((Which::Certificate, format!("`certificate` in [tls]: {shown} expires on {last}; renew it")));
    }
    if world_readable(files.key) {
        let shown = files.key.display();
        let cause = format!("`key` in [tls]: everyone on this machine can read {shown}; chmod 640 or 600");
        warnings.push((Which::Key, cause));
    }
    warnings
}

fn world_readable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o004 != 0)
}
