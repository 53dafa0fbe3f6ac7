//! What files that people publish have taught, each rule by itself.

use super::*;

#[test]
fn a_service_that_is_only_built_has_the_image_that_compose_calls_so() {
    let text = "name: My_Shop\nservices:\n  web:\n    build: .\n  pulled:\n    build: .\n    pull_policy: always\n  both:\n    \
                build: .\n    image: i\n  kept: {image: i, pull_policy: build}\n";
    let dir = directory(&[("compose.yaml", text)]);
    let options = Options { project: None, ..options(&dir, &|_| None) };
    let Manifest { spec, notes, .. } = load(&options).unwrap();
    let said = |name: &str| (spec.services[name].image.as_str(), spec.services[name].pull);
    assert_eq!(said("web"), ("my_shop-web", PullPolicy::Never));
    assert_eq!(said("pulled"), ("my_shop-pulled", PullPolicy::Always));
    assert_eq!(said("both"), ("i", PullPolicy::Missing));
    assert_eq!(said("kept"), ("i", PullPolicy::Never));
    let notes = lines(&dir, &notes);
    let expected =
        "4:5: services.web: it has no image: my_shop-web has to be there, as docker compose build calls it; name";
    assert!(notes.iter().any(|note| note.starts_with(expected)), "{notes:#?}");
    assert!(notes.iter().any(|note| note.contains("nothing is built here, and no registry is asked")), "{notes:#?}");
}

#[test]
fn a_directory_may_have_a_name_that_no_project_can_have() {
    let parent = directory(&[
        ("Example.com/compose.yaml", "services: {a: {image: i}}"),
        ("…/compose.yaml", "services: {a: {image: i}}"),
    ]);
    let load = |name: &str| {
        let files = vec![parent.path().join(name).join("compose.yaml")];
        load(&Options { files, project: None, ..options(&parent, &|_| None) })
    };
    assert_eq!(load("Example.com").unwrap().spec.key.project, "examplecom");
    let error = load("…").unwrap_err().to_string();
    assert!(error.contains("contains '…'") && error.contains("with -p"), "{error}");
}

#[test]
fn what_a_container_would_be_called_is_a_name_of_its_service() {
    let text = "services:\n  db: {image: i, container_name: shop-db, networks: [a, b]}\n  web: {image: i, container_name: db}\n  \
                odd: {image: i, container_name: web.shop}\n  same: {image: i, container_name: shop-db}\n  \
                own: {image: i, container_name: own}\nnetworks: {a: , b: }\n";
    let dir = directory(&[("compose.yaml", text)]);
    let Manifest { spec, notes, .. } = load_in(&dir, &[]).unwrap();
    let aliases = |name: &str| -> Vec<String> {
        spec.services[name].networks.values().flat_map(|network| network.aliases.clone()).collect()
    };
    assert_eq!(aliases("db"), ["shop-db", "shop-db"]);
    assert!(["web", "odd", "same", "own"].iter().all(|name| aliases(name).is_empty()));
    let notes = lines(&dir, &notes);
    let expected = [
        "3:35: services.web.container_name: has no effect: db is a name of service db",
        "4:35: services.odd.container_name: has no effect: \"web.shop\" is no name in a network",
        "5:36: services.same.container_name: has no effect: shop-db is a name of service db",
    ];
    assert_eq!(notes, expected);
}

#[test]
fn a_volume_without_a_name_is_not_kept_and_that_is_said() {
    let text = "services:\n  a: {image: i, volumes: [/cache, {type: volume, target: /more}]}\n  \
                b: {image: i, read_only: true, volumes: [/cache]}\n";
    let dir = directory(&[("compose.yaml", text)]);
    let Manifest { spec, notes, .. } = load_in(&dir, &[]).unwrap();
    assert!(spec.services["a"].volumes.is_empty() && spec.services["a"].settings.tmpfs.is_empty());
    assert_eq!(spec.services["b"].settings.tmpfs.keys().collect::<Vec<_>>(), ["/cache"]);
    let notes = lines(&dir, &notes);
    let keep = "for data, mount a named volume: cache:/cache, with volumes: { cache: } at the top";
    assert_eq!(notes.len(), 3, "{notes:#?}");
    assert!(
        notes[0].starts_with("2:27: services.a.volumes: what is written to /cache stays in its container, and ends")
    );
    assert!(notes[0].ends_with(keep) && notes[1].contains("/more stays in its container"), "{notes:#?}");
    assert!(notes[2].contains("/cache is kept in memory") && notes[2].ends_with(keep), "{notes:#?}");
}

#[test]
fn what_is_nothing_by_its_variable_asks_for_nothing() {
    let text = "services: {a: {image: i, platform: '${P:-}', privileged: '${Q:-false}', tty: '${P-}'}}";
    assert!(load_text(text).unwrap().notes.is_empty());
    let text = "services: {a: {image: i, privileged: '${Q:-true}'}}";
    assert!(errors(text)[0].contains("would void the isolation"));
}

#[test]
fn one_line_that_makes_several_services_is_said_once() {
    let text = "x-all: &all\n  image: i\n  ports: [1]\n  pid: host\nservices:\n  a: *all\n  b: *all\n  c: {<<: *all, pid: host}\n";
    let errors = errors(text);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with("4:3: services.a.pid (and 1 more): shows"), "{errors:?}");
    assert!(errors[1].starts_with("8:17: services.c.pid: shows"), "{errors:?}");
}

#[test]
fn variables_that_nobody_sets_are_one_note() {
    let text =
        "services:\n  a:\n    image: i\n    environment:\n      - A\n      - B=1\n      - B\n      - C\n      - A=2\n";
    let dir = directory(&[("compose.yaml", text)]);
    let Manifest { spec, notes, .. } = load_in(&dir, &[]).unwrap();
    assert_eq!(
        spec.services["a"].environment,
        BTreeMap::from([("A", "2"), ("B", "1")].map(|(k, v)| (k.into(), v.into())))
    );
    let notes = lines(&dir, &notes);
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].starts_with("5:9: services.a.environment: A, B, C are left out: they have no value"), "{notes:?}");
}
