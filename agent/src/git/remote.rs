//! Talking to a remote: clone, fetch, look, push.

use std::collections::BTreeMap;
use std::path::Path;

use secrecy::SecretString;
use url::Url;

use super::error::Talk;
use super::folder::Extent;
use super::{
    Call, Credential, Git, GitError, ObjectId, Repository, absolute, folder, in_background,
};

/// A repository elsewhere, with the right to use it.
#[derive(Debug, Clone)]
pub struct Remote {
    url: String,
    credential: Option<Credential>,
}

impl Remote {
    /// A remote by URL or path. The token is bound to the URL's host, and goes there alone.
    ///
    /// # Errors
    /// When the URL carries a password, which would end up in arguments and on disk, or when a
    /// token would go over a network without encryption.
    pub fn new(url: &str, token: Option<SecretString>) -> Result<Self, GitError> {
        if let Ok(parsed) = Url::parse(url)
            && (parsed.password().is_some() || !parsed.username().is_empty())
        {
            let mut bare = parsed;
            let _ = bare.set_password(None);
            let _ = bare.set_username("");
            return Err(GitError::CloneFailed {
                url: bare.to_string(),
                reason: "a clone URL must not carry a user or a password".to_owned(),
            });
        }
        if url.starts_with('-') || url.contains('\0') {
            return Err(GitError::CloneFailed {
                url: url.to_owned(),
                reason: "it is not a URL".to_owned(),
            });
        }
        let credential = token.map(|token| Credential::for_url(url, token));
        let credential = credential.transpose().map_err(|_| GitError::CloneFailed {
            url: url.to_owned(),
            reason: "a token is never sent without encryption; have the repository cloned over \
                     https"
                .to_owned(),
        })?;
        Ok(Self {
            url: url.to_owned(),
            credential: credential.flatten(),
        })
    }

    /// The URL, without credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// True when the remote speaks HTTP, so that a token is of use.
    pub fn takes_token(url: &str) -> bool {
        Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
    }

    /// The right to use it.
    pub(super) const fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }

    /// The protocols that git may speak on the way there; a redirection to another one fails.
    pub(super) fn protocols(&self) -> &'static str {
        match self.url.split_once(':') {
            Some(("https", _)) => "https",
            Some(("http", _)) => "http:https",
            _ => "file",
        }
    }

    pub(super) fn redact(&self, text: &str) -> String {
        match &self.credential {
            Some(credential) => credential.redact(text),
            None => text.to_owned(),
        }
    }
}

impl Git {
    /// Clones branches and tags into a new bare repository.
    ///
    /// # Errors
    /// When the remote can't be read or does not answer.
    pub async fn clone_bare(&self, remote: &Remote, dir: &Path) -> Result<Repository, GitError> {
        let mut call = Call::outside([
            "clone",
            "--quiet",
            "--bare",
            "--template=",
            "--",
            remote.url(),
        ]);
        call.args.push(absolute(dir)?);
        self.run(call.about(remote, Talk::Fetch)).await?;
        Ok(self.repository(dir))
    }
}

impl Repository {
    /// Fetches by refspecs; with `prune`, what is gone there goes here.
    ///
    /// # Errors
    /// When the remote can't be read or does not answer.
    pub async fn fetch(
        &self,
        remote: &Remote,
        refspecs: &[&str],
        prune: bool,
    ) -> Result<(), GitError> {
        if self.extent == Extent::Partial {
            return self.fetch_partial(remote, refspecs, prune).await;
        }
        let mut args = vec![
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--force",
        ];
        args.extend(prune.then_some("--prune"));
        args.extend(["--", remote.url()]);
        args.extend(refspecs);
        let call = self.call(args).about(remote, Talk::Fetch);
        self.git.run(call).await.map(drop)
    }

    /// Fetches by refspecs and prunes, into a repository that nobody else fetches into: what a
    /// killed git left locked is unlocked first.
    ///
    /// # Errors
    /// When the remote can't be read or does not answer, or the repository can't be written.
    pub async fn refresh(&self, remote: &Remote, refspecs: &[&str]) -> Result<(), GitError> {
        let dir = self.dir.clone();
        in_background("unlocking a mirror", move || folder::unlock(&dir)).await?;
        self.fetch(remote, refspecs, true).await?;
        // All objects are there in many files as well; the next time may succeed.
        if let Err(error) = self.pack().await {
            tracing::warn!(%error, repository = %self.dir.display(), "objects can't be packed");
        }
        Ok(())
    }

    /// False when it is proven that the repository lacks objects or can't be read.
    ///
    /// # Errors
    /// When git can't be run.
    pub async fn is_sound(&self) -> Result<bool, GitError> {
        let call = self.call([
            "fsck",
            "--connectivity-only",
            "--no-dangling",
            "--no-progress",
        ]);
        let finished = self.git.run_any(call).await?;
        Ok(finished.succeeded() || finished.timed_out)
    }

    /// Where the remote's refs stand; absent ones are left out.
    ///
    /// # Errors
    /// When the remote can't be read or does not answer.
    pub async fn remote_refs(
        &self,
        remote: &Remote,
        refs: &[&str],
    ) -> Result<BTreeMap<String, ObjectId>, GitError> {
        let mut args = vec!["ls-remote", "--quiet", "--", remote.url()];
        args.extend(refs);
        let listing = self
            .output(self.call(args).about(remote, Talk::Fetch))
            .await?;
        let mut found = BTreeMap::new();
        for (id, name) in listing.lines().filter_map(|line| line.split_once('\t')) {
            // A pattern also matches the tail of longer names.
            if refs.contains(&name) {
                found.insert(name.to_owned(), id.parse()?);
            }
        }
        Ok(found)
    }

    /// The remote's default branch as it is now; nothing when the remote names none.
    ///
    /// # Errors
    /// When the remote can't be read or does not answer.
    pub async fn default_branch(&self, remote: &Remote) -> Result<Option<String>, GitError> {
        let args = [
            "ls-remote",
            "--quiet",
            "--symref",
            "--",
            remote.url(),
            "HEAD",
        ];
        let listing = self
            .output(self.call(args).about(remote, Talk::Fetch))
            .await?;
        let head = listing.lines().find_map(|line| {
            let (target, name) = line.strip_prefix("ref: ")?.split_once('\t')?;
            let branch = target.strip_prefix("refs/heads/")?;
            (name == "HEAD").then(|| branch.to_owned())
        });
        Ok(head)
    }

    /// Sets the remote's branch to a commit, if it stands where `expected` says: at that commit,
    /// or nowhere.
    ///
    /// # Errors
    /// [`GitError::LeaseLost`] when it stands elsewhere; [`GitError::PushRefused`] when the
    /// remote says no.
    pub async fn push(
        &self,
        remote: &Remote,
        commit: &ObjectId,
        branch: &str,
        expected: Option<&ObjectId>,
    ) -> Result<(), GitError> {
        let seen = expected.map_or("", ObjectId::as_str);
        let lease = format!("--force-with-lease=refs/heads/{branch}:{seen}");
        let refspec = format!("{commit}:refs/heads/{branch}");
        let args = [
            "push",
            "--porcelain",
            "--no-verify",
            &lease,
            "--",
            remote.url(),
            &refspec,
        ];
        let call = self.call(args).about(remote, Talk::Push);
        self.git.run(call).await.map(drop)
    }
}
