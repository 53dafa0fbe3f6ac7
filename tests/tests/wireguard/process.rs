//! The userspace device as a process: who starts and ends it, what it survives, what it may do.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use clap::Parser as _;
use dataplane::config::Args;
use dataplane::wireguard::{self, Change, Kind, Peer, Tunnel, Wanted};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::netns::Namespace;
use tests::wait_for;

use super::stage::{Node, kinds, make_so, mesh, program};
use super::{DEADLINE, Pings, stream};

#[test]
fn the_tunnel_outlives_its_daemon_and_is_adopted_by_the_next() -> Result<()> {
    for kind in kinds()? {
        let (underlay, nodes) = mesh(1, kind)?;
        let [a] = &nodes[..] else { unreachable!() };
        let b = Node::new(&underlay, 2, kind)?;
        a.make_so(&a.wanted(&[b.as_peer()?]))?;
        // A process that makes the tunnel of B, and is killed.
        let mut daemon = b.netns.command(&std::env::current_exe()?.display().to_string());
        daemon.args(["--exact", "process::a_daemon_that_is_killed", "--ignored", "--nocapture"]);
        daemon.env("DIRECTORY", b.directory.path()).env("PEER", a.key()?.to_string()).env("KIND", format!("{kind:?}"));
        let mut daemon = daemon.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(daemon.stdout.take().context("no output")?).lines();
        lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("MADE"))).context("it made none")??;
        b.netns.run("ip addr add 10.2.0.1/8 dev skep0")?;
        let pings = Pings::start(a, "10.2.0.1")?;
        let seen = b.see()?;
        daemon.kill()?;
        daemon.wait()?;
        stream(a, &b, 1 << 20)?;
        let again = b.with(async |tunnel| {
            tunnel.ensure().await?;
            tunnel.see().await?.context("it is gone")
        })?;
        ensure!(again.ifindex == seen.ifindex, "another device");
        ensure!(again.peers[&a.key()?].last_handshake == seen.peers[&a.key()?].last_handshake, "{again:?}, {seen:?}");
        let (sent, received) = pings.end()?;
        ensure!(sent - received <= 1, "{received} of {sent}");
    }
    Ok(())
}

/// Not a test: the process that another one kills.
#[test]
#[ignore = "the process that another test starts"]
fn a_daemon_that_is_killed() -> Result<()> {
    let directory = std::env::var("DIRECTORY")?;
    let kind = std::env::var("KIND")?.to_lowercase();
    let options =
        ["skepd", "--node-name", "test", "--tunnel", &kind, "--run-dir", &directory, "--state-dir", &directory];
    let config = Args::try_parse_from(options)?.options.resolve()?;
    let key = std::env::var("PEER")?.parse()?;
    let peer = Peer {
        key,
        endpoint: Some(([192, 0, 2, 1], 51820).into()),
        allowed: ["10.1.0.0/24".parse()?, "fd00:1::/64".parse()?].into(),
        keepalive: None,
        takes_over: None,
    };
    let wanted = Wanted { device: "skep0".to_owned(), port: 51820, mtu: 1420, peers: [(key, peer)].into() };
    let kind = if kind == "kernel" { Kind::Kernel } else { Kind::Userspace };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tunnel = Tunnel::new(&config)?.with_program(program()?);
        make_so(&tunnel, &wanted, kind).await
    })?;
    println!("MADE");
    // Until it is killed.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

