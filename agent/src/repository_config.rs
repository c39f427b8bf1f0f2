//! `.patchfleet.yaml`, or `.patchfleet.yml`: how Patchfleet works on a repository.
//!
//! Unknown fields and values that can't be are errors that name line, column and field; a default
//! never silently takes the place of what was written. An absent file means defaults.
//!
//! Absent: fields for triggers, budget, reviewers and flow, which come with their stages.

mod command;
mod globs;

use std::fmt;
use std::time::Duration;

use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{AgentType, FailureKind};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

pub use command::split_command;
pub use globs::Globs;

use crate::git::{Author, Entry as File, EntryKind};
use crate::nodes::TestPolicy;
use crate::sandbox::egress::{AllowList, Entry};

/// The names of the file, in the root of the default branch; there is one of them at most.
pub const FILES: [&str; 2] = [".patchfleet.yaml", ".patchfleet.yml"];

/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 256 * 1024;

/// What an entry of the allow-list of hosts is.
const HOSTS: &str = "a list of hosts and ecosystems";

/// Test timeout when the repository says nothing.
pub const DEFAULT_TEST_TIMEOUT: Duration = Duration::from_mins(2);

/// The configuration of one repository.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// The test commands, each as words, which run in order until one fails. One is written as a list
    /// of words, or as a string that is split into words as a shell would, without anything else that
    /// a shell does; several as a list of these.
    #[serde(default, deserialize_with = "tests")]
    pub test: Option<Vec<Vec<String>>>,
    /// The commands that install dependencies, each as the test command; detected by lock files
    /// when absent, and none when empty.
    #[serde(default, deserialize_with = "commands")]
    pub setup: Option<Vec<Vec<String>>>,
    /// How long they may take together.
    #[serde(default, deserialize_with = "duration")]
    pub setup_timeout: Option<Duration>,
    /// The hosts and ecosystems that they may reach; the registries of the lock files when absent.
    #[serde(default, deserialize_with = "network")]
    pub network: Option<Vec<Entry>>,
    /// How long the tests may take.
    #[serde(default, deserialize_with = "duration")]
    pub test_timeout: Option<Duration>,
    /// What may be changed; everything, when empty.
    #[serde(default)]
    pub allowed_paths: Globs,
    /// What must not be changed, besides what is always protected.
    #[serde(default)]
    pub protected_paths: Globs,
    /// What may be changed although it is always protected; never this file.
    #[serde(default)]
    pub unprotected_paths: Globs,
    /// The agent type that tasks of this repository want.
    #[serde(default, deserialize_with = "agent_type")]
    pub agent_type: Option<AgentType>,
    /// Who commits are by.
    #[serde(default, deserialize_with = "author")]
    pub author: Option<Author>,
}

/// The file can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {message}", position.map(|(line, column)| format!(", line {line}, column {column}")).unwrap_or_default())]
pub struct ConfigError {
    /// The file's name.
    pub file: &'static str,
    /// Line and column, from 1.
    pub position: Option<(usize, usize)>,
    /// Which field and what is wrong with it.
    pub message: String,
}

