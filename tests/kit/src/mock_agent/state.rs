//! What a mock agent remembers: its jobs, its unacknowledged reports, what it was told.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use patchfleet_domain::{AgentState, Report, Work, WorkEvent};
use patchfleet_proto::v1;
use patchfleet_proto::v1::agent_message::Body;
use patchfleet_proto::v1::coordinator_message::Body as Told;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Why a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The gRPC status.
    pub code: tonic::Code,
    /// Its message.
    pub message: String,
}

/// What a mock agent saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// How many times it was welcome.
    pub welcomes: usize,
    /// It is welcome now.
    pub connected: bool,
    /// How the last stream ended.
    pub closed: Option<Closed>,
    /// How many streams ended, or could not be opened.
    pub endings: usize,
    /// All assignments, in order; an attempt that was assigned again stands there again.
    pub assigns: Vec<v1::Assign>,
    /// What the last welcome let it keep.
    pub kept: Vec<Work>,
    /// What the last welcome took away.
    pub dropped: Vec<Work>,
    /// Attempts of which it was told that they are not its own any more.
    pub stale: Vec<Work>,
    /// Attempts that were called off, with the reason.
    pub cancelled: Vec<(Work, String)>,
    /// Follow-ups of attempts that it has, each time that one came. Like an agent's, those of other attempts
    /// go to nobody.
    pub follow_ups: Vec<v1::FollowUp>,
    /// Answers to requests for credentials.
    pub credentials: BTreeMap<String, v1::credential::Answer>,
    /// Answers to reservations of model calls, by the call.
    pub reservations: BTreeMap<String, v1::reservation::Answer>,
    /// How many reports were acknowledged; one said twice may count twice.
    pub acknowledged: usize,
    /// How many reports are not acknowledged yet.
    pub unacknowledged: usize,
    /// How many times leases were renewed.
    pub renewals: usize,
    /// It ended by itself: another process has its id.
    pub id_taken: bool,
    /// The most jobs that it had at once.
    pub most_jobs: usize,
    /// Assignments that came while no slot was free.
    pub overbooked: usize,
}

impl Seen {
    /// The attempts that were assigned, in order.
    pub fn works(&self) -> Vec<Work> {
        let work = |assign: &v1::Assign| assign.work.clone()?.try_into().ok();
        self.assigns.iter().filter_map(work).collect()
    }
}

/// All that the parts of a mock agent share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) seen: Seen,
    /// Names the process.
    pub(super) instance: Uuid,
    /// Stays unconnected.
    pub(super) away: bool,
    /// Keeps its stream and does nothing with it.
    pub(super) silent: bool,
    /// Ends the open stream.
    pub(super) stream: CancellationToken,
    /// What it says of itself; derived from its jobs when none.
    pub(super) says: Option<AgentState>,
    /// Running jobs and how to end them.
    pub(super) jobs: BTreeMap<Work, CancellationToken>,
    /// The number of the newest report of each attempt.
    seqs: BTreeMap<Work, u64>,
    /// Numbers reports over all attempts, so that a stream knows which it has sent.
    order: u64,
    /// Reports that are not acknowledged.
    pub(super) unacknowledged: VecDeque<(u64, Report)>,
    /// The newest report of each attempt.
    last: BTreeMap<Work, Report>,
    /// Other messages that wait to be sent; lost with the stream.
    pub(super) outbox: VecDeque<Body>,
    /// Requests for credentials that are not answered; sent again on each stream.
    questions: BTreeMap<String, v1::CredentialRequest>,
    /// How long leases live, and when each job's was renewed last.
    lease: Duration,
    renewed_at: BTreeMap<Work, Instant>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            seen: Seen::default(),
            instance: Uuid::now_v7(),
            away: false,
            silent: false,
            stream: CancellationToken::new(),
            says: None,
            jobs: BTreeMap::new(),
            seqs: BTreeMap::new(),
            order: 0,
            unacknowledged: VecDeque::new(),
            last: BTreeMap::new(),
            outbox: VecDeque::new(),
            questions: BTreeMap::new(),
            lease: Duration::MAX,
            renewed_at: BTreeMap::new(),
        }
    }
}

impl State {
    pub(super) fn say(&mut self, body: Body) {
        self.outbox.push_back(body);
    }

    /// Asks on this stream and on each new one, until there is an answer.
    pub(super) fn ask(&mut self, request: v1::CredentialRequest) {
        let id = request.request_id.clone();
        self.questions.insert(id, request.clone());
        self.say(Body::CredentialRequest(request));
    }

    /// Takes a job on.
    pub(super) fn begin(&mut self, work: Work, cancel: CancellationToken) {
        self.jobs.insert(work, cancel);
        self.renewed_at.insert(work, Instant::now());
        self.seen.most_jobs = self.seen.most_jobs.max(self.jobs.len());
    }

    /// Ends a job.
    pub(super) fn end(&mut self, work: Work) -> Option<CancellationToken> {
        self.renewed_at.remove(&work);
        self.jobs.remove(&work)
    }

    fn renewed(&mut self, works: &[v1::Work]) {
        self.seen.renewals += 1;
        let works = works.iter().filter_map(|it| work(Some(it)));
        for work in works.filter(|it| self.jobs.contains_key(it)) {
            self.renewed_at.insert(work, Instant::now());
        }
    }

    /// True when a job's lease must have run out: no renewal of it was heard for that long.
    pub(super) fn is_overdue(&self) -> bool {
        let mut renewed = self.renewed_at.values();
        renewed.any(|at| at.elapsed() > self.lease)
    }

