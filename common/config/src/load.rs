//! File and environment to a typed tree; what is wrong is said with file, line and field.

use std::ffi::OsString;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Table;

use crate::environment::{Override, applied, overrides};
use crate::place;
use crate::rules::{Fault, Rules};

/// The configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {file}: {reason}")]
    Unreadable {
        /// Which.
        file: String,
        /// Why.
        reason: String,
    },
    /// The file's text is wrong.
    #[error("{file}:{line}:{column}: {message}")]
    Invalid {
        /// The file.
        file: String,
        /// Counts from 1.
        line: usize,
        /// Counts from 1.
        column: usize,
        /// What is wrong, with the field.
        message: String,
    },
    /// A variable's value is wrong.
    #[error("environment variable {variable}: {message}")]
    Environment {
        /// Which.
        variable: String,
        /// What is wrong.
        message: String,
    },
    /// Something is missing or wrong that stands on no one line.
    #[error("{file}: field `{field}`: {message}")]
    Field {
        /// The file.
        file: String,
        /// Its path with dots.
        field: String,
        /// What is wrong.
        message: String,
    },
}

/// Reads the file, lays the environment over it and gives the typed tree, whose rules hold.
///
/// # Errors
/// [`ConfigError`], which says what is wrong, where, and what would be accepted.
pub fn load<T: DeserializeOwned + Rules>(file: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|error| ConfigError::Unreadable {
        file: file.display().to_string(),
        reason: error.to_string(),
    })?;
    let source = Source {
        file: &file.display().to_string(),
        text: &text,
    };
    source.parse(std::env::vars_os())
}

/// A file that was read.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

/// What deserializing said.
struct Refusal {
    path: Vec<String>,
    message: String,
}

impl Source<'_> {
    fn parse<T: DeserializeOwned + Rules>(
        &self,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<T, ConfigError> {
        let table: Table = toml::from_str(self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            self.at(at, error.message().to_owned())
        })?;
        let mut overrides = overrides(variables, &table)?;
        let tree: T = read(&table, &mut overrides).map_err(|it| self.refused(&it, &overrides))?;
        match tree.faults().first() {
            None => Ok(tree),
            Some(fault) => Err(self.broken(fault, &overrides)),
        }
    }

    /// Says which variable or which place in the file a refusal is about.
    fn refused(&self, refusal: &Refusal, overrides: &[Override]) -> ConfigError {
        let Refusal { path, message } = refusal;
        let named = match path.as_slice() {
            [] => message.clone(),
            path => format!("field `{}`: {message}", path.join(".")),
        };
        let sets = overrides.iter().rfind(|it| it.sets(path));
        let is_whole = sets.is_some_and(|it| it.path == *path);
        // A part of a field may be to blame where serde says no more than the field.
        let culprit = sets.or_else(|| overrides.iter().find(|it| it.sets_part_of(path)));
        if let Some(culprit) = culprit {
            let message = if is_whole { message.clone() } else { named };
            return ConfigError::Environment {
                variable: culprit.variable.clone(),
                message,
            };
        }
        let of_key = message.starts_with("unknown field");
        match place::span(self.text, path, of_key) {
            Some(span) => self.at(span.start, named),
            None => self.at(0, named),
        }
    }

    /// Says where a rule is broken: a variable that set one of the fields, or a line.
    fn broken(&self, fault: &Fault, overrides: &[Override]) -> ConfigError {
        let paths = fault.fields.iter();
        let paths = paths.map(|field| field.split('.').map(str::to_owned).collect());
        let paths: Vec<Vec<String>> = paths.collect();
        let message = fault.message.clone();
        let field = fault.fields.first().cloned().unwrap_or_default();
        let culprit = |path: &Vec<String>| overrides.iter().rfind(|it| it.sets(path));
        if let Some(culprit) = paths.iter().find_map(culprit) {
            return ConfigError::Environment {
                variable: culprit.variable.clone(),
                message: format!("field `{field}`: {message}"),
            };
        }
        let whole = |path: &&Vec<String>| place::has(self.text, path);
        let written = paths.iter().find(whole).or(paths.first());
        match written.and_then(|path| place::span(self.text, path, false)) {
            Some(span) => self.at(span.start, format!("field `{field}`: {message}")),
            None => ConfigError::Field {
                file: self.file.to_owned(),
                field,
                message,
            },
        }
    }

    fn at(&self, byte: usize, message: String) -> ConfigError {
        let (line, column) = place::line_and_column(self.text, byte);
        ConfigError::Invalid {
            file: self.file.to_owned(),
            line,
            column,
            message,
        }
    }
}

