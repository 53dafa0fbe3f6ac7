//! The fixtures themselves: they work, and leave nothing behind.

use std::{
    env,
    io::{BufRead as _, BufReader},
    os::unix::fs::MetadataExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
use tests::{Lan, Machine, Node, left_by, wait_for};

fn is_gone(pid: Pid) -> bool {
    kill(pid, None) == Err(Errno::ESRCH)
}

fn runs(command_line: &str) -> Result<bool> {
    let pgrep = Command::new("pgrep").args(["--full", "--exact", command_line]).stdout(Stdio::null()).status()?;
    Ok(pgrep.success())
}

#[test]
fn a_node_has_docker_and_the_internet_of_its_lan() -> Result<()> {
    let node = Node::builder().docker_only()?;
    node.docker(&["version"])?;
    node.run(&["ping", "-c1", "-W2", Lan::OUTSIDE4])?;
    node.run(&["ping", "-c1", "-W2", Lan::OUTSIDE6])?;
    assert_eq!(node.run(&["dig", "+short", Lan::OUTSIDE])?, Lan::OUTSIDE4);
    let alias = node.run(&["dig", "+short", "AAAA", "alias.outside.example"])?;
    assert_eq!(alias, format!("{}.\n{}", Lan::OUTSIDE, Lan::OUTSIDE6));
    assert!(node.run(&["dig", "nowhere.example"])?.contains("NXDOMAIN"));
    assert!(node.run(&["dig", "+ignore", "TXT", "big.outside.example"])?.contains("flags: qr aa tc"));
    assert!(node.lan().dns_queries()?.contains(&Lan::OUTSIDE.to_owned()));
    for address in Lan::DENIED {
        node.run(&["ping", "-c1", "-W2", address]).context("a denied address must be there to be denied")?;
    }
    Ok(())
}

#[test]
fn two_nodes_on_one_lan_reach_each_other_and_share_nothing() -> Result<()> {
    let lan = Arc::new(Lan::new()?);
    let (one, two) = (Node::builder().lan(&lan).docker_only()?, Node::builder().lan(&lan).docker_only()?);
    one.run(&["ping", "-c1", "-W2", two.address4()])?;
    one.run(&["ping", "-c1", "-W2", two.address6()])?;
    one.docker(&["volume", "create", "mine"])?;
    assert!(!two.docker(&["volume", "ls"])?.contains("mine"));
    let netns = |machine: &Machine| -> Result<u64> { Ok(machine.netns()?.path().metadata()?.ino()) };
    assert_ne!(netns(one.machine())?, netns(two.machine())?);
    Ok(())
}

#[test]
fn a_dockerd_that_was_killed_starts_again() -> Result<()> {
    let node = Node::builder().docker_only()?;
    node.stop_docker(nix::sys::signal::Signal::SIGKILL)?;
    assert!(node.docker(&["version"]).is_err());
    node.start_docker()?;
    node.docker(&["version"])?;
    Ok(())
}

#[test]
fn a_panic_leaves_nothing_behind() -> Result<()> {
    let escapee = format!("sleep 98765.{}", std::process::id());
    let mut machine = None;
    let body = AssertUnwindSafe(|| -> Result<()> {
        let node = Node::builder().docker_only()?;
        machine = Some((node.machine().name().to_owned(), node.machine().pid()));
        // A process that has left its session and its parent, as the DNS forwarder does.
        node.run(&["sh", "-c", &format!("setsid sh -c '{escapee} >/dev/null 2>&1 &'")])?;
        assert!(runs(&escapee)?, "the test needs a process that runs");
        panic!("as a failed test does");
    });
    assert!(catch_unwind(body).is_err());
    let (name, pid) = machine.context("no machine was made")?;
    assert!(is_gone(pid), "PID 1 of the machine");
    assert!(!runs(&escapee)?, "a process without a session");
    assert_eq!(left_by(&name)?, "");
    Ok(())
}

#[test]
fn a_killed_test_leaves_nothing_behind() -> Result<()> {
    const CHILD: &str = "SKEP_TEST_CHILD";
    if env::var_os(CHILD).is_some() {
        let node = Node::builder().docker_only()?;
        println!("machine {}", node.machine().name());
        loop {
            thread::park();
        }
    }
    let mut child = Command::new(env::current_exe()?)
        .args(["--exact", "a_killed_test_leaves_nothing_behind", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(child.stdout.take().context("piped")?).lines();
    let named =
        lines.map_while(Result::ok).find_map(|line| line.split_once("machine ").map(|(_, name)| name.to_owned()));
    let name = named.context("the child made no machine")?;
    assert_ne!(left_by(&name)?, "", "the test needs something to look for");
    child.kill()?;
    child.wait()?;
    wait_for("nothing left", Duration::from_secs(20), || {
        let left = left_by(&name)?;
        if left.is_empty() { Ok(Some(())) } else { bail!("{left}") }
    })
}
