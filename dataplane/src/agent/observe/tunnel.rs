//! The tunnel device, and the ways to the other nodes.

use std::sync::atomic::Ordering;

use super::Observer;
use crate::agent::desired::Desired;
use crate::agent::error::AgentError;
use crate::agent::mesh;
use crate::agent::observed::Observed;
use crate::agent::paths::Path;
use crate::bpf::Attached;
use crate::config::TunnelKind;
use crate::membership::own_address;
use crate::model::TunnelRecord;

impl Observer {
    /// The tunnel device, and how it differs from what it should be.
    pub(super) async fn tunnel(
        &self,
        desired: &Desired,
        observed: &Observed,
    ) -> Result<Option<mesh::Tunnel>, AgentError> {
        let is_wanted = mesh::is_wanted(desired);
        if !is_wanted && !self.had_tunnel.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let seen = match self.tunnel.see().await {
            // One that was made for other nodes while there were any; somebody else's by that name is nobody's business.
            looked if !is_wanted => looked.ok().flatten().filter(|seen| self.tunnel.is_own(seen)),
            looked => looked?,
        };
        self.had_tunnel.store(seen.is_some(), Ordering::Relaxed);
        let Some(seen) = seen else { return Ok(None) };
        let attached = self.programs.tunnels()?.get(&seen.ifindex) == Some(&Attached::Current);
        Ok(Some(mesh::Tunnel::of(&seen, attached, desired, self.tunnel.keys(), observed.mtu)))
    }

    /// How other nodes reach this one.
    pub(in super::super) fn reached_by(&self, desired: &Desired, observed: &Observed) -> Option<TunnelRecord> {
        if self.config.tunnel == TunnelKind::Off {
            return desired.tunnel.clone();
        }
        let (endpoint, mtu) = match &desired.tunnel {
            // A node that knows of none, and has told once, does not ask again.
            Some(told) if desired.peers.is_empty() => (told.endpoint, told.mtu),
            _ => ((own_address(self.config.node_address)?, self.config.tunnel_port).into(), observed.mtu),
        };
        Some(mesh::record(self.tunnel.keys(), endpoint, mtu, desired))
    }

    /// What is known of the path to a node.
    pub fn path(&self, node: &str) -> Option<Path> {
        self.paths.state(node)
    }
}
