//! Partial clones: history and folders, and of the contents of files those that were asked for.
//!
//! For repositories whose history is too large to be had whole. Git on the command line fetches a
//! missing content whenever it meets one, which makes each command a talk with the remote; libgit2
//! finds it missing. So contents are fetched for whole trees at a time, in one request, before
//! anybody needs them ([`Repository::complete`]), and nothing else fetches any: no address of the
//! remote stands in the repository.
//!
//! Absent: a partial mirror that tasks share. What one of them lacks, none could borrow.

use std::collections::BTreeSet;

use git2::{OdbLookupFlags, Oid};
use tokio_util::sync::CancellationToken;

use super::error::Talk;
use super::folder::Extent;
use super::local::failed;
use super::tree::{EntryKind, files};
use super::{Call, Git, GitError, ObjectId, Remote, Repository, absolute};

const COMPLETING: &str = "completing a partial clone";
/// What a partial clone leaves out.
const FILTER: &str = "--filter=blob:none";
/// The name of the remote in a partial clone's configuration.
const ORIGIN: &str = "origin";
/// Variables that settings of one call are read from.
const URL: &str = "PATCHFLEET_GIT_URL";
const NEGOTIATION: &str = "PATCHFLEET_GIT_NEGOTIATION";

impl Git {
    /// Clones branches and tags with their history into a new bare repository, without the contents
    /// of files. From a server that knows no filters, all of it comes.
    ///
    /// # Errors
    /// When the remote can't be read or does not answer.
    pub async fn clone_blobless(
        &self,
        remote: &Remote,
        dir: &std::path::Path,
    ) -> Result<Repository, GitError> {
        let mut call = Call::outside([
            "clone",
            "--quiet",
            "--bare",
            "--template=",
            FILTER,
            "--",
            remote.url(),
        ]);
        call.args.push(absolute(dir)?);
        self.run(call.about(remote, Talk::Fetch)).await?;
        Ok(Repository {
            extent: Extent::Partial,
            ..self.repository(dir)
        })
    }
}

impl Repository {
    /// The same repository, which lacks what the one lacks that it borrows from.
    pub fn lacking_like(&self, source: &Self) -> Self {
        Self {
            extent: source.extent,
            ..self.clone()
        }
    }

    /// Fetches by refspecs into a partial clone.
    pub(super) async fn fetch_partial(
        &self,
        remote: &Remote,
        refspecs: &[&str],
        prune: bool,
    ) -> Result<(), GitError> {
        let mut args = vec!["--force"];
        args.extend(prune.then_some("--prune"));
        args.push(ORIGIN);
        args.extend(refspecs);
        let call = self.filtered_fetch(remote, &args);
        self.git.run(call).await.map(drop)
    }

    /// Fetches the contents of all files of these commits, as far as they are missing; of a whole
    /// repository none is.
    ///
    /// # Errors
    /// When the remote can't be read, does not answer or no longer has one of them.
    pub async fn complete(&self, remote: &Remote, commits: &[&ObjectId]) -> Result<(), GitError> {
        if self.extent == Extent::Whole {
            return Ok(());
        }
        let missing = self.missing(commits).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let mut call = self.filtered_fetch(remote, &["--stdin", ORIGIN]);
        let lines = missing.iter().map(|id| format!("{id}\n"));
        call.input = lines.collect::<String>().into_bytes();
        self.git.run(call).await?;
        match self.missing(commits).await?.first() {
            None => Ok(()),
            Some(id) => Err(GitError::CloneFailed {
                url: remote.url().to_owned(),
                reason: format!("it did not send the content {id}, which the base names"),
            }),
        }
    }

    /// Fetches what is missing to merge a commit with one that descends from `base`.
    ///
    /// # Errors
    /// The same as those of [`Self::complete`].
    pub async fn complete_for_merge(
        &self,
        remote: &Remote,
        (commit, base): (&ObjectId, &ObjectId),
    ) -> Result<(), GitError> {
        if self.extent == Extent::Whole {
            return Ok(());
        }
        let common = self.merge_base(commit, base).await?;
        let wanted: Vec<_> = [commit].into_iter().chain(common.as_ref()).collect();
        self.complete(remote, &wanted).await
    }

    /// The newest commit that two commits descend from, when there is one.
    async fn merge_base(
        &self,
        one: &ObjectId,
        other: &ObjectId,
    ) -> Result<Option<ObjectId>, GitError> {
        let (one, other) = (one.clone(), other.clone());
        self.local(COMPLETING, move |repository| {
            match repository.merge_base(one.to_oid()?, other.to_oid()?) {
                Ok(id) => Ok(Some(id.into())),
                Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
                Err(error) => Err(GitError::library(COMPLETING, &error)),
            }
        })
        .await
    }

    /// A fetch whose remote is named in the repository's configuration, as partial ones need it,
    /// and whose address is known to this one call.
    fn filtered_fetch<'a>(&'a self, remote: &'a Remote, more: &[&str]) -> Call<'a> {
        let url = format!("--config-env=remote.{ORIGIN}.url={URL}");
        // There is nothing to negotiate: all that is asked for is missing for sure.
        let negotiation = format!("--config-env=fetch.negotiationAlgorithm={NEGOTIATION}");
        let is_by_name = more.contains(&"--stdin");
        let mut args = vec![url.as_str()];
        args.extend(is_by_name.then_some(negotiation.as_str()));
        args.extend([
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--recurse-submodules=no",
            FILTER,
        ]);
        args.extend(more);
        let mut call = self.call(args).about(remote, Talk::Fetch);
        call.env.push((URL, remote.url().into()));
        call.env.push((NEGOTIATION, "noop".into()));
        call
    }

    /// The contents that these commits name and that are not there.
    async fn missing(&self, commits: &[&ObjectId]) -> Result<BTreeSet<Oid>, GitError> {
        let commits: Vec<ObjectId> = commits.iter().map(|&id| id.clone()).collect();
        let cancel: CancellationToken = self.git.cancel.clone();
        self.local(COMPLETING, move |repository| {
            let odb = repository.odb().map_err(failed(COMPLETING))?;
            let mut missing = BTreeSet::new();
            for commit in &commits {
                if cancel.is_cancelled() {
                    return Err(GitError::Interrupted);
                }
                for (_, blob) in files(repository, commit.to_oid()?)? {
                    let is_there = blob.kind == EntryKind::Submodule
                        || odb.exists_ext(blob.id, OdbLookupFlags::NO_REFRESH);
                    if !is_there {
                        missing.insert(blob.id);
                    }
                }
            }
            Ok(missing)
        })
        .await
    }
}
