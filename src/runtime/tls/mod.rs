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
pub mod outcome;
pub mod files;
#[cfg(feature = "tls")]
mod validity;
#[cfg(feature = "tls")]
mod records;
#[cfg(feature = "tls")]
mod verify;
#[cfg(feature = "tls")]
mod material;
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
pub use outcome::{Broken, Clients, Handshake, Taken};

#[cfg(not(feature = "tls"))]
pub use absent::{ClientSide, Material, ServerSide, Session};
#[cfg(feature = "tls")]
pub use material::Material;
#[cfg(feature = "tls")]
pub use session::Session;
#[cfg(feature = "tls")]
pub use sides::{ClientSide, ServerSide};
