//! The desk: every attempt of this process, and what it still has to say about each.
//!
//! Reports stay here until the coordinator says that they are durable, over as many streams as
//! that takes. A new stream starts by saying again what was not acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use patchfleet_domain::report::{Report, WorkEvent};
use patchfleet_domain::{FollowUp, Reservation, TaskId, Work};
use patchfleet_proto::{convert, v1};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::follow_ups::FollowUps;

/// Reports an attempt may have waiting; beyond it logs are dropped.
const WAITING: usize = 256;

/// Why an attempt's work ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The coordinator called it off; it wants to hear how it ended.
    Cancelled,
    /// An operator called the task off here; the coordinator is to end it.
    CalledOff,
    /// It is not this agent's any more; nobody wants to hear of it.
    Dropped,
    /// The agent ends.
    Interrupted,
}

/// What the coordinator has taken of an attempt's reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Everything up to this number is durable.
    Durable(u64),
    /// The attempt is not this agent's any more.
    Gone,
}

/// An answer to a request for a token.
pub(crate) type TokenAnswer = Result<v1::Token, String>;

/// An answer to the question whether a call of a model may be made.
pub(crate) type CallAnswer = v1::reservation::Answer;

#[derive(Debug)]
struct Attempt {
    cancel: CancellationToken,
    stop: Option<Stop>,
    last_seq: u64,
    /// Reports that are not durable yet, oldest first.
    waiting: VecDeque<(u64, WorkEvent)>,
    /// The highest number said on the present stream.
    said: u64,
    dropped_lines: u64,
    /// What people added to its task.
    follow_ups: FollowUps,
    standing: watch::Sender<Standing>,
    /// Nothing more will be reported; it goes when everything is durable.
    over: bool,
    /// Holds one of the agent's slots.
    working: bool,
    /// It is not this agent's any more; nothing is left of it but the slot that its job holds.
    dropped: bool,
    /// When its lease is known to have been renewed last.
    renewed_at: Instant,
}

#[derive(Debug)]
struct Question {
    work: Work,
    body: v1::agent_message::Body,
    asked: bool,
    asker: Asker,
}

/// Who waits for the answer to a question.
#[derive(Debug)]
enum Asker {
    Token(oneshot::Sender<TokenAnswer>),
    Call(oneshot::Sender<CallAnswer>),
}

impl Asker {
    fn is_gone(&self) -> bool {
        match self {
            Self::Token(asker) => asker.is_closed(),
            Self::Call(asker) => asker.is_closed(),
        }
    }
}

#[derive(Debug, Default)]
struct Papers {
    attempts: BTreeMap<Work, Attempt>,
    questions: BTreeMap<String, Question>,
}

/// The desk of one agent.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    papers: Mutex<Papers>,
    /// There is something to say.
    pub(crate) news: Notify,
}

impl Desk {
    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an attempt in; `None` when it is here already. `working` ones hold a slot.
    pub(crate) fn open(&self, work: Work, working: bool) -> Option<CancellationToken> {
        let mut papers = self.papers();
        if papers.attempts.contains_key(&work) {
            return None;
        }
        let cancel = CancellationToken::new();
        let attempt = Attempt {
            cancel: cancel.clone(),
            stop: None,
            last_seq: 0,
            waiting: VecDeque::new(),
            said: 0,
            dropped_lines: 0,
            follow_ups: FollowUps::default(),
            standing: watch::Sender::new(Standing::Durable(0)),
            over: false,
            working,
            dropped: false,
            renewed_at: Instant::now(),
        };
        papers.attempts.insert(work, attempt);
        Some(cancel)
    }

