//! With real git and real `git-lfs`, in the sandbox, from servers that speak their protocols.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use axum::Json;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use patchfleet_domain::TaskId;
use patchfleet_testkit::github::Simulator;
use patchfleet_testkit::tls::{Authority, Terminator};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::*;
use crate::git::tests::Origin;
use crate::git::{InstalledFiles, ObjectId};
use crate::process::find_program;
use crate::sandbox::SandboxConfig;
use crate::sandbox::tests::isolating;
use crate::workspace::tests::Bench;
use crate::workspace::{Checkout, CloneMode};

const TOKEN: &str = "ghs_0123456789abcdefghijABCDEFGHIJ012345";
const URL: &str = "https://git.test/acme/orders.git";
const CONTENT: &[u8] = b"a large content\0\n";
/// No server has it.
const LOST: &[u8] = b"never uploaded";

fn oid(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

fn pointer(content: &[u8]) -> String {
    let (oid, size) = (oid(content), content.len());
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
}

/// Leads every name to one server.
struct OneServer(SocketAddr);

#[async_trait]
impl Network for OneServer {
    async fn resolve(&self, _: &HostName) -> io::Result<Vec<IpAddr>> {
        Ok(vec![[10, 20, 0, 7].into()])
    }

    async fn connect(&self, _: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }
}

/// A server of Git LFS that wants to know who is there, and whose contents lie on another host.
async fn batch(headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let basic = BASE64_STANDARD.encode(format!("x-access-token:{TOKEN}"));
    let said = headers.get(header::AUTHORIZATION);
    if said.is_none_or(|it| it.as_bytes() != format!("Basic {basic}").as_bytes()) {
        let asks = [("lfs-authenticate", "Basic realm=\"git\"")];
        return (
            StatusCode::UNAUTHORIZED,
            asks,
            Json(json!({"message": "who?"})),
        )
            .into_response();
    }
    let wanted = body["objects"].as_array().cloned().unwrap_or_default();
    let objects = wanted.into_iter().map(|mut object| {
        let id = object["oid"].as_str().unwrap_or_default().to_owned();
        if id == oid(CONTENT) {
            let href = format!("https://storage.test/contents/{id}");
            object["actions"] = json!({"download": {"href": href}});
        } else {
            object["error"] = json!({"code": 404, "message": "Object does not exist"});
        }
        object
    });
    let answer = json!({"transfer": "basic", "objects": objects.collect::<Vec<_>>()});
    let kind = [(header::CONTENT_TYPE, "application/vnd.git-lfs+json")];
    (kind, answer.to_string()).into_response()
}

async fn content(
    State(contents): State<Arc<BTreeMap<String, Vec<u8>>>>,
    headers: HeaderMap,
    UrlPath(oid): UrlPath<String>,
) -> Response {
    // The token is for the repository's own host.
    if headers.contains_key(header::AUTHORIZATION) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    match contents.get(&oid) {
        Some(content) => content.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A server of Git LFS that serves this in place of the content.
async fn lfs_server(served: &[u8]) -> (SocketAddr, AbortOnDropHandle<()>) {
    let contents = Arc::new(BTreeMap::from([(oid(CONTENT), served.to_vec())]));
    let app = axum::Router::new()
        .route("/acme/orders.git/info/lfs/objects/batch", post(batch))
        .route("/contents/{oid}", get(content))
        .with_state(contents);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = async move { axum::serve(listener, app).await.unwrap() };
    (
        address,
        AbortOnDropHandle::new(TaskTracker::new().spawn(serving)),
    )
}

/// A task's workspace, and all that a fetch for it needs.
struct Scene {
    bench: Bench,
    workspace: Workspace,
    sandbox: Sandbox,
    settings: RepositorySettings,
    remote: Remote,
    git_lfs: Option<PathBuf>,
    terminator: Terminator,
}

impl Scene {
    /// The base of an origin, whose servers all names lead to; nothing where nothing is isolated.
    async fn of(bench: Bench, server: SocketAddr) -> Option<Self> {
        let sandbox = isolating(SandboxConfig::default()).await?;
        let authority = Authority::new().unwrap();
        let identity = authority.issue(&["git.test", "storage.test"]).unwrap();
        std::fs::write(bench.root.path().join("ca.pem"), authority.pem()).unwrap();
        let checkout = Checkout {
            has_contents: true,
            ..bench.checkout(TaskId::new(), 1)
        };
        Some(Self {
            workspace: bench.prepare(&checkout).await.unwrap(),
            bench,
            sandbox,
            settings: RepositorySettings {
                name: "acme/orders".parse().unwrap(),
                clone: CloneMode::Mirror,
                lfs: true,
                submodules: true,
                hosts: vec!["storage.test".parse().unwrap()],
            },
            remote: Remote::new(URL, Some(TOKEN.into())).unwrap(),
            git_lfs: Some(find_program("git-lfs").expect("git-lfs is installed by `make setup`")),
            terminator: Terminator::start(&identity, server).await.unwrap(),
        })
    }

    async fn fetch(&self) -> Result<(Contents, Vec<StepReport>), Option<Failure>> {
        let (sender, mut lines) = mpsc::channel(10_000);
        let log = TaskLog::new(sender);
        let operator = SetupConfig {
            open: vec!["10.20.0.0/16".parse().unwrap()],
            ..SetupConfig::default()
        };
        let fetch = ContentsFetch {
            sandbox: &self.sandbox,
            settings: &self.settings,
            operator: &operator,
            remote: &self.remote,
            workspace: &self.workspace,
            log: &log,
            network: Arc::new(OneServer(self.terminator.address())),
            authorities: Some(self.bench.root.path().join("ca.pem")),
            git_lfs: self.git_lfs.clone(),
            cancel: &CancellationToken::new(),
        };
        let fetched = fetch.run().await;
        while let Ok(line) = lines.try_recv() {
            println!("{line}");
        }
        fetched
    }

    async fn failure(&self) -> Failure {
        let failure = self.fetch().await.map(drop).unwrap_err().unwrap();
        assert_eq!(failure.kind, FailureKind::CloneFailed, "{failure:?}");
        failure
    }

    /// As a run begins.
    async fn put(&self) -> InstalledFiles {
        let private = self.workspace.layout.tests();
        self.workspace.put_dependencies(&private).await.unwrap()
    }

    /// The tree of the change as it is now.
    async fn tree(&self, installed: InstalledFiles) -> Result<ObjectId, GitError> {
        let repository = &self.workspace.repository;
        let snapshot = repository.snapshot_beside(installed).await?;
        Ok(snapshot.tree)
    }

    async fn blob(&self, tree: &ObjectId, path: &str) -> Vec<u8> {
        let repository = &self.workspace.repository;
        let blob = repository.resolve(&format!("{tree}:{path}")).await.unwrap();
        repository.blobs(&[blob.unwrap()]).await.unwrap().remove(0)
    }

    fn root(&self) -> PathBuf {
        self.workspace.layout.repo_clone()
    }
}

/// A repository with files of Git LFS.
async fn with_pointers(more: &[(&str, &str)]) -> Bench {
    let text = pointer(CONTENT);
    let files = [
        (
            ".gitattributes",
            "*.bin filter=lfs diff=lfs merge=lfs -text\n",
        ),
        ("data.bin", text.as_str()),
        ("dir/same.bin", text.as_str()),
        ("plain.txt", text.as_str()),
    ];
    Bench::with(&[&files, more].concat()).await
}

/// What git says of a work tree that belongs to the user of the sandbox.
async fn status(root: &Path) -> String {
    let args = ["-c", "safe.directory=*", "status", "--porcelain"];
    Origin::git_in(root, &args).await
}

/// Every file below a folder that has a text in it.
fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files_with(&path, text));
        } else if path.is_file()
            && String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains(text)
        {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn runs_see_the_contents_of_git_lfs_and_a_change_has_their_pointers() {
    let (server, _serving) = lfs_server(CONTENT).await;
    let Some(mut scene) = Scene::of(with_pointers(&[]).await, server).await else {
        return;
    };
    let (contents, steps) = scene.fetch().await.unwrap();
    assert_eq!(steps[0].command, ["git", "lfs", "pull"]);
    assert_eq!(
        files_with(scene.bench.root.path(), TOKEN),
        [""; 0].map(PathBuf::from)
    );
    scene.workspace.contents = contents;
    let root = scene.root();
    let read = |path: &str| std::fs::read(root.join(path)).unwrap();
    assert_eq!(read("data.bin"), pointer(CONTENT).as_bytes());

    let installed = scene.put().await;
    assert_eq!(
        (read("data.bin"), read("dir/same.bin")),
        (CONTENT.into(), CONTENT.into())
    );
    assert_eq!(read("plain.txt"), pointer(CONTENT).as_bytes());
    assert_eq!(status(&root).await, "");
    let base = scene.tree(installed.clone()).await.unwrap();
    let of_base = format!("{}^{{tree}}", scene.workspace.base);
    let of_base = scene.workspace.repository.resolve(&of_base).await.unwrap();
    assert_eq!(Some(&base), of_base.as_ref());

    // Touched, moved, copied and written as a pointer.
    std::fs::write(root.join("data.bin"), CONTENT).unwrap();
    std::fs::rename(root.join("dir/same.bin"), root.join("moved.bin")).unwrap();
    std::fs::write(root.join("copy.bin"), pointer(CONTENT)).unwrap();
    std::fs::write(root.join("copy.txt"), CONTENT).unwrap();
    let tree = scene.tree(installed.clone()).await.unwrap();
    for path in ["data.bin", "moved.bin", "copy.bin"] {
        assert_eq!(
            scene.blob(&tree, path).await,
            pointer(CONTENT).as_bytes(),
            "{path}"
        );
    }
    assert_eq!(scene.blob(&tree, "copy.txt").await, CONTENT);
    // Tests of that change find the content where it names it.
    scene.workspace.check_out_committed(&tree).await.unwrap();
    scene.put().await;
    assert_eq!(
        (read("moved.bin"), read("copy.bin")),
        (CONTENT.into(), CONTENT.into())
    );

    scene
        .workspace
        .check_out(&scene.workspace.base)
        .await
        .unwrap();
    let installed = scene.put().await;
    std::fs::write(root.join("data.bin"), "another content").unwrap();
    let error = scene.tree(installed).await.unwrap_err().to_string();
    assert!(error.contains("`data.bin` belongs to Git LFS"), "{error}");
}

#[tokio::test]
async fn contents_of_git_lfs_that_can_not_be_had_are_named_with_what_to_do() {
    let (server, _serving) = lfs_server(CONTENT).await;
    let Some(mut scene) = Scene::of(with_pointers(&[]).await, server).await else {
        return;
    };
    let hosts = std::mem::take(&mut scene.settings.hosts);
    let failure = scene.failure().await;
    let words = "the hosts storage.test (host_not_allowed) were refused";
    assert!(
        failure.message.contains(words) && !failure.retryable,
        "{failure:?}"
    );
    scene.settings.hosts = hosts;

    let remote = std::mem::replace(&mut scene.remote, Remote::new(URL, None).unwrap());
    let failure = scene.failure().await;
    assert!(
        failure.message.contains("`git lfs pull` failed"),
        "{failure:?}"
    );
    let plain = "http://127.0.0.1:1/acme/orders.git";
    scene.remote = Remote::new(plain, None).unwrap();
    let failure = scene.failure().await;
    assert!(
        failure.message.contains("only `https://HOST/"),
        "{failure:?}"
    );
    scene.remote = remote;

    let program = scene.git_lfs.take();
    let failure = scene.failure().await;
    assert!(
        failure.message.contains("apt-get install git-lfs"),
        "{failure:?}"
    );
    scene.git_lfs = program;

    scene.sandbox = Sandbox::default();
    let failure = scene.failure().await;
    assert!(
        failure.message.contains("agents.sandbox.backend"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_content_that_the_server_lacks_and_one_that_is_another_are_named() {
    let (server, _serving) = lfs_server(CONTENT).await;
    let lost = pointer(LOST);
    let bench = with_pointers(&[("dir/lost.bin", lost.as_str())]).await;
    let Some(scene) = Scene::of(bench, server).await else {
        return;
    };
    let failure = scene.failure().await;
    let words = "no content for `dir/lost.bin`";
    assert!(failure.message.contains(words), "{failure:?}");

    let (server, _serving) = lfs_server(b"a large content\0!").await;
    let Some(scene) = Scene::of(with_pointers(&[]).await, server).await else {
        return;
    };
    let failure = scene.failure().await;
    assert!(failure.message.contains("Git LFS"), "{failure:?}");
}

#[tokio::test]
async fn nothing_is_fetched_where_nothing_is_configured_or_named() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let Some(mut scene) = Scene::of(with_pointers(&[]).await, nowhere).await else {
        return;
    };
    scene.settings.lfs = false;
    let (contents, steps) = scene.fetch().await.unwrap();
    assert!(contents.is_empty() && steps.is_empty());
    scene.put().await;
    let data = std::fs::read(scene.root().join("data.bin")).unwrap();
    assert_eq!(data, pointer(CONTENT).as_bytes());
}

/// A base with a submodule, which is at an older commit of a private repository and has one itself.
async fn with_submodules(urls: [&str; 2]) -> (Bench, Simulator) {
    let simulator = Simulator::start().await.unwrap();
    let inner = Origin::with(&[("inner.txt", "inner\n")]).await;
    let lib = Origin::with(&[("lib.txt", "lib\n"), (".gitattributes", "")]).await;
    add_submodule(&lib, "deep/inner", urls[1], &inner).await;
    let bench = Bench::with(&[("a", "1\n")]).await;
    add_submodule(&bench.origin, "vendor/lib", urls[0], &lib).await;
    lib.advance(&[("lib.txt", "newer\n")]).await;
    for (name, origin) in [("acme/lib", &lib), ("acme/inner", &inner)] {
        simulator.import_repository(name, &origin.url()).unwrap();
        simulator.set_private(name, true).unwrap();
    }
    (bench, simulator)
}

async fn add_submodule(origin: &Origin, path: &str, url: &str, of: &Origin) {
    let head = of.git(&["rev-parse", "HEAD"]).await;
    let info = format!("160000,{head},{path}");
    let gitmodules = format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
    std::fs::write(origin.work().join(".gitmodules"), gitmodules).unwrap();
    origin.git(&["add", ".gitmodules"]).await;
    let staged = ["update-index", "--add", "--cacheinfo", &info];
    origin.git(&staged).await;
    origin.git(&["commit", "-q", "-m", "submodule"]).await;
    origin.git(&["push", "-q", "origin", "main"]).await;
}

fn address(simulator: &Simulator) -> SocketAddr {
    let url = Url::parse(simulator.base_url()).unwrap();
    url.socket_addrs(|| None).unwrap()[0]
}

#[tokio::test]
async fn runs_see_submodules_at_their_commits_and_a_change_has_them_as_they_were() {
    let urls = ["../lib.git", "https://git.test/acme/inner.git"];
    let (bench, simulator) = with_submodules(urls).await;
    let Some(mut scene) = Scene::of(bench, address(&simulator)).await else {
        return;
    };
    let token = simulator.bot_token();
    scene.remote = Remote::new(URL, Some(token.as_str().into())).unwrap();
    let (contents, steps) = scene.fetch().await.unwrap();
    assert_eq!(steps.len(), 1);
    assert_eq!(
        files_with(scene.bench.root.path(), &token),
        [""; 0].map(PathBuf::from)
    );
    scene.workspace.contents = contents;
    let root = scene.root();
    let is_empty = |path: &str| std::fs::read_dir(root.join(path)).unwrap().next().is_none();
    assert!(is_empty("vendor/lib"));
    for _ in 0..2 {
        let installed = scene.put().await;
        let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
        assert_eq!(read("vendor/lib/lib.txt"), "lib\n");
        assert_eq!(read("vendor/lib/deep/inner/inner.txt"), "inner\n");
        for path in ["vendor/lib/.git", "vendor/lib/deep/inner/.git"] {
            assert!(!root.join(path).exists(), "{path}");
        }
        assert!(!status(&root).await.contains("vendor"));
        std::fs::write(root.join("vendor/lib/lib.txt"), "changed\n").unwrap();
        std::fs::write(root.join("a"), "2\n").unwrap();
        let tree = scene.tree(installed).await.unwrap();
        let entries = scene.workspace.repository.entries(&tree).await.unwrap();
        let links = entries.iter().filter(|it| it.kind == EntryKind::Submodule);
        let base = scene.workspace.repository.entries(&scene.workspace.base);
        let base = base.await.unwrap();
        let of_base = base.iter().filter(|it| it.kind == EntryKind::Submodule);
        assert_eq!(links.collect::<Vec<_>>(), of_base.collect::<Vec<_>>());
        scene.workspace.check_out(&tree).await.unwrap();
        assert!(is_empty("vendor/lib"), "a run meets what another one did");
    }
}

#[tokio::test]
async fn submodules_of_other_hosts_and_protocols_are_refused_and_run_nothing() {
    for (url, words) in [
        (
            "https://elsewhere.test/acme/lib.git",
            "elsewhere.test (host_not_allowed)",
        ),
        ("ext::sh -c 'touch /workspace/ran'", "not allowed"),
        ("file:///etc", "not allowed"),
        (
            "https://git.test/acme/absent.git",
            "submodules can't be fetched",
        ),
    ] {
        let (bench, simulator) = with_submodules([url, "../inner.git"]).await;
        let Some(mut scene) = Scene::of(bench, address(&simulator)).await else {
            return;
        };
        let token = simulator.bot_token();
        scene.remote = Remote::new(URL, Some(token.as_str().into())).unwrap();
        let failure = scene.failure().await;
        assert!(failure.message.contains(words), "{url}: {failure:?}");
        assert!(!failure.message.contains(&token), "{failure:?}");
        assert!(!scene.root().join("ran").exists());
    }
}
