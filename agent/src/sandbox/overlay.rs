//! Work trees that are overlays: many runs share one read-only check-out, and each has only its own
//! changes.
//!
//! The kernel puts the layers together in the mount namespace of one run, before root is given up. So
//! nothing is ever mounted on the host, and nothing is left when the run's processes are dead. Of
//! the outcome the agent reads the upper layer alone, as plain files: no copies without content are
//! made in it, and what is seen through a folder that was moved is copied (`disk/upper.rs`).

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use tokio_util::sync::CancellationToken;

use super::plan::Layers;
use super::{Isolating, Run, Sandbox, SandboxError, outside, stage};
use crate::disk::{Folder, Kind, Owner, remove_all};

/// The kernel's folder, beside the home of a run.
const WORK: &str = "overlay";
/// Kept whatever the kernel's defaults are. Nothing has to outlive the run's host, so that its end
/// does not wait for the disk.
const OPTIONS: &str = "redirect_dir=on,metacopy=off,index=off,volatile";

/// What a run's work tree is an overlay of.
pub(super) fn layers(run: &Run<'_>) -> Option<Layers> {
    (!run.over.is_empty()).then(|| Layers {
        below: run.over.clone(),
        work: run.private.join(WORK),
    })
}

/// Makes the kernel's folder anew: it keeps one that was used before from being mounted.
pub(super) async fn prepare(layers: &Layers) -> Result<(), SandboxError> {
    let path = layers.work.clone();
    let made = tokio::task::spawn_blocking(move || {
        remove_all(&path)?;
        fs::DirBuilder::new().mode(0o700).create(&path)
    });
    let made = made.await.map_err(io::Error::other).flatten();
    made.map_err(|source| SandboxError::NoFolder {
        path: layers.work.clone(),
        source,
    })
}

/// The layers of an overlay but the upper one, opened.
pub(super) struct Opened {
    below: Vec<File>,
    work: File,
}

/// Opens layers, so that nothing can be swapped between now and then.
pub(super) fn open(layers: &Layers) -> io::Result<Opened> {
    let open = |path: &PathBuf| {
        let opened = outside::open_with(path, outside::FOLDER);
        opened.map_err(|error| {
            let path = path.display();
            io::Error::new(error.kind(), format!("{path}: {error}"))
        })
    };
    Ok(Opened {
        below: layers.below.iter().map(open).collect::<Result<_, _>>()?,
        work: open(&layers.work)?,
    })
}

/// Mounts the overlay with this upper layer at a place, and opens it.
pub(super) fn mount(upper: &File, layers: &Opened, place: &Path) -> io::Result<File> {
    // By descriptor: a path may hold what separates options, and be as long as it likes.
    let own = |file: &File| stage::own(file.as_raw_fd());
    let below: Vec<_> = layers.below.iter().map(own).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},{OPTIONS}",
        below.join(":"),
        own(upper),
        own(&layers.work)
    );
    fs::create_dir(place)?;
    let (kind, flags) = (Some("overlay"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
    let mounted = nix::mount::mount(kind, place, kind, flags, Some(options.as_str()));
    mounted.map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("no overlay can be mounted: {error}"))
    })?;
    outside::open_with(place, nix::libc::O_PATH)
}

impl Sandbox {
    /// To whom what runs may write belongs, when that is not this process's user.
    pub(crate) fn owner(&self) -> Option<Owner> {
        match &self.backend {
            Isolating::Namespace(namespace) => namespace.owner(),
            Isolating::Container(container) => container.owner(),
            Isolating::Nothing => None,
        }
    }

    /// Tries out whether runs can have overlays of folders on the file system of this one, which need
    /// not be there yet.
    ///
    /// # Errors
    /// Why they can't.
    pub async fn check_overlay(&self, folder: &Path) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let namespace = match &self.backend {
            Isolating::Namespace(namespace) => namespace,
            Isolating::Container(_) => return Err("containers have none".to_owned()),
            Isolating::Nothing => return Err("nothing is isolated here".to_owned()),
        };
        let folder = std::path::absolute(folder).map_err(|error| text(&error))?;
        let there = folder.ancestors().find(|it| it.is_dir());
        // What a crash leaves is swept.
        let place = tempfile::Builder::new()
            .prefix(".unfinished-")
            .tempdir_in(there.unwrap_or(Path::new("/")));
        let place = place.map_err(|error| text(&error))?;
        let [below, upper, private] = ["below", "upper", "private"].map(|it| place.path().join(it));
        let names = ["kept", "moved"];
        let made = fs::create_dir(&upper).and_then(|()| fs::create_dir(&below));
        let made = made.and_then(|()| {
            let mut names = names.iter();
            names.try_for_each(|name| fs::write(below.join(name), name))
        });
        made.map_err(|error| text(&error))?;
        namespace.hand_over(&below).map_err(|error| text(&error))?;
        let command = ["mv", "moved", "there"].map(str::to_owned);
        let run = Run {
            over: vec![below.clone()],
            ..Run::new(&command, &upper, &private)
        };
        let ran = self.run_trusted(run, &CancellationToken::new()).await;
        let finished = ran.map_err(|error| text(&error))?.finished;
        if !finished.succeeded() {
            return Err(finished.stderr_text().trim().to_owned());
        }
        let upper = Folder::open(&upper).map_err(|error| text(&error))?;
        let kind = |name: &str| upper.stat(name.as_ref()).ok().flatten().map(|it| it.kind);
        let found = (kind("kept"), kind("moved"), kind("there"));
        if found != (None, Some(Kind::Whiteout), Some(Kind::File)) || !below.join("moved").exists()
        {
            return Err(format!(
                "an overlay on this file system behaves otherwise: {found:?}"
            ));
        }
        Ok(())
    }
}

/// Does something in an overlay that nobody but the thread which does it sees; nothing where this
/// process may not mount.
#[cfg(test)]
pub(crate) fn within<T: Send>(
    (upper, below): (&Path, &[&Path]),
    work: &Path,
    inside: impl FnOnce(&Path) -> T + Send,
) -> Option<T> {
    let layers = Layers {
        below: below.iter().map(|&it| it.to_owned()).collect(),
        work: work.to_owned(),
    };
    let run = || {
        if !nix::unistd::geteuid().is_root() || !outside::own_namespace().unwrap() {
            return None;
        }
        remove_all(&layers.work).unwrap();
        fs::create_dir(&layers.work).unwrap();
        let place = work.with_extension("mounted");
        let upper = outside::open_with(upper, outside::FOLDER).unwrap();
        drop(mount(&upper, &open(&layers).unwrap(), &place).unwrap());
        let done = inside(&place);
        nix::mount::umount(&place).unwrap();
        fs::remove_dir(&place).unwrap();
        Some(done)
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}
