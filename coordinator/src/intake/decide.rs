//! What an event leads to.

use std::borrow::Cow;

use patchfleet_domain::task::task_mark;
use patchfleet_domain::{IssueNumber, Task, TaskState, is_same_label};
use patchfleet_github::{GitHubError, Identity, Issue, OpenState, Permission, PullRequest};

use super::command::{self, Command, Parsed};
use super::{Decision, Intake, IntakeError, key, order, own, request};
use crate::budget::Budget;
use crate::store::{Act, LastTrigger, SemanticKey, StoreError, StoreResult, command_id};
use crate::webhook::event::{
    CommentEvent, Event, IssueAction, IssueEvent, PullRequestClosed, PullRequestReopened,
    Repository, RepositoryDeleted,
};

/// Branches that are Patchfleet's.
const BRANCHES: &str = "patchfleet/";
const ON_A_PULL_REQUEST: &str =
    "Commands work on issues. Give this one on the issue that the pull request is for.";

/// One decision, and the time that is left for it.
#[derive(Debug)]
pub(super) struct Deciding<'a> {
    pub(super) intake: &'a Intake,
    pub(super) github: Budget,
    pub(super) store: Budget,
}

impl Deciding<'_> {
    /// Asks the store, which answers in time or is what is away.
    pub(super) async fn store<T>(
        &self,
        asking: impl Future<Output = StoreResult<T>>,
    ) -> StoreResult<T> {
        let answer = self.store.ask(asking).await;
        answer.unwrap_or_else(|spent| Err(StoreError::Unavailable(spent.to_string())))
    }

    /// Asks GitHub, which answers in time or is what is away.
    pub(super) async fn github<T>(
        &self,
        asking: impl Future<Output = Result<T, GitHubError>>,
    ) -> Result<T, GitHubError> {
        let answer = self.github.ask(asking).await;
        answer.unwrap_or_else(|spent| {
            Err(GitHubError::Unavailable {
                message: spent.to_string(),
                retry_after: None,
            })
        })
    }

    /// What the event leads to. A delivery that was recorded before is known, if its id is given.
    pub(super) async fn decide(
        &self,
        delivery: Option<&str>,
        event: &Event,
    ) -> Result<Decision, IntakeError> {
        if let Event::Other(why) = event {
            return Ok(Decision::Ignore(why));
        }
        let Some(event) = &self.under_its_name(event).await? else {
            return Ok(Decision::Ignore("the repository is not on the list"));
        };
        let github = &self.intake.github;
        let identity = self.github(github.identity()).await?;
        if own::is_own(&identity, event) {
            return Ok(Decision::Ignore("an event of our own"));
        }
        match event {
            Event::Issue(event) if event.action == IssueAction::Closed => self.closed(event).await,
            Event::Issue(event) => self.triggered(delivery, (&identity, event)).await,
            Event::Comment(event) => self.addressed(delivery, event).await,
            Event::PullRequestClosed(event) => self.pull_request_closed(event).await,
            Event::PullRequestReopened(event) => self.pull_request_reopened(event).await,
            Event::RepositoryMoved(_) => Ok(Decision::Ignore("its tasks have followed it")),
            Event::RepositoryDeleted(event) => Ok(repository_deleted(event)),
            Event::Other(why) => Ok(Decision::Ignore(why)),
        }
    }

    /// A label or an assignment.
    async fn triggered(
        &self,
        delivery: Option<&str>,
        (identity, event): (&Identity, &IssueEvent),
    ) -> Result<Decision, IntakeError> {
        let Some(key) = key::of_issue_event(&self.intake.policy.label, identity, event) else {
            return Ok(Decision::Ignore("no trigger"));
        };
        if event.issue.is_pull_request || !event.issue.is_open {
            return Ok(Decision::Ignore("not an open issue"));
        }
        if self.is_known(delivery).await? {
            return Ok(Decision::Known);
        }
        if self.is_handled(event, &key).await? {
            return Ok(Decision::Ignore("the act was taken in before"));
        }
        if !self.may(&event.repository, &event.sender).await? {
            return Ok(Decision::Ignore("the actor may not trigger tasks"));
        }
        if let Some(why) = self.taken_back((identity, event)).await? {
            return Ok(Decision::Ignore(why));
        }
        let asked = request::Asked {
            issue: &event.issue,
            repository: &event.repository,
            sender: &event.sender,
            key,
        };
        let create = Act::Create(Box::new(asked.task(&self.intake.policy)));
        let end = self.end_before(event).await?;
        Ok(Decision::Act(end.into_iter().chain([create]).collect()))
    }

    /// True when another event of the same act led to a task, or was handled by one: opening an issue with
    /// a label sends two. GitHub need not be asked again then.
    async fn is_handled(&self, event: &IssueEvent, key: &SemanticKey) -> Result<bool, IntakeError> {
        let (repository, issue) = (&event.repository.name, event.issue.number);
        let last = self.intake.store.last_triggered(repository, issue);
        let moment = match self.store(last).await? {
            Some(LastTrigger::Act(at)) => at,
            Some(LastTrigger::Made(_)) | None => return Ok(false),
        };
        Ok(*key == SemanticKey::of_act(&key.trigger, event.issue.id, moment))
    }

    /// Why the issue asks for nothing any more, if that is so. A payload says what was: deliveries
    /// come late, in another order, and again when somebody has them delivered again.
    async fn taken_back(
        &self,
        (identity, event): (&Identity, &IssueEvent),
    ) -> Result<Option<&'static str>, IntakeError> {
        let Some(now) = self.present(&event.repository, event.issue.number).await? else {
            return Ok(Some("the issue is gone"));
        };
        if now.state == OpenState::Closed {
            return Ok(Some("the issue is closed by now"));
        }
        let label = &self.intake.policy.label;
        let labelled = now.labels.iter().any(|one| is_same_label(one, label));
        let assigned = now.assignees.iter().any(|login| identity.is(login));
        Ok((!labelled && !assigned).then_some("the label or assignment is gone by now"))
    }

    /// The issue as it is now; nothing when there is no such issue any more.
    async fn present(
        &self,
        repository: &Repository,
        issue: IssueNumber,
    ) -> Result<Option<Issue>, IntakeError> {
        let asking = self.intake.github.issue(&repository.name, issue);
        match self.github(asking).await {
            Ok(issue) => Ok(Some(issue)),
            Err(GitHubError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A comment; outsiders are not even told that they are.
    async fn addressed(
        &self,
        delivery: Option<&str>,
        event: &CommentEvent,
    ) -> Result<Decision, IntakeError> {
        let parsed = command::parse(&event.comment.body, &self.intake.policy.agent_types);
        if parsed == Parsed::Nothing {
            return self.follow_up(delivery, event).await;
        }
        if self.is_known(delivery).await? {
            return Ok(Decision::Known);
        }
        if self.was_acted_on(event).await? {
            return Ok(Decision::Ignore("the comment was acted on before"));
        }
        if !self.may(&event.repository, &event.sender).await? {
            return Ok(Decision::Ignore("the actor may not give commands"));
        }
        let act = match parsed {
            Parsed::Nothing => return Ok(Decision::Ignore("no command")),
            Parsed::Problem(message) => order::problem(event, message),
            Parsed::Command(_) if event.issue.is_pull_request => {
                order::problem(event, ON_A_PULL_REQUEST)
            }
            Parsed::Command(command) => {
                let newest = self.newest(&event.repository, event.issue.number).await?;
                let is_late = delivery.is_none() && matches!(command, Command::Run { .. });
                let event = if is_late {
                    Cow::Owned(self.as_it_is_now(event).await?)
                } else {
                    Cow::Borrowed(event)
                };
                order::decide(&self.intake.policy, &event, command, newest.as_ref())
            }
        };
        Ok(Decision::one(order::once(event, act)))
    }

    /// Two webhooks for one repository deliver each comment twice, under ids of their own.
    pub(super) async fn was_acted_on(&self, event: &CommentEvent) -> Result<bool, IntakeError> {
        let id = command_id(event.comment.id);
        Ok(self.store(self.intake.store.delivery_seen(&id)).await?)
    }

    /// A comment that came long ago, on its issue as that is now: no task begins on one that was closed
    /// or is gone since.
    async fn as_it_is_now(&self, event: &CommentEvent) -> Result<CommentEvent, IntakeError> {
        let now = self.present(&event.repository, event.issue.number).await?;
        let mut event = event.clone();
        event.issue.is_open = now.is_some_and(|issue| issue.state == OpenState::Open);
        Ok(event)
    }

    /// Closing an issue calls its task off, unless the task is what closed it.
    async fn closed(&self, event: &IssueEvent) -> Result<Decision, IntakeError> {
        let number = event.issue.number;
        let Some(task) = self.newest(&event.repository, number).await? else {
            return Ok(Decision::Pass("no task"));
        };
        if !task.state.is_active() || task.state == TaskState::Review {
            // In review the pull request decides: its merge closes the issue, too.
            return Ok(Decision::Pass("no task to call off"));
        }
        if self.is_triggered_since(event).await? {
            return Ok(Decision::Pass("the task is of a later trigger"));
        }
        if task.state.has_live_attempt() && self.is_merged(&event.repository, &task).await? {
            return Ok(Decision::Pass("the task's own pull request closed it"));
        }
        Ok(Decision::one(Act::CancelIssue {
            repository: event.repository.name.clone(),
            issue: number,
            actor: event.sender.clone(),
        }))
    }

    /// A fast person merges before the agent could report its pull request. An earlier task of the
    /// issue may have left a merged one on the same branch, so the task's mark decides.
    pub(super) async fn is_merged(
        &self,
        repository: &Repository,
        task: &Task,
    ) -> Result<bool, IntakeError> {
        let github = &self.intake.github;
        let asking = github.pull_requests_of(&repository.name, &task.branch);
        let found = self.github(asking).await;
        let mark = task_mark(task.id);
        match found {
            Ok(found) => Ok(found.iter().any(|it| it.merged && it.body.contains(&mark))),
            Err(GitHubError::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A pull request that is closed without a merge may be open again when its delivery comes.
    async fn pull_request_closed(
        &self,
        event: &PullRequestClosed,
    ) -> Result<Decision, IntakeError> {
        let Some(head) = own_branch(event.head.as_ref()) else {
            return Ok(Decision::Ignore("a pull request of others"));
        };
        let mut merged = event.merged;
        if !merged && let Some(now) = self.pull(&event.repository, event.number).await? {
            if now.state == OpenState::Open {
                return Ok(Decision::Pass("the pull request is open again by now"));
            }
            merged = now.merged;
        }
        Ok(Decision::one(Act::PullRequestClosed {
            repository: event.repository.name.clone(),
            number: event.number,
            head: head.clone(),
            merged,
            actor: event.sender.clone(),
        }))
    }

    async fn pull_request_reopened(
        &self,
        event: &PullRequestReopened,
    ) -> Result<Decision, IntakeError> {
        let Some(head) = own_branch(event.head.as_ref()) else {
            return Ok(Decision::Ignore("a pull request of others"));
        };
        let now = self.pull(&event.repository, event.number).await?;
        if now.is_some_and(|now| now.state == OpenState::Closed) {
            return Ok(Decision::Pass("the pull request is closed by now"));
        }
        Ok(Decision::one(Act::PullRequestReopened {
            repository: event.repository.name.clone(),
            number: event.number,
            head: head.clone(),
            actor: event.sender.clone(),
        }))
    }

    /// The pull request as it is now; nothing when there is no such any more.
    async fn pull(
        &self,
        repository: &Repository,
        number: u64,
    ) -> Result<Option<PullRequest>, IntakeError> {
        let asking = self.intake.github.pull_request(&repository.name, number);
        match self.github(asking).await {
            Ok(pull) => Ok(Some(pull)),
            Err(GitHubError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A quick look that saves asking GitHub; whether it counts, recording it decides.
    pub(super) async fn is_known(&self, delivery: Option<&str>) -> Result<bool, IntakeError> {
        let Some(delivery) = delivery else {
            return Ok(false);
        };
        let Intake { cache, store, .. } = self.intake;
        if cache.may_know_delivery(delivery).await == Some(false) {
            return Ok(false);
        }
        Ok(self.store(store.delivery_seen(delivery)).await?)
    }

    pub(super) async fn newest(
        &self,
        repository: &Repository,
        issue: IssueNumber,
    ) -> Result<Option<Task>, IntakeError> {
        let store = &self.intake.store;
        Ok(self
            .store(store.task_of_issue(&repository.name, issue))
            .await?)
    }

    /// True when GitHub says that the actor may. What it hides is a no; a refusal to say is none: it
    /// may pass, like an App's suspension or an organization's list of addresses.
    pub(super) async fn may(
        &self,
        repository: &Repository,
        login: &str,
    ) -> Result<bool, IntakeError> {
        let asking = self.intake.github.permission(&repository.name, login);
        let permission = match self.github(asking).await {
            Ok(permission) => permission,
            Err(GitHubError::NotFound) => Permission::None,
            Err(error) => return Err(error.into()),
        };
        Ok(permission >= self.intake.policy.least)
    }
}

/// The branch of a pull request, if it is one of ours.
fn own_branch(head: Option<&String>) -> Option<&String> {
    head.filter(|head| head.starts_with(BRANCHES))
}

fn repository_deleted(event: &RepositoryDeleted) -> Decision {
    Decision::one(Act::CancelRepository {
        repository: event.repository.name.clone(),
        actor: event.sender.clone(),
        why: "the repository was deleted on GitHub".to_owned(),
    })
}
