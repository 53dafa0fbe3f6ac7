//! A guest that is listened to while it runs.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ::tests::command;
use anyhow::{Context as _, Result, bail, ensure};

use crate::test::vm::guest::{console_device, qemu};
use crate::test::vm::kernel::Kernel;

/// What every line of the guest's that is for us begins with.
const OURS: &str = "skep: ";
/// The last word of a guest, also of one that fails.
const DONE: &str = "done";

/// What is peculiar to a boot.
#[derive(Default)]
pub(in crate::test::vm) struct Setting<'s> {
    /// For the kernel's command line.
    pub(in crate::test::vm) parameters: &'s str,
    pub(in crate::test::vm) network: Option<&'s Network>,
    /// By how much its clock is wrong, in seconds.
    pub(in crate::test::vm) ahead: i64,
}

/// A cable between two machines, and what goes through it.
pub(in crate::test::vm) struct Network {
    /// This end's socket, and the other's: it may be unplugged and plugged in again without the other's noticing.
    pub(in crate::test::vm) ends: [PathBuf; 2],
    /// Of this end's device.
    pub(in crate::test::vm) mac: &'static str,
    /// Where all that goes through is written to, as `tcpdump` would.
    pub(in crate::test::vm) capture: Option<PathBuf>,
}

impl Network {
    fn plug_in(&self, qemu: &mut Command) {
        let [own, other] = self.ends.each_ref().map(|path| path.display());
        qemu.args([
            "-netdev",
            &format!("dgram,id=lan,local.type=unix,local.path={own},remote.type=unix,remote.path={other}"),
        ]);
        qemu.args(["-device", &format!("virtio-net-pci,netdev=lan,mac={}", self.mac)]);
        if let Some(capture) = &self.capture {
            qemu.args(["-object", &format!("filter-dump,id=capture,netdev=lan,file={}", capture.display())]);
        }
    }
}

/// QEMU, and its console line by line.
pub(in crate::test::vm) struct Guest {
    qemu: Child,
    lines: Receiver<String>,
    console: String,
}

impl Guest {
    /// Boots with these disks; what the console says goes into a file as well.
    pub(super) fn boot(
        kernel: &Kernel,
        initramfs: &Path,
        disks: &[PathBuf],
        console: &Path,
        setting: &Setting<'_>,
    ) -> Result<Self> {
        let mut qemu = qemu(kernel)?;
        qemu.arg("-initrd").arg(initramfs);
        qemu.args([
            "-append",
            &format!(
                "console={} panic=-1 quiet mitigations=off apparmor=0 systemd.show_status=false {}",
                console_device()?,
                setting.parameters
            ),
        ]);
        for (number, disk) in disks.iter().enumerate() {
            // But for the first, several machines have the same.
            let readonly = if number == 0 { "off" } else { "on" };
            qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,readonly={readonly}", disk.display()));
        }
        if let Some(network) = setting.network {
            network.plug_in(&mut qemu);
        }
        if setting.ahead != 0 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
            let then = format!("@{}", now.strict_add_signed(setting.ahead));
            let then = command::run(Command::new("date").args(["--utc", "--date", &then, "+%Y-%m-%dT%H:%M:%S"]))?;
            qemu.args(["-rtc", &format!("base={}", then.trim())]);
        }
        let mut qemu = qemu
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("cannot start QEMU")?;
        let output = BufReader::new(qemu.stdout.take().context("piped")?);
        let mut log = File::create(console)?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                // A log that cannot be written is missed when somebody looks for it; the test goes on.
                drop(log.write_all(&line).and_then(|()| log.write_all(b"\n")));
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { qemu, lines, console: console.display().to_string() })
    }

    /// Its words, until it says `word`, or that it is done.
    pub(in crate::test::vm) fn until(&mut self, word: &str, deadline: Duration) -> Result<Vec<String>> {
        let end = Instant::now() + deadline;
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let Some((_, words)) = line.split_once(OURS) else { continue };
                    println!("  {words}");
                    said.push(words.to_owned());
                    if words.split(' ').next().is_some_and(|first| first == word || first == DONE) {
                        return Ok(said);
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("no {word:?} after {deadline:?}: see {}", self.console),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the guest ended without {word:?}: see {}{}", self.console, tail(&self.console))
                }
            }
        }
    }

    /// Waits until it has shut down; QEMU ends where the machine would start again.
    pub(in crate::test::vm) fn ended(&mut self, deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("not down after {deadline:?}: see {}", self.console),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let ended = self.qemu.wait()?;
        ensure!(ended.success(), "QEMU: {ended}: see {}", self.console);
        Ok(())
    }

    /// Where its console is written to.
    pub(in crate::test::vm) fn console(&self) -> &str {
        &self.console
    }

    /// Takes its power.
    pub(in crate::test::vm) fn kill(&mut self) -> Result<()> {
        self.qemu.kill()?;
        self.qemu.wait()?;
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.kill());
    }
}

fn tail(console: &str) -> String {
    let text = fs::read_to_string(console).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].iter().map(|line| format!("\n  | {line}")).collect()
}
