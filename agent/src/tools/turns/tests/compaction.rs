//! A conversation that outgrows its window although nothing is left to mask.

use super::*;
use crate::tools::script::call_of;

/// A turn of long words and a short call; its provider counted so many tokens.
fn wordy(number: u64, tokens: u64) -> Result<Said, Broken> {
    let pattern = json!({"pattern": format!("word {number}")});
    let parts = vec![
        Part::Text(format!("{number}: {}", "I think. ".repeat(1_000))),
        call_of("1", "search", pattern),
    ];
    let usage = Usage {
        input: tokens,
        output: 100,
        ..Usage::default()
    };
    said(parts, Stop::ToolCalls).map(|said| Said { usage, ..said })
}

/// Six turns, after which a window of 32,000 tokens is full.
pub(super) fn six_turns() -> Vec<Result<Said, Broken>> {
    (1..=6)
        .map(|number| wordy(number, number * 5_000))
        .collect()
}

pub(super) fn summary(text: &str) -> Result<Said, Broken> {
    said(vec![Part::Text(text.to_owned())], Stop::End)
}

pub(super) async fn in_a_small_window(
    answers: impl IntoIterator<Item = Result<Said, Broken>>,
) -> Work {
    let mut work = Work::with(answers).await;
    work.bounds.window = 32_000;
    work.bounds.max_output = 4_000;
    work
}

fn turns_of(conversation: &Conversation) -> Vec<&patchfleet_model::Turn> {
    let messages = conversation.messages.iter();
    let turns = messages.filter_map(|message| match message {
        Message::Assistant(turn) => Some(turn),
        Message::User(_) => None,
    });
    turns.collect()
}

#[tokio::test]
async fn old_turns_are_summed_up_by_the_model_when_masking_makes_no_room() {
    let token = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    let answers = six_turns().into_iter().chain([
        summary(&format!("It subtracts in calc.py, {token}.")),
        calls([edit(), finish()]),
    ]);
    let work = in_a_small_window(answers).await;
    let said = vec![(2, comment(7, "Mind the sign."))];
    let worked = work.discussed(said).await;
    assert!(matches!(worked.end, End::Finished(_)), "{worked:?}");
    assert_eq!((worked.steps, worked.compactions), (7, 1));
    let used = (1..=6).map(|it| it * 5_000).sum::<u64>() + 200;
    assert_eq!(worked.usage.input, used, "a summary is counted, too");

    let asked = work.model.asked();
    let (before, question, after) = (&asked[5], &asked[6], &asked[7]);
    for conversation in [question, after] {
        assert_eq!(conversation.system, before.system);
        assert_eq!(conversation.tools, before.tools);
        assert_eq!(conversation.messages[0], before.messages[0]);
        for turn in turns_of(conversation) {
            let answered = turn.calls().filter(|call| turn.result(&call.id).is_some());
            assert_eq!((answered.count(), turn.results.len()), (1, 1));
        }
    }
    // The question is the beginning of what the provider has in its cache.
    let (instructions, old) = question.messages.split_last().unwrap();
    assert_eq!(old, &before.messages[..old.len()]);
    assert!(matches!(instructions, Message::User(text) if text.starts_with("Stop here")));
    assert_eq!((turns_of(question).len(), question.max_output), (3, 4_000));

    let texts: Vec<_> = after.messages.iter().take(4).collect();
    let [
        _,
        Message::User(people),
        Message::User(notes),
        Message::Assistant(next),
    ] = texts[..]
    else {
        panic!("{texts:?}");
    };
    assert!(people.contains("Mind the sign."), "{people}");
    assert!(
        notes.contains("<untrusted-text>\nIt subtracts in calc.py"),
        "{notes}"
    );
    assert!(!notes.contains(&token), "{notes}");
    assert_eq!(next.results, turns_of(before)[3].results);
    let lines = work.lines.lock().unwrap().join("\n");
    assert!(lines.contains("old turns are summed up"), "{lines}");
}

#[tokio::test]
async fn what_its_server_finds_too_long_is_summed_up_once_a_step() {
    let too_long = || {
        let limit = Some(20_000);
        Err(ModelError::ContextTooLong { limit }.into())
    };
    let begin = || {
        let turns = (1..=4).map(|number| wordy(number, 100));
        turns.chain([too_long(), summary("It subtracts in calc.py.")])
    };
    let work = Work::with(begin().chain([calls([edit(), finish()])])).await;
    let worked = work.done().await;
    assert!(matches!(worked.end, End::Finished(_)), "{worked:?}");
    assert_eq!((worked.steps, worked.compactions), (5, 1));
    let asked = work.model.asked();
    assert_eq!((turns_of(&asked[5]).len(), asked[5].max_output), (2, 2_500));
    assert_eq!(turns_of(&asked[6]).len(), 2);

    let work = Work::with(begin().chain([too_long()])).await;
    let worked = work.done().await;
    assert!(
        matches!(worked.end, End::Broken(ModelError::ContextTooLong { .. })),
        "{worked:?}"
    );
    assert_eq!(work.model.asked().len(), 7);
}

#[tokio::test]
async fn what_does_not_get_shorter_is_the_end_with_the_work_as_it_is() {
    let goes_on = calls([("list_files", json!({}))]);
    let too_long = summary(&"words without an end ".repeat(2_000));
    for (answer, why) in [
        (goes_on, "did not sum up"),
        (too_long, "does not make enough room"),
        (summary("  "), "did not sum up"),
    ] {
        let mut answers = six_turns();
        answers[0] = calls([edit()]);
        answers.push(answer);
        let work = in_a_small_window(answers).await;
        let worked = work.done().await;
        assert!(
            matches!(worked.end, End::Broken(ModelError::ContextTooLong { .. })),
            "{worked:?}"
        );
        assert_eq!(worked.compactions, 0);
        assert!(work.calc().contains("a + b"));
        let lines = work.lines.lock().unwrap().join("\n");
        assert!(lines.contains(why), "{lines}");
    }
}

#[tokio::test]
async fn a_second_summary_takes_the_first_one_in_and_people_keep_their_words() {
    let more = (7..=12).map(|number| wordy(number, (number - 6) * 5_000));
    let answers = six_turns()
        .into_iter()
        .chain([summary("First notes.")])
        .chain(more)
        .chain([summary("Second notes."), calls([edit(), finish()])]);
    let work = in_a_small_window(answers).await;
    let said = vec![(2, comment(7, "Mind the sign."))];
    let worked = work.discussed(said).await;
    assert!(matches!(worked.end, End::Finished(_)), "{worked:?}");
    assert_eq!(worked.compactions, 2);
    let asked = work.model.asked();
    let texts = |conversation: &Conversation| -> String {
        let messages = conversation
            .messages
            .iter()
            .filter_map(|message| match message {
                Message::User(text) => Some(text.as_str()),
                Message::Assistant(_) => None,
            });
        messages.collect::<Vec<_>>().join("\n")
    };
    let question = texts(&asked[13]);
    assert!(question.contains("First notes."), "{question}");
    let last = texts(&asked[14]);
    assert_eq!(last.matches("Mind the sign.").count(), 1, "{last}");
    assert!(last.contains("Second notes.") && !last.contains("First notes."));
}
