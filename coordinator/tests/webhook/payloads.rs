//! Deliveries as repositories of other products got them, each with what a person expects of it.
//!
//! `payloads.json` has the deliveries as far as they differ from the usual ones, and what people do
//! between them. What happens at an agent's side, and what other tests send word for word, is named in
//! [`ELSEWHERE`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use patchfleet_coordinator::analysis::{AnalysisPolicy, Configuration, analyze, awaited};
use patchfleet_coordinator::intake::IntakePolicy;
use patchfleet_coordinator::intake::sweep::Sweeper;
use patchfleet_coordinator::store::{Effect, Sent};
use patchfleet_domain::TaskState;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::endings;
use crate::scene::{REPOSITORY, Scene, github};
use crate::sweep::sweep;

const TITLE: &str = "Totals are wrong";
const BODY: &str = "The total of an order is wrong.";

/// Tests elsewhere that stand for a report: what happened, the file, the name.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "a plan without draft pull requests",
        "tests/e2e/payloads.rs",
        "a_plan_without_drafts_gets_a_pull_request_for_review",
    ),
    (
        "a locked issue",
        "tests/e2e/payloads.rs",
        "on_a_locked_issue_the_label_tells_how_it_stands",
    ),
    (
        "a refusal of all calls about an issue for some seconds",
        "tests/e2e/payloads.rs",
        "what_was_refused_for_a_while_is_told_when_it_is_over",
    ),
    (
        "a title that closes, skips and mentions",
        "tests/e2e/payloads.rs",
        "a_title_acts_neither_in_the_commit_nor_in_the_pull_request",
    ),
    (
        "a limit of a minute or more on opening the pull request",
        "agent/tests/session/waiting.rs",
        "a_limit_on_opening_the_pull_request_is_kept_to",
    ),
    (
        "\"Update branch\", then another try",
        "agent/src/nodes/publish/tests.rs",
        "a_merge_of_the_base_alone_is_nobodys_work",
    ),
    (
        "an App's private key in one line",
        "common/github/tests/client/app.rs",
        "a_key_on_one_line_is_the_same_key",
    ),
];

/// Comments, and the state of the task that they lead to.
const COMMENTS: &[(&str, Option<TaskState>, usize)] = {
    const RUN: Option<TaskState> = Some(TaskState::Pending);
    &[
        ("Usage:\n<pre>\n/patchfleet run\n</pre>", None, 0),
        ("``\n/patchfleet run\n``", None, 0),
        ("$$\n/patchfleet run\n$$", None, 0),
        ("```make``` fails.\n/patchfleet run", RUN, 0),
        (" /patchfleet run", RUN, 0),
        (
            "/patchfleet status\n\n________________________________\nFrom: Someone\nSent: Tuesday\n\
             Subject: Re: [acme/orders] Totals\n\n/patchfleet run\n",
            None,
            1,
        ),
        ("> /patchfleet run\n\nWhat does this do?", None, 0),
        ("```\n/patchfleet run\n```", None, 0),
        ("Text\n<!--\n/patchfleet run\n-->", None, 0),
        ("/patchfleet run\r\n", RUN, 0),
        ("/patchfleet/src/main.rs is wrong", None, 0),
    ]
};

/// Requests, and the state of their task while #1 is at work.
const REQUESTS: &[(&str, TaskState)] = &[
    ("**Depends on** #1", TaskState::Waiting),
    ("Depends on:\n\n- #1\n", TaskState::Waiting),
    ("Depends on acme/orders#1", TaskState::Waiting),
    ("Depends on [#1](/acme/orders/issues/1)", TaskState::Waiting),
    (
        "Log:\n\n```\nnpm WARN this depends on #1\n```",
        TaskState::Queued,
    ),
    ("> depends on #1\n\nNo longer true.", TaskState::Queued),
    ("This is not blocked by #1.", TaskState::Queued),
    ("depends on #1", TaskState::Waiting),
];

/// One report.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// The issues that are there, numbered from 1.
    issues: Vec<Opened>,
    steps: Vec<Step>,
    /// What the repository is called in the end.
    #[serde(default = "orders")]
    repository: String,
    tasks: BTreeMap<u64, TaskState>,
    /// How many comments are answered.
    #[serde(default)]
    replies: usize,
    /// Words that the requests of tasks have.
    #[serde(default)]
    asks: BTreeMap<u64, Vec<String>>,
}

/// An issue that somebody opens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Opened {
    #[serde(default = "mona")]
    by: String,
    #[serde(default = "body")]
    body: String,
    #[serde(default = "labels")]
    labels: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Deliver(Delivered),
    Open(Opened),
    Accept(u64),
    Review(u64),
    Fail(u64),
    Close(u64),
    Delete(u64),
    Merge(u64),
    ClosePull(u64),
    ReopenPull(u64),
    Rename(String),
    Analyze(()),
    Sweep(()),
    Tasks(BTreeMap<u64, TaskState>),
}

