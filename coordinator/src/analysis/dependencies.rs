//! The issues that a request waits for, in the ways that people write it: `depends on #12`, with an
//! address, a list, a heading; not in code, quotations and negations, and not of another issue.

use patchfleet_domain::{RepositoryName, TaskRequest};
use patchfleet_guard::{Passage, PassageKind, Span, passages};
use url::Url;

/// Most issues that are kept.
const MAX: usize = 20;
/// How many words before the phrase can take it back.
const REACH: usize = 4;
/// Words that say that it is not so, no more, or not known.
const NEGATIONS: &[&str] = &[
    "cannot",
    "formerly",
    "if",
    "longer",
    "neither",
    "never",
    "nor",
    "not",
    "nothing",
    "previously",
    "unless",
    "was",
    "were",
    "whether",
    "without",
];
/// Words that may stand between a phrase and the issues that it names, and between those.
const JOINING: &[&str] = &[
    "", "&", "and", "both", "issue", "issues", "pr", "prs", "pull", "request", "requests", "the",
    "ticket", "tickets",
];

/// What a request says of issues that have to be done first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dependencies {
    /// In the request's own repository, each once.
    pub(super) issues: Vec<u64>,
    /// Elsewhere, as `owner/name#12`: nobody here knows when those are done.
    pub(super) elsewhere: Vec<String>,
}

/// An issue that a text refers to; in the text's own repository when none is named.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reference {
    repository: Option<String>,
    number: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// In lower case, without what stands around it.
    Word(String),
    Reference(Reference),
    /// Something that is no word.
    Other,
    /// A part of a sentence is over.
    Pause,
    /// A sentence is over; true when it was a question.
    End(bool),
}

impl Dependencies {
    /// Reads title and text of a request.
    pub(super) fn of(request: &TaskRequest, own: &RepositoryName) -> Self {
        let host = Url::parse(&request.clone_url).ok();
        let reader = Reader {
            own,
            host: host.as_ref().and_then(Url::host_str),
        };
        let mut found = Self::default();
        let title = Passage {
            kind: PassageKind::Paragraph,
            spans: vec![Span::Text(request.title.clone())],
        };
        let said = std::iter::once(title).chain(passages(&request.body));
        let mut is_list_due = false;
        for passage in said {
            let tokens = reader.tokens(&passage);
            let listed = leading(&tokens);
            if is_list_due && !listed.is_empty() {
                found.add(listed, own);
                // A list has more items; a paragraph is all there is.
                is_list_due = passage.kind == PassageKind::Item;
                continue;
            }
            is_list_due = found.read(&tokens, own);
        }
        found
    }

    /// Reads what a passage declares; true when it ends where a list has to follow.
    fn read(&mut self, tokens: &[Token], own: &RepositoryName) -> bool {
        let mut is_list_due = false;
        for (at, pair) in tokens.windows(2).enumerate() {
            let [Token::Word(first), Token::Word(second)] = pair else {
                continue;
            };
            if !is_phrase(first, second) || is_taken_back(&tokens[..at]) {
                continue;
            }
            let rest = &tokens[at + 2..];
            let named = leading(rest);
            let after = rest.iter().find(|token| matches!(token, Token::End(_)));
            if after == Some(&Token::End(true)) {
                continue;
            }
            is_list_due = rest
                .iter()
                .all(|token| matches!(token, Token::End(false) | Token::Pause));
            self.add(named, own);
        }
        is_list_due
    }

    fn add(&mut self, named: Vec<Reference>, own: &RepositoryName) {
        for reference in named {
            let number = reference.number;
            let elsewhere = reference
                .repository
                .filter(|name| !name.eq_ignore_ascii_case(own.as_str()));
            match elsewhere {
                None if !self.issues.contains(&number) && self.issues.len() < MAX => {
                    self.issues.push(number);
                }
                Some(name) if self.elsewhere.len() < MAX => {
                    let name = format!("{name}#{number}");
                    if !self.elsewhere.contains(&name) {
                        self.elsewhere.push(name);
                    }
                }
                _ => {}
            }
        }
    }
}

fn is_phrase(first: &str, second: &str) -> bool {
    matches!(
        (first, second),
        ("depends" | "dependent", "on" | "upon") | ("blocked", "by" | "on")
    )
}

/// True of a line that names an issue after the phrase, and ends with one.
fn declares(line: &[Token]) -> bool {
    let has_phrase = line.windows(2).any(|pair| match pair {
        [Token::Word(first), Token::Word(second)] => is_phrase(first, second),
        _ => false,
    });
    has_phrase && matches!(line.last(), Some(Token::Reference(_)))
}

/// The phrase as the name of a trailer, such as `Depends-On`, in lower case.
fn trailer(word: &str) -> Option<(String, String)> {
    let (first, second) = word.split_once(['-', '_'])?;
    let (first, second) = (first.to_lowercase(), second.to_lowercase());
    is_phrase(&first, &second).then_some((first, second))
}