/// How many ways of reading variables are tried at most where several may be to blame.
const TRIES: usize = 512;

/// Reads the table with the variables over it, and finds for each the reading that its field takes.
fn read<T: DeserializeOwned>(table: &Table, overrides: &mut [Override]) -> Result<T, Refusal> {
    loop {
        let refusal = match deserialize(&applied(table, overrides)) {
            Ok(tree) => return Ok(tree),
            Err(refusal) => refusal,
        };
        if !read_otherwise::<T>(table, overrides, &refusal) {
            return Err(refusal);
        }
    }
}

/// Tries the other readings of the variables that a refusal is about; false if none helps.
fn read_otherwise<T: DeserializeOwned>(
    table: &Table,
    overrides: &mut [Override],
    refusal: &Refusal,
) -> bool {
    let about = |it: &Override| it.sets(&refusal.path) || it.sets_part_of(&refusal.path);
    let suspects: Vec<usize> = (0..overrides.len())
        .filter(|at| about(&overrides[*at]))
        .collect();
    let before: Vec<usize> = suspects.iter().map(|at| overrides[*at].reading).collect();
    for _ in 0..TRIES {
        if !next_reading(overrides, &suspects) {
            break;
        }
        let same_place = match deserialize::<T>(&applied(table, overrides)) {
            Ok(_) => false,
            Err(now) => suspects.iter().any(|at| {
                let it = &overrides[*at];
                it.sets(&now.path) || it.sets_part_of(&now.path)
            }),
        };
        if !same_place {
            return true;
        }
    }
    for (at, reading) in suspects.into_iter().zip(before) {
        overrides[at].reading = reading;
    }
    false
}

/// Counts one on through the readings of the suspects; false after the last.
fn next_reading(overrides: &mut [Override], suspects: &[usize]) -> bool {
    for at in suspects {
        let it = &mut overrides[*at];
        if it.reading + 1 < it.readings.len() {
            it.reading += 1;
            return true;
        }
        it.reading = 0;
    }
    false
}

