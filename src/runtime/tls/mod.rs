//! TLS for whatever speaks over streams: files to what a node presents and trusts, certificates judged by the names that
//! SIP wants in them (RFC 5922), sessions without sockets. Knows neither SIP streams nor peers.
//!
//! [`Material`] is what the files hold. A [`ServerSide`] and a [`ClientSide`] are made from it and can be given a newer
//! one while their sessions live. Each makes a [`Session`], which turns octets of a socket into octets of the
//! application and back; who owns the socket drives it.
//!
//! TLS 1.2 and 1.3. Sessions are not resumed: SIP connections are few and long, and a resumed one would outlive the
//! certificate that it was opened with. There are no revocation lists: a certificate is good until it expires, or until
//! its CA is trusted no more.
#![forbid(unsafe_code)]

pub mod name;
pub mod files;
#[cfg(feature = "tls")]
mod validity;
#[cfg(feature = "tls")]
mod records;
#[cfg(feature = "tls")]
mod material;
#[cfg(feature = "tls")]
mod verify;
#[cfg(feature = "tls")]
mod session;
#[cfg(feature = "tls")]
mod sides;
#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(all(test, feature = "tls"))]
pub mod testing;
#[cfg(all(test, feature = "tls"))]
mod tests;

pub use files::{FileError, Files, Which};
pub use name::Name;

#[cfg(not(feature = "tls"))]
pub use absent::{ClientSide, Material, ServerSide, Session};
#[cfg(feature = "tls")]
pub use material::Material;
#[cfg(feature = "tls")]
pub use session::Session;
#[cfg(feature = "tls")]
pub use sides::{ClientSide, ServerSide};

/// Whether who connects must show a certificate, and which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Clients {
    /// None is asked for.
    #[default]
    Anonymous,
    /// One is asked for; one that is shown must be good and prove one of these names, or any if there are none.
    Asked(Vec<Name>),
    /// The same, and without one there is no session.
    Known(Vec<Name>),
}

/// What became of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// The session stands.
    Done,
    /// The octets are not TLS, or break its rules.
    Garbage,
    /// No version or cipher suite in common.
    Incompatible,
    /// The other side showed no certificate and had to.
    NoCertificate,
    /// Its certificate is not signed by a CA that is trusted, not valid today, or not meant for this.
    BadCertificate,
    /// Its certificate is good and proves none of the names that it had to.
    WrongName,
    /// The other side refused: our certificate, or that we showed none.
    Refused,
    /// Not complete in time.
    Timeout,
    /// The connection ended meanwhile.
    Abandoned,
}

impl Handshake {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [Handshake; 9] = [
        Handshake::Done,
        Handshake::Garbage,
        Handshake::Incompatible,
        Handshake::NoCertificate,
        Handshake::BadCertificate,
        Handshake::WrongName,
        Handshake::Refused,
        Handshake::Timeout,
        Handshake::Abandoned,
    ];

    /// The label of its metric.
    pub const fn name(self) -> &'static str {
        match self {
            Handshake::Done => "done",
            Handshake::Garbage => "garbage",
            Handshake::Incompatible => "incompatible",
            Handshake::NoCertificate => "no_certificate",
            Handshake::BadCertificate => "bad_certificate",
            Handshake::WrongName => "wrong_name",
            Handshake::Refused => "refused",
            Handshake::Timeout => "timeout",
            Handshake::Abandoned => "abandoned",
        }
    }
}

/// Why a session is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// For counting, if it happened during the handshake.
    pub outcome: Handshake,
    /// For an operator.
    pub why: String,
}

/// What came of some octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The handshake was completed by them.
    pub opened: bool,
    /// The other side will send nothing more.
    pub closed: bool,
}
