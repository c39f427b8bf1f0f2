//! The simulator's answers and webhooks against GitHub's own description of
//! them. One test, because reading the description takes seconds.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use patchfleet_testkit::github::{Permission, ReviewState, Simulator, examples};
use serde_json::{Value, json};

use checker::{Checker, get, send};
use description::Description;

#[path = "github_openapi/checker.rs"]
mod checker;
#[path = "github_openapi/description.rs"]
mod description;

const REPO: &str = "octo/app";
#[tokio::test(flavor = "multi_thread")]
async fn answers_and_webhooks_fit_the_description_of_github() -> Result<()> {
    let mut checker = set_up().await?;
    let tokens = apps(&mut checker).await?;
    repositories(&mut checker).await?;
    issues(&mut checker).await?;
    pulls(&mut checker).await?;
    commits(&mut checker, &tokens).await?;
    refusals(&mut checker).await?;
    hooks(&mut checker, &tokens).await?;
    finish_pulls(&mut checker).await?;
    webhooks(&mut checker)?;
    let missing: Vec<_> = Simulator::routes()
        .filter(|(method, path)| {
            !checker
                .seen
                .contains(&((*method).to_owned(), (*path).to_owned()))
        })
        .collect();
    assert!(
        missing.is_empty(),
        "calls that this test does not make: {missing:#?}"
    );
    let findings = checker.findings.join("\n");
    assert!(
        findings.is_empty(),
        "GitHub would not answer so:\n{findings}"
    );
    Ok(())
}

async fn set_up() -> Result<Checker> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("src"))?;
    std::fs::write(folder.path().join("README.md"), "# App\n")?;
    std::fs::write(folder.path().join("src/lib.py"), "ONE = 1\n")?;
    let github = Simulator::start().await?;
    github.create_repository(REPO, folder.path())?;
    github.set_permission(REPO, "maria", Permission::Maintain)?;
    github.add_webhook("http://127.0.0.1:9/", "secret");
    Ok(Checker {
        description: Description::load()?,
        github,
        client: reqwest::Client::new(),
        seen: BTreeSet::new(),
        findings: Vec::new(),
    })
}

/// Tokens of the App itself and of its installation.
struct Tokens {
    app: String,
    installation: String,
}

async fn apps(checker: &mut Checker) -> Result<Tokens> {
    let new = checker.github.create_app("patchfleet", "octo")?;
    let installation = checker.github.install_app(new.id, &[REPO])?.to_string();
    let now = chrono::Utc::now().timestamp();
    let claims = json!({ "iss": new.id.to_string(), "iat": now - 30, "exp": now + 500 });
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(new.private_key_pem.as_bytes())?;
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    let app = jsonwebtoken::encode(&header, &claims, &key)?;

    let id = [("installation_id", installation.as_str())];
    checker.call(get("/app", &[]), &app).await?;
    checker.call(get("/app/installations", &[]), &app).await?;
    checker
        .call(get("/app/installations/{installation_id}", &id), &app)
        .await?;
    checker
        .call(get("/repos/{owner}/{repo}/installation", &[]), &app)
        .await?;
    let template = "/app/installations/{installation_id}/access_tokens";
    let body = json!({ "repositories": ["app"] });
    let token = checker
        .call(send(("POST", 201), template, &id, body), &app)
        .await?;
    let token = token["token"].as_str().context("a token")?.to_owned();
    checker
        .call(get("/installation/repositories", &[]), &token)
        .await?;
    Ok(Tokens {
        app,
        installation: token,
    })
}

async fn repositories(checker: &mut Checker) -> Result<()> {
    let bot = checker.github.bot_token();
    let new = json!({ "name": "fresh", "private": true });
    checker
        .call(send(("POST", 201), "/user/repos", &[], new.clone()), &bot)
        .await?;
    checker
        .call(send(("POST", 422), "/user/repos", &[], new), &bot)
        .await?;
    Ok(())
}

