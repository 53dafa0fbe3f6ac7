//! Compose files → [`EnvironmentSpec`]. People already have the file; this reads it, refuses what would
//! not mean what they think, and says so by line. Nothing is applied of a file with an error.
//!
//! `yaml` makes a tree of a text, `assemble` one tree of all files, `reader` takes nodes as what they should be and
//! collects every error, [`keys`] is the table of all keys, `service` and what is around it put the spec together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::model::file::{Content, Wanted};
use crate::model::name::normalise;
use crate::model::spec::NetworkSpec;
use crate::model::{EnvironmentKey, EnvironmentSpec, ServiceSpec};

mod aliases;
mod assemble;
mod diagnostic;
mod dotenv;
mod duration;
mod egress;
mod environment;
mod files;
mod health;
mod interpolate;
pub mod keys;
mod limits;
mod links;
mod mounts;
mod own;
mod placement;
mod print;
mod reader;
mod rollout;
mod service;
mod settings;
mod shell;
mod sources;
mod yaml;

#[cfg(test)]
mod tests;

pub use diagnostic::{Diagnostic, ManifestError};

use diagnostic::Place;
use keys::{NETWORK, TOP, VOLUME};
use reader::{Reader, join};
use service::DEFAULT_NETWORK;
use sources::{PROFILES, PROJECT, Sources};
use yaml::Node;

/// What to read, and as what.
pub struct Options<'a> {
    /// The compose files, never none: each one changes what the ones before say.
    pub files: Vec<PathBuf>,
    /// Services of these profiles are taken too; of all, for `*`. Without any, of those in `COMPOSE_PROFILES`.
    pub profiles: Vec<String>,
    /// The project; else `COMPOSE_PROJECT_NAME`, else the files' `name`, else the name of the first one's directory.
    pub project: Option<String>,
    /// The environment.
    pub environment: String,
    /// Variables of the caller, for `${…}` and for bare keys; they win over `.env` beside the first file.
    pub variables: &'a dyn Fn(&str) -> Option<String>,
}

/// Files that can be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What it asks for.
    pub spec: EnvironmentSpec,
    /// What files of it hold, by the names that it gives them.
    pub contents: BTreeMap<String, Content>,
    /// Keys that have no effect here, for people.
    pub notes: Vec<Diagnostic>,
}

impl Manifest {
    /// What is sent to have it.
    pub fn wanted(self) -> Wanted {
        Wanted { spec: self.spec, contents: self.contents }
    }
}

/// Reads compose files.
///
/// # Errors
/// [`ManifestError`] when a file can't be read, or with everything that is wrong with it, one line each.
pub fn load(options: &Options<'_>) -> Result<Manifest, ManifestError> {
    read(options).map(|(manifest, ..)| manifest)
}

/// Reads compose files, and gives them as one: put together, with the values of variables, without services that are left
/// out.
///
/// # Errors
/// As [`load`].
pub fn resolve(options: &Options<'_>) -> Result<(Manifest, String), ManifestError> {
    let (manifest, root, reader) = read(options)?;
    let text = print::yaml(&reader, &root, &manifest.spec);
    Ok((manifest, text))
}

/// The variables that a directory has for the project in it, in `.env`; none without that file.
///
/// # Errors
/// [`ManifestError`] when it can't be read.
pub fn dot_env(
    directory: &Path,
    variables: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, ManifestError> {
    assemble::dot_env(&Sources::new(variables), directory)
}

fn read<'a>(options: &Options<'a>) -> Result<(Manifest, Node, Reader<'a>), ManifestError> {
    let mut reader = Reader::new(Sources::new(options.variables));
    let root = assemble::project(&mut reader, &options.files)?;
    let mut whole = None;
    if let Some(root) = root {
        let read = environment(&mut reader, &root, options);
        for problem in read.check() {
            let place = place_of(&reader.places, &problem.path);
            reader.error(place, &problem.path, problem.what, problem.remedy);
        }
        whole = Some((read, root));
    } else if reader.errors.is_empty() {
        reader.error(Place::START, "", "the file is empty", "write services: with at least one service");
    }
    let [errors, notes] =
        [std::mem::take(&mut reader.errors), std::mem::take(&mut reader.notes)].map(diagnostic::settle);
    match whole {
        Some((spec, root)) if errors.is_empty() => {
            let contents = std::mem::take(&mut reader.contents);
            Ok((Manifest { spec, contents, notes }, root, reader))
        }
        _ => Err(ManifestError::Refused(errors)),
    }
}

fn environment(reader: &mut Reader<'_>, root: &Node, options: &Options<'_>) -> EnvironmentSpec {
    let key = key(reader, root, options);
    let profiles = profiles(reader, options);
    let mut services = BTreeMap::new();
    let mut declared = BTreeMap::new();
    let mut volumes = BTreeSet::new();
    let mut files = Vec::new();
    for field in reader.fields(root, "", &TOP) {
        reader.places.insert(field.key.to_owned(), field.at);
        match field.key {
            "name" => {}
            "services" => services = self::services(reader, field.node, &profiles),
            "networks" => declared = networks(reader, field.node),
            "configs" => files.push((files::Kind::Config, field.node)),
            "secrets" => files.push((files::Kind::Secret, field.node)),
            _ => volumes = self::volumes(reader, field.node),
        }
    }
    files::settle(reader, &files, &services);
    if services.is_empty() && reader.errors.is_empty() {
        reader.error(root.at, "services", "there is no service to start", "write services: with at least one");
    }
    declared.entry(DEFAULT_NETWORK.to_owned()).or_default();
    let used = |network: &String| services.values().any(|service: &ServiceSpec| service.networks.contains_key(network));
    let networks = declared.into_iter().filter(|(network, _)| used(network)).collect();
    EnvironmentSpec { key, services, networks, volumes }
}

