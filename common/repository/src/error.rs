//! What is wrong with the file, and where.

use patchfleet_domain::FailureKind;
use patchfleet_domain::outcome::Failure;

use super::FILES;

/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 256 * 1024;

/// What a repository has at the file's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// Another repository's commit.
    Submodule,
    /// A file.
    File {
        /// How many bytes it has.
        size: u64,
    },
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

impl ConfigError {
    pub(super) fn from_yaml(error: &yaml_serde::Error) -> Self {
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

    /// An error whose place in the file is not known.
    pub(super) fn somewhere(message: &str) -> Self {
        Self {
            file: FILES[0],
            position: None,
            message: message.to_owned(),
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
    pub fn check_place(file: &'static str, found: Found) -> Result<(), Self> {
        let message = match found {
            Found::Folder => "it is a folder, and has to be a file".to_owned(),
            Found::Symlink => "it is a symbolic link, and has to be a file".to_owned(),
            Found::Submodule => "it is a submodule, and has to be a file".to_owned(),
            Found::File { size } if size > MAX_BYTES => {
                format!("it has {size} bytes; at most {MAX_BYTES} are read")
            }
            Found::File { .. } => return Ok(()),
        };
        Err(Self::somewhere(&message).in_file(file))
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
