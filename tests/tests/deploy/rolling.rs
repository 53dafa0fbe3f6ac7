//! Deployments in a row under constant load: what each kind of client sees of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::Node;
use tests::load::Tally;

use crate::clients::{Held, Stubborn};
use crate::requests::Requests;
use crate::stack::{Stack, web, with};

/// For connections to end by themselves.
const DRAIN: Duration = Duration::from_secs(3);
/// Clients that keep a connection to a server which does not end it.
const KEPT: u64 = 4;
/// Those that send datagrams, one in flight each.
const SENDERS: usize = 2;

/// How many deployments in a row.
fn deployments() -> Result<u32> {
    match std::env::var("SKEP_DEPLOYMENTS") {
        Ok(number) => number.parse().with_context(|| format!("SKEP_DEPLOYMENTS={number}")),
        Err(_) => Ok(if std::env::var_os("SKEP_LONG").is_some() { 100 } else { 10 }),
    }
}

fn polite(version: u32) -> Value {
    with(web(version), json!({ "x-skep": { "drain_timeout": format!("{}s", DRAIN.as_secs()) } }))
}

#[test]
fn no_request_is_lost_and_what_is_held_open_ends_at_the_deadline() -> Result<()> {
    let stack = Stack::start(Node::builder(), &polite(1))?;
    let (requests, datagrams) = (Requests::all(&stack, false), Requests::datagrams(&stack, SENDERS));
    requests.unharmed()?;
    let (begun, count) = (Instant::now(), deployments()?);
    for version in 2..=count + 1 {
        let held = Held::open(&stack.place, stack.http4(), version - 1)?;
        stack.up(&polite(version))?;
        requests.at_least(version);
        stack.serves_alone(version)?;
        let before = stack.row(version - 1)?;
        ensure!((before.state.as_str(), before.cut, before.serves) == ("superseded", 0, false), "{before:?}");
        requests.unharmed()?;
        datagrams.progress()?;
        let [four, _] = &requests.versions;
        let switched = four.first(version).context("nobody reached the new version")?;
        // It has ended when the old replicas are gone.
        let lasted = held.ended()?.saturating_duration_since(switched);
        ensure!(lasted >= DRAIN, "a held connection ended {lasted:?} after the switch to version {version}");
        println!("version {version}: a held connection lasted {lasted:?} after the switch");
    }
    println!("{count} deployments in {:?}", begun.elapsed());
    requests.end_unharmed()?;
    let lost: u64 = datagrams.end()?.iter().map(|tally: &Tally| tally.failures).sum();
    println!("{lost} datagrams lost");
    // Each sender is moved once by a deployment, with one datagram in flight.
    let in_flight = u64::from(count) * SENDERS as u64;
    ensure!(lost <= in_flight, "{lost} datagrams were lost, and {in_flight} were in flight");
    Ok(())
}

fn stubborn(version: u32) -> Value {
    with(web(version), json!({ "command": ["web", "stubborn"] }))
}

#[test]
fn who_asks_again_sees_nothing_of_a_server_that_ignores_sigterm_and_the_cut_are_counted() -> Result<()> {
    let stack = Stack::start(Node::builder(), &stubborn(1))?;
    let (broken, to) = (Arc::new(AtomicU64::new(0)), stack.http4());
    let mut requests = Requests::fresh(&stack, false);
    for _ in 0..KEPT {
        let broken = Arc::clone(&broken);
        requests.add(&stack, "kept, asked once more", move || Stubborn::new(to, &broken));
    }
    requests.unharmed()?;
    for version in 2..=deployments()? + 1 {
        let before = broken.load(Ordering::SeqCst);
        stack.up(&stubborn(version))?;
        requests.at_least(version);
        stack.serves_alone(version)?;
        requests.unharmed()?;
        let (told, felt) = (stack.row(version - 1)?.cut, broken.load(Ordering::SeqCst) - before);
        println!("version {version}: {told} connections cut, as skepctl says; {felt} as their clients say");
        ensure!(u64::from(told) == KEPT && felt == KEPT, "{KEPT} connections were open: {told} told, {felt} felt");
    }
    requests.end_unharmed()
}
