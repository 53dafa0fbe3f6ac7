//! One service of the file → [`ServiceSpec`].

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::Place;
use super::environment;
use super::keys::{ATTACHMENT, DEPENDENCY, DEPLOY, SERVICE};
use super::own::{self, Own};
use super::reader::{Field, Reader, join};
use super::shell::words;
use super::yaml::{Node, Value};
use super::{aliases, duration, files, health, limits, links, mounts, placement, rollout, settings};
use crate::model::name::normalise;
use crate::model::spec::{DependsOn, NetworkAttachment, PullPolicy, RestartPolicy};
use crate::model::{Kind, ServiceSpec};

/// The network of services that name none.
pub(super) const DEFAULT_NETWORK: &str = "default";

/// Stands for every profile.
const ALL_PROFILES: &str = "*";

/// Stands in for an image that is missing, which is an error already.
const MISSING: &str = "missing";

/// Reads a service. [`None`]: it is left out, because it only starts with a profile.
pub(super) fn read(
    reader: &mut Reader<'_>,
    node: &Node,
    path: &str,
    place: &str,
    enabled: &[String],
) -> Option<Reading> {
    if let Some((key, profiles)) = node.entry("profiles").filter(|(_, profiles)| !profiles.is_empty()) {
        let path = join(path, "profiles");
        let names = reader.list(profiles, &path, true).iter();
        let names: Vec<String> = names.filter_map(|name| reader.text(name, &path)).collect();
        if !names.iter().any(|name| enabled.contains(name)) && !enabled.iter().any(|name| name == ALL_PROFILES) {
            // What else it says does not matter.
            let remedy = format!("start it with --profile {}", names.first().map_or("NAME", String::as_str));
            reader.note(key.at, place, "is left out: it belongs to a profile", remedy);
            return None;
        }
    }
    let fields = reader.placed(node, path, place, &SERVICE);
    let mut service = Service {
        spec: ServiceSpec::of_image(MISSING),
        own: Own::default(),
        restart: None,
        env_files: Vec::new(),
        variables: BTreeMap::new(),
        label_files: Vec::new(),
        labels: BTreeMap::new(),
        scale: None,
        limits: limits::Said::default(),
        optional: BTreeSet::new(),
        unnamed: Vec::new(),
        alias: None,
    };
    for field in &fields {
        service.field(reader, field, place);
    }
    let said = |key| fields.iter().any(|field| field.key == key);
    if !said("image") {
        service.built(reader, node, path, said("pull_policy"));
    }
    mounts::settle(reader, std::mem::take(&mut service.unnamed), &mut service.spec);
    let (optional, restarts) = (std::mem::take(&mut service.optional), service.restart.is_some());
    let alias = service.alias.take();
    let spec = service.finish();
    rollout::note_order(reader, &spec, path, place);
    Some(Reading { spec, optional, restarts, alias })
}

