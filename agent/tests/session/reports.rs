//! Reports arrive once, in order and whole, over as many streams as that takes.

use patchfleet_proto::v1;
use patchfleet_proto::v1::agent_message::Body as Said;
use patchfleet_proto::v1::finished::Outcome;
use patchfleet_testkit::stub_coordinator::{Answer, Heard, Step};

use crate::scene::{FIX, Scene, reports_of, work};

const QUIET: [Step; 4] = [Step::Accept, Step::Progress, Step::Log, Step::Checkpoint];

fn on_stream(stream: usize, heard: &[Heard]) -> Vec<Heard> {
    let same = heard.iter().filter(|it| it.stream == stream);
    same.cloned().collect()
}

fn seqs(reports: &[v1::Report]) -> Vec<u64> {
    reports.iter().map(|report| report.seq).collect()
}

#[tokio::test]
async fn a_new_stream_hears_what_was_not_durable_once_and_in_order() {
    let scene = Scene::new().await;
    for step in QUIET {
        scene.stub.answer(step, Answer::Silence);
    }
    let agent = scene.agent(FIX);
    let work = work(1);
    scene.stub.assign(scene.assign(work));
    scene.stub.wait_for_report(Step::Checkpoint).await.unwrap();
    for step in QUIET {
        scene.stub.answer(step, Answer::Ack);
    }
    scene.stub.cut();
    let ended = scene.outcome(work).await;
    assert!(matches!(ended, Outcome::PullRequest(_)), "{ended:?}");

    let heard = scene.stub.heard();
    let first = seqs(&reports_of(work, &on_stream(1, &heard)));
    assert!(first.len() >= 4, "accept, progress, checkpoint: {first:?}");
    let second = seqs(&reports_of(work, &on_stream(2, &heard)));
    let expected: Vec<u64> = (1..).take(second.len()).collect();
    assert_eq!(second, expected, "nothing was durable on the first stream");

    let resume = heard.iter().find_map(|it| match &it.message.body {
        Some(Said::Register(register)) if it.stream == 2 => Some(register.resume.clone()),
        _ => None,
    });
    assert_eq!(resume, Some(vec![v1::Work::from(work)]));
    agent.end().await;
}

#[tokio::test]
async fn what_is_durable_is_not_said_again() {
    let scene = Scene::new().await;
    let agent = scene.agent(&format!("cat {} && {FIX}", scene.gate().display()));
    let work = work(1);
    scene.stub.assign(scene.assign(work));
    scene.wait_for_node(work, "draft").await;
    // The checkpoint before the draft was waited for, so all before it is durable.
    let checkpoint = scene.stub.wait_for_report(Step::Checkpoint).await.unwrap();
    scene.stub.cut();
    scene.heartbeat("a new stream", 2, |_| true).await;
    scene.open_gate().await;
    scene.outcome(work).await;
    let second = seqs(&reports_of(work, &on_stream(2, &scene.stub.heard())));
    assert!(second[0] > checkpoint.seq, "{second:?}");
    assert!(
        second.is_sorted_by(|one, next| *next == one + 1),
        "{second:?}"
    );
    agent.end().await;
}

#[tokio::test]
async fn a_stream_cut_at_any_report_loses_nothing() {
    let scene = Scene::new().await;
    for step in [
        Step::Accept,
        Step::Progress,
        Step::Checkpoint,
        Step::Finished,
    ] {
        scene.stub.answer_once(step, Answer::Cut);
    }
    let agent = scene.agent(FIX);
    let work = work(1);
    scene.stub.assign(scene.assign(work));
    let finished = |heard: &[Heard]| {
        let mut streams = heard.iter().filter(|it| {
            let reports = reports_of(work, std::slice::from_ref(it));
            reports
                .iter()
                .any(|it| Step::of(it) == Some(Step::Finished))
        });
        streams.next().map(|it| it.stream)
    };
    let cut = scene.stub.wait_for("the end", finished).await.unwrap();
    let rests = |beat: &v1::Heartbeat| beat.current.is_empty();
    scene.heartbeat("the end is durable", cut + 1, rests).await;

    let mut seqs = seqs(&reports_of(work, &scene.stub.heard()));
    seqs.sort_unstable();
    seqs.dedup();
    let expected: Vec<u64> = (1..).take(seqs.len()).collect();
    assert_eq!(seqs, expected);
    assert_eq!(scene.github.pulls("acme/orders").unwrap().len(), 1);
    agent.end().await;
}
