use patchfleet_domain::outcome::Outcome;
use patchfleet_flow::Checkpoint;

use crate::nodes::tests::{FIX, REPOSITORY, Rig};
use crate::nodes::{failure, outcome};
use patchfleet_domain::{FailureKind, FollowUp};

const BRANCH: &str = "patchfleet/1-x";

/// A rig whose flow stands right before `publish`, and what led there.
async fn before_publish() -> (Rig, Vec<Checkpoint>) {
    let rig = Rig::answering(REPOSITORY, &[FIX]).await;
    rig.run().await.unwrap();
    let mut checkpoints = rig.notes.checkpoints.lock().unwrap().clone();
    checkpoints.truncate(6);
    rig.desk.drafts.lock().unwrap().clear();
    rig.bench.origin.ask(&["branch", "-D", BRANCH]).await;
    (rig, checkpoints)
}

async fn publish(
    rig: &Rig,
    checkpoints: &[Checkpoint],
    attempt: u32,
) -> Result<Outcome, super::Failure> {
    let deps = rig.deps(rig.workspace(attempt).await).await.unwrap();
    match rig.run_with(deps, checkpoints.to_vec()).await {
        Ok(report) => outcome(&report.ctx),
        Err(error) => Err(failure(&error).unwrap()),
    }
}

