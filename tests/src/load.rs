//! Traffic between two network namespaces: what the benchmark measures and what runs while something is killed.
//!
//! A [`Place`] says where a thread works (namespace, core). A [`Client`] makes one exchange at a time; [`run`] repeats it
//! and keeps the [`Tally`]. A [`Server`] answers until it is dropped. A [`Mixture`] is one of everything.
//! [`there_and_back`] is a transfer and no load.

mod client;
mod mixture;
mod place;
mod server;
mod transfer;

pub use client::{Client, Connects, Datagrams, Dns, KeepAlive, PAUSE, Paced, Stream};
pub use mixture::{Mixture, go_on};
pub use place::Place;
pub use server::{Server, Service};
pub use transfer::there_and_back;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long one exchange may take before it counts as failed.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What a client saw.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Exchanges that succeeded.
    pub exchanges: u64,
    /// Their units: transactions, octets or questions.
    pub units: u64,
    /// Exchanges that failed.
    pub failures: u64,
    /// From the first exchange to the last.
    pub elapsed: Duration,
    /// The slowest exchange that succeeded.
    pub slowest: Duration,
    /// What the first failure was.
    pub first_failure: Option<String>,
}

impl Tally {
    /// Units per second.
    pub fn rate(&self) -> f64 {
        self.units as f64 / self.elapsed.as_secs_f64()
    }

    /// Units of one exchange, on average.
    pub fn mean(&self) -> f64 {
        self.units as f64 / self.exchanges as f64
    }

    fn record(&mut self, outcome: io::Result<u64>, took: Duration) {
        match outcome {
            Ok(units) => {
                self.exchanges += 1;
                self.units += units;
                self.slowest = self.slowest.max(took);
            }
            Err(error) => {
                self.failures += 1;
                self.first_failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// What a running client and those who watch it share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    exchanges: AtomicU64,
    failures: AtomicU64,
    first_failure: Mutex<Option<String>>,
}

/// A client at work in a thread of its own; it ends when it is told to.
pub struct Running {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Tally>>,
}

impl Running {
    /// Exchanges that succeeded so far.
    pub fn exchanges(&self) -> u64 {
        self.shared.exchanges.load(Ordering::Relaxed)
    }

    /// Exchanges that failed so far.
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }

    /// What the first failure was.
    pub fn first_failure(&self) -> Option<String> {
        self.shared.first_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it after the exchange under way.
    ///
    /// # Errors
    /// When the client's thread panicked.
    pub fn stop(mut self) -> anyhow::Result<Tally> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let tally = self.thread.take().and_then(|thread| thread.join().ok());
        tally.ok_or_else(|| anyhow::anyhow!("a load client panicked"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// Repeats `client`'s exchange at `place` until [`Running::stop`]; a failed exchange begins with a new client.
pub fn run<C, F>(place: Place, make: F) -> Running
where
    C: Client,
    F: Fn() -> io::Result<C> + Send + 'static,
{
    let shared = Arc::new(Shared::default());
    let seen = Arc::clone(&shared);
    let thread = std::thread::spawn(move || {
        repeat(&place, make, |tally| {
            seen.exchanges.store(tally.exchanges, Ordering::Relaxed);
            if seen.failures.swap(tally.failures, Ordering::Relaxed) != tally.failures {
                seen.first_failure.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&tally.first_failure);
            }
            seen.stop.load(Ordering::Relaxed)
        })
    });
    Running { shared, thread: Some(thread) }
}

/// Repeats `client`'s exchange at `place` for `length`.
pub fn run_for<C, F>(place: Place, length: Duration, make: F) -> anyhow::Result<Tally>
where
    C: Client,
    F: Fn() -> io::Result<C> + Send + 'static,
{
    let thread = std::thread::spawn(move || {
        let end = Instant::now() + length;
        repeat(&place, make, |_| Instant::now() >= end)
    });
    thread.join().map_err(|_| anyhow::anyhow!("a load client panicked"))
}

fn repeat<C: Client>(place: &Place, make: impl Fn() -> io::Result<C>, over: impl Fn(&Tally) -> bool) -> Tally {
    let mut tally = Tally::default();
    if let Err(error) = place.enter() {
        tally.record(Err(error), Duration::ZERO);
        return tally;
    }
    let mut client = None;
    let begin = Instant::now();
    while !over(&tally) {
        let start = Instant::now();
        let outcome = match client.take() {
            Some(client) => Ok(client),
            None => make(),
        }
        .and_then(|mut made: C| {
            let units = made.exchange()?;
            client = Some(made);
            Ok(units)
        });
        tally.record(outcome, start.elapsed());
    }
    tally.elapsed = begin.elapsed();
    tally
}
