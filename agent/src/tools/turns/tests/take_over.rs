//! An attempt that goes through the turns of an earlier one, with the record that agents keep.

use std::sync::Arc;

use patchfleet_domain::report::Checkpoint;
use patchfleet_proto::v1;
use patchfleet_proto::v1::reservation::Answer as Allowed;

use super::compaction::{in_a_small_window, six_turns, summary};
use super::*;
use crate::model::Budgets;
use crate::model::kept_work::KeptWork;
use crate::model::recorded::Turns as Known;
use crate::session::heard::heard;

/// What came of an attempt.
struct Attempt {
    worked: Worked,
    kept: Vec<Checkpoint>,
    /// How many calls were paid for.
    paid: usize,
}

/// Works with what earlier attempts have kept; what this one pays for is answered by the script.
async fn attempt(
    work: &Work,
    answers: Vec<Result<Said, Broken>>,
    kept: &[Checkpoint],
) -> (Attempt, Vec<Conversation>) {
    let script = Arc::new(Script::new(answers));
    let known: Vec<_> = kept.iter().cloned().map(v1::Checkpoint::from).collect();
    let granted = (0..30).map(|_| Allowed::Granted(v1::Granted {})).collect();
    let (worked, heard) = heard(granted, async |reporter| {
        let lines = Arc::clone(&work.lines);
        let on_line: OnLine = Arc::new(move |line| lines.lock().unwrap().push(line.to_owned()));
        let known = (Known::among(&known), KeptWork::default());
        let budgets = Budgets::of(reporter, known);
        let allowed = budgets.over(&script.language_model(), ("1", &on_line));
        let mut turns = work.turns(allowed.model.as_ref()).await;
        turns.record = &allowed.record;
        turns.work(&request(&work.scene)).await.unwrap()
    })
    .await;
    let attempt = Attempt {
        worked,
        kept: heard.checkpoints,
        paid: heard.usages.len(),
    };
    (attempt, script.asked())
}

fn reads() -> Result<Said, Broken> {
    calls([("read_file", json!({"path": "calc.py"}))])
}

#[tokio::test]
async fn the_same_files_lead_through_the_same_turns_unpaid() {
    let answers = vec![calls([edit()]), reads(), calls([finish()])];
    let work = Work::with([]).await;
    let (first, _) = attempt(&work, answers, &[]).await;
    assert_eq!((first.paid, first.kept.len()), (3, 3));
    let trees: Vec<_> = first
        .kept
        .iter()
        .map(|it| &it.output["asked"]["tree"])
        .collect();
    assert!(trees[0].is_string() && trees[0] != trees[1] && trees[1] == trees[2]);

    let work = Work::with([]).await;
    let (again, asked) = attempt(&work, Vec::new(), &first.kept).await;
    assert_eq!((again.paid, asked.len()), (0, 0));
    assert_eq!(again.worked.end, first.worked.end);
    assert!(work.calc().contains("a + b"));
}

#[tokio::test]
async fn what_a_program_leaves_beside_the_files_makes_no_turn_paid_again() {
    let leaves = "import os; open('report.txt', 'w').write(os.urandom(20).hex())";
    let leaves = json!({"program": "python3", "arguments": ["-c", leaves]});
    let made = json!({"path": "notes.txt", "content": "Sums are right.\n"});
    let answers = vec![
        calls([edit(), ("run", leaves)]),
        calls([("create_file", made)]),
        reads(),
        calls([finish()]),
    ];
    let work = Work::with([]).await;
    let (first, _) = attempt(&work, answers, &[]).await;
    assert_eq!(first.paid, 4);
    let tree = |turn: usize| &first.kept[turn].output["asked"]["tree"];
    assert_ne!(tree(0), tree(1), "a file that was edited counts");
    assert_ne!(tree(1), tree(2), "a file that a tool made counts");
    assert_eq!(tree(2), tree(3));
    let whole = work.scene.workspace.repository.snapshot().await.unwrap();

    let work = Work::with([]).await;
    let (again, _) = attempt(&work, Vec::new(), &first.kept).await;
    assert_eq!(again.paid, 0);
    assert_eq!(again.worked.end, first.worked.end);
    let other = work.scene.workspace.repository.snapshot().await.unwrap();
    assert_ne!(other.tree, whole.tree, "the report is another one");
}

