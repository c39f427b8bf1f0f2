//! A coordinator for tests of what talks through a [`Reporter`]: everything is durable at once.

use std::sync::Arc;

use patchfleet_domain::report::{Checkpoint, Report, Usage, WorkEvent};
use patchfleet_domain::{AttemptNumber, TaskId, Work};
use patchfleet_proto::v1;
use patchfleet_proto::v1::agent_message::Body;
use patchfleet_proto::v1::reservation::Answer;
use tokio::sync::Notify;

use super::desk::Desk;
use super::reporter::Reporter;

/// What was said to it.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) reservations: Vec<v1::ReservationRequest>,
    pub(crate) usages: Vec<Usage>,
    pub(crate) checkpoints: Vec<Checkpoint>,
}

/// Does something that talks, and listens to it; reservations are answered one after the other.
pub(crate) async fn heard<T>(
    answers: Vec<Answer>,
    act: impl AsyncFnOnce(Reporter) -> T,
) -> (T, Heard) {
    let desk = Arc::new(Desk::default());
    let work = Work {
        task: TaskId::new(),
        attempt: AttemptNumber(1),
    };
    desk.open(work, true);
    let reporter = Reporter::new(Arc::clone(&desk), Arc::default(), work);
    let done = Notify::new();
    let acting = async {
        let result = act(reporter).await;
        done.notify_one();
        result
    };
    let listening = async {
        let (mut heard, mut answers) = (Heard::default(), answers.into_iter());
        loop {
            for body in desk.unsaid() {
                match body {
                    Body::ReservationRequest(request) => {
                        let answer = answers.next().expect("no more is asked");
                        desk.reserved(&request.call, answer);
                        heard.reservations.push(request);
                    }
                    Body::Report(report) => {
                        let report = Report::try_from(report).unwrap();
                        match report.event {
                            WorkEvent::Usage(usage) => heard.usages.push(usage),
                            WorkEvent::Checkpoint(kept) => heard.checkpoints.push(kept),
                            other => panic!("{other:?}"),
                        }
                        desk.durable(work, report.seq);
                    }
                    other => panic!("{other:?}"),
                }
            }
            tokio::select! {
                biased;
                () = desk.news.notified() => {}
                () = done.notified() => return heard,
            }
        }
    };
    tokio::join!(acting, listening)
}