    /// Puts a report on the desk and gives its number and what becomes of it; `None` when the
    /// attempt is gone, or the report is a log and there is no room for it.
    pub(crate) fn put(
        &self,
        work: Work,
        event: WorkEvent,
    ) -> Option<(u64, watch::Receiver<Standing>)> {
        let mut papers = self.papers();
        let attempt = papers.attempts.get_mut(&work)?;
        if attempt.dropped {
            return None;
        }
        let event = match event {
            WorkEvent::Log { lines, .. } if attempt.waiting.len() >= WAITING => {
                attempt.dropped_lines += u64::try_from(lines.len()).unwrap_or(u64::MAX);
                return None;
            }
            WorkEvent::Log { lines, dropped } => WorkEvent::Log {
                lines,
                dropped: dropped + std::mem::take(&mut attempt.dropped_lines),
            },
            other => other,
        };
        attempt.last_seq += 1;
        attempt.over |= matches!(event, WorkEvent::Finished(_) | WorkEvent::Refused { .. });
        attempt.waiting.push_back((attempt.last_seq, event));
        let ticket = (attempt.last_seq, attempt.standing.subscribe());
        self.news.notify_one();
        Some(ticket)
    }

    /// Asks for a token; asked again on every stream until it is answered.
    pub(crate) fn ask(
        &self,
        work: Work,
        scope: v1::CredentialScope,
    ) -> oneshot::Receiver<TokenAnswer> {
        let (answer, receiver) = oneshot::channel();
        let id = uuid::Uuid::now_v7().to_string();
        let request = v1::CredentialRequest {
            work: Some(work.into()),
            scope: scope.into(),
            request_id: id.clone(),
        };
        let body = v1::agent_message::Body::CredentialRequest(request);
        self.put_question(id, (work, body), Asker::Token(answer));
        receiver
    }

    /// Asks whether a call of a model may be made; asked again on every stream until it is answered.
    pub(crate) fn reserve(&self, work: Work, call: &Reservation) -> oneshot::Receiver<CallAnswer> {
        let (answer, receiver) = oneshot::channel();
        let request = convert::reservation_request(work, call);
        let body = v1::agent_message::Body::ReservationRequest(request);
        self.put_question(call.call.clone(), (work, body), Asker::Call(answer));
        receiver
    }

    fn put_question(
        &self,
        id: String,
        (work, body): (Work, v1::agent_message::Body),
        asker: Asker,
    ) {
        let question = Question {
            work,
            body,
            asked: false,
            asker,
        };
        self.papers().questions.insert(id, question);
        self.news.notify_one();
    }

    /// A new stream begins: nothing has been said on it, and its registration renews the leases.
    pub(crate) fn start_over(&self) {
        let mut papers = self.papers();
        for attempt in papers.attempts.values_mut() {
            attempt.said = 0;
            attempt.renewed_at = Instant::now();
        }
        for question in papers.questions.values_mut() {
            question.asked = false;
        }
        self.news.notify_one();
    }

    /// What has not been said on the present stream, in order; it counts as said from now on.
    pub(crate) fn unsaid(&self) -> Vec<v1::agent_message::Body> {
        use v1::agent_message::Body;
        let mut papers = self.papers();
        let Papers {
            attempts,
            questions,
        } = &mut *papers;
        let mut bodies = Vec::new();
        for (work, attempt) in attempts {
            let said = attempt.said;
            for (seq, event) in attempt.waiting.iter().filter(|(seq, _)| *seq > said) {
                let report = Report {
                    work: *work,
                    seq: *seq,
                    event: event.clone(),
                };
                bodies.push(Body::Report(report.into()));
                attempt.said = *seq;
            }
        }
        questions.retain(|_, question| !question.asker.is_gone());
        for question in questions.values_mut().filter(|question| !question.asked) {
            question.asked = true;
            bodies.push(question.body.clone());
        }
        bodies
    }

    /// The coordinator has everything up to a number.
    pub(crate) fn durable(&self, work: Work, seq: u64) {
        let mut papers = self.papers();
        let Some(attempt) = papers.attempts.get_mut(&work) else {
            return;
        };
        attempt.waiting.retain(|(waiting, _)| *waiting > seq);
        attempt.standing.send_replace(Standing::Durable(seq));
        if attempt.over && attempt.waiting.is_empty() {
            papers.attempts.remove(&work);
        }
    }

    /// A request for a token is answered.
    pub(crate) fn answer(&self, id: &str, answer: TokenAnswer) {
        if let Some(Asker::Token(asker)) = self.take_asker(id) {
            // Whoever asked may have gone away.
            let _ = asker.send(answer);
        }
    }

