//! A private PostgreSQL: started from nothing in a temporary folder, gone when it is dropped.
//!
//! `PATCHFLEET_TEST_POSTGRES` names a server to use instead; each [`Database`] is one of its own
//! either way. Absent: anything a product would use a database for.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

/// Where Debian puts each version's programs.
const DEBIAN: &str = "/usr/lib/postgresql";
/// A server that is there already.
const SERVER: &str = "PATCHFLEET_TEST_POSTGRES";
/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A database of one's own.
#[derive(Debug)]
pub struct Database {
    url: String,
    server: Option<Server>,
}

/// A running server.
#[derive(Debug)]
struct Server {
    child: Child,
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL is fine for a server whose data goes away with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Database {
    /// Starts a server, or uses the one that is there, and makes an empty database.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start; the message says what to do.
    pub async fn create() -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (root, server) = match std::env::var(SERVER) {
            Ok(url) => (url, None),
            Err(_) => Server::start()
                .await
                .map(|(url, server)| (url, Some(server)))?,
        };
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("patchfleet_{}_{count}", std::process::id());
        let mut connection = PgConnection::connect(&root)
            .await
            .context("can't reach PostgreSQL")?;
        connection
            .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await?;
        connection.close().await?;
        let mut url = url::Url::parse(&root).context("the server's address")?;
        url.set_path(&name);
        Ok(Self {
            url: url.into(),
            server,
        })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// True when the server is this database's own.
    pub const fn is_private(&self) -> bool {
        self.server.is_some()
    }
}

impl Server {
    async fn start() -> anyhow::Result<(String, Self)> {
        let programs = programs()?;
        let folder = tempfile::Builder::new()
            .prefix("patchfleet-postgres-")
            .tempdir()?;
        let data = folder.path().join("data");
        let user = drop_root(folder.path())?;
        init(&programs, &data, &user)?;
        let port = free_port()?;
        let child = run(&programs.join("postgres"), &user)
            .arg("-D")
            .arg(&data)
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "fsync=off",
                "-c",
                "max_connections=200",
            ])
            .arg("-c")
            .arg(format!("port={port}"))
            .arg("-c")
            .arg(format!(
                "unix_socket_directories={}",
                folder.path().display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log"))?)
            .spawn()
            .context("can't start postgres")?;
        let server = Self {
            child,
            _folder: folder,
        };
        let url = format!("postgres://patchfleet@127.0.0.1:{port}/postgres");
        answers(&url).await?;
        Ok((url, server))
    }
}

/// Makes the data folder.
fn init(programs: &Path, data: &Path, user: &[String]) -> anyhow::Result<()> {
    let output = run(&programs.join("initdb"), user)
        .arg("-D")
        .arg(data)
        .args([
            "-U",
            "patchfleet",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ])
        .output()
        .context("can't run initdb")?;
    if !output.status.success() {
        bail!(
            "initdb failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// A program, as the user that PostgreSQL accepts, ended when this process ends.
fn run(program: &Path, user: &[String]) -> Command {
    let mut words = user.iter().map(String::as_str).collect::<Vec<_>>();
    let path = program.display().to_string();
    words.push(&path);
    #[expect(
        clippy::disallowed_methods,
        reason = "the test kit's door to database servers"
    )]
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env_remove("PGDATA");
    command
}

/// The words before a program's name: PostgreSQL refuses to be root, so root becomes `nobody`.
fn drop_root(folder: &Path) -> anyhow::Result<Vec<String>> {
    let guard = ["setpriv", "--pdeathsig", "KILL"].map(str::to_owned);
    if !nix::unistd::geteuid().is_root() {
        return Ok(guard.to_vec());
    }
    let nobody = nix::unistd::User::from_name("nobody")?.context("there is no user `nobody`")?;
    nix::unistd::chown(folder, Some(nobody.uid), Some(nobody.gid))?;
    let user = [
        format!("--reuid={}", nobody.uid),
        format!("--regid={}", nobody.gid),
        "--clear-groups".to_owned(),
    ];
    // The signal is set last: changing the user clears it.
    Ok([["setpriv".to_owned()].as_slice(), &user, &guard].concat())
}

/// The folder of the newest installed version.
fn programs() -> anyhow::Result<PathBuf> {
    let mut versions: Vec<_> = std::fs::read_dir(DEBIAN)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| bin.join("initdb").is_file())
        .collect();
    versions.sort();
    versions.pop().with_context(|| {
        format!("PostgreSQL is not installed below {DEBIAN}: run `make setup`, or set {SERVER}")
    })
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

/// Waits until the server takes connections.
async fn answers(url: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        match PgConnection::connect(url).await {
            Ok(connection) => return Ok(connection.close().await?),
            Err(error) if started.elapsed() > PATIENCE => {
                return Err(error).context("PostgreSQL did not start");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
