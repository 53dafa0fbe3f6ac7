use std::io;
use std::mem::size_of;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn, bind, getsockname,
    getsockopt, listen, recvmsg, setsockopt, socket, sockopt,
};
use tracing::warn;

use super::{Config, ForwarderError};
use crate::service_manager;
use crate::supervisor::{HANDED, HANDED_FD, Handover, Process};

/// File descriptor of the UDP socket in a forwarder that the supervisor started.
const UDP_FD: RawFd = HANDED_FD;
/// File descriptor of the TCP socket in a forwarder that the supervisor started.
const TCP_FD: RawFd = HANDED_FD + 1;

/// Connections that wait to be accepted; as many as every libc knows (`SOMAXCONN` of musl's).
const BACKLOG: i32 = 128;

/// The two sockets of the DNS address.
pub(super) struct Listeners {
    pub(super) udp: OwnedFd,
    pub(super) tcp: OwnedFd,
}

impl Listeners {
    /// The supervisor's, those that the service manager kept for this unit, or new ones.
    pub(super) fn inherited_or_open(config: &Config) -> Result<Self, ForwarderError> {
        if std::env::var_os(HANDED).is_none() {
            // SAFETY: called once, before this program has opened anything that it does not close again.
            let kept = unsafe { service_manager::kept() };
            return Self::among(kept, config).map_or_else(|| Self::open(config), Ok);
        }
        // SAFETY: the supervisor put its sockets at these numbers before this program began, and nothing else in it
        // takes them; that they are indeed those sockets is checked below.
        let handed = unsafe { Self { udp: OwnedFd::from_raw_fd(UDP_FD), tcp: OwnedFd::from_raw_fd(TCP_FD) } };
        if handed.serve(config) { Ok(handed) } else { Err(ForwarderError::Handed { address: config.listen() }) }
    }

    /// Duplicates of another forwarder's, when they are what `config` asks for.
    fn of(process: &Process, config: &Config) -> Option<Self> {
        match (process.descriptor(UDP_FD), process.descriptor(TCP_FD)) {
            (Ok(udp), Ok(tcp)) => Some(Self { udp, tcp }).filter(|sockets| sockets.serve(config)),
            (Err(error), _) | (_, Err(error)) => {
                warn!(pid = process.pid(), %error, "Cannot take over the sockets; opening new ones beside them.");
                None
            }
        }
    }

    /// Beside those of an older forwarder, if need be: `SO_REUSEPORT`.
    pub(super) fn open(config: &Config) -> Result<Self, ForwarderError> {
        let address = config.listen();
        let failed = |operation| {
            move |errno: nix::Error| ForwarderError::Socket { operation, address, source: io::Error::from(errno) }
        };
        let udp = bound(config, SockType::Datagram).map_err(failed("bind UDP"))?;
        let tcp = bound(config, SockType::Stream).map_err(failed("bind TCP"))?;
        Backlog::new(BACKLOG).and_then(|backlog| listen(&tcp, backlog)).map_err(failed("listen"))?;
        Ok(Self { udp, tcp })
    }

    /// The pair that `config` asks for, in whichever order it comes.
    fn among(fds: Vec<OwnedFd>, config: &Config) -> Option<Self> {
        let [a, b] = <[OwnedFd; 2]>::try_from(fds).ok()?;
        let is_udp = getsockopt(&a, sockopt::SockType) == Ok(SockType::Datagram);
        let (udp, tcp) = if is_udp { (a, b) } else { (b, a) };
        Some(Self { udp, tcp }).filter(|sockets| sockets.serve(config))
    }

    /// Has the service manager, if there is one, keep them for the process after this one.
    pub(super) fn keep(&self) -> io::Result<()> {
        service_manager::keep(&[self.udp.as_fd(), self.tcp.as_fd()])
    }

    /// Whether these are the sockets that `config` asks for.
    fn serve(&self, config: &Config) -> bool {
        let is = |fd: BorrowedFd<'_>, kind| {
            getsockname::<SockaddrIn>(fd.as_raw_fd()).is_ok_and(|a| SocketAddrV4::from(a) == config.listen())
                && getsockopt(&fd, sockopt::SockType) == Ok(kind)
                && getsockopt(&fd, sockopt::Mark) == Ok(config.mark)
        };
        is(self.udp.as_fd(), SockType::Datagram) && is(self.tcp.as_fd(), SockType::Stream)
    }
}

impl Handover for Config {
    fn descriptors(&self, running: &[Process]) -> Result<Vec<OwnedFd>, Box<dyn std::error::Error + Send + Sync>> {
        let Listeners { udp, tcp } = match running.iter().find_map(|process| Listeners::of(process, self)) {
            Some(sockets) => sockets,
            None => Listeners::open(self)?,
        };
        Ok(vec![udp, tcp])
    }
}

fn bound(config: &Config, kind: SockType) -> nix::Result<OwnedFd> {
    let fd = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::ReusePort, &true)?;
    // The address may come to `lo` a moment later, and comes back after somebody flushed it.
    setsockopt(&fd, sockopt::IpFreebind, &true)?;
    setsockopt(&fd, sockopt::Mark, &config.mark)?;
    setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?;
    bind(fd.as_raw_fd(), &SockaddrIn::from(config.listen()))?;
    Ok(fd)
}

/// A datagram: how long it is, who sent it, and the device it came in through.
pub(super) struct Datagram {
    pub(super) len: usize,
    pub(super) peer: SocketAddrV4,
    pub(super) ifindex: u32,
}

/// Takes a datagram from the queue; one without device or sender (there is none on Linux) has ifindex 0, nobody's.
pub(super) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut control = cmsg_space!(libc::in_pktinfo);
    let mut parts = [io::IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrIn>(fd.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let ifindex = message.cmsgs()?.find_map(|item| match item {
        ControlMessageOwned::Ipv4PacketInfo(info) => u32::try_from(info.ipi_ifindex).ok(),
        _ => None,
    });
    let peer = message.address.map_or(SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0), SocketAddrV4::from);
    Ok(Datagram { len: message.bytes, peer, ifindex: ifindex.unwrap_or(0) })
}

/// The device through which a connection's last handshake packet came in.
///
/// `IP_PKTOPTIONS` of a stream socket tells it (ip(7) keeps silent; net/ipv4/ip_sockglue.c, `mc_index`).
pub(super) fn stream_ifindex(fd: BorrowedFd<'_>) -> io::Result<u32> {
    #[repr(C)]
    struct Answer {
        header: libc::cmsghdr,
        info: libc::in_pktinfo,
    }
    // cmsghdr and in_pktinfo follow each other without a gap: both sizes are multiples of the alignment that CMSG_DATA keeps.
    let mut answer = std::mem::MaybeUninit::<[Answer; 4]>::zeroed();
    let mut len = size_of::<[Answer; 4]>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into a buffer of that size.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_PKTOPTIONS,
            answer.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: integers only, and zeroed before the kernel wrote to it.
    let [first, ..] = unsafe { answer.assume_init() };
    let complete = len as usize >= size_of::<libc::cmsghdr>() + size_of::<libc::in_pktinfo>();
    if !complete || first.header.cmsg_level != libc::IPPROTO_IP || first.header.cmsg_type != libc::IP_PKTINFO {
        return Err(io::Error::other("the kernel does not tell the device of the connection"));
    }
    u32::try_from(first.info.ipi_ifindex).map_err(io::Error::other)
}
