//! Which variables each service of an environment gets beside its own, and from where.

use std::collections::BTreeMap;

use super::Access;
use super::own::Database;
use crate::model::name::ZONE;
use crate::model::spec::ServiceType;
use crate::model::{Credentials, EnvironmentSpec, Secret, ServiceSpec};

/// The variable of the port that a service is to listen on.
const PORT: &str = "PORT";

/// Where a variable comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `x-skep.port`.
    Port,
    /// Generated for this very database.
    Own,
    /// This database's URL.
    Database(String),
    /// This service, which it is linked to.
    Link(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port => f.write_str("x-skep.port"),
            Self::Own => f.write_str("generated"),
            Self::Database(service) => write!(f, "URL of {service}"),
            Self::Link(service) => write!(f, "link to {service}"),
        }
    }
}

/// A variable that the user did not write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// Its value.
    pub value: Secret,
    /// Where that is from.
    pub origin: Origin,
}

/// A service's variables that the user did not write.
pub type Variables = BTreeMap<String, Injected>;

/// What each service gets, given the credentials of its databases by service. What needs credentials that are not there
/// is left out: [`super::missing`] makes them.
pub fn variables(
    environment: &EnvironmentSpec,
    credentials: &BTreeMap<String, Credentials>,
) -> BTreeMap<String, Variables> {
    let databases = environment.services.iter().filter_map(|(name, service)| {
        let database = Database::of(environment, name)?;
        let access = database.access(credentials.get(name));
        Some((name.as_str(), Reachable { service, database, access }))
    });
    let databases: BTreeMap<&str, Reachable<'_>> = databases.collect();
    let of = |name: &str, service| of_service(environment, &databases, credentials, name, service);
    environment.services.iter().map(|(name, service)| (name.clone(), of(name, service))).collect()
}

/// A database as others see it.
struct Reachable<'a> {
    service: &'a ServiceSpec,
    database: Database<'a>,
    access: Option<Access>,
}

fn of_service(
    environment: &EnvironmentSpec,
    databases: &BTreeMap<&str, Reachable<'_>>,
    credentials: &BTreeMap<String, Credentials>,
    name: &str,
    service: &ServiceSpec,
) -> Variables {
    let mut given = Given { service, variables: BTreeMap::new() };
    if let Some(port) = service.port {
        given.put(PORT, Origin::Port, Secret::new(port.to_string()));
    }
    if let (Some(own), Some(credentials)) = (databases.get(name), credentials.get(name)) {
        for (variable, value) in own.database.variables(credentials) {
            given.put(variable, Origin::Own, value);
        }
    }
    for (alias, target) in &service.links {
        let url = match databases.get(target.as_str()) {
            Some(database) => database.access.as_ref().map(|access| access.url(&host(target))),
            None => environment.services.get(target).and_then(port).map(|port| http(target, port)),
        };
        if let Some(url) = url {
            given.put(&format!("{}_URL", upper(alias)), Origin::Link(target.clone()), url);
        }
    }
    if matches!(service.kind, ServiceType::Web | ServiceType::Service) {
        let reachable = databases.iter().filter(|(other, it)| **other != name && service.shares_network(it.service));
        given.databases(&reachable.map(|(name, it)| (*name, it)).collect::<Vec<_>>());
    }
    given.variables
}

struct Given<'a> {
    service: &'a ServiceSpec,
    variables: Variables,
}

impl Given<'_> {
    /// Unless the user set it, or something before: the more explicit comes first.
    fn put(&mut self, variable: &str, origin: Origin, value: Secret) {
        if !self.service.environment.contains_key(variable) {
            self.variables.entry(variable.to_owned()).or_insert(Injected { value, origin });
        }
    }

    /// The URLs of databases, which are in the order of their names.
    fn databases(&mut self, reachable: &[(&str, &Reachable<'_>)]) {
        let mut first: BTreeMap<&str, &(&str, &Reachable<'_>)> = BTreeMap::new();
        for entry in reachable {
            let kind = entry.1.database.kind;
            let named = |(name, _): &(&str, _)| kind.usual_names().contains(name);
            let holder = first.entry(kind.variable()).or_insert(entry);
            if named(entry) && !named(holder) {
                *holder = entry;
            }
        }
        let short = first.into_iter().map(|(variable, entry)| (variable.to_owned(), entry));
        let long = reachable.iter().map(|entry| {
            let (name, it) = entry;
            (format!("{}_{}", upper(name), it.database.kind.variable()), entry)
        });
        for (variable, (name, it)) in short.chain(long) {
            if let Some(access) = &it.access {
                self.put(&variable, Origin::Database((*name).to_owned()), access.url(&host(name)));
            }
        }
    }
}

fn host(service: &str) -> String {
    format!("{service}.{ZONE}")
}

fn http(service: &str, port: u16) -> Secret {
    Secret::new(format!("http://{}:{port}", host(service)))
}

/// Where a service listens, as far as anybody said.
fn port(service: &ServiceSpec) -> Option<u16> {
    service.port.or_else(|| service.environment.get(PORT)?.parse().ok())
}

/// A normalised name as a part of a variable's.
fn upper(name: &str) -> String {
    let upper = name.to_ascii_uppercase().replace('-', "_");
    // No shell knows a variable whose name begins with a digit.
    if upper.starts_with(|c: char| c.is_ascii_digit()) { format!("_{upper}") } else { upper }
}