/// All services, now that it is known who is there and who waits for whom.
pub(super) fn settle(
    reader: &mut Reader<'_>,
    mut readings: BTreeMap<String, Reading>,
) -> BTreeMap<String, ServiceSpec> {
    aliases::settle(reader, &mut readings);
    let there: BTreeSet<String> = readings.keys().cloned().collect();
    let awaited = |reading: &Reading| {
        let ends = reading.spec.depends_on.iter().filter(|(_, on)| **on == DependsOn::ServiceCompletedSuccessfully);
        ends.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let end: BTreeSet<String> = readings.values().flat_map(awaited).collect();
    let settled = readings.into_iter().map(|(name, Reading { mut spec, optional, restarts, .. })| {
        spec.depends_on.retain(|dependency, _| there.contains(dependency) || !optional.contains(dependency));
        if end.contains(&name) && !restarts {
            // Who is waited for to end ends, as Compose has it; what is started again never does.
            spec.restart = RestartPolicy::No;
        }
        (name, spec)
    });
    settled.collect()
}

struct Service {
    spec: ServiceSpec,
    own: Own,
    restart: Option<RestartPolicy>,
    env_files: Vec<(String, String)>,
    variables: BTreeMap<String, String>,
    label_files: Vec<(String, String)>,
    labels: BTreeMap<String, String>,
    /// Where the number of replicas was said first.
    scale: Option<&'static str>,
    limits: limits::Said,
    /// Dependencies that need not be there.
    optional: BTreeSet<String>,
    unnamed: Vec<mounts::Unnamed>,
    alias: Option<aliases::Alias>,
}

/// A service, and what is not known before all of them are.
pub(super) struct Reading {
    pub(super) spec: ServiceSpec,
    /// Dependencies that need not be there.
    pub(super) optional: BTreeSet<String>,
    /// It says what is to happen when it ends.
    pub(super) restarts: bool,
    /// What its container would be called.
    pub(super) alias: Option<aliases::Alias>,
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
            "depends_on" => self.spec.depends_on = dependencies(reader, node, path, &mut self.optional),
            "links" => self.spec.links = links::read(reader, node, path, place),
            "networks" => self.spec.networks = attachments(reader, node, path, place),
            "volumes" => self.unnamed = mounts::read(reader, node, path, &mut self.spec),
            "container_name" => self.alias = aliases::read(reader, node, path),
            "configs" => files::read(reader, node, path, files::Kind::Config, &mut self.spec.files),
            "secrets" => files::read(reader, node, path, files::Kind::Secret, &mut self.spec.files),
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
            "labels" => self.labels = settings::pairs(reader, node, path),
            "label_file" => self.label_files = environment::files(reader, node, path),
            "pull_policy" => self.spec.pull = pull_policy(reader, node, path),
            "working_dir" => self.spec.working_dir = reader.optional(node, path),
            "user" => self.spec.user = reader.optional(node, path),
            "x-skep" => self.own = own::read(reader, node, path, place),
            _ => settings::field(reader, field, &mut self.spec.settings, place),
        }
    }

    /// Without an image it has the one that Compose would have built for it, which no registry is asked for: the name is
    /// not the project's there.
    fn built(&mut self, reader: &mut Reader<'_>, node: &Node, path: &str, has_policy: bool) {
        let Some((key, _)) = node.entry("build").filter(|(_, build)| !build.is_empty()) else {
            return reader.error(node.at, path, "it has no image", "name one in image");
        };
        let project = reader.sources.project.clone().unwrap_or_default();
        self.spec.image = format!("{project}-{}", path.strip_prefix("services.").unwrap_or(path));
        if !has_policy {
            self.spec.pull = PullPolicy::Never;
        }
        let what = format!("it has no image: {} has to be there, as docker compose build calls it", self.spec.image);
        reader.note(key.at, path, what, "name another one in image");
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
        spec.labels = self.label_files.into_iter().chain(self.labels).collect();
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

/// The services that come first; those that need not be there are put into `optional`, too.
fn dependencies(
    reader: &mut Reader<'_>,
    node: &Node,
    path: &str,
    optional: &mut BTreeSet<String>,
) -> BTreeMap<String, DependsOn> {
    let mut dependencies = BTreeMap::new();
    if let Value::Map(entries) = &node.value {
        for (key, value) in entries {
            let path = join(path, &key.text);
            let Some((condition, required)) = condition(reader, value, &path) else { continue };
            let Some(name) = service_name(reader, key.at, &path, &key.text) else { continue };
            if !required {
                optional.insert(name.clone());
            }
            dependencies.insert(name, condition);
        }
        return dependencies;
    }
    for item in reader.list(node, path, false) {
        let name = reader.text(item, path).and_then(|text| service_name(reader, item.at, path, &text));
        dependencies.extend(name.map(|name| (name, DependsOn::ServiceStarted)));
    }
    dependencies
}

/// What is expected of a dependency, and whether it must be there.
fn condition(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<(DependsOn, bool)> {
    let (mut condition, mut required) = (DependsOn::ServiceStarted, true);
    for field in reader.fields(node, path, &DEPENDENCY) {
        if field.key == "required" {
            required = reader.flag(field.node, &field.path);
            continue;
        }
        condition = match reader.text(field.node, &field.path)?.as_str() {
            "service_started" => DependsOn::ServiceStarted,
            "service_healthy" => DependsOn::ServiceHealthy,
            "service_completed_successfully" => DependsOn::ServiceCompletedSuccessfully,
            other => {
                let remedy = "use service_started, service_healthy or service_completed_successfully";
                reader.error(field.node.at, &field.path, format!("{other:?} is no condition"), remedy);
                return None;
            }
        };
    }
    Some((condition, required))
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

/// Says so where a name is not what clients may ask for. Capitals and underscores do not matter: names resolve with
/// either, other spellings do not.
pub(super) fn note_spelling(reader: &mut Reader<'_>, at: Place, path: &str, said: &str, name: &str) {
    if said.to_ascii_lowercase().replace('_', "-") != name {
        let remedy = format!("write {name} wherever somebody connects to it");
        reader.note(
            at,
            path,
            format!("{said} is called {name} in its networks, and does not resolve as it is written here"),
            remedy,
        );
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
                    let Some(said) = reader.text(item, &field.path) else { continue };
                    let Some(alias) = service_name(reader, item.at, &field.path, &said) else { continue };
                    note_spelling(reader, item.at, &field.path, &said, &alias);
                    aliases.insert(alias);
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

fn pull_policy(reader: &mut Reader<'_>, node: &Node, path: &str) -> PullPolicy {
    let Some(policy) = reader.optional(node, path) else { return PullPolicy::default() };
    match policy.as_str() {
        "missing" | "if_not_present" => PullPolicy::Missing,
        "always" | "daily" | "weekly" => PullPolicy::Always,
        every if every.strip_prefix("every_").is_some_and(|every| !every.is_empty()) => PullPolicy::Always,
        "never" => PullPolicy::Never,
        "build" => {
            reader.note(node.at, path, "nothing is built here, and no registry is asked", "build the image beforehand");
            PullPolicy::Never
        }
        _ => {
            let remedy = "use always, missing or never";
            reader.error(node.at, path, format!("{policy:?} is no pull policy"), remedy);
            PullPolicy::default()
        }
    }
}
