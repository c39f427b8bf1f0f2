//! Many agents, many tasks.

use patchfleet_domain::TaskState;
use patchfleet_testkit::mock_agent::{Conduct, MockAgent};

use super::fleet::Fleet;

const AGENTS: usize = 50;
const TASKS: u64 = 500;
const CUTS: usize = 5;

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
    for agent in agents.iter().take(CUTS) {
        agent.cut();
        agent.reconnect();
    }
    for id in &ids {
        fleet.wait_state(*id, TaskState::Review).await;
    }

    let overbooked: usize = agents.iter().map(|agent| agent.seen().overbooked).sum();
    assert_eq!(overbooked, 0, "never more than its slots");
    let mut begun = 0;
    for task in &ids {
        let ends = fleet.attempts(*task).await;
        begun += ends.len();
        let (last, earlier) = ends.split_last().unwrap();
        assert_eq!(last.1.as_deref(), Some("pull_request"));
        // An assignment may meet a stream that was cut a moment ago; it is given up at once.
        let given_up = |end: &(String, Option<String>)| end.1.as_deref() == Some("lost");
        assert!(earlier.iter().all(given_up), "{ends:?}");
        let path = fleet.path(*task).await;
        let reviews = path.iter().filter(|state| **state == TaskState::Review);
        assert_eq!(reviews.count(), 1, "finished once");
    }
    assert!(begun <= ids.len() + CUTS * 2, "{begun} attempts");
}
