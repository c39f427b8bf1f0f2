//! The command line of bubblewrap for a plan. Pure: descriptors are opened by whoever calls.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Network;
use super::plan::{Access, HOME, INNER_USER, Mount, Plan, STAGE, WORKSPACE};

/// What bubblewrap gets by descriptor. Each is used up by one argument.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    /// One for each mount of the plan, in its order.
    pub(super) mounts: Vec<i32>,
    /// Files that are made, and a descriptor with the content of each.
    pub(super) files: Vec<(PathBuf, i32)>,
    /// This program, and whether its content has to be copied because its file is gone.
    pub(super) stage: (i32, bool),
    /// Takes bubblewrap's report.
    pub(super) status: i32,
}

/// The arguments, up to and with the inner stage's own.
pub(super) fn arguments(plan: &Plan, descriptors: &Descriptors, stage: &[&str]) -> Vec<OsString> {
    let mut all = Arguments::default();
    all.words(&["--unshare-user", "--unshare-all", "--disable-userns"]);
    if plan.network == Network::Host {
        all.words(&["--share-net"]);
    }
    all.words(&["--die-with-parent", "--new-session", "--cap-drop", "ALL"]);
    let user = INNER_USER.to_string();
    all.words(&["--uid", &user, "--gid", &user, "--hostname", "sandbox"]);
    skeleton(&mut all, plan, &descriptors.files);
    for (mount, descriptor) in plan.mounts.iter().zip(&descriptors.mounts) {
        all.bind(mount, *descriptor);
    }
    for (path, descriptor) in &descriptors.files {
        // In the memory of the root, which is read-only in the end: a mount for each would take longer.
        all.words(&["--perms", "0444", "--file", &descriptor.to_string()]);
        all.path(path);
    }
    let (descriptor, is_copied) = descriptors.stage;
    if is_copied {
        all.words(&["--perms", "0555", "--ro-bind-data"]);
    } else {
        all.words(&["--ro-bind-fd"]);
    }
    all.words(&[&descriptor.to_string(), STAGE]);
    all.words(&["--remount-ro", "/", "--chdir"]);
    let folder: PathBuf = [WORKSPACE, &plan.folder]
        .iter()
        .filter(|it| !it.is_empty())
        .collect();
    all.path(&folder);
    all.words(&["--json-status-fd", &descriptors.status.to_string(), "--"]);
    all.words(&[STAGE]);
    all.words(stage);
    all.0
}

/// Folders that the sandbox makes itself: those in memory, and the way to each mount and file.
fn skeleton(all: &mut Arguments, plan: &Plan, files: &[(PathBuf, i32)]) {
    all.words(&["--proc", "/proc"]);
    let (tmp, shm) = plan.memory_folders;
    all.words(&[
        "--dev",
        "/dev",
        "--perms",
        "1777",
        "--size",
        &shm.to_string(),
    ]);
    all.words(&["--tmpfs", "/dev/shm", "--remount-ro", "/dev"]);
    all.words(&[
        "--perms",
        "1777",
        "--size",
        &tmp.to_string(),
        "--tmpfs",
        "/tmp",
    ]);
    for (link, target) in &plan.links {
        all.words(&["--symlink"]);
        all.path(target);
        all.path(link);
    }
    let fixed = [Path::new(STAGE), Path::new(HOME)];
    let targets = plan.mounts.iter().map(|mount| mount.target.as_path());
    let files = files.iter().map(|(path, _)| path.as_path());
    let mut folders: Vec<_> = fixed
        .into_iter()
        .chain(targets)
        .chain(files)
        .flat_map(|path| path.ancestors().skip(1))
        .filter(|folder| !is_made(folder))
        .collect();
    folders.sort_unstable();
    folders.dedup();
    for folder in folders {
        all.words(&["--perms", "0755", "--dir"]);
        all.path(folder);
    }
}

/// Made by an argument of its own.
fn is_made(folder: &Path) -> bool {
    ["/", "/tmp", "/dev", "/proc"]
        .iter()
        .any(|it| folder == Path::new(it))
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn words(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(OsString::from));
    }

    fn path(&mut self, path: &Path) {
        self.0.push(path.into());
    }

    fn bind(&mut self, mount: &Mount, descriptor: i32) {
        self.words(&[match mount.access {
            Access::ReadOnly => "--ro-bind-fd",
            Access::Writable => "--bind-fd",
        }]);
        self.words(&[&descriptor.to_string()]);
        self.path(&mount.target);
    }
}
