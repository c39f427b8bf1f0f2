//! The metrics of the specification's section 12 that there is something to count for.

use prometheus::{
    Encoder as _, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// The media type of Prometheus' text format.
pub const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of one process. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Deliveries, by `event` and `outcome`.
    pub webhook_deliveries: IntCounterVec,
    /// Deliveries that wait to be judged.
    pub deferred_deliveries: IntGauge,
    /// Tasks that came into a state, by `state` and `agent_type`.
    pub tasks: IntCounterVec,
    /// Tasks that are not over, by `state`; as it was less than a minute ago.
    pub active_tasks: IntGaugeVec,
    /// How long tasks took from intake to their end, by `kind`; seconds.
    pub task_duration: HistogramVec,
    /// How long tasks waited in the queue; seconds.
    pub queue_wait: Histogram,
    /// From the queue's commit to the assignment on the stream; seconds.
    pub dispatch_latency: Histogram,
    /// Leases that ran out.
    pub lease_expiries: IntCounter,
    /// Agents, by `state` and `agent_type`.
    pub agents: IntGaugeVec,
    /// The load of hosts with connected agents, by `agent_id`: 0.0 nothing, 1.0 full.
    pub agent_load: GaugeVec,
    /// Requests to GitHub, by `outcome`.
    pub github_requests: IntCounterVec,
    /// Requests that GitHub takes until it resets its limit, as its last answer said.
    pub github_rate_remaining: IntGauge,
    /// Entries that are not on GitHub yet.
    pub outbox_pending: IntGauge,
    /// Rows of the database that could not be decoded, by `table`; counted each time.
    pub unreadable_rows: IntCounterVec,
    /// What Redis was asked, by `operation` and `outcome` (`ok`, `failed`, `skipped`).
    pub cache_operations: IntCounterVec,
    /// Calls of models whose usage was reported, by `provider` and `model`.
    pub model_calls: IntCounterVec,
    /// Tokens that they used, by `provider`, `model` and `class` (`input`, `cache_read`, `cache_write`,
    /// `output`).
    pub model_tokens: IntCounterVec,
    /// What they cost where the price is known, by `provider` and `model`; millionths of a US dollar.
    pub model_cost_micros: IntCounterVec,
    /// Circuit breakers, by `remote`: 0 closed, 1 half open, 2 open.
    pub circuit_state: IntGaugeVec,
    /// Requests to the API, by `endpoint`, `method` and `status_code`.
    pub api_requests: IntCounterVec,
    /// How long they took, by `endpoint`; seconds.
    pub api_duration: HistogramVec,
}

/// Milliseconds to minutes.
const LATENCY: [f64; 12] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0,
];
/// Seconds to hours.
const DURATION: [f64; 9] = [
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0,
];

/// Why making the metrics can't fail.
const CONSTANT: &str = "names and labels are constants that a test registers";

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let into = &registry;
        let [model_calls, model_tokens, model_cost_micros] = of_models(into);
        Self {
            webhook_deliveries: counters(
                into,
                "patchfleet_webhook_deliveries_total",
                "Webhook deliveries.",
                &["event", "outcome"],
            ),
            deferred_deliveries: deferred_deliveries(into),
            tasks: counters(
                into,
                "patchfleet_tasks_total",
                "Tasks that came into a state.",
                &["state", "agent_type"],
            ),
            active_tasks: gauges(
                into,
                "patchfleet_active_tasks",
                "Tasks that are not over.",
                &["state"],
            ),
            task_duration: histograms(
                into,
                "patchfleet_task_duration_seconds",
                "From intake to the end.",
                (&["kind"], &DURATION),
            ),
            queue_wait: histogram(into, "patchfleet_queue_wait_seconds", "Time in the queue."),
            dispatch_latency: histogram(
                into,
                "patchfleet_dispatch_latency_seconds",
                "From the queue's commit to the stream.",
            ),
            lease_expiries: counter(
                into,
                "patchfleet_lease_expiries_total",
                "Leases that ran out.",
            ),
            agents: gauges(
                into,
                "patchfleet_agents",
                "Agents.",
                &["state", "agent_type"],
            ),
            agent_load: agent_load(into),
            github_requests: counters(
                into,
                "patchfleet_github_requests_total",
                "Requests to GitHub.",
                &["outcome"],
            ),
            github_rate_remaining: gauge(
                into,
                "patchfleet_github_rate_remaining",
                "Requests that GitHub takes until it resets its limit.",
            ),
            outbox_pending: gauge(
                into,
                "patchfleet_outbox_pending",
                "Entries that are not on GitHub yet.",
            ),
            unreadable_rows: unreadable_rows(into),
            cache_operations: counters(
                into,
                "patchfleet_cache_operations_total",
                "What Redis was asked.",
                &["operation", "outcome"],
            ),
            model_calls,
            model_tokens,
            model_cost_micros,
            circuit_state: gauges(
                into,
                "patchfleet_circuit_state",
                "Circuit breakers: 0 closed, 1 half open, 2 open.",
                &["remote"],
            ),
            api_requests: counters(
                into,
                "patchfleet_api_requests_total",
                "Requests to the API.",
                &["endpoint", "method", "status_code"],
            ),
            api_duration: histograms(
                into,
                "patchfleet_api_duration_seconds",
                "How long requests to the API took.",
                (&["endpoint"], &LATENCY),
            ),
            registry,
        }
    }

    /// All of them in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics can't be rendered");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn register<C>(registry: &Registry, collector: C) -> C
