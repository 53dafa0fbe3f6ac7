//! A [`World`] whose devices have their programs.

use std::net::IpAddr;
use std::ops::Deref;

use anyhow::Result;
use dataplane::bpf::{self, Pins};
use dataplane_ebpf::abi::Reason;
use tests::bpffs::Bpffs;
use tests::netns::Namespace;

use crate::world::{A, REPLICAS, Replica, World};

/// A world whose veths and whose tunnel have their programs.
pub(crate) struct Attached {
    world: World,
    _bpffs: Bpffs,
}

impl Attached {
    pub(crate) fn new() -> Result<Self> {
        let bpffs = Bpffs::new()?;
        let world = World::new(&Pins::new(&bpffs.path()))?;
        for replica in REPLICAS {
            world.host.enter(|| Ok(world.programs.attach(replica.ifindex(), &replica.ifname())?))?;
        }
        world.host.enter(|| Ok(world.programs.attach_tunnel(world.tunnel.ifindex())?))?;
        Ok(Self { world, _bpffs: bpffs })
    }

    /// How often packets of a replica were dropped for a reason.
    pub(crate) fn dropped(&self, replica: &Replica, reason: Reason) -> Result<u64> {
        let lines = bpf::drops(&self.maps)?;
        let mine = lines.iter().filter(|line| line.identity == replica.identity && line.reason() == Some(reason));
        Ok(mine.map(|line| line.packets).sum())
    }

    /// The network namespace of a replica.
    pub(crate) fn container(&self, replica: &Replica) -> &Namespace {
        &self.containers[usize::from(replica.host - A.host)]
    }
}

impl Deref for Attached {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

/// Does `work` with checksums left to the device, which a veth never computes, and with checksums that the kernel
/// computes and the receiver verifies.
pub(crate) fn with_and_without_offload(world: &Attached, work: impl Fn(&str) -> Result<()>) -> Result<()> {
    for offload in ["on", "off"] {
        for replica in REPLICAS {
            world.container(&replica).run(&format!("ethtool -K eth0 tx {offload}"))?;
        }
        work(offload)?;
    }
    Ok(())
}

/// Both addresses of a replica.
pub(crate) fn addresses(replica: &Replica) -> [IpAddr; 2] {
    [replica.v4().into(), replica.v6().into()]
}
