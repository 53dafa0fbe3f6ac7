//! Where replicas may be: `deploy.placement`.

use super::keys::PLACEMENT;
use super::reader::{Field, Reader, join};
use super::yaml::Node;
use crate::model::{Constraint, Placement};

/// Reads it.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, path: &str, place: &str) -> Placement {
    let mut placement = Placement::default();
    for field in reader.placed(node, path, &join(place, "placement"), &PLACEMENT) {
        let Field { node, path, .. } = &field;
        match field.key {
            "constraints" => {
                for item in reader.list(node, path, false) {
                    placement.constraints.extend(constraint(reader, item, path));
                }
            }
            // Compose's 0 is no limit.
            _ if !node.is_empty() => placement.max_per_node = reader.number(node, path).filter(|max| *max > 0),
            _ => {}
        }
    }
    placement
}

fn constraint(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<Constraint> {
    match reader.text(node, path)?.parse() {
        Ok(constraint) => Some(constraint),
        Err(error) => {
            reader.error(node.at, path, error.what, error.remedy);
            None
        }
    }
}
