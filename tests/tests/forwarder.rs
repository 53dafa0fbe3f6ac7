//! The DNS forwarder as its own process: real questions by dig, a real resolver behind it, and its replacement under
//! load. The kernel programs are not attached here, so that every question gets to the forwarder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use dataplane::bpf::{self, MapSizes, Maps, Pins, Programs};
use dataplane::config::{Args, Config, marks};
use dataplane::forwarder;
use dataplane::supervisor::{Ensured, Supervisor};
use dataplane_ebpf::abi::{Addr, Device, Identity, NAME_MAX, Name, NameKey, NodeConfig, Pool, Ptr, PtrKey, flags};
use tests::bpffs::Bpffs;
use tests::cgroup::Cgroup;
use tests::netns::Namespace;
use tests::wait_for;

#[path = "forwarder/unit.rs"]
mod unit;

const DNS: &str = "10.224.0.53";
const VIP: &str = "10.224.0.9";
const VIP6: &str = "fd53:6b65:7001::9";
const UPSTREAM: &str = "11.0.0.53";
const ENVIRONMENT: u32 = 7;
const DEADLINE: Duration = Duration::from_secs(10);

/// A client, by the last octet of its address.
#[derive(Clone, Copy)]
enum Client {
    /// A replica that may reach the internet.
    Open = 5,
    /// A replica that may not.
    Closed = 6,
    /// Nobody's.
    Stranger = 7,
}

/// A host with clients and a resolver, all in network namespaces of their own, and the maps.
struct Stage {
    host: Namespace,
    clients: [Namespace; 3],
    resolver: Resolver,
    directory: tempfile::TempDir,
    bpffs: Bpffs,
    _cgroup: Cgroup,
}

/// dnsmasq, which says what it was asked for.
struct Resolver {
    netns: Namespace,
    process: Option<Child>,
    log: PathBuf,
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _gone = self.stop();
    }
}

impl Resolver {
    fn start(&mut self) -> Result<()> {
        let long = vec!["0123456789".repeat(20); 10].join(",");
        let child = self
            .netns
            .command("dnsmasq")
            .args(["--keep-in-foreground", "--no-hosts", "--no-resolv", "--conf-file=/dev/null", "--log-queries"])
            .args(["--local-ttl=60", "--edns-packet-max=1232", "--pid-file=", "--user=root", "--bind-interfaces"])
            .arg(format!("--listen-address={UPSTREAM}"))
            .arg(format!("--log-facility={}", self.log.display()))
            .arg("--host-record=outside.example,11.1.0.1,2a00:5ce9:1::1")
            .arg("--cname=alias.outside.example,outside.example")
            .arg(format!("--txt-record=long.example,{long}"))
            .arg("--local=/example/")
            .arg("--local=/internal/")
            .stdin(Stdio::null())
            .spawn()
            .context("cannot run dnsmasq: run `cargo xtask setup`")?;
        self.process = Some(child);
        wait_for("dnsmasq", DEADLINE, || {
            Ok(self.netns.run(&format!("dig +time=1 +tries=1 @{UPSTREAM} outside.example")).ok())
        })?;
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// How often it was asked for a name.
    fn asked(&self, name: &str) -> Result<usize> {
        let log = fs::read_to_string(&self.log)?;
        Ok(log.lines().filter(|line| line.contains("query[") && line.contains(&format!("] {name} "))).count())
    }
}

impl Stage {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let host = Namespace::new()?;
        host.run("ip link set lo up")?;
        host.run(&format!("ip addr add {DNS}/32 dev lo"))?;
        let clients = [Namespace::new()?, Namespace::new()?, Namespace::new()?];
        for (client, netns) in [Client::Open, Client::Closed, Client::Stranger].into_iter().zip(&clients) {
            plug(&host, netns, &format!("client{}", client as u8), &format!("10.208.0.{}", client as u8))?;
            netns.run(&format!("ip route add {DNS} dev eth0"))?;
        }
        // What does not carry skepd's mark does not get into a container.
        host.run("nft add table inet marks")?;
        host.run("nft add chain inet marks out { type filter hook output priority 0 ; }")?;
        host.run("nft add rule inet marks out oifname client* meta mark & 0x0f000000 != 0x06000000 drop")?;

        let netns = Namespace::new()?;
        plug(&host, &netns, "uplink", UPSTREAM)?;
        netns.run("ip route add 11.0.0.1 dev eth0")?;
        host.run("ip addr add 11.0.0.1/32 dev uplink")?;
        let mut resolver = Resolver { netns, process: None, log: directory.path().join("dnsmasq.log") };
        resolver.start()?;

