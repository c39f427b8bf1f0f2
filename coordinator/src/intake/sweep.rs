//! Missed deliveries: GitHub is compared with the tasks now and then, and what was missed is taken in
//! as if its webhook had come.
//!
//! An App has GitHub deliver again what failed; that brings back everything, commands too. What
//! GitHub shows is compared besides: issues that are open and triggered and have no task, tasks
//! whose issue is closed, pull requests that are closed and whose tasks wait for that. What is found
//! goes the way of every event, under an id of its own, so that finding it twice does no harm.
//! One replica does it at a time. Absent: commands in comments that nobody delivers again.

mod missed;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use patchfleet_domain::{IssueNumber, RepositoryName, Task, TaskState, Timestamp};
use patchfleet_github::{
    GitHub, GitHubError, Identity, IdentityKind, Issue as Found, IssueEvent as Happened,
    OpenIssues, OpenState,
};
use patchfleet_telemetry::Metrics;
use tokio_util::sync::CancellationToken;

use super::{Intake, IntakeError};
use crate::webhook::event::{IssueAction, Repository};
use missed::Missed;

/// What is younger than this may still be on its way.
const ON_ITS_WAY: Duration = Duration::from_mins(1);
/// Issues without an active task whose events are asked for in one sweep of a repository: those that
/// changed last.
const LOOKED_AT: usize = 50;
/// How far GitHub's clock and the database's may be apart.
const SKEW: TimeDelta = TimeDelta::seconds(30);

/// Finds what was missed.
#[derive(Debug)]
pub struct Sweeper {
    intake: Arc<Intake>,
    metrics: Metrics,
    /// What is younger may still be on its way.
    patience: Duration,
}

/// What a sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Deliveries that GitHub was asked to make again.
    pub redelivered: usize,
    /// Events that were taken in without a webhook.
    pub taken: usize,
}

/// Sweeps that often until the shutdown.
pub async fn run(sweeper: Sweeper, every: Duration, shutdown: CancellationToken) {
    let sweeper = sweeper.patient_for(every.min(ON_ITS_WAY));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        // Less, because each replica has a clock of its own.
        match sweeper.sweep_if_due(every / 2).await {
            Ok(Some(swept)) if swept != Swept::default() => {
                tracing::warn!(?swept, "webhooks had not arrived");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "GitHub could not be compared with the tasks"),
        }
    }
}

impl Sweeper {
    /// A sweeper that hands what it finds to that intake.
    pub const fn new(intake: Arc<Intake>, metrics: Metrics) -> Self {
        Self {
            intake,
            metrics,
            patience: ON_ITS_WAY,
        }
    }

