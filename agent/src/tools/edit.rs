//! Replacement of a passage of a file: exact and unique, or refused with what stands nearest.
//!
//! Only two things may differ between what is looked for and what is there: the line ends, which
//! stay those of the file, and the same indentation in front of each line. The passage is never
//! longer than what was asked for, nothing else of the file changes, and bytes that are no UTF-8
//! stay as they are. Absent: any measure of likeness that would choose a passage.

use super::nearest::nearest;

/// Most places that a refusal names.
const PLACES: usize = 10;
/// Most lines that a refusal shows.
const SHOWN: usize = 12;
/// Longest part of a line that a refusal shows.
const LINE: usize = 300;

/// A file after a replacement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Edited {
    pub(super) content: Vec<u8>,
    /// The first line of what is new, from 1.
    pub(super) line: usize,
    /// How many lines it has.
    pub(super) count: usize,
    /// The lines were moved in or out to be found, and those in their place alike.
    pub(super) is_shifted: bool,
}

/// Where a passage may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Anywhere.
    Text,
    /// At the beginning of a line: what is looked for are whole lines.
    Lines,
}

/// Puts `new` in the place of `old`; the error says in words which rule failed.
pub(super) fn replace(
    content: &[u8],
    (old, new): (&str, &str),
    unit: Unit,
) -> Result<Edited, String> {
    let (old, new) = (old.replace("\r\n", "\n"), new.replace("\r\n", "\n"));
    if old.is_empty() {
        return Err(
            "`old` is empty, so nobody knows where `new` belongs: give the lines that it \
                    replaces or follows"
                .to_owned(),
        );
    }
    if old == new {
        return Err("`old` and `new` are the same, so the edit changes nothing".to_owned());
    }
    if !new.is_ascii() && std::str::from_utf8(content).is_err() {
        return Err(
            "the file is not in UTF-8, and its encoding is kept: write ASCII characters only"
                .to_owned(),
        );
    }
    let file = Lines::new(content);
    let mut places = file.places(old.as_bytes());
    if unit == Unit::Lines {
        places.retain(|place| *place == 0 || file.text[place - 1] == b'\n');
    }
    match places.as_slice() {
        [place] => Ok(file.put((*place, old.len()), &new, false)),
        [] => file.shifted(&old, &new),
        places => Err(several(places.iter().map(|place| file.line_of(*place)))),
    }
}

