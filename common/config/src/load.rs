//! File and environment to a typed tree; what is wrong is said with file, line and field.

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Table;

use crate::environment::{Override, apply, overrides};

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

/// Reads the file, lays the environment over it and gives the typed tree.
///
/// # Errors
/// [`ConfigError`], which says what is wrong, where, and what would be accepted.
pub fn load<T: DeserializeOwned>(file: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|error| ConfigError::Unreadable {
        file: file.display().to_string(),
        reason: error.to_string(),
    })?;
    parse(
        &file.display().to_string(),
        &text,
        &overrides(std::env::vars()),
    )
}

fn parse<T: DeserializeOwned>(
    file: &str,
    text: &str,
    overrides: &[Override],
) -> Result<T, ConfigError> {
    let mut table: Table =
        toml::from_str(text).map_err(|error| in_file(file, text, None, &error))?;
    apply(&mut table, overrides);
    let wrong = match serde_path_to_error::deserialize::<_, T>(table) {
        Ok(tree) => return Ok(tree),
        Err(wrong) => wrong,
    };
    let field = wrong.path().to_string();
    let message = wrong.inner().message().to_owned();
    if let Some(culprit) = overrides.iter().find(|it| field.starts_with(&it.field())) {
        return Err(ConfigError::Environment {
            variable: culprit.variable.clone(),
            message,
        });
    }
    // The merged tree has no lines; the file alone has, unless the fault shows only in the whole.
    match serde_path_to_error::deserialize::<_, T>(
        toml::Deserializer::parse(text).map_err(|error| in_file(file, text, None, &error))?,
    ) {
        Err(alone) => {
            let field = alone.path().to_string();
            Err(in_file(file, text, Some(field), alone.inner()))
        }
        Ok(_) => Err(ConfigError::Field {
            file: file.to_owned(),
            field,
            message,
        }),
    }
}

/// An error with its place in the file, and the field unless the message names it already.
fn in_file(file: &str, text: &str, field: Option<String>, error: &toml::de::Error) -> ConfigError {
    let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let message = match field.filter(|field| field != ".") {
        Some(field) => format!("field `{field}`: {}", error.message()),
        None => error.message().to_owned(),
    };
    ConfigError::Invalid {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tree {
        coordinator: Section,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Section {
        listen: std::net::SocketAddr,
        #[serde(default)]
        workers: Option<u8>,
    }

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Tree, String> {
        let pairs = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        parse("patchfleet.toml", text, &overrides(pairs)).map_err(|error| error.to_string())
    }

    #[test]
    fn an_unknown_field_is_named_with_its_line() {
        let error = read("[coordinator]\nlisten = '127.0.0.1:1'\nwrokers = 3\n", &[]).unwrap_err();
        insta::assert_snapshot!(error, @r"patchfleet.toml:3:1: field `coordinator.wrokers`: unknown field `wrokers`, expected `listen` or `workers`");
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
}
