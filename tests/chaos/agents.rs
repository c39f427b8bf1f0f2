//! Agents that do all that real ones may: finish, fail, refuse, and forget.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use patchfleet_domain::outcome::{Failure, FailureKind};
use patchfleet_domain::{Checkpoint, Outcome, Phase, WorkEvent};
use patchfleet_proto::v1;
use patchfleet_testkit::mock_agent::{Conduct, MockAgent, Profile, sample_pull_request};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Begins the names of such agents.
pub(crate) const NAME: &str = "mock-";

/// An agent whose mind is made up by the seed.
pub(crate) fn start(fleet: SocketAddr, key: &str, (number, seed): (u64, u64)) -> MockAgent {
    let id = format!("{NAME}{number}").parse().unwrap();
    let mut profile = Profile::new(&format!("http://{fleet}"), key, &id);
    let mut random = StdRng::seed_from_u64(seed * 1000 + number);
    profile.response_delay = Duration::from_millis(random.random_range(5..120));
    let random = Mutex::new(random);
    MockAgent::start(profile, move |assign| {
        conduct(&mut random.lock().unwrap(), assign)
    })
}

fn conduct(random: &mut StdRng, assign: &v1::Assign) -> Conduct {
    let issue = assign.task.as_ref().and_then(|task| task.issue);
    let events = vec![
        progress(Phase::Generate),
        WorkEvent::Checkpoint(Checkpoint {
            node: "draft".to_owned(),
            visit: 1,
            output: serde_json::json!({ "by": random.random::<u32>() }),
        }),
        progress(Phase::Test),
        WorkEvent::Log {
            lines: vec!["ok".to_owned()],
            dropped: 0,
        },
    ];
    let outcome = match random.random_range(0..20) {
        0 => return Conduct::Ignore,
        1 => {
            let reason = "not now".to_owned();
            return Conduct::Refuse { reason };
        }
        2..5 => Outcome::Failed(Failure {
            kind: FailureKind::TestsFailed,
            message: "red".to_owned(),
            retryable: true,
            discard_checkpoints: random.random_bool(0.5),
        }),
        5..9 => Outcome::Answer {
            summary: "There is nothing to change.".to_owned(),
        },
        _ => sample_pull_request(1000 + issue.unwrap_or_default()),
    };
    Conduct::Finish { events, outcome }
}

fn progress(phase: Phase) -> WorkEvent {
    WorkEvent::Progress {
        phase,
        detail: String::new(),
    }
}