async fn issues(checker: &mut Checker) -> Result<()> {
    let bot = checker.github.bot_token();
    let repo = |end: &str| format!("/repos/{{owner}}/{{repo}}{end}");
    checker.call(get("/user", &[]), &bot).await?;
    checker.call(get("/user/repos", &[]), &bot).await?;
    checker.call(get("/rate_limit", &[]), &bot).await?;
    checker.call(get(&repo(""), &[]), &bot).await?;
    checker
        .call(
            get(
                &repo("/collaborators/{username}/permission"),
                &[("username", "maria")],
            ),
            &bot,
        )
        .await?;
    checker
        .call(
            get(&repo("/contents/{path}"), &[("path", "src/lib.py")]),
            &bot,
        )
        .await?;
    checker
        .call(get(&repo("/contents/{path}"), &[("path", "src")]), &bot)
        .await?;

    let label = json!({ "name": "patchfleet", "color": "00ff00", "description": "For the fleet" });
    checker
        .call(send(("POST", 201), &repo("/labels"), &[], label), &bot)
        .await?;
    let issue = json!({ "title": "It is 2", "body": "Not 1", "labels": ["patchfleet", "bug"], "assignees": ["maria"] });
    checker
        .call(send(("POST", 201), &repo("/issues"), &[], issue), &bot)
        .await?;
    let one = [("issue_number", "1")];
    let template = repo("/issues/{issue_number}/comments");
    let comment = checker
        .call(
            send(("POST", 201), &template, &one, json!({ "body": "Hm" })),
            &bot,
        )
        .await?;
    checker.call(get(&template, &one), &bot).await?;
    let id = comment["id"].to_string();
    let id = [("comment_id", id.as_str())];
    let template = repo("/issues/comments/{comment_id}");
    checker
        .call(
            send(("PATCH", 200), &template, &id, json!({ "body": "Ah" })),
            &bot,
        )
        .await?;
    checker.call(get(&template, &id), &bot).await?;
    checker
        .call(send(("DELETE", 204), &template, &id, Value::Null), &bot)
        .await?;

    let template = repo("/issues/{issue_number}/labels");
    checker
        .call(
            send(("POST", 200), &template, &one, json!({ "labels": ["one"] })),
            &bot,
        )
        .await?;
    checker
        .call(
            send(
                ("PUT", 200),
                &template,
                &one,
                json!({ "labels": ["one", "two"] }),
            ),
            &bot,
        )
        .await?;
    checker.call(get(&template, &one), &bot).await?;
    let gone = [("issue_number", "1"), ("name", "two")];
    let template = repo("/issues/{issue_number}/labels/{name}");
    checker
        .call(send(("DELETE", 200), &template, &gone, Value::Null), &bot)
        .await?;
    checker.call(get(&repo("/labels"), &[]), &bot).await?;

    let template = repo("/issues/{issue_number}");
    let edit = json!({ "title": "It is three", "state": "closed", "state_reason": "not_planned", "assignees": [] });
    checker
        .call(send(("PATCH", 200), &template, &one, edit), &bot)
        .await?;
    checker
        .call(
            send(("PATCH", 200), &template, &one, json!({ "state": "open" })),
            &bot,
        )
        .await?;
    checker.call(get(&template, &one), &bot).await?;
    let template = repo("/issues/{issue_number}/events");
    checker.call(get(&template, &one), &bot).await?;
    checker.call(get(&repo("/issues"), &[]), &bot).await?;
    Ok(())
}

/// Puts a commit on a branch in the bare repository's own way: a push.
async fn push(checker: &Checker, branch: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let token = checker.github.bot_token();
    let url = checker.github.clone_url(REPO);
    let url = url.replace("http://", &format!("http://x-access-token:{token}@"));
    let branch = format!("HEAD:refs/heads/{branch}");
    tokio::task::spawn_blocking(move || {
        let git = |args: &[&str]| patchfleet_testkit::github::git::run(folder.path(), args);
        git(&["clone", "--quiet", &url, "."])?;
        std::fs::write(folder.path().join("src/lib.py"), "ONE = 2\n")?;
        std::fs::write(folder.path().join("more.txt"), branch.as_bytes())?;
        git(&["add", "--all"])?;
        git(&["commit", "--quiet", "--message", "Change it"])?;
        git(&["push", "--quiet", "origin", &branch])
    })
    .await??;
    Ok(())
}