#[tokio::test]
async fn where_the_files_are_others_than_before_the_model_is_asked_anew() {
    let answers = || vec![calls([edit()]), reads(), calls([finish()])];
    let work = Work::with([]).await;
    let (first, _) = attempt(&work, answers(), &[]).await;

    // From the beginning: the repository has something that nobody mentions.
    let files = [REPOSITORY, &[("other.txt", "there now\n")]].concat();
    let work = Work::on(&files, []).await;
    let (other, _) = attempt(&work, answers(), &first.kept).await;
    assert_eq!(other.paid, 3);
    let lines = work.lines.lock().unwrap().join("\n");
    assert!(
        lines.contains("before answer 1 of an earlier attempt"),
        "{lines}"
    );

    // In the middle: what was used of the record until there is not paid again.
    let mut kept = first.kept.clone();
    kept[1].output["asked"]["tree"] = json!("0".repeat(40));
    let work = Work::with([]).await;
    let answers = vec![reads(), calls([finish()])];
    let (middle, asked) = attempt(&work, answers, &kept).await;
    assert_eq!((middle.paid, asked[0].messages.len()), (2, 2));
    assert!(matches!(middle.worked.end, End::Finished(_)));

    // What an earlier release kept has no tree to compare.
    let mut kept = first.kept.clone();
    for checkpoint in &mut kept {
        let turn = checkpoint.output.as_object_mut().unwrap();
        turn.retain(|name, _| ["task", "request", "answer"].contains(&name.as_str()));
    }
    let work = Work::with([]).await;
    let (old, _) = attempt(&work, Vec::new(), &kept).await;
    assert_eq!(old.paid, 0);
}

#[tokio::test]
async fn a_summary_is_kept_and_taken_over_like_any_answer() {
    let mut answers = six_turns();
    answers.push(summary("It subtracts in calc.py."));
    answers.push(calls([edit(), finish()]));
    let work = in_a_small_window([]).await;
    let (first, asked) = attempt(&work, answers, &[]).await;
    assert_eq!((first.paid, first.kept.len()), (8, 8));
    assert_eq!(first.kept[6].output["asked"]["summarized"], 3);

    let work = in_a_small_window([]).await;
    let rest = vec![calls([edit(), finish()])];
    let (again, last) = attempt(&work, rest, &first.kept[..7]).await;
    assert_eq!((again.paid, again.worked.compactions), (1, 1));
    assert_eq!(last[0].messages, asked[7].messages);
    assert!(matches!(again.worked.end, End::Finished(_)));
}

#[tokio::test]
async fn comments_enter_where_they_entered_before_and_new_ones_after_the_turns_that_were_paid_for()
{
    let work = Work::with([]).await;
    work.follow_ups.add(comment(1, "First."));
    let (first, before) = attempt(&work, vec![reads(), calls([edit(), finish()])], &[]).await;
    assert_eq!(
        first.kept[0].output["asked"]["follow_ups"][0]["text"],
        "First."
    );

    // The next agent hears of all at once.
    let work = Work::with([]).await;
    work.follow_ups.add(comment(2, "Second."));
    work.follow_ups.add(comment(1, "First."));
    let rest = vec![calls([edit(), finish()])];
    let (again, asked) = attempt(&work, rest, &first.kept[..1]).await;
    assert_eq!(again.paid, 1);
    let (new, same) = asked[0].messages.split_last().unwrap();
    assert_eq!(same, before[1].messages);
    assert!(matches!(new, Message::User(text) if text.contains("Second.")));
}
