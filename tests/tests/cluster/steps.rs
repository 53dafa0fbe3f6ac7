//! Nodes that come, go, are cut off and change their keys while people deploy, at random: whatever happened, each node's
//! maps are what the store says, once it has settled. `SKEP_STEPS` (50; 1,000 with `SKEP_LONG`), `SKEP_SEED`.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tests::dice::{self, Dice};
use tests::images::Image;
use tests::{Cluster, Node, wait_for};

use super::scene;
use super::stored::Stored;

/// How long it may take until all is as it should be: a lease, the wait for one that may come back, a deployment.
const PATIENCE: Duration = Duration::from_secs(90);
/// A cluster is never smaller or larger.
const NODES: std::ops::RangeInclusive<usize> = 2..=4;
const PROJECTS: [&str; 2] = ["shop", "blog"];
const REPLICAS: usize = 5;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Another number of replicas.
    Scale,
    /// Another version.
    Deploy,
    /// An environment goes, or comes.
    Environment,
    /// A daemon is killed, and started again.
    Kill,
    /// A cable is pulled, not for long enough that anybody notices.
    Flap,
    /// A cable is pulled until the others know, and put back.
    Partition,
    /// A node changes its key.
    Rotate,
    /// One more node.
    Join,
    /// A machine burns, and is forgotten.
    Burn,
}

/// Each as often as it is here: what takes long is rare.
const STEPS: [Step; 16] = [
    Step::Scale,
    Step::Scale,
    Step::Scale,
    Step::Scale,
    Step::Deploy,
    Step::Deploy,
    Step::Deploy,
    Step::Environment,
    Step::Environment,
    Step::Kill,
    Step::Kill,
    Step::Flap,
    Step::Flap,
    Step::Rotate,
    Step::Rotate,
    Step::Partition,
];

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{self:?}").to_lowercase())
    }
}

struct World {
    cluster: Cluster,
    dice: Dice,
    /// By project: replicas and version; none: it is not there.
    wanted: [Option<(usize, usize)>; PROJECTS.len()],
}

#[test]
fn whatever_happens_the_maps_are_what_the_store_says() -> Result<()> {
    let usual = if std::env::var_os("SKEP_LONG").is_some() { 1_000 } else { 50 };
    let (steps, seed) = (dice::number("SKEP_STEPS")?.unwrap_or(usual), dice::seed()?);
    println!("SKEP_SEED={seed} SKEP_STEPS={steps}");
    let cluster = scene::cluster(*NODES.start() + 1, &[Image::Busybox])?;
    let mut world = World { cluster, dice: Dice::new(seed), wanted: [None; PROJECTS.len()] };
    for project in 0..PROJECTS.len() {
        world.up(project, 2, 0)?;
    }
    world.settles("the beginning")?;
    for number in 1..=steps {
        // One in 16 changes who is there.
        let step = match world.dice.below(STEPS.len() + 1) {
            chosen if chosen < STEPS.len() => STEPS[chosen],
            _ if world.cluster.nodes().len() == *NODES.start() => Step::Join,
            _ if world.cluster.nodes().len() == *NODES.end() => Step::Burn,
            _ => [Step::Join, Step::Burn][world.dice.below(2)],
        };
        let begun = Instant::now();
        let what = world.take(step).with_context(|| format!("step {number}, {step}, with SKEP_SEED={seed}"))?;
        let done = begun.elapsed();
        world.settles(&format!("step {number}, {what}, with SKEP_SEED={seed}"))?;
        println!("{number:>5} {step:<12} {done:>7.1?} settled after {:>7.1?}  {what}", begun.elapsed() - done);
    }
    Ok(())
}

