//! Runs a flow: one node after the other, along the edges, going on where an earlier run stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::definition::{Flow, NodeDefinition, OnError};
use crate::node::{Checkpoint, Node, NodeCall, NodeError, Observer, Registry};
use crate::template::fill;

/// A flow and the nodes it uses.
#[derive(Debug, Clone)]
pub struct Engine {
    flow: Flow,
    registry: Registry,
}

/// What a run starts with.
pub struct Run<'a> {
    /// What the flow knows at its start.
    pub ctx: Context,
    /// What earlier runs finished.
    pub checkpoints: Vec<Checkpoint>,
    /// Who watches.
    pub observer: &'a dyn Observer,
    /// Ends the run.
    pub cancel: CancellationToken,
}

/// How a run went that came to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What the flow knows at its end.
    pub ctx: Context,
    /// The visits, in order.
    pub visits: Vec<Visit>,
}

/// One visit of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// The node.
    pub node: String,
    /// Which visit, from 1.
    pub visit: u32,
    /// It had a checkpoint and was not run.
    pub replayed: bool,
    /// How long it took, all tries and waits included.
    pub duration: Duration,
}

/// A run that did not come to its end.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RunError {
    /// A node failed for good.
    #[error("node `{node}`: {error}")]
    Node {
        /// Which.
        node: String,
        /// Why.
        error: NodeError,
        /// What the flow knew then, the error's findings included.
        ctx: Box<Context>,
    },
    /// A node was to be visited more often than the flow allows.
    #[error("node `{node}` was visited {rounds} times, which is all the flow allows")]
    RoundsExhausted {
        /// Which.
        node: String,
        /// How often it was visited.
        rounds: u32,
        /// What the flow knew then.
        ctx: Box<Context>,
    },
    /// It was called off.
    #[error("the run was cancelled")]
    Cancelled,
    /// The flow uses a kind of node that there is not.
    #[error("node `{node}` uses `{kind}`, which is not there")]
    UnknownKind {
        /// Which.
        node: String,
        /// The kind.
        kind: String,
    },
}

impl Engine {
    /// An engine for a flow; every kind the flow uses has to be there.
    ///
    /// # Errors
    /// [`RunError::UnknownKind`].
    pub fn new(flow: Flow, registry: Registry) -> Result<Self, RunError> {
        match flow
            .nodes
            .iter()
            .find(|node| registry.get(&node.uses).is_none())
        {
            Some(node) => Err(RunError::UnknownKind {
                node: node.id.clone(),
                kind: node.uses.clone(),
            }),
            None => Ok(Self { flow, registry }),
        }
    }

    /// Runs the flow from its first node to one without edges.
    ///
    /// # Errors
    /// [`RunError`]; what was finished before is with the observer.
    pub async fn run(&self, run: Run<'_>) -> Result<Report, RunError> {
        let mut walk = Walk::new(self, run);
        let mut next = self.flow.nodes.first();
        while let Some(node) = next {
            next = walk.visit(node).await?;
        }
        Ok(Report {
            ctx: walk.ctx,
            visits: walk.visits,
        })
    }
}

/// A run on its way.
struct Walk<'a> {
    engine: &'a Engine,
    ctx: Context,
    checkpoints: BTreeMap<(String, u32), Checkpoint>,
    counts: BTreeMap<&'a str, u32>,
    visits: Vec<Visit>,
    observer: &'a dyn Observer,
    cancel: CancellationToken,
}

impl<'a> Walk<'a> {
    fn new(engine: &'a Engine, run: Run<'a>) -> Self {
        let by_visit = |it: Checkpoint| ((it.node.clone(), it.visit), it);
        Self {
            engine,
            ctx: run.ctx,
            checkpoints: run.checkpoints.into_iter().map(by_visit).collect(),
            counts: BTreeMap::new(),
            visits: Vec::new(),
            observer: run.observer,
            cancel: run.cancel,
        }
    }

