//! Whether containers are to be had and keep runs apart, and what they are made of.

use std::path::PathBuf;
use std::sync::PoisonError;

use tokio_util::sync::CancellationToken;

use super::Container;
use super::program::Program;
use crate::process::SpawnError;
use crate::sandbox::explain::{self, Explained, Fact};
use crate::sandbox::fitness::{self, CantIsolate};
use crate::sandbox::plan::{HOME, Plan, PlanError, User, WORKSPACE};
use crate::sandbox::settings::Backend;
use crate::sandbox::{Limit, Network, Ran, Run, SandboxError, make_private, stage};

impl Container {
    /// The image's id. It is looked up once.
    ///
    /// # Errors
    /// When there is no engine, or no such image and none is to be pulled.
    pub(super) async fn image(&self) -> Result<String, CantIsolate> {
        let known = self.known_image();
        if let Some(known) = known {
            return Ok(known);
        }
        let name = &self.config.image;
        let engine = self.engine.name();
        self.engine.version().await.map_err(|error| match error {
            SpawnError::NotFound { .. } => CantIsolate::NoEngine {
                engine: engine.clone(),
            },
            other => self.unfit(other),
        })?;
        let mut found = self.find(name).await?;
        if found.is_none() && self.config.pull {
            tracing::info!(image = name, "the image of containers is pulled");
            let pulled = self.engine.pull(name).await;
            pulled.map_err(|why| self.unfit(format!("{name} can't be pulled: {why}")))?;
            found = self.find(name).await?;
        }
        let found = found.ok_or_else(|| CantIsolate::NoImage {
            engine,
            image: name.clone(),
        })?;
        let mut image = self.image.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(image.insert(found).clone())
    }

    async fn find(&self, name: &str) -> Result<Option<String>, CantIsolate> {
        let found = self.engine.image(name).await;
        found.map_err(|why| self.unfit(why))
    }

    fn known_image(&self) -> Option<String> {
        let image = self.image.lock().unwrap_or_else(PoisonError::into_inner);
        image.clone()
    }

    fn unfit(&self, why: impl ToString) -> CantIsolate {
        CantIsolate::Engine {
            engine: self.engine.name(),
            why: why.to_string(),
        }
    }

    /// Runs the canary, which looks at its container from inside.
    pub(in crate::sandbox) async fn check(&self) -> Result<(), CantIsolate> {
        self.image().await?;
        let place = fitness::Place::new()?;
        let hidden = place.hidden()?.display().to_string();
        let ran = self.run_own(&place, &[stage::CANARY, &hidden]).await?;
        let missing = Limit::ALL.into_iter();
        let missing = missing.filter(|it| ran.limits_not_enforced.contains(&it.as_str()));
        let missing = missing.collect();
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = missing;
        fitness::judge(&ran.finished, &place)
    }

    /// Whether the image has a program, on its PATH or by an absolute path.
    pub(in crate::sandbox) async fn has(&self, program: &str) -> Result<bool, CantIsolate> {
        self.image().await?;
        let place = fitness::Place::new()?;
        let ran = self.run_own(&place, &[stage::WHICH, program]).await?;
        Ok(ran.finished.succeeded())
    }

    /// Runs a stage of this program in a container, as the command.
    async fn run_own(&self, place: &fitness::Place, args: &[&str]) -> Result<Ran, CantIsolate> {
        let unfit = |error: SandboxError| match error {
            SandboxError::Broken { why } => self.unfit(why),
            other => self.unfit(other),
        };
        make_private(place.private()).await.map_err(unfit)?;
        let program = Program::find(place.private());
        let mut command = program.map_err(|error| self.unfit(error))?.words;
        command.extend(args.iter().map(|&it| it.to_owned()));
        let run = Run {
            timeout: fitness::PATIENCE,
            ..Run::new(&command, place.tree(), place.private())
        };
        let ran = self.run(run, &CancellationToken::new()).await;
        ran.map_err(unfit)
    }