    pub(super) fn report(&mut self, work: Work, event: WorkEvent) {
        if matches!(event, WorkEvent::Finished(_) | WorkEvent::Refused { .. }) {
            self.end(work);
        }
        let seq = self.seqs.entry(work).or_default();
        *seq += 1;
        let report = Report {
            work,
            seq: *seq,
            event,
        };
        self.last.insert(work, report.clone());
        self.enqueue(report);
    }

    pub(super) fn repeat_last(&mut self, work: Work) {
        if let Some(report) = self.last.get(&work).cloned() {
            self.enqueue(report);
        }
    }

    fn enqueue(&mut self, report: Report) {
        self.order += 1;
        self.unacknowledged.push_back((self.order, report));
        self.seen.unacknowledged = self.unacknowledged.len();
    }

    /// Attempts that it works on or still has something to say about.
    pub(super) fn current(&self) -> Vec<Work> {
        let unsaid = self.unacknowledged.iter().map(|(_, report)| report.work);
        let mut works: Vec<Work> = self.jobs.keys().copied().chain(unsaid).collect();
        works.sort_unstable();
        works.dedup();
        works
    }

    /// Why it takes nothing, as far as the test has it say a state.
    pub(super) fn reason(&self) -> String {
        let says = self.says.filter(|state| !state.takes_tasks());
        says.map_or_else(String::new, |state| format!("the test says {state}"))
    }

    pub(super) fn heartbeat(&self, slots: u32) -> v1::Heartbeat {
        let running = u32::try_from(self.jobs.len()).unwrap_or(u32::MAX);
        let derived = if running == 0 {
            AgentState::Idle
        } else {
            AgentState::Busy
        };
        v1::Heartbeat {
            state: self.says.unwrap_or(derived).to_string(),
            reason: self.reason(),
            load: 0.0,
            free_slots: slots.saturating_sub(running),
            warm_repositories: Vec::new(),
            current: self.current().into_iter().map(Into::into).collect(),
        }
    }

    /// Takes in what the coordinator said; an assignment is left to the caller.
    pub(super) fn told(&mut self, body: &Told) {
        match body {
            Told::Welcome(welcome) => self.welcome(welcome),
            Told::Assign(assign) => self.seen.assigns.push(assign.clone()),
            Told::Renewed(renewed) => self.renewed(&renewed.works),
            Told::Cancel(cancel) => {
                if let Some(work) = work(cancel.work.as_ref()) {
                    self.seen.cancelled.push((work, cancel.reason.clone()));
                }
            }
            Told::Credential(credential) => {
                if let Some(answer) = credential.answer.clone() {
                    let id = credential.request_id.clone();
                    self.questions.remove(&id);
                    self.seen.credentials.insert(id, answer);
                }
            }
            Told::Reservation(reservation) => {
                if let Some(answer) = reservation.answer.clone() {
                    let call = reservation.call.clone();
                    self.seen.reservations.insert(call, answer);
                }
            }
            Told::FollowUp(follow_up) => {
                let work = work(follow_up.work.as_ref());
                if work.is_some_and(|work| self.current().contains(&work)) {
                    self.seen.follow_ups.push(follow_up.clone());
                }
            }
            Told::ReportAck(ack) => self.acknowledged(ack),
            Told::Drain(_) => self.says = Some(AgentState::Maintenance),
            Told::Stale(stale) => {
                if let Some(work) = work(stale.work.as_ref()) {
                    self.seen.stale.push(work);
                    self.forget(work);
                }
            }
        }
    }

    fn welcome(&mut self, welcome: &v1::Welcome) {
        let works = |list: &[v1::Work]| list.iter().filter_map(|it| work(Some(it))).collect();
        self.seen.welcomes += 1;
        self.seen.connected = true;
        self.seen.kept = works(&welcome.keep);
        self.seen.dropped = works(&welcome.drop);
        for work in self.seen.dropped.clone() {
            self.forget(work);
        }
        // The registration renewed the leases.
        self.lease = Duration::from_millis(welcome.lease_ttl_ms);
        for at in self.renewed_at.values_mut() {
            *at = Instant::now();
        }
        let questions = self.questions.values().cloned();
        self.outbox.extend(questions.map(Body::CredentialRequest));
    }

    fn acknowledged(&mut self, ack: &v1::ReportAck) {
        self.seen.acknowledged += 1;
        if let Some(work) = work(ack.work.as_ref()) {
            self.unacknowledged
                .retain(|(_, report)| report.work != work || report.seq > ack.seq);
        }
        self.seen.unacknowledged = self.unacknowledged.len();
    }

    /// Ends the job; nothing it said counts any more.
    fn forget(&mut self, work: Work) {
        if let Some(job) = self.end(work) {
            job.cancel();
        }
        let work_wire = Some(work.into());
        self.questions.retain(|_, it| it.work != work_wire);
        self.unacknowledged
            .retain(|(_, report)| report.work != work);
        self.seen.unacknowledged = self.unacknowledged.len();
    }

    pub(super) fn disconnect(&mut self) {
        self.away = true;
        self.seen.connected = false;
        self.stream.cancel();
    }

    pub(super) fn stop_jobs(&mut self) {
        for (_, job) in std::mem::take(&mut self.jobs) {
            job.cancel();
        }
        self.renewed_at.clear();
        self.questions.clear();
        self.unacknowledged.clear();
        self.seen.unacknowledged = 0;
    }

    pub(super) fn crash(&mut self) {
        self.disconnect();
        self.stop_jobs();
        self.instance = Uuid::now_v7();
    }

    /// The stream ended.
    pub(super) fn ended(&mut self, closed: Closed) {
        self.outbox.clear();
        self.seen.connected = false;
        self.seen.endings += 1;
        self.seen.closed = Some(closed);
    }
}

fn work(work: Option<&v1::Work>) -> Option<Work> {
    work.cloned()?.try_into().ok()
}
