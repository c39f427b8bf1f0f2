//! What a draft must not touch.

use std::fmt::Write as _;
use std::sync::LazyLock;

use patchfleet_repository::{FILES, Globs, RepositoryConfig};

use crate::git::MAX_DEPTH;

/// Files that run without anybody asking for it, or that say what runs or what agents are told:
/// whoever merges a change to code does not expect it to change these. Compared in lower case,
/// because some work trees do not tell case apart.
const PROTECTED: &[&str] = &[
    // Continuous integration.
    ".github/workflows/**",
    ".github/actions/**",
    ".gitlab-ci.yml",
    ".gitlab/ci/**",
    ".circleci/**",
    ".travis.yml",
    ".buildkite/**",
    ".drone.yml",
    ".woodpecker.yml",
    ".woodpecker/**",
    ".gitea/workflows/**",
    ".forgejo/workflows/**",
    ".semaphore/**",
    ".teamcity/**",
    ".cirrus.yml",
    ".appveyor.yml",
    "appveyor.yml",
    "azure-pipelines.{yml,yaml}",
    ".azure-pipelines/**",
    ".azuredevops/**",
    "bitbucket-pipelines.yml",
    "buildspec.{yml,yaml}",
    "cloudbuild.{yml,yaml}",
    "**/jenkinsfile",
    // Who reviews, and what updates by itself.
    ".github/codeowners",
    "codeowners",
    "docs/codeowners",
    ".gitlab/codeowners",
    // Hooks and attributes of git, which run or convert on whoever checks out or commits.
    ".gitmodules",
    "**/.gitattributes",
    "**/.husky/**",
    ".githooks/**",
    "**/.pre-commit-config.{yml,yaml}",
    "**/.pre-commit-hooks.yaml",
    "**/lefthook.{yml,yaml,toml,json}",
    "**/.lefthook.{yml,yaml,toml,json}",
    "**/.lefthook/**",
    "**/.lefthook-local.{yml,yaml}",
    "**/.overcommit.yml",
    "**/.lintstagedrc*",
    // Tasks and containers of editors, and what a shell loads by itself.
    "**/.devcontainer/**",
    "**/.devcontainer.json",
    "**/.vscode/**",
    "**/*.code-workspace",
    "**/.idea/**",
    "**/.fleet/**",
    "**/.zed/**",
    "**/.envrc",
    "**/.gitpod.yml",
    // What agents are told, and the servers and hooks that they start.
    ".patchfleet.{yml,yaml}",
    ".github/instructions/**",
    ".github/prompts/**",
    ".github/chatmodes/**",
    ".github/agents/**",
    ".github/hooks/**",
    ".github/copilot-instructions.md",
    "**/agents.md",
    "**/agents.override.md",
    "**/agent.md",
    "**/claude.md",
    "**/claude.local.md",
    "**/gemini.md",
    "**/qwen.md",
    "**/.mcp.json",
    "**/mcp.json",
    "**/.cursorrules",
    "**/.windsurfrules",
    "**/.clinerules",
    "**/.clinerules/**",
    "**/.roorules",
    "**/.roo/**",
    "**/.rules",
    "**/.goosehints",
    "**/.claude/**",
    "**/.cursor/**",
    "**/.windsurf/**",
    "**/.codex/**",
    "**/.gemini/**",
    "**/.qwen/**",
    "**/.opencode/**",
    "**/opencode.json*",
    "**/.continue/**",
    "**/.amazonq/**",
    "**/.kiro/**",
    "**/.junie/**",
    "**/.augment/**",
    "**/.agents/**",
    "**/.aider*",
];

/// Most allowed patterns that a refusal names.
const NAMED: usize = 20;

/// What no configuration opens: it would open everything else.
const NEVER_OPENED: [&str; 2] = FILES;

static ALWAYS_PROTECTED: LazyLock<Globs> = LazyLock::new(|| {
    let patterns = PROTECTED
        .iter()
        .map(|&pattern| pattern.to_owned())
        .collect();
    Globs::new(patterns).expect("a test compiles the patterns")
});

/// Why a path must not be touched; `None` when it may.
pub(crate) fn refusal(path: &str, config: &RepositoryConfig) -> Option<String> {
    if let Some(reason) = hostile(path) {
        return Some(reason);
    }
    let lower = path.to_lowercase();
    let opened = config.unprotected_paths.matches(path) && !NEVER_OPENED.contains(&lower.as_str());
    if (ALWAYS_PROTECTED.matches(&lower) && !opened) || config.protected_paths.matches(path) {
        return Some("the path is protected".to_owned());
    }
    if !config.allowed_paths.is_empty() && !config.allowed_paths.matches(path) {
        let patterns = config.allowed_paths.patterns();
        let mut allowed = patterns[..patterns.len().min(NAMED)].join(", ");
        if let Some(more @ 1..) = patterns.len().checked_sub(NAMED) {
            let _ = write!(allowed, " and {more} more");
        }
        return Some(format!("the path is not among the allowed ones: {allowed}"));
    }
    None
}

