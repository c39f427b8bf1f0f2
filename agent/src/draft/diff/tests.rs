use std::sync::Arc;

use patchfleet_domain::FailureKind;
use patchfleet_model::{EditFormat, Part};

use super::*;
use crate::draft::Drafter;
use crate::nodes::tests::{REPOSITORY, Rig};
use crate::tools::script::{Script, said};

type Said = Result<Answer, Broken>;

const FIX: &str = "It subtracts.\n\n<<<<<<< SEARCH calc.py\n    return a - b\n=======\n    return a + b\n\
                   >>>>>>> REPLACE\n";

fn text(text: &str) -> Said {
    said(vec![Part::Text(text.to_owned())], Stop::End)
}

/// A rig whose drafter is a model that answers by a script.
async fn modelled(format: EditFormat, answers: Vec<Said>) -> (Rig, Arc<Script>) {
    let mut rig = Rig::with(REPOSITORY).await;
    let script = Arc::new(Script::new(answers));
    rig.drafter = Drafter::Diff(Arc::new(DiffDraft {
        model: script.language_model(),
        format,
        sandbox: Sandbox::default(),
    }));
    (rig, script)
}

/// What the user says in one of the requests.
fn user(asked: &Conversation) -> Vec<&str> {
    let messages = asked.messages.iter();
    let texts = messages.filter_map(|message| match message {
        Message::User(text) => Some(text.as_str()),
        Message::Assistant(_) => None,
    });
    texts.collect()
}

#[tokio::test]
async fn the_blocks_of_one_answer_become_a_tested_pull_request() {
    let new = "<<<<<<< FILE docs/add.md\n# Adding\n>>>>>>> FILE\n";
    let answers = vec![text(&format!("{FIX}{new}"))];
    let (mut rig, script) = modelled(EditFormat::Diff, answers).await;
    let report = rig.run().await.unwrap();
    assert!(rig.on_branch("calc.py").await.contains("return a + b"));
    assert_eq!(rig.on_branch("docs/add.md").await, "# Adding");
    let record: ModelWork =
        serde_json::from_value(report.ctx.get("draft.model").unwrap().clone()).unwrap();
    assert_eq!((record.steps, record.usage.input), (1, 100));
    assert_eq!(record.prompt, "draft-diff 1");
    assert_eq!(record.summary.as_deref(), Some("It subtracts."));
    let asked = script.asked();
    let [first] = user(&asked[0])[..] else {
        panic!()
    };
    assert!(asked[0].tools.is_empty() && asked[0].system.contains("<<<<<<< SEARCH"));
    assert!(
        first.contains("<untrusted-text>\nIt subtracts.\n</untrusted-text>"),
        "{first}"
    );
    assert!(
        first.contains("- `calc.py` (") && first.contains("`calc.py`:\n<untrusted-text>\ndef add"),
        "{first}"
    );
    let log = rig.log();
    assert!(log.contains("2 blocks are applied"), "{log}");
}

#[tokio::test]
async fn whole_files_are_written_where_the_model_writes_those_best() {
    let answers = vec![text(
        "<<<<<<< FILE calc.py\n```python\ndef add(a, b):\n    return a + b\n```\n>>>>>>> FILE\n",
    )];
    let (rig, script) = modelled(EditFormat::Whole, answers).await;
    rig.run().await.unwrap();
    let calc = rig.on_branch("calc.py").await;
    assert_eq!(calc, "def add(a, b):\n    return a + b");
    assert!(!script.asked()[0].system.contains("SEARCH"));
}

#[tokio::test]
async fn what_does_not_apply_is_asked_for_once_more_with_the_nearest_lines() {
    let wrong =
        "<<<<<<< SEARCH calc.py\n    return a-b\n=======\n    return a + b\n>>>>>>> REPLACE\n";
    let new = "<<<<<<< FILE notes.md\nAdds.\n>>>>>>> FILE\n";
    let answers = vec![text(&format!("{new}{wrong}")), text(FIX)];
    let (rig, script) = modelled(EditFormat::Diff, answers).await;
    let report = rig.run().await.unwrap();
    assert!(rig.on_branch("calc.py").await.contains("return a + b"));
    assert_eq!(rig.on_branch("notes.md").await, "Adds.");
    let record: ModelWork =
        serde_json::from_value(report.ctx.get("draft.model").unwrap().clone()).unwrap();
    assert_eq!((record.steps, record.usage.input), (2, 200));
    let asked = script.asked();
    let told = user(&asked[1])[1];
    for part in [
        "1 of your 2 blocks were applied and stay",
        "Block 2 (`calc.py`)",
        "Nearest, from line 2",
        "return a - b",
    ] {
        assert!(told.contains(part), "{told}");
    }
}

