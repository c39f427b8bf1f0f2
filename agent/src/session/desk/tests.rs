use super::*;
use patchfleet_domain::{AttemptNumber, Limit};

fn work() -> Work {
    Work {
        task: TaskId::new(),
        attempt: AttemptNumber(1),
    }
}

fn log(line: &str) -> WorkEvent {
    WorkEvent::Log {
        lines: vec![line.to_owned()],
        dropped: 0,
    }
}

fn seqs(desk: &Desk) -> Vec<u64> {
    let report = |body| match body {
        v1::agent_message::Body::Report(report) => Some(report.seq),
        _ => None,
    };
    desk.unsaid().into_iter().filter_map(report).collect()
}

#[test]
fn what_is_not_durable_is_said_again_on_the_next_stream() {
    let (desk, work) = (Desk::default(), work());
    desk.open(work, true);
    desk.put(work, WorkEvent::Accepted);
    desk.put(work, log("a"));
    assert_eq!(seqs(&desk), [1, 2]);
    assert_eq!(seqs(&desk), [0_u64; 0]);
    desk.durable(work, 1);
    desk.put(work, log("b"));
    desk.start_over();
    assert_eq!(seqs(&desk), [2, 3]);
}

#[test]
fn an_attempt_leaves_when_its_end_is_durable() {
    let (desk, work) = (Desk::default(), work());
    desk.open(work, true);
    assert!(desk.open(work, true).is_none(), "it is here already");
    let ended = WorkEvent::Finished(patchfleet_domain::Outcome::Cancelled { by_operator: false });
    let (seq, standing) = desk.put(work, ended).unwrap();
    assert_eq!(desk.works(), [work]);
    desk.durable(work, seq);
    assert_eq!(desk.works(), []);
    assert_eq!(*standing.borrow(), Standing::Durable(seq));
    assert!(desk.put(work, log("late")).is_none());
}

#[test]
fn logs_are_dropped_and_counted_before_anything_else() {
    let (desk, work) = (Desk::default(), work());
    desk.open(work, true);
    for _ in 0..WAITING + 5 {
        desk.put(work, log("x"));
    }
    assert!(desk.put(work, WorkEvent::Accepted).is_some());
    desk.durable(work, 100);
    desk.put(work, log("after"));
    let papers = desk.papers();
    let last = &papers.attempts[&work].waiting.back().unwrap().1;
    assert_eq!(
        *last,
        WorkEvent::Log {
            lines: vec!["after".to_owned()],
            dropped: 5
        }
    );
}

fn questions(desk: &Desk) -> Vec<String> {
    let question = |body| match body {
        v1::agent_message::Body::CredentialRequest(request) => Some(request.request_id),
        _ => None,
    };
    desk.unsaid().into_iter().filter_map(question).collect()
}

#[test]
fn a_question_is_asked_on_each_stream_until_it_is_answered() {
    let (desk, work) = (Desk::default(), work());
    desk.open(work, true);
    let mut answer = desk.ask(work, v1::CredentialScope::Read);
    let asked = questions(&desk);
    assert_eq!(questions(&desk), [""; 0], "once a stream");
    desk.start_over();
    assert_eq!(questions(&desk), asked);
    desk.answer("another question", Err("no".to_owned()));
    assert!(answer.try_recv().is_err());
    desk.answer(&asked[0], Err("no".to_owned()));
    assert_eq!(answer.try_recv().unwrap(), Err("no".to_owned()));
    let call = Reservation {
        call: "call-1".to_owned(),
        provider: "p".to_owned(),
        model: "m".to_owned(),
        tokens: 1,
        cost: None,
        task_limit: Limit::default(),
    };
    let mut allowed = desk.reserve(work, &call);
    let is_call = |body: &v1::agent_message::Body| matches!(body, v1::agent_message::Body::ReservationRequest(it) if it.call == "call-1");
    assert!(desk.unsaid().iter().any(is_call));
    desk.start_over();
    assert!(
        desk.unsaid().iter().any(is_call),
        "asked on the next stream"
    );
    desk.answer("call-1", Err("another sort of answer".to_owned()));
    assert!(allowed.try_recv().is_err());
    let mut allowed = desk.reserve(work, &call);
    desk.reserved("call-1", CallAnswer::Granted(v1::Granted {}));
    let granted = allowed.try_recv().unwrap();
    assert_eq!(granted, CallAnswer::Granted(v1::Granted {}));
    desk.start_over();
    assert_eq!(questions(&desk), [""; 0]);
}

#[test]
fn a_dropped_attempt_has_its_slot_until_its_job_has_ended() {
    let (desk, work) = (Desk::default(), work());
    desk.open(work, true);
    desk.put(work, WorkEvent::Accepted);
    desk.stop(work, Stop::Dropped);
    assert_eq!((desk.working(), desk.works()), (1, vec![]));
    assert!(desk.put(work, log("late")).is_none());
    assert!(desk.unsaid().is_empty(), "nobody wants to hear of it");
    assert_eq!(desk.tasks(), [work.task].into());
    desk.free(work);
    assert_eq!((desk.working(), desk.tasks().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_not_renewed_for_a_lease_is_overdue() {
    let (desk, work) = (Desk::default(), work());
    let lease = Duration::from_secs(30);
    assert!(!desk.is_overdue(lease), "nothing has a lease");
    desk.open(work, true);
    tokio::time::advance(lease).await;
    desk.renewed(&[work]);
    tokio::time::advance(lease).await;
    assert!(!desk.is_overdue(lease));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(desk.is_overdue(lease));
    desk.start_over();
    assert!(!desk.is_overdue(lease), "the registration renewed it");
    tokio::time::advance(lease * 2).await;
    desk.stop(work, Stop::Cancelled);
    assert!(!desk.is_overdue(lease), "it has no lease any more");
}

#[test]
fn a_dropped_attempt_is_told_so() {
    let (desk, work) = (Desk::default(), work());
    let cancel = desk.open(work, true).unwrap();
    let mut answer = desk.ask(work, v1::CredentialScope::Read);
    let (_, standing) = desk.put(work, WorkEvent::Accepted).unwrap();
    desk.stop(work, Stop::Dropped);
    assert!(cancel.is_cancelled());
    assert_eq!(*standing.borrow(), Standing::Gone);
    let closed = oneshot::error::TryRecvError::Closed;
    assert_eq!(answer.try_recv(), Err(closed), "nobody will answer");
    assert_eq!(desk.stopped(work), Some(Stop::Dropped));
}

#[test]
fn what_people_add_reaches_the_attempt_that_it_is_for_and_counts_once() {
    let (desk, work) = (Desk::default(), work());
    let comment = FollowUp {
        comment: 7,
        author: "mona".to_owned(),
        text: "Round up.".to_owned(),
    };
    assert!(!desk.follow_up(work, comment.clone()), "nobody works on it");
    desk.open(work, true);
    let follow_ups = desk.follow_ups(work);
    assert!(desk.follow_up(work, comment.clone()));
    assert!(!desk.follow_up(work, comment.clone()), "said again");
    assert_eq!(follow_ups.all(), [comment]);
}
