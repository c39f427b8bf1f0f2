//! What a repository says of itself in vain: fields that have no effect on this agent, and files that
//! look like its configuration and are not read.

use patchfleet_domain::AgentType;
use patchfleet_repository::{FILES, RepositoryConfig, is_misnamed};

use crate::git::Entry;
use crate::nodes::test::TestPolicy;

/// The paths of files that look like the configuration and are not read.
pub(super) fn misnamed(entries: &[Entry]) -> Vec<&str> {
    let paths = entries.iter().map(|entry| entry.path.as_str());
    paths.filter(|path| is_misnamed(path)).collect()
}

/// What was written in the file and changes nothing, where this agent works with this policy.
pub(super) fn without_effect(
    config: &RepositoryConfig,
    agent: &AgentType,
    tests: &TestPolicy,
) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(wanted) = config.agent_type.as_ref().filter(|it| *it != agent) {
        all.push(format!(
            "`agent_type: {wanted}`, since the task was given to an agent of the type `{agent}`"
        ));
    }
    for (field, is_written, is_overruled) in [
        ("test", config.test.is_some(), tests.command.is_some()),
        (
            "test_timeout",
            config.test_timeout.is_some(),
            tests.timeout.is_some(),
        ),
    ] {
        if is_written && is_overruled {
            all.push(format!("`{field}`, since the operator's own counts"));
        }
    }
    let opens = |pattern: &String| FILES.iter().any(|file| pattern.contains(file));
    if config.unprotected_paths.patterns().iter().any(opens) {
        all.push(format!(
            "`unprotected_paths` for `{}`, which no draft may change",
            FILES[0]
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_without_effect_is_known() {
        let text = "test: make\ntest_timeout: 5m\nagent_type: frontend\n\
                unprotected_paths: [.patchfleet.yaml, .vscode/**]\n";
        let config = RepositoryConfig::parse(text).unwrap();
        let (general, frontend) = (AgentType::general(), "frontend".parse().unwrap());
        let own = TestPolicy::default();
        let of_operator = TestPolicy {
            command: Some(vec!["./run".to_owned()]),
            timeout: Some(Duration::from_secs(1)),
            ..TestPolicy::default()
        };
        let fields = |agent: &AgentType, tests: &TestPolicy| -> Vec<String> {
            let all = without_effect(&config, agent, tests);
            let field = |text: &String| text.split('`').nth(1).unwrap().to_owned();
            all.iter().map(field).collect()
        };
        assert_eq!(fields(&frontend, &own), ["unprotected_paths"]);
        assert_eq!(
            fields(&general, &of_operator),
            [
                "agent_type: frontend",
                "test",
                "test_timeout",
                "unprotected_paths"
            ]
        );
        let plain = RepositoryConfig::default();
        assert!(without_effect(&plain, &general, &of_operator).is_empty());
    }
}
