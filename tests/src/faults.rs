//! Faults, and what they cost: a node that serves under load, something that happens to it, and whether all is as it
//! was, by readers that know nothing of Skep.
//!
//! [`Scene`] is the node; a [`Fault`] says how to break it, how soon it has to be mended and what the load may notice;
//! [`Scene::suffer`] does it and gives the [`Row`] that goes into the list.

mod list;
mod load;
mod picture;
mod soak;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::container::Container;
use crate::images::Image;
use crate::load::PATIENCE;
use crate::machine::Machine;
use crate::node::{Node, NodeBuilder};
use crate::wait::wait_for;

pub use list::{Heading, LIST, Row};
use load::Load;
pub use load::Tally;
pub use picture::Picture;
pub use soak::{Soak, soak};

const SHOP: &str = "
services:
  web: {image: 'musl:latest', command: [serve, web], deploy: {replicas: 2}}
  api: {image: 'musl:latest', command: [serve, api]}
";
const ALONE: &str = "
services:
  web: {image: 'musl:latest', command: [serve, web]}
";

/// A node with two projects × environments that serve, under load: shop/production (web ×2, api), shop/staging (web),
/// blog/production (web), each replica a `serve` of [`Image::Musl`].
///
/// api asks web by its VIP, over kept and new connections and datagrams, of both families, and by its name. At the
/// same time whoever must not ask at all: the other environments, the host, a neighbour on the LAN.
pub struct Scene {
    /// The node.
    pub node: Node,
    neighbour: Machine,
    load: Load,
}

/// Something that happens to a node.
#[derive(Clone, Copy)]
pub struct Fault {
    /// What it is, in the list.
    pub name: &'static str,
    /// Makes it happen; returns when it has.
    pub inject: fn(&Scene) -> Result<()>,
    /// Longest time until all is as before.
    pub within: Duration,
    /// What the load may suffer.
    pub cost: Cost,
    /// Who has come with it, and goes again before the end.
    pub visitor: Option<Visitor>,
}

/// Somebody who makes things of his own on a node.
#[derive(Clone, Copy)]
pub struct Visitor {
    /// Whether a line of the picture is his business: it may be there or not while he is.
    pub is_his: fn(&str) -> bool,
    /// What has to be so again while he is there, and when he is gone; asked once a round.
    pub demand: fn(&Scene) -> Result<()>,
    /// Has him go; then all has to be as it was, his lines too.
    pub leave: fn(&Scene) -> Result<()>,
}

/// What the load may suffer. Isolation may never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// No request fails.
    Nothing,
    /// Requests may fail until it is repaired.
    Interruption,
}

impl Scene {
    /// The node, its environments, the load; all of it at work when this returns.
    ///
    /// # Errors
    /// What the fixtures say.
    pub fn start(builder: NodeBuilder) -> Result<Self> {
        let node = builder.start()?;
        node.load(&[Image::Musl])?;
        node.up("shop", "production", SHOP)?;
        node.up("shop", "staging", ALONE)?;
        node.up("blog", "production", ALONE)?;
        let neighbour = node.neighbour()?;
        let load = Load::start(&node, &neighbour)?;
        let scene = Self { node, neighbour, load };
        scene.progress(PATIENCE)?;
        ensure!(scene.load.tally().failures == 0, "the load fails with nothing wrong: {:?}", scene.load.tally());
        Ok(scene)
    }

