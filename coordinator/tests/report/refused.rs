//! What GitHub refuses for one issue, and what goes on all the same.

use anyhow::Result;
use patchfleet_testkit::github::{Fault, Matcher};

use crate::scene::Scene;

/// Words in which servers refuse a comment on an issue that is locked.
const LOCKED: [(u16, &str); 4] = [
    (403, "Unable to create comment because issue is locked."),
    (
        403,
        "This conversation has been locked and limited to collaborators",
    ),
    (403, "Issue is locked"),
    (422, "Validation Failed: the issue is locked"),
];

fn writing() -> Matcher {
    Matcher::containing("POST", "/comments")
}

#[tokio::test]
async fn a_locked_conversation_is_known_in_all_its_words_and_the_label_is_set() -> Result<()> {
    for (status, words) in LOCKED {
        let scene = Scene::start().await?;
        let publisher = scene.publisher()?;
        let issue = scene.open()?;
        scene
            .simulator
            .fault(writing(), Fault::Refusal(status, words), 1);
        scene.create(issue).await?;
        scene.emptied().await?;
        assert_eq!(scene.comments(issue).len(), 0, "{words}");
        assert_eq!(scene.labels(issue), ["bug", "patchfleet:queued"], "{words}");
        publisher.stop().await;
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_a_locked_conversation_does_not_take_holds_up_no_label() -> Result<()> {
    for (status, words) in LOCKED {
        let scene = Scene::start().await?;
        let issue = scene.open()?;
        scene
            .simulator
            .fault(writing(), Fault::Refusal(status, words), 2);
        scene.tell(issue, "never").await?;
        scene.create(issue).await?;
        let publisher = scene.publisher()?;
        scene.emptied().await?;
        assert_eq!(scene.comments(issue).len(), 0, "{words}");
        assert_eq!(scene.labels(issue), ["bug", "patchfleet:queued"], "{words}");
        let tries = scene.simulator.request_count("POST", "/comments");
        assert_eq!(tries, 2, "each is tried once: {words}");
        publisher.stop().await;
    }
    Ok(())
}

/// A refusal of everything says nothing of labels; one of labels alone is lived with.
#[tokio::test]
async fn a_label_that_is_refused_for_now_is_set_later() -> Result<()> {
    for words in [
        "Although you appear to have the correct authorization credentials, the organization has an \
         IP allow list enabled.",
        "This installation has been suspended",
        "Repository has been locked for migration.",
    ] {
        let scene = Scene::start().await?;
        let publisher = scene.publisher()?;
        let issue = scene.open()?;
        let labelling = Matcher::containing("POST", "/labels");
        scene
            .simulator
            .fault(labelling, Fault::Refusal(403, words), 1);
        scene.create(issue).await?;
        scene.emptied().await?;
        assert_eq!(scene.comments(issue).len(), 1, "{words}");
        assert_eq!(scene.labels(issue), ["bug", "patchfleet:queued"], "{words}");
        publisher.stop().await;
    }
    Ok(())
}
