//! The network of the setup phase, with usual clients inside and a TLS server outside.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;

use async_trait::async_trait;
use patchfleet_testkit::tls::{Authority, Terminator};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::*;
use crate::sandbox::egress::{
    self, AddressRules, AllowList, ConnectProxy, Entry, HostName, Network, Policy, Reason,
};

/// What the server answers.
const ANSWER: &str = "a package";

/// Names with their addresses, all of which lead to one server.
struct Names {
    addresses: BTreeMap<&'static str, IpAddr>,
    server: SocketAddr,
    resolved: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Network for Names {
    async fn resolve(&self, host: &HostName) -> io::Result<Vec<IpAddr>> {
        self.resolved.lock().unwrap().push(host.to_string());
        let found = self.addresses.get(host.as_str());
        found
            .map(|address| vec![*address])
            .ok_or_else(|| io::Error::other("no such name"))
    }

    async fn connect(&self, _: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(self.server).await
    }
}

/// A sandbox, and a registry that it may reach.
struct Rig {
    sandbox: Sandbox,
    place: Place,
    proxy: ConnectProxy,
    resolved: Arc<Mutex<Vec<String>>>,
    _terminator: Terminator,
    _server: AbortOnDropHandle<()>,
}

impl Rig {
    /// One whose registry is in a private network that the operator opened; nothing on a host
    /// that can't isolate.
    async fn new() -> Option<Self> {
        let sandbox = isolating(SandboxConfig::default()).await?;
        let place = Place::new();
        let authority = Authority::new().unwrap();
        let identity = authority.issue(&["registry.test", "other.test"]).unwrap();
        std::fs::write(place.tree().join("ca.pem"), authority.pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let server = TaskTracker::new().spawn(serve(listener));
        let terminator = Terminator::start(&identity, target).await.unwrap();
        let resolved = Arc::default();
        let network = Names {
            addresses: BTreeMap::from([
                ("registry.test", [10, 20, 0, 7].into()),
                ("closed.test", [10, 30, 0, 7].into()),
            ]),
            server: terminator.address(),
            resolved: Arc::clone(&resolved),
        };
        let allow: Vec<Entry> = ["registry.test", "closed.test"]
            .map(|host| host.parse().unwrap())
            .into();
        let policy = Policy {
            phase: egress::Phase::Setup,
            allow: AllowList::new(&allow),
            addresses: AddressRules::opening(["10.20.0.0/16".parse().unwrap()]).unwrap(),
            limits: egress::Limits::default(),
        };
        let socket = place.0.path().join("proxy.sock");
        let proxy = ConnectProxy::bind(&socket, policy, Arc::new(network)).unwrap();
        Some(Self {
            sandbox,
            place,
            proxy,
            resolved,
            _terminator: terminator,
            _server: AbortOnDropHandle::new(server),
        })
    }

    /// Runs a command in the setup phase; how it ended and all that it said.
    async fn run(&self, command: &[&str]) -> (bool, String) {
        let command: Vec<_> = command.iter().map(|&word| word.to_owned()).collect();
        let (tree, private) = (self.place.tree(), self.place.private());
        let run = Run {
            reach: Reach::Allowed(self.proxy.socket()),
            ..Run::new(&command, &tree, &private)
        };
        let cancel = CancellationToken::new();
        let ran = self.sandbox.run_trusted(run, &cancel).await;
        let finished = ran.unwrap().finished;
        let said = format!("{}{}", finished.stdout_text(), finished.stderr_text());
        (finished.succeeded(), said)
    }

    /// Runs a program text of Python, with `fetch` at hand.
    async fn python(&self, program: &str) -> (bool, String) {
        let program = format!(
            "import os, socket, ssl, urllib.request\n\
             context = ssl.create_default_context(cafile='/workspace/ca.pem')\n\
             def fetch(url):\n    \
                 return urllib.request.urlopen(url, context=context).read().decode()\n\
             {program}"
        );
        self.run(&["python3", "-c", &program]).await
    }

    fn refused(&self) -> Vec<(String, Reason, u64)> {
        let list = self.proxy.refusals().list().into_iter();
        list.map(|it| (it.host, it.reason, it.times)).collect()
    }

    fn resolved(&self) -> Vec<String> {
        self.resolved.lock().unwrap().clone()
    }
}

/// Answers every request the same.
async fn serve(listener: TcpListener) {
    let tracker = TaskTracker::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        tracker.spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            let length = ANSWER.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{ANSWER}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }
}

#[tokio::test]
async fn a_client_inside_reaches_an_allowed_host_by_the_proxy_and_no_other_host() {
    let Some(rig) = Rig::new().await else { return };
    let fetched = rig.python("print(fetch('https://registry.test/'))").await;
    assert_eq!(fetched, (true, format!("{ANSWER}\n")));
    assert_eq!(rig.resolved(), ["registry.test"]);

    let (succeeded, said) = rig.python("fetch('https://evil.test/')").await;
    assert!(!succeeded && said.contains("403"), "{said}");
    // A name in an opened list, and an address in a network that nobody opened.
    let (succeeded, said) = rig.python("fetch('https://closed.test/')").await;
    assert!(!succeeded && said.contains("403"), "{said}");
    let refused = [
        ("closed.test".to_owned(), Reason::AddressNotPublic, 1),
        ("evil.test".to_owned(), Reason::HostNotAllowed, 1),
    ];
    assert_eq!(rig.refused(), refused);
    assert_eq!(rig.resolved(), ["registry.test", "closed.test"]);
}

#[tokio::test]
async fn a_client_that_goes_around_the_proxy_reaches_nobody() {
    let Some(rig) = Rig::new().await else { return };
    for (name, direct) in [
        ("a name", "socket.getaddrinfo('registry.test', 443)"),
        (
            "an address",
            "socket.create_connection(('10.20.0.7', 443), 5)",
        ),
        (
            "without variables",
            "os.environ.clear(); urllib.request.urlopen('https://registry.test/')",
        ),
    ] {
        let (succeeded, said) = rig.python(direct).await;
        assert!(!succeeded && said.contains("rror"), "{name}: {said}");
    }
    assert_eq!(rig.resolved(), Vec::<String>::new());
    assert_eq!(rig.refused(), []);
}

#[tokio::test]
async fn a_tunnel_to_an_allowed_host_that_asks_for_another_one_is_refused() {
    let Some(rig) = Rig::new().await else { return };
    let other = "raw = socket.create_connection(('127.0.0.1', 3128))\n\
                 raw.sendall(b'CONNECT registry.test:443 HTTP/1.1\\r\\n\\r\\n')\n\
                 assert b' 200 ' in raw.recv(4096)\n\
                 context.wrap_socket(raw, server_hostname='other.test')";
    let (succeeded, said) = rig.python(other).await;
    assert!(!succeeded && said.contains("ACCESS_DENIED"), "{said}");
    let refused = ("other.test".to_owned(), Reason::ServerNameMismatch, 1);
    assert_eq!(rig.refused(), [refused]);
}

#[tokio::test]
async fn curl_finds_the_proxy_and_reaches_nobody_without_it() {
    let Some(rig) = Rig::new().await else { return };
    if find_program("curl").is_none() {
        println!("can't run here: there is no curl");
        return;
    }
    let curl = ["curl", "-sS", "--max-time", "20", "--cacert", "ca.pem"];
    let fetch = |more: &'static [&'static str]| [&curl[..], more].concat();
    let fetched = rig.run(&fetch(&["https://registry.test/"])).await;
    assert_eq!(fetched, (true, ANSWER.to_owned()));
    let around = fetch(&["--noproxy", "*", "https://registry.test/"]);
    let (succeeded, said) = rig.run(&around).await;
    assert!(!succeeded && said.contains("resolve"), "{said}");
    let (succeeded, said) = rig.run(&fetch(&["https://evil.test/"])).await;
    assert!(!succeeded && said.contains("403"), "{said}");
    let refused = ("evil.test".to_owned(), Reason::HostNotAllowed, 1);
    assert_eq!(rig.refused(), [refused]);
}

#[tokio::test]
async fn the_way_to_the_proxy_is_no_child_of_the_command_and_ends_with_it() {
    let Some(rig) = Rig::new().await else { return };
    let waits = "try:\n    os.wait()\nexcept ChildProcessError:\n    print('no child')";
    assert_eq!(rig.python(waits).await, (true, "no child\n".to_owned()));
    let ran = rig.run(&["sh", "-c", "exit 3"]).await;
    assert_eq!(ran, (false, String::new()));
}

#[tokio::test]
async fn nothing_is_run_through_a_proxy_that_could_be_gone_around() {
    let place = Place::new();
    let command = ["true".to_owned()];
    let (tree, private) = (place.tree(), place.private());
    let run = Run {
        reach: Reach::Allowed(Path::new("/nonexistent/proxy.sock")),
        ..Run::new(&command, &tree, &private)
    };
    let sandbox = Sandbox::default();
    let error = sandbox.run_trusted(run, &CancellationToken::new()).await;
    let refused = matches!(error, Err(SandboxError::NotIsolated));
    assert!(refused, "{error:?}");
}
