//! `cargo xtask test vm`: the kernel's part on other kernels, in QEMU.
//!
//! Debian's newest kernel of each series boots from an initramfs that holds the test programs, what they
//! call, and a PID 1 that runs one after the other. Nothing of it is installed on this computer. The
//! processor is emulated: this is about correctness, and works wherever QEMU does.

mod guest;
mod initramfs;
mod kernel;
mod machine;
pub(super) mod pair;
pub(super) mod reboot;
mod report;

use std::{
    fs,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};

use self::{guest::Run, kernel::Kernel};
use super::targets;
use crate::setup;

/// The test programs (files in `tests/tests`) that need no Docker.
const TESTS: [&str; 4] = ["kernel", "decision", "sockets", "isolation"];
/// Guests at a time: each has as many processors as this computer usually has.
const GUESTS: usize = 2;

/// Set-up, kernels (those of `series`, or all), guests, table.
pub(super) fn run(yes: bool, series: &[String]) -> Result<()> {
    setup::run(&setup::Arguments { yes, vm: true })?;
    let directory = tests::paths::target().join("vm");
    fs::create_dir_all(&directory)?;
    let directory = directory.canonicalize()?;
    let kernels = kernel::newest(&directory, series)?;
    let programs = targets::build(&targets::selection(&TESTS.map(str::to_owned)))?;
    let base = initramfs::base(&directory, &programs)?;
    println!("Booting {} …", kernels.iter().map(Kernel::release).collect::<Vec<_>>().join(", "));
    let runs = boot_all(&kernels, &base)?;
    println!("\n{}", report::Report(&runs));
    ensure!(runs.iter().all(Run::passed), "some tests failed; the consoles are in {}", directory.display());
    Ok(())
}

/// Boots every kernel, some at a time; the runs in the order of the kernels.
fn boot_all(kernels: &[Kernel], base: &std::path::Path) -> Result<Vec<Run>> {
    let next = Mutex::new(kernels.iter().enumerate());
    let done = Mutex::new(Vec::new());
    let worker = || {
        while let Some((place, kernel)) = { next.lock().unwrap_or_else(PoisonError::into_inner).next() } {
            let run = guest::run(kernel, base).with_context(|| format!("kernel {}", kernel.release()));
            done.lock().unwrap_or_else(PoisonError::into_inner).push((place, run));
        }
    };
    thread::scope(|scope| {
        for _ in 0..GUESTS {
            scope.spawn(worker);
        }
    });
    let mut done = done.into_inner().map_err(|_| anyhow!("a guest's thread panicked"))?;
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, run)| run).collect()
}
