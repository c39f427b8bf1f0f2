//! `ctx.setup`: what ran in the setup phase, and which hosts it was refused.

use std::collections::BTreeSet;

use patchfleet_domain::Timestamp;
use patchfleet_guard::visible_line;
use serde::{Deserialize, Serialize};

use super::commands::Command;
use crate::process::Finished;
use crate::sandbox::egress::{Refusal, Refusals};
use crate::sandbox::{Backend, Ran};

/// How much of a failed command's end is shown.
const TAIL: usize = 2000;
/// How much of a command pull requests show, in characters.
const SHOWN: usize = 100;

/// The setup phase of an attempt, as it went well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupReport {
    /// The commands, in their order.
    pub steps: Vec<StepReport>,
    /// When an earlier task installed it; absent when this one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_at: Option<Timestamp>,
}

/// One command of the setup phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The folder of the repository that it ran in; empty for its root.
    pub folder: String,
    /// How it was isolated.
    pub backend: Backend,
    /// Wall time.
    pub duration_ms: u64,
    /// The hosts that it was refused, with reason and count.
    pub refused_hosts: Vec<Refusal>,
    /// Limits that nothing on the host enforced.
    pub limits_not_enforced: Vec<String>,
    /// How it failed, when a lock file alone asked for it.
    #[serde(default)]
    pub failure: Option<String>,
    /// It met a limit and went on.
    #[serde(skip)]
    pub(super) met_limit: bool,
}

impl StepReport {
    pub(super) fn new(command: &Command, ran: &Ran, refusals: &Refusals) -> Self {
        let limits = ran.limits_not_enforced.iter();
        Self {
            command: command.words.clone(),
            folder: command.folder.clone(),
            backend: ran.backend,
            duration_ms: u64::try_from(ran.finished.duration.as_millis()).unwrap_or(u64::MAX),
            refused_hosts: refusals.list(),
            limits_not_enforced: limits.map(ToString::to_string).collect(),
            failure: None,
            met_limit: ran.exceeded.is_some(),
        }
    }

    /// True when nothing was in its way.
    const fn is_whole(&self) -> bool {
        self.failure.is_none() && self.refused_hosts.is_empty() && !self.met_limit
    }

    /// The command for people, as code.
    fn shown(&self) -> String {
        let mut line: String = self.command.join(" ");
        if let Some((end, _)) = line.char_indices().nth(SHOWN) {
            line.truncate(end);
            line.push('…');
        }
        let command = code(&line);
        if self.folder.is_empty() {
            command
        } else {
            format!("{command} in {}", code(&self.folder))
        }
    }
}

impl SetupReport {
    /// True when each of so many commands did all that it wanted to.
    pub(super) fn is_whole(&self, commands: usize) -> bool {
        self.steps.len() == commands && self.steps.iter().all(StepReport::is_whole)
    }

    /// What was installed by what, and how that was kept apart; nothing where nothing was installed.
    pub fn words(&self) -> Option<String> {
        let parts: Vec<_> = self.installed().into_iter().chain(self.missing()).collect();
        if parts.is_empty() {
            return None;
        }
        let mut text = parts.join(". ");
        let refused = self.steps.iter().flat_map(|step| &step.refused_hosts);
        let refused: BTreeSet<_> = refused.map(|it| code(&it.host)).collect();
        let limits = self.steps.iter().flat_map(|step| &step.limits_not_enforced);
        let limits: BTreeSet<_> = limits.cloned().collect();
        for (what, all) in [
            ("refused hosts: ", refused),
            ("limits that were not enforced: ", limits),
        ] {
            if !all.is_empty() {
                let all: Vec<_> = all.into_iter().collect();
                text = format!("{text}; {what}{}", all.join(", "));
            }
        }
        text.push('.');
        Some(text)
    }

    fn installed(&self) -> Option<String> {
        let steps = self.steps.iter().filter(|step| step.failure.is_none());
        let backend = steps.clone().next_back()?.backend;
        let commands: Vec<_> = steps.map(StepReport::shown).collect();
        let commands = commands.join(", ");
        let begin = match self.cached_at {
            None => "Dependencies were installed".to_owned(),
            Some(at) => {
                let at = at.format("%Y-%m-%d %H:%M UTC");
                format!("Dependencies are from the cache of {at}, installed")
            }
        };
        Some(format!(
            "{begin} by {commands} in the sandbox `{backend}`, with network to allowed hosts only"
        ))
    }