/// The references that tokens begin with, with nothing but `and` between.
fn leading(tokens: &[Token]) -> Vec<Reference> {
    let joins = |token: &&Token| match token {
        Token::Reference(_) | Token::Pause => true,
        Token::Word(word) => JOINING.contains(&word.as_str()),
        Token::Other | Token::End(_) => false,
    };
    let checkbox = usize::from(tokens.first() == Some(&Token::Other));
    let references = tokens[checkbox..].iter().take_while(joins);
    references
        .filter_map(|token| match token {
            Token::Reference(reference) => Some(reference.clone()),
            _ => None,
        })
        .collect()
}

/// True when what stands before the phrase in its sentence denies it, or says it of another issue.
fn is_taken_back(before: &[Token]) -> bool {
    let sentence = before
        .iter()
        .rev()
        .take_while(|it| !matches!(it, Token::End(_)));
    let mut part = sentence.take_while(|it| **it != Token::Pause).enumerate();
    part.any(|(distance, token)| match token {
        Token::Word(word) => {
            let denies = NEGATIONS.contains(&word.as_str());
            distance < REACH && (denies || word.ends_with("n't") || word.ends_with("n’t"))
        }
        Token::Reference(_) => true,
        Token::Other | Token::Pause | Token::End(_) => false,
    })
}

struct Reader<'a> {
    own: &'a RepositoryName,
    /// The host that the repository is on.
    host: Option<&'a str>,
}

