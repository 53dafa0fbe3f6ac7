//! Every key of the Compose Specification and what becomes of it: the one table that the reader obeys and
//! that the documentation is made from.

mod rollout;
mod service;

pub(super) use rollout::{
    DEPLOY, HEALTHCHECK, PLACEMENT, RESOURCES, RESOURCES_LIMITS, RESOURCES_RESERVATIONS, ROLLBACK_CONFIG,
    UPDATE_CONFIG, X_SKEP, X_SKEP_HEALTH,
};
pub(super) use service::{
    ATTACHMENT, DEPENDENCY, ENV_FILE, EXTENDS, FILE, LOGGING, MOUNT, MOUNT_BIND, MOUNT_TMPFS, MOUNT_VOLUME, SERVICE,
    ULIMIT,
};

use crate::model::typo;

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

use Class::{Explained, Honoured, NoEffect, Refused};

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
        typo::meant(key, self.keys.iter().map(|(name, _)| *name))
    }
}

const LATER: &str = "is not supported yet";
const NO_LIMIT: &str = "no limit is set";
const HOST: &str = "would void the isolation between environments";
const REMOVE: &str = "remove it";
const OWN_DNS: &str = "the private network answers all names";

/// All sections.
pub const SECTIONS: [&Section; 28] = [
    &TOP,
    &INCLUDE,
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
    &MOUNT_BIND,
    &MOUNT_TMPFS,
    &MOUNT_VOLUME,
    &FILE,
    &DEPENDENCY,
    &ENV_FILE,
    &EXTENDS,
    &LOGGING,
    &ULIMIT,
    &NETWORK,
    &VOLUME,
    &CONFIG,
    &SECRET,
    &X_SKEP,
    &X_SKEP_HEALTH,
];

/// The file itself.
pub(super) static TOP: Section = Section {
    name: "",
    keys: &[
        ("configs", Honoured),
        ("include", Honoured),
        ("models", Refused(LATER, REMOVE)),
        ("name", Honoured),
        ("networks", Honoured),
        ("secrets", Honoured),
        ("services", Honoured),
        ("version", NoEffect("the current Compose Specification is what is read")),
        ("volumes", Honoured),
    ],
};

/// Another project's files.
pub(super) static INCLUDE: Section =
    Section { name: "include[]", keys: &[("env_file", Honoured), ("path", Honoured), ("project_directory", Honoured)] };

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
            Refused(
                "a volume belongs to its environment alone",
                "remove it, and copy the data into the new volume, <project>_<environment>_<volume>",
            ),
        ),
        ("labels", NoEffect("volumes have Skep's own labels")),
        ("name", NoEffect("Docker's name for it is <project>_<environment>_<volume>")),
    ],
};

const ELSEWHERE: &str = "is kept outside of this file, where nobody can read it";

/// A config.
pub(super) static CONFIG: Section = Section {
    name: "configs.*",
    keys: &[
        ("content", Honoured),
        ("environment", Honoured),
        ("external", Refused(ELSEWHERE, "name a file:, or write content:")),
        ("file", Explained("read where skepctl runs; up to 512 KiB")),
        ("labels", NoEffect("configs carry no labels")),
        ("name", NoEffect("a config's name means something only in its environment")),
        ("template_driver", Refused(LATER, "write the file as it is to be")),
    ],
};

/// A secret.
pub(super) static SECRET: Section = Section {
    name: "secrets.*",
    keys: &[
        ("driver", Refused(LATER, "name a file: or a variable in environment:")),
        ("driver_opts", Refused(LATER, "name a file: or a variable in environment:")),
        ("environment", Honoured),
        ("external", Refused(ELSEWHERE, "name a file: or a variable in environment:")),
        ("file", Explained("read where skepctl runs; up to 512 KiB, and sealed in the store")),
        ("labels", NoEffect("secrets carry no labels")),
        ("name", NoEffect("a secret's name means something only in its environment")),
        ("template_driver", Refused(LATER, "write the file as it is to be")),
    ],
};

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
