//! The host as the suite prepares it: secrets, sockets and a process that nobody inside may reach.

use std::fmt;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use patchfleet_testkit::container;
use serde::Deserialize;
use serde_json::json;

/// A user without a name, as containers have them.
const PLAIN: u32 = 21_234;
/// The capability that mounts need.
const SYS_ADMIN: u64 = 1 << 21;

/// Whom the suite runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    uid: u32,
    is_this: bool,
}

/// How a way out is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Without isolation.
    Exposed,
    /// In the sandbox of drafts and tests.
    Work,
    /// In the sandbox that installs dependencies, which has a proxy.
    Setup,
    /// In a container, as drafts and tests.
    Container,
}

/// What a case came to.
#[derive(Debug, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) case: String,
    pub(crate) source: String,
    pub(crate) bites: String,
    /// Whether it got through; nothing when it could not be tried.
    pub(crate) through: Option<bool>,
    pub(crate) why: String,
}

impl Way {
    /// The options of `patchfleet sandbox run`.
    pub(crate) fn arguments(self) -> Vec<String> {
        let image = || container::image().unwrap();
        let words = match self {
            Self::Exposed => "--backend none".to_owned(),
            Self::Work => "--phase work".to_owned(),
            Self::Setup => "--phase setup --allow allowed.example".to_owned(),
            // The programs are the host's, so that the image is small.
            Self::Container => {
                format!("--backend container --read-only /usr --image {}", image())
            }
        };
        words.split(' ').map(str::to_owned).collect()
    }
}

/// A prepared host. All of it ends when it is dropped.
pub(crate) struct Host {
    user: User,
    root: tempfile::TempDir,
    word: String,
    victim: Child,
    in_tmp: PathBuf,
    in_shm: PathBuf,
    path_socket: UnixListener,
    abstract_socket: UnixListener,
    tcp: TcpListener,
    udp: u16,
    shared: Option<SharedMemory>,
}

/// A piece of System V memory, which belongs to whoever is asked for it.
struct SharedMemory {
    user: User,
    id: u64,
}

impl User {
    pub(crate) fn this() -> Self {
        let uid = fs::metadata("/proc/self").unwrap().uid();
        Self { uid, is_this: true }
    }

    /// Another user than this one, where this one is root.
    pub(crate) fn plain() -> Option<Self> {
        (Self::this().uid == 0).then_some(Self {
            uid: PLAIN,
            is_this: false,
        })
    }

    /// Root, with all that this means outside of a container.
    pub(crate) fn is_mighty(self) -> bool {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let capabilities = u64::from_str_radix(line.unwrap().trim(), 16).unwrap();
        self.uid == 0 && capabilities & SYS_ADMIN != 0
    }

    pub(crate) fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        #[expect(
            clippy::disallowed_methods,
            reason = "this suite's one door to spawning"
        )]
        let mut command = Command::new(program);
        if !self.is_this {
            command.uid(self.uid).gid(self.uid);
        }
        command.stdin(Stdio::null());
        command
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uid {
            0 => f.write_str("root"),
            uid => write!(f, "user {uid}"),
        }
    }
}

pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_patchfleet"))
}

