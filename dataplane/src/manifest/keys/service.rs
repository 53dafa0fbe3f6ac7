//! A service, and what stands below it.

use super::Class::{Explained, Honoured, NoEffect, Refused, Replaced};
use super::{HOST, LATER, NO_LIMIT, OWN_DNS, REMOVE, Section};

/// A service.
pub(in crate::manifest) static SERVICE: Section = Section {
    name: "services.*",
    keys: &[
        ("annotations", NoEffect("annotations are not passed on")),
        ("attach", NoEffect("logs are never attached to the terminal")),
        ("blkio_config", NoEffect(NO_LIMIT)),
        ("build", Replaced("build the image beforehand, with docker compose build or docker build")),
        (
            "cap_add",
            Explained(
                "of what is confined to the container: Docker's default set, IPC_LOCK, LEASE, NET_BROADCAST; others are refused",
            ),
        ),
        ("cap_drop", Honoured),
        ("cgroup", Refused(HOST, REMOVE)),
        ("cgroup_parent", Refused(HOST, REMOVE)),
        ("command", Honoured),
        ("configs", Honoured),
        (
            "container_name",
            Explained(
                "a further name of the service in its networks; containers are named by node, project, environment, service and replica",
            ),
        ),
        ("cpu_count", NoEffect(NO_LIMIT)),
        ("cpu_percent", NoEffect(NO_LIMIT)),
        ("cpu_period", NoEffect(NO_LIMIT)),
        ("cpu_quota", NoEffect(NO_LIMIT)),
        ("cpu_rt_period", NoEffect(NO_LIMIT)),
        ("cpu_rt_runtime", NoEffect(NO_LIMIT)),
        ("cpu_shares", NoEffect(NO_LIMIT)),
        ("cpus", Honoured),
        ("cpuset", NoEffect(NO_LIMIT)),
        ("credential_spec", Refused("is for Windows containers", REMOVE)),
        ("depends_on", Honoured),
        ("deploy", Honoured),
        ("develop", NoEffect("nothing is watched or rebuilt")),
        ("device_cgroup_rules", Refused(HOST, REMOVE)),
        ("devices", Refused("gives the container devices of the host and would void isolation", REMOVE)),
        ("dns", NoEffect(OWN_DNS)),
        ("dns_opt", NoEffect(OWN_DNS)),
        ("dns_search", Explained("after the private network's own domain")),
        ("domainname", Honoured),
        ("entrypoint", Honoured),
        ("env_file", Honoured),
        ("environment", Honoured),
        ("expose", Explained("every port that a service listens on is reachable in its networks anyway")),
        ("extends", Honoured),
        ("external_links", Refused("crosses the boundary of the environment", "put the service into this file")),
        ("extra_hosts", Explained("host-gateway is refused: the node is not reachable from a private network")),
        ("gpus", Refused("gives the container devices of the host and would void isolation", REMOVE)),
        ("group_add", Honoured),
        ("healthcheck", Honoured),
        ("hostname", Explained("else the service and the number of the replica")),
        ("image", Honoured),
        ("init", Honoured),
        ("ipc", Refused("shares memory outside of the container and would void isolation", REMOVE)),
        ("isolation", Refused("is for Windows containers", REMOVE)),
        ("label_file", Honoured),
        ("labels", Honoured),
        (
            "links",
            Explained(
                "the alias resolves for every service of the networks that both are in, and <ALIAS>_URL says the port",
            ),
        ),
        (
            "logging",
            Explained(
                "drivers that write on the node, and their options of size; others would send from outside of the private network",
            ),
        ),
        ("mac_address", NoEffect("MAC addresses are assigned")),
        ("mem_limit", Explained("a replica that needs more is killed: no swap is added to it")),
        ("mem_reservation", Explained("as deploy.resources.reservations.memory")),
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
        ("oom_score_adj", Explained("from 0 to 1000: nobody else is killed first")),
        ("pid", Refused("shows the container processes outside of it and would void isolation", REMOVE)),
        ("pids_limit", Honoured),
        ("platform", NoEffect("the node's own platform is used")),
        (
            "ports",
            Replaced(
                "nothing is published on the node; other services reach every port, and skepctl forward SERVICE:PORT brings one to your computer",
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
        (
            "pull_policy",
            Explained(
                "asked with each new version: always, missing or never; daily, weekly and every_<time> are asked as always is",
            ),
        ),
        ("read_only", Honoured),
        ("restart", Honoured),
        ("runtime", Refused("Docker's default runtime is the one that is used", REMOVE)),
        ("scale", Honoured),
        ("secrets", Honoured),
        ("security_opt", Explained("no-new-privileges; what loosens the container's confinement is refused")),
        ("shm_size", Honoured),
        ("stdin_open", NoEffect("nobody is attached to a service")),
        ("stop_grace_period", Honoured),
        ("stop_signal", Honoured),
        ("storage_opt", NoEffect(NO_LIMIT)),
        ("sysctls", Explained("net.* but those of interfaces, and those of System V IPC and message queues")),
        ("tmpfs", Honoured),
        ("tty", NoEffect("nobody is attached to a service")),
        ("ulimits", Honoured),
        ("use_api_socket", Refused("gives the container control over Docker and would void isolation", REMOVE)),
        ("user", Honoured),
        ("userns_mode", Refused(HOST, REMOVE)),
        ("uts", Refused(HOST, REMOVE)),
        (
            "volumes",
            Explained(
                "named ones; files from beside the compose file, and directories of them with :ro, are taken along as they are; what is written where a volume without a name would be ends with its container",
            ),
        ),
        ("volumes_from", Refused("shares everything another container mounts", "name the volumes in both services")),
        ("working_dir", Honoured),
        ("x-skep", Honoured),
    ],
};

/// A service in a network.
pub(in crate::manifest) static ATTACHMENT: Section = Section {
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
pub(in crate::manifest) static MOUNT: Section = Section {
    name: "services.*.volumes[]",
    keys: &[
        ("bind", Honoured),
        ("consistency", NoEffect("it is for other platforms")),
        ("image", Refused(LATER, "use a named volume")),
        ("read_only", Honoured),
        ("source", Honoured),
        ("target", Honoured),
        ("tmpfs", Honoured),
        ("type", Honoured),
        ("volume", Honoured),
    ],
};

/// A mount's `bind`.
pub(in crate::manifest) static MOUNT_BIND: Section = Section {
    name: "services.*.volumes[].bind",
    keys: &[
        ("create_host_path", NoEffect("what is not there can't be taken along")),
        ("propagation", NoEffect("files are taken along, not mounted")),
        ("recursive", NoEffect("files are taken along, not mounted")),
        ("selinux", NoEffect("files are taken along, not mounted")),
    ],
};

/// The long form of a config or a secret.
pub(in crate::manifest) static FILE: Section = Section {
    name: "services.*.configs[], secrets[]",
    keys: &[("gid", Honoured), ("mode", Honoured), ("source", Honoured), ("target", Honoured), ("uid", Honoured)],
};

/// A mount's `volume`.
pub(in crate::manifest) static MOUNT_VOLUME: Section = Section {
    name: "services.*.volumes[].volume",
    keys: &[
        ("labels", NoEffect("volumes have Skep's own labels")),
        ("nocopy", Refused(LATER, REMOVE)),
        ("subpath", Refused(LATER, "use a volume of its own")),
    ],
};

/// A dependency.
pub(in crate::manifest) static DEPENDENCY: Section = Section {
    name: "services.*.depends_on.*",
    keys: &[
        (
            "condition",
            Explained(
                "for service_completed_successfully the version counts that serves: what has to end before each new version is x-skep.release",
            ),
        ),
        ("required", Explained("with false, a service that is left out is not waited for")),
        ("restart", NoEffect("a dependent is not restarted; its connections go on to the new replica's address")),
    ],
};

/// The long form of an `env_file`.
pub(in crate::manifest) static ENV_FILE: Section = Section {
    name: "services.*.env_file[]",
    keys: &[("format", Honoured), ("path", Honoured), ("required", Honoured)],
};

/// The long form of `extends`.
pub(in crate::manifest) static EXTENDS: Section =
    Section { name: "services.*.extends", keys: &[("file", Honoured), ("service", Honoured)] };

/// What becomes of its output.
pub(in crate::manifest) static LOGGING: Section =
    Section { name: "services.*.logging", keys: &[("driver", Honoured), ("options", Honoured)] };

/// The long form of a limit.
pub(in crate::manifest) static ULIMIT: Section =
    Section { name: "services.*.ulimits.*", keys: &[("hard", Honoured), ("soft", Honoured)] };

/// A mount's `tmpfs`.
pub(in crate::manifest) static MOUNT_TMPFS: Section =
    Section { name: "services.*.volumes[].tmpfs", keys: &[("mode", Honoured), ("size", Honoured)] };
