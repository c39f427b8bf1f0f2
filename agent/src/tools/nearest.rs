//! Which lines of a file stand nearest to a passage that does not stand in it. Pure.
//!
//! The passage is laid beside each line of the file, and what is alike counts line by line: by how much
//! of both lines is the same, and by how long the line is, so that a brace or an `else` decides nothing.
//! Whoever edits code looks for code: a comment that has the same words counts half as much as a line
//! of code that was nearly hit, and a comment that is hit exactly counts a quarter of such a line.
//! Absent: choosing a passage to edit, for which no likeness is enough.

use std::cmp::Reverse;

/// Most lines of a passage that are compared, which are as many as are shown.
const COMPARED: usize = 12;
/// The longest part of a line that is compared, in bytes.
const LONGEST: usize = 300;
/// Longer lines count no more than this one, in bytes.
const HEAVIEST: usize = 80;
/// Lines less alike than this have only letters in common, of a hundred.
const LEAST: usize = 30;
/// How lines begin that are comments in one language or another. In some of them a `#` or a `*`
/// begins code as well, but then no space follows.
const COMMENTS: &[&[u8]] = &[
    b"//", b"# ", b"/*", b"* ", b"*/", b"-- ", b"; ", b"% ", b"<!--", b"\"\"\"", b"'''", b"##",
];

/// A line as far as it is compared.
struct Line<'a> {
    text: &'a [u8],
    /// The pairs of neighbouring bytes, in order, each as often as it stands there.
    pairs: Vec<[u8; 2]>,
    is_comment: bool,
}

/// The line, from 0, where the passage would stand best; none where nothing is like it.
pub(super) fn nearest(lines: &[&[u8]], wanted: &[&str]) -> Option<usize> {
    let wanted = wanted.iter().take(COMPARED);
    let wanted: Vec<_> = wanted.map(|line| Line::of(line.as_bytes())).collect();
    let lines: Vec<_> = lines.iter().map(|line| Line::of(line)).collect();
    let scores = (0..lines.len()).map(|start| (score(&wanted, &lines[start..]), start));
    let (score, start) = scores.max_by_key(|(score, start)| (*score, Reverse(*start)))?;
    (score > 0).then_some(start)
}

fn score(wanted: &[Line<'_>], lines: &[Line<'_>]) -> usize {
    let pairs = wanted.iter().zip(lines);
    pairs
        .map(|(wanted, line)| wanted.weight() * wanted.likeness(line))
        .sum()
}

impl<'a> Line<'a> {
    fn of(line: &'a [u8]) -> Self {
        let text = line.trim_ascii();
        let text = &text[..text.len().min(LONGEST)];
        let mut pairs: Vec<_> = text.windows(2).map(|it| [it[0], it[1]]).collect();
        pairs.sort_unstable();
        let is_comment = text == b"#" || COMMENTS.iter().any(|begin| text.starts_with(begin));
        Self {
            text,
            pairs,
            is_comment,
        }
    }

    fn weight(&self) -> usize {
        let weight = self.text.len().min(HEAVIEST) * 4;
        if self.is_comment { weight / 4 } else { weight }
    }

    /// How much this line of a passage is like one of the file, of a hundred: the mean of how much of
    /// both is common and how much of this one, which may be a part of its line only.
    fn likeness(&self, line: &Self) -> usize {
        if self.text == line.text {
            return 100;
        }
        let (own, other) = (self.pairs.len(), line.pairs.len());
        if own == 0 || other == 0 {
            return 0;
        }
        let common = common(&self.pairs, &line.pairs);
        let likeness = common * 100 / (own + other) + common * 50 / own;
        let likeness = if self.is_comment == line.is_comment {
            likeness
        } else {
            likeness / 2
        };
        if likeness < LEAST { 0 } else { likeness }
    }
}

/// How many pairs two lines have in common; both are sorted.
fn common(mut one: &[[u8; 2]], mut other: &[[u8; 2]]) -> usize {
    let mut count = 0;
    while let ([first, rest @ ..], [second, others @ ..]) = (one, other) {
        match first.cmp(second) {
            std::cmp::Ordering::Less => one = rest,
            std::cmp::Ordering::Greater => other = others,
            std::cmp::Ordering::Equal => {
                count += 1;
                (one, other) = (rest, others);
            }
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, wanted: &str) -> Option<usize> {
        let lines: Vec<_> = text.lines().map(str::as_bytes).collect();
        let wanted: Vec<_> = wanted.lines().collect();
        nearest(&lines, &wanted).map(|line| line + 1)
    }

    #[test]
    fn code_that_was_nearly_hit_is_nearer_than_a_comment_with_its_words() {
        let text = "# A discount is given if quantity > minimum, else: nothing at all is.\n\
                    TIERS = (10, 100)\n\
                    def discount(quantity, least):\n    \
                        if quantity > least:\n        \
                            return 10\n";
        assert_eq!(at(text, "    if quantity > minimum:\n"), Some(4));
        let text =
            "// return the sum of all items in the cart\nlet a = 1;\n    return sum(items);\n";
        assert_eq!(at(text, "return the_sum(items)"), Some(3));
        let text = "# if quantity > minimum\nx = 1\nif quantity > least:\n";
        assert_eq!(at(text, "if quantity > minimum:"), Some(3));
    }

    #[test]
    fn a_comment_that_is_hit_does_not_outweigh_the_code_below_it() {
        let text = "def a():\n    # Halves are rounded to the even cent.\n    x = 1\n\
                    \ndef b():\n    # Half a cent is rounded up.\n    total = round(amount, 2)\n    return total\n";
        let wanted = "    # Halves are rounded to the even cent.\n    total = round(amount)\n";
        assert_eq!(at(text, wanted), Some(6));
    }

    #[test]
    fn a_comment_is_found_by_who_looks_for_one() {
        let text = "x = discount(quantity)\n# The discount of a quantity.\ny = 2\n";
        assert_eq!(at(text, "# The discount for a quantity\n"), Some(2));
        assert_eq!(at("#include <a.h>\nint a;\n", "#include <b.h>\n"), Some(1));
    }

    #[test]
    fn short_lines_that_stand_everywhere_decide_nothing() {
        let text = "if a:\n    return 1\nelse:\n    return 2\n\nif b:\n    total = price * quantity\nelse:\n    total = 0\n";
        let wanted = "else:\n    total = price * amount\n";
        assert_eq!(at(text, wanted), Some(6));
    }

    #[test]
    fn a_part_of_a_long_line_is_found_and_what_is_not_alike_is_not() {
        let text =
            "a = 1\n    if quantity > least and customer.is_loyal and not customer.is_blocked:\n";
        assert_eq!(at(text, "quantity > minimum"), Some(2));
        assert_eq!(at(text, "%%%%"), None);
        assert_eq!(at(text, "Zebras!"), None);
        assert_eq!(at("", "x"), None);
        assert_eq!(at("a\n", ""), None);
    }

    #[test]
    fn a_passage_at_the_end_of_a_file_may_be_longer_than_what_is_there() {
        let text = "a = 1\nb = 2\ntotal = price * quantity\n";
        assert_eq!(
            at(text, "total = price * amount\nreturn total\nmore()\n"),
            Some(3)
        );
    }
}
