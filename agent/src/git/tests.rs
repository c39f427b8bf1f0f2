use std::collections::BTreeMap;

use patchfleet_repository::Author;
use secrecy::SecretString;
use tempfile::TempDir;

use super::*;

pub(crate) mod oracle;
mod origin;
mod pack;
mod snapshot;
mod work_tree;

pub(crate) use origin::Origin;

async fn cloned(origin: &Origin) -> (TempDir, Repository, ObjectId) {
    let folder = tempfile::tempdir().unwrap();
    let git = Git::new();
    let clone = git
        .clone_bare(&origin.remote(), &folder.path().join("clone.git"))
        .await
        .unwrap();
    let head = clone.resolve("refs/heads/main").await.unwrap().unwrap();
    (folder, clone, head)
}

fn author() -> Author {
    Author {
        name: "Bot".to_owned(),
        email: "bot@example.com".to_owned(),
    }
}

fn change(path: &str, content: Option<&str>) -> Change {
    Change {
        path: path.to_owned(),
        content: content.map(|text| text.as_bytes().to_vec()),
        kind: EntryKind::File,
    }
}

async fn contents(repository: &Repository, tree: &ObjectId) -> BTreeMap<String, String> {
    let entries = repository.entries(tree).await.unwrap();
    let ids: Vec<_> = entries.iter().map(|entry| entry.id.clone()).collect();
    let blobs = repository.blobs(&ids).await.unwrap();
    let texts = blobs
        .into_iter()
        .map(|blob| String::from_utf8(blob).unwrap());
    entries
        .into_iter()
        .map(|entry| entry.path)
        .zip(texts)
        .collect()
}

#[tokio::test]
async fn trees_are_written_without_a_work_tree() {
    let origin = Origin::with(&[("a", "1\n"), ("dir/b", "2\n"), ("ünï \"q\"", "3\n")]).await;
    let (_folder, clone, head) = cloned(&origin).await;
    let changes = [
        change("a", None),
        change("a/inner", Some("new\n")),
        change("dir/b", Some("")),
    ];
    let tree = clone.write_tree(&head, &changes).await.unwrap();
    let expected = [("a/inner", "new\n"), ("dir/b", ""), ("ünï \"q\"", "3\n")];
    let expected = expected.map(|(path, text)| (path.to_owned(), text.to_owned()));
    assert_eq!(contents(&clone, &tree).await, BTreeMap::from(expected));
}

#[tokio::test]
async fn a_push_holds_to_its_lease() {
    let origin = Origin::with(&[("a", "1\n")]).await;
    let (_folder, clone, head) = cloned(&origin).await;
    let tree = clone
        .write_tree(&head, &[change("a", Some("2\n"))])
        .await
        .unwrap();
    let one = clone
        .commit_tree(&tree, &head, "one", &author())
        .await
        .unwrap();
    let two = clone
        .commit_tree(&tree, &one, "two", &author())
        .await
        .unwrap();
    let remote = origin.remote();

    clone
        .push(&remote, &one, "patchfleet/1-x", None)
        .await
        .unwrap();
    let lost = clone.push(&remote, &two, "patchfleet/1-x", None).await;
    assert_eq!(lost, Err(GitError::LeaseLost));
    let lost = clone
        .push(&remote, &two, "patchfleet/1-x", Some(&head))
        .await;
    assert_eq!(lost, Err(GitError::LeaseLost));
    clone
        .push(&remote, &two, "patchfleet/1-x", Some(&one))
        .await
        .unwrap();

    let refs = ["refs/heads/patchfleet/1-x", "refs/heads/absent"];
    let seen = clone.remote_refs(&remote, &refs).await.unwrap();
    assert_eq!(seen, BTreeMap::from([(refs[0].to_owned(), two)]));
}

