//! This agent as a member of the fleet: what it says of itself, and what it takes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use patchfleet_domain::{AgentState, TaskKind, Work};
use patchfleet_proto::{PROTOCOL, v1};
use secrecy::ExposeSecret as _;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::config::AgentConfig;
use crate::draft::Drafter;
use crate::fitness::Fitness;
use crate::host::HostLoad;
use crate::host_paths::HostPaths;
use crate::job::{self, Job};
use crate::sandbox::Sandbox;
use crate::second_models::Reviewer;
use crate::second_models::Summarizer;
use crate::session::ShowKey;
use crate::session::desk::Desk;
use crate::session::reporter::Reporter;
use crate::workspace::Workspaces;

/// One agent's state, shared by its session and its jobs.
pub(crate) struct Member {
    pub(crate) config: AgentConfig,
    pub(crate) key: ShowKey,
    pub(crate) desk: Arc<Desk>,
    pub(crate) workspaces: Workspaces,
    pub(crate) jobs: TaskTracker,
    /// The disk was found full.
    pub(crate) disk_pressure: Notify,
    /// An attempt ended, so that more can be removed than before.
    pub(crate) attempt_ended: Notify,
    pub(crate) fitness: Fitness,
    /// What is not for others to read.
    pub(crate) paths: Arc<HostPaths>,
    /// Where drafts come from.
    pub(crate) drafter: Drafter,
    /// A second model that reviews what the rules let pass.
    pub(crate) reviewer: Option<Reviewer>,
    /// A second model that puts changes into words.
    pub(crate) summarizer: Option<Summarizer>,
    /// Where commands of repositories run.
    pub(crate) sandbox: Sandbox,
    instance: Uuid,
    draining: AtomicBool,
    /// There is a stream that the coordinator welcomed.
    connected: AtomicBool,
    /// There was one at some time.
    admitted: AtomicBool,
}

/// A stream that the coordinator welcomed; the agent counts as connected until it is dropped.
pub(crate) struct Connected<'a>(&'a Member);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.connected.store(false, Ordering::Relaxed);
    }
}

impl Member {
    pub(crate) fn new(
        config: AgentConfig,
        workspaces: Workspaces,
        sandbox: Sandbox,
    ) -> anyhow::Result<Self> {
        let key = config.coordinator.key.reveal("agents.coordinator.key")?;
        Ok(Self {
            key: ShowKey::new(key.expose_secret())?,
            desk: Arc::default(),
            workspaces,
            jobs: TaskTracker::new(),
            disk_pressure: Notify::new(),
            attempt_ended: Notify::new(),
            instance: Uuid::now_v7(),
            paths: Arc::new(HostPaths::of(&config)),
            drafter: Drafter::new(&config.draft, &sandbox)?,
            reviewer: config.review.as_ref().map(Reviewer::new).transpose()?,
            summarizer: config.summary.as_ref().map(Summarizer::new).transpose()?,
            fitness: Fitness::of(&config, sandbox.clone()),
            sandbox,
            draining: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            admitted: AtomicBool::new(false),
            config,
        })
    }

