use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use dataplane_ebpf::abi::{Device, flags, map};
use dataplane_ebpf::tables::Tables;
use dataplane_ebpf::{decide, dns};
use hickory_proto::rr::Name;
use tracing::warn;

use super::message::Question;
use super::policy;
use crate::bpf::{Maps, Pins};

/// The pins that a question needs.
const NEEDED: [&str; 4] = [map::DEVICES, map::NAMES, map::PTRS, map::NODE];

/// Who is behind a device, from the pinned maps; the daemon need not run.
pub(super) struct Askers {
    pins: Pins,
    open: Mutex<Option<(Stamp, Arc<Maps>)>>,
}

/// Which maps are pinned: a pin that was replaced has another inode.
type Stamp = u64;

/// Who asks.
pub(super) struct Asker {
    device: Device,
    maps: Arc<Maps>,
}

impl Askers {
    pub(super) fn new(bpffs: &Path) -> Self {
        Self { pins: Pins::new(bpffs), open: Mutex::new(None) }
    }

    /// Whose the device is, if the address is that replica's.
    pub(super) fn find(&self, ifindex: u32, address: Ipv4Addr) -> Option<Asker> {
        let maps = self.maps()?;
        let mut device = Device::default();
        let found = maps.view().ok()?.device(ifindex, &mut device).ok()?;
        (found && device.address4 == u32::from_ne_bytes(address.octets())).then_some(Asker { device, maps })
    }

    /// The maps as they are pinned now. A daemon of a new version may have put others in their place; those that this process
    /// holds would answer for ever what they last held.
    fn maps(&self) -> Option<Arc<Maps>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = match (self.stamp(), &*open) {
            (Ok(stamp), _) => stamp,
            // A daemon of another version took them away: it is about to put its own forwarder in this one's place.
            (Err(_), Some((_, maps))) => return Some(Arc::clone(maps)),
            (Err(_), None) => return None,
        };
        if let Some((at, maps)) = &*open
            && *at == stamp
        {
            return Some(Arc::clone(maps));
        }
        match Maps::open_read_only(&self.pins) {
            Ok(maps) => {
                let maps = Arc::new(maps);
                *open = Some((stamp, Arc::clone(&maps)));
                Some(maps)
            }
            Err(error) => {
                warn!(%error, "Cannot open the maps; questions go without an answer.");
                None
            }
        }
    }

    fn stamp(&self) -> std::io::Result<Stamp> {
        let mut hasher = DefaultHasher::new();
        for name in NEEDED {
            std::fs::metadata(self.pins.map(name))?.ino().hash(&mut hasher);
        }
        Ok(hasher.finish())
    }
}

impl Asker {
    /// The answer that the kernel would give to a question of the zone; `None` for a name of the outside.
    pub(super) fn in_zone(&self, question: &Question) -> Option<Vec<u8>> {
        let (plain, view) = (question.plain()?, self.maps.view().ok()?);
        let mut scratch = Box::<dns::Scratch>::default();
        let len = u32::try_from(plain.len()).ok()?;
        match dns::answer(&view, &decide::Asker::from(&self.device), &plain.as_slice(), 0, len, &mut scratch) {
            dns::Outcome::Answer(len) => scratch.message.get(..len as usize).map(<[u8]>::to_vec),
            dns::Outcome::Forward => None,
            // An entry that changes each time it is read, or a form that even the plain question has not.
            dns::Outcome::Drop(_) => question.failure(),
        }
    }

    /// Whether a name may be asked of the outside for this asker: resolving is an egress permission.
    pub(super) fn may_ask(&self, name: &Name) -> bool {
        let egress = self.device.flags & flags::EGRESS != 0;
        egress && self.maps.node().is_ok_and(|node| policy::may_leave(name, &node))
    }
}
