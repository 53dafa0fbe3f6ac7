//! `deploy.update_config` and `deploy.rollback_config`.

use super::duration;
use super::keys::{ROLLBACK_CONFIG, Section, UPDATE_CONFIG};
use super::reader::{Field, Reader, join};
use super::yaml::Node;
use crate::model::ServiceSpec;
use crate::model::rollout::{FailureAction, Order, Rollout};

/// How an update goes.
pub(super) fn update(reader: &mut Reader<'_>, node: &Node, path: &str, place: &str) -> Rollout {
    read(reader, node, path, &join(place, "update_config"), &UPDATE_CONFIG, Rollout::default())
}

/// How it is taken back.
pub(super) fn rollback(reader: &mut Reader<'_>, node: &Node, path: &str, place: &str) -> Rollout {
    read(reader, node, path, &join(place, "rollback_config"), &ROLLBACK_CONFIG, Rollout::back())
}

fn read(
    reader: &mut Reader<'_>,
    node: &Node,
    path: &str,
    place: &str,
    section: &'static Section,
    mut rollout: Rollout,
) -> Rollout {
    for field in reader.placed(node, path, place, section) {
        let Field { node, path, .. } = &field;
        match field.key {
            "parallelism" => rollout.parallelism = reader.number(node, path).unwrap_or(rollout.parallelism),
            "order" => rollout.order = order(reader, node, path).unwrap_or(rollout.order),
            "failure_action" => {
                rollout.failure_action = failure_action(reader, node, path).unwrap_or(rollout.failure_action);
            }
            "monitor" => duration::read(reader, node, path, &mut rollout.monitor),
            _ => duration::read(reader, node, path, &mut rollout.delay),
        }
    }
    rollout
}

fn order(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<Order> {
    match reader.optional(node, path)?.as_str() {
        "start-first" => Some(Order::StartFirst),
        "stop-first" => Some(Order::StopFirst),
        other => {
            reader.error(node.at, path, format!("{other:?} is no order"), "use start-first or stop-first");
            None
        }
    }
}

fn failure_action(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<FailureAction> {
    match reader.optional(node, path)?.as_str() {
        "rollback" => Some(FailureAction::Rollback),
        "pause" => Some(FailureAction::Pause),
        "continue" => Some(FailureAction::Continue),
        other => {
            let what = format!("{other:?} is nothing to do after a failure");
            reader.error(node.at, path, what, "use rollback (of an update), pause or continue");
            None
        }
    }
}

/// A file that asks for start-first where it can't be is told so.
pub(super) fn note_order(reader: &mut Reader<'_>, spec: &ServiceSpec, path: &str, place: &str) {
    let Some(mount) = spec.writable() else { return };
    for (config, rollout) in [("update_config", &spec.update), ("rollback_config", &spec.rollback)] {
        let key = format!("deploy.{config}.order");
        if let Some(at) = reader.places.get(&join(place, &key)).copied()
            && rollout.order == Order::StartFirst
        {
            let what = format!(
                "has no effect: two replicas must never write to the volume {}, so the old one stops first",
                mount.volume
            );
            reader.note(at, &join(path, &key), what, "mount it with :ro if the service only reads");
        }
    }
}
