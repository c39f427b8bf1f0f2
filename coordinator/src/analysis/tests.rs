//! Requests and what is made of them.

use patchfleet_domain::{
    AttemptNumber, Complexity, IssueNumber, Priority, SecurityLevel, Task, TaskId, TaskKind,
    TaskRequest, TaskState, Timestamp,
};

use super::*;

fn task(title: &str, body: &str, labels: &[&str]) -> Task {
    Task {
        id: TaskId::new(),
        kind: TaskKind::Issue,
        state: TaskState::Pending,
        wait_reason: None,
        attempt: AttemptNumber(0),
        failures: 0,
        max_attempts: 3,
        priority: Priority::default(),
        repository: "acme/orders".parse().unwrap(),
        issue: Some(IssueNumber(4)),
        branch: "patchfleet/4-x".to_owned(),
        request: TaskRequest {
            title: title.to_owned(),
            body: body.to_owned(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            author: "mona".to_owned(),
            triggered_by: "mona".to_owned(),
            clone_url: "https://github.com/acme/orders.git".to_owned(),
            default_branch: "main".to_owned(),
            agent_type: None,
        },
        analysis: None,
        pull_request: None,
        failure: None,
        summary: None,
        returns: patchfleet_domain::Returns::default(),
        spent: patchfleet_domain::Spent::default(),
        traceparent: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn analyzed(title: &str, body: &str, labels: &[&str]) -> TaskAnalysis {
    let task = task(title, body, labels);
    analyze(&task, &AnalysisPolicy::default(), &Configuration::Absent)
}

fn agent(title: &str, body: &str, labels: &[&str]) -> String {
    analyzed(title, body, labels)
        .requirement
        .agent_type
        .to_string()
}

#[test]
fn files_words_and_labels_choose_the_agent() {
    assert_eq!(
        agent("Totals are wrong", "see `orders/money.py`", &["bug"]),
        "backend"
    );
    assert_eq!(
        agent("Button overlaps", "src/Cart.tsx and cart.css", &[]),
        "frontend"
    );
    assert_eq!(
        agent("Flaky", "tests/test_money.py needs coverage", &[]),
        "testing"
    );
    assert_eq!(
        agent("Image is large", "the Dockerfile copies all", &[]),
        "devops"
    );
    assert_eq!(
        agent("Slow", "migrations/003.sql lacks an index", &[]),
        "database"
    );
    assert_eq!(
        agent("XSS in the login form", "a vulnerability", &[]),
        "security"
    );
    assert_eq!(agent("Typo in docs/intro.md", "", &[]), "documentation");
    assert_eq!(agent("Do something nice", "", &[]), "general");
    // A label weighs more than what the text happens to name.
    assert_eq!(
        agent("See src/app.py", "python", &["area/frontend"]),
        "frontend"
    );
}

#[test]
fn the_sample_issue_is_for_python_people() {
    let issue: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/kit/sample/issue.json")).unwrap();
    let (title, body) = (&issue["issue"]["title"], &issue["issue"]["body"]);
    let analysis = analyzed(title.as_str().unwrap(), body.as_str().unwrap(), &["bug"]);
    assert_eq!(analysis.requirement.agent_type.as_str(), "backend");
    assert_eq!(analysis.requirement.capabilities, ["python".into()].into());
    assert_eq!(analysis.target_files, ["examples/office.csv"]);
    assert_eq!(analysis.complexity, Complexity::Simple);
}

#[test]
fn a_named_agent_and_a_given_priority_win() {
    let mut named = task("Typo in README.md", "", &["priority: critical"]);
    named.request.agent_type = Some("security".parse().unwrap());
    named.priority = Priority::LOW;
    let analysis = analyze(&named, &AnalysisPolicy::default(), &Configuration::Absent);
    assert_eq!(analysis.requirement.agent_type.as_str(), "security");
    assert_eq!(analysis.priority, Priority::LOW);
    let analysis = analyzed("Typo", "", &["bug", "P1", "priority: low"]);
    assert_eq!(analysis.priority, Priority::HIGH);
}

/// A repository with that file.
fn saying(text: &str) -> Configuration {
    let file = configuration::ReadFile::of(".patchfleet.yml", text.as_bytes());
    Configuration::File(file.unwrap())
}

#[test]
fn a_repository_chooses_the_agent_unless_a_command_or_a_label_names_one() {
    let said = saying("agent_type: database\n");
    let chosen = |task: &Task, said: &Configuration| {
        let analysis = analyze(task, &AnalysisPolicy::default(), said);
        let agent_type = analysis.requirement.agent_type.to_string();
        (agent_type, analysis.reasons[0].clone())
    };
    let plain = task("Typo in docs/intro.md", "python, python", &["bug", "docs"]);
    let (agent_type, why) = chosen(&plain, &said);
    assert_eq!(agent_type, "database");
    assert_eq!(why, "database: `agent_type` of `.patchfleet.yml`");
    // The type's own capabilities are asked for.
    let analysis = analyze(&plain, &AnalysisPolicy::default(), &said);
    assert!(
        analysis
            .requirement
            .capabilities
            .contains(&"migration".into())
    );
    for label in ["frontend", "area/frontend", "Type: Frontend"] {
        let labelled = task("Typo", "", &[label]);
        assert_eq!(chosen(&labelled, &said).0, "frontend", "{label}");
    }
    let mut named = task("Typo", "", &["frontend"]);
    named.request.agent_type = Some("security".parse().unwrap());
    assert_eq!(chosen(&named, &said).0, "security");
    let silent = saying("test: make\n");
    assert_eq!(chosen(&plain, &silent).0, "documentation");
    let unknown = Configuration::Unknown("it is away".to_owned());
    let (agent_type, why) = chosen(&plain, &unknown);
    assert_eq!(agent_type, "documentation");
    assert!(why.ends_with("could not be read: it is away"), "{why}");
}

#[test]
fn a_repository_may_name_only_types_that_there_are_unless_a_command_does() {
    let types = ["gpu".parse().unwrap(), AgentType::general()].into();
    let plain = task("Typo", "", &[]);
    assert_eq!(check(&plain, &saying("agent_type: gpu"), &types), Ok(()));
    let said = saying("test: make\nagent_type: gqu\n");
    let error = check(&plain, &said, &types).unwrap_err();
    assert_eq!(
        error.to_string(),
        ".patchfleet.yml, line 2, column 13: agent_type: this fleet has no agents of the type `gqu`; \
         there are: general, gpu"
    );
    let mut named = task("Typo", "", &[]);
    named.request.agent_type = Some("gpu".parse().unwrap());
    assert_eq!(check(&named, &said, &types), Ok(()));
    assert_eq!(
        check(&named, &Configuration::Wrong(error.clone()), &types),
        Err(error)
    );
}

#[test]
fn a_task_for_nobody_in_particular_is_for_anybody() {
    let analysis = analyzed("Do something nice", "", &[]);
    let all = AgentCatalog::default().capabilities();
    assert_eq!(analysis.requirement.capabilities, all);
}

#[test]
fn size_dependencies_and_level() {
    let large = analyzed("Refactor everything", &"word ".repeat(500), &["restricted"]);
    assert_eq!(large.complexity, Complexity::Complex);
    assert_eq!(large.requirement.security_level, SecurityLevel::Restricted);
    let small = analyzed("Typo", "depends on #3 and #4", &["good first issue"]);
    assert_eq!(small.complexity, Complexity::Simple);
    assert_eq!(small.depends_on, [3], "not on itself");
    assert!(large.estimated_tokens > small.estimated_tokens);
    assert_eq!(small.requirement.security_level, SecurityLevel::Public);
    let reasons = "documentation: word `typo`; speaks of `typo`";
    assert_eq!(small.reasons.join("; "), reasons);
}
