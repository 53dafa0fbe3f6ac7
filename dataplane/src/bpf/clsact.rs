//! Packet programs on kernels before 6.6: clsact filters. A filter belongs to its device and outlives its maker, so
//! what aya would detach when it is dropped is forgotten on purpose, and found again by name and priority.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{SchedClassifier, TcAttachType};
use nix::sys::socket::SockProtocol;

use super::links::{LinkState, Program};
use super::{DeviceHook, sys};
use crate::nlmsg::{self, attribute, word};

/// Before every filter that somebody else may add.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 1);

impl DeviceHook {
    const fn direction(self) -> TcAttachType {
        match self {
            Self::FromContainer | Self::FromWireguard => TcAttachType::Ingress,
            Self::ToContainer => TcAttachType::Egress,
        }
    }

    /// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`, `…EGRESS`.
    const fn parent(self) -> u32 {
        match self {
            Self::FromContainer | Self::FromWireguard => 0xffff_fff2,
            Self::ToContainer => 0xffff_fff3,
        }
    }
}

/// The name of a device of this network namespace.
pub fn name_of(ifindex: u32) -> Option<String> {
    let mut name = [0 as libc::c_char; libc::IF_NAMESIZE];
    // SAFETY: the buffer is IF_NAMESIZE long.
    let found = unsafe { libc::if_indextoname(ifindex, name.as_mut_ptr()) };
    // SAFETY: the kernel terminated the name.
    (!found.is_null()).then(|| unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}

/// Sees to it that the device's filter runs `program`: leaves one that does, replaces one that runs another in one
/// step, makes one anew otherwise. The program is also pinned at `pin`, which says that the device is ours.
pub(super) fn ensure_device(
    pin: &Path,
    program_pin: &Path,
    program: &Program,
    hook: DeviceHook,
    ifindex: u32,
    ifname: &str,
) -> io::Result<()> {
    let present = filter(hook, ifindex)?;
    if present != Some(program.id) {
        let mut classifier = SchedClassifier::from_pin(program_pin).map_err(io::Error::other)?;
        let link = if present.is_some() {
            let old = SchedClassifierLink::attached(ifname, hook.direction(), PRIORITY, HANDLE, None)?;
            classifier.attach_to_link(old)
        } else {
            add_clsact(hook, ifname)?;
            let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
            classifier.attach_with_options(ifname, hook.direction(), TcAttachOptions::Netlink(options))
        };
        let link = link.and_then(|link| classifier.take_link(link)).map_err(io::Error::other)?;
        std::mem::forget(link);
    }
    match sys::obj_get(pin, true) {
        Ok(pinned) if sys::program_id(pinned.as_fd())? == program.id => Ok(()),
        Ok(_) => std::fs::remove_file(pin).and_then(|()| sys::obj_pin(program.fd.as_fd(), pin)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => sys::obj_pin(program.fd.as_fd(), pin),
        Err(error) => Err(error),
    }
}

/// How the device stands to what `pin` says.
pub(super) fn state(pin: &Path, program: &Program, hook: DeviceHook, ifindex: u32) -> io::Result<LinkState> {
    if name_of(ifindex).is_none() {
        return Ok(LinkState::Gone);
    }
    Ok(match filter(hook, ifindex)? {
        Some(id) if id == program.id && pin.exists() => LinkState::Current,
        Some(_) => LinkState::Outdated,
        None => LinkState::Absent,
    })
}

/// Removes the filter; neither filter nor device need be there.
pub(super) fn detach(hook: DeviceHook, ifindex: u32) -> io::Result<()> {
    let Some(ifname) = name_of(ifindex) else {
        return Ok(());
    };
    match tc::qdisc_detach_program(&ifname, hook.direction(), hook.program()) {
        Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(io::Error::other),
    }
}

/// Adds the queueing discipline that filters hang on, unless the other direction's filter brought it.
fn add_clsact(hook: DeviceHook, ifname: &str) -> io::Result<()> {
    match tc::qdisc_add_clsact(ifname) {
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        done => done.map_err(|error| io::Error::other(format!("{} needs a clsact qdisc: {error}", hook.program()))),
    }
}

/// The program of our filter on the device, by id (`RTM_GETTFILTER`; aya does not tell it).
pub(super) fn filter(hook: DeviceHook, ifindex: u32) -> io::Result<Option<u32>> {
    let socket = nlmsg::open(SockProtocol::NetlinkRoute)?;
    let mut found = None;
    nlmsg::ask(&socket, libc::RTM_GETTFILTER, true, &direction_of(hook, ifindex), |message| {
        found = found.or_else(|| our_program(message, hook));
    })?;
    Ok(found)
}

/// `struct tcmsg` for all filters of one direction of a device: family, ifindex, handle, parent and info.
fn direction_of(hook: DeviceHook, ifindex: u32) -> Vec<u8> {
    [0, ifindex, 0, hook.parent(), 0].into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// The id of the program in a filter message, if the filter has our priority and name.
fn our_program(message: &[u8], hook: DeviceHook) -> Option<u32> {
    /// `TCA_OPTIONS` and, inside, `TCA_BPF_NAME` and `TCA_BPF_ID`.
    const OPTIONS: u16 = 2;
    const BPF_NAME: u16 = 7;
    const BPF_ID: u16 = 11;
    // The priority is the upper half of `tcm_info`.
    let priority = (u32::from_ne_bytes(word(message, 16)) >> 16) as u16;
    let options = attribute(message.get(20..)?, OPTIONS)?;
    let name = CStr::from_bytes_until_nul(attribute(options, BPF_NAME)?).ok()?;
    let id = u32::from_ne_bytes(*attribute(options, BPF_ID)?.first_chunk()?);
    (priority == PRIORITY && name.to_bytes() == hook.program().as_bytes()).then_some(id)
}
