//! What services are told of databases, of each other, and of themselves.

use super::*;

fn names(lines: &[String]) -> Vec<&str> {
    lines.iter().filter_map(|line| line.split('=').next()).collect()
}

#[test]
fn a_variable_that_the_user_set_is_never_written_over() {
    let set = [("DATABASE_URL", "mine"), ("REDIS_URL", ""), ("PORT", "1"), ("API_URL", "mine")];
    let web = ServiceSpec { port: Some(8080), ..linked(&[("api", "backend")], with("shop", &set)) };
    let backend = ServiceSpec { port: Some(3000), ..service("backend") };
    let all = [("postgres", service("postgres")), ("redis", service("redis")), ("backend", backend), ("web", web)];
    let lines = shown(&environment(&all), "web");
    assert_eq!(names(&lines), ["POSTGRES_DATABASE_URL", "REDIS_REDIS_URL"]);
}

#[test]
fn only_services_that_share_a_network_and_use_databases_are_told() {
    let all = environment(&[
        ("postgres", within(&["back"], service("postgres"))),
        ("cache", within(&["front", "back"], service("redis"))),
        ("api", within(&["front", "back"], service("api"))),
        ("web", within(&["front"], service("web"))),
    ]);
    assert_eq!(names(&shown(&all, "api")), ["CACHE_REDIS_URL", "DATABASE_URL", "POSTGRES_DATABASE_URL", "REDIS_URL"]);
    assert_eq!(names(&shown(&all, "web")), ["CACHE_REDIS_URL", "REDIS_URL"]);
    assert!(shown(&all, "cache").is_empty());
    assert!(shown(&all, "postgres").iter().all(|line| line.starts_with("POSTGRES_")));
}

#[test]
fn the_short_name_is_of_what_is_named_like_it_else_of_the_first() {
    let holder = |databases: &[(&str, &str)]| {
        let databases = databases.iter().map(|(name, image)| (*name, service(image)));
        let all = environment(&databases.chain([("web", service("shop"))]).collect::<Vec<_>>());
        let lines = shown(&all, "web");
        let url =
            lines.iter().find(|line| line.starts_with("DATABASE_URL=") || line.starts_with("MYSQL_URL=")).unwrap();
        let names = names(&lines).into_iter().filter(|name| name.contains("_DATABASE_") || name.contains("_MYSQL_"));
        (url.rsplit('@').next().unwrap().split('.').next().unwrap().to_owned(), names.count())
    };
    assert_eq!(holder(&[("orders", "postgres"), ("reports", "postgres")]), ("orders".into(), 2));
    assert_eq!(holder(&[("orders", "postgres"), ("postgres", "postgres")]), ("postgres".into(), 2));
    assert_eq!(holder(&[("archive", "mariadb"), ("mysql", "mariadb")]), ("mysql".into(), 2));
    assert_eq!(holder(&[("mysql", "mysql"), ("mariadb", "mariadb")]), ("mariadb".into(), 2));
    // A database of another kind takes nobody's name.
    assert_eq!(holder(&[("postgres", "mariadb"), ("store", "mariadb")]), ("postgres".into(), 2));

    let hidden = with("postgres", &[("POSTGRES_PASSWORD_FILE", "/f")]);
    let all = [("postgres", hidden), ("reports", service("postgres")), ("web", service("shop"))];
    let lines = shown(&environment(&all), "web");
    assert_eq!(names(&lines), ["REPORTS_DATABASE_URL"], "nobody takes the name of one whose URL is not known");
}

#[test]
fn a_port_is_told_and_links_name_their_target() {
    let backend = ServiceSpec { port: Some(3000), ..service("backend") };
    let links = [("api", "backend"), ("my-backend", "backend"), ("2nd", "told"), ("dumb", "dumb"), ("db", "postgres")];
    let web = linked(&links, ServiceSpec { port: Some(8080), ..service("web") });
    let all = environment(&[
        ("backend", backend),
        ("told", with("told", &[("PORT", "4000")])),
        ("dumb", service("dumb")),
        ("postgres", service("postgres")),
        ("web", web),
    ]);
    let lines = shown(&all, "web");
    for line in [
        "API_URL=http://backend.internal:3000",
        "MY_BACKEND_URL=http://backend.internal:3000",
        "_2ND_URL=http://told.internal:4000",
        "DB_URL=postgresql://USER:PASSWORD@postgres.internal:5432/app",
        "PORT=8080",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line}: {lines:?}");
    }
    assert!(!names(&lines).contains(&"DUMB_URL"), "nobody said where it listens");
    assert!(shown(&all, "backend").contains(&"PORT=3000".to_owned()));
}

#[test]
fn a_link_is_more_explicit_than_a_network() {
    let backend = ServiceSpec { port: Some(3000), ..service("backend") };
    let web = linked(&[("database", "backend")], service("web"));
    let all = environment(&[("backend", backend), ("postgres", service("postgres")), ("web", web)]);
    let lines = shown(&all, "web");
    assert!(lines.contains(&"DATABASE_URL=http://backend.internal:3000".to_owned()), "{lines:?}");
}

#[test]
fn what_comes_from_where_can_be_told_without_telling_what() {
    let backend = ServiceSpec { port: Some(3000), ..service("backend") };
    let all = environment(&[
        ("backend", backend),
        ("postgres", service("postgres")),
        ("web", linked(&[("api", "backend")], service("web"))),
    ]);
    let made = credentials(&records(&all));
    let all = variables(&all, &made);
    let origin = |service: &str, variable: &str| all[service][variable].origin.to_string();
    assert_eq!(origin("postgres", "POSTGRES_PASSWORD"), "generated");
    assert_eq!(origin("web", "DATABASE_URL"), "URL of postgres");
    assert_eq!(origin("web", "API_URL"), "link to backend");
    assert_eq!(origin("backend", "PORT"), "x-skep.port");
    let shown = format!("{all:?}");
    assert!(!shown.contains(made["postgres"].password.as_ref().unwrap().expose()), "{shown}");
}

#[test]
fn what_is_not_generated_yet_is_left_out() {
    let all = environment(&[("postgres", service("postgres")), ("redis", service("redis")), ("web", service("shop"))]);
    let variables = variables(&all, &BTreeMap::new());
    assert!(variables["postgres"].is_empty());
    assert_eq!(variables["web"].keys().collect::<Vec<_>>(), ["REDIS_REDIS_URL", "REDIS_URL"]);
}