/// A file with `\n` at the end of each line, whatever it has.
struct Lines<'a> {
    original: &'a [u8],
    text: Vec<u8>,
    /// Where in `text` the line ends are that have a `\r` in the file.
    returns: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(original: &'a [u8]) -> Self {
        let mut text = Vec::with_capacity(original.len());
        let mut returns = Vec::new();
        let mut bytes = original.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            if byte == b'\r' && bytes.peek() == Some(&b'\n') {
                returns.push(text.len());
            } else {
                text.push(byte);
            }
        }
        Self {
            original,
            text,
            returns,
        }
    }

    /// Where a text stands, also where two of it overlap.
    fn places(&self, wanted: &[u8]) -> Vec<usize> {
        let windows = self.text.windows(wanted.len()).enumerate();
        let found = windows.filter(|(_, it)| it[0] == wanted[0] && *it == wanted);
        found.map(|(place, _)| place).collect()
    }

    /// The same place in the file itself.
    fn in_original(&self, place: usize) -> usize {
        place + self.returns.partition_point(|it| *it < place)
    }

    fn line_of(&self, place: usize) -> usize {
        self.text[..place].split(|byte| *byte == b'\n').count()
    }

    fn put(&self, (place, length): (usize, usize), new: &str, is_shifted: bool) -> Edited {
        let (start, end) = (self.in_original(place), self.in_original(place + length));
        let new_end = self.line_end(place, length);
        let mut content = self.original[..start].to_vec();
        for (number, line) in new.split('\n').enumerate() {
            if number > 0 {
                content.extend_from_slice(new_end);
            }
            content.extend_from_slice(line.as_bytes());
        }
        content.extend_from_slice(&self.original[end..]);
        let lines = new.trim_end_matches('\n').split('\n').count();
        Edited {
            content,
            line: self.line_of(place),
            count: if new.is_empty() { 0 } else { lines },
            is_shifted,
        }
    }

    /// The line end of new lines: that of the passage, else that of most of the file.
    fn line_end(&self, place: usize, length: usize) -> &'static [u8] {
        let passage = &self.text[place..place + length];
        let first = passage.iter().position(|byte| *byte == b'\n');
        let has_return = match first {
            Some(at) => self.returns.binary_search(&(place + at)).is_ok(),
            None => {
                let lines = self.text.split(|byte| *byte == b'\n').count();
                self.returns.len() * 2 >= lines
            }
        };
        if has_return { b"\r\n" } else { b"\n" }
    }

    /// The only passage that differs by one and the same indentation of all its lines.
    fn shifted(&self, old: &str, new: &str) -> Result<Edited, String> {
        let mut lines: Vec<&[u8]> = self.text.split(|byte| *byte == b'\n').collect();
        // After the last line end there is no line.
        lines.pop_if(|last| last.is_empty());
        let ends_line = old.ends_with('\n');
        let wanted: Vec<&str> = old.strip_suffix('\n').unwrap_or(old).split('\n').collect();
        let windows = lines.windows(wanted.len()).enumerate();
        let found: Vec<_> = windows
            .filter_map(|(line, window)| Some((line, Shift::between(&wanted, window)?)))
            .collect();
        let (line, shift) = match found.as_slice() {
            [] => return Err(absent(&lines, &wanted)),
            [only] => *only,
            places => return Err(several(places.iter().map(|(line, _)| line + 1))),
        };
        let new = shift.apply(new).ok_or_else(|| {
            format!(
                "`old` stands at line {} with less indentation than it was given, but `new` has \
                 lines with even less: copy the lines as they are in the file",
                line + 1
            )
        })?;
        let place: usize = lines[..line].iter().map(|line| line.len() + 1).sum();
        let passage = &lines[line..line + wanted.len()];
        let length: usize = passage.iter().map(|line| line.len() + 1).sum();
        let has_end = place + length <= self.text.len();
        let length = length - usize::from(!(ends_line && has_end));
        Ok(self.put((place, length), &new, true))
    }
}

/// Where a passage stands that should stand once.
fn several(lines: impl Iterator<Item = usize>) -> String {
    let lines: Vec<_> = lines.collect();
    let named = lines.iter().take(PLACES).map(ToString::to_string);
    let named = named.collect::<Vec<_>>().join(", ");
    let more = match lines.len().saturating_sub(PLACES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "`old` stands in {} places, at the lines {named}{more}: give more lines around the one \
         that is meant, so that it stands once",
        lines.len()
    )
}

/// What stands nearest to what was looked for.
fn absent(lines: &[&[u8]], wanted: &[&str]) -> String {
    let rule = "`old` does not stand in the file, also not with another indentation";
    let Some(line) = nearest(lines, wanted) else {
        return format!("{rule}, and nothing in it is like it: read the file again");
    };
    let shown = lines[line..].iter().take(wanted.len().clamp(3, SHOWN));
    let mut text = format!("{rule}. Nearest, from line {}:\n", line + 1);
    for (number, bytes) in (line + 1..).zip(shown) {
        let bytes = String::from_utf8_lossy(bytes);
        let line: String = bytes.chars().take(LINE).collect();
        text.push_str(&numbered(number, &line));
    }
    text.push_str("Copy the lines as they are in the file.");
    text
}

/// A line as tools show it.
pub(super) fn numbered(number: usize, line: &str) -> String {
    format!("{number:>6}\t{line}\n")
}

