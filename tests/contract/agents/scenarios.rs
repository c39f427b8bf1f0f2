//! What every agent does on the session, whatever it does with its tasks.

use std::time::Duration;

use patchfleet_domain::{AttemptNumber, TaskId, Work};
use patchfleet_proto::v1::agent_message::Body as Said;
use patchfleet_proto::v1::coordinator_message::Body;
use patchfleet_proto::v1::finished::Outcome;
use patchfleet_proto::v1::report::Event;
use patchfleet_proto::{PUSHBACK, v1};
use patchfleet_testkit::stub_coordinator::{
    Answer, Answers, Heard, Resume, Step, StubCoordinator, sample_assign,
};
use tokio::time::Instant;
use tonic::Status;

use crate::parts::{ID, Mock, Part};

/// A stub coordinator and an agent at it.
struct Scene<P> {
    stub: StubCoordinator,
    agent: P,
}

impl<P: Part> Scene<P> {
    async fn new() -> Self {
        Self::with(Answers::default()).await
    }

    async fn with(answers: Answers) -> Self {
        let stub = StubCoordinator::start(answers).await.unwrap();
        let agent = P::start(&stub).await;
        Self { stub, agent }
    }

    /// Assigns an attempt.
    fn assign(&self, work: Work) {
        let mut assign = sample_assign(work);
        assign.task.as_mut().unwrap().clone_url = self.agent.clone_url();
        self.stub.assign(assign);
    }

    /// Assigns a new attempt and waits until it is accepted.
    async fn at_work(&self) -> Work {
        let work = work();
        self.assign(work);
        self.report(work, Step::Accept).await;
        work
    }

    /// Waits for a report of that kind about the attempt.
    async fn report(&self, work: Work, step: Step) -> v1::Report {
        let is_it = |report: &v1::Report| Step::of(report) == Some(step);
        let look = |heard: &[Heard]| reports(work, heard).into_iter().find(is_it);
        let what = format!("{step:?} of {work}");
        self.stub.wait_for(&what, look).await.unwrap()
    }

    /// Waits for a heartbeat on that stream or a later one.
    async fn heartbeat(&self, stream: usize, is_it: impl Fn(&v1::Heartbeat) -> bool) {
        let look = |heard: &[Heard]| {
            let mut later = heard.iter().filter(|it| it.stream >= stream);
            later.find_map(|it| match &it.message.body {
                Some(Said::Heartbeat(beat)) if is_it(beat) => Some(()),
                _ => None,
            })
        };
        self.stub.wait_for("a heartbeat", look).await.unwrap();
    }

    /// Waits for that many registrations.
    async fn registered(&self, times: usize) -> Vec<v1::Register> {
        let look = |heard: &[Heard]| Some(registers(heard)).filter(|all| all.len() >= times);
        self.stub.wait_for("registrations", look).await.unwrap()
    }
}

fn work() -> Work {
    Work {
        task: TaskId::new(),
        attempt: AttemptNumber(1),
    }
}

fn reports(work: Work, heard: &[Heard]) -> Vec<v1::Report> {
    let wire = Some(v1::Work::from(work));
    let report = |it: &Heard| match &it.message.body {
        Some(Said::Report(report)) if report.work == wire => Some(report.clone()),
        _ => None,
    };
    heard.iter().filter_map(report).collect()
}

fn registers(heard: &[Heard]) -> Vec<v1::Register> {
    let register = |it: &Heard| match &it.message.body {
        Some(Said::Register(register)) => Some(register.clone()),
        _ => None,
    };
    heard.iter().filter_map(register).collect()
}

fn rests(beat: &v1::Heartbeat) -> bool {
    beat.current.is_empty() && beat.free_slots == 2
}

fn cancel(work: Work) -> Body {
    Body::Cancel(v1::Cancel {
        work: Some(work.into()),
        reason: "a person said so".to_owned(),
    })
}

pub(crate) async fn the_same_process_says_the_same_on_each_stream<P: Part>() {
    let scene = Scene::<P>::new().await;
    scene.heartbeat(1, rests).await;
    scene.stub.cut();
    let registers = scene.registered(2).await;
    assert_eq!(
        (registers[0].agent_id.as_str(), registers[0].slots),
        (ID, 2)
    );
    assert_eq!(registers[0], registers[1]);
    let heard = scene.stub.heard();
    let mut firsts = heard.chunk_by(|one, next| one.stream == next.stream);
    let is_register = |it: &[Heard]| matches!(it[0].message.body, Some(Said::Register(_)));
    assert!(firsts.all(is_register), "it registers first");
}

pub(crate) async fn an_agent_that_is_asked_to_come_back_later_does<P: Part>() {
    let stub = StubCoordinator::start(Answers::default()).await.unwrap();
    let mut full = Status::resource_exhausted("full");
    full.metadata_mut()
        .insert(PUSHBACK, tonic::metadata::MetadataValue::from(3000_u64));
    stub.refuse_once(full);
    let agent = P::start(&stub).await;
    let scene = Scene { stub, agent };
    scene.registered(1).await;
    let refused = Instant::now();
    scene.heartbeat(2, rests).await;
    assert!(
        refused.elapsed() > Duration::from_secs(1),
        "it was asked for 3 s"
    );
}