#[test]
fn a_daemon_of_another_build_leaves_the_tunnel_running() -> Result<()> {
    let (_underlay, nodes) = mesh(1, Kind::Userspace)?;
    let [a] = &nodes[..] else { unreachable!() };
    let before = a.process()?;
    let other = a.directory.path().join("other-build");
    fs::write(&other, [fs::read(program()?)?, b"other".to_vec()].concat())?;
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755))?;
    let of_other_build = other.clone();
    a.with(async move |tunnel| Ok(tunnel.with_program(of_other_build).ensure().await?))?;
    ensure!(a.process()? == before, "it was replaced, and its sessions with it");
    // Until it is ended on purpose: then the next one is of that build.
    kill(Pid::from_raw(before.try_into()?), Signal::SIGTERM)?;
    wait_for("the device's end", DEADLINE, || Ok(a.netns.run("ip link show skep0").is_err().then_some(())))?;
    a.with(async move |tunnel| Ok(tunnel.with_program(other).ensure().await?))?;
    let runs = fs::read_link(format!("/proc/{}/exe", a.process()?))?;
    ensure!(runs.ends_with("other-build"), "{}", runs.display());
    Ok(())
}

#[test]
fn a_tunnel_that_is_killed_is_made_anew_with_everything() -> Result<()> {
    let (_underlay, nodes) = mesh(2, Kind::Userspace)?;
    let [a, b] = &nodes[..] else { unreachable!() };
    a.reaches(2, 1420)?;
    let before = b.process()?;
    kill(Pid::from_raw(before.try_into()?), Signal::SIGKILL)?;
    wait_for("the device's end", DEADLINE, || Ok(b.netns.run("ip link show skep0").is_err().then_some(())))?;
    ensure!(b.with(async |tunnel| Ok(tunnel.see().await?.is_none()))?, "it is seen all the same");
    b.make_so(&b.wanted(&[a.as_peer()?]))?;
    ensure!(b.process()? != before);
    // A still has a session with the process that is gone.
    a.netns.run("ping -n -c 1 -i 0.05 -w 3 10.2.0.1")?;
    b.reaches(1, 1420)?;
    stream(a, b, 1 << 20)
}

/// What the device answers to a request.
fn ask(socket: &Path, request: &str) -> Result<String> {
    let mut client = UnixStream::connect(socket)?;
    client.write_all(request.as_bytes())?;
    client.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn nobody_but_root_may_tell_it_and_it_may_do_nothing_but_that() -> Result<()> {
    let (_underlay, nodes) = mesh(2, Kind::Userspace)?;
    let [a, b] = &nodes[..] else { unreachable!() };
    a.reaches(2, 1420)?;
    let (pid, directory) = (a.process()?, a.directory.path());
    let socket = directory.join("tunnel.sock");
    ensure!(fs::metadata(&socket)?.permissions().mode() & 0o777 == 0o600);
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "socat", "-", "UNIX-CONNECT:"]);
    let nobody = nobody.arg(&socket).stdin(Stdio::null()).output()?;
    ensure!(!nobody.status.success(), "{nobody:?}");

    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    // CAP_NET_BIND_SERVICE is bit 10.
    for wanted in
        ["CapPrm:\t0000000000000400", "CapEff:\t0000000000000400", "CapInh:\t0000000000000000", "NoNewPrivs:\t1"]
    {
        ensure!(status.contains(wanted), "{wanted} is not in\n{status}");
    }
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        ensure!(status.contains("CapEff:\t0000000000000400"), "{status}");
    }

    // The private key, in every form that it has.
    let text = fs::read_to_string(directory.join("wireguard.key"))?;
    let octets = base64::engine::general_purpose::STANDARD.decode(text.trim())?;
    let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let answer = ask(&socket, "get=1\n\n")?;
    ensure!(answer.contains("listen_port=51820") && answer.contains("own_public_key="), "{answer}");
    let places = [
        fs::read(format!("/proc/{pid}/cmdline"))?,
        fs::read(format!("/proc/{pid}/environ"))?,
        a.log().into_bytes(),
        answer.into_bytes(),
    ];
    for place in &places {
        let place = String::from_utf8_lossy(place);
        ensure!(!place.contains(text.trim()) && !place.contains(&hex), "the private key is in {place}");
    }

    // Whoever says nothing, or nonsense, or the same peer twice, holds nobody up.
    let silent = UnixStream::connect(&socket)?;
    stream(a, b, 1 << 20)?;
    drop(silent);
    for (request, errno) in [("get=2\n\n", 22), ("set=1\nlisten_port=70000\n\n", 22), ("set=1\nlisten_port=0x\n\n", 22)]
    {
        let answer = ask(&socket, request)?;
        ensure!(answer == format!("errno={errno}\n\n"), "{request:?}: {answer:?}");
    }
    a.reaches(2, 1420)
}

