//! Comment commands: carried out, answered, or passed over in silence.

use std::time::Duration;

use anyhow::Result;
use patchfleet_coordinator::intake::IntakePolicy;
use patchfleet_coordinator::store::{Effect, Reply};
use patchfleet_domain::{Priority, TaskState};

use crate::endings;
use crate::scene::{REPOSITORY, Scene};

/// What the outbox holds of replies, and empties it.
async fn replies(scene: &Scene) -> Result<Vec<Reply>> {
    let mut replies = Vec::new();
    loop {
        let entries = scene.store.take_outbox(50, Duration::from_mins(1)).await?;
        if entries.is_empty() {
            return Ok(replies);
        }
        for entry in entries {
            let done = patchfleet_coordinator::store::Sent::Done { comment: None };
            scene.store.settle_outbox(&entry, &done).await?;
            if let Effect::Reply(reply) = entry.effect {
                replies.push(reply);
            }
        }
    }
}

async fn say(scene: &Scene, who: &str, issue: u64, text: &str) -> Result<()> {
    scene.later();
    scene.simulator.comment(REPOSITORY, who, issue, text)?;
    scene.settled().await
}

/// The first line of the only reply there is.
async fn problem(scene: &Scene) -> Result<String> {
    let replies = replies(scene).await?;
    match replies.as_slice() {
        [Reply::Problem { message }] => Ok(message.lines().next().unwrap_or_default().to_owned()),
        other => anyhow::bail!("{other:?}"),
    }
}

