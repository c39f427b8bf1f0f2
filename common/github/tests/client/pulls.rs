//! Pull requests: never doubled, whatever happens on the way.

use std::time::Duration;

use anyhow::Result;
use patchfleet_github::{GitHubError, NewPullRequest, OpenState, PullRequest};
use patchfleet_testkit::github::{Fault, Matcher};

use crate::scene::{BRANCH, REPOSITORY, Scene};

const MARK: &str = "<!-- patchfleet:task:0191 -->";

fn wanted(title: &str) -> NewPullRequest {
    NewPullRequest {
        title: title.to_owned(),
        body: "Fixes #1".to_owned(),
        head: BRANCH.to_owned(),
        base: "main".to_owned(),
        draft: true,
    }
}

async fn ensure(scene: &Scene, title: &str) -> Result<PullRequest, GitHubError> {
    let new = wanted(title);
    scene
        .github
        .ensure_pull_request(&scene.repository, &new, MARK)
        .await
}

/// For a branch that was not there before.
async fn ensure_first(scene: &Scene, title: &str) -> Result<PullRequest, GitHubError> {
    let new = wanted(title);
    let github = &scene.github;
    let ensured = github.ensure_first_pull_request(&scene.repository, &new, MARK);
    ensured.await
}

#[tokio::test]
async fn the_first_one_costs_one_request_and_is_not_doubled_either() -> Result<()> {
    let scene = Scene::start().await?;
    let first = ensure_first(&scene, "one").await?;
    assert!(first.draft && first.body.contains(MARK));
    assert_eq!(scene.simulator.request_count("GET", "/pulls"), 0);
    // There is one all the same.
    let again = ensure_first(&scene, "two").await?;
    assert_eq!((again.number, again.title.as_str()), (first.number, "two"));
    for fault in [Fault::Cut, Fault::Malformed, Fault::Status(502)] {
        let scene = Scene::start().await?;
        let creation = Matcher::regex("POST", "/pulls$")?;
        scene.simulator.fault(creation, fault, 1);
        let made = ensure_first(&scene, "one").await?;
        let all = scene.simulator.pulls(REPOSITORY)?;
        assert_eq!(all.len(), 1, "{fault:?}");
        assert_eq!(all[0].number, made.number);
    }
    let scene = Scene::start().await?;
    let creation = Matcher::regex("POST", "/pulls$")?;
    let words = "Draft pull requests are not supported in this repository.";
    scene
        .simulator
        .fault(creation, Fault::Refusal(422, words), 1);
    let opened = ensure_first(&scene, "one").await?;
    assert!(!opened.draft && opened.body.contains(MARK), "{opened:?}");
    Ok(())
}

#[tokio::test]
async fn an_open_one_is_updated() -> Result<()> {
    let scene = Scene::start().await?;
    let first = ensure(&scene, "one").await?;
    assert!(first.draft && !first.merged && first.body.contains(MARK));
    assert_eq!((first.head.as_str(), first.base.as_str()), (BRANCH, "main"));
    let second = ensure(&scene, "two").await?;
    assert_eq!(
        (second.number, second.title.as_str()),
        (first.number, "two")
    );
    assert_eq!(scene.simulator.pulls(REPOSITORY)?.len(), 1);
    let shown = scene
        .github
        .pull_request(&scene.repository, first.number)
        .await?;
    assert_eq!(shown, second);
    Ok(())
}