#[test]
fn two_daemons_have_two_devices_side_by_side() -> Result<()> {
    let netns = Namespace::new()?;
    let (one, two) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let config = |directory: &tempfile::TempDir, device: &str| -> Result<_> {
        let path = directory.path().display().to_string();
        let options = ["--tunnel", "userspace", "--tunnel-device", device, "--run-dir", &path, "--state-dir", &path];
        let options = ["skepd", "--node-name", "test"].into_iter().chain(options);
        Ok(Args::try_parse_from(options)?.options.resolve()?)
    };
    let configs = [config(&one, "skep0")?, config(&two, "skep1")?];
    let clash = config(&two, "skep0")?;
    netns.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            for config in &configs {
                let tunnel = Tunnel::new(config)?.with_program(program()?);
                tunnel.ensure().await?;
                tunnel.apply(&Change::SetPrivateKey).await?;
                let seen = tunnel.see().await?.context("no device")?;
                ensure!(seen.key == Some(tunnel.keys().present), "{seen:?}");
            }
            // A name that is taken is nobody's to take over.
            wireguard::remove(&configs[1]).await?;
            let tunnel = Tunnel::new(&clash)?.with_program(program()?);
            let refused = tunnel.ensure().await.map(|kind| format!("{kind:?}"));
            ensure!(refused.is_err(), "{refused:?}");
            let first = Tunnel::new(&configs[0])?.with_program(program()?);
            ensure!(
                first.see().await?.is_some_and(|seen| seen.key == Some(first.keys().present)),
                "the first one's is gone"
            );
            for config in &configs {
                wireguard::remove(config).await?;
            }
            ensure!(first.see().await?.is_none());
            Ok(())
        })
    })?;
    let log = fs::read_to_string(two.path().join("tunnel.log")).unwrap_or_default();
    ensure!(!log.contains("panicked"), "{log}");
    Ok(())
}

#[test]
fn a_tunnel_of_another_name_is_taken_away_and_nobody_elses() -> Result<()> {
    for kind in kinds()? {
        let (_underlay, nodes) = mesh(2, kind)?;
        let [a, b] = &nodes[..] else { unreachable!() };
        a.reaches(2, 1420)?;
        let there = |device: &str| a.netns.run(&format!("ip link show {device}")).is_ok();
        if kind == Kind::Kernel {
            // With a key of its own, and one that was told nothing.
            let key = a.directory.path().join("foreign.key");
            fs::write(&key, fs::read(b.directory.path().join("wireguard.key"))?)?;
            a.netns.run("ip link add foreign0 type wireguard")?;
            a.netns.run(&format!("wg set foreign0 private-key {}", key.display()))?;
            a.netns.run("ip link add foreign1 type wireguard")?;
        }
        a.with(async |tunnel| Ok(tunnel.remove_others().await?))?;
        ensure!(there("skep0"), "its own is gone");
        let config = wireguard_config(a, "skep7")?;
        a.netns.enter(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { Ok(Tunnel::new(&config)?.with_program(program()?).remove_others().await?) })
        })?;
        wait_for("the former device to be gone", DEADLINE, || Ok((!there("skep0")).then_some(())))?;
        ensure!(kind == Kind::Userspace || there("foreign0") && there("foreign1"), "another one's is gone");
        b.see()?;
    }
    Ok(())
}

/// The same node's, with another name of the device.
fn wireguard_config(node: &Node, device: &str) -> Result<dataplane::config::Config> {
    Ok(dataplane::config::Config { tunnel_device: device.to_owned(), ..node.config()? })
}
