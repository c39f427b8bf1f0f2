//! The live timeline: every change of state and every phase, as the coordinator's API tells them.

use std::time::{Duration, Instant};

use patchfleet_domain::{Task, TaskState};
use serde::Deserialize;

use crate::client::{ApiClient, TaskPage};
use crate::demo::fleet::Fleet;
use crate::output::{Output, Tone};
use crate::task::tone;

/// How often the API is asked.
const INTERVAL: Duration = Duration::from_millis(25);

/// Follows one issue's task.
#[derive(Debug)]
pub(super) struct Timeline {
    client: ApiClient,
    output: Output,
    started: Instant,
    seen: i64,
}

/// One row of a history, as far as it is shown.
#[derive(Debug, Deserialize)]
struct Event {
    id: i64,
    at: chrono::DateTime<chrono::Utc>,
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
            started: Instant::now(),
            seen: 0,
        }
    }

    /// Shows what happens until the issue's newest task is in one of the states.
    pub(super) async fn follow(
        &mut self,
        issue: u64,
        until: &[TaskState],
        fleet: &mut Fleet,
    ) -> anyhow::Result<Task> {
        loop {
            fleet.check()?;
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
        let at = self.started.elapsed().as_secs_f64();
        self.output
            .line(format!("{at:>8.3}s  {}", self.output.paint(tone, text)));
    }

    async fn show_news(&mut self, task: &Task) -> anyhow::Result<()> {
        let path = format!("api/v1/tasks/{}/events?after={}", task.id, self.seen);
        let page: EventPage = self.client.get(&path).await?;
        for event in page.events {
            self.seen = self.seen.max(event.id);
            self.show(task, &event);
        }
        Ok(())
    }

    fn show(&self, task: &Task, event: &Event) {
        let since = (event.at - task.created_at).num_milliseconds().max(0);
        self.output.object(&serde_json::json!({
            "event": "timeline", "at_ms": since, "kind": event.kind, "state": event.to,
            "attempt": event.attempt, "actor": event.actor, "detail": event.detail,
        }));
        let what = match (event.kind.as_str(), event.to) {
            ("state" | "created", Some(to)) => {
                self.output.paint(tone(to), &format!("{:<12}", to.as_str()))
            }
            ("phase", _) => format!("{:<12}", "  ·"),
            _ => return,
        };
        let millis = f64::from(i32::try_from(since).unwrap_or(i32::MAX));
        self.output.line(format!(
            "{:>8.3}s  {what} {:<12} {}",
            millis / 1000.0,
            event.actor,
            event.detail
        ));
    }
}
