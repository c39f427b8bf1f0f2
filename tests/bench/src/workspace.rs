//! A large work tree: how long until it is there, is made known again, and is read.

mod ready;
mod start;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use patchfleet_agent::git::{Change, EntryKind, Git, ObjectId, Repository};
use tokio::process::Command;

use crate::figures::{distribution, ratio, value};

const FILES: usize = 50_000;
const FOLDERS: usize = 1000;
const RUNS: usize = 10;

/// One changed file in many: a snapshot beside `git add --all`, and the check-out after it.
pub(crate) async fn measure() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (dir, work) = (folder.path().join("store.git"), folder.path().join("work"));
    let store = Git::new().init_bare(&dir).await?.with_work_tree(&work);
    let tree = generated(&store, &dir, FILES).await?;
    let started = Instant::now();
    store.check_out(&tree).await?;
    let what = format!("a check-out of {FILES} files into an empty folder");
    value("check_out_ms", millis(started), &what);

    let (mut snapshots, mut check_outs) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        std::fs::write(work.join(path(run)), format!("changed {run}\n"))?;
        let started = Instant::now();
        let snapshot = store.snapshot().await?;
        snapshots.push(millis(started));
        ensure!(snapshot.tree != tree, "the change was not seen");
        let started = Instant::now();
        store.check_out(&tree).await?;
        check_outs.push(millis(started));
    }
    let theirs = by_command(&dir, &work, &tree).await?;
    let own = median(&snapshots);
    let what = format!("one changed file in {FILES}, without an overlay");
    distribution("snapshot_ms", snapshots, &what);
    distribution("check_out_again_ms", check_outs, &what);
    ratio("snapshot, git add and write-tree", median(&theirs), own);
    distribution("git_add_write_tree_ms", theirs, &what);
    let floor = (0..RUNS)
        .map(|_| lstat_all(&work))
        .collect::<Result<_, _>>();
    let what = format!("{FILES} lstat calls by one thread, the floor of a snapshot");
    distribution(
        "lstat_ms",
        floor.context("the work tree can't be read")?,
        &what,
    );

    commit(&dir, &tree).await?;
    ready::large(&dir).await?;
    let small = folder.path().join("small.git");
    let store = Git::new().init_bare(&small).await?;
    let tree = generated(&store, &small, 20).await?;
    commit(&small, &tree).await?;
    ready::hundred(&small).await?;
    start::measure().await
}

/// What any walk through a work tree costs that looks at each file.
fn lstat_all(folder: &Path) -> std::io::Result<f64> {
    fn look(folder: &Path) -> std::io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.metadata()?.is_dir() {
                look(&entry.path())?;
            }
        }
        Ok(())
    }
    let started = Instant::now();
    look(folder)?;
    Ok(millis(started))
}

/// Has the branch `main` of a repository with this tree, in one pack.
async fn commit(dir: &Path, tree: &ObjectId) -> anyhow::Result<()> {
    let who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"];
    let args = ["commit-tree", tree.as_str(), "-m", "generated"];
    let commit = git(Some(dir), &[&who[..], &args].concat()).await?;
    git(Some(dir), &["update-ref", "refs/heads/main", commit.trim()]).await?;
    git(Some(dir), &["repack", "-adq"]).await.map(drop)
}

fn path(file: usize) -> String {
    format!("folder{:03}/file{file:05}.txt", file % FOLDERS)
}

/// A tree of many files, on a commit's tree that is empty.
async fn generated(store: &Repository, dir: &Path, files: usize) -> anyhow::Result<ObjectId> {
    let empty = git(Some(dir), &["hash-object", "-w", "-t", "tree", "/dev/null"]).await?;
    let empty = empty.trim().parse::<ObjectId>()?;
    let change = |file: usize| Change {
        path: path(file),
        content: Some(format!("{file}\n").repeat(400).into_bytes()),
        kind: EntryKind::File,
    };
    let changes: Vec<_> = (0..files).map(change).collect();
    Ok(store.write_tree(&empty, &changes).await?)
}

/// The same by the command line, with an index that fits the work tree.
async fn by_command(dir: &Path, work: &Path, tree: &ObjectId) -> anyhow::Result<Vec<f64>> {
    let work_tree = format!("--work-tree={}", work.display());
    git(Some(dir), &[&work_tree, "read-tree", tree.as_str()]).await?;
    git(Some(dir), &[&work_tree, "add", "--all", "--", "."]).await?;
    let mut times = Vec::new();
    for run in 0..RUNS {
        std::fs::write(work.join(path(run)), format!("again {run}\n"))?;
        let started = Instant::now();
        git(Some(dir), &[&work_tree, "add", "--all", "--", "."]).await?;
        git(Some(dir), &[&work_tree, "write-tree"]).await?;
        times.push(millis(started));
    }
    Ok(times)
}

async fn git(dir: Option<&Path>, args: &[&str]) -> anyhow::Result<String> {
    #[expect(clippy::disallowed_methods, reason = "the benchmark's door to git")]
    let mut command = Command::new("git");
    command.args(dir.map(|dir| format!("--git-dir={}", dir.display())));
    command.args(args).current_dir("/");
    let output = command.output().await.context("can't run git")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {args:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
