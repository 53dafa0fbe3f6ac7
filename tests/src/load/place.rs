use std::fs::File;
use std::io;
use std::path::PathBuf;

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::unistd::Pid;

/// Where a thread works.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The network namespace's file (`/proc/<pid>/ns/net`, `/run/netns/<name>`); none: where it is.
    pub netns: Option<PathBuf>,
    /// The only core it may run on; none: any.
    pub core: Option<usize>,
}

impl Place {
    /// The namespace of process `pid`.
    pub fn of_process(pid: u32) -> Self {
        Self { netns: Some(PathBuf::from(format!("/proc/{pid}/ns/net"))), core: None }
    }

    /// The same, on one core.
    #[must_use]
    pub fn on_core(mut self, core: usize) -> Self {
        self.core = Some(core);
        self
    }

    /// Moves the calling thread there.
    ///
    /// # Errors
    /// What the kernel says, with the namespace or core.
    pub fn enter(&self) -> io::Result<()> {
        if let Some(path) = &self.netns {
            let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            let netns = File::open(path).map_err(named)?;
            setns(netns, CloneFlags::CLONE_NEWNET).map_err(|errno| named(errno.into()))?;
        }
        if let Some(core) = self.core {
            let mut set = CpuSet::new();
            set.set(core)?;
            sched_setaffinity(Pid::from_raw(0), &set)?;
        }
        Ok(())
    }
}
