//! Check runs and commit statuses.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::super::bare::{self, history};
use super::super::model::{CheckRun, CommitStatus};
use super::super::problem::Problem;
use super::super::shape;
use super::Act;

/// What a reporter says about a check run; what is none stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct CheckReport {
    pub(crate) name: Option<String>,
    pub(crate) head_sha: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) conclusion: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) summary: Option<String>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) completed_at: Option<DateTime<Utc>>,
    pub(crate) app: Option<u64>,
}

/// A commit status to report.
#[derive(Debug, Clone)]
pub(crate) struct NewStatus {
    pub(crate) sha: String,
    pub(crate) state: String,
    pub(crate) context: String,
    pub(crate) description: Option<String>,
    pub(crate) target_url: Option<String>,
}

impl Act<'_> {
    /// Starts a check run, perhaps finished at once.
    pub(crate) fn create_check(&mut self, report: CheckReport) -> Result<CheckRun, Problem> {
        let missing = |field| Problem::invalid("CheckRun", field, "missing_field");
        let name = report.name.clone().ok_or(missing("name"))?;
        let head_sha = report.head_sha.clone().ok_or(missing("head_sha"))?;
        let head_sha = self.known_commit(&head_sha)?;
        let run = CheckRun {
            id: self.state.next_id(),
            name,
            head_sha,
            status: "queued".to_owned(),
            conclusion: None,
            title: None,
            summary: None,
            started_at: report.started_at.unwrap_or(self.state.now()),
            completed_at: None,
            app: report.app,
        };
        let id = run.id;
        self.repo_mut().checks.push(run);
        self.apply_report(id, report, "created")
    }

    /// Reports more about a check run.
    pub(crate) fn update_check(
        &mut self,
        id: u64,
        report: CheckReport,
    ) -> Result<CheckRun, Problem> {
        self.apply_report(id, report, "")
    }

    fn apply_report(
        &mut self,
        id: u64,
        report: CheckReport,
        action: &str,
    ) -> Result<CheckRun, Problem> {
        let now = self.state.now();
        let mut checks = self.repo_mut().checks.iter_mut();
        let run = checks.find(|run| run.id == id).ok_or(Problem::NotFound)?;
        if let Some(name) = report.name {
            run.name = name;
        }
        if let Some(status) = report.status {
            run.status = status;
        }
        if report.conclusion.is_some() {
            run.conclusion = report.conclusion;
            "completed".clone_into(&mut run.status);
            run.completed_at = Some(report.completed_at.unwrap_or(now));
        }
        if run.status == "completed" && run.conclusion.is_none() {
            return Err(Problem::invalid("CheckRun", "conclusion", "missing_field"));
        }
        run.title = report.title.or(run.title.take());
        run.summary = report.summary.or(run.summary.take());
        let run = run.clone();
        if !action.is_empty() {
            self.announce_check(&run, action);
        }
        if run.status == "completed" {
            self.announce_check(&run, "completed");
        }
        Ok(run)
    }

    fn announce_check(&mut self, run: &CheckRun, action: &str) {
        let shown = shape::check::check_run(self.state, self.repo(), run);
        self.announce("check_run", json!({ "action": action, "check_run": shown }));
    }

    /// Reports a commit status.
    pub(crate) fn report_status(&mut self, new: NewStatus) -> Result<CommitStatus, Problem> {
        let words = ["error", "failure", "pending", "success"];
        if !words.contains(&new.state.as_str()) {
            return Err(Problem::invalid("Status", "state", "invalid"));
        }
        let status = CommitStatus {
            id: self.state.next_id(),
            sha: self.known_commit(&new.sha)?,
            state: new.state,
            context: new.context,
            description: new.description,
            target_url: new.target_url,
            creator: self.by.clone(),
            created_at: self.state.now(),
        };
        self.repo_mut().statuses.push(status.clone());
        self.announce_status(&status)?;
        Ok(status)
    }

    fn announce_status(&mut self, status: &CommitStatus) -> Result<(), Problem> {
        let (state, of) = (&*self.state, self.repo());
        let commit = history::commit(&of.folder, &status.sha)?;
        let api = shape::api_url(state, of);
        let branches: Vec<_> = of
            .refs
            .iter()
            .filter(|(_, sha)| **sha == status.sha)
            .filter_map(|(name, sha)| Some((name.strip_prefix("refs/heads/")?, sha)))
            .map(|(name, sha)| {
                let commit = json!({ "sha": sha, "url": format!("{api}/commits/{sha}") });
                json!({ "name": name, "commit": commit, "protected": false })
            })
            .collect();
        let body = json!({
            "id": status.id,
            "sha": status.sha,
            "name": of.full_name(),
            "avatar_url": shape::account::user(state, &status.creator)["avatar_url"],
            "target_url": status.target_url,
            "context": status.context,
            "description": status.description,
            "state": status.state,
            "commit": shape::commit::commit(state, of, &commit),
            "branches": branches,
            "created_at": shape::time(status.created_at),
            "updated_at": shape::time(status.created_at),
        });
        self.announce("status", body);
        Ok(())
    }

    fn known_commit(&self, sha: &str) -> Result<String, Problem> {
        let message = format!("No commit found for SHA: {sha}");
        bare::resolve(&self.repo().folder, sha).ok_or(Problem::Validation {
            message,
            errors: Vec::new(),
        })
    }
}
