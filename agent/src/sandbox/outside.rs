//! The stage outside of the namespaces: joins control groups, gives root up, opens what is to be
//! mounted, and becomes bubblewrap.
//!
//! Root first makes a mount namespace of its own, in which everything that the command may see is
//! mounted below one folder that every user can enter. After that it is root no more: bubblewrap
//! started by root would leave the command root for the kernel, whatever it sees itself as. What
//! lies in a home that only root may enter is thus shown without opening the home.

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use super::bubblewrap::{self, Descriptors};
use super::overlay::{self, Opened};
use super::plan::{Access, INNER_USER, Mount, Plan, User, WORKSPACE};
use super::stage::{self, Failed, Fault};
use super::{Network, system};

/// The user that the command sees itself as.
const INNER: User = User {
    uid: INNER_USER,
    gid: INNER_USER,
};

/// Where root puts what is to be shown: a folder that is there on every host and open to all. Only
/// this process and its children see what is mounted on it.
const SHELF: &str = "/tmp";

/// The longest file of settings that is copied.
const COPIED: u64 = 1 << 20;

/// How a folder is opened that is no link.
pub(super) const FOLDER: i32 = libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY;

/// Becomes bubblewrap; comes back only when that fails.
pub(super) fn run() -> Failed {
    let plan = match stage::plan(stage::ENTER) {
        Ok(plan) => plan,
        Err(fault) => return fault,
    };
    let (plan, copies) = without_settings(plan);
    match become_bubblewrap(&plan, copies) {
        Ok(never) => match never {},
        Err(fault) => fault,
    }
}

fn become_bubblewrap(plan: &Plan, copies: Vec<(PathBuf, File)>) -> Result<Infallible, Fault> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| Fault::new(stage::ENTER, format!("{what}: {error}"))
    };
    // The command can't do it: it sees no groups.
    join(&plan.groups)?;
    let is_root = geteuid().is_root();
    if is_root && plan.user.is_none_or(|user| user.uid == 0 || user.gid == 0) {
        return Err(Fault::new(
            stage::ENTER,
            "root has no other user to become (`agents.sandbox.uid`)",
        ));
    }
    let has_shelf = is_root && own_namespace().map_err(failed("mounts"))?;
    if plan.layers.is_some() && !has_shelf {
        let why = "only root, where it may mount, can put an overlay together";
        return Err(Fault::new(stage::ENTER, why));
    }
    let opened = open_all(plan)?;
    let layers = plan.layers.as_ref().map(overlay::open).transpose();
    let layers = layers.map_err(failed("a layer of the work tree can't be opened"))?;
    let stage_file = open_stage().map_err(failed("this program's file can't be opened"))?;
    let (mut files, stage_file) = if has_shelf {
        let opened = (opened, layers);
        shelve(plan, opened, stage_file).map_err(failed("what is to be shown can't be mounted"))?
    } else {
        (opened, stage_file)
    };
    let mut descriptors = Descriptors {
        mounts: files.iter().map(File::as_raw_fd).collect(),
        stage: (stage_file.0.as_raw_fd(), stage_file.1),
        status: stage::STATUS,
        files: Vec::new(),
    };
    for (path, content) in system::files(INNER, plan.network == Network::Host) {
        let memory = stage::memory(&content).map_err(failed("memory can't be had"))?;
        descriptors.files.push((path, memory.as_raw_fd()));
        files.push(memory);
    }
    for (path, file) in copies {
        descriptors.files.push((path, file.as_raw_fd()));
        files.push(file);
    }
    files.push(stage_file.0);
    // bubblewrap keeps its own from the inner stage.
    let report = stage::append(stage::STATUS).map_err(failed("no report can be made"))?;
    let number = report.as_raw_fd().to_string();
    files.push(report);
    for file in &files {
        stage::inherit(file).map_err(failed("a descriptor can't be passed on"))?;
    }
    let arguments = bubblewrap::arguments(plan, &descriptors, &[stage::INIT, &number]);
    #[expect(
        clippy::disallowed_methods,
        reason = "replaces this process, which the process module started"
    )]
    let mut command = Command::new(&plan.bubblewrap);
    command.args(arguments);
    if let Some(user) = plan.user.filter(|_| is_root) {
        // Supplementary groups go with the user.
        command.uid(user.uid).gid(user.gid);
    }
    Err(failed(&plan.bubblewrap.display().to_string())(
        command.exec(),
    ))
}

/// Takes small files of settings out of a plan: the sandbox has copies of them, in the memory that its
/// root is made of and that nobody can write. Each mount costs bubblewrap a reading of all mounts.
fn without_settings(mut plan: Plan) -> (Plan, Vec<(PathBuf, File)>) {
    let mut copies = Vec::new();
    plan.mounts.retain(|mount| match setting(mount) {
        Some(file) => {
            copies.push((mount.target.clone(), file));
            false
        }
        None => true,
    });
    (plan, copies)
}

