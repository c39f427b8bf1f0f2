use std::sync::Mutex;

use patchfleet_domain::{FollowUp, Money};
use patchfleet_model::{Message, Part, Stop, Usage};

use serde_json::json;

use super::super::record::Asked;
use super::*;
use crate::session::heard::heard;

/// Counts what it is asked, and says the number.
struct Counting {
    origin: Origin,
    asked: Mutex<u32>,
}

impl Counting {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            origin: Origin {
                provider: "test".to_owned(),
                model: "counting".to_owned(),
            },
            asked: Mutex::default(),
        })
    }
}

#[async_trait]
impl Model for Counting {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    async fn answer(
        &self,
        _conversation: &Conversation,
        _cancel: &CancellationToken,
    ) -> Result<Answer, Broken> {
        let mut asked = self.asked.lock().unwrap();
        *asked += 1;
        Ok(Answer {
            parts: vec![Part::Text(format!("answer {asked}"))],
            stop: Stop::End,
            usage: Usage {
                output: 7,
                ..Usage::default()
            },
        })
    }
}

/// Seven millionths for each token out.
struct Simple;

impl Price for Simple {
    fn cost(&self, usage: &Usage) -> Option<Money> {
        Some(Money(usage.output * 7))
    }
}

fn priced(model: &Arc<Counting>) -> (Arc<Counting>, Box<dyn Price>) {
    (Arc::clone(model), Box::new(Simple))
}

/// Asks so many turns of an attempt that has those turns of earlier ones; what it was answered, and
/// all checkpoints after it.
async fn attempt(
    model: &Arc<Counting>,
    (issue, round, turns): (&str, u32, u32),
    checkpoints: &[Checkpoint],
) -> (Vec<String>, Vec<Checkpoint>) {
    let mut kept = checkpoints.to_vec();
    let known: Vec<_> = kept.iter().cloned().map(v1::Checkpoint::from).collect();
    let known = Turns::among(&known);
    let asking = async |reporter| {
        let on_line: OnLine = Arc::new(|_| {});
        let stage = round.to_string();
        let recorded = Recorded::new(priced(model), (&stage, &known), (reporter, on_line));
        let mut said = Vec::new();
        let mut conversation = Conversation::question("system", issue, 1000);
        for _ in 0..turns {
            let cancel = CancellationToken::new();
            let answer = recorded.answer(&conversation, &cancel).await.unwrap();
            said.push(answer.text());
            conversation
                .messages
                .push(Message::Assistant(answer.into_turn()));
        }
        said
    };
    let (said, heard) = heard(Vec::new(), asking).await;
    kept.extend(heard.checkpoints);
    (said, kept)
}

#[tokio::test]
async fn what_was_paid_for_is_used_again_and_the_rest_is_asked() {
    let model = Counting::new();
    let (said, kept) = attempt(&model, ("issue", 1, 2), &[]).await;
    assert_eq!(said, ["answer 1", "answer 2"]);
    assert_eq!(kept.len(), 2);
    for gone in [1, 2] {
        // Killed after each of the turns.
        let before = *model.asked.lock().unwrap();
        let (said, all) = attempt(&model, ("issue", 1, 3), &kept[..gone]).await;
        let expected: Vec<_> = (1..=gone).map(|it| format!("answer {it}")).collect();
        assert_eq!(said[..gone], expected[..]);
        let asked = *model.asked.lock().unwrap() - before;
        assert_eq!(usize::try_from(asked).unwrap(), 3 - gone);
        assert_eq!(all.len(), 3, "each turn is kept once");
    }
}

#[tokio::test]
async fn an_answer_to_something_else_is_not_used() {
    let model = Counting::new();
    let (_, kept) = attempt(&model, ("issue", 1, 2), &[]).await;
    for (issue, round) in [("another issue", 1), ("issue", 2)] {
        let before = *model.asked.lock().unwrap();
        attempt(&model, (issue, round, 2), &kept).await;
        assert_eq!(*model.asked.lock().unwrap() - before, 2);
    }
    // After a gap nothing is known any more.
    let before = *model.asked.lock().unwrap();
    attempt(&model, ("issue", 1, 3), &kept[1..]).await;
    assert_eq!(*model.asked.lock().unwrap() - before, 3);
}

#[test]
fn turns_that_cant_be_read_are_left_out() {
    let checkpoint = |node: &str, output: &str| v1::Checkpoint {
        node: node.to_owned(),
        visit: 1,
        output: output.to_owned(),
    };
    let all = [
        checkpoint("inspect", "{}"),
        checkpoint("turn/1", "{\"of\": \"another version\"}"),
        checkpoint("turn/2", "cut off {"),
    ];
    assert_eq!(all.each_ref().map(is_turn), [false, true, true]);
    assert!(Turns::among(&all).0.is_empty());
}

