//! What Prometheus gets from a coordinator and an agent that have worked.

use std::collections::BTreeMap;

use patchfleet_testkit::exposition::{Family, families};

use crate::world::{Plan, World};

/// The sum of a family's series, which has to be there.
fn sum(families: &BTreeMap<String, Family>, name: &str) -> f64 {
    families[name].samples.values().sum()
}

#[tokio::test]
async fn prometheus_takes_the_metrics_of_a_coordinator_and_of_an_agent_that_have_worked() {
    let world = World::with(Plan {
        agent_metrics: true,
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
    world.merge_and_check(issue).await;

    let coordinator = families(&world.metrics().await).unwrap();
    assert!(
        coordinator
            .keys()
            .all(|name| name.starts_with("patchfleet_"))
    );
    for worked in [
        "patchfleet_webhook_deliveries_total",
        "patchfleet_tasks_total",
        "patchfleet_queue_wait_seconds",
        "patchfleet_dispatch_latency_seconds",
        "patchfleet_task_duration_seconds",
        "patchfleet_agents",
        "patchfleet_github_requests_total",
        "patchfleet_api_requests_total",
        "patchfleet_api_duration_seconds",
    ] {
        assert!(
            sum(&coordinator, worked) > 0.0,
            "{worked}: {coordinator:#?}"
        );
    }

    let agent = families(&world.agent_metrics().await).unwrap();
    assert!(sum(&agent, "patchfleet_agent_slots") > 0.0, "{agent:#?}");
    let ids = |name: &str| {
        let samples = &agent[name].samples;
        samples
            .keys()
            .all(|series| series.ends_with("{agent_id=\"general-1\"}"))
    };
    assert!(agent.keys().all(|name| ids(name)), "{agent:#?}");
}