/// What differs in front of each line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shift<'a> {
    /// The file has this in front of what was given.
    In(&'a [u8]),
    /// The file lacks this of what was given.
    Out(&'a [u8]),
}

impl<'a> Shift<'a> {
    fn between(wanted: &[&'a str], window: &[&'a [u8]]) -> Option<Self> {
        let mut shift = None;
        for (old, line) in wanted.iter().zip(window) {
            let old = old.as_bytes();
            if is_blank(old) && is_blank(line) {
                continue;
            }
            let this = if let Some(more) = line.strip_suffix(old) {
                Self::In(more)
            } else {
                Self::Out(old.strip_suffix(*line)?)
            };
            let (Self::In(space) | Self::Out(space)) = this;
            if !is_blank(space) || is_blank(old) || shift.is_some_and(|it| it != this) {
                return None;
            }
            shift = Some(this);
        }
        shift
    }

    fn apply(self, new: &str) -> Option<String> {
        let lines = new.split('\n').map(|line| {
            if is_blank(line.as_bytes()) {
                return Some(line.to_owned());
            }
            match self {
                Self::In(space) => Some(format!("{}{line}", String::from_utf8_lossy(space))),
                Self::Out(space) => {
                    let space = std::str::from_utf8(space).ok()?;
                    line.strip_prefix(space).map(str::to_owned)
                }
            }
        });
        Some(lines.collect::<Option<Vec<_>>>()?.join("\n"))
    }
}

fn is_blank(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b' ' | b'\t'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edited(content: &str, old: &str, new: &str) -> Result<String, String> {
        let edited = replace(content.as_bytes(), (old, new), Unit::Text)?;
        Ok(String::from_utf8(edited.content).unwrap())
    }

    #[test]
    fn whole_lines_are_not_found_within_others() {
        let text = "def add(a, b):\n    x = a\n    max = a\n";
        let (old, new) = ("x = a\n", "x = b\n");
        let error = edited(text, old, new).unwrap_err();
        assert!(error.contains("in 2 places"), "{error}");
        let done = replace(text.as_bytes(), (old, new), Unit::Lines).unwrap();
        assert_eq!(
            done.content,
            text.replace("    x = a", "    x = b").into_bytes()
        );
        let last = replace(b"a\nb", ("b\n", "c\n"), Unit::Lines).unwrap();
        assert_eq!(last.content, b"a\nc\n");
    }

    #[test]
    fn what_stands_once_is_replaced_and_nothing_else() {
        let text = "a = 1\nb = 2\nc = 3\n";
        assert_eq!(
            edited(text, "b = 2", "b = 5").unwrap(),
            "a = 1\nb = 5\nc = 3\n"
        );
        assert_eq!(edited(text, "b = 2\n", "").unwrap(), "a = 1\nc = 3\n");
        assert_eq!(
            edited(text, "2\nc", "2\n\nc").unwrap(),
            "a = 1\nb = 2\n\nc = 3\n"
        );
        let place = replace(text.as_bytes(), ("b = 2\n", "x\ny\n"), Unit::Text).unwrap();
        assert_eq!((place.line, place.count, place.is_shifted), (2, 2, false));
    }

    #[test]
    fn what_has_no_anchor_or_changes_nothing_is_refused() {
        assert!(edited("a\n", "", "b").unwrap_err().contains("is empty"));
        assert!(
            edited("a\n", "a", "a")
                .unwrap_err()
                .contains("changes nothing")
        );
    }

    #[test]
    fn what_stands_more_than_once_is_refused_with_each_line() {
        let error = edited("x\na\nx\nx\n", "x", "y").unwrap_err();
        assert!(error.contains("3 places, at the lines 1, 3, 4"), "{error}");
        // Also where they overlap.
        let error = edited("aaa", "aa", "b").unwrap_err();
        assert!(error.contains("2 places"), "{error}");
        let twice = "if x:\n    go()\nif y:\n    go()\n";
        let error = edited(twice, "  go()\n  \n", "stop()").unwrap_err();
        assert!(error.contains("does not stand"), "{error}");
    }

    #[test]
    fn one_indentation_of_all_lines_may_differ() {
        let text =
            "class A:\n    def f(self):\n        return 1\n\n    def g(self):\n        pass\n";
        let old = "def f(self):\n    return 1\n";
        let new = "def f(self):\n    x = 2\n\n    return x\n";
        let expected = "class A:\n    def f(self):\n        x = 2\n\n        return x\n\n    def g(self):\n        pass\n";
        assert_eq!(edited(text, old, new).unwrap(), expected);
        // Given with too much.
        let old = "        def f(self):\n            return 1";
        let new = "        def f(self):\n            return 2";
        let expected = text.replace("return 1", "return 2");
        assert_eq!(edited(text, old, new).unwrap(), expected);
        assert!(
            replace(text.as_bytes(), (old, new), Unit::Text)
                .unwrap()
                .is_shifted
        );
        let error = edited(text, old, "def f(self): pass").unwrap_err();
        assert!(error.contains("at line 2"), "{error}");
    }

    #[test]
    fn an_indentation_that_differs_from_line_to_line_is_no_match() {
        let text = "if a:\n        x()\n    y()\n";
        let error = edited(text, "  x()\n  y()\n", "z()\n").unwrap_err();
        assert!(error.contains("does not stand"), "{error}");
        // Words in front are no white space.
        let error = edited("let value = 1;\nlet b = 2;\n", "value = 1;\nb = 2;\n", "").unwrap_err();
        assert!(error.contains("does not stand"), "{error}");
    }

    #[test]
    fn a_refusal_shows_the_nearest_lines() {
        let text = "fn a() {}\nfn total(items: &[u32]) -> u32 {\n    items.iter().sum()\n}\n";
        let error = edited(text, "fn total(items: &[u64]) -> u64 {", "x").unwrap_err();
        assert!(
            error.contains("     2\tfn total(items: &[u32]) -> u32 {"),
            "{error}"
        );
        let error = edited(text, "fn b() {\n    items.iter().sum()\n}\n", "x").unwrap_err();
        assert!(error.contains("     3\t    items.iter().sum()"), "{error}");
        let error = edited(text, "%%%%", "x").unwrap_err();
        assert!(error.contains("nothing in it is like it"), "{error}");
        assert!(edited("", "x", "y").unwrap_err().contains("nothing in it"));
    }

    #[test]
    fn line_ends_and_bytes_of_other_encodings_stay() {
        let crlf = "a\r\nb\r\nc\r\n";
        assert_eq!(
            edited(crlf, "b\n", "x\ny\n").unwrap(),
            "a\r\nx\r\ny\r\nc\r\n"
        );
        assert_eq!(edited(crlf, "b", "x\ny").unwrap(), "a\r\nx\r\ny\r\nc\r\n");
        assert_eq!(edited(crlf, "a\r\nb", "a\r\nx").unwrap(), "a\r\nx\r\nc\r\n");
        let mixed = "a\r\nb\nc\r\n";
        assert_eq!(edited(mixed, "b\nc", "b\nd").unwrap(), "a\r\nb\nd\r\n");
        let latin = b"caf\xe9 = 1\nb = 2\n";
        let done = replace(latin, ("b = 2", "b = 3"), Unit::Text).unwrap();
        assert_eq!(done.content, b"caf\xe9 = 1\nb = 3\n");
        let error = replace(latin, ("b = 2", "b = '\u{e9}'"), Unit::Text).unwrap_err();
        assert!(error.contains("ASCII"), "{error}");
    }

    proptest! {
        /// Whatever is asked for: what is outside of the passage stays byte for byte.
        #[test]
        fn an_edit_keeps_what_is_around_it(
            before in "[ab \r\n]{0,12}", old in "[xy]{1,6}", after in "[ab \r\n]{0,12}", new in "[ab\n]{0,6}",
        ) {
            let text = format!("{before}{old}{after}");
            let done = edited(&text, &old, &new).unwrap();
            prop_assert!(done.starts_with(&before));
            prop_assert!(done.ends_with(&after));
            let plain = |text: &str| text.replace("\r\n", "\n");
            let middle = &done[before.len()..done.len() - after.len()];
            prop_assert_eq!(plain(middle), new);
        }
    }
}
