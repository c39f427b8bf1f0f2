//! Files of a repository's default branch, read without a clone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use patchfleet_domain::RepositoryName;
use serde::Deserialize;

use crate::ask::Ask;
use crate::client::GitHub;
use crate::{GitHubError, GitHubResult};

/// What a folder has under a name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FolderEntry {
    /// Its name.
    pub name: String,
    /// What it is. Lists show submodules as files.
    #[serde(rename = "type")]
    pub kind: ContentKind,
    /// Hash of the blob, of the tree, or of a submodule's commit.
    pub sha: String,
    /// How many bytes a file has.
    pub size: u64,
}

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentKind {
    /// A file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink,
    /// Another repository's commit.
    Submodule,
}

/// What lies at a path, with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContent {
    /// What it is. A link to a file is answered as that file.
    pub kind: ContentKind,
    /// Hash of the blob, or of a submodule's commit.
    pub sha: String,
    /// A file's bytes; none for what is no file.
    pub bytes: Vec<u8>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(rename = "type")]
    kind: ContentKind,
    sha: String,
    #[serde(default)]
    content: String,
}

impl GitHub {
    /// What the root of the default branch has; nothing in a repository without a commit.
    ///
    /// # Errors
    /// What GitHub answers; [`GitHubError::NotFound`] also when the repository can't be read.
    pub async fn root_entries(
        &self,
        repository: &RepositoryName,
    ) -> GitHubResult<Vec<FolderEntry>> {
        let path = [
            "repos",
            repository.owner(),
            repository.name(),
            "contents",
            "",
        ];
        self.ask(repository, &Ask::get(&path)).await
    }

    /// A file in the root of the default branch.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn root_file(
        &self,
        repository: &RepositoryName,
        name: &str,
    ) -> GitHubResult<FileContent> {
        let path = [
            "repos",
            repository.owner(),
            repository.name(),
            "contents",
            name,
        ];
        let answer: Answer = self.ask(repository, &Ask::get(&path)).await?;
        // In lines of sixty characters.
        let text: String = answer.content.split_ascii_whitespace().collect();
        let bytes = BASE64.decode(text);
        let bytes = bytes.map_err(|error| {
            GitHubError::unexpected(format!("the content of `{name}` is no Base64: {error}"))
        })?;
        Ok(FileContent {
            kind: answer.kind,
            sha: answer.sha,
            bytes,
        })
    }
}
