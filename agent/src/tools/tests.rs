use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::nodes::TestPolicy;
use crate::nodes::tests::{REPOSITORY, Rig};

/// A work tree, and what tools need.
pub(super) struct Scene {
    pub(super) workspace: Workspace,
    config: RepositoryConfig,
    tests: TestRun,
    sandbox: Sandbox,
    installed: InstalledFiles,
    private: std::path::PathBuf,
    pub(super) cancel: CancellationToken,
    _rig: Rig,
}

impl Scene {
    pub(super) async fn with(files: &[(&str, &str)]) -> Self {
        let rig = Rig::with(files).await;
        let workspace = rig.workspace(1).await;
        let config = RepositoryConfig::default();
        let words = ["python3", "-m", "unittest"].map(str::to_owned).into();
        workspace.check_out(&workspace.base).await.unwrap();
        Self {
            tests: TestRun::new(words, &config, &TestPolicy::default()),
            private: workspace.layout.draft_private(),
            config,
            workspace,
            sandbox: Sandbox::default(),
            installed: InstalledFiles::default(),
            cancel: CancellationToken::new(),
            _rig: rig,
        }
    }

    pub(super) async fn tools(&self) -> Tools<'_> {
        let base = format!("{}^{{tree}}", self.workspace.base);
        let start = self.workspace.repository.resolve(&base).await.unwrap();
        let scope = Scope {
            workspace: &self.workspace,
            config: &self.config,
            sandbox: &self.sandbox,
            tests: &self.tests,
            installed: &self.installed,
            private: &self.private,
            on_line: Arc::new(|_| {}),
            cancel: &self.cancel,
        };
        Tools::new(scope, start.unwrap()).await.unwrap()
    }

    pub(super) fn file(&self, path: &str) -> std::path::PathBuf {
        self.workspace.layout.repo_clone().join(path)
    }
}

async fn call(tools: &mut Tools<'_>, name: &str, arguments: Value) -> Answer {
    tools.call((name, &arguments), 1, cap::TURN).await.unwrap()
}

async fn refused(tools: &mut Tools<'_>, name: &str, arguments: Value) -> String {
    let answer = call(tools, name, arguments.clone()).await;
    assert!(answer.is_error, "{name} {arguments}: {}", answer.text);
    answer.text
}

async fn said(tools: &mut Tools<'_>, name: &str, arguments: Value) -> String {
    let answer = call(tools, name, arguments).await;
    assert!(!answer.is_error, "{}", answer.text);
    answer.text
}

#[test]
fn each_tool_has_a_schema_and_a_name_of_its_own() {
    let names: BTreeSet<_> = definitions().map(|it| it.name).collect();
    assert_eq!(names.len(), 8);
    for definition in definitions() {
        assert_eq!(
            definition.parameters["additionalProperties"], false,
            "{}",
            definition.name
        );
    }
}

#[tokio::test]
async fn wrong_arguments_and_unknown_tools_are_told_what_is_wrong() {
    let scene = Scene::with(REPOSITORY).await;
    let mut tools = scene.tools().await;
    let error = refused(&mut tools, "bash", json!({"command": "ls"})).await;
    assert!(
        error.contains("there is no tool `bash`; there are list_files, read_file"),
        "{error}"
    );
    let error = refused(&mut tools, "read_file", json!({"start_line": 0, "line": 3})).await;
    for rule in [
        "`start_line`",
        "minimum",
        "additionalProperties",
        "required",
    ] {
        assert!(error.contains(rule), "{error}");
    }
    let error = refused(&mut tools, "read_file", json!("calc.py")).await;
    assert!(error.contains("rule `type`"), "{error}");
    // What some models send for no arguments.
    said(&mut tools, "list_files", Value::Null).await;
}