#[tokio::test]
async fn what_people_added_enters_again_before_the_turn_that_it_was_asked_with() {
    let comment = FollowUp {
        comment: 7,
        author: "mona".to_owned(),
        text: "Round up.".to_owned(),
    };
    let with_it = Asked {
        follow_ups: vec![comment],
        tree: Some("a1".to_owned()),
        summarized: None,
    };
    let model = Counting::new();
    let conversation = Conversation::question("system", "issue", 1000);
    let cancel = CancellationToken::new();
    let ((), said) = heard(Vec::new(), async |reporter| {
        let recorded = recorded(&model, &Turns::default(), reporter);
        for asked in [Asked::default(), with_it.clone(), Asked::default()] {
            assert_eq!(recorded.record().next(&conversation), None);
            recorded.record().enter(asked);
            recorded.answer(&conversation, &cancel).await.unwrap();
        }
    })
    .await;
    let kept = said.checkpoints.into_iter().map(v1::Checkpoint::from);
    let mut kept: Vec<_> = kept.collect();
    // An agent of an earlier release kept nothing of that.
    let mut old: Value = serde_json::from_str(&kept[2].output).unwrap();
    old.as_object_mut().unwrap().remove("asked").unwrap();
    kept[2].output = old.to_string();
    let turns = Turns::among(&kept);
    let ((), _) = heard(Vec::new(), async |reporter| {
        let recorded = recorded(&model, &turns, reporter);
        for asked in [Asked::default(), with_it, Asked::default()] {
            assert_eq!(recorded.record().next(&conversation), Some(asked));
            recorded.answer(&conversation, &cancel).await.unwrap();
        }
        assert_eq!(recorded.record().next(&conversation), None);
        let other = Conversation::question("system", "another issue", 1000);
        assert_eq!(Record::new(turns.0["turn/1"].clone()).next(&other), None);
    })
    .await;
    assert_eq!(*model.asked.lock().unwrap(), 3);
}

fn recorded(model: &Arc<Counting>, turns: &Turns, reporter: Reporter) -> Recorded<Arc<Counting>> {
    Recorded::new(
        priced(model),
        ("1", turns),
        (reporter, Arc::new(|_: &str| {})),
    )
}

#[tokio::test]
async fn turns_that_are_taken_over_count_into_what_is_kept_of_a_stage() {
    let model = Counting::new();
    let (_, kept) = attempt(&model, ("issue", 1, 1), &[]).await;
    let mut long = kept[0].clone();
    let text = "x".repeat(4 * 1024 * 1024 - 200);
    long.output["answer"]["parts"] = json!([Part::Text(text)]);
    let (said, all) = attempt(&model, ("issue", 1, 2), &[long]).await;
    assert_eq!(said[1], "answer 2");
    assert_eq!(all.len(), 1, "there is no room for another one");
    let (_, all) = attempt(&model, ("issue", 1, 2), &kept).await;
    assert_eq!(all.len(), 2);
}

#[tokio::test]
async fn a_turn_says_what_it_cost_and_on_which_tree_it_was_asked() {
    let model = Counting::new();
    let (_, kept) = attempt(&model, ("issue", 1, 1), &[]).await;
    let turn = &kept[0].output;
    assert_eq!(turn["cost"], json!("0.000049"), "{turn}");
    assert_eq!(turn["attempt"], 1);
}

#[tokio::test]
async fn after_turns_were_left_what_the_attempt_before_has_beyond_is_no_answer() {
    let model = Counting::new();
    let (_, kept) = attempt(&model, ("issue", 1, 4), &[]).await;
    let paid_by = |attempt: u32, kept: &Checkpoint| {
        let mut output = kept.output.clone();
        output["attempt"] = json!(attempt);
        v1::Checkpoint::from(Checkpoint {
            output,
            ..kept.clone()
        })
    };
    // The second attempt left the turns of the first one at the second, and paid for two.
    let turns = [
        paid_by(1, &kept[0]),
        paid_by(2, &kept[1]),
        paid_by(2, &kept[2]),
        paid_by(1, &kept[3]),
    ];
    let turns = Turns::among(&turns);
    let conversation = Conversation::question("system", "issue", 1000);
    let cancel = CancellationToken::new();
    let before = *model.asked.lock().unwrap();
    let ((), _) = heard(Vec::new(), async |reporter| {
        let recorded = recorded(&model, &turns, reporter);
        for _ in 0..4 {
            recorded.answer(&conversation, &cancel).await.unwrap();
        }
    })
    .await;
    assert_eq!(*model.asked.lock().unwrap() - before, 1);

    let ((), _) = heard(Vec::new(), async |reporter| {
        let recorded = recorded(&model, &turns, reporter);
        recorded.answer(&conversation, &cancel).await.unwrap();
        assert_eq!(recorded.record().leave(), 2);
        recorded.answer(&conversation, &cancel).await.unwrap();
    })
    .await;
    assert_eq!(*model.asked.lock().unwrap() - before, 2);
}
