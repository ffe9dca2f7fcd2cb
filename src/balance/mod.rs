//! The Farm: resource groups, health, schemes, the ledger of grants. Knows values, no SIP.
#![forbid(unsafe_code)]

mod health;
mod hosts;
mod ledger;
mod escrow;
mod group;
mod scheme;
mod desk;
mod farm;

pub use desk::{Ask, Desk, Grant, Outcome, Refusal, ResourceView, Vouch};
pub use escrow::{Budget, Reserve, Shares, Withheld};
pub use farm::Farm;
pub use group::{Config, GroupConfig, ResourceConfig, Route, SchemeName, Terms, resource_id};
pub use health::{Doubt, Evidence, HealthChange, Monitor, Probe};
