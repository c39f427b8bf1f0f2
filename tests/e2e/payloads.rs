//! Labels as other products met them, through the whole system: what GitHub answers on the way, and what
//! a person finds on the issue and in the pull request afterwards.

use patchfleet_domain::TaskState;
use patchfleet_testkit::github::{Fault, Issue, Matcher, sign};
use serde_json::{Value, json};

use crate::world::{MAINTAINER, Plan, REPOSITORY, World};

const TITLE: &str = "Totals are wrong";

impl World {
    /// Opens an issue with the label, of which GitHub itself delivers nothing.
    async fn open_labelled(&self, title: &str) -> u64 {
        let patience = std::time::Duration::from_secs(20);
        self.github.deliveries_settled(patience).await.unwrap();
        self.github.lose_next(2);
        let (_, body) = crate::world::issue();
        let labels = ["patchfleet"];
        let opened = self
            .github
            .open_issue(REPOSITORY, MAINTAINER, title, &body, &labels);
        self.github.deliveries_settled(patience).await.unwrap();
        opened.unwrap()
    }

    /// Delivers the label of an issue, with what differs in the issue.
    async fn deliver_label(&self, issue: u64, title: &str, locked: bool) {
        let account = json!({"login": MAINTAINER, "id": 3, "type": "User"});
        let repository = self.github.repository(REPOSITORY).unwrap().id.0;
        let (_, body) = crate::world::issue();
        let payload = json!({
            "action": "labeled",
            "label": {"id": 9, "name": "patchfleet"},
            "issue": {
                "id": 1000 + issue, "number": issue, "title": title, "body": body, "state": "open",
                "locked": locked, "user": account, "labels": [{"id": 9, "name": "patchfleet"}],
                "assignees": [], "created_at": "2026-01-01T10:00:00Z",
                "updated_at": "2026-01-01T11:00:00Z",
            },
            "repository": {
                "id": repository, "name": "orders", "full_name": REPOSITORY, "private": false,
                "clone_url": self.github.clone_url(REPOSITORY), "default_branch": "main",
                "owner": {"login": "acme", "id": 2, "type": "User"},
            },
            "sender": account,
        });
        let answer = self.deliver("issues", &payload).await;
        assert_eq!(answer["outcome"], "acted", "{answer}");
    }

    async fn deliver(&self, event: &str, payload: &Value) -> Value {
        let body = payload.to_string();
        let request = reqwest::Client::new()
            .post(self.webhook_url())
            .header("content-type", "application/json")
            .header("x-github-event", event)
            .header("x-github-delivery", "replayed-1")
            .header(
                "x-hub-signature-256",
                sign(&self.keys.webhook, body.as_bytes()),
            )
            .body(body);
        request.send().await.unwrap().json().await.unwrap()
    }

    /// The message of a commit.
    async fn message(&self, sha: &str) -> String {
        let url = format!(
            "{}/repos/{REPOSITORY}/commits/{sha}",
            self.github.base_url()
        );
        let request = reqwest::Client::new()
            .get(url)
            .bearer_auth(self.github.bot_token());
        let commit: Value = request.send().await.unwrap().json().await.unwrap();
        commit["commit"]["message"].as_str().unwrap().to_owned()
    }
}

fn about(issue: u64, what: &str) -> Matcher {
    Matcher::containing("*", &format!("/repos/{REPOSITORY}/issues/{issue}{what}"))
}

#[tokio::test]
async fn a_plan_without_drafts_gets_a_pull_request_for_review() {
    let world = World::new().await;
    let words = "Draft pull requests are not supported in this repository.";
    let opening = Matcher::regex("POST", "/pulls$").unwrap();
    world.github.fault(opening, Fault::Refusal(422, words), 1);
    let issue = world.open_labelled(TITLE).await;
    world.deliver_label(issue, TITLE, false).await;
    let pull: Issue = world.pull_request().await;
    assert!(!pull.pull.unwrap().draft);
    assert_eq!(world.drafts(), 1);
    world.status_says(issue, "ready for review").await;
}

#[tokio::test]
async fn on_a_locked_issue_the_label_tells_how_it_stands() {
    let world = World::new().await;
    let issue = world.open_labelled(TITLE).await;
    let words = "Unable to create comment because issue is locked.";
    let commenting = Matcher::containing("POST", &format!("/issues/{issue}/comments"));
    world
        .github
        .fault(commenting, Fault::Refusal(403, words), usize::MAX);
    world.deliver_label(issue, TITLE, true).await;
    world.task_in(TaskState::Review).await;
    world.has_label(issue, "patchfleet:review").await;
    assert_eq!(world.github.pulls(REPOSITORY).unwrap().len(), 1);
    assert!(world.github.comments(REPOSITORY, issue).unwrap().is_empty());
}

/// While the agent finishes, all calls about the issue are refused.
#[tokio::test]
async fn what_was_refused_for_a_while_is_told_when_it_is_over() {
    let world = World::new().await;
    let gate = world.draft_gate();
    let issue = world.open_labelled(TITLE).await;
    world.deliver_label(issue, TITLE, false).await;
    world.status_says(issue, "Patchfleet: at work").await;
    world.has_label(issue, "patchfleet:working").await;
    let words = "Although you appear to have the correct authorization credentials, the organization has \
                 an IP allow list enabled.";
    for what in [
        about(issue, ""),
        Matcher::containing("*", "/issues/comments/"),
    ] {
        world
            .github
            .fault(what, Fault::Refusal(403, words), usize::MAX);
    }
    gate.open();
    world.task_in(TaskState::Review).await;
    let refused = async || {
        let requests = world.github.requests();
        let mut refused = requests.iter().filter(|it| it.status == Some(403));
        refused.next().map(drop)
    };
    world.eventually("a refusal", refused).await;
    world.github.heal();
    world.status_says(issue, "ready for review").await;
    world.has_label(issue, "patchfleet:review").await;
}

#[tokio::test]
async fn a_title_acts_neither_in_the_commit_nor_in_the_pull_request() {
    for acting in [
        "Patch that fixes #1 made totals wrong [skip ci] cc @acme/team",
        "Totals [ci skip] [no ci] ***NO_CI*** skip-checks: true",
        "Closes acme/orders#1: totals [skip actions] [actions skip]",
    ] {
        let world = World::with(Plan {
            isolated: false,
            ..Plan::default()
        })
        .await;
        let issue = world.open_labelled(acting).await;
        world.deliver_label(issue, acting, false).await;
        let pull = world.pull_request().await;
        let message = world.message(&pull.pull.unwrap().head_sha).await;
        for text in [&message, &pull.title] {
            for acts in [
                "fixes #1",
                "Closes acme/orders#1",
                "[skip ci]",
                "[ci skip]",
                "[no ci]",
                "[skip actions]",
                "[actions skip]",
                "***NO_CI***",
                "skip-checks: true",
                "@acme/team",
            ] {
                assert!(!text.contains(acts), "{acts} in {text}");
            }
        }
        assert!(message.contains("otals"), "{message}");
    }
}
