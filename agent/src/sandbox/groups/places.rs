//! Where this process may make control groups: what `/proc/self` says of its own. Pure.

use std::path::{Path, PathBuf};

use super::texts::Version;

/// A tree of control groups, and this process's own group in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) version: Version,
    /// Where it is mounted.
    pub(super) root: PathBuf,
    pub(super) own: PathBuf,
    /// Controllers of version 1; version 2 says them in a file of the group.
    pub(super) controllers: Vec<String>,
}

/// The trees, from `/proc/self/mountinfo` and `/proc/self/cgroup`; version 2 comes first.
pub(super) fn trees(mounts: &str, groups: &str) -> Vec<Tree> {
    let mut trees: Vec<_> = mounts
        .lines()
        .filter_map(|line| tree(line, groups))
        .collect();
    trees.sort_by_key(|tree| tree.version == Version::One);
    trees
}

/// One line of `mountinfo`: `32 31 0:29 ROOT PLACE options … - cgroup source super,options`.
fn tree(line: &str, groups: &str) -> Option<Tree> {
    let (front, back) = line.split_once(" - ")?;
    let front: Vec<_> = front.split(' ').collect();
    let back: Vec<_> = back.split(' ').collect();
    let version = match *back.first()? {
        "cgroup" => Version::One,
        "cgroup2" => Version::Two,
        _ => return None,
    };
    let (mounted, root) = (*front.get(3)?, PathBuf::from(*front.get(4)?));
    let controllers: Vec<_> = match version {
        Version::One => back.get(2)?.split(',').map(str::to_owned).collect(),
        Version::Two => Vec::new(),
    };
    let own = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, path) = (parts.next()?, parts.next()?);
        let is_this = match version {
            Version::One => names
                .split(',')
                .any(|name| controllers.iter().any(|it| it == name)),
            Version::Two => names.is_empty(),
        };
        is_this.then_some(path)
    })?;
    Some(Tree {
        own: below(&root, Path::new(mounted), Path::new(own)),
        version,
        root,
        controllers,
    })
}

/// The group's folder: a mount may show a part of the tree only, as in containers. A group outside
/// of that part is not seen, and the part's own top is the next best.
fn below(root: &Path, mounted: &Path, own: &Path) -> PathBuf {
    match own.strip_prefix(mounted) {
        Ok(rest) => root.join(rest),
        Err(_) => root.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_host_has_a_tree_for_each_controller() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let groups = "4:memory:/a/b\n1:cpu,cpuacct:/\n0::/user.slice\n";
        let trees = trees(mounts, groups);
        let found: Vec<_> = trees
            .iter()
            .map(|it| (it.version, it.own.to_str().unwrap()))
            .collect();
        assert_eq!(
            found,
            [
                (Version::Two, "/sys/fs/cgroup/unified/user.slice"),
                (Version::One, "/sys/fs/cgroup/memory/a/b"),
                (Version::One, "/sys/fs/cgroup/cpu,cpuacct/"),
            ]
        );
    }

    #[test]
    fn a_container_sees_a_part_of_the_tree() {
        let mount = |root: &str| {
            format!("9 8 0:1 {root} /sys/fs/cgroup rw - cgroup2 cgroup rw,nsdelegate\n")
        };
        for (root, own, folder) in [
            ("/docker/x", "/docker/x/y", "/sys/fs/cgroup/y"),
            ("/", "/", "/sys/fs/cgroup/"),
            ("/docker/x", "/other", "/sys/fs/cgroup"),
        ] {
            let trees = trees(&mount(root), &format!("0::{own}\n"));
            assert_eq!(trees[0].own, Path::new(folder));
        }
    }
}
