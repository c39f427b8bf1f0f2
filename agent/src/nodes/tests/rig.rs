//! What the nodes' tests work with: a repository, an agent, a desk and recorded answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{AgentType, IssueNumber, PullRequestRef, TaskId};
use patchfleet_flow::{Checkpoint, Context, Engine, NodeError, Observer, Report, Run, RunError};
use patchfleet_repository::Author;
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::draft::{DraftNetwork, Drafter, fingerprint};
use crate::follow_ups::FollowUps;
use crate::git::Remote;
use crate::model::Budgets;
use crate::nodes::{
    ChangeConfig, NodeDeps, Publishing, PullRequestDraft, PullRequests, TaskFacts, TaskLog,
    TestPolicy, coding_flow, failure, pinned_base, registry,
};
use crate::sandbox::Sandbox;
use crate::second_models::Reviewer;
use crate::second_models::Summarizer;
use crate::setup::SetupConfig;
use crate::workspace::Workspace;
use crate::workspace::tests::Bench;

pub(crate) const TITLE: &str = "Sum is wrong";
pub(crate) const BODY: &str = "It subtracts.";

/// A small repository whose only test is red.
pub(crate) const REPOSITORY: &[(&str, &str)] = &[
    ("calc.py", "def add(a, b):\n    return a - b\n"),
    (
        "test_calc.py",
        "import unittest\nfrom calc import add\n\n\nclass CalcTest(unittest.TestCase):\n    \
         def test_add(self):\n        self.assertEqual(add(1, 2), 3)\n",
    ),
];

pub(crate) const FIX: &str = "--- a/calc.py\n+++ b/calc.py\n@@ -1,2 +1,2 @@\n \
    def add(a, b):\n-    return a - b\n+    return a + b\n";
/// GitHub, as far as the nodes know it.
pub(crate) struct Desk {
    pub(crate) token: SecretString,
    pub(crate) drafts: Mutex<Vec<PullRequestDraft>>,
}

#[async_trait::async_trait]
impl PullRequests for Desk {
    async fn credential(&self) -> Result<SecretString, Failure> {
        Ok(self.token.clone())
    }

    async fn ensure(&self, draft: PullRequestDraft) -> Result<PullRequestRef, Failure> {
        let reference = PullRequestRef {
            number: 7,
            url: "https://example.com/acme/orders/pull/7".to_owned(),
            head: draft.head.clone(),
            head_sha: "1".repeat(40),
            base: draft.base.clone(),
            draft: draft.draft,
            merged: false,
        };
        self.drafts.lock().unwrap().push(draft);
        Ok(reference)
    }
}

/// Keeps what a coordinator would keep.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) checkpoints: Mutex<Vec<Checkpoint>>,
}

#[async_trait::async_trait]
impl Observer for Notes {
    async fn started(&self, _: &str, _: u32) {}
    async fn finished(&self, checkpoint: &Checkpoint, _: Duration) -> Result<(), NodeError> {
        self.checkpoints.lock().unwrap().push(checkpoint.clone());
        Ok(())
    }
    async fn failed(&self, _: &str, _: &NodeError, _: bool) {}
    async fn replayed(&self, _: &Checkpoint) {}
}

/// A repository, an agent, a desk and recorded answers.
pub(crate) struct Rig {
    pub(crate) bench: Bench,
    pub(crate) desk: Arc<Desk>,
    /// Where is cloned from and pushed to.
    pub(crate) url: String,
    pub(crate) notes: Notes,
    pub(crate) drafter: Drafter,
    pub(crate) reviewer: Option<Reviewer>,
    pub(crate) summarizer: Option<Summarizer>,
    pub(crate) task: TaskId,
    pub(crate) title: String,
    pub(crate) body: String,
    lines: mpsc::Receiver<String>,
    pub(crate) log: TaskLog,
}

impl Rig {
    pub(crate) async fn with(files: &[(&str, &str)]) -> Self {
        let bench = Bench::with(files).await;
        let (sender, lines) = mpsc::channel(10_000);
        Self {
            drafter: Drafter::Replay {
                dir: bench.root.path().join("answers"),
            },
            reviewer: None,
            summarizer: None,
            desk: Arc::new(Desk {
                token: SecretString::from("ghs_test"),
                drafts: Mutex::default(),
            }),
            url: bench.origin.url(),
            bench,
            notes: Notes::default(),
            task: TaskId::new(),
            title: TITLE.to_owned(),
            body: BODY.to_owned(),
            lines,
            log: TaskLog::new(sender),
        }
    }

