//! The packet programs, device by device.

use std::collections::{BTreeMap, BTreeSet};

use super::super::links::{self, LinkState};
use super::super::{BpfError, DeviceHook, Pins, clsact, pins};
use super::Programs;

/// How a device stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attached {
    /// Its programs of this build run on it.
    Current,
    /// One of them lacks, or is another build's: attach again.
    Partly,
    /// The device does not exist any more: detach, which removes the pins.
    Gone,
}

impl Programs {
    /// Attaches both packet programs to the veth `ifindex`, before any other program there; leaves alone what
    /// already runs, replaces another build's in place. `ifname` is for the messages (and for clsact).
    ///
    /// # Errors
    /// [`BpfError::Device`]; call again, it continues where it stopped.
    pub fn attach(&self, ifindex: u32, ifname: &str) -> Result<(), BpfError> {
        self.attach_all(&DeviceHook::VETH, ifindex, ifname)
    }

    /// As [`Self::attach`], to the device of the tunnels to other nodes.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn attach_tunnel(&self, ifindex: u32) -> Result<(), BpfError> {
        self.attach_all(&DeviceHook::TUNNEL, ifindex, &clsact::name_of(ifindex).unwrap_or_default())
    }

    pub(in super::super) fn attach_all(
        &self,
        hooks: &[DeviceHook],
        ifindex: u32,
        ifname: &str,
    ) -> Result<(), BpfError> {
        for hook in hooks.iter().copied() {
            let name = hook.program();
            let program = self.program(name)?;
            let pin = self.pins.link(name, Some(ifindex));
            let attached = if self.tcx {
                links::ensure_device(&self.keep, &pin, program, hook, ifindex)
            } else {
                clsact::ensure_device(&pin, &self.directory.join(name), program, hook, ifindex, ifname)
            };
            attached.map_err(|source| BpfError::Device {
                operation: "attach",
                program: name,
                ifname: ifname.to_owned(),
                ifindex,
                source,
            })?;
        }
        Ok(())
    }

    /// Removes the programs from the veth, if it is still there, and their pins.
    ///
    /// # Errors
    /// [`BpfError::PinDirectory`] or [`BpfError::Device`].
    pub fn detach(&self, ifindex: u32, ifname: &str) -> Result<(), BpfError> {
        self.detach_all(&DeviceHook::VETH, ifindex, ifname)
    }

    /// As [`Self::detach`], from the device of the tunnels.
    ///
    /// # Errors
    /// As [`Self::detach`].
    pub fn detach_tunnel(&self, ifindex: u32) -> Result<(), BpfError> {
        self.detach_all(&DeviceHook::TUNNEL, ifindex, &clsact::name_of(ifindex).unwrap_or_default())
    }

    fn detach_all(&self, hooks: &[DeviceHook], ifindex: u32, ifname: &str) -> Result<(), BpfError> {
        for hook in hooks {
            self.keep.release(&self.pins.link(hook.program(), Some(ifindex)));
        }
        detach(&self.pins, hooks, ifindex, ifname)
    }

    /// Every veth that has link pins, and how it stands.
    ///
    /// # Errors
    /// [`BpfError::Device`] when the kernel does not tell.
    pub fn attached(&self) -> Result<BTreeMap<u32, Attached>, BpfError> {
        self.with_pins(&DeviceHook::VETH)
    }

    /// Every device of tunnels that has link pins, and how it stands.
    ///
    /// # Errors
    /// As [`Self::attached`].
    pub fn tunnels(&self) -> Result<BTreeMap<u32, Attached>, BpfError> {
        self.with_pins(&DeviceHook::TUNNEL)
    }

    fn with_pins(&self, hooks: &[DeviceHook]) -> Result<BTreeMap<u32, Attached>, BpfError> {
        let mut found = devices(&self.pins, hooks)?;
        let held = self.keep.below(&self.pins.links());
        found.extend(held.iter().filter_map(|pin| device(pin.file_name()?.to_str()?, hooks)));
        found.into_iter().map(|ifindex| Ok((ifindex, self.device(hooks, ifindex)?))).collect()
    }

    /// The packet programs that do not run on the veth `ifindex` as they should.
    ///
    /// # Errors
    /// [`BpfError::Device`] when the kernel does not tell.
    pub fn missing(&self, ifindex: u32) -> Result<Vec<DeviceHook>, BpfError> {
        let mut missing = Vec::new();
        for hook in DeviceHook::VETH {
            if self.state(hook, ifindex)? != LinkState::Current {
                missing.push(hook);
            }
        }
        Ok(missing)
    }

    fn device(&self, hooks: &[DeviceHook], ifindex: u32) -> Result<Attached, BpfError> {
        let mut whole = true;
        for hook in hooks.iter().copied() {
            match self.state(hook, ifindex)? {
                LinkState::Current => {}
                LinkState::Outdated | LinkState::Absent => whole = false,
                LinkState::Gone if clsact::name_of(ifindex).is_none() => return Ok(Attached::Gone),
                // Somebody detached it from a device that is still there.
                LinkState::Gone => whole = false,
            }
        }
        Ok(if whole { Attached::Current } else { Attached::Partly })
    }

    fn state(&self, hook: DeviceHook, ifindex: u32) -> Result<LinkState, BpfError> {
        let program = self.program(hook.program())?;
        let pin = self.pins.link(hook.program(), Some(ifindex));
        let state = if self.tcx {
            links::state(&self.keep, &pin, program, u64::from(ifindex))
        } else {
            clsact::state(&pin, program, hook, ifindex)
        };
        state.map_err(|source| BpfError::Device {
            operation: "look up",
            program: hook.program(),
            ifname: String::from("?"),
            ifindex,
            source,
        })
    }
}

/// Whichever way the programs were attached.
pub(super) fn detach(pins: &Pins, hooks: &[DeviceHook], ifindex: u32, ifname: &str) -> Result<(), BpfError> {
    for hook in hooks.iter().copied() {
        clsact::detach(hook, ifindex).map_err(|source| BpfError::Device {
            operation: "detach",
            program: hook.program(),
            ifname: ifname.to_owned(),
            ifindex,
            source,
        })?;
        links::remove(&pins.link(hook.program(), Some(ifindex)))?;
    }
    Ok(())
}

/// Devices that have link pins of these hooks.
pub(in super::super) fn devices(pins: &Pins, hooks: &[DeviceHook]) -> Result<BTreeSet<u32>, BpfError> {
    let names = pins::names(&pins.links())?;
    Ok(names.iter().filter_map(|name| device(name, hooks)).collect())
}

/// The device that the pin of this name is for, if it is of one of these hooks.
fn device(pin: &str, hooks: &[DeviceHook]) -> Option<u32> {
    let (program, ifindex) = pin.rsplit_once('-')?;
    hooks.iter().any(|hook| hook.program() == program).then(|| ifindex.parse().ok())?
}
