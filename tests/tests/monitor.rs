//! `skepctl monitor`: what the programs let through and drop is told as it happens, to everybody who follows.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, anyhow, ensure};
use dataplane::bpf::{self, Maps, Pins};
use dataplane::clock::monotonic;
use dataplane_ebpf::abi::Reason;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::images::Image;
use tests::load::Place;
use tests::{Container, Node, Process, wait_for};

const COMPOSE: &str = "
services:
  web: {image: 'busybox:latest', command: [sleep, inf]}
  db: {image: 'busybox:latest', command: [sleep, inf]}
";
/// How long an event may take on a busy computer.
const PATIENCE: Duration = Duration::from_secs(20);
/// More than the ring holds.
const OVERFLOW: usize = 6_000;
/// A destination that nobody ever has: a drop that marks the end of a test's own ones.
const NOBODY: &str = "10.208.255.254";

/// One node, which a test has to itself for as long as it holds the lock: what one does, others would hear.
static NODE: LazyLock<Result<Mutex<Node>, String>> =
    LazyLock::new(|| start().map(Mutex::new).map_err(|error| format!("{error:#}")));

fn start() -> Result<Node> {
    let node = Node::start()?;
    node.load(&[Image::Busybox])?;
    for (project, environment) in [("shop", "production"), ("shop", "staging"), ("blog", "production")] {
        node.up(project, environment, COMPOSE)?;
    }
    Ok(node)
}

fn node() -> Result<MutexGuard<'static, Node>> {
    let node = NODE.as_ref().map_err(|error| anyhow!("the node: {error}"))?;
    Ok(node.lock().unwrap_or_else(PoisonError::into_inner))
}

fn web(node: &Node) -> Result<Container<'_>> {
    node.replica("shop", "production", "web", 1)
}

fn db(node: &Node) -> Result<Container<'_>> {
    node.replica("shop", "production", "db", 1)
}

/// Somebody who follows.
struct Follower {
    process: Process,
}

impl Follower {
    /// `skepctl monitor <arguments>`, in a state to hear everything that happens from now on.
    fn start(node: &Node, name: &str, arguments: &[&str]) -> Result<Self> {
        let line = node.skepctl_line(&[&["monitor"], arguments].concat())?;
        let mut process = node.machine().spawn(&format!("monitor-{name}"), &line)?;
        wait_for("a monitor that follows", PATIENCE, || {
            process.must_be_running()?;
            Ok(process.log()?.contains("Following from now on").then_some(()))
        })?;
        Ok(Self { process })
    }

    fn json(node: &Node, name: &str, arguments: &[&str]) -> Result<Self> {
        Self::start(node, name, &[&["-o", "json"], arguments].concat())
    }

    /// Every line so far, those that are still being written left out.
    fn lines(&self) -> Result<Vec<String>> {
        let log = self.process.log()?;
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        Ok(whole.lines().map(str::to_owned).collect())
    }

    fn events(&self) -> Result<Vec<Value>> {
        let lines = self.lines()?.into_iter().filter(|line| line.starts_with('{'));
        lines.map(|line| serde_json::from_str(&line).context(line)).collect()
    }

    /// The first event that is so, waited for.
    fn event(&self, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
        let found = wait_for(what, PATIENCE, || Ok(self.events()?.into_iter().find(&is)));
        found.with_context(|| {
            self.process.log().unwrap_or_default().lines().rev().take(20).collect::<Vec<_>>().join("\n")
        })
    }

    /// Destination ports of everything that was heard up to the event with this one.
    fn ports_up_to(&self, port: u16) -> Result<Vec<u64>> {
        self.event(&format!("the event of port {port}"), |event| event["destination_port"] == port)?;
        let ports = self.events()?.into_iter().filter_map(|event| event["destination_port"].as_u64());
        // Without a port: what the host's and the containers' own stacks send by themselves.
        let mut ports: Vec<_> = ports.filter(|port| *port != 0).collect();
        let end = ports.iter().position(|found| *found == u64::from(port)).context("it was just there")?;
        ports.truncate(end + 1);
        Ok(ports)
    }

