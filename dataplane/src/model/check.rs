//! What a resolved environment must hold to, wherever it came from. The API asks before it stores one.

use std::collections::{BTreeMap, BTreeSet};

use super::name::{LABEL_MAX, ZONE, normalise};
use super::spec::{EnvironmentSpec, NETWORKS_MAX, ServiceSpec};

mod files;
mod placement;
mod relations;
mod rollout;
mod settings;

/// Longest name in wire format that the kernel's tables hold, in octets.
const WIRE_NAME_MAX: usize = 128;

/// Most replicas of a service: a backend set counts them in 16 bits, and its slots must stay few.
pub const REPLICAS_MAX: u32 = 1000;

/// Most places outside that a service lists: the kernel's map of them is shared by all services of a node.
const EGRESS_MAX: usize = 256;

/// Names that mean something else to every resolver.
const RESERVED: [&str; 2] = [ZONE, "localhost"];

/// Something in a spec that can't be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// As `services.api.networks`.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// The way out.
    pub remedy: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.path, self.what, self.remedy)
    }
}

impl EnvironmentSpec {
    /// Everything that is wrong with it; nothing if it may be stored.
    pub fn check(&self) -> Vec<Problem> {
        let mut check = Check { spec: self, problems: Vec::new() };
        check.environment();
        for (name, service) in &self.services {
            check.service(name, service);
        }
        check.aliases();
        check.cycles();
        check.problems
    }
}

