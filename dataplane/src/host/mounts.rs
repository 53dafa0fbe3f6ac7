//! `/proc/<pid>/mountinfo` (proc_pid_mountinfo(5)).

use std::path::{Path, PathBuf};

/// A mount as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// `major:minor` of the file system: the same wherever it is mounted.
    pub(super) device: String,
    /// Where.
    pub(super) point: PathBuf,
    /// Type of the file system.
    pub(super) kind: String,
}

/// The mounts of a listing, in its order.
pub(super) fn parse(listing: &str) -> Vec<Mount> {
    listing.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ');
    let device = fields.nth(2)?.to_owned();
    let point = unescape(fields.nth(1)?);
    Some(Mount { device, point: point.into(), kind: after.split(' ').next()?.to_owned() })
}

/// Blanks and the like are written as three octal digits.
fn unescape(field: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(field.to_owned(), |field, (code, character)| field.replace(code, character))
}

/// The mount that a path lies on: the deepest, and of several at one place the last.
pub(super) fn of<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let over = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    over.max_by_key(|mount| mount.point.components().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 27 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw
40 23 0:37 / /sys/fs/bpf rw,nosuid shared:9 - bpf bpf rw,mode=700
41 23 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
60 27 0:50 / /mnt/a\\040b rw - tmpfs tmpfs rw
61 27 0:51 / /mnt/a\\040b rw - bpf bpf rw
";

    #[test]
    fn a_path_lies_on_the_deepest_and_last_mount() {
        let mounts = parse(LISTING);
        assert_eq!(mounts.len(), 6);
        let kind = |path: &str| of(&mounts, Path::new(path)).map(|mount| mount.kind.as_str());
        assert_eq!(kind("/sys/fs/bpf/skep"), Some("bpf"));
        assert_eq!(kind("/sys/fs/bpffs"), Some("sysfs"));
        assert_eq!(kind("/mnt/a b/c"), Some("bpf"));
        assert_eq!(kind("/var"), Some("ext4"));
        assert_eq!(of(&mounts, Path::new("/sys/fs/bpf")).unwrap().device, "0:37");
    }
}
