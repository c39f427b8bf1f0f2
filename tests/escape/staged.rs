//! Ways out that need a hand of the host: what it has to look at afterwards, or to lack before.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::host::{self, Host, Outcome, User, Way};

/// One such way. It gives what it saw of an escape, or why there was none.
pub(crate) struct Staged {
    pub(crate) name: &'static str,
    source: &'static str,
    bites: &'static str,
    attempt: fn(&Host, Way) -> Seen,
}

/// Whether it got out; nothing when it could not be tried.
type Seen = (Option<bool>, String);

pub(crate) const ALL: &[Staged] = &[
    Staged {
        name: "leaves_a_process_behind",
        source: "openclaw#121049: a double fork and a session of its own",
        bites: "any",
        attempt: leaves_a_process_behind,
    },
    Staged {
        name: "forks_faster_than_it_is_killed",
        source: "actions/runner#4601: children that no snapshot of processes shows",
        bites: "any",
        attempt: forks_faster_than_it_is_killed,
    },
    Staged {
        name: "stops_itself_past_its_time",
        source: "a timeout that asks whoever can't hear",
        bites: "any",
        attempt: stops_itself_past_its_time,
    },
    Staged {
        name: "has_the_host_make_files_through_a_link",
        source: "CVE-2026-87766: a link in the work tree to bubblewrap's old root",
        bites: "host",
        attempt: has_the_host_make_files_through_a_link,
    },
    Staged {
        name: "runs_on_a_kernel_without_landlock",
        source: "OpenShell#803: best effort that is no effort",
        bites: "any",
        attempt: |host, way| runs_on_a_lesser_kernel(host, way, "landlock"),
    },
    Staged {
        name: "runs_on_a_kernel_without_filters",
        source: "OpenShell#578: no filter where there is none to be had",
        bites: "any",
        attempt: |host, way| runs_on_a_lesser_kernel(host, way, "seccomp"),
    },
    Staged {
        name: "runs_on_a_host_that_refuses_user_namespaces",
        source: "typeclaw#1441, openai/codex#15057: isolation that is silently off",
        bites: "any",
        attempt: |host, way| runs_on_a_lesser_kernel(host, way, "namespaces"),
    },
];

impl Staged {
    pub(crate) fn attempt(&self, host: &Host, way: Way) -> Outcome {
        let (through, why) = (self.attempt)(host, way);
        Outcome {
            case: self.name.to_owned(),
            source: self.source.to_owned(),
            bites: self.bites.to_owned(),
            through,
            why,
        }
    }
}

pub(crate) fn names() -> Vec<&'static str> {
    ALL.iter().map(|it| it.name).collect()
}

/// Runs a program text of Python with a time limit, in seconds: in the sandbox, or bare, since
/// runs without isolation have a supervisor too.
fn python(host: &Host, way: Way, seconds: u32, text: &str) -> ExitStatus {
    let mut command = match way {
        Way::Exposed => {
            let mut command = host.user().command("timeout");
            command.args(["--kill-after=1", &seconds.to_string()]);
            command.current_dir(host.path("tree"));
            command
        }
        Way::Work | Way::Setup | Way::Container => {
            let mut command = sandbox(host.user(), host, way);
            let seconds = match way {
                // An engine's start counts.
                Way::Container => seconds + 4,
                _ => seconds,
            };
            command.args(["--timeout", &format!("{seconds}s"), "--"]);
            command
        }
    };
    command.args(["/usr/bin/python3", "-c", text, host.word()]);
    // Whoever is left keeps what it was given open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.env("HOME", "/nonexistent").status().unwrap()
}

fn sandbox(user: User, host: &Host, way: Way) -> Command {
    let mut command = user.command(host::program());
    command.args(["sandbox", "run", "--workspace"]);
    command.arg(host.path("tree"));
    command.args(way.arguments());
    command
}

/// Processes that have a word among their arguments, but for the suite's own victim.
fn running(host: &Host) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap();
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let has_word = |pid: &i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = words.split(|byte| *byte == 0);
        words
            .next()
            .is_some_and(|program| program.ends_with(b"python3"))
            && words.any(|word| word == host.word().as_bytes())
    };
    numbers.filter(has_word).collect()
}

/// What went on after the end of a run; ends it.
fn left_behind(host: &Host, status: ExitStatus) -> Seen {
    let left = running(host);
    while let [pid, ..] = running(host)[..] {
        // One that forks is another by now; each ends by itself before long.
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        );
        thread::yield_now();
    }
    let why = format!("{status}, and nothing of it was left");
    (Some(!left.is_empty()), why)
}

fn leaves_a_process_behind(host: &Host, way: Way) -> Seen {
    let text = "import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in range(3):
            os.close(number)
        open('begun', 'w').close()
        time.sleep(60)
    os._exit(0)
os.wait()
while not os.path.exists('begun'): time.sleep(0.01)";
    let status = python(host, way, 30, text);
    left_behind(host, status)
}