    /// A rig whose drafter answers with these diffs, one a round.
    pub(crate) async fn answering(files: &[(&str, &str)], answers: &[&str]) -> Self {
        let rig = Self::with(files).await;
        for (round, answer) in (1..).zip(answers) {
            rig.record(round, answer);
        }
        rig
    }

    pub(crate) fn record(&self, round: u32, answer: &str) {
        let folder = self.bench.root.path().join("answers");
        let folder = folder.join(fingerprint(&self.title, &self.body));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{round}.diff")), answer).unwrap();
    }

    /// A rig whose drafter is a program of the test.
    pub(crate) async fn commanding(files: &[(&str, &str)], script: &str) -> Self {
        let mut rig = Self::with(files).await;
        rig.drafter = Drafter::Cli {
            profile: None,
            command: ["sh", "-c", script].map(str::to_owned).into(),
            timeout: Duration::from_secs(30),
            silence: Duration::from_secs(20),
            pass_env: Vec::new(),
            network: DraftNetwork::Nothing,
            folders: Vec::new(),
            sandbox: Sandbox::default(),
        };
        rig
    }

    pub(crate) async fn prepare(&self, attempt: u32) -> Result<Workspace, Failure> {
        let mut checkout = self.bench.checkout(self.task, attempt);
        checkout.pinned_base = pinned_base(&self.notes.checkpoints.lock().unwrap());
        checkout.remote = Remote::new(&self.url, Some(self.desk.token.clone())).unwrap();
        self.bench.prepare(&checkout).await
    }

    pub(crate) async fn workspace(&self, attempt: u32) -> Workspace {
        self.prepare(attempt).await.unwrap()
    }

    pub(crate) async fn deps(&self, workspace: Workspace) -> Result<NodeDeps, Failure> {
        Ok(NodeDeps {
            task: TaskFacts {
                work: workspace.work,
                repository: "acme/orders".parse().unwrap(),
                issue: Some(IssueNumber(1)),
                title: self.title.clone(),
                body: self.body.clone(),
                default_branch: "main".to_owned(),
                branch: "patchfleet/1-x".to_owned(),
                target_files: Vec::new(),
            },
            config: workspace
                .configuration(&SetupConfig::default().allow_list())
                .await?,
            workspace,
            agent_type: AgentType::general(),
            drafter: self.drafter.clone(),
            change: ChangeConfig::default(),
            tests: TestPolicy::default(),
            publishing: Publishing {
                url: self.url.clone(),
                author: Author {
                    name: "Patchfleet".to_owned(),
                    email: "patchfleet@example.com".to_owned(),
                },
                draft: true,
                pull_requests: self.desk.clone(),
            },
            follow_ups: FollowUps::default(),
            reviewer: self.reviewer.clone(),
            summarizer: self.summarizer.clone(),
            budgets: Budgets::none(),
            log: self.log.clone(),
        })
    }

    pub(crate) async fn run(&self) -> Result<Report, RunError> {
        let deps = self.deps(self.workspace(1).await).await.unwrap();
        self.run_with(deps, Vec::new()).await
    }

    pub(crate) async fn run_with(
        &self,
        deps: NodeDeps,
        checkpoints: Vec<Checkpoint>,
    ) -> Result<Report, RunError> {
        self.run_from(Context::default(), deps, checkpoints).await
    }

    /// The same, with what was there before.
    pub(crate) async fn run_from(
        &self,
        ctx: Context,
        deps: NodeDeps,
        checkpoints: Vec<Checkpoint>,
    ) -> Result<Report, RunError> {
        let engine = Engine::new(coding_flow(), registry(&deps.shared())).unwrap();
        let run = Run {
            ctx,
            checkpoints,
            observer: &self.notes,
            cancel: CancellationToken::new(),
        };
        engine.run(run).await
    }

    /// A file that a command left beside its work tree.
    pub(crate) fn workspaces_file(&self, name: &str) -> String {
        let task = format!("backend-1/tasks/task-{}", self.task);
        std::fs::read_to_string(self.bench.root.path().join(task).join(name)).unwrap()
    }

    pub(crate) async fn fails(&self) -> Failure {
        failure(&self.run().await.unwrap_err()).unwrap()
    }

    pub(crate) fn log(&mut self) -> String {
        std::iter::from_fn(|| self.lines.try_recv().ok())
            .collect::<Vec<_>>()
            .join("\n")
    }

    pub(crate) async fn on_branch(&self, path: &str) -> String {
        let object = format!("patchfleet/1-x:{path}");
        self.bench.origin.ask(&["show", &object]).await
    }
}
