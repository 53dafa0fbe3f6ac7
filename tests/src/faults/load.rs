//! The load of a scene, and those who ask although they must not.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};

use crate::container::Container;
use crate::load::{Client, Connects, Datagrams, Dns, KeepAlive, PAUSE, Paced, Place, Running, run};
use crate::machine::Machine;
use crate::netns::Namespace;
use crate::node::Node;
use crate::{command, wait::wait_for};

const DNS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 224, 0, 53)), 53);
const KEEP_ALIVE: u16 = 7001;
const PER_REQUEST: u16 = 7002;
const DATAGRAMS: u16 = 7003;
/// How long a connection that should not come about may try.
const PATIENCE: Duration = Duration::from_millis(500);
/// Exchanges that say that a part is at work.
const PROOF: u64 = 20;

/// What has been asked so far.
#[derive(Debug, Clone, Copy)]
pub struct Tally {
    /// Requests, well or ill.
    pub requests: u64,
    /// How many of them failed.
    pub failures: u64,
    /// Answers to those who must not ask.
    pub isolation: u64,
}

/// Those who ask.
pub(super) struct Load {
    wanted: Vec<Part>,
    forbidden: Vec<Part>,
}

/// One of them.
pub(super) struct Part {
    what: &'static str,
    running: Running,
}

impl Part {
    /// Waits until it has made more exchanges.
    pub(super) fn progress(&self, patience: Duration) -> Result<()> {
        let goal = self.running.exchanges() + PROOF;
        wait_for(self.what, patience, || Ok((self.running.exchanges() >= goal).then_some(())))
            .with_context(|| format!("{}: no answers", self.what))
    }
}

impl Load {
    pub(super) fn start(node: &Node, neighbour: &Machine) -> Result<Self> {
        let api = node.replica("shop", "production", "api", 1)?;
        let web = node.replica("shop", "production", "web", 1)?;
        let name: Ipv4Addr = web.vip()?.parse()?;
        let (vip4, vip6) = (address(web.vip()?)?, address(web.vip6()?)?);
        let (own4, own6) = (address(web.address()?)?, address(web.address6()?)?);
        let at = |to: IpAddr, port: u16| SocketAddr::new(to, port);
        let client = Seat::of(node, &api)?;
        let wanted = vec![
            part("kept connection", &client, move || KeepAlive::new(at(vip4, KEEP_ALIVE))),
            part("kept connection, IPv6", &client, move || KeepAlive::new(at(vip6, KEEP_ALIVE))),
            part("new connections", &client, move || Connects::new(at(vip4, PER_REQUEST))),
            part("new connections, IPv6", &client, move || Connects::new(at(vip6, PER_REQUEST))),
            part("datagrams", &client, move || Datagrams::connected(at(vip4, DATAGRAMS))),
            part("datagrams, IPv6", &client, move || Datagrams::unconnected(at(vip6, DATAGRAMS))),
            part("names", &client, move || Dns::new(DNS, "web.internal", 1, Some(name))),
        ];
        let staging = Seat::of(node, &node.replica("shop", "staging", "web", 1)?)?;
        let blog = Seat::of(node, &node.replica("blog", "production", "web", 1)?)?;
        let (host, outside) = (Seat::fixed(node.machine().netns()?), Seat::fixed(neighbour.netns()?));
        let connect = |to: IpAddr| move || Connects::within(at(to, PER_REQUEST), PATIENCE);
        let forbidden = vec![
            part("staging to production", &staging, connect(own4)),
            part("staging to production's VIP", &staging, connect(address(api.vip()?)?)),
            part("blog to shop", &blog, connect(own4)),
            part("blog to shop, IPv6", &blog, connect(own6)),
            part("blog to shop's VIP", &blog, connect(vip6)),
            part("blog to shop, datagrams", &blog, move || Datagrams::unconnected(at(own4, DATAGRAMS))),
            part("shop's name in blog", &blog, move || Dns::new(DNS, "api.internal", 1, None)),
            part("the host", &host, connect(own4)),
            part("the host, IPv6", &host, connect(own6)),
            part("a neighbour on the LAN", &outside, connect(own4)),
            part("a neighbour on the LAN, IPv6", &outside, connect(own6)),
        ];
        Ok(Self { wanted, forbidden })
    }