/// Whether this host isolates for this user, or why not.
pub(crate) fn can_isolate(user: User) -> Result<(), String> {
    let mut command = user.command(program());
    command.args(["sandbox", "run", "--", "true"]);
    let output = command
        .env("HOME", "/nonexistent")
        .output()
        .map_err(|error| format!("{} can't be run: {error}", program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Whether the host lets a plain user have namespaces at all.
pub(crate) fn bubblewrap_works(user: User) -> bool {
    let user = User {
        uid: PLAIN,
        is_this: user.is_this && user.uid != 0,
    };
    let mut command = user.command("bwrap");
    command.args(["--unshare-user", "--unshare-all", "--ro-bind", "/", "/"]);
    command.args(["--proc", "/proc", "--dev", "/dev", "true"]);
    command.status().is_ok_and(|status| status.success())
}

/// Whether there can be containers for this user, or why not.
pub(crate) fn has_containers(user: User) -> Result<(), String> {
    if user.uid != 0 {
        return Err("Podman of a plain user needs more than its package".to_owned());
    }
    container::image().map(drop)
}

/// Runs a program text of Python in the setup phase, where it may reach `allowed.example`.
pub(crate) fn set_up(user: User, way: Way, program_text: &str) -> Output {
    let mut command = user.command(program());
    command.args(["--json", "sandbox", "run"]);
    command.args(Way::Setup.arguments());
    if way == Way::Container {
        command.args(way.arguments());
    }
    command.arg("--");
    command.args(["/usr/bin/python3", "-c", program_text]);
    command.env("HOME", "/nonexistent").output().unwrap()
}

impl Host {
    pub(crate) fn prepare(user: User) -> Self {
        let root = tempfile::Builder::new()
            .prefix("pf-escape-")
            .tempdir_in("/tmp")
            .unwrap();
        let unique = root
            .path()
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let word = format!("secret-of-{unique}");
        let hidden = root.path().join("hidden");
        for folder in ["hidden", "tree", "outside"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        fs::write(hidden.join("secret"), &word).unwrap();
        let cases = include_str!("cases.py");
        fs::write(root.path().join("tree/cases.py"), cases).unwrap();
        let path_socket = UnixListener::bind(root.path().join("outside/socket")).unwrap();
        give(root.path(), user.uid);
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let beside = |folder: &str| {
            let path = Path::new(folder).join(format!("{unique}-beside"));
            fs::write(&path, "x").unwrap();
            path
        };
        let (in_tmp, in_shm) = (beside("/tmp"), beside("/dev/shm"));
        let address = SocketAddr::from_abstract_name(&word).unwrap();
        let victim = user
            .command("sleep")
            .args(["600"])
            .arg0(&word)
            .env("SECRET", &word)
            .current_dir(&hidden)
            .spawn()
            .unwrap();
        Self {
            user,
            victim,
            in_tmp,
            in_shm,
            path_socket,
            abstract_socket: UnixListener::bind_addr(&address).unwrap(),
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            udp: echo(),
            shared: SharedMemory::make(user),
            word,
            root,
        }
    }

    fn facts(&self, way: Way) -> String {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let groups = [
            "/sys/fs/cgroup/pids",
            "/sys/fs/cgroup/unified",
            "/sys/fs/cgroup",
        ];
        let groups = groups.map(Path::new).into_iter().filter(|it| it.is_dir());
        let path = |name: &str| self.path(name);
        json!({
            "isolated": way != Way::Exposed,
            "word": self.word,
            "hidden": path("hidden"),
            "secret": path("hidden/secret"),
            "marker": path("outside/marker"),
            "socket": path("outside/socket"),
            "abstract": self.word,
            "port": self.tcp.local_addr().unwrap().port(),
            "udp": self.udp,
            "shared": self.shared.as_ref().map(|it| it.id),
            "victim": self.victim.id(),
            "in_tmp": self.in_tmp,
            "in_shm": self.in_shm,
            "program": program(),
            "host": host.trim(),
            "groups": groups.collect::<Vec<_>>(),
        })
        .to_string()
    }

    /// Tries every case in one way.
    pub(crate) fn try_all(&self, way: Way) -> Vec<Outcome> {
        let (tree, hidden) = (
            self.root.path().join("tree"),
            self.root.path().join("hidden"),
        );
        // A shell hands the folder on as descriptor 7: one that leaks.
        let script = "exec 7<\"$1\"; shift; exec \"$@\"";
        let mut command = self.user.command("sh");
        command
            .args(["-c", script, "sh"])
            .arg(hidden)
            .arg(program());
        command.args(["sandbox", "run", "--timeout", "100s"]);
        command.args(way.arguments());
        command.arg("--workspace").arg(&tree);
        command.args(["--", "/usr/bin/python3", "cases.py", &self.facts(way)]);
        let output = command.env("HOME", "/nonexistent").output().unwrap();
        outcomes(&output)
    }

    pub(crate) fn user(&self) -> User {
        self.user
    }

    /// A file or folder of the prepared place.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A word that is found nowhere else.
    pub(crate) fn word(&self) -> &str {
        &self.word
    }

    /// Whatever was tried: nothing of the host was changed under isolation, and nothing is left.
    pub(crate) fn assert_untouched(&self, way: Way) {
        if way == Way::Exposed {
            return;
        }
        let outside = fs::read_dir(self.root.path().join("outside")).unwrap();
        let names: Vec<_> = outside.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(
            names,
            ["socket"],
            "something was written outside of the work tree"
        );
        self.path_socket.set_nonblocking(true).unwrap();
        self.abstract_socket.set_nonblocking(true).unwrap();
        self.tcp.set_nonblocking(true).unwrap();
        assert!(self.path_socket.accept().is_err(), "the socket was reached");
        assert!(
            self.abstract_socket.accept().is_err(),
            "the socket was reached"
        );
        assert!(self.tcp.accept().is_err(), "the port was reached");
        let tree = fs::symlink_metadata(self.root.path().join("tree")).unwrap();
        assert_eq!(
            tree.uid(),
            self.user.uid,
            "the work tree was not given back"
        );
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        let _ = fs::remove_file(&self.in_tmp);
        let _ = fs::remove_file(&self.in_shm);
    }
}

impl SharedMemory {
    fn make(user: User) -> Option<Self> {
        let output = user.command("ipcmk").args(["-M", "64"]).output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let id = said.rsplit(' ').next()?.trim().parse().ok()?;
        Some(Self { user, id })
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        let id = self.id.to_string();
        let _ = self.user.command("ipcrm").args(["-m", &id]).output();
    }
}

fn outcomes(output: &Output) -> Vec<Outcome> {
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{}: {errors}\n{text}",
        output.status
    );
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn give(path: &Path, uid: u32) {
    chown(path, Some(uid), Some(uid)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), uid);
        }
    }
}

/// Answers each packet with itself, for as long as the test runs.
fn echo() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut packet = [0; 16];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let _ = socket.send_to(&packet[..length], from);
        }
    });
    port
}