#[tokio::test]
async fn files_are_listed_and_read_with_their_hash_and_repeated_reads_are_short() {
    let scene = Scene::with(REPOSITORY).await;
    let mut tools = scene.tools().await;
    let listed = said(&mut tools, "list_files", json!({"glob": "*.py"})).await;
    assert!(
        listed.starts_with("2 files\n") && listed.contains("calc.py (32 bytes)"),
        "{listed}"
    );
    let read = call(&mut tools, "read_file", json!({"path": "./calc.py"})).await;
    let expected = "`calc.py`, blob 12ee7431b8e0, lines 1 to 2 of 2\n<untrusted-text>\n     \
        1\tdef add(a, b):\n     2\t    return a - b\n</untrusted-text>\n";
    assert_eq!(read.text, expected);
    assert!(read.is_news);
    let again = call(
        &mut tools,
        "read_file",
        json!({"path": "calc.py", "start_line": 2}),
    )
    .await;
    assert!(
        again.text.contains("are in the result of turn 1"),
        "{}",
        again.text
    );
    assert!(!again.is_news);
    tools.forget(&[read.number].into());
    let again = said(&mut tools, "read_file", json!({"path": "calc.py"})).await;
    assert!(again.contains("return a - b"), "{again}");
    std::fs::write(scene.file("calc.py"), "x = 1\n").unwrap();
    let again = said(&mut tools, "read_file", json!({"path": "calc.py"})).await;
    assert!(again.contains("x = 1"), "{again}");
    let error = refused(&mut tools, "read_file", json!({"path": "lib/calc.py"})).await;
    assert!(
        error.contains("there is no `lib/calc.py`; there is `calc.py`"),
        "{error}"
    );
    for path in ["../x", "/etc/passwd", ".git/config", "a\u{0}b"] {
        let error = refused(&mut tools, "read_file", json!({"path": path})).await;
        assert!(error.contains("is refused"), "{error}");
    }
}

#[tokio::test]
async fn long_files_are_shown_in_parts_that_say_how_to_go_on() {
    let long = (1..=5000).fold(String::new(), |text, number| {
        text + &format!("value_{number} = {number}\n")
    });
    let scene = Scene::with(&[("long.py", &long)]).await;
    let mut tools = scene.tools().await;
    let read = said(&mut tools, "read_file", json!({"path": "long.py"})).await;
    assert!(
        read.contains("of 5000; the lines") && read.contains("`start_line`"),
        "{read}"
    );
    assert!(read.contains("are left out here]"), "{read}");
    assert!(read.len() < cap::RESULT + 500, "{}", read.len());
    let range = json!({"path": "long.py", "start_line": 4999, "end_line": 9999});
    let read = said(&mut tools, "read_file", range).await;
    assert!(read.contains("lines 4999 to 5000 of 5000\n"), "{read}");
    let error = refused(
        &mut tools,
        "read_file",
        json!({"path": "long.py", "start_line": 6000}),
    )
    .await;
    assert!(error.contains("it has 5000 lines"), "{error}");
}

#[tokio::test]
async fn lines_are_found_and_bounded() {
    let many = "needle\n".repeat(300);
    let scene = Scene::with(&[
        ("a.txt", &many),
        ("b/c.rs", "fn needle() {}\r\n"),
        ("b/d.rs", "x"),
    ])
    .await;
    let mut tools = scene.tools().await;
    let found = said(&mut tools, "search", json!({"pattern": "needle"})).await;
    assert!(
        found.starts_with("301 matching lines in 2 files; the first 100 are shown"),
        "{found}"
    );
    let found = said(
        &mut tools,
        "search",
        json!({"pattern": r"needle\(\) \{\}$", "glob": "*.rs"}),
    )
    .await;
    assert!(
        found.contains("b/c.rs\n     1: fn needle() {}\n"),
        "{found}"
    );
    let found = said(
        &mut tools,
        "search",
        json!({"pattern": "needle()", "literal": true, "path": "b"}),
    )
    .await;
    assert!(
        found.starts_with("1 matching lines in 1 files\n"),
        "{found}"
    );
    let found = said(&mut tools, "search", json!({"pattern": "absent"})).await;
    assert_eq!(found, "0 matching lines in 0 files\n");
    let error = refused(&mut tools, "search", json!({"pattern": "needle("})).await;
    assert!(error.contains("`literal`"), "{error}");
}