impl RepositoryConfig {
    /// Parses the file's text.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text
            .lines()
            .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
        {
            return Ok(Self::default());
        }
        yaml_serde::from_str(text).map_err(|error| ConfigError::from_yaml(&error))
    }

    /// Parses the file's text, and refuses one that asks for hosts which are not allowed.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse_within(text: &str, allowed: &AllowList) -> Result<Self, ConfigError> {
        let config = Self::parse(text)?;
        let asked = config.network.iter().flatten();
        if !asked.clone().all(|entry| allowed.covers(entry)) {
            // Read again, so that the error has the place of what is asked for.
            let text = yaml_serde::Deserializer::from_str(text);
            let within = Within(allowed).deserialize(text);
            within.map_err(|error| ConfigError::from_yaml(&error))?;
            // Both readings are of one text; should they ever differ, the stricter one counts.
            return Err(ConfigError {
                file: FILES[0],
                position: None,
                message: "network: a host that the operator does not allow".to_owned(),
            });
        }
        Ok(config)
    }

    /// What was written here and changes nothing, where this agent works with this policy.
    pub fn without_effect(&self, agent: &AgentType, tests: &TestPolicy) -> Vec<String> {
        let mut all = Vec::new();
        if let Some(wanted) = self.agent_type.as_ref().filter(|it| *it != agent) {
            all.push(format!(
                "`agent_type: {wanted}`, since the task was given to an agent of the type `{agent}`"
            ));
        }
        for (field, is_written, is_overruled) in [
            ("test", self.test.is_some(), tests.command.is_some()),
            (
                "test_timeout",
                self.test_timeout.is_some(),
                tests.timeout.is_some(),
            ),
        ] {
            if is_written && is_overruled {
                all.push(format!("`{field}`, since the operator's own counts"));
            }
        }
        let opens = |pattern: &String| FILES.iter().any(|file| pattern.contains(file));
        if self.unprotected_paths.patterns().iter().any(opens) {
            all.push(format!(
                "`unprotected_paths` for `{}`, which no draft may change",
                FILES[0]
            ));
        }
        all
    }

    /// How long the tests may take.
    pub fn test_timeout(&self) -> Duration {
        self.test_timeout.unwrap_or(DEFAULT_TEST_TIMEOUT)
    }
}

impl ConfigError {
    fn from_yaml(error: &yaml_serde::Error) -> Self {
        let position = error.location().map(|place| (place.line(), place.column()));
        let said = error.to_string();
        // The position is told in front, in one form.
        let message = match (position, said.rfind(" at line ")) {
            (Some(_), Some(end)) => said[..end].to_owned(),
            _ => said,
        };
        Self {
            file: FILES[0],
            position,
            message,
        }
    }

    /// The same error in the file of that name.
    #[must_use]
    pub fn in_file(self, file: &'static str) -> Self {
        Self { file, ..self }
    }

    /// An error for what is at the file's place and can't be read as one.
    ///
    /// # Errors
    /// What it is instead.
    pub fn check_entry(file: &'static str, entry: &File) -> Result<(), Self> {
        let message = match entry.kind {
            _ if entry.path != file => "it is a folder, and has to be a file".to_owned(),
            EntryKind::Symlink => "it is a symbolic link, and has to be a file".to_owned(),
            EntryKind::Submodule => "it is a submodule, and has to be a file".to_owned(),
            EntryKind::File | EntryKind::Executable if entry.size > MAX_BYTES => {
                format!("it has {} bytes; at most {MAX_BYTES} are read", entry.size)
            }
            EntryKind::File | EntryKind::Executable => return Ok(()),
        };
        Err(Self {
            file,
            position: None,
            message,
        })
    }

    /// The file's text. Nothing takes the place of bytes that are none: they may stand in a pattern.
    ///
    /// # Errors
    /// Where it is not UTF-8.
    pub fn check_text(bytes: &[u8]) -> Result<String, Self> {
        let error = match std::str::from_utf8(bytes) {
            Ok(text) => return Ok(text.to_owned()),
            Err(error) => error,
        };
        let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let line = valid.matches('\n').count() + 1;
        let column = valid
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        Err(Self {
            file: FILES[0],
            position: Some((line, column)),
            message: "it is not UTF-8 from here on; save it as UTF-8".to_owned(),
        })
    }

    /// That there are several files, of which one would be passed over.
    pub fn doubled() -> Self {
        Self {
            file: FILES[1],
            position: None,
            message: format!(
                "there is a {} too, and only one can count; remove one",
                FILES[0]
            ),
        }
    }

    /// The failure of the task that this error is.
    pub fn into_failure(self) -> Failure {
        Failure {
            kind: FailureKind::BadRepositoryConfiguration,
            message: self.to_string(),
            retryable: false,
            // What is mended stands in a newer base.
            discard_checkpoints: true,
        }
    }
}

