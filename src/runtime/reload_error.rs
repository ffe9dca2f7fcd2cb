//! Why a reload is refused.
#![forbid(unsafe_code)]

use std::fmt;

use crate::cluster::Refusal;
use crate::config::ConfigError;
use crate::runtime::route::RouteError;
use crate::runtime::secure::SecureError;

/// Why a reload was refused. What ran goes on.
#[derive(Debug)]
pub enum ReloadError {
    /// These lines need a restart.
    Restart(Vec<ConfigError>),
    /// A resource cannot be reached.
    Route(RouteError),
    /// The pair cannot switch to this `ha-mode` now.
    Mode(Refusal),
    /// `[tls]`.
    Secure(SecureError),
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReloadError::Route(e) => e.fmt(f),
            ReloadError::Secure(e) => e.fmt(f),
            ReloadError::Mode(e) => write!(f, "cluster.ha-mode cannot change now: {e}"),
            ReloadError::Restart(errors) => {
                errors.iter().enumerate().try_for_each(|(n, e)| write!(f, "{}{e}", if n > 0 { "\n" } else { "" }))
            }
        }
    }
}

impl std::error::Error for ReloadError {}
