//! Any process may be killed at any moment; started again, the task is completed with exactly one
//! pull request, and what was checkpointed is not paid for again.

use std::time::Duration;

use patchfleet_testkit::github::{Gate, Matcher};

use crate::world::{DraftGate, Kept, Part, Plan, World};

/// When the victim is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The delivery was answered; nothing else is sure.
    Delivered,
    /// The repository is being fetched.
    Clone,
    /// Dependencies are installed.
    Setup,
    /// The draft command runs.
    Draft,
    /// The tests of the change run.
    Test,
    /// The branch is about to be pushed.
    Push,
    /// The branch was pushed, and nobody was told.
    Pushed,
    /// The pull request is about to be opened.
    PullRequest,
    /// The pull request was opened, and nobody was told.
    PullRequested,
    /// The status comment was written, and nobody was told.
    Commented,
}

/// What holds the system at the moment.
enum Held {
    Nowhere,
    AtGitHub(Gate),
    InDraft(DraftGate),
    /// By a command in a work tree that says so by this file.
    InWorkTree(&'static str),
}

/// A setup that waits.
const SETUP: &str = r#"setup: ["python3 -c \"import os, time; open('begun-setup', 'w').close(); [time.sleep(0.02) for _ in iter(lambda: os.path.exists(os.path.expanduser('~/go')), True)]\""]
test: python3 -m unittest -v
"#;
/// Tests that wait where the change is in.
const TESTS: &str = "import os, time, unittest
if '>= least' in open('orders/discounts.py').read():
    open('begun-test', 'w').close()
    while not os.path.exists(os.path.expanduser('~/go')):
        time.sleep(0.02)
unittest.main(module=None, argv=['x', 'discover', '-v'])
";

impl Moment {
    fn hold(self, world: &World) -> Held {
        let github = &world.github;
        let push = Matcher::containing("POST", "git-receive-pack");
        let pulls = Matcher::regex("POST", "/pulls$").unwrap();
        match self {
            Self::Delivered => Held::Nowhere,
            Self::Clone => Held::AtGitHub(github.hold(Matcher::containing("*", "git-upload-pack"))),
            Self::Setup => Held::InWorkTree("begun-setup"),
            Self::Draft => Held::InDraft(world.draft_gate()),
            Self::Test => Held::InWorkTree("begun-test"),
            Self::Push => Held::AtGitHub(github.hold(push)),
            Self::Pushed => Held::AtGitHub(github.hold_after(push)),
            Self::PullRequest => Held::AtGitHub(github.hold(pulls)),
            Self::PullRequested => Held::AtGitHub(github.hold_after(pulls)),
            Self::Commented => {
                Held::AtGitHub(github.hold_after(Matcher::containing("POST", "/comments")))
            }
        }
    }

    /// How many drafts are paid for when the victim dies at this moment.
    fn drafts(self, victim: Part) -> usize {
        if (self, victim) == (Self::Draft, Part::Agent) {
            2
        } else {
            1
        }
    }
}

impl Held {
    async fn reached(&self, world: &World) {
        match self {
            Self::Nowhere => {
                let patience = Duration::from_secs(20);
                world.github.deliveries_settled(patience).await.unwrap();
            }
            Self::AtGitHub(gate) => gate.reached().await,
            Self::InDraft(_) => world.drafting().await,
            Self::InWorkTree(name) => world.begun(name).await,
        }
    }

    fn release(self) {
        match self {
            // Whoever waits in a work tree waits until all are let pass.
            Self::Nowhere | Self::InWorkTree(_) => {}
            Self::AtGitHub(gate) => gate.release(),
            Self::InDraft(gate) => gate.open(),
        }
    }
}

async fn killed(victim: Part, moment: Moment, kept: Kept) {
    let mut world = World::with(Plan {
        kept,
        repository_config: match moment {
            Moment::Setup => Some(SETUP),
            Moment::Test => Some("test: python3 tests/slow.py\n"),
            _ => None,
        },
        more_files: &[("tests/slow.py", TESTS)],
        ..Plan::default()
    })
    .await;
    if moment == Moment::Setup && !world.isolates {
        return;
    }
    let held = moment.hold(&world);
    let issue = world.open();
    world.label(issue);
    held.reached(&world).await;
    world.kill(victim).await;
    held.release();
    world.start(victim).await;
    tokio::select! {
        () = world.let_pass() => {}
        () = world.merge_and_check(issue) => {}
    }
    assert_eq!(world.drafts(), moment.drafts(victim), "drafts paid for");
    world.nothing_is_left().await;
}

macro_rules! kills {
    ($($name:ident: $victim:ident at $moment:ident),+ $(,)?) => {
        mod sqlite {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                killed(Part::$victim, Moment::$moment, Kept::Sqlite).await;
            })+
        }
        mod postgres {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                killed(Part::$victim, Moment::$moment, Kept::Postgres).await;
            })+
        }
    };
}

kills!(
    the_coordinator_after_a_delivery: Coordinator at Delivered,
    the_coordinator_while_the_agent_clones: Coordinator at Clone,
    the_coordinator_while_the_agent_drafts: Coordinator at Draft,
    the_coordinator_while_the_agent_pushes: Coordinator at Push,
    the_coordinator_when_the_push_is_done: Coordinator at Pushed,
    the_coordinator_before_the_pull_request: Coordinator at PullRequest,
    the_coordinator_after_the_pull_request: Coordinator at PullRequested,
    the_coordinator_after_its_comment: Coordinator at Commented,
    the_agent_after_a_delivery: Agent at Delivered,
    the_agent_while_it_clones: Agent at Clone,
    the_agent_while_it_installs: Agent at Setup,
    the_agent_while_it_drafts: Agent at Draft,
    the_agent_while_it_tests: Agent at Test,
    the_agent_while_it_pushes: Agent at Push,
    the_agent_when_its_push_is_done: Agent at Pushed,
    the_agent_before_its_pull_request: Agent at PullRequest,
    the_agent_after_its_pull_request: Agent at PullRequested,
);