    /// Takes nothing that is older for being on its way.
    #[must_use]
    pub fn patient_for(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Sweeps, unless somebody did within that time.
    ///
    /// # Errors
    /// When GitHub or the store can't be asked; what was found before that was taken in.
    pub async fn sweep_if_due(&self, every: Duration) -> Result<Option<Swept>, IntakeError> {
        if !self.intake.store.claim_sweep(every).await? {
            return Ok(None);
        }
        self.sweep().await.map(Some)
    }

    async fn sweep(&self) -> Result<Swept, IntakeError> {
        let identity = self.github().identity().await?;
        let mut swept = Swept::default();
        if identity.kind == IdentityKind::App {
            swept.redelivered = self.redeliver().await?;
        }
        for repository in self.repositories().await? {
            match self.sweep_repository(&identity, &repository).await {
                Ok(taken) => swept.taken += taken,
                // Gone, or not ours any more: the others are.
                Err(IntakeError::GitHub {
                    source: GitHubError::NotFound | GitHubError::Forbidden { .. },
                    ..
                }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(swept)
    }

    fn github(&self) -> &GitHub {
        &self.intake.github
    }

    /// Those that are listed, else those that have tasks.
    async fn repositories(&self) -> Result<Vec<RepositoryName>, IntakeError> {
        match &self.intake.policy.repositories {
            Some(listed) => Ok(listed.iter().cloned().collect()),
            None => Ok(self.intake.store.repositories().await?),
        }
    }

    async fn redeliver(&self) -> Result<usize, IntakeError> {
        let mut asked = 0;
        for failed in self.github().failed_deliveries().await? {
            if self.is_recent(failed.tried_at) {
                continue;
            }
            self.github().redeliver(&failed).await?;
            asked += 1;
        }
        Ok(asked)
    }

    fn is_recent(&self, at: Timestamp) -> bool {
        at + self.patience > Utc::now()
    }

    async fn sweep_repository(
        &self,
        identity: &Identity,
        repository: &RepositoryName,
    ) -> Result<usize, IntakeError> {
        let active = self.intake.store.active_tasks(repository).await?;
        let open = self.triggered(identity, repository).await?;
        let mut events = self.ended(repository, &active, &open).await?;
        let busy: BTreeSet<_> = active.iter().filter_map(|task| task.issue).collect();
        let mut idle: Vec<_> = open.into_values().collect();
        idle.retain(|issue| !busy.contains(&issue.number));
        idle.sort_by_key(|issue| Reverse(issue.updated_at));
        for found in idle.into_iter().take(LOOKED_AT) {
            events.extend(self.missed(identity, repository, found).await?);
        }
        if events.is_empty() {
            return Ok(0);
        }
        let known = self.github().repository(repository).await?;
        let shown = Repository {
            name: repository.clone(),
            clone_url: known.clone_url,
            default_branch: known.default_branch,
        };
        let mut taken = 0;
        for missed in events {
            taken += usize::from(self.take(&shown, missed).await?);
        }
        Ok(taken)
    }

    /// Open issues with a trigger on them.
    async fn triggered(
        &self,
        identity: &Identity,
        repository: &RepositoryName,
    ) -> Result<BTreeMap<IssueNumber, Found>, IntakeError> {
        let labelled = OpenIssues::Labelled(&self.intake.policy.label);
        let mut found = self.github().open_issues(repository, labelled).await?;
        // Nothing can be assigned to an App.
        if identity.kind == IdentityKind::Account {
            let assigned = OpenIssues::AssignedTo(&identity.login);
            found.extend(self.github().open_issues(repository, assigned).await?);
        }
        found.retain(|issue| !issue.is_pull_request);
        Ok(found.into_iter().map(|it| (it.number, it)).collect())
    }

    /// The trigger of an open issue without a task, unless it led to one that is over.
    async fn missed(
        &self,
        identity: &Identity,
        repository: &RepositoryName,
        found: Found,
    ) -> Result<Option<Missed>, IntakeError> {
        let events = self.github().issue_events(repository, found.number).await?;
        let label = &self.intake.policy.label;
        let triggers = events.into_iter().filter_map(|event| {
            let action = action_of(&event, label, identity)?;
            Some((event, action))
        });
        let Some((event, action)) = triggers.max_by_key(|(event, _)| event.id) else {
            return Ok(None);
        };
        let newest = self.intake.store.task_of_issue(repository, found.number);
        let led_to = |task: Task| task.created_at + SKEW >= event.created_at;
        if self.is_recent(event.created_at) || newest.await?.is_some_and(led_to) {
            return Ok(None);
        }
        Ok(Some(Missed::Trigger {
            found: Box::new(found),
            event,
            action,
        }))
    }

    /// Ends that active tasks do not know of.
    async fn ended(
        &self,
        repository: &RepositoryName,
        active: &[Task],
        open: &BTreeMap<IssueNumber, Found>,
    ) -> Result<Vec<Missed>, IntakeError> {
        let settled = active.iter().filter(|it| !self.is_recent(it.updated_at));
        let (review, rest): (Vec<_>, Vec<_>) =
            settled.partition(|task| task.state == TaskState::Review);
        let mut ended = Vec::new();
        if !review.is_empty() {
            let open = self.github().open_pull_requests(repository).await?;
            let number = |task: &Task| task.pull_request.as_ref().map(|it| it.number);
            let closed = review.into_iter().filter_map(|task| {
                let number = number(task).filter(|number| !open.contains(number))?;
                Some(Missed::PullRequest(Box::new(task.clone()), number))
            });
            ended.extend(closed);
        }
        for task in rest {
            let unlisted = task.issue.filter(|issue| !open.contains_key(issue));
            let Some(issue) = unlisted else { continue };
            let found = self.github().issue(repository, issue).await?;
            if found.state == OpenState::Closed {
                ended.push(Missed::Closed(Box::new(task.clone()), Box::new(found)));
            }
        }
        Ok(ended)
    }
}

fn action_of(event: &Happened, label: &str, identity: &Identity) -> Option<IssueAction> {
    match event.event.as_str() {
        "labeled" => {
            let name = event.label.clone()?;
            let is_ours = name.eq_ignore_ascii_case(label);
            is_ours.then_some(IssueAction::Labeled(name))
        }
        "assigned" => {
            let login = event.assignee.clone()?;
            identity.is(&login).then_some(IssueAction::Assigned(login))
        }
        _ => None,
    }
}
