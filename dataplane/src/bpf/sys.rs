//! The commands of bpf(2) that the rest of the module needs and aya keeps to itself or wants a unique
//! reference for: element access through a shared one, batches, links by ifindex and their replacement.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use dataplane_ebpf::abi::Pod;

mod batch;
mod test_run;

pub(super) use batch::{entries, octets, put_octets, update_all};
pub use test_run::{TestRun, test_run};

/// `enum bpf_cmd` of the kernel's `include/uapi/linux/bpf.h`.
mod cmd {
    pub(super) const MAP_LOOKUP_ELEM: libc::c_int = 1;
    pub(super) const MAP_UPDATE_ELEM: libc::c_int = 2;
    pub(super) const MAP_DELETE_ELEM: libc::c_int = 3;
    pub(super) const OBJ_PIN: libc::c_int = 6;
    pub(super) const OBJ_GET: libc::c_int = 7;
    pub(super) const PROG_TEST_RUN: libc::c_int = 10;
    pub(super) const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
    pub(super) const MAP_LOOKUP_BATCH: libc::c_int = 24;
    pub(super) const MAP_UPDATE_BATCH: libc::c_int = 26;
    pub(super) const LINK_CREATE: libc::c_int = 28;
    pub(super) const LINK_UPDATE: libc::c_int = 29;
    pub(super) const LINK_DETACH: libc::c_int = 34;
}

/// `BPF_F_RDONLY` of `BPF_OBJ_GET`.
const RDONLY: u32 = 1 << 3;

/// # Safety
/// `attr` has the layout of the member of `union bpf_attr` that `cmd` reads, and its pointers are valid for it.
unsafe fn bpf<T>(cmd: libc::c_int, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the caller's promise; the kernel reads (and for some commands writes) `size_of::<T>()` bytes.
    let done = unsafe { libc::syscall(libc::SYS_bpf, cmd, std::ptr::from_mut(attr), size_of::<T>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as i32) }
}

fn fd(raw: RawFd) -> OwnedFd {
    // SAFETY: the kernel just returned this descriptor to us and to nobody else; bpf(2) sets close-on-exec itself.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

fn path_bytes(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

fn address<T>(item: &T) -> u64 {
    std::ptr::from_ref(item) as u64
}

#[repr(C)]
struct ObjAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Opens a pin.
pub(super) fn obj_get(path: &Path, writable: bool) -> io::Result<OwnedFd> {
    let name = path_bytes(path)?;
    let file_flags = if writable { 0 } else { RDONLY };
    let mut attr = ObjAttr { pathname: name.as_ptr() as u64, bpf_fd: 0, file_flags };
    // SAFETY: `name` lives until after the call.
    unsafe { bpf(cmd::OBJ_GET, &mut attr) }.map(fd)
}

/// Pins an object; the path must not exist.
pub(super) fn obj_pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let name = path_bytes(path)?;
    let mut attr = ObjAttr { pathname: name.as_ptr() as u64, bpf_fd: object.as_raw_fd() as u32, file_flags: 0 };
    // SAFETY: `name` lives until after the call.
    unsafe { bpf(cmd::OBJ_PIN, &mut attr) }.map(drop)
}

#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// Reads the first words of the kernel's info about an object; the kernel copies as many as are asked for.
fn info<const WORDS: usize>(object: BorrowedFd<'_>) -> io::Result<[u32; WORDS]> {
    let mut words = [0_u32; WORDS];
    let mut attr = InfoAttr {
        bpf_fd: object.as_raw_fd() as u32,
        info_len: size_of_val(&words) as u32,
        info: std::ptr::from_mut(&mut words) as u64,
    };
    // SAFETY: `words` is `info_len` bytes long, writable, and lives until after the call.
    unsafe { bpf(cmd::OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(words)
}

/// What the kernel says about a map (`struct bpf_map_info`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapFacts {
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// The map's id.
    pub id: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
    /// Creation flags.
    pub flags: u32,
}

pub(super) fn map_facts(map: BorrowedFd<'_>) -> io::Result<MapFacts> {
    let [kind, id, key_size, value_size, max_entries, flags] = info(map)?;
    Ok(MapFacts { kind, id, key_size, value_size, max_entries, flags })
}

/// The id of a program (`struct bpf_prog_info`: type, id, …).
pub(super) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    let [_kind, id] = info(program)?;
    Ok(id)
}

/// What the kernel says about a link (`struct bpf_link_info`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LinkFacts {
    /// The program that it runs.
    pub(super) program: u32,
    /// First word of the part that depends on the type: the ifindex of a tcx link, 0 once its device is gone;
    /// for a cgroup link half of the cgroup's id, 0 once the cgroup is gone.
    pub(super) target: u64,
}

