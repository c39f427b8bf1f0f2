//! The command line of an engine for one container. Pure.
//!
//! Nothing of the command is in it, nor of its variables: every user of the host may read it, and
//! engines write it down.

use std::ffi::OsString;
use std::path::Path;

use super::settings::ContainerConfig;
use crate::sandbox::Network;
use crate::sandbox::plan::{Access, Mount, User};

/// The label by which containers of agents are found, with the mark of the one that made it.
pub(super) const LABEL: &str = "patchfleet.mark";

/// A container to be.
pub(super) struct Launch<'a> {
    pub(super) name: &'a str,
    /// Where the engine writes its id.
    pub(super) id_file: &'a Path,
    pub(super) mark: &'a str,
    /// The id of the image.
    pub(super) image: &'a str,
    pub(super) config: &'a ContainerConfig,
    /// The engine is Podman, which has options of its own.
    pub(super) is_podman: bool,
    /// The user of the host that the command is.
    pub(super) user: User,
    /// The agent is root, and the engine maps no users.
    pub(super) is_root: bool,
    pub(super) mounts: &'a [Mount],
    pub(super) network: Network,
    pub(super) open_files: u64,
    /// Bytes of `/tmp` and of `/dev/shm`, both in memory.
    pub(super) memory_folders: (u64, u64),
    /// What the first process is started by.
    pub(super) words: &'a [String],
}

