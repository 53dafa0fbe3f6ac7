//! What an image is known to be, by its name.

use super::spec::{ServiceSpec, ServiceType};

/// A database or cache that Skep knows how to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `postgres`, and what is built upon it.
    Postgres,
    /// `mysql`.
    Mysql,
    /// `mariadb`.
    Mariadb,
    /// `mongo`.
    Mongo,
    /// `redis`.
    Redis,
    /// `valkey`.
    Valkey,
}

/// The last part of an image's name, what is in it, and whether it reads the variables of the official image.
const IMAGES: [(&str, Kind, bool); 14] = [
    ("mariadb", Kind::Mariadb, true),
    ("mongo", Kind::Mongo, true),
    ("mongodb", Kind::Mongo, false),
    ("mysql", Kind::Mysql, true),
    ("mysql-server", Kind::Mysql, true),
    ("percona", Kind::Mysql, true),
    ("percona-server", Kind::Mysql, true),
    ("pgvector", Kind::Postgres, true),
    ("postgis", Kind::Postgres, true),
    ("postgres", Kind::Postgres, true),
    ("postgresql", Kind::Postgres, false),
    ("redis", Kind::Redis, true),
    ("timescaledb", Kind::Postgres, true),
    ("valkey", Kind::Valkey, true),
];

/// Begins the name of a publisher whose images read variables of their own.
const OTHER_VARIABLES: &str = "bitnami";

impl Kind {
    /// What an image of this name is; [`None`]: nothing that is known.
    pub fn of_image(image: &str) -> Option<Self> {
        known(image).map(|(kind, _)| kind)
    }

    /// What a service is to others, if it can be told what its image makes of variables; [`None`] as well where the
    /// user says that it is for something else.
    pub fn of_service(service: &ServiceSpec) -> Option<Self> {
        let (kind, official) = known(&service.image)?;
        (official && service.kind == kind.service_type()).then_some(kind)
    }

    /// What such a service is for.
    pub fn service_type(self) -> ServiceType {
        match self {
            Self::Postgres | Self::Mysql | Self::Mariadb | Self::Mongo => ServiceType::Database,
            Self::Redis | Self::Valkey => ServiceType::Cache,
        }
    }

    /// The port it listens on unless told otherwise.
    pub fn port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::Mysql | Self::Mariadb => 3306,
            Self::Mongo => 27017,
            Self::Redis | Self::Valkey => 6379,
        }
    }

    /// The program that a cache's image starts.
    pub fn cache_server(self) -> Option<&'static str> {
        match self {
            Self::Redis => Some("redis-server"),
            Self::Valkey => Some("valkey-server"),
            Self::Postgres | Self::Mysql | Self::Mariadb | Self::Mongo => None,
        }
    }
}

fn known(image: &str) -> Option<(Kind, bool)> {
    let mut parts = image.split('/').rev();
    let name = parts.next()?.split([':', '@']).next()?;
    let (_, kind, official) = IMAGES.into_iter().find(|(known, ..)| *known == name)?;
    Some((kind, official && !parts.any(|part| part.starts_with(OTHER_VARIABLES))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_the_last_part_of_its_name() {
        let cases = [
            ("postgres", Some(Kind::Postgres)),
            ("postgres:17-alpine", Some(Kind::Postgres)),
            ("registry.example:5000/mirror/postgis@sha256:00", Some(Kind::Postgres)),
            ("timescale/timescaledb:latest-pg17", Some(Kind::Postgres)),
            ("mariadb:11", Some(Kind::Mariadb)),
            ("mysql/mysql-server", Some(Kind::Mysql)),
            ("mongo:8", Some(Kind::Mongo)),
            ("bitnami/mongodb", Some(Kind::Mongo)),
            ("redis:8-alpine", Some(Kind::Redis)),
            ("valkey/valkey:8", Some(Kind::Valkey)),
            ("mongo-express", None),
            ("prometheuscommunity/postgres-exporter", None),
            ("postgres/", None),
            ("shop:1.4", None),
            ("", None),
        ];
        for (image, kind) in cases {
            assert_eq!(Kind::of_image(image), kind, "{image}");
        }
    }

    #[test]
    fn a_service_is_of_a_kind_unless_its_image_reads_other_variables_or_the_user_says_no() {
        let of = |image, kind| Kind::of_service(&ServiceSpec { kind, ..ServiceSpec::of_image(image) });
        assert_eq!(of("postgres", ServiceType::Database), Some(Kind::Postgres));
        assert_eq!(of("postgres", ServiceType::Service), None);
        assert_eq!(of("postgresql", ServiceType::Database), None);
        for image in ["bitnami/redis", "docker.io/bitnamilegacy/valkey:8"] {
            assert_eq!(of(image, ServiceType::Cache), None, "{image}");
        }
    }
}
