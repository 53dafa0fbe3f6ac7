use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::unistd::Pid;

use crate::netns::Namespace;

/// Where a thread works.
#[derive(Debug, Clone, Default)]
pub struct Place {
    netns: Option<Arc<Namespace>>,
    core: Option<usize>,
}

impl Place {
    /// In that network namespace.
    pub fn inside(netns: Namespace) -> Self {
        Self { netns: Some(Arc::new(netns)), core: None }
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
    /// What the kernel says.
    pub fn enter(&self) -> io::Result<()> {
        if let Some(netns) = &self.netns {
            setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
        }
        if let Some(core) = self.core {
            let mut set = CpuSet::new();
            set.set(core)?;
            sched_setaffinity(Pid::from_raw(0), &set)?;
        }
        Ok(())
    }
}
