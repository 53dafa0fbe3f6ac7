use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::BpfError;

/// Where the root of the cgroup v2 hierarchy is mounted: `/sys/fs/cgroup` on a unified host,
/// `/sys/fs/cgroup/unified` on a hybrid one, or wherever else.
///
/// # Errors
/// [`BpfError::NoCgroup2`] when it is not mounted.
pub fn find_cgroup2_root() -> Result<PathBuf, BpfError> {
    let path = Path::new("/proc/self/mountinfo");
    let mounts = fs::read_to_string(path).map_err(|source| BpfError::Proc { path: path.to_owned(), source })?;
    root_in(&mounts, is_cgroup2).ok_or(BpfError::NoCgroup2)
}

/// Whether the path leads into a cgroup v2 hierarchy: a mount that is listed may lie hidden below another.
fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// The first mount of the hierarchy's own root; a mount of a subtree (as in a container) would miss its siblings.
fn root_in(mountinfo: &str, reachable: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        // proc(5): id parent major:minor root mount-point options [optional fields] - type source options
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let wanted = filesystem.split(' ').next() == Some("cgroup2") && root == "/" && reachable(Path::new(point));
        wanted.then(|| PathBuf::from(point))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_the_hierarchys_root_is_found_on_hybrid_and_unified_hosts() {
        let hybrid = "28 1 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                      29 28 0:26 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
                      38 28 0:34 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(root_in(hybrid, |_| true), Some("/sys/fs/cgroup/unified".into()));
        let unified = "30 24 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate\n";
        assert_eq!(root_in(unified, |_| true), Some("/sys/fs/cgroup".into()));
        let subtree = "30 24 0:27 /docker/f00 /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw\n";
        assert_eq!(root_in(subtree, |_| true), None);
        assert_eq!(root_in(hybrid, |_| false), None, "a mount below another");
    }
}