    /// Waits for the last one of these ports; it has heard of exactly these until then.
    fn hears(&self, ports: &[u16]) -> Result<()> {
        let found = self.ports_up_to(*ports.last().context("no port")?)?;
        let first = &found[..found.len().min(20)];
        let expected = ports.iter().copied().map(u64::from);
        ensure!(expected.eq(found.iter().copied()), "{} ports, {first:?} …, instead of {ports:?}", found.len());
        Ok(())
    }

    /// Ctrl-C, which is an ordinary end.
    fn end(mut self) -> Result<()> {
        self.process.signal(Signal::SIGINT)?;
        let status = self.process.wait(PATIENCE)?;
        ensure!(status.success(), "Ctrl-C: {status}\n{}", self.process.log()?);
        Ok(())
    }
}

/// Whether the event is of the kind, and about this port at its destination.
fn is(kind: &'static str, port: u16) -> impl Fn(&Value) -> bool {
    move |event| event["event"] == kind && event["destination_port"] == port
}

/// Connects a datagram socket of a container to an address, again and again; says how often it was let.
fn connect(from: &Container<'_>, to: &str, ports: impl IntoIterator<Item = u16> + Send) -> Result<usize> {
    let to: IpAddr = to.parse()?;
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    from.netns()?.enter(|| {
        let socket = UdpSocket::bind(any)?;
        Ok(ports.into_iter().filter(|port| socket.connect((to, *port)).is_ok()).count())
    })
}

#[test]
fn connects_and_drops_are_told_with_names_to_every_follower() -> Result<()> {
    let node = node()?;
    let (web, db) = (web(&node)?, db(&node)?);
    let elsewhere = node.replica("shop", "staging", "db", 1)?;
    let followers = [Follower::json(&node, "first", &[])?, Follower::json(&node, "second", &[])?];
    let table = Follower::start(&node, "table", &[])?;

    // Nobody listens there: a backend is chosen all the same.
    web.exec_output(&["nc", "-w", "2", db.vip()?, "5432"])?;
    ensure!(connect(&web, db.vip6()?, [5433])? == 1, "IPv6");
    let refused = web.exec_output(&["nc", "-w", "2", elsewhere.address()?, "5434"])?;
    ensure!(!refused.status.success(), "{refused:?}");

    let remedy = Reason::OtherEnvironment.remedy();
    for follower in &followers {
        let connect = follower.event("the connect", is("connect", 5432))?;
        let who = json!({ "project": "shop", "environment": "production", "service": "web", "protocol": 6 });
        for (key, value) in who.as_object().context("an object")? {
            ensure!(connect[key] == *value, "{key}: {connect}");
        }
        ensure!(connect["source"] == web.address()? && connect["destination"] == db.address()?, "{connect}");
        ensure!(connect["destination_service"] == "shop/production/db", "{connect}");
        let told = SystemTime::UNIX_EPOCH + Duration::from_millis(connect["time_ms"].as_u64().context("a time")?);
        ensure!(told.elapsed()? < 2 * PATIENCE, "{connect}");

        let connect = follower.event("the connect over IPv6", is("connect", 5433))?;
        ensure!(connect["destination"] == db.address6()? && connect["protocol"] == 17, "{connect}");
        ensure!(connect["destination_service"] == "shop/production/db", "{connect}");

        let drop = follower.event("the drop", is("drop", 5434))?;
        ensure!(drop["reason"] == "other-environment" && drop["remedy"] == remedy, "{drop}");
        ensure!(drop["service"] == "web" && drop["destination_service"] == "shop/staging/db", "{drop}");
    }
    let (source, connected) = (web.address()?, db.address()?);
    for line in [
        format!("connect shop/production/web tcp {source} > {connected}:5432 (db)"),
        format!(
            "drop shop/production/web tcp {source} > {}:5434 (shop/staging/db) other-environment: {remedy}",
            elsewhere.address()?
        ),
    ] {
        let blanks_joined = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        wait_for(&format!("the line {line:?}"), PATIENCE, || {
            Ok(table.lines()?.iter().map(blanks_joined).any(|shown| shown.ends_with(&line)).then_some(()))
        })
        .with_context(|| format!("{:#?}", table.lines()))?;
    }
    followers.into_iter().chain([table]).try_for_each(Follower::end)
}

