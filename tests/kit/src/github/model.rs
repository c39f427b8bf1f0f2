//! What the simulator knows: repositories, issues, pull requests, comments.
//!
//! Plain data, handed out as clones by the reading methods. No JSON here (see
//! `shape`) and no rules about who may change what (see `act`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, Utc};

/// Identity of a repository inside one simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryId(pub u64);

/// What an account may do in one repository, from nothing to everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Nothing; a private repository looks as if it did not exist.
    None,
    /// Look, open issues, comment.
    Read,
    /// Also label and close issues.
    Triage,
    /// Also push, open and merge pull requests.
    Write,
    /// Also most settings.
    Maintain,
    /// Everything.
    Admin,
}

impl Permission {
    /// The coarse word of the `permission` field.
    pub fn legacy_name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read | Self::Triage => "read",
            Self::Write | Self::Maintain => "write",
            Self::Admin => "admin",
        }
    }

    /// The fine word of the `role_name` field.
    pub fn role_name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Triage => "triage",
            Self::Write => "write",
            Self::Maintain => "maintain",
            Self::Admin => "admin",
        }
    }
}

/// Kind of account, as GitHub's `type` field tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountKind {
    /// A person or a machine user.
    User,
    /// The account that a GitHub App acts as.
    Bot,
}

/// An account.
#[derive(Debug, Clone)]
pub struct User {
    /// Number that GitHub would give it.
    pub id: u64,
    /// Name, unique without regard to case.
    pub login: String,
    /// Person or bot.
    pub kind: AccountKind,
    /// When it was added.
    pub created_at: DateTime<Utc>,
}

/// Open or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenState {
    /// Still to be done.
    Open,
    /// Done, refused or merged.
    Closed,
}

impl OpenState {
    /// GitHub's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// A comment on an issue or pull request.
#[derive(Debug, Clone)]
pub struct Comment {
    /// Number unique in the simulator.
    pub id: u64,
    /// Login of the author.
    pub author: String,
    /// Markdown text as it is now.
    pub body: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When it was last edited.
    pub updated_at: DateTime<Utc>,
}

/// An issue; a pull request is one with `pull` set, as on GitHub.
#[derive(Debug, Clone)]
pub struct Issue {
    /// Number unique in the simulator.
    pub id: u64,
    /// Number within the repository, shared by issues and pull requests.
    pub number: u64,
    /// One line.
    pub title: String,
    /// Markdown text, if any.
    pub body: Option<String>,
    /// Login of the author.
    pub author: String,
    /// Label names in the order in which they were put on.
    pub labels: Vec<String>,
    /// Logins of the assigned accounts.
    pub assignees: Vec<String>,
    /// Open or closed.
    pub state: OpenState,
    /// `completed`, `not_planned` or `reopened`.
    pub state_reason: Option<String>,
    /// Who closed it.
    pub closed_by: Option<String>,
    /// When it was closed.
    pub closed_at: Option<DateTime<Utc>>,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// When anything about it last changed.
    pub updated_at: DateTime<Utc>,
    /// Comments, oldest first.
    pub comments: Vec<Comment>,
    /// What was done to it, oldest first.
    pub happened: Vec<Happened>,
    /// The pull request part, for pull requests.
    pub pull: Option<Pull>,
}

/// Something that was done to an issue.
#[derive(Debug, Clone)]
pub struct Happened {
    /// Number unique in the simulator.
    pub id: u64,
    /// As in the webhook: `labeled`, `assigned`, `closed`.
    pub action: String,
    /// Login of who did it.
    pub by: String,
    /// The label or the account that it is about.
    pub about: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// Size of a pull request, computed by git when its commits change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PullSize {
    /// Commits of the head that the base lacks.
    pub commits: usize,
    /// Files touched.
    pub changed_files: usize,
    /// Lines added.
    pub additions: usize,
    /// Lines removed.
    pub deletions: usize,
}

/// What makes an issue a pull request.
#[derive(Debug, Clone)]
pub struct Pull {
    /// Number unique in the simulator.
    pub id: u64,
    /// Branch that holds the change.
    pub head: String,
    /// Newest commit of that branch.
    pub head_sha: String,
    /// Branch that the change is for.
    pub base: String,
    /// Commit of the base when the pull request was last computed.
    pub base_sha: String,
    /// Not ready for review.
    pub draft: bool,
    /// Whether git can merge it without a conflict.
    pub mergeable: bool,
    /// How large it is.
    pub size: PullSize,
    /// When it was merged.
    pub merged_at: Option<DateTime<Utc>>,
    /// Who merged it.
    pub merged_by: Option<String>,
    /// The commit that merged it.
    pub merge_commit_sha: Option<String>,
    /// Logins asked for a review.
    pub requested_reviewers: Vec<String>,
    /// Reviews, oldest first.
    pub reviews: Vec<Review>,
}

/// The verdict of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewState {
    /// Good to merge.
    Approved,
    /// Must change first.
    ChangesRequested,
    /// Remarks only.
    Commented,
}

