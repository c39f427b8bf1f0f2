//! Landlock: what of the files that the sandbox shows may be written, whatever mounts say.
//!
//! The mount namespace decides what is seen; this layer keeps holding when a mount is mistaken. It
//! also keeps the command from other processes of the sandbox's own (bubblewrap's reaper has the
//! same user): a process may not look into one outside of its Landlock domain, nor signal it.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetStatus, Scope,
};

use super::plan::{Access, Plan};

/// What every kernel has to keep; it is not isolated otherwise. Linux 5.13.
const NEEDED: ABI = ABI::V1;
/// What is kept where the kernel can: Linux 6.12 (signals and abstract sockets).
const WANTED: ABI = ABI::V6;

/// Restricts this process for good.
pub(super) fn restrict(plan: &Plan) -> Result<(), String> {
    let restricted = rules(plan).and_then(|rules| rules.restrict_self().map_err(text));
    match restricted?.ruleset {
        RulesetStatus::NotEnforced if plan.needs_landlock => {
            Err("the kernel has no Landlock, or it is off".to_owned())
        }
        RulesetStatus::NotEnforced
        | RulesetStatus::FullyEnforced
        | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

fn rules(plan: &Plan) -> Result<RulesetCreated, String> {
    let needed = if plan.needs_landlock {
        CompatLevel::HardRequirement
    } else {
        CompatLevel::BestEffort
    };
    let created = Ruleset::default()
        .set_compatibility(needed)
        .handle_access(AccessFs::from_all(NEEDED))
        .map_err(text)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))
        .map_err(text)?
        .scope(Scope::from_all(WANTED))
        .map_err(text)?
        .create()
        .map_err(text)?;
    let everything = AccessFs::from_all(WANTED);
    let existing = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::IoctlDev;
    let writable = plan
        .mounts
        .iter()
        .filter(|it| it.access == Access::Writable);
    let writable = writable.map(|mount| (mount.target.as_path(), everything));
    let memory = ["/tmp", "/dev/shm"].map(|folder| (Path::new(folder), everything));
    let made = ["/dev", "/proc"].map(|folder| (Path::new(folder), existing));
    let shown = [(Path::new("/"), AccessFs::from_read(WANTED))];
    let all = shown.into_iter().chain(made).chain(memory).chain(writable);
    all.into_iter().try_fold(created, |rules, (path, access)| {
        rules.add_rule(rule(path, access)?).map_err(text)
    })
}

fn rule(path: &Path, access: BitFlags<AccessFs>) -> Result<PathBeneath<PathFd>, String> {
    Ok(PathBeneath::new(PathFd::new(path).map_err(text)?, access))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
