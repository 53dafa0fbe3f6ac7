//! The forwarder as a unit of a service manager: this test is the manager, in as much of sd_notify(3) and
//! sd_listen_fds(3) as a unit with `FileDescriptorStoreMax=` gets.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use dataplane::supervisor::Ensured;
use nix::cmsg_space;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;
use tests::wait_for;

use super::{Client, DEADLINE, DNS, Stage, has};

const UNIT: &str = include_str!("../../../dataplane/units/skepd-dns.service");

struct Manager {
    socket: UnixDatagram,
    /// What the unit gave into keeping.
    kept: Vec<OwnedFd>,
}

impl Manager {
    fn new(stage: &Stage) -> Result<Self> {
        let socket = UnixDatagram::bind(stage.directory.path().join("notify"))?;
        socket.set_read_timeout(Some(DEADLINE))?;
        Ok(Self { socket, kept: Vec::new() })
    }

    /// Starts the unit with what is kept, and waits until it says that it is ready.
    fn start(&mut self, stage: &Stage) -> Result<Child> {
        let mut script = format!("export NOTIFY_SOCKET={}/notify\n", stage.directory.path().display());
        for (place, fd) in self.kept.iter().enumerate() {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
            script += &format!("exec {}<&{}\n", 3 + place, fd.as_raw_fd());
        }
        if !self.kept.is_empty() {
            script += &format!("export LISTEN_PID=$$ LISTEN_FDS={}\n", self.kept.len());
        }
        script += "exec \"$@\"";
        let program = stage.program();
        // Not dash, which knows descriptors of one digit only.
        let mut unit = stage.host.command("bash");
        unit.env("CONFINED_BY", format!("setpriv --no-new-privs --bounding-set {}", capabilities()?));
        unit.args(["-c", &script, "unit"]).arg(program).args(["dns", "--node-name", "test", "--run-dir"]);
        unit.arg(stage.directory.path()).arg("--bpffs").arg(stage.bpffs.path());
        let unit = unit.stdout(Stdio::null()).spawn()?;
        while !self.hear()?.contains("READY=1") {}
        Ok(unit)
    }

    /// The next message; descriptors that come with it are kept.
    fn hear(&mut self) -> Result<String> {
        let mut text = [0; 256];
        let mut space = cmsg_space!([i32; 2]);
        let mut parts = [IoSliceMut::new(&mut text)];
        let message = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())
            .context("the unit says nothing")?;
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = part {
                // SAFETY: the kernel has just made these for this process.
                self.kept = fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
            }
        }
        let len = message.bytes;
        Ok(String::from_utf8_lossy(&text[..len]).into_owned())
    }
}

/// Those that the unit has, in setpriv(1)'s words, and the one with which it finds this test's bpffs, which has no place
/// in its own file system.
fn capabilities() -> Result<String> {
    let set = UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let set = set.context("the unit limits no capability")?;
    let added = set.split(' ').map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()));
    Ok("-all,+sys_ptrace".to_owned() + &added.collect::<String>())
}

/// What a unit's process is told to end by.
fn stop(mut unit: Child) -> Result<()> {
    kill(Pid::from_raw(unit.id().try_into()?), Signal::SIGTERM)?;
    ensure!(unit.wait()?.success(), "a forwarder that is told to stop does so");
    Ok(())
}

#[test]
fn what_is_asked_while_the_unit_starts_anew_waits_for_it() -> Result<()> {
    let stage = Stage::new()?;
    let mut manager = Manager::new(&stage)?;
    let first = manager.start(&stage)?;
    has(&stage.dig(Client::Open, "outside.example A")?, "11.1.0.1")?;
    ensure!(manager.kept.len() == 2, "two sockets are given into keeping, not {}", manager.kept.len());
    stop(first)?;
    let question = stage
        .client(Client::Open)
        .command("dig")
        .args(["+time=9", "+tries=1", "+short", &format!("@{DNS}"), "outside.example"])
        .stdout(Stdio::piped())
        .spawn()?;
    let waits = || {
        let sockets = stage.host.run(&format!("ss -Huna src {DNS}:53"))?;
        Ok(sockets.split_whitespace().nth(1).is_some_and(|queue| queue != "0").then_some(()))
    };
    wait_for("a question in the socket that nobody reads", DEADLINE, waits)?;
    let second = manager.start(&stage)?;
    let answer = String::from_utf8(question.wait_with_output()?.stdout)?;
    ensure!(answer.trim() == "11.1.0.1", "the question was lost: {answer:?}");
    has(&stage.dig(Client::Open, "+tcp outside.example A")?, "11.1.0.1")?;
    stop(second)
}

#[test]
fn a_daemon_leaves_the_units_forwarder_alone_and_starts_none_beside_it() -> Result<()> {
    let stage = Stage::new()?;
    let daemon = |starter: &str| {
        stage.supervise_with(&["--forwarder", starter], async |supervisor| Ok(supervisor.ensure().await?))
    };
    let none = daemon("unit");
    ensure!(none.is_err_and(|error| error.to_string().contains("systemctl start skepd-dns")), "the remedy is named");
    // One from before the unit was installed: the unit's takes its place.
    let old = daemon("daemon")?;
    ensure!(matches!(old, Ensured::Started { .. }), "{old:?}");
    let mut manager = Manager::new(&stage)?;
    let unit = manager.start(&stage)?;
    for starter in ["unit", "daemon"] {
        let ensured = daemon(starter)?;
        ensure!(ensured == Ensured::Adopted { pid: unit.id() }, "{starter}: {ensured:?}, not process {}", unit.id());
    }
    wait_for("the end of the old forwarder", DEADLINE, || {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", old.pid())).unwrap_or_default();
        // This test is its parent, and has not waited for it.
        Ok((state.is_empty() || state.contains(") Z ")).then_some(()))
    })?;
    has(&stage.dig(Client::Open, "outside.example A")?, "11.1.0.1")?;
    stop(unit)
}
