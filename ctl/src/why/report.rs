use std::net::SocketAddr;

use dataplane::bpf::{ReasonText, device_name};
use dataplane_ebpf::abi::{Addr, Backend, Node, Reason};
use dataplane_ebpf::decide::{self, socket};
use serde::Serialize;

use crate::cell::Tone;
use crate::directory::Directory;
use crate::drops::{DropRow, ago};
use crate::error::CtlError;
use crate::output::Output;

/// All that is known about one reaching the other.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) source: String,
    pub(super) source_ids: String,
    pub(super) destination: String,
    pub(super) destination_ids: Option<String>,
    /// Whether the name means anything to the source; absent for an address.
    pub(super) resolves: Option<bool>,
    /// Why names of the outside do not resolve; absent when they do, or none is meant.
    pub(super) forwarder: Option<String>,
    /// What the socket call is told; absent for a ping.
    pub(super) socket: Option<SocketReport>,
    /// What becomes of the packet; absent when none is sent.
    pub(super) packet: Option<PacketReport>,
    pub(super) rule: String,
    pub(super) backends: Vec<BackendRow>,
    pub(super) drops: Vec<DropRow>,
    /// Replicas of either side that do not run, or are not well.
    pub(super) replicas: Vec<String>,
    pub(super) reaches: bool,
}

/// A verdict that is not a drop has no reason.
#[derive(Debug, Serialize)]
pub(super) struct SocketReport {
    verdict: &'static str,
    backend: Option<String>,
    generation: Option<u32>,
    #[serde(flatten)]
    refusal: Option<ReasonText>,
}

#[derive(Debug, Serialize)]
pub(super) struct PacketReport {
    verdict: &'static str,
    to: String,
    interface: Option<String>,
    /// The way to another node; absent for what is on this one.
    tunnel: Option<TunnelReport>,
    #[serde(flatten)]
    refusal: Option<ReasonText>,
    #[serde(skip)]
    pub(super) reaches: bool,
}

/// The way to a replica on another node.
#[derive(Debug, Serialize)]
pub(super) struct TunnelReport {
    node: u32,
    /// `None`: there is no tunnel now.
    interface: Option<String>,
    /// Octets of the largest IP packet that fits.
    mtu: Option<u32>,
}

#[derive(Debug, Serialize)]
pub(super) struct BackendRow {
    address: String,
    address6: Option<String>,
    node: u32,
    local: bool,
}

impl SocketReport {
    pub(super) fn new(decision: &socket::Decision, port: Option<u16>) -> Self {
        let passed = |verdict| Self { verdict, backend: None, generation: None, refusal: None };
        match decision.verdict() {
            socket::Verdict::Pass => passed("pass"),
            socket::Verdict::ToBackend(choice) => {
                let backend = match port {
                    Some(port) => SocketAddr::new(choice.backend.to_ip(), port).to_string(),
                    None => choice.backend.to_string(),
                };
                Self { backend: Some(backend), generation: Some(choice.generation), ..passed("to-backend") }
            }
            socket::Verdict::Refuse(reason) => Self { refusal: Some(reason.into()), ..passed("refuse") },
            socket::Verdict::Deny(reason) => Self { refusal: Some(reason.into()), ..passed("deny") },
        }
    }

    fn words(&self) -> String {
        match self.verdict {
            "pass" => "goes to the address as it is".to_owned(),
            "to-backend" => format!(
                "goes to the backend {} (generation {})",
                self.backend.as_deref().unwrap_or_default(),
                self.generation.unwrap_or_default()
            ),
            "refuse" => "fails at once with ECONNREFUSED".to_owned(),
            _ => "fails at once with EPERM".to_owned(),
        }
    }
}

impl PacketReport {
    pub(super) fn new(
        verdict: &decide::Verdict,
        to: Addr,
        directory: &Directory,
        tunnel: Option<TunnelReport>,
    ) -> Self {
        let is =
            |verdict, reaches| Self { verdict, to: to.to_string(), interface: None, tunnel, refusal: None, reaches };
        match verdict {
            decide::Verdict::Drop(reason) => Self { refusal: Some((*reason).into()), ..is("drop", false) },
            decide::Verdict::Deliver { ifindex } => {
                let veth = directory.veth(*ifindex);
                let interface = veth.map_or_else(|| ifindex.to_string(), |veth| veth.name.clone());
                Self { interface: Some(interface), ..is("deliver", true) }
            }
            decide::Verdict::Tunnel { .. } => is("tunnel", true),
            decide::Verdict::TooBig(_) => Self { refusal: Some(Reason::TooBig.into()), ..is("drop", false) },
            decide::Verdict::Stack => is("stack", true),
            decide::Verdict::Pass => is("pass", true),
            decide::Verdict::Dns(_) => is("dns", true),
            decide::Verdict::Echo(_) => is("echo", true),
        }
    }

