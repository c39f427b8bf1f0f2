//! Missed deliveries: GitHub is compared with the tasks now and then, and what was missed is taken in
//! as if its webhook had come.
//!
//! An App has GitHub deliver again what failed; that brings back everything, commands too. What
//! GitHub shows is compared besides: issues that are open and triggered and have no task, tasks
//! whose issue is closed, pull requests that are closed and whose tasks wait for that. What is found
//! goes the way of every event, under an id of its own, so that finding it twice does no harm.
//!
//! What goes wrong with one delivery, repository or issue is logged and passed over: the rest is
//! swept. A sweep spends no more of GitHub's limit than leaves a fifth of it to everything else
//! ([`RequestPriority`]), and begins with no repository when its time is over; what it leaves off comes
//! first the next time.
//! One replica does it at a time. Absent: commands and follow-ups in comments
//! that nobody delivers again.

mod deliveries;
mod gone;
mod missed;
mod places;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use patchfleet_domain::{IssueNumber, RepositoryName, Task, TaskState, Timestamp, is_same_label};
use patchfleet_github::{
    Budget, GitHub, GitHubError, Identity, IdentityKind, Issue as Found, IssueEvent as Happened,
    OpenIssues, OpenState, RequestPriority,
};
use patchfleet_telemetry::Metrics;
use tokio_util::sync::CancellationToken;

use super::key::BIRTH;
use super::{Intake, IntakeError};
use crate::store::LastTrigger;
use crate::webhook::event::{IssueAction, Repository};
use gone::Present;
use missed::Missed;

/// What is younger than this may still be on its way.
const ON_ITS_WAY: Duration = Duration::from_mins(1);
/// Triggered issues whose events are asked for in one sweep of a repository: first those without an
/// active task, and of either those that changed last.
const LOOKED_AT: usize = 50;
/// How far GitHub's clock and ours may be apart.
pub(super) const SKEW: TimeDelta = TimeDelta::seconds(30);
/// How far back deliveries are read again, so that those that fail over and over are known.
const LOOK_BACK: Duration = Duration::from_hours(1);
/// How long a sweep takes at most, but for its last repository.
const TIME: Duration = Duration::from_mins(10);
/// The maximum age of an event that counts as missed, unless deliveries are kept for another time.
const MEMORY: Duration = Duration::from_hours(30 * 24);

/// Finds what was missed.
#[derive(Debug)]
pub struct Sweeper {
    intake: Arc<Intake>,
    /// For what is only compared.
    github: GitHub,
    metrics: Metrics,
    /// What is younger may still be on its way.
    patience: Duration,
    look_back: Duration,
    /// The maximum age of an event that counts as missed.
    memory: Duration,
    /// How long it may take before no further repository is begun with.
    time: Duration,
    /// The repository that the last sweep left off at.
    next: Mutex<Option<RepositoryName>>,
}

/// What a sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Deliveries that GitHub was asked to make again.
    pub redelivered: usize,
    /// Events that were taken in without a webhook.
    pub taken: usize,
    /// Repositories that could not be compared, or not wholly.
    pub failed: usize,
    /// Repositories that are left for the next time, to spare GitHub's limit or for lack of time.
    pub put_off: usize,
}

/// Sweeps that often until the shutdown.
pub async fn run(sweeper: Sweeper, every: Duration, shutdown: CancellationToken) {
    let mut sweeper = sweeper.patient_for(every.min(ON_ITS_WAY));
    sweeper.look_back = LOOK_BACK.max(every * 6);
    sweeper = sweeper.within(every);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        // Less, because each replica has a clock of its own.
        let sweep = Box::pin(sweeper.sweep_if_due(every / 2));
        match shutdown.run_until_cancelled(sweep).await {
            None => return,
            Some(Ok(Some(swept))) if swept != Swept::default() => {
                tracing::warn!(
                    ?swept,
                    "webhooks had not arrived, or GitHub could not be compared"
                );
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "GitHub could not be compared with the tasks");
            }
        }
    }
}

