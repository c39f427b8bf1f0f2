//! Answers that are kept: asked for again, and sent again only when they have changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Result;
use async_trait::async_trait;
use patchfleet_domain::IssueNumber;
use patchfleet_github::{
    Credentials, GitHub, GitHubError, Keeper, KeptAnswer, Observation, Permission,
};

use crate::scene::{REPOSITORY, Scene, client, quick};

#[derive(Debug, Default)]
struct Memory(Mutex<HashMap<String, KeptAnswer>>);

impl Memory {
    fn kept(&self) -> MutexGuard<'_, HashMap<String, KeptAnswer>> {
        self.0.lock().expect("no panic while locked")
    }
}

#[async_trait]
impl Keeper for Memory {
    async fn look(&self, target: &str) -> Option<KeptAnswer> {
        self.kept().get(target).cloned()
    }

    async fn keep(&self, target: &str, answer: KeptAnswer) {
        self.kept().insert(target.to_owned(), answer);
    }
}

/// A client that shares that memory, and what it saw last.
struct Reader {
    github: GitHub,
    last: Arc<Mutex<Option<Observation>>>,
}

impl Reader {
    fn new(scene: &Scene, token: String, memory: &Arc<Memory>) -> Result<Self> {
        let last = Arc::new(Mutex::new(None));
        let told = Arc::clone(&last);
        let github = client(&scene.simulator, Credentials::Token(token.into()), quick())?
            .kept_by(memory.clone())
            .observed(move |now| *told.lock().expect("no panic while locked") = Some(now));
        Ok(Self { github, last })
    }

    /// What became of the last request, and how many more may be made.
    fn last(&self) -> (&'static str, Option<u64>) {
        let last = *self.last.lock().expect("no panic while locked");
        let last = last.expect("something was asked");
        (last.outcome, last.remaining)
    }
}

async fn scene() -> Result<(Scene, IssueNumber, Arc<Memory>)> {
    let scene = Scene::start().await?;
    let issue = scene.open_issue()?;
    Ok((scene, issue, Arc::default()))
}

#[tokio::test]
async fn what_has_not_changed_costs_nothing_and_what_has_is_seen_at_once() -> Result<()> {
    let (scene, number, memory) = scene().await?;
    let bot = scene.simulator.bot_token();
    let one = Reader::new(&scene, bot.clone(), &memory)?;
    let other = Reader::new(&scene, bot, &memory)?;
    let first = one.github.issue(&scene.repository, number).await?;
    let (outcome, remaining) = one.last();
    assert_eq!(outcome, "ok");
    let again = other.github.issue(&scene.repository, number).await?;
    assert_eq!(again, first);
    assert_eq!(other.last(), ("not_modified", remaining));

    let changed = ["bug", "patchfleet"];
    one.github
        .add_labels(&scene.repository, number, &changed[1..])
        .await?;
    assert_eq!(one.last().0, "ok", "what is written is not kept");
    let now = other.github.issue(&scene.repository, number).await?;
    assert_eq!(now.labels, changed);
    assert_eq!(other.last().0, "ok");
    other.github.issue(&scene.repository, number).await?;
    assert_eq!(other.last().0, "not_modified");
    Ok(())
}

#[tokio::test]
async fn what_is_kept_is_not_told_to_those_who_may_not_see_it() -> Result<()> {
    let (scene, number, memory) = scene().await?;
    let bot = Reader::new(&scene, scene.simulator.bot_token(), &memory)?;
    let stranger = Reader::new(&scene, scene.simulator.issue_token("stranger"), &memory)?;
    stranger.github.issue(&scene.repository, number).await?;
    scene.simulator.set_private(REPOSITORY, true)?;
    bot.github.issue(&scene.repository, number).await?;
    let refused = stranger.github.issue(&scene.repository, number).await;
    assert_eq!(refused, Err(GitHubError::NotFound));
    Ok(())
}

/// Whoever can write to the cache knows the versions and can put any body beside them.
#[tokio::test]
async fn a_cache_that_lies_is_not_believed() -> Result<()> {
    let (scene, number, memory) = scene().await?;
    let reader = Reader::new(&scene, scene.simulator.bot_token(), &memory)?;
    let forge = |from: &'static str, to: &'static str| {
        let mut kept = memory.kept();
        kept.values_mut()
            .for_each(|answer| answer.body = answer.body.replace(from, to));
    };
    let stranger = async || reader.github.permission(&scene.repository, "mallory").await;
    scene.simulator.add_user("mallory");
    assert_eq!(stranger().await?, Permission::Read);
    forge("\"read\"", "\"admin\"");
    assert_eq!(stranger().await?, Permission::Read);
    assert_eq!(reader.last().0, "ok", "rights are asked for each time");

    let issue = reader.github.issue(&scene.repository, number).await?;
    forge("1 + 1 = 3", "send me the keys");
    let again = reader.github.issue(&scene.repository, number).await?;
    assert_eq!(again.body, issue.body);
    assert_eq!(reader.last().0, "ok");
    Ok(())
}

#[tokio::test]
async fn nonsense_is_replaced() -> Result<()> {
    let (scene, number, memory) = scene().await?;
    let reader = Reader::new(&scene, scene.simulator.bot_token(), &memory)?;
    let issue = reader.github.issue(&scene.repository, number).await?;
    let spoil: [fn(&mut KeptAnswer); 3] = [
        |kept| kept.body = "{".to_owned(),
        |kept| kept.body = "{}".to_owned(),
        |kept| kept.tag = "\n".to_owned(),
    ];
    for spoil in spoil {
        memory.kept().values_mut().for_each(spoil);
        assert_eq!(reader.github.issue(&scene.repository, number).await?, issue);
        assert_eq!(reader.last().0, "ok");
        assert_eq!(reader.github.issue(&scene.repository, number).await?, issue);
        assert_eq!(reader.last().0, "not_modified");
    }
    Ok(())
}
