//! Raw HTML in Markdown, as far as it hides or quotes what stands around it.

use std::collections::BTreeMap;
use std::ops::Range;

/// Elements whose text is shown as code, as a quotation or as deleted.
const QUOTING: &[&str] = &[
    "blockquote",
    "code",
    "del",
    "kbd",
    "pre",
    "q",
    "s",
    "samp",
    "strike",
    "textarea",
];

/// What HTML shows nobody, and how it ends: <https://html.spec.whatwg.org/#comments>. What begins with
/// `<!` or `<?` and is no comment counts as one, up to the next `>`.
const COMMENT: &[&str] = &["-->", "--!>"];
const BOGUS: &[&str] = &[">"];

/// The raw HTML of one text, read piece by piece.
#[derive(Debug, Default)]
pub(super) struct Html {
    /// A comment that is not over: where it begins, and how it ends.
    open: Option<(usize, &'static [&'static str])>,
    /// How many elements of each kind are open that quote.
    quoting: BTreeMap<&'static str, usize>,
    /// Where comments are.
    pub(super) comments: Vec<Range<usize>>,
}

impl Html {
    /// Reads the next piece, which begins at this place of the text.
    pub(super) fn read(&mut self, html: &str, begin: usize) {
        let mut at = 0;
        while at < html.len() {
            let rest = &html[at..];
            if let Some((from, ends)) = self.open {
                let ends = ends
                    .iter()
                    .filter_map(|end| Some(rest.find(end)? + end.len()));
                let Some(length) = ends.min() else { return };
                at += length;
                self.comments.push(from..begin + at);
                self.open = None;
            } else {
                let Some(next) = rest.find('<') else { return };
                at += next;
                at += self.tag(&html[at..], begin + at);
            }
        }
    }

    /// Reads what begins with `<`; gives how long that is.
    fn tag(&mut self, html: &str, at: usize) -> usize {
        for (begin, ends) in [("<!--", COMMENT), ("<!", BOGUS), ("<?", BOGUS)] {
            if let Some(rest) = html.strip_prefix(begin) {
                self.open = Some((at, ends));
                let is_over = ends == COMMENT && (rest.starts_with('>') || rest.starts_with("->"));
                // `<!-->` ends by its own two dashes.
                return if is_over {
                    begin.len() - 2
                } else {
                    begin.len()
                };
            }
        }
        let (closes, name) = match html.strip_prefix("</") {
            Some(name) => (true, name),
            None => (false, &html[1..]),
        };
        let length = name.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let name = &name[..length];
        if name.is_empty() {
            return 1;
        }
        if let Some(known) = QUOTING.iter().find(|it| it.eq_ignore_ascii_case(name)) {
            let count = self.quoting.entry(known).or_default();
            *count = if closes {
                count.saturating_sub(1)
            } else {
                *count + 1
            };
        }
        end_of_tag(html)
    }

    /// Ends what no `-->` ended: browsers show nothing after it.
    pub(super) fn finish(&mut self, end: usize) {
        if let Some((from, _)) = self.open.take() {
            self.comments.push(from..end);
        }
    }

    /// True where text is not shown.
    pub(super) const fn hides(&self) -> bool {
        self.open.is_some()
    }

    /// True where text is shown, but not as its author's own words.
    pub(super) fn quotes(&self) -> bool {
        self.quoting.values().any(|count| *count > 0)
    }
}

/// How long a tag is; what is in quotes does not end it.
fn end_of_tag(html: &str) -> usize {
    let mut quote = None;
    for (at, c) in html.char_indices() {
        match (quote, c) {
            (None, '>') => return at + 1,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
    }
    html.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(html: &str) -> Vec<&str> {
        let mut read = Html::default();
        read.read(html, 0);
        read.finish(html.len());
        let comments = read.comments.into_iter();
        comments.map(|range| &html[range]).collect()
    }

    #[test]
    fn comments_are_found_as_browsers_find_them() {
        let none: [&str; 0] = [];
        assert_eq!(
            hidden("a<!-- b -->c<!--d--!>e"),
            ["<!-- b -->", "<!--d--!>"]
        );
        assert_eq!(hidden("<!-->a<!--->b"), ["<!-->", "<!--->"]);
        assert_eq!(
            hidden("<?php x ?><!DOCTYPE y>z"),
            ["<?php x ?>", "<!DOCTYPE y>"]
        );
        assert_eq!(hidden("<a title='<!--'>b</a>"), none);
        assert_eq!(hidden("a < b <!-- never closed"), ["<!-- never closed"]);
        assert_eq!(hidden("a < b <"), none);
    }

    #[test]
    fn what_quotes_is_known_until_its_end() {
        let mut read = Html::default();
        read.read("<div><PRE class=\"a>b\">", 0);
        assert!(read.quotes());
        read.read("</pre></pre><br/>", 30);
        assert!(!read.quotes());
    }
}
