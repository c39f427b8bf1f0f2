//! Comment commands: `/patchfleet …` at the start of a line of a paragraph, as GitHub shows it: outside
//! code, quotes, comments and the mail that a comment answers.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use patchfleet_domain::{AgentType, Limit, Money, Priority};
use patchfleet_guard::{Passage, PassageKind, Span, passages};
use regex::Regex;

/// How a command begins.
const NAME: &str = "/patchfleet";

/// The most that one comment allows: more is a slip.
const MOST_APPROVED: Money = Money(1_000_000_000);
/// The same in tokens.
const MOST_TOKENS: u64 = 1_000_000_000;

/// The commands, for those who asked for another.
const HELP: &str = "The commands are:\n\
    - `/patchfleet run [--agent TYPE] [--priority P]`: work on this issue (`P` is 1 to 10, or low, normal, high, critical)\n\
    - `/patchfleet cancel`: call the task off\n\
    - `/patchfleet retry`: try a task again that failed, or that no agent takes\n\
    - `/patchfleet approve --budget DOLLARS` (or `--tokens N`): let the task spend that much more on models\n\
    - `/patchfleet status`: say where the task stands";

/// What a person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Run {
        agent: Option<AgentType>,
        priority: Option<Priority>,
    },
    Cancel,
    Retry,
    /// Lets the task spend more on models.
    Approve {
        more: Limit,
    },
    Status,
}

/// What a comment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Nothing to Patchfleet.
    Nothing,
    /// A command.
    Command(Command),
    /// Something to Patchfleet that is no command; why, Markdown.
    Problem(String),
}

/// Reads a comment. `agents` are the types that may be named; any when empty.
pub(super) fn parse(comment: &str, agents: &BTreeSet<AgentType>) -> Parsed {
    let passages = passages(comment);
    let mut orders = own_lines(&passages).into_iter().filter_map(order);
    let Some(order) = orders.next() else {
        return Parsed::Nothing;
    };
    if orders.next().is_some() {
        return Parsed::Problem(
            "One command a comment, please; none of these was done.".to_owned(),
        );
    }
    match command(&order, agents) {
        Ok(command) => Parsed::Command(command),
        Err(what) => Parsed::Problem(format!("{what}\n\n{HELP}")),
    }
}

fn lines(passage: &Passage) -> impl Iterator<Item = &[Span]> {
    passage.spans.split(|span| *span == Span::LineEnd)
}

/// What a line says; what is no text in it has its place.
fn said(line: &[Span]) -> String {
    let mut text = String::new();
    for span in line {
        match span {
            Span::Text(words) | Span::Link { text: words, .. } => text.push_str(words),
            Span::Code(code) => text.extend(["`", code, "`"]),
            Span::Other | Span::LineEnd => text.push('\u{FFFC}'),
        }
    }
    text
}

fn order(line: &[Span]) -> Option<String> {
    let Some(Span::Text(_)) = line.first() else {
        return None;
    };
    let line = said(line);
    let (name, rest) = line.trim_start().split_at_checked(NAME.len())?;
    let whole = rest.is_empty() || rest.starts_with(char::is_whitespace);
    (whole && name.eq_ignore_ascii_case(NAME)).then(|| rest.trim().to_owned())
}

/// The lines of paragraphs up to the message that a mail answers: mail programs put it below, often
/// unquoted, and its commands were given before.
fn own_lines(passages: &[Passage]) -> Vec<&[Span]> {
    let mut own = Vec::new();
    for passage in passages {
        let lines: Vec<_> = lines(passage).collect();
        let old = old_message(&lines);
        if passage.kind == PassageKind::Paragraph {
            own.extend(&lines[..old.unwrap_or(lines.len())]);
        }
        if old.is_some() {
            break;
        }
    }
    own
}

/// The line with which an old message begins.
fn old_message(lines: &[&[Span]]) -> Option<usize> {
    let said: Vec<_> = lines.iter().map(|line| said(line)).collect();
    let is_header = |at: &usize| HEADER.is_match(&said[*at]);
    let mut headers = (0..said.len()).filter(is_header);
    let head = headers.next().filter(|_| headers.count() >= 2);
    // Long names and addresses push its end into the next line.
    let begins = |at: &usize| {
        let next = said.get(at + 1).map_or("", String::as_str);
        SAID.is_match(&said[*at]) || SAID.is_match(&format!("{} {next}", said[*at]))
    };
    (0..said.len()).find(begins).into_iter().chain(head).min()
}

