//! What an attempt waits for: remotes that refuse for now, and limits. Their time passes in the test.

use std::time::Duration;

use patchfleet_domain::Work;
use patchfleet_proto::v1;
use patchfleet_proto::v1::coordinator_message::Body;
use patchfleet_proto::v1::finished::Outcome;
use patchfleet_proto::v1::report::Event;
use patchfleet_testkit::github::{Fault, Matcher};
use patchfleet_testkit::stub_coordinator::{Answers, Heard};

use crate::scene::{Agent, FIX, Scene, reports_of, work};

const ALLOW_LIST: &str = "The `acme' organization has an IP allow list enabled.";
const SECONDARY: &str = "You have exceeded a secondary rate limit. Please wait a few minutes.";

/// A scene whose leases outlast all that is waited for.
async fn patient() -> Scene {
    Scene::with(Answers {
        lease_ttl: Duration::from_hours(3),
        ..Answers::default()
    })
    .await
}

/// Has an agent begin an attempt.
fn begin(scene: &Scene) -> (Agent, Work) {
    let agent = scene.agent(FIX);
    let work = work(1);
    scene.stub.assign(scene.assign(work));
    (agent, work)
}

fn cloning() -> Matcher {
    Matcher::containing("GET", "git-upload-pack")
}

/// What an attempt says of its waits.
fn waits(work: Work, heard: &[Heard]) -> Vec<String> {
    let reports = reports_of(work, heard).into_iter();
    let details = reports.filter_map(|report| match report.event {
        Some(Event::Progress(progress)) => Some(progress.detail),
        _ => None,
    });
    let is_wait = |detail: &String| detail.contains("tried again at") || detail.contains("waiting");
    details.filter(is_wait).collect()
}

/// Waits until the attempt says for the n-th time that it waits; gives what it says.
async fn says_that_it_waits(scene: &Scene, work: Work, times: usize) -> String {
    let look = |heard: &[Heard]| waits(work, heard).into_iter().nth(times - 1);
    scene.stub.wait_for("a wait", look).await.unwrap()
}

/// Lets so much time pass.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_remote_that_refuses_to_be_cloned_for_a_while_is_waited_for() {
    for words in [ALLOW_LIST, "Your account is suspended.", ""] {
        let scene = patient().await;
        let refusals = 3;
        scene
            .github
            .fault(cloning(), Fault::Refusal(403, words), refusals);
        let (agent, work) = begin(&scene);
        for (times, seconds) in (1..).zip([5, 10, 20]) {
            let said = says_that_it_waits(&scene, work, times).await;
            assert!(said.contains("refuses for now"), "{said}");
            assert!(said.contains(words), "{said}");
            let asked = scene.github.request_count("GET", "info/refs");
            assert_eq!(asked, times, "{words:?}");
            pass(seconds).await;
        }
        let ended = scene.outcome(work).await;
        assert!(matches!(ended, Outcome::PullRequest(_)), "{ended:?}");
        assert_eq!(waits(work, &scene.stub.heard()).len(), refusals);
        agent.end().await;
    }
}

#[tokio::test]
async fn a_remote_that_limits_requests_is_waited_for_too() {
    let scene = patient().await;
    scene.github.fault(cloning(), Fault::Status(429), 1);
    let (agent, work) = begin(&scene);
    says_that_it_waits(&scene, work, 1).await;
    pass(5).await;
    let ended = scene.outcome(work).await;
    assert!(matches!(ended, Outcome::PullRequest(_)), "{ended:?}");
    agent.end().await;
}

#[tokio::test]
async fn a_refusal_that_does_not_pass_is_given_up_after_ninety_minutes() {
    let scene = patient().await;
    scene
        .github
        .fault(cloning(), Fault::Refusal(403, ALLOW_LIST), usize::MAX);
    let (agent, work) = begin(&scene);
    let doubling = [5, 10, 20, 40, 80, 160, 320];
    let all: Vec<_> = doubling.into_iter().chain([600; 7]).collect();
    for (times, seconds) in (1..).zip(&all) {
        says_that_it_waits(&scene, work, times).await;
        pass(*seconds).await;
    }
    let Outcome::Failed(failed) = scene.outcome(work).await else {
        panic!("it was cloned");
    };
    assert_eq!((&*failed.kind, failed.retryable), ("clone_failed", true));
    assert!(failed.message.contains(ALLOW_LIST), "{failed:?}");
    assert_eq!(waits(work, &scene.stub.heard()).len(), all.len());
    agent.end().await;
}

#[tokio::test]
async fn a_right_that_is_missing_is_not_waited_for() {
    let scene = patient().await;
    let words = "Write access to repository not granted.";
    scene.github.fault(cloning(), Fault::Refusal(403, words), 1);
    let (agent, work) = begin(&scene);
    let Outcome::Failed(failed) = scene.outcome(work).await else {
        panic!("it was cloned");
    };
    assert_eq!((&*failed.kind, failed.retryable), ("clone_failed", false));
    assert!(waits(work, &scene.stub.heard()).is_empty());
    agent.end().await;
}

#[tokio::test]
async fn who_calls_an_attempt_off_does_not_wait_with_it() {
    let scene = patient().await;
    scene
        .github
        .fault(cloning(), Fault::Refusal(403, ALLOW_LIST), usize::MAX);
    let (agent, work) = begin(&scene);
    says_that_it_waits(&scene, work, 1).await;
    scene.stub.send(Body::Cancel(v1::Cancel {
        work: Some(work.into()),
        reason: "a person said so".to_owned(),
    }));
    let ended = scene.outcome(work).await;
    assert!(matches!(ended, Outcome::Cancelled(_)), "{ended:?}");
    agent.end().await;
}

/// GitHub's limit of a minute and more when the pull request is opened: asked once when it is met and once
/// when it is over, and no attempt is spent.
#[tokio::test]
async fn a_limit_on_opening_the_pull_request_is_kept_to() {
    let limited = |retry_after| Fault::SecondaryLimit {
        retry_after: Duration::from_secs(retry_after),
    };
    for (fault, seconds) in [
        (limited(75), 75),
        (limited(60), 60),
        (Fault::Refusal(403, SECONDARY), 60),
        (Fault::Refusal(429, "Too many requests"), 60),
    ] {
        let scene = patient().await;
        let opening = Matcher::regex("POST", "/pulls$").unwrap();
        scene.github.fault(opening, fault, 1);
        let (agent, work) = begin(&scene);
        let said = says_that_it_waits(&scene, work, 1).await;
        assert!(said.contains("GitHub's rate limit"), "{said}");
        pass(seconds / 2).await;
        assert_eq!(scene.github.request_count("POST", "/pulls"), 1, "{fault:?}");
        pass(seconds - seconds / 2).await;
        let ended = scene.outcome(work).await;
        assert!(matches!(ended, Outcome::PullRequest(_)), "{ended:?}");
        assert_eq!(scene.github.request_count("POST", "/pulls"), 2, "{fault:?}");
        agent.end().await;
    }
}
