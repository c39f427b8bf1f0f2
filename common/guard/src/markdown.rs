//! What a Markdown text shows on GitHub, and what its author says in it.
//!
//! It is read once, by a parser of the dialect (<https://github.github.com/gfm/>): what is code stays
//! as it is, also where it looks like a comment, and only a writer's own words can ask for anything.

mod html;

use std::collections::BTreeSet;
use std::ops::Range;

use pulldown_cmark::{CowStr, Event, LinkType, Options, Parser, Tag, TagEnd};

use self::html::Html;
use crate::untrusted::{Stripped, strip_invisible};

/// A paragraph, a heading or an item of a list, in its author's own words: without code, quotations,
/// deleted and hidden text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// What it is.
    pub kind: PassageKind,
    /// What it says.
    pub spans: Vec<Span>,
}

/// What a passage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassageKind {
    /// A heading.
    Heading,
    /// A paragraph outside of lists.
    Paragraph,
    /// A part of an item of a list.
    Item,
    /// A line from one side to the other; it says nothing.
    Rule,
}

/// A piece of a passage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Span {
    /// Words, as they stand there.
    Text(String),
    /// A link.
    Link {
        /// What it shows.
        text: String,
        /// Where it leads.
        target: String,
    },
    /// Code within a line.
    Code(String),
    /// Something else than words: a formula, a picture, a deletion, an escaped character.
    Other,
    /// The end of a line.
    LineEnd,
}

/// What is read of a text.
#[derive(Debug, Default)]
struct Reading {
    passages: Vec<Passage>,
    /// What is not shown.
    hidden: Vec<Range<usize>>,
}

/// Takes out what GitHub does not show of a Markdown text, and counts it: comments outside of code,
/// definitions of links and notes that nothing uses, and invisible characters.
pub fn strip_hidden_markdown(text: &str) -> Stripped {
    let mut hidden = read(text).hidden;
    hidden.sort_by_key(|range| range.start);
    let (mut shown, mut at) = (String::with_capacity(text.len()), 0);
    for range in &hidden {
        if range.start > at {
            shown.push_str(&text[at..range.start]);
        }
        at = at.max(range.end);
    }
    shown.push_str(&text[at..]);
    let (text, invisible) = strip_invisible(&shown);
    Stripped {
        text,
        comments: hidden.len(),
        invisible,
    }
}

/// The passages of a Markdown text, in order.
pub fn passages(text: &str) -> Vec<Passage> {
    read(text).passages
}

fn read(text: &str) -> Reading {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_MATH
        | Options::ENABLE_GFM;
    let parser = Parser::new_ext(text, options);
    let definitions = parser.reference_definitions().iter();
    let definitions = definitions.map(|(label, found)| (normal(label), found.span.clone()));
    let mut reader = Reader {
        text,
        definitions: definitions.collect(),
        notes: Vec::new(),
        used: BTreeSet::new(),
        html: Html::default(),
        quotes: 0,
        items: 0,
        link: None,
        passage: None,
        passages: Vec::new(),
    };
    for (event, range) in parser.into_offset_iter() {
        reader.read(event, range);
    }
    reader.finish()
}

/// Reads the events of a parser.
struct Reader<'a> {
    text: &'a str,
    /// Definitions of links, by their labels.
    definitions: Vec<(String, Range<usize>)>,
    /// Notes at the foot, by their labels.
    notes: Vec<(String, Range<usize>)>,
    /// Labels that something refers to.
    used: BTreeSet<String>,
    html: Html,
    /// How deep it is in what is not the author's own.
    quotes: usize,
    /// How deep it is in lists.
    items: usize,
    link: Option<(String, String)>,
    passage: Option<Passage>,
    passages: Vec<Passage>,
}