/// The first is heard all the time, so that waiting does not help.
pub(crate) async fn a_process_whose_id_is_taken_gives_up<P: Part>() {
    let scene = Scene::<Mock>::with(Answers {
        // It is heard all the time: an agent that is not for a whole lease loses its place.
        lease_ttl: Duration::from_secs(3),
        ..Answers::default()
    })
    .await;
    scene.heartbeat(1, rests).await;
    P::start(&scene.stub).await.gave_up().await;
    let registers = registers(&scene.stub.heard());
    assert!(registers.len() > 2, "it tries for a while");
    let work = scene.at_work().await;
    let resumed = reports(work, &scene.stub.heard());
    assert_eq!(resumed.len(), 1, "the first one is still connected");
}

pub(crate) async fn a_process_that_was_taken_over_does_not_come_back<P: Part>() {
    let scene = Scene::<P>::new().await;
    scene.heartbeat(1, rests).await;
    scene.stub.end(Status::aborted("a newer stream took over"));
    scene.agent.gave_up().await;
    assert_eq!(scene.stub.streams(), 1);
}

pub(crate) async fn a_new_stream_hears_what_was_not_durable_and_nothing_else<P: Part>() {
    let scene = Scene::<P>::new().await;
    let durable = scene.at_work().await;
    // An acknowledgement is for all reports up to its number: none of the next counts.
    for step in [Step::Accept, Step::Progress, Step::Log, Step::Checkpoint] {
        scene.stub.answer(step, Answer::Silence);
    }
    let lost = scene.at_work().await;
    scene.stub.cut();
    let resumed = scene.registered(2).await.pop().unwrap().resume;
    let mut both = vec![v1::Work::from(durable), v1::Work::from(lost)];
    both.sort_by(|one, two| one.task_id.cmp(&two.task_id));
    assert_eq!(resumed, both);
    let twice = |heard: &[Heard]| {
        let accepts = reports(lost, heard).into_iter();
        (accepts.filter(|it| it.seq == 1).count() == 2).then_some(())
    };
    scene.stub.wait_for("it once more", twice).await.unwrap();
    let firsts = reports(durable, &scene.stub.heard()).into_iter();
    assert_eq!(firsts.filter(|it| it.seq == 1).count(), 1);
}

pub(crate) async fn what_is_more_than_the_slots_is_refused<P: Part>() {
    let scene = Scene::<P>::new().await;
    scene.at_work().await;
    scene.at_work().await;
    let third = work();
    scene.assign(third);
    let refused = scene.report(third, Step::Refuse).await;
    assert_eq!(refused.seq, 1);
    scene
        .heartbeat(1, |beat| beat.free_slots == 0 && beat.current.len() == 2)
        .await;
}

pub(crate) async fn a_draining_agent_refuses<P: Part>() {
    let scene = Scene::<P>::new().await;
    let reason = "an update".to_owned();
    scene.stub.send(Body::Drain(v1::Drain { reason }));
    scene.heartbeat(1, |beat| beat.state == "maintenance").await;
    let late = work();
    scene.assign(late);
    scene.report(late, Step::Refuse).await;
}

pub(crate) async fn called_off_work_ends_as_cancelled<P: Part>() {
    let scene = Scene::<P>::new().await;
    let work = scene.at_work().await;
    scene.stub.send(cancel(work));
    let finished = scene.report(work, Step::Finished).await;
    let Some(Event::Finished(finished)) = finished.event else {
        panic!("{finished:?}");
    };
    assert_eq!(
        finished.outcome,
        Some(Outcome::Cancelled(v1::Cancelled::default()))
    );
    scene.heartbeat(1, rests).await;
}

pub(crate) async fn stale_work_ends_and_nobody_hears_of_it<P: Part>() {
    let scene = Scene::<P>::new().await;
    let stale = scene.at_work().await;
    let wire = Some(stale.into());
    scene.stub.send(Body::Stale(v1::Stale { work: wire }));
    let other = scene.at_work().await;
    let is_other = |beat: &v1::Heartbeat| beat.current == [v1::Work::from(other)];
    scene
        .heartbeat(1, |beat| is_other(beat) && beat.free_slots == 1)
        .await;
    let ends = reports(stale, &scene.stub.heard()).into_iter();
    let ends = ends.filter(|it| Step::of(it) == Some(Step::Finished));
    assert_eq!(ends.count(), 0);
}