#[tokio::test]
async fn what_does_not_apply_twice_is_refused_and_the_next_round_is_told_the_block() {
    let wrong =
        "<<<<<<< SEARCH calc.py\n    return b - c\n=======\n    return a + b\n>>>>>>> REPLACE\n";
    let answers = vec![text(wrong), text(wrong), text(FIX)];
    let (rig, script) = modelled(EditFormat::Diff, answers).await;
    rig.run().await.unwrap();
    assert!(rig.on_branch("calc.py").await.contains("return a + b"));
    let asked = script.asked();
    let second = user(&asked[2])[0];
    assert!(second.contains("## Round 2"), "{second}");
    assert!(
        second.contains("1 of 1 blocks do not apply. Block 1 (`calc.py`)"),
        "{second}"
    );

    let (rig, script) = modelled(EditFormat::Diff, (0..6).map(|_| text(wrong)).collect()).await;
    let failure = rig.fails().await;
    assert_eq!(failure.kind, FailureKind::DiffRejected, "{failure:?}");
    assert!(
        failure.message.contains("Block 1 (`calc.py`)"),
        "{failure:?}"
    );
    assert_eq!(script.asked().len(), 6);
}

#[tokio::test]
async fn nothing_of_an_answer_that_was_cut_is_applied() {
    let cut = || said(vec![Part::Text(FIX.to_owned())], Stop::OutputCut);
    let right = FIX.replace("a + b", "b + a");
    let (rig, script) = modelled(EditFormat::Diff, vec![cut(), text(&right)]).await;
    rig.run().await.unwrap();
    assert!(rig.on_branch("calc.py").await.contains("return b + a"));
    assert!(user(&script.asked()[1])[1].contains("cut at 16000 tokens"));

    let half = FIX.trim_end_matches(">>>>>>> REPLACE\n");
    let (rig, script) = modelled(EditFormat::Diff, vec![text(half), text(&right)]).await;
    rig.run().await.unwrap();
    assert!(rig.on_branch("calc.py").await.contains("return b + a"));
    assert!(user(&script.asked()[1])[1].contains("Nothing of your answer was applied: block 1"));
}

#[tokio::test]
async fn an_answer_that_is_no_change_is_a_typed_failure_with_the_remedy() {
    let away = || {
        Err(Broken::new(ModelError::Authentication {
            why: "no".to_owned(),
        }))
    };
    let cut = || said(vec![Part::Text(FIX.to_owned())], Stop::OutputCut);
    let refused = said(Vec::new(), Stop::Refused("no".to_owned()));
    for (answers, kind, words) in [
        (
            vec![text("Sure!"), text("I would edit calc.py.")],
            FailureKind::DraftFailed,
            "script/script-1 answered twice without a change that can be read: choose a stronger",
        ),
        (
            vec![text("NO CHANGE NEEDED: it is right.")],
            FailureKind::DraftFailed,
            "no change is needed: it is right.",
        ),
        (
            vec![cut(), cut()],
            FailureKind::DraftFailed,
            "raise agents.draft.model.max_output",
        ),
        (
            vec![refused],
            FailureKind::DraftFailed,
            "the model refused: no",
        ),
        (
            vec![away()],
            FailureKind::ModelUnusable,
            "script/script-1 can't go on: the provider does not accept the key",
        ),
    ] {
        let (rig, _) = modelled(EditFormat::Diff, answers).await;
        let failure = rig.fails().await;
        assert_eq!(failure.kind, kind, "{failure:?}");
        assert!(failure.message.contains(words), "{failure:?}");
        let calc = rig.workspaces_file("repo-clone/calc.py");
        assert!(calc.contains("a - b"), "{calc}");
    }
}

#[tokio::test]
async fn what_no_draft_may_touch_is_refused_by_the_rules_of_the_tools() {
    let steering = "<<<<<<< FILE .github/workflows/ci.yml\non: push\n>>>>>>> FILE\n";
    let outside = "<<<<<<< FILE ../outside.py\nx\n>>>>>>> FILE\n";
    let over = "<<<<<<< SEARCH calc.py\n=======\nx = 1\n>>>>>>> REPLACE\n";
    let answers = vec![text(&format!("{steering}{outside}{over}")), text(FIX)];
    let (rig, script) = modelled(EditFormat::Diff, answers).await;
    rig.run().await.unwrap();
    let asked = script.asked();
    let told = user(&asked[1])[1];
    assert!(told.contains("0 of your 3 blocks"), "{told}");
    assert!(
        told.contains("`.github/workflows/ci.yml` is refused"),
        "{told}"
    );
    assert!(told.contains("`../outside.py` is refused"), "{told}");
    assert!(told.contains("`calc.py` exists already"), "{told}");
}

#[tokio::test]
async fn a_window_without_room_for_the_request_is_not_paid_for() {
    let (mut rig, script) = modelled(EditFormat::Diff, vec![text(FIX)]).await;
    rig.drafter = Drafter::Diff(Arc::new(DiffDraft {
        model: LanguageModel {
            window: 16_500,
            ..script.language_model()
        },
        format: EditFormat::Diff,
        sandbox: Sandbox::default(),
    }));
    let failure = rig.fails().await;
    assert!(
        failure
            .message
            .contains("longer than the model's window of 16500 tokens"),
        "{failure:?}"
    );
    assert!(script.asked().is_empty());
}