impl Sweeper {
    /// A sweeper that hands what it finds to that intake.
    pub fn new(intake: Arc<Intake>, metrics: Metrics) -> Self {
        let github = intake.github.clone();
        Self {
            intake,
            github: github.with_priority(RequestPriority::Sweep),
            metrics,
            patience: ON_ITS_WAY,
            look_back: LOOK_BACK,
            memory: MEMORY,
            time: TIME,
            next: Mutex::new(None),
        }
    }

    /// The minimum age of an event before it counts as missed.
    #[must_use]
    pub fn patient_for(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The maximum age of an event that counts as missed: how long deliveries are remembered.
    #[must_use]
    pub fn remembering(self, memory: Duration) -> Self {
        Self { memory, ..self }
    }

    /// How long a sweep goes on with a further repository. Where GitHub hangs each of them takes its
    /// time, and those that come last are not to wait for all of it.
    #[must_use]
    pub fn within(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    /// Sweeps, unless somebody did within that time.
    ///
    /// # Errors
    /// When GitHub does not say who we are or the store can't be asked; what was found before that
    /// was taken in.
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
        let mut first_put_off = None;
        let begun = Instant::now();
        for (at, repository) in self.places().await?.into_iter().enumerate() {
            // One is always swept, so that all have their turn.
            let is_over = at > 0 && begun.elapsed() >= self.time;
            if is_over || self.is_to_be_spared(&repository).await {
                swept.put_off += 1;
                first_put_off.get_or_insert(repository);
                continue;
            }
            let mut tally = Tally::default();
            let done = self
                .sweep_repository(&identity, &repository, &mut tally)
                .await;
            swept.taken += tally.taken;
            tally.note(&repository, done)?;
            swept.failed += usize::from(tally.failed);
            if tally.is_limited {
                swept.put_off += 1;
                first_put_off.get_or_insert(repository);
            }
        }
        self.begin_with(first_put_off);
        Ok(swept)
    }

    const fn github(&self) -> &GitHub {
        &self.github
    }

    /// True while little is left of the limit that the repository's requests are spent from.
    async fn is_to_be_spared(&self, repository: &RepositoryName) -> bool {
        let budget = self.github().budget_for(repository).await;
        budget.is_ok_and(|budget| is_low(budget.as_ref()))
    }

    fn is_recent(&self, at: Timestamp) -> bool {
        at + self.patience > Utc::now()
    }

    /// True for what may have been acted on and forgotten since: nobody waits for it any more.
    fn is_forgotten(&self, at: Timestamp) -> bool {
        Utc::now() - self.memory > at
    }

    async fn sweep_repository(
        &self,
        identity: &Identity,
        repository: &RepositoryName,
        tally: &mut Tally,
    ) -> Result<(), IntakeError> {
        let active = self.intake.store.active_tasks(repository).await?;
        let since = Utc::now() - self.memory;
        let closed = self
            .intake
            .store
            .closed_pull_requests(repository, since)
            .await?;
        let mut known = None;
        if !active.is_empty() || !closed.is_empty() {
            match self.present(repository).await? {
                Present::Here(found) => known = Some(found),
                // Nothing else is to be had from it; moved, its tasks are compared the next time.
                Present::Moved | Present::Hidden => return Ok(()),
            }
        }
        let open = self.triggered(identity, repository).await?;
        let mut ended = self.ended(repository, &active, &open, tally).await?;
        let reopened = self.reopened(repository, &closed).await;
        ended.extend(tally.note(repository, reopened)?.into_iter().flatten());
        let mut events = Vec::new();
        let busy: BTreeSet<_> = active.iter().filter_map(|task| task.issue).collect();
        // Also those with an active task: a trigger that is kept as handled while the task is there is
        // no new one when it is over.
        let mut open: Vec<_> = open.into_values().collect();
        let is_busy = |issue: &Found| busy.contains(&issue.number);
        open.sort_by_key(|issue| (is_busy(issue), Reverse(issue.updated_at)));
        for found in open.into_iter().take(LOOKED_AT) {
            let is_busy = is_busy(&found);
            let missed = self.missed(identity, repository, (found, is_busy)).await;
            events.extend(tally.note(repository, missed)?.flatten());
        }
        // Triggers go first: each is compared with the end that came before it. A task that was still
        // active at that moment has handled it, which shows only before the end is taken in.
        events.extend(ended);
        if events.is_empty() {
            return Ok(());
        }
        let known = match known {
            Some(known) => known,
            None => self.github().repository(repository).await?,
        };
        let shown = Repository {
            id: None,
            name: repository.clone(),
            clone_url: known.clone_url,
            default_branch: known.default_branch,
        };
        for missed in events {
            let taken = self.take(&shown, missed).await;
            tally.taken += usize::from(tally.note(repository, taken)?.unwrap_or(false));
        }
        Ok(())
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

    /// The newest trigger of an open issue, unless it led to a task or was handled by one.
    async fn missed(
        &self,
        identity: &Identity,
        repository: &RepositoryName,
        (found, is_busy): (Found, bool),
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
        let triggered = self.intake.store.last_triggered(repository, found.number);
        let led_to = |last: LastTrigger| {
            let at_least = match last {
                // The same clock twice; all events of an opening are one act.
                LastTrigger::Act(at) => at + BIRTH,
                LastTrigger::Made(at) => at + SKEW,
            };
            at_least >= event.created_at
        };
        if self.is_recent(event.created_at)
            || self.is_forgotten(event.created_at)
            || triggered.await?.is_some_and(led_to)
        {
            return Ok(None);
        }
        Ok(Some(Missed::Trigger {
            found: Box::new(found),
            is_busy,
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
        tally: &mut Tally,
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
            let found = self.github().issue(repository, issue).await;
            if found == Err(GitHubError::NotFound) {
                ended.push(Missed::Gone(Box::new(task.clone())));
                continue;
            }
            let found = tally.note(repository, found.map_err(IntakeError::from))?;
            if let Some(found) = found.filter(|found| found.state == OpenState::Closed) {
                ended.push(Missed::Closed(Box::new(task.clone()), Box::new(found)));
            }
        }
        Ok(ended)
    }
}

/// How sweeping a repository goes.
#[derive(Debug, Default)]
struct Tally {
    taken: usize,
    failed: bool,
    /// The rest is for the next time.
    is_limited: bool,
}

impl Tally {
    /// Passes over what GitHub does not answer about one thing; without the store, or a place, there
    /// is no use in going on.
    fn note<T>(
        &mut self,
        repository: &RepositoryName,
        result: Result<T, IntakeError>,
    ) -> Result<Option<T>, IntakeError> {
        match result {
            Ok(found) => Ok(Some(found)),
            Err(IntakeError::GitHub(GitHubError::RateLimited { .. })) => {
                self.is_limited = true;
                Ok(None)
            }
            Err(IntakeError::GitHub(error)) => {
                self.failed = true;
                // What is gone, or not ours any more, stays so.
                if matches!(error, GitHubError::NotFound | GitHubError::Forbidden { .. }) {
                    tracing::debug!(%repository, %error, "not compared");
                } else {
                    tracing::warn!(%repository, %error, "could not be compared with the tasks");
                }
                Ok(None)
            }
            // What is deferred tells of the same, and more of it.
            Err(IntakeError::Behind) => Ok(None),
            Err(
                error @ (IntakeError::Store(_) | IntakeError::InDoubt(_) | IntakeError::Crowded),
            ) => Err(error),
        }
    }
}

fn is_low(budget: Option<&Budget>) -> bool {
    budget.is_some_and(|budget| budget.wait_of(RequestPriority::Sweep).is_some())
}

fn action_of(event: &Happened, label: &str, identity: &Identity) -> Option<IssueAction> {
    match event.event.as_str() {
        "labeled" => {
            let name = event.label.clone()?;
            let is_ours = is_same_label(&name, label);
            is_ours.then_some(IssueAction::Labeled(name))
        }
        "assigned" => {
            let login = event.assignee.clone()?;
            identity.is(&login).then_some(IssueAction::Assigned(login))
        }
        _ => None,
    }
}
