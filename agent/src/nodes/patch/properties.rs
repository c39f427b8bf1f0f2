//! What holds for every draft and path; see [`crate::properties`].

use std::path::{Component, Path};

use patchfleet_repository::RepositoryConfig;

use super::parse::parse;
use super::{ChangeConfig, read, rules};
use crate::git::EntryKind;

/// Reads a draft, as the node does, and whether it was taken as far as that goes without a base.
pub(crate) fn draft(text: &str) -> bool {
    // Whatever is said of places and lengths, applying comes to an end.
    for diff in parse(text).iter().flatten() {
        for original in ["", "a\nb\n", text] {
            let _ = super::apply::apply(original, &diff.hunks);
        }
    }
    let Ok(diffs) = read(
        text,
        (&RepositoryConfig::default(), ChangeConfig::default()),
    ) else {
        return false;
    };
    for diff in &diffs {
        // Nothing gives more than the limits let it.
        for before in [&[][..], text.as_bytes()] {
            let content = diff
                .binary
                .as_ref()
                .map(|patch| (patch.size(), patch.content(before)));
            if let Some((size, Ok(content))) = content {
                assert!(content.len() <= size && size <= ChangeConfig::default().max_kib * 1024);
            }
        }
        assert!(diff.old.is_some() || diff.new.is_some());
        for path in diff.old.iter().chain(&diff.new) {
            assert_inside(path);
        }
        let kind = diff.kind().expect("an unknown mode is refused");
        assert!(matches!(
            kind,
            None | Some(EntryKind::File | EntryKind::Executable)
        ));
    }
    true
}

/// Judges a path, as the node does.
pub(crate) fn path(text: &str) {
    if rules::refusal(text, &RepositoryConfig::default()).is_none() {
        assert_inside(text);
    }
}

fn assert_inside(path: &str) {
    let parts: Vec<_> = Path::new(path).components().collect();
    assert!(!parts.is_empty(), "{path:?}");
    assert!(
        parts
            .iter()
            .all(|part| matches!(part, Component::Normal(_))),
        "{path:?}"
    );
    // Nothing that a file system reads otherwise than we did.
    assert_eq!(parts.len(), path.split('/').count(), "{path:?}");
    assert!(!path.contains(['\\', '\0', '\n']), "{path:?}");
    let lower = path.to_lowercase();
    assert!(lower.split('/').all(|part| part != ".git"), "{path:?}");
    assert!(!lower.starts_with(".github/workflows/"), "{path:?}");
}
