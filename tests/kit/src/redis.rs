//! A private Redis server, which tests may kill and start again empty.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rand::Rng as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::tls::Authority;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);
const PORT: u16 = 6379;
/// Files of its folder.
const CERTIFICATE: &str = "server.pem";
const KEY: &str = "server.key";

/// A server that ends with its handle. It keeps nothing on disk.
#[derive(Debug)]
pub struct Redis {
    process: Option<Child>,
    address: SocketAddr,
    folder: TempDir,
    speaks_tls: bool,
}

impl Redis {
    /// Starts `redis-server` on an address of the loopback that nobody else has.
    ///
    /// # Errors
    /// When the program is missing, or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::launch(None).await
    }

    /// The same, but it speaks TLS and nothing else, with a certificate for that host, or for its
    /// own address.
    ///
    /// # Errors
    /// When the program is missing, or does not start.
    pub async fn with_tls(authority: &Authority, host: Option<&str>) -> anyhow::Result<Self> {
        Self::launch(Some((authority, host))).await
    }

    async fn launch(tls: Option<(&Authority, Option<&str>)>) -> anyhow::Result<Self> {
        let [_, b, c, d] = rand::rng().random::<u32>().to_be_bytes();
        let address = SocketAddr::from(([127, b.max(1), c, d.clamp(2, 254)], PORT));
        let folder = tempfile::Builder::new()
            .prefix("patchfleet-redis-")
            .tempdir()?;
        if let Some((authority, host)) = tls {
            let own = address.ip().to_string();
            let identity = authority.issue(&[host.unwrap_or(&own)])?;
            std::fs::write(folder.path().join(CERTIFICATE), &identity.certificate)?;
            std::fs::write(folder.path().join(KEY), &identity.key)?;
        }
        let mut redis = Self {
            process: None,
            address,
            folder,
            speaks_tls: tls.is_some(),
        };
        redis.revive().await?;
        Ok(redis)
    }

    /// Where it is, `redis://HOST:PORT/0`.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// Where it is, `HOST:PORT`.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it (-9); connections break and what it knew is gone.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it again, empty.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn revive(&mut self) -> anyhow::Result<()> {
        self.kill();
        self.process = Some(self.spawn()?);
        let until = Instant::now() + PATIENCE;
        while !self.is_there().await {
            let process = self.process.as_mut().context("it was started")?;
            if let Some(status) = process.try_wait()? {
                bail!("redis-server ended at once: {status}");
            }
            if Instant::now() > until {
                bail!("redis-server does not answer within {PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn is_there(&self) -> bool {
        if self.speaks_tls {
            return TcpStream::connect(self.address).await.is_ok();
        }
        ask(self.address, "PING").await.is_ok()
    }

    #[allow(clippy::disallowed_methods, reason = "a server of the test kit's own")]
    fn spawn(&self) -> anyhow::Result<Child> {
        let folder = self.folder.path();
        let port = self.address.port().to_string();
        // It ends with this process, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "redis-server"])
            .args(["--bind", &self.address.ip().to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(folder);
        if self.speaks_tls {
            command
                .args([
                    "--port",
                    "0",
                    "--tls-port",
                    &port,
                    "--tls-auth-clients",
                    "no",
                ])
                .args(["--tls-cert-file", CERTIFICATE, "--tls-key-file", KEY])
                // Never used, as nobody shows a certificate, but it has to be there.
                .args(["--tls-ca-cert-file", CERTIFICATE]);
        } else {
            command.args(["--port", &port]);
        }
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("can't start redis-server; `make setup` installs it")
    }

    /// Has it do a command of plain words, and returns its answer's first bytes, in its protocol.
    ///
    /// # Errors
    /// When it is away.
    pub async fn ask(&self, command: &str) -> anyhow::Result<String> {
        ask(self.address, command).await
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn ask(address: SocketAddr, command: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .await?;
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await?;
    answer.truncate(read);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
