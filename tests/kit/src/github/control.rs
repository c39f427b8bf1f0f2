//! Making things go wrong: faults, gates, lost and reordered deliveries.

use anyhow::{Result, ensure};
use uuid::Uuid;

use super::Simulator;
use super::bare;
use super::hook::Order;
use super::interference::{Fault, Gate, Matcher, Moment};
use super::setup::find;

impl Simulator {
    /// Lets the next so many matching requests go wrong.
    pub fn fault(&self, matcher: Matcher, fault: Fault, times: usize) {
        self.shared.interference.add_fault(matcher, fault, times);
    }

    /// Takes back the faults that nobody has met yet.
    pub fn heal(&self) {
        self.shared.interference.clear_faults();
    }

    /// Holds matching requests before they have any effect.
    pub fn hold(&self, matcher: Matcher) -> Gate {
        self.shared
            .interference
            .add_gate(matcher, Moment::BeforeEffect)
    }

    /// Holds matching requests after their effect, before the answer.
    pub fn hold_after(&self, matcher: Matcher) -> Gate {
        self.shared
            .interference
            .add_gate(matcher, Moment::AfterEffect)
    }

    /// Makes git refuse pushes to a repository with a message, or accept them again.
    pub fn refuse_pushes(&self, repository: &str, message: Option<&str>) -> Result<()> {
        let state = self.shared.state();
        let id = find(&state, repository)?;
        bare::refuse_pushes(&state.repository(id).folder, message)
    }

    /// Never sends the next so many deliveries; they count as failed.
    pub fn lose_next(&self, count: usize) {
        self.shared.state().hooks.lose_next(count);
    }

    /// Sends each of the next so many deliveries twice.
    pub fn duplicate_next(&self, count: usize) {
        self.shared.state().hooks.duplicate_next(count);
    }

    /// Keeps deliveries back until they are released.
    pub fn hold_deliveries(&self) {
        self.shared.state().hooks.hold();
    }

    /// Sends what was kept back.
    pub fn release_deliveries(&self, order: Order) {
        self.shared.state().hooks.release(order);
    }

    /// Sends a delivery again, with the same id and the same bytes.
    pub fn redeliver(&self, delivery: Uuid) -> Result<()> {
        let known = self.shared.state().hooks.redeliver(delivery);
        ensure!(known, "there is no delivery {delivery}");
        Ok(())
    }
}