async fn pulls(checker: &mut Checker) -> Result<()> {
    let bot = checker.github.bot_token();
    let repo = |end: &str| format!("/repos/{{owner}}/{{repo}}/pulls{end}");
    push(checker, "patchfleet/1-it-is-2").await?;
    let new = json!({ "title": "Make it 2", "body": "Fixes #1", "head": "patchfleet/1-it-is-2", "base": "main", "draft": true });
    checker
        .call(send(("POST", 201), &repo(""), &[], new.clone()), &bot)
        .await?;
    checker
        .call(send(("POST", 422), &repo(""), &[], new), &bot)
        .await?;
    checker.call(get(&repo(""), &[]), &bot).await?;
    let two = [("pull_number", "2")];
    checker
        .call(get(&repo("/{pull_number}"), &two), &bot)
        .await?;
    for state in ["closed", "open"] {
        let edit = json!({ "state": state, "title": format!("{state} it") });
        checker
            .call(
                send(("PATCH", 200), &repo("/{pull_number}"), &two, edit),
                &bot,
            )
            .await?;
    }
    checker
        .call(get(&repo("/{pull_number}/files"), &two), &bot)
        .await?;
    checker
        .call(get(&repo("/{pull_number}/commits"), &two), &bot)
        .await?;
    let asked = json!({ "reviewers": ["maria"] });
    let template = repo("/{pull_number}/requested_reviewers");
    checker
        .call(send(("POST", 201), &template, &two, asked), &bot)
        .await?;
    let template = repo("/{pull_number}/reviews");
    let review = json!({ "event": "COMMENT", "body": "I made this" });
    checker
        .call(send(("POST", 200), &template, &two, review), &bot)
        .await?;
    checker
        .github
        .review(REPO, "maria", 2, ReviewState::ChangesRequested, "No")?;
    checker
        .github
        .review(REPO, "maria", 2, ReviewState::Approved, "")?;
    checker.call(get(&template, &two), &bot).await?;
    Ok(())
}

async fn commits(checker: &mut Checker, tokens: &Tokens) -> Result<()> {
    let bot = checker.github.bot_token();
    let repo = |end: &str| format!("/repos/{{owner}}/{{repo}}{end}");
    let branch = "patchfleet/1-it-is-2";
    let sha = checker
        .github
        .branch_sha(REPO, branch)?
        .context("the branch")?;
    checker
        .call(
            get(
                &repo("/git/ref/{ref}"),
                &[("ref", &format!("heads/{branch}"))],
            ),
            &bot,
        )
        .await?;
    checker
        .call(
            get(&repo("/branches/{branch}"), &[("branch", branch)]),
            &bot,
        )
        .await?;
    let at = [("ref", sha.as_str()), ("sha", sha.as_str())];
    checker
        .call(get(&repo("/commits/{ref}"), &at), &bot)
        .await?;
    let check = json!({ "name": "tests", "head_sha": sha, "status": "in_progress" });
    let check = send(
        ("POST", 201),
        "/repos/{owner}/{repo}/check-runs",
        &[],
        check,
    );
    let check = checker.call(check, &tokens.installation).await?;
    let done = json!({ "conclusion": "success", "output": { "title": "Good", "summary": "All" } });
    let id = check["id"].to_string();
    let id = [("check_run_id", id.as_str())];
    let template = repo("/check-runs/{check_run_id}");
    checker
        .call(
            send(("PATCH", 200), &template, &id, done),
            &tokens.installation,
        )
        .await?;
    checker
        .call(get(&repo("/commits/{ref}/check-runs"), &at), &bot)
        .await?;
    let status = json!({ "state": "success", "context": "ci", "description": "Good" });
    checker
        .call(
            send(("POST", 201), &repo("/statuses/{sha}"), &at, status),
            &bot,
        )
        .await?;
    checker
        .call(get(&repo("/commits/{ref}/statuses"), &at), &bot)
        .await?;
    checker
        .call(get(&repo("/commits/{ref}/status"), &at), &bot)
        .await?;
    push(checker, "gone").await?;
    let gone = [("ref", "heads/gone")];
    let template = repo("/git/refs/{ref}");
    checker
        .call(send(("DELETE", 204), &template, &gone, Value::Null), &bot)
        .await?;
    Ok(())
}

