//! Several nodes that share an etcd.

use std::{fs, sync::Arc};

use anyhow::{Context as _, Result};

use crate::{etcd::Etcd, lan::Lan, node::Node};

/// Nodes on one LAN, each with its own dockerd and skepd, and an etcd.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    etcd: Etcd,
    lan: Arc<Lan>,
}

impl Cluster {
    /// So many nodes, which know each other.
    ///
    /// # Errors
    /// See [`crate::node::NodeBuilder::start`].
    pub fn start(nodes: usize) -> Result<Self> {
        Self::with(nodes, &[])
    }

    /// The same, with further options of each skepd.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with(nodes: usize, arguments: &[&str]) -> Result<Self> {
        let lan = Arc::new(Lan::new()?);
        let mut cluster = Self { nodes: Vec::new(), etcd: Etcd::on(&lan)?, lan };
        for _ in 0..nodes {
            cluster.join(arguments)?;
        }
        Ok(cluster)
    }

    /// One more node.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn join(&mut self, arguments: &[&str]) -> Result<()> {
        self.nodes.push(self.another(arguments)?);
        Ok(())
    }

    /// One more, which goes when it is dropped.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn another(&self, arguments: &[&str]) -> Result<Node> {
        let url = self.etcd.url();
        let node = Node::builder().lan(&self.lan).skepd_arguments(&["--etcd", &url]).skepd_arguments(arguments);
        let node = node.docker_only()?;
        if let Some(first) = self.nodes.first() {
            fs::create_dir_all(node.state_directory())?;
            let key = |node: &Node| node.state_directory().join("cluster.key");
            // With its mode.
            fs::copy(key(first), key(&node)).context("the first node's cluster key")?;
        }
        node.start_skepd()?;
        // It answers when it has all that others need.
        node.replicas()?;
        Ok(node)
    }

    /// Takes a node away, as if its machine had burnt; the others know of it until somebody has them forget it.
    pub fn burn(&mut self, node: usize) -> String {
        self.nodes.remove(node).machine().name().to_owned()
    }

    /// The nodes, in the order in which they came.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The etcd.
    #[must_use]
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// The LAN.
    #[must_use]
    pub fn lan(&self) -> &Arc<Lan> {
        &self.lan
    }
}
