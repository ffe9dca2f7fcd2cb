//! Why a node did not start, with the cure.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use crate::runtime::link;
use crate::runtime::route::RouteError;
use crate::runtime::secure::SecureError;
use crate::runtime::socket::BindError;
use crate::runtime::state::StateError;
use crate::runtime::vip::VipError;
use crate::token::KeyError;

/// Why a node did not start.
#[derive(Debug)]
pub enum StartError {
    /// A file in `state-dir`, or the secret file.
    State(StateError),
    /// The secrets cannot be used together.
    Secrets(KeyError),
    /// A listener.
    Bind(BindError),
    /// A resource.
    Route(RouteError),
    /// `[tls]`.
    Secure(SecureError),
    /// The keeper of the virtual addresses.
    Vip(VipError),
    /// An address of `cluster.member` of this node.
    Member(link::BindError),
    /// Threads, descriptors.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::State(e) => e.fmt(f),
            StartError::Bind(e) => e.fmt(f),
            StartError::Route(e) => e.fmt(f),
            StartError::Secure(e) => e.fmt(f),
            StartError::Vip(e) => e.fmt(f),
            StartError::Member(e) => e.fmt(f),
            StartError::Secrets(KeyError::SameId) => {
                f.write_str("the two secrets of cluster.secret-file have the same key id; replace one of them")
            }
            StartError::Secrets(_) => f.write_str("cluster.secret-file must hold one secret, or two while they rotate"),
            StartError::System(e) => {
                write!(
                    f,
                    "the system gives no threads or descriptors: {e}; raise LimitNOFILE= and TasksMax= in the unit file"
                )
            }
        }
    }
}

impl std::error::Error for StartError {}
