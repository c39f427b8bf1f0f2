//! Git over HTTP, with the real git client.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use patchfleet_testkit::github::{Fault, Matcher, Permission, Simulator, git};
use tempfile::TempDir;
use tokio::task::JoinSet;

const REPO: &str = "octo/app";
const LONG: Duration = Duration::from_secs(30);

/// A simulator with one repository, and a folder for clones.
struct World {
    github: Simulator,
    folder: TempDir,
}

impl World {
    async fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let seed = folder.path().join("seed");
        std::fs::create_dir(&seed)?;
        std::fs::write(seed.join("README.md"), "# App\n")?;
        let github = Simulator::start().await?;
        github.create_repository(REPO, &seed)?;
        Ok(Self { github, folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The clone address with a token in the password's place.
    fn url(&self, token: &str) -> String {
        let plain = self.github.clone_url(REPO);
        plain.replace("http://", &format!("http://x-access-token:{token}@"))
    }

    async fn clone(&self, url: &str, name: &str) -> Result<PathBuf> {
        run(self.folder.path(), &["clone", "--quiet", url, name]).await?;
        Ok(self.path(name))
    }
}

/// Git off the runtime's threads, which serve the other side.
async fn run(folder: &Path, args: &[&str]) -> Result<String> {
    let folder = folder.to_owned();
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    tokio::task::spawn_blocking(move || git::run(&folder, &args)).await?
}

async fn commit(clone: &Path, file: &str, content: &[u8]) -> Result<String> {
    std::fs::write(clone.join(file), content)?;
    run(clone, &["add", "--all"]).await?;
    run(clone, &["commit", "--quiet", "--message", file]).await?;
    run(clone, &["rev-parse", "HEAD"]).await
}

fn error_of<T: std::fmt::Debug>(result: Result<T>) -> String {
    format!("{:#}", result.expect_err("git should have failed"))
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_clones_what_is_public() -> Result<()> {
    let world = World::new().await?;
    let clone = world.clone(&world.github.clone_url(REPO), "clone").await?;
    assert_eq!(std::fs::read_to_string(clone.join("README.md"))?, "# App\n");
    let head = run(&clone, &["rev-parse", "HEAD"]).await?;
    assert_eq!(world.github.branch_sha(REPO, "main")?, Some(head));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_needs_a_token_that_may_write() -> Result<()> {
    let world = World::new().await?;
    let clone = world.clone(&world.github.clone_url(REPO), "clone").await?;
    let sha = commit(&clone, "new.txt", b"new\n").await?;
    let push =
        async |url: &str| run(&clone, &["push", "--quiet", url, "HEAD:refs/heads/work"]).await;

    let refused = error_of(push(&world.github.clone_url(REPO)).await);
    assert!(refused.contains("could not read Username"), "{refused}");
    let refused = error_of(push(&world.url("ghp_unknown")).await);
    assert!(refused.contains("Authentication failed"), "{refused}");
    let reader = world.github.issue_token("reader");
    let refused = error_of(push(&world.url(&reader)).await);
    assert!(refused.contains("403"), "{refused}");
    assert_eq!(world.github.branch_sha(REPO, "work")?, None);

    push(&world.url(&world.github.bot_token())).await?;
    assert_eq!(world.github.branch_sha(REPO, "work")?, Some(sha));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_announced_and_moves_its_pull_request() -> Result<()> {
    let world = World::new().await?;
    world.github.add_webhook("http://127.0.0.1:9/", "secret");
    let clone = world
        .clone(&world.url(&world.github.bot_token()), "clone")
        .await?;
    let first = commit(&clone, "one.txt", b"1\n").await?;
    run(
        &clone,
        &["push", "--quiet", "origin", "HEAD:refs/heads/work"],
    )
    .await?;
    let number = open_pull(&world).await?;
    let second = commit(&clone, "two.txt", b"1\n2\n").await?;
    run(
        &clone,
        &["push", "--quiet", "origin", "HEAD:refs/heads/work"],
    )
    .await?;

    let deliveries = world.github.deliveries();
    let pushes: Vec<_> = deliveries
        .iter()
        .filter(|one| one.event == "push")
        .collect();
    assert_eq!(pushes.len(), 2);
    let last = pushes[1].payload();
    assert_eq!(last["ref"], "refs/heads/work");
    assert_eq!(last["before"], first);
    assert_eq!(last["after"], second);
    assert_eq!(last["commits"][0]["added"][0], "two.txt");
    assert_eq!(last["pusher"]["name"], "patchfleet-bot");

    let synchronized =
        |one: &&patchfleet_testkit::github::Delivery| one.action.as_deref() == Some("synchronize");
    let event = deliveries
        .iter()
        .find(synchronized)
        .context("no synchronize")?;
    assert_eq!(event.payload()["pull_request"]["head"]["sha"], second);
    let pull = world
        .github
        .issue(REPO, number)?
        .pull
        .context("a pull request")?;
    assert_eq!(
        (
            pull.size.commits,
            pull.size.changed_files,
            pull.size.additions
        ),
        (2, 2, 3)
    );
    let fetched = run(
        &clone,
        &["ls-remote", "origin", &format!("refs/pull/{number}/head")],
    )
    .await?;
    assert!(fetched.starts_with(&second), "{fetched}");
    Ok(())
}

async fn open_pull(world: &World) -> Result<u64> {
    let answer = reqwest::Client::new()
        .post(format!("{}/repos/{REPO}/pulls", world.github.base_url()))
        .bearer_auth(world.github.bot_token())
        .json(&serde_json::json!({ "title": "Work", "head": "work", "base": "main" }))
        .send()
        .await?
        .error_for_status()?;
    let body: serde_json::Value = answer.json().await?;
    body["number"].as_u64().context("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_repository_is_hidden() -> Result<()> {
    let world = World::new().await?;
    world.github.set_private(REPO, true)?;
    let refused = error_of(world.clone(&world.github.clone_url(REPO), "a").await);
    assert!(refused.contains("could not read Username"), "{refused}");
    let stranger = world.github.issue_token("stranger");
    let refused = error_of(world.clone(&world.url(&stranger), "b").await);
    assert!(refused.contains("not found"), "{refused}");
    world
        .github
        .set_permission(REPO, "friend", Permission::Read)?;
    let friend = world.github.issue_token("friend");
    world.clone(&world.url(&friend), "c").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_are_refused_on_command() -> Result<()> {
    let world = World::new().await?;
    let clone = world
        .clone(&world.url(&world.github.bot_token()), "clone")
        .await?;
    commit(&clone, "new.txt", b"new\n").await?;
    world
        .github
        .refuse_pushes(REPO, Some("GH006: Protected branch update failed"))?;
    let push = ["push", "origin", "HEAD:refs/heads/work"];
    let refused = error_of(run(&clone, &push).await);
    assert!(refused.contains("GH006: Protected branch"), "{refused}");
    assert!(refused.contains("[remote rejected]"), "{refused}");
    world.github.refuse_pushes(REPO, None)?;
    run(&clone, &push).await?;
    Ok(())
}

/// More than git's post buffer goes out in chunks; many commits in common make
/// the request of a fetch large enough that git compresses it.
#[tokio::test(flavor = "multi_thread")]
async fn large_and_compressed_bodies_pass() -> Result<()> {
    let world = World::new().await?;
    let clone = world
        .clone(&world.url(&world.github.bot_token()), "clone")
        .await?;
    let noise: Vec<u8> = (0..3_000_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1])
        .collect();
    let sha = commit(&clone, "noise.bin", &noise).await?;
    run(
        &clone,
        &[
            "-c",
            "http.postBuffer=65536",
            "push",
            "--quiet",
            "origin",
            "HEAD:main",
        ],
    )
    .await?;
    assert_eq!(world.github.branch_sha(REPO, "main")?.as_ref(), Some(&sha));

    let other = world
        .clone(&world.url(&world.github.bot_token()), "other")
        .await?;
    for n in 0..60 {
        commit(&other, &format!("{n}.txt"), b"diverge\n").await?;
    }
    let newest = commit(&clone, "later.txt", b"later\n").await?;
    run(&clone, &["push", "--quiet", "origin", "HEAD:main"]).await?;
    for version in ["protocol.version=0", "protocol.version=2"] {
        run(&other, &["-c", version, "fetch", "--quiet", "origin"]).await?;
        assert_eq!(run(&other, &["rev-parse", "origin/main"]).await?, newest);
        run(&other, &["update-ref", "-d", "refs/remotes/origin/main"]).await?;
    }
    let fetched = std::fs::read(clone.join("noise.bin"))?;
    assert_eq!(fetched, noise);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_and_gates_reach_git_too() -> Result<()> {
    let world = World::new().await?;
    let url = world.url(&world.github.bot_token());
    world.github.fault(
        Matcher::containing("GET", "/info/refs"),
        Fault::Status(500),
        1,
    );
    let failed = error_of(world.clone(&url, "clone").await);
    assert!(failed.contains("500"), "{failed}");
    world.github.fault(
        Matcher::containing("POST", "/git-upload-pack"),
        Fault::Cut,
        1,
    );
    error_of(world.clone(&url, "clone").await);
    let clone = world.clone(&url, "clone").await?;

    let sha = commit(&clone, "new.txt", b"new\n").await?;
    let gate = world
        .github
        .hold_after(Matcher::containing("POST", "/git-receive-pack"));
    let folder = clone.clone();
    let mut pushes = JoinSet::new();
    pushes.spawn(async move {
        run(
            &folder,
            &["push", "--quiet", "origin", "HEAD:refs/heads/work"],
        )
        .await
    });
    tokio::time::timeout(LONG, gate.reached()).await?;
    assert_eq!(world.github.branch_sha(REPO, "work")?, Some(sha));
    assert!(
        pushes.try_join_next().is_none(),
        "the push has no answer yet"
    );
    gate.release();
    pushes.join_next().await.context("one push")???;
    assert_eq!(world.github.request_count("POST", "/git-receive-pack"), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_can_be_imported_with_its_history() -> Result<()> {
    let world = World::new().await?;
    let clone = world.clone(&world.github.clone_url(REPO), "clone").await?;
    run(&clone, &["checkout", "--quiet", "-b", "trunk"]).await?;
    let sha = commit(&clone, "new.txt", b"new\n").await?;
    world
        .github
        .import_repository("octo/copy", &clone.to_string_lossy())?;
    let copy = world.github.repository("octo/copy")?;
    assert_eq!(copy.default_branch, "trunk");
    assert_eq!(world.github.branch_sha("octo/copy", "trunk")?, Some(sha));
    assert_eq!(
        world.github.file("octo/copy", "trunk", "new.txt")?,
        Some(b"new\n".to_vec())
    );
    Ok(())
}