#[tokio::test]
async fn a_refused_push_tells_the_reason() {
    let origin = Origin::with(&[("a", "1\n")]).await;
    let (_folder, clone, head) = cloned(&origin).await;
    let hook = origin.dir().join("hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho branch is protected >&2\nexit 1\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&hook, mode).unwrap();
    let refused = clone
        .push(&origin.remote(), &head, "new", None)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, GitError::PushRefused { reason } if reason.contains("branch is protected")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn merging_gives_a_tree_or_names_the_conflict() {
    let origin = Origin::with(&[("a", "1\n"), ("b", "1\n")]).await;
    let (_folder, clone, base) = cloned(&origin).await;
    let commit = async |path: &str, text: &str| {
        let tree = clone
            .write_tree(&base, &[change(path, Some(text))])
            .await
            .unwrap();
        clone
            .commit_tree(&tree, &base, "x", &author())
            .await
            .unwrap()
    };
    let (ours, theirs, clash) = (
        commit("a", "ours\n").await,
        commit("b", "theirs\n").await,
        commit("a", "clash\n").await,
    );
    let merged = clone.merge(&ours, &theirs).await.unwrap();
    let expected = [("a", "ours\n"), ("b", "theirs\n")];
    let expected = expected.map(|(path, text)| (path.to_owned(), text.to_owned()));
    assert_eq!(contents(&clone, &merged).await, BTreeMap::from(expected));
    let conflict = clone.merge(&ours, &clash).await.unwrap_err();
    assert_eq!(
        conflict,
        GitError::Conflict {
            paths: vec!["a".to_owned()]
        }
    );
}

#[tokio::test]
async fn trailers_of_new_commits_are_found() {
    let origin = Origin::with(&[("a", "1\n")]).await;
    let (_folder, clone, base) = cloned(&origin).await;
    let marked = "Fix\n\nPatchfleet-Task: 7\nPatchfleet-Attempt: 1\n";
    let (tree, author) = (base_tree(&clone, &base).await, author());
    let one = clone
        .commit_tree(&tree, &base, marked, &author)
        .await
        .unwrap();
    let two = clone
        .commit_tree(&tree, &one, "by hand", &author)
        .await
        .unwrap();
    let found = clone
        .trailers_since(&base, &two, "Patchfleet-Task")
        .await
        .unwrap();
    assert_eq!(found, [(two, String::new()), (one, "7".to_owned())]);
}

async fn base_tree(repository: &Repository, commit: &ObjectId) -> ObjectId {
    repository
        .resolve(&format!("{commit}^{{tree}}"))
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn absent_remotes_and_silent_ones_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let git = Git::new();
    let clone = async |url: &str| {
        let remote = Remote::new(url, None).unwrap();
        git.clone_bare(&remote, &folder.path().join("x.git"))
            .await
            .unwrap_err()
    };
    let absent = clone("file:///nowhere/at/all.git").await;
    assert!(
        matches!(&absent, GitError::CloneFailed { .. }),
        "{absent:?}"
    );
    let silent = clone("http://127.0.0.1:1/a/b.git").await;
    assert!(
        matches!(&silent, GitError::Unavailable { .. }),
        "{silent:?}"
    );
    let strange = clone("ext::sh -c touch% /tmp/pwned").await;
    assert!(
        matches!(&strange, GitError::CloneFailed { .. }),
        "{strange:?}"
    );
    for url in ["https://user:secret@example.com/a/b.git", "--upload-pack=x"] {
        let refused = Remote::new(url, None).unwrap_err();
        assert!(
            matches!(&refused, GitError::CloneFailed { .. }),
            "{refused:?}"
        );
        assert!(!refused.to_string().contains("secret"));
    }
}

/// A program that stands in for git, writes down all that it was given, and asks the credential
/// helper as git does.
fn recording_git(folder: &Path) -> PathBuf {
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let script = format!(
        "#!/bin/bash\ntr '\\0' '\\n' < /proc/$$/environ > {0}/env\n\
         for a in \"$@\"; do echo \"$a\"; done > {0}/args\n\
         cat /proc/$$/fd/3 > {0}/stolen 2>&1\n\
         helper=${{GIT_CONFIG_VALUE_{1}#!}}\n\
         for action in get get store; do sh -c \"$helper $action\" >> {0}/answers; done\n\
         echo \"fatal: $(cat {0}/answers) is bad\" >&2\nexit 128\n",
        folder.display(),
        CONFIGURATION.len(),
    );
    let program = bin.join("git");
    std::fs::write(&program, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    program
}

#[tokio::test]
async fn a_token_is_read_once_from_a_socket_and_is_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut git = Git::new();
    git.program = recording_git(folder.path()).into();
    let token = SecretString::from("ghs_verysecrettoken");
    let remote = Remote::new("https://git.example.com:8443/a/b.git", Some(token)).unwrap();
    let error = git
        .clone_bare(&remote, &folder.path().join("x.git"))
        .await
        .unwrap_err();

    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(
        read("answers"),
        "username=x-access-token\npassword=ghs_verysecrettoken\n"
    );
    let env = read("env");
    assert!(
        env.contains("=credential.https://git.example.com:8443.helper\n"),
        "{env}"
    );
    assert!(env.contains("GIT_ALLOW_PROTOCOL=https\n"), "{env}");
    let stolen = read("stolen");
    assert!(stolen.contains("No such device"), "{stolen}");
    let basic = "eC1hY2Nlc3MtdG9rZW46Z2hzX3ZlcnlzZWNyZXR0b2tlbg==";
    for text in [
        &env,
        &read("args"),
        &error.to_string(),
        &format!("{error:?} {remote:?}"),
    ] {
        assert!(
            !text.contains("verysecret") && !text.contains(basic),
            "{text}"
        );
    }
}

#[test]
fn a_token_never_goes_over_a_network_without_encryption() {
    let with_token = |url: &str| Remote::new(url, Some("ghs_x".into()));
    for url in ["http://git.example.com/a/b.git", "http://10.0.0.1/a/b.git"] {
        let refused = with_token(url).unwrap_err();
        assert!(refused.to_string().contains("https"), "{refused}");
        assert!(Remote::new(url, None).is_ok());
    }
    for url in [
        "https://git.example.com/a/b.git",
        "http://127.8.9.10:3000/a/b.git",
        "http://[::1]:3000/a/b.git",
        "http://localhost/a/b.git",
    ] {
        assert!(with_token(url).unwrap().credential().is_some(), "{url}");
    }
}

#[test]
fn proxies_are_for_talk_with_remotes_alone() {
    let proxies = |remote: Option<&Remote>| {
        let names = environment(remote).into_iter().map(|(name, _)| name);
        names.filter(|name| name.ends_with("_proxy")).count()
    };
    // The test runner's own environment decides whether there is one.
    let configured = PASSED_ON
        .iter()
        .filter(|(theirs, _)| theirs.to_lowercase().ends_with("_proxy"))
        .filter(|(theirs, _)| std::env::var_os(theirs).is_some())
        .count();
    let remote = Remote::new("https://git.example.com/a/b.git", None).unwrap();
    let with_exceptions = configured + 1;
    assert_eq!(
        (proxies(None), proxies(Some(&remote))),
        (0, with_exceptions)
    );
    let environment = environment(Some(&remote));
    let except = environment.iter().find(|(name, _)| name == "no_proxy");
    let except = except.unwrap().1.to_string_lossy().into_owned();
    assert!(except.ends_with("localhost,127.0.0.1,::1"), "{except}");
}

/// Settings that have git run a program or go elsewhere, in every place of a git folder.
pub(crate) fn plant(dir: &Path, pwned: &Path) {
    let program = format!("touch {}", pwned.display());
    let url = |name: &str| format!("[url \"ext::{program} #\"]\n\tinsteadOf = {name}\n");
    let settings = format!(
        "[protocol]\n\tallow = always\n[protocol \"ext\"]\n\tallow = always\n{}{}\
         [filter \"x\"]\n\tclean = {program}\n\tsmudge = {program}\n\
         [diff \"x\"]\n\tcommand = {program}\n[merge \"x\"]\n\tdriver = {program}\n\
         [core]\n\talternateRefsCommand = {program}\n\tsshCommand = {program}\n\
         [credential]\n\thelper = !{program}\n[http]\n\tproxy = http://127.0.0.1:1\n",
        url("file:"),
        url("http"),
    );
    std::fs::create_dir_all(dir.join("info")).unwrap();
    std::fs::create_dir_all(dir.join("hooks")).unwrap();
    let elsewhere = dir.parent().unwrap().join("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let core = "[core]\n\tbare = true\n\trepositoryformatversion = 0\n";
    std::fs::write(elsewhere.join("config"), format!("{core}{settings}")).unwrap();
    std::fs::write(dir.join("config"), format!("{core}{settings}")).unwrap();
    std::fs::write(dir.join("info/attributes"), "* filter=x diff=x merge=x\n").unwrap();
    std::fs::write(
        dir.join("hooks/pre-push"),
        format!("#!/bin/sh\n{program}\n"),
    )
    .unwrap();
}

#[tokio::test]
async fn nothing_that_was_planted_in_a_git_folder_is_obeyed() {
    let origin = Origin::with(&[("a", "1\n"), (".gitattributes", "* diff=x merge=x\n")]).await;
    let (folder, clone, head) = cloned(&origin).await;
    let pwned = folder.path().join("pwned");
    let again = || plant(clone.dir(), &pwned);
    let remote = origin.remote();
    again();
    clone
        .fetch(&remote, &["+refs/heads/*:refs/heads/*"], true)
        .await
        .unwrap();
    again();
    clone
        .remote_refs(&remote, &["refs/heads/main"])
        .await
        .unwrap();
    again();
    let tree = clone
        .write_tree(&head, &[change("a", Some("2\n"))])
        .await
        .unwrap();
    again();
    let ours = clone
        .commit_tree(&tree, &head, "x", &author())
        .await
        .unwrap();
    let tree = clone
        .write_tree(&head, &[change("a", Some("1\n3\n"))])
        .await
        .unwrap();
    let theirs = clone
        .commit_tree(&tree, &head, "y", &author())
        .await
        .unwrap();
    again();
    clone.merge(&ours, &theirs).await.unwrap_err();
    again();
    clone.diff(&head, &ours).await.unwrap();
    again();
    clone.push(&remote, &ours, "new", None).await.unwrap();
    // A folder that points elsewhere for its configuration, and one that is a link.
    std::fs::write(clone.dir().join("commondir"), "../elsewhere\n").unwrap();
    clone.resolve("refs/heads/main").await.unwrap().unwrap();
    let config = clone.dir().join("config");
    std::fs::remove_file(&config).unwrap();
    std::os::unix::fs::symlink("../elsewhere/config", &config).unwrap();
    clone
        .remote_refs(&remote, &["refs/heads/main"])
        .await
        .unwrap();
    let shared = folder.path().join("shared/.git");
    clone.clone_into(&shared, &head).await.unwrap();
    assert!(!pwned.exists(), "a program was run");
}

#[tokio::test]
async fn local_repositories_take_no_token() {
    let origin = Origin::with(&[("a", "1\n")]).await;
    let remote = Remote::new(&origin.url(), Some("ghs_x".into())).unwrap();
    assert!(remote.credential().is_none());
    assert!(!Remote::takes_token(&origin.url()));
    assert!(Remote::takes_token("http://127.0.0.1:9/a/b.git"));
}
