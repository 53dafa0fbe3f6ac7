use std::fs::File;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::AsRawFd as _;

use super::offload::OFFLOAD_LEN;

/// The packets of a TUN device, each with an [`super::offload::Offload`] in front. The device ends with it.
#[derive(Debug)]
pub(in super::super) struct Tun(File);

/// What the host's stack may leave to us (`include/uapi/linux/if_tun.h`): checksums, and to cut TCP over IPv4 and IPv6.
const OFFLOADS: libc::c_ulong = (libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6) as libc::c_ulong;

nix::ioctl_write_ptr_bad!(set_interface, nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()), libc::ifreq);
nix::ioctl_write_int_bad!(set_offloads, nix::request_code_write!(b'T', 208, size_of::<libc::c_uint>()));

impl Tun {
    /// Makes the device, in the calling thread's network namespace.
    pub(in super::super) fn make(name: &str) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open("/dev/net/tun")?;
        // SAFETY: integers, for which zero is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if name.is_empty() || name.len() >= request.ifr_name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed() as libc::c_char;
        }
        // Not one that is there already, whoever has left it.
        let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: the kernel reads a `struct ifreq`, and writes the name of the device to it.
        unsafe { set_interface(file.as_raw_fd(), &raw const request) }?;
        // SAFETY: an integer, which the kernel takes for itself.
        unsafe { set_offloads(file.as_raw_fd(), OFFLOADS as libc::c_int) }?;
        Ok(Self(file))
    }

    /// Waits for a packet that the host sends.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    /// Has the host receive a packet.
    pub(super) fn write(&self, offload: [u8; OFFLOAD_LEN], packet: &[u8]) -> io::Result<()> {
        (&self.0).write_vectored(&[IoSlice::new(&offload), IoSlice::new(packet)]).map(drop)
    }
}
