//! How work ends before its time: called off, stale, dropped, or because the agent ends.

use patchfleet_agent::HttpConfig;
use patchfleet_config::{HumanDuration, Secret};
use patchfleet_domain::Work;
use patchfleet_proto::v1;
use patchfleet_proto::v1::agent_message::Body as Said;
use patchfleet_proto::v1::coordinator_message::Body;
use patchfleet_proto::v1::finished::Outcome;
use patchfleet_testkit::stub_coordinator::{Answer, Heard, Resume, Step};

use crate::scene::{Agent, FIX, Scene, outcome, reports_of, work};

/// A scene whose agent is in the middle of a draft that never ends.
async fn drafting() -> (Scene, Agent, Work) {
    let scene = Scene::new().await;
    let agent = scene.agent(&endless(&scene));
    let work = work(1);
    scene.stub.assign(scene.assign(work));
    scene.wait_for_node(work, "draft").await;
    (scene, agent, work)
}

fn endless(scene: &Scene) -> String {
    format!("cat {}", scene.gate().display())
}

fn rests(beat: &v1::Heartbeat) -> bool {
    beat.current.is_empty() && beat.free_slots == 2
}

/// Where goodbye was said, and whether anything came after it.
fn goodbye(heard: &[Heard]) -> Option<bool> {
    let said = |it: &Heard| matches!(it.message.body, Some(Said::Goodbye(_)));
    let position = heard.iter().position(said)?;
    Some(position + 1 == heard.len())
}

#[tokio::test]
async fn called_off_work_stops_and_says_so() {
    let (scene, agent, work) = drafting().await;
    // A report that is on its way when the work is called off is answered as stale, and then nobody
    // wants to hear of the end.
    let is_said = |report: &v1::Report| match &report.event {
        Some(v1::report::Event::Log(log)) => log.lines.iter().any(|line| line.contains("FAILED")),
        _ => false,
    };
    let look = |heard: &[Heard]| reports_of(work, heard).iter().any(is_said).then_some(());
    let output = scene.stub.wait_for("the output of the tests", look).await;
    output.unwrap();
    scene.stub.send(Body::Cancel(v1::Cancel {
        work: Some(work.into()),
        reason: "a person said so".to_owned(),
    }));
    let ended = scene.outcome(work).await;
    assert!(matches!(ended, Outcome::Cancelled(_)), "{ended:?}");
    scene.heartbeat("free slots", 1, rests).await;
    agent.end().await;
}

#[tokio::test]
async fn what_an_operator_calls_off_at_the_agent_is_called_off_for_good() {
    let scene = Scene::new().await;
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|free| free.local_addr())
        .unwrap();
    let mut config = scene.config(&endless(&scene));
    config.http = Some(HttpConfig {
        listen: address,
        key: Secret::Inline("http-key".into()),
    });
    let agent = Agent::start(config);
    let work = work(1);
    scene.stub.assign(scene.assign(work));
    scene.wait_for_node(work, "draft").await;
    let url = format!("http://{address}/cancel_task/{}", work.task);
    let call = reqwest::Client::new().post(url).bearer_auth("http-key");
    assert_eq!(call.send().await.unwrap().status(), 202);
    let ended = scene.outcome(work).await;
    let by_operator = true;
    assert_eq!(ended, Outcome::Cancelled(v1::Cancelled { by_operator }));
    agent.end().await;
}

#[tokio::test]
async fn stale_work_stops_and_nobody_hears_of_it() {
    let scene = Scene::new().await;
    scene.stub.answer_once(Step::Checkpoint, Answer::Stale);
    let agent = scene.agent(FIX);
    let (stale, next) = (work(1), work(2));
    scene.stub.assign(scene.assign(stale));
    scene.stub.wait_for_report(Step::Checkpoint).await.unwrap();
    scene.stub.assign(scene.assign(next));
    scene.outcome(next).await;
    // Lines of its log may have been on their way before it heard.
    let said = reports_of(stale, &scene.stub.heard());
    let mut said = said.iter().filter_map(Step::of);
    let last = said.rfind(|step| *step != Step::Log);
    assert_eq!(last, Some(Step::Checkpoint));
    agent.end().await;
}

#[tokio::test]
async fn dropped_work_stops_and_nobody_hears_of_it() {
    let (scene, agent, dropped) = drafting().await;
    scene.stub.on_resume(Resume::Drop);
    scene.stub.cut();
    scene.heartbeat("a free agent", 2, rests).await;
    let heard = scene.stub.heard();
    let later: Vec<_> = heard.into_iter().filter(|it| it.stream > 1).collect();
    assert_eq!(reports_of(dropped, &later), []);
    agent.end().await;
}

#[tokio::test]
async fn an_idle_agent_says_goodbye_and_ends() {
    let scene = Scene::new().await;
    let agent = scene.agent(FIX);
    scene.heartbeat("a heartbeat", 1, |_| true).await;
    agent.end().await;
    let last = scene.stub.wait_for("goodbye", goodbye).await.unwrap();
    assert!(last, "nothing comes after goodbye");
}

#[tokio::test]
async fn running_work_is_finished_before_goodbye() {
    let scene = Scene::new().await;
    let agent = scene.agent(&format!("cat {} && {FIX}", scene.gate().display()));
    let work = work(1);
    scene.stub.assign(scene.assign(work));
    scene.wait_for_node(work, "draft").await;
    let ending = agent.end();
    let opening = async {
        let resting = |beat: &v1::Heartbeat| beat.state == "maintenance";
        scene.heartbeat("a draining agent", 1, resting).await;
        scene.open_gate().await;
    };
    tokio::join!(ending, opening);
    let ended = scene.outcome(work).await;
    assert!(matches!(ended, Outcome::PullRequest(_)), "{ended:?}");
    assert_eq!(goodbye(&scene.stub.heard()), Some(true));
}

#[tokio::test]
async fn work_that_takes_too_long_to_end_is_interrupted_and_may_go_on_elsewhere() {
    let scene = Scene::new().await;
    let mut config = scene.config(&endless(&scene));
    config.shutdown_deadline = HumanDuration::from_millis(500);
    let agent = Agent::start(config);
    let work = work(1);
    scene.stub.assign(scene.assign(work));
    scene.wait_for_node(work, "draft").await;
    agent.end().await;
    let heard = scene.stub.heard();
    let ended = reports_of(work, &heard).into_iter().find_map(outcome);
    let Some(Outcome::Failed(failed)) = ended else {
        panic!("interrupted work fails: {ended:?}");
    };
    assert_eq!(failed.kind, "interrupted");
    assert!(failed.retryable && !failed.discard_checkpoints);
    assert_eq!(goodbye(&heard), Some(true));
}
