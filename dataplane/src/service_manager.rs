//! What a service manager that speaks sd_notify(3) is told, and what it keeps: systemd, when skepd is one of its units.
//!
//! Without one (`NOTIFY_SOCKET` and `LISTEN_FDS` unset) everything here does nothing.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket};

/// The first descriptor that a service manager hands over (sd_listen_fds(3)).
const FIRST_FD: RawFd = 3;

/// Whether a service manager wants to be told.
pub fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Tells that the service does its work from now on.
///
/// # Errors
/// What the kernel says of the manager's socket.
pub fn ready() -> io::Result<()> {
    tell("READY=1", &[])
}

/// Gives duplicates of descriptors into keeping: the next process of this unit gets them from [`kept`].
///
/// # Errors
/// What the kernel says of the manager's socket.
pub fn keep(fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    // Those of before, if any, have another process' state and would be handed over as well.
    tell("FDSTOREREMOVE=1\nFDNAME=skep", &[])?;
    tell("FDSTORE=1\nFDNAME=skep", fds)
}

/// What an earlier process of this unit gave into keeping; once only, in no order.
///
/// # Safety
/// Nothing else in this process owns the descriptors from 3 on that the manager's variables tell of.
pub unsafe fn kept() -> Vec<OwnedFd> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Vec::new();
    }
    let count = RawFd::try_from(number("LISTEN_FDS").unwrap_or(0)).unwrap_or(0);
    let fds = (FIRST_FD..FIRST_FD.saturating_add(count)).map(|fd| {
        // SAFETY: handed over to this process, by the caller's word owned by nothing else.
        unsafe { OwnedFd::from_raw_fd(fd) }
    });
    fds.filter(|fd| fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_ok()).collect()
}

/// Has systemd start a unit, and waits until it is ready.
///
/// # Errors
/// What systemctl says.
pub async fn start(unit: &str) -> io::Result<()> {
    systemctl(&["start", unit]).await
}

/// Has systemd stop a unit, and waits until it has.
///
/// # Errors
/// What systemctl says.
pub async fn stop(unit: &str) -> io::Result<()> {
    systemctl(&["stop", unit]).await
}

/// Has systemd start a unit, now and with the machine.
///
/// # Errors
/// What systemctl says.
pub async fn enable(unit: &str) -> io::Result<()> {
    systemctl(&["enable", "--quiet", "--now", unit]).await
}

async fn systemctl(arguments: &[&str]) -> io::Result<()> {
    let output = tokio::process::Command::new("systemctl").args(arguments).output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn tell(state: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let to = address(&path)?;
    let from = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let raw: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let rights = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    let sent = sendmsg(from.as_raw_fd(), &[IoSlice::new(state.as_bytes())], rights, MsgFlags::empty(), Some(&to));
    Ok(sent.map(drop)?)
}

/// A path, or a name in the abstract namespace, which is written with `@` (unix(7)).
fn address(path: &OsStr) -> io::Result<UnixAddr> {
    Ok(match path.as_bytes().strip_prefix(b"@") {
        Some(name) => UnixAddr::new_abstract(name)?,
        None => UnixAddr::new(path)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_an_at_sign_is_abstract() {
        let abstract_name = address(OsStr::new("@manager")).unwrap();
        assert_eq!((abstract_name.path(), abstract_name.as_abstract()), (None, Some(&b"manager"[..])));
        assert_eq!(address(OsStr::new("/run/manager")).unwrap().path().unwrap(), "/run/manager");
    }
}
