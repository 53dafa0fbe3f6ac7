//! What a database is given, and what its clients are told of it.

use super::*;

/// An image, what the user says to it, what it is given, and its URL.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str], Option<&'static str>);

/// What an only database of this image gets, and the URL that a service beside it gets.
fn database(image: &str, variables: &[(&str, &str)]) -> (Vec<String>, Option<String>) {
    let both = environment(&[("db", with(image, variables)), ("web", service("shop"))]);
    let short = Kind::of_image(image).unwrap().variable();
    let url =
        shown(&both, "web").into_iter().find_map(|line| Some(line.strip_prefix(short)?.strip_prefix('=')?.to_owned()));
    (shown(&both, "db"), url)
}

#[test]
fn what_nobody_said_is_generated_in_the_variables_that_the_image_reads() {
    let cases: [(&str, &[&str], &str); 6] = [
        (
            "postgres:17",
            &["POSTGRES_DB=app", "POSTGRES_PASSWORD=PASSWORD", "POSTGRES_USER=USER"],
            "postgresql://USER:PASSWORD@db.internal:5432/app",
        ),
        (
            "mysql:8",
            &["MYSQL_DATABASE=app", "MYSQL_PASSWORD=PASSWORD", "MYSQL_ROOT_PASSWORD=ROOT", "MYSQL_USER=USER"],
            "mysql://USER:PASSWORD@db.internal:3306/app",
        ),
        (
            "mariadb:11",
            &["MARIADB_DATABASE=app", "MARIADB_PASSWORD=PASSWORD", "MARIADB_ROOT_PASSWORD=ROOT", "MARIADB_USER=USER"],
            "mysql://USER:PASSWORD@db.internal:3306/app",
        ),
        (
            "mongo:8",
            &["MONGO_INITDB_DATABASE=app", "MONGO_INITDB_ROOT_PASSWORD=PASSWORD", "MONGO_INITDB_ROOT_USERNAME=USER"],
            "mongodb://USER:PASSWORD@db.internal:27017/app?authSource=admin",
        ),
        ("redis:8", &[], "redis://db.internal:6379"),
        ("valkey/valkey:8", &[], "redis://db.internal:6379"),
    ];
    for (image, variables, url) in cases {
        assert_eq!(database(image, &[]), (variables.iter().map(ToString::to_string).collect(), Some(url.into())));
    }
}

#[test]
fn what_the_user_said_holds_and_the_rest_is_as_the_image_has_it() {
    let cases: [Case; 17] = [
        (
            "postgres",
            &[("POSTGRES_PASSWORD", "p@ss")],
            &["POSTGRES_DB=postgres", "POSTGRES_USER=postgres"],
            Some("postgresql://postgres:p%40ss@db.internal:5432/postgres"),
        ),
        (
            "postgres",
            &[("POSTGRES_USER", "shop")],
            &["POSTGRES_DB=shop", "POSTGRES_PASSWORD=PASSWORD"],
            Some("postgresql://shop:PASSWORD@db.internal:5432/shop"),
        ),
        (
            "postgres",
            &[("POSTGRES_DB", "shop")],
            &["POSTGRES_PASSWORD=PASSWORD", "POSTGRES_USER=USER"],
            Some("postgresql://USER:PASSWORD@db.internal:5432/shop"),
        ),
        (
            "postgres",
            &[("POSTGRES_USER", "u"), ("POSTGRES_PASSWORD", "p"), ("POSTGRES_DB", "d")],
            &[],
            Some("postgresql://u:p@db.internal:5432/d"),
        ),
        (
            "postgres",
            &[("POSTGRES_PASSWORD", "p"), ("POSTGRES_USER", "")],
            &["POSTGRES_DB=postgres"],
            Some("postgresql://postgres:p@db.internal:5432/postgres"),
        ),
        ("postgres", &[("POSTGRES_PASSWORD_FILE", "/f")], &["POSTGRES_DB=postgres", "POSTGRES_USER=postgres"], None),
        (
            "postgres",
            &[("POSTGRES_HOST_AUTH_METHOD", "trust")],
            &["POSTGRES_DB=postgres", "POSTGRES_USER=postgres"],
            Some("postgresql://postgres@db.internal:5432/postgres"),
        ),
        (
            "mysql",
            &[("MYSQL_ROOT_PASSWORD", "p"), ("MYSQL_DATABASE", "d")],
            &[],
            Some("mysql://root:p@db.internal:3306/d"),
        ),
        (
            "mysql",
            &[("MYSQL_USER", "u"), ("MYSQL_PASSWORD", "p")],
            &["MYSQL_ROOT_PASSWORD=ROOT"],
            Some("mysql://u:p@db.internal:3306"),
        ),
        ("mysql", &[("MYSQL_ALLOW_EMPTY_PASSWORD", "yes")], &[], Some("mysql://root@db.internal:3306")),
        (
            "mysql",
            &[("MYSQL_RANDOM_ROOT_PASSWORD", "yes")],
            &["MYSQL_DATABASE=app", "MYSQL_PASSWORD=PASSWORD", "MYSQL_USER=USER"],
            Some("mysql://USER:PASSWORD@db.internal:3306/app"),
        ),
        (
            "mariadb",
            &[("MYSQL_USER", "u"), ("MARIADB_PASSWORD", "p"), ("MYSQL_DATABASE", "d")],
            &["MARIADB_ROOT_PASSWORD=ROOT"],
            Some("mysql://u:p@db.internal:3306/d"),
        ),
        (
            "mariadb",
            &[("MARIADB_USER", "u"), ("MARIADB_PASSWORD_HASH", "*00"), ("MARIADB_ROOT_PASSWORD_HASH", "*00")],
            &[],
            None,
        ),
        (
            "mongo",
            &[("MONGO_INITDB_ROOT_USERNAME", "u"), ("MONGO_INITDB_ROOT_PASSWORD", "p")],
            &[],
            Some("mongodb://u:p@db.internal:27017/?authSource=admin"),
        ),
        (
            "mongo",
            &[("MONGO_INITDB_DATABASE", "d")],
            &["MONGO_INITDB_ROOT_PASSWORD=PASSWORD", "MONGO_INITDB_ROOT_USERNAME=USER"],
            Some("mongodb://USER:PASSWORD@db.internal:27017/d?authSource=admin"),
        ),
        ("bitnami/postgresql", &[("POSTGRESQL_PASSWORD", "p")], &[], None),
        ("bitnami/redis", &[("REDIS_PASSWORD", "p")], &[], None),
    ];
    for (image, said, given, url) in cases {
        let expected = (given.iter().map(ToString::to_string).collect(), url.map(str::to_owned));
        assert_eq!(database(image, said), expected, "{image} {said:?}");
    }
}

