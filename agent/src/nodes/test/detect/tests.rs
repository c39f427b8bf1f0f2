use super::*;
use crate::git::EntryKind;

fn entries(files: &[(&str, &str)]) -> Vec<Entry> {
    let entry = |(path, text): &(&str, &str)| Entry {
        path: (*path).to_owned(),
        kind: if path.ends_with('w') {
            EntryKind::Executable
        } else {
            EntryKind::File
        },
        id: "1".repeat(40).parse().unwrap(),
        size: text.len() as u64,
    };
    files.iter().map(entry).collect()
}

fn found(files: &[(&str, &str)]) -> Detected {
    let entries = entries(files);
    let hints = files::hints(&entries);
    let read = files
        .iter()
        .filter(|(path, _)| hints.iter().any(|entry| entry.path == *path));
    let texts = read.map(|(path, text)| (*path, (*text).to_owned()));
    from_files(&Files::new(&entries, texts.collect()))
}

fn detected(files: &[(&str, &str)]) -> String {
    let commands = found(files).commands;
    let commands: Vec<_> = commands.iter().map(|words| words.join(" ")).collect();
    commands.join(" && ")
}

fn left_out(files: &[(&str, &str)]) -> Vec<String> {
    let left_out = found(files).left_out.into_iter();
    left_out
        .map(|it| format!("{}: {}", it.command, it.reason))
        .collect()
}

#[test]
fn of_many_tests_a_few_are_read() {
    let entry = |number: usize| Entry {
        path: format!("tests/test_{number:05}.py"),
        kind: EntryKind::File,
        id: "1".repeat(40).parse().unwrap(),
        size: 200 * 1024,
    };
    let mut entries: Vec<_> = (0..2000).map(entry).collect();
    let bytes: u64 = files::hints(&entries).iter().map(|entry| entry.size).sum();
    assert!(bytes < 4 << 20, "{bytes} bytes are read");
    // Too large to be read, and known by its name all the same.
    entries.truncate(1);
    entries[0].size = files::MAX_BYTES + 1;
    let found = from_files(&Files::new(&entries, Vec::new()));
    assert_eq!(found.commands, [["python3", "-m", "pytest", "-v"]]);
}