    /// What was not installed, because a command failed that a lock file alone asked for.
    pub fn missing(&self) -> Option<String> {
        let failed = self.steps.iter().filter_map(|step| {
            let how = step.failure.as_ref()?;
            Some(format!("{} {how}", step.shown()))
        });
        let failed: Vec<_> = failed.collect();
        let failed = failed.join(", ");
        (!failed.is_empty()).then(|| format!("Dependencies are missing: {failed}"))
    }
}

/// As code in Markdown, on one line, whatever a repository writes.
fn code(text: &str) -> String {
    format!("`{}`", visible_line(text).replace('`', "'"))
}

/// The end of both outputs.
pub(super) fn tail(finished: &Finished) -> String {
    let output = format!("{}{}", finished.stdout_text(), finished.stderr_text());
    let mut start = output.len().saturating_sub(TAIL);
    while !output.is_char_boundary(start) {
        start += 1;
    }
    output[start..].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::egress::{Phase, Reason};

    #[test]
    fn what_was_installed_is_one_line_whatever_a_repository_writes() {
        let step = |command: &[&str], folder: &str, refused: &[&str]| StepReport {
            command: command.iter().map(|&word| word.to_owned()).collect(),
            folder: folder.to_owned(),
            backend: Backend::Namespace,
            duration_ms: 1,
            refused_hosts: refused.iter().map(|host| refusal(host)).collect(),
            limits_not_enforced: vec!["memory".to_owned()],
            failure: None,
            met_limit: false,
        };
        let report = SetupReport {
            cached_at: None,
            steps: vec![
                step(&["npm", "ci"], "web", &["a.example.org", "b.example.org"]),
                step(&["./x", "`@everyone`\n# title"], "", &["a.example.org"]),
            ],
        };
        insta::assert_snapshot!(report.words().unwrap(), @"Dependencies were installed by `npm ci` in `web`, `./x '@everyone'\\n# title` in the sandbox `namespace`, with network to allowed hosts only; refused hosts: `a.example.org`, `b.example.org`; limits that were not enforced: memory.");
        let [first, second] = &report.steps[..] else {
            panic!("two steps")
        };
        let failed = |step: &StepReport| StepReport {
            failure: Some("failed with exit code 1".to_owned()),
            refused_hosts: Vec::new(),
            limits_not_enforced: Vec::new(),
            ..step.clone()
        };
        let cached = SetupReport {
            cached_at: Some("2026-11-26T01:30:28Z".parse().unwrap()),
            steps: vec![step(&["npm", "ci"], "", &[])],
        };
        insta::assert_snapshot!(cached.words().unwrap(), @"Dependencies are from the cache of 2026-11-26 01:30 UTC, installed by `npm ci` in the sandbox `namespace`, with network to allowed hosts only; limits that were not enforced: memory.");
        let half = SetupReport {
            cached_at: None,
            steps: vec![failed(first), second.clone()],
        };
        insta::assert_snapshot!(half.words().unwrap(), @"Dependencies were installed by `./x '@everyone'\\n# title` in the sandbox `namespace`, with network to allowed hosts only. Dependencies are missing: `npm ci` in `web` failed with exit code 1; refused hosts: `a.example.org`; limits that were not enforced: memory.");
        let none = SetupReport {
            cached_at: None,
            steps: vec![failed(first)],
        };
        let words = "Dependencies are missing: `npm ci` in `web` failed with exit code 1.";
        assert_eq!(none.words().unwrap(), words);
        assert_eq!(SetupReport::default().words(), None);
    }

    #[test]
    fn only_a_setup_in_which_nothing_was_in_the_way_is_whole() {
        let step = StepReport {
            command: vec!["x".to_owned()],
            folder: String::new(),
            backend: Backend::Namespace,
            duration_ms: 1,
            refused_hosts: Vec::new(),
            limits_not_enforced: Vec::new(),
            failure: None,
            met_limit: false,
        };
        let is_whole = |step: StepReport| {
            let steps = vec![step];
            SetupReport {
                steps,
                ..SetupReport::default()
            }
            .is_whole(1)
        };
        assert!(is_whole(step.clone()));
        let refused_hosts = vec![refusal("a.example.org")];
        assert!(!is_whole(StepReport {
            refused_hosts,
            ..step.clone()
        }));
        let failure = Some("failed".to_owned());
        assert!(!is_whole(StepReport {
            failure,
            ..step.clone()
        }));
        assert!(!is_whole(StepReport {
            met_limit: true,
            ..step
        }));
        // A command whose program is not there has no report.
        assert!(!SetupReport::default().is_whole(1));
    }

    fn refusal(host: &str) -> Refusal {
        Refusal {
            phase: Phase::Setup,
            host: host.to_owned(),
            reason: Reason::HostNotAllowed,
            times: 1,
        }
    }
}
