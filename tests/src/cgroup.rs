//! A cgroup that single threads of a test can join, so that socket programs see their sockets and no others.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use anyhow::{Context as _, Result};

/// A cgroup v2 below this process' own. Removed when dropped; its threads must have ended by then.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one. `root` is where cgroup v2 is mounted.
    ///
    /// # Errors
    /// Without root, or where cgroup v2 is not mounted.
    pub fn new(root: &Path) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let own = fs::read_to_string("/proc/self/cgroup").context("cannot read /proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).context("not in a cgroup v2")?;
        let name = format!("skep-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = root.join(own).join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make cgroup {}", path.display()))?;
        let cgroup = Self { path };
        // Threaded: threads can be in it without their process.
        cgroup.write("cgroup.type", "threaded")?;
        Ok(cgroup)
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the calling thread in, and with it the threads that it starts.
    ///
    /// # Errors
    /// The kernel's.
    pub fn join(&self) -> Result<()> {
        // 0 stands for the writer.
        self.write("cgroup.threads", "0")
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.path.join(file);
        fs::write(&path, value).with_context(|| format!("cannot write {value} to {}", path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _removed = fs::remove_dir(&self.path);
    }
}

/// A cgroup whose processes may have so much memory together, in cgroup v1 or v2, where its controller is. Removed when
/// dropped; its processes must have ended by then.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
}

impl Memory {
    /// Makes one for this many octets.
    ///
    /// # Errors
    /// Without root, or where there is no memory controller.
    pub fn new(octets: u64) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (v1, v2) = (Path::new("/sys/fs/cgroup/memory"), Path::new("/sys/fs/cgroup"));
        let (root, limit) = if v1.is_dir() { (v1, "memory.limit_in_bytes") } else { (v2, "memory.max") };
        if root == v2 {
            let path = root.join("cgroup.subtree_control");
            fs::write(&path, "+memory").with_context(|| format!("cannot write {}", path.display()))?;
        }
        let name = format!("skep-memory-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = root.join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make cgroup {}", path.display()))?;
        let cgroup = Self { path };
        let path = cgroup.path.join(limit);
        fs::write(&path, octets.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(cgroup)
    }

    /// The file that a process writes 0 to, to join.
    pub fn processes(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _removed = fs::remove_dir(&self.path);
    }
}
