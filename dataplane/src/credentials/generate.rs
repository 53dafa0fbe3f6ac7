//! Credentials that are not there yet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::own::Database;
use crate::model::{Credentials, EnvironmentSpec, KeptCredentials, Kind, Secret, ServiceSpec};
use crate::random::{self, RandomError};

/// What no shell, URL, SQL, YAML or configuration file wants quoted, and nobody reads for another (Crockford's base 32).
/// Five bits each.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// 160 bits.
const PASSWORD_LENGTH: usize = 32;

/// Begins a user's name: no database reserves such a one, and a digit may follow.
const USER: &str = "app_";

/// The generated name of a database. It is the same everywhere, so that a dump of one goes into another.
const DATABASE: &str = "app";

/// A new password.
///
/// # Errors
/// [`RandomError`].
pub fn password() -> Result<Secret, RandomError> {
    text::<PASSWORD_LENGTH>().map(Secret::new)
}

fn text<const N: usize>() -> Result<String, RandomError> {
    let octets: [u8; N] = random::octets()?;
    let character = |octet: u8| ALPHABET.get(usize::from(octet % 32)).copied().map_or('0', char::from);
    Ok(octets.into_iter().map(character).collect())
}

/// More than any one kind needs.
fn generated() -> Result<Credentials, RandomError> {
    Ok(Credentials {
        user: Some(format!("{USER}{}", text::<8>()?)),
        password: Some(password()?),
        database: Some(DATABASE.to_owned()),
        root_password: Some(password()?),
    })
}

/// The records, by service, that an environment lacks beside those that are `kept` of it, at `now` (seconds since the
/// epoch). A volume's data are opened by what they were made with, however the service is called that mounts it now, and
/// whatever its variables say no more; a volume that is new is made with what its service had before. Services that are
/// `begun` have data from a time without records: nothing is generated for them, it would not fit.
///
/// # Errors
/// [`RandomError`].
pub fn missing(
    environment: &EnvironmentSpec,
    kept: &BTreeMap<String, KeptCredentials>,
    begun: &BTreeSet<String>,
    now: u64,
) -> Result<BTreeMap<String, KeptCredentials>, RandomError> {
    let mut missing = BTreeMap::new();
    for (name, service) in &environment.services {
        let Some(database) = Database::of(environment, name).filter(Database::keeps) else { continue };
        let volume = volume(database.kind, service).map(str::to_owned);
        let of_volume = kept.values().filter(|record| volume.is_some() && record.volume == volume);
        let record = match (of_volume.max_by_key(|record| record.version), kept.get(name)) {
            (Some(newest), Some(own)) if own.volume == volume && own.version == newest.version => continue,
            (Some(newest), _) => newest.clone(),
            (None, Some(own)) if own.volume == volume => continue,
            (None, Some(own)) => KeptCredentials { volume, ..own.clone() },
            (None, None) => {
                let generated = if begun.contains(name) { Credentials::default() } else { generated()? };
                KeptCredentials { version: 1, made: now, volume, credentials: database.first(&generated), next: None }
            }
        };
        missing.insert(name.clone(), record);
    }
    Ok(missing)
}

/// The volume that a database has its data in.
fn volume(kind: Kind, service: &ServiceSpec) -> Option<&str> {
    let told = service.environment.get("PGDATA").filter(|_| kind == Kind::Postgres);
    let data = Path::new(told.map_or(kind.data(), String::as_str));
    let holds = |target: &str| data.starts_with(target) || Path::new(target).starts_with(data);
    service.volumes.iter().find(|mount| holds(&mount.target)).map(|mount| mount.volume.as_str())
}