impl Reader<'_> {
    fn read(&mut self, event: Event<'_>, range: Range<usize>) {
        match event {
            Event::Start(tag) => self.start(tag, range),
            Event::End(tag) => self.end(tag),
            Event::Text(words) => self.words(&words, &range),
            Event::Code(code) => self.push(Span::Code(code.into_string())),
            Event::InlineMath(_) | Event::DisplayMath(_) | Event::TaskListMarker(_) => {
                self.push(Span::Other);
            }
            Event::Html(html) | Event::InlineHtml(html) => self.html.read(&html, range.start),
            Event::FootnoteReference(label) => {
                self.used.insert(note(&label));
                self.push(Span::Other);
            }
            Event::SoftBreak | Event::HardBreak => self.push(Span::LineEnd),
            Event::Rule => {
                self.close();
                if self.is_own() {
                    let (kind, spans) = (PassageKind::Rule, Vec::new());
                    self.passages.push(Passage { kind, spans });
                }
            }
        }
    }

    fn start(&mut self, tag: Tag<'_>, range: Range<usize>) {
        match tag {
            Tag::BlockQuote(_) | Tag::CodeBlock(_) | Tag::Table(_) | Tag::HtmlBlock => {
                self.close();
                self.quotes += 1;
            }
            Tag::FootnoteDefinition(label) => {
                self.close();
                self.notes.push((note(&label), range));
                self.quotes += 1;
            }
            Tag::Strikethrough => {
                self.push(Span::Other);
                self.quotes += 1;
            }
            Tag::Image { link_type, id, .. } => {
                self.refers(link_type, &id);
                self.push(Span::Other);
                self.quotes += 1;
            }
            Tag::Link {
                link_type,
                dest_url,
                id,
                ..
            } => {
                self.refers(link_type, &id);
                self.link = Some((String::new(), dest_url.into_string()));
            }
            Tag::Item => {
                self.close();
                self.items += 1;
            }
            Tag::Heading { .. } => self.open(PassageKind::Heading),
            Tag::Paragraph | Tag::List(_) => self.close(),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::BlockQuote(_)
            | TagEnd::CodeBlock
            | TagEnd::Table
            | TagEnd::HtmlBlock
            | TagEnd::FootnoteDefinition
            | TagEnd::Strikethrough
            | TagEnd::Image => self.quotes = self.quotes.saturating_sub(1),
            TagEnd::Link => {
                if let Some((text, target)) = self.link.take() {
                    self.push(Span::Link { text, target });
                }
            }
            TagEnd::Item => {
                self.close();
                self.items = self.items.saturating_sub(1);
            }
            TagEnd::Paragraph | TagEnd::Heading(_) | TagEnd::List(_) => self.close(),
            _ => {}
        }
    }

    /// Words count where they stand; written by escapes they are shown and not said.
    fn words(&mut self, words: &CowStr<'_>, range: &Range<usize>) {
        let before = self.text[..range.start].bytes().next_back();
        let is_escaped =
            before == Some(b'\\') && words.starts_with(|c: char| c.is_ascii_punctuation());
        if is_escaped || self.text.get(range.clone()) != Some(&**words) {
            return self.push(Span::Other);
        }
        let (words, _) = strip_invisible(words);
        match &mut self.link {
            Some((text, _)) => text.push_str(&words),
            None => self.push(Span::Text(words)),
        }
    }

    fn push(&mut self, span: Span) {
        if !self.is_own() || self.link.is_some() {
            return;
        }
        if self.passage.is_none() {
            let in_list = self.items > 0;
            self.open(if in_list {
                PassageKind::Item
            } else {
                PassageKind::Paragraph
            });
        }
        let spans = self.passage.as_mut().map(|passage| &mut passage.spans);
        match (spans, span) {
            (Some(spans), Span::Text(more)) => match spans.last_mut() {
                Some(Span::Text(words)) => words.push_str(&more),
                _ => spans.push(Span::Text(more)),
            },
            (Some(spans), span) => spans.push(span),
            (None, _) => {}
        }
    }

    /// True where words are shown, and are the author's own.
    fn is_own(&self) -> bool {
        self.quotes == 0 && !self.html.hides() && !self.html.quotes()
    }

    fn refers(&mut self, kind: LinkType, label: &str) {
        if !matches!(
            kind,
            LinkType::Inline | LinkType::Autolink | LinkType::Email
        ) {
            self.used.insert(normal(label));
        }
    }

    fn open(&mut self, kind: PassageKind) {
        self.close();
        let spans = Vec::new();
        self.passage = Some(Passage { kind, spans });
    }

    fn close(&mut self) {
        let passage = self.passage.take();
        self.passages
            .extend(passage.filter(|it| !it.spans.is_empty()));
    }

    fn finish(mut self) -> Reading {
        self.close();
        self.html.finish(self.text.len());
        let definitions = self.definitions.into_iter().chain(self.notes);
        let unused = definitions.filter(|(label, _)| !self.used.contains(label));
        let mut hidden = self.html.comments;
        hidden.extend(unused.map(|(_, range)| range));
        Reading {
            passages: self.passages,
            hidden,
        }
    }
}

/// Labels are compared without case, and each blank as one.
fn normal(label: &str) -> String {
    let words: Vec<_> = label.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

/// The label of a note, which is none of a link.
fn note(label: &str) -> String {
    format!("^{}", normal(label))
}

#[cfg(test)]
mod tests;
