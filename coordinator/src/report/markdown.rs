//! Text of others inside a comment of ours: redacted, bounded, quiet.

use patchfleet_guard::{redact, strip_hidden};

/// What stands where something was cut off.
const CUT: &str = "… (shortened)";

/// Markdown of others, such as a summary: no secrets, no hidden text (a mark could be forged),
/// and nobody is mentioned.
pub(super) fn quiet(text: &str, limit: usize) -> String {
    let visible = strip_hidden(text).text;
    // Cut last: half a secret would not be known as one.
    shortened(&unmentioned(&redact(&visible)), limit)
}

/// A short text of others within a line of ours.
pub(super) fn inline(text: &str, limit: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let quiet = quiet(&line, limit);
    quiet
        .replace('|', "\\|")
        .replace('`', "'")
        .replace('<', "&lt;")
}

/// A text of others as it is, in a block that it can't leave.
pub(super) fn block(text: &str, limit: usize) -> String {
    let text = shortened(&redact(text), limit);
    let fence = "`".repeat(longest_run(&text, '`').max(2) + 1);
    format!("{fence}text\n{}\n{fence}", text.trim_end())
}

/// At most so many bytes, cut between characters.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(CUT.len());
    let end = (0..=room)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    format!("{}{CUT}", &text[..end])
}

fn longest_run(text: &str, wanted: char) -> usize {
    let runs = text.split(|c| c != wanted);
    runs.map(str::len).max().unwrap_or(0)
}

/// `@name` notifies; with a zero-width space in it, it does not.
fn unmentioned(text: &str) -> String {
    let mut quiet = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        quiet.push(letter);
        if letter == '@' && letters.peek().is_some_and(char::is_ascii_alphanumeric) {
            quiet.push('\u{200B}');
        }
    }
    quiet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_can_not_break_out_mention_or_forge_a_mark() {
        assert_eq!(block("a\n```\n# b", 100), "````text\na\n```\n# b\n````");
        assert_eq!(
            quiet("hi @mona <!-- patchfleet:task:x -->!", 100),
            "hi @\u{200B}mona !"
        );
        assert_eq!(inline("a|b\n`c` <b>", 100), "a\\|b 'c' &lt;b>");
    }

    #[test]
    fn cuts_fall_between_characters_and_never_reveal_half_a_secret() {
        let text = "ä".repeat(100);
        let cut = shortened(&text, 50);
        assert!(cut.len() <= 50 && cut.ends_with(CUT), "{cut}");
        let token = format!("token ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
        assert!(!quiet(&token, 30).contains("ghp_"));
        assert!(!block(&token, 30).contains("ghp_"));
    }
}