#[test]
fn the_files_tell_the_command() {
    let npm = r#"{"scripts":{"test":"jest"}}"#;
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("Cargo.toml", "")], "cargo test"),
        (
            &[("Cargo.toml", "[package]\n[workspace]\n")],
            "cargo test --workspace",
        ),
        (
            &[("core/Cargo.toml", ""), ("core/src/lib.rs", "x")],
            "cargo test --manifest-path core/Cargo.toml",
        ),
        (&[("go.mod", "module x")], "go test ./..."),
        (&[("server/go.mod", "module x")], "go -C server test ./..."),
        (&[("package.json", npm)], "npm test"),
        (
            &[("package.json", npm), ("pnpm-lock.yaml", "")],
            "pnpm test",
        ),
        (&[("package.json", npm), ("yarn.lock", "")], "yarn test"),
        (&[("package.json", npm), ("bun.lock", "")], "bun run test"),
        (&[("web/package.json", npm)], "npm --prefix web test"),
        (
            &[("package.json", r#"{"workspaces":["a"]}"#)],
            "npm --workspaces --if-present test",
        ),
        (
            &[(
                "package.json",
                r#"{"scripts":{"test":"echo \"Error: no test specified\""}}"#,
            )],
            "",
        ),
        (&[("pom.xml", "")], "mvn --batch-mode test"),
        (
            &[("pom.xml", ""), ("mvnw", "#!")],
            "./mvnw --batch-mode test",
        ),
        (
            &[("api/pom.xml", ""), ("mvnw", "#!")],
            "./mvnw --batch-mode --file api/pom.xml test",
        ),
        (
            &[("build.gradle", ""), ("gradlew", "#!")],
            "./gradlew --no-daemon test",
        ),
        (&[("build.gradle.kts", "")], "gradle --no-daemon test"),
        (
            &[("build.gradle", ""), ("pom.xml", ""), ("A.java", "x")],
            "gradle --no-daemon test",
        ),
        (
            &[("app/build.gradle", "")],
            "gradle --no-daemon --project-dir app test",
        ),
        (&[("Rakefile", "task :test")], "rake test"),
        (
            &[("Gemfile", ""), ("spec/a_spec.rb", "")],
            "bundle exec rspec",
        ),
        (&[("Shop.sln", "")], "dotnet test"),
        (
            &[("composer.json", r#"{"scripts":{"test":"phpunit"}}"#)],
            "composer test",
        ),
        (&[("phpunit.xml.dist", "")], "phpunit"),
        (&[("mix.exs", "")], "mix test"),
        (&[("Package.swift", "")], "swift test"),
        (
            &[("CMakeLists.txt", "include(CTest)")],
            "ctest --build-and-test . build --build-generator Unix Makefiles --test-command ctest --output-on-failure",
        ),
        (&[("CMakeLists.txt", "project(x)")], ""),
        (
            &[("justfile", "build:\n\ntest *ARGS: build\n  pytest\n")],
            "just test",
        ),
        (&[("justfile", "test := 'x'\n")], ""),
        (&[(".justfile", "@test:\n  pytest\n")], "just test"),
        (&[("Makefile", "tests: all\n\ttrue\n")], "make tests"),
        (
            &[("Makefile", "tests:\n\ttrue\ntest : tests\n\ttrue\n")],
            "make test",
        ),
        (&[("Makefile", ".PHONY: test\nlint:\n\ttrue\n")], ""),
        (&[("Makefile", "all:\n\ntest: all\n\ttrue\n")], "make test"),
        (&[("Makefile", "all test:\n\ttrue\n")], "make test"),
        (&[("Makefile", "test::\n\ttrue\n")], "make test"),
        (&[("GNUmakefile", "check: all\n\ttrue\n")], "make check"),
        (
            &[("Makefile", "test := x\ntest ?= y\nlatest:\n\ttrue\n")],
            "",
        ),
        (&[("README.md", "test:")], ""),
        (&[("tests/package.json", npm), ("examples/pom.xml", "")], ""),
    ];
    for (files, expected) in cases {
        assert_eq!(detected(files), *expected, "{files:?}");
    }
}

#[test]
fn python_is_tested_as_its_tests_are_written() {
    let unit = "import unittest";
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("pyproject.toml", "[tool.pytest.ini_options]")],
            "python3 -m pytest -v",
        ),
        (&[("tests/conftest.py", "")], "python3 -m pytest -v"),
        (&[("pytest.toml", "[pytest]")], "python3 -m pytest -v"),
        (
            &[("tox.ini", "[tox]\n[testenv]\n[pytest]\n")],
            "python3 -m pytest -v",
        ),
        (
            &[("tests/test_a.py", "import pytest")],
            "python3 -m pytest -v",
        ),
        (
            &[("tests/test_a.py", "def test_a(): pass")],
            "python3 -m pytest -v",
        ),
        (&[("test_a.py", unit)], "python3 -m unittest -v"),
        (
            &[("tests/__init__.py", ""), ("tests/test_a.py", unit)],
            "python3 -m unittest -v",
        ),
        (
            &[("tests/test_a.py", unit)],
            "python3 -m unittest discover -s tests -v",
        ),
        (
            &[("tests/unit/test_a.py", unit)],
            "python3 -m unittest discover -s tests/unit -v",
        ),
        (
            &[("a/test_a.py", unit), ("b/test_b.py", unit)],
            "python3 -m pytest -v",
        ),
        (
            &[("a_test.py", unit)],
            "python3 -m unittest discover -p *_test.py -v",
        ),
        (
            &[("manage.py", "import django"), ("shop/tests.py", "x")],
            "python3 manage.py test",
        ),
        (&[("tox.ini", "[testenv]"), ("a.py", "")], "tox"),
        (
            &[("tox.ini", "[testenv]"), ("test_a.py", unit)],
            "python3 -m unittest -v",
        ),
        (&[("noxfile.py", "")], "nox"),
    ];
    for (files, expected) in cases {
        assert_eq!(detected(files), *expected, "{files:?}");
    }
}

