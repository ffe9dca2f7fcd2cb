//! The Farm: resource groups, health, schemes, the ledger of grants. Knows values, no SIP.
#![forbid(unsafe_code)]

mod health;
mod hosts;
mod ledger;
mod escrow;
mod tokens;
mod lending;
mod pins;
mod group;
mod scheme;
mod desk;
mod farm;
mod pinned;
mod doubts;
mod unseen;
mod loans;
#[cfg(test)]
mod tests;

pub use desk::{Ask, Desk, Grant, Outcome, Refusal, ResourceView, Shows, Vouch};
pub use escrow::{Budget, Reserve, Shares, Withheld};
pub use farm::Farm;
pub use group::{Config, GroupConfig, ResourceConfig, Route, SchemeName, Terms, resource_id};
pub use health::{Doubt, Evidence, HealthChange, Monitor, Probe};
pub use loans::{Borrow, Words};
pub use pins::{PinBy, PinStats};
pub use tokens::{Entry, read as read_tokens, write as write_tokens};