impl World {
    /// Takes a step; gives what it was.
    fn take(&mut self, step: Step) -> Result<String> {
        let project = self.dice.below(PROJECTS.len());
        let (replicas, version) = self.wanted[project].unwrap_or((0, 0));
        let chosen = self.dice.below(self.cluster.nodes().len());
        let name = |node: &Node| node.machine().name().to_owned();
        match step {
            Step::Scale => {
                let replicas = 1 + self.dice.below(REPLICAS);
                self.up(project, replicas, version)?;
                Ok(format!("{} with {replicas}", PROJECTS[project]))
            }
            Step::Deploy => {
                self.up(project, replicas.max(1), version + 1)?;
                Ok(format!("version {} of {}", version + 1, PROJECTS[project]))
            }
            Step::Environment if self.wanted[project].is_some() => {
                self.anyone().down(PROJECTS[project], "production")?;
                self.wanted[project] = None;
                Ok(format!("{} goes", PROJECTS[project]))
            }
            Step::Environment => {
                self.up(project, 2, version)?;
                Ok(format!("{} comes", PROJECTS[project]))
            }
            Step::Kill => {
                let node = &self.cluster.nodes()[chosen];
                node.kill_skepd()?;
                node.start_skepd()?;
                Ok(name(node))
            }
            Step::Flap => {
                let node = &self.cluster.nodes()[chosen];
                scene::cable(&self.cluster, node, "down")?;
                scene::cable(&self.cluster, node, "up")?;
                Ok(name(node))
            }
            Step::Partition => {
                let node = &self.cluster.nodes()[chosen];
                let other = &self.cluster.nodes()[(chosen + 1) % self.cluster.nodes().len()];
                scene::cable(&self.cluster, node, "down")?;
                is(other, &name(node), "away")?;
                scene::cable(&self.cluster, node, "up")?;
                // Until it is heard of again, it rightly refuses changes: and the next step may ask it for one.
                is(other, &name(node), "ready")?;
                Ok(name(node))
            }
            Step::Rotate => {
                let node = name(&self.cluster.nodes()[chosen]);
                self.anyone().skepctl(&["nodes", "rotate-key", &node])?;
                Ok(node)
            }
            Step::Join => {
                self.cluster.join(&[])?;
                let node = self.cluster.nodes().last().context("it has joined")?;
                node.load(&[Image::Busybox])?;
                Ok(name(node))
            }
            Step::Burn => {
                let burnt = self.cluster.burn(chosen);
                is(self.anyone(), &burnt, "away")?;
                self.anyone().skepctl(&["nodes", "remove", &burnt])?;
                Ok(burnt)
            }
        }
    }

    fn up(&mut self, project: usize, replicas: usize, version: usize) -> Result<()> {
        let compose = format!(
            "services:\n  web: {{image: 'busybox:latest', command: [sleep, inf], environment: {{VERSION: '{version}'}}, \
             stop_grace_period: 1s, deploy: {{replicas: {replicas}, update_config: {{monitor: 1s}}}}}}\n"
        );
        self.anyone().up(PROJECTS[project], "production", &compose)?;
        self.wanted[project] = Some((replicas, version));
        Ok(())
    }

    /// Whoever is asked, it is the same.
    fn anyone(&mut self) -> &Node {
        let nodes = self.cluster.nodes().len();
        &self.cluster.nodes()[self.dice.below(nodes)]
    }

    /// Waits until everybody's maps are what the store says, and the store what is wanted.
    fn settles(&self, what: &str) -> Result<()> {
        let mut why = None;
        let settled = wait_for(&format!("what was wanted, after {what}"), PATIENCE, || {
            let looked = self.is_settled();
            let settled = looked.is_ok();
            why = looked.err();
            Ok(settled.then_some(()))
        });
        settled.with_context(|| format!("{:#}", why.unwrap_or_else(|| anyhow::anyhow!("it was not looked at"))))
    }

    fn is_settled(&self) -> Result<()> {
        let stored = Stored::read(&self.cluster)?;
        stored.must_be_settled()?;
        let wanted: usize = self.wanted.iter().flatten().map(|(replicas, _)| replicas).sum();
        let nodes = self.cluster.nodes();
        let there: usize = nodes.iter().map(|node| stored.replicas_on(node.machine().name())).sum();
        ensure!(there == wanted, "{there} replicas where {wanted} are wanted");
        nodes.iter().try_for_each(|node| stored.must_be_in(node))
    }
}

/// Waits until a node stands so, for another one.
fn is(told: &Node, node: &str, state: &str) -> Result<()> {
    wait_for(&format!("{node} to be {state}"), Duration::from_secs(30), || {
        Ok((scene::row_of(told, node)?["state"] == state).then_some(()))
    })
}
