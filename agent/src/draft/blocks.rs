//! The answer of a model that writes its change as blocks of plain text.
//!
//! A block is a passage of a file with what comes in its place, or a whole file. Its first and last
//! line are marks, so that code stands in the answer as it is, without quotes or escapes. Pure, and
//! all or nothing: an answer of which one block has no end is no answer, because what is missing
//! can't be known. Absent: applying blocks, and any guess at what a mark could have meant.

use std::path::Path;

/// Least and most signs that a mark begins with; seven are asked for.
const SIGNS: std::ops::RangeInclusive<usize> = 5..=9;
/// Between a passage and what comes in its place.
const DIVIDER: &str = "=======";
/// What a model says instead of blocks when there is nothing to do.
const NO_CHANGE: &str = "NO CHANGE NEEDED:";

/// A change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Block {
    /// Lines of a file, and those that come in their place.
    Passage {
        path: String,
        old: String,
        new: String,
    },
    /// All of a file.
    File {
        path: String,
        content: String,
        /// Nothing was looked for in it, so that it can't be one that is there.
        is_new: bool,
    },
}

/// An answer in its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) blocks: Vec<Block>,
    /// What stands around the blocks.
    pub(super) said: String,
}

/// A line of an answer that is a mark.
enum Mark<'a> {
    Search(&'a str),
    Divider,
    Replace,
    File(&'a str),
    EndOfFile,
}

/// Where in a block the reader is.
enum Place {
    Outside,
    Old {
        path: String,
        old: String,
    },
    New {
        path: String,
        old: String,
        new: String,
    },
    Content {
        path: String,
        content: String,
    },
}

impl Block {
    pub(super) fn path(&self) -> &str {
        let (Self::Passage { path, .. } | Self::File { path, .. }) = self;
        path
    }
}

impl Parsed {
    /// Why the model says that nothing has to be changed, if it says so and changes nothing.
    pub(super) fn no_change(&self) -> Option<&str> {
        let mut lines = self.said.lines();
        let why = lines.find_map(|line| line.trim().strip_prefix(NO_CHANGE))?;
        self.blocks.is_empty().then(|| why.trim())
    }
}

/// Takes an answer apart; the error says, for the model, which block is not as it should be.
pub(super) fn parse(answer: &str) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut place = Place::Outside;
    for line in answer.lines() {
        let number = parsed.blocks.len() + 1;
        place = match (place, mark(line)) {
            (Place::Outside, Some(Mark::Search(path))) => {
                let path = path_of(path, &parsed.said, number)?;
                let old = String::new();
                Place::Old { path, old }
            }
            (Place::Outside, Some(Mark::File(path))) => {
                let path = path_of(path, &parsed.said, number)?;
                let content = String::new();
                Place::Content { path, content }
            }
            (Place::Outside, Some(Mark::Replace | Mark::EndOfFile)) => {
                return Err(format!("block {number} ends without a beginning"));
            }
            (Place::Outside, Some(Mark::Divider) | None) => {
                if !line.trim_start().starts_with("```") {
                    push(&mut parsed.said, line);
                }
                Place::Outside
            }
            (Place::Old { path, old }, Some(Mark::Divider)) => Place::New {
                path,
                old,
                new: String::new(),
            },
            (Place::Old { path, mut old }, None) => {
                push(&mut old, line);
                Place::Old { path, old }
            }
            (Place::Old { path, .. }, Some(_)) => {
                return Err(format!(
                    "block {number} (`{path}`) has no line `{DIVIDER}` between what it looks for \
                     and what comes in its place"
                ));
            }
            (Place::New { path, old, new }, Some(Mark::Replace)) => {
                parsed.blocks.push(finished(path, old, new));
                Place::Outside
            }
            (Place::New { path, old, mut new }, None) => {
                push(&mut new, line);
                Place::New { path, old, new }
            }
            (Place::New { path, .. }, Some(Mark::Divider)) => {
                return Err(format!(
                    "block {number} (`{path}`) has the line `{DIVIDER}` twice, so that nobody knows \
                     what it looks for: choose a passage without such a line, or write the whole file"
                ));
            }
            (Place::New { path, .. }, Some(_)) => {
                return Err(without_end(number, &path, ">>>>>>> REPLACE"));
            }
            (Place::Content { path, content }, Some(Mark::EndOfFile)) => {
                let content = without_fence(&path, content);
                parsed.blocks.push(Block::File {
                    path,
                    content,
                    is_new: false,
                });
                Place::Outside
            }
            (Place::Content { path, .. }, Some(Mark::Search(_) | Mark::File(_))) => {
                return Err(without_end(number, &path, ">>>>>>> FILE"));
            }
            (Place::Content { path, mut content }, Some(Mark::Divider | Mark::Replace) | None) => {
                push(&mut content, line);
                Place::Content { path, content }
            }
        };
    }
    let number = parsed.blocks.len() + 1;
    match place {
        Place::Outside => Ok(parsed),
        Place::Old { path, .. } | Place::New { path, .. } => {
            Err(without_end(number, &path, ">>>>>>> REPLACE"))
        }
        Place::Content { path, .. } => Err(without_end(number, &path, ">>>>>>> FILE")),
    }
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// A block with nothing to look for is a file of its own.
fn finished(path: String, old: String, new: String) -> Block {
    if old.trim().is_empty() {
        Block::File {
            path,
            content: new,
            is_new: true,
        }
    } else {
        Block::Passage { path, old, new }
    }
}

fn without_end(number: usize, path: &str, end: &str) -> String {
    format!("block {number} (`{path}`) has no line `{end}` at its end, so that it may be cut")
}

/// The path that a mark names, else the one in the last line before it, where many models write it.
fn path_of(named: &str, said: &str, number: usize) -> Result<String, String> {
    let before = || said.lines().rev().find(|line| !line.trim().is_empty());
    let path = plain(named)
        .or_else(|| plain(before()?))
        .filter(|path| !path.contains(char::is_whitespace));
    path.map(str::to_owned).ok_or_else(|| {
        format!(
            "block {number} names no file: write its path after `<<<<<<< SEARCH` or `<<<<<<< FILE`"
        )
    })
}

/// A path without what Markdown puts around it.
fn plain(text: &str) -> Option<&str> {
    let around = |c: char| c.is_whitespace() || matches!(c, '`' | '*' | '#' | ':' | '"' | '\'');
    let path = text.trim_matches(around);
    (!path.is_empty()).then_some(path)
}

fn mark(line: &str) -> Option<Mark<'_>> {
    let line = line.trim_end();
    if line == DIVIDER {
        return Some(Mark::Divider);
    }
    let of = |sign: char| {
        let rest = line.trim_start_matches(sign);
        let rest = SIGNS.contains(&(line.len() - rest.len())).then_some(rest)?;
        rest.strip_prefix(' ').map(str::trim_start)
    };
    let is_word = |rest: &str| rest.is_empty() || rest.starts_with(' ');
    if let Some(rest) = of('<') {
        let search = rest.strip_prefix("SEARCH").filter(|it| is_word(it));
        let file = rest.strip_prefix("FILE").filter(|it| is_word(it));
        return search.map(Mark::Search).or(file.map(Mark::File));
    }
    let rest = of('>')?;
    let replace = rest.strip_prefix("REPLACE").filter(|it| is_word(it));
    let file = rest.strip_prefix("FILE").filter(|it| is_word(it));
    let replace = replace.map(|_| Mark::Replace);
    replace.or(file.map(|_| Mark::EndOfFile))
}