    fn words(&self) -> String {
        match self.verdict {
            "drop" => "is dropped".to_owned(),
            "deliver" => format!("is delivered to {}", self.interface.as_deref().unwrap_or_default()),
            "tunnel" => "goes to another node".to_owned(),
            "stack" => "is let through to the host, which forwards it".to_owned(),
            "dns" => "is a question, answered in the kernel or by the forwarder".to_owned(),
            "echo" => "is answered in the kernel".to_owned(),
            _ => "passes".to_owned(),
        }
    }
}

impl TunnelReport {
    /// To the node of that id, of which NODES says this.
    pub(super) fn new(node: u32, way: Option<Node>) -> Self {
        let way = way.filter(|way| way.ifindex != 0);
        let name = |ifindex| device_name(ifindex).unwrap_or_else(|| ifindex.to_string());
        Self { node, interface: way.map(|way| name(way.ifindex)), mtu: way.map(|way| way.mtu) }
    }

    fn words(&self) -> String {
        match (&self.interface, self.mtu) {
            (Some(interface), Some(mtu)) => {
                format!("{interface} to node {}, packets of up to {mtu} octets", self.node)
            }
            _ => format!("none to node {} now", self.node),
        }
    }
}

impl BackendRow {
    pub(super) fn new(backend: &Backend, local: bool) -> Self {
        Self {
            address: Addr::from_v4_word(backend.address4).to_string(),
            address6: (!backend.address6.is_none()).then(|| backend.address6.to_string()),
            node: backend.node,
            local,
        }
    }
}

impl Report {
    /// For people.
    pub(super) fn print(&self, output: &mut Output) -> Result<(), CtlError> {
        field(output, "from", &self.source)?;
        field(output, "", &self.source_ids)?;
        field(output, "to", &self.destination)?;
        if let Some(ids) = &self.destination_ids {
            field(output, "", ids)?;
        }
        if self.resolves == Some(false) {
            let text = output.paint(Tone::Warn, "does not resolve there: no such name in the source's networks");
            field(output, "name", &text)?;
        }
        if let Some(forwarder) = &self.forwarder {
            let text = output.paint(Tone::Bad, forwarder);
            field(output, "name", &text)?;
        }
        if let Some(socket) = &self.socket {
            verdict(output, "socket", &socket.words(), socket.refusal.as_ref())?;
        }
        if let Some(packet) = &self.packet {
            verdict(output, "packet", &format!("to {} {}", packet.to, packet.words()), packet.refusal.as_ref())?;
        }
        if let Some(tunnel) = self.packet.as_ref().and_then(|packet| packet.tunnel.as_ref()) {
            field(output, "tunnel", &tunnel.words())?;
        }
        field(output, "rule", &self.rule)?;
        for (index, backend) in self.backends.iter().enumerate() {
            let place = if backend.local { "on this node".to_owned() } else { format!("on node {}", backend.node) };
            let address6 = backend.address6.as_deref().unwrap_or("no IPv6");
            let label = if index == 0 { "backends" } else { "" };
            field(output, label, &format!("{}, {address6}, {place}", backend.address))?;
        }
        for (index, replica) in self.replicas.iter().enumerate() {
            let text = output.paint(Tone::Warn, replica);
            field(output, if index == 0 { "replicas" } else { "" }, &text)?;
        }
        for (index, drop) in self.drops.iter().enumerate() {
            field(output, if index == 0 { "drops" } else { "" }, &drop_line(drop))?;
        }
        let last = if self.reaches {
            output.paint(Tone::Good, "It gets there.")
        } else {
            output.paint(Tone::Bad, "It does not get there.")
        };
        output.line(&last)
    }
}

fn verdict(output: &mut Output, label: &str, words: &str, refusal: Option<&ReasonText>) -> Result<(), CtlError> {
    let tone = if refusal.is_some() { Tone::Bad } else { Tone::Good };
    let words = output.paint(tone, words);
    field(output, label, &words)?;
    let Some(ReasonText { reason, explanation, remedy }) = refusal else { return Ok(()) };
    field(output, "", &format!("{reason}: {explanation}"))?;
    field(output, "", &format!("remedy: {remedy}"))
}

fn drop_line(drop: &DropRow) -> String {
    let who = drop.who.as_deref().unwrap_or_default();
    let last = drop.last_seconds_ago.map(ago).unwrap_or_default();
    let packet = drop.last_packet.as_deref().unwrap_or_default();
    format!("{} × {} of {who}, the last one {last}: {packet}", drop.count, drop.text.reason)
}

fn field(output: &mut Output, label: &str, text: &str) -> Result<(), CtlError> {
    let label = output.paint(Tone::Dim, &format!("{label:<9}"));
    output.line(format!("{label}{text}").trim_end())
}