    /// The question whether a call may be made is answered.
    pub(crate) fn reserved(&self, call: &str, answer: CallAnswer) {
        if let Some(Asker::Call(asker)) = self.take_asker(call) {
            let _ = asker.send(answer);
        }
    }

    fn take_asker(&self, id: &str) -> Option<Asker> {
        let question = self.papers().questions.remove(id);
        question.map(|question| question.asker)
    }

    /// A person added something to the task of an attempt; true when that is news.
    pub(crate) fn follow_up(&self, work: Work, follow_up: FollowUp) -> bool {
        let papers = self.papers();
        let attempt = papers.attempts.get(&work);
        attempt.is_some_and(|attempt| attempt.follow_ups.add(follow_up))
    }

    /// What people add to the task of an attempt; nothing comes to one that is gone.
    pub(crate) fn follow_ups(&self, work: Work) -> FollowUps {
        let papers = self.papers();
        let attempt = papers.attempts.get(&work);
        attempt.map(|it| it.follow_ups.clone()).unwrap_or_default()
    }

    /// Leases of these attempts were renewed.
    pub(crate) fn renewed(&self, works: &[Work]) {
        let mut papers = self.papers();
        for work in works {
            if let Some(attempt) = papers.attempts.get_mut(work) {
                attempt.renewed_at = Instant::now();
            }
        }
    }

    /// True when an attempt's lease must have run out: no renewal of it was heard for that long.
    /// One that was told to stop is renewed no more.
    pub(crate) fn is_overdue(&self, lease: Duration) -> bool {
        let papers = self.papers();
        let mut leased = papers.attempts.values().filter(|it| it.stop.is_none());
        leased.any(|attempt| attempt.renewed_at.elapsed() > lease)
    }

    /// Ends an attempt's work early. Of a dropped one nothing is left but its slot, until its job
    /// has ended.
    pub(crate) fn stop(&self, work: Work, why: Stop) {
        let mut papers = self.papers();
        let Some(attempt) = papers.attempts.get_mut(&work) else {
            return;
        };
        attempt.stop = attempt.stop.or(Some(why));
        attempt.cancel.cancel();
        if why == Stop::Dropped {
            attempt.standing.send_replace(Standing::Gone);
            attempt.dropped = true;
            attempt.waiting.clear();
            if !attempt.working {
                papers.attempts.remove(&work);
            }
            papers.questions.retain(|_, question| question.work != work);
        }
    }

    /// Ends all work, because the agent ends or its attempts are another's.
    pub(crate) fn stop_all(&self, why: Stop) {
        for work in self.works() {
            self.stop(work, why);
        }
    }

    /// Why an attempt's work was ended; one that is gone was dropped.
    pub(crate) fn stopped(&self, work: Work) -> Option<Stop> {
        self.papers()
            .attempts
            .get(&work)
            .map_or(Some(Stop::Dropped), |attempt| attempt.stop)
    }

    /// The attempt's job has ended, and its slot is free again.
    pub(crate) fn free(&self, work: Work) {
        let mut papers = self.papers();
        if let Some(attempt) = papers.attempts.get_mut(&work) {
            attempt.working = false;
            if attempt.dropped {
                papers.attempts.remove(&work);
            }
        }
        drop(papers);
        self.news.notify_one();
    }

    /// All attempts of this agent that the coordinator has not heard the end of.
    pub(crate) fn works(&self) -> Vec<Work> {
        let papers = self.papers();
        let own = papers.attempts.iter().filter(|(_, it)| !it.dropped);
        own.map(|(work, _)| *work).collect()
    }

    /// The tasks that have something here, jobs of dropped attempts among them.
    pub(crate) fn tasks(&self) -> BTreeSet<TaskId> {
        self.papers().attempts.keys().map(|it| it.task).collect()
    }

    /// How many slots are taken.
    pub(crate) fn working(&self) -> u32 {
        let count = self
            .papers()
            .attempts
            .values()
            .filter(|attempt| attempt.working)
            .count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
