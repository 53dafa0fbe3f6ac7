//! The packet programs, device by device.

use std::collections::{BTreeMap, BTreeSet};

use super::super::links::{self, LinkState};
use super::super::{BpfError, DeviceHook, Pins, clsact, pins};
use super::Programs;

/// How a device stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attached {
    /// Both programs of this build run on it.
    Current,
    /// One of them lacks, or is another build's: attach again.
    Partly,
    /// The device does not exist any more: detach, which removes the pins.
    Gone,
}

impl Programs {
    /// Attaches both packet programs to the device `ifindex`, before any other program there; leaves alone what
    /// already runs, replaces another build's in place. `ifname` is for the messages (and for clsact).
    ///
    /// # Errors
    /// [`BpfError::Device`]; call again, it continues where it stopped.
    pub fn attach(&self, ifindex: u32, ifname: &str) -> Result<(), BpfError> {
        for hook in DeviceHook::ALL {
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

    /// Removes the programs from the device, if it is still there, and their pins.
    ///
    /// # Errors
    /// [`BpfError::PinDirectory`] or [`BpfError::Device`].
    pub fn detach(&self, ifindex: u32, ifname: &str) -> Result<(), BpfError> {
        for hook in DeviceHook::ALL {
            self.keep.release(&self.pins.link(hook.program(), Some(ifindex)));
        }
        detach(&self.pins, ifindex, ifname)
    }

    /// Every device that has link pins, and how it stands.
    ///
    /// # Errors
    /// [`BpfError::Device`] when the kernel does not tell.
    pub fn attached(&self) -> Result<BTreeMap<u32, Attached>, BpfError> {
        let mut devices = devices(&self.pins)?;
        devices.extend(self.keep.below(&self.pins.links()).iter().filter_map(|pin| device(pin.file_name()?.to_str()?)));
        devices.into_iter().map(|ifindex| Ok((ifindex, self.device(ifindex)?))).collect()
    }

    /// The packet programs that do not run on the device `ifindex` as they should.
    ///
    /// # Errors
    /// [`BpfError::Device`] when the kernel does not tell.
    pub fn missing(&self, ifindex: u32) -> Result<Vec<DeviceHook>, BpfError> {
        let mut missing = Vec::new();
        for hook in DeviceHook::ALL {
            if self.state(hook, ifindex)? != LinkState::Current {
                missing.push(hook);
            }
        }
        Ok(missing)
    }

    fn device(&self, ifindex: u32) -> Result<Attached, BpfError> {
        let mut whole = true;
        for hook in DeviceHook::ALL {
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
pub(super) fn detach(pins: &Pins, ifindex: u32, ifname: &str) -> Result<(), BpfError> {
    for hook in DeviceHook::ALL {
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

/// Devices that have link pins.
pub(in super::super) fn devices(pins: &Pins) -> Result<BTreeSet<u32>, BpfError> {
    let names = pins::names(&pins.links())?;
    Ok(names.iter().filter_map(|name| device(name)).collect())
}

/// The device that the pin of this name is for.
fn device(pin: &str) -> Option<u32> {
    pin.rsplit_once('-')?.1.parse().ok()
}
