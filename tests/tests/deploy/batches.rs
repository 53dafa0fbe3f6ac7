//! In which order replicas come and go, as Docker's own events tell it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::Node;

use crate::requests::Requests;
use crate::stack::{Stack, deployment_of, web, with};

/// A workload of `web` came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    Start(u32, u32),
    Die(u32, u32),
}
use Event::{Die, Start};

/// When, since the epoch, and what.
pub(crate) type Events = Vec<(Duration, Event)>;

/// The engine's time, to be given back to it.
pub(crate) fn clock(stack: &Stack) -> Result<String> {
    stack.node.run(&["date", "+%s.%N"])
}

/// What happened since.
pub(crate) fn events(stack: &Stack, since: &str) -> Result<Events> {
    let until = clock(stack)?;
    let mut command = vec!["events", "--since", since, "--until", &until, "--filter", "type=container"];
    command.extend(["--filter", "event=start", "--filter", "event=die"]);
    command.extend(["--format", "{{.TimeNano}} {{.Action}} {{.Actor.Attributes.name}}"]);
    let said = stack.node.docker(&command)?;
    said.lines().filter(|line| !line.ends_with("-sandbox")).filter_map(|line| event(line).transpose()).collect()
}

fn event(line: &str) -> Result<Option<(Duration, Event)>> {
    let [time, action, name] = line.split(' ').collect::<Vec<_>>()[..] else { anyhow::bail!("an event: {line:?}") };
    let Some(deployment) = deployment_of(name) else { return Ok(None) };
    let replica = name.rsplit('-').next().context("a replica")?.parse()?;
    let event = if action == "start" { Start(deployment, replica) } else { Die(deployment, replica) };
    Ok(Some((Duration::from_nanos(time.parse()?), event)))
}

fn order(events: &Events) -> Vec<Event> {
    events.iter().map(|(_, event)| *event).collect()
}

#[test]
fn one_at_a_time_with_a_pause_replaces_one_replica_after_the_other() -> Result<()> {
    const DELAY: Duration = Duration::from_secs(2);
    let one_by_one = |version| {
        let delay = format!("{}s", DELAY.as_secs());
        with(web(version), json!({ "deploy": { "update_config": { "parallelism": 1, "delay": delay } } }))
    };
    let stack = Stack::start(Node::builder(), &one_by_one(1))?;
    let requests = Requests::all(&stack, true);
    requests.unharmed()?;
    let since = clock(&stack)?;
    stack.up(&one_by_one(2))?;
    requests.at_least(2);
    stack.serves_alone(2)?;
    let events = events(&stack, &since)?;
    let expected = [Start(2, 1), Die(1, 1), Start(2, 2), Die(1, 2), Start(2, 3), Die(1, 3)];
    ensure!(order(&events) == expected, "{events:#?}");
    for pair in [&events[1..3], &events[3..5]] {
        let pause = pair[1].0.saturating_sub(pair[0].0);
        ensure!(pause >= DELAY, "the next batch began {pause:?} after the one before: {events:#?}");
    }
    requests.unharmed()?;
    requests.end_unharmed()
}

#[test]
fn two_at_a_time_of_three_are_two_batches() -> Result<()> {
    let by_two = |version| {
        with(
            web(version),
            json!({ "deploy": { "replicas": 3, "update_config": { "parallelism": 2, "monitor": "0s" } } }),
        )
    };
    let stack = Stack::start(Node::builder(), &by_two(1))?;
    let requests = Requests::all(&stack, true);
    requests.unharmed()?;
    let since = clock(&stack)?;
    stack.up(&by_two(2))?;
    stack.serves_alone(2)?;
    let events = order(&events(&stack, &since)?);
    let set = |events: &[Event]| events.iter().copied().collect::<BTreeSet<_>>();
    let batches = [vec![Start(2, 1), Start(2, 2)], vec![Die(1, 1), Die(1, 2)], vec![Start(2, 3)], vec![Die(1, 3)]];
    let mut rest = events.as_slice();
    for batch in batches {
        let (these, others) = rest.split_at_checked(batch.len()).with_context(|| format!("{events:?}"))?;
        ensure!(set(these) == set(&batch), "{batch:?} in {events:?}");
        rest = others;
    }
    ensure!(rest.is_empty(), "{rest:?} beside the batches");
    requests.end_unharmed()
}

#[test]
fn what_writes_to_a_volume_is_never_there_twice_and_skepctl_says_so() -> Result<()> {
    let volume = |version, more: Value| {
        let one = with(web(version), json!({ "volumes": ["data:/data"], "deploy": { "replicas": 1 } }));
        with(one, more)
    };
    let stack = Stack::start(Node::builder(), &volume(1, json!({})))?;
    let since = clock(&stack)?;
    let said = stack.up(&volume(2, json!({})))?;
    ensure!(said.stdout.contains("two must not write to one volume"), "{said:#?}");
    stack.serves_alone(2)?;
    ensure!(order(&events(&stack, &since)?) == [Die(1, 1), Start(2, 1)], "{:?}", events(&stack, &since)?);

    // The way back is one after the other, too.
    let since = clock(&stack)?;
    let sick = json!({ "command": ["web", "sick=0"], "x-skep": { "health": "/health", "start_timeout": "3s" } });
    let said = stack.try_up(&volume(3, sick))?;
    ensure!(!said.success && said.stderr.contains("GET /health: 503"), "{said:#?}");
    let expected = [Die(2, 1), Start(3, 1), Die(3, 1), Start(2, 1)];
    ensure!(order(&events(&stack, &since)?) == expected, "{:?}", events(&stack, &since)?);
    ensure!(stack.present()? == [2], "{:?}", stack.present()?);
    ensure!(stack.row(2)?.serves && stack.row(3)?.state == "failed", "{:#?}", stack.history()?);
    let requests = Requests::all(&stack, false);
    requests.unharmed()?;
    requests.end_unharmed()
}