impl Launch<'_> {
    /// The arguments of the engine; a path that can't be said in them is given back.
    pub(super) fn arguments(&self) -> Result<Vec<OsString>, &Path> {
        let mut all = Arguments::default();
        all.words(&["run", "--rm", "--name", self.name, "--pull", "never"]);
        all.words(&["--cidfile"]);
        all.0.push(self.id_file.into());
        all.option("--label", &format!("{LABEL}={}", self.mark));
        if let Some(runtime) = &self.config.runtime {
            all.option("--runtime", runtime);
        }
        // What it says is the agent's to keep, and to cut.
        all.words(&["--log-driver", "none", "--no-healthcheck"]);
        // Who is asked to end is the container as a whole, and by the agent only.
        all.words(&["--sig-proxy=false", "--stop-signal", "KILL"]);
        self.confinement(&mut all);
        self.limits(&mut all);
        for mount in self.mounts {
            all.mount(mount)?;
        }
        all.words(&["--workdir", "/"]);
        // The image's own entry point is not asked for.
        if let Some((program, arguments)) = self.words.split_first() {
            all.option("--entrypoint", program);
            all.words(&[self.image]);
            for word in arguments {
                all.words(&[word]);
            }
        }
        Ok(all.0)
    }

    fn confinement(&self, all: &mut Arguments) {
        let network = match self.network {
            Network::Host => "host",
            Network::Nothing | Network::Allowed | Network::Model => "none",
        };
        all.words(&["--network", network, "--hostname", "sandbox"]);
        all.words(&["--read-only", "--cap-drop", "ALL"]);
        all.words(&["--security-opt", "no-new-privileges"]);
        let User { uid, gid } = self.user;
        all.option("--user", &format!("{uid}:{gid}"));
        if self.is_podman {
            // Otherwise it makes folders that can be written, in memory and without a size.
            all.words(&["--read-only-tmpfs=false", "--log-level", "error"]);
            if !self.is_root {
                all.words(&["--userns", "keep-id"]);
            }
        }
    }

    fn limits(&self, all: &mut Arguments) {
        let config = self.config;
        let memory = format!("{}m", config.memory_mib);
        // As much with swap as without: none.
        all.words(&["--memory", &memory, "--memory-swap", &memory]);
        all.option("--cpus", &config.cpus.to_string());
        all.option("--pids-limit", &config.processes.to_string());
        // Engines have defaults that a host may refuse. The first process sets what is lower.
        let files = self.open_files;
        all.option("--ulimit", &format!("nofile={files}:{files}"));
        let processes = config.processes.saturating_mul(4);
        all.option("--ulimit", &format!("nproc={processes}:{processes}"));
        all.option("--ulimit", "core=0:0");
        let (tmp, shm) = self.memory_folders;
        // Podman would copy what the image has there.
        let is_new = if self.is_podman { ",notmpcopyup" } else { "" };
        let tmp = format!("/tmp:rw,nosuid,nodev,exec,mode=1777,size={tmp}{is_new}");
        all.option("--tmpfs", &tmp);
        all.option("--shm-size", &shm.to_string());
    }
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn words(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(OsString::from));
    }

    /// In one word, so that no value is taken for an option.
    fn option(&mut self, name: &str, value: &str) {
        self.0.push(format!("{name}={value}").into());
    }

    /// Engines read a list with commas and quotes; a path with one of them would be another one.
    fn mount<'a>(&mut self, mount: &'a Mount) -> Result<(), &'a Path> {
        let plain = |path: &'a Path| {
            let text = path.to_str().ok_or(path)?;
            let is_plain = !text.contains([',', '"', '\n']);
            if is_plain { Ok(text) } else { Err(path) }
        };
        let (source, target) = (plain(&mount.source)?, plain(&mount.target)?);
        let access = match mount.access {
            Access::ReadOnly => ",readonly",
            Access::Writable => "",
        };
        self.option(
            "--mount",
            &format!("type=bind,source={source},target={target}{access}"),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::plan::WORKSPACE;

    fn arguments(mounts: &[Mount], network: Network, is_root: bool) -> Option<String> {
        let config = ContainerConfig {
            runtime: Some("runsc".to_owned()),
            ..ContainerConfig::default()
        };
        let words = ["/run/patchfleet/sandbox", "sandbox-contained"].map(str::to_owned);
        let launch = Launch {
            name: "patchfleet-1",
            id_file: Path::new("/w/id"),
            mark: "4:1:2:3",
            image: "0123456789ab",
            config: &config,
            is_podman: !is_root,
            user: User {
                uid: 65534,
                gid: 65533,
            },
            is_root,
            mounts,
            network,
            open_files: 64,
            memory_folders: (384 << 20, 128 << 20),
            words: &words,
        };
        let all = launch.arguments().ok()?;
        let words: Vec<_> = all.iter().map(|it| it.to_str().unwrap()).collect();
        Some(words.join(" "))
    }

    #[test]
    fn a_container_is_given_what_it_needs_and_nothing_else() {
        let tree = Mount::writable("/w/tree", WORKSPACE, "the work tree");
        let shown = Mount::read_only("/w/objects", "objects");
        let all = arguments(&[tree, shown], Network::Nothing, true).unwrap();
        insta::assert_snapshot!(all.replace(" --", "\n--"), @r"
        run
        --rm
        --name patchfleet-1
        --pull never
        --cidfile /w/id
        --label=patchfleet.mark=4:1:2:3
        --runtime=runsc
        --log-driver none
        --no-healthcheck
        --sig-proxy=false
        --stop-signal KILL
        --network none
        --hostname sandbox
        --read-only
        --cap-drop ALL
        --security-opt no-new-privileges
        --user=65534:65533
        --memory 1024m
        --memory-swap 1024m
        --cpus=0.5
        --pids-limit=256
        --ulimit=nofile=64:64
        --ulimit=nproc=1024:1024
        --ulimit=core=0:0
        --tmpfs=/tmp:rw,nosuid,nodev,exec,mode=1777,size=402653184
        --shm-size=134217728
        --mount=type=bind,source=/w/tree,target=/workspace
        --mount=type=bind,source=/w/objects,target=/w/objects,readonly
        --workdir /
        --entrypoint=/run/patchfleet/sandbox 0123456789ab sandbox-contained
        ");
    }

    #[test]
    fn a_proxy_is_no_network_and_the_hosts_is_one() {
        for network in [Network::Nothing, Network::Allowed, Network::Model] {
            let text = arguments(&[], network, true).unwrap();
            assert!(text.contains("--network none "), "{text}");
        }
        let text = arguments(&[], Network::Host, true).unwrap();
        assert!(text.contains("--network host "), "{text}");
    }

    #[test]
    fn podman_is_asked_for_what_docker_does_by_itself() {
        let text = arguments(&[], Network::Nothing, false).unwrap();
        assert!(text.contains("--userns keep-id"), "{text}");
        assert!(text.contains("--read-only-tmpfs=false"), "{text}");
        assert!(text.contains(",notmpcopyup"), "{text}");
    }

    #[test]
    fn a_path_that_an_engine_would_read_as_another_one_is_refused() {
        for path in ["/w/a,target=/etc", "/w/a\"b", "/w/a\nb"] {
            assert_eq!(
                arguments(&[Mount::read_only(path, "")], Network::Nothing, true),
                None,
                "{path}"
            );
        }
    }
}
