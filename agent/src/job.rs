//! One task, from its assignment to its outcome, top to bottom.

mod github;
mod logs;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt as _;
use patchfleet_domain::outcome::{Failure, FailureKind, Outcome};
use patchfleet_domain::{IssueNumber, Phase, RepositoryName};
use patchfleet_flow::{Checkpoint, Context, Engine, Run, RunError};
use patchfleet_proto::v1;
use patchfleet_repository::{Author, RepositoryConfig};
use patchfleet_telemetry::trace;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, field};

use crate::fitness::Attempted;
use crate::git::Remote;
use crate::job::github::TaskGitHub;
use crate::job::watch::Watch;
use crate::member::Member;
use crate::model::Budgets;
use crate::model::kept_work::KeptWork;
use crate::model::recorded::{Turns, is_turn};
use crate::nodes::{self, NodeDeps, Publishing, TaskFacts, TaskLog, TestPolicy};
use crate::patience::Patience;
use crate::process::find_program;
use crate::sandbox::Sandbox;
use crate::sandbox::egress::HostNetwork;
use crate::session::desk::Stop;
use crate::session::reporter::Reporter;
use crate::setup::{ContentsFetch, Setup, SetupReport, StepReport};
use crate::workspace::{Checkout, CloneMode, Workspace};

/// Lines of output on their way to the coordinator.
const LOG_LINES: usize = 1024;
/// An assignment that was accepted.
pub(crate) struct Job {
    pub(crate) member: Arc<Member>,
    pub(crate) reporter: Reporter,
    pub(crate) assign: v1::Assign,
    pub(crate) cancel: CancellationToken,
    /// A draft was made in this attempt, or in an earlier one.
    pub(crate) drafted: Arc<AtomicBool>,
}

/// Does the work and reports how it ended, whatever happens on the way.
pub(crate) async fn run(job: Job) {
    let reporter = job.reporter.clone();
    let work = reporter.work();
    let agent = job.member.config.id.clone();
    let kind = job.assign.task.as_ref().map(|task| task.kind.clone());
    let span = tracing::info_span!(
        target: trace::TARGET, "task_execution", task.id = %work.task, task.type = kind,
        attempt = work.attempt.0, agent.id = %agent, trace_id = field::Empty
    );
    trace::follow(&span, Some(&job.assign.traceparent));
    let (member, drafted) = (Arc::clone(&job.member), Arc::clone(&job.drafted));
    let repository = job.assign.task.as_ref().map(|task| task.repository.clone());
    let guarded = std::panic::AssertUnwindSafe(attempt(job))
        .catch_unwind()
        .instrument(span.clone());
    let outcome = guarded.await.unwrap_or_else(|_| {
        tracing::error!(task.id = %work.task, "the job panicked");
        Outcome::Failed(failure(
            FailureKind::Internal,
            "the agent stumbled over a fault of its own",
        ))
    });
    let outcome = match reporter.stopped() {
        Some(Stop::Cancelled) => Outcome::Cancelled { by_operator: false },
        // A pull request that is open by then is open; whoever called the task off can close it.
        Some(Stop::CalledOff) if !matches!(outcome, Outcome::PullRequest { .. }) => {
            Outcome::Cancelled { by_operator: true }
        }
        Some(Stop::Interrupted) if matches!(outcome, Outcome::Cancelled { .. }) => Outcome::Failed(
            failure(FailureKind::Interrupted, "the agent was told to end"),
        ),
        _ => outcome,
    };
    let outcome = redacted(outcome);
    let attempted = Attempted {
        task: work.task,
        repository: repository.unwrap_or_default(),
        drafted: drafted.load(Ordering::Relaxed),
    };
    let outcome = judged(&member, outcome, &attempted).await;
    if let Outcome::Failed(failure) = &outcome {
        let (kind, reason) = (failure.kind, &failure.message);
        // With the paths of this host, which are not for whoever reads the task's comments.
        tracing::warn!(task.id = %work.task, attempt = work.attempt.0, %kind, reason, "the attempt failed");
        trace::failed(&span, &format!("{kind}: {reason}"));
    }
    drop(span);
    reporter.free();
    if reporter.finished(outcome).await.is_err() {
        tracing::info!(task.id = %work.task, "the attempt ended elsewhere; its result counts for nothing");
    }
}

