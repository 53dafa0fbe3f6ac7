//! Reads keys back.

use crate::model::{DeploymentKey, EnvironmentKey, ReplicaKey, ServiceKey, VolumeKey};

/// What a key is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// [`super::intent`].
    Intent(EnvironmentKey),
    /// [`super::node`].
    Node(String),
    /// [`super::node_intent`].
    NodeIntent(String),
    /// [`super::tunnel`] of a node.
    Tunnel(String),
    /// [`super::admission`] of a node.
    Admission(String),
    /// [`super::invitation`], by its id.
    Invitation(String),
    /// [`super::presence`] of a node.
    Presence(String),
    /// [`super::environment`].
    Environment(EnvironmentKey),
    /// [`super::service`].
    Service(ServiceKey),
    /// [`super::volume`].
    Volume(VolumeKey),
    /// [`super::replica`], with its node.
    Replica(String, ReplicaKey),
    /// [`super::deployment`].
    Deployment(DeploymentKey),
    /// [`super::ack`] of a node.
    Ack(String),
    /// [`super::ids`].
    Ids,
    /// [`super::prefixes`].
    Prefixes,
    /// [`super::vips`].
    Vips,
    /// [`super::addresses`] of a node.
    Addresses(String),
    /// [`super::condition`].
    Condition(EnvironmentKey),
    /// [`super::status`], with its node.
    Status(String, ReplicaKey),
    /// [`super::secret`].
    Secret(ServiceKey),
    /// [`super::content`] of an environment, by its name.
    Content(EnvironmentKey, String),
    /// [`super::login`] to a registry.
    Login(String),
    /// [`super::runs`].
    Runs(ServiceKey),
    /// [`super::one_off`].
    OneOff(ReplicaKey),
    /// [`super::discard`].
    Discard(EnvironmentKey),
    /// [`super::pulled`] of a node.
    Pulled(String),
}

impl Subject {
    /// Reads a key; [`None`] when no function above makes such a one.
    pub fn of(key: &str) -> Option<Self> {
        let parts: Vec<&str> = key.strip_prefix('/')?.split('/').collect();
        Some(match *parts.as_slice() {
            ["intent", p, e] => Self::Intent(environment_key(p, e)),
            ["nodes", node] => Self::Node(node.into()),
            ["node-intents", node] => Self::NodeIntent(node.into()),
            ["tunnels", node] => Self::Tunnel(node.into()),
            ["admissions", node] => Self::Admission(node.into()),
            ["invitations", id] => Self::Invitation(id.into()),
            ["present", node] => Self::Presence(node.into()),
            ["assignments", "environments", p, e] => Self::Environment(environment_key(p, e)),
            ["assignments", "services", p, e, s] => Self::Service(service_key(p, e, s)),
            ["assignments", "volumes", p, e, v] => Self::Volume(volume_key(p, e, v)),
            ["assignments", "replicas", node, p, e, s, d, n] => Self::Replica(node.into(), replica_key(p, e, s, d, n)?),
            ["deployments", p, e, s, d] => Self::Deployment(service_key(p, e, s).deployment(d.parse().ok()?)),
            ["acks", node] => Self::Ack(node.into()),
            ["allocations", "ids"] => Self::Ids,
            ["allocations", "prefixes"] => Self::Prefixes,
            ["allocations", "vips"] => Self::Vips,
            ["allocations", "addresses", node] => Self::Addresses(node.into()),
            ["conditions", p, e] => Self::Condition(environment_key(p, e)),
            ["status", node, p, e, s, d, n] => Self::Status(node.into(), replica_key(p, e, s, d, n)?),
            ["secrets", p, e, s] => Self::Secret(service_key(p, e, s)),
            ["secrets", "files", p, e, name] => Self::Content(environment_key(p, e), name.into()),
            ["secrets", "registries", registry] => Self::Login(registry.into()),
            ["runs", p, e, s] => Self::Runs(service_key(p, e, s)),
            ["one-offs", p, e, s, n] => Self::OneOff(service_key(p, e, s).one_off(n.parse().ok()?)),
            ["discards", p, e] => Self::Discard(environment_key(p, e)),
            ["pulled", node] => Self::Pulled(node.into()),
            _ => return None,
        })
    }
}

/// The replica that a key is about: an assignment's or a status'.
pub fn replica_of(key: &str) -> Option<ReplicaKey> {
    match Subject::of(key)? {
        Subject::Replica(_, replica) | Subject::Status(_, replica) => Some(replica),
        _ => None,
    }
}

fn environment_key(project: &str, environment: &str) -> EnvironmentKey {
    EnvironmentKey { project: project.into(), environment: environment.into() }
}

fn service_key(project: &str, environment: &str, service: &str) -> ServiceKey {
    ServiceKey { environment: environment_key(project, environment), service: service.into() }
}

fn volume_key(project: &str, environment: &str, volume: &str) -> VolumeKey {
    VolumeKey { environment: environment_key(project, environment), volume: volume.into() }
}

fn replica_key(project: &str, environment: &str, service: &str, deployment: &str, replica: &str) -> Option<ReplicaKey> {
    Some(service_key(project, environment, service).replica(deployment.parse().ok()?, replica.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    #[test]
    fn every_key_can_be_read_back() {
        let e = environment_key("shop", "production");
        let s = service_key("shop", "production", "api");
        let r = replica_key("shop", "production", "api", "3", "12").unwrap();
        let pairs = [
            (intent(&e).0, Subject::Intent(e.clone())),
            (node("n1").0, Subject::Node("n1".into())),
            (node_intent("n1").0, Subject::NodeIntent("n1".into())),
            (tunnel("n1").0, Subject::Tunnel("n1".into())),
            (presence("n1").0, Subject::Presence("n1".into())),
            (admission("n1").0, Subject::Admission("n1".into())),
            (invitation("0a").0, Subject::Invitation("0a".into())),
            (environment(&e).0, Subject::Environment(e.clone())),
            (
                volume(&volume_key("shop", "production", "data")).0,
                Subject::Volume(volume_key("shop", "production", "data")),
            ),
            (replica("n1", &r).0, Subject::Replica("n1".into(), r.clone())),
            (deployment(&s.deployment(3)).0, Subject::Deployment(s.deployment(3))),
            (service(&s).0, Subject::Service(s.clone())),
            (content(&e, "0a").0, Subject::Content(e.clone(), "0a".into())),
            (login("ghcr.io").0, Subject::Login("ghcr.io".into())),
            (runs(&s).0, Subject::Runs(s.clone())),
            (one_off(&s.one_off(4)).0, Subject::OneOff(s.one_off(4))),
            (discard(&e).0, Subject::Discard(e.clone())),
            (pulled("n1").0, Subject::Pulled("n1".into())),
            (secret(&s).0, Subject::Secret(s)),
            (ack("n1").0, Subject::Ack("n1".into())),
            (ids().0, Subject::Ids),
            (prefixes().0, Subject::Prefixes),
            (vips().0, Subject::Vips),
            (addresses("n1").0, Subject::Addresses("n1".into())),
            (condition(&e).0, Subject::Condition(e)),
            (status("n1", &r).0, Subject::Status("n1".into(), r)),
        ];
        for (key, subject) in pairs {
            assert_eq!(Subject::of(&key), Some(subject), "{key}");
        }
        assert_eq!(Subject::of("/elections/controller"), None);
        assert_eq!(Subject::of("/status/n1/shop/production/api/1/x"), None);
    }
}
