//! How a service is known to be well, changes and stops.

use super::Class::{Explained, Honoured, NoEffect};
use super::Section;

const ONE_IS_ENOUGH: &str = "one replica that is not well ends it";

/// A service's `deploy`.
pub(in crate::manifest) static DEPLOY: Section = Section {
    name: "services.*.deploy",
    keys: &[
        ("endpoint_mode", NoEffect("every service has a VIP")),
        ("labels", NoEffect("put labels into the service's own labels")),
        ("mode", Honoured),
        ("placement", Honoured),
        ("replicas", Honoured),
        ("resources", Honoured),
        ("restart_policy", NoEffect("restart says it")),
        ("rollback_config", Honoured),
        ("update_config", Honoured),
    ],
};

/// Where replicas may be.
pub(in crate::manifest) static PLACEMENT: Section = Section {
    name: "services.*.deploy.placement",
    keys: &[
        (
            "constraints",
            Explained(
                "node.hostname, node.role (control, build, compute) and node.labels.NAME with == or !=, as Swarm has them; \
                asked when a replica is placed",
            ),
        ),
        ("max_replicas_per_node", Explained("so many of one deployment: a new one finds room beside the one before")),
        ("preferences", NoEffect("replicas are spread over all nodes that take them")),
    ],
};

/// What a replica needs and may take.
pub(in crate::manifest) static RESOURCES: Section =
    Section { name: "services.*.deploy.resources", keys: &[("limits", Honoured), ("reservations", Honoured)] };

/// What it needs.
pub(in crate::manifest) static RESOURCES_RESERVATIONS: Section = Section {
    name: "services.*.deploy.resources.reservations",
    keys: &[
        ("cpus", Explained("a replica is placed where so much is not reserved yet; it may use more, or less")),
        ("devices", NoEffect("devices can't be handed to containers yet")),
        ("generic_resources", NoEffect("nodes have memory and processors")),
        ("memory", Explained("a replica is placed where so much is not reserved yet; it may use more, or less")),
    ],
};

/// What it may take.
pub(in crate::manifest) static RESOURCES_LIMITS: Section = Section {
    name: "services.*.deploy.resources.limits",
    keys: &[
        ("cpus", Honoured),
        ("memory", Explained("a replica that needs more is killed: no swap is added to it")),
        ("pids", Honoured),
    ],
};

/// How a changed service takes the place of the one before.
pub(in crate::manifest) static UPDATE_CONFIG: Section = Section {
    name: "services.*.deploy.update_config",
    keys: &[
        ("delay", Honoured),
        ("failure_action", Explained("rollback unless said otherwise, not pause: the version before serves on")),
        ("max_failure_ratio", NoEffect(ONE_IS_ENOUGH)),
        (
            "monitor",
            Explained(
                "10s unless said otherwise, not 0s: so long a replica must be well before clients are sent to it",
            ),
        ),
        (
            "order",
            Explained(
                "start-first unless said otherwise, not stop-first; with a volume that is written to, always stop-first",
            ),
        ),
        (
            "parallelism",
            Explained(
                "0 unless said otherwise, not 1: all replicas change by one switch, and two versions never serve side by side",
            ),
        ),
    ],
};

/// How an update that failed is taken back.
pub(in crate::manifest) static ROLLBACK_CONFIG: Section = Section {
    name: "services.*.deploy.rollback_config",
    keys: &[
        ("delay", Honoured),
        ("failure_action", Honoured),
        ("max_failure_ratio", NoEffect(ONE_IS_ENOUGH)),
        ("monitor", Explained("10s unless said otherwise, not 0s")),
        ("order", Explained("as in update_config")),
        ("parallelism", Explained("0 unless said otherwise, not 1: all replicas change by one switch")),
    ],
};

/// Docker runs it in the container.
pub(in crate::manifest) static HEALTHCHECK: Section = Section {
    name: "services.*.healthcheck",
    keys: &[
        ("disable", Honoured),
        ("interval", Honoured),
        ("retries", Honoured),
        ("start_interval", Honoured),
        ("start_period", Honoured),
        ("test", Honoured),
        ("timeout", Honoured),
    ],
};

/// Skep's own keys of a service.
pub(in crate::manifest) static X_SKEP: Section = Section {
    name: "services.*.x-skep",
    keys: &[
        (
            "affinity",
            Explained(
                "client: each client is always sent to the same replica, as long as the same ones serve; else none",
            ),
        ),
        (
            "drain_timeout",
            Explained("how long connections of a replica that is to stop may take to end by themselves; else 30s"),
        ),
        (
            "egress",
            Explained(
                "addresses and prefixes outside that it may reach, and no others; [] for none; else all public ones",
            ),
        ),
        (
            "health",
            Explained(
                "what the node asks the port: a path for HTTP, a mapping, or none; else, without a healthcheck, that the port accepts",
            ),
        ),
        ("password", Explained("true: redis or valkey ask for a generated password, which is in REDIS_URL")),
        ("port", Explained("which port it serves on; 8080 for type web, else none")),
        ("release", Explained("a command, run once with the new image before clients are sent to it")),
        (
            "schedule",
            Explained("when to run what runs and ends: cron's five fields, or six with seconds in front, in UTC"),
        ),
        ("start_timeout", Explained("a replica that is not well so long after its start has failed; else 60s")),
        ("type", Explained("web, database, cache or service; else what the image's name says")),
    ],
};

/// What the node asks the port.
pub(in crate::manifest) static X_SKEP_HEALTH: Section = Section {
    name: "services.*.x-skep.health",
    keys: &[
        ("interval", Explained("between two questions; else 2s")),
        ("path", Explained("GET it: a status from 200 to 399 is well; else the port must accept a connection")),
        ("retries", Explained("so many failures in a row make a replica unhealthy; else 3")),
        ("timeout", Explained("an answer that takes longer is none; else 2s")),
    ],
};
