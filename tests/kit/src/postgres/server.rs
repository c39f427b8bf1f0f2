//! One running server in a temporary folder.
//!
//! It ends with its handle, also in a panic, and with the process. Its data goes away with it, so
//! a commit waits for the disk only where that is what is measured.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use super::data;
use super::programs::Programs;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many ports are tried: somebody may take a free one first.
const TRIES: u32 = 3;
/// What differs from a server's own settings.
const SETTINGS: [&str; 4] = [
    "listen_addresses=127.0.0.1",
    "max_connections=200",
    // Far from UTC by an odd number of minutes: nothing may depend on it.
    "timezone=Pacific/Chatham",
    // Shared memory is a file of the data folder, so that it can't outlive it.
    "dynamic_shared_memory_type=mmap",
];

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    /// The disk, as on a server that has to keep its data.
    Durable,
    /// Nothing.
    Fast,
}

impl Commit {
    const fn setting(self) -> &'static str {
        match self {
            Self::Durable => "fsync=on",
            Self::Fast => "fsync=off",
        }
    }
}

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    // Ends before its folder goes.
    process: Option<Process>,
    folder: TempDir,
    port: u16,
    commit: Commit,
}

#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // An immediate shutdown: the server removes its shared memory and ends its children, by
        // force after five seconds, so that the wait is bounded.
        if let Ok(id) = i32::try_from(self.0.id()) {
            let _ = kill(Pid::from_raw(id), Signal::SIGQUIT);
        }
        let _ = self.0.wait();
    }
}

impl Server {
    pub(super) async fn start(commit: Commit) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("patchfleet-postgres-")
            .tempdir()?;
        let programs = Programs::for_folder(folder.path())?;
        data::make(&programs, &folder.path().join("data"))?;
        let mut tried = 1;
        loop {
            let port = free_port()?;
            match launch(&programs, folder.path(), (port, commit)).await {
                Ok(process) => {
                    return Ok(Self {
                        process: Some(process),
                        folder,
                        port,
                        commit,
                    });
                }
                Err(error) if tried == TRIES => return Err(error),
                Err(_) => tried += 1,
            }
        }
    }

    /// Ends the server at once, whatever it is doing, and starts it again at the same address.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        self.process = None;
        let programs = Programs::for_folder(self.folder.path())?;
        let place = (self.port, self.commit);
        self.process = Some(launch(&programs, self.folder.path(), place).await?);
        Ok(())
    }

    /// Its first database, as its superuser.
    pub(super) fn url(&self) -> String {
        url(self.port)
    }
}

fn url(port: u16) -> String {
    format!("postgres://{}@127.0.0.1:{port}/postgres", data::SUPERUSER)
}

async fn launch(
    programs: &Programs,
    folder: &Path,
    (port, commit): (u16, Commit),
) -> anyhow::Result<Process> {
    let log = folder.join("log");
    let mut command = programs.command("postgres");
    command.arg("-D").arg(folder.join("data"));
    for setting in SETTINGS.into_iter().chain([commit.setting()]) {
        command.args(["-c", setting]);
    }
    let child = command
        .args(["-c", &format!("port={port}"), "-c"])
        .arg(format!("unix_socket_directories={}", folder.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log)?)
        .spawn()
        .context("can't start postgres")?;
    let mut process = Process(child);
    answers(&mut process.0, &url(port), &log).await?;
    Ok(process)
}

/// Waits until the server takes connections, or has ended.
async fn answers(child: &mut Child, url: &str, log: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            bail!("PostgreSQL ended at once, {status}: {}", log.trim());
        }
        match PgConnection::connect(url).await {
            Ok(connection) => return Ok(connection.close().await?),
            Err(error) if started.elapsed() > PATIENCE => {
                return Err(error).context("PostgreSQL did not start");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}
