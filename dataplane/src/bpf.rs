//! The kernel side as the rest of the daemon and `skepctl` see it: pinned maps ([`Maps`]), programs and
//! their links ([`Programs`]), backend sets ([`switch_backends`]), and what the programs counted ([`drops`],
//! [`Events`]).
//!
//! Everything is pinned under `<bpffs>/v<ABI_VERSION>/` ([`Pins`]), so that it works on with nobody watching;
//! whoever starts later finds it there and adopts it.

mod backends;
mod cgroup;
mod clsact;
mod counters;
mod error;
mod events;
mod keep;
mod links;
mod maps;
mod pins;
mod programs;
mod reason;
mod sys;
mod table;
mod takeover;

pub use backends::{BackendAddress, Generations, ServiceVips};
pub use cgroup::find_cgroup2_root;
pub use clsact::name_of as device_name;
pub use counters::{DropLine, counters, drops};
pub use error::BpfError;
pub use events::Events;
pub use links::{DeviceHook, SocketHook};
pub use maps::{MapSizes, MapUsage, Maps, View};
pub use pins::Pins;
pub use programs::{Attached, Programs};
pub use reason::ReasonText;
pub use sys::{MapFacts, TestRun, test_run};
pub use table::{PerCpuTable, Table};
