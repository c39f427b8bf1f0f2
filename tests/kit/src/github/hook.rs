//! Webhooks: what is to be delivered, in which order, and what became of it.
//!
//! `act` announces events here; `hook/deliver.rs` posts them. One delivery has
//! one id for life; every further attempt repeats that id and the same bytes,
//! as on GitHub.

pub(crate) mod deliver;
pub(crate) mod payload;
pub(crate) mod signature;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::sync::Notify;
use uuid::Uuid;

use super::model::RepositoryId;

/// Number of a webhook, GitHub's `hook_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookId(pub u64);

/// In which order held deliveries go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they happened.
    InOrder,
    /// The newest first.
    Reversed,
}

/// An address that wants to know what happens.
#[derive(Clone)]
pub(crate) struct Hook {
    pub(crate) id: HookId,
    pub(crate) url: String,
    pub(crate) secret: String,
    pub(crate) created_at: DateTime<Utc>,
}

/// One event on its way to one webhook.
#[derive(Clone)]
pub struct Delivery {
    /// `X-GitHub-Delivery`.
    pub id: Uuid,
    /// The webhook it is for.
    pub hook: HookId,
    /// `X-GitHub-Event`.
    pub event: String,
    /// The payload's `action`.
    pub action: Option<String>,
    /// Where it happened; none for a ping.
    pub repository: Option<RepositoryId>,
    /// The body, byte for byte.
    pub body: Arc<str>,
    /// What became of it, oldest first.
    pub attempts: Vec<Attempt>,
}

impl Delivery {
    /// HTTP status of the last attempt; none when there was no answer.
    pub fn status(&self) -> Option<u16> {
        self.attempts.last().and_then(|attempt| attempt.status)
    }

    /// The body as JSON.
    pub fn payload(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("id", &self.id)
            .field("event", &self.event)
            .field("action", &self.action)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// One try to deliver.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Number of the attempt, the `delivery_id` of the REST calls.
    pub id: u64,
    /// When it was tried.
    pub at: DateTime<Utc>,
    /// HTTP status of the answer; none when there was no answer.
    pub status: Option<u16>,
    /// Text of the answer.
    pub answer: String,
    /// How long it took.
    pub duration: Duration,
    /// Whether somebody asked for it again.
    pub redelivery: bool,
}

/// A delivery in the queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queued {
    /// Place in the list of deliveries.
    pub(crate) index: usize,
    pub(crate) redelivery: bool,
}

/// What to do with the delivery that is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Once,
    Twice,
    Lost,
}

/// All webhooks and their deliveries.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) targets: Vec<Hook>,
    pub(crate) deliveries: Vec<Delivery>,
    /// Wakes the task that delivers.
    pub(crate) wake: Arc<Notify>,
    queue: VecDeque<Queued>,
    held: bool,
    in_flight: bool,
    lose: usize,
    duplicate: usize,
}

impl Hooks {
    /// Queues one event for every webhook.
    pub(crate) fn announce(&mut self, event: &str, repository: Option<RepositoryId>, body: &Value) {
        let targets: Vec<HookId> = self.targets.iter().map(|hook| hook.id).collect();
        for hook in targets {
            self.announce_to(hook, event, repository, body);
        }
    }

    /// Queues one event for one webhook.
    pub(crate) fn announce_to(
        &mut self,
        hook: HookId,
        event: &str,
        repository: Option<RepositoryId>,
        body: &Value,
    ) {
        self.deliveries.push(Delivery {
            id: Uuid::now_v7(),
            hook,
            event: event.to_owned(),
            action: body["action"].as_str().map(str::to_owned),
            repository,
            body: body.to_string().into(),
            attempts: Vec::new(),
        });
        self.queue.push_back(Queued {
            index: self.deliveries.len() - 1,
            redelivery: false,
        });
        self.wake.notify_one();
    }

    /// Queues a delivery again; false when it is unknown.
    pub(crate) fn redeliver(&mut self, id: Uuid) -> bool {
        let Some(index) = self.deliveries.iter().position(|d| d.id == id) else {
            return false;
        };
        self.queue.push_back(Queued {
            index,
            redelivery: true,
        });
        self.wake.notify_one();
        true
    }

    pub(crate) fn lose_next(&mut self, count: usize) {
        self.lose = self.lose.saturating_add(count);
    }

    pub(crate) fn duplicate_next(&mut self, count: usize) {
        self.duplicate += count;
    }

    pub(crate) fn hold(&mut self) {
        self.held = true;
    }

    pub(crate) fn release(&mut self, order: Order) {
        self.held = false;
        if order == Order::Reversed {
            self.queue.make_contiguous().reverse();
        }
        self.wake.notify_one();
    }

    /// Nothing on its way and nothing that could go.
    pub(crate) fn is_settled(&self) -> bool {
        !self.in_flight && (self.held || self.queue.is_empty())
    }

    /// Takes the next delivery, unless all are held.
    pub(crate) fn take(&mut self) -> Option<(Queued, Fate)> {
        if self.held {
            return None;
        }
        let queued = self.queue.pop_front()?;
        self.in_flight = true;
        let fate = if spend(&mut self.lose) {
            Fate::Lost
        } else if spend(&mut self.duplicate) {
            Fate::Twice
        } else {
            Fate::Once
        };
        Some((queued, fate))
    }

    pub(crate) fn landed(&mut self) {
        self.in_flight = false;
    }

    pub(crate) fn find(&self, id: HookId) -> Option<&Hook> {
        self.targets.iter().find(|hook| hook.id == id)
    }
}

fn spend(count: &mut usize) -> bool {
    let some = *count > 0;
    *count = count.saturating_sub(1);
    some
}