        let bpffs = Bpffs::new()?;
        let cgroup = Cgroup::new(&bpf::find_cgroup2_root()?)?;
        let (_, maps) = Programs::load_or_adopt(&Pins::new(&bpffs.path()), &MapSizes::default(), cgroup.path())?;
        fill(&maps, &host)?;
        let stage = Self { host, clients, resolver, directory, bpffs, _cgroup: cgroup };
        stage.set_upstream(UPSTREAM)?;
        stage.write_program()?;
        Ok(stage)
    }

    /// What the host's resolv.conf says, for the forwarder alone.
    fn set_upstream(&self, address: &str) -> Result<()> {
        Ok(fs::write(self.directory.path().join("resolv.conf"), format!("nameserver {address}\n"))?)
    }

    /// skepd with a resolv.conf of its own.
    fn write_program(&self) -> Result<()> {
        let script = format!(
            "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {}/resolv.conf /etc/resolv.conf && exec $CONFINED_BY {} \"$@\"' skepd \"$@\"\n",
            self.directory.path().display(),
            tests::paths::program("skepd")?.display()
        );
        fs::write(self.program(), script)?;
        Ok(fs::set_permissions(self.program(), fs::Permissions::from_mode(0o755))?)
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join("skepd.sh")
    }

    /// What a daemon with these options would do about its forwarder.
    fn supervise<T: Send>(&self, log: &str, work: impl AsyncFnOnce(Supervisor) -> Result<T> + Send) -> Result<T> {
        self.supervise_with(&["--log", log], work)
    }