/// The outcome with the failure told as the host's where it is the host's.
async fn judged(member: &Member, outcome: Outcome, attempted: &Attempted) -> Outcome {
    match outcome {
        Outcome::Failed(failure) => Outcome::Failed(member.fitness.judge(failure, attempted).await),
        Outcome::PullRequest { .. } | Outcome::Answer { .. } => {
            member.fitness.works();
            outcome
        }
        Outcome::Cancelled { .. } => outcome,
    }
}

/// The outcome as it may leave: what people read in it holds no secret.
fn redacted(mut outcome: Outcome) -> Outcome {
    for text in outcome.texts_mut() {
        *text = patchfleet_guard::redact(text).into_owned();
    }
    outcome
}

/// A failure that another attempt may mend, with what was checkpointed.
fn failure(kind: FailureKind, message: &str) -> Failure {
    Failure {
        kind,
        message: message.to_owned(),
        retryable: true,
        discard_checkpoints: false,
    }
}

async fn attempt(job: Job) -> Outcome {
    let (lines, received) = mpsc::channel(LOG_LINES);
    let log = TaskLog::new(lines);
    let worked = CancellationToken::new();
    let pump = logs::pump(
        received,
        (log.clone(), job.reporter.clone()),
        worked.clone(),
    );
    let done = worked.drop_guard();
    let work = async move {
        let _done = done;
        let result = work_on(&job, log).await;
        let stopped = Outcome::Cancelled { by_operator: false };
        result.unwrap_or_else(|ended| ended.map_or(stopped, Outcome::Failed))
    };
    let (outcome, ()) = tokio::join!(work, pump);
    outcome
}

/// The error is a failure, or nothing when the work was called off.
async fn work_on(job: &Job, log: TaskLog) -> Result<Outcome, Option<Failure>> {
    let task = job
        .assign
        .task
        .clone()
        .ok_or_else(|| failure(FailureKind::Internal, "the assignment has no task"))?;
    let checkpoints = checkpoints(&job.assign)?;
    job.reporter
        .progress(Phase::Workspace, format!("clone {}", task.repository));
    let facts = facts(job, &task)?;
    let setup = tracing::info_span!(target: trace::TARGET, "workspace_setup");
    let (remote, workspace) = prepare_patiently(job, (&task, &facts), &checkpoints)
        .instrument(setup)
        .await?;
    let task = (facts, task, remote);
    let ended = run_flow(job, task, workspace.clone(), (checkpoints, log)).await;
    let word = match &ended {
        Ok(outcome) => outcome.as_str(),
        Err(Some(failure)) => failure.kind.as_str(),
        Err(None) => "cancelled",
    };
    let now = chrono::Utc::now();
    if let Err(error) = job.member.workspaces.finish(&workspace, word, now).await {
        tracing::warn!(%error, "the workspace's end can't be noted");
    }
    ended
}

fn checkpoints(assign: &v1::Assign) -> Result<Vec<Checkpoint>, Failure> {
    let read = |it: &v1::Checkpoint| serde_json::from_str(&it.output);
    let of_nodes = assign.checkpoints.iter().filter(|it| !is_turn(it));
    let all: Result<_, _> = of_nodes.map(read).collect();
    all.map_err(|error| Failure {
        discard_checkpoints: true,
        ..failure(
            FailureKind::Internal,
            &format!("a checkpoint can't be read: {error}"),
        )
    })
}

fn facts(job: &Job, task: &v1::Task) -> Result<TaskFacts, Failure> {
    let repository = task.repository.parse();
    Ok(TaskFacts {
        work: job.reporter.work(),
        repository: repository
            .map_err(|error| failure(FailureKind::Internal, &format!("{error}")))?,
        issue: task.issue.map(IssueNumber),
        title: task.title.clone(),
        body: task.body.clone(),
        default_branch: task.default_branch.clone(),
        branch: task.branch.clone(),
        target_files: task.target_files.clone(),
    })
}

