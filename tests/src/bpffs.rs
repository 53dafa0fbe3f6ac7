//! A bpffs without a mount point: it ends, with all that is pinned in it, with its last file.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// A BPF file system of a test's own. Needs root.
#[derive(Debug)]
pub struct Bpffs {
    mount: OwnedFd,
}

impl Bpffs {
    /// Makes an empty one.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn new() -> Result<Self> {
        let mount = mount().context("cannot make a bpffs: run the tests as root")?;
        Ok(Self { mount })
    }

    /// Its root directory while this lives, for this process and those that it starts.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.mount.as_raw_fd()))
    }
}

/// fsopen(2), fsconfig(2), fsmount(2): a mount that is attached nowhere.
fn mount() -> io::Result<OwnedFd> {
    const CLOEXEC: libc::c_int = 1;
    /// `FSCONFIG_CMD_CREATE`.
    const CREATE: libc::c_int = 6;
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: the name is terminated; a descriptor that is returned is ours alone.
    let context = unsafe { descriptor(libc::syscall(libc::SYS_fsopen, c"bpf".as_ptr(), CLOEXEC)) }?;
    let fd = context.as_raw_fd();
    // SAFETY: the command takes neither key nor value.
    let created = unsafe { libc::syscall(libc::SYS_fsconfig, fd, CREATE, null, null, 0) };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no pointers; a descriptor that is returned is ours alone.
    unsafe { descriptor(libc::syscall(libc::SYS_fsmount, fd, CLOEXEC, 0)) }
}

/// # Safety
/// `result` is what a system call just returned that makes a descriptor.
unsafe fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}