#[tokio::test]
async fn run_takes_what_was_said() -> Result<()> {
    let scene = Scene::start().await?;
    scene.connect();
    let issue = scene.open("outsider", &[])?;
    say(
        &scene,
        "mona",
        issue,
        "Please:\n/patchfleet run --agent testing --priority high",
    )
    .await?;
    let task = scene.task(issue).await?;
    assert_eq!(task.priority, Priority::HIGH);
    assert_eq!(task.request.agent_type, Some("testing".parse()?));
    assert_eq!(
        (
            task.request.author.as_str(),
            task.request.triggered_by.as_str()
        ),
        ("outsider", "mona")
    );
    assert!(replies(&scene).await?.is_empty());
    say(&scene, "mona", issue, "/patchfleet run").await?;
    let expected = "A task is at work on this issue already; it is `pending`. Comment `/patchfleet cancel` to call it off.";
    assert_eq!(problem(&scene).await?, expected);
    assert_eq!(scene.tasks().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn cancel_retry_and_status() -> Result<()> {
    let scene = Scene::start().await?;
    scene.connect();
    let issue = scene.open("mona", &[])?;
    for command in ["/patchfleet cancel", "/patchfleet retry"] {
        say(&scene, "mona", issue, command).await?;
        assert!(
            problem(&scene)
                .await?
                .starts_with("There is no task for this issue.")
        );
    }
    say(&scene, "mona", issue, "/patchfleet run").await?;
    say(&scene, "mona", issue, "/patchfleet status").await?;
    assert_eq!(replies(&scene).await?, [Reply::Status]);
    say(&scene, "mona", issue, "/patchfleet retry").await?;
    assert!(
        problem(&scene)
            .await?
            .starts_with("The task has not failed; it is `pending`.")
    );
    say(&scene, "mona", issue, "/patchfleet cancel").await?;
    assert_eq!(scene.task(issue).await?.state, TaskState::Cancelled);
    say(&scene, "mona", issue, "/patchfleet retry").await?;
    assert!(
        problem(&scene)
            .await?
            .contains("Comment `/patchfleet run` for a new one.")
    );
    say(&scene, "mona", issue, "/patchfleet run").await?;
    endings::fail(&scene, issue).await?;
    say(&scene, "mona", issue, "/patchfleet retry").await?;
    assert_eq!(scene.task(issue).await?.state, TaskState::Queued);
    assert!(replies(&scene).await?.is_empty());
    Ok(())
}

/// Seconds after a label or the end of a task, a command is still a command.
#[tokio::test]
async fn a_command_right_after_something_else_is_answered() -> Result<()> {
    let scene = Scene::start().await?;
    scene.connect();
    let issue = scene.open("mona", &["patchfleet"])?;
    scene.settled().await?;
    let at_once = async |text: &str| {
        scene.simulator.comment(REPOSITORY, "mona", issue, text)?;
        scene.settled().await?;
        problem(&scene).await
    };
    let answered = at_once("/patchfleet run --agent security").await?;
    assert!(
        answered.starts_with("A task is at work on this issue already"),
        "{answered}"
    );
    let _ = scene
        .store
        .cancel(scene.task(issue).await?.id, "somebody else")
        .await?;
    let answered = at_once("/patchfleet cancel").await?;
    assert!(
        answered.starts_with("There is nothing to call off"),
        "{answered}"
    );
    Ok(())
}

/// Two webhooks for one repository tell of each comment twice.
#[tokio::test]
async fn a_comment_that_comes_twice_is_acted_on_and_answered_once() -> Result<()> {
    let scene = Scene::start().await?;
    scene.connect();
    let issue = scene.open("mona", &[])?;
    let commands = [
        "fly", "cancel", "run", "status", "run", "cancel", "cancel", "retry",
    ];
    let mut answers = Vec::new();
    for (number, command) in commands.into_iter().enumerate() {
        let text = format!("/patchfleet {command}");
        scene.simulator.comment(REPOSITORY, "mona", issue, &text)?;
        scene.settled().await?;
        let payload = scene.simulator.deliveries().last().unwrap().payload();
        let id = format!("second-hook-{number}");
        let (_, body) = scene.deliver(&id, "issue_comment", &payload).await?;
        assert_eq!(
            body["reason"], "the comment was acted on before",
            "{command}"
        );
        answers.push(replies(&scene).await?.len());
    }
    assert_eq!(answers, [1, 1, 0, 1, 1, 0, 1, 1]);
    assert_eq!(scene.tasks().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_task_that_no_agent_takes_is_offered_again_by_a_retry() -> Result<()> {
    let scene = Scene::start().await?;
    scene.connect();
    let issue = scene.open("mona", &[])?;
    say(&scene, "mona", issue, "/patchfleet run").await?;
    endings::set_aside(&scene, issue).await?;
    assert_eq!(scene.task(issue).await?.state, TaskState::Waiting);
    say(&scene, "mona", issue, "/patchfleet retry").await?;
    assert_eq!(scene.task(issue).await?.state, TaskState::Queued);
    Ok(())
}

#[tokio::test]
async fn outsiders_are_not_answered() -> Result<()> {
    let scene = Scene::start().await?;
    scene.connect();
    let issue = scene.open("outsider", &[])?;
    for command in ["/patchfleet run", "/patchfleet fly", "/patchfleet status"] {
        say(&scene, "outsider", issue, command).await?;
        // The suffix proves nothing.
        say(&scene, "patchfleet-bot[bot]", issue, command).await?;
    }
    assert!(scene.tasks().await?.is_empty());
    assert_eq!(scene.store.outbox_pending().await?, 0);
    assert_eq!(scene.counted("issue_comment", "ignored"), 6);
    Ok(())
}

#[tokio::test]
async fn what_can_not_be_done_is_explained() -> Result<()> {
    let policy = IntakePolicy {
        agent_types: ["backend".parse()?].into(),
        ..IntakePolicy::default()
    };
    let scene = Scene::with_policy(policy).await?;
    scene.connect();
    let issue = scene.open("mona", &[])?;
    say(&scene, "mona", issue, "/patchfleet fly").await?;
    assert_eq!(problem(&scene).await?, "There is no command `fly`.");
    say(&scene, "mona", issue, "/patchfleet run --agent juggler").await?;
    assert_eq!(
        problem(&scene).await?,
        "`juggler` is no agent type. The types are: backend."
    );
    scene.simulator.close_issue(REPOSITORY, "mona", issue)?;
    say(&scene, "mona", issue, "/patchfleet run").await?;
    assert!(problem(&scene).await?.starts_with("The issue is closed."));
    assert!(scene.tasks().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn own_comments_and_second_deliveries_are_not_acted_on() -> Result<()> {
    let scene = Scene::start().await?;
    scene.connect();
    let issue = scene.open("mona", &[])?;
    let bot = scene.simulator.bot_login();
    let marked = "<!-- patchfleet:reply:1 -->\n/patchfleet run";
    scene.simulator.comment(REPOSITORY, &bot, issue, marked)?;
    scene.settled().await?;
    assert!(scene.tasks().await?.is_empty());
    // The account behind a token may be a person's, too.
    scene
        .simulator
        .comment(REPOSITORY, &bot, issue, "/patchfleet run")?;
    scene.settled().await?;
    assert_eq!(scene.tasks().await?.len(), 1);
    // A second webhook for the same repository delivers the same comment under another id.
    let deliveries = scene.simulator.deliveries();
    let run = deliveries
        .iter()
        .rfind(|one| one.event == "issue_comment")
        .unwrap();
    let (_, body) = scene
        .deliver("second-hook", "issue_comment", &run.payload())
        .await?;
    assert_eq!(body["reason"], "the comment was acted on before");
    assert!(replies(&scene).await?.is_empty());
    Ok(())
}