/// A delivery, as far as it differs from the usual one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Delivered {
    event: String,
    /// By how many webhooks it comes, under an id of each one's own.
    #[serde(default = "once")]
    times: usize,
    body: Value,
}

fn orders() -> String {
    REPOSITORY.to_owned()
}

fn mona() -> String {
    "mona".to_owned()
}

fn body() -> String {
    BODY.to_owned()
}

fn labels() -> Vec<String> {
    vec!["patchfleet".to_owned()]
}

const fn once() -> usize {
    1
}

/// The usual delivery about the first issue, with what differs.
fn payload(scene: &Scene, repository: u64, differs: &Value) -> Value {
    let account = json!({ "login": "mona", "id": 3, "type": "User" });
    let mut payload = json!({
        "issue": {
            "id": 1001, "number": 1, "title": TITLE, "body": BODY, "state": "open", "locked": false,
            "user": account, "labels": [{ "id": 9, "name": "patchfleet" }], "assignees": [],
            "created_at": "2026-01-01T10:00:00Z", "updated_at": "2026-01-01T11:00:00Z",
        },
        "repository": {
            "id": repository, "name": "orders", "full_name": REPOSITORY, "private": false,
            "clone_url": scene.simulator.clone_url(REPOSITORY), "default_branch": "main",
            "owner": { "login": "acme", "id": 2, "type": "User" },
        },
        "sender": account,
    });
    // A comment's own fields, beside those that every one has.
    payload["comment"] = json!({ "user": account, "created_at": "2026-01-01T12:00:00Z" });
    lay(&mut payload, differs);
    payload
}

/// Lays a document over another; `null` is a value like others.
fn lay(below: &mut Value, above: &Value) {
    let (Value::Object(fields), Value::Object(more)) = (&mut *below, above) else {
        *below = above.clone();
        return;
    };
    for (name, value) in more {
        let field = fields
            .entry(name.clone())
            .or_insert(Value::Object(Map::new()));
        lay(field, value);
    }
}

/// A scene under way.
struct Replay {
    scene: Scene,
    /// GitHub's id of the repository.
    repository: u64,
    /// The pull request of each issue.
    pulls: BTreeMap<u64, u64>,
    deliveries: usize,
}

impl Replay {
    async fn start() -> Result<Self> {
        let policy = IntakePolicy {
            repositories: Some([REPOSITORY.parse()?].into()),
            ..IntakePolicy::default()
        };
        let scene = Scene::with_policy(policy).await?;
        // Sweeps leave what may be on its way.
        scene.long_ago();
        let repository = scene.simulator.repository(REPOSITORY)?.id.0;
        Ok(Self {
            scene,
            repository,
            pulls: BTreeMap::new(),
            deliveries: 0,
        })
    }

    fn open(&self, opened: &Opened) -> Result<()> {
        let simulator = &self.scene.simulator;
        let issue = simulator.open_issue(REPOSITORY, &opened.by, TITLE, &opened.body, &[])?;
        for label in &opened.labels {
            simulator.add_label(REPOSITORY, "mona", issue, label)?;
        }
        Ok(())
    }

    async fn deliver(&mut self, event: &str, differs: &Value) -> Result<()> {
        self.deliveries += 1;
        let id = format!("delivery-{}", self.deliveries);
        let body = payload(&self.scene, self.repository, differs);
        let (status, answer) = self.scene.deliver(&id, event, &body).await?;
        assert_eq!(status, 202, "{answer}");
        let lacks = "the payload lacks fields of its event";
        assert_ne!(answer["reason"], lacks, "{body}");
        Ok(())
    }

    /// Has all tasks analyzed that were not.
    async fn analyze(&self) -> Result<()> {
        let store = &self.scene.store;
        let policy = AnalysisPolicy::default();
        for task in store.unanalyzed(10).await? {
            let analysis = analyze(&task, &policy, &Configuration::default());
            let _ = store.analyzed(task.id, &analysis).await?;
        }
        awaited::look(store.as_ref(), &github(&self.scene.simulator)?).await?;
        Ok(())
    }

    async fn sweep(&self) -> Result<()> {
        let sweeper = Sweeper::new(Arc::clone(&self.scene.intake), self.scene.metrics.clone());
        sweep(&sweeper.patient_for(Duration::ZERO)).await?;
        Ok(())
    }

