//! An HTTP proxy as offices have them: tunnels (`CONNECT`), plain requests, a password.
//!
//! It finds hosts in a table of its own, so that a name that nobody else can resolve is reached
//! through it or not at all. Absent: proxies that look into TLS.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Longest head of a request.
const MAX_HEAD: usize = 16 * 1024;

/// A running proxy; dropping it stops it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    hosts: Mutex<HashMap<String, SocketAddr>>,
    /// What `Proxy-Authorization` has to be.
    credentials: Option<String>,
    seen: Mutex<Vec<String>>,
}

impl Proxy {
    /// A proxy for everybody.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start() -> Result<Self> {
        Self::launch(Shared::default()).await
    }

    /// A proxy for who knows a user and a password.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn with_password(user: &str, password: &str) -> Result<Self> {
        let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
        Self::launch(Shared {
            credentials: Some(format!("Basic {encoded}")),
            ..Shared::default()
        })
        .await
    }

    async fn launch(shared: Shared) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(shared);
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _serving: serving,
        })
    }

    /// Where it is, `HOST:PORT`.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has `HOST:PORT` be found at an address.
    pub fn knows(&self, host: &str, address: SocketAddr) {
        let mut hosts = lock(&self.shared.hosts);
        hosts.insert(host.to_owned(), address);
    }

    /// The methods and targets that it was asked for, in order.
    pub fn seen(&self) -> Vec<String> {
        lock(&self.shared.seen).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // Who breaks off is of no interest here.
            let _ = forward(stream, &shared).await;
        });
    }
}

async fn forward(mut client: TcpStream, shared: &Shared) -> Result<()> {
    let (head, rest) = read_head(&mut client).await?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target)) = (first.next(), first.next()) else {
        bail!("no request");
    };
    lock(&shared.seen).push(format!("{method} {target}"));
    let (for_us, headers): (Vec<_>, Vec<_>) =
        lines.partition(|line| name(line).starts_with("proxy-"));
    let shown = for_us
        .iter()
        .find(|line| name(line) == "proxy-authorization");
    let shown = shown.and_then(|line| Some(line.split_once(':')?.1.trim()));
    if shared.credentials.is_some() && shared.credentials.as_deref() != shown {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\
                       Proxy-Authenticate: Basic realm=\"office\"\r\nConnection: close\r\n\r\n";
        client.write_all(refusal.as_bytes()).await?;
        return Ok(());
    }
    let plain = target.strip_prefix("http://");
    let (host, path) = plain.map_or((target, ""), |rest| {
        rest.split_at(rest.find('/').unwrap_or(rest.len()))
    });
    let known = lock(&shared.hosts).get(host).copied();
    let Some(address) = known else {
        let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        client.write_all(refusal.as_bytes()).await?;
        return Ok(());
    };
    let mut server = TcpStream::connect(address).await?;
    if plain.is_some() {
        // One request for each connection, as the next one may be for another host.
        let kept = headers.into_iter();
        let kept = kept.filter(|line| name(line) != "connection");
        let headers = kept.collect::<Vec<_>>().join("\r\n");
        let head = format!("{method} {path} HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n");
        server.write_all(head.as_bytes()).await?;
    } else {
        client
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await?;
    }
    server.write_all(&rest).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// The head of a request, without the empty line at its end, and what came after it.
async fn read_head(client: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let rest = bytes.split_off(end + 4);
            bytes.truncate(end);
            let head = String::from_utf8(bytes).context("the head is no text")?;
            return Ok((head, rest));
        }
        if bytes.len() > MAX_HEAD || client.read_buf(&mut bytes).await? == 0 {
            bail!("no whole head");
        }
    }
}

fn name(line: &str) -> String {
    let name = line.split(':').next().unwrap_or_default();
    name.to_ascii_lowercase()
}