fn tests<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Vec<String>>>, D::Error> {
    deserializer.deserialize_any(Tests).map(Some)
}

fn commands<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<Vec<String>>>, D::Error> {
    deserializer.deserialize_seq(Commands).map(Some)
}

fn network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Entry>>, D::Error> {
    let parse = |text: &str| text.parse::<Entry>().map_err(|error| error.to_string());
    deserializer.deserialize_seq(ListOf(HOSTS, parse)).map(Some)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let expected = "a time such as `90s`, `5m` or `1h`, at most 1h";
    let parse =
        |text: &str| parse_duration(text).ok_or_else(|| format!("`{text}` is not {expected}"));
    deserializer
        .deserialize_str(TextOf(expected, parse))
        .map(Some)
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.strip_suffix("ms").map(|number| (number, 1));
    let unit = unit.or_else(|| text.strip_suffix('s').map(|number| (number, 1_000)));
    let unit = unit.or_else(|| text.strip_suffix('m').map(|number| (number, 60_000)));
    let unit = unit.or_else(|| text.strip_suffix('h').map(|number| (number, 3_600_000)));
    let (number, factor) = unit?;
    let millis = number.trim().parse::<u64>().ok()?.checked_mul(factor)?;
    (1..=3_600_000)
        .contains(&millis)
        .then(|| Duration::from_millis(millis))
}

fn agent_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<AgentType>, D::Error> {
    let parse = |text: &str| text.parse::<AgentType>().map_err(|error| error.to_string());
    deserializer
        .deserialize_str(TextOf("an agent type", parse))
        .map(Some)
}

fn author<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Author>, D::Error> {
    let expected = "of the form `Name <address>`";
    let parse =
        |text: &str| parse_author(text).ok_or_else(|| format!("`{text}` is not {expected}"));
    deserializer
        .deserialize_str(TextOf(expected, parse))
        .map(Some)
}

fn parse_author(text: &str) -> Option<Author> {
    let (name, rest) = text.split_once('<')?;
    let email = rest.trim_end().strip_suffix('>')?;
    let plain = |text: &str| !text.is_empty() && !text.contains(['<', '>', '\n', '\r', '\0']);
    let (name, email) = (name.trim(), email.trim());
    // Git leaves punctuation out at both ends of a name, and takes none that is nothing else.
    let has_letters = |text: &str| text.chars().any(char::is_alphanumeric);
    let is_author = plain(name) && has_letters(name) && plain(email) && has_letters(email);
    (is_author && email.contains('@')).then(|| Author {
        name: name.to_owned(),
        email: email.to_owned(),
    })
}

/// Text that is parsed where it is read, so that an error has the place of the text.
struct TextOf<F>(&'static str, F);

impl<T, F: Fn(&str) -> Result<T, String>> Visitor<'_> for TextOf<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(E::custom)
    }
}

impl<'de, T, F: Fn(&str) -> Result<T, String>> DeserializeSeed<'de> for TextOf<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

/// A list of such texts.
struct ListOf<F>(&'static str, F);

impl<'de, T, F: Fn(&str) -> Result<T, String>> Visitor<'de> for ListOf<F> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(TextOf(self.0, &self.1))? {
            list.push(item);
        }
        Ok(list)
    }
}

/// A command as text or as words.
struct Command;

impl<'de> Visitor<'de> for Command {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command as text or as a list of words")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<String>, E> {
        split_command(text).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Vec<String>, A::Error> {
        let words = ListOf("a list of words", |word: &str| Ok(word.to_owned())).visit_seq(items)?;
        match words.first() {
            Some(program) if !program.is_empty() => Ok(words),
            _ => Err(serde::de::Error::custom("a command must not be empty")),
        }
    }
}

/// A command as text or as words, or several of them.
struct Tests;

