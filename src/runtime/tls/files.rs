//! The files that a side of TLS is made from, and what may be wrong with them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Where certificates and keys are; all PEM.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The own certificate, then its chain.
    pub certificate: &'a Path,
    /// Its private key, not encrypted.
    pub key: &'a Path,
    /// CAs that may vouch for others; `None`: nobody may.
    pub trusted_ca: Option<&'a Path>,
}

/// One of the [`Files`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// [`Files::certificate`].
    Certificate,
    /// [`Files::key`].
    Key,
    /// [`Files::trusted_ca`].
    TrustedCa,
}

impl Which {
    /// The key of the configuration that names it.
    pub const fn key(self) -> &'static str {
        match self {
            Which::Certificate => "certificate",
            Which::Key => "key",
            Which::TrustedCa => "trusted-ca",
        }
    }
}

/// A file that cannot be used.
#[derive(Debug)]
pub struct FileError {
    /// Which of them.
    pub which: Which,
    /// Its path as configured.
    pub path: PathBuf,
    /// Why not.
    pub cause: FileCause,
}

/// Why a file cannot be used.
#[derive(Debug)]
pub enum FileCause {
    /// It cannot be read.
    Io(io::Error),
    /// It is not PEM.
    NotPem,
    /// It is PEM and holds nothing of the kind that is wanted.
    Nothing,
    /// A certificate in it cannot be read.
    Certificate,
    /// The private key is of a kind that is not supported.
    UnsupportedKey,
    /// The private key belongs to another certificate.
    OtherKey,
    /// This build does not speak TLS.
    NotSpoken,
}

impl FileError {
    /// What is wrong, in one sentence.
    pub fn cause(&self) -> String {
        let (key, path) = (self.which.key(), self.path.display());
        match (&self.cause, self.which) {
            (FileCause::Io(e), _) => format!("`{key}` in [tls]: cannot read {path}: {e}"),
            (FileCause::NotPem, _) => format!("`{key}` in [tls]: {path} is not PEM"),
            (FileCause::Nothing, Which::Key) => format!("`key` in [tls]: {path} holds no private key"),
            (FileCause::Nothing, _) => format!("`{key}` in [tls]: {path} holds no certificate"),
            (FileCause::Certificate, _) => format!("`{key}` in [tls]: {path} holds a certificate that cannot be read"),
            (FileCause::UnsupportedKey, _) => {
                format!("`{key}` in [tls]: {path} holds a private key of an unknown kind")
            }
            (FileCause::OtherKey, _) => format!("`{key}` in [tls]: {path} is not the private key of `certificate`"),
            (FileCause::NotSpoken, _) => String::from("this build does not speak TLS"),
        }
    }

    /// What to do about it.
    pub fn cure(&self) -> &'static str {
        match (&self.cause, self.which) {
            (FileCause::Io(e), _) if e.kind() == io::ErrorKind::PermissionDenied => {
                "give the user that runs tandem leave to read it"
            }
            (FileCause::Io(_), _) => "write the path of a PEM file, best an absolute one",
            (FileCause::NotPem, _) => "convert it: openssl x509 -inform DER for a certificate, openssl pkey for a key",
            (FileCause::Nothing, Which::Key) => "one with a passphrase is of no use: openssl pkey -in OLD -out NEW",
            (FileCause::Nothing, Which::Certificate) => "put this node's certificate into it, then its chain",
            (FileCause::Nothing, Which::TrustedCa) => "put the certificates of the CAs into it",
            (FileCause::Certificate, _) => "look at it: openssl x509 -in FILE -noout -text; it must be of version 3",
            (FileCause::UnsupportedKey, _) => "use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more",
            (FileCause::OtherKey, _) => "the certificate must stand first in its file, before its chain",
            (FileCause::NotSpoken, _) => "build it with the cargo feature tls",
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.cause(), self.cure())
    }
}

impl std::error::Error for FileError {}