#[tokio::test]
async fn publishing_twice_pushes_once() {
    let (rig, checkpoints) = before_publish().await;
    publish(&rig, &checkpoints, 1).await.unwrap();
    let first = rig.bench.origin.ask(&["rev-parse", BRANCH]).await;
    publish(&rig, &checkpoints, 2).await.unwrap();
    assert_eq!(rig.bench.origin.ask(&["rev-parse", BRANCH]).await, first);
    assert_eq!(rig.desk.drafts.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn an_older_push_of_patchfleet_is_replaced() {
    let (rig, checkpoints) = before_publish().await;
    publish(&rig, &checkpoints, 1).await.unwrap();
    // The base moves on, so that the next attempt's commit differs.
    let base = rig.bench.origin.advance(&[("README.md", "# Calc\n")]).await;
    publish(&rig, &checkpoints, 2).await.unwrap();
    assert_eq!(
        rig.bench
            .origin
            .ask(&["rev-parse", &format!("{BRANCH}^")])
            .await,
        base.as_str()
    );
    let message = rig
        .bench
        .origin
        .ask(&["log", "-1", "--format=%B", BRANCH])
        .await;
    assert!(message.ends_with("Patchfleet-Attempt: 2"), "{message}");
}

#[tokio::test]
async fn comments_that_came_after_the_draft_are_named_to_those_who_merge() {
    let script = "sed -i 's/- b/+ b/' calc.py";
    let rig = Rig::commanding(REPOSITORY, script).await;
    let comment = |number, author: &str| FollowUp {
        comment: number,
        author: author.to_owned(),
        text: "And round it.".to_owned(),
    };
    let run = async |comments: &[FollowUp], checkpoints| {
        let deps = rig.deps(rig.workspace(1).await).await.unwrap();
        for comment in comments {
            deps.follow_ups.add(comment.clone());
        }
        rig.run_with(deps, checkpoints).await.unwrap();
        let draft = rig.desk.drafts.lock().unwrap().pop().unwrap();
        draft.body
    };
    let (read, late) = (comment(7, "mona"), comment(8, "hubot"));
    let body = run(std::slice::from_ref(&read), Vec::new()).await;
    assert!(!body.contains("after it was drafted"), "{body}");
    let mut checkpoints = rig.notes.checkpoints.lock().unwrap().clone();
    checkpoints.truncate(6);
    let body = run(&[read, late], checkpoints).await;
    let said = "added to the request after it was drafted, by `hubot` (comment 8)";
    assert!(body.contains(said), "{body}");
    assert!(!body.contains("comment 7"), "{body}");
}

/// Renamed before the first look at the repository, and between the tests and the push.
#[tokio::test]
async fn a_default_branch_with_another_name_is_asked_for_anew() {
    let renamed = ["branch", "-m", "main", "trunk"];
    let (rig, checkpoints) = before_publish().await;
    rig.bench.origin.ask(&renamed).await;
    publish(&rig, &checkpoints, 2).await.unwrap();
    let bases = |rig: &Rig| -> Vec<_> {
        let drafts = rig.desk.drafts.lock().unwrap();
        drafts.iter().map(|draft| draft.base.clone()).collect()
    };
    assert_eq!(bases(&rig), ["trunk"]);

    let rig = Rig::answering(REPOSITORY, &[FIX]).await;
    rig.bench.origin.ask(&renamed).await;
    rig.run().await.unwrap();
    assert_eq!(bases(&rig), ["trunk"]);
}

#[tokio::test]
async fn a_moved_base_means_rebase_and_another_test() {
    let (rig, checkpoints) = before_publish().await;
    let base = rig.bench.origin.advance(&[("README.md", "# Calc\n")]).await;
    let published = publish(&rig, &checkpoints, 2).await.unwrap();
    let origin = &rig.bench.origin;
    assert_eq!(
        origin.ask(&["rev-parse", &format!("{BRANCH}^")]).await,
        base.as_str()
    );
    assert_eq!(
        origin.ask(&["show", &format!("{BRANCH}:README.md")]).await,
        "# Calc"
    );
    let Outcome::PullRequest { tests_after, .. } = published else {
        panic!("no pull request");
    };
    let tree = origin
        .ask(&["rev-parse", &format!("{BRANCH}^{{tree}}")])
        .await;
    assert_eq!(tests_after.unwrap().tree, tree);
}

/// Runs the tests, and after those that are green moves the base branch.
fn tests_that_move_the_base(rig: &Rig) -> Vec<String> {
    let work = rig.bench.origin.dir().parent().unwrap().join("work");
    let script = format!(
        "python3 -m unittest -v || exit 1\ncd {}\nexport GIT_CONFIG_GLOBAL=/dev/null\n\
         git rev-list --count HEAD > moved.txt && git add -A\n\
         git -c user.name=Mona -c user.email=mona@example.com commit -q -m more\n\
         git push -q origin main",
        work.display()
    );
    ["sh", "-c", &script].map(str::to_owned).into()
}

#[tokio::test]
async fn a_base_that_never_stands_still_is_followed_twice_and_then_told_of() {
    let rig = Rig::answering(REPOSITORY, &[FIX]).await;
    let mut deps = rig.deps(rig.workspace(1).await).await.unwrap();
    deps.tests.command = Some(tests_that_move_the_base(&rig));
    let report = rig.run_with(deps, Vec::new()).await.unwrap();
    let origin = &rig.bench.origin;
    // After the change and after each of two rebases the tests were green and moved the base.
    assert_eq!(origin.ask(&["rev-list", "--count", "main"]).await, "4");
    let tested = origin.ask(&["rev-parse", "main^"]).await;
    let newest = origin.ask(&["rev-parse", "main"]).await;
    assert_eq!(
        origin.ask(&["rev-parse", &format!("{BRANCH}^")]).await,
        tested
    );
    let body = rig.desk.drafts.lock().unwrap()[0].body.clone();
    let said = format!("it was tested on `{tested}`, not on `{newest}`");
    assert!(body.contains(&said), "{body}");
    let Ok(Outcome::PullRequest { summary, .. }) = outcome(&report.ctx) else {
        panic!("no pull request");
    };
    assert!(summary.contains(&said), "{summary}");
}

async fn base_moved(files: &[(&str, &str)], said: &str) {
    let (rig, checkpoints) = before_publish().await;
    rig.bench.origin.advance(files).await;
    let failure = publish(&rig, &checkpoints, 2).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::BaseMoved);
    assert!(failure.retryable && failure.discard_checkpoints);
    assert!(failure.message.contains(said), "{failure:?}");
    assert_eq!(
        rig.bench
            .origin
            .ask(&["branch", "--list", "patchfleet/*"])
            .await,
        ""
    );
    assert!(rig.desk.drafts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_base_that_conflicts_is_base_moved() {
    let calc = "def add(a, b):\n    return b - a\n";
    base_moved(&[("calc.py", calc)], "conflict in calc.py").await;
}

#[tokio::test]
async fn a_base_on_which_the_tests_fail_is_base_moved() {
    let red = "import unittest\n\n\nclass RedTest(unittest.TestCase):\n    \
               def test_red(self):\n        self.fail('red')\n";
    base_moved(&[("test_red.py", red)], "the tests fail on the new base").await;
}

#[tokio::test]
async fn a_base_that_has_the_change_is_base_moved() {
    let calc = "def add(a, b):\n    return a + b\n";
    base_moved(&[("calc.py", calc)], "already has the change").await;
}

#[tokio::test]
async fn commits_of_others_on_the_branch_are_left_alone() {
    let (rig, checkpoints) = before_publish().await;
    publish(&rig, &checkpoints, 1).await.unwrap();
    let origin = &rig.bench.origin;
    origin.git(&["fetch", "-q", "origin"]).await;
    origin
        .git(&[
            "checkout",
            "-q",
            "-b",
            "theirs",
            &format!("origin/{BRANCH}"),
        ])
        .await;
    origin
        .git(&["commit", "-q", "--allow-empty", "-m", "my own touch"])
        .await;
    origin
        .git(&["push", "-q", "origin", &format!("HEAD:{BRANCH}")])
        .await;
    let theirs = origin.ask(&["rev-parse", BRANCH]).await;
    let failure = publish(&rig, &checkpoints, 2).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::PushRefused);
    assert!(failure.message.contains(&theirs), "{failure:?}");
    assert_eq!(origin.ask(&["rev-parse", BRANCH]).await, theirs);
}

/// Merges the base into the branch as GitHub's button "Update branch" does, with more in the merge when
/// something is named.
async fn update_branch(rig: &Rig, more: Option<&str>) {
    let origin = &rig.bench.origin;
    origin.advance(&[("README.md", "# Calc, moved on\n")]).await;
    origin.git(&["fetch", "-q", "origin"]).await;
    let branch = format!("origin/{BRANCH}");
    origin
        .git(&["checkout", "-q", "-B", "updated", &branch])
        .await;
    origin
        .git(&["merge", "-q", "--no-ff", "--no-commit", "main"])
        .await;
    if let Some(name) = more {
        std::fs::write(origin.work().join(name), "by hand\n").unwrap();
        origin.git(&["add", name]).await;
    }
    origin
        .git(&["commit", "-q", "-m", "Merge branch 'main'"])
        .await;
    let to = format!("HEAD:{BRANCH}");
    origin.git(&["push", "-q", "origin", &to]).await;
    origin.git(&["checkout", "-q", "main"]).await;
}

#[tokio::test]
async fn a_merge_of_the_base_alone_is_nobodys_work() {
    let (rig, checkpoints) = before_publish().await;
    publish(&rig, &checkpoints, 1).await.unwrap();
    update_branch(&rig, None).await;
    // Once more, over a base that moved on since.
    update_branch(&rig, None).await;
    publish(&rig, &checkpoints, 2).await.unwrap();
    let subject = ["log", "-1", "--format=%P %s", BRANCH];
    let subject = rig.bench.origin.ask(&subject).await;
    assert!(!subject.contains("Merge"), "{subject}");
}

/// GitHub's "Update with rebase" writes our commits anew, as whoever presses the button.
#[tokio::test]
async fn a_branch_that_was_rebased_or_reset_to_the_base_is_nobodys_work() {
    let (rig, checkpoints) = before_publish().await;
    publish(&rig, &checkpoints, 1).await.unwrap();
    let origin = &rig.bench.origin;
    let to = format!("+HEAD:{BRANCH}");
    for (attempt, rebase) in [(2, true), (3, false)] {
        let text = format!("# Calc, moved on {attempt} times\n");
        origin.advance(&[("README.md", &text)]).await;
        origin.git(&["fetch", "-q", "origin"]).await;
        let begin = if rebase {
            format!("origin/{BRANCH}")
        } else {
            "main".to_owned()
        };
        origin
            .git(&["checkout", "-q", "-B", "updated", &begin])
            .await;
        if rebase {
            origin.git(&["rebase", "-q", "main"]).await;
        }
        origin.git(&["push", "-q", "origin", &to]).await;
        origin.git(&["checkout", "-q", "main"]).await;
        publish(&rig, &checkpoints, attempt).await.unwrap();
        let message = ["log", "-1", "--format=%B", BRANCH];
        let message = origin.ask(&message).await;
        assert!(message.contains("Patchfleet-Task"), "{message}");
    }
}

/// A commit of a person's below a merge of the base is that person's.
#[tokio::test]
async fn a_merge_over_a_commit_of_others_hides_nothing() {
    let (rig, checkpoints) = before_publish().await;
    publish(&rig, &checkpoints, 1).await.unwrap();
    let origin = &rig.bench.origin;
    origin.git(&["fetch", "-q", "origin"]).await;
    let branch = format!("origin/{BRANCH}");
    origin
        .git(&["checkout", "-q", "-B", "theirs", &branch])
        .await;
    origin
        .git(&["commit", "-q", "--allow-empty", "-m", "my own touch"])
        .await;
    let to = format!("HEAD:{BRANCH}");
    origin.git(&["push", "-q", "origin", &to]).await;
    origin.git(&["checkout", "-q", "main"]).await;
    update_branch(&rig, None).await;
    let failure = publish(&rig, &checkpoints, 2).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::PushRefused, "{failure:?}");
}

#[tokio::test]
async fn a_merge_with_more_in_it_is_somebodys_work() {
    let (rig, checkpoints) = before_publish().await;
    publish(&rig, &checkpoints, 1).await.unwrap();
    update_branch(&rig, Some("notes.txt")).await;
    let failure = publish(&rig, &checkpoints, 2).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::PushRefused);
    assert!(failure.message.contains("delete the branch"), "{failure:?}");
}

