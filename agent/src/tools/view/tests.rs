use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::*;

fn view(root: &Path) -> View {
    View::new(root.to_owned(), Vec::new())
}

fn paths(view: &View, folder: &str, tracked: &[&str]) -> Vec<String> {
    let tracked = tracked.iter().map(|&it| it.to_owned()).collect();
    let listing = view.files(folder, (&tracked, false)).unwrap();
    listing.files.into_iter().map(|file| file.path).collect()
}

#[test]
fn only_plain_files_are_read_and_written_and_no_link_is_followed() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "s").unwrap();
    symlink(outside.path().join("secret"), root.path().join("link")).unwrap();
    symlink(outside.path(), root.path().join("linked")).unwrap();
    symlink("/nowhere", root.path().join("broken")).unwrap();
    fs::create_dir(root.path().join("folder")).unwrap();
    nix::unistd::mkfifo(&root.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let view = view(root.path());
    for (path, why) in [
        ("link", "symbolic link"),
        ("linked/secret", "symbolic link"),
        ("broken", "symbolic link"),
        ("folder", "is a folder"),
        ("pipe", "no plain file"),
        ("absent", "there is no"),
        ("pipe/x", "there is no"),
    ] {
        let error = view.read(path).unwrap_err();
        assert!(error.contains(why), "{path}: {error}");
    }
    for path in ["link", "linked/new", "broken", "folder", "pipe", "pipe/x"] {
        assert!(view.write(path, b"x", 0o666).is_err(), "{path}");
    }
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"s");
    assert!(!outside.path().join("new").exists());
    assert!(root.path().join("broken").is_symlink());
    let listed = view.files("", (&BTreeSet::new(), false)).unwrap();
    let links = listed.files.iter().filter(|file| file.is_link).count();
    assert_eq!(links, 3);
}

#[test]
fn a_written_file_keeps_its_rights_and_missing_folders_are_made() {
    let root = tempfile::tempdir().unwrap();
    let script = root.path().join("run.sh");
    fs::write(&script, "old").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let view = view(root.path());
    let source = view.read("run.sh").unwrap();
    view.write("run.sh", b"new", source.mode).unwrap();
    assert_eq!(fs::read(&script).unwrap(), b"new");
    let mode = fs::metadata(&script).unwrap().permissions().mode();
    assert_eq!(mode & 0o100, 0o100);
    assert!(view.is_free("a/b/c").is_ok());
    view.write("a/b/c", b"x", 0o666).unwrap();
    assert!(view.is_free("a/b/c").unwrap_err().contains("exists"));
    assert!(view.is_free("a/b").unwrap_err().contains("is a folder"));
    let names = fs::read_dir(root.path().join("a/b")).unwrap().count();
    assert_eq!(names, 1, "something was left beside it");
}

#[test]
fn a_file_that_is_too_long_is_refused_before_it_is_read() {
    let root = tempfile::tempdir().unwrap();
    let file = fs::File::create(root.path().join("huge")).unwrap();
    file.set_len(MAX_FILE + 1).unwrap();
    let error = view(root.path()).read("huge").unwrap_err();
    assert!(error.contains("8388609 bytes"), "{error}");
}

#[test]
fn what_is_ignored_is_not_listed_unless_it_is_tracked_or_asked_for() {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [
        (".gitignore", "*.log\nbuild/\n"),
        ("a.py", ""),
        ("a.log", ""),
        ("kept.log", ""),
        ("build/x", ""),
        ("build/kept", ""),
        ("node_modules/m/index.js", ""),
        ("src/.gitignore", "!b.log\n"),
        ("src/b.log", ""),
        (".git/config", ""),
        ("vendored/.git/config", ""),
    ] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let view = view(root.path());
    let tracked = ["kept.log", "build/kept"];
    let all = [
        ".gitignore",
        "a.py",
        "build/kept",
        "kept.log",
        "src/.gitignore",
        "src/b.log",
    ];
    assert_eq!(paths(&view, "", &tracked), all);
    assert_eq!(
        paths(&view, "src", &tracked),
        ["src/.gitignore", "src/b.log"]
    );
    assert_eq!(paths(&view, "a.py", &tracked), ["a.py"]);
    let everything = view.files("", (&BTreeSet::new(), true)).unwrap().files;
    assert!(
        everything
            .iter()
            .any(|it| it.path == "node_modules/m/index.js")
    );
    assert!(
        everything.iter().all(|it| !it.path.contains(".git/")),
        "{everything:?}"
    );
}

/// The rules of the kernel's overlays, on folders that are laid as it lays them.
#[test]
fn layers_are_seen_as_the_kernel_would_show_them() {
    let root = tempfile::tempdir().unwrap();
    let (top, below, lowest) = (
        root.path().join("top"),
        root.path().join("below"),
        root.path().join("lowest"),
    );
    for (layer, files) in [
        (&top, &["both", "src/new"][..]),
        (
            &below,
            &["both", "gone", "kept", "src/old", "away/x", "dir/f"],
        ),
        (&lowest, &["kept", "deep/y", "dir", "gone"]),
    ] {
        for path in files {
            let path = layer.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(
                &path,
                layer.file_name().unwrap().to_string_lossy().as_bytes(),
            )
            .unwrap();
        }
    }
    let upper = Folder::open(&top).unwrap();
    upper.hide("gone".as_ref()).unwrap();
    upper.hide("away".as_ref()).unwrap();
    let view = View::new(top.clone(), vec![below.clone(), lowest]);
    let all = ["both", "deep/y", "dir/f", "kept", "src/new", "src/old"];
    assert_eq!(paths(&view, "", &[]), all);
    let text = |path: &str| {
        view.read(path)
            .map(|it| String::from_utf8(it.content).unwrap())
    };
    assert_eq!(text("both").unwrap(), "top");
    assert_eq!(text("kept").unwrap(), "below");
    assert_eq!(text("deep/y").unwrap(), "lowest");
    assert!(text("gone").is_err() && text("away/x").is_err());
    // What is written comes into the upper layer, and nothing below changes.
    view.write("src/old", b"mine", 0o666).unwrap();
    view.write("deep/er/z", b"mine", 0o666).unwrap();
    view.write("gone", b"back", 0o666).unwrap();
    assert_eq!(text("src/old").unwrap(), "mine");
    assert_eq!(fs::read(below.join("src/old")).unwrap(), b"below");
    assert_eq!(fs::read(top.join("src/old")).unwrap(), b"mine");
    assert_eq!(text("deep/y").unwrap(), "lowest");
    assert_eq!(text("gone").unwrap(), "back");
    if nix::unistd::geteuid().is_root() {
        // A folder that was deleted and made again has nothing of what was in it.
        view.write("away/new", b"mine", 0o666).unwrap();
        assert_eq!(paths(&view, "away", &[]), ["away/new"]);
        assert!(text("away/x").is_err());
    }
}
