//! The key of a setup phase's result: what differs wherever something else may be installed. Pure.

use patchfleet_domain::RepositoryName;
use sha2::{Digest as _, Sha256};

use super::commands::Command;
use crate::git::{Entry, ObjectId};
use crate::sandbox::egress::IpNet;

/// Goes up with what a key is made of, and with how results are kept.
const FORMAT: &str = "setup 1";

/// All that decides a result.
pub(super) struct Ingredients<'a> {
    /// Results are never shared between repositories, so that none can harm another by its own.
    pub(super) repository: &'a RepositoryName,
    /// Contents that the base only names are there.
    pub(super) has_contents: bool,
    pub(super) commands: &'a [Command],
    pub(super) sources: Sources<'a>,
    /// Networks that are open although they are not public.
    pub(super) open: &'a [IpNet],
    /// What the sandbox is made of.
    pub(super) system: &'a [String],
}

/// What of a repository decides.
pub(super) enum Sources<'a> {
    /// These files and nothing else.
    Files(Vec<&'a Entry>),
    /// A commit with all that is in it, and the tags by which tools find out a version.
    Commit(&'a ObjectId, &'a [String]),
}

impl Ingredients<'_> {
    /// The key, in hexadecimal digits.
    pub(super) fn key(&self) -> String {
        let mut parts = Parts(Sha256::new());
        parts.text(FORMAT);
        // GitHub takes names in any case for the same.
        parts.text(&self.repository.to_string().to_lowercase());
        parts.list(self.system.iter().map(String::as_str));
        let open: Vec<_> = self.open.iter().map(ToString::to_string).collect();
        parts.list(open.iter().map(String::as_str));
        parts.count(self.commands.len());
        for command in self.commands {
            parts.text(&command.folder);
            parts.list(command.words.iter().map(String::as_str));
            let env = command.env.iter();
            parts.list(env.flat_map(|(name, value)| [name.as_str(), value.as_str()]));
            let hosts: Vec<_> = command.allow.patterns().collect();
            parts.list(hosts.iter().map(String::as_str));
            parts.text(if command.is_detected {
                "detected"
            } else {
                "declared"
            });
        }
        match &self.sources {
            Sources::Files(files) => {
                parts.text("files");
                let facts = |entry: &&Entry| {
                    [
                        entry.path.clone(),
                        entry.id.to_string(),
                        entry.kind.mode().to_owned(),
                    ]
                };
                let facts: Vec<_> = files.iter().flat_map(facts).collect();
                parts.list(facts.iter().map(String::as_str));
            }
            Sources::Commit(commit, tags) => {
                parts.text("commit");
                parts.text(commit.as_str());
                parts.list(tags.iter().map(String::as_str));
            }
        }
        if self.has_contents {
            parts.text("contents");
        }
        hex::encode(parts.0.finalize())
    }
}

/// Lengths stand before parts, so that no two lists run together.
struct Parts(Sha256);

impl Parts {
    fn count(&mut self, count: usize) {
        self.0
            .update(u64::try_from(count).unwrap_or(u64::MAX).to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.update(text);
    }

    fn list<'a>(&mut self, texts: impl Iterator<Item = &'a str>) {
        let texts: Vec<_> = texts.collect();
        self.count(texts.len());
        for text in texts {
            self.text(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::git::EntryKind;
    use crate::sandbox::egress::{AllowList, Entry as Host};

    /// All that a key is made of, to be changed one by one.
    #[derive(Clone)]
    struct Given {
        repository: RepositoryName,
        has_contents: bool,
        commands: Vec<Command>,
        files: Vec<Entry>,
        commit: Option<ObjectId>,
        tags: Vec<String>,
        open: Vec<IpNet>,
        system: Vec<String>,
    }

    impl Given {
        fn key(&self) -> String {
            let ingredients = Ingredients {
                repository: &self.repository,
                has_contents: self.has_contents,
                commands: &self.commands,
                sources: match &self.commit {
                    None => Sources::Files(self.files.iter().collect()),
                    Some(commit) => Sources::Commit(commit, &self.tags),
                },
                open: &self.open,
                system: &self.system,
            };
            ingredients.key()
        }
    }

    fn hosts(name: &str) -> AllowList {
        let host: Host = name.parse().unwrap();
        AllowList::new([&host])
    }

    fn id(digit: &str) -> ObjectId {
        digit.repeat(40).parse().unwrap()
    }

    fn given() -> Given {
        Given {
            repository: "acme/orders".parse().unwrap(),
            has_contents: false,
            commands: vec![Command {
                folder: "web".to_owned(),
                words: vec!["npm".to_owned(), "ci".to_owned()],
                env: vec![("A".to_owned(), "1".to_owned())],
                allow: hosts("a.example.org"),
                is_detected: true,
            }],
            files: vec![Entry {
                path: "web/package-lock.json".to_owned(),
                kind: EntryKind::File,
                id: id("1"),
                size: 1,
            }],
            commit: None,
            tags: vec!["v1".to_owned()],
            open: Vec::new(),
            system: vec!["linux".to_owned()],
        }
    }

    #[test]
    fn each_ingredient_of_a_key_changes_it() {
        let changes: [fn(&mut Given); 18] = [
            |_| {},
            |it| it.repository = "acme/other".parse().unwrap(),
            |it| it.has_contents = true,
            |it| it.commands[0].folder.clear(),
            |it| it.commands[0].words[1] = "install".to_owned(),
            |it| it.commands[0].words = vec!["npmci".to_owned()],
            |it| it.commands[0].env[0].1 = "2".to_owned(),
            |it| it.commands[0].env.clear(),
            |it| it.commands[0].allow = hosts("b.example.org"),
            |it| it.commands[0].is_detected = false,
            |it| it.commands.push(it.commands[0].clone()),
            |it| it.files[0].id = id("2"),
            |it| it.files[0].path = "package-lock.json".to_owned(),
            |it| it.files[0].kind = EntryKind::Executable,
            |it| it.open = vec!["10.0.0.0/8".parse().unwrap()],
            |it| it.system[0] = "other".to_owned(),
            |it| it.commit = Some(id("1")),
            |it| it.commit = Some(id("2")),
        ];
        let keys = changes.map(|change| {
            let mut other = given();
            change(&mut other);
            other.key()
        });
        assert_eq!(
            keys.iter().collect::<BTreeSet<_>>().len(),
            keys.len(),
            "{keys:#?}"
        );
        let mut tagged = Given {
            commit: Some(id("1")),
            ..given()
        };
        tagged.tags.push("v2".to_owned());
        assert!(!keys.contains(&tagged.key()));
        let same = Given {
            repository: "Acme/Orders".parse().unwrap(),
            ..given()
        };
        assert_eq!(same.key(), keys[0]);
    }
}
