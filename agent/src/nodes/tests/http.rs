//! The same over HTTP with a token, as GitHub serves git.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use patchfleet_testkit::github::{Fault, Matcher, Simulator};
use secrecy::{ExposeSecret, SecretString};

use super::rig::Desk;
use super::*;

const REPOSITORY_NAME: &str = "acme/orders";

/// A private repository that only the token opens.
async fn private() -> (Simulator, Rig) {
    let simulator = Simulator::start().await.unwrap();
    let seed = tempfile::tempdir().unwrap();
    for (path, text) in REPOSITORY {
        std::fs::write(seed.path().join(path), text).unwrap();
    }
    simulator
        .create_repository(REPOSITORY_NAME, seed.path())
        .unwrap();
    simulator.set_private(REPOSITORY_NAME, true).unwrap();
    let mut rig = Rig::answering(REPOSITORY, &[FIX]).await;
    rig.url = simulator.clone_url(REPOSITORY_NAME);
    rig.desk = desk(&simulator.bot_token());
    (simulator, rig)
}

fn desk(token: &str) -> Arc<Desk> {
    Arc::new(Desk {
        token: SecretString::from(token),
        drafts: Mutex::default(),
    })
}

/// Every file below a folder, as bytes.
fn all_bytes(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(root)];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push((path.clone(), std::fs::read(path).unwrap()));
            }
        }
    }
    found
}

#[tokio::test]
async fn a_private_repository_is_cloned_and_pushed_to_and_the_token_stays_nowhere() {
    let (_simulator, mut rig) = private().await;
    let report = rig.run().await.unwrap();
    let token = rig.desk.token.expose_secret().to_owned();
    let basic = BASE64_STANDARD.encode(format!("x-access-token:{token}"));
    let files = all_bytes(rig.bench.root.path());
    assert!(files.len() > 10);
    for (path, bytes) in files {
        let text = String::from_utf8_lossy(&bytes);
        let kept = text.contains(&token) || text.contains(&basic);
        assert!(!kept, "the token is in {}", path.display());
    }
    let told = format!("{:?}\n{}", report.ctx, rig.log());
    assert!(!told.contains(&token) && !told.contains(&basic));
}

#[tokio::test]
async fn a_repository_that_may_not_be_read_is_a_typed_failure() {
    let (simulator, mut rig) = private().await;
    rig.desk = desk("ghp_wrong0123456789abcdefghijABCDEFGHIJ01");
    let failure = rig.prepare(1).await.unwrap_err();
    assert_eq!(
        (failure.kind, failure.retryable),
        (FailureKind::CloneFailed, false)
    );
    assert!(!failure.message.contains("ghp_wrong"), "{failure:?}");
    rig.desk = desk(&simulator.bot_token());
    rig.url = simulator.clone_url("acme/absent");
    let failure = rig.prepare(1).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::CloneFailed);
}

#[tokio::test]
async fn a_push_that_is_refused_for_now_is_waited_for_and_nothing_is_done_twice() {
    let (simulator, mut rig) = private().await;
    let words = "The `acme' organization has an IP allow list enabled.";
    let push = Matcher::containing("GET", "service=git-receive-pack");
    simulator.fault(push, Fault::Refusal(403, words), 1);
    rig.run().await.unwrap();
    let log = rig.log();
    assert!(
        log.contains("refuses for now: remote: The `acme' organization"),
        "{log}"
    );
    assert!(log.contains("tried again in 5 s"), "{log}");
    assert_eq!(rig.desk.drafts.lock().unwrap().len(), 1);
    assert_eq!(simulator.request_count("POST", "git-receive-pack"), 1);
}

#[tokio::test]
async fn a_clone_that_is_refused_for_now_is_worth_another_try() {
    let (simulator, rig) = private().await;
    simulator.fault(Matcher::containing("*", ".git/"), Fault::Status(403), 1);
    let failure = rig.prepare(1).await.unwrap_err();
    assert_eq!(
        (failure.kind, failure.retryable),
        (FailureKind::CloneFailed, true)
    );
    rig.prepare(2).await.unwrap();
}

#[tokio::test]
async fn a_remote_that_is_away_may_come_back() {
    let (simulator, rig) = private().await;
    simulator.fault(Matcher::containing("*", ".git/"), Fault::Status(503), 1);
    let failure = rig.prepare(1).await.unwrap_err();
    assert_eq!(
        (failure.kind, failure.retryable),
        (FailureKind::RemoteUnavailable, true)
    );
    rig.prepare(2).await.unwrap();
}

#[tokio::test]
async fn a_push_that_fails_for_a_moment_is_tried_again() {
    let (simulator, rig) = private().await;
    let deps = rig.deps(rig.workspace(1).await).await.unwrap();
    let push = Matcher::containing("POST", "git-receive-pack");
    simulator.fault(push, Fault::Status(502), 1);
    let report = rig.run_with(deps, Vec::new()).await.unwrap();
    assert!(matches!(
        outcome(&report.ctx),
        Ok(Outcome::PullRequest { .. })
    ));
    assert_eq!(rig.desk.drafts.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_push_whose_answer_is_lost_is_found_again() {
    let (simulator, rig) = private().await;
    let deps = rig.deps(rig.workspace(1).await).await.unwrap();
    let push = Matcher::containing("POST", "git-receive-pack");
    simulator.fault(push, Fault::Cut, 1);
    rig.run_with(deps, Vec::new()).await.unwrap();
    assert_eq!(rig.desk.drafts.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_push_that_github_refuses_is_a_typed_failure() {
    let (simulator, rig) = private().await;
    let said = Some("protected branch hook declined");
    simulator.refuse_pushes(REPOSITORY_NAME, said).unwrap();
    let failure = rig.fails().await;
    assert_eq!(
        (failure.kind, failure.retryable),
        (FailureKind::PushRefused, false)
    );
    assert!(failure.message.contains("protected branch"), "{failure:?}");
}
