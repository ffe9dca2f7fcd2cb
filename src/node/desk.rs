//! The Farm as the shards see it: one cell, taken for one call at a time.

use std::cell::Cell as Flag;

use crate::balance::{Ask, Desk, Evidence, Farm, Grant, Outcome, Refusal, Vouch};
use crate::base::{Flow, Host, LegId, Pin, ResourceId, Time};

use super::Cell;

/// Lends the Farm to a shard and remembers whether its health may have changed.
pub(super) struct FarmDesk<'a, C> {
    farm: &'a C,
    touched: Flag<bool>,
    words: Flag<bool>,
}

impl<'a, C: Cell<Farm>> FarmDesk<'a, C> {
    pub(super) fn new(farm: &'a C) -> Self {
        Self { farm, touched: Flag::new(false), words: Flag::new(false) }
    }

    /// Whether the Farm has something to tell or to ask the other node since the last call.
    pub(super) fn take_words(&self) -> bool {
        self.words.replace(false)
    }

    fn ports<R>(&self, change: impl FnOnce(&mut Farm) -> R) -> R {
        self.farm.with(|farm| {
            let result = change(farm);
            self.words.set(self.words.get() || farm.has_words());
            result
        })
    }

    /// Whether somebody told the Farm something about a member since the last call.
    pub(super) fn take_touched(&self) -> bool {
        self.touched.replace(false)
    }
}

impl<C: Cell<Farm>> Desk for FarmDesk<'_, C> {
    fn admit(&self, now: Time, ask: &Ask<'_>) -> Result<Grant, Refusal> {
        self.ports(|farm| farm.admit(now, ask))
    }

    fn advance(&self, now: Time, grant: Grant, outcome: Outcome, ask: &Ask<'_>) -> Result<Grant, Refusal> {
        self.ports(|farm| farm.advance(now, grant, outcome, ask))
    }

    fn release(&self, now: Time, grant: Grant, outcome: Outcome) {
        self.ports(|farm| farm.release(now, grant, outcome));
    }

    fn evidence(&self, now: Time, resource: ResourceId, evidence: Evidence) {
        self.touched.set(true);
        self.farm.with(|farm| farm.evidence(now, resource, evidence));
    }

    fn adopt(&self, now: Time, resource: ResourceId, leg: LegId, pin: Option<Pin>) -> Option<Grant> {
        self.farm.with(|farm| farm.adopt(now, resource, leg, pin))
    }

    fn shadow(&self, now: Time, resource: ResourceId, leg: LegId, pin: Option<Pin>) -> Grant {
        self.farm.with(|farm| farm.shadow(now, resource, leg, pin))
    }

    fn take_over(&self, now: Time, grant: &mut Grant) {
        self.farm.with(|farm| farm.take_over(now, grant));
    }

    fn hand_over(&self, now: Time, grant: &mut Grant) {
        self.farm.with(|farm| farm.hand_over(now, grant));
    }

    fn vouch(&self, resource: ResourceId, host: &Host<'_>, port: u16) -> Vouch {
        self.farm.with(|farm| farm.vouch(resource, host, port))
    }

    fn stream(&self, resource: ResourceId) -> Option<Flow> {
        self.farm.with(|farm| farm.stream(resource))
    }

    fn learn(&self, resource: ResourceId, host: &Host<'_>, port: u16) -> bool {
        self.farm.with(|farm| farm.learn(resource, host, port))
    }

    fn peer_serves(&self, ask: &Ask<'_>) -> bool {
        self.farm.with(|farm| farm.peer_serves(ask))
    }

    fn peer_reaches(&self, resource: ResourceId) -> bool {
        self.farm.with(|farm| farm.peer_reaches(resource))
    }
}
