//! Links, and what an image's name says, as files have them.

use super::*;
use crate::credentials::{missing, variables};
use crate::model::Kind;

#[test]
fn a_link_is_a_name_a_dependency_and_a_url() {
    let spec = spec(
        "
services:
  web:
    image: shop
    links: [\"Backend:api\", postgres]
    networks: [front, back]
  backend:
    image: shop
    x-skep: { port: 3000 }
    networks: { front: {}, back: { aliases: [engine] }, other: {} }
  postgres: { image: postgres, networks: [back] }
networks: { front: , back: , other: }
",
    );
    let web = &spec.services["web"];
    let links = [("api", "backend"), ("postgres", "postgres")].map(|(alias, to)| (alias.to_owned(), to.to_owned()));
    assert_eq!(web.links, links.into());
    let first = ["backend", "postgres"].map(|name| (name.to_owned(), DependsOn::ServiceStarted));
    assert_eq!(web.depends_on, first.into());
    let aliases = |network: &str| spec.services["backend"].networks[network].aliases.iter().map(String::as_str);
    assert_eq!(aliases("front").collect::<Vec<_>>(), ["api"]);
    assert_eq!(aliases("back").collect::<Vec<_>>(), ["api", "engine"]);
    assert_eq!(aliases("other").count(), 0, "nobody there asks for it");
    assert!(spec.services["postgres"].networks["back"].aliases.is_empty());

    let records = missing(&spec, &BTreeMap::new(), &[].into(), 0).unwrap();
    let made = records.into_iter().map(|(name, record)| (name, record.credentials)).collect();
    let told = &variables(&spec, &made)["web"];
    assert_eq!(told["API_URL"].value.expose(), "http://backend.internal:3000");
    assert_eq!(told["POSTGRES_URL"].value, told["DATABASE_URL"].value);
}

#[test]
fn a_dependency_that_says_more_than_a_link_stays() {
    let spec = spec(
        "
services:
  web: { image: i, links: [db], depends_on: { db: { condition: service_healthy } } }
  db: { image: i }
",
    );
    assert_eq!(spec.services["web"].depends_on["db"], DependsOn::ServiceHealthy);
}

#[test]
fn a_link_that_cannot_be_is_named_by_its_line() {
    let of = |links: &str| {
        let all = errors(&format!(
            "services:\n  web:\n    image: i\n    links: {links}\n  db: {{ image: i }}\n  far: {{ image: i, networks: [n] }}\nnetworks: {{ n: }}\n"
        ));
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    };
    for (links, error) in [
        ("[gone]", "4:13: services.web.links.gone: there is no service gone; "),
        ("[web]", "4:13: services.web.links.web: it is linked to itself; "),
        ("[far]", "4:13: services.web.links.far: it shares no network with far; "),
        ("[\"db:a.b\"]", "4:13: services.web.links: the name \"a.b\" contains '.'"),
        ("[\"db:x\", \"far:x\"]", "4:21: services.web.links: x is the name of a link to db and of one to far; "),
        ("[\"db:far\"]", "4:13: services.db.networks.default.aliases: the alias far is the name of a service; "),
        ("db", "4:12: services.web.links: is a single value; write a list"),
    ] {
        assert!(of(links).starts_with(error), "{links}: {}", of(links));
    }
    let round = errors("services:\n  a: { image: i, links: [b] }\n  b: { image: i, links: [a] }\n");
    assert!(matches!(&round[..], [one] if one.contains("services wait for each other: ")), "{round:?}");
}

#[test]
fn a_cache_is_asked_for_a_password() {
    let spec = spec(
        "services:\n  cache: { image: \"valkey/valkey\", x-skep: { password: true } }\n  other: { image: redis }\n",
    );
    assert!(spec.services["cache"].password && !spec.services["other"].password);
    let error = service_error("    x-skep: { password: true }");
    assert!(error.starts_with("4:15: services.a.x-skep.password: it is for caches"), "{error}");
}

#[test]
fn what_an_image_is_known_to_be_is_what_the_service_is_for() {
    let of = |image: &str| spec(&format!("services: {{ a: {{ image: {image} }} }}")).services["a"].clone();
    for (image, kind) in [
        ("postgis/postgis:17-3.5", ServiceType::Database),
        ("bitnami/mongodb", ServiceType::Database),
        ("valkey/valkey", ServiceType::Cache),
        ("shop", ServiceType::Service),
    ] {
        assert_eq!(of(image).kind, kind, "{image}");
    }
    assert_eq!(Kind::of_service(&of("mariadb")), Some(Kind::Mariadb));
}