    pub(super) fn wanted(&self) -> &[Part] {
        &self.wanted
    }

    pub(super) fn tally(&self) -> Tally {
        let failures: u64 = self.wanted.iter().map(|part| part.running.failures()).sum();
        let answered = |parts: &[Part]| -> u64 { parts.iter().map(|part| part.running.exchanges()).sum() };
        Tally { requests: answered(&self.wanted) + failures, failures, isolation: answered(&self.forbidden) }
    }

    pub(super) fn end(self) -> Result<()> {
        for part in self.wanted.into_iter().chain(self.forbidden) {
            part.running.stop().context(part.what)?;
        }
        Ok(())
    }
}

fn address(text: &str) -> Result<IpAddr> {
    text.parse().with_context(|| format!("address {text:?}"))
}

fn part<C, F>(what: &'static str, seat: &Arc<Seat>, make: F) -> Part
where
    C: Client,
    F: Fn() -> io::Result<C> + Send + 'static,
{
    let seat = Arc::clone(seat);
    let running = run(Place::default(), move || {
        // Reached after each failure, too.
        thread::sleep(PAUSE);
        seat.take()?;
        make().map(Paced)
    });
    Part { what, running }
}

/// Where a client sits: the network namespace that a replica has *now*, since a fault may give it another.
enum Seat {
    Fixed(Namespace),
    Replica {
        docker: String,
        sandbox: String,
        root: PathBuf,
        /// The last one known: most failures have left it as it was, and Docker does not always answer.
        last: Mutex<Option<Arc<Inhabited>>>,
    },
}

impl Seat {
    fn fixed(namespace: Namespace) -> Arc<Self> {
        Arc::new(Self::Fixed(namespace))
    }

    fn of(node: &Node, container: &Container<'_>) -> Result<Arc<Self>> {
        let id =
            container.replica().sandbox.as_deref().with_context(|| format!("{} has no sandbox", container.name()))?;
        let name = node.docker(&["inspect", "--format", "{{.Name}}", id])?;
        Ok(Arc::new(Self::Replica {
            docker: node.docker_url(),
            sandbox: name.trim_start_matches('/').to_owned(),
            root: node.machine().outside("/"),
            last: Mutex::default(),
        }))
    }

    /// Moves the calling thread there.
    fn take(&self) -> io::Result<()> {
        let enter = |namespace: &Namespace| Ok(setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?);
        match self {
            Self::Fixed(namespace) => enter(namespace),
            Self::Replica { docker, sandbox, root, last } => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if !last.as_ref().is_some_and(|inhabited| inhabited.still())
                    && let Ok(found) = find(docker, sandbox, root)
                {
                    *last = Some(Arc::new(found));
                }
                let inhabited = last.clone().ok_or_else(|| io::Error::other(format!("{sandbox} does not run")))?;
                drop(last);
                enter(&inhabited.namespace)
            }
        }
    }
}

/// The network namespace of a container's process.
struct Inhabited {
    namespace: Namespace,
    /// `/proc/<pid>/ns/net`.
    process: PathBuf,
}

impl Inhabited {
    /// Whether the process lives, there: nobody else's namespace has this one's number while it is open here.
    fn still(&self) -> bool {
        let number = |path: &Path| fs::metadata(path).map(|it| it.ino()).ok();
        number(&self.process).is_some_and(|now| number(&self.namespace.path()) == Some(now))
    }
}

fn find(docker: &str, sandbox: &str, root: &Path) -> Result<Inhabited> {
    let mut inspect = Command::new("docker");
    inspect.args(["--host", docker, "inspect", "--format", "{{.State.Pid}}", sandbox]);
    let pid = command::run(&mut inspect)?;
    anyhow::ensure!(pid != "0", "{sandbox} does not run");
    let process = root.join("proc").join(pid).join("ns/net");
    Ok(Inhabited { namespace: Namespace::open(&process)?, process })
}
