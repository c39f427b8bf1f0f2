//! What a container is made of: mounts, files that are made for it, and the order for its first
//! process.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use uuid::Uuid;

use super::arguments::Launch;
use super::control::{self, Control, Order};
use super::program::Program;
use super::{Container, Made, broken};
use crate::process;
use crate::sandbox::plan::{self, Access, HOME, Mount, OWN, PROXY_PORT, Plan, PlanError};
use crate::sandbox::{COMMON, Network, Run, SandboxError, egress, owner, stage, system};

/// A container to be, with all that it needs.
pub(super) struct Prepared<'a> {
    pub(super) made: Made<'a>,
    pub(super) arguments: Vec<OsString>,
    pub(super) control: Control,
    pub(super) order: Order,
}

impl Container {
    /// What a run sees of the host and may do, without what the first process needs.
    pub(super) fn plan(&self, run: &Run<'_>) -> Result<Plan, PlanError> {
        let mut mounts = Vec::new();
        let wanted = self.read_only.iter();
        mounts.extend(wanted.map(|path| Mount::read_only(path, "`sandbox.read_only`")));
        mounts.extend(plan::own_mounts(run)?);
        let network = run.reach.network();
        // Memory folders count as memory of the run, so that they get a part of it.
        let memory = self.config.memory_mib << 20;
        Ok(Plan {
            bubblewrap: PathBuf::new(),
            user: self.other_user(),
            mounts: plan::ordered(mounts)?,
            layers: None,
            links: Vec::new(),
            folder: run.folder.to_owned(),
            network,
            memory_folders: (memory / 8 * 3, memory / 8),
            limits: self.limits,
            program: Vec::new(),
            needs_landlock: false,
            groups: Vec::new(),
            command: run.command.to_vec(),
        })
    }

    /// Makes all that a container needs but the container.
    pub(super) async fn prepare(&self, run: &Run<'_>) -> Result<Prepared<'_>, SandboxError> {
        let mut plan = self.plan(run)?;
        if !run.over.is_empty() {
            return Err(broken("an engine mounts no overlays".to_owned()));
        }
        refuse_links(&plan.mounts)?;
        let image = self.image().await;
        let image = image.map_err(|why| broken(format!("{why}; {}", why.mend())))?;
        owner::own(self.other_user(), run).await?;
        let name = format!("patchfleet-{}", Uuid::now_v7());
        let made = Made {
            folder: run.private.join(&name),
            container: self,
            name,
            is_removed: false,
        };
        let failed = |error: io::Error| broken(format!("the container's files: {error}"));
        fs::create_dir(&made.folder).map_err(failed)?;
        let program = Program::find(&made.folder).map_err(failed)?;
        let control = Control::bind(&made.folder).map_err(failed)?;
        let mut mounts = plan.mounts.clone();
        let own = self.own_mounts(&made.folder, &plan, &program.mounts);
        mounts.extend(own.map_err(failed)?);
        plan.program.clone_from(&program.words);
        let mut words = program.words;
        words.push(stage::CONTAINED.to_owned());
        let launch = Launch {
            name: &made.name,
            id_file: &made.id_file(),
            mark: &process::new_mark().map_err(failed)?,
            image: &image,
            config: &self.config,
            is_podman: self.engine.is_podman().await?,
            user: self.user,
            is_root: self.is_root,
            mounts: &mounts,
            network: plan.network,
            open_files: plan.limits.open_files,
            memory_folders: plan.memory_folders,
            words: &words,
        };
        let arguments = launch.arguments().map_err(|path| PlanError::Separator {
            path: path.to_owned(),
        })?;
        let (env, input) = (environment(run), run.input.clone());
        Ok(Prepared {
            made,
            arguments,
            control,
            order: Order { plan, input, env },
        })
    }

    /// What the first process needs, and files that are made for every sandbox.
    fn own_mounts(&self, folder: &Path, plan: &Plan, program: &[Mount]) -> io::Result<Vec<Mount>> {
        let mut mounts = program.to_vec();
        mounts.push(Mount {
            source: folder.join(control::NAME),
            ..Mount::read_only(Path::new(OWN).join(control::NAME), "its way to the agent")
        });
        let files = system::files(self.user, plan.network == Network::Host);
        for (number, (target, content)) in files.into_iter().enumerate() {
            let is_shown = |mount: &Mount| target.starts_with(&mount.target);
            if plan.mounts.iter().any(is_shown) {
                continue;
            }
            let source = folder.join(number.to_string());
            fs::write(&source, content)?;
            // Whatever the agent's mask is.
            fs::set_permissions(&source, fs::Permissions::from_mode(0o444))?;
            mounts.push(Mount {
                source,
                ..Mount::read_only(target, "made for it")
            });
        }
        Ok(mounts)
    }
}

/// The command's variables besides those of the image.
fn environment(run: &Run<'_>) -> Vec<(String, String)> {
    let own = [("HOME", HOME), ("TMPDIR", "/tmp")];
    let own = own.into_iter().chain(COMMON);
    let mut all: Vec<_> = own
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if run.reach.network() == Network::Allowed {
        all.extend(egress::proxy_variables(PROXY_PORT));
    }
    all.extend(run.env.iter().cloned());
    all
}

/// An engine follows links, and mounts what they lead to.
fn refuse_links(mounts: &[Mount]) -> Result<(), SandboxError> {
    let mut writable = mounts.iter().filter(|it| it.access == Access::Writable);
    let is_other =
        |mount: &&Mount| !fs::symlink_metadata(&mount.source).is_ok_and(|it| it.is_dir());
    match writable.find(is_other) {
        None => Ok(()),
        Some(mount) => {
            let source = mount.source.display();
            Err(broken(format!("{source} can't be shown: it is no folder")))
        }
    }
}