/// Why a path can be no file of a repository.
pub(crate) fn hostile(path: &str) -> Option<String> {
    let reason = if path.is_empty() {
        "the path is empty"
    } else if path.len() > 4096 || path.split('/').any(|part| part.len() > 255) {
        "the path is too long"
    } else if path.split('/').count() > MAX_DEPTH {
        "the path lies too deep"
    } else if path.starts_with('/') || path.starts_with('~') || path.chars().nth(1) == Some(':') {
        "the path is absolute"
    } else if path.contains('\\') || path.chars().any(char::is_control) {
        "the path has a backslash or a control character"
    } else if path.split('/').any(|part| part == "..") {
        "the path leaves the repository"
    } else if path.split('/').any(|part| part.is_empty() || part == ".") {
        "the path is not in its plain form"
    } else if path.split('/').any(is_git) {
        "the path is git's own"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

/// `.git` in the spellings that some file system takes for it.
fn is_git(part: &str) -> bool {
    let visible: String = part.chars().filter(|c| !is_ignored(*c)).collect();
    let plain = visible.to_lowercase();
    let plain = plain
        .split(':')
        .next()
        .unwrap_or_default()
        .trim_end_matches([' ', '.']);
    plain == ".git" || plain == "git~1"
}

/// Characters that HFS+ leaves out of names when it compares them.
fn is_ignored(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> RepositoryConfig {
        RepositoryConfig::parse(text).unwrap()
    }

    #[test]
    fn hostile_paths_are_refused() {
        let plain = RepositoryConfig::default();
        for path in [
            "",
            "/etc/passwd",
            "..",
            "../x",
            "a/../../x",
            "a/..",
            ".git/config",
            "a/.git/hooks/x",
            ".GIT/config",
            ".git./x",
            ".git /x",
            "git~1/config",
            ".g\u{200c}it/config",
            ".git::$INDEX_ALLOCATION/config",
            "C:/x",
            "a\\..\\x",
            "a//b",
            "./a",
            "a/./b",
            "a/",
            "a\nb",
            "a\0b",
            "~/.ssh/x",
        ] {
            assert!(refusal(path, &plain).is_some(), "{path:?} is accepted");
        }
        for path in [
            "a",
            "src/main.rs",
            ".gitignore",
            ".github/dependabot.yml",
            "a..b",
            "ü/ñ x",
        ] {
            assert_eq!(refusal(path, &plain), None, "{path:?}");
        }
    }

    #[test]
    fn protected_paths_are_refused_in_any_case() {
        let plain = RepositoryConfig::default();
        for path in [
            ".github/workflows/ci.yml",
            ".GitHub/Workflows/x/y.yml",
            "AGENTS.md",
            "docs/CLAUDE.md",
            ".patchfleet.yaml",
            ".cursorrules",
            ".github/copilot-instructions.md",
            "Jenkinsfile",
            ".claude/settings.json",
            ".cursor/rules/x.mdc",
            ".gitattributes",
            "src/.gitattributes",
            ".husky/pre-commit",
            "web/.husky/pre-commit",
            ".pre-commit-config.yaml",
            ".devcontainer/devcontainer.json",
            ".vscode/tasks.json",
            ".mcp.json",
            ".clinerules/rule.md",
            ".travis.yml",
            ".buildkite/pipeline.yml",
            "azure-pipelines.yaml",
            "ci/Jenkinsfile",
            "lefthook.yml",
            ".envrc",
            ".idea/runConfigurations/x.xml",
            ".aider.conf.yml",
            ".windsurf/rules/x.md",
        ] {
            let reason = refusal(path, &plain);
            assert_eq!(reason.as_deref(), Some("the path is protected"), "{path}");
        }
    }

    #[test]
    fn ordinary_files_with_similar_names_may_be_touched() {
        let plain = RepositoryConfig::default();
        for path in [
            "docs/agents/list.md",
            "src/vscode/tasks.json",
            "src/hooks/pre_commit.py",
            ".env.example",
            "src/rules",
            "src/fleet/a.rs",
            "Makefile",
            "package.json",
        ] {
            assert_eq!(refusal(path, &plain), None, "{path}");
        }
    }

    #[test]
    fn the_default_branch_may_open_what_is_protected_but_not_its_own_configuration() {
        let config = config(
            "unprotected_paths: ['.vscode/*', '**/.gitattributes', '*.yaml']\nprotected_paths: ['.vscode/keys']\n",
        );
        assert_eq!(refusal(".vscode/tasks.json", &config), None);
        assert_eq!(refusal("a/.gitattributes", &config), None);
        for path in [
            ".vscode/keys",
            ".patchfleet.yaml",
            ".Patchfleet.yaml",
            ".husky/x",
        ] {
            assert!(refusal(path, &config).is_some(), "{path}");
        }
    }

    #[test]
    fn the_repository_narrows_what_may_be_touched() {
        let config = config("allowed_paths: ['src/**']\nprotected_paths: ['src/keys/*']\n");
        assert_eq!(refusal("src/a/b.rs", &config), None);
        assert!(
            refusal("src/keys/a", &config)
                .unwrap()
                .contains("protected")
        );
        assert!(refusal("README.md", &config).unwrap().contains("src/**"));
    }
}
