//! The part of the host's system that every isolated command sees: an allow-list.
//!
//! Never the whole root, read-only or not: a read-only mount does not stop a connection to a
//! socket that lies in it, and shows every secret that the user may read.

use std::fs;
use std::path::{Path, PathBuf};

use super::plan::{Mount, User};

/// Folders of programs and libraries; besides `/usr` only where the host does not merge them.
const PROGRAMS: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
];

/// Files and folders of `/etc` that programs need and that hold no secret. Not `/etc/ssl`, which
/// has private keys in a folder of their own; not the settings of package managers, which may
/// have passwords.
const SETTINGS: &[&str] = &[
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/debian_version",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/magic",
    "/etc/magic.mime",
    "/etc/maven/m2.conf",
    "/etc/maven/logging",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/rpc",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
];

/// Beginnings of names in `/etc` that are the settings of one release of a language.
const SETTINGS_OF_LANGUAGES: &[&str] = &["java-", "python2", "python3", "perl", "php", "ghc"];

/// Folders that hold everybody's things, or nothing that a test could need.
const TOO_WIDE: &[&str] = &[
    "/", "/boot", "/dev", "/etc", "/home", "/media", "/mnt", "/opt", "/proc", "/root", "/run",
    "/srv", "/sys", "/tmp", "/var", "/var/lib", "/var/run", "/var/tmp",
];

/// True for a folder that must not be shown as a whole.
pub(super) fn is_too_wide(path: &Path) -> bool {
    TOO_WIDE.iter().any(|it| Path::new(it) == path) || path.starts_with("/sys")
}

/// True for a user's home, which has what is nobody else's business.
pub(super) fn is_home(folder: &Path) -> bool {
    let homes = [Path::new("/home"), Path::new("/Users")];
    folder.parent().is_some_and(|it| homes.contains(&it))
        || std::env::var_os("HOME").is_some_and(|home| Path::new(&home) == folder)
}

/// The mounts that every run has, and the links at the top.
pub(super) fn mounts() -> (Vec<Mount>, Vec<(PathBuf, PathBuf)>) {
    let (mut mounts, mut links) = (Vec::new(), Vec::new());
    for path in PROGRAMS.iter().map(PathBuf::from) {
        match fs::read_link(&path) {
            Ok(target) => links.push((path, target)),
            Err(_) if path.is_dir() => mounts.push(Mount::read_only(path, "programs")),
            Err(_) => {}
        }
    }
    let listed = SETTINGS.iter().map(PathBuf::from);
    for path in listed.chain(settings_of_languages()) {
        // Links such as `/etc/localtime` are shown as what they lead to.
        if let Ok(source) = path.canonicalize() {
            mounts.push(Mount {
                source,
                ..Mount::read_only(path, "settings")
            });
        }
    }
    (mounts, links)
}

fn settings_of_languages() -> Vec<PathBuf> {
    let entries = fs::read_dir("/etc").into_iter().flatten().flatten();
    let paths = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        SETTINGS_OF_LANGUAGES
            .iter()
            .any(|beginning| name.starts_with(beginning))
    });
    paths.map(|entry| entry.path()).collect()
}

/// Files that are made for the sandbox, so that nothing of the host's users, names and resolvers
/// is seen, and lookups of names end at once. The user is the one that the command sees itself as.
pub(super) fn files(User { uid, gid }: User, network: bool) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = vec![
        (
            "/etc/passwd",
            format!(
                "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n\
                 sandbox:x:{uid}:{gid}:sandbox:{}:/bin/sh\n\
                 nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
                super::plan::HOME
            ),
        ),
        (
            "/etc/group",
            format!("root:x:0:\nsandbox:x:{gid}:\nnogroup:x:65534:\n"),
        ),
        (
            "/etc/hosts",
            "127.0.0.1 localhost sandbox\n::1 localhost\n".to_owned(),
        ),
        (
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\n".to_owned(),
        ),
    ];
    if !network {
        files.push(("/etc/resolv.conf", "nameserver 127.0.0.1\n".to_owned()));
    }
    let files = files.into_iter();
    files
        .map(|(path, text)| (path.into(), text.into_bytes()))
        .collect()
}

/// What resolves names where the host's network is shared.
pub(super) fn resolver() -> Option<Mount> {
    let source = Path::new("/etc/resolv.conf").canonicalize().ok()?;
    Some(Mount {
        source,
        ..Mount::read_only("/etc/resolv.conf", "the network is shared")
    })
}
