use std::sync::Arc;

use patchfleet_model::{Answer, Broken, ModelError, Part, Stop};

use super::*;
use crate::nodes::tests::{FIX, REPOSITORY, Rig};
use crate::tools::script::{Script, said};

async fn summarized(answers: Vec<Result<Answer, Broken>>) -> (patchfleet_flow::Report, Rig) {
    let mut rig = Rig::answering(REPOSITORY, &[FIX]).await;
    let script = Arc::new(Script::new(answers));
    rig.summarizer = Some(Summarizer {
        model: script.language_model(),
    });
    (rig.run().await.unwrap(), rig)
}

fn text(text: &str) -> Result<Answer, Broken> {
    said(vec![Part::Text(text.to_owned())], Stop::End)
}

#[tokio::test]
async fn the_words_of_a_model_stand_before_what_the_machine_knows() {
    let token = format!("ghp_{}", "a1B2".repeat(9));
    let words = json!({
        "title": "Addition adds",
        "changes": [format!("`add` adds instead of subtracting, closes #4 {token}")],
        "next_actions": ["Look at `sub`"],
    });
    let (report, _) = summarized(vec![text(&words.to_string())]).await;
    let shown = report
        .ctx
        .text("summary.report")
        .unwrap()
        .replace('\u{200B}', "·");
    let changes = "### Changes\n\n- `add` adds instead of subtracting, closes #·4 [redacted]\n- `calc.py` (+1 −1)\n";
    assert!(shown.contains(changes), "{shown}");
    assert!(shown.contains("- after the change: exit code 0"), "{shown}");
    assert!(shown.contains("- Look at `sub`"), "{shown}");
    assert_eq!(report.ctx.text("summary.json.title"), Some("Addition adds"));
    assert_eq!(
        report.ctx.text("summary.model.model"),
        Some("script/script-1")
    );
}

#[tokio::test]
async fn a_summary_that_cant_be_had_fails_nothing() {
    let away = Err(Broken::new(ModelError::Authentication {
        why: "no".to_owned(),
    }));
    for (answers, why) in [
        (
            vec![text("Done."), text("Done!")],
            "it is no JSON object but `Done!`",
        ),
        (vec![away], "the provider does not accept the key: no"),
    ] {
        let (report, mut rig) = summarized(answers).await;
        let shown = report.ctx.text("summary.report").unwrap();
        assert!(
            shown.starts_with("### Changes\n\n- `calc.py` (+1 −1)\n"),
            "{shown}"
        );
        let said = report.ctx.text("summary.model.result.unusable").unwrap();
        assert!(said.contains(why), "{said}");
        let log = rig.log();
        assert!(log.contains("the summary is that of the rules"), "{log}");
    }
}

#[tokio::test]
async fn a_model_that_takes_too_long_is_called_off() {
    let rig = Rig::with(REPOSITORY).await;
    let script = Arc::new(Script::new(Vec::new()));
    let summarizer = Summarizer {
        model: script.language_model(),
    };
    let deps = rig.deps(rig.workspace(1).await).await.unwrap();
    let node = Summarize(Arc::new(deps));
    let ctx = Context::default();
    let call = NodeCall {
        node: "summarize",
        visit: 1,
        ctx: &ctx,
        with: Value::Null,
        cancel: tokio_util::sync::CancellationToken::new(),
    };
    let repository = "acme/orders".parse().unwrap();
    let subject = Subject {
        repository: &repository,
        title: "Sum is wrong",
        body: "",
        follow_ups: Vec::new(),
        tests: Vec::new(),
        risks: &[],
        marks: &[],
        earlier: Vec::new(),
        diff: "",
    };
    tokio::time::pause();
    let answered = node.ask(&summarizer, &subject, &call).await;
    assert_eq!(
        answered.unwrap_err(),
        Unanswered::Failed(ModelError::Cancelled)
    );
    assert_eq!(script.asked().len(), 1);
    assert!(!call.cancel.is_cancelled(), "the task goes on");
}
