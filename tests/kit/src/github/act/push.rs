//! What follows from changed branches: push events, and pull requests in step.

use serde_json::{Value, json};

use super::super::bare::history::{self, Commit};
use super::super::bare::{self};
use super::super::git;
use super::super::model::{OpenState, Pull};
use super::super::problem::Problem;
use super::super::shape;
use super::Act;

/// The hash that stands for no commit.
const NOTHING: &str = "0000000000000000000000000000000000000000";

/// How many commits a push event lists, on GitHub 2048.
const LISTED: usize = 2048;

/// One ref that moved.
struct Move {
    name: String,
    before: Option<String>,
    after: Option<String>,
}

impl Act<'_> {
    /// Compares the refs with those last announced and announces what moved.
    pub(crate) fn note_push(&mut self) -> Result<(), Problem> {
        let (folder, now) = (self.folder(), self.state.now());
        let refs = bare::refs(&folder)?;
        let repository = self.repo_mut();
        let before = std::mem::replace(&mut repository.refs, refs.clone());
        let mut names: Vec<_> = before.keys().chain(refs.keys()).cloned().collect();
        names.sort();
        names.dedup();
        let moves: Vec<_> = names
            .into_iter()
            .map(|name| Move {
                before: before.get(&name).cloned(),
                after: refs.get(&name).cloned(),
                name,
            })
            .filter(|one| one.before != one.after)
            .collect();
        if !moves.is_empty() {
            repository.pushed_at = now;
        }
        for one in &moves {
            self.announce_push(one)?;
            self.follow(one)?;
        }
        Ok(())
    }

    fn announce_push(&mut self, one: &Move) -> Result<(), Problem> {
        let folder = self.folder();
        let commits = match (&one.before, &one.after) {
            (Some(before), Some(after)) => history::commits_between(&folder, before, after)?,
            (None, Some(after)) => self.new_commits(after)?,
            (_, None) => Vec::new(),
        };
        let head = match &one.after {
            Some(after) => Some(history::commit(&folder, after)?),
            None => None,
        };
        let forced = match (&one.before, &one.after) {
            (Some(before), Some(after)) => {
                !git::test(&folder, &["merge-base", "--is-ancestor", before, after])?
            }
            _ => false,
        };
        let email = format!("{}@users.noreply.github.com", self.by);
        let start = one.before.as_deref().unwrap_or(NOTHING);
        let end = one.after.as_deref().unwrap_or(NOTHING);
        let html = shape::html_url(self.state, self.repo());
        let list = commits
            .iter()
            .take(LISTED)
            .map(|commit| self.pushed_commit(commit));
        let body = json!({
            "ref": one.name,
            "before": start,
            "after": end,
            "created": one.before.is_none(),
            "deleted": one.after.is_none(),
            "forced": forced,
            "base_ref": null,
            "compare": format!("{html}/compare/{start}...{end}"),
            "commits": list.collect::<Result<Vec<_>, _>>()?,
            "head_commit": head.map(|commit| self.pushed_commit(&commit)).transpose()?,
            "pusher": { "name": self.by, "email": email },
        });
        self.announce("push", body);
        Ok(())
    }

    /// Commits of a new branch that the default branch lacks.
    fn new_commits(&self, after: &str) -> Result<Vec<Commit>, Problem> {
        let default = self.repo().branch_sha(&self.repo().default_branch);
        match default {
            Some(base) => Ok(history::commits_between(&self.folder(), base, after)?),
            None => Ok(Vec::new()),
        }
    }

    fn pushed_commit(&self, commit: &Commit) -> Result<Value, Problem> {
        let html = shape::html_url(self.state, self.repo());
        let person = |one: &history::Person| json!({ "name": one.name, "email": one.email });
        let mut body = json!({
            "id": commit.sha,
            "tree_id": commit.tree,
            "distinct": true,
            "message": commit.message,
            "timestamp": commit.committer.date,
            "url": format!("{html}/commit/{}", commit.sha),
            "author": person(&commit.author),
            "committer": person(&commit.committer),
        });
        let touched = history::touched(&self.folder(), commit)?;
        for key in ["added", "removed", "modified"] {
            let paths = touched.iter().filter(|(kind, _)| *kind == key);
            body[key] = paths.map(|(_, path)| json!(path)).collect();
        }
        Ok(body)
    }

    /// Brings the open pull requests of a branch that moved up to date.
    fn follow(&mut self, one: &Move) -> Result<(), Problem> {
        let Some(branch) = one.name.strip_prefix("refs/heads/") else {
            return Ok(());
        };
        for number in self.open_pulls(|pull| pull.head == branch) {
            match &one.after {
                Some(after) => self.synchronize(number, after)?,
                None => self.close_issue(number, None)?,
            }
        }
        for number in self.open_pulls(|pull| pull.base == branch) {
            self.base_moved(number)?;
        }
        Ok(())
    }

    fn open_pulls(&self, wanted: impl Fn(&Pull) -> bool) -> Vec<u64> {
        let issues = self.repo().issues.values();
        issues
            .filter(|issue| issue.state == OpenState::Open)
            .filter(|issue| issue.pull.as_ref().is_some_and(&wanted))
            .map(|issue| issue.number)
            .collect()
    }

    fn synchronize(&mut self, number: u64, after: &str) -> Result<(), Problem> {
        let before = self.state.pull(self.repository, number)?.1.head_sha.clone();
        self.recompute(number)?;
        let more = json!({ "before": before, "after": after });
        self.announce_issue(number, "synchronize", more)
    }

    /// A head that the base has reached counts as merged, as on GitHub.
    fn base_moved(&mut self, number: u64) -> Result<(), Problem> {
        let pull = self.state.pull(self.repository, number)?.1.clone();
        let Some(tip) = self.repo().branch_sha(&pull.base).map(str::to_owned) else {
            return self.close_issue(number, None);
        };
        let folder = self.folder();
        if git::test(
            &folder,
            &["merge-base", "--is-ancestor", &pull.head_sha, &tip],
        )? {
            self.set_merged(number, &tip)?;
            self.close_issue(number, None)?;
            return self.close_fixed(number, &pull.base);
        }
        self.recompute(number)
    }
}
