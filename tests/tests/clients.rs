//! Programs that people run, unchanged, by every form of a service's name and both families.

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use tests::images::Image;
use tests::{Container, Lan, Node, wait_for};

/// Serves HTTP and datagrams.
const PEER: &str = include_str!("clients/peer.py");
/// Exercises Python's resolver and every kind of socket.
const SOCKETS: &str = include_str!("clients/sockets.py");

/// One node for all tests here. Statics are never dropped; the machine ends with this process all the same.
static NODE: LazyLock<Result<Node, String>> = LazyLock::new(|| start().map_err(|error| format!("{error:#}")));

fn start() -> Result<Node> {
    let node = Node::start()?;
    node.load(&[Image::Tools, Image::Postgres, Image::Redis, Image::Musl, Image::Go])?;
    // JSON is YAML; the script holds no `$`, which Compose would interpolate.
    let peer = serde_json::to_string(PEER)?;
    node.up(
        "shop",
        "production",
        &format!(
            "
services:
  web: {{image: 'tools:latest', command: [python3, -c, {peer}]}}
  worker: {{image: 'tools:latest', command: [python3, -c, {peer}]}}
  db: {{image: 'postgres:latest', x-skep: {{port: 5432}},
       environment: {{POSTGRES_PASSWORD: secret, POSTGRES_DB: shop}}}}
  cache: {{image: 'redis:latest'}}
  musl: {{image: 'musl:latest', command: [sleep, inf]}}
  go: {{image: 'go:latest'}}
"
        ),
    )?;
    Ok(node)
}

fn replica(service: &str) -> Result<Container<'static>> {
    let node = NODE.as_ref().map_err(|error| anyhow!("the node: {error}"))?;
    node.replica("shop", "production", service, 1)
}

fn forms(service: &str) -> [String; 3] {
    [service.to_owned(), format!("{service}.internal"), format!("{service}.production.shop.internal")]
}

/// Runs `body` until it succeeds: a server may still be starting.
fn patiently<T>(what: &str, mut body: impl FnMut() -> Result<T>) -> Result<T> {
    wait_for(what, Duration::from_secs(60), || body().map(Some))
}

/// Every name of `service` and its virtual addresses.
fn targets(service: &Container<'_>) -> Result<Vec<String>> {
    let mut targets = forms(&service.replica().service).to_vec();
    targets.extend([service.vip()?.to_owned(), service.vip6()?.to_owned()]);
    Ok(targets)
}

#[test]
fn psql_reaches_a_real_postgresql() -> Result<()> {
    let (client, db) = (replica("web")?, replica("db")?);
    let query = "SELECT current_database(), family(inet_server_addr())";
    let ask = |host: &str| {
        let host = format!("host={host} dbname=shop user=postgres password=secret connect_timeout=5");
        client.exec(&["psql", "-Atc", query, &host])
    };
    patiently("PostgreSQL's first answer", || ask("db"))?;
    for host in targets(&db)? {
        let answer = ask(&host)?;
        let as_wanted = match host.as_str() {
            host if host == db.vip()? => answer == "shop|4",
            host if host == db.vip6()? => answer == "shop|6",
            _ => answer.starts_with("shop|"),
        };
        ensure!(as_wanted, "psql to {host}: {answer}");
    }
    // A transaction over one connection, and a table that is really there.
    let script = "CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000); SELECT sum(n) FROM t";
    let url = "postgresql://postgres:secret@db/shop";
    let sum = client.exec(&["psql", "-Atqc", script, url])?;
    ensure!(sum == "500500", "the sum is {sum}");
    Ok(())
}

#[test]
fn redis_cli_reaches_a_real_redis() -> Result<()> {
    let (client, cache) = (replica("web")?, replica("cache")?);
    patiently("Redis' first answer", || {
        let answer = client.exec(&["redis-cli", "-h", "cache", "ping"])?;
        ensure!(answer == "PONG", "{answer}");
        Ok(())
    })?;
    for (number, host) in targets(&cache)?.iter().enumerate() {
        let value = number.to_string();
        client.exec(&["redis-cli", "-h", host, "set", "key", &value])?;
        let answer = client.exec(&["redis-cli", "-h", host, "get", "key"])?;
        ensure!(answer == value, "redis-cli to {host}: {answer}, wanted {value}");
    }
    Ok(())
}

#[test]
fn curl_reaches_a_web_server() -> Result<()> {
    let (client, web) = (replica("worker")?, replica("web")?);
    let curl = |family, url: &str| client.exec(&["curl", "-fsS", "-m", "5", family, "-w", " %{remote_ip}", url]);
    patiently("the first page", || curl("-4", "http://web:8080/"))?;
    for (family, vip) in [("-4", web.vip()?), ("-6", web.vip6()?)] {
        for form in forms("web") {
            let answer = curl(family, &format!("http://{form}:8080/page"))?;
            ensure!(answer == format!("/page {vip}"), "curl {family} to {form}: {answer}, wanted it from {vip}");
        }
    }
    let answer = curl("-6", &format!("http://[{}]:8080/page", web.vip6()?))?;
    ensure!(answer.starts_with("/page "), "curl to the IPv6 VIP: {answer}");
    Ok(())
}

