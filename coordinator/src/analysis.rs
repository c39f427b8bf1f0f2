//! Task in, work order out: which agent, how urgent, how large. Rules only: the same task of a repository
//! that says the same always gets the same analysis, and a GitHub that is away stops none.
//!
//! Absent: a model's opinion and the decision who gets the task.

pub mod awaited;
mod catalog;
mod clues;
mod configuration;
mod dependencies;
mod fit;
mod size;
mod urgency;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use patchfleet_domain::{
    AgentType, FailurePolicy, IssueNumber, RepositoryName, SecurityLevel, Task, TaskAnalysis,
    TaskId,
};
use patchfleet_repository::ConfigError;
use patchfleet_telemetry::trace;
use tokio_util::sync::CancellationToken;

pub use self::catalog::{AgentCatalog, AgentProfile};
use self::clues::Clues;
pub use self::configuration::{Configuration, Configurations};
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

/// Analyzes a task of a repository that says that.
pub fn analyze(task: &Task, policy: &AnalysisPolicy, said: &Configuration) -> TaskAnalysis {
    let clues = Clues::of(&task.request);
    let mut reasons = Vec::new();
    let choice = fit::Choice {
        task,
        clues: &clues,
        catalog: &policy.catalog,
        said,
    };
    let requirement = choice.requirement(&mut reasons);
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

/// Analyzes what comes in, until told to end. Repositories are asked what they say of themselves where
/// there is a GitHub to ask.
pub async fn run(
    store: Arc<dyn Store>,
    policy: AnalysisPolicy,
    repositories: Option<Configurations>,
    cancel: CancellationToken,
) {
    let mut wake = Wake::new(store.as_ref(), cancel.clone());
    let analyst = Analyst {
        store: store.as_ref(),
        policy: &policy,
        repositories: repositories.as_ref(),
    };
    loop {
        match cancel.run_until_cancelled(analyst.batch()).await {
            None => return,
            Some(Ok(true)) => continue,
            Some(Ok(false)) => {}
            Some(Err(error)) => tracing::warn!(%error, "tasks can't be analyzed now"),
        }
        if !wake.next().await {
            return;
        }
    }
}

/// What analyzing needs.
#[derive(Debug, Clone, Copy)]
struct Analyst<'a> {
    store: &'a dyn Store,
    policy: &'a AnalysisPolicy,
    repositories: Option<&'a Configurations>,
}

impl Analyst<'_> {
    /// Analyzes some tasks; true when there may be more.
    async fn batch(self) -> StoreResult<bool> {
        let tasks = self.store.unanalyzed(BATCH).await?;
        let began = Utc::now();
        let said = match self.repositories {
            Some(repositories) => repositories.of_all(&tasks).await,
            None => BTreeMap::new(),
        };
        let types = self.types(&said).await?;
        let absent = Configuration::default();
        let mut analyses = Vec::with_capacity(tasks.len());
        let mut progress = false;
        for task in &tasks {
            let said = said.get(&task.repository).unwrap_or(&absent);
            match check(task, said, &types) {
                Ok(()) => analyses.push((task, analyze(task, self.policy, said))),
                Err(error) => progress |= self.refuse(task.id, error).await?,
            }
        }
        progress |= self.store_all(analyses, began).await?;
        Ok(progress && tasks.len() == BATCH as usize)
    }

    /// Stores analyses that were begun then; true when any counted.
    async fn store_all(
        self,
        analyses: Vec<(&Task, TaskAnalysis)>,
        began: DateTime<Utc>,
    ) -> StoreResult<bool> {
        let (tasks, analyses): (Vec<_>, Vec<_>) = analyses
            .into_iter()
            .map(|(task, analysis)| (task, (task.id, analysis)))
            .unzip();
        let applied = self.store.analyzed_all(&analyses).await?;
        let took = (began.into(), Utc::now().into());
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
        Ok(progress)
    }

    /// Ends a task whose repository says what can't be.
    async fn refuse(self, task: TaskId, error: ConfigError) -> StoreResult<bool> {
        let failure = error.into_failure();
        let applied = self.store.refuse(task, &failure).await? == Cas::Applied(());
        tracing::info!(task.id = %task, failure.message, applied, "refused");
        Ok(applied)
    }

    /// The agent types that repositories may name: those of the catalog, and those of the fleet's agents,
    /// which are asked for only when a repository names another.
    async fn types(
        self,
        said: &BTreeMap<RepositoryName, Configuration>,
    ) -> StoreResult<BTreeSet<AgentType>> {
        let mut types = self.policy.catalog.names();
        let named = said.values().filter_map(Configuration::agent_type);
        if named.into_iter().any(|(_, named)| !types.contains(named)) {
            let agents = self.store.agents().await?;
            types.extend(agents.into_iter().map(|agent| agent.agent_type));
        }
        Ok(types)
    }
}

/// Refuses what a repository says, if that can't be. A type of agent that it names does not count when a
/// person named one.
fn check(
    task: &Task,
    said: &Configuration,
    types: &BTreeSet<AgentType>,
) -> Result<(), ConfigError> {
    match said {
        Configuration::Wrong(error) => Err(error.clone()),
        said if task.request.agent_type.is_none() => said.check_agent_type(types),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
