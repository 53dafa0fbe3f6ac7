//! What holds for the node as a whole beside the maps: forwarding, routes, the DNS address, firewall rules.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use tracing::{info, warn};

use super::error::AgentError;
use crate::config::{Config, marks};
use crate::egress::{self, EgressRules, Firewall};
use crate::netlink::{Changed, HostSide, Netlink, Uplink};

/// The ground that the replicas stand on.
#[derive(Debug, Clone)]
pub struct Ground {
    config: Arc<Config>,
    netlink: Netlink,
    firewall: Arc<Firewall>,
}

impl Ground {
    /// Of the node that `config` describes.
    pub fn new(config: Arc<Config>, netlink: Netlink) -> Self {
        Self { config, netlink, firewall: Arc::default() }
    }

    /// Looks at the host's side, and makes it so.
    ///
    /// # Errors
    /// Every [`AgentError`].
    pub async fn prepare(&self) -> Result<(), Vec<AgentError>> {
        match self.netlink.host_side(self.config.container_pool4).await {
            Ok(host) => self.ensure(&host).await,
            Err(error) => Err(vec![error.into()]),
        }
    }

    /// Makes it so, from how the host's side was found; what is right already is left alone. Goes on after an error.
    ///
    /// # Errors
    /// Every [`AgentError`].
    pub async fn ensure(&self, host: &HostSide) -> Result<(), Vec<AgentError>> {
        let mut errors = Vec::new();
        // The pools are closed before anything is forwarded at all.
        let open: Vec<_> = self.pools().into_iter().filter(|pool| !host.closed.contains(&pool.trunc())).collect();
        errors.extend(self.netlink.ensure_unreachable(&open).await.err().map(AgentError::from));
        errors.extend(self.netlink.ensure_loopback_address(self.config.dns()).await.err().map(AgentError::from));
        errors.extend(self.ensure_egress(&host.uplinks).await);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    async fn ensure_egress(&self, uplinks: &[Uplink]) -> Vec<AgentError> {
        let mut errors = Vec::new();
        match self.firewall.ensure(&self.rules(uplinks)).await {
            Ok(true) => info!(uplinks = ?names(uplinks), "Set the firewall rules."),
            Ok(false) => {}
            Err(error) => errors.push(error.into()),
        }
        match self.netlink.ensure_forwarding(uplinks) {
            Ok(changed) => self.remember(&changed),
            Err(error) => errors.push(error.into()),
        }
        errors
    }

    /// Takes it away again. Goes on after an error.
    ///
    /// # Errors
    /// Every [`AgentError`].
    pub async fn remove(&self) -> Result<(), Vec<AgentError>> {
        let mut errors = Vec::new();
        errors.extend(egress::remove(&self.config.node_name).await.err().map(AgentError::from));
        errors.extend(self.netlink.remove_loopback_address(self.config.dns()).await.err().map(AgentError::from));
        errors.extend(self.netlink.remove_unreachable(&self.pools()).await.err().map(AgentError::from));
        let changed = remembered(&self.file());
        match self.netlink.restore_forwarding(&changed) {
            Ok(()) => {
                let _absent = std::fs::remove_file(self.file());
            }
            Err(error) => errors.push(error.into()),
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn pools(&self) -> [IpNet; 4] {
        let Config { container_pool4, container_pool6, vip_pool4, vip_pool6, .. } = *self.config;
        [container_pool4.into(), vip_pool4.into(), container_pool6.into(), vip_pool6.into()]
    }

    fn rules(&self, uplinks: &[Uplink]) -> EgressRules {
        EgressRules {
            node: self.config.node_name.clone(),
            container_pool4: self.config.container_pool4,
            container_pool6: self.config.container_pool6,
            dns: self.config.dns(),
            uplinks: names(uplinks),
            pass_mark: marks::PASS,
            host_mark: marks::HOST,
            mark_mask: marks::MASK,
        }
    }

    fn file(&self) -> PathBuf {
        self.config.state_dir.join("sysctls.json")
    }

    /// Keeps what the sysctls were, for [`Self::remove`]: the oldest value is the machine's own.
    fn remember(&self, changed: &[Changed]) {
        if changed.is_empty() {
            return;
        }
        let mut all = remembered(&self.file());
        for change in changed {
            info!(key = change.key, before = change.before, after = change.after, "Set a sysctl.");
            match all.iter_mut().find(|known| known.key == change.key) {
                Some(known) => known.after.clone_from(&change.after),
                None => all.push(change.clone()),
            }
        }
        let json = serde_json::to_vec_pretty(&all).unwrap_or_default();
        if let Err(error) = std::fs::write(self.file(), json) {
            warn!(path = %self.file().display(), %error, "Cannot keep what the sysctls were; uninstall will leave them.");
        }
    }
}

fn remembered(file: &Path) -> Vec<Changed> {
    std::fs::read(file).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

fn names(uplinks: &[Uplink]) -> Vec<String> {
    uplinks.iter().map(|uplink| uplink.name.clone()).collect()
}
