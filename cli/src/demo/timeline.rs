//! The live timeline: every change of state and every phase, as the coordinator's API tells them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use patchfleet_domain::{Task, TaskState};
use serde::Deserialize;

use crate::client::{ApiClient, TaskPage};
use crate::demo::fleet::Fleet;
use crate::demo::scene::Scene;
use crate::output::{Line, Output, Tone};
use crate::task::tone;

/// How often the API is asked.
const INTERVAL: Duration = Duration::from_millis(25);

/// Follows one issue's task.
#[derive(Debug)]
pub(super) struct Timeline {
    client: ApiClient,
    output: Output,
    started: DateTime<Utc>,
    seen: i64,
}

/// One row of a history, as far as it is shown.
#[derive(Debug, Deserialize)]
struct Event {
    id: i64,
    at: DateTime<Utc>,
    attempt: u32,
    kind: String,
    to: Option<TaskState>,
    actor: String,
    detail: String,
}

#[derive(Debug, Deserialize)]
struct EventPage {
    events: Vec<Event>,
}

impl Timeline {
    /// A timeline that starts now.
    pub(super) fn new(client: ApiClient, output: Output) -> Self {
        Self {
            client,
            output,
            started: Utc::now(),
            seen: 0,
        }
    }

    /// Shows what happens until the issue's newest task is in one of the states. Nothing more
    /// would when the delivery of what has to lead there, an event and its action, did nothing.
    pub(super) async fn follow(
        &mut self,
        issue: u64,
        until: &[TaskState],
        (scene, fleet, cause): (&Scene, &mut Fleet, (&str, &str)),
    ) -> anyhow::Result<Task> {
        loop {
            fleet.check()?;
            scene.check_delivery(cause)?;
            let page: TaskPage = self
                .client
                .get(&format!("api/v1/tasks?issue={issue}&limit=1"))
                .await?;
            if let Some(task) = page.tasks.into_iter().next() {
                self.show_news(&task).await?;
                if until.contains(&task.state) {
                    return Ok(task);
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// A line of its own, for what happens outside the coordinator.
    pub(super) fn say(&self, tone: Tone, text: &str) {
        let (_, at) = self.since_start(Utc::now());
        self.output
            .line(Line::from(format!("{at}  ")).and_toned(tone, text));
    }

    /// Milliseconds since the start, and the same for people. Coordinator and demo run on one host
    /// and so by one clock.
    fn since_start(&self, at: DateTime<Utc>) -> (i64, String) {
        let millis = (at - self.started).num_milliseconds().max(0);
        (
            millis,
            format!("{:>4}.{:03}s", millis / 1000, millis % 1000),
        )
    }

    async fn show_news(&mut self, task: &Task) -> anyhow::Result<()> {
        let path = format!("api/v1/tasks/{}/events?after={}", task.id, self.seen);
        let page: EventPage = self.client.get(&path).await?;
        for event in page.events {
            self.seen = self.seen.max(event.id);
            self.show(&event);
        }
        Ok(())
    }

    fn show(&self, event: &Event) {
        let (since, at) = self.since_start(event.at);
        self.output.object(&serde_json::json!({
            "event": "timeline", "at_ms": since, "kind": event.kind, "state": event.to,
            "attempt": event.attempt, "actor": event.actor, "detail": event.detail,
        }));
        let line = Line::from(format!("{at}  "));
        let line = match (event.kind.as_str(), event.to) {
            ("state" | "created", Some(to)) => {
                line.and_toned(tone(to), format!("{:<12}", to.as_str()))
            }
            ("phase", _) => line.and(format!("{:<12}", "  ·")),
            _ => return,
        };
        let rest = format!(" {:<12} {}", event.actor, event.detail);
        self.output.line(line.and(rest));
    }
}
