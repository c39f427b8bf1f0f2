//! Comment commands: `/patchfleet …` at the start of a line, outside code, quotes and comments.

use std::collections::BTreeSet;

use patchfleet_domain::{AgentType, Priority};
use patchfleet_guard::strip_hidden;

/// How a command begins.
const NAME: &str = "/patchfleet";

/// The commands, for those who asked for another.
const HELP: &str = "The commands are:\n\
    - `/patchfleet run [--agent TYPE] [--priority P]`: work on this issue (`P` is 1 to 10, or low, normal, high, critical)\n\
    - `/patchfleet cancel`: call the task off\n\
    - `/patchfleet retry`: try a task again that failed, or that no agent takes\n\
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
    let visible = strip_hidden(comment).text;
    let mut orders = orders(&visible).into_iter();
    let Some(order) = orders.next() else {
        return Parsed::Nothing;
    };
    if orders.next().is_some() {
        return Parsed::Problem(
            "One command a comment, please; none of these was done.".to_owned(),
        );
    }
    match command(order, agents) {
        Ok(command) => Parsed::Command(command),
        Err(what) => Parsed::Problem(format!("{what}\n\n{HELP}")),
    }
}

/// What follows the name, for each line that is a command.
fn orders(text: &str) -> Vec<&str> {
    let mut fence: Option<&str> = None;
    let mut orders = Vec::new();
    for line in text.lines() {
        let mark = fence_mark(line);
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if closes(open, mark, line) => fence = None,
            (None, None) => orders.extend(order(line)),
            (Some(_), _) => {}
        }
    }
    orders
}

/// The run of backticks or tildes that a line of a code block's edge begins with.
fn fence_mark(line: &str) -> Option<&str> {
    let text = line.trim_start_matches(' ');
    let first = text.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = text.chars().take_while(|c| *c == first).count();
    (line.len() - text.len() < 4 && length >= 3).then(|| &text[..length])
}

fn closes(open: &str, mark: &str, line: &str) -> bool {
    mark.starts_with(open) && line.trim() == mark
}

fn order(line: &str) -> Option<&str> {
    let (name, rest) = line.split_at_checked(NAME.len())?;
    let whole = rest.is_empty() || rest.starts_with(char::is_whitespace);
    (whole && name.eq_ignore_ascii_case(NAME)).then(|| rest.trim())
}

fn command(order: &str, agents: &BTreeSet<AgentType>) -> Result<Command, String> {
    let mut words = order.split_whitespace();
    let name = words.next().unwrap_or_default().to_lowercase();
    let plain = match name.as_str() {
        "run" => return run(words, agents),
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
        ];
        for text in quiet {
            assert_eq!(parsed(text), Parsed::Nothing, "{text:?}");
        }
        assert_eq!(
            parsed("```\ncode\n```\n/patchfleet run"),
            Parsed::Command(RUN)
        );
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
