use super::files::{Excluded, Options, Reason, inspect, preview, reason};
use super::language::{detect, extensions};
use crate::git::{Entry, EntryKind};

fn entry(path: &str, size: u64, kind: EntryKind) -> Entry {
    Entry {
        path: path.to_owned(),
        kind,
        id: "1".repeat(40).parse().unwrap(),
        size,
    }
}

fn options(request: &str) -> Options {
    Options {
        preview_lines: 2,
        max_bytes: 100,
        extensions: ["py", "txt", "md"].map(str::to_owned).into(),
        request: request.to_owned(),
        target_files: vec!["docs/target.md".to_owned()],
    }
}

#[test]
fn every_file_is_listed_or_excluded_with_its_reason() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        std::fs::create_dir_all(root.path().join("docs")).unwrap();
        std::fs::write(root.path().join(name), bytes).unwrap();
        entry(name, bytes.len() as u64, EntryKind::File)
    };
    let entries = [
        file("a.py", b"1\n2\n3\n4\n5\n"),
        file("docs/target.md", b"# T\n"),
        file("zero.txt", b"a\0b"),
        file("latin.txt", b"caf\xe9"),
        file("big.py", &[b'x'; 101]),
        file("image.png", b"png"),
        file("Makefile", b"test:\n"),
        entry("absent.py", 1, EntryKind::File),
        entry("link.py", 1, EntryKind::Symlink),
        entry("module.py", 0, EntryKind::Submodule),
    ];
    let inspected = inspect(root.path(), &entries, &options("look at `a.py`, please"));
    let listed: Vec<_> = inspected
        .structure
        .iter()
        .map(|file| (file.path.as_str(), file.selected, file.preview.as_str()))
        .collect();
    assert_eq!(
        listed,
        [
            ("Makefile", false, "test:"),
            ("a.py", true, "1\n2\n… 1 lines …\n4\n5"),
            ("docs/target.md", true, "# T"),
        ]
    );
    let excluded = |path: &str, reason| Excluded {
        path: path.to_owned(),
        reason,
    };
    assert_eq!(
        inspected.excluded,
        [
            excluded("absent.py", Reason::PermissionDenied),
            excluded("big.py", Reason::TooLarge),
            excluded("image.png", Reason::NotAllowed),
            excluded("latin.txt", Reason::Binary),
            excluded("link.py", Reason::NotAllowed),
            excluded("module.py", Reason::NotAllowed),
            excluded("zero.txt", Reason::Binary),
        ]
    );
    let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    assert_eq!(reason(&denied), Reason::PermissionDenied);
}

#[test]
fn a_name_within_a_longer_one_is_not_named() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("money.py"), "").unwrap();
    let entries = [entry("money.py", 0, EntryKind::File)];
    let selected =
        |request: &str| inspect(root.path(), &entries, &options(request)).structure[0].selected;
    for request in ["in money.py.", "orders/money.py fails", "`money.py`"] {
        assert!(selected(request), "{request}");
    }
    for request in ["in test_money.py", "money.pyc", "money"] {
        assert!(!selected(request), "{request}");
    }
}

#[test]
fn a_large_repository_is_cut_and_says_so() {
    let root = tempfile::tempdir().unwrap();
    let entries: Vec<_> = (0..5000)
        .map(|n| entry(&format!("{n}.bin"), 1, EntryKind::File))
        .collect();
    let inspected = inspect(root.path(), &entries, &options(""));
    assert_eq!((inspected.excluded.len(), inspected.left_out), (2000, 3000));
}

#[test]
fn a_short_text_is_shown_whole() {
    assert_eq!(preview("1\n2\n3\n4", 2), "1\n2\n3\n4");
    assert_eq!(preview("", 2), "");
    assert_eq!(preview("1\n2\n3", 0), "… 3 lines …");
}

#[test]
fn the_language_with_most_bytes_counts() {
    let entries = [
        entry("a.py", 10, EntryKind::File),
        entry("src/b.rs", 100, EntryKind::File),
        entry("README.md", 1000, EntryKind::File),
    ];
    let language = detect(&entries);
    assert_eq!(language.unwrap().name(), "rust");
    for extension in ["py", "txt", "md", "rs", "toml"] {
        assert!(extensions(language).contains(&extension.to_owned()));
    }
    assert_eq!(detect(&entries[2..]), None);
}
