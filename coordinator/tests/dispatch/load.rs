//! Many agents, many tasks.

use std::collections::BTreeSet;

use patchfleet_coordinator::store::{Store as _, TaskFilter};
use patchfleet_domain::TaskState;
use patchfleet_testkit::mock_agent::{Conduct, MockAgent};

use super::fleet::Fleet;

const AGENTS: usize = 50;
const TASKS: u64 = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_agents_finish_five_hundred_tasks_exactly_once() {
    let fleet = Fleet::start().await;
    let mut agents = Vec::new();
    for number in 0..AGENTS {
        let profile = fleet.profile(&format!("agent-{number}"));
        agents.push(MockAgent::start(profile, |assign| {
            let issue = assign.task.as_ref().and_then(|task| task.issue);
            Conduct::pull_request(issue.unwrap_or_default())
        }));
    }
    let mut ids = Vec::new();
    for number in 1..=TASKS {
        let repository = format!("acme/r{}", number % 7);
        ids.push(fleet.task(&repository, number).await);
    }
    // A few streams break off in the middle of it.
    for agent in agents.iter().step_by(10) {
        agent.cut();
        agent.reconnect();
    }
    for id in &ids {
        fleet.wait_state(*id, TaskState::Review).await;
    }

    let mut given = BTreeSet::new();
    for agent in &agents {
        let seen = agent.seen();
        assert_eq!(seen.overbooked, 0, "never more than its slots");
        given.extend(seen.works());
    }
    assert_eq!(given.len(), ids.len(), "each task had one attempt");
    for id in ids {
        let ends = fleet.attempts(id).await;
        assert_eq!(ends.len(), 1);
        assert_eq!(ends[0].1.as_deref(), Some("pull_request"));
    }
    let left = TaskFilter {
        states: vec![TaskState::Queued],
        ..TaskFilter::default()
    };
    assert!(fleet.store.tasks(&left).await.unwrap().is_empty());
}
