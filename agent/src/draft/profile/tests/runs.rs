//! Runs of programs that say how their work ended, played by a shell.

use patchfleet_domain::FailureKind;

use super::*;
use crate::draft::Drafter;
use crate::nodes::tests::{REPOSITORY, Rig};

/// A rig whose drafter is a known program that a script plays.
async fn playing(known: Profile, script: &str) -> Rig {
    playing_in(REPOSITORY, known, script).await
}

/// The same in a repository of these files.
async fn playing_in(files: &[(&str, &str)], known: Profile, script: &str) -> Rig {
    let mut rig = Rig::commanding(files, script).await;
    if let Drafter::Cli { profile, .. } = &mut rig.drafter {
        *profile = Some(known);
    }
    rig
}

const MENDS: &str = "sed -i 's/a - b/a + b/' calc.py";

#[tokio::test]
async fn the_request_is_the_programs_input_and_its_events_are_lines_of_the_log() {
    let script = format!(
        "grep -q 'It subtracts' || exit 9; {MENDS}\n\
         echo '{{\"type\":\"item.completed\",\"item\":{{\"type\":\"agent_message\",\"text\":\"It adds now.\"}}}}'\n\
         echo '{{\"type\":\"turn.completed\"}}'; exit 3"
    );
    let mut rig = playing(Profile::Codex, &script).await;
    // Its own word on its end goes before its exit code.
    rig.run().await.unwrap();
    let log = rig.log();
    assert!(
        log.contains("It adds now.") && !log.contains("agent_message"),
        "{log}"
    );
}

#[tokio::test]
async fn a_program_that_says_that_it_is_done_and_stays_is_ended_and_its_work_counts() {
    let script = format!(
        "{MENDS}; echo '{{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false}}'; exec sleep 600"
    );
    let rig = playing(Profile::ClaudeCode, &script).await;
    rig.run().await.unwrap();
    assert!(rig.on_branch("calc.py").await.contains("return a + b"));
}

#[tokio::test]
async fn a_program_that_says_that_it_failed_or_nothing_of_its_end_has_no_result() {
    let failed = "echo '{\"type\":\"turn.failed\",\"error\":{\"message\":\"the stream broke\"}}'";
    for (said, expected) in [
        (failed, "says that it failed: the stream broke"),
        ("true", "before it said that it was done"),
    ] {
        let rig = playing(Profile::Codex, &format!("{MENDS}; {said}")).await;
        let failure = rig.fails().await;
        assert_eq!(
            (failure.kind, failure.retryable),
            (FailureKind::DraftFailed, true)
        );
        assert!(failure.message.contains(expected), "{failure:?}");
    }
}

#[tokio::test]
async fn a_program_that_is_missing_or_of_another_version_is_named_with_what_installs_it() {
    let unknown = "echo \"error: unexpected argument '--json' found\" >&2; exit 2";
    let mut rig = playing(Profile::Codex, unknown).await;
    let failure = rig.fails().await;
    assert_eq!(failure.kind, FailureKind::HostFault);
    let text = "needs 0.122.0 or newer (`npm install -g @openai/codex`)";
    assert!(failure.message.contains(text), "{failure:?}");
    if let Drafter::Cli { command, .. } = &mut rig.drafter {
        *command = vec!["no-such-codex".to_owned()];
    }
    let failure = rig.fails().await;
    assert_eq!(failure.kind, FailureKind::HostFault);
    let text = "`no-such-codex`, which the profile `codex` runs, is not on";
    assert!(failure.message.contains(text), "{failure:?}");
}

#[tokio::test]
async fn what_aider_keeps_in_the_work_tree_for_itself_is_no_part_of_the_change() {
    let script =
        format!("{MENDS}; mkdir .aider.tags.cache.v4; touch .aider.tags.cache.v4/x; exit 0");
    let rig = playing(Profile::Aider, &script).await;
    rig.run().await.unwrap();
    let files = rig
        .bench
        .origin
        .ask(&["ls-tree", "--name-only", "patchfleet/1-x"])
        .await;
    assert_eq!(files, "calc.py\ntest_calc.py");
}

#[tokio::test]
async fn aider_has_settings_of_its_own_and_is_shown_the_instructions_in_words() {
    // What is added to the command line are the shell's own arguments.
    let script = format!(
        "[ \"$0\" = --config ] && grep -q check-update \"$1\" && [ \"$2\" = --env-file ] || exit 8\n\
         grep -q 'It subtracts' \"$5\" && ! grep -q '^## Files' \"$5\" || exit 7\n\
         case \"$*\" in *--read*) exit 9 ;; esac; {MENDS}"
    );
    let rig = playing(Profile::Aider, &script).await;
    rig.run().await.unwrap();
    let script = format!("[ \"$0 $1\" = '--read AGENTS.md' ] || exit 9; {MENDS}");
    let mut files = REPOSITORY.to_vec();
    files.push(("AGENTS.md", "Be brief.\n"));
    let rig = playing_in(&files, Profile::Aider, &script).await;
    rig.run().await.unwrap();
}

#[tokio::test]
async fn geminis_settings_are_in_its_home() {
    let script = format!(
        "grep -q gemini-api-key \"$HOME/.gemini/settings.json\" || exit 9; {MENDS}; \
         echo '{{\"type\":\"result\",\"status\":\"success\"}}'"
    );
    let rig = playing(Profile::Gemini, &script).await;
    rig.run().await.unwrap();
}