#[tokio::test]
async fn secrets_of_the_repository_are_neither_shown_nor_found_nor_written() {
    let token = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    let text = format!("token = '{token}'\n");
    let scene = Scene::with(&[("settings.py", &text)]).await;
    let mut tools = scene.tools().await;
    let read = said(&mut tools, "read_file", json!({"path": "settings.py"})).await;
    assert!(
        !read.contains(&token) && read.contains("[redacted]"),
        "{read}"
    );
    let found = said(&mut tools, "search", json!({"pattern": "g7H8i9"})).await;
    assert_eq!(found, "0 matching lines in 0 files\n");
    let edit = json!({"path": "settings.py", "old": "token", "new": "[redacted]"});
    assert!(
        refused(&mut tools, "edit_file", edit)
            .await
            .contains("stands for")
    );
    let new = json!({"path": "new.py", "content": text});
    assert!(
        refused(&mut tools, "create_file", new)
            .await
            .contains("looks like a secret")
    );
}

#[tokio::test]
async fn files_are_edited_and_made_by_the_rules_of_drafts() {
    let scene = Scene::with(REPOSITORY).await;
    let mut tools = scene.tools().await;
    let edit = json!({"path": "calc.py", "old": "a - b", "new": "a + b"});
    let done = said(&mut tools, "edit_file", edit.clone()).await;
    assert!(done.contains("     2\t    return a + b"), "{done}");
    let error = refused(&mut tools, "edit_file", edit).await;
    assert!(
        error.contains("was not changed") && error.contains("return a + b"),
        "{error}"
    );
    let new = json!({"path": "pkg/new.py", "content": "x = 1\n"});
    let done = said(&mut tools, "create_file", new.clone()).await;
    assert!(done.contains("1 lines, blob"), "{done}");
    assert!(
        refused(&mut tools, "create_file", new)
            .await
            .contains("`edit_file`")
    );
    // What no change will have is told at once.
    let cached = json!({"path": "node_modules/x/index.js", "content": ""});
    let done = said(&mut tools, "create_file", cached).await;
    assert!(done.contains("leaves it out"), "{done}");
    std::os::unix::fs::symlink("/tmp/elsewhere", scene.file("dangling")).unwrap();
    let through = json!({"path": "dangling", "content": "x"});
    assert!(
        refused(&mut tools, "create_file", through)
            .await
            .contains("symbolic link")
    );
    for path in [
        ".github/workflows/ci.yml",
        "AGENTS.md",
        ".git/hooks/pre-commit",
        "../x",
    ] {
        let new = json!({"path": path, "content": "x"});
        assert!(
            refused(&mut tools, "create_file", new)
                .await
                .contains("is refused"),
            "{path}"
        );
    }
    let start = tools.start().clone();
    assert_ne!(tools.tree().await.unwrap_or(start.clone()), start);
}

#[tokio::test]
async fn programs_of_the_list_are_run_and_their_long_output_can_be_searched() {
    let scene = Scene::with(REPOSITORY).await;
    let mut tools = scene.tools().await;
    let script = "print('some words\\n' * 1000 + 'needle in it\\n' + 'some words\\n' * 1000); raise SystemExit(3)";
    let run = json!({"program": "python3", "arguments": ["-c", script]});
    let done = said(&mut tools, "run", run).await;
    assert!(done.contains("ended with exit code 3 after"), "{done}");
    assert!(done.contains("`output:1`"), "{done}");
    assert!(done.len() < cap::RESULT + 1000, "{}", done.len());
    let found = said(
        &mut tools,
        "search",
        json!({"pattern": "needle", "path": "output:1"}),
    )
    .await;
    assert!(found.contains(" 1001: needle in it"), "{found}");
    let page = json!({"path": "output:1", "start_line": 1001, "end_line": 1001});
    assert!(
        said(&mut tools, "read_file", page)
            .await
            .contains("needle in it")
    );
    let error = refused(&mut tools, "run", json!({"program": "curl"})).await;
    assert!(
        error.contains("curl") && error.contains("python3"),
        "{error}"
    );
    let error = refused(&mut tools, "run", json!({"program": "ls && rm -rf /"})).await;
    assert!(error.contains("ls && rm"), "{error}");
    let slow = json!({"program": "python3", "arguments": ["-c", "while True: pass"], "timeout_seconds": 1});
    assert!(
        said(&mut tools, "run", slow)
            .await
            .contains("was ended after its 1 s")
    );
}

