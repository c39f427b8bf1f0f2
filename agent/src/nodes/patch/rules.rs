//! What a draft must not touch.

use std::sync::LazyLock;

use crate::repository_config::{Globs, RepositoryConfig};

/// Files that say what runs on GitHub or what agents are told. Compared in lower case, because
/// some work trees do not tell case apart.
const PROTECTED: &[&str] = &[
    ".github/workflows/**",
    ".github/actions/**",
    ".github/instructions/**",
    ".github/copilot-instructions.md",
    ".github/codeowners",
    "codeowners",
    "docs/codeowners",
    ".gitlab-ci.yml",
    ".circleci/**",
    "azure-pipelines.yml",
    "jenkinsfile",
    ".patchfleet.yaml",
    ".gitmodules",
    "**/agents.md",
    "**/claude.md",
    "**/gemini.md",
    "**/.cursorrules",
    "**/.windsurfrules",
    "**/.clinerules",
    "**/.claude/**",
    "**/.cursor/**",
];

static ALWAYS_PROTECTED: LazyLock<Globs> = LazyLock::new(|| {
    let patterns = PROTECTED
        .iter()
        .map(|&pattern| pattern.to_owned())
        .collect();
    Globs::new(patterns).expect("a test compiles the patterns")
});

/// Why a path must not be touched; `None` when it may.
pub(super) fn refusal(path: &str, config: &RepositoryConfig) -> Option<String> {
    if let Some(reason) = hostile(path) {
        return Some(reason);
    }
    if ALWAYS_PROTECTED.matches(&path.to_lowercase()) || config.protected_paths.matches(path) {
        return Some("the path is protected".to_owned());
    }
    if !config.allowed_paths.is_empty() && !config.allowed_paths.matches(path) {
        let allowed = config.allowed_paths.patterns().join(", ");
        return Some(format!("the path is not among the allowed ones: {allowed}"));
    }
    None
}

/// Why a path can be no file of a repository.
fn hostile(path: &str) -> Option<String> {
    let reason = if path.is_empty() {
        "the path is empty"
    } else if path.len() > 4096 || path.split('/').any(|part| part.len() > 255) {
        "the path is too long"
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
        ] {
            let reason = refusal(path, &plain);
            assert_eq!(reason.as_deref(), Some("the path is protected"), "{path}");
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
