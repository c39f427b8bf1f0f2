//! Task in, work order out: which agent, how urgent, how large. Rules only; the same task always
//! gets the same analysis, and there is nothing that could be away.
//!
//! Absent: a model's opinion and the decision who gets the task.

pub mod awaited;
mod catalog;
mod clues;
mod dependencies;
mod fit;
mod size;
mod urgency;

use std::sync::Arc;

use patchfleet_domain::{FailurePolicy, IssueNumber, SecurityLevel, Task, TaskAnalysis};
use patchfleet_telemetry::trace;
use tokio_util::sync::CancellationToken;

pub use self::catalog::{AgentCatalog, AgentProfile};
use self::clues::Clues;
use self::dependencies::Dependencies;
use crate::store::{Cas, Store, StoreResult};
use crate::wake::Wake;

/// How many tasks are looked at before the store is asked again.
const BATCH: u32 = 256;

/// What an analysis goes by.
#[derive(Debug, Clone, Default)]
pub struct AnalysisPolicy {
    /// The types of agents there are.
    pub catalog: AgentCatalog,
    /// What becomes of a task when an issue that it depends on fails.
    pub on_dependency_failure: FailurePolicy,
}

/// Analyzes a task.
pub fn analyze(task: &Task, policy: &AnalysisPolicy) -> TaskAnalysis {
    let clues = Clues::of(&task.request);
    let mut reasons = Vec::new();
    let requirement = fit::requirement(task, &clues, &policy.catalog, &mut reasons);
    let priority = urgency::priority(task, &mut reasons);
    let complexity = size::complexity(&clues, &mut reasons);
    if requirement.security_level != SecurityLevel::Public {
        reasons.push(format!("a label says {}", requirement.security_level));
    }
    let mut first = Dependencies::of(&task.request, &task.repository);
    first
        .issues
        .retain(|number| task.issue != Some(IssueNumber(*number)));
    for issue in &first.elsewhere {
        reasons.push(format!(
            "{issue} is of another repository and is not waited for"
        ));
    }
    TaskAnalysis {
        requirement,
        complexity,
        estimated_tokens: size::tokens(&clues, complexity),
        priority,
        depends_on: first.issues,
        on_dependency_failure: policy.on_dependency_failure,
        target_files: clues.files,
        reasons,
    }
}

/// Analyzes what comes in, until told to end.
pub async fn run(store: Arc<dyn Store>, policy: AnalysisPolicy, cancel: CancellationToken) {
    let mut wake = Wake::new(store.as_ref(), cancel);
    loop {
        match batch(store.as_ref(), &policy).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "tasks can't be analyzed now"),
        }
        if !wake.next().await {
            return;
        }
    }
}

/// Analyzes some tasks; true when there may be more.
async fn batch(store: &dyn Store, policy: &AnalysisPolicy) -> StoreResult<bool> {
    let tasks = store.unanalyzed(BATCH).await?;
    let began = chrono::Utc::now();
    let analyses: Vec<_> = tasks
        .iter()
        .map(|task| (task.id, analyze(task, policy)))
        .collect();
    let applied = store.analyzed_all(&analyses).await?;
    let took = (began.into(), chrono::Utc::now().into());
    let mut progress = false;
    for ((task, (id, analysis)), applied) in tasks.iter().zip(&analyses).zip(applied) {
        // Stale: called off or analyzed by another replica meanwhile.
        let applied = applied == Cas::Applied(());
        let agent_type = &analysis.requirement.agent_type;
        tracing::info!(task.id = %id, %agent_type, applied, "analyzed");
        let attributes = [
            ("task.id", id.to_string()),
            ("agent.type", agent_type.to_string()),
        ];
        if applied {
            trace::record("analysis", task.traceparent.as_deref(), took, &attributes);
        }
        progress |= applied;
    }
    Ok(progress && tasks.len() == BATCH as usize)
}

#[cfg(test)]
mod tests;