    fn supervise_with<T: Send>(
        &self,
        options: &[&str],
        work: impl AsyncFnOnce(Supervisor) -> Result<T> + Send,
    ) -> Result<T> {
        let arguments = ["skepd", "--node-name", "test"].iter().chain(options).map(Into::into);
        let directories = [("--run-dir", self.directory.path()), ("--bpffs", &self.bpffs.path())];
        let directories = directories.into_iter().flat_map(|(flag, path)| [flag.into(), path.as_os_str().to_owned()]);
        let config: Config = Args::try_parse_from(arguments.chain(directories))?.options.resolve()?;
        let supervisor = forwarder::supervisor(&config).with_program(self.program());
        self.host.enter(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work(supervisor))
        })
    }

    fn start(&self) -> Result<Ensured> {
        let ensured = self.supervise("debug", async |supervisor| Ok(supervisor.ensure().await?));
        ensured.with_context(|| fs::read_to_string(self.directory.path().join("dns.log")).unwrap_or_default())
    }

    fn client(&self, client: Client) -> &Namespace {
        &self.clients[client as usize - Client::Open as usize]
    }

    /// What dig prints for these words, asked by a client.
    fn dig(&self, client: Client, words: &str) -> Result<String> {
        self.client(client).run(&format!("dig +time=8 +tries=1 @{DNS} {words}"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _stopped = self.supervise("debug", async |supervisor| Ok(supervisor.stop().await?));
    }
}

/// A pair of devices: `name` on the host, eth0 with `address` in the other namespace.
fn plug(host: &Namespace, other: &Namespace, name: &str, address: &str) -> Result<()> {
    let other_path = other.path();
    host.run(&format!("ip link add {name} type veth peer name eth0 netns {}", other_path.display()))?;
    host.run(&format!("ip link set {name} up"))?;
    host.run(&format!("ip route add {address}/32 dev {name}"))?;
    other.run("ip link set lo up")?;
    other.run(&format!("ip addr add {address}/32 dev eth0"))?;
    other.run("ip link set eth0 up")?;
    Ok(())
}

fn fill(maps: &Maps, host: &Namespace) -> Result<()> {
    let pool = |text: &str, length| -> Result<Pool> { Ok(Pool::new(text.parse()?, length)) };
    maps.set_node(&NodeConfig {
        container_pools: [pool("10.208.0.0", 12)?, pool("fd53:6b65:7000::", 48)?],
        vip_pools: [pool("10.224.0.0", 16)?, pool("fd53:6b65:7001::", 64)?],
        dns: address(DNS)?,
        host_mark: marks::HOST,
        pass_mark: marks::PASS,
        mark_mask: marks::MASK,
        ..NodeConfig::default()
    })?;
    for (client, egress) in [(Client::Open, flags::EGRESS), (Client::Closed, 0)] {
        let link = host.run(&format!("ip -o link show client{}", client as u8))?;
        let ifindex = link.split(':').next().context("no ifindex")?.trim().parse()?;
        let device = Device {
            networks: 1,
            identity: Identity { env: ENVIRONMENT, service: client as u32 },
            address4: address(&format!("10.208.0.{}", client as u8))?.v4_word(),
            flags: egress,
            ..Device::default()
        };
        maps.devices.put(&ifindex, device)?;
    }
    let name = Name { networks: 1, vip4: address(VIP)?.v4_word(), vip6: address(VIP6)?, ..Name::default() };
    for text in ["api", "api.internal", "api.production.shop.internal"] {
        maps.names.put(&NameKey { env: ENVIRONMENT, name: wire(text).0 }, name)?;
    }
    let (wire, len) = wire("api.production.shop.internal");
    let ptr = Ptr { networks: 1, name: wire, len, pad: 0, seal: 0 };
    Ok(maps.ptrs.put(&PtrKey { env: ENVIRONMENT, addr: address(VIP)? }, ptr)?)
}

fn address(text: &str) -> Result<Addr> {
    Ok(text.parse::<std::net::IpAddr>()?.into())
}

/// A name in wire format, and its length.
fn wire(text: &str) -> ([u8; NAME_MAX], u32) {
    let mut octets: Vec<u8> =
        text.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    octets.push(0);
    let len = octets.len() as u32;
    octets.resize(NAME_MAX, 0);
    (octets.try_into().unwrap_or([0; NAME_MAX]), len)
}

fn has(answer: &str, what: &str) -> Result<()> {
    ensure!(answer.contains(what), "{what:?} is not in\n{answer}");
    Ok(())
}

#[test]
fn names_of_the_outside_are_forwarded_and_remembered() -> Result<()> {
    let stage = Stage::new()?;
    stage.start()?;
    for _ in 0..3 {
        let answer = stage.dig(Client::Open, "Outside.Example A")?;
        has(&answer, "status: NOERROR")?;
        has(&answer, "11.1.0.1")?;
        has(&answer, "Outside.Example.")?;
        has(&answer, "flags: qr rd ra;")?;
    }
    ensure!(stage.resolver.asked("outside.example")? == 1 + 1, "the second and third answer come from memory");
    has(&stage.dig(Client::Open, "outside.example AAAA")?, "2a00:5ce9:1::1")?;
    has(&stage.dig(Client::Open, "outside.example MX")?, "status: NOERROR")?;
    let alias = stage.dig(Client::Open, "alias.outside.example A")?;
    has(&alias, "CNAME")?;
    has(&alias, "11.1.0.1")?;
    has(&stage.dig(Client::Open, "nobody.example A")?, "status: NXDOMAIN")?;
    has(&stage.dig(Client::Open, "+noedns outside.example A")?, "11.1.0.1")?;
    has(&stage.dig(Client::Open, "+edns=1 +noednsneg outside.example A")?, "status: BADVERS")?;
    has(&stage.dig(Client::Open, "outside.example AXFR")?, "Transfer failed")
}

#[test]
fn an_answer_that_is_too_long_is_fetched_over_tcp() -> Result<()> {
    let stage = Stage::new()?;
    stage.start()?;
    let short = stage.dig(Client::Open, "+ignore long.example TXT")?;
    has(&short, "flags: qr tc rd ra;")?;
    has(&short, "ANSWER: 0")?;
    let whole = stage.dig(Client::Open, "long.example TXT")?;
    has(&whole, "Truncated, retrying in TCP mode")?;
    ensure!(whole.matches("0123456789").count() == 200, "{whole}");
    has(&stage.dig(Client::Open, "+tcp outside.example A")?, "11.1.0.1")
}

#[test]
fn names_of_the_zone_are_answered_here_and_never_forwarded() -> Result<()> {
    let stage = Stage::new()?;
    stage.start()?;
    for transport in ["+notcp", "+tcp"] {
        for client in [Client::Open, Client::Closed] {
            let answer = stage.dig(client, &format!("{transport} API.internal A"))?;
            has(&answer, VIP)?;
            has(&answer, "flags: qr aa rd")?;
            has(&stage.dig(client, &format!("{transport} api AAAA"))?, VIP6)?;
            has(&stage.dig(client, &format!("{transport} -x {VIP}"))?, "api.production.shop.internal.")?;
            has(&stage.dig(client, &format!("{transport} -x 10.208.9.9"))?, "status: NXDOMAIN")?;
            has(&stage.dig(client, &format!("{transport} nobody.internal A"))?, "status: NXDOMAIN")?;
            has(&stage.dig(client, &format!("{transport} single A"))?, "status: NXDOMAIN")?;
            has(&stage.dig(client, &format!("{transport} api TXT"))?, "status: NOERROR")?;
        }
    }
    for name in ["api", "API.internal", "nobody.internal", "single", "9.9.208.10.in-addr.arpa"] {
        ensure!(stage.resolver.asked(name)? == 0, "{name} left the machine");
    }
    Ok(())
}

#[test]
fn resolving_is_an_egress_permission_and_strangers_get_nothing() -> Result<()> {
    let stage = Stage::new()?;
    stage.start()?;
    for transport in ["+notcp", "+tcp"] {
        has(&stage.dig(Client::Closed, &format!("{transport} outside.example A"))?, "status: NXDOMAIN")?;
    }
    ensure!(stage.resolver.asked("outside.example")? == 1, "only this test itself asked");
    let stranger = stage.client(Client::Stranger);
    for words in ["+notcp api.internal", "+tcp api.internal", "+notcp outside.example"] {
        let refused = stranger.run(&format!("dig +time=1 +tries=1 @{DNS} {words}"));
        ensure!(refused.is_err(), "a stranger got an answer: {refused:?}");
    }
    Ok(())
}

#[test]
fn without_a_name_server_the_client_learns_it_in_time_and_a_new_one_is_used_at_once() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.start()?;
    stage.resolver.stop()?;
    has(&stage.dig(Client::Open, "outside.example A")?, "status: SERVFAIL")?;
    stage.set_upstream("11.0.0.99")?;
    // Nobody has that address: silence instead of an ICMP error.
    has(&stage.dig(Client::Open, "outside.example A")?, "status: SERVFAIL")?;
    stage.resolver.start()?;
    stage.set_upstream(UPSTREAM)?;
    has(&stage.dig(Client::Open, "outside.example A")?, "11.1.0.1")
}