/// `From: …`, in any language; three of them in one paragraph are the head of a mail.
static HEADER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\*{0,2}\p{L}[\p{L}\- ]{0,20}\s?(?::\*{0,2}\s|\x{FF1A}\*{0,2}\s?)\S")
        .expect("a constant pattern")
});

/// `On Tuesday, somebody wrote:` and `-----Original Message-----`, in the languages of mail programs.
static SAID: LazyLock<Regex> = LazyLock::new(|| {
    let ways = [
        r"^On\b.*\bwrote:$",
        r"^Am\b.*\bschrieb\b.*:$",
        r"^Le\b.*\ba écrit\s?:$",
        r"^El\b.*\bescribió:$",
        r"^Em\b.*\bescreveu:$",
        r"^Il\b.*\bha scritto:$",
        r"^Op\b.*\bschreef\b.*:$",
        r"^(?:Den|På)\b.*\bskrev\b.*:$",
        r"^(?:W dniu\b|Dnia\b|.*\d{4}).*\bnapisał(?:\(a\)|a)?:$",
        r"^.*\d{4}.*\b(?:napsal(?:\(a\)|a)?|написал(?:\(а\)|а)?|kirjoitti|yazdı):$",
        r"^.*\d{4}.*(?:写道|寫道|のメール|님이 작성)\s?[:\x{FF1A}]$",
        r"^-{2,}\s*\p{L}[\p{L} ]+\s*-{2,}$",
    ];
    Regex::new(&ways.join("|")).expect("a constant pattern")
});

fn command(order: &str, agents: &BTreeSet<AgentType>) -> Result<Command, String> {
    let mut words = order.split_whitespace();
    let name = words.next().unwrap_or_default().to_lowercase();
    let plain = match name.as_str() {
        "run" => return run(words, agents),
        "approve" => return approve(words),
        "cancel" => Command::Cancel,
        "retry" => Command::Retry,
        "status" => Command::Status,
        "" => return Err("That is no command yet.".to_owned()),
        other => return Err(format!("There is no command {}.", quoted(other))),
    };
    words.next().map_or(Ok(plain), |word| {
        Err(format!(
            "`{name}` takes nothing more, but {} follows.",
            quoted(word)
        ))
    })
}

fn run<'a>(
    mut words: impl Iterator<Item = &'a str>,
    agents: &BTreeSet<AgentType>,
) -> Result<Command, String> {
    let (mut agent, mut priority) = (None, None);
    while let Some(word) = words.next() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (word, None),
        };
        if !matches!(flag, "--agent" | "--priority") {
            return Err(format!("`run` does not know {}.", quoted(word)));
        }
        let value = value.or_else(|| words.next());
        let value = value.ok_or_else(|| format!("`{flag}` needs a value."))?;
        if flag == "--agent" {
            agent = Some(agent_type(value, agents)?);
        } else {
            let parsed = value.to_lowercase().parse::<Priority>();
            priority = Some(parsed.map_err(|_| {
                format!(
                    "{} is no priority: 1 to 10, or low, normal, high, critical.",
                    quoted(value)
                )
            })?);
        }
    }
    Ok(Command::Run { agent, priority })
}

fn approve<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Command, String> {
    let mut more = Limit::default();
    while let Some(word) = words.next() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (word, None),
        };
        if !matches!(flag, "--budget" | "--tokens") {
            return Err(format!("`approve` does not know {}.", quoted(word)));
        }
        let value = value.or_else(|| words.next());
        let value = value.ok_or_else(|| format!("`{flag}` needs a value."))?;
        if flag == "--budget" {
            let dollars = value.parse::<Money>().ok();
            let dollars = dollars.filter(|it| (Money(1)..=MOST_APPROVED).contains(it));
            more.usd = Some(dollars.ok_or_else(|| {
                format!(
                    "{} is no amount of dollars up to {MOST_APPROVED}, such as 5 or 2.50.",
                    quoted(value)
                )
            })?);
        } else {
            let tokens = value.replace('_', "").parse::<u64>().ok();
            let tokens = tokens.filter(|it| (1..=MOST_TOKENS).contains(it));
            more.tokens = Some(tokens.ok_or_else(|| {
                format!(
                    "{} is no number of tokens up to {MOST_TOKENS}.",
                    quoted(value)
                )
            })?);
        }
    }
    if more == Limit::default() {
        return Err("`approve` needs `--budget DOLLARS` or `--tokens N`.".to_owned());
    }
    Ok(Command::Approve { more })
}

