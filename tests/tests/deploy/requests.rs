//! The load: several clients of several kinds.

use std::io;
use std::sync::Arc;

use anyhow::{Result, ensure};
use tests::load::{Client, Datagrams, Paced, Running, Tally, run};
use tests::wait_for;

use crate::clients::{Fresh, Kept, Versions};
use crate::stack::{PATIENCE, Stack};

/// Exchanges that say that a client is at work.
const PROOF: u64 = 20;

/// Clients at work.
pub(crate) struct Requests {
    parts: Vec<(&'static str, Running)>,
    /// By family: 4, 6.
    pub(crate) versions: [Arc<Versions>; 2],
    mixed: bool,
}

impl Requests {
    /// A connection for each request, of both families.
    pub(crate) fn fresh(stack: &Stack, mixed: bool) -> Self {
        let mut requests = Self { parts: Vec::new(), versions: Default::default(), mixed };
        for _ in 0..2 {
            requests.add_fresh(stack, "new connections", 0);
        }
        requests.add_fresh(stack, "new connections, IPv6", 1);
        requests
    }

    /// And of those that keep one.
    pub(crate) fn all(stack: &Stack, mixed: bool) -> Self {
        let mut requests = Self::fresh(stack, mixed);
        let (to4, to6) = (stack.http4(), stack.http6());
        for _ in 0..2 {
            requests.add(stack, "kept connections", move || Kept::new(to4));
        }
        requests.add(stack, "kept connections, IPv6", move || Kept::new(to6));
        requests
    }

    fn add_fresh(&mut self, stack: &Stack, what: &'static str, family: usize) {
        let to = [stack.http4(), stack.http6()][family];
        let (versions, mixed) = (Arc::clone(&self.versions[family]), self.mixed);
        self.add(stack, what, move || Ok(Fresh { to, versions: Arc::clone(&versions), mixed }));
    }

    /// Clients that begin anew after an error.
    pub(crate) fn datagrams(stack: &Stack, clients: usize) -> Self {
        let mut requests = Self { parts: Vec::new(), versions: Default::default(), mixed: true };
        let to = stack.datagrams();
        for _ in 0..clients {
            requests.add(stack, "datagrams", move || Datagrams::connected(to).map(Paced));
        }
        requests
    }

    pub(crate) fn add<C, F>(&mut self, stack: &Stack, what: &'static str, make: F)
    where
        C: Client,
        F: Fn() -> io::Result<C> + Send + 'static,
    {
        self.parts.push((what, run(stack.place.clone(), make)));
    }

    /// From now on no new connection may reach a version before this one.
    pub(crate) fn at_least(&self, version: u32) {
        self.versions.iter().for_each(|versions| versions.at_least(version));
    }

    /// Waits until each client has made more exchanges.
    pub(crate) fn progress(&self) -> Result<()> {
        let goals: Vec<u64> = self.parts.iter().map(|(_, running)| running.exchanges() + PROOF).collect();
        for ((what, running), goal) in self.parts.iter().zip(goals) {
            wait_for(what, PATIENCE, || Ok((running.exchanges() >= goal).then_some(())))?;
        }
        Ok(())
    }

    /// The same, and none of them has ever failed.
    pub(crate) fn unharmed(&self) -> Result<()> {
        self.progress()?;
        for (what, running) in &self.parts {
            let first = running.first_failure().unwrap_or_default();
            ensure!(running.failures() == 0, "{what}: {} failures, the first: {first}", running.failures());
        }
        Ok(())
    }

    /// Ends them and says what each did.
    pub(crate) fn end(self) -> Result<Vec<Tally>> {
        let end = |(what, running): (&str, Running)| {
            let tally = running.stop()?;
            let Tally { exchanges, failures, slowest, first_failure, .. } = &tally;
            let first = first_failure.as_ref().map(|first| format!(", the first: {first}")).unwrap_or_default();
            println!("{what:<24} {exchanges:>8} exchanges, slowest {slowest:?}, {failures} failures{first}");
            Ok(tally)
        };
        self.parts.into_iter().map(end).collect()
    }

    /// The same; nothing may have failed.
    pub(crate) fn end_unharmed(self) -> Result<()> {
        for tally in self.end()? {
            ensure!(tally.exchanges > 0 && tally.failures == 0, "{tally:?}");
        }
        Ok(())
    }
}
