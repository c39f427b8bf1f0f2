//! Queues that users would pick instead, with the same no-op work on the same servers, in the same
//! run. They come from npm and `PyPI` by the bench's own set-up and are no part of the product.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use patchfleet_testkit::postgres::Database;
use patchfleet_testkit::redis::Redis;
use serde_json::Value;
use tokio::process::Command;

use crate::figures::{ratio, value};
use crate::lifecycle;
use crate::program::command;

const JOBS: u64 = 20_000;
const PATIENCE: Duration = Duration::from_mins(5);

/// Where a peer keeps its jobs.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Postgres,
    Redis,
}

/// One peer.
struct Peer {
    name: &'static str,
    program: fn(&str) -> anyhow::Result<Command>,
    file: &'static str,
    kept: Kept,
    one_by_one: bool,
}

const PEERS: [Peer; 5] = [
    Peer {
        name: "graphile_worker_one_by_one",
        program: node,
        file: "graphile-worker.js",
        kept: Kept::Postgres,
        one_by_one: true,
    },
    Peer {
        name: "graphile_worker",
        program: node,
        file: "graphile-worker.js",
        kept: Kept::Postgres,
        one_by_one: false,
    },
    Peer {
        name: "pg_boss",
        program: node,
        file: "pg-boss.js",
        kept: Kept::Postgres,
        one_by_one: false,
    },
    Peer {
        name: "bullmq",
        program: node,
        file: "bullmq.js",
        kept: Kept::Redis,
        one_by_one: false,
    },
    Peer {
        name: "celery",
        program: python,
        file: "celery_peer.py",
        kept: Kept::Redis,
        one_by_one: false,
    },
];

/// Measures Patchfleet and each of them.
pub(crate) async fn measure() -> anyhow::Result<()> {
    let own = lifecycle::measure(100, JOBS).await?;
    for peer in &PEERS {
        let measured = run(peer).await.with_context(|| peer.name.to_owned())?;
        let rate = |field: &str| measured[field].as_f64().context("it tells its rates");
        let (enqueue, work) = (rate("enqueue_per_s")?, rate("per_s")?);
        let kept = match peer.kept {
            Kept::Postgres => "no-op jobs a second from PostgreSQL with fsync",
            Kept::Redis => "no-op jobs a second from a Redis that keeps nothing on disk",
        };
        value(
            &format!("{}_enqueue_per_s", peer.name),
            enqueue,
            "jobs a second, in batches",
        );
        value(&format!("{}_per_s", peer.name), work, kept);
        ratio(&format!("lifecycle_per_s over {}", peer.name), own, work);
    }
    Ok(())
}

async fn run(peer: &Peer) -> anyhow::Result<Value> {
    let mut command = (peer.program)(peer.file)?;
    command.env("JOBS", JOBS.to_string()).kill_on_drop(true);
    if peer.one_by_one {
        command.env("ONE_BY_ONE", "1");
    }
    // Ends after the peer.
    let (database, redis);
    match peer.kept {
        Kept::Postgres => {
            database = Database::durable().await?;
            command.env("DATABASE_URL", database.url());
        }
        Kept::Redis => {
            redis = Redis::start().await?;
            command.env("REDIS_URL", redis.url());
        }
    }
    let output = tokio::time::timeout(PATIENCE, command.output()).await??;
    let told = String::from_utf8_lossy(&output.stdout);
    let line = told.lines().rev().find(|line| line.starts_with('{'));
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_str(line.context("it told nothing")?)?)
}

/// A peer that is a program for Node.
pub(crate) fn node(file: &str) -> anyhow::Result<Command> {
    let folder = folder()?;
    let mut command = command("node");
    command.arg(folder.join(file)).current_dir(folder);
    Ok(command)
}

fn python(file: &str) -> anyhow::Result<Command> {
    let folder = folder()?;
    let mut command = command("python3");
    command
        .arg(folder.join(file))
        .env("PYTHONPATH", folder.join("python"))
        .current_dir(folder);
    Ok(command)
}

fn folder() -> anyhow::Result<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers");
    ensure!(
        folder.join("node_modules").is_dir() && folder.join("python").is_dir(),
        "the peers are not installed: run `make bench`, which does it"
    );
    Ok(folder)
}
