//! The data folder: made once, then copied.
//!
//! Making it costs more than all the rest of a server's start, and every test starts one. The
//! template lies below the build's `target`; a program that runs elsewhere makes its own.
//!
//! It sorts text as people do, not by bytes: so do the servers that operators have (Debian's packages,
//! the official image, hosted ones), and what only works by bytes has to fail here.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::programs::{Programs, command, finish};

/// The server's superuser.
pub(super) const SUPERUSER: &str = "patchfleet";

/// How a database of this folder sorts text.
const LOCALE: [&str; 3] = ["--locale-provider=icu", "--icu-locale=en-US", "--locale=C"];

/// Makes `data`, a folder that is not there yet.
pub(super) fn make(programs: &Programs, data: &Path) -> anyhow::Result<()> {
    let Some(target) = target() else {
        return init(programs, data);
    };
    let template = target.join(format!("postgres-template-icu-{}", programs.version()));
    let lock = File::create(template.with_extension("lock"))?;
    // Released when the file is closed, which a killed process does, too.
    lock.lock().context("can't lock the template")?;
    if template.join("PG_VERSION").is_file() {
        return copy(&template, data);
    }
    init(programs, data)?;
    let unfinished = template.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    copy(data, &unfinished)?;
    Ok(std::fs::rename(&unfinished, &template)?)
}

fn init(programs: &Programs, data: &Path) -> anyhow::Result<()> {
    let mut command = programs.command("initdb");
    command.arg("-D").arg(data).args(LOCALE).args([
        "--username",
        SUPERUSER,
        "--auth=trust",
        "--encoding=UTF8",
        "--no-sync",
    ]);
    finish(command).map(drop).context(
        "can't make a PostgreSQL that sorts by a language: the tests need version 15 or newer, \
         built with ICU, as distributions build it",
    )
}

/// Copies a folder with its owner and modes, which PostgreSQL is particular about.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut command = command("cp");
    command.arg("-a").arg(from).arg(to);
    finish(command).map(drop)
}

/// The build's folder, if this program lies in one.
fn target() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let target = program.ancestors().find(|it| it.ends_with("target"))?;
    Some(target.to_owned())
}