fn deserialize<T: DeserializeOwned>(table: &Table) -> Result<T, Refusal> {
    serde_path_to_error::deserialize(table.clone()).map_err(|wrong| Refusal {
        path: place::segments(wrong.path()),
        message: wrong.inner().message().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Faults, Secret};
    use secrecy::ExposeSecret as _;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tree {
        coordinator: Section,
        #[serde(default)]
        agents: Vec<Agent>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Agent {
        id: String,
        #[serde(default)]
        slots: u8,
        #[serde(default)]
        draft: Option<Draft>,
    }

    /// Buffered by serde, so that errors name no field within.
    #[derive(Debug, Deserialize)]
    #[serde(tag = "mode", rename_all = "lowercase", deny_unknown_fields)]
    enum Draft {
        Cli {
            command: Vec<String>,
            #[serde(default)]
            pass_env: Vec<String>,
        },
    }

    impl Rules for Tree {
        fn faults(&self) -> Faults {
            let mut faults = Faults::default();
            let section = &self.coordinator;
            let enough = section.most.unwrap_or(9) >= section.workers.unwrap_or(0);
            let fields = ["coordinator.most", "coordinator.workers"];
            faults.rule(enough, &fields, "less than workers");
            faults
        }
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Section {
        listen: std::net::SocketAddr,
        #[serde(default)]
        workers: Option<u8>,
        #[serde(default)]
        most: Option<u8>,
        #[serde(default)]
        key: Option<Secret>,
        #[serde(default)]
        secrets: Vec<Secret>,
        #[serde(default)]
        limits: BTreeMap<String, u8>,
    }

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Tree, String> {
        let pairs = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        let source = Source {
            file: "patchfleet.toml",
            text,
        };
        source.parse(pairs).map_err(|error| error.to_string())
    }

    #[test]
    fn an_unknown_field_is_named_with_its_line() {
        let error = read("[coordinator]\nlisten = '127.0.0.1:1'\nwrokers = 3\n", &[]).unwrap_err();
        insta::assert_snapshot!(error, @r"patchfleet.toml:3:1: field `coordinator.wrokers`: unknown field `wrokers`, expected one of `listen`, `workers`, `most`, `key`, `secrets`, `limits`");
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line() {
        let error = read("[coordinator]\n  listen = 'here'\n", &[]).unwrap_err();
        insta::assert_snapshot!(error, @r"patchfleet.toml:2:12: field `coordinator.listen`: invalid socket address syntax");
    }

    #[test]
    fn broken_toml_is_named_with_its_line() {
        let error = read("[coordinator]\nlisten = \n", &[]).unwrap_err();
        insta::assert_snapshot!(error, @r"patchfleet.toml:2:10: string values must be quoted, expected literal string");
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let good = "[coordinator]\nlisten = '127.0.0.1:1'\n";
        let error = read(good, &[("PATCHFLEET__COORDINATOR__WORKERS", "many")]).unwrap_err();
        insta::assert_snapshot!(error, @r#"environment variable PATCHFLEET__COORDINATOR__WORKERS: invalid type: string "many", expected u8"#);
    }

    #[test]
    fn the_environment_wins() {
        let text = "[coordinator]\nlisten = '127.0.0.1:1'\nworkers = 1\n";
        let variables = [
            ("PATCHFLEET__COORDINATOR__WORKERS", "7"),
            ("PATCHFLEET__COORDINATOR__LISTEN", "127.0.0.1:2"),
        ];
        let tree = read(text, &variables).unwrap();
        assert_eq!(
            (tree.coordinator.workers, tree.coordinator.listen.port()),
            (Some(7), 2)
        );
    }

    const GOOD: &str = "[coordinator]\nlisten = '127.0.0.1:1'\n\n[[agents]]\nid = 'general-1'\n\n[[agents]]\nid = 'b'\n\n[agents.draft]\nmode = 'cli'\ncommand = ['old']\n";

    fn revealed(secret: &Secret) -> String {
        secret.reveal("test").unwrap().expose_secret().to_owned()
    }

    #[test]
    fn a_value_is_what_its_field_takes() {
        for key in ["1234567890", "2026-11-25", "true", "1e5", "[a", "{ a = 1 }"] {
            let tree = read(GOOD, &[("PATCHFLEET__COORDINATOR__KEY", key)]).unwrap();
            assert_eq!(revealed(&tree.coordinator.key.unwrap()), key);
        }
        for (text, expected) in [
            ("abc", vec!["abc"]),
            ("7", vec!["7"]),
            (r#"["a", "b"]"#, vec!["a", "b"]),
        ] {
            let tree = read(GOOD, &[("PATCHFLEET__COORDINATOR__SECRETS", text)]).unwrap();
            let secrets: Vec<_> = tree.coordinator.secrets.iter().map(revealed).collect();
            assert_eq!(secrets, expected);
        }
        let limits = [(
            "PATCHFLEET__COORDINATOR__LIMITS",
            r#"{ "Acme/Orders" = 2 }"#,
        )];
        assert_eq!(
            read(GOOD, &limits).unwrap().coordinator.limits["Acme/Orders"],
            2
        );
    }

    #[test]
    fn a_field_of_an_agent_is_set_by_its_number_or_its_id() {
        let variables = [
            ("PATCHFLEET__AGENTS__0__SLOTS", "3"),
            ("PATCHFLEET__AGENTS__B__SLOTS", "4"),
            ("PATCHFLEET__AGENTS__B__DRAFT__COMMAND", "mytool"),
            ("PATCHFLEET__AGENTS__B__DRAFT__PASS_ENV", "KEY"),
            ("PATCHFLEET__AGENTS__2__ID", "new"),
        ];
        let tree = read(GOOD, &variables).unwrap();
        let agents: Vec<_> = tree
            .agents
            .iter()
            .map(|it| (it.id.as_str(), it.slots))
            .collect();
        assert_eq!(agents, [("general-1", 3), ("b", 4), ("new", 0)]);
        let Some(Draft::Cli { command, pass_env }) = &tree.agents[1].draft else {
            panic!("{tree:?}");
        };
        assert_eq!(
            (command[0].as_str(), pass_env[0].as_str()),
            ("mytool", "KEY")
        );
        let by_id = [("PATCHFLEET__AGENTS__GENERAL_1__SLOTS", "5")];
        assert_eq!(read(GOOD, &by_id).unwrap().agents[0].slots, 5);
    }

    #[test]
    fn whatever_a_variable_spoils_names_the_variable() {
        let errors = [
            ("PATCHFLEET__AGENTS__0__SLOTS", "many"),
            ("PATCHFLEET__AGENTS__NOBODY__SLOTS", "3"),
            ("PATCHFLEET__AGENTS__7__SLOTS", "3"),
            ("PATCHFLEET__AGENTS__2__SLOTS", "3"),
            ("PATCHFLEET__AGENTS__B__DRAFT__MODE", "magic"),
            ("PATCHFLEET__CORDINATOR__LISTEN", "x"),
            ("PATCHFLEET__COORDINATOR__MOST", "0"),
        ]
        .map(|variable| {
            let workers = ("PATCHFLEET__COORDINATOR__WORKERS", "1");
            read(GOOD, &[variable, workers]).unwrap_err()
        });
        insta::assert_snapshot!(errors.join("\n"), @r#"
        environment variable PATCHFLEET__AGENTS__0__SLOTS: invalid type: string "many", expected u8
        environment variable PATCHFLEET__AGENTS__NOBODY__SLOTS: there is no entry NOBODY: use its number, counted from 0, or one of GENERAL_1, B
        environment variable PATCHFLEET__AGENTS__7__SLOTS: there is no entry 7: there are 2, counted from 0
        environment variable PATCHFLEET__AGENTS__2__SLOTS: field `agents.2`: missing field `id`
        environment variable PATCHFLEET__AGENTS__B__DRAFT__MODE: unknown variant `magic`, expected `cli`
        environment variable PATCHFLEET__CORDINATOR__LISTEN: field `cordinator`: unknown field `cordinator`, expected `coordinator` or `agents`
        environment variable PATCHFLEET__COORDINATOR__MOST: field `coordinator.most`: less than workers
        "#);
    }

    #[test]
    fn a_broken_rule_is_named_with_its_line() {
        let text = "[coordinator]\nlisten = '127.0.0.1:1'\nworkers = 12\n";
        let error = read(text, &[]).unwrap_err();
        insta::assert_snapshot!(error, @"patchfleet.toml:3:11: field `coordinator.most`: less than workers");
        let error = read(&format!("{text}most = 3\n"), &[]).unwrap_err();
        insta::assert_snapshot!(error, @"patchfleet.toml:4:8: field `coordinator.most`: less than workers");
    }

    #[test]
    fn a_fault_of_the_file_is_found_although_a_variable_fills_another_gap() {
        let text = "[coordinator]\nworkers = 'many'\n";
        let listen = [("PATCHFLEET__COORDINATOR__LISTEN", "127.0.0.1:1")];
        let error = read(text, &listen).unwrap_err();
        insta::assert_snapshot!(error, @r#"patchfleet.toml:2:11: field `coordinator.workers`: invalid type: string "many", expected u8"#);
    }
}