    /// Takes nothing new from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.desk.news.notify_one();
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Says that the coordinator welcomed a stream.
    pub(crate) fn connected(&self) -> Connected<'_> {
        self.connected.store(true, Ordering::Relaxed);
        self.admitted.store(true, Ordering::Relaxed);
        Connected(self)
    }

    /// True when the coordinator welcomed this process before.
    pub(crate) fn was_admitted(&self) -> bool {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Why it is not ready for tasks; nothing when it is. Anybody may read it.
    pub(crate) fn obstacles(&self) -> Vec<&'static str> {
        let is_connected = self.connected.load(Ordering::Relaxed);
        let is_unfit = self.fitness.fault().is_some();
        let all = [
            (!is_connected, "the coordinator is not connected"),
            (is_unfit, "the host is unfit to work; /status says why"),
            (self.is_draining(), "the agent is draining"),
        ];
        all.into_iter()
            .filter_map(|(holds, why)| holds.then_some(why))
            .collect()
    }

    /// Who this is, and what it is working on.
    pub(crate) fn register(&self) -> v1::Register {
        let config = &self.config;
        v1::Register {
            agent_id: config.id.to_string(),
            agent_type: config.agent_type.to_string(),
            capabilities: config
                .offered_capabilities()
                .into_iter()
                .map(Into::into)
                .collect(),
            clearance: config.clearance.to_string(),
            slots: config.slots,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            instance: self.instance.to_string(),
            resume: self.desk.works().into_iter().map(Into::into).collect(),
            // While it takes tasks, its attempts say whether it is idle.
            state: self
                .unfit()
                .map_or_else(String::new, |(state, _)| state.to_string()),
            reason: self
                .unfit()
                .map_or_else(String::new, |(_, reason)| self.paths.hide(&reason)),
        }
    }

    /// How it is doing.
    pub(crate) async fn heartbeat(&self) -> v1::Heartbeat {
        let host = HostLoad::now(&self.config.workspace.root);
        if host.disk_is_full {
            self.disk_pressure.notify_one();
        }
        let working = self.desk.working();
        let pressure = || Some((AgentState::Overloaded, host.pressure()?.to_owned()));
        let (state, reason) = self.unfit().or_else(pressure).unwrap_or_else(|| {
            let state = if working == 0 {
                AgentState::Idle
            } else {
                AgentState::Busy
            };
            (state, String::new())
        });
        let warm = self.workspaces.warm_repositories().await;
        v1::Heartbeat {
            state: state.to_string(),
            load: host.load,
            free_slots: self.slots().saturating_sub(working),
            warm_repositories: warm.iter().map(ToString::to_string).collect(),
            current: self.desk.works().into_iter().map(Into::into).collect(),
            reason,
        }
    }

    /// Why it takes nothing whatever the host's load is, if that is so.
    fn unfit(&self) -> Option<(AgentState, String)> {
        if self.is_draining() {
            return Some((AgentState::Maintenance, "the agent is draining".to_owned()));
        }
        Some((AgentState::Error, self.fitness.fault()?))
    }

    /// How many tasks it runs at once at the moment.
    fn slots(&self) -> u32 {
        self.fitness.slots(self.config.slots)
    }

    /// Takes an assignment on, or refuses it. One that is here already was said twice.
    pub(crate) fn assigned(self: &Arc<Self>, assign: v1::Assign) -> anyhow::Result<()> {
        let work: Work = assign
            .work
            .clone()
            .context("an assignment names no work")?
            .try_into()?;
        let refusal = self.refusal(&assign);
        let Some(cancel) = self.desk.open(work, refusal.is_none()) else {
            return Ok(());
        };
        let spent = assign.spent.as_ref().map(Into::into).unwrap_or_default();
        let reporter = Reporter::new(Arc::clone(&self.desk), Arc::clone(&self.paths), work);
        let reporter = reporter.after(spent);
        if let Some(reason) = refusal {
            tracing::info!(task.id = %work.task, attempt = work.attempt.0, reason, "refused");
            reporter.refuse(reason);
            return Ok(());
        }
        reporter.accept();
        let job = Job {
            member: Arc::clone(self),
            reporter,
            assign,
            cancel,
            drafted: Arc::default(),
        };
        let member = Arc::clone(self);
        self.jobs.spawn(async move {
            job::run(job).await;
            member.attempt_ended.notify_one();
        });
        Ok(())
    }

    fn refusal(&self, assign: &v1::Assign) -> Option<String> {
        let kind = assign.task.as_ref().map(|task| task.kind.as_str());
        if let Some((_, reason)) = self.unfit() {
            Some(reason)
        } else if self.desk.working() >= self.slots() {
            Some("no slot is free".to_owned())
        } else if kind != Some(TaskKind::Issue.as_str()) {
            Some(format!(
                "tasks of kind `{}` are not for this agent",
                kind.unwrap_or("none")
            ))
        } else {
            None
        }
    }
}
