//! Which commands install, and what each may reach. Pure.

use std::fmt;

use patchfleet_repository::RepositoryConfig;

use crate::sandbox::egress::{AllowList, Ecosystem, Entry};
use crate::sandbox::setup::{SetupStep, detect};

/// One command of the setup phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// The folder of the repository that it runs in; empty for its root.
    pub(super) folder: String,
    /// The program and its arguments.
    pub(super) words: Vec<String>,
    /// Variables that it needs.
    pub(super) env: Vec<(String, String)>,
    /// The hosts that it may reach.
    pub(super) allow: AllowList,
    /// Nobody asked for it but a lock file.
    pub(super) is_detected: bool,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join(" "))?;
        if self.folder.is_empty() {
            return Ok(());
        }
        write!(f, " in {}", self.folder)
    }
}

/// The repository's commands, or those of its lock files.
pub(super) fn choose<'a>(
    repository: &RepositoryConfig,
    paths: impl IntoIterator<Item = &'a str>,
    allowed: &AllowList,
) -> Vec<Command> {
    let steps = detect(paths);
    let asked = repository.network.as_ref().map(AllowList::new);
    let Some(declared) = &repository.setup else {
        return steps
            .into_iter()
            .map(|step| {
                let own = || registries([step.ecosystem], allowed);
                let allow = asked.clone().unwrap_or_else(own);
                Command::detected(step, allow)
            })
            .collect();
    };
    let all = || registries(steps.iter().map(|step| step.ecosystem), allowed);
    let allow = asked.unwrap_or_else(all);
    let command = |words: &Vec<String>| Command {
        folder: String::new(),
        words: words.clone(),
        env: Vec::new(),
        allow: allow.clone(),
        is_detected: false,
    };
    declared.iter().map(command).collect()
}

/// The hosts of these ecosystems that the operator allows.
fn registries(ecosystems: impl IntoIterator<Item = Ecosystem>, allowed: &AllowList) -> AllowList {
    let hosts = ecosystems.into_iter().flat_map(|it| it.hosts());
    let hosts: Vec<_> = hosts
        .filter(|host| allowed.contains(host))
        .map(Entry::Host)
        .collect();
    AllowList::new(&hosts)
}

impl Command {
    fn detected(step: SetupStep, allow: AllowList) -> Self {
        Self {
            folder: step.folder,
            words: step.command,
            env: step.env,
            allow,
            is_detected: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(text: &str, allowed: &[&str]) -> Vec<(String, Vec<String>)> {
        let entries: Vec<Entry> = allowed.iter().map(|it| it.parse().unwrap()).collect();
        let config = RepositoryConfig::parse(text).unwrap();
        let paths = ["Cargo.lock", "web/package-lock.json"];
        let commands = choose(&config, paths, &AllowList::new(&entries));
        let shown = commands
            .iter()
            .map(|it| (it.to_string(), it.allow.patterns().collect()));
        shown.collect()
    }

    #[test]
    fn each_lock_file_opens_its_own_registries_as_far_as_the_operator_allows_them() {
        let commands = chosen("", &["rust", "registry.npmjs.org"]);
        let [(cargo, rust), (npm, node)] = &commands[..] else {
            panic!("{commands:?}")
        };
        assert_eq!(cargo, "cargo fetch --locked");
        assert!(rust.contains(&"index.crates.io".to_owned()), "{rust:?}");
        assert!(!rust.contains(&"registry.npmjs.org".to_owned()), "{rust:?}");
        assert_eq!(npm, "npm ci in web");
        assert_eq!(node, &["registry.npmjs.org"]);
    }

    #[test]
    fn what_the_repository_declares_takes_the_place_of_what_is_detected() {
        let text = "setup: [make deps, ./more]\nnetwork: [a.example.org]\n";
        let hosts = vec!["a.example.org".to_owned()];
        let expected = [
            ("make deps".to_owned(), hosts.clone()),
            ("./more".to_owned(), hosts),
        ];
        assert_eq!(chosen(text, &["a.example.org"]), expected);
        let commands = chosen("setup: [make deps]\n", &["registry.npmjs.org"]);
        assert_eq!(commands[0].1, ["registry.npmjs.org"]);
        assert!(chosen("setup: []\n", &["rust"]).is_empty());
        let commands = chosen("network: []\n", &["rust", "node"]);
        assert!(commands.iter().all(|(_, hosts)| hosts.is_empty()));
    }
}
