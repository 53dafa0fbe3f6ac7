//! The older backend's tables, read as the kernel has them: nothing tells when they change.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

/// Where one family keeps what (`include/uapi/linux/netfilter_ipv4/ip_tables.h`, `…ipv6/ip6_tables.h`).
struct Family {
    tables: &'static str,
    address: AddressFamily,
    level: libc::c_int,
    /// Of `next_offset` in an entry, behind the fields that are matched.
    next: usize,
    /// Of its two counters.
    counters: usize,
}

const FAMILIES: [Family; 2] = [
    Family {
        tables: "/proc/thread-self/net/ip_tables_names",
        address: AddressFamily::Inet,
        level: libc::IPPROTO_IP,
        next: 90,
        counters: 96,
    },
    Family {
        tables: "/proc/thread-self/net/ip6_tables_names",
        address: AddressFamily::Inet6,
        level: libc::IPPROTO_IPV6,
        next: 142,
        counters: 152,
    },
];

/// `IPT_SO_GET_INFO`, `IPT_SO_GET_ENTRIES`; the same for IPv6.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;

/// `struct ipt_getinfo`: name, valid hooks, entry points, underflows, number of entries, size.
const INFO: usize = 32 + 4 + 20 + 20 + 4 + 4;
/// `struct ipt_get_entries` up to the entries, which are aligned to eight octets.
const ENTRIES: usize = 40;

/// Whether the older backend's filter table exists: asking for it would make it, which then costs every packet.
pub(super) fn in_use(tables: &str) -> bool {
    std::fs::read_to_string(tables).is_ok_and(|tables| tables.lines().any(|table| table == "filter"))
}

/// Of both filter tables, without what packets count; the same number for as long as neither exists.
pub(super) fn digest() -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    for family in FAMILIES.iter().filter(|family| in_use(family.tables)) {
        family.level.hash(&mut hasher);
        let mut entries = family.entries()?;
        family.forget_counters(&mut entries);
        entries.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

impl Family {
    fn entries(&self) -> io::Result<Vec<u8>> {
        let socket = socket(self.address, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
        let mut info = request(INFO);
        get(&socket, self.level, GET_INFO, &mut info)?;
        let size = u32::from_ne_bytes(crate::nlmsg::word(&info, INFO - 4));
        let mut entries = request(ENTRIES + size as usize);
        entries[32..36].copy_from_slice(&size.to_ne_bytes());
        get(&socket, self.level, GET_ENTRIES, &mut entries)?;
        Ok(entries.split_off(ENTRIES))
    }

    fn forget_counters(&self, entries: &mut [u8]) {
        let mut rest = entries;
        while let Some(next) = rest.get(self.next..).and_then(|bytes| bytes.first_chunk().copied()) {
            if let Some(counters) = rest.get_mut(self.counters..self.counters + 16) {
                counters.fill(0);
            }
            let next = usize::from(u16::from_ne_bytes(next));
            match rest.split_at_mut_checked(next).filter(|_| next > 0) {
                Some((_, after)) => rest = after,
                None => return,
            }
        }
    }
}

/// A question about the table `filter`, with room for the answer.
fn request(length: usize) -> Vec<u8> {
    let mut request = vec![0; length];
    request[..6].copy_from_slice(b"filter");
    request
}

fn get(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let mut length = buffer.len() as libc::socklen_t;
    // SAFETY: the kernel reads and writes at most `length` octets of the buffer, which has as many.
    let done =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), &raw mut length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_forgotten_and_rules_are_not() {
        let family = &FAMILIES[0];
        let entry = |source: u8, packets: u8| {
            let mut entry = vec![0; 120];
            entry[0] = source;
            entry[family.next..family.next + 2].copy_from_slice(&120_u16.to_ne_bytes());
            entry[family.counters] = packets;
            entry
        };
        let forgotten = |sources: [u8; 2], packets: u8| {
            let mut entries = sources.map(|source| entry(source, packets)).concat();
            family.forget_counters(&mut entries);
            entries
        };
        assert_eq!(forgotten([1, 2], 7), forgotten([1, 2], 0));
        assert_ne!(forgotten([1, 2], 0), forgotten([1, 3], 0));
    }
}
