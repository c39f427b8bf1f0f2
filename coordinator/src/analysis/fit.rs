//! Which agent a task wants.

use std::collections::BTreeSet;

use patchfleet_domain::agent::Requirement;
use patchfleet_domain::{AgentType, Capability, SecurityLevel, Task};

use super::catalog::{AgentCatalog, AgentProfile};
use super::clues::Clues;

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

pub(super) fn requirement(
    task: &Task,
    clues: &Clues,
    catalog: &AgentCatalog,
    reasons: &mut Vec<String>,
) -> Requirement {
    let agent_type = agent_type(task, clues, catalog, reasons);
    let profile = catalog
        .types
        .iter()
        .find(|profile| profile.name == agent_type);
    Requirement {
        // Whoever is good at anything may do what is nobody's in particular.
        capabilities: profile.map_or_else(
            || catalog.capabilities(),
            |profile| capabilities(profile, clues),
        ),
        agent_type,
        security_level: security_level(clues),
    }
}

fn agent_type(
    task: &Task,
    clues: &Clues,
    catalog: &AgentCatalog,
    reasons: &mut Vec<String>,
) -> AgentType {
    if let Some(named) = &task.request.agent_type {
        reasons.push(format!("{named}: named by {}", task.request.triggered_by));
        return named.clone();
    }
    let mut best: Option<(u32, &AgentProfile, String)> = None;
    for profile in &catalog.types {
        let (score, evidence) = score(profile, clues);
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
    let last = label.rsplit(['/', ':']).next().unwrap_or(label).trim();
    let own = |one: &String| one.eq_ignore_ascii_case(last) || one.eq_ignore_ascii_case(label);
    last == profile.name.as_str() || profile.labels.iter().any(own)
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
        clues.labels.iter().any(|label| {
            let last = label.rsplit(['/', ':']).next().unwrap_or(label).trim();
            words.contains(&last)
        })
    };
    if says(&["restricted", "confidential"]) {
        SecurityLevel::Restricted
    } else if says(&["internal"]) {
        SecurityLevel::Internal
    } else {
        SecurityLevel::Public
    }
}