#[test]
fn filters_show_what_was_asked_for() -> Result<()> {
    let node = node()?;
    let staging = node.replica("shop", "staging", "web", 1)?;
    let blog = node.replica("blog", "production", "web", 1)?;
    let follow = |name: &str, arguments: &[&str]| Follower::json(&node, name, arguments);
    let drops = follow("drops", &["--drops"])?;
    let connects = follow("connects", &["--connects"])?;
    let production = follow("production", &["-e", "production"])?;
    let own = follow("staging", &["-p", "shop", "-e", "staging", "--connects"])?;
    let project = follow("blog", &["-p", "blog"])?;
    let unfiltered = follow("unfiltered", &[])?;

    for (from, first) in [(&web(&node)?, 6001), (&staging, 6011), (&blog, 6021)] {
        let vip = from.replica().vip.clone().context("a VIP")?;
        ensure!(connect(from, &vip, [first, first + 1])? == 2, "to itself by its VIP");
        ensure!(connect(from, NOBODY, [first + 2])? == 0, "to an address that nobody has");
        ensure!(connect(from, &vip, [first + 3])? == 1, "to itself by its VIP");
    }
    unfiltered.hears(&[6001, 6002, 6003, 6004, 6011, 6012, 6013, 6014, 6021, 6022, 6023, 6024])?;
    connects.hears(&[6001, 6002, 6004, 6011, 6012, 6014, 6021, 6022, 6024])?;
    drops.hears(&[6003, 6013, 6023])?;
    production.hears(&[6001, 6002, 6003, 6004, 6021, 6022, 6023, 6024])?;
    project.hears(&[6021, 6022, 6023, 6024])?;
    own.hears(&[6011, 6012, 6014])?;
    let both = node.skepctl_output(&["monitor", "--drops", "--connects"])?;
    ensure!(both.status.code() == Some(2), "wrong usage: {both:?}");
    [drops, connects, production, project, own, unfiltered].into_iter().try_for_each(Follower::end)
}

#[test]
fn a_follower_hears_nothing_older_than_itself() -> Result<()> {
    let node = node()?;
    let (web, db) = (web(&node)?, db(&node)?);
    let vip = db.vip()?;
    let nobody_follows =
        || -> Result<usize> { Ok(node.skepd_log()?.matches("Nobody follows the events any more").count()) };
    for round in 0..2 {
        // Nobody follows: they fill the ring, and more is lost.
        ensure!(connect(&web, vip, std::iter::repeat_n(7000, OVERFLOW))? == OVERFLOW);
        let before = nobody_follows()?;
        let first = Follower::json(&node, &format!("early-{round}"), &[])?;
        ensure!(connect(&web, vip, [7001])? == 1);
        first.hears(&[7001])?;
        let second = Follower::json(&node, &format!("late-{round}"), &[])?;
        ensure!(connect(&web, vip, [7002])? == 1);
        second.hears(&[7002])?;
        first.hears(&[7001, 7002])?;
        first.end()?;
        ensure!(connect(&web, vip, [7003])? == 1);
        second.hears(&[7002, 7003]).context("the one that stays hears on")?;
        ensure!(nobody_follows()? == before, "one follows still");
        second.end()?;
        wait_for("skepd to leave the ring alone", PATIENCE, || Ok((nobody_follows()? > before).then_some(())))?;
    }
    Ok(())
}

