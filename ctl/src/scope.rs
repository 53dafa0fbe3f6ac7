use std::collections::BTreeMap;
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
const FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

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

/// What is said where the command is started: by its environment, and where no files are named by `.env`, too, which is not
/// always beside the files that are found.
struct Here<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    dot_env: BTreeMap<String, String>,
}

impl<'a> Here<'a> {
    fn of(
        args: &FileArgs,
        directory: &Path,
        environment: &'a dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, CtlError> {
        let dot_env = match args.files.is_empty() {
            true => manifest::dot_env(directory, environment)?,
            false => BTreeMap::new(),
        };
        Ok(Self { environment, dot_env })
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).or_else(|| self.dot_env.get(name).cloned())
    }

    fn given(&self, name: &str) -> Option<String> {
        self.variable(name).filter(|value| !value.is_empty())
    }
}

/// The compose files: those that are named, else those that Compose would take.
fn compose_files(args: &FileArgs, here: &Here<'_>) -> Result<Vec<PathBuf>, CtlError> {
    if !args.files.is_empty() {
        return Ok(args.files.clone());
    }
    if let Some(files) = here.given("COMPOSE_FILE") {
        let separator = here.given("COMPOSE_PATH_SEPARATOR").unwrap_or_else(|| ":".to_owned());
        return Ok(files.split(&separator).map(PathBuf::from).collect());
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
    with_options(global, args, manifest::load)
}

/// The same, and gives them as one file.
pub(crate) fn resolve(global: &Global, args: &FileArgs) -> Result<(manifest::Manifest, String), CtlError> {
    with_options(global, args, manifest::resolve)
}

fn with_options<T>(
    global: &Global,
    args: &FileArgs,
    read: fn(&manifest::Options<'_>) -> Result<T, manifest::ManifestError>,
) -> Result<T, CtlError> {
    let environment_variable = |name: &str| std::env::var(name).ok();
    let here = Here::of(args, Path::new(""), &environment_variable)?;
    let options = manifest::Options {
        files: compose_files(args, &here)?,
        profiles: args.profiles.iter().map(|profile| profile.trim().to_owned()).collect(),
        project: global.project.clone(),
        environment: environment(global)?,
        variables: &|name| here.variable(name),
    };
    Ok(read(&options)?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_the_command_or_the_environment_or_the_variables_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(".env"), "COMPOSE_FILE=a.yaml|b.yaml\nCOMPOSE_PATH_SEPARATOR=|\n")
            .unwrap();
        let files = |named: &[&str], environment: &[(&str, &str)]| -> Vec<String> {
            let value = |name: &str| Some(environment.iter().find(|(known, _)| *known == name)?.1.to_owned());
            let args = FileArgs { files: named.iter().map(PathBuf::from).collect(), profiles: Vec::new() };
            let here = Here::of(&args, directory.path(), &value).unwrap();
            let files = compose_files(&args, &here).unwrap();
            files.iter().map(|file| file.display().to_string()).collect()
        };
        assert_eq!(files(&[], &[]), ["a.yaml", "b.yaml"]);
        assert_eq!(files(&[], &[("COMPOSE_FILE", "c.yaml|d.yaml")]), ["c.yaml", "d.yaml"]);
        assert_eq!(files(&[], &[("COMPOSE_PATH_SEPARATOR", ":")]), ["a.yaml|b.yaml"]);
        assert_eq!(files(&["e.yaml"], &[("COMPOSE_FILE", "c.yaml")]), ["e.yaml"]);
    }
}