#[test]
fn all_languages_are_tested_that_with_most_of_the_code_first() {
    let npm = r#"{"scripts":{"test":"prettier --check ."}}"#;
    let much = "much more code than there is in the other part of it all";
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[
                ("package.json", npm),
                ("app.py", "def total(items): return sum(items)"),
                ("test_app.py", "import unittest"),
                ("Makefile", "test:\n\tnpm test\n"),
                ("node_modules/a/index.js", much),
            ],
            "python3 -m unittest -v && npm test",
        ),
        (
            &[
                ("web/package.json", npm),
                ("web/src/main.ts", much),
                ("api/go.mod", "module x"),
                ("api/main.go", "package x"),
            ],
            "npm --prefix web test && go -C api test ./...",
        ),
        (
            &[
                ("Cargo.toml", "[workspace]"),
                ("core/src/lib.rs", much),
                ("pyproject.toml", "[tool.pytest.ini_options]"),
                ("py/a.py", "x"),
            ],
            "cargo test --workspace && python3 -m pytest -v",
        ),
        (
            &[
                ("pom.xml", ""),
                ("mvnw", "#!"),
                ("src/A.java", "x"),
                ("ui/package.json", npm),
                ("ui/a.ts", much),
            ],
            "npm --prefix ui test && ./mvnw --batch-mode test",
        ),
        (
            &[("go.work", ""), ("a/go.mod", ""), ("b/go.mod", "")],
            "go -C a test ./... && go -C b test ./...",
        ),
    ];
    for (files, expected) in cases {
        assert_eq!(detected(files), *expected, "{files:?}");
        assert!(left_out(files).is_empty(), "{files:?}");
    }
}

#[test]
fn what_is_not_run_is_named_with_the_reason() {
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

    let npm = r#"{"scripts":{"test":"jest"}}"#;
    let apart = "it is no part of the project in the root";
    let cases: &[Case<'_>] = &[
        (
            &[("Cargo.toml", "[package]"), ("fuzz/Cargo.toml", "")],
            &["cargo test --manifest-path fuzz/Cargo.toml"],
        ),
        (
            &[("Cargo.toml", "[workspace]"), ("core/Cargo.toml", "")],
            &[],
        ),
        (
            &[("go.mod", ""), ("tools/go.mod", "")],
            &["go -C tools test ./..."],
        ),
        (
            &[("package.json", npm), ("site/package.json", npm)],
            &["npm --prefix site test"],
        ),
        (
            &[
                (
                    "package.json",
                    r#"{"scripts":{"test":"x"},"workspaces":["a"]}"#,
                ),
                ("a/package.json", npm),
            ],
            &[],
        ),
    ];
    for (files, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|it| format!("{it}: {apart}")).collect();
        assert_eq!(left_out(files), expected, "{files:?}");
    }
    let folders: Vec<_> = (0..9).map(|n| format!("p{n}/go.mod")).collect();
    let files: Vec<_> = folders.iter().map(|path| (path.as_str(), "")).collect();
    assert_eq!(found(&files).commands.len(), MOST);
    assert_eq!(left_out(&files).len(), 3);
}

#[test]
fn packages_of_python_in_src_are_known_and_a_package_called_src_is_not_taken_for_them() {
    for (paths, expected) in [
        (&["src/shop/__init__.py", "tests/test_a.py"][..], true),
        (&["src/shop.py"], true),
        (&["src/shop/sub/__init__.py"], false),
        (&["src/__init__.py", "src/types.py"], false),
        (&["src/main.rs", "shop/__init__.py"], false),
    ] {
        let files: Vec<_> = paths.iter().map(|path| (*path, "")).collect();
        assert_eq!(has_source_folder(&entries(&files)), expected, "{paths:?}");
    }
}
