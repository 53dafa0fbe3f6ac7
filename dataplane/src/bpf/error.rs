use std::io;
use std::path::PathBuf;

use aya::programs::ProgramError;
use tracing::debug;

/// What went wrong between skepd and the kernel's BPF side; every message names the object and the way out.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// A pin is not there: nothing has been set up under this directory.
    #[error("no pin {path}: start skepd, or name its directory with --bpffs")]
    NoPin {
        /// The pin.
        path: PathBuf,
    },
    /// A pin is there but cannot be opened.
    #[error("cannot open pin {path}: {source}; it takes root (CAP_BPF, CAP_NET_ADMIN)")]
    OpenPin {
        /// The pin.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// A pinned map has another layout than this build's.
    #[error("map {name} at {path} is not this build's ({found}, wanted {wanted}): run the skepd that it belongs to")]
    ForeignMap {
        /// The map.
        name: &'static str,
        /// Its pin.
        path: PathBuf,
        /// What was found there.
        found: String,
        /// What the ABI says.
        wanted: String,
    },
    /// A read or write of a map failed.
    #[error("{operation} in map {map}: {source}{}", full(.source))]
    Map {
        /// The map.
        map: &'static str,
        /// What was tried.
        operation: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// The directory of the pins cannot be made or changed.
    #[error("cannot {operation} {path}: {source}; a bpffs must be mounted there (mount -t bpf bpf /sys/fs/bpf)")]
    PinDirectory {
        /// What was tried.
        operation: &'static str,
        /// The path.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// The object that this build carries cannot be parsed, or its maps cannot be made.
    #[error("cannot prepare the eBPF object: {source}; see `skepd check` for what the kernel lacks")]
    Object {
        /// aya's word.
        source: Box<aya::EbpfError>,
    },
    /// There is no memory for a map.
    #[error(
        "no memory for map {map} of {entries} entries ({} MB at least): {source}; start skepd with smaller --max-endpoints, \
        --max-services and --max-replicas, or allow it more memory (systemd: MemoryMax=)", bytes.div_ceil(1 << 20)
    )]
    MapMemory {
        /// The map.
        map: &'static str,
        /// Its capacity.
        entries: u32,
        /// Octets of its keys and values.
        bytes: u64,
        /// The kernel's word.
        source: io::Error,
    },
    /// The object lacks something that the daemon expects: a build of mixed parts.
    #[error("the eBPF object has no {what} {name}: build skepd anew")]
    Missing {
        /// Map or program.
        what: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// The kernel refused a program.
    #[error("the kernel refuses program {program}: {cause}; Linux 6.1 or newer is needed, see `skepd check`{}", last_lines(.log))]
    Load {
        /// The program.
        program: &'static str,
        /// The kernel's word, or aya's.
        cause: String,
        /// All that the verifier said, which may be as long as a book.
        log: String,
    },
    /// A program could not be attached to a device, or its link replaced.
    #[error("cannot {operation} {program} on {ifname} (ifindex {ifindex}): {source}; the interface may be gone")]
    Device {
        /// What was tried.
        operation: &'static str,
        /// The program.
        program: &'static str,
        /// The device's name.
        ifname: String,
        /// The device.
        ifindex: u32,
        /// The kernel's word.
        source: io::Error,
    },
    /// A program could not be attached to the cgroup, or its link replaced.
    #[error("cannot {operation} {program} on cgroup {path}: {source}; cgroup v2 must be mounted there")]
    Cgroup {
        /// What was tried.
        operation: &'static str,
        /// The program.
        program: &'static str,
        /// The cgroup.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// No cgroup2 mount.
    #[error("no cgroup v2 is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified (or boot with cgroup v2)")]
    NoCgroup2,
    /// /proc cannot be read.
    #[error("cannot read {path}: {source}; /proc must be mounted")]
    Proc {
        /// The file.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// A service has more backends than its set can count.
    #[error("service {service} has {count} backends; a set holds at most 65535")]
    TooManyBackends {
        /// Service id.
        service: u32,
        /// How many.
        count: usize,
    },
    /// The event ring cannot be read.
    #[error("cannot read the ring buffer EVENTS: {source}; restart skepd")]
    Events {
        /// The kernel's word.
        source: io::Error,
    },
}

impl BpfError {
    /// That the kernel refused a program; the verifier's whole log goes to skepd's.
    pub(super) fn refused(program: &'static str, error: ProgramError) -> Self {
        let ProgramError::LoadError { io_error, verifier_log } = error else {
            return Self::Load { program, cause: error.to_string(), log: String::new() };
        };
        let log = verifier_log.to_string();
        debug!(program, "The verifier's log:\n{log}");
        Self::Load { program, cause: io_error.to_string(), log }
    }
}

/// The end of a verifier's log, where it says what it refuses.
fn last_lines(log: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<&str> = log.trim_end().lines().collect();
    if log.trim_end().is_empty() {
        return String::new();
    }
    let last = &lines[lines.len().saturating_sub(LINES)..];
    let rest = if last.len() < lines.len() { "; `skepd --log debug` shows all of it" } else { "" };
    format!("\nThe verifier's log ends so ({} of {} lines{rest}):\n{}", last.len(), lines.len(), last.join("\n"))
}

/// A full map has its own remedy.
fn full(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::E2BIG | libc::ENOSPC) => "; the map is full, see `skepctl map list`",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::BpfError;

    #[test]
    fn a_refused_program_shows_the_end_of_the_verifiers_log_once() {
        let log: String = (1..=3_000).map(|line| format!("line {line}\n")).collect();
        let error = BpfError::Load { program: "from_container", cause: "Permission denied".to_owned(), log };
        let shown = format!("{:#}", anyhow::Error::from(error));
        assert_eq!(shown.matches("line 3000").count(), 1);
        assert!(shown.contains("line 2981") && !shown.contains("line 2980\n"), "{shown}");
        assert!(shown.contains("20 of 3000 lines; `skepd --log debug`"), "{shown}");
    }

    #[test]
    fn nothing_is_said_about_a_log_that_is_not_there() {
        let error = BpfError::Load { program: "connect4", cause: "no BTF".to_owned(), log: String::new() };
        assert!(error.to_string().ends_with("see `skepd check`"));
    }
}
