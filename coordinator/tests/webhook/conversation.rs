//! What people read on an issue, whole: commands in, comments out, through the outbox to GitHub.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use patchfleet_coordinator::intake::IntakePolicy;
use patchfleet_coordinator::intake::sweep::Sweeper;
use patchfleet_coordinator::report::{Publisher, run};
use patchfleet_github::Credentials;
use regex::Regex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::scene::{REPOSITORY, Scene, github_as};

const PATIENCE: Duration = Duration::from_secs(20);

/// A scene whose outbox is emptied.
struct Conversation {
    scene: Scene,
    issue: u64,
    _publisher: JoinSet<()>,
}

impl Conversation {
    async fn start(policy: IntakePolicy) -> Result<Self> {
        let scene = Scene::with_policy(policy).await?;
        let token = Credentials::Token(scene.simulator.bot_token().into());
        let github = github_as(&scene.simulator, token)?;
        let publisher = Publisher::new(Arc::clone(&scene.store), github, scene.metrics.clone());
        let mut running = JoinSet::new();
        running.spawn(run(publisher, CancellationToken::new()));
        let issue = scene.open("octocat", &[])?;
        Ok(Self {
            scene,
            issue,
            _publisher: running,
        })
    }

    async fn say(&self, who: &str, text: &str) -> Result<()> {
        self.scene.later();
        let simulator = &self.scene.simulator;
        simulator.comment(REPOSITORY, who, self.issue, text)?;
        self.settled().await
    }

    /// Waits until GitHub has delivered all, and been told all.
    async fn settled(&self) -> Result<()> {
        self.scene.settled().await?;
        let store = &self.scene.store;
        let told = async {
            let mut changes = store.changed();
            while store.outbox_pending().await? > 0 {
                changes.changed().await?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, told).await?
    }

    /// All comments on the issue, without what differs from run to run.
    fn read(&self) -> Result<String> {
        let mut text = String::new();
        let ours = self.scene.simulator.bot_login();
        for comment in self.scene.simulator.comments(REPOSITORY, self.issue)? {
            let body = if comment.author == ours {
                comment.body.into()
            } else {
                patchfleet_guard::visible_text(&comment.body)
            };
            write!(text, "=== {}\n{body}\n\n", comment.author)?;
        }
        for (pattern, instead) in [
            ("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "TASK"),
            ("patchfleet:reply:[0-9]+", "patchfleet:reply:N"),
            ("[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}", "TIME"),
            ("\u{200B}", "⟨zwsp⟩"),
        ] {
            text = Regex::new(pattern)?
                .replace_all(&text, instead)
                .into_owned();
        }
        Ok(text)
    }
}

#[tokio::test]
async fn what_is_not_understood_or_not_possible_is_answered() -> Result<()> {
    let policy = IntakePolicy {
        agent_types: ["backend".parse()?, "security".parse()?].into(),
        ..IntakePolicy::default()
    };
    let conversation = Conversation::start(policy).await?;
    conversation.scene.connect();
    for text in [
        "/patchfleet",
        "/patchfleet fly \u{202e}@all #1",
        "/patchfleet fl\u{1b}[2Jy`@all`",
        "/patchfleet run\n/patchfleet cancel",
        "/patchfleet run --fast",
        "/patchfleet run --agent juggler",
        "/patchfleet run --priority urgent",
        "/patchfleet status",
        "/patchfleet cancel",
        "/patchfleet retry now",
    ] {
        conversation.say("mona", text).await?;
    }
    // Not allowed to, and not even told so.
    conversation.say("octocat", "/patchfleet run").await?;
    let closed = conversation.issue;
    let simulator = &conversation.scene.simulator;
    simulator.close_issue(REPOSITORY, "mona", closed)?;
    conversation.say("mona", "/patchfleet run").await?;
    insta::assert_snapshot!("refused_commands", conversation.read()?);
    Ok(())
}

#[tokio::test]
async fn a_task_is_steered_by_comments() -> Result<()> {
    let conversation = Conversation::start(IntakePolicy::default()).await?;
    conversation.scene.connect();
    for command in ["run --priority high", "status", "run", "retry", "cancel"] {
        let text = format!("/patchfleet {command}");
        conversation.say("mona", &text).await?;
    }
    for command in ["cancel", "retry", "status"] {
        let text = format!("/patchfleet {command}");
        conversation.say("mona", &text).await?;
    }
    insta::assert_snapshot!("steered_by_comments", conversation.read()?);
    Ok(())
}

#[tokio::test]
async fn a_lost_trigger_is_asked_for_again() -> Result<()> {
    let policy = IntakePolicy {
        repositories: Some([REPOSITORY.parse()?].into()),
        ..IntakePolicy::default()
    };
    let conversation = Conversation::start(policy).await?;
    let (scene, issue) = (&conversation.scene, conversation.issue);
    scene
        .simulator
        .add_label(REPOSITORY, "mona", issue, "patchfleet")?;
    conversation.say("octocat", "one more thing").await?;
    let sweeper = Sweeper::new(Arc::clone(&scene.intake), scene.metrics.clone());
    let swept = sweeper.patient_for(Duration::ZERO);
    swept.sweep_if_due(Duration::ZERO).await?;
    conversation.settled().await?;
    insta::assert_snapshot!("lost_trigger", conversation.read()?);
    Ok(())
}
