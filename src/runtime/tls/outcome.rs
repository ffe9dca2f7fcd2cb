//! What a handshake wants, and what becomes of it.

use super::name::Name;

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