#[tokio::test]
async fn a_refused_push_is_a_typed_failure_and_keeps_the_checkpoints() {
    let (rig, checkpoints) = before_publish().await;
    let hook = rig.bench.origin.dir().join("hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho protected >&2\nexit 1\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&hook, mode).unwrap();
    let failure = publish(&rig, &checkpoints, 2).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::PushRefused);
    assert!(!failure.retryable && !failure.discard_checkpoints);
    assert!(rig.desk.drafts.lock().unwrap().is_empty());
}

/// A test suite that is green, and that writes wherever git's settings may stand: its clone, the
/// agent's own object store and the mirror, which it finds through its clone's alternates.
const EVIL: &str = r#"import os, pathlib, unittest

PROGRAM = "touch PWNED"
SETTINGS = f"""[core]
	bare = true
	repositoryformatversion = 0
	sshCommand = {PROGRAM}
	alternateRefsCommand = {PROGRAM}
[protocol "ext"]
	allow = always
[url "ext::{PROGRAM} #"]
	insteadOf = file:
[filter "x"]
	clean = {PROGRAM}
	smudge = {PROGRAM}
[diff "x"]
	command = {PROGRAM}
[merge "x"]
	driver = {PROGRAM}
"""


class Evil(unittest.TestCase):
    def test_add(self):
        from calc import add
        here = pathlib.Path.cwd()
        store = here.parent / 'implementation/objects.git'
        mirror = pathlib.Path((store / 'objects/info/alternates').read_text().strip()).parent
        for folder in [here / '.git', store, mirror, here / 'sub/.git']:
            os.makedirs(folder / 'hooks', exist_ok=True)
            os.makedirs(folder / 'info', exist_ok=True)
            (folder / 'config').write_text(SETTINGS)
            (folder / 'info/attributes').write_text('* filter=x diff=x merge=x\n')
            for hook in ['pre-push', 'post-checkout', 'reference-transaction', 'post-index-change']:
                (folder / 'hooks' / hook).write_text('#!/bin/sh\n' + PROGRAM)
                (folder / 'hooks' / hook).chmod(0o755)
            os.makedirs(folder / 'refs/replace', exist_ok=True)
        pathlib.Path('calc.py').write_text('evil')
        pathlib.Path('.gitattributes').write_text('* filter=x diff=x merge=x\n')
        pathlib.Path('left-behind').write_text('evil')
        self.assertEqual(add(1, 2), 3)
"#;

#[tokio::test]
async fn what_a_test_does_to_its_clone_the_store_or_the_mirror_never_reaches_the_commit() {
    let pwned = tempfile::tempdir().unwrap();
    let pwned = pwned.path().join("pwned");
    let evil = EVIL.replace("PWNED", pwned.to_str().unwrap());
    let rig = Rig::answering(&[REPOSITORY[0], ("test_evil.py", &evil)], &[FIX]).await;
    rig.run().await.unwrap();
    let origin = &rig.bench.origin;
    let files = origin.ask(&["ls-tree", "--name-only", BRANCH]).await;
    assert_eq!(files, "calc.py\ntest_evil.py");
    let calc = origin.ask(&["show", &format!("{BRANCH}:calc.py")]).await;
    assert_eq!(calc, "def add(a, b):\n    return a + b");
    // The next task uses the same mirror, and its base has moved.
    origin.advance(&[("README.md", "# Calc\n")]).await;
    let next = rig.bench.checkout(patchfleet_domain::TaskId::new(), 1);
    let next = rig.bench.prepare(&next).await.unwrap();
    assert!(next.layout.repo_clone().join("README.md").exists());
    assert!(!pwned.exists(), "git ran a program that a test named");
}
