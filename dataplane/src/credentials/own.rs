//! A database's own variables: what the user said in them, what the image makes of the rest, and what it was made with.

use std::collections::BTreeMap;

use super::Access;
use super::cache;
use super::kinds::Names;
use super::open;
use crate::model::{Credentials, EnvironmentSpec, Kind, Secret, ServiceSpec};

/// The image's own user of PostgreSQL.
const POSTGRES_USER: &str = "postgres";

/// How PostgreSQL asks its clients who they are; `trust`: not at all.
const POSTGRES_METHOD: &str = "POSTGRES_HOST_AUTH_METHOD";

/// The administrator of MySQL and MariaDB. The images refuse to make a second one of that name.
pub(super) const ROOT: &str = "root";

/// What the user said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// This.
    Given(&'a str),
    /// Something that is not to be read here: in a file, or a hash.
    Hidden,
    /// That there be nothing, which to the images is as if it were not said.
    Nothing,
}

/// What a database that begins is made with if the user says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Otherwise<'a> {
    /// The image has this, or does without.
    Image(Option<&'a str>),
    /// What the user is called.
    AsUser,
    /// Skep makes it.
    Generated,
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part<'a> {
    said: Option<Said<'a>>,
    otherwise: Otherwise<'a>,
}

/// What the image does without.
const NONE: Part<'static> = Part { said: None, otherwise: Otherwise::Image(None) };

impl<'a> Part<'a> {
    /// What there is, given what it was `made` with, if that is known ([`Some`]).
    fn now(self, made: Option<Option<&'a str>>, user: Option<&'a str>) -> Result<Option<&'a str>, Unknown> {
        match (self.said, made, self.otherwise) {
            (Some(Said::Given(text)), ..) => Ok(Some(text)),
            (Some(Said::Hidden), ..) | (_, None, Otherwise::Generated) => Err(Unknown),
            (_, Some(made), _) => Ok(made),
            (_, None, Otherwise::Image(value)) => Ok(value),
            (_, None, Otherwise::AsUser) => Ok(user),
        }
    }

    /// What it is to be made with.
    fn first(self, generated: Option<&'a str>, user: Option<&'a str>) -> Option<&'a str> {
        match (self.said, self.otherwise) {
            (Some(Said::Given(text)), _) => Some(text),
            (_, Otherwise::Image(value)) => value,
            (_, Otherwise::AsUser) => user,
            (Some(Said::Nothing), Otherwise::Generated) => None,
            (_, Otherwise::Generated) => generated,
        }
    }
}

/// A value is not known.
#[derive(Debug)]
struct Unknown;

/// A database with the source of each of its values.
#[derive(Debug)]
pub(super) struct Database<'a> {
    pub(super) kind: Kind,
    service: &'a ServiceSpec,
    user: Part<'a>,
    password: Part<'a>,
    database: Part<'a>,
    root: Part<'a>,
}

impl<'a> Database<'a> {
    /// What a service is to others; [`None`]: no database or cache.
    pub(super) fn of(environment: &'a EnvironmentSpec, name: &str) -> Option<Self> {
        let service = environment.services.get(name)?;
        let kind = Kind::of_service(service)?;
        Some(match kind {
            Kind::Postgres => postgres(service),
            Kind::Mysql | Kind::Mariadb => mysql(kind, service),
            Kind::Mongo => mongo(service, open::is_open(environment, name, service)),
            Kind::Redis | Kind::Valkey => {
                let otherwise = if service.password { Otherwise::Generated } else { Otherwise::Image(None) };
                let password = Part { said: cache::given(service), otherwise };
                Self { kind, service, user: NONE, password, database: NONE, root: NONE }
            }
        })
    }

    /// Whether what it is made with must be kept: a database holds on to it, a cache is told at each start.
    pub(super) fn keeps(&self) -> bool {
        self.kind.cache_server().is_none() || self.is_skeps()
    }

    /// Whether the password is Skep's to change.
    pub(super) fn is_skeps(&self) -> bool {
        self.password.said.is_none() && self.password.otherwise == Otherwise::Generated
    }

    /// What a database that begins is made with, out of what was `generated` for it.
    pub(super) fn first(&self, generated: &Credentials) -> Credentials {
        let user = self.user.first(generated.user.as_deref(), None);
        let part = |part: Part<'_>, generated: Option<&str>| part.first(generated, user).map(str::to_owned);
        Credentials {
            user: user.map(str::to_owned),
            password: part(self.password, text(generated.password.as_ref())).map(Secret::new),
            database: part(self.database, generated.database.as_deref()),
            root_password: part(self.root, text(generated.root_password.as_ref())).map(Secret::new),
        }
    }

    /// What clients need to know; [`None`]: it cannot be known, or not yet.
    pub(super) fn access(&self, made: Option<&Credentials>) -> Option<Access> {
        let made = made.filter(|_| self.keeps());
        let user = self.user.now(made.map(|made| made.user.as_deref()), None).ok()?;
        let password = match (user, self.user.said, self.root.said) {
            // Nobody else may log in, and this is what the user says of root now.
            (Some(ROOT), None, Some(Said::Given(password))) => Some(password),
            _ => self.password.now(made.map(|made| text(made.password.as_ref())), None).ok()?,
        };
        let database = self.database.now(made.map(|made| made.database.as_deref()), user).ok()?;
        Some(Access {
            kind: self.kind,
            port: self.service.port.unwrap_or(self.kind.port()),
            user: user.map(str::to_owned),
            password: password.map(Secret::new),
            database: database.map(str::to_owned),
        })
    }

