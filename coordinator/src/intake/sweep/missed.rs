//! What was missed is taken in as if its webhook had come.

use patchfleet_domain::{IssueNumber, RepositoryName, Task, Timestamp};
use patchfleet_github::{GitHubError, Issue as Found, IssueEvent as Happened, OpenState};

use super::Sweeper;
use crate::intake::key::BIRTH;
use crate::intake::{IntakeError, Taken};
use crate::store::{Act, Delivery, Recorded, Reply};
use crate::webhook::event::{
    Event, Issue, IssueAction, IssueEvent, PullRequestClosed, PullRequestReopened, Repository,
};

/// Said on an issue that an outsider may have changed since a maintainer triggered it.
const CHANGED: &str = "GitHub's message about the trigger was lost, and the issue has changed since. \
    Read it again, then take the label off and put it on.";

/// What happened on GitHub and nobody told.
#[derive(Debug)]
pub(super) enum Missed {
    /// An issue was triggered.
    Trigger {
        found: Box<Found>,
        /// A task of the issue is active.
        is_busy: bool,
        event: Happened,
        action: IssueAction,
    },
    /// A task's issue was closed.
    Closed(Box<Task>, Box<Found>),
    /// A task's issue was deleted or moved to another repository.
    Gone(Box<Task>),
    /// The pull request was closed that a task in review is about.
    PullRequest(Box<Task>, u64),
    /// The pull request is open again whose closing failed a task.
    Reopened(Box<Task>, u64),
    /// That pull request was merged since.
    MergedAfterAll(Box<Task>, u64),
}

impl Sweeper {
    /// Takes in what was missed; true when it was news.
    pub(super) async fn take(
        &self,
        shown: &Repository,
        missed: Missed,
    ) -> Result<bool, IntakeError> {
        let (id, event) = match missed {
            Missed::Trigger {
                found,
                is_busy,
                event,
                action,
            } => {
                let id = format!("sweep-event-{}", event.id);
                if self.intake.store.delivery_seen(&id).await? {
                    return Ok(false);
                }
                let is_in_doubt = self.is_in_doubt(shown, (&found, &event)).await?;
                let event = IssueEvent {
                    action,
                    issue: issue_of(*found, event.created_at),
                    repository: shown.clone(),
                    sender: event.actor,
                };
                if is_in_doubt {
                    return self.refuse(id, is_busy, &event).await;
                }
                (id, Event::Issue(Box::new(event)))
            }
            Missed::Closed(task, found) => {
                let actor = found.closed_by.clone().unwrap_or_else(ghost);
                let at = found.updated_at;
                let event = IssueEvent {
                    action: IssueAction::Closed,
                    issue: issue_of(*found, at),
                    repository: shown.clone(),
                    sender: actor,
                };
                let id = format!("sweep-closed-{}-{}", task.id, task.attempt);
                (id, Event::Issue(Box::new(event)))
            }
            Missed::Gone(task) => return self.call_off(shown, &task).await,
            Missed::PullRequest(task, number) => {
                let event = self.closed_pull_request(shown, &task, number).await?;
                let id = format!("sweep-pull-request-{}-{}", task.id, task.attempt);
                (id, event)
            }
            Missed::Reopened(task, number) => {
                let at = task.updated_at.timestamp();
                let id = format!("sweep-reopened-{}-{at}", task.id);
                let event = PullRequestReopened {
                    number,
                    head: Some(task.branch.clone()),
                    repository: shown.clone(),
                    sender: ghost(),
                };
                (id, Event::PullRequestReopened(Box::new(event)))
            }
            Missed::MergedAfterAll(task, number) => {
                let at = task.updated_at.timestamp();
                let id = format!("sweep-merged-{}-{at}", task.id);
                let event = PullRequestClosed {
                    number,
                    head: Some(task.branch.clone()),
                    merged: true,
                    repository: shown.clone(),
                    sender: ghost(),
                };
                (id, Event::PullRequestClosed(Box::new(event)))
            }
        };
        if matches!(event, Event::Other(_)) {
            return Ok(false);
        }
        let delivery = delivery(id, &event, &shown.name);
        let taken = self.intake.take(&delivery, &event).await?;
        let news = matches!(taken, Taken::Acted(_));
        if news {
            let labels = [delivery.event.as_str(), "swept"];
            self.metrics
                .webhook_deliveries
                .with_label_values(&labels)
                .inc();
        }
        Ok(news)
    }

