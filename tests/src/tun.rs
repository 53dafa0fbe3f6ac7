//! A device without Ethernet headers, as a tunnel's is, whose other end is the test: it reads what the kernel sends
//! through the device, and writes what comes out of it.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Octets of `struct virtio_net_hdr`, in front of each packet: whether it stands for several, and what is left to do for
/// its checksum. All zero: nothing of that.
const OFFLOAD: usize = 10;
/// Octets of the longest packet.
const LONGEST: usize = 65_536;
/// `TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6` of the kernel's `include/uapi/linux/if_tun.h`.
const SEGMENTATION: libc::c_ulong = 0x7;

/// The other end of a TUN device. The device goes with it.
#[derive(Debug)]
pub struct Tun {
    file: File,
    name: String,
    ifindex: u32,
}

impl Tun {
    /// Makes a device of this name and index in the calling thread's network namespace, and sets it up with this MTU,
    /// in octets. What the stack sends through it is cut up first, and has its checksums, as no network card helps.
    ///
    /// # Errors
    /// Name or index are taken, or there is no `/dev/net/tun`.
    pub fn new(name: &str, ifindex: u32, mtu: u32) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun");
        let file = file.context("/dev/net/tun")?;
        // SAFETY: all-zero is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: the kernel reads 32 bits, and an `ifreq`, which both live through the calls.
        let made = unsafe {
            libc::ioctl(file.as_raw_fd(), libc::TUNSETIFINDEX, &raw const ifindex) >= 0
                && libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw const request) >= 0
        };
        if !made {
            return Err(io::Error::last_os_error()).with_context(|| format!("the TUN device {name}, index {ifindex}"));
        }
        crate::command::run(Command::new("ip").args(["link", "set", name, "mtu", &mtu.to_string(), "up"]))?;
        Ok(Self { file, name: name.to_owned(), ifindex })
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device's index.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// From now on takes TCP segments from the stack many at a time, and their checksums unfinished. Only
    /// [`Self::pass_on`] may then read them.
    ///
    /// # Errors
    /// The device is gone.
    pub fn offload(&self) -> io::Result<()> {
        // SAFETY: no pointer.
        match unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNSETOFFLOAD, SEGMENTATION) } {
            done if done < 0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Has an IP packet come out of the device.
    ///
    /// # Errors
    /// What the kernel says: it wants IPv4 or IPv6.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.write(&[&[0; OFFLOAD], packet].concat())
    }

    /// The next IP packet that went into the device; `None` when none did within `patience`.
    ///
    /// # Errors
    /// The device is gone.
    pub fn receive(&self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        Ok(self.read(patience)?.map(|mut packet| packet.split_off(OFFLOAD)))
    }

    /// Has the next packet that went into this device come out of another, and gives its octets; `None` when none went
    /// in within `patience`.
    ///
    /// # Errors
    /// One of the devices is gone.
    pub fn pass_on(&self, to: &Self, patience: Duration) -> io::Result<Option<usize>> {
        let Some(packet) = self.read(patience)? else { return Ok(None) };
        to.write(&packet)?;
        Ok(Some(packet.len() - OFFLOAD))
    }

    fn write(&self, packet: &[u8]) -> io::Result<()> {
        match (&self.file).write(packet)? {
            sent if sent == packet.len() => Ok(()),
            sent => Err(io::Error::other(format!("{sent} octets of {} sent", packet.len()))),
        }
    }

    fn read(&self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        let (end, mut packet) = (Instant::now() + patience, vec![0; OFFLOAD + LONGEST]);
        loop {
            match (&self.file).read(&mut packet) {
                Ok(length) => {
                    packet.truncate(length);
                    return Ok(Some(packet));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)], timeout)?;
        }
    }
}