    /// The engine and the image, in words.
    pub(in crate::sandbox) async fn what(&self) -> String {
        let version = self.engine.version().await;
        let version = version.map_or_else(|_| self.engine.name(), str::to_owned);
        let id = self.known_image().unwrap_or_default();
        let id = id.rsplit(':').next().unwrap_or_default();
        let short: String = id.chars().take(12).collect();
        format!("{version}, image {} ({short})", self.config.image)
    }

    /// Limits that containers of this engine were seen not to have, and why that is known.
    pub(in crate::sandbox) fn missing(&self) -> Vec<(Limit, String)> {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        let why = format!(
            "`{}` gave a container no control group with this limit, or none that is seen here",
            self.engine.name()
        );
        missing.iter().map(|limit| (*limit, why.clone())).collect()
    }

    /// Lines that differ where a command might make something else in a container.
    pub(in crate::sandbox) fn identity(&self) -> Vec<String> {
        let runtime = self.config.runtime.as_deref().unwrap_or("the engine's own");
        let image = self.known_image();
        vec![
            // One that was never looked up is like no other.
            format!(
                "image {}",
                image.unwrap_or_else(|| uuid::Uuid::now_v7().to_string())
            ),
            format!("runtime {runtime}"),
            format!("user {:?}", self.user),
        ]
    }

    /// Files and folders of the host that every run sees.
    pub(in crate::sandbox) fn shown(&self) -> &[PathBuf] {
        &self.read_only
    }

    /// What a run would see and may do.
    pub(in crate::sandbox) fn explain(&self, run: &Run<'_>) -> Result<Explained, PlanError> {
        let plan = self.plan(run)?;
        let mut facts = explain::shown(&plan.mounts);
        facts.extend(self.set(&plan));
        facts.push(explain::network(run.reach.network()));
        facts.extend([
            Fact::denied("other files", "only the image's are there"),
            Fact::denied("writing elsewhere", "the image is read-only, and Landlock"),
            Fact::denied(
                "other processes",
                "a process namespace of its own, and Landlock",
            ),
            Fact::denied("capabilities", "all dropped, and no new privileges"),
            Fact::denied(
                "system calls",
                "those that the engine refuses, and those of the backend `namespace`",
            ),
            Fact::denied("terminal", "nothing on standard input"),
        ]);
        Ok(Explained {
            backend: Backend::Container,
            facts,
        })
    }

    fn set(&self, plan: &Plan) -> Vec<Fact> {
        let config = &self.config;
        let User { uid, gid } = self.user;
        let (tmp, shm) = plan.memory_folders;
        let image = format!("{}, run by `{}`", config.image, self.engine.name());
        let runtime = config.runtime.as_deref().unwrap_or("the engine's own");
        let disk = format!("{} MiB in the folders that it may write", self.disk_mib);
        let mut facts = vec![
            Fact::set("image", image),
            Fact::set("runtime", runtime),
            Fact::set("user", format!("{uid}:{gid}, inside and outside")),
            Fact::set("folder", format!("{WORKSPACE}; HOME={HOME}, TMPDIR=/tmp")),
            Fact::set("/tmp", format!("in memory, {} MiB", tmp >> 20)),
            Fact::set("/dev/shm", format!("in memory, {} MiB", shm >> 20)),
            Fact::set("memory", format!("{} MiB, without swap", config.memory_mib)),
            Fact::set("processors", config.cpus),
            Fact::set("processes", config.processes),
            Fact::set("file size", format!("{} MiB", plan.limits.file_size >> 20)),
            Fact::set("open files", plan.limits.open_files),
            Fact::set("disk", disk),
        ];
        if plan.network != Network::Host {
            let why = "and group, hosts, nsswitch.conf, resolv.conf: nothing of the host's";
            facts.push(Fact::set("/etc/passwd", why));
        }
        facts
    }
}