impl<'de> Visitor<'de> for Tests {
    type Value = Vec<Vec<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command as text or as a list of words, or a list of commands")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(vec![split_command(text).map_err(E::custom)?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Item)? {
            list.push(item);
        }
        // No program has a space in its name, so that a first item with one is a whole command.
        let is_command = |item: &Listed| match item {
            Listed::Words(_) => true,
            Listed::Text(text) => text.trim().contains(char::is_whitespace),
        };
        match list.first() {
            None => Err(serde::de::Error::custom("a command must not be empty")),
            Some(first) if is_command(first) => {
                let commands = list.into_iter().map(Listed::into_command);
                let commands: Result<_, _> = commands.collect();
                commands.map_err(serde::de::Error::custom)
            }
            Some(_) => {
                let words = list.into_iter().map(Listed::into_word);
                let words: Result<Vec<_>, _> = words.collect();
                let words = words.map_err(serde::de::Error::custom)?;
                match words.first() {
                    Some(program) if !program.is_empty() => Ok(vec![words]),
                    _ => Err(serde::de::Error::custom("a command must not be empty")),
                }
            }
        }
    }
}

/// An item of a list that is one command or several.
enum Listed {
    Text(String),
    Words(Vec<String>),
}

struct Item;

impl<'de> DeserializeSeed<'de> for Item {
    type Value = Listed;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Listed, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item {
    type Value = Listed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word, or a command as text or as a list of words")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Listed, E> {
        Ok(Listed::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Listed, A::Error> {
        Command.visit_seq(items).map(Listed::Words)
    }
}

impl Listed {
    fn into_command(self) -> Result<Vec<String>, String> {
        match self {
            Self::Text(text) => split_command(&text),
            Self::Words(words) => Ok(words),
        }
    }

    fn into_word(self) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Words(words) => Err(format!(
                "`{}` is a list among words; write each command as text or as a list",
                words.join(" ")
            )),
        }
    }
}

/// A list of commands.
struct Commands;

impl<'de> Visitor<'de> for Commands {
    type Value = Vec<Vec<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of commands, each as text or as a list of words")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut commands = Vec::new();
        while let Some(command) = items.next_element_seed(Command)? {
            commands.push(command);
        }
        Ok(commands)
    }
}

/// The file, of which only the hosts that it asks for are read: an error when one is not allowed.
struct Within<'a>(&'a AllowList);

