use std::fs;
use std::path::{Path, PathBuf};

use super::BpfError;

/// Where the root of the cgroup v2 hierarchy is mounted: `/sys/fs/cgroup` on a unified host,
/// `/sys/fs/cgroup/unified` on a hybrid one, or wherever else.
///
/// # Errors
/// [`BpfError::NoCgroup2`] when it is not mounted.
pub fn find_cgroup2_root() -> Result<PathBuf, BpfError> {
    let path = Path::new("/proc/self/mountinfo");
    let mounts = fs::read_to_string(path).map_err(|source| BpfError::Proc { path: path.to_owned(), source })?;
    root_in(&mounts).ok_or(BpfError::NoCgroup2)
}

/// The first mount of the hierarchy's own root; a mount of a subtree (as in a container) would miss its siblings.
fn root_in(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        // proc(5): id parent major:minor root mount-point options [optional fields] - type source options
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (filesystem.split(' ').next() == Some("cgroup2") && root == "/").then(|| PathBuf::from(point))
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
        assert_eq!(root_in(hybrid), Some("/sys/fs/cgroup/unified".into()));
        let unified = "30 24 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate\n";
        assert_eq!(root_in(unified), Some("/sys/fs/cgroup".into()));
        let subtree = "30 24 0:27 /docker/f00 /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw\n";
        assert_eq!(root_in(subtree), None);
    }
}