struct Check<'a> {
    spec: &'a EnvironmentSpec,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    fn problem(&mut self, path: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), what: what.into(), remedy: remedy.into() });
    }

    fn environment(&mut self) {
        let key = &self.spec.key;
        for (path, name) in [("project", &key.project), ("environment", &key.environment)] {
            self.normalised(path, name);
        }
        let networks = self.spec.networks.len();
        if networks > NETWORKS_MAX {
            let what = format!("{networks} networks are in use, {NETWORKS_MAX} is the most in one environment");
            self.problem("networks", what, "let services share networks");
        }
        for name in &self.spec.volumes {
            if !is_volume_name(name) {
                let what = format!("{name:?} is no name for a volume");
                self.problem(format!("volumes.{name}"), what, "use letters, digits, '_', '.' and '-', a letter first");
            }
        }
    }

    /// Whether a name is as [`normalise`] leaves it.
    fn normalised(&mut self, path: &str, name: &str) -> bool {
        match normalise(name) {
            Ok(same) if same == name => true,
            Ok(other) => {
                self.problem(path, format!("the name {name:?} is not normalised"), format!("write {other:?}"));
                false
            }
            Err(error) => {
                self.problem(path, error.to_string(), "choose another name");
                false
            }
        }
    }

    fn service(&mut self, name: &str, service: &ServiceSpec) {
        let path = format!("services.{name}");
        self.name(&path, name, service);
        if service.image.is_empty() || service.image.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let what = format!("{:?} is no image", service.image);
            self.problem(format!("{path}.image"), what, "write one as name:tag, as in postgres:17");
        }
        if service.replicas > REPLICAS_MAX {
            let what = format!("{} replicas are more than {REPLICAS_MAX}", service.replicas);
            self.problem(format!("{path}.deploy.replicas"), what, "use fewer");
        }
        if service.networks.is_empty() {
            self.problem(format!("{path}.networks"), "it is in no network", "name one, or leave the key out");
        }
        for network in service.networks.keys().filter(|network| !self.spec.networks.contains_key(*network)) {
            let remedy = format!("declare it under networks:, or mend the name {network:?}");
            self.problem(format!("{path}.networks.{network}"), "there is no such network", remedy);
        }
        for dependency in service.depends_on.keys().filter(|name| !self.spec.services.contains_key(*name)) {
            let what = format!("there is no service {dependency}");
            self.problem(format!("{path}.depends_on.{dependency}"), what, "add it, or remove the dependency");
        }
        for label in service.labels.keys().filter(|label| label.starts_with("skep.")) {
            let what = format!("labels that begin with skep. are Skep's own: {label}");
            self.problem(format!("{path}.labels"), what, "give it another name");
        }
        for variable in
            service.environment.iter().filter(|(k, v)| k.is_empty() || k.contains(['=', '\0']) || v.contains('\0'))
        {
            self.problem(format!("{path}.environment"), format!("{:?} is no variable", variable.0), "mend its name");
        }
        self.mounts(&path, service);
        self.files(&path, service);
        self.rollout(&path, service);
        self.placement(&path, service);
        self.settings(&path, service);
        self.egress(&path, service);
        self.relations(name, &path, service);
    }

    fn name(&mut self, path: &str, name: &str, service: &ServiceSpec) {
        if !self.normalised(path, name) {
            return;
        }
        if RESERVED.contains(&name) {
            self.problem(path, format!("the name {name} is reserved"), "choose another name");
        }
        let key = &self.spec.key;
        let wire = name.len() + key.environment.len() + key.project.len() + ZONE.len() + 5;
        if wire > WIRE_NAME_MAX {
            let full = format!("{name}.{}.{}.{ZONE}", key.environment, key.project);
            let what = format!("the name {full} is {} characters too long", wire - WIRE_NAME_MAX);
            self.problem(path, what, "shorten the service, environment or project");
        }
        let hostname = format!("{name}-{}", service.replicas.max(1));
        if hostname.len() > LABEL_MAX {
            let over = hostname.len() - LABEL_MAX;
            let what = format!("the host name {hostname} of a replica is {over} characters too long");
            self.problem(path, what, "shorten the name of the service");
        }
    }

    fn egress(&mut self, path: &str, service: &ServiceSpec) {
        let path = format!("{path}.x-skep.egress");
        let listed = service.egress.as_ref().map_or(0, BTreeSet::len);
        if listed > EGRESS_MAX {
            let what = format!("{listed} places are more than {EGRESS_MAX}");
            self.problem(&path, what, "name wider prefixes");
        }
        for prefix in service.egress.iter().flatten().filter(|prefix| prefix.trunc() != **prefix) {
            self.problem(&path, format!("{prefix} is an address in a network"), format!("write {}", prefix.trunc()));
        }
        if listed > 0 && !service.has_egress(&self.spec.networks) {
            let what = "it may not go anywhere: its networks are internal";
            self.problem(&path, what, "put it into a network without internal: true as well, or remove the list");
        }
    }

    fn mounts(&mut self, path: &str, service: &ServiceSpec) {
        let path = format!("{path}.volumes");
        let mut targets = BTreeSet::new();
        for mount in &service.volumes {
            if !self.spec.volumes.contains(&mount.volume) {
                let what = format!("there is no volume {:?}", mount.volume);
                self.problem(&path, what, format!("declare it: volumes: {{ {}: }}", mount.volume));
            }
            let target = mount.target.trim_end_matches('/');
            // A colon would begin the options of Docker's short form.
            let odd = mount.target.contains(|c: char| c == ':' || c.is_control());
            let up = target.split('/').any(|part| part == "..");
            if !mount.target.starts_with('/') || target.is_empty() || odd || up {
                let what = format!("{:?} is no path to mount at", mount.target);
                self.problem(&path, what, "write an absolute path in the container");
            }
            if !targets.insert(target) {
                self.problem(&path, format!("{target} is mounted twice"), "keep one of them");
            }
        }
    }

    /// A name means one service, wherever in the environment it can be seen.
    fn aliases(&mut self) {
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, service) in &self.spec.services {
            for (network, alias) in service.networks.iter().flat_map(|(n, a)| a.aliases.iter().map(move |a| (n, a))) {
                let path = format!("services.{name}.networks.{network}.aliases");
                if self.normalised(&path, alias) && RESERVED.contains(&alias.as_str()) {
                    self.problem(&path, format!("the name {alias} is reserved"), "choose another alias");
                }
                let owner = *owners.entry(alias).or_insert(name);
                let clash = if owner != name {
                    Some(format!("the alias {alias} is one of service {owner} already"))
                } else if alias != name && self.spec.services.contains_key(alias) {
                    Some(format!("the alias {alias} is the name of a service"))
                } else {
                    None
                };
                if let Some(what) = clash {
                    self.problem(&path, what, "choose another alias");
                }
            }
        }
    }

    /// Services that wait for each other would wait for ever.
    fn cycles(&mut self) {
        let spec: &'a EnvironmentSpec = self.spec;
        let mut done: BTreeSet<&str> = BTreeSet::new();
        for name in spec.services.keys() {
            let mut trail: Vec<(&str, Vec<&str>)> = vec![(name, dependencies(spec, name))];
            while let Some((current, open)) = trail.last_mut() {
                let Some(next) = open.pop() else {
                    done.insert(current);
                    trail.pop();
                    continue;
                };
                if let Some(start) = trail.iter().position(|(on_trail, _)| *on_trail == next) {
                    let round: Vec<&str> =
                        trail.iter().skip(start).map(|(on_trail, _)| *on_trail).chain([next]).collect();
                    let path = format!("services.{next}.depends_on");
                    self.problem(
                        path,
                        format!("services wait for each other: {}", round.join(" → ")),
                        "remove one of them",
                    );
                    // One report a round: its members count as done.
                    done.extend(trail.drain(..).map(|(on_trail, _)| on_trail));
                } else if !done.contains(next) {
                    trail.push((next, dependencies(spec, next)));
                }
            }
        }
    }
}

fn dependencies<'a>(spec: &'a EnvironmentSpec, name: &str) -> Vec<&'a str> {
    let service = spec.services.get(name);
    service.into_iter().flat_map(|service| service.depends_on.keys().map(String::as_str)).collect()
}

/// What Docker takes as the end of a volume's name.
fn is_volume_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(fits) && name.len() <= 100
}