/// A review of a pull request.
#[derive(Debug, Clone)]
pub struct Review {
    /// Number unique in the simulator.
    pub id: u64,
    /// Login of the reviewer.
    pub author: String,
    /// Markdown text.
    pub body: String,
    /// The verdict.
    pub state: ReviewState,
    /// Commit that was reviewed.
    pub commit_id: String,
    /// When it was handed in.
    pub submitted_at: DateTime<Utc>,
}

/// A label that a repository offers.
#[derive(Debug, Clone)]
pub struct Label {
    /// Number unique in the simulator.
    pub id: u64,
    /// Name, unique within the repository without regard to case.
    pub name: String,
    /// Six hexadecimal digits.
    pub color: String,
    /// What it is for.
    pub description: Option<String>,
}

/// A check run on a commit.
#[derive(Debug, Clone)]
pub struct CheckRun {
    /// Number unique in the simulator.
    pub id: u64,
    /// Name of the check.
    pub name: String,
    /// Commit that was checked.
    pub head_sha: String,
    /// `queued`, `in_progress` or `completed`.
    pub status: String,
    /// `success`, `failure`, …, once completed.
    pub conclusion: Option<String>,
    /// Headline of the result.
    pub title: Option<String>,
    /// Markdown summary of the result.
    pub summary: Option<String>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// The GitHub App that reported it; none for a check made by the test.
    pub app: Option<u64>,
}

/// A commit status, the older sibling of check runs.
#[derive(Debug, Clone)]
pub struct CommitStatus {
    /// Number unique in the simulator.
    pub id: u64,
    /// Commit it is about.
    pub sha: String,
    /// `pending`, `success`, `failure` or `error`.
    pub state: String,
    /// What reports it.
    pub context: String,
    /// One line.
    pub description: Option<String>,
    /// Where to read more.
    pub target_url: Option<String>,
    /// Login of the reporter.
    pub creator: String,
    /// When it was reported.
    pub created_at: DateTime<Utc>,
}

/// What became of an issue that is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Somebody deleted it.
    Deleted,
    /// It is in another repository, under that number.
    MovedTo(RepositoryId, u64),
}

/// A repository: its account data here, its commits in a bare repository.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Number unique in the simulator.
    pub id: RepositoryId,
    /// Login of the owner.
    pub owner: String,
    /// Name without the owner.
    pub name: String,
    /// Folder of the bare repository.
    pub folder: PathBuf,
    /// Hidden from everybody without a permission.
    pub private: bool,
    /// Where pull requests go.
    pub default_branch: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When something was last pushed.
    pub pushed_at: DateTime<Utc>,
    pub(crate) permissions: BTreeMap<String, Permission>,
    pub(crate) labels: Vec<Label>,
    pub(crate) issues: BTreeMap<u64, Issue>,
    /// Issues that are not there any more.
    pub(crate) left: BTreeMap<u64, Left>,
    pub(crate) is_deleted: bool,
    pub(crate) checks: Vec<CheckRun>,
    pub(crate) statuses: Vec<CommitStatus>,
    /// Branches and tags as last announced by a push event.
    pub(crate) refs: BTreeMap<String, String>,
}

impl Repository {
    /// `owner/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    pub(crate) fn next_number(&self) -> u64 {
        let last = self.issues.keys().next_back();
        let left = self.left.keys().next_back();
        last.max(left).map_or(1, |last| last + 1)
    }

    pub(crate) fn branch_sha(&self, branch: &str) -> Option<&str> {
        self.refs
            .get(&format!("refs/heads/{branch}"))
            .map(String::as_str)
    }
}
