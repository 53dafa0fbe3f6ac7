use std::io;

use aya::maps::{Map, MapData, MapError, RingBuf};
use dataplane_ebpf::abi::{Event, map};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{BpfError, Pins, sys, table};

/// The event ring. It has one consumer: what one reader takes, no other sees.
#[derive(Debug)]
pub struct Events {
    ring: AsyncFd<Ring>,
}

/// [`RingBuf`] has no `Debug`.
struct Ring(RingBuf<MapData>);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

impl std::os::fd::AsRawFd for Ring {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

impl Events {
    /// Opens the pinned ring; must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`BpfError::NoPin`] when nothing was set up, [`BpfError::Events`] when the ring cannot be mapped.
    pub fn open(pins: &Pins) -> Result<Self, BpfError> {
        let path = pins.map(map::EVENTS);
        let fd = sys::obj_get(&path, true).map_err(|source| table::no_pin(&path, source))?;
        let ring = MapData::from_fd(fd).and_then(|data| RingBuf::try_from(Map::RingBuf(data))).map_err(unreadable)?;
        // SAFETY: the map's descriptor is open as long as `Ring` owns the map, and nothing replaces it.
        let ring = unsafe { AsyncFd::register_with_interest(Ring(ring), Interest::READABLE) }
            .map_err(|source| BpfError::Events { source: source.into() })?;
        Ok(Self { ring })
    }

    /// The next event; waits for one. Cancel-safe.
    ///
    /// # Errors
    /// [`BpfError::Events`].
    pub async fn next(&mut self) -> Result<Event, BpfError> {
        loop {
            if let Some(event) = self.ready() {
                return Ok(event);
            }
            let mut guard = self.ring.readable_mut().await.map_err(|source| BpfError::Events { source })?;
            // Cleared first, then looked again: an event that comes in between sets it anew.
            guard.clear_ready();
        }
    }

    /// The next event that is there already; records of another ABI are passed over.
    pub fn ready(&mut self) -> Option<Event> {
        loop {
            let item = self.ring.get_mut().0.next()?;
            if item.len() == size_of::<Event>() {
                // SAFETY: as long as an `Event`, whose every bit pattern is valid.
                return Some(unsafe { item.as_ptr().cast::<Event>().read_unaligned() });
            }
        }
    }
}

fn unreadable(error: MapError) -> BpfError {
    BpfError::Events { source: io::Error::other(error) }
}
