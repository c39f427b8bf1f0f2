//! A network that answers as it is told to, a server on the loopback, and a client's side.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::task::AbortOnDropHandle;
use tokio_util::task::TaskTracker;

use crate::sandbox::egress::{
    AddressRules, AllowList, ConnectProxy, Entry, HostName, Limits, Network, Phase, Policy, Reason,
};

/// An address of the public internet, for names that lead to the rig's server.
pub(super) const PUBLIC: &str = "93.184.216.34";
/// What the server says once it has heard something.
pub(super) const GREETING: &[u8] = b"greetings";
/// How long anything may take before a test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was asked of the network.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) resolved: Mutex<Vec<String>>,
    pub(super) dialled: Mutex<Vec<SocketAddr>>,
    pub(super) received: Mutex<Vec<u8>>,
}

impl Seen {
    pub(super) fn resolved(&self) -> Vec<String> {
        self.resolved.lock().unwrap().clone()
    }

    pub(super) fn dialled(&self) -> Vec<SocketAddr> {
        self.dialled.lock().unwrap().clone()
    }

    pub(super) fn received(&self) -> Vec<u8> {
        self.received.lock().unwrap().clone()
    }
}

/// Names with their addresses; every address leads to the rig's server.
struct Names {
    addresses: BTreeMap<String, Vec<IpAddr>>,
    server: SocketAddr,
    seen: Arc<Seen>,
}

#[async_trait]
impl Network for Names {
    async fn resolve(&self, host: &HostName) -> io::Result<Vec<IpAddr>> {
        self.seen.resolved.lock().unwrap().push(host.to_string());
        let found = self.addresses.get(host.as_str()).cloned();
        found.ok_or_else(|| io::Error::other("no such name"))
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.seen.dialled.lock().unwrap().push(address);
        TcpStream::connect(self.server).await
    }
}

/// A proxy, its network and a server behind it.
pub(super) struct Rig {
    pub(super) proxy: ConnectProxy,
    pub(super) seen: Arc<Seen>,
    _server: AbortOnDropHandle<()>,
    _folder: tempfile::TempDir,
}

/// Bounds that a test can wait for.
pub(super) fn limits() -> Limits {
    Limits {
        tunnels: 4,
        ..Limits::default()
    }
}

impl Rig {
    /// A proxy that allows `allowed.test` and `*.below.test`, which have a public address.
    pub(super) async fn new(limits: Limits) -> Self {
        Self::with(
            limits,
            &[("allowed.test", PUBLIC), ("a.below.test", PUBLIC)],
        )
        .await
    }

    /// The same with these addresses, separated by spaces.
    pub(super) async fn with(limits: Limits, names: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let seen = Arc::new(Seen::default());
        let parse = |text: &str| text.split(' ').map(|it| it.parse().unwrap()).collect();
        let network = Names {
            addresses: names
                .iter()
                .map(|(name, it)| ((*name).to_owned(), parse(it)))
                .collect(),
            server: listener.local_addr().unwrap(),
            seen: Arc::clone(&seen),
        };
        let server = TaskTracker::new().spawn(serve(listener, Arc::clone(&seen)));
        let entries: Vec<Entry> = ["allowed.test", "*.below.test"]
            .map(|it| it.parse().unwrap())
            .into();
        let policy = Policy {
            phase: Phase::Setup,
            allow: AllowList::new(&entries),
            addresses: AddressRules::default(),
            limits,
        };
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("connect.sock");
        let proxy = ConnectProxy::bind(&socket, policy, Arc::new(network)).unwrap();
        Self {
            proxy,
            seen,
            _server: AbortOnDropHandle::new(server),
            _folder: folder,
        }
    }

    pub(super) async fn client(&self) -> Client {
        Client(UnixStream::connect(self.proxy.socket()).await.unwrap())
    }

    /// A tunnel to a host, which has to be given.
    pub(super) async fn tunnel(&self, host: &str) -> Client {
        let mut client = self.client().await;
        let head = client
            .ask(&format!("CONNECT {host}:443 HTTP/1.1\r\n\r\n"))
            .await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        client
    }

    /// What is answered to a request that is refused, whole.
    pub(super) async fn answer(&self, request: &str) -> String {
        let mut client = self.client().await;
        client.0.write_all(request.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&client.rest().await).into_owned()
    }

    /// The refusals up to now.
    pub(super) fn refused(&self) -> Vec<(String, Reason)> {
        let list = self.proxy.refusals().list();
        list.into_iter().map(|it| (it.host, it.reason)).collect()
    }
}

/// Keeps what it hears, and greets.
async fn serve(listener: TcpListener, seen: Arc<Seen>) {
    let tracker = TaskTracker::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let seen = Arc::clone(&seen);
        tracker.spawn(async move {
            let mut buffer = vec![0; 65_536];
            while let Ok(count) = stream.read(&mut buffer).await {
                if count == 0 {
                    break;
                }
                seen.received
                    .lock()
                    .unwrap()
                    .extend_from_slice(&buffer[..count]);
                if stream.write_all(GREETING).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// A program in the sandbox.
pub(super) struct Client(pub(super) UnixStream);

impl Client {
    /// Writes a request and reads the head of its answer.
    pub(super) async fn ask(&mut self, request: &str) -> String {
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = tokio::time::timeout(PATIENCE, self.0.read_u8())
                .await
                .unwrap();
            head.push(byte.unwrap_or_else(|error| panic!("{error} after {head:?}")));
        }
        String::from_utf8(head).unwrap()
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    pub(super) async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        tokio::time::timeout(PATIENCE, self.0.read_exact(&mut bytes))
            .await
            .unwrap()
            .unwrap();
        bytes
    }

    /// Everything until the connection ends.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // What was not read on the other side makes the end a reset.
        let _ = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut bytes))
            .await
            .unwrap();
        bytes
    }
}
