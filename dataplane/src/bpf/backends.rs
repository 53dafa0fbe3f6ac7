use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dataplane_ebpf::abi::{Addr, Backend, BackendKey, Backends, Service, ServiceKey};

use super::{BpfError, Maps};

/// How long a set outlives its successor: longer than any program can take between reading SERVICES and BACKENDS.
const GRACE: Duration = Duration::from_secs(10);

/// A service as its VIPs show it to the programs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceVips {
    /// Environment id.
    pub env: u32,
    /// Service id.
    pub service: u32,
    /// Its VIPs, IPv4 and IPv6, as far as it has them; they share set and generation.
    pub vips: Vec<Addr>,
    /// Networks the service is in, a bit each.
    pub networks: u64,
    /// [`dataplane_ebpf::abi::flags`].
    pub flags: u32,
}

/// A backend of a service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BackendAddress {
    /// IPv4 address, or [`Addr::NONE`].
    pub address4: Addr,
    /// IPv6 address, or [`Addr::NONE`].
    pub address6: Addr,
    /// The node it runs on.
    pub node: u32,
    /// Whether that is this node.
    pub local: bool,
}

/// Writes backend sets, one generation after the other, and removes those that have had their time.
#[derive(Debug, Default)]
pub struct Generations {
    /// (service, generation) → when it may go.
    retired: BTreeMap<(u32, u32), Instant>,
}

impl Generations {
    /// Takes over what the pins hold: sets that no service refers to (of a skepd that ended before it removed
    /// them) get their time from now on.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn adopt(maps: &Maps, now: Instant) -> Result<Self, BpfError> {
        let services = maps.services.entries()?;
        let current: BTreeSet<_> = services.iter().map(|(_, value)| (value.service, generation(value))).collect();
        let present: BTreeSet<_> =
            maps.backends.entries()?.iter().map(|(key, _)| (key.service, key.generation)).collect();
        Ok(Self { retired: present.difference(&current).map(|set| (*set, now + GRACE)).collect() })
    }

    /// Makes `backends` the set of the service: writes the whole set under a new generation, then one SERVICES
    /// entry per VIP. Writes nothing when the pins already say so. Returns whether anything was written.
    ///
    /// # Errors
    /// [`BpfError::Map`], [`BpfError::TooManyBackends`]; the set before is then still the one in force.
    pub fn switch(
        &mut self,
        maps: &Maps,
        service: &ServiceVips,
        backends: &[BackendAddress],
        now: Instant,
    ) -> Result<bool, BpfError> {
        let wanted = order(backends);
        let count = u16::try_from(wanted.len())
            .map_err(|_| BpfError::TooManyBackends { service: service.service, count: wanted.len() })?;
        let local = wanted.iter().take_while(|backend| backend.local).count() as u16;
        let present = service.vips.iter().map(|vip| maps.services.get(&key(service, *vip)));
        let present = present.collect::<Result<Vec<_>, _>>()?;
        // Of another service that had the VIP before: not ours to compare with, nor to retire.
        let ours = |value: &&Service| value.service == service.service;
        let before: BTreeSet<u32> = present.iter().flatten().filter(ours).map(generation).collect();

        let unchanged = match before.first() {
            Some(generation) if before.len() == 1 => {
                self.holds(maps, service.service, Backends { generation: *generation, count, local }, &wanted)?
            }
            _ => None,
        };
        let set = match unchanged {
            Some(set) => set,
            None => self.write(maps, service.service, before.last().copied(), &wanted, local)?,
        };
        let value = Service {
            backends: set.word(),
            networks: service.networks,
            service: service.service,
            flags: service.flags,
            seal: 0,
        };
        let mut changed = false;
        for (vip, present) in service.vips.iter().zip(&present) {
            let key = key(service, *vip);
            use dataplane_ebpf::abi::Sealed as _;
            if *present != Some(value.sealed(&key)) {
                maps.services.put(&key, value)?;
                changed = true;
            }
        }
        self.retired.remove(&(service.service, set.generation));
        for old in before.into_iter().filter(|generation| *generation != set.generation) {
            self.retired.insert((service.service, old), now + GRACE);
        }
        Ok(changed)
    }

    /// Takes a service out of the maps: its VIPs at once, its set after the usual time.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn remove(&mut self, maps: &Maps, key: &ServiceKey, now: Instant) -> Result<(), BpfError> {
        if let Some(value) = maps.services.get(key)? {
            maps.services.delete(key)?;
            self.retired.insert((value.service, generation(&value)), now + GRACE);
        }
        Ok(())
    }

    /// Removes the sets whose time has come. Returns how many entries went.
    ///
    /// # Errors
    /// [`BpfError::Map`]; what was not removed stays due.
    pub fn prune(&mut self, maps: &Maps, now: Instant) -> Result<usize, BpfError> {
        let due: BTreeSet<_> = self.retired.iter().filter(|(_, at)| **at <= now).map(|(set, _)| *set).collect();
        if due.is_empty() {
            return Ok(0);
        }
        // A VIP that still refers to a set keeps it: the other family of a service half removed.
        let services = maps.services.entries()?;
        let current: BTreeSet<_> = services.iter().map(|(_, value)| (value.service, generation(value))).collect();
        let mut removed = 0;
        for (key, _) in maps.backends.entries()? {
            let set = (key.service, key.generation);
            if due.contains(&set) && !current.contains(&set) {
                removed += usize::from(maps.backends.delete(&key)?);
            }
        }
        self.retired.retain(|set, _| !due.contains(set));
        Ok(removed)
    }

    /// Entries of BACKENDS that are in no set, neither a current one nor one whose time has not come.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn loose(&self, maps: &Maps) -> Result<BTreeSet<BackendKey>, BpfError> {
        let services = maps.services.entries()?;
        let current: BTreeMap<_, _> = services
            .iter()
            .map(|(_, value)| ((value.service, generation(value)), Backends::from_word(value.backends).count))
            .collect();
        let known = |key: &BackendKey| {
            let set = (key.service, key.generation);
            self.retired.contains_key(&set) || current.get(&set).is_some_and(|count| key.slot < u32::from(*count))
        };
        Ok(maps.backends.entries()?.into_iter().map(|(key, _)| key).filter(|key| !known(key)).collect())
    }

    /// When [`Self::prune`] will next have something to do.
    pub fn next_due(&self) -> Option<Instant> {
        self.retired.values().min().copied()
    }

    /// `set` if the pins hold exactly `wanted` under it.
    fn holds(
        &self,
        maps: &Maps,
        service: u32,
        set: Backends,
        wanted: &[BackendAddress],
    ) -> Result<Option<Backends>, BpfError> {
        use dataplane_ebpf::abi::Sealed as _;
        for (slot, backend) in (0..).zip(wanted) {
            let key = BackendKey { service, generation: set.generation, slot };
            if maps.backends.get(&key)? != Some(value(backend).sealed(&key)) {
                return Ok(None);
            }
        }
        // One slot more would belong to a longer set.
        let beyond = BackendKey { service, generation: set.generation, slot: u32::from(set.count) };
        Ok(maps.backends.get(&beyond)?.is_none().then_some(set))
    }

    /// Writes a whole set under a generation that none had before; takes it back when that fails half-way.
    fn write(
        &self,
        maps: &Maps,
        service: u32,
        before: Option<u32>,
        wanted: &[BackendAddress],
        local: u16,
    ) -> Result<Backends, BpfError> {
        let retired = self.retired.range((service, 0)..=(service, u32::MAX)).next_back().map(|((_, last), _)| *last);
        let generation = before.max(retired).map_or(0, |last| last.wrapping_add(1)).max(tenths_since_boot());
        let key = |slot| BackendKey { service, generation, slot };
        let entries = (0..).zip(wanted).map(|(slot, backend)| (key(slot), value(backend)));
        if let Err(error) = maps.backends.put_all(entries) {
            for slot in 0..wanted.len() as u32 {
                maps.backends.delete(&key(slot))?;
            }
            return Err(error);
        }
        Ok(Backends { generation, count: wanted.len() as u16, local })
    }
}