#[tokio::test]
async fn where_there_are_no_drafts_it_is_opened_for_review() -> Result<()> {
    let finding = |body| Fault::Answer {
        status: 422,
        headers: &[],
        body,
    };
    for refusal in [
        Fault::Refusal(
            422,
            "Draft pull requests are not supported in this repository.",
        ),
        Fault::Refusal(
            422,
            "Draft pull requests are not supported for private repositories on your plan",
        ),
        Fault::Refusal(422, "Draft Pull Requests are not available on this server"),
        finding(
            r#"{"message":"Validation Failed","errors":[{"resource":"PullRequest","code":"custom",
                "message":"Draft pull requests are not supported in this repository."}]}"#,
        ),
        finding(
            r#"{"message":"Validation Failed","errors":["Drafts are not enabled for this repository"]}"#,
        ),
        finding(
            r#"{"message":"Validation Failed","errors":[{"resource":"PullRequest","code":"invalid",
                "field":"draft"}]}"#,
        ),
    ] {
        let scene = Scene::start().await?;
        let opening = Matcher::containing("POST", "/pulls");
        scene.simulator.fault(opening, refusal, 1);
        let opened = ensure(&scene, "one").await?;
        assert!(!opened.draft && opened.body.contains(MARK), "{opened:?}");
        let again = ensure(&scene, "two").await?;
        assert_eq!(again.number, opened.number);
    }
    let scene = Scene::start().await?;
    let opening = Matcher::containing("POST", "/pulls");
    let words = "Validation Failed";
    scene
        .simulator
        .fault(opening, Fault::Refusal(422, words), 1);
    let refused = ensure(&scene, "one").await;
    assert!(
        matches!(refused, Err(GitHubError::Invalid { .. })),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_closed_one_of_the_task_is_opened_again() -> Result<()> {
    let scene = Scene::start().await?;
    let first = ensure(&scene, "one").await?;
    scene
        .simulator
        .close_pull(REPOSITORY, "acme", first.number)?;
    let again = ensure(&scene, "two").await?;
    assert_eq!((again.number, again.state), (first.number, OpenState::Open));
    Ok(())
}

#[tokio::test]
async fn a_closed_one_of_another_task_is_left_alone() -> Result<()> {
    let scene = Scene::start().await?;
    let other = scene
        .github
        .create_pull_request(&scene.repository, &wanted("other"))
        .await?;
    scene
        .simulator
        .close_pull(REPOSITORY, "acme", other.number)?;
    let ours = ensure(&scene, "ours").await?;
    assert_ne!(ours.number, other.number);
    let found = scene
        .github
        .pull_requests_of(&scene.repository, BRANCH)
        .await?;
    let found: Vec<_> = found.into_iter().map(|one| one.number).collect();
    assert_eq!(found, [ours.number, other.number]);
    Ok(())
}

#[tokio::test]
async fn a_merged_one_of_the_task_is_the_answer() -> Result<()> {
    let scene = Scene::start().await?;
    let first = ensure(&scene, "one").await?;
    scene
        .simulator
        .merge_pull(REPOSITORY, "acme", first.number)?;
    let again = ensure(&scene, "two").await?;
    assert_eq!((again.number, again.merged), (first.number, true));
    assert_eq!(scene.simulator.pulls(REPOSITORY)?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_answer_that_got_lost_does_not_double_it() -> Result<()> {
    for fault in [Fault::Cut, Fault::Malformed, Fault::Status(502)] {
        let scene = Scene::start().await?;
        let creation = Matcher::regex("POST", "/pulls$")?;
        scene.simulator.fault(creation, fault, 1);
        let made = ensure(&scene, "one").await?;
        let all = scene.simulator.pulls(REPOSITORY)?;
        assert_eq!(all.len(), 1, "{fault:?}");
        assert_eq!(all[0].number, made.number);
    }
    Ok(())
}

#[tokio::test]
async fn one_that_appears_meanwhile_is_updated() -> Result<()> {
    let scene = Scene::start().await?;
    let gate = scene.simulator.hold(Matcher::regex("POST", "/pulls$")?);
    // Both are told that there is none before either is made; the second to arrive gets a 422.
    let both_held = async {
        while gate.arrivals() < 2 {
            tokio::task::yield_now().await;
        }
    };
    let (made, other, held) = tokio::join!(ensure(&scene, "slow"), ensure(&scene, "fast"), async {
        let held = tokio::time::timeout(Duration::from_mins(1), both_held).await;
        gate.release();
        held
    });
    held?;
    assert_eq!(made?.number, other?.number);
    assert_eq!(scene.simulator.pulls(REPOSITORY)?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_branch_without_commits_is_an_error_that_says_so() -> Result<()> {
    let scene = Scene::start().await?;
    let missing = NewPullRequest {
        head: "patchfleet/9-missing".to_owned(),
        ..wanted("one")
    };
    let refused = scene
        .github
        .ensure_pull_request(&scene.repository, &missing, MARK)
        .await;
    let Err(GitHubError::Invalid { message, errors }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(message, "Validation Failed");
    assert!(errors[0].contains("head"), "{errors:?}");
    assert_eq!(
        scene
            .github
            .pull_requests_of(&scene.repository, "nothing")
            .await?,
        []
    );
    Ok(())
}