impl Reader<'_> {
    fn tokens(&self, passage: &Passage) -> Vec<Token> {
        let (mut tokens, mut line) = (Vec::new(), 0);
        for span in &passage.spans {
            match span {
                Span::Text(text) => {
                    for word in text.split_whitespace() {
                        self.word(word, &mut tokens);
                    }
                }
                Span::Link { text, target } => {
                    match self.link(target).or_else(|| self.reference(text)) {
                        Some(reference) => tokens.push(Token::Reference(reference)),
                        None => text
                            .split_whitespace()
                            .for_each(|word| self.word(word, &mut tokens)),
                    }
                }
                Span::Code(_) | Span::Other => tokens.push(Token::Other),
                Span::LineEnd => {
                    // The next line may declare more.
                    if declares(&tokens[line..]) {
                        tokens.push(Token::Pause);
                    }
                    line = tokens.len();
                }
            }
        }
        tokens
    }

    fn word(&self, word: &str, tokens: &mut Vec<Token>) {
        if word.starts_with('(') {
            tokens.push(Token::Pause);
        }
        let bare = word.trim_matches(|c: char| "()[]{},;:.!?\"'*_–—-".contains(c));
        // `#1,#2` is two.
        let parts: Vec<_> = bare
            .split([',', ';', '/'])
            .map(|part| self.reference(part))
            .collect();
        if let Some(reference) = self.reference(bare) {
            tokens.push(Token::Reference(reference));
        } else if parts.len() > 1 && parts.iter().all(Option::is_some) {
            tokens.extend(parts.into_iter().flatten().map(Token::Reference));
        } else if let Some((first, second)) = trailer(bare) {
            tokens.extend([first, second].map(Token::Word));
        } else {
            tokens.push(Token::Word(bare.to_lowercase()));
        }
        let ends = word.trim_end_matches(|c: char| ")]\"'*_".contains(c));
        if ends.ends_with(['.', '!', '?']) {
            tokens.push(Token::End(ends.ends_with('?')));
        } else if ends.ends_with([',', ';', ':', '–', '—']) {
            tokens.push(Token::Pause);
        }
    }

    /// `#12`, `GH-12`, `owner/name#12` or an address.
    fn reference(&self, word: &str) -> Option<Reference> {
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            plain
                .then(|| text.parse().ok())
                .flatten()
                .filter(|it| *it > 0)
        };
        if word.contains("://") {
            return self.link(word);
        }
        let (name, rest) = word.split_once('#').or_else(|| {
            let (name, rest) = word.split_once('-')?;
            name.eq_ignore_ascii_case("gh").then_some(("", rest))
        })?;
        let repository = match name {
            "" => None,
            name if name.contains('/') => Some(name.parse::<RepositoryName>().ok()?.to_string()),
            // `name#12` is one of the same owner, when it is one at all.
            _ => return None,
        };
        let number = number(rest)?;
        Some(Reference { repository, number })
    }

    /// `https://host/owner/name/issues/12`, with or without a host.
    fn link(&self, target: &str) -> Option<Reference> {
        let base = Url::parse("https://relative.invalid").ok()?;
        let url = Url::options().base_url(Some(&base)).parse(target).ok()?;
        let host = url.host_str()?;
        let is_here =
            [Some("relative.invalid"), Some("github.com"), self.host].contains(&Some(host));
        let parts: Vec<_> = url
            .path_segments()?
            .filter(|part| !part.is_empty())
            .collect();
        let [owner, name, "issues" | "pull", number] = parts[..] else {
            return None;
        };
        let repository = format!("{owner}/{name}");
        let repository = repository.parse::<RepositoryName>().ok()?.to_string();
        let number = number.parse().ok().filter(|number| *number > 0)?;
        // What another server calls so is another repository.
        let repository = if is_here {
            repository
        } else {
            format!("{host}/{repository}")
        };
        let is_own = repository.eq_ignore_ascii_case(self.own.as_str());
        Some(Reference {
            repository: (!is_own).then_some(repository),
            number,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Dependencies {
        let request = TaskRequest {
            title: "Totals".to_owned(),
            body: body.to_owned(),
            labels: Vec::new(),
            author: String::new(),
            triggered_by: String::new(),
            clone_url: "https://git.example.com/acme/orders.git".to_owned(),
            default_branch: String::new(),
            agent_type: None,
        };
        Dependencies::of(&request, &"acme/orders".parse().unwrap())
    }

    #[test]
    fn every_usual_way_to_name_an_issue_counts() {
        for (body, issues) in [
            (
                "Depends on #12, #13 and #12.\nBlocked by: #7",
                vec![12, 13, 7],
            ),
            ("**Depends on** #1", vec![1]),
            ("**Depends on:** #1", vec![1]),
            (
                "Depends on:\n\n- #1\n- #2: the parser\n- [ ] #3\n\nSee #4.",
                vec![1, 2, 3],
            ),
            (
                "Depends on:\n- https://github.com/acme/orders/issues/5",
                vec![5],
            ),
            ("## Blocked by\n\n#1, #2\n\n#3 is nice", vec![1, 2]),
            ("depends on acme/orders#1", vec![1]),
            ("depends on Acme/Orders#1", vec![1]),
            (
                "depends on https://git.example.com/acme/orders/issues/1#issuecomment-2",
                vec![1],
            ),
            (
                "depends on <https://github.com/acme/orders/pull/3>",
                vec![3],
            ),
            ("Depends on [#1](/acme/orders/issues/1)", vec![1]),
            (
                "Depends on [the parser](https://github.com/acme/orders/issues/9)",
                vec![9],
            ),
            ("Depends on GH-1 & gh-2", vec![1, 2]),
            (
                "It is dependent upon issue #4 (blocked on #5,#6)",
                vec![4, 5, 6],
            ),
            ("- depends on #1\n- blocked by #2", vec![1, 2]),
            ("It\ndepends\non #8", vec![8]),
            ("Depends-On: #1\nDepends-On: #2", vec![1, 2]),
            ("Depends on #1\nBlocked by #2\nand #3", vec![1, 2, 3]),
            ("blocked_by: #3", vec![3]),
            ("DEPENDS ON #4", vec![4]),
            ("Depends on PR #5 and the issue #6", vec![5, 6]),
            ("Depends on pull request #7 (the parser)", vec![7]),
            (
                "__Depends on__: [acme/orders#8](https://github.com/acme/orders/issues/8)",
                vec![8],
            ),
            (
                "1. Blocked by #9\n2. depends on both #10 and #11",
                vec![9, 10, 11],
            ),
        ] {
            assert_eq!(read(body).issues, issues, "{body:?}");
        }
    }

    #[test]
    fn what_is_shown_denied_or_said_of_others_does_not() {
        for body in [
            "It depends on luck. See #5; #6",
            "```\nnpm WARN this depends on #1\n```",
            "`depends on #1`",
            "> depends on #1\n\nNo longer true.",
            "~~depends on #1~~",
            "<!-- depends on #1 -->",
            "This is not blocked by #1.",
            "This isn't blocked by #1, and doesn’t depend on it.",
            "It no longer depends on #1",
            "It was blocked by #1",
            "Note that #2 depends on #1.",
            "Note that #2\ndepends on #1.",
            "Is this blocked by #1?",
            "depends on #0, #x and #",
            "depends on \\#1",
            "Depends on:\n\nnothing, see\n\n- #1",
            "Please check whether this depends on #1",
            "Say so if it depends on #1",
            "It can be done without being blocked by #1",
            "It cannot be blocked by #1",
            "It was unblocked by #1",
            "> Depends-On: #1",
            "| depends on | #1 |\n|---|---|\n| a | b |",
            "<!--\nDepends-On: #1\n-->",
            "The setting `depends_on: #1` is read",
        ] {
            assert_eq!(read(body), Dependencies::default(), "{body:?}");
        }
        for both in [
            "Not blocked by #1. It depends on #2.",
            "It is not slow, but depends on #2",
            "After #1: depends on #2",
        ] {
            assert_eq!(read(both).issues, [2], "{both:?}");
        }
    }

    #[test]
    fn issues_elsewhere_are_named_and_not_waited_for() {
        let found =
            read("Depends on acme/tools#4, https://other.example.com/acme/orders/issues/1 and #2");
        assert_eq!(found.issues, [2]);
        assert_eq!(
            found.elsewhere,
            ["acme/tools#4", "other.example.com/acme/orders#1"]
        );
    }

    #[test]
    fn a_list_without_end_is_cut() {
        let many: Vec<_> = (1..100).map(|number| format!("#{number}")).collect();
        let many = many.join(" ");
        assert_eq!(read(&format!("depends on {many}")).issues.len(), MAX);
    }
}
