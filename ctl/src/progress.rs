use std::collections::BTreeMap;

use dataplane::api::types::{DeploymentRow, WatchEvent};
use dataplane::model::rollout::Order;
use dataplane::model::{DeploymentState, Phase, ReplicaKey, ReplicaState, ReplicaStatus};

use crate::cell::{Cell, Tone, table};
use crate::error::CtlError;
use crate::output::Output;
use crate::replica;

/// What a replica last did, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Is(ReplicaState, Option<String>),
    Gone,
}

/// An environment on its way: a line a service that is drawn again on a terminal, a line a change elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    replicas: BTreeMap<ReplicaKey, Seen>,
    /// By service: what is being done.
    deployments: BTreeMap<String, String>,
    drawn: usize,
}

impl Progress {
    /// Shows what has changed.
    pub(crate) fn show(&mut self, event: &WatchEvent, output: &mut Output) -> Result<(), CtlError> {
        if output.is_json() {
            return output.json_line(event);
        }
        let (key, seen) = match event {
            WatchEvent::Replica(ReplicaStatus { key, state, message, .. }) => (key, Seen::Is(*state, message.clone())),
            WatchEvent::Gone(key) => (key, Seen::Gone),
            WatchEvent::Deployment(row) => return self.deployment(row, output),
            WatchEvent::Done { failed } => return report(failed, output),
        };
        if self.replicas.get(key) == Some(&seen) {
            return Ok(());
        }
        if !output.is_terminal() {
            output.line(&line(key, &seen))?;
        }
        self.replicas.insert(key.clone(), seen);
        if output.is_terminal() {
            self.draw(output)?;
        }
        output.flush()
    }

    /// Says what is being done about a deployment that replaces another.
    fn deployment(&mut self, row: &DeploymentRow, output: &mut Output) -> Result<(), CtlError> {
        let what = step(row);
        if self.deployments.insert(row.service.clone(), what.clone()) == Some(what.clone()) {
            return Ok(());
        }
        match output.is_terminal() {
            true => self.draw(output)?,
            false if !what.is_empty() => output.line(&format!("{}: {what}", row.service))?,
            false => {}
        }
        output.flush()
    }

    fn draw(&mut self, output: &mut Output) -> Result<(), CtlError> {
        output.take_back(self.drawn)?;
        let step = |service: &str| self.deployments.get(service).map_or("", String::as_str);
        let rows = self.services().into_iter().map(|(service, seen)| row(service, &seen, step(service)));
        let mut rows: Vec<_> = rows.collect();
        fit(&mut rows, output.width());
        // The header would be one of its own each time; people see what the columns are.
        let lines = table(&["", "", ""], &rows, output.is_colored());
        self.drawn = rows.len();
        lines.iter().skip(1).try_for_each(|line| output.line(line))
    }

    fn services(&self) -> BTreeMap<&str, Vec<&Seen>> {
        let mut services: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
        for (key, seen) in &self.replicas {
            services.entry(&key.service.service).or_default().push(seen);
        }
        services
    }
}

/// Cuts the last column so that no line is broken in two: a terminal's lines are counted when they are taken back.
fn fit(rows: &mut [Vec<Cell>], width: usize) {
    let taken = |row: &[Cell]| row.iter().rev().skip(1).map(|cell| cell.text.chars().count() + 2).collect::<Vec<_>>();
    let columns =
        rows.iter().map(|row| taken(row)).reduce(|a, b| a.into_iter().zip(b).map(|(a, b)| a.max(b)).collect());
    let room = width.saturating_sub(columns.unwrap_or_default().iter().sum());
    for cell in rows.iter_mut().filter_map(|row| row.last_mut()).filter(|cell| cell.text.chars().count() > room) {
        cell.text = cell.text.chars().take(room.saturating_sub(1)).chain(['…']).collect();
    }
}

