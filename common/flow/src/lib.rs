//! Flows: a graph of nodes, checked when it is loaded and run by an engine that can go on where
//! an earlier run stopped.
//!
//! A node's finished visit is a [`Checkpoint`]; a visit that has one is never run again, its
//! output is taken instead. Absent: what nodes do, and parallel execution.

mod check;
mod context;
mod definition;
mod engine;
mod expression;
mod node;
mod position;
mod template;

pub use context::Context;
pub use definition::{Edge, Flow, FlowError, NodeDefinition, OnError, Retry};
pub use engine::{Engine, Report, Run, RunError, Visit};
pub use expression::{Comparison, Expression, ExpressionError};
pub use node::{Checkpoint, Node, NodeCall, NodeError, Observer, Registry};
pub use template::{TemplateError, fill};
