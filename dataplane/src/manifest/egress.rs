//! Where a service may go beyond the cluster: `x-skep.egress`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::reader::Reader;
use super::yaml::{Node, Value};

/// Reads the list; an empty one means nowhere.
pub(super) fn egress(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<BTreeSet<IpNet>> {
    if matches!(node.value, Value::Null) {
        // A key whose lines are all commented out, or that nobody finished: neither must open anything.
        reader.error(node.at, path, "is empty", "write [] for nowhere, or leave the key out for everywhere");
        return None;
    }
    let items = reader.list(node, path, true);
    Some(items.iter().filter_map(|item| prefix(reader, item, path)).collect())
}

fn prefix(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<IpNet> {
    let text = reader.text(node, path)?;
    let (what, remedy) = match text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
        Ok(prefix) if prefix.trunc() == prefix => return Some(prefix),
        Ok(prefix) => {
            let remedy = format!("write {} for the network, or {} for the address", prefix.trunc(), prefix.addr());
            (format!("{text} is an address in a network"), remedy)
        }
        Err(_) => (
            format!("{text:?} is neither an address nor a prefix such as 198.51.100.0/24"),
            "names are not known where packets are decided about: write the addresses".to_owned(),
        ),
    };
    reader.error(node.at, path, what, remedy);
    None
}