#[test]
fn a_flood_of_drops_is_told_by_windows_and_counted_whole() -> Result<()> {
    /// As the programs have it, in nanoseconds.
    const WINDOW: u64 = 100_000_000;
    let node = node()?;
    let web = web(&node)?;
    let elsewhere: IpAddr = node.replica("shop", "staging", "web", 1)?.address()?.parse()?;
    let maps = Maps::open_read_only(&Pins::new(&node.bpffs()))?;
    let counted = || -> Result<u64> {
        let lines = bpf::drops(&maps)?.into_iter().filter(|line| line.reason() == Some(Reason::OtherEnvironment));
        Ok(lines.map(|line| line.packets).sum())
    };
    let follower = Follower::json(&node, "flood", &["--drops"])?;
    let (before, begun) = (counted()?, monotonic());
    // On one core, as each counts its own windows.
    let place = Place::inside(web.netns()?).on_core(0);
    let flood = std::thread::spawn(move || -> Result<u64> {
        place.enter()?;
        let (socket, mut attempts) = (UdpSocket::bind("0.0.0.0:0")?, 0);
        let end = Instant::now() + Duration::from_millis(1_000);
        while Instant::now() < end {
            ensure!(socket.connect((elsewhere, 8001)).is_err(), "it crossed");
            attempts += 1;
        }
        Ok(attempts)
    });
    let attempts = flood.join().map_err(|_| anyhow!("the flood panicked"))??;
    let windows = monotonic() / WINDOW - begun / WINDOW + 1;
    ensure!(connect(&web, NOBODY, [8002])? == 0, "to an address that nobody has");

    let told = follower.ports_up_to(8002)?.iter().filter(|port| **port == 8001).count() as u64;
    println!("{attempts} drops in {windows} windows made {told} events");
    ensure!((2..=windows).contains(&told), "{told} events in {windows} windows");
    ensure!(attempts > 10 * windows, "only {attempts} drops: no flood");
    ensure!(counted()? - before == attempts, "of {attempts} drops, {} were counted", counted()? - before);
    follower.end()
}

#[test]
fn a_follower_that_is_too_slow_is_told_how_much_it_missed() -> Result<()> {
    let node = node()?;
    let (web, db) = (web(&node)?, db(&node)?);
    let mut stream = UnixStream::connect(node.socket())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /v1/monitor?kind=connect HTTP/1.1\r\nhost: skepd\r\n\r\n")?;
    let mut lines = BufReader::new(stream).lines();
    let head = lines.next().context("no answer")??;
    ensure!(head.contains("200"), "{head}");

    // It does not read any more; somebody else does, who says when all is told.
    let reader = Follower::json(&node, "reader", &[])?;
    for round in 0..10 {
        // No more than the ring holds, however late skepd comes to read it.
        ensure!(connect(&web, db.vip()?, std::iter::repeat_n(9000, 2_000))? == 2_000);
        ensure!(connect(&web, db.vip()?, [9001 + round])? == 1);
        reader.event("the end of the round", is("connect", 9001 + round))?;
    }
    let (mut heard, mut missed) = (0, 0);
    for line in lines {
        let line = line?;
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        match event["event"].as_str() {
            Some("missed") => missed += event["events"].as_u64().context("a number")?,
            Some("connect") => heard += 1,
            _ => {}
        }
        if is("connect", 9010)(&event) {
            break;
        }
    }
    println!("{heard} heard, {missed} missed");
    ensure!(missed > 0 && heard + missed >= 20_010, "{heard} heard, {missed} missed");
    reader.end()
}

#[test]
fn the_end_of_skepd_ends_the_stream_with_its_reason() -> Result<()> {
    let node = node()?;
    for kill in [true, false] {
        let mut follower = Follower::json(&node, &format!("left-{kill}"), &[])?;
        if kill {
            node.kill_skepd()?
        } else {
            ensure!(node.stop_skepd()?.success(), "SIGTERM")
        }
        let status = follower.process.wait(PATIENCE)?;
        let said = follower.process.log()?;
        ensure!(status.code() == Some(1), "{status}: {said}");
        let socket = node.socket().display().to_string();
        ensure!(said.contains(&format!("error: skepd at {socket} stopped or restarts")), "{said}");

        let dead = node.skepctl_output(&["monitor"])?;
        let said = String::from_utf8_lossy(&dead.stderr);
        ensure!(dead.status.code() == Some(3) && dead.stdout.is_empty(), "{dead:?}");
        ensure!(said.contains(&format!("error: no skepd at {socket}")) && said.contains("`skepctl drops`"), "{said}");
        node.skepctl(&["drops"])?;
        node.start_skepd()?;
    }
    // What came and went meanwhile is no hindrance: a new daemon, the same ring.
    let follower = Follower::json(&node, "anew", &[])?;
    ensure!(connect(&web(&node)?, db(&node)?.vip()?, [9999])? == 1);
    follower.hears(&[9999])?;
    follower.end()
}
