//! A pull request that is there once, however often it is asked for.
//!
//! A hidden mark in the text says whose it is. The branch's open pull request is brought up to
//! date, a closed one of the same mark is opened again, a merged one of the same mark is the
//! answer; only else is one made. What GitHub left open is settled by looking again.

use patchfleet_domain::RepositoryName;

use crate::client::GitHub;
use crate::issue::OpenState;
use crate::pull::{NewPullRequest, PullRequest, PullRequestEdit};
use crate::{GitHubError, GitHubResult};

/// How often to look again after an answer that left things open.
const LOOKS: u32 = 3;

impl GitHub {
    /// Makes sure that the branch has this pull request, and only one. The mark, an HTML
    /// comment, is added to the text where it is missing. Where there are no drafts it is opened
    /// ready for review.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn ensure_pull_request(
        &self,
        repository: &RepositoryName,
        new: &NewPullRequest,
        mark: &str,
    ) -> GitHubResult<PullRequest> {
        let wanted = marked(new, mark);
        let mut repository = repository.clone();
        let mut looks = 1;
        loop {
            match self.try_ensure(&repository, &wanted, mark).await {
                Err(error) if looks < LOOKS && left_open(&error) => {
                    looks += 1;
                    if error.already_exists() {
                        // Lists of pull requests are filtered by the present owner.
                        repository = self.repository(&repository).await?.name;
                    }
                }
                result => return result,
            }
        }
    }

    /// The same where nothing of the mark, and no pull request of the branch, can be there yet: GitHub need
    /// not be asked first. What it answers settles whether it was asked for before all the same.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn ensure_first_pull_request(
        &self,
        repository: &RepositoryName,
        new: &NewPullRequest,
        mark: &str,
    ) -> GitHubResult<PullRequest> {
        match self.open(repository, &marked(new, mark)).await {
            Err(error) if left_open(&error) => {
                self.ensure_pull_request(repository, new, mark).await
            }
            result => result,
        }
    }

    async fn try_ensure(
        &self,
        repository: &RepositoryName,
        wanted: &NewPullRequest,
        mark: &str,
    ) -> GitHubResult<PullRequest> {
        let all = self.pull_requests_of(repository, &wanted.head).await?;
        if let Some(open) = all.iter().find(|one| one.state == OpenState::Open) {
            return self.refresh(repository, open, wanted).await;
        }
        let ours = |one: &&PullRequest| one.body.contains(mark);
        if let Some(merged) = all.iter().filter(ours).find(|one| one.merged) {
            return Ok(merged.clone());
        }
        if let Some(closed) = all.iter().find(ours) {
            match self.refresh(repository, closed, wanted).await {
                // Its branch was deleted or rewritten meanwhile: it can't be opened again.
                Err(GitHubError::Invalid { .. }) => {}
                result => return result,
            }
        }
        self.open(repository, wanted).await
    }

    async fn open(
        &self,
        repository: &RepositoryName,
        wanted: &NewPullRequest,
    ) -> GitHubResult<PullRequest> {
        match self.create_pull_request(repository, wanted).await {
            // Private repositories of some plans have none.
            Err(error) if wanted.draft && says_no_drafts(&error) => {
                let ready = NewPullRequest {
                    draft: false,
                    ..wanted.clone()
                };
                self.create_pull_request(repository, &ready).await
            }
            result => result,
        }
    }

    /// Opens it if need be and gives it the wanted title and text; its draft state is people's.
    async fn refresh(
        &self,
        repository: &RepositoryName,
        found: &PullRequest,
        wanted: &NewPullRequest,
    ) -> GitHubResult<PullRequest> {
        let edit = PullRequestEdit {
            title: Some(wanted.title.clone()),
            body: Some(wanted.body.clone()),
            state: (found.state == OpenState::Closed).then_some(OpenState::Open),
        };
        self.update_pull_request(repository, found.number, &edit)
            .await
    }
}

/// True when the pull request may be there in spite of the error.
fn left_open(error: &GitHubError) -> bool {
    error.already_exists() || matches!(error, GitHubError::Unavailable { .. })
}

/// GitHub's words where a plan has no draft pull requests, or its finding about that field.
fn says_no_drafts(error: &GitHubError) -> bool {
    let GitHubError::Invalid { message, errors } = error else {
        return false;
    };
    let mut texts = std::iter::once(message).chain(errors);
    texts.any(|text| {
        let finding: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let text = text.to_lowercase();
        let refuses = [
            "not supported",
            "not available",
            "not enabled",
            "not allowed",
        ];
        finding["field"] == "draft"
            || text.contains("draft") && refuses.iter().any(|words| text.contains(words))
    })
}

fn marked(new: &NewPullRequest, mark: &str) -> NewPullRequest {
    let mut wanted = new.clone();
    if !wanted.body.contains(mark) {
        wanted.body = format!("{}\n\n{mark}", wanted.body);
    }
    wanted
}
