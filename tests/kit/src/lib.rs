//! Everything that tests and the demo need in place of the outside world:
//! a GitHub, a provider of models, a mock agent, a stub coordinator, a receiver of traces, private servers,
//! a network in between.
//!
//! Product code, as `patchfleet demo` uses it. Absent: any knowledge of how
//! coordinator and agent work inside; the kit meets them over their protocols.

pub mod container;
pub mod contract;
pub mod exposition;
pub mod gateway;
pub mod github;
pub mod mock_agent;
pub mod model;
pub mod otlp;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod stub_coordinator;
pub mod tls;
