//! Names that no tree of a repository may have.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// True for `.git` and for what some file system takes for it: other cases, characters that are
/// passed over, NTFS's short name, streams and ends.
pub(crate) fn is_git_name(name: &OsStr) -> bool {
    let ignorable = |letter: &char| {
        matches!(letter, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{206a}'..='\u{206f}' | '\u{feff}')
    };
    let bytes = name.as_bytes();
    let may_be = !bytes.is_ascii()
        || bytes.contains(&b'\\')
        || matches!(bytes.first(), Some(b'.' | b'g' | b'G'));
    if !may_be {
        // Most names, which need no closer look.
        return false;
    }
    let name = name.to_string_lossy().to_lowercase();
    let plain: String = name.chars().filter(|letter| !ignorable(letter)).collect();
    plain.split('\\').any(|part| {
        let stem = part.split(':').next().unwrap_or(part);
        matches!(stem.trim_end_matches(['.', ' ']), ".git" | "git~1")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_file_system_takes_for_a_git_folder_is_named_like_one() {
        for name in [
            ".git",
            ".GIT",
            ".Git",
            "git~1",
            "GIT~1",
            ".git.",
            ".git ",
            ".git::$INDEX_ALLOCATION",
            ".g\u{200c}it",
            "a\\.git",
        ] {
            assert!(is_git_name(OsStr::new(name)), "{name:?}");
        }
        for name in [".gitignore", "git", ".git~1", "a.git", ".github", "git~10"] {
            assert!(!is_git_name(OsStr::new(name)), "{name:?}");
        }
    }
}
