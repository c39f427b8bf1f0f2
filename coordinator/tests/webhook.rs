//! Deliveries through the real endpoint into a real store, with the simulator as GitHub.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "webhook/again.rs"]
mod again;
#[path = "webhook/bad_input.rs"]
mod bad_input;
#[path = "webhook/commands.rs"]
mod commands;
#[path = "webhook/configuration.rs"]
mod configuration;
#[path = "webhook/conversation.rs"]
mod conversation;
#[path = "webhook/deferred.rs"]
mod deferred;
#[path = "webhook/doubt.rs"]
mod doubt;
#[path = "webhook/endings.rs"]
mod endings;
#[path = "webhook/examples.rs"]
mod examples;
#[path = "webhook/follow_ups.rs"]
mod follow_ups;
#[path = "webhook/hanging.rs"]
mod hanging;
#[path = "webhook/order.rs"]
mod order;
#[path = "webhook/payloads.rs"]
mod payloads;
#[path = "webhook/places.rs"]
mod places;
#[path = "webhook/reopened.rs"]
mod reopened;
#[path = "webhook/scene.rs"]
mod scene;
#[path = "webhook/sweep.rs"]
mod sweep;
#[path = "webhook/triggers.rs"]
mod triggers;