fn key(service: &ServiceVips, vip: Addr) -> ServiceKey {
    ServiceKey { env: service.env, vip }
}

fn value(backend: &BackendAddress) -> Backend {
    let address4 = if backend.address4.is_v4() { backend.address4.v4_word() } else { 0 };
    Backend { address6: backend.address6, address4, node: backend.node, seal: 0 }
}

fn generation(value: &Service) -> u32 {
    Backends::from_word(value.backends).generation
}

/// Local ones first, then by address, so that the same backends are the same set in whatever order they come. As people
/// order addresses, not by words of the computer's own byte order: who compares what is there with a set of the former is
/// to find it.
fn order(backends: &[BackendAddress]) -> Vec<BackendAddress> {
    let mut ordered = backends.to_vec();
    ordered.sort_by_key(|it| (!it.local, it.address4.octets(), it.address6.octets(), it.node));
    ordered.dedup();
    ordered
}

/// Generations start from the clock, so that a service that goes and comes back does not repeat one: a datagram
/// socket that remembers (service, generation) would send to a backend of long ago.
fn tenths_since_boot() -> u32 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable; the clock exists on every kernel that has BPF.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    (time.tv_sec * 10 + time.tv_nsec / 100_000_000) as u32
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn sets_are_in_the_order_of_addresses_on_every_computer() {
        let at = |address: [u8; 4], local| BackendAddress {
            address4: Ipv4Addr::from(address).into(),
            address6: Addr::NONE,
            node: 1,
            local,
        };
        let ordered =
            [at([10, 9, 0, 1], true), at([10, 8, 0, 200], false), at([10, 8, 255, 7], false), at([10, 9, 0, 3], false)];
        for turns in 0..ordered.len() {
            let mut backends = ordered;
            backends.rotate_left(turns);
            assert_eq!(order(&backends), ordered);
        }
    }
}
