//! What is taken away, and put back.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dataplane::bpf::{Attached, DeviceHook, MapSizes, Maps, Pins, Programs, SocketHook, find_cgroup2_root};
use dataplane_ebpf::abi::{NodeConfig, map};
use tests::{Node, wait_for};

/// Something that lacks.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A program on one veth, by ifindex and name.
    Device(DeviceHook, u32, String),
    /// A program on every veth.
    Everywhere(DeviceHook),
    /// A program of the sockets.
    Socket(SocketHook),
    /// All programs of the sockets.
    Sockets,
    /// What a map holds.
    Map(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(hook, _, device) => write!(f, "{} detached from {device}", hook.program()),
            Self::Everywhere(hook) => write!(f, "{} detached everywhere", hook.program()),
            Self::Socket(hook) => write!(f, "{} detached", hook.program()),
            Self::Sockets => write!(f, "all socket programs detached"),
            Self::Map(name) => write!(f, "{name} emptied"),
        }
    }
}

/// Puts back what a fault took.
type Undo<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// The node's kernel side, opened as its skepd would.
pub(crate) struct Kernel<'a> {
    node: &'a Node,
    pins: Pins,
    programs: Programs,
    maps: Maps,
}

impl<'a> Kernel<'a> {
    /// skepd has stopped: the pins are opened by the very build that made them.
    pub(crate) fn new(node: &'a Node) -> Result<Self> {
        let pins = Pins::new(&node.bpffs());
        let (programs, maps) = Programs::load_or_adopt(&pins, &MapSizes::default(), &find_cgroup2_root()?)?;
        anyhow::ensure!(programs.adopted(), "skepd is of another build than this test: cargo build");
        Ok(Self { node, pins, programs, maps })
    }

    fn attached(&self) -> Result<BTreeMap<u32, Attached>> {
        Ok(self.programs.attached()?)
    }

    /// The veths, each without one of its programs.
    pub(crate) fn devices(&self, hook: DeviceHook) -> Result<Vec<Fault>> {
        let name = |ifindex: u32| self.node.machine().netns()?.enter(|| Ok(nix::net::if_::if_indextoname(ifindex)?));
        let fault = |ifindex: u32| Ok(Fault::Device(hook, ifindex, name(ifindex)?.to_string_lossy().into_owned()));
        self.attached()?.into_keys().map(fault).collect()
    }

    /// Every fault there is.
    pub(crate) fn faults(&self) -> Result<Vec<Fault>> {
        const MAPS: [&str; 13] = [
            map::DEVICES,
            map::NETNS,
            map::ENDPOINTS,
            map::SERVICES,
            map::BACKENDS,
            map::NAMES,
            map::PTRS,
            map::GRANTS,
            map::EGRESS,
            map::FLOWS,
            map::BUDGETS,
            map::COUNTERS,
            map::NODE,
        ];
        let mut faults = Vec::new();
        for hook in DeviceHook::VETH {
            faults.extend(self.devices(hook)?);
            faults.push(Fault::Everywhere(hook));
        }
        faults.extend(SocketHook::ALL.map(Fault::Socket));
        faults.push(Fault::Sockets);
        faults.extend(MAPS.map(Fault::Map));
        Ok(faults)
    }

