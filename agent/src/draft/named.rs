//! Files that a command line names: whoever configures `git apply /srv/fix.diff` means it to be read.

use std::path::PathBuf;

use crate::command_paths::absolute_paths;
use crate::sandbox;

/// The files and folders of the host that a command names by their absolute paths, but for those
/// that hold everybody's things and those around a folder that it may write, which has to be shown
/// by itself. Nothing beside them is shown: secrets may lie there.
pub(super) fn files(command: &[String], writable: &[PathBuf]) -> Vec<PathBuf> {
    let paths = absolute_paths(command);
    let is_around = |path: &PathBuf| writable.iter().any(|it| it.starts_with(path));
    let named = paths.filter(|path| sandbox::may_be_shown(path) && path.exists());
    let mut found: Vec<_> = named.filter(|path| !is_around(path)).collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    #[test]
    fn files_are_found_in_words_and_in_what_a_shell_reads() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["fix.diff", "tool.sh"] {
            std::fs::write(root.join(name), "").unwrap();
        }
        let root_text = root.display();
        let command = [
            "sh".to_owned(),
            "-c".to_owned(),
            format!("cd /tmp; X={root_text}/tool.sh git apply '{root_text}/fix.diff' 2>/dev/null"),
            format!("{root_text}/absent"),
            format!("{root_text}/../etc"),
            format!("{root_text}/."),
        ];
        let expected = [root.clone(), root.join("fix.diff"), root.join("tool.sh")];
        assert_eq!(files(&command, &[]), expected);
    }

    #[test]
    fn neither_what_lies_beside_a_program_nor_what_lies_around_a_writable_folder_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let script = root.join("fix.sh");
        std::fs::write(&script, "").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(root.join("state")).unwrap();
        let text = |path: &Path| path.display().to_string();
        let command = ["sh".to_owned(), text(&script), text(&root)];
        assert_eq!(files(&command, &[root.join("state")]), [script]);
    }

    #[test]
    fn what_holds_everybodys_things_is_not_shown_for_being_named() {
        let command = ["sh", "-c", "ls / /home /etc /root /proc/1 /dev/null /sys"];
        assert!(files(&command.map(str::to_owned), &[]).is_empty());
    }
}