/// Where the repository is, with the right to read it.
async fn remote(job: &Job, task: &v1::Task) -> Result<Remote, Option<Failure>> {
    let token = if Remote::takes_token(&task.clone_url) {
        let asked = job.reporter.token(v1::CredentialScope::Read);
        let answer = job.cancel.run_until_cancelled(asked).await;
        Some(answer.ok_or(None)??.secret)
    } else {
        None
    };
    Remote::new(&task.clone_url, token).map_err(|error| Some(error.into_failure()))
}

/// The remote and the workspace, once a remote that refuses for now does so no more.
async fn prepare_patiently(
    job: &Job,
    (task, facts): (&v1::Task, &TaskFacts),
    checkpoints: &[Checkpoint],
) -> Result<(Remote, Workspace), Option<Failure>> {
    let mut patience = Patience::default();
    loop {
        // A token may end while a refusal lasts.
        let remote = remote(job, task).await?;
        let failure = match prepare(job, facts, &remote, checkpoints).await {
            Ok(workspace) => return Ok((remote, workspace)),
            Err(Some(failure)) if may_pass(&failure) => failure,
            Err(ended) => return Err(ended),
        };
        let Some(wait) = patience.after_refusal() else {
            return Err(Some(failure));
        };
        let again = (chrono::Utc::now() + wait).format("%H:%M:%S UTC");
        let detail = format!("{}; tried again at {again}", failure.message);
        job.reporter.progress(Phase::Workspace, detail);
        let pause = tokio::time::sleep(wait);
        job.cancel.run_until_cancelled(pause).await.ok_or(None)?;
    }
}

/// True of a remote's refusal that may be taken back: of what can't be cloned nothing else is worth
/// another try.
fn may_pass(failure: &Failure) -> bool {
    failure.kind == FailureKind::CloneFailed && failure.retryable
}

async fn prepare(
    job: &Job,
    facts: &TaskFacts,
    remote: &Remote,
    checkpoints: &[Checkpoint],
) -> Result<Workspace, Option<Failure>> {
    let settings = job.member.config.repository(&facts.repository);
    let checkout = Checkout {
        work: facts.work,
        repository: facts.repository.clone(),
        remote: remote.clone(),
        default_branch: facts.default_branch.clone(),
        branch: facts.branch.clone(),
        pinned_base: nodes::pinned_base(checkpoints),
        clone: settings.map_or_else(CloneMode::default, |it| it.clone),
        has_contents: settings.is_some_and(|it| it.lfs || it.submodules),
    };
    tokio::select! {
        () = job.cancel.cancelled() => Err(None),
        prepared = job.member.workspaces.prepare(&checkout, &job.cancel) => prepared.map_err(Some),
    }
}

async fn run_flow(
    job: &Job,
    (facts, task, remote): (TaskFacts, v1::Task, Remote),
    workspace: Workspace,
    (checkpoints, log): (Vec<Checkpoint>, TaskLog),
) -> Result<Outcome, Option<Failure>> {
    let agent = &job.member.config;
    let allowed = agent.setup.allow_list();
    let config = workspace.configuration(&allowed).await?;
    let tests = TestPolicy {
        command: agent.tests.command.clone(),
        timeout: agent.tests.timeout.map(|timeout| timeout.0),
        sandbox: job.member.sandbox.clone(),
    };
    let (workspace, fetched) = fetch(job, workspace, (&facts.repository, &remote), &log).await?;
    let repository = (&facts.repository, &config);
    let (workspace, mut installed) =
        set_up(job, workspace, (repository, &tests.sandbox), &log).await?;
    installed.steps.splice(0..0, fetched);
    let author = Author {
        name: agent.commit.name.clone(),
        email: agent.commit.email.clone(),
    };
    let pull_requests = Arc::new(TaskGitHub::new(
        job.reporter.clone(),
        facts.repository.clone(),
    ));
    let budget = config.budget;
    let deps = NodeDeps {
        task: facts,
        workspace,
        agent_type: agent.agent_type.clone(),
        config,
        drafter: job.member.drafter.clone(),
        change: agent.change,
        tests,
        publishing: Publishing {
            url: task.clone_url,
            author,
            draft: agent.publish.draft,
            pull_requests,
        },
        follow_ups: job.reporter.follow_ups(),
        reviewer: job.member.reviewer.clone(),
        summarizer: job.member.summarizer.clone(),
        budgets: Budgets::of(
            job.reporter.clone().within(budget),
            (
                Turns::among(&job.assign.checkpoints),
                KeptWork::among(&job.assign.checkpoints),
            ),
        ),
        log,
    };
    let deps = deps.shared();
    let engine = Engine::new(nodes::coding_flow(), nodes::registry(&deps))
        .map_err(|error| nodes::failure(&error))?;
    let observer = Watch::new(job.reporter.clone(), Arc::clone(&job.drafted));
    let run = Run {
        ctx: Context::new(serde_json::json!({ "setup": installed })),
        checkpoints,
        observer: &observer,
        cancel: job.cancel.clone(),
    };
    match engine.run(run).await {
        Ok(report) => Ok(nodes::outcome(&report.ctx)?),
        Err(error) => Err(failed(&deps, &error, &job.cancel).await),
    }
}

