//! Repositories of several languages, and layouts in which tests are found.

use super::*;

/// Does what `gradlew` does for a project of Java, in a few lines of its own.
async fn add_gradle(rig: &Rig, script: &str) {
    let origin = &rig.bench.origin;
    let wrapper = origin.work().join("gradlew");
    std::fs::write(&wrapper, format!("#!/bin/sh\n{script}\n")).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(wrapper, executable).unwrap();
    origin
        .advance(&[("build.gradle", ""), ("A.java", "x")])
        .await;
}

fn body(rig: &Rig) -> String {
    rig.desk.drafts.lock().unwrap()[0].body.clone()
}

/// Python that leaves something behind.
const UNTIDY: &[(&str, &str)] = &[
    REPOSITORY[0],
    (
        "test_calc.py",
        "import unittest\nfrom calc import add\n\n\nclass CalcTest(unittest.TestCase):\n    \
         def test_add(self):\n        open('left', 'w').close()\n        \
         self.assertEqual(add(1, 2), 3)\n",
    ),
];

#[tokio::test]
async fn all_languages_are_tested_in_clean_work_trees_and_each_is_told() {
    let rig = Rig::answering(UNTIDY, &[FIX]).await;
    add_gradle(&rig, "test ! -e left").await;
    let report = rig.run().await.unwrap();
    let body = body(&rig);
    for line in [
        "`python3 -m unittest -v && ./gradlew --no-daemon test`",
        "- before the change: exit code 1",
        "- after the change: exit code 0",
        "- `python3 -m unittest -v`: exit code 1 before, exit code 0 after",
        "- `./gradlew --no-daemon test`: exit code 0 before, exit code 0 after",
        "test_calc.CalcTest.test_add",
    ] {
        assert!(body.contains(line), "{line} is not in\n{body}");
    }
    let Ok(Outcome::PullRequest { tests_after, .. }) = outcome(&report.ctx) else {
        panic!("a pull request")
    };
    assert!(tests_after.unwrap().passed());
}

#[tokio::test]
async fn a_change_that_breaks_another_language_is_red() {
    let rig = Rig::answering(REPOSITORY, &[FIX; 3]).await;
    add_gradle(&rig, "grep -q 'a - b' calc.py").await;
    let failure = rig.fails().await;
    assert_eq!(failure.kind, FailureKind::TestsFailed);
    let said = "it is `./gradlew --no-daemon test` that fails";
    assert!(failure.message.contains(said), "{}", failure.message);
    assert!(
        !failure.message.contains("as it did before"),
        "{}",
        failure.message
    );
    assert!(rig.desk.drafts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_language_whose_tool_is_not_there_is_left_out_and_named() {
    let rig = Rig::answering(REPOSITORY, &[FIX]).await;
    rig.bench.origin.advance(&[("Package.swift", "")]).await;
    rig.run().await.unwrap();
    let body = body(&rig);
    assert!(
        body.contains("other tests that were not run: `swift test` ("),
        "{body}"
    );
    assert!(body.contains("`python3 -m unittest -v`\n"), "{body}");
}

#[tokio::test]
async fn where_the_tool_of_most_of_the_code_is_not_there_no_draft_is_paid() {
    let rig = Rig::answering(REPOSITORY, &[FIX]).await;
    let much = "let x = 1\n".repeat(1000);
    let swift = [("Package.swift", ""), ("Sources/main.swift", much.as_str())];
    rig.bench.origin.advance(&swift).await;
    let failure = rig.fails().await;
    assert_eq!(failure.kind, FailureKind::TestCommandInvalid);
    assert!(
        failure.message.contains("`swift test`"),
        "{}",
        failure.message
    );
    assert!(!failure.retryable);
    assert!(rig.notes.checkpoints.lock().unwrap().is_empty());
}

#[tokio::test]
async fn commands_of_the_repository_build_on_each_other_up_to_the_first_that_fails() {
    let test = "assert open('built').read() == 'yes'";
    let config = format!(
        "test:\n  - [python3, -c, \"open('built', 'w').write('yes')\"]\n  \
         - [python3, -c, \"{test}\"]\n  - python3 -m unittest\n"
    );
    let mut files = REPOSITORY.to_vec();
    files.push((".patchfleet.yaml", &config));
    let rig = Rig::answering(&files, &[FIX]).await;
    rig.run().await.unwrap();
    assert!(body(&rig).contains("- `python3 -m unittest`: exit code 1 before, exit code 0 after"));

    let config = "test: [python3 -c 'raise SystemExit(3)', python3 -c 'print(\"reached\")']\n";
    let mut files = REPOSITORY.to_vec();
    files.push((".patchfleet.yaml", config));
    let failure = Rig::answering(&files, &[FIX; 3]).await.fails().await;
    assert!(
        failure.message.contains("exit code 3"),
        "{}",
        failure.message
    );
    assert!(!failure.message.contains("reached"), "{}", failure.message);
}

#[tokio::test]
async fn what_the_configuration_says_in_vain_is_told() {
    let mut files = REPOSITORY.to_vec();
    files.push((".patchfleet.yml", "agent_type: frontend\n"));
    let rig = Rig::answering(&files, &[FIX]).await;
    rig.run().await.unwrap();
    let body = body(&rig);
    let said = "Without effect in `.patchfleet.yaml`: `agent_type: frontend`, since";
    assert!(body.contains(said), "{body}");
}

#[tokio::test]
async fn a_file_that_looks_like_the_configuration_and_is_not_read_is_told() {
    for name in [
        "patchfleet.yml",
        ".github/.patchfleet.yaml",
        ".Patchfleet.yaml",
    ] {
        let mut files = REPOSITORY.to_vec();
        files.push((name, "allowed_paths: [docs]\n"));
        let rig = Rig::answering(&files, &[FIX]).await;
        rig.run().await.unwrap();
        let body = body(&rig);
        let said = format!("Not read: `{name}`; the configuration is called `.patchfleet.yaml`");
        assert!(body.contains(&said), "{body}");
    }
}

/// A package below `src`, with its tests beside it.
const IN_SRC: &[(&str, &str)] = &[
    ("src/shop/__init__.py", "def add(a, b):\n    return a - b\n"),
    (
        "tests/test_shop.py",
        "import unittest\nfrom shop import add\n\n\nclass ShopTest(unittest.TestCase):\n    \
         def test_add(self):\n        self.assertEqual(add(1, 2), 3)\n",
    ),
];

#[tokio::test]
async fn detected_tests_of_python_find_a_package_in_src_and_configured_ones_are_run_as_they_are() {
    let fix = FIX.replace("calc.py", "src/shop/__init__.py");
    let rig = Rig::answering(IN_SRC, &[&fix]).await;
    rig.run().await.unwrap();
    let body = body(&rig);
    assert!(body.contains("test_shop.ShopTest.test_add"), "{body}");
    let mut files = IN_SRC.to_vec();
    files.push((
        ".patchfleet.yaml",
        "test: python3 -m unittest discover -s tests\n",
    ));
    let failure = Rig::answering(&files, &[fix.as_str(); 3])
        .await
        .fails()
        .await;
    let said = "No module named 'shop'";
    assert!(failure.message.contains(said), "{}", failure.message);
}
