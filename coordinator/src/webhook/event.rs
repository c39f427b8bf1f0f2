//! Typed events, read with tolerance: an unknown event, action or shape is [`Event::Other`].

use patchfleet_domain::task::branch_issue;
use patchfleet_domain::{IssueNumber, RepositoryName, Timestamp};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::payload::Payload;

/// GitHub's event names, for labels and rows that must not grow without bound.
const NAMES: &[&str] = &[
    "check_run",
    "check_suite",
    "create",
    "delete",
    "installation",
    "installation_repositories",
    "issue_comment",
    "issues",
    "label",
    "meta",
    "ping",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_review_thread",
    "push",
    "repository",
    "status",
    "workflow_job",
    "workflow_run",
];

/// The event's name if it is one of those worth telling apart, else `other`.
pub(super) fn known_name(name: &str) -> &'static str {
    let known = NAMES.iter().find(|known| **known == name);
    known.copied().unwrap_or("other")
}

/// What happened on GitHub, as far as it may matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something about an issue.
    Issue(Box<IssueEvent>),
    /// A new comment on an issue or pull request.
    Comment(Box<CommentEvent>),
    /// A pull request was merged or closed.
    PullRequestClosed(Box<PullRequestClosed>),
    /// A pull request that was closed is open again.
    PullRequestReopened(Box<PullRequestReopened>),
    /// A repository has another name or another owner.
    RepositoryMoved(Box<RepositoryMoved>),
    /// A repository was deleted.
    RepositoryDeleted(Box<RepositoryDeleted>),
    /// Anything else, and why it is of no interest.
    Other(&'static str),
}

/// Something about an issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueEvent {
    /// What was done.
    pub action: IssueAction,
    /// The issue as it was right after.
    pub issue: Issue,
    /// Where.
    pub repository: Repository,
    /// Login of who did it.
    pub sender: String,
}

/// What was done to an issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssueAction {
    /// It is new.
    Opened,
    /// It is open again.
    Reopened,
    /// It was closed, deleted or moved to another repository.
    Closed,
    /// It got this label.
    Labeled(String),
    /// It was assigned to this login.
    Assigned(String),
}

/// A new comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentEvent {
    /// The comment.
    pub comment: Comment,
    /// What it is on.
    pub issue: Issue,
    /// Where.
    pub repository: Repository,
    /// Login of who did it.
    pub sender: String,
}

/// A pull request was merged or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequestClosed {
    /// Its number.
    pub number: u64,
    /// Its head branch; `None` when that is in another repository.
    pub head: Option<String>,
    /// Merged, or just closed.
    pub merged: bool,
    /// Where.
    pub repository: Repository,
    /// Login of who did it.
    pub sender: String,
}

/// A pull request that was closed is open again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequestReopened {
    /// Its number.
    pub number: u64,
    /// Its head branch; `None` when that is in another repository.
    pub head: Option<String>,
    /// Where.
    pub repository: Repository,
    /// Login of who did it.
    pub sender: String,
}

/// A repository has another name or another owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryMoved {
    /// Its full name before.
    pub was: RepositoryName,
    /// As it is now.
    pub repository: Repository,
    /// Login of who did it.
    pub sender: String,
}

/// A repository was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryDeleted {
    /// As it was.
    pub repository: Repository,
    /// Login of who did it.
    pub sender: String,
}

/// A repository as payloads show it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Repository {
    /// Unique over all of GitHub; it stays when the name changes.
    #[serde(default)]
    pub id: Option<u64>,
    /// Its full name.
    #[serde(rename = "full_name")]
    pub name: RepositoryName,
    /// Where git clones from.
    pub clone_url: String,
    /// The branch that pull requests go into.
    pub default_branch: String,
}

/// An issue as payloads show it; pull requests have one too.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "RawIssue")]
pub struct Issue {
    /// Unique over all of GitHub.
    pub id: u64,
    /// Its number in the repository.
    pub number: IssueNumber,
    /// Its title.
    pub title: String,
    /// Its text; empty when it has none.
    pub body: String,
    /// Login of who wrote it; `ghost` when the account is gone.
    pub author: String,
    /// Its labels' names.
    pub labels: Vec<String>,
    /// Logins of those it is assigned to.
    pub assignees: Vec<String>,
    /// Open, not closed.
    pub is_open: bool,
    /// It is a pull request.
    pub is_pull_request: bool,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it last changed; for the event's own issue, when the event happened.
    pub updated_at: Timestamp,
}

/// A comment as payloads show it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Comment {
    /// Unique over all of GitHub.
    pub id: u64,
    /// Its text.
    #[serde(default)]
    pub body: String,
}

