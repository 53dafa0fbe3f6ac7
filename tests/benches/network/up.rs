//! From `up` to the first answered request: a stack of three, by skepctl and by docker compose, on the same engine.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tests::Node;
use tests::engine::compose;
use tests::images::Image;
use tests::netns::Namespace;

use crate::Effort;
use crate::report::{Metric, Sample};

const PORT: u16 = 8080;
const METRIC: Metric = Metric { name: "up-to-answer", unit: "s" };
/// A container that was said to be up answers within this, or never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// What both are given: each waits for the one before, as files of people do. No limit of time for a stop: none of
/// these programs is asked to do anything at its end.
const STACK: &str = "
services:
  cache:
    image: redis:latest
    stop_grace_period: 1s
    healthcheck: { test: [CMD, redis-cli, ping], interval: 500ms }
  api:
    image: musl:latest
    command: [web]
    stop_grace_period: 1s
    depends_on: { cache: { condition: service_healthy } }
  web:
    image: musl:latest
    command: [web]
    stop_grace_period: 1s
    depends_on: [api]
";

/// Brings the stack up and down by turns.
pub(crate) fn measure(node: &Node, effort: &Effort, samples: &mut Vec<Sample>) -> Result<()> {
    let wanted = ["docker-compose", "skep"].map(|subject| effort.wants("up", subject));
    if wanted == [false, false] {
        return Ok(());
    }
    node.load(&[Image::Musl, Image::Redis])?;
    let program = compose()?.display().to_string();
    let file = node.machine().directory().join("stack.yaml");
    fs::write(&file, STACK)?;
    let file = file.display().to_string();
    for round in 1..=effort.rounds {
        eprintln!("up, round {round} of {}", effort.rounds);
        for (subject, took, wanted) in [
            ("docker-compose", by_compose as fn(&Node, &str, &str) -> Result<Duration>, wanted[0]),
            ("skep", by_skep, wanted[1]),
        ] {
            if wanted {
                let value = took(node, &program, &file).context(subject)?.as_secs_f64();
                samples.push(Sample { group: "deploy", case: "up", subject, metric: METRIC, value });
            }
        }
    }
    Ok(())
}

fn by_compose(node: &Node, program: &str, file: &str) -> Result<Duration> {
    let host = format!("DOCKER_HOST={}", node.docker_url());
    let compose =
        |arguments: &[&str]| node.run(&[&["env", &host, program, "-p", "up", "-f", file], arguments].concat());
    let begun = Instant::now();
    compose(&["up", "--detach", "--wait"])?;
    let up = begun.elapsed();
    let inspect = |format: &str, name: &str| node.docker(&["inspect", "--format", format, name]);
    let pid = inspect("{{.State.Pid}}", "up-api-1")?;
    let client = Namespace::open(&node.machine().outside(format!("/proc/{}/ns/net", pid.trim())))?;
    let address = inspect("{{.NetworkSettings.Networks.up_default.IPAddress}}", "up-web-1")?.trim().parse()?;
    let answered = answer(&client, address)?;
    compose(&["down", "--volumes"])?;
    Ok(up + answered)
}

fn by_skep(node: &Node, _: &str, file: &str) -> Result<Duration> {
    const ENVIRONMENT: [&str; 4] = ["-p", "up", "-e", "bench"];
    let begun = Instant::now();
    node.skepctl(&[&ENVIRONMENT, &["up", "-f", file][..]].concat())?;
    let up = begun.elapsed();
    let client = node.replica("up", "bench", "api", 1)?.netns()?;
    let address = node.replica("up", "bench", "web", 1)?.vip()?.parse()?;
    let answered = answer(&client, address)?;
    node.skepctl(&[&ENVIRONMENT[..], &["down"]].concat())?;
    Ok(up + answered)
}

/// How long it takes until a request is answered.
fn answer(client: &Namespace, server: IpAddr) -> Result<Duration> {
    client.enter(|| {
        let begun = Instant::now();
        loop {
            match ask((server, PORT).into()) {
                Ok(()) => return Ok(begun.elapsed()),
                Err(error) => ensure!(begun.elapsed() < PATIENCE, "no answer of {server}: {error}"),
            }
        }
    })
}

fn ask(server: SocketAddr) -> Result<()> {
    let mut connection = TcpStream::connect_timeout(&server, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(())
}