    /// Visits a node, or takes its checkpoint, and gives the node to go on with.
    async fn visit(
        &mut self,
        node: &'a NodeDefinition,
    ) -> Result<Option<&'a NodeDefinition>, RunError> {
        if self.cancel.is_cancelled() {
            return Err(RunError::Cancelled);
        }
        let visit = self.count(node)?;
        let started = Instant::now();
        let known = self.checkpoints.remove(&(node.id.clone(), visit));
        let replayed = known.is_some();
        let checkpoint = match known {
            Some(checkpoint) => {
                self.observer.replayed(&checkpoint).await;
                checkpoint
            }
            None => self.run_node(node, visit).await?,
        };
        self.ctx.merge(&checkpoint.delta);
        if !replayed {
            let kept = self.observer.finished(&checkpoint, started.elapsed()).await;
            kept.map_err(|error| RunError::Node {
                node: node.id.clone(),
                error,
                ctx: Box::new(self.ctx.clone()),
            })?;
        }
        self.visits.push(Visit {
            node: node.id.clone(),
            visit,
            replayed,
            duration: started.elapsed(),
        });
        Ok(self.next(node, checkpoint.error.is_some()))
    }

    /// Counts the visit, if the flow allows one more.
    fn count(&mut self, node: &'a NodeDefinition) -> Result<u32, RunError> {
        let count = self.counts.entry(&node.id).or_default();
        if self
            .engine
            .flow
            .max_rounds
            .is_some_and(|rounds| *count >= rounds)
        {
            let (node, rounds) = (node.id.clone(), *count);
            return Err(RunError::RoundsExhausted {
                node,
                rounds,
                ctx: Box::new(self.ctx.clone()),
            });
        }
        *count += 1;
        Ok(*count)
    }

    /// Runs a node with its policy. An error that the flow goes on from is a checkpoint too.
    async fn run_node(&self, node: &NodeDefinition, visit: u32) -> Result<Checkpoint, RunError> {
        self.observer.started(&node.id, visit).await;
        let (delta, error) = match self.tries(node, visit).await? {
            Ok(delta) => (delta, None),
            Err(error) if node.on_error == OnError::Fail => {
                let mut ctx = self.ctx.clone();
                ctx.merge(&error.delta);
                return Err(RunError::Node {
                    node: node.id.clone(),
                    error,
                    ctx: Box::new(ctx),
                });
            }
            Err(error) => (error.delta.clone(), Some(error)),
        };
        Ok(Checkpoint {
            node: node.id.clone(),
            visit,
            delta,
            error,
        })
    }

    /// Tries a node as often as its policy allows; the outer error is cancellation.
    async fn tries(
        &self,
        node: &NodeDefinition,
        visit: u32,
    ) -> Result<Result<Value, NodeError>, RunError> {
        let mut attempt = 1;
        loop {
            let error = match self.once(node, visit).await? {
                Ok(delta) => return Ok(Ok(delta)),
                Err(error) => error,
            };
            let again = error.retryable && attempt < node.retry.max_attempts;
            self.observer.failed(&node.id, &error, again).await;
            if !again {
                return Ok(Err(error));
            }
            tokio::select! {
                () = self.cancel.cancelled() => return Err(RunError::Cancelled),
                () = tokio::time::sleep(node.retry.delay_after(attempt)) => attempt += 1,
            }
        }
    }

    async fn once(
        &self,
        node: &NodeDefinition,
        visit: u32,
    ) -> Result<Result<Value, NodeError>, RunError> {
        let with = match fill(&node.input, &self.ctx) {
            Ok(with) => with,
            Err(error) => return Ok(Err(NodeError::permanent("bad_input", error.to_string()))),
        };
        let kind: &Arc<dyn Node> =
            self.engine
                .registry
                .get(&node.uses)
                .ok_or_else(|| RunError::UnknownKind {
                    node: node.id.clone(),
                    kind: node.uses.clone(),
                })?;
        // A try of its own token, so that a timeout stops what the node started.
        let cancel = self.cancel.child_token();
        let _stop = cancel.clone().drop_guard();
        let call = NodeCall {
            node: &node.id,
            visit,
            ctx: &self.ctx,
            with,
            cancel,
        };
        let limit = node.timeout.map_or(Duration::MAX, |timeout| timeout.0);
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(RunError::Cancelled),
            result = tokio::time::timeout(limit, kind.run(call)) => Ok(result.unwrap_or_else(|_| {
                let message = format!("took longer than {}", node.timeout.map(|it| it.to_string()).unwrap_or_default());
                Err(NodeError::retryable("timeout", message))
            })),
        }
    }

    /// The node that an error, a condition or the default edge leads to.
    fn next(&self, node: &'a NodeDefinition, failed: bool) -> Option<&'a NodeDefinition> {
        let flow = &self.engine.flow;
        if let (true, OnError::Goto(to)) = (failed, &node.on_error) {
            return flow.node(to);
        }
        let holds =
            |edge: &&crate::Edge| edge.when.as_ref().is_some_and(|when| when.holds(&self.ctx));
        let chosen = flow
            .edges_from(&node.id)
            .find(holds)
            .or_else(|| flow.edges_from(&node.id).find(|edge| edge.when.is_none()));
        chosen.and_then(|edge| flow.node(&edge.to))
    }
}
