use std::time::Duration;

use patchfleet_domain::{FailureKind, Limit};

use super::hosts::{AllowList, Entry};
use super::{ConfigError, DEFAULT_TEST_TIMEOUT, RepositoryConfig};

#[test]
fn everything_can_be_said() {
    let text = "
test: python3 -m unittest -k 'a b'
test_timeout: 5m
setup: [npm ci, [./setup.sh, 'a b']]
setup_timeout: 20m
network: [node, mirror.example.org]
allowed_paths: ['orders/**', '*.md']
protected_paths: [orders/secret/**]
unprotected_paths: [.vscode/**]
agent_type: backend
budget: {usd: 5, tokens: 500000}
author: Orders Bot <bot@example.com>
";
    let config = RepositoryConfig::parse(text).unwrap();
    let words = ["python3", "-m", "unittest", "-k", "a b"].map(str::to_owned);
    assert_eq!(config.test, Some(vec![words.to_vec()]));
    assert_eq!(config.test_timeout(), Duration::from_mins(5));
    let setup = config.setup.unwrap();
    assert_eq!(setup, [["npm", "ci"], ["./setup.sh", "a b"]]);
    assert_eq!(config.setup_timeout, Some(Duration::from_mins(20)));
    let network = config.network.unwrap();
    let network: Vec<_> = network.iter().map(ToString::to_string).collect();
    assert_eq!(network, ["node", "mirror.example.org"]);
    assert!(config.allowed_paths.matches("orders/deep/money.py"));
    assert!(config.allowed_paths.matches("README.md"));
    assert!(!config.allowed_paths.matches("docs/README.md"));
    assert!(config.protected_paths.matches("orders/secret/key.py"));
    assert!(config.unprotected_paths.matches(".vscode/tasks.json"));
    assert_eq!(config.author.unwrap().name, "Orders Bot");
}

#[test]
fn tests_are_one_command_or_several() {
    for (text, expected) in [
        ("npm test", &[&["npm", "test"][..]][..]),
        ("[npm, test]", &[&["npm", "test"]]),
        ("[make]", &[&["make"]]),
        ("[python3, -k, 'a b']", &[&["python3", "-k", "a b"]]),
        (
            "[npm run build, npm test]",
            &[&["npm", "run", "build"], &["npm", "test"]],
        ),
        ("[npm ci, make]", &[&["npm", "ci"], &["make"]]),
        ("[[make], [npm, test]]", &[&["make"], &["npm", "test"]]),
        ("[[make], npm test]", &[&["make"], &["npm", "test"]]),
    ] {
        let config = RepositoryConfig::parse(&format!("test: {text}\n")).unwrap();
        assert_eq!(config.test.unwrap(), expected, "{text}");
    }
    for (text, said) in [
        ("[]", "must not be empty"),
        ("['']", "must not be empty"),
        ("[[]]", "must not be empty"),
        ("[make, [npm, test]]", "a list among words"),
        ("[npm ci && make, npm test]", "`&&` needs a shell"),
        ("{a: b}", "a list of commands"),
    ] {
        let error = RepositoryConfig::parse(&format!("test: {text}\n")).unwrap_err();
        assert!(error.message.contains(said), "{text}: {error}");
        assert!(error.message.contains("test"), "{text}: {error}");
    }
}

#[test]
fn an_author_that_git_takes_no_commit_of_is_refused() {
    for author in [". <a@example.com>", "<a@example.com>", "A <@>", "' <,@,>"] {
        let text = format!("author: \"{author}\"\n");
        let error = RepositoryConfig::parse(&text).unwrap_err();
        assert!(error.to_string().contains("author"), "{error}");
    }
}

#[test]
fn bytes_that_are_no_text_are_an_error_with_their_place() {
    let error = ConfigError::check_text(b"test: make\nallowed_paths: [caf\xe9/**]\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        ".patchfleet.yaml, line 2, column 20: it is not UTF-8 from here on; save it as UTF-8"
    );
    assert_eq!(ConfigError::check_text("é".as_bytes()).unwrap(), "é");
}

#[test]
fn a_file_without_content_means_defaults() {
    for text in [
        "",
        "\n",
        "# nothing yet\n\n",
        "---\n",
        "---\n# nothing yet\n...\n",
        "\u{FEFF}",
        "{}",
    ] {
        let config = RepositoryConfig::parse(text).unwrap();
        assert_eq!(config.test, None);
        assert_eq!(config.test_timeout(), DEFAULT_TEST_TIMEOUT);
    }
}

#[test]
fn marks_and_line_ends_of_other_systems_change_nothing() {
    for text in [
        "\u{FEFF}test: make check\r\nallowed_paths:\r\n  - src\r\n",
        "---\ntest: make check\nallowed_paths: [src/]\n...\n",
        "{\"test\": [\"make\", \"check\"], \"allowed_paths\": [\"./src\"]}",
    ] {
        let config = RepositoryConfig::parse(text).unwrap();
        let words = ["make", "check"].map(str::to_owned);
        assert_eq!(config.test, Some(vec![words.to_vec()]), "{text:?}");
        assert!(config.allowed_paths.matches("src/a.rs"), "{text:?}");
    }
}

#[test]
fn a_list_is_taken_as_words() {
    let config = RepositoryConfig::parse("test: [make, 'a b']\n").unwrap();
    assert_eq!(
        config.test,
        Some(vec![vec!["make".to_owned(), "a b".to_owned()]])
    );
}

#[test]
fn a_budget_is_dollars_or_dollars_and_tokens() {
    let limit = |usd: Option<&str>, tokens| Limit {
        usd: usd.map(|usd| usd.parse().unwrap()),
        tokens,
    };
    for (written, read) in [
        ("5", limit(Some("5"), None)),
        ("2.50", limit(Some("2.50"), None)),
        ("$0.07", limit(Some("0.07"), None)),
        ("{tokens: 500000}", limit(None, Some(500_000))),
        ("{usd: 0, tokens: 7}", limit(Some("0"), Some(7))),
    ] {
        let config = RepositoryConfig::parse(&format!("budget: {written}\n")).unwrap();
        assert_eq!(config.budget, read, "{written}");
    }
    let config = RepositoryConfig::parse("test: make\n").unwrap();
    assert_eq!(config.budget, Limit::default());
}

#[test]
fn errors_name_line_column_and_field() {
    let cases = [
        ("test: x\ntests: y\n", Some((2, 1)), "unknown field `tests`"),
        (
            "test: x\ntest_timeout: soon\n",
            Some((2, 15)),
            "test_timeout: `soon` is not a time",
        ),
        (
            "test: ''\n",
            Some((1, 7)),
            "test: a command must not be empty",
        ),
        (
            "test: \"it's\"\n",
            Some((1, 7)),
            "test: a quote is not closed",
        ),
        (
            "allowed_paths: ['a[']\n",
            Some((1, 17)),
            "allowed_paths[0]: error parsing glob",
        ),
        (
            "setup:\n  - npm ci\n  - ''\n",
            Some((3, 5)),
            "setup[1]: a command must not be empty",
        ),
        (
            "setup: npm ci\n",
            Some((1, 8)),
            "setup: invalid type: string",
        ),
        (
            "network: [https://example.org]\n",
            Some((1, 11)),
            "network[0]: `https://example.org` is more than a host",
        ),
        (
            "allowed_paths: ['!secret/**']\n",
            Some((1, 17)),
            "allowed_paths[0]: `!secret/**` takes out",
        ),
        (
            "test: npm run build && npm test\n",
            Some((1, 7)),
            "test: `&&` needs a shell",
        ),
        ("agent_type: '!'\n", Some((1, 13)), "agent_type: "),
        (
            "author: nobody\n",
            Some((1, 9)),
            "author: `nobody` is not of the form",
        ),
        (
            "test: x\nbudget: -1\n",
            Some((2, 9)),
            "budget: `-1` is not a valid amount of money",
        ),
        (
            "budget: [5]\n",
            Some((1, 9)),
            "budget: invalid type: sequence, expected dollars such as `5`",
        ),
        (
            "budget:\n  usd: lots\n",
            Some((2, 3)),
            "budget: `lots` is not a valid amount of money",
        ),
        (
            "budget: {euro: 5}\n",
            Some((1, 10)),
            "budget: unknown field `euro`, expected `usd` or `tokens`",
        ),
        ("test: [a\n", Some((2, 1)), ""),
        ("Test: make\n", Some((1, 1)), "unknown field `Test`"),
        (
            "test-timeout: 5m\n",
            Some((1, 1)),
            "unknown field `test-timeout`",
        ),
        (
            "allowedPaths: [src]\n",
            Some((1, 1)),
            "unknown field `allowedPaths`",
        ),
        (
            "test_timeout: 120\n",
            Some((1, 15)),
            "test_timeout: `120` is not a time such as `90s`",
        ),
        (
            "test:\ntest_timeout: 5m\n",
            Some((1, 6)),
            "test: invalid type: unit value, expected a command",
        ),
        (
            "allowed_paths: src\n",
            Some((1, 16)),
            "allowed_paths: invalid type: string",
        ),
        (
            "allowed_paths: [src, '']\n",
            Some((1, 22)),
            "allowed_paths[1]: a pattern must not be empty",
        ),
        (
            "test: make\ntest: npm test\n",
            Some((1, 1)),
            "duplicate field `test`",
        ),
        ("- test: make\n", Some((1, 1)), "invalid type: sequence"),
    ];
    for (text, position, message) in cases {
        let error = RepositoryConfig::parse(text).unwrap_err();
        assert_eq!(error.position, position, "{text:?}: {error}");
        assert!(error.message.contains(message), "{text:?}: {error}");
        let failure = error.into_failure();
        assert_eq!(failure.kind, FailureKind::BadRepositoryConfiguration);
        assert!(
            failure.message.starts_with(".patchfleet.yaml, line "),
            "{failure:?}"
        );
    }
}

#[test]
fn hosts_that_the_operator_does_not_allow_are_refused_with_line_and_field() {
    let entries: Vec<Entry> = ["node", "*.example.org"]
        .map(|it| it.parse().unwrap())
        .into();
    let allowed = AllowList::new(&entries);
    let text = "setup: [npm ci]\nnetwork:\n  - node\n  - a.example.org\n";
    let config = RepositoryConfig::parse_within(text, &allowed).unwrap();
    assert_eq!(config.network.map(|it| it.len()), Some(2));
    for (entry, column) in [("evil.test", 5), ("python", 5), ("'*.org.test'", 5)] {
        let text = format!("{text}  - {entry}\n");
        let error = RepositoryConfig::parse_within(&text, &allowed).unwrap_err();
        assert_eq!(error.position, Some((5, column)), "{error}");
        let name = entry.trim_matches('\'');
        let message = format!("network[2]: the operator does not allow `{name}`");
        assert!(error.message.starts_with(&message), "{error}");
    }
    assert!(RepositoryConfig::parse_within("", &AllowList::default()).is_ok());
}

#[test]
fn an_agent_type_that_the_fleet_has_not_is_refused_with_its_place() {
    let types = ["backend", "general"].map(|it| it.parse().unwrap()).into();
    for (text, position) in [
        ("test: make\nagent_type: bakend\n", (2, 13)),
        ("{test: make, agent_type: bakend}", (1, 26)),
        ("# what for\n\nagent_type:\n  bakend\n", (4, 3)),
        ("\"agent_type\": 'bakend'", (1, 15)),
    ] {
        let config = RepositoryConfig::parse(text).unwrap();
        let error = config.check_agent_type(text, &types).unwrap_err();
        assert_eq!(error.position, Some(position), "{text:?}: {error}");
        assert_eq!(
            error.message,
            "agent_type: this fleet has no agents of the type `bakend`; there are: backend, general"
        );
    }
    for text in ["", "agent_type: backend", "test: bakend"] {
        let config = RepositoryConfig::parse(text).unwrap();
        assert_eq!(config.check_agent_type(text, &types), Ok(()), "{text:?}");
    }
}