#[test]
fn a_forwarder_is_adopted_and_replaced_without_losing_a_question() -> Result<()> {
    let stage = Stage::new()?;
    let first = stage.start()?;
    ensure!(matches!(first, Ensured::Started { .. }), "{first:?}");
    let again = stage.start()?;
    ensure!(again == Ensured::Adopted { pid: first.pid() }, "{again:?}");
    let asking = stage
        .client(Client::Open)
        .command("sh")
        .args([
            "-c",
            &format!("for i in $(seq 200); do dig +time=5 +tries=1 +short @{DNS} outside.example || echo lost; done"),
        ])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut pids = vec![first.pid()];
    for log in ["info", "warn", "debug"] {
        let replaced = stage.supervise(log, async |supervisor| Ok(supervisor.ensure().await?))?;
        ensure!(matches!(replaced, Ensured::Replaced { .. }), "{replaced:?}");
        ensure!(!pids.contains(&replaced.pid()), "a new process");
        pids.push(replaced.pid());
    }
    let answers = String::from_utf8(asking.wait_with_output()?.stdout)?;
    ensure!(answers.lines().filter(|line| *line == "11.1.0.1").count() == 200, "{answers}");
    stage.supervise("debug", async |supervisor| Ok(supervisor.stop().await?))?;
    for pid in pids {
        // The test started them; a zombie is one that it has not waited for.
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        ensure!(state.is_empty() || state.contains(") Z "), "process {pid} still runs: {state}");
    }
    let left: Vec<_> = fs::read_dir(stage.directory.path())?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(!left.iter().any(|name| name.to_string_lossy().starts_with("dns-")), "{left:?}");
    Ok(())
}

#[test]
fn a_forwarder_that_cannot_come_up_leaves_the_old_one_alone() -> Result<()> {
    let stage = Stage::new()?;
    stage.start()?;
    fs::write(stage.program(), "#!/bin/sh\nexit 1\n")?;
    let failed = stage.supervise("debug", async |supervisor| Ok(supervisor.ensure().await?));
    ensure!(failed.is_err_and(|error| error.to_string().contains("dns.log")), "the log is named");
    has(&stage.dig(Client::Open, "outside.example A")?, "11.1.0.1")
}
