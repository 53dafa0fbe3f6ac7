//! What people type, and what becomes of it: one deployment after the other, and the way back.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::Node;
use tests::images::Image;

use crate::batches::{Event, Events, clock, events};
use crate::clients::version;
use crate::requests::Requests;
use crate::stack::{Stack, deployment_of, web, with};

#[test]
fn each_command_makes_the_deployment_that_it_says() -> Result<()> {
    let stack = Stack::start(Node::builder(), &web(1))?;
    let requests = Requests::all(&stack, true);
    requests.unharmed()?;
    stack.node.docker(&["tag", Image::Musl.tag(), "other:1"])?;
    stack.up(&web(2))?;
    let image = Image::Musl.tag();
    let steps: [(&[&str], u32, u32, &str); 4] = [
        (&["rollback", "web"], 3, 1, image),
        (&["rollback", "web", "--to", "2"], 4, 2, image),
        (&["deploy", "web"], 5, 2, image),
        (&["deploy", "web", "--image", "other:1"], 6, 2, "other:1"),
    ];
    for (command, deployment, answers, image) in steps {
        stack.must(command)?;
        stack.serves_alone(deployment)?;
        ensure!(version(&stack.place, stack.http4())? == answers, "{command:?}: another version answers");
        let row = stack.row(deployment)?;
        // What was pinned is named by what it turned out to be.
        ensure!(row.image == image || Some(&row.image) == row.digest.as_ref(), "{command:?}: {row:?}");
        requests.unharmed()?;
    }
    for replicas in ["5", "1", "3"] {
        stack.must(&["scale", "web", replicas])?;
        let there = stack.node.replicas()?.iter().filter(|replica| replica.service == "web").count();
        ensure!(there.to_string() == replicas, "{there} replicas instead of {replicas}");
        stack.serves_alone(6)?;
        requests.unharmed()?;
    }
    let states: Vec<String> = stack.history()?.into_iter().map(|row| row.state).collect();
    ensure!(states == ["superseded", "superseded", "superseded", "superseded", "superseded", "ready"], "{states:?}");
    let table = stack.must(&["history", "web"])?.stdout;
    ensure!(table.lines().count() == 7, "{table}");
    for (to, told) in [("99", "deployment 99 of shop/production/web is not known"), ("0", "is not known")] {
        let said = stack.skepctl(&["rollback", "web", "--to", to])?;
        ensure!(!said.success && said.stderr.contains(told), "{said:#?}");
    }
    requests.end_unharmed()
}

/// At no time are there workloads of so many versions.
fn never_together(events: &Events, already: &[(u32, u32)], versions: usize) -> Result<()> {
    let mut running: BTreeSet<(u32, u32)> = already.iter().copied().collect();
    for (_, event) in events {
        match *event {
            Event::Start(deployment, replica) => drop(running.insert((deployment, replica))),
            Event::Die(deployment, replica) => drop(running.remove(&(deployment, replica))),
        }
        let together: BTreeSet<u32> = running.iter().map(|(deployment, _)| *deployment).collect();
        ensure!(together.len() < versions, "versions {together:?} at once: {events:#?}");
    }
    Ok(())
}

#[test]
fn what_nobody_was_sent_to_is_given_up_for_what_is_asked_next() -> Result<()> {
    let stack = Stack::start(Node::builder(), &web(1))?;
    let requests = Requests::all(&stack, false);
    requests.unharmed()?;
    stack.send_up(&with(web(2), json!({ "deploy": { "update_config": { "monitor": "5m" } } })))?;
    stack.until(2, "is watched", |row| row.phase == "monitoring")?;
    stack.up(&web(3))?;
    stack.serves_alone(3)?;
    let given_up = stack.row(2)?;
    ensure!(given_up.state == "superseded" && !given_up.serves, "{given_up:?}");
    ensure!(requests.versions.iter().all(|versions| versions.first(2).is_none()), "version 2 answered");
    requests.unharmed()?;
    requests.end_unharmed()
}

#[test]
fn what_serves_in_part_goes_its_way_before_the_next_begins() -> Result<()> {
    let one_by_one = |version, delay: &str| {
        let update = json!({ "parallelism": 1, "delay": delay });
        with(web(version), json!({ "deploy": { "replicas": 2, "update_config": update } }))
    };
    let stack = Stack::start(Node::builder(), &one_by_one(1, "0s"))?;
    let requests = Requests::all(&stack, true);
    requests.unharmed()?;
    let since = clock(&stack)?;
    stack.send_up(&one_by_one(2, "10s"))?;
    stack.until(2, "pauses", |row| row.phase == "pausing")?;
    stack.send_up(&one_by_one(3, "0s"))?;
    let waits = stack.until(3, "is there", |_| true)?;
    let under_way = stack.row(2)?;
    ensure!((waits.state.as_str(), under_way.state.as_str()) == ("queued", "deploying"), "{waits:?} {under_way:?}");
    stack.up(&one_by_one(3, "0s"))?;
    stack.serves_alone(3)?;
    ensure!(stack.row(2)?.state == "superseded", "{:#?}", stack.history()?);
    never_together(&events(&stack, &since)?, &[(1, 1), (1, 2)], 3)?;
    requests.unharmed()?;
    requests.end_unharmed()
}

