//! Reviews of pull requests.

use serde_json::json;

use super::super::model::{Review, ReviewState};
use super::super::problem::Problem;
use super::super::shape;
use super::Act;

impl Act<'_> {
    /// Hands in a review.
    pub(crate) fn review(
        &mut self,
        number: u64,
        verdict: ReviewState,
        body: &str,
    ) -> Result<u64, Problem> {
        let (issue, pull) = self.state.pull(self.repository, number)?;
        let refused = |message: &str| Err(Problem::custom("PullRequestReview", message.to_owned()));
        if verdict != ReviewState::Commented && issue.author == self.by {
            return refused("Can not approve or request changes on your own pull request");
        }
        if verdict != ReviewState::Approved && body.trim().is_empty() {
            return Err(Problem::invalid(
                "PullRequestReview",
                "body",
                "missing_field",
            ));
        }
        let commit_id = pull.head_sha.clone();
        let review = Review {
            id: self.state.next_id(),
            author: self.by.clone(),
            body: body.to_owned(),
            state: verdict,
            commit_id,
            submitted_at: self.state.now(),
        };
        let by = self.by.clone();
        let pull = self.state.pull_mut(self.repository, number)?;
        pull.requested_reviewers.retain(|login| *login != by);
        pull.reviews.push(review.clone());
        self.touch(number)?;
        self.announce_review(number, &review)?;
        Ok(review.id)
    }

    fn announce_review(&mut self, number: u64, review: &Review) -> Result<(), Problem> {
        let (state, id) = (&*self.state, self.repository);
        let (issue, pull) = state.pull(id, number)?;
        let mut shown = shape::pull::review(state, id, issue, review);
        shown["state"] = json!(review.state.name().to_lowercase());
        let body = json!({
            "action": "submitted",
            "review": shown,
            "pull_request": shape::pull::simple(state, id, issue, pull),
        });
        self.announce("pull_request_review", body);
        Ok(())
    }

    /// Asks accounts for a review.
    pub(crate) fn request_review(&mut self, number: u64, logins: &[String]) -> Result<(), Problem> {
        let author = self.state.pull(self.repository, number)?.0.author.clone();
        if logins.contains(&author) {
            let message = "Review cannot be requested from pull request author.";
            return Err(Problem::custom("PullRequest", message.to_owned()));
        }
        for login in logins {
            if self.state.find_user(login).is_none() {
                return Err(Problem::invalid("PullRequest", "reviewers", "invalid"));
            }
            let pull = self.state.pull_mut(self.repository, number)?;
            if pull.requested_reviewers.contains(login) {
                continue;
            }
            pull.requested_reviewers.push(login.clone());
            self.touch(number)?;
            let reviewer = shape::account::user(self.state, login);
            let more = json!({ "requested_reviewer": reviewer });
            self.announce_issue(number, "review_requested", more)?;
        }
        Ok(())
    }
}
