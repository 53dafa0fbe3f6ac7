//! Everything that a container does with the network, at once.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Connects, Datagrams, Dns, KeepAlive, Place, Running, Server, Service, run};
use crate::container::Container;
use crate::lan::Lan;
use crate::wait::wait_for;

/// The cluster's resolver.
const DNS: &str = "10.224.0.53:53";
const KEEP_ALIVE: u16 = 7001;
const PER_REQUEST: u16 = 7002;
const DATAGRAMS: u16 = 7003;

/// Exchanges of each kind between two events.
const PHASE: u64 = 500;
/// How long they may take on a busy computer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client and a server: open connections, new ones, datagrams, by virtual addresses of both families; names of their
/// environment and of the world.
pub struct Mixture {
    parts: Vec<(&'static str, Running)>,
    /// Datagrams are answered by the other side of the network, and nobody sends a lost one again.
    lossy: bool,
    _servers: Vec<Server>,
}

impl Mixture {
    /// Servers in `server`'s namespace, clients in `client`'s.
    ///
    /// # Errors
    /// When a namespace cannot be entered, or one of them has no address.
    pub fn between(client: &Container<'_>, server: &Container<'_>) -> Result<Self> {
        let (from, at) = (Place::inside(client.netns()?), Place::inside(server.netns()?));
        let servers = vec![
            Server::start(at.clone(), KEEP_ALIVE, Service::Echo)?,
            Server::start(at.clone(), PER_REQUEST, Service::EchoOnce)?,
            Server::start(at, DATAGRAMS, Service::Datagrams)?,
        ];
        let to = |address: &str, port: u16| -> Result<SocketAddr> {
            Ok((address.parse::<IpAddr>().with_context(|| format!("address {address:?}"))?, port).into())
        };
        let (vip4, vip6, dns) = (server.vip()?, server.vip6()?, DNS.parse()?);
        let (open, open6) = (to(vip4, KEEP_ALIVE)?, to(vip6, KEEP_ALIVE)?);
        let (new, new6) = (to(vip4, PER_REQUEST)?, to(vip6, PER_REQUEST)?);
        let (udp, udp6) = (to(vip4, DATAGRAMS)?, to(vip6, DATAGRAMS)?);
        let (vip, outside) = (vip4.parse()?, Lan::OUTSIDE4.parse()?);
        let parts = vec![
            ("keep-alive", run(from.clone(), move || KeepAlive::new(open))),
            ("keep-alive, IPv6", run(from.clone(), move || KeepAlive::new(open6))),
            ("new connections", run(from.clone(), move || Connects::new(new))),
            ("new, IPv6", run(from.clone(), move || Connects::new(new6))),
            ("UDP", run(from.clone(), move || Datagrams::connected(udp))),
            ("UDP unconnected", run(from.clone(), move || Datagrams::unconnected(udp6))),
            ("name", run(from.clone(), move || Dns::new(dns, "server.internal", 1, Some(vip)))),
            ("outside name", run(from, move || Dns::new(dns, Lan::OUTSIDE, 1, Some(outside)))),
        ];
        Ok(Self { parts, lossy: false, _servers: servers })
    }

    /// The same, where datagrams may get lost; no more of them than one in a hundred.
    #[must_use]
    pub fn lossy(self) -> Self {
        Self { lossy: true, ..self }
    }

    /// Waits until each part has made 500 more exchanges.
    ///
    /// # Errors
    /// When one fails that must not.
    pub fn goes_on(&self) -> Result<()> {
        let (lossy, firm): (Vec<_>, Vec<_>) = self.parts.iter().partition(|(what, _)| self.may_fail(what));
        go_on(firm)?;
        let before: Vec<_> = lossy.iter().map(|(_, running)| running.exchanges()).collect();
        lossy.into_iter().zip(before).try_for_each(|((what, running), before)| {
            let goal = format!("{what}: {PHASE} more exchanges");
            wait_for(&goal, PATIENCE, || Ok((running.exchanges() >= before + PHASE).then_some(())))
        })
    }

    /// Ends it, and tells how much there was.
    ///
    /// # Errors
    /// When an exchange has failed that must not.
    pub fn ends_well(mut self) -> Result<()> {
        for (what, running) in std::mem::take(&mut self.parts) {
            let tally = running.stop()?;
            println!(
                "{what:<20} {:>8} exchanges, {} failures, slowest {:?}",
                tally.exchanges, tally.failures, tally.slowest
            );
            let failures = if self.may_fail(what) { tally.exchanges / 100 } else { 0 };
            ensure!(tally.exchanges > 0 && tally.failures <= failures, "{what}: {tally:?}");
        }
        Ok(())
    }

    fn may_fail(&self, what: &str) -> bool {
        self.lossy && what.starts_with("UDP")
    }
}

/// Waits until each of these has made 500 more exchanges, without a failure.
///
/// # Errors
/// When one fails, or stops.
pub fn go_on<'a>(parts: impl IntoIterator<Item = &'a (&'static str, Running)>) -> Result<()> {
    let parts: Vec<_> = parts.into_iter().map(|part| (part, part.1.exchanges())).collect();
    for ((what, running), before) in parts {
        let goal = format!("{what}: {PHASE} more exchanges");
        wait_for(&goal, PATIENCE, || {
            Ok((running.failures() > 0 || running.exchanges() >= before + PHASE).then_some(()))
        })?;
        ensure!(running.failures() == 0, "{what}: {:?}", running.first_failure());
    }
    Ok(())
}