fn agent_type(value: &str, agents: &BTreeSet<AgentType>) -> Result<AgentType, String> {
    let known = |one: &AgentType| agents.is_empty() || agents.contains(one);
    let parsed = value.to_lowercase().parse::<AgentType>().ok();
    parsed.filter(known).ok_or_else(|| {
        let names: Vec<_> = agents.iter().map(AgentType::as_str).collect();
        let hint = if names.is_empty() {
            String::new()
        } else {
            format!(" The types are: {}.", names.join(", "))
        };
        format!("{} is no agent type.{hint}", quoted(value))
    })
}

/// Somebody's word, shown back so that it can do no harm.
fn quoted(word: &str) -> String {
    let plain: String = word.chars().filter(|c| *c != '`').take(60).collect();
    format!("`{}`", patchfleet_guard::visible_line(&plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Parsed {
        let agents = ["backend", "general"].map(|name| name.parse().unwrap());
        parse(text, &agents.into())
    }

    fn problem(text: &str) -> String {
        match parsed(text) {
            Parsed::Problem(message) => message.lines().next().unwrap_or_default().to_owned(),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    const RUN: Command = Command::Run {
        agent: None,
        priority: None,
    };

    #[test]
    fn commands_are_read() {
        let with = |agent: &str, priority| {
            Parsed::Command(Command::Run {
                agent: Some(agent.parse().unwrap()),
                priority: Some(priority),
            })
        };
        assert_eq!(parsed("/patchfleet run"), Parsed::Command(RUN));
        assert_eq!(
            parsed("Please!\n\n/Patchfleet Run \r\nThanks"),
            Parsed::Command(RUN)
        );
        let both = "/patchfleet run --agent backend --priority=High";
        assert_eq!(parsed(both), with("backend", Priority::HIGH));
        assert_eq!(
            parsed("/patchfleet cancel"),
            Parsed::Command(Command::Cancel)
        );
        assert_eq!(parsed("/patchfleet retry"), Parsed::Command(Command::Retry));
        let more = |usd, tokens| {
            Parsed::Command(Command::Approve {
                more: Limit { usd, tokens },
            })
        };
        assert_eq!(
            parsed("/patchfleet approve --budget $2.50"),
            more(Some(Money(2_500_000)), None)
        );
        assert_eq!(
            parsed("/patchfleet approve --tokens=1_000_000 --budget 5"),
            more(Some(Money(5_000_000)), Some(1_000_000))
        );
        assert_eq!(
            parsed("/patchfleet status"),
            Parsed::Command(Command::Status)
        );
    }

    #[test]
    fn only_lines_that_a_person_sees_as_their_own_count() {
        let quiet = [
            "",
            "please run /patchfleet run",
            "> /patchfleet run",
            "    /patchfleet run",
            "`/patchfleet run`",
            "```\n/patchfleet run\n```",
            "~~~~ sh\n/patchfleet run\n~~~\n/patchfleet run\n~~~~",
            "```\n/patchfleet run",
            "<!--\n/patchfleet run\n-->",
            "/patchfleeting run",
            "/patchfleet-run",
            "Usage:\n<pre>\n/patchfleet run\n</pre>",
            "<code>\n\n/patchfleet run\n\n</code>",
            "``\n/patchfleet run\n``",
            "$$\n/patchfleet run\n$$",
            "\\/patchfleet run",
            "~~/patchfleet run~~",
            "# /patchfleet run",
            "- /patchfleet run",
            "| a |\n|---|\n| /patchfleet run |",
            "[^1]\n\n[^1]: /patchfleet run",
            "[/patchfleet run](https://example.com)",
            "On Tue, Jan 6, 2026, Mona wrote:\n\n/patchfleet run",
            "\t/patchfleet run",
            "/patchfleet run\n===",
            "> [!NOTE]\n> /patchfleet run",
            "- [ ] /patchfleet run",
            "<p>\n/patchfleet run\n</p>",
            "![/patchfleet run](https://example.com/a.png)",
            "```mermaid\n/patchfleet run\n```",
            "1. Say\n   /patchfleet run",
        ];
        for text in quiet {
            assert_eq!(parsed(text), Parsed::Nothing, "{text:?}");
        }
        assert_eq!(
            parsed("```\ncode\n```\n/patchfleet run"),
            Parsed::Command(RUN)
        );
        let counts = [
            "```make``` fails.\n/patchfleet run",
            " /patchfleet run",
            "   /patchfleet run",
            "It breaks on `<!--` here.\n\n/patchfleet run",
            "```html\n<!-- open\n```\n\n/patchfleet run",
            "<details>\n\n/patchfleet run\n\n</details>",
            "- a list\n\n/patchfleet run",
            "/patch\u{200B}fleet run",
            "Note: this\nTwo: lines\n\n/patchfleet run",
            "/patchfleet run\n\n________________________________\nFrom: Mona\nSent: Tuesday\n\
             Subject: Re: Totals\n\n/patchfleet cancel\n",
            "/patchfleet run\n\n-----Original Message-----\n\n/patchfleet cancel\n",
            "/patchfleet run\n\nAm Di. um 10:00 schrieb Mona <m@example.com>:\n/patchfleet cancel",
            "/patchfleet run\nOn Tue, Jan 6, 2026, Mona wrote:\n> text\n\n/patchfleet cancel",
            "/patchfleet run\n\nOn Tue, Jan 6, 2026 at 10:00 AM Mona Lisa Octocat <mona.lisa@example.com>\n\
             wrote:\n\n/patchfleet cancel",
            "/patchfleet run\n\nEm ter., 6 de jan. de 2026, Mona <m@example.com> escreveu:\n/patchfleet cancel",
            "/patchfleet run\n\nDen tis 6 jan. 2026 kl 10:00 skrev Mona <m@example.com>:\n/patchfleet cancel",
            "/patchfleet run\n\nwt., 6 sty 2026 o 10:00 Mona <m@example.com> napisał(a):\n\n/patchfleet cancel",
            "/patchfleet run\n\n2026年1月6日(火) 10:00 Mona <m@example.com> 写道:\n\n/patchfleet cancel",
            "/patchfleet run\n\n发件人\u{FF1A}Mona\n发送时间\u{FF1A}2026年\n主题\u{FF1A}x\n\n/patchfleet cancel",
            "\u{FEFF}/patchfleet run",
            "/patchfleet\u{A0}run",
            "/PATCHFLEET RUN",
            "On the server it works:\n/patchfleet run",
            "/patchfleet run\n\n**Von:** Mona\n**Gesendet:** Dienstag\n**Betreff:** Re: x\n\n/patchfleet cancel",
        ];
        for text in counts {
            assert_eq!(parsed(text), Parsed::Command(RUN), "{text:?}");
        }
    }

    #[test]
    fn what_was_wrong_is_named() {
        assert_eq!(problem("/patchfleet"), "That is no command yet.");
        assert_eq!(problem("/patchfleet fly"), "There is no command `fly`.");
        assert_eq!(
            problem("/patchfleet run --fast"),
            "`run` does not know `--fast`."
        );
        assert_eq!(
            problem("/patchfleet run --agent"),
            "`--agent` needs a value."
        );
        let types = "`bäcker` is no agent type. The types are: backend, general.";
        assert_eq!(problem("/patchfleet run --agent bäcker"), types);
        let range = "`11` is no priority: 1 to 10, or low, normal, high, critical.";
        assert_eq!(problem("/patchfleet run --priority 11"), range);
        let more = "`cancel` takes nothing more, but `now` follows.";
        assert_eq!(problem("/patchfleet cancel now"), more);
        assert!(problem("/patchfleet run\n/patchfleet cancel").starts_with("One command"));
        assert_eq!(
            problem("/patchfleet `x`@all"),
            "There is no command `x@all`."
        );
        let Parsed::Problem(help) = parsed("/patchfleet fly") else {
            panic!("it flies");
        };
        assert!(help.contains("`/patchfleet status`"), "{help}");
    }
}
