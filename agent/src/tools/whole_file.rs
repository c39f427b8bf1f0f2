//! A file that is written anew as a whole, by a model that does not work by tools.
//!
//! What the model was not shown of a file can't be in what it writes, so a file that is not shown whole
//! is refused, and so is one in which a line stands for what was left out.

use std::sync::LazyLock;

use patchfleet_guard::find_secrets;
use regex::Regex;

use super::create_file::{MODE, make, without_secrets, writable};
use super::{Answer, Failed, Tools};

/// A line that stands for others, such as `# ... rest of the code unchanged`.
static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?im)^\s*(?:#|//|/\*|<!--|--|;|%|\{/\*)?\s*[\[(<]?\s*(?:\.\.\.|\u{2026})\s*",
        r"(?:the )?(?:rest|existing|remaining|unchanged|other|previous|same|your)\b.*$",
        r"|^\s*(?:#|//|/\*|<!--|--|;)\s*(?:the )?(?:rest of|existing|remaining|other) ",
        r"(?:the )?(?:code|file|functions?|methods?|imports?|content)\b.*\b",
        r"(?:unchanged|same|as before|stays?|here|\.\.\.).*$",
    ))
    .expect("a test uses the pattern")
});

/// Writes all of a file, and says what it is now.
pub(super) async fn write(
    tools: &Tools<'_>,
    path: &str,
    content: String,
) -> Result<Answer, Failed> {
    let name = writable(path, tools.scope.config)?;
    let looked = name.clone();
    let is_new = tools.on_disk(move |view| Ok(view.is_free(&looked).is_ok()));
    if is_new.await? {
        complete(&name, "", &content)?;
        return make(tools, (path, content), MODE).await;
    }
    without_secrets(&content)?;
    let written = tools.on_disk(move |view| {
        let source = view.read(&name)?;
        let new = anew(&name, &source.content, &content)?;
        view.write(&name, new.as_bytes(), source.mode)?;
        if view.read(&name)?.content != new.as_bytes() {
            return Err(format!("`{name}` is not as it was written"));
        }
        Ok(format!("`{name}` was written\n"))
    });
    Ok(Answer::new(written.await?))
}

/// The new content with the line ends of the old one, or why it can't take its place.
fn anew(path: &str, old: &[u8], new: &str) -> Result<String, String> {
    let refused = |why: &str| Err(format!("`{path}` was not written: {why}"));
    let Ok(old) = std::str::from_utf8(old) else {
        return refused("it is not in UTF-8, and its encoding is kept: change it by blocks");
    };
    if old.contains('\0') {
        return refused("it is no text");
    }
    if !find_secrets(old).is_empty() {
        return refused(
            "it holds what looks like a secret and was not shown, and would be lost: change other \
             lines of it by blocks",
        );
    }
    complete(path, old, new)?;
    let mut new = new.to_owned();
    if !old.ends_with('\n') && !old.is_empty() {
        new.truncate(new.trim_end_matches('\n').len());
    }
    let returns = old.matches("\r\n").count();
    if returns * 2 > old.matches('\n').count() {
        new = new.replace('\n', "\r\n");
    }
    if new == old {
        return refused("that is what it holds already");
    }
    Ok(new)
}

/// Refuses a file of which a part is only named.
fn complete(path: &str, old: &str, new: &str) -> Result<(), String> {
    let mut found = PLACEHOLDER.find_iter(new).map(|it| it.as_str().trim());
    match found.find(|line| !old.contains(line)) {
        None => Ok(()),
        Some(line) => {
            let line: String = line.chars().take(100).collect();
            Err(format!(
                "`{path}` was not written: `{line}` stands for what was left out, and would be \
                 written as it is. Write the whole file, each line of it"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_content_has_the_line_ends_of_the_old_one() {
        assert_eq!(anew("a", b"x\r\ny\r\n", "x\nz\n").unwrap(), "x\r\nz\r\n");
        assert_eq!(anew("a", b"x\ny", "x\nz\n").unwrap(), "x\nz");
        assert_eq!(anew("a", b"", "x\n").unwrap(), "x\n");
    }

    #[test]
    fn what_was_not_shown_is_not_overwritten() {
        let key = format!("key = 'ghp_{}'\n", "a1B2".repeat(9));
        for (old, new, why) in [
            (b"caf\xe9\n".as_slice(), "x\n", "UTF-8"),
            (key.as_bytes(), "x\n", "a secret"),
            (b"a\0", "x\n", "no text"),
            (b"x\n", "x\n", "already"),
        ] {
            let error = anew("a.py", old, new).unwrap_err();
            assert!(error.contains(why) && error.contains("`a.py`"), "{error}");
        }
    }

    #[test]
    fn a_file_of_which_a_part_is_only_named_is_refused() {
        for line in [
            "# ... rest of the code unchanged ...",
            "    # ... existing code ...",
            "// \u{2026} rest of the file",
            "/* ... remaining functions */",
            "<!-- ... other sections -->",
            "...the rest stays",
            "# rest of the code remains unchanged",
            "// existing imports here",
        ] {
            let new = format!("x = 1\n{line}\n");
            let error = anew("a.py", b"x = 2\n", &new).unwrap_err();
            assert!(error.contains("left out"), "{line}: {error}");
            // What the file says already is no placeholder.
            assert!(anew("a.py", format!("x = 2\n{line}\n").as_bytes(), &new).is_ok());
        }
        for line in [
            "x = [...]",
            "def rest(self): ...",
            "# the rest is silence",
            "log('...')",
        ] {
            let new = format!("x = 1\n{line}\n");
            assert!(anew("a.py", b"x = 2\n", &new).is_ok(), "{line}");
        }
    }
}
