//! A snapshot beside `git add --all` in a clean clone: the same tree for the same edit.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::oracle::check;
use super::*;
use crate::sandbox::overlay::within;

/// What a draft does to a work tree.
#[derive(Debug, Clone)]
enum Edit {
    Write(Vec<u8>),
    Append(Vec<u8>),
    /// The same content once more.
    Rewrite,
    Link(&'static str),
    Mode(u32),
    Remove,
    Rename(&'static [u8]),
    /// What is there, be it a folder, by one call.
    Move(&'static [u8]),
}

type Files = Vec<(&'static [u8], Vec<u8>)>;

fn path() -> impl Strategy<Value = &'static [u8]> {
    const PATHS: [&[u8]; 13] = [
        b"a.txt",
        b"b.bin",
        b"dir/c.txt",
        b"dir/sub/d",
        b"dir/sub/d/deep.txt",
        b"dir",
        b"e.bat",
        b"x.ign",
        b"keep/x.ign",
        b"with space.txt",
        b"\xc3\xbcn\xc3\xaf.txt",
        b"\xff.txt",
        b"keep/.gitignore",
    ];
    select(&PATHS[..])
}

fn lines(lines: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    vec(select(lines), 0..4).prop_map(|lines| {
        let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        text.into_bytes()
    })
}

fn attributes() -> impl Strategy<Value = Vec<u8>> {
    lines(&[
        "* text=auto",
        "* text=auto eol=crlf",
        "*.txt text",
        "*.txt -text",
        "*.txt !text",
        "*.txt eol=lf",
        "*.txt crlf=input",
        "a.txt ident",
        "*.bat text eol=crlf",
        "*.bin binary",
        "dir/*.txt text eol=crlf",
        "[attr]dos text eol=crlf",
        "e.bat dos",
        "dir/** -text",
    ])
}

fn ignored() -> impl Strategy<Value = Vec<u8>> {
    lines(&[
        "*.ign",
        "!keep/x.ign",
        "/a.txt",
        "sub/",
        "dir/",
        "**/d",
        "# dir",
        "x*",
        "dir/**",
        "!dir/sub/",
        "*.t[xy]t",
        "keep/*",
        "e.ba?",
        "!*.txt",
        "d",
        "/dir/sub",
    ])
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    const PARTS: [&[u8]; 13] = [
        b"one\n",
        b"two\r\n",
        b"three\n",
        b"four\r\n",
        b"lone\r",
        b"nul\0\n",
        b"no end",
        b"$Id$\n",
        b"$Id: an old one $\n",
        b"gr\xfc\xdfe\n",
        b"\xef\xbb\xbfmark\n",
        b"\xff\xfeU\0T\0",
        b"\x1a",
    ];
    vec(select(&PARTS[..]), 0..6).prop_map(|parts| parts.concat())
}

/// Where things are moved.
const MOVED: [&[u8]; 5] = [b"dir", b"moved", b"dir/moved", b"keep/moved", b"moved/sub"];

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => content().prop_map(Edit::Write),
        2 => content().prop_map(Edit::Append),
        1 => Just(Edit::Rewrite),
        1 => select(&["a.txt", "dir", "/nowhere"][..]).prop_map(Edit::Link),
        1 => select(&[0o644_u32, 0o755, 0o600, 0o711][..]).prop_map(Edit::Mode),
        2 => Just(Edit::Remove),
        1 => path().prop_map(Edit::Rename),
        1 => select(&MOVED[..]).prop_map(Edit::Move),
    ]
}

/// Files of a first commit: no one is both file and folder.
fn base() -> impl Strategy<Value = Files> {
    let files = vec((path(), content()), 1..8);
    (attributes(), ignored(), attributes(), files).prop_map(|(root, ignored, inner, mut files)| {
        files.push((b".gitattributes", root));
        files.push((b".gitignore", ignored));
        files.push((b"dir/.gitattributes", inner));
        let mut seen = BTreeSet::new();
        files.retain(|(path, _)| {
            let below = |it: &&[u8]| it.starts_with(&[*path, b"/".as_slice()].concat());
            let above = |it: &&[u8]| path.starts_with(&[*it, b"/".as_slice()].concat());
            let fresh = !seen.iter().any(|it| it == path || below(it) || above(it));
            seen.insert(*path);
            fresh
        });
        files
    })
}

fn edits() -> impl Strategy<Value = Vec<(&'static [u8], Edit)>> {
    let meta = prop_oneof![
        (
            Just(b".gitignore".as_slice()),
            ignored().prop_map(Edit::Write)
        ),
        (
            Just(b".gitattributes".as_slice()),
            attributes().prop_map(Edit::Write)
        ),
        (
            Just(b"dir/.gitattributes".as_slice()),
            attributes().prop_map(Edit::Write)
        ),
    ];
    let path = prop_oneof![4 => path(), 1 => select(&MOVED[..])];
    (vec((path, edit()), 1..7), vec(meta, 0..2)).prop_map(|(mut edits, meta)| {
        // Git converts anew what has another mode, and we take the mode alone.
        if meta
            .iter()
            .any(|(path, _)| path.ends_with(b".gitattributes"))
        {
            edits.retain(|(_, edit)| !matches!(edit, Edit::Mode(_)));
        }
        edits.extend(meta);
        edits
    })
}

fn place(root: &Path, path: &[u8]) -> PathBuf {
    root.join(OsStr::from_bytes(path))
}

/// Clears the way to a path, and what is there.
pub(super) fn make_room(root: &Path, path: &[u8]) {
    let place = place(root, path);
    let mut parent = root.to_owned();
    for part in place.strip_prefix(root).unwrap().parent().unwrap() {
        parent.push(part);
        if parent.symlink_metadata().is_ok_and(|it| !it.is_dir()) {
            fs::remove_file(&parent).unwrap();
        }
    }
    fs::create_dir_all(parent).unwrap();
    crate::disk::remove_all(&place).unwrap();
}

fn do_edit(root: &Path, path: &[u8], edit: &Edit) {
    let place = place(root, path);
    let is_file = place.symlink_metadata().is_ok_and(|it| it.is_file());
    match edit {
        Edit::Write(content) if is_file => fs::write(&place, content).unwrap(),
        Edit::Write(content) => {
            make_room(root, path);
            fs::write(&place, content).unwrap();
        }
        Edit::Append(content) if is_file => {
            let all = [fs::read(&place).unwrap(), content.clone()].concat();
            fs::write(&place, all).unwrap();
        }
        Edit::Rewrite if is_file => {
            let content = fs::read(&place).unwrap();
            fs::write(&place, content).unwrap();
        }
        Edit::Link(target) => {
            make_room(root, path);
            std::os::unix::fs::symlink(target, &place).unwrap();
        }
        Edit::Mode(mode) if is_file => {
            fs::set_permissions(&place, fs::Permissions::from_mode(*mode)).unwrap();
        }
        // A link on the way may lead to itself.
        Edit::Remove if place.symlink_metadata().is_ok() => {
            crate::disk::remove_all(&place).unwrap();
        }
        Edit::Rename(to) if is_file => {
            let content = fs::read(&place).unwrap();
            crate::disk::remove_all(&place).unwrap();
            make_room(root, to);
            fs::write(self::place(root, to), content).unwrap();
        }
        Edit::Move(to) => {
            let below = |one: &[u8], other: &[u8]| {
                let mut one = one.to_vec();
                one.push(b'/');
                [other, b"/"].concat().starts_with(&one)
            };
            if place.symlink_metadata().is_ok() && !below(path, to) && !below(to, path) {
                make_room(root, to);
                let new = self::place(root, to);
                fs::rename(&place, &new).unwrap();
                if new.symlink_metadata().unwrap().is_file() {
                    // Of a file's state, git looks at size and time, which may be those of another.
                    let file = fs::File::options().append(true).open(&new).unwrap();
                    file.set_modified(chrono::Utc::now().into()).unwrap();
                }
            }
        }
        Edit::Append(_) | Edit::Rewrite | Edit::Mode(_) | Edit::Remove | Edit::Rename(_) => {}
    }
}

/// A clean clone whose files are older than its index, so that git looks only at what is edited.
/// Gives what was checked out.
async fn clone(origin: &Path, place: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (origin, at) = (origin.to_str().unwrap(), place.to_str().unwrap());
    Origin::git_in(Path::new("/"), &["clone", "-q", origin, at]).await;
    // Of a file's state, only size and time count.
    Origin::git_in(place, &["config", "core.trustctime", "false"]).await;
    Origin::git_in(place, &["config", "core.checkStat", "minimal"]).await;
    let mut files = BTreeMap::new();
    files_below(place, &mut files);
    for file in files.keys() {
        age(file);
    }
    Origin::git_in(place, &["update-index", "-q", "--refresh"]).await;
    files
}

fn files_below(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && entry.file_name() != ".git" {
            files_below(&entry.path(), files);
        } else if kind.is_file() {
            files.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
}

fn age(file: &Path) {
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let file = fs::File::options().append(true).open(file).unwrap();
    file.set_modified(long_ago).unwrap();
}

/// Git would convert a file that was written as it was by the attributes of now; we take it for
/// what it is, unchanged. So git does not hear of the writing.
fn age_unchanged(files: &BTreeMap<PathBuf, Vec<u8>>) {
    for (path, content) in files {
        let is_file = path.symlink_metadata().is_ok_and(|it| it.is_file());
        if is_file && fs::read(path).unwrap() == *content {
            age(path);
        }
    }
}

/// Commits these files and no others.
async fn commit(origin: &Path, files: &Files) {
    Origin::git_in(origin, &["rm", "-rqf", "--ignore-unmatch", "."]).await;
    for (path, content) in files {
        make_room(origin, path);
        fs::write(place(origin, path), content).unwrap();
    }
    Origin::git_in(origin, &["add", "-A"]).await;
    Origin::git_in(origin, &["commit", "-q", "--allow-empty", "-m", "x"]).await;
}

/// A work tree of `HEAD`, checked out as a whole, and edited.
async fn edited(store: &Repository, ours: &Path, edits: &[(&'static [u8], Edit)]) -> Repository {
    let store = store.with_work_tree(ours);
    let head = store.resolve("HEAD^{tree}").await.unwrap().unwrap();
    store.check_out(&head).await.unwrap();
    // The second check-out is written by us, and has to be the same as git's.
    store.work_tree.as_ref().unwrap().forget_stamps();
    store.check_out(&head).await.unwrap();
    for (path, edit) in edits {
        do_edit(ours, path, edit);
    }
    store
}

/// The same of a work tree that lies over a template of this revision; nothing where this process
/// may not mount.
async fn edited_over(
    (store, revision): (&Repository, &str),
    (ours, checked_out): (&Path, &BTreeMap<PathBuf, Vec<u8>>),
    edits: &[(&'static [u8], Edit)],
) -> Option<Repository> {
    let folder = ours.with_extension("template");
    let commit = store.resolve(revision).await.unwrap().unwrap();
    store.make_template(&commit, &folder, None).await.unwrap();
    let template = Arc::new(store.template(&commit, &folder).await.unwrap());
    let laid = store.with_work_tree_over(ours, Arc::clone(&template));
    let head = store.resolve("HEAD^{tree}").await.unwrap().unwrap();
    laid.check_out(&head).await.unwrap();
    let inside = |root: &Path| {
        let mut files = BTreeMap::new();
        files_below(root, &mut files);
        let below = files.into_iter().map(|(path, content)| {
            let path = path.strip_prefix(root).unwrap().to_owned();
            (path, content)
        });
        assert_eq!(&below.collect::<BTreeMap<_, _>>(), checked_out);
        for (path, edit) in edits {
            do_edit(root, path, edit);
        }
    };
    let layers = (ours, &[template.root()][..]);
    within(layers, &ours.with_extension("work"), inside)?;
    // Nobody has changed it.
    store.template(&commit, &folder).await.unwrap();
    Some(laid)
}

/// Our tree, git's, and how they differ. With `below`, the work tree lies over a template of an
/// earlier commit with these files.
async fn compared(
    (below, files): (Option<&Files>, &Files),
    edits: &[(&'static [u8], Edit)],
) -> Option<(String, String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let [origin, clean, ours] = ["origin", "clean", "ours"].map(|name| folder.path().join(name));
    fs::create_dir(&origin).unwrap();
    Origin::git_in(&origin, &["init", "-q", "."]).await;
    for files in below.into_iter().chain([files]) {
        commit(&origin, files).await;
    }
    let checked_out = clone(&origin, &clean).await;
    let store = Git::new().repository(origin.join(".git"));
    let store = match below {
        None => edited(&store, &ours, edits).await,
        Some(_) => {
            let relative = checked_out.iter().map(|(path, content)| {
                let path = path.strip_prefix(&clean).unwrap().to_owned();
                (path, content.clone())
            });
            let place = (ours.as_path(), &relative.collect());
            edited_over((&store, "HEAD^"), place, edits).await?
        }
    };
    for (path, edit) in edits {
        do_edit(&clean, path, edit);
    }
    age_unchanged(&checked_out);
    let snapshot = store.snapshot().await.unwrap().tree;
    Origin::git_in(&clean, &["add", "-A"]).await;
    let tree = Origin::git_in(&clean, &["write-tree"]).await;
    let objects = clean.join(".git/objects");
    fs::write(
        origin.join(".git/objects/info/alternates"),
        format!("{}\n", objects.display()),
    )
    .unwrap();
    let args = ["diff-tree", "-r", "-p", tree.as_str(), snapshot.as_str()];
    let difference = Origin::git_in(&origin, &args).await;
    Some((snapshot.to_string(), tree, difference))
}

/// Compares, and shows what it was where the trees differ.
fn is_as_by_git(
    runtime: &tokio::runtime::Runtime,
    (below, files): (Option<&Files>, &Files),
    edits: &[(&'static [u8], Edit)],
) -> Result<(), TestCaseError> {
    let compared = runtime.block_on(compared((below, files), edits));
    let Some((ours, theirs, difference)) = compared else {
        println!("can't run here: nothing can be mounted");
        return Ok(());
    };
    let text = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
    let shown = |files: &Files| {
        let files = files.iter();
        let files = files.map(|(path, content)| (text(path), text(content)));
        files.collect::<Vec<_>>()
    };
    let edits: Vec<_> = edits
        .iter()
        .map(|(path, edit)| match edit {
            Edit::Write(content) => (text(path), format!("write {}", text(content))),
            Edit::Append(content) => (text(path), format!("append {}", text(content))),
            edit => (text(path), format!("{edit:?}")),
        })
        .collect();
    let files = (below.map(shown), shown(files));
    prop_assert_eq!(ours, theirs, "{}\n{:#?}\n{:#?}", difference, files, edits);
    Ok(())
}

#[test]
fn a_snapshot_is_the_tree_that_git_add_would_make() {
    check(40, &(base(), edits()), |runtime, (files, edits)| {
        is_as_by_git(runtime, (None, &files), &edits)
    });
}

#[test]
fn a_snapshot_over_a_template_of_any_commit_is_the_tree_that_git_add_would_make() {
    let cases = (base(), proptest::option::of(base()), edits());
    check(40, &cases, |runtime, (below, files, edits)| {
        let files = files.as_ref().unwrap_or(&below);
        is_as_by_git(runtime, (Some(&below), files), &edits)
    });
}

/// What the property found once in thousands of cases.
#[tokio::test]
async fn attributes_that_come_with_a_file_that_was_written_as_it_was_change_it_for_neither() {
    let text = || b"two\r\n".to_vec();
    let files: Files = vec![(b".gitattributes", Vec::new()), (b"\xff.txt", text())];
    let attributes = b"*.txt eol=lf\n".to_vec();
    let edits: [(&[u8], Edit); 2] = [
        (b"\xff.txt", Edit::Write(text())),
        (b".gitattributes", Edit::Write(attributes)),
    ];
    for below in [None, Some(&files)] {
        let Some((ours, theirs, difference)) = compared((below, &files), &edits).await else {
            continue;
        };
        assert_eq!(ours, theirs, "{difference}");
    }
}

#[tokio::test]
async fn folders_of_a_template_that_were_moved_by_one_call_are_taken_with_what_is_in_them() {
    let file = |path: &'static [u8], text: &str| (path, text.as_bytes().to_vec());
    let files: Files = vec![
        file(b"dir/c.txt", "one\n"),
        file(b"dir/sub/d", "two\n"),
        file(b"keep/x.ign", "three\n"),
        file(b"keep/.gitignore", "*.bin\n"),
    ];
    let edits: Vec<(&[u8], Edit)> = vec![
        (b"dir/c.txt", Edit::Append(b"more\n".to_vec())),
        (b"dir", Edit::Move(b"moved")),
        (b"moved/sub", Edit::Move(b"keep/moved")),
        (b"keep/moved/new", Edit::Write(b"new\n".to_vec())),
        (b"keep", Edit::Move(b"dir")),
        (b"dir/b.bin", Edit::Write(b"ignored\n".to_vec())),
        (b"dir/x.ign", Edit::Remove),
    ];
    let Some((ours, theirs, difference)) = compared((Some(&files), &files), &edits).await else {
        return;
    };
    assert_eq!(ours, theirs, "{difference}");
}