/// A small file of settings that everybody may read: a copy must not show more than a mount would.
fn setting(mount: &Mount) -> Option<File> {
    if mount.access != Access::ReadOnly || !mount.target.starts_with("/etc") {
        return None;
    }
    // Opening a FIFO must not wait for somebody who writes into it.
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(&mount.source).ok()?;
    let found = file.metadata().ok()?;
    let is_plain = found.is_file() && found.len() <= COPIED;
    (is_plain && found.mode() & 0o115 == 0o004).then_some(file)
}

/// Puts this process, and thus all that comes after it, into the run's control groups.
fn join(groups: &[PathBuf]) -> Result<(), Fault> {
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads != 1 {
        // Another one would stay outside.
        let what = format!("control groups can't be joined by {threads} threads");
        return Err(Fault::new(stage::ENTER, what));
    }
    for file in groups {
        let opened = OpenOptions::new().write(true).open(file);
        let joined = opened.and_then(|mut file| file.write_all(b"0"));
        joined.map_err(|error| {
            let file = file.display();
            Fault::new(stage::ENTER, format!("{file} can't be joined: {error}"))
        })?;
    }
    Ok(())
}

fn open_all(plan: &Plan) -> Result<Vec<File>, Fault> {
    let opened = plan.mounts.iter().map(|mount| {
        open(mount).map_err(|error| {
            let path = mount.source.display();
            Fault::new(stage::ENTER, format!("{path} can't be shown: {error}"))
        })
    });
    opened.collect()
}

/// Opens what is to be mounted, so that nothing can be swapped between now and then. No link is
/// followed at the end of what the command may write.
fn open(mount: &Mount) -> io::Result<File> {
    let flags = match mount.access {
        Access::Writable => FOLDER,
        Access::ReadOnly => libc::O_PATH,
    };
    open_with(&mount.source, flags)
}

pub(super) fn open_with(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// This program's file; and whether its path leads to it no more, as after an update.
fn open_stage() -> io::Result<(File, bool)> {
    let own = Path::new("/proc/self/exe");
    let running = fs::metadata(own)?;
    // By its path: what a process runs belongs to the mount namespace that it was started in.
    if let Ok(file) = open_with(&fs::read_link(own)?, libc::O_PATH) {
        let found = file.metadata()?;
        if (found.dev(), found.ino()) == (running.dev(), running.ino()) {
            return Ok((file, false));
        }
    }
    Ok((File::open(own)?, true))
}

/// From here on, what is mounted is seen by this process and its children only. False for a root
/// that may not mount, as in containers: what the other user can reach by itself is shown then.
pub(super) fn own_namespace() -> io::Result<bool> {
    match unshare(CloneFlags::CLONE_NEWNS) {
        Err(Errno::EPERM) => return Ok(false),
        made => made?,
    }
    let nothing = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing)?;
    Ok(true)
}

/// Mounts all that was opened side by side where every user can reach it, and opens it again.
fn shelve(
    plan: &Plan,
    (opened, layers): (Vec<File>, Option<Opened>),
    (stage_file, is_copied): (File, bool),
) -> io::Result<(Vec<File>, (File, bool))> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        SHELF,
        Some("tmpfs"),
        flags,
        Some("mode=0755,size=1m"),
    )?;
    let mut shelved = Vec::new();
    for (number, file) in opened.iter().enumerate() {
        let mount = plan.mounts.get(number);
        let place = Path::new(SHELF).join(number.to_string());
        let is_work_tree = mount.is_some_and(|it| it.target == Path::new(WORKSPACE));
        let put = match layers.as_ref().filter(|_| is_work_tree) {
            Some(layers) => overlay::mount(file, layers, &place),
            None => put(file, &place),
        };
        let name = mount.map(|mount| mount.source.as_path());
        shelved.push(put.map_err(|error| named(name, &error))?);
    }
    if is_copied {
        return Ok((shelved, (stage_file, true)));
    }
    let place = Path::new(SHELF).join("stage");
    Ok((shelved, (put(&stage_file, &place)?, false)))
}

fn named(name: Option<&Path>, error: &io::Error) -> io::Error {
    let name = name.map(|path| path.display().to_string());
    io::Error::new(
        error.kind(),
        format!("{}: {error}", name.unwrap_or_default()),
    )
}

fn put(file: &File, place: &Path) -> io::Result<File> {
    if file.metadata()?.is_dir() {
        fs::create_dir(place)?;
    } else {
        fs::write(place, [])?;
    }
    let source = stage::own(file.as_raw_fd());
    let nothing = None::<&str>;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source.as_str()), place, nothing, flags, nothing)?;
    open_with(place, libc::O_PATH)
}
