//! How a SIP stream ended.
#![forbid(unsafe_code)]

use crate::runtime::stats::Closed;
use crate::runtime::tls::{Broken, Handshake};

/// How a connection ended.
#[derive(Debug)]
pub struct Ended {
    /// Why, for counting.
    pub reason: Closed,
    /// What is wrong with its TLS.
    pub broken: Option<Broken>,
}

impl Ended {
    /// TLS was not spoken in time.
    pub fn late() -> Self {
        let why = String::from("its TLS handshake was not complete in time");
        Self { reason: Closed::Handshake, broken: Some(Broken { outcome: Handshake::Timeout, why }) }
    }
}

impl From<Closed> for Ended {
    fn from(reason: Closed) -> Self {
        Self { reason, broken: None }
    }
}