/// Project and environment, normalised.
fn key(reader: &mut Reader<'_>, root: &Node, options: &Options<'_>) -> EnvironmentKey {
    let directory = || {
        let file = std::path::absolute(options.files.first()?).ok()?;
        let name = file.parent()?.file_name()?.to_string_lossy().into_owned();
        // Nobody chose it as a name of a project, as example.com.
        let fits = |name: &String| normalise(name).is_ok();
        Some(Some(as_compose_has_it(&name)).filter(|short| !fits(&name) && fits(short)).unwrap_or(name))
    };
    let variable = || reader.sources.lookup(Place::START, PROJECT).filter(|name| !name.is_empty());
    let said = options.project.clone().or_else(variable);
    let name = root.entry("name").and_then(|(key, name)| Some((key.at, reader.optional(name, "name")?)));
    let at = name.as_ref().map_or(Place::START, |(at, _)| *at);
    let project = said.or(name.map(|(_, name)| name)).or_else(directory).unwrap_or_default();
    reader.sources.project = Some(as_compose_has_it(&project));
    let mut normalised = |path: &str, name: &str, remedy: &str| match normalise(name) {
        Ok(name) => name,
        Err(error) => {
            reader.error(at, path, error.to_string(), remedy);
            // Stands in so that the rest can be looked at.
            "invalid".to_owned()
        }
    };
    EnvironmentKey {
        project: normalised("name", &project, "give the project another name with -p"),
        environment: normalised("environment", &options.environment, "give the environment another name with -e"),
    }
}

/// What Compose calls a project of this name, which is in the names of images that it builds.
fn as_compose_has_it(project: &str) -> String {
    let fits = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let name: String = project.to_lowercase().chars().filter(fits).collect();
    name.trim_start_matches(['-', '_']).to_owned()
}

/// Those that are asked for.
fn profiles(reader: &Reader<'_>, options: &Options<'_>) -> Vec<String> {
    if !options.profiles.is_empty() {
        return options.profiles.clone();
    }
    let names = reader.sources.lookup(Place::START, PROFILES).unwrap_or_default();
    names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn services(reader: &mut Reader<'_>, node: &Node, profiles: &[String]) -> BTreeMap<String, ServiceSpec> {
    let mut readings = BTreeMap::new();
    let mut names: BTreeMap<String, (Place, String)> = BTreeMap::new();
    for (key, node) in reader.entries(node, "services") {
        let path = join("services", &key.text);
        let Some(name) = service::service_name(reader, key.at, &path, &key.text) else { continue };
        if let Some((first, other)) = names.get(&name) {
            let there = match first.file == key.at.file {
                true => format!("line {}", first.line),
                false => format!("{}:{}", reader.sources.path(first.file).display(), first.line),
            };
            let what = format!("{other:?} in {there} and {:?} both become {name:?}", key.text);
            reader.error(key.at, &path, what, "rename one of them");
            continue;
        }
        let place = join("services", &name);
        reader.places.insert(place.clone(), key.at);
        names.insert(name.clone(), (key.at, key.text.clone()));
        let Some(reading) = service::read(reader, node, &path, &place, profiles) else { continue };
        service::note_spelling(reader, key.at, &path, &key.text, &name);
        readings.insert(name, reading);
    }
    let mut services = service::settle(reader, readings);
    links::settle(reader, &mut services);
    services
}

fn networks(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<String, NetworkSpec> {
    let mut networks = BTreeMap::new();
    for (key, node) in reader.entries(node, "networks") {
        let path = join("networks", &key.text);
        let mut network = NetworkSpec::default();
        for field in reader.fields(node, &path, &NETWORK) {
            network.internal = reader.flag(field.node, &field.path);
        }
        networks.insert(key.text.clone(), network);
    }
    networks
}

fn volumes(reader: &mut Reader<'_>, node: &Node) -> BTreeSet<String> {
    let mut volumes = BTreeSet::new();
    for (key, node) in reader.entries(node, "volumes") {
        let path = join("volumes", &key.text);
        reader.places.insert(path.clone(), key.at);
        for field in reader.fields(node, &path, &VOLUME) {
            if let Some(driver) = reader.optional(field.node, &field.path)
                && driver != "local"
            {
                let what = format!("the volume driver {driver} is not supported yet");
                reader.error(field.at, &field.path, what, "remove it; volumes are directories of Docker's");
            }
        }
        volumes.insert(key.text.clone());
    }
    volumes
}

/// Where the key stands, or the nearest one around it.
fn place_of(places: &BTreeMap<String, Place>, path: &str) -> Place {
    let mut path = path;
    loop {
        match (places.get(path), path.rsplit_once('.')) {
            (Some(place), _) => return *place,
            (None, Some((outer, _))) => path = outer,
            (None, None) => return Place::START,
        }
    }
}