/// `BPF_LINK_TYPE_TCX`.
const LINK_TYPE_TCX: u32 = 11;

pub(super) fn link_facts(link: BorrowedFd<'_>) -> io::Result<LinkFacts> {
    // type, id, prog_id, padding up to the union; tcx: ifindex, attach type; cgroup: 64 bits of id, attach type.
    let [kind, _id, program, _pad, low, high, _attach] = info(link)?;
    let target = if kind == LINK_TYPE_TCX { u64::from(low) } else { u64::from(low) | u64::from(high) << 32 };
    Ok(LinkFacts { program, target })
}

#[repr(C)]
struct LinkCreateAttr {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u64,
    expected_revision: u64,
}

/// Attaches by link. `target` is a descriptor (cgroup) or an ifindex (tcx).
pub(super) fn link_create(program: BorrowedFd<'_>, target: u32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr {
        prog_fd: program.as_raw_fd() as u32,
        target,
        attach_type,
        flags,
        relative: 0,
        expected_revision: 0,
    };
    // SAFETY: no pointers; the two last words are `tcx.relative_fd` and `tcx.expected_revision`, zero for others.
    unsafe { bpf(cmd::LINK_CREATE, &mut attr) }.map(fd)
}

#[repr(C)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// Puts another program behind a link, atomically.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdateAttr {
        link_fd: link.as_raw_fd() as u32,
        new_prog_fd: program.as_raw_fd() as u32,
        flags: 0,
        old_prog_fd: 0,
    };
    // SAFETY: no pointers.
    unsafe { bpf(cmd::LINK_UPDATE, &mut attr) }.map(drop)
}

/// Detaches a link here and now; the link stays, attached to nothing. Closing the last file of one leaves that to
/// a kernel thread.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut link_fd = link.as_raw_fd() as u32;
    // SAFETY: no pointers.
    unsafe { bpf(cmd::LINK_DETACH, &mut link_fd) }.map(drop)
}

#[repr(C)]
struct ElemAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl ElemAttr {
    fn new<K>(map: BorrowedFd<'_>, key: &K, value: u64) -> Self {
        Self { map_fd: map.as_raw_fd() as u32, pad: 0, key: address(key), value, flags: 0 }
    }
}

/// Turns "not there" into `None`.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads one value.
///
/// # Safety
/// The map's keys are `K`, its values `V`, one each.
pub(super) unsafe fn lookup<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = std::mem::MaybeUninit::<V>::uninit();
    let mut attr = ElemAttr::new(map, key, value.as_mut_ptr() as u64);
    // SAFETY: key and value are as long as the map's, as the caller promises.
    let result = unsafe { bpf(cmd::MAP_LOOKUP_ELEM, &mut attr) };
    // SAFETY: the kernel filled the value when it reports success, and every bit pattern of a `Pod` is valid.
    found(result).map(|done| done.map(|_| unsafe { value.assume_init() }))
}

/// Reads the values of all CPUs; whether the key is there.
///
/// # Safety
/// The map's keys are `K`; `values` is as long as its value, rounded up to 8 bytes, times the possible CPUs.
pub(super) unsafe fn lookup_per_cpu<K: Pod>(map: BorrowedFd<'_>, key: &K, values: &mut [u64]) -> io::Result<bool> {
    let mut attr = ElemAttr::new(map, key, values.as_mut_ptr() as u64);
    // SAFETY: key and values are as long as the map's, as the caller promises.
    let result = unsafe { bpf(cmd::MAP_LOOKUP_ELEM, &mut attr) };
    found(result).map(|done| done.is_some())
}

/// Writes one value, whether the key is there or not.
///
/// # Safety
/// The map's keys are `K`, its values `V`, one each.
pub(super) unsafe fn update<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let mut attr = ElemAttr::new(map, key, address(value));
    // SAFETY: key and value are as long as the map's, as the caller promises.
    unsafe { bpf(cmd::MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// Deletes one key; whether it was there.
///
/// # Safety
/// The map's keys are `K`.
pub(super) unsafe fn delete<K: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    let mut attr = ElemAttr::new(map, key, 0);
    // SAFETY: the key is as long as the map's, as the caller promises.
    let result = unsafe { bpf(cmd::MAP_DELETE_ELEM, &mut attr) };
    found(result).map(|done| done.is_some())
}
