//! Every key of the Compose Specification and what becomes of it: the one table that the reader obeys and
//! that the documentation is made from.

mod rollout;
mod service;

pub(super) use rollout::{
    DEPLOY, HEALTHCHECK, PLACEMENT, RESOURCES, RESOURCES_LIMITS, RESOURCES_RESERVATIONS, ROLLBACK_CONFIG,
    UPDATE_CONFIG, X_SKEP, X_SKEP_HEALTH,
};
pub(super) use service::{ATTACHMENT, DEPENDENCY, ENV_FILE, MOUNT, MOUNT_VOLUME, SERVICE};

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It means what Compose says.
    Honoured,
    /// It is honoured; where it is not as Compose has it, or what a key of Skep's own means.
    Explained(&'static str),
    /// It changes nothing; why, as one note to the user.
    NoEffect(&'static str),
    /// Something else does its work; what, as one note to the user.
    Replaced(&'static str),
    /// The file is not applied: the reason, and the way out.
    Refused(&'static str, &'static str),
}

use Class::{Honoured, NoEffect, Refused};

/// The keys of one kind of mapping.
#[derive(Debug)]
pub struct Section {
    /// Where the mapping stands, `*` for any name.
    pub name: &'static str,
    /// Its keys, by name.
    pub keys: &'static [(&'static str, Class)],
}

impl Section {
    /// The key that was probably meant.
    pub(super) fn similar(&self, key: &str) -> Option<&'static str> {
        let near = self.keys.iter().map(|(name, _)| (distance(&key.to_ascii_lowercase(), name), *name)).min()?;
        (near.0 <= 2 && near.0 < near.1.len().min(key.len())).then_some(near.1)
    }
}

const LATER: &str = "is not supported yet";
const NO_LIMIT: &str = "no limit is set";
const HOST: &str = "would void the isolation between environments";
const REMOVE: &str = "remove it";
const OWN_DNS: &str = "the private network answers all names";

/// All sections.
pub const SECTIONS: [&Section; 19] = [
    &TOP,
    &SERVICE,
    &DEPLOY,
    &UPDATE_CONFIG,
    &PLACEMENT,
    &RESOURCES,
    &RESOURCES_LIMITS,
    &RESOURCES_RESERVATIONS,
    &ROLLBACK_CONFIG,
    &HEALTHCHECK,
    &ATTACHMENT,
    &MOUNT,
    &MOUNT_VOLUME,
    &DEPENDENCY,
    &ENV_FILE,
    &NETWORK,
    &VOLUME,
    &X_SKEP,
    &X_SKEP_HEALTH,
];

/// The file itself.
pub(super) static TOP: Section = Section {
    name: "",
    keys: &[
        ("configs", NoEffect("services can't use configs yet")),
        ("include", Refused(LATER, "copy the included file's services into this one")),
        ("models", Refused(LATER, REMOVE)),
        ("name", Honoured),
        ("networks", Honoured),
        ("secrets", NoEffect("services can't use secrets yet")),
        ("services", Honoured),
        ("version", NoEffect("the current Compose Specification is what is read")),
        ("volumes", Honoured),
    ],
};

/// A network.
pub(super) static NETWORK: Section = Section {
    name: "networks.*",
    keys: &[
        ("attachable", NoEffect("containers of others can't be attached")),
        ("driver", NoEffect("there are no network drivers here")),
        ("driver_opts", NoEffect("there are no network drivers here")),
        ("enable_ipv4", NoEffect("every network has IPv4")),
        ("enable_ipv6", NoEffect("every network has IPv6")),
        (
            "external",
            Refused(
                "a network belongs to its environment alone",
                "remove it; services that must reach each other go into one environment",
            ),
        ),
        ("internal", Honoured),
        ("ipam", NoEffect("addresses come from the nodes' pools")),
        ("labels", NoEffect("networks carry no labels")),
        ("name", NoEffect("a network's name means something only in its environment")),
    ],
};

/// A volume.
pub(super) static VOLUME: Section = Section {
    name: "volumes.*",
    keys: &[
        ("driver", Honoured),
        (
            "driver_opts",
            Refused("may mount any directory of the host", "remove it; the volume is a directory of Docker's"),
        ),
        (
            "external",
            Refused("a volume belongs to its environment alone", "remove it, and copy the data into the new volume"),
        ),
        ("labels", NoEffect("volumes have Skep's own labels")),
        ("name", NoEffect("Docker's name for it is <project>_<environment>_<volume>")),
    ],
};

/// Edits (a letter more, less, other, or swapped with its neighbour) between two short ASCII words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            let swap = if swapped { at(&rows, i.wrapping_sub(1), j - 1) + 1 } else { usize::MAX };
            let replace = at(&rows, i, j) + usize::from(x != y);
            let insert_or_delete = at(&rows, i, j + 1).min(row.last().copied().unwrap_or(usize::MAX)) + 1;
            row.push(replace.min(insert_or_delete).min(swap));
        }
        rows.push(row);
    }
    at(&rows, a.len(), b.len())
}

fn at(rows: &[Vec<usize>], row: usize, column: usize) -> usize {
    rows.get(row).and_then(|row| row.get(column)).copied().unwrap_or(usize::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_listed_once_and_in_order() {
        for section in SECTIONS {
            assert!(section.keys.is_sorted_by(|a, b| a.0 < b.0), "{}", section.name);
        }
    }

    #[test]
    fn the_key_that_was_meant_is_suggested() {
        let cases = [
            ("imgae", Some("image")),
            ("enviroment", Some("environment")),
            ("Image", Some("image")),
            ("depend_on", Some("depends_on")),
            ("port", Some("ports")),
            ("frobnicate", None),
            ("", None),
            ("x", None),
        ];
        for (key, similar) in cases {
            assert_eq!(SERVICE.similar(key), similar, "{key}");
        }
    }
}