    /// Makes it so; what is returned undoes it.
    pub(crate) fn inject(&self, fault: &Fault) -> Result<Undo<'_>> {
        match fault {
            Fault::Device(hook, ifindex, _) => {
                self.detach(hook.program(), Some(*ifindex))?;
                Ok(Box::new(|| self.attach()))
            }
            Fault::Everywhere(hook) => {
                for ifindex in self.attached()?.into_keys() {
                    self.detach(hook.program(), Some(ifindex))?;
                }
                Ok(Box::new(|| self.attach()))
            }
            Fault::Socket(hook) => {
                self.detach(hook.program(), None)?;
                Ok(Box::new(|| Ok(self.programs.attach_sockets()?)))
            }
            Fault::Sockets => {
                SocketHook::ALL.into_iter().try_for_each(|hook| self.detach(hook.program(), None))?;
                Ok(Box::new(|| Ok(self.programs.attach_sockets()?)))
            }
            Fault::Map(name) => self.empty(name),
        }
    }

    pub(crate) fn repair(&self, undo: Undo<'_>) -> Result<()> {
        undo()?;
        self.is_whole()?.context("programs are missing after the repair")
    }

    /// Whether every program is where it should be.
    pub(crate) fn is_whole(&self) -> Result<Option<()>> {
        let current = |state: &Attached| *state == Attached::Current;
        Ok((self.programs.missing_sockets()?.is_empty() && self.attached()?.values().all(current)).then_some(()))
    }

    /// By the kernel's own tool; the pin goes, too, as one that is detached is of no use.
    fn detach(&self, program: &str, ifindex: Option<u32>) -> Result<()> {
        let pin = self.pins.link(program, ifindex);
        let shown = pin.display().to_string();
        tests::command::run(std::process::Command::new("bpftool").args(["link", "detach", "pinned", &shown]))?;
        std::fs::remove_file(&pin).with_context(|| shown.clone())?;
        wait_for("the program is off", Duration::from_secs(5), || Ok((!self.runs(program, ifindex)?).then_some(())))
    }

    /// What the kernel says, not what is pinned.
    fn runs(&self, program: &str, ifindex: Option<u32>) -> Result<bool> {
        match ifindex {
            None => Ok(!self.programs.missing_sockets()?.iter().any(|hook| hook.program() == program)),
            Some(ifindex) => {
                let shown = self.node.run(&["bpftool", "-j", "net", "show"])?;
                let shown: serde_json::Value = serde_json::from_str(&shown)?;
                let tc = shown[0]["tc"].as_array().context("bpftool net show")?.iter();
                Ok(tc.filter(|it| it["ifindex"] == ifindex).any(|it| it["name"] == program))
            }
        }
    }

    fn attach(&self) -> Result<()> {
        self.node.machine().netns()?.enter(|| {
            for device in self.maps.devices.entries()?.into_iter().map(|(ifindex, _)| ifindex) {
                self.programs.attach(device, "")?;
            }
            Ok(())
        })
    }

    fn empty(&self, name: &'static str) -> Result<Undo<'_>> {
        let maps = &self.maps;
        macro_rules! empty {
            ($($name:path => $table:ident),* $(,)?) => {
                match name {
                    $($name => {
                        let entries = maps.$table.entries()?;
                        for (key, _) in &entries {
                            maps.$table.delete(key)?;
                        }
                        Ok(Box::new(move || Ok(maps.$table.put_all(entries)?)))
                    })*
                    map::EGRESS => {
                        let rules = maps.egress_rules()?;
                        maps.set_egress(&[])?;
                        Ok(Box::new(move || Ok(maps.set_egress(&rules)?)))
                    }
                    map::NODE => {
                        let config = maps.node()?;
                        maps.set_node(&NodeConfig::default())?;
                        Ok(Box::new(move || Ok(maps.set_node(&config)?)))
                    }
                    map::BUDGETS => {
                        for (key, _) in maps.budgets.entries()? {
                            maps.budgets.delete(&key)?;
                        }
                        Ok(Box::new(|| Ok(())))
                    }
                    _ => {
                        for (key, _) in maps.counters.entries()? {
                            maps.counters.delete(&key)?;
                        }
                        Ok(Box::new(|| Ok(())))
                    }
                }
            };
        }
        empty! {
            map::DEVICES => devices,
            map::NETNS => netns,
            map::ENDPOINTS => endpoints,
            map::SERVICES => services,
            map::BACKENDS => backends,
            map::NAMES => names,
            map::PTRS => ptrs,
            map::GRANTS => grants,
            map::FLOWS => flows,
        }
    }
}

/// Whether no program is left on any veth: the last file of a link is closed by a kernel thread.
pub(crate) fn is_bare(node: &Node) -> Result<Option<()>> {
    let shown = node.run(&["bpftool", "-j", "net", "show"])?;
    Ok((!shown.contains("_container")).then_some(()))
}
