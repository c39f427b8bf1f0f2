//! Paths of the agent's host, which nobody else has to know.
//!
//! Reasons, output and summaries leave the agent for the coordinator's API and for GitHub, where
//! strangers read them. Each passes [`HostPaths::hide`] on its way: what lies in a work tree is
//! named as in the repository, other folders of the agent by a placeholder. The agent's own log,
//! `/status` and `doctor` keep the paths, as operators need them. Absent: paths of the system
//! (`/usr/bin/git`), which are the same everywhere.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::command_paths::absolute_paths;
use crate::config::{AgentConfig, DraftConfig};

/// A task's folder on whichever host: a checkpoint quotes paths of the agent that wrote it.
static TASK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"/[^\s:'"`=,;()<>]*?(/[^/\s]+/tasks/task-[0-9a-f-]{36})"#).expect(CONSTANT)
});
/// A work tree below the root of all workspaces.
static WORK_TREE: LazyLock<Regex> = LazyLock::new(|| {
    let below = r"/[^/\s]+/tasks/task-[0-9a-f-]{36}/repo-clone(/?)";
    Regex::new(&format!("{WORKSPACES}{below}")).expect(CONSTANT)
});
/// Why making a pattern can't fail.
const CONSTANT: &str = "a constant that tests use";

/// What stands for the root of all workspaces.
const WORKSPACES: &str = "<workspaces>";

/// The folders and programs of one agent's configuration, and what stands for them.
#[derive(Debug, Default)]
pub(crate) struct HostPaths {
    /// The longest first, so that a folder in another one keeps its own name.
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    path: String,
    name: Cow<'static, str>,
    /// A single word such as `/root`, which relative paths contain as well.
    is_short: bool,
}

impl HostPaths {
    pub(crate) fn of(config: &AgentConfig) -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let program = std::env::current_exe().ok();
        Self::with(config, home.as_deref(), program.as_deref())
    }

    fn with(config: &AgentConfig, home: Option<&Path>, program: Option<&Path>) -> Self {
        let mut places = Vec::new();
        let mut add = |path: &Path, name: Cow<'static, str>| {
            let canonical = path.canonicalize().ok();
            for path in std::path::absolute(path).into_iter().chain(canonical) {
                places.extend(Place::new(&path, name.clone()));
            }
        };
        add(&config.workspace.root, WORKSPACES.into());
        if let DraftConfig::Replay { replay_dir } = &config.draft {
            add(replay_dir, "<replay_dir>".into());
        }
        if let Some(home) = home {
            add(home, "~".into());
        }
        let draft = config.draft.cli().map_or(&[][..], |it| &it.command);
        let tests = config.tests.command.as_deref().unwrap_or_default();
        // What has a relative path is the repository's own, or found on the PATH.
        let named = absolute_paths(draft).chain(absolute_paths(tests));
        let named = named.filter(|path| !is_everywhere(path));
        for path in named.chain(program.map(Path::to_owned)) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.into_owned();
            add(&path, name.into());
        }
        places.sort_by_key(|place| std::cmp::Reverse(place.path.len()));
        Self { places }
    }

    /// The text as it may leave the agent.
    pub(crate) fn hide(&self, text: &str) -> String {
        let clean = self.named(text);
        let clean = TASK.replace_all(&clean, format!("{WORKSPACES}$1"));
        let in_repository = |found: &Captures<'_>| if found[1].is_empty() { "." } else { "" };
        WORK_TREE.replace_all(&clean, in_repository).into_owned()
    }

    /// The text with the names of this agent's places.
    fn named(&self, text: &str) -> String {
        let mut clean = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((at, place)) = self.first(rest, &clean) {
            clean.push_str(&rest[..at]);
            clean.push_str(&place.name);
            rest = &rest[at + place.path.len()..];
        }
        clean.push_str(rest);
        clean
    }

    /// The first place that the text names, and where it does so; `before` is what was before it.
    fn first(&self, text: &str, before: &str) -> Option<(usize, &Place)> {
        let found = self.places.iter().filter_map(|place| {
            let at = place.find(text, before)?;
            Some((at, place))
        });
        // Of those at one position the longest stands first.
        found.min_by_key(|(at, _)| *at)
    }
}

/// Whether a path says nothing of the host, as `/tmp` and `/dev/null`.
fn is_everywhere(path: &Path) -> bool {
    let made = ["/dev", "/proc", "/sys"];
    path.components().count() <= 2 || made.iter().any(|folder| path.starts_with(folder))
}

impl Place {
    /// Nothing for the root of all folders, which says nothing of the host.
    fn new(path: &Path, name: Cow<'static, str>) -> Option<Self> {
        let parts = path.components();
        let parts = parts.filter(|part| matches!(part, Component::Normal(_)));
        let parts = parts.count();
        let path = path.to_str()?.trim_end_matches('/');
        (parts > 0).then(|| Self {
            path: path.to_owned(),
            name,
            is_short: parts == 1,
        })
    }

    fn find(&self, text: &str, before: &str) -> Option<usize> {
        let mut found = text.match_indices(&self.path);
        let at = found.find(|(at, path)| {
            let ends = ends_a_path(&text[at + path.len()..]);
            let last = text[..*at]
                .chars()
                .next_back()
                .or(before.chars().next_back());
            ends && !(self.is_short && last.is_some_and(continues_a_name))
        });
        at.map(|(at, _)| at)
    }
}

/// Whether a path that this follows ends there, or goes on below it: `/srv/a` is neither `/srv/ab`
/// nor `/srv/a.b`, but may end a sentence.
fn ends_a_path(rest: &str) -> bool {
    let mut rest = rest.chars();
    match rest.next() {
        Some('.') => !rest.next().is_some_and(continues_a_name),
        next => !next.is_some_and(continues_a_name),
    }
}

fn continues_a_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TASK_FOLDER: &str =
        "/srv/fleet/work/general-1/tasks/task-01975bd2-5ad0-7cc4-a7d4-1f0f2d1a5c11";

    fn paths(draft: &serde_json::Value) -> HostPaths {
        let config = serde_json::from_value(json!({
            "id": "general-1",
            "type": "general",
            "coordinator": {"url": "http://127.0.0.1:1", "key": "fleet-key"},
            "workspace": {"root": "/srv/fleet/work"},
            "draft": draft,
            "tests": {"command": ["bash", "-c", "X=/srv/ci/acme/run.sh; exec $X 2>/dev/null"]},
        }));
        let home = Some(Path::new("/srv/fleet"));
        let program = Some(Path::new("/opt/fleet/bin/patchfleet"));
        HostPaths::with(&config.unwrap(), home, program)
    }

    fn hidden(text: &str) -> String {
        let tool = json!({"mode": "cli", "command": ["/opt/tools/coder", "--now"]});
        paths(&tool).hide(text)
    }

    #[test]
    fn what_lies_in_a_work_tree_is_named_as_in_the_repository() {
        for (rest, expected) in [
            ("/src/a.py:3: no", "src/a.py:3: no"),
            ("/.git/index.lock", ".git/index.lock"),
            (": it is gone", ".: it is gone"),
            ("' is no repository", ".' is no repository"),
            ("/", ""),
            ("", "."),
        ] {
            let text = format!("at {TASK_FOLDER}/repo-clone{rest}");
            assert_eq!(hidden(&text), format!("at {expected}"));
        }
        let twice = format!("{TASK_FOLDER}/repo-clone/a {TASK_FOLDER}/repo-clone/b");
        assert_eq!(hidden(&twice), "a b");
    }

    #[test]
    fn other_folders_and_programs_of_the_agent_have_a_name_that_tells_nothing_of_the_host() {
        for (text, expected) in [
            (
                "/srv/fleet/work can't be written",
                "<workspaces> can't be written",
            ),
            ("`/srv/fleet/work`.", "`<workspaces>`."),
            ("in /srv/fleet/work.", "in <workspaces>."),
            (
                "/srv/fleet/work/general-1/shared/cache/a.git",
                "<workspaces>/general-1/shared/cache/a.git",
            ),
            (
                "file:///srv/fleet/work/x -I/srv/fleet/work/y",
                "file://<workspaces>/x -I<workspaces>/y",
            ),
            ("/srv/fleet/.netrc", "~/.netrc"),
            ("/opt/tools/coder does not exist", "coder does not exist"),
            ("/opt/fleet/bin/patchfleet: exec", "patchfleet: exec"),
            (
                "bash -c X=/srv/ci/acme/run.sh; exec $X 2>/dev/null",
                "bash -c X=run.sh; exec $X 2>/dev/null",
            ),
        ] {
            assert_eq!(hidden(text), expected);
        }
        let replay = json!({"mode": "replay", "replay_dir": "/srv/fleet/drafts"});
        let text = paths(&replay).hide("the recorded drafts in /srv/fleet/drafts can't be read");
        assert_eq!(text, "the recorded drafts in <replay_dir> can't be read");
    }

    #[test]
    fn what_another_agent_left_in_a_checkpoint_tells_nothing_of_its_host_either() {
        let task = TASK_FOLDER.trim_start_matches("/srv/fleet/work");
        let text =
            format!("E /home/ann/w{task}/repo-clone/a.py:1 in x:/home/ann/w{task}/tests/home");
        let expected = format!("E a.py:1 in x:<workspaces>{task}/tests/home");
        assert_eq!(hidden(&text), expected);
    }

    #[test]
    fn other_paths_stay_as_they_are() {
        for text in [
            "/srv/fleet-2/a /srv/fleets /srv/fleet.d/b",
            "/usr/bin/git: no",
            "src/work/a.py",
            "",
        ] {
            assert_eq!(hidden(text), text);
        }
    }

    #[test]
    fn a_folder_at_the_top_is_not_looked_for_in_other_paths() {
        let config = json!({
            "id": "general-1",
            "type": "general",
            "coordinator": {"url": "http://127.0.0.1:1", "key": "fleet-key"},
            "workspace": {"root": "/"},
            "draft": {"mode": "replay", "replay_dir": "/"},
        });
        let config = serde_json::from_value(config).unwrap();
        let paths = HostPaths::with(&config, Some(Path::new("/root")), None);
        let text = "tests/root/a.py /root/.npmrc \"/root\" /usr/lib/root";
        let expected = "tests/root/a.py ~/.npmrc \"~\" /usr/lib/root";
        assert_eq!(paths.hide(text), expected);
    }
}
