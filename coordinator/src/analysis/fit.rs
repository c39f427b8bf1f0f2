//! Which agent a task wants.

use std::collections::BTreeSet;

use patchfleet_domain::agent::Requirement;
use patchfleet_domain::{AgentType, Capability, SecurityLevel, Task};
use patchfleet_repository::FILES;

use super::catalog::{AgentCatalog, AgentProfile};
use super::clues::Clues;
use super::configuration::Configuration;

/// What a label, a file and a word weigh.
const LABEL: u32 = 10;
const FILE: u32 = 3;
const WORD: u32 = 1;

/// What a file's ending says of the language.
const LANGUAGES: &[(&str, &str)] = &[
    (".py", "python"),
    (".ts", "typescript"),
    (".tsx", "react"),
    (".css", "css"),
    (".md", "markdown"),
];

/// What the choice of an agent goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice<'a> {
    pub(super) task: &'a Task,
    pub(super) clues: &'a Clues,
    pub(super) catalog: &'a AgentCatalog,
    /// What the task's repository says.
    pub(super) said: &'a Configuration,
}

impl Choice<'_> {
    /// What is asked of an agent, and why.
    pub(super) fn requirement(self, reasons: &mut Vec<String>) -> Requirement {
        let agent_type = self.agent_type(reasons);
        let mut profiles = self.catalog.types.iter();
        let profile = profiles.find(|profile| profile.name == agent_type);
        Requirement {
            // Whoever is good at anything may do what is nobody's in particular.
            capabilities: profile.map_or_else(
                || self.catalog.capabilities(),
                |profile| capabilities(profile, self.clues),
            ),
            agent_type,
            security_level: security_level(self.clues),
        }
    }

    /// The type that a command names, else one that a label names, else the one of the repository's file,
    /// else that for which most speaks.
    fn agent_type(self, reasons: &mut Vec<String>) -> AgentType {
        let request = &self.task.request;
        if let Some(named) = &request.agent_type {
            reasons.push(format!("{named}: named by {}", request.triggered_by));
            return named.clone();
        }
        let is_labelled = |profile: &AgentProfile| {
            let mut labels = self.clues.labels.iter();
            labels.any(|label| names(label, profile))
        };
        match (self.said, self.said.agent_type()) {
            (_, Some((file, named))) if !self.catalog.types.iter().any(is_labelled) => {
                reasons.push(format!("{named}: `agent_type` of `{file}`"));
                return named.clone();
            }
            (Configuration::Unknown(why), _) => reasons.push(format!(
                "whether `{}` names an agent type could not be read: {why}",
                FILES[0]
            )),
            _ => {}
        }
        let mut best: Option<(u32, &AgentProfile, String)> = None;
        for profile in &self.catalog.types {
            let (score, evidence) = score(profile, self.clues);
            if score > best.as_ref().map_or(0, |(score, ..)| *score) {
                best = Some((score, profile, evidence));
            }
        }
        let Some((_, profile, evidence)) = best else {
            reasons.push("general: nothing speaks for a specialty".to_owned());
            return AgentType::general();
        };
        reasons.push(format!("{}: {evidence}", profile.name));
        profile.name.clone()
    }
}

fn score(profile: &AgentProfile, clues: &Clues) -> (u32, String) {
    let labels = clues.labels.iter().filter(|label| is_label(profile, label));
    let files = clues
        .files
        .iter()
        .filter(|file| profile.paths.iter().any(|path| fits(file, path)));
    let words = profile.capabilities.iter().map(Capability::as_str);
    let words: BTreeSet<_> = words
        .chain(profile.keywords.iter().map(String::as_str))
        .filter(|word| clues.mentions(word))
        .collect();
    let found = [
        (
            "label",
            LABEL,
            labels.map(String::as_str).collect::<Vec<_>>(),
        ),
        ("file", FILE, files.map(String::as_str).collect()),
        ("word", WORD, words.into_iter().collect()),
    ];
    let mut score = 0;
    let mut evidence = Vec::new();
    for (kind, weight, all) in found {
        for one in all {
            score += weight;
            evidence.push(format!("{kind} `{one}`"));
        }
    }
    (score, evidence.join(", "))
}

/// `backend`, `area/backend`, `type: backend` and the profile's own.
fn is_label(profile: &AgentProfile, label: &str) -> bool {
    let last = last_part(label);
    let own = |one: &String| one.eq_ignore_ascii_case(last) || one.eq_ignore_ascii_case(label);
    names(label, profile) || profile.labels.iter().any(own)
}

/// True of a label that is the profile's name itself: `backend`, `area/backend`, `type: backend`.
fn names(label: &str, profile: &AgentProfile) -> bool {
    last_part(label) == profile.name.as_str()
}

fn last_part(label: &str) -> &str {
    label.rsplit(['/', ':']).next().unwrap_or(label).trim()
}

fn fits(file: &str, path: &str) -> bool {
    if path.ends_with('/') {
        file.starts_with(path) || file.contains(&format!("/{path}"))
    } else if path.starts_with('.') {
        file.ends_with(path)
    } else {
        file.rsplit('/').next() == Some(path)
    }
}

/// Those that the request asks for; all of the type when it asks for none.
fn capabilities(profile: &AgentProfile, clues: &Clues) -> BTreeSet<Capability> {
    let language = |capability: &Capability| {
        let endings = LANGUAGES
            .iter()
            .filter(|(_, name)| *name == capability.as_str());
        let mut endings = endings.map(|(ending, _)| ending);
        endings.any(|ending| clues.files.iter().any(|file| file.ends_with(ending)))
    };
    let asked: BTreeSet<_> = profile
        .capabilities
        .iter()
        .filter(|one| clues.mentions(one.as_str()) || language(one))
        .cloned()
        .collect();
    if asked.is_empty() {
        profile.capabilities.clone()
    } else {
        asked
    }
}

fn security_level(clues: &Clues) -> SecurityLevel {
    let says = |words: &[&str]| {
        clues
            .labels
            .iter()
            .any(|label| words.contains(&last_part(label)))
    };
    if says(&["restricted", "confidential"]) {
        SecurityLevel::Restricted
    } else if says(&["internal"]) {
        SecurityLevel::Internal
    } else {
        SecurityLevel::Public
    }
}