    /// The variables that Skep gives it.
    pub(super) fn variables(&self, made: &Credentials) -> BTreeMap<&'static str, Secret> {
        if self.kind.cache_server().is_some() {
            let password = made.password.as_ref().filter(|_| self.keeps());
            return password.into_iter().flat_map(cache::variables).collect();
        }
        let Names { user, password, database, root, .. } = self.kind.names();
        let is_root = made.user.as_deref() == Some(ROOT) && !root.is_empty();
        let of = |text: &Option<String>| text.as_ref().map(Secret::new);
        let all = [
            (self.user, user, of(&made.user).filter(|_| !is_root)),
            (self.password, password, made.password.clone().filter(|_| !is_root)),
            (self.database, database, of(&made.database)),
            (self.root, root, made.root_password.clone()),
        ];
        let unsaid = all.into_iter().filter(|(part, ..)| part.said.is_none());
        unsaid.filter_map(|(_, names, value)| Some((*names.first()?, value?))).collect()
    }
}

fn text(secret: Option<&Secret>) -> Option<&str> {
    secret.map(Secret::expose)
}

/// How clients reach the service `name`, which was `made` with these credentials; [`None`]: it is no database, or what
/// they need cannot be known.
pub fn access(environment: &EnvironmentSpec, name: &str, made: Option<&Credentials>) -> Option<Access> {
    Database::of(environment, name)?.access(made)
}

/// Whether the password of the service `name` is Skep's to change: it has one, and the user set none.
pub fn is_generated(environment: &EnvironmentSpec, name: &str) -> bool {
    Database::of(environment, name).is_some_and(|database| database.is_skeps())
}

fn postgres(service: &ServiceSpec) -> Database<'_> {
    let kind = Kind::Postgres;
    let names = kind.names();
    let (user, password) = (said(service, names.user, &[]), said(service, names.password, &[]));
    let open = service.environment.get(POSTGRES_METHOD).is_some_and(|method| method == "trust");
    let taken = open || user.is_some() || password.is_some();
    let otherwise = |image| if taken { image } else { Otherwise::Generated };
    Database {
        kind,
        service,
        user: Part { said: user, otherwise: otherwise(Otherwise::Image(Some(POSTGRES_USER))) },
        password: Part { said: password, otherwise: if open { Otherwise::Image(None) } else { Otherwise::Generated } },
        database: Part { said: said(service, names.database, &[]), otherwise: otherwise(Otherwise::AsUser) },
        root: NONE,
    }
}

fn mysql(kind: Kind, service: &ServiceSpec) -> Database<'_> {
    let names = kind.names();
    let user = said(service, names.user, &[]);
    let password = said(service, names.password, names.password_otherwise);
    let open = names.root_open.iter().any(|name| service.environment.get(*name).is_some_and(|value| !value.is_empty()));
    let root = said(service, names.root, names.root_otherwise).or(open.then_some(Said::Nothing));
    let (as_root, its_password) = match root {
        Some(Said::Given(password)) => (true, Some(password)),
        Some(Said::Nothing) => (true, None),
        Some(Said::Hidden) | None => (false, None),
    };
    let taken = user.is_some() || password.is_some() || as_root;
    let (name, word) = match user.is_none() && password.is_none() && as_root {
        true => (Otherwise::Image(Some(ROOT)), Otherwise::Image(its_password)),
        false => (Otherwise::Generated, Otherwise::Generated),
    };
    Database {
        kind,
        service,
        user: Part { said: user, otherwise: name },
        password: Part { said: password, otherwise: word },
        database: Part {
            said: said(service, names.database, &[]),
            otherwise: if taken { Otherwise::Image(None) } else { Otherwise::Generated },
        },
        root: Part { said: root, otherwise: Otherwise::Generated },
    }
}

fn mongo(service: &ServiceSpec, open: bool) -> Database<'_> {
    let kind = Kind::Mongo;
    let names = kind.names();
    let (user, password) = (said(service, names.user, &[]), said(service, names.password, &[]));
    let taken = user.is_some() || password.is_some();
    let otherwise = |image: bool| if image { Otherwise::Image(None) } else { Otherwise::Generated };
    Database {
        kind,
        service,
        user: Part { said: user, otherwise: otherwise(open && !taken) },
        password: Part { said: password, otherwise: otherwise(open && !taken) },
        database: Part { said: said(service, names.database, &[]), otherwise: otherwise(open || taken) },
        root: NONE,
    }
}

/// What the user said in one of `names`, in a file that one of them tells, or in one of `otherwise`.
fn said<'a>(service: &'a ServiceSpec, names: &[&str], otherwise: &[&str]) -> Option<Said<'a>> {
    let environment = &service.environment;
    let mut values = names.iter().filter_map(|name| environment.get(*name)).peekable();
    let hidden = otherwise.iter().any(|name| environment.contains_key(*name))
        || names.iter().any(|name| environment.contains_key(&format!("{name}_FILE")));
    match (values.peek().is_some(), values.find(|value| !value.is_empty())) {
        (_, Some(value)) => Some(Said::Given(value)),
        (_, None) if hidden => Some(Said::Hidden),
        (true, None) => Some(Said::Nothing),
        (false, None) => None,
    }
}
