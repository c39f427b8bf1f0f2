//! Whether a coding command line with a profile is there, and new enough.

use std::path::Path;
use std::time::Duration;

use patchfleet_agent::Profile;
use patchfleet_agent::process::Spawn;
use tokio_util::sync::CancellationToken;

use crate::doctor::check::Check;

/// Looks at a program that was found or not; one of an image of containers is not asked its version.
pub(super) async fn check(name: String, found: anyhow::Result<String>, profile: Profile) -> Check {
    let install = format!("`{}`, or mend agents.draft.command", profile.install());
    let path = match found {
        Ok(path) if Path::new(&path).is_absolute() => path,
        found => return Check::of(name, found, &install),
    };
    let said = said(&path).await.unwrap_or_default();
    let oldest = profile.oldest();
    match version(&said) {
        None => {
            let found = format!("{path} does not tell its version by --version");
            Check::notice(name, found, &install)
        }
        Some(version) if is_older(&version, oldest) => Check::bad(
            name,
            format!(
                "{path} is {version}; the profile `{}` needs {oldest}",
                profile.name()
            ),
            &install,
        ),
        Some(version) => Check::good(name, format!("{path}, {version}")),
    }
}

async fn said(path: &str) -> Option<String> {
    let spawn = Spawn::new(path, "/").args(["--version"]);
    // Some of them write into their home at the first start.
    let home = tempfile::tempdir().ok()?;
    let spawn = spawn
        .env("HOME", home.path())
        .timeout(Duration::from_secs(20));
    let finished = spawn.run(&CancellationToken::new()).await.ok()?;
    Some(finished.stdout_text())
}

/// The first word that is a version.
fn version(text: &str) -> Option<String> {
    let is_version =
        |word: &&str| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok());
    text.split_whitespace().find(is_version).map(str::to_owned)
}

fn is_older(version: &str, oldest: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        text.split('.')
            .filter_map(|part| part.parse().ok())
            .collect()
    };
    numbers(version) < numbers(oldest)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::doctor::check::Health;

    #[test]
    fn versions_are_read_as_these_programs_print_them() {
        for (text, expected) in [
            ("2.1.331 (Claude Code)\n", "2.1.331"),
            ("codex-cli 0.169.0\n", "0.169.0"),
            ("aider 0.86.2", "0.86.2"),
        ] {
            assert_eq!(version(text).as_deref(), Some(expected));
        }
        assert_eq!(version("no such thing."), None);
        assert!(is_older("0.99.9", "0.120.0") && !is_older("2.1.0", "2.1.0"));
    }

    #[tokio::test]
    async fn a_program_that_is_missing_or_too_old_is_named_with_what_installs_it() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("codex");
        for (script, health, words) in [
            (
                "echo codex-cli 0.9.1",
                Health::Bad,
                "is 0.9.1; the profile `codex` needs",
            ),
            ("echo codex-cli 9.0.0", Health::Good, "codex, 9.0.0"),
            ("exit 3", Health::Notice, "does not tell its version"),
        ] {
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            let found = Ok(program.display().to_string());
            let check = check("draft command".to_owned(), found, Profile::Codex).await;
            assert_eq!(check.health, health, "{script}");
            assert!(check.found.contains(words), "{}", check.found);
        }
        let missing = Err(anyhow::anyhow!("`codex` is not on the PATH"));
        let check = check("draft command".to_owned(), missing, Profile::Codex).await;
        let mend = check.mend.unwrap_or_default();
        assert!(mend.contains("npm install -g @openai/codex"), "{mend}");
    }
}
