//! Setup phases whose results are used again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::*;
use crate::sandbox::Sandbox;
use crate::sandbox::egress::{HostName, Network};
use crate::sandbox::tests::isolating;
use crate::setup::{Setup, SetupConfig, SetupReport};

/// A registry that counts who comes.
struct Registry {
    network: Arc<Counting>,
    _server: AbortOnDropHandle<()>,
}

struct Counting {
    server: SocketAddr,
    connections: AtomicUsize,
}

#[async_trait]
impl Network for Counting {
    async fn resolve(&self, _: &HostName) -> io::Result<Vec<IpAddr>> {
        Ok(vec![[10, 20, 0, 7].into()])
    }

    async fn connect(&self, _: SocketAddr) -> io::Result<TcpStream> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        TcpStream::connect(self.server).await
    }
}

impl Registry {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let connections = AtomicUsize::default();
        Self {
            network: Arc::new(Counting {
                server,
                connections,
            }),
            _server: AbortOnDropHandle::new(TaskTracker::new().spawn(serve(listener))),
        }
    }

    fn connections(&self) -> usize {
        self.network.connections.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else {
                break;
            };
            head.push(byte);
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nthree = 3";
        let _ = stream.write_all(answer).await;
    }
}

/// A repository that fetches a package.
const FETCHES: &[(&str, &str)] = &[
    REPOSITORY[0],
    (
        "test_calc.py",
        "import unittest\nfrom calc import add\nfrom vendor.three import three\n\n\n\
         class CalcTest(unittest.TestCase):\n    def test_add(self):\n        \
         self.assertEqual(add(1, 2), three)\n",
    ),
    (
        "fetch.py",
        "import os, urllib.request\nos.makedirs('vendor')\n\
         open('vendor/three.py', 'wb').write(urllib.request.urlopen('http://registry.test/').read())\n\
         try:\n    open('refused') and urllib.request.urlopen('http://other.test/')\n\
         except OSError:\n    pass\n",
    ),
    ("deps.lock", "1\n"),
    (".patchfleet.yaml", "setup: [python3 fetch.py]\n"),
];

struct Host {
    rig: Rig,
    registry: Registry,
    sandbox: Sandbox,
    operator: SetupConfig,
}

impl Host {
    async fn with(files: &[(&str, &str)]) -> Option<Self> {
        let sandbox = isolating(crate::sandbox::SandboxConfig::default()).await?;
        Some(Self {
            rig: Rig::answering(files, &[FIX]).await,
            registry: Registry::start().await,
            sandbox,
            operator: SetupConfig {
                open: vec!["10.20.0.0/16".parse().unwrap()],
                ..SetupConfig::default()
            },
        })
    }

    /// The next task, before anything is installed for it.
    async fn task(&mut self) -> NodeDeps {
        self.rig.task = patchfleet_domain::TaskId::new();
        let mut deps = self.rig.deps(self.rig.workspace(1).await).await.unwrap();
        deps.config.network = Some(vec!["registry.test".parse().unwrap()]);
        deps.tests.sandbox = self.sandbox.clone();
        deps
    }

    async fn install(&self, deps: &mut NodeDeps) -> SetupReport {
        let setup = Setup {
            sandbox: &self.sandbox,
            operator: &self.operator,
            name: &deps.task.repository,
            repository: &deps.config,
            cache: self.rig.bench.workspaces.setups(),
            workspace: &deps.workspace,
            log: &self.rig.log,
            network: self.registry.network.clone(),
            cancel: &CancellationToken::new(),
        };
        let (dependencies, report) = setup.run().await.unwrap();
        deps.workspace.dependencies = dependencies;
        report
    }

    /// Installs for a new task; whether it came from the cache, and how often anybody went to the
    /// registry so far.
    async fn next(&mut self) -> (bool, usize) {
        let mut deps = self.task().await;
        let report = self.install(&mut deps).await;
        (report.cached_at.is_some(), self.registry.connections())
    }
}

#[tokio::test]
async fn what_one_task_installed_later_ones_find_until_something_that_decides_it_changes() {
    let Some(mut host) = Host::with(FETCHES).await else {
        return;
    };
    assert_eq!(host.next().await, (false, 1));
    let mut deps = host.task().await;
    let report = host.install(&mut deps).await;
    assert_eq!(
        host.registry.connections(),
        1,
        "nobody asked the registry again"
    );
    let ctx = patchfleet_flow::Context::new(serde_json::json!({ "setup": report }));
    host.rig.run_from(ctx, deps, Vec::new()).await.unwrap();
    let body = host.rig.desk.drafts.lock().unwrap()[0].body.clone();
    assert!(
        body.contains("Dependencies are from the cache of 20"),
        "{body}"
    );
    assert!(host.rig.log().contains("are from the cache of"));
    // A task without checkpoints begins at the newest base.
    host.rig.notes.checkpoints.lock().unwrap().clear();
    // Nobody knows which files a command reads that somebody wrote by hand.
    host.rig.bench.origin.advance(&[("deps.lock", "2\n")]).await;
    assert_eq!(host.next().await, (false, 2));
    assert_eq!(host.next().await, (true, 2));
    host.operator.cache = false;
    assert_eq!(host.next().await, (false, 3));
}

#[tokio::test]
async fn of_two_tasks_at_once_one_installs_and_the_other_one_waits_for_it() {
    let Some(mut host) = Host::with(FETCHES).await else {
        return;
    };
    let (mut first, mut second) = (host.task().await, host.task().await);
    let both = tokio::join!(host.install(&mut first), host.install(&mut second));
    let cached = [both.0, both.1].map(|report| report.cached_at.is_some());
    assert_eq!(cached.iter().filter(|it| **it).count(), 1, "{cached:?}");
    assert_eq!(host.registry.connections(), 1);
}

#[tokio::test]
async fn a_setup_that_was_refused_a_host_is_not_kept() {
    let files = [FETCHES, &[("refused", "")]].concat();
    let Some(mut host) = Host::with(&files).await else {
        return;
    };
    assert_eq!(host.next().await, (false, 1));
    assert_eq!(host.next().await, (false, 2));
}

#[tokio::test]
async fn a_commit_that_changes_no_lock_file_installs_nothing_where_none_of_its_code_runs() {
    if crate::process::find_program("cargo").is_none() {
        return;
    }
    let manifest = "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";
    let lock = "version = 3\n\n[[package]]\nname = \"a\"\nversion = \"0.1.0\"\n";
    let files = [
        ("Cargo.toml", manifest),
        ("Cargo.lock", lock),
        ("src/lib.rs", ""),
    ];
    let Some(mut host) = Host::with(&files).await else {
        return;
    };
    assert!(!host.next().await.0);
    host.rig
        .bench
        .origin
        .advance(&[("src/lib.rs", "// x\n")])
        .await;
    assert!(host.next().await.0);
    let lock = format!("# x\n{lock}");
    host.rig
        .bench
        .origin
        .advance(&[("Cargo.lock", &lock)])
        .await;
    assert!(!host.next().await.0);
}
