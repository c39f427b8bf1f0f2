//! The files of a tree, folder by folder, as those need them who go through a work tree.

use std::collections::BTreeMap;

/// Something for each file of a tree.
#[derive(Debug, Clone)]
pub(super) struct Folders<T>(BTreeMap<Vec<u8>, Vec<(Vec<u8>, T)>>);

impl<T> Default for Folders<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Folders<T> {
    /// From whole paths.
    pub(super) fn new(files: impl IntoIterator<Item = (Vec<u8>, T)>) -> Self {
        let mut folders = Self::default();
        for (path, it) in files {
            let (folder, name) = split(&path);
            let file = (name.to_vec(), it);
            match folders.0.get_mut(folder) {
                Some(files) => files.push(file),
                None => folders.insert(folder.to_vec(), vec![file]),
            }
        }
        for files in folders.0.values_mut() {
            files.sort_by(|one, other| one.0.cmp(&other.0));
        }
        folders
    }

    /// Adds a folder with its files, in the order of their names. Its path is empty or ends with
    /// `/`.
    pub(super) fn insert(&mut self, folder: Vec<u8>, files: Vec<(Vec<u8>, T)>) {
        if !files.is_empty() {
            self.0.insert(folder, files);
        }
    }

    /// What is known of a file.
    pub(super) fn get(&self, path: &[u8]) -> Option<&T> {
        let (folder, name) = split(path);
        find(self.files(folder), name)
    }

    /// The files right in a folder, in the order of their names.
    pub(super) fn files(&self, folder: &[u8]) -> &[(Vec<u8>, T)] {
        self.0.get(folder).map_or(&[], Vec::as_slice)
    }

    /// True when the tree has something below a folder.
    pub(super) fn has_below(&self, folder: &[u8]) -> bool {
        let next = self.0.range(folder.to_vec()..).next();
        next.is_some_and(|(path, _)| path.starts_with(folder))
    }

    /// The names of the folders right in a folder, in their order.
    pub(super) fn below(&self, folder: &[u8]) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        let mut next = folder.to_vec();
        while let Some((path, _)) = self.0.range(next.clone()..).next() {
            let Some(rest) = path.strip_prefix(folder) else {
                break;
            };
            let Some(end) = rest.iter().position(|byte| *byte == b'/') else {
                // The folder itself.
                next.push(0);
                continue;
            };
            names.push(rest[..end].to_vec());
            next.truncate(folder.len());
            next.extend(&rest[..end]);
            // The byte after `/`: past all that is below that one.
            next.push(b'/' + 1);
        }
        names.sort();
        names
    }

    /// Every folder that has files.
    pub(super) fn folders(&self) -> impl Iterator<Item = (&[u8], &[(Vec<u8>, T)])> {
        let all = self.0.iter();
        all.map(|(folder, files)| (folder.as_slice(), files.as_slice()))
    }

    /// Every file by its path, in git's order.
    pub(super) fn sorted(&self) -> Vec<(Vec<u8>, &T)> {
        let all = self.0.iter().flat_map(|(folder, files)| {
            let path = |name: &Vec<u8>| [folder.as_slice(), name.as_slice()].concat();
            files.iter().map(move |(name, it)| (path(name), it))
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }

    /// Every folder that has files, to change what is known of them.
    #[cfg(test)]
    pub(super) fn folders_mut(&mut self) -> impl Iterator<Item = (&[u8], &mut Vec<(Vec<u8>, T)>)> {
        let all = self.0.iter_mut();
        all.map(|(folder, files)| (folder.as_slice(), files))
    }
}

/// What is known of a name among those of a folder.
pub(super) fn find<'a, T>(files: &'a [(Vec<u8>, T)], name: &[u8]) -> Option<&'a T> {
    let found = files.binary_search_by(|(it, _)| it.as_slice().cmp(name));
    found.ok().map(|at| &files[at].1)
}

/// The folder of a path, which is empty or ends with `/`, and the name in it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|byte| *byte == b'/');
    path.split_at(end.map_or(0, |at| at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_found_whatever_names_stand_between_them() {
        let paths = [
            "a", "a-b/x", "a.c", "a/b/c/d", "a/b/e", "a/z", "a0/y", "b/c/d",
        ];
        let folders = Folders::new(paths.map(|path| (path.as_bytes().to_vec(), ())));
        let below = |folder: &str| {
            let names = folders.below(folder.as_bytes()).into_iter();
            names
                .map(|it| String::from_utf8(it).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(below(""), ["a", "a-b", "a0", "b"]);
        assert_eq!(below("a/"), ["b"]);
        assert_eq!(below("a/b/"), ["c"]);
        assert_eq!(below("b/"), ["c"]);
        assert_eq!(below("a/b/c/"), [""; 0]);
        assert!(folders.has_below(b"b/") && !folders.has_below(b"c/"));
        assert!(folders.get(b"a/b/e").is_some() && folders.get(b"a/b/f").is_none());
        let sorted = folders.sorted().into_iter();
        let sorted: Vec<_> = sorted
            .map(|(path, ())| String::from_utf8(path).unwrap())
            .collect();
        assert_eq!(sorted, paths);
    }
}
