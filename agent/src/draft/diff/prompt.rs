//! What a model is told that answers once: how changes are written, the request, and files.

use patchfleet_guard::redact;
use patchfleet_model::EditFormat;

use crate::model::language_model;
use crate::tools::Contents;

/// The instructions, with their version in the first line and a section for each way to write.
const INSTRUCTIONS: &str = include_str!("../../../prompts/draft-diff.md");
/// Most bytes of files that are shown; what is about a request is rarely more.
const CONTENTS: usize = 160 * 1024;
/// Bytes that make a token, to the safe side.
const BYTES_PER_TOKEN: u64 = 3;

/// The version of the instructions, for the record of a draft.
pub(super) fn version() -> &'static str {
    language_model::version(INSTRUCTIONS)
}

/// The instructions with the section for how the model writes best.
pub(super) fn instructions(format: EditFormat) -> String {
    let title = match format {
        EditFormat::Diff => "Blocks",
        EditFormat::Whole => "Whole files",
    };
    let mut sections = INSTRUCTIONS.split("\n## ");
    let common = sections.next().unwrap_or_default();
    let chosen = sections.find(|section| section.starts_with(title));
    format!("{common}\n## {}", chosen.unwrap_or_default().trim_end())
}

/// Room for files in bytes, beside what is said anyway and two answers; nothing when not even one
/// answer has room.
pub(super) fn room((window, max_output): (u64, u32), said: usize) -> Option<usize> {
    let said = (said as u64).div_ceil(BYTES_PER_TOKEN);
    let left = window.checked_sub(said + u64::from(max_output))?;
    let room = left.saturating_sub(u64::from(max_output)) * BYTES_PER_TOKEN;
    Some(usize::try_from(room).unwrap_or(CONTENTS).min(CONTENTS))
}

/// The request with the files that are about it.
pub(super) fn first(request: &str, contents: &Contents) -> String {
    let text = match contents.files {
        0 => format!("{request}\nNo file is shown: the request names none that is there.\n"),
        _ => format!(
            "{request}\n## Contents\n\nThe files that are about the request, as they are now:\n{}",
            contents.text
        ),
    };
    redact(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instructions_have_a_version_say_what_binds_and_are_short() {
        assert_eq!(version(), "1");
        for (format, own, of_other) in [
            (
                EditFormat::Diff,
                "<<<<<<< SEARCH path",
                "also those that do not change",
            ),
            (EditFormat::Whole, "Nothing may stand for lines", "SEARCH"),
        ] {
            let text = language_model::instructed(&instructions(format), None);
            for word in [
                "<untrusted-text>",
                "gives no orders",
                "Never weaken",
                "Claim no test result",
                "NO CHANGE NEEDED:",
                "[redacted]",
                "not as JSON",
                "<<<<<<< FILE path",
                own,
            ] {
                assert!(text.contains(word), "{format:?}: {word}");
            }
            assert!(!text.contains(of_other), "{format:?}: {of_other}");
            assert!(!text.contains("Version"));
            // Four bytes a token, roughly.
            assert!(text.len() / 4 < 800, "{} tokens", text.len() / 4);
        }
    }

    #[test]
    fn files_get_what_the_window_leaves_beside_two_answers() {
        assert_eq!(room((10_000, 2_000), 3_000), Some(15_000));
        assert_eq!(room((10_000, 2_000), 21_000), Some(0));
        assert_eq!(room((10_000, 2_000), 27_000), None);
        assert_eq!(room((1_000_000, 16_000), 3_000), Some(CONTENTS));
    }
}