#[tokio::test]
async fn tests_are_run_on_the_tree_as_it_is_and_none_is_no_pass() {
    let scene = Scene::with(REPOSITORY).await;
    let mut tools = scene.tools().await;
    let done = said(&mut tools, "run_tests", json!({})).await;
    assert!(
        done.starts_with("FAILED, on tree ") && done.contains("AssertionError"),
        "{done}"
    );
    let edit = json!({"path": "calc.py", "old": "a - b", "new": "a + b"});
    said(&mut tools, "edit_file", edit).await;
    let tree = tools.tree().await.unwrap();
    let done = said(&mut tools, "run_tests", json!({"selector": "test_add"})).await;
    assert!(
        done.starts_with(&format!("PASSED, on tree {tree}\n")),
        "{done}"
    );
    assert!(done.contains("unittest -k test_add"), "{done}");
    let done = said(&mut tools, "run_tests", json!({"selector": "no_such_test"})).await;
    assert!(done.starts_with("NO TESTS RAN"), "{done}");
    let error = refused(&mut tools, "run_tests", json!({"selector": "--help"})).await;
    assert!(error.contains("no option"), "{error}");
}

#[tokio::test]
async fn the_end_is_said_of_a_change_or_of_none_and_never_of_the_wrong_one() {
    let scene = Scene::with(REPOSITORY).await;
    let mut tools = scene.tools().await;
    let error = refused(&mut tools, "finish", json!({"summary": "done"})).await;
    assert!(error.contains("no file differs"), "{error}");
    let none = json!({"summary": "it is right", "no_change_needed": true});
    let answer = call(&mut tools, "finish", none.clone()).await;
    assert_eq!(
        answer.finish,
        Some(Finish::NotNeeded("it is right".to_owned()))
    );
    std::fs::write(scene.file("calc.py"), "x = 1\n").unwrap();
    assert!(
        refused(&mut tools, "finish", none)
            .await
            .contains("were changed")
    );
    let answer = call(&mut tools, "finish", json!({"summary": "done"})).await;
    assert_eq!(answer.finish, Some(Finish::Changed("done".to_owned())));
}

#[tokio::test]
async fn what_no_change_can_hold_is_told_and_ends_nothing() {
    let scene = Scene::with(REPOSITORY).await;
    let mut tools = scene.tools().await;
    std::fs::create_dir_all(scene.file("nested/.git")).unwrap();
    let error = refused(&mut tools, "run_tests", json!({})).await;
    assert!(error.contains("nested/.git"), "{error}");
    std::fs::remove_dir_all(scene.file("nested")).unwrap();
    said(&mut tools, "run_tests", json!({})).await;
}

#[tokio::test]
async fn the_results_of_a_turn_share_its_room() {
    let long = "word word word\n".repeat(3000);
    let scene = Scene::with(&[("long.txt", &long)]).await;
    let mut tools = scene.tools().await;
    let read = json!({"path": "long.txt"});
    let answer = tools.call(("read_file", &read), 1, 100).await.unwrap();
    assert!(
        answer.text.len() < cap::LEAST + 400,
        "{}",
        answer.text.len()
    );
}

#[tokio::test]
async fn a_draft_that_is_called_off_ends_in_the_middle_of_a_program() {
    let scene = Scene::with(REPOSITORY).await;
    let mut tools = scene.tools().await;
    let (sender, mut lines) = mpsc::channel(10);
    tools.scope.on_line = Arc::new(move |line| drop(sender.try_send(line.to_owned())));
    let run = json!({"program": "python3", "arguments": ["-c", "print('on', flush=True)\nwhile True: pass"]});
    let stop = async {
        lines.recv().await.unwrap();
        scene.cancel.cancel();
    };
    let (answer, ()) = tokio::join!(tools.call(("run", &run), 1, cap::TURN), stop);
    assert!(matches!(answer, Err(DraftError::Interrupted)), "{answer:?}");
}
