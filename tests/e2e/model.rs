//! The table of models on the command line.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

fn run(folder: &Path, args: &[&str]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "a person's shell")]
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_patchfleet"));
    let command = command.current_dir(folder).arg("model").args(args);
    command
        .env_remove("PATCHFLEET_MODEL_TABLE")
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

const OWN: &str = r#"[{"id": "mine", "models": [
    {"id": "my-model", "match": {"starts_with": "my-model"}, "prices": {"input_mtok": 0.25, "output_mtok": 2}},
    {"id": "gift", "match": {"equals": "gift"}, "patchfleet": {"free": true}}]},
  {"id": "anthropic", "models": [
    {"id": "claude-haiku-4-5", "match": {"starts_with": "claude-haiku-4-5"}, "prices": {"input_mtok": 7, "output_mtok": 8}}]}]"#;

#[test]
fn models_are_listed_shown_and_imported() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| run(folder.path(), args);
    let list = said(&run(&["list"]));
    assert!(list.lines().count() >= 40, "{list}");
    assert!(
        list.contains("anthropic/claude-haiku-4-5") && list.contains("free"),
        "{list}"
    );
    let shown = said(&run(&["show", "claude-haiku-4-5-20251001"]));
    assert!(
        shown.contains("input $1,") && shown.contains("cache read $0.1"),
        "{shown}"
    );
    assert!(
        shown.contains("https://") && shown.contains("as of 2026-"),
        "{shown}"
    );
    let unknown = run(&["show", "my-model-2"]);
    assert!(!unknown.status.success());
    let error = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        error.contains("`my-model-2`") && error.contains("model import"),
        "{error}"
    );

    let file = folder.path().join("data.json");
    std::fs::write(&file, OWN).unwrap();
    let file = file.to_string_lossy();
    let imported = said(&run(&["import", &file]));
    assert_eq!(imported, "3 models are in patchfleet-models.json now\n");
    let shown: Value =
        serde_json::from_str(&said(&run(&["--json", "show", "mine/my-model-2"]))).unwrap();
    assert_eq!(shown["prices"][0]["input"], "0.25");
    assert!(said(&run(&["show", "gift"])).contains("free"));
    let shown = said(&run(&["show", "anthropic/claude-haiku-4-5"]));
    assert!(
        shown.contains("input $7,"),
        "a table of one's own stands over the shipped one: {shown}"
    );
    let list = said(&run(&["list"]));
    assert_eq!(
        list.matches("anthropic/claude-haiku-4-5 ").count(),
        1,
        "{list}"
    );
}

#[test]
fn a_file_that_is_no_table_is_refused_with_its_place_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.json");
    for (text, expected) in [
        ("{\"a\": 1}", "form of genai-prices"),
        (
            "[{\"id\": \"p\", \"models\": [{\"id\": \"m\"}]}]",
            "[0].models[0]",
        ),
        ("not json", "genai-prices"),
    ] {
        std::fs::write(&file, text).unwrap();
        let refused = run(folder.path(), &["import", &file.to_string_lossy()]);
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && error.contains(expected),
            "{error}"
        );
        assert!(error.contains("data.json"), "{error}");
    }
    assert!(!folder.path().join("patchfleet-models.json").exists());
    let missing = run(folder.path(), &["import", "/no/such/file"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("can't read /no/such/file"));
}