#[derive(Debug, Deserialize)]
struct RawIssue {
    id: u64,
    number: IssueNumber,
    title: String,
    body: Option<String>,
    user: Option<Account>,
    #[serde(default)]
    labels: Vec<Option<Named>>,
    /// GitHub shows an account that is gone as `null`, wherever one may stand.
    #[serde(default)]
    assignees: Vec<Option<Account>>,
    state: Option<String>,
    pull_request: Option<IgnoredAny>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Deserialize)]
struct Account {
    login: String,
}

/// Whose account is gone may do nothing.
fn login(account: Option<Account>) -> String {
    account.map_or_else(|| "ghost".to_owned(), |account| account.login)
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

impl From<RawIssue> for Issue {
    fn from(raw: RawIssue) -> Self {
        let labels = raw.labels.into_iter().flatten();
        let assignees = raw.assignees.into_iter().flatten();
        Self {
            id: raw.id,
            number: raw.number,
            title: raw.title,
            body: raw.body.unwrap_or_default(),
            author: login(raw.user),
            labels: labels.map(|label| label.name).collect(),
            assignees: assignees.map(|account| account.login).collect(),
            is_open: raw.state.as_deref() == Some("open"),
            is_pull_request: raw.pull_request.is_some(),
            created_at: raw.created_at,
            updated_at: raw.updated_at,
        }
    }
}

#[derive(Debug, Deserialize)]
struct IssuePayload {
    issue: Issue,
    repository: Repository,
    sender: Option<Account>,
    label: Option<Named>,
    assignee: Option<Account>,
}

#[derive(Debug, Deserialize)]
struct CommentPayload {
    comment: Comment,
    issue: Issue,
    repository: Repository,
    sender: Option<Account>,
}

#[derive(Debug, Deserialize)]
struct PullRequestPayload {
    pull_request: PullRequest,
    repository: Repository,
    sender: Option<Account>,
}

#[derive(Debug, Deserialize)]
struct PullRequest {
    number: u64,
    #[serde(default)]
    merged: bool,
    head: Head,
}

#[derive(Debug, Deserialize)]
struct Head {
    r#ref: String,
    repo: Option<HeadRepository>,
}

#[derive(Debug, Deserialize)]
struct HeadRepository {
    full_name: RepositoryName,
}

#[derive(Debug, Deserialize)]
struct RepositoryPayload {
    repository: Repository,
    sender: Option<Account>,
    #[serde(default)]
    changes: RepositoryChanges,
}

#[derive(Debug, Default, Deserialize)]
struct RepositoryChanges {
    repository: Option<RenamedFrom>,
    owner: Option<OwnerFrom>,
}

#[derive(Debug, Deserialize)]
struct RenamedFrom {
    name: Before<String>,
}

#[derive(Debug, Deserialize)]
struct OwnerFrom {
    from: Owners,
}

/// One of the two.
#[derive(Debug, Deserialize)]
struct Owners {
    user: Option<Account>,
    organization: Option<Account>,
}

/// What something was before.
#[derive(Debug, Deserialize)]
struct Before<T> {
    from: T,
}

impl Event {
    /// The repository and issue that it is about: events of one are judged in their order. A pull
    /// request of ours is about the issue that it is for.
    pub fn subject(&self) -> Option<(&RepositoryName, IssueNumber)> {
        match self {
            Self::Issue(event) => Some((&event.repository.name, event.issue.number)),
            Self::Comment(event) => Some((&event.repository.name, event.issue.number)),
            Self::PullRequestClosed(event) => {
                let issue = event.head.as_deref().and_then(branch_issue);
                let issue = issue.unwrap_or(IssueNumber(event.number));
                Some((&event.repository.name, issue))
            }
            Self::PullRequestReopened(event) => {
                let issue = event.head.as_deref().and_then(branch_issue);
                let issue = issue.unwrap_or(IssueNumber(event.number));
                Some((&event.repository.name, issue))
            }
            Self::RepositoryMoved(_) | Self::RepositoryDeleted(_) | Self::Other(_) => None,
        }
    }

    /// The repository that it is about.
    pub const fn repository(&self) -> Option<&Repository> {
        Some(match self {
            Self::Issue(event) => &event.repository,
            Self::Comment(event) => &event.repository,
            Self::PullRequestClosed(event) => &event.repository,
            Self::PullRequestReopened(event) => &event.repository,
            Self::RepositoryMoved(event) => &event.repository,
            Self::RepositoryDeleted(event) => &event.repository,
            Self::Other(_) => return None,
        })
    }

    /// Login of who did it.
    pub const fn sender(&self) -> Option<&String> {
        Some(match self {
            Self::Issue(event) => &event.sender,
            Self::Comment(event) => &event.sender,
            Self::PullRequestClosed(event) => &event.sender,
            Self::PullRequestReopened(event) => &event.sender,
            Self::RepositoryMoved(event) => &event.sender,
            Self::RepositoryDeleted(event) => &event.sender,
            Self::Other(_) => return None,
        })
    }

    /// The same, about a repository that is called so by now.
    #[must_use]
    pub fn in_repository(mut self, name: RepositoryName) -> Self {
        match &mut self {
            Self::Issue(event) => event.repository.name = name,
            Self::Comment(event) => event.repository.name = name,
            Self::PullRequestClosed(event) => event.repository.name = name,
            Self::PullRequestReopened(event) => event.repository.name = name,
            Self::RepositoryMoved(event) => event.repository.name = name,
            Self::RepositoryDeleted(event) => event.repository.name = name,
            Self::Other(_) => {}
        }
        self
    }

    /// Reads a payload; never fails.
    pub fn read(name: &str, payload: &Payload<'_>) -> Self {
        let action = payload.action.as_deref().unwrap_or_default();
        let event = match (name, action) {
            ("ping", _) => return Self::Other("a ping"),
            ("issues", _) => read_issue(action, payload),
            ("issue_comment", "created") => read_comment(payload),
            ("pull_request", "closed") => read_closed(payload),
            ("pull_request", "reopened") => read_reopened(payload),
            ("repository", "renamed" | "transferred") => read_moved(payload),
            ("repository", "deleted") => read_deleted(payload),
            _ => return Self::Other("no event of interest"),
        };
        event.unwrap_or(Self::Other("the payload lacks fields of its event"))
    }
}

fn read_issue(action: &str, payload: &Payload<'_>) -> Option<Event> {
    let payload: IssuePayload = payload.says()?;
    let action = match action {
        "opened" => IssueAction::Opened,
        "reopened" => IssueAction::Reopened,
        // There is nothing left to be done in this repository either way.
        "closed" | "deleted" | "transferred" => IssueAction::Closed,
        "labeled" => IssueAction::Labeled(payload.label?.name),
        "assigned" => IssueAction::Assigned(payload.assignee?.login),
        _ => return Some(Event::Other("no event of interest")),
    };
    Some(Event::Issue(Box::new(IssueEvent {
        action,
        issue: payload.issue,
        repository: payload.repository,
        sender: login(payload.sender),
    })))
}

fn read_comment(payload: &Payload<'_>) -> Option<Event> {
    let payload: CommentPayload = payload.says()?;
    Some(Event::Comment(Box::new(CommentEvent {
        comment: payload.comment,
        issue: payload.issue,
        repository: payload.repository,
        sender: login(payload.sender),
    })))
}

fn read_closed(payload: &Payload<'_>) -> Option<Event> {
    let payload: PullRequestPayload = payload.says()?;
    Some(Event::PullRequestClosed(Box::new(PullRequestClosed {
        number: payload.pull_request.number,
        merged: payload.pull_request.merged,
        head: payload.own_head(),
        repository: payload.repository,
        sender: login(payload.sender),
    })))
}

fn read_reopened(payload: &Payload<'_>) -> Option<Event> {
    let payload: PullRequestPayload = payload.says()?;
    Some(Event::PullRequestReopened(Box::new(PullRequestReopened {
        number: payload.pull_request.number,
        head: payload.own_head(),
        repository: payload.repository,
        sender: login(payload.sender),
    })))
}

impl PullRequestPayload {
    /// The branch, if it is in the repository itself: a fork may call its branch whatever it likes.
    fn own_head(&self) -> Option<String> {
        let head = &self.pull_request.head;
        let here = |repo: &HeadRepository| repo.full_name == self.repository.name;
        let is_own = head.repo.as_ref().is_some_and(here);
        is_own.then(|| head.r#ref.clone())
    }
}

fn read_moved(payload: &Payload<'_>) -> Option<Event> {
    let payload: RepositoryPayload = payload.says()?;
    let RepositoryChanges { repository, owner } = payload.changes;
    let now = &payload.repository.name;
    let owner = owner.and_then(|owner| owner.from.user.or(owner.from.organization));
    let owner = owner.map_or_else(|| now.owner().to_owned(), |owner| owner.login);
    let name = repository.map_or_else(|| now.name().to_owned(), |it| it.name.from);
    Some(Event::RepositoryMoved(Box::new(RepositoryMoved {
        was: format!("{owner}/{name}").parse().ok()?,
        repository: payload.repository,
        sender: login(payload.sender),
    })))
}

fn read_deleted(payload: &Payload<'_>) -> Option<Event> {
    let payload: RepositoryPayload = payload.says()?;
    Some(Event::RepositoryDeleted(Box::new(RepositoryDeleted {
        repository: payload.repository,
        sender: login(payload.sender),
    })))
}