    /// Calls a task off whose issue is gone.
    async fn call_off(&self, shown: &Repository, task: &Task) -> Result<bool, IntakeError> {
        let Some(issue) = task.issue else {
            return Ok(false);
        };
        let delivery = Delivery {
            id: format!("sweep-gone-{}-{}", task.id, task.attempt),
            event: "issues".to_owned(),
            action: Some("deleted".to_owned()),
            repository: Some(shown.name.clone()),
            issue: Some(issue),
        };
        let acts = [Act::IssueGone {
            repository: shown.name.clone(),
            issue,
        }];
        let recorded = self.intake.store.record_delivery(&delivery, &acts).await?;
        Ok(matches!(recorded, Recorded::New(_)))
    }

    /// What a maintainer triggered is the text of that moment. It may be another one by now, by
    /// somebody who could not have triggered it.
    async fn is_in_doubt(
        &self,
        shown: &Repository,
        (found, event): (&Found, &Happened),
    ) -> Result<bool, IntakeError> {
        let is_as_it_was = found.updated_at <= event.created_at + BIRTH;
        Ok(!is_as_it_was && !self.intake.deciding().may(shown, &found.user).await?)
    }

    /// Asks for the trigger once more, once; but not for one that a task has handled which was active
    /// at that moment.
    async fn refuse(
        &self,
        id: String,
        is_busy: bool,
        event: &IssueEvent,
    ) -> Result<bool, IntakeError> {
        let repository = &event.repository.name;
        let ask = Act::Reply {
            repository: repository.clone(),
            issue: event.issue.number,
            reply: Reply::Problem {
                message: CHANGED.to_owned(),
            },
        };
        let acts = if is_busy {
            let end = self.intake.deciding().end_before(event).await?;
            end.map_or_else(Vec::new, |end| vec![end, ask])
        } else {
            vec![ask]
        };
        let delivery = Delivery {
            id,
            event: "issues".to_owned(),
            action: Some(name(&event.action).to_owned()),
            repository: Some(repository.clone()),
            issue: Some(event.issue.number),
        };
        let recorded = self.intake.store.record_delivery(&delivery, &acts).await?;
        Ok(!acts.is_empty() && matches!(recorded, Recorded::New(_)))
    }

    async fn closed_pull_request(
        &self,
        shown: &Repository,
        task: &Task,
        number: u64,
    ) -> Result<Event, IntakeError> {
        let pull = match self.github().pull_request(&shown.name, number).await {
            Ok(pull) if pull.state == OpenState::Closed => pull,
            Ok(_) => return Ok(Event::Other("it is open")),
            Err(GitHubError::NotFound) => return Ok(Event::Other("it is gone")),
            Err(error) => return Err(error.into()),
        };
        let about = self
            .github()
            .issue(&shown.name, IssueNumber(number))
            .await?;
        Ok(Event::PullRequestClosed(Box::new(PullRequestClosed {
            number,
            head: Some(task.branch.clone()),
            merged: pull.merged,
            repository: shown.clone(),
            sender: about.closed_by.unwrap_or_else(ghost),
        })))
    }
}

/// The issue as the event would have shown it: it changed last at that moment.
fn issue_of(found: Found, at: Timestamp) -> Issue {
    Issue {
        id: found.id,
        number: found.number,
        title: found.title,
        body: found.body,
        author: found.user,
        labels: found.labels,
        assignees: found.assignees,
        is_open: found.state == OpenState::Open,
        is_pull_request: found.is_pull_request,
        created_at: found.created_at,
        updated_at: at,
    }
}

/// GitHub's word for what happened to an issue.
const fn name(action: &IssueAction) -> &'static str {
    match action {
        IssueAction::Labeled(_) => "labeled",
        IssueAction::Assigned(_) => "assigned",
        IssueAction::Closed => "closed",
        IssueAction::Opened => "opened",
        IssueAction::Reopened => "reopened",
    }
}

fn delivery(id: String, event: &Event, repository: &RepositoryName) -> Delivery {
    let (event, action) = match event {
        Event::Issue(event) => ("issues", Some(name(&event.action))),
        Event::PullRequestClosed(_) => ("pull_request", Some("closed")),
        Event::PullRequestReopened(_) => ("pull_request", Some("reopened")),
        Event::RepositoryMoved(_) | Event::RepositoryDeleted(_) => ("repository", None),
        Event::Comment(_) => ("issue_comment", Some("created")),
        Event::Other(_) => ("other", None),
    };
    Delivery {
        id,
        event: event.to_owned(),
        action: action.map(str::to_owned),
        repository: Some(repository.clone()),
        issue: None,
    }
}

fn ghost() -> String {
    "ghost".to_owned()
}
