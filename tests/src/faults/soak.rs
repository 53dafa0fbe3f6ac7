//! Faults at random, for as long as is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;

use super::{Fault, Heading, Row, Scene, Tally};
use crate::dice::{self, Dice};

/// What a daemon may grow by over its life, in KiB of memory: the store's history and the caches fill.
const GROWTH_KIB: u64 = 8 << 10;
/// And in file descriptors: connections that are just being closed.
const GROWTH_FDS: usize = 8;

/// Which faults, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Soak {
    /// Faults go on until then.
    pub length: Duration,
    /// The same seed chooses the same faults.
    pub seed: u64,
}

impl Soak {
    /// `SKEP_SOAK_SECONDS` and `SKEP_SEED`; without, 3 minutes (2 hours where `SKEP_LONG` is set) and the time.
    ///
    /// # Errors
    /// A variable is no number.
    pub fn from_environment() -> Result<Self> {
        let usual = if std::env::var_os("SKEP_LONG").is_some() { 7200 } else { 180 };
        let seconds = dice::number("SKEP_SOAK_SECONDS")?.unwrap_or(usual);
        Ok(Self { length: Duration::from_secs(seconds), seed: dice::seed()? })
    }
}

/// What a process holds; the pages of its program, which come as it runs, are not its own.
#[derive(Debug, Clone, Copy)]
struct Held {
    kib: u64,
    fds: usize,
}

impl Held {
    fn by(pid: Pid) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
        let kib = line.trim().trim_end_matches(" kB").parse().with_context(|| format!("RssAnon:{line}"))?;
        Ok(Self { kib, fds: fs::read_dir(format!("/proc/{pid}/fd"))?.count() })
    }
}

/// Makes faults happen at random and prints each; then all has to be as at the beginning, and no daemon may have
/// grown over its life.
///
/// # Errors
/// A fault cost more than it may; something is left over.
pub fn soak(scene: &mut Scene, faults: &[Fault], soak: Soak) -> Result<()> {
    let Soak { length, seed } = soak;
    println!("SKEP_SEED={seed} SKEP_SOAK_SECONDS={}\n{Heading}", length.as_secs());
    let first = scene.settled()?;
    let (mut dice, begun) = (Dice::new(seed), Instant::now());
    let mut lives: BTreeMap<Pid, (Held, Held)> = BTreeMap::new();
    let mut happened = 0_u32;
    let mut ending = BTreeSet::new();
    let mut slowest = None;
    while begun.elapsed() < length {
        let choice: Vec<&Fault> =
            faults.iter().filter(|fault| !is_calm(happened) || !ending.contains(fault.name)).collect();
        let fault = choice[dice.below(choice.len())];
        let before = scene.node.skepd_pid()?;
        let row = scene.suffer(fault)?;
        happened += 1;
        slowest = slowest.max(row.repair);
        println!("{row}");
        ensure!(!row.broken, "“{}”, the {happened}th with SKEP_SEED={seed}, cost more than it may", row.fault);
        let pid = scene.node.skepd_pid()?;
        if pid != before {
            ending.insert(fault.name);
        }
        let held = Held::by(pid)?;
        lives.entry(pid).or_insert((held, held)).1 = held;
    }
    let left = first.differences(&scene.settled()?);
    ensure!(left.is_empty(), "not as in the beginning, with SKEP_SEED={seed}:\n{}", left.join("\n"));
    scene.nothing_lingers()?;
    let tally = scene.tally();
    println!("{happened} faults in {:?}: {tally:?}", begun.elapsed());
    for (pid, (then, now)) in lives {
        println!("skepd {pid}: {} KiB and {} fds, at last {} and {}", then.kib, then.fds, now.kib, now.fds);
        let flat = now.kib <= then.kib + GROWTH_KIB && now.fds <= then.fds + GROWTH_FDS;
        ensure!(flat, "skepd {pid} grew with SKEP_SEED={seed}: {then:?}, at last {now:?}");
    }
    let Tally { requests, failures, isolation } = tally;
    let fault = format!("{happened} of these at random, SKEP_SEED={seed}");
    let broken = isolation > 0;
    Row { fault, requests, failures, repair: slowest, leaks: Vec::new(), isolation, broken }.enter()?;
    ensure!(!broken, "{tally:?} with SKEP_SEED={seed}");
    Ok(())
}

/// Whether faults that end the daemon pause, as they do in turn for 32 faults, 128, 512, …: what grows slowly shows in a
/// long life only.
fn is_calm(happened: u32) -> bool {
    (happened / 16 + 1).ilog2() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::is_calm;

    #[test]
    fn calm_and_other_times_take_turns_and_get_longer() {
        let mut turns = vec![(false, 0)];
        for happened in 0..496 {
            match turns.last_mut() {
                Some((calm, length)) if *calm == is_calm(happened) => *length += 1,
                _ => turns.push((is_calm(happened), 1)),
            }
        }
        assert_eq!(turns, [(false, 16), (true, 32), (false, 64), (true, 128), (false, 256)]);
    }
}
