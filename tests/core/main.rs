//! Messages in, meaning out: parser, framing, editor and replies of `tandem::sip`; text in, settings out.

#[cfg(feature = "runtime")]
mod config;
#[cfg(feature = "runtime")]
mod config_pair;
#[cfg(feature = "runtime")]
mod config_snmp;
#[cfg(all(feature = "runtime", feature = "tls"))]
mod config_tls;
mod config_witness;
mod answers;
mod calls;
mod crashers;
mod corpus;
#[cfg(feature = "runtime")]
mod dialogs;
mod differential;
mod framing;
mod frozen;
mod link;
mod parse;
mod pins;
mod property;
mod retries;
mod sha256;
mod tls;
mod validation;
mod world;
