//! How the node finds out whether a replica is well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane::agent::health::{Probed, Probes, Target};
use dataplane::model::rollout::Probe;
use dataplane::model::{EnvironmentKey, ReplicaKey, ServiceKey};
use futures_util::FutureExt as _;
use tests::netns::Namespace;

#[path = "health/server.rs"]
mod server;

use server::Server;

/// Longest wait for what takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);
const ADDRESS: &str = "10.208.0.5:8080";
/// Often, so that tests are short; failures in a row tell the difference.
const OFTEN: Probe = Probe { path: None, interval: 50, timeout: 2_000, retries: 3 };

fn replica() -> Result<Namespace> {
    let namespace = Namespace::new()?;
    namespace.run("ip link set lo up")?;
    namespace.run("ip addr add 10.208.0.5/32 dev lo")?;
    Ok(namespace)
}

fn key() -> ReplicaKey {
    let environment = EnvironmentKey { project: "shop".into(), environment: "production".into() };
    ReplicaKey { service: ServiceKey { environment, service: "api".into() }, deployment: 1, replica: 1 }
}

fn target(replica: &Namespace, probe: Probe) -> Result<Target> {
    let address: SocketAddr = ADDRESS.parse()?;
    Ok(Target { key: key(), incarnation: "c1".to_owned(), netns: replica.path(), address, probe })
}

fn healthz(probe: Probe) -> Probe {
    Probe { path: Some("/healthz".to_owned()), ..probe }
}

fn unknown(reason: &str) -> Probed {
    Probed::Unknown { reason: Some(reason.to_owned()) }
}

fn unwell(reason: &str) -> Probed {
    Probed::Unwell { reason: reason.to_owned() }
}

/// What skepd does, in this computer's own namespace.
fn skepd<T>(work: impl AsyncFnOnce(Probes) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work(Probes::default()))
}