/// A file without the code fence that some models put around it within the marks.
fn without_fence(path: &str, content: String) -> String {
    // Of Markdown, a fence at both ends may well be the content.
    if Path::new(path).extension().is_some_and(|it| it == "md") {
        return content;
    }
    let inner = content.strip_prefix("```").and_then(|rest| {
        let (_, rest) = rest.split_once('\n')?;
        rest.strip_suffix("```\n")
    });
    inner.map(str::to_owned).unwrap_or(content)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passage(path: &str, old: &str, new: &str) -> Block {
        Block::Passage {
            path: path.to_owned(),
            old: old.to_owned(),
            new: new.to_owned(),
        }
    }

    fn file(path: &str, content: &str) -> Block {
        Block::File {
            path: path.to_owned(),
            content: content.to_owned(),
            is_new: false,
        }
    }

    /// An answer as models are told to write it.
    fn written(blocks: &[Block], said: &str) -> String {
        let texts = blocks.iter().map(|block| match block {
            Block::Passage { path, old, new } => {
                format!("{said}<<<<<<< SEARCH {path}\n{old}=======\n{new}>>>>>>> REPLACE\n")
            }
            Block::File { path, content, .. } => {
                format!("{said}<<<<<<< FILE {path}\n{content}>>>>>>> FILE\n")
            }
        });
        texts.collect::<String>() + said
    }

    #[test]
    fn passages_and_files_are_found_among_words_and_fences() {
        let answer = "It subtracts.\n\n```python\n<<<<<<< SEARCH `calc.py`\n    return a - b\n=======\n    \
                      return a + b\n>>>>>>> REPLACE\n```\n\n### docs/add.md\n<<<<<<< FILE\n# Add\n```\n1 + 1\n```\n\
                      >>>>>>> FILE\n<<<<<<< FILE a.py\n```python\nx = 1\n```\n>>>>>>> FILE\n\
                      **`b.py`**:\n<<<<<<<< SEARCH\n=======\ny = 2\n>>>>>>>> REPLACE\nDone.\n";
        let parsed = parse(answer).unwrap();
        assert_eq!(
            parsed.blocks,
            [
                passage("calc.py", "    return a - b\n", "    return a + b\n"),
                file("docs/add.md", "# Add\n```\n1 + 1\n```\n"),
                file("a.py", "x = 1\n"),
                Block::File {
                    path: "b.py".to_owned(),
                    content: "y = 2\n".to_owned(),
                    is_new: true,
                },
            ]
        );
        assert!(parsed.said.starts_with("It subtracts.\n") && parsed.said.ends_with("Done.\n"));
        assert!(!parsed.said.contains("```"));
    }

    #[test]
    fn what_is_no_whole_block_is_told_by_number_and_file() {
        for (answer, error) in [
            (
                "<<<<<<< SEARCH a.py\nx\n=======\ny\n",
                "block 1 (`a.py`) has no line `>>>>>>> REPLACE`",
            ),
            (
                "<<<<<<< SEARCH a.py\nx\n>>>>>>> REPLACE\n",
                "block 1 (`a.py`) has no line `=======`",
            ),
            (
                "<<<<<<< SEARCH a.py\nx\n=======\ny\n=======\nz\n>>>>>>> REPLACE\n",
                "`=======` twice",
            ),
            (
                "<<<<<<< SEARCH a.py\nx\n=======\ny\n<<<<<<< SEARCH b.py\n",
                "block 1 (`a.py`) has no line",
            ),
            (
                "<<<<<<< FILE a.py\nx\n>>>>>>> FILE\n<<<<<<< FILE b.py\nx\n",
                "block 2 (`b.py`) has no line `>>>>>>> FILE`",
            ),
            (
                "<<<<<<< FILE a.py\nx\n<<<<<<< SEARCH b.py\n",
                "block 1 (`a.py`) has no line",
            ),
            (
                "<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE\n",
                "block 1 names no file",
            ),
            (
                "This is what I do:\n<<<<<<< FILE\nx\n>>>>>>> FILE\n",
                "block 1 names no file",
            ),
            ("x\n>>>>>>> REPLACE\n", "block 1 ends without a beginning"),
        ] {
            let found = parse(answer).unwrap_err();
            assert!(found.contains(error), "{answer}: {found}");
        }
    }

    #[test]
    fn a_model_may_say_that_nothing_has_to_be_changed() {
        let parsed = parse("I looked.\nNO CHANGE NEEDED: it is right as it is.\n").unwrap();
        assert_eq!(parsed.no_change(), Some("it is right as it is."));
        let both = parse("NO CHANGE NEEDED: x\n<<<<<<< FILE a\ny\n>>>>>>> FILE\n").unwrap();
        assert_eq!(both.no_change(), None);
        assert_eq!(parse("I can't help with that.").unwrap().no_change(), None);
    }

    fn lines() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            "[ -~äß]{0,20}",
            Just("<<<<<<<".to_owned()),
            Just("====".to_owned()),
            Just(">>>>>>> main".to_owned()),
            Just("<<<<<<< SEARCHED".to_owned()),
        ];
        let line = line.prop_filter("a mark", |line| mark(line).is_none());
        let lines = proptest::collection::vec(line, 1..5);
        lines.prop_map(|lines| lines.join("\n") + "\n")
    }

    fn block() -> impl Strategy<Value = Block> {
        let path = "[a-z]{1,6}(/[a-z]{1,6}){0,2}\\.(py|rs)";
        let unfenced = |text: &String| !text.starts_with("```");
        let old = lines().prop_filter("empty", |text| !text.trim().is_empty());
        prop_oneof![
            (path, old, prop_oneof![lines(), Just(String::new())])
                .prop_map(|(path, old, new)| Block::Passage { path, old, new }),
            (path, lines().prop_filter("a fence", unfenced))
                .prop_map(|(path, content)| file(&path, &content)),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            blocks in proptest::collection::vec(block(), 0..5),
            said in "[a-zA-Z ,.]{0,30}\n",
        ) {
            let parsed = parse(&written(&blocks, &said)).unwrap();
            prop_assert_eq!(&parsed.blocks, &blocks);
            prop_assert_eq!(parsed.said, said.repeat(blocks.len() + 1));
        }

        #[test]
        fn of_an_answer_that_was_cut_no_block_is_taken_half(
            blocks in proptest::collection::vec(block(), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let answer = written(&blocks, "Now this.\n");
            let ends: Vec<usize> = answer.char_indices().map(|(at, _)| at).collect();
            let answer = &answer[..ends[cut.index(ends.len())]];
            if let Ok(parsed) = parse(answer) {
                prop_assert!(parsed.blocks.len() <= blocks.len());
                prop_assert_eq!(&parsed.blocks[..], &blocks[..parsed.blocks.len()]);
            }
        }

        #[test]
        fn no_text_is_too_strange(
            lines in proptest::collection::vec(
                prop_oneof![
                    "\\PC{0,12}",
                    Just("<<<<<<< SEARCH a".to_owned()),
                    Just("=======".to_owned()),
                    Just(">>>>>>> REPLACE".to_owned()),
                    Just("<<<<<<< FILE b".to_owned()),
                    Just(">>>>>>> FILE".to_owned()),
                    Just("```".to_owned()),
                ],
                0..20,
            ),
        ) {
            let _ = parse(&lines.join("\n"));
        }
    }
}
