use patchfleet_testkit::model::{Script, Simulator};
use serde_json::json;

use super::*;

/// The fitness of an agent whose model answers by a script, with another key than it wants if so.
async fn fitness(script: &str, key: Option<&str>) -> (Fitness, Simulator, tempfile::TempDir) {
    let script = Script::parse("script", script).unwrap();
    let simulator = Simulator::start(script).await.unwrap();
    let root = tempfile::tempdir().unwrap();
    let config: AgentConfig = serde_json::from_value(json!({
        "id": "backend-1",
        "type": "backend",
        "coordinator": {"url": "http://127.0.0.1:1", "key": "fleet-key"},
        "workspace": {"root": root.path()},
        "draft": {"mode": "tools", "model": {
            "provider": "anthropic",
            "model": "simulated",
            "url": simulator.base_url(),
            "key": key.unwrap_or_else(|| simulator.key()),
        }},
    }))
    .unwrap();
    (Fitness::of(&config, Sandbox::default()), simulator, root)
}

fn refused(drafted: bool) -> (Failure, Attempted) {
    let failure = Failure {
        kind: FailureKind::ModelUnusable,
        message: "anthropic/simulated can't go on".to_owned(),
        retryable: false,
        discard_checkpoints: false,
    };
    let attempted = Attempted {
        task: TaskId::new(),
        repository: "acme/calc".to_owned(),
        drafted,
    };
    (failure, attempted)
}

#[tokio::test]
async fn one_refusal_of_a_models_provider_stops_the_agent_until_the_model_answers() {
    // A draft that is there already is no sign that the reviewing model can be used.
    for drafted in [false, true] {
        let script = "turns: [{fault: unauthorized}, {text: ready}]";
        let (fitness, simulator, _root) = fitness(script, None).await;
        let (failure, attempted) = refused(drafted);
        assert_eq!(fitness.judge(failure.clone(), &attempted).await, failure);
        assert!(fitness.take_news(), "it is told before the attempt's end");
        assert_eq!(fitness.fault(), Some(failure.message));
        fitness.look_again().await;
        let fault = fitness.fault().unwrap();
        let mend = "put a key that the provider accepts where agents.draft.model.key says";
        assert!(fault.contains(mend), "{fault}");
        fitness.look_again().await;
        assert_eq!(fitness.fault(), None);
        assert_eq!(fitness.slots(4), 4, "its answer was the trial");
        assert_eq!(simulator.state().calls, 2);
    }
}

#[tokio::test]
async fn a_model_that_is_only_busy_does_not_refuse_and_a_key_is_not_shown() {
    let (fitness, _simulator, _root) = fitness("turns: [{fault: {overloaded: {}}}]", None).await;
    let (failure, attempted) = refused(false);
    fitness.judge(failure, &attempted).await;
    fitness.look_again().await;
    assert_eq!(fitness.fault(), None);
    let wrong = "sk-wrong-0123456789abcdef";
    let (fitness, simulator, _root) = self::fitness("turns: [{text: no}]", Some(wrong)).await;
    let (failure, attempted) = refused(false);
    fitness.judge(failure, &attempted).await;
    fitness.look_again().await;
    let fault = fitness.fault().unwrap();
    assert!(!fault.contains(wrong), "{fault}");
    assert_eq!(simulator.state().total.output, 0, "it costs nothing");
}

#[tokio::test]
async fn of_a_host_whose_model_refused_nothing_no_model_is_asked() {
    let (fitness, simulator, _root) = fitness("turns: [{text: no}]", None).await;
    let (failure, attempted) = refused(false);
    for _ in 0..3 {
        let failure = Failure {
            kind: FailureKind::HostFault,
            ..failure.clone()
        };
        fitness.judge(failure, &attempted).await;
    }
    assert!(fitness.fault().is_some());
    fitness.look_again().await;
    assert_eq!(fitness.fault(), None);
    assert_eq!(fitness.slots(4), 1, "a task has to show it");
    assert_eq!(simulator.state().calls, 0);
}