where
    C: prometheus::core::Collector + Clone + 'static,
{
    registry
        .register(Box::new(collector.clone()))
        .expect(CONSTANT);
    collector
}

/// The name of a counter, which ends in `_total`; no other may (`promtool check metrics`).
fn counted(name: &str) -> &str {
    assert!(name.ends_with("_total"), "{name} is a counter");
    name
}

/// The name of what is no counter.
fn uncounted(name: &str) -> &str {
    assert!(!name.ends_with("_total"), "{name} is no counter");
    name
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(
        registry,
        IntCounterVec::new(Opts::new(counted(name), help), labels).expect(CONSTANT),
    )
}

/// Calls of models, the tokens that they used, and what they cost.
fn of_models(registry: &Registry) -> [IntCounterVec; 3] {
    let model = ["provider", "model"];
    let classes = ["provider", "model", "class"];
    [
        (
            "patchfleet_model_calls_total",
            "Calls of models.",
            &model[..],
        ),
        (
            "patchfleet_model_tokens_total",
            "Tokens that models used.",
            &classes[..],
        ),
        (
            "patchfleet_model_cost_micros_total",
            "What models cost, in millionths of a US dollar.",
            &model[..],
        ),
    ]
    .map(|(name, help, labels)| counters(registry, name, help, labels))
}

fn agent_load(registry: &Registry) -> GaugeVec {
    let options = Opts::new("patchfleet_agent_load", "The load of agents' hosts.");
    let gauges = GaugeVec::new(options, &["agent_id"]);
    register(registry, gauges.expect(CONSTANT))
}

fn deferred_deliveries(registry: &Registry) -> IntGauge {
    gauge(
        registry,
        "patchfleet_deferred_deliveries",
        "Webhook deliveries that wait to be judged.",
    )
}

fn unreadable_rows(registry: &Registry) -> IntCounterVec {
    counters(
        registry,
        "patchfleet_unreadable_rows_total",
        "Rows that could not be decoded.",
        &["table"],
    )
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(
        registry,
        IntCounter::new(counted(name), help).expect(CONSTANT),
    )
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(
        registry,
        IntGaugeVec::new(Opts::new(uncounted(name), help), labels).expect(CONSTANT),
    )
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(
        registry,
        IntGauge::new(uncounted(name), help).expect(CONSTANT),
    )
}

fn histogram(registry: &Registry, name: &str, help: &str) -> Histogram {
    let options = HistogramOpts::new(uncounted(name), help).buckets(LATENCY.to_vec());
    register(registry, Histogram::with_opts(options).expect(CONSTANT))
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    (labels, buckets): (&[&str], &[f64]),
) -> HistogramVec {
    let options = HistogramOpts::new(uncounted(name), help).buckets(buckets.to_vec());
    register(
        registry,
        HistogramVec::new(options, labels).expect(CONSTANT),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gauge_of_agents_has_the_name_of_a_gauge() {
        let metrics = Metrics::new();
        metrics
            .agents
            .with_label_values(&["idle", "general"])
            .set(1);
        let text = metrics.render();
        assert!(text.contains("# TYPE patchfleet_agents gauge"), "{text}");
    }

    #[test]
    fn clones_count_together() {
        let metrics = Metrics::new();
        metrics
            .clone()
            .webhook_deliveries
            .with_label_values(&["issues", "recorded"])
            .inc();
        let text = metrics.render();
        let line = r#"patchfleet_webhook_deliveries_total{event="issues",outcome="recorded"} 1"#;
        assert!(text.contains(line), "{text}");
    }
}