    /// A replica, waited for.
    ///
    /// # Errors
    /// It does not run.
    pub fn replica(&self, project: &str, environment: &str, service: &str, replica: u32) -> Result<Container<'_>> {
        self.node.replica(project, environment, service, replica)
    }

    /// The machine on the LAN whose packets to the containers never get an answer.
    #[must_use]
    pub fn neighbour(&self) -> &Machine {
        &self.neighbour
    }

    /// What the node is now, by independent readers.
    ///
    /// # Errors
    /// One of them fails.
    pub fn picture(&self) -> Result<Picture> {
        Picture::take(&self.node)
    }

    /// What the load has seen since the start.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.load.tally()
    }

    /// Takes the picture, makes the fault happen, and waits until the picture is the same again and every part of the
    /// load is at work.
    ///
    /// # Errors
    /// The fault cannot be made to happen. What it does is in the row.
    pub fn suffer(&mut self, fault: &Fault) -> Result<Row> {
        let before = self.settled().with_context(|| format!("before “{}”", fault.name))?;
        let tally = self.load.tally();
        (fault.inject)(self).with_context(|| format!("cannot make it happen: {}", fault.name))?;
        let is_his = |line: &str| fault.visitor.is_some_and(|visitor| (visitor.is_his)(line));
        let (mut repair, mut leaks) = self.repaired(&before, fault, is_his);
        if let Some(visitor) = fault.visitor {
            (visitor.leave)(self).with_context(|| format!("cannot be ended: {}", fault.name))?;
            let (again, left) = self.repaired(&before, fault, |_| false);
            repair = repair.and_then(|repair| Some(repair.max(again?)));
            leaks.extend(left);
        }
        // A request that was lost is given up after its own time.
        if let Err(error) = self.progress(fault.within.max(PATIENCE) + PATIENCE) {
            leaks.push(format!("{error:#}"));
        }
        let after = self.load.tally();
        let (failures, isolation) = (after.failures - tally.failures, after.isolation - tally.isolation);
        let broken =
            repair.is_none() || !leaks.is_empty() || isolation > 0 || (fault.cost == Cost::Nothing && failures > 0);
        let requests = after.requests - tally.requests;
        Ok(Row { fault: fault.name.to_owned(), requests, failures, repair, leaks, isolation, broken })
    }

    /// How long it takes from now until the picture is as before, but for lines that do not count; what is not so when it
    /// takes longer than it may.
    fn repaired(
        &self,
        before: &Picture,
        fault: &Fault,
        is_nothing: impl Fn(&str) -> bool,
    ) -> (Option<Duration>, Vec<String>) {
        let begun = Instant::now();
        loop {
            let looked = Instant::now();
            // A reader may fail while things come and go.
            let mut leaks = match self.picture() {
                Ok(now) => before.differences(&now),
                Err(error) => vec![format!("{error:#}")],
            };
            leaks.retain(|leak| !is_nothing(leak));
            if let Some(Err(error)) = fault.visitor.map(|visitor| (visitor.demand)(self)) {
                leaks.push(format!("{error:#}"));
            }
            if leaks.is_empty() {
                return (Some(looked - begun), leaks);
            }
            if looked - begun > fault.within {
                return (None, leaks);
            }
        }
    }

    /// Ends the load.
    ///
    /// # Errors
    /// What a part of it suffered unexpectedly: a panic.
    pub fn end(self) -> Result<()> {
        self.load.end()
    }

    /// The picture, when two in a row are the same: what came before is over.
    ///
    /// # Errors
    /// Something goes on changing for half a minute.
    pub fn settled(&self) -> Result<Picture> {
        let mut last = self.picture()?;
        let mut changing = Vec::new();
        let settled = wait_for("a picture that stays the same", Duration::from_secs(30), || {
            let now = self.picture()?;
            changing = last.differences(&now);
            last = now;
            Ok(changing.is_empty().then(|| last.clone()))
        });
        settled.with_context(|| changing.join("\n"))
    }

    /// Waits until what may be there for some seconds is gone, too.
    ///
    /// # Errors
    /// Something of it stays.
    pub fn nothing_lingers(&self) -> Result<()> {
        wait_for("no backend set that nobody refers to", Duration::from_secs(20), || {
            let picture = self.picture()?;
            ensure!(picture.lingering().is_empty(), "{:#?}", picture.lingering());
            Ok(Some(()))
        })
    }

    /// Waits until each part of the load has made more exchanges.
    fn progress(&self, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        for part in self.load.wanted() {
            part.progress(end.saturating_duration_since(Instant::now()))?;
        }
        Ok(())
    }
}

/// Makes every fault happen, one after the other, prints them, and enters them into the list.
///
/// # Errors
/// One of them cost more than it may.
pub fn all(scene: &mut Scene, faults: &[Fault]) -> Result<()> {
    println!("{Heading}");
    let mut broken = Vec::new();
    for fault in faults {
        let row = scene.suffer(fault)?;
        println!("{row}");
        row.enter()?;
        if row.broken {
            broken.push(row.fault);
        }
    }
    if broken.is_empty() { Ok(()) } else { bail!("{} of {} faults: {broken:?}", broken.len(), faults.len()) }
}
