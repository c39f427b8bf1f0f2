//! Where in a flow's text something stands, for errors that are found after parsing.

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// The `nth` place (from 0) where the key has the value, in block or flow style.
pub(crate) fn of_value(text: &str, key: &str, value: &str, nth: usize) -> Position {
    let mut seen = 0;
    for (number, line) in text.lines().map(without_comment).enumerate() {
        for (at, _) in line.match_indices(key) {
            let starts = !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let Some(rest) = line[at + key.len()..].strip_prefix(':') else {
                continue;
            };
            let found = rest.trim_start().trim_start_matches(['"', '\'']);
            let ends = |tail: &str| {
                !tail.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-'))
            };
            if starts && found.strip_prefix(value).is_some_and(ends) {
                if seen == nth {
                    let column = line.len() - found.len();
                    return Position {
                        line: number + 1,
                        column: line[..column].chars().count() + 1,
                    };
                }
                seen += 1;
            }
        }
    }
    Position { line: 1, column: 1 }
}

/// The line up to its comment. A `#` starts one at the line's start or after a space; one within
/// quotation marks is taken for a comment too, which costs a place, not a fault.
fn without_comment(line: &str) -> &str {
    let starts = |at: &usize| *at == 0 || line[..*at].ends_with([' ', '\t']);
    let comment = line.match_indices('#').map(|(at, _)| at).find(starts);
    comment.map_or(line, |at| &line[..at])
}
