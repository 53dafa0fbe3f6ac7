use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// An interface of a network namespace, seen below all protocols: what is sent goes out as it is, and what comes in
/// is seen before anything else sees it. It stays in the namespace that it was opened in.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// Opens an interface of the calling thread's network namespace.
    ///
    /// # Errors
    /// No such interface, or no `CAP_NET_RAW`.
    pub fn open(interface: &str) -> io::Result<Self> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        let all = u16::to_be(libc::ETH_P_ALL as u16);
        // SAFETY: socket(2) takes no pointers.
        let socket = unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, i32::from(all))
        };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given this descriptor to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let address = link_address(i32::try_from(index).map_err(io::Error::other)?, all);
        // SAFETY: `address` is a sockaddr_ll of the length given, and lives through the call.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(Self { socket }) }
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// What the kernel says; a frame below 14 octets or above the MTU is refused.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        match nix::unistd::write(&self.socket, frame)? {
            sent if sent == frame.len() => Ok(()),
            sent => Err(io::Error::other(format!("{sent} octets of a frame of {} sent", frame.len()))),
        }
    }

    /// Everything that has arrived since the last call, up to and with the first frame that `is_last`. What this
    /// namespace sent itself is not in it. A VLAN tag is not seen: the kernel has taken it out.
    ///
    /// # Errors
    /// `TimedOut`, with how many other frames came, when no such frame came within `patience`.
    pub fn arrivals(&self, patience: Duration, is_last: impl Fn(&[u8]) -> bool) -> io::Result<Vec<Vec<u8>>> {
        let end = Instant::now() + patience;
        let mut arrivals = Vec::new();
        loop {
            while let Some(arrival) = self.receive()? {
                let last = is_last(&arrival);
                arrivals.push(arrival);
                if last {
                    return Ok(arrivals);
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let message = format!("the awaited frame did not come; {} others did", arrivals.len());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout)?;
        }
    }

    /// Everything that is there already.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn drain(&self) -> io::Result<Vec<Vec<u8>>> {
        std::iter::from_fn(|| self.receive().transpose()).collect()
    }

    /// The next incoming frame, if one is there.
    fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut bytes = vec![0; 65_536];
            // SAFETY: all-zero is a valid sockaddr_ll.
            let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            let mut from_length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            // SAFETY: buffer and address are writable for the lengths given, and live through the call.
            let length = unsafe {
                libc::recvfrom(
                    self.socket.as_raw_fd(),
                    bytes.as_mut_ptr().cast(),
                    bytes.len(),
                    0,
                    (&raw mut from).cast(),
                    &raw mut from_length,
                )
            };
            let Ok(length) = usize::try_from(length) else {
                let error = io::Error::last_os_error();
                return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
            };
            if from.sll_pkttype == libc::PACKET_OUTGOING {
                continue;
            }
            bytes.truncate(length);
            return Ok(Some(bytes));
        }
    }
}

/// The MAC of an interface of the calling thread's network namespace.
///
/// # Errors
/// No such interface.
pub fn mac_of(interface: &str) -> io::Result<[u8; 6]> {
    let addresses = nix::ifaddrs::getifaddrs()?;
    addresses
        .filter(|address| address.interface_name == interface)
        .find_map(|address| address.address?.as_link_addr()?.addr())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no interface {interface}")))
}

fn link_address(index: i32, protocol: u16) -> libc::sockaddr_ll {
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index;
    address
}