/// What is being done about a deployment that takes the place of another, for people; nothing about the first.
fn step(row: &DeploymentRow) -> String {
    let number = row.deployment;
    let order = match row.order {
        Order::StartFirst => "beside the one before",
        Order::StopFirst => "after the one before has stopped: two must not write to one volume",
    };
    match (row.state, row.phase) {
        (DeploymentState::Queued, _) => format!("deployment {number} waits for the one before"),
        (DeploymentState::Deploying, Phase::Releasing) => format!("deployment {number}: its release task runs"),
        (DeploymentState::Deploying, _) if number == 1 => String::new(),
        (DeploymentState::Deploying, _) if row.reason.is_some() => format!("deployment {number} failed: going back"),
        (DeploymentState::Deploying, Phase::Preparing | Phase::Starting) => {
            format!("deployment {number} starts {order}")
        }
        (DeploymentState::Deploying, Phase::Monitoring) => format!("deployment {number} is well; will it stay so?"),
        (DeploymentState::Deploying, Phase::Switching | Phase::Settling) => {
            format!("clients are sent to deployment {number}")
        }
        (DeploymentState::Deploying, Phase::Draining) => "the old replicas end".into(),
        (DeploymentState::Deploying, Phase::Pausing) => "the next batch waits".into(),
        (DeploymentState::Deploying, Phase::Paused | Phase::Over) => String::new(),
        (DeploymentState::Ready, _) if number == 1 => String::new(),
        (DeploymentState::Ready, _) => format!("deployment {number} serves"),
        (DeploymentState::Failed, _) => format!("deployment {number} failed"),
        (DeploymentState::Superseded, _) => format!("deployment {number} was given up"),
    }
}

/// `api  2/2 running`, or where the slowest one stands and why, and what is being done about its deployment.
fn row(service: &str, seen: &[&Seen], step: &str) -> Vec<Cell> {
    let running = seen.iter().filter(|seen| matches!(seen, Seen::Is(ReplicaState::Running, _))).count();
    let others = seen.iter().filter(|seen| !matches!(seen, Seen::Is(ReplicaState::Running, _)));
    // One that failed matters more than one that is on its way.
    let worst = others.max_by_key(|seen| matches!(seen, Seen::Is(ReplicaState::Failed, _)));
    let state = match worst {
        None => Cell::new("running").tone(Tone::Good),
        Some(Seen::Is(state, _)) => Cell::new(state).tone(replica::tone(*state)),
        Some(Seen::Gone) => Cell::new("gone").tone(Tone::Dim),
    };
    let message = match worst {
        Some(Seen::Is(_, Some(message))) => message.as_str(),
        _ => "",
    };
    vec![
        Cell::new(service),
        Cell::new(format!("{running}/{}", seen.len())),
        Cell::new(
            [state.text.as_str(), message, step]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join("  "),
        )
        .tone(state.tone),
    ]
}

fn line(key: &ReplicaKey, seen: &Seen) -> String {
    let name = format!("{}.{}.{}", key.service.service, key.deployment, key.replica);
    match seen {
        Seen::Gone => format!("{name} gone"),
        Seen::Is(state, None) => format!("{name} {state}"),
        Seen::Is(state, Some(message)) => format!("{name} {state}: {message}"),
    }
}

/// The last word, on standard error: what does not serve, and why.
fn report(failed: &BTreeMap<String, String>, output: &mut Output) -> Result<(), CtlError> {
    output.flush()?;
    for (name, why) in failed {
        output.note(&format!("{name}: {why}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_the_terminal() {
        let mut rows = vec![
            vec![Cell::new("api"), Cell::new("1/1"), Cell::new("running")],
            vec![Cell::new("postgres"), Cell::new("0/1"), Cell::new("failed for a long reason")],
        ];
        fit(&mut rows, 30);
        let lines = table(&["", "", ""], &rows, false);
        assert_eq!(lines[1..], ["api       1/1  running", "postgres  0/1  failed for a l…"]);
    }
}
