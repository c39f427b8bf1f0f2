//! What a run sees, may do and may not, in words: `patchfleet sandbox explain`.

use serde::Serialize;

use super::plan::{Access, HOME, INNER_USER, Layers, Mount, PROXY_PORT, Plan, WORKSPACE};
use super::reach::Network;
use super::settings::Backend;

/// One thing that a run has or lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// `shown`, `made`, `set`, `missing` or `denied`.
    pub kind: &'static str,
    /// The path, limit or right.
    pub what: String,
    /// Why, or how much.
    pub why: String,
}

/// What a run would see and what is denied to it, as `patchfleet sandbox explain` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// How it is isolated.
    pub backend: Backend,
    /// In the order of setting up.
    pub facts: Vec<Fact>,
}

impl Fact {
    /// Something that a run is denied.
    pub(super) fn denied(what: impl ToString, why: impl ToString) -> Self {
        fact("denied", what, why)
    }

    /// Something that a run is given.
    pub fn set(what: impl ToString, why: impl ToString) -> Self {
        fact("set", what, why)
    }
}

impl Explained {
    pub(super) fn none() -> Self {
        let why = "nothing is isolated: a command reads, writes and reaches what the agent's user \
                   may";
        Self {
            backend: Backend::None,
            facts: vec![fact("denied", "nothing", why)],
        }
    }

    pub(super) fn of(plan: &Plan, whole: Vec<Fact>) -> Self {
        let mut facts = shown(&plan.mounts);
        facts.extend(plan.layers.iter().map(layers));
        let links = plan.links.iter();
        facts.extend(links.map(|(link, target)| {
            fact(
                "made",
                link.display(),
                format!("link to {}", target.display()),
            )
        }));
        facts.extend(made(plan));
        facts.extend(whole);
        facts.extend(denied(plan));
        Self {
            backend: Backend::Namespace,
            facts,
        }
    }
}

fn layers(layers: &Layers) -> Fact {
    let below = layers.below.iter().map(|it| it.display().to_string());
    let below = below.collect::<Vec<_>>().join(", then ");
    let why = format!("what it has not is seen of {below}, which no command changes");
    fact("made", format!("{WORKSPACE}, an overlay"), why)
}

/// What is shown of the host.
pub(super) fn shown(mounts: &[Mount]) -> Vec<Fact> {
    let shown = |mount: &Mount| {
        let (source, target) = (mount.source.display(), mount.target.display());
        let access = match mount.access {
            Access::ReadOnly => "read-only",
            Access::Writable => "writable",
        };
        let from = if mount.source == mount.target {
            String::new()
        } else {
            format!(", from {source}")
        };
        fact("shown", target, format!("{access}{from}: {}", mount.why))
    };
    mounts.iter().map(shown).collect()
}

fn made(plan: &Plan) -> Vec<Fact> {
    let (tmp, shm) = plan.memory_folders;
    let limits = plan.limits;
    let user = plan.user.map_or_else(
        || "the agent's own user outside".to_owned(),
        |user| {
            format!(
                "{}:{} outside, because the agent is root",
                user.uid, user.gid
            )
        },
    );
    vec![
        fact("made", "/tmp", format!("in memory, {} MiB", tmp >> 20)),
        fact("made", "/dev/shm", format!("in memory, {} MiB", shm >> 20)),
        fact(
            "made",
            "/dev",
            "null, zero, full, random, urandom, tty, pts",
        ),
        fact("made", "/proc", "of its own process namespace"),
        fact(
            "made",
            "/etc/passwd",
            "and group, hosts, nsswitch.conf: no user of the host",
        ),
        fact("set", "user", format!("{INNER_USER} inside, {user}")),
        fact(
            "set",
            "folder",
            format!("{WORKSPACE}; HOME={HOME}, TMPDIR=/tmp"),
        ),
        fact(
            "set",
            "file size",
            format!("{} MiB", limits.file_size >> 20),
        ),
        fact("set", "open files", limits.open_files),
    ]
}

/// A limit of the run as a whole.
pub(super) fn limit(name: &str, much: impl std::fmt::Display, missing: Option<&str>) -> Fact {
    match missing {
        None => fact("set", name, much),
        Some(why) => fact("missing", name, format!("{much} is not enforced: {why}")),
    }
}

/// What is reached of the network.
pub(super) fn network(network: Network) -> Fact {
    let own = "a namespace of its own, with a loopback only";
    match network {
        Network::Host => fact("set", "network", "the host's, because this run is given it"),
        Network::Nothing => fact("denied", "network", own),
        Network::Allowed | Network::Model => {
            let why = format!("{own}, where 127.0.0.1:{PROXY_PORT} leads to {network}");
            fact("denied", "network", why)
        }
    }
}

fn denied(plan: &Plan) -> Vec<Fact> {
    vec![
        network(plan.network),
        fact("denied", "other files", "they are not there"),
        fact(
            "denied",
            "other processes",
            "a process namespace of its own, and Landlock",
        ),
        fact(
            "denied",
            "writing elsewhere",
            "read-only mounts, and Landlock",
        ),
        fact(
            "denied",
            "capabilities",
            "all dropped, and no new privileges",
        ),
        fact(
            "denied",
            "system calls",
            "io_uring, ptrace, bpf, keys, mounts, namespaces, modules and more (EPERM)",
        ),
        fact(
            "denied",
            "sockets",
            "but those of AF_UNIX, AF_INET, AF_INET6 and routes",
        ),
        fact(
            "denied",
            "terminal",
            "a session of its own, and nothing on standard input",
        ),
    ]
}

fn fact(kind: &'static str, what: impl ToString, why: impl ToString) -> Fact {
    Fact {
        kind,
        what: what.to_string(),
        why: why.to_string(),
    }
}
