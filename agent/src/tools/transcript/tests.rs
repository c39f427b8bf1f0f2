use patchfleet_model::{Arguments, Part, ToolCall};

use super::*;

fn transcript(window: u64) -> Transcript {
    let start = ("system".to_owned(), Vec::new());
    Transcript::new(
        start,
        "the request".to_owned(),
        (window, 4_000, "task".to_owned()),
    )
}

fn add(transcript: &mut Transcript, number: u32, bytes: usize) {
    let id = format!("call-{number}");
    let call = ToolCall {
        id: id.clone(),
        name: "read_file".to_owned(),
        arguments: Arguments::from_text("{}"),
    };
    let turn = Turn {
        parts: vec![Part::ToolCall(call)],
        results: Vec::new(),
    };
    let result = ToolResult {
        call_id: id,
        content: "x".repeat(bytes),
        is_error: false,
    };
    let answered = Answered {
        result,
        tool: "read_file".to_owned(),
        call: number,
    };
    transcript.turn(turn, number, vec![answered]);
}

#[test]
fn old_output_goes_in_batches_and_calls_keep_their_results() {
    let mut transcript = transcript(1_000_000);
    let mut batches = Vec::new();
    for number in 1..=60 {
        add(&mut transcript, number, 16_000);
        batches.extend(transcript.mask().map(|masked| (number, masked.calls.len())));
    }
    // 4,000 tokens each: the newest 50,000 stay, and at least 30,000 go at once.
    assert_eq!(
        batches,
        [(20, 8), (28, 8), (36, 8), (44, 8), (52, 8), (60, 8)]
    );
    for message in &transcript.conversation().messages[1..] {
        let Message::Assistant(turn) = message else {
            panic!("{message:?}")
        };
        assert_eq!(turn.calls().count(), turn.results.len());
    }
    let Message::Assistant(first) = &transcript.conversation().messages[1] else {
        panic!()
    };
    assert!(
        first.results[0]
            .content
            .contains("`read_file` in turn 1 (16000 bytes)")
    );
    assert_eq!(
        transcript.conversation().messages[0],
        Message::User("the request".to_owned())
    );
}

#[test]
fn a_small_window_is_cleared_when_it_is_more_than_half_full() {
    let mut transcript = transcript(32_000);
    let mut first = None;
    for number in 1..=14 {
        add(&mut transcript, number, 5_000);
        first = first.or_else(|| transcript.mask().map(|it| (number, it.calls.len())));
    }
    assert_eq!(first, Some((12, 2)));
}

#[test]
fn a_batch_that_takes_too_little_is_none() {
    let mut transcript = transcript(32_000);
    transcript.say("y".repeat(50_000));
    for number in 1..=3 {
        add(&mut transcript, number, 2_000);
    }
    assert_eq!(transcript.shrink(), None);
    for number in 4..=9 {
        add(&mut transcript, number, 4_000);
    }
    let masked = transcript.shrink().unwrap();
    assert_eq!(masked.calls, (1..=7).collect());
    assert!(masked.bytes.1 * 10 < masked.bytes.0 * 9, "{masked:?}");
    assert_eq!(transcript.shrink(), None, "there is nothing left to take");
}

#[test]
fn what_the_provider_counted_counts() {
    let mut transcript = transcript(32_000);
    transcript.count(Usage {
        input: 1_000,
        cache_read: 20_000,
        output: 500,
        ..Usage::default()
    });
    assert_eq!(transcript.tokens(), 21_500);
    add(&mut transcript, 1, 3_000);
    assert_eq!(transcript.tokens(), 22_500);
    assert!(!transcript.is_full());
    add(&mut transcript, 2, 18_003);
    assert!(transcript.is_full());
}

#[test]
fn what_stays_after_a_summary_is_masked_where_it_stands() {
    let mut transcript = transcript(1_000_000);
    transcript.add_comment("a person's words".to_owned());
    for number in 1..=30 {
        add(&mut transcript, number, 16_000);
    }
    // The comment and ten turns.
    transcript.compact(11, "the summary".to_owned()).unwrap();
    let masked = transcript.mask().unwrap();
    assert_eq!(masked.calls, (11..=18).collect());
    let messages = &transcript.conversation().messages;
    assert_eq!(messages[1], Message::User("a person's words".to_owned()));
    assert_eq!(messages[2], Message::User("the summary".to_owned()));
    for (message, number) in messages[3..].iter().zip(11..) {
        let Message::Assistant(turn) = message else {
            panic!("{message:?}")
        };
        let stays = turn.results[0].content.len() == 16_000;
        assert_eq!(stays, number > 18, "turn {number}");
    }
}