#[test]
fn what_failed_is_tried_again_when_it_is_asked_for_again_and_not_before() -> Result<()> {
    let stack = Stack::start(Node::builder(), &web(1))?;
    let requests = Requests::all(&stack, false);
    let late = with(web(2), json!({ "image": "127.0.0.1:1/late:1" }));
    ensure!(!stack.try_up(&late)?.success, "an image that is nowhere");
    // Now it is there, which skepd notices.
    stack.node.docker(&["tag", Image::Musl.tag(), "127.0.0.1:1/late:1"])?;
    requests.unharmed()?;
    let rows = stack.history()?;
    ensure!(rows.len() == 2 && rows[1].state == "failed" && !rows[1].serves, "{rows:#?}");
    stack.up(&late)?;
    stack.serves_alone(3)?;
    ensure!(stack.row(2)?.state == "failed", "{:#?}", stack.history()?);
    requests.unharmed()?;
    requests.end_unharmed()
}

/// Makes `app:1` anew, with this version in it; gives its id.
fn app(stack: &Stack, version: u32) -> Result<String> {
    let container = stack.node.docker(&["create", Image::Musl.tag()])?;
    let version = format!("ENV VERSION={version}");
    let id = stack.node.docker(&["commit", "--change", &version, "--change", "CMD [\"web\"]", &container, "app:1"])?;
    stack.node.docker(&["rm", &container])?;
    Ok(id)
}

/// What each workload of `web` was made of, by name.
fn bits(stack: &Stack) -> Result<BTreeMap<String, String>> {
    let names = stack.node.docker(&["ps", "--format", "{{.Names}}"])?;
    let workloads = names.lines().filter(|name| deployment_of(name).is_some() && !name.ends_with("-sandbox"));
    let image = |name: &str| Ok((name.to_owned(), stack.node.docker(&["inspect", "--format", "{{.Image}}", name])?));
    workloads.map(image).collect()
}

#[test]
fn an_image_stays_what_it_was_when_its_tag_moves() -> Result<()> {
    let stack = Stack::start(Node::builder(), &web(0))?;
    let plain: Value = with(web(0), json!({ "image": "app:1", "command": null, "environment": null }));
    let first = app(&stack, 1)?;
    stack.up(&plain)?;
    let mut requests = Requests::fresh(&stack, true);
    ensure!(version(&stack.place, stack.http4())? == 1, "the image's own version");
    let second = app(&stack, 2)?;
    let made = bits(&stack)?;
    ensure!(made.values().all(|image| *image == first) && first != second, "{first} {second} {made:?}");
    let name = made.keys().next().context("no workload")?;
    stack.node.docker(&["rm", "--force", name])?;
    tests::wait_for("the replica made again", crate::stack::PATIENCE, || {
        Ok((bits(&stack)?.len() == made.len()).then_some(()))
    })?;
    ensure!(bits(&stack)? == made, "{:?} instead of {made:?}", bits(&stack)?);
    // A request to the one that was removed may have failed.
    requests.progress()?;
    requests.end()?;
    requests = Requests::fresh(&stack, true);

    stack.must(&["deploy", "web"])?;
    ensure!(version(&stack.place, stack.http4())? == 2, "a deployment is of what the tag says then");
    stack.must(&["rollback", "web"])?;
    ensure!(version(&stack.place, stack.http4())? == 1, "the way back leads to the very bits");
    ensure!(bits(&stack)?.values().all(|image| *image == first), "{:?}", bits(&stack)?);
    requests.unharmed()?;

    stack.node.docker(&["rmi", "--force", &second])?;
    let (before, rows) = (stack.picture()?, stack.history()?.len());
    let said = stack.skepctl(&["rollback", "web", "--to", "3"])?;
    let told = said.stderr.contains(&second) && said.stderr.contains("not on this node any more");
    ensure!(!said.success && told, "{said:#?}");
    ensure!(stack.history()?.len() == rows, "{:#?}", stack.history()?);
    stack.until_as("nothing was begun", &before)?;
    requests.unharmed()?;
    requests.end_unharmed()
}
