//! Files that look like the configuration and are not read.

use super::FILES;

/// Folders in which people look for the configurations of services.
const FOLDERS: &[&str] = &["", ".config/", ".github/"];
/// What they may be called there.
const NAMES: &[&str] = &["patchfleet", ".patchfleet"];
const ENDINGS: &[&str] = &[".yaml", ".yml", ".json", ".toml", ".yaml.txt", ".yml.txt"];

/// True of a path at which somebody meant to write the configuration, and which is none of [`FILES`].
pub fn is_misnamed(path: &str) -> bool {
    let lower = path.to_lowercase();
    let names = FOLDERS
        .iter()
        .filter_map(|folder| lower.strip_prefix(folder));
    let mut endings = names.flat_map(|name| NAMES.iter().filter_map(|it| name.strip_prefix(it)));
    endings.any(|ending| ENDINGS.contains(&ending)) && !FILES.contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_the_configuration_is_known_by_its_name() {
        for path in [
            "patchfleet.yaml",
            "patchfleet.yml",
            ".Patchfleet.yaml",
            ".patchfleet.YML",
            ".patchfleet.json",
            ".patchfleet.toml",
            ".patchfleet.yaml.txt",
            ".github/.patchfleet.yml",
            ".github/patchfleet.yaml",
            ".config/patchfleet.toml",
        ] {
            assert!(is_misnamed(path), "{path}");
        }
        for path in [
            ".patchfleet.yaml",
            ".patchfleet.yml",
            "patchfleet",
            "patchfleet.py",
            "docs/patchfleet.yaml",
            "src/.patchfleet.yaml",
            ".github/workflows/patchfleet.yaml",
            "patchfleet.yaml/a",
            "old.patchfleet.yaml",
        ] {
            assert!(!is_misnamed(path), "{path}");
        }
    }
}
