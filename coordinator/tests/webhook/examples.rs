//! All payloads that GitHub publishes, signed, through the real endpoint.

use std::collections::BTreeMap;

use anyhow::Result;
use patchfleet_coordinator::intake::IntakePolicy;
use patchfleet_testkit::github::examples::webhook_examples;

use crate::scene::Scene;

#[tokio::test]
async fn each_is_acted_on_or_ignored_and_none_is_an_error() -> Result<()> {
    // The label, the repository and the person of GitHub's examples.
    let policy = IntakePolicy {
        label: "bug".to_owned(),
        ..IntakePolicy::default()
    };
    let scene = Scene::with_policy(policy).await?;
    let seed = tempfile::tempdir()?;
    std::fs::write(seed.path().join("README.md"), "hello\n")?;
    scene
        .simulator
        .create_repository("Codertocat/Hello-World", seed.path())?;
    // The issue of the examples, as it is now.
    let title = "Spelling error in the README file";
    scene
        .simulator
        .open_issue("Codertocat/Hello-World", "Codertocat", title, "", &["bug"])?;
    let examples = webhook_examples()?;
    assert_eq!(examples.len(), 329);

    let mut outcomes = BTreeMap::new();
    for (n, (event, payload)) in examples.iter().enumerate() {
        let (status, body) = scene
            .deliver(&format!("example-{n}"), event, payload)
            .await?;
        assert_eq!(status, 202, "example {n}, {event}: {body}");
        let outcome = body["outcome"].as_str().unwrap_or_default().to_owned();
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    // `opened`, `reopened` and `labeled` of one issue with that label: one act, one task. The others of its
    // events are known by the act.
    let tasks = scene.tasks().await?;
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].request.author, "Codertocat");
    let acted = outcomes["acted"];
    assert!(acted >= 2, "{outcomes:?}");
    assert_eq!(
        outcomes,
        [
            ("acted".to_owned(), acted),
            ("ignored".to_owned(), 329 - acted)
        ]
        .into()
    );

    for (n, (event, payload)) in examples.iter().enumerate() {
        let (status, body) = scene
            .deliver(&format!("example-{n}"), event, payload)
            .await?;
        assert_eq!((status, body["outcome"].as_str()), (202, Some("duplicate")));
    }
    assert_eq!(scene.tasks().await?.len(), 1);
    Ok(())
}
