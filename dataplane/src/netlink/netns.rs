use std::fs::File;
use std::path::Path;

use super::NetlinkError;

/// An open network namespace. It lives as long as this does, even when its last process is gone.
#[derive(Debug)]
pub struct Netns {
    file: File,
    inode: u64,
}

impl Netns {
    /// The namespace of a process, seen through `/proc`.
    ///
    /// # Errors
    /// [`NetlinkError::OpenNetns`] when the process is gone.
    pub fn of_pid(pid: u32) -> Result<Self, NetlinkError> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// A namespace file.
    ///
    /// # Errors
    /// [`NetlinkError::OpenNetns`] when it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, NetlinkError> {
        let _ = path;
        unimplemented!()
    }

    /// Number that `ls -l /proc/<pid>/ns/net` shows; another one means another namespace.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// `SO_NETNS_COOKIE`, what the socket programs know the namespace by; never reused until reboot.
    ///
    /// # Errors
    /// [`NetlinkError::Cookie`] on kernels before 5.14.
    pub async fn cookie(&self) -> Result<u64, NetlinkError> {
        let _ = &self.file;
        unimplemented!()
    }
}
