//! What a draft's change says, read again, becomes the tree that it was made of.

use std::collections::BTreeMap;

use patchfleet_repository::Author;

use super::*;
use crate::git::EntryKind;
use crate::git::tests::oracle::check;

/// Files by their paths; few names, so that files, links and folders take each other's places.
type Files = BTreeMap<String, (EntryKind, Vec<u8>)>;

fn path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b c", "d", "\u{fc}n\u{ef}"]);
    prop::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"))
}

/// Texts and pictures, few enough that a file is often the same in another place; and links, which a
/// draft may take away, but not make.
fn file(links: u32) -> impl Strategy<Value = (EntryKind, Vec<u8>)> {
    let noise: Vec<u8> = (0..700_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2])
        .collect();
    let content = prop::sample::select(vec![
        Vec::new(),
        b"1\n".to_vec(),
        b"1\n2\n3\n4\n5\n6\n7\n8\n".to_vec(),
        b"1\n2\n3\n4\n5\n6\n7\n8\n9".to_vec(),
        b"a\0b".to_vec(),
        [b"\0".to_vec(), noise.clone()].concat(),
        [b"\0".to_vec(), noise, b"end".to_vec()].concat(),
    ]);
    let kind = prop::sample::select(vec![EntryKind::File, EntryKind::Executable]);
    prop_oneof![
        4 => (kind, content),
        links => Just((EntryKind::Symlink, b"1\n".to_vec())),
        links => Just((EntryKind::Symlink, b"a".to_vec())),
    ]
}

fn files(links: u32) -> impl Strategy<Value = Files> {
    prop::collection::vec((path(), file(links)), 0..7).prop_map(|all| {
        let mut files = Files::new();
        for (path, file) in all {
            let below = |one: &str, other: &str| other.starts_with(&format!("{one}/"));
            let clash = |it: &String| below(it, &path) || below(&path, it);
            if !files.keys().any(clash) {
                files.insert(path, file);
            }
        }
        files
    })
}

fn changes(files: &Files) -> Vec<Change> {
    let change = |(path, (kind, content)): (&String, &(EntryKind, Vec<u8>))| Change {
        path: path.clone(),
        content: Some(content.clone()),
        kind: *kind,
    };
    files.iter().map(change).collect()
}

#[test]
fn whatever_takes_the_place_of_what_a_change_becomes_the_tree_that_it_was_made_of() {
    check(32, &(files(1), files(0)), |runtime, (before, after)| {
        runtime.block_on(async {
            let rig = Rig::with(&[]).await;
            let mut deps = rig.deps(rig.workspace(1).await).await.unwrap();
            let store = deps.workspace.repository.clone();
            let empty = store.write_tree(&deps.workspace.base, &[]).await.unwrap();
            let from = store.write_tree(&empty, &changes(&before)).await.unwrap();
            let to = store.write_tree(&empty, &changes(&after)).await.unwrap();
            let author = Author {
                name: "a".to_owned(),
                email: "a@example.com".to_owned(),
            };
            let base = store.commit_tree(&from, &deps.workspace.base, "x", &author);
            deps.workspace.base = base.await.unwrap();
            let change = store.change(&from, &to).await.unwrap();
            let diff = encoding::to_text(&change.patch).into_owned();
            if from == to {
                prop_assert_eq!(diff, "");
                return Ok(());
            }
            let (delta, accepted) = patched_and_accepted(deps, &diff).await;
            let refused = delta.err().map(|error| error.message);
            prop_assert_eq!(refused, None, "{}", diff);
            let made = store.write_tree(&from, &accepted).await.unwrap();
            prop_assert_eq!(made, to, "{}", diff);
            Ok(())
        })
    });
}
