//! What a task leaves behind for operators: one trace, from the webhook to the pull request.

use std::collections::BTreeSet;
use std::time::Duration;

use patchfleet_testkit::otlp::{Receiver, Span};

use crate::world::{Plan, World};

/// What a task that went well consists of.
const STEPS: [&str; 17] = [
    "webhook",
    "analysis",
    "queue",
    "task_execution",
    "workspace_setup",
    "inspect",
    "code_generation",
    "draft",
    "patch",
    "testing",
    "test",
    "review",
    "route",
    "git_operations",
    "publish",
    "summarize",
    "report",
];

#[tokio::test]
async fn one_trace_goes_from_the_webhook_to_the_pull_request() {
    let receiver = Receiver::start().await.unwrap();
    let world = World::with(Plan {
        traces: Some(receiver.endpoint()),
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
    world.merge_and_check(issue).await;
    let task = &world.tasks().await[0];
    let traceparent = task.traceparent.as_deref().unwrap();
    let trace_id = traceparent.split('-').nth(1).unwrap();

    let of_trace = |span: &&Span| span.trace_id == trace_id;
    let whole = |spans: &[Span]| {
        let names: BTreeSet<_> = spans
            .iter()
            .filter(of_trace)
            .map(|it| it.name.as_str())
            .collect();
        STEPS.iter().all(|step| names.contains(step))
    };
    let spans = receiver.wait(whole).await.unwrap();
    let spans: Vec<_> = spans
        .into_iter()
        .filter(|span| span.trace_id == trace_id)
        .collect();
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();

    let roots: Vec<_> = spans
        .iter()
        .filter(|span| span.parent_id.is_empty())
        .collect();
    assert_eq!(roots.len(), 1, "{roots:#?}");
    assert_eq!(roots[0].name, "webhook");
    assert_eq!(roots[0].service, "patchfleet-coordinator");
    for span in &spans {
        let known = spans.iter().any(|it| it.span_id == span.parent_id);
        assert!(
            known || span.parent_id.is_empty(),
            "whose part is {span:#?}?"
        );
    }
    let execution = named("task_execution");
    assert_eq!(execution.service, "patchfleet-agent");
    assert_eq!(execution.parent_id, roots[0].span_id);
    let id = task.id.to_string();
    let said = |key: &str| execution.attributes.get(key).map(String::as_str);
    assert_eq!(said("task.id"), Some(id.as_str()));
    assert_eq!(said("task.type"), Some("issue"));
    assert_eq!(said("agent.id"), Some("general-1"));
    assert_eq!(said("attempt"), Some("1"));
    for step in [
        "workspace_setup",
        "code_generation",
        "testing",
        "git_operations",
    ] {
        assert_eq!(named(step).parent_id, execution.span_id, "{step}");
    }
    assert_eq!(named("draft").parent_id, named("code_generation").span_id);
    // No span lives as long as a stream, and none has failed.
    assert!(spans.iter().all(|span| span.took < Duration::from_mins(1)));
    assert!(spans.iter().all(|span| span.error.is_none()), "{spans:#?}");
}

#[tokio::test]
async fn a_failure_is_marked_and_its_log_names_the_trace() {
    let receiver = Receiver::start().await.unwrap();
    let world = World::with(Plan {
        traces: Some(receiver.endpoint()),
        repository_config: Some("test: no-such-program --verbose\n"),
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
    world.status_says(issue, "test_command_invalid").await;
    let failed = |span: &Span| span.name == "task_execution" && span.error.is_some();
    let spans = receiver
        .wait(|spans| spans.iter().any(failed))
        .await
        .unwrap();
    let execution = spans.iter().find(|span| failed(span)).unwrap();
    let why = execution.error.as_deref().unwrap();
    assert!(why.starts_with("test_command_invalid"), "{why}");
    let task = &world.tasks().await[0];
    assert!(
        task.traceparent
            .as_deref()
            .unwrap()
            .contains(&execution.trace_id)
    );
    let log = std::fs::read_to_string(world.folder().join("agent.log")).unwrap();
    assert!(log.contains(&execution.trace_id), "{log}");
}
