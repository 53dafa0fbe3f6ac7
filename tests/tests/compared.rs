//! `docker compose up` and `skepctl up` on the same file and the same engine: what differs, as `ctl/DIFFERENCES.md` tells it.
//! `SKEP_BLESS=1` writes that page anew.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use tests::Node;
use tests::engine::compose;
use tests::images::Image;
use tests::load::{Place, Server, Service};
use tests::netns::Namespace;
use tests::wait_for;

const FILE: &str = "\
name: shop
services:
  cache:
    image: redis:latest
    volumes: ['kept:/data']
    stop_grace_period: 1s
    healthcheck: {test: [CMD, redis-cli, ping], interval: 500ms}
  web:
    image: musl:latest
    command: [web]
    ports: ['8080:8080']
    stop_grace_period: 1s
    healthcheck: {test: [CMD, 'true'], interval: 500ms}
    depends_on: {cache: {condition: service_healthy}}
  client:
    image: tools:latest
    command: [sleep, inf]
    stop_grace_period: 1s
volumes:
  kept: {}
";

const HEAD: &str = "\
<!-- Made by tests/tests/compared.rs, which runs both: SKEP_BLESS=1 cargo test -p tests --test compared writes it anew. -->

# `docker compose up` and `skepctl up` on the same file

Both were run on one Docker Engine, one after the other, with the file below; what is in the table was seen, not looked up.
[COMPOSE.md](COMPOSE.md) says what becomes of each key. A service that writes to a volume ends before its next version starts, in both:
requests to such a one wait or fail meanwhile.

";

/// Of the web server in the file; of the host, for whoever reaches it; and of clouds' metadata services.
const PORTS: [u16; 3] = [8080, 9000, 80];
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks until it is told to stop; says how often, and how often in vain.
const ASK: &str = "\
rm -f /tmp/stop; n=0; f=0; \
while [ ! -e /tmp/stop ]; do \
curl -sf -o /dev/null -m 2 http://web:8080/ || f=$((f+1)); n=$((n+1)); touch /tmp/begun; \
done; echo $n $f";

/// What is looked at, in the order of [`Started::observe`].
const WHAT: [&str; 11] = [
    "`web`, asked for in `client`, is",
    "while `web` is made anew (`up --force-recreate web`; `deploy web`), requests to it are",
    "`ports`: at port 8080 of the host, `web`",
    "at its own address, from the host, `web`",
    "the host's own services, from `client`, are",
    "169.254.169.254, where clouds keep credentials, from `client`, is",
    "while the daemons are dead, names",
    "in the other services, `REDIS_URL`",
    "what a container says is kept",
    "`docker ps` calls the container of `web`",
    "`docker volume ls` calls the volume",
];

#[derive(Clone, Copy)]
enum By<'a> {
    Compose(&'a str),
    Skep,
}

/// The file, brought up.
struct Started<'a> {
    node: &'a Node,
    by: By<'a>,
    file: &'a str,
}

#[test]
fn what_differs_from_docker_compose_is_what_the_page_says() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Musl, Image::Redis, Image::Tools])?;
    let program = compose()?.display().to_string();
    let file = node.compose_file("shop", "production", FILE)?;
    let of_host = Server::start(Place::inside(node.machine().netns()?), PORTS[1], Service::EchoOnce)?;
    let of_cloud = Server::start(Place::inside(node.lan().machine().netns()?), PORTS[2], Service::EchoOnce)?;

    let [theirs, ours] = [By::Compose(&program), By::Skep].map(|by| Started { node: &node, by, file: &file });
    let theirs = theirs.observed().context("docker compose")?;
    let ours = ours.observed().context("skepctl")?;
    drop((of_host, of_cloud));

    let mut page = format!("{HEAD}| | `docker compose up` | `skepctl up` |\n|---|---|---|\n");
    for (what, (theirs, ours)) in WHAT.iter().zip(theirs.iter().zip(&ours)) {
        ensure!(theirs != ours, "{what} {ours} in both");
        writeln!(page, "| {what} | {theirs} | {ours} |")?;
    }
    write!(page, "\n```yaml\n{FILE}```\n")?;
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../ctl/DIFFERENCES.md"), &page)
}

/// Whether the file has this text; with `SKEP_BLESS`, it has from now on.
fn check(file: &Path, text: &str) -> Result<()> {
    if std::env::var_os("SKEP_BLESS").is_some() {
        return Ok(std::fs::write(file, text)?);
    }
    let written = std::fs::read_to_string(file)?;
    ensure!(written == text, "{} does not say what was seen:\n{text}", file.display());
    Ok(())
}

