//! What every host needs: git, and a system that can tell its load.

use std::time::Duration;

use patchfleet_agent::process::{Spawn, find_program};
use patchfleet_agent::sandbox::{Sandbox, SandboxConfig};
use tokio_util::sync::CancellationToken;

use crate::doctor::check::Check;

/// The oldest git that merges without a worktree (`merge-tree --write-tree`, release notes of
/// 2.38), as the agent does when the base has moved. Configuration through the environment,
/// which keeps tokens off the command line, is older (2.31).
const OLDEST_GIT: (u32, u32) = (2, 38);

/// All of them.
pub(super) async fn checks() -> Vec<Check> {
    vec![git().await, limits().await, python()]
}

async fn git() -> Check {
    let mend = "install it: apt-get install git";
    let spawn = Spawn::new("git", "/")
        .args(["--version"])
        .timeout(Duration::from_secs(10));
    let text = match spawn.run(&CancellationToken::new()).await {
        Ok(finished) => finished.stdout_text(),
        Err(error) => return Check::bad("git", error.to_string(), mend),
    };
    match version(&text) {
        Some(found) if found >= OLDEST_GIT => Check::good("git", text.trim()),
        Some(_) => Check::bad(
            "git",
            text.trim(),
            "2.38 or newer is needed: apt-get install git",
        ),
        None => Check::bad("git", format!("said `{}`", text.trim()), mend),
    }
}

/// Major and minor version in `git version 2.47.3`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(2)?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Whether a run of tests can be kept from using the whole host up.
async fn limits() -> Check {
    let look = || Sandbox::new(&SandboxConfig::default(), []).limits_not_enforced();
    let missing = match tokio::task::spawn_blocking(look).await {
        Ok(missing) => missing,
        Err(error) => return Check::bad("limits", error.to_string(), "report it"),
    };
    if missing.is_empty() {
        return Check::good("limits", "control groups can be made");
    }
    let lines = missing.iter().map(|(limit, why)| {
        let limit = limit.as_str();
        format!("{limit} of a run are not limited ({why})")
    });
    let mend = "give the agent a control group of its own: `Delegate=yes` in its unit, or as \
                docs/OPERATIONS.md says for containers; without, a run can use the host up";
    Check::notice("limits", lines.collect::<Vec<_>>().join("; "), mend)
}

fn python() -> Check {
    let needed = "only the demo and Python repositories need it: apt-get install python3";
    program("python3", needed)
}

/// A program that is good to have.
fn program(name: &'static str, without: &'static str) -> Check {
    match find_program(name) {
        Some(path) => Check::good(name, path.display().to_string()),
        None => Check::notice(name, "not found", without),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_git_prints_them() {
        assert_eq!(version("git version 2.47.3\n"), Some((2, 47)));
        assert_eq!(version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(version("not git"), None);
    }
}
