//! Packet programs on kernels before 6.6: clsact filters, which belong to the device and outlive their maker.

use std::ffi::CStr;
use std::io;
use std::path::Path;

use super::DeviceHook;
use super::links::{LinkState, Program};

/// The name of a device of this network namespace.
pub(super) fn name_of(ifindex: u32) -> Option<String> {
    let mut name = [0 as libc::c_char; libc::IF_NAMESIZE];
    // SAFETY: the buffer is IF_NAMESIZE long.
    let found = unsafe { libc::if_indextoname(ifindex, name.as_mut_ptr()) };
    // SAFETY: the kernel terminated the name.
    (!found.is_null()).then(|| unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}

pub(super) fn ensure_device(
    _pin: &Path,
    _program_pin: &Path,
    _program: &Program,
    _hook: DeviceHook,
    _ifindex: u32,
    _ifname: &str,
) -> io::Result<()> {
    unimplemented!()
}

pub(super) fn state(_pin: &Path, _program: &Program, _hook: DeviceHook, _ifindex: u32) -> io::Result<LinkState> {
    unimplemented!()
}

pub(super) fn detach(_hook: DeviceHook, _ifindex: u32) -> io::Result<()> {
    unimplemented!()
}
