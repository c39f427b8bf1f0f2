use std::sync::Arc;
use std::time::Duration;

use patchfleet_domain::FailureKind;
use patchfleet_model::{Broken, ModelError, Part, Stop};
use serde_json::json;

use super::*;
use crate::draft::Drafter;
use crate::nodes::tests::{REPOSITORY, Rig};
use crate::tools::script::{Script, calls, edit, finish, said};

type Answers = Vec<Result<patchfleet_model::Answer, Broken>>;

/// A rig whose drafter is a model that answers by a script.
async fn modelled(answers: Answers) -> (Rig, Arc<Script>) {
    let mut rig = Rig::with(REPOSITORY).await;
    let script = Arc::new(Script::new(answers));
    rig.drafter = Drafter::Tools(Arc::new(ToolsDraft {
        model: script.language_model(),
        max_steps: 10,
        timeout: Duration::from_mins(10),
        sandbox: Sandbox::default(),
    }));
    (rig, script)
}

#[tokio::test]
async fn the_change_of_a_model_is_taken_from_the_work_tree_and_published() {
    let new = json!({"path": "docs/add.md", "content": "# Adding\n"});
    let answers = vec![
        calls([
            ("read_file", json!({"path": "calc.py"})),
            ("run_tests", json!({})),
        ]),
        calls([edit(), ("create_file", new), ("run_tests", json!({}))]),
        calls([finish()]),
    ];
    let (mut rig, script) = modelled(answers).await;
    let report = rig.run().await.unwrap();
    assert!(rig.on_branch("calc.py").await.contains("return a + b"));
    assert_eq!(rig.on_branch("docs/add.md").await, "# Adding");
    let record: ModelWork =
        serde_json::from_value(report.ctx.get("draft.model").unwrap().clone()).unwrap();
    assert_eq!((record.steps, record.usage.input), (3, 300));
    assert_eq!(record.summary.as_deref(), Some("It adds now."));
    assert_eq!(record.model, "script/script-1");
    let results = script.last_results();
    assert!(results[2].content.starts_with("PASSED"), "{results:?}");
    let log = rig.log();
    assert!(
        log.contains("step 1 of 10: read_file calc.py; run_tests"),
        "{log}"
    );
}

#[tokio::test]
async fn the_next_round_goes_on_from_the_last_and_is_told_what_the_tests_say() {
    let wrong = json!({"path": "calc.py", "old": "a - b", "new": "a * b"});
    let right = json!({"path": "calc.py", "old": "a * b", "new": "a + b"});
    let answers = vec![
        calls([("edit_file", wrong), finish()]),
        calls([("edit_file", right), finish()]),
    ];
    let (rig, script) = modelled(answers).await;
    rig.run().await.unwrap();
    assert!(rig.on_branch("calc.py").await.contains("return a + b"));
    let asked = script.asked();
    let patchfleet_model::Message::User(second) = &asked[1].messages[0] else {
        panic!()
    };
    assert!(
        second.contains("## Round 2") && second.contains("AssertionError"),
        "{second}"
    );
}

#[tokio::test]
async fn the_work_of_a_model_that_was_stopped_is_tested_and_the_stop_is_a_risk() {
    let talk = || said(vec![Part::Text("Done.".to_owned())], Stop::End);
    let answers = vec![calls([edit()]), talk(), talk(), talk()];
    let (rig, _) = modelled(answers).await;
    let report = rig.run().await.unwrap();
    assert!(rig.on_branch("calc.py").await.contains("return a + b"));
    let risks = report.ctx.get("review.risks").unwrap().to_string();
    assert!(risks.contains("was stopped before"), "{risks}");
}

#[tokio::test]
async fn a_draft_without_a_change_is_a_typed_failure_and_the_work_tree_is_at_its_base() {
    let none = json!({"summary": "It is right as it is.", "no_change_needed": true});
    let away = || {
        Err(Broken::new(ModelError::Authentication {
            why: "no".to_owned(),
        }))
    };
    let talk = || said(vec![Part::Text("Hm.".to_owned())], Stop::End);
    for (answers, kind, text) in [
        (
            vec![calls([("finish", none)])],
            FailureKind::DraftFailed,
            "no change is needed: It is right",
        ),
        (
            vec![talk(), talk(), talk()],
            FailureKind::DraftFailed,
            "had changed no file",
        ),
        (
            vec![calls([edit()]), away()],
            FailureKind::ModelUnusable,
            "script/script-1 can't go on: the provider does not accept the key: no; put a key that \
             the provider accepts where agents.draft.model.key says",
        ),
    ] {
        let (rig, _) = modelled(answers).await;
        let failure = rig.fails().await;
        assert_eq!(failure.kind, kind, "{failure:?}");
        assert!(failure.message.contains(text), "{failure:?}");
        let calc = rig.workspaces_file("repo-clone/calc.py");
        assert!(calc.contains("a - b"), "{calc}");
    }
}
