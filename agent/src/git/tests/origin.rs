//! A repository elsewhere.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::git::{ObjectId, Remote};
use crate::process::Spawn;

/// A repository elsewhere, made with plain git.
pub(crate) struct Origin {
    folder: TempDir,
}

impl Origin {
    /// A bare repository with one commit on `main`.
    pub(crate) async fn with(files: &[(&str, &str)]) -> Self {
        let origin = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let work = origin.folder.path().join("work");
        std::fs::create_dir(&work).unwrap();
        origin.git(&["init", "-q", "-b", "main", "."]).await;
        origin.commit("first", files).await;
        origin
            .git(&["clone", "-q", "--bare", ".", "../origin.git"])
            .await;
        origin
            .git(&["remote", "add", "origin", "../origin.git"])
            .await;
        origin
    }

    /// Commits a symbolic link.
    pub(crate) async fn link(&self, path: &str, target: &str) {
        let path = self.folder.path().join("work").join(path);
        std::os::unix::fs::symlink(target, path).unwrap();
        self.advance(&[]).await;
    }

    /// Commits a submodule, and says what it wants there in `.gitattributes`.
    pub(crate) async fn submodule(&self, path: &str) {
        let head = self.git(&["rev-parse", "HEAD"]).await;
        let info = format!("160000,{head},{path}");
        self.git(&["update-index", "--add", "--cacheinfo", &info])
            .await;
        self.git(&["commit", "-q", "-m", "submodule"]).await;
        self.git(&["push", "-q", "origin", "main"]).await;
    }

    /// The same history elsewhere.
    pub(crate) async fn copied(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (work, bare) = (folder.path().join("work"), folder.path().join("origin.git"));
        let (work, bare) = (work.to_str().unwrap(), bare.to_str().unwrap());
        self.git(&["clone", "-q", "--no-hardlinks", ".", work])
            .await;
        self.git(&["clone", "-q", "--bare", ".", bare]).await;
        let copy = Self { folder };
        copy.git(&["remote", "set-url", "origin", "../origin.git"])
            .await;
        copy
    }

    /// Commits more files to `main` and pushes.
    pub(crate) async fn advance(&self, files: &[(&str, &str)]) -> ObjectId {
        self.commit("more", files).await;
        self.git(&["push", "-q", "origin", "main"]).await;
        self.git(&["rev-parse", "HEAD"]).await.parse().unwrap()
    }

    async fn commit(&self, message: &str, files: &[(&str, &str)]) {
        for (path, content) in files {
            let path = self.folder.path().join("work").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        self.git(&["add", "-A"]).await;
        self.git(&["commit", "-q", "--allow-empty", "-m", message])
            .await;
    }

    /// Runs git in the work tree that the origin is fed from.
    pub(crate) async fn git(&self, args: &[&str]) -> String {
        Self::git_in(&self.folder.path().join("work"), args).await
    }

    /// Runs git as a person or untrusted code does.
    pub(crate) async fn git_in(folder: &Path, args: &[&str]) -> String {
        let identity = ["-c", "user.name=Mona", "-c", "user.email=mona@example.com"];
        let finished = Spawn::new("git", folder)
            .args(identity)
            .args(args.iter().copied())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            // Packages of git-lfs put filters there.
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .run(&CancellationToken::new())
            .await
            .unwrap();
        assert!(finished.succeeded(), "{args:?}: {}", finished.stderr_text());
        finished.stdout_text().trim().to_owned()
    }

    /// The work tree that the origin is fed from.
    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// The bare repository.
    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("origin.git")
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.dir().display())
    }

    pub(crate) fn remote(&self) -> Remote {
        Remote::new(&self.url(), None).unwrap()
    }

    /// What git says about the bare repository.
    pub(crate) async fn ask(&self, args: &[&str]) -> String {
        let dir = self.dir();
        let mut all = vec!["--git-dir", dir.to_str().unwrap()];
        all.extend(args);
        self.git(&all).await
    }
}
