use std::path::{Path, PathBuf};

use dataplane::manifest;
use dataplane::model::EnvironmentKey;
use dataplane::model::name::normalise;

use crate::cli::{FileArgs, Global, Meant};
use crate::client::encode;
use crate::error::CtlError;

/// The environment when none is named.
pub(crate) const ENVIRONMENT: &str = "production";

/// What Compose looks for, in its order.
const FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// What it takes beside it.
const OVERRIDES: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];

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

    /// One environment.
    pub(crate) fn of(project: &str, environment: &str) -> Self {
        Self { project: Some(project.to_owned()), environment: Some(environment.to_owned()) }
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

/// The compose files: those that are named, else those that Compose would take.
fn compose_files(args: &FileArgs) -> Result<Vec<PathBuf>, CtlError> {
    if !args.files.is_empty() {
        return Ok(args.files.clone());
    }
    if let Some(files) = std::env::var_os("COMPOSE_FILE").filter(|files| !files.is_empty()) {
        let separator =
            std::env::var("COMPOSE_PATH_SEPARATOR").ok().filter(|it| !it.is_empty()).unwrap_or_else(|| ":".to_owned());
        return Ok(files.to_string_lossy().split(&separator).map(PathBuf::from).collect());
    }
    let here = std::env::current_dir().map_err(|_| CtlError::NoFile)?;
    let directories = here.ancestors().map(|directory| directory.strip_prefix(&here).unwrap_or(directory));
    let first = |directory: &Path, names: [&str; 4]| {
        names.into_iter().map(|name| directory.join(name)).find(|file| file.exists())
    };
    let mut found = directories.filter_map(|directory| Some((first(directory, FILES)?, first(directory, OVERRIDES))));
    let (file, over) = found.next().ok_or(CtlError::NoFile)?;
    Ok([Some(file), over].into_iter().flatten().collect())
}

/// Reads the compose files as this project and environment.
pub(crate) fn load(global: &Global, args: &FileArgs) -> Result<manifest::Manifest, CtlError> {
    Ok(manifest::load(&options(global, args)?)?)
}

/// The same, and gives them as one file.
pub(crate) fn resolve(global: &Global, args: &FileArgs) -> Result<(manifest::Manifest, String), CtlError> {
    Ok(manifest::resolve(&options(global, args)?)?)
}

fn options(global: &Global, args: &FileArgs) -> Result<manifest::Options<'static>, CtlError> {
    Ok(manifest::Options {
        files: compose_files(args)?,
        profiles: args.profiles.iter().map(|profile| profile.trim().to_owned()).collect(),
        project: global.project.clone(),
        environment: environment(global)?,
        variables: &|name| std::env::var(name).ok(),
    })
}

/// The project that is named, else the compose files'.
pub(crate) fn key(global: &Global, args: &FileArgs) -> Result<EnvironmentKey, CtlError> {
    match &global.project {
        Some(project) => Ok(EnvironmentKey { project: normalise(project)?, environment: environment(global)? }),
        None => {
            // Whatever is taken of them, they are one project's.
            let all = FileArgs { files: args.files.clone(), profiles: vec!["*".to_owned()] };
            Ok(load(global, &all)?.spec.key)
        }
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

/// Where the API has what people do with one replica: `deed` of a service, with what else is asked for.
pub(crate) fn inside(
    global: &Global,
    meant: &Meant,
    deed: &str,
    further: Option<(&str, String)>,
) -> Result<String, CtlError> {
    let key = key(global, &FileArgs::default())?;
    let replica = meant.replica.map(|replica| ("replica", replica.to_string()));
    let query: Vec<String> =
        replica.into_iter().chain(further).map(|(key, value)| format!("{key}={}", encode(&value))).collect();
    Ok(format!("{}/services/{}/{deed}?{}", path(&key), encode(&meant.service), query.join("&")))
}

/// Where the API has an environment.
pub(crate) fn path(key: &EnvironmentKey) -> String {
    format!("/v1/environments/{}/{}", encode(&key.project), encode(&key.environment))
}