/// The bell is all that is listened to.
async fn comes_to(probes: &Probes, wanted: &Probed) -> Result<()> {
    let come = async {
        while probes.state(&key()).as_ref() != Some(wanted) {
            probes.changed().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, come).await;
    waited.with_context(|| format!("{:?} instead of {wanted:?}", probes.state(&key())))
}

#[test]
fn one_that_starts_is_well_soon_after_it_listens_however_long_the_interval() -> Result<()> {
    let replica = replica()?;
    let slow = Probe { interval: 3_600_000, ..OFTEN };
    skepd(async |probes| {
        probes.follow([target(&replica, slow)?], |_| false);
        assert_eq!(probes.state(&key()), Some(Probed::Unknown { reason: None }));
        comes_to(&probes, &unknown("connection refused on port 8080")).await?;
        let _server = Server::start(&replica, |_, _| Vec::new())?;
        comes_to(&probes, &Probed::Well).await
    })
}

#[test]
fn a_port_that_nobody_listens_on_any_more_is_unwell_until_somebody_does() -> Result<()> {
    let replica = replica()?;
    skepd(async |probes| {
        let server = Server::start(&replica, |_, _| Vec::new())?;
        probes.follow([target(&replica, OFTEN)?], |_| false);
        comes_to(&probes, &Probed::Well).await?;
        drop(server);
        comes_to(&probes, &unwell("connection refused on port 8080")).await?;
        let _server = Server::start(&replica, |_, _| Vec::new())?;
        comes_to(&probes, &Probed::Well).await
    })
}

#[test]
fn a_status_below_400_is_well_and_any_other_is_named() -> Result<()> {
    let replica = replica()?;
    let status = Arc::new(AtomicU16::new(200));
    let told = Arc::clone(&status);
    let server = Server::start(&replica, move |_, _| server::answer(told.load(Ordering::SeqCst)))?;
    skepd(async |probes| {
        probes.follow([target(&replica, healthz(OFTEN))?], |_| false);
        comes_to(&probes, &Probed::Well).await?;
        for (code, probed) in [
            (503, unwell("GET /healthz: 503")),
            (204, Probed::Well),
            (404, unwell("GET /healthz: 404")),
            (302, Probed::Well),
        ] {
            status.store(code, Ordering::SeqCst);
            comes_to(&probes, &probed).await?;
        }
        Ok(())
    })?;
    let head = server.heads().first().cloned().context("a question")?;
    ensure!(head.starts_with("GET /healthz HTTP/1.1\r\n") && head.contains("\r\nhost: api:8080\r\n"), "{head}");
    Ok(())
}

#[test]
fn one_that_fails_now_and_then_is_well() -> Result<()> {
    let replica = replica()?;
    // Two failures in a row at most, and three are needed.
    let server = Server::start(&replica, |n, _| server::answer(if n % 3 == 0 { 200 } else { 503 }))?;
    skepd(async |probes| {
        probes.follow([target(&replica, healthz(OFTEN))?], |_| false);
        comes_to(&probes, &Probed::Well).await?;
        while probes.changed().now_or_never().is_some() {}
        let enough = server.heads().len() + 12;
        let waited = tokio::time::timeout(PATIENCE, async {
            while server.heads().len() < enough {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        waited.await?;
        assert_eq!(probes.changed().now_or_never(), None, "{:?}", probes.state(&key()));
        Ok(())
    })
}

#[test]
fn one_that_accepts_and_says_nothing_gives_no_answer_in_time() -> Result<()> {
    let replica = replica()?;
    let brief = Probe { timeout: 200, ..OFTEN };
    skepd(async |probes| {
        let _server = Server::silent(&replica)?;
        probes.follow([target(&replica, healthz(brief.clone()))?], |_| true);
        comes_to(&probes, &unwell("no answer within 0.2 s")).await?;
        // It does accept.
        probes.follow([target(&replica, brief)?], |_| false);
        comes_to(&probes, &Probed::Well).await
    })
}

#[test]
fn what_is_no_answer_is_told_apart_and_read_no_further() -> Result<()> {
    type Answer = fn() -> Vec<u8>;
    let endless = |start: &str| [start.as_bytes(), &[b'x'; 32 << 20]].concat();
    let cases: [(Answer, Probed); 5] = [
        (|| b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), unknown("GET /healthz: the answer is not HTTP/1.1")),
        (Vec::new, unknown("GET /healthz: the connection ended before the answer did")),
        (
            || b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort".to_vec(),
            unknown("GET /healthz: the connection ended before the answer did"),
        ),
        (
            || [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'x'; 1 << 20]].concat(),
            unknown("GET /healthz: the head of the answer is over 16 KiB"),
        ),
        (|| b"HTTP/1.0 200 OK\r\n\r\nall is well".to_vec(), Probed::Well),
    ];
    for (answer, probed) in cases {
        let replica = replica()?;
        let _server = Server::start(&replica, move |_, _| answer())?;
        skepd(async |probes| {
            probes.follow([target(&replica, healthz(OFTEN))?], |_| false);
            comes_to(&probes, &probed).await
        })?;
    }
    let replica = replica()?;
    let server = Server::start(&replica, move |_, _| endless("HTTP/1.1 200 OK\r\n\r\n"))?;
    skepd(async |probes| {
        probes.follow([target(&replica, healthz(OFTEN))?], |_| false);
        comes_to(&probes, &Probed::Well).await
    })?;
    tests::wait_for("hanging up before the end of 32 MiB", PATIENCE, || Ok(server.cut_off().then_some(())))
}

#[test]
fn of_another_life_nothing_is_known_and_who_is_not_followed_is_left_alone() -> Result<()> {
    let replica = replica()?;
    let server = Server::start(&replica, |_, _| server::answer(200))?;
    skepd(async |probes| {
        let first = target(&replica, healthz(OFTEN))?;
        probes.follow([first.clone()], |_| false);
        comes_to(&probes, &Probed::Well).await?;
        probes.follow([first.clone()], |_| panic!("it is not new"));
        assert_eq!(probes.state(&key()), Some(Probed::Well));
        let second = Target { incarnation: "c2".to_owned(), ..first };
        probes.follow([second.clone()], |_| false);
        assert_eq!(probes.state(&key()), Some(Probed::Unknown { reason: None }));
        comes_to(&probes, &Probed::Well).await?;

        probes.follow([], |_| false);
        assert_eq!(probes.state(&key()), None);
        let asked = server.settled().await;
        tokio::time::sleep(Duration::from_millis(5 * OFTEN.interval)).await;
        assert_eq!(server.heads().len(), asked, "it was asked by nobody's order");

        probes.follow([second], |_| true);
        assert_eq!(probes.state(&key()), Some(Probed::Well), "it served before");
        Ok(())
    })
}

#[test]
fn a_server_that_only_listens_on_its_loopback_is_not_well() -> Result<()> {
    let replica = replica()?;
    let _server = Server::start_at(&replica, "127.0.0.1:8080", |_, _| Vec::new())?;
    skepd(async |probes| {
        probes.follow([target(&replica, OFTEN)?], |_| false);
        comes_to(&probes, &unknown("connection refused on port 8080")).await
    })
}
