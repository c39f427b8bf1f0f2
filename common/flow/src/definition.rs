//! A flow as it is written: YAML in, a checked definition out.

use std::time::Duration;

use patchfleet_config::HumanDuration;
use serde::Deserialize;
use serde_json::Value;

use crate::expression::Expression;
use crate::position::Position;

/// A flow that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct FlowError {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl FlowError {
    pub(crate) fn at(position: Position, message: impl Into<String>) -> Self {
        Self {
            line: position.line,
            column: position.column,
            message: message.into(),
        }
    }
}

/// A checked flow. The first node is where it starts; a node without edges is where it ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// Its name.
    pub name: String,
    /// How often any node may be visited; `None` only in flows without a loop.
    pub max_rounds: Option<u32>,
    /// The nodes; never empty, ids are unique.
    pub nodes: Vec<NodeDefinition>,
    /// The edges; both ends exist.
    pub edges: Vec<Edge>,
}

/// A node and its policy.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeDefinition {
    /// Its name within the flow.
    pub id: String,
    /// Which kind of node it is.
    pub uses: String,
    /// Its input; may hold templates.
    #[serde(default, rename = "with")]
    pub input: Value,
    /// How it is tried again.
    #[serde(default)]
    pub retry: Retry,
    /// How long one try may take.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
    /// What follows when it fails for good.
    #[serde(default)]
    pub on_error: OnError,
}

/// How a node is tried again when it fails with an error that may go away.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Tries at most, the first included.
    pub max_attempts: u32,
    /// How long to wait before the second try.
    pub delay: HumanDuration,
    /// What the delay is multiplied with for each further try.
    pub backoff: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 1,
            delay: HumanDuration::from_secs(1),
            backoff: 2.0,
        }
    }
}

impl Retry {
    /// How long to wait after a try, counted from 1.
    pub(crate) fn delay_after(&self, attempt: u32) -> Duration {
        let factor = self
            .backoff
            .powi(i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX));
        Duration::try_from_secs_f64(self.delay.0.as_secs_f64() * factor).unwrap_or(Duration::MAX)
    }
}

/// What follows when a node fails for good.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "OnErrorText")]
pub enum OnError {
    /// The flow fails.
    #[default]
    Fail,
    /// As if it had succeeded without output, but for the error's findings.
    Continue,
    /// The flow goes on there.
    Goto(String),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected `fail`, `continue` or `goto: NODE`")]
enum OnErrorText {
    Word(OnErrorWord),
    Goto { goto: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnErrorWord {
    Fail,
    Continue,
}

impl From<OnErrorText> for OnError {
    fn from(text: OnErrorText) -> Self {
        match text {
            OnErrorText::Word(OnErrorWord::Fail) => Self::Fail,
            OnErrorText::Word(OnErrorWord::Continue) => Self::Continue,
            OnErrorText::Goto { goto } => Self::Goto(goto),
        }
    }
}

/// The way from one node to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// Where it starts.
    pub from: String,
    /// Where it leads.
    pub to: String,
    /// When it is taken; `None` for the default edge, taken when no other is.
    pub when: Option<Expression>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlowText {
    name: String,
    max_rounds: Option<u32>,
    nodes: Vec<NodeDefinition>,
    #[serde(default)]
    edges: Vec<EdgeText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EdgeText {
    from: String,
    to: String,
    when: Option<String>,
}

impl Flow {
    /// Reads and checks a flow.
    ///
    /// # Errors
    /// [`FlowError`] with line and column: text that is not YAML, unknown fields and nodes,
    /// conditions without a default edge, nodes that can't be reached, loops without a bound,
    /// policies that let nothing run, templates that can't be read.
    pub fn parse(text: &str) -> Result<Self, FlowError> {
        let written: FlowText = yaml_serde::from_str(text).map_err(|error| {
            let place = error.location();
            FlowError {
                line: place.as_ref().map_or(1, yaml_serde::Location::line),
                column: place.as_ref().map_or(1, yaml_serde::Location::column),
                message: error.to_string(),
            }
        })?;
        let mut edges: Vec<Edge> = Vec::with_capacity(written.edges.len());
        for edge in written.edges {
            let nth = edges.iter().filter(|it| it.from == edge.from).count();
            edges.push(edge.read(text, nth)?);
        }
        let flow = Self {
            name: written.name,
            max_rounds: written.max_rounds,
            nodes: written.nodes,
            edges,
        };
        crate::check::check(&flow, text)?;
        Ok(flow)
    }

    /// The node of that name.
    pub fn node(&self, id: &str) -> Option<&NodeDefinition> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The edges that start at a node, in the order they are written.
    pub fn edges_from<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Edge> {
        self.edges.iter().filter(move |edge| edge.from == id)
    }
}

impl EdgeText {
    /// Reads the condition of the `nth` edge from its node.
    fn read(self, text: &str, nth: usize) -> Result<Edge, FlowError> {
        let position = || crate::position::of_value(text, "from", &self.from, nth);
        let when = match &self.when {
            Some(condition) => Some(
                Expression::parse(condition)
                    .map_err(|error| FlowError::at(position(), error.to_string()))?,
            ),
            None => None,
        };
        Ok(Edge {
            from: self.from,
            to: self.to,
            when,
        })
    }
}