impl<'de> DeserializeSeed<'de> for Within<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Within<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let check = |text: &str| match text.parse::<Entry>() {
            Ok(entry) if self.0.covers(&entry) => Ok(()),
            Ok(_) => Err(format!(
                "the operator does not allow `{text}`; allowed are: {} (`agents.setup.allow`)",
                self.0.patterns().collect::<Vec<_>>().join(", ")
            )),
            Err(error) => Err(error.to_string()),
        };
        while let Some(field) = fields.next_key::<String>()? {
            if field == "network" {
                fields.next_value_seed(ListOf(HOSTS, check))?;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl<'de, T, F: Fn(&str) -> Result<T, String>> DeserializeSeed<'de> for ListOf<F> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> DeserializeSeed<'de> for Command {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_can_be_said() {
        let text = "
test: python3 -m unittest -k 'a b'
test_timeout: 5m
setup: [npm ci, [./setup.sh, 'a b']]
setup_timeout: 20m
network: [node, mirror.example.org]
allowed_paths: ['orders/**', '*.md']
protected_paths: [orders/secret/**]
unprotected_paths: [.vscode/**]
agent_type: backend
author: Orders Bot <bot@example.com>
";
        let config = RepositoryConfig::parse(text).unwrap();
        let words = ["python3", "-m", "unittest", "-k", "a b"].map(str::to_owned);
        assert_eq!(config.test, Some(vec![words.to_vec()]));
        assert_eq!(config.test_timeout(), Duration::from_mins(5));
        let setup = config.setup.unwrap();
        assert_eq!(setup, [["npm", "ci"], ["./setup.sh", "a b"]]);
        assert_eq!(config.setup_timeout, Some(Duration::from_mins(20)));
        let network = config.network.unwrap();
        let network: Vec<_> = network.iter().map(ToString::to_string).collect();
        assert_eq!(network, ["node", "mirror.example.org"]);
        assert!(config.allowed_paths.matches("orders/deep/money.py"));
        assert!(config.allowed_paths.matches("README.md"));
        assert!(!config.allowed_paths.matches("docs/README.md"));
        assert!(config.protected_paths.matches("orders/secret/key.py"));
        assert!(config.unprotected_paths.matches(".vscode/tasks.json"));
        assert_eq!(config.author.unwrap().name, "Orders Bot");
    }

    #[test]
    fn tests_are_one_command_or_several() {
        for (text, expected) in [
            ("npm test", &[&["npm", "test"][..]][..]),
            ("[npm, test]", &[&["npm", "test"]]),
            ("[make]", &[&["make"]]),
            ("[python3, -k, 'a b']", &[&["python3", "-k", "a b"]]),
            (
                "[npm run build, npm test]",
                &[&["npm", "run", "build"], &["npm", "test"]],
            ),
            ("[npm ci, make]", &[&["npm", "ci"], &["make"]]),
            ("[[make], [npm, test]]", &[&["make"], &["npm", "test"]]),
            ("[[make], npm test]", &[&["make"], &["npm", "test"]]),
        ] {
            let config = RepositoryConfig::parse(&format!("test: {text}\n")).unwrap();
            assert_eq!(config.test.unwrap(), expected, "{text}");
        }
        for (text, said) in [
            ("[]", "must not be empty"),
            ("['']", "must not be empty"),
            ("[[]]", "must not be empty"),
            ("[make, [npm, test]]", "a list among words"),
            ("[npm ci && make, npm test]", "`&&` needs a shell"),
            ("{a: b}", "a list of commands"),
        ] {
            let error = RepositoryConfig::parse(&format!("test: {text}\n")).unwrap_err();
            assert!(error.message.contains(said), "{text}: {error}");
            assert!(error.message.contains("test"), "{text}: {error}");
        }
    }

    #[test]
    fn an_author_that_git_takes_no_commit_of_is_refused() {
        for author in [". <a@example.com>", "<a@example.com>", "A <@>", "' <,@,>"] {
            let text = format!("author: \"{author}\"\n");
            let error = RepositoryConfig::parse(&text).unwrap_err();
            assert!(error.to_string().contains("author"), "{error}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error_with_their_place() {
        let error =
            ConfigError::check_text(b"test: make\nallowed_paths: [caf\xe9/**]\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            ".patchfleet.yaml, line 2, column 20: it is not UTF-8 from here on; save it as UTF-8"
        );
        assert_eq!(ConfigError::check_text("é".as_bytes()).unwrap(), "é");
    }

    #[test]
    fn what_is_without_effect_is_known() {
        let text = "test: make\ntest_timeout: 5m\nagent_type: frontend\n\
                    unprotected_paths: [.patchfleet.yaml, .vscode/**]\n";
        let config = RepositoryConfig::parse(text).unwrap();
        let (general, frontend) = (AgentType::general(), "frontend".parse().unwrap());
        let own = TestPolicy::default();
        let of_operator = TestPolicy {
            command: Some(vec!["./run".to_owned()]),
            timeout: Some(Duration::from_secs(1)),
            ..TestPolicy::default()
        };
        let fields = |agent: &AgentType, tests: &TestPolicy| -> Vec<String> {
            let all = config.without_effect(agent, tests);
            let field = |text: &String| text.split('`').nth(1).unwrap().to_owned();
            all.iter().map(field).collect()
        };
        assert_eq!(fields(&frontend, &own), ["unprotected_paths"]);
        assert_eq!(
            fields(&general, &of_operator),
            [
                "agent_type: frontend",
                "test",
                "test_timeout",
                "unprotected_paths"
            ]
        );
        let plain = RepositoryConfig::default();
        assert!(plain.without_effect(&general, &of_operator).is_empty());
    }

    #[test]
    fn a_file_without_content_means_defaults() {
        for text in ["", "\n", "# nothing yet\n\n"] {
            let config = RepositoryConfig::parse(text).unwrap();
            assert_eq!(config.test, None);
            assert_eq!(config.test_timeout(), DEFAULT_TEST_TIMEOUT);
        }
    }

    #[test]
    fn a_list_is_taken_as_words() {
        let config = RepositoryConfig::parse("test: [make, 'a b']\n").unwrap();
        assert_eq!(
            config.test,
            Some(vec![vec!["make".to_owned(), "a b".to_owned()]])
        );
    }

    #[test]
    fn errors_name_line_column_and_field() {
        let cases = [
            ("test: x\ntests: y\n", Some((2, 1)), "unknown field `tests`"),
            (
                "test: x\ntest_timeout: soon\n",
                Some((2, 15)),
                "test_timeout: `soon` is not a time",
            ),
            (
                "test: ''\n",
                Some((1, 7)),
                "test: a command must not be empty",
            ),
            (
                "test: \"it's\"\n",
                Some((1, 7)),
                "test: a quote is not closed",
            ),
            (
                "allowed_paths: ['a[']\n",
                Some((1, 17)),
                "allowed_paths[0]: error parsing glob",
            ),
            (
                "setup:\n  - npm ci\n  - ''\n",
                Some((3, 5)),
                "setup[1]: a command must not be empty",
            ),
            (
                "setup: npm ci\n",
                Some((1, 8)),
                "setup: invalid type: string",
            ),
            (
                "network: [https://example.org]\n",
                Some((1, 11)),
                "network[0]: `https://example.org` is more than a host",
            ),
            (
                "allowed_paths: ['!secret/**']\n",
                Some((1, 17)),
                "allowed_paths[0]: `!secret/**` takes out",
            ),
            (
                "test: npm run build && npm test\n",
                Some((1, 7)),
                "test: `&&` needs a shell",
            ),
            ("agent_type: '!'\n", Some((1, 13)), "agent_type: "),
            (
                "author: nobody\n",
                Some((1, 9)),
                "author: `nobody` is not of the form",
            ),
            ("test: [a\n", Some((2, 1)), ""),
        ];
        for (text, position, message) in cases {
            let error = RepositoryConfig::parse(text).unwrap_err();
            assert_eq!(error.position, position, "{text:?}: {error}");
            assert!(error.message.contains(message), "{text:?}: {error}");
            let failure = error.into_failure();
            assert_eq!(failure.kind, FailureKind::BadRepositoryConfiguration);
            assert!(
                failure.message.starts_with(".patchfleet.yaml, line "),
                "{failure:?}"
            );
        }
    }

    #[test]
    fn hosts_that_the_operator_does_not_allow_are_refused_with_line_and_field() {
        let entries: Vec<Entry> = ["node", "*.example.org"]
            .map(|it| it.parse().unwrap())
            .into();
        let allowed = AllowList::new(&entries);
        let text = "setup: [npm ci]\nnetwork:\n  - node\n  - a.example.org\n";
        let config = RepositoryConfig::parse_within(text, &allowed).unwrap();
        assert_eq!(config.network.map(|it| it.len()), Some(2));
        for (entry, column) in [("evil.test", 5), ("python", 5), ("'*.org.test'", 5)] {
            let text = format!("{text}  - {entry}\n");
            let error = RepositoryConfig::parse_within(&text, &allowed).unwrap_err();
            assert_eq!(error.position, Some((5, column)), "{error}");
            let name = entry.trim_matches('\'');
            let message = format!("network[2]: the operator does not allow `{name}`");
            assert!(error.message.starts_with(&message), "{error}");
        }
        assert!(RepositoryConfig::parse_within("", &AllowList::default()).is_ok());
    }
}
