//! One service of the file → [`ServiceSpec`].

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::Place;
use super::environment;
use super::keys::{ATTACHMENT, DEPENDENCY, DEPLOY, SERVICE};
use super::own::{self, Own};
use super::reader::{Field, Reader, join};
use super::shell::words;
use super::yaml::{Node, Value};
use super::{duration, health, limits, links, mounts, placement, rollout};
use crate::model::name::normalise;
use crate::model::spec::{DependsOn, NetworkAttachment, RestartPolicy};
use crate::model::{Kind, ServiceSpec};

/// The network of services that name none.
pub(super) const DEFAULT_NETWORK: &str = "default";

/// Stands in for an image that is missing, which is an error already.
const MISSING: &str = "missing";

/// Reads a service. [`None`]: it is left out, because it only starts with a profile.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, path: &str, place: &str) -> Option<ServiceSpec> {
    if let Some(at) = profiles(node) {
        reader.note(at, path, "is left out: it belongs to a profile", "remove profiles to have it started");
        return None;
    }
    let fields = reader.placed(node, path, place, &SERVICE);
    let mut service = Service {
        spec: ServiceSpec::of_image(MISSING),
        own: Own::default(),
        restart: None,
        env_files: Vec::new(),
        variables: BTreeMap::new(),
        scale: None,
        limits: limits::Said::default(),
    };
    for field in &fields {
        service.field(reader, field, place);
    }
    if !fields.iter().any(|field| field.key == "image") {
        reader.error(node.at, path, "it has no image", "build one if it has build:, and name it in image");
    }
    let spec = service.finish();
    rollout::note_order(reader, &spec, path, place);
    Some(spec)
}

/// Where the service says that it belongs to profiles. What else it says does not matter then.
fn profiles(node: &Node) -> Option<Place> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|(key, value)| key.text == "profiles" && !value.is_empty()).map(|(key, _)| key.at)
}

struct Service {
    spec: ServiceSpec,
    own: Own,
    restart: Option<RestartPolicy>,
    env_files: Vec<(String, String)>,
    variables: BTreeMap<String, String>,
    /// Where the number of replicas was said first.
    scale: Option<&'static str>,
    limits: limits::Said,
}

impl Service {
    fn field(&mut self, reader: &mut Reader<'_>, field: &Field<'_>, place: &str) {
        let Field { node, path, .. } = field;
        match field.key {
            "image" => self.spec.image = reader.text(node, path).unwrap_or_else(|| self.spec.image.clone()),
            "command" => self.spec.command = words(reader, node, path),
            "entrypoint" => self.spec.entrypoint = words(reader, node, path),
            "environment" => self.variables = environment::variables(reader, node, path),
            "env_file" => self.env_files = environment::files(reader, node, path),
            "depends_on" => self.spec.depends_on = dependencies(reader, node, path),
            "links" => self.spec.links = links::read(reader, node, path, place),
            "networks" => self.spec.networks = attachments(reader, node, path, place),
            "volumes" => self.spec.volumes = mounts::read(reader, node, path),
            "restart" => self.restart = restart(reader, node, path),
            "deploy" => self.deploy(reader, node, path, place),
            "healthcheck" => self.spec.healthcheck = health::check(reader, node, path, place),
            "stop_signal" => self.spec.stop_signal = reader.optional(node, path),
            "stop_grace_period" => duration::read(reader, node, path, &mut self.spec.stop_grace_period),
            "scale" => self.replicas(reader, node, path, "scale"),
            "mem_limit" => self.limits.memory(reader, node, path, "mem_limit"),
            "mem_reservation" => self.limits.reserved_memory(reader, node, path, "mem_reservation"),
            "cpus" => self.limits.cpus(reader, node, path, "cpus"),
            "pids_limit" => self.limits.pids(reader, node, path, "pids_limit"),
            "labels" => self.spec.labels = labels(reader, node, path),
            "working_dir" => self.spec.working_dir = reader.optional(node, path),
            "user" => self.spec.user = reader.optional(node, path),
            "x-skep" => self.own = own::read(reader, node, path, place),
            _ => {}
        }
    }

    fn finish(self) -> ServiceSpec {
        let mut spec = self.spec;
        spec.kind = Kind::of_image(&spec.image).map(Kind::service_type).unwrap_or_default();
        self.own.settle(&mut spec);
        (spec.limits, spec.reserved) = self.limits.finish();
        spec.restart = self.restart.unwrap_or(match spec.schedule {
            // What Docker starts again by itself never ends.
            Some(_) => RestartPolicy::No,
            None => RestartPolicy::default(),
        });
        spec.environment = self.env_files.into_iter().chain(self.variables).collect();
        if spec.networks.is_empty() {
            spec.networks.insert(DEFAULT_NETWORK.to_owned(), NetworkAttachment::default());
        }
        spec
    }

    fn deploy(&mut self, reader: &mut Reader<'_>, node: &Node, path: &str, place: &str) {
        let place = join(place, "deploy");
        for field in reader.placed(node, path, &place, &DEPLOY) {
            let Field { node, path, .. } = &field;
            match field.key {
                "replicas" => self.replicas(reader, node, path, "deploy.replicas"),
                "update_config" => self.spec.update = rollout::update(reader, node, path, &place),
                "placement" => self.spec.placement = placement::read(reader, node, path, &place),
                "resources" => self.limits.resources(reader, node, path, &place),
                "rollback_config" => self.spec.rollback = rollout::rollback(reader, node, path, &place),
                _ => {
                    if let Some(mode) = reader.optional(node, path)
                        && mode != "replicated"
                    {
                        reader.error(field.at, path, format!("the mode {mode} is not supported"), "use replicated");
                    }
                }
            }
        }
    }

