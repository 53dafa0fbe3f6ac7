//! What is kept, for how long, and whose it is.

use super::*;

fn postgres() -> ServiceSpec {
    mounting("data", "/var/lib/postgresql/data", service("postgres"))
}

fn kept(
    services: &[(&str, ServiceSpec)],
    before: &BTreeMap<String, KeptCredentials>,
) -> BTreeMap<String, KeptCredentials> {
    let new = missing(&environment(services), before, &BTreeSet::new(), 18).unwrap();
    before.clone().into_iter().chain(new).collect()
}

fn rotated(record: &KeptCredentials) -> KeptCredentials {
    record.clone().changing(password().unwrap()).changed(99)
}

#[test]
fn credentials_are_generated_once_each_its_own() {
    let services = [("orders", postgres()), ("reports", service("postgres")), ("cache", service("redis"))];
    let first = kept(&services, &BTreeMap::new());
    assert_eq!(first.keys().collect::<Vec<_>>(), ["orders", "reports"]);
    assert_ne!(first["orders"].credentials, first["reports"].credentials);
    assert_eq!((first["orders"].version, first["orders"].made), (1, 18));
    assert_eq!(first["orders"].volume.as_deref(), Some("data"));
    assert_eq!(first["reports"].volume, None);
    assert_eq!(kept(&services, &first), first);
    let all: BTreeSet<String> = (0..100).map(|_| password().unwrap().expose().to_owned()).collect();
    assert_eq!(all.len(), 100);
    for word in all {
        assert!(
            word.len() == 32 && word.bytes().all(|octet| octet.is_ascii_digit() || octet.is_ascii_lowercase()),
            "{word}"
        );
    }
}

#[test]
fn a_volume_keeps_its_credentials_however_the_service_is_called() {
    let first = kept(&[("postgres", postgres())], &BTreeMap::new());
    let renamed = kept(&[("db", postgres())], &first);
    assert_eq!(renamed["db"], first["postgres"]);
    // A password that was changed meanwhile is the volume's as well.
    let changed: BTreeMap<_, _> =
        [("postgres".into(), first["postgres"].clone()), ("db".into(), rotated(&renamed["db"]))].into();
    assert_eq!(kept(&[("postgres", postgres())], &changed)["postgres"], changed["db"]);
    // A new volume is made with what the service had; the old one is opened by it still.
    let elsewhere = mounting("data2", "/var/lib/postgresql", service("postgres"));
    let moved = kept(&[("postgres", elsewhere)], &first);
    assert_eq!(moved["postgres"], KeptCredentials { volume: Some("data2".into()), ..first["postgres"].clone() });
}

#[test]
fn what_a_database_was_made_with_stays_when_its_variables_go() {
    let said = [("POSTGRES_PASSWORD", "theirs"), ("POSTGRES_DB", "shop")];
    let with_both = ServiceSpec { volumes: postgres().volumes, ..with("postgres", &said) };
    let before = environment(&[("postgres", with_both)]);
    let after = environment(&[("postgres", postgres())]);
    let made = records(&before)["postgres"].credentials.clone();
    let then = access(&before, "postgres", Some(&made)).unwrap();
    assert_eq!(access(&after, "postgres", Some(&made)), Some(then));
    let variables = variables(&after, &[("postgres".to_owned(), made)].into());
    assert_eq!(variables["postgres"]["POSTGRES_PASSWORD"].value.expose(), "theirs");
    assert!(!is_generated(&before, "postgres") && is_generated(&after, "postgres"));
    let others = [
        ("root", with("mysql", &[("MYSQL_ROOT_PASSWORD", "theirs")])),
        ("open", with("postgres", &[("POSTGRES_HOST_AUTH_METHOD", "trust")])),
        ("cache", service("redis")),
        ("web", service("shop")),
    ];
    let others = environment(&others);
    assert!(others.services.keys().all(|name| !is_generated(&others, name)));
}

#[test]
fn nothing_is_generated_for_data_that_are_older_than_their_record() {
    let all = environment(&[("mongo", service("mongo")), ("new", service("mongo"))]);
    let records = missing(&all, &BTreeMap::new(), &["mongo".to_owned()].into(), 17).unwrap();
    assert_eq!(records["mongo"].credentials, Credentials::default());
    assert!(records["new"].credentials.password.is_some());
    let variables = variables(&all, &credentials(&records));
    assert!(variables["mongo"].is_empty() && variables["new"].len() == 3);
}

#[test]
fn the_volume_is_the_one_with_the_data() {
    let of = |service: ServiceSpec| records(&environment(&[("db", service)]))["db"].volume.clone();
    assert_eq!(of(mounting("v", "/var/lib/postgresql", service("postgres:18"))).as_deref(), Some("v"));
    assert_eq!(of(mounting("v", "/var/lib/mysql/", service("mariadb"))).as_deref(), Some("v"));
    assert_eq!(of(mounting("v", "/var/lib", service("mysql"))).as_deref(), Some("v"));
    assert_eq!(of(mounting("v", "/data/configdb", service("mongo"))), None);
    let elsewhere = with("postgres", &[("PGDATA", "/pg/data")]);
    assert_eq!(of(mounting("v", "/pg", elsewhere)).as_deref(), Some("v"));
}
