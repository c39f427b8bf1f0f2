//! Faults, limits, and what is counted.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use patchfleet_github::{Credentials, GitHubError, RequestPriority, Settings};
use patchfleet_resilience::{CircuitState, Policy};
use patchfleet_testkit::github::{Fault, Matcher};

use crate::scene::{REPOSITORY, Scene, client, quick};

fn everything() -> Matcher {
    Matcher::containing("*", "")
}

#[tokio::test]
async fn what_is_safe_is_tried_again() -> Result<()> {
    for fault in [Fault::Status(500), Fault::Cut, Fault::Malformed] {
        let scene = Scene::start().await?;
        scene.simulator.fault(everything(), fault, 2);
        let repository = scene.github.repository(&scene.repository).await?;
        assert_eq!(repository.default_branch, "main", "{fault:?}");
        scene.simulator.fault(everything(), fault, 3);
        let failed = scene.github.repository(&scene.repository).await;
        assert!(
            matches!(failed, Err(GitHubError::Unavailable { .. })),
            "{failed:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_comment_whose_answer_got_lost_is_not_written_again() -> Result<()> {
    let scene = Scene::start().await?;
    let issue = scene.open_issue()?;
    scene
        .simulator
        .fault(Matcher::containing("POST", "/comments"), Fault::Cut, 1);
    let lost = scene
        .github
        .create_comment(&scene.repository, issue, "once")
        .await;
    assert!(
        matches!(lost, Err(GitHubError::Unavailable { .. })),
        "{lost:?}"
    );
    assert_eq!(scene.simulator.comments(REPOSITORY, issue.0)?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn limits_are_kept_to() -> Result<()> {
    let scene = Scene::start().await?;
    let issue = scene.open_issue()?;
    let secondary = |seconds| Fault::SecondaryLimit {
        retry_after: Duration::from_secs(seconds),
    };
    scene.simulator.fault(everything(), secondary(1), 1);
    scene.simulator.fault(everything(), Fault::PrimaryLimit, 1);
    let started = Instant::now();
    // Nothing happened when a limit was met, so even a creation is safe to repeat.
    scene
        .github
        .create_comment(&scene.repository, issue, "patient")
        .await?;
    assert!(
        started.elapsed() >= Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(scene.simulator.comments(REPOSITORY, issue.0)?.len(), 1);

    scene.simulator.fault(everything(), secondary(600), 1);
    let limited = scene.github.repository(&scene.repository).await;
    let retry_after = Duration::from_mins(10);
    assert_eq!(limited, Err(GitHubError::RateLimited { retry_after }));
    Ok(())
}

/// A limit in GitHub's words of a secondary limit, with this header.
const fn secondary(headers: &'static [(&'static str, &'static str)]) -> Fault {
    Fault::Answer {
        status: 403,
        headers,
        body: r#"{"message":"You have exceeded a secondary rate limit. Please wait a few minutes."}"#,
    }
}

/// What comes of the first try under that fault.
async fn met(fault: Fault) -> Result<GitHubError> {
    let scene = Scene::start().await?;
    let settings = Settings {
        policy: Policy {
            tries: 1,
            ..quick().policy
        },
        ..quick()
    };
    let token = Credentials::Token(scene.simulator.bot_token().into());
    let github = client(&scene.simulator, token, settings)?;
    scene.simulator.fault(everything(), fault, 1);
    let met = github.repository(&scene.repository).await;
    met.err().context("the fault was met")
}

#[tokio::test]
async fn a_limit_is_one_in_every_form_that_servers_and_proxies_give_it() -> Result<()> {
    let too_soon = Fault::Answer {
        status: 422,
        headers: &[],
        body: r#"{"message":"Validation Failed","errors":[{"resource":"IssueComment","code":"custom",
            "field":"body","message":"was submitted too quickly after another comment"}]}"#,
    };
    let minute = Fault::Answer {
        status: 429,
        headers: &[("retry-after", "soon")],
        body: r#"{"message":"Too many requests"}"#,
    };
    for (fault, seconds) in [
        (secondary(&[]), 60),
        (secondary(&[("retry-after", "75")]), 75),
        (secondary(&[("retry-after", "0")]), 1),
        (
            secondary(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]),
            1,
        ),
        (
            secondary(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1")]),
            1,
        ),
        (Fault::Refusal(429, "Too many requests"), 60),
        (minute, 60),
        (
            Fault::Refusal(403, "You have triggered an abuse detection mechanism."),
            60,
        ),
        (
            Fault::Refusal(403, "API rate limit exceeded for installation ID 7."),
            60,
        ),
        (Fault::Refusal(403, "Secondary Rate Limit exceeded"), 60),
        (too_soon, 60),
    ] {
        let retry_after = Duration::from_secs(seconds);
        let limited = GitHubError::RateLimited { retry_after };
        assert_eq!(met(fault).await?, limited, "{fault:?}");
    }
    for fault in [
        Fault::Refusal(403, "Resource not accessible by integration"),
        Fault::Refusal(422, "Validation Failed"),
        Fault::Answer {
            status: 404,
            headers: &[("retry-after", "60")],
            body: r#"{"message":"Not Found"}"#,
        },
    ] {
        let refused = met(fault).await?;
        assert!(!refused.is_transient(), "{fault:?}: {refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_moment_until_which_to_wait_is_waited_for() -> Result<()> {
    let until = chrono::Utc::now() + chrono::TimeDelta::seconds(90);
    let until = until.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let headers: &'static [_] = vec![("retry-after", &*until.leak())].leak();
    for status in [403, 429, 503] {
        let body = r#"{"message":"Later"}"#;
        let told = met(Fault::Answer {
            status,
            headers,
            body,
        });
        let (GitHubError::RateLimited { retry_after: wait }
        | GitHubError::Unavailable {
            retry_after: Some(wait),
            ..
        }) = told.await?
        else {
            panic!("{status} names a time");
        };
        let expected = Duration::from_mins(1)..=Duration::from_secs(90);
        assert!(expected.contains(&wait), "{status}: {wait:?}");
    }
    Ok(())
}

#[tokio::test]
async fn refusals_have_types() -> Result<()> {
    let scene = Scene::start().await?;
    let issue = scene.open_issue()?;
    let wrong = Credentials::Token("ghp_wrong".to_owned().into());
    let stranger = client(&scene.simulator, wrong, quick())?;
    assert_eq!(stranger.identity().await, Err(GitHubError::Unauthorized));

    let reader = Credentials::Token(scene.simulator.issue_token("reader").into());
    let reader = client(&scene.simulator, reader, quick())?;
    let refused = reader
        .add_labels(&scene.repository, issue, &["patchfleet"])
        .await;
    assert!(
        matches!(refused, Err(GitHubError::Forbidden { .. })),
        "{refused:?}"
    );
    assert!(!refused.is_err_and(|error| error.is_transient()));

    scene.simulator.set_private(REPOSITORY, true)?;
    assert_eq!(
        reader.repository(&scene.repository).await,
        Err(GitHubError::NotFound)
    );
    scene.simulator.fault(everything(), Fault::Status(418), 1);
    let odd = scene.github.repository(&scene.repository).await;
    assert!(
        matches!(odd, Err(GitHubError::Unexpected { .. })),
        "{odd:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_slow_answer_is_given_up_and_an_open_circuit_spares_github() -> Result<()> {
    let scene = Scene::start().await?;
    let settings = Settings {
        timeout: Duration::from_millis(50),
        policy: Policy {
            threshold: 3,
            ..quick().policy
        },
        ..quick()
    };
    let token = Credentials::Token(scene.simulator.bot_token().into());
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&outcomes);
    let github = client(&scene.simulator, token, settings)?
        .observed(move |seen_now| seen.lock().unwrap().push(seen_now.outcome));
    let gate = scene.simulator.hold(everything());
    let late = github.repository(&scene.repository).await;
    assert!(
        matches!(late, Err(GitHubError::Unavailable { .. })),
        "{late:?}"
    );
    gate.release();
    assert_eq!(*outcomes.lock().unwrap(), ["unavailable"; 3]);
    assert_eq!(github.health().circuit_breaker.state, CircuitState::Open);
    let asked = scene.simulator.requests().len();
    let spared = github.repository(&scene.repository).await;
    let Err(GitHubError::Unavailable {
        retry_after: Some(wait),
        ..
    }) = spared
    else {
        panic!("{spared:?}");
    };
    assert!(wait > Duration::from_secs(30));
    assert_eq!(scene.simulator.requests().len(), asked);
    Ok(())
}

/// An exhausted limit is no outage: what is not limited goes on.
#[tokio::test]
async fn a_limit_opens_no_circuit() -> Result<()> {
    let scene = Scene::start().await?;
    let settings = Settings {
        policy: Policy {
            threshold: 3,
            ..quick().policy
        },
        ..quick()
    };
    let token = Credentials::Token(scene.simulator.bot_token().into());
    let github = client(&scene.simulator, token, settings)?;
    let limit = Fault::SecondaryLimit {
        retry_after: Duration::from_hours(1),
    };
    let issue = scene.open_issue()?;
    let about_issue = Matcher::containing("GET", "/issues/");
    scene.simulator.fault(about_issue, limit, 10);
    for _ in 0..6 {
        let limited = github.issue(&scene.repository, issue).await;
        assert!(
            matches!(limited, Err(GitHubError::RateLimited { .. })),
            "{limited:?}"
        );
    }
    let permission = github.permission(&scene.repository, "acme").await?;
    assert_eq!(permission, patchfleet_github::Permission::Admin);
    Ok(())
}

/// GitHub holds it against those who go on asking when their hour's requests are spent.
#[tokio::test]
async fn who_has_nothing_left_of_the_hour_asks_no_more() -> Result<()> {
    let options = patchfleet_testkit::github::Options {
        rate_limit: 3,
        ..patchfleet_testkit::github::Options::default()
    };
    let simulator = patchfleet_testkit::github::Simulator::start_with(options).await?;
    let token = Credentials::Token(simulator.bot_token().into());
    let github = client(&simulator, token, quick())?;
    let repository = "acme/orders".parse()?;
    for _ in 0..3 {
        let missing = github.repository(&repository).await;
        assert_eq!(missing, Err(GitHubError::NotFound));
    }
    for _ in 0..5 {
        let limited = github.repository(&repository).await;
        assert!(
            matches!(limited, Err(GitHubError::RateLimited { retry_after }) if retry_after > Duration::from_mins(59)),
            "{limited:?}"
        );
    }
    assert_eq!(simulator.requests().len(), 3);
    Ok(())
}

#[tokio::test]
async fn nobody_at_the_address() -> Result<()> {
    let options = patchfleet_github::GitHubOptions {
        api_url: "http://127.0.0.1:1".parse()?,
        credentials: Credentials::Token("ghp_some".to_owned().into()),
    };
    let github = patchfleet_github::GitHub::with_settings(options, quick())?;
    let Err(error) = github.identity().await else {
        panic!("somebody answered");
    };
    let text = error.to_string();
    assert!(
        text.contains("onnect") && !text.contains("ghp_some"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_left_of_the_limit_is_told_with_every_answer() -> Result<()> {
    let scene = Scene::start().await?;
    let token = Credentials::Token(scene.simulator.bot_token().into());
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let github = client(&scene.simulator, token, quick())?
        .observed(move |observation| seen.lock().unwrap().push(observation.remaining));
    github.repository(&scene.repository).await?;
    let unknown: patchfleet_domain::RepositoryName = "acme/unknown".parse()?;
    let refused = github.repository(&unknown).await;
    assert!(matches!(refused, Err(GitHubError::NotFound)), "{refused:?}");
    let told = told.lock().unwrap();
    let [Some(first), Some(second)] = told.as_slice() else {
        panic!("both answers say it: {told:?}");
    };
    assert_eq!(*second, first - 1);
    Ok(())
}

/// One limit for all of them: those who can wait leave the rest of it to those who can't.
#[tokio::test]
async fn what_is_left_of_the_hour_is_for_those_who_come_first() -> Result<()> {
    let options = patchfleet_testkit::github::Options {
        rate_limit: 100,
        ..patchfleet_testkit::github::Options::default()
    };
    let simulator = patchfleet_testkit::github::Simulator::start_with(options).await?;
    let token = Credentials::Token(simulator.bot_token().into());
    let github = client(&simulator, token, quick())?;
    let repository = "acme/orders".parse()?;
    for (priority, made) in [
        (RequestPriority::Sweep, 81),
        (RequestPriority::Agent, 91),
        (RequestPriority::Outbox, 96),
        (RequestPriority::Intake, 100),
    ] {
        let github = github.clone().with_priority(priority);
        let limited = loop {
            match github.repository(&repository).await {
                Err(GitHubError::NotFound) => {}
                other => break other,
            }
        };
        assert!(
            matches!(limited, Err(GitHubError::RateLimited { retry_after }) if retry_after > Duration::from_mins(59)),
            "{limited:?}"
        );
        assert_eq!(simulator.requests().len(), made, "{priority:?}");
    }
    Ok(())
}