    fn replicas(&mut self, reader: &mut Reader<'_>, node: &Node, path: &str, key: &'static str) {
        let Some(replicas) = reader.number(node, path) else { return };
        if let Some(other) = self.scale.replace(key)
            && self.spec.replicas != replicas
        {
            let what = format!("it says {replicas}, and {other} says {}", self.spec.replicas);
            reader.error(node.at, path, what, "keep one of them");
        }
        self.spec.replicas = replicas;
    }
}

fn dependencies(reader: &mut Reader<'_>, node: &Node, path: &str) -> BTreeMap<String, DependsOn> {
    let mut dependencies = BTreeMap::new();
    if let Value::Map(entries) = &node.value {
        for (key, value) in entries {
            let path = join(path, &key.text);
            let condition = condition(reader, value, &path);
            dependencies.extend(service_name(reader, key.at, &path, &key.text).zip(condition));
        }
        return dependencies;
    }
    for item in reader.list(node, path, false) {
        let name = reader.text(item, path).and_then(|text| service_name(reader, item.at, path, &text));
        dependencies.extend(name.map(|name| (name, DependsOn::ServiceStarted)));
    }
    dependencies
}

fn condition(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<DependsOn> {
    let mut condition = Some(DependsOn::ServiceStarted);
    for field in reader.fields(node, path, &DEPENDENCY) {
        if field.key == "required" {
            if !reader.flag(field.node, &field.path) {
                let what = "dependencies that need not be there are not supported yet";
                reader.error(field.at, &field.path, what, "remove it, or the dependency");
            }
            continue;
        }
        condition = match reader.text(field.node, &field.path)?.as_str() {
            "service_started" => Some(DependsOn::ServiceStarted),
            "service_healthy" => Some(DependsOn::ServiceHealthy),
            "service_completed_successfully" => {
                let what = "waiting for a service to end is not supported yet";
                reader.error(field.node.at, &field.path, what, "use service_started");
                None
            }
            other => {
                let what = format!("{other:?} is no condition");
                reader.error(field.node.at, &field.path, what, "use service_started or service_healthy");
                None
            }
        };
    }
    condition
}

/// The name of a service or an alias, normalised.
pub(super) fn service_name(reader: &mut Reader<'_>, at: Place, path: &str, name: &str) -> Option<String> {
    match normalise(name) {
        Ok(name) => Some(name),
        Err(error) => {
            reader.error(at, path, error.to_string(), "choose another name");
            None
        }
    }
}

fn attachments(reader: &mut Reader<'_>, node: &Node, path: &str, place: &str) -> BTreeMap<String, NetworkAttachment> {
    let mut attachments = BTreeMap::new();
    if let Value::Map(entries) = &node.value {
        for (key, value) in entries {
            let path = join(path, &key.text);
            reader.places.insert(format!("{place}.networks.{}", key.text), key.at);
            let mut aliases = BTreeSet::new();
            for field in reader.fields(value, &path, &ATTACHMENT) {
                reader.places.insert(format!("{place}.networks.{}.aliases", key.text), field.at);
                for item in reader.list(field.node, &field.path, false) {
                    let alias = reader.text(item, &field.path);
                    aliases.extend(alias.and_then(|alias| service_name(reader, item.at, &field.path, &alias)));
                }
            }
            attachments.insert(key.text.clone(), NetworkAttachment { aliases });
        }
        return attachments;
    }
    for item in reader.list(node, path, false) {
        if let Some(name) = reader.text(item, path) {
            reader.places.insert(format!("{place}.networks.{name}"), item.at);
            attachments.insert(name, NetworkAttachment::default());
        }
    }
    attachments
}

fn restart(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<RestartPolicy> {
    let policy = reader.optional(node, path)?;
    let (name, retries) = policy.split_once(':').map_or((policy.as_str(), None), |(name, n)| (name, Some(n)));
    match (name, retries.map(str::parse)) {
        // YAML 1.1 reads a bare `no` as false, and some tools write it so.
        ("no" | "false", None) => Some(RestartPolicy::No),
        ("always", None) => Some(RestartPolicy::Always),
        ("unless-stopped", None) => Some(RestartPolicy::UnlessStopped),
        ("on-failure", None) => Some(RestartPolicy::OnFailure(0)),
        ("on-failure", Some(Ok(retries))) => Some(RestartPolicy::OnFailure(retries)),
        _ => {
            let remedy = "use \"no\", always, unless-stopped, on-failure or on-failure:3";
            reader.error(node.at, path, format!("{policy:?} is no restart policy"), remedy);
            None
        }
    }
}

fn labels(reader: &mut Reader<'_>, node: &Node, path: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    if let Value::Map(entries) = &node.value {
        for (key, value) in entries {
            let text = if matches!(value.value, Value::Null) { Some(String::new()) } else { reader.text(value, path) };
            labels.extend(text.map(|text| (key.text.clone(), text)));
        }
        return labels;
    }
    for item in reader.list(node, path, false) {
        if let Some(text) = reader.text(item, path) {
            let (key, value) = text.split_once('=').unwrap_or((&text, ""));
            labels.insert(key.to_owned(), value.to_owned());
        }
    }
    labels
}
