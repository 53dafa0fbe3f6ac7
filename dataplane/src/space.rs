//! How full a file system is, for people.

use std::fmt;
use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// What a file system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Octets that may still be written.
    pub free: u64,
    /// Octets in all.
    pub size: u64,
    /// Files that may still be made.
    pub inodes_free: u64,
    /// Files that there may be; 0 where that has no fixed limit (btrfs).
    pub inodes: u64,
}

impl Space {
    /// Of the file system that `path` is on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn of(path: &Path) -> io::Result<Self> {
        let stat = statvfs(path)?;
        let unit = stat.fragment_size();
        Ok(Self {
            free: stat.blocks_available() * unit,
            size: stat.blocks() * unit,
            inodes_free: stat.files_available(),
            inodes: stat.files(),
        })
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { free, size, inodes_free, inodes } = *self;
        let mib = |octets: u64| octets as f64 / f64::from(1 << 20);
        write!(f, "{:.1} of {:.1} MiB", mib(free), mib(size))?;
        if inodes > 0 {
            write!(f, " and {inodes_free} of {inodes} inodes")?;
        }
        f.write_str(" are free")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_told_in_mebibytes() {
        let space = Space { free: 1 << 19, size: 4 << 20, inodes_free: 12, inodes: 1024 };
        assert_eq!(space.to_string(), "0.5 of 4.0 MiB and 12 of 1024 inodes are free");
        assert_eq!(Space { inodes: 0, ..space }.to_string(), "0.5 of 4.0 MiB are free");
        assert!(Space::of(Path::new("/")).unwrap().size > 0);
    }
}
