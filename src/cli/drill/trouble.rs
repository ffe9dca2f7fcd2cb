//! Why there was no drill.

use std::fmt;

use crate::cli::terminal::{CONFIG, FAILURE, UNREACHABLE};

/// Why there was no drill, or none to its end: cause and cure, sorted by whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The operator's: an argument, or a configuration that is not ready for a drill.
    Use(String),
    /// Nobody's: no node answers there.
    Unreachable(String),
    /// This machine's: a socket, a file, a thread.
    Here(String),
}

impl Trouble {
    /// The exit code that says so.
    pub fn code(&self) -> u8 {
        match self {
            Trouble::Use(_) => CONFIG,
            Trouble::Unreachable(_) => UNREACHABLE,
            Trouble::Here(_) => FAILURE,
        }
    }

    /// Something of this machine failed.
    pub fn here(what: &str) -> impl Fn(std::io::Error) -> Trouble {
        move |why| Trouble::Here(format!("{what}: {why}"))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Trouble::Use(said) | Trouble::Unreachable(said) | Trouble::Here(said)) = self;
        f.write_str(said)
    }
}
