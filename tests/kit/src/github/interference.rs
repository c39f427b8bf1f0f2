//! Faults and gates: what goes wrong on command, and where time stands still.
//!
//! They act on any request, REST or git. A fault either replaces the effect
//! (`Status`, `Refusal`, `Answer`, `Invalid`, `Redirect`, the two limits), delays it (`Slow`) or damages the answer after
//! the effect (`Cut`, `Malformed`). A gate holds matching requests before or
//! after their effect until it is released or dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use regex::Regex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Which requests are meant: a method and a part of `path?query`.
#[derive(Debug, Clone)]
pub struct Matcher {
    method: Option<String>,
    target: Regex,
}

impl Matcher {
    /// Requests of a method (`*` for any) whose `path?query` contains a text.
    pub fn containing(method: &str, part: &str) -> Self {
        let target = Regex::new(&regex::escape(part)).expect("an escaped text is a pattern");
        Self::of(method, target)
    }

    /// Requests of a method (`*` for any) whose `path?query` matches a pattern.
    pub fn regex(method: &str, pattern: &str) -> Result<Self, regex::Error> {
        Ok(Self::of(method, Regex::new(pattern)?))
    }

    fn of(method: &str, target: Regex) -> Self {
        let method = (method != "*").then(|| method.to_uppercase());
        Self { method, target }
    }

    fn matches(&self, method: &str, target: &str) -> bool {
        let same = |wanted: &String| wanted == method;
        self.method.as_ref().is_none_or(same) && self.target.is_match(target)
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status without any effect.
    Status(u16),
    /// This status, with words of GitHub's, without any effect.
    Refusal(u16, &'static str),
    /// An answer word for word, without any effect.
    Answer {
        /// The status.
        status: u16,
        /// Headers besides that of the content's type.
        headers: &'static [(&'static str, &'static str)],
        /// The body, JSON.
        body: &'static str,
    },
    /// 422 that blames a field, without any effect.
    Invalid {
        /// `PullRequest`, `Issue`, `Label`…
        resource: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A redirection with that status to that address, without any effect.
    Redirect(u16, &'static str),
    /// 403 with `Retry-After`, without any effect.
    SecondaryLimit {
        /// How long the caller is told to wait, in whole seconds.
        retry_after: Duration,
    },
    /// 403 with no requests remaining until the next second, without any effect.
    PrimaryLimit,
    /// The effect and the answer come this much later.
    Slow(Duration),
    /// The effect happens, then the connection closes in the middle of the answer.
    Cut,
    /// The effect happens, but the answer's JSON breaks off.
    Malformed,
}

/// When a gate holds a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    BeforeEffect,
    AfterEffect,
}

#[derive(Debug)]
struct GateInside {
    matcher: Matcher,
    moment: Moment,
    arrived: watch::Sender<usize>,
    open: CancellationToken,
}

/// Holds matching requests until released; dropping it releases them too.
#[derive(Debug)]
pub struct Gate {
    inside: Arc<GateInside>,
}

impl Gate {
    /// Completes when at least one matching request is held (or was).
    pub async fn reached(&self) {
        let mut arrived = self.inside.arrived.subscribe();
        // The sender lives in `self`, so this cannot end without an arrival.
        let _ = arrived.wait_for(|count| *count > 0).await;
    }

    /// How many matching requests have arrived so far.
    pub fn arrivals(&self) -> usize {
        *self.inside.arrived.borrow()
    }

    /// Lets all held requests go on, and later ones pass.
    pub fn release(&self) {
        self.inside.open.cancel();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.release();
    }
}

#[derive(Debug, Default)]
struct Plan {
    faults: Vec<(Matcher, Fault, usize)>,
    gates: Vec<Arc<GateInside>>,
}

/// All faults and gates of a simulator.
#[derive(Debug, Default)]
pub(crate) struct Interference {
    plan: Mutex<Plan>,
}

impl Interference {
    pub(crate) fn add_fault(&self, matcher: Matcher, fault: Fault, times: usize) {
        self.lock().faults.push((matcher, fault, times));
    }

    pub(crate) fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    pub(crate) fn add_gate(&self, matcher: Matcher, moment: Moment) -> Gate {
        let inside = Arc::new(GateInside {
            matcher,
            moment,
            arrived: watch::Sender::new(0),
            open: CancellationToken::new(),
        });
        self.lock().gates.push(Arc::clone(&inside));
        Gate { inside }
    }

    /// Takes the fault that this request meets, if any is left.
    pub(crate) fn take_fault(&self, method: &str, target: &str) -> Option<Fault> {
        let mut plan = self.lock();
        let mut faults = plan.faults.iter_mut();
        let (_, fault, times) =
            faults.find(|(matcher, _, times)| *times > 0 && matcher.matches(method, target))?;
        *times -= 1;
        Some(*fault)
    }

    /// Waits at every closed gate that the request meets at this moment.
    pub(crate) async fn pass_gates(&self, method: &str, target: &str, moment: Moment) {
        let gates: Vec<_> = {
            let mut plan = self.lock();
            plan.gates.retain(|gate| !gate.open.is_cancelled());
            let gates = plan.gates.iter();
            let gates = gates.filter(|gate| gate.moment == moment);
            let gates = gates.filter(|gate| gate.matcher.matches(method, target));
            gates.cloned().collect()
        };
        for gate in gates {
            gate.arrived.send_modify(|count| *count += 1);
            gate.open.cancelled().await;
        }
    }

    /// Opens all gates, so that a shutdown waits for nobody.
    pub(crate) fn open_all(&self) {
        for gate in &self.lock().gates {
            gate.open.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