impl Started<'_> {
    /// Up, looked at, and down again.
    fn observed(&self) -> Result<[String; WHAT.len()]> {
        match self.by {
            By::Compose(_) => self.compose(&["up", "--detach", "--wait"])?,
            By::Skep => self.skepctl(&["up", "--wait", "-f", self.file])?,
        };
        let observed = self.observe()?;
        match self.by {
            By::Compose(_) => self.compose(&["down", "--volumes"])?,
            By::Skep => self.skepctl(&["down", "--volumes", "--wait"])?,
        };
        Ok(observed)
    }

    fn observe(&self) -> Result<[String; WHAT.len()]> {
        let is = |yes: bool, so: &str, not: &str| if yes { so.to_owned() } else { not.to_owned() };
        let (client, web) = (self.id("client")?, self.id("web")?);
        let inspect = |id: &str, format: &str| self.node.docker(&["inspect", "--format", format, id]);
        let (host, inside) = (self.node.machine().netns()?, self.netns("client")?);

        let name = inspect(&web, "{{.Name}}")?.trim_start_matches('/').to_owned();
        let volume = inspect(&self.id("cache")?, "{{range .Mounts}}{{.Name}}{{end}}")?;
        let log = inspect(&web, "{{json .HostConfig.LogConfig}}")?;
        let told = self.node.docker(&["exec", &client, "env"])?.contains("\nREDIS_URL=");
        let own: IpAddr = self.address("web")?;
        let published = answers(&host, (Ipv4Addr::LOCALHOST, PORTS[0]).into())?;
        let by_address = answers(&host, (own, PORTS[0]).into())?;
        let services = answers(&inside, (self.node.address4().parse::<IpAddr>()?, PORTS[1]).into())?;
        let metadata = answers(&inside, (METADATA, PORTS[2]).into())?;
        let resolved = self.resolve(&client)?;
        let lost = self.made_anew(&client)?;
        let stays = resolved != own && self.resolve(&client)? == resolved && self.address("web")? != own;
        let named = self.names_without_daemons(&client)?;
        Ok([
            is(stays, "at an address that stays, whichever container is behind it", "at the address of its container"),
            is(lost, "lost, some of them", "answered, all of them"),
            is(published, "answers everybody", "is not there: `skepctl forward web:8080` brings it to you"),
            is(by_address, "answers", "is not reached"),
            is(services, "reached", "not reached"),
            is(metadata, "reached", "not reached"),
            is(named, "resolve as before", "do not resolve"),
            is(told, "says where `cache` is", "is not there"),
            is(log.contains("max-size"), "up to a size, the oldest goes first", "for ever, until the disk is full"),
            format!("`{}`", name.replace(self.node.machine().name(), "NODE")),
            format!("`{volume}`"),
        ])
    }

    fn compose(&self, arguments: &[&str]) -> Result<String> {
        let By::Compose(program) = self.by else { bail!("it is skepctl that is asked") };
        let host = format!("DOCKER_HOST={}", self.node.docker_url());
        self.node.run(&[&["env", &host, program, "-f", self.file], arguments].concat())
    }

    fn skepctl(&self, arguments: &[&str]) -> Result<String> {
        self.node.skepctl(&[&["-p", "shop", "-e", "production"], arguments].concat())
    }

    fn id(&self, service: &str) -> Result<String> {
        match self.by {
            By::Compose(_) => self.compose(&["ps", "--quiet", service]),
            By::Skep => Ok(self.node.replica("shop", "production", service, 1)?.id()?.to_owned()),
        }
    }

    fn address(&self, service: &str) -> Result<IpAddr> {
        let address = match self.by {
            By::Compose(_) => {
                let format = "{{.NetworkSettings.Networks.shop_default.IPAddress}}";
                self.node.docker(&["inspect", "--format", format, &self.id(service)?])?
            }
            By::Skep => self.node.replica("shop", "production", service, 1)?.address()?.to_owned(),
        };
        address.parse().with_context(|| address)
    }

    fn netns(&self, service: &str) -> Result<Namespace> {
        let pid = self.pid(&self.id(service)?)?;
        Namespace::open(&self.node.machine().outside(format!("/proc/{pid}/ns/net")))
    }

    /// Of a container, as its node sees it.
    fn pid(&self, id: &str) -> Result<String> {
        self.node.docker(&["inspect", "--format", "{{.State.Pid}}", id])
    }

    fn resolve(&self, client: &str) -> Result<IpAddr> {
        let said = self.node.docker(&["exec", client, "getent", "ahostsv4", "web"])?;
        let address = said.split_whitespace().next().unwrap_or_default();
        address.parse().with_context(|| said.clone())
    }

    /// Whether requests were lost while the web server was made anew.
    fn made_anew(&self, client: &str) -> Result<bool> {
        let node = self.node;
        let touch = |file: &str| node.docker(&["exec", client, "touch", file]);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| node.docker(&["exec", client, "sh", "-c", ASK]));
            let begun = wait_for("requests", Duration::from_secs(20), || {
                Ok(node.docker(&["exec", client, "ls", "/tmp"])?.contains("begun").then_some(()))
            });
            let anew = begun.and_then(|()| match self.by {
                By::Compose(_) => self.compose(&["up", "--detach", "--wait", "--force-recreate", "--no-deps", "web"]),
                By::Skep => self.skepctl(&["deploy", "--wait", "web"]),
            });
            touch("/tmp/stop")?;
            let said = asking.join().map_err(|_| anyhow::anyhow!("whoever asks panicked"))??;
            anew?;
            let (asked, failed) = said.trim().split_once(' ').context("no count")?;
            println!("{failed} of {asked} requests failed");
            ensure!(asked.parse::<u32>()? > 10, "hardly anything was asked: {said}");
            Ok(failed != "0")
        })
    }

    /// Whether names resolve while nothing of the engine or of Skep runs but the containers.
    fn names_without_daemons(&self, client: &str) -> Result<bool> {
        let pid = self.pid(client)?;
        let ask = ["nsenter", "--target", &pid, "--mount", "--net", "getent", "ahostsv4", "cache"];
        ensure!(self.node.output(&ask)?.status.success(), "it does not resolve before");
        self.node.kill_skepd()?;
        self.node.stop_docker(Signal::SIGKILL)?;
        let named = self.node.output(&ask)?.status.success();
        self.node.start_docker()?;
        self.node.start_skepd()?;
        Ok(named)
    }
}

/// Whether somebody takes a connection there.
fn answers(from: &Namespace, to: SocketAddr) -> Result<bool> {
    from.enter(|| Ok(TcpStream::connect_timeout(&to, PATIENCE).is_ok()))
}
