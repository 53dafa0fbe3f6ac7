//! Every key of the Compose Specification and what becomes of it: the one table that the reader obeys and
//! that the documentation is made from.

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It means what Compose says.
    Honoured,
    /// It changes nothing; why, as one note to the user.
    NoEffect(&'static str),
    /// Something else does its work; what, as one note to the user.
    Replaced(&'static str),
    /// The file is not applied: the reason, and the way out.
    Refused(&'static str, &'static str),
}

use Class::{Honoured, NoEffect, Refused, Replaced};

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
pub const SECTIONS: [&Section; 11] =
    [&TOP, &SERVICE, &DEPLOY, &ATTACHMENT, &MOUNT, &MOUNT_VOLUME, &DEPENDENCY, &ENV_FILE, &NETWORK, &VOLUME, &X_SKEP];

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

/// A service.
pub(super) static SERVICE: Section = Section {
    name: "services.*",
    keys: &[
        ("annotations", NoEffect("annotations are not passed on")),
        ("attach", NoEffect("logs are never attached to the terminal")),
        ("blkio_config", NoEffect(NO_LIMIT)),
        ("build", Replaced("build the image with docker build, and name it in image")),
        (
            "cap_add",
            Refused(
                "gives the container powers that are not passed on (and SYS_ADMIN, BPF and their like void isolation)",
                "remove it; NET_BIND_SERVICE, CHOWN and the rest of Docker's default set are there anyway",
            ),
        ),
        (
            "cap_drop",
            Refused("is not passed on yet, and the container would have more powers than the file says", REMOVE),
        ),
        ("cgroup", Refused(HOST, REMOVE)),
        ("cgroup_parent", Refused(HOST, REMOVE)),
        ("command", Honoured),
        ("configs", Refused(LATER, "use a named volume or environment variables")),
        ("container_name", NoEffect("containers are named by node, project, environment, service and replica")),
        ("cpu_count", NoEffect(NO_LIMIT)),
        ("cpu_percent", NoEffect(NO_LIMIT)),
        ("cpu_period", NoEffect(NO_LIMIT)),
        ("cpu_quota", NoEffect(NO_LIMIT)),
        ("cpu_rt_period", NoEffect(NO_LIMIT)),
        ("cpu_rt_runtime", NoEffect(NO_LIMIT)),
        ("cpu_shares", NoEffect(NO_LIMIT)),
        ("cpus", NoEffect(NO_LIMIT)),
        ("cpuset", NoEffect(NO_LIMIT)),
        ("credential_spec", Refused("is for Windows containers", REMOVE)),
        ("depends_on", Honoured),
        ("deploy", Honoured),
        ("develop", NoEffect("nothing is watched or rebuilt")),
        ("device_cgroup_rules", Refused(HOST, REMOVE)),
        ("devices", Refused("gives the container devices of the host and would void isolation", REMOVE)),
        ("dns", NoEffect(OWN_DNS)),
        ("dns_opt", NoEffect(OWN_DNS)),
        ("dns_search", NoEffect(OWN_DNS)),
        ("domainname", NoEffect("the host name is the service and the number of the replica")),
        ("entrypoint", Honoured),
        ("env_file", Honoured),
        ("environment", Honoured),
        ("expose", NoEffect("every port that a service listens on is reachable in its networks")),
        ("extends", Refused(LATER, "write the keys out, or share them with YAML's << and anchors")),
        ("external_links", Refused("crosses the boundary of the environment", "put the service into this file")),
        ("extra_hosts", Refused(LATER, "use the name of a service, or an alias under its networks")),
        ("gpus", Refused("gives the container devices of the host and would void isolation", REMOVE)),
        ("group_add", Refused(LATER, "name the group in user, as in \"1000:1000\"")),
        ("healthcheck", NoEffect("the image's own health check is used; a replica serves as soon as it runs")),
        ("hostname", NoEffect("the host name is the service and the number of the replica")),
        ("image", Honoured),
        ("init", NoEffect("no init process is added")),
        ("ipc", Refused("shares memory outside of the container and would void isolation", REMOVE)),
        ("isolation", Refused("is for Windows containers", REMOVE)),
        ("label_file", Refused(LATER, "write the labels into labels")),
        ("labels", Honoured),
        (
            "links",
            Replaced("services of one network reach each other by name; give further names as aliases under networks"),
        ),
        ("logging", NoEffect("Docker's default log driver is used")),
        ("mac_address", NoEffect("MAC addresses are assigned")),
        ("mem_limit", NoEffect(NO_LIMIT)),
        ("mem_reservation", NoEffect(NO_LIMIT)),
        ("mem_swappiness", NoEffect(NO_LIMIT)),
        ("memswap_limit", NoEffect(NO_LIMIT)),
        ("models", Refused(LATER, REMOVE)),
        (
            "network_mode",
            Refused(
                "would put the service outside of its private network",
                "remove it; use networks, with internal: true for one without a way out",
            ),
        ),
        ("networks", Honoured),
        ("oom_kill_disable", NoEffect(NO_LIMIT)),
        ("oom_score_adj", NoEffect(NO_LIMIT)),
        ("pid", Refused("shows the container processes outside of it and would void isolation", REMOVE)),
        ("pids_limit", NoEffect(NO_LIMIT)),
        ("platform", NoEffect("the node's own platform is used")),
        (
            "ports",
            Replaced(
                "nothing is published on the node; other services reach every port, and the internet reaches services with x-skep type: web through the ingress",
            ),
        ),
        ("post_start", Refused(LATER, "do it in the image's entrypoint")),
        ("pre_stop", Refused(LATER, "handle SIGTERM in the service")),
        (
            "privileged",
            Refused(HOST, "remove it; the service gets NET_RAW and Docker's other default capabilities anyway"),
        ),
        ("profiles", Honoured),
        ("provider", Refused(LATER, REMOVE)),
        ("pull_policy", NoEffect("images are pulled when the node lacks them")),
        (
            "read_only",
            Refused("is not passed on yet, and the container would have more powers than the file says", REMOVE),
        ),
        ("restart", Honoured),
        ("runtime", Refused("Docker's default runtime is the one that is used", REMOVE)),
        ("scale", Honoured),
        ("secrets", Refused(LATER, "use environment or env_file")),
        ("security_opt", Refused("changes what confines the container and is not passed on", REMOVE)),
        ("shm_size", NoEffect("Docker's default of 64 MiB is used")),
        ("stdin_open", NoEffect("nobody is attached to a service")),
        ("stop_grace_period", NoEffect("Docker's default of 10 seconds is used")),
        ("stop_signal", NoEffect("the image's own stop signal is used")),
        ("storage_opt", NoEffect(NO_LIMIT)),
        ("sysctls", Refused(LATER, REMOVE)),
        ("tmpfs", Refused(LATER, "remove it, or use a named volume")),
        ("tty", NoEffect("nobody is attached to a service")),
        ("ulimits", NoEffect("Docker's default limits are used")),
        ("use_api_socket", Refused("gives the container control over Docker and would void isolation", REMOVE)),
        ("user", Honoured),
        ("userns_mode", Refused(HOST, REMOVE)),
        ("uts", Refused(HOST, REMOVE)),
        ("volumes", Honoured),
        ("volumes_from", Refused("shares everything another container mounts", "name the volumes in both services")),
        ("working_dir", Honoured),
        ("x-skep", Honoured),
    ],
};

/// A service's `deploy`.
pub(super) static DEPLOY: Section = Section {
    name: "services.*.deploy",
    keys: &[
        ("endpoint_mode", NoEffect("every service has a VIP")),
        ("labels", NoEffect("put labels into the service's own labels")),
        ("mode", Honoured),
        ("placement", NoEffect("replicas are spread over the nodes")),
        ("replicas", Honoured),
        ("resources", NoEffect(NO_LIMIT)),
        ("restart_policy", NoEffect("restart says it")),
        ("rollback_config", NoEffect("a changed service is replaced at once")),
        ("update_config", NoEffect("a changed service is replaced at once")),
    ],
};

/// A service in a network.
pub(super) static ATTACHMENT: Section = Section {
    name: "services.*.networks.*",
    keys: &[
        ("aliases", Honoured),
        ("driver_opts", NoEffect("there are no network drivers here")),
        ("gw_priority", NoEffect("there is one way out")),
        ("interface_name", NoEffect("the interface is eth0")),
        ("ipv4_address", Refused("addresses are assigned", "use the name of the service")),
        ("ipv6_address", Refused("addresses are assigned", "use the name of the service")),
        ("link_local_ips", Refused("addresses are assigned", "use the name of the service")),
        ("mac_address", NoEffect("MAC addresses are assigned")),
        ("priority", NoEffect("there is one interface")),
    ],
};

/// The long form of a mount.
pub(super) static MOUNT: Section = Section {
    name: "services.*.volumes[]",
    keys: &[
        ("bind", Refused("bind mounts are not supported yet", "use a named volume")),
        ("consistency", NoEffect("it is for other platforms")),
        ("image", Refused(LATER, "use a named volume")),
        ("read_only", Honoured),
        ("source", Honoured),
        ("target", Honoured),
        ("tmpfs", Refused("tmpfs mounts are not supported yet", "use a named volume")),
        ("type", Honoured),
        ("volume", Honoured),
    ],
};

/// A mount's `volume`.
pub(super) static MOUNT_VOLUME: Section = Section {
    name: "services.*.volumes[].volume",
    keys: &[
        ("labels", NoEffect("volumes have Skep's own labels")),
        ("nocopy", Refused(LATER, REMOVE)),
        ("subpath", Refused(LATER, "use a volume of its own")),
    ],
};

/// A dependency.
pub(super) static DEPENDENCY: Section = Section {
    name: "services.*.depends_on.*",
    keys: &[
        ("condition", Honoured),
        ("required", Honoured),
        ("restart", NoEffect("a dependent is not restarted; its connections go on to the new replica's address")),
    ],
};

/// The long form of an `env_file`.
pub(super) static ENV_FILE: Section = Section {
    name: "services.*.env_file[]",
    keys: &[("format", Honoured), ("path", Honoured), ("required", Honoured)],
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

/// Skep's own keys of a service.
pub(super) static X_SKEP: Section = Section { name: "services.*.x-skep", keys: &[("type", Honoured)] };

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