pub(crate) async fn dropped_work_ends_and_is_not_resumed<P: Part>() {
    let scene = Scene::<P>::new().await;
    let dropped = scene.at_work().await;
    scene.stub.on_resume(Resume::Drop);
    scene.stub.cut();
    scene.heartbeat(2, rests).await;
    scene.stub.cut();
    let registers = scene.registered(3).await;
    assert_eq!(registers[1].resume, [v1::Work::from(dropped)]);
    assert_eq!(registers[2].resume, []);
}

pub(crate) async fn an_assignment_that_comes_twice_is_accepted_once<P: Part>() {
    let scene = Scene::<P>::new().await;
    let work = scene.at_work().await;
    scene.assign(work);
    let after = scene.at_work().await;
    scene
        .heartbeat(1, |beat| beat.current.len() == 2 && beat.free_slots == 0)
        .await;
    for work in [work, after] {
        let accepts = reports(work, &scene.stub.heard()).into_iter();
        let accepts = accepts.filter(|it| Step::of(it) == Some(Step::Accept));
        assert_eq!(accepts.count(), 1);
    }
}

pub(crate) async fn a_kind_of_message_that_is_not_known_is_left_out<P: Part>() {
    let scene = Scene::<P>::new().await;
    scene.heartbeat(1, rests).await;
    scene.stub.send_unknown();
    scene.at_work().await;
    assert_eq!(scene.stub.streams(), 1);
}

pub(crate) async fn thousands_of_messages_leave_an_agent_as_it_was<P: Part>() {
    let scene = Scene::<P>::new().await;
    scene.heartbeat(1, rests).await;
    for round in 1..=12 {
        for _ in 0..250 {
            scene.stub.send(Body::Renewed(v1::Renewed::default()));
        }
        // What was sent is read before the next is: the stub's channel is bounded.
        let work = scene.at_work().await;
        scene.stub.send(cancel(work));
        scene.report(work, Step::Finished).await;
        assert_eq!(scene.stub.streams(), 1, "round {round}");
    }
    let all = scene.stub.heard();
    let known = all.iter().filter(|it| it.message.body.is_some());
    assert_eq!(known.count(), all.len());
}

pub(crate) async fn a_busy_agent_whose_leases_are_not_renewed_connects_again<P: Part>() {
    let scene = Scene::<P>::with(Answers {
        heartbeat_interval: Duration::from_millis(100),
        lease_ttl: Duration::from_secs(2),
        renew: false,
        ..Answers::default()
    })
    .await;
    let beats = |heard: &[Heard]| {
        let beat = |it: &&Heard| matches!(it.message.body, Some(Said::Heartbeat(_)));
        (heard.iter().filter(beat).count() >= 25).then_some(())
    };
    scene
        .stub
        .wait_for("heartbeats for longer than a lease", beats)
        .await
        .unwrap();
    assert_eq!(scene.stub.streams(), 1, "an idle one has no lease");
    let work = scene.at_work().await;
    let busy = |beat: &v1::Heartbeat| beat.current == [v1::Work::from(work)];
    scene.heartbeat(2, busy).await;
}

/// The requests for a credential of an attempt, and the streams that they came on.
fn requests(work: Work, heard: &[Heard]) -> Vec<(usize, v1::CredentialRequest)> {
    let wire = Some(v1::Work::from(work));
    let request = |it: &Heard| match &it.message.body {
        Some(Said::CredentialRequest(request)) if request.work == wire => {
            Some((it.stream, request.clone()))
        }
        _ => None,
    };
    heard.iter().filter_map(request).collect()
}

pub(crate) async fn an_unanswered_request_for_a_credential_is_made_again<P: Part>() {
    let scene = Scene::<P>::new().await;
    scene.stub.withhold_credential();
    let work = scene.at_work().await;
    scene.agent.ask(work);
    let asked = |times: usize| {
        move |heard: &[Heard]| Some(requests(work, heard)).filter(|all| all.len() >= times)
    };
    scene.stub.wait_for("a request", asked(1)).await.unwrap();
    scene.stub.cut();
    let requests = scene.stub.wait_for("another", asked(2)).await.unwrap();
    let [(1, first), (2, second), ..] = &requests[..] else {
        panic!("{requests:?}");
    };
    assert_eq!(first, second);
    assert_eq!(first.scope(), v1::CredentialScope::Read);
    assert!(!first.request_id.is_empty());
}

pub(crate) async fn a_goodbye_is_the_last_word<P: Part>() {
    let scene = Scene::<P>::new().await;
    scene.at_work().await;
    scene.agent.leave();
    let goodbye = |it: &Heard| matches!(it.message.body, Some(Said::Goodbye(_)));
    let look = |heard: &[Heard]| heard.iter().any(goodbye).then(|| heard.to_vec());
    let heard = scene.stub.wait_for("a goodbye", look).await.unwrap();
    assert!(heard.last().is_some_and(goodbye), "{heard:#?}");
    scene.agent.gone().await;
    assert_eq!(scene.stub.streams(), 1, "it does not come back");
    assert_eq!(scene.stub.heard().len(), heard.len());
}