async fn refusals(checker: &mut Checker) -> Result<()> {
    let bot = checker.github.bot_token();
    let stranger = checker.github.issue_token("stranger");
    let issue = "/repos/{owner}/{repo}/issues/{issue_number}";
    let none = [("issue_number", "99")];
    let missing = send(("GET", 404), issue, &none, Value::Null);
    checker.call(missing, &bot).await?;
    let untitled = send(
        ("POST", 422),
        "/repos/{owner}/{repo}/issues",
        &[],
        json!({ "title": "" }),
    );
    checker.call(untitled, &bot).await?;
    checker
        .call(send(("GET", 401), "/user", &[], Value::Null), "ghp_wrong")
        .await?;
    let pull = json!({ "title": "t", "head": "main", "base": "main" });
    checker
        .call(
            send(("POST", 403), "/repos/{owner}/{repo}/pulls", &[], pull),
            &stranger,
        )
        .await?;
    Ok(())
}

async fn finish_pulls(checker: &mut Checker) -> Result<()> {
    let bot = checker.github.bot_token();
    let two = [("pull_number", "2")];
    let template = "/repos/{owner}/{repo}/pulls/{pull_number}/merge";
    checker
        .call(send(("PUT", 405), template, &two, json!({})), &bot)
        .await?;
    let body = json!({ "sha": "0000000000000000000000000000000000000000" });
    push(checker, "other").await?;
    let new = json!({ "title": "Other", "head": "other", "base": "main" });
    checker
        .call(
            send(("POST", 201), "/repos/{owner}/{repo}/pulls", &[], new),
            &bot,
        )
        .await?;
    let three = [("pull_number", "3")];
    checker
        .call(send(("PUT", 409), template, &three, body), &bot)
        .await?;
    checker
        .call(send(("PUT", 200), template, &three, json!({})), &bot)
        .await?;
    Ok(())
}

async fn hooks(checker: &mut Checker, tokens: &Tokens) -> Result<()> {
    let owner = checker.github.issue_token("octo");
    let hook = checker.github.deliveries()[0].hook.0.to_string();
    let base = "/repos/{owner}/{repo}/hooks/{hook_id}/deliveries";
    let of = [("hook_id", hook.as_str())];
    checker
        .github
        .deliveries_settled(std::time::Duration::from_secs(30))
        .await?;
    let list = checker.call(get(base, &of), &owner).await?;
    let delivery = list[0]["id"].to_string();
    let one = [
        ("hook_id", hook.as_str()),
        ("delivery_id", delivery.as_str()),
    ];
    let template = format!("{base}/{{delivery_id}}");
    checker.call(get(&template, &one), &owner).await?;
    let template = format!("{template}/attempts");
    checker
        .call(send(("POST", 202), &template, &one, Value::Null), &owner)
        .await?;
    let base = "/app/hook/deliveries";
    checker.call(get(base, &[]), &tokens.app).await?;
    let template = format!("{base}/{{delivery_id}}");
    checker.call(get(&template, &one), &tokens.app).await?;
    let template = format!("{template}/attempts");
    checker
        .call(
            send(("POST", 202), &template, &one, Value::Null),
            &tokens.app,
        )
        .await?;
    Ok(())
}

fn webhooks(checker: &mut Checker) -> Result<()> {
    let mut kinds = BTreeSet::new();
    for delivery in checker.github.deliveries() {
        let action = delivery.action.clone().unwrap_or_default();
        for one in checker
            .description
            .webhook(&delivery.event, &delivery.payload())?
        {
            checker
                .findings
                .push(format!("webhook {} {action} {one}", delivery.event));
        }
        kinds.insert(format!("{} {action}", delivery.event));
    }
    for kind in [
        "issues labeled",
        "issue_comment edited",
        "pull_request closed",
        "push ",
        "ping ",
    ] {
        assert!(kinds.contains(kind), "no webhook {kind}: {kinds:?}");
    }
    assert!(kinds.len() >= 20, "{kinds:?}");
    Ok(())
}

#[test]
fn examples_are_complete() -> Result<()> {
    let all = examples::webhook_examples()?;
    let events: BTreeSet<_> = all.iter().map(|(event, _)| event).collect();
    assert_eq!((all.len(), events.len()), (329, 58));
    Ok(())
}