#[test]
fn a_cache_has_a_password_if_its_command_says_one_or_one_is_asked_for() {
    let url = |redis: ServiceSpec| shown(&environment(&[("cache", redis), ("web", service("shop"))]), "web");
    let started = |words: &[&str]| {
        let command = Some(words.iter().map(|word| (*word).to_owned()).collect());
        ServiceSpec { command, ..with("redis", &[("PASS", "s3")]) }
    };
    let expected = |url: &str| vec![format!("CACHE_REDIS_URL={url}"), format!("REDIS_URL={url}")];
    assert_eq!(
        url(started(&["redis-server", "--requirepass", "p"])),
        expected("redis://default:p@cache.internal:6379")
    );
    let shell = ["sh", "-c", "redis-server --requirepass $PASS"];
    assert_eq!(url(started(&shell)), expected("redis://default:s3@cache.internal:6379"));
    assert_eq!(url(started(&["sh", "-c", "redis-server --requirepass $(f)"])), Vec::<String>::new());

    let asked = ServiceSpec { password: true, ..service("redis") };
    let both = environment(&[("cache", asked.clone()), ("web", service("shop"))]);
    assert_eq!(shown(&both, "cache"), ["REDISCLI_AUTH=PASSWORD", "SKEP_CACHE_CONFIG=requirepass \"PASSWORD\""]);
    assert_eq!(url(asked.clone()), expected("redis://default:PASSWORD@cache.internal:6379"));
    assert!(command_of(&both, "cache").is_some());
    let no_longer = environment(&[("cache", service("redis")), ("web", service("shop"))]);
    let told = variables(&no_longer, &credentials(&records(&both)));
    assert_eq!(told["web"]["REDIS_URL"].value.expose(), "redis://cache.internal:6379", "it is told at each start");
    assert!(told["cache"].is_empty() && command_of(&no_longer, "cache").is_none());
}

fn command_of(environment: &EnvironmentSpec, name: &str) -> Option<Vec<String>> {
    command(&environment.services[name])
}

#[test]
fn a_mongo_has_no_password_where_it_would_not_start_with_one_or_is_addressed_without() {
    let plain = || vec!["MONGODB_URL=mongodb://mongo.internal:27017".to_owned()];
    let short =
        |lines: Vec<String>| lines.into_iter().filter(|line| line.starts_with("MONGODB_URL")).collect::<Vec<_>>();
    let replica_set = ServiceSpec { command: Some(vec!["--replSet".into(), "rs0".into()]), ..service("mongo") };
    let set = environment(&[("mongo", replica_set), ("web", service("shop"))]);
    assert_eq!((shown(&set, "mongo"), short(shown(&set, "web"))), (vec![], plain()));

    let old = with("shop", &[("MONGO", "mongodb://mongo:27017/shop")]);
    let addressed = environment(&[("mongo", service("mongo")), ("old", old), ("web", service("shop"))]);
    assert_eq!((shown(&addressed, "mongo"), short(shown(&addressed, "web"))), (vec![], plain()));

    // What it was made with stays, whoever says what later.
    let closed = environment(&[("mongo", service("mongo")), ("web", service("shop"))]);
    for (before, after) in [(&closed, &addressed), (&addressed, &closed)] {
        let made = credentials(&records(before));
        assert_eq!(variables(before, &made)["mongo"], variables(after, &made)["mongo"]);
    }
}

#[test]
fn a_port_that_is_not_the_usual_one_is_in_the_url() {
    let odd = ServiceSpec { port: Some(5433), ..service("postgres") };
    let both = environment(&[("db", odd), ("web", service("shop"))]);
    assert_eq!(shown(&both, "web")[0], "DATABASE_URL=postgresql://USER:PASSWORD@db.internal:5433/app");
}
