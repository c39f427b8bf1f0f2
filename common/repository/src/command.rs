//! A command as text: split into words as a shell would, without anything else that a shell does.

/// Splits a command into words.
///
/// # Errors
/// When a quote is not closed, there are no words, or a shell would do more than split it: nothing
/// of what was written is to be passed over.
pub fn split_command(text: &str) -> Result<Vec<String>, String> {
    let text = text.trim();
    if let Some(sign) = shell_sign(text) {
        return Err(format!(
            "{sign} needs a shell, and commands run without one; write several commands as a list, as \
             in `[npm run build, npm test]`, or put the line into a script of the repository or a \
             target of its Makefile and name that, as in `./test.sh` or `make test`"
        ));
    }
    match shlex::split(text) {
        Some(words) if words.first().is_some_and(|it| assigns(it)) => Err(format!(
            "`{}` sets a variable, for which a shell is needed, and commands run without one; set it \
             in a script of the repository and name that, as in `./test.sh`",
            words[0]
        )),
        Some(words) if !words.is_empty() => Ok(words),
        Some(_) => Err("a command must not be empty".to_owned()),
        None => Err(format!("a quote is not closed in `{text}`")),
    }
}

/// The first sign that only a shell understands.
fn shell_sign(text: &str) -> Option<String> {
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None | Some('"'), '\\') => {
                chars.next();
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            (None | Some('"'), '`') => return Some("a backtick".to_owned()),
            (None | Some('"'), '$') if chars.peek().is_some_and(|next| names(*next)) => {
                return Some("`$`".to_owned());
            }
            (None, '&' | '|') if chars.peek() == Some(&c) => return Some(format!("`{c}{c}`")),
            (None, '&' | '|' | ';' | '<' | '>' | '(' | ')') => return Some(format!("`{c}`")),
            (None, '\n') => return Some("a second line".to_owned()),
            _ => {}
        }
    }
    None
}

/// What may follow `$` for a shell to put something else in its place.
const fn names(next: char) -> bool {
    next.is_ascii_alphanumeric() || matches!(next, '_' | '{' | '(' | '?' | '@' | '*' | '#' | '!')
}

/// `NAME=value`.
fn assigns(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_and_quotes_taken_off() {
        for (text, words) in [
            ("cargo test", &["cargo", "test"][..]),
            (
                "python3 -m unittest -k 'a && b; c > d'",
                &["python3", "-m", "unittest", "-k", "a && b; c > d"],
            ),
            (
                "go test -run \"^Test(A|B)$\" ./...",
                &["go", "test", "-run", "^Test(A|B)$", "./..."],
            ),
            (
                "pytest tests/*.py a\\;b --x=1\n",
                &["pytest", "tests/*.py", "a;b", "--x=1"],
            ),
        ] {
            assert_eq!(split_command(text).unwrap(), words, "{text:?}");
        }
    }

    #[test]
    fn what_only_a_shell_does_is_refused_with_advice() {
        for (text, sign) in [
            ("npm run build && npm test", "`&&`"),
            ("make test || true", "`||`"),
            ("make test; true", "`;`"),
            ("pytest | tee log", "`|`"),
            ("pytest > log", "`>`"),
            ("pytest < input", "`<`"),
            ("server & pytest", "`&`"),
            ("(cd web; npm test)", "`(`"),
            ("npm ci\nnpm test", "a second line"),
            ("pytest $ARGS", "`$`"),
            ("pytest \"$(ls tests)\"", "`$`"),
            ("pytest `ls tests`", "a backtick"),
            ("CI=1 npm test", "`CI=1`"),
        ] {
            let error = split_command(text).unwrap_err();
            assert!(
                error.starts_with(sign) && error.contains("./test.sh"),
                "{text:?}: {error}"
            );
        }
    }
}
