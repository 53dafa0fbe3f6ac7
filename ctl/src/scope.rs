use std::path::{Path, PathBuf};

use dataplane::manifest;
use dataplane::model::EnvironmentKey;
use dataplane::model::name::normalise;

use crate::cli::Global;
use crate::client::encode;
use crate::error::CtlError;

/// The environment when none is named.
pub(crate) const ENVIRONMENT: &str = "production";

/// What Compose looks for, in its order.
const FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// Projects and environments that are meant; none named: all of them.
pub(crate) struct Scope {
    project: Option<String>,
    environment: Option<String>,
}

impl Scope {
    pub(crate) fn new(global: &Global) -> Result<Self, CtlError> {
        let normal = |name: &Option<String>| name.as_deref().map(normalise).transpose();
        Ok(Self { project: normal(&global.project)?, environment: normal(&global.environment)? })
    }

    pub(crate) fn contains(&self, project: &str, environment: &str) -> bool {
        self.project.as_deref().is_none_or(|wanted| wanted == project)
            && self.environment.as_deref().is_none_or(|wanted| wanted == environment)
    }

    /// `path` with the query that restricts it.
    pub(crate) fn query(&self, path: &str) -> String {
        self.query_of(path, None)
    }

    /// [`Self::query`], with one more restriction.
    pub(crate) fn query_of(&self, path: &str, further: Option<(&str, &str)>) -> String {
        let pairs = [("project", self.project.as_deref()), ("environment", self.environment.as_deref())];
        let pairs = pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).chain(further);
        let query: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", encode(value))).collect();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
    }
}

/// The environment's name, as it is or by default.
pub(crate) fn environment(global: &Global) -> Result<String, CtlError> {
    Ok(normalise(global.environment.as_deref().unwrap_or(ENVIRONMENT))?)
}

/// The compose file: the one that is named, else the first that Compose would take.
pub(crate) fn compose_file(named: Option<&Path>) -> Result<PathBuf, CtlError> {
    let found = || FILES.iter().map(PathBuf::from).find(|file| file.exists());
    named.map(Path::to_owned).or_else(found).ok_or(CtlError::NoFile)
}

/// Reads the compose file as this project and environment.
pub(crate) fn load(global: &Global, file: Option<&Path>) -> Result<manifest::Manifest, CtlError> {
    Ok(manifest::load(&manifest::Options {
        file: compose_file(file)?,
        project: global.project.clone(),
        environment: environment(global)?,
        variables: &|name| std::env::var(name).ok(),
    })?)
}

/// The project that is named, else the compose file's.
pub(crate) fn key(global: &Global, file: Option<&Path>) -> Result<EnvironmentKey, CtlError> {
    match &global.project {
        Some(project) => Ok(EnvironmentKey { project: normalise(project)?, environment: environment(global)? }),
        None => Ok(load(global, file)?.spec.key),
    }
}

/// `path` with these options, as far as they are wanted.
pub(crate) fn with(path: String, options: &[(&str, bool)]) -> String {
    let wanted: Vec<String> =
        options.iter().filter(|(_, wanted)| *wanted).map(|(name, _)| format!("{name}=true")).collect();
    if wanted.is_empty() { path } else { format!("{path}?{}", wanted.join("&")) }
}

/// The rows of one service, if one is named.
pub(crate) fn of_service<T>(
    rows: Vec<T>,
    named: Option<&str>,
    service: impl Fn(&T) -> &String,
) -> Result<Vec<T>, CtlError> {
    let named = named.map(normalise).transpose()?;
    Ok(rows.into_iter().filter(|row| named.as_ref().is_none_or(|named| named == service(row))).collect())
}

/// Where the API has an environment.
pub(crate) fn path(key: &EnvironmentKey) -> String {
    format!("/v1/environments/{}/{}", encode(&key.project), encode(&key.environment))
}