/// The failure of a run. Where a budget ended it, the work so far is published as a draft if it is not red,
/// and the failure says where.
async fn failed(
    deps: &Arc<NodeDeps>,
    error: &RunError,
    cancel: &CancellationToken,
) -> Option<Failure> {
    let mut failure = nodes::failure(error)?;
    if !failure.kind.is_budget() {
        return Some(failure);
    }
    let stopped = (error, failure.message.as_str());
    match nodes::publish_unfinished(deps, stopped, cancel).await {
        Ok(Some(pull_request)) => {
            // One that was open before stays as it is, a draft or not.
            let what = if pull_request.draft {
                "draft pull request"
            } else {
                "pull request"
            };
            failure.message = format!(
                "{}\nThe work so far is the {what} {}, which says how it was tested",
                failure.message, pull_request.url
            );
        }
        Ok(None) => {}
        Err(error) => deps
            .log
            .line(&format!("the work so far is not published: {error}")),
    }
    Some(failure)
}

/// Fetches what the base only names, as far as it is configured for the repository.
async fn fetch(
    job: &Job,
    mut workspace: Workspace,
    (name, remote): (&RepositoryName, &Remote),
    log: &TaskLog,
) -> Result<(Workspace, Vec<StepReport>), Option<Failure>> {
    let Some(settings) = job.member.config.repository(name) else {
        return Ok((workspace, Vec::new()));
    };
    let log = log.clone().also_in(workspace.logs.clone(), workspace.work);
    let fetch = ContentsFetch {
        sandbox: &job.member.sandbox,
        settings,
        operator: &job.member.config.setup,
        remote,
        workspace: &workspace,
        log: &log,
        network: Arc::new(HostNetwork),
        authorities: ["GIT_SSL_CAINFO", "SSL_CERT_FILE"]
            .into_iter()
            .find_map(std::env::var_os)
            .map(Into::into),
        git_lfs: find_program("git-lfs"),
        cancel: &job.cancel,
    };
    let (contents, steps) = fetch.run().await?;
    workspace.contents = contents;
    Ok((workspace, steps))
}

/// Installs the dependencies of the base, before anything that a model wrote is there.
async fn set_up(
    job: &Job,
    workspace: Workspace,
    ((name, config), sandbox): ((&RepositoryName, &RepositoryConfig), &Sandbox),
    log: &TaskLog,
) -> Result<(Workspace, SetupReport), Option<Failure>> {
    let log = log.clone().also_in(workspace.logs.clone(), workspace.work);
    let setup = Setup {
        sandbox,
        operator: &job.member.config.setup,
        name,
        repository: config,
        cache: job.member.workspaces.setups(),
        workspace: &workspace,
        log: &log,
        network: Arc::new(HostNetwork),
        cancel: &job.cancel,
    };
    let (dependencies, report) = setup.run().await?;
    let mut workspace = workspace;
    workspace.dependencies = dependencies;
    Ok((workspace, report))
}
