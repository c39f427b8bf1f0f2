//! Work trees that are overlays.

use std::fs;

use super::*;

/// A sandbox whose runs can have overlays; nothing, said aloud, where they can't.
pub(crate) async fn layering() -> Option<Sandbox> {
    let sandbox = isolating(SandboxConfig::default()).await?;
    let folder = tempfile::tempdir().unwrap();
    match sandbox.check_overlay(folder.path()).await {
        Ok(()) => Some(sandbox),
        Err(why) => {
            // Root may mount wherever bubblewrap can be had.
            assert!(!nix::unistd::geteuid().is_root(), "{why}");
            println!("can't run here: {why}");
            None
        }
    }
}

/// A layer with a few files.
fn layer(place: &Place, sandbox: &Sandbox, files: &[&str]) -> PathBuf {
    let folder = place.0.path().join(files[0]);
    for file in files {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    let Isolating::Namespace(namespace) = &sandbox.backend else {
        panic!("{sandbox:?}");
    };
    namespace.hand_over(&folder).unwrap();
    folder
}

async fn run_over(place: &Place, sandbox: &Sandbox, (over, script): (&[PathBuf], &str)) -> String {
    let command = ["sh", "-c", script].map(str::to_owned);
    let (tree, private) = (place.tree(), place.private());
    let run = Run {
        over: over.to_vec(),
        ..Run::new(&command, &tree, &private)
    };
    let ran = sandbox.run_trusted(run, &CancellationToken::new()).await;
    let finished = ran.unwrap().finished;
    assert!(finished.succeeded(), "{}", finished.stderr_text());
    finished.stdout_text()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_a_command_changes_comes_into_its_own_folder_and_the_layers_below_stay() {
    let Some(sandbox) = layering().await else {
        return;
    };
    let place = Place::new();
    let over = [
        layer(&place, &sandbox, &["below", "dir/kept", "dir/gone"]),
        layer(&place, &sandbox, &["deepest", "below", "dir/installed"]),
    ];
    let script = "cat below; rm dir/gone; echo x >> dir/kept; echo new > dir/new; ls dir";
    let said = run_over(&place, &sandbox, (&over, script)).await;
    // The upper one of two counts.
    assert_eq!(said, "belowinstalled\nkept\nnew\n");
    assert_eq!(names(&place.tree()), ["dir"]);
    let dir = crate::disk::Folder::open(&place.tree().join("dir")).unwrap();
    let kind = |name: &str| dir.stat(name.as_ref()).unwrap().map(|it| it.kind);
    assert_eq!(kind("gone"), Some(crate::disk::Kind::Whiteout));
    assert_eq!(kind("installed"), None);
    let kept = fs::read_to_string(place.tree().join("dir/kept")).unwrap();
    assert_eq!(kept, "dir/keptx\n");
    assert_eq!(names(&over[0].join("dir")), ["gone", "kept"]);
    let below = fs::read_to_string(over[0].join("dir/kept")).unwrap();
    assert_eq!(below, "dir/kept");
    // The next command goes on with it, as a second step of a setup does.
    let said = run_over(&place, &sandbox, (&over, "ls dir; rm -r dir; mkdir dir")).await;
    assert_eq!(said, "installed\nkept\nnew\n");
    let dir = crate::disk::Folder::open(&place.tree().join("dir")).unwrap();
    assert!(dir.is_opaque().unwrap());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(place.0.path().to_str().unwrap()),
        "{mounts}"
    );
}

#[tokio::test]
async fn a_command_can_not_say_itself_what_its_layer_hides() {
    let Some(sandbox) = layering().await else {
        return;
    };
    let place = Place::new();
    let over = [layer(&place, &sandbox, &["below", "dir/file"])];
    let script = "python3 - <<'END'
import os
for name, value in [('trusted.overlay.opaque', b'y'), ('trusted.overlay.redirect', b'/x')]:
    try:
        os.setxattr('dir', name, value)
        print('set', name)
    except OSError:
        pass
try:
    os.mknod('dir/planted', 0o20000, 0)
    print('made a device')
except OSError:
    pass
overlays = [it for it in open('/proc/self/mountinfo') if ' - overlay ' in it]
print(len(overlays), 'overlay', 'of /tmp' if '/tmp' in overlays[0] else 'of descriptors')
END";
    let said = run_over(&place, &sandbox, (&over, script)).await;
    assert_eq!(said.trim(), "1 overlay of descriptors");
}

#[tokio::test]
async fn nothing_is_laid_over_layers_where_nothing_is_isolated() {
    let place = Place::new();
    let (command, tree, private) = (["true".to_owned()], place.tree(), place.private());
    let run = Run {
        over: vec!["/usr".into()],
        ..Run::new(&command, &tree, &private)
    };
    let sandbox = Sandbox::default();
    let error = sandbox.run_trusted(run, &CancellationToken::new()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("no overlay can be mounted"), "{error}");
    let why = sandbox.check_overlay(&place.tree()).await.unwrap_err();
    assert!(why.contains("nothing is isolated"), "{why}");
}
