//! The life of the process around a node: signals, readiness, reloads, the graceful stop, the watchdog.
//!
//! SIGHUP reads the configuration again. SIGTERM and SIGINT stop gracefully: not ready, INVITEs get 503 with
//! Retry-After, and the process ends once no call lives or `drain-timeout` has passed; a second one ends it at once.
#![forbid(unsafe_code)]

mod orders;
mod life;

pub use orders::Service;
