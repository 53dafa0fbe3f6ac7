//! One guest: QEMU, its console, what the tests said on it.

use std::{
    env::{self, consts},
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{TESTS, initramfs, kernel::Kernel};
use crate::test::run::Outcome;

/// A guest that says nothing for so long hangs. How long it takes in all is the processor's affair, which is emulated.
const SILENCE: Duration = Duration::from_secs(10 * 60);
/// How long to leave a guest alone between two looks at what it has said.
const LOOK: Duration = Duration::from_millis(100);
/// Mutated packets and questions for a guest, where nobody asks for another number: a tenth of what this
/// computer's own processor is given, which is faster by more than that.
const FUZZ: (&str, &str) = ("SKEP_FUZZ_COUNT", "12000");

/// What became of a kernel.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) release: String,
    /// Test program by test program; without success for one that did not end.
    pub(super) tests: Vec<(String, Outcome)>,
    /// Each BPF program, and how many instructions the verifier went through.
    pub(super) programs: Vec<(String, u32)>,
    pub(super) took: Duration,
}

impl Run {
    /// Whether every test program ended as it should.
    pub(super) fn passed(&self) -> bool {
        TESTS.iter().all(|name| self.tests.iter().any(|(test, outcome)| test == name && outcome.success))
    }
}

/// Boots a kernel, waits until it has powered itself off, reads its console.
pub(super) fn run(kernel: &Kernel, base: &Path) -> Result<Run> {
    let initramfs = initramfs::with_modules(kernel, base)?;
    let console = kernel.directory().join("console.log");
    let start = Instant::now();
    let mut qemu = qemu(kernel)?;
    qemu.arg("-initrd").arg(&initramfs);
    let (device, tests, (fuzz, count)) = (console_device()?, TESTS.join(","), FUZZ);
    let count = env::var(fuzz).unwrap_or_else(|_| count.to_owned());
    // What the kernel does not know becomes PID 1's environment.
    let line = format!("console={device} panic=-1 quiet mitigations=off skep.tests={tests} {fuzz}={count}");
    qemu.args(["-append", &line]);
    qemu.stdin(Stdio::null()).stdout(File::create(&console)?).stderr(Stdio::inherit());
    let mut guest = qemu.spawn().context("cannot start QEMU")?;
    if !ends(&mut guest, &console)? {
        guest.kill()?;
        guest.wait()?;
        eprintln!("{}: nothing new in {} for {SILENCE:?}", kernel.release(), console.display());
    }
    let run = read(kernel.release(), &fs::read(&console)?, start.elapsed());
    if !run.passed() {
        let text = String::from_utf8_lossy(&fs::read(&console)?).into_owned();
        println!(
            "---- {}, in short; the whole is in {} ----\n{}",
            kernel.release(),
            console.display(),
            in_short(&text)
        );
    }
    Ok(run)
}

/// Waits for a guest's end; false if it falls silent.
fn ends(guest: &mut Child, console: &Path) -> Result<bool> {
    let (mut said, mut last) = (0, Instant::now());
    loop {
        if guest.try_wait()?.is_some() {
            return Ok(true);
        }
        let now = fs::metadata(console)?.len();
        if now > said {
            (said, last) = (now, Instant::now());
        } else if last.elapsed() > SILENCE {
            return Ok(false);
        }
        thread::sleep(LOOK);
    }
}

/// The lines that say what went wrong, without the verifier's log, which is as long as a book.
fn in_short(console: &str) -> String {
    const TELLING: [&str; 5] = ["Error", "assertion", "skep:", "test ", "thread '"];
    let telling = console.lines().filter(|line| TELLING.iter().any(|start| line.starts_with(start)));
    telling.map(|line| line.chars().take(300).collect::<String>() + "\n").collect()
}

/// QEMU with a kernel, no disks, no devices but a console.
pub(super) fn qemu(kernel: &Kernel) -> Result<Command> {
    let (program, machine) = match consts::ARCH {
        "x86_64" => ("qemu-system-x86_64", "q35,usb=off"),
        "aarch64" => ("qemu-system-aarch64", "virt"),
        other => bail!("no guests on {other}"),
    };
    let mut qemu = Command::new(program);
    qemu.args(["-machine", machine, "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1536M"]);
    qemu.args(["-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio", "-kernel"]).arg(kernel.image());
    Ok(qemu)
}

/// What the guest's kernel calls its console.
pub(super) fn console_device() -> Result<&'static str> {
    match consts::ARCH {
        "x86_64" => Ok("ttyS0"),
        "aarch64" => Ok("ttyAMA0"),
        other => bail!("no guests on {other}"),
    }
}

/// What a console says; see `init.sh` for the lines that begin with `skep:`.
fn read(release: &str, console: &[u8], took: Duration) -> Run {
    let mut run = Run { release: release.to_owned(), tests: Vec::new(), programs: Vec::new(), took };
    for line in String::from_utf8_lossy(console).lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["skep:", "begin", test] => run.tests.push(((*test).to_owned(), Outcome::default())),
            ["skep:", "end", _, status] => {
                if let Some((_, outcome)) = run.tests.last_mut() {
                    outcome.success = *status == "0";
                }
            }
            ["program", name, instructions] => {
                run.programs.extend(instructions.parse().ok().map(|count| ((*name).to_owned(), count)));
            }
            _ => {
                if let Some((_, outcome)) = run.tests.last_mut() {
                    outcome.count(line.trim_end());
                }
            }
        }
    }
    run
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{TESTS, read};

    #[test]
    fn a_console_tells_tests_and_programs() {
        let console: String = TESTS
            .iter()
            .map(|test| format!("skep: begin {test}\r\nprogram connect4 123\r\ntest result: ok. 4 passed; 0 failed; 0 ignored\r\nskep: end {test} 0\r\n"))
            .collect();
        let run = read("6.1.0", console.as_bytes(), Duration::ZERO);
        assert!(run.passed());
        assert_eq!(run.tests[0].1.passed, 4);
        assert_eq!(run.programs[0], ("connect4".to_owned(), 123));
    }

    #[test]
    fn a_guest_that_hangs_has_not_passed() {
        assert!(!read("6.1.0", b"skep: begin kernel\n", Duration::ZERO).passed());
        assert!(!read("6.1.0", b"Kernel panic", Duration::ZERO).passed());
    }
}