/// From either side to the other: both serve, both ask.
#[test]
fn python_resolves_connects_and_sends_datagrams_both_ways() -> Result<()> {
    let (web, worker) = (replica("web")?, replica("worker")?);
    for (from, to) in [(&web, &worker), (&worker, &web), (&web, &web)] {
        let name = &to.replica().service;
        patiently(&format!("{name}'s first page"), || {
            from.exec(&["curl", "-fsS", "-m", "5", &format!("http://{name}:8080/")])
        })?;
        from.exec(&["python3", "-c", SOCKETS, name, to.vip()?, to.vip6()?])
            .with_context(|| format!("from {} to {}", from.name(), to.name()))?;
    }
    Ok(())
}

#[test]
fn glibc_resolves_every_form() -> Result<()> {
    let (client, db) = (replica("web")?, replica("db")?);
    for (database, address, outside) in
        [("ahostsv4", db.vip()?, Lan::OUTSIDE4), ("ahostsv6", db.vip6()?, Lan::OUTSIDE6)]
    {
        let names = forms("db").into_iter().map(|form| (form, address));
        for (name, wanted) in names.chain([(Lan::OUTSIDE.to_owned(), outside)]) {
            let lines = client.exec(&["getent", database, &name])?;
            let found = lines.lines().all(|line| line.split_whitespace().next() == Some(wanted));
            ensure!(found && !lines.is_empty(), "getent {database} {name}: {lines}, wanted {wanted}");
        }
        for name in ["nowhere", "nowhere.internal", "nowhere.example", "db.staging.shop.internal"] {
            let output = client.exec_output(&["getent", database, name])?;
            // getent(1): 2, a key could not be found.
            ensure!(output.status.code() == Some(2), "getent {database} {name}: {output:?}");
        }
    }
    Ok(())
}

/// musl asks for A and AAAA at once and takes no for an answer only when it is NXDOMAIN.
#[test]
fn musl_resolves_every_form() -> Result<()> {
    resolves_both_families(&replica("musl")?, &["resolve"])
}

/// Go's own resolver reads resolv.conf by itself.
#[test]
fn go_resolves_every_form_and_fetches() -> Result<()> {
    let (go, web) = (replica("go")?, replica("web")?);
    resolves_both_families(&go, &["/bin/probe", "lookup"])?;
    let urls = forms("web").into_iter().chain([web.vip()?.to_owned(), format!("[{}]", web.vip6()?)]);
    for host in urls {
        let url = format!("http://{host}:8080/from-go");
        let answer = patiently(&url, || go.exec(&["/bin/probe", "get", &url]))?;
        ensure!(answer.contains("/from-go"), "{url}: {answer}");
    }
    Ok(())
}

/// `command NAME` prints an address a line.
fn resolves_both_families(client: &Container<'_>, command: &[&str]) -> Result<()> {
    let db = replica("db")?;
    let lookup = |name: &str| client.exec_output(&[command, &[name]].concat());
    let names = forms("db").into_iter().map(|form| (form, [db.vip(), db.vip6()]));
    for (name, wanted) in names.chain([(Lan::OUTSIDE.to_owned(), [Ok(Lan::OUTSIDE4), Ok(Lan::OUTSIDE6)])]) {
        let output = lookup(&name)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut found: Vec<_> = text.split_whitespace().collect();
        let mut wanted = wanted.into_iter().collect::<Result<Vec<_>>>()?;
        found.sort_unstable();
        found.dedup();
        wanted.sort_unstable();
        ensure!(found == wanted, "{name} is {found:?}, wanted {wanted:?}; {output:?}");
    }
    for name in ["nowhere", "nowhere.internal", "nowhere.example", "db.staging.shop.internal"] {
        ensure!(!lookup(name)?.status.success(), "{name} resolves");
    }
    Ok(())
}

/// What a person would look at: flags, SOA, PTR, EDNS, mixed case, TCP.
#[test]
fn dig_sees_an_authoritative_zone() -> Result<()> {
    let (client, db) = (replica("web")?, replica("db")?);
    let dig = |arguments: &[&str]| client.exec(&[&["dig", "+tries=1", "+time=5"], arguments].concat());
    let short = |arguments: &[&str]| dig(&[&["+short"], arguments].concat());
    let checks: [(&[&str], &str); 10] = [
        (&["db.internal", "A"], db.vip()?),
        (&["DB.Production.SHOP.internal", "A"], db.vip()?),
        (&["db.internal", "AAAA"], db.vip6()?),
        (&["+tcp", "db.internal", "A"], db.vip()?),
        (&["+noedns", "db.internal", "A"], db.vip()?),
        (&["_postgresql._tcp.db.internal", "SRV"], "0 0 5432 db.internal."),
        (&["+tcp", "_postgresql._tcp.DB.production.shop.internal", "SRV"], "0 0 5432 DB.production.shop.internal."),
        (&["cache.internal", "SRV"], ""),
        (&["-x", db.vip()?], "db.production.shop.internal."),
        (&["-x", db.vip6()?], "db.production.shop.internal."),
    ];
    for (arguments, wanted) in checks {
        let answer = short(arguments)?;
        ensure!(answer == wanted, "dig {arguments:?}: {answer:?}, wanted {wanted}");
    }
    let text = dig(&["db.internal", "A"])?;
    ensure!(text.contains("flags: qr aa"), "not authoritative: {text}");
    let text = dig(&["db.internal", "MX"])?;
    ensure!(text.contains("NOERROR") && text.contains("ANSWER: 0"), "MX of a service: {text}");
    for name in ["nowhere.internal", "db.staging.shop.internal", "web.production.blog.internal"] {
        let text = dig(&[name])?;
        ensure!(text.contains("NXDOMAIN") && text.contains("SOA"), "{name}: {text}");
    }
    Ok(())
}
