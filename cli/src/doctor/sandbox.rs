//! Whether this host isolates as an agent's configuration wants it.

use std::time::Duration;

use patchfleet_agent::AgentConfig;
use patchfleet_agent::process::{Spawn, find_program};
use patchfleet_agent::sandbox::{Backend, Sandbox};
use tokio_util::sync::CancellationToken;

use crate::doctor::check::Check;

/// The first bubblewrap without CVE-2026-87766.
const SOUND: (u32, u32) = (0, 12);

/// The sandbox of one agent, tried out.
pub(super) async fn check(config: &AgentConfig, sandbox: &Sandbox) -> Check {
    let name = format!("{}: sandbox", config.id);
    if sandbox.backend() == Backend::None {
        let found = "none: the code of repositories runs without isolation";
        let mend = "leave agents.sandbox.backend and agents.sandbox.required out";
        return Check::notice(name, found, mend);
    }
    match sandbox.check().await {
        Ok(()) => match sandbox.image().await {
            Some(image) => contained(name, &image, sandbox),
            None => isolated(name, &work_trees(config, sandbox).await).await,
        },
        Err(why) if config.sandbox.required => Check::bad(name, why.to_string(), why.mend()),
        Err(why) => {
            let found = format!("{why}; the code of repositories runs without isolation");
            Check::notice(name, found, why.mend())
        }
    }
}

/// Containers that keep runs apart, and the limits that they are not given.
fn contained(name: String, image: &str, sandbox: &Sandbox) -> Check {
    let missing = sandbox.limits_not_enforced();
    let Some((_, why)) = missing.first() else {
        return Check::good(name, format!("container, {image}"));
    };
    let limits = missing.iter().map(|(limit, _)| limit.as_str());
    let limits = limits.collect::<Vec<_>>().join(", ");
    let found = format!("container, {image}; not enforced: {limits}: {why}");
    let mend = "let the engine make control groups (docs/OPERATIONS.md, containers)";
    Check::notice(name, found, mend)
}

async fn isolated(name: String, trees: &str) -> Check {
    let text = bubblewrap().await.unwrap_or_default();
    let found = format!("namespace, {}; {trees}", text.trim());
    match version(&text) {
        Some(version) if version < SOUND => {
            let mend = "0.12 or newer has no CVE-2026-87766, which this program's mounts give no \
                        occasion to: install it when there is a package";
            Check::notice(name, found, mend)
        }
        _ => Check::good(name, found),
    }
}

/// What the work trees of an agent are, and why they are no overlays.
async fn work_trees(config: &AgentConfig, sandbox: &Sandbox) -> String {
    if !config.workspace.overlay {
        return "each work tree is a check-out, as agents.workspace.overlay says".to_owned();
    }
    match sandbox.check_overlay(&config.workspace.root).await {
        Ok(()) => "work trees are overlays".to_owned(),
        Err(why) => format!("each work tree is a check-out: {why}"),
    }
}

async fn bubblewrap() -> Option<String> {
    let spawn = Spawn::new(find_program("bwrap")?, "/")
        .args(["--version"])
        .timeout(Duration::from_secs(10));
    let finished = spawn.run(&CancellationToken::new()).await.ok()?;
    Some(finished.stdout_text())
}

/// Major and minor version in `bubblewrap 0.8.0`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_bubblewrap_prints_them() {
        assert_eq!(version("bubblewrap 0.8.0\n"), Some((0, 8)));
        assert_eq!(version("bubblewrap 0.12.1"), Some((0, 12)));
        assert_eq!(version(""), None);
    }
}