    async fn take(&mut self, step: &Step) -> Result<()> {
        let (scene, simulator) = (&self.scene, &self.scene.simulator);
        let pull = |issue: &u64| self.pulls.get(issue).copied().context("no pull request");
        match step {
            Step::Deliver(delivered) => {
                for _ in 0..delivered.times {
                    self.deliver(&delivered.event, &delivered.body).await?;
                }
            }
            Step::Open(opened) => self.open(opened)?,
            Step::Accept(issue) => {
                endings::accept(scene, *issue).await?;
            }
            Step::Review(issue) => {
                let number = endings::open_pull(scene, &scene.task(*issue).await?).await?;
                endings::review_of(scene, *issue, number).await?;
                self.pulls.insert(*issue, number);
            }
            Step::Fail(issue) => endings::fail(scene, *issue).await?,
            Step::Close(issue) => simulator.close_issue(REPOSITORY, "mona", *issue)?,
            Step::Delete(issue) => simulator.delete_issue(REPOSITORY, "acme", *issue)?,
            Step::Merge(issue) => {
                simulator.merge_pull(REPOSITORY, "mona", pull(issue)?)?;
            }
            Step::ClosePull(issue) => simulator.close_pull(REPOSITORY, "mona", pull(issue)?)?,
            Step::ReopenPull(issue) => simulator.reopen_issue(REPOSITORY, "mona", pull(issue)?)?,
            Step::Rename(to) => simulator.rename_repository(REPOSITORY, "acme", to)?,
            Step::Analyze(()) => self.analyze().await?,
            Step::Sweep(()) => self.sweep().await?,
            Step::Tasks(expected) => {
                let found = self.tasks(REPOSITORY).await?;
                anyhow::ensure!(found == *expected, "{found:?} instead of {expected:?}");
            }
        }
        Ok(())
    }

    /// The states of all tasks, by their issues, each of which has one.
    async fn tasks(&self, repository: &str) -> Result<BTreeMap<u64, TaskState>> {
        let tasks = self.scene.tasks().await?;
        let count = tasks.len();
        let mut states = BTreeMap::new();
        for task in tasks {
            assert_eq!(task.repository.as_str(), repository);
            states.insert(task.issue.map_or(0, |issue| issue.0), task.state);
        }
        assert_eq!(states.len(), count, "an issue has several tasks");
        Ok(states)
    }

    /// How many answers are to be written.
    async fn replies(&self) -> Result<usize> {
        let (store, mut replies) = (&self.scene.store, 0);
        while let Some(entry) = store.take_outbox(1, Duration::from_mins(1)).await?.pop() {
            replies += usize::from(matches!(entry.effect, Effect::Reply(_)));
            let done = Sent::Done { comment: None };
            store.settle_outbox(&entry, &done).await?;
        }
        Ok(replies)
    }
}

async fn replay(case: &Case) -> Result<()> {
    let mut replay = Replay::start().await?;
    for opened in &case.issues {
        replay.open(opened)?;
    }
    for (number, step) in case.steps.iter().enumerate() {
        let taken = replay.take(step).await;
        taken.with_context(|| format!("{}: step {number}", case.name))?;
    }
    let (name, found) = (&case.name, replay.tasks(&case.repository).await?);
    assert_eq!(found, case.tasks, "{name}");
    for (issue, words) in &case.asks {
        let request = replay.scene.task(*issue).await?.request;
        for words in words {
            assert!(request.body.contains(words), "{name}: {}", request.body);
        }
    }
    assert_eq!(replay.replies().await?, case.replies, "{name}: answers");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_delivery_leads_to_what_a_person_expects_of_it() -> Result<()> {
    let cases: Vec<Case> = serde_json::from_str(include_str!("payloads.json"))?;
    for case in &cases {
        replay(case).await?;
    }
    Ok(())
}

#[tokio::test]
async fn comments_lead_to_what_a_person_sees_in_them() -> Result<()> {
    for (comment, expected, replies) in COMMENTS {
        let mut replay = Replay::start().await?;
        let mut opened: Opened = serde_json::from_value(json!({}))?;
        opened.labels.clear();
        replay.open(&opened)?;
        let said = json!({
            "action": "created",
            "comment": { "id": 500, "body": comment },
            "issue": { "labels": [] },
        });
        replay.deliver("issue_comment", &said).await?;
        let found = replay.tasks(REPOSITORY).await?;
        assert_eq!(found.get(&1).copied(), *expected, "{comment:?}");
        assert_eq!(replay.replies().await?, *replies, "{comment:?}");
    }
    Ok(())
}

#[tokio::test]
async fn requests_wait_for_the_issues_that_they_declare() -> Result<()> {
    for (request, expected) in REQUESTS {
        let mut replay = Replay::start().await?;
        for (number, body) in [(1, BODY), (2, request)] {
            let labelled = json!({
                "action": "labeled",
                "label": { "name": "patchfleet" },
                "issue": { "id": 1000 + number, "number": number, "body": body },
            });
            replay.open(&serde_json::from_value(json!({ "body": body }))?)?;
            replay.deliver("issues", &labelled).await?;
        }
        replay.analyze().await?;
        let task = replay.scene.task(2).await?;
        assert_eq!(task.state, *expected, "{request:?}");
    }
    Ok(())
}

#[test]
fn what_stands_elsewhere_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (what, file, name) in ELSEWHERE {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let is_there = text.contains(&format!("fn {name}("));
        assert!(is_there, "{what}: {file} has no test {name}");
    }
}
