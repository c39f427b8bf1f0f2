//! Text of others inside a comment of ours: redacted, bounded, visible and inert. It mentions nobody,
//! refers to no issue, forges no line or mark, and hides nothing.

use patchfleet_guard::{redact, strip_hidden, visible_line, visible_text, without_references};

/// What stands where something was cut off.
const CUT: &str = "… (shortened)";
/// Longest address that is linked.
const MAX_ADDRESS: usize = 500;

/// Markdown of others, such as a summary: no secrets, no comments (a mark could be forged), and
/// nothing that GitHub acts on.
pub(super) fn quiet(text: &str, limit: usize) -> String {
    inert(&visible_text(&without_secrets(text)), limit)
}

/// A short text of others within a line of ours.
pub(super) fn inline(text: &str, limit: usize) -> String {
    let line = without_secrets(text.trim());
    inert(&visible_line(&line), limit)
        .replace('|', "\\|")
        .replace('[', "\\[")
        .replace('`', "'")
        .replace('<', "&lt;")
}

/// An address of others as the target of a link, if it can be one.
pub(super) fn link(text: &str, address: &str) -> String {
    let plain = |c: char| c.is_ascii_graphic() && !"()<>[]`\\\"".contains(c);
    let is_web = address.starts_with("https://") || address.starts_with("http://");
    if is_web && address.len() <= MAX_ADDRESS && address.chars().all(plain) {
        format!("[{text}]({address})")
    } else {
        text.to_owned()
    }
}

fn inert(visible: &str, limit: usize) -> String {
    let uncommented = strip_hidden(visible).text;
    // Cut last: half a secret would not be known as one.
    shortened(&without_references(&uncommented), limit)
}

/// Secrets are masked also where invisible characters stand between their letters.
fn without_secrets(text: &str) -> String {
    let bare = strip_hidden(text).text;
    match redact(&bare) {
        masked if masked == bare => redact(text).into_owned(),
        masked => masked.into_owned(),
    }
}

/// A text of others as it is, in a block that it can't leave.
pub(super) fn block(text: &str, limit: usize) -> String {
    let text = shortened(&visible_text(&without_secrets(text)), limit);
    let text = without_commands(&text);
    let fence = "`".repeat(longest_run(&text, '`').max(2) + 1);
    format!("{fence}text\n{}\n{fence}", text.trim_end())
}

/// The text with a blank before each line that begins with a slash: other bots look for commands at the
/// beginning of lines, and for them a block is text like any other.
fn without_commands(text: &str) -> String {
    let lines = text.split('\n');
    let lines = lines.map(|line| match line.strip_prefix('/') {
        Some(_) => format!(" {line}"),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_can_not_break_out_mention_refer_or_forge_a_mark() {
        let shown = |text: String| text.replace('\u{200B}', "·");
        assert_eq!(block("a\n```\n# b", 100), "````text\na\n```\n# b\n````");
        assert_eq!(
            shown(quiet(
                "hi @mona <!-- patchfleet:task:x -->, closes #1, GH-2",
                100
            )),
            "hi @·mona , closes #·1, GH-·2"
        );
        assert_eq!(
            shown(inline("a|b\n`c` <b> ![x](y) @all #3", 100)),
            "a\\|b\\n'c' &lt;b> !\\[x](y) @·all #·3"
        );
    }

    #[test]
    fn what_acts_on_the_eye_is_written_out() {
        let title = "ok\u{202e}txt.exe\u{1b}[2J\r\n- **done**";
        assert_eq!(
            inline(title, 200),
            "ok\\u{202e}txt.exe\\u{1b}\\[2J\\r\\n- **done**"
        );
        let output = "one\r\ntwo\u{1b}[31m\rTHREE\u{200b}";
        assert_eq!(
            block(output, 200),
            "```text\none\ntwo\\u{1b}[31m\\rTHREE\\u{200b}\n```"
        );
        assert_eq!(quiet(output, 200), "one\ntwo\\u{1b}[31m\\rTHREE\\u{200b}");
    }

    #[test]
    fn no_line_of_ours_commands_a_bot() {
        let text = "ok\n/close\n  /lgtm\n/usr/bin/make";
        assert_eq!(
            block(text, 200),
            "```text\nok\n /close\n  /lgtm\n /usr/bin/make\n```"
        );
        let shown = quiet(text, 200).replace('\u{200B}', "·");
        assert_eq!(shown, "ok\n·/close\n  ·/lgtm\n·/usr/bin/make");
    }

    #[test]
    fn a_secret_with_something_invisible_in_it_is_masked() {
        let token = format!("ghp_\u{200b}{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
        for text in [quiet(&token, 100), inline(&token, 100), block(&token, 100)] {
            assert!(!text.contains("a1B2c3"), "{text}");
        }
    }

    #[test]
    fn only_an_address_becomes_a_link() {
        let address = "https://github.com/acme/orders/pull/12";
        assert_eq!(link("#12", address), format!("[#12]({address})"));
        for odd in [
            "javascript:alert(1)",
            "https://x/) [y](z",
            "https://x/\n",
            "",
        ] {
            assert_eq!(link("#12", odd), "#12", "{odd}");
        }
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