/// No list of processes shows a chain of forks for sure, so the chain itself says that it lives: it
/// looks for a file that is made when the run is over, and answers by another.
fn forks_faster_than_it_is_killed(host: &Host, way: Way) -> Seen {
    let text = "import os, time
end = time.monotonic() + 60
while time.monotonic() < end and not os.path.exists('asked'):
    if os.fork():
        os._exit(0)
    os.setsid()
open('answered', 'w').close()";
    let status = python(host, way, 1, text);
    let (asked, answered) = (host.path("tree/asked"), host.path("tree/answered"));
    // One that ran into its time answered before.
    let _ = fs::remove_file(&answered);
    fs::write(&asked, "").unwrap();
    let patience = Duration::from_secs(if way == Way::Exposed { 20 } else { 1 });
    let until = Instant::now() + patience;
    while !answered.exists() && Instant::now() < until {
        thread::yield_now();
    }
    let is_through = answered.exists();
    fs::remove_file(asked).unwrap();
    let _ = fs::remove_file(answered);
    (
        Some(is_through),
        format!("{status}, and nothing of it answers"),
    )
}

fn stops_itself_past_its_time(host: &Host, way: Way) -> Seen {
    let text = "import os, signal
if os.fork() == 0:
    os.setsid()
    os.kill(os.getpid(), signal.SIGSTOP)
os.kill(os.getpid(), signal.SIGSTOP)";
    let status = python(host, way, 1, text);
    left_behind(host, status)
}

/// A bubblewrap that makes folders where a work tree has a link, and ours beside it.
fn has_the_host_make_files_through_a_link(host: &Host, way: Way) -> Seen {
    let (tree, outside) = (host.path("tree"), host.path("outside"));
    let target = format!("/oldroot{}", outside.display());
    for name in ["link", "home", "tmp", "run", ".patchfleet"] {
        symlink(&target, tree.join(name)).unwrap();
    }
    let output = match way {
        Way::Exposed => {
            let mut command = host.user().command("bwrap");
            command.args([
                "--unshare-user",
                "--unshare-pid",
                "--ro-bind",
                "/usr",
                "/usr",
            ]);
            for name in ["lib", "lib64", "bin"] {
                command.args(["--symlink", &format!("usr/{name}"), &format!("/{name}")]);
            }
            command.arg("--bind").arg(&tree).arg("/workspace");
            command.args(["--dir", "/workspace/link/planted", "true"]);
            command.output().unwrap()
        }
        Way::Work | Way::Setup | Way::Container => {
            let mut command = sandbox(host.user(), host, way);
            command.args(["--", "true"]).env("HOME", "/nonexistent");
            command.output().unwrap()
        }
    };
    let planted = outside.join("planted");
    let is_through = planted.exists() || fs::read_dir(&outside).unwrap().count() > 1;
    let _ = fs::remove_dir(planted);
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let why = match said.as_str() {
        "" => "nothing is mounted or made below the work tree".to_owned(),
        said => said.to_owned(),
    };
    (Some(is_through), why)
}

/// Takes a part of the kernel away from itself, and becomes the program that is named.
const LESSER: &str = r#"
import ctypes, os, struct, sys
LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    "x86_64": {"landlock": 444, "seccomp": 317, "unshare": 272, "clone": 56, "prctl": 157},
    "aarch64": {"landlock": 444, "seccomp": 277, "unshare": 97, "clone": 220, "prctl": 167},
}[os.uname().machine]
def when(code, value, yes, no=0): return struct.pack("HBBI", code, yes, no, value)
def load(offset): return struct.pack("HBBI", 0x20, 0, 0, offset)
def give(value): return struct.pack("HBBI", 0x06, 0, 0, value)
ALLOW, ENOSYS, EPERM = give(0x7fff0000), give(0x00050000 | 38), give(0x00050000 | 1)
if sys.argv[1] == "namespaces":
    # A new user namespace is refused, by `unshare` and by `clone`.
    program = [load(0), when(0x15, NUMBERS["unshare"], 2), when(0x15, NUMBERS["clone"], 1), ALLOW,
               load(16), when(0x45, 0x10000000, 0, 1), EPERM, ALLOW]
elif sys.argv[1] == "seccomp":
    # Both ways to a filter: the call, and `prctl(PR_SET_SECCOMP)`.
    program = [load(0), when(0x15, NUMBERS["seccomp"], 4), when(0x15, NUMBERS["prctl"], 0, 2),
               load(16), when(0x15, 22, 1), ALLOW, ENOSYS]
else:
    program = [load(0), when(0x15, NUMBERS["landlock"], 0, 1), ENOSYS, ALLOW]
code = ctypes.create_string_buffer(b"".join(program))
header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
zero = ctypes.c_ulong(0)
if LIBC.prctl(38, ctypes.c_ulong(1), zero, zero, zero) or LIBC.prctl(22, ctypes.c_ulong(2), header, zero, zero):
    raise OSError(ctypes.get_errno(), "no filter can be set")
os.execv(sys.argv[2], sys.argv[2:])
"#;

/// Reads a file of the work tree where a layer can't be had: the command must not run at all.
fn runs_on_a_lesser_kernel(host: &Host, way: Way, lacks: &str) -> Seen {
    let mut command = host.user().command("/usr/bin/python3");
    command.args(["-c", LESSER, lacks]);
    if way == Way::Exposed {
        command.arg("/bin/cat").arg(host.path("tree/cases.py"));
    } else {
        let inner = sandbox(host.user(), host, way);
        command.arg(inner.get_program()).args(inner.get_args());
        command.args(["--", "/bin/cat", "cases.py"]);
    }
    let output = command.env("HOME", "/nonexistent").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let is_through = output.status.success() || !output.stdout.is_empty();
    if !is_through && errors.contains("no filter can be set") {
        return (None, errors);
    }
    (Some(is_through), errors)
}
