//! The whole system as its users have it: the `patchfleet` program as coordinator and agent
//! processes, a real database, git and gRPC. Only GitHub is played.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod command_lines;
mod commands;
mod compaction;
mod connections;
mod containers;
mod deliveries;
mod drafting_model;
mod endings;
mod faults;
mod fitness;
mod follow_ups;
mod kills;
mod metrics;
mod model;
mod model_simulator;
mod operator;
mod output;
mod owners;
mod payloads;
mod places;
mod proxies;
mod requests;
mod rounds;
mod sandbox;
mod second_models;
mod secrets;
mod simulator;
mod specialists;
mod traces;
mod unfinished;
mod unreadable;
mod unusable_models;
mod world;
