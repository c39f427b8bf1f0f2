//! `ctx.setup`: what ran in the setup phase, and which hosts it was refused.

use serde::{Deserialize, Serialize};

use super::commands::Command;
use crate::process::Finished;
use crate::sandbox::egress::{Refusal, Refusals};
use crate::sandbox::{Backend, Ran};

/// How much of a failed command's end is shown.
const TAIL: usize = 2000;

/// The setup phase of an attempt, as it went well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupReport {
    /// The commands, in their order.
    pub steps: Vec<StepReport>,
}

/// One command of the setup phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The folder of the repository that it ran in; empty for its root.
    pub folder: String,
    /// How it was isolated.
    pub backend: Backend,
    /// Wall time.
    pub duration_ms: u64,
    /// The hosts that it was refused, with reason and count.
    pub refused_hosts: Vec<Refusal>,
    /// Limits that nothing on the host enforced.
    pub limits_not_enforced: Vec<String>,
}

impl StepReport {
    pub(super) fn new(command: &Command, ran: &Ran, refusals: &Refusals) -> Self {
        let limits = ran.limits_not_enforced.iter();
        Self {
            command: command.words.clone(),
            folder: command.folder.clone(),
            backend: ran.backend,
            duration_ms: u64::try_from(ran.finished.duration.as_millis()).unwrap_or(u64::MAX),
            refused_hosts: refusals.list(),
            limits_not_enforced: limits.map(ToString::to_string).collect(),
        }
    }
}

/// The end of both outputs.
pub(super) fn tail(finished: &Finished) -> String {
    let output = format!("{}{}", finished.stdout_text(), finished.stderr_text());
    let mut start = output.len().saturating_sub(TAIL);
    while !output.is_char_boundary(start) {
        start += 1;
    }
    output[start..].trim().to_owned()
}
