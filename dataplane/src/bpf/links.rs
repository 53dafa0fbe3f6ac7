use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::keep::Keep;
use super::{BpfError, pins, sys};

/// The socket programs, each at its own attach point of the cgroup.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "named for the kernel's attach points")]
pub enum SocketHook {
    Connect4,
    Connect6,
    Sendmsg4,
    Sendmsg6,
    Recvmsg4,
    Recvmsg6,
    Getpeername4,
    Getpeername6,
}

impl SocketHook {
    /// Every hook. The ones that undo a translation come first: no socket may be translated before they run.
    pub const ALL: [Self; 8] = [
        Self::Getpeername4,
        Self::Getpeername6,
        Self::Recvmsg4,
        Self::Recvmsg6,
        Self::Sendmsg4,
        Self::Sendmsg6,
        Self::Connect4,
        Self::Connect6,
    ];

    /// The program's name in the object, and of its pins.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
            Self::Sendmsg4 => "sendmsg4",
            Self::Sendmsg6 => "sendmsg6",
            Self::Recvmsg4 => "recvmsg4",
            Self::Recvmsg6 => "recvmsg6",
            Self::Getpeername4 => "getpeername4",
            Self::Getpeername6 => "getpeername6",
        }
    }

    /// `enum bpf_attach_type` of the kernel's `include/uapi/linux/bpf.h`.
    const fn attach_type(self) -> u32 {
        match self {
            Self::Connect4 => 10,
            Self::Connect6 => 11,
            Self::Sendmsg4 => 14,
            Self::Sendmsg6 => 15,
            Self::Recvmsg4 => 19,
            Self::Recvmsg6 => 20,
            Self::Getpeername4 => 29,
            Self::Getpeername6 => 30,
        }
    }
}

/// The packet programs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DeviceHook {
    /// tcx ingress: what the container sends.
    FromContainer,
    /// tcx egress: what reaches the container through the host's stack.
    ToContainer,
    /// tcx ingress: what other nodes send.
    FromWireguard,
}

impl DeviceHook {
    /// Every hook.
    pub const ALL: [Self; 3] = [Self::ToContainer, Self::FromContainer, Self::FromWireguard];
    /// Those on the host end of every veth.
    pub const VETH: [Self; 2] = [Self::ToContainer, Self::FromContainer];
    /// Those on the device of the tunnels to other nodes.
    pub const TUNNEL: [Self; 1] = [Self::FromWireguard];

    /// The program's name in the object, and of its pins.
    pub const fn program(self) -> &'static str {
        match self {
            Self::FromContainer => "from_container",
            Self::ToContainer => "to_container",
            Self::FromWireguard => "from_wireguard",
        }
    }

    /// `BPF_TCX_INGRESS`, `BPF_TCX_EGRESS`.
    const fn attach_type(self) -> u32 {
        match self {
            Self::FromContainer | Self::FromWireguard => 46,
            Self::ToContainer => 47,
        }
    }
}

/// `BPF_F_BEFORE`; relative to nothing it means "first".
const FIRST: u32 = 1 << 3;

/// A program of this build, opened from its pin.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) fd: OwnedFd,
    pub(super) id: u32,
}

/// How a link pin stands to what it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LinkState {
    /// Runs `program` where it should.
    Current,
    /// Runs another program where it should.
    Outdated,
    /// Its device or cgroup is gone, or it is on another one.
    Gone,
    /// No pin.
    Absent,
}

/// A pinned link, seen from what it should be.
pub(super) fn state(keep: &Keep, pin: &Path, program: &Program, target: u64) -> io::Result<LinkState> {
    let mut facts = keep.ask(pin, sys::link_facts)?;
    if facts.is_some_and(|facts| facts.target != target) {
        // It is of no use to hold: what is pinned there now may be another.
        keep.release(pin);
        facts = keep.ask(pin, sys::link_facts)?;
    }
    Ok(match facts {
        None => LinkState::Absent,
        Some(facts) if facts.target != target => LinkState::Gone,
        Some(facts) if facts.program != program.id => LinkState::Outdated,
        Some(_) => LinkState::Current,
    })
}

/// Sees to it that the pinned link runs `program` on `target`: leaves one that does, replaces the program behind
/// one that runs another in one step, makes one anew otherwise.
fn ensure(
    keep: &Keep,
    pin: &Path,
    program: &Program,
    target: u64,
    create: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<()> {
    match state(keep, pin, program, target)? {
        LinkState::Current => return Ok(()),
        LinkState::Outdated => match keep.ask(pin, |link| sys::link_update(link, program.fd.as_fd())) {
            // ENOLINK: the device went away since it was asked for.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
            done => return done.map(drop),
        },
        LinkState::Gone | LinkState::Absent => {}
    }
    keep.release(pin);
    keep.pin(create()?, pin)
}

/// [`ensure`] for a device: tcx, before every other program there.
pub(super) fn ensure_device(
    keep: &Keep,
    pin: &Path,
    program: &Program,
    hook: DeviceHook,
    ifindex: u32,
) -> io::Result<()> {
    ensure(keep, pin, program, u64::from(ifindex), || {
        sys::link_create(program.fd.as_fd(), ifindex, hook.attach_type(), FIRST)
    })
}

/// [`ensure`] for the cgroup. Several links at one attach point all run (the kernel treats links as `ALLOW_MULTI`).
pub(super) fn ensure_socket(
    keep: &Keep,
    pin: &Path,
    program: &Program,
    hook: SocketHook,
    cgroup: &Path,
) -> io::Result<()> {
    ensure(keep, pin, program, cgroup_id(cgroup)?, || {
        let directory = std::fs::File::open(cgroup)?;
        sys::link_create(program.fd.as_fd(), directory.as_raw_fd() as u32, hook.attach_type(), 0)
    })
}

/// Detaches the pinned link, if it is one and attached, and removes the pin, if there is one.
pub(super) fn remove(pin: &Path) -> Result<(), BpfError> {
    if let Ok(link) = sys::obj_get(pin, true) {
        // Not a link (the pin that stands for a clsact filter), or its device is gone: nothing to detach.
        let _detached = sys::link_detach(link.as_fd());
    }
    pins::unpin(pin)
}

/// The id of a cgroup, which is the inode number of its directory.
pub(super) fn cgroup_id(cgroup: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(cgroup)?.ino())
}
